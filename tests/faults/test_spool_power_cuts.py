"""The spool after a power cut: the possible states of the last write are simulated, and what was acknowledged is there.

A write takes effect when it is synced. Until then each of its pages is on the disk or not, in any order, the file has its
new length or not, and a new file has its name or not.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from usertable.client import SpoolFault
from usertable.client.spool import Spool

LIMIT = 2**17
Files = dict[str, bytes]


@pytest.fixture(autouse=True)
def no_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The states after a power cut are simulated, so waiting for the real disk proves nothing."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def snapshot(folder: Path) -> Files:
    return {file.name: file.read_bytes() for file in sorted(folder.glob("*.spool"))}


def laid_out(files: Files, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def keep(spool: Spool, key: str, size: int) -> None:
    spool.append(spool.frame([(7, {"p": "x" * size}, key)]), 1)


def held(folder: Path) -> list[str]:
    """Return the keys of all waiting records.

    The spool must be valid, and accept another record that is there the next time.
    """
    spool = Spool(folder, LIMIT)
    waits = spool.waiting
    found = [entry.key for entry in spool.take(10_000)]
    assert len(found) == waits
    keep(spool, "after", 10)
    spool.close()
    again = Spool(folder, LIMIT)
    assert [entry.key for entry in again.take(10_000)] == [*found, "after"]
    again.close()
    return found


def torn(old: bytes, new: bytes, page: int, chance: random.Random) -> bytes:
    """Return what the disk may contain of a file that was extended: pages of both versions, and zeros where neither was
    written."""
    size = chance.choice((len(old), len(new), chance.randint(len(old), len(new))))
    data = bytearray()
    for start in range(0, size, page):
        version = chance.choice((old, new))
        data += version[start : start + page].ljust(min(page, size - start), b"\0")
    return bytes(data)


def operations(spool: Spool, chance: random.Random) -> Iterator[tuple[str | None, Callable[[], None]]]:
    """Yield a buffer's operations on a spool, one synced write at a time: the key of a record, or None for marks."""
    end = (0, 0)

    def taken() -> None:
        nonlocal end
        entries = spool.take(3)
        end = entries[-1].end if entries else end
        spool.mark_sent(end, 1)

    for number in range(60):
        key = f"k{number}"
        yield key, lambda key=key: keep(spool, key, chance.choice((0, 30, 600, 3000, 9000)))  # type: ignore[misc]
        if number % 7 == 6:
            yield None, taken


@pytest.mark.parametrize("page", [512, 4096])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whatever_pages_of_the_last_write_are_on_the_disk_nothing_acknowledged_is_lost(
    tmp_path: Path, seed: int, page: int
) -> None:
    chance = random.Random(seed)
    spool = Spool(tmp_path / "spool", LIMIT)
    acknowledged: list[str] = []
    before = snapshot(tmp_path / "spool")
    # The first segment, of which nothing is on disk except its name, or not even that.
    for state in ({}, {"00000001.spool": b""}, {"00000001.spool": bytes(len(before["00000001.spool"]))}):
        assert held(laid_out(state, tmp_path / "cut")) == []
    for key, work in operations(spool, chance):
        work()
        after = snapshot(tmp_path / "spool")
        for _ in range(4):
            state = {name: torn(before.get(name, b""), data, page, chance) for name, data in after.items()}
            for name in after.keys() - before.keys():
                if chance.random() < 0.3:
                    del state[name]
            found = held(laid_out(state, tmp_path / "cut"))
            assert found in (acknowledged, [*acknowledged, key])
        if key is not None:
            acknowledged.append(key)
        before = after
    spool.close()
    assert len(before) > 3
    assert held(laid_out(before, tmp_path / "cut")) == acknowledged


def test_a_cut_at_every_byte_of_the_last_frames_and_zeros_in_place_of_any_page(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", LIMIT)
    keep(spool, "a", 3000)
    keep(spool, "b", 100)
    before = spool.size
    keep(spool, "c", 5000)
    spool.close()
    ((name, data),) = snapshot(tmp_path / "spool").items()
    for end in (*range(before, before + 60), *range(before + 60, len(data), 97), len(data) - 1):
        assert held(laid_out({name: data[:end]}, tmp_path / "cut")) == ["a", "b"]
        assert held(laid_out({name: data[:end].ljust(len(data), b"\0")}, tmp_path / "cut")) == ["a", "b"]
    # The page that both frames share contains the first of them, and then zeros.
    for start in range(before, len(data), 512):
        for length in (512, 4096, len(data)):
            zeros = data[:start] + bytes(min(length, len(data) - start)) + data[start + length :]
            assert held(laid_out({name: zeros}, tmp_path / "cut")) == ["a", "b"]


def test_what_no_cut_can_leave_is_damage_and_is_told(tmp_path: Path) -> None:
    """A broken frame before a complete one, or in a segment that is not the last, was acknowledged."""
    spool = Spool(tmp_path / "spool", LIMIT)
    keep(spool, "a", 600)
    middle = spool.size
    keep(spool, "b", 600)
    spool.mark_sent((0, 0), 1)
    spool.close()
    ((name, data),) = snapshot(tmp_path / "spool").items()
    broken = {
        "a head": bytes(512) + data[512:],
        "a frame": data[:middle] + bytes(100) + data[middle + 100 :],
        "a frame's length": data[:middle] + b"\xff\xff\xff\x7f" + data[middle + 4 :],
    }
    for content in broken.values():
        with pytest.raises(SpoolFault, match=r"is damaged at byte \d+"):
            Spool(laid_out({name: content}, tmp_path / "cut"), LIMIT)
    following = {name: data[:middle] + data[middle : middle + 300], "00000002.spool": data}
    with pytest.raises(SpoolFault, match=f"{name} is damaged at byte {middle}"):
        Spool(laid_out(following, tmp_path / "cut"), LIMIT)
    # Text in a record that looks like a frame is not one.
    inner = Spool(tmp_path / "inner", LIMIT)
    inner.append(inner.frame([(7, {"p": 'W[{"u":1}] ' + "A\0\0\0....M" * 50}, "k")]), 1)
    inner.close()
    ((name, data),) = snapshot(tmp_path / "inner").items()
    assert held(laid_out({name: data[:-3]}, tmp_path / "cut")) == []
