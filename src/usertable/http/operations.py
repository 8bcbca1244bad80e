"""The operations of the native API: the handler of each, and the table of all of them.

A handler takes a :class:`Call` and returns a document of :mod:`usertable.wire.native`. It does not depend on HTTP, so
the command line calls the same handlers on a store.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import UNSET

from usertable.app.access import ProjectAccess
from usertable.app.batches import BatchEntry, BatchWriter
from usertable.app.imports import RowImporter
from usertable.app.people import PASSWORD_PATH
from usertable.app.service import Service
from usertable.app.writes import visible
from usertable.config import Config
from usertable.domain.actor import Actor
from usertable.domain.audit import INSTALLATION
from usertable.domain.condition import meets, parse_conditions
from usertable.domain.errors import Overloaded, ProblemKind, Refused, other_value, phrase, refusal
from usertable.domain.identity import parse_cuid
from usertable.domain.key import KeyPosition, parse_scopes
from usertable.domain.permissions import PROJECT_SCOPES, Scope
from usertable.domain.person import Person
from usertable.domain.phrases import PhraseKind
from usertable.domain.pseudo_columns import PSEUDO_COLUMNS
from usertable.domain.schema import Project
from usertable.http.exported_file import ExportedFile, export_to_file
from usertable.http.openapi import LIVE_PATH, Operation, document
from usertable.store import newest_version
from usertable.store.records import Result, User
from usertable.version import version
from usertable.wire import batch
from usertable.wire.messages import Language
from usertable.wire.native import documents, forms, history_documents, members, queries


@dataclass(frozen=True, slots=True)
class State:
    """State that can change while the server runs."""

    admin_tokens: Callable[[], Sequence[str]]
    is_stopping: Callable[[], bool]
    check_writes: Callable[[], None]
    """Raises StoreDown if the store cannot be written. Does not block."""


@dataclass(slots=True)
class Call:
    """An authorized and decoded request."""

    service: Service
    actor: Actor
    scopes: frozenset[Scope]
    """The caller's scopes."""
    path: dict[str, str]
    query: Any
    body: Any
    version: int | None = None
    """The project version that the change requires, from `If-Match`; None for any."""
    language: Language = "en"
    """Language of texts in the response."""
    check: Callable[[], None] = lambda: None
    """Raises if nobody is waiting for the response any more. Long operations call it."""

    @property
    def project_id(self) -> str:
        return self.path["project"]

    def project(self) -> Project:
        """Return the current version of the project that the path names."""
        return self.service.project(self.path["project"])


@dataclass(slots=True)
class BatchCall:
    """An authorized and decoded batch."""

    writer: BatchWriter
    importer: RowImporter
    access: ProjectAccess
    query: batch.BatchQuery
    entries: list[BatchEntry]
    imports: bool
    """Whether the entries are rows of an import."""
    register: bool
    """Whether unknown identifier values create users."""
    actor: Actor


@dataclass(slots=True)
class HandlerResult:
    """The response: a document of :mod:`usertable.wire.native`, the path of what was created, and the project's version."""

    document: msgspec.Struct | dict[str, Any] | None = None
    location: str = ""
    version: int | None = None


# The handlers. They are blocking functions, named after the operations' ids.


def list_projects(call: Call) -> HandlerResult:
    return HandlerResult(documents.ProjectList([documents.project_document(p) for p in call.service.projects()]))


def create_project(call: Call) -> HandlerResult:
    body: forms.NewProject = call.body
    project, secret = call.service.create_project(
        body.name,
        id=None if body.id is UNSET else body.id,
        secret=None if body.secret is UNSET else body.secret,
        timezone=body.timezone,
        qps=None if body.qps == "unlimited" else body.qps,
        actor=call.actor,
    )
    return HandlerResult(documents.project_document(project, secret), f"/api/v1/projects/{project.id}")


def get_project(call: Call) -> HandlerResult:
    return _project(call.project())


def _project(project: Project, secret: str | None = None) -> HandlerResult:
    return HandlerResult(documents.project_document(project, secret), version=project.version)


def edit_project(call: Call) -> HandlerResult:
    edit = forms.changes(call.body)
    if "qps" in edit and Scope.INSTALLATION not in call.scopes:
        # The limit protects the server, so a project cannot raise its own.
        raise refusal(ProblemKind.ADMIN_ONLY, hint=phrase(PhraseKind.QPS_OF_OPERATOR))
    if edit.get("qps") == "unlimited":
        del edit["qps"]
        edit["unlimited"] = True
    return _project(call.service.edit_project(call.project_id, **edit, version=call.version, actor=call.actor))


def rotate_secret(call: Call) -> HandlerResult:
    sent = forms.changes(call.body)
    rotated = call.service.rotate_secret(
        call.project_id, **sent, granted=call.scopes, version=call.version, actor=call.actor
    )
    return _project(*rotated)


