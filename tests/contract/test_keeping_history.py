"""What a server does with history once a minute: it keeps it within its settings, and packs what is older than an hour."""

from __future__ import annotations

import itertools
import logging
from dataclasses import replace
from typing import Any, cast

import pytest

from contract.test_history import changes, rows
from contract.test_retention import blocks, blocks_of, is_waiting, neighbors, write_many
from support.actors import TESTER
from support.commands import edit_project
from support.manual_clock import ManualClock
from support.store_harness import StoreHarness
from usertable.app import retention
from usertable.app.clock import Clock
from usertable.app.retention import LONGEST_REST, PACK_AGE_MS, REST, HistoryRetention, PruneReason
from usertable.commands import projects
from usertable.domain.audit import AuditFilter
from usertable.domain.errors import Refused
from usertable.domain.moments import DAY_MS
from usertable.domain.schema import HistorySettings, Project
from usertable.store.history import PRUNED_BLOCKS, PrunedHistory
from usertable.store.memory import MemoryStore
from usertable.store.transaction import Transaction


def keeping(harness: StoreHarness) -> HistoryRetention:
    return HistoryRetention(harness.store, Clock(lambda: harness.now), lambda: False)


def with_settings(harness: StoreHarness, project: Project, days: int) -> Project:
    history = HistorySettings(days=days, gigabytes=1)
    return edit_project(harness.store, project.id, lambda p: replace(p, history=history), TESTER, harness.now)


def test_what_is_older_than_the_days_is_removed_and_the_rest_packed_after_an_hour(harness: StoreHarness) -> None:
    project = with_settings(harness, harness.project(), 2)
    cuids = neighbors(harness, project, 64)
    # On Citus, the users of other shards were created in blocks of their own.
    others = len(blocks(harness, project)) - 1
    write_many(harness, project, cuids, 3)
    harness.now += DAY_MS
    write_many(harness, project, cuids, 17)
    latest = harness.now
    keeper = keeping(harness)
    keeper.run(harness.now - DAY_MS)
    assert keeper.packed == 0
    harness.now += PACK_AGE_MS
    keeper.run(harness.now - DAY_MS)
    while is_waiting(harness):
        keeper.run(harness.now - DAY_MS)
    # Those of the first day, which are too few but for the end of the day, and twice 512 changes of the second.
    assert keeper.packed == 4 + 16
    assert [block.is_packed for block in blocks_of(harness, project, cuids)] == [True, True, True, False]
    harness.now = latest + DAY_MS
    keeper.run(harness.now - DAY_MS)
    assert keeper.pruned[PruneReason.DAYS] == 64 * 3 + 1 + others
    assert [change.at >= latest - 17_000 for change in changes(harness, project, cuids[0])] == [True] * 17
    assert keeper.kept.since == harness.store.history_since(project.number)
    assert keeper.kept.bytes == harness.store.history_figures(project.number).bytes
    assert keeper.kept.shortened == 0


