"""One suite for every store: `store` is each engine in turn, and a test must not depend on which."""

from __future__ import annotations

import os
import signal
import ssl
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import WorkStealingScheduling

from support.engines import ENGINES, KEPT, SHARED
from support.leftovers import Leftovers
from support.store_harness import StoreHarness
from support.waiting import DEADLINE_SECONDS
from usertable.cli import progress
from usertable.store import Store, open_store

# Otherwise every server and command that a test starts would compile the package again, a third of its start-up time, and
# every test process would compile the tests again, with pytest's assertions two thirds of the time to collect them.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A shell that starts the tests in the background makes them, and every program that they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What a test calls without a time limit of its own would have five seconds, which a busy machine may take.
for _phase in ("connect", "read", "write", "pool"):
    setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, _phase, DEADLINE_SECONDS)

# On a busy machine a command may take ten seconds, and would write a line of progress that no test expects.
progress.PROGRESS_SECONDS = DEADLINE_SECONDS

# The time that a busy machine takes for an example is not a test result.
settings.register_profile("random", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=False)
# A change must not be rejected for an example that is tried for the first time, and has nothing to do with it.
settings.register_profile("repeatable", settings.get_profile("random"), derandomize=True)
settings.load_profile("repeatable")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    # Last, because it replaces a function of pytest's own.
    config.pluginmanager.register(Leftovers())


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> WorkStealingScheduling:
    """Give each process consecutive tests, so that a module's server is started once, and let idle processes steal the
    rest."""
    return WorkStealingScheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def certificates_are_read_once() -> Iterator[None]:
    """Otherwise each client would read the system's certificates, for 30 ms. Nothing in the tests is served over TLS."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", cache(ssl.create_default_context))
        yield


@pytest.fixture(scope="session", autouse=True)
def no_terminal_is_described() -> Iterator[None]:
    """What these variables say changes what commands print. pytest itself, which has read them, keeps its colors."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CLICOLOR_FORCE", "COLUMNS", "FORCE_COLOR", "LINES", "NO_COLOR", "PY_COLORS", "PYTEST_ADDOPTS"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(params=ENGINES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with ENGINES[request.param](tmp_path) as url:
        yield url


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = open_store(url)
    yield opened
    opened.close()


@pytest.fixture
def harness(store: Store) -> StoreHarness:
    return StoreHarness(store)


@pytest.fixture(params=KEPT)
def kept_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Each database that outlives its server, for tests that kill one."""
    with ENGINES[request.param](tmp_path) as url:
        yield url


@pytest.fixture(params=SHARED)
def shared_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Each database that may have several servers."""
    with ENGINES[request.param](tmp_path) as url:
        yield url


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files and folders that this process syncs from now on, in order."""
    found: list[Path] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        found.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return found
