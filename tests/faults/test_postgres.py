"""PostgreSQL fails, or several servers share it: callers get an answer or a clear 503, and the sums are exact."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg
import pytest

from support.commands import edit_project
from support.load import check_sums, load, wait_for_more
from support.postgres import NEWEST, Cluster
from support.server_process import ATTRIBUTE, PROJECT, ServerProcess, create_project
from usertable.app.service import Service
from usertable.domain.errors import StoreDown
from usertable.domain.schema import Attribute, Project, Rule
from usertable.domain.values import DataType
from usertable.store import open_store
from usertable.store.postgres.pool import RENEW_SECONDS


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A server that tests may stop and start; it keeps what it said it keeps."""
    cluster = Cluster(NEWEST, durable=True, settings=("deadlock_timeout = 200ms",))
    cluster.initialise()
    cluster.start()
    yield cluster
    cluster.close()


@pytest.fixture
def database(cluster: Cluster) -> Iterator[str]:
    with cluster.migrated() as url:
        yield url


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


def test_a_retry_is_replayed_whichever_worker_gets_it(shared_url: str, tmp_path: Path) -> None:
    (cuid,) = create_project(shared_url, users=1)
    server = ServerProcess(shared_url, tmp_path, workers="3")
    body = {"cuid": cuid, "data": {"user_number_accumulate": 7}}
    replayed = 0
    for _ in range(12):
        # A connection of its own each, so that the system chooses a worker anew.
        with server.client() as http:
            answer = http.put(ATTRIBUTE, json=body, headers={"Idempotency-Key": "k"})
            assert answer.content == b'{"code":0,"msg":"ok"}'
            replayed += answer.headers.get("idempotency-replayed") == "true"
    assert replayed == 11
    assert server.stop() == 0
    store = open_store(shared_url)
    user = Service(store).user(Service(store).project(PROJECT), cuid)
    store.close()
    assert user.profile.attributes == {"user_number_accumulate": 7}


def test_a_schema_change_reaches_every_worker_within_a_second(shared_url: str, tmp_path: Path) -> None:
    (cuid,) = create_project(shared_url, users=1)
    server = ServerProcess(shared_url, tmp_path, workers="3")
    body = {"cuid": cuid, "data": {"brand_new": "a"}}

    def codes() -> set[int]:
        found = set()
        for _ in range(12):
            with server.client() as http:
                found.add(http.put(ATTRIBUTE, json=body).json()["code"])
        return found

    assert codes() == {40010}
    store = open_store(shared_url)
    Service(store).declare_attribute(PROJECT, Attribute("brand_new", DataType.STRING, Rule.OVERWRITE), actor="test")
    store.close()
    time.sleep(1)
    assert codes() == {0}
    assert server.stop() == 0


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
    deadline = time.monotonic() + 10
    while put(0) != 200:
        assert time.monotonic() < deadline, "no window begins after another"
    assert server.stop() == 0


def test_whoever_signs_in_to_the_console_is_known_to_every_worker(shared_url: str, tmp_path: Path) -> None:
    server = ServerProcess(shared_url, tmp_path, workers="3")

    def ask(path: str, cookies: httpx.Cookies, **fields: str) -> httpx.Response:
        # A connection of its own each time: the system chooses the worker.
        with httpx.Client(base_url=server.url, cookies=cookies, timeout=30) as http:
            return http.post(path, data=fields) if fields else http.get(path)

    def form_token(page: httpx.Response) -> str:
        token = re.search(r'name="form_token" value="(\w+)"', page.text)
        assert token is not None
        return token[1]

    link = server.log.partition("sign-in?link=")[2].split()[0]
    page, other = (ask(f"/console/sign-in?link={link}", httpx.Cookies()) for _ in range(2))
    entered = ask("/console/sign-in/link", page.cookies, form_token=form_token(page), link=link)
    assert entered.headers["location"] == "/console/projects"
    pages = [ask("/console/projects", entered.cookies) for _ in range(24)]
    assert [p.status_code for p in pages] == [200] * 24
    # A second click on the same form leads where the first one led; the link lets nobody else in.
    again = [ask("/console/sign-in/link", page.cookies, form_token=form_token(page), link=link) for _ in range(12)]
    assert {(a.status_code, a.headers["location"]) for a in again} == {(303, "/console/projects")}
    refused = [ask("/console/sign-in/link", other.cookies, form_token=form_token(other), link=link) for _ in range(12)]
    assert [r.status_code for r in refused] == [403] * 12
    assert ask("/console/sign-out", entered.cookies, form_token=form_token(pages[0])).status_code == 303
    assert [ask("/console/projects", entered.cookies).status_code for _ in range(24)] == [303] * 24
    assert server.stop() == 0


