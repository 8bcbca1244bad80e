"""Tests of SQLite's file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import apsw
import pytest

from support.actors import TESTER
from support.store_harness import StoreHarness
from usertable.commands import users
from usertable.commands.write import WriteBatch
from usertable.domain.change import Decision
from usertable.domain.condition import parse_conditions
from usertable.domain.errors import StoreDown, StoreFault
from usertable.domain.merge import Rules
from usertable.domain.patch import Patch, Restoration
from usertable.domain.profile import Profile
from usertable.domain.values import DataType
from usertable.pipeline.channel import ThreadChannel
from usertable.pipeline.group_commit import GroupCommit
from usertable.store import open_store
from usertable.store.records import Result, Written
from usertable.store.sqlite import checkpoint, connection, migrations, store, watch
from usertable.store.sqlite.files import StoreFiles
from usertable.store.sqlite.overwrite import Overwriting
from usertable.store.transaction import Transaction


def test_a_copy_made_by_vacuum_into_is_served_like_the_original(tmp_path: Path) -> None:
    original, copy = tmp_path / "store.db", tmp_path / "copy.db"
    harness = StoreHarness(open_store(f"sqlite:///{original}"))
    project = harness.project()
    cuid = harness.user(project)
    harness.write(harness.prepare(project, cuid, {"user_bool_once": 1}))
    harness.store.close()
    db = apsw.Connection(str(original))
    db.execute("VACUUM INTO ?", (str(copy),))
    db.close()
    harness = StoreHarness(open_store(f"sqlite:///{copy}"))
    assert harness.attributes(harness.service.project("one"), cuid) == {"user_bool_once": True}
    harness.store.close()
    db = apsw.Connection(str(copy))
    assert db.pragma("journal_mode") == "wal"
    db.close()


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    open_store(f"sqlite:///{file}").close()
    assert file.stat().st_mode & 0o777 == 0o600


def test_no_checkpoint_begins_while_all_of_the_log_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite before 3.51.3 can lose a commit that comes at that moment: https://sqlite.org/wal.html#the_wal_reset_bug"""
    monkeypatch.setattr(checkpoint, "CHECKPOINT_SECONDS", 0.001)
    monkeypatch.setattr(connection, "CHECKPOINT_IDLE_SECONDS", 0.02)
    monkeypatch.setattr(connection, "CHECKPOINT_ROWS", 10)
    monkeypatch.setattr(connection, "WAL_ROWS", 40)
    harness = StoreHarness(open_store(f"sqlite:///{tmp_path / 'store.db'}", writing=True))
    project = harness.project()
    cuid = harness.user(project)
    # Closed last: closing any descriptor of a file releases the locks that SQLite has on it.
    with (tmp_path / "store.db-shm").open("rb", buffering=0) as index:

        def all_is_copied() -> bool:
            """See https://sqlite.org/walformat.html: in the WAL's index, frames are at byte 16, copied ones at 96."""
            index.seek(0)
            head = index.read(100)
            return head[16:20] == head[96:100]

        begin = checkpoint.checkpoint
        needless = []

        def watched(db: apsw.Connection) -> bool:
            needless.append(all_is_copied())
            return begin(db)

        monkeypatch.setattr(checkpoint, "checkpoint", watched)
        deadline = time.monotonic() + 150
        while len(needless) < 10:
            assert time.monotonic() < deadline
            harness.write(harness.prepare(project, cuid, {"user_number_accumulate": 1}))
            # Long enough for the WAL to be copied while nobody writes, or not.
            time.sleep(0.05 if len(needless) % 3 == 0 else 0.002)
        assert not any(needless)
        harness.store.close()


def test_the_filters_that_were_asked_for_are_not_kept_in_memory(tmp_path: Path) -> None:
    harness = StoreHarness(open_store(f"sqlite:///{tmp_path / 'store.db'}"))
    project = harness.project()
    harness.user(project)
    names = [name for name, attribute in project.schema.attributes.items() if attribute.type is DataType.NUMBER]

    def ask(numbers: range) -> int:
        for n in numbers:
            # Not only the numbers differ.
            name = names[n % len(names)]
            texts = [f"{name}:between:{n},{n}.5", f"{name}:in:{n}.25,{n}", *[f"{name}:ne:{n}.75"] * (n % 20)]
            conditions = parse_conditions(texts, project.schema, project.zone)
            harness.store.select(project.number, conditions, n, 10, 10)
            harness.store.count_matching(project.number, conditions, n, 10, 10)
            harness.store.column_values(project.number, name, n, 10)
        return apsw.status(apsw.SQLITE_STATUS_MEMORY_USED)[0]

    before = ask(range(50))
    assert ask(range(50, 500)) < before + 100_000
    harness.store.close()


def opened(file: Path) -> apsw.Connection:
    """Return a connection that has opened the WAL, which it does on its first read."""
    db = apsw.Connection(str(file))
    db.pragma("page_count")
    return db


