"""Which requests the server accepts and which it refuses, byte by byte (RFC 9110, RFC 9112)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import signal
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.raw_http import AUTHORIZATION, Answer, connect, exchange, parse_answers, put, put_chunked, read_answers
from support.server_process import ATTRIBUTE, ServerProcess, create_project
from support.waiting import DEADLINE_SECONDS, wait_until
from usertable.dialects.jiguang.dialect import JIGUANG
from usertable.http.connection import Connection
from usertable.http.connections import Connections
from usertable.http.proxies import TrustedProxies
from usertable.http.request_counts import RequestCounts
from usertable.http.request_head import HEAD_BYTES, HEAD_LINES

OK = b'{"code":0,"msg":"ok"}'
LIVE = b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n"
BATCH = "/api/v1/projects/100102/users:batch"


class ServerAndUser:
    """A server, its only user, and how often that user was written."""

    def __init__(self, server: ServerProcess, cuid: int) -> None:
        self.server = server
        self.url = server.url
        self.cuid = cuid
        self.body = json.dumps({"cuid": cuid, "data": {"user_number_accumulate": 1}}).encode()

    def count(self) -> int:
        """Return the sum of everything that was written."""
        with self.server.client() as http:
            shown = http.put(ATTRIBUTE + "?dryRun=1", json={"cuid": self.cuid, "data": {"user_bool_once": 1}})
        return int(shown.json()["data"]["user"]["attributes"].get("user_number_accumulate", 0))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerAndUser]:
    folder = tmp_path_factory.mktemp("http")
    url = f"sqlite:///{folder / 'store.db'}"
    (cuid,) = create_project(url, users=1)
    server = ServerProcess(url, folder, body_limit="100000", admin_token="an-admin-token-for-the-tests")
    try:
        yield ServerAndUser(server, cuid)
        assert "Traceback" not in server.log
    finally:
        assert server.stop() == 0


def send(served: ServerAndUser, *segments: bytes) -> list[int]:
    """Send a request, then another that writes nothing. Return the status of each answer. Every answer is JSON.

    Also checks that the user was written as often as a PUT was answered 200, and that nothing follows a refusal.
    """
    before = served.count()
    answers = exchange(served.url, [*segments, LIVE])
    for answer in answers:
        assert answer.headers["content-type"] == "application/json", answer
        assert "code" in json.loads(answer.body), answer
        assert answer.headers["date"], answer
    statuses = [answer.status for answer in answers]
    written = sum(answer.body == OK and "x-request-id" in answer.headers for answer in answers)
    assert served.count() - before == written, statuses
    return statuses


# Offers of another protocol


OFFERS = {
    "h2c, as Java's HttpClient and curl --http2 send it": [
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
    ],
    "websocket": ["Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"],
    "TLS": ["Upgrade: TLS/1.0", "Connection: Upgrade"],
    "several": ["Connection: upgrade", "Upgrade: h2c", "Upgrade: foo/2"],
}


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
@pytest.mark.parametrize("cut", ["whole", "head and body", "byte by byte"])
def test_an_upgrade_that_is_offered_is_ignored_and_the_body_read_by_its_length(
    served: ServerAndUser, offer: list[str], cut: str
) -> None:
    request = put(served.body, *offer)
    head = len(request) - len(served.body)
    segments = {
        "whole": [request],
        "head and body": [request[:head], request[head:]],
        "byte by byte": [
            request[: head - 2],
            request[head - 2 : head - 1],
            request[head - 1 : head + 1],
            request[head + 1 :],
        ],
    }[cut]
    assert send(served, *segments) == [200, 200]
    assert send(served, *segments, request, *segments) == [200, 200, 200, 200]


def test_many_offers_at_once_are_ignored_one_by_one(served: ServerAndUser) -> None:
    request = put(served.body, *OFFERS["websocket"])
    before = served.count()
    assert [a.status for a in exchange(served.url, [request * 1000])] == [200] * 1000
    assert served.count() == before + 1000


def test_a_chunked_body_is_read_behind_an_offer_of_another_protocol(served: ServerAndUser) -> None:
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(served.body), served.body)
    request = put_chunked(chunk, "Transfer-Encoding: chunked", *OFFERS["websocket"])
    assert send(served, request) == [200, 200]
    assert send(served, request[: -len(chunk)], chunk) == [200, 200]


def test_what_looks_like_a_request_in_a_body_behind_an_offer_is_not_one(served: ServerAndUser) -> None:
    """If it were read as a request, it would be one that a proxy in front never forwarded."""
    inside = json.dumps({"cuid": served.cuid, "data": {"user_number_accumulate": 1}, "x": "y"}).encode()
    request = put(inside, *OFFERS["websocket"])
    smuggled = put(put(served.body), *OFFERS["websocket"])
    assert send(served, request, smuggled) == [200, 400, 200]


# What follows a request


@pytest.mark.parametrize("stray", [b"}", b" ", b"\0", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01", b"GET\r\n"])
def test_what_is_no_request_behind_a_put_is_refused_after_the_answer_to_the_put(served: ServerAndUser, stray: bytes) -> None:
    assert send(served, put(served.body) + stray) == [200, 400]
    assert send(served, put(served.body) + put(served.body) + stray) == [200, 200, 400]
    assert send(served, put(b"{}") + stray) == [400, 400]


@pytest.mark.parametrize("between", [b"\r\n", b"\r\n\r\n", b"\n"])
def test_empty_lines_between_requests_are_ignored(served: ServerAndUser, between: bytes) -> None:
    assert send(served, put(served.body) + between + put(served.body)) == [200, 200, 200]
    assert send(served, between + put(served.body)) == [200, 200]


def test_a_client_that_ends_its_sending_side_gets_its_answer(served: ServerAndUser) -> None:
    with connect(served.url) as connection:
        connection.sendall(put(served.body) + put(served.body) + put(b"{}"))
        connection.shutdown(socket.SHUT_WR)
        assert [a.status for a in read_answers(connection)] == [200, 200, 400]


@pytest.mark.parametrize("rest", [30, 195])
def test_a_whole_request_is_answered_also_when_its_client_ends_within_the_next(served: ServerAndUser, rest: int) -> None:
    for _ in range(5):
        answers = exchange(served.url, [put(served.body) + put(served.body)[:rest]])
        assert [answer.body for answer in answers] == [OK]


def test_nothing_is_done_for_a_request_whose_body_is_broken(served: ServerAndUser) -> None:
    """Also for requests that do not use a body."""
    with served.server.client() as http:
        (user,) = http.post("/smartop/api/v1/user/register", json={"identityName": "phone", "identityValues": ["1"]}).json()[
            "data"
        ]
        url = f"/api/v1/projects/100102/users/{user['cuid']}"
        broken = put_chunked(b"5\r\nabcdefgh\r\n", "Transfer-Encoding: chunked").replace(
            f"PUT {ATTRIBUTE}".encode(), f"DELETE {url}".encode()
        )
        assert [answer.status for answer in exchange(served.url, [broken])] == [400]
        head = broken.index(b"\r\n\r\n") + 4
        assert [answer.status for answer in exchange(served.url, [broken[:head], broken[head:]])] == [400]
        assert http.get(url).status_code == 200


def test_half_a_request_is_not_done_when_its_client_ends(served: ServerAndUser) -> None:
    before = served.count()
    for length in (1, 20, 150, len(put(served.body)) - 1):
        assert exchange(served.url, [put(served.body)[:length]]) == []
    assert served.count() == before


def test_requests_sent_at_once_are_answered_in_their_order(served: ServerAndUser) -> None:
    """200 requests, on the slow and on the fast path, more than a connection holds."""
    kinds = [
        put(served.body),
        LIVE,
        put(b"[]"),
        put(served.body, "Prefer: return=representation"),
        put(served.body, "Expect: 100-continue"),
    ]
    with connect(served.url) as connection:
        connection.sendall(b"".join(kinds) * 40)
        connection.shutdown(socket.SHUT_WR)
        received = bytearray()
        while piece := connection.recv(65536):
            received += piece
    final = bytes(received).replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    assert [a.status for a in parse_answers(final)] == [200, 200, 400, 200, 200] * 40


# Heads


def filled(lines: int, size: int) -> bytes:
    """Return a PUT of an empty object whose head has this many lines and counted bytes."""
    own = ["Host: test", f"Authorization: {AUTHORIZATION}", "Content-Length: 2"]
    further = [f"X-{number}: y" for number in range(lines - len(own) - 1)]
    counted = len(ATTRIBUTE) + sum(len(line) + 2 for line in [*own, *further])
    filler = "X-Fill: " + "z" * (size - counted - len("X-Fill: ") - 2)
    return "\r\n".join([f"PUT {ATTRIBUTE} HTTP/1.1", *own, *further, filler, "", ""]).encode() + b"{}"


def test_a_head_has_a_largest_size_and_number_of_lines(served: ServerAndUser) -> None:
    assert send(served, filled(HEAD_LINES, HEAD_BYTES)) == [400, 200]
    assert send(served, filled(HEAD_LINES + 1, 10_000)) == [431]
    assert send(served, filled(10, HEAD_BYTES + 1)) == [431]
    assert send(served, f"GET /{'x' * HEAD_BYTES} HTTP/1.1\r\nHost: test\r\n\r\n".encode()) == [431]


@pytest.mark.parametrize(
    "endless",
    [
        b"GET /livez HTTP/1.1\r\nHost: test\r\nX-A: " + b"a" * 2_000_000,
        b"GET /livez HTTP/1.1\r\nHost: test\r\n" + b"a" * 2_000_000,
        b"GET /livez HTTP/1.1\r\nHost: test\r\n" + b"X-A: b\r\n" * 250_000,
        b"GET /" + b"a" * 2_000_000,
        put_chunked(b"2\r\n{}\r\n0\r\nX-A: " + b"a" * 2_000_000, "Transfer-Encoding: chunked"),
        put_chunked(b"2\r\n{}\r\n0\r\n" + b"X-A: b\r\n" * 250_000, "Transfer-Encoding: chunked"),
        put_chunked(b"2;" + b"a" * 2_000_000, "Transfer-Encoding: chunked"),
    ],
    ids=["value", "name", "lines", "url", "trailer", "trailers", "chunk extension"],
)
def test_what_has_no_end_is_refused_before_it_is_kept(served: ServerAndUser, endless: bytes) -> None:
    before = memory(served.server.pid)
    for _ in range(5):
        assert [a.status for a in exchange(served.url, [endless])] in ([431], [400, 431])
    assert memory(served.server.pid) - before < 20 * 2**20


def memory(pid: int) -> int:
    """Return the resident bytes of a process."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024


