"""The documents that the native API and `--json` show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from usertable.domain.audit import AuditEntry, AuditEvent, AuditKind, Fact, SchemaChange
from usertable.domain.key import DEFAULT_KEY, Key, KeyState
from usertable.domain.permissions import Role, Scope, ordered
from usertable.domain.person import Person
from usertable.domain.profile import Profile
from usertable.domain.schema import Attribute, Identifier, Project, Rule
from usertable.domain.schema_plan import Step
from usertable.domain.values import DataType, Value, show
from usertable.wire.messages import Language, param_text
from usertable.wire.native.members import Cuid, Moment, Qps, TimeZone, Values

if TYPE_CHECKING:
    # This import loads the stores, which is slow and only needed by those that open one.
    from usertable.store.records import User

_encoder = msgspec.json.Encoder(decimal_format="number")


def encode(document: object) -> bytes:
    """Return any of this module's documents as JSON, with exact numbers."""
    return _encoder.encode(document)


def pretty(document: object) -> str:
    """Return a document as JSON over several lines, for people."""
    return msgspec.json.format(encode(document), indent=2).decode()


class ProjectDocument(msgspec.Struct, omit_defaults=True):
    """A project. `secret` is shown once, when it is created."""

    id: str
    name: str
    timezone: TimeZone
    qps: Qps
    created_at: Moment
    version: Annotated[int, Meta(description="Incremented by every change of the project or its schema.")]
    secret: str | UnsetType = UNSET
    previous_secret_until: (
        Annotated[Moment, Meta(description="When the previous secret stops working. Only after a rotation with an overlap.")]
        | UnsetType
    ) = UNSET


class ProjectList(msgspec.Struct):
    """All projects, in order of creation."""

    projects: list[ProjectDocument]


class KeyDocument(msgspec.Struct, omit_defaults=True):
    """A key of a project. `secret` is shown once, when it is created."""

    name: str
    scopes: list[Scope]
    state: KeyState
    created_at: Moment
    created_by: Annotated[str, Meta(description="Empty if unknown.")]
    expires_at: Annotated[Moment, Meta(description="RFC 3339, in UTC; null for never.")] | None
    last_used_at: Annotated[Moment, Meta(description="RFC 3339, in UTC, to the minute; null for never.")] | None
    revoked_at: Moment | None
    revoked_by: str | None
    public_id: (
        Annotated[
            str,
            Meta(description="The public part of a generated secret, after `ut_`; null for others.", examples=["4fB9xK2a"]),
        ]
        | None
    )
    secret: str | UnsetType = UNSET
    previous_secret_until: (
        Annotated[Moment, Meta(description="When the previous secret stops working. Only after a rotation with an overlap.")]
        | UnsetType
    ) = UNSET


class KeyList(msgspec.Struct):
    """Keys of a project: `default`, the others in order of creation, then revoked ones, the last revoked first."""

    keys: list[KeyDocument]
    next: Annotated[str, Meta(description="`after` of the next page; null if there is none.")] | None


class PersonDocument(msgspec.Struct):
    """A person who may sign in to the console."""

    email: str
    name: str
    state: Annotated[Literal["active", "invited", "disabled"], Meta(description="`invited`: cannot sign in yet.")]
    admin: bool
    roles: Annotated[dict[str, Role], Meta(description="Role by project ID.", examples=[{"100102": "editor"}])]
    created_at: Moment
    created_by: str
    last_sign_in_at: Annotated[Moment, Meta(description="RFC 3339, in UTC; null for never.")] | None


class PersonList(msgspec.Struct):
    """All people, by email address."""

    people: list[PersonDocument]


class PasswordLinkDocument(msgspec.Struct):
    """A link with which a person sets a password, once. It is shown once, and replaces the previous link."""

    email: str
    path: Annotated[str, Meta(description="Append it to the server's URL.")]
    expires_at: Moment


class SessionsEnded(msgspec.Struct):
    """Number of sessions that were ended."""

    ended: int


class AttributeDocument(msgspec.Struct):
    """A declared attribute. The limits apply to a LIST; null for the other types."""

    name: str
    type: DataType
    rule: Rule
    display_name: str
    description: str
    hidden: bool
    reported: Annotated[bool, Meta(description="Whether a value was ever reported. If so, the attribute cannot be deleted.")]
    max_elements: int | None
    max_element_bytes: int | None
    history: Annotated[bool, Meta(description="Whether the history of users has its changes.")] | UnsetType = UNSET
    """Unset in the answer of a server of a version without history."""


