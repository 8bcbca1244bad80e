"""Transactions: what a command loads, what it gets, and what it stores.

A command loads what it needs, decides, and stores the result:

    loaded = transaction.load({1: Wanted(cuids=[10000001], keys=["k"])})[1]
    transaction.keep([Mutation(1, changes=[UserChange(10000001, decision)], receipts=[…])])
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from usertable.domain.actor import Actor
from usertable.domain.audit import AuditEvent
from usertable.domain.change import Change, Origin, UserChange
from usertable.domain.key import Key
from usertable.domain.person import Person, Session
from usertable.domain.profile import Profile
from usertable.domain.schema import Project
from usertable.store.records import NewReceipt, Result, StoredReceipt, Write


@dataclass(slots=True)
class Wanted:
    """What a command needs of a project. The project's schema does not change until the transaction ends."""

    cuids: Collection[int] = ()
    """Users whose rows are needed. No other transaction changes them until this one ends."""
    keys: Sequence[str] = ()
    """Keys of the receipts that are needed."""
    values: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By identifier, values whose owners are needed."""
    rows_of_owners: bool = False
    """Also load the rows of these owners, with all their identifier values."""
    project: bool = False
    """Load the project itself, and which of the CUIDs were erased."""
    makes_users: bool = False
    """Users will be created or erased. No other transaction does so until this one ends. Also loads unused CUIDs."""
    job: str | None = None
    """The import job whose state is needed. No other transaction changes it until this one ends."""


@dataclass(slots=True)
class Loaded:
    """The loaded data of a project. Commands update it as they proceed."""

    version: int | None = None
    """The project's version; None if there is no such project."""
    profiles: dict[int, Profile] = field(default_factory=dict)
    """By CUID. A requested user that is not in it does not exist."""
    receipts: dict[str, StoredReceipt] = field(default_factory=dict)
    """By key."""
    owners: dict[tuple[str, str], int] = field(default_factory=dict)
    """CUIDs by identifier and value."""
    values: dict[int, dict[str, list[str]]] = field(default_factory=dict)
    """The identifier values of the requested users and owners, by CUID and identifier."""
    project: Project | None = None
    erased: set[int] = field(default_factory=set)
    unused: Iterator[int] = field(default_factory=lambda: iter(()))
    """CUIDs that were never assigned, from the project's counter on, ascending."""
    job: str | None = None
    """The state of the import job; None if there is none."""


@dataclass(slots=True)
class Mutation:
    """A command's changes to a project. All become durable, or none."""

    project: int
    changes: list[UserChange] = field(default_factory=list)
    """Changes of existing users, in order. Those that have an origin are recorded."""
    created: list[tuple[int, int, str]] = field(default_factory=list)
    """New users: CUID, version, and attributes as :func:`~usertable.store.encoding.encode_attributes` encodes them."""
    created_at: int = 0
    """When they were created and last changed, in milliseconds since 1970 UTC. Also the time of `erased`."""
    origin: Origin | None = None
    """Who created or erased users; None if it is not recorded, because the project's history is off."""
    request: str = ""
    """ID of the HTTP request that did; empty if there was none."""
    values: list[tuple[int, str, str]] = field(default_factory=list)
    """New identifier values: CUID, identifier, value."""
    reported: set[str] = field(default_factory=set)
    """Attributes of which a user now has a value, possibly for the first time."""
    receipts: list[NewReceipt] = field(default_factory=list)
    next_cuid: int = 0
    """Minimum of the project's counter."""
    erased: list[int] = field(default_factory=list)
    """Users to remove, with identifier values, what history has of them, and receipts and samples that show their data."""
    job: tuple[str, str] | None = None
    """An import job and its new state."""

    @property
    def identified(self) -> set[int]:
        """The existing users that get identifier values."""
        return {cuid for cuid, _, _ in self.values}.difference([cuid for cuid, _, _ in self.created])


