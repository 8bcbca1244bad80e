"""A caller that does nothing wrong while others do, and what the server's processes hold meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from serving import ATTRIBUTE


class Bystander:
    """Reads `/livez` and sets an attribute of user 7, 20 times a second, and notes how long every answer took.

    It is a process of its own: in the test's it would wait for the attackers' threads.
    """

    def __init__(self, url: str, project: str, secret: str, data: dict[str, object]) -> None:
        command = [sys.executable, __file__, url, project, secret, json.dumps({"cuid": 7, "data": data})]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n"

    def stop(self) -> None:
        told, _ = self._process.communicate("stop\n", timeout=120)
        self.seconds, self.wrong = json.loads(told)

    def p99(self) -> float:
        """Seconds within which 99 of 100 answers came."""
        return float(sorted(self.seconds)[int(len(self.seconds) * 0.99)])


def main(url: str, project: str, secret: str, body: str) -> None:
    stop = threading.Event()
    seconds: list[float] = []
    wrong: list[str] = []

    def call() -> None:
        with httpx.Client(base_url=url, auth=(project, secret), timeout=60) as client:
            calls: list[Callable[[], httpx.Response]] = [
                lambda: client.get("/livez"),
                lambda: client.put(ATTRIBUTE, content=body),
            ]
            print("ready", flush=True)
            while not stop.wait(0.05):
                for send in calls:
                    begun = time.monotonic()
                    try:
                        answer = send()
                        if answer.status_code != 200:
                            wrong.append(f"{answer.status_code} {answer.text[:200]}")
                    except httpx.HTTPError as error:
                        wrong.append(repr(error))
                    seconds.append(time.monotonic() - begun)

    caller = threading.Thread(target=call)
    caller.start()
    sys.stdin.readline()
    stop.set()
    caller.join()
    print(json.dumps([seconds, wrong]))


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


if __name__ == "__main__":
    main(*sys.argv[1:])
