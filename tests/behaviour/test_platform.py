"""What the platform's endpoints do beyond single answers: limits, settings, odd bodies, failures."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from support.actors import TESTER
from support.manual_clock import ManualClock
from support.server_process import ATTRIBUTE, PROJECT, REGISTER, SECRET, ServerProcess, create_project
from usertable.app.clock import SYSTEM_CLOCK
from usertable.app.service import Service
from usertable.config import Config
from usertable.http.app import App
from usertable.http.connections import Connections
from usertable.http.proxies import TrustedProxies
from usertable.store import open_store

OK = b'{"code":0,"msg":"ok"}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("platform")
    url = f"sqlite:///{folder / 'store.db'}"
    create_project(url, users=1)
    running = ServerProcess(url, folder)
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log


@pytest.fixture
def http(server: ServerProcess) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


CUID = 10_000_001


def test_a_success_is_the_same_bytes_whatever_was_set(http: httpx.Client) -> None:
    for data in ({"user_string_once": "a"}, {"user_string_once": "b"}, {"user_number_accumulate": 0}):
        answer = http.put(ATTRIBUTE, json={"cuid": CUID, "data": data})
        assert (answer.status_code, answer.content) == (200, OK)
        assert answer.headers["content-type"] == "application/json"


def test_the_limit_per_project_and_api(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    create_project(url, users=1, qps=5)
    store, time = open_store(url), ManualClock()
    try:
        with (
            time.serving(Config(store=url, port=0), store) as address,
            httpx.Client(base_url=address, auth=(PROJECT, SECRET), timeout=30) as http,
        ):
            body = {"cuid": CUID, "data": {"user_number_accumulate": 1}}
            http.put(ATTRIBUTE, json=body)
            time.advance(1.1)
            answers = [http.put(ATTRIBUTE, json=body) for _ in range(7)]
            assert [a.status_code for a in answers] == [200] * 5 + [429] * 2
            assert [a.headers["ratelimit-remaining"] for a in answers] == ["4", "3", "2", "1", "0", "0", "0"]
            assert {a.headers["ratelimit-limit"] for a in answers} == {"5"}
            assert {a.headers["ratelimit-reset"] for a in answers} == {"1"}
            assert answers[6].json() == {"code": 4029, "msg": "请求过于频繁：QPS 上限为 5"}
            assert answers[6].headers["retry-after"] == "1"
            registered = http.post(REGISTER, json={"identityName": "phone", "identityValues": ["1"]})
            assert registered.status_code == 200
            assert registered.headers["ratelimit-remaining"] == "4"
            time.advance(0.9)
            assert http.put(ATTRIBUTE, json=body).status_code == 429
            time.advance(0.2)
            assert http.put(ATTRIBUTE, json=body).content == OK
    finally:
        store.close()


def test_always_200(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    create_project(url, users=1)
    server = ServerProcess(url, tmp_path, always_200="true")
    try:
        with server.client() as http:
            for body, code in (
                ({"cuid": CUID, "data": {"nope": 1}}, 40010),
                ({"cuid": 5, "data": {"nope": 1}}, 40003),
                ({"cuid": CUID}, 40002),
                ({}, 40002),
            ):
                answer = http.put(ATTRIBUTE, json=body)
                assert (answer.status_code, answer.json()["code"]) == (200, code)
            wrong = httpx.put(server.url + ATTRIBUTE, json={}, auth=(PROJECT, "wrong"))
            assert (wrong.status_code, wrong.json()["code"]) == (200, 4009)
            assert http.get(ATTRIBUTE).status_code == 405
            assert http.get("/nope").status_code == 404
    finally:
        assert server.stop() == 0


def test_odd_bodies_get_a_clear_answer(http: httpx.Client) -> None:
    for body in (
        b'{"cuid":%d,"data":{"user_list_append":' % CUID + b"[" * 5000 + b"]" * 5000 + b"}}",
        b'{"cuid":%d,"data":{"' % CUID + b"n" * 900_000 + b'":1}}',
        b'{"cuid":%d,"data":{"\\u0000":1}}' % CUID,
        b'{"cuid":"\xe2\x85\xa7","data":{"user_bool_once":1}}',
        b'{"cuid":%d,"data":{"user_number_once":' % CUID + b"9" * 5000 + b"}}",
        b'{"cuid":{},"data":{"user_bool_once":1}}',
    ):
        answer = http.put(ATTRIBUTE, content=body)
        assert answer.status_code == 400
        assert answer.json()["code"] in (40002, 40010)
        assert len(answer.json()["msg"]) < 400


def test_a_chunked_body_over_the_limit(http: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 65_536

    answer = http.put(ATTRIBUTE, content=chunks())
    assert (answer.status_code, answer.json()["code"]) == (413, 40002)


def test_a_chunked_body_within_the_limit(http: httpx.Client) -> None:
    parts = [b'{"cuid":%d,' % CUID, b'"data":{"user_str', b'ing_overwrite":"a"}}']
    assert http.put(ATTRIBUTE, content=iter(parts)).content == OK


def test_a_caller_that_goes_away_changes_nothing_by_half_a_body(server: ServerProcess, http: httpx.Client) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    authorization = http.build_request("PUT", ATTRIBUTE).headers
    head = f"PUT {ATTRIBUTE} HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + b'{"cuid":')
    assert authorization
    assert http.put(ATTRIBUTE, json={"cuid": CUID, "data": {"user_bool_overwrite": 1}}).content == OK


def test_pipelined_requests_are_answered_in_order(server: ServerProcess) -> None:
    import base64

    host, port = server.url.removeprefix("http://").split(":")
    credentials = base64.b64encode(f"{PROJECT}:{SECRET}".encode()).decode()
    sent = b""
    for number in range(3):
        body = f'{{"cuid":{CUID},"data":{{"user_number_overwrite":{number}}}}}'
        sent += (
            f"PUT {ATTRIBUTE} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {credentials}\r\nX-Request-Id: r{number}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(sent)
        got = b""
        while got.count(OK) < 3:
            got += connection.recv(65536)
    assert [got.index(f"r{n}".encode()) for n in range(3)] == sorted(got.index(f"r{n}".encode()) for n in range(3))


def test_a_defect_shows_nothing_of_the_inside() -> None:
    store = open_store("memory:")
    service = Service(store)
    project, _ = service.create_project("x", id=PROJECT, secret=SECRET, actor=TESTER)
    cuid = service.add_user(project, 1, {}, actor=TESTER).cuid

    is_broken = False

    def broken_clock() -> int:
        nonlocal is_broken
        if is_broken:
            # Once: the failure itself is counted at a time.
            is_broken = False
            raise ZeroDivisionError("a secret of the inside")
        return 1

    async def call() -> httpx.Response:
        app = App(store, Config(store="memory:"), clock=replace(SYSTEM_CLOCK, now_ms=broken_clock))
        connections = Connections(app, body_seconds=60, keep_alive_seconds=60, limit=10, proxies=TrustedProxies([]))
        async with (
            app.running(connections),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as http,
        ):
            nonlocal is_broken
            is_broken = True
            body = {"identityName": "phone", "identityValues": ["1"]}
            return await http.post(REGISTER, json=body, auth=(PROJECT, SECRET), headers={"X-Request-Id": "r-1"})

    answer = asyncio.run(call())
    assert cuid == 1
    assert answer.status_code == 500
    assert answer.json() == {"code": -1, "msg": "服务内部错误，请求 ID：r-1"}
