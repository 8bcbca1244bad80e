"""Loading and storing for a command.

The statements of the write path are designed for Python: reading a batch and writing it back is one SQLite step each,
because each step releases and reacquires the interpreter lock, for which the server's thread competes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import apsw
import msgspec

from usertable.domain.actor import Actor
from usertable.domain.audit import AuditEvent
from usertable.domain.change import Change, last_profiles
from usertable.domain.key import Key
from usertable.domain.person import Person, Session
from usertable.domain.profile import Profile
from usertable.domain.schema import Project
from usertable.store.encoding import (
    audit_rows,
    decode_profiles,
    decode_written,
    encode_attributes,
    encode_changed_at,
    encode_key,
    encode_project,
    encode_written,
)
from usertable.store.history import PLACES, head_of_created
from usertable.store.queries import load_queries
from usertable.store.records import FIRST_CUID, NewReceipt, StoredReceipt
from usertable.store.sqlite import history, people, reads
from usertable.store.sqlite.statements import SQLITE_LENGTH, for_project, insert_rows, json_array
from usertable.store.transaction import Loaded, Mutation, Wanted

_SQL = load_queries("usertable.store.sqlite", "transaction.sql")
_CUIDS_AT_ONCE = 1000
"""Number of CUIDs that are checked together: hardly any after the counter is used."""


class RowsTooLarge(Exception):
    """The rows of a batch's users have too many bytes to be loaded together."""


