"""The access log: one line per answered request, written by a thread, so that no request waits for it.

The standard library's logging takes 8 to 20 µs per line, as long as the server's own code takes for a PUT. Here a request
appends a tuple, and the lines of a quarter of a second are created and written together. Requests of one commit share a
text.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec

from usertable import logs
from usertable.http.request_counts import RouteCounts

log = logging.getLogger("usertable.access")

FLUSH_SECONDS = 0.25
"""Seconds between two checks for new lines."""
HELD_LINES = 100_000
"""Maximum number of lines waiting for the reader of the log. Further lines are dropped, and counted."""
LINES_AT_ONCE = 8
"""Number of lines per write: a pipe writes up to 4,096 bytes atomically, so that the lines of several workers do not mix."""

Outcome = tuple[float, RouteCounts, int, float]
"""When a request was answered, by the monotonic clock; method and route; status; seconds.

The route is a template, so that no line contains a CUID or an identifier value: `/api/v1/projects/{project}/users/{cuid}`.
"""
Caller = tuple[str, int]
"""Address and port."""
Answered = tuple[Outcome, bytes, bytes | None, Caller | None]
"""An answered request: its outcome, its ID, its `traceparent`, its caller."""

_encode = msgspec.json.Encoder().encode


class AccessLog:
    """Collects answered requests in the event loop, and writes them from a thread."""

    def __init__(self) -> None:
        self.answered: list[Answered] = []
        """Requests that are not written yet. Answering a request appends it."""
        self._left_out = 0

    def take(self) -> list[Answered]:
        """Remove and return the requests answered since the last call, for :meth:`write`. Call it in the event loop."""
        answered, self.answered = self.answered, []
        self._left_out += max(0, len(answered) - HELD_LINES)
        return answered[:HELD_LINES]

    def write(self, answered: Sequence[Answered]) -> None:
        """Write one line per request. Blocks while the reader of the log does not read."""
        offset = time.time() - time.monotonic()
        form = _JSON if logs.settings.format == "json" else _TEXT
        lines: list[str] = []
        for outcome, group in groupby(answered, itemgetter(0)):
            # The common text of one commit's requests is created once.
            begin = form.begin(outcome, offset + outcome[0])
            requests = list(group)
            _, ids, traceparents, callers = zip(*requests, strict=True)
            together = b"".join(ids)
            # Of the characters that an ID may contain, JSON must escape these.
            if any(traceparents) or None in callers or b'"' in together or b"\\" in together:
                lines += [f"{begin}{form.rest(*rest)}\n" for _, *rest in requests]
            else:
                lines += form.plain(begin, map(bytes.decode, ids), callers)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler):
                _write(handler, lines)
        if self._left_out:
            left_out, self._left_out = self._left_out, 0
            log.warning(
                "requests missing here: %d, because the log is read more slowly than requests are answered", left_out
            )


class _Form(NamedTuple):
    """The form of the lines."""

    begin: Callable[[Outcome, float], str]
    """Returns the beginning of a line, by the outcome and the time in seconds since 1970 UTC."""
    rest: Callable[..., str]
    """Returns the rest, by ID, `traceparent` and caller."""
    plain: Callable[[str, Iterable[str], Iterable[Caller]], list[str]]
    """Returns complete lines for requests without a trace, whose IDs and callers need no escaping."""


def _text_begin(outcome: Outcome, at: float) -> str:
    _, counts, status, seconds = outcome
    moment = f"{_local(int(at))},{int(at % 1 * 1000):03}"
    return f"{moment} INFO {log.name}: {counts.method} {counts.route} {status} {seconds * 1000:.2f} ms"


def _text_rest(request_id: bytes, traceparent: bytes | None, caller: Caller | None) -> str:
    fields = {"request_id": request_id.decode(), **logs.trace_fields(traceparent)}
    return f" {caller[0] if caller else '-'}{logs.text_fields(fields)}"


def _plain_text(begin: str, ids: Iterable[str], callers: Iterable[Caller]) -> list[str]:
    return [f"{begin} {caller[0]} [request_id={name}]\n" for name, caller in zip(ids, callers, strict=True)]


def _json_begin(outcome: Outcome, at: float) -> str:
    _, counts, status, seconds = outcome
    fields = {
        "timestamp": f"{_utc(int(at))}.{int(at % 1 * 1_000_000):06}Z",
        "level": "INFO",
        "logger": log.name,
        "message": f"{counts.method} {counts.route} {status}",
        "process": logs.settings.process,
        "method": counts.method,
        "route": counts.route,
        "status": status,
        "duration_ms": round(seconds * 1000, 2),
    }
    return _encode(fields).decode()[:-1]


def _json_rest(request_id: bytes, traceparent: bytes | None, caller: Caller | None) -> str:
    fields = {"client": caller[0] if caller else "", "request_id": request_id.decode(), **logs.trace_fields(traceparent)}
    return f",{_encode(fields).decode()[1:]}"


def _plain_json(begin: str, ids: Iterable[str], callers: Iterable[Caller]) -> list[str]:
    return [f'{begin},"client":"{caller[0]}","request_id":"{name}"}}\n' for name, caller in zip(ids, callers, strict=True)]


@lru_cache(4)
def _local(second: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))


@lru_cache(4)
def _utc(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


_TEXT = _Form(_text_begin, _text_rest, _plain_text)
_JSON = _Form(_json_begin, _json_rest, _plain_json)


def _write(handler: logging.StreamHandler[Any], lines: Sequence[str]) -> None:
    handler.acquire()
    try:
        for start in range(0, len(lines), LINES_AT_ONCE):
            # Standard error is flushed at the end of a line.
            handler.stream.write("".join(lines[start : start + LINES_AT_ONCE]))
    finally:
        handler.release()
