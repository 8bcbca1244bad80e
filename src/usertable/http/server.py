"""The server process: a listener, its connections, signals, and shutdown."""

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
from email.utils import formatdate
from typing import NoReturn

import uvloop

from usertable import logs, signals
from usertable.app.clock import SYSTEM_CLOCK, Clock
from usertable.app.service import Service
from usertable.config import Config, ConfigError, items
from usertable.domain.actor import Actor
from usertable.domain.errors import StoreFault, Unavailable
from usertable.http.access_log import FLUSH_SECONDS, AccessLog
from usertable.http.app import App, Shared, announce_console
from usertable.http.connections import Application, Connections
from usertable.http.listeners import UNIX, ListenFault, listen, listen_at, shown_address
from usertable.http.proxies import TrustedProxies
from usertable.http.service_manager import tell_ready
from usertable.http.workers import Supervisor, reserve
from usertable.store import Store, is_shareable, open_store, redacted_url
from usertable.store.disk_failure import end_at_once
from usertable.version import version

log = logging.getLogger("usertable.server")

BACKLOG = 2048
"""Maximum number of connections that the system queues until they are accepted."""
SWEEP_SECONDS = 1.0
FAREWELL_SECONDS = 1.0
"""Seconds for which a stopping server lets clients read their last answers and close."""
CLOSING_SECONDS = 20.0
"""Maximum seconds for a store to close, after no client waits for it any more."""
HURRIED_SECONDS = 5.0
"""The same after the second signal, including everything before it."""

Reread = Callable[[], Config]
"""Loads the configuration again. Raises ConfigError."""