def test_trailers_are_not_headers(served: ServerAndUser) -> None:
    body = b"%x\r\n%b\r\n0\r\n" % (len(served.body), served.body)
    start = f"PUT {ATTRIBUTE} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n".encode()
    trailer = f"Authorization: {AUTHORIZATION}\r\n\r\n".encode()
    assert send(served, start + b"\r\n" + body + trailer) == [401, 200]
    keyed = put_chunked(body + b"Idempotency-Key: k1\r\n\r\n", "Transfer-Encoding: chunked")
    assert send(served, keyed) == [200, 200]
    assert send(served, keyed) == [200, 200]


HEADS = {
    "no Host": ([], 400),
    "two Hosts": (["Host: test", "Host: test"], 400),
    "Host with a blank": (["Host: te st"], 400),
    "Host with a path": (["Host: test/x"], 400),
    "Host with a user": (["Host: a@test"], 400),
    "Host with a port": (["Host: test:8000"], 200),
    "Host in IPv6": (["Host: [::1]:8000"], 200),
    "Host in IPv6, not closed": (["Host: [::1"], 400),
    "Host with a port that is none": (["Host: test:x"], 400),
    "Host, empty": (["Host: "], 200),
    "two Authorizations": (["Host: test", "Authorization: Basic eDp5"], 400),
    "two keys": (["Host: test", "Idempotency-Key: a", "Idempotency-Key: b"], 400),
    "one key twice": (["Host: test", "Idempotency-Key: a", "Idempotency-Key: a"], 400),
    "two sources": (["Host: test", "Usertable-Source: a", "Usertable-Source: b"], 400),
    "one source twice": (["Host: test", "usertable-source: a", "Usertable-Source: a"], 400),
    "two content types": (["Host: test", "Content-Type: application/json", "Content-Type: text/plain"], 400),
    "two lengths": (["Host: test", "Content-Length: 3"], 400),
    "length and chunks": (["Host: test", "Transfer-Encoding: chunked"], 400),
    "another expectation": (["Host: test", "Expect: 200-ok"], 417),
    "a blank before the colon": (["Host: test", "X-A : b"], 400),
    "no colon": (["Host: test", "X-A"], 400),
    "no name": (["Host: test", ": b"], 400),
    "a folded line": (["Host: test", "X-A: b", " c"], 400),
    "NUL in a value": (["Host: test", "X-A: b\0c"], 400),
    "a control character in a value": (["Host: test", "X-A: b\x01c"], 400),
    "a bare CR in a value": (["Host: test", "X-A: b\rX-B: c"], 400),
    "a bare LF in a value": (["Host: test", "X-A: b\nX-B: c"], 400),
    "a tab in a value": (["Host: test", "X-A: b\tc"], 200),
    "no value": (["Host: test", "X-A:"], 200),
    "Latin-1 in a value": (["Host: test", "X-A: M\xfcller"], 200),
    "a blank behind a value": (["Host: test ", "Idempotency-Key: behind \t", "Expect: 100-continue "], 200),
    "names in capitals": (["HOST: test", "CONTENT-TYPE: application/json"], 200),
    "a key in Latin-1": (["Host: test", "Idempotency-Key: M\xfcller"], 400),
}


