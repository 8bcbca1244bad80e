"""Several server processes on one port: a parent that starts workers, replaces those that die, and stops them together.

Every worker listens on its own socket with SO_REUSEPORT, so that the system distributes connections.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import FrameType
from typing import IO

from usertable import signals
from usertable.app.clock import SYSTEM_CLOCK, Clock
from usertable.config import Config
from usertable.http.app import Shared

log = logging.getLogger("usertable.workers")

NONE = -1
"""Stands for a descriptor: there is no such listener."""
RESTART_SECONDS = 1.0
"""Minimum seconds between a worker's start and that of its replacement."""
REPEAT_SECONDS = 0.2
"""Seconds between two signals to workers that are to hurry."""


@dataclass
class _Worker:
    number: int
    process: subprocess.Popen[bytes]
    started: float
    is_ready: bool = False


class Supervisor:
    """The parent process. It answers no requests and does not use the store.

    Args:
        config: `port` is the one to listen on; it is reserved.
        announce: called once, when every worker serves.
        unix: the listener of the Unix socket that the workers accept from, if they do not share a port.
        metrics: the listener of the metrics' own address.
        reload: called on SIGHUP with the current configuration. Returns its replacement; None to keep it.
    """

    def __init__(
        self,
        config: Config,
        announce: Callable[[Shared], None],
        reload: Callable[[Config], Config | None] | None = None,
        *,
        unix: socket.socket | None = None,
        metrics: socket.socket | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._config = config
        self._announce = announce
        self._reload = reload
        self._shared: list[IO[bytes]] = Shared.files(config.workers)
        self._listeners = (unix, metrics)
        self._clock = clock
        self._stop = threading.Event()
        self._workers: list[_Worker] = []
        self._is_announced = False
        self._is_reload_due = False
        self._is_hurried = False

    def run(self) -> bool:
        """Serve until SIGTERM or Ctrl-C; then every worker drains. Return whether each could close the store."""
        before = {number: signal.signal(number, self._stopping) for number in (signal.SIGINT, signal.SIGTERM)}
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._hung_up)
        try:
            self._workers = [self._start(number) for number in range(self._config.workers)]
            while not self._clock.wait(self._stop, 0.2 if self._is_announced else 0.02):
                if self._is_reload_due:
                    self._is_reload_due = False
                    self._pass_on()
                self._workers = [self._kept(worker) for worker in self._workers]
                self._announce_once()
        finally:
            self._terminate()
            codes = [self._end_of(worker) for worker in self._workers]
            for number, handler in before.items():
                signal.signal(number, handler)
            for file in self._shared:
                file.close()
        return max(codes) <= 0

    def _stopping(self, number: int, frame: FrameType | None) -> None:
        if self._stop.is_set():
            # After the second signal, the workers stop waiting too.
            self._is_hurried = True
            self._terminate()
        self._stop.set()

    def _terminate(self) -> None:
        for worker in self._workers:
            worker.process.send_signal(signal.SIGTERM)

    def _end_of(self, worker: _Worker) -> int:
        """Wait until a worker has ended. Return its exit code."""
        while True:
            try:
                return worker.process.wait(REPEAT_SECONDS)
            except subprocess.TimeoutExpired:
                # Two equal signals arrive as one if the first is not handled yet, and a worker needs two to hurry.
                if self._is_hurried:
                    self._terminate()

    def _hung_up(self, number: int, frame: FrameType | None) -> None:
        # Not here: a signal handler, which runs between two instructions of the main program, must not write to its log.
        self._is_reload_due = True

    def _pass_on(self) -> None:
        """Make every worker, including later ones, use the current configuration."""
        config = None if self._reload is None else self._reload(self._config)
        if config is not None:
            self._config = config
            for worker in self._workers:
                self._tell(worker.process)

    def _tell(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(pickle.dumps(replace(self._config, workers=1)))
            process.stdin.flush()

    def _start(self, number: int) -> _Worker:
        shared = [file.fileno() for file in self._shared]
        listeners = [NONE if listener is None else listener.fileno() for listener in self._listeners]
        with signals.blocked(signal.SIGHUP):
            process = subprocess.Popen(
                [sys.executable, "-m", "usertable.http.workers", *map(str, [number, *shared, *listeners])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[descriptor for descriptor in shared + listeners if descriptor != NONE],
                # A session of its own: Ctrl-C goes to the parent only, which stops the workers.
                start_new_session=True,
            )
        # Its standard input stays open: its end tells the worker that the parent is gone.
        self._tell(process)
        return _Worker(number, process, self._clock.monotonic())

    def _announce_once(self) -> None:
        """Announce that every worker serves, as soon as that is so for the first time."""
        if not self._is_announced and all(self._is_ready(worker) for worker in self._workers):
            self._is_announced = True
            self._announce(Shared.of([file.fileno() for file in self._shared], 0))

    def _is_ready(self, worker: _Worker) -> bool:
        stdout = worker.process.stdout
        assert stdout is not None
        if not worker.is_ready:
            poll = select.poll()
            poll.register(stdout, select.POLLIN)
            if poll.poll(0):
                # It says nothing else, and the end of one that died is readable too.
                worker.is_ready = stdout.readline() == b"ready\n"
        return worker.is_ready

    def _kept(self, worker: _Worker) -> _Worker:
        code = worker.process.poll()
        if code is None or self._clock.monotonic() - worker.started < RESTART_SECONDS:
            return worker
        log.error("worker %d exited (%s); starting another", worker.process.pid, code)
        return self._start(worker.number)


def main(number: int, shared: Sequence[int], unix: int, metrics: int) -> None:
    """Run a worker, until its parent stops it or is gone.

    Args:
        number: from 0. A replacement has the same number.
        shared: descriptors of the files of :class:`~usertable.http.app.Shared`.
        unix: descriptor of the listener of a Unix socket, or NONE.
        metrics: descriptor of the listener of the metrics' own address, or NONE.
    """
    # The parent passes on what SIGHUP reloads.
    signals.ignore(signal.SIGHUP)
    from usertable.http.server import Server, run_worker

    # Not sys.stdin, whose lock must be free when the process exits.
    parent = os.fdopen(0, "rb", closefd=False)
    config = pickle.load(parent)
    assert isinstance(config, Config)

    def listen_to_parent(server: Server) -> None:
        def listen() -> None:
            while True:
                try:
                    server.take_over(pickle.load(parent))
                except (EOFError, OSError):
                    server.stop()
                    return

        threading.Thread(target=listen, daemon=True).start()

    def ready() -> None:
        with contextlib.suppress(BrokenPipeError):
            print("ready", flush=True)

    listeners = [None if descriptor == NONE else socket.socket(fileno=descriptor) for descriptor in (unix, metrics)]
    run_worker(config, Shared.of(shared, number), ready, listen_to_parent, *listeners, number=number)


def reserve(listener: socket.socket) -> socket.socket:
    """Reserve the address of `listener` for workers that will listen on it, and close the listener."""
    family, kind, address = listener.family, listener.type, listener.getsockname()
    listener.close()
    holder = socket.socket(family, kind)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.bind(address)
    return holder


if __name__ == "__main__":
    number, counts, console, shared_metrics, unix, metrics = map(int, sys.argv[1:])
    main(number, [counts, console, shared_metrics], unix, metrics)
