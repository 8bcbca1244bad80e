"""The operations of the native API: what each does, and the table of them all.

A handler takes a :class:`Call` and gives a document of :mod:`usertable.wire.native`. It knows nothing of HTTP, so the
command line calls the same ones on a store.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET

from usertable.app.access import ProjectAccess
from usertable.app.batches import BatchEntry, BatchWriter
from usertable.app.imports import RowImporter
from usertable.app.service import Service
from usertable.config import Config
from usertable.domain.condition import meets, parse_conditions
from usertable.domain.errors import Overloaded, ProblemKind, Refused, refusal
from usertable.domain.identity import parse_cuid
from usertable.domain.pseudo_columns import PSEUDO_COLUMNS
from usertable.domain.schema import Project
from usertable.http.openapi import LIVE_PATH, Operation, document
from usertable.store import newest_version
from usertable.store.records import Result, User
from usertable.version import version
from usertable.wire import batch
from usertable.wire.native import documents, forms, members, queries


@dataclass(frozen=True, slots=True)
class State:
    """What may change while the server runs."""

    admin_tokens: Callable[[], Sequence[str]]
    is_stopping: Callable[[], bool]
    check_writes: Callable[[], None]
    """Returns if writes can be made, else raises StoreDown; at once."""


@dataclass(slots=True)
class Call:
    """A request that was let in and understood."""

    service: Service
    actor: str
    """Who it is, for the record of changes: `admin`, or `project` and its id."""
    is_admin: bool
    """Whether it may do what is the operator's to do."""
    path: dict[str, str]
    query: Any
    body: Any
    version: int | None = None
    """The version of the project that a change was made for, by `If-Match`."""

    @property
    def project_id(self) -> str:
        return self.path["project"]

    def project(self) -> Project:
        """The project that the path names, as it is now."""
        return self.service.project(self.path["project"])


@dataclass(slots=True)
class BatchCall:
    """A batch that was let in and understood."""

    writer: BatchWriter
    importer: RowImporter
    access: ProjectAccess
    query: batch.BatchQuery
    entries: list[BatchEntry]
    imports: bool
    """Whether they are rows of an import."""
    register: bool
    """Whether what is not there is made."""


@dataclass(slots=True)
class HandlerResult:
    """What to answer: a document of :mod:`usertable.wire.native`, the path of what was created, the project's version."""

    document: msgspec.Struct | dict[str, Any] | None = None
    location: str = ""
    version: int | None = None


# The handlers: blocking functions. The names are the operations' ids.


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
    if "qps" in edit and not call.is_admin:
        # The limit protects the server from its projects.
        raise refusal(ProblemKind.ADMIN_ONLY, hint="the QPS limit is the operator's to set")
    if edit.get("qps") == "unlimited":
        del edit["qps"]
        edit["unlimited"] = True
    return _project(call.service.edit_project(call.project_id, **edit, version=call.version, actor=call.actor))


def rotate_secret(call: Call) -> HandlerResult:
    sent = forms.changes(call.body)
    return _project(*call.service.rotate_secret(call.project_id, **sent, version=call.version, actor=call.actor))


def list_changes(call: Call) -> HandlerResult:
    changes = call.service.schema_changes(call.project_id, call.query.limit)
    return HandlerResult(documents.ChangeList([documents.change_document(c) for c in changes]))


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
        return HandlerResult(documents.plan_document(steps, refused, dry_run=True))
    done = call.service.apply_schema(call.project_id, wanted, version=call.version, actor=call.actor)
    return HandlerResult(documents.plan_document(done, [], dry_run=False))


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
        raise refusal(ProblemKind.PARAMETER, name="identifier, value", expected="both of them, or neither")
    else:
        found = _find_user(call.service, project, query.identifier, query.value)
        users = [u for u in found if u.cuid > after and meets(u.cuid, u.profile, conditions)]
    listed = [documents.user_document(u, project, columns, hidden=hidden, mask=True) for u in users]
    return HandlerResult(documents.UserPage(listed, None if following is None else documents.cursor(following)))


def _find_user(service: Service, project: Project, identifier: str, value: str) -> list[User]:
    """The user that the value points to, if there is one."""
    try:
        return [service.find_user(project, identifier, value)]
    except Refused as refused:
        if refused.problems[0].kind is ProblemKind.CUID_UNKNOWN:
            return []
        raise


