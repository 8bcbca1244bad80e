"""The batch route as its callers see it: each record on its own, in order, safe to retry, bounded."""

from __future__ import annotations

import gzip
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.manual_clock import ManualClock
from support.native_server import NativeServer, native_server, serving_by
from support.prometheus import samples
from support.sample_project import sample_schema
from support.server_process import ATTRIBUTE, PROJECT, ServerProcess, create_project
from support.waiting import wait_until

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BATCH = f"/api/v1/projects/{PROJECT}/users:batch"
LIMIT = 200_000
METRICS_TOKEN = "a-token-for-metrics-only"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeServer]:
    with native_server(tmp_path_factory.mktemp("server"), batch_body_limit=str(LIMIT)) as started:
        yield started


@pytest.fixture
def project(server: NativeServer) -> tuple[str, httpx.Client]:
    """Create a project with every legal attribute, the identifiers `phone` and `mail`, and the users 1 to 5."""
    path, owner = server.new_project()
    for attribute in sample_schema("").attributes.values():
        body = {"name": attribute.name, "type": attribute.type, "rule": attribute.rule}
        assert owner.post(f"{path}/attributes", json=body).status_code == 201
    for name in ("phone", "mail"):
        assert owner.post(f"{path}/identifiers", json={"name": name}).status_code == 201
    for cuid in range(1, 6):
        assert owner.post(f"{path}/users", json={"cuid": cuid, "identifiers": {"mail": f"m{cuid}"}}).status_code == 201
    return path, owner


def send(project: tuple[str, httpx.Client], *records: Any, key: str | None = None, query: str = "", **more: Any) -> Any:
    path, owner = project
    headers = {} if key is None else {"Idempotency-Key": key}
    answer = owner.post(f"{path}/users:batch{query}", json={"records": records, **more}, headers=headers)
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert len(document["results"]) == len(records)
    assert document["done"] + document["refused"] + document["unavailable"] == len(records)
    return document


def codes(document: Any) -> list[int]:
    return [result["code"] for result in document["results"]]


def attributes(project: tuple[str, httpx.Client], cuid: int) -> Any:
    path, owner = project
    return owner.get(f"{path}/users/{cuid}").json()["attributes"]


def test_a_thousand_records_of_one_user_are_done_in_order_and_once(project: tuple[str, httpx.Client]) -> None:
    records = [
        {"cuid": 1, "key": f"r{n}", "data": {"number_accumulate": 1, "number_overwrite": n, "list_append": [f"{n % 700}"]}}
        for n in range(1000)
    ]
    first = send(project, *records)
    assert first["done"] == 1000
    assert [result["version"] for result in first["results"]] == list(range(2, 1002))
    again = send(project, *records)
    assert all(result["replayed"] for result in again["results"])
    path, owner = project
    row = owner.get(f"{path}/users/1").json()["attributes"]
    assert row["number_accumulate"] == 1000
    assert row["number_overwrite"] == 999
    assert row["list_append"] == [f"{n}" for n in range(700)]
    rows = [{"identifiers": {"mail": "m2"}, "key": f"i{n}", "data": {"number_accumulate": 1}} for n in range(1000)]
    assert send(project, *rows, on_unknown="import")["done"] == 1000
    assert send(project, *rows, on_unknown="import")["results"][999]["replayed"]
    assert owner.get(f"{path}/users/2").json()["attributes"] == {"number_accumulate": 1000}


def test_an_answer_for_every_record_in_order(project: tuple[str, httpx.Client]) -> None:
    answered = send(
        project,
        {"cuid": 1, "data": {"number_accumulate": 2.5, "string_once": "a"}},
        {"cuid": 99, "data": {"number_accumulate": 1}},
        {"cuid": "2", "data": {"bool_overwrite": True, "nowhere": 1, "number_once": ""}},
        {"cuid": 1, "data": {"string_once": "b"}},
        {"data": {"number_once": 1}},
        {"cuid": 1, "data": {}},
        17,
        {"cuid": 1, "identity": {"name": "mail", "value": "m1"}, "data": {"number_once": 1}},
        {"cuid": 1, "data": {"number_once": 1}, "kye": "k"},
        {"cuid": 1, "data": {"number_once": 1}, "key": "two words"},
    )
    assert codes(answered) == [0, 40003, 40002, 0, 40007, 40002, 40002, 40002, 40002, 40002]
    assert (answered["done"], answered["refused"], answered["unavailable"], answered["retry_after"]) == (2, 8, 0, None)
    first, unknown, wrong, second, *_, misspelt, _ = answered["results"]
    assert first == {
        "change": first["change"],
        "code": 0,
        "msg": "ok",
        "cuid": 1,
        "version": 2,
        "problems": [],
        "replayed": False,
        "outcomes": {"number_accumulate": "applied", "string_once": "applied"},
    }
    assert unknown["msg"] == "cuid [99] does not exist in this project"
    assert [(p["code"], p["attribute"]) for p in wrong["problems"]] == [
        (40002, "bool_overwrite"),
        (40010, "nowhere"),
        (40009, "number_once"),
    ]
    assert second["outcomes"] == {"string_once": "kept"}
    assert misspelt["msg"].startswith("parameter [records[8].kye] is invalid")
    assert attributes(project, 1) == {"number_accumulate": 2.5, "string_once": "a"}
    assert attributes(project, 2) == {}


