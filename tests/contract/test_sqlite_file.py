"""What is SQLite's alone: the file."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from house import House
from usertable.store import open_store


def test_a_copy_made_by_vacuum_into_is_served_like_the_original(tmp_path: Path) -> None:
    original, copy = tmp_path / "store.db", tmp_path / "copy.db"
    house = House(open_store(f"sqlite:///{original}"))
    project = house.project()
    cuid = house.user(project)
    house.write(house.prepare(project, cuid, {"user_bool_once": 1}))
    house.store.close()
    with sqlite3.connect(original) as db:
        db.execute("VACUUM INTO ?", (str(copy),))
    db.close()
    house = House(open_store(f"sqlite:///{copy}"))
    assert house.attributes(house.service.project("one"), cuid) == {"user_bool_once": True}
    house.store.close()
    db = sqlite3.connect(copy)
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    open_store(f"sqlite:///{file}").close()
    assert file.stat().st_mode & 0o777 == 0o600
