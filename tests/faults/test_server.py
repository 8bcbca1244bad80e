"""A full disk, slow and broken clients, a full queue, a second server, a drain."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest

from support.actors import TESTER
from support.manual_clock import ManualClock
from support.raw_http import connect, parse_answers
from support.sample_project import sample_project
from support.server_process import ATTRIBUTE, PROJECT, SECRET, ServerProcess, create_project, launch, start_python
from support.waiting import DEADLINE_SECONDS, wait_until
from usertable.app.service import Service
from usertable.config import Config
from usertable.domain.errors import StoreDown
from usertable.store import open_store
from usertable.store.memory import MemoryStore

OK = b'{"code":0,"msg":"ok"}'


def put(http: httpx.Client, cuid: int, **data: object) -> httpx.Response:
    return http.put(ATTRIBUTE, json={"cuid": cuid, "data": data})


def test_a_full_disk_refuses_writes_until_space_is_back(tmp_path: Path) -> None:
    """The limit on file sizes makes every write past it fail, like a full disk, for the real processes."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    (cuid,) = create_project(url, users=1)
    server = ServerProcess(url, tmp_path)
    try:
        with server.client() as http:
            assert put(http, cuid, user_number_accumulate=1).content == OK
            writer = server.writer_pid()
            size = (tmp_path / "store.db-wal").stat().st_size
            resource.prlimit(writer, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            refused = [put(http, cuid, user_number_accumulate=1, user_string_overwrite="x" * 8000) for _ in range(100)]
            assert {(r.status_code, r.json()["code"], r.headers["retry-after"]) for r in refused} == {(503, -1, "1")}
            assert str(tmp_path) not in refused[0].text
            # The log must not fill the disk further.
            assert 1 <= server.log.count("WARNING") < 50
            resource.prlimit(writer, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            assert put(http, cuid, user_number_accumulate=1).content == OK
            shown = put(http, cuid, user_number_accumulate=1)
            assert shown.content == OK
            final = http.put(ATTRIBUTE + "?dryRun=1", json={"cuid": cuid, "data": {"user_number_accumulate": 0}})
            assert final.json()["data"]["user"]["attributes"] == {"user_number_accumulate": 3}
    finally:
        assert server.stop() == 0


@contextlib.contextmanager
def timed_server(**settings: Any) -> Iterator[tuple[str, int, ManualClock]]:
    """Run a server in this process with a user and a manual clock. Yields its URL, the CUID, the clock."""
    store, clock = open_store("memory:"), ManualClock()
    (cuid,) = Service(store).register(sample_project(store, PROJECT, SECRET), "phone", ["1"], actor=TESTER)
    with clock.serving(Config(store="memory:", port=0, **settings), store) as url:
        yield url, cuid, clock


def test_slow_and_broken_clients_do_not_hold_up_others() -> None:
    head = f"PUT {ATTRIBUTE} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n"
    with (
        timed_server(body_seconds=2) as (url, cuid, clock),
        contextlib.ExitStack() as stack,
        httpx.Client(base_url=url, auth=(PROJECT, SECRET), timeout=30) as http,
    ):
        slow = [stack.enter_context(connect(url)) for _ in range(100)]
        for index, connection in enumerate(slow):
            # Silent, half a head, a head without its body, half a body.
            connection.sendall((b"", head.encode()[:40], f"{head}\r\n".encode(), f'{head}\r\n{{"cuid":'.encode())[index % 4])
        # The time stands still, so nothing has timed out.
        assert put(http, cuid, user_number_accumulate=1).content == OK
        with clock.passing():
            for connection in slow:
                answer = connection.recv(65536)
                assert answer.startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 401 ")), answer
        assert put(http, cuid, user_number_accumulate=1).content == OK


def test_requests_that_cannot_be_done_are_logged_once_a_second(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def down(*arguments: object) -> NoReturn:
        raise StoreDown("the disk is full")

    with timed_server() as (url, cuid, clock), httpx.Client(base_url=url, auth=(PROJECT, SECRET), timeout=30) as http:
        monkeypatch.setattr(MemoryStore, "write", down)
        for _ in range(4):
            assert put(http, cuid, user_number_accumulate=1).status_code == 503
        clock.advance(1.1)
        assert put(http, cuid, user_number_accumulate=1).status_code == 503
    said = "a request was answered with 503: the disk is full"
    assert [line for line in caplog.messages if "503" in line] == [
        said,
        f"{said}; requests answered that way since the last such line: 3",
    ]


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/9.9\r\n\r\n", b"\r\n\0\r\n\r\n"]
)
def test_what_is_not_http_gets_a_json_answer(tmp_path: Path, sent: bytes) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    create_project(url)
    server = ServerProcess(url, tmp_path)
    host, port = server.url.removeprefix("http://").split(":")
    try:
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(sent)
            answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"), answer
        assert b'"code":40002' in answer
    finally:
        assert server.stop() == 0


def test_a_full_queue_answers_at_once(tmp_path: Path) -> None:
    """The writer is stopped, so writes can only wait. One more than the queue holds is told to retry."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    (cuid,) = create_project(url, users=1)
    server = ServerProcess(url, tmp_path, queue_capacity="5", max_batch="1")
    answers: list[httpx.Response] = []

    def send() -> None:
        with server.client() as http:
            answers.append(put(http, cuid, user_number_accumulate=1))

    try:
        with server.client() as http:
            assert put(http, cuid, user_number_accumulate=1).content == OK
        writer = server.writer_pid()
        os.kill(writer, signal.SIGSTOP)
        threads = [threading.Thread(target=send) for _ in range(20)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(answers) >= 13)
        # Two are on their way to the writer, five wait.
        assert [a.status_code for a in answers] == [503] * 13
        assert {(a.json()["code"], a.headers["retry-after"]) for a in answers} == {(-1, "1")}
        os.kill(writer, signal.SIGCONT)
        for thread in threads:
            thread.join(DEADLINE_SECONDS)
        assert [a.content for a in answers[13:]] == [OK] * 7
        with server.client() as http:
            final = http.put(ATTRIBUTE + "?dryRun=1", json={"cuid": cuid, "data": {"user_number_accumulate": 0}})
        assert final.json()["data"]["user"]["attributes"]["user_number_accumulate"] == 8
    finally:
        assert server.stop() == 0


def test_one_connection_too_many_is_told_so(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    (cuid,) = create_project(url, users=1)
    server = ServerProcess(url, tmp_path, max_connections="3")
    host, port = server.url.removeprefix("http://").split(":")
    held = [socket.create_connection((host, int(port))) for _ in range(3)]
    try:
        # It accepts connections in their order.
        with server.client() as http:
            refused = put(http, cuid, user_number_accumulate=1)
        assert (refused.status_code, refused.json()["code"]) == (503, -1)
        held.pop().close()

        def is_accepted() -> bool:
            with server.client() as http:
                return put(http, cuid, user_number_accumulate=1).content == OK

        wait_until(is_accepted)
    finally:
        for connection in held:
            connection.close()
        assert server.stop() == 0


def test_a_second_server_on_the_same_file_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    create_project(url)
    server = ServerProcess(url, tmp_path)
    try:
        log = tmp_path / "second.log"
        second = launch(url, log, {})
        assert second.wait(60) == 1
        assert f"another server (process {server.pid}) already serves" in log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        assert server.stop() == 0


def test_sigterm_answers_what_is_under_way(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    (cuid,) = create_project(url, users=1)
    server = ServerProcess(url, tmp_path)
    counted = {"ok": 0, "cut": 0}
    lock = threading.Lock()

    def send() -> None:
        with server.client() as http:
            while True:
                try:
                    answer = put(http, cuid, user_number_accumulate=1)
                except httpx.ConnectError:
                    return
                except httpx.TransportError:
                    # Closed between two requests: a keep-alive connection of a stopping server.
                    with lock:
                        counted["cut"] += 1
                    return
                if answer.content == OK:
                    with lock:
                        counted["ok"] += 1
                else:
                    return

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: counted["ok"] > 20)
    assert server.stop() == 0
    for thread in threads:
        thread.join(DEADLINE_SECONDS)
    server.start()
    try:
        with server.client() as http:
            final = http.put(ATTRIBUTE + "?dryRun=1", json={"cuid": cuid, "data": {"user_number_accumulate": 0}})
        stored = final.json()["data"]["user"]["attributes"]["user_number_accumulate"]
        assert counted["ok"] <= stored <= counted["ok"] + counted["cut"]
        assert counted["ok"] > 20
    finally:
        assert server.stop() == 0


HASTY = (
    "import usertable.http.server as server; server.CLOSING_SECONDS = server.HURRIED_SECONDS = 1.0;"
    "from usertable.cli import main; main()"
)
"""A server that waits a shorter time for its store to close."""


@pytest.mark.parametrize("signals", [1, 2])
def test_a_server_whose_store_hangs_ends_when_it_is_told_to_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: int
) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    (cuid,) = create_project(url, users=1)
    monkeypatch.setattr("support.server_process.launch", partial(start_python, program=["-c", HASTY]))
    server = ServerProcess(url, tmp_path, drain_seconds="1" if signals == 1 else "3600")
    writer = server.writer_pid()
    try:
        with server.client() as http:
            for _ in range(20):
                assert put(http, cuid, user_number_accumulate=1).content == OK
            os.kill(writer, signal.SIGSTOP)
            with pytest.raises(httpx.ReadTimeout):
                http.put(ATTRIBUTE, json={"cuid": cuid, "data": {"user_number_accumulate": 100}}, timeout=1)
        server.signal(signal.SIGTERM)
        if signals == 2:
            # Another one, because two equal signals may arrive as one.
            server.signal(signal.SIGINT)
        assert server.wait() == 1
        assert "the store does not respond, so the server exits without closing it" in server.log
        assert not Path(f"/proc/{writer}").exists()
        server.start()
        with server.client() as http:
            shown = http.put(ATTRIBUTE + "?dryRun=1", json={"cuid": cuid, "data": {"user_bool_once": 1}})
        assert shown.json()["data"]["user"]["attributes"]["user_number_accumulate"] == 20
        assert server.stop() == 0
    finally:
        server.kill()
        with contextlib.suppress(ProcessLookupError):
            os.kill(writer, signal.SIGKILL)


def test_an_idle_connection_and_one_whose_client_does_not_read_are_ended() -> None:
    with timed_server(keep_alive_seconds=5, body_seconds=5) as (url, _, clock), connect(url) as idle, connect(url) as deaf:
        idle.sendall(b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n")
        assert idle.recv(1000).startswith(b"HTTP/1.1 200 ")
        # The system buffers some megabytes less for it.
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: test\r\n\r\n" * 100)
        # The server has accepted it.
        assert deaf.recv(1)
        before = open_sockets()
        with clock.passing():
            assert idle.recv(1000) == b""
            wait_until(lambda: open_sockets() <= before - 2)


def test_a_client_that_reads_slowly_gets_all_of_its_last_answer(tmp_path: Path) -> None:
    """Even from a server that was stopped meanwhile."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    create_project(url)
    server = ServerProcess(url, tmp_path)
    request = b"GET /openapi.json HTTP/1.1\r\nHost: test\r\n\r\n"
    with connect(server.url) as connection:
        connection.sendall(request * 100 + b"GET /livez HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        received = bytearray(connection.recv(1000))
        server.signal(signal.SIGTERM)
        time.sleep(3)
        while piece := connection.recv(1_000_000):
            received += piece
    assert server.stop() == 0
    answers = parse_answers(bytes(received))
    assert answers
    # Requests not begun when the server stopped are not answered; no answer is truncated.
    assert {answer.status for answer in answers} == {200}
    assert "connection" in answers[-1].headers


def open_sockets() -> int:
    """Return the number of sockets that this process has open."""
    found = 0
    for file in Path("/proc/self/fd").iterdir():
        # Other threads close theirs meanwhile.
        with contextlib.suppress(FileNotFoundError):
            found += str(file.readlink()).startswith("socket:")
    return found
