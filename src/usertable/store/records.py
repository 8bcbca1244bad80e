"""The plain data that goes in and out of a store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, repeat

from usertable.domain.errors import Problem
from usertable.domain.patch import Patch, Restoration
from usertable.domain.profile import Effect, Outcome, Profile
from usertable.domain.schema_change import Change
from usertable.domain.values import Value

FIRST_CUID = 10_000_001
"""The first CUID that a project hands out; they grow from here and are never reused."""
LARGEST_COUNTED_CUID = 2**53
"""An imported CUID up to here moves the project's counter past it; a larger one does not, lest it exhaust the range."""


@dataclass(slots=True)
class Receipt:
    """Makes a write safe to retry: the same key and fingerprint get the stored answer again."""

    key: str
    fingerprint: bytes
    whole: bool = False
    """Whether the caller is shown the user's row: it is kept with the receipt then, and goes when the user is erased."""


@dataclass(slots=True)
class Write:
    """One user's write: merge `patch` into the profile of `cuid` in the project with this number."""

    project: int
    cuid: int
    patch: Patch | Restoration
    schema_version: int
    """The version of the project that the patch was validated under."""
    now: int
    """Milliseconds since 1970 UTC."""
    receipt: Receipt | None = None
    dry_run: bool = False
    """Decide and answer, but keep nothing."""
    details: bool = True
    """Whether the caller looks at what :class:`Written` holds; if not, the answer may be :data:`WRITTEN`."""
    row: bool = True
    """Whether the caller looks at the user's row in it."""
    size: int = 0
    """Bytes that it was sent in, or more, for the bound on what is committed together."""


@dataclass(slots=True)
class Written:
    """The write was decided, and is durable unless it was dry."""

    version: int
    outcomes: dict[str, Outcome]
    attributes: dict[str, Value] | None
    """The user's row after the write; None in the replay of a receipt that does not hold it."""
    effect: Effect | None = None
    """Of a row of an import: what became of its user."""


WRITTEN = Written(0, {}, None)
"""May stand for what came of a write whose caller does not look at it (`details` is false)."""


@dataclass(slots=True)
class Refusal:
    """The rules refused the write; nothing was changed."""

    problems: list[Problem]


@dataclass(slots=True)
class Replayed:
    """The receipt's key was used before with the same request: what came of it then."""

    written: Written


@dataclass(slots=True)
class UserUnknown:
    """There is no user with that CUID in the project; nothing was changed."""


@dataclass(slots=True)
class KeyReused:
    """The receipt's key was used before with another request; nothing was changed."""


@dataclass(slots=True)
class SchemaStale:
    """The project changed since the patch was validated; nothing was changed. Validate again and retry."""


Result = Written | Refusal | Replayed | UserUnknown | KeyReused | SchemaStale | Exception
"""An exception stands for a write that failed by itself, in an engine that commits a batch in parts."""


@dataclass(slots=True)
class User:
    """A user as read: the profile, and identifier values by identifier name."""

    cuid: int
    profile: Profile
    identifiers: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Selection:
    """Users that were looked for, in order, and how far the search came."""

    users: list[User]
    examined: int
    """So many users were looked at."""
    end: int | None
    """The CUID to go on after; None if there are no more users."""


@dataclass(frozen=True, slots=True)
class MatchCount:
    """How many users of a chunk of the table meet some conditions, and those that were changed last (or first)."""

    matched: int
    examined: int
    end: int | None
    """The CUID to go on after; None if there are no more users."""
    top: list[tuple[int, int]]
    """`updated_at` and CUID of those, in order."""


@dataclass(frozen=True, slots=True)
class ColumnValues:
    """The values that the users of a chunk have of one attribute."""

    values: list[Value]
    examined: int
    end: int | None


@dataclass(frozen=True, slots=True)
class FilledCount:
    """How many users of a chunk have a value, by attribute."""

    filled: dict[str, int]
    examined: int
    end: int | None


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """An entry of a project's record of changes."""

    at: int
    actor: str
    what: list[Change] | str
    """A text is an entry that was made before changes were kept by kind: what was done, in English."""


@dataclass(slots=True)
class StoredReceipt:
    """A receipt as an engine keeps it."""

    fingerprint: bytes
    written: Written


@dataclass(slots=True)
class NewReceipt:
    """A receipt to be kept by an engine."""

    project: int
    key: str
    cuid: int
    fingerprint: bytes
    written: Written
    at: int


ImportRow = tuple[int | None, tuple[tuple[str, str], ...], str]
"""A row to be imported: the CUID, or None to find the user by an identifier; identifier values, by priority of the
identifier; the checked values as :func:`usertable.store.encoding.encode_attributes` writes them, `{}` for none."""


