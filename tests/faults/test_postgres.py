"""PostgreSQL fails, or several servers share it: callers get an answer or a clear 503, and the sums are exact."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import httpx
import psycopg
import pytest

from support.actors import TESTER
from support.commands import edit_project
from support.engines import ENGINES, SHARED
from support.form_browser import TOKEN, FormBrowser
from support.load import check_sums, load, wait_for_more
from support.postgres import NEWEST, Cluster
from support.process_memory import children
from support.server_process import ATTRIBUTE, PROJECT, ServerProcess, create_project, launch
from support.waiting import DEADLINE_SECONDS, wait_until
from usertable.app.service import Service
from usertable.console.session import COOKIE
from usertable.domain.errors import StoreDown
from usertable.domain.schema import Attribute, Project, Rule
from usertable.domain.values import DataType
from usertable.store import open_store
from usertable.store.postgres.pool import RENEW_SECONDS


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Return a database server that tests may stop and start, and that is durable."""
    cluster = Cluster(NEWEST, durable=True, settings=("deadlock_timeout = 200ms",))
    cluster.initialise()
    cluster.start()
    yield cluster
    cluster.close()


@pytest.fixture
def database(cluster: Cluster) -> Iterator[str]:
    with cluster.migrated() as url:
        yield url


class ThreeWorkers(NamedTuple):
    """A server of three workers, its database, and users that each are for one test."""

    url: str
    server: ServerProcess
    cuids: Iterator[int]


@pytest.fixture(scope="module", params=SHARED)
def three_workers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreeWorkers]:
    folder = tmp_path_factory.mktemp("three-workers")
    with ENGINES[request.param](folder) as url:
        cuids = create_project(url, users=2)
        server = ServerProcess(url, folder, workers="3")
        yield ThreeWorkers(url, server, iter(cuids))
        assert server.stop() == 0


def folder(base: Path, name: str) -> Path:
    made = base / name
    made.mkdir()
    return made


def test_several_servers_with_workers_on_one_database(shared_url: str, tmp_path: Path) -> None:
    cuids = create_project(shared_url, users=3)
    servers = [ServerProcess(shared_url, folder(tmp_path, name), workers="2") for name in ("a", "b")]
    with load(servers, cuids, 12) as clients:
        wait_for_more(clients, 400)
    check_sums(shared_url, cuids, clients, 200)
    once = {"cuid": cuids[0], "data": {"user_string_once": ""}}

    def race(number: int) -> object:
        with servers[number % 2].client() as http:
            body = {**once, "data": {"user_string_once": f"caller {number}"}}
            answer = http.put(ATTRIBUTE, json=body, headers={"Prefer": "return=representation"})
            return answer.json()["data"]["outcomes"]["user_string_once"]

    with ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(race, range(16)))
    assert sorted(map(str, outcomes)) == ["applied"] + ["kept"] * 15
    assert [server.stop() for server in servers] == [0, 0]


def test_a_retry_is_replayed_whichever_worker_gets_it(three_workers: ThreeWorkers) -> None:
    cuid = next(three_workers.cuids)
    body = {"cuid": cuid, "data": {"user_number_accumulate": 7}}
    replayed = 0
    for _ in range(12):
        # A new connection each, so that the system chooses a worker again.
        with three_workers.server.client() as http:
            answer = http.put(ATTRIBUTE, json=body, headers={"Idempotency-Key": "k"})
            assert answer.content == b'{"code":0,"msg":"ok"}'
            replayed += answer.headers.get("idempotency-replayed") == "true"
    assert replayed == 11
    store = open_store(three_workers.url)
    user = Service(store).user(Service(store).project(PROJECT), cuid)
    store.close()
    assert user.profile.attributes == {"user_number_accumulate": 7}


def test_a_schema_change_reaches_every_worker(three_workers: ThreeWorkers) -> None:
    cuid = next(three_workers.cuids)
    body = {"cuid": cuid, "data": {"brand_new": "a"}}

    def codes() -> set[int]:
        found = set()
        for _ in range(12):
            with three_workers.server.client() as http:
                found.add(http.put(ATTRIBUTE, json=body).json()["code"])
        return found

    assert codes() == {40010}
    store = open_store(three_workers.url)
    Service(store).declare_attribute(PROJECT, Attribute("brand_new", DataType.STRING, Rule.OVERWRITE), actor=TESTER)
    store.close()
    wait_until(lambda: codes() == {0})


