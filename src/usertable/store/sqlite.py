"""SQLite: one file, one server process, WAL with `synchronous=FULL`.

Users stand in one table per project, `user_<number>`, with the CUID as the rowid: that is the fastest table SQLite has,
two projects may have the same CUID, and no statement can reach another project's users.

The statements of the write path are shaped for Python: reading a batch and writing it back is one step of SQLite each,
because the interpreter lock is released and taken again at every step, for which the server's thread competes.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import apsw
import msgspec

from usertable.domain.arrival import Arrival, Arrivals, Rate
from usertable.domain.condition import Condition, meets
from usertable.domain.errors import Kind, StoreDown, StoreFault, Unavailable, refuse
from usertable.domain.profile import Profile
from usertable.domain.schema import Attribute, Project
from usertable.store.disk_failure import end_process
from usertable.store.encoding import (
    decode_arrival,
    decode_attributes,
    decode_changes,
    decode_column,
    decode_profiles,
    decode_project,
    decode_user,
    decode_user_profiles,
    decode_written,
    encode_arrival,
    encode_attributes,
    encode_changed_at,
    encode_changes,
    encode_project,
    encode_user,
    encode_written,
)
from usertable.store.incoming import Intake, Known, named, resolve_batch, row_keys, values_by_user
from usertable.store.migrations import migrations, outdated
from usertable.store.parts import CHANGES, RECEIPTS, USERS, Part, Row
from usertable.store.protocol import KEPT_SAMPLES, Decide, Note, Snapshot
from usertable.store.records import (
    FIRST_CUID,
    LARGEST_COUNTED_CUID,
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
from usertable.store.resolution import resolve
from usertable.store.sqlite_checkpoint import Checkpointer, copied_frames, copy_log, described, is_failed_sync
from usertable.store.sqlite_files import Identity, StoreFiles
from usertable.store.sqlite_filter import Predicate, place, translate
from usertable.store.sqlite_overwrite import Overwriting
from usertable.store.urls import CACHE_MB

log = logging.getLogger("usertable.store")

APPLICATION_ID = 0x75746231
"""Marks a SQLite file as a store of usertable's ("utb1")."""
BUSY_SECONDS = 5.0
STATEMENTS = 64
"""Prepared statements that a connection keeps."""
WRITER_STATEMENTS = 256
"""The writer's: it has some of up to 256 rows for each project, with up to 170 kB."""
PAGE_BYTES = 2048
"""Writes to random users dirty a page each, for the WAL and the file: half of SQLite's default saves a fifth of the work."""
CHECKPOINT_ROWS = 2_500
"""So many written rows make a checkpoint due, which copies them beside the commits."""
WAL_ROWS = 20_000
"""So many written rows make it due to sync the file and begin the WAL anew. Commits wait for the latter, a moment."""
CHECKPOINT_IDLE_SECONDS = 1.0
NOTES_CHECKPOINT_PAGES = 20_000
"""What the server writes beside the writer, which checkpoints: only a WAL this long is none that the writer looks after."""
LOOK_SECONDS = 1.0
"""After so long the files that are open are compared with what their names stand for."""
IMPORT_CHECKPOINT_PAGES = 16_384
"""An import lets the WAL grow to 32 MiB before it is copied: larger, and so fewer, copies."""
SNAPSHOT_ROWS = 5000
LOADED_BYTES = 16 * 2**20
"""A batch whose users' rows have more bytes is written in halves, so that large rows keep nobody else waiting for long."""
SNAPSHOT_BYTES = 8 * 2**20
"""A page of a snapshot has at most so many rows and bytes, or one row."""
_SQLITE_LENGTH = 1_000_000_000
"""SQLite's own limit."""
_cuids_decoder = msgspec.json.Decoder(list[int])
_ROWS_PER_STATEMENT = 256
_PROFILE = "cuid, version, created_at, updated_at, attributes, changed_at"
_USER_TABLE = """CREATE TABLE IF NOT EXISTS user_{} (
  cuid INTEGER PRIMARY KEY, version INTEGER NOT NULL, created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL, attributes TEXT NOT NULL, changed_at TEXT NOT NULL) STRICT"""


