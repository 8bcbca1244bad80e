"""Request bodies: bytes to JSON values, with exact numbers and no key lost."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from usertable.domain.errors import Kind, Problem, excerpt


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        # An exponent beyond Decimal's own range: out of a NUMBER's range all the more.
        return Decimal("Infinity")


_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_decode_any_exponent = msgspec.json.Decoder(float_hook=_decimal).decode


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
        return Problem(Kind.BODY_NOT_JSON, None, {"reason": excerpt(str(error), 120)})
    except RecursionError:
        return Problem(Kind.BODY_NOT_JSON, None, {"reason": "nested too deeply"})
    if type(value) is not dict:
        return Problem(Kind.BODY_NOT_OBJECT)
    # The decoder keeps the last of repeated keys and does not tell. Every key has its colon, and other colons stand only in
    # strings; so if the colons are those of the keys and strings that arrived, no key was dropped. Escapes may hide colons.
    if (b"\\" in body or body.count(b":") != _colons(value)) and (key := _repeated_key(body)) is not None:
        return Problem(Kind.DUPLICATE_KEY, None, {"key": excerpt(key)})
    return value


def _colons(value: Any) -> int:
    """How many colons the JSON text of a decoded value has, if it is written without escapes."""
    if type(value) is str:
        return value.count(":")
    if type(value) is dict:
        count = len(value)
        for key, item in value.items():
            kind = type(item)
            if kind is str:
                count += item.count(":")
            elif kind is dict or kind is list:
                count += _colons(item)
            if ":" in key:
                count += key.count(":")
        return count
    if type(value) is list:
        return sum(map(_colons, value))
    return 0


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
