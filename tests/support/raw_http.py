"""Requests as bytes, in the segments a client sends, and their answers as read by the standard library's client."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from support.server_process import ATTRIBUTE, PROJECT, SECRET
from support.waiting import DEADLINE_SECONDS

AUTHORIZATION = "Basic " + base64.b64encode(f"{PROJECT}:{SECRET}".encode()).decode()
BETWEEN_SEGMENTS = 0.03
"""Seconds between two segments, so that the server receives them one by one."""


@dataclass(frozen=True)
class Answer:
    """A received answer."""

    status: int
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes


def put(body: bytes, *lines: str, version: str = "HTTP/1.1", host: str | None = "test") -> bytes:
    """Return a PUT of `body`, with additional header lines."""
    head = [f"PUT {ATTRIBUTE} {version}", f"Authorization: {AUTHORIZATION}", f"Content-Length: {len(body)}", *lines]
    if host is not None:
        head.insert(1, f"Host: {host}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def put_chunked(pieces: bytes, *lines: str, version: str = "HTTP/1.1") -> bytes:
    """Return a PUT whose body consists of the given chunks, encoded as they are sent."""
    head = [f"PUT {ATTRIBUTE} {version}", "Host: test", f"Authorization: {AUTHORIZATION}", *lines]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + pieces


def connect(url: str) -> socket.socket:
    """Return a connection to a server."""
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=DEADLINE_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def exchange(url: str, segments: Sequence[bytes]) -> list[Answer]:
    """Send segments one by one, close the sending side, and return every answer until the server closes.

    Segments that cannot be sent, because the server refused earlier ones, are left out.
    """
    with connect(url) as connection:
        with contextlib.suppress(OSError):
            for number, segment in enumerate(segments):
                if number:
                    time.sleep(BETWEEN_SEGMENTS)
                connection.sendall(segment)
            connection.shutdown(socket.SHUT_WR)
        return read_answers(connection)


def read_answers(connection: socket.socket) -> list[Answer]:
    """Return every answer until the server closes."""
    received = bytearray()
    while piece := connection.recv(65536):
        received += piece
    return parse_answers(bytes(received))


def parse_answers(received: bytes) -> list[Answer]:
    """Return the answers in the received bytes, to requests that are not HEAD."""
    stream = _Stream(received)
    answers = []
    while stream.tell() < len(received):
        response = http.client.HTTPResponse(stream, method="PUT")  # type: ignore[arg-type]
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        answers.append(Answer(response.status, headers, response.read()))
    return answers


class _Stream(io.BytesIO):
    """Bytes with a socket's interface, which a response does not close."""

    def makefile(self, mode: str) -> _Stream:
        return self

    def close(self) -> None:
        return
