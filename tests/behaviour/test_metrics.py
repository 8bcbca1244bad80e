"""`/metrics`: who may read it, what it counts, and that all workers of a server are in one answer."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support import postgres
from support.engines import database
from support.native_server import TOKEN, NativeServer, native_server
from support.prometheus import promtool, samples
from support.server_process import ATTRIBUTE, PROJECT, REGISTER, SECRET, ServerProcess, create_project
from support.waiting import wait_until
from usertable.config import ConfigError, load

METRICS_TOKEN = "a-token-for-metrics-only"
BEARER = {"Authorization": f"Bearer {METRICS_TOKEN}"}
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeServer]:
    with native_server(tmp_path_factory.mktemp("server"), metrics_token=METRICS_TOKEN) as started:
        yield started


def scrape(url: str) -> str:
    answer = httpx.get(f"{url}/metrics", headers=BEARER, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.text


def value(text: str, name: str, **labels: str) -> float:
    """Return the value of a metric; 0 if there is none yet."""
    return samples(text).get((name, frozenset(labels.items())), 0.0)


def test_without_a_setting_there_is_no_such_route(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    create_project(url)
    server = ServerProcess(url, tmp_path)
    try:
        assert httpx.get(f"{server.url}/metrics").json()["msg"] == "no such route: /metrics"
        assert httpx.get(f"{server.url}/metrics", headers=BEARER).status_code == 404
    finally:
        server.stop()


def test_only_the_metrics_token_reads_them(server: NativeServer) -> None:
    for headers in ({}, {"Authorization": f"Bearer {TOKEN}"}, {"Authorization": f"Basic {METRICS_TOKEN}"}):
        answer = server.anyone.get("/metrics", headers=headers)
        assert answer.status_code == 401
        assert answer.json()["code"] == "metrics_only"
        assert answer.headers["www-authenticate"] == 'Bearer realm="usertable metrics"'
    assert server.anyone.get("/metrics", headers=BEARER).status_code == 200
    assert server.anyone.get("/api/v1/projects", headers=BEARER).status_code == 401
    answer = server.anyone.post("/metrics", headers=BEARER)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


def test_the_text_is_what_prometheus_expects(server: NativeServer) -> None:
    text = scrape(server.url)
    assert promtool("check", "metrics", given=text) == ""
    accepted = server.anyone.get("/metrics", headers=BEARER | {"Accept": "application/openmetrics-text;version=1.0.0"})
    assert accepted.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert accepted.text.endswith("# EOF\n")


def test_requests_are_counted_by_route_and_code(server: NativeServer) -> None:
    path, http = server.new_project()
    project = path.rpartition("/")[2]
    http.post(f"{path}/attributes", json={"name": "age", "type": "NUMBER", "rule": "overwrite"})
    http.post(f"{path}/identifiers", json={"name": "phone"})
    registered = http.post(REGISTER, json={"identityName": "phone", "identityValues": ["18012345678"]})
    assert registered.status_code == 200, registered.text
    (cuid,) = (user["cuid"] for user in http.get(f"{path}/users").json()["users"])
    before = scrape(server.url)
    for age in range(7):
        assert http.put(ATTRIBUTE, json={"cuid": cuid, "data": {"age": age}}).status_code == 200
    assert http.put(f"{ATTRIBUTE}?dryRun=1", json={"cuid": cuid, "data": {"age": 1}}).status_code == 200
    assert http.put(ATTRIBUTE, json={"cuid": cuid, "data": {"height": 1}}).status_code == 400
    assert http.get(f"{path}/users/{cuid}").status_code == 200
    assert http.get(f"/nowhere/{cuid}").status_code == 404
    assert http.request("TRACE", f"/api/v1/nowhere/{cuid}").status_code == 404
    after = scrape(server.url)

    def grown(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    requests, seconds = "usertable_http_requests_total", "usertable_http_request_duration_seconds_count"
    assert grown(requests, method="PUT", route=ATTRIBUTE, code="200") == 8
    assert grown(requests, method="PUT", route=ATTRIBUTE, code="400") == 1
    assert grown(seconds, method="PUT", route=ATTRIBUTE) == 9
    assert grown(requests, method="GET", route="/api/v1/projects/{project}/users/{cuid}", code="200") == 1
    assert grown(requests, method="GET", route="other", code="404") == 1
    assert grown(requests, method="other", route="other", code="404") == 1
    assert grown(requests, method="GET", route="/metrics", code="200") == 1
    assert grown("usertable_refusals_total", kind="attribute_unknown", code="40010") == 1
    assert grown("usertable_refusals_total", kind="no_route", code="40002") == 2
    # The dry run has its turn in a commit too.
    assert grown("usertable_commit_writes_sum") == 8
    assert grown("usertable_commit_duration_seconds_count") >= 1
    # Nothing of a project or a user is in it.
    labels = {text for _, labels in samples(after) for _, text in labels}
    for told in (project, str(cuid), "18012345678", "age", "height"):
        assert not {text for text in labels if re.search(rf"\b{told}\b", text)}


def test_what_is_not_http_is_counted(server: NativeServer) -> None:
    before = scrape(server.url)
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")
    after = scrape(server.url)
    labels = {"method": "other", "route": "other", "code": "400"}
    assert (
        value(after, "usertable_http_requests_total", **labels)
        == value(before, "usertable_http_requests_total", **labels) + 1
    )
    assert value(after, "usertable_refusals_total", kind="not_http", code="40002") >= 1


def test_keys_records_and_imported_rows_are_counted(server: NativeServer) -> None:
    path, http = server.new_project()
    http.post(f"{path}/attributes", json={"name": "age", "type": "NUMBER", "rule": "accumulate"})
    cuid = http.post(f"{path}/users", json={"cuid": 5}).json()["cuid"]
    before = scrape(server.url)
    for body in ({"age": 1}, {"age": 1}, {"age": 2}):
        http.put(ATTRIBUTE, json={"cuid": cuid, "data": body}, headers={"Idempotency-Key": "k-1"})
    records = [{"cuid": 5, "data": {"age": 1}}, {"cuid": 5, "data": {"size": 1}}, {"cuid": 6, "data": {"age": 1}}]
    assert http.post(f"{path}/users:batch", json={"records": records}).status_code == 200
    rows = [{"cuid": number, "data": {"age": 1}} for number in (7, 8)]
    imported = http.post(f"{path}/users:batch", json={"records": rows, "on_unknown": "import"})
    assert imported.status_code == 200, imported.text
    after = scrape(server.url)

    def grown(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    keys = "usertable_idempotency_keys_total"
    assert [grown(keys, result=result) for result in ("stored", "replayed", "reused")] == [1, 1, 1]
    of_batches = "usertable_batch_records_total"
    assert grown(of_batches, api="batch", result="written") == 1
    assert grown(of_batches, api="batch", result="refused") == 2
    assert grown(of_batches, api="import", result="written") == 2
    wait_until(lambda: value(scrape(server.url), "usertable_arrival_samples_total") > 0)


def test_signing_in_to_the_console_is_counted(server: NativeServer) -> None:
    with httpx.Client(base_url=server.url) as browser:

        def sign_in(token: str) -> None:
            page = browser.get("/console/sign-in").text
            found = re.search(r'name="form_token" value="([^"]+)"', page)
            assert found
            browser.post("/console/sign-in", data={"form_token": found[1], "token": token}, headers={"Origin": server.url})

        sign_in("not the token at all")
        sign_in(TOKEN)
    results = {
        result: value(scrape(server.url), "usertable_console_sign_ins_total", result=result)
        for result in ("accepted", "wrong")
    }
    assert results == {"accepted": 1, "wrong": 1}


def test_the_store_and_the_processes_are_measured(server: NativeServer) -> None:
    text = scrape(server.url)
    python = ".".join(map(str, sys.version_info[:3]))
    assert value(text, "usertable_build_info", version=server.process.version, python=python, engine="sqlite") == 1
    assert value(text, "usertable_store_ready") == 1
    assert value(text, "usertable_workers") == value(text, "usertable_worker_starts_total") == 1
    assert value(text, "usertable_store_file_bytes", file="log") > 0
    # A checkpoint may come in between.
    size = server.database.stat
    wait_until(lambda: value(scrape(server.url), "usertable_store_file_bytes", file="database") == size().st_size)
    assert value(text, "usertable_store_free_bytes") > 0
    for process in ("server", "writer"):
        assert value(text, "process_resident_memory_bytes", process=process, worker="0") > 1_000_000


def test_every_metric_is_on_its_page_and_no_other(server: NativeServer) -> None:
    with database(postgres.NEWEST) as url, native_server(server.database.parent, url, metrics_token=METRICS_TOKEN) as other:
        texts = [scrape(server.url), scrape(other.url)]
    told = {name for text in texts for name in re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)}
    assert set(re.findall(r"^\| `(\w+)` \| (?:counter|gauge|histogram) \|", PAGE.read_text(), re.MULTILINE)) == told


def test_they_can_have_an_address_of_their_own(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    create_project(url)
    server = ServerProcess(url, tmp_path, metrics_address="127.0.0.1:0")
    try:
        found = server.wait_for_log(r"serving metrics on (http://\S+), without a token")
        answer = httpx.get(f"{found[1]}/metrics")
        assert answer.status_code == 200
        assert "usertable_store_ready 1.0" in answer.text
        # There is nothing else there, and they are nowhere else.
        assert httpx.get(f"{found[1]}/livez").status_code == 404
        assert httpx.get(f"{server.url}/metrics").status_code == 404
    finally:
        assert server.stop() == 0


def test_they_can_be_served_on_a_unix_socket_that_was_left_behind(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    create_project(url)
    place = tmp_path / "metrics.sock"
    for last in (False, True):
        # The first server is killed, and leaves its socket.
        server = ServerProcess(url, tmp_path, metrics_address=f"unix:{place}", metrics_token=METRICS_TOKEN)
        try:
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(place)), base_url="http://server") as http:
                assert http.get("/metrics").status_code == 401
                assert http.get("/metrics", headers=BEARER).status_code == 200
        finally:
            server.stop() if last else server.kill()


def test_an_address_that_is_taken_is_named(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    create_project(url)
    first = ServerProcess(url, tmp_path)
    try:
        port = first.url.rpartition(":")[2]
        with pytest.raises(AssertionError, match=rf"cannot listen on 127.0.0.1 port {port}: .*metrics_address"):
            ServerProcess(f"sqlite:///{tmp_path / 'other.db'}", tmp_path, metrics_address=f"127.0.0.1:{port}")
    finally:
        first.stop()


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"metrics_token": "short"}, "fewer than 16 characters"),
        ({"metrics_token": ""}, "fewer than 16 characters"),
        ({"metrics_token": TOKEN, "admin_token": TOKEN}, "a token of its own"),
        ({"metrics_address": "9464"}, "expected host:port"),
        ({"metrics_address": "127.0.0.1:http"}, "expected host:port"),
        ({"metrics_address": "::1:9464"}, "expected host:port"),
        ({"metrics_address": "127.0.0.1:70000"}, "expected host:port"),
        ({"metrics_address": "unix:relative"}, "expected host:port"),
        ({"metrics_address": "127.0.0.1:8000"}, "set metrics_token"),
    ],
)
def test_a_half_set_configuration_is_refused(settings: dict[str, str], why: str) -> None:
    environment = {f"USERTABLE_{name.upper()}": text for name, text in settings.items()}
    with pytest.raises(ConfigError, match=why):
        load({}, environment)


def test_a_hangup_replaces_the_token(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    create_project(url)
    config = tmp_path / "usertable.toml"
    config.write_text(f'metrics_token = "{METRICS_TOKEN}"\n')
    server = ServerProcess(url, tmp_path, config=str(config))
    try:
        assert httpx.get(f"{server.url}/metrics", headers=BEARER).status_code == 200
        config.write_text('metrics_token = "another-token-for-metrics"\n')
        server.signal(signal.SIGHUP)
        server.wait_for_log("reloaded metrics_token")
        wait_until(lambda: httpx.get(f"{server.url}/metrics", headers=BEARER).status_code == 401)
        config.write_text("")
        server.signal(signal.SIGHUP)
        wait_until(lambda: httpx.get(f"{server.url}/metrics").status_code == 404)
        assert "another-token" not in server.log
    finally:
        assert server.stop() == 0


def test_all_workers_are_in_one_answer_and_one_that_died_counts_on(shared_url: str, tmp_path: Path) -> None:
    (cuid,) = create_project(shared_url, users=1)
    server = ServerProcess(shared_url, tmp_path, workers="2", metrics_token=METRICS_TOKEN)
    puts = {"method": "PUT", "route": ATTRIBUTE, "code": "200"}

    def counted() -> float:
        return value(scrape(server.url), "usertable_http_requests_total", **puts)

    try:
        for _ in range(40):
            # Each on a connection of its own, so that both workers have some.
            with server.client() as http:
                assert http.put(ATTRIBUTE, json={"cuid": cuid, "data": {"user_number_accumulate": 1}}).status_code == 200
        wait_until(lambda: counted() == 40)
        text = scrape(server.url)
        assert value(text, "usertable_workers") == value(text, "usertable_worker_starts_total") == 2
        merges = {r: value(text, "usertable_merge_writes_total", result=r) for r in ("merged", "declined", "other")}
        assert sum(merges.values()) == 40
        assert value(text, "usertable_pool_connections_limit", pool="main") == 16
        for process, worker in (("worker", "0"), ("worker", "1"), ("writer", "0"), ("writer", "1"), ("parent", "")):
            assert value(text, "process_cpu_seconds_total", process=process, worker=worker) > 0
        os.kill(server.children()[0], signal.SIGKILL)
        wait_until(lambda: server.log.count("starting another") == 1 and len(server.children()) == 2)
        wait_until(lambda: value(scrape(server.url), "usertable_workers") == 2)
        text = scrape(server.url)
        assert value(text, "usertable_worker_starts_total") == 3
        assert value(text, "usertable_http_requests_total", **puts) == 40
        for told in (PROJECT, SECRET, str(cuid)):
            assert told not in text
    finally:
        assert server.stop() == 0
