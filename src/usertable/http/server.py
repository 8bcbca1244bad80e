"""The server process: uvicorn around the application, with the manners we add to it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from usertable.config import Config
from usertable.console.notes import Notes
from usertable.console.views.sign_in import print_link
from usertable.console.visit import HOME
from usertable.domain.errors import Kind, Problem, StoreFault
from usertable.http.answers import Receive, Scope, Send
from usertable.http.app import App
from usertable.http.platform import ATTRIBUTE_PATH, PlainPut
from usertable.http.workers import Supervisor, reserve
from usertable.limit import SharedCounts
from usertable.store import Store, is_shareable, open_store, shown_url
from usertable.wire import jiguang

log = logging.getLogger("usertable.server")

SWEEP_SECONDS = 1.0


class _Gathering:
    """A transport that holds the head of an answer back until its body comes: one system call where uvicorn makes two.

    The calls to send are what an answer costs most.
    """

    __slots__ = ("_head", "_transport", "get_extra_info", "is_closing", "pause_reading", "resume_reading")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        self.get_extra_info = transport.get_extra_info
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading

    def write(self, data: bytes) -> None:
        if self._head:
            data = self._head + data
            self._head = b""
        elif data.startswith(b"HTTP/1.1 ") and data.endswith(b"\r\n\r\n") and not data.startswith(b"HTTP/1.1 100 "):
            self._head = data
            return
        self._transport.write(data)

    def flush(self) -> None:
        """Send a head that no body follows."""
        if self._head:
            self._transport.write(self._head)
            self._head = b""

    def close(self) -> None:
        self.flush()
        self._transport.close()


_PLAIN_URL = ATTRIBUTE_PATH.encode()


class _NobodyWaits:
    def set(self) -> None:
        return


class _PlainCycle:
    """What uvicorn sees of a request that is answered without ASGI: whole, and not answered yet."""

    __slots__ = ("disconnected", "keep_alive", "response_complete", "scope")

    more_body = False
    response_started = False
    message_event = _NobodyWaits()

    def __init__(self, scope: Any) -> None:
        self.scope = scope
        self.disconnected = False
        self.keep_alive = True
        self.response_complete = False


_heads: tuple[list[tuple[bytes, bytes]], bytes] = ([], b"")


def _plain_head(default_headers: list[tuple[bytes, bytes]]) -> bytes:
    """Status line and uvicorn's own headers, which it makes anew every second."""
    global _heads
    if _heads[0] is not default_headers:
        lines = b"".join(b"%b: %b\r\n" % header for header in default_headers)
        _heads = (default_headers, b"HTTP/1.1 200 OK\r\n" + lines)
    return _heads[1]


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol; what it answers by itself is JSON, and a request must arrive whole in its time."""

    receiving_since: float | None = None
    max_connections: int = 2**31
    application: App
    cycle: Any  # uvicorn's, or a _PlainCycle
    _held: bytes | None = None
    """What came of the body of a PUT that may be answered without ASGI."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(_Gathering(transport))  # type: ignore[arg-type]
        if len(self.connections) > self.max_connections:
            self._answer(503, Problem(Kind.OVERLOADED))

    # A PUT that comes in one piece and simply succeeds is answered without ASGI, whose messages and tasks cost as much as
    # all the rest. Whatever is not plain goes uvicorn's way: from the start, or, once it is begun, through a cycle of its.

    def on_headers_complete(self) -> None:
        if (
            self.url == _PLAIN_URL
            and (self.cycle is None or self.cycle.response_complete)
            and not self.expect_100_continue
            and self.parser.get_method() == b"PUT"
            and self.parser.get_http_version() == "1.1"
            and self.parser.should_keep_alive()
            and not self.parser.should_upgrade()
        ):
            self._held = b""
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._held == b"":
            self._held = body
            return
        if self._held is not None:
            self._release()
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._held is not None:
            put = self.application.platform.begin_plain(self.headers, self._held)
            if put is not None:
                self._held = None
                cycle = self.cycle = _PlainCycle(self.scope)
                put.begun.add_done_callback(lambda _: self._answer_plain(cycle, put))
                return
            self._release()
        super().on_message_complete()

    def _release(self) -> None:
        """Give a request that was held back to uvicorn."""
        body, self._held = self._held, None
        super().on_headers_complete()
        if body:
            super().on_body(body)

    def _answer_plain(self, cycle: _PlainCycle, put: PlainPut) -> None:
        answer = put.answer()
        if cycle.disconnected or self.transport.is_closing():
            return
        if answer is None or self.flow.write_paused:
            self._conclude(cycle, put)
            return
        end = b"" if cycle.keep_alive else b"connection: close\r\n"
        self.transport.write(_plain_head(self.server_state.default_headers) + end + answer)
        cycle.response_complete = True
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _conclude(self, plain: _PlainCycle, put: PlainPut) -> None:
        plain.scope["method"] = "PUT"
        cycle = RequestResponseCycle(
            scope=plain.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=plain.keep_alive,
            on_response=self.on_response_complete,
        )
        if self.cycle is plain:
            self.cycle = cycle

        async def conclude(scope: Scope, receive: Receive, send: Send) -> None:
            await self.application.platform.conclude(put, send)
            plain.response_complete = True

        self._start_asgi_task(cycle, conclude)  # type: ignore[arg-type]

    def on_response_complete(self) -> None:
        self.transport.flush()  # type: ignore[attr-defined]
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        self._answer(400, Problem(Kind.BODY_NOT_JSON, None, {"reason": "this is not an HTTP/1.1 request"}))

    def refuse_slow(self, seconds: int) -> None:
        """End a connection whose request did not arrive in time."""
        self._answer(408, Problem(Kind.BODY_TIMEOUT, None, {"seconds": str(seconds)}))

    def is_receiving(self) -> bool:
        """Whether a request has begun, or should have, and is not there yet."""
        if self.cycle is None or self.cycle.response_complete:
            return self.timeout_keep_alive_task is None
        return self.cycle.more_body and not self.cycle.response_started

    def _answer(self, status: int, problem: Problem) -> None:
        _, body = jiguang.encode_refusal([problem], "zh")
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(head.encode() + body)
        self.transport.close()


