"""`/metrics`: the counts of a server's processes, in Prometheus' text format."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

from prometheus_client import CollectorRegistry, GCCollector, Metric, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from usertable.app.activity import ActivityRecorder
from usertable.app.imports import RowImporter
from usertable.app.retention import HistoryRetention, PruneReason
from usertable.config import Config
from usertable.dialects.base import Dialect
from usertable.dialects.jiguang.codes import code
from usertable.domain.errors import ProblemKind, StoreDown, excerpt, refusal
from usertable.histogram import Histogram
from usertable.http.admission import carries_token
from usertable.http.answers import Header, Receive, Scope, Send, answer
from usertable.http.connections import Connections
from usertable.http.native import NativeExchange
from usertable.http.readiness import Readiness
from usertable.http.request_counts import RequestCounts
from usertable.http.set_attributes import SetEndpoint
from usertable.http.shared_metrics import SharedMetrics, WorkerMetrics, lasting, merged
from usertable.pipeline.channel import ObservedChannel
from usertable.pipeline.group_commit import GroupCommit
from usertable.store import Store
from usertable.store.records import PoolFigures
from usertable.version import version

METRICS_PATH = "/metrics"
PUBLISH_SECONDS = 1.0
"""Seconds between two publications of a worker's counts for the others."""
_POOL_GAUGES: tuple[tuple[str, str, Callable[[PoolFigures], int]], ...] = (
    ("usertable_pool_connections_limit", "Maximum number of connections to PostgreSQL.", lambda pool: pool.limit),
    ("usertable_pool_waiting", "Callers that wait for a connection to PostgreSQL.", lambda pool: pool.waiting),
)
_POOL_COUNTERS: tuple[tuple[str, str, Callable[[PoolFigures], int]], ...] = (
    ("usertable_pool_requests", "Requests for a connection to PostgreSQL.", lambda pool: pool.taken),
    ("usertable_pool_waits", "Requests for a connection to PostgreSQL that had to wait.", lambda pool: pool.queued),
    ("usertable_pool_timeouts", "Requests for a connection to PostgreSQL that timed out.", lambda pool: pool.failed),
)
_CHALLENGE: Header = (b"www-authenticate", b'Bearer realm="usertable metrics"')


@dataclass(frozen=True, slots=True)
class ConsoleFigures:
    """The console's counts."""

    sign_ins: dict[str, int]
    """By result."""
    sign_outs: int
    live_pages: int
    """Open pages with live updates."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The parts of a server process that count something."""

    counts: RequestCounts
    connections: Connections
    commit: GroupCommit
    channel: ObservedChannel
    readiness: Readiness
    store: Store
    recorder: ActivityRecorder
    importer: RowImporter
    console: Callable[[], ConsoleFigures]
    expired_receipts: Callable[[], int]
    retention: HistoryRetention


