"""Logging in all processes of a server: one event per line, as text or JSON, with the request that it belongs to.

No log contains a secret or a user's value. So for an exception of another library only the type and the traceback are
logged: its message may quote what was sent, as in `invalid literal for int(): '18012345678'`.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import traceback
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Literal

from pythonjsonlogger.msgspec import MsgspecFormatter

Format = Literal["text", "json"]

_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")
_INDENT = "    "
_CAUSES = {
    True: "The above was the direct cause of:",
    False: "While handling the above, another was raised:",
}


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How a process logs."""

    process: str = ""
    """Name of the process: `server`, `worker 0`, `writer`, `parent`."""
    level: str = "warning"
    format: Format = "text"


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """The request that log lines belong to."""

    id: str
    traceparent: bytes | None = None
    """The caller's W3C trace context: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01."""

    def fields(self) -> dict[str, str]:
        """Return the fields of a line: the request's ID, and the caller's trace and span."""
        return {"request_id": self.id, **trace_fields(self.traceparent)}


settings = LogSettings()
"""The settings of this process."""
request: ContextVar[LoggedRequest | None] = ContextVar("request", default=None)
"""The request that is being served. Threads that its coroutine waits for see it too."""


def trace_fields(traceparent: bytes | None) -> dict[str, str]:
    """Return the IDs in a `traceparent`; empty if it is missing or malformed (https://www.w3.org/TR/trace-context/)."""
    found = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    return {} if found is None else {"trace_id": found[1].decode(), "span_id": found[2].decode()}


def configure(chosen: LogSettings) -> None:
    """Log to stderr in this process, including what Python would write there itself: warnings and uncaught exceptions."""
    global settings
    settings = chosen
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(chosen.process) if chosen.format == "json" else TextFormatter())
    logging.basicConfig(level=chosen.level.upper(), handlers=[handler])
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda thread: _log_uncaught(thread.exc_type, thread.exc_value, thread.exc_traceback)


def set_level(level: str) -> None:
    """Change the log level."""
    global settings
    settings = replace(settings, level=level)
    logging.getLogger().setLevel(level.upper())


def announce(log: logging.Logger, message: str) -> None:
    """Log a message regardless of the level."""
    log.callHandlers(log.makeRecord(log.name, logging.INFO, __file__, 0, message, (), None))


class TextFormatter(logging.Formatter):
    """`2026-11-30 08:15:00,123 WARNING usertable.http: what happened [request_id=r-1]`, then a traceback, indented."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        return super().formatMessage(record).replace("\r", "\\r").replace("\n", "\\n") + text_fields(_request_fields())

    def formatException(self, ei: Any) -> str:
        return "".join(f"{_INDENT}{line}\n" for line in exception_lines(ei[1])).rstrip("\n")


class JsonFormatter(MsgspecFormatter):
    """One object per line; a traceback is its field `exception`."""

    def __init__(self, process: str) -> None:
        super().__init__(
            ["levelname", "name", "message"],
            rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception"},
            static_fields={"process": process},
            timestamp="timestamp",
        )

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        return {**log_data, **_request_fields()}

    def formatException(self, ei: Any) -> str:
        return "\n".join(exception_lines(ei[1]))


def text_fields(fields: dict[str, str]) -> str:
    """Return the fields of a text line: ` [request_id=r-1 trace_id=4bf9… span_id=00f0…]`."""
    return f" [{' '.join(f'{name}={value}' for name, value in fields.items())}]" if fields else ""


def exception_lines(failure: BaseException | None) -> Iterator[str]:
    """Yield the lines of a traceback, causes first. Only usertable's and the system's exceptions have their messages."""
    if failure is None:
        return
    cause = failure.__cause__ or (None if failure.__suppress_context__ else failure.__context__)
    if cause is not None:
        yield from exception_lines(cause)
        yield _CAUSES[failure.__cause__ is not None]
    if failure.__traceback__ is not None:
        yield "Traceback (most recent call last):"
        for frame in traceback.format_tb(failure.__traceback__):
            yield from frame.rstrip("\n").split("\n")
    module = type(failure).__module__
    name = type(failure).__qualname__ if module == "builtins" else f"{module}.{type(failure).__qualname__}"
    tells = module.partition(".")[0] == "usertable" or isinstance(failure, OSError | SystemExit)
    first, *further = str(failure).split("\n") if tells else [""]
    yield f"{name}: {first}" if first else name
    yield from further
    if isinstance(failure, BaseExceptionGroup):
        for each in failure.exceptions:
            yield from (f"{_INDENT}{line}" for line in exception_lines(each))


def _request_fields() -> dict[str, str]:
    current = request.get()
    return {} if current is None else current.fields()


def _log_uncaught(kind: type[BaseException], failure: BaseException | None, place: TracebackType | None) -> None:
    if failure is None or issubclass(kind, KeyboardInterrupt | SystemExit):
        return
    logging.getLogger("usertable.server").critical("the process failed", exc_info=(kind, failure, place))