class Server(uvicorn.Server):
    """uvicorn's server, sweeping out connections that are too slow to send their request."""

    def __init__(self, config: uvicorn.Config, body_seconds: int, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._body_seconds = body_seconds
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # Only now: whoever reads it may connect, or send a signal, at once.
        if self.started:
            self._announce()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # uvicorn's own raises the signal again after the drain, which would end the process before the store is closed.
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:
            self._sweep(asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    def _sweep(self, now: float) -> None:
        for connection in list(self.server_state.connections):
            assert isinstance(connection, Protocol)
            if not connection.is_receiving():
                connection.receiving_since = None
            elif connection.receiving_since is None:
                connection.receiving_since = now
            elif now - connection.receiving_since > self._body_seconds:
                connection.refuse_slow(self._body_seconds)


def serve(config: Config) -> None:
    """Serve until SIGTERM or Ctrl-C, then drain: requests under way are answered, queued writes committed.

    Raises:
        StoreFault: the store cannot be used.
        OSError: the address cannot be listened on.
    """
    _log_to_stderr(config)
    # Bind first: a taken port must not touch the store.
    listener = _listen(config.host, config.port)
    try:
        if config.workers > 1 and not is_shareable(config.store):
            raise StoreFault(f"{shown_url(config.store)} can have one server process only; workers need a postgresql store")
        store = open_store(config.store, serving=True)
    except StoreFault:
        listener.close()
        raise
    host, port = listener.getsockname()[:2]
    where = f"[{host}]" if ":" in host else host
    reach = "this machine only" if config.host in ("127.0.0.1", "::1", "localhost") else "other machines too"

    config = replace(config, port=port)

    def announce(notes: Notes) -> None:
        log.info("serving %s on http://%s:%d (reachable from %s)", shown_url(config.store), where, port, reach)
        if not config.admin_token:
            log.info("no admin token is configured: the native API's admin routes are closed")
        if config.console and config.admin_token:
            log.info("the console: http://%s:%d%s", where, port, HOME)
        elif config.console:
            print_link(config, notes)

    if config.workers == 1:
        notes = Notes.alone()
        _run(config, store, listener, lambda: announce(notes), notes=notes)
    else:
        # It was opened to migrate it, and to tell at once what is wrong with it.
        store.close()
        with reserve(listener):
            Supervisor(config, announce).run()
    log.info("stopped; every write that was answered is in the store")


def run_worker(config: Config, counts: SharedCounts, notes: Notes, ready: Callable[[], None]) -> None:
    """Serve as one of several processes, which the supervisor starts and stops."""
    _log_to_stderr(config)
    try:
        store = open_store(config.store, serving=True)
    except StoreFault as fault:
        # The supervisor tries again; the database may be back by then.
        raise SystemExit(f"usertable worker: {fault}") from fault
    _run(config, store, _listen(config.host, config.port, shared=True), ready, counts, notes)


def _run(
    config: Config,
    store: Store,
    listener: socket.socket,
    announce: Callable[[], None],
    counts: SharedCounts | None = None,
    notes: Notes | None = None,
) -> None:
    # Requests make no cycles; what lives long is not worth looking through again and again.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    # A thread that works beside the event loop lets it go on after so many seconds, instead of 5 ms.
    sys.setswitchinterval(0.0005)

    _raise_file_limit()
    server = _server(config, App(store, config, counts, notes), announce)
    try:
        server.run(sockets=[listener])
    finally:
        store.close()


@contextlib.contextmanager
def in_background(config: Config, store: Store, clock: Callable[[], int]) -> Iterator[str]:
    """Serve an open store from a thread of this process, while the block runs; the server's URL."""
    listener = _listen(config.host, config.port)
    started = threading.Event()
    server = _server(config, App(store, config, clock=clock), started.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="usertable server", daemon=True)
    thread.start()
    try:
        while not started.wait(0.05):
            if not thread.is_alive():
                raise StoreFault("the server could not start; the log says why")
        host, port = listener.getsockname()[:2]
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def _server(config: Config, app: App, announce: Callable[[], None]) -> Server:
    class Configured(Protocol):
        max_connections = config.max_connections
        application = app

    server = Server(
        uvicorn.Config(
            app,
            http=Configured,
            ws="none",
            lifespan="on",
            interface="asgi3",
            access_log=False,
            log_config=None,
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=config.keep_alive_seconds,
            timeout_graceful_shutdown=config.drain_seconds,
            backlog=2048,
        ),
        config.body_seconds,
        announce,
    )
    app.stopping = lambda: server.should_exit
    return server


def _log_to_stderr(config: Config) -> None:
    logging.basicConfig(
        level=config.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )


def _raise_file_limit() -> None:
    """Allow as many open files as the system lets us: every connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.socket(family, kind, proto)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener
