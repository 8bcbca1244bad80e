"""Loading and storing for a command. As much as possible is sent in one pipeline, so that it takes one round trip.

Locks are taken in the order given in the package's docstring, and by project number.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from usertable.domain.actor import Actor
from usertable.domain.audit import AuditEvent
from usertable.domain.change import Change
from usertable.domain.key import Key
from usertable.domain.person import Person, Session
from usertable.domain.schema import Project
from usertable.store.encoding import (
    audit_rows,
    decode_profiles,
    decode_written,
    encode_key,
    encode_project,
    encode_user_changes,
    encode_written,
    values_by_user,
)
from usertable.store.history import PLACES, HistoryBlock, blocks_needed, blocks_of, head_of_created
from usertable.store.keyframes import Keyframe, keyframes_of
from usertable.store.postgres import history, people, reads
from usertable.store.postgres.citus import ShardMap
from usertable.store.postgres.connection import Connection
from usertable.store.postgres.locks import (
    LOCK_EXPIRY,
    LOCK_PEOPLE,
    LOCK_PROJECTS,
    lock,
    lock_audit,
    lock_users,
    share,
    try_lock,
    wait_for_users,
)
from usertable.store.postgres.merge import UserKey
from usertable.store.postgres.pool import TrackedConnection
from usertable.store.protocol import T
from usertable.store.queries import load_queries
from usertable.store.records import FIRST_CUID, NewReceipt, StoredReceipt
from usertable.store.transaction import Loaded, Mutation, Transaction, Wanted

EXPIRY_WINDOW = 10_000
"""Milliseconds of receipts that are removed in one transaction."""
_UNUSED_STEP = 1000
_SQL = load_queries("usertable.store.postgres", "transaction.sql")

ReceiptsByKey = Mapping[int, Mapping[str, StoredReceipt]]
"""By project and key."""


class PostgresTransaction:
    """See :class:`usertable.store.transaction.Transaction`.

    Args:
        reported: by project, attributes that are known to be stored as reported; newly stored ones are added.
        shards: the users' shards, on Citus.
        elsewhere: on Citus, receipts of other shards; with it, only those of the wanted users' shard are searched.
        unknown: receives the wanted users that do not exist.
    """

    def __init__(
        self,
        connection: TrackedConnection,
        reported: dict[int, set[str]],
        shards: ShardMap | None,
        elsewhere: ReceiptsByKey | None = None,
        unknown: set[UserKey] | None = None,
    ) -> None:
        self._unknown = unknown
        self._tracked = connection
        self._db = connection.db
        self._reported = reported
        self._shards = shards
        self._elsewhere = elsewhere
        self._begun = False
        self._makes_users: set[int] = set()
        """Projects whose users are created or erased."""

    def load(self, wanted: Mapping[int, Wanted]) -> dict[int, Loaded]:
        numbers = sorted(wanted)
        self._makes_users.update(number for number in numbers if wanted[number].makes_users)
        with self._db.pipeline():
            self._begin()
            share(self._db, numbers)
            versions = self._db.execute(_SQL["versions"], {"projects": numbers})
            asked = {number: _Asked(self._db, number, wanted[number], self._shards, self._elsewhere) for number in numbers}
        self._tracked.check_host()
        version: dict[int, int] = dict(versions.fetchall())
        loaded = {number: asked[number].loaded(version.get(number)) for number in numbers}
        if self._unknown is not None:
            for number, found in loaded.items():
                self._unknown.update([(number, cuid) for cuid in wanted[number].cuids if cuid not in found.profiles])
        return loaded

    def keep(self, mutations: Sequence[Mutation]) -> None:
        db = self._db
        self._begin()
        parts = [part for mutation in mutations for part in _parts(mutation, self._shards)]
        # After the users' locks, so that a user's changes have ascending numbers.
        numbers = history.draw_numbers(db, sum(blocks_needed(part.mutation) for part in parts))
        for part in parts:
            part.blocks = blocks_of(part.mutation, numbers)
            unrecorded = partial(history.unrecorded, db, part.mutation.project)
            part.keyframes = keyframes_of(part.mutation.changes, unrecorded)
        # COPY does not work in a pipeline.
        _create_users(db, parts)
        new_names = [
            (mutation.project, name)
            for mutation in mutations
            for name in sorted(mutation.reported - self._reported.get(mutation.project, set()))
        ]
        with db.pipeline():
            for part in parts:
                self._keep_part(part)
            for mutation in mutations:
                self._keep(mutation)
            _add_receipts(db, [receipt for mutation in mutations for receipt in mutation.receipts])
            if new_names:
                projects, names = zip(*new_names, strict=True)
                db.execute(_SQL["add_reported"], {"projects": list(projects), "attributes": list(names)})
            if self._shards is not None:
                for number in sorted(self._makes_users):
                    lock_users(db, number)
            self._tracked.commit()
        for project, name in new_names:
            self._reported.setdefault(project, set()).add(name)

    def _keep_part(self, part: _Part) -> None:
        db, number, mutation = self._db, part.mutation.project, part.mutation
        if mutation.changes:
            changed: dict[str, object] = {"project": number, "rows": encode_user_changes(mutation.changes)}
            if self._shards is None:
                db.execute(_SQL["change_users"], changed)
            else:
                cuids = sorted({change.cuid for change in mutation.changes})
                db.execute(_SQL["change_users_in_shard"], {**changed, "cuids": cuids})
        for cuid in mutation.erased:
            history.forget(db, self._shards, number, cuid)
        for block in part.blocks:
            history.add_block(db, number, part.place, block)
        for keyframe in part.keyframes:
            history.add_keyframe(db, number, keyframe)

    def _keep(self, mutation: Mutation) -> None:
        db, number = self._db, mutation.project
        _add_values(db, number, mutation.values)
        history.remove_keyframes_of_users(db, number, mutation.identified)
        for cuid in mutation.erased:
            _erase(db, self._shards, number, cuid)
        if mutation.next_cuid:
            db.execute(_SQL["raise_counter"], {"project": number, "next_cuid": mutation.next_cuid})
        if mutation.job is not None:
            name, state = mutation.job
            db.execute(_SQL["keep_job"], {"project": number, "name": name, "state": state})

    def changes(self, project: int, cuid: int, head: int) -> Iterator[Change]:
        return history.changes(self._db, self._shards, project, cuid, head)

    def history_since(self, project: int) -> int | None:
        return history.since(self._db, project)

    def keep_history_since(self, project: int, moment: int | None) -> None:
        history.keep_since(self._db, project, moment)

    def next_change(self, project: int) -> int:
        (block,) = history.draw_numbers(self._db, 1)
        return block * PLACES

    def newest_change(self, project: int) -> int | None:
        return history.newest(self._db, project)

    def project(self, project_id: str) -> Project | None:
        self._begin()
        number = reads.project_number(self._db, project_id)
        if number is None:
            return None
        lock(self._db, number)
        return reads.project_by_number(self._db, number)

    def stored_key(self, project: int, name: str) -> Key | None:
        return reads.stored_key(self._db, project, name)

    def has_project(self, project_id: str) -> bool:
        self._begin()
        lock(self._db, LOCK_PROJECTS)
        return reads.project_number(self._db, project_id) is not None

    def add_project(self, project: Project) -> Project:
        number: int = self._db.execute("SELECT coalesce(max(number), 0) + 1 FROM usertable.project").fetchall()[0][0]
        project = replace(project, number=number)
        insert_project(self._db, project, FIRST_CUID)
        self._keep_keys(number, project.stored_keys)
        advance_epoch(self._db)
        return project

    def replace_project(self, project: Project, keys: Sequence[Key]) -> None:
        after = {"project": project.number, "version": project.version, "document": encode_project(project)}
        self._db.execute(_SQL["replace_project"], after)
        self._keep_keys(project.number, keys)
        advance_epoch(self._db)

    def _keep_keys(self, project: int, keys: Sequence[Key]) -> None:
        for key in keys:
            self._db.execute(_SQL["keep_key"], {"project": project, "name": key.name, "document": encode_key(key)})

    def people(self) -> dict[str, Person]:
        self._begin()
        lock(self._db, LOCK_PEOPLE)
        return {person.id: person for person in people.people(self._db)}

    def keep_person(self, person: Person) -> None:
        people.keep_person(self._db, person)

    def remove_person(self, id: str) -> None:
        people.remove_person(self._db, id)

    def add_session(self, session: Session) -> None:
        self._begin()
        people.add_session(self._db, session)

    def renew_session(self, session: Session) -> None:
        self._begin()
        people.renew_session(self._db, session)

    def end_session(self, digest: bytes) -> None:
        self._begin()
        people.end_session(self._db, digest)

    def end_sessions(self, person: str, *, but: bytes = b"") -> int:
        self._begin()
        return people.end_sessions(self._db, person, but)

    def keep_newest_sessions(self, person: str, count: int) -> None:
        self._begin()
        people.keep_newest_sessions(self._db, person, count)

    def record(self, project: int, actor: Actor, events: Sequence[AuditEvent], now: int) -> None:
        self._begin()
        lock_audit(self._db, project)
        last: int = self._db.execute(_SQL["last_entry"], {"project": project}).fetchall()[0][0]
        with self._db.cursor() as cursor:
            cursor.executemany(_SQL["record"], [(project, *row) for row in audit_rows(actor, events, last, now)])

    def run(self, command: Callable[[Transaction], T]) -> T:
        """Run the command. Commit if it stored nothing."""
        answer = command(self)
        if self._begun and not self._tracked.committing:
            self._tracked.commit()
        return answer

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._tracked.begin()


class _Asked:
    """What was requested about one project in a pipeline. The answers come when it ends."""

    def __init__(
        self, db: Connection, number: int, wanted: Wanted, shards: ShardMap | None, elsewhere: ReceiptsByKey | None
    ) -> None:
        self._db = db
        self._number = number
        self._wanted = wanted
        self._elsewhere = {} if elsewhere is None else elsewhere.get(number, {})
        project = {"project": number}
        self._job = None if wanted.job is None else db.execute(_SQL["locked_job"], {**project, "name": wanted.job})
        self._counter = db.execute(_SQL["locked_counter"], project) if wanted.makes_users else None
        if wanted.makes_users and shards is not None:
            # The counter is on the coordinator, which unlocks its row before the other machines show the committed users.
            wait_for_users(db, number)
        self._owners = [
            (name, reads.owners(db, shards, number, name, values))
            for name, values in wanted.values.items()
            # PostgreSQL rejects a text with NUL, and no identifier's name contains it.
            if "\0" not in name
        ]
        self._owned: dict[tuple[str, str], int] | None = None
        cuids = wanted.cuids
        with_owners = bool(wanted.rows_of_owners and self._owners)
        if with_owners:
            cuids = {*cuids, *self._find_owners().values()}
        lock = _SQL["locked_users" if shards is None else "locked_users_in_shard"]
        self._rows = [db.execute(lock, {**project, "cuids": group}) for group in _by_shard(cuids, shards)]
        of_users = {**project, "cuids": list(cuids)}
        self._values = reads.values_of_users(db, shards, number, list(cuids)) if with_owners else None
        erased = _SQL["erased" if shards is None else "erased_in_shards"]
        self._erased = db.execute(erased, of_users) if wanted.project and cuids else None
        # After the users' and the counter's locks, so that a receipt that another writer stored meanwhile is visible.
        self._receipts: reads.Rows | None = None
        if wanted.keys:
            receipts = "receipts" if shards is None else "receipts_in_shards"
            query = _SQL[receipts if elsewhere is None else "receipts_of_users"]
            self._receipts = db.execute(query, {**of_users, "keys": list(wanted.keys)})

    def loaded(self, version: int | None) -> Loaded:
        """Return the loaded data, after the pipeline has ended."""
        db, number = self._db, self._number
        profiles = decode_profiles("[" + ",".join(row for cursor in self._rows for (row,) in cursor) + "]")
        loaded = Loaded(version, profiles, owners=self._find_owners())
        if self._receipts is not None:
            loaded.receipts = {**self._elsewhere, **_receipts_by_key(self._receipts)}
        if self._values is not None:
            loaded.values = values_by_user(self._values)
        if self._wanted.project and version is not None:
            loaded.project = reads.project_by_number(db, number)
        if self._erased is not None:
            loaded.erased = {cuid for (cuid,) in self._erased}
        if self._counter is not None:
            loaded.unused = _unused(db, number, self._counter.fetchall()[0][0])
        if self._job is not None and (found := self._job.fetchone()):
            loaded.job = found[0]
        return loaded

    def _find_owners(self) -> dict[tuple[str, str], int]:
        if self._owned is None:
            self._owned = {(name, value): cuid for name, rows in self._owners for value, cuid in rows}
        return self._owned


def _by_shard(cuids: Collection[int], shards: ShardMap | None) -> list[list[int]]:
    """Return the CUIDs, ascending, grouped by shard: a statement that locks or changes users must stay in one."""
    if shards is None:
        return [sorted(cuids)] if cuids else []
    groups: dict[int, list[int]] = {}
    for cuid in sorted(cuids):
        groups.setdefault(shards.shard(cuid), []).append(cuid)
    return list(groups.values())


def _unused(db: Connection, project: int, start: int) -> Iterator[int]:
    """Yield all CUIDs from `start` on that belong neither to a user nor to an erased one."""
    while True:
        span = {"project": project, "first": start, "last": start + _UNUSED_STEP - 1}
        with db.pipeline():
            found = [db.execute(_SQL[query], span) for query in ("users_of_span", "erased_of_span")]
        used = {cuid for rows in found for (cuid,) in rows}
        yield from (cuid for cuid in range(start, start + _UNUSED_STEP) if cuid not in used)
        start += _UNUSED_STEP


def find_receipts(db: Connection, keys: Mapping[int, Sequence[str]]) -> ReceiptsByKey:
    """Return the receipts of these keys in all shards, by project, for any user."""
    return {
        number: _receipts_by_key(db.execute(_SQL["receipts_in_shards"], {"project": number, "keys": list(names)}))
        for number, names in keys.items()
    }


def _receipts_by_key(rows: reads.Rows) -> dict[str, StoredReceipt]:
    return {key: StoredReceipt(fingerprint, decode_written(written)) for key, fingerprint, written in rows}


def expire_receipts(db: Connection, before: int) -> int:
    """Delete receipts created before that moment (ms since 1970 UTC), some thousands at most. Return how many."""
    # Every server tries; one at a time is enough.
    if not try_lock(db, LOCK_EXPIRY):
        return 0
    oldest = db.execute("SELECT min(at) FROM usertable.receipt WHERE at < %s", (before,)).fetchall()[0][0]
    if oldest is None:
        return 0
    return db.execute("DELETE FROM usertable.receipt WHERE at < %s", (min(before, oldest + EXPIRY_WINDOW),)).rowcount


def insert_project(db: Connection, project: Project, next_cuid: int) -> None:
    """Store a project with the number that it has."""
    row = {"project": project.number, "id": project.id, "version": project.version, "document": encode_project(project)}
    db.execute(_SQL["add_project"], row)
    db.execute("INSERT INTO usertable.cuid_counter (project, next_cuid) VALUES (%s, %s)", (project.number, next_cuid))


def advance_epoch(db: Connection) -> None:
    """Notify the servers that a project was created or changed."""
    db.execute("UPDATE usertable.epoch SET value = value + 1")


@dataclass(slots=True)
class _Part:
    """A mutation's users, or on Citus those in one shard."""

    place: int
    """The `cuid` of its blocks of history."""
    mutation: Mutation
    """Users and their changes only."""
    blocks: list[HistoryBlock] = field(default_factory=list)
    keyframes: list[Keyframe] = field(default_factory=list)


