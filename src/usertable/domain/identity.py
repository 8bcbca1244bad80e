"""The form of a CUID and of an identifier value."""

from __future__ import annotations

import re

from usertable.domain.errors import Problem, ProblemKind, excerpt, phrase
from usertable.domain.phrases import PhraseKind

MAX_CUID = 2**63 - 1
MAX_VALUE_CHARACTERS = 256
"""Maximum number of characters of an identifier value."""
EXPECTED_VALUE = phrase(PhraseKind.IDENTIFIER_VALUE, maximum=MAX_VALUE_CHARACTERS)
"""The expected form, for the problem with a text that cannot be an identifier value."""
_DIGITS = re.compile(r"[0-9]{1,19}")


def is_cuid(value: object) -> bool:
    """Return whether `value` is an integer that can be a CUID: 1 to `MAX_CUID`."""
    return type(value) is int and 1 <= value <= MAX_CUID


def parse_cuid(text: str, *, leading_zeros: bool = False) -> int | None:
    """Return the CUID in a text of at most 19 digits, such as `"10000001"`; None if there is none.

    Args:
        leading_zeros: accept `"0010000001"` too.
    """
    if not _DIGITS.fullmatch(text) or (text.startswith("0") and not leading_zeros):
        return None
    cuid = int(text)
    return cuid if is_cuid(cuid) else None


def malformed_cuid(value: object) -> Problem:
    """Return the problem with a value that is not a CUID."""
    return Problem(ProblemKind.CUID_MALFORMED, None, {"value": excerpt(value)})


def is_identifier_value(value: object) -> bool:
    """Return whether `value` can be an identifier value: 1 to 256 characters, without NUL and halves of surrogate pairs."""
    if type(value) is not str or not 1 <= len(value) <= MAX_VALUE_CHARACTERS or "\0" in value:
        return False
    return value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value)
