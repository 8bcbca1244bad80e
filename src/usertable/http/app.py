"""The ASGI application: which path goes where, and what runs beside the requests."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import IO

from starlette.types import ASGIApp

from usertable.app.access import REFRESH_SECONDS, Authenticator
from usertable.app.activity import ActivityRecorder, Drained
from usertable.app.batches import BatchWriter
from usertable.app.clock import SYSTEM_CLOCK, Clock
from usertable.app.imports import RowImporter
from usertable.app.limits import SharedCounts
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
from usertable.domain.errors import StoreDown
from usertable.domain.merge import Rules
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

log = logging.getLogger("usertable.http")

EXPIRY_SECONDS = 60.0
ARRIVALS_SECONDS = 1.0
CLOCK_SECONDS = 1.0
"""How often the system's clock is compared with elapsed time."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What the workers of a server know together, in files that each of them maps."""

    counts: SharedCounts | None
    console: SharedState
    metrics: SharedMetrics

    @classmethod
    def alone(cls) -> Shared:
        """That of a server that is one process."""
        return cls(None, SharedState.alone(), SharedMetrics.alone())

    @staticmethod
    def files(workers: int) -> list[IO[bytes]]:
        """New files, which are gone when the last process has closed them."""
        return [SharedCounts.file(), SharedState.file(), SharedMetrics.file(workers)]

    @classmethod
    def of(cls, descriptors: Sequence[int], worker: int) -> Shared:
        """What is in the files with these descriptors, in the order of :meth:`files`, for the worker with that number."""
        counts, console, metrics = descriptors
        return cls(SharedCounts(counts), SharedState(console), SharedMetrics(metrics, worker))


def announce_console(config: Config, address: str, shared: Shared) -> None:
    """Say where the console of a server at this address is, with a link for signing in if there is no admin token."""
    if config.console and config.admin_token:
        logging.getLogger("usertable.server").info("the console: %s%s", address, HOME)
    elif config.console:
        print_link(config, Link(shared.console, SYSTEM_CLOCK.seconds).make())


class App:
    """The ASGI application over an open store, which it does not close.

    Args:
        shared: what the workers of a server know together; None for a server that is one process.
    """

    def __init__(
        self,
        store: Store,
        config: Config,
        shared: Shared | None = None,
        *,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        shared = shared or Shared.alone()
        self._shared = shared
        self.counts = RequestCounts(clock.monotonic)
        self._config = config
        self._clock = clock
        self._sessions = Sessions(shared.console, config.admin_tokens, config.console_minutes * 60, clock.seconds)
        self._store = store
        rules = Rules(config.row_limit)
        self._service = Service(store, clock=clock.now_ms, max_attributes=config.max_attributes, rules=rules)
        self.stopping: Callable[[], bool] = lambda: False
        """Whether the server is about to end; whoever runs it says so here."""
        self.dialect = JIGUANG
        self.set_endpoints: dict[bytes, SetEndpoint] = {}
        """By URL, once the application runs."""
        self._endpoints: dict[str, ASGIApp] = {}
        self._cors = with_cors(self._serve, items(config.cors_origins)) if config.cors_origins else None
        self._recorder = ActivityRecorder(clock.now_ms, payloads=config.arrival_payloads)
        self._expired_receipts = 0
        self._receipt_age = Age(config.receipt_hours * 3_600_000, clock.now_ms)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
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

    def take_over(self, config: Config) -> None:
        """Go on with the tokens of another configuration."""
        self._config = config
        self._sessions.take_tokens(config.admin_tokens)
        self._place_metrics()

    def _place_metrics(self) -> None:
        """Serve the metrics beside all else if they have a token, and no address of their own."""
        if self._config.metrics_token and not self._config.metrics_address:
            self._endpoints[METRICS_PATH] = self.metrics
        else:
            self._endpoints.pop(METRICS_PATH, None)

    @contextlib.asynccontextmanager
    async def running(self, connections: Connections) -> AsyncIterator[None]:
        """What must run while requests come by these connections; leaving it commits every write that was queued."""
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
        # Found out before anything is served: in a checkout it takes git a tenth of a second.
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
        )
        collector = ServerCollector(WorkerCollector(sources, self._config), self._shared.metrics, channel, self._store)
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
        watches = [asyncio.create_task(self._watch_clock()), asyncio.create_task(readiness.watch())]
        works = [
            asyncio.create_task(_every(clock, REFRESH_SECONDS, ending, authenticator.poll)),
            asyncio.create_task(_every(clock, EXPIRY_SECONDS, ending, self._expire, self._receipt_age.before)),
            asyncio.create_task(_every(clock, ARRIVALS_SECONDS, ending, self._store_arrivals, self._take_arrivals)),
        ]
        if self._shared.metrics.is_shared:
            works.append(asyncio.create_task(_every(clock, PUBLISH_SECONDS, ending, collector.publish)))
        try:
            yield
        finally:
            # They must not use the channel or the store once those are closed. A cancelled task leaves its thread working.
            ending.set()
            for task in watches:
                task.cancel()
            await asyncio.wait([*watches, *works])
            await readiness.close()
            await commit.close()
            await channel.close()
            authenticator.close()
            await asyncio.to_thread(scans.close)
            with contextlib.suppress(StoreDown):
                await asyncio.to_thread(self._store_arrivals, self._take_arrivals())

    def _made_console(self, authenticator: Authenticator, endpoint: SetEndpoint, scans: TableScans) -> ASGIApp:
        async def put(project: Project, body: bytes, language: Language, dry_run: bool, key: str) -> HttpAnswer:
            return await endpoint.serve_as(authenticator.grant(project), body, language, dry_run=dry_run, key=key)

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
            )
        )

    def _expire(self, before: int | None) -> None:
        self._service.expire_activity()
        while before is not None and not self.stopping() and (expired := self._service.expire_receipts(before)):
            self._expired_receipts += expired

    async def _watch_clock(self) -> None:
        while True:
            await self._clock.sleep(CLOCK_SECONDS)
            self._receipt_age.look()

    def _take_arrivals(self) -> Drained:
        return self._recorder.drain()

    def _store_arrivals(self, drained: Drained) -> None:
        self._recorder.hand_over(self._service, drained)


async def _every(
    clock: Clock, seconds: float, ending: asyncio.Event, work: Callable[..., object], *prepare: Callable[[], object]
) -> None:
    """Do blocking work again and again, in a thread, with what `prepare` gave in the event loop, until `ending` is set.

    What fails is tried again at the next turn; the log has it once, until it went well or fails otherwise.
    """
    known: type[Exception] | None = None
    while not await _is_set_within(clock, seconds, ending):
        try:
            await asyncio.to_thread(work, *(make() for make in prepare))
            known = None
        except Exception as failure:
            if type(failure) is not known:
                known = type(failure)
                if isinstance(failure, StoreDown):
                    log.warning("background work waits for the store: %s", failure)
                else:
                    log.exception("background work failed, it is tried again")


async def _is_set_within(clock: Clock, seconds: float, event: asyncio.Event) -> bool:
    try:
        return await clock.limit(seconds, event.wait())
    except TimeoutError:
        return False