class SQLiteTransaction:
    """See :class:`usertable.store.transaction.Transaction`.

    Args:
        db: a connection in a write transaction.
        reported: by project, attributes that are known to be stored as reported.
        maximum_bytes: maximum bytes of the rows of all users that a write changes, by project.
    """

    def __init__(self, db: apsw.Connection, reported: Mapping[int, set[str]], maximum_bytes: int) -> None:
        self._db = db
        self._known_reported = reported
        self._maximum_bytes = maximum_bytes
        self.rows = 0
        """Number of users' rows that were replaced."""
        self.has_erased = False
        """Whether users were erased."""
        self.reported: list[tuple[int, str]] = []
        """Projects and attributes that were stored as reported."""

    def load(self, wanted: Mapping[int, Wanted]) -> dict[int, Loaded]:
        """Load what is wanted. Raises RowsTooLarge."""
        return {number: self._load(number, of_project) for number, of_project in wanted.items()}

    def _load(self, number: int, wanted: Wanted) -> Loaded:
        if wanted.project or wanted.values or wanted.job is not None:
            return self._whole_project(number, wanted)
        return self._users(number, wanted)

    def _users(self, number: int, wanted: Wanted) -> Loaded:
        """Load users and receipts only, in few steps."""
        db = self._db
        db.limit(apsw.SQLITE_LIMIT_LENGTH, self._maximum_bytes)
        try:
            version, rows = db.execute(for_project(_SQL["version_and_users"], number), (json_array(wanted.cuids),)).get
        except apsw.TooBigError as error:
            raise RowsTooLarge from error
        finally:
            db.limit(apsw.SQLITE_LIMIT_LENGTH, SQLITE_LENGTH)
        loaded = Loaded(version, unused=_unused(db, number))
        if rows is not None:
            loaded.profiles = decode_profiles(rows)
        if wanted.keys:
            loaded.receipts = _receipts(db, number, wanted.keys)
        return loaded

    def _whole_project(self, number: int, wanted: Wanted) -> Loaded:
        db = self._db
        project = reads.project_by_number(db, number)
        loaded = Loaded(project.version, project=project, unused=_unused(db, number))
        if wanted.keys:
            loaded.receipts = _receipts(db, number, wanted.keys)
        if wanted.job is not None:
            loaded.job = reads.job(db, number, wanted.job)
        for name, values in wanted.values.items():
            found = reads.owners(db, number, name, values)
            loaded.owners.update({(name, value): cuid for value, cuid in found.items()})
        cuids = set(wanted.cuids)
        if wanted.rows_of_owners:
            cuids.update(loaded.owners.values())
        if not cuids:
            return loaded
        # New users often arrive in the order of their CUIDs. Then checking the range saves a lookup for each.
        is_there, is_erased = db.execute(for_project(_SQL["span"], number), (min(cuids), max(cuids))).get
        if is_there:
            loaded.profiles = reads.profiles(db, number, cuids)
        if is_erased:
            rows = db.execute(for_project(_SQL["erased"], number), (json_array(cuids),))
            loaded.erased = {cuid for (cuid,) in rows}
        if wanted.values and wanted.rows_of_owners:
            loaded.values = reads.values_of_users(db, number, cuids)
        return loaded

    def changes(self, project: int, cuid: int, head: int) -> Iterator[Change]:
        return history.changes(self._db, project, cuid, head)

    def history_since(self, project: int) -> int | None:
        return history.since(self._db, project)

    def keep_history_since(self, project: int, moment: int | None) -> None:
        history.keep_since(self._db, project, moment)

    def next_change(self, project: int) -> int:
        return history.next_block(self._db, project) * PLACES

    def newest_change(self, project: int) -> int | None:
        return history.newest(self._db, project)

    def keep(self, mutations: Sequence[Mutation]) -> None:
        db = self._db
        for mutation in mutations:
            self._keep_users(mutation)
            number = mutation.project
            if new_names := mutation.reported - self._known_reported.get(number, set()):
                self.reported += [(number, name) for name in new_names]
            if mutation.next_cuid:
                db.execute(_SQL["raise_counter"], {"project": number, "next_cuid": mutation.next_cuid})
            if mutation.job:
                db.execute("REPLACE INTO import_job (project, name, state) VALUES (?, ?, ?)", (number, *mutation.job))
        if receipts := [receipt for mutation in mutations for receipt in mutation.receipts]:
            _insert_receipts(db, receipts)
        if self.reported:
            db.executemany("INSERT OR IGNORE INTO reported (project, attribute) VALUES (?, ?)", self.reported)

    def _keep_users(self, mutation: Mutation) -> None:
        db, number = self._db, mutation.project
        for cuid in mutation.erased:
            history.forget(db, number, cuid)
        blocks = history.record(db, mutation)
        if mutation.created:
            head, actor = head_of_created(blocks, mutation)
            statement = for_project(_SQL["create_users"], number).replace("{now}", str(mutation.created_at))
            statement = statement.replace("{head}", str(head)).replace("{actor}", apsw.format_sql_value(actor))
            db.executemany(statement, mutation.created)
        if mutation.changes:
            profiles = last_profiles(mutation.changes)
            _replace_users(db, number, profiles)
            self.rows += len(profiles)
        if mutation.values:
            db.executemany(for_project(_SQL["add_values"], number), mutation.values)
        for cuid in mutation.erased:
            db.execute(for_project(_SQL["erase"], number), {"cuid": cuid})
            self.has_erased = True

    def project(self, project_id: str) -> Project | None:
        return reads.project_by_id(self._db, project_id)

    def stored_key(self, project: int, name: str) -> Key | None:
        return reads.stored_key(self._db, project, name)

    def has_project(self, project_id: str) -> bool:
        return reads.project_by_id(self._db, project_id) is not None

    def add_project(self, project: Project) -> Project:
        db = self._db
        db.execute(_SQL["add_project"], (project.id, project.version, FIRST_CUID, encode_project(project)))
        number = db.last_insert_rowid()
        make_user_table(db, number)
        _keep_keys(db, number, project.stored_keys)
        advance_epoch(db)
        return replace(project, number=number)

    def replace_project(self, project: Project, keys: Sequence[Key]) -> None:
        self._db.execute(
            "UPDATE project SET version = ?, document = ? WHERE number = ?",
            (project.version, encode_project(project), project.number),
        )
        _keep_keys(self._db, project.number, keys)
        advance_epoch(self._db)

    def people(self) -> dict[str, Person]:
        return {person.id: person for person in people.people(self._db)}

    def keep_person(self, person: Person) -> None:
        people.keep_person(self._db, person)

    def remove_person(self, id: str) -> None:
        people.remove_person(self._db, id)

    def add_session(self, session: Session) -> None:
        people.add_session(self._db, session)

    def renew_session(self, session: Session) -> None:
        people.renew_session(self._db, session)

    def end_session(self, digest: bytes) -> None:
        people.end_session(self._db, digest)

    def end_sessions(self, person: str, *, but: bytes = b"") -> int:
        return people.end_sessions(self._db, person, but)

    def keep_newest_sessions(self, person: str, count: int) -> None:
        people.keep_newest_sessions(self._db, person, count)

    def record(self, project: int, actor: Actor, events: Sequence[AuditEvent], now: int) -> None:
        last: int = self._db.execute("SELECT coalesce(max(number), 0) FROM audit WHERE project = ?", (project,)).get
        self._db.executemany(_SQL["record"], [(project, *row) for row in audit_rows(actor, events, last, now)])


