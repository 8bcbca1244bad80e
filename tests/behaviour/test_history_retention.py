"""A running server removes and packs history, and a clock that jumps does not make it remove any."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.actors import TESTER
from support.manual_clock import ManualClock
from support.prometheus import samples
from support.server_process import ATTRIBUTE, PROJECT, SECRET, create_project
from support.waiting import wait_until
from usertable.app import retention
from usertable.app.clock import SYSTEM_CLOCK, now_ms
from usertable.app.service import Service
from usertable.config import Config
from usertable.http import age, app
from usertable.http.server import in_background
from usertable.store import history, open_store

TOKEN = "a-token-for-metrics-only"
DAY = 86_400_000


def test_a_server_removes_history_that_is_turned_off_but_none_because_its_clock_jumped(
    kept_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "RETENTION_SECONDS", 0.02)
    monkeypatch.setattr(age, "SETTLING_MS", 0)
    (cuid,) = create_project(kept_url, users=1)
    store = open_store(kept_url)
    ahead, runs = 0, 0
    pruned = store.prune_history

    def counted(*arguments: Any) -> Any:
        nonlocal runs
        runs += 1
        return pruned(*arguments)

    monkeypatch.setattr(store, "prune_history", counted)
    config = Config(store=kept_url, port=0, metrics_token=TOKEN)
    try:
        with (
            in_background(config, store, replace(SYSTEM_CLOCK, now_ms=lambda: now_ms() + ahead)) as url,
            httpx.Client(base_url=url, auth=(PROJECT, SECRET), timeout=60) as http,
        ):

            def metrics() -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
                return samples(http.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, auth=None).text)

            for _ in range(5):
                body = {"cuid": cuid, "data": {"user_number_accumulate": 1}}
                assert http.put(ATTRIBUTE, json=body).json()["code"] == 0
            blocks = store.history_figures(1).blocks
            assert blocks >= 5
            for jump in (400 * DAY, -400 * DAY, 0):
                ahead, begun = jump, runs
                wait_until(lambda begun=begun: runs > begun + 3)  # type: ignore[misc]
            assert store.history_figures(1).blocks == blocks
            none = ("usertable_history_pruned_changes_total", frozenset({("reason", "days")}))
            assert metrics()[none] == 0
            Service(store).edit_history(PROJECT, days=0, actor=TESTER)
            wait_until(lambda: store.history_figures(1).blocks == 1)
            removed = ("usertable_history_pruned_changes_total", frozenset({("reason", "off")}))
            wait_until(lambda: metrics()[removed] >= 4)
            wait_until(lambda: metrics()["usertable_history_changes", frozenset()] == 1)
    finally:
        store.close()


def test_packing_that_a_run_does_not_finish_is_resumed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PACKING_SECONDS", 0.0)
    monkeypatch.setattr(history, "PACKED_CHANGES", 2)
    store_url = f"sqlite:///{tmp_path / 'store.db'}"
    (cuid,) = create_project(store_url, users=1)
    store, manual = open_store(store_url), ManualClock(now_ms())
    try:
        with (
            manual.serving(Config(store=store_url, port=0), store) as url,
            httpx.Client(base_url=url, auth=(PROJECT, SECRET), timeout=60) as http,
        ):
            for _ in range(8):
                body = {"cuid": cuid, "data": {"user_number_accumulate": 1}}
                assert http.put(ATTRIBUTE, json=body).json()["code"] == 0
            begun = manual.elapsed
            manual.advance(3660)
            wait_until(lambda: sum(block.is_packed for block in store.history_blocks(1, None, 100)) == 4)
            assert manual.elapsed < begun + 3660 + app.RETENTION_SECONDS
    finally:
        store.close()
