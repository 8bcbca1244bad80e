"""The store protocol, the plain data it moves, and the part of a write that is the same in every engine.

An engine only loads, asks (`decide`, or an edit of a project), and persists, inside one transaction of its own. A batch
of writes is a performance hint, never a unit of atomicity: every write stands alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from importlib import resources
from itertools import islice, repeat
from typing import Any, Protocol
from urllib.parse import unquote

from usertable.domain.arrival import Arrival, Arrivals, Rate
from usertable.domain.change import Change
from usertable.domain.condition import Condition
from usertable.domain.errors import Kind, Problem, StoreFault
from usertable.domain.patch import Patch
from usertable.domain.profile import Decision, Effect, Outcome, Profile
from usertable.domain.schema import Attribute, Project
from usertable.domain.values import Value

FIRST_CUID = 10_000_001
"""The first CUID that a project hands out; they grow from here and are never reused."""
MAX_CUID = 2**63 - 1
CACHE_MB = 1024
LARGEST_COUNTED_CUID = 2**53
"""An imported CUID up to here moves the project's counter past it; a larger one does not, lest it exhaust the range."""


class Decide(Protocol):
    """The rules: what a patch makes of a profile at a moment."""

    @property
    def row_limit(self) -> int:
        """Bytes that a user's row may have. Whoever merges without asking must leave alone what may be larger after it."""
        ...

    def __call__(self, profile: Profile, patch: Patch, now: int, /) -> Decision: ...


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
    patch: Patch
    schema_version: int
    """The version of the project that the patch was validated under."""
    now: int
    """Milliseconds since 1970 UTC."""
    receipt: Receipt | None = None
    dry: bool = False
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
class Tally:
    """How many users of a stretch of the table meet some conditions, and those that were changed last (or first)."""

    matched: int
    examined: int
    end: int | None
    """The CUID to go on after; None if there are no more users."""
    edge: list[tuple[int, int]]
    """`updated_at` and CUID of the outermost, in order."""


@dataclass(frozen=True, slots=True)
class Column:
    """The values that the users of a stretch have of one attribute."""

    values: list[Value]
    examined: int
    end: int | None


@dataclass(frozen=True, slots=True)
class Fill:
    """How many users of a stretch have a value, by attribute."""

    filled: dict[str, int]
    examined: int
    end: int | None


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """An entry of a project's record of changes."""

    at: int
    who: str
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


@dataclass(slots=True)
class Resolution:
    """What a batch comes to: an answer per write, and what the engine must persist for it."""

    results: list[Result]
    profiles: dict[tuple[int, int], Profile]
    """The changed ones, by (project, CUID)."""
    receipts: list[NewReceipt]
    reported: dict[int, set[str]]
    """By project, the names of the attributes that got a value."""

    def profiles_by_project(self) -> dict[int, dict[int, Profile]]:
        """The changed ones by project, and there by CUID."""
        changed: dict[int, dict[int, Profile]] = {}
        for (project, cuid), profile in self.profiles.items():
            changed.setdefault(project, {})[cuid] = profile
        return changed


def resolve(
    writes: Sequence[Write],
    decide: Decide,
    versions: Mapping[int, int],
    profiles: dict[tuple[int, int], Profile],
    receipts: dict[tuple[int, str], StoredReceipt],
) -> Resolution:
    """Decide a batch, in order, on what the engine loaded for it: later writes see what earlier ones did.

    Args:
        versions: the project version by project number, as stored now.
        profiles: by (project, CUID); a user that is not in it does not exist. Updated on the way.
        receipts: the stored receipts of the batch's keys, by (project, key). Updated on the way.
    """
    results: list[Result] = []
    changed: dict[tuple[int, int], Profile] = {}
    new_receipts: list[NewReceipt] = []
    reported: dict[int, set[str]] = {}
    for write in writes:
        project = write.project
        receipt = write.receipt
        if receipt is not None:
            stored = receipts.get((project, receipt.key))
            if stored is not None:
                same = stored.fingerprint == receipt.fingerprint
                results.append(Replayed(stored.written) if same else KeyReused())
                continue
        if versions.get(project) != write.schema_version:
            results.append(SchemaStale())
            continue
        place = (project, write.cuid)
        profile = profiles.get(place)
        if profile is None:
            results.append(UserUnknown())
            continue
        decision = decide(profile, write.patch, write.now)
        if decision.problems:
            results.append(Refusal(decision.problems))
            continue
        attributes = decision.profile.attributes if write.row else None
        outcome = Written(decision.profile.version, decision.outcomes, attributes)
        results.append(outcome)
        if write.dry:
            continue
        if receipt is not None:
            kept = outcome if receipt.whole else replace(outcome, attributes=None)
            receipts[project, receipt.key] = StoredReceipt(receipt.fingerprint, kept)
            new_receipts.append(NewReceipt(project, receipt.key, write.cuid, receipt.fingerprint, kept, write.now))
        if decision.profile is not profile:
            profiles[place] = changed[place] = decision.profile
            reported.setdefault(project, set()).update(decision.outcomes)
    return Resolution(results, changed, new_receipts, reported)


