"""Receipts are kept for their hours of elapsed time, whatever the system's clock does meanwhile."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from support.server_process import ATTRIBUTE, PROJECT, SECRET, create_project
from usertable.app.clock import SYSTEM_CLOCK, now_ms
from usertable.config import Config
from usertable.http import age, app
from usertable.http.age import SETTLING_MS, Age
from usertable.http.server import in_background
from usertable.store import open_store

HOUR = 3_600_000
DAY = 24 * HOUR
START = 1_700_000_000_000


class Clocks:
    def __init__(self) -> None:
        self.now = START
        self.elapsed = 5_000_000
        self.age = Age(DAY, lambda: self.now, lambda: self.elapsed)

    def pass_(self, milliseconds: int) -> None:
        """Let time pass, with checks in between."""
        for _ in range(100):
            self.now += milliseconds // 100
            self.elapsed += milliseconds // 100
            self.age.look()


def test_what_is_a_day_old_is_old() -> None:
    clocks = Clocks()
    clocks.pass_(2 * DAY)
    assert clocks.age.before() == START + DAY


def test_nothing_is_old_when_the_server_has_just_been_started() -> None:
    clocks = Clocks()
    assert clocks.age.before() is None
    clocks.pass_(SETTLING_MS + 1000)
    assert clocks.age.before() == START + SETTLING_MS + 1000 - DAY


@pytest.mark.parametrize("hours", [25, -25, 24 * 3650])
def test_a_jump_of_the_clock_makes_nothing_old(hours: int) -> None:
    clocks = Clocks()
    clocks.pass_(DAY)
    clocks.now += hours * HOUR
    clocks.pass_(60_000)
    in_the_jump = clocks.now
    before = clocks.age.before()
    assert before is not None
    assert before <= min(in_the_jump, START + DAY) - DAY + 60_000
    clocks.now -= hours * HOUR
    clocks.pass_(60_000)
    before = clocks.age.before()
    assert before is not None
    # What was dated before, in and after the jump is two minutes old at most.
    assert before <= min(in_the_jump - 60_000, START + DAY)
    # A day later the jump is forgotten.
    clocks.pass_(DAY + 120_000)
    assert clocks.age.before() == clocks.now - DAY


def test_a_clock_that_was_wrong_at_boot_is_believed_a_day_later() -> None:
    clocks = Clocks()
    clocks.now = 1000
    clocks.age.look()
    clocks.now = START
    clocks.pass_(DAY + 60_000)
    assert clocks.age.before() == clocks.now - DAY


def test_a_retry_after_the_clock_jumped_by_a_day_is_applied_once(
    kept_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "EXPIRY_SECONDS", 0.02)
    monkeypatch.setattr(age, "SETTLING_MS", 0)
    (cuid,) = create_project(kept_url, users=1)
    store = open_store(kept_url)
    ahead = 0
    expired: list[int] = []
    expire = store.expire_receipts

    def watched(before: int) -> int:
        expired.append(before)
        return expire(before)

    monkeypatch.setattr(store, "expire_receipts", watched)
    body = {"cuid": cuid, "data": {"user_number_accumulate": 1}}
    config = Config(store=kept_url, port=0)
    try:
        with (
            in_background(config, store, replace(SYSTEM_CLOCK, now_ms=lambda: now_ms() + ahead)) as url,
            httpx.Client(base_url=url, auth=(PROJECT, SECRET), timeout=60) as http,
        ):
            for ahead in (0, 25 * HOUR, -25 * HOUR, 0):
                looks = len(expired)
                for key in ("first", f"at{ahead}"):
                    answer = http.put(ATTRIBUTE, json=body, headers={"Idempotency-Key": key})
                    assert answer.status_code == 200, answer.text
                while len(expired) < looks + 3:
                    time.sleep(0.01)
            for ahead in (0, 25 * HOUR, -25 * HOUR):
                answer = http.put(ATTRIBUTE, json=body, headers={"Idempotency-Key": f"at{ahead}"})
                assert answer.headers["Idempotency-Replayed"] == "true"
        user = store.read(1, cuid)
        assert user is not None
        assert user.profile.attributes == {"user_number_accumulate": 4}
    finally:
        store.close()
