"""Receipts: the same key and request get the first answer; nothing is applied twice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.actors import TESTER
from support.commands import erase_user
from support.store_harness import StoreHarness
from usertable.store.records import KeyReused, Refusal, Replayed, UserUnknown, Written

ADD = {"user_number_accumulate": 1}


def test_the_same_key_and_body_are_applied_once(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    first, again = harness.write(*(harness.prepare(project, cuid, ADD, "k", body=b"1") for _ in range(2)))
    (later,) = harness.write(harness.prepare(project, cuid, ADD, "k", body=b"1"))
    assert isinstance(first, Written)
    assert isinstance(again, Replayed)
    assert isinstance(later, Replayed)
    assert later.written == again.written == Written(2, {"user_number_accumulate": "applied"}, None)  # type: ignore[dict-item]
    assert harness.attributes(project, cuid) == ADD


def test_the_same_key_with_another_body_is_refused(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    first, other = harness.write(
        harness.prepare(project, cuid, ADD, "k", body=b"1"), harness.prepare(project, cuid, ADD, "k", body=b"2")
    )
    assert isinstance(first, Written)
    assert isinstance(other, KeyReused)
    assert harness.attributes(project, cuid) == ADD


def test_keys_are_exact_and_of_one_project(harness: StoreHarness) -> None:
    one, two = harness.project("one"), harness.project("two")
    for project in (one, two):
        cuid = harness.user(project)
        results = harness.write(*(harness.prepare(project, cuid, ADD, key) for key in ("k", "K", "k2")))
        assert all(isinstance(r, Written) for r in results)
        assert harness.attributes(project, cuid) == {"user_number_accumulate": 3}


def test_a_whole_receipt_shows_the_row_as_it_was(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    harness.write(harness.prepare(project, cuid, ADD, "k", whole=True))
    harness.write(harness.prepare(project, cuid, ADD))
    (again,) = harness.write(harness.prepare(project, cuid, ADD, "k", whole=True))
    assert isinstance(again, Replayed)
    assert (again.written.version, again.written.attributes) == (2, ADD)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("details", [False, True])
def test_a_receipt_has_the_number_of_the_change_whatever_the_first_answer_had(
    harness: StoreHarness, whole: bool, details: bool
) -> None:
    project = harness.project()
    one, two = harness.service.register(project, "phone", ["1", "2"], actor=TESTER)
    # The attributes have values, so that PostgreSQL merges what comes next.
    harness.write(harness.prepare(project, one, ADD), harness.prepare(project, two, ADD))
    writes = [harness.prepare(project, cuid, ADD, f"k{cuid}", whole=whole) for cuid in (one, two)]
    harness.write(*(replace(write, details=details) for write in writes))
    for again, cuid in zip(harness.write(*writes), (one, two), strict=True):
        newest, *_ = harness.store.with_changes(project.number, cuid, lambda _, changes: list(changes))
        assert isinstance(again, Replayed)
        assert again.written.change == newest.number


def test_an_unchanged_write_keeps_its_receipt(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    harness.write(harness.prepare(project, cuid, {"user_string_overwrite": "a"}))
    harness.write(harness.prepare(project, cuid, {"user_string_overwrite": "a"}, "k"))
    harness.write(harness.prepare(project, cuid, {"user_string_overwrite": "b"}))
    (again,) = harness.write(harness.prepare(project, cuid, {"user_string_overwrite": "a"}, "k"))
    assert isinstance(again, Replayed)
    assert harness.attributes(project, cuid) == {"user_string_overwrite": "b"}


def test_refused_and_dry_writes_keep_no_receipt(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    big = {"user_number_accumulate": 10**38 - 1}
    harness.write(harness.prepare(project, cuid, big))
    refused, dry_run, unknown = harness.write(
        harness.prepare(project, cuid, big, "k"),
        harness.prepare(project, cuid, {"user_bool_once": 1}, "k", dry_run=True),
        harness.prepare(project, cuid + 1, {"user_bool_once": 1}, "k"),
    )
    assert isinstance(refused, Refusal)
    assert isinstance(dry_run, Written)
    assert isinstance(unknown, UserUnknown)
    (result,) = harness.write(harness.prepare(project, cuid, {"user_bool_once": 1}, "k"))
    assert isinstance(result, Written)


def test_receipts_outlive_a_change_of_the_schema(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    write = harness.prepare(project, cuid, ADD, "k")
    harness.write(write)
    harness.service.edit_attribute("one", "user_bool_once", actor=TESTER, display_name="x")
    (again,) = harness.write(write)
    assert isinstance(again, Replayed)


def test_receipts_expire(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    harness.write(harness.prepare(project, cuid, ADD, "old"))
    harness.now += 1000
    harness.write(harness.prepare(project, cuid, ADD, "new"))
    assert harness.store.expire_receipts(harness.now) == 1
    assert harness.store.expire_receipts(harness.now) == 0
    old, new = harness.write(harness.prepare(project, cuid, ADD, "old"), harness.prepare(project, cuid, ADD, "new"))
    assert isinstance(old, Written)
    assert isinstance(new, Replayed)


def test_receipts_dated_in_the_future_keep_no_other_from_expiring(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    today = harness.now
    harness.now += 25 * 3_600_000
    harness.write(*(harness.prepare(project, cuid, ADD, f"future {n}") for n in range(2100)))
    harness.now = today
    harness.write(*(harness.prepare(project, cuid, ADD, f"today {n}") for n in range(3)))
    assert harness.store.expire_receipts(today + 1) == 3
    assert harness.store.expire_receipts(today + 1) == 0
    (again,) = harness.write(harness.prepare(project, cuid, ADD, "future 7"))
    assert isinstance(again, Replayed)


def test_erasing_a_user_takes_the_receipts_that_show_it(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    harness.write(harness.prepare(project, cuid, ADD, "whole", whole=True), harness.prepare(project, cuid, ADD, "plain"))
    assert erase_user(harness.store, project.number, cuid)
    whole, plain = harness.write(
        harness.prepare(project, cuid, ADD, "whole", whole=True), harness.prepare(project, cuid, ADD, "plain")
    )
    assert isinstance(whole, UserUnknown)
    assert isinstance(plain, Replayed)
    assert plain.written.attributes is None