@dataclass(slots=True)
class ImportRows:
    """Rows to be imported, column by column: so a block of them is made, sent and stored without an object for each."""

    cuids: Sequence[int | None]
    identifiers: Sequence[tuple[tuple[str, str], ...]] | None
    """None if no row has any."""
    lines: str
    """The values of all rows, a line each; JSON texts have no newline."""

    @classmethod
    def of(cls, rows: Iterable[ImportRow]) -> ImportRows:
        columns = list(zip(*rows, strict=True)) or [(), (), ()]
        return cls(columns[0], columns[1] if any(columns[1]) else None, "\n".join(columns[2]))

    @property
    def texts(self) -> list[str]:
        """The values of each row."""
        return self.lines.split("\n") if self.cuids else []

    def first(self, count: int) -> ImportRows:
        """So many of the rows."""
        return ImportRows.of(islice(self, count))

    def __len__(self) -> int:
        return len(self.cuids)

    def __iter__(self) -> Iterator[ImportRow]:
        return zip(self.cuids, self.identifiers or repeat(()), self.texts, strict=False)


@dataclass(slots=True)
class PatchRows:
    """Rows to be imported that were checked one by one. Otherwise like :class:`ImportRows`."""

    cuids: Sequence[int | None]
    identifiers: Sequence[tuple[tuple[str, str], ...]]
    patches: Sequence[Patch]

    def __iter__(self) -> Iterator[PatchRow]:
        return zip(self.cuids, self.identifiers, self.patches, strict=True)


PatchRow = tuple[int | None, tuple[tuple[str, str], ...], Patch]
"""Like :data:`ImportRow`, with the checked values in place of their text."""


@dataclass(slots=True)
class ImportBatch:
    """Rows of an import, in order, that become durable together with the news of how far it came."""

    project: int
    schema_version: int
    """The version of the project that the rows were validated under."""
    rows: ImportRows | PatchRows
    names: frozenset[str]
    """The attributes that a row has a value of."""
    now: int
    """Milliseconds since 1970 UTC."""
    register: bool = False
    """Make users, and identifier values, that are not there."""
    job: str = ""
    """The import's name in the project."""
    before: str | None = None
    """What the job's state must be now; None if there must be none."""
    dry_run: bool = False
    """Decide and answer, but keep nothing."""
    receipts: Sequence[Receipt | None] | None = None
    """What makes each row safe to retry, if the rows are answered one by one, and not for a job."""


@dataclass(slots=True)
class ImportResult:
    """What came of a batch."""

    created: int
    changed: int
    unchanged: int
    refused: list[tuple[int, list[Problem]]]
    """The refused rows by index in the batch, in order, with all that is wrong."""
    previews: list[tuple[int, dict[str, Value]]] = field(default_factory=list)
    """Of a dry batch: the CUID and the attributes after each row that was not refused, in order."""
    row_results: list[tuple[int | None, Result]] = field(default_factory=list)
    """Of a batch with receipts: the CUID, if it is known, and what came of each row, in order; nothing else is counted."""


@dataclass(slots=True)
class JobMoved:
    """The job's state is another than the batch expects; nothing was changed."""

    state: str | None


SnapshotRow = tuple[int, bytes, Mapping[str, list[str]]]
"""A user: CUID; attributes as :func:`usertable.store.encoding.encode_attributes` writes them (perhaps with spaces and in
another order); identifier values by identifier."""
NO_VALUES: Mapping[str, list[str]] = {}
"""The identifier values of a user that has none."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some users of a snapshot, at least one, in the order of their CUIDs."""

    cuids: Sequence[int]
    lines: bytes
    """The attributes of each as in :data:`SnapshotRow`, a line each, without a line's end after the last."""
    values: Mapping[int, Mapping[str, list[str]]]
    """By CUID: the identifier values of those who have some."""
    rows: Sequence[tuple[int, int, int]] | None = None
    """By user: version, created and updated, these in ms since 1970 UTC. None if they were not asked for."""

    def __iter__(self) -> Iterator[SnapshotRow]:
        for cuid, line in zip(self.cuids, self.lines.split(b"\n"), strict=True):
            yield cuid, line, self.values.get(cuid, NO_VALUES)

    def __len__(self) -> int:
        return len(self.cuids)


@dataclass(frozen=True, slots=True)
class PoolFigures:
    """The connections of a pool now, and since it was made."""

    limit: int
    """Maximum number of connections."""
    open: int
    idle: int
    waiting: int
    """Callers that wait for a connection."""
    taken: int
    """How often one was asked for."""
    queued: int
    """How often the caller had to wait for it."""
    failed: int
    """How often a caller gave up waiting."""


@dataclass(frozen=True, slots=True)
class StoreFigures:
    """What a process knows of the store that it has open."""

    engine: str
    """`memory`, `sqlite`, `postgresql` or `citus`."""
    file_bytes: Mapping[str, int] = field(default_factory=dict)
    """By file: `database`, `log`."""
    free_bytes: int | None = None
    """Free space on the disk that the files are on."""
    pools: Mapping[str, PoolFigures] = field(default_factory=dict)
    """By what they are for: `main`, `scans`."""
