"""What a command loads and keeps.

The statements of the write path are shaped for Python: reading a batch and writing it back is one step of SQLite each,
because the interpreter lock is released and taken again at every step, for which the server's thread competes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import apsw
import msgspec

from usertable.domain.change import last_profiles
from usertable.domain.profile import Profile
from usertable.domain.schema import Project
from usertable.domain.schema_change import Change
from usertable.store.encoding import (
    decode_profiles,
    decode_written,
    encode_attributes,
    encode_changed_at,
    encode_changes,
    encode_project,
    encode_written,
)
from usertable.store.queries import load_queries
from usertable.store.records import FIRST_CUID, NewReceipt, StoredReceipt
from usertable.store.sqlite import reads
from usertable.store.sqlite.statements import SQLITE_LENGTH, for_project, insert_rows, json_array
from usertable.store.transaction import Loaded, Mutation, Wanted

_SQL = load_queries("usertable.store.sqlite", "transaction.sql")
_CUIDS_AT_ONCE = 1000
"""Number of CUIDs that are looked at together: behind the counter hardly any is used."""


class RowsTooLarge(Exception):
    """The rows of a batch's users have too many bytes to be loaded together."""


class SQLiteTransaction:
    """See :class:`usertable.store.transaction.Transaction`.

    Args:
        db: a connection in a transaction that writes.
        reported: by project, attributes that are known to be stored as reported.
        maximum_bytes: that the rows of users whom a write changes may have together, by project.
    """

    def __init__(self, db: apsw.Connection, reported: Mapping[int, set[str]], maximum_bytes: int) -> None:
        self._db = db
        self._known_reported = reported
        self._maximum_bytes = maximum_bytes
        self.rows = 0
        """Rows of users that were replaced."""
        self.reported: list[tuple[int, str]] = []
        """Projects and attributes that were stored as reported."""

    def load(self, wanted: Mapping[int, Wanted]) -> dict[int, Loaded]:
        """Raises RowsTooLarge."""
        return {number: self._load(number, of_project) for number, of_project in wanted.items()}

    def _load(self, number: int, wanted: Wanted) -> Loaded:
        if wanted.project or wanted.values or wanted.job is not None:
            return self._whole_project(number, wanted)
        return self._users(number, wanted)

    def _users(self, number: int, wanted: Wanted) -> Loaded:
        """Users and receipts only, in few steps."""
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
        # New users are often brought in the order of their CUIDs: then a glance at the span saves looking for each.
        is_there, is_erased = db.execute(for_project(_SQL["span"], number), (min(cuids), max(cuids))).get
        if is_there:
            loaded.profiles = reads.profiles(db, number, cuids)
        if is_erased:
            rows = db.execute(for_project(_SQL["erased"], number), (json_array(cuids),))
            loaded.erased = {cuid for (cuid,) in rows}
        if wanted.values and wanted.rows_of_owners:
            loaded.values = reads.values_of_users(db, number, cuids)
        return loaded

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
        if mutation.created:
            statement = for_project(_SQL["create_users"], number).replace("{now}", str(mutation.created_at))
            db.executemany(statement, mutation.created)
        if mutation.changes:
            profiles = last_profiles(mutation.changes)
            _replace_users(db, number, profiles)
            self.rows += len(profiles)
        if mutation.values:
            db.executemany(for_project(_SQL["add_values"], number), mutation.values)
        for cuid in mutation.erased:
            db.execute(for_project(_SQL["erase"], number), {"cuid": cuid})

    def project(self, project_id: str) -> Project | None:
        return reads.project_by_id(self._db, project_id)

    def has_project(self, project_id: str) -> bool:
        return reads.project_by_id(self._db, project_id) is not None

    def add_project(self, project: Project, actor: str, changes: Sequence[Change]) -> Project:
        db = self._db
        db.execute(_SQL["add_project"], (project.id, project.version, FIRST_CUID, encode_project(project)))
        number = db.last_insert_rowid()
        make_user_table(db, number)
        _record(db, number, project.created_at, actor, changes)
        return replace(project, number=number)

    def replace_project(self, project: Project, actor: str, changes: Sequence[Change], now: int) -> None:
        self._db.execute(
            "UPDATE project SET version = ?, document = ? WHERE number = ?",
            (project.version, encode_project(project), project.number),
        )
        _record(self._db, project.number, now, actor, changes)


def make_user_table(db: apsw.Connection, project: int) -> None:
    """The project's table of users, unless it is there."""
    db.execute(for_project(_SQL["make_user_table"], project))


def _unused(db: apsw.Connection, project: int) -> Iterator[int]:
    """CUIDs that were never given to anybody, from the project's counter on. Looks when it is asked for the first."""
    span, is_used = (for_project(_SQL[name], project) for name in ("span", "is_used"))
    for first in itertools.count(reads.next_cuid(db, project), _CUIDS_AT_ONCE):
        cuids = range(first, first + _CUIDS_AT_ONCE)
        are_unused = not any(db.execute(span, (cuids[0], cuids[-1])).get)
        for cuid in cuids:
            if are_unused or db.execute(is_used, {"cuid": cuid}).fetchone() is None:
                yield cuid


def expire_receipts(db: apsw.Connection, before: int) -> int:
    """Forget receipts made before that moment (ms since 1970 UTC), some thousands at most; how many it were."""
    expired = list(db.execute(_SQL["expired_receipts"], (before,)))
    db.executemany("DELETE FROM receipt WHERE id = ?", expired)
    return len(expired)


def _receipts(db: apsw.Connection, project: int, keys: Sequence[str]) -> dict[str, StoredReceipt]:
    rows = db.execute(_SQL["receipts"], (project, msgspec.json.encode(keys).decode()))
    return {key: StoredReceipt(fingerprint, decode_written(written)) for key, fingerprint, written in rows}


def _replace_users(db: apsw.Connection, project: int, profiles: Mapping[int, Profile]) -> None:
    parameters: list[int | str] = []
    for cuid, p in profiles.items():
        parameters.extend(
            (cuid, p.version, p.created_at, p.updated_at, encode_attributes(p.attributes), encode_changed_at(p.changed_at))
        )
    insert_rows(db, for_project(_SQL["replace_users"], project), 6, parameters)


def _insert_receipts(db: apsw.Connection, receipts: Sequence[NewReceipt]) -> None:
    parameters: list[Any] = []
    last, text = None, ""
    for r in receipts:
        # Most rows of an import come to the same.
        if r.written != last:
            last, text = r.written, encode_written(r.written)
        parameters.extend((r.project, r.key, r.cuid, r.fingerprint, text, r.written.attributes is not None, r.at))
    insert_rows(db, _SQL["add_receipts"], 7, parameters)


def _record(db: apsw.Connection, project: int, at: int, actor: str, changes: Sequence[Change]) -> None:
    what = {"project": project, "at": at, "actor": actor, "changes": encode_changes(changes)}
    db.execute(_SQL["record_change"], what)
