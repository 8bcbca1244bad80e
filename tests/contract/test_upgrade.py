"""A store of an earlier version, opened by this one.

`stores/` has real ones, dumped as SQL: each was created and filled by the usertable of its version. There is none of version
7 for PostgreSQL, which was no usertable's newest version. Other versions are recreated by undoing later migrations.
"""

from __future__ import annotations

from contextlib import closing
from decimal import Decimal
from pathlib import Path

import apsw
import psycopg
import pytest

from support import postgres
from support.actors import TESTER
from support.commands import add_user, erase_user
from support.engines import ENGINES, database
from support.histories import present
from support.schemas import POSTGRES, SQLITE, dump_sqlite_schema, postgres_schema, sqlite_schema
from support.store_harness import StoreHarness
from usertable.domain.audit import AuditEntry, AuditEvent, AuditFilter
from usertable.domain.change import ChangeKind, Origin, Report, UserChange
from usertable.domain.errors import Refused
from usertable.domain.history import PastUser
from usertable.domain.key import DEFAULT_KEY
from usertable.domain.merge import decide
from usertable.domain.moments import DAY_MS
from usertable.domain.patch import Restoration
from usertable.domain.permissions import ALL_SCOPES, PROJECT_SCOPES, Role, Scope
from usertable.domain.profile import OTHER_ATTRIBUTES, Profile
from usertable.domain.schema import Project
from usertable.store import open_store, stored_version
from usertable.store.encoding import encode_patches, encode_user_changes
from usertable.store.history import HistoryBlock
from usertable.store.keyframes import VERSIONS
from usertable.store.postgres.citus import is_distributed
from usertable.store.records import Replayed, UserUnknown, Write, Written
from usertable.store.sqlite.migrations import SLICE
from usertable.store.tables import HISTORY
from usertable.wire.native.documents import change_document

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
        if of_store < 14:
            check_history_of_sample(harness)
        else:
            check_history_from_before(harness)
        if of_store >= 12:
            check_keys_and_people(harness)
        harness.store.close()
        if version == postgres.NEWEST:
            # The comments in pg_dump's output differ between versions.
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
    if version < 9:
        check_history_of_sample(harness)
    else:
        check_history_from_before(harness)
    if version >= 8:
        check_keys_and_people(harness)
    harness.store.close()
    # A column that was added to a user table has a default for existing users.
    schema = dump_sqlite_schema(file)
    for default in (""" DEFAULT '{"":0}'""", " DEFAULT 0", " DEFAULT ''"):
        schema = schema.replace(default, "")
    assert _words(SQLITE.read_text()).endswith(_words(schema))


