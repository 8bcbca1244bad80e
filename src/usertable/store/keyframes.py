"""Keyframes: whole rows among a user's changes.

To learn a user's row as of an earlier moment, one takes its changes back one by one, from the newest on. For a user with
thousands of changes that would take long, so every 16th version of a row is stored whole, and one begins with the oldest
keyframe after the moment. Large rows are stored less often, so that keyframes take at most 64 bytes per change.

A keyframe has no attributes whose history is off. It has no identifier values either: they are those that the user has now,
because when a user gets one, its keyframes are removed. Nothing else depends on keyframes, so they may be missing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from usertable.domain.change import UserChange
from usertable.domain.profile import Profile
from usertable.domain.values import Value
from usertable.store.encoding import decode_attributes, encode_attributes
from usertable.store.tables import Row

VERSIONS = 16
"""Number of versions from one keyframe of a user to the next. A store may have keyframes with another distance."""
ROW_BYTES = 1024
"""Bytes of attributes as JSON above which the distance grows, in proportion."""


@dataclass(frozen=True, slots=True)
class Keyframe:
    """A user's row, as a change left it."""

    number: int
    """The number of the change."""
    cuid: int
    version: int
    at: int
    """The time of the change; ms since 1970 UTC."""
    attributes: dict[str, Value]

    @property
    def size(self) -> int:
        """Bytes of the attributes as JSON."""
        return len(encode_attributes(self.attributes))

    @property
    def row(self) -> Row:
        """Its row of the table :data:`~usertable.store.tables.KEYFRAMES`."""
        return self.number, self.cuid, self.version, self.at, self.attributes

    def profile(self, present: Profile) -> Profile:
        """Return the row, given the one in the store. When its attributes changed is not known."""
        return replace(
            present,
            version=self.version,
            updated_at=self.at,
            attributes=self.attributes,
            changed_at={},
            head=self.number,
            sole_actor="",
        )


def keyframes_of(changes: Sequence[UserChange], unrecorded: Callable[[], Collection[str]]) -> list[Keyframe]:
    """Return the keyframes of changes, after those that are recorded got their numbers.

    Args:
        unrecorded: returns the attributes whose history is off, which keyframes do not have either.
    """
    found: list[Keyframe] = []
    left_out: Collection[str] | None = None
    for change in changes:
        profile = change.decision.profile
        version = profile.version
        if version % VERSIONS == 0 and change.origin is not None and profile is not change.decision.before:
            left_out = unrecorded() if left_out is None else left_out
            attributes = {name: value for name, value in profile.attributes.items() if name not in left_out}
            keyframe = Keyframe(profile.head, change.cuid, version, profile.updated_at, attributes)
            if version // VERSIONS % (1 + keyframe.size // ROW_BYTES) == 0:
                found.append(keyframe)
    return found


def encode_keyframe(row: Row) -> Row:
    """Return a row of the table :data:`~usertable.store.tables.KEYFRAMES` with its attributes as JSON text."""
    return (*row[:-1], encode_attributes(row[-1]))


def decode_keyframe(row: Row) -> Row:
    """The inverse of :func:`encode_keyframe`."""
    return (*row[:-1], decode_attributes(row[-1]))