def get_user(call: Call) -> HandlerResult:
    project = call.project()
    columns, hidden = _columns(project, call.query)
    return HandlerResult(
        documents.user_document(call.service.user(project, _cuid(call)), project, columns, hidden=hidden, times=True)
    )


def add_user(call: Call) -> HandlerResult:
    project = call.project()
    body: forms.NewUser = call.body
    user = call.service.add_user(project, body.cuid, body.identifiers)
    return HandlerResult(
        documents.user_document(user, project, times=True), f"/api/v1/projects/{project.id}/users/{user.cuid}"
    )


def erase_user(call: Call) -> HandlerResult:
    call.service.erase_user(call.project(), _cuid(call))
    return HandlerResult()


def register_users(call: Call) -> HandlerResult:
    body: forms.Registration = call.body
    cuids = call.service.register(call.project(), body.identifier, body.values)
    users = [documents.RegisteredUser(value, cuid) for value, cuid in zip(body.values, cuids, strict=True)]
    return HandlerResult(documents.RegisteredUsers(users))


async def write_users(call: BatchCall) -> list[tuple[int | None, Result]]:
    write = call.importer.import_rows if call.imports else call.writer.set_many
    return await write(call.access, call.entries, register=call.register, dry_run=members.is_set(call.query.dry_run))


def _columns(project: Project, query: queries.ColumnQuery) -> tuple[list[str] | None, bool]:
    """The attributes that are asked for by name, or None; and whether hidden ones are asked for."""
    if query.attributes is UNSET:
        return None, members.is_set(query.hidden)
    names = query.attributes.split(",") if query.attributes else []
    # A pseudo-column is in every answer.
    return [project.schema.attribute(name).name for name in names if name not in PSEUDO_COLUMNS], False


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


def openapi(call: Call) -> HandlerResult:
    return HandlerResult(_document())


@functools.cache
def _document() -> dict[str, Any]:
    return document(OPERATIONS)


_PROJECTS = "/api/v1/projects"
_PROJECT = "/api/v1/projects/{project}"
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
_NEW_ATTRIBUTE = (*_NEW_NAME, ProblemKind.RULE_ILLEGAL, ProblemKind.LIMIT_ILLEGAL, ProblemKind.TOO_MANY_ATTRIBUTES)

