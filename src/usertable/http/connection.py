"""One client's connection: bytes to requests, requests to the ASGI application in order, answers back to bytes.

The parser is httptools. What it leaves open is decided here, by RFC 9110 and 9112: which heads are accepted, what happens to
a body that is not read, and when and how a connection ends. A plain write is answered without ASGI, see
:meth:`Connection._answer_fast`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING

import httptools

from usertable.dialects.base import Dialect
from usertable.domain.errors import Problem, ProblemKind
from usertable.http.access_log import AccessLog
from usertable.http.answers import Header, language
from usertable.http.proxies import Peer
from usertable.http.request import CLOSE_LINE, STATUS_LINES, Request
from usertable.http.request_counts import OTHER, RequestCounts
from usertable.http.request_head import (
    HEAD_BYTES,
    HEAD_LINES,
    SMALL_HEAD,
    head_bytes,
    head_too_large,
    is_host,
    is_target,
    repeated_header,
    unknown_coding,
    unknown_expectation,
)
from usertable.http.set_attributes import SetEndpoint, SetExchange

if TYPE_CHECKING:
    from usertable.http.connections import Connections

log = logging.getLogger("usertable.http")

BUFFERED_BYTES = 65_536
"""Bytes of a body that wait for the application, above which reading from the client is paused."""
PIPELINED = 16
"""Number of requests that wait on a connection for earlier ones, above which reading from the client is paused."""
LINGER_SECONDS = 10
"""Seconds for which a client's bytes are read and dropped after the last answer, so that it can read that answer."""
LINGER_BYTES = 64 * 2**20
"""Maximum bytes that are read and dropped, after the last answer or of a refused body."""
LINGERING = 1_000
"""Number of lingering connections above which a connection over the limit is closed without an answer."""


class _Reading(Enum):
    """What happens to the bytes that a client sends."""

    PARSE = "they are parsed"
    IGNORE = "no further request is taken; those that are there are answered first"
    DROP = "the last answer is sent; they are read so that the client gets to read it"


