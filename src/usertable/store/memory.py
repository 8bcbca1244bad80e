"""The store's contract in its simplest form: dictionaries and one lock. For tests and for trying things; keeps nothing."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from operator import add, itemgetter

from usertable.domain.arrival import Arrival, Arrivals, Rate
from usertable.domain.condition import Condition, meets
from usertable.domain.errors import Kind, refuse
from usertable.domain.profile import Profile
from usertable.domain.schema import Attribute, Project
from usertable.store.encoding import (
    decode_attributes,
    decode_changes,
    decode_written,
    encode_attributes,
    encode_changes,
    encode_written,
)
from usertable.store.incoming import Known, named, resolve_batch, row_keys, values_by_user
from usertable.store.parts import CHANGES, ERASED, JOBS, RECEIPTS, USERS, VALUES, Part, Row
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
    refusals: list[tuple[int, Kind, str | None, int]] = field(default_factory=list)
    last_writes: dict[str, int] = field(default_factory=dict)
    jobs: dict[str, str] = field(default_factory=dict)


_NO_PROJECT = Project(0, "", "", b"", b"", "UTC", None, 0)


def _order(key: Row) -> Row:
    """What texts are compared by: their UTF-8 bytes."""
    return tuple(value.encode() if isinstance(value, str) else value for value in key)


@dataclass(frozen=True)
class _Snapshot:
    project: Project
    users: Page

    def count(self) -> int:
        return len(self.users)

    def pages(self) -> Iterator[Page]:
        if self.users:
            yield self.users


class MemoryStore:
    """See :class:`usertable.store.protocol.Store`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tables: dict[int, _Table] = {}
        self._loading: dict[int, _Table] = {}
        self._epoch = 0
        self._arrived = 0

    def write(self, writes: Sequence[Write], decide: Decide) -> list[Result]:
        with self._lock:
            profiles = {}
            receipts = {}
            for write in writes:
                table = self._tables[write.project]
                if profile := table.profiles.get(write.cuid):
                    profiles[write.project, write.cuid] = profile
                if write.receipt and (kept := table.receipts.get(write.receipt.key)):
                    receipts[write.project, kept.key] = StoredReceipt(kept.fingerprint, kept.written)
            versions = {number: table.project.version for number, table in self._tables.items()}
            resolution = resolve(writes, decide, versions, profiles, receipts)
            for (number, cuid), profile in resolution.profiles.items():
                self._tables[number].profiles[cuid] = profile
            for receipt in resolution.receipts:
                self._tables[receipt.project].receipts[receipt.key] = receipt
            for number, names in resolution.reported.items():
                table = self._tables[number]
                table.project = replace(table.project, reported=table.project.reported | names)
            return resolution.results

    def read(self, project: int, cuid: int) -> User | None:
        with self._lock:
            table = self._tables[project]
            return self._user(table, cuid) if cuid in table.profiles else None

    def scan(self, project: int, after: int, limit: int) -> list[User]:
        with self._lock:
            table = self._tables[project]
            cuids = sorted(c for c in table.profiles if c > after)[:limit]
            return [self._user(table, cuid) for cuid in cuids]

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
            table = self._tables[project]
            examined = 0
            found: list[User] = []
            for cuid in self._beyond(table, after, descending):
                if examined == examine or len(found) == limit:
                    return Selection(found, examined, after)
                examined += 1
                after = cuid
                if meets(table.profiles[cuid], conditions):
                    found.append(self._user(table, cuid))
            return Selection(found, examined, None)

    def tally(
        self,
        project: int,
        conditions: Sequence[Condition],
        after: int | None,
        examine: int,
        keep: int,
        oldest: bool = False,
    ) -> Tally:
        profiles, end = self._stretch(project, after, examine)
        found = [(p.updated_at, cuid) for cuid, p in profiles.items() if meets(p, conditions)]
        return Tally(len(found), len(profiles), end, sorted(found, reverse=not oldest)[:keep])

    def column(self, project: int, attribute: str, after: int | None, examine: int) -> Column:
        profiles, end = self._stretch(project, after, examine)
        values = [p.attributes[attribute] for p in profiles.values() if attribute in p.attributes]
        return Column(values, len(profiles), end)

    def fill(self, project: int, after: int | None, examine: int) -> Fill:
        profiles, end = self._stretch(project, after, examine)
        return Fill(dict(Counter(name for p in profiles.values() for name in p.attributes)), len(profiles), end)

    def read_many(self, project: int, cuids: Sequence[int]) -> list[User]:
        with self._lock:
            table = self._tables[project]
            return [self._user(table, cuid) for cuid in cuids if cuid in table.profiles]

    def extent(self, project: int) -> tuple[int, int] | None:
        with self._lock:
            cuids = self._tables[project].profiles
            return (min(cuids), max(cuids)) if cuids else None

    def register(self, project: int, identifier: str, values: Sequence[str], now: int) -> list[int]:
        with self._lock:
            table = self._tables[project]
            table.project.schema.registration_identifier(identifier)
            cuids = []
            for value in values:
                cuid = table.values.get((identifier, value))
                if cuid is None:
                    cuid = table.next_cuid
                    while cuid in table.profiles or cuid in table.erased:
                        cuid += 1
                    table.next_cuid = cuid + 1
                    table.profiles[cuid] = Profile.new(now)
                    table.values[identifier, value] = cuid
                cuids.append(cuid)
            return cuids

    def add_user(self, project: int, cuid: int, identifiers: Mapping[str, str], now: int) -> None:
        with self._lock:
            table = self._tables[project]
            if cuid in table.erased:
                raise refuse(Kind.CUID_ERASED, cuid=cuid)
            if cuid in table.profiles:
                raise refuse(Kind.CUID_EXISTS, cuid=cuid)
            for name, value in identifiers.items():
                table.project.schema.identifier(name)
                if (name, value) in table.values:
                    raise refuse(Kind.IDENTIFIER_TAKEN, name, value=value)
            table.profiles[cuid] = Profile.new(now)
            for name, value in identifiers.items():
                table.values[name, value] = cuid
            if cuid <= LARGEST_COUNTED_CUID:
                table.next_cuid = max(table.next_cuid, cuid + 1)

    def take(self, batch: Batch, decide: Decide, note: Note | None = None) -> Taken | SchemaStale | JobMoved:
        with self._lock:
            table = self._tables[batch.project]
            state = table.jobs.get(batch.job)
            if note and state != batch.before:
                return JobMoved(state)
            if table.project.version != batch.schema_version:
                return SchemaStale()
            values = values_by_user((cuid, *pair) for pair, cuid in table.values.items()) if named(batch)[1] else {}
            receipts = {
                key: StoredReceipt(kept.fingerprint, kept.written)
                for key in row_keys(batch)
                if (kept := table.receipts.get(key)) is not None
            }
            known = Known(dict(table.profiles), table.erased, dict(table.values), values, receipts)
            unused = (c for c in itertools.count(table.next_cuid) if c not in table.profiles and c not in table.erased)
            intake = resolve_batch(batch, decide, table.project, known, unused)
            if batch.dry:
                return intake.taken
            if note:
                table.jobs[batch.job] = note(intake.taken)
            table.receipts.update({receipt.key: receipt for receipt in intake.receipts})
            for cuid, version, text in intake.created:
                table.profiles[cuid] = Profile(version, batch.now, batch.now, decode_attributes(text), {})
            table.profiles.update(intake.changed)
            table.values.update({(name, value): cuid for cuid, name, value in intake.values})
            table.next_cuid = max(table.next_cuid, intake.next_cuid)
            if intake.reported:
                table.project = replace(table.project, reported=table.project.reported | intake.reported)
            return intake.taken

    def job(self, project: int, name: str) -> str | None:
        with self._lock:
            return self._tables[project].jobs.get(name)

    @contextmanager
    def snapshot(self, project_id: str) -> Iterator[Snapshot]:
        with self._lock:
            table = self._table_of(project_id)
            if table is None:
                raise refuse(Kind.PROJECT_UNKNOWN, id=project_id)
            values = values_by_user((cuid, *pair) for pair, cuid in sorted(table.values.items()))
            cuids = sorted(table.profiles)
            lines = "\n".join(encode_attributes(table.profiles[cuid].attributes) for cuid in cuids).encode()
            found = _Snapshot(self._project(table), Page(cuids, lines, values))
        yield found

    def resolve_identifiers(self, project: int, identifier: str, values: Sequence[str]) -> dict[str, int]:
        with self._lock:
            known = self._tables[project].values
            return {value: known[identifier, value] for value in values if (identifier, value) in known}

    def erase(self, project: int, cuid: int) -> bool:
        with self._lock:
            table = self._tables[project]
            if table.profiles.pop(cuid, None) is None:
                return False
            table.erased.add(cuid)
            table.values = {place: c for place, c in table.values.items() if c != cuid}
            table.receipts = {k: r for k, r in table.receipts.items() if r.cuid != cuid or r.written.attributes is None}
            table.arrivals = [pair for pair in table.arrivals if pair[1].cuid != cuid]
            return True

    def keep_arrivals(self, batch: Sequence[Arrivals]) -> None:
        with self._lock:
            for came in batch:
                table = self._tables[came.project]
                counted = table.rates.get(came.at, (0, 0, 0))
                news = (came.accepted, came.refused, len(came.samples))
                table.rates[came.at] = tuple(map(add, counted, news))
                for (kind, attribute), count in came.refusals.items():
                    table.refusals.append((came.at, kind, attribute, count))
                for name in came.written:
                    table.last_writes[name] = max(came.at, table.last_writes.get(name, 0))
                for sample in came.samples:
                    if sample.cuid not in table.erased:
                        self._arrived += 1
                        table.arrivals.append((self._arrived, sample))

    def arrivals(self, project: int, after: int, limit: int, *, refused: bool | None = None) -> list[tuple[int, Arrival]]:
        with self._lock:
            kept = self._tables[project].arrivals[::-1]
        return [(n, a) for n, a in kept if n > after and refused in (None, bool(a.problems))][:limit]

    def rates(self, project: int, since: int, step: int) -> list[Rate]:
        steps: dict[int, tuple[int, int, int]] = {}
        with self._lock:
            for at, counted in sorted(self._tables[project].rates.items()):
                if at >= since:
                    place = since + (at - since) // step * step
                    steps[place] = tuple(map(add, steps.get(place, (0, 0, 0)), counted))
        return [Rate(at, *counted) for at, counted in steps.items()]

    def refusals(self, project: int, since: int) -> list[tuple[Kind, str | None, int, int]]:
        groups: dict[tuple[Kind, str | None], tuple[int, int]] = {}
        with self._lock:
            for at, kind, attribute, number in self._tables[project].refusals:
                if at >= since - since % 60_000:
                    count, last = groups.get((kind, attribute), (0, 0))
                    groups[kind, attribute] = (count + number, max(last, at))
        return [(*group, *counted) for group, counted in groups.items()]

    def last_writes(self, project: int) -> dict[str, int]:
        with self._lock:
            return dict(self._tables[project].last_writes)

    def expire_arrivals(self, before: int) -> None:
        with self._lock:
            for table in self._tables.values():
                table.rates = {at: counted for at, counted in table.rates.items() if at >= before}
                table.refusals = [refusal for refusal in table.refusals if refusal[0] >= before - before % 60_000]
                kept: list[tuple[int, Arrival]] = []
                for refused in (True, False):
                    kept += [pair for pair in table.arrivals if bool(pair[1].problems) is refused][-KEPT_SAMPLES:]
                table.arrivals = sorted((pair for pair in kept if pair[1].at >= before), key=itemgetter(0))

    def epoch(self) -> int:
        return self._epoch

    def versions(self) -> dict[str, int]:
        with self._lock:
            return {table.project.id: table.project.version for table in self._tables.values()}

    def projects(self) -> list[Project]:
        with self._lock:
            return [self._project(table) for table in self._tables.values()]

    def project(self, project_id: str) -> Project | None:
        with self._lock:
            table = self._table_of(project_id)
            return self._project(table) if table else None

    def attributes(self, project: int) -> tuple[int, Mapping[str, Attribute]]:
        with self._lock:
            stored = self._tables[project].project
        return stored.version, stored.schema.attributes

    def add_project(self, project: Project, who: str) -> Project:
        with self._lock:
            if self._table_of(project.id):
                raise refuse(Kind.PROJECT_EXISTS, id=project.id)
            project = replace(project, number=len(self._tables) + 1)
            table = self._tables[project.number] = _Table(project)
            table.changes.append((project.created_at, who, encode_changes(None, project)))
            self._epoch += 1
            return project

    def edit_project(self, project_id: str, edit: Callable[[Project], Project], who: str, now: int) -> Project:
        with self._lock:
            table = self._table_of(project_id)
            if table is None:
                raise refuse(Kind.PROJECT_UNKNOWN, id=project_id)
            project = self._project(table)
            edited = edit(project)
            if edited == project:
                return project
            table.project = replace(edited, version=table.project.version + 1)
            table.changes.append((now, who, encode_changes(project, edited)))
            self._epoch += 1
            return table.project

    def schema_changes(self, project: int, limit: int) -> list[SchemaChange]:
        with self._lock:
            return [
                SchemaChange(at, who, decode_changes(what)) for at, who, what in self._tables[project].changes[::-1][:limit]
            ]

    def expire_receipts(self, before: int) -> int:
        with self._lock:
            expired = 0
            for table in self._tables.values():
                kept = {k: r for k, r in table.receipts.items() if r.at >= before}
                expired += len(table.receipts) - len(kept)
                table.receipts = kept
            return expired

    def count(self, project: int, part: Part) -> int:
        return len(self._rows(project, part))

    def rows(self, project: int, part: Part, after: Row | None, limit: int) -> list[Row]:
        rows = sorted(self._rows(project, part), key=lambda row: _order(row[: part.key]))
        return [row for row in rows if after is None or _order(row[: part.key]) > _order(after)][:limit]

    def last(self, project: int, part: Part) -> Row | None:
        return max((row[: part.key] for row in self._rows(project, part)), key=_order, default=None)

    def load(self, project: int, part: Part, rows: Sequence[Row]) -> None:
        with self._lock:
            table = self._tables.get(project) or self._loading.setdefault(project, _Table(_NO_PROJECT))
            for row in rows:
                if part is USERS:
                    table.profiles[row[0]] = Profile(*row[1:])
                elif part is VALUES:
                    table.values[row[0], row[1]] = row[2]
                elif part is ERASED:
                    table.erased.add(row[0])
                elif part is RECEIPTS:
                    key, cuid, fingerprint, written, _, at = row
                    table.receipts[key] = NewReceipt(project, key, cuid, fingerprint, decode_written(written), at)
                elif part is CHANGES:
                    table.changes.append(row[1:])
                elif part is JOBS:
                    table.jobs[row[0]] = row[1]
                else:
                    table.project = replace(table.project, reported=table.project.reported | {row[0]})

    def next_cuid(self, project: int) -> int:
        return self._tables[project].next_cuid

    def adopt(self, project: Project, next_cuid: int) -> None:
        with self._lock:
            table = self._loading.pop(project.number, None) or _Table(project)
            table.project = replace(project, reported=table.project.reported)
            table.next_cuid = next_cuid
            self._tables[project.number] = table
            self._epoch += 1

    def _rows(self, project: int, part: Part) -> list[Row]:
        table = self._tables.get(project) or self._loading.get(project) or _Table(_NO_PROJECT)
        if part is USERS:
            return [
                (cuid, p.version, p.created_at, p.updated_at, dict(p.attributes), dict(p.changed_at))
                for cuid, p in table.profiles.items()
            ]
        if part is VALUES:
            return [(*place, cuid) for place, cuid in table.values.items()]
        if part is ERASED:
            return [(cuid,) for cuid in table.erased]
        if part is RECEIPTS:
            return [
                (r.key, r.cuid, r.fingerprint, encode_written(r.written), r.written.attributes is not None, r.at)
                for r in table.receipts.values()
            ]
        if part is CHANGES:
            return [(number, *entry) for number, entry in enumerate(table.changes, start=1)]
        if part is JOBS:
            return list(table.jobs.items())
        return [(name,) for name in table.project.reported]

    def ping(self) -> None:
        return

    def close(self) -> None:
        return

    def _beyond(self, table: _Table, after: int | None, descending: bool = False) -> list[int]:
        """The CUIDs after `after`, in order."""
        cuids = sorted(table.profiles, reverse=descending)
        return cuids if after is None else [c for c in cuids if (c < after if descending else c > after)]

    def _stretch(self, project: int, after: int | None, examine: int) -> tuple[dict[int, Profile], int | None]:
        with self._lock:
            table = self._tables[project]
            cuids = self._beyond(table, after)
            profiles = {cuid: table.profiles[cuid] for cuid in cuids[:examine]}
            return profiles, cuids[examine - 1] if len(cuids) > examine else None

    def _table_of(self, project_id: str) -> _Table | None:
        return next((t for t in self._tables.values() if t.project.id == project_id), None)

    def _project(self, table: _Table) -> Project:
        return replace(table.project, identifying=frozenset(name for name, _ in table.values))

    def _user(self, table: _Table, cuid: int) -> User:
        identifiers: dict[str, list[str]] = {}
        for (name, value), owner in table.values.items():
            if owner == cuid:
                identifiers.setdefault(name, []).append(value)
        return User(cuid, table.profiles[cuid], identifiers)
