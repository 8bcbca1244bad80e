"""What a write did to a user: per attribute what was sent, what was there before, and what is there after.

This is what engines keep of a write, and what a history or a feed of it can be made of.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from usertable.domain.errors import Problem
from usertable.domain.patch import Patch, Restoration
from usertable.domain.profile import Outcome, Profile
from usertable.domain.values import ABSENT, Absent, Value


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
    """What a write does to a profile. `profile` is the very object `before` if nothing changes."""

    before: Profile
    patch: Patch | Restoration
    profile: Profile
    outcomes: dict[str, Outcome]
    """What became of each attribute that was sent, in order."""
    problems: list[Problem]
    """Not empty: the write is refused whole and changes nothing."""

    @property
    def changes(self) -> dict[str, AttributeChange]:
        """Each attribute that was sent, in order. Put together when asked for: most writes are never looked at again."""
        if self.problems:
            return {}
        before, after, outcomes = self.before.attributes, self.profile.attributes, self.outcomes
        return {
            a.name: AttributeChange(sent, before.get(a.name, ABSENT), after.get(a.name, ABSENT), outcomes[a.name])
            for a, sent in self.patch.entries
        }


@dataclass(slots=True)
class UserChange:
    """A write that changed a user."""

    cuid: int
    decision: Decision


def last_profiles(changes: Iterable[UserChange]) -> dict[int, Profile]:
    """The row of each user after all its changes, by CUID; changes are in order."""
    return {change.cuid: change.decision.profile for change in changes}


def set_and_unset(changes: Sequence[UserChange]) -> dict[int, tuple[dict[str, Value], list[str]]]:
    """By CUID, the attributes that have other values after all changes, and those that have none any more."""
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
