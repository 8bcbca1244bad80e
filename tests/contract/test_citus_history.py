"""History on a cluster: each shard has its own blocks, and shards may be split."""

from __future__ import annotations

import contextlib
import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from contract.test_erasure import VALUE, Sample, shown, traces
from contract.test_export_as_of import exported
from contract.test_export_as_of import rows as rows_of_file
from contract.test_history import changes, past, present, rows
from contract.test_retention import ALWAYS, NEVER, blocks, pack, prune, write_many
from support.actors import TESTER
from support.citus import split_shard
from support.engines import ENGINES
from support.store_harness import StoreHarness
from usertable.domain.change import Change
from usertable.domain.schema import Project
from usertable.files import as_of
from usertable.store import copy, history, open_store
from usertable.store.copy import copy_store
from usertable.store.history import HistoryBlock
from usertable.store.postgres import PostgresStore
from usertable.store.postgres import history as postgres_history
from usertable.store.records import Written


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with ENGINES["citus"](tmp_path) as url:
        yield url


@pytest.fixture
def harness(url: str) -> Iterator[StoreHarness]:
    with contextlib.closing(open_store(url)) as store:
        yield StoreHarness(store)


def by_shard(harness: StoreHarness, cuids: list[int]) -> list[list[int]]:
    """Return the CUIDs of each shard."""
    assert isinstance(harness.store, PostgresStore)
    shards = harness.store.connections.shards()
    assert shards is not None
    found = defaultdict(list)
    for cuid in cuids:
        found[shards.shard(cuid)].append(cuid)
    return list(found.values())


def register(harness: StoreHarness, project: Project, count: int) -> list[int]:
    return list(harness.service.register(project, "phone", [f"p{n}" for n in range(count)], actor=TESTER))


def all_of(harness: StoreHarness, project: Project, cuids: list[int]) -> dict[int, list[Change]]:
    return {cuid: changes(harness, project, cuid) for cuid in cuids}


def merge_many(harness: StoreHarness, project: Project, cuids: list[int]) -> None:
    """Write each user as the database merges it."""
    harness.now += 1000
    data = {"user_number_accumulate": 1, "user_string_overwrite": f"at {harness.now}"}
    results = harness.write(*(replace(harness.prepare(project, cuid, data), details=False) for cuid in cuids))
    assert {type(result) for result in results} == {Written}


def packed_spans(found: list[HistoryBlock]) -> list[tuple[int, int]]:
    return [(block.block, block.last) for block in found if block.is_packed]


@pytest.mark.parametrize("is_packed", [False, True], ids=["as written", "packed"])
def test_what_was_recorded_before_a_shard_was_split_is_read_erased_packed_and_removed_after_it(
    harness: StoreHarness, url: str, monkeypatch: pytest.MonkeyPatch, is_packed: bool
) -> None:
    monkeypatch.setattr(history, "PACKED_CHANGES", 40)
    project = harness.project()
    cuids = register(harness, project, 64)
    write_many(harness, project, cuids, 6)
    then = harness.now
    seen = {user.cuid: present(user) for user in harness.store.read_many(project.number, cuids)}
    file = exported(harness)
    if is_packed:
        assert pack(harness, project) > 0
    before = all_of(harness, project, cuids)
    split_shard(url, cuids[0])

    # This server does not know of it yet.
    assert all_of(harness, project, cuids) == before
    with contextlib.closing(open_store(url)) as store:
        informed = StoreHarness(store)
        informed.now = harness.now
        groups = by_shard(informed, cuids)
        assert len(groups) == len(by_shard(harness, cuids)) + 1
        assert all_of(informed, project, cuids) == before
        # Both write and pack, up to the first keyframes.
        for _ in range(4):
            for each, other in ((harness, informed), (informed, harness)):
                merge_many(each, project, cuids)
                write_many(each, project, cuids, 3)
                other.now = each.now
                pack(each, project)
        for each in (harness, informed):
            after = all_of(each, project, cuids)
            assert {cuid: found[32:] for cuid, found in after.items()} == before
            assert {len(found) for found in after.values()} == {32 + 6 + 1}
            assert {cuid: past(each, project, cuid, then) for cuid in cuids} == seen
            assert exported(each, moment=then) == file

        # Erasing finds them wherever they are.
        gone = [groups[0][0], next(cuid for group in groups for cuid in group if group is not groups[0])]
        gone += [cuid for group in groups for cuid in group[1:2]]
        left = [cuid for cuid in cuids if cuid not in gone]
        for number, cuid in enumerate(gone):
            (harness, informed)[number % 2].service.erase_user(project, cuid, actor=TESTER)
        stored = [change for block in blocks(informed, project) for change, users in block.all_changes() if users[0] in gone]
        assert stored
        assert not any(change.reports for change in stored if change.cuid in gone)
        assert all_of(informed, project, left) == {cuid: after[cuid] for cuid in left}

        # And removing what is old takes nothing that is not.
        assert prune(informed, project, then + 1) > 0
        kept = all_of(informed, project, left)
        since = informed.store.history_since(project.number)
        assert since is not None
        for cuid in left:
            assert kept[cuid] == after[cuid][: len(kept[cuid])]
            assert all(change.at < since for change in after[cuid][len(kept[cuid]) :])
        assert {past(informed, project, cuid, since) is not None for cuid in left} == {True}


