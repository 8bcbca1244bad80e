"""A test that fails does not make another one fail, and one that leaves a process running fails."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
HEAD = """
import atexit, os, subprocess, threading, time
import pytest
from support.forked_command import ForkedCommand
from support.leftovers import outlives_tests

def left_running():
    process = subprocess.Popen(["sleep", "1000"])
    print("started", process.pid)
    return process

@pytest.fixture(scope="module")
def shared():
    # As a database that is started when it is first needed, and stopped at the end.
    database = subprocess.Popen(["sleep", "1000"])
    outlives_tests(database.pid)

    def end():
        database.kill()
        database.wait()

    atexit.register(end)
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()
"""
FAILS = """
def test_that_fails(shared):
    process = left_running()
    opened = open(__file__)

    def complain():
        process.wait()
        raise ValueError("the process has ended")

    threading.Thread(target=complain).start()
    loop = [process, opened]
    loop.append(loop)
    assert False, "its own reason"

class Holder:
    def __init__(self):
        self.process = left_running()

    def fail(self, times):
        assert times, "its own reason"
        self.fail(times - 1)

@pytest.fixture(scope="module")
def broken():
    holder = Holder()
    holder.fail(3)
    yield holder

def test_whose_fixture_fails(broken):
    pass

def test_after_it(shared):
    while threading.active_count() > 1:
        time.sleep(0.01)
    assert shared.poll() is None
"""
LEAVES = """
def test_that_passes():
    global process
    process = left_running()

def test_that_forks(tmp_path):
    serve = ["serve", "--store", "memory:", "--port", "0"]
    print("started", ForkedCommand(serve, os.environ, tmp_path / "log").pid)

@pytest.fixture
def another():
    yield
    left_running()
    raise ValueError("its own reason")

def test_whose_fixture_fails(another):
    pass

def test_after_them(shared):
    pass
"""


def run(folder: Path, tests: str) -> str:
    """Run tests in a process of their own, with this suite's configuration. Return what is printed."""
    file = folder / "test_file.py"
    file.write_text(HEAD + tests)
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "-c", str(TESTS.parent / "pyproject.toml")]
    command += ["--rootdir", str(folder), "--confcutdir", str(TESTS), "-p", "conftest", str(file)]
    return subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=120).stdout


def is_running(pid: str) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_what_a_failed_test_leaves_behind_disturbs_no_other(tmp_path: Path) -> None:
    said = run(tmp_path, FAILS)
    assert "1 failed, 1 passed, 1 error in" in said, said
    assert "its own reason" in said
    assert "left running" not in said
    assert [pid for pid in re.findall(r"started (\d+)", said) if is_running(pid)] == []


def test_a_test_that_leaves_a_process_running_fails(tmp_path: Path) -> None:
    said = run(tmp_path, LEAVES)
    assert "4 passed, 3 errors in" in said, said
    # At the start of a line: the summary says it again where lines are not cut, as in CI.
    left = re.findall(r"^the test has left running: \d+ \((.*)\)$", said, re.M)
    assert [command for command in left if "forkserver" not in command] == ["sleep 1000"], said
    assert len(left) == 2, said
    assert "its own reason" in said
    assert [pid for pid in re.findall(r"started (\d+)", said) if is_running(pid)] == []
