"""The native API `/api/v1`, `/openapi.json` and `/readyz`: one table of operations, one way through for all of them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET
from starlette.routing import Route, Router

from usertable.app.access import Authenticator, ProjectAccess
from usertable.app.activity import ProjectActivity
from usertable.app.batches import BatchEntry, BatchWriter
from usertable.app.imports import RowImporter
from usertable.app.service import Service
from usertable.config import Config
from usertable.dialects.jiguang.codes import code
from usertable.domain.condition import parse_conditions
from usertable.domain.errors import Overloaded, Problem, ProblemKind, Refused, Unavailable, excerpt, refusal
from usertable.domain.identity import parse_cuid
from usertable.domain.schema import Project
from usertable.http.admission import admit, is_admin
from usertable.http.answers import (
    ACCEPTS_NO_CODING,
    CLOSE,
    JSON,
    KEY_FORM,
    Header,
    Receive,
    Scope,
    Send,
    answer,
    language,
    read_json_body,
)
from usertable.http.body_threads import Batches, in_body_thread, when_decoded
from usertable.http.exchange import Exchange
from usertable.http.openapi import LIVE_PATH, Operation, document
from usertable.store import newest_version
from usertable.store.records import Replayed, Result, User, Written
from usertable.version import version
from usertable.wire import batch, native
from usertable.wire.codings import CODINGS, decompress
from usertable.wire.messages import Language

log = logging.getLogger("usertable.http")

App = Callable[[Scope, Receive, Send], Any]

_PROBLEM: Header = (b"content-type", b"application/problem+json")
# Answers hold personal data and secrets.
_NO_STORE: Header = (b"cache-control", b"no-store")
_BEARER: Header = (b"www-authenticate", b'Bearer realm="usertable"')
_BASIC: Header = (b"www-authenticate", b'Basic realm="usertable", charset="UTF-8"')
_ACCEPTS: Header = (b"accept-encoding", ", ".join(CODINGS).encode())
_COUNTED_AT_ONCE = 64
# As an entity tag, also as a proxy that compresses answers hands it on, weakened: `W/"7"`; or as the number alone.
_ENTITY_TAG = re.compile(rb'(?:W/)?"?([0-9]{1,18})"?')


@dataclass(frozen=True, slots=True)
class State:
    """What may change while the server runs."""

    admin_token: Callable[[], str]
    is_stopping: Callable[[], bool]
    check_writes: Callable[[], None]
    """Returns if writes can be made, else raises StoreDown; at once."""


def native_app(
    service: Service,
    authenticator: Authenticator,
    writer: BatchWriter,
    importer: RowImporter,
    config: Config,
    state: State,
) -> App:
    """The ASGI application of everything in :data:`OPERATIONS`; any other path is answered with a 404 problem."""
    by_path: dict[str, dict[str, Operation]] = {}
    batches = Batches(config.batch_body_limit)
    for operation in OPERATIONS:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    # The platform's application serves its GET; here it only gets its 405.
    by_path[LIVE_PATH] = {"GET": _LIVE}
    return Router(
        [
            Route(path, _Resource(operations, service, authenticator, writer, importer, config, state, batches))
            for path, operations in by_path.items()
        ],
        redirect_slashes=False,
        default=_Resource({}, service, authenticator, writer, importer, config, state, batches),
    )


@dataclass(slots=True)
class Call:
    """A request that was let in and understood."""

    service: Service
    actor: str
    """Who it is, for the record of changes: `admin`, or `project` and its id."""
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


class _Resource:
    """The ASGI application of one path: its operations by method. Without operations, that of an unknown path."""

    def __init__(
        self,
        operations: dict[str, Operation],
        service: Service,
        authenticator: Authenticator,
        writer: BatchWriter,
        importer: RowImporter,
        config: Config,
        state: State,
        batches: Batches,
    ) -> None:
        self._operations = operations
        self._service = service
        self._authenticator = authenticator
        self._writer = writer
        self._importer = importer
        self._config = config
        self._state = state
        self._batches = batches

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = _Exchange(dict(scope["headers"]), send)
        await exchange.run(self._serve(exchange, scope, receive))

    async def _serve(self, exchange: _Exchange, scope: Scope, receive: Receive) -> None:
        method = scope["method"]
        if not self._operations:
            raise refusal(ProblemKind.NO_ROUTE, path=excerpt(scope["path"], 200))
        operation = self._operations.get("GET" if method == "HEAD" else method)
        if operation is None:
            allowed = ", ".join([*self._operations, *(["HEAD"] if "GET" in self._operations else [])])
            raise exchange.refuse_method(method, allowed)
        path: dict[str, str] = scope["path_params"]
        actor, access = "", None
        query = body = None
        if operation.access != "public":
            actor, access = await self._admit(exchange, operation, path.get("project"), scope.get("client"))
            query = native.decode_query(scope["query_string"], operation.query)
        if operation.handle is ready:
            # Without a thread: there may be none to be had while the store does not answer.
            return await exchange.answer(operation, native.encode(ready(self._state)), "")
        if operation.handle is build:
            return await exchange.answer(operation, native.encode(build(self._config)), "")
        if operation.batch:
            with self._batches.holding(path["project"], receive) as receive:
                answered = await self._serve_batch(exchange, operation, access, path["project"], query, receive)
            return await exchange.answer(operation, answered, "")
        if operation.body:
            sent = await read_json_body(receive, exchange.sent, self._config.body_limit)
            if type(sent) is Problem:
                raise Refused([sent])
            assert type(sent) is bytes
            if operation.body_optional and not sent:
                body = operation.body()
            else:
                body = await when_decoded(functools.partial(native.decode, form=operation.body), sent)
        version = _version(exchange.sent.get(b"if-match", b"*")) if operation.guarded else None
        # From here on the request has its form; what is refused, a rule refuses.
        exchange.operation = operation
        call = Call(self._service, actor, path, query, body, version)
        await exchange.answer(operation, *await asyncio.to_thread(self._handle, operation, call))

    async def _serve_batch(
        self,
        exchange: _Exchange,
        operation: Operation,
        access: ProjectAccess | None,
        project_id: str,
        query: Any,
        receive: Receive,
    ) -> bytes:
        """The answer of the operation that joins the waiting writes, and may have a large, compressed body."""
        key = exchange.sent.get(b"idempotency-key")
        if key is not None and not KEY_FORM.fullmatch(key):
            raise refusal(ProblemKind.KEY_MALFORMED)
        limit = self._config.batch_body_limit
        sent = await read_json_body(receive, exchange.sent, limit, coded=True)
        if type(sent) is Problem:
            raise Refused([sent])
        assert type(sent) is bytes
        coding = exchange.sent.get(b"content-encoding", b"").decode("latin-1")
        # A large one is left compressed until its turn, and then begun from the start.
        body = await in_body_thread(decompress, sent, coding, min(limit, batch.SMALL_BYTES))
        if type(body) is bytes and await in_body_thread(batch.is_small, body):
            return await self._write_batch(exchange, operation, access, project_id, query, key, body)
        if type(body) is Problem and body.kind is not ProblemKind.BODY_TOO_LARGE:
            exchange.headers += [_ACCEPTS] if body.kind is ProblemKind.CONTENT_CODING else []
            raise Refused([body])
        async with self._batches.large(project_id):
            body = await in_body_thread(decompress, sent, coding, limit)
            if type(body) is Problem:
                raise Refused([body])
            assert type(body) is bytes
            alone = self._batches.huge if await in_body_thread(batch.is_huge, body) else contextlib.nullcontext()
            async with alone:
                return await self._write_batch(exchange, operation, access, project_id, query, key, body)

    async def _write_batch(
        self,
        exchange: _Exchange,
        operation: Operation,
        access: ProjectAccess | None,
        project_id: str,
        query: Any,
        key: bytes | None,
        body: bytes,
    ) -> bytes:
        records, on_unknown = await in_body_thread(batch.decode_batch, body, self._config.body_limit)
        exchange.operation = operation
        register = batch.registers(records, on_unknown)
        if access is None:
            # The admin, who has access to every project that there is.
            access = self._authenticator.grant(await asyncio.to_thread(self._service.project, project_id))
        entries = await in_body_thread(_entries, records, None if key is None else key.decode(), body)
        imports = batch.imports(records, on_unknown)
        results = await operation.handle(BatchCall(self._writer, self._importer, access, query, entries, imports, register))
        if not native.is_set(query.dry_run):
            await _count(access.activity, exchange.id, entries, results)
        return await in_body_thread(_encode_batch, results, language(exchange.sent, "en"), exchange.id.decode())

    def _handle(self, operation: Operation, call: Call) -> tuple[bytes | None, str, int | None]:
        """Body, location and version of the answer. Blocks: runs in a thread, encoding too, since a page can be large."""
        reply: HandlerResult = operation.handle(call)
        if operation.method != "GET":
            # Who declares an attribute may send values of it as soon as it is answered, not a quarter of a second later.
            with contextlib.suppress(Unavailable):
                self._authenticator.poll()
        return None if operation.answer is None else native.encode(reply.document), reply.location, reply.version

    async def _admit(
        self, exchange: _Exchange, operation: Operation, project_id: str | None, client: tuple[str, int] | None
    ) -> tuple[str, ProjectAccess | None]:
        """Who asks, if they may, and a project's access; counts its requests. Raises Refused and Unavailable."""
        authorization = exchange.sent.get(b"authorization", b"")
        admin_token = self._state.admin_token()
        if is_admin(authorization, admin_token):
            return "admin", None
        if operation.access == "admin" or authorization[:7].lower() == b"bearer ":
            exchange.headers += [_BEARER] if operation.access == "admin" else [_BEARER, _BASIC]
            token = "set admin_token to have one" if not admin_token else "Authorization: Bearer <token>"
            raise refusal(ProblemKind.ADMIN_ONLY, hint=token)
        access = await admit(self._authenticator, authorization, client)
        if access is None:
            exchange.headers += [_BEARER, _BASIC]
            raise refusal(ProblemKind.CREDENTIALS)
        if operation.batch:
            exchange.activity = access.activity
        exchange.count_against(access.limit("batch" if operation.batch else "native"))
        if access.project.id != project_id:
            # As for a project that does not exist: what others have is nobody's business.
            raise refusal(ProblemKind.PROJECT_UNKNOWN, id=project_id)
        return f"project {access.project.id}", access


