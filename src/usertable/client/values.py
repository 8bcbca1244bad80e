"""Python's values as the wire has them."""

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
    """Attribute values in the form that is sent.

    Args:
        zone: the project's time zone; asked for only if a moment with a zone is among the values.

    Raises:
        TypeError: a value is of a type that no attribute has, or a name is no text.
        ValueError: a number or text that cannot be stored, or a moment that the project's local time cannot tell.
    """
    for name in values:
        if not isinstance(name, str):
            raise TypeError(f"the attribute name {name!r} is of type {type_name(name)}; expected str")
        check_text(f"the attribute name {name!r}", name)
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
        return int(value) if -_INT64 <= value < _INT64 else _in_range(name, Decimal(int(value)))
    if isinstance(value, float):
        # The shortest text that means this float, which is what the caller wrote.
        value = Decimal(repr(float(value)))
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError(f"{name} is {value}, which is no number that can be stored")
        return _in_range(name, value)
    if isinstance(value, datetime):
        if value != value:
            # pandas' NaT is a datetime, and no moment.
            raise TypeError(f"{name} is {value}, which is no moment; leave out what is not known")
        return local_text(name, value, zone)
    if isinstance(value, date):
        raise TypeError(f"{name} is a date; send a datetime, or a text yyyy-MM-dd HH:mm:ss, to say which moment of the day")
    if isinstance(value, (set, frozenset)):
        return sorted(_elements(name, value))
    if isinstance(value, (list, tuple)):
        return list(_elements(name, value))
    expected = "expected str, int, Decimal, float, bool, datetime, or a list, tuple or set of str"
    if callable(getattr(value, "item", None)):
        expected += "; its item() may be one"
    raise TypeError(f"{name} is of type {type_name(value)}; {expected}")


def type_name(value: Any) -> str:
    """The type's name, with its module where the name alone may mislead: `numpy.bool` is not `bool`."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _in_range(name: str, value: Decimal) -> Decimal:
    """The number, which a store can keep: in a batch, one that it cannot parse would refuse all the other records too."""
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
            raise TypeError(f"{name} has an element of type {type_name(element)}; a LIST has texts only")
    return [_text(name, element) for element in values]


def _text(name: str, value: str) -> str:
    text = str.__str__(value)
    check_text(name, text)
    return text


def check_text(what: str, text: str) -> None:
    """Raise ValueError if a text holds half of a surrogate pair, which UTF-8 has no bytes for."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{what} holds the character U+{ord(text[error.start]):04X}, half of a pair; surrogates cannot be sent"
            ) from None


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
