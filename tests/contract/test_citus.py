"""A user is created on several machines of a cluster, which do not commit at the same moment.

These tests use a transaction that stays uncommitted: its writes are not visible to others, and it has the lock that such a
transaction has.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest

from support.actors import TESTER
from support.engines import ENGINES
from support.store_harness import StoreHarness
from usertable.store import open_store
from usertable.store.postgres.locks import lock_users
from usertable.store.records import Written

T = TypeVar("T")
NEW = 77
VALUE = "19912345678"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with ENGINES["citus"](tmp_path) as url:
        yield url


@pytest.fixture
def harness(url: str) -> Iterator[StoreHarness]:
    with closing(open_store(url)) as store:
        yield StoreHarness(store)


def answer_during_commit(url: str, project: int, call: Callable[[], T]) -> T:
    """Return the result of `call`, which begins before the user NEW with the phone VALUE is committed, and waits for
    that."""
    with ThreadPoolExecutor(1) as thread, psycopg.connect(url) as db, psycopg.connect(url, autocommit=True) as watch:
        lock_users(db, project)
        user: dict[str, Any] = {"project": project, "cuid": NEW, "value": VALUE}
        db.execute("INSERT INTO usertable.users VALUES (%(project)s, %(cuid)s, 1, 0, 0, '{}')", user)
        for table in ("identifier_value", "user_identifier"):
            db.execute(
                f"INSERT INTO usertable.{table} (project, cuid, identifier, value)"
                " VALUES (%(project)s, %(cuid)s, 'phone', %(value)s)",
                user,
            )
        answer = thread.submit(call)
        deadline = time.monotonic() + 60
        while not watch.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").fetchone():
            assert not answer.done(), answer.result()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        db.commit()
        return answer.result()


@pytest.mark.parametrize("details", [False, True])
def test_a_write_to_a_user_who_is_being_committed_waits_for_it(harness: StoreHarness, url: str, details: bool) -> None:
    project = harness.project()
    known = harness.user(project)
    writes = [
        replace(harness.prepare(project, cuid, {"user_number_accumulate": 1}), details=details) for cuid in (known, NEW)
    ]
    results = answer_during_commit(url, project.number, lambda: harness.write(*writes))
    assert [type(result) for result in results] == [Written, Written]
    assert [harness.attributes(project, cuid) for cuid in (known, NEW)] == [{"user_number_accumulate": 1}] * 2


def test_a_user_who_is_being_committed_is_not_made_a_second_time(harness: StoreHarness, url: str) -> None:
    project = harness.project()
    harness.user(project)
    found = answer_during_commit(
        url, project.number, lambda: harness.service.register(project, "phone", [VALUE], actor=TESTER)
    )
    assert found == [NEW]
