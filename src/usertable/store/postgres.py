"""PostgreSQL 15 to 18: any number of server processes on any number of hosts over one database.

All tables stand in the schema `usertable`. Everything runs under READ COMMITTED, where a statement sees what was committed
before it began; what must not change under a transaction is locked first and read afterwards:

- a project (its schema, its settings): an advisory lock, shared by those who use it, exclusive for an edit;
- a user: its row, and several in the order of project and CUID, so that no two writers wait for each other;
- the giving of CUIDs: the project's row in `cuid_counter`.

Plain writes take no lock beforehand: the database merges them in one statement, which leaves alone whoever got another
version meanwhile (docs/adr/0007-postgresql.md).

A transaction that others got in the way of (deadlock, serialization), or whose connection broke before COMMIT was sent, has
changed nothing and is begun again. A connection that breaks during COMMIT leaves open what came of it: StoreDown.
"""

from __future__ import annotations

import itertools
import logging
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import ExecStatus
from psycopg.sql import SQL, Identifier, Placeholder
from psycopg_pool import ConnectionPool, PoolTimeout

from usertable.domain.arrival import Arrival, Arrivals, Rate
from usertable.domain.condition import Condition
from usertable.domain.errors import Kind, StoreDown, StoreFault, StoreMissing, refuse
from usertable.domain.identity import MAX_CUID
from usertable.domain.profile import Profile
from usertable.domain.schema import Attribute, Project
from usertable.store.citus import ShardMap, distribute, load_shards
from usertable.store.encoding import (
    decode_arrival,
    decode_changes,
    decode_profiles,
    decode_project,
    decode_user,
    decode_user_profiles,
    decode_values,
    decode_written,
    encode_arrival,
    encode_changes,
    encode_patches,
    encode_project,
    encode_rows,
    encode_user,
    encode_written,
)
from usertable.store.incoming import Intake, Known, named, resolve_batch, row_keys, values_by_user
from usertable.store.migrations import migrations, outdated
from usertable.store.parts import USERS, VALUES, Part, Row
from usertable.store.postgres_filter import translate
from usertable.store.protocol import KEPT_SAMPLES, Decide, Note, Snapshot
from usertable.store.records import (
    FIRST_CUID,
    LARGEST_COUNTED_CUID,
    WRITTEN,
    Batch,
    Column,
    Fill,
    JobMoved,
    NewReceipt,
    Page,
    Result,
    SchemaChange,
    SchemaStale,
    Selection,
    StoredReceipt,
    Taken,
    Tally,
    User,
    Write,
)
from usertable.store.resolution import Resolution, resolve
from usertable.store.urls import URL_HOSTS, shown_url

