"""What the native API takes in a body."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from usertable.domain.errors import Problem, ProblemKind, Refused, refusal
from usertable.domain.identity import MAX_VALUE_CHARACTERS, is_identifier_value
from usertable.domain.schema import DEFAULT_TIMEZONE, PRESET_IDENTIFIERS, Attribute, Identifier, Rule, Schema
from usertable.domain.values import LIST_ELEMENT_BYTES, LIST_ELEMENTS, DataType, Limits
from usertable.wire.native.members import (
    MAX_REGISTERED,
    Cuid,
    ElementBytes,
    Elements,
    IdentifierName,
    IdentifierValue,
    Label,
    Name,
    ProjectId,
    ProjectName,
    Qps,
    Secret,
    Text,
    TimeZone,
)


class NewProject(msgspec.Struct, forbid_unknown_fields=True):
    """A project to be created; what is left out is made or has its default."""

    name: ProjectName
    id: Annotated[ProjectId, Meta(description="Left out: six digits.")] | UnsetType = UNSET
    secret: Annotated[Secret, Meta(description="Left out: 32 random hexadecimal digits.")] | UnsetType = UNSET
    timezone: TimeZone = DEFAULT_TIMEZONE
    qps: Qps = 100


class ProjectEdit(msgspec.Struct, forbid_unknown_fields=True):
    """The settings to change; what is left out stays."""

    name: ProjectName | UnsetType = UNSET
    timezone: TimeZone | UnsetType = UNSET
    qps: Qps | UnsetType = UNSET


class SecretRotation(msgspec.Struct, forbid_unknown_fields=True):
    """The new secret, if it is not to be made."""

    secret: Secret | UnsetType = UNSET


class NewAttribute(msgspec.Struct, forbid_unknown_fields=True):
    """An attribute to be declared. The limits are for a LIST only; left out, they are 1000 and 512."""

    name: Name
    type: DataType
    rule: Rule
    display_name: Label = ""
    description: Text = ""
    hidden: bool = False
    max_elements: Elements | UnsetType = UNSET
    max_element_bytes: ElementBytes | UnsetType = UNSET

    def attribute(self) -> Attribute:
        """The attribute that is asked for; nothing of it is checked yet."""
        limits = Limits(
            LIST_ELEMENTS if self.max_elements is UNSET else self.max_elements,
            LIST_ELEMENT_BYTES if self.max_element_bytes is UNSET else self.max_element_bytes,
        )
        return Attribute(self.name, self.type, self.rule, self.display_name, self.description, self.hidden, limits)


class AttributeEdit(msgspec.Struct, forbid_unknown_fields=True):
    """What to change of an attribute; what is left out stays. Name, type and rule never change."""

    display_name: Label | UnsetType = UNSET
    description: Text | UnsetType = UNSET
    hidden: bool | UnsetType = UNSET


class NewIdentifier(msgspec.Struct, forbid_unknown_fields=True):
    """An identifier to be declared."""

    name: Name
    display_name: Label = ""
    unique: bool = True
    masked: bool = False

    def identifier(self) -> Identifier:
        """The identifier that is asked for; nothing of it is checked yet."""
        return Identifier(self.name, self.display_name, self.unique, self.masked)


class IdentifierEdit(msgspec.Struct, forbid_unknown_fields=True):
    """What to change of an identifier; what is left out stays. Name and uniqueness never change."""

    display_name: Label | UnsetType = UNSET
    masked: bool | UnsetType = UNSET


class IdentifierOrder(msgspec.Struct, forbid_unknown_fields=True):
    """Every identifier's name once, the presets' too; the first gets priority 1."""

    names: Annotated[
        list[IdentifierName], Meta(extra_json_schema={"minItems": len(PRESET_IDENTIFIERS), "uniqueItems": True})
    ]


class SchemaIdentifier(NewIdentifier, forbid_unknown_fields=True):
    """An identifier of a schema: one of the project's own, or a preset."""

    name: IdentifierName


class SchemaForm(msgspec.Struct, forbid_unknown_fields=True):
    """A whole schema. Attributes are in order of declaration, identifiers by priority; presets may be left out."""

    attributes: list[NewAttribute]
    identifiers: list[SchemaIdentifier]

    def schema(self) -> Schema:
        """The schema that is asked for; everything in it is legal to declare, but for the number of attributes.

        Raises:
            Refused: a name is repeated, or something is not legal; all such problems.
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
    """A schema as it is shown, which is as the API takes it."""
    attributes = []
    for a in schema.attributes.values():
        form = NewAttribute(a.name, a.type, a.rule, a.display_name, a.description, a.hidden)
        if a.type is DataType.LIST:
            form.max_elements, form.max_element_bytes = a.limits.elements, a.limits.element_bytes
        attributes.append(form)
    identifiers = [SchemaIdentifier(i.name, i.display_name, i.unique, i.masked) for i in schema.identifiers]
    return SchemaForm(attributes, identifiers)


def check_identifier_values(name: str, values: Iterable[str]) -> None:
    """Raise ValueError if one of them can be no identifier's value."""
    if not all(map(is_identifier_value, values)):
        raise ValueError(f"a value of 1 to {MAX_VALUE_CHARACTERS} characters for {name}")


class NewUser(msgspec.Struct, forbid_unknown_fields=True):
    """A user to be imported with the CUID it has, and one value per identifier."""

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
    """The members of an edit that were sent."""
    return {name: value for name, value in msgspec.structs.asdict(edit).items() if value is not UNSET}
