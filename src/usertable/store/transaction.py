"""What a command asks a transaction for, what it gets, and what it leaves to be kept.

A command loads what it needs, decides, and keeps what it decided:

    loaded = transaction.load({1: Wanted(cuids=[10000001], keys=["k"])})[1]
    transaction.keep([Mutation(1, changes=[UserChange(10000001, decision)], receipts=[…])])
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from usertable.domain.change import UserChange
from usertable.domain.profile import Profile
from usertable.domain.schema import Project
from usertable.domain.schema_change import Change
from usertable.store.records import NewReceipt, Result, StoredReceipt, Write


@dataclass(slots=True)
class Wanted:
    """What a command wants to know of a project, whose schema stays as it is until the transaction ends."""

    cuids: Collection[int] = ()
    """Users whose rows are wanted. Nobody else changes them until the transaction ends."""
    keys: Sequence[str] = ()
    """Receipts that are wanted."""
    values: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By identifier, values whose owners are wanted."""
    rows_of_owners: bool = False
    """Also the rows of these owners, with all their identifier values."""
    project: bool = False
    """The project itself, and which of the CUIDs were erased."""
    makes_users: bool = False
    """Users will be made or erased: nobody else does until the transaction ends, and unused CUIDs are wanted."""
    job: str | None = None
    """The import job whose state is wanted. Nobody else changes it until the transaction ends."""


@dataclass(slots=True)
class Loaded:
    """What there is of a project. Commands update it as they go."""

    version: int | None = None
    """Of the project; None if there is no such project."""
    profiles: dict[int, Profile] = field(default_factory=dict)
    """By CUID; a wanted user that is not in it does not exist."""
    receipts: dict[str, StoredReceipt] = field(default_factory=dict)
    """By key."""
    owners: dict[tuple[str, str], int] = field(default_factory=dict)
    """CUIDs by identifier and value."""
    values: dict[int, dict[str, list[str]]] = field(default_factory=dict)
    """The identifier values of the wanted users and owners, by CUID and identifier."""
    project: Project | None = None
    erased: set[int] = field(default_factory=set)
    unused: Iterator[int] = field(default_factory=lambda: iter(()))
    """CUIDs that were never given to anybody, from the project's counter on, ascending."""
    job: str | None = None
    """The state of the import job; None if there is none."""


@dataclass(slots=True)
class Mutation:
    """What a command changes in a project: all of it becomes durable, or nothing."""

    project: int
    changes: list[UserChange] = field(default_factory=list)
    """Of users that exist, in order."""
    created: list[tuple[int, int, str]] = field(default_factory=list)
    """New users: CUID, version, and attributes as :func:`~usertable.store.encoding.encode_attributes` writes them."""
    created_at: int = 0
    """When they were made, and last changed. Milliseconds since 1970 UTC."""
    values: list[tuple[int, str, str]] = field(default_factory=list)
    """New identifier values: CUID, identifier, value."""
    reported: set[str] = field(default_factory=set)
    """Attributes that somebody has had a value of, perhaps for the first time."""
    receipts: list[NewReceipt] = field(default_factory=list)
    next_cuid: int = 0
    """The project's counter becomes this if it is lower."""
    erased: list[int] = field(default_factory=list)
    """Users to remove, with their identifier values and all stored answers and samples that show their data."""
    job: tuple[str, str] | None = None
    """An import job, and its new state."""


class Transaction(Protocol):
    """What an engine gives a command: it loads and keeps, and decides nothing."""

    def load(self, wanted: Mapping[int, Wanted]) -> dict[int, Loaded]:
        """What is wanted, by the number of the project. May be called again, for what was found out to be missing."""
        ...

    def keep(self, mutations: Sequence[Mutation]) -> None:
        """Change the projects so, at most once in a transaction, as its last step."""
        ...

    def project(self, project_id: str) -> Project | None:
        """The project with that id, which nobody else uses or edits until the transaction ends. None if there is none."""
        ...

    def has_project(self, project_id: str) -> bool:
        """Whether there is a project with that id. Nobody else makes one until the transaction ends."""
        ...

    def add_project(self, project: Project, actor: str, changes: Sequence[Change]) -> Project:
        """Keep a new project, whose id is free, with a number of the engine's choice, and who made it."""
        ...

    def replace_project(self, project: Project, actor: str, changes: Sequence[Change], now: int) -> None:
        """Keep another state of a project, and who changed what (ms since 1970 UTC)."""
        ...


class WriteCommand(Protocol):
    """Decides a batch of writes in a transaction; see :class:`usertable.commands.write.WriteBatch`."""

    @property
    def row_limit(self) -> int:
        """Bytes that a user's row may have. Whoever merges without asking must leave alone what may be larger after it."""
        ...

    def __call__(self, transaction: Transaction, writes: Sequence[Write], /) -> list[Result]: ...
