"""The native API `/api/v1`, `/openapi.json` and `/readyz` over HTTP: one way through for all operations."""

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

from starlette.routing import Route, Router

from usertable.app.access import Authenticator, ProjectAccess
from usertable.app.activity import ProjectActivity
from usertable.app.batches import BatchEntry, BatchWriter
from usertable.app.imports import RowImporter
from usertable.app.service import Service
from usertable.config import Config
from usertable.dialects.jiguang.codes import code
from usertable.domain.errors import Problem, ProblemKind, Refused, Unavailable, excerpt, refusal
from usertable.http.admission import admit, carries_token
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
from usertable.http.openapi import LIVE_PATH, Operation
from usertable.http.operations import LIVE, OPERATIONS, BatchCall, Call, HandlerResult, State, build, ready
from usertable.http.request_counts import OTHER, RecordApi, RecordResult, RequestCounts
from usertable.store.records import KeyReused, Replayed, Result, Written
from usertable.wire import batch
from usertable.wire.codings import CODINGS, decompress
from usertable.wire.messages import Language
from usertable.wire.native import decoding, documents, members, problem_details

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
class Backends:
    """What the operations of the native API work with."""

    service: Service
    authenticator: Authenticator
    writer: BatchWriter
    importer: RowImporter
    config: Config
    state: State
    counts: RequestCounts
    build: documents.Build


def native_app(backends: Backends) -> App:
    """The ASGI application of everything in :data:`OPERATIONS`; any other path is answered with a 404 problem."""
    by_path: dict[str, dict[str, Operation]] = {}
    batches = Batches(backends.config.batch_body_limit)
    for operation in OPERATIONS:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    # The platform's application serves its GET; here it only gets its 405.
    by_path[LIVE_PATH] = {"GET": LIVE}
    return Router(
        [Route(path, _Resource(path, operations, backends, batches)) for path, operations in by_path.items()],
        redirect_slashes=False,
        default=_Resource(OTHER, {}, backends, batches),
    )


