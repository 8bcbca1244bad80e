"""The simplest implementation of a store: dictionaries and one lock. For tests and trials; stores nothing on disk."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from itertools import islice
from operator import add, attrgetter, itemgetter
from typing import TypeVar

from usertable.domain.actor import Actor
from usertable.domain.arrival import Arrival, Arrivals, Rate
from usertable.domain.audit import AuditEntry, AuditEvent, AuditFilter
from usertable.domain.change import Change, last_profiles
from usertable.domain.condition import Condition, meets
from usertable.domain.errors import ProblemKind, refusal
from usertable.domain.key import DEFAULT_KEY, Key
from usertable.domain.moments import HOUR_MS
from usertable.domain.person import Person, Session, email_key
from usertable.domain.profile import Profile
from usertable.domain.schema import Attribute, Project
from usertable.store.encoding import (
    AuditRow,
    audit_rows,
    decode_attributes,
    decode_audit,
    decode_key,
    decode_person,
    decode_written,
    encode_attributes,
    encode_key,
    encode_person,
    encode_written,
    values_by_user,
)
from usertable.store.history import (
    LAST_BLOCKS,
    PLACES,
    BlockSize,
    HistoryBlock,
    HistoryFigures,
    HistoryGrowth,
    PackedHistory,
    PrunedHistory,
    blocks_of,
    examined,
    head_of_created,
    kept_since,
    pack_blocks,
    to_pack,
    to_prune,
    walk,
    without_user,
)
from usertable.store.keyframes import Keyframe, keyframes_of
from usertable.store.protocol import KEPT_SAMPLES, Snapshot
from usertable.store.records import (
    FIRST_CUID,
    ColumnValues,
    FilledCount,
    MatchCount,
    Migration,
    NewReceipt,
    Page,
    Result,
    Selection,
    StoredReceipt,
    StoreFigures,
    User,
    Write,
)
from usertable.store.tables import (
    AUDIT,
    ERASED,
    HISTORY,
    HISTORY_SINCE,
    JOBS,
    KEY_USES,
    KEYFRAMES,
    KEYS,
    PEOPLE,
    RECEIPTS,
    ROWS_BYTES,
    USERS,
    VALUES,
    Row,
    TableSpec,
    up_to,
)
from usertable.store.transaction import Loaded, Mutation, Transaction, Wanted, WriteCommand

T = TypeVar("T")


@dataclass
class _Table:
    """One project with its users."""

    project: Project
    next_cuid: int = FIRST_CUID
    profiles: dict[int, Profile] = field(default_factory=dict)
    values: dict[tuple[str, str], int] = field(default_factory=dict)
    erased: set[int] = field(default_factory=set)
    receipts: dict[str, NewReceipt] = field(default_factory=dict)
    arrivals: list[tuple[int, Arrival]] = field(default_factory=list)
    rates: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    refusals: list[tuple[int, ProblemKind, str | None, int]] = field(default_factory=list)
    last_writes: dict[str, int] = field(default_factory=dict)
    jobs: dict[str, str] = field(default_factory=dict)
    key_uses: dict[str, int] = field(default_factory=dict)
    history: dict[int, HistoryBlock] = field(default_factory=dict)
    """By its number, ascending."""
    history_since: int | None = None
    keyframes: list[Keyframe] = field(default_factory=list)
    """By its number, ascending."""

    def unrecorded(self) -> set[str]:
        """Return the attributes whose history is off."""
        return {name for name, attribute in self.project.schema.attributes.items() if attribute.history_since is None}

    def next_block(self) -> int:
        """Return the number for the next block."""
        return next(reversed(self.history.values())).last + 1 if self.history else 1

    def block_of(self, number: int) -> HistoryBlock | None:
        """Return the block that contains a change's number."""
        wanted = number // PLACES
        found = next((block for block in reversed(self.history.values()) if block.block <= wanted), None)
        return found if found is not None and wanted <= found.last else None

    def changes(self, cuid: int, start: int | None = None) -> Iterator[Change]:
        """Yield a user's changes, newest first, from `start` on."""
        return walk(self.block_of, cuid, self.profiles[cuid].head if start is None else start)


