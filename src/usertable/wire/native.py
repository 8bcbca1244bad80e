"""Our own JSON, version 1: what the native API and `--json` show, and what the API takes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar, get_args
from urllib.parse import parse_qsl, urlencode

import msgspec
from msgspec import UNSET, Meta, UnsetType

from usertable.domain.condition import MAX_CONDITIONS, OPERATORS
from usertable.domain.errors import Problem, ProblemKind, Refused, bounded, excerpt, refusal
from usertable.domain.identity import MAX_CUID, MAX_VALUE_CHARACTERS, is_identifier_value
from usertable.domain.profile import Profile
from usertable.domain.schema import (
    DEFAULT_TIMEZONE,
    MAX_LIST_ELEMENT_BYTES,
    MAX_LIST_ELEMENTS,
    NAME_LENGTH,
    PRESET_IDENTIFIERS,
    PRESET_PREFIX,
    TEXT_LENGTH,
    Attribute,
    Identifier,
    Project,
    Rule,
    Schema,
)
from usertable.domain.schema_change import Change, ChangeKind, Fact
from usertable.domain.schema_plan import Step
from usertable.domain.values import LIST_ELEMENT_BYTES, LIST_ELEMENTS, DataType, Limits, Value, show
from usertable.store.records import SchemaChange, User
from usertable.wire.bodies import MAX_CONTAINERS, decode_object
from usertable.wire.messages import Language, text

MAX_REGISTERED = 1000
"""Maximum number of an identifier's values that are exchanged for CUIDs at once."""
_encoder = msgspec.json.Encoder(decimal_format="number")

STATUSES: dict[ProblemKind, int] = {
    ProblemKind.CREDENTIALS: 401,
    ProblemKind.ADMIN_ONLY: 401,
    ProblemKind.METRICS_ONLY: 401,
    ProblemKind.RATE_LIMITED: 429,
    ProblemKind.CONTENT_TYPE: 415,
    ProblemKind.CONTENT_CODING: 415,
    ProblemKind.BODY_TOO_LARGE: 413,
    ProblemKind.BODY_VALUES: 413,
    ProblemKind.BODY_CONTAINERS: 413,
    ProblemKind.BODY_BROKEN: 400,
    ProblemKind.KEY_MALFORMED: 400,
    ProblemKind.BODY_NOT_JSON: 400,
    ProblemKind.BODY_NOT_OBJECT: 400,
    ProblemKind.DUPLICATE_KEY: 400,
    ProblemKind.NO_ROUTE: 404,
    ProblemKind.NO_METHOD: 405,
    ProblemKind.PROJECT_UNKNOWN: 404,
    ProblemKind.ATTRIBUTE_UNKNOWN: 404,
    ProblemKind.IDENTIFIER_UNKNOWN: 404,
    ProblemKind.CUID_UNKNOWN: 404,
    ProblemKind.PROJECT_EXISTS: 409,
    ProblemKind.PROJECT_CHANGED: 412,
    ProblemKind.NAME_TAKEN: 409,
    ProblemKind.TOO_MANY_ATTRIBUTES: 409,
    ProblemKind.ATTRIBUTE_IN_USE: 409,
    ProblemKind.ATTRIBUTE_FIXED: 409,
    ProblemKind.IDENTIFIER_IN_USE: 409,
    ProblemKind.IDENTIFIER_PRESET: 409,
    ProblemKind.IDENTIFIER_TAKEN: 409,
    ProblemKind.CUID_EXISTS: 409,
    ProblemKind.CUID_ERASED: 409,
    ProblemKind.INTERNAL: 500,
    ProblemKind.OVERLOADED: 503,
    ProblemKind.STORE_DOWN: 503,
}
"""HTTP status per kind of problem.

Any other is 400 if the request has not the form that the API's description gives it, and 422 if it has and a rule of the
Data Center refuses it.
"""


class ProblemEntry(msgspec.Struct):
    """One of the things that are wrong."""

    code: str
    attribute: Annotated[str | None, Meta(description="The attribute or identifier that it is about, if any.")]
    detail: str


class ProblemDetails(msgspec.Struct):
    """An error as RFC 9457 has it. `code` is for programs and never changes; `detail` is for people, in their language."""

    type: Annotated[str, Meta(extra_json_schema={"format": "uri"})]
    title: str
    status: int
    detail: str
    code: str
    request_id: Annotated[str, Meta(description="The X-Request-Id to quote when asking about it; the log has it too.")]
    problems: Annotated[
        list[ProblemEntry],
        Meta(
            description="All that is wrong; the first is the one above. At most 100, and a last one that says how many more"
            " there are."
        ),
    ]


