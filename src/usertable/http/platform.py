"""The platform's two endpoints. PUT is the hot path: a bare ASGI function without framework objects."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from usertable.app.access import Authenticator, ProjectAccess
from usertable.app.activity import ActivityRecorder, ProjectActivity
from usertable.app.batches import BatchWriter
from usertable.app.limits import RateLimit
from usertable.app.service import Service
from usertable.console.visit import Put
from usertable.domain.errors import Kind, Problem, Refused, Unavailable, excerpt
from usertable.domain.profile import Outcome
from usertable.http.admission import admit, basic_credentials
from usertable.http.answers import (
    ACCEPTS_NO_CODING,
    CLOSE,
    JSON,
    KEY_FORM,
    RETRY_SOON,
    Disconnected,
    Header,
    Receive,
    Scope,
    Send,
    answer,
    language,
    log_unavailable,
    rate_limit_headers,
    read_json_body,
    request_id,
    unavailable,
)
from usertable.http.body_threads import when_decoded
from usertable.store.records import KeyReused, Receipt, Refusal, Replayed, Result, Written
from usertable.wire import jiguang
from usertable.wire.bodies import SMALL_BODY
from usertable.wire.messages import Language

log = logging.getLogger("usertable.http")

ATTRIBUTE_PATH = "/smartop/api/v1/user/attribute"
REGISTER_PATH = "/smartop/api/v1/user/register"
_AUTHENTICATE: Header = (b"www-authenticate", b'Basic realm="usertable", charset="UTF-8"')
_REPLAYED: Header = (b"idempotency-replayed", b"true")
_PREFERENCE_APPLIED: Header = (b"preference-applied", b"return=representation")


class Platform:
    """The platform's endpoints over the service.

    Args:
        body_limit: largest body, in bytes.
        always_200: answer HTTP 200 to every refusal; clients then go by `code` alone.
    """

    def __init__(
        self,
        service: Service,
        authenticator: Authenticator,
        writer: BatchWriter,
        recorder: ActivityRecorder,
        *,
        body_limit: int,
        always_200: bool,
    ) -> None:
        self._service = service
        self._authenticator = authenticator
        self._writer = writer
        self._recorder = recorder
        self._body_limit = body_limit
        self._plain_limit = min(body_limit, SMALL_BODY)
        self._always_200 = always_200

    async def put_attribute(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`PUT /smartop/api/v1/user/attribute`: set attributes of one user."""
        request = _Request(self, scope, send, "attribute")
        try:
            if scope["method"] != "PUT":
                return await request.refuse_method("PUT")
            access = await request.authenticate(self._authenticator)
            if access is not None and await request.within_limit(access.limit("attribute")):
                await self._set(request, access, scope["query_string"], receive)
        except Exception as failure:
            await request.fail(failure)

    async def put_as(self, access: ProjectAccess, body: bytes, language: Language, *, dry: bool, key: str) -> Put:
        """What :meth:`put_attribute` answers to this body, in its long form, for somebody who was let in another way.

        `key` is the `Idempotency-Key`.
        """
        sent: list[Any] = []

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        headers = [(b"accept-language", language.encode()), (b"prefer", b"return=representation")]
        if not dry:
            headers.append((b"idempotency-key", key.encode()))
        request = _Request(self, {"method": "PUT", "headers": headers}, send, "attribute")
        request.arrivals = access.arrivals
        try:
            await self._set(request, access, b"dryRun=1" if dry else b"", receive)
        except Exception as failure:
            await request.fail(failure)
        start, content = sent
        shown = [(name.decode(), value.decode()) for name, value in start["headers"]]
        return Put(start["status"], shown, content["body"])

    async def _set(self, request: _Request, access: ProjectAccess, query: bytes, receive: Receive) -> None:
        headers = request.sent
        dry = details = False
        if query:
            dry_run = _dry_run(query)
            if dry_run is None:
                return await request.refuse([_bad_dry_run])
            dry = dry_run
        if dry:
            # Nothing arrives with it.
            request.arrivals = None
        if dry or b"prefer" in headers:
            request.details = details = dry or _wants_representation(headers[b"prefer"])
        key = headers.get(b"idempotency-key")
        if key is not None and not KEY_FORM.fullmatch(key):
            return await request.refuse([Problem(Kind.KEY_MALFORMED)])
        body = await read_json_body(receive, headers, self._body_limit)
        if type(body) is Problem:
            return await request.refuse([body])
        assert type(body) is bytes
        decoded = await when_decoded(jiguang.decode_set, body)
        cuid, data = request.cuid, request.data = decoded.cuid, decoded.data
        if decoded.problems or cuid is None or data is None:
            problems = decoded.problems
            if details:
                problems = await self._writer.problems(access, cuid, problems, data)
            return await request.refuse(problems)
        receipt = None
        if key is not None:
            receipt = Receipt(key.decode(), hashlib.sha256(body).digest(), whole=details)
        known = details or access.arrivals.claim_sample()
        result = await self._writer.set_attributes(access, cuid, data, receipt, dry=dry, details=known, size=len(body))
        return await self._answer(request, access, cuid, result, details=details)

    async def _answer(self, request: _Request, access: ProjectAccess, cuid: int, result: Result, *, details: bool) -> None:
        if type(result) is Refusal:
            return await request.refuse(result.problems)
        if type(result) is KeyReused:
            return await request.refuse([Problem(Kind.KEY_REUSED)])
        if type(result) is Replayed:
            request.headers.append(_REPLAYED)
            written = result.written
        else:
            assert type(result) is Written, result
            written = result
        request.accept(cuid, written.outcomes, repeated=written is not result)
        if not details:
            return await request.answer(200, jiguang.OK)
        request.headers.append(_PREFERENCE_APPLIED)
        shown = jiguang.encode_representation(
            cuid, written.version, written.outcomes, written.attributes, access.project.schema, access.zone
        )
        return await request.answer(200, shown)

    def begin_plain(self, headers: dict[bytes, bytes], body: bytes) -> PlainPut | None:
        """Begin a PUT that needs nothing but what is at hand; None if it must go the whole way, and nothing was begun.

        This is the same as :meth:`put_attribute` does with the same pieces, for a request without a query, without ASGI.
        """
        access = self._authenticator.known(headers.get(b"authorization", b""))
        key = headers.get(b"idempotency-key")
        if (
            access is None
            or headers.get(b"content-type", JSON[1]) != JSON[1]
            or b"prefer" in headers
            or b"content-encoding" in headers
            or len(body) > self._plain_limit
            or (key is not None and not KEY_FORM.fullmatch(key))
        ):
            return None
        decoded = jiguang.decode_set(body)
        if decoded.problems or decoded.cuid is None or decoded.data is None:
            return None
        receipt = None if key is None else Receipt(key.decode(), hashlib.sha256(body).digest())
        limit = access.limit("attribute")
        if limit is not None and limit.is_used_up(time.monotonic()):
            return None
        try:
            sampled = access.arrivals.claim_sample()
            begun = self._writer.begin(access, decoded.cuid, decoded.data, receipt, details=sampled, size=len(body))
        except Unavailable:
            return None
        if begun is None:
            return None
        if limit is not None:
            limit.allow(time.monotonic())
        return PlainPut(access, decoded.cuid, decoded.data, receipt, begun, headers, limit, len(body))

    async def conclude(self, put: PlainPut, send: Send) -> None:
        """Answer a PUT that was begun and did not simply succeed."""
        request = _Request(self, {"headers": put.headers.items(), "method": "PUT"}, send, "attribute")
        request.arrivals = None if put.counted else put.access.arrivals
        request.cuid, request.data = put.cuid, put.data
        if put.limit is not None:
            request.headers += rate_limit_headers(put.limit)
        try:
            result = await self._writer.set_attributes(
                put.access, put.cuid, put.data, put.receipt, details=False, size=put.size, begun=put.begun
            )
            await self._answer(request, put.access, put.cuid, result, details=False)
        except Exception as failure:
            await request.fail(failure)

    async def post_register(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`POST /smartop/api/v1/user/register`: Get CUID."""
        request = _Request(self, scope, send, "register")
        try:
            if scope["method"] != "POST":
                return await request.refuse_method("POST")
            access = await request.authenticate(self._authenticator)
            if access is None or not await request.within_limit(access.limit("register")):
                return None
            body = await read_json_body(receive, request.sent, self._body_limit)
            if type(body) is Problem:
                return await request.refuse([body])
            assert type(body) is bytes
            decoded = await when_decoded(jiguang.decode_register, body)
            if decoded.problems:
                return await request.refuse(decoded.problems)
            try:
                cuids = await asyncio.to_thread(self._service.register, access.project, decoded.name, decoded.values)
            except Refused as refused:
                return await request.refuse(refused.problems)
            access.arrivals.accepted_registration(request.id, decoded.name, cuids)
            await request.answer(200, jiguang.encode_registered(decoded.values, cuids))
        except Exception as failure:
            await request.fail(failure)

    async def no_route(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Any other path that is not the native API's."""
        request = _Request(self, scope, send, "")
        await request.refuse([Problem(Kind.NO_ROUTE, None, {"path": excerpt(scope["path"], 200)})])


@dataclass(slots=True)
class PlainPut:
    """A PUT that was begun without ASGI; `begun` is done when its write is durable, or failed."""

    access: ProjectAccess
    cuid: int
    data: dict[str, Any]
    receipt: Receipt | None
    begun: asyncio.Future[Result]
    headers: dict[bytes, bytes]
    limit: RateLimit | None
    size: int
    counted: bool = False

    def answer(self) -> bytes | None:
        """The rest of the answer, after the status line and the server's own headers; None if it is no plain success."""
        if self.begun.cancelled() or self.begun.exception() is not None:
            return None
        written = self.begun.result()
        if type(written) is not Written:
            return None
        request = request_id(self.headers)
        self.counted = True
        self.access.arrivals.accepted("attribute", request, self.cuid, self.data, written.outcomes)
        limits = b""
        if self.limit is not None:
            limits = b"".join(b"%b: %b\r\n" % header for header in rate_limit_headers(self.limit))
        return _PLAIN_SUCCESS % (request, limits)


_PLAIN_SUCCESS = b"content-type: application/json\r\nx-request-id: %%b\r\n%%bcontent-length: %d\r\n\r\n%b" % (
    len(jiguang.OK),
    jiguang.OK,
)


class _Request:
    """One request and its answer, in the platform's format."""

    __slots__ = (
        "_always_200",
        "_api",
        "_client",
        "_method",
        "_recorder",
        "_send",
        "arrivals",
        "cuid",
        "data",
        "details",
        "headers",
        "id",
        "sent",
    )

    def __init__(self, platform: Platform, scope: Scope, send: Send, api: str) -> None:
        self.sent: dict[bytes, bytes] = dict(scope["headers"])
        self.details = False
        self._send = send
        self._client: tuple[str, int] | None = scope.get("client")
        self._method: str = scope["method"]
        self._always_200 = platform._always_200
        self._api = api
        self._recorder = platform._recorder
        self.arrivals: ProjectActivity | None = None
        """Where it is counted, once its project is known."""
        self.cuid: int | None = None
        self.data: dict[str, Any] | None = None
        self.id = request_id(self.sent)
        self.headers: list[Header] = [JSON, (b"x-request-id", self.id)]

    async def authenticate(self, authenticator: Authenticator) -> ProjectAccess | None:
        """The access that the caller's credentials grant; None if the request was refused and answered."""
        authorization = self.sent.get(b"authorization", b"")
        access = authenticator.known(authorization) or await admit(authenticator, authorization, self._client)
        if access is None:
            self.headers.append(_AUTHENTICATE)
            if named := basic_credentials(authorization):
                self._recorder.failed_login(named[0], self.id)
            await self.refuse([Problem(Kind.CREDENTIALS)])
        else:
            self.arrivals = access.arrivals
        return access

    def accept(self, cuid: int, outcomes: Mapping[str, Outcome], *, repeated: bool) -> None:
        """Count it as accepted."""
        if self.arrivals is not None and self.data is not None:
            self.arrivals.accepted(self._api, self.id, cuid, self.data, outcomes, repeated=repeated)

    async def within_limit(self, limit: RateLimit | None) -> bool:
        """Count the request; False if it was over the limit, refused and answered."""
        if limit is None:
            return True
        allowed = limit.allow(time.monotonic())
        self.headers += rate_limit_headers(limit)
        if not allowed:
            self.headers.append(RETRY_SOON)
            await self.refuse([Problem(Kind.RATE_LIMITED, None, {"limit": str(limit.limit)})])
        return allowed

    async def answer(self, status: int, body: bytes) -> None:
        await answer(self._send, status, body, self.headers)

    async def refuse(self, problems: Sequence[Problem]) -> None:
        """Answer with the first problem's code and text, and with all of them if the caller asked for details."""
        if self.arrivals is not None:
            self.arrivals.refused(self._api, self.id, problems, self.cuid, self.data)
        status, body = jiguang.encode_refusal(problems, language(self.sent, "zh"), details=self.details)
        if status in (408, 413):
            self.headers.append(CLOSE)
        if problems[0].kind is Kind.CONTENT_CODING:
            self.headers.append(ACCEPTS_NO_CODING)
        if self._always_200 and problems[0].kind not in _NOT_BUSINESS:
            status = 200
        await self.answer(status, body)

    async def refuse_method(self, allowed: str) -> None:
        self.headers.append((b"allow", allowed.encode()))
        await self.refuse([Problem(Kind.NO_METHOD, None, {"method": self._method, "allowed": allowed})])

    async def fail(self, failure: Exception) -> None:
        """Answer a request that could not be done, without a word of the inside; the log has the rest."""
        name = self.id.decode()
        if isinstance(failure, Disconnected):
            return
        if isinstance(failure, Unavailable):
            log_unavailable(name, failure)
            self.headers.append(RETRY_SOON)
            await self.refuse([unavailable(failure)])
        else:
            log.error("request %s failed", name, exc_info=failure)
            await self.refuse([Problem(Kind.INTERNAL, None, {"request": name})])


_NOT_BUSINESS = {Kind.NO_ROUTE, Kind.NO_METHOD, Kind.INTERNAL, Kind.OVERLOADED, Kind.STORE_DOWN}
_bad_dry_run = Problem(Kind.PARAMETER, None, {"name": "dryRun", "expected": "0 or 1"})


def _dry_run(query: bytes) -> bool | None:
    """Whether the query asks for a dry run; None if it says so in a way that is not understood."""
    parameters = parse_qs(query.decode("latin-1"), keep_blank_values=True)
    if any(name != "dryRun" and name.lower().replace("_", "").replace("-", "") == "dryrun" for name in parameters):
        # Whoever asks for a dry run must not be answered by a write.
        return None
    return {"1": True, "true": True, "0": False, "false": False}.get(parameters.get("dryRun", ["0"])[-1])


def _wants_representation(prefer: bytes) -> bool:
    preferences = prefer.lower().replace(b" ", b"").replace(b'"', b"")
    return b"return=representation" in preferences.replace(b";", b",").split(b",")
