"""Request bodies: bytes to JSON values, with exact numbers and without losing a key."""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from usertable.domain.errors import Problem, ProblemKind, excerpt, phrase
from usertable.domain.phrases import Phrase, PhraseKind
from usertable.wire.elements import holds_more_containers, occurrences

MAX_CONTAINERS = 20_000
"""Maximum number of arrays and objects in the body of a single call. Creating and freeing each of them costs much more than
its two bytes. A valid body has one array for each of at most 10,000 attributes."""
SMALL_BODY = 16_384
"""Maximum bytes of a body that is decoded without counting its arrays and objects."""

_QUOTE_AND_SPACE = re.compile(rb'"[ \t\r\n]')
_MARK = b"\xef\xbb\xbf"
"""A byte order mark in UTF-8, which some programs write at the beginning of everything."""


class UnheldNumber(Decimal):
    """A number whose exponent Decimal cannot represent. Out of range for a NUMBER, and shown as it was sent."""

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


_TOO_DEEP = Problem(ProblemKind.BODY_NOT_JSON, None, {"reason": Phrase(PhraseKind.TOO_DEEP)})


def decode_object(body: bytes, max_containers: int | None = None) -> dict[str, Any] | Problem:
    """Return the JSON object in `body`, or the problem with it.

    Whole numbers are `int`, those with a point or exponent `Decimal`; never a float. Refused are a repeated key at any
    depth, invalid UTF-8, comments, NaN, unpaired surrogates and nesting beyond some hundreds of levels. A leading byte order
    mark is ignored.

    Args:
        max_containers: maximum number of arrays and objects in a body larger than :data:`SMALL_BODY`; None for any number.
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
    # The decoder silently keeps the last of repeated keys, and a full check is slow. Without escapes, and without a space
    # after any quote, every key is followed by `":`. So if there are no more of these than decoded keys, no key was dropped.
    # Keys elsewhere than here and in `data` are counted only if there are any.
    data = value.get("data")
    arrived = len(value) + len(data) if type(data) is dict else len(value)
    try:
        are_distinct = b"\\" not in body and not _QUOTE_AND_SPACE.search(body)
        if are_distinct and (there := occurrences(b'":', body)) != arrived:
            are_distinct = there == _keys(value)
        key = None if are_distinct else _repeated_key(body)
    except RecursionError:
        # This parser's nesting limit is some levels below the other's.
        return _TOO_DEEP
    return value if key is None else Problem(ProblemKind.DUPLICATE_KEY, None, {"key": excerpt(key)})


_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
_MALFORMED = re.compile(r"JSON is malformed: (.*) \(byte (\d+)\)")
_NO_NUMBER = re.compile(rb"NaN|Infinity")
_FOREIGN = (
    (re.compile(rb"\x1f\x8b"), phrase(PhraseKind.COMPRESSED, coding="gzip")),
    (re.compile(rb"\x28\xb5\x2f\xfd"), phrase(PhraseKind.COMPRESSED, coding="zstd")),
    (
        re.compile(rb"\xff\xfe\0\0|\0\0\xfe\xff|\0\0\0|[^\0]\0\0\0"),
        phrase(PhraseKind.OTHER_ENCODING, encoding="UTF-32"),
    ),
    (re.compile(rb"\xff\xfe|\xfe\xff|\0|[^\0]\0"), phrase(PhraseKind.OTHER_ENCODING, encoding="UTF-16")),
)
"""How a body that is not JSON in UTF-8 begins, and what it is."""
_FLAWS = {
    "trailing characters": PhraseKind.TRAILING_CHARACTERS,
    "trailing comma in array": PhraseKind.TRAILING_COMMA,
    "trailing comma in object": PhraseKind.TRAILING_COMMA,
    "invalid character": PhraseKind.UNEXPECTED_CHARACTER,
    "object keys must be strings": PhraseKind.KEY_WITHOUT_QUOTES,
    "expected '\"'": PhraseKind.KEY_WITHOUT_QUOTES,
    "expected ':'": PhraseKind.COLON_MISSING,
    "expected ',' or ']'": PhraseKind.COMMA_MISSING,
    "expected ',' or '}'": PhraseKind.COMMA_MISSING,
    "invalid number": PhraseKind.INVALID_NUMBER,
    "invalid escape character in string": PhraseKind.INVALID_ESCAPE,
    "invalid escaped character": PhraseKind.INVALID_ESCAPE,
    "invalid character in unicode escape": PhraseKind.INVALID_ESCAPE,
    "invalid utf-16 surrogate pair": PhraseKind.INVALID_ESCAPE,
    "unexpected end of hex escape": PhraseKind.INVALID_ESCAPE,
    "unexpected end of escaped utf-16 surrogate pair": PhraseKind.INVALID_ESCAPE,
}
"""By msgspec 0.22's message about a body: `JSON is malformed: trailing characters (byte 8)`."""


def _reason(body: bytes, error: Exception) -> Phrase:
    """Return why the decoder rejects a body."""
    for beginning, reason in _FOREIGN:
        if beginning.match(body):
            return reason
    try:
        body.decode()
    except UnicodeDecodeError as wrong:
        # The decoder counts from the beginning of a string.
        return phrase(PhraseKind.NOT_UTF8, byte=f"0x{body[wrong.start]:02x}", position=wrong.start)
    message = str(error)
    if "surrogate" in message or "truncated" in message:
        for escape in _ESCAPE.finditer(body):
            if half := escape["half"]:
                return phrase(PhraseKind.HALF_SURROGATE_PAIR, escape=f"\\{half.decode()}", position=escape.start())
    if message == "Input data was truncated":
        return Phrase(PhraseKind.TRUNCATED)
    if message.startswith("Integer value out of range"):
        return phrase(PhraseKind.TOO_MANY_DIGITS, limit=4300)
    if found := _MALFORMED.fullmatch(message):
        flaw, position = found.groups()
        if word := _NO_NUMBER.match(body, int(position)):
            return phrase(PhraseKind.NOT_A_JSON_NUMBER, word=word[0].decode(), position=position)
        if flaw in _FLAWS:
            return phrase(_FLAWS[flaw], position=position)
    return phrase(PhraseKind.OTHER_FLAW, detail=message)


def _keys(value: Any) -> int:
    """Return the number of keys in an object or an array, at all depths."""
    keys = 0
    if type(value) is dict:
        keys = len(value)
        value = value.values()
    for member in value:
        # Most members contain nothing, and a call for each would take as long as everything else.
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
    # Only keys matter here, so numbers are not converted.
    try:
        json.loads(body, object_pairs_hook=_unrepeated, parse_float=str, parse_int=str)
    except _Repeated as repeated:
        return str(repeated)
    return None
