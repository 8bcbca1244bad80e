"""Positions of a JSON array's elements, and the number of values in a body, found in the bytes without an object for each.

A few bytes of JSON become an object of 50 to 100 bytes: 16 MB of `[],[],…` would take 400 MB and seconds. Nothing is
validated here; the elements are decoded afterwards.
"""

from __future__ import annotations

import re

# Each match covers some thousand pieces at most, so that other threads run in between. A text with more escapes, or a longer
# one, is searched on its own. A group is repeated within `(?>…)`, not by a possessive `+`, which is wrong in Python before
# 3.11.5: https://github.com/python/cpython/issues/106052.
_STRING = rb'"(?>(?:[^"\\]{1,1000}+|\\.){0,1000})"'
_STRING_GOES_ON = re.compile(rb'(?>(?:[^"\\]{1,1000}+|\\.){0,1000})', re.DOTALL)
_FLAT = rb'(?>(?:[^][{}"]{1,1000}+|%b){0,1000})' % _STRING
_INSIDE = re.compile(rb'(?>(?:[^][{}"]{1,1000}+|%b|\[%b\]|\{%b\}){0,1000})([][{}]?)' % (_STRING, _FLAT, _FLAT), re.DOTALL)
_BETWEEN = re.compile(rb'(?>(?:[^][{},"]{1,1000}+|%b){0,1000})([][{},]?)' % _STRING, re.DOTALL)
_SHORT_STRING = rb'"[^"\\]{0,1000}+(?>(?:\\.[^"\\]{0,1000}+){0,100})"'
_TEXT = re.compile(_SHORT_STRING, re.DOTALL)
_WITH_TEXTS = re.compile(rb'(?>(?:[^"]{1,1000}+|%b){0,300})' % _SHORT_STRING, re.DOTALL)
_PIECE = 262_144
"""Bytes searched per step."""


def split_array(body: bytes, start: int, maximum: int) -> tuple[list[tuple[int, int]], int]:
    """Return the elements of the array whose `[` is before `start`: the begin and end of each, and the position of the `]`.

    Stops after `maximum` + 1 elements, with -1 for the `]`; also if the array has no end. For `[1, {"a":[2]}]` and 1 it
    returns `[(1, 2), (3, 13)]` and 13.
    """
    found: list[tuple[int, int]] = []
    begin = at = start
    depth = 0
    while len(found) <= maximum:
        match = (_INSIDE if depth else _BETWEEN).match(body, at)
        assert match
        token = match[1]
        if not token:
            at = _after_string(body, match.end()) if match.end() == at else match.end()
            if at < 0:
                break
            continue
        if token in b"[{":
            depth += 1
        elif depth:
            depth -= 1
        elif token == b",":
            found.append((begin, match.end() - 1))
            begin = match.end()
        else:
            end = match.end() - 1
            if found or body[begin:end].strip():
                found.append((begin, end))
            return found, end if token == b"]" else -1
        at = match.end()
    return found, -1


def holds_more_values(body: bytes, maximum: int) -> bool:
    """Return whether a JSON text contains more than `maximum` values, in arrays and objects of any depth."""
    return _has(maximum, (b",", b"[", b"{"), body)


def holds_more_containers(body: bytes, maximum: int) -> bool:
    """Return whether a JSON text contains more than `maximum` arrays and objects, at any depth."""
    return _has(maximum + 1, (b"[", b"{"), body)


def occurrences(piece: bytes, body: bytes) -> int:
    """Return how often a piece occurs in a body, which may be large. The piece does not overlap itself."""
    if len(body) <= _PIECE:
        return body.count(piece)
    return sum(body.count(piece, at, at + _PIECE + len(piece) - 1) for at in range(0, len(body), _PIECE))


def _has(wanted: int, tokens: tuple[bytes, ...], body: bytes) -> bool:
    """Return whether a JSON text has at least `wanted` of these single-byte characters outside of strings."""
    if sum(occurrences(token, body) for token in tokens) < wanted:
        return False
    # Some of those may be inside texts.
    count = at = 0
    while count < wanted and 0 <= at < len(body):
        match = _WITH_TEXTS.match(body, at, at + _PIECE)
        assert match
        outside = _TEXT.sub(b"", match[0])
        count += sum(map(outside.count, tokens))
        # If nothing matches, a longer string begins here.
        at = match.end() if match.end() > at else _after_string(body, at)
    return count >= wanted


def _after_string(body: bytes, at: int) -> int:
    """Return the end of the string that begins there; -1 if none does, or it has no end."""
    if body[at : at + 1] != b'"':
        return -1
    at += 1
    while match := _STRING_GOES_ON.match(body, at):
        if match.end() == at:
            break
        at = match.end()
    return at + 1 if body[at : at + 1] == b'"' else -1