@pytest.mark.parametrize(("lines", "status"), HEADS.values(), ids=HEADS)
def test_a_head_is_taken_or_refused_by_the_standard(served: ServerAndUser, lines: list[str], status: int) -> None:
    statuses = send(served, put(served.body, *lines, host=None))
    # A malformed key is refused by the application, so the connection stays open.
    assert statuses == ([status, 200] if status == 200 or "Idempotency-Key: M\xfcller" in lines else [status])


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET /livez HTTP/1.1", 200),
        ("GET http://test/livez HTTP/1.1", 200),
        ("GET http://test HTTP/1.1", 404),
        ("GET http://[::/livez HTTP/1.1", 400),
        ("GET http://test:99999/livez HTTP/1.1", 400),
        ("GET http:///livez HTTP/1.1", 400),
        ("GET /livez?a=b HTTP/1.1", 200),
        ("GET /%6civez HTTP/1.1", 200),
        ("OPTIONS * HTTP/1.1", 404),
        ("GET /livez HTTP/2.0", 505),
        ("GET /livez HTTP/0.9", 505),
        ("GET /livez HTTP/1.2", 400),
        ("GET /livez HTTP/11", 400),
        ("GET /livez http/1.1", 400),
        ("GET /livez", 505),
        ("GET  /livez HTTP/1.1", 200),
        ("GET /livez  HTTP/1.1", 200),
        ("GET /livez x HTTP/1.1", 400),
        ("GET\t/livez HTTP/1.1", 400),
        ("GET livez HTTP/1.1", 400),
        ("GET /livez#part HTTP/1.1", 400),
        ("GET /liv\xe9z HTTP/1.1", 400),
        ("get /livez HTTP/1.1", 400),
        ("NONSENSE /livez HTTP/1.1", 400),
        ("DELETE /livez HTTP/1.1", 405),
        ("CONNECT test:80 HTTP/1.1", 405),
        ("PRI * HTTP/2.0", 400),
        (" GET /livez HTTP/1.1", 400),
        ("", 400),
    ],
)
def test_a_request_line_is_taken_or_refused_by_the_standard(served: ServerAndUser, line: str, status: int) -> None:
    answers = exchange(served.url, [line.encode("latin-1") + b"\r\nHost: test\r\n\r\n"])
    assert [a.status for a in answers] == [status]


