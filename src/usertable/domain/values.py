"""The five data types: what each accepts, and the one form in which its values are stored.

========  ================================================  ==========================================
type      accepted                                          stored as
========  ================================================  ==========================================
NUMBER    a JSON number, or a string that contains one      `int`, or a normalized `Decimal` if not whole
STRING    a string; also a number or true/false             `str`
BOOL      the integers 0 and 1                              `bool`
DATETIME  a string `yyyy-MM-dd HH:mm:ss` in the zone        `int`, milliseconds since 1970 UTC
LIST      an array of strings                               `list[str]` without repeats, in order
========  ================================================  ==========================================

Sources: the platform's API documentation for BOOL and DATETIME, its data type page for the others. The limits are ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow
from enum import Enum, StrEnum
from functools import lru_cache
from typing import Final

from usertable.domain.errors import Problem, ProblemKind, excerpt
from usertable.domain.phrases import Phrase, PhraseKind


class DataType(StrEnum):
    """The data types of the platform."""

    NUMBER = "NUMBER"
    STRING = "STRING"
    BOOL = "BOOL"
    DATETIME = "DATETIME"
    LIST = "LIST"


EXPECTED_FORMS = {
    DataType.NUMBER: Phrase(PhraseKind.NUMBER_FORM),
    DataType.STRING: Phrase(PhraseKind.STRING_FORM),
    DataType.BOOL: Phrase(PhraseKind.BOOL_FORM),
    DataType.DATETIME: Phrase(PhraseKind.DATETIME_FORM),
    DataType.LIST: Phrase(PhraseKind.LIST_FORM),
}

Value = int | Decimal | str | bool | list[str]


class Absent(Enum):
    """The type of :data:`ABSENT`."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT
"""Stands for a value: the attribute has none."""

NUMBER_DIGITS = 38
"""Maximum significant digits of a NUMBER, and the bound (±) of its scientific exponent."""
STRING_BYTES = 8192
"""Maximum bytes of a STRING in UTF-8."""
LIST_ELEMENTS = 1000
"""Maximum number of elements of a LIST, unless its attribute sets another."""
LIST_ELEMENT_BYTES = 512
"""Maximum bytes of a LIST's element in UTF-8, unless its attribute sets another."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a LIST attribute: elements, and bytes (UTF-8) of one element."""

    elements: int = LIST_ELEMENTS
    element_bytes: int = LIST_ELEMENT_BYTES


DEFAULT_LIMITS = Limits()

# Wide enough that no sum of two accepted numbers is rounded. A result that would be is an error, not a value.
_EXACT = Context(prec=256, traps=[Inexact, InvalidOperation, Overflow, DivisionByZero])
_INT_BOUND = 10**NUMBER_DIGITS
_PLAIN_NUMBER = re.compile(r"-?[0-9]{1,128}(?:\.[0-9]{1,128})?")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_HOURS = {f"{hour:02}": hour * 3600 for hour in range(24)}
_MINUTES = {f"{minute:02}": minute * 60 for minute in range(60)}
_SECONDS = {f"{second:02}": second for second in range(60)}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def number(value: int | Decimal) -> int | Decimal | None:
    """Return the canonical form of an exact number, or None if it is out of range.

    Whole numbers are `int`, others a `Decimal` without trailing zeros, so equal numbers have one form. Range (ours): at most
    38 significant digits, scientific exponent within ±38.
    """
    if type(value) is int:
        if -_INT_BOUND < value < _INT_BOUND:
            return value
        if value.bit_length() > 256:
            return None
        value = Decimal(value)
    assert isinstance(value, Decimal)
    if not value.is_finite():
        return None
    if not value:
        return 0
    # Checked before normalizing, because a huge exponent must not be written out in digits.
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    if not -NUMBER_DIGITS <= exponent + len(digits) - 1 <= NUMBER_DIGITS or len(digits) > 256:
        return None
    if digits[-1] == 0 or exponent >= 0:
        value = value.normalize(_EXACT)
        _, digits, exponent = value.as_tuple()
        assert isinstance(exponent, int)
    if len(digits) > NUMBER_DIGITS:
        return None
    return int(value) if exponent >= 0 else value