def test_all_blocks_of_a_large_history_get_the_key_of_version_12(tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    numbers = [*range(1000, 1000 + 2 * SLICE), 2**40 - 1]
    with closing(apsw.Connection(str(file))) as db:
        db.execute((STORES / "sqlite_11.sql").read_text())
        before = list(
            db.execute("SELECT block, last, changes, latest, body FROM history WHERE project = 2 ORDER BY block DESC")
        )
        for project in (1, 3):
            # Neither in the order of numbers nor together: packed blocks take the place of others.
            blocks = [(project, number, number, 1, number, b"%d %d" % (project, number)) for number in numbers]
            db.executemany("INSERT INTO history VALUES (?, ?, ?, ?, ?, ?)", blocks[::-1])
    store = open_store(f"sqlite:///{file}")
    assert store.history_blocks(2, None, 1000) == [HistoryBlock(*row) for row in before]
    for project in (1, 3):
        found = [(block.block, block.last, block.latest, block.body) for block in store.history_blocks(project, None, 1000)]
        assert found == [(number, number, number, b"%d %d" % (project, number)) for number in reversed(numbers)]
        assert store.count(project, HISTORY) == len(numbers)
        assert store.last(project, HISTORY) == (numbers[-1],)
        assert [row[0] for row in store.rows(project, HISTORY, (numbers[0],), 2)] == numbers[1:3]
    store.close()


def _words(text: str) -> str:
    return " ".join(text.split())


EDIT = """[
  {"kind":"declare attribute","subject":"level","before":{},"after":{"type":"STRING","rule":"once"}},
  {"kind":"edit project","subject":"","before":{"name":"一","timezone":"UTC"},
   "after":{"name":"It's \\"two\\"","timezone":"Asia/Tokyo"}}
]"""
OLD_EDIT = 'edit project: name = ["it\'s" 二]'


@pytest.mark.parametrize("engine", ENGINES_BY_URL)
def test_changes_that_were_recorded_become_entries_of_the_audit_log(engine: str, tmp_path: Path) -> None:
    with ENGINES[engine](tmp_path) as url:
        harness = StoreHarness(open_store(url))
        number = harness.project("one").number
        harness.project("two")
        harness.store.close()
        take_back_audit(
            url, [(number, 7, "test", "create project"), (number, 8, "admin", OLD_EDIT), (number, 9, "cli:ann", EDIT)]
        )
        harness.store = harness.service._store = open_store(url)
        before, after = {"name": "一", "timezone": "UTC"}, {"name": 'It\'s "two"', "timezone": "Asia/Tokyo"}
        edited = AuditEvent("edit project", "", before, after)
        declared = AuditEvent("declare attribute", "level", {}, {"type": "STRING", "rule": "once"})
        assert harness.store.audit(number, AuditFilter(), 10) == [
            AuditEntry(4, 3, 9, "cli:ann", edited),
            AuditEntry(3, 3, 9, "cli:ann", declared),
            AuditEntry(2, 2, 8, "admin", AuditEvent(""), sentence=OLD_EDIT),
            AuditEntry(1, 1, 7, "test", AuditEvent(""), sentence="create project"),
        ]
        harness.service.edit_project("one", name="three", actor=TESTER)
        assert [entry.number for entry in harness.store.audit(number, AuditFilter(), 10)] == [5, 4, 3, 2, 1]
        harness.store.close()


@pytest.mark.parametrize("engine", [engine for engine in ENGINES_BY_URL if "sqlite" not in engine])
def test_what_an_older_server_records_during_an_upgrade_becomes_entries_when_the_next_server_starts(
    engine: str, tmp_path: Path
) -> None:
    with ENGINES[engine](tmp_path) as url:
        harness = StoreHarness(open_store(url))
        number = harness.project("one").number
        harness.service.edit_project("one", name="two", actor=TESTER)
        record_changes(url, [(number, 8, "admin", OLD_EDIT), (number, 9, "cli:ann", EDIT)])
        (last,) = harness.store.audit(number, AuditFilter(), 1)
        harness.store.close()
        harness.store = open_store(url)
        found = harness.store.audit(number, AuditFilter(), 4)
        assert [(entry.number - last.number, entry.first - last.number, entry.actor) for entry in found] == [
            (3, 2, "cli:ann"),
            (2, 2, "cli:ann"),
            (1, 1, "admin"),
            (0, last.first - last.number, str(TESTER)),
        ]
        harness.store.close()


def take_back_audit(url: str, changes: list[tuple[int, int, str, str]]) -> None:
    """Convert the store to one with a change log: project, time, actor, and what was done."""
    if url.startswith("sqlite"):
        with closing(apsw.Connection(url.removeprefix("sqlite:///"))) as db:
            db.execute("DROP TABLE audit; DROP TABLE person; DROP TABLE console_session")
            db.execute("DROP TABLE project_key; DROP TABLE key_use")
            db.execute("DROP TABLE history; DROP TABLE history_since; DROP TABLE keyframe; DROP TABLE keyframe_bytes")
            for (table,) in list(db.execute("SELECT name FROM sqlite_schema WHERE name GLOB 'user_[0-9]*'")):
                db.execute(f"ALTER TABLE {table} DROP COLUMN head; ALTER TABLE {table} DROP COLUMN sole_actor")
            db.execute("PRAGMA user_version = 5")
            db.execute(
                "CREATE TABLE schema_change (id INTEGER PRIMARY KEY, project INTEGER NOT NULL, at INTEGER NOT NULL,"
                " who TEXT NOT NULL, what TEXT NOT NULL) STRICT"
            )
            db.executemany("INSERT INTO schema_change (project, at, who, what) VALUES (?, ?, ?, ?)", changes)
        return
    record_changes(url, changes)
    take_back_history(url)
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("DROP TABLE usertable.audit, usertable.person, usertable.console_session")
        db.execute("DROP TABLE usertable.project_key, usertable.key_use")
        db.execute("DELETE FROM usertable.migration WHERE number >= 10")


def take_back_history(url: str) -> None:
    """Convert a PostgreSQL store to one without history."""
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("ALTER TABLE usertable.users DROP COLUMN head, DROP COLUMN sole_actor")
        db.execute("DROP TABLE usertable.history, usertable.history_since, usertable.keyframe")
        db.execute(
            "DROP FUNCTION usertable.draw_block(), usertable.draw_block(bigint, bigint), usertable.merged_with_befores"
        )
        db.execute("DROP SEQUENCE usertable.history_block")
        db.execute("DELETE FROM usertable.migration WHERE number >= 13")


def record_changes(url: str, changes: list[tuple[int, int, str, str]]) -> None:
    """Record changes like PostgreSQL servers with a change log: project, time, actor, and what was done."""
    with psycopg.connect(url, autocommit=True) as db:
        for number, change in enumerate(changes, 1):
            db.execute("INSERT INTO usertable.schema_change VALUES (%s, %s, %s, %s, %s)", (change[0], number, *change[1:]))


def check_sample(harness: StoreHarness, *, moments_are_kept: bool = False) -> None:
    """Check that the store has the content of those in `stores/`, and accepts writes.

    Args:
        moments_are_kept: its version stored when attributes changed.
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
    oldest, next_one, *_ = [(c.actor, change_document(c).what) for c in service.schema_changes("one")[::-1]]
    assert oldest in (("test", "create project"), (str(TESTER), "create project"))
    assert next_one[0] == oldest[0]
    assert next_one[1].startswith("declare attribute user_number_overwrite: NUMBER overwrite")
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
    check_default_key(harness)


def check_history_of_sample(harness: StoreHarness) -> None:
    """Check that history begins with the upgrade: earlier moments are refused, and later ones answered."""
    store, service = harness.store, harness.service
    one, cuid = service.project("one"), 10_000_001
    begin = store.history_since(one.number)
    assert begin is not None
    # The upgrade happens at a real time, and the sample's writes do in 2023.
    assert begin > 1_780_000_000_000
    harness.now = begin
    stored = service.user(one, cuid)
    for moment in (stored.profile.updated_at, begin - 1):
        with pytest.raises(Refused, match="history_gone"):
            service.user_as_of(one, cuid, moment)
    assert service.user_as_of(one, cuid, begin) == present(stored)
    harness.now = begin + 1000
    overwrite = {"user_string_overwrite": "new", "user_list_append": ["w"]}
    harness.write(harness.prepare(one, cuid, overwrite))
    change, *_ = service.changes(one, cuid).changes
    assert (change.unrecorded, change.change.version) == (0, stored.profile.version + 1)
    assert change.change.since == stored.profile.updated_at
    assert not service.changes(one, cuid).is_whole
    for moment in (begin, begin + 999):
        assert service.user_as_of(one, cuid, moment) == present(stored)
    attributes = one.schema.attributes
    back = Restoration([(attributes[name], stored.profile.attributes[name]) for name in overwrite])
    harness.write(Write(one.number, cuid, back, one.version, begin + 2000, origin=Origin("undo:1")))
    assert service.user(one, cuid).profile.attributes == stored.profile.attributes
    harness.now = begin + 3000
    assert service.user_as_of(one, cuid, begin + 1500).attributes == {
        **stored.profile.attributes,
        "user_string_overwrite": "new",
        "user_list_append": ["x", "y", "z", "w"],
    }


def check_history_from_before(harness: StoreHarness) -> None:
    """Check the history that the store of an earlier version had: two users of project two with 40 writes each.

    The first 20 are packed, and a day before the others. Then an import changed one of them. The checked moments end before
    the present of :func:`check_sample`.
    """
    store, service = harness.store, harness.service
    two, cuid, other = service.project("two"), 20_000_001, 20_000_002
    begin = store.history_since(two.number)
    assert begin is not None
    assert any(block.is_packed for block in store.history_blocks(two.number, None, 1000))

    def moment(write: int) -> int:
        return begin + 1000 * write + (DAY_MS if write > 20 else 0)

    harness.now = moment(50)
    (newest, *writes) = [listed.change for listed in service.changes(two, cuid).changes]
    assert (newest.kind, newest.at, newest.identifiers) == ("import", moment(41), [("jg_registration_id", "1a0018970a")])
    assert newest.reports["user_string_overwrite"] == Report("imported", "value 40")
    assert [change.at for change in writes] == [moment(n) for n in range(40, 0, -1)] + [begin]
    assert [change.origin.actor for change in writes[:3]] == ["key:old", "key:billing", "key:old"]
    for write in range(1, 41):
        for when in (moment(write), moment(write) + 999):
            past = service.user_as_of(two, cuid, when)
            assert past.attributes == {
                "user_number_accumulate": write * (write + 1) // 2,
                "user_list_append": [str(n % 7) for n in range(1, min(write, 7) + 1)],
                "user_string_overwrite": f"value {write}",
            }
            assert past.identifiers == {}
            assert service.user_as_of(two, other, when).attributes == {"user_number_overwrite": Decimal(write) / 10}
    # What is written from now on continues it.
    written = {"user_number_accumulate": 1}
    harness.write(*(harness.prepare(two, cuid, written, f"new {n}") for n in range(VERSIONS)))
    assert service.user_as_of(two, cuid, moment(7)).attributes["user_number_accumulate"] == 28
    assert [listed.unrecorded for listed in service.changes(two, cuid).changes] == [0] * (42 + VERSIONS)


def check_keys_and_people(harness: StoreHarness) -> None:
    service, two = harness.service, harness.service.project("two")
    uses = {use.key.name: use.key for use in service.keys(two)}
    assert (uses["billing"].scopes, uses["billing"].revoked_at) == (frozenset({Scope.WRITE}), None)
    assert uses["old"].revoked_at == 1_700_000_000_010
    found = service.verify("two", "the-secret-of-billing")
    assert found is not None
    assert found.match.key == "billing"
    assert service.verify("two", "the-secret-that-was-revoked") is None
    people = {person.email: person for person in harness.store.people()}
    assert people["ann@example.com"].admin
    assert people["bo@example.com"].roles == {two.number: Role.EDITOR}


def check_default_key(harness: StoreHarness) -> None:
    """Check that the secret of a project created before there were keys is that of the key `default`, with all scopes."""
    service, one = harness.service, harness.service.project("one")
    (use,) = service.keys(one)
    assert (use.key.name, use.key.scopes, use.key.expires_at, use.last_used) == (DEFAULT_KEY, PROJECT_SCOPES, None, None)
    if not one.stored_keys:
        assert use.key.created_at == one.created_at
    caller = service.verify("one", "secret")
    assert caller is not None
    assert caller.match.key == DEFAULT_KEY
    assert service.verify("one", "wrong") is None
    _, secret = service.create_key("one", "billing", [Scope.WRITE], granted=ALL_SCOPES, actor=TESTER)
    found = service.verify("one", secret)
    assert found is not None
    assert found.match.key == "billing"
    assert service.verify("one", "secret")


def test_the_schema_in_the_source_is_what_the_migrations_make() -> None:
    assert POSTGRES.read_text() == postgres_schema()
    assert SQLITE.read_text() == sqlite_schema()


def take_back_changed_at(url: str) -> None:
    take_back_audit(url, [])
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


OLD_MERGE = """
WITH merged AS MATERIALIZED (
  SELECT *, now[1] AS attributes, now[2] AS changed_at, now = '{}' AS unchanged
  FROM (
    SELECT u.cuid, u.row_at, u.version, p.t, usertable.merged(
      u.attributes, u.changed_at, p.t, p.s, %(shapes)s::jsonb -> p.h -> 'w', p.o, %(shapes)s::jsonb -> p.h -> 'm') AS now
    FROM jsonb_to_recordset(%(patches)s::jsonb) AS p (c bigint, t bigint, h int, s jsonb, o jsonb)
    CROSS JOIN LATERAL (
      SELECT cuid, version, attributes, changed_at, ctid AS row_at FROM usertable.users
      WHERE project = %(project)s AND cuid = p.c OFFSET 0
    ) u
    WHERE EXISTS (SELECT 1 FROM usertable.project WHERE number = %(project)s AND version = %(version)s)
    OFFSET 0
  ) found
), changed AS (
  UPDATE usertable.users u
  SET version = m.version + 1, updated_at = m.t, attributes = m.attributes, changed_at = m.changed_at
  FROM merged m
  WHERE u.ctid = m.row_at AND u.version = m.version AND pg_column_size(m.attributes) <= %(limit)s
  RETURNING u.cuid
)
SELECT cuid FROM changed UNION ALL SELECT cuid FROM merged WHERE unchanged
"""
OLD_MERGE_IN_SHARD = """
WITH merged AS MATERIALIZED (
  SELECT *, now[1] AS attributes, now[2] AS changed_at, now = '{}' AS unchanged, pg_column_size(now[1]) AS size
  FROM (
    SELECT u.cuid, u.version, p.t, usertable.merged(
      u.attributes, u.changed_at, p.t, p.s, %(shapes)s::jsonb -> p.h -> 'w', p.o, %(shapes)s::jsonb -> p.h -> 'm') AS now
    FROM jsonb_to_recordset(%(patches)s::jsonb) AS p (c bigint, t bigint, h int, s jsonb, o jsonb)
    JOIN usertable.users u ON u.project = %(project)s AND u.cuid = ANY(%(cuids)s::bigint[]) AND u.cuid = p.c
    WHERE EXISTS (SELECT 1 FROM usertable.project WHERE number = %(project)s AND version = %(version)s)
    OFFSET 0
  ) found
), changed AS (
  UPDATE usertable.users u
  SET version = m.version + 1, updated_at = m.t, attributes = m.attributes, changed_at = m.changed_at
  FROM merged m
  WHERE u.project = %(project)s AND u.cuid = ANY(%(cuids)s::bigint[]) AND u.cuid = m.cuid
    AND u.version = m.version AND m.size <= %(limit)s
  RETURNING u.cuid
)
SELECT cuid FROM changed UNION ALL SELECT cuid FROM merged WHERE unchanged
"""
OLD_CHANGE = """
UPDATE usertable.users u
SET version = p.v, updated_at = p.t, attributes = (u.attributes - coalesce(p.r, '{}')) || p.a, changed_at = p.m
FROM jsonb_to_recordset(%(rows)s::jsonb) AS p (c bigint, v bigint, t bigint, a jsonb, r text[], m jsonb)
WHERE u.project = %(project)s AND u.cuid = p.c AND u.cuid = ANY(%(cuids)s::bigint[])
"""
OLD_CREATE = """
COPY usertable.users (project, cuid, version, created_at, updated_at, changed_at, attributes) FROM STDIN
"""
"""Statements of the version before history: a write that the database merges, the same on Citus, one that it does not merge,
and a new user."""


class OlderServer:
    """What a server of the version before history does to users, beside newer ones."""

    def __init__(self, harness: StoreHarness, project: Project, url: str) -> None:
        self._harness = harness
        self._project = project
        self._url = url

    def add_user(self, cuid: int) -> None:
        now = self._harness.now
        with psycopg.connect(self._url, autocommit=True) as db, db.cursor() as cursor, cursor.copy(OLD_CREATE) as rows:
            rows.write_row((self._project.number, cuid, 1, now, now, "{}", "{}"))

    def write(self, cuid: int, data: dict[str, object], *, merging: bool = True) -> None:
        write = self._harness.prepare(self._project, cuid, data)
        number, limit = self._project.number, 1_000_000
        with psycopg.connect(self._url, autocommit=True) as db:
            if merging:
                encoded = encode_patches([write])
                texts = {"patches": encoded.patches.decode(), "shapes": encoded.shapes.decode()}
                parameters = {**texts, "version": self._project.version, "limit": limit, "project": number, "cuids": [cuid]}
                old = OLD_MERGE_IN_SHARD if is_distributed(db) else OLD_MERGE
                assert db.execute(old, parameters).fetchall() == [(cuid,)]
                return
            profile = self._harness.service.user(self._project, cuid).profile
            change = UserChange(cuid, decide(profile, write.patch, self._harness.now))
            rows = encode_user_changes([change])
            db.execute(OLD_CHANGE, {"rows": rows, "project": number, "cuids": [cuid]})


@pytest.mark.parametrize("engine", [engine for engine in ENGINES_BY_URL if engine != "sqlite"])
def test_what_an_older_server_writes_during_an_upgrade_is_a_gap_in_history_and_never_a_wrong_value(
    engine: str, tmp_path: Path
) -> None:
    with ENGINES[engine](tmp_path) as url:
        harness = StoreHarness(open_store(url))
        project, service = harness.project("one"), harness.service
        old = OlderServer(harness, project, url)
        new_user, old_user = harness.user(project), 5
        harness.now += 10
        old.add_user(old_user)
        seen: dict[tuple[int, int], PastUser] = {}
        one, five = {"user_number_accumulate": 1}, {"user_number_accumulate": 5, "user_list_append": ["x"]}
        for writer in ("new", "new", "old", "declined by old", "new", "old", "new"):
            for cuid in (new_user, old_user):
                seen[cuid, harness.now] = present(service.user(project, cuid))
                harness.now += 10
                if writer == "new":
                    harness.write(harness.prepare(project, cuid, one))
                else:
                    old.write(cuid, five if writer == "old" else {"user_string_overwrite": "o"}, merging=writer == "old")
        for cuid in (new_user, old_user):
            listed = service.changes(project, cuid)
            assert [(change.change.version, change.unrecorded) for change in listed.changes][:4] == [
                (8, 0),
                (6, 1),
                (3, 2),
                (2, 0),
            ]
            # Who created a user is not known if an older server did.
            assert listed.is_whole == (cuid == new_user)
            assert [change.change.kind for change in listed.changes[4:]] == [ChangeKind.CREATED][: cuid == new_user]
        for (cuid, moment), user in seen.items():
            if user.version < 7:
                with pytest.raises(Refused, match="history_gone"):
                    service.user_as_of(project, cuid, moment)
            else:
                # An older server wrote version 7, and a newer one recorded what it found when it wrote version 8.
                assert service.user_as_of(project, cuid, moment) == user
        # It is refused too that a user is as it was before an unrecorded write that nothing has followed yet.
        harness.now += 10
        old.write(new_user, five)
        assert service.changes(project, new_user).changes[0].unrecorded == 1
        with pytest.raises(Refused, match="history_gone"):
            service.user_as_of(project, new_user, harness.now - 1)
        assert service.user_as_of(project, new_user, harness.now) == present(service.user(project, new_user))
        harness.store.close()


@pytest.mark.parametrize("engine", [engine for engine in ENGINES_BY_URL if engine != "sqlite"])
def test_the_functions_of_a_store_run_where_its_users_are(engine: str, tmp_path: Path) -> None:
    """On a cluster that is on every machine, even if the store had its tables before the cluster."""
    with ENGINES[engine](tmp_path) as url:
        harness = StoreHarness(open_store(url))
        harness.service.register(harness.project(), "phone", [str(number) for number in range(20)], actor=TESTER)
        harness.store.close()
        with psycopg.connect(url, autocommit=True) as db:
            assert db.execute(EVERY_FUNCTION).fetchone() == (20, 20, 20, 20, 20)
            db.execute("DROP FUNCTION usertable.changes")
            take_back_audit(url, [])
            db.execute("DELETE FROM usertable.migration WHERE number >= 9")
        open_store(url).close()
        with psycopg.connect(url, autocommit=True) as db:
            assert db.execute(EVERY_FUNCTION).fetchone() == (20, 20, 20, 20, 20)


EVERY_FUNCTION = """
SELECT
  count(usertable.merge(attributes, '{}', '[]')),
  count(usertable.merged(attributes, changed_at, 1, '{}', '[]', '[]', '{}')),
  count(usertable.merged_with_befores(attributes, changed_at, 1, '{}', '[]', '{"w":[],"m":{},"n":[0,0]}')),
  count(usertable.outcomes(attributes, attributes, '[]')),
  count(usertable.changes(attributes, attributes, '[]'))
FROM usertable.users
"""


@pytest.mark.parametrize("engine", ENGINES_BY_URL)
def test_a_store_is_served_by_a_version_that_does_not_know_its_newest_column(engine: str, tmp_path: Path) -> None:
    """Writes name their columns, so a migration that adds one does not break servers that opened the store before."""
    with ENGINES[engine](tmp_path) as url:
        harness = StoreHarness(open_store(url))
        project = harness.project("one")
        cuid = harness.user(project)
        add_columns(url)
        harness.write(harness.prepare(project, cuid, {"user_string_overwrite": "a"}, "key"))
        harness.user(project, "new")
        assert erase_user(harness.store, project.number, cuid)
        harness.service.create_project("two", id="two", actor=TESTER)
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
