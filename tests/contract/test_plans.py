"""PostgreSQL reads no more rows than a call asks for, whatever its statistics say about the table's size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from contract.test_history import rows
from support import postgres
from support.actors import TESTER
from support.engines import database
from support.server_process import ATTRIBUTE, ServerProcess, create_project
from support.store_harness import StoreHarness
from support.waiting import wait_until
from usertable.domain.arrival import Arrival, Arrivals
from usertable.domain.condition import parse_condition
from usertable.store import open_store
from usertable.store.records import Written
from usertable.store.tables import USERS

MANY = 6000
LARGE = ("identifier_value", "user_identifier", "erased", "receipt")
"""Other tables with a row per user or write."""
BATCH = 20


@pytest.fixture(params=[postgres.NEWEST, postgres.OLDEST])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with database(request.param) as url:
        yield url


@contextmanager
def looking(url: str, *tables: str, alone: bool = True) -> Iterator[dict[str, int]]:
    """Count the rows of the user table and of others read during the block, which closes all connections.

    Args:
        alone: whether all earlier connections are closed. What they read has to be in the statistics before the block.
    """
    with psycopg.connect(url, autocommit=True) as db:

        def is_alone() -> bool:
            query = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'usertable' AND datname = current_database()"
            return db.execute(query).fetchone() is None

        # A connection adds to the statistics when it ends, which is after its client has closed it.
        if alone:
            wait_until(is_alone)
        db.execute("SELECT pg_stat_reset()")
        found: dict[str, int] = {}
        yield found
        wait_until(is_alone)
        query = "SELECT sum(seq_tup_read + idx_tup_fetch)::bigint FROM pg_stat_user_tables WHERE relname = ANY(%s)"
        found["rows"] = db.execute(query, (["users", *tables],)).fetchall()[0][0]


def load(url: str, project: int, first: int) -> None:
    """Create many users, without updating the database's statistics."""
    store = open_store(url)
    store.load(
        project, USERS, [(cuid, 1, 1, 1, {"user_number_overwrite": 1}, {}, 0, "") for cuid in range(first, first + MANY)]
    )
    store.close()


@pytest.mark.parametrize("first_users", [2, 60])
def test_plans_made_for_few_users_are_right_for_many(url: str, first_users: int) -> None:
    store = open_store(url)
    harness = StoreHarness(store)
    project = harness.project()
    cuids = [harness.user(project, f"user {number}") for number in range(first_users)]
    if first_users > 50:
        # From here on PostgreSQL would do it itself at some point.
        with psycopg.connect(url, autocommit=True) as db:
            db.execute("VACUUM ANALYZE usertable.users")
    has_one = [parse_condition("user_number_overwrite:ge:1", project.schema, project.zone)]

    def use(some: list[int], value: int) -> None:
        data = {"user_number_overwrite": value, "user_number_accumulate": 1}
        harness.write(*(harness.prepare(project, cuid, data) for cuid in some))
        harness.write(*(harness.prepare(project, cuid, data, f"{value} {cuid}") for cuid in some))
        assert len(store.read_many(project.number, some)) == len(some)
        assert len(store.select(project.number, has_one, None, 2, BATCH).users) == 2
        assert store.count_matching(project.number, has_one, some[0], 1, 10).matched == 1

    # Often enough for the plans to be cached.
    for value in range(1, 16):
        use(cuids[:BATCH], value)
    with looking(url, alone=False) as looked:
        first = cuids[-1] + 1
        load(url, project.number, first)
        use([*range(first, first + BATCH)], 16)
        store.close()
    # A single statement that scans the table reads more.
    assert looked["rows"] < MANY


def test_a_table_never_analysed_is_not_gone_through(url: str) -> None:
    store = open_store(url)
    harness = StoreHarness(store)
    project = harness.project()
    cuid = harness.user(project)
    harness.write(harness.prepare(project, cuid, {"user_number_overwrite": 1}))
    store.close()
    load(url, project.number, cuid + 1)
    with looking(url) as looked:
        store = open_store(url)
        harness = StoreHarness(store)
        for value in range(2, 5):
            data = {"user_number_overwrite": value}
            harness.write(*(harness.prepare(project, cuid + number, data) for number in range(BATCH)))
        store.close()
    assert looked["rows"] < MANY