def add(a: int | Decimal, b: int | Decimal) -> int | Decimal | None:
    """Return the exact sum in canonical form, or None if it is out of range."""
    if type(a) is int and type(b) is int:
        return number(a + b)
    return number(_EXACT.add(a, b))


def number_text(value: int | Decimal) -> str:
    """Return a canonical number in plain notation, never with an exponent: `46.2`, `12`."""
    return str(value) if type(value) is int else format(value, "f")


def datetime_text(ms: int, zone: tzinfo) -> str:
    """Return the time `ms` (milliseconds since 1970 UTC) as `yyyy-MM-dd HH:mm:ss` in `zone`."""
    local = (_EPOCH + timedelta(milliseconds=ms)).astimezone(zone)
    return f"{local.year:04}-{local:%m-%d %H:%M:%S}"


def show(value: Value, data_type: DataType, zone: tzinfo) -> Value:
    """Return `value` as shown to people and programs: a DATETIME as text in the project's zone, the others as stored."""
    return datetime_text(value, zone) if data_type is DataType.DATETIME and type(value) is int else value


def is_empty(raw: object) -> bool:
    """Return whether a value that was sent counts as empty (40009): null, `""` or `[]`."""
    return raw is None or raw == "" or raw == []


def _wrong_type(name: str, data_type: DataType, raw: object) -> Problem:
    params = {"type": data_type.value, "value": excerpt(raw), "expected": EXPECTED_FORMS[data_type]}
    return Problem(ProblemKind.VALUE_TYPE, name, params)


def _parse_number(name: str, raw: object, zone: tzinfo, limits: Limits) -> Value | Problem:
    if type(raw) is int or isinstance(raw, Decimal):
        parsed = number(raw)
    elif type(raw) is str and _PLAIN_NUMBER.fullmatch(raw):
        parsed = number(Decimal(raw))
    else:
        return _wrong_type(name, DataType.NUMBER, raw)
    if parsed is None:
        return Problem(ProblemKind.NUMBER_RANGE, name, {"value": excerpt(raw), "digits": str(NUMBER_DIGITS)})
    return parsed


def _text_problem(name: str, text: str) -> Problem | None:
    """Return the problem with a text that not every engine can store: one with NUL, or half of a surrogate pair."""
    if "\0" in text:
        return Problem(ProblemKind.STRING_CHARACTER, name, {"character": "U+0000"})
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return Problem(ProblemKind.STRING_CHARACTER, name, {"character": f"U+{ord(text[error.start]):04X}"})
    return None


def _parse_string(name: str, raw: object, zone: tzinfo, limits: Limits) -> Value | Problem:
    if type(raw) is not str:
        if type(raw) is bool:
            return "true" if raw else "false"
        if type(raw) is int or isinstance(raw, Decimal):
            if number(raw) is None:
                return Problem(ProblemKind.NUMBER_RANGE, name, {"value": excerpt(raw), "digits": str(NUMBER_DIGITS)})
            return number_text(raw)
        return _wrong_type(name, DataType.STRING, raw)
    if problem := _text_problem(name, raw):
        return problem
    # A character takes at most 4 bytes, so most texts need not be encoded to check their length.
    if len(raw) * 4 > STRING_BYTES and (size := len(raw.encode())) > STRING_BYTES:
        return Problem(ProblemKind.STRING_LENGTH, name, {"bytes": str(size), "limit": str(STRING_BYTES)})
    return raw


def _parse_bool(name: str, raw: object, zone: tzinfo, limits: Limits) -> Value | Problem:
    if type(raw) is int and (raw == 0 or raw == 1):
        return raw == 1
    return _wrong_type(name, DataType.BOOL, raw)


