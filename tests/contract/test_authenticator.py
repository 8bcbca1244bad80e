"""A verified secret stays verified: only a change of the project's own secrets makes its callers prove them again."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Coroutine, Mapping
from typing import Any

import pytest

from support.actors import TESTER
from support.manual_clock import ManualClock
from support.store_harness import StoreHarness
from usertable.app.access import TRUST_SECONDS, Authenticator, ProjectAccess
from usertable.app.keyring import Keyring, Match
from usertable.app.limits import SharedCounts
from usertable.app.secrets import slow_hash
from usertable.app.service import Service
from usertable.app.verification import (
    FAILURES_AT_ONCE,
    FAILURES_PER_SECOND,
    NICENESS,
    SUSPECT_SECONDS,
    UNKNOWN_SHARES,
    VERIFICATIONS_WAITING,
    WAITING_PER_CALLER,
    Verifications,
    network,
)
from usertable.domain.errors import Overloaded, StoreDown
from usertable.domain.key import DEFAULT_KEY
from usertable.domain.schema import Project
from usertable.http.admission import admit
from usertable.store import Store

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
        harness.service.edit_attribute("two", "user_bool_once", description="changed", actor=TESTER)
        harness.service.edit_attribute("one", "user_bool_once", description="changed", actor=TESTER)
        harness.service.edit_project("one", name="Changed", timezone="UTC", actor=TESTER)
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
        harness.service.rotate_secret("one", secret="another", actor=TESTER)
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
        harness.service.rotate_secret("one", secret="another", actor=TESTER)
        authenticator.poll()
        # As a verifying thread that read the project earlier would return it.
        assert authenticator._remember(header("one", "secret"), before, Match(DEFAULT_KEY, None)) is None
        assert authenticator.known(header("one", "secret")) is None
        authenticator.close()

    run(work())


def test_a_wrong_secret_is_right_as_soon_as_it_is_made_the_secret(harness: StoreHarness) -> None:
    harness.project("one")

    async def work() -> None:
        authenticator = Authenticator(harness.service)
        assert await admit(authenticator, header("one", "next"), HERE) is None
        assert await admit(authenticator, header("new", "secret"), HERE) is None
        harness.service.rotate_secret("one", secret="next", actor=TESTER)
        harness.service.create_project("new", id="new", secret="secret", actor=TESTER)
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
            harness.service.edit_attribute("one", "user_bool_once", description="changed", actor=TESTER)
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
    """Verifications that each take a moment and fail, and the order in which they ran."""

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
        # Those that are still waiting would otherwise fail only after ten seconds.
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
            # Let the tasks that wait for it start.
            await asyncio.sleep(0)
            turns.time.advance(passed)
            while len(turns.done) < 2 * allowed:
                await asyncio.sleep(0.001)
            # Others are verified meanwhile; those that have used up their share are not.
            assert await turns.verifications.run(f"other {passed}", "203.0.113.1", lambda: None) is None
            assert sum(project == "attacked" for project, _ in turns.done) == allowed
            assert sum(address == "198.51.100.1" for _, address in turns.done) == allowed
        turns.verifications.close()
        await turns.end()

    run(work())


def niceness() -> int:
    """How much nicer this thread is than the process."""
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) - os.getpriority(os.PRIO_PROCESS, os.getpid())


def test_only_who_shares_project_or_address_with_a_wrong_secret_of_the_last_minute_has_a_low_priority() -> None:
    async def work() -> None:
        turns = Turns()
        seen: list[int] = []

        async def verify(project: str, address: str, passes: bool = True) -> None:
            def work() -> Keyring | None:
                seen.append(niceness())
                return Keyring(None) if passes else None

            await turns.verifications.run(project, address, work)

        await verify("one", "192.0.2.1", passes=False)
        await verify("one", "192.0.2.2")
        await verify("two", "192.0.2.1")
        await verify("two", "192.0.2.2")
        turns.time.advance(SUSPECT_SECONDS)
        await verify("one", "192.0.2.1")
        # Elsewhere a thread has no priority of its own.
        low = NICENESS if sys.platform == "linux" else 0
        assert seen == [0, low, low, 0, 0]
        turns.verifications.close()

    run(work())


def test_a_new_caller_does_not_wait_for_one_who_is_verified_with_a_low_priority() -> None:
    async def work() -> None:
        turns = Turns()
        await turns.verifications.run("attacked", "192.0.2.1", lambda: None)
        goes_on = threading.Event()

        def wait() -> None:
            goes_on.wait()

        guess = asyncio.create_task(turns.verifications.run("attacked", "192.0.2.1", wait))
        await asyncio.sleep(0)
        assert await turns.verifications.run("other", "203.0.113.1", lambda: None) is None
        assert not guess.done()
        goes_on.set()
        assert await guess is None
        turns.verifications.close()

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


def test_access_with_a_key_is_shared_by_its_callers(harness: StoreHarness) -> None:
    project = harness.project("one")

    async def work() -> None:
        authenticator = Authenticator(harness.service)
        granted = authenticator.grant(project, DEFAULT_KEY)
        assert isinstance(granted, ProjectAccess)
        for scheme in ("Basic", "basic"):
            assert await admit(authenticator, header("one", "secret", scheme), None) is granted
        assert authenticator.grant(project) is not granted
        authenticator.close()

    run(work())


@pytest.mark.parametrize("ends", ["revoked", "replaced"])
def test_a_key_that_ended_opens_nothing_after_a_second_though_no_poll_returns(harness: StoreHarness, ends: str) -> None:
    harness.project("one")
    harness.project("two")
    time = ManualClock(harness.now)

    async def work() -> None:
        # Nobody polls.
        authenticator = Authenticator(harness.service, clock=time.clock)
        mine, theirs = header("one", "secret"), header("two", "secret")
        access, other = await admit(authenticator, mine, HERE), await admit(authenticator, theirs, HERE)
        if ends == "revoked":
            harness.service.revoke_key("one", DEFAULT_KEY, confirmed=True, actor=TESTER)
        else:
            harness.service.rotate_secret("one", secret="another", actor=TESTER)
        time.advance(TRUST_SECONDS)
        assert await admit(authenticator, mine, HERE) is access
        time.advance(0.001)
        assert await admit(authenticator, mine, HERE) is None
        assert await admit(authenticator, theirs, HERE) is other
        authenticator.close()

    run(work())


def test_a_known_caller_is_not_let_in_while_the_store_does_not_tell_whether_its_key_was_revoked(
    harness: StoreHarness,
) -> None:
    harness.project("one")
    harness.project("two")
    time, is_down = ManualClock(harness.now), False

    class FailingService(Service):
        def find_project(self, project_id: str) -> Project | None:
            if is_down:
                raise StoreDown("the store is down")
            return super().find_project(project_id)

    async def work() -> None:
        nonlocal is_down
        authenticator = Authenticator(FailingService(harness.store), clock=time.clock)
        access = await admit(authenticator, header("one", "secret"), HERE)
        is_down = True
        assert await admit(authenticator, header("one", "secret"), HERE) is access
        time.advance(TRUST_SECONDS + 0.001)
        for _ in range(2):
            together = [admit(authenticator, header("one", "secret"), HERE) for _ in range(3)]
            answers = await asyncio.gather(*together, return_exceptions=True)
            assert [type(answer) for answer in answers] == [StoreDown] * 3
        # A poll that returns tells it too.
        authenticator.poll()
        assert await admit(authenticator, header("one", "secret"), HERE) is access
        time.advance(TRUST_SECONDS + 0.001)
        is_down = False
        assert await admit(authenticator, header("one", "secret"), HERE) is access
        authenticator.close()

    run(work())


class WatchedService(Service):
    """A service that notes which calls read the store."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.calls: list[str] = []

    def find_project(self, project_id: str) -> Project | None:
        self.calls.append("project")
        return super().find_project(project_id)

    def epoch(self) -> int:
        self.calls.append("epoch")
        return super().epoch()

    def versions(self) -> Mapping[str, int]:
        self.calls.append("versions")
        return super().versions()


