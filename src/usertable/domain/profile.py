"""A user's row, and what a write does to it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from usertable.domain.errors import Problem
from usertable.domain.values import Value

REST = ""
"""No attribute's name: stands for all that a `changed_at` does not name."""


class Outcome(StrEnum):
    """What became of one attribute of a write."""

    APPLIED = "applied"
    """The stored value changed."""
    UNCHANGED = "unchanged"
    """The result equals what was stored."""
    KEPT = "kept"
    """Once only, and there was a value: the report was ignored."""


class Effect(StrEnum):
    """What became of the user of a row that was imported."""

    CREATED = "created"
    """The row made the user."""
    CHANGED = "changed"
    """A value was set, or an identifier's value was added."""
    UNCHANGED = "unchanged"


@dataclass(slots=True)
class Profile:
    """A user's row: attribute values by name, the number of the last change, times in ms since 1970 UTC."""

    version: int
    created_at: int
    updated_at: int
    attributes: dict[str, Value]
    changed_at: dict[str, int]
    """When attributes last changed, by name. Of all that it does not name: under :data:`REST`, 0 if that is not known;
    without it, when the user was made. So most of what is written once takes no room."""

    @classmethod
    def new(cls, now: int) -> Profile:
        """Of a user that is made now."""
        return cls(1, now, now, {}, {})

    def changed(self, name: str) -> int | None:
        """When an attribute that has a value last changed; None for longer ago than such times are kept."""
        return self.changed_at.get(name, self.changed_at.get(REST, self.created_at)) or None


@dataclass(slots=True)
class Decision:
    """What a write does to a profile. `profile` is the very object that was passed in if nothing changes."""

    profile: Profile
    outcomes: dict[str, Outcome]
    problems: list[Problem]
    """Not empty: the write is refused whole and changes nothing."""