def _parts(mutation: Mutation, shards: ShardMap | None) -> list[_Part]:
    if shards is None:
        return [_Part(history.EVERYWHERE, mutation)]
    parts: dict[int, _Part] = {}

    def part(cuid: int) -> Mutation:
        place = shards.representative(cuid)
        if place not in parts:
            parts[place] = _Part(
                place,
                Mutation(mutation.project, created_at=mutation.created_at, origin=mutation.origin, request=mutation.request),
            )
        return parts[place].mutation

    for change in mutation.changes:
        part(change.cuid).changes.append(change)
    for user in mutation.created:
        part(user[0]).created.append(user)
    for cuid in mutation.erased:
        part(cuid).erased.append(cuid)
    return [parts[place] for place in sorted(parts)]


def _create_users(db: Connection, parts: Sequence[_Part]) -> None:
    if not any(part.mutation.created for part in parts):
        return
    rows = []
    for part in parts:
        number, now = part.mutation.project, part.mutation.created_at
        head, actor = head_of_created(part.blocks, part.mutation)
        made = f"{now}\t{now}\t{{}}\t{head}\t{actor}"
        rows += [f"{number}\t{cuid}\t{version}\t{made}\t{text}\n" for cuid, version, text in part.mutation.created]
    with db.cursor() as cursor, cursor.copy(_SQL["create_users"]) as target:
        # Neither an actor nor JSON text contains a tab or a newline; COPY needs the backslash doubled.
        target.write("".join(rows).replace("\\", "\\\\"))