OLDEST_SERVER = 15
POOL_SIZE = 8
"""Connections of a process, unless the URL says `pool_size=N`."""
MERGE_PARAMETERS = ("project", "version", "patches", "shapes", "limit")
JSON_PER_JSONB = 8
"""Bytes of JSON text per byte of jsonb, at most: a control character is one byte there, and `\\u0001` here."""
LOOKING_CONNECTIONS = 2
"""Further connections of a server process, for those who look through the user table: they never keep a write waiting."""
CONNECT_SECONDS = 5
POOL_SECONDS = 1.0
"""Seconds of waiting for a connection after which a caller checks whether the database is there at all."""
DOWN_SECONDS = 0.5
"""Seconds between two checks whether a database that is down is back. Meanwhile callers fail at once."""
RENEW_SECONDS = 1.0
"""Minimum seconds between two replacements of connections that take no writes."""
LEAVING_SECONDS = 1.0
"""Seconds for which connections of others may still end before the database counts as in use."""
RENEWALS_TOLD_SECONDS = 60.0
"""Minimum seconds between two log lines about such replacements. Each refused write is in the log by itself."""
BROKEN_CONNECTIONS = 5
"""After so many that broke, one after the other, the database counts as down."""
POOLER_PROBES = 5
"""Number of probes after which a pooler that never lends the client's connection counts as pooling by session."""
CONFLICT_SECONDS = 30
"""Seconds for which a transaction that conflicts with others is retried before it fails."""
LOCK_CLASS = 0x75746231
"""The first key of our advisory locks; the second is a project's number, or one of the next."""
LOCK_PROJECTS = 0
LOCK_MIGRATIONS = -1
LOCK_EXPIRY = -2
LOCK_ARRIVALS = -3
SNAPSHOT_ROWS = 5000
_DOCUMENTS = ("attributes", "changed_at")
"""Columns of JSON."""
EXPIRY_WINDOW = 10_000
"""Receipts of so many ms are removed in one transaction."""
_ENCODING = "UTF8"
"""The one encoding in which we talk with the database, whatever PGCLIENTENCODING or the role's settings say: the statements
that are sent from the event loop are encoded by us, and bytes of another encoding would be stored as other text."""
_CONNECTION_DEFAULTS = {
    "application_name": "usertable",
    "connect_timeout": str(CONNECT_SECONDS),
    # A host that is gone is noticed in seconds, not in the kernel's quarter of an hour.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
_SESSION: LiteralString = """
    SET default_transaction_isolation = 'read committed';
    SET standard_conforming_strings = on;
    SET search_path = pg_catalog, pg_temp;
    SELECT set_config('synchronous_commit', coalesce(nullif(current_setting('synchronous_commit'), 'off'), 'on'), false)
"""
"""Said on every connection, because a role, a database or PGOPTIONS may say otherwise. The locks above hold under READ
COMMITTED only, and what is answered must be durable."""
_URL = re.compile(rf"(?P<place>postgres(?:ql)?://(?:[^][@/]*@)?{URL_HOSTS}(?:/[^?]*)?)(?:\?(?P<query>.*))?", re.DOTALL)
_LONE_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")
_BY_INDEX: LiteralString = """
    SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
    SET jit = off
"""
"""Said on every connection. Each statement on a large table has an index for it, and no other plan is ever right.
Without this, a database that has not analysed a table just loaded goes through all users for every batch, and so does a
plan that was made when there were few. Every other plan counts as immensely dear then, which alone would set off JIT."""

log = logging.getLogger("usertable.store")
# It tells of every attempt to connect, in several lines. That the database is away is told by those who need it.
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
# What the pool says goes to a server's log, but not to the terminal of a command, which tells itself what failed.
logging.getLogger("psycopg.pool").addHandler(logging.NullHandler())

T = TypeVar("T")
Connection = psycopg.Connection[tuple[Any, ...]]
UserPlace = tuple[int, int]
"""A user: the project's number, and the CUID."""
Pool = ConnectionPool[Connection]


class PostgresStore:
    """See :class:`usertable.store.protocol.Store`.

    Args:
        url: `postgresql://user:password@host:port/database`, with libpq's parameters, and `pool_size=N`.
        serving: this is a server: it says in its log what may lose writes that were answered.
        alone: refuse if a server uses the database.
        create: make the tables if there are none.
        migrate: bring tables of an older version to this one; if not, they are refused.
        writing: this is a server's writer, which the server has checked and migrated the store for. It need not be
            reachable now.

    Raises:
        StoreMissing: there are no tables, and `create` is false.
        StoreFault: the database cannot be used: unreachable, too old, a standby, too new a store, or no right to migrate.
    """

    def __init__(
        self,
        url: str,
        *,
        serving: bool = False,
        writing: bool = False,
        alone: bool = False,
        create: bool = True,
        migrate: bool = True,
    ) -> None:
        self._shown = shown_url(url)
        self._reported: dict[int, set[str]] = {}
        self._shards: ShardMap | _Unknown | None = _UNKNOWN
        conninfo, size = _place(url)
        if not writing:
            with _opened(conninfo, self._shown) as db:
                if alone:
                    _check_alone(db, self._shown)
                if not create and not _version(db, self._shown, len(migrations("postgresql"))):
                    raise StoreMissing(f"there is no store at {self._shown}")
                _migrate(db, self._shown, allowed=migrate)
                if serving:
                    _warn_of_losses(db, self._shown)
        self._pool = _pool(conninfo, size)
        # A writer never looks through the table.
        self._looking = self._pool if writing else _pool(conninfo, LOOKING_CONNECTIONS)
        self._renewed = -RENEW_SECONDS
        self._renewal_told = -RENEWALS_TOLD_SECONDS
        self._probing = threading.Lock()
        self._down: StoreDown | None = None
        """Why the database could not be reached when it was looked for last; None if it could."""
        self._look_at = 0.0
        """When to look for it again."""
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="shard")

    def write(self, writes: Sequence[Write], decide: Decide) -> list[Result]:
        shards = self._load_shards()
        if shards is not None:
            return self._write_by_shard(shards, writes, decide)
        merged = self._merge(writes, decide.row_limit)
        if not merged:
            return self._run(lambda transaction: self._write(transaction, writes, decide, {}))
        return self._write_rest(writes, merged, decide, {})

    def _write_rest(
        self,
        writes: Sequence[Write],
        merged: Set[UserPlace],
        decide: Decide,
        elsewhere: Mapping[tuple[int, str], StoredReceipt],
    ) -> list[Result]:
        """Write what the database did not merge; the results of all."""
        rest = [write for write in writes if (write.project, write.cuid) not in merged]
        apart = iter(self._write_apart(rest, decide, elsewhere))
        return [WRITTEN if (write.project, write.cuid) in merged else next(apart) for write in writes]

    def _merge(self, writes: Sequence[Write], row_limit: int) -> set[UserPlace]:
        """Let the database merge what it can in a single round trip; the users, by project and CUID, whose writes are done.

        It declines what is not plain success, and a user that another writer changes meanwhile.
        """
        merges = plain_merges(writes, self._reported, row_limit, receipts=True)
        if not merges:
            return set()

        def work(transaction: _Transaction) -> set[UserPlace]:
            # What is sent in one pipeline is one transaction.
            transaction.committing = True
            with transaction.db.pipeline():
                cursors = [transaction.db.execute(_MERGES[merge.name], merge.parameters) for merge in merges]
            return {(merge.project, cuid) for merge, cursor in zip(merges, cursors, strict=True) for (cuid,) in cursor}

        return self._run(work)

    def _merge_in_shard(self, writes: Sequence[Write], row_limit: int) -> set[UserPlace]:
        """Like `_merge`, of users in one shard: each statement is a transaction of its own, on that shard's machine."""
        merged: set[UserPlace] = set()
        for merge in plain_merges(writes, self._reported, row_limit):

            def work(transaction: _Transaction, merge: Merge = merge) -> list[UserPlace]:
                transaction.committing = True
                parameters = {**merge.parameters, "cuids": [cuid for _, cuid in merge.users]}
                return [(merge.project, cuid) for (cuid,) in transaction.db.execute(_MERGE_IN_SHARD, parameters)]

            try:
                merged.update(self._run(work))
            except (psycopg.NotSupportedError, psycopg.ProgrammingError, psycopg.DataError) as failure:
                # Refused, so nothing of it is done: the shards were split since, perhaps.
                log.warning("%s: a merge was refused: %s", self._shown, _words(failure))
                self._shards = _UNKNOWN
        return merged

    def _write_apart(
        self, writes: Sequence[Write], decide: Decide, elsewhere: Mapping[tuple[int, str], StoredReceipt]
    ) -> list[Result]:
        """Write a part of a batch whose other parts may be committed already: a failure is the result of its writes."""
        if not writes:
            return []
        try:
            return self._run(lambda transaction: self._write(transaction, writes, decide, elsewhere))
        except StoreDown as failure:
            return [failure] * len(writes)
        except Exception as failure:
            if isinstance(failure, errors.FeatureNotSupported):
                # The shards were split since: load them anew for the next batch.
                self._shards = _UNKNOWN
            if len(writes) == 1:
                return [failure]
            # One write must not take its neighbours down with it: try each alone, but none of a user after one that failed.
            failed: dict[UserPlace, Exception] = {}
            results: list[Result] = []
            for write in writes:
                user = (write.project, write.cuid)
                if user not in failed:
                    (result,) = self._write_apart([write], decide, elsewhere)
                    if isinstance(result, Exception):
                        failed[user] = result
                results.append(failed.get(user, result))
            return results

    def _write(
        self,
        transaction: _Transaction,
        writes: Sequence[Write],
        decide: Decide,
        elsewhere: Mapping[tuple[int, str], StoredReceipt],
    ) -> list[Result]:
        """Write a batch in one transaction. `elsewhere`: receipts of its keys that this transaction would not see."""
        db = transaction.db
        wanted: dict[int, set[int]] = {}
        keys: dict[int, list[str]] = {}
        for write in writes:
            wanted.setdefault(write.project, set()).add(write.cuid)
            if write.receipt is not None:
                keys.setdefault(write.project, []).append(write.receipt.key)
        numbers = sorted(wanted)
        cuids = {number: sorted(wanted[number]) for number in numbers}
        with db.pipeline():
            transaction.begin()
            _share(db, numbers)
            versions = db.execute(
                "SELECT number, version FROM usertable.project WHERE number = ANY(%s::bigint[])", (numbers,)
            )
            rows = [db.execute(_LOCKED_USERS, (number, cuids[number])) for number in numbers]
            # After the users' locks: a receipt that another writer kept with one of these users is seen.
            receipts = _execute_receipts(db, keys, cuids if self._shards else None)
        profiles = decode_profiles("[" + ",".join(row for cursor in rows for (row,) in cursor) + "]")
        resolution = resolve(
            writes, decide, dict(versions.fetchall()), dict(profiles), {**elsewhere, **_stored_receipts(receipts)}
        )
        news = [
            (project, name)
            for project, names in resolution.reported.items()
            for name in sorted(names - self._reported.get(project, set()))
        ]
        with db.pipeline():
            _store(db, resolution, profiles)
            if news:
                projects, names = zip(*news, strict=True)
                db.execute(_REPORT, (list(projects), list(names)))
            transaction.commit()
        for project, name in news:
            self._reported.setdefault(project, set()).add(name)
        return resolution.results

    def _elsewhere(self, keys: Mapping[int, Sequence[str]]) -> dict[tuple[int, str], StoredReceipt]:
        """The receipts of these keys in all shards."""
        return _stored_receipts(self._read(lambda db: _execute_receipts(db, keys, None))) if keys else {}

    def _load_shards(self) -> ShardMap | None:
        if self._shards is _UNKNOWN:
            self._shards = self._read(load_shards)
        return self._shards

    def _write_by_shard(self, shards: ShardMap, writes: Sequence[Write], decide: Decide) -> list[Result]:
        """Write the users of each shard in a transaction of their own, side by side."""
        groups: dict[int, list[int]] = {}
        users: dict[tuple[int, str], set[int]] = {}
        keys: dict[int, list[str]] = {}
        for place, write in enumerate(writes):
            groups.setdefault(shards.shard(write.cuid), []).append(place)
            if write.receipt is not None:
                users.setdefault((write.project, write.receipt.key), set()).add(write.cuid)
                keys.setdefault(write.project, []).append(write.receipt.key)
        if len(groups) == 1:
            merged = self._merge_in_shard(writes, decide.row_limit)
            receipts = self._elsewhere(keys)
            if not merged:
                return self._run(lambda transaction: self._write(transaction, writes, decide, receipts))
            return self._write_rest(writes, merged, decide, receipts)
        results: list[Result] = [SchemaStale()] * len(writes)

        def write_group(places: Sequence[int], receipts: Mapping[tuple[int, str], StoredReceipt]) -> None:
            found = self._write_in_shard([writes[place] for place in places], decide, receipts)
            for place, result in zip(places, found, strict=True):
                results[place] = result

        if any(len(cuids) > 1 for cuids in users.values()):
            # A key that comes with two users, so with two shards perhaps: the second must see the first one's receipt.
            for place in range(len(writes)):
                write_group([place], self._elsewhere(keys))
        else:
            receipts = self._elsewhere(keys)
            list(self._threads.map(lambda places: write_group(places, receipts), groups.values()))
        return results

    def _write_in_shard(
        self, writes: Sequence[Write], decide: Decide, elsewhere: Mapping[tuple[int, str], StoredReceipt]
    ) -> list[Result]:
        """Write the users of one shard; a failure is the result of the writes that it concerns."""
        try:
            merged = self._merge_in_shard(writes, decide.row_limit)
        except Exception as failure:
            # Some may be merged. None is written a second time.
            return [failure] * len(writes)
        return self._write_rest(writes, merged, decide, elsewhere)

    def read(self, project: int, cuid: int) -> User | None:
        users = self._read(lambda db: _select_users(db, project, "cuid = %s", (cuid,)))
        return users[0] if users else None

    def scan(self, project: int, after: int, limit: int) -> list[User]:
        return self._read(lambda db: _select_users(db, project, "cuid > %s ORDER BY cuid LIMIT %s", (after, limit)))

    def select(
        self,
        project: int,
        conditions: Sequence[Condition],
        after: int | None,
        limit: int,
        examine: int,
        descending: bool = False,
    ) -> Selection:
        predicate, parameters = translate(conditions)

        def work(db: Connection) -> Selection:
            stretch = _stretch(db, project, after, examine, descending)
            order: LiteralString = " ORDER BY cuid DESC LIMIT %s" if descending else " ORDER BY cuid LIMIT %s"
            where: LiteralString = "cuid BETWEEN %s AND %s" + predicate + order
            # One more than asked for tells whether there are more.
            users = _select_users(db, project, where, (*stretch.bounds, *parameters, limit + 1))
            if len(users) <= limit:
                return Selection(users, stretch.examined, stretch.end)
            return Selection(users[:limit], stretch.examined, users[limit - 1].cuid if limit else after)

        return self._look(work)

    def tally(
        self,
        project: int,
        conditions: Sequence[Condition],
        after: int | None,
        examine: int,
        keep: int,
        oldest: bool = False,
    ) -> Tally:
        predicate, parameters = translate(conditions)

        def work(db: Connection) -> Tally:
            stretch = _stretch(db, project, after, examine)
            order: LiteralString = " ORDER BY updated_at, cuid" if oldest else " ORDER BY updated_at DESC, cuid DESC"
            rows = db.execute(
                "SELECT updated_at, cuid, count(*) OVER () FROM usertable.users"
                " WHERE project = %s AND cuid BETWEEN %s AND %s" + predicate + order + " LIMIT %s",
                # Without a row there would be no count.
                (project, *stretch.bounds, *parameters, max(keep, 1)),
            ).fetchall()
            edge = [(updated_at, cuid) for updated_at, cuid, _ in rows[:keep]]
            return Tally(rows[0][2] if rows else 0, stretch.examined, stretch.end, edge)

        return self._look(work)

    def column(self, project: int, attribute: str, after: int | None, examine: int) -> Column:
        def work(db: Connection) -> Column:
            stretch = _stretch(db, project, after, examine)
            rows = db.execute(
                "SELECT (attributes->%s)::text FROM usertable.users"
                " WHERE project = %s AND cuid BETWEEN %s AND %s AND jsonb_exists(attributes, %s) ORDER BY cuid",
                (attribute, project, *stretch.bounds, attribute),
            ).fetchall()
            return Column(decode_values(text for (text,) in rows), stretch.examined, stretch.end)

        return self._look(work)

    def fill(self, project: int, after: int | None, examine: int) -> Fill:
        def work(db: Connection) -> Fill:
            stretch = _stretch(db, project, after, examine)
            rows = db.execute(
                "SELECT key, count(*) FROM usertable.users, jsonb_object_keys(attributes) AS key"
                " WHERE project = %s AND cuid BETWEEN %s AND %s GROUP BY key",
                (project, *stretch.bounds),
            ).fetchall()
            return Fill(dict(rows), stretch.examined, stretch.end)

        return self._look(work)

    def read_many(self, project: int, cuids: Sequence[int]) -> list[User]:
        found = self._look(lambda db: _select_users(db, project, "cuid = ANY(%s::bigint[])", (list(cuids),)))
        users = {user.cuid: user for user in found}
        return [users[cuid] for cuid in cuids if cuid in users]

    def extent(self, project: int) -> tuple[int, int] | None:
        first, last = self._look(
            lambda db: db.execute(
                "SELECT min(cuid), max(cuid) FROM usertable.users WHERE project = %s", (project,)
            ).fetchall()
        )[0]
        return None if first is None else (first, last)

    def register(self, project: int, identifier: str, values: Sequence[str], now: int) -> list[int]:
        def known(db: Connection) -> dict[str, int]:
            return _known_values(db, project, identifier, values)

        def work(db: Connection) -> list[int]:
            _share(db, [project])
            _project_by_number(db, project).schema.registration_identifier(identifier)
            cuids = known(db)
            if any(value not in cuids for value in values):
                next_cuid = _lock_counter(db, project)
                # Someone may have registered them while we waited for the lock.
                cuids = known(db)
                missing = [value for value in dict.fromkeys(values) if value not in cuids]
                fresh = _unused(db, project, next_cuid, len(missing))
                _insert_users(db, project, [(c, {identifier: v}) for c, v in zip(fresh, missing, strict=True)], now)
                if fresh:
                    _move_counter(db, project, fresh[-1] + 1)
                cuids |= dict(zip(missing, fresh, strict=True))
            return [cuids[value] for value in values]

        return self._change(work)

    def add_user(self, project: int, cuid: int, identifiers: Mapping[str, str], now: int) -> None:
        def work(db: Connection) -> None:
            _share(db, [project])
            schema = _project_by_number(db, project).schema
            next_cuid = _lock_counter(db, project)
            if db.execute("SELECT 1 FROM usertable.erased WHERE project = %s AND cuid = %s", (project, cuid)).fetchone():
                raise refuse(Kind.CUID_ERASED, cuid=cuid)
            if db.execute("SELECT 1 FROM usertable.users WHERE project = %s AND cuid = %s", (project, cuid)).fetchone():
                raise refuse(Kind.CUID_EXISTS, cuid=cuid)
            for name, value in identifiers.items():
                schema.identifier(name)
                if _known_values(db, project, name, [value]):
                    raise refuse(Kind.IDENTIFIER_TAKEN, name, value=value)
            _insert_users(db, project, [(cuid, identifiers)], now)
            if next_cuid <= cuid <= LARGEST_COUNTED_CUID:
                _move_counter(db, project, cuid + 1)

        self._change(work)

    def take(self, batch: Batch, decide: Decide, note: Note | None = None) -> Taken | SchemaStale | JobMoved:
        shards = self._load_shards()

        def work(db: Connection) -> Taken | SchemaStale | JobMoved:
            _share(db, [batch.project])
            if note and (state := _job(db, batch.project, batch.job, lock=True)) != batch.before:
                return JobMoved(state)
            project = _project_by_number(db, batch.project)
            if project.version != batch.schema_version:
                return SchemaStale()
            # Before the users: nobody else makes or erases one from here on.
            next_cuid = _lock_counter(db, project.number) if batch.register else 0
            known = _known(db, batch, shards)
            before = dict(known.profiles)
            intake = resolve_batch(batch, decide, project, known, _unused_from(db, project.number, next_cuid))
            if batch.dry:
                return intake.taken
            _keep(db, batch, intake, before, shards)
            if batch.register and intake.next_cuid > next_cuid:
                _move_counter(db, project.number, intake.next_cuid)
            if note:
                db.execute(
                    "INSERT INTO usertable.import_job (project, name, state) VALUES (%s, %s, %s)"
                    " ON CONFLICT (project, name) DO UPDATE SET state = excluded.state",
                    (project.number, batch.job, note(intake.taken)),
                )
            return intake.taken

        return self._change(work)

    def job(self, project: int, name: str) -> str | None:
        return self._read(lambda db: _job(db, project, name))

    @contextmanager
    def snapshot(self, project_id: str) -> Iterator[Snapshot]:
        limits = ""
        try:
            with self._pool.connection() as db:
                limits = _limits(db)
                db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                try:
                    project = _project_by_id(db, project_id)
                    if project is None:
                        raise refuse(Kind.PROJECT_UNKNOWN, id=project_id)
                    yield _Snapshot(project, db)
                finally:
                    # All was read by now, or there is a failure already.
                    with suppress(psycopg.Error):
                        db.execute("ROLLBACK")
        except PoolTimeout as failure:
            raise StoreDown(f"{self._shown}: no connection within {CONNECT_SECONDS} s") from failure
        except _DOWN as failure:
            # A connection that the database ends does not always bring along the reason.
            hint = f"; the database ends what takes longer than {limits}: set that to 0 for this role" if limits else ""
            raise StoreDown(f"{self._shown}: {_words(failure)}{hint}") from failure

    def resolve_identifiers(self, project: int, identifier: str, values: Sequence[str]) -> dict[str, int]:
        return self._read(lambda db: _known_values(db, project, identifier, values))

    def erase(self, project: int, cuid: int) -> bool:
        user = (project, cuid)

        def work(db: Connection) -> bool:
            # Whoever makes users looks for a CUID among the users and the erased, and must not miss it in between.
            _lock_counter(db, project)
            if not db.execute("DELETE FROM usertable.users WHERE project = %s AND cuid = %s", user).rowcount:
                return False
            db.execute("INSERT INTO usertable.erased (project, cuid) VALUES (%s, %s)", user)
            values = db.execute(
                "DELETE FROM usertable.user_identifier WHERE project = %s AND cuid = %s RETURNING identifier, value", user
            ).fetchall()
            for identifier, value in values:
                db.execute(
                    "DELETE FROM usertable.identifier_value WHERE project = %s AND identifier = %s AND value = %s",
                    (project, identifier, value),
                )
            db.execute("DELETE FROM usertable.receipt WHERE project = %s AND cuid = %s AND personal", user)
            db.execute("DELETE FROM usertable.arrival WHERE project = %s AND cuid = %s", user)
            return True

        return self._change(work)

    def keep_arrivals(self, batch: Sequence[Arrivals]) -> None:
        numbers = sorted({came.project for came in batch})

        def work(db: Connection) -> None:
            # One server after the other, so that their numbers are seen in order; and no user is erased meanwhile.
            _lock(db, LOCK_ARRIVALS)
            db.execute(
                "SELECT 1 FROM usertable.cuid_counter WHERE project = ANY(%s::bigint[]) ORDER BY project FOR SHARE",
                (numbers,),
            )
            with db.cursor() as cursor:
                cursor.executemany(
                    _COUNT_ARRIVALS, [(c.project, c.at, c.accepted, c.refused, len(c.samples)) for c in batch]
                )
                refusals = [
                    (c.project, c.at - c.at % 60_000, kind, attribute or "", count, c.at)
                    for c in batch
                    for (kind, attribute), count in c.refusals.items()
                ]
                if refusals:
                    cursor.executemany(_COUNT_REFUSALS, refusals)
                written = [(c.project, name, c.at) for c in batch for name in sorted(c.written)]
                if written:
                    cursor.executemany(_NOTE_WRITE, written)
                samples = [
                    (c.project, bool(a.problems), a.at, a.cuid, encode_arrival(a), c.project, a.cuid)
                    for c in batch
                    for a in c.samples
                ]
                if samples:
                    cursor.executemany(_KEEP_ARRIVAL, samples)

        self._change(work)

    def arrivals(self, project: int, after: int, limit: int, *, refused: bool | None = None) -> list[tuple[int, Arrival]]:
        which = [False, True] if refused is None else [refused]
        rows = self._read(
            lambda db: db.execute(
                "SELECT id, document FROM usertable.arrival WHERE project = %s AND refused = ANY(%s) AND id > %s"
                " ORDER BY id DESC LIMIT %s",
                (project, which, after, limit),
            ).fetchall()
        )
        return [(number, decode_arrival(document)) for number, document in rows]

    def rates(self, project: int, since: int, step: int) -> list[Rate]:
        rows = self._read(
            lambda db: db.execute(
                "SELECT (%s + (at - %s) / %s * %s)::bigint AS step, sum(accepted)::bigint, sum(refused)::bigint,"
                " sum(sampled)::bigint FROM usertable.arrival_rate WHERE project = %s AND at >= %s GROUP BY 1 ORDER BY 1",
                (since, since, step, step, project, since),
            ).fetchall()
        )
        return [Rate(*row) for row in rows]

    def refusals(self, project: int, since: int) -> list[tuple[Kind, str | None, int, int]]:
        rows = self._read(
            lambda db: db.execute(
                "SELECT kind, attribute, sum(count)::bigint, max(last) FROM usertable.arrival_refusal"
                " WHERE project = %s AND at >= %s GROUP BY 1, 2",
                (project, since - since % 60_000),
            ).fetchall()
        )
        return [(Kind(kind), attribute or None, count, last) for kind, attribute, count, last in rows]

    def last_writes(self, project: int) -> dict[str, int]:
        return dict(
            self._read(
                lambda db: db.execute(
                    "SELECT attribute, at FROM usertable.last_write WHERE project = %s", (project,)
                ).fetchall()
            )
        )

    def expire_arrivals(self, before: int) -> None:
        def work(db: Connection) -> None:
            # Every server tries; one at a time is enough.
            if not db.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", (LOCK_CLASS, LOCK_ARRIVALS)).fetchall()[0][0]:
                return
            db.execute("DELETE FROM usertable.arrival_rate WHERE at < %s", (before,))
            db.execute("DELETE FROM usertable.arrival_refusal WHERE at < %s", (before - before % 60_000,))
            db.execute(_EXPIRE_ARRIVALS, (KEPT_SAMPLES, before))

        self._change(work)

    def epoch(self) -> int:
        epoch, read_only = self._run(_epoch)
        if read_only:
            # Reads would continue on a demoted host, and never see what the new primary has.
            self._renew_connections()
        return epoch

    def versions(self) -> dict[str, int]:
        return dict(self._read(lambda db: db.execute("SELECT id, version FROM usertable.project").fetchall()))

    def projects(self) -> list[Project]:
        return self._read(lambda db: _select_projects(db, "true ORDER BY number", ()))

    def project(self, project_id: str) -> Project | None:
        return self._read(lambda db: _project_by_id(db, project_id))

    def attributes(self, project: int) -> tuple[int, Mapping[str, Attribute]]:
        found = self._read(lambda db: _project_by_number(db, project))
        return found.version, found.schema.attributes

    def add_project(self, project: Project, who: str) -> Project:
        def work(db: Connection) -> Project:
            _lock(db, LOCK_PROJECTS)
            if _project_by_id(db, project.id):
                raise refuse(Kind.PROJECT_EXISTS, id=project.id)
            number: int = db.execute("SELECT coalesce(max(number), 0) + 1 FROM usertable.project").fetchall()[0][0]
            db.execute(
                "INSERT INTO usertable.project (number, id, version, document) VALUES (%s, %s, %s, %s)",
                (number, project.id, project.version, encode_project(project)),
            )
            db.execute("INSERT INTO usertable.cuid_counter (project, next_cuid) VALUES (%s, %s)", (number, FIRST_CUID))
            _record(db, number, project.created_at, who, encode_changes(None, project))
            return replace(project, number=number)

        return self._change(work)

    def edit_project(self, project_id: str, edit: Callable[[Project], Project], who: str, now: int) -> Project:
        def work(db: Connection) -> Project:
            project = _project_by_id(db, project_id)
            if project is None:
                raise refuse(Kind.PROJECT_UNKNOWN, id=project_id)
            _lock(db, project.number)
            project = _project_by_number(db, project.number)
            edited = edit(project)
            if edited == project:
                return project
            edited = replace(edited, version=project.version + 1)
            db.execute(
                "UPDATE usertable.project SET version = %s, document = %s WHERE number = %s",
                (edited.version, encode_project(edited), project.number),
            )
            _record(db, project.number, now, who, encode_changes(project, edited))
            return edited

        return self._change(work)

    def schema_changes(self, project: int, limit: int) -> list[SchemaChange]:
        rows = self._read(
            lambda db: db.execute(
                "SELECT at, who, what FROM usertable.schema_change WHERE project = %s ORDER BY number DESC LIMIT %s",
                (project, limit),
            ).fetchall()
        )
        return [SchemaChange(at, who, decode_changes(what)) for at, who, what in rows]

    def expire_receipts(self, before: int) -> int:
        def work(db: Connection) -> int:
            # Every server tries; one at a time is enough.
            if not db.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", (LOCK_CLASS, LOCK_EXPIRY)).fetchall()[0][0]:
                return 0
            oldest = db.execute("SELECT min(at) FROM usertable.receipt WHERE at < %s", (before,)).fetchall()[0][0]
            if oldest is None:
                return 0
            return db.execute("DELETE FROM usertable.receipt WHERE at < %s", (min(before, oldest + EXPIRY_WINDOW),)).rowcount

        return self._change(work)

    def count(self, project: int, part: Part) -> int:
        found: int = self._read(
            lambda db: db.execute(
                SQL("SELECT count(*) FROM usertable.{} WHERE project = %s").format(Identifier(part.table)), (project,)
            ).fetchall()
        )[0][0]
        return found

    def rows(self, project: int, part: Part, after: Row | None, limit: int) -> list[Row]:
        names = SQL(", ").join(Identifier(c) + SQL("::text" if c in _DOCUMENTS else "") for c in part.columns)
        key = SQL(", ").join(map(Identifier, part.columns[: part.key]))
        query = SQL("SELECT {} FROM usertable.{} WHERE project = %s").format(names, Identifier(part.table))
        if after is not None:
            query += SQL(" AND ({}) > ({})").format(key, SQL(", ").join(Placeholder() * part.key))
        query += SQL(" ORDER BY {} LIMIT %s").format(key)
        rows = self._read(lambda db: db.execute(query, (project, *(after or ()), limit)).fetchall())
        if part is USERS:
            return list(map(decode_user, rows))
        return rows

    def last(self, project: int, part: Part) -> Row | None:
        key = part.columns[: part.key]
        query = SQL("SELECT {} FROM usertable.{} WHERE project = %s ORDER BY {} LIMIT 1").format(
            SQL(", ").join(map(Identifier, key)),
            Identifier(part.table),
            SQL(", ").join(Identifier(column) + SQL(" DESC") for column in key),
        )
        return self._read(lambda db: db.execute(query, (project,)).fetchone())

    def load(self, project: int, part: Part, rows: Sequence[Row]) -> None:
        if part is USERS:
            rows = list(map(encode_user, rows))
        tables = [(part, rows)]
        if part is VALUES:
            by_user = Part("user_identifier", part.columns)
            tables.append((by_user, rows))

        def work(db: Connection) -> None:
            for table, values in tables:
                copy = SQL("COPY usertable.{} (project, {}) FROM STDIN").format(
                    Identifier(table.table), SQL(", ").join(map(Identifier, table.columns))
                )
                with db.cursor() as cursor, cursor.copy(copy) as target:
                    for row in values:
                        target.write_row((project, *row))

        self._change(work)

    def next_cuid(self, project: int) -> int:
        found: int = self._read(
            lambda db: db.execute("SELECT next_cuid FROM usertable.cuid_counter WHERE project = %s", (project,)).fetchall()
        )[0][0]
        return found

    def adopt(self, project: Project, next_cuid: int) -> None:
        def work(db: Connection) -> None:
            db.execute(
                "INSERT INTO usertable.project (number, id, version, document) VALUES (%s, %s, %s, %s)",
                (project.number, project.id, project.version, encode_project(project)),
            )
            db.execute(
                "INSERT INTO usertable.cuid_counter (project, next_cuid) VALUES (%s, %s)", (project.number, next_cuid)
            )
            db.execute("UPDATE usertable.epoch SET value = value + 1")

        self._change(work)

    def ping(self) -> None:
        def work(transaction: _Transaction) -> None:
            if _epoch(transaction)[1]:
                raise errors.ReadOnlySqlTransaction(_why_read_only(transaction.db))

        self._run(work)

    def close(self) -> None:
        self._threads.shutdown()
        self._looking.close()
        self._pool.close()

    def _read(self, work: Callable[[Connection], T]) -> T:
        """`work` in a transaction that sees one moment throughout."""
        return self._change(work, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def _look(self, work: Callable[[Connection], T]) -> T:
        """Like `_read`, for those who look through the table: on few connections of their own, and not for long."""

        def bounded(db: Connection) -> T:
            db.execute(_LOOK_TIMEOUT)
            return work(db)

        return self._change(bounded, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", self._looking)

    def _change(self, work: Callable[[Connection], T], begin: LiteralString = "BEGIN", pool: Pool | None = None) -> T:
        """`work` in a transaction, which is committed when it returns, and undone if it raises."""

        def whole(transaction: _Transaction) -> T:
            transaction.begin(begin)
            result = work(transaction.db)
            transaction.commit()
            return result

        return self._run(whole, pool)

    def _run(self, work: Callable[[_Transaction], T], pool: Pool | None = None) -> T:
        """`work`, which begins and commits; again and again if its transaction was lost and can have changed nothing.

        A database that answers is never down: others that get in the way, and a pool whose connections are all in use, are
        waited for.
        """
        pool = pool or self._pool
        self._check_down()
        deadline = time.monotonic() + CONFLICT_SECONDS
        broken = 0
        read_only = False
        while True:
            transaction: _Transaction | None = None
            try:
                with pool.connection(timeout=POOL_SECONDS) as db:
                    transaction = _Transaction(db)
                    return work(transaction)
            except CONFLICTS as failure:
                if transaction is not None and transaction.committing and self._may_be_done(failure):
                    raise StoreDown(f"{self._shown}: cancelled during COMMIT: {_words(failure)}") from failure
                # The database undid it. What was taken in the meantime is seen by the next attempt.
                if time.monotonic() > deadline or pool is not self._pool:
                    raise StoreDown(f"{self._shown}: {_words(failure)}") from failure
                time.sleep(random.uniform(0, 0.01))
            except PoolTimeout as failure:
                self._probe()
                if time.monotonic() > deadline:
                    raise StoreDown(f"{self._shown}: all connections are busy") from failure
            except errors.ReadOnlySqlTransaction as failure:
                # Nothing was done. A host that was demoted may keep its connections; new ones find the primary.
                if read_only:
                    raise StoreDown(f"{self._shown}: {_words(failure)}") from failure
                read_only = True
                self._renew_connections()
            except _DOWN as failure:
                lost = transaction is not None and transaction.db.closed
                if lost and transaction.committing:  # type: ignore[union-attr]
                    raise StoreDown(
                        f"{self._shown}: the connection broke during COMMIT, so it is not known whether it was done"
                    ) from failure
                broken += 1
                if not lost or broken == BROKEN_CONNECTIONS:
                    raise StoreDown(f"{self._shown}: {_words(failure)}") from failure
                # Its neighbours in the pool are likely to have broken with it.
                pool.check()
            except psycopg.InternalError as failure:
                if not self._may_be_done(failure):
                    raise
                raise StoreDown(f"{self._shown}: {_words(failure)}") from failure

    def _renew_connections(self) -> None:
        """Close all connections, at once or when they are given back, and make new ones; not twice in `RENEW_SECONDS`."""
        now = time.monotonic()
        if now - self._renewed < RENEW_SECONDS:
            return
        self._renewed = now
        if now - self._renewal_told >= RENEWALS_TOLD_SECONDS:
            self._renewal_told = now
            log.warning("%s: the database takes no writes; looking for one that does, by new connections", self._shown)
        for pool in {self._pool, self._looking}:
            pool.drain()

    def _may_be_done(self, failure: psycopg.Error) -> bool:
        """Whether a COMMIT that failed so may have been done: on Citus, by another machine that was not heard any more."""
        return self._shards is not None and isinstance(failure, (errors.QueryCanceled, psycopg.InternalError))

    def _probe(self) -> None:
        """Return if the database takes connections; else StoreDown tells why not."""
        try:
            psycopg.connect(self._pool.conninfo).close()  # type: ignore[arg-type]
        except psycopg.OperationalError as failure:
            self._down = StoreDown(f"{self._shown}: {_words(failure)}")
            self._look_at = time.monotonic() + DOWN_SECONDS
            raise self._down from failure
        self._down = None

    def _check_down(self) -> None:
        """Raise at once while the database is known to be away. One caller at a time looks whether it is back."""
        down = self._down
        if down is None:
            return
        if time.monotonic() < self._look_at or not self._probing.acquire(blocking=False):
            raise StoreDown(str(down))
        try:
            self._probe()
        finally:
            self._probing.release()


class _Snapshot:
    def __init__(self, project: Project, db: Connection) -> None:
        self.project = project
        self._db = db

    def count(self) -> int:
        found: int = self._db.execute(
            "SELECT count(*) FROM usertable.users WHERE project = %s", (self.project.number,)
        ).fetchall()[0][0]
        return found

    def pages(self) -> Iterator[Page]:
        number = self.project.number
        users = self._db.cursor(name="users")
        try:
            users.execute("SELECT cuid, attributes::text FROM usertable.users WHERE project = %s ORDER BY cuid", (number,))
            while rows := users.fetchmany(SNAPSHOT_ROWS):
                values: Mapping[int, Mapping[str, list[str]]] = {}
                if self.project.identifying:
                    values = values_by_user(
                        self._db.execute(
                            "SELECT cuid, identifier, value FROM usertable.user_identifier"
                            " WHERE project = %s AND cuid BETWEEN %s AND %s ORDER BY cuid, identifier, value",
                            (number, rows[0][0], rows[-1][0]),
                        )
                    )
                cuids, texts = zip(*rows, strict=True)
                yield Page(cuids, "\n".join(texts).encode(), values)
                if len(rows) < SNAPSHOT_ROWS:
                    break
        finally:
            with suppress(psycopg.Error):
                users.close()


@dataclass(frozen=True, slots=True)
class Merge:
    """Plain writes under one version of a project, for the database to merge in one statement."""

    project: int
    version: int
    users: Sequence[UserPlace]
    patches: str
    shapes: str
    receipts: bool
    """Whether any of them has one."""
    limit: int
    """Rows of more bytes than this, as the database has them, are not merged: they may be larger than a row may be."""

    @property
    def name(self) -> bytes:
        """Of its statement, see :func:`connect_to_merge`."""
        return b"merge with receipts" if self.receipts else b"merge"

    @property
    def parameters(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in MERGE_PARAMETERS}


def plain_merges(
    writes: Sequence[Write], reported: Mapping[int, Set[str]], row_limit: int, *, receipts: bool = False
) -> list[Merge]:
    """Those of the writes that the database can merge, by project and version of its schema.

    They are the ones whose outcomes nobody looks at, alone on their user and with their key in the batch, and of
    attributes that had values before.

    Args:
        reported: by project, attributes that are known to have had values.
        row_limit: bytes that a user's row may have as JSON text.
        receipts: also those with a receipt.
    """
    plain: dict[UserPlace, Write] = {}
    seen: set[UserPlace] = set()
    keys: dict[tuple[int, str], UserPlace] = {}
    for write in writes:
        user = (write.project, write.cuid)
        receipt = write.receipt
        simple = user not in seen and not write.details and not write.dry
        if receipt is not None:
            first = keys.setdefault((write.project, receipt.key), user)
            if first != user:
                plain.pop(first, None)
            simple = simple and receipts and first == user and not receipt.whole
        if simple:
            plain[user] = write
        else:
            plain.pop(user, None)
        seen.add(user)
    batches: dict[tuple[int, int], list[Write]] = {}
    # In order, so that no two batches wait for each other's users.
    for user in sorted(plain):
        write = plain[user]
        known = reported.get(write.project, ())
        if all(attribute.name in known for attribute, _ in write.patch.entries):
            batches.setdefault((write.project, write.schema_version), []).append(write)
    return [
        Merge(
            project,
            version,
            [(project, write.cuid) for write in batch],
            *encode_patches(batch),
            any(write.receipt is not None for write in batch),
            row_limit // JSON_PER_JSONB,
        )
        for (project, version), batch in batches.items()
    ]


class _Transaction:
    """A connection, and whether COMMIT was sent."""

    __slots__ = ("committing", "db")

    def __init__(self, db: Connection) -> None:
        self.db = db
        self.committing = False

    def begin(self, begin: LiteralString = "BEGIN") -> None:
        self.db.execute(begin)

    def commit(self) -> None:
        self.committing = True
        self.db.execute("COMMIT")


class _Unknown(Enum):
    UNKNOWN = 0


_UNKNOWN = _Unknown.UNKNOWN
_DOWN = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    errors.IdleInTransactionSessionTimeout,
    errors.TransactionTimeout,
    errors.ReadOnlySqlTransaction,
    errors.InsufficientPrivilege,
    errors.UndefinedTable,
)
"""What the operator can mend; anything else is a defect of ours."""

_LIMITS = ("statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout")
"""Settings of the database by which it ends what takes long."""
_LOOK_TIMEOUT: LiteralString = "SET LOCAL statement_timeout = '10s'"
CONFLICTS = (
    errors.SerializationFailure,
    errors.DeadlockDetected,
    errors.UniqueViolation,
    errors.LockNotAvailable,
    errors.QueryCanceled,
)
"""What others caused, or the operator's time limits: the transaction is undone, and the next attempt may succeed."""

_LOCKED_USERS: LiteralString = """
    SELECT '[' || project || ',' || cuid || ',' || version || ',' || created_at || ',' || updated_at || ','
      || attributes::text || ',' || changed_at::text || ']'
    FROM usertable.users WHERE project = %s AND cuid = ANY(%s::bigint[]) ORDER BY cuid FOR NO KEY UPDATE"""
_RECEIPTS: LiteralString = (
    "SELECT key, fingerprint, written FROM usertable.receipt WHERE project = %s AND key = ANY(%s::text[])"
)
_UPDATE_USERS: LiteralString = """
    UPDATE usertable.users u
    SET version = p.v, updated_at = p.t, attributes = u.attributes || p.a, changed_at = p.m
    FROM jsonb_to_recordset(%s::jsonb) AS p (c bigint, v bigint, t bigint, a jsonb, m jsonb)
    WHERE u.project = %s AND u.cuid = p.c AND u.cuid = ANY(%s::bigint[])"""
# What the database makes of the patches; the function is called once for each (OFFSET 0), and what it gives is taken apart
# here, because an UPDATE that does so makes Citus crash.
_MERGED: LiteralString = """
    WITH merged AS MATERIALIZED (
      SELECT *, now[1] AS attributes, now[2] AS changed_at, now = '{}' AS unchanged FROM (
        SELECT {columns}, usertable.merged(
          u.attributes, u.changed_at, p.t, p.s, %(shapes)s::jsonb -> p.h -> 'w', p.o, %(shapes)s::jsonb -> p.h -> 'm') AS now
        FROM jsonb_to_recordset(%(patches)s::jsonb) AS p (c bigint, t bigint, h int, s jsonb, o jsonb{more})
        {users}
        WHERE EXISTS (SELECT 1 FROM usertable.project WHERE number = %(project)s AND version = %(version)s) {besides}
        OFFSET 0
      ) found
    ), changed AS (
      UPDATE usertable.users u
      SET version = m.version + 1, updated_at = m.t, attributes = m.attributes, changed_at = m.changed_at
      FROM merged m
      WHERE {same} AND u.version = m.version AND pg_column_size(m.attributes) <= %(limit)s
      RETURNING {told}
    )"""
# Without locks: a user that got another version since it was read is left alone, and is not in the answer.
_PLAIN: LiteralString = (
    _MERGED.replace("{more}", "").replace("{besides}", "").replace("{told}", "u.cuid")
    + " SELECT cuid FROM changed UNION ALL SELECT cuid FROM merged WHERE unchanged"
)
# OFFSET 0 makes the database look up each user of the batch by itself, and ctid is where it found the row: there is no
# other way through this statement, whatever is believed about the table's size.
_EACH_USER: LiteralString = """
        CROSS JOIN LATERAL (
          SELECT cuid, version, attributes, changed_at, ctid AS place FROM usertable.users
          WHERE project = %(project)s AND cuid = p.c OFFSET 0
        ) u"""
_SAME: LiteralString = "u.ctid = m.place"
_MERGE: LiteralString = (
    _PLAIN.replace("{columns}", "u.cuid, u.place, u.version, p.t").replace("{users}", _EACH_USER).replace("{same}", _SAME)
)
# With the users named apart, by which Citus finds out that they are all in one shard.
_MERGE_IN_SHARD: LiteralString = (
    _PLAIN.replace("{columns}", "u.cuid, u.version, p.t")
    .replace("{users}", "JOIN usertable.users u ON {these} AND u.cuid = p.c")
    .replace("{same}", "{these} AND u.cuid = m.cuid")
    .replace("{these}", "u.project = %(project)s AND u.cuid = ANY(%(cuids)s::bigint[])")
)
# A key that is kept already is declined; one that another transaction keeps meanwhile is a conflict. Not NOT EXISTS, for
# which the planner reads all receipts there are.
_NEW_KEY: LiteralString = """
          AND (SELECT r.cuid FROM usertable.receipt r WHERE r.project = %(project)s AND r.key = p.k LIMIT 1) IS NULL"""
_MERGE_WITH_RECEIPTS: LiteralString = (
    _MERGED.replace("{columns}", "u.cuid, u.place, u.version, u.attributes AS before, p.t, p.k, p.f, p.n")
    .replace("{more}", ", k text, f text, n jsonb")
    .replace("{users}", _EACH_USER)
    .replace("{besides}", _NEW_KEY)
    .replace("{same}", _SAME)
    .replace("{told}", "u.cuid, u.version, m.before, u.attributes, m.t, m.k, m.f, m.n")
    + """, done AS MATERIALIZED (
      SELECT * FROM changed
      UNION ALL
      SELECT cuid, version, before, '{}'::jsonb, t, k, f, n FROM merged WHERE unchanged
    ), kept AS (
      INSERT INTO usertable.receipt (project, key, cuid, fingerprint, written, personal, at)
      SELECT %(project)s, k, cuid, decode(f, 'hex'),
        jsonb_build_array(version, usertable.outcomes(before, attributes, n), NULL)::text, false, t
      FROM done WHERE k IS NOT NULL
    )
    SELECT cuid FROM done"""
)
_MERGES = {b"merge": _MERGE, b"merge with receipts": _MERGE_WITH_RECEIPTS}
_KEEP_RECEIPTS: LiteralString = """
    INSERT INTO usertable.receipt (project, key, cuid, fingerprint, written, personal, at)
    SELECT * FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::bytea[], %s::text[], %s::boolean[], %s::bigint[])"""
_REPORT: LiteralString = (
    "INSERT INTO usertable.reported (project, attribute)"
    " SELECT * FROM unnest(%s::bigint[], %s::text[]) ON CONFLICT DO NOTHING"
)


_COUNT_ARRIVALS: LiteralString = """
    INSERT INTO usertable.arrival_rate AS r (project, at, accepted, refused, sampled)
    VALUES (%s, %s, %s, %s, %s) ON CONFLICT (project, at) DO UPDATE SET
      accepted = r.accepted + excluded.accepted, refused = r.refused + excluded.refused,
      sampled = r.sampled + excluded.sampled"""
_COUNT_REFUSALS: LiteralString = """
    INSERT INTO usertable.arrival_refusal AS r (project, at, kind, attribute, count, last)
    VALUES (%s, %s, %s, %s, %s, %s)
    ON CONFLICT (project, at, kind, attribute) DO UPDATE SET
      count = r.count + excluded.count, last = greatest(r.last, excluded.last)"""
_NOTE_WRITE: LiteralString = """
    INSERT INTO usertable.last_write AS l (project, attribute, at) VALUES (%s, %s, %s)
    ON CONFLICT (project, attribute) DO UPDATE SET at = greatest(l.at, excluded.at)"""
_KEEP_ARRIVAL: LiteralString = """
    INSERT INTO usertable.arrival (project, refused, at, cuid, document) SELECT %s, %s, %s, %s::bigint, %s
    WHERE NOT EXISTS (SELECT 1 FROM usertable.erased WHERE project = %s AND cuid = %s)"""
_EXPIRE_ARRIVALS: LiteralString = """
    DELETE FROM usertable.arrival WHERE id IN (
      SELECT id FROM (SELECT id, at, row_number() OVER (PARTITION BY project, refused ORDER BY id DESC) AS place
                      FROM usertable.arrival) kept
      WHERE place > %s OR at < %s)"""


_Receipts = Sequence[tuple[int, psycopg.Cursor[tuple[Any, ...]]]]


def _execute_receipts(db: Connection, keys: Mapping[int, Sequence[str]], cuids: Mapping[int, list[int]] | None) -> _Receipts:
    """Ask for the receipts of these keys by project: of all users, or of some only, which keeps it in their shard."""
    if cuids is None:
        return [(number, db.execute(_RECEIPTS, (number, names))) for number, names in keys.items()]
    of_users = _RECEIPTS + " AND cuid = ANY(%s::bigint[])"
    return [(number, db.execute(of_users, (number, names, cuids[number]))) for number, names in keys.items()]


def _stored_receipts(receipts: _Receipts) -> dict[tuple[int, str], StoredReceipt]:
    return {
        (number, key): StoredReceipt(fingerprint, decode_written(written))
        for number, cursor in receipts
        for key, fingerprint, written in cursor
    }


def _store(db: Connection, resolution: Resolution, before: Mapping[tuple[int, int], Profile]) -> None:
    for project, profiles in resolution.profiles_by_project().items():
        rows = encode_rows(profiles, {cuid: before[project, cuid] for cuid in profiles})
        db.execute(_UPDATE_USERS, (rows, project, list(profiles)))
    _insert_receipts(db, resolution.receipts)


def _insert_receipts(db: Connection, receipts: Sequence[NewReceipt]) -> None:
    if receipts:
        columns = zip(*map(_receipt_row, receipts), strict=True)
        db.execute(_KEEP_RECEIPTS, [list(column) for column in columns])


def _receipt_row(r: NewReceipt) -> tuple[Any, ...]:
    return (r.project, r.key, r.cuid, r.fingerprint, encode_written(r.written), r.written.attributes is not None, r.at)


def _share(db: Connection, projects: Sequence[int]) -> None:
    """Keep these projects as they are until the transaction ends."""
    db.execute("SELECT pg_advisory_xact_lock_shared(%s, n) FROM unnest(%s::int[]) n", (LOCK_CLASS, list(projects)))


def _lock(db: Connection, number: int) -> None:
    db.execute("SELECT pg_advisory_xact_lock(%s, %s)", (LOCK_CLASS, number))


def _lock_counter(db: Connection, project: int) -> int:
    """The project's next CUID; nobody else makes or erases users of it until the transaction ends."""
    found = db.execute("SELECT next_cuid FROM usertable.cuid_counter WHERE project = %s FOR UPDATE", (project,)).fetchall()
    next_cuid: int = found[0][0]
    return next_cuid


def _move_counter(db: Connection, project: int, next_cuid: int) -> None:
    db.execute("UPDATE usertable.cuid_counter SET next_cuid = %s WHERE project = %s", (next_cuid, project))


def _unused(db: Connection, project: int, start: int, count: int) -> list[int]:
    """The first `count` CUIDs from `start` on that are neither a user's nor an erased one's."""
    found: list[int] = []
    while len(found) < count:
        candidates = list(range(start, start + count - len(found)))
        start = candidates[-1] + 1
        used = {
            cuid
            for table in ("users", "erased")
            for (cuid,) in db.execute(
                f"SELECT cuid FROM usertable.{table} WHERE project = %s AND cuid = ANY(%s::bigint[])", (project, candidates)
            )
        }
        found += [cuid for cuid in candidates if cuid not in used]
    return found


def _insert_users(db: Connection, project: int, users: Sequence[tuple[int, Mapping[str, str]]], now: int) -> None:
    cuids = [cuid for cuid, _ in users]
    db.execute(
        "INSERT INTO usertable.users (project, cuid, version, created_at, updated_at, attributes, changed_at)"
        " SELECT %s, c, 1, %s, %s, '{}', '{}' FROM unnest(%s::bigint[]) c",
        (project, now, now, cuids),
    )
    _insert_values(db, project, [(cuid, name, value) for cuid, identifiers in users for name, value in identifiers.items()])


def _insert_values(db: Connection, project: int, values: Sequence[tuple[int, str, str]]) -> None:
    """Keep identifier values: of (CUID, identifier, value)."""
    if values:
        columns = [list(column) for column in zip(*values, strict=True)]
        db.execute(
            "INSERT INTO usertable.identifier_value (project, cuid, identifier, value)"
            " SELECT %s, * FROM unnest(%s::bigint[], %s::text[], %s::text[])",
            (project, *columns),
        )
        db.execute(
            "INSERT INTO usertable.user_identifier (project, cuid, identifier, value)"
            " SELECT %s, * FROM unnest(%s::bigint[], %s::text[], %s::text[])",
            (project, *columns),
        )


def _unused_from(db: Connection, project: int, start: int) -> Iterator[int]:
    """All CUIDs from `start` on that are neither a user's nor an erased one's."""
    while True:
        found = _unused(db, project, start, 1000)
        yield from found
        start = found[-1] + 1


def _job(db: Connection, project: int, name: str, *, lock: bool = False) -> str | None:
    query: LiteralString = "SELECT state FROM usertable.import_job WHERE project = %s AND name = %s"
    found = db.execute(query + " FOR UPDATE" if lock else query, (project, name)).fetchone()
    return found[0] if found else None


def _by_shard(cuids: Iterable[int], shards: ShardMap | None) -> list[list[int]]:
    """The CUIDs, ascending, those of a shard together: a statement that locks or changes users must stay in one."""
    groups: dict[int, list[int]] = {}
    for cuid in sorted(cuids):
        groups.setdefault(shards.shard(cuid) if shards else 0, []).append(cuid)
    return list(groups.values())


def _known(db: Connection, batch: Batch, shards: ShardMap | None) -> Known:
    cuids, names = named(batch)
    number = batch.project
    owners = {
        (name, value): cuid
        for name, values in names.items()
        for value, cuid in _known_values(db, number, name, values).items()
    }
    cuids |= set(owners.values())
    profiles: dict[int, Profile] = {}
    for group in _by_shard(cuids, shards):
        rows = db.execute(_LOCKED_USERS, (number, group)).fetchall()
        profiles |= {cuid: p for (_, cuid), p in decode_profiles(f"[{','.join(row for (row,) in rows)}]").items()}
    wanted = (number, list(cuids))
    erased = db.execute("SELECT cuid FROM usertable.erased WHERE project = %s AND cuid = ANY(%s::bigint[])", wanted)
    of_users: dict[int, dict[str, list[str]]] = {}
    if names:
        of_users = values_by_user(
            db.execute(
                "SELECT cuid, identifier, value FROM usertable.user_identifier"
                " WHERE project = %s AND cuid = ANY(%s::bigint[])",
                wanted,
            )
        )
    receipts: dict[str, StoredReceipt] = {}
    if wanted_keys := row_keys(batch):
        # After the users' locks, and that of the counter if users are made: what another one kept meanwhile is seen.
        found = _stored_receipts(_execute_receipts(db, {number: wanted_keys}, None))
        receipts = {key: receipt for (_, key), receipt in found.items()}
    return Known(profiles, {cuid for (cuid,) in erased}, owners, of_users, receipts)


def _keep(db: Connection, batch: Batch, intake: Intake, before: Mapping[int, Profile], shards: ShardMap | None) -> None:
    number, now = batch.project, batch.now
    if intake.created:
        made = f"{now}\t{now}\t{{}}"
        rows = "".join(f"{number}\t{cuid}\t{version}\t{made}\t{text}\n" for cuid, version, text in intake.created)
        columns = "project, cuid, version, created_at, updated_at, changed_at, attributes"
        with db.cursor() as cursor, cursor.copy(f"COPY usertable.users ({columns}) FROM STDIN") as target:
            # JSON text has no tab and no newline; the backslash is COPY's own too.
            target.write(rows.replace("\\", "\\\\"))
    for group in _by_shard(intake.changed, shards):
        rows = encode_rows({cuid: intake.changed[cuid] for cuid in group}, before)
        db.execute(_UPDATE_USERS, (rows, number, group))
    _insert_values(db, number, intake.values)
    _insert_receipts(db, intake.receipts)
    if intake.reported:
        names = sorted(intake.reported)
        db.execute(_REPORT, ([number] * len(names), names))


def _known_values(db: Connection, project: int, identifier: str, values: Sequence[str]) -> dict[str, int]:
    rows = db.execute(
        "SELECT value, cuid FROM usertable.identifier_value"
        " WHERE project = %s AND identifier = %s AND value = ANY(%s::text[])",
        (project, identifier, list(values)),
    )
    return dict(rows.fetchall())


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A stretch of a project's users that is looked at: `bounds` are the CUIDs at its ends."""

    bounds: tuple[int, int]
    examined: int
    end: int | None


_UPWARD: LiteralString = """
    SELECT min(cuid), max(cuid), count(*) FROM
      (SELECT cuid FROM usertable.users WHERE project = %s AND cuid > %s ORDER BY cuid LIMIT %s) stretch"""
_DOWNWARD: LiteralString = """
    SELECT min(cuid), max(cuid), count(*) FROM
      (SELECT cuid FROM usertable.users WHERE project = %s AND cuid <= %s ORDER BY cuid DESC LIMIT %s) stretch"""


def _stretch(db: Connection, project: int, after: int | None, examine: int, descending: bool = False) -> _Stretch:
    if descending:
        query, begin = _DOWNWARD, MAX_CUID if after is None else after - 1
    else:
        query, begin = _UPWARD, after or 0
    low, high, count = db.execute(query, (project, begin, examine)).fetchall()[0]
    if not count:
        return _Stretch((1, 0), 0, None)
    end = low if descending else high
    more = count == examine and db.execute(query, (project, low - 1 if descending else high, 1)).fetchall()[0][2]
    return _Stretch((low, high), count, end if more else None)


def _select_users(db: Connection, project: int, where: LiteralString, parameters: tuple[Any, ...]) -> list[User]:
    rows = db.execute(
        "SELECT cuid, version, created_at, updated_at, attributes::text, changed_at::text FROM usertable.users"
        " WHERE project = %s AND " + where,
        (project, *parameters),
    )
    users = {cuid: User(cuid, profile) for cuid, profile in decode_user_profiles(rows).items()}
    values = db.execute(
        "SELECT cuid, identifier, value FROM usertable.user_identifier"
        " WHERE project = %s AND cuid = ANY(%s::bigint[]) ORDER BY identifier, value",
        (project, list(users)),
    )
    for cuid, identifier, value in values:
        users[cuid].identifiers.setdefault(identifier, []).append(value)
    return list(users.values())


def _select_projects(db: Connection, where: LiteralString, parameters: tuple[Any, ...]) -> list[Project]:
    rows = db.execute(
        "SELECT number, id, version, document, ARRAY(SELECT attribute FROM usertable.reported WHERE project = number)"
        " FROM usertable.project WHERE " + where,
        parameters,
    ).fetchall()
    projects = [decode_project(*row) for row in rows]
    with db.pipeline():
        valued = [
            (
                identifier.name,
                db.execute(
                    "SELECT 1 FROM usertable.identifier_value WHERE project = %s AND identifier = %s LIMIT 1",
                    (project.number, identifier.name),
                ),
            )
            for project in projects
            for identifier in project.schema.identifiers
        ]
    found = iter(valued)
    return [
        replace(
            project,
            identifying=frozenset(
                n for n, row in itertools.islice(found, len(project.schema.identifiers)) if row.fetchone()
            ),
        )
        for project in projects
    ]


def _limits(db: Connection) -> str:
    """Which of the `_LIMITS` are set, and how: `transaction_timeout (5s)`."""
    rows = db.execute(
        "SELECT name, current_setting(name) FROM unnest(%s::text[]) name WHERE current_setting(name, true) NOT IN ('', '0')",
        (list(_LIMITS),),
    )
    return " or ".join(f"{name} ({value})" for name, value in rows)


def _epoch(transaction: _Transaction) -> tuple[int, bool]:
    """The epoch, and whether the database is read-only."""
    epoch, read_only = transaction.db.execute(
        "SELECT value, current_setting('transaction_read_only') FROM usertable.epoch"
    ).fetchall()[0]
    return epoch, read_only == "on"


def _project_by_id(db: Connection, project_id: str) -> Project | None:
    # An id comes as a caller sent it; no project's has a NUL in it, and PostgreSQL takes none.
    found = [] if "\0" in project_id else _select_projects(db, "id = %s", (project_id,))
    return found[0] if found else None


def _project_by_number(db: Connection, number: int) -> Project:
    (project,) = _select_projects(db, "number = %s", (number,))
    return project


def _record(db: Connection, project: int, at: int, who: str, what: str) -> None:
    """Note a change of a project, whose lock the caller has."""
    number: int = db.execute(
        "SELECT coalesce(max(number), 0) + 1 FROM usertable.schema_change WHERE project = %s", (project,)
    ).fetchall()[0][0]
    db.execute(
        "INSERT INTO usertable.schema_change (project, number, at, who, what) VALUES (%s, %s, %s, %s, %s)",
        (project, number, at, who, what),
    )
    db.execute("UPDATE usertable.epoch SET value = value + 1")


def _settle(db: Connection) -> None:
    """Make a new connection one of ours."""
    _begin_session(db)
    db.execute(_BY_INDEX)


def _begin_session(db: Connection) -> None:
    """Have statements on a new connection mean what we mean by them.

    Raises:
        StoreFault: it is not in UTF-8, though it was asked for.
    """
    encoding = db.info.parameter_status("client_encoding")
    if encoding != _ENCODING:
        raise StoreFault(f"the connection has the encoding {encoding} in place of {_ENCODING}; is there a pooler between?")
    db.execute(_SESSION)


def _pool(conninfo: str, size: int) -> Pool:
    return ConnectionPool(
        conninfo,
        min_size=0,
        max_size=size,
        kwargs={"autocommit": True},
        configure=_settle,
        timeout=CONNECT_SECONDS,
        # After so long without success a waiting caller gets an error, and the next one starts new attempts.
        reconnect_timeout=CONNECT_SECONDS,
        max_idle=300,
        name="usertable",
        open=True,
    )


def _place(url: str) -> tuple[str, int]:
    """What libpq is told to connect to a URL, and the size of the pool.

    All but `pool_size` reaches libpq as it is written: libpq and Python do not read URLs alike.
    """
    shown = shown_url(url)
    found = _URL.fullmatch(url)
    if not found:
        # Not shown: what it has in place of a host may be a piece of a password.
        raise StoreFault(
            "unusable store URL: it is not postgresql://user:password@host:port/database?parameters;"
            " write the characters [ ] @ / : ? of a user or password as %5B %5D %40 %2F %3A %3F"
        )
    if _LONE_PERCENT.search(url):
        raise StoreFault(f"unusable store URL {shown!r}: a % stands before two hexadecimal digits only; write % as %25")
    parameters = found["query"].split("&") if found["query"] else []
    sizes = [p.partition("=")[2] for p in parameters if p.partition("=")[0] == "pool_size"]
    size = sizes[-1] if sizes else str(POOL_SIZE)
    if not size.isascii() or not size.isdigit() or not 2 <= int(size) <= 1000:
        raise StoreFault(f"unusable store URL {shown!r}: pool_size is {size!r}, expected a number from 2 to 1000")
    others = "&".join(p for p in parameters if p.partition("=")[0] != "pool_size")
    without = found["place"] + ("?" + others if others else "")
    try:
        given = conninfo_to_dict(without)
    except psycopg.ProgrammingError as error:
        # libpq may say the whole of it, password and all.
        words = _words(error).replace(without, shown)
        raise StoreFault(f"unusable store URL {shown!r}: {words}") from error
    encoding = str(given.pop("client_encoding", _ENCODING))
    if encoding not in ("", "auto") and encoding.upper().replace("-", "") not in ("UTF8", "UNICODE"):
        raise StoreFault(f"unusable store URL {shown!r}: client_encoding is {encoding!r}; it is always {_ENCODING}")
    return make_conninfo("", **{**_CONNECTION_DEFAULTS, **given, "client_encoding": _ENCODING}), int(size)


@contextmanager
def _opened(conninfo: str, shown: str) -> Iterator[Connection]:
    """A connection to a database that can be our store."""
    try:
        with _connect(conninfo, shown) as db:
            _check_pooler(db, conninfo, shown)
            yield db
    except (errors.InsufficientPrivilege, psycopg.OperationalError) as error:
        raise StoreFault(f"the store {shown} cannot be opened: {_words(error)}") from error


def _connect(conninfo: str, shown: str) -> Connection:
    db = psycopg.connect(conninfo, autocommit=True)
    try:
        version = db.info.server_version // 10_000
        if version < OLDEST_SERVER:
            raise StoreFault(f"{shown} is PostgreSQL {version}; {OLDEST_SERVER} or newer is needed")
        encoding = db.info.parameter_status("server_encoding")
        if encoding != _ENCODING:
            raise StoreFault(f"the database {shown} has the encoding {encoding}; create one with ENCODING '{_ENCODING}'")
        if is_read_only(db):
            raise StoreFault(f"{shown} {_why_read_only(db)}")
        _begin_session(db)
    except BaseException:
        db.close()
        raise
    return db


def _check_pooler(db: Connection, conninfo: str, shown: str) -> None:
    """Refuse a pooler that gives each transaction a connection of its choice.

    Statements that are prepared, and settings that are made, are another client's there, and that one's are ours.

    Raises:
        StoreFault: there is such a one.
    """

    def process(session: Connection) -> int:
        number: int = session.execute("SELECT pg_backend_pid()").fetchall()[0][0]
        return number

    first = process(db)
    if first == db.info.backend_pid:
        # Whoever answered the connection is the database.
        return
    for _ in range(POOLER_PROBES):
        # To the same pooler, if there are several hosts.
        same = make_conninfo(conninfo, host=db.info.host, hostaddr=db.info.hostaddr, port=db.info.port)
        with psycopg.connect(same, autocommit=True) as other:
            other.execute("BEGIN")
            # While `db` is open, nobody else is given its connection, unless it is lent for each transaction.
            if process(other) == first or process(db) != first:
                raise StoreFault(
                    f"{shown} leads to a pooler that pools by transaction, which loses what is prepared and set on a"
                    " connection; set pool_mode = session in it, or name the database itself"
                )


def _warn_of_losses(db: Connection, shown: str) -> None:
    """Log which settings of the database let it lose what it has committed, and which no connection can change."""
    for name in ("fsync", "full_page_writes"):
        if db.execute("SELECT current_setting(%s)", (name,)).fetchall()[0][0] == "off":
            log.warning(
                "%s: %s is off in the database, so a crash of its machine can lose or damage what was answered", shown, name
            )


def is_read_only(db: Connection) -> bool:
    """Whether the database takes no writes: a standby, or one that was told so. Outside a transaction only."""
    said: str = db.execute("SELECT current_setting('transaction_read_only')").fetchall()[0][0]
    return said == "on"


def _why_read_only(db: Connection) -> str:
    if db.execute("SELECT pg_is_in_recovery()").fetchall()[0][0]:
        why = "is read-only, a standby"
    else:
        why = "is read-only, by its setting default_transaction_read_only"
    return why + "; name the primary, or all hosts with target_session_attrs=read-write"


def connect_to_merge(url: str) -> Connection | None:
    """A connection on which the statements of `Merge`s are prepared by their names; None if the store is distributed.

    Raises:
        psycopg.Error: there is none to be had now.
        StoreFault: the database cannot be written now.
    """
    db = _connect(_place(url)[0], shown_url(url))
    try:
        if load_shards(db) is not None:
            db.close()
            return None
        db.execute(_BY_INDEX)
        for name, statement in _MERGES.items():
            text: str = statement
            for place, parameter in enumerate(MERGE_PARAMETERS, start=1):
                text = text.replace(f"%({parameter})s", f"${place}")
            prepared = db.pgconn.prepare(name, text.encode())
            if prepared.status != ExecStatus.COMMAND_OK:
                raise errors.error_from_result(prepared)
    except BaseException:
        db.close()
        raise
    return db


def distribute_store(url: str, shards: int) -> bool:
    """See :func:`usertable.store.distribute`."""
    shown = shown_url(url)
    with _opened(_place(url)[0], shown) as db:
        _check_alone(db, shown)
        _migrate(db, shown)
        return distribute(db, shown, shards)


def _check_alone(db: Connection, shown: str) -> None:
    # A connection that was closed is there for a moment more.
    deadline = time.monotonic() + LEAVING_SECONDS
    # A URL may give them another name, which ours has too then.
    while others := db.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name IN ('usertable', current_setting('application_name'))"
        " AND pid <> pg_backend_pid() AND datname = current_database()"
    ).fetchall()[0][0]:
        if time.monotonic() > deadline:
            raise StoreFault(f"{shown} is in use by {others} connections of usertable; stop the servers first")
        time.sleep(0.05)


