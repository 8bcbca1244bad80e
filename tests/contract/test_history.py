"""What a store remembers: every write has its change, and every earlier moment can be read."""

from __future__ import annotations

import contextlib
import itertools
import random
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.actors import TESTER
from support.commands import edit_project, erase_user, import_batch
from support.histories import check_history
from support.sample_project import sample_schema
from support.store_harness import StoreHarness
from usertable.app import history
from usertable.domain.change import Change, ChangeKind, Origin, Report
from usertable.domain.errors import ProblemKind, Refused
from usertable.domain.history import PastUser, as_of, difference, effect
from usertable.domain.merge import RULES
from usertable.domain.patch import Restoration
from usertable.domain.profile import Outcome
from usertable.domain.schema import HistorySettings, Identifier, Project, Schema
from usertable.domain.values import ABSENT
from usertable.store import open_store
from usertable.store.keyframes import VERSIONS
from usertable.store.memory import MemoryStore
from usertable.store.postgres import history as postgres_history
from usertable.store.records import ImportBatch, ImportRow, ImportRows, User, Write


def changes(harness: StoreHarness, project: Project, cuid: int) -> list[Change]:
    """Return a user's changes, newest first."""
    return harness.store.with_changes(project.number, cuid, lambda user, found: list(found))


def past(harness: StoreHarness, project: Project, cuid: int, moment: int) -> PastUser | None:
    """Return the user as of a moment."""
    schema = harness.service.project(project.id).schema

    def work(user: User | None, found: Any) -> PastUser | None:
        assert user is not None
        return as_of(present(user), found, moment, schema)

    return harness.store.with_changes(project.number, cuid, work, after=moment)


def present(user: User) -> PastUser:
    p = user.profile
    return PastUser(user.cuid, p.version, p.created_at, p.updated_at, dict(p.attributes), user.identifiers)


def rows(harness: StoreHarness, project: Project, *rows: ImportRow, job: str = "", register: bool = True) -> None:
    names = frozenset(["user_number_accumulate", "user_string_overwrite"])
    origin = Origin(f"import:{job}") if harness.service.project(project.id).history.is_on else None
    batch = ImportBatch(
        *(project.number, project.version, ImportRows.of(rows), names, harness.now, register, job),
        harness.store.job(project.number, job),
        origin=origin,
    )
    import_batch(harness.store, batch, note=lambda result: f"{harness.now}")