def encode_problems(problems: Sequence[Problem], status: int, language: Language, request_id: str) -> bytes:
    """Problem details (`application/problem+json`) of a request refused with that HTTP status, for the first problem."""
    first = problems[0]
    details = ProblemDetails(
        type=f"urn:usertable:problem:{first.kind}",
        title=first.kind.replace("_", " "),
        status=status,
        detail=text(first, language),
        code=first.kind,
        request_id=request_id,
        problems=[ProblemEntry(p.kind, p.attribute, text(p, language)) for p in bounded(problems)],
    )
    return encode(details)


def encode(document: object) -> bytes:
    """Any of this module's documents as JSON; numbers stay exact."""
    return _encoder.encode(document)


# The types of members. What stands in `extra_json_schema` is only described here: the domain checks it, and says more.

Cuid = Annotated[int, Meta(ge=1, le=MAX_CUID, extra_json_schema={"format": "int64"})]
Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"}, description="RFC 3339, in UTC.")]
Name = Annotated[
    str,
    Meta(
        extra_json_schema={"pattern": f"^(?!{PRESET_PREFIX})[a-z][a-z0-9_]*$", "maxLength": NAME_LENGTH},
        description="Lowercase letters, digits, underscores; starts with a letter, not with"
        f" {PRESET_PREFIX}. It never changes.",
    ),
]
IdentifierName = Annotated[str, Meta(extra_json_schema={"pattern": "^[a-z][a-zA-Z0-9_]*$", "maxLength": NAME_LENGTH})]
"""Also of a preset."""
Text = Annotated[str, Meta(extra_json_schema={"maxLength": TEXT_LENGTH})]
Label = Annotated[
    str,
    Meta(
        extra_json_schema={"maxLength": TEXT_LENGTH, "pattern": r"^[^\x00-\x1f\x7f]*$"},
        description="Printable characters, on one line.",
    ),
]
ProjectId = Annotated[str, Meta(extra_json_schema={"pattern": r"^(?!\.{1,2}$)[A-Za-z0-9._-]{1,64}$"})]
ProjectName = Annotated[
    str,
    Meta(
        extra_json_schema={
            "minLength": 1,
            "maxLength": 200,
            "pattern": r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$",
        },
        description="Printable characters, not only spaces.",
    ),
]
Secret = Annotated[str, Meta(extra_json_schema={"pattern": "^[!-~]{1,128}$"})]
TimeZone = Annotated[
    str,
    Meta(
        extra_json_schema={"pattern": "^[A-Za-z0-9_+/-]+$"},
        description="An IANA name. DATETIME values are read and shown in it.",
        examples=["Asia/Shanghai"],
    ),
]
Qps = Annotated[int, Meta(extra_json_schema={"minimum": 1, "maximum": 1_000_000})] | Literal["unlimited"]
"""Requests per second and API."""
Elements = Annotated[
    int, Meta(extra_json_schema={"minimum": 1, "maximum": MAX_LIST_ELEMENTS}, description="Of a LIST: elements at most.")
]
ElementBytes = Annotated[
    int,
    Meta(
        extra_json_schema={"minimum": 1, "maximum": MAX_LIST_ELEMENT_BYTES},
        description="Of a LIST: bytes (UTF-8) of an element at most.",
    ),
]
Values = Annotated[
    dict[str, Any],
    Meta(
        extra_json_schema={
            "additionalProperties": {
                "anyOf": [
                    {"type": ["number", "string", "boolean"]},
                    {"type": "array", "items": {"type": "string"}},
                ]
            }
        },
        description="By attribute: NUMBER an exact number, STRING a text, BOOL true or false, DATETIME"
        " `yyyy-MM-dd HH:mm:ss` in the project's zone, LIST an array of texts. One without a value is left out.",
    ),
]
IdentifierValue = Annotated[str, Meta(extra_json_schema={"minLength": 1, "maxLength": MAX_VALUE_CHARACTERS})]


def pretty(document: object) -> str:
    """A document as JSON for people, over several lines."""
    return msgspec.json.format(encode(document), indent=2).decode()


class ProjectDocument(msgspec.Struct, omit_defaults=True):
    """A project. `secret` is shown once, when it is made."""

    id: str
    name: str
    timezone: TimeZone
    qps: Qps
    created_at: Moment
    version: Annotated[int, Meta(description="Grows with every change of the project or its schema.")]
    secret: str | UnsetType = UNSET