def test_no_table_and_no_block_has_a_value_of_a_user_who_is_erased_after_its_shard_was_split(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "PACKED_CHANGES", 300)
    sample = Sample(url)
    with contextlib.closing(sample.harness.store):
        sample.pack()
        split_shard(url, sample.cuid)
        harness, project = sample.harness, sample.project
        for turn in range(20):
            harness.now += 1000
            harness.write(*(sample.write(cuid, 1000 + turn, 3) for cuid in (*sample.cuids[:8], sample.cuid)))
            again = [{"user_string_once": sample.value(cuid)} for cuid in (sample.cuids[9], sample.cuid)]
            harness.write(
                harness.prepare(project, sample.cuids[9], {**again[0], "user_number_overwrite": turn}),
                harness.prepare(project, sample.cuid, again[1]),
            )
        assert VALUE in traces(shown(sample, url))
        neighbors = {cuid: sample.recorded(cuid) for cuid in sample.cuids}
        sample.erase()
        assert traces(shown(sample, url)) == []
        assert {cuid: sample.recorded(cuid) for cuid in sample.cuids} == neighbors


@pytest.mark.parametrize("engine", ENGINES)
def test_packed_blocks_of_several_shards_are_copied_to_every_engine(
    harness: StoreHarness, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "PACKED_CHANGES", 40)
    monkeypatch.setattr(copy, "PAGE", 5)
    monkeypatch.setattr(postgres_history, "_PACKED_PAGE", 5)
    project = harness.project()
    cuids = register(harness, project, 64)
    write_many(harness, project, cuids, 8)
    pack(harness, project)
    write_many(harness, project, cuids, 2)
    spans = sorted(packed_spans(blocks(harness, project)))
    assert any(following <= last for (_, last), (following, _) in itertools.pairwise(spans))
    kept = all_of(harness, project, cuids)
    folder = tmp_path / "target"
    folder.mkdir()
    with ENGINES[engine](folder) as url, contextlib.closing(open_store(url)) as target:
        copy_store(harness.store, target, lambda *_: None)
        moved = StoreHarness(target)
        moved.now = harness.now
        assert all_of(moved, project, cuids) == kept
        write_many(moved, project, cuids, 1)
        pack(moved, project)
        after = all_of(moved, project, cuids)
        assert {cuid: found[1:] for cuid, found in after.items()} == kept
        moved.service.erase_user(project, cuids[0], actor=TESTER)
        assert all_of(moved, project, cuids[1:]) == {cuid: after[cuid] for cuid in cuids[1:]}
        if engine != "memory":
            # And from there to another.
            with contextlib.closing(open_store("memory:")) as last:
                copy_store(target, last, lambda *_: None)
                assert all_of(StoreHarness(last), project, cuids[1:]) == all_of(moved, project, cuids[1:])