def test_values_are_judged_as_in_the_single_call(project: tuple[str, httpx.Client]) -> None:
    """Also where JSON makes no difference: 1.0 is not a BOOL, and 5.0 as a STRING is not 5."""
    path, owner = project
    body = '{"records":[{"cuid":1,"data":{"bool_once":1.0}},{"cuid":2,"data":{"string_once":5.0,"number_once":5.10}}]}'
    answer = owner.post(f"{path}/users:batch", content=body)
    assert codes(answer.json()) == [40002, 0]
    single = owner.put(ATTRIBUTE, content='{"cuid":3,"data":{"string_once":5.0,"number_once":5.10}}')
    assert single.json()["code"] == 0
    assert attributes(project, 2) == attributes(project, 3)


def test_users_by_identifier(project: tuple[str, httpx.Client]) -> None:
    path, owner = project

    def phone(value: str, **data: Any) -> dict[str, Any]:
        return {"identity": {"name": "phone", "value": value}, "data": data}

    unsaid = owner.post(f"{path}/users:batch", json={"records": [phone("1", number_once=1)]})
    assert (unsaid.status_code, unsaid.json()["code"]) == (422, "parameter")
    assert "on_unknown" in unsaid.json()["detail"]

    refused = send(project, phone("1", number_once=1), on_unknown="refuse")
    assert refused["results"][0]["code"] == 40003
    assert refused["results"][0]["msg"] == "cuid [phone=1] does not exist in this project"

    made = send(
        project,
        phone("1", number_accumulate=1),
        phone("2", nowhere=1),
        phone("1", number_accumulate=2),
        {"identity": {"name": "phone", "value": ""}, "data": {"number_once": 1}},
        {"identity": {"name": "phone"}, "data": {"number_once": 1}},
        on_unknown="register",
    )
    assert codes(made) == [0, 40010, 0, 40002, 40002]
    cuid = made["results"][0]["cuid"]
    assert cuid == made["results"][2]["cuid"]
    assert attributes(project, cuid) == {"number_accumulate": 3}
    # A refused record creates no user.
    assert send(project, phone("2", number_once=1), on_unknown="refuse")["results"][0]["code"] == 40003

    # Other identifiers find users, but only the first creates them.
    mail = {"identity": {"name": "mail", "value": "m1"}, "data": {"number_once": 1}}
    found = send(project, mail, {"cuid": 1, "data": {"number_once": 2}}, on_unknown="refuse")
    assert [(r["cuid"], r["outcomes"]["number_once"]) for r in found["results"]] == [(1, "applied"), (1, "kept")]
    assert send(project, mail, on_unknown="register")["results"][0]["problems"][0]["kind"] == "identifier_not_first"
    nowhere = {"identity": {"name": "fax", "value": "1"}, "data": {"number_once": 1}}
    assert send(project, nowhere, on_unknown="refuse")["results"][0]["problems"][0]["kind"] == "identifier_unknown"


def test_a_dry_run_decides_and_writes_nothing(project: tuple[str, httpx.Client]) -> None:
    path, owner = project
    before = owner.get(f"{path}/users").json()
    answered = send(
        project,
        {"cuid": 1, "data": {"number_accumulate": 1}},
        {"identity": {"name": "phone", "value": "new"}, "data": {"number_once": 1}},
        {"identity": {"name": "phone", "value": "new"}, "data": {"number_once": "x"}},
        query="?dry_run=1",
        on_unknown="register",
    )
    assert codes(answered) == [0, 0, 40002]
    assert answered["results"][1]["cuid"] is None
    assert answered["results"][1]["outcomes"] == {"number_once": "applied"}
    assert owner.get(f"{path}/users").json() == before


