"""Old history is removed and packed, and what is read of the rest stays the same."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.test_history import changes, past, present, rows, sent
from support.actors import TESTER
from support.commands import edit_project, erase_user
from support.store_harness import StoreHarness
from usertable.domain.change import ChangeKind
from usertable.domain.errors import ProblemKind, Refused
from usertable.domain.moments import DAY_MS
from usertable.domain.schema import HistorySettings, Project
from usertable.store import history, open_store, packing
from usertable.store.copy import copy_store
from usertable.store.history import PACKED_CHANGES, PLACES, BlockSize, HistoryBlock
from usertable.store.memory import MemoryStore
from usertable.store.packing import StoredChange
from usertable.store.postgres import PostgresStore
from usertable.store.postgres import history as postgres_history

NEVER = 0
ALWAYS = 2**62


def blocks(harness: StoreHarness, project: Project) -> list[HistoryBlock]:
    """Return all blocks of a project, the oldest first."""
    return harness.store.history_blocks(project.number, None, 10_000)[::-1]


def prune(harness: StoreHarness, project: Project, before: int, excess: int = 0) -> int:
    """Remove what there is to remove, and return the number of blocks."""
    removed = 0
    while pruned := harness.store.prune_history(project.number, before, excess, harness.now).blocks:
        removed += pruned
        excess = 0
    return removed


def pack(harness: StoreHarness, project: Project, before: int = ALWAYS) -> int:
    """Pack what there is to pack, and return the number of blocks."""
    packed = 0
    while (number := harness.store.pack_history(project.number, before).blocks) or is_waiting(harness):
        packed += number
    return packed


def is_waiting(harness: StoreHarness) -> bool:
    """Return whether there may be more to pack: because of other transactions of the server, also in other databases."""
    return isinstance(harness.store, PostgresStore) and harness.store.packer.is_waiting


def neighbors(harness: StoreHarness, project: Project, count: int) -> list[int]:
    """Create users, and return some whose changes are in the same blocks: on Citus, those of one shard."""
    shards = harness.store.connections.shards() if isinstance(harness.store, PostgresStore) else None
    number = count if shards is None else 6 * count
    cuids = list(harness.service.register(project, "phone", [f"p{n}" for n in range(number)], actor=TESTER))
    if shards is not None:
        cuids = [cuid for cuid in cuids if shards.shard(cuid) == shards.shard(cuids[0])][:count]
    assert len(cuids) == count
    return cuids


def blocks_of(harness: StoreHarness, project: Project, cuids: list[int]) -> list[HistoryBlock]:
    """Return the blocks with changes of any of the users, the oldest first."""
    found = blocks(harness, project)
    return [block for block in found if any(set(users) & set(cuids) for _, users in block.all_changes())]


def write_many(harness: StoreHarness, project: Project, cuids: list[int], times: int) -> None:
    """Write each user `times` times, in blocks of all of them, each later than the one before."""
    for count in range(times):
        harness.now += 1000
        data = {"user_number_accumulate": count, "user_string_overwrite": f"value {count}"}
        # As a server numbers them.
        requests = [f"5f0c1d2e9a77-{harness.now // 1000 + number:x}" for number in range(len(cuids))]
        writes = zip(cuids, requests, strict=True)
        harness.write(*(harness.prepare(project, cuid, data, request=request) for cuid, request in writes))


def test_history_before_a_moment_is_removed_and_what_is_asked_of_it_is_refused(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    seen = {}
    for count in range(6):
        harness.now += 1000
        harness.write(harness.prepare(project, cuid, {"user_number_accumulate": 1, "user_string_overwrite": str(count)}))
        user = harness.store.read(project.number, cuid)
        assert user is not None
        seen[harness.now] = present(user)
    cut = harness.now - 2000
    assert prune(harness, project, cut) == 4
    since = harness.store.history_since(project.number)
    assert since == cut - 1000 + 1
    for moment, row in seen.items():
        if moment >= since:
            assert past(harness, project, cuid, moment) == row
            assert harness.service.user_as_of(project, cuid, moment) == row
    assert past(harness, project, cuid, since) == seen[cut - 1000]
    with pytest.raises(Refused) as refused:
        harness.service.user_as_of(project, cuid, since - 1)
    assert refused.value.problems[0].kind == "history_gone"
    assert [change.at for change in changes(harness, project, cuid)] == [cut + 2000, cut + 1000, cut]
    assert prune(harness, project, cut) == 0


def test_history_in_excess_is_removed_from_the_oldest_on(harness: StoreHarness) -> None:
    project = harness.project()
    write_many(harness, project, [harness.user(project)], 10)
    figures = harness.store.history_figures(project.number)
    oldest = blocks(harness, project)[0]
    assert prune(harness, project, NEVER, 1) == 1
    after = harness.store.history_figures(project.number)
    assert (after.blocks, after.changes) == (figures.blocks - 1, figures.changes - 1)
    assert after.bytes == figures.bytes - len(oldest.body)
    assert harness.store.history_since(project.number) == oldest.latest + 1


def test_a_clock_that_was_years_behind_for_a_moment_does_not_take_history_with_it(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    write_many(harness, project, [cuid], 5)
    found = changes(harness, project, cuid)
    today, harness.now = harness.now, 1000
    harness.user(project, "18012345679")
    harness.now = today
    write_many(harness, project, [cuid], 1)
    since = harness.store.history_since(project.number)
    assert prune(harness, project, found[-1].at) == 0
    assert changes(harness, project, cuid)[1:] == found
    assert harness.store.history_since(project.number) == since
    # Once all of what was before it is old enough, too, it goes with that.
    assert prune(harness, project, today) == 5
    assert prune(harness, project, today + 1) == 2


def test_the_newest_block_stays_so_that_no_number_is_used_twice(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    write_many(harness, project, [cuid], 3)
    newest = blocks(harness, project)[-1]
    prune(harness, project, ALWAYS)
    assert blocks(harness, project) == [newest]
    harness.write(harness.prepare(project, cuid, {"user_number_accumulate": 1}))
    assert blocks(harness, project)[-1].block > newest.block


def test_since_never_moves_back_and_does_not_come_back_once_history_is_off(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    write_many(harness, project, [cuid], 3)
    edit_project(harness.store, project.id, lambda p: _with_days(p, 0), TESTER, harness.now)
    prune(harness, project, ALWAYS)
    assert harness.store.history_since(project.number) is None
    harness.now += 10_000
    project = edit_project(harness.store, project.id, lambda p: _with_days(p, 7), TESTER, harness.now)
    on = harness.store.history_since(project.number)
    assert on == harness.now
    harness.write(harness.prepare(project, cuid, {"user_number_accumulate": 1}))
    assert prune(harness, project, on) == 1
    assert harness.store.history_since(project.number) == on


def _with_days(project: Project, days: int) -> Project:
    return replace(project, history=HistorySettings(days=days))


def test_packed_changes_are_read_as_before(harness: StoreHarness) -> None:
    project = harness.project()
    cuids = neighbors(harness, project, 64)
    write_many(harness, project, cuids, 20)
    kept = {cuid: changes(harness, project, cuid) for cuid in cuids}
    before = harness.store.history_figures(project.number)
    packed = pack(harness, project)
    assert packed >= PACKED_CHANGES // 64
    assert {cuid: changes(harness, project, cuid) for cuid in cuids} == kept
    first = blocks_of(harness, project, cuids)[0]
    assert first.is_packed
    assert first.last > first.block
    after = harness.store.history_figures(project.number)
    assert after.changes == before.changes
    assert after.blocks == before.blocks - packed + sum(block.is_packed for block in blocks(harness, project))
    assert after.bytes < before.bytes
    write_many(harness, project, cuids, 1)
    assert [change.number for change in changes(harness, project, cuids[0])][1:] == [c.number for c in kept[cuids[0]]]
    assert pack(harness, project) == 0


def test_a_number_that_no_packed_change_has_is_refused(harness: StoreHarness) -> None:
    project = harness.project()
    cuids = neighbors(harness, project, 40)
    for number in range(0, 1260, 42):
        # Nobody has the first and the last CUID: where the database merges, these places are not used.
        writes = [
            harness.prepare(project, cuid, {"user_number_accumulate": 1}, request=f"5f0c1d2e9a77-{number + place:x}")
            for place, cuid in enumerate([77, *cuids, 78])
        ]
        harness.write(*(replace(write, details=False) for write in writes))
    used = {change.number for block in blocks(harness, project) for change, _ in block.all_changes()}
    pack(harness, project)
    packed = [block for block in blocks_of(harness, project, cuids) if block.is_packed]
    assert len(packed) >= 2
    numbers = {
        number * PLACES + place
        for block in packed
        for number in range(block.block, block.last + 1)
        for place in (0, 1, 40, 41, 42, 80, 700, 1023)
    }
    for number in sorted(numbers - used):
        with pytest.raises(Refused) as refused:
            harness.service.changes(project, cuids[7], before=number)
        assert refused.value.problems[0].kind is ProblemKind.PARAMETER


@pytest.mark.parametrize("packed_by", ["this version", "an earlier version"])
def test_packed_changes_are_followed_in_the_database_as_far_as_it_knows_the_way(
    shared_url: str, packed_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = 0
    real = postgres_history._steps

    def counted(*arguments: Any) -> Any:
        nonlocal queries
        queries += 1
        return real(*arguments)

    with contextlib.closing(open_store(shared_url)) as store:
        harness = StoreHarness(store)
        project = harness.project()
        cuids = neighbors(harness, project, 64)
        harness.now += 1000
        moment = harness.now
        write_many(harness, project, cuids, 15)
        # Other users in a block, and several changes of one user in it.
        write_many(harness, project, [*cuids[:9], *cuids[:9], cuids[1]], 4)
        write_many(harness, project, cuids, 8)
        kept = [changes(harness, project, cuid) for cuid in cuids]
        pack(harness, project)
        assert sum(block.is_packed for block in blocks_of(harness, project, cuids)) >= 3
        if packed_by == "an earlier version":
            with psycopg.connect(shared_url) as db:
                db.execute("UPDATE usertable.history SET firsts = NULL, shifts = NULL, backs = NULL")
        assert [changes(harness, project, cuid) for cuid in cuids] == kept
        monkeypatch.setattr(postgres_history, "_steps", counted)
        for cuid in (cuids[0], cuids[1], cuids[20]):
            queries = 0
            assert harness.service.user_as_of(project, cuid, moment).attributes == {}
            assert (queries == 1) == (packed_by == "this version")


def test_a_packed_block_says_where_the_previous_changes_are() -> None:
    changes = [(3, 0), (4, 2**31), (5, 2**31 - 1), (1024, 7), (1026, 1)]
    body = packing.pack([StoredChange(place, 1, 1, 1, back, 5, 4, 0, "key:a") for place, back in changes])
    links = postgres_history._links(HistoryBlock(1, 2, 5, 5, body))
    assert links == ([3, 1024, 1026], [3, 1021, 1022], [0, 0, 2**31 - 1, 7, 1])


def test_two_servers_pack_one_store_in_turn(shared_url: str) -> None:
    with contextlib.closing(open_store(shared_url)) as one, contextlib.closing(open_store(shared_url)) as other:
        first, second = StoreHarness(one), StoreHarness(other)
        project = first.project()
        cuids = neighbors(first, project, 64)
        for _ in range(3):
            write_many(first, project, cuids, 16)
            second.now = first.now
            kept = changes(first, project, cuids[0])
            assert pack(second, project) >= 8
            assert pack(first, project) == 0
            write_many(first, project, cuids, 16)
            assert pack(first, project) >= 8
            assert pack(second, project) == 0
            assert changes(second, project, cuids[0])[16:] == kept


def test_a_block_whose_number_was_drawn_earlier_is_not_hidden_by_a_packed_one(shared_url: str) -> None:
    with contextlib.closing(open_store(shared_url)) as store:
        harness = StoreHarness(store)
        project = harness.project()
        cuids = neighbors(harness, project, 64)
        write_many(harness, project, cuids, 8)
        with psycopg.connect(shared_url, autocommit=True) as db:
            # A transaction that has drawn a number, and is still open.
            db.execute("BEGIN")
            db.execute("SELECT usertable.draw_block()")
            write_many(harness, project, cuids, 16)
            kept = {cuid: changes(harness, project, cuid) for cuid in cuids}
            assert harness.store.pack_history(project.number, ALWAYS).blocks == 0
            assert not [block for block in blocks(harness, project) if block.is_packed]
            db.execute("COMMIT")
        assert pack(harness, project) >= 16
        assert {cuid: changes(harness, project, cuid) for cuid in cuids} == kept


def test_packed_history_is_copied_to_and_from_every_engine(harness: StoreHarness) -> None:
    first = StoreHarness(MemoryStore())
    project = first.project()
    cuids = list(first.service.register(project, "phone", [f"p{n}" for n in range(64)], actor=TESTER))
    write_many(first, project, cuids, 17)
    assert pack(first, project) == 17
    kept = {cuid: changes(first, project, cuid) for cuid in cuids}
    copy_store(first.store, harness.store, lambda *_: None)
    assert blocks(harness, project) == blocks(first, project)
    assert {cuid: changes(harness, project, cuid) for cuid in cuids} == kept
    last = StoreHarness(MemoryStore())
    copy_store(harness.store, last.store, lambda *_: None)
    assert {cuid: changes(last, project, cuid) for cuid in cuids} == kept


def test_what_is_younger_than_the_moment_is_not_packed(harness: StoreHarness) -> None:
    project = harness.project()
    cuids = neighbors(harness, project, 512)
    write_many(harness, project, cuids, 3)
    assert pack(harness, project, harness.now - 2000) == 0
    # With the block in which the users were created.
    assert pack(harness, project, harness.now - 1999) == 2
    assert pack(harness, project, harness.now) == 1


def test_a_packed_block_has_few_large_changes_because_reading_one_decompresses_all_of_them(
    harness: StoreHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "PACKED_BYTES", 3000)
    project = harness.project()
    cuid = harness.user(project)
    for size in (300, 300, 300, 300, 300, 300, 8000, 300):
        harness.now += 1000
        # As compressible as can be: what counts is the size before that.
        harness.write(harness.prepare(project, cuid, {"user_string_overwrite": f"{size}" + "x" * size}))
    before = changes(harness, project, cuid)
    pack(harness, project)
    packed = [block for block in blocks(harness, project) if block.is_packed]
    assert len(packed) >= 2
    # Each ends with the block that makes it large enough, and no other is as large.
    for block in packed:
        *others, _ = [change.size for change, _ in block.all_changes()]
        assert sum(others) < 3000
    assert max(change.size for change, _ in packed[-1].all_changes()) > 8000
    assert changes(harness, project, cuid) == before
    assert pack(harness, project) == 0


def test_a_packed_block_is_pruned_as_a_whole(harness: StoreHarness) -> None:
    project = harness.project()
    cuids = neighbors(harness, project, 512)
    write_many(harness, project, cuids, 4)
    pack(harness, project)
    first = blocks_of(harness, project, cuids)[0]
    # On Citus, the users of other shards were created in blocks of their own.
    others = [block for block in blocks(harness, project) if block.last < first.last]
    assert prune(harness, project, first.latest) == len(others)
    assert prune(harness, project, first.latest + 1) == 1
    assert harness.store.history_since(project.number) == first.latest + 1
    for cuid in cuids[:3]:
        assert all(change.at > first.latest for change in changes(harness, project, cuid))


def test_erasing_a_user_reaches_packed_changes(harness: StoreHarness) -> None:
    project = harness.project()
    cuids = list(harness.service.register(project, "phone", [f"p{n}" for n in range(64)], actor=TESTER))
    write_many(harness, project, cuids, 17)
    harness.write(harness.prepare(project, cuids[0], {"user_string_overwrite": "secret"}))
    harness.write(harness.prepare(project, cuids[0], {"user_string_overwrite": "later"}))
    write_many(harness, project, cuids, 17)
    pack(harness, project)
    others = {cuid: changes(harness, project, cuid) for cuid in cuids[1:]}
    assert erase_user(harness.store, project.number, cuids[0])
    assert {cuid: changes(harness, project, cuid) for cuid in cuids[1:]} == others
    stored = [change for block in blocks(harness, project) for change, users in block.all_changes() if users == [cuids[0]]]
    assert {change.kind for change in stored} == {ChangeKind.ERASED}
    assert "secret" not in repr(stored)


def test_what_another_process_erases_is_taken_off_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usertable.store.sqlite.history.STRETCH", 4)
    url = f"sqlite:///{tmp_path / 'store.db'}"
    server, other = StoreHarness(open_store(url)), StoreHarness(open_store(url))
    project = server.project()
    erased, kept = server.service.register(project, "phone", ["a", "b"], actor=TESTER)
    for size in (100, 200, 300, 400, 500):
        server.now += 1000
        value = "".join(chr(ord("a") + (size * number) % 23) for number in range(size))
        for cuid in (erased, kept):
            server.write(server.prepare(project, cuid, {"user_string_overwrite": value}))
    before = server.store.history_figures(project.number)
    assert erase_user(other.store, project.number, erased)
    stretches = before.blocks // 4 + 1
    for _ in range(stretches):
        server.store.pack_history(project.number, NEVER)
    after = server.store.history_figures(project.number)
    assert after.bytes == sum(len(block.body) for block in blocks(server, project)) < before.bytes
    assert (after.blocks, after.changes) == (before.blocks + 1, before.changes + 1)
    growth = server.store.history_growth(project.number, 0)
    assert (growth.changes, growth.bytes) == (after.changes, after.bytes)
    write_many(server, project, [kept], 3)
    pack(server, project)
    for _ in range(stretches + 2):
        server.store.pack_history(project.number, NEVER)
    found = server.store.history_figures(project.number)
    stored = blocks(server, project)
    assert (found.blocks, found.changes) == (len(stored), sum(block.changes for block in stored))
    assert found.bytes == sum(len(block.body) for block in stored)
    for harness in (server, other):
        harness.store.close()


def test_growth_and_figures_follow_writes_packing_and_pruning(harness: StoreHarness) -> None:
    project = harness.project()
    cuids = list(harness.service.register(project, "phone", [f"p{n}" for n in range(64)], actor=TESTER))
    for _ in range(4):
        write_many(harness, project, cuids, 8)
        pack(harness, project, harness.now - 3000)
        prune(harness, project, harness.now - 30_000)
        stored = blocks(harness, project)
        figures = harness.store.history_figures(project.number)
        assert (figures.blocks, figures.changes) == (len(stored), sum(block.changes for block in stored))
        assert (figures.oldest, figures.newest) == (stored[0].latest, stored[-1].latest)
        growth = harness.store.history_growth(project.number, harness.now - 3_600_000)
        assert (growth.changes, growth.bytes) == (figures.changes, figures.bytes)
        assert harness.store.history_growth(project.number, harness.now + 7_200_000).changes == 0


steps = st.lists(
    st.tuples(st.just("write"), st.integers(0, 2), sent, st.sampled_from(["key:a", "key:b"]), st.integers(0, 2))
    | st.tuples(st.just("pack"), st.integers(0, 4))
    | st.tuples(st.just("prune"), st.integers(0, 8)),
    min_size=1,
    max_size=40,
)


def test_one_block_of_a_clock_that_was_behind_takes_no_younger_ones_with_it() -> None:
    blocks = [BlockSize(number, 1, latest, 100) for number, latest in enumerate((10, 20, 30, 40, 50, 1, 60))]
    assert history.to_prune(blocks, 25, 0, 60) == blocks[:2]
    assert history.to_prune(blocks, 45, 0, 60) == blocks[:4]
    assert history.to_prune(blocks, 55, 0, 60) == blocks[:6]


def test_however_many_blocks_of_a_clock_that_was_behind_take_no_younger_ones_with_them() -> None:
    times = (*range(100, 110), *[1] * 200, *range(110, 120))
    blocks = [BlockSize(number, 1, latest, 100) for number, latest in enumerate(times)]
    assert history.to_prune(blocks, 50, 0, 120) == []
    assert history.to_prune(blocks, 105, 0, 120) == blocks[:5]
    assert history.to_prune(blocks, 110, 0, 120) == blocks[: history.PRUNED_BLOCKS]


def test_blocks_of_a_clock_that_was_ahead_do_not_keep_those_after_them() -> None:
    blocks = [BlockSize(number, 1, latest, 100) for number, latest in enumerate((10, 9000, 9000, 20, 9000, 30, 40))]
    assert history.to_prune(blocks, 35, 0, 50) == blocks[:6]
    assert history.kept_since(blocks[:6], 35, 0, 50) == 35
    # Their time does not say since when the rest is kept, either.
    assert history.to_prune(blocks, 0, 350, 50) == blocks[:4]
    assert history.kept_since(blocks[:4], 0, 350, 50) == 21


def test_however_many_blocks_of_a_clock_that_was_ahead_do_not_end_retention_by_days(
    harness: StoreHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "EXAMINED_BLOCKS", 4)
    project = harness.project()
    ahead, cuid = harness.service.register(project, "phone", ["a", "b"], actor=TESTER)
    today = harness.now
    harness.now += 365 * DAY_MS
    write_many(harness, project, [ahead], 20)
    harness.now = today + DAY_MS
    write_many(harness, project, [cuid], 2)
    # What is recent stays, and so does what was written before it. On Citus, users of two shards were created in two blocks.
    assert prune(harness, project, today + DAY_MS // 2) > 0
    assert prune(harness, project, today + DAY_MS // 2) == 0
    harness.now += DAY_MS
    write_many(harness, project, [cuid], 1)
    assert prune(harness, project, harness.now - DAY_MS // 2) == 22
    assert harness.store.history_since(project.number) == harness.now - DAY_MS // 2


def test_blocks_of_a_clock_that_was_ahead_do_not_keep_those_after_them_from_being_packed(
    harness: StoreHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "PACKED_CHANGES", 4)
    project = harness.project()
    ahead, cuid = neighbors(harness, project, 2)
    today = harness.now
    harness.now += 365 * DAY_MS
    write_many(harness, project, [ahead], 6)
    harness.now = today
    write_many(harness, project, [cuid], 6)
    before = {user: changes(harness, project, user) for user in (ahead, cuid)}
    pack(harness, project, harness.now)
    packed = [block for block in blocks(harness, project) if block.is_packed]
    # No block has changes of both times.
    assert {block.latest > harness.now for block in packed} == {True, False}
    assert all(len({change.at > harness.now for change, _ in block.all_changes()}) == 1 for block in packed)
    assert {user: changes(harness, project, user) for user in (ahead, cuid)} == before
    # What is of the last hour is not packed yet.
    assert not blocks(harness, project)[-1].is_packed


def test_many_blocks_of_a_clock_that_was_behind_make_no_answer_wrong(harness: StoreHarness) -> None:
    project = harness.project()
    (cuid,) = harness.service.register(project, "phone", ["a"], actor=TESTER)
    harness.now += 10_000
    moment = harness.now
    harness.now += 1000
    # Identifier values do not change the version, by which a row would show that a change of it is missing.
    rows(harness, project, (cuid, (("jg_registration_id", "r-1"),), "{}"), job="one")
    today, harness.now = harness.now, 1000
    for count in range(6):
        harness.service.register(project, "phone", [f"behind-{count}"], actor=TESTER)
    harness.now = today + 1000
    harness.service.register(project, "phone", ["b"], actor=TESTER)
    prune(harness, project, moment)
    since = harness.store.history_since(project.number)
    assert since is not None
    assert since <= moment
    assert harness.service.user_as_of(project, cuid, moment).identifiers == {"phone": ["a"]}


@given(steps)
@settings(max_examples=300, deadline=None)
def test_packing_and_pruning_at_any_moment_change_no_answer_that_history_still_gives(steps: list[Any]) -> None:
    harness, plain = StoreHarness(MemoryStore()), StoreHarness(MemoryStore())
    projects = [each.project() for each in (harness, plain)]
    cuids = harness.service.register(projects[0], "phone", ["a", "b", "c"], actor=TESTER)
    assert plain.service.register(projects[1], "phone", ["a", "b", "c"], actor=TESTER) == cuids
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "PACKED_CHANGES", 3)
        for step in steps:
            if step[0] == "write":
                _, user, data, actor, pause = step
                for each, project in zip((harness, plain), projects, strict=True):
                    each.now += pause
                    # Whether a report that changes nothing is recorded depends on what is still kept; here, each is.
                    each.write(replace(each.prepare(project, cuids[user], data, actor=actor), all_reports=True))
            elif step[0] == "pack":
                harness.store.pack_history(projects[0].number, harness.now - step[1])
            else:
                harness.store.prune_history(projects[0].number, harness.now - step[1], 0, harness.now)
    since = harness.store.history_since(projects[0].number)
    assert since is not None
    for cuid in cuids:
        for moment in range(since, harness.now + 1):
            assert past(harness, projects[0], cuid, moment) == past(plain, projects[1], cuid, moment)
        kept, whole = changes(harness, projects[0], cuid), changes(plain, projects[1], cuid)
        assert kept == whole[: len(kept)]
        assert all(change.at < since for change in whole[len(kept) :])
