"""The part that a dialect's endpoints share, and Get CUID."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from usertable.app.access import Authenticator, ProjectAccess
from usertable.app.activity import ActivityRecorder
from usertable.app.users import Users
from usertable.dialects.base import Dialect
from usertable.domain import permissions
from usertable.domain.errors import Problem, ProblemKind, Refused, excerpt, refusal
from usertable.http.admission import admit, forbidden
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
    source,
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
        body_limit: maximum bytes of a body.
        always_200: answer HTTP 200 to every refusal; clients then rely on the dialect's code alone.
    """

    dialect: Dialect
    authenticator: Authenticator
    recorder: ActivityRecorder
    counts: RequestCounts
    body_limit: int
    always_200: bool


class DialectExchange(Exchange):
    """One request and its answer, in a dialect's format."""

    # Class attributes as defaults for what is not set for every request: they cost nothing on the hot path.
    api = ""
    """The name by which a request is counted."""
    server: DialectServer
    needs: permissions.Scope
    """The scope that a caller's key must have."""
    access: ProjectAccess
    """The caller's access, after authentication."""
    is_authenticated = False
    """Whether the caller was authenticated by its credentials."""
    key_name = ""
    """Name of the caller's key."""
    client: tuple[str, int] | None = None
    """Address and port of the peer."""
    cuid: int | None = None
    data: dict[str, Any] | None = None
    details = False
    """Whether the caller requests all problems."""
    problems: Sequence[Problem] = ()
    """Why it was refused."""
    language: Language | None = None
    """The language for a caller that requests none, if it differs from the dialect's."""

    @classmethod
    def of(cls, server: DialectServer, scope: Scope, send: Send) -> Self:
        """Return the exchange for an ASGI request."""
        exchange = cls(dict(scope["headers"]), send)
        exchange.server, exchange.client = server, scope.get("client")
        return exchange

    @property
    def counts(self) -> RequestCounts:
        return self.server.counts

    async def authenticate(self) -> ProjectAccess:
        """Return the access of the caller's credentials, if its key has the needed scope. Raises Refused and Unavailable."""
        access = await self._admit()
        self.access, self.activity, self.key_name = access, access.activity, access.key_name
        self._check_scope(access)
        self.is_authenticated = True
        return access

    async def _admit(self) -> ProjectAccess:
        dialect = self.server.dialect
        authorization = self.sent.get(dialect.authorization, b"")
        access = await admit(self.server.authenticator, authorization, self.client, dialect.credentials)
        if access is None:
            self.headers.append(dialect.challenge)
            if named := dialect.credentials(authorization):
                self.server.recorder.failed_login(named[0], self.id)
            raise refusal(ProblemKind.CREDENTIALS)
        return access

    def _check_scope(self, access: ProjectAccess) -> None:
        if self.needs not in access.scopes:
            raise forbidden(access, self.needs)

    async def read_body(self, receive: Receive) -> bytes:
        """Return the request's body. Raises Refused, also if the caller's access has ended meanwhile, and Disconnected."""
        body = await read_json_body(receive, self.sent, self.server.body_limit)
        if isinstance(body, Problem):
            raise Refused([body])
        if self.is_authenticated:
            # It may have taken long to arrive.
            self._check_scope(await self._admit())
        return body

    async def answer(self, status: int, body: bytes) -> None:
        await answer(self.send, status, body, [JSON, (b"x-request-id", self.id), *self.headers])

    async def answer_refusal(self, problems: Sequence[Problem]) -> None:
        """Answer with the first problem's code and text, and with all problems if the caller requested details."""
        server = self.server
        self.problems = problems
        if self.activity is not None:
            self.activity.refused(self.api, self.id, problems, self.cuid, self.data, self.key_name)
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
    needs = permissions.Scope.REGISTER


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
        cuids = await asyncio.to_thread(
            self._users.register,
            access.project,
            request.name,
            request.values,
            actor=access.actor.with_origin(exchange.id.decode(), "", source(exchange.sent)),
        )
        access.activity.accepted_registration(exchange.id, request.name, cuids, access.key_name)
        await exchange.answer(200, dialect.encode_registered(request.values, cuids))


async def no_route(server: DialectServer, scope: Scope, send: Send) -> None:
    """Answer a request to a path without a route.

    A mistyped path of the dialect is answered in its language, any other path in English. Callers may request another
    language.
    """
    exchange = DialectExchange.of(server, scope, send)
    root = server.dialect.set.path.split("/")[1]
    if not scope["path"].startswith(f"/{root}/"):
        exchange.language = "en"
    await exchange.refuse([Problem(ProblemKind.NO_ROUTE, None, {"path": excerpt(scope["path"], 200)})])