def _entries(records: Sequence[batch.Record], key: str | None, body: bytes) -> list[BatchEntry]:
    fingerprint = hashlib.sha256(body).digest()
    return [
        BatchEntry(r.cuid, r.identity, r.data, r.receipt(key, fingerprint, index), r.problems, r.identifiers)
        for index, r in enumerate(records)
    ]


def _encode_batch(results: Sequence[tuple[int | None, Result]], spoken: Language, request: str) -> bytes:
    return native.encode(batch.batch_answer(results, spoken, request, code))


class _Exchange(Exchange):
    """One request and its answer, in the native API's format."""

    operation: Operation | None = None
    """Set once the request is known to have its form."""

    def __init__(self, sent: dict[bytes, bytes], send: Send) -> None:
        super().__init__(sent, send)
        self.headers = [(b"x-request-id", self.id), _NO_STORE]

    async def answer(self, operation: Operation, body: bytes | None, location: str, version: int | None = None) -> None:
        if location:
            self.headers.append((b"location", location.encode()))
        if version is not None and operation.status == 200:
            self.headers.append((b"etag", b'"%d"' % version))
        if body is None:
            # No content, so no length of it either.
            await self.send({"type": "http.response.start", "status": operation.status, "headers": self.headers})
            await self.send({"type": "http.response.body"})
        else:
            await answer(self.send, operation.status, body, [JSON, *self.headers])

    async def refuse(self, problems: Sequence[Problem]) -> None:
        if self.activity is not None:
            self.activity.refused("batch", self.id, problems)
        kind = problems[0].kind
        status = self.operation.problem_status(kind) if self.operation else native.STATUSES.get(kind, 400)
        if status == 413:
            self.headers.append(CLOSE)
        if kind is ProblemKind.CONTENT_CODING and not any(name == b"accept-encoding" for name, _ in self.headers):
            self.headers.append(ACCEPTS_NO_CODING)
        if status == 401 and not any(name == b"www-authenticate" for name, _ in self.headers):
            self.headers.append(_BEARER)
        spoken: Language = language(self.sent, "en")
        body = native.encode_problems(problems, status, spoken, self.id.decode())
        await answer(self.send, status, body, [_PROBLEM, *self.headers])