class _Resource:
    """The ASGI application of one path: its operations by method. Without operations, that of an unknown path."""

    def __init__(self, route: str, operations: dict[str, Operation], backends: Backends, batches: Batches) -> None:
        self._route = route
        self._operations = operations
        self._backends = backends
        self._config = backends.config
        self._batches = batches

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self._route
        exchange = NativeExchange(dict(scope["headers"]), send, self._backends.counts)
        await exchange.run(self._serve(exchange, scope, receive))

    async def _serve(self, exchange: NativeExchange, scope: Scope, receive: Receive) -> None:
        operation = self._operation(exchange, scope)
        path: dict[str, str] = scope["path_params"]
        actor, access = "", None
        query = None
        if operation.access != "public":
            actor, access = await self._admit(exchange, operation, path.get("project"), scope.get("client"))
            query = decoding.decode_query(scope["query_string"], operation.query)
        if operation.handle is ready:
            # Without a thread: there may be none to be had while the store does not answer.
            return await exchange.answer(operation, documents.encode(ready(self._backends.state)), "")
        if operation.handle is build:
            return await exchange.answer(operation, documents.encode(self._backends.build), "")
        if operation.batch:
            with self._batches.holding(path["project"], receive) as receive:
                answered = await self._serve_batch(exchange, operation, access, path["project"], query, receive)
            return await exchange.answer(operation, answered, "")
        body = await self._body(exchange, operation, receive) if operation.body else None
        version = _version(exchange.sent.get(b"if-match", b"*")) if operation.guarded else None
        # From here on the request has its form; what is refused, a rule refuses.
        exchange.operation = operation
        call = Call(self._backends.service, actor, access is None, path, query, body, version)
        await exchange.answer(operation, *await asyncio.to_thread(self._handle, operation, call))

    def _operation(self, exchange: NativeExchange, scope: Scope) -> Operation:
        method = scope["method"]
        if not self._operations:
            raise refusal(ProblemKind.NO_ROUTE, path=excerpt(scope["path"], 200))
        operation = self._operations.get("GET" if method == "HEAD" else method)
        if operation is None:
            allowed = ", ".join([*self._operations, *(["HEAD"] if "GET" in self._operations else [])])
            raise exchange.refuse_method(method, allowed)
        return operation

    async def _body(self, exchange: NativeExchange, operation: Operation, receive: Receive) -> Any:
        assert operation.body is not None
        sent = await read_json_body(receive, exchange.sent, self._config.body_limit)
        if type(sent) is Problem:
            raise Refused([sent])
        assert type(sent) is bytes
        if operation.body_optional and not sent:
            return operation.body()
        return await when_decoded(functools.partial(decoding.decode, form=operation.body), sent)

    async def _serve_batch(
        self,
        exchange: NativeExchange,
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
        exchange: NativeExchange,
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
            access = self._backends.authenticator.grant(await asyncio.to_thread(self._backends.service.project, project_id))
        entries = await in_body_thread(_entries, records, None if key is None else key.decode(), body)
        imports = batch.imports(records, on_unknown)
        results = await operation.handle(
            BatchCall(self._backends.writer, self._backends.importer, access, query, entries, imports, register)
        )
        if not members.is_set(query.dry_run):
            await _count(exchange, access.activity, "import" if imports else "batch", entries, results)
        return await in_body_thread(_encode_batch, results, language(exchange.sent, "en"), exchange.id.decode())

    def _handle(self, operation: Operation, call: Call) -> tuple[bytes | None, str, int | None]:
        """Body, location and version of the answer. Blocks: runs in a thread, encoding too, since a page can be large."""
        reply: HandlerResult = operation.handle(call)
        if operation.method != "GET":
            # Who declares an attribute may send values of it as soon as it is answered, not a quarter of a second later.
            with contextlib.suppress(Unavailable):
                self._backends.authenticator.poll()
        return None if operation.answer is None else documents.encode(reply.document), reply.location, reply.version

    async def _admit(
        self, exchange: NativeExchange, operation: Operation, project_id: str | None, client: tuple[str, int] | None
    ) -> tuple[str, ProjectAccess | None]:
        """Who asks, if they may, and a project's access; counts its requests. Raises Refused and Unavailable."""
        authorization = exchange.sent.get(b"authorization", b"")
        admin_tokens = self._backends.state.admin_tokens()
        if carries_token(authorization, *admin_tokens):
            return "admin", None
        if operation.access == "admin" or authorization[:7].lower() == b"bearer ":
            exchange.headers += [_BEARER] if operation.access == "admin" else [_BEARER, _BASIC]
            token = "set admin_token to have one" if not admin_tokens else "Authorization: Bearer <token>"
            raise refusal(ProblemKind.ADMIN_ONLY, hint=token)
        access = await admit(self._backends.authenticator, authorization, client)
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
    return documents.encode(batch.batch_answer(results, spoken, request, code))


class NativeExchange(Exchange):
    """One request and its answer, in the native API's format."""

    operation: Operation | None = None
    """Set once the request is known to have its form."""

    def __init__(self, sent: dict[bytes, bytes], send: Send, counts: RequestCounts) -> None:
        super().__init__(sent, send)
        self._counts = counts
        self.headers = [(b"x-request-id", self.id), _NO_STORE]

    @property
    def counts(self) -> RequestCounts:
        return self._counts

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

    async def answer_refusal(self, problems: Sequence[Problem]) -> None:
        if self.activity is not None:
            self.activity.refused("batch", self.id, problems)
        kind = problems[0].kind
        status = self.operation.problem_status(kind) if self.operation else problem_details.STATUSES.get(kind, 400)
        if status == 413:
            self.headers.append(CLOSE)
        if kind is ProblemKind.CONTENT_CODING and not any(name == b"accept-encoding" for name, _ in self.headers):
            self.headers.append(ACCEPTS_NO_CODING)
        if status == 401 and not any(name == b"www-authenticate" for name, _ in self.headers):
            self.headers.append(_BEARER)
        spoken: Language = language(self.sent, "en")
        body = problem_details.encode_problems(problems, status, spoken, self.id.decode())
        await answer(self.send, status, body, [_PROBLEM, *self.headers])


def _version(sent: bytes) -> int | None:
    """The version that an `If-Match` names; None for any."""
    if sent.strip() == b"*":
        return None
    if found := _ENTITY_TAG.fullmatch(sent.strip()):
        return int(found[1])
    raise refusal(ProblemKind.PARAMETER, name="If-Match", expected='the project\'s version in quotes, as in "7", or *')


async def _count(
    exchange: NativeExchange,
    activity: ProjectActivity,
    api: RecordApi,
    entries: Sequence[BatchEntry],
    results: Sequence[tuple[int | None, Result]],
) -> None:
    """Count every record of a batch that came in."""
    request, counts = exchange.id, exchange.counts
    result_name: RecordResult
    for number, (entry, (cuid, result)) in enumerate(zip(entries, results, strict=True), start=1):
        if not number % _COUNTED_AT_ONCE:
            # Other requests that came meanwhile have their turn.
            await asyncio.sleep(0)
        if isinstance(result, Replayed):
            result_name = "replayed"
            counts.keys["replayed"] += 1
            activity.accepted("batch", request, cuid, entry.data or {}, result.written.outcomes, repeated=True)
        elif isinstance(result, Written):
            result_name = "written"
            if entry.receipt is not None:
                counts.keys["stored"] += 1
            activity.accepted("batch", request, cuid, entry.data or {}, result.outcomes)
        else:
            result_name = "failed" if isinstance(result, Exception) else "refused"
            if isinstance(result, KeyReused):
                counts.keys["reused"] += 1
            problems = batch.problems_of(result, request.decode())
            counts.refusals[problems[0].kind] += 1
            activity.refused("batch", request, problems, cuid, entry.data)
        counts.records[api, result_name] += 1