class Connection(asyncio.Protocol):
    """One client's connection."""

    __slots__ = (
        "_arrived",
        "_connections",
        "_count",
        "_ended",
        "_endpoint",
        "_expects_continue",
        "_farewell",
        "_fast",
        "_fast_put",
        "_fields",
        "_headers",
        "_host",
        "_in_head",
        "_is_further",
        "_is_paused",
        "_last_phase",
        "_lines",
        "_parser",
        "_problem",
        "_reading",
        "_receiving",
        "_requests",
        "_set_endpoints",
        "_since",
        "_size",
        "_transport",
        "_unfinished",
        "_url",
        "_writable",
        "client",
        "server",
    )

    _transport: asyncio.Transport

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._parser = httptools.HttpRequestParser(self)
        self._reading = _Reading.PARSE
        self._requests: deque[Request] = deque()
        """Requests that are not answered or not completely received, in order. The first one is being answered."""
        self._receiving: Request | None = None
        """The request whose body is arriving."""
        self._set_endpoints = connections.application.set_endpoints
        self._endpoint: SetEndpoint | None = None
        """The hot path's endpoint for the request."""
        self._fast: bytes | None = None
        """The received body of a write that may be answered without ASGI."""
        self._fast_put: SetExchange | None = None
        """The write that is being answered without ASGI."""
        self._in_head = False
        self._arrived = 0
        """Bytes that arrived since the head began, and possibly some before it."""
        self._headers: list[Header] = []
        self._fields: dict[bytes, bytes] = {}
        """The headers by name, once the head is complete; of several with one name, the last."""
        self._host: bytes | None = None
        """The last `Host` that was valid."""
        self._url = b""
        self._lines = 0
        self._expects_continue = False
        self._is_further = False
        """Whether the parser made progress with the last bytes."""
        self._unfinished = 0
        """Bytes without progress."""
        self._size = 0
        """Bytes that were read and dropped."""
        self._problem: Problem | None = None
        """The problem with the request, found during parsing."""
        self._farewell: bytes | None = None
        """The answer after which the connection ends, once earlier answers are sent."""
        self._ended = False
        """Whether the client will send no more."""
        self._is_paused = False
        self._writable: asyncio.Future[None] | None = None
        self._count = 0
        self._last_phase: tuple[str, int] = ("", 0)
        self._since = 0.0

    def caller(self, headers: Iterable[Header]) -> Peer | None:
        """Return the sender of a request with these headers."""
        forwarded_for = [value for name, value in headers if name == b"x-forwarded-for"]
        return self._connections.proxies.client(self.client, forwarded_for) if forwarded_for else self.client

    # Bytes that arrive

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        # For a Unix socket it is an empty text.
        self.client = transport.get_extra_info("peername") or None
        self.server = transport.get_extra_info("sockname")
        connections = self._connections
        connections.open.add(self)
        if len(connections.open) - len(connections.lingering) > connections.limit:
            if len(connections.lingering) < LINGERING:
                self.end(Problem(ProblemKind.OVERLOADED))
            else:
                self.abort()

    def data_received(self, data: bytes) -> None:
        if self._reading is not _Reading.PARSE:
            self._size += len(data)
            if self._size > LINGER_BYTES:
                self.abort()
            return
        rest = data
        while rest and self._reading is _Reading.PARSE:
            rest = self._parse(rest)
        receiving = self._receiving
        if receiving is not None and receiving.dropped > LINGER_BYTES:
            self.abort()
        elif receiving is not None or len(self._requests) > PIPELINED:
            self.regulate()

    def _parse(self, data: bytes) -> bytes:
        """Pass bytes to the parser. Return the bytes to be parsed after them."""
        self._is_further = False
        self._arrived = self._arrived + len(data) if self._in_head else len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            return self._decline_upgrade() + data[offer.args[0] :]
        except httptools.HttpParserCallbackError:
            if self._problem is None:
                log.exception("reading a request failed; its connection was closed")
            self.end(self._problem or Problem(ProblemKind.INTERNAL, None, {"request": "-"}))
        except httptools.HttpParserError:
            self.end(Problem(ProblemKind.NOT_HTTP))
        else:
            # Only the parser has incomplete parts (a header, a trailer, a chunk extension).
            self._unfinished = 0 if self._is_further else self._unfinished + len(data)
            if self._unfinished > HEAD_BYTES:
                self.end(head_too_large())
        return b""

    def _decline_upgrade(self) -> bytes:
        """Return the head of a request that offers another protocol, without the offer (RFC 9110, 7.8).

        The parser would treat what follows such a head as the other protocol, so it gets the head again.
        """
        parser = self._parser
        method = parser.get_method()
        if method == b"CONNECT":
            self.end(
                Problem(
                    ProblemKind.NO_METHOD, None, {"method": "CONNECT", "allowed": ("GET", "PUT", "POST", "PATCH", "DELETE")}
                )
            )
            return b""
        self._parser = httptools.HttpRequestParser(self)
        lines = b"".join(b"%b: %b\r\n" % header for header in self._headers if header[0] != b"upgrade")
        return b"%b %b HTTP/%b\r\n%b\r\n" % (method, self._url, parser.get_http_version().encode(), lines)

    def eof_received(self) -> bool:
        """Keep answering a client that has only closed its sending side."""
        self._ended = True
        if self._reading is _Reading.DROP:
            return False
        if self._receiving is not None:
            # It will never be complete. Earlier requests are answered.
            self._requests.pop().leave()
            self._receiving = None
        if self._requests and (self._requests[0].started or self._requests[0].is_watched):
            # A stream may never end, and its reader does not close its sending side. Neither does a client that waits for
            # something so slow that it is abandoned when the client disconnects.
            return False
        return bool(self._requests) or self._fast_put is not None

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.open.discard(self)
        self._connections.lingering.discard(self)
        self._reading = _Reading.DROP
        for request in self._requests:
            request.leave()
        self._requests.clear()
        self._fast_put = self._fast = self._receiving = None
        # The parser refers to this connection. Both would stay in memory, with the last bytes, until the garbage collector
        # searches for cycles, which it seldom does here.
        del self._parser
        self.resume_writing()

    # What the parser finds

    def on_message_begin(self) -> None:
        self._is_further = self._in_head = True
        self._url = b""
        self._headers = []
        self._lines = 0
        self._expects_continue = False
        self._problem = None
        self._count += 1

    def on_url(self, piece: bytes) -> None:
        self._url += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        self._lines += 1
        if self._lines > HEAD_LINES:
            raise self._refusal(head_too_large())
        # Trailers are not headers (RFC 9110, 6.5.1).
        if self._in_head:
            # The parser keeps trailing blanks of a value, which do not belong to it (RFC 9110, 5.5).
            self._headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        parser = self._parser
        if parser.should_upgrade():
            return
        self._is_further = True
        self._in_head = False
        self._lines = 0
        version = parser.get_http_version()
        self._endpoint = endpoint = self._set_endpoints.get(self._url)
        if (problem := self._check_head(version)) is not None:
            raise self._refusal(problem)
        method = parser.get_method()
        if (
            endpoint is not None
            and method == endpoint.method
            and not self._requests
            and self._fast_put is None
            and version == "1.1"
            and not self._expects_continue
            and parser.should_keep_alive()
            and not (self._connections.has_cors and b"origin" in self._fields)
        ):
            self._fast = b""
        else:
            self._begin(method, version)

    def on_body(self, piece: bytes) -> None:
        self._is_further = True
        if self._fast is not None:
            if not self._fast:
                self._fast = piece
                return
            self._release()
        assert self._receiving is not None
        self._receiving.take(piece)
        self._advance()

    def on_message_complete(self) -> None:
        self._is_further = True
        if self._fast is not None:
            endpoint = self._endpoint
            assert endpoint is not None
            if (put := endpoint.begin(self._fields, self._fast)) is not None:
                self._fast, self._fast_put = None, put
                put.begun.add_done_callback(lambda _: self._answer_fast(endpoint, put))
                return
            self._release()
        request = self._receiving
        if request is None:
            # For a head that offers an upgrade; the request comes again.
            return
        self._receiving = None
        request.complete()
        if request.answered:
            self._forget(request)
        else:
            self._advance()

    def _refusal(self, problem: Problem) -> ValueError:
        self._problem = problem
        return ValueError(problem.kind)

    def _check_head(self, version: str) -> Problem | None:
        """Return the problem with a head that the parser accepts."""
        if version not in ("1.1", "1.0"):
            return Problem(ProblemKind.HTTP_VERSION, None, {"version": version})
        headers = self._headers
        self._fields = fields = dict(headers)
        if len(fields) != len(headers) and (problem := repeated_header(headers)) is not None:
            return problem
        if b"transfer-encoding" in fields and (problem := unknown_coding(headers, version)) is not None:
            return problem
        if b"expect" in fields:
            if (problem := unknown_expectation(headers)) is not None:
                return problem
            self._expects_continue = version == "1.1"
        # Adding up takes a microsecond, a fortieth of a write, so it is done only if the head may be too large.
        if self._arrived > SMALL_HEAD and head_bytes(self._url, headers) > HEAD_BYTES:
            return head_too_large()
        host = fields.get(b"host")
        if host is None:
            if version == "1.1":
                return Problem(ProblemKind.HOST)
        elif host != self._host:
            if not is_host(host):
                return Problem(ProblemKind.HOST)
            self._host = host
        return None if self._endpoint is not None or is_target(self._url) else Problem(ProblemKind.NOT_HTTP)

    # Requests and their answers

    def _begin(self, method: bytes, version: str) -> None:
        """Begin a request whose head is complete."""
        keep_alive = self._parser.should_keep_alive() and not self._connections.is_draining
        request = Request(self, method, self._url, version, self._headers, keep_alive=keep_alive)
        request.expects_continue = self._expects_continue
        self._receiving = request
        self._requests.append(request)
        self._advance()

    def _advance(self) -> None:
        """Pass the first request to the application, if it is complete or too large to wait for.

        Some requests are answered without reading their body, so a request must not begin before its body is known to be
        valid.
        """
        if self._requests and self._fast_put is None:
            request = self._requests[0]
            is_due = request.whole or request.expects_continue or request.size > BUFFERED_BYTES
            if is_due and not request.begun:
                self._connections.start(request, self._connections.application)

    def _release(self) -> None:
        """Pass a request that was held back for the fast path to the application."""
        piece, self._fast = self._fast, None
        assert self._endpoint is not None
        self._begin(self._endpoint.method, "1.1")
        if piece:
            assert self._receiving is not None
            self._receiving.take(piece)

    def _answer_fast(self, endpoint: SetEndpoint, put: SetExchange) -> None:
        """Answer a write that was begun without ASGI."""
        answer = endpoint.success(put)
        if self._fast_put is not put:
            # The client is gone. Its request was executed.
            return
        if answer is None or self._writable is not None:
            request = Request(
                *(self, endpoint.method, endpoint.url, "1.1", [*put.sent.items(), (b"x-request-id", put.id)]),
                keep_alive=not self._connections.is_draining,
            )
            request.whole = True
            request.began, request.counts = put.began, endpoint.requests
            self._fast_put = None
            self._requests.appendleft(request)
            self._connections.start(request, lambda scope, receive, send: endpoint.conclude(put, send))
            return
        self._fast_put = None
        connections = self._connections
        finished = endpoint.commit.finished
        seconds = finished - put.began
        endpoint.requests.uncounted.append(seconds)
        if (access_log := connections.access_log) is not None:
            caller = self.client if b"x-forwarded-for" not in put.sent else self.caller(put.sent.items())
            access_log.add(finished, endpoint.requests, 200, seconds, put.id, put.sent.get(b"traceparent"), caller)
        if connections.is_draining:
            self.write(b"HTTP/1.1 200 OK\r\n" + connections.date + CLOSE_LINE + answer)
            self._linger()
            return
        self.write(b"HTTP/1.1 200 OK\r\n" + connections.date + answer)
        if self._requests or self._farewell is not None or self._ended:
            self._next()

    def write(self, data: bytes) -> None:
        """Send bytes, unless the client is gone."""
        if not self._transport.is_closing():
            self._transport.write(data)

    @property
    def date(self) -> bytes:
        """The line `date: …` of an answer."""
        return self._connections.date

    def answered(self, request: Request) -> None:
        """Continue after a request's answer."""
        if not request.keep_alive or self._connections.is_draining:
            # The requests after it were not begun.
            self._linger()
        elif request.whole:
            self._forget(request)
        else:
            # The rest of its body is read and dropped.
            self.regulate()

    def _forget(self, request: Request) -> None:
        """Remove a request that is finished."""
        if self._requests and self._requests[0] is request:
            self._requests.popleft()
            self._next()

    def _next(self) -> None:
        """Answer the next waiting request, or end the connection if there will be no more."""
        if self._requests:
            self._advance()
            self.regulate()
        elif self._farewell is not None:
            self.write(self._farewell)
            self._linger()
        elif self._ended:
            self._close()

    def regulate(self) -> None:
        """Read from the client, unless too many of its bytes are waiting here."""
        receiving = self._receiving
        is_full = self._reading is _Reading.PARSE and (
            len(self._requests) > PIPELINED or (receiving is not None and receiving.size > BUFFERED_BYTES)
        )
        if is_full != self._is_paused and not self._transport.is_closing():
            self._is_paused = is_full
            if is_full:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    # Clients that read slowly

    def pause_writing(self) -> None:
        if self._writable is None:
            self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._writable is not None:
            self._writable.set_result(None)
            self._writable = None

    async def written(self) -> None:
        """Wait until the client has read enough for more to be sent."""
        if self._writable is not None:
            await asyncio.shield(self._writable)

    # The end

    @property
    def dialect(self) -> Dialect:
        """The dialect for refusing a request that reached no application."""
        return self._connections.application.dialect

    @property
    def counts(self) -> RequestCounts:
        """The process's counts of requests."""
        return self._connections.application.counts

    @property
    def access_log(self) -> AccessLog | None:
        """The access log, if it is on."""
        return self._connections.access_log

    def end(self, problem: Problem) -> None:
        """Refuse the arriving request after earlier answers, and accept no more."""
        if self._reading is not _Reading.PARSE:
            return
        dialect = self.dialect
        status, body = dialect.encode_refusal([problem], language(dict(self._headers), dialect.language))
        head = b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body)
        farewell = STATUS_LINES[status] + head + self.date + CLOSE_LINE + b"\r\n" + body
        self._reading = _Reading.IGNORE
        self._in_head = False
        self._fast = None
        receiving, self._receiving = self._receiving, None
        if receiving is not None:
            # If it has begun, it waits for a body that will not come.
            self._requests.pop().leave()
            if receiving.answered:
                # Only the rest of its body was missing.
                self._linger()
                return
            if receiving.started:
                self.abort()
                return
        self.counts.refusals[problem.kind] += 1
        counts = self.counts.route(OTHER, OTHER)
        counts.by_status[status] += 1
        if self.access_log is not None:
            self.access_log.add(time.monotonic(), counts, status, 0.0, b"-", None, self.client)
        if self._requests or self._fast_put is not None:
            self._farewell = farewell
        else:
            self.write(farewell)
            self._linger()
        self.regulate()

    def _linger(self) -> None:
        """Send no more, but keep reading for a while: otherwise the client would get a reset before it reads the answer."""
        for request in self._requests:
            request.leave()
        self._requests.clear()
        self._receiving = None
        self._reading = _Reading.DROP
        if self._ended or self._transport.is_closing():
            self._close()
            return
        self._connections.lingering.add(self)
        self._transport.write_eof()
        self.regulate()

    def _close(self) -> None:
        self._reading = _Reading.DROP
        self._transport.close()

    def abort(self) -> None:
        """Close at once, dropping what was not sent."""
        self._reading = _Reading.DROP
        self._transport.abort()

    def drain(self) -> None:
        """Close if idle; otherwise after the outstanding answers."""
        for request in self._requests:
            request.keep_alive = False
        if self._reading is _Reading.PARSE and not self._is_working:
            self._close()

    @property
    def is_busy(self) -> bool:
        """Whether a request has begun to arrive, is not answered yet, or its answer is not sent yet."""
        return self._transport.get_write_buffer_size() > 0 or self._is_working

    @property
    def _is_working(self) -> bool:
        if self._reading is _Reading.DROP:
            return False
        return bool(self._requests) or self._fast_put is not None or self._fast is not None or self._in_head

    def _phase(self) -> tuple[str, int]:
        """Return what the connection is waiting for, and the number of the request."""
        if size := self._transport.get_write_buffer_size():
            return ("write", size)
        if self._reading is _Reading.DROP:
            return ("linger", 0)
        if self._is_paused:
            # Reading was paused by the server.
            return ("answer", self._count)
        if self._fast is not None or self._in_head or self._receiving is not None or not self._count:
            return ("receive", self._count)
        if self._requests or self._fast_put is not None:
            return ("answer", self._count)
        return ("idle", self._count)

    def sweep(self, now: float) -> None:
        """End the connection if what it is waiting for takes too long."""
        phase = self._phase()
        if phase != self._last_phase:
            self._last_phase, self._since = phase, now
            return
        waited = now - self._since
        seconds = self._connections.body_seconds
        if phase[0] == "receive" and waited > seconds:
            self.end(Problem(ProblemKind.BODY_TIMEOUT, None, {"seconds": str(seconds)}))
        elif phase[0] == "idle" and waited > self._connections.keep_alive_seconds:
            self._close()
        elif (phase[0] == "write" and waited > seconds) or (phase[0] == "linger" and waited > LINGER_SECONDS):
            self.abort()
