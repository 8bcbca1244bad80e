"""The effect of a write on a user: for each attribute, the value sent, the value before, and the value after.

Engines store this for each write, with its origin: see :mod:`usertable.domain.history`.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from typing import Protocol

from usertable.domain.actor import Actor, ActorKind
from usertable.domain.errors import Problem
from usertable.domain.patch import Patch, Restoration
from usertable.domain.profile import Outcome, Profile
from usertable.domain.values import ABSENT, Absent, Value


class ChangeKind(StrEnum):
    """What made a change."""

    WRITE = "write"
    """A write of attributes, or a report that changed nothing but came from another actor."""
    CREATED = "created"
    """The user was created: by Get CUID, by hand, or by an import, whose first values belong to it."""
    IMPORT = "import"
    """A row of an import."""
    IDENTIFIER = "identifier"
    """The user got identifier values, and no attribute changed."""
    UNDO = "undo"
    """Values were restored, whatever their rules."""
    ERASED = "erased"
    """The user was erased. Nothing else of the user's history is left."""


class Creation(StrEnum):
    """How a user was created, as far as the actor tells it."""

    IMPORT = "import"
    """By an import into the store."""
    API = "api"
    """By a call with a key or the admin token: Get CUID, a batch, an import through a URL, or a single user."""
    CONSOLE = "console"
    """By a person who was signed in to the console."""
    COMMAND = "command"
    """By a command on the store."""


_CREATIONS = {
    ActorKind.IMPORT: Creation.IMPORT,
    ActorKind.KEY: Creation.API,
    ActorKind.ADMIN_TOKEN: Creation.API,
    ActorKind.PERSON: Creation.CONSOLE,
    ActorKind.CLI: Creation.COMMAND,
}


@dataclass(frozen=True, slots=True)
class Origin:
    """Who makes changes, and for what. All writes of a caller share one, so the ID of the request is not part of it."""

    actor: str
    """As :class:`~usertable.domain.actor.Actor` is written: `key:orders`."""
    source: str = ""
    """Name that the caller gave: a release or a job; empty for none. At most 100 characters."""
    occurred_at: int | None = None
    """When it happened, according to the caller; ms since 1970 UTC."""

    @classmethod
    def of(cls, actor: Actor) -> Origin:
        """Return the origin of what an actor does."""
        return cls(str(actor), actor.source)


@dataclass(slots=True)
class AttributeChange:
    """One attribute of a write.

    Example: 5 added to 20 by the rule accumulate is `AttributeChange(5, 20, 25, Outcome.APPLIED)`.
    """

    sent: Value | Absent
    before: Value | Absent
    after: Value | Absent
    outcome: Outcome


@dataclass(slots=True)
class Decision:
    """The effect of a write on a profile. If nothing changes, `profile` is the same object as `before`."""

    before: Profile
    patch: Patch | Restoration
    profile: Profile
    outcomes: dict[str, Outcome]
    """The outcome of each attribute, in the order sent."""
    problems: list[Problem]
    """If not empty, the whole write is refused and changes nothing."""

    @property
    def changes(self) -> dict[str, AttributeChange]:
        """The change of each attribute, in the order sent. Computed on use, because most are never read."""
        if self.problems:
            return {}
        before, after, outcomes = self.before.attributes, self.profile.attributes, self.outcomes
        return {
            a.name: AttributeChange(sent, before.get(a.name, ABSENT), after.get(a.name, ABSENT), outcomes[a.name])
            for a, sent in self.patch.entries
        }


class Numbered(Protocol):
    """What is told the number of a change once it has one."""

    change: int | None


@dataclass(slots=True)
class UserChange:
    """A write that changed a user, or one that is to be recorded although it changed no attribute."""

    cuid: int
    decision: Decision
    origin: Origin | None = None
    """None if the change is not recorded: the project's history is off."""
    request: str = ""
    """ID of the HTTP request; empty if there was none."""
    kind: ChangeKind = ChangeKind.WRITE
    identifiers: Sequence[tuple[str, str]] = ()
    """Identifier values that the user got: identifier and value."""
    at: int = 0
    """When it was decided; ms since 1970 UTC. The row's own time may be later, if a clock was set back."""
    results: Sequence[Numbered] = ()
    """What has the number of the change: the answer to the caller, and the one that is stored with its key."""


