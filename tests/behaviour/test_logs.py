"""What a server logs: one event a line, as text or JSON, with the request it belongs to, and nothing that is secret."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from support import postgres
from support.engines import database
from support.native_server import TOKEN, NativeServer, native_server
from support.postgres import Cluster
from support.server_process import ATTRIBUTE, REGISTER, ServerProcess, create_project
from support.waiting import wait_until
from usertable.config import ConfigError, load

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE = {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7"}
TEXT_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR|CRITICAL) [\w.]+: .*|    .*")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeServer]:
    """A server that logs everything, as JSON."""
    folder = tmp_path_factory.mktemp("server")
    with native_server(folder, log_level="debug", log_format="json", access_log="true") as started:
        yield started


def lines(server: ServerProcess) -> list[dict[str, Any]]:
    """Return the events in the log, one per line, without a line that is being written."""
    return [json.loads(line) for line in server.log.splitlines(keepends=True) if line.endswith("\n")]


def wait_for(server: ServerProcess, **fields: object) -> dict[str, Any]:
    """Wait for an event with these fields, and return the first one."""
    return wait_until(lambda: [line for line in lines(server) if fields.items() <= line.items()])[0]


def break_project(server: NativeServer, path: str, *, innermost: str, **headers: str) -> httpx.Response:
    """Return the answer to a request for a project whose document is invalid."""
    name = path.rpartition("/")[2]
    with sqlite3.connect(server.database, isolation_level=None) as other:
        (document,) = other.execute("SELECT document FROM project WHERE id = ?", (name,)).fetchone()
        other.execute("UPDATE project SET document = ? WHERE id = ?", (json.dumps({"broken": innermost}), name))
        answer = server.admin.get(path, headers=headers)
        other.execute("UPDATE project SET document = ? WHERE id = ?", (document, name))
    other.close()
    return answer


def test_every_event_is_an_object_on_a_line(server: NativeServer) -> None:
    path, _ = server.new_project()
    answer = break_project(server, path, innermost="x", **{"X-Request-Id": "r-object", "traceparent": TRACEPARENT})
    assert answer.status_code == 500
    logged = wait_for(server.process, request_id="r-object", level="ERROR")
    assert logged["message"] == "a request failed; it was answered with 500"
    assert logged["logger"] == "usertable.http"
    assert logged["process"] == "server"
    assert TRACE.items() <= logged.items()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", logged["timestamp"])
    # The traceback is part of it.
    assert logged["exception"].startswith("Traceback (most recent call last):\n")
    assert "\n" in logged["exception"]


@pytest.mark.parametrize(
    "traceparent",
    [
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01",
        "garbage",
    ],
)
def test_a_trace_that_is_malformed_is_left_out(server: NativeServer, traceparent: str) -> None:
    name = f"r-{abs(hash(traceparent))}"
    server.anyone.get("/livez", headers={"X-Request-Id": name, "traceparent": traceparent})
    assert not TRACE.keys() & wait_for(server.process, request_id=name).keys()


def test_the_access_log_has_every_answered_request(server: NativeServer) -> None:
    path, http = server.new_project()
    http.post(f"{path}/attributes", json={"name": "age", "type": "NUMBER", "rule": "overwrite"})
    http.post(f"{path}/users", json={"cuid": 5})
    # Ten of a project's writes per second have a sample, so some of these have none.
    names = [f"r-put-{number}" for number in range(20)]
    for name in names:
        headers = {"X-Request-Id": name, "traceparent": TRACEPARENT}
        assert http.put(ATTRIBUTE, json={"cuid": 5, "data": {"age": 1}}, headers=headers).status_code == 200
    http.put(ATTRIBUTE, json={"cuid": 5, "data": {"nix": 1}}, headers={"X-Request-Id": "r-refused"})
    answer = http.get(f"{path}/users/5?attributes=age")
    for name in names:
        line = wait_for(server.process, request_id=name)
        expected = {"logger": "usertable.access", "method": "PUT", "route": ATTRIBUTE, "status": 200, "client": "127.0.0.1"}
        assert (expected | TRACE).items() <= line.items()
        assert 0 < line["duration_ms"] < 30_000
    assert wait_for(server.process, request_id="r-refused")["status"] == 400
    line = wait_for(server.process, request_id=answer.headers["x-request-id"])
    assert (line["route"], line["status"]) == ("/api/v1/projects/{project}/users/{cuid}", 200)
    assert line["message"] == "GET /api/v1/projects/{project}/users/{cuid} 200"


def test_no_log_has_a_secret_or_a_value_of_a_user(server: NativeServer) -> None:
    """Wherever they are in a request, and whatever fails."""
    private = "innermost-7f3a"
    path, http = server.new_project(secret=f"secret-{private}")
    http.post(f"{path}/attributes", json={"name": "age", "type": "NUMBER", "rule": "overwrite"})
    http.post(f"{path}/attributes", json={"name": "city", "type": "STRING", "rule": "overwrite"})
    http.post(f"{path}/identifiers", json={"name": "login"})
    http.post(f"{path}/users", json={"cuid": 5, "identifiers": {"login": [private]}})
    http.post(f"{path}/users", json={"cuid": 6, "identifiers": {"login": [private]}})
    http.post(REGISTER, json={"identityName": "login", "identityValues": [private]})
    for data in ({"city": private}, {"age": private}, {private: 1}, {"age": {private: 1}}, {"city": private * 1000}):
        http.put(ATTRIBUTE, json={"cuid": 5, "data": data})
    http.put(ATTRIBUTE, json={"cuid": private, "data": {}})
    http.put(ATTRIBUTE, content=f'{{"cuid": 5, "data": {{"city": "{private}"'.encode())
    http.put(f"{ATTRIBUTE}?dryRun={private}", json={"cuid": 5, "data": {"city": private}})
    http.get(f"{path}/users", params={"where": f"city:eq:{private}"})
    http.get(f"{path}/users", params={"where": f"age:eq:{private}", "identifier": "login", "value": private})
    http.get(f"/{private}")
    records = [
        {"cuid": 5, "data": {"city": private}},
        {"identity": {"name": "login", "value": private}, "data": {"x": private}},
    ]
    http.post(f"{path}/users:batch", json={"records": records, "on_unknown": "register"})
    http.post(f"{path}/users:batch", json={"records": [{"identifiers": {"login": [private]}}], "on_unknown": "import"})
    for authorization in (f"Bearer {private}", f"Basic {private}", f"Bearer {TOKEN}{private}"):
        server.anyone.get(path, headers={"Authorization": authorization})
        server.anyone.put(ATTRIBUTE, headers={"Authorization": authorization})
    server.anyone.put(ATTRIBUTE, auth=("1", private))
    server.anyone.post("/console/sign-in", data={"token": private, "form_token": private})
    assert break_project(server, path, innermost=private).status_code == 500
    with sqlite3.connect(server.database, isolation_level=None, timeout=30) as other:
        # A write that cannot be made, and one whose writer dies.
        other.execute("BEGIN IMMEDIATE")
        assert http.put(ATTRIBUTE, json={"cuid": 5, "data": {"city": private}}).status_code == 503
        other.execute("ROLLBACK")
    other.close()
    os.kill(server.process.writer_pid(), signal.SIGKILL)
    http.put(ATTRIBUTE, json={"cuid": 5, "data": {"city": private}})
    last = server.anyone.get("/livez", headers={"X-Request-Id": "r-last"})
    assert last.status_code == 200
    wait_for(server.process, request_id="r-last")
    assert {"WARNING", "ERROR"} <= {line["level"] for line in lines(server.process)}
    assert private not in server.process.log
    assert TOKEN not in server.process.log


def test_no_log_has_what_postgresql_says_of_stored_values(tmp_path: Path) -> None:
    """PostgreSQL quotes them in the details of its errors: Key (value)=(…) already exists."""
    private = "innermost-7f3a"
    with database(postgres.NEWEST) as url, native_server(tmp_path, url, log_format="json", log_level="debug") as server:
        path, http = server.new_project()
        http.post(f"{path}/attributes", json={"name": "city", "type": "STRING", "rule": "overwrite"})
        http.post(f"{path}/users", json={"cuid": 5})
        with psycopg.connect(url, autocommit=True) as db:
            # The database refuses what the server sends, and quotes it.
            db.execute("ALTER TABLE usertable.users ADD CHECK (NOT attributes ? 'city')")
        codes = {http.put(ATTRIBUTE, json={"cuid": 5, "data": {"city": private}}).status_code for _ in range(15)}
        assert codes == {500}
        wait_until(lambda: "a request failed" in server.process.log)
        for line in lines(server.process):
            assert private not in json.dumps(line)


def test_text_is_one_event_a_line_with_its_traceback_below(tmp_path: Path) -> None:
    with native_server(tmp_path, access_log="true") as server:
        path, _ = server.new_project()
        assert break_project(server, path, innermost="x", **{"X-Request-Id": "r-1"}).status_code == 500
        server.process.wait_for_log(r"GET /api/v1/projects/\{project\} 500 [\d.]+ ms 127\.0\.0\.1 \[request_id=r-1\]")
        log = server.process.log.splitlines()
        assert [line for line in log if not TEXT_LINE.fullmatch(line)] == []
        failed = next(number for number, line in enumerate(log) if "a request failed" in line)
        assert log[failed].endswith(" ERROR usertable.http: a request failed; it was answered with 500 [request_id=r-1]")
        assert log[failed + 1] == "    Traceback (most recent call last):"


def test_the_writer_and_the_workers_log_alike(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    url = f"sqlite:///{folder / 'store.db'}"
    (cuid,) = create_project(url, users=1)
    server = ServerProcess(url, tmp_path, log_format="json")
    try:
        with server.client() as http:
            assert http.put(ATTRIBUTE, json={"cuid": cuid, "data": {"user_number_accumulate": 1}}).status_code == 200
            folder.rename(tmp_path / "away")
            wait_until(
                lambda: http.put(ATTRIBUTE, json={"cuid": cuid, "data": {"user_number_accumulate": 1}}).status_code == 503
            )
        wait_until(
            lambda: {"server", "writer"} == {line["process"] for line in lines(server) if line["level"] == "CRITICAL"}
        )
        # It is about the store, and about no request.
        assert not [line for line in lines(server) if line["level"] == "CRITICAL" and "request_id" in line]
    finally:
        (tmp_path / "away").rename(folder)
        server.kill()


def test_workers_and_the_pool_of_connections_log_alike(tmp_path: Path) -> None:
    cluster = Cluster(postgres.NEWEST)
    cluster.initialise()
    cluster.start()
    with contextlib.closing(cluster), cluster.migrated() as url:
        (cuid,) = create_project(url, users=1)
        server = ServerProcess(url, tmp_path, workers="2", log_format="json")
        cluster.stop("fast")
        try:
            with server.client() as http:
                headers = {"X-Request-Id": "r-down", "traceparent": TRACEPARENT}
                assert http.put(ATTRIBUTE, json={"cuid": cuid, "data": {}}, headers=headers).status_code == 503
            assert TRACE.items() <= wait_for(server, request_id="r-down", level="WARNING").items()
            wait_until(lambda: {"parent", "worker 0", "worker 1"} <= {line["process"] for line in lines(server)})
        finally:
            cluster.start()
            server.stop()
        assert lines(server)


def test_a_server_that_is_stopped_has_logged_every_request_in_order(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    create_project(url)
    server = ServerProcess(url, tmp_path, log_format="json", access_log="true")
    names = [f"r-{number}" for number in range(300)]
    try:
        with server.client() as http:
            for name in names:
                http.get("/livez", headers={"X-Request-Id": name})
    finally:
        # At once, before the next lines are due.
        assert server.stop() == 0
    assert [line["request_id"] for line in lines(server) if line["logger"] == "usertable.access"] == names


def test_without_the_setting_there_is_no_access_log(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    create_project(url)
    server = ServerProcess(url, tmp_path, log_level="debug")
    try:
        assert httpx.get(f"{server.url}/livez").status_code == 200
    finally:
        assert server.stop() == 0
    assert "/livez" not in server.log


@pytest.mark.parametrize("form", ["yaml", "JSON", ""])
def test_another_format_is_refused(form: str) -> None:
    with pytest.raises(ConfigError, match="expected text or json"):
        load({}, {"USERTABLE_LOG_FORMAT": form})


def test_a_token_of_the_wrong_form_is_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "usertable.toml"
    file.write_text("admin_token = 12345678901234567890\n")
    with pytest.raises(ConfigError, match="admin_token is not a string") as refused:
        load({}, {}, str(file))
    assert "12345" not in str(refused.value)
