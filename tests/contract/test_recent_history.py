"""What changed lately in a project, read from a bounded part of its history."""

from __future__ import annotations

import pytest

from contract.test_retention import pack
from support.store_harness import StoreHarness
from usertable.app import history
from usertable.domain.errors import Refused


def test_the_newest_changes_of_an_attribute_come_with_a_count_by_actor(harness: StoreHarness) -> None:
    project = harness.project()
    cuids = [harness.user(project, f"{number:011}") for number in range(3)]
    name, other = "user_number_accumulate", "user_string_overwrite"
    for count in range(5):
        harness.now += 1000
        actor = "key:orders" if count else "key:web"
        harness.write(*(harness.prepare(project, cuid, {name: count + 1, other: f"{count}"}, actor=actor) for cuid in cuids))
    harness.now += 1000
    harness.write(harness.prepare(project, cuids[0], {other: "last"}))
    for _ in ("as written", "packed"):
        recent = harness.service.recent_changes(project, name, 4)
        newest = [(change.at, change.reports[name].sent) for change in recent.changes]
        assert newest == [(harness.now - 1000, 5)] * 3 + [(harness.now - 2000, 4)]
        assert [change.number for change in recent.changes] == sorted((c.number for c in recent.changes), reverse=True)
        assert (recent.count, recent.actors) == (15, {"key:orders": 12, "key:web": 3})
        # The three users were created one by one.
        assert (recent.examined.changes, recent.examined.is_all) == (19, True)
        assert recent.examined.since == harness.now - 6000
        shares = harness.service.attribute_shares(project)
        assert list(shares.bytes) == [other, name]
        pack(harness, project)
    assert harness.service.recent_changes(project, "user_bool_once", 4).changes == []
    with pytest.raises(Refused):
        harness.service.recent_changes(project, "no_such", 4)


def test_only_so_much_is_read_and_it_is_said_how_much(harness: StoreHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    project = harness.project()
    cuid = harness.user(project)
    for count in range(10):
        harness.now += 1000
        harness.write(harness.prepare(project, cuid, {"user_number_overwrite": count}))
    monkeypatch.setattr(history, "_BLOCKS_PER_READ", 3)
    monkeypatch.setattr(history, "RECENT_BLOCKS", 4)
    recent = harness.service.recent_changes(project, "user_number_overwrite", 50)
    assert [change.reports["user_number_overwrite"].sent for change in recent.changes] == [9, 8, 7, 6]
    assert (recent.examined.blocks, recent.examined.changes, recent.examined.is_all) == (4, 4, False)
    assert recent.examined.since == harness.now - 3000
    monkeypatch.setattr(history, "RECENT_EXAMINED", 2)
    assert harness.service.attribute_shares(project).examined.changes == 2


def test_few_blocks_are_read_of_a_history_of_large_changes(harness: StoreHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    project = harness.project()
    cuid = harness.user(project)
    for value in "abcdef":
        harness.now += 10
        harness.write(harness.prepare(project, cuid, {"user_string_overwrite": value * 100}))
    monkeypatch.setattr(history, "EXAMINED_SIZE", 400)
    recent = harness.service.recent_changes(project, "user_string_overwrite", 50)
    assert [change.reports["user_string_overwrite"].sent for change in recent.changes] == ["f" * 100, "e" * 100]
    assert not recent.examined.is_all