class Shrinkable:
    """A store most of whose users were erased, so that VACUUM makes its file smaller."""

    def __init__(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(watch, "LOOK_SECONDS", 0.0)
        self.file = file
        self.harness = StoreHarness(open_store(f"sqlite:///{file}"))
        self.project = self.harness.project()
        self.cuids = self.register("first", 3000)
        self.harness.store.transact(self._erase_most)
        self.db = opened(file)
        self.checkpoint()

    def _erase_most(self, tx: Transaction) -> None:
        for cuid in self.cuids[300:]:
            users.erase(tx, self.project.number, cuid, TESTER, 0)

    def register(self, name: str, count: int) -> list[int]:
        return self.harness.service.register(self.project, "phone", [f"{name}{n}" for n in range(count)], actor=TESTER)

    def write(self) -> Result:
        (result,) = self.harness.write(self.harness.prepare(self.project, self.cuids[0], {"user_number_accumulate": 1}))
        return result

    def checkpoint(self) -> None:
        """Copy the whole WAL, and truncate the file to the size of the database."""
        frames, copied = self.db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        assert frames == copied

    def close(self) -> None:
        self.db.close()
        with contextlib.suppress(StoreFault):
            self.harness.store.close()


@pytest.fixture
def shrinkable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shrinkable]:
    shrinkable = Shrinkable(tmp_path / "store.db", monkeypatch)
    yield shrinkable
    shrinkable.close()


def test_writes_go_on_after_vacuum_while_new_pages_are_in_the_log_alone(shrinkable: Shrinkable) -> None:
    assert isinstance(shrinkable.write(), Written)
    large = shrinkable.file.stat().st_size
    # The file is not checked from here until the new pages are in the WAL.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch, "LOOK_SECONDS", 1000.0)
        shrinkable.db.execute("VACUUM")
        shrinkable.checkpoint()
        small = shrinkable.file.stat().st_size
        shrinkable.register("second", 300)
    assert shrinkable.file.stat().st_size == small < shrinkable.db.pragma("page_count") * migrations.PAGE_BYTES < large
    assert isinstance(shrinkable.write(), Written)
    shrinkable.checkpoint()
    assert isinstance(shrinkable.write(), Written)
    assert shrinkable.db.pragma("integrity_check") == "ok"


def test_a_file_that_is_cut_off_is_found_whatever_the_log_holds(shrinkable: Shrinkable) -> None:
    assert isinstance(shrinkable.write(), Written)
    # The WAL restarts, with the same few pages many times: more than the file has.
    while shrinkable.db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)[0] < 2 * shrinkable.db.pragma("page_count"):
        assert isinstance(shrinkable.write(), Written)
    whole = shrinkable.file.stat().st_size
    os.truncate(shrinkable.file, whole - 20 * migrations.PAGE_BYTES)
    with pytest.raises(StoreDown, match="was truncated while it was open"):
        shrinkable.write()
    os.truncate(shrinkable.file, whole)
    with pytest.raises(StoreDown, match="was truncated while it was open"):
        shrinkable.write()


@pytest.mark.parametrize("goes_on", [False, True], ids=["copied whole", "went on"])
def test_a_file_that_is_overwritten_before_a_new_log_begins_is_found(tmp_path: Path, goes_on: bool) -> None:
    file = tmp_path / "store.db"
    harness = StoreHarness(open_store(f"sqlite:///{file}"))
    project = harness.project()
    cuid = harness.user(project)
    older = file.read_bytes()
    observer = opened(file)

    def write(count: int) -> None:
        for _ in range(count):
            assert isinstance(harness.write(harness.prepare(project, cuid, {"user_number_accumulate": 1}))[0], Written)

    def checkpoint_all() -> None:
        frames, copied = observer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        assert frames == copied

    write(20)
    checkpoint_all()
    overwriting = Overwriting(str(file))
    assert not overwriting.is_found()
    if goes_on:
        # A reader prevents the WAL from restarting, so more of it is copied without a check.
        reader = opened(file)
        reader.execute("BEGIN; SELECT count(*) FROM project").fetchall()
        write(5)
        reader.execute("COMMIT")
        reader.close()
        checkpoint_all()
        write(10)
        assert not overwriting.is_found()
        checkpoint_all()
        assert not overwriting.is_found()
    with file.open("r+b") as stream:
        stream.write(older)
    write(3)
    assert overwriting.is_found()
    overwriting.close()
    observer.close()
    harness.store.close()


