"""The access log: a line for each answered request, written by a thread, so that no request waits for it.

The standard library's logging takes some 20 µs a line, a third of what a PUT costs. Here a request appends a tuple, and the
lines of a quarter of a second are made and written together.
"""

from __future__ import annotations

import logging
import time
from functools import lru_cache
from typing import Any

import msgspec

from usertable import logs

log = logging.getLogger("usertable.access")

FLUSH_SECONDS = 0.25
"""Seconds between two looks for new lines."""
HELD_LINES = 100_000
"""Maximum number of lines that wait for whoever reads the log; further ones are left out, and counted."""
_PIECE = 4096
"""Bytes that a pipe takes whole from each of several processes."""


Answered = tuple[float, str, str, int, float, bytes, bytes | None, tuple[str, int] | None]
"""An answered request: when, by the monotonic clock; method; route; status; seconds; request id; `traceparent`; client.

The route is a template, so that no line has a CUID or an identifier's value:
(81.2, "GET", "/api/v1/projects/{project}/users/{cuid}", 200, 0.004, b"r-1", None, ("127.0.0.1", 50122)).
"""


class _Line(msgspec.Struct, omit_defaults=True):
    timestamp: str
    level: str
    logger: str
    message: str
    process: str
    method: str
    route: str
    status: int
    duration_ms: float
    client: str
    request_id: str
    trace_id: str = ""
    span_id: str = ""


class AccessLog:
    """Collects answered requests in the event loop, and writes them from a thread."""

    def __init__(self) -> None:
        self._encoder = msgspec.json.Encoder()
        self.answered: list[Answered] = []
        """Those that are not written yet; whoever answers a request appends it."""
        self._left_out = 0

    def take(self) -> list[Answered]:
        """The requests that were answered since the last call, for :meth:`write`; belongs into the event loop."""
        answered, self.answered = self.answered, []
        self._left_out += max(0, len(answered) - HELD_LINES)
        return answered[:HELD_LINES]

    def write(self, answered: list[Answered]) -> None:
        """Write a line for each; blocks while whoever reads the log does not."""
        offset = time.time() - time.monotonic()
        make = self._json if logs.settings.format == "json" else self._text
        lines = [make(each, offset) for each in answered]
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler):
                _write_pieces(handler, lines)
        if self._left_out:
            left_out, self._left_out = self._left_out, 0
            log.warning("%d requests are missing here: the log is read more slowly than requests are answered", left_out)

    def _json(self, each: Answered, offset: float) -> str:
        finished, method, route, status, seconds, request_id, traceparent, client = each
        at = offset + finished
        line = _Line(
            f"{_utc(int(at))}.{int(at % 1 * 1_000_000):06}Z",
            "INFO",
            log.name,
            f"{method} {route} {status}",
            logs.settings.process,
            method,
            route,
            status,
            round(seconds * 1000, 2),
            client[0] if client else "",
            request_id.decode(),
            **logs.trace_fields(traceparent),
        )
        return self._encoder.encode(line).decode()

    def _text(self, each: Answered, offset: float) -> str:
        finished, method, route, status, seconds, request_id, traceparent, client = each
        at = offset + finished
        told = f"{method} {route} {status} {seconds * 1000:.2f} ms {client[0] if client else '-'}"
        fields = {"request_id": request_id.decode(), **logs.trace_fields(traceparent)}
        return f"{_local(int(at))},{int(at % 1 * 1000):03} INFO {log.name}: {told}{logs.text_fields(fields)}"


@lru_cache(4)
def _utc(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


@lru_cache(4)
def _local(second: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))


def _write_pieces(handler: logging.StreamHandler[Any], lines: list[str]) -> None:
    """Write lines so that those of several processes on one pipe do not mix."""
    piece = ""
    handler.acquire()
    try:
        for line in [*lines, ""]:
            if piece and (not line or len(piece) + len(line) >= _PIECE):
                handler.stream.write(piece)
                handler.flush()
                piece = ""
            piece += f"{line}\n" if line else ""
    finally:
        handler.release()