def test_no_table_is_gone_through_that_was_analysed_when_it_had_one_row(url: str) -> None:
    store = open_store(url)
    harness = StoreHarness(store)
    project = harness.project()
    cuid = harness.user(project)
    harness.write(harness.prepare(project, cuid, {"user_number_overwrite": 1}, "a key"))
    store.close()
    first, last = cuid + 1, cuid + MANY
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("INSERT INTO usertable.erased VALUES (%s, 1)", (project.number,))
        db.execute("ANALYZE")
        for query in (
            "INSERT INTO usertable.identifier_value (project, identifier, value, cuid)"
            " SELECT %(project)s, 'phone', n::text, n FROM generate_series(%(first)s, %(last)s) n",
            "INSERT INTO usertable.user_identifier (project, identifier, value, cuid)"
            " SELECT %(project)s, 'phone', n::text, n FROM generate_series(%(first)s, %(last)s) n",
            "INSERT INTO usertable.erased SELECT %(project)s, n FROM generate_series(2, %(last)s - %(first)s) n",
            "INSERT INTO usertable.receipt (project, key, cuid, fingerprint, written, personal, at)"
            " SELECT project, n::text, cuid, fingerprint, written, personal, at"
            " FROM usertable.receipt, generate_series(%(first)s, %(last)s) n",
        ):
            db.execute(query, {"project": project.number, "first": first, "last": last})
    load(url, project.number, first)
    some = range(first, first + BATCH)
    with looking(url, *LARGE) as looked:
        store = open_store(url)
        harness = StoreHarness(store)
        for value in range(2, 5):
            data = {"user_number_overwrite": value}
            for key in ("", "key"):
                results = harness.write(*(harness.prepare(project, cuid, data, key and f"{value} {cuid}") for cuid in some))
                assert all(isinstance(result, Written) for result in results)
        assert [user.identifiers for user in store.read_many(project.number, some)] == [{"phone": [str(n)]} for n in some]
        assert store.resolve_identifiers(project.number, "phone", list(map(str, some))) == {str(n): n for n in some}
        rows(harness, project, *((cuid, (), "{}") for cuid in some))
        store.close()
    assert looked["rows"] < MANY


def test_erasing_a_user_does_not_go_through_tables_that_were_analysed_when_they_had_one_row(url: str) -> None:
    store = open_store(url)
    harness = StoreHarness(store)
    project = harness.project()
    cuid = harness.user(project)
    harness.write(harness.prepare(project, cuid, {"user_number_overwrite": 1}, "a key", whole=True))
    sample = Arrival(harness.now, "attribute", "request", cuid, entries=())
    store.keep_arrivals([Arrivals(project.number, harness.now, 1, samples=[sample])])
    store.close()
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(
            "INSERT INTO usertable.keyframe (project, number, cuid, version, at, attributes) VALUES (%s, 1, %s, 1, 1, '{}')",
            (project.number, cuid),
        )
        db.execute("ANALYZE")
        for query in (
            "INSERT INTO usertable.receipt (project, key, cuid, fingerprint, written, personal, at)"
            " SELECT project, n::text, n, fingerprint, written, personal, at"
            " FROM usertable.receipt, generate_series(%(first)s, %(last)s) n",
            "INSERT INTO usertable.arrival (project, refused, at, cuid, document)"
            " SELECT project, refused, at, n, document FROM usertable.arrival, generate_series(%(first)s, %(last)s) n",
            "INSERT INTO usertable.keyframe (project, number, cuid, version, at, attributes)"
            " SELECT project, n, n, version, at, attributes FROM usertable.keyframe, generate_series(%(first)s, %(last)s) n",
        ):
            db.execute(query, {"first": cuid + 1, "last": cuid + MANY})
    load(url, project.number, cuid + 1)
    with looking(url, "receipt", "arrival", "keyframe") as looked:
        store = open_store(url)
        harness = StoreHarness(store)
        for each in range(cuid, cuid + BATCH):
            harness.service.erase_user(project, each, actor=TESTER)
        store.close()
    assert looked["rows"] < MANY
    with psycopg.connect(url) as db:
        for table in ("receipt", "arrival", "keyframe"):
            left = db.execute(f"SELECT count(*), min(cuid) FROM usertable.{table}").fetchone()
            assert left == (MANY + 1 - BATCH, cuid + BATCH), table


def test_a_server_keeps_no_plan_for_few_users(url: str, tmp_path: Path) -> None:
    cuids = create_project(url, users=2)
    with looking(url) as looked:
        server = ServerProcess(url, tmp_path)
        with server.client() as client:

            def put(cuid: int, value: int) -> None:
                body = {"cuid": cuid, "data": {"user_number_overwrite": value, "user_number_accumulate": 1}}
                for headers in ({}, {"Idempotency-Key": f"{cuid}-{value}"}):
                    assert client.put(ATTRIBUTE, json=body, headers=headers).json()["code"] == 0

            for value in range(1, 16):
                for cuid in cuids:
                    put(cuid, value)
            first = cuids[-1] + 1
            load(url, 1, first)
            for cuid in range(first, first + BATCH):
                put(cuid, 16)
        assert server.stop() == 0
    assert looked["rows"] < MANY
