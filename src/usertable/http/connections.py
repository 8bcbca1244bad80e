"""All connections of a server, and their common state."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from usertable.dialects.base import Dialect
from usertable.http.access_log import AccessLog
from usertable.http.answers import Receive, Scope, Send
from usertable.http.connection import Connection
from usertable.http.proxies import TrustedProxies
from usertable.http.request import Request
from usertable.http.request_counts import RequestCounts
from usertable.http.set_attributes import SetEndpoint


class Application(Protocol):
    """What answers requests: an ASGI application, and the endpoints of the hot path."""

    dialect: Dialect
    """The dialect for refusing a request that reached no application."""
    set_endpoints: dict[bytes, SetEndpoint]
    """By URL."""
    counts: RequestCounts

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]: ...


class Connections:
    """All connections of a server, and their common state.

    Args:
        application: answers the requests.
        body_seconds: maximum seconds for a request to arrive completely, and for a client to continue reading.
        keep_alive_seconds: seconds after which an idle connection is closed.
        limit: maximum number of open connections; a further one is answered with an error and closed.
        proxies: the proxies that are trusted to name the caller.
        has_cors: whether answers to requests with an `Origin` need CORS headers.
        access_log: the access log, if it is on.
    """

    def __init__(
        self,
        application: Application,
        *,
        body_seconds: int,
        keep_alive_seconds: int,
        limit: int,
        proxies: TrustedProxies,
        has_cors: bool = False,
        access_log: AccessLog | None = None,
    ) -> None:
        self.application = application
        self.proxies = proxies
        self.has_cors = has_cors
        self.body_seconds = body_seconds
        self.keep_alive_seconds = keep_alive_seconds
        self.limit = limit
        self.access_log = access_log
        self.open: set[Connection] = set()
        self.lingering: set[Connection] = set()
        """Connections that have had their last answer. They do not count towards the limit."""
        self.tasks: set[asyncio.Task[None]] = set()
        self.is_draining = False
        self.date = b""
        """The line `date: …`, updated every second by whatever runs the server."""

    def __call__(self) -> Connection:
        """Return a protocol for a new connection."""
        return Connection(self)

    def start(self, request: Request, call: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        """Answer a request in a task of its own."""
        request.begun = True
        request.began = request.began or time.monotonic()
        task = asyncio.get_running_loop().create_task(request.run(call))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def sweep(self, now: float) -> None:
        """End what takes too long. Called about once a second with the event loop's time."""
        for connection in list(self.open):
            connection.sweep(now)

    def drain(self) -> None:
        """Close idle connections. A request that has begun is answered; then its connection closes."""
        self.is_draining = True
        for connection in list(self.open):
            connection.drain()

    @property
    def are_busy(self) -> bool:
        """Whether a request is in progress on any connection."""
        return any(connection.is_busy for connection in self.open)

    def abort(self) -> None:
        """End every connection and request at once."""
        for connection in list(self.open):
            connection.abort()
        for task in self.tasks:
            task.cancel()