@pytest.mark.parametrize("brings", ["no secret", "a secret", "secrets with an overlap"])
def test_a_wrong_secret_takes_the_same_work_whether_or_not_its_project_exists(
    harness: StoreHarness, monkeypatch: pytest.MonkeyPatch, brings: str
) -> None:
    harness.project("one")
    if brings != "a secret":
        secret = "another" if brings == "secrets with an overlap" else None
        overlap = 3600 if secret else 0
        harness.service.rotate_secret("one", secret=secret, overlap_seconds=overlap, actor=TESTER)
    service = WatchedService(harness.store)

    def hashing(secret: str, salt: bytes) -> bytes:
        service.calls.append("hash")
        return slow_hash(secret, salt)

    monkeypatch.setattr("usertable.app.keyring.slow_hash", hashing)

    async def work() -> None:
        authenticator = Authenticator(service)
        # Whoever calls first makes the server read the project.
        assert await admit(authenticator, header("one", "wrong 0"), HERE) is None
        for number in range(1, 4):
            for project in ("one", "unknown"):
                service.calls.clear()
                assert await admit(authenticator, header(project, f"wrong {number}"), HERE) is None
                assert service.calls == ["versions", "hash"]
        authenticator.close()

    run(work())


@pytest.mark.parametrize("is_known", [True, False])
def test_guesses_at_unknown_projects_delay_a_guess_at_another_project_alike(is_known: bool) -> None:
    async def work() -> None:
        turns = Turns()
        guesses = 3 * FAILURES_AT_ONCE
        for number in range(guesses):
            failed = turns.verifications.run(f"guess {number}", f"192.0.2.{number}", lambda: None, is_known=False)
            assert not await failed
        # Nobody waits for time to pass, because the guesses are distributed.
        assert not await turns.verifications.run("another", "203.0.113.1", lambda: None, is_known=is_known)
        turns.verifications.close()

    run(work())


