"""Keyframes: a row as of an earlier moment takes few steps, however many changes its user has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from contract.test_retention import pack
from support import merging
from support.actors import TESTER
from support.commands import erase_user, import_batch
from support.histories import present
from support.store_harness import StoreHarness
from usertable.domain.change import Change, Origin
from usertable.domain.history import PastUser, as_of
from usertable.domain.schema import Project
from usertable.store import history, open_store
from usertable.store import keyframes as store_keyframes
from usertable.store.history import HistoryFigures
from usertable.store.keyframes import ROW_BYTES, VERSIONS
from usertable.store.postgres import history as postgres_history
from usertable.store.queries import load_queries
from usertable.store.records import ImportBatch, ImportRows, User
from usertable.store.tables import KEYFRAMES, Row


def keyframes(harness: StoreHarness, project: Project) -> list[Row]:
    return harness.store.rows(project.number, KEYFRAMES, None, 1000)


def past(harness: StoreHarness, project: Project, cuid: int, moment: int) -> tuple[PastUser | None, int]:
    """Return a user as of a moment, and the number of changes that were read for it."""
    read = 0

    def counted(changes: Iterator[Change]) -> Iterator[Change]:
        nonlocal read
        for change in changes:
            read += 1
            yield change

    def work(user: User | None, changes: Iterator[Change]) -> PastUser | None:
        assert user is not None
        return as_of(present(user), counted(changes), moment, project.schema)

    return harness.store.with_changes(project.number, cuid, work, after=moment), read


def written(harness: StoreHarness, project: Project, cuid: int, times: int, *, batch: int = 1) -> list[User]:
    """Write to a user, and return what a read returned after each batch."""
    seen: list[User] = []
    for start in range(0, times, batch):
        harness.now += 1000
        data = [
            {"user_number_accumulate": n, "user_list_append": [str(n % 50)]} for n in range(start + 1, start + batch + 1)
        ]
        # Every other batch has keys.
        keys = [f"{cuid} {harness.now} {n}" if start // batch % 2 else "" for n in range(batch)]
        harness.write(*(harness.prepare(project, cuid, *write) for write in zip(data, keys, strict=True)))
        user = harness.store.read(project.number, cuid)
        assert user is not None
        seen.append(user)
    return seen


def test_a_user_with_many_changes_is_read_as_of_any_moment_in_few_steps(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    for user in written(harness, project, cuid, 4 * VERSIONS + 5):
        found, read = past(harness, project, cuid, user.profile.updated_at)
        assert found == present(user)
        assert read <= VERSIONS + 1


def test_a_version_that_stored_fewer_keyframes_may_have_written_or_write_beside_this_one(
    harness: StoreHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = harness.project()
    cuid = harness.user(project)
    earlier = {
        name: text.replace("{versions}", f"{2 * VERSIONS}").replace("{row_bytes}", f"{2 * ROW_BYTES}")
        for name, text in load_queries("usertable.store.postgres", "merge.sql").items()
    }
    seen: list[User] = []
    for is_earlier in (True, True, True, False, False, True, False):
        with monkeypatch.context() as patched:
            if is_earlier:
                patched.setattr(store_keyframes, "VERSIONS", 2 * VERSIONS)
                patched.setattr(store_keyframes, "ROW_BYTES", 2 * ROW_BYTES)
                patched.setattr(merging, "STATEMENTS", earlier)
            seen += written(harness, project, cuid, VERSIONS)
    assert [row[2] for row in keyframes(harness, project)] == [n * VERSIONS for n in (2, 4, 5, 6, 7)]
    rows: list[int] = []
    real = postgres_history._steps

    def counted(*arguments: Any) -> Any:
        place, found = real(*arguments)
        rows.append(len(found))
        return place, found

    monkeypatch.setattr(postgres_history, "_steps", counted)
    for is_packed in (False, True):
        if is_packed:
            pack(harness, project, harness.now + 1)
        rows.clear()
        for user in seen:
            found, read = past(harness, project, cuid, user.profile.updated_at)
            assert found == present(user)
            assert read <= 2 * VERSIONS + 1
        # On PostgreSQL, each walk is one query, also if all changes are in one packed block.
        assert len(rows) in (0, len(seen))
        assert all(count <= 2 * VERSIONS + 1 for count in rows)


def test_several_writes_of_one_batch_leave_the_same_keyframes(harness: StoreHarness) -> None:
    project = harness.project()
    cuid, other = (harness.user(project, value) for value in ("1", "2"))
    one = written(harness, project, cuid, 3 * VERSIONS, batch=VERSIONS // 2)
    written(harness, project, other, 3 * VERSIONS)
    found = {user: [row[2] for row in keyframes(harness, project) if row[1] == user] for user in (cuid, other)}
    assert found[cuid] == found[other] == [VERSIONS, 2 * VERSIONS, 3 * VERSIONS]
    for user in one:
        assert past(harness, project, cuid, user.profile.updated_at)[0] == present(user)


def test_a_user_before_it_got_an_identifier_value_does_not_have_it(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    before = written(harness, project, cuid, 2 * VERSIONS)
    assert keyframes(harness, project)
    harness.now += 1000
    rows = ImportRows.of([(cuid, (("jg_registration_id", "1a0018970a"),), "{}")])
    batch = ImportBatch(
        project.number, project.version, rows, frozenset(), harness.now, True, "job", None, origin=Origin("import:job")
    )
    import_batch(harness.store, batch, note=lambda result: "done")
    assert keyframes(harness, project) == []
    after = written(harness, project, cuid, VERSIONS)
    assert after[-1].identifiers["jg_registration_id"] == ["1a0018970a"]
    for user in (*before, *after):
        assert past(harness, project, cuid, user.profile.updated_at)[0] == present(user)


def test_large_rows_are_stored_so_seldom_that_a_change_takes_64_bytes_for_it(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    harness.write(harness.prepare(project, cuid, {"user_string_overwrite": "x" * 2 * ROW_BYTES}))
    written(harness, project, cuid, 6 * VERSIONS, batch=4)
    assert [row[2] for row in keyframes(harness, project)] == [3 * VERSIONS, 6 * VERSIONS]


def test_keyframes_are_removed_with_their_changes_and_with_their_user(harness: StoreHarness) -> None:
    project = harness.project()
    cuid, other = (harness.user(project, value) for value in ("1", "2"))
    written(harness, project, cuid, 2 * VERSIONS)
    with_keyframes = harness.store.history_figures(project.number)
    assert with_keyframes.bytes > sum(len(block.body) for block in harness.store.history_blocks(project.number, None, 1000))
    written(harness, project, other, VERSIONS)
    erase_user(harness.store, project.number, cuid)
    assert {row[1] for row in keyframes(harness, project)} == {other}
    removed = harness.store.prune_history(project.number, harness.now + 1, 0, harness.now)
    while more := harness.store.prune_history(project.number, harness.now + 1, 0, harness.now).blocks:
        assert more
    assert removed.bytes
    # The newest block stays.
    assert len(keyframes(harness, project)) <= 1


def test_keyframes_of_a_packed_block_are_removed_with_it(harness: StoreHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "PACKED_CHANGES", VERSIONS)
    project = harness.project()
    cuid = harness.user(project)
    written(harness, project, cuid, VERSIONS - 1)
    moment = harness.now + 1
    written(harness, project, cuid, 1)
    assert pack(harness, project, moment) == VERSIONS
    assert len(keyframes(harness, project)) == 1
    harness.service.edit_history(project.id, days=0, actor=TESTER)
    removed = harness.store.prune_history(project.number, None, 0, harness.now)
    assert (removed.blocks, removed.changes) == (1, VERSIONS)
    assert keyframes(harness, project) == []


def test_the_size_of_history_does_not_include_keyframes_that_were_removed(kept_url: str) -> None:
    with closing(open_store(kept_url)) as store:
        harness = StoreHarness(store)
        project = harness.project()
        cuid, other = (harness.user(project, value) for value in ("1", "2"))
        for user in (cuid, other):
            # It has fewer characters than bytes.
            harness.write(harness.prepare(project, user, {"user_string_overwrite": "等级" * 200}))
            written(harness, project, user, VERSIONS)
        assert store.history_figures(project.number) == recounted(kept_url, project)
        rows = ImportRows.of([(cuid, (("jg_registration_id", "1a0018970a"),), "{}")])
        origin = Origin("import:job")
        batch = ImportBatch(project.number, project.version, rows, frozenset(), harness.now, True, origin=origin)
        import_batch(store, batch)
        assert {row[1] for row in keyframes(harness, project)} == {other}
        assert store.history_figures(project.number) == recounted(kept_url, project)
        while store.prune_history(project.number, harness.now + 1, 0, harness.now).blocks:
            assert store.history_figures(project.number) == recounted(kept_url, project)
        erase_user(store, project.number, other)
        assert keyframes(harness, project) == []
        assert store.history_figures(project.number) == recounted(kept_url, project)


def recounted(url: str, project: Project) -> HistoryFigures:
    """Return the figures that a new process would count."""
    with closing(open_store(url)) as store:
        return store.history_figures(project.number)


def test_a_keyframe_does_not_have_what_is_not_recorded(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    written(harness, project, cuid, VERSIONS)
    harness.now += 1000
    harness.service.edit_attribute(project.id, "user_list_append", history=False, actor=TESTER)
    project = harness.service.project(project.id)
    seen = written(harness, project, cuid, 2 * VERSIONS, batch=2)
    assert ["user_list_append" in row[4] for row in keyframes(harness, project)] == [True, False, False]
    for user in seen:
        found, _ = past(harness, project, cuid, user.profile.updated_at)
        assert found is not None
        assert found.attributes == {"user_number_accumulate": user.profile.attributes["user_number_accumulate"]}
        assert found.not_kept == ["user_list_append"]