Incoming = tuple[int | None, tuple[tuple[str, str], ...], str]
"""A row to be imported: the CUID, or None to find the user by an identifier; identifier values, by priority of the
identifier; the checked values as :func:`usertable.store.document.encode_attributes` writes them, `{}` for none."""


@dataclass(slots=True)
class IncomingRows:
    """Rows to be imported, column by column: so a block of them is made, sent and stored without an object for each."""

    cuids: Sequence[int | None]
    identifiers: Sequence[tuple[tuple[str, str], ...]] | None
    """None if no row has any."""
    lines: str
    """The values of all rows, a line each; JSON texts have no newline."""

    @classmethod
    def of(cls, rows: Iterable[Incoming]) -> IncomingRows:
        columns = list(zip(*rows, strict=True)) or [(), (), ()]
        return cls(columns[0], columns[1] if any(columns[1]) else None, "\n".join(columns[2]))

    @property
    def texts(self) -> list[str]:
        """The values of each row."""
        return self.lines.split("\n") if self.cuids else []

    def first(self, count: int) -> IncomingRows:
        """So many of the rows."""
        return IncomingRows.of(islice(self, count))

    def __len__(self) -> int:
        return len(self.cuids)

    def __iter__(self) -> Iterator[Incoming]:
        return zip(self.cuids, self.identifiers or repeat(()), self.texts, strict=False)


@dataclass(slots=True)
class Batch:
    """Rows of an import, in order, that become durable together with the news of how far it came."""

    project: int
    schema_version: int
    """The version of the project that the rows were validated under."""
    rows: IncomingRows
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
    dry: bool = False
    """Decide and answer, but keep nothing."""
    receipts: Sequence[Receipt | None] | None = None
    """What makes each row safe to retry, if the rows are answered one by one, and not for a job."""


@dataclass(slots=True)
class Taken:
    """What came of a batch."""

    created: int
    changed: int
    unchanged: int
    refused: list[tuple[int, list[Problem]]]
    """The refused rows by their places in the batch, in order, with all that is wrong."""
    shown: list[tuple[int, dict[str, Value]]] = field(default_factory=list)
    """Of a dry batch: the CUID and the attributes after each row that was not refused, in order."""
    told: list[tuple[int | None, Result]] = field(default_factory=list)
    """Of a batch with receipts: the CUID, if it is known, and what came of each row, in order; nothing else is counted."""


@dataclass(slots=True)
class JobMoved:
    """The job's state is another than the batch expects; nothing was changed."""

    state: str | None


Note = Callable[[Taken], str]
"""Makes a job's new state of what came of a batch, before it is committed; may be asked again for the same batch."""


class Snapshot(Protocol):
    """A project as of one moment, however long it is looked at."""

    @property
    def project(self) -> Project:
        """The project."""
        ...

    def count(self) -> int:
        """How many users there are."""
        ...

    def pages(self) -> Iterator[Page]:
        """All users by CUID, some thousands at a time."""
        ...