def advance_epoch(db: apsw.Connection) -> None:
    """Notify the servers that a project was created or changed: they poll the epoch."""
    db.execute("UPDATE epoch SET value = value + 1")


def _keep_keys(db: apsw.Connection, project: int, keys: Sequence[Key]) -> None:
    db.executemany(_SQL["keep_key"], [(project, key.name, encode_key(key)) for key in keys])


def make_user_table(db: apsw.Connection, project: int) -> None:
    """Create the project's user table unless it exists."""
    db.execute(for_project(_SQL["make_user_table"], project))


def _unused(db: apsw.Connection, project: int) -> Iterator[int]:
    """Yield CUIDs that were never assigned, from the project's counter on. Queries on the first use."""
    span, is_used = (for_project(_SQL[name], project) for name in ("span", "is_used"))
    for first in itertools.count(reads.next_cuid(db, project), _CUIDS_AT_ONCE):
        cuids = range(first, first + _CUIDS_AT_ONCE)
        are_unused = not any(db.execute(span, (cuids[0], cuids[-1])).get)
        for cuid in cuids:
            if are_unused or db.execute(is_used, {"cuid": cuid}).fetchone() is None:
                yield cuid


def expire_receipts(db: apsw.Connection, before: int) -> int:
    """Delete receipts created before that moment (ms since 1970 UTC), some thousands at most. Return how many."""
    expired = list(db.execute(_SQL["expired_receipts"], (before,)))
    db.executemany("DELETE FROM receipt WHERE id = ?", expired)
    return len(expired)


def _receipts(db: apsw.Connection, project: int, keys: Sequence[str]) -> dict[str, StoredReceipt]:
    rows = db.execute(_SQL["receipts"], (project, msgspec.json.encode(keys).decode()))
    return {key: StoredReceipt(fingerprint, decode_written(written)) for key, fingerprint, written in rows}


def _replace_users(db: apsw.Connection, project: int, profiles: Mapping[int, Profile]) -> None:
    parameters: list[int | str] = []
    for cuid, p in profiles.items():
        attributes, changed_at = encode_attributes(p.attributes), encode_changed_at(p.changed_at)
        parameters.extend(
            (cuid, p.version, p.created_at, p.updated_at, attributes, changed_at, p.head, p.sole_actor),
        )
    insert_rows(db, for_project(_SQL["replace_users"], project), 8, parameters)


def _insert_receipts(db: apsw.Connection, receipts: Sequence[NewReceipt]) -> None:
    parameters: list[Any] = []
    last, text = None, ""
    for r in receipts:
        # Each write has a change of its own. Most rows of an import have the same result.
        if r.written.change is not None or r.written != last:
            last, text = r.written, encode_written(r.written)
        parameters.extend((r.project, r.key, r.cuid, r.fingerprint, text, r.written.attributes is not None, r.at))
    insert_rows(db, _SQL["add_receipts"], 7, parameters)
