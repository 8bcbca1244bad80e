"""What the server stores of incoming requests, over HTTP, as any process that opens its store reads it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from support.actors import TESTER
from support.manual_clock import ManualClock
from support.native_server import serving_by
from support.server_process import ATTRIBUTE, PROJECT, REGISTER, SECRET, ServerProcess, create_project
from support.waiting import wait_until
from usertable.app.activity import SAMPLES
from usertable.app.clock import SYSTEM_CLOCK
from usertable.app.service import Service
from usertable.config import Config
from usertable.domain.arrival import Arrival, Arrivals
from usertable.domain.errors import ProblemKind
from usertable.http.server import in_background
from usertable.store import Store, open_store
from usertable.store.memory import MemoryStore


@contextmanager
def serving(url: str, folder: Path, **settings: str) -> Iterator[tuple[httpx.Client, Store]]:
    server = ServerProcess(url, folder, **settings)
    store = open_store(url)
    try:
        with server.client() as client:
            yield client, store
    finally:
        store.close()
        assert server.stop() == 0


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


def samples(store: Store, count: int) -> dict[str, Arrival]:
    """Return the samples by request ID, once there are this many."""
    wait_until(lambda: len(store.arrivals(1, 0, 100)) >= count)
    kept = [arrival for _, arrival in store.arrivals(1, 0, 100)]
    assert len(kept) == count
    return {arrival.request: arrival for arrival in kept}


def test_every_way_to_come_in_is_seen_with_its_outcomes(url: str, tmp_path: Path) -> None:
    (cuid, _) = create_project(url, users=2)
    with serving(url, tmp_path) as (client, store):
        data = {"user_number_accumulate": 1.5, "user_string_once": "<script>alert(1)</script>"}

        def put(name: str, sent: dict[str, object], user: object = cuid, **headers: str) -> int:
            body = {"cuid": user, "data": sent}
            return client.put(ATTRIBUTE, json=body, headers={"X-Request-Id": name} | headers).status_code

        assert put("first", data) == 200
        assert put("again", data, Prefer="return=representation") == 200
        assert put("keyed", data, **{"Idempotency-Key": "k"}) == 200
        assert put("retry", data, **{"Idempotency-Key": "k"}) == 200
        assert put("refused", {"user_number_once": "ten", "nope": 1}) == 400
        assert put("nobody", {"user_number_once": 1}, 5) == 400
        assert client.put(ATTRIBUTE, content=b"{", headers={"X-Request-Id": "broken"}).status_code == 400
        assert client.put(f"{ATTRIBUTE}?dryRun=1", json={"cuid": cuid, "data": data}).status_code == 200
        registration = {"identityName": "phone", "identityValues": ["18012345678"]}
        assert client.post(REGISTER, json=registration, headers={"X-Request-Id": "register"}).status_code == 200
        wrong = {"identityName": "nope", "identityValues": ["18012345678"]}
        assert client.post(REGISTER, json=wrong, headers={"X-Request-Id": "no-register"}).status_code == 400
        stranger = client.put(ATTRIBUTE, json={}, auth=(PROJECT, "wrong"), headers={"X-Request-Id": "stranger"})
        assert stranger.status_code == 401
        assert client.put(ATTRIBUTE, json={}, auth=("other", "wrong")).status_code == 401

        kept = samples(store, 10)
        first = kept["first"]
        assert (first.api, first.cuid, first.problems, first.repeated) == ("attribute", cuid, (), False)
        assert [(e.attribute, e.value, e.outcome) for e in first.entries] == [
            ("user_number_accumulate", "1.5", "applied"),
            ("user_string_once", "<script>alert(1)</script>", "applied"),
        ]
        assert [e.outcome for e in kept["again"].entries] == ["applied", "kept"]
        assert (kept["keyed"].repeated, kept["retry"].repeated) == (False, True)
        assert [(p.kind, p.attribute) for p in kept["refused"].problems] == [
            (ProblemKind.VALUE_TYPE, "user_number_once"),
            (ProblemKind.ATTRIBUTE_UNKNOWN, "nope"),
        ]
        assert kept["nobody"].problems[0].kind is ProblemKind.CUID_UNKNOWN
        assert kept["broken"].problems[0].kind is ProblemKind.BODY_NOT_JSON
        registered = kept["register"]
        assert (registered.api, registered.subject, registered.values) == ("register", "phone", 1)
        assert registered.cuid is not None
        assert kept["no-register"].problems[0].kind is ProblemKind.IDENTIFIER_UNKNOWN
        assert kept["stranger"].problems[0].kind is ProblemKind.CREDENTIALS

        rates = store.rates(1, 0, 10**13)
        assert (rates[0].accepted, rates[0].refused, rates[0].sampled) == (5, 5, 10)
        groups = {(kind, attribute): count for kind, attribute, count, _ in store.refusals(1, 0)}
        assert groups[ProblemKind.ATTRIBUTE_UNKNOWN, "nope"] == 1
        assert groups[ProblemKind.CREDENTIALS, None] == 1
        assert set(store.last_writes(1)) == set(data)
    text = "".join(path.read_bytes().decode("latin-1") for path in tmp_path.glob("store.db*"))
    assert SECRET not in text
    assert "wrong" not in text


def test_every_record_of_a_batch_is_counted(url: str, tmp_path: Path) -> None:
    (cuid,) = create_project(url, users=1)
    with serving(url, tmp_path) as (client, store):
        path = f"/api/v1/projects/{PROJECT}/users:batch"
        records = [
            {"cuid": cuid, "data": {"user_number_overwrite": 1}},
            {"cuid": cuid, "data": {"user_number_overwrite": "x"}},
            {"cuid": 5, "data": {"user_bool_once": 1}},
        ]
        assert client.post(path, json={"records": records}, headers={"X-Request-Id": "batch"}).status_code == 200
        assert client.post(f"{path}?dry_run=1", json={"records": records}).status_code == 200
        assert client.post(path, json={"records": []}, headers={"X-Request-Id": "empty"}).status_code >= 400
        wait_until(lambda: len(store.arrivals(1, 0, 9)) >= 4)
        kept = [arrival for _, arrival in store.arrivals(1, 0, 9)]
        assert {arrival.api for arrival in kept} == {"batch"}
        assert sorted((a.request, [p.kind for p in a.problems][:1]) for a in kept if a.request == "batch") == [
            ("batch", []),
            ("batch", [ProblemKind.CUID_UNKNOWN]),
            ("batch", [ProblemKind.VALUE_TYPE]),
        ]
        assert [a.problems != () for a in kept if a.request == "empty"] == [True]
        (rate,) = store.rates(1, 0, 10**13)
        assert (rate.accepted, rate.refused) == (1, 3)


def test_a_flood_is_counted_whole_and_sampled(url: str) -> None:
    (cuid,) = create_project(url, users=1)
    # The clock is stopped, so that all requests arrive in the same second.
    with serving_by(ManualClock(), url) as server:
        client = server.caller(PROJECT, SECRET)
        for n in range(300):
            client.put(ATTRIBUTE, json={"cuid": cuid, "data": {"user_number_overwrite": n}}).raise_for_status()
    with contextlib.closing(open_store(url)) as store:
        (rate,) = store.rates(1, 0, 1000)
        assert rate.accepted == 300
        assert 0 < rate.sampled == len(store.arrivals(1, 0, 1000)) < 300


def test_payloads_can_be_left_out(url: str, tmp_path: Path) -> None:
    (cuid,) = create_project(url, users=1)
    with serving(url, tmp_path, arrival_payloads="false") as (client, store):
        client.put(ATTRIBUTE, json={"cuid": cuid, "data": {"user_string_once": "private"}})
        client.put(ATTRIBUTE, json={"cuid": cuid, "data": {"user_number_once": "private"}})
        kept = samples(store, 2)
        assert [entry.value for arrival in kept.values() for entry in arrival.entries] == [None, None]
        (problem,) = [p for arrival in kept.values() for p in arrival.problems]
        assert (problem.kind, problem.params["value"]) == (ProblemKind.VALUE_TYPE, "…")
    assert b"private" not in b"".join(path.read_bytes() for path in tmp_path.glob("store.db-wal"))


def test_what_came_last_before_the_end_is_kept(url: str, tmp_path: Path) -> None:
    (cuid,) = create_project(url, users=1)
    with serving(url, tmp_path) as (client, _):
        client.put(ATTRIBUTE, json={"cuid": cuid, "data": {"user_string_once": "x"}}).raise_for_status()
    store = open_store(url)
    assert len(store.arrivals(1, 0, 10)) == 1
    store.close()


def test_workers_show_it_together(shared_url: str, tmp_path: Path) -> None:
    (cuid,) = create_project(shared_url, users=1)
    with serving(shared_url, tmp_path, workers="2") as (client, store):
        address = client.base_url.join(ATTRIBUTE)
        # As many as one worker keeps in a second: the other may get none of them.
        for n in range(SAMPLES):
            # Each on its own connection, so that both workers get some.
            body = {"cuid": cuid, "data": {"user_number_accumulate": 1}}
            sent = httpx.put(address, json=body, auth=(PROJECT, SECRET), headers={"X-Request-Id": f"r{n}"})
            assert sent.status_code == 200
        assert set(samples(store, SAMPLES)) == {f"r{n}" for n in range(SAMPLES)}


def test_a_server_that_stops_waits_for_the_store_to_keep_what_it_was_given() -> None:
    given, may_keep = threading.Event(), threading.Event()

    class SlowStore(MemoryStore):
        calls = 0
        max_calls = 0

        def keep_arrivals(self, batch: Sequence[Arrivals]) -> None:
            self.calls += 1
            self.max_calls = max(self.max_calls, self.calls)
            given.set()
            assert may_keep.wait(60)
            super().keep_arrivals(batch)
            self.calls -= 1

    store = SlowStore()
    service = Service(store)
    project, secret = service.create_project("Tests", id=PROJECT, actor=TESTER)
    with in_background(Config(store="memory:", port=0), store, SYSTEM_CLOCK) as server:
        for _ in range(2):
            assert httpx.put(f"{server}{ATTRIBUTE}", json={}, auth=(PROJECT, secret)).status_code == 400
            assert given.wait(60)
        threading.Timer(0.5, may_keep.set).start()
    assert store.max_calls == 1
    assert sum(rate.refused for rate in store.rates(project.number, 0, 10**13)) == 2