class SQLiteStore:
    """See :class:`usertable.store.protocol.Store`.

    Args:
        path: the database file; it is created if it is missing, its folder is not.
        serving: hold the file's server lock.
        cache_mb: the most memory for the writer's pages, in MiB; other connections have 64 at most.
        writing: this is the server's writer, which takes checkpoints off the write path with a thread of its own. The
            server has made the store, and is the last to close it.
        migrate: bring a file of an older version to this one, unless it is served; if not, it is refused.
        files: what the server has open, for its writer.

    Raises:
        StoreFault: the file cannot be made or opened, is not ours, is too new, or another server holds it.
    """

    def __init__(
        self,
        path: str,
        *,
        serving: bool = False,
        writing: bool = False,
        cache_mb: int = CACHE_MB,
        migrate: bool = True,
        files: Mapping[str, Identity] | None = None,
    ) -> None:
        self._path = path
        self._cache_mb = cache_mb if writing else min(cache_mb, 64)
        self._lock = threading.Lock()
        self._readers: queue.LifoQueue[apsw.Connection] = queue.LifoQueue()
        self._reported: dict[int, set[str]] = {}
        self._rest_until = 0.0
        """An import's next batch is not begun before: the server has as much time as the last one took."""
        self._is_server = serving or writing
        self._checkpointer: Checkpointer | None = None
        self._checkpoint_pages = NOTES_CHECKPOINT_PAGES if serving else IMPORT_CHECKPOINT_PAGES
        self._log_pages = 0
        self._failed = False
        self._has_stored = False
        self._overwriting: Overwriting | None = None
        self._looked_at = 0.0
        self._told: str | None = None
        self._files = StoreFiles(path)
        self._files.make_ready(create=files is None)
        if serving:
            self._files.lock()
        try:
            self._files.sync_log()
            self._writer = self._open(WRITER_STATEMENTS)
            if self._migrate(self._writer, migrate) == 0 and serving:
                log.info("%s: there was no store, so a new one was made", path)
            # Only what reads opens the log.
            self._writer.execute("SELECT count(*) FROM sqlite_schema").fetchall()
            self._files.remember(files)
            if moved := self._files.moved(lambda: False):
                raise StoreFault(moved)
            # What it writes need not survive a crash, so nobody waits for the disk; WAL keeps the file whole all the same.
            self._notes = self._open()
            self._notes.execute("PRAGMA synchronous = NORMAL")
            self._notes.execute("PRAGMA cache_size = -2048")
            for db in (self._writer, self._notes):
                db.wal_autocheckpoint(0)
                if not writing:
                    db.set_wal_hook(self._log_grew)
            if self._is_server:
                if self._files.disk_failed and copied_frames(self._writer):
                    raise StoreFault(
                        f"{path}: the disk failed under the last server, and another process, such as an import, still has"
                        " the store open, so what was lost cannot be recovered yet; end it, then start the server"
                    )
                # What was written before a crash is answered from now on: it must be on the disk by then.
                copy_log(self._writer, self._checkpoint_failed)
                if self._files.disk_failed:
                    self._files.forget_disk_failure()
                self._overwriting = Overwriting(self._files.real)
            if writing:
                # Closed last: to close any descriptor of a file ends the locks that SQLite holds on it.
                self._file = os.open(self._files.real, os.O_RDWR)
                self._checkpointer = Checkpointer(
                    self._open(),
                    self._file,
                    self._lock,
                    copy_rows=CHECKPOINT_ROWS,
                    sync_rows=WAL_ROWS,
                    idle_seconds=CHECKPOINT_IDLE_SECONDS,
                    is_halted=lambda: self._is_overwritten() or self._trouble(),
                    fail=self._checkpoint_failed,
                )
        except OSError as error:
            self._files.unlock()
            raise StoreFault(f"the store {path} cannot be opened: {error.strerror}") from error
        except apsw.Error as error:
            self._files.unlock()
            if isinstance(error, apsw.NotADBError):
                raise StoreFault(f"{path} is not a store of usertable's: it is no SQLite database") from error
            raise StoreFault(f"the store {path} cannot be opened: {error}") from error
        except BaseException:
            self._files.unlock()
            raise

    @property
    def files(self) -> Mapping[str, Identity]:
        """What is open, by name."""
        return self._files.known

    def write(self, writes: Sequence[Write], decide: Decide) -> list[Result]:
        middle = _middle(writes)
        try:
            return self._write(writes, decide, LOADED_BYTES if middle else _SQLITE_LENGTH)
        except _RowsTooLarge:
            results = self.write(writes[:middle], decide)
        # The first half is stored, so what keeps the second from it is the result of its own writes.
        try:
            return results + self.write(writes[middle:], decide)
        except (Unavailable, StoreFault) as failure:
            return results + [failure] * (len(writes) - middle)
        except Exception:
            # One write must not take its neighbours down with it. Those of a user are stored together.
            for _, together in itertools.groupby(writes[middle:], key=lambda write: (write.project, write.cuid)):
                results += self._write_alone(list(together), decide)
            return results

    def _write_alone(self, writes: Sequence[Write], decide: Decide) -> list[Result]:
        try:
            return self._write(writes, decide, _SQLITE_LENGTH)
        except Exception as failure:
            return [failure] * len(writes)

    def _write(self, writes: Sequence[Write], decide: Decide, most_bytes: int) -> list[Result]:
        """Write in one transaction. Raises _RowsTooLarge if the users' rows of a project have more bytes than that."""
        with self._transaction() as db:
            versions, profiles = self._load_users(db, writes, most_bytes)
            receipts = self._load_receipts(db, writes)
            resolution = resolve(writes, decide, versions, profiles, receipts)
            for project, changed in resolution.profiles_by_project().items():
                _replace_users(db, project, changed)
            if resolution.receipts:
                _insert_receipts(db, resolution.receipts)
            news = [
                (project, name)
                for project, names in resolution.reported.items()
                for name in names - self._reported.get(project, set())
            ]
            if news:
                db.executemany("INSERT OR IGNORE INTO reported (project, attribute) VALUES (?, ?)", news)
        for project, name in news:
            self._reported.setdefault(project, set()).add(name)
        if self._checkpointer:
            self._checkpointer.rows += len(resolution.profiles)
        return resolution.results

    def _load_users(
        self, db: apsw.Connection, writes: Sequence[Write], most_bytes: int
    ) -> tuple[dict[int, int], dict[tuple[int, int], Profile]]:
        wanted: dict[int, set[int]] = {}
        for write in writes:
            wanted.setdefault(write.project, set()).add(write.cuid)
        versions: dict[int, int] = {}
        profiles: dict[tuple[int, int], Profile] = {}
        db.limit(apsw.SQLITE_LIMIT_LENGTH, most_bytes)
        try:
            for project, cuids in wanted.items():
                version, rows = db.execute(
                    f"""SELECT (SELECT version FROM project WHERE number = ?),
                      CAST('[' || group_concat('[{project},' || cuid || ',' || version || ',' || created_at
                                               || ',' || updated_at || ',' || attributes || ',' || changed_at || ']')
                        || ']' AS BLOB)
                    FROM user_{project} WHERE cuid IN (SELECT value FROM json_each(?))""",
                    (project, f"[{','.join(map(str, cuids))}]"),
                ).get
                versions[project] = version
                if rows is not None:
                    profiles |= decode_profiles(rows)
        except apsw.TooBigError as error:
            raise _RowsTooLarge from error
        finally:
            db.limit(apsw.SQLITE_LIMIT_LENGTH, _SQLITE_LENGTH)
        return versions, profiles

    def _load_receipts(self, db: apsw.Connection, writes: Sequence[Write]) -> dict[tuple[int, str], StoredReceipt]:
        keys: dict[int, list[str]] = {}
        for write in writes:
            if write.receipt is not None:
                keys.setdefault(write.project, []).append(write.receipt.key)
        return {
            (project, key): receipt
            for project, names in keys.items()
            for key, receipt in _known_receipts(db, project, names).items()
        }

    def read(self, project: int, cuid: int) -> User | None:
        with self._moment() as db:
            users = _load_users(db, project, "cuid = ?", (cuid,))
        return users[0] if users else None

    def scan(self, project: int, after: int, limit: int) -> list[User]:
        with self._moment() as db:
            return _load_users(db, project, "cuid > ? ORDER BY cuid LIMIT ?", (after, limit))

    def select(
        self,
        project: int,
        conditions: Sequence[Condition],
        after: int | None,
        limit: int,
        examine: int,
        descending: bool = False,
    ) -> Selection:
        matching = translate(conditions)
        order = "DESC" if descending else "ASC"
        with self._moment() as db:
            stretch = _stretch(db, project, after, examine, descending)
            users: list[User] = []
            while len(users) < limit:
                wanted = limit - len(users)
                where = stretch.range & matching.maybe
                found = _load_users(
                    db,
                    project,
                    f"{where.sql} ORDER BY cuid {order} LIMIT ?",
                    (*where.parameters, wanted),
                    # Filters differ, and each would be kept with hundreds of kilobytes.
                    can_cache=not conditions,
                )
                users += [user for user in found if matching.exact or meets(user.profile, conditions)]
                if len(found) < wanted:
                    return Selection(users, stretch.examined, stretch.end)
                stretch.begin_after(found[-1].cuid)
            beyond = stretch.beyond
            more = db.execute(f"SELECT 1 FROM user_{project} WHERE {beyond.sql} LIMIT 1", beyond.parameters).fetchone()
            return Selection(users, stretch.examined, stretch.after if more else None)

    def tally(
        self,
        project: int,
        conditions: Sequence[Condition],
        after: int | None,
        examine: int,
        keep: int,
        oldest: bool = False,
    ) -> Tally:
        matching = translate(conditions)
        order = "ASC" if oldest else "DESC"
        with self._moment() as db:
            stretch = _stretch(db, project, after, examine)
            where = stretch.range & matching.maybe
            # Taken out of the documents once; those in doubt bring theirs along.
            rows = list(
                db.execute(
                    f"""WITH found AS MATERIALIZED (
                  SELECT updated_at, cuid, coalesce({matching.sure.sql}, 0) AS sure, attributes
                  FROM user_{project} WHERE {where.sql}
                )
                SELECT * FROM (
                  SELECT updated_at, cuid, count(*) OVER (), NULL FROM found WHERE sure
                  ORDER BY updated_at {order}, cuid {order} LIMIT ?
                ) UNION ALL SELECT updated_at, cuid, 0, attributes FROM found WHERE NOT sure""",
                    (*matching.sure.parameters, *where.parameters, max(1, keep)),
                    can_cache=not conditions,
                )
            )
        edge = [
            (updated_at, cuid)
            for updated_at, cuid, _, attributes in rows
            if attributes is None or meets(Profile(0, 0, updated_at, decode_attributes(attributes), {}), conditions)
        ]
        sure = sum(attributes is None for *_, attributes in rows)
        matched = len(edge) - sure + max((count for _, _, count, _ in rows), default=0)
        edge.sort(reverse=not oldest)
        return Tally(matched, stretch.examined, stretch.end, edge[:keep])

    def column(self, project: int, attribute: str, after: int | None, examine: int) -> Column:
        with self._moment() as db:
            where = (stretch := _stretch(db, project, after, examine)).range
            # Taken apart again from the document's own text: as SQL values, decimals would be rounded.
            rows = list(
                db.execute(
                    f"SELECT attributes FROM user_{project} WHERE {where.sql}"
                    f" AND json_type(attributes, {place(attribute)}) IS NOT NULL ORDER BY cuid",
                    where.parameters,
                )
            )
        return Column(decode_column(attribute, [text for (text,) in rows]), stretch.examined, stretch.end)

    def fill(self, project: int, after: int | None, examine: int) -> Fill:
        with self._moment() as db:
            where = (stretch := _stretch(db, project, after, examine)).range
            rows = list(
                db.execute(
                    f"SELECT key, count(*) FROM user_{project}, json_each(attributes) WHERE {where.sql} GROUP BY key",
                    where.parameters,
                )
            )
        return Fill(dict(rows), stretch.examined, stretch.end)

    def read_many(self, project: int, cuids: Sequence[int]) -> list[User]:
        with self._moment() as db:
            found = _load_users(db, project, "cuid IN (SELECT value FROM json_each(?))", (f"[{','.join(map(str, cuids))}]",))
        users = {user.cuid: user for user in found}
        return [users[cuid] for cuid in cuids if cuid in users]

    def extent(self, project: int) -> tuple[int, int] | None:
        with self._moment() as db:
            first, last = (db.execute(f"SELECT {end}(cuid) FROM user_{project}").get for end in ("min", "max"))
        return None if first is None else (first, last)

    def register(self, project: int, identifier: str, values: Sequence[str], now: int) -> list[int]:
        with self._transaction() as db:
            stored, next_cuid = _project_by_number(db, project)
            stored.schema.registration_identifier(identifier)
            known = _known_values(db, project, identifier, values)
            for value in values:
                if value not in known:
                    while _is_used(db, project, next_cuid):
                        next_cuid += 1
                    known[value] = next_cuid
                    _insert_user(db, project, next_cuid, {identifier: value}, now)
                    next_cuid += 1
            db.execute(
                "UPDATE project SET next_cuid = ? WHERE number = ? AND next_cuid < ?", (next_cuid, project, next_cuid)
            )
            return [known[value] for value in values]

    def add_user(self, project: int, cuid: int, identifiers: Mapping[str, str], now: int) -> None:
        with self._transaction() as db:
            stored, next_cuid = _project_by_number(db, project)
            if db.execute("SELECT 1 FROM erased WHERE project = ? AND cuid = ?", (project, cuid)).fetchone():
                raise refuse(Kind.CUID_ERASED, cuid=cuid)
            if _is_used(db, project, cuid):
                raise refuse(Kind.CUID_EXISTS, cuid=cuid)
            for name, value in identifiers.items():
                stored.schema.identifier(name)
                if _known_values(db, project, name, [value]):
                    raise refuse(Kind.IDENTIFIER_TAKEN, name, value=value)
            _insert_user(db, project, cuid, identifiers, now)
            if next_cuid <= cuid <= LARGEST_COUNTED_CUID:
                db.execute("UPDATE project SET next_cuid = ? WHERE number = ?", (cuid + 1, project))

    def take(self, batch: Batch, decide: Decide, note: Note | None = None) -> Taken | SchemaStale | JobMoved:
        # SQLite's lock is not fair: the server's writer gets its turn only while nobody else wants it.
        time.sleep(max(0.0, self._rest_until - time.monotonic()))
        began = time.monotonic()
        with self._transaction() as db:
            if note and (state := _job(db, batch.project, batch.job)) != batch.before:
                return JobMoved(state)
            project, next_cuid = _project_by_number(db, batch.project)
            if project.version != batch.schema_version:
                return SchemaStale()
            unused = (c for c in itertools.count(next_cuid) if not _is_used(db, project.number, c))
            intake = resolve_batch(batch, decide, project, _known(db, batch), unused)
            if batch.dry:
                return intake.taken
            _keep(db, batch, intake)
            if note:
                db.execute(
                    "REPLACE INTO import_job (project, name, state) VALUES (?, ?, ?)",
                    (project.number, batch.job, note(intake.taken)),
                )
        if self._files.server():
            ended = time.monotonic()
            self._rest_until = ended + (ended - began)
        return intake.taken

    def job(self, project: int, name: str) -> str | None:
        with self._reader() as db:
            return _job(db, project, name)

    @contextlib.contextmanager
    def snapshot(self, project_id: str) -> Iterator[Snapshot]:
        with contextlib.closing(self._open()) as db:
            try:
                db.execute("PRAGMA query_only = 1")
                # From here to the end of the transaction this connection sees what was committed at its first read.
                db.execute("BEGIN")
                project = _project_by_id(db, project_id)
                if project is None:
                    raise refuse(Kind.PROJECT_UNKNOWN, id=project_id)
                yield _Snapshot(project, db)
            except apsw.Error as error:
                raise StoreDown(f"{self._path}: {error}") from error

    def resolve_identifiers(self, project: int, identifier: str, values: Sequence[str]) -> dict[str, int]:
        with self._reader() as db:
            return _known_values(db, project, identifier, values)

    def erase(self, project: int, cuid: int) -> bool:
        with self._transaction() as db:
            db.execute(f"DELETE FROM user_{project} WHERE cuid = ?", (cuid,))
            if not db.changes():
                return False
            db.execute("INSERT INTO erased (project, cuid) VALUES (?, ?)", (project, cuid))
            db.execute("DELETE FROM identifier_value WHERE project = ? AND cuid = ?", (project, cuid))
            db.execute("DELETE FROM receipt WHERE project = ? AND cuid = ? AND personal", (project, cuid))
            db.execute("DELETE FROM arrival WHERE project = ? AND cuid = ?", (project, cuid))
            return True

    def keep_arrivals(self, batch: Sequence[Arrivals]) -> None:
        with self._transaction(self._notes) as db:
            for came in batch:
                project, at = came.project, came.at
                db.execute(
                    "INSERT INTO arrival_rate (project, at, accepted, refused, sampled) VALUES (?, ?, ?, ?, ?)"
                    " ON CONFLICT DO UPDATE SET"
                    " accepted = accepted + excluded.accepted, refused = refused + excluded.refused,"
                    " sampled = sampled + excluded.sampled",
                    (project, at, came.accepted, came.refused, len(came.samples)),
                )
                db.executemany(
                    "INSERT INTO arrival_refusal (project, at, kind, attribute, count, last) VALUES (?, ?, ?, ?, ?, ?)"
                    " ON CONFLICT DO UPDATE SET"
                    " count = count + excluded.count, last = max(last, excluded.last)",
                    [
                        (project, at - at % 60_000, kind, attribute or "", count, at)
                        for (kind, attribute), count in came.refusals.items()
                    ],
                )
                db.executemany(
                    "INSERT INTO last_write (project, attribute, at) VALUES (?, ?, ?)"
                    " ON CONFLICT DO UPDATE SET at = max(at, excluded.at)",
                    [(project, name, at) for name in came.written],
                )
                db.executemany(
                    "INSERT INTO arrival (project, refused, at, cuid, document) SELECT ?1, ?2, ?3, ?4, ?5"
                    " WHERE NOT EXISTS (SELECT 1 FROM erased WHERE project = ?1 AND cuid = ?4)",
                    [(project, bool(a.problems), a.at, a.cuid, encode_arrival(a)) for a in came.samples],
                )

    def arrivals(self, project: int, after: int, limit: int, *, refused: bool | None = None) -> list[tuple[int, Arrival]]:
        which = (0, 1) if refused is None else (int(refused), int(refused))
        with self._reader() as db:
            rows = list(
                db.execute(
                    "SELECT id, document FROM arrival WHERE project = ? AND refused IN (?, ?) AND id > ?"
                    " ORDER BY id DESC LIMIT ?",
                    (project, *which, after, limit),
                )
            )
        return [(number, decode_arrival(document)) for number, document in rows]

    def rates(self, project: int, since: int, step: int) -> list[Rate]:
        with self._reader() as db:
            rows = list(
                db.execute(
                    "SELECT ?1 + (at - ?1) / ?2 * ?2, sum(accepted), sum(refused), sum(sampled) FROM arrival_rate"
                    " WHERE project = ?3 AND at >= ?1 GROUP BY 1 ORDER BY 1",
                    (since, step, project),
                )
            )
        return [Rate(*row) for row in rows]

    def refusals(self, project: int, since: int) -> list[tuple[Kind, str | None, int, int]]:
        with self._reader() as db:
            rows = list(
                db.execute(
                    "SELECT kind, attribute, sum(count), max(last) FROM arrival_refusal"
                    " WHERE project = ? AND at >= ? GROUP BY 1, 2",
                    (project, since - since % 60_000),
                )
            )
        return [(Kind(kind), attribute or None, count, last) for kind, attribute, count, last in rows]

    def last_writes(self, project: int) -> dict[str, int]:
        with self._reader() as db:
            return dict(db.execute("SELECT attribute, at FROM last_write WHERE project = ?", (project,)))

    def expire_arrivals(self, before: int) -> None:
        with self._transaction(self._notes) as db:
            projects = [number for (number,) in db.execute("SELECT number FROM project")]
            for project in projects:
                db.execute("DELETE FROM arrival_rate WHERE project = ? AND at < ?", (project, before))
                db.execute("DELETE FROM arrival_refusal WHERE project = ? AND at < ?", (project, before - before % 60_000))
                for refused in (0, 1):
                    db.execute(
                        "DELETE FROM arrival WHERE project = ?1 AND refused = ?2 AND (at < ?3 OR id <="
                        " (SELECT id FROM arrival WHERE project = ?1 AND refused = ?2 ORDER BY id DESC LIMIT 1 OFFSET ?4))",
                        (project, refused, before, KEPT_SAMPLES),
                    )

    def epoch(self) -> int:
        with self._reader() as db:
            value: int = db.execute("SELECT value FROM epoch").get
            return value

    def versions(self) -> dict[str, int]:
        with self._reader() as db:
            return dict(db.execute("SELECT id, version FROM project"))

    def projects(self) -> list[Project]:
        with self._reader() as db:
            return _select_projects(db, "1 ORDER BY number", ())

    def project(self, project_id: str) -> Project | None:
        with self._reader() as db:
            return _project_by_id(db, project_id)

    def attributes(self, project: int) -> tuple[int, Mapping[str, Attribute]]:
        with self._reader() as db:
            found, _ = _project_by_number(db, project)
        return found.version, found.schema.attributes

    def add_project(self, project: Project, who: str) -> Project:
        with self._transaction() as db:
            if _project_by_id(db, project.id):
                raise refuse(Kind.PROJECT_EXISTS, id=project.id)
            db.execute(
                "INSERT INTO project (id, version, next_cuid, document) VALUES (?, ?, ?, ?)",
                (project.id, project.version, FIRST_CUID, encode_project(project)),
            )
            number = db.last_insert_rowid()
            db.execute(_USER_TABLE.format(number))
            _record(db, number, project.created_at, who, encode_changes(None, project))
            return replace(project, number=number)

    def edit_project(self, project_id: str, edit: Callable[[Project], Project], who: str, now: int) -> Project:
        with self._transaction() as db:
            project = _project_by_id(db, project_id)
            if project is None:
                raise refuse(Kind.PROJECT_UNKNOWN, id=project_id)
            edited = edit(project)
            if edited == project:
                return project
            edited = replace(edited, version=project.version + 1)
            db.execute(
                "UPDATE project SET version = ?, document = ? WHERE number = ?",
                (edited.version, encode_project(edited), project.number),
            )
            _record(db, project.number, now, who, encode_changes(project, edited))
            return edited

    def schema_changes(self, project: int, limit: int) -> list[SchemaChange]:
        with self._reader() as db:
            rows = db.execute(
                "SELECT at, who, what FROM schema_change WHERE project = ? ORDER BY id DESC LIMIT ?", (project, limit)
            )
            return [SchemaChange(at, who, decode_changes(what)) for at, who, what in rows]

    def expire_receipts(self, before: int) -> int:
        with self._transaction() as db:
            expired = list(db.execute("SELECT id FROM receipt WHERE at < ? ORDER BY at LIMIT 2000", (before,)))
            db.executemany("DELETE FROM receipt WHERE id = ?", expired)
            return len(expired)

    def count(self, project: int, part: Part) -> int:
        with self._reader() as db:
            found: int = db.execute(f"SELECT count(*) FROM ({_part(db, project, part)})").get
            return found

    def rows(self, project: int, part: Part, after: Row | None, limit: int) -> list[Row]:
        key = ", ".join(part.columns[: part.key])
        beyond = f"WHERE ({key}) > ({', '.join('?' * part.key)})" if after is not None else ""
        with self._reader() as db:
            rows = list(
                db.execute(
                    f"SELECT {', '.join(part.columns)} FROM ({_part(db, project, part)}) {beyond} ORDER BY {key} LIMIT ?",
                    (*(after or ()), limit),
                )
            )
        if part is USERS:
            return list(map(decode_user, rows))
        if part is RECEIPTS:
            return [(*row[:4], bool(row[4]), row[5]) for row in rows]
        return rows

    def last(self, project: int, part: Part) -> Row | None:
        key = part.columns[: part.key]
        with self._reader() as db:
            found: Row | None = db.execute(
                f"SELECT {', '.join(key)} FROM ({_part(db, project, part)})"
                f" ORDER BY {', '.join(f'{column} DESC' for column in key)} LIMIT 1"
            ).fetchone()
        return found

    def load(self, project: int, part: Part, rows: Sequence[Row]) -> None:
        columns: Sequence[str] = ("project", *part.columns)
        values: Sequence[Row] = [(project, *row) for row in rows]
        table = part.table
        if part is USERS:
            table = f"user_{project}"
            columns = part.columns
            values = list(map(encode_user, rows))
        elif part is CHANGES:
            # Its own number is one for all projects.
            columns = ("project", *part.columns[1:])
            values = [(project, *row[1:]) for row in rows]
        with self._transaction() as db:
            if part is USERS:
                db.execute(_USER_TABLE.format(project))
            db.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", values)

    def next_cuid(self, project: int) -> int:
        with self._reader() as db:
            return _project_by_number(db, project)[1]

    def adopt(self, project: Project, next_cuid: int) -> None:
        with self._transaction() as db:
            db.execute(_USER_TABLE.format(project.number))
            db.execute(
                "INSERT INTO project (number, id, version, next_cuid, document) VALUES (?, ?, ?, ?, ?)",
                (project.number, project.id, project.version, next_cuid, encode_project(project)),
            )
            db.execute("UPDATE epoch SET value = value + 1")

    def ping(self) -> None:
        # Only a write tells of a full disk, or of one that may only be read; and only one that changes something is made.
        # This row is no project's, and is not waited for until it is on the disk.
        with self._transaction(self._notes) as db:
            db.execute("REPLACE INTO last_write (project, attribute, at) VALUES (0, '', ?)", (time.time_ns(),))

    def close(self) -> None:
        if self._checkpointer:
            self._checkpointer.stop()
        moved = self._moved()
        with contextlib.suppress(queue.Empty):
            while True:
                self._readers.get_nowait().close()
        for db in (self._notes, self._writer):
            # The last connection to close checkpoints the whole WAL and removes it by its name. The writer leaves that to
            # the server, so that there is one process only whose disk can fail then.
            if moved or self._failed or self._checkpointer:
                db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            db.close()
        if self._checkpointer:
            os.close(self._file)
        if self._overwriting:
            self._overwriting.close()
        self._files.unlock()
        if moved and self._is_server:
            raise StoreFault(f"{moved}: what was answered before may not be in the store")
        if moved and self._has_stored:
            raise StoreFault(
                f"{moved}: what this command stored is in the files that were open, and not in the store; put them back, if"
                " they were moved, and it is there"
            )

    def _open(self, statements: int = STATEMENTS) -> apsw.Connection:
        db = apsw.Connection(self._files.real, apsw.SQLITE_OPEN_READWRITE, statementcachesize=statements)
        db.set_busy_timeout(int(BUSY_SECONDS * 1000))
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA cache_size = -{self._cache_mb * 1024}")
        # A statement of many rows keeps the pages it changes until it ends; from 32 on, they would go to a file.
        db.execute("PRAGMA temp_store = MEMORY")
        return db

    def _migrate(self, db: apsw.Connection, allowed: bool) -> int:
        """See that the file has the newest version; the version it had, 0 for a new file.

        An older server that serves the file could not write to it any more.
        """
        newest = len(migrations("sqlite"))
        _check_ours(db, self._path, newest)
        version = _pragma(db, "user_version")
        if 0 < version < newest:
            if server := self._files.server():
                raise StoreFault(
                    f"{self._path} has store version {version} and is served by an older usertable (process {server}), which"
                    f" could not write to it at version {newest} any more; nothing was changed."
                    " Stop that server, back up the store, install this version there, then start it"
                )
            if not allowed:
                raise outdated(self._path, version, newest)
        db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        # Every time: a copy made by VACUUM INTO has lost the mode. Nothing happens where it is set.
        db.execute("PRAGMA journal_mode = WAL")
        if version == newest:
            return version
        with self._files.held() if version else contextlib.nullcontext():
            _run_migrations(db)
        self._has_stored = True
        return version

    def _log_grew(self, db: apsw.Connection, name: str, pages: int) -> int:
        """SQLite's own hook here would make a checkpoint, and say nothing if it fails."""
        self._log_pages = pages
        return apsw.SQLITE_OK

    def _checkpoint_failed(self, failure: str) -> NoReturn:
        """The disk did not keep a checkpoint: this process makes no other, and leaves the WAL to the next one."""
        self._files.note_disk_failure()
        if self._is_server:
            end_process(f"{self._path}: {failure}")
        self._failed = True
        raise StoreFault(
            f"{self._path}: {failure}. Nothing that was stored is lost: the next command or server recovers it from the log"
            " beside the store. Check the disk"
        )

    def _trouble(self) -> str | None:
        """Why the store takes no writes: looked at once a second, and told once."""
        now = time.monotonic()
        if now >= self._looked_at + LOOK_SECONDS:
            # Nobody else looks meanwhile, nor do the connections that this look needs.
            self._looked_at = math.inf
            try:
                found = self._moved() or self._files.read_only()
            finally:
                self._looked_at = now
            if found != self._told:
                self._told = found
                if self._is_overwritten():
                    log.critical(
                        "%s, so what it held is lost. No write is taken. Stop the server, move the file and its log away,"
                        " and put a backup in their place",
                        found,
                    )
                elif found is None:
                    log.warning("%s: all its files are in their places again; writes are taken", self._path)
                else:
                    log.critical(
                        "%s. No write is taken until it is back. What was answered is in the files that process %d has open:"
                        " put them back, or copy them from there, before you stop it",
                        found,
                        os.getpid(),
                    )
        return self._told

    def _moved(self) -> str | None:
        """What became of the files that are open, if they are not in their places or not what they were."""
        if moved := self._files.moved(self._lacks_pages):
            return moved
        return f"{self._files.real} was overwritten while it was open" if self._is_overwritten() else None

    def _is_overwritten(self) -> bool:
        if self._overwriting is None:
            return False
        if self._overwriting.is_found():
            self._files.note_overwriting()
            return True
        return self._files.overwriting_is_noted()

    def _lacks_pages(self) -> bool | None:
        """Whether pages of the database are nowhere any more; None if that cannot be told now."""
        try:
            # A connection asks about the log only outside of a transaction.
            with self._moment() as db, self._reader() as other:
                pages, page_bytes = _pragma(db, "page_count"), _pragma(db, "page_size")
                frames, copied = other.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
                return self._files.lacks_pages(pages, page_bytes, frames, copied)
        except StoreDown as failure:
            # It may not even be readable any more.
            return None if isinstance(failure.__cause__, (apsw.BusyError, apsw.CantOpenError)) else True
        except OSError:
            return None

    @contextlib.contextmanager
    def _transaction(self, db: apsw.Connection | None = None) -> Iterator[apsw.Connection]:
        """The writer, or another, in a transaction that is durable when the block is left, or gone if it raises."""
        db = db or self._writer
        with self._lock:
            if trouble := self._trouble():
                raise StoreDown(trouble)
            try:
                db.execute("BEGIN IMMEDIATE")
                yield db
                db.execute("COMMIT")
                self._has_stored = True
                if self._log_pages >= self._checkpoint_pages:
                    copy_log(db, self._checkpoint_failed)
            except apsw.Error as error:
                if is_failed_sync(error):
                    # Another connection's commit, which waits for this sync, may be what the disk did not keep.
                    self._checkpoint_failed(described(error))
                raise StoreDown(f"{self._path}: {error}") from error
            finally:
                if db.in_transaction:
                    with contextlib.suppress(apsw.Error):
                        db.execute("ROLLBACK")

    @contextlib.contextmanager
    def _reader(self) -> Iterator[apsw.Connection]:
        """A connection that sees what was committed before; they are kept for the next who asks."""
        try:
            try:
                db = self._readers.get_nowait()
            except queue.Empty:
                db = self._open()
                db.execute("PRAGMA query_only = 1")
                if moved := self._files.moved(lambda: False):
                    raise StoreDown(moved) from None
            self._trouble()
            yield db
            self._readers.put(db)
        except apsw.Error as error:
            raise StoreDown(f"{self._path}: {error}") from error

    @contextlib.contextmanager
    def _moment(self) -> Iterator[apsw.Connection]:
        """A connection that sees one moment throughout."""
        with self._reader() as db:
            db.execute("BEGIN")
            try:
                yield db
            finally:
                db.execute("COMMIT")