OPERATIONS = (
    Operation("GET", _PROJECTS, "projects", "List all projects", list_projects, documents.ProjectList, access="admin"),
    Operation(
        *("POST", _PROJECTS, "projects", "Create a project; shows its secret this once", create_project),
        *(documents.ProjectDocument, 201, "admin"),
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
    Operation("GET", _PROJECT, "projects", "Show a project", get_project, documents.ProjectDocument),
    Operation(
        *("PATCH", _PROJECT, "projects", "Change settings of a project", edit_project, documents.ProjectDocument),
        body=forms.ProjectEdit,
        refuses=(ProblemKind.PROJECT_NAME, ProblemKind.TIMEZONE, ProblemKind.QPS),
    ),
    Operation(
        *("POST", f"{_PROJECT}/secret:rotate", "projects", "Replace the secret; shows the new one this once"),
        *(rotate_secret, documents.ProjectDocument),
        body=forms.SecretRotation,
        body_optional=True,
        refuses=(ProblemKind.SECRET,),
    ),
    Operation(
        *("GET", f"{_PROJECT}/changes", "projects", "Who changed what of the project and its schema, newest first"),
        *(list_changes, documents.ChangeList),
        query=queries.ChangeQuery,
    ),
    Operation(
        *("GET", _ATTRIBUTES, "attributes", "List attributes", list_attributes, documents.AttributeList),
        query=queries.AttributeQuery,
    ),
    Operation(
        *("POST", _ATTRIBUTES, "attributes", "Declare an attribute", declare_attribute, documents.AttributeDocument, 201),
        body=forms.NewAttribute,
        refuses=_NEW_ATTRIBUTE,
    ),
    Operation(
        *("GET", _ATTRIBUTE, "attributes", "Show an attribute", get_attribute, documents.AttributeDocument),
        refuses=(ProblemKind.ATTRIBUTE_UNKNOWN,),
    ),
    Operation(
        *("PATCH", _ATTRIBUTE, "attributes", "Change display name, description or status"),
        *(edit_attribute, documents.AttributeDocument),
        body=forms.AttributeEdit,
        refuses=(ProblemKind.ATTRIBUTE_UNKNOWN, ProblemKind.TEXT_TOO_LONG, ProblemKind.PARAMETER),
    ),
    Operation(
        *("DELETE", _ATTRIBUTE, "attributes", "Delete an attribute for which no value was ever reported"),
        *(delete_attribute, None, 204),
        refuses=(ProblemKind.ATTRIBUTE_UNKNOWN, ProblemKind.ATTRIBUTE_IN_USE),
    ),
    Operation(
        "GET", _IDENTIFIERS, "identifiers", "List identifiers by priority", list_identifiers, documents.IdentifierList
    ),
    Operation(
        *("POST", _IDENTIFIERS, "identifiers", "Declare an identifier, below the declared ones and above the presets"),
        *(declare_identifier, documents.IdentifierDocument, 201),
        body=forms.NewIdentifier,
        refuses=_NEW_NAME,
    ),
    Operation(
        *("PUT", f"{_PROJECT}/identifiers:order", "identifiers", "Set the priority order"),
        *(order_identifiers, documents.IdentifierList),
        body=forms.IdentifierOrder,
        refuses=(ProblemKind.IDENTIFIER_ORDER,),
    ),
    Operation(
        *("GET", _IDENTIFIER, "identifiers", "Show an identifier", get_identifier, documents.IdentifierDocument),
        refuses=(ProblemKind.IDENTIFIER_UNKNOWN,),
    ),
    Operation(
        *("PATCH", _IDENTIFIER, "identifiers", "Change display name or masking"),
        *(edit_identifier, documents.IdentifierDocument),
        body=forms.IdentifierEdit,
        refuses=(ProblemKind.IDENTIFIER_UNKNOWN, ProblemKind.TEXT_TOO_LONG, ProblemKind.PARAMETER),
    ),
    Operation(
        *("DELETE", _IDENTIFIER, "identifiers", "Delete an identifier that no user has a value of"),
        *(delete_identifier, None, 204),
        refuses=(ProblemKind.IDENTIFIER_UNKNOWN, ProblemKind.IDENTIFIER_PRESET, ProblemKind.IDENTIFIER_IN_USE),
    ),
    Operation("GET", f"{_PROJECT}/schema", "schema", "The whole schema, as PUT takes it", get_schema, forms.SchemaForm),
    Operation(
        *("PUT", f"{_PROJECT}/schema", "schema", "Turn the schema into another, whole or not at all; never deletes"),
        *(put_schema, documents.PlanDocument),
        query=queries.SchemaQuery,
        body=forms.SchemaForm,
        refuses=(*_NEW_ATTRIBUTE, ProblemKind.ATTRIBUTE_FIXED),
    ),
    Operation(
        *("GET", _USERS, "users", "A page of the user table, by CUID; masked identifiers show 4 characters"),
        *(list_users, documents.UserPage),
        query=queries.UserQuery,
        refuses=(
            ProblemKind.ATTRIBUTE_UNKNOWN,
            ProblemKind.CONDITION,
            ProblemKind.IDENTIFIER_UNKNOWN,
            ProblemKind.PARAMETER,
        ),
    ),
    Operation(
        *("POST", _USERS, "users", "Import a user with the CUID it has", add_user, documents.UserDocument, 201),
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
        query=batch.BatchQuery,
        body=batch.Batch,
        batch=True,
        refuses=(ProblemKind.KEY_MALFORMED, ProblemKind.BODY_BROKEN, ProblemKind.PARAMETER, ProblemKind.BODY_VALUES),
    ),
    Operation(
        *("GET", _USER, "users", "Show a user", get_user, documents.UserDocument),
        query=queries.ColumnQuery,
        refuses=(ProblemKind.CUID_UNKNOWN, ProblemKind.ATTRIBUTE_UNKNOWN),
    ),
    Operation(
        *("DELETE", _USER, "users", "Erase a user for good; the CUID is never used again", erase_user, None, 204),
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
        access="public",
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
        access="public",
    ),
    Operation(
        *("GET", "/openapi.json", "server", "This document", openapi, documents.OpenAPI, 200),
        access="public",
    ),
)
"""Every operation of the native API, in the order of the document."""

BY_ID = {operation.id: operation for operation in OPERATIONS}
"""The operations by their ids."""

LIVE = Operation("GET", LIVE_PATH, "server", "", live, documents.Live, access="public")
