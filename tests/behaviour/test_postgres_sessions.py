"""What a role, a database, the environment or a pooler says of a connection to PostgreSQL changes nothing that is stored."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path

import psycopg
import pytest

from support import pooler, postgres
from support.cli_runner import CliRunner
from support.postgres import Cluster
from support.server_process import ATTRIBUTE, PROJECT, ServerProcess, create_project
from support.store_harness import StoreHarness
from usertable.domain.errors import StoreFault
from usertable.store import open_store
from usertable.store.postgres.merge import connect_to_merge

TEXTS = ("无锡", "é", "南通", "杭州 🎉", "Ångström", "a\\b'c\"d", "NULL")
_numbers = count(1)


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return postgres.shared(postgres.NEWEST)


@pytest.fixture
def database(cluster: Cluster) -> Iterator[str]:
    url = cluster.create()
    yield url
    cluster.drop(url)


def as_role(cluster: Cluster, url: str, *settings: str) -> str:
    """Create a role with these settings. Return its URL of the database."""
    name = f"odd_{next(_numbers)}"
    cluster.execute(f"CREATE ROLE {name} SUPERUSER LOGIN")
    for setting in settings:
        cluster.execute(f"ALTER ROLE {name} SET {setting}")
    return url.replace("postgres@", f"{name}@")


@pytest.mark.parametrize("place", ["environment", "environment latin1", "role", "database", "options"])
def test_what_is_written_is_read_again_whatever_encoding_is_set(
    cluster: Cluster, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    cuids = create_project(database, users=3)
    url = as_role(cluster, database, "client_encoding = 'GBK'") if place == "role" else database
    if place.startswith("environment"):
        monkeypatch.setenv("PGCLIENTENCODING", "LATIN1" if place.endswith("latin1") else "GBK")
    elif place == "database":
        cluster.execute(f"ALTER DATABASE {database.rpartition('/')[2]} SET client_encoding = 'GBK'")
    elif place == "options":
        monkeypatch.setenv("PGOPTIONS", "-c client_encoding=GBK")
    server = ServerProcess(url, tmp_path)
    sent: dict[int, str] = {}
    with server.client() as http:
        for number in range(150):
            cuid = cuids[number % len(cuids)]
            sent[cuid] = f"{TEXTS[number % len(TEXTS)]} {number}"
            # Some with their outcome, which the database alone does not decide.
            headers = {"Prefer": "return=representation"} if number % 5 == 4 else {}
            body = {"cuid": cuid, "data": {"user_string_overwrite": sent[cuid], "user_list_append": [sent[cuid]]}}
            assert http.put(ATTRIBUTE, json=body, headers=headers).status_code == 200
            found = http.get(f"/api/v1/projects/{PROJECT}/users/{cuid}").json()["attributes"]
            assert found["user_string_overwrite"] == sent[cuid]
    assert server.stop() == 0
    assert "refused" not in server.log
    with psycopg.connect(database, client_encoding="UTF8") as db:
        kept = db.execute("SELECT cuid, attributes->>'user_string_overwrite' FROM usertable.users").fetchall()
    assert dict(kept) == sent
    exported = subprocess.run(
        [sys.executable, "-m", "usertable", "export", "--project", PROJECT, "--store", url, "--format", "ndjson"],
        capture_output=True,
        check=True,
    )
    assert all(text in exported.stdout.decode() for text in sent.values())


SETTINGS = (
    "DateStyle = 'SQL, DMY'",
    "IntervalStyle = 'iso_8601'",
    "TimeZone = 'Pacific/Apia'",
    "extra_float_digits = -15",
    "standard_conforming_strings = off",
    "search_path = nowhere",
    "bytea_output = 'escape'",
    "default_transaction_isolation = 'serializable'",
    "default_transaction_isolation = 'repeatable read'",
    "synchronous_commit = off",
    "statement_timeout = '10s'",
    "lock_timeout = '10s'",
    "idle_session_timeout = '1s'",
    "row_security = off",
    "lc_messages = 'C'",
    "lc_numeric = 'C'",
    "array_nulls = off",
    "transform_null_equals = on",
    "quote_all_identifiers = on",
    "plan_cache_mode = force_custom_plan",
    "debug_parallel_query = on",
    "session_replication_role = replica",
    "default_toast_compression = 'pglz'",
    "client_min_messages = debug5",
    "exit_on_error = on",
    "jit_above_cost = 0",
)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_of_the_role_changes_no_value(cluster: Cluster, database: str, setting: str) -> None:
    url = as_role(cluster, database, setting)
    with psycopg.connect(url) as db:
        name, _, value = (part.strip(" '") for part in setting.partition("="))
        assert db.execute(f"SHOW {name}".encode()).fetchall()[0][0].replace(" ", "") == value.replace(" ", "")
    store = open_store(url)
    harness = StoreHarness(store)
    project = harness.project()
    cuid = harness.user(project, "NULL")
    data = {
        "user_string_overwrite": TEXTS[5],
        "user_number_accumulate": "1234567890123456789.000000000000000001",
        "user_datetime_overwrite": "2023-12-12 00:56:23",
        "user_list_append": list(TEXTS),
        "user_bool_once": 1,
    }
    # The second one is merged by the database.
    harness.write(harness.prepare(project, cuid, data))
    second = harness.prepare(project, cuid, data, "key\\1")
    second.details = False
    harness.write(second)
    assert {name: str(value) for name, value in harness.attributes(project, cuid).items()} == {
        "user_string_overwrite": TEXTS[5],
        "user_number_accumulate": "2469135780246913578.000000000000000002",
        "user_datetime_overwrite": "1702313783000",
        "user_list_append": str(list(TEXTS)),
        "user_bool_once": "True",
    }
    with store.snapshot(project.id) as snapshot:
        assert snapshot.count() == 1
    assert harness.service.find_user(project, "phone", "NULL").cuid == cuid
    store.close()


@pytest.mark.parametrize("way", ["pool", "merging"])
def test_every_connection_is_one_of_ours(cluster: Cluster, database: str, way: str) -> None:
    odd = ("synchronous_commit = off", "default_transaction_isolation = 'serializable'", "search_path = nowhere, public")
    url = as_role(cluster, database, *odd, "client_encoding = 'LATIN1'")
    store = open_store(url)
    names = ("client_encoding", "synchronous_commit", "transaction_isolation", "search_path")
    query = "SELECT " + ", ".join(f"current_setting('{name}')" for name in names)
    if way == "pool":
        pool = store.connections.pool  # type: ignore[attr-defined]
        with pool.connection() as db:
            found = db.execute(query).fetchone()
    else:
        merging = connect_to_merge(url)
        assert merging is not None
        with merging:
            found = merging.execute(query.encode()).fetchone()
    store.close()
    assert found == ("UTF8", "on", "read committed", "pg_catalog, pg_temp")


def test_a_commit_that_waits_for_standbys_keeps_waiting_for_them(cluster: Cluster, database: str) -> None:
    merging = connect_to_merge(open_closed(as_role(cluster, database, "synchronous_commit = remote_apply")))
    assert merging is not None
    with merging:
        assert merging.execute("SHOW synchronous_commit").fetchone() == ("remote_apply",)


def open_closed(url: str) -> str:
    """Yield the URL of a migrated store."""
    open_store(url).close()
    return url


def test_a_role_that_is_read_only_is_refused_by_the_setting_s_name(cluster: Cluster, database: str) -> None:
    said = CliRunner(as_role(cluster, database, "default_transaction_read_only = on"), {}).refused("project", "list")
    assert "is read-only, by its setting default_transaction_read_only; name the primary" in said


# PgBouncer itself where it is installed.
POOLERS = ["imitation", *(["pgbouncer"] if pooler.PGBOUNCER else [])]


@pytest.mark.parametrize("kind", POOLERS)
def test_a_pooler_that_pools_by_transaction_is_refused(database: str, tmp_path: Path, kind: str) -> None:
    between: AbstractContextManager[str] = (
        pooler.by_transaction(database) if kind == "imitation" else pooler.pgbouncer(database, "transaction", tmp_path)
    )
    with between as url:
        for command in (("serve", "--port", "0"), ("project", "list"), ("migrate",)):
            said = CliRunner(url, {}).refused(*command)
            assert "is a pooler in transaction mode" in said
            assert "set pool_mode = session in it, or name the database itself" in said
        with pytest.raises(StoreFault, match="a pooler in transaction mode"):
            open_store(url)


if pooler.PGBOUNCER:

    def test_a_pooler_that_pools_by_session_is_taken(database: str, tmp_path: Path) -> None:
        with pooler.pgbouncer(database, "session", tmp_path) as url:
            cuids = create_project(url, users=2)
            server = ServerProcess(url, tmp_path)
            with server.client() as http:
                for number in range(40):
                    body = {
                        "cuid": cuids[number % 2],
                        "data": {"user_number_accumulate": 1, "user_string_overwrite": "无锡"},
                    }
                    assert http.put(ATTRIBUTE, json=body).status_code == 200
            assert server.stop() == 0
        with psycopg.connect(database) as db:
            assert db.execute(
                "SELECT sum((attributes->>'user_number_accumulate')::int) FROM usertable.users"
            ).fetchone() == (40,)


@pytest.mark.parametrize("name", ["idle_in_transaction_session_timeout", "transaction_timeout"])
def test_an_export_that_the_database_cuts_short_says_by_which_setting(cluster: Cluster, database: str, name: str) -> None:
    create_project(database)
    with psycopg.connect(database) as db:
        # More than an export reads ahead.
        db.execute(
            "INSERT INTO usertable.users (project, cuid, version, created_at, updated_at, attributes, changed_at)"
            " SELECT 1, c, 1, 0, 0, jsonb_build_object('user_string_once', repeat('x', 4000)), '{}'"
            " FROM generate_series(1, 20000) c"
        )
    url = as_role(cluster, database, f"{name} = '500ms'")
    role = url.partition("//")[2].partition("@")[0]
    command = [sys.executable, "-m", "usertable", "export", "--project", PROJECT, "--store", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as export:
        assert export.stdout is not None
        # It has begun, and nobody takes more of it until the database has had enough.
        os.read(export.stdout.fileno(), 1)
        with psycopg.connect(database, autocommit=True) as db:
            query = "SELECT 1 FROM pg_stat_activity WHERE usename = %s AND xact_start IS NOT NULL"
            while db.execute(query, (role,)).fetchone():
                time.sleep(0.05)
        _, said = export.communicate()
    assert export.returncode == 1
    (line,) = said.decode().splitlines()
    assert f"the database ends what takes longer than {name} (500ms): set that to 0 for this role" in line


@pytest.mark.parametrize("parameters", ["", "?application_name=our%20users"])
def test_a_store_in_use_is_found_so_whatever_its_connections_are_called(database: str, parameters: str) -> None:
    store = open_store(database + parameters)
    store.ping()
    with pytest.raises(StoreFault, match="is in use by 1 connections of usertable"):
        open_store(database + parameters, alone=True)
    store.close()
    open_store(database + parameters, alone=True).close()