def _version(sent: bytes) -> int | None:
    """The version that an `If-Match` names; None for any."""
    if sent.strip() == b"*":
        return None
    if found := _ENTITY_TAG.fullmatch(sent.strip()):
        return int(found[1])
    raise refusal(ProblemKind.PARAMETER, name="If-Match", expected='the project\'s version in quotes, as in "7", or *')


async def _count(
    activity: ProjectActivity, request: bytes, entries: Sequence[BatchEntry], results: Sequence[tuple[int | None, Result]]
) -> None:
    """Count every record of a batch that came in."""
    for number, (entry, (cuid, result)) in enumerate(zip(entries, results, strict=True), start=1):
        if not number % _COUNTED_AT_ONCE:
            # Other requests that came meanwhile have their turn.
            await asyncio.sleep(0)
        if isinstance(result, Replayed):
            activity.accepted("batch", request, cuid, entry.data or {}, result.written.outcomes, repeated=True)
        elif isinstance(result, Written):
            activity.accepted("batch", request, cuid, entry.data or {}, result.outcomes)
        else:
            activity.refused("batch", request, batch.problems_of(result, request.decode()), cuid, entry.data)


# The handlers: blocking functions. The names are the operations' ids.


def list_projects(call: Call) -> HandlerResult:
    return HandlerResult(native.ProjectList([native.project_document(p) for p in call.service.projects()]))