SnapshotRow = tuple[int, bytes, Mapping[str, list[str]]]
"""A user: CUID; attributes as :func:`usertable.store.document.encode_attributes` writes them (perhaps with spaces and in
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

    def __iter__(self) -> Iterator[SnapshotRow]:
        for cuid, line in zip(self.cuids, self.lines.split(b"\n"), strict=True):
            yield cuid, line, self.values.get(cuid, NO_VALUES)

    def __len__(self) -> int:
        return len(self.cuids)


@dataclass(frozen=True, slots=True)
class Part:
    """A kind of rows that a project has, for copying a store. The first `key` columns tell rows apart and order them."""

    table: str
    columns: tuple[str, ...]
    key: int = 1


USERS = Part("users", ("cuid", "version", "created_at", "updated_at", "attributes", "changed_at"))
VALUES = Part("identifier_value", ("identifier", "value", "cuid"), key=2)
ERASED = Part("erased", ("cuid",))
RECEIPTS = Part("receipt", ("key", "cuid", "fingerprint", "written", "personal", "at"), key=2)
CHANGES = Part("schema_change", ("number", "at", "who", "what"))
REPORTED = Part("reported", ("attribute",))
JOBS = Part("import_job", ("name", "state"))
PARTS = (USERS, VALUES, ERASED, RECEIPTS, CHANGES, REPORTED, JOBS)
"""All that a project has beside itself."""

Row = tuple[Any, ...]
"""A row of a part, column by column. Attributes and `changed_at` are dictionaries, `written` is a text; the others
are plain values."""


class Copyable(Protocol):
    """What an engine does for those who copy a store as it is, from or into it. Nobody else may use the store meanwhile."""

    def count(self, project: int, part: Part) -> int:
        """How many rows the project has of that part."""
        ...

    def rows(self, project: int, part: Part, after: Row | None, limit: int) -> list[Row]:
        """Up to `limit` rows in the order of their keys (texts by their UTF-8 bytes), after that key."""
        ...

    def last(self, project: int, part: Part) -> Row | None:
        """The key of the last row; None if there is none."""
        ...

    def load(self, project: int, part: Part, rows: Sequence[Row]) -> None:
        """Keep rows, all of them or none. The project need not be there yet."""
        ...

    def next_cuid(self, project: int) -> int:
        """The next CUID that the project would give."""
        ...

    def adopt(self, project: Project, next_cuid: int) -> None:
        """Keep the project itself, with the number that it has."""
        ...


class Browsable(Protocol):
    """What an engine does for those who look through the user table.

    Every call looks at a stretch of the table: the next `examine` users by CUID after `after` (None: from the start), at
    most. It holds no snapshot longer than that, and cannot keep writes waiting.
    """

    def select(
        self,
        project: int,
        conditions: Sequence[Condition],
        after: int | None,
        limit: int,
        examine: int,
        descending: bool = False,
    ) -> Selection:
        """The first users of the stretch that meet all conditions, `limit` at most; `descending` goes down from `after`.

        What meets a condition is what :meth:`~usertable.domain.condition.Condition.met` says, exact numbers included.
        """
        ...

    def tally(
        self,
        project: int,
        conditions: Sequence[Condition],
        after: int | None,
        examine: int,
        keep: int,
        oldest: bool = False,
    ) -> Tally:
        """Count the users of the stretch that meet all conditions; the `keep` last updated ones, or first with `oldest`.

        The edge is in the order of `updated_at` and, among equals, CUID; both descending unless `oldest`.
        """
        ...

    def column(self, project: int, attribute: str, after: int | None, examine: int) -> Column:
        """The values of an attribute in the stretch, by CUID; users without one are left out."""
        ...

    def fill(self, project: int, after: int | None, examine: int) -> Fill:
        """Count, by attribute, the users of the stretch that have a value."""
        ...

    def read_many(self, project: int, cuids: Sequence[int]) -> list[User]:
        """Those of the users that exist, in the order of `cuids`."""
        ...

    def extent(self, project: int) -> tuple[int, int] | None:
        """The first and the last CUID that a user has; None if there is no user."""
        ...


KEPT_SAMPLES = 300
"""Of the accepted and of the refused requests of a project, so many samples are kept."""


class Arriving(Protocol):
    """What an engine keeps of what came in, for a while. It may lose it in a crash; it is no part of a copy."""

    def keep_arrivals(self, batch: Sequence[Arrivals]) -> None:
        """Add what came in. A sample of a user that has been erased since is not kept."""
        ...

    def arrivals(self, project: int, after: int, limit: int, *, refused: bool | None = None) -> list[tuple[int, Arrival]]:
        """The newest samples with a number greater than `after`, newest first, each with its number.

        Args:
            refused: only those that were refused, or that were not.
        """
        ...

    def rates(self, project: int, since: int, step: int) -> list[Rate]:
        """How many requests came in, by steps of `step` ms from that moment on; steps without any are left out."""
        ...

    def refusals(self, project: int, since: int) -> list[tuple[Kind, str | None, int, int]]:
        """By kind and attribute, how many refusals there were from that moment on, and the moment of the newest."""
        ...

    def last_writes(self, project: int) -> dict[str, int]:
        """By attribute, when an accepted request last had it; ms since 1970 UTC, to the second."""
        ...

    def expire_arrivals(self, before: int) -> None:
        """Forget what came in before that moment, and all samples but the newest of each project."""
        ...


class Store(Copyable, Browsable, Arriving, Protocol):
    """What every engine promises. All calls block; all but `close` may come from any thread.

    Any call may raise :class:`~usertable.domain.errors.StoreDown`: nothing was changed then, or, if the engine cannot
    tell (a connection lost during commit), a retry with the same receipt tells.
    """

    def write(self, writes: Sequence[Write], decide: Decide) -> list[Result]:
        """Decide the writes in order and make the changes durable before returning; one result per write, in order.

        Two writes to one user see each other in order. A decision without changes writes no row. A receipt is kept with
        its write, also when the write changed nothing; a refused or dry write keeps none. Whatever it raises: none of
        the batch was kept.
        """
        ...

    def read(self, project: int, cuid: int) -> User | None:
        """The user, or None. Sees every write that was answered before the call."""
        ...

    def scan(self, project: int, after: int, limit: int) -> list[User]:
        """Up to `limit` users with a CUID greater than `after`, by CUID."""
        ...

    def register(self, project: int, identifier: str, values: Sequence[str], now: int) -> list[int]:
        """The CUID of each value, in order; a value never seen creates a user, in the same transaction.

        Equal values get one CUID, whoever asks at the same time. Values are compared exactly. Whether `identifier` may
        be used so is checked against the project as stored, inside the transaction; raises Refused if not.
        """
        ...

    def add_user(self, project: int, cuid: int, identifiers: Mapping[str, str], now: int) -> None:
        """Create a user with a CUID of the caller's, and a value for each identifier named.

        Raises:
            Refused: the CUID exists or was erased, a value belongs to another user, or an identifier is not declared.
        """
        ...

    def take(self, batch: Batch, decide: Decide, note: Note | None = None) -> Taken | SchemaStale | JobMoved:
        """Import rows: each merges into its user as a write would, in order, and a refused one disturbs no other.

        All of it is durable, with `note(…)` as the job's state, before it returns; or none of it was kept. So whoever finds
        that state in the store knows that the batch was taken, and whoever finds the one before, that it was not.
        A row that names no user is refused, or makes one with `register`: with the CUID it has, or, like Get CUID,
        by a value of the identifier with priority 1.

        Without `note` there is no job. A batch with receipts keeps one with each row that was taken, and a row whose key is
        known is not taken again, as in :meth:`write`.
        """
        ...

    def job(self, project: int, name: str) -> str | None:
        """The state of the import of that name; None if there was none."""
        ...

    def snapshot(self, project_id: str) -> AbstractContextManager[Snapshot]:
        """The project as of now. Writes go on beside it and are not seen in it. Raises Refused if there is none.

        On Citus each machine has a moment of its own, milliseconds apart.
        """
        ...

    def resolve_identifiers(self, project: int, identifier: str, values: Sequence[str]) -> dict[str, int]:
        """The CUIDs that the values point to; one that points to nobody is left out."""
        ...

    def erase(self, project: int, cuid: int) -> bool:
        """Remove the user, its identifier values, every stored answer and sample that shows its data; no CUID is reused.

        False if there was no such user.
        """
        ...

    def epoch(self) -> int:
        """A number that differs from an earlier one if any project was created or changed in between. Cheap."""
        ...

    def versions(self) -> dict[str, int]:
        """The version of every project by its id. Cheap."""
        ...

    def projects(self) -> list[Project]:
        """All projects, by number."""
        ...

    def project(self, project_id: str) -> Project | None:
        """The project with that id as callers send it."""
        ...

    def attributes(self, project: int) -> tuple[int, Mapping[str, Attribute]]:
        """The version of the project with that number, and its attributes by name."""
        ...

    def add_project(self, project: Project, who: str) -> Project:
        """Keep a new project; its `number` is the store's to choose. Raises Refused if the id is taken."""
        ...

    def edit_project(self, project_id: str, edit: Callable[[Project], Project], who: str, now: int) -> Project:
        """Replace the project by `edit(project)` in one transaction, and record who changed what.

        `edit` sees `reported`, `identifying` and the schema as stored. If it returns an equal project, nothing is recorded;
        if it raises, nothing is changed. Raises Refused if there is no such project.
        """
        ...

    def schema_changes(self, project: int, limit: int) -> list[SchemaChange]:
        """The newest `limit` changes of the project, newest first."""
        ...

    def expire_receipts(self, before: int) -> int:
        """Forget receipts made before that moment (ms since 1970 UTC), some thousands at most; how many it were."""
        ...

    def ping(self) -> None:
        """Return if the store can be reached, and takes writes. Makes a small one if only that tells."""
        ...

    def close(self) -> None:
        """Release everything. No call may follow or be under way."""
        ...


