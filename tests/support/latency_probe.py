"""A well-behaved client that measures the server's latency while others attack it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from support.server_process import ATTRIBUTE


class LatencyProbe:
    """Reads `/livez` and sets an attribute of user 7, 20 times a second, and records the duration of every answer.

    It is a process of its own: in the test's process it would wait for the attackers' threads.
    """

    def __init__(self, url: str, project: str, secret: str, data: dict[str, object]) -> None:
        command = [sys.executable, "-m", __name__, url, project, secret, json.dumps({"cuid": 7, "data": data})]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
        self._process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n"

    def stop(self) -> None:
        told, _ = self._process.communicate("stop\n", timeout=120)
        self.seconds, self.wrong = json.loads(told)

    def p99(self) -> float:
        """Return the 99th percentile, in seconds."""
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


if __name__ == "__main__":
    main(*sys.argv[1:])