class Server:
    """Serves an application on a listener until it is stopped."""

    def __init__(
        self,
        config: Config,
        app: App,
        announce: Callable[[], None],
        reread: Reread | None = None,
        *,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._config = config
        self._clock = clock
        self._app = app
        self._announce = announce
        self._reread = reread
        self._access_log = AccessLog(logs.settings) if config.access_log else None
        self._connections = self._made_connections(app)
        self._metrics_connections: Connections | None = None
        """Connections of the metrics' own address."""
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_stopped = False
        self._time_limits: list[threading.Timer] = []
        app.stopping = self._stop.is_set

    def run(self, listener: socket.socket, metrics: socket.socket | None = None) -> None:
        """Serve until :meth:`stop`, or a signal if this is the main thread.

        Args:
            metrics: the listener of the metrics' own address.
        """
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._run(listener, metrics))

    def stop(self) -> None:
        """Stop, from any thread, after answering requests in progress."""
        self._is_stopped = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._stop.set)

    def closed(self) -> None:
        """Report that the store is closed, so that the process need not be killed."""
        for limit in self._time_limits:
            limit.cancel()
            # If it is already ending the process, which also closes the store, the process must not exit successfully
            # meanwhile.
            limit.join()

    def take_over(self, config: Config) -> None:
        """Use another configuration, from any thread, as far as possible while serving."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._take_over, config)

    def _made_connections(self, application: Application) -> Connections:
        config = self._config
        return Connections(
            application,
            body_seconds=config.body_seconds,
            keep_alive_seconds=config.keep_alive_seconds,
            limit=config.max_connections,
            proxies=TrustedProxies(items(config.trusted_proxies)),
            has_cors=bool(config.cors_origins),
            access_log=self._access_log,
        )

    async def _run(self, listener: socket.socket, metrics: socket.socket | None) -> None:
        self._loop = loop = asyncio.get_running_loop()
        if self._is_stopped:
            # The loop did not exist yet.
            return
        is_main = threading.current_thread() is threading.main_thread()
        if is_main:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self._stopping)
            loop.add_signal_handler(signal.SIGHUP, self._reload)
        async with self._app.running(self._connections):
            if metrics is not None:
                self._metrics_connections = self._made_connections(self._app.metrics)
            self._tell_time()
            sweeping = asyncio.create_task(self._sweep())
            logging_ = asyncio.create_task(self._log_accesses())
            try:
                config = self._config
                named = (UNIX + config.uds, "uds") if config.uds else (f"{config.host} port {config.port}", "host")
                server = await _accept(self._connections, listener, *named)
                if self._metrics_connections is not None and metrics is not None:
                    # Until the end: also while the server drains.
                    await _accept(self._metrics_connections, metrics, config.metrics_address, "metrics_address")
                # Only now: a reader of this line may connect, or send a signal, at once.
                self._announce()
                await self._stop.wait()
                if self._config.shutdown_delay:
                    log.info("stopping in %d s; /readyz returns 503 from now on", self._config.shutdown_delay)
                    await self._until(lambda: False, self._config.shutdown_delay)
                server.close()
                await self._drain()
            finally:
                sweeping.cancel()
                if is_main:
                    self._limit_time(CLOSING_SECONDS)
                logging_.cancel()
                await asyncio.wait([logging_])

    async def _drain(self) -> None:
        connections = self._connections
        connections.drain()
        await self._until(lambda: not connections.are_busy, self._config.drain_seconds)
        if connections.are_busy:
            log.warning(
                "requests in progress were closed without an answer: they took longer than drain_seconds,"
                " or a second signal arrived"
            )
        await self._until(lambda: not connections.open, FAREWELL_SECONDS)
        connections.abort()
        if self._metrics_connections is not None:
            self._metrics_connections.abort()
            connections.tasks |= self._metrics_connections.tasks
        if connections.tasks:
            await asyncio.wait(connections.tasks)

    async def _until(self, holds: Callable[[], bool], seconds: float) -> None:
        """Wait until `holds` returns true, for at most `seconds` seconds, or until the server was stopped twice."""
        clock = self._clock
        until = clock.monotonic() + seconds
        while not holds() and not self._hurry.is_set() and clock.monotonic() < until:
            await clock.sleep(0.02)

    async def _sweep(self) -> None:
        while True:
            await self._clock.sleep(SWEEP_SECONDS)
            self._tell_time()
            self._app.counts.settle()
            for connections in self._each():
                connections.sweep(self._clock.monotonic())

    async def _log_accesses(self) -> None:
        if (access_log := self._access_log) is None:
            return
        try:
            while True:
                await self._clock.sleep(FLUSH_SECONDS)
                if access_log.is_due:
                    await asyncio.to_thread(access_log.write)
        finally:
            access_log.write()

    def _tell_time(self) -> None:
        date = b"date: %b\r\n" % formatdate(self._clock.seconds(), usegmt=True).encode()
        for connections in self._each():
            connections.date = date

    def _each(self) -> Iterator[Connections]:
        yield self._connections
        if self._metrics_connections is not None:
            yield self._metrics_connections

    def _stopping(self) -> None:
        if self._stop.is_set() and not self._hurry.is_set():
            self._hurry.set()
            self._limit_time(HURRIED_SECONDS)
        self._stop.set()

    def _limit_time(self, seconds: float) -> None:
        """End the process after this many seconds, if it has not closed its store by then."""
        limit = threading.Timer(seconds, _end_without_store)
        limit.daemon = True
        limit.start()
        self._time_limits.append(limit)

    def _reload(self) -> None:
        if self._reread is not None and (config := reread_config(self._config, self._reread)) is not None:
            self._take_over(config)

    def _take_over(self, config: Config) -> None:
        self._config = replace(self._config, **{name: getattr(config, name) for name in RELOADED})
        logs.set_level(self._config.log_level)
        self._app.take_over(self._config)


async def _accept(connections: Connections, listener: socket.socket, address: str, setting: str) -> asyncio.Server:
    """Accept connections on a socket. If two servers bind one address, the second is refused only here, with ListenFault."""
    loop = asyncio.get_running_loop()
    serve = loop.create_unix_server if listener.family == socket.AF_UNIX else loop.create_server
    try:
        return await serve(connections, sock=listener, backlog=BACKLOG)
    except OSError as reason:
        raise ListenFault(reason, address, setting) from reason


RELOADED = ("admin_token", "admin_token_previous", "metrics_token", "log_level")
"""Settings that a running server reloads on SIGHUP."""


def reread_config(config: Config, reread: Reread) -> Config | None:
    """Return the configuration to use from now on, and log what changed. None to keep the current one."""
    try:
        found = reread()
    except ConfigError as error:
        log.error("SIGHUP: nothing was reloaded: %s", error)
        return None
    reloaded = replace(config, **{name: getattr(found, name) for name in RELOADED})
    changed = [name for name in RELOADED if getattr(found, name) != getattr(config, name)]
    # If the port is 0, it is the free port that was found.
    left = [
        name
        for name in config.__dataclass_fields__
        if name not in (*RELOADED, "port") and getattr(found, name) != getattr(config, name)
    ]
    log.info(
        "SIGHUP: reloaded %s%s",
        ", ".join(changed) or f"nothing: {', '.join(RELOADED)} have not changed",
        f"; restart the server to change {', '.join(left)}" if left else "",
    )
    return reloaded


def serve(config: Config, reread: Reread | None = None, *, actor: Actor) -> None:
    """Serve until SIGTERM or Ctrl-C, then drain: requests in progress are answered, queued writes committed.

    Args:
        reread: loads the configuration again on SIGHUP.
        actor: who starts the server, for the audit log if it migrates the store.

    Raises:
        StoreFault: the store cannot be used.
        ListenFault: the server cannot listen on the address.
        OSError: the system refused something else, such as another process or an open file.
    """
    logs.configure(_log_settings("server" if config.workers == 1 else "parent", config))
    # The writer and the workers inherit this for the last two, which no process handles.
    signals.ignore(signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
    # Bind first: if the port is taken, the store must not be changed.
    listener = listen_at(UNIX + config.uds, setting="uds") if config.uds else listen(config.host, config.port)
    metrics = listen_at(config.metrics_address, setting="metrics_address") if config.metrics_address else None
    try:
        if config.workers > 1 and not is_shareable(config.store):
            raise StoreFault(
                f"{redacted_url(config.store)} can have one server process only; workers need a postgresql store"
            )
        store = open_store(config.store, serving=True)
    except StoreFault:
        listener.close()
        raise
    try:
        Service(store).record_migration(actor)
    except Unavailable as failure:
        log.warning("the store was migrated, but the audit log has no entry for it: %s", failure)
    address = shown_address(listener)
    reach = "this machine only" if config.is_local else "other machines too"
    if not config.uds:
        config = replace(config, port=listener.getsockname()[1])

    def announce(shared: Shared) -> None:
        log.info("usertable %s serving %s on %s (reachable from %s)", version(), redacted_url(config.store), address, reach)
        if metrics is not None:
            log.info("serving metrics on %s%s", shown_address(metrics), "" if config.metrics_token else ", without a token")
        if not config.admin_token:
            log.info("no admin token is configured: the native API's admin routes are closed")
        announce_console(config, address, shared)
        tell_ready(f"serving {redacted_url(config.store)} on {address}")

    if config.workers == 1:
        shared = Shared.alone()
        server = Server(config, App(store, config, shared), lambda: announce(shared), reread)
        _run(config, store, listener, server, metrics)
    else:
        # It was opened to migrate it, and to report problems with it at once.
        store.close()
        # Every worker listens on the port itself. A Unix socket cannot be shared that way: all of them accept from one.
        with listener if config.uds else reserve(listener):
            supervisor = Supervisor(
                config,
                announce,
                None if reread is None else lambda now: reread_config(now, reread),
                unix=listener if config.uds else None,
                metrics=metrics,
            )
            if not supervisor.run():
                log.error("a worker exited without closing the store")
                raise SystemExit(1)
    log.info("stopped; every acknowledged write is stored")


def run_worker(
    config: Config,
    shared: Shared,
    ready: Callable[[], None],
    listen_to_parent: Callable[[Server], None],
    unix: socket.socket | None,
    metrics: socket.socket | None,
    *,
    number: int,
) -> None:
    """Serve as one of several processes, which the supervisor starts and stops.

    Args:
        unix: the listener of the Unix socket that all of them accept from; None if they share a port.
        number: of this worker, from 0.
        metrics: the listener of the metrics' own address, which all of them accept from.
    """
    logs.configure(_log_settings(f"worker {number}", config))
    try:
        store = open_store(config.store, serving=True)
    except StoreFault as fault:
        log.error("a worker cannot open the store: %s", fault)
        # The supervisor retries; the database may be up again by then.
        raise SystemExit(1) from fault
    server = Server(config, App(store, config, shared), ready)
    listen_to_parent(server)
    _run(config, store, unix or listen(config.host, config.port, shared=True), server, metrics)


def _run(
    config: Config, store: Store, listener: socket.socket, server: Server, metrics: socket.socket | None = None
) -> None:
    # Requests create no cycles, and searching long-lived objects again and again is a waste.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    # A thread lets the event loop continue after this many seconds, instead of 5 ms.
    sys.setswitchinterval(0.0005)

    _raise_file_limit()
    try:
        server.run(listener, metrics)
    finally:
        store.close()
        server.closed()


def _end_without_store() -> NoReturn:
    """End a process whose store does not respond. Like a kill, this loses nothing that was answered."""
    log.error(
        "the store does not respond, so the server exits without closing it. Every acknowledged write is stored;"
        " others may be stored or not"
    )
    end_at_once(1)


@contextlib.contextmanager
def in_background(config: Config, store: Store, clock: Clock) -> Iterator[str]:
    """Serve an open store from a thread of this process during the block. Yields the server's URL."""
    listener = listen(config.host, config.port)
    started = threading.Event()
    server = Server(config, App(store, config, clock=clock), started.set, clock=clock)
    thread = threading.Thread(target=server.run, args=[listener], name="usertable server", daemon=True)
    thread.start()
    try:
        while not started.wait(0.05):
            if not thread.is_alive():
                raise StoreFault("the server could not start; the log says why")
        yield shown_address(listener)
    finally:
        server.stop()
        thread.join()
        listener.close()


def _log_settings(process: str, config: Config) -> logs.LogSettings:
    return logs.LogSettings(process, config.log_level, "json" if config.log_format == "json" else "text")


def _raise_file_limit() -> None:
    """Raise the limit of open files to the maximum: every connection needs one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
