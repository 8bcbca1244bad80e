"""Setting attributes of one user, in any dialect: the hot path.

A request that needs only cached data is served without ASGI, whose messages and tasks cost as much as everything else: see
:meth:`SetEndpoint.begin`. Other requests take the slow path, through the same functions.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import parse_qs

from usertable.app.access import KeyChanged, ProjectAccess
from usertable.app.writes import AttributeWriter
from usertable.dialects.base import HttpAnswer
from usertable.domain import permissions
from usertable.domain.actor import Actor
from usertable.domain.errors import Problem, ProblemKind, Refused, Unavailable, refusal
from usertable.domain.phrases import Phrase, PhraseKind
from usertable.http.answers import JSON, KEY_FORM, SOURCE_FORM, Header, Receive, Scope, Send, rate_limit_headers, source
from usertable.http.body_threads import when_decoded
from usertable.http.dialect import DialectExchange, DialectServer
from usertable.store.records import KeyReused, Receipt, Refusal, Replayed, Result, Written
from usertable.wire.bodies import SMALL_BODY
from usertable.wire.messages import Language
from usertable.wire.set_request import SetRequest

API = "attribute"
_JSON = JSON[1]
_REPLAYED: Header = (b"idempotency-replayed", b"true")
_PREFERENCE_APPLIED: Header = (b"preference-applied", b"return=representation")
_BAD_DRY_RUN = Problem(ProblemKind.PARAMETER, None, {"name": "dryRun", "expected": Phrase(PhraseKind.ZERO_OR_ONE)})


class SetExchange(DialectExchange):
    """One write of one user, and its answer."""

    api = API
    needs = permissions.Scope.WRITE
    began: float
    """When a begun write arrived, by the monotonic clock."""
    begun: asyncio.Future[Result]
    """For a begun write: done when it is durable, or failed."""
    receipt: Receipt | None = None
    dry_run = False
    sampled = False
    """Whether outcomes are needed, for the answer or for a sample of arrivals."""
    size = 0
    """Bytes of the body."""
    actor: Actor | None = None
    """Who calls, if it is not the access's own actor."""

    def read(self, decoded: SetRequest, body: bytes, key: bytes | None) -> None:
        """Store the contents of a body, and its `Idempotency-Key`."""
        self.cuid, self.data = decoded.cuid, decoded.data
        self.size = len(body)
        if key is not None:
            self.receipt = Receipt(key.decode(), hashlib.sha256(body).digest(), whole=self.details)

    def count_accepted(self, written: Written, *, repeated: bool = False) -> None:
        """Count it as accepted, once."""
        if self.activity is not None and self.data is not None:
            outcomes, key = written.outcomes, self.access.key_name
            self.activity.accepted(API, self.id, self.cuid, self.data, outcomes, repeated=repeated, key=key)
            self.activity = None