def test_a_request_of_http_1_0_needs_no_host_and_ends_with_its_connection(served: ServerAndUser) -> None:
    assert send(served, put(served.body, version="HTTP/1.0", host=None)) == [200]
    answers = exchange(served.url, [put(served.body, "Connection: keep-alive", version="HTTP/1.0", host=None), LIVE])
    assert [(a.status, a.headers.get("connection")) for a in answers] == [(200, "keep-alive"), (200, None)]


@pytest.mark.parametrize("path", ["/console/sign-in", "/openapi.json", "/readyz", "/nowhere"])
def test_an_answer_to_a_client_of_http_1_0_has_no_chunks(served: ServerAndUser, path: str) -> None:
    (answer,) = exchange(served.url, [f"GET {path} HTTP/1.0\r\n\r\n".encode()])
    assert "transfer-encoding" not in answer.headers
    assert answer.body
    assert answer.headers["connection"] == "close"


# Bodies


@pytest.mark.parametrize("query", ["dryrun=1", "dry_run=1", "DryRun=true", "dry-run=1", "dryRun=yes"])
def test_a_dry_run_that_is_misspelled_writes_nothing(served: ServerAndUser, query: str) -> None:
    with served.server.client() as http:
        before = served.count()
        answer = http.put(f"{ATTRIBUTE}?{query}", content=served.body)
        assert (answer.status_code, answer.json()["code"]) == (400, 40002)
        assert served.count() == before