def test_a_killed_worker_is_replaced(shared_url: str, tmp_path: Path) -> None:
    cuids = create_project(shared_url, users=3)
    server = ServerProcess(shared_url, tmp_path, workers="2")
    with load([server], cuids, 6) as clients:
        for killed in range(1, 4):
            wait_for_more(clients, 40)
            victim = random.choice(server.children())
            os.kill(victim, signal.SIGKILL)
            # Not until it is replaced: before that it is still among the children, and killing it again does nothing.
            deadline = time.monotonic() + 30
            while server.log.count("another takes its place") < killed:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        wait_for_more(clients, 40)
        assert len(server.children()) == 2
        assert victim not in server.children()
    assert server.stop() == 0
    check_sums(shared_url, cuids, clients, 160)
    assert server.log.count("another takes its place") == 3


def test_workers_end_with_their_parent(database: str, tmp_path: Path) -> None:
    create_project(database)
    server = ServerProcess(database, tmp_path, workers="2")
    workers = server.children()
    server.kill()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


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
    # What came in before the crash is gone, and nobody who reads on from its numbers misses what came after.
    assert min(arrival_numbers(database)) > noted


def arrival_numbers(url: str) -> list[int]:
    """The numbers of what came in, as far as it is stored."""
    store = open_store(url)
    project = Service(store).project(PROJECT)
    numbers = [number for number, _ in store.arrivals(project.number, 0, 1000)]
    store.close()
    return numbers or [0]


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
        deadline = time.monotonic() + 15
        while http.put(ATTRIBUTE, json=body).status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert server.stop() == 0


def test_connections_cut_in_mid_transaction(database: str, tmp_path: Path) -> None:
    cuids = create_project(database, users=3)
    server = ServerProcess(database, tmp_path)
    cut = 0
    with load([server], cuids, 8) as clients, psycopg.connect(database, autocommit=True) as db:
        end = time.monotonic() + 4
        while time.monotonic() < end:
            time.sleep(0.03)
            cut += db.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE application_name = 'usertable' AND xact_start IS NOT NULL"
            ).fetchall()[0][0]
        time.sleep(0.5)
    assert cut > 5
    assert server.stop() == 0
    check_sums(database, cuids, clients, 20)


@pytest.mark.parametrize("how", ["terminate", "cancel"])
def test_the_machines_of_a_cluster_cut_in_mid_transaction(shared_url: str, tmp_path: Path, how: str) -> None:
    """On Citus the coordinator may not hear whether another machine committed. Elsewhere there is but one machine."""
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
        while time.monotonic() < end:
            time.sleep(0.05)
            cut += sum(count for (count,) in db.execute((everywhere if is_citus else statement).encode()))
        if is_citus:
            # Without this, Citus looks only once a minute for what was prepared and never heard of again.
            db.execute("SELECT recover_prepared_transactions()")
        wait_for_more(clients, 20)
    assert cut > 5
    assert server.stop() == 0
    check_sums(shared_url, cuids, clients, 20)
    assert "Traceback" not in server.log


def test_a_deadlock_is_begun_again(database: str, tmp_path: Path) -> None:
    """Another program locks users in the other order; the database ends one of the two transactions."""
    cuids = create_project(database, users=2)
    server = ServerProcess(database, tmp_path)
    ours = 0
    lock = "SELECT 1 FROM usertable.users WHERE cuid = %s FOR UPDATE"
    with load([server], cuids, 8) as clients, psycopg.connect(database) as db:
        # It looks for a deadlock later than the server's transaction, so that mostly that one is ended.
        db.execute("SET deadlock_timeout = '2s'")
        db.commit()
        ended, deadline = 0, time.monotonic() + 60
        # On a busy machine the server may not be under way when the lock is there.
        while ended <= ours and time.monotonic() < deadline:
            try:
                db.execute(lock, (cuids[1],))
                time.sleep(0.1)
                db.execute(lock, (cuids[0],))
            except psycopg.errors.DeadlockDetected:
                # A machine so busy that the server's transaction had looked before there was one.
                ours += 1
            db.rollback()
            time.sleep(0.1)
            ended = db.execute(
                "SELECT pg_stat_force_next_flush(), deadlocks FROM pg_stat_database WHERE datname = current_database()"
            ).fetchall()[0][1]
            db.rollback()
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
        edits = [pool.submit(edit_project, store, PROJECT, slow, "test", 0) for _ in range(2)]
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
        deadline = time.monotonic() + 10
        while sum(a.done() for a in answers) < 20:
            assert time.monotonic() < deadline
            time.sleep(0.05)
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