@pytest.mark.parametrize("is_known", [True, False])
def test_an_address_that_waits_for_many_unknown_projects_waits_for_another_project_alike(is_known: bool) -> None:
    async def work() -> None:
        turns = Turns()

        async def guess(number: int) -> None:
            await turns.verifications.run(f"guess {number}", "192.0.2.1", lambda: None, is_known=False)

        waiting = [asyncio.create_task(guess(number)) for number in range(FAILURES_AT_ONCE + 10 * WAITING_PER_CALLER)]
        await asyncio.sleep(0)

        async def guess_another() -> None:
            await turns.verifications.run("another", "192.0.2.1", lambda: None, is_known=is_known)

        waiting.append(asyncio.create_task(guess_another()))
        while sum(task.done() for task in waiting) < FAILURES_AT_ONCE:
            await asyncio.sleep(0.001)
        assert not [task for task in waiting if task.done() and task.exception()]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        turns.verifications.close()

    run(work())


def test_guesses_at_unknown_projects_from_many_addresses_do_not_starve_a_caller_who_waits() -> None:
    async def work() -> None:
        turns = Turns()

        async def guess(number: int) -> None:
            project, address = f"guess {number}", f"address {number}"
            await turns.verifications.run(project, address, lambda: turns.fail(project, address), is_known=False)

        # More than there are shares, so that most of them were served.
        for number in range(3 * UNKNOWN_SHARES):
            await guess(number)
        waiting = [asyncio.create_task(guess(number)) for number in range(1000, 1000 + 10 * UNKNOWN_SHARES)]
        await asyncio.sleep(0)
        turns.done.clear()
        assert not await turns.verifications.run("one", "203.0.113.1", lambda: turns.fail("one", "203.0.113.1"))
        assert len(turns.done) <= UNKNOWN_SHARES + 2
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        turns.verifications.close()

    run(work())