def create_project(call: Call) -> HandlerResult:
    body: native.NewProject = call.body
    project, secret = call.service.create_project(
        body.name,
        id=None if body.id is UNSET else body.id,
        secret=None if body.secret is UNSET else body.secret,
        timezone=body.timezone,
        qps=None if body.qps == "unlimited" else body.qps,
        actor=call.actor,
    )
    return HandlerResult(native.project_document(project, secret), f"/api/v1/projects/{project.id}")


def get_project(call: Call) -> HandlerResult:
    return _project(call.project())


def _project(project: Project, secret: str | None = None) -> HandlerResult:
    return HandlerResult(native.project_document(project, secret), version=project.version)


def edit_project(call: Call) -> HandlerResult:
    edit = native.changes(call.body)
    if "qps" in edit and call.actor != "admin":
        # The limit protects the server from its projects.
        raise refusal(ProblemKind.ADMIN_ONLY, hint="the QPS limit is the operator's to set")
    if edit.get("qps") == "unlimited":
        del edit["qps"]
        edit["unlimited"] = True
    return _project(call.service.edit_project(call.project_id, **edit, version=call.version, actor=call.actor))


def rotate_secret(call: Call) -> HandlerResult:
    sent = native.changes(call.body)
    return _project(*call.service.rotate_secret(call.project_id, **sent, version=call.version, actor=call.actor))


def list_changes(call: Call) -> HandlerResult:
    changes = call.service.schema_changes(call.project_id, call.query.limit)
    return HandlerResult(native.ChangeList([native.change_document(c) for c in changes]))


