"""Refused sign-ins in the audit log: the first of each account and address at once, the rest as a number."""

from __future__ import annotations

import contextlib

import pytest

from support.actors import TESTER
from support.store_harness import StoreHarness
from usertable.app.refused_sign_ins import PAIRS, WINDOW_MS, RefusedSignIns
from usertable.domain.actor import Actor
from usertable.domain.audit import INSTALLATION, AuditFilter, AuditKind
from usertable.domain.errors import StoreDown

HOUR_MS = 3_600_000


def refused_sign_ins(harness: StoreHarness) -> RefusedSignIns:
    return RefusedSignIns(harness.service, lambda: harness.now)


def somebody(address: str = "192.0.2.7") -> Actor:
    return Actor.anonymous().with_origin("request", address)


def recorded(harness: StoreHarness) -> list[tuple[str, str, object]]:
    """Return account, address and count of each entry, oldest first."""
    entries = harness.store.audit(INSTALLATION, AuditFilter(kinds={AuditKind.REFUSE_SIGN_IN}), 10_000, after=0)
    return [(entry.event.subject, entry.address, entry.event.after["count"]) for entry in entries]


def test_the_first_is_recorded_at_once_and_the_rest_counted_when_the_time_is_over(harness: StoreHarness) -> None:
    refused = refused_sign_ins(harness)
    for _ in range(100):
        refused.add("ann@example.com", somebody())
    assert recorded(harness) == [("ann@example.com", "192.0.2.7", 1)]
    harness.now += WINDOW_MS - 1
    refused.settle()
    assert len(recorded(harness)) == 1
    harness.now += 1
    refused.settle()
    assert recorded(harness)[1:] == [("ann@example.com", "192.0.2.7", 99)]
    refused.add("ann@example.com", somebody())
    assert recorded(harness)[2:] == [("ann@example.com", "192.0.2.7", 1)]


def test_one_refusal_makes_one_entry(harness: StoreHarness) -> None:
    refused = refused_sign_ins(harness)
    refused.add("ann@example.com", somebody())
    harness.now += WINDOW_MS
    refused.settle()
    assert recorded(harness) == [("ann@example.com", "192.0.2.7", 1)]


def test_a_server_that_ends_records_what_it_has_counted(harness: StoreHarness) -> None:
    refused = refused_sign_ins(harness)
    for _ in range(3):
        refused.add("ann@example.com", somebody())
    refused.settle(at_once=True)
    assert recorded(harness)[1:] == [("ann@example.com", "192.0.2.7", 2)]


def test_the_log_is_bounded_whatever_accounts_and_addresses_are_tried(harness: StoreHarness) -> None:
    refused = refused_sign_ins(harness)
    tried = 5 * PAIRS
    for hour in range(3):
        for number in range(tried):
            for _ in range(2):
                refused.add(f"{hour}-{number}@example.com" * 100, somebody(f"192.0.2.{number}"))
        harness.now += HOUR_MS
    refused.settle()
    found = recorded(harness)
    assert len(found) == 3 * (2 * PAIRS + 1)
    assert found[-1] == ("", "", 2 * (tried - PAIRS))
    assert sum(int(str(count)) for _, _, count in found) == 3 * 2 * tried
    assert max(len(account) for account, _, _ in found) <= 254
    assert [(account, address) for account, address, _ in found].count(("", "")) == 3


def test_a_clock_that_is_set_back_ends_the_time_too(harness: StoreHarness) -> None:
    refused = refused_sign_ins(harness)
    for _ in range(2):
        refused.add("ann@example.com", somebody())
    harness.now -= HOUR_MS
    refused.settle()
    assert len(recorded(harness)) == 2


def test_other_kinds_are_left_alone(harness: StoreHarness) -> None:
    harness.service.create_project("One", id="one", actor=TESTER)
    refused_sign_ins(harness).settle(at_once=True)
    assert recorded(harness) == []


def test_what_the_store_could_not_take_is_recorded_later(harness: StoreHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = refused_sign_ins(harness)
    with monkeypatch.context() as failing:
        failing.setattr(harness.service, "record", fail)
        for _ in range(3):
            with contextlib.suppress(StoreDown):
                refused.add("ann@example.com", somebody())
        harness.now += WINDOW_MS
        with pytest.raises(StoreDown):
            refused.settle()
    refused.settle()
    assert recorded(harness) == [("ann@example.com", "192.0.2.7", 3)]


def fail(*arguments: object) -> None:
    raise StoreDown("it cannot be reached")
