"""The interface of a store that every engine implements: role by role, and as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from usertable.domain.arrival import Arrival, Arrivals, Rate
from usertable.domain.audit import AuditEntry, AuditFilter
from usertable.domain.change import Change
from usertable.domain.condition import Condition
from usertable.domain.errors import ProblemKind
from usertable.domain.key import Key
from usertable.domain.person import Person, Session
from usertable.domain.schema import Attribute, Project
from usertable.store.history import HistoryBlock, HistoryFigures, HistoryGrowth, PackedHistory, PrunedHistory
from usertable.store.records import (
    ColumnValues,
    FilledCount,
    ImportResult,
    MatchCount,
    Migration,
    Page,
    Result,
    Selection,
    StoreFigures,
    User,
    Write,
)
from usertable.store.tables import ROWS_BYTES, Row, TableSpec
from usertable.store.transaction import Transaction, WriteCommand

T = TypeVar("T")
NextState = Callable[[ImportResult], str]
"""Returns a job's new state, given a batch's result, before the commit. May be called again for the same batch."""


class UserTable(Protocol):
    """A project's users as of one moment."""

    @property
    def project(self) -> Project: ...

    def count(self) -> int:
        """Return the number of users."""
        ...

    def pages(self, *, rows: bool = False) -> Iterator[Page]:
        """Yield all users by CUID, some thousands per page; with `rows`, including versions and times."""
        ...


class Snapshot(UserTable, Protocol):
    """A project as of one moment, for as long as it is read, with its history."""

    def history_since(self) -> int | None:
        """Return since when all changes are kept, in ms since 1970 UTC; None if history is off."""
        ...

    def history_blocks(self) -> Iterator[HistoryBlock]:
        """Yield the blocks of history, newest first. They are read as they are consumed. Use it before `pages`."""
        ...

    def with_changes(self, cuid: int, work: Callable[[User | None, Iterator[Change]], T], after: int) -> T:
        """Return `work(user, changes)`, as :meth:`Remembering.with_changes` does."""
        ...


class Copyable(Protocol):
    """The part of a store that copies use, from it or into it. Nothing else may use the store meanwhile.

    The project is :data:`~usertable.domain.audit.INSTALLATION` for rows that belong to none.
    """

    def count(self, project: int, spec: TableSpec) -> int:
        """Return the number of the project's rows in a table."""
        ...

    def rows(self, project: int, spec: TableSpec, after: Row | None, limit: int, size: int = ROWS_BYTES) -> list[Row]:
        """Return up to `limit` rows in the order of their keys (texts by their UTF-8 bytes), after the key `after`.

        Args:
            size: characters and bytes after which there are no more rows. If they are exceeded, it is by the last row.
                On Citus, rows of history exceed both limits by what packed blocks of several shards have within a page.
        """
        ...

    def last(self, project: int, spec: TableSpec) -> Row | None:
        """Return the key of the last row; None if there is none."""
        ...

    def load(self, project: int, spec: TableSpec, rows: Sequence[Row]) -> None:
        """Store rows, all or none. The project need not exist yet."""
        ...

    def next_cuid(self, project: int) -> int:
        """Return the next CUID that the project would assign."""
        ...

    def finish_copy(self, project: Project, next_cuid: int) -> None:
        """Store the project itself, with the number that it has."""
        ...


