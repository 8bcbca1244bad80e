"""Request bodies: bytes to JSON values, with exact numbers and no key lost."""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from usertable.domain.errors import Problem, ProblemKind, excerpt
from usertable.wire.elements import holds_more_containers, occurrences

MAX_CONTAINERS = 20_000
"""Arrays and objects that the body of a single call may hold: each of them takes much more to make, and to take apart again,
than its two bytes. A right one has an array for each of at most 10,000 attributes."""
SMALL_BODY = 16_384
"""Bytes of a body that is decoded at once, whatever it holds."""

_QUOTE_AND_SPACE = re.compile(rb'"[ \t\r\n]')
_MARK = b"\xef\xbb\xbf"
"""A byte order mark in UTF-8, which some programs put before all they write."""


class UnheldNumber(Decimal):
    """A number whose exponent Decimal cannot hold: out of a NUMBER's range all the more, and shown as it was sent."""

    sent: str

    def __new__(cls, sent: str) -> UnheldNumber:
        number = super().__new__(cls, "Infinity")
        number.sent = sent
        return number

    def __str__(self) -> str:
        return self.sent


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        return UnheldNumber(text)


_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_decode_any_exponent = msgspec.json.Decoder(float_hook=_decimal).decode


_TOO_DEEP = Problem(ProblemKind.BODY_NOT_JSON, None, {"reason": "nested too deeply"})


def decode_object(body: bytes, max_containers: int | None = None) -> dict[str, Any] | Problem:
    """The JSON object in `body`, or what is wrong with it.

    Whole numbers are `int`, those with a point or exponent `Decimal`; there is never a float. A repeated key at any
    depth, invalid UTF-8, comments, NaN, unpaired surrogates and nesting beyond some hundreds of levels are refused. A byte
    order mark before it is left out.

    Args:
        max_containers: arrays and objects that a body beyond :data:`SMALL_BODY` may hold; None for any number.
    """
    if max_containers and len(body) > SMALL_BODY and holds_more_containers(body, max_containers):
        return Problem(ProblemKind.BODY_CONTAINERS, None, {"limit": str(max_containers)})
    try:
        try:
            value = _decode(body)
        except InvalidOperation:
            value = _decode_any_exponent(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        rest = body.removeprefix(_MARK)
        if rest is not body and not rest.startswith(_MARK):
            return decode_object(rest, max_containers)
        return Problem(ProblemKind.BODY_NOT_JSON, None, {"reason": _reason(body, error)})
    except RecursionError:
        return _TOO_DEEP
    if type(value) is not dict:
        return Problem(ProblemKind.BODY_NOT_OBJECT)
    # The decoder keeps the last of repeated keys and does not tell, and a full check is slow. Without escapes, and without
    # a space behind any quote, every key is followed by `":`; so if there are no more of these than keys that arrived, no
    # key was dropped. Keys elsewhere than here and in `data` are counted only if there are any.
    data = value.get("data")
    arrived = len(value) + len(data) if type(data) is dict else len(value)
    try:
        are_distinct = b"\\" not in body and not _QUOTE_AND_SPACE.search(body)
        if are_distinct and (there := occurrences(b'":', body)) != arrived:
            are_distinct = there == _keys(value)
        key = None if are_distinct else _repeated_key(body)
    except RecursionError:
        # This parser gives up some levels before the other.
        return _TOO_DEEP
    return value if key is None else Problem(ProblemKind.DUPLICATE_KEY, None, {"key": excerpt(key)})


_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
_POSITION = re.compile(r"\(byte (\d+)\)")
_NO_NUMBER = re.compile(rb"NaN|Infinity")
_FOREIGN = (
    (re.compile(rb"\x1f\x8b"), "it is compressed with gzip"),
    (re.compile(rb"\x28\xb5\x2f\xfd"), "it is compressed with zstd"),
    (re.compile(rb"\xff\xfe\0\0|\0\0\xfe\xff|\0\0\0|[^\0]\0\0\0"), "it is UTF-32; expected UTF-8"),
    (re.compile(rb"\xff\xfe|\xfe\xff|\0|[^\0]\0"), "it is UTF-16; expected UTF-8"),
)
"""How a body begins that is no JSON in UTF-8, and what it is."""


def _reason(body: bytes, error: Exception) -> str:
    for beginning, reason in _FOREIGN:
        if beginning.match(body):
            return reason
    try:
        body.decode()
    except UnicodeDecodeError as wrong:
        # The decoder counts from the beginning of a string.
        return f"byte 0x{body[wrong.start]:02x} at position {wrong.start} is not UTF-8"
    message = str(error)
    if "surrogate" in message or "truncated" in message:
        for escape in _ESCAPE.finditer(body):
            if half := escape["half"]:
                return f"\\{half.decode()} at position {escape.start()} is half of a surrogate pair"
    if message.startswith("Integer value out of range"):
        return "a number has more than 4300 digits"
    if (found := _POSITION.search(message)) and (word := _NO_NUMBER.match(body, int(found[1]))):
        return f"{word[0].decode()} at position {word.start()} is not a JSON number"
    return excerpt(message, 120)


def _keys(value: Any) -> int:
    """How many keys there are in an object or an array, at all depths."""
    keys = 0
    if type(value) is dict:
        keys = len(value)
        value = value.values()
    for member in value:
        # Most members hold nothing: a call for each would take as long as all the rest.
        if type(member) is dict or type(member) is list:
            keys += _keys(member)
    return keys


class _Repeated(Exception):
    pass


def _unrepeated(pairs: list[tuple[str, Any]]) -> None:
    seen = set()
    for key, _ in pairs:
        if key in seen:
            raise _Repeated(key)
        seen.add(key)


def _repeated_key(body: bytes) -> str | None:
    # Only keys matter here, so numbers are not even made.
    try:
        json.loads(body, object_pairs_hook=_unrepeated, parse_float=str, parse_int=str)
    except _Repeated as repeated:
        return str(repeated)
    return None
