"""The data that stores accept and return."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, repeat

from usertable.domain.actor import Actor
from usertable.domain.audit import AuditEvent
from usertable.domain.change import Origin
from usertable.domain.errors import Problem
from usertable.domain.patch import Patch, Restoration
from usertable.domain.profile import Effect, Outcome, Profile
from usertable.domain.values import Value

FIRST_CUID = 10_000_001
"""The first CUID that a project assigns. They ascend from here and are never reused."""
LARGEST_COUNTED_CUID = 2**53
"""An imported CUID up to this one moves the project's counter past it. A larger one does not, or it could exhaust the range.
"""


@dataclass(slots=True)
class Receipt:
    """Makes a write safe to retry: the same key and fingerprint get the stored answer."""

    key: str
    fingerprint: bytes
    whole: bool = False
    """Whether the answer shows the user's row. The row is then stored with the receipt, and removed when the user is erased.
    """


@dataclass(slots=True)
class Write:
    """One user's write: merge `patch` into the profile of `cuid` in the project with this number."""

    project: int
    cuid: int
    patch: Patch | Restoration
    schema_version: int
    """The version of the project that the patch was validated against."""
    now: int
    """Milliseconds since 1970 UTC."""
    receipt: Receipt | None = None
    dry_run: bool = False
    """Decide and answer, but store nothing."""
    details: bool = True
    """Whether the caller reads the contents of :class:`Written`. If not, the result may be :data:`WRITTEN`."""
    row: bool = True
    """Whether the caller reads the user's row in it."""
    size: int = 0
    """Bytes of the request, or more, for the limit on a single commit."""
    origin: Origin | None = None
    """Who writes; None if the project's history is off."""
    request: str = ""
    """ID of the HTTP request; empty if there was none."""
    all_reports: bool = False
    """Record it even if it changes nothing and says nothing new."""


@dataclass(slots=True)
class Written:
    """The write was applied, and is durable unless it was a dry run."""

    version: int
    outcomes: dict[str, Outcome]
    attributes: dict[str, Value] | None
    """The user's row after the write; None in the replay of a receipt that does not contain it."""
    effect: Effect | None = None
    """For a row of an import: the effect on its user."""
    change: int | None = field(default=None, compare=False)
    """The number of the change that was recorded; None if none was, or if it is not known, as for a row of an import. The
    same write has another one in another store."""


WRITTEN = Written(0, {}, None)
"""May stand for the result of a write whose caller does not read it (`details` is false)."""


@dataclass(slots=True)
class Refusal:
    """The rules refused the write; nothing was changed."""

    problems: list[Problem]


@dataclass(slots=True)
class Replayed:
    """The receipt's key was used before with the same request: the result of that request."""

    written: Written


@dataclass(slots=True)
class UserUnknown:
    """The project has no user with this CUID; nothing was changed."""


@dataclass(slots=True)
class KeyReused:
    """The receipt's key was used before with another request; nothing was changed."""


@dataclass(slots=True)
class SchemaStale:
    """The project changed since the patch was validated; nothing was changed. Validate again and retry."""


Result = Written | Refusal | Replayed | UserUnknown | KeyReused | SchemaStale | Exception
"""An exception stands for a write that failed alone, in an engine that commits a batch in parts."""


@dataclass(slots=True)
class User:
    """A user as read: the profile, and identifier values by identifier name."""

    cuid: int
    profile: Profile
    identifiers: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Selection:
    """Users found, in order, and how far the search went."""

    users: list[User]
    examined: int
    """Number of users examined."""
    end: int | None
    """The CUID to continue after; None if there are no more users."""


@dataclass(frozen=True, slots=True)
class MatchCount:
    """Number of users of a chunk that meet some conditions, and the last (or first) updated of them."""

    matched: int
    examined: int
    end: int | None
    """The CUID to continue after; None if there are no more users."""
    top: list[tuple[int, int]]
    """Their `updated_at` and CUID, in order."""


@dataclass(frozen=True, slots=True)
class ColumnValues:
    """The values of one attribute in a chunk of users."""

    values: list[Value]
    examined: int
    end: int | None


@dataclass(frozen=True, slots=True)
class FilledCount:
    """The number of users of a chunk that have a value, by attribute."""

    filled: dict[str, int]
    examined: int
    end: int | None


@dataclass(frozen=True, slots=True)
class Migration:
    """The versions before and after a migration that ran when the store was opened."""

    before: int
    after: int


@dataclass(slots=True)
class StoredReceipt:
    """A receipt as stored."""

    fingerprint: bytes
    written: Written


@dataclass(slots=True)
class NewReceipt:
    """A receipt to store."""

    project: int
    key: str
    cuid: int
    fingerprint: bytes
    written: Written
    at: int


ImportRow = tuple[int | None, tuple[tuple[str, str], ...], str]
"""A row to import: the CUID, or None to find the user by an identifier; identifier values, by priority of the identifier;
the validated values as :func:`usertable.store.encoding.encode_attributes` encodes them, `{}` for none."""


