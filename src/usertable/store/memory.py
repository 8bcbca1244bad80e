"""The store's contract in its simplest form: dictionaries and one lock. For tests and for trying things; keeps nothing."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from operator import add, itemgetter
from typing import TypeVar

from usertable.domain.arrival import Arrival, Arrivals, Rate
from usertable.domain.change import last_profiles
from usertable.domain.condition import Condition, meets
from usertable.domain.errors import ProblemKind, refusal
from usertable.domain.profile import Profile
from usertable.domain.schema import Attribute, Project
from usertable.domain.schema_change import Change
from usertable.store.encoding import (
    decode_attributes,
    decode_changes,
    decode_written,
    encode_attributes,
    encode_changes,
    encode_written,
    values_by_user,
)
from usertable.store.protocol import KEPT_SAMPLES, Snapshot
from usertable.store.records import (
    FIRST_CUID,
    ColumnValues,
    FilledCount,
    MatchCount,
    NewReceipt,
    Page,
    Result,
    SchemaChange,
    Selection,
    StoredReceipt,
    StoreFigures,
    User,
    Write,
)
from usertable.store.tables import CHANGES, ERASED, JOBS, RECEIPTS, USERS, VALUES, Row, TableSpec
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
    changes: list[tuple[int, str, str]] = field(default_factory=list)
    arrivals: list[tuple[int, Arrival]] = field(default_factory=list)
    rates: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    refusals: list[tuple[int, ProblemKind, str | None, int]] = field(default_factory=list)
    last_writes: dict[str, int] = field(default_factory=dict)
    jobs: dict[str, str] = field(default_factory=dict)


_NO_PROJECT = Project(0, "", "", b"", b"", "UTC", None, 0)


def _order(key: Row) -> Row:
    """What texts are compared by: their UTF-8 bytes."""
    return tuple(value.encode() if isinstance(value, str) else value for value in key)


class _Transaction:
    """See :class:`usertable.store.transaction.Transaction`. The caller holds the lock."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

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
            profiles={cuid: table.profiles[cuid] for cuid in cuids if cuid in table.profiles},
            receipts={r.key: StoredReceipt(r.fingerprint, r.written) for r in stored},
            owners=owners,
            values=values,
            # To see which identifiers have values takes long.
            project=self._store.whole(table) if wanted.project else None,
            erased=cuids & table.erased,
            unused=(c for c in itertools.count(table.next_cuid) if c not in table.profiles and c not in table.erased),
            job=None if wanted.job is None else table.jobs.get(wanted.job),
        )

    def keep(self, mutations: Sequence[Mutation]) -> None:
        for mutation in mutations:
            table = self._store.tables[mutation.project]
            table.profiles.update(last_profiles(mutation.changes))
            for cuid, version, text in mutation.created:
                now = mutation.created_at
                table.profiles[cuid] = Profile(version, now, now, decode_attributes(text), {})
            table.values.update({(name, value): cuid for cuid, name, value in mutation.values})
            table.receipts.update({receipt.key: receipt for receipt in mutation.receipts})
            table.next_cuid = max(table.next_cuid, mutation.next_cuid)
            for cuid in mutation.erased:
                self._erase(table, cuid)
            if mutation.job is not None:
                table.jobs[mutation.job[0]] = mutation.job[1]
            if not mutation.reported <= table.project.reported:
                table.project = replace(table.project, reported=table.project.reported | mutation.reported)

    def _erase(self, table: _Table, cuid: int) -> None:
        del table.profiles[cuid]
        table.erased.add(cuid)
        table.values = {pair: owner for pair, owner in table.values.items() if owner != cuid}
        table.receipts = {k: r for k, r in table.receipts.items() if r.cuid != cuid or r.written.attributes is None}
        table.arrivals = [pair for pair in table.arrivals if pair[1].cuid != cuid]

    def project(self, project_id: str) -> Project | None:
        table = self._store.table_of(project_id)
        return self._store.whole(table) if table else None

    def has_project(self, project_id: str) -> bool:
        return self._store.table_of(project_id) is not None

    def add_project(self, project: Project, actor: str, changes: Sequence[Change]) -> Project:
        project = replace(project, number=len(self._store.tables) + 1)
        table = self._store.tables[project.number] = _Table(project)
        self._record(table, project.created_at, actor, changes)
        return project

    def replace_project(self, project: Project, actor: str, changes: Sequence[Change], now: int) -> None:
        table = self._store.tables[project.number]
        table.project = project
        self._record(table, now, actor, changes)

    def _record(self, table: _Table, at: int, actor: str, changes: Sequence[Change]) -> None:
        table.changes.append((at, actor, encode_changes(changes)))
        self._store.changed_projects += 1