LONGEST_IN_ROW = 16
"""Maximum characters of an actor that rows have by name. The job of an import is often the path of a file."""


@lru_cache(maxsize=1024)
def actor_in_row(actor: str) -> str:
    """Return an actor as a user's row has it, which is only compared: a long one as `#` and 12 characters of a hash.

    So is one with a control character, such as an import of a file with a tab in its name.
    """
    if len(actor) <= LONGEST_IN_ROW and actor.isprintable():
        return actor
    return "#" + urlsafe_b64encode(blake2b(actor.encode(), digest_size=9).digest()).decode()


def is_sole_actor(profile: Profile, actor: str) -> bool:
    """Return whether an actor is known to be behind all values of a row. Rows of earlier versions have its whole name."""
    return profile.sole_actor in (actor_in_row(actor), actor)


def sole_actor(before: Profile, origin: Origin | None) -> str:
    """Return what a row has after a change as :attr:`~usertable.domain.profile.Profile.sole_actor`."""
    if origin is None:
        return ""
    # Not by is_sole_actor, because it is done for every write.
    actor = actor_in_row(origin.actor)
    return actor if before.sole_actor == actor or not before.attributes or before.sole_actor == origin.actor else ""


@dataclass(slots=True)
class Report:
    """One attribute of a change: what was sent, and what stood before."""

    sent: Value | Absent
    before: Value | Absent
    """For the rule append, see `elements`; then it is ABSENT."""
    elements: int | None = None
    """For the rule append, the number of elements before; None if there was no list."""
    added: list[str] | None = None
    """For the rule append, the elements that were not in the list; None for all of `sent`."""


@dataclass(slots=True)
class Change:
    """A recorded change of a user."""

    number: int
    """Grows. Unique in the project."""
    cuid: int
    version: int
    """The version of the row after the change."""
    changed: bool
    """Whether it changed an attribute, which increments the version."""
    previous: int
    """The number of the user's change before this one; 0 if there is none. It may no longer be kept."""
    at: int
    """Milliseconds since 1970 UTC. Never less than that of an earlier change of an attribute of the user."""
    since: int
    """When the row before the change was last changed."""
    kind: ChangeKind
    origin: Origin
    request: str = ""
    """ID of the HTTP request; empty if there was none."""
    reports: Mapping[str, Report] = field(default_factory=dict)
    """By attribute, in the order sent."""
    identifiers: list[tuple[str, str]] = field(default_factory=list)
    """Identifier values that the user got: identifier and value."""

    @property
    def creation(self) -> Creation | None:
        """How the user was created; None if this is another change, or if the actor does not tell it."""
        by, _, _ = self.origin.actor.partition(":")
        return _CREATIONS.get(ActorKind(by)) if self.kind is ChangeKind.CREATED and by in set(ActorKind) else None

    @property
    def size(self) -> int:
        """The approximate number of characters of its values."""
        return sum(_size(report.sent) + _size(report.before) for report in self.reports.values())


def _size(value: Value | Absent) -> int:
    if isinstance(value, list):
        return sum(map(len, value))
    return len(value) if isinstance(value, str) else 0


def last_profiles(changes: Iterable[UserChange]) -> dict[int, Profile]:
    """Return each user's row after all its changes, by CUID. `changes` are in order."""
    return {change.cuid: change.decision.profile for change in changes}


def set_and_unset(changes: Sequence[UserChange]) -> dict[int, tuple[dict[str, Value], list[str]]]:
    """Return, by CUID, the attributes whose values differ after all changes, and those that no longer have one."""
    changed: dict[int, dict[str, None]] = {}
    for change in changes:
        outcomes = change.decision.outcomes
        applied = [name for name, outcome in outcomes.items() if outcome is Outcome.APPLIED]
        changed.setdefault(change.cuid, {}).update(dict.fromkeys(applied))
    rows = {cuid: profile.attributes for cuid, profile in last_profiles(changes).items()}
    return {
        cuid: (
            {name: rows[cuid][name] for name in names if name in rows[cuid]},
            [name for name in names if name not in rows[cuid]],
        )
        for cuid, names in changed.items()
    }
