"""A user's row, and what a write does to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from json.encoder import encode_basestring

from usertable.domain.values import Value

OTHER_ATTRIBUTES = ""
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
    """When attributes last changed, by name, in ms since 1970 UTC: `{"level": 1700000000000}`.

    All that it does not name changed when :data:`OTHER_ATTRIBUTES` says (0 if that is not known); without that, when the
    user was made. So most of what is written once takes no room.
    """

    maximum_bytes: int = field(default=-1, compare=False, repr=False)
    """Upper bound of the attributes' bytes as JSON text (:func:`row_bytes`); negative if not counted."""

    @classmethod
    def new(cls, now: int) -> Profile:
        """Of a user that is made now."""
        return cls(1, now, now, {}, {}, 2)

    def changed(self, name: str) -> int | None:
        """When an attribute that has a value last changed; None for longer ago than such times are kept."""
        return self.changed_at.get(name, self.changed_at.get(OTHER_ATTRIBUTES, self.created_at)) or None


def row_bytes(attributes: Mapping[str, Value]) -> int:
    """The size of a user's row: bytes of its attributes as JSON text in UTF-8, `{"city":"Paris","level":3}`."""
    members = sum(value_bytes(name) + 1 + value_bytes(value) for name, value in attributes.items())
    return 1 + members + max(1, len(attributes))


def value_bytes(value: Value) -> int:
    """Bytes of a value as JSON text in UTF-8."""
    if type(value) is str:
        return len(encode_basestring(value).encode())
    if type(value) is list:
        return 1 + sum(map(value_bytes, value)) + max(1, len(value))
    if type(value) is bool:
        return 4 if value else 5
    return len(str(value))


def maximum_bytes(name: str, value: Value) -> int:
    """A bound on what a value can add to a row, quick to find: no character takes more than six bytes."""
    if type(value) is str:
        return 6 * (len(name) + len(value)) + 6
    if type(value) is list:
        return 6 * (len(name) + sum(map(len, value)) + len(value)) + 6
    # A NUMBER has 38 significant digits, with an exponent within ±38.
    return 6 * len(name) + 100