class Transaction(Protocol):
    """The engine's side of a command: it loads and stores, and decides nothing."""

    def load(self, wanted: Mapping[int, Wanted]) -> dict[int, Loaded]:
        """Load what is wanted, by project number. May be called again for data that turned out to be needed."""
        ...

    def keep(self, mutations: Sequence[Mutation]) -> None:
        """Store the changes. Called at most once per transaction, as its last step."""
        ...

    def changes(self, project: int, cuid: int, head: int) -> Iterator[Change]:
        """Yield a loaded user's recorded changes, newest first, as far as they are kept.

        Args:
            head: the number of the newest, from the user's profile.
        """
        ...

    def history_since(self, project: int) -> int | None:
        """Return since when the project's changes are all recorded, in ms since 1970 UTC; None if they are not."""
        ...

    def keep_history_since(self, project: int, moment: int | None) -> None:
        """Store since when the project's changes are all recorded; None for no more. Milliseconds since 1970 UTC."""
        ...

    def next_change(self, project: int) -> int:
        """Return a number above those of a project's changes so far, and not above those of later ones.

        Args:
            project: the number of a project that this transaction has read.
        """
        ...

    def newest_change(self, project: int) -> int | None:
        """Return the newest time of the project's last changes, in ms since 1970 UTC; None without changes.

        Changes are stored in about the order of their times, so only the last :data:`~usertable.store.history.LAST_BLOCKS`
        blocks are looked at.
        """
        ...

    def project(self, project_id: str) -> Project | None:
        """Return the project with this ID, or None. No other transaction uses or edits it until this one ends."""
        ...

    def stored_key(self, project: int, name: str) -> Key | None:
        """Return a key of the project, revoked or not; None if none with that name is stored.

        Args:
            project: the number of a project that this transaction has read.
        """
        ...

    def has_project(self, project_id: str) -> bool:
        """Return whether a project has this ID. No other transaction creates one until this one ends."""
        ...

    def add_project(self, project: Project) -> Project:
        """Store a new project, whose ID is free, with its keys and a number that the engine chooses."""
        ...

    def replace_project(self, project: Project, keys: Sequence[Key]) -> None:
        """Replace the stored state of a project.

        Args:
            keys: the stored keys that are new or changed.
        """
        ...

    def record(self, project: int, actor: Actor, events: Sequence[AuditEvent], now: int) -> None:
        """Add entries to the audit log of a project or the installation. They become durable together with the changes.

        Call it before `keep`, which ends the transaction. If there are entries for both logs, add the project's first.

        Args:
            project: its number, or :data:`~usertable.domain.audit.INSTALLATION`.
            now: milliseconds since 1970 UTC.
        """
        ...

    def people(self) -> dict[str, Person]:
        """Return all people, by ID. No other transaction changes people until this one ends."""
        ...

    def keep_person(self, person: Person) -> None:
        """Store a new person, whose ID and email address are free, or a person's new state."""
        ...

    def remove_person(self, id: str) -> None:
        """Remove a person and their sessions."""
        ...

    def add_session(self, session: Session) -> None:
        """Store a new session."""
        ...

    def renew_session(self, session: Session) -> None:
        """Store when a session was last used and when it expires, unless it has been ended."""
        ...

    def end_sessions(self, person: str, *, but: bytes = b"") -> int:
        """End all sessions of the person with this ID, except the one with the digest `but`. Return how many."""
        ...

    def keep_newest_sessions(self, person: str, count: int) -> None:
        """End all sessions of the person with this ID except the `count` that were used last."""
        ...

    def end_session(self, digest: bytes) -> None:
        """End a session if it exists."""
        ...


class WriteCommand(Protocol):
    """Decides a batch of writes in a transaction; see :class:`usertable.commands.write.WriteBatch`."""

    @property
    def row_limit(self) -> int:
        """Maximum bytes of a user's row. An engine that merges on its own must skip rows that may exceed it."""
        ...

    def __call__(self, transaction: Transaction, writes: Sequence[Write], /) -> list[Result]: ...
