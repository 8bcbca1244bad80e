"""What the endpoints of a dialect have in common, and Get CUID."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from usertable.app.access import Authenticator, ProjectAccess
from usertable.app.activity import ActivityRecorder
from usertable.app.users import Users
from usertable.dialects.base import Dialect
from usertable.domain.errors import Problem, ProblemKind, Refused, excerpt, refusal
from usertable.http.admission import admit
from usertable.http.answers import (
    ACCEPTS_NO_CODING,
    CLOSE,
    JSON,
    Receive,
    Scope,
    Send,
    answer,
    language,
    read_json_body,
)
from usertable.http.body_threads import when_decoded
from usertable.http.exchange import Exchange
from usertable.http.request_counts import RequestCounts
from usertable.wire.messages import Language

_NOT_BUSINESS = {
    ProblemKind.NO_ROUTE,
    ProblemKind.NO_METHOD,
    ProblemKind.INTERNAL,
    ProblemKind.OVERLOADED,
    ProblemKind.STORE_DOWN,
}


@dataclass(frozen=True, slots=True)
class DialectServer:
    """A dialect, and what serves its requests.

    Args:
        body_limit: largest body, in bytes.
        always_200: answer HTTP 200 to every refusal; clients then go by the dialect's code alone.
    """

    dialect: Dialect
    authenticator: Authenticator
    recorder: ActivityRecorder
    counts: RequestCounts
    body_limit: int
    always_200: bool


class DialectExchange(Exchange):
    """One request and its answer, in a dialect's format."""

    # What is not set for every request has its default here: it costs nothing on the hot path.
    api = ""
    """The name by which a request is counted."""
    server: DialectServer
    client: tuple[str, int] | None = None
    """Address and port of the peer."""
    cuid: int | None = None
    data: dict[str, Any] | None = None
    details = False
    """Whether the caller asks for every problem."""
    problems: Sequence[Problem] = ()
    """Why it was refused."""
    language: Language | None = None
    """That of a caller who names none, if it is not the dialect's."""

    @classmethod
    def of(cls, server: DialectServer, scope: Scope, send: Send) -> Self:
        """That of an ASGI request."""
        exchange = cls(dict(scope["headers"]), send)
        exchange.server, exchange.client = server, scope.get("client")
        return exchange

    @property
    def counts(self) -> RequestCounts:
        return self.server.counts

    async def authenticate(self) -> ProjectAccess:
        """The access that the caller's credentials grant. Raises Refused and Unavailable."""
        dialect = self.server.dialect
        authorization = self.sent.get(dialect.authorization, b"")
        access = await admit(self.server.authenticator, authorization, self.client, dialect.credentials)
        if access is None:
            self.headers.append(dialect.challenge)
            if named := dialect.credentials(authorization):
                self.server.recorder.failed_login(named[0], self.id)
            raise refusal(ProblemKind.CREDENTIALS)
        self.activity = access.activity
        return access

    async def read_body(self, receive: Receive) -> bytes:
        """The body of the request. Raises Refused and Disconnected."""
        body = await read_json_body(receive, self.sent, self.server.body_limit)
        if isinstance(body, Problem):
            raise Refused([body])
        return body

    async def answer(self, status: int, body: bytes) -> None:
        await answer(self.send, status, body, [JSON, (b"x-request-id", self.id), *self.headers])

    async def answer_refusal(self, problems: Sequence[Problem]) -> None:
        """Answer with the first problem's code and text, and with all of them if the caller asked for details."""
        server = self.server
        self.problems = problems
        if self.activity is not None:
            self.activity.refused(self.api, self.id, problems, self.cuid, self.data)
        spoken = language(self.sent, self.language or server.dialect.language)
        status, body = server.dialect.encode_refusal(problems, spoken, details=self.details)
        if status in (408, 413):
            self.headers.append(CLOSE)
        if problems[0].kind is ProblemKind.CONTENT_CODING:
            self.headers.append(ACCEPTS_NO_CODING)
        if server.always_200 and problems[0].kind not in _NOT_BUSINESS:
            status = 200
        await self.answer(status, body)


class _RegisterExchange(DialectExchange):
    api = "register"


class RegisterEndpoint:
    """Get CUID, in a dialect."""

    def __init__(self, server: DialectServer, users: Users) -> None:
        self._server = server
        self._users = users

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = _RegisterExchange.of(self._server, scope, send)
        await exchange.run(self._serve(exchange, scope["method"], receive))

    async def _serve(self, exchange: DialectExchange, method: str, receive: Receive) -> None:
        dialect = self._server.dialect
        if method != dialect.register.method:
            raise exchange.refuse_method(method, dialect.register.method)
        access = await exchange.authenticate()
        exchange.count_against(access.limit(exchange.api))
        request = await when_decoded(dialect.decode_register, await exchange.read_body(receive))
        if request.problems:
            raise Refused(request.problems)
        cuids = await asyncio.to_thread(self._users.register, access.project, request.name, request.values)
        access.activity.accepted_registration(exchange.id, request.name, cuids)
        await exchange.answer(200, dialect.encode_registered(request.values, cuids))


async def no_route(server: DialectServer, scope: Scope, send: Send) -> None:
    """Answer a request to a path that nobody has.

    Whoever mistypes a path of the dialect is answered in its language, anybody else in English; both may ask for the other.
    """
    exchange = DialectExchange.of(server, scope, send)
    root = server.dialect.set.path.split("/")[1]
    if not scope["path"].startswith(f"/{root}/"):
        exchange.language = "en"
    await exchange.refuse([Problem(ProblemKind.NO_ROUTE, None, {"path": excerpt(scope["path"], 200)})])