def list_people(call: Call) -> HandlerResult:
    projects = _project_ids(call)
    return HandlerResult(
        documents.PersonList([documents.person_document(person, projects) for person in call.service.people()])
    )


def create_person(call: Call) -> HandlerResult:
    body: forms.NewPerson = call.body
    person = call.service.add_person(
        body.email,
        name=body.name,
        admin=body.admin,
        roles=body.roles,
        password=None if body.password is UNSET else body.password,
        actor=call.actor,
    )
    document = documents.person_document(person, _project_ids(call))
    return HandlerResult(document, f"{_PEOPLE}/{quote(person.email, safe='@')}")


def get_person(call: Call) -> HandlerResult:
    return _person(call, call.service.person(call.path["email"]))


def edit_person(call: Call) -> HandlerResult:
    return _person(call, call.service.edit_person(call.path["email"], **forms.changes(call.body), actor=call.actor))


def remove_person(call: Call) -> HandlerResult:
    call.service.remove_person(call.path["email"], actor=call.actor)
    return HandlerResult()


def make_password_link(call: Call) -> HandlerResult:
    person, token = call.service.make_password_link(call.path["email"], actor=call.actor)
    assert person.link is not None
    expires = documents.moment(person.link.expires)
    return HandlerResult(documents.PasswordLinkDocument(person.email, f"{PASSWORD_PATH}?link={token}", expires))


def sign_out_person(call: Call) -> HandlerResult:
    person = call.service.person(call.path["email"])
    return HandlerResult(documents.SessionsEnded(call.service.end_sessions(person, actor=call.actor)))


def _person(call: Call, person: Person) -> HandlerResult:
    return HandlerResult(documents.person_document(person, _project_ids(call)))


def _project_ids(call: Call) -> dict[int, str]:
    return {project.number: project.id for project in call.service.projects()}


def list_keys(call: Call) -> HandlerResult:
    query, now = call.query, call.service.now()
    found = call.service.keys(call.project(), after=query.after or "", limit=query.limit + 1)
    keys = found[: query.limit]
    more = str(KeyPosition.of(keys[-1].key)) if len(found) > query.limit else None
    return HandlerResult(documents.KeyList([documents.key_document(k.key, k.last_used, now) for k in keys], more))


def create_key(call: Call) -> HandlerResult:
    body: forms.NewKey = call.body
    key, secret = call.service.create_key(
        call.project_id,
        body.name,
        parse_scopes(body.scopes),
        expires_at=body.expiry(call.project().zone),
        secret=None if body.secret is UNSET else body.secret,
        granted=call.scopes,
        version=call.version,
        actor=call.actor,
    )
    document = documents.key_document(key, None, call.service.now(), secret)
    return HandlerResult(document, f"/api/v1/projects/{call.project_id}/keys/{key.name}")


def get_key(call: Call) -> HandlerResult:
    return _key(call)


def revoke_key(call: Call) -> HandlerResult:
    name, confirmed = call.path["name"], call.body.confirm
    call.service.revoke_key(call.project_id, name, confirmed=confirmed, version=call.version, actor=call.actor)
    return _key(call)


def _key(call: Call) -> HandlerResult:
    found = call.service.key(call.project(), call.path["name"])
    return HandlerResult(documents.key_document(found.key, found.last_used, call.service.now()))


def list_changes(call: Call) -> HandlerResult:
    changes = call.service.schema_changes(call.project_id, call.query.limit)
    return HandlerResult(documents.ChangeList([documents.change_document(c) for c in changes]))


def list_audit(call: Call) -> HandlerResult:
    return _audit(call, call.project().number)


def list_installation_audit(call: Call) -> HandlerResult:
    return _audit(call, INSTALLATION)


def _audit(call: Call, log: int) -> HandlerResult:
    query: queries.AuditQuery = call.query
    before = None if query.before is UNSET else query.before
    after = None if query.after is UNSET else query.after
    found = call.service.audit(log, query.wanted(), query.limit, before=before, after=after)
    return HandlerResult(documents.audit_page(found, query.limit, addresses=Scope.KEYS in call.scopes))


def list_attributes(call: Call) -> HandlerResult:
    project = call.project()
    query: queries.AttributeQuery = call.query
    selected = documents.select_attributes(
        project,
        search=query.search,
        status=query.status,
        type=None if query.type is UNSET else query.type,
        rule=None if query.rule is UNSET else query.rule,
    )
    return HandlerResult(documents.AttributeList([documents.attribute_document(a, project) for a in selected]))


def declare_attribute(call: Call) -> HandlerResult:
    body: forms.NewAttribute = call.body
    attribute = call.service.declare_attribute(call.project_id, body.attribute(), version=call.version, actor=call.actor)
    location = f"/api/v1/projects/{call.project_id}/attributes/{attribute.name}"
    return HandlerResult(documents.attribute_document(attribute, call.project()), location)