class Browsable(Protocol):
    """The part of a store that browses the user table.

    Each call examines a chunk of the table: up to `examine` users by CUID after `after` (None: from the start). It holds no
    snapshot longer than that, and does not block writes.
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
        """Return the first users of the chunk that meet all conditions, up to `limit`. `descending` goes down from `after`.

        Whether a user meets a condition is defined by :meth:`~usertable.domain.condition.Condition.met`, including exact
        numbers.
        """
        ...

    def count_matching(
        self,
        project: int,
        conditions: Sequence[Condition],
        after: int | None,
        examine: int,
        keep: int,
        oldest: bool = False,
    ) -> MatchCount:
        """Count the users of the chunk that meet all conditions, and return the `keep` last (or first) updated of them.

        They are in the order of `updated_at` and, among equals, CUID; both descending unless `oldest`.
        """
        ...

    def column_values(self, project: int, attribute: str, after: int | None, examine: int) -> ColumnValues:
        """Return the values of an attribute in the chunk, by CUID, without users that have none."""
        ...

    def count_filled(self, project: int, after: int | None, examine: int) -> FilledCount:
        """Count, by attribute, the users of the chunk that have a value."""
        ...

    def read_many(self, project: int, cuids: Sequence[int]) -> list[User]:
        """Return the users with these CUIDs, in this order, without CUIDs that do not exist."""
        ...

    def cuid_range(self, project: int) -> tuple[int, int] | None:
        """Return the lowest and the highest CUID in use; None without users."""
        ...


KEPT_SAMPLES = 300
"""Maximum number of samples stored per project, for accepted and for refused requests each."""


class Arriving(Protocol):
    """The part of a store that keeps arrivals for a while. A crash may lose them, and a copy does not contain them."""

    def keep_arrivals(self, batch: Sequence[Arrivals]) -> None:
        """Store arrivals. Samples of users that have been erased since are dropped."""
        ...

    def arrivals(self, project: int, after: int, limit: int, *, refused: bool | None = None) -> list[tuple[int, Arrival]]:
        """Return the newest samples with a number above `after`, newest first, each with its number.

        Args:
            refused: only refused samples (True), or only others (False).
        """
        ...

    def rates(self, project: int, since: int, step: int) -> list[Rate]:
        """Return the number of requests since `since`, in steps of `step` ms, without empty steps."""
        ...

    def refusals(self, project: int, since: int) -> list[tuple[ProblemKind, str | None, int, int]]:
        """Return, by kind and attribute, the number of refusals since `since`, and the time of the newest."""
        ...

    def last_writes(self, project: int) -> dict[str, int]:
        """Return, by attribute, when an accepted request or an import last had it; ms since 1970 UTC, to the second."""
        ...

    def key_uses(self, project: int, names: Sequence[str]) -> dict[str, int]:
        """Return, for keys with these names, when a request last used each; ms since 1970 UTC, to the minute.

        Copies contain them too.
        """
        ...

    def expire_arrivals(self, before: int) -> None:
        """Delete arrivals before that moment, and all but the newest samples of each project."""
        ...


class SigningIn(Protocol):
    """The part of a store that keeps the console's people and sessions. Changed by commands and by the last two methods."""

    def people(self) -> list[Person]:
        """Return all people, by email address."""
        ...

    def person(self, id: str) -> Person | None:
        """Return the person with this ID."""
        ...

    def person_by_email(self, email: str) -> Person | None:
        """Return the person with this email address, regardless of case."""
        ...

    def session(self, digest: bytes) -> tuple[Session, Person | None] | None:
        """Return the session, expired or not, and its person; None if it was ended. Fast, because every page calls it.

        The person is None for a session of the admin token.
        """
        ...

    def sessions(self, person: str) -> list[Session]:
        """Return the sessions of the person with this ID, newest first. An empty ID stands for the admin token."""
        ...

    def see_sessions(self, seen: Mapping[bytes, int]) -> None:
        """Store when sessions were last used (ms since 1970 UTC), by digest, unless a later time is stored.

        A crash may lose it.
        """
        ...

    def expire_sessions(self, before: int, limit: int) -> int:
        """Delete up to `limit` sessions that expired before that moment. Return how many."""
        ...


class Remembering(Protocol):
    """The part of a store that keeps the history of its users."""

    def with_changes(
        self,
        project: int,
        cuid: int,
        work: Callable[[User | None, Iterator[Change]], T],
        *,
        start: int | None = None,
        after: int | None = None,
    ) -> T:
        """Return `work(user, changes)`: a user, and its recorded changes, newest first, as far as they are kept.

        Both are of one moment. The changes are read as they are consumed, and only during the call. Without such a user,
        `user` is None. `work` must not use the store.

        Args:
            start: the number of the first change to yield; None for the newest.
            after: a moment (ms since 1970 UTC) up to which changes will be taken back. The user may then have the row of an
                earlier moment after it, from which fewer have to be; the changes begin with the one that left this row.
        """
        ...

    def history_figures(self, project: int) -> HistoryFigures:
        """Return how much history of the project is stored."""
        ...

    def history_since(self, project: int) -> int | None:
        """Return since when all changes of the project are kept, in ms since 1970 UTC; None if history is off."""
        ...

    def history_blocks(self, project: int, below: int | None, limit: int) -> list[HistoryBlock]:
        """Return up to `limit` blocks of history, newest first, with numbers below `below` (None: from the newest on)."""
        ...

    def history_growth(self, project: int, since: int) -> HistoryGrowth:
        """Return how much history was added since a moment (ms since 1970 UTC), to the hour."""
        ...

    def prune_history(self, project: int, before: int | None, excess: int, now: int) -> PrunedHistory:
        """Remove some of the oldest history: blocks whose changes are before a moment, and as many as have the excess bytes.

        Call it until it removes nothing. :meth:`history_since` moves forward with it. An engine whose newest block gives the
        next one its number keeps that one.

        Args:
            before: ms since 1970 UTC. None for all blocks, provided that history is off; if it is on, nothing is removed.
            excess: number of bytes to remove whatever their age; 0 or less for none.
            now: ms since 1970 UTC. Blocks of a later time do not keep those after them.
        """
        ...

    def forget_erased(self, project: int) -> None:
        """Remove what history has of erased users because a server that should have removed it was killed before.

        Whether or not the project's history is on. Each call searches what was not searched yet, but nothing that open
        transactions may still change.
        """
        ...

    def pack_history(self, project: int, before: int) -> PackedHistory:
        """Pack a stretch of the oldest blocks that are not packed, if all their changes are before a moment.

        Call it until it packs nothing. It is busy while another server packs or prunes, or a user is erased.

        Args:
            before: ms since 1970 UTC.
        """
        ...


