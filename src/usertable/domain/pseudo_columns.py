"""Pseudo-columns: what every user's row has in addition to its attributes, as filters and exports name it."""

from __future__ import annotations

from collections.abc import Callable

from usertable.domain.profile import Profile
from usertable.domain.schema import Attribute, Rule
from usertable.domain.values import DataType

_TYPES = {
    "@cuid": DataType.NUMBER,
    "@version": DataType.NUMBER,
    "@created_at": DataType.DATETIME,
    "@updated_at": DataType.DATETIME,
}
PSEUDO_COLUMNS = {name: Attribute(name, data_type, Rule.OVERWRITE) for name, data_type in _TYPES.items()}
"""By name, as attributes. No attribute has such a name. Every user has a value for each, a 64-bit integer."""
_VALUES: dict[str, Callable[[int, Profile], int]] = {
    "@cuid": lambda cuid, profile: cuid,
    "@version": lambda cuid, profile: profile.version,
    "@created_at": lambda cuid, profile: profile.created_at,
    "@updated_at": lambda cuid, profile: profile.updated_at,
}


def pseudo_value(name: str, cuid: int, profile: Profile) -> int:
    """Return a user's value of a pseudo-column; times are in milliseconds since 1970 UTC."""
    return _VALUES[name](cuid, profile)