def list_attributes(call: Call) -> HandlerResult:
    project = call.project()
    query: native.AttributeQuery = call.query
    selected = native.select_attributes(
        project,
        search=query.search,
        status=query.status,
        type=None if query.type is UNSET else query.type,
        rule=None if query.rule is UNSET else query.rule,
    )
    return HandlerResult(native.AttributeList([native.attribute_document(a, project) for a in selected]))


def declare_attribute(call: Call) -> HandlerResult:
    body: native.NewAttribute = call.body
    attribute = call.service.declare_attribute(call.project_id, body.attribute(), version=call.version, actor=call.actor)
    location = f"/api/v1/projects/{call.project_id}/attributes/{attribute.name}"
    return HandlerResult(native.attribute_document(attribute, call.project()), location)


def get_attribute(call: Call) -> HandlerResult:
    project = call.project()
    return HandlerResult(native.attribute_document(project.schema.attribute(call.path["name"]), project))


def edit_attribute(call: Call) -> HandlerResult:
    edit = native.changes(call.body)
    name = call.path["name"]
    attribute = call.service.edit_attribute(call.project_id, name, **edit, version=call.version, actor=call.actor)
    return HandlerResult(native.attribute_document(attribute, call.project()))


def delete_attribute(call: Call) -> HandlerResult:
    call.service.delete_attribute(call.project_id, call.path["name"], version=call.version, actor=call.actor)
    return HandlerResult()


def list_identifiers(call: Call) -> HandlerResult:
    return HandlerResult(native.IdentifierList(native.identifier_documents(call.project().schema.identifiers)))


def declare_identifier(call: Call) -> HandlerResult:
    body: native.NewIdentifier = call.body
    identifier = call.service.declare_identifier(call.project_id, body.identifier(), version=call.version, actor=call.actor)
    location = f"/api/v1/projects/{call.project_id}/identifiers/{identifier.name}"
    return HandlerResult(_identifier(call.project(), identifier.name), location)


def get_identifier(call: Call) -> HandlerResult:
    return HandlerResult(_identifier(call.project(), call.path["name"]))


def edit_identifier(call: Call) -> HandlerResult:
    edit = native.changes(call.body)
    call.service.edit_identifier(call.project_id, call.path["name"], **edit, version=call.version, actor=call.actor)
    return HandlerResult(_identifier(call.project(), call.path["name"]))


def delete_identifier(call: Call) -> HandlerResult:
    call.service.delete_identifier(call.project_id, call.path["name"], version=call.version, actor=call.actor)
    return HandlerResult()


def order_identifiers(call: Call) -> HandlerResult:
    project = call.service.order_identifiers(call.project_id, call.body.names, version=call.version, actor=call.actor)
    return HandlerResult(native.IdentifierList(native.identifier_documents(project.schema.identifiers)))


def _identifier(project: Project, name: str) -> native.IdentifierDocument:
    project.schema.identifier(name)
    return next(i for i in native.identifier_documents(project.schema.identifiers) if i.name == name)


def get_schema(call: Call) -> HandlerResult:
    return HandlerResult(native.schema_form(call.project().schema))


def put_schema(call: Call) -> HandlerResult:
    body: native.SchemaForm = call.body
    wanted = body.schema()
    if native.is_set(call.query.dry_run):
        steps, refused = call.service.plan_schema(call.project_id, wanted, version=call.version)
        return HandlerResult(native.plan_document(steps, refused, dry_run=True))
    done = call.service.apply_schema(call.project_id, wanted, version=call.version, actor=call.actor)
    return HandlerResult(native.plan_document(done, [], dry_run=False))


def list_users(call: Call) -> HandlerResult:
    project = call.project()
    query: native.UserQuery = call.query
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
        users = [u for u in found if u.cuid > after and all(c.met(u.profile) for c in conditions)]
    documents = [native.user_document(u, project, columns, hidden=hidden, mask=True) for u in users]
    return HandlerResult(native.UserPage(documents, None if following is None else native.cursor(following)))


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
        native.user_document(call.service.user(project, _cuid(call)), project, columns, hidden=hidden, times=True)
    )


