"""What the native API and `--json` show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from usertable.domain.profile import Profile
from usertable.domain.schema import Attribute, Identifier, Project, Rule
from usertable.domain.schema_change import Change, ChangeKind, Fact
from usertable.domain.schema_plan import Step
from usertable.domain.values import DataType, Value, show
from usertable.store.records import SchemaChange, User
from usertable.wire.native.members import Cuid, Moment, Qps, TimeZone, Values

_encoder = msgspec.json.Encoder(decimal_format="number")


def encode(document: object) -> bytes:
    """Any of this module's documents as JSON; numbers stay exact."""
    return _encoder.encode(document)


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
