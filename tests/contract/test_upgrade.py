"""A store of an earlier version, opened by this one. It is made by taking back what later migrations added."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import apsw
import psycopg
import pytest

from support.engines import ENGINES
from support.store_harness import StoreHarness
from usertable.store import open_store

ENGINES_BY_URL = [engine for engine in ENGINES if engine != "memory"]


def take_back_changed_at(url: str) -> None:
    if url.startswith("sqlite"):
        with closing(apsw.Connection(url.removeprefix("sqlite:///"))) as db:
            for (table,) in list(db.execute("SELECT name FROM sqlite_schema WHERE name LIKE 'user\\__%' ESCAPE '\\'")):
                db.execute(f"ALTER TABLE {table} DROP COLUMN changed_at")
            db.execute("DROP INDEX receipt_at")
            db.execute("PRAGMA user_version = 3")
        return
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("ALTER TABLE usertable.users DROP COLUMN changed_at")
        db.execute("DROP FUNCTION usertable.merged")
        db.execute("DELETE FROM usertable.migration WHERE number >= 7")


@pytest.mark.parametrize("engine", ENGINES_BY_URL)
def test_of_values_that_are_there_it_is_not_known_when_they_changed(engine: str, tmp_path: Path) -> None:
    with ENGINES[engine](tmp_path) as url:
        harness = StoreHarness(open_store(url))
        project, other = harness.project("one"), harness.project("two")
        cuid, another = harness.user(project), harness.user(other)
        for of, user in ((project, cuid), (other, another)):
            harness.write(harness.prepare(of, user, {"user_string_overwrite": "a", "user_number_accumulate": 1}))
        harness.store.close()
        take_back_changed_at(url)
        harness.store = harness.service._store = open_store(url)
        harness.now += 10
        harness.write(harness.prepare(project, cuid, {"user_string_overwrite": "b", "user_bool_once": 1}))
        new = harness.user(project, "new")
        harness.now += 10
        harness.write(harness.prepare(project, new, {"user_string_overwrite": "b"}))
        harness.write(harness.prepare(other, another, {"user_string_overwrite": "a"}))
        profiles = [
            harness.service.user(of, user).profile for of, user in ((project, cuid), (project, new), (other, another))
        ]
        assert [{name: profile.changed(name) for name in profile.attributes} for profile in profiles] == [
            {"user_string_overwrite": harness.now - 10, "user_number_accumulate": None, "user_bool_once": harness.now - 10},
            {"user_string_overwrite": harness.now},
            {"user_string_overwrite": None, "user_number_accumulate": None},
        ]
        harness.store.close()


@pytest.mark.parametrize("engine", ENGINES_BY_URL)
def test_a_store_is_served_by_a_version_that_does_not_know_its_newest_column(engine: str, tmp_path: Path) -> None:
    """What writes names its columns, so a migration that adds one does not stop those who were opened before."""
    with ENGINES[engine](tmp_path) as url:
        harness = StoreHarness(open_store(url))
        project = harness.project("one")
        cuid = harness.user(project)
        add_columns(url)
        harness.write(harness.prepare(project, cuid, {"user_string_overwrite": "a"}, "key"))
        harness.user(project, "new")
        assert harness.store.erase(project.number, cuid)
        harness.service.create_project("two", id="two", who="test")
        harness.store.close()


def add_columns(url: str) -> None:
    if url.startswith("sqlite"):
        with closing(apsw.Connection(url.removeprefix("sqlite:///"))) as db:
            for (table,) in list(db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND sql LIKE '%STRICT%'")):
                db.execute(f"ALTER TABLE {table} ADD COLUMN later TEXT")
        return
    with psycopg.connect(url, autocommit=True) as db:
        for (table,) in db.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'usertable'").fetchall():
            db.execute(f"ALTER TABLE usertable.{table} ADD COLUMN later text")