_NO_PROJECT = Project(0, "", "", b"", b"", "UTC", None, 0)


def _order(key: Row) -> Row:
    """Return the sort key of a row's key: texts are compared by their UTF-8 bytes."""
    return tuple(value.encode() if isinstance(value, str) else value for value in key)


class _Transaction:
    """See :class:`usertable.store.transaction.Transaction`. The caller holds the lock."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._recorded: list[tuple[int, Actor, Sequence[AuditEvent], int]] = []

    def load(self, wanted: Mapping[int, Wanted]) -> dict[int, Loaded]:
        return {number: self._loaded(self._store.tables[number], w) for number, w in wanted.items()}

    def _loaded(self, table: _Table, wanted: Wanted) -> Loaded:
        pairs = [(name, value) for name, values in wanted.values.items() for value in values]
        owners = {pair: table.values[pair] for pair in pairs if pair in table.values}
        cuids = set(wanted.cuids)
        values: dict[int, dict[str, list[str]]] = {}
        if wanted.rows_of_owners:
            cuids |= set(owners.values())
            if owners or pairs:
                values = values_by_user((cuid, *pair) for pair, cuid in table.values.items() if cuid in cuids)
        stored = (table.receipts[key] for key in wanted.keys if key in table.receipts)
        return Loaded(
            version=table.project.version,
            # Copies: a command changes what it loads, also in a dry run.
            profiles={cuid: copy(table.profiles[cuid]) for cuid in cuids if cuid in table.profiles},
            receipts={r.key: StoredReceipt(r.fingerprint, r.written) for r in stored},
            owners=owners,
            values=values,
            # Finding the identifiers that have values is slow.
            project=self._store.whole(table) if wanted.project else None,
            erased=cuids & table.erased,
            unused=(c for c in itertools.count(table.next_cuid) if c not in table.profiles and c not in table.erased),
            job=None if wanted.job is None else table.jobs.get(wanted.job),
        )

    def keep(self, mutations: Sequence[Mutation]) -> None:
        for mutation in mutations:
            table = self._store.tables[mutation.project]
            for cuid in mutation.erased:
                self._forget(table, cuid)
            blocks = blocks_of(mutation, itertools.count(table.next_block()))
            table.history.update({block.block: block for block in blocks})
            table.keyframes += keyframes_of(mutation.changes, table.unrecorded)
            table.keyframes = [k for k in table.keyframes if k.cuid not in mutation.identified]
            table.profiles.update(last_profiles(mutation.changes))
            head, actor = head_of_created(blocks, mutation)
            for cuid, version, text in mutation.created:
                now = mutation.created_at
                table.profiles[cuid] = Profile(version, now, now, decode_attributes(text), {}, -1, head, actor)
            table.values.update({(name, value): cuid for cuid, name, value in mutation.values})
            table.receipts.update({receipt.key: receipt for receipt in mutation.receipts})
            table.next_cuid = max(table.next_cuid, mutation.next_cuid)
            for cuid in mutation.erased:
                self._erase(table, cuid)
            if mutation.job is not None:
                table.jobs[mutation.job[0]] = mutation.job[1]
            if not mutation.reported <= table.project.reported:
                table.project = replace(table.project, reported=table.project.reported | mutation.reported)

    def _forget(self, table: _Table, cuid: int) -> None:
        """Take the user's values out of history."""
        table.keyframes = [keyframe for keyframe in table.keyframes if keyframe.cuid != cuid]
        for change in list(table.changes(cuid)):
            block = table.block_of(change.number)
            if block is not None:
                table.history[block.block] = without_user(block, cuid)

    def changes(self, project: int, cuid: int, head: int) -> Iterator[Change]:
        return walk(self._store.tables[project].block_of, cuid, head)

    def history_since(self, project: int) -> int | None:
        return self._store.tables[project].history_since

    def keep_history_since(self, project: int, moment: int | None) -> None:
        self._store.tables[project].history_since = moment

    def next_change(self, project: int) -> int:
        return self._store.tables[project].next_block() * PLACES

    def newest_change(self, project: int) -> int | None:
        blocks = islice(reversed(self._store.tables[project].history.values()), LAST_BLOCKS)
        return max((block.latest for block in blocks), default=None)

    def _erase(self, table: _Table, cuid: int) -> None:
        del table.profiles[cuid]
        table.erased.add(cuid)
        table.values = {pair: owner for pair, owner in table.values.items() if owner != cuid}
        table.receipts = {k: r for k, r in table.receipts.items() if r.cuid != cuid or r.written.attributes is None}
        table.arrivals = [pair for pair in table.arrivals if pair[1].cuid != cuid]

    def project(self, project_id: str) -> Project | None:
        table = self._store.table_of(project_id)
        return self._store.whole(table) if table else None

    def stored_key(self, project: int, name: str) -> Key | None:
        return self._store.key_of(self._store.tables[project], name)

    def has_project(self, project_id: str) -> bool:
        return self._store.table_of(project_id) is not None

    def add_project(self, project: Project) -> Project:
        project = replace(project, number=len(self._store.tables) + 1)
        self._store.tables[project.number] = _Table(project)
        self._store.changed_projects += 1
        return project

    def replace_project(self, project: Project, keys: Sequence[Key]) -> None:
        table = self._store.tables[project.number]
        stored = {key.name: key for key in (*table.project.stored_keys, *keys)}
        table.project = replace(project, stored_keys=tuple(stored.values()))
        self._store.changed_projects += 1

    def people(self) -> dict[str, Person]:
        return dict(self._store.persons)

    def keep_person(self, person: Person) -> None:
        self._store.persons[person.id] = person

    def remove_person(self, id: str) -> None:
        self._store.persons.pop(id, None)
        self.end_sessions(id)

    def add_session(self, session: Session) -> None:
        self._store.console_sessions[session.digest] = session

    def renew_session(self, session: Session) -> None:
        if session.digest in self._store.console_sessions:
            self._store.console_sessions[session.digest] = session

    def end_session(self, digest: bytes) -> None:
        self._store.console_sessions.pop(digest, None)

    def keep_newest_sessions(self, person: str, count: int) -> None:
        sessions = [s for s in self._store.console_sessions.values() if s.person == person]
        for session in sorted(sessions, key=lambda s: (-s.seen, s.digest))[count:]:
            self.end_session(session.digest)

    def end_sessions(self, person: str, *, but: bytes = b"") -> int:
        ended = [s for s in self._store.console_sessions.values() if s.person == person and s.digest != but]
        for session in ended:
            self.end_session(session.digest)
        return len(ended)

    def record(self, project: int, actor: Actor, events: Sequence[AuditEvent], now: int) -> None:
        self._recorded.append((project, actor, events, now))

    def finish(self) -> None:
        """Store the audit log's entries, after a command that did not raise."""
        for project, actor, events, now in self._recorded:
            rows = self._store.audit_rows.setdefault(project, [])
            rows += audit_rows(actor, events, len(rows), now)


