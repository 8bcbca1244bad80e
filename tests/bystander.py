"""A caller that does nothing wrong while others do, and what the server's processes hold meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx


class Bystander(threading.Thread):
    """Calls in turn, 20 times a second, each on a connection that is kept, and notes how long every answer took."""

    def __init__(self, url: str, calls: Sequence[Callable[[httpx.Client], httpx.Response]], **client: object) -> None:
        super().__init__(daemon=True)
        self._calls = calls
        self._stop_event = threading.Event()
        self._http = httpx.Client(base_url=url, timeout=60, **client)  # type: ignore[arg-type]
        self.seconds: list[float] = []
        self.wrong: list[str] = []

    def run(self) -> None:
        with self._http:
            while not self._stop_event.wait(0.05):
                for call in self._calls:
                    begun = time.monotonic()
                    try:
                        answer = call(self._http)
                        if answer.status_code != 200:
                            self.wrong.append(f"{answer.status_code} {answer.text[:200]}")
                    except httpx.HTTPError as error:
                        self.wrong.append(repr(error))
                    self.seconds.append(time.monotonic() - begun)

    def stop(self) -> None:
        self._stop_event.set()
        self.join()

    def p99(self) -> float:
        """Seconds within which 99 of 100 answers came."""
        return sorted(self.seconds)[int(len(self.seconds) * 0.99)]


def memory_mb(pid: int) -> float:
    """What a process and its children hold, in MB: unlike the resident size, not counted twice where they share it."""
    total = 0.0
    for each in [pid, *descendants(pid)]:
        try:
            rollup = Path(f"/proc/{each}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024
    return total


def descendants(pid: int) -> list[int]:
    """The process ids of a process's children, and of theirs."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *descendants(child)]
    return found


@contextmanager
def highest_memory(pid: int) -> Iterator[list[float]]:
    """A list that grows by what the process and its children hold, in MB, ten times a second until the end of the block."""
    seen = [memory_mb(pid)]
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.1):
            seen.append(memory_mb(pid))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()