class ProjectList(msgspec.Struct):
    """All projects, in order of creation."""

    projects: list[ProjectDocument]


class AttributeDocument(msgspec.Struct):
    """A declared attribute. The limits are of a LIST; null for the other types."""

    name: str
    type: DataType
    rule: Rule
    display_name: str
    description: str
    hidden: bool
    reported: Annotated[bool, Meta(description="Whether a value was ever reported, so that it cannot be deleted.")]
    max_elements: int | None
    max_element_bytes: int | None


class AttributeList(msgspec.Struct):
    """Attributes, in order of declaration."""

    attributes: list[AttributeDocument]


class IdentifierDocument(msgspec.Struct):
    """A declared identifier."""

    name: str
    display_name: str
    priority: Annotated[int, Meta(description="Get CUID takes the identifier with priority 1, if it is unique.")]
    unique: Annotated[bool, Meta(description="One value per user.")]
    masked: Annotated[bool, Meta(description="Lists of users show the first 4 characters of a value only.")]
    preset: Annotated[bool, Meta(description="One of the platform's own, which cannot be deleted.")]


class IdentifierList(msgspec.Struct):
    """Identifiers by priority."""

    identifiers: list[IdentifierDocument]


class ChangeDetail(msgspec.Struct):
    """One thing that was done, with the fields that it changed."""

    kind: ChangeKind
    subject: Annotated[str, Meta(description="The attribute or identifier; empty if it is the project.")]
    before: Annotated[dict[str, Fact], Meta(examples=[{"hidden": False}])]
    after: Annotated[dict[str, Fact], Meta(examples=[{"hidden": True}])]


class ChangeDocument(msgspec.Struct):
    """An entry of a project's record of changes."""

    at: Moment
    actor: Annotated[str, Meta(examples=["admin", "project 100102"])]
    what: Annotated[str, Meta(description="For people.", examples=["edit attribute level: hidden false → true"])]
    changes: Annotated[
        list[ChangeDetail], Meta(description="For programs. Empty for an entry that an older usertable made.")
    ]


class ChangeList(msgspec.Struct):
    """Changes, newest first."""

    changes: list[ChangeDocument]


class UserDocument(msgspec.Struct):
    """A user's row."""

    cuid: Cuid
    version: Annotated[int, Meta(description="Grows with every change of the row.")]
    created_at: Moment
    updated_at: Moment
    attributes: Values
    identifiers: Annotated[dict[str, list[str]], Meta(description="The values of each identifier.")]
    changed_at: (
        Annotated[
            dict[str, Moment | None],
            Meta(
                description="When the value of each attribute last changed; null where that was before such times were kept."
                " Only where one user is asked for."
            ),
        ]
        | UnsetType
    ) = UNSET


class UserPage(msgspec.Struct):
    """A page of the user table; `next` is the cursor of the page after it, null on the last."""

    users: list[UserDocument]
    next: str | None


class RegisteredUser(msgspec.Struct):
    """The CUID of an identifier's value."""

    value: str
    cuid: Cuid


class RegisteredUsers(msgspec.Struct):
    """The CUIDs of an identifier's values, in the order in which they were sent."""

    users: list[RegisteredUser]


class StepDocument(msgspec.Struct):
    """One step of a plan that turns a schema into another."""

    verb: Annotated[str, Meta(examples=["declare", "edit", "order"])]
    thing: Annotated[str, Meta(examples=["attribute", "identifier"])]
    name: str
    detail: str


class PlanDocument(msgspec.Struct):
    """The steps that turn a schema into another, and those that are refused, with which none is taken."""

    dry_run: bool
    steps: list[StepDocument]
    refused: list[StepDocument]


class Health(msgspec.Struct):
    """The server is ready: its store can be reached."""

    status: Literal["ready"]


class Live(msgspec.Struct):
    """The server answers."""

    code: Literal[0] = 0
    msg: Literal["ok"] = "ok"


class Build(msgspec.Struct):
    """Which usertable answers."""

    version: str
    """Such as `0.1.dev290+gba7fb6d76`: 290 commits on the way to 0.1, of which the last is `ba7fb6d76`."""
    engine: Literal["memory", "postgresql", "sqlite"]
    """What the store is."""
    store_version: Annotated[int, msgspec.Meta(ge=0)]
    """The number of the store's newest migration; 0 in memory."""