class AttributeList(msgspec.Struct):
    """Attributes, in order of declaration."""

    attributes: list[AttributeDocument]


class IdentifierDocument(msgspec.Struct):
    """A declared identifier."""

    name: str
    display_name: str
    priority: Annotated[int, Meta(description="Get CUID uses the identifier with priority 1, if it is unique.")]
    unique: Annotated[bool, Meta(description="A user has at most one value.")]
    masked: Annotated[bool, Meta(description="Lists of users show only the first 4 characters of a value.")]
    preset: Annotated[bool, Meta(description="One of the platform's own, which cannot be deleted.")]


class IdentifierList(msgspec.Struct):
    """Identifiers by priority."""

    identifiers: list[IdentifierDocument]


class ChangeDetail(msgspec.Struct):
    """One change, with the fields that it changed."""

    kind: Annotated[str, Meta(description="For programs. Newer servers have more kinds.", examples=["edit attribute"])]
    subject: Annotated[str, Meta(description="The attribute, identifier or key; empty for the project.")]
    before: Annotated[dict[str, Fact], Meta(examples=[{"hidden": False}])]
    after: Annotated[dict[str, Fact], Meta(examples=[{"hidden": True}])]


class ChangeDocument(msgspec.Struct):
    """An entry of the list of changes to a project and its schema."""

    at: Moment
    actor: Annotated[str, Meta(examples=["admin-token", "key:default"])]
    what: Annotated[str, Meta(description="For people.", examples=["edit attribute level: hidden false → true"])]
    changes: Annotated[
        list[ChangeDetail], Meta(description="For programs. Empty for an entry that an older usertable recorded.")
    ]


class ChangeList(msgspec.Struct):
    """Changes, newest first."""

    changes: list[ChangeDocument]


class AuditDocument(msgspec.Struct):
    """An entry of an audit log. It never changes."""

    number: Annotated[int, Meta(description="1, 2, 3, … in each log, without gaps, in the order of recording.")]
    at: Moment
    actor: Annotated[
        str,
        Meta(
            description="`key:NAME`, `person:EMAIL`, `admin-token`, `cli:OS_USER`, `import:JOB`, `undo:NUMBER` or"
            " `anonymous`. Entries that an older usertable recorded may have another text.",
            examples=["key:default"],
        ),
    ]
    kind: Annotated[str, Meta(description="What was done. Newer servers have more kinds.", examples=["edit attribute"])]
    subject: Annotated[str, Meta(description="What was changed; empty for the project.", examples=["level"])]
    before: Annotated[dict[str, Fact], Meta(description="Fields before.", examples=[{"hidden": False}])]
    after: Annotated[dict[str, Fact], Meta(description="Fields after.", examples=[{"hidden": True}])]
    what: Annotated[str, Meta(description="For people.", examples=["edit attribute level: hidden false → true"])]
    request_id: Annotated[str, Meta(description="The request's `X-Request-Id`; empty for a command.")]
    address: Annotated[
        str, Meta(description="The caller's network address. Empty for a command, and for readers without the scope `keys`.")
    ]


class AuditPage(msgspec.Struct):
    """Entries of an audit log: newest first, or oldest first with `after`."""

    entries: list[AuditDocument]
    next: Annotated[
        int | None,
        Meta(
            description="Pass it as `before`, or as `after` if the request had that, to get the next page; null on the last."
        ),
    ]


class UserDocument(msgspec.Struct):
    """A user's row."""

    cuid: Cuid
    version: Annotated[int, Meta(description="Incremented by every change of the row.")]
    created_at: Moment
    updated_at: Moment
    attributes: Values
    identifiers: Annotated[dict[str, list[str]], Meta(description="The values of each identifier.")]
    changed_at: (
        Annotated[
            dict[str, Moment | None],
            Meta(
                description="When the value of each attribute last changed; null if that was before such times were stored."
                " Only when a single user is requested, as of now."
            ),
        ]
        | UnsetType
    ) = UNSET
    as_of: Annotated[Moment, Meta(description="The moment that was requested. Only if one was.")] | UnsetType = UNSET
    not_kept: (
        Annotated[
            list[str],
            Meta(
                description="Attributes whose values at `as_of` are unknown, because their history was off then or later."
                " Only with it."
            ),
        ]
        | UnsetType
    ) = UNSET