class _Snapshot:
    def __init__(self, project: Project, db: apsw.Connection) -> None:
        self.project = project
        self._db = db

    def count(self) -> int:
        found: int = self._db.execute(f"SELECT count(*) FROM user_{self.project.number}").get
        return found

    def pages(self) -> Iterator[Page]:
        number, has_values = self.project.number, bool(self.project.identifying)
        # A page is one row of SQLite's, for which the interpreter lock is taken once.
        users = (
            "SELECT group_concat(cuid), CAST(group_concat(attributes, '\n') AS BLOB)"
            f" FROM (SELECT cuid, attributes FROM user_{number} WHERE cuid > ? ORDER BY cuid LIMIT ?)"
        )
        after, rows = 0, SNAPSHOT_ROWS
        while True:
            self._db.limit(apsw.SQLITE_LIMIT_LENGTH, SNAPSHOT_BYTES if rows > 1 else _SQLITE_LENGTH)
            try:
                ((found, lines),) = self._db.execute(users, (after, rows))
            except apsw.TooBigError:
                # Too much for a page.
                if rows == 1:
                    raise
                rows //= 2
                continue
            if found is None:
                return
            cuids = _cuids_decoder.decode(f"[{found}]")
            values: Mapping[int, Mapping[str, list[str]]] = {}
            if has_values:
                values = values_by_user(
                    self._db.execute(
                        "SELECT cuid, identifier, value FROM identifier_value"
                        " WHERE project = ? AND cuid BETWEEN ? AND ? ORDER BY cuid, identifier, value",
                        (number, cuids[0], cuids[-1]),
                    )
                )
            yield Page(cuids, lines, values)
            after, rows = cuids[-1], min(2 * rows, SNAPSHOT_ROWS)