@dataclass(frozen=True)
class _Snapshot:
    project: Project
    users: Page

    def count(self) -> int:
        return len(self.users)

    def pages(self, *, rows: bool = False) -> Iterator[Page]:
        if self.users:
            yield self.users


class MemoryStore:
    """See :class:`usertable.store.protocol.Store`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.tables: dict[int, _Table] = {}
        self._loading: dict[int, _Table] = {}
        self.changed_projects = 0
        self._arrived = 0

    def transact(self, command: Callable[[Transaction], T], *, background: bool = False) -> T:
        with self._lock:
            return command(_Transaction(self))

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
            found = _Snapshot(self.whole(table), Page(cuids, lines, values, rows))
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

    def attributes(self, project: int) -> tuple[int, Mapping[str, Attribute]]:
        with self._lock:
            stored = self.tables[project].project
        return stored.version, stored.schema.attributes

    def schema_changes(self, project: int, limit: int) -> list[SchemaChange]:
        with self._lock:
            return [
                SchemaChange(at, actor, decode_changes(what))
                for at, actor, what in self.tables[project].changes[::-1][:limit]
            ]

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

    def rows(self, project: int, spec: TableSpec, after: Row | None, limit: int) -> list[Row]:
        rows = sorted(self._rows(project, spec), key=lambda row: _order(row[: spec.key]))
        return [row for row in rows if after is None or _order(row[: spec.key]) > _order(after)][:limit]

    def last(self, project: int, spec: TableSpec) -> Row | None:
        return max((row[: spec.key] for row in self._rows(project, spec)), key=_order, default=None)

    def load(self, project: int, spec: TableSpec, rows: Sequence[Row]) -> None:
        with self._lock:
            table = self.tables.get(project) or self._loading.setdefault(project, _Table(_NO_PROJECT))
            for row in rows:
                if spec is USERS:
                    table.profiles[row[0]] = Profile(*row[1:])
                elif spec is VALUES:
                    table.values[row[0], row[1]] = row[2]
                elif spec is ERASED:
                    table.erased.add(row[0])
                elif spec is RECEIPTS:
                    key, cuid, fingerprint, written, _, at = row
                    table.receipts[key] = NewReceipt(project, key, cuid, fingerprint, decode_written(written), at)
                elif spec is CHANGES:
                    table.changes.append(row[1:])
                elif spec is JOBS:
                    table.jobs[row[0]] = row[1]
                else:
                    table.project = replace(table.project, reported=table.project.reported | {row[0]})

    def next_cuid(self, project: int) -> int:
        return self.tables[project].next_cuid

    def finish_copy(self, project: Project, next_cuid: int) -> None:
        with self._lock:
            table = self._loading.pop(project.number, None) or _Table(project)
            table.project = replace(project, reported=table.project.reported)
            table.next_cuid = next_cuid
            self.tables[project.number] = table
            self.changed_projects += 1

    def _rows(self, project: int, spec: TableSpec) -> list[Row]:
        table = self.tables.get(project) or self._loading.get(project) or _Table(_NO_PROJECT)
        if spec is USERS:
            return [
                (cuid, p.version, p.created_at, p.updated_at, dict(p.attributes), dict(p.changed_at))
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
        if spec is CHANGES:
            return [(number, *entry) for number, entry in enumerate(table.changes, start=1)]
        if spec is JOBS:
            return list(table.jobs.items())
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

    def whole(self, table: _Table) -> Project:
        return replace(table.project, identifying=frozenset(name for name, _ in table.values))

    def _user(self, table: _Table, cuid: int) -> User:
        identifiers: dict[str, list[str]] = {}
        for (name, value), owner in sorted(table.values.items()):
            if owner == cuid:
                identifiers.setdefault(name, []).append(value)
        return User(cuid, table.profiles[cuid], identifiers)
