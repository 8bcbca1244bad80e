"""The spool on disk: stored records are there again, in order, however its writer was interrupted; damage is reported."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.clients import any_client
from support.faulty_proxy import faulty_proxy
from support.waiting import DEADLINE_SECONDS
from usertable import Client, Record
from usertable.client import BufferFull, NotDelivered, Retry, SpoolFault
from usertable.client.spool import LEAST_BYTES, Entry, Spool
from usertable.testing import Server

LIMIT = 2**20


def keep(spool: Spool, *marks: str, size: int = 0) -> None:
    spool.append(spool.frame([(7, {"a": mark, "b": "x" * size}, mark) for mark in marks]), len(marks))


def everything(folder: Path) -> list[str]:
    spool = Spool(folder, LIMIT)
    found = keys(take_all(spool))
    assert spool.waiting == len(found)
    spool.close()
    return found


def take_all(spool: Spool) -> list[Entry]:
    found: list[Entry] = []
    while entries := spool.take(3):
        found += entries
    return found


def keys(entries: list[Entry]) -> list[str]:
    return [entry.key for entry in entries]


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*.spool"))


def test_a_record_that_was_cut_off_is_dropped_and_no_other(tmp_path: Path) -> None:
    """For every byte at which the last write may have ended."""
    spool = Spool(tmp_path / "whole", LIMIT)
    keep(spool, "a")
    keep(spool, "b", "c")
    before = spool.size
    keep(spool, "d")
    spool.close()
    (segment,) = segments(tmp_path / "whole")
    data = segment.read_bytes()
    for end in range(before, len(data) + 1):
        folder = tmp_path / str(end)
        folder.mkdir()
        (folder / segment.name).write_bytes(data[:end])
        kept = ["a", "b", "c"] + ["d"] * (end == len(data))
        assert everything(folder) == kept
        # The next record is written after it.
        again = Spool(folder, LIMIT)
        keep(again, "e")
        again.close()
        assert everything(folder) == [*kept, "e"]
    # A file system may extend the file before it writes the data.
    (tmp_path / "zeros").mkdir()
    (tmp_path / "zeros" / segment.name).write_bytes(data[:before] + b"\0" * 500)
    assert everything(tmp_path / "zeros") == ["a", "b", "c"]


def test_damage_before_the_end_is_told(tmp_path: Path) -> None:
    spool = Spool(tmp_path, LIMIT)
    keep(spool, "a")
    place = spool.size - 3
    keep(spool, "b")
    spool.close()
    (segment,) = segments(tmp_path)
    data = bytearray(segment.read_bytes())
    data[place] ^= 1
    segment.write_bytes(data)
    with pytest.raises(SpoolFault, match=r"is damaged at byte \d+"):
        Spool(tmp_path, LIMIT)
    segment.write_bytes(b"something else altogether")
    with pytest.raises(SpoolFault, match="is not a spool of this version"):
        Spool(tmp_path, LIMIT)


def test_one_owner_at_a_time_and_no_tiny_one(tmp_path: Path) -> None:
    spool = Spool(tmp_path, LIMIT)
    with pytest.raises(SpoolFault, match="in use"):
        Spool(tmp_path, LIMIT)
    spool.close()
    Spool(tmp_path, LIMIT).close()
    with pytest.raises(ValueError, match="expected 65536 or more"):
        Spool(tmp_path, LEAST_BYTES - 1)


def test_space_comes_back_as_records_are_done(tmp_path: Path) -> None:
    spool = Spool(tmp_path, LIMIT)
    count = 0
    frame = spool.frame([(7, {"a": "x" * 1000}, "k")])
    while spool.has_room(len(frame)):
        spool.append(frame, 1)
        count += 1
    assert 500 < count < 1000
    assert spool.size <= LIMIT
    assert len(segments(tmp_path)) > 5
    for _ in range(count // 2):
        (entry,) = spool.take(1)
        spool.settle(1)
        spool.mark_done(entry.end)
    assert spool.has_room(100 * len(frame))
    assert spool.size < LIMIT * 0.6
    assert sum(f.stat().st_size for f in segments(tmp_path)) == spool.size
    spool.close()
    assert len(everything(tmp_path)) == count - count // 2


steps = st.lists(
    st.one_of(
        st.tuples(st.just("keep"), st.integers(1, 4), st.sampled_from([0, 10, 3000])),
        st.tuples(st.just("take"), st.integers(1, 8), st.just(0)),
        st.tuples(st.just("done"), st.just(0), st.just(0)),
        st.tuples(st.just("reopen"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=100, deadline=None)
@given(steps)
def test_it_is_a_queue_that_survives(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]) -> None:
    """Compared with a list: records stored and not marked as done are returned again, in order, after each opening."""
    folder = tmp_path_factory.mktemp("spool")
    limit = LEAST_BYTES
    spool = Spool(folder, limit)
    kept: list[str] = []
    taken = done = count = 0
    last: list[Entry] = []
    for step, number, size in steps:
        if step == "keep":
            marks = [str(count + n) for n in range(number)]
            if spool.has_room(number * (size + 100)):
                keep(spool, *marks, size=size)
                kept += marks
                count += number
        elif step == "take":
            last = spool.take(number)
            assert keys(last) == kept[taken : taken + len(last)]
            assert bool(last) == (taken < len(kept))
            taken += len(last)
            if last:
                spool.mark_sent(last[-1].end, 5)
        elif step == "done" and last:
            spool.settle(taken - done)
            spool.mark_done(last[-1].end)
            done, last = taken, []
        elif step == "reopen":
            sent = spool.sent
            spool.close()
            spool = Spool(folder, limit)
            assert spool.sent == sent
            taken, last = done, []
        assert spool.waiting == len(kept) - done
    spool.close()


def test_a_disk_without_room_refuses_the_record_and_goes_on(tmp_path: Path) -> None:
    """The limit on file sizes makes every write past it fail, like a full disk."""
    with Client("http://127.0.0.1:9", "p", "s", retry=Retry(attempts=1)) as nowhere:
        buffer = nowhere.buffer(spool=tmp_path, close_seconds=0)
        buffer.set(7, {"a": "kept"}, key="first")
        (segment,) = segments(tmp_path)
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (segment.stat().st_size + 60, unlimited[1]))
        try:
            with pytest.raises(OSError, match=r"no room|too large"):
                buffer.set(7, {"a": "x" * 500})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        buffer.set(7, {"a": "kept too"}, key="second")
        with pytest.raises(NotDelivered, match="2 records"):
            buffer.close()
    assert everything(tmp_path) == ["first", "second"]


def test_a_full_spool_refuses_or_waits(tmp_path: Path) -> None:
    with Client("http://127.0.0.1:9", "p", "s", retry=Retry(attempts=1)) as nowhere:
        buffer = nowhere.buffer(spool=tmp_path, spool_bytes=LEAST_BYTES, full="raise", close_seconds=0)
        with pytest.raises(BufferFull):  # noqa: PT012
            while True:
                buffer.set(7, {"a": "x" * 5000})
        with pytest.raises(ValueError, match="at once"):
            buffer.add([Record(7, {"a": "x" * 5000})] * 10)
        assert sum(f.stat().st_size for f in segments(tmp_path)) <= LEAST_BYTES
        with pytest.raises(NotDelivered):
            buffer.close()


def test_a_record_is_flushed_before_it_is_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        flushed.append(os.fstat(descriptor).st_size)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    spool = Spool(tmp_path, LIMIT)
    for mark in "abc":
        keep(spool, mark)
        assert flushed[-1] == spool.size
    spool.close()


def full_disk(size: int) -> contextlib.AbstractContextManager[None]:
    """Limit files to that many bytes during the block: a write beyond it is partial, and the next one fails."""

    @contextlib.contextmanager
    def limited() -> Iterator[None]:
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, unlimited[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)

    return limited()


@pytest.mark.parametrize("room", [0, 5, 17, 18, 40, 90])
def test_a_segment_that_a_full_disk_did_not_take_is_begun_when_there_is_room(tmp_path: Path, room: int) -> None:
    spool = Spool(tmp_path, LEAST_BYTES)
    while spool.size <= LEAST_BYTES // 16:
        keep(spool, "before", size=700)
    files = segments(tmp_path)
    for _ in range(3):
        with full_disk(room), pytest.raises(OSError, match=r"no room|too large"):
            keep(spool, "refused")
        assert segments(tmp_path) == files
    waits = spool.waiting
    keep(spool, "after")
    assert len(segments(tmp_path)) == 2
    spool.close()
    found = everything(tmp_path)
    assert found[-1] == "after"
    assert (len(found), "refused" in found) == (waits + 1, False)


def test_what_was_written_in_part_is_written_over(tmp_path: Path) -> None:
    """Also if the partial record cannot be removed, as on a failing disk."""
    spool = Spool(tmp_path, LIMIT)
    keep(spool, "a")
    for room in range(0, 300, 7):
        with full_disk(spool.size + room), pytest.raises(OSError, match=r"no room|too large"):
            keep(spool, "refused", size=400)
        keep(spool, str(room))
    spool.close()
    assert everything(tmp_path) == ["a", *map(str, range(0, 300, 7))]


def test_the_folders_that_a_spool_makes_are_synced_in_their_parents(tmp_path: Path, synced: list[Path]) -> None:
    Spool(tmp_path / "a" / "b" / "c", LIMIT).close()
    assert {tmp_path, tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "c"} <= set(synced)
    # A process that was killed may have made the last of them and not synced it.
    synced.clear()
    Spool(tmp_path / "a" / "b" / "c", LIMIT).close()
    assert tmp_path / "a" / "b" in synced


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.spool").write_text("not ours")
    spool = Spool(tmp_path, LIMIT)
    keep(spool, "a")
    spool.close()
    assert everything(tmp_path) == ["a"]
    assert (tmp_path / "notes.spool").read_text() == "not ours"


KINDS = pytest.mark.parametrize("kind", ["sync", "async"])
FIVE = [f"kept-{n}" for n in range(5)]


@contextlib.contextmanager
def buffering(kind: str, folder: Path, **settings: Any) -> Iterator[tuple[Any, list[NotDelivered]]]:
    """Yield a buffer of either kind with a spool and an unreachable server, and expect its exit to raise."""
    told: list[NotDelivered] = []
    with any_client(kind, "http://127.0.0.1:9", "p", "s", retry=Retry(attempts=1)) as client:
        try:
            with client.buffer(spool=folder, close_seconds=0, **settings) as buffer:
                yield buffer, told
        except NotDelivered as failure:
            told.append(failure)


def removed(folder: Path) -> None:
    shutil.rmtree(folder)


def moved(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))


def replaced_by_another_spool(folder: Path) -> None:
    moved(folder)
    other = Spool(folder, LIMIT)
    keep(other, "another's")
    other.close()


def replaced_by_its_copy(folder: Path) -> None:
    shutil.copytree(folder, folder.with_name("copy"))
    shutil.rmtree(folder)
    folder.with_name("copy").rename(folder)


def segment_deleted(folder: Path) -> None:
    (segment,) = segments(folder)
    segment.unlink()


def lock_deleted(folder: Path) -> None:
    (folder / "lock").unlink()


HAPPENS = pytest.mark.parametrize(
    ("happens", "in_records", "then_at"),
    [
        (removed, True, None),
        (moved, False, "moved"),
        (replaced_by_another_spool, False, "moved"),
        (replaced_by_its_copy, True, None),
        (segment_deleted, True, None),
        (lock_deleted, False, "spool"),
    ],
)


@KINDS
@HAPPENS
def test_no_record_is_taken_when_the_spool_is_gone_and_closing_says_where_the_others_are(
    tmp_path: Path, kind: str, happens: Callable[[Path], None], in_records: bool, then_at: str | None
) -> None:
    folder = tmp_path / "spool"
    with buffering(kind, folder) as (buffer, told):
        for key in FIVE:
            buffer.set(7, {"a": 1}, key=key)
        happens(folder)
        for _ in range(20):
            with pytest.raises(SpoolFault, match="so the record was not added; put the folder back") as fault:
                buffer.set(7, {"a": 2})
            assert f"the spool {folder} " in str(fault.value)
        assert buffer.waiting == 5
    (end,) = told
    assert end.count == 5
    assert [record.key for record in end.records] == FIVE * in_records
    if in_records:
        assert "they are in `records`" in str(end)
    else:
        place = f", whose folder {folder} is now {tmp_path / 'moved'}" * (then_at == "moved")
        assert str(end) == f"5 records were not delivered; they stay in the spool{place}"
        assert everything(tmp_path / str(then_at)) == FIVE
    if happens is replaced_by_another_spool:
        assert everything(folder) == ["another's"]


@KINDS
def test_what_was_in_a_folder_that_is_gone_is_delivered_when_the_server_is_back(
    usertable_server: Server, tmp_path: Path, kind: str
) -> None:
    usertable_server.declare("total", "NUMBER", "accumulate")
    usertable_server.add_user(7)
    folder = tmp_path / "spool"
    with (
        faulty_proxy("http://127.0.0.1:9") as proxy,
        any_client(kind, proxy.url, usertable_server.project, usertable_server.secret, retry=Retry(attempts=1)) as client,
        client.buffer(spool=folder) as buffer,
    ):
        for key in FIVE:
            buffer.set(7, {"total": 1}, key=key)
        replaced_by_another_spool(folder)
        with pytest.raises(SpoolFault):
            buffer.set(7, {"total": 1})
        proxy.lead_to(usertable_server.url)
        buffer.flush(60)
    with any_client(kind, usertable_server.url, usertable_server.project, usertable_server.secret) as client:
        assert client.get(7).attributes["total"] == 5
    assert everything(tmp_path / "moved") == []
    assert everything(folder) == ["another's"]


def test_a_second_process_cannot_open_a_spool_whose_lock_was_deleted(tmp_path: Path) -> None:
    spool = Spool(tmp_path, LIMIT)
    keep(spool, "a")
    lock_deleted(tmp_path)
    script = f"from usertable.client.spool import Spool; Spool({str(tmp_path)!r}, {LIMIT})"
    second = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert f"SpoolFault: the spool {tmp_path} is in use by another process or buffer" in second.stderr
    spool.close()
    assert everything(tmp_path) == ["a"]


def test_a_folder_that_is_put_back_takes_records_again(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    with buffering("sync", folder) as (buffer, told):
        buffer.set(7, {"a": 1}, key="first")
        moved(folder)
        with pytest.raises(SpoolFault):
            buffer.set(7, {"a": 1})
        folder.with_name("moved").rename(folder)
        buffer.set(7, {"a": 1}, key="second")
    assert [str(failure) for failure in told] == ["2 records were not delivered; they stay in the spool"]
    assert everything(folder) == ["first", "second"]


def test_a_spool_named_from_the_working_directory_stays_when_that_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spool = Spool("spool", LEAST_BYTES)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for n in range(20):
        spool.check()
        keep(spool, str(n), size=700)
    assert len(segments(tmp_path / "spool")) > 1
    spool.close()
    assert everything(tmp_path / "spool") == [str(n) for n in range(20)]


def set_for_seconds(buffer: Any, seconds: float) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        buffer.set(7, {"a": 1})
        time.sleep(0.05)


@KINDS
def test_a_file_that_was_filled_before_and_is_deleted_is_told(tmp_path: Path, kind: str) -> None:
    with buffering(kind, tmp_path, spool_bytes=LEAST_BYTES) as (buffer, told):
        while len(segments(tmp_path)) < 3:
            buffer.set(7, {"a": "x" * 1000})
        _, middle, _ = segments(tmp_path)
        middle.unlink()
        with pytest.raises(SpoolFault, match=middle.name):
            set_for_seconds(buffer, DEADLINE_SECONDS)
        waits = buffer.waiting
        with pytest.raises(SpoolFault, match=middle.name):
            buffer.set(7, {"a": 1})
    (end,) = told
    assert end.count == waits
    assert f"{middle.name} was removed" in str(end)
    with pytest.raises(SpoolFault, match=f"{middle} is missing. It contains records that were not delivered: restore it"):
        Spool(tmp_path, LEAST_BYTES)


def test_a_file_that_was_cut_while_it_is_written_is_told(tmp_path: Path) -> None:
    with buffering("sync", tmp_path) as (buffer, told):
        for key in FIVE:
            buffer.set(7, {"a": 1}, key=key)
        (segment,) = segments(tmp_path)
        os.truncate(segment, segment.stat().st_size - 10)
        with pytest.raises(SpoolFault, match=segment.name):
            buffer.set(7, {"a": 1})
    assert [failure.count for failure in told] == [5]