@pytest.mark.parametrize("zeros", ["0", "00", "-0"])
def test_a_cuid_has_no_leading_zeros(served: ServerAndUser, zeros: str) -> None:
    with served.server.client() as http:
        before = served.count()
        body = {"cuid": f"{zeros}{served.cuid}", "data": {"user_number_accumulate": 1}}
        answer = http.put(ATTRIBUTE, json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, 40002)
        assert http.post(BATCH, json={"records": [body]}).is_success
        assert served.count() == before


@pytest.mark.parametrize(
    ("coding", "pieces", "status"),
    [
        ("chunked", b"%(size)x\r\n%(body)b\r\n0\r\n\r\n", 200),
        ("Chunked", b"%(size)X\r\n%(body)b\r\n0\r\n\r\n", 200),
        ("chunked", b"000%(size)x\r\n%(body)b\r\n0\r\n\r\n", 200),
        ("chunked", b"%(size)x;name=value\r\n%(body)b\r\n0;last\r\n\r\n", 200),
        ("chunked", b"%(size)x\r\n%(body)b\r\n0\r\nX-Trailer: y\r\n\r\n", 200),
        ("gzip, chunked", b"%(size)x\r\n%(body)b\r\n0\r\n\r\n", 501),
        ("chunked, gzip", b"%(size)x\r\n%(body)b\r\n0\r\n\r\n", 400),
        ("chunked, chunked", b"%(size)x\r\n%(body)b\r\n0\r\n\r\n", 400),
        ("identity", b"%(body)b", 501),
        ("xchunked", b"%(size)x\r\n%(body)b\r\n0\r\n\r\n", 501),
        ("chunked", b"0x%(size)x\r\n%(body)b\r\n0\r\n\r\n", 400),
        ("chunked", b"-%(size)x\r\n%(body)b\r\n0\r\n\r\n", 400),
        ("chunked", b"+%(size)x\r\n%(body)b\r\n0\r\n\r\n", 400),
        ("chunked", b"%(size)x \r\n%(body)b\r\n0\r\n\r\n", 400),
        ("chunked", b"%(size)x\n%(body)b\n0\n\n", 400),
        ("chunked", b"%(size)x\r\n%(body)b0\r\n\r\n", 400),
        ("chunked", b"%(size)xg\r\n%(body)b\r\n0\r\n\r\n", 400),
        ("chunked", b"ffffffffffffffff1\r\n%(body)b\r\n0\r\n\r\n", 400),
        ("chunked", b"\r\n%(body)b\r\n0\r\n\r\n", 400),
        ("chunked", b"%(size)x;a\nb\r\n%(body)b\r\n0\r\n\r\n", 400),
    ],
)
@pytest.mark.parametrize("split", [False, True])
def test_a_chunked_body_is_taken_or_refused_by_the_standard(
    served: ServerAndUser, coding: str, pieces: bytes, status: int, split: bool
) -> None:
    body = pieces % {b"size": len(served.body), b"body": served.body}
    request = put_chunked(body, f"Transfer-Encoding: {coding}")
    head = len(request) - len(body)
    segments = [request[:head], request[head : head + 3], request[head + 3 :]] if split else [request]
    assert send(served, *segments) == ([200, 200] if status == 200 else [status])


def test_chunks_from_a_client_of_http_1_0_are_refused(served: ServerAndUser) -> None:
    request = put_chunked(b"2\r\n{}\r\n0\r\n\r\n", "Transfer-Encoding: chunked", version="HTTP/1.0")
    assert send(served, request) == [501]


@pytest.mark.parametrize("length", ["", "+5", "-5", "5, 5", "5 5", "0x5", "99999999999999999999", "5.0"])
def test_a_length_that_is_none_is_refused(served: ServerAndUser, length: str) -> None:
    head = f"PUT {ATTRIBUTE} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n12345"
    assert send(served, head.encode()) == [400]