class OpenAPI(msgspec.Struct):
    """A document as https://spec.openapis.org/oas/v3.1.0 has it."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]


def moment(ms: int) -> str:
    """Milliseconds since 1970 UTC as RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def project_document(project: Project, secret: str | None = None) -> ProjectDocument:
    """A project as it is shown."""
    return ProjectDocument(
        id=project.id,
        name=project.name,
        timezone=project.timezone,
        qps="unlimited" if project.qps is None else project.qps,
        created_at=moment(project.created_at),
        version=project.version,
        secret=UNSET if secret is None else secret,
    )


def attribute_document(attribute: Attribute, project: Project) -> AttributeDocument:
    """An attribute as it is shown."""
    is_list = attribute.type is DataType.LIST
    return AttributeDocument(
        name=attribute.name,
        type=attribute.type,
        rule=attribute.rule,
        display_name=attribute.display_name,
        description=attribute.description,
        hidden=attribute.hidden,
        reported=attribute.name in project.reported,
        max_elements=attribute.limits.elements if is_list else None,
        max_element_bytes=attribute.limits.element_bytes if is_list else None,
    )


def select_attributes(
    project: Project,
    *,
    search: str = "",
    status: str = "visible",
    type: str | None = None,
    rule: str | None = None,
) -> list[Attribute]:
    """The attributes whose name or display name holds `search`, by status (`visible`, `hidden`, `all`), type and rule."""
    wanted = search.casefold()
    return [
        a
        for a in project.schema.attributes.values()
        if (status == "all" or a.hidden == (status == "hidden"))
        and (type is None or a.type == type)
        and (rule is None or a.rule == rule)
        and (wanted in a.name or wanted in a.display_name.casefold())
    ]


def identifier_documents(identifiers: Iterable[Identifier]) -> list[IdentifierDocument]:
    """Identifiers as they are shown, in the order given, which is that of priority."""
    return [
        IdentifierDocument(i.name, i.display_name, priority, i.unique, i.masked, i.preset)
        for priority, i in enumerate(identifiers, start=1)
    ]


def change_document(change: SchemaChange) -> ChangeDocument:
    """An entry of the record of changes as it is shown."""
    at, actor, what = moment(change.at), change.actor, change.what
    if isinstance(what, str):
        return ChangeDocument(at, actor, what, [])
    details = [ChangeDetail(c.kind, c.subject, dict(c.before), dict(c.after)) for c in what]
    return ChangeDocument(at, actor, "; ".join(map(_sentence, what)), details)


def _sentence(change: Change) -> str:
    """A change in words."""
    said = f"{change.kind} {change.subject}".strip()
    match change.kind:
        case ChangeKind.DECLARE_ATTRIBUTE:
            return f"{said}: {change.after['type']} {change.after['rule']}"
        case ChangeKind.DECLARE_IDENTIFIER:
            return f"{said}: {'unique' if change.after['unique'] else 'not unique'}"
        case ChangeKind.ORDER_IDENTIFIERS:
            return f"{said}: {' > '.join(change.after['order'])}"  # type: ignore[arg-type]
        case ChangeKind.EDIT_PROJECT | ChangeKind.EDIT_ATTRIBUTE | ChangeKind.EDIT_IDENTIFIER:
            fields = (f"{name} {_fact(change.before[name])} → {_fact(after)}" for name, after in change.after.items())
            return f"{said}: {', '.join(fields)}"
    return said


def _fact(fact: Fact) -> str:
    return msgspec.json.encode(fact).decode()


def user_document(
    user: User,
    project: Project,
    attributes: Sequence[str] | None = None,
    *,
    hidden: bool = False,
    mask: bool = False,
    times: bool = False,
) -> UserDocument:
    """A user's row as it is shown.

    Args:
        attributes: these only, in this order; otherwise all, hidden ones with `hidden`.
        mask: show no more than 4 characters of masked identifiers' values, as in lists.
        times: show when each attribute last changed.
    """
    declared = project.schema.attributes
    if attributes is None:
        attributes = [name for name, a in declared.items() if hidden or not a.hidden]
    zone = project.zone
    values = user.profile.attributes
    masked = {i.name for i in project.schema.identifiers if i.masked} if mask else set()
    return UserDocument(
        cuid=user.cuid,
        version=user.profile.version,
        created_at=moment(user.profile.created_at),
        updated_at=moment(user.profile.updated_at),
        attributes={n: show(values[n], declared[n].type, zone) for n in attributes if n in values},
        identifiers={
            name: [masked_value(v) if name in masked else v for v in found] for name, found in user.identifiers.items()
        },
        changed_at={n: _changed(user.profile, n) for n in attributes if n in values} if times else UNSET,
    )


