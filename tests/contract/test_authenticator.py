"""Who is known stays known: only a change of the project's own secret makes its callers prove it again."""

from __future__ import annotations

import asyncio
import os
import time
from base64 import b64encode
from collections.abc import Coroutine
from typing import Any

import pytest

from support.manual_clock import ManualClock
from support.store_harness import StoreHarness
from usertable.app.access import Authenticator, ProjectAccess
from usertable.app.limits import SharedCounts
from usertable.app.verification import (
    FAILURES_AT_ONCE,
    FAILURES_PER_SECOND,
    VERIFICATIONS_WAITING,
    WAITING_PER_CALLER,
    Verifications,
    network,
)
from usertable.domain.errors import Overloaded
from usertable.http.admission import admit

HERE = ("192.0.2.1", 5000)


def header(project: str, secret: str, scheme: str = "Basic") -> bytes:
    return f"{scheme} ".encode() + b64encode(f"{project}:{secret}".encode())


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def test_a_caller_stays_known_whatever_is_changed_but_the_secret(harness: StoreHarness) -> None:
    harness.project("one")
    harness.project("two")

    async def work() -> None:
        authenticator = Authenticator(harness.service)
        mine = header("one", "secret")
        access = await admit(authenticator, mine, HERE)
        assert access is not None
        harness.service.edit_attribute("two", "user_bool_once", description="changed", actor="test")
        harness.service.edit_attribute("one", "user_bool_once", description="changed", actor="test")
        harness.service.edit_project("one", name="Changed", timezone="UTC", actor="test")
        authenticator.poll()
        assert authenticator.known(mine) is access
        assert access.project == harness.service.project("one")
        assert access.zone.key == "UTC"
        authenticator.close()

    run(work())


def test_a_caller_whose_secret_was_replaced_is_not_known_any_more(harness: StoreHarness) -> None:
    harness.project("one")
    harness.project("two")

    async def work() -> None:
        authenticator = Authenticator(harness.service)
        for project in ("one", "two"):
            assert await admit(authenticator, header(project, "secret"), HERE)
        harness.service.rotate_secret("one", secret="another", actor="test")
        authenticator.poll()
        assert authenticator.known(header("one", "secret")) is None
        assert await admit(authenticator, header("one", "secret"), HERE) is None
        assert await admit(authenticator, header("one", "another"), HERE)
        assert authenticator.known(header("two", "secret"))
        authenticator.close()

    run(work())


def test_a_secret_replaced_while_it_is_verified_is_not_known(harness: StoreHarness) -> None:
    harness.project("one")

    async def work() -> None:
        authenticator = Authenticator(harness.service)
        before = harness.service.project("one")
        harness.service.rotate_secret("one", secret="another", actor="test")
        authenticator.poll()
        # As the verifying thread would give it that read the project before.
        assert authenticator._remember(header("one", "secret"), before) is None
        assert authenticator.known(header("one", "secret")) is None
        authenticator.close()

    run(work())


def test_a_wrong_secret_is_right_as_soon_as_it_is_made_the_secret(harness: StoreHarness) -> None:
    harness.project("one")

    async def work() -> None:
        authenticator = Authenticator(harness.service)
        assert await admit(authenticator, header("one", "next"), HERE) is None
        assert await admit(authenticator, header("new", "secret"), HERE) is None
        harness.service.rotate_secret("one", secret="next", actor="test")
        harness.service.create_project("new", id="new", secret="secret", actor="test")
        authenticator.poll()
        assert await admit(authenticator, header("one", "next"), HERE)
        assert await admit(authenticator, header("new", "secret"), HERE)
        authenticator.close()

    run(work())


def test_a_secret_that_passed_is_known_in_every_form_of_the_header_and_by_every_worker(harness: StoreHarness) -> None:
    harness.project("one")

    async def work() -> None:
        with SharedCounts.file() as file:
            authenticators = [Authenticator(harness.service, SharedCounts(os.dup(file.fileno()))) for _ in range(2)]
            assert await admit(authenticators[0], header("one", "secret"), HERE)
            for authenticator in authenticators:
                # From here on nothing can be verified.
                authenticator.close()
                assert await admit(authenticator, header("one", "secret", "BASIC"), HERE)
            harness.service.edit_attribute("one", "user_bool_once", description="changed", actor="test")
            for authenticator in authenticators:
                authenticator.poll()
                assert await admit(authenticator, header("one", "secret", "basic"), HERE)

    run(work())