class Store(Remembering, Copyable, Browsable, Arriving, SigningIn, Protocol):
    """The interface that every engine implements. All calls block. All except `close` may come from any thread.

    Any call may raise :class:`~usertable.domain.errors.StoreDown`. Nothing was changed then; or, if the engine cannot know
    (the connection was lost during commit), a retry with the same receipt returns the result.
    """

    @property
    def migration(self) -> Migration | None:
        """The migration that opening the store ran; None if there was none, or the store was created."""
        ...

    def transact(self, command: Callable[[Transaction], T], *, background: bool = False) -> T:
        """Run a command in a transaction, which is durable when this returns. If the command raises, nothing is stored.

        The command may be run again if the transaction was lost and cannot have changed anything.

        Args:
            background: let other calls that wait for the store go first.
        """
        ...

    def write(self, writes: Sequence[Write], command: WriteCommand) -> list[Result]:
        """Run the command on the writes and make the changes durable. Return one result per write, in order.

        Two writes to one user see each other in order. The engine may split the batch into several transactions, as long as
        one user's writes stay together. It may also merge a part itself, with a second implementation of the rules that the
        tests compare with the first. If a part fails, each of its writes has the exception as its result, and nothing of
        that part was stored. If this raises, nothing of the batch was stored.
        """
        ...

    def read(self, project: int, cuid: int) -> User | None:
        """Return the user, or None. Sees every write that was answered before the call."""
        ...

    def job(self, project: int, name: str) -> str | None:
        """Return the state of the import with this name; None if there is none."""
        ...

    def snapshot(self, project_id: str) -> AbstractContextManager[Snapshot]:
        """Return the project as of now, without later writes, which continue. Raises Refused if there is none.

        On Citus each machine has its own moment, milliseconds apart.
        """
        ...

    def resolve_identifiers(self, project: int, identifier: str, values: Sequence[str]) -> dict[str, int]:
        """Return the CUIDs that own the values. Values without an owner are left out."""
        ...

    def epoch(self) -> int:
        """Return a number that changes whenever a project is created or changed. Fast."""
        ...

    def versions(self) -> dict[str, int]:
        """Return the version of every project by its ID. Fast."""
        ...

    def stored_key(self, project: int, name: str) -> Key | None:
        """Return a key of the project, revoked or not; None if none with that name is stored."""
        ...

    def revoked_keys(self, project: int, after: tuple[int, str] | None, limit: int) -> list[Key]:
        """Return revoked keys of the project, which it is not loaded with; the last revoked first.

        Args:
            after: when the last key of the previous page was revoked, in ms since 1970 UTC, and its name; None for the first
                page.
        """
        ...

    def projects(self) -> list[Project]:
        """Return all projects, by number."""
        ...

    def project(self, project_id: str) -> Project | None:
        """Return the project with this ID, as callers send it."""
        ...

    def attributes(self, project: int) -> tuple[int, Mapping[str, Attribute]]:
        """Return the version of the project with this number, and its attributes by name."""
        ...

    def audit(
        self, project: int, wanted: AuditFilter, limit: int, *, before: int | None = None, after: int | None = None
    ) -> list[AuditEntry]:
        """Return up to `limit` entries of the audit log of a project or the installation, newest first.

        Args:
            before: only entries with a lower number.
            after: only entries with a higher number, oldest first. Continuing after the last one never skips an entry.
        """
        ...

    def expire_receipts(self, before: int) -> int:
        """Delete receipts created before that moment (ms since 1970 UTC), some thousands at most. Return how many."""
        ...

    def ping(self) -> None:
        """Return if the store can be reached and accepts writes. Writes a little, if that is the only way to know."""
        ...

    def figures(self) -> StoreFigures:
        """Return the size of the store's files and the use of its connections. Fast: does not query a database."""
        ...

    def close(self) -> None:
        """Release all resources. No call may be running or follow."""
        ...
