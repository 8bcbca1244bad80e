"""The files of a store are deleted, replaced, truncated or moved while a server has them open."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from support.cli_runner import CliRunner
from support.commands import erase_user
from support.server_process import ATTRIBUTE, PROJECT, ServerProcess, create_project
from support.waiting import wait_until
from usertable.domain.errors import StoreFault
from usertable.store import open_store


class Served:
    """A server of a store in its own folder, with a link to the folder."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.data.mkdir()
        self.link = folder / "link.db"
        self.link.symlink_to(self.data / "store.db")
        self.url = f"sqlite:///{self.link}"
        (self.cuid,) = create_project(self.url, users=1)
        self.server = ServerProcess(self.url, folder)
        self.http = self.server.client()

    def put(self) -> httpx.Response:
        body = {"cuid": self.cuid, "data": {"user_number_accumulate": 1}}
        return self.http.put(ATTRIBUTE, json=body)

    def rest(self) -> None:
        """Wait until the whole WAL is in the file, as it is a second after the last write, and the server has seen that."""
        # https://sqlite.org/walformat.html: frames in the WAL at byte 16, copied ones at byte 96.
        wait_until(lambda: (index := (self.data / "store.db-shm").read_bytes())[16:20] == index[96:100])
        # It checks the file repeatedly, with about twenty reads, and does nothing else meanwhile.
        seen = self._reads() + 100
        wait_until(lambda: self._reads() > seen)

    def _reads(self) -> int:
        """Return the number of reads from files that the writer has done so far."""
        counts = Path(f"/proc/{self.server.writer_pid()}/io").read_text().splitlines()
        return next(int(line.split()[1]) for line in counts if line.startswith("syscr:"))

    def wait_for(self, status: int) -> None:
        """Wait until writes and /readyz are answered with this status."""
        wait_until(lambda: self.put().status_code == self.http.get("/readyz").status_code == status)


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
    served.server.wait_for_log("CRITICAL usertable.store: .* while it was open")
    assert served.server.stop() == 1
    assert "what was answered before may not be in the store" in served.server.log
    assert "every acknowledged write is stored" not in served.server.log


def test_no_write_is_answered_any_more_when_the_file_was_cut_off(served: Served) -> None:
    (served.data / "store.db").open("wb").close()
    wait_until(lambda: served.put().status_code != 200)
    # A checkpoint may restore its size.
    time.sleep(2)
    assert served.put().status_code == 503
    served.server.wait_for_log("CRITICAL usertable.store: .* was truncated while it was open")


def cut_and_copy(source: Path, store: Path) -> None:
    """Copy like `cp`."""
    shutil.copyfile(source, store)


def copy_over(source: Path, store: Path) -> None:
    """Copy like `dd conv=notrunc`."""
    with store.open("r+b") as file:
        file.write(source.read_bytes())


def older(store: Path) -> Path:
    copy = store.with_name("older.db")
    shutil.copyfile(store, copy)
    return copy


def another(store: Path) -> Path:
    other = store.with_name("other.db")
    create_project(f"sqlite:///{other}", users=3)
    return other


@pytest.mark.parametrize("write", [cut_and_copy, copy_over])
@pytest.mark.parametrize("made", [older, another])
@pytest.mark.parametrize("rest", [False, True], ids=["at once", "at rest"])
def test_no_write_is_answered_any_more_when_the_file_was_overwritten_in_its_place(
    served: Served, made: Callable[[Path], Path], write: Callable[[Path, Path], None], rest: bool
) -> None:
    source = made(served.data / "store.db")
    url = f"sqlite:///{served.data / 'store.db'}"
    for _ in range(100):
        assert served.put().status_code == 200
    served.rest()
    for _ in range(10):
        assert served.put().status_code == 200
    if rest:
        served.rest()
    write(source, served.data / "store.db")
    served.wait_for(503)
    time.sleep(2)
    assert served.put().status_code == 503
    served.server.wait_for_log("CRITICAL usertable.store: .* was (overwritten|truncated) while it was open")
    assert served.server.stop() == 1
    assert "every acknowledged write is stored" not in served.server.log
    # The WAL must not be copied to a file that it does not belong to.
    if "was overwritten" in served.server.log:
        assert "move the log away" in CliRunner(url, {}).refused("serve", "--port", "0")


