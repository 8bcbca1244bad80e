"""`usertable` in its own process, forked from one that has imported it, for 0.02 s of CPU instead of 0.5 s.

It has the environment, the folder and the output that it would have if it were started. Only its command line in /proc is
that of the process it is forked from.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path

from support.process_memory import children
from support.waiting import DEADLINE_SECONDS

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    # What a server imports. The first is the program of the tests, which each child would import otherwise.
    ["__main__", "usertable.cli", "usertable.http.server", "usertable.store.sqlite", "usertable.store.postgres"]
)
_KILL_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of prctl(2)."""

forking: set[int] = set()
"""Process IDs of the children that fork commands, and outlive the tests. What they have forked belongs to the tests."""


class ForkedCommand:
    """A command, with what the tests use of :class:`subprocess.Popen`. It is killed when the tests end, however they do.

    Args:
        arguments: those of `usertable`.
        environment: all variables.
        output: the file to which stdout and stderr are appended.
    """

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], output: Path) -> None:
        before = children(os.getpid())
        forkserver.ensure_running()
        forking.update(children(os.getpid()) - before)
        task = (list(arguments), dict(environment), str(output.absolute()), set(forking))
        self._process = _CONTEXT.Process(target=_run, args=task, daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Return its exit code, or None if it is running."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it ends. Return its exit code.

        Raises:
            subprocess.TimeoutExpired: it is still running after this many seconds.
        """
        self._process.join(timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired("usertable", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(arguments: Sequence[str], environment: Mapping[str, str], output: str, parents: set[int]) -> None:
    ctypes.CDLL(None).prctl(_KILL_WITH_PARENT, signal.SIGKILL)
    if os.getppid() not in parents:
        # It has ended already, and nothing will kill this process.
        return
    with Path(output).open("ab") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    # Those of the forking process, one of which would keep it running when the tests have ended.
    os.closerange(3, 256)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["usertable", *arguments]
    from usertable.app import verification
    from usertable.cli import main

    # A wrong secret is verified at a low priority: on a busy machine a test would get 503 for it.
    verification.VERIFICATION_SECONDS = DEADLINE_SECONDS
    main()