def test_whoever_signs_in_to_the_console_is_known_to_every_worker(three_workers: ThreeWorkers) -> None:
    server = three_workers.server

    def ask(path: str, cookies: httpx.Cookies, **fields: str) -> httpx.Response:
        # A new connection each time: the system chooses the worker.
        with httpx.Client(base_url=server.url, cookies=cookies, timeout=30) as http:
            return http.post(path, data=fields) if fields else http.get(path)

    def form_token(page: httpx.Response) -> str:
        token = re.search(r'name="form_token" value="(\w+)"', page.text)
        assert token is not None
        return token[1]

    # The link is printed after the server says that it answers.
    link = server.wait_for_log(r"sign-in\?link=(\S+)\n")[1]
    page, other = (ask(f"/console/sign-in?link={link}", httpx.Cookies()) for _ in range(2))
    entered = ask("/console/sign-in/link", page.cookies, form_token=form_token(page), link=link)
    assert entered.headers["location"] == "/console/first-person"
    pages = [ask("/console/projects", entered.cookies) for _ in range(24)]
    assert [p.status_code for p in pages] == [200] * 24
    # A second click on the same form has the same result as the first; the link admits nobody else.
    again = [ask("/console/sign-in/link", page.cookies, form_token=form_token(page), link=link) for _ in range(12)]
    assert {(a.status_code, a.headers["location"]) for a in again} == {(303, "/console/first-person")}
    refused = [ask("/console/sign-in/link", other.cookies, form_token=form_token(other), link=link) for _ in range(12)]
    assert [r.status_code for r in refused] == [403] * 12
    assert ask("/console/sign-out", entered.cookies, form_token=form_token(pages[0])).status_code == 303
    assert [ask("/console/projects", entered.cookies).status_code for _ in range(24)] == [303] * 24


def test_workers_count_the_qps_limit_together(shared_url: str, tmp_path: Path) -> None:
    (cuid,) = create_project(shared_url, users=1, qps=20)
    server = ServerProcess(shared_url, tmp_path, workers="3")

    def put(_: int) -> int:
        with server.client() as http:
            return http.put(ATTRIBUTE, json={"cuid": cuid, "data": {"user_bool_overwrite": 1}}).status_code

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(30)))
        # From the first request of a window on, 20 pass; 120 requests take less than two windows more.
        begun = time.monotonic()
        passed = list(pool.map(put, range(120))).count(200)
        windows = time.monotonic() - begun + 2
    assert passed <= 20 * windows
    # A window begins after another.
    wait_until(lambda: put(0) == 200)
    assert server.stop() == 0


def test_a_killed_worker_is_replaced(shared_url: str, tmp_path: Path) -> None:
    cuids = create_project(shared_url, users=3)
    server = ServerProcess(shared_url, tmp_path, workers="2")
    with load([server], cuids, 6) as clients:
        for killed in range(1, 4):
            wait_for_more(clients, 40)
            victim = random.choice(server.children())
            os.kill(victim, signal.SIGKILL)
            # Not until it is replaced: before that it is still among the children, and killing it again has no effect.
            wait_until(lambda killed=killed: server.log.count("starting another") >= killed)  # type: ignore[misc]
            # It says so before it does so.
            wait_until(lambda: len(server.children()) == 2)
            assert victim not in server.children()
        wait_for_more(clients, 40)
    assert server.stop() == 0
    check_sums(shared_url, cuids, clients, 160)
    assert server.log.count("starting another") == 3


@contextlib.contextmanager
def starting_workers(url: str, folder: Path) -> Iterator[set[int]]:
    """Start a server of two workers. Yield their process IDs before they run. After the block it must serve."""
    create_project(url)
    log = folder / "server.log"
    process = launch(url, log, {"workers": "2"})
    try:
        yield wait_until(lambda: found if len(found := children(process.pid)) == 2 else None)
        wait_until(lambda: "serving postgresql://" in log.read_text())
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 0


def test_sighup_to_all_processes_does_not_end_workers_that_are_starting(database: str, tmp_path: Path) -> None:
    with starting_workers(database, tmp_path) as workers:
        for pid in workers:
            os.kill(pid, signal.SIGHUP)
    assert "starting another" not in (tmp_path / "server.log").read_text()


