"""Request bodies: bytes to JSON values, with exact numbers and no key lost."""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from usertable.domain.errors import Kind, Problem, excerpt

_QUOTE_AND_SPACE = re.compile(rb'"[ \t\r\n]')


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        # An exponent beyond Decimal's own range: out of a NUMBER's range all the more.
        return Decimal("Infinity")


_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_decode_any_exponent = msgspec.json.Decoder(float_hook=_decimal).decode


_TOO_DEEP = Problem(Kind.BODY_NOT_JSON, None, {"reason": "nested too deeply"})


def decode_object(body: bytes) -> dict[str, Any] | Problem:
    """The JSON object in `body`, or what is wrong with it.

    Whole numbers are `int`, those with a point or exponent `Decimal`; there is never a float. A repeated key at any
    depth, invalid UTF-8, comments, NaN, unpaired surrogates and nesting beyond some hundreds of levels are refused.
    """
    try:
        try:
            value = _decode(body)
        except InvalidOperation:
            value = _decode_any_exponent(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Problem(Kind.BODY_NOT_JSON, None, {"reason": _reason(body, error)})
    except RecursionError:
        return _TOO_DEEP
    if type(value) is not dict:
        return Problem(Kind.BODY_NOT_OBJECT)
    # The decoder keeps the last of repeated keys and does not tell, and a full check is slow. Without escapes, and without
    # a space behind any quote, every key is followed by `":`; so if there are no more of these than keys that arrived, no
    # key was dropped. Keys elsewhere than here and in `data` are counted only if there are any.
    data = value.get("data")
    arrived = len(value) + len(data) if type(data) is dict else len(value)
    try:
        plain = b"\\" not in body and not _QUOTE_AND_SPACE.search(body)
        if plain and (there := body.count(b'":')) != arrived:
            plain = there == _keys(value)
        key = None if plain else _repeated_key(body)
    except RecursionError:
        # This parser gives up some levels before the other.
        return _TOO_DEEP
    return value if key is None else Problem(Kind.DUPLICATE_KEY, None, {"key": excerpt(key)})


def _reason(body: bytes, error: Exception) -> str:
    try:
        body.decode()
    except UnicodeDecodeError as wrong:
        # The decoder counts from the beginning of a string.
        return f"byte 0x{body[wrong.start]:02x} at position {wrong.start} is not UTF-8"
    return excerpt(str(error), 120)


def _keys(value: Any) -> int:
    """How many keys there are in `value`, at all depths."""
    if type(value) is dict:
        return len(value) + sum(map(_keys, value.values()))
    return sum(map(_keys, value)) if type(value) is list else 0


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