class UserPage(msgspec.Struct):
    """A page of the user table. `next` is the cursor of the next page, null on the last."""

    users: list[UserDocument]
    next: str | None


class RegisteredUser(msgspec.Struct):
    """The CUID of an identifier value."""

    value: str
    cuid: Cuid


class RegisteredUsers(msgspec.Struct):
    """The CUIDs of identifier values, in the order in which the values were sent."""

    users: list[RegisteredUser]


class StepDocument(msgspec.Struct):
    """One step of a plan that turns a schema into another."""

    verb: Annotated[str, Meta(examples=["declare", "edit", "order"])]
    thing: Annotated[str, Meta(examples=["attribute", "identifier"])]
    name: str
    detail: Annotated[str, Meta(description="What changes, or why it is refused, in the caller's language.")]


class PlanDocument(msgspec.Struct):
    """The steps that turn a schema into another, and the refused ones. If there are any, no step is applied."""

    dry_run: bool
    steps: list[StepDocument]
    refused: list[StepDocument]


class Health(msgspec.Struct):
    """The server is ready: its store can be reached."""

    status: Literal["ready"]


class Live(msgspec.Struct):
    """The server is running."""

    code: Literal[0] = 0
    msg: Literal["ok"] = "ok"


class Build(msgspec.Struct):
    """The version of usertable that answers."""

    version: str
    """For example `0.1.dev290+gba7fb6d76`: 290 commits towards 0.1, the last of which is `ba7fb6d76`."""
    engine: Literal["memory", "postgresql", "sqlite"]
    """The store's engine."""
    store_version: Annotated[int, msgspec.Meta(ge=0)]
    """The number of the store's newest migration; 0 for memory."""


class OpenAPI(msgspec.Struct):
    """An OpenAPI document, see https://spec.openapis.org/oas/v3.1.0."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]


def moment(ms: int) -> str:
    """Return milliseconds since 1970 UTC as RFC 3339 in UTC, with milliseconds."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def key_document(key: Key, last_used: int | None, now: int, secret: str | None = None) -> KeyDocument:
    """Return the document of a key at `now`, in ms since 1970 UTC."""
    previous_until = key.previous_until_after(now)
    return KeyDocument(
        name=key.name,
        scopes=list(ordered(key.scopes)),
        state=key.state(now),
        created_at=moment(key.created_at),
        created_by=key.created_by,
        expires_at=None if key.expires_at is None else moment(key.expires_at),
        last_used_at=None if last_used is None else moment(last_used),
        revoked_at=None if key.revoked_at is None else moment(key.revoked_at),
        revoked_by=key.revoked_by or None,
        public_id=key.public_id or None,
        secret=UNSET if secret is None else secret,
        previous_secret_until=UNSET if previous_until is None else moment(previous_until),
    )


def person_document(person: Person, projects: Mapping[int, str]) -> PersonDocument:
    """Return the document of a person.

    Args:
        projects: the IDs of projects by number.
    """
    return PersonDocument(
        email=person.email,
        name=person.name,
        state="disabled" if person.disabled else "active" if person.can_sign_in else "invited",
        admin=person.admin,
        roles={projects[number]: role for number, role in sorted(person.roles.items()) if number in projects},
        created_at=moment(person.created_at),
        created_by=person.created_by,
        last_sign_in_at=None if person.last_sign_in is None else moment(person.last_sign_in),
    )


def project_document(project: Project, secret: str | None = None) -> ProjectDocument:
    """Return the document of a project.

    Args:
        secret: if it was created now.
    """
    until = None if secret is None else project.key(DEFAULT_KEY).previous_until
    return ProjectDocument(
        id=project.id,
        name=project.name,
        timezone=project.timezone,
        qps="unlimited" if project.qps is None else project.qps,
        created_at=moment(project.created_at),
        version=project.version,
        secret=UNSET if secret is None else secret,
        previous_secret_until=UNSET if until is None else moment(until),
    )


