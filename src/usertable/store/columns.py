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
import re
import sys
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import repeat
from operator import sub
from typing import Any, cast

import msgspec

MAXIMUM_CHOICES = 256
_LARGEST = 2**62
_EPOCH = datetime(1970, 1, 1)
_SECOND = timedelta(seconds=1)
_LARGEST_SCALED = 2**50
_MAXIMUM_SCALE = 18
_UNITS = [Decimal(1).scaleb(-scale) for scale in range(_MAXIMUM_SCALE + 1)]
"""A number times one of them takes a third of the time of reading its digits."""
_OF_DECIMALS = b"-.0123456789null\n"
_MOMENTS = re.compile(rb'(?>(?:(?:"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}"|null)(?:\n|\Z))+)')
_SERIALS = re.compile(rb'(?>(?:"[^"\\\n]*-(?:0|[1-9a-f][0-9a-f]{0,14})"(?:\n|\Z))+)')
_SERIALS_OF_ONE = re.compile(rb'"([^"\\\n]*)-(?:0|[1-9a-f][0-9a-f]{0,14})"(?>(?:\n"\1-(?:0|[1-9a-f][0-9a-f]{0,14})")*)')
"""The same with one prefix."""
_encoder = msgspec.json.Encoder(decimal_format="number")
_decoder: msgspec.json.Decoder[list[Any]] = msgspec.json.Decoder(list[Any], float_hook=Decimal)
_floats_decoder = msgspec.json.Decoder(list[float | None])
_numbers_decoder = msgspec.json.Decoder(list[int | None])

Form = list[Any]
"""The name of a column's form, and what is needed to read it."""


def encode(values: Sequence[Any]) -> tuple[Form, bytes]:
    """Return the form of a column and its bytes, which are not compressed yet."""
    return encode_lines(b"\n".join([_encoder.encode(value) for value in values]), len(values))


