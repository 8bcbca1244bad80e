"""Randomly broken requests: each one ends, none gets an answer to something else, and the server keeps serving."""

from __future__ import annotations

import contextlib
import json
import random
import socket
from pathlib import Path

import pytest

from support.raw_http import AUTHORIZATION, connect, parse_answers, put, put_chunked
from support.server_process import ATTRIBUTE, PROJECT, REGISTER, ServerProcess, create_project

OK = b'{"code":0,"msg":"ok"}'
SPLICES = [
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b":",
        b"\t",
        b"\xff",
        b"\r\n\r\n",
        b"0\r\n\r\n",
        b"5\r\n",
        b"fffffffff\r\n",
        b"%00",
    ),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"Content-Length: 5\r\n", b"Host: b\r\n"),
    *(
        b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
        b"Upgrade: websocket\r\nConnection: upgrade\r\n",
        b"Connection: close\r\n",
    ),
    *(
        b"Expect: 100-continue\r\n",
        b"Idempotency-Key: a\r\n",
        b"HTTP/1.0",
        b"HTTP/2.0",
        b"GET / HTTP/1.1\r\n",
        b"\xef\xbb\xbf",
    ),
    *(b"Content-Encoding: gzip\r\n", b"X-A: " + b"a" * 3000 + b"\r\n", b"Prefer: return=representation\r\n", b"?dryRun=1"),
]


def sound(cuid: int) -> list[bytes]:
    """Return valid requests, each of which writes at most once."""
    body = json.dumps({"cuid": cuid, "data": {"user_number_accumulate": 1}}).encode()
    chunked = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\nX-T: y\r\n\r\n" % (10, body[:10], len(body) - 10, body[10:])
    registering = b'{"identityName":"phone","identityValues":["18012345678"]}'
    return [
        put(body),
        put(body, "Content-Type: application/json", "Idempotency-Key: abc"),
        put(body, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAAB"),
        put_chunked(chunked, "Transfer-Encoding: chunked"),
        put(body, "Expect: 100-continue"),
        put(body, version="HTTP/1.0"),
        put(registering).replace(f"PUT {ATTRIBUTE}".encode(), f"POST {REGISTER}".encode()),
        put(b'{"records":[]}').replace(f"PUT {ATTRIBUTE}".encode(), f"POST /api/v1/projects/{PROJECT}/users:batch".encode()),
        f"GET /api/v1/projects/{PROJECT} HTTP/1.1\r\nHost: x\r\nAuthorization: {AUTHORIZATION}\r\n\r\n".encode(),
        b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    ]


def broken(dice: random.Random, requests: list[bytes]) -> bytes:
    """Return one of the requests, with up to five random changes."""
    data = bytearray(dice.choice(requests))
    for _ in range(dice.randint(0, 5)):
        place = dice.randrange(len(data) + 1)
        what = dice.randrange(6)
        if what == 0 and place < len(data):
            data[place] = dice.randrange(256)
        elif what == 1:
            del data[place : place + dice.randint(1, 30)]
        elif what == 2:
            data[place:place] = dice.choice(SPLICES)
        elif what == 3:
            # At the start of a line, where most of them have a meaning.
            lines = bytes(data).split(b"\r\n")
            lines.insert(dice.randrange(len(lines) + 1), dice.choice(SPLICES).rstrip(b"\r\n"))
            data[:] = b"\r\n".join(lines)
        elif what == 4:
            lines = bytes(data).split(b"\r\n")
            lines.append(dice.choice(lines))
            dice.shuffle(lines) if dice.random() < 0.2 else None
            data[:] = b"\r\n".join(lines)
        else:
            del data[place:]
    return bytes(data)


@pytest.mark.parametrize("count", [2_000, pytest.param(300_000, marks=[pytest.mark.fuzz, pytest.mark.timeout(3600)])])
def test_a_broken_request_is_refused_or_done_once_and_never_harms_the_server(tmp_path: Path, count: int) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    (cuid,) = create_project(url, users=1)
    server = ServerProcess(url, tmp_path, body_seconds="5")
    dice = random.Random(count)
    requests = sound(cuid)
    done = 0
    try:
        before = version(server, cuid)
        for number in range(count):
            sent = broken(dice, requests)
            received = roundtrip(server.url, sent, dice)
            final = received.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
            answers = [] if b"HEAD" in sent else parse_answers(final)
            statuses = [answer.status for answer in answers]
            context = (number, sent, received)
            assert not {s for s in statuses if s >= 500 and s not in (501, 505)}, context
            # At most one answer for each request line, and one refusal of what is left.
            assert sum(status < 400 for status in statuses) <= sent.count(b"HTTP/1."), context
            assert len(statuses) <= sent.count(b"HTTP/") + 1, context
            done += sum(answer.body == OK and "x-request-id" in answer.headers for answer in answers)
        assert before <= version(server, cuid) <= before + done
        assert "Traceback" not in server.log
    finally:
        assert server.stop() == 0


def version(server: ServerProcess, cuid: int) -> int:
    with server.client() as http:
        return int(
            http.put(ATTRIBUTE + "?dryRun=1", json={"cuid": cuid, "data": {"user_bool_once": 1}}).json()["data"]["version"]
        )


def roundtrip(url: str, sent: bytes, dice: random.Random) -> bytes:
    """Return all received bytes, until the server closes."""
    received = bytearray()
    with connect(url) as connection, contextlib.suppress(ConnectionResetError, BrokenPipeError):
        cut = dice.randrange(len(sent) + 1) if dice.random() < 0.3 else 0
        if cut:
            connection.sendall(sent[:cut])
        connection.sendall(sent[cut:])
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        while piece := connection.recv(65536):
            received += piece
    return bytes(received)
