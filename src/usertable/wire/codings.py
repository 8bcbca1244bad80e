"""Content codings of request bodies, gzip and zstd, with bounded memory."""

from __future__ import annotations

import zlib
from typing import Any

from usertable.domain.errors import Problem, ProblemKind, excerpt, phrase
from usertable.domain.phrases import Phrase, PhraseKind
from usertable.zstandard import zstd

ZSTD_WINDOW_LOG = 23
"""Maximum window of a zstd body: 2**23 bytes, 8 MiB, as in RFC 9659 for HTTP."""
CODINGS = ("gzip", "zstd")
_GZIP = 16 + zlib.MAX_WBITS


def decompress(body: bytes, coding: str, limit: int) -> bytes | Problem:
    """Return `body` without its content coding (the value of `Content-Encoding`; empty for none), or the problem.

    A body that would exceed `limit` bytes is refused without decompressing further. It must be a single gzip member or zstd
    frame: millions of empty ones take much time and contain nothing.
    """
    name = coding.strip().lower()
    if name in ("", "identity"):
        return body
    decompressor: Any
    if name in ("gzip", "x-gzip"):
        decompressor = zlib.decompressobj(_GZIP)
    elif name == "zstd":
        decompressor = zstd.ZstdDecompressor(options={int(zstd.DecompressionParameter.window_log_max): ZSTD_WINDOW_LOG})
    else:
        return Problem(ProblemKind.CONTENT_CODING, None, {"value": excerpt(coding), "have": CODINGS})
    try:
        decompressed: bytes = decompressor.decompress(body, limit + 1)
    except (zlib.error, zstd.ZstdError) as error:
        return _broken(name, phrase(PhraseKind.OTHER_FLAW, detail=error))
    if len(decompressed) > limit:
        return Problem(ProblemKind.BODY_TOO_LARGE, None, {"limit": str(limit)})
    if not decompressor.eof:
        return _broken(name, Phrase(PhraseKind.TRUNCATED))
    if rest := len(decompressor.unused_data):
        return _broken(name, phrase(PhraseKind.TRAILING_BYTES, count=rest))
    return decompressed


def _broken(coding: str, reason: Phrase) -> Problem:
    return Problem(ProblemKind.BODY_BROKEN, None, {"coding": coding, "reason": reason})
