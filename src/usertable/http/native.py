"""The native API `/api/v1`, `/openapi.json` and `/readyz` over HTTP: the steps that all operations share."""

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
from usertable.app.batches import BatchEntry, BatchWriter
from usertable.app.imports import RowImporter
from usertable.app.service import Service
from usertable.config import Config
from usertable.dialects.jiguang.codes import code
from usertable.domain import permissions
from usertable.domain.actor import Actor
from usertable.domain.errors import (
    Overloaded,
    Problem,
    ProblemKind,
    Refused,
    Unavailable,
    excerpt,
    other_value,
    phrase,
    refusal,
)
from usertable.domain.phrases import PhraseKind
from usertable.http.admission import admit, carries_token, forbidden
from usertable.http.answers import (
    ACCEPTS_NO_CODING,
    CLOSE,
    JSON,
    KEY_FORM,
    Disconnected,
    Header,
    Receive,
    Scope,
    Send,
    answer,
    language,
    read_json_body,
    source,
)
from usertable.http.body_threads import Batches, ProjectTurns, in_body_thread, when_decoded
from usertable.http.exchange import Exchange
from usertable.http.exported_file import EXPORTS_AT_ONCE
from usertable.http.openapi import LIVE_PATH, Operation
from usertable.http.operations import LIVE, OPERATIONS, BatchCall, Call, HandlerResult, State, build, openapi, ready
from usertable.http.request_counts import OTHER, RecordApi, RecordResult, RequestCounts
from usertable.store.records import KeyReused, Replayed, Result, Written
from usertable.wire import batch
from usertable.wire.codings import CODINGS, decompress
from usertable.wire.messages import Language
from usertable.wire.native import decoding, documents, members, problem_details

log = logging.getLogger("usertable.http")

App = Callable[[Scope, Receive, Send], Any]

_PROBLEM: Header = (b"content-type", b"application/problem+json")
# Responses contain personal data and secrets.
_NO_STORE: Header = (b"cache-control", b"no-store")
_BEARER: Header = (b"www-authenticate", b'Bearer realm="usertable"')
_BASIC: Header = (b"www-authenticate", b'Basic realm="usertable", charset="UTF-8"')
_ACCEPTS: Header = (b"accept-encoding", ", ".join(CODINGS).encode())
_COUNTED_AT_ONCE = 64
# An entity tag, weak if a proxy compressed the response: `"7"`, `W/"7"`. Or the number alone.
_ENTITY_TAG = re.compile(rb'(?:W/)?"?([0-9]{1,18})"?')


@dataclass(frozen=True, slots=True)
class Backends:
    """The components that the operations of the native API use."""

    service: Service
    authenticator: Authenticator
    writer: BatchWriter
    importer: RowImporter
    config: Config
    state: State
    counts: RequestCounts
    build: documents.Build


def native_app(backends: Backends) -> App:
    """Return the ASGI application of everything in :data:`OPERATIONS`. Any other path is answered with a 404 problem."""
    by_path: dict[str, dict[str, Operation]] = {}
    batches = Batches(backends.config.batch_body_limit)
    for operation in OPERATIONS:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    # The platform's application serves GET for this path. This one only answers other methods with 405.
    by_path[LIVE_PATH] = {"GET": LIVE}
    return Router(
        [Route(path, _Resource(path, operations, backends, batches)) for path, operations in by_path.items()],
        redirect_slashes=False,
        default=_Resource(OTHER, {}, backends, batches),
    )


