"""Memory of a process and its children, and which they are."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def memory_mb(pid: int) -> float:
    """Return the memory of a process and its children, in MB.

    Unlike the resident size, shared memory is not counted twice.
    """
    total = 0.0
    for each in [pid, *descendants(pid)]:
        try:
            rollup = Path(f"/proc/{each}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024
    return total


def children(pid: int) -> set[int]:
    """Return the process IDs of a process's children, including ended ones that it has not waited for."""
    found: set[int] = set()
    # It may end while it is being examined, and so may its threads.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found.update(map(int, (task / "children").read_text().split()))
    return found


def descendants(pid: int) -> list[int]:
    """Return the process IDs of a process's descendants."""
    return [each for child in children(pid) for each in (child, *descendants(child))]


def find_running(pid: int, module: str) -> int | None:
    """Return the process ID of a descendant that runs a module, such as `writer_process`; None if none does.

    There may be others: in a checkout, git is run briefly to determine the version.
    """
    for each in descendants(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if module.encode() in Path(f"/proc/{each}/cmdline").read_bytes():
                return each
    return None


def running(pid: int, module: str) -> int:
    """Return the process ID of the descendant that runs a module."""
    found = find_running(pid, module)
    assert found is not None, f"no process runs {module}"
    return found


@contextmanager
def peak_memory(pid: int) -> Iterator[list[float]]:
    """Return a list that gets the memory of the process and its children, in MB, ten times a second until the end of the
    block."""
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