def test_a_body_in_any_pieces_is_the_same_body(served: ServerAndUser) -> None:
    request = put(served.body)
    for size in (1, 7, len(request) // 2):
        with connect(served.url) as connection:
            for start in range(0, len(request), size):
                connection.sendall(request[start : start + size])
            connection.shutdown(socket.SHUT_WR)
            (answer,) = read_answers(connection)
        assert answer.body == OK


def test_a_client_that_asks_first_is_told_to_go_on_or_is_refused(served: ServerAndUser) -> None:
    with connect(served.url) as connection:
        connection.sendall(
            put(b"", "Expect: 100-continue").replace(b"Content-Length: 0", b"Content-Length: %d" % len(served.body))
        )
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(served.body)
        connection.shutdown(socket.SHUT_WR)
        assert [a.body for a in read_answers(connection)] == [OK]
    refused = put(b"", "Expect: 100-continue").replace(AUTHORIZATION.encode(), b"Basic eDp5")
    with connect(served.url) as connection:
        connection.sendall(refused.replace(b"Content-Length: 0", b"Content-Length: 50"))
        # It is unknown whether the body will still come, so nothing else can come on this connection.
        (answer,) = read_answers_to_the_end(connection)
    assert (answer.status, answer.headers["connection"]) == (401, "close")


def read_answers_to_the_end(connection: socket.socket) -> list[Answer]:
    """Return every answer until the server has sent its last; then end the connection."""
    answers = read_answers(connection)
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
    return answers


REFUSED_EARLY = {
    "too large": ([], "PUT", ATTRIBUTE, 413),
    "a stranger's": (["Authorization: Basic eDp5"], "PUT", ATTRIBUTE, 401),
    "no JSON": (["Content-Type: text/plain"], "PUT", ATTRIBUTE, 415),
    "the wrong method": ([], "POST", ATTRIBUTE, 405),
    "to nowhere": ([], "PUT", "/nowhere", 404),
    "too large a batch": ([], "POST", BATCH, 413),
    "a head that is too large": (["X-A: " + "a" * 70_000], "PUT", ATTRIBUTE, 431),
    "no host": (["Host: te st"], "PUT", ATTRIBUTE, 400),
}


@pytest.mark.parametrize(("lines", "method", "path", "status"), REFUSED_EARLY.values(), ids=REFUSED_EARLY)
@pytest.mark.parametrize("chunked", [False, True], ids=["by length", "in chunks"])
def test_a_client_reads_the_answer_to_a_large_body_that_is_refused(
    served: ServerAndUser, lines: list[str], method: str, path: str, status: int, chunked: bool
) -> None:
    """It sends all of its 20 MB before it reads an answer, as most clients do."""
    size = 20_000_000
    given = {line.partition(":")[0] for line in lines}
    head = [f"{method} {path} HTTP/1.1", *lines]
    head += [] if "Host" in given else ["Host: test"]
    head += [] if "Authorization" in given else [f"Authorization: {AUTHORIZATION}"]
    head.append("Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}")
    body = b"x" * size
    if chunked:
        body = b"".join(b"10000\r\n" + body[:65536] + b"\r\n" for _ in range(size // 65536)) + b"0\r\n\r\n"
    for _ in range(3):
        with connect(served.url) as connection:
            connection.sendall("\r\n".join([*head, "", ""]).encode() + body)
            received = connection.recv(65536)
        assert received.startswith(b"HTTP/1.1 %d " % status), received[:200]


def test_the_rest_of_a_refused_body_is_not_the_next_request(served: ServerAndUser) -> None:
    smuggled = put(served.body)
    refused = put(smuggled + b"x" * 150_000, "Content-Type: text/plain")
    head = refused.index(b"\r\n\r\n") + 4
    assert send(served, refused[:head], refused[head:]) == [415, 200]


# Signals


def test_a_request_whose_body_is_arriving_at_sigterm_is_answered(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    (cuid,) = create_project(url, users=1)
    server = ServerProcess(url, tmp_path)
    request = put(json.dumps({"cuid": cuid, "data": {"user_number_accumulate": 1}}).encode())
    with connect(server.url) as arriving, connect(server.url) as head, connect(server.url) as idle:
        arriving.sendall(request[:-5])
        head.sendall(request[:40])
        idle.sendall(LIVE)
        assert idle.recv(1000).startswith(b"HTTP/1.1 200 ")
        time.sleep(0.2)
        server.signal(signal.SIGTERM)
        assert idle.recv(1000) == b""
        time.sleep(0.3)
        arriving.sendall(request[-5:])
        head.sendall(request[40:])
        for connection in (arriving, head):
            (answer,) = read_answers(connection)
            assert (answer.body, answer.headers["connection"]) == (OK, "close")
    assert server.stop() == 0


def test_a_server_told_to_stop_says_so_at_readyz_before_it_takes_no_more_requests(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    (cuid,) = create_project(url, users=1)
    server = ServerProcess(url, tmp_path, shutdown_delay="60")
    with server.client() as http:
        wait_until(lambda: http.get("/readyz").status_code == 200)
        server.signal(signal.SIGTERM)
        wait_until(lambda: http.get("/readyz").status_code == 503)
        assert http.get("/livez").status_code == 200
        assert http.put(ATTRIBUTE, json={"cuid": cuid, "data": {"user_number_accumulate": 1}}).content == OK
    with server.client() as http:
        assert http.put(ATTRIBUTE, json={"cuid": cuid, "data": {"user_number_accumulate": 1}}).content == OK
    # After a second signal it does not wait.
    assert server.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_that_does_not_mean_stop_stops_nothing(tmp_path: Path, number: signal.Signals) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    (cuid,) = create_project(url, users=1)
    server = ServerProcess(url, tmp_path)
    try:
        with server.client() as http:
            # The writer process has been started, and does not run yet.
            server.signal(number)
            for pid in server.children():
                signal.pidfd_send_signal(_pidfd(pid), number)
            for _ in range(20):
                assert http.put(ATTRIBUTE, json={"cuid": cuid, "data": {"user_number_accumulate": 1}}).content == OK
    finally:
        assert server.stop() == 0


def _pidfd(pid: int) -> int:
    import os

    return os.pidfd_open(pid)


def test_sighup_reloads_the_admin_token_and_the_log_level_and_says_so(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    create_project(url)
    file = tmp_path / "usertable.toml"
    file.write_text('admin_token = "the-first-admin-token"\n')
    server = ServerProcess(url, tmp_path, config=str(file))
    try:
        with server.client() as http:

            def status(token: str) -> int:
                return http.get("/api/v1/projects", headers={"Authorization": f"Bearer {token}"}, auth=None).status_code

            assert (status("the-first-admin-token"), status("the-second-admin-token")) == (200, 401)
            file.write_text('admin_token = "the-second-admin-token"\nlog_level = "warning"\nqueue_capacity = 7\n')
            server.signal(signal.SIGHUP)
            server.wait_for_log("SIGHUP: reloaded admin_token, log_level; restart the server to change queue_capacity")
            assert (status("the-first-admin-token"), status("the-second-admin-token")) == (401, 200)
            file.write_text('admin_token = "short"\n')
            server.signal(signal.SIGHUP)
            server.wait_for_log("SIGHUP: nothing was reloaded: admin_token is set but has fewer than 16 characters")
            assert status("the-second-admin-token") == 200
    finally:
        assert server.stop() == 0


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 2 * HEAD_BYTES,
        b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
        b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n" + b"x" * 60_000,
        b"nonsense\r\n\r\n",
    ],
)
@pytest.mark.parametrize("is_reset", [False, True])
def test_a_connection_that_is_over_leaves_nothing_for_the_garbage_collector(sent: bytes, is_reset: bool) -> None:
    """The collector seldom runs, and until then each connection would keep what it has read."""

    def there() -> int:
        return sum(type(each) is Connection for each in gc.get_objects())

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        application: Any = SimpleNamespace(dialect=JIGUANG, set_endpoints={}, counts=RequestCounts())
        connections = Connections(application, body_seconds=60, keep_alive_seconds=60, limit=10, proxies=TrustedProxies([]))
        async with await loop.create_server(connections, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(sent)
            deadline = loop.time() + DEADLINE_SECONDS
            while there() == before:
                assert loop.time() < deadline
                await asyncio.sleep(0.01)
            if is_reset:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            else:
                writer.write_eof()
                await reader.read()
                writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            while there() > before:
                assert loop.time() < deadline
                await asyncio.sleep(0.01)

    gc.disable()
    try:
        before = there()
        asyncio.run(serve())
    finally:
        gc.enable()
