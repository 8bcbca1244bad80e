"""Python's values as the wire has them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

Wire = int | Decimal | str | list[str] | None

_INT64 = 2**63


def wire_values(values: Mapping[str, Any], zone: Callable[[], ZoneInfo]) -> dict[str, Wire]:
    """Attribute values in the form that is sent.

    Args:
        zone: the project's time zone; asked for only if a moment with a zone is among the values.

    Raises:
        TypeError: a value is of a type that no attribute has.
        ValueError: a number that is none, or a moment that the project's local time cannot tell.
    """
    return {name: _wire_value(name, value, zone) for name, value in values.items()}


def _wire_value(name: str, value: Any, zone: Callable[[], ZoneInfo]) -> Wire:
    if value is None:
        # The server's to refuse, with its own code.
        return None
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        return _text(name, value)
    if isinstance(value, int):
        return int(value) if -_INT64 <= value < _INT64 else Decimal(int(value))
    if isinstance(value, float):
        # The shortest text that means this float, which is what the caller wrote.
        value = Decimal(repr(float(value)))
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError(f"{name} is {value}, which is no number that can be stored")
        return value
    if isinstance(value, datetime):
        return local_text(name, value, zone)
    if isinstance(value, date):
        raise TypeError(f"{name} is a date; send a datetime, or a text yyyy-MM-dd HH:mm:ss, to say which moment of the day")
    if isinstance(value, (set, frozenset)):
        return sorted(_elements(name, value))
    if isinstance(value, (list, tuple)):
        return list(_elements(name, value))
    raise TypeError(
        f"{name} is of type {type(value).__name__};"
        " expected str, int, Decimal, float, bool, datetime, or a list, tuple or set of str"
    )


def _elements(name: str, values: Any) -> list[str]:
    for element in values:
        if not isinstance(element, str):
            raise TypeError(f"{name} has an element of type {type(element).__name__}; a LIST has texts only")
    return [_text(name, element) for element in values]


def _text(name: str, value: str) -> str:
    text = str.__str__(value)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{name} holds the character U+{ord(text[error.start]):04X}, half of a pair") from None
    return text


def local_text(name: str, moment: datetime, zone: Callable[[], ZoneInfo]) -> str:
    """A moment as `yyyy-MM-dd HH:mm:ss` in the project's zone, which is that of a moment without one; whole seconds."""
    if moment.tzinfo is not None:
        local = moment.replace(microsecond=0).astimezone(zone())
        # The server reads an hour that comes twice as the earlier one.
        if local.replace(fold=0).utcoffset() != local.utcoffset():
            raise ValueError(
                f"{name} is {moment.isoformat()}, in an hour that {zone()} has twice; its local time means the earlier one"
            )
        moment = local
    return f"{moment.year:04}-{moment:%m-%d %H:%M:%S}"


def seconds(text: str | None) -> float:
    """A header's number of seconds; 0 if there is none."""
    try:
        number = float(text or 0)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) and number > 0 else 0.0