class WorkerCollector(Collector):
    """The metrics of this process, from the plain numbers that its parts keep.

    Args:
        config: has the limits that are shown next to the numbers.
    """

    def __init__(self, sources: Sources, config: Config) -> None:
        self._sources = sources
        self._config = config
        self._runtime = CollectorRegistry()
        PlatformCollector(self._runtime)
        GCCollector(self._runtime)

    def collect(self) -> Iterator[Metric]:
        yield from self._server()
        yield from self._requests()
        yield from self._writes()
        yield from self._receipts_and_batches()
        yield from self._store()
        yield from self._surroundings()
        yield from self._runtime.collect()

    def _server(self) -> Iterator[Metric]:
        build = (version(), platform.python_version(), self._sources.store.figures().engine)
        text = "Version of usertable, of Python, and the engine of the store."
        yield _gauge("usertable_build_info", text, [(build, 1)], ("version", "python", "engine"))
        yield _counter("usertable_worker_starts", "Server processes that were started.", 1)
        starts = self._sources.channel.writer_starts
        yield _counter("usertable_writer_starts", "Writer processes that were started.", starts)

    def _requests(self) -> Iterator[Metric]:
        counts, connections = self._sources.counts, self._sources.connections
        routes = counts.routes.copy()
        yield _counter(
            "usertable_http_requests",
            "Answered requests.",
            (((*key, str(status)), n) for key, route in routes.items() for status, n in route.by_status.copy().items()),
            ("method", "route", "code"),
        )
        text = "Seconds from a request's last byte to the last byte of its answer."
        yield _histogram("usertable_http_request_duration_seconds", text, routes.items(), ("method", "route"))
        text = "Refused requests and records of batches, by the kind and the platform's code of their first problem."
        refusals = (((kind.value, str(code(kind)[0])), counts.refusals.get(kind, 0)) for kind in ProblemKind)
        yield _counter("usertable_refusals", text, refusals, ("kind", "code"))
        lingering = len(connections.lingering)
        in_state = [(("open",), len(connections.open) - lingering), (("closing",), lingering)]
        text = "Connections of clients; a closing one had its last answer."
        yield _gauge("usertable_http_connections", text, in_state, ("state",))
        text = "Maximum number of open client connections."
        yield _gauge("usertable_http_connections_limit", text, self._config.max_connections)

    def _writes(self) -> Iterator[Metric]:
        commit, merges = self._sources.commit, self._sources.channel.merges
        yield _gauge("usertable_queue_writes", "Writes that wait for a commit.", commit.waiting)
        yield _gauge("usertable_queue_capacity", "Maximum number of writes that wait for a commit.", commit.capacity)
        yield _histogram("usertable_commit_writes", "Writes per commit.", [((), commit.sizes)])
        text = "Seconds from sending a batch of writes to the store until it is durable."
        yield _histogram("usertable_commit_duration_seconds", text, [((), commit.seconds)])
        if merges is not None:
            results = [(("merged",), merges.merged), (("declined",), merges.declined), (("other",), merges.others)]
            text = "Writes that PostgreSQL merged itself, declined, or was not asked to merge."
            yield _counter("usertable_merge_writes", text, results, ("result",))

    def _receipts_and_batches(self) -> Iterator[Metric]:
        counts = self._sources.counts
        keys = (((result,), n) for result, n in counts.keys.items())
        text = "Writes with an Idempotency-Key: stored, replayed from a receipt, or reused for another request and refused."
        yield _counter("usertable_idempotency_keys", text, keys, ("result",))
        expired = self._sources.expired_receipts()
        yield _counter("usertable_receipts_expired", "Receipts that were deleted because of their age.", expired)
        retention = self._sources.retention
        removed = (((reason,), retention.pruned[reason]) for reason in PruneReason)
        text = "Changes removed from history: older than a project's days, over its size, or after it was turned off."
        yield _counter("usertable_history_pruned_changes", text, removed, ("reason",))
        yield _counter("usertable_history_packed_blocks", "Blocks of history that were packed.", retention.packed)
        text = "Records of batches, by API and result."
        yield _counter("usertable_batch_records", text, counts.records.copy().items(), ("api", "result"))
        text = "Rows sent to be imported that are not stored yet."
        yield _gauge("usertable_import_rows_waiting", text, self._sources.importer.rows)

    def _store(self) -> Iterator[Metric]:
        yield _gauge("usertable_store_ready", "1 if writes can be made, 0 if not.", self._is_ready())
        pools = self._sources.store.figures().pools
        if not pools:
            return
        text = "Connections to PostgreSQL."
        open_ones = [((name, "open"), pool.open) for name, pool in pools.items()]
        idle_ones = [((name, "idle"), pool.idle) for name, pool in pools.items()]
        yield _gauge("usertable_pool_connections", text, [*open_ones, *idle_ones], ("pool", "state"))
        for name, text, figure in _POOL_GAUGES:
            yield _gauge(name, text, [((pool,), figure(figures)) for pool, figures in pools.items()], ("pool",))
        for name, text, figure in _POOL_COUNTERS:
            yield _counter(name, text, [((pool,), figure(figures)) for pool, figures in pools.items()], ("pool",))

    def _is_ready(self) -> bool:
        try:
            self._sources.readiness.check()
        except StoreDown:
            return False
        return True

    def _surroundings(self) -> Iterator[Metric]:
        recorder, console = self._sources.recorder, self._sources.console()
        yield _counter("usertable_arrival_samples", "Samples of requests that were stored.", recorder.samples_kept)
        text = "Seconds of activity that wait for a store that is down."
        yield _gauge("usertable_arrivals_held_seconds", text, recorder.held)
        sign_ins = (((result,), n) for result, n in console.sign_ins.items())
        text = "Attempts to sign in to the console; a delayed one came too soon after others that failed."
        yield _counter("usertable_console_sign_ins", text, sign_ins, ("result",))
        yield _counter("usertable_console_sign_outs", "Sessions of the console that were ended.", console.sign_outs)
        text = "Open pages of the console with live updates."
        yield _gauge("usertable_console_live_pages", text, console.live_pages)