def add_user(call: Call) -> HandlerResult:
    project = call.project()
    body: native.NewUser = call.body
    user = call.service.add_user(project, body.cuid, body.identifiers)
    return HandlerResult(native.user_document(user, project, times=True), f"/api/v1/projects/{project.id}/users/{user.cuid}")


def erase_user(call: Call) -> HandlerResult:
    call.service.erase_user(call.project(), _cuid(call))
    return HandlerResult()


async def write_users(call: BatchCall) -> list[tuple[int | None, Result]]:
    write = call.importer.import_rows if call.imports else call.writer.set_many
    return await write(call.access, call.entries, register=call.register, dry_run=native.is_set(call.query.dry_run))


def _columns(project: Project, query: native.ColumnQuery) -> tuple[list[str] | None, bool]:
    """The attributes that are asked for by name, or None; and whether hidden ones are asked for."""
    if query.attributes is UNSET:
        return None, native.is_set(query.hidden)
    names = query.attributes.split(",") if query.attributes else []
    return [project.schema.attribute(name).name for name in names], False


def _cuid(call: Call) -> int:
    text = call.path["cuid"]
    cuid = parse_cuid(text)
    if cuid is None:
        raise refusal(ProblemKind.CUID_UNKNOWN, cuid=text)
    return cuid


def ready(state: State) -> native.Health:
    if state.is_stopping():
        raise Overloaded("the server was told to stop")
    state.check_writes()
    return native.Health("ready")


def build(config: Config) -> native.Build:
    return native.Build(version(), *newest_version(config.store))


