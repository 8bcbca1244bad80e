"""The files of a store are deleted, replaced, cut off or moved while a server has them open."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from serving import ATTRIBUTE, Server, prepare
from shell import Shell
from usertable.store import open_store

SECONDS = 10


class Served:
    """A server of a store in a folder of its own, which is reached through a link."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.data.mkdir()
        self.link = folder / "link.db"
        self.link.symlink_to(self.data / "store.db")
        self.url = f"sqlite:///{self.link}"
        (self.cuid,) = prepare(self.url, users=1)
        self.server = Server(self.url, folder)
        self.http = self.server.client()

    def put(self) -> httpx.Response:
        body = {"cuid": self.cuid, "data": {"user_number_accumulate": 1}}
        return self.http.put(ATTRIBUTE, json=body)

    def wait_for(self, status: int) -> None:
        """Until writes and /readyz are answered so."""
        deadline = time.monotonic() + SECONDS
        while (self.put().status_code, self.http.get("/readyz").status_code) != (status, status):
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path)
    assert served.put().status_code == 200
    yield served
    served.http.close()
    served.server.stop()


def delete(store: Path) -> None:
    store.unlink()


def replace(store: Path) -> None:
    copy = store.with_name("copy.db")
    shutil.copyfile(store, copy)
    copy.replace(store)


def replace_by_another_store(store: Path) -> None:
    store.unlink()
    open_store(f"sqlite:///{store.with_name('other.db')}").close()
    store.with_name("other.db").replace(store)


def delete_log(store: Path) -> None:
    store.with_name("store.db-wal").unlink()


def delete_index(store: Path) -> None:
    store.with_name("store.db-shm").unlink()


def delete_lock(store: Path) -> None:
    store.with_name("store.db.lock").unlink()


def move_folder(store: Path) -> None:
    store.parent.rename(store.parent.with_name("elsewhere"))


def turn_link(store: Path) -> None:
    link = store.parent.parent / "link.db"
    other = store.parent.parent / "other.db"
    shutil.copyfile(store, other)
    link.unlink()
    link.symlink_to(other)


@pytest.mark.parametrize(
    "happens",
    [delete, replace, replace_by_another_store, delete_log, delete_index, delete_lock, move_folder, turn_link],
)
def test_no_write_is_answered_when_the_files_that_are_open_are_not_in_their_places(
    served: Served, happens: Callable[[Path], None]
) -> None:
    happens(served.data / "store.db")
    served.wait_for(503)
    assert re.search("CRITICAL usertable.store: .* while it was open", served.server.log)
    assert served.server.stop() == 1
    assert "what was answered before may not be in the store" in served.server.log
    assert "every write that was answered is in the store" not in served.server.log


def test_no_write_is_answered_any_more_when_the_file_was_cut_off(served: Served) -> None:
    (served.data / "store.db").open("wb").close()
    deadline = time.monotonic() + SECONDS
    while served.put().status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    # A checkpoint may make it as large as it was.
    time.sleep(2)
    assert served.put().status_code == 503
    assert re.search("CRITICAL usertable.store: .* was cut off while it was open", served.server.log)


def test_a_writer_that_is_started_again_does_not_write_a_file_that_took_the_stores_place(served: Served) -> None:
    other = served.data / "other.db"
    prepare(f"sqlite:///{other}", users=1)
    before = other.read_bytes()
    other.replace(served.data / "store.db")
    os.kill(served.server.writer_pid(), signal.SIGKILL)
    for _ in range(5):
        assert served.put().status_code == 503
        time.sleep(0.3)
    assert (served.data / "store.db").read_bytes() == before


def test_writes_go_on_when_the_files_are_back(served: Served) -> None:
    away = served.data.with_name("away")
    served.data.rename(away)
    served.wait_for(503)
    away.rename(served.data)
    served.wait_for(200)
    assert "all its files are in their places again" in served.server.log
    assert served.server.stop() == 0


def test_a_second_server_is_refused_whichever_name_it_comes_by(served: Served, tmp_path: Path) -> None:
    said = Shell(f"sqlite:///{served.data / 'store.db'}", {}).refused("serve", "--port", "0")
    assert f"another server (process {served.server.pid}) already serves" in said


def test_a_log_without_its_database_is_not_taken_for_a_leftover(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    url = f"sqlite:///{store}"
    (cuid,) = prepare(url, users=1)
    server = Server(url, tmp_path)
    with server.client() as http:
        assert http.put(ATTRIBUTE, json={"cuid": cuid, "data": {"user_number_accumulate": 1}}).status_code == 200
    server.kill()
    away = store.rename(tmp_path / "away.db")
    log = store.with_name("store.db-wal").read_bytes()
    assert "its log" in Shell(url, {}).refused("serve", "--port", "0")
    assert store.with_name("store.db-wal").read_bytes() == log
    away.rename(store)
    assert Shell(url, {}).json("user", "get", str(cuid), "--project", "100102")


def test_serve_says_that_it_makes_a_new_store(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    server = Server(url, tmp_path)
    assert server.stop() == 0
    assert "there was no store, so a new one was made" in server.log
    server.start()
    assert server.stop() == 0
    assert "a new one was made" not in server.log