class _Resource:
    """The ASGI application of one path: its operations by method. Without operations, it serves unknown paths."""

    def __init__(self, route: str, operations: dict[str, Operation], backends: Backends, batches: Batches) -> None:
        self._route = route
        self._operations = operations
        self._backends = backends
        self._config = backends.config
        self._batches = batches
        self._exports = ProjectTurns(EXPORTS_AT_ONCE)
        """Export semaphores by project id."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self._route
        exchange = NativeExchange(dict(scope["headers"]), send, self._backends.counts)
        await exchange.run(self._serve(exchange, scope, receive))

    async def _serve(self, exchange: NativeExchange, scope: Scope, receive: Receive) -> None:
        operation = self._operation(exchange, scope)
        path: dict[str, str] = scope["path_params"]
        actor, access = Actor.anonymous(), None
        client = exchange.client = scope.get("client")
        query = None
        if operation.access != "public":
            actor, access = await self._admit(exchange, operation, path.get("project"))
            actor = actor.with_origin(exchange.id.decode(), client[0] if client else "", source(exchange.sent))
            query = decoding.decode_query(scope["query_string"], operation.query)
        if operation.handle is ready:
            # Without a thread: all threads may be waiting for a store that does not respond.
            return await exchange.answer(operation, documents.encode(ready(self._backends.state)), "")
        if operation.handle is build:
            return await exchange.answer(operation, documents.encode(self._backends.build), "")
        if operation.handle is openapi:
            described = await asyncio.to_thread(openapi, self._config.public_url)
            return await exchange.answer(operation, described, "")
        if operation.batch:
            with self._batches.holding(path["project"], receive) as receive:
                answered = await self._serve_batch(exchange, operation, actor, access, path["project"], query, receive)
            return await exchange.answer(operation, answered, "")
        body = None
        if operation.body:
            body = await self._body(exchange, operation, receive)
            await self._admit_again(exchange, operation, access)
        version = _version(exchange.sent.get(b"if-match", b"*")) if operation.guarded else None
        # From here on the request is well-formed; a rejection is due to a rule.
        exchange.operation = operation
        scopes = permissions.ALL_SCOPES if access is None else access.scopes
        spoken = language(exchange.sent, "en")
        call = Call(self._backends.service, actor, scopes, path, query, body, version, spoken)
        if operation.file:
            return await self._serve_file(exchange, operation, call, access, receive)
        await exchange.answer(operation, *await asyncio.to_thread(self._handle, operation, call))

    async def _serve_file(
        self,
        exchange: NativeExchange,
        operation: Operation,
        call: Call,
        access: ProjectAccess | None,
        receive: Receive,
    ) -> None:
        """Send a file, which can take long. It is canceled when the client disconnects or the server is shutting down."""
        left = asyncio.create_task(_left(receive))

        def check() -> None:
            if left.done():
                raise Disconnected
            if self._backends.state.is_stopping():
                raise Overloaded("the server was told to stop")

        call.check = check
        try:
            # A client that reads slowly delays only exports of the same project.
            async with self._exports.own(call.project_id):
                async with self._exports.all:
                    check()
                    await self._admit_again(exchange, operation, access)
                    file = await asyncio.to_thread(operation.handle, call)
                with contextlib.closing(file):
                    await file.send(exchange.send, exchange.headers)
        finally:
            left.cancel()

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
        actor: Actor,
        access: ProjectAccess | None,
        project_id: str,
        query: Any,
        receive: Receive,
    ) -> bytes:
        """Return the response of the batch operation, which joins waiting writes and may have a large, compressed body."""
        key = exchange.sent.get(b"idempotency-key")
        if key is not None and not KEY_FORM.fullmatch(key):
            raise refusal(ProblemKind.KEY_MALFORMED)
        limit = self._config.batch_body_limit
        sent = await read_json_body(receive, exchange.sent, limit, coded=True)
        if type(sent) is Problem:
            raise Refused([sent])
        assert type(sent) is bytes
        coding = exchange.sent.get(b"content-encoding", b"").decode("latin-1")
        # A large body stays compressed until its turn, and is then decompressed from the start.
        body = await in_body_thread(decompress, sent, coding, min(limit, batch.SMALL_BYTES))
        if type(body) is bytes and await in_body_thread(batch.is_small, body):
            return await self._write_batch(exchange, operation, actor, access, project_id, query, key, body)
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
                return await self._write_batch(exchange, operation, actor, access, project_id, query, key, body)

    async def _write_batch(
        self,
        exchange: NativeExchange,
        operation: Operation,
        actor: Actor,
        access: ProjectAccess | None,
        project_id: str,
        query: Any,
        key: bytes | None,
        body: bytes,
    ) -> bytes:
        records, on_unknown = await in_body_thread(batch.decode_batch, body, self._config.body_limit)
        await self._admit_again(exchange, operation, access)
        exchange.operation = operation
        register, imports = batch.registers(records, on_unknown), batch.imports(records, on_unknown)
        _check_scopes(access, register, imports)
        if access is None:
            # The admin, who has access to every project.
            access = self._backends.authenticator.grant(await asyncio.to_thread(self._backends.service.project, project_id))
        entries = await in_body_thread(_entries, records, None if key is None else key.decode(), body)
        results = await operation.handle(
            BatchCall(self._backends.writer, self._backends.importer, access, query, entries, imports, register, actor)
        )
        if not members.is_set(query.dry_run):
            await _count(exchange, access, "import" if imports else "batch", entries, results)
        return await in_body_thread(_encode_batch, results, language(exchange.sent, "en"), exchange.id.decode())

    def _handle(self, operation: Operation, call: Call) -> tuple[bytes | None, str, int | None]:
        """Return body, location and version of the response. Blocks: runs in a thread, which also encodes large pages."""
        reply: HandlerResult = operation.handle(call)
        if operation.method != "GET":
            # A client may send values of a new attribute as soon as the response arrives, before the next poll.
            with contextlib.suppress(Unavailable):
                self._backends.authenticator.poll()
        location = f"{self._config.public_path}{reply.location}" if reply.location else ""
        return None if operation.answer is None else documents.encode(reply.document), location, reply.version

    async def _admit(
        self, exchange: NativeExchange, operation: Operation, project_id: str | None
    ) -> tuple[Actor, ProjectAccess | None]:
        """Authorize the caller, count the request, and return the actor and the project's access.

        Raises:
            Refused, Unavailable: the caller may not use the operation, or cannot be verified at the moment.
        """
        access = await self._identify(exchange, operation)
        if access is None:
            return Actor.admin_token(), None
        exchange.key_name = access.key_name
        if operation.batch:
            exchange.activity = access.activity
        exchange.count_against(access.limit("batch" if operation.batch else "native"))
        if access.project.id != project_id:
            # The same as for a project that does not exist, so that nobody learns which projects others have.
            raise refusal(ProblemKind.PROJECT_UNKNOWN, id=project_id)
        if not operation.needs & access.scopes:
            raise forbidden(access, *permissions.ordered(operation.needs))
        return Actor.key(access.key_name), access

    async def _admit_again(self, exchange: NativeExchange, operation: Operation, access: ProjectAccess | None) -> None:
        """Raise Refused if the access has ended. Receiving a body can take long, and so can waiting to send a file."""
        if operation.access != "public" and await self._identify(exchange, operation) is not access:
            raise refusal(ProblemKind.CREDENTIALS)

    async def _identify(self, exchange: NativeExchange, operation: Operation) -> ProjectAccess | None:
        """Return the access of the caller's key; None for the admin token. Raises Refused and Unavailable."""
        authorization = exchange.sent.get(b"authorization", b"")
        admin_tokens = self._backends.state.admin_tokens()
        if carries_token(authorization, *admin_tokens):
            return None
        if operation.access == "admin" or authorization[:7].lower() == b"bearer ":
            exchange.headers += [_BEARER] if operation.access == "admin" else [_BEARER, _BASIC]
            hint = PhraseKind.ADMIN_TOKEN_HEADER if admin_tokens else PhraseKind.ADMIN_TOKEN_UNSET
            raise refusal(ProblemKind.ADMIN_ONLY, hint=phrase(hint))
        access = await admit(self._backends.authenticator, authorization, exchange.client)
        if access is None:
            exchange.headers += [_BEARER, _BASIC]
            raise refusal(ProblemKind.CREDENTIALS)
        return access


