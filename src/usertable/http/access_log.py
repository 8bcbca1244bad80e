"""The access log: one line per answered request, written by a thread, so that no request waits for it.

The standard library's logging takes 8 to 20 µs per line, as long as the server's own code takes for a PUT. Here a line is
formatted by hand from texts that are kept, which takes 1 µs, and the lines of a quarter of a second are written together.
They are formatted in the event loop: a thread that formats them would compete with it for the interpreter.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from usertable import logs
from usertable.http.request_counts import RouteCounts

log = logging.getLogger("usertable.access")

FLUSH_SECONDS = 0.25
"""Seconds between two checks for new lines."""
HELD_LINES = 100_000
"""Maximum number of lines waiting for the reader of the log. Further lines are dropped, and counted."""
SHORT = 2_500
"""Durations whose texts are kept: below 25 ms, in hundredths of a millisecond."""
CHARACTERS_AT_ONCE = 4096
"""Maximum size of a write: a pipe writes as many bytes atomically, so that the lines of several processes do not mix."""

Caller = tuple[str, int]
"""Address and port."""


class AccessLog:
    """The access log of a process, in the form of its other log lines.

    Args:
        settings: how the process logs.
    """

    def __init__(self, settings: logs.LogSettings) -> None:
        self._form = form = _JSON if settings.format == "json" else _TEXT
        self._between, self._before_id, self._end = form.between, form.before_id, form.end
        self._process = settings.process
        self._lines: list[str] = []
        """Lines that are not written yet."""
        self._dropped = 0
        """Number of lines that were dropped since the start. Belongs to the event loop."""
        self._failed = 0
        """Number of lines that could not be written since the start. Belongs to the thread that writes."""
        self._reported = 0
        """Number of missing lines that warnings have reported."""
        self._writing = threading.Lock()
        self._requests: dict[tuple[RouteCounts, int], str] = {}
        """Texts of the methods, routes and statuses that have occurred."""
        self._durations = [f"{hundredths / 100:.2f}" for hundredths in range(SHORT)]
        """Texts of short durations in milliseconds: formatting a number takes as long as the rest of a line."""
        self._from = self._until = 0.0
        """The millisecond that `_moment` is the text of, by the monotonic clock."""
        self._moment = ""
        self._second = 0
        """The second that `_time` is the text of, since 1970 UTC."""
        self._time = ""

    def add(
        self,
        finished: float,
        counts: RouteCounts,
        status: int,
        seconds: float,
        request_id: bytes,
        traceparent: bytes | None,
        caller: Caller | None,
    ) -> None:
        """Add the line of an answered request. Call it in the event loop.

        Args:
            finished: when it was answered, by the monotonic clock.
            counts: its method and route. The route is a template, so that no line contains a CUID or an identifier value:
                `/api/v1/projects/{project}/users/{cuid}`.
            seconds: how long it took.
            caller: None for a Unix socket.
        """
        if len(self._lines) >= HELD_LINES:
            self._dropped += 1
            return
        if not self._from <= finished < self._until:
            self._tell_time(finished)
        request = self._requests.get((counts, status)) or self._request(counts, status)
        hundredths = round(seconds * 100_000)
        duration = self._durations[hundredths] if hundredths < SHORT else f"{hundredths / 100:.2f}"
        name = request_id.decode()
        # Of the characters that an ID may contain, JSON must escape these.
        if traceparent is not None or '"' in name or "\\" in name:
            name = self._form.fields(name, logs.trace_fields(traceparent))
        host = self._form.nobody if caller is None else caller[0]
        self._lines.append(f"{self._moment}{request}{duration}{self._between}{host}{self._before_id}{name}{self._end}")

    @property
    def is_due(self) -> bool:
        """Whether there is something to write."""
        return bool(self._lines) or self._dropped + self._failed > self._reported

    def write(self) -> None:
        """Write the lines that were added, in order. May be called by any thread. Blocks while nobody reads the log."""
        with self._writing:
            count = len(self._lines)
            lines = self._lines[:count]
            # Not replaced by an empty list: the event loop may be about to append to it.
            del self._lines[:count]
            for handler in logging.getLogger().handlers:
                if isinstance(handler, logging.StreamHandler):
                    self._failed += _write(handler, "".join(lines))
            if missing := self._dropped + self._failed - self._reported:
                self._reported += missing
                log.warning("requests missing here: %d, because stderr is read too slowly or cannot be written", missing)

    def _tell_time(self, monotonic: float) -> None:
        # Taken here, so that an adjustment of the clock is followed.
        offset = time.time() - time.monotonic()
        millisecond = int((monotonic + offset) * 1000)
        self._from, self._until = millisecond / 1000 - offset, (millisecond + 1) / 1000 - offset
        if millisecond // 1000 != self._second:
            self._second = millisecond // 1000
            self._time = self._form.time(self._second)
        self._moment = self._form.moment % (self._time, millisecond % 1000)

    def _request(self, counts: RouteCounts, status: int) -> str:
        text = self._requests[counts, status] = self._form.request(counts, status, self._process)
        return text


class _Form(NamedTuple):
    """The form of the lines."""

    time: Callable[[int], str]
    """Returns the text of a time in seconds since 1970 UTC."""
    moment: str
    """Template of the beginning of a line, with that text, and milliseconds."""
    request: Callable[[RouteCounts, int, str], str]
    """Returns what follows, up to the duration, by method and route, status, and the process's name."""
    between: str
    """Stands between the duration and the caller's address."""
    nobody: str
    """Stands for the address of a caller on a Unix socket."""
    before_id: str
    """Stands between the address and the request's ID."""
    fields: Callable[[str, dict[str, str]], str]
    """Returns an ID with what needs escaping, and the fields of its trace, to stand there instead."""
    end: str


def _text_time(second: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))


def _text_request(counts: RouteCounts, status: int, process: str) -> str:
    return f" INFO {log.name}: {counts.method} {counts.route} {status} "


def _text_fields(name: str, trace: dict[str, str]) -> str:
    return " ".join((name, *(f"{key}={value}" for key, value in trace.items())))


def _json_time(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _json_request(counts: RouteCounts, status: int, process: str) -> str:
    fields = {
        "level": "INFO",
        "logger": log.name,
        "message": f"{counts.method} {counts.route} {status}",
        "process": process,
        "method": counts.method,
        "route": counts.route,
        "status": status,
    }
    return f'{msgspec.json.encode(fields).decode()[1:-1]},"duration_ms":'


def _json_fields(name: str, trace: dict[str, str]) -> str:
    return msgspec.json.encode({"": name, **trace}).decode()[len('{"":"') : -len('"}')]


_TEXT = _Form(_text_time, "%s,%03d", _text_request, " ms ", "-", " [request_id=", _text_fields, "]\n")
_JSON = _Form(
    *(_json_time, '{"timestamp":"%s.%03d000Z",', _json_request, ',"client":"', "", '","request_id":"', _json_fields, '"}\n')
)


def _write(handler: logging.StreamHandler[Any], text: str) -> int:
    """Write whole lines, in pieces that a pipe does not mix with others. Return the number of lines that failed."""
    begin = 0
    handler.acquire()
    try:
        while begin < len(text):
            end = text.rfind("\n", begin, begin + CHARACTERS_AT_ONCE) + 1 or text.index("\n", begin) + 1
            # Standard error is flushed at the end of a line.
            handler.stream.write(text[begin:end])
            begin = end
    except OSError:
        # A full disk, for one. The server goes on, and so does the log when there is space again.
        return text.count("\n", begin)
    finally:
        handler.release()
    return 0