class SetEndpoint:
    """Sets attributes of one user, in a dialect."""

    def __init__(self, server: DialectServer, writer: AttributeWriter) -> None:
        dialect = server.dialect
        self.method = dialect.set.method.encode()
        self.url = dialect.set.path.encode()
        self.requests = server.counts.route(dialect.set.method, dialect.set.path)
        """Counts its requests."""
        self.commit = writer.commit
        self._keys = server.counts.keys
        self._server = server
        self._writer = writer
        self._known = server.authenticator.known
        self._authorization = dialect.authorization
        self._decode = dialect.decode_set
        self._small = min(server.body_limit, SMALL_BODY)
        self._success = b"content-type: application/json\r\nx-request-id: %%b\r\n%%bcontent-length: %d\r\n\r\n%b" % (
            len(dialect.set_done),
            dialect.set_done,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = SetExchange.of(self._server, scope, send)
        await exchange.run(self._serve(exchange, scope, receive))

    async def serve_as(
        self, access: ProjectAccess, body: bytes, language: Language, actor: Actor, *, dry_run: bool, key: str
    ) -> HttpAnswer:
        """Return the answer to this body, with the representation, for an actor that was authenticated in another way.

        `key` is the `Idempotency-Key`.
        """
        sent: list[Any] = []

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        headers = {b"accept-language": language.encode(), b"prefer": b"return=representation"}
        if not dry_run:
            headers[b"idempotency-key"] = key.encode()
        exchange = SetExchange.of(self._server, {"headers": headers.items()}, send)
        exchange.access, exchange.activity, exchange.actor = access, access.activity, actor
        await exchange.run(self._set(exchange, b"dryRun=1" if dry_run else b"", receive))
        start, content = sent
        shown = [(name.decode(), value.decode()) for name, value in start["headers"]]
        return HttpAnswer(start["status"], shown, content["body"], exchange.problems)

    def begin(self, headers: dict[bytes, bytes], body: bytes) -> SetExchange | None:
        """Begin a request without a query whose headers and body are complete; it is answered by :meth:`success`.

        Returns None, having begun nothing, if it must take the slow path: the caller is not cached, or the request asks for
        more than a write, is large, or will be refused.
        """
        access = self._known(headers.get(self._authorization, b""))
        key, given = headers.get(b"idempotency-key"), headers.get(b"usertable-source", b"")
        if (
            access is None
            or not access.may_write
            or headers.get(b"content-type", _JSON) != _JSON
            or b"prefer" in headers
            or b"content-encoding" in headers
            or len(body) > self._small
            or (key is not None and not KEY_FORM.fullmatch(key))
            or (given and not SOURCE_FORM.fullmatch(given))
        ):
            return None
        decoded = self._decode(body)
        if decoded.problems or decoded.cuid is None or decoded.data is None:
            return None
        limit = access.limit(API)
        if limit is not None and limit.is_used_up():
            return None
        exchange = SetExchange(headers, _no_send)
        exchange.server, exchange.access, exchange.activity = self._server, access, access.activity
        exchange.read(decoded, body, key)
        exchange.sampled = access.activity.claim_sample()
        try:
            begun = self._writer.begin(
                access,
                decoded.cuid,
                decoded.data,
                exchange.receipt,
                details=exchange.sampled,
                size=exchange.size,
                origin=access.origin(given.decode()),
                request=exchange.id,
            )
        except Unavailable:
            return None
        if begun is None:
            return None
        access.use.used = True
        exchange.began, exchange.begun = self.commit.arrived, begun
        if limit is not None:
            limit.allow()
            exchange.headers += rate_limit_headers(limit)
        return exchange

    def success(self, exchange: SetExchange) -> bytes | None:
        """Return the answer to a begun write, from its content type on; None if it did not succeed in the usual way."""
        try:
            written = exchange.begun.result()
        except (asyncio.CancelledError, Exception):
            # It is raised where the future is awaited again.
            return None
        if type(written) is not Written:
            return None
        exchange.count_accepted(written)
        if exchange.receipt is not None:
            self._keys["stored"] += 1
        limits = b"".join([b"%b: %b\r\n" % header for header in exchange.headers]) if exchange.headers else b""
        return self._success % (exchange.id, limits)

    async def conclude(self, exchange: SetExchange, send: Send) -> None:
        """Answer a begun write, whatever its result."""
        exchange.send, exchange.key_name = send, exchange.access.key_name
        await exchange.run(self._finish(exchange, exchange.begun))

    async def _serve(self, exchange: SetExchange, scope: Scope, receive: Receive) -> None:
        allowed = self._server.dialect.set.method
        if scope["method"] != allowed:
            raise exchange.refuse_method(scope["method"], allowed)
        exchange.access = await exchange.authenticate()
        exchange.count_against(exchange.access.limit(API))
        await self._set(exchange, scope["query_string"], receive)

    async def _set(self, exchange: SetExchange, query: bytes, receive: Receive) -> None:
        headers = exchange.sent
        if query:
            exchange.dry_run = _dry_run(query)
        if exchange.dry_run:
            # A dry run does not count as an arrival.
            exchange.activity = None
        exchange.details = exchange.dry_run or (b"prefer" in headers and _wants_representation(headers[b"prefer"]))
        key = headers.get(b"idempotency-key")
        if key is not None and not KEY_FORM.fullmatch(key):
            raise refusal(ProblemKind.KEY_MALFORMED)
        body = await exchange.read_body(receive)
        decoded = await when_decoded(self._decode, body)
        exchange.read(decoded, body, key)
        if decoded.problems or exchange.cuid is None or exchange.data is None:
            problems = decoded.problems
            if exchange.details:
                problems = await self._writer.problems(exchange.access, exchange.cuid, problems, exchange.data)
            raise Refused(problems)
        exchange.sampled = exchange.details or exchange.access.activity.claim_sample()
        await self._finish(exchange)

    async def _finish(self, exchange: SetExchange, begun: asyncio.Future[Result] | None = None) -> None:
        """Wait until the write is durable, and answer. Raises Refused and Unavailable."""
        access, cuid, data = exchange.access, exchange.cuid, exchange.data
        assert cuid is not None
        assert data is not None
        try:
            result = await self._writer.set_attributes(
                access,
                cuid,
                data,
                exchange.receipt,
                dry_run=exchange.dry_run,
                details=exchange.sampled,
                size=exchange.size,
                origin=access.origin(source(exchange.sent), exchange.actor),
                request=exchange.id,
                begun=begun,
            )
        except KeyChanged:
            # Whoever has no secret any more is told so, and not to try again.
            await exchange.authenticate()
            raise
        if isinstance(result, Refusal):
            raise Refused(result.problems)
        if isinstance(result, KeyReused):
            self._keys["reused"] += 1
            raise refusal(ProblemKind.KEY_REUSED)
        repeated = isinstance(result, Replayed)
        if isinstance(result, Replayed):
            self._keys["replayed"] += 1
            exchange.headers.append(_REPLAYED)
            result = result.written
        elif exchange.receipt is not None and not exchange.dry_run:
            self._keys["stored"] += 1
        assert isinstance(result, Written), result
        exchange.count_accepted(result, repeated=repeated)
        dialect = self._server.dialect
        if not exchange.details:
            return await exchange.answer(200, dialect.set_done)
        exchange.headers.append(_PREFERENCE_APPLIED)
        shown = dialect.encode_set(
            *(cuid, result.version, result.change, result.outcomes, result.attributes),
            *(access.project.schema, access.zone),
        )
        return await exchange.answer(200, shown)


async def _no_send(message: MutableMapping[str, Any]) -> None:
    raise AssertionError("the answer has no way yet")


def _dry_run(query: bytes) -> bool:
    """Return whether the query asks for a dry run. Raises Refused if the value is invalid."""
    parameters = parse_qs(query.decode("latin-1"), keep_blank_values=True)
    dry_run = {"1": True, "true": True, "0": False, "false": False}.get(parameters.get("dryRun", ["0"])[-1])
    misspelt = any(name != "dryRun" and name.lower().replace("_", "").replace("-", "") == "dryrun" for name in parameters)
    if dry_run is None or misspelt:
        # A request for a dry run must never be executed as a write.
        raise Refused([_BAD_DRY_RUN])
    return dry_run


def _wants_representation(prefer: bytes) -> bool:
    preferences = prefer.lower().replace(b" ", b"").replace(b'"', b"")
    return b"return=representation" in preferences.replace(b";", b",").split(b",")
