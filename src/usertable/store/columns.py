"""Columns of packed history: the values of one field, compressed together, readable one by one.

A column is written in the form that suits its values; a null is a value too:

    constant     ["key:orders", "key:orders"]              the value, and no bytes
    numbers      [31, 34, null, 33]                        minimum 31; 1 4 0 3, where 0 is null and 1 the minimum
    differences  [1000, 1003, 1009]                        first 1000, the numbers 0 3 6
    decimals     [12.5, 7, 0.25]                           scale 2, the numbers 1250 700 25
    moments      ["2026-11-30 08:00:00", …]                the numbers of seconds since 1970
    serials      ["a1b2-ff", "9c0d-1", "a1b2-101"]         prefixes a1b2 9c0d; 0 1 0, and for each prefix differences, or
                                                           numbers if these are not wider
    choices      ["gold", "silver", "gold"]                the distinct values; 0 1 0
    texts        anything                                  a line of JSON each

Numbers are stored as planes: first the lowest byte of each, then the next one of each, and so on.
"""

from __future__ import annotations

import itertools
import sys
from array import array
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from types import NoneType
from typing import Any

import msgspec

MAXIMUM_CHOICES = 256
_LARGEST = 2**62
_MOMENT_LENGTH = len("2026-11-30 08:00:00")
_EPOCH = datetime(1970, 1, 1)
_SECOND = timedelta(seconds=1)
_MAXIMUM_SCALE = 18
_encoder = msgspec.json.Encoder(decimal_format="number")
_decoder: msgspec.json.Decoder[list[Any]] = msgspec.json.Decoder(list[Any], float_hook=Decimal)

Form = list[Any]
"""The name of a column's form, and what is needed to read it."""