def _changed(profile: Profile, name: str) -> str | None:
    at = profile.changed(name)
    return None if at is None else moment(at)


def masked_value(value: str) -> str:
    return value[:4] + "*" * (len(value) - 4)


def shown_value(value: Value) -> str:
    """A shown value as text for a table."""
    return value if isinstance(value, str) else _encoder.encode(value).decode()


def plan_document(steps: Iterable[Step], refused: Iterable[Step], *, dry_run: bool) -> PlanDocument:
    """A plan as it is shown."""

    def documents(of: Iterable[Step]) -> list[StepDocument]:
        return [StepDocument(step.verb, step.thing, step.name, step.detail) for step in of]

    return PlanDocument(dry_run, documents(steps), documents(refused))


def cursor(cuid: int) -> str:
    """The cursor of the page after the user `cuid`."""
    return f"{cuid:016x}"


# What the API takes.


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


# What stands in a query.

Flag = Literal["0", "1", "false", "true"]


def is_set(flag: Flag) -> bool:
    """Whether a flag of a query says yes."""
    return flag in ("1", "true")


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """A query without parameters."""


class AttributeQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which attributes to list."""

    search: Annotated[str, Meta(description="Part of the name or display name; case does not matter.")] = ""
    status: Literal["visible", "hidden", "all"] = "visible"
    type: DataType | UnsetType = UNSET
    rule: Rule | UnsetType = UNSET


class ChangeQuery(msgspec.Struct, forbid_unknown_fields=True):
    """How many changes to list."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class SchemaQuery(msgspec.Struct, forbid_unknown_fields=True):
    """What to do with the schema."""

    dry_run: Annotated[Flag, Meta(description="Only tell what would be done.")] = "0"


class ColumnQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which attributes of a user to show."""

    attributes: Annotated[
        str | UnsetType,
        Meta(
            extra_json_schema={"pattern": "^([a-z][a-z0-9_]*(,[a-z][a-z0-9_]*)*)?$"},
            description="Names separated by commas: show these only, in this order, hidden ones too.",
            examples=["user_level,user_tags"],
        ),
    ] = UNSET
    hidden: Annotated[Flag, Meta(description="Show hidden attributes too.")] = "0"


_CONDITION = rf"^[a-z][a-z0-9_]*:(set|unset|({'|'.join(OPERATORS)}):[\s\S]*)$"


class UserQuery(ColumnQuery, forbid_unknown_fields=True):
    """Which users to list."""

    after: Annotated[
        Annotated[str, Meta(pattern="^[0-7][0-9a-f]{15}$", max_length=16)] | UnsetType,
        Meta(description="The `next` of the page before."),
    ] = UNSET
    limit: Annotated[int, Meta(ge=1, le=1000, description="Users on the page at most.")] = 100
    where: Annotated[
        list[Annotated[str, Meta(extra_json_schema={"pattern": _CONDITION})]],
        Meta(
            extra_json_schema={"maxItems": MAX_CONDITIONS},
            description="A condition `attribute:operator` or `attribute:operator:value`; every one must be met. Operators:"
            " set, unset (all types); eq, ne, in (all but LIST); lt, le, gt, ge, between (NUMBER, DATETIME); contains"
            " (STRING, LIST). The values of in and between are separated by commas; one that holds a comma is put in double"
            ' quotes: `city:in:"Washington, D.C.",Paris`. At most 100 conditions, with 1,000 values together. A page may'
            " then hold fewer users than `limit`, even none, and still have a next one.",
            examples=[["user_level:ge:3", "user_tags:contains:news"]],
        ),
    ] = []
    identifier: Annotated[
        IdentifierName | UnsetType,
        Meta(description="Only the user that `value` of this identifier points to.", examples=["phone"]),
    ] = UNSET
    value: Annotated[str | UnsetType, Meta(description="Goes with `identifier`; compared exactly.")] = UNSET

    def after_cuid(self) -> int:
        """The CUID after which the page begins; 0 for the first page."""
        return 0 if self.after is UNSET else int(self.after, 16)


def changes(edit: msgspec.Struct) -> dict[str, Any]:
    """The members of an edit that were sent."""
    return {name: value for name, value in msgspec.structs.asdict(edit).items() if value is not UNSET}


Body = TypeVar("Body")


def decode(body: bytes, form: type[Body]) -> Body:
    """The body as `form`.

    Raises:
        Refused: it is no JSON object, repeats a key, has an unknown member, one of the wrong type, or too many arrays and
            objects.
    """
    members = decode_object(body, MAX_CONTAINERS)
    if isinstance(members, Problem):
        raise Refused([members])
    return convert(_with_whole_numbers(members), form, strict=True, name="body")


def _with_whole_numbers(value: Any, depth: int = 4) -> Any:
    """`value` with 5.0 as 5: to JSON Schema that is an integer, and no body has a member that is a broken number.

    Only as deep as bodies are: what is deeper is refused anyway.
    """
    if type(value) is dict and depth:
        return {name: _with_whole_numbers(member, depth - 1) for name, member in value.items()}
    if type(value) is list and depth:
        return [_with_whole_numbers(element, depth - 1) for element in value]
    if type(value) is Decimal and value.is_finite() and value.adjusted() < 20 and value == (whole := int(value)):
        return whole
    return value


def decode_query(query: bytes, form: type[Body]) -> Body:
    """The parameters of a query (as it stands in the URL) as `form`; those of a list type may be repeated.

    Raises:
        Refused: it is not UTF-8, repeats a parameter, has an unknown one, or a value of the wrong form.
    """
    parameters: dict[str, Any] = {}
    lists = {f.encode_name for f in msgspec.structs.fields(form) if isinstance(f.default_factory, type)}  # type: ignore[arg-type]
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError as error:
        raise Refused([parameter_problem("query", "percent-encoded UTF-8")]) from error
    for name, value in pairs:
        if name in lists:
            parameters.setdefault(name, []).append(value)
        elif name in parameters:
            raise Refused([parameter_problem(name, "one value")])
        else:
            parameters[name] = value
    # Not strict: a query has nothing but texts.
    return convert(parameters, form, strict=False, name="query")


def encode_query(query: msgspec.Struct) -> str:
    """The parameters of a query as they stand in a URL, without those that have their defaults."""
    pairs: list[tuple[str, str]] = []
    for field in msgspec.structs.fields(query):
        value = getattr(query, field.name)
        if isinstance(value, list):
            pairs += [(field.encode_name, str(entry)) for entry in value]
        elif value != field.default:
            pairs.append((field.encode_name, str(value)))
    return urlencode(pairs)


def decode_document(content: bytes, form: type[Body]) -> Body:
    """A document that a server answers, numbers exact. Raises ValueError if it is none."""
    members = decode_object(content)
    if isinstance(members, Problem):
        raise ValueError(text(members, "en"))
    try:
        return msgspec.convert(members, form)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error


def convert(members: dict[str, Any], form: type[Body], *, strict: bool, name: str) -> Body:
    """Decoded members as `form`; with `strict`, a text is no number. Raises Refused; `name` is what they are called."""
    try:
        return msgspec.convert(members, form, strict=strict)
    except msgspec.ValidationError as error:
        raise Refused([_problem(str(error), name, form)]) from error


_ERROR = re.compile(r"(?P<what>.*?)(?: `(?P<field>[^`]*)`)?(?: - at `\$(?P<path>.*)`)?", re.DOTALL)
_CHOICES = {"type": DataType, "rule": Rule, "status": ("visible", "hidden", "all"), "qps": ("a number", "unlimited")}


def _problem(error: str, name: str, form: type) -> Problem:
    """The problem that msgspec tells of: `Object contains unknown field `x` - at `$.a[0]``, and the like."""
    found = _ERROR.fullmatch(error)
    assert found
    what, field, path = found["what"], found["field"], (found["path"] or "").lstrip(".")
    inside = f"{path}." if path else ""
    if what == "Object contains unknown field":
        known = ", ".join(f.encode_name for f in msgspec.structs.fields(form)) if not path else ""
        return parameter_problem(inside + field, f"one of {known}" if known else "nothing of that name")
    if what == "Object missing required field":
        return parameter_problem(inside + field, "a value, but it is missing")
    if what.startswith("Invalid enum value"):
        choices = _CHOICES.get(path.rpartition(".")[2], get_args(Flag))
        return parameter_problem(path, f"one of {', '.join(choices)}")
    return parameter_problem(path or name, error.partition(" - at `")[0].removeprefix("Expected "))


def parameter_problem(name: str, expected: str) -> Problem:
    """A parameter that is not as it should be."""
    return Problem(ProblemKind.PARAMETER, None, {"name": excerpt(name), "expected": excerpt(expected, 200)})