def test_a_server_serves_once_a_worker_that_died_at_its_start_is_replaced(database: str, tmp_path: Path) -> None:
    with starting_workers(database, tmp_path) as workers:
        os.kill(min(workers), signal.SIGKILL)
        wait_until(lambda: "starting another" in (tmp_path / "server.log").read_text())
    log = (tmp_path / "server.log").read_text()
    assert (log.count("starting another"), log.count("serving postgresql://")) == (1, 1)


def test_workers_end_with_their_parent(database: str, tmp_path: Path) -> None:
    create_project(database)
    server = ServerProcess(database, tmp_path, workers="2")
    workers = server.children()
    server.kill()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


def test_the_database_crashes_and_starts_again_under_load(cluster: Cluster, database: str, tmp_path: Path) -> None:
    cuids = create_project(database, users=3)
    server = ServerProcess(database, tmp_path)
    noted = 0
    with load([server], cuids, 8) as clients:
        for _ in range(3):
            time.sleep(1)
            noted = max(noted, *arrival_numbers(database))
            cluster.stop("immediate")
            time.sleep(0.5)
            cluster.start()
            wait_for_more(clients, 20)
    assert server.stop() == 0
    check_sums(database, cuids, clients, 60)
    # Arrivals before the crash are lost, and a reader that continues from their numbers misses none after it.
    assert min(arrival_numbers(database)) > noted


def arrival_numbers(url: str) -> list[int]:
    """Return the numbers of the stored arrivals."""
    store = open_store(url)
    project = Service(store).project(PROJECT)
    numbers = [number for number, _ in store.arrivals(project.number, 0, 1000)]
    store.close()
    return numbers or [0]


def test_without_the_database_nobody_is_signed_out_and_nobody_comes_in(
    cluster: Cluster, database: str, tmp_path: Path
) -> None:
    create_project(database)
    store = open_store(database)
    Service(store).add_person("ann@example.com", admin=True, password="correct horse battery staple", actor=TESTER)
    store.close()
    server = ServerProcess(database, tmp_path, admin_token=TOKEN)
    with FormBrowser(base_url=server.url, timeout=30) as ann, FormBrowser(base_url=server.url, timeout=30) as other:
        assert ann.sign_in_as("ann@example.com", "correct horse battery staple").status_code == 303
        other.page("/console/sign-in")
        cookie = ann.cookies[COOKIE]
        cluster.stop("fast")
        try:
            for answer in (
                ann.get("/console/projects"),
                ann.get("/console/sign-in"),
                other.submit("/console/sign-in", token=TOKEN),
                other.submit("/console/sign-in", sign_in_email="ann@example.com", sign_in_password="correct horse"),
            ):
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
                assert "127.0.0.1" not in answer.text
            assert ann.cookies[COOKIE] == cookie
        finally:
            cluster.start()
        wait_until(lambda: ann.get("/console/projects").status_code == 200)
        assert other.get("/console/projects").status_code == 303
    assert server.stop() == 0


def test_without_the_database_the_answer_is_a_clear_503(cluster: Cluster, database: str, tmp_path: Path) -> None:
    (cuid,) = create_project(database, users=1)
    server = ServerProcess(database, tmp_path)
    body = {"cuid": cuid, "data": {"user_number_accumulate": 1}}
    with server.client() as http:
        assert http.put(ATTRIBUTE, json=body).status_code == 200
        cluster.stop("fast")
        try:
            answer = http.put(ATTRIBUTE, json=body)
            assert (answer.status_code, answer.json()["code"]) == (503, -1)
            assert answer.headers["retry-after"]
            assert "127.0.0.1" not in answer.text
            assert http.get("/readyz").status_code == 503
        finally:
            cluster.start()
        wait_until(lambda: http.put(ATTRIBUTE, json=body).status_code == 200)
    assert server.stop() == 0


def test_connections_cut_in_mid_transaction(database: str, tmp_path: Path) -> None:
    cuids = create_project(database, users=3)
    server = ServerProcess(database, tmp_path)
    cut = 0
    with load([server], cuids, 8) as clients, psycopg.connect(database, autocommit=True) as db:
        end = time.monotonic() + 4
        while time.monotonic() < end or cut <= 5:
            time.sleep(0.03)
            cut += db.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE application_name = 'usertable' AND xact_start IS NOT NULL"
            ).fetchall()[0][0]
        wait_for_more(clients, 20)
    assert server.stop() == 0
    # The driver's own warnings add nothing to the server's lines, and no page explains them.
    assert "error ignored terminating" not in server.log
    check_sums(database, cuids, clients, 20)


