"""The lines of the access log, below the server."""

from __future__ import annotations

import io
import json
import logging
import threading
import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from usertable import logs
from usertable.http import access_log
from usertable.http.access_log import AccessLog
from usertable.http.request_counts import RouteCounts

COUNTS = RouteCounts("GET", "/livez")
TRACEPARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Stream(io.StringIO):
    """A log that can be full, or not read."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self.is_full = False
        self.readable_again = threading.Event()
        self.readable_again.set()

    def write(self, text: str) -> int:
        self.readable_again.wait()
        if self.is_full:
            raise OSError(28, "No space left on device")
        self.pieces.append(text)
        return super().write(text)


@pytest.fixture
def stream() -> Iterator[Stream]:
    """Return the stream that the root logger writes to."""
    stream = Stream()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    before, root.handlers = root.handlers, [handler]
    yield stream
    root.handlers = before


def add(log: AccessLog, name: bytes, *, seconds: float = 0.0012, traceparent: bytes | None = None) -> None:
    log.add(time.monotonic(), COUNTS, 200, seconds, name, traceparent, ("127.0.0.1", 4711))


def ids(stream: Stream) -> list[str]:
    return [json.loads(line)["request_id"] for line in stream.getvalue().splitlines() if line.startswith("{")]


@pytest.mark.parametrize("traceparent", [None, TRACEPARENT, b"garbage"])
@pytest.mark.parametrize("name", [b"r-1", b'"', b"\\", b'a"}\\u0041'])
def test_every_id_that_is_allowed_makes_a_valid_object(stream: Stream, name: bytes, traceparent: bytes | None) -> None:
    log = AccessLog(logs.LogSettings("worker 1", format="json"))
    add(log, name, traceparent=traceparent)
    log.write()
    line = json.loads(stream.getvalue())
    del line["timestamp"]
    trace = {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7"}
    assert line == {
        "level": "INFO",
        "logger": "usertable.access",
        "message": "GET /livez 200",
        "process": "worker 1",
        "method": "GET",
        "route": "/livez",
        "status": 200,
        "duration_ms": 1.2,
        "client": "127.0.0.1",
        "request_id": name.decode(),
        **(trace if traceparent == TRACEPARENT else {}),
    }


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.000004, "0.00"), (0.02499, "24.99"), (0.025, "25.00"), (61.5, "61500.00")]
)
def test_a_duration_is_in_milliseconds_with_two_decimals(stream: Stream, seconds: float, shown: str) -> None:
    log = AccessLog(logs.LogSettings())
    add(log, b"r-1", seconds=seconds, traceparent=TRACEPARENT)
    log.write()
    fields = "request_id=r-1 trace_id=4bf92f3577b34da6a3ce929d0e0e4736 span_id=00f067aa0ba902b7"
    assert stream.getvalue().endswith(f" INFO usertable.access: GET /livez 200 {shown} ms 127.0.0.1 [{fields}]\n")


def test_lines_have_the_time_at_which_each_request_was_answered(stream: Stream) -> None:
    log = AccessLog(logs.LogSettings(format="json"))
    now = time.monotonic()
    for later in (0.0, -3700.0, 0.0, 0.2, 1.0):
        log.add(now + later, COUNTS, 200, 0.0, b"r", None, None)
    log.write()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    first, *others = [datetime.fromisoformat(line["timestamp"]) for line in lines]
    # To the millisecond, by two clocks that are read one after the other.
    assert [round((other - first).total_seconds(), 1) for other in others] == [-3700.0, 0.0, 0.2, 1.0]
    assert {line["client"] for line in lines} == {""}


def test_a_write_has_whole_lines_that_a_pipe_does_not_split(stream: Stream) -> None:
    log = AccessLog(logs.LogSettings(format="json"))
    names = [f"r-{number}" for number in range(1000)]
    for name in names:
        add(log, name.encode())
    log.write()
    assert ids(stream) == names
    assert all(piece.endswith("\n") and 3000 < len(piece) <= 4096 for piece in stream.pieces[:-1])


def test_lines_that_nobody_reads_are_limited_and_counted(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "HELD_LINES", 5)
    log = AccessLog(logs.LogSettings(format="json"))
    for number in range(8):
        add(log, b"r-%d" % number)
    log.write()
    assert ids(stream) == ["r-0", "r-1", "r-2", "r-3", "r-4"]
    assert "requests missing here: 3" in stream.getvalue()
    add(log, b"r-8")
    log.write()
    assert ids(stream)[-1] == "r-8"
    assert stream.getvalue().count("missing") == 1


def test_the_log_continues_after_a_full_disk(stream: Stream) -> None:
    log = AccessLog(logs.LogSettings(format="json"))
    stream.is_full = True
    add(log, b"r-1")
    log.write()
    stream.is_full = False
    add(log, b"r-2")
    log.write()
    assert ids(stream) == ["r-2"]
    assert log.is_due is False


def test_lines_stay_in_order_if_one_thread_still_writes_when_the_next_begins(stream: Stream) -> None:
    log = AccessLog(logs.LogSettings(format="json"))
    stream.readable_again.clear()
    for number in range(200):
        add(log, b"r-%d" % number)
    first = threading.Thread(target=log.write)
    first.start()
    for number in range(200, 400):
        add(log, b"r-%d" % number)
    second = threading.Thread(target=log.write)
    second.start()
    stream.readable_again.set()
    first.join()
    second.join()
    assert ids(stream) == [f"r-{number}" for number in range(400)]
