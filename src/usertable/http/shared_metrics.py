"""Metrics of all workers of a server: each writes its counts to a file that all of them have open.

The counts of a worker that died are not lost: its replacement begins with them.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO

from prometheus_client import Metric

from usertable.folders import file_in_memory

_HEAD = struct.Struct("<Q")
_SLOT_BYTES = 1 << 20
"""Bytes reserved per worker, of which the file contains only the written ones, about 100 kB."""
_SMALLEST = frozenset(("usertable_store_ready",))
"""Gauges that are combined by their minimum, not their sum."""
_SAME = frozenset(("usertable_build_info", "python_info"))
"""Metrics that are the same in every worker."""


@dataclass(frozen=True, slots=True)
class WorkerMetrics:
    """One worker's counts, and its processes."""

    pid: int
    writer: int | None
    """ID of its writer process."""
    metrics: Sequence[Metric] = field(default_factory=list)


class SharedMetrics:
    """The file, for the worker with this number. A server of one process is worker 0.

    Args:
        descriptor: an open file created by :meth:`file`.
        worker: from 0.
    """

    def __init__(self, descriptor: int, worker: int) -> None:
        self._descriptor = descriptor
        self._worker = worker
        # A file lock excludes other processes, but not threads of this one.
        self._threads = threading.Lock()
        self._inherited = self._counted_before()

    @staticmethod
    def file(workers: int) -> IO[bytes]:
        """Return a new file, which is removed when the last process has closed it."""
        file = file_in_memory()
        file.truncate(workers * _SLOT_BYTES)
        return file

    @classmethod
    def alone(cls) -> SharedMetrics:
        """Return the metrics of a server that is a single process."""
        with cls.file(1) as file:
            return cls(os.dup(file.fileno()), 0)

    @property
    def is_shared(self) -> bool:
        """Whether there are other workers."""
        return os.fstat(self._descriptor).st_size > _SLOT_BYTES

    def publish(self, own: WorkerMetrics) -> None:
        """Publish this worker's counts for the other workers."""
        whole = WorkerMetrics(own.pid, own.writer, merged([self._inherited, own.metrics]))
        packed = pickle.dumps(whole, pickle.HIGHEST_PROTOCOL)
        assert len(packed) <= _SLOT_BYTES - _HEAD.size, f"{len(packed)} bytes of metrics"
        with self._locked(self._worker):
            os.pwrite(self._descriptor, _HEAD.pack(len(packed)) + packed, self._worker * _SLOT_BYTES)

    def workers(self) -> dict[int, WorkerMetrics]:
        """Return what every worker published last, by its number."""
        count = os.fstat(self._descriptor).st_size // _SLOT_BYTES
        return {worker: found for worker in range(count) if (found := self._published(worker)) is not None}

    def _published(self, worker: int) -> WorkerMetrics | None:
        with self._locked(worker):
            (size,) = _HEAD.unpack(os.pread(self._descriptor, _HEAD.size, worker * _SLOT_BYTES))
            packed = os.pread(self._descriptor, size, worker * _SLOT_BYTES + _HEAD.size)
        if not packed:
            return None
        found = pickle.loads(packed)
        assert isinstance(found, WorkerMetrics)
        return found

    def _counted_before(self) -> Sequence[Metric]:
        """Return the counts of an earlier worker with this number, without its gauges."""
        before = self._published(self._worker)
        return [] if before is None else lasting(before.metrics)

    @contextmanager
    def _locked(self, worker: int) -> Iterator[None]:
        with self._threads:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX, _SLOT_BYTES, worker * _SLOT_BYTES)
            try:
                yield
            finally:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, _SLOT_BYTES, worker * _SLOT_BYTES)


def lasting(metrics: Sequence[Metric]) -> list[Metric]:
    """Return the metrics that stay valid after the process that counted them is gone."""
    return [metric for metric in metrics if metric.type in ("counter", "histogram")]


def merged(parts: Iterable[Sequence[Metric]]) -> list[Metric]:
    """Return the metrics of several workers as those of one. Metrics with the same name and labels are added up."""
    families: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for metric in (metric for part in parts for metric in part):
        families.setdefault(metric.name, metric)
        known = values.setdefault(metric.name, {})
        for sample in metric.samples:
            key = (sample.name, tuple(sample.labels.items()))
            before = known.get(key)
            if before is None or metric.name in _SAME:
                known[key] = sample.value
            elif metric.name in _SMALLEST:
                known[key] = min(before, sample.value)
            else:
                known[key] = before + sample.value
    sums = []
    for name, first in families.items():
        metric = Metric(name, first.documentation, first.type)
        for (full_name, labels), value in values[name].items():
            metric.add_sample(full_name, dict(labels), value)
        sums.append(metric)
    return sums