@dataclass(slots=True)
class ImportRows:
    """Rows to import, column by column, so that a block is created, sent and stored without an object per row."""

    cuids: Sequence[int | None]
    identifiers: Sequence[tuple[tuple[str, str], ...]] | None
    """None if no row has any."""
    lines: str
    """The values of all rows, one line each. JSON texts have no newline."""

    @classmethod
    def of(cls, rows: Iterable[ImportRow]) -> ImportRows:
        columns = list(zip(*rows, strict=True)) or [(), (), ()]
        return cls(columns[0], columns[1] if any(columns[1]) else None, "\n".join(columns[2]))

    @property
    def texts(self) -> list[str]:
        """Return the values of each row."""
        return self.lines.split("\n") if self.cuids else []

    def first(self, count: int) -> ImportRows:
        """Return the first `count` rows."""
        return ImportRows.of(islice(self, count))

    def __len__(self) -> int:
        return len(self.cuids)

    def __iter__(self) -> Iterator[ImportRow]:
        return zip(self.cuids, self.identifiers or repeat(()), self.texts, strict=False)


@dataclass(slots=True)
class PatchRows:
    """Rows to import that were validated one by one. Otherwise like :class:`ImportRows`."""

    cuids: Sequence[int | None]
    identifiers: Sequence[tuple[tuple[str, str], ...]]
    patches: Sequence[Patch]

    def __iter__(self) -> Iterator[PatchRow]:
        return zip(self.cuids, self.identifiers, self.patches, strict=True)


PatchRow = tuple[int | None, tuple[tuple[str, str], ...], Patch]
"""Like :data:`ImportRow`, with the validated values instead of their text."""


@dataclass(slots=True)
class ImportBatch:
    """Rows of an import, in order, which become durable together with the job's progress."""

    project: int
    schema_version: int
    """The version of the project that the rows were validated against."""
    rows: ImportRows | PatchRows
    names: frozenset[str]
    """The attributes of which a row has a value."""
    now: int
    """Milliseconds since 1970 UTC."""
    register: bool = False
    """Create users and identifier values that do not exist."""
    job: str = ""
    """The import's name in the project."""
    before: str | None = None
    """The job's current state, as expected; None if there must be none."""
    dry_run: bool = False
    """Decide and answer, but store nothing."""
    actor: Actor | None = None
    """The actor of `event`."""
    event: AuditEvent | None = None
    """The entry for the audit log; None for no entry."""
    origin: Origin | None = None
    """Who imports; None if the project's history is off."""
    request: str = ""
    """ID of the HTTP request; empty if there was none."""
    receipts: Sequence[Receipt | None] | None = None
    """Makes each row safe to retry, for rows that are answered one by one and belong to no job."""


@dataclass(slots=True)
class ImportResult:
    """The result of a batch."""

    created: int
    changed: int
    unchanged: int
    refused: list[tuple[int, list[Problem]]]
    """The refused rows, by index in the batch, in order, with all problems."""
    previews: list[tuple[int, dict[str, Value]]] = field(default_factory=list)
    """For a dry run: the CUID and the attributes after each row that was not refused, in order."""
    row_results: list[tuple[int | None, Result]] = field(default_factory=list)
    """For a batch with receipts: the CUID, if known, and the result of each row, in order. Nothing else is counted."""


@dataclass(slots=True)
class JobMoved:
    """The job's state differs from the one that the batch expects; nothing was changed."""

    state: str | None


SnapshotRow = tuple[int, bytes, Mapping[str, list[str]]]
"""A user: CUID; attributes as :func:`usertable.store.encoding.encode_attributes` encodes them (possibly with spaces and in
another order); identifier values by identifier.
"""
NO_VALUES: Mapping[str, list[str]] = {}
"""The identifier values of a user that has none."""


@dataclass(frozen=True, slots=True)
class Page:
    """Users of a snapshot, at least one, by CUID."""

    cuids: Sequence[int]
    lines: bytes
    """The attributes of each user as in :data:`SnapshotRow`, one line each, without a line end after the last."""
    values: Mapping[int, Mapping[str, list[str]]]
    """Identifier values by CUID, for users that have any."""
    rows: Sequence[tuple[int, int, int]] | None = None
    """For each user: version, created and updated; times in ms since 1970 UTC. None if not requested."""

    def __iter__(self) -> Iterator[SnapshotRow]:
        for cuid, line in zip(self.cuids, self.lines.split(b"\n"), strict=True):
            yield cuid, line, self.values.get(cuid, NO_VALUES)

    def __len__(self) -> int:
        return len(self.cuids)


@dataclass(frozen=True, slots=True)
class PoolFigures:
    """A pool's connections, now and since it was created."""

    limit: int
    """Maximum number of connections."""
    open: int
    idle: int
    waiting: int
    """Callers that wait for a connection."""
    taken: int
    """Number of requests for a connection."""
    queued: int
    """Number of requests that had to wait."""
    failed: int
    """Number of requests that timed out."""


@dataclass(frozen=True, slots=True)
class StoreFigures:
    """What a process knows about the store that it has open, without asking it."""

    engine: str
    """`memory`, `sqlite`, `postgresql` or `citus`."""
    file_bytes: Mapping[str, int] = field(default_factory=dict)
    """By file: `database`, `log`."""
    free_bytes: int | None = None
    """Free bytes on the disk with the files."""
    pools: Mapping[str, PoolFigures] = field(default_factory=dict)
    """By purpose: `main`, `scans`."""