def get_attribute(call: Call) -> HandlerResult:
    project = call.project()
    return HandlerResult(documents.attribute_document(project.schema.attribute(call.path["name"]), project))


def edit_attribute(call: Call) -> HandlerResult:
    edit = forms.changes(call.body)
    name = call.path["name"]
    attribute = call.service.edit_attribute(call.project_id, name, **edit, version=call.version, actor=call.actor)
    return HandlerResult(documents.attribute_document(attribute, call.project()))


def delete_attribute(call: Call) -> HandlerResult:
    call.service.delete_attribute(call.project_id, call.path["name"], version=call.version, actor=call.actor)
    return HandlerResult()


def list_identifiers(call: Call) -> HandlerResult:
    return HandlerResult(documents.IdentifierList(documents.identifier_documents(call.project().schema.identifiers)))


def declare_identifier(call: Call) -> HandlerResult:
    body: forms.NewIdentifier = call.body
    identifier = call.service.declare_identifier(call.project_id, body.identifier(), version=call.version, actor=call.actor)
    location = f"/api/v1/projects/{call.project_id}/identifiers/{identifier.name}"
    return HandlerResult(_identifier(call.project(), identifier.name), location)


def get_identifier(call: Call) -> HandlerResult:
    return HandlerResult(_identifier(call.project(), call.path["name"]))


def edit_identifier(call: Call) -> HandlerResult:
    edit = forms.changes(call.body)
    call.service.edit_identifier(call.project_id, call.path["name"], **edit, version=call.version, actor=call.actor)
    return HandlerResult(_identifier(call.project(), call.path["name"]))


def delete_identifier(call: Call) -> HandlerResult:
    call.service.delete_identifier(call.project_id, call.path["name"], version=call.version, actor=call.actor)
    return HandlerResult()


def order_identifiers(call: Call) -> HandlerResult:
    project = call.service.order_identifiers(call.project_id, call.body.names, version=call.version, actor=call.actor)
    return HandlerResult(documents.IdentifierList(documents.identifier_documents(project.schema.identifiers)))


def _identifier(project: Project, name: str) -> documents.IdentifierDocument:
    project.schema.identifier(name)
    return next(i for i in documents.identifier_documents(project.schema.identifiers) if i.name == name)


def get_schema(call: Call) -> HandlerResult:
    return HandlerResult(forms.schema_form(call.project().schema))


def put_schema(call: Call) -> HandlerResult:
    body: forms.SchemaForm = call.body
    wanted = body.schema()
    if members.is_set(call.query.dry_run):
        steps, refused = call.service.plan_schema(call.project_id, wanted, version=call.version)
        return HandlerResult(documents.plan_document(steps, refused, call.language, dry_run=True))
    done = call.service.apply_schema(call.project_id, wanted, version=call.version, actor=call.actor)
    return HandlerResult(documents.plan_document(done, [], call.language, dry_run=False))


def list_users(call: Call) -> HandlerResult:
    project = call.project()
    query: queries.UserQuery = call.query
    columns, hidden = _columns(project, query)
    conditions = parse_conditions(query.where, project.schema, project.zone)
    after, following = query.after_cuid(), None
    if query.identifier is UNSET and query.value is UNSET:
        page = call.service.users(project, after=after, limit=query.limit, conditions=conditions)
        users, following = page.users, page.next
    elif query.identifier is UNSET or query.value is UNSET:
        raise refusal(ProblemKind.PARAMETER, name="identifier, value", expected=phrase(PhraseKind.IDENTIFIER_AND_VALUE))
    else:
        found = _find_user(call.service, project, query.identifier, query.value)
        users = [u for u in found if u.cuid > after and meets(u.cuid, u.profile, conditions)]
    listed = [documents.user_document(u, project, columns, hidden=hidden, mask=True) for u in users]
    return HandlerResult(documents.UserPage(listed, None if following is None else documents.cursor(following)))


def _find_user(service: Service, project: Project, identifier: str, value: str) -> list[User]:
    """Return the user that the value points to; an empty list if there is none."""
    try:
        return [service.find_user(project, identifier, value)]
    except Refused as refused:
        if refused.problems[0].kind is ProblemKind.CUID_UNKNOWN:
            return []
        raise


def get_user(call: Call) -> HandlerResult:
    project = call.project()
    query: queries.UserReadQuery = call.query
    columns, hidden = _columns(project, query)
    if query.as_of is not UNSET:
        at = call.service.moment(project, "as_of", query.as_of)
        past = call.service.user_as_of(project, _cuid(call), at)
        return HandlerResult(history_documents.past_user_document(past, project, columns, at, hidden=hidden))
    return HandlerResult(
        documents.user_document(call.service.user(project, _cuid(call)), project, columns, hidden=hidden, times=True)
    )