def _check_scopes(access: ProjectAccess | None, register: bool, imports: bool) -> None:
    """Raise Refused if the scopes of the caller's key do not allow what the batch does."""
    if access is None or permissions.Scope.IMPORT in access.scopes:
        # The scope for imports includes everything that other batches do.
        return
    if imports:
        raise forbidden(access, permissions.Scope.IMPORT)
    if register and permissions.Scope.REGISTER not in access.scopes:
        raise forbidden(access, permissions.Scope.REGISTER)


def _entries(records: Sequence[batch.Record], key: str | None, body: bytes) -> list[BatchEntry]:
    fingerprint = hashlib.sha256(body).digest()
    return [
        BatchEntry(r.cuid, r.identity, r.data, r.receipt(key, fingerprint, index), r.problems, r.identifiers)
        for index, r in enumerate(records)
    ]


def _encode_batch(results: Sequence[tuple[int | None, Result]], spoken: Language, request: str) -> bytes:
    return documents.encode(batch.batch_answer(results, spoken, request, code))


class NativeExchange(Exchange):
    """One request and its response, in the native API's format."""

    operation: Operation | None = None
    """Set once the request is known to be well-formed."""
    key_name = ""
    """Name of the caller's key."""
    client: tuple[str, int] | None = None
    """Address and port of the client."""

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
            # Without a body, there is no content length either.
            await self.send({"type": "http.response.start", "status": operation.status, "headers": self.headers})
            await self.send({"type": "http.response.body"})
        else:
            await answer(self.send, operation.status, body, [JSON, *self.headers])

    async def answer_refusal(self, problems: Sequence[Problem]) -> None:
        if self.activity is not None:
            self.activity.refused("batch", self.id, problems, key=self.key_name)
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