def attribute_document(attribute: Attribute, project: Project) -> AttributeDocument:
    """Return the document of an attribute."""
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
        history=attribute.history_since is not None,
    )


def select_attributes(
    project: Project,
    *,
    search: str = "",
    status: str = "visible",
    type: str | None = None,
    rule: str | None = None,
) -> list[Attribute]:
    """Return the attributes whose name or display name contains `search`, by status, type and rule."""
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
    """Return the documents of identifiers in the given order, which is that of priority."""
    return [
        IdentifierDocument(i.name, i.display_name, priority, i.unique, i.masked, i.preset)
        for priority, i in enumerate(identifiers, start=1)
    ]


def change_document(change: SchemaChange) -> ChangeDocument:
    """Return the document of an entry of the list of changes."""
    at, actor, what = moment(change.at), change.actor, change.what
    if isinstance(what, str):
        return ChangeDocument(at, actor, what, [])
    details = [ChangeDetail(c.kind, c.subject, dict(c.before), dict(c.after)) for c in what]
    return ChangeDocument(at, actor, "; ".join(map(_sentence, what)), details)


def audit_document(entry: AuditEntry, *, addresses: bool) -> AuditDocument:
    """Return the document of an entry of an audit log.

    Args:
        addresses: include the address that the request came from.
    """
    event = entry.event
    return AuditDocument(
        *(entry.number, moment(entry.at), entry.actor, event.kind, event.subject),
        *(dict(event.before), dict(event.after)),
        entry.sentence or _sentence(event),
        *(entry.request_id, entry.address if addresses else ""),
    )


def audit_page(entries: Sequence[AuditEntry], limit: int, *, addresses: bool) -> AuditPage:
    """Return a page of an audit log. A page with fewer than `limit` entries is the last."""
    return AuditPage(
        [audit_document(entry, addresses=addresses) for entry in entries],
        entries[-1].number if len(entries) == limit else None,
    )


def _sentence(change: AuditEvent) -> str:
    """Return a change as a sentence."""
    said = f"{change.kind} {change.subject}".strip()
    match change.kind:
        case AuditKind.DECLARE_ATTRIBUTE:
            return f"{said}: {change.after['type']} {change.after['rule']}"
        case AuditKind.DECLARE_IDENTIFIER:
            return f"{said}: {'unique' if change.after['unique'] else 'not unique'}"
        case AuditKind.ORDER_IDENTIFIERS:
            return f"{said}: {' > '.join(change.after['order'])}"  # type: ignore[arg-type]
        case AuditKind.EDIT_PROJECT | AuditKind.EDIT_HISTORY | AuditKind.EDIT_ATTRIBUTE | AuditKind.EDIT_IDENTIFIER:
            fields = (f"{name} {_fact(change.before[name])} → {_fact(after)}" for name, after in change.after.items())
            return f"{said}: {', '.join(fields)}"
        case AuditKind.CREATE_PROJECT | AuditKind.DELETE_ATTRIBUTE | AuditKind.DELETE_IDENTIFIER:
            return said
    facts = ", ".join(_shown_field(name, change) for name in {**change.before, **change.after})
    return f"{said}: {facts}" if facts else said


def _shown_field(name: str, change: AuditEvent) -> str:
    """Return a field of an event as text: `version 5 → 6`, `rows 300`."""
    sides = (_fact(side[name]) for side in (change.before, change.after) if name in side)
    return f"{name} {' → '.join(sides)}"


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
    """Return the document of a user.

    Args:
        attributes: these only, in this order; otherwise all, including hidden ones with `hidden`.
        mask: show at most 4 characters of masked identifiers' values, as in lists.
        times: include when each attribute last changed.
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
    """Return a value in a document as text for a table."""
    return value if isinstance(value, str) else _encoder.encode(value).decode()


def plan_document(steps: Iterable[Step], refused: Iterable[Step], language: Language, *, dry_run: bool) -> PlanDocument:
    """Return the document of a plan, with the reasons of refused steps in that language."""

    def documents(of: Iterable[Step]) -> list[StepDocument]:
        return [StepDocument(step.verb, step.thing, step.name, param_text(step.detail, language)) for step in of]

    return PlanDocument(dry_run, documents(steps), documents(refused))


def cursor(cuid: int) -> str:
    """Return the cursor of the page after the user `cuid`."""
    return f"{cuid:016x}"
