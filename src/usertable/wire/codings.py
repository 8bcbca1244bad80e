"""Content codings of request bodies: gzip and zstd, and never more memory than the limit allows."""

from __future__ import annotations

import sys
import zlib
from typing import Any

from usertable.domain.errors import Problem, ProblemKind, excerpt

if sys.version_info >= (3, 14):
    from compression import zstd as zstd
else:
    from backports import zstd as zstd

ZSTD_WINDOW_LOG = 23
"""A zstd body may ask for a window of 8 MiB at most, as RFC 9659 has it for HTTP."""
CODINGS = ("gzip", "zstd")
_GZIP = 16 + zlib.MAX_WBITS


def decompress(body: bytes, coding: str, limit: int) -> bytes | Problem:
    """`body` without its content coding (the value of `Content-Encoding`; empty for none), if it is one that we know.

    A body that would be larger than `limit` bytes is refused as soon as that shows: it is not inflated further. It is one
    gzip member or zstd frame: millions of empty ones cost much time and give nothing.
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
        return Problem(ProblemKind.CONTENT_CODING, None, {"value": excerpt(coding), "have": ", ".join(CODINGS)})
    try:
        decompressed: bytes = decompressor.decompress(body, limit + 1)
    except (zlib.error, zstd.ZstdError) as error:
        return Problem(ProblemKind.BODY_BROKEN, None, {"coding": name, "reason": excerpt(str(error), 120)})
    if len(decompressed) > limit:
        return Problem(ProblemKind.BODY_TOO_LARGE, None, {"limit": str(limit)})
    if not decompressor.eof:
        return Problem(ProblemKind.BODY_BROKEN, None, {"coding": name, "reason": "its end is missing"})
    if rest := len(decompressor.unused_data):
        return Problem(ProblemKind.BODY_BROKEN, None, {"coding": name, "reason": f"{rest} bytes follow its end"})
    return decompressed
