"""What PostgreSQL merges while a project is edited is recorded as the edit expects, or not merged."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from contract.test_history import past, turn_history
from support.engines import ENGINES
from support.store_harness import StoreHarness
from support.waiting import wait_until
from usertable.store import open_store
from usertable.store.postgres.transaction import PostgresTransaction
from usertable.store.records import Result, SchemaStale, Written

NAME = "user_string_overwrite"


@pytest.mark.parametrize("engine", [name for name in ENGINES if name.startswith(("postgresql", "citus"))])
def test_a_write_merged_while_an_attributes_history_is_turned_on_is_recorded_with_it_or_has_a_lower_number(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ENGINES[engine](tmp_path) as url, closing(open_store(url)) as store, psycopg.connect(url, autocommit=True) as db:
        harness = StoreHarness(store)
        project = harness.project()
        cuid = harness.user(project)
        harness.write(harness.prepare(project, cuid, {NAME: "first", "user_number_overwrite": 1}))
        off = turn_history(harness, project, NAME, False)
        harness.now += 1000
        written = harness.now
        late = replace(harness.prepare(off, cuid, {NAME: "second", "user_number_overwrite": 2}), details=False)
        results: list[Result] = []
        merging = threading.Thread(target=lambda: results.extend(harness.write(late)))
        replace_project = PostgresTransaction.replace_project

        def is_held_or_done() -> bool:
            waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()"
            return not merging.is_alive() or db.execute(waiting).fetchone() is not None

        def replaced_late(transaction: PostgresTransaction, *arguments: Any) -> None:
            # The number from which on the attribute is recorded is drawn, but nobody sees it yet.
            merging.start()
            wait_until(is_held_or_done)
            replace_project(transaction, *arguments)

        # By a host whose clock is behind: its moment alone does not tell what was written before.
        behind = harness.now = written - 500
        with monkeypatch.context() as patched:
            patched.setattr(PostgresTransaction, "replace_project", replaced_late)
            on = turn_history(harness, off, NAME, True)
        merging.join()
        if [type(result) for result in results] == [SchemaStale]:
            # As a server does.
            again = replace(late, schema_version=on.version, patch=harness.prepare(on, cuid, {NAME: "second"}).patch)
            results = harness.write(again)
        assert [type(result) for result in results] == [Written]
        found = past(harness, on, cuid, behind + 100)
        assert found is not None
        assert found.attributes.get(NAME) == "first" or found.not_kept == [NAME]
