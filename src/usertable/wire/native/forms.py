"""The bodies that the native API accepts."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import tzinfo
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from usertable.domain.errors import Problem, ProblemKind, Refused, other_value, refusal
from usertable.domain.identity import MAX_VALUE_CHARACTERS, is_identifier_value
from usertable.domain.key import MAX_OVERLAP_SECONDS
from usertable.domain.moments import expected_moment, parse_moment
from usertable.domain.permissions import Scope
from usertable.domain.person import MIN_PASSWORD
from usertable.domain.schema import DEFAULT_TIMEZONE, PRESET_IDENTIFIERS, Attribute, Identifier, Rule, Schema
from usertable.domain.values import LIST_ELEMENT_BYTES, LIST_ELEMENTS, DataType, Limits
from usertable.wire.native.members import (
    MAX_REGISTERED,
    Cuid,
    ElementBytes,
    Elements,
    Email,
    HistoryDays,
    HistoryGigabytes,
    HistoryReports,
    IdentifierName,
    IdentifierValue,
    KeyName,
    KeyScope,
    Label,
    Name,
    PersonName,
    ProjectId,
    ProjectName,
    ProjectRole,
    Qps,
    Secret,
    Text,
    TimeZone,
)

USUAL_SCOPES = (Scope.WRITE, Scope.REGISTER)
"""The scopes of a key if none are named: those that a service needs to report values."""
_DAY_CHARACTERS = 10
_LAST_YEAR = 253_370_764_800_000
"""9999-01-01 in ms since 1970 UTC. The very last moments have no date in every time zone, so they could not be shown."""


class NewProject(msgspec.Struct, forbid_unknown_fields=True):
    """A project to create. Omitted members are generated or have their default."""

    name: ProjectName
    id: Annotated[ProjectId, Meta(description="Default: six generated digits.")] | UnsetType = UNSET
    secret: Annotated[Secret, Meta(description="Generated if omitted.")] | UnsetType = UNSET
    timezone: TimeZone = DEFAULT_TIMEZONE
    qps: Qps = 100


class ProjectEdit(msgspec.Struct, forbid_unknown_fields=True):
    """The settings to change. Omitted members stay unchanged."""

    name: ProjectName | UnsetType = UNSET
    timezone: TimeZone | UnsetType = UNSET
    qps: Qps | UnsetType = UNSET


class SecretRotation(msgspec.Struct, forbid_unknown_fields=True):
    """How to replace the secret of the key `default`."""

    secret: Annotated[Secret, Meta(description="Generated if omitted.")] | UnsetType = UNSET
    overlap_seconds: Annotated[
        int,
        Meta(
            extra_json_schema={"minimum": 0, "maximum": MAX_OVERLAP_SECONDS},
            description="Seconds for which the previous secret keeps working.",
        ),
    ] = 0


class NewKey(msgspec.Struct, forbid_unknown_fields=True):
    """A key to create."""

    name: Annotated[KeyName, Meta(description="Can never be reused in the project.", examples=["billing"])]
    scopes: Annotated[
        list[KeyScope],
        Meta(
            description="What the key may do. Default: `write` and `register`.",
            extra_json_schema={"minItems": 1},
            examples=[["write", "register"]],
        ),
    ] = msgspec.field(default_factory=lambda: [str(scope) for scope in USUAL_SCOPES])
    expires_at: (
        Annotated[
            str,
            Meta(
                description="When it stops working: RFC 3339, or a date, which means its start in the project's time zone."
                " Omitted or null: never.",
                examples=["2027-01-31T00:00:00Z"],
            ),
        ]
        | None
    ) = None
    secret: (
        Annotated[Secret, Meta(description="A secret that the callers already have. Generated if omitted.")] | UnsetType
    ) = UNSET

    def expiry(self, zone: tzinfo) -> int | None:
        """Return when it stops working, in ms since 1970 UTC; None for never. Raises Refused."""
        if self.expires_at is None:
            return None
        text = f"{self.expires_at} 00:00:00" if len(self.expires_at) == _DAY_CHARACTERS else self.expires_at
        moment = parse_moment("expires_at", text, zone)
        if isinstance(moment, Problem) or moment.ms >= _LAST_YEAR:
            expected = other_value(expected_moment(self.expires_at), self.expires_at)
            raise refusal(ProblemKind.PARAMETER, name="expires_at", expected=expected)
        return moment.ms


class Revocation(msgspec.Struct, forbid_unknown_fields=True):
    """How to revoke a key."""

    confirm: Annotated[bool, Meta(description="Revoke even the last key with the scope `keys`.")] = False


class NewPerson(msgspec.Struct, forbid_unknown_fields=True):
    """A person to add, who can sign in to the console with a password."""

    email: Email
    name: PersonName = ""
    admin: Annotated[bool, Meta(description="Has all permissions in every project.")] = False
    roles: Annotated[dict[str, ProjectRole], Meta(description="Role by project ID.", examples=[{"100102": "editor"}])] = {}
    password: (
        Annotated[
            str,
            Meta(
                extra_json_schema={"minLength": MIN_PASSWORD},
                description="If omitted, the person sets a password with a link.",
            ),
        ]
        | UnsetType
    ) = UNSET


class PersonEdit(msgspec.Struct, forbid_unknown_fields=True):
    """What to change about a person. Omitted members stay unchanged."""

    name: PersonName | UnsetType = UNSET
    admin: bool | UnsetType = UNSET
    disabled: Annotated[bool, Meta(description="Signs the person out everywhere, and rejects sign-ins.")] | UnsetType = UNSET
    roles: (
        Annotated[
            dict[str, ProjectRole | None],
            Meta(description="Roles to change, by project ID; null removes one.", examples=[{"100102": None}]),
        ]
        | UnsetType
    ) = UNSET


class NewAttribute(msgspec.Struct, forbid_unknown_fields=True):
    """An attribute to declare. The limits are for a LIST only; if omitted, they are 1000 and 512."""

    name: Name
    type: DataType
    rule: Rule
    display_name: Label = ""
    description: Text = ""
    hidden: bool = False
    max_elements: Elements | UnsetType = UNSET
    max_element_bytes: ElementBytes | UnsetType = UNSET
    history: (
        Annotated[bool, Meta(description="Whether the history of users has its changes. Omitted: it has.")] | UnsetType
    ) = UNSET

    def attribute(self) -> Attribute:
        """Return the attribute, not validated yet."""
        limits = Limits(
            LIST_ELEMENTS if self.max_elements is UNSET else self.max_elements,
            LIST_ELEMENT_BYTES if self.max_element_bytes is UNSET else self.max_element_bytes,
        )
        history_since = None if self.history is False else 0
        return Attribute(
            *(self.name, self.type, self.rule, self.display_name, self.description, self.hidden, limits, history_since)
        )


class AttributeEdit(msgspec.Struct, forbid_unknown_fields=True):
    """What to change about an attribute. Omitted members stay unchanged. Name, type and rule never change."""

    display_name: Label | UnsetType = UNSET
    description: Text | UnsetType = UNSET
    hidden: bool | UnsetType = UNSET
    history: (
        Annotated[
            bool,
            Meta(
                description="Whether the history of users has its changes. `false` keeps what is recorded; after `true`, its"
                " values are known from then on."
            ),
        ]
        | UnsetType
    ) = UNSET


class HistoryEdit(msgspec.Struct, forbid_unknown_fields=True):
    """What to change about a project's history. Omitted members stay unchanged."""

    days: HistoryDays | UnsetType = UNSET
    gigabytes: HistoryGigabytes | UnsetType = UNSET
    reports: HistoryReports | UnsetType = UNSET


