"""What a test leaves behind: it must not disturb the tests after it.

A process that is still running when a test is over, fixtures included, is killed. If the test has not failed anyway, it
fails for that. What else a failed test leaves in memory is freed, and complaints of its objects and threads are dropped.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from _pytest.threadexception import collect_thread_exception
from _pytest.unraisableexception import collect_unraisable

from support.forked_command import forking
from support.process_memory import children, descendants

_outliving: set[int] = set()
"""Process IDs of children that outlive the test or the fixture that started them, because others use them too."""
_of_fixtures: set[int] = set()
"""Process IDs of children that fixtures of several tests have started, which see to their end."""


def outlives_tests(pid: int) -> None:
    """Let a child run when the test that starts it is over. Whoever calls this sees to its end."""
    _outliving.add(pid)


class Leftovers:
    """A plugin of pytest that ends what tests leave behind."""

    def __init__(self) -> None:
        self._failures = pytest.StashKey[list[BaseException]]()
        self._threads: set[threading.Thread] = set()
        """Those that run when a test begins."""
        self._left: set[threading.Thread] = set()
        """Those that a failed test has left running."""

    def pytest_configure(self) -> None:
        report = threading.excepthook

        def report_unless_left(failure: threading.ExceptHookArgs, /) -> None:
            if failure.thread not in self._left:
                report(failure)

        threading.excepthook = report_unless_left

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """Let the processes of a module's fixture run until the end of the fixture."""
        if fixturedef.scope == "function":
            return (yield)
        before = _children()
        started: set[int] = set()
        # Called last, after the end of the fixture itself.
        request.addfinalizer(lambda: _of_fixtures.difference_update(started))
        result = yield
        children = _children()
        started |= children - before
        _of_fixtures.update(started)
        # The number of one that has ended may be given to another process.
        for kept in (_of_fixtures, _outliving):
            kept.intersection_update(children)
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        before = _children()
        try:
            yield
        except BaseException:
            if item.config.getoption("usepdb"):
                # Somebody looks at what the test has started.
                raise
            # Before the end of the fixtures, such as a database that the next test gets.
            self._leave_threads()
            _end(_children() - before)
            raise

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, None, None]:
        try:
            yield
        finally:
            left = _end(_children())
        if left and self._failures not in item.stash:
            pytest.fail(f"the test has left running: {', '.join(left)}", pytrace=False)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.failed and call.excinfo is not None:
            item.stash.setdefault(self._failures, []).append(call.excinfo.value)
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self._threads = set(threading.enumerate())
        self._left &= self._threads
        result = yield
        if failures := item.stash.get(self._failures, None):
            self._leave_threads()
            with _silence():
                _forget(failures)
                # What is not reported yet would be reported as the next test's.
                collect_unraisable(item.config)
                collect_thread_exception(item.config)
        return result

    def _leave_threads(self) -> None:
        self._left |= set(threading.enumerate()) - self._threads


def _children() -> set[int]:
    """Return the process IDs of the tests' processes, including ended ones that were not waited for."""
    found = children(os.getpid()) - forking
    return found.union(*map(children, forking))


def _command(pid: int) -> str:
    """Return what a child runs."""
    while True:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
        if command:
            return command
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return "ended, but not waited for"
        # Its program is just being started.


def _end(children: set[int]) -> list[str]:
    """Kill those of these children that no other test uses.

    Return what each was, such as `4711 (usertable serve --port 0)`.
    """
    left = []
    for pid in children - _outliving - _of_fixtures:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            left.append(f"{pid} ({_command(pid)})")
            # Theirs too: one that a test has stopped does not see that its parent is gone.
            for each in (*descendants(pid), pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)
            _wait(pid)
    return left


def _wait(pid: int) -> None:
    """Wait until a process is gone."""
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        # The process that forked it waits for it, or something in the test.
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.01)


def _forget(failures: list[BaseException]) -> None:
    """Free the objects of a failed test, which its traceback refers to."""
    while failures:
        failure = failures.pop()
        traceback.clear_frames(failure.__traceback__)
        for frame, _ in traceback.walk_tb(failure.__traceback__):
            # pytest has read the variables, and the dictionary that it got is emptied when they are read again.
            frame.f_locals  # noqa: B018
        failures += [other for other in (failure.__cause__, failure.__context__) if other is not None]
        if isinstance(failure, BaseExceptionGroup):
            failures += failure.exceptions
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        if hasattr(sys, name):
            delattr(sys, name)
    gc.collect()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Drop warnings, and exceptions that are raised where nobody can catch them, during the block."""
    report = sys.unraisablehook
    sys.unraisablehook = lambda unraisable, /: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.unraisablehook = report