def live(call: Call) -> HandlerResult:
    return HandlerResult(native.Live())


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
    Operation("GET", _PROJECTS, "projects", "List all projects", list_projects, native.ProjectList, access="admin"),
    Operation(
        *("POST", _PROJECTS, "projects", "Create a project; shows its secret this once", create_project),
        *(native.ProjectDocument, 201, "admin"),
        body=native.NewProject,
        refuses=(
            ProblemKind.PROJECT_ID,
            ProblemKind.PROJECT_NAME,
            ProblemKind.PROJECT_EXISTS,
            ProblemKind.SECRET,
            ProblemKind.TIMEZONE,
            ProblemKind.QPS,
        ),
    ),
    Operation("GET", _PROJECT, "projects", "Show a project", get_project, native.ProjectDocument),
    Operation(
        *("PATCH", _PROJECT, "projects", "Change settings of a project", edit_project, native.ProjectDocument),
        body=native.ProjectEdit,
        refuses=(ProblemKind.PROJECT_NAME, ProblemKind.TIMEZONE, ProblemKind.QPS),
    ),
    Operation(
        *("POST", f"{_PROJECT}/secret:rotate", "projects", "Replace the secret; shows the new one this once"),
        *(rotate_secret, native.ProjectDocument),
        body=native.SecretRotation,
        body_optional=True,
        refuses=(ProblemKind.SECRET,),
    ),
    Operation(
        *("GET", f"{_PROJECT}/changes", "projects", "Who changed what of the project and its schema, newest first"),
        *(list_changes, native.ChangeList),
        query=native.ChangeQuery,
    ),
    Operation(
        *("GET", _ATTRIBUTES, "attributes", "List attributes", list_attributes, native.AttributeList),
        query=native.AttributeQuery,
    ),
    Operation(
        *("POST", _ATTRIBUTES, "attributes", "Declare an attribute", declare_attribute, native.AttributeDocument, 201),
        body=native.NewAttribute,
        refuses=_NEW_ATTRIBUTE,
    ),
    Operation(
        *("GET", _ATTRIBUTE, "attributes", "Show an attribute", get_attribute, native.AttributeDocument),
        refuses=(ProblemKind.ATTRIBUTE_UNKNOWN,),
    ),
    Operation(
        *("PATCH", _ATTRIBUTE, "attributes", "Change display name, description or status"),
        *(edit_attribute, native.AttributeDocument),
        body=native.AttributeEdit,
        refuses=(ProblemKind.ATTRIBUTE_UNKNOWN, ProblemKind.TEXT_TOO_LONG, ProblemKind.PARAMETER),
    ),
    Operation(
        *("DELETE", _ATTRIBUTE, "attributes", "Delete an attribute for which no value was ever reported"),
        *(delete_attribute, None, 204),
        refuses=(ProblemKind.ATTRIBUTE_UNKNOWN, ProblemKind.ATTRIBUTE_IN_USE),
    ),
    Operation("GET", _IDENTIFIERS, "identifiers", "List identifiers by priority", list_identifiers, native.IdentifierList),
    Operation(
        *("POST", _IDENTIFIERS, "identifiers", "Declare an identifier, below the declared ones and above the presets"),
        *(declare_identifier, native.IdentifierDocument, 201),
        body=native.NewIdentifier,
        refuses=_NEW_NAME,
    ),
    Operation(
        *("PUT", f"{_PROJECT}/identifiers:order", "identifiers", "Set the priority order"),
        *(order_identifiers, native.IdentifierList),
        body=native.IdentifierOrder,
        refuses=(ProblemKind.IDENTIFIER_ORDER,),
    ),
    Operation(
        *("GET", _IDENTIFIER, "identifiers", "Show an identifier", get_identifier, native.IdentifierDocument),
        refuses=(ProblemKind.IDENTIFIER_UNKNOWN,),
    ),
    Operation(
        *("PATCH", _IDENTIFIER, "identifiers", "Change display name or masking"),
        *(edit_identifier, native.IdentifierDocument),
        body=native.IdentifierEdit,
        refuses=(ProblemKind.IDENTIFIER_UNKNOWN, ProblemKind.TEXT_TOO_LONG, ProblemKind.PARAMETER),
    ),
    Operation(
        *("DELETE", _IDENTIFIER, "identifiers", "Delete an identifier that no user has a value of"),
        *(delete_identifier, None, 204),
        refuses=(ProblemKind.IDENTIFIER_UNKNOWN, ProblemKind.IDENTIFIER_PRESET, ProblemKind.IDENTIFIER_IN_USE),
    ),
    Operation("GET", f"{_PROJECT}/schema", "schema", "The whole schema, as PUT takes it", get_schema, native.SchemaForm),
    Operation(
        *("PUT", f"{_PROJECT}/schema", "schema", "Turn the schema into another, whole or not at all; never deletes"),
        *(put_schema, native.PlanDocument),
        query=native.SchemaQuery,
        body=native.SchemaForm,
        refuses=(*_NEW_ATTRIBUTE, ProblemKind.ATTRIBUTE_FIXED),
    ),
    Operation(
        *("GET", _USERS, "users", "A page of the user table, by CUID; masked identifiers show 4 characters"),
        *(list_users, native.UserPage),
        query=native.UserQuery,
        refuses=(
            ProblemKind.ATTRIBUTE_UNKNOWN,
            ProblemKind.CONDITION,
            ProblemKind.IDENTIFIER_UNKNOWN,
            ProblemKind.PARAMETER,
        ),
    ),
    Operation(
        *("POST", _USERS, "users", "Import a user with the CUID it has", add_user, native.UserDocument, 201),
        body=native.NewUser,
        refuses=(
            ProblemKind.CUID_EXISTS,
            ProblemKind.CUID_ERASED,
            ProblemKind.IDENTIFIER_UNKNOWN,
            ProblemKind.IDENTIFIER_TAKEN,
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
        *("GET", _USER, "users", "Show a user", get_user, native.UserDocument),
        query=native.ColumnQuery,
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
            native.Health,
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
            native.Build,
            200,
        ),
        access="public",
    ),
    Operation(
        *("GET", "/openapi.json", "server", "This document", openapi, native.OpenAPI, 200),
        access="public",
    ),
)
"""Every operation of the native API, in the order of the document."""

_LIVE = Operation("GET", LIVE_PATH, "server", "", live, native.Live, access="public")
