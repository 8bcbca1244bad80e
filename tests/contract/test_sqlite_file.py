"""What is SQLite's alone: the file."""

from __future__ import annotations

import time
from pathlib import Path

import apsw
import pytest

from house import House
from usertable.domain.condition import parse_conditions
from usertable.domain.values import DataType
from usertable.store import open_store, sqlite, sqlite_checkpoint


def test_a_copy_made_by_vacuum_into_is_served_like_the_original(tmp_path: Path) -> None:
    original, copy = tmp_path / "store.db", tmp_path / "copy.db"
    house = House(open_store(f"sqlite:///{original}"))
    project = house.project()
    cuid = house.user(project)
    house.write(house.prepare(project, cuid, {"user_bool_once": 1}))
    house.store.close()
    db = apsw.Connection(str(original))
    db.execute("VACUUM INTO ?", (str(copy),))
    db.close()
    house = House(open_store(f"sqlite:///{copy}"))
    assert house.attributes(house.service.project("one"), cuid) == {"user_bool_once": True}
    house.store.close()
    db = apsw.Connection(str(copy))
    assert db.pragma("journal_mode") == "wal"
    db.close()


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    open_store(f"sqlite:///{file}").close()
    assert file.stat().st_mode & 0o777 == 0o600


def test_no_checkpoint_begins_while_all_of_the_log_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite before 3.51.3 can lose a commit that comes at that moment: https://sqlite.org/wal.html#the_wal_reset_bug"""
    monkeypatch.setattr(sqlite_checkpoint, "CHECKPOINT_SECONDS", 0.001)
    monkeypatch.setattr(sqlite, "CHECKPOINT_IDLE_SECONDS", 0.02)
    house = House(open_store(f"sqlite:///{tmp_path / 'store.db'}", writing=True))
    project = house.project()
    cuid = house.user(project)
    # Closed last: to close any descriptor of a file ends the locks that SQLite holds on it.
    with (tmp_path / "store.db-shm").open("rb", buffering=0) as index:

        def all_is_copied() -> bool:
            """By the WAL's index, https://sqlite.org/walformat.html: frames at byte 16, frames copied at byte 96."""
            index.seek(0)
            head = index.read(100)
            return head[16:20] == head[96:100]

        checkpoint = sqlite_checkpoint.checkpoint
        needless = []

        def watched(db: apsw.Connection) -> None:
            needless.append(all_is_copied())
            checkpoint(db)

        monkeypatch.setattr(sqlite_checkpoint, "checkpoint", watched)
        deadline = time.monotonic() + 60
        while len(needless) < 10:
            assert time.monotonic() < deadline
            house.write(house.prepare(project, cuid, {"user_number_accumulate": 1}))
            # So long that the log is copied and nobody writes, or not.
            time.sleep(0.05 if len(needless) % 3 == 0 else 0.002)
        assert not any(needless)
        house.store.close()


def test_the_filters_that_were_asked_for_are_not_kept_in_memory(tmp_path: Path) -> None:
    house = House(open_store(f"sqlite:///{tmp_path / 'store.db'}"))
    project = house.project()
    house.user(project)
    names = [name for name, attribute in project.schema.attributes.items() if attribute.type is DataType.NUMBER]

    def ask(numbers: range) -> int:
        for n in numbers:
            # Not only the numbers differ.
            name = names[n % len(names)]
            texts = [f"{name}:between:{n},{n}.5", f"{name}:in:{n}.25,{n}", *[f"{name}:ne:{n}.75"] * (n % 20)]
            conditions = parse_conditions(texts, project.schema, project.zone)
            house.store.select(project.number, conditions, n, 10, 10)
            house.store.tally(project.number, conditions, n, 10, 10)
            house.store.column(project.number, name, n, 10)
        return apsw.status(apsw.SQLITE_STATUS_MEMORY_USED)[0]

    before = ask(range(50))
    assert ask(range(50, 500)) < before + 100_000
    house.store.close()