class _RowsTooLarge(Exception):
    """The rows of a batch's users have too many bytes to be loaded together."""


def _middle(writes: Sequence[Write]) -> int:
    """Where to cut a batch in two, as near its middle as can be between writes to different users; 0 if nowhere."""
    half = len(writes) // 2
    for distance in range(half + 1):
        for cut in (half - distance, half + distance):
            if 0 < cut < len(writes) and writes[cut].cuid != writes[cut - 1].cuid:
                return cut
    return 0


def _run_migrations(db: apsw.Connection) -> None:
    """Bring the file to the newest version; several processes may try at once."""
    scripts = migrations("sqlite")
    db.execute("BEGIN EXCLUSIVE")
    version = _pragma(db, "user_version")
    for number, script in enumerate(scripts[version:], start=version + 1):
        for statement in _statements(script):
            for table in _user_tables(db) if "{users}" in statement else [""]:
                db.execute(statement.replace("{users}", table))
        db.execute(f"PRAGMA user_version = {number}")
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute("COMMIT")


def stored_version(path: str) -> int:
    """The number of the last migration that was applied to a file; 0 for none, or no file."""
    files = StoreFiles(path)
    if files.is_empty():
        return 0
    try:
        with contextlib.closing(apsw.Connection(path, apsw.SQLITE_OPEN_READWRITE)) as db:
            _check_ours(db, path, len(migrations("sqlite")))
            return _pragma(db, "user_version")
    except apsw.Error as error:
        raise StoreFault(f"{path} is not a store of usertable's: {error}") from error