def test_each_write_has_its_change_and_names_who_sent_what(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    harness.now += 1000
    first = {"user_number_accumulate": 5, "user_string_overwrite": "gold", "user_list_append": ["A", "B"]}
    harness.write(harness.prepare(project, cuid, first))
    harness.now += 1000
    second = {"user_number_accumulate": 2, "user_list_append": ["B", "C"], "user_string_once": "ads"}
    harness.write(harness.prepare(project, cuid, second, actor="key:billing"))
    newest, older, created = changes(harness, project, cuid)
    assert (newest.kind, newest.version, newest.at, newest.since) == ("write", 3, harness.now, harness.now - 1000)
    assert newest.origin.actor == "key:billing"
    assert newest.previous == older.number < newest.number
    schema = project.schema
    added = effect(newest, schema.attribute("user_number_accumulate"))
    assert (added.sent, added.before, added.after, added.outcome) == (2, 5, 7, Outcome.APPLIED)
    report = newest.reports["user_list_append"]
    assert (report.sent, report.elements, report.added) == (["B", "C"], 2, ["C"])
    assert effect(newest, schema.attribute("user_string_once")).before is ABSENT
    assert effect(older, schema.attribute("user_string_overwrite")).after == "gold"
    assert older.reports["user_list_append"].added is None
    assert (created.kind, created.previous, created.origin.actor) == (ChangeKind.CREATED, 0, str(TESTER))


def test_a_user_can_be_read_as_of_every_earlier_moment(harness: StoreHarness) -> None:
    project = harness.project()
    harness.now += 10
    cuid = harness.user(project)
    seen: list[tuple[int, User | None]] = [(harness.now - 1, None)]
    for data in (
        {"user_number_accumulate": 5, "user_list_append": ["A", "B"]},
        {"user_number_accumulate": -7, "user_list_append": ["B", "C"], "user_string_once": "ads"},
        {"user_string_once": "other"},
        {"user_list_overwrite": ["x", "y"], "user_bool_overwrite": 1},
        {"user_list_overwrite": ["z"], "user_number_overwrite": 3},
    ):
        seen.append((harness.now, harness.store.read(project.number, cuid)))
        harness.now += 10
        harness.write(harness.prepare(project, cuid, data))
    for moment, user in seen:
        assert past(harness, project, cuid, moment) == (None if user is None else present(user))
        # What was stored stays until the next write.
        if user is not None:
            assert past(harness, project, cuid, moment + 9) == present(user)


def test_two_writes_of_one_batch_are_two_changes_of_a_chain(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    harness.now += 10
    harness.write(*(harness.prepare(project, cuid, {"user_number_accumulate": n}) for n in (1, 2, 3)))
    assert [change.reports["user_number_accumulate"].before for change in changes(harness, project, cuid)[:-1]] == [
        3,
        1,
        ABSENT,
    ]


def test_writes_that_a_database_merges_are_recorded_like_all_others(harness: StoreHarness) -> None:
    """Among them are some that it leaves to the rules: to an unknown user, and of another actor, with nothing new."""
    simple = StoreHarness(MemoryStore())
    values = ["a", "b", "c", "d"]

    def recorded(harness: StoreHarness) -> list[object]:
        project = harness.project()
        cuids = harness.service.register(project, "phone", values, actor=TESTER)
        for step, key in enumerate(["", "", "k", ""]):
            harness.now += 10
            first = {
                "user_string_overwrite": f"{step // 2}",
                "user_number_accumulate": step,
                "user_list_append": ["A", f"{step}"],
            }
            others = {"user_bool_once": 1, "user_string_overwrite": "same"}
            writes = [
                harness.prepare(project, cuid, first if cuid == cuids[0] else others, key and f"{key}{cuid}", actor=actor)
                for cuid, actor in zip(
                    [*cuids[:2], 77, *cuids[2:]], ["key:a", "key:a", "key:a", f"key:{step}", "key:b"], strict=True
                )
            ]
            harness.write(*(replace(write, details=not step) for write in writes))
        found = [changes(harness, project, cuid) for cuid in cuids]
        assert [[later.previous for later in of_user[:-1]] for of_user in found] == [
            [earlier.number for earlier in of_user[1:]] for of_user in found
        ]
        return [[replace(change, number=0, previous=0) for change in of_user] for of_user in found]

    assert recorded(harness) == recorded(simple)


def test_users_that_an_import_creates_share_one_change_and_values_come_from_walking_back(harness: StoreHarness) -> None:
    project = harness.project()
    rows(harness, project, *((cuid, (), '{"user_string_overwrite":"new"}') for cuid in range(1, 6)), job="crm")
    harness.now += 10
    harness.write(harness.prepare(project, 3, {"user_string_overwrite": "later"}))
    found = changes(harness, project, 3)
    assert [change.kind for change in found] == [ChangeKind.WRITE, ChangeKind.CREATED]
    assert found[1].origin.actor == "import:crm"
    # On Citus, those of one shard.
    shards = 4 if harness.store.figures().engine == "citus" else 1
    assert len({changes(harness, project, cuid)[-1].number for cuid in range(1, 6)}) <= shards
    before = past(harness, project, 3, harness.now - 1)
    assert before is not None
    assert before.attributes == {"user_string_overwrite": "new"}


@pytest.mark.parametrize("job", ["crm", "/var/exports/2026-11-30/members.csv"])
def test_an_import_that_changes_nothing_is_recorded_only_if_another_one_set_the_values(
    harness: StoreHarness, job: str
) -> None:
    project = harness.project()
    row: ImportRow = (1, (), '{"user_string_overwrite":"gold"}')
    for _ in range(2):
        rows(harness, project, row, job=job)
    assert [change.origin.actor for change in changes(harness, project, 1)] == [f"import:{job}"]
    rows(harness, project, row, job=f"{job}.2")
    assert [change.origin.actor for change in changes(harness, project, 1)] == [f"import:{job}.2", f"import:{job}"]


def test_an_import_onto_a_user_records_values_and_identifier_values(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    harness.now += 10
    rows(harness, project, (cuid, (), '{"user_number_accumulate":4}'), job="one")
    harness.now += 10
    rows(harness, project, (cuid, (("jg_registration_id", "r-1"),), "{}"), job="two")
    newest, older, _ = changes(harness, project, cuid)
    assert (newest.kind, newest.identifiers, newest.changed) == (
        ChangeKind.IDENTIFIER,
        [("jg_registration_id", "r-1")],
        False,
    )
    assert (older.kind, older.origin.actor) == (ChangeKind.IMPORT, "import:one")
    before = past(harness, project, cuid, harness.now - 1)
    assert before is not None
    assert before.identifiers == {"phone": ["18012345678"]}
    now = past(harness, project, cuid, harness.now)
    assert now is not None
    assert now.identifiers == {"phone": ["18012345678"], "jg_registration_id": ["r-1"]}


def test_a_report_that_changes_nothing_is_kept_only_if_its_actor_says_it_for_the_first_time(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    gold = {"user_string_overwrite": "gold"}

    def send(actor: str, **data: object) -> int:
        harness.now += 10
        harness.write(harness.prepare(project, cuid, data or gold, actor=actor))
        return len(changes(harness, project, cuid))

    kept = send("key:one")
    assert send("key:one") == kept
    assert send("key:two") == kept + 1
    assert [send("key:two"), send("key:one"), send("key:two")] == [kept + 1] * 3
    newest = changes(harness, project, cuid)[0]
    assert (newest.version, newest.changed) == (2, False)
    assert harness.attributes(project, cuid) == gold
    # A change of another attribute does not make the first actor the one behind this one.
    assert send("key:three", user_bool_overwrite=1) == kept + 2
    assert send("key:three") == kept + 3


def test_a_report_is_kept_as_well_if_another_actor_set_the_value_in_the_same_commit(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    harness.write(harness.prepare(project, cuid, {"user_string_overwrite": "gold"}, actor="key:two"))
    silver = {"user_string_overwrite": "silver"}
    # The last two say nothing new.
    actors = ("key:one", "key:two", "key:one", "key:two")
    harness.write(*(harness.prepare(project, cuid, silver, actor=actor) for actor in actors))
    newest, older, _, _ = changes(harness, project, cuid)
    assert [(change.origin.actor, change.changed) for change in (newest, older)] == [("key:two", False), ("key:one", True)]


def test_with_all_reports_each_one_is_kept(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    for _ in range(3):
        write = harness.prepare(project, cuid, {"user_string_overwrite": "gold"})
        harness.write(replace(write, all_reports=True))
    assert [change.changed for change in changes(harness, project, cuid)] == [False, False, True, True]


def test_a_dry_run_and_a_refused_write_leave_no_change(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    harness.write(harness.prepare(project, cuid, {"user_number_accumulate": 1}, dry_run=True))
    harness.write(harness.prepare(project, cuid, {"user_number_accumulate": 9 * 10**38}))
    found = changes(harness, project, cuid)
    harness.write(harness.prepare(project, cuid, {"user_number_accumulate": 9 * 10**38}))
    assert changes(harness, project, cuid) == found


def test_a_write_that_is_answered_again_leaves_no_second_change(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    for _ in range(2):
        harness.write(harness.prepare(project, cuid, {"user_number_accumulate": 1}, key="k", body=b"same"))
    assert len(changes(harness, project, cuid)) == 2


def test_what_is_written_while_history_is_off_is_a_gap_never_a_wrong_value(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    harness.now += 10
    harness.write(harness.prepare(project, cuid, {"user_number_accumulate": 1}))
    recorded = harness.now
    harness.now += 10
    harness.write(replace(harness.prepare(project, cuid, {"user_number_accumulate": 1}), origin=None))
    unrecorded = harness.now
    harness.now += 10
    harness.write(harness.prepare(project, cuid, {"user_number_accumulate": 1}))
    for moment, total in ((unrecorded, 2), (harness.now - 1, 2), (harness.now, 3)):
        known = past(harness, project, cuid, moment)
        assert known is not None
        assert known.attributes == {"user_number_accumulate": total}
    with pytest.raises(Refused, match="history_gone"):
        past(harness, project, cuid, recorded)
    newest, older, _ = changes(harness, project, cuid)
    assert newest.version - older.version == 2


def test_pages_of_changes_continue_by_number_and_count_writes_that_are_not_recorded(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    other = harness.user(project, "18012345679")
    for value in range(4):
        harness.now += 10
        write = harness.prepare(project, cuid, {"user_number_accumulate": 1})
        # Every second one as a server of an earlier version writes it.
        harness.write(write if value % 2 else replace(write, origin=None))
        harness.write(harness.prepare(project, other, {"user_number_accumulate": 1}))
    service = harness.service
    whole = service.changes(project, cuid)
    assert [(listed.change.kind, listed.unrecorded) for listed in whole.changes] == [
        (ChangeKind.WRITE, 0),
        (ChangeKind.WRITE, 1),
        (ChangeKind.CREATED, 1),
    ]
    assert (whole.next, whole.is_whole) == (None, True)
    found, before = [], None
    while True:
        page = service.changes(project, cuid, before=before, limit=1)
        found += page.changes
        if (before := page.next) is None:
            break
    assert found == whole.changes
    foreign = service.changes(project, other).changes[0].change.number
    with pytest.raises(Refused) as caught:
        service.changes(project, cuid, before=foreign)
    assert caught.value.problems[0].kind is ProblemKind.PARAMETER


def test_a_clock_that_is_set_back_does_not_make_a_row_older(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    harness.now += 1000
    harness.write(harness.prepare(project, cuid, {"user_number_accumulate": 1}))
    latest = harness.now
    harness.now -= 500
    harness.write(harness.prepare(project, cuid, {"user_number_accumulate": 1}))
    newest, older, _ = changes(harness, project, cuid)
    assert newest.at == older.at == latest
    user = harness.store.read(project.number, cuid)
    assert user is not None
    assert user.profile.updated_at == latest


def test_an_erased_user_leaves_no_value_in_history_and_its_neighbors_stay(harness: StoreHarness) -> None:
    project = harness.project()
    cuid, other = harness.service.register(project, "phone", ["a", "b"], actor=TESTER)
    for user in (cuid, other):
        harness.write(harness.prepare(project, user, {"user_string_overwrite": f"secret of {user}"}))
        harness.write(harness.prepare(project, user, {"user_string_overwrite": f"later of {user}"}))
    kept = changes(harness, project, other)
    assert erase_user(harness.store, project.number, cuid)
    assert changes(harness, project, other) == kept
    assert changes(harness, project, cuid) == []
    blocks = harness.store.history_blocks(project.number, None, 100)
    stored = [change for block in blocks for change, _ in block.all_changes()]
    assert f"of {cuid}" not in repr(stored)
    assert [change.kind for change in stored].count(ChangeKind.ERASED) == 3
    erased = stored[0]
    assert (erased.cuid, erased.kind, erased.reports) == (cuid, ChangeKind.ERASED, {})


def test_attributes_without_history_are_left_out_and_said_to_be_unknown(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    off = replace(project.schema.attribute("user_string_overwrite"), history_since=None)
    project = edit_project(
        harness.store,
        project.id,
        lambda p: replace(p, schema=replace(p.schema, attributes={**p.schema.attributes, "user_string_overwrite": off})),
        TESTER,
        harness.now,
    )
    harness.now += 10
    harness.write(harness.prepare(project, cuid, {"user_string_overwrite": "a secret", "user_bool_overwrite": 1}))
    harness.now += 10
    harness.write(harness.prepare(project, cuid, {"user_string_overwrite": "more"}))
    newest, older, _ = changes(harness, project, cuid)
    assert (newest.reports, newest.changed) == ({}, True)
    assert list(older.reports) == ["user_bool_overwrite"]
    before = past(harness, project, cuid, harness.now - 1)
    assert before is not None
    assert (before.attributes, before.not_kept) == ({"user_bool_overwrite": True}, ["user_string_overwrite"])


def turn_history(harness: StoreHarness, project: Project, name: str, on: bool) -> Project:
    """Turn the history of an attribute on or off."""

    def edited(before: Project) -> Project:
        attribute = before.schema.attribute(name).with_history(on, harness.now)
        return replace(before, schema=replace(before.schema, attributes={**before.schema.attributes, name: attribute}))

    return edit_project(harness.store, project.id, edited, TESTER, harness.now)


def test_an_attribute_turned_on_again_by_a_clock_that_is_behind_is_unknown_before_its_first_recorded_change(
    harness: StoreHarness,
) -> None:
    project = harness.project()
    cuid, other = harness.service.register(project, "phone", ["a", "b"], actor=TESTER)
    harness.write(harness.prepare(project, cuid, {"user_string_overwrite": "first"}))
    harness.write(harness.prepare(project, other, {"user_string_overwrite": "first"}))
    project = turn_history(harness, project, "user_string_overwrite", False)
    harness.now += 1000
    harness.write(harness.prepare(project, cuid, {"user_string_overwrite": "second", "user_number_overwrite": 2}))
    behind = harness.now = harness.now - 500
    project = turn_history(harness, project, "user_string_overwrite", True)
    harness.now += 1000
    harness.write(harness.prepare(project, cuid, {"user_string_overwrite": "third"}))
    harness.write(harness.prepare(project, other, {"user_string_overwrite": "third"}))
    # The row is from before the write of the first clock: what the attribute was then is not recorded.
    before = past(harness, project, cuid, behind + 100)
    assert before is not None
    assert (before.attributes, before.not_kept) == ({}, ["user_string_overwrite"])
    # After that write, and for a user without such a write, it is known.
    for user, moment, value in ((cuid, behind + 600, "second"), (other, behind + 100, "first")):
        found = past(harness, project, user, moment)
        assert found is not None
        assert (found.attributes["user_string_overwrite"], found.not_kept) == (value, [])


def test_a_keyframe_without_an_attribute_never_says_that_the_user_had_none(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    harness.write(harness.prepare(project, cuid, {"user_string_overwrite": "first"}))
    project = turn_history(harness, project, "user_string_overwrite", False)
    harness.now += 1000
    for count in range(VERSIONS):
        harness.write(harness.prepare(project, cuid, {"user_number_overwrite": count}))
    behind = harness.now = harness.now - 500
    project = turn_history(harness, project, "user_string_overwrite", True)
    harness.now += 1000
    harness.write(harness.prepare(project, cuid, {"user_string_overwrite": "second"}))
    found = past(harness, project, cuid, behind + 100)
    assert found is not None
    assert found.not_kept == ["user_string_overwrite"]


def test_history_turned_on_again_by_a_clock_that_is_behind_begins_after_what_was_recorded(harness: StoreHarness) -> None:
    harness.project()
    harness.service.declare_identifier("one", Identifier("device", unique=False), actor=TESTER)
    project = harness.service.project("one")
    cuid, other = harness.service.register(project, "phone", ["a", "b"], actor=TESTER)
    harness.now += 1000
    rows(harness, project, (cuid, (("device", "late"),), "{}"))
    harness.write(harness.prepare(project, other, {"user_bool_overwrite": 1}))
    newest = harness.now
    project = edit_project(
        harness.store, project.id, lambda p: replace(p, history=HistorySettings(days=0)), TESTER, harness.now
    )
    while harness.store.prune_history(project.number, None, 0, harness.now).blocks:
        pass
    behind = harness.now = harness.now - 500
    edit_project(harness.store, project.id, lambda p: replace(p, history=HistorySettings(days=7)), TESTER, harness.now)
    assert harness.store.history_since(project.number) == newest
    harness.now += 1000
    with pytest.raises(Refused) as caught:
        harness.service.user_as_of(harness.service.project(project.id), cuid, behind + 100)
    assert caught.value.problems[0].kind is ProblemKind.HISTORY_GONE


def test_a_restoration_is_walked_back_whatever_the_rule(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    harness.write(harness.prepare(project, cuid, {"user_list_append": ["A", "B", "C"], "user_string_once": "ads"}))
    seen = harness.store.read(project.number, cuid)
    assert seen is not None
    harness.now += 10
    attributes = project.schema.attributes
    back = Restoration([(attributes["user_list_append"], ["A", "C"]), (attributes["user_string_once"], ABSENT)])
    harness.write(Write(project.number, cuid, back, project.version, harness.now, origin=Origin("undo:1")))
    assert changes(harness, project, cuid)[0].kind is ChangeKind.UNDO
    assert past(harness, project, cuid, harness.now - 1) == present(seen)


def test_a_restoration_of_what_stands_there_is_an_undo_that_changes_nothing(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    data = {"user_list_append": ["A", "B"]}
    harness.write(harness.prepare(project, cuid, data))
    seen = harness.store.read(project.number, cuid)
    assert seen is not None
    harness.now += 10
    attributes = project.schema.attributes
    back = Restoration([(attributes["user_list_append"], ["A", "B"]), (attributes["user_string_once"], ABSENT)])
    harness.write(Write(project.number, cuid, back, project.version, harness.now, origin=Origin("undo:1")))
    (change, *_) = changes(harness, project, cuid)
    assert (change.kind, change.changed) == (ChangeKind.UNDO, False)
    assert {effect(change, attributes[name]).outcome for name in change.reports} == {Outcome.UNCHANGED}
    assert past(harness, project, cuid, harness.now - 1) == present(seen)
    check_history(harness.store, project.number, cuid, project.schema)


def test_since_when_history_is_kept_follows_the_setting(harness: StoreHarness) -> None:
    project = harness.project()
    store = harness.store
    assert store.history_since(project.number) == project.created_at
    edit_project(store, project.id, lambda p: replace(p, history=HistorySettings(days=0)), TESTER, harness.now)
    assert store.history_since(project.number) is None
    harness.now += 10
    edited = edit_project(store, project.id, lambda p: replace(p, history=HistorySettings(days=7)), TESTER, harness.now)
    assert store.history_since(project.number) == harness.now
    assert store.projects() == [edited]


numbers = st.integers(-5, 5) | st.decimals(-3, 3, places=1)
sent = st.fixed_dictionaries(
    {},
    optional={
        "user_number_overwrite": numbers,
        "user_number_accumulate": numbers,
        "user_number_once": numbers,
        "user_string_overwrite": st.sampled_from("ab"),
        "user_list_overwrite": st.lists(st.sampled_from("ABC"), min_size=1, max_size=3, unique=True),
        "user_list_append": st.lists(st.sampled_from("ABCDE"), min_size=1, max_size=3, unique=True),
    },
).filter(bool)
steps = st.lists(st.tuples(sent, st.sampled_from(["key:a", "key:b"]), st.integers(0, 2)), min_size=1, max_size=12)


@given(steps)
@settings(max_examples=200, deadline=None)
def test_the_changes_of_a_user_folded_from_the_oldest_equal_the_row(steps: list[Any]) -> None:
    harness = StoreHarness(MemoryStore())
    project = harness.project()
    cuid = harness.user(project)
    rows_then: dict[int, PastUser] = {}
    for data, actor, pause in steps:
        harness.now += pause
        harness.write(harness.prepare(project, cuid, data, actor=actor))
        user = harness.store.read(project.number, cuid)
        assert user is not None
        rows_then[harness.now] = present(user)
    for moment, row in rows_then.items():
        assert past(harness, project, cuid, moment) == row
    folded = harness.store.with_changes(project.number, cuid, lambda user, found: _folded(project, found))
    assert folded == harness.attributes(project, cuid)


def test_nothing_but_retention_and_erasing_removes_a_change(harness: StoreHarness) -> None:
    project, service = harness.project(), harness.service
    cuid = harness.user(project)
    for number in range(3):
        harness.now += 10
        harness.write(harness.prepare(project, cuid, {"user_number_accumulate": number + 1, "user_string_once": "a"}))
    found = changes(harness, project, cuid)
    assert len(found) == 4
    service.edit_attribute("one", "user_number_accumulate", hidden=True, actor=TESTER)
    service.delete_attribute("one", "user_bool_once", actor=TESTER)
    service.edit_project("one", timezone="Europe/Rome", actor=TESTER)
    service.edit_history("one", days=0, actor=TESTER)
    service.edit_history("one", days=1, all_reports=True, actor=TESTER)
    service.erase_user(project, harness.user(project, "other"), actor=TESTER)
    harness.store.expire_receipts(harness.now + 1)
    harness.store.expire_arrivals(harness.now + 1)
    harness.store.pack_history(project.number, harness.now + 1)
    assert changes(harness, project, cuid) == found
    # The oldest are removed, and never one between two that are kept.
    harness.now += 10
    harness.write(harness.prepare(service.project("one"), cuid, {"user_number_accumulate": 1}))
    while harness.store.prune_history(project.number, found[1].at, 0, harness.now).blocks:
        pass
    assert changes(harness, project, cuid)[1:] == found[: len(changes(harness, project, cuid)) - 1]
    assert found[0] in changes(harness, project, cuid)


@given(steps)
@settings(max_examples=200, deadline=None)
def test_what_is_written_in_one_commit_has_the_changes_that_single_commits_have(steps: list[Any]) -> None:
    found = []
    for together in (True, False):
        harness = StoreHarness(MemoryStore())
        project = harness.project()
        cuid = harness.user(project)
        writes = []
        for data, actor, pause in steps:
            harness.now += pause
            writes.append(harness.prepare(project, cuid, data, actor=actor))
        for batch in [writes] if together else [[write] for write in writes]:
            harness.write(*batch)
        user = harness.store.read(project.number, cuid)
        assert user is not None
        told = [replace(change, number=0, previous=0) for change in changes(harness, project, cuid)]
        found.append((user, user.profile.sole_actor, told))
    assert found[0] == found[1]


def _folded(project: Project, found: Any) -> dict[str, object]:
    row: dict[str, Any] = {}
    for change in reversed(list(found)):
        for name, report in change.reports.items():
            attribute = project.schema.attribute(name)
            merged = RULES[attribute.rule](attribute, row.get(name), report.sent)
            assert isinstance(merged, tuple)
            row[name] = merged[0]
    return row


def test_a_page_of_large_changes_ends_before_its_limit_and_the_next_one_continues_it(
    harness: StoreHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = harness.project()
    cuid = harness.user(project)
    for value in "abcde":
        harness.now += 10
        harness.write(harness.prepare(project, cuid, {"user_string_overwrite": value * 100}))
    whole = harness.service.changes(project, cuid)
    assert len(whole.changes) == 6
    # What is sent and what was before: 200 characters a change.
    monkeypatch.setattr(history, "EXAMINED_SIZE", 400)
    found, before = [], None
    sizes: list[int] = []
    while before is not None or not sizes:
        page = harness.service.changes(project, cuid, before=before)
        found += page.changes
        before = page.next
        sizes.append(len(page.changes))
    assert found == whole.changes
    assert sizes == [2, 2, 2]
    with_filter = harness.service.changes(project, cuid, actor="key:nobody")
    assert (with_filter.changes, with_filter.next) == ([], whole.changes[1].change.number)


def test_two_moments_with_many_large_changes_between_them_are_compared_in_little_memory() -> None:
    attribute = sample_schema().attributes["user_string_overwrite"]
    schema = Schema({attribute.name: attribute}, ())
    size, count = 2**20, 64
    row = PastUser(1, count + 1, 0, count, {attribute.name: f"{count:0{size}}"}, {})

    def newest_first() -> Iterator[Change]:
        for at in range(count, 0, -1):
            report = Report(f"{at:0{size}}", f"{at - 1:0{size}}" if at > 1 else ABSENT)
            yield Change(
                at, 1, at + 1, True, at - 1, at, at - 1, ChangeKind.WRITE, Origin("key:a"), "", {attribute.name: report}
            )

    tracemalloc.start()
    try:
        first, second, attributes = difference(row, newest_first(), 0, count - 1, schema)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert first is not None
    assert second is not None
    assert (first.attributes, first.version, second.version) == ({}, 1, count)
    assert second.attributes == {attribute.name: f"{count - 1:0{size}}"}
    assert (attributes[attribute.name].changes, attributes[attribute.name].before) == (count - 1, ABSENT)
    assert peak < 10 * size


def test_a_user_with_many_large_changes_is_read_back_in_little_memory(
    kept_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_history, "WALK_BYTES", 2**17)
    with contextlib.closing(open_store(kept_url)) as store:
        harness = StoreHarness(store)
        project = harness.project()
        cuids = harness.service.register(project, "phone", list("abcdefgh"), actor=TESTER)
        chance, count = random.Random(5), 120
        for _ in range(count):
            harness.now += 10
            texts = [{"user_string_overwrite": chance.randbytes(4096).hex()} for _ in cuids]
            harness.write(*itertools.starmap(partial(harness.prepare, project), zip(cuids, texts, strict=True)))
        size = store.history_figures(project.number).bytes
        assert size > count * len(cuids) * 4096
        tracemalloc.start()
        try:
            read = store.with_changes(project.number, cuids[0], lambda user, found: sum(1 for _ in found))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert read == count + 1
        assert peak < size // 3
