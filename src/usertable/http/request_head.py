"""Which heads of requests are taken, by RFC 9110 and 9112, beyond what the parser decides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain

import httptools

from usertable.domain.errors import Problem, ProblemKind, excerpt
from usertable.http.answers import Header

HEAD_BYTES = 65_536
"""Bytes that the head of a request may have, and the trailers behind a body."""
HEAD_LINES = 100
"""Header lines that a request may have, and trailers that a body may have."""
SMALL_HEAD = HEAD_BYTES - 2 * HEAD_LINES
"""Bytes of a head that cannot be too large, whatever blanks it leaves out."""
_SINGLE = frozenset((b"authorization", b"content-type", b"content-encoding", b"idempotency-key", b"host"))
"""Headers that a request may have once: of two, one would silently not count."""
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(:[0-9]*)?")


def repeated_header(headers: Sequence[Header]) -> Problem | None:
    """Why headers cannot be taken of which several have one name."""
    names = [name for name, _ in headers]
    for name in names:
        if name in _SINGLE and names.count(name) > 1:
            return Problem(ProblemKind.HEADER_REPEATED, None, {"name": name.decode().title()})
    return None


def unknown_coding(headers: Sequence[Header], version: str) -> Problem | None:
    """Why a request with a `Transfer-Encoding` cannot be taken."""
    for coding in _values(headers, b"transfer-encoding"):
        if coding.lower() != b"chunked" or version == "1.0":
            return Problem(ProblemKind.TRANSFER_CODING, None, {"value": excerpt(coding.decode("latin-1"))})
    return None


def unknown_expectation(headers: Sequence[Header]) -> Problem | None:
    """Why a request with an `Expect` cannot be taken."""
    for expected in _values(headers, b"expect"):
        if expected.lower() != b"100-continue":
            return Problem(ProblemKind.EXPECTATION, None, {"value": excerpt(expected.decode("latin-1"))})
    return None


def _values(headers: Sequence[Header], name: bytes) -> list[bytes]:
    return [value for each, value in headers if each == name]


def is_host(value: bytes) -> bool:
    """Whether it is a host, as `Host` names one."""
    return _HOST.fullmatch(value) is not None


def head_bytes(url: bytes, headers: Sequence[Header]) -> int:
    """What counts for `HEAD_BYTES`; of a head without a blank behind its colons up to a byte more per line than arrived."""
    return len(url) + sum(map(len, chain.from_iterable(headers))) + 4 * len(headers)


def is_target(url: bytes) -> bool:
    """Whether it is a path, `*`, or a whole URL as a client writes it to a proxy."""
    if b"#" in url:
        return False
    if not url.startswith((b"/", b"*")):
        try:
            httptools.parse_url(url)
        except httptools.HttpParserInvalidURLError:
            return False
    return True


def head_too_large() -> Problem:
    """The problem of a head, or of trailers, beyond its bounds."""
    return Problem(ProblemKind.HEAD_TOO_LARGE, None, {"limit": str(HEAD_BYTES), "lines": str(HEAD_LINES)})
