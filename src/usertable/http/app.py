"""The ASGI application: its routes, and what runs in the background."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from starlette.types import ASGIApp

from usertable.app.access import REFRESH_SECONDS, Authenticator
from usertable.app.activity import ActivityRecorder, Drained
from usertable.app.batches import BatchWriter
from usertable.app.clock import SYSTEM_CLOCK, Clock
from usertable.app.imports import RowImporter
from usertable.app.limits import SharedCounts
from usertable.app.openid import OpenIdSettings
from usertable.app.refused_sign_ins import RefusedSignIns
from usertable.app.retention import HistoryRetention
from usertable.app.scans import TableScans
from usertable.app.service import Service
from usertable.commands.write import WriteBatch
from usertable.config import Config, items
from usertable.console.app import console_app, is_for_console
from usertable.console.context import HOME, Console
from usertable.console.live import open_pages
from usertable.console.session import Link, Sessions
from usertable.console.shared_state import SharedState
from usertable.console.views.sign_in import print_link
from usertable.dialects.base import HttpAnswer
from usertable.dialects.jiguang.dialect import JIGUANG
from usertable.domain.actor import Actor
from usertable.domain.errors import StoreDown
from usertable.domain.merge import Rules
from usertable.domain.moments import DAY_MS
from usertable.domain.schema import Project
from usertable.http.age import Age
from usertable.http.answers import JSON, Receive, Scope, Send, answer
from usertable.http.connections import Connections
from usertable.http.dialect import DialectServer, RegisterEndpoint, no_route
from usertable.http.metrics import (
    METRICS_PATH,
    PUBLISH_SECONDS,
    ConsoleFigures,
    MetricsEndpoint,
    ServerCollector,
    Sources,
    WorkerCollector,
)
from usertable.http.native import Backends, native_app
from usertable.http.openapi import LIVE_PATH
from usertable.http.operations import State, build
from usertable.http.proxies import with_cors
from usertable.http.readiness import Readiness
from usertable.http.request_counts import RequestCounts
from usertable.http.set_attributes import SetEndpoint
from usertable.http.shared_metrics import SharedMetrics
from usertable.pipeline.channel import open_channel
from usertable.pipeline.group_commit import GroupCommit
from usertable.store import Store
from usertable.wire.messages import Language

if TYPE_CHECKING:
    from usertable.app.openid_provider import OpenIdProvider

log = logging.getLogger("usertable.http")

EXPIRY_SECONDS = 60.0
ARRIVALS_SECONDS = 1.0
SIGN_INS_SECONDS = 60.0
RETENTION_SECONDS = 60.0
"""Seconds between two runs of what removes and packs history."""
CLOCK_SECONDS = 1.0
"""Seconds between two comparisons of the system's clock with elapsed time."""


@dataclass(frozen=True, slots=True)
class Shared:
    """The state that a server's workers share, in files that each of them maps."""

    counts: SharedCounts | None
    console: SharedState
    metrics: SharedMetrics

    @classmethod
    def alone(cls, clock: Clock = SYSTEM_CLOCK) -> Shared:
        """Return the state of a server that is a single process."""
        return cls(None, SharedState.alone(clock.monotonic), SharedMetrics.alone())

    @staticmethod
    def files(workers: int) -> list[IO[bytes]]:
        """Return new files, which are removed when the last process has closed them."""
        return [SharedCounts.file(), SharedState.file(), SharedMetrics.file(workers)]

    @classmethod
    def of(cls, descriptors: Sequence[int], worker: int) -> Shared:
        """Return the state for this worker in the files with these descriptors, in the order of :meth:`files`."""
        counts, console, metrics = descriptors
        return cls(SharedCounts(counts), SharedState(console), SharedMetrics(metrics, worker))


def announce_console(config: Config, address: str, shared: Shared) -> None:
    """Log the console's URL for a server at this address, with a link for signing in if there is no admin token."""
    if config.console and config.admin_token:
        logging.getLogger("usertable.server").info("the console: %s%s", config.public_url or address, HOME)
    elif config.console:
        print_link(config, Link(shared.console, SYSTEM_CLOCK.seconds).make())