async def _left(receive: Receive) -> None:
    """Wait until the client disconnects."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _version(sent: bytes) -> int | None:
    """Return the version that an `If-Match` header names; None for any."""
    if sent.strip() == b"*":
        return None
    if found := _ENTITY_TAG.fullmatch(sent.strip()):
        return int(found[1])
    expected = other_value(phrase(PhraseKind.PROJECT_VERSION), sent.decode("latin-1"))
    raise refusal(ProblemKind.PARAMETER, name="If-Match", expected=expected)


async def _count(
    exchange: NativeExchange,
    access: ProjectAccess,
    api: RecordApi,
    entries: Sequence[BatchEntry],
    results: Sequence[tuple[int | None, Result]],
) -> None:
    """Count every record of a received batch."""
    request, counts, activity, key = exchange.id, exchange.counts, access.activity, access.key_name
    result_name: RecordResult
    for number, (entry, (cuid, result)) in enumerate(zip(entries, results, strict=True), start=1):
        if not number % _COUNTED_AT_ONCE:
            # Let other requests that arrived in the meantime proceed.
            await asyncio.sleep(0)
        if isinstance(result, Replayed):
            result_name = "replayed"
            counts.keys["replayed"] += 1
            outcomes = result.written.outcomes
            activity.accepted("batch", request, cuid, entry.data or {}, outcomes, repeated=True, key=key)
        elif isinstance(result, Written):
            result_name = "written"
            if entry.receipt is not None:
                counts.keys["stored"] += 1
            activity.accepted("batch", request, cuid, entry.data or {}, result.outcomes, key=key)
        else:
            result_name = "failed" if isinstance(result, Exception) else "refused"
            if isinstance(result, KeyReused):
                counts.keys["reused"] += 1
            problems = batch.problems_of(result, request.decode())
            counts.refusals[problems[0].kind] += 1
            activity.refused("batch", request, problems, cuid, entry.data, key)
        counts.records[api, result_name] += 1