class HistoryPruning(msgspec.Struct, forbid_unknown_fields=True):
    """Which history to remove."""

    before: Annotated[
        str,
        Meta(
            description="Changes before this moment: a date, or a date and time; in the project's time zone without an"
            " offset.",
            examples=["2026-11-01"],
        ),
    ]


class NewIdentifier(msgspec.Struct, forbid_unknown_fields=True):
    """An identifier to declare."""

    name: Name
    display_name: Label = ""
    unique: bool = True
    masked: bool = False

    def identifier(self) -> Identifier:
        """Return the identifier, not validated yet."""
        return Identifier(self.name, self.display_name, self.unique, self.masked)


class IdentifierEdit(msgspec.Struct, forbid_unknown_fields=True):
    """What to change about an identifier. Omitted members stay unchanged. Name and uniqueness never change."""

    display_name: Label | UnsetType = UNSET
    masked: bool | UnsetType = UNSET


class IdentifierOrder(msgspec.Struct, forbid_unknown_fields=True):
    """Every identifier's name once, including the presets. The first gets priority 1."""

    names: Annotated[
        list[IdentifierName], Meta(extra_json_schema={"minItems": len(PRESET_IDENTIFIERS), "uniqueItems": True})
    ]


class SchemaIdentifier(NewIdentifier, forbid_unknown_fields=True):
    """An identifier of a schema: one of the project's own, or a preset."""

    name: IdentifierName