def test_fail_over_to_a_promoted_standby(tmp_path: Path) -> None:
    primary = Cluster(NEWEST, durable=True)
    primary.initialise()
    primary.start()
    standby = Cluster(NEWEST, durable=True)
    standby.follow(primary)
    standby.start()
    try:
        primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.execute("SELECT pg_reload_conf()")
        database = primary.create()
        name = database.rpartition("/")[2]
        url = re.sub(
            r"@.*", f"@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/{name}?target_session_attrs=read-write", database
        )
        cuids = create_project(url, users=3)
        server = ServerProcess(url, tmp_path)
        with load([server], cuids, 8) as clients:
            time.sleep(1.5)
            primary.stop("immediate")
            time.sleep(0.5)
            standby.promote()
            standby.execute("ALTER SYSTEM RESET synchronous_standby_names")
            standby.execute("SELECT pg_reload_conf()")
            wait_for_more(clients, 50)
        assert server.stop() == 0
        check_sums(url, cuids, clients, 50)
        assert "background work failed" not in server.log
        assert arrival_numbers(url) != [0]
    finally:
        standby.close()
        primary.close()


def test_a_server_of_several_workers_says_when_one_could_not_close_the_store(shared_url: str, tmp_path: Path) -> None:
    create_project(shared_url)
    server = ServerProcess(shared_url, tmp_path, workers="2", drain_seconds="3600")
    writer = server.writer_pid()
    try:
        os.kill(writer, signal.SIGSTOP)
        server.signal(signal.SIGTERM)
        time.sleep(1)
        server.signal(signal.SIGTERM)
        assert server.wait() == 1
        assert "a worker ended without closing the store" in server.log
        assert "stopped; every write" not in server.log
    finally:
        server.kill()
        with contextlib.suppress(ProcessLookupError):
            os.kill(writer, signal.SIGKILL)


def test_a_demoted_primary_that_keeps_its_connections_is_left_for_the_new_one(tmp_path: Path) -> None:
    primary = Cluster(NEWEST, durable=True)
    primary.initialise()
    primary.start()
    standby = Cluster(NEWEST, durable=True)
    standby.follow(primary)
    standby.start()
    try:
        primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.execute("SELECT pg_reload_conf()")
        name = primary.create().rpartition("/")[2]
        hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
        url = f"postgresql://postgres@{hosts}/{name}?target_session_attrs=read-write"
        cuids = create_project(url, users=3)
        server = ServerProcess(url, tmp_path)
        with load([server], cuids, 6) as clients:
            wait_for_more(clients, 40)
            primary.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            primary.execute("SELECT pg_reload_conf()")
            time.sleep(0.5)
            standby.promote()
            standby.execute("ALTER SYSTEM RESET synchronous_standby_names")
            standby.execute("SELECT pg_reload_conf()")
            wait_for_more(clients, 60)
        with server.client() as http:
            assert http.get("/readyz").status_code == 200
            # Reads come from the new one, too.
            deadline = time.monotonic() + 10
            while connections(primary.url(name)):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert http.get(f"/api/v1/projects/{PROJECT}/users/{cuids[0]}").status_code == 200
        assert server.stop() == 0
        check_sums(url, cuids, clients, 100)
        assert "the database takes no writes; looking for one that does" in server.log
    finally:
        standby.close()
        primary.close()


def connections(url: str) -> int:
    """How many connections of usertable a database has."""
    with psycopg.connect(url) as db:
        found: int = db.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'usertable' AND datname = current_database()"
        ).fetchall()[0][0]
    return found


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
            # What needs no writing goes on.
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
        while time.monotonic() < end:
            try:
                Service(store).create_project("Tests", actor="test")
            except StoreDown:
                refused += 1
            time.sleep(0.05)
    finally:
        cluster.execute("ALTER SYSTEM RESET default_transaction_read_only")
        cluster.execute("SELECT pg_reload_conf()")
        store.close()
    assert refused > 5
    assert ["looking for one that does" in line for line in caplog.messages].count(True) == 1


def wait_until(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_server_does_not_start_without_its_database(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"database .* does not exist"):
        ServerProcess(cluster.url("nobody_made_it"), tmp_path)


def test_workers_need_a_store_that_can_be_shared(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="workers need a postgresql store"):
        ServerProcess(f"sqlite:///{tmp_path / 'store.db'}", tmp_path, workers="2")


def test_passwords_are_not_logged(cluster: Cluster, database: str, tmp_path: Path) -> None:
    create_project(database)
    server = ServerProcess(database.replace("postgres@", "postgres:very-secret@"), tmp_path)
    assert httpx.get(server.url + "/readyz").status_code == 200
    assert server.stop() == 0
    assert "serving postgresql://postgres:********@" in server.log
    assert "very-secret" not in server.log