def encode_lines(text: bytes, count: int) -> tuple[Form, bytes]:
    """Return the same of values that are lines of JSON. Most are examined all at once: one by one takes longer."""
    if not count:
        return ["constant", None], b""
    first, end, _ = text.partition(b"\n")
    # Values are compared as they are written: 1 and true differ.
    if text == (first + end) * (count - 1) + first:
        return ["constant", _one(first)], b""
    with suppress(msgspec.ValidationError, OverflowError):
        return _numbers("numbers", _numbers_decoder.decode(_as_array(text)))
    lines = text.split(b"\n")
    distinct = dict.fromkeys(lines)
    if len(distinct) <= min(MAXIMUM_CHOICES, len(lines) // 4):
        places = {line: place for place, line in enumerate(distinct)}
        return ["choices", _read_lines(b"\n".join(distinct))], bytes(map(places.__getitem__, lines))
    return _decimals(text) or _moments(text) or _serials(text) or (["texts"], text)


def encode_numbers(values: Sequence[int | None], *, ascending: bool = False) -> tuple[Form, bytes]:
    """Return the same of whole numbers, none of which is very large.

    Args:
        ascending: they mostly ascend, and there is no null.
    """
    if not values or values.count(values[0]) == len(values):
        return ["constant", values[0] if values else None], b""
    return _differences(cast(Sequence[int], values)) if ascending else _numbers("numbers", values)


def _one(text: bytes) -> Any:
    return _decoder.decode(b"[" + text + b"]")[0]


def _read_lines(text: bytes) -> list[Any]:
    return _decoder.decode(_as_array(text))


def _as_array(lines: bytes) -> bytes:
    return b"[" + lines.replace(b"\n", b",") + b"]"


def _known(numbers: Sequence[int | None]) -> Sequence[int]:
    if None in numbers:
        return [number for number in numbers if number is not None]
    return cast(Sequence[int], numbers)


def _numbers(name: str, values: Sequence[int | None], *details: Any, limit: int = _LARGEST) -> tuple[Form, bytes]:
    """Return numbers in this form. Raises OverflowError if one of them is too large."""
    known = _known(values)
    minimum, maximum = min(known) - 1, max(known)
    if minimum < -limit or maximum > limit:
        raise OverflowError
    width = _width(minimum, maximum)
    if known is not values:
        shifted = array("Q", [0 if value is None else value - minimum for value in values])
    elif minimum > 0 and _width(0, maximum) == width:
        minimum, shifted = 0, array("Q", known)
    else:
        shifted = array("Q", [value - minimum for value in known])
    _to_little_endian(shifted)
    whole = shifted.tobytes()
    return [name, minimum, width, *details], b"".join([whole[plane :: shifted.itemsize] for plane in range(width)])


def _width(minimum: int, maximum: int) -> int:
    """Return the bytes of a number's distance from a lower one."""
    return ((maximum - minimum).bit_length() + 7) // 8


def _decimals(text: bytes) -> tuple[Form, bytes] | None:
    if text.translate(None, _OF_DECIMALS):
        return None
    scale = 0
    while re.search(rb"\.[0-9]{%d}" % (scale + 1), text):
        scale += 1
        # 12.50 would be read as 12.5.
        if scale > _MAXIMUM_SCALE or re.search(rb"\.[0-9]{%d}0(?![0-9])" % (scale - 1), text):
            return None
    # 12.5 is 125 / 10^1. Up to 2^50, a float is near enough to find the whole number.
    power = 10**scale
    scaled = [None if value is None else round(value * power) for value in _floats_decoder.decode(_as_array(text))]
    with suppress(OverflowError):
        return _numbers("decimals", scaled, scale, limit=_LARGEST_SCALED)
    return None


def _unscaled(number: int | None, scale: int) -> Any:
    if number is None:
        return None
    while scale and number % 10 == 0:
        number, scale = number // 10, scale - 1
    return number * _UNITS[scale] if scale else number


def _moments(text: bytes) -> tuple[Form, bytes] | None:
    if not _MOMENTS.fullmatch(text):
        return None
    try:
        moments = [None if value is None else datetime.fromisoformat(value) for value in _read_lines(text)]
    except ValueError:
        return None
    return _numbers("moments", [None if moment is None else (moment - _EPOCH) // _SECOND for moment in moments])


def _moment(seconds: int | None) -> str | None:
    return None if seconds is None else str(_EPOCH + timedelta(0, seconds))


def _serials(text: bytes) -> tuple[Form, bytes] | None:
    of_prefix: dict[str, list[int]] = {}
    if one := _SERIALS_OF_ONE.fullmatch(text):
        *digits, _ = (b"\n" + text).replace(b'\n"' + one[1] + b"-", b"").split(b'"')
        of_prefix[one[1].decode()] = list(map(int, digits, repeat(16)))
        order = bytes(len(digits))
    elif _SERIALS.fullmatch(text):
        serials = [serial.rpartition("-") for serial in text[1:-1].decode().split('"\n"')]
        for prefix, _, number in serials:
            of_prefix.setdefault(prefix, []).append(int(number, 16))
        if len(of_prefix) > min(MAXIMUM_CHOICES, len(serials) // 4):
            return None
        places = {prefix: place for place, prefix in enumerate(of_prefix)}
        order = bytes([places[prefix] for prefix, _, _ in serials])
    else:
        return None
    parts = list(map(_shortest, of_prefix.values()))
    listed = [[prefix, len(own), *form] for (prefix, own), (form, _) in zip(of_prefix.items(), parts, strict=True)]
    return ["serials", listed], order + b"".join(content for _, content in parts)


def _shortest(values: list[int]) -> tuple[Form, bytes]:
    """Return numbers, which any of them is read from faster, or their differences if these take fewer bytes."""
    steps = _steps(values)
    if _width(min(steps) - 1, max(steps)) < _width(min(values) - 1, max(values)):
        return _numbers("differences", steps, values[0])
    return _numbers("numbers", values)


def _differences(values: Sequence[int]) -> tuple[Form, bytes]:
    return _numbers("differences", _steps(values), values[0])


def _steps(values: Sequence[int]) -> list[int]:
    """Return how much larger each number is than the one before."""
    return [0, *map(sub, values[1:], values)]


class Column(msgspec.Struct, array_like=True, gc=False):
    """A column to read. The first members are listed where it is stored."""

    name: str
    form: Form
    """As :func:`encode` returned it."""
    count: int
    """Number of values."""
    length: int
    """Number of bytes."""
    start: int = 0
    end: int = 0
    content: bytes = b""
    """Contains the column's bytes: those from `start` up to `end`."""

    def at(self, index: int) -> Any:
        """Return the value at an index, and decode as few others as possible."""
        name = self.form[0]
        # Most of them are, and this takes half of the time.
        return self.form[1] if name == "constant" else _AT[name](self, index)

    def all(self) -> list[Any]:
        """Return all values."""
        return _ALL[self.form[0]](self)

    def index_of(self, value: int) -> int | None:
        """Return the index of a number; None if it is not there. The numbers ascend."""
        if self.form[0] == "differences":
            return _index_of_sum(self, value)
        index = bisect_left(range(self.count), value, key=self.at)
        return index if index < self.count and self.at(index) == value else None


def _constants(column: Column) -> list[Any]:
    return [column.form[1]] * column.count


def _choice_at(column: Column, index: int) -> Any:
    return column.form[1][column.content[column.start + index]]


def _choices(column: Column) -> list[Any]:
    choices = column.form[1]
    return [choices[choice] for choice in column.content[column.start : column.end]]


def _number_at(column: Column, index: int) -> int | None:
    number = int.from_bytes(column.content[column.start + index : column.end : column.count], "little")
    return number + column.form[1] if number else None


def _all_numbers(column: Column) -> list[int | None]:
    minimum = column.form[1]
    return [number + minimum if number else None for number in _read_planes(column)]


def _decimal_at(column: Column, index: int) -> Any:
    return _unscaled(_number_at(column, index), column.form[3])


def _all_decimals(column: Column) -> list[Any]:
    return [_unscaled(number, column.form[3]) for number in _all_numbers(column)]


def _moment_at(column: Column, index: int) -> str | None:
    return _moment(_number_at(column, index))


def _all_moments(column: Column) -> list[str | None]:
    return [_moment(number) for number in _all_numbers(column)]


def _sum_at(column: Column, index: int) -> int:
    _, minimum, _, first = column.form
    planes = range(column.start, column.end, column.count)
    total = sum([sum(column.content[plane : plane + index + 1]) << 8 * place for place, plane in enumerate(planes)])
    return int(first + total + (index + 1) * minimum)


def _index_of_sum(column: Column, value: int) -> int | None:
    """Return the index of a number by halves, so that no difference is added up more than twice."""
    _, minimum, _, number = column.form
    content, planes = column.content, list(enumerate(range(column.start, column.end, column.count)))
    low, high, found = 0, column.count, None
    while low < high:
        middle = (low + high) // 2
        reached = number + (middle + 1 - low) * minimum
        for place, plane in planes:
            reached += sum(content[plane + low : plane + middle + 1]) << 8 * place
        if reached < value:
            low, number = middle + 1, reached
        else:
            high, found = middle, reached
    return low if found == value else None


def _all_sums(column: Column) -> list[int]:
    _, minimum, _, first = column.form
    return [first + total + index * minimum for index, total in enumerate(itertools.accumulate(_read_planes(column)), 1)]


def _text_at(column: Column, index: int) -> Any:
    return _one(column.content[column.start : column.end].split(b"\n", index + 1)[index])


def _all_texts(column: Column) -> list[Any]:
    return _read_lines(column.content[column.start : column.end])


def _serial_at(column: Column, index: int) -> str:
    content, start = column.content, column.start
    place = content[start + index]
    prefix, numbers = next(itertools.islice(_of_prefixes(column), place, None))
    # Its index among those with the same prefix.
    before = index if numbers.count == column.count else content.count(place, start, start + index)
    return f"{prefix}-{numbers.at(before):x}"


def _all_serials(column: Column) -> list[str]:
    of_prefix = [iter([f"{prefix}-{number:x}" for number in numbers.all()]) for prefix, numbers in _of_prefixes(column)]
    return [next(of_prefix[place]) for place in column.content[column.start : column.start + column.count]]


def _of_prefixes(column: Column) -> Iterator[tuple[str, Column]]:
    """Yield the prefixes of serials, each with its numbers."""
    start = column.start + column.count
    for prefix, count, *form in column.form[1]:
        end = start + count * form[2]
        yield prefix, Column(prefix, form, count, end - start, start, end, column.content)
        start = end


_AT: dict[str, Callable[[Column, int], Any]] = {
    "numbers": _number_at,
    "differences": _sum_at,
    "decimals": _decimal_at,
    "moments": _moment_at,
    "serials": _serial_at,
    "choices": _choice_at,
    "texts": _text_at,
}
_ALL: dict[str, Callable[[Column], list[Any]]] = {
    "constant": _constants,
    "numbers": _all_numbers,
    "differences": _all_sums,
    "decimals": _all_decimals,
    "moments": _all_moments,
    "serials": _all_serials,
    "choices": _choices,
    "texts": _all_texts,
}


def _read_planes(column: Column) -> array[int]:
    shifted = array("Q")
    whole = bytearray(column.count * shifted.itemsize)
    for place, plane in enumerate(range(column.start, column.end, column.count)):
        whole[place :: shifted.itemsize] = column.content[plane : plane + column.count]
    shifted.frombytes(bytes(whole))
    _to_little_endian(shifted)
    return shifted


def _to_little_endian(numbers: array[int]) -> None:
    """Swap the bytes of each number, or back, on a machine that has them in the other order: stores are moved."""
    if sys.byteorder == "big":
        numbers.byteswap()