def migrations(engine: str) -> list[str]:
    """The numbered scripts that make an engine's tables, in order; the first has number 1. They only ever grow in number."""
    scripts = (f for f in resources.files(f"usertable.store.sql.{engine}").iterdir() if f.name.endswith(".sql"))
    return [script.read_text() for script in sorted(scripts, key=lambda f: f.name)]


URL_HOSTS = r"(?:(?:\[[^]]*\]|[^][@/?:,]*)(?::\d*)?)(?:,(?:\[[^]]*\]|[^][@/?:,]*)(?::\d*)?)*"
"""What a URL has in place of a host, as a regular expression: `db1:5432,[::1]:5433`, or nothing."""
_SECRETS = ("password", "sslpassword", "oauth_client_secret")
"""Parameters of a URL that nobody is shown."""
_MASK = "********"


def outdated(shown: str, version: int, newest: int) -> StoreFault:
    """Why a store of an older version is not opened by a command that may not migrate it."""
    return StoreFault(
        f"{shown} has store version {version}, and this usertable needs {newest}; nothing was changed."
        " Stop its server, back up the store, then run: usertable migrate"
    )


def shown_url(url: str) -> str:
    """The store's URL as it is written, without its passwords, for messages and logs."""
    head, question, query = url.partition("?")
    scheme, separator, rest = url.partition("://")
    if separator:
        userinfo, at, place = rest.partition("/")[0].rpartition("@")
        place = rest[len(userinfo + at) :]
        if not at and ("@" in rest.partition("?")[0] or not re.fullmatch(URL_HOSTS, re.split("[/?]", rest)[0])):
            # A password with a slash in it, which no URL may have. All that may be of it is left out.
            userinfo, at, place = rest.rpartition("@")
        user, colon, _ = userinfo.partition(":")
        place, question, query = place.partition("?")
        head = f"{scheme}://{user}{colon and colon + _MASK}{at}{place}"
    parameters = [
        f"{name}={_MASK}" if unquote(name).lower() in _SECRETS else f"{name}{equals}{value}"
        for name, equals, value in (parameter.partition("=") for parameter in query.split("&"))
    ]
    return f"{head}{question}{'&'.join(parameters)}"


def sqlite_place(url: str) -> tuple[str, int]:
    """The file that a `sqlite:///…[?cache_mb=N]` URL names, and the most memory for the writer's pages, in MiB."""
    path, _, query = url.removeprefix("sqlite:///").partition("?")
    name, _, text = query.partition("=")
    if not url.startswith("sqlite:///") or not path or "#" in path:
        raise StoreFault(f"unusable store URL {url!r}: write sqlite:///relative/file.db or sqlite:////absolute/file.db")
    if not query:
        return path, CACHE_MB
    if name != "cache_mb" or not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1_000_000:
        raise StoreFault(f"unusable store URL {url!r}: the only parameter is cache_mb=N, from 1 to 1000000")
    return path, int(text)