@pytest.mark.parametrize("how", ["terminate", "cancel"])
def test_the_machines_of_a_cluster_cut_in_mid_transaction(shared_url: str, tmp_path: Path, how: str) -> None:
    """On Citus the coordinator may not learn whether another machine committed. Elsewhere there is only one machine."""
    cuids = create_project(shared_url, users=3)
    server = ServerProcess(shared_url, tmp_path)
    cut = 0
    with load([server], cuids, 8) as clients, psycopg.connect(shared_url, autocommit=True) as db:
        is_citus = db.execute("SELECT 1 FROM pg_extension WHERE extname = 'citus'").fetchone()
        statement = (
            f"SELECT count(pg_{how}_backend(pid)) FROM pg_stat_activity WHERE state <> 'idle' AND pid <> pg_backend_pid()"
            f" AND application_name LIKE '{'citus_internal' if is_citus else 'usertable'}%'"
        )
        everywhere = f"SELECT result::int FROM run_command_on_workers($command${statement}$command$)"
        end = time.monotonic() + 4
        while time.monotonic() < end or cut <= 5:
            time.sleep(0.05)
            cut += sum(count for (count,) in db.execute((everywhere if is_citus else statement).encode()))
        if is_citus:
            # Without this, Citus checks only once a minute for prepared transactions without a result.
            db.execute("SELECT recover_prepared_transactions()")
        wait_for_more(clients, 20)
    assert server.stop() == 0
    check_sums(shared_url, cuids, clients, 20)
    assert "Traceback" not in server.log


def test_a_deadlock_is_begun_again(database: str, tmp_path: Path) -> None:
    """Another program locks users in the opposite order; the database ends one of the two transactions."""
    cuids = create_project(database, users=2)
    server = ServerProcess(database, tmp_path)
    ours = 0
    lock = "SELECT 1 FROM usertable.users WHERE cuid = %s FOR UPDATE"
    with load([server], cuids, 8) as clients, psycopg.connect(database) as db:
        # It checks for deadlocks later than the server's transaction, so that usually that one is ended.
        db.execute("SET deadlock_timeout = '2s'")
        db.commit()
        ended, deadline = 0, time.monotonic() + 60
        # On a busy machine the server may not have begun when the lock is taken.
        while ended <= ours and time.monotonic() < deadline:
            try:
                db.execute(lock, (cuids[1],))
                time.sleep(0.1)
                db.execute(lock, (cuids[0],))
            except psycopg.errors.DeadlockDetected:
                # The machine was so busy that the server's transaction checked before there was a deadlock.
                ours += 1
            db.rollback()
            time.sleep(0.1)
            ended = db.execute(
                "SELECT pg_stat_force_next_flush(), deadlocks FROM pg_stat_database WHERE datname = current_database()"
            ).fetchall()[0][1]
            db.rollback()
        wait_for_more(clients, 20)
    assert ended > ours
    assert server.stop() == 0
    check_sums(database, cuids, clients, 20)
    assert sum(client.refused for client in clients) == 0