def test_what_exceeds_the_gigabytes_is_removed_and_said(
    harness: StoreHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    project = with_settings(harness, harness.project(), 2)
    write_many(harness, project, [harness.user(project)], 40)
    keeper = keeping(harness)
    keeper.run(harness.now - DAY_MS)
    size = keeper.kept.bytes
    monkeypatch.setattr(retention, "GIGABYTE", size // 2)
    with caplog.at_level(logging.WARNING, "usertable.history"):
        for _ in range(2):
            keeper.run(harness.now - DAY_MS)
    assert size // 3 < keeper.kept.bytes <= size // 2
    assert keeper.pruned[PruneReason.GIGABYTES] > 10
    monkeypatch.setattr(retention, "FULL", 0.9)
    with caplog.at_level(logging.WARNING, "usertable.history"):
        for _ in range(2):
            keeper.run(harness.now - DAY_MS)
    assert keeper.kept.shortened == 1
    assert [record.message.split(", so")[0] for record in caplog.records] == [
        f"project {project.id}: its history has reached 1 GB"
    ]


def test_history_that_is_turned_off_is_removed_but_for_its_newest_block(harness: StoreHarness) -> None:
    project = harness.project()
    write_many(harness, project, [harness.user(project)], PRUNED_BLOCKS + 3)
    edit_project(harness.store, project.id, lambda p: replace(p, history=HistorySettings(days=0)), TESTER, harness.now)
    keeper = keeping(harness)
    keeper.run(harness.now - DAY_MS)
    assert len(blocks(harness, project)) == 1
    assert (keeper.pruned[PruneReason.OFF], keeper.kept.since) == (PRUNED_BLOCKS + 3, None)


def test_a_project_of_an_older_server_has_a_history_from_the_next_minute_on(harness: StoreHarness) -> None:
    project = harness.project()
    harness.store.transact(lambda transaction: transaction.keep_history_since(project.number, None))
    harness.now += 5000
    keeping(harness).run(harness.now - DAY_MS)
    assert harness.store.history_since(project.number) == harness.now
    harness.now += 5000
    keeping(harness).run(harness.now - DAY_MS)
    assert harness.store.history_since(project.number) == harness.now - 5000


def test_what_is_written_after_history_was_turned_on_again_stays_while_the_rest_is_removed(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    write_many(harness, project, [cuid], PRUNED_BLOCKS + 10)
    with_settings(harness, project, 0)
    turns = itertools.count()

    def stopping() -> bool:
        # Somebody turns it on after the first blocks are removed.
        if next(turns) == 1:
            write_many(harness, with_settings(harness, project, 30), [cuid], 3)
        return False

    HistoryRetention(harness.store, Clock(lambda: harness.now), stopping).run(None)
    since = harness.store.history_since(project.number)
    assert since is not None
    assert len([change for change in changes(harness, project, cuid) if change.at > since]) == 3
    # What was kept before is removed by its age.
    assert len(changes(harness, project, cuid)) > 3


def test_history_that_is_turned_off_while_it_is_pruned_leaves_the_entry_of_who_did(
    harness: StoreHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = harness.project()
    write_many(harness, project, [harness.user(project)], 4)
    prune = harness.store.prune_history

    def prune_and_turn_off(*arguments: Any) -> PrunedHistory:
        removed = prune(*arguments)
        with_settings(harness, project, 0)
        return removed

    monkeypatch.setattr(harness.store, "prune_history", prune_and_turn_off)
    with pytest.raises(Refused, match="history_off"):
        harness.service.prune_history(project, harness.now - 500, TESTER)
    entry = harness.service.audit(project.number, AuditFilter(), 1)[0]
    assert (entry.event.kind, entry.event.after) == ("prune history", {"changes": 4})


def test_a_server_that_is_to_end_leaves_the_rest_for_the_next(harness: StoreHarness) -> None:
    project = with_settings(harness, harness.project(), 1)
    write_many(harness, project, [harness.user(project)], 5)
    harness.now += 3 * DAY_MS
    HistoryRetention(harness.store, Clock(lambda: harness.now), lambda: True).run(harness.now - DAY_MS)
    assert len(blocks(harness, project)) == 6
    keeping(harness).run(harness.now - DAY_MS)
    assert len(blocks(harness, project)) == 1


@pytest.mark.parametrize("name", ["pack_history", "prune_history"])
def test_after_each_step_it_rests_for_longer_than_it_worked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    harness = StoreHarness(MemoryStore())
    harness.project()
    manual = ManualClock(harness.now)
    steps, worked = iter([0.02, LONGEST_REST, 5.0]), 0.0

    def step(*_: Any) -> Any:
        nonlocal worked
        seconds = next(steps, 0.0)
        worked += seconds
        # What it waits for is not work.
        manual.advance(10.0)
        if name == "pack_history":
            return 16 if seconds else 0
        return PrunedHistory(64, 64, 1000) if seconds else PrunedHistory()

    monkeypatch.setattr(harness.store, name, step)
    HistoryRetention(harness.store, manual.clock, lambda: False, lambda: worked).run(harness.now - DAY_MS)
    assert manual.waits == [pytest.approx(REST * 0.02), LONGEST_REST, LONGEST_REST]


def test_who_prunes_history_is_in_the_audit_log(harness: StoreHarness) -> None:
    project = harness.project()
    write_many(harness, project, [harness.user(project)], 4)
    removed = harness.service.prune_history(project, harness.now - 500, TESTER)
    assert (removed.blocks, removed.changes) == (4, 4)
    entry = harness.service.audit(project.number, AuditFilter(), 1)[0]
    assert (entry.actor, entry.event.kind) == (str(TESTER), "prune history")
    assert entry.event.after["changes"] == 4
    assert entry.event.before["since"] < entry.event.after["since"]  # type: ignore[operator]


def test_what_is_removed_while_a_user_is_read_back_is_refused_and_never_answered_wrong(
    harness: StoreHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = harness.project()
    cuid, other = harness.service.register(project, "phone", ["a", "b"], actor=TESTER)
    harness.now += 1000
    moment = harness.now
    harness.now += 1000
    # Identifier values do not change the version, by which a row would show that a change of it is missing.
    rows(harness, project, (cuid, (("jg_registration_id", "r-1"),), "{}"), job="one")
    assert harness.service.user_as_of(project, cuid, moment).identifiers == {"phone": ["a"]}
    harness.now += 1000
    harness.write(harness.prepare(project, other, {"user_number_accumulate": 1}))
    read = harness.store.with_changes

    def read_after_pruning(*arguments: Any, **options: Any) -> Any:
        harness.store.prune_history(project.number, harness.now, 0, harness.now)
        return read(*arguments, **options)

    monkeypatch.setattr(harness.store, "with_changes", read_after_pruning)
    with pytest.raises(Refused, match="history_gone"):
        harness.service.user_as_of(project, cuid, moment)
    with pytest.raises(Refused, match="history_gone"):
        harness.service.user_difference(project, cuid, moment, harness.now)
    assert harness.service.user_as_of(project, cuid, harness.now).identifiers["jg_registration_id"] == ["r-1"]


def test_growth_is_that_of_the_last_day_and_the_forecast_follows_from_it(harness: StoreHarness) -> None:
    project = with_settings(harness, harness.project(), 30)
    cuid = harness.user(project)
    write_many(harness, project, [cuid], 5)
    assert harness.service.history(project).bytes_per_day is None
    harness.now += 6 * DAY_MS
    status = harness.service.history(project)
    assert (status.bytes_per_day, status.forecast) == (0, None)
    before = status.figures.bytes
    write_many(harness, project, [cuid], 5)
    harness.now += 3_600_000
    status = harness.service.history(project)
    added = status.figures.bytes - before
    assert status.bytes_per_day is not None
    # To the hour.
    assert added * 24 // 25 <= status.bytes_per_day <= added
    assert status.forecast is not None
    assert (status.forecast.bytes, status.forecast.limit) == (30 * status.bytes_per_day, "days")


def test_while_the_clock_is_not_trusted_nothing_is_old(harness: StoreHarness) -> None:
    project = with_settings(harness, harness.project(), 1)
    write_many(harness, project, [harness.user(project)], 5)
    harness.now += 400 * DAY_MS
    keeping(harness).run(None)
    assert len(blocks(harness, project)) == 6


class WaitsForWrites:
    """A transaction that waits for five seconds until nobody else writes to the project."""

    def __init__(self, transaction: Transaction, harness: StoreHarness) -> None:
        self._transaction = transaction
        self._harness = harness

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transaction, name)

    def project(self, project_id: str) -> Project | None:
        self._harness.now += 5000
        return self._transaction.project(project_id)


def test_history_begins_after_the_last_write_that_was_not_recorded(harness: StoreHarness) -> None:
    project = with_settings(harness, harness.project(), 0)

    def edit(transaction: Transaction) -> None:
        waits = cast(Transaction, WaitsForWrites(transaction, harness))
        on = HistorySettings(days=1, gigabytes=1)
        projects.edit(waits, project.id, lambda p: replace(p, history=on), TESTER, lambda: harness.now)

    def begin(transaction: Transaction) -> None:
        transaction.keep_history_since(project.number, None)
        projects.begin_history(cast(Transaction, WaitsForWrites(transaction, harness)), project.id, lambda: harness.now)

    for how in (edit, begin):
        before = harness.now
        harness.store.transact(how)
        assert harness.store.history_since(project.number) == harness.now > before
