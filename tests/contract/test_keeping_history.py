"""What a server does with history once a minute: it keeps it within its settings, and packs what is older than an hour."""

from __future__ import annotations

import itertools
import logging
import threading
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
from usertable.app.retention import (
    LATE_MS,
    PACK_AGE_MS,
    PACKING_SECONDS,
    PATIENT_REST,
    PAUSE,
    REST,
    HistoryRetention,
    PruneReason,
)
from usertable.commands import projects
from usertable.domain.audit import AuditFilter
from usertable.domain.errors import Refused
from usertable.domain.moments import DAY_MS
from usertable.domain.schema import HistorySettings, Project
from usertable.store.history import PRUNED_BLOCKS, HistoryFigures, PackedHistory, PrunedHistory
from usertable.store.memory import MemoryStore
from usertable.store.transaction import Transaction


def keeping(harness: StoreHarness) -> HistoryRetention:
    return HistoryRetention(harness.store, Clock(lambda: harness.now, wait=lambda *_: False), lambda: False)


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


class Backlog:
    """Projects with history that is to be packed, in a store where every step works for a hundredth of a second.

    Attributes:
        steps: the number of steps that there are still to pack, by project.
        sizes: the bytes of each project's history. A step of packing takes 1,000 of them away.
        age: of what is packed, in milliseconds.
        arriving: bytes that are added during each step.
        done: the names of the calls that did something, with the project.
        is_stopping: whether the server is about to end.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, steps: dict[str, int]) -> None:
        harness = StoreHarness(MemoryStore())
        numbers = {name: with_settings(harness, harness.project(name), 1).number for name in steps}
        self.steps = {numbers[name]: count for name, count in steps.items()}
        self.sizes = dict.fromkeys(numbers.values(), 0)
        self.age, self.arriving, self.is_stopping, self.is_busy = PACK_AGE_MS + 1, 0, False, False
        self.done: list[tuple[str, int]] = []
        self.manual = ManualClock(harness.now)
        self._worked = 0.0
        for name in ("pack_history", "prune_history", "history_figures"):
            monkeypatch.setattr(harness.store, name, getattr(self, name))
        self.keeper = HistoryRetention(harness.store, self.manual.clock, lambda: self.is_stopping, lambda: self._worked)

    def run(self) -> bool:
        return self.keeper.run(self.manual.ms - DAY_MS)

    def rested(self) -> float:
        """Return how many times as long as it worked it has rested since the last call."""
        times = sum(self.manual.waits) / self._worked
        self.manual.waits.clear()
        self._worked = 0.0
        return times

    def pack_history(self, project: int, before: int) -> PackedHistory:
        if self.is_busy:
            return PackedHistory(is_busy=True)
        if not self.steps[project]:
            return PackedHistory()
        self.steps[project] -= 1
        self.sizes[project] += self.arriving - 1000
        self._step("pack", project)
        return PackedHistory(16, self.manual.ms - self.age)

    def prune_history(self, project: int, before: int | None, excess: int, now: int) -> PrunedHistory:
        if excess <= 0:
            return PrunedHistory()
        self.sizes[project] -= excess
        self._step("prune", project)
        return PrunedHistory(1, 64, excess)

    def history_figures(self, project: int) -> HistoryFigures:
        return HistoryFigures(0, 0, self.sizes[project], None, None)

    def _step(self, name: str, project: int) -> None:
        self._worked += 0.01
        # What it waits for is not work.
        self.manual.advance(0.05)
        self.done.append((name, project))


def test_packing_takes_a_fortieth_of_a_processor_and_a_third_once_changes_are_twelve_hours_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backlog = Backlog(monkeypatch, {"one": 30})
    assert not backlog.run()
    assert backlog.rested() == pytest.approx(PATIENT_REST)
    backlog.steps[1], backlog.age = 30, LATE_MS - 60_000
    backlog.run()
    assert backlog.rested() == pytest.approx(PATIENT_REST)
    backlog.steps[1], backlog.age = 30, LATE_MS + 60_000
    backlog.run()
    assert backlog.rested() == pytest.approx(REST)
    assert backlog.keeper.packed == 90 * 16


def test_however_much_there_is_to_pack_every_project_has_its_turn_and_removal_within_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backlog = Backlog(monkeypatch, {"one": 10**6, "two": 10**6, "three": 5})
    begun = backlog.manual.elapsed
    assert backlog.run()
    assert PACKING_SECONDS <= backlog.manual.elapsed - begun < PACKING_SECONDS + 1
    one, two, three = (backlog.done.count(("pack", number)) for number in (1, 2, 3))
    assert (one, three) == (two, 5)
    # What became too old meanwhile is removed before anything else is packed.
    backlog.done.clear()
    monkeypatch.setattr(HistoryRetention, "_remove_old", lambda _, project, __: backlog.done.append(("old", project.number)))
    assert backlog.run()
    assert backlog.done[:4] == [("old", 1), ("old", 2), ("old", 3), ("pack", 1)]


def test_a_round_reaches_every_project_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PACKING_SECONDS", 1.0)
    backlog = Backlog(monkeypatch, {f"p{number}": 10 for number in range(20)})
    assert backlog.run()
    assert set(backlog.steps.values()) == {9}


def test_history_that_exceeds_its_size_is_packed_before_it_is_cut_or_said_to_be_too_much(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retention, "GIGABYTE", 10**6)
    backlog = Backlog(monkeypatch, {"one": 1500})
    backlog.sizes[1] = 10**6 + 1_400_000
    # A run is not enough for that. From then on, it does not rest longer than it has to.
    assert backlog.run()
    assert backlog.rested() == pytest.approx(PATIENT_REST)
    assert backlog.keeper.kept.shortened == 0
    assert backlog.run()
    assert backlog.rested() == pytest.approx(REST)
    while backlog.run():
        pass
    assert (backlog.steps[1], backlog.sizes[1]) == (0, 10**6 - 100_000)
    assert ("prune", 1) not in backlog.done
    assert caplog.records == []
    backlog.sizes[1], backlog.steps[1] = 10**6 + 5000, 2
    backlog.rested()
    assert not backlog.run()
    assert backlog.done[-3:] == [("pack", 1), ("pack", 1), ("prune", 1)]
    assert backlog.sizes[1] == 10**6
    assert backlog.rested() == pytest.approx((2 * PATIENT_REST + REST) / 3)


def test_history_that_grows_faster_than_it_is_packed_is_cut_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "GIGABYTE", 10**6)
    backlog = Backlog(monkeypatch, {"one": 10**6})
    backlog.sizes[1], backlog.arriving = 10**6 + 1, 2000
    assert backlog.run()
    assert ("prune", 1) not in backlog.done
    assert backlog.run()
    assert backlog.done[-1] == ("prune", 1)
    assert backlog.sizes[1] == 10**6


def test_history_that_another_server_packs_is_not_cut_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "GIGABYTE", 10**6)
    backlog = Backlog(monkeypatch, {"one": 1})
    backlog.sizes[1], backlog.is_busy = 10**6 + 2000, True
    assert backlog.run()
    assert (backlog.done, backlog.keeper.packed, set(backlog.manual.waits)) == ([], 0, {PAUSE})
    backlog.is_busy = False
    assert not backlog.run()
    assert backlog.done == [("pack", 1), ("prune", 1)]


def test_a_server_that_is_to_end_does_not_wait_for_a_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    backlog = Backlog(monkeypatch, {"one": 10})
    wait = backlog.manual.clock.wait

    def stop(event: threading.Event, seconds: float) -> bool:
        backlog.is_stopping = True
        return wait(event, seconds)

    clock = replace(backlog.manual.clock, wait=stop)
    monkeypatch.setattr(backlog.keeper, "_clock", clock)
    monkeypatch.setattr(retention, "PATIENT_REST", 1000)
    assert not backlog.run()
    assert backlog.manual.waits == [PAUSE]


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