class ServerCollector(Collector):
    """The metrics of all processes of a server, for the worker that answers."""

    def __init__(self, own: WorkerCollector, shared: SharedMetrics, sources: Sources) -> None:
        self._own = own
        self._shared = shared
        self._channel = sources.channel
        self._store = sources.store
        self._retention = sources.retention

    def publish(self) -> None:
        """Publish this worker's counts for the other workers."""
        self._shared.publish(WorkerMetrics(os.getpid(), self._channel.writer, list(self._own.collect())))

    def collect(self) -> Iterator[Metric]:
        self.publish()
        workers = self._shared.workers()
        alive = {number for number, worker in workers.items() if _is_alive(worker.pid)}
        yield from merged([w.metrics if number in alive else lasting(w.metrics) for number, w in workers.items()])
        yield _gauge("usertable_workers", "Running server processes.", len(alive))
        figures = self._store.figures()
        if figures.file_bytes:
            sizes = (((name,), size) for name, size in figures.file_bytes.items())
            yield _gauge("usertable_store_file_bytes", "Size of the store's files.", sizes, ("file",))
        if figures.free_bytes is not None:
            yield _gauge("usertable_store_free_bytes", "Free space on the disk of the store's files.", figures.free_bytes)
        yield from self._history()
        yield from merged([list(self._processes(workers))])

    def _history(self) -> Iterator[Metric]:
        """Yield what all workers say of the store alike, as of the last run of this one's retention."""
        kept = self._retention.kept
        yield _gauge("usertable_history_bytes", "Bytes of the history of all projects.", kept.bytes)
        yield _gauge("usertable_history_changes", "Recorded changes of all projects.", kept.changes)
        text = "Projects whose history is not kept for their days, because of its size."
        yield _gauge("usertable_history_shortened_projects", text, kept.shortened)
        text = "Since when the history of every project is kept, in seconds since 1970 UTC: the latest of their moments."
        since: _Values = [] if kept.since is None else kept.since / 1000
        yield _gauge("usertable_history_since_timestamp_seconds", text, since)

    def _processes(self, workers: Mapping[int, WorkerMetrics]) -> Iterator[Metric]:
        role = "worker" if self._shared.is_shared else "server"
        processes = [(role, str(number), worker.pid) for number, worker in workers.items()]
        processes += [("writer", str(number), w.writer) for number, w in workers.items() if w.writer is not None]
        if self._shared.is_shared:
            processes.append(("parent", "", os.getppid()))
        for process, worker, pid in processes:
            for metric in ProcessCollector(pid=partial(int, pid), registry=None).collect():
                metric.samples = [s._replace(labels={"process": process, "worker": worker}) for s in metric.samples]
                yield metric


class MetricsEndpoint:
    """Answers `/metrics`; also the whole application of the metrics' own address.

    Args:
        token: the bearer token that a caller must send.
        is_open: whether callers need no token if none is set.
    """

    def __init__(
        self, collector: ServerCollector, counts: RequestCounts, dialect: Dialect, token: Callable[[], str], *, is_open: bool
    ) -> None:
        self.dialect = dialect
        self.set_endpoints: dict[bytes, SetEndpoint] = {}
        self.counts = counts
        self._registry = CollectorRegistry()
        self._registry.register(collector)
        self._token = token
        self._is_open = is_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = NativeExchange(dict(scope["headers"]), send, self.counts)
        await exchange.run(self._serve(exchange, scope))

    async def _serve(self, exchange: NativeExchange, scope: Scope) -> None:
        if scope["path"] != METRICS_PATH:
            raise refusal(ProblemKind.NO_ROUTE, path=excerpt(scope["path"], 200))
        scope["route"] = METRICS_PATH
        if scope["method"] not in ("GET", "HEAD"):
            raise exchange.refuse_method(scope["method"], "GET, HEAD")
        token = self._token()
        if not (self._is_open and not token) and not carries_token(exchange.sent.get(b"authorization", b""), token):
            exchange.headers.append(_CHALLENGE)
            raise refusal(ProblemKind.METRICS_ONLY)
        encode, content_type = choose_encoder(exchange.sent.get(b"accept", b"").decode("latin-1"))
        self.counts.settle()
        # In a thread: with many workers it takes some milliseconds, for which no write should wait.
        text = await asyncio.to_thread(encode, self._registry)
        await answer(exchange.send, 200, text, [(b"content-type", content_type.encode()), *exchange.headers])


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


_Values = float | Iterable[tuple[tuple[str, ...], float]]
"""The value of a metric without labels; or each value with the values of its labels, in order."""


def _counter(name: str, documentation: str, values: _Values, labels: Sequence[str] = ()) -> Metric:
    metric = CounterMetricFamily(name, documentation, labels=labels)
    for key, value in _each(values):
        metric.add_metric(key, value)
    return metric


def _gauge(name: str, documentation: str, values: _Values, labels: Sequence[str] = ()) -> Metric:
    metric = GaugeMetricFamily(name, documentation, labels=labels)
    for key, value in _each(values):
        metric.add_metric(key, value)
    return metric


def _each(values: _Values) -> Iterable[tuple[tuple[str, ...], float]]:
    return [((), values)] if isinstance(values, int | float) else values


def _histogram(
    name: str, documentation: str, histograms: Iterable[tuple[tuple[str, ...], Histogram]], labels: Sequence[str] = ()
) -> Metric:
    metric = HistogramMetricFamily(name, documentation, labels=labels)
    for key, histogram in histograms:
        upper = [*map(floatToGoString, histogram.bounds), "+Inf"]
        metric.add_metric(key, list(zip(upper, accumulate(histogram.counts.copy()), strict=True)), histogram.total)
    return metric