def test_a_store_whose_path_vanishes_during_a_look_is_down_and_nothing_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.0)
    folder = tmp_path / "data"
    folder.mkdir()
    harness = StoreHarness(open_store(f"sqlite:///{folder / 'store.db'}", writing=True))
    project = harness.project()
    write = harness.prepare(project, harness.user(project), {"user_bool_once": 1})
    moved = StoreFiles.moved
    goes = iter([True])

    def looked(files: StoreFiles, lacks_pages: Callable[[], bool | None]) -> str | None:
        found = moved(files, lacks_pages)
        if threading.current_thread() is threading.main_thread() and next(goes, False):
            # Immediately after all files were found in place.
            folder.rename(tmp_path / "elsewhere")
        return found

    monkeypatch.setattr(StoreFiles, "moved", looked)
    # Another thread may look meanwhile, and say that the file was moved.
    with pytest.raises(StoreDown, match="No such file"):
        harness.write(write)
    assert "cannot be asked whether it takes writes (No such file" in caplog.text
    (tmp_path / "elsewhere").rename(folder)
    assert isinstance(harness.write(write)[0], Written)
    assert "checkpoint" in {thread.name for thread in threading.enumerate()}
    harness.store.close()


def test_a_log_that_a_reader_keeps_is_copied_once_the_reader_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CHECKPOINT_IDLE_SECONDS", 0.1)
    file = tmp_path / "store.db"
    harness = StoreHarness(open_store(f"sqlite:///{file}", writing=True))
    project = harness.project()
    cuid = harness.user(project)
    reader = apsw.Connection(str(file))
    reader.execute("BEGIN; SELECT count(*) FROM project").fetchall()
    harness.write(harness.prepare(project, cuid, {"user_bool_once": 1}))
    time.sleep(1)
    observer = opened(file)

    def left() -> int:
        frames, copied = observer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
        return frames - copied

    assert left()
    reader.execute("COMMIT")
    deadline = time.monotonic() + 60
    while left():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    reader.close()
    observer.close()
    harness.store.close()


def test_a_defect_in_the_second_half_of_a_batch_of_large_rows_is_the_result_of_its_own_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = StoreHarness(open_store(f"sqlite:///{tmp_path / 'store.db'}"))
    project = harness.project()
    cuids = harness.service.register(project, "phone", [f"{n}" for n in range(8)], actor=TESTER)
    large = [f"{n:02}" + "x" * 500 for n in range(20)]
    harness.write(*(harness.prepare(project, cuid, {"user_list_overwrite": large}) for cuid in cuids))
    monkeypatch.setattr(store, "LOADED_BYTES", 60_000)

    class Broken(Rules):
        def __call__(self, profile: Profile, patch: Patch | Restoration, now: int) -> Decision:
            if any(value == 13 for _, value in patch.entries):
                raise ZeroDivisionError
            return super().__call__(profile, patch, now)

    given = [(cuid, value) for cuid in cuids for value in (1, 13 if cuid == cuids[5] else 2)]
    # All rows have 80 kB, and each half 40.
    writes = [harness.prepare(project, cuid, {"user_number_accumulate": value}) for cuid, value in given]

    async def results_of() -> Sequence[Result | BaseException]:
        commit = GroupCommit(ThreadChannel(harness.store, WriteBatch(Broken())))
        return await asyncio.gather(*map(commit.submit, writes), return_exceptions=True)

    results = asyncio.run(results_of())
    assert [type(result) for result in results] == [ZeroDivisionError if value == 13 else Written for _, value in given]
    sums = [harness.attributes(project, cuid).get("user_number_accumulate") for cuid in cuids]
    assert sums == [3, 3, 3, 3, 3, 1, 3, 3]
    harness.store.close()


class Waiting:
    """Time that passes while somebody waits. The lock of another connection is released after some waits."""

    def __init__(self, holder: apsw.Connection, waits: int) -> None:
        self._holder = holder
        self._number = waits
        self.now = 1000.0
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.waits.append(seconds)
        if self._holder.in_transaction and len(self.waits) == self._number:
            self._holder.execute("ROLLBACK")


@pytest.mark.parametrize("is_released", [True, False])
def test_removing_history_asks_for_a_held_lock_again_and_again_and_rests_only_for_what_it_held_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_released: bool
) -> None:
    file = tmp_path / "store.db"
    with contextlib.closing(open_store(f"sqlite:///{file}", serving=True)) as opened:
        harness = StoreHarness(opened)
        project = harness.project()
        cuid = harness.user(project)
        for _ in range(100):
            harness.write(harness.prepare(project, cuid, {"user_number_accumulate": 1}))
        with contextlib.closing(apsw.Connection(str(file))) as holder:
            holder.execute("BEGIN IMMEDIATE")
            waiting = Waiting(holder, 200 if is_released else 0)
            monkeypatch.setattr(connection, "time", waiting)
            monkeypatch.setattr(store, "time", waiting)

            def prune() -> int:
                return harness.store.prune_history(project.number, harness.now + 1, 0, harness.now).blocks

            if is_released:
                assert prune() > 0
                assert prune() > 0
                # Before each of them, it rests.
                assert waiting.waits == [0, *[connection.POLL_SECONDS] * 199, 0]
            else:
                with pytest.raises(StoreDown, match="locked"):
                    prune()
                assert sum(waiting.waits) == pytest.approx(connection.BUSY_SECONDS, rel=0.01)
                holder.execute("ROLLBACK")
