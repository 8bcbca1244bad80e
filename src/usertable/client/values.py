"""Python values in the form that is sent."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from usertable.domain.values import NUMBER_DIGITS, number

Wire = int | Decimal | str | list[str] | None

_INT64 = 2**63


def wire_values(values: Mapping[str, Any], zone: Callable[[], ZoneInfo]) -> dict[str, Wire]:
    """Return attribute values in the form that is sent.

    Args:
        zone: returns the project's time zone. Called only if a value is a datetime with a zone.

    Raises:
        TypeError: no attribute has a value of this type, or a name is not a str.
        ValueError: the number or text cannot be stored, or the datetime is ambiguous in the project's local time.
    """
    for name in values:
        if not isinstance(name, str):
            raise TypeError(f"the attribute name {name!r} is of type {type_name(name)}; expected str")
        check_text(f"the attribute name {name!r}", name)
    return {name: _wire_value(name, value, zone) for name, value in values.items()}


def _wire_value(name: str, value: Any, zone: Callable[[], ZoneInfo]) -> Wire:
    if value is None:
        # The server refuses it, with its own code.
        return None
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        return _text(name, value)
    if isinstance(value, int):
        return int(value) if -_INT64 <= value < _INT64 else _in_range(name, Decimal(int(value)))
    if isinstance(value, float):
        # The shortest text that denotes this float, which is what the caller wrote.
        value = Decimal(repr(float(value)))
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError(f"{name} is {value}, which cannot be stored; expected a finite number")
        return _in_range(name, value)
    if isinstance(value, datetime):
        if value != value:
            # pandas' NaT is a subclass of datetime, but not a point in time.
            raise TypeError(f"{name} is {value}, which is not a date and time; omit attributes whose value is unknown")
        return local_text(name, value, zone)
    if isinstance(value, date):
        raise TypeError(f"{name} is a date; expected a datetime, or a str 'yyyy-MM-dd HH:mm:ss'")
    if isinstance(value, (set, frozenset)):
        return sorted(_elements(name, value))
    if isinstance(value, (list, tuple)):
        return list(_elements(name, value))
    expected = "expected str, int, Decimal, float, bool, datetime, or a list, tuple or set of str"
    if callable(getattr(value, "item", None)):
        expected += "; its item() may be one"
    raise TypeError(f"{name} is of type {type_name(value)}; {expected}")


def type_name(value: Any) -> str:
    """Return the type's name, with its module where the name alone would mislead: `numpy.bool` is not `bool`."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _in_range(name: str, value: Decimal) -> Decimal:
    """Return the number if it can be stored.

    In a batch, a number that the server cannot parse would fail all other records too.
    """
    if number(value) is None:
        digits, exponent = len(value.as_tuple().digits), value.adjusted()
        raise ValueError(
            f"{name} is a number of {digits} digits with exponent {exponent}; at most {NUMBER_DIGITS} significant digits"
            f" and an exponent within ±{NUMBER_DIGITS} can be stored"
        )
    return value


def _elements(name: str, values: Any) -> list[str]:
    for element in values:
        if not isinstance(element, str):
            raise TypeError(f"{name} has an element of type {type_name(element)}; expected str")
    return [_text(name, element) for element in values]


def _text(name: str, value: str) -> str:
    text = str.__str__(value)
    check_text(name, text)
    return text


def check_text(what: str, text: str) -> None:
    """Raise ValueError if a text contains half of a surrogate pair, which cannot be encoded in UTF-8."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{what} holds the character U+{ord(text[error.start]):04X}, half of a surrogate pair, which cannot be"
                " encoded as UTF-8"
            ) from None


def local_text(name: str, moment: datetime, zone: Callable[[], ZoneInfo]) -> str:
    """Return `yyyy-MM-dd HH:mm:ss` in the project's zone, without fractions.

    A datetime without a zone is taken as being in the project's zone.
    """
    if moment.tzinfo is not None:
        local = moment.replace(microsecond=0).astimezone(zone())
        # The server reads an hour that occurs twice as the earlier one.
        if local.replace(fold=0).utcoffset() != local.utcoffset():
            raise ValueError(
                f"{name} is {moment.isoformat()}, which cannot be sent: its local time occurs twice in {zone()},"
                " and the server takes the earlier one"
            )
        moment = local
    return f"{moment.year:04}-{moment:%m-%d %H:%M:%S}"


def seconds(text: str | None) -> float:
    """Return the number of seconds in a header; 0 if it has none."""
    try:
        number = float(text or 0)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) and number > 0 else 0.0