def _check_ours(db: apsw.Connection, path: str, newest: int) -> None:
    application = _pragma(db, "application_id")
    tables = db.execute("SELECT count(*) FROM sqlite_schema").get
    if application != APPLICATION_ID and (application or tables):
        raise StoreFault(f"{path} is not a store of usertable's: it is a SQLite database of another program")
    version = _pragma(db, "user_version")
    if version > newest:
        raise StoreFault(f"{path} was written by a newer usertable (store version {version}, this one knows {newest})")


def _pragma(db: apsw.Connection, name: str) -> int:
    value: int = db.pragma(name)
    return value


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if apsw.complete(statement):
            yield statement
            statement = ""


def _user_tables(db: apsw.Connection) -> list[str]:
    """The tables of users, those of projects that are being copied included."""
    return [
        name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'user_[0-9]*'")
    ]


def _insert_rows(db: apsw.Connection, head: str, width: int, parameters: Sequence[Any]) -> None:
    """Run `head (?, …), (?, …)` for all rows, in statements of 256, 128, … rows: few texts, so all stay prepared."""
    row = f"({', '.join('?' * width)})"
    done, rows, size = 0, len(parameters) // width, _ROWS_PER_STATEMENT
    while done < rows:
        while size > rows - done:
            size //= 2
        db.execute(head + ", ".join([row] * size), parameters[done * width : (done + size) * width])
        done += size