def list_user_changes(call: Call) -> HandlerResult:
    project = call.project()
    query: queries.UserChangeQuery = call.query
    attribute = None if query.attribute is UNSET else query.attribute
    found = call.service.changes(
        project,
        _cuid(call),
        before=None if query.before is UNSET else query.before,
        limit=query.limit,
        attribute=attribute,
        actor=None if query.actor is UNSET else query.actor,
    )
    shown = history_documents.shown_attributes(project, hidden=members.is_set(query.hidden))
    if attribute is not None:
        shown = {attribute: project.schema.attribute(attribute)}
    changes = [
        history_documents.user_change_document(c.change, c.unrecorded, c.not_kept, project, shown) for c in found.changes
    ]
    not_kept = [name for name in found.not_kept if name in shown]
    # Read after the changes, so that none of what is said to be kept was removed while they were read.
    since = documents.moment(call.service.kept_since(project))
    return HandlerResult(history_documents.UserChangeList(changes, found.next, found.is_whole, not_kept, since))


def compare_user(call: Call) -> HandlerResult:
    project = call.project()
    query: queries.DifferenceQuery = call.query
    start = call.service.moment(project, "from", query.start)
    end = call.service.now() if query.end is UNSET else call.service.moment(project, "to", query.end)
    if query.end is not UNSET and end < start:
        expected = other_value(phrase(PhraseKind.NOT_BEFORE, name="from"), query.end)
        raise refusal(ProblemKind.PARAMETER, name="to", expected=expected)
    found = call.service.user_difference(project, _cuid(call), start, end)
    shown = history_documents.shown_attributes(project, hidden=members.is_set(query.hidden))
    return HandlerResult(
        history_documents.difference_document(found.first, found.second, found.attributes, project, start, end, shown)
    )


def get_history(call: Call) -> HandlerResult:
    return _history(call, call.project())


def edit_history(call: Call) -> HandlerResult:
    edit = forms.changes(call.body)
    if "reports" in edit:
        edit["all_reports"] = edit.pop("reports") == "all"
    project = call.service.edit_history(call.project_id, **edit, version=call.version, actor=call.actor)
    return _history(call, project)


def prune_history(call: Call) -> HandlerResult:
    project = call.project()
    before = call.service.moment(project, "before", call.body.before)
    removed = call.service.prune_history(project, before, call.actor)
    since = documents.moment(call.service.kept_since(project))
    return HandlerResult(history_documents.PrunedHistoryDocument(removed.blocks, removed.changes, removed.bytes, since))


def _history(call: Call, project: Project) -> HandlerResult:
    status = call.service.history(project)
    return HandlerResult(
        history_documents.history_document(
            status.settings, status.since, status.figures, status.bytes_per_day, status.forecast
        )
    )


def add_user(call: Call) -> HandlerResult:
    project = call.project()
    body: forms.NewUser = call.body
    user = call.service.add_user(project, body.cuid, body.identifiers, actor=call.actor)
    return HandlerResult(
        documents.user_document(user, project, times=True), f"/api/v1/projects/{project.id}/users/{user.cuid}"
    )


def erase_user(call: Call) -> HandlerResult:
    call.service.erase_user(call.project(), _cuid(call), actor=call.actor)
    return HandlerResult()


def register_users(call: Call) -> HandlerResult:
    body: forms.Registration = call.body
    cuids = call.service.register(call.project(), body.identifier, body.values, actor=call.actor)
    users = [documents.RegisteredUser(value, cuid) for value, cuid in zip(body.values, cuids, strict=True)]
    return HandlerResult(documents.RegisteredUsers(users))


async def write_users(call: BatchCall) -> list[tuple[int | None, Result]]:
    write = call.importer.import_rows if call.imports else call.writer.set_many
    dry_run = members.is_set(call.query.dry_run)
    found = await write(call.access, call.entries, register=call.register, actor=call.actor, dry_run=dry_run)
    return [(cuid, visible(call.access, result)) for cuid, result in found]


def _columns(project: Project, query: queries.ColumnQuery) -> tuple[list[str] | None, bool]:
    """Return the attributes requested by name, or None, and whether hidden ones are requested."""
    if query.attributes is UNSET:
        return None, members.is_set(query.hidden)
    names = query.attributes.split(",") if query.attributes else []
    # Pseudo-columns are in every response.
    return [project.schema.attribute(name).name for name in names if name not in PSEUDO_COLUMNS], False


