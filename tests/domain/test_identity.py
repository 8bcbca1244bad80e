"""The form of a CUID and of an identifier value."""

from __future__ import annotations

import pytest

from usertable.domain.identity import MAX_CUID, is_cuid, is_identifier_value, parse_cuid


@pytest.mark.parametrize(
    ("text", "cuid"),
    [
        ("1", 1),
        ("10000001", 10_000_001),
        ("9223372036854775807", MAX_CUID),
        ("9223372036854775808", None),
        ("0", None),
        ("007", None),
        ("-1", None),
        ("+1", None),
        (" 1", None),
        ("1\n", None),
        ("1.0", None),
        ("１", None),
        ("", None),
        ("1" * 5000, None),
    ],
)
def test_a_cuid_is_spelled_in_digits(text: str, cuid: int | None) -> None:
    assert parse_cuid(text) == cuid


def test_a_person_may_type_leading_zeros() -> None:
    assert parse_cuid("007", leading_zeros=True) == 7
    assert parse_cuid("000", leading_zeros=True) is None


def test_a_cuid_is_a_positive_integer_of_64_bits() -> None:
    assert [is_cuid(value) for value in (1, MAX_CUID, 0, -1, MAX_CUID + 1, True, "1", 1.0, None)] == [True] * 2 + [False] * 7


def test_an_identifiers_value_is_a_text_that_can_be_stored() -> None:
    good = ["a", "字" * 256, "\x01", "😀"]
    bad = ["", "a" * 257, "a\0", "\ud800", 1, None]
    assert all(map(is_identifier_value, good))
    assert not any(map(is_identifier_value, bad))
