"""A real server in its own process, for tests that call it, stop it and kill it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from support.actors import TESTER
from support.forked_command import ForkedCommand
from support.process_memory import running
from support.sample_project import sample_project, sample_schema
from support.waiting import DEADLINE_SECONDS
from usertable.app.service import Service
from usertable.config import SECRETS
from usertable.store import open_store
from usertable.version import version

GENERATED_SECRET = re.compile(r"ut_[0-9A-Za-z]{8}_[0-9A-Za-z]{43}")
"""The form of the secrets that usertable generates."""
PROJECT = "100102"
SECRET = "ut_forTests_" + "0123456789" * 4 + "abc"
"""In the form of a generated secret, because verifying any other takes 25 ms of CPU, at a low priority."""
PHONE = "18012345678"
"""An identifier value."""
ATTRIBUTE = "/smartop/api/v1/user/attribute"
REGISTER = "/smartop/api/v1/user/register"


def _read_by_python(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that are read when Python starts, and not when a command is forked."""
    return {name: value for name, value in environment.items() if name.startswith(("LD_", "PYTHON"))}


_OF_TESTS = _read_by_python(os.environ)


def create_project(url: str, *, users: int = 0, qps: int | None = None) -> list[int]:
    """Create a project with `user_<type>_<rule>` for every legal pair and the identifier `phone`.

    Return the CUIDs of new users.
    """
    store = open_store(url)
    service = Service(store)
    # Clients that append to few users reach a thousand elements within seconds.
    project = sample_project(store, PROJECT, SECRET, qps=qps, schema=sample_schema(elements=10_000))
    cuids = service.register(project, "phone", [f"{n:011}" for n in range(users)], actor=TESTER) if users else []
    store.close()
    return cuids


class ServerProcess:
    """`usertable serve` on a free port of 127.0.0.1, with additional `settings` (by their names in the environment)."""

    def __init__(self, url: str, folder: Path, **settings: str) -> None:
        self._url = url
        self._log = folder / "server.log"
        self._settings = settings
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._log.write_text("")
        self._process = launch(self._url, self._log, self._settings)
        self.url = self.wait_for_log(r"serving \S+ on (\S+)")[1]

    @property
    def log(self) -> str:
        """Its output on stderr since it was started."""
        return self._log.read_text()

    def wait_for_log(self, pattern: str) -> re.Match[str]:
        """Wait until a pattern matches the output, and return the match."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not (found := re.search(pattern, self.log)):
            # What it writes last may come between the look at its log and the look at itself.
            assert self._process.poll() is None or re.search(pattern, self.log), self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)
        return found

    @property
    def version(self) -> str:
        """The version that it logged. The one of the tests may be another, after a commit while they run."""
        return self.wait_for_log(r"usertable (\S+) serving")[1]

    @property
    def pid(self) -> int:
        return self._process.pid

    def client(self) -> httpx.Client:
        """Return a client with the project's credentials."""
        return httpx.Client(base_url=self.url, auth=(PROJECT, SECRET), timeout=DEADLINE_SECONDS)

    def children(self) -> list[int]:
        """Return the process IDs of its children: its writer, or its workers. One that ended may be missing for a moment."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def writer_pid(self) -> int:
        """Return the process ID of the writer, or of one of the workers' writers."""
        return running(self.pid, "writer_process")

    def kill(self) -> None:
        """Kill it, like a power cut."""
        self._process.kill()
        self._process.wait()
        self.check_log()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait until it ends. Return its exit code."""
        return self._process.wait(DEADLINE_SECONDS)

    def stop(self) -> int:
        """Stop it as an operator does. Return its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(DEADLINE_SECONDS)
        self.check_log()
        return code

    def check_log(self) -> None:
        """Check that the log contains no secret, and no user's value that many tests send."""
        secrets = [self._settings[name] for name in SECRETS if self._settings.get(name)]
        for told in (SECRET, PHONE, *secrets, *GENERATED_SECRET.findall(self.log)):
            assert told not in self.log, f"{told!r} is in the log: {self.log}"


def launch(url: str, log: Path, settings: Mapping[str, str]) -> ForkedCommand | subprocess.Popen[bytes]:
    """Start `usertable serve` on a free port."""
    arguments, environment = serve_command(url, settings)
    if _read_by_python(environment) != _OF_TESTS:
        return start_python(url, log, settings, ["-m", "usertable"])
    return ForkedCommand(arguments, environment, log)


def start_python(url: str, log: Path, settings: Mapping[str, str], program: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start `usertable serve` on a free port with a new interpreter, which runs this program.

    It is killed when the thread that starts it ends, because the tests may be killed.
    """
    arguments, environment = serve_command(url, settings)
    with log.open("ab") as stream:
        command = ["setpriv", "--pdeathsig", "KILL", sys.executable, *program, *arguments]
        return subprocess.Popen(command, stderr=stream, stdout=stream, env=environment)


def serve_command(url: str, settings: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Return the arguments and the environment of a server on a free port."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("USERTABLE_")}
    environment |= {f"USERTABLE_{key.upper()}": value for key, value in settings.items()}
    # Otherwise each server of a checkout would ask git, for 0.15 s of CPU.
    environment["SETUPTOOLS_SCM_PRETEND_VERSION"] = version()
    address = [] if "UDS" in settings else ["--port", "0"]
    return ["serve", "--store", url, *address], environment