def _replace_users(db: apsw.Connection, project: int, profiles: Mapping[int, Profile]) -> None:
    parameters: list[int | str] = []
    for cuid, p in profiles.items():
        parameters.extend(
            (cuid, p.version, p.created_at, p.updated_at, encode_attributes(p.attributes), encode_changed_at(p.changed_at))
        )
    _insert_rows(db, f"REPLACE INTO user_{project} ({_PROFILE}) VALUES ", 6, parameters)


def _known_receipts(db: apsw.Connection, project: int, keys: Sequence[str]) -> dict[str, StoredReceipt]:
    rows = db.execute(
        "SELECT key, fingerprint, written FROM receipt WHERE project = ? AND key IN (SELECT value FROM json_each(?))",
        (project, msgspec.json.encode(keys).decode()),
    )
    return {key: StoredReceipt(fingerprint, decode_written(written)) for key, fingerprint, written in rows}


def _insert_receipts(db: apsw.Connection, receipts: Sequence[NewReceipt]) -> None:
    parameters: list[Any] = []
    for r in receipts:
        parameters.extend(
            (r.project, r.key, r.cuid, r.fingerprint, encode_written(r.written), r.written.attributes is not None, r.at)
        )
    _insert_rows(
        db,
        "INSERT INTO receipt (project, key, cuid, fingerprint, written, personal, at) VALUES ",
        7,
        parameters,
    )