class App:
    """The ASGI application for an open store, which it does not close.

    Args:
        shared: the state shared by a server's workers; None for a server that is a single process.
    """

    def __init__(
        self,
        store: Store,
        config: Config,
        shared: Shared | None = None,
        *,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        shared = shared or Shared.alone(clock)
        self._shared = shared
        self.counts = RequestCounts(clock.monotonic)
        self._config = config
        self._public_path = config.public_path
        self._clock = clock
        self._store = store
        rules = Rules(config.row_limit)
        self._service = Service(store, clock=clock.now_ms, max_attributes=config.max_attributes, rules=rules)
        self._refused_sign_ins = RefusedSignIns(self._service, clock.now_ms)
        self._sessions = Sessions(
            self._service,
            self._refused_sign_ins,
            shared.console,
            config.admin_tokens,
            config.console_minutes * 60,
            clock.seconds,
        )
        self.stopping: Callable[[], bool] = lambda: False
        """Returns whether the server is about to end; set by whatever runs it."""
        self.dialect = JIGUANG
        self.set_endpoints: dict[bytes, SetEndpoint] = {}
        """By URL, once the application runs."""
        self._endpoints: dict[str, ASGIApp] = {}
        self._cors = with_cors(self._serve, items(config.cors_origins)) if config.cors_origins else None
        self._retention = HistoryRetention(store, clock, lambda: self.stopping())
        self._recorder = ActivityRecorder(clock.now_ms, payloads=config.arrival_payloads)
        self._expired_receipts = 0
        # A clock that jumps ahead makes history old only a day later.
        self._day = Age(DAY_MS, clock.now_ms)
        self._receipt_age = Age(config.receipt_hours * 3_600_000, clock.now_ms)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._public_path and scope["path"] not in self._endpoints:
            scope["path"] = _without(self._public_path, scope["path"])
        if self._cors is not None and not is_for_console(scope):
            await self._cors(scope, receive, send)
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if (endpoint := self._endpoints.get(path)) is not None:
            scope["route"] = path
            await endpoint(scope, receive, send)
        elif path == LIVE_PATH and scope["method"] == "GET":
            scope["route"] = path
            await answer(send, 200, b'{"code":0,"msg":"ok"}', [JSON])
        elif path in self._native_paths or path.startswith("/api/"):
            await self._native(scope, receive, send)
        elif self._console and is_for_console(scope):
            await self._console(scope, receive, send)
        else:
            await no_route(self._dialect_server, scope, send)

    @property
    def paths(self) -> set[str]:
        """Paths that are answered neither by the native API nor by the console, once the application runs."""
        return set(self._endpoints)

    def take_over(self, config: Config) -> None:
        """Use the tokens of another configuration from now on."""
        self._config = config
        self._sessions.take_tokens(config.admin_tokens)
        self._place_metrics()

    def _place_metrics(self) -> None:
        """Add the metrics' route if they have a token, and no address of their own."""
        if self._config.metrics_token and not self._config.metrics_address:
            self._endpoints[METRICS_PATH] = self.metrics
        else:
            self._endpoints.pop(METRICS_PATH, None)

    @contextlib.asynccontextmanager
    async def running(self, connections: Connections) -> AsyncIterator[None]:
        """Run the background tasks while the block serves these connections. Its end commits every queued write."""
        clock = self._clock
        authenticator = Authenticator(self._service, self._shared.counts, self._recorder, clock)
        channel = open_channel(self._config.store, self._store, WriteBatch(self._service.rules))
        commit = GroupCommit(
            channel, capacity=self._config.queue_capacity, max_batch=self._config.max_batch, monotonic=clock.monotonic
        )
        writer = BatchWriter(self._service, authenticator, commit, clock=clock.now_ms)
        importer = RowImporter(self._service, authenticator, capacity=commit.capacity)
        server = DialectServer(
            *(self.dialect, authenticator, self._recorder, self.counts),
            *(self._config.body_limit, self._config.always_200),
        )
        set_attributes = SetEndpoint(server, writer)
        self._dialect_server = server
        self.set_endpoints[set_attributes.url] = set_attributes
        self._endpoints = {
            self.dialect.set.path: set_attributes,
            self.dialect.register.path: RegisterEndpoint(server, self._service),
        }
        readiness = Readiness(self._store, channel, commit, clock)
        state = State(lambda: self._config.admin_tokens, lambda: self.stopping(), readiness.check)
        # Computed before anything is served: in a checkout, git takes a tenth of a second for it.
        known = build(self._config)
        self._native = native_app(
            Backends(self._service, authenticator, writer, importer, self._config, state, self.counts, known)
        )
        sources = Sources(
            self.counts,
            connections,
            commit,
            channel,
            readiness,
            self._store,
            self._recorder,
            importer,
            lambda: ConsoleFigures(self._sessions.sign_ins, self._sessions.ended, open_pages()),
            lambda: self._expired_receipts,
            self._retention,
        )
        collector = ServerCollector(WorkerCollector(sources, self._config), self._shared.metrics, sources)
        self.metrics = MetricsEndpoint(
            collector,
            self.counts,
            self.dialect,
            lambda: self._config.metrics_token,
            is_open=bool(self._config.metrics_address),
        )
        self._place_metrics()
        scans = TableScans(self._store, clock=clock)
        self._console = self._made_console(authenticator, set_attributes, scans) if self._config.console else None
        self._native_paths = {"/openapi.json", "/readyz", "/version", LIVE_PATH}
        ending = asyncio.Event()
        watches = [asyncio.create_task(self._watch_clock(authenticator)), asyncio.create_task(readiness.watch())]
        works = [
            asyncio.create_task(_every(clock, REFRESH_SECONDS, ending, authenticator.poll)),
            asyncio.create_task(_every(clock, EXPIRY_SECONDS, ending, self._expire, self._receipt_age.before)),
            asyncio.create_task(_every(clock, SIGN_INS_SECONDS, ending, self._refused_sign_ins.settle)),
            asyncio.create_task(_every(clock, RETENTION_SECONDS, ending, self._retention.run, self._day.before)),
            asyncio.create_task(_every(clock, ARRIVALS_SECONDS, ending, self._store_arrivals, self._take_arrivals)),
        ]
        if self._shared.metrics.is_shared:
            works.append(asyncio.create_task(_every(clock, PUBLISH_SECONDS, ending, collector.publish)))
        try:
            yield
        finally:
            # They must not use the channel or the store after these are closed. The thread of a canceled task keeps running.
            ending.set()
            for task in watches:
                task.cancel()
            await asyncio.wait([*watches, *works])
            await readiness.close()
            await commit.close()
            await channel.close()
            authenticator.close()
            self._sessions.hashing.close()
            await asyncio.to_thread(scans.close)
            with contextlib.suppress(StoreDown):
                await asyncio.to_thread(self._store_arrivals, self._take_arrivals())
                await asyncio.to_thread(self._refused_sign_ins.settle, at_once=True)
                await asyncio.to_thread(self._sessions.keep_seen)

    def _made_console(self, authenticator: Authenticator, endpoint: SetEndpoint, scans: TableScans) -> ASGIApp:
        async def put(
            project: Project, body: bytes, language: Language, actor: Actor, dry_run: bool, key: str
        ) -> HttpAnswer:
            access = authenticator.grant(project)
            return await endpoint.serve_as(access, body, language, actor, dry_run=dry_run, key=key)

        return console_app(
            Console(
                self._service,
                authenticator,
                put,
                self._sessions,
                scans,
                self._config,
                self._clock,
                lambda: self.stopping(),
                self._openid_provider(),
            )
        )

    def _openid_provider(self) -> OpenIdProvider | None:
        settings = OpenIdSettings.of(self._config)
        if settings is None:
            return None
        # Takes 0.1 s of CPU and 7 MB, which a server without a provider does not need.
        from usertable.app.openid_provider import OpenIdProvider

        return OpenIdProvider(settings, self._clock)

    def _expire(self, before: int | None) -> None:
        self._service.expire_activity()
        while self._sessions.keep_seen() and not self.stopping():
            pass
        while before is not None and not self.stopping() and (expired := self._service.expire_receipts(before)):
            self._expired_receipts += expired

    async def _watch_clock(self, authenticator: Authenticator) -> None:
        while True:
            await self._clock.sleep(CLOCK_SECONDS)
            self._receipt_age.look()
            self._day.look()
            authenticator.forget_ended()

    def _take_arrivals(self) -> Drained:
        return self._recorder.drain()

    def _store_arrivals(self, drained: Drained) -> None:
        self._recorder.hand_over(self._service, drained)


def _without(public_path: str, path: str) -> str:
    """Return the path below the public path, which a proxy may already have removed."""
    below = path.removeprefix(public_path)
    return below or "/" if below == "" or below.startswith("/") else path


async def _every(
    clock: Clock, seconds: float, ending: asyncio.Event, work: Callable[..., object], *prepare: Callable[[], object]
) -> None:
    """Run blocking work periodically in a thread, with the results of `prepare` in the event loop, until `ending` is set.

    Work that returns True has more to do, and is run again at once. A failure is retried at the next turn. It is logged
    once, until the work succeeds or fails differently.
    """
    known: type[Exception] | None = None
    pause = seconds
    while not await _is_set_within(clock, pause, ending):
        pause = seconds
        try:
            if await asyncio.to_thread(work, *(make() for make in prepare)) is True:
                pause = 0.0
            known = None
        except Exception as failure:
            if type(failure) is not known:
                known = type(failure)
                if isinstance(failure, StoreDown):
                    log.warning("background work waits for the store: %s", failure)
                else:
                    log.exception("background work failed; it is retried")


async def _is_set_within(clock: Clock, seconds: float, event: asyncio.Event) -> bool:
    try:
        return await clock.limit(seconds, event.wait())
    except TimeoutError:
        return False