def encode(values: Sequence[Any], *, ascending: bool = False) -> tuple[Form, bytes]:
    """Return the form of a column and its bytes, which are not compressed yet.

    Args:
        ascending: the values are numbers that mostly ascend.
    """
    types = set(map(type, values))
    if types == {int}:
        if len(set(values)) == 1:
            return ["constant", values[0]], b""
        if ascending:
            return _differences(list(values))
    known = values if NoneType not in types else [value for value in values if value is not None]
    if types <= {int, NoneType} and known and min(known) > -_LARGEST and max(known) < _LARGEST:
        return _numbers("numbers", values)
    # Other values are compared as they are written: 1 and true differ.
    texts = list(values) if types == {str} else [_encoder.encode(value) for value in values]
    distinct = dict.fromkeys(texts)
    if len(distinct) <= 1:
        return ["constant", values[0] if values else None], b""
    if len(distinct) <= min(MAXIMUM_CHOICES, len(values) // 4):
        places = {text: place for place, text in enumerate(distinct)}
        choices = list(distinct) if types == {str} else [_one(text) for text in distinct]
        return ["choices", choices], bytes([places[text] for text in texts])
    return _decimals(values, known) or _moments(values, known) or _serials(values, known) or _texts(values)


def _one(text: bytes) -> Any:
    return _decoder.decode(b"[" + text + b"]")[0]


def _texts(values: Sequence[Any]) -> tuple[Form, bytes]:
    return ["texts"], b"\n".join([_encoder.encode(value) for value in values])


def _numbers(name: str, values: Sequence[int | None], *details: Any) -> tuple[Form, bytes]:
    known = [value for value in values if value is not None]
    minimum = min(known) - 1
    shifted = array("Q", [0 if value is None else value - minimum for value in values])
    width = (max(shifted).bit_length() + 7) // 8
    _to_little_endian(shifted)
    whole = shifted.tobytes()
    return [name, minimum, width, *details], b"".join(whole[plane :: shifted.itemsize] for plane in range(width))


def _decimals(values: Sequence[Any], known: Sequence[Any]) -> tuple[Form, bytes] | None:
    parts = [_digits(value) for value in known]
    scale = max((part[1] for part in parts if part is not None), default=0)
    if None in parts or scale > _MAXIMUM_SCALE:
        return None
    found = iter([number * 10 ** (scale - digits) for number, digits in filter(None, parts)])
    scaled = [None if value is None else next(found) for value in values]
    if any(number is not None and abs(number) >= _LARGEST for number in scaled):
        return None
    return _numbers("decimals", scaled, scale)


def _digits(value: Any) -> tuple[int, int] | None:
    """Return 125 and 1 for 12.5, that is 125 / 10^1. None if it is no number, or would be read in another form."""
    if type(value) is int:
        return value, 0
    if type(value) is not Decimal:
        return None
    whole, _, fraction = str(value).partition(".")
    return (int(whole + fraction), len(fraction)) if fraction.isdigit() and fraction[-1] != "0" else None


def _unscaled(number: int | None, scale: int) -> Any:
    if number is None:
        return None
    while scale and number % 10 == 0:
        number, scale = number // 10, scale - 1
    return Decimal(f"{number}E-{scale}") if scale else number


def _moments(values: Sequence[Any], known: Sequence[Any]) -> tuple[Form, bytes] | None:
    if not all(type(value) is str and len(value) == _MOMENT_LENGTH for value in known):
        return None
    try:
        moments = [None if value is None else datetime.fromisoformat(value) for value in values]
    except ValueError:
        return None
    if any(moment is not None and str(moment) != value for moment, value in zip(moments, values, strict=True)):
        return None
    return _numbers("moments", [None if moment is None else (moment - _EPOCH) // _SECOND for moment in moments])


def _moment(seconds: int | None) -> str | None:
    return None if seconds is None else str(_EPOCH + timedelta(0, seconds))


def _serials(values: Sequence[Any], known: Sequence[Any]) -> tuple[Form, bytes] | None:
    if len(known) < len(values) or not all(isinstance(value, str) for value in known):
        return None
    of_prefix: dict[str, list[int]] = {}
    order: list[str] = []
    for value in known:
        prefix, _, digits = value.rpartition("-")
        try:
            number = int(digits, 16)
        except ValueError:
            return None
        if number >= _LARGEST or f"{prefix}-{number:x}" != value:
            return None
        of_prefix.setdefault(prefix, []).append(number)
        order.append(prefix)
    if len(of_prefix) > min(MAXIMUM_CHOICES, len(values) // 4):
        return None
    places = {prefix: place for place, prefix in enumerate(of_prefix)}
    parts = [_shortest(numbers) for numbers in of_prefix.values()]
    listed = [[prefix, len(of_prefix[prefix]), *form] for prefix, (form, _) in zip(of_prefix, parts, strict=True)]
    return ["serials", listed], bytes([places[prefix] for prefix in order]) + b"".join(content for _, content in parts)


def _shortest(values: list[int]) -> tuple[Form, bytes]:
    """Return numbers, which any of them is read from faster, or their differences if these take fewer bytes."""
    numbers, differences = _numbers("numbers", values), _differences(values)
    return numbers if len(numbers[1]) <= len(differences[1]) else differences


def _differences(values: list[int]) -> tuple[Form, bytes]:
    return _numbers("differences", list(map(int.__sub__, values, values[:1] + values[:-1])), values[0])


class Column:
    """A column to read.

    Args:
        form: as :func:`encode` returned it.
        content: its bytes.
        count: number of values.
    """

    def __init__(self, form: Form, content: bytes, count: int) -> None:
        self._name, *self._details = form
        self._content = content
        self.count = count
        # Not bound: a column that referred to itself would stay in memory until the next collection of cycles.
        self._read: Callable[[Column, int], Any] = getattr(Column, f"_{self._name}")
        self._lines: list[bytes] | None = None
        self._sums: list[int] | None = None
        self._of_prefix: list[tuple[str, Column]] | None = None

    def at(self, index: int) -> Any:
        """Return the value at an index, and decode as few others as possible."""
        return self._read(self, index)

    def all(self) -> list[Any]:
        """Return all values. For the most frequent forms, this is faster than one by one."""
        if self._name in ("numbers", "decimals", "moments"):
            minimum, width, *scale = self._details
            planes = _read_planes(self._content, self.count, width)
            numbers = [number + minimum if number else None for number in planes]
            if self._name == "decimals":
                return [_unscaled(number, *scale) for number in numbers]
            return numbers if self._name == "numbers" else [_moment(number) for number in numbers]
        if self._name == "serials":
            of_prefix = [iter([f"{prefix}-{number:x}" for number in numbers.all()]) for prefix, numbers in self._prefixes()]
            return [next(of_prefix[place]) for place in self._content[: self.count]]
        if self._name == "texts":
            return _decoder.decode(b"[" + self._content.replace(b"\n", b",") + b"]")
        return [self.at(index) for index in range(self.count)]

    def _constant(self, index: int) -> Any:
        return self._details[0]

    def _choices(self, index: int) -> Any:
        return self._details[0][self._content[index]]

    def _numbers(self, index: int) -> int | None:
        number = int.from_bytes(self._content[index :: self.count], "little")
        return number + self._details[0] if number else None

    def _decimals(self, index: int) -> Any:
        return _unscaled(self._numbers(index), self._details[2])

    def _moments(self, index: int) -> str | None:
        return _moment(self._numbers(index))

    def _differences(self, index: int) -> int:
        if self._sums is None:
            self._sums = list(itertools.accumulate(_read_planes(self._content, self.count, self._details[1])))
        minimum, _, first = self._details
        return int(first + self._sums[index] + (index + 1) * minimum)

    def _texts(self, index: int) -> Any:
        if self._lines is None:
            self._lines = self._content.split(b"\n")
        return _one(self._lines[index])

    def _serials(self, index: int) -> str:
        place, prefixes = self._content[index], self._prefixes()
        prefix, numbers = prefixes[place]
        before = index if len(prefixes) == 1 else self._content.count(place, 0, index)
        return f"{prefix}-{numbers.at(before):x}"

    def _prefixes(self) -> list[tuple[str, Column]]:
        """Return the prefixes of serials, each with its numbers."""
        if self._of_prefix is None:
            self._of_prefix, start = [], self.count
            for prefix, count, *form in self._details[0]:
                end = start + count * form[2]
                self._of_prefix.append((prefix, Column(form, self._content[start:end], count)))
                start = end
        return self._of_prefix


def _read_planes(content: bytes, count: int, width: int) -> array[int]:
    shifted = array("Q")
    whole = bytearray(count * shifted.itemsize)
    for plane in range(width):
        whole[plane :: shifted.itemsize] = content[plane * count : (plane + 1) * count]
    shifted.frombytes(bytes(whole))
    _to_little_endian(shifted)
    return shifted


def _to_little_endian(numbers: array[int]) -> None:
    """Swap the bytes of each number, or back, on a machine that has them in the other order: stores are moved."""
    if sys.byteorder == "big":
        numbers.byteswap()