def test_forms_of_one_header_drive_out_no_other_caller(harness: StoreHarness) -> None:
    harness.project("one")
    harness.project("two")

    async def work() -> None:
        authenticator = Authenticator(harness.service)
        theirs = await admit(authenticator, header("two", "secret"), HERE)
        for blanks in range(1, 200):
            assert await admit(authenticator, header("one", "secret", "Basic" + " " * blanks), HERE)
        assert authenticator.known(header("two", "secret")) is theirs
        authenticator.close()

    run(work())


class Turns:
    """Verifications of which each takes a moment and fails, and the order in which they were done."""

    def __init__(self) -> None:
        self.time = ManualClock()
        self.verifications = Verifications(self.time.clock)
        self.done: list[tuple[str, str]] = []
        self.tasks: list[asyncio.Task[object]] = []

    async def add(self, project: str, address: str, count: int = 1) -> None:
        for _ in range(count):
            self.tasks.append(
                asyncio.create_task(self.verifications.run(project, address, lambda: self.fail(project, address)))
            )
        await asyncio.sleep(0)

    def fail(self, project: str, address: str) -> None:
        time.sleep(0.001)
        self.done.append((project, address))

    async def end(self) -> list[object]:
        # Those that wait still would be told so after ten seconds.
        for task in self.tasks:
            task.cancel()
        return await asyncio.gather(*self.tasks, return_exceptions=True)


def test_whoever_comes_last_does_not_wait_behind_all_wrong_secrets_of_others() -> None:
    async def work() -> None:
        turns = Turns()
        for place in range(8):
            # From many addresses at one project, and from one address at many projects.
            await turns.add("attacked", f"192.0.2.{place}", 10)
            await turns.add(f"project {place}", "198.51.100.1", 10)
        await turns.add("other", "203.0.113.1")
        await turns.add("attacked", "203.0.113.2")
        await turns.add("behind the same proxy", "198.51.100.1")
        while len(turns.done) < 24:
            await asyncio.sleep(0.005)
        assert {("other", "203.0.113.1"), ("attacked", "203.0.113.2"), ("behind the same proxy", "198.51.100.1")} <= set(
            turns.done[:24]
        )
        turns.verifications.close()
        await turns.end()

    run(work())


def test_verifications_that_fail_are_rationed_by_project_and_by_address() -> None:
    async def work() -> None:
        turns = Turns()
        for place in range(5):
            await turns.add("attacked", f"192.0.2.{place}", 10)
            await turns.add(f"project {place}", "198.51.100.1", 10)
        for passed, allowed in ((0, FAILURES_AT_ONCE), (1, FAILURES_AT_ONCE + FAILURES_PER_SECOND)):
            # Whoever is to wait for that begins to.
            await asyncio.sleep(0)
            turns.time.advance(passed)
            while len(turns.done) < 2 * allowed:
                await asyncio.sleep(0.001)
            # Others are verified meanwhile, and whoever had his share is not.
            assert await turns.verifications.run(f"other {passed}", "203.0.113.1", lambda: None) is None
            assert sum(project == "attacked" for project, _ in turns.done) == allowed
            assert sum(address == "198.51.100.1" for _, address in turns.done) == allowed
        turns.verifications.close()
        await turns.end()

    run(work())


def test_a_full_queue_makes_room_for_a_caller_who_has_few_waiting() -> None:
    async def work() -> None:
        turns = Turns()
        for place in range(VERIFICATIONS_WAITING // WAITING_PER_CALLER + 2):
            await turns.add(f"project {place}", "198.51.100.1", WAITING_PER_CALLER + 4)
        await turns.add("other", "203.0.113.1")
        while ("other", "203.0.113.1") not in turns.done:
            await asyncio.sleep(0.005)
        turns.verifications.close()
        results = await turns.end()
        assert sum(isinstance(result, Overloaded) for result in results) > 4

    run(work())


@pytest.mark.parametrize(
    ("host", "told_by"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
    ],
)
def test_callers_are_told_apart_by_address(host: str, told_by: str) -> None:
    assert network(host) == told_by


def test_access_of_a_project_is_shared_by_its_callers(harness: StoreHarness) -> None:
    project = harness.project("one")

    async def work() -> None:
        authenticator = Authenticator(harness.service)
        granted = authenticator.grant(project)
        assert isinstance(granted, ProjectAccess)
        assert await admit(authenticator, header("one", "secret"), None) is granted
        authenticator.close()

    run(work())