class SchemaForm(msgspec.Struct, forbid_unknown_fields=True):
    """A whole schema. Attributes are in order of declaration, identifiers by priority. Presets may be omitted."""

    attributes: list[NewAttribute]
    identifiers: list[SchemaIdentifier]

    def schema(self) -> Schema:
        """Return the schema. Everything in it may be declared, except that there may be too many attributes.

        Raises:
            Refused: a name is repeated, or something may not be declared; with all such problems.
        """
        problems: list[Problem] = []
        presets = {i.name for i in PRESET_IDENTIFIERS}
        attributes: dict[str, Attribute] = {}
        identifiers: dict[str, Identifier] = {}
        for attribute in (form.attribute() for form in self.attributes):
            try:
                if attribute.name in attributes:
                    raise refusal(ProblemKind.NAME_TAKEN, attribute.name)
                Schema().declare(attribute)
            except Refused as refused:
                problems += refused.problems
            attributes[attribute.name] = attribute
        for identifier in (form.identifier() for form in self.identifiers):
            try:
                if identifier.name in identifiers:
                    raise refusal(ProblemKind.NAME_TAKEN, identifier.name)
                if identifier.name in presets:
                    Schema().edit_identifier(identifier.name, display_name=identifier.display_name)
                else:
                    Schema().declare_identifier(identifier)
            except Refused as refused:
                problems += refused.problems
            identifiers[identifier.name] = identifier
        if problems:
            raise Refused(problems)
        left_out = [preset for preset in PRESET_IDENTIFIERS if preset.name not in identifiers]
        return Schema(attributes, (*identifiers.values(), *left_out))


def schema_form(schema: Schema) -> SchemaForm:
    """Return a schema in the form that the API shows and accepts."""
    attributes = []
    for a in schema.attributes.values():
        form = NewAttribute(a.name, a.type, a.rule, a.display_name, a.description, a.hidden)
        if a.type is DataType.LIST:
            form.max_elements, form.max_element_bytes = a.limits.elements, a.limits.element_bytes
        if a.history_since is None:
            form.history = False
        attributes.append(form)
    identifiers = [SchemaIdentifier(i.name, i.display_name, i.unique, i.masked) for i in schema.identifiers]
    return SchemaForm(attributes, identifiers)


def check_identifier_values(name: str, values: Iterable[str]) -> None:
    """Raise ValueError if one of the values cannot be an identifier value."""
    if not all(map(is_identifier_value, values)):
        raise ValueError(f"a value of 1 to {MAX_VALUE_CHARACTERS} characters for {name}")


class NewUser(msgspec.Struct, forbid_unknown_fields=True):
    """A user to import with its own CUID, and one value per identifier."""

    cuid: Cuid
    identifiers: dict[str, IdentifierValue] = {}

    def __post_init__(self) -> None:
        for name, value in self.identifiers.items():
            check_identifier_values(name, [value])


class Registration(msgspec.Struct, forbid_unknown_fields=True):
    """Values of an identifier, to be exchanged for CUIDs."""

    identifier: Annotated[IdentifierName, Meta(examples=["phone"])]
    values: Annotated[list[IdentifierValue], Meta(min_length=1, max_length=MAX_REGISTERED)]

    def __post_init__(self) -> None:
        check_identifier_values(self.identifier, self.values)


def changes(edit: msgspec.Struct) -> dict[str, Any]:
    """Return the members of an edit that were sent."""
    return {name: value for name, value in msgspec.structs.asdict(edit).items() if value is not UNSET}
