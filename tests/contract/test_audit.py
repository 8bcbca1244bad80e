"""The audit log of a store: what is recorded together, the order of entries, and searching them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from support.actors import ADMIN, TESTER
from support.store_harness import StoreHarness
from usertable.domain.actor import Actor
from usertable.domain.audit import INSTALLATION, AuditEntry, AuditEvent, AuditFilter, AuditKind, Facts
from usertable.domain.errors import Refused
from usertable.store.transaction import Transaction

ANN = Actor.person("ann@example.com").with_origin("request-1", "192.0.2.7")
HIDE = AuditEvent(AuditKind.EDIT_ATTRIBUTE, "level", {"hidden": False}, {"hidden": True})
ROTATE = AuditEvent(AuditKind.ROTATE_SECRET)
LATER = AuditEvent("kind of a newer usertable", "中 😀 'quoted'", {"list": ["a", "b"], "none": None}, {"number": 3})


def record(harness: StoreHarness, log: int, actor: Actor, *events: AuditEvent, at: int = 1) -> None:
    harness.store.transact(lambda tx: tx.record(log, actor, events, at))


def numbers(harness: StoreHarness, log: int, limit: int = 100, wanted: AuditFilter | None = None, **page: int) -> list[int]:
    return [entry.number for entry in harness.store.audit(log, wanted or AuditFilter(), limit, **page)]


def test_an_entry_has_all_that_was_recorded(harness: StoreHarness) -> None:
    record(harness, 7, ANN, HIDE, LATER, at=5)
    record(harness, 7, TESTER, ROTATE, at=6)
    assert harness.store.audit(7, AuditFilter(), 10) == [
        AuditEntry(3, 3, 6, "cli:test", ROTATE),
        AuditEntry(2, 1, 5, "person:ann@example.com", LATER, "request-1", "192.0.2.7"),
        AuditEntry(1, 1, 5, "person:ann@example.com", HIDE, "request-1", "192.0.2.7"),
    ]


def test_each_log_has_numbers_of_its_own(harness: StoreHarness) -> None:
    record(harness, 7, TESTER, HIDE, HIDE)
    record(harness, INSTALLATION, TESTER, ROTATE)
    assert (numbers(harness, 7), numbers(harness, INSTALLATION), numbers(harness, 8)) == ([2, 1], [1], [])


def test_pages_go_back_from_the_newest_or_on_from_any_entry(harness: StoreHarness) -> None:
    for _ in range(5):
        record(harness, 7, TESTER, HIDE)
    assert numbers(harness, 7, 2) == [5, 4]
    assert numbers(harness, 7, 2, before=4) == [3, 2]
    assert numbers(harness, 7, 2, before=2) == [1]
    assert numbers(harness, 7, 2, after=0) == [1, 2]
    assert numbers(harness, 7, 9, after=2) == [3, 4, 5]
    assert numbers(harness, 7, 2, after=5) == []


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (AuditFilter(actor="admin-token"), [4, 2]),
        (AuditFilter(actor="ADMIN-TOKEN"), []),
        (AuditFilter(kinds={AuditKind.ROTATE_SECRET, LATER.kind}), [4, 3, 2]),
        (AuditFilter(subject="level"), [1]),
        (AuditFilter(subject=LATER.subject), [4, 3]),
        (AuditFilter(since=2), [4, 3, 2]),
        (AuditFilter(until=3), [2, 1]),
        (AuditFilter(since=2, until=4), [3, 2]),
        (AuditFilter("admin-token", {LATER.kind}, LATER.subject, 4, 5), [4]),
        (AuditFilter(kinds={"none"}), []),
        (AuditFilter(actor="a\0b"), []),
        (AuditFilter(subject="\0", kinds={"\0"}), []),
    ],
)
def test_entries_are_found_by_actor_kind_subject_and_time(
    harness: StoreHarness, wanted: AuditFilter, found: list[int]
) -> None:
    for at, (actor, event) in enumerate([(ANN, HIDE), (ADMIN, ROTATE), (ANN, LATER), (ADMIN, LATER)], start=1):
        record(harness, 7, actor, event, at=at)
        record(harness, 8, ADMIN, LATER, at=at)
    assert numbers(harness, 7, 10, wanted) == found
    assert numbers(harness, 7, 10, wanted, after=0) == found[::-1]


def test_whatever_somebody_typed_can_be_recorded(harness: StoreHarness) -> None:
    record(harness, 7, Actor.person("a\0b\udc80"), AuditEvent("kind", "\0\ud800'\"中"))
    (entry,) = harness.store.audit(7, AuditFilter(), 10)
    assert (entry.actor, entry.event.subject) == ("person:a\ufffdb?", "\ufffd?'\"中")


def test_an_entry_is_kept_with_what_was_done_or_not_at_all(harness: StoreHarness) -> None:
    def fail(transaction: Transaction) -> None:
        transaction.record(7, TESTER, [HIDE], 1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        harness.store.transact(fail)
    assert numbers(harness, 7) == []


def test_those_who_record_at_the_same_time_leave_no_gap(harness: StoreHarness) -> None:
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(record, harness, 7, TESTER, HIDE, ROTATE) for _ in range(20)]:
            done.result()
    assert numbers(harness, 7) == list(range(40, 0, -1))
    firsts = [entry.first for entry in harness.store.audit(7, AuditFilter(), 100)]
    assert firsts == [n for first in range(39, 0, -2) for n in (first, first)]


def test_a_new_project_is_in_its_own_log_and_in_that_of_the_installation(harness: StoreHarness) -> None:
    made, _ = harness.service.create_project("One", id="one", actor=ANN)
    facts: Facts = {"name": "One", "timezone": "Asia/Shanghai", "qps": 100}
    (own,) = harness.store.audit(made.number, AuditFilter(), 10)
    (whole,) = harness.store.audit(INSTALLATION, AuditFilter(), 10)
    assert own.event == AuditEvent(AuditKind.CREATE_PROJECT, "", after=facts)
    assert whole.event == AuditEvent(AuditKind.CREATE_PROJECT, "one", after=facts)
    assert (own.actor, whole.request_id, whole.address) == ("person:ann@example.com", "request-1", "192.0.2.7")


def test_who_adds_and_erases_users_is_recorded_and_no_value_of_theirs(harness: StoreHarness) -> None:
    project = harness.project("one")
    before = len(numbers(harness, project.number))
    harness.service.add_user(project, 5, {"phone": "12345"}, actor=ADMIN)
    harness.service.add_user(project, 6, {}, actor=ADMIN)
    harness.service.erase_user(project, 5, actor=ANN)
    for refused in (
        lambda: harness.service.erase_user(project, 5, actor=ANN),
        lambda: harness.service.erase_user(project, 7, actor=ANN),
        lambda: harness.service.add_user(project, 6, {}, actor=ANN),
    ):
        with pytest.raises(Refused):
            refused()
    erased, added_six, added_five = harness.store.audit(project.number, AuditFilter(), 10, after=before)[::-1]
    assert (erased.actor, erased.event) == ("person:ann@example.com", AuditEvent(AuditKind.ERASE_USER, "5"))
    assert (added_six.actor, added_six.event) == ("admin-token", AuditEvent(AuditKind.ADD_USER, "6"))
    assert added_five.event == AuditEvent(AuditKind.ADD_USER, "5", after={"identifiers": ["phone"]})


def test_writes_of_attributes_are_not_recorded(harness: StoreHarness) -> None:
    project = harness.project("one")
    before = numbers(harness, project.number)
    harness.write(harness.prepare(project, harness.user(project), {"user_string_once": "a"}))
    assert numbers(harness, project.number) == before
