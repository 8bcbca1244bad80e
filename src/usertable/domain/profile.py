"""A user's row, and the effects of a write on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from json.encoder import encode_basestring

from usertable.domain.values import Value

OTHER_ATTRIBUTES = ""
"""Not the name of an attribute: stands for all attributes that a `changed_at` does not name."""


class Outcome(StrEnum):
    """The outcome of one attribute of a write."""

    APPLIED = "applied"
    """The stored value changed."""
    UNCHANGED = "unchanged"
    """The result equals the stored value."""
    KEPT = "kept"
    """The rule is once and a value existed: the new value was ignored."""


class Effect(StrEnum):
    """The effect of an imported row on its user."""

    CREATED = "created"
    """The row created the user."""
    CHANGED = "changed"
    """The row set a value or added an identifier value."""
    UNCHANGED = "unchanged"


@dataclass(slots=True)
class Profile:
    """A user's row: attribute values by name, the number of the last change, times in ms since 1970 UTC."""

    version: int
    created_at: int
    updated_at: int
    attributes: dict[str, Value]
    changed_at: dict[str, int]
    """When attributes last changed, by name, in ms since 1970 UTC: `{"level": 1700000000000}`.

    Attributes that are not named last changed at the time of :data:`OTHER_ATTRIBUTES` (0 if unknown); without that entry,
    when the user was created. So values that are written once usually take no space.
    """

    maximum_bytes: int = field(default=-1, compare=False, repr=False)
    """Upper bound of the attributes' bytes as JSON text (:func:`row_bytes`); negative if not computed."""
    head: int = field(default=0, compare=False)
    """The number of the newest recorded change; 0 if there is none."""
    sole_actor: str = field(default="", compare=False)
    """The actor behind all values of the row, as :func:`~usertable.domain.change.actor_in_row` gives it; empty if there are
    several, or if unknown."""

    @classmethod
    def new(cls, now: int) -> Profile:
        """Return the profile of a user that is created now."""
        return cls(1, now, now, {}, {}, 2)

    def changed(self, name: str) -> int | None:
        """Return when an attribute with a value last changed; None if that was before change times were stored."""
        return self.changed_at.get(name, self.changed_at.get(OTHER_ATTRIBUTES, self.created_at)) or None


def row_bytes(attributes: Mapping[str, Value]) -> int:
    """Return the size of a user's row: bytes of its attributes as JSON text in UTF-8, `{"city":"Paris","level":3}`."""
    members = sum(value_bytes(name) + 1 + value_bytes(value) for name, value in attributes.items())
    return 1 + members + max(1, len(attributes))


def value_bytes(value: Value) -> int:
    """Return the bytes of a value as JSON text in UTF-8."""
    if type(value) is str:
        return len(encode_basestring(value).encode())
    if type(value) is list:
        return 1 + sum(map(value_bytes, value)) + max(1, len(value))
    if type(value) is bool:
        return 4 if value else 5
    return len(str(value))


def maximum_bytes(name: str, value: Value) -> int:
    """Return a fast upper bound of the bytes that a value adds to a row: no character takes more than six bytes."""
    if type(value) is str:
        return 6 * (len(name) + len(value)) + 6
    if type(value) is list:
        return 6 * (len(name) + sum(map(len, value)) + len(value)) + 6
    # A NUMBER has 38 significant digits, with an exponent within ±38.
    return 6 * len(name) + 100
