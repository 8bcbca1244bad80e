"""A real server in a process of its own, for tests that call it, stop it and kill it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from support.process_memory import descendants
from support.sample_project import sample_project, sample_schema
from usertable.app.service import Service
from usertable.config import TOKENS
from usertable.store import open_store

PROJECT, SECRET = "100102", "a-secret-for-the-tests"
PHONE = "18012345678"
"""A value of an identifier."""
ATTRIBUTE = "/smartop/api/v1/user/attribute"
REGISTER = "/smartop/api/v1/user/register"


def create_project(url: str, *, users: int = 0, qps: int | None = None) -> list[int]:
    """A project with `user_<type>_<rule>` for every legal pair and the identifier `phone`; the CUIDs of new users."""
    store = open_store(url)
    service = Service(store)
    # Clients that append to few users reach a thousand elements within seconds.
    project = sample_project(store, PROJECT, SECRET, qps=qps, schema=sample_schema(elements=10_000))
    cuids = service.register(project, "phone", [f"{n:011}" for n in range(users)]) if users else []
    store.close()
    return cuids


class ServerProcess:
    """`usertable serve` on a free port of 127.0.0.1, with whatever else `settings` says (in the environment's names)."""

    def __init__(self, url: str, folder: Path, **settings: str) -> None:
        self._url = url
        self._log = folder / "server.log"
        self._settings = settings
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._log.write_text("")
        self._process = launch(self._url, self._log, self._settings)
        deadline = time.monotonic() + 30
        while not (found := re.search(r"serving \S+ on (\S+)", self.log)):
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, f"no start in 30 s: {self.log}"
            time.sleep(0.02)
        self.url = found[1]

    @property
    def log(self) -> str:
        """All that it has said on stderr since it was started."""
        return self._log.read_text()

    def wait_for_log(self, pattern: str) -> re.Match[str]:
        """What a pattern finds in what it said, as soon as that is there."""
        deadline = time.monotonic() + 30
        while not (found := re.search(pattern, self.log)):
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)
        return found

    @property
    def pid(self) -> int:
        return self._process.pid

    def client(self) -> httpx.Client:
        """A client with the project's credentials."""
        return httpx.Client(base_url=self.url, auth=(PROJECT, SECRET), timeout=30)

    def children(self) -> list[int]:
        """The process ids of its children: its writer, or its workers."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def writer_pid(self) -> int:
        """The process id of the writer, or of one of the workers' writers."""
        for pid in descendants(self.pid):
            # In a checkout a server runs git for a moment, which tells its version.
            with contextlib.suppress(FileNotFoundError):
                if b"writer_process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        raise AssertionError("there is no writer")

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self._process.kill()
        self._process.wait()
        self.check_log()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait until it has ended by itself; its exit code."""
        return self._process.wait(60)

    def stop(self) -> int:
        """End it as an operator does; its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(60)
        self.check_log()
        return code

    def check_log(self) -> None:
        """No server of any test may log a secret, or a value of a user's that many of them send."""
        secrets = [self._settings[name] for name in TOKENS if self._settings.get(name)]
        for told in (SECRET, PHONE, *secrets):
            assert told not in self.log, f"{told!r} is in the log: {self.log}"


def launch(
    url: str, log: Path, settings: Mapping[str, str], *, program: Sequence[str] = ("-m", "usertable")
) -> subprocess.Popen[bytes]:
    """Start `usertable serve` on a free port. It is killed when the thread that starts it ends, as the tests may be."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("USERTABLE_")}
    environment |= {f"USERTABLE_{key.upper()}": value for key, value in settings.items()}
    with log.open("ab") as stream:
        address = [] if "UDS" in settings else ["--port", "0"]
        command = ["setpriv", "--pdeathsig", "KILL", sys.executable, *program, "serve", "--store", url, *address]
        return subprocess.Popen(command, stderr=stream, stdout=stream, env=environment)
