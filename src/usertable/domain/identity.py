"""What a CUID and a value of an identifier look like."""

from __future__ import annotations

import re

from usertable.domain.errors import Problem, ProblemKind, excerpt

MAX_CUID = 2**63 - 1
MAX_VALUE_CHARACTERS = 256
"""Maximum number of characters of an identifier's value."""
EXPECTED_VALUE = f"a text of 1 to {MAX_VALUE_CHARACTERS} characters"
"""What to say of a text that no identifier can have as a value."""
_DIGITS = re.compile(r"[0-9]{1,19}")


def is_cuid(value: object) -> bool:
    """Whether `value` is an integer that a user can have as its CUID: 1 to `MAX_CUID`."""
    return type(value) is int and 1 <= value <= MAX_CUID


def parse_cuid(text: str, *, leading_zeros: bool = False) -> int | None:
    """The CUID that a text spells in at most 19 digits, such as `"10000001"`; None if it spells none.

    Args:
        leading_zeros: take `"0010000001"` too.
    """
    if not _DIGITS.fullmatch(text) or (text.startswith("0") and not leading_zeros):
        return None
    cuid = int(text)
    return cuid if is_cuid(cuid) else None


def malformed_cuid(value: object) -> Problem:
    """What is wrong with a value that is no CUID."""
    return Problem(ProblemKind.CUID_MALFORMED, None, {"value": excerpt(value)})


def is_identifier_value(value: object) -> bool:
    """Whether `value` can be an identifier's value: 1 to 256 characters, none of them NUL or half a surrogate pair."""
    if type(value) is not str or not 1 <= len(value) <= MAX_VALUE_CHARACTERS or "\0" in value:
        return False
    return value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value)
