"""Memory that a process and its children hold."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
    # It may end while it is looked at.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *descendants(child)]
    return found


@contextmanager
def peak_memory(pid: int) -> Iterator[list[float]]:
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