def test_checkpoints_of_anybody_a_vacuum_and_an_import_are_not_taken_for_an_overwritten_file(
    served: Served, tmp_path: Path
) -> None:
    store = served.data / "store.db"
    rows = tmp_path / "rows.ndjson"
    rows.write_text("".join(f'{{"cuid":{cuid},"user_string_overwrite":"{cuid:0500}"}}\n' for cuid in range(1, 40_001)))
    statuses: list[int] = []
    is_over = threading.Event()

    def write() -> None:
        with served.server.client() as http:
            while not is_over.is_set():
                body = {"cuid": served.cuid, "data": {"user_number_accumulate": 1}}
                statuses.append(http.put(ATTRIBUTE, json=body).status_code)

    threads = [threading.Thread(target=write, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    command = [
        sys.executable,
        "-m",
        "usertable",
        "--store",
        served.url,
        "import",
        str(rows),
        "--project",
        PROJECT,
        "--register",
    ]
    importing = subprocess.Popen(command)
    tidy = (
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None); db.execute(sys.argv[2])"
    )
    while importing.poll() is None:
        for statement in ("PRAGMA wal_checkpoint(PASSIVE)", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
            subprocess.run([sys.executable, "-c", tidy, str(store), statement], check=True)
        store.touch()
    assert importing.wait() == 0
    time.sleep(2.5)
    is_over.set()
    for thread in threads:
        thread.join()
    assert "while it was open" not in served.server.log
    served.wait_for(200)
    assert served.server.stop() == 0
    with sqlite3.connect(store) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_an_import_whose_store_was_moved_before_its_end_does_not_say_done(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    url = f"sqlite:///{store}"
    create_project(url)
    rows = tmp_path / "rows.ndjson"
    lines = [f'{{"cuid":{cuid},"user_string_overwrite":"x"}}\n' for cuid in range(1, 6001)]
    command = [sys.executable, "-m", "usertable", "--store", url, "import", str(rows), "--project", PROJECT, "--register"]
    # Its last rows come when the store is moved.
    os.mkfifo(rows)
    words = [*command, "--batch", "100", "--job", str(rows)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with rows.open("w", buffering=1) as pipe:
        pipe.writelines(lines[:5000])
        log = store.with_name("store.db-wal")
        wait_until(lambda: log.exists() and log.stat().st_size > 150_000)
        moved = store.rename(tmp_path / "moved.db")
        pipe.writelines(lines[5000:])
    out, said = process.communicate(timeout=120)
    rows.unlink()
    rows.write_text("".join(lines))
    assert process.returncode == 1
    assert out == ""
    assert "store.db was deleted or moved while it was open" in said
    # As the message says.
    moved.rename(store)
    again = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=True)
    assert "6000 rows: 6000 users created" in again.stdout


def test_what_was_stored_by_a_command_whose_store_was_moved_is_not_said_to_be_there(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    (cuid,) = create_project(f"sqlite:///{path}", users=1)
    store = open_store(f"sqlite:///{path}")
    project = store.project(PROJECT)
    assert project is not None
    assert erase_user(store, project.number, cuid)
    path.rename(tmp_path / "moved.db")
    with pytest.raises(StoreFault, match="was deleted or moved while it was open"):
        store.close()


def test_a_writer_that_is_started_again_does_not_write_a_file_that_took_the_stores_place(served: Served) -> None:
    other = served.data / "other.db"
    create_project(f"sqlite:///{other}", users=1)
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
    served.server.wait_for_log("all its files are in their places again")
    assert served.server.stop() == 0


def test_a_second_server_is_refused_whichever_name_it_comes_by(served: Served, tmp_path: Path) -> None:
    said = CliRunner(f"sqlite:///{served.data / 'store.db'}", {}).refused("serve", "--port", "0")
    assert f"another server (process {served.server.pid}) already serves" in said


def test_a_log_without_its_database_is_not_taken_for_a_leftover(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    url = f"sqlite:///{store}"
    (cuid,) = create_project(url, users=1)
    server = ServerProcess(url, tmp_path)
    with server.client() as http:
        assert http.put(ATTRIBUTE, json={"cuid": cuid, "data": {"user_number_accumulate": 1}}).status_code == 200
    server.kill()
    away = store.rename(tmp_path / "away.db")
    log = store.with_name("store.db-wal").read_bytes()
    assert "its log" in CliRunner(url, {}).refused("serve", "--port", "0")
    assert store.with_name("store.db-wal").read_bytes() == log
    away.rename(store)
    assert CliRunner(url, {}).json("user", "get", str(cuid), "--project", "100102")


def test_serve_says_that_it_makes_a_new_store(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    server = ServerProcess(url, tmp_path)
    assert server.stop() == 0
    assert "there was no store, so a new one was created" in server.log
    server.start()
    assert server.stop() == 0
    assert "a new one was made" not in server.log
