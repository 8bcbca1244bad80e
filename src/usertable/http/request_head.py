"""Which heads of requests are accepted, by RFC 9110 and 9112, in addition to the parser's checks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain

import httptools

from usertable.domain.errors import Problem, ProblemKind, excerpt
from usertable.http.answers import Header

HEAD_BYTES = 65_536
"""Maximum bytes of a request's head, and of the trailers after a body."""
HEAD_LINES = 100
"""Maximum number of header lines of a request, and of trailers of a body."""
SMALL_HEAD = HEAD_BYTES - 2 * HEAD_LINES
"""Bytes of arrived data up to which a head cannot be too large, whatever blanks were removed."""
_SINGLE = frozenset(
    (b"authorization", b"content-type", b"content-encoding", b"idempotency-key", b"usertable-source", b"host")
)
"""Headers that a request may have only once: of two, one would be silently ignored."""
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(:[0-9]*)?")


def repeated_header(headers: Sequence[Header]) -> Problem | None:
    """Return why repeated headers are not accepted; None if they are."""
    names = [name for name, _ in headers]
    for name in names:
        if name in _SINGLE and names.count(name) > 1:
            return Problem(ProblemKind.HEADER_REPEATED, None, {"name": name.decode().title()})
    return None


def unknown_coding(headers: Sequence[Header], version: str) -> Problem | None:
    """Return why a request's `Transfer-Encoding` is not accepted; None if it is."""
    for coding in _values(headers, b"transfer-encoding"):
        if coding.lower() != b"chunked" or version == "1.0":
            return Problem(ProblemKind.TRANSFER_CODING, None, {"value": excerpt(coding.decode("latin-1"))})
    return None


def unknown_expectation(headers: Sequence[Header]) -> Problem | None:
    """Return why a request's `Expect` is not accepted; None if it is."""
    for expected in _values(headers, b"expect"):
        if expected.lower() != b"100-continue":
            return Problem(ProblemKind.EXPECTATION, None, {"value": excerpt(expected.decode("latin-1"))})
    return None


def _values(headers: Sequence[Header], name: bytes) -> list[bytes]:
    return [value for each, value in headers if each == name]


def is_host(value: bytes) -> bool:
    """Return whether the value is a valid `Host`."""
    return _HOST.fullmatch(value) is not None


def head_bytes(url: bytes, headers: Sequence[Header]) -> int:
    """Return the bytes that count for `HEAD_BYTES`: up to one per line more than arrived, without blanks after colons."""
    return len(url) + sum(map(len, chain.from_iterable(headers))) + 4 * len(headers)


def is_target(url: bytes) -> bool:
    """Return whether it is a path, `*`, or a whole URL as a client sends it to a proxy."""
    if b"#" in url:
        return False
    if not url.startswith((b"/", b"*")):
        try:
            httptools.parse_url(url)
        except httptools.HttpParserInvalidURLError:
            return False
    return True


def head_too_large() -> Problem:
    """Return the problem with a head, or with trailers, that are too large."""
    return Problem(ProblemKind.HEAD_TOO_LARGE, None, {"limit": str(HEAD_BYTES), "lines": str(HEAD_LINES)})