def _parse_datetime(name: str, raw: object, zone: tzinfo, limits: Limits) -> Value | Problem:
    # yyyy-MM-dd HH:mm:ss, parsed without a regular expression or a datetime: this is the hot path.
    if type(raw) is not str or len(raw) != 19 or raw[10] != " " or raw[13] != ":" or raw[16] != ":":
        return _wrong_type(name, DataType.DATETIME, raw)
    try:
        seconds = _HOURS[raw[11:13]] + _MINUTES[raw[14:16]] + _SECONDS[raw[17:]]
        midnight = steady_midnight(raw[:10], zone)
    except (KeyError, ValueError):
        return _wrong_type(name, DataType.DATETIME, raw)
    if midnight is not None:
        return (midnight + seconds) * 1000
    # A day on which the clocks change, or at an end of the calendar. fold=0 uses the offset before the change: for a
    # repeated hour that is the earlier time, and a skipped hour does not come back from UTC unchanged.
    local = datetime.fromisoformat(raw).replace(tzinfo=zone)
    delta = local - _EPOCH
    try:
        back = (_EPOCH + delta).astimezone(zone)
    except OverflowError:
        return _wrong_type(name, DataType.DATETIME, raw)
    if back.replace(tzinfo=None, fold=0) != local.replace(tzinfo=None):
        return Problem(ProblemKind.DATETIME_SKIPPED, name, {"value": raw, "zone": str(zone)})
    return (delta.days * 86400 + delta.seconds) * 1000


@lru_cache(maxsize=4096)
def steady_midnight(day: str, zone: tzinfo) -> int | None:
    """Return seconds from 1970 UTC to the start of a local day, or None if the zone's offset changes around that day.

    Raises:
        ValueError: it is not `yyyy-MM-dd`, or there is no such day.
    """
    if not _DAY.fullmatch(day):
        raise ValueError(day)
    start = datetime.fromisoformat(day).replace(tzinfo=zone)
    # One day on either side: a change right before midnight can still make a time of this day ambiguous.
    try:
        before, after = start - timedelta(days=1), start + timedelta(days=2)
    except OverflowError:
        return None
    if not before.utcoffset() == start.utcoffset() == after.utcoffset():
        return None
    since = start - _EPOCH
    return since.days * 86400 + since.seconds


def _parse_list(name: str, raw: object, zone: tzinfo, limits: Limits) -> Value | Problem:
    if type(raw) is not list:
        return _wrong_type(name, DataType.LIST, raw)
    kept: dict[str, None] = {}
    for element in raw:
        if type(element) is not str:
            return _wrong_type(name, DataType.LIST, raw)
        if problem := _text_problem(name, element):
            return problem
        if len(element) * 4 > limits.element_bytes and (size := len(element.encode())) > limits.element_bytes:
            params = {"value": excerpt(element), "bytes": str(size), "limit": str(limits.element_bytes)}
            return Problem(ProblemKind.LIST_ELEMENT_LENGTH, name, params)
        kept[element] = None
    if len(kept) > limits.elements:
        return Problem(ProblemKind.LIST_LENGTH, name, {"elements": str(len(kept)), "limit": str(limits.elements)})
    return list(kept)


_Parser = Callable[[str, object, tzinfo, Limits], Value | Problem]

PARSERS: dict[DataType, _Parser] = {
    DataType.NUMBER: _parse_number,
    DataType.STRING: _parse_string,
    DataType.BOOL: _parse_bool,
    DataType.DATETIME: _parse_datetime,
    DataType.LIST: _parse_list,
}
"""For each data type: `parse(attribute name, sent value, zone, limits)` returns the stored form, or the problem.

A sent value is what the JSON decoder returns: `str`, `int`, `Decimal`, `bool`, None, `list` or `dict`; never a float.
"""