def test_a_key_for_the_whole_batch(project: tuple[str, httpx.Client]) -> None:
    add = [{"cuid": cuid, "data": {"number_accumulate": 1}} for cuid in (1, 1, 2, 99)]
    first = send(project, *add, key="whole")
    assert codes(first) == [0, 0, 0, 40003]
    # A refused record is decided again.
    path, owner = project
    assert owner.post(f"{path}/users", json={"cuid": 99}).status_code == 201
    again = send(project, *add, key="whole")
    assert codes(again) == [0] * 4
    assert [r["replayed"] for r in again["results"]] == [True, True, True, False]
    assert [r["version"] for r in again["results"][:3]] == [r["version"] for r in first["results"][:3]]
    assert [attributes(project, c)["number_accumulate"] for c in (1, 2, 99)] == [2, 1, 1]
    other = send(project, *add[:2], key="whole")
    assert [r["problems"][0]["kind"] for r in other["results"]] == ["key_reused"] * 2
    assert attributes(project, 1) == {"number_accumulate": 2}


def test_a_key_for_each_record_holds_in_any_batch(project: tuple[str, httpx.Client]) -> None:
    add = [{"cuid": 1 + n % 3, "data": {"number_accumulate": 1}, "key": f"k{n}"} for n in range(6)]
    assert codes(send(project, *add[:4])) == [0] * 4
    again = send(project, *reversed(add), key="another")
    assert [r["replayed"] for r in again["results"]] == [False] * 2 + [True] * 4
    assert [attributes(project, c)["number_accumulate"] for c in (1, 2, 3)] == [2, 2, 2]
    changed = send(project, {**add[0], "data": {"number_accumulate": 7}})
    assert changed["results"][0]["problems"][0]["kind"] == "key_reused"
    # A key of the single call is the same key.
    _, owner = project
    single = {"cuid": 4, "data": {"number_accumulate": 1}}
    assert owner.put(ATTRIBUTE, json=single, headers={"Idempotency-Key": "single"}).json()["code"] == 0
    assert send(project, {**single, "key": "single"})["results"][0]["problems"][0]["kind"] == "key_reused"


@pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("zstd", zstd.compress), ("identity", bytes)])
def test_compressed_bodies(project: tuple[str, httpx.Client], coding: str, compress: Any) -> None:
    path, owner = project
    body = json.dumps({"records": [{"cuid": 1, "data": {"string_overwrite": coding}}]}).encode()
    headers = {"Content-Encoding": coding, "Content-Type": "application/json"}
    answer = owner.post(f"{path}/users:batch", content=compress(body), headers=headers)
    assert codes(answer.json()) == [0]
    assert attributes(project, 1) == {"string_overwrite": coding}
    if coding != "identity":
        broken = owner.post(f"{path}/users:batch", content=compress(body)[:-5], headers=headers)
        assert (broken.status_code, broken.json()["code"]) == (400, "body_broken")
        junk = owner.post(f"{path}/users:batch", content=body, headers=headers)
        assert (junk.status_code, junk.json()["code"]) == (400, "body_broken")


def test_an_unknown_coding_is_refused_with_those_that_are_known(project: tuple[str, httpx.Client]) -> None:
    path, owner = project
    answer = owner.post(f"{path}/users:batch", content=b"x", headers={"Content-Encoding": "br"})
    assert (answer.status_code, answer.json()["code"]) == (415, "content_coding")
    assert answer.headers["accept-encoding"] == "gzip, zstd"


@pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("zstd", zstd.compress)])
def test_a_bomb_is_refused_without_being_inflated(
    server: NativeServer, project: tuple[str, httpx.Client], coding: str, compress: Any
) -> None:
    path, owner = project
    bomb = compress(b" " * 150_000_000)
    assert len(bomb) < LIMIT
    before = peak_kilobytes(server.process.pid)
    answer = owner.post(f"{path}/users:batch", content=bomb, headers={"Content-Encoding": coding})
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert peak_kilobytes(server.process.pid) - before < 50_000


