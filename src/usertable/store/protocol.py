"""What every engine promises: role by role, and whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from usertable.domain.arrival import Arrival, Arrivals, Rate
from usertable.domain.condition import Condition
from usertable.domain.errors import ProblemKind
from usertable.domain.schema import Attribute, Project
from usertable.store.records import (
    ColumnValues,
    FilledCount,
    ImportResult,
    MatchCount,
    Page,
    Result,
    SchemaChange,
    Selection,
    StoreFigures,
    User,
    Write,
)
from usertable.store.tables import Row, TableSpec
from usertable.store.transaction import Transaction, WriteCommand

T = TypeVar("T")
NextState = Callable[[ImportResult], str]
"""Makes a job's new state of what came of a batch, before it is committed; may be asked again for the same batch."""


class Snapshot(Protocol):
    """A project as of one moment, however long it is looked at."""

    @property
    def project(self) -> Project: ...

    def count(self) -> int:
        """How many users there are."""
        ...

    def pages(self, *, rows: bool = False) -> Iterator[Page]:
        """All users by CUID, some thousands at a time; with `rows`, their versions and times too."""
        ...


class Copyable(Protocol):
    """What an engine does for those who copy a store as it is, from or into it. Nobody else may use the store meanwhile."""

    def count(self, project: int, spec: TableSpec) -> int:
        """How many rows the project has in that table."""
        ...

    def rows(self, project: int, spec: TableSpec, after: Row | None, limit: int) -> list[Row]:
        """Up to `limit` rows in the order of their keys (texts by their UTF-8 bytes), after that key."""
        ...

    def last(self, project: int, spec: TableSpec) -> Row | None:
        """The key of the last row; None if there is none."""
        ...

    def load(self, project: int, spec: TableSpec, rows: Sequence[Row]) -> None:
        """Keep rows, all of them or none. The project need not be there yet."""
        ...

    def next_cuid(self, project: int) -> int:
        """The next CUID that the project would give."""
        ...

    def finish_copy(self, project: Project, next_cuid: int) -> None:
        """Keep the project itself, with the number that it has."""
        ...


class Browsable(Protocol):
    """What an engine does for those who look through the user table.

    Every call looks at a chunk of the table: the next `examine` users by CUID after `after` (None: from the start), at
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
        """The first users of the chunk that meet all conditions, `limit` at most; `descending` goes down from `after`.

        What meets a condition is what :meth:`~usertable.domain.condition.Condition.met` says, exact numbers included.
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
        """Count the users of the chunk that meet all conditions; the `keep` last updated ones, or first with `oldest`.

        They are in the order of `updated_at` and, among equals, CUID; both descending unless `oldest`.
        """
        ...

    def column_values(self, project: int, attribute: str, after: int | None, examine: int) -> ColumnValues:
        """The values of an attribute in the chunk, by CUID; users without one are left out."""
        ...

    def count_filled(self, project: int, after: int | None, examine: int) -> FilledCount:
        """Count, by attribute, the users of the chunk that have a value."""
        ...

    def read_many(self, project: int, cuids: Sequence[int]) -> list[User]:
        """Those of the users that exist, in the order of `cuids`."""
        ...

    def cuid_range(self, project: int) -> tuple[int, int] | None:
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

    def refusals(self, project: int, since: int) -> list[tuple[ProblemKind, str | None, int, int]]:
        """By kind and attribute, how many refusals there were from that moment on, and the moment of the newest."""
        ...

    def last_writes(self, project: int) -> dict[str, int]:
        """By attribute, when an accepted request or an import last had it; ms since 1970 UTC, to the second."""
        ...

    def expire_arrivals(self, before: int) -> None:
        """Forget what came in before that moment, and all samples but the newest of each project."""
        ...


class Store(Copyable, Browsable, Arriving, Protocol):
    """What every engine promises. All calls block; all but `close` may come from any thread.

    Any call may raise :class:`~usertable.domain.errors.StoreDown`: nothing was changed then, or, if the engine cannot
    tell (a connection lost during commit), a retry with the same receipt tells.
    """

    def transact(self, command: Callable[[Transaction], T], *, background: bool = False) -> T:
        """Run a command in a transaction that is durable when this returns; of a command that raises, nothing is kept.

        The command may be run again if the transaction was lost and can have changed nothing.

        Args:
            background: let others, who wait for the store, go first.
        """
        ...

    def write(self, writes: Sequence[Write], command: WriteCommand) -> list[Result]:
        """Run the command on the writes and make the changes durable before returning; one result per write, in order.

        Two writes to one user see each other in order. The engine may cut the batch into several transactions, as long as a
        user's writes stay together, or merge a part of it by itself (a twin of the rules, which tests compare with them). A
        part that failed has its failure as the result of each of its writes: nothing of that part was kept. Whatever this
        raises: none of the batch was kept.
        """
        ...

    def read(self, project: int, cuid: int) -> User | None:
        """The user, or None. Sees every write that was answered before the call."""
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

    def schema_changes(self, project: int, limit: int) -> list[SchemaChange]:
        """The newest `limit` changes of the project, newest first."""
        ...

    def expire_receipts(self, before: int) -> int:
        """Forget receipts made before that moment (ms since 1970 UTC), some thousands at most; how many it were."""
        ...

    def ping(self) -> None:
        """Return if the store can be reached, and takes writes. Makes a small one if only that tells."""
        ...

    def figures(self) -> StoreFigures:
        """How large the store's files are and how many of its connections are in use; quick, without asking a database."""
        ...

    def close(self) -> None:
        """Release everything. No call may follow or be under way."""
        ...
