"""The power is cut at any moment of a server's life, or its disk fails: what was answered is stored, once.

Uses a disk that records what the server's processes write and sync (`tests/support/recorded_disk.py`).
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from support.load import check_sums, load, read_sums, wait_for_more
from support.recorded_disk import FAILING, Disk, Notes, below
from support.server_process import ATTRIBUTE, ServerProcess, create_project

USERS, CLIENTS, WRITES, DISKS = 10, 6, 60, 150


def test_whatever_a_power_cut_leaves_on_the_disk_has_every_answered_write_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store.db"
    url = f"sqlite:///{store}"
    cuids = create_project(url, users=USERS)
    disk = Disk({"store.db": store.read_bytes()})
    for name, value in below(tmp_path, store).items():
        monkeypatch.setenv(name, value)
    note = Notes(tmp_path)
    server = ServerProcess(url, tmp_path)
    # The second life begins after a kill, the third after a clean stop. In between, everything is copied while nobody
    # writes.
    for life, end in enumerate((server.kill, server.stop, server.kill)):
        clients = [threading.Thread(target=write, args=(server, cuids, note, f"{life}-{n}")) for n in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        end()
        if life < 2:
            server.start()
    for name in ("PYTHONPATH", "RECORDED_DISK", "RECORDED_STORE"):
        monkeypatch.delenv(name)

    record = list(Notes.read(tmp_path))
    assert Counter(what for what, *_ in record)["answered"] == 3 * CLIENTS * WRITES
    assert any(what == "synced" and name == "store.db" for what, name, *_ in record)
    chance = random.Random(1)
    moments = set(chance.sample(range(len(record)), DISKS))
    sent: dict[str, int] = {}
    answered: set[str] = set()
    for moment, (what, *rest) in enumerate(record):
        if what == "sent":
            sent[rest[0]] = rest[1]
        elif what == "answered":
            answered.add(rest[0])
        else:
            disk.play(what, *rest)
        if moment in moments:
            look(disk.cut(chance), tmp_path / "cut", sent, answered)


def write(server: ServerProcess, cuids: list[int], note: Notes, client: str) -> None:
    """Write, and record what is sent and what is answered."""
    chance = random.Random(client)
    with server.client() as http:
        for n in range(WRITES):
            mark, cuid = f"{client}-{n}", chance.choice(cuids)
            note("sent", mark, cuid)
            data = {"user_number_accumulate": 1, "user_list_append": [mark], "user_string_overwrite": mark * 9}
            answer = http.put(
                ATTRIBUTE, json={"cuid": cuid, "data": data}, headers={"Idempotency-Key": mark, "X-Request-Id": mark}
            )
            assert answer.json()["code"] == 0
            note("answered", mark)


def look(files: dict[str, bytes], folder: Path, sent: dict[str, int], answered: set[str]) -> None:
    """Open what a power cut left, as the program does."""
    folder.mkdir(exist_ok=True)
    for name in ("store.db", "store.db-wal", "store.db-shm"):
        (folder / name).unlink(missing_ok=True)
    for name, content in files.items():
        if not name.endswith("-journal"):
            (folder / name).write_bytes(content)
    url = f"sqlite:///{folder / 'store.db'}"
    # Each row has its changes, and each change its row.
    read_sums(url, sorted(set(sent.values())), with_requests=True)
    with closing(apsw.Connection(str(folder / "store.db"))) as db:
        assert db.pragma("integrity_check") == "ok"
        found = list(db.execute("SELECT cuid, value FROM user_1, json_each(attributes, '$.user_list_append')"))
        receipts = {key for (key,) in db.execute("SELECT key FROM receipt")}
    marks = {mark for _, mark in found}
    assert len(found) == len(marks)
    assert answered <= marks
    assert all(sent[mark] == cuid for cuid, mark in found)
    assert receipts == marks


def test_a_disk_that_fails_in_a_checkpoint_ends_the_server_and_the_next_one_has_every_answered_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store.db"
    url = f"sqlite:///{store}"
    cuids = create_project(url, users=5)
    for name, value in below(tmp_path, store).items():
        monkeypatch.setenv(name, value)
    server = ServerProcess(url, tmp_path)
    with load([server], cuids, 6) as clients:
        for _ in range(3):
            wait_for_more(clients, 100)
            (tmp_path / FAILING).touch()
            assert server.wait() == 74
            assert "the next start recovers it from the log" in server.log
            assert store.with_name("store.db-wal").stat().st_size
            (tmp_path / FAILING).unlink()
            server.start()
        wait_for_more(clients, 100)
    assert server.stop() == 0
    for name in ("PYTHONPATH", "RECORDED_DISK", "RECORDED_STORE"):
        monkeypatch.delenv(name)
    check_sums(url, cuids, clients, 400)


def test_a_server_whose_disk_still_fails_does_not_start_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store.db"
    url = f"sqlite:///{store}"
    (cuid,) = create_project(url, users=1)
    for name, value in below(tmp_path, store).items():
        monkeypatch.setenv(name, value)
    server = ServerProcess(url, tmp_path)
    with server.client() as http:
        for n in range(20):
            body = {"cuid": cuid, "data": {"user_number_accumulate": 1, "user_list_append": [str(n)]}}
            assert http.put(ATTRIBUTE, json=body).json()["code"] == 0
    server.kill()
    (tmp_path / FAILING).touch()
    with pytest.raises(AssertionError, match="a checkpoint failed"):
        server.start()
    assert server.wait() == 74
    (tmp_path / FAILING).unlink()
    server.start()
    assert server.stop() == 0
    for name in ("PYTHONPATH", "RECORDED_DISK", "RECORDED_STORE"):
        monkeypatch.delenv(name)
    assert read_sums(url, [cuid]) == {cuid: 20}
