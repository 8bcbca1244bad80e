"""What a write did to a user: per attribute what was sent, what was there before, and what is there after.

This is what engines keep of a write, and what a history or a feed of it can be made of.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from usertable.domain.profile import Outcome, Profile
from usertable.domain.values import Value


class Absent(Enum):
    """The type of :data:`ABSENT`."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT
"""In place of a value: the attribute has none."""


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
class UserChange:
    """A write that changed a user: the row after it, and each of the attributes that it sent, in order."""

    cuid: int
    profile: Profile
    attributes: dict[str, AttributeChange]


def last_profiles(changes: Iterable[UserChange]) -> dict[int, Profile]:
    """The row of each user after all its changes, by CUID; changes are in order."""
    return {change.cuid: change.profile for change in changes}


def set_and_unset(changes: Iterable[UserChange]) -> dict[int, tuple[dict[str, Value], list[str]]]:
    """By CUID, the attributes that have other values after all changes, and those that have none any more."""
    users: dict[int, dict[str, Value | Absent]] = {}
    for change in changes:
        after = users.setdefault(change.cuid, {})
        for name, attribute in change.attributes.items():
            if attribute.outcome is Outcome.APPLIED:
                after[name] = attribute.after
    return {
        cuid: (
            {name: value for name, value in after.items() if value is not ABSENT},
            [name for name, value in after.items() if value is ABSENT],
        )
        for cuid, after in users.items()
    }
