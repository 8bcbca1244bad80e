"""A store of an earlier version, opened by this one.

`stores/` has real ones, dumped as SQL: each was made and filled by the usertable of its version. Of PostgreSQL there is none
of version 7, which no usertable had as its newest. Another is made by taking back what later migrations added.
"""

from __future__ import annotations

from contextlib import closing
from decimal import Decimal
from pathlib import Path

import apsw
import psycopg
import pytest

from support import postgres
from support.commands import add_user, erase_user
from support.engines import ENGINES, database
from support.schemas import POSTGRES, SQLITE, dump_sqlite_schema, postgres_schema, sqlite_schema
from support.store_harness import StoreHarness
from usertable.domain.errors import Refused
from usertable.domain.profile import OTHER_ATTRIBUTES, Profile
from usertable.store import open_store, stored_version
from usertable.store.records import Replayed, UserUnknown, Written

ENGINES_BY_URL = [engine for engine in ENGINES if engine != "memory"]


STORES = Path(__file__).parent / "stores"
OLD_POSTGRES = sorted(STORES.glob("postgresql_*.sql"))
OLD_SQLITE = sorted(STORES.glob("sqlite_*.sql"))


@pytest.mark.parametrize("dump", OLD_POSTGRES, ids=lambda dump: dump.stem)
@pytest.mark.parametrize("version", [postgres.NEWEST, postgres.OLDEST])
def test_a_store_of_an_earlier_version_has_all_it_had(dump: Path, version: int) -> None:
    with database(version, empty=True) as url:
        with psycopg.connect(url, autocommit=True) as db:
            db.execute(dump.read_text().encode())
        of_store = int(dump.stem.partition("_")[2])
        assert stored_version(url) == of_store
        harness = StoreHarness(open_store(url))
        check_sample(harness, moments_are_kept=of_store >= 7)
        harness.store.close()
        if version == postgres.NEWEST:
            # What pg_dump says differs from version to version.
            assert POSTGRES.read_text().endswith(postgres.shared(version).dump_schema(url))


@pytest.mark.parametrize("dump", OLD_SQLITE, ids=lambda dump: dump.stem)
def test_a_file_of_an_earlier_version_has_all_it_had(dump: Path, tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    with closing(apsw.Connection(str(file))) as db:
        db.execute(dump.read_text())
    version = int(dump.stem.partition("_")[2])
    assert stored_version(f"sqlite:///{file}") == version
    harness = StoreHarness(open_store(f"sqlite:///{file}"))
    check_sample(harness, moments_are_kept=version >= 4)
    harness.store.close()
    # A column that was added to a table of users has what it says of those who were there.
    assert SQLITE.read_text().endswith(dump_sqlite_schema(file).replace(""" DEFAULT '{"":0}'""", ""))


def check_sample(harness: StoreHarness, *, moments_are_kept: bool = False) -> None:
    """That the store has what those in `stores/` were filled with, and takes writes.

    Args:
        moments_are_kept: its version kept when attributes changed.
    """
    begin = 1_700_000_000_000
    changed_at = {OTHER_ATTRIBUTES: 0}
    if moments_are_kept:
        changed_at = {OTHER_ATTRIBUTES: begin, "user_number_accumulate": begin + 10, "user_list_append": begin + 10}
    store, service = harness.store, harness.service
    one, two = service.project("one"), service.project("two")
    assert one.schema.attributes.keys() == harness.project("new").schema.attributes.keys()
    first, second, erased = 10_000_001, 10_000_002, 10_000_003
    assert store.resolve_identifiers(one.number, "phone", ["a", "b", "c"]) == {"a": first, "b": second}
    user = service.user(one, first)
    assert user.identifiers == {"phone": ["a"]}
    assert user.profile == Profile(
        3,
        begin,
        begin + 10,
        {
            "user_string_overwrite": "a",
            "user_number_accumulate": Decimal("3.5"),
            "user_list_append": ["x", "y", "z"],
            "user_bool_once": True,
            "user_datetime_overwrite": 1_709_179_200_000,
            "user_number_overwrite": Decimal("12345678901234567890.0123456789"),
        },
        changed_at,
    )
    assert harness.attributes(one, second) == {"user_string_once": "b"}
    assert harness.attributes(two, first) == {"user_string_overwrite": "a", "user_number_accumulate": 1}
    assert store.schema_changes(one.number, 100)
    harness.now += 10_000
    again = harness.prepare(one, first, {"user_number_accumulate": 2, "user_list_append": ["z"]}, "key a 2", whole=True)
    new = harness.prepare(one, first, {"user_number_accumulate": 2, "user_string_once": "b"}, "key a 3")
    replayed, written, unknown = harness.write(again, new, harness.prepare(one, erased, {"user_string_once": "b"}))
    assert isinstance(replayed, Replayed)
    assert replayed.written.version == 3
    assert replayed.written.attributes == user.profile.attributes
    assert isinstance(written, Written)
    assert written.version == 4
    assert isinstance(unknown, UserUnknown)
    assert harness.attributes(one, first)["user_number_accumulate"] == Decimal("5.5")
    assert service.user(one, first).profile.changed("user_string_overwrite") == (begin if moments_are_kept else None)
    assert service.user(one, first).profile.changed("user_string_once") == harness.now
    assert harness.user(one, "c") == 10_000_004
    with pytest.raises(Refused):
        add_user(store, one.number, erased, {}, harness.now)


def test_the_schema_in_the_source_is_what_the_migrations_make() -> None:
    assert POSTGRES.read_text() == postgres_schema()
    assert SQLITE.read_text() == sqlite_schema()


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
        db.execute("DROP FUNCTION usertable.merged, usertable.changes")
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


@pytest.mark.parametrize("engine", [engine for engine in ENGINES_BY_URL if engine != "sqlite"])
def test_the_functions_of_a_store_run_where_its_users_are(engine: str, tmp_path: Path) -> None:
    """On a cluster that is on every machine, of a store that had its tables before the cluster too."""
    with ENGINES[engine](tmp_path) as url:
        harness = StoreHarness(open_store(url))
        harness.service.register(harness.project(), "phone", [str(number) for number in range(20)])
        harness.store.close()
        with psycopg.connect(url, autocommit=True) as db:
            assert db.execute(EVERY_FUNCTION).fetchone() == (20, 20, 20, 20)
            db.execute("DROP FUNCTION usertable.changes")
            db.execute("DELETE FROM usertable.migration WHERE number >= 9")
        open_store(url).close()
        with psycopg.connect(url, autocommit=True) as db:
            assert db.execute(EVERY_FUNCTION).fetchone() == (20, 20, 20, 20)


EVERY_FUNCTION = """
SELECT
  count(usertable.merge(attributes, '{}', '[]')),
  count(usertable.merged(attributes, changed_at, 1, '{}', '[]', '[]', '{}')),
  count(usertable.outcomes(attributes, attributes, '[]')),
  count(usertable.changes(attributes, attributes, '[]'))
FROM usertable.users
"""


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
        assert erase_user(harness.store, project.number, cuid)
        harness.service.create_project("two", id="two", actor="test")
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