@dataclass(frozen=True)
class _Snapshot:
    store: MemoryStore
    project: Project
    users: Page
    blocks: Sequence[HistoryBlock]
    since: int | None

    def count(self) -> int:
        return len(self.users)

    def pages(self, *, rows: bool = False) -> Iterator[Page]:
        if self.users:
            yield self.users

    def history_since(self) -> int | None:
        return self.since

    def history_blocks(self) -> Iterator[HistoryBlock]:
        return reversed(self.blocks)

    def with_changes(self, cuid: int, work: Callable[[User | None, Iterator[Change]], T], after: int) -> T:
        # The user as it is now: walking back from there leads to the same earlier rows.
        return self.store.with_changes(self.project.number, cuid, work, after=after)


class MemoryStore:
    """See :class:`usertable.store.protocol.Store`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.tables: dict[int, _Table] = {}
        self._loading: dict[int, _Table] = {}
        self.audit_rows: dict[int, list[AuditRow]] = {}
        """By project number, or that of the installation."""
        self.changed_projects = 0
        self._arrived = 0
        self.persons: dict[str, Person] = {}
        self.console_sessions: dict[bytes, Session] = {}
        self.migration: Migration | None = None

    def transact(self, command: Callable[[Transaction], T], *, background: bool = False) -> T:
        with self._lock:
            transaction = _Transaction(self)
            answer = command(transaction)
            transaction.finish()
            return answer

    def write(self, writes: Sequence[Write], command: WriteCommand) -> list[Result]:
        with self._lock:
            return command(_Transaction(self), writes)

    def read(self, project: int, cuid: int) -> User | None:
        with self._lock:
            table = self.tables[project]
            return self._user(table, cuid) if cuid in table.profiles else None

    def select(
        self,
        project: int,
        conditions: Sequence[Condition],
        after: int | None,
        limit: int,
        examine: int,
        descending: bool = False,
    ) -> Selection:
        with self._lock:
            table = self.tables[project]
            examined = 0
            found: list[User] = []
            for cuid in self._cuids_after(table, after, descending):
                if examined == examine or len(found) == limit:
                    return Selection(found, examined, after)
                examined += 1
                after = cuid
                if meets(cuid, table.profiles[cuid], conditions):
                    found.append(self._user(table, cuid))
            return Selection(found, examined, None)

    def count_matching(
        self,
        project: int,
        conditions: Sequence[Condition],
        after: int | None,
        examine: int,
        keep: int,
        oldest: bool = False,
    ) -> MatchCount:
        profiles, end = self._chunk(project, after, examine)
        found = [(p.updated_at, cuid) for cuid, p in profiles.items() if meets(cuid, p, conditions)]
        return MatchCount(len(found), len(profiles), end, sorted(found, reverse=not oldest)[:keep])

    def column_values(self, project: int, attribute: str, after: int | None, examine: int) -> ColumnValues:
        profiles, end = self._chunk(project, after, examine)
        values = [p.attributes[attribute] for p in profiles.values() if attribute in p.attributes]
        return ColumnValues(values, len(profiles), end)

    def count_filled(self, project: int, after: int | None, examine: int) -> FilledCount:
        profiles, end = self._chunk(project, after, examine)
        return FilledCount(dict(Counter(name for p in profiles.values() for name in p.attributes)), len(profiles), end)

    def with_changes(
        self,
        project: int,
        cuid: int,
        work: Callable[[User | None, Iterator[Change]], T],
        *,
        start: int | None = None,
        after: int | None = None,
    ) -> T:
        with self._lock:
            table = self.tables[project]
            if cuid not in table.profiles:
                return work(None, iter(()))
            user = self._user(table, cuid)
            keyframes = () if after is None else (k for k in table.keyframes if k.cuid == cuid and k.at > after)
            if keyframe := next(iter(keyframes), None):
                user.profile = keyframe.profile(user.profile)
            return work(user, table.changes(cuid, user.profile.head if start is None else start))

    def history_figures(self, project: int) -> HistoryFigures:
        with self._lock:
            blocks = list(self.tables[project].history.values())
            keyframes = sum(keyframe.size for keyframe in self.tables[project].keyframes)
        sums = (sum(block.changes for block in blocks), keyframes + sum(len(block.body) for block in blocks))
        if not blocks:
            return HistoryFigures(0, *sums, None, None)
        return HistoryFigures(len(blocks), *sums, blocks[0].latest, max(block.latest for block in blocks))

    def history_growth(self, project: int, since: int) -> HistoryGrowth:
        with self._lock:
            added = [b for b in self.tables[project].history.values() if b.latest // HOUR_MS >= since // HOUR_MS]
            frames = [k for k in self.tables[project].keyframes if k.at // HOUR_MS >= since // HOUR_MS]
        size = sum(len(block.body) for block in added) + sum(keyframe.size for keyframe in frames)
        return HistoryGrowth(sum(block.changes for block in added), size)

    def prune_history(self, project: int, before: int | None, excess: int, now: int) -> PrunedHistory:
        with self._lock:
            table = self.tables[project]
            if before is None and table.history_since is not None:
                return PrunedHistory()
            sizes = [BlockSize.of(block) for block in table.history.values()][:-1]
            oldest, _ = examined(lambda limit: sizes[:limit], attrgetter("latest"), before, excess, now)
            removed = to_prune(oldest, before, excess, now)
            for size in removed:
                del table.history[size.block]
            if removed and before is not None and table.history_since is not None:
                table.history_since = max(table.history_since, kept_since(removed, before, excess, now))
            below = next(iter(table.history)) * PLACES if removed else 0
            keyframes = [keyframe for keyframe in table.keyframes if keyframe.number < below]
            table.keyframes = [keyframe for keyframe in table.keyframes if keyframe.number >= below]
            return PrunedHistory.of(removed, sum(keyframe.size for keyframe in keyframes))

    def forget_erased(self, project: int) -> None:
        """It has nothing of them: only what was done is stored."""

    def pack_history(self, project: int, before: int) -> PackedHistory:
        with self._lock:
            table = self.tables[project]
            blocks = to_pack(table.history.values(), before)
            if blocks:
                history = {number: b for number, b in table.history.items() if b not in blocks}
                packed = pack_blocks(blocks)
                table.history = dict(sorted((history | {packed.block: packed}).items()))
            return PackedHistory.of(blocks)

    def history_since(self, project: int) -> int | None:
        with self._lock:
            return self.tables[project].history_since

    def history_blocks(self, project: int, below: int | None, limit: int) -> list[HistoryBlock]:
        with self._lock:
            blocks = (b for b in reversed(self.tables[project].history.values()) if below is None or b.block < below)
            return list(islice(blocks, limit))

    def read_many(self, project: int, cuids: Sequence[int]) -> list[User]:
        with self._lock:
            table = self.tables[project]
            return [self._user(table, cuid) for cuid in cuids if cuid in table.profiles]

    def cuid_range(self, project: int) -> tuple[int, int] | None:
        with self._lock:
            cuids = self.tables[project].profiles
            return (min(cuids), max(cuids)) if cuids else None

    def job(self, project: int, name: str) -> str | None:
        with self._lock:
            return self.tables[project].jobs.get(name)

    @contextmanager
    def snapshot(self, project_id: str) -> Iterator[Snapshot]:
        with self._lock:
            table = self.table_of(project_id)
            if table is None:
                raise refusal(ProblemKind.PROJECT_UNKNOWN, id=project_id)
            values = values_by_user((cuid, *pair) for pair, cuid in sorted(table.values.items()))
            cuids = sorted(table.profiles)
            lines = "\n".join(encode_attributes(table.profiles[cuid].attributes) for cuid in cuids).encode()
            profiles = [table.profiles[cuid] for cuid in cuids]
            rows = [(profile.version, profile.created_at, profile.updated_at) for profile in profiles]
            page = Page(cuids, lines, values, rows)
            blocks = list(table.history.values())
            found = _Snapshot(self, self.whole(table), page, blocks, table.history_since)
        yield found

    def resolve_identifiers(self, project: int, identifier: str, values: Sequence[str]) -> dict[str, int]:
        with self._lock:
            known = self.tables[project].values
            return {value: known[identifier, value] for value in values if (identifier, value) in known}

    def keep_arrivals(self, batch: Sequence[Arrivals]) -> None:
        with self._lock:
            for arrivals in batch:
                table = self.tables[arrivals.project]
                if not arrivals.is_empty:
                    counted = table.rates.get(arrivals.at, (0, 0, 0))
                    added = (arrivals.accepted, arrivals.refused, len(arrivals.samples))
                    table.rates[arrivals.at] = tuple(map(add, counted, added))
                for (kind, attribute), count in arrivals.refusals.items():
                    table.refusals.append((arrivals.at, kind, attribute, count))
                for name in arrivals.written:
                    table.last_writes[name] = max(arrivals.at, table.last_writes.get(name, 0))
                for name in arrivals.keys:
                    table.key_uses[name] = max(arrivals.at - arrivals.at % 60_000, table.key_uses.get(name, 0))
                for sample in arrivals.samples:
                    if sample.cuid not in table.erased:
                        self._arrived += 1
                        table.arrivals.append((self._arrived, sample))

    def arrivals(self, project: int, after: int, limit: int, *, refused: bool | None = None) -> list[tuple[int, Arrival]]:
        with self._lock:
            kept = self.tables[project].arrivals[::-1]
        return [(n, a) for n, a in kept if n > after and refused in (None, bool(a.problems))][:limit]

    def rates(self, project: int, since: int, step: int) -> list[Rate]:
        steps: dict[int, tuple[int, int, int]] = {}
        with self._lock:
            for at, counted in sorted(self.tables[project].rates.items()):
                if at >= since:
                    begin = since + (at - since) // step * step
                    steps[begin] = tuple(map(add, steps.get(begin, (0, 0, 0)), counted))
        return [Rate(at, *counted) for at, counted in steps.items()]

    def refusals(self, project: int, since: int) -> list[tuple[ProblemKind, str | None, int, int]]:
        groups: dict[tuple[ProblemKind, str | None], tuple[int, int]] = {}
        with self._lock:
            for at, kind, attribute, number in self.tables[project].refusals:
                if at >= since - since % 60_000:
                    count, last = groups.get((kind, attribute), (0, 0))
                    groups[kind, attribute] = (count + number, max(last, at))
        return [(*group, *counted) for group, counted in groups.items()]

    def last_writes(self, project: int) -> dict[str, int]:
        with self._lock:
            return dict(self.tables[project].last_writes)

    def key_uses(self, project: int, names: Sequence[str]) -> dict[str, int]:
        with self._lock:
            uses = self.tables[project].key_uses
            return {name: uses[name] for name in names if name in uses}

    def expire_arrivals(self, before: int) -> None:
        with self._lock:
            for table in self.tables.values():
                table.rates = {at: counted for at, counted in table.rates.items() if at >= before}
                table.refusals = [refusal for refusal in table.refusals if refusal[0] >= before - before % 60_000]
                kept: list[tuple[int, Arrival]] = []
                for refused in (True, False):
                    kept += [pair for pair in table.arrivals if bool(pair[1].problems) is refused][-KEPT_SAMPLES:]
                table.arrivals = sorted((pair for pair in kept if pair[1].at >= before), key=itemgetter(0))

    def epoch(self) -> int:
        return self.changed_projects

    def versions(self) -> dict[str, int]:
        with self._lock:
            return {table.project.id: table.project.version for table in self.tables.values()}

    def projects(self) -> list[Project]:
        with self._lock:
            return [self.whole(table) for table in self.tables.values()]

    def project(self, project_id: str) -> Project | None:
        with self._lock:
            table = self.table_of(project_id)
            return self.whole(table) if table else None

    def stored_key(self, project: int, name: str) -> Key | None:
        with self._lock:
            return self.key_of(self.tables[project], name)

    def revoked_keys(self, project: int, after: tuple[int, str] | None, limit: int) -> list[Key]:
        with self._lock:
            keys = self.tables[project].project.stored_keys
        placed = sorted((-key.revoked_at, key.name, key) for key in keys if key.revoked_at is not None)
        return [key for at, name, key in placed if after is None or (at, name) > (-after[0], after[1])][:limit]

    def attributes(self, project: int) -> tuple[int, Mapping[str, Attribute]]:
        with self._lock:
            stored = self.tables[project].project
        return stored.version, stored.schema.attributes

    def audit(
        self, project: int, wanted: AuditFilter, limit: int, *, before: int | None = None, after: int | None = None
    ) -> list[AuditEntry]:
        with self._lock:
            entries = [decode_audit(row) for row in self.audit_rows.get(project, [])]
        found = [
            entry
            for entry in entries
            if (before is None or entry.number < before)
            and (after is None or entry.number > after)
            and wanted.includes(entry)
        ]
        return found[::-1][:limit] if after is None else found[:limit]

    def people(self) -> list[Person]:
        with self._lock:
            return sorted(self.persons.values(), key=lambda person: email_key(person.email).encode())

    def person(self, id: str) -> Person | None:
        with self._lock:
            return self.persons.get(id)

    def person_by_email(self, email: str) -> Person | None:
        with self._lock:
            return next((p for p in self.persons.values() if email_key(p.email) == email_key(email)), None)

    def session(self, digest: bytes) -> tuple[Session, Person | None] | None:
        with self._lock:
            session = self.console_sessions.get(digest)
            return (session, self.persons.get(session.person)) if session else None

    def sessions(self, person: str) -> list[Session]:
        with self._lock:
            found = [session for session in self.console_sessions.values() if session.person == person]
        return sorted(found, key=lambda session: (-session.begun, session.digest))

    def see_sessions(self, seen: Mapping[bytes, int]) -> None:
        with self._lock:
            for digest, at in seen.items():
                session = self.console_sessions.get(digest)
                if session and session.seen < at:
                    self.console_sessions[digest] = replace(session, seen=at)

    def expire_sessions(self, before: int, limit: int) -> int:
        with self._lock:
            expired = [digest for digest, session in self.console_sessions.items() if session.expires < before][:limit]
            for digest in expired:
                del self.console_sessions[digest]
            return len(expired)

    def expire_receipts(self, before: int) -> int:
        with self._lock:
            expired = 0
            for table in self.tables.values():
                kept = {k: r for k, r in table.receipts.items() if r.at >= before}
                expired += len(table.receipts) - len(kept)
                table.receipts = kept
            return expired

    def count(self, project: int, spec: TableSpec) -> int:
        return len(self._rows(project, spec))

    def rows(self, project: int, spec: TableSpec, after: Row | None, limit: int, size: int = ROWS_BYTES) -> list[Row]:
        rows = sorted(self._rows(project, spec), key=lambda row: _order(row[: spec.key]))
        found = [row for row in rows if after is None or _order(row[: spec.key]) > _order(after)][:limit]
        return list(up_to(size, found))

    def last(self, project: int, spec: TableSpec) -> Row | None:
        return max((row[: spec.key] for row in self._rows(project, spec)), key=_order, default=None)

    def load(self, project: int, spec: TableSpec, rows: Sequence[Row]) -> None:
        with self._lock:
            if spec is AUDIT:
                self.audit_rows.setdefault(project, []).extend(rows)
                return
            if spec is PEOPLE:
                self.persons.update({id: decode_person(id, document) for id, _, document in rows})
                return
            table = self.tables.get(project) or self._loading.setdefault(project, _Table(_NO_PROJECT))
            for row in rows:
                if spec is USERS:
                    cuid, version, created_at, updated_at, attributes, changed_at, head, actor = row
                    table.profiles[cuid] = Profile(
                        version, created_at, updated_at, attributes, changed_at, head=head, sole_actor=actor
                    )
                elif spec is VALUES:
                    table.values[row[0], row[1]] = row[2]
                elif spec is ERASED:
                    table.erased.add(row[0])
                elif spec is RECEIPTS:
                    key, cuid, fingerprint, written, _, at = row
                    table.receipts[key] = NewReceipt(project, key, cuid, fingerprint, decode_written(written), at)
                elif spec is JOBS:
                    table.jobs[row[0]] = row[1]
                elif spec is KEYS:
                    keys = (*table.project.stored_keys, decode_key(*row))
                    table.project = replace(table.project, stored_keys=keys)
                elif spec is KEY_USES:
                    table.key_uses[row[0]] = row[1]
                elif spec is HISTORY:
                    table.history[row[0]] = HistoryBlock(*row)
                elif spec is HISTORY_SINCE:
                    table.history_since = row[0]
                elif spec is KEYFRAMES:
                    table.keyframes.append(Keyframe(*row))
                else:
                    table.project = replace(table.project, reported=table.project.reported | {row[0]})

    def next_cuid(self, project: int) -> int:
        return self.tables[project].next_cuid

    def finish_copy(self, project: Project, next_cuid: int) -> None:
        with self._lock:
            table = self._loading.pop(project.number, None) or _Table(project)
            table.project = replace(project, reported=table.project.reported, stored_keys=table.project.stored_keys)
            table.next_cuid = next_cuid
            self.tables[project.number] = table
            self.changed_projects += 1

    def _rows(self, project: int, spec: TableSpec) -> list[Row]:
        if spec is AUDIT:
            return list(self.audit_rows.get(project, []))
        if spec is PEOPLE:
            return [(p.id, email_key(p.email), encode_person(p)) for p in self.persons.values()]
        table = self.tables.get(project) or self._loading.get(project) or _Table(_NO_PROJECT)
        if spec is USERS:
            return [
                (
                    *(cuid, p.version, p.created_at, p.updated_at, dict(p.attributes), dict(p.changed_at)),
                    *(p.head, p.sole_actor),
                )
                for cuid, p in table.profiles.items()
            ]
        if spec is VALUES:
            return [(*key, cuid) for key, cuid in table.values.items()]
        if spec is ERASED:
            return [(cuid,) for cuid in table.erased]
        if spec is RECEIPTS:
            return [
                (r.key, r.cuid, r.fingerprint, encode_written(r.written), r.written.attributes is not None, r.at)
                for r in table.receipts.values()
            ]
        if spec is JOBS:
            return list(table.jobs.items())
        if spec is KEYS:
            return [(key.name, encode_key(key)) for key in table.project.stored_keys]
        if spec is KEY_USES:
            return list(table.key_uses.items())
        if spec is HISTORY:
            return [(b.block, b.last, b.changes, b.latest, b.body) for b in table.history.values()]
        if spec is HISTORY_SINCE:
            return [] if table.history_since is None else [(table.history_since,)]
        if spec is KEYFRAMES:
            return [keyframe.row for keyframe in table.keyframes]
        return [(name,) for name in table.project.reported]

    def ping(self) -> None:
        return

    def figures(self) -> StoreFigures:
        return StoreFigures("memory")

    def close(self) -> None:
        return

    def _cuids_after(self, table: _Table, after: int | None, descending: bool = False) -> list[int]:
        cuids = sorted(table.profiles, reverse=descending)
        return cuids if after is None else [c for c in cuids if (c < after if descending else c > after)]

    def _chunk(self, project: int, after: int | None, examine: int) -> tuple[dict[int, Profile], int | None]:
        with self._lock:
            table = self.tables[project]
            cuids = self._cuids_after(table, after)
            profiles = {cuid: table.profiles[cuid] for cuid in cuids[:examine]}
            return profiles, cuids[examine - 1] if len(cuids) > examine else None

    def table_of(self, project_id: str) -> _Table | None:
        return next((t for t in self.tables.values() if t.project.id == project_id), None)

    def key_of(self, table: _Table, name: str) -> Key | None:
        return next((key for key in table.project.stored_keys if key.name == name), None)

    def whole(self, table: _Table) -> Project:
        stored = (key for key in table.project.stored_keys if key.revoked_at is None or key.name == DEFAULT_KEY)
        keys = tuple(sorted(stored, key=lambda key: key.name))
        return replace(table.project, identifying=frozenset(name for name, _ in table.values), stored_keys=keys)

    def _user(self, table: _Table, cuid: int) -> User:
        identifiers: dict[str, list[str]] = {}
        for (name, value), owner in sorted(table.values.items()):
            if owner == cuid:
                identifiers.setdefault(name, []).append(value)
        return User(cuid, table.profiles[cuid], identifiers)