def test_a_pool_whose_connections_are_busy_is_waited_for(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usertable.store.postgres.pool.CONNECT_SECONDS", 0.2)
    create_project(database)
    store = open_store(database + "?pool_size=2")

    def slow(project: Project) -> Project:
        time.sleep(1)
        return project

    with ThreadPoolExecutor(2) as pool:
        edits = [pool.submit(edit_project, store, PROJECT, slow, TESTER, 0) for _ in range(2)]
        time.sleep(0.1)
        store.ping()
        for edit in edits:
            edit.result()
    store.close()


def test_a_slow_database_gives_back_pressure(database: str, tmp_path: Path) -> None:
    (cuid,) = create_project(database, users=1)
    server = ServerProcess(database, tmp_path, queue_capacity="20")
    body = {"cuid": cuid, "data": {"user_number_accumulate": 1}}

    def put(_: int) -> int:
        with server.client() as http:
            return http.put(ATTRIBUTE, json=body).status_code

    assert put(0) == 200
    with psycopg.connect(database) as db, ThreadPoolExecutor(80) as pool:
        db.execute("SELECT 1 FROM usertable.users WHERE cuid = %s FOR UPDATE", (cuid,))
        answers = [pool.submit(put, n) for n in range(80)]
        wait_until(lambda: sum(a.done() for a in answers) >= 20)
        refused = {a.result() for a in answers if a.done()}
        db.rollback()
        statuses = [a.result() for a in answers]
    assert refused == {503}
    assert set(statuses) == {200, 503}
    assert server.stop() == 0
    store = open_store(database)
    service = Service(store)
    found = service.user(service.project(PROJECT), cuid).profile.attributes
    store.close()
    assert found == {"user_number_accumulate": 1 + statuses.count(200)}


def test_a_server_of_several_workers_says_when_one_could_not_close_the_store(shared_url: str, tmp_path: Path) -> None:
    create_project(shared_url)
    server = ServerProcess(shared_url, tmp_path, workers="2", drain_seconds="3600")
    writer = server.writer_pid()
    try:
        os.kill(writer, signal.SIGSTOP)
        server.signal(signal.SIGTERM)
        # Another one, because two equal signals may arrive as one.
        server.signal(signal.SIGINT)
        assert server.wait() == 1
        assert "a worker exited without closing the store" in server.log
        assert "stopped; every acknowledged write" not in server.log
    finally:
        server.kill()
        with contextlib.suppress(ProcessLookupError):
            os.kill(writer, signal.SIGKILL)


def test_a_database_that_takes_no_writes_is_not_ready_and_comes_back(
    cluster: Cluster, database: str, tmp_path: Path
) -> None:
    (cuid,) = create_project(database, users=1)
    server = ServerProcess(database, tmp_path)
    body = {"cuid": cuid, "data": {"user_number_accumulate": 1}}
    name = database.rpartition("/")[2]
    with server.client() as http:
        assert http.put(ATTRIBUTE, json=body).status_code == 200
        cluster.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        cluster.execute("SELECT pg_reload_conf()")
        try:
            wait_until(lambda: http.put(ATTRIBUTE, json=body).status_code == 503)
            wait_until(lambda: http.get("/readyz").status_code == 503)
            # Operations without a write continue.
            assert http.get(f"/api/v1/projects/{PROJECT}/users/{cuid}").status_code == 200
        finally:
            cluster.execute("ALTER SYSTEM RESET default_transaction_read_only")
            cluster.execute("SELECT pg_reload_conf()")
        wait_until(lambda: http.put(ATTRIBUTE, json=body).status_code == 200)
        wait_until(lambda: http.get("/readyz").status_code == 200)
    assert server.stop() == 0
    assert f"{name}: the database takes no writes" in server.log


def test_that_connections_are_replaced_is_told_once_although_the_database_stays_read_only(
    cluster: Cluster, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(database)
    store.ping()
    cluster.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    cluster.execute("SELECT pg_reload_conf()")
    refused = 0
    try:
        # Three times as long as it takes until they are replaced again.
        end = time.monotonic() + 3 * RENEW_SECONDS
        while time.monotonic() < end or refused <= 5:
            try:
                Service(store).create_project("Tests", actor=TESTER)
            except StoreDown:
                refused += 1
            time.sleep(0.05)
    finally:
        cluster.execute("ALTER SYSTEM RESET default_transaction_read_only")
        cluster.execute("SELECT pg_reload_conf()")
        store.close()
    assert ["looking for one that does" in line for line in caplog.messages].count(True) == 1


def test_the_server_does_not_start_without_its_database(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"database .* does not exist"):
        ServerProcess(cluster.url("nobody_made_it"), tmp_path)


def test_workers_need_a_store_that_can_be_shared(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="workers need a postgresql store"):
        ServerProcess(f"sqlite:///{tmp_path / 'store.db'}", tmp_path, workers="2")


def test_passwords_are_not_logged(cluster: Cluster, database: str, tmp_path: Path) -> None:
    create_project(database)
    server = ServerProcess(database.replace("postgres@", "postgres:very-secret@"), tmp_path)
    wait_until(lambda: httpx.get(server.url + "/readyz").status_code == 200)
    assert server.stop() == 0
    assert "serving postgresql://postgres:********@" in server.log
    assert "very-secret" not in server.log
