"""A request on a connection, and its answer, with ASGI's interface."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import httptools

from usertable import logs
from usertable.domain.errors import Problem, ProblemKind
from usertable.http.answers import JSON, Header, Receive, Scope, Send, answer, request_id
from usertable.http.request_counts import RouteCounts

if TYPE_CHECKING:
    from usertable.http.connection import Connection

log = logging.getLogger("usertable.http")

_BODILESS = (204, 304)
CLOSE_LINE = b"connection: close\r\n"
STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}


class Request:
    """A request on a connection, and its answer, with ASGI's interface."""

    __slots__ = (
        "_arrival",
        "_body",
        "_chunked",
        "_connection",
        "_is_received",
        "_known_length",
        "_pending",
        "_url",
        "_without_body",
        "answered",
        "began",
        "begun",
        "counts",
        "dropped",
        "expects_continue",
        "gone",
        "headers",
        "keep_alive",
        "method",
        "size",
        "started",
        "status",
        "version",
        "whole",
    )

    def __init__(
        self, connection: Connection, method: bytes, url: bytes, version: str, headers: list[Header], *, keep_alive: bool
    ) -> None:
        self._connection = connection
        self._url = url
        self.method = method
        self.version = version
        self.headers = headers
        self.keep_alive = keep_alive
        self.expects_continue = False
        self._body: list[bytes] = []
        self.size = 0
        """Bytes of the body that wait to be received."""
        self.dropped = 0
        """Bytes of the body that were dropped."""
        self.whole = False
        """Whether the body is complete."""
        self.gone = False
        """Whether the client is gone, or the application was told that it is."""
        self.begun = False
        """Whether the application has the request."""
        self.started = False
        """Whether the answer has begun."""
        self.answered = False
        self.status = 0
        """The answer's status, once it has begun."""
        self.began = 0.0
        """When the application got the request, by the monotonic clock."""
        self.counts: RouteCounts | None = None
        """Where to count it, if that is known before the application determines its route."""
        self._is_received = False
        self._arrival: asyncio.Future[None] | None = None
        self._pending = b""
        self._chunked = False
        self._known_length = False
        self._without_body = method == b"HEAD"

    @property
    def is_watched(self) -> bool:
        """Whether the application has the whole body and waits to be told that the client is gone."""
        return self._is_received and self._arrival is not None and not self._arrival.done()

    async def run(self, call: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        """Let the application answer."""
        sent = dict(self.headers)
        name = request_id(sent)
        if sent.get(b"x-request-id") != name:
            # So that the application uses the same ID for the request, in its logs and in the audit log.
            self.headers = [header for header in self.headers if header[0] != b"x-request-id"]
            self.headers.append((b"x-request-id", name))
        logs.request.set(logs.LoggedRequest(name.decode(), sent.get(b"traceparent")))
        scope = self._scope()
        try:
            await call(scope, self.receive, self.send)
        except Exception:
            log.exception("a request failed outside its endpoint; it was answered with 500 or not at all")
        if not self.answered and not self.gone:
            if self.started:
                # The client must not mistake an incomplete answer for a complete one.
                self._connection.abort()
            else:
                dialect = self._connection.dialect
                problem = Problem(ProblemKind.INTERNAL, None, {"request": name.decode()})
                status, body = dialect.encode_refusal([problem], dialect.language)
                await answer(self.send, status, body, [JSON, (b"x-request-id", name)])
        if self.answered:
            counts = self.counts or self._connection.counts.of(scope)
            now = time.monotonic()
            seconds = now - self.began
            counts.count(self.status, seconds)
            if (access_log := self._connection.access_log) is not None:
                access_log.add(now, counts, self.status, seconds, name, sent.get(b"traceparent"), scope["client"])

    def _scope(self) -> Scope:
        path, _, query = self._url.partition(b"?")
        if not path.startswith(b"/") and path != b"*":
            # The form that a client sends to a proxy: http://host/path.
            path = httptools.parse_url(self._url).path or b"/"
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": self.version,
            "method": self.method.decode(),
            "scheme": "http",
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": self.headers,
            "client": self._connection.caller(self.headers),
            "server": self._connection.server,
        }

    def take(self, piece: bytes) -> None:
        """Add a piece of the body as it arrives."""
        if self.answered:
            self.dropped += len(piece)
            return
        self._body.append(piece)
        self.size += len(piece)
        self._wake()

    def complete(self) -> None:
        """Mark the body as complete."""
        self.whole = True
        self._wake()

    def leave(self) -> None:
        """Mark the client as gone."""
        self.gone = True
        self._wake()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    async def receive(self) -> dict[str, Any]:
        """Return the next piece of the body, as an ASGI message; `http.disconnect` if the client is gone."""
        if self.expects_continue and not self.started and not self.gone:
            self.expects_continue = False
            if not self.whole:
                self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not (self.gone or self.answered):
            if self._body or (self.whole and not self._is_received):
                body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
                self._body.clear()
                self.size = 0
                self._is_received = self.whole
                self._connection.regulate()
                return {"type": "http.request", "body": body, "more_body": not self.whole}
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        """Send a part of the answer, an ASGI message."""
        if self.gone:
            return
        if message["type"] == "http.response.start":
            assert not self.started
            self.started = True
            if self.expects_continue:
                # Whether the client will still send its body is unknown (RFC 9110, 10.1.1).
                self.keep_alive = False
            self.status = message["status"]
            self._pending = self._head(self.status, message["headers"])
            return
        assert self.started
        assert not self.answered
        body: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        if self._pending and not self._known_length and not self._without_body:
            # The length of an answer in one piece is known. A stream is chunked, or ends with its connection.
            if not more:
                self._pending += b"content-length: %d\r\n" % len(body)
            elif self.version == "1.0":
                self.keep_alive = False
            else:
                self._pending += b"transfer-encoding: chunked\r\n"
                self._chunked = True
        data = b""
        if self._pending:
            data = self._pending + self._connection_line() + b"\r\n"
            self._pending = b""
        if not self._without_body:
            if not self._chunked:
                data += body
            else:
                data += (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"" if more else b"0\r\n\r\n")
        self._connection.write(data)
        if not more:
            self.answered = True
            self._body.clear()
            self.size = 0
            self._wake()
            self._connection.answered(self)
        else:
            await self._connection.written()

    def _head(self, status: int, headers: list[Header]) -> bytes:
        lines = [STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status, self._connection.date]
        for name, value in headers:
            if name == b"content-length":
                self._known_length = True
            elif name == b"connection":
                self.keep_alive = self.keep_alive and value.lower() != b"close"
                continue
            lines.append(b"%b: %b\r\n" % (name, value))
        self._without_body = self._without_body or status in _BODILESS
        return b"".join(lines)

    def _connection_line(self) -> bytes:
        if not self.keep_alive:
            return CLOSE_LINE
        return b"connection: keep-alive\r\n" if self.version == "1.0" else b""