def _part(db: apsw.Connection, project: int, part: Part) -> str:
    """A query for the rows of a part, in its columns."""
    if part is CHANGES:
        return (
            f"SELECT row_number() OVER (ORDER BY id) AS number, at, who, what FROM schema_change WHERE project = {project}"
        )
    if part is USERS:
        there = db.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (f"user_{project}",)).fetchone()
        return (
            f"SELECT {_PROFILE} FROM user_{project}"
            if there
            else "SELECT 0 cuid, 0 version, 0 created_at, 0 updated_at, '' attributes, '' changed_at WHERE 0"
        )
    return f"SELECT {', '.join(part.columns)} FROM {part.table} WHERE project = {project}"


@dataclass
class _Stretch:
    """A stretch of a project's users that is looked at."""

    after: int | None
    last: int | None
    """The CUID at its end; None if it holds nobody."""
    examined: int
    end: int | None
    descending: bool

    @property
    def beyond(self) -> Predicate:
        """The predicate for all users after its beginning."""
        return Predicate("1") if self.after is None else Predicate(f"cuid {'<' if self.descending else '>'} ?", [self.after])

    @property
    def range(self) -> Predicate:
        """The predicate for the users in it."""
        if self.last is None:
            return Predicate("0")
        return self.beyond & Predicate(f"cuid {'>=' if self.descending else '<='} ?", [self.last])

    def begin_after(self, cuid: int) -> None:
        self.after = cuid


def _stretch(db: apsw.Connection, project: int, after: int | None, examine: int, descending: bool = False) -> _Stretch:
    stretch = _Stretch(after, None, 0, None, descending)
    last, order = ("min", "DESC") if descending else ("max", "ASC")
    beyond = stretch.beyond
    stretch.last, stretch.examined = db.execute(
        f"SELECT {last}(cuid), count(*) FROM"
        f" (SELECT cuid FROM user_{project} WHERE {beyond.sql} ORDER BY cuid {order} LIMIT ?)",
        (*beyond.parameters, examine),
    ).get
    if stretch.examined == examine and stretch.last is not None:
        sign = "<" if descending else ">"
        more = db.execute(f"SELECT 1 FROM user_{project} WHERE cuid {sign} ? LIMIT 1", (stretch.last,)).fetchone()
        stretch.end = stretch.last if more else None
    return stretch