def stored_version(url: str) -> int:
    """The number of the last migration that was applied; 0 for none."""
    shown = shown_url(url)
    with _opened(_place(url)[0], shown) as db:
        return _version(db, shown, len(migrations("postgresql")))


def _migrate(db: Connection, shown: str, *, allowed: bool = True) -> None:
    """Bring the database to the newest version; several processes may try at once."""
    scripts = migrations("postgresql")
    version = _version(db, shown, len(scripts))
    if version == len(scripts):
        return
    if version and not allowed:
        raise outdated(shown, version, len(scripts))
    with db.transaction():
        _lock(db, LOCK_MIGRATIONS)
        version = _version(db, shown, len(scripts))
        if not version:
            db.execute("CREATE SCHEMA IF NOT EXISTS usertable")
            db.execute(
                "CREATE TABLE usertable.migration (number int PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
            )
        # So that Citus changes tables and functions in one transaction. Elsewhere it means nothing.
        db.execute("SET LOCAL citus.multi_shard_modify_mode TO 'sequential'")
        for number, script in enumerate(scripts[version:], start=version + 1):
            db.execute(script)
            db.execute("INSERT INTO usertable.migration (number) VALUES (%s)", (number,))


def _version(db: Connection, shown: str, newest: int) -> int:
    """The number of the last migration that was applied; 0 for none."""
    # Not by to_regclass, which may answer from what it knew before the wait for the lock.
    there = db.execute("SELECT 1 FROM pg_tables WHERE schemaname = 'usertable' AND tablename = 'migration'")
    if not there.fetchone():
        return 0
    version: int = db.execute("SELECT coalesce(max(number), 0) FROM usertable.migration").fetchall()[0][0]
    if version > newest:
        raise StoreFault(f"{shown} was written by a newer usertable (store version {version}, this one knows {newest})")
    return version


def _words(error: Exception) -> str:
    """What the database said, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