def export_users(call: Call) -> ExportedFile:
    moment = None
    if call.query.as_of is not UNSET:
        # Before the snapshot, which then has everything up to the moment.
        moment = call.service.moment(call.service.project(call.project_id), "as_of", call.query.as_of)
    with call.service.snapshot(call.project_id) as snapshot:
        return export_to_file(snapshot, call.query, call.check, moment)


def _cuid(call: Call) -> int:
    text = call.path["cuid"]
    cuid = parse_cuid(text)
    if cuid is None:
        raise refusal(ProblemKind.CUID_UNKNOWN, cuid=text)
    return cuid


def ready(state: State) -> documents.Health:
    if state.is_stopping():
        raise Overloaded("the server was told to stop")
    state.check_writes()
    return documents.Health("ready")


def build(config: Config) -> documents.Build:
    return documents.Build(version(), *newest_version(config.store))


def live(call: Call) -> HandlerResult:
    return HandlerResult(documents.Live())


@functools.cache
def openapi(public_url: str) -> bytes:
    return documents.encode(document(OPERATIONS, public_url or "/"))


_ANYBODY: frozenset[Scope] = frozenset()
_ADMIN = frozenset({Scope.INSTALLATION})
_READ = frozenset({Scope.READ})
_SCHEMA = frozenset({Scope.SCHEMA})
_KEYS_SCOPE = frozenset({Scope.KEYS})
_PROJECTS = "/api/v1/projects"
_PROJECT = "/api/v1/projects/{project}"
_PEOPLE = "/api/v1/people"
_PERSON = "/api/v1/people/{email}"
_KEYS = f"{_PROJECT}/keys"
_KEY = f"{_PROJECT}/keys/{{name}}"
_ATTRIBUTES = f"{_PROJECT}/attributes"
_ATTRIBUTE = f"{_PROJECT}/attributes/{{name}}"
_IDENTIFIERS = f"{_PROJECT}/identifiers"
_IDENTIFIER = f"{_PROJECT}/identifiers/{{name}}"
_USERS = f"{_PROJECT}/users"
_USER = f"{_PROJECT}/users/{{cuid}}"

_NEW_NAME = (
    ProblemKind.NAME_FORM,
    ProblemKind.NAME_PRESET,
    ProblemKind.NAME_TAKEN,
    ProblemKind.TEXT_TOO_LONG,
    ProblemKind.PARAMETER,
)
_AS_OF = (
    ProblemKind.PARAMETER,
    ProblemKind.MOMENT_SKIPPED,
    ProblemKind.MOMENT_AHEAD,
    ProblemKind.USER_NOT_YET,
    ProblemKind.HISTORY_OFF,
    ProblemKind.HISTORY_GONE,
)
_NEW_ATTRIBUTE = (*_NEW_NAME, ProblemKind.RULE_ILLEGAL, ProblemKind.LIMIT_ILLEGAL, ProblemKind.TOO_MANY_ATTRIBUTES)