def test_a_block_of_a_quiet_shard_is_not_removed_before_its_newest_change_is_old(
    harness: StoreHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "PACKED_CHANGES", 6)
    monkeypatch.setattr(history, "EXAMINED_BLOCKS", 16)
    project = harness.project()
    quiet, busy, *_ = (group[0] for group in by_shard(harness, register(harness, project, 64)))
    for _ in range(12):
        write_many(harness, project, [quiet], 1)
        write_many(harness, project, [busy], 9)
    pack(harness, project)
    before = all_of(harness, project, [quiet, busy])
    for moment in sorted({change.at for found in before.values() for change in found}):
        prune(harness, project, moment)
        since = harness.store.history_since(project.number)
        assert since is not None
        assert since <= moment
        for cuid, found in before.items():
            assert [change for change in changes(harness, project, cuid) if change.at >= moment] == [
                change for change in found if change.at >= moment
            ]
    # The newest of all stays, whatever its age.
    prune(harness, project, ALWAYS)
    assert len(blocks(harness, project)) == 1


def test_changes_end_where_the_next_was_removed_whatever_packed_blocks_of_other_shards_span_its_number(
    harness: StoreHarness,
) -> None:
    project = harness.project()
    (quiet, *_), (other, *_), busy, *_ = sorted(by_shard(harness, register(harness, project, 256)), key=len)
    for cuid in (quiet, other):
        write_many(harness, project, busy, 2)
        write_many(harness, project, [cuid], 2)
    removed = harness.now + 1
    write_many(harness, project, busy, 10)
    pack(harness, project)
    write_many(harness, project, [quiet, other], 1)
    ends = {cuid: changes(harness, project, cuid)[0] for cuid in (quiet, other)}
    assert prune(harness, project, removed) > 0
    for end in ends.values():
        assert any(block.is_packed and block.contains(end.previous) for block in blocks(harness, project))
    assert all_of(harness, project, [quiet, other]) == {cuid: [end] for cuid, end in ends.items()}
    # Erasing reads all changes too.
    harness.service.erase_user(project, quiet, actor=TESTER)
    assert changes(harness, project, other) == [ends[other]]


def test_what_is_in_excess_is_removed_from_the_oldest_on_in_all_shards(
    harness: StoreHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "PACKED_CHANGES", 40)
    project = harness.project()
    cuids = register(harness, project, 64)
    write_many(harness, project, cuids, 12)
    pack(harness, project)
    before = all_of(harness, project, cuids)
    size = harness.store.history_figures(project.number).bytes
    while harness.store.history_figures(project.number).bytes > size // 2:
        assert prune(harness, project, NEVER, 1) > 0
        since = harness.store.history_since(project.number)
        assert since is not None
        for cuid, found in before.items():
            kept = changes(harness, project, cuid)
            assert kept == found[: len(kept)]
            assert all(change.at < since for change in found[len(kept) :])


def test_an_export_of_a_moment_reads_a_packed_block_of_a_quiet_shard_that_began_long_before_it(
    harness: StoreHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "PACKED_CHANGES", 3)
    monkeypatch.setattr(as_of, "QUIET_BLOCKS", 4)
    project = harness.project()
    quiet, busy, *_ = (group[0] for group in by_shard(harness, register(harness, project, 64)))
    write_many(harness, project, [quiet], 1)
    rows(harness, project, (busy, (("jg_registration_id", "first"),), "{}"), job="one")
    for _ in range(20):
        write_many(harness, project, [busy], 1)
    harness.now += 2 * as_of.LATE_MS
    moment = harness.now
    file = exported(harness)
    harness.now += 1000
    # Nothing in the row itself tells of an identifier value.
    rows(harness, project, (quiet, (("jg_registration_id", "later"),), "{}"), job="two")
    monkeypatch.setattr(history, "PACKED_CHANGES", 2)
    assert pack(harness, project) > 0
    assert "later" in rows_of_file(exported(harness))[str(quiet)]["jg_registration_id"]
    assert exported(harness, moment=moment) == file