def _add_values(db: Connection, project: int, values: Sequence[tuple[int, str, str]]) -> None:
    if values:
        cuids, identifiers, texts = map(list, zip(*values, strict=True))
        rows = {"project": project, "cuids": cuids, "identifiers": identifiers, "values": texts}
        db.execute(_SQL["add_owners"], rows)
        db.execute(_SQL["add_values"], rows)


def _add_receipts(db: Connection, receipts: Sequence[NewReceipt]) -> None:
    if receipts:
        rows = {
            "projects": [r.project for r in receipts],
            "keys": [r.key for r in receipts],
            "cuids": [r.cuid for r in receipts],
            "fingerprints": [r.fingerprint for r in receipts],
            "written": [encode_written(r.written) for r in receipts],
            "personal": [r.written.attributes is not None for r in receipts],
            "moments": [r.at for r in receipts],
        }
        db.execute(_SQL["add_receipts"], rows)


def _erase(db: Connection, shards: ShardMap | None, project: int, cuid: int) -> None:
    user = {"project": project, "cuid": cuid}
    for identifier, value in db.execute(_SQL["remove_values"], user).fetchall():
        db.execute(_SQL["remove_owner"], {"project": project, "identifier": identifier, "value": value})
    receipts = "remove_personal_receipts" if shards is None else "remove_personal_receipts_in_shard"
    db.execute(_SQL["plan_by_order"])
    for query in ("remove_user", "add_erased", receipts, "remove_samples"):
        db.execute(_SQL[query], user)
    db.execute(_SQL["plan_with_sort"])