OPERATIONS = (
    Operation("GET", _PROJECTS, "projects", "List all projects", list_projects, documents.ProjectList, needs=_ADMIN),
    Operation(
        *("POST", _PROJECTS, "projects", "Create a project; shows its secret this once", create_project),
        *(documents.ProjectDocument, 201),
        needs=_ADMIN,
        body=forms.NewProject,
        refuses=(
            ProblemKind.PROJECT_ID,
            ProblemKind.PROJECT_NAME,
            ProblemKind.PROJECT_EXISTS,
            ProblemKind.SECRET,
            ProblemKind.TIMEZONE,
            ProblemKind.QPS,
        ),
    ),
    Operation("GET", _PROJECT, "projects", "Show a project", get_project, documents.ProjectDocument, needs=PROJECT_SCOPES),
    Operation(
        *("PATCH", _PROJECT, "projects", "Change settings of a project", edit_project, documents.ProjectDocument),
        needs=_KEYS_SCOPE,
        body=forms.ProjectEdit,
        refuses=(ProblemKind.PROJECT_NAME, ProblemKind.TIMEZONE, ProblemKind.QPS),
    ),
    Operation(
        *(
            "POST",
            f"{_PROJECT}/secret:rotate",
            "projects",
            "Replace the secret of `default`; shows the new one this once",
        ),
        *(rotate_secret, documents.ProjectDocument),
        needs=_KEYS_SCOPE,
        body=forms.SecretRotation,
        body_optional=True,
        refuses=(
            ProblemKind.SECRET,
            ProblemKind.OVERLAP,
            ProblemKind.KEY_SECRET,
            ProblemKind.KEY_REVOKED,
            ProblemKind.SCOPE_EXCEEDED,
        ),
    ),
    Operation("GET", _PEOPLE, "people", "List everybody", list_people, documents.PersonList, needs=_ADMIN),
    Operation(
        *("POST", _PEOPLE, "people", "Add a person, with a password or without", create_person),
        *(documents.PersonDocument, 201),
        needs=_ADMIN,
        body=forms.NewPerson,
        refuses=(
            ProblemKind.EMAIL,
            ProblemKind.PERSON_NAME,
            ProblemKind.PERSON_EXISTS,
            ProblemKind.PASSWORD,
            ProblemKind.ROLE,
            ProblemKind.PROJECT_UNKNOWN,
        ),
    ),
    Operation(
        *("POST", f"{_PERSON}:link", "people", "Make a link for setting a password; shows it this once"),
        *(make_password_link, documents.PasswordLinkDocument),
        needs=_ADMIN,
        refuses=(ProblemKind.PERSON_UNKNOWN,),
    ),
    Operation(
        *("POST", f"{_PERSON}:sign-out", "people", "End all sessions of a person"),
        *(sign_out_person, documents.SessionsEnded),
        needs=_ADMIN,
        refuses=(ProblemKind.PERSON_UNKNOWN,),
    ),
    Operation(
        *("GET", _PERSON, "people", "Show a person", get_person, documents.PersonDocument),
        needs=_ADMIN,
        refuses=(ProblemKind.PERSON_UNKNOWN,),
    ),
    Operation(
        *("PATCH", _PERSON, "people", "Change a person's name, roles or state", edit_person, documents.PersonDocument),
        needs=_ADMIN,
        body=forms.PersonEdit,
        refuses=(
            ProblemKind.PERSON_UNKNOWN,
            ProblemKind.PERSON_NAME,
            ProblemKind.LAST_ADMIN,
            ProblemKind.ROLE,
            ProblemKind.PROJECT_UNKNOWN,
        ),
    ),
    Operation(
        *("DELETE", _PERSON, "people", "Remove a person, and end their sessions", remove_person, None, 204),
        needs=_ADMIN,
        refuses=(ProblemKind.PERSON_UNKNOWN, ProblemKind.LAST_ADMIN),
    ),
    Operation(
        *("GET", _KEYS, "keys", "List keys, revoked ones too", list_keys, documents.KeyList),
        query=queries.KeyQuery,
        needs=_KEYS_SCOPE,
    ),
    Operation(
        *("POST", _KEYS, "keys", "Create a key; shows its secret this once", create_key, documents.KeyDocument, 201),
        needs=_KEYS_SCOPE,
        body=forms.NewKey,
        refuses=(
            ProblemKind.KEY_NAME,
            ProblemKind.KEY_EXISTS,
            ProblemKind.KEY_EXPIRY,
            ProblemKind.KEY_SECRET,
            ProblemKind.SCOPE,
            ProblemKind.SCOPE_EXCEEDED,
            ProblemKind.SECRET,
            ProblemKind.TOO_MANY_KEYS,
            ProblemKind.TOO_MANY_OWN_SECRETS,
        ),
    ),
    Operation(
        *("POST", f"{_KEY}:revoke", "keys", "Revoke a key: its secret stops working within a second"),
        *(revoke_key, documents.KeyDocument),
        needs=_KEYS_SCOPE,
        body=forms.Revocation,
        body_optional=True,
        refuses=(ProblemKind.KEY_UNKNOWN, ProblemKind.LAST_KEY),
    ),
    Operation(
        *("GET", _KEY, "keys", "Show a key", get_key, documents.KeyDocument),
        needs=_KEYS_SCOPE,
        refuses=(ProblemKind.KEY_UNKNOWN,),
    ),
    Operation(
        *("GET", f"{_PROJECT}/changes", "projects", "Who changed what of the project and its schema, newest first"),
        *(list_changes, documents.ChangeList),
        needs=_READ,
        query=queries.ChangeQuery,
    ),
    Operation(
        *("GET", f"{_PROJECT}/audit", "audit", "Who did what in a project", list_audit, documents.AuditPage),
        needs=_READ,
        query=queries.AuditQuery,
        refuses=(ProblemKind.PARAMETER,),
    ),
    Operation(
        *("GET", "/api/v1/audit", "audit", "Who did what in the installation", list_installation_audit, documents.AuditPage),
        needs=_ADMIN,
        query=queries.AuditQuery,
        refuses=(ProblemKind.PARAMETER,),
    ),
    Operation(
        *("GET", _ATTRIBUTES, "attributes", "List attributes", list_attributes, documents.AttributeList),
        needs=PROJECT_SCOPES,
        query=queries.AttributeQuery,
    ),
    Operation(
        *("POST", _ATTRIBUTES, "attributes", "Declare an attribute", declare_attribute, documents.AttributeDocument, 201),
        needs=_SCHEMA,
        body=forms.NewAttribute,
        refuses=_NEW_ATTRIBUTE,
    ),
    Operation(
        *("GET", _ATTRIBUTE, "attributes", "Show an attribute", get_attribute, documents.AttributeDocument),
        needs=PROJECT_SCOPES,
        refuses=(ProblemKind.ATTRIBUTE_UNKNOWN,),
    ),
    Operation(
        *("PATCH", _ATTRIBUTE, "attributes", "Change display name, description or status"),
        *(edit_attribute, documents.AttributeDocument),
        needs=_SCHEMA,
        body=forms.AttributeEdit,
        refuses=(ProblemKind.ATTRIBUTE_UNKNOWN, ProblemKind.TEXT_TOO_LONG, ProblemKind.PARAMETER),
    ),
    Operation(
        *("DELETE", _ATTRIBUTE, "attributes", "Delete an attribute for which no value was ever reported"),
        *(delete_attribute, None, 204),
        needs=_SCHEMA,
        refuses=(ProblemKind.ATTRIBUTE_UNKNOWN, ProblemKind.ATTRIBUTE_IN_USE),
    ),
    Operation(
        *("GET", _IDENTIFIERS, "identifiers", "List identifiers by priority", list_identifiers, documents.IdentifierList),
        needs=PROJECT_SCOPES,
    ),
    Operation(
        *("POST", _IDENTIFIERS, "identifiers", "Declare an identifier, below the declared ones and above the presets"),
        *(declare_identifier, documents.IdentifierDocument, 201),
        needs=_SCHEMA,
        body=forms.NewIdentifier,
        refuses=_NEW_NAME,
    ),
    Operation(
        *("PUT", f"{_PROJECT}/identifiers:order", "identifiers", "Set the priority order"),
        *(order_identifiers, documents.IdentifierList),
        needs=_SCHEMA,
        body=forms.IdentifierOrder,
        refuses=(ProblemKind.IDENTIFIER_ORDER,),
    ),
    Operation(
        *("GET", _IDENTIFIER, "identifiers", "Show an identifier", get_identifier, documents.IdentifierDocument),
        needs=PROJECT_SCOPES,
        refuses=(ProblemKind.IDENTIFIER_UNKNOWN,),
    ),
    Operation(
        *("PATCH", _IDENTIFIER, "identifiers", "Change display name or masking"),
        *(edit_identifier, documents.IdentifierDocument),
        needs=_SCHEMA,
        body=forms.IdentifierEdit,
        refuses=(ProblemKind.IDENTIFIER_UNKNOWN, ProblemKind.TEXT_TOO_LONG, ProblemKind.PARAMETER),
    ),
    Operation(
        *("DELETE", _IDENTIFIER, "identifiers", "Delete an identifier that no user has a value of"),
        *(delete_identifier, None, 204),
        needs=_SCHEMA,
        refuses=(ProblemKind.IDENTIFIER_UNKNOWN, ProblemKind.IDENTIFIER_PRESET, ProblemKind.IDENTIFIER_IN_USE),
    ),
    Operation(
        *("GET", f"{_PROJECT}/schema", "schema", "The whole schema, as PUT takes it", get_schema, forms.SchemaForm),
        needs=PROJECT_SCOPES,
    ),
    Operation(
        *("PUT", f"{_PROJECT}/schema", "schema", "Turn the schema into another, whole or not at all; never deletes"),
        *(put_schema, documents.PlanDocument),
        needs=_SCHEMA,
        query=queries.SchemaQuery,
        body=forms.SchemaForm,
        refuses=(*_NEW_ATTRIBUTE, ProblemKind.ATTRIBUTE_FIXED),
    ),
    Operation(
        *("GET", _USERS, "users", "A page of the user table, by CUID; masked identifiers show 4 characters"),
        *(list_users, documents.UserPage),
        needs=_READ,
        query=queries.UserQuery,
        refuses=(
            ProblemKind.ATTRIBUTE_UNKNOWN,
            ProblemKind.CONDITION,
            ProblemKind.IDENTIFIER_UNKNOWN,
            ProblemKind.PARAMETER,
        ),
    ),
    Operation(
        *(
            "GET",
            f"{_USERS}:export",
            "users",
            "The user table as a CSV, NDJSON or Parquet file, as of the request or an earlier moment",
        ),
        *(export_users, None),
        needs=_READ,
        query=queries.ExportQuery,
        file=True,
        refuses=(
            ProblemKind.ATTRIBUTE_UNKNOWN,
            ProblemKind.CONDITION,
            ProblemKind.IDENTIFIER_UNKNOWN,
            ProblemKind.PARQUET_LIBRARY,
            ProblemKind.HISTORY_OFF,
            ProblemKind.HISTORY_GONE,
            ProblemKind.HISTORY_GAP,
            ProblemKind.ATTRIBUTE_NOT_KEPT,
            ProblemKind.MOMENT_AHEAD,
            ProblemKind.MOMENT_SKIPPED,
            ProblemKind.PARAMETER,
        ),
    ),
    Operation(
        *("POST", _USERS, "users", "Import a user with the CUID it has", add_user, documents.UserDocument, 201),
        needs=frozenset({Scope.IMPORT}),
        body=forms.NewUser,
        refuses=(
            ProblemKind.CUID_EXISTS,
            ProblemKind.CUID_ERASED,
            ProblemKind.IDENTIFIER_UNKNOWN,
            ProblemKind.IDENTIFIER_TAKEN,
        ),
    ),
    Operation(
        *("POST", f"{_USERS}:register", "users", "Exchange an identifier's values for CUIDs; a new value creates a user"),
        *(register_users, documents.RegisteredUsers),
        needs=frozenset({Scope.REGISTER}),
        body=forms.Registration,
        refuses=(
            ProblemKind.IDENTIFIER_UNKNOWN,
            ProblemKind.IDENTIFIER_NOT_UNIQUE,
            ProblemKind.IDENTIFIER_NOT_FIRST,
        ),
    ),
    Operation(
        *("POST", f"{_USERS}:batch", "users", "Set attributes of up to 1,000 users, or import them, each record by itself"),
        *(write_users, batch.BatchAnswer),
        needs=frozenset({Scope.WRITE, Scope.IMPORT}),
        query=batch.BatchQuery,
        body=batch.Batch,
        batch=True,
        refuses=(ProblemKind.KEY_MALFORMED, ProblemKind.BODY_BROKEN, ProblemKind.PARAMETER, ProblemKind.BODY_VALUES),
    ),
    Operation(
        *("GET", f"{_USER}/changes", "history", "Who changed what of a user, newest first"),
        *(list_user_changes, history_documents.UserChangeList),
        needs=_READ,
        query=queries.UserChangeQuery,
        refuses=(
            ProblemKind.CUID_UNKNOWN,
            ProblemKind.ATTRIBUTE_UNKNOWN,
            ProblemKind.HISTORY_OFF,
            ProblemKind.PARAMETER,
        ),
    ),
    Operation(
        *("GET", f"{_USER}:diff", "history", "How a user differs between two moments"),
        *(compare_user, history_documents.UserDifferenceDocument),
        needs=_READ,
        query=queries.DifferenceQuery,
        refuses=(ProblemKind.CUID_UNKNOWN, *_AS_OF),
    ),
    Operation(
        *("GET", _USER, "users", "Show a user, now or as of an earlier moment", get_user, documents.UserDocument),
        needs=_READ,
        query=queries.UserReadQuery,
        refuses=(ProblemKind.CUID_UNKNOWN, ProblemKind.ATTRIBUTE_UNKNOWN, *_AS_OF),
    ),
    Operation(
        *("GET", f"{_PROJECT}/history", "history", "How much history is kept, and its settings"),
        *(get_history, history_documents.HistoryDocument),
        needs=_READ,
    ),
    Operation(
        *("PATCH", f"{_PROJECT}/history", "history", "Change how much history is kept"),
        *(edit_history, history_documents.HistoryDocument),
        needs=_KEYS_SCOPE,
        body=forms.HistoryEdit,
        refuses=(ProblemKind.PARAMETER,),
    ),
    Operation(
        *("POST", f"{_PROJECT}/history:prune", "history", "Remove the history before a moment, for good"),
        *(prune_history, history_documents.PrunedHistoryDocument),
        needs=_KEYS_SCOPE,
        body=forms.HistoryPruning,
        unguarded=True,
        refuses=(ProblemKind.PARAMETER, ProblemKind.MOMENT_SKIPPED, ProblemKind.MOMENT_AHEAD, ProblemKind.HISTORY_OFF),
    ),
    Operation(
        *("DELETE", _USER, "users", "Erase a user for good; the CUID is never used again", erase_user, None, 204),
        needs=frozenset({Scope.ERASE}),
        refuses=(ProblemKind.CUID_UNKNOWN,),
    ),
    Operation(
        *(
            "GET",
            "/readyz",
            "server",
            "Whether the server can work: its store can be reached and takes writes",
            ready,
            documents.Health,
            200,
        ),
        needs=_ANYBODY,
    ),
    Operation(
        *(
            "GET",
            "/version",
            "server",
            "Which build answers, and which engine and version its store has",
            build,
            documents.Build,
            200,
        ),
        needs=_ANYBODY,
    ),
    Operation(
        *("GET", "/openapi.json", "server", "This document", openapi, documents.OpenAPI, 200),
        needs=_ANYBODY,
    ),
)
"""All operations of the native API, in the order of the OpenAPI document."""

BY_ID = {operation.id: operation for operation in OPERATIONS}
"""Operations by id."""

LIVE = Operation("GET", LIVE_PATH, "server", "", live, documents.Live, needs=_ANYBODY)