def _load_users(
    db: apsw.Connection, project: int, where: str, parameters: Sequence[Any], *, can_cache: bool = True
) -> list[User]:
    statement = f"SELECT {_PROFILE} FROM user_{project} WHERE {where}"
    rows = list(db.execute(statement, parameters, can_cache=can_cache))
    users = {cuid: User(cuid, profile) for cuid, profile in decode_user_profiles(rows).items()}
    values = db.execute(
        "SELECT cuid, identifier, value FROM identifier_value"
        " WHERE project = ? AND cuid IN (SELECT value FROM json_each(?)) ORDER BY identifier, value",
        (project, f"[{','.join(map(str, users))}]"),
    )
    for cuid, identifier, value in values:
        users[cuid].identifiers.setdefault(identifier, []).append(value)
    return list(users.values())


def _select_projects(db: apsw.Connection, where: str, parameters: tuple[Any, ...]) -> list[Project]:
    rows = list(db.execute(f"SELECT number, id, version, document FROM project WHERE {where}", parameters))
    projects = []
    for number, project_id, version, document in rows:
        reported = db.execute("SELECT attribute FROM reported WHERE project = ?", (number,))
        project = decode_project(number, project_id, version, document, (name for (name,) in reported))
        identifying = frozenset(i.name for i in project.schema.identifiers if _has_values(db, number, i.name))
        projects.append(replace(project, identifying=identifying))
    return projects


def _has_values(db: apsw.Connection, project: int, identifier: str) -> bool:
    found = db.execute("SELECT 1 FROM identifier_value WHERE project = ? AND identifier = ? LIMIT 1", (project, identifier))
    return found.fetchone() is not None


def _project_by_id(db: apsw.Connection, project_id: str) -> Project | None:
    found = _select_projects(db, "id = ?", (project_id,))
    return found[0] if found else None


def _project_by_number(db: apsw.Connection, number: int) -> tuple[Project, int]:
    (project,) = _select_projects(db, "number = ?", (number,))
    next_cuid: int = db.execute("SELECT next_cuid FROM project WHERE number = ?", (number,)).get
    return project, next_cuid


def _record(db: apsw.Connection, project: int, at: int, who: str, what: str) -> None:
    db.execute("INSERT INTO schema_change (project, at, who, what) VALUES (?, ?, ?, ?)", (project, at, who, what))
    db.execute("UPDATE epoch SET value = value + 1")


def _is_used(db: apsw.Connection, project: int, cuid: int) -> bool:
    found = db.execute(
        f"SELECT 1 FROM user_{project} WHERE cuid = ? UNION ALL SELECT 1 FROM erased WHERE project = ? AND cuid = ?",
        (cuid, project, cuid),
    )
    return found.fetchone() is not None


def _insert_user(db: apsw.Connection, project: int, cuid: int, identifiers: Mapping[str, str], now: int) -> None:
    db.execute(f"INSERT INTO user_{project} ({_PROFILE}) VALUES (?, 1, ?, ?, '{{}}', '{{}}')", (cuid, now, now))
    db.executemany(
        "INSERT INTO identifier_value (project, identifier, value, cuid) VALUES (?, ?, ?, ?)",
        [(project, name, value, cuid) for name, value in identifiers.items()],
    )


def _known_values(db: apsw.Connection, project: int, identifier: str, values: Sequence[str]) -> dict[str, int]:
    found = db.execute(
        "SELECT value, cuid FROM identifier_value WHERE project = ? AND identifier = ?"
        " AND value IN (SELECT value FROM json_each(?))",
        (project, identifier, msgspec.json.encode(values).decode()),
    )
    return dict(found)


def _job(db: apsw.Connection, project: int, name: str) -> str | None:
    found = db.execute("SELECT state FROM import_job WHERE project = ? AND name = ?", (project, name)).fetchone()
    return found[0] if found else None


def _known(db: apsw.Connection, batch: Batch) -> Known:
    cuids, names = named(batch)
    number = batch.project
    owners: dict[tuple[str, str], int] = {}
    for name, values in names.items():
        owners |= {(name, value): cuid for value, cuid in _known_values(db, number, name, values).items()}
    cuids |= set(owners.values())
    span = (min(cuids, default=0), max(cuids, default=0))
    is_there, is_erased = db.execute(
        f"SELECT EXISTS (SELECT 1 FROM user_{number} WHERE cuid BETWEEN ?1 AND ?2),"
        " EXISTS (SELECT 1 FROM erased WHERE project = ?3 AND cuid BETWEEN ?1 AND ?2)",
        (*span, number),
    ).get
    receipts = _known_receipts(db, number, row_keys(batch)) if batch.receipts else {}
    if not (is_there or is_erased or names):
        # New users are often brought in the order of their CUIDs: then a glance at the span saves looking for each.
        return Known({}, set(), {}, {}, receipts)
    wanted = f"[{','.join(map(str, cuids))}]"
    within = "cuid IN (SELECT value FROM json_each(?))"
    profiles: dict[int, Profile] = {}
    erased: set[int] = set()
    if is_there:
        rows = db.execute(f"SELECT {_PROFILE} FROM user_{number} WHERE {within}", (wanted,))
        profiles = decode_user_profiles(rows)
    if is_erased:
        erased = {c for (c,) in db.execute(f"SELECT cuid FROM erased WHERE project = ? AND {within}", (number, wanted))}
    of_users: dict[int, dict[str, list[str]]] = {}
    if names:
        of_users = values_by_user(
            db.execute(
                f"SELECT cuid, identifier, value FROM identifier_value WHERE project = ? AND {within}", (number, wanted)
            )
        )
    return Known(profiles, erased, owners, of_users, receipts)


def _keep(db: apsw.Connection, batch: Batch, intake: Intake) -> None:
    number, now = batch.project, batch.now
    db.executemany(
        f"INSERT INTO user_{number} ({_PROFILE}) VALUES (?, ?, {now}, {now}, ?, '{{}}')",
        intake.created,
    )
    _replace_users(db, number, intake.changed)
    db.executemany(
        f"INSERT INTO identifier_value (project, cuid, identifier, value) VALUES ({number}, ?, ?, ?)", intake.values
    )
    db.executemany(
        f"INSERT OR IGNORE INTO reported (project, attribute) VALUES ({number}, ?)", [(name,) for name in intake.reported]
    )
    _insert_receipts(db, intake.receipts)
    db.execute(
        "UPDATE project SET next_cuid = ? WHERE number = ? AND next_cuid < ?", (intake.next_cuid, number, intake.next_cuid)
    )