def peak_kilobytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def test_the_body_as_a_whole(project: tuple[str, httpx.Client]) -> None:
    path, owner = project
    record = {"cuid": 1, "data": {"number_once": 1}}

    def refused(status: int, code: str, **sent: Any) -> str:
        answer = owner.post(f"{path}/users:batch{sent.pop('query', '')}", **sent)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
        return str(answer.json()["detail"])

    assert "length of at least 1" in refused(400, "parameter", json={"records": []})
    assert "length of at most 1000" in refused(400, "parameter", json={"records": [record] * 1001})
    refused(400, "parameter", json={"records": [record], "dry_run": True})
    refused(400, "parameter", json={"records": [record], "on_unknown": "ignore"})
    refused(400, "parameter", json={"records": [record]}, query="?dryRun=1")
    refused(400, "key_malformed", json={"records": [record]}, headers={"Idempotency-Key": "two words"})
    refused(413, "body_too_large", json={"records": [record], "x": "x" * LIMIT})
    twice = '{"records":[{"cuid":1,"data":{"number_once":1,"number_once":2}}]}'
    assert "number_once" in refused(400, "duplicate_key", content=twice)
    assert codes(send(project, *[{"cuid": 1, "data": {"number_accumulate": 1}}] * 1000)) == [0] * 1000
    assert attributes(project, 1) == {"number_accumulate": 1000}


def test_the_admin_may_and_others_may_not(server: NativeServer, project: tuple[str, httpx.Client]) -> None:
    path, _ = project
    body = {"records": [{"cuid": 1, "data": {"number_accumulate": 1}}]}
    assert codes(server.admin.post(f"{path}/users:batch", json=body).json()) == [0]
    assert server.admin.post("/api/v1/projects/nowhere/users:batch", json=body).status_code == 404
    _, thief = server.new_project()
    assert thief.post(f"{path}/users:batch", json=body).status_code == 404
    assert attributes(project, 1) == {"number_accumulate": 1}


def test_a_batch_is_one_request_to_its_limit() -> None:
    with serving_by(ManualClock()) as server:
        path, owner = server.new_project(qps=2)
        body = {"records": [{"cuid": 1, "data": {"a": 1}}] * 500}
        answers = [owner.post(f"{path}/users:batch", json=body) for _ in range(3)]
        assert [a.status_code for a in answers] == [200, 200, 429]
        assert answers[0].headers["ratelimit-remaining"] == "1"
        # Other routes are counted separately.
        assert owner.get(path).status_code == 200


def test_a_full_queue_refuses_single_records(tmp_path: Path) -> None:
    """The writer is stopped, so writes can only wait. Records that do not fit are answered so, and none is lost."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    cuids = create_project(url, users=20)
    server = ServerProcess(url, tmp_path, queue_capacity="5", max_batch="1", metrics_token=METRICS_TOKEN)
    records = [{"cuid": c, "data": {"user_number_accumulate": 1}, "key": f"k{c}"} for c in cuids]
    # One more record of the first and of the last user: it must have the same result as the one before it.
    records += [{**records[0], "key": "first"}, {**records[-1], "key": "last"}]
    answers: list[Any] = []

    def post() -> None:
        with server.client() as http:
            answers.append(http.post(BATCH, json={"records": records}).json())

    def waiting_writes() -> float:
        metrics = httpx.get(f"{server.url}/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"}, timeout=60)
        return samples(metrics.text)["usertable_queue_writes", frozenset()]

    try:
        with server.client() as http:
            http.put(ATTRIBUTE, json={"cuid": cuids[0], "data": {"user_string_overwrite": "verified"}})
        os.kill(server.writer_pid(), signal.SIGSTOP)
        thread = threading.Thread(target=post)
        thread.start()
        wait_until(waiting_writes)
        # Before its next answer it has come to the records that do not fit.
        assert waiting_writes()
        os.kill(server.writer_pid(), signal.SIGCONT)
        thread.join(60)
        (answered,) = answers
        unavailable = [place for place, code in enumerate(codes(answered)) if code == -1]
        assert 10 < len(unavailable) < 20
        assert {answered["results"][p]["problems"][0]["kind"] for p in unavailable} == {"overloaded"}
        assert 21 in unavailable
        assert answered["retry_after"] == 1
        # Repeat these until none is left.
        waiting = [records[p] for p in unavailable]
        with server.client() as http:
            while waiting:
                again = codes(http.post(BATCH, json={"records": waiting}).json())
                assert set(again) <= {0, -1}
                waiting = [record for record, code in zip(waiting, again, strict=True) if code == -1]
            for cuid in cuids:
                row = http.get(f"/api/v1/projects/{PROJECT}/users/{cuid}").json()["attributes"]
                assert row["user_number_accumulate"] == (2 if cuid in (cuids[0], cuids[-1]) else 1)
    finally:
        assert server.stop() == 0
