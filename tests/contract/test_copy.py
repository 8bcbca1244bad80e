"""Copying a store: everything arrives, an interrupted copy resumes, and differences are reported."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import chain
from pathlib import Path

import pytest

from support.actors import TESTER
from support.commands import erase_user, import_batch
from support.engines import ENGINES
from support.store_harness import StoreHarness
from usertable.domain.arrival import Arrivals
from usertable.domain.audit import INSTALLATION
from usertable.domain.errors import StoreFault
from usertable.domain.merge import decide
from usertable.domain.permissions import ALL_SCOPES, Scope
from usertable.store import Store, copy, open_store
from usertable.store.copy import copy_store
from usertable.store.keyframes import VERSIONS
from usertable.store.records import ImportBatch, ImportRows, Replayed
from usertable.store.tables import AUDIT, HISTORY, RECEIPTS, ROWS_BYTES, TABLES, USERS, Row, TableSpec

VALUES = ["a", "Z", "é", "e\u0301", "😀", "中", "~", " "]


@pytest.fixture(params=["memory", "sqlite", "postgresql newest"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    folder = tmp_path / "target"
    folder.mkdir()
    with ENGINES[request.param](folder) as url:
        opened = open_store(url)
        yield opened
        opened.close()


def fill(harness: StoreHarness) -> None:
    """Create two projects with data of every kind."""
    one, two = harness.project("one"), harness.project("two")
    cuids = harness.service.register(one, "phone", VALUES, actor=TESTER)
    data = {
        "user_number_accumulate": Decimal("0.1"),
        "user_number_overwrite": 10**37 + 1,
        "user_string_once": 'a "quote"',
        "user_list_append": VALUES,
        "user_bool_once": 1,
        "user_datetime_once": "2024-02-29 12:00:00",
    }
    harness.write(*(harness.prepare(one, cuid, data, f"key {cuid}", whole=cuid == cuids[0]) for cuid in cuids))
    harness.write(harness.prepare(one, cuids[1], {"user_number_overwrite": Decimal("1e-38")}))
    for _ in range(VERSIONS):
        harness.write(harness.prepare(one, cuids[0], {"user_number_accumulate": 1}))
    erase_user(harness.store, one.number, cuids[2])
    harness.service.add_user(two, 5, {"phone": "a"}, actor=TESTER)
    nothing = ImportBatch(one.number, one.version, ImportRows.of([]), frozenset(), harness.now, job="job")
    import_batch(harness.store, nothing, decide, lambda _: "state")
    for name in ("ann", "bob", "eve"):
        # One has a password. To hash it takes 30 ms of CPU.
        password = "x" * 15 if name == "ann" else None
        harness.service.add_person(f"{name}@example.com", roles={one.id: "owner"}, password=password, actor=TESTER)
    harness.service.create_key("one", "billing", [Scope.WRITE], secret="their-own", granted=ALL_SCOPES, actor=TESTER)
    harness.store.keep_arrivals([Arrivals(one.number, harness.now, keys={"billing"})])


def pages(store: Store, project: int, spec: TableSpec, size: int = ROWS_BYTES) -> Iterator[list[Row]]:
    after = None
    while page := store.rows(project, spec, after, 1000, size):
        yield page
        after = page[-1][: spec.key]


def content(store: Store) -> list[object]:
    projects = store.projects()
    return [store.people(), projects, [store.next_cuid(p.number) for p in projects]] + [
        list(chain.from_iterable(pages(store, number, spec)))
        for number, spec in [(p.number, spec) for p in projects for spec in TABLES] + [(INSTALLATION, AUDIT)]
    ]


def test_everything_arrives(harness: StoreHarness, target: Store) -> None:
    fill(harness)
    sums = copy_store(harness.store, target, lambda *_: None)
    assert content(target) == content(harness.store)
    assert sums[copy.OF_NO_PROJECT]["person"].rows == 3
    rows = {table: found.rows for table, found in sums["one"].items()}
    # On Citus, each shard has its own blocks.
    assert rows.pop("history") >= 4
    assert rows == {
        "users": 7,
        "identifier_value": 7,
        "erased": 1,
        "receipt": 8,
        "audit": 19,
        "reported": 6,
        "import_job": 1,
        "project_key": 2,
        "key_use": 1,
        "history_since": 1,
        "keyframe": 1,
    }
    moved = StoreHarness(target)
    one = moved.service.project("one")
    assert moved.service.verify("one", "secret")
    assert moved.service.verify("one", "their-own")
    assert moved.service.key(one, "billing").last_used == moved.now - moved.now % 60_000
    assert moved.service.register(one, "phone", ["new", "😀"], actor=TESTER) == [10_000_009, 10_000_005]
    (again,) = moved.write(moved.prepare(one, 10_000_001, {"user_number_accumulate": 1}, "key 10000001"))
    assert isinstance(again, Replayed)
    with pytest.raises(Exception, match="cuid_erased"):
        moved.service.add_user(one, 10_000_003, {}, actor=TESTER)
    assert moved.service.add_user(moved.service.project("two"), 6, {"phone": "b"}, actor=TESTER).cuid == 6


def test_an_interrupted_copy_goes_on(harness: StoreHarness, target: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(harness)
    monkeypatch.setattr(copy, "PAGE", 2)
    load = target.load
    pages: list[tuple[int, TableSpec]] = []

    def interrupted(project: int, spec: TableSpec, rows: list[Row]) -> None:
        if pages.count((project, spec)) >= 1 and len(pages) % 3 == 0:
            pages.append((project, spec))
            raise KeyboardInterrupt
        load(project, spec, rows)
        pages.append((project, spec))

    monkeypatch.setattr(target, "load", interrupted)
    interruptions = 0
    while True:
        try:
            copy_store(harness.store, target, lambda *_: None)
            break
        except KeyboardInterrupt:
            interruptions += 1
            assert all(p.number != 1 for p in target.projects()) or interruptions > 1
    assert interruptions > 2
    assert content(target) == content(harness.store)


def test_rows_are_read_up_to_a_size(harness: StoreHarness, target: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    one = harness.project("one")
    cuids = harness.service.register(one, "phone", [f"{number}" for number in range(100)], actor=TESTER)
    for cuid in cuids:
        harness.write(harness.prepare(one, cuid, {"user_string_overwrite": "x" * 100}, f"key {cuid}"))
    for spec in TABLES:
        whole = list(chain.from_iterable(pages(harness.store, one.number, spec)))
        found = list(pages(harness.store, one.number, spec, 3000))
        assert list(chain.from_iterable(found)) == whole
        assert harness.store.rows(one.number, spec, None, 1000, 1) == whole[:1]
        assert spec not in (USERS, RECEIPTS, HISTORY) or max(map(len, found)) < 60
    monkeypatch.setattr("usertable.store.copy.PAGE_BYTES", 1)
    copy_store(harness.store, target, lambda *_: None)
    assert content(target) == content(harness.store)


def test_what_differs_is_told(harness: StoreHarness, target: Store) -> None:
    fill(harness)
    copy_store(harness.store, target, lambda *_: None)
    moved = StoreHarness(target)
    moved.write(moved.prepare(moved.service.project("one"), 10_000_001, {"user_string_overwrite": "changed"}))
    with pytest.raises(StoreFault, match=r"project one(, users: 7 rows|.* is not the same)"):
        copy_store(harness.store, target, lambda *_: None)


def test_a_store_with_projects_of_its_own_is_no_target(harness: StoreHarness, target: Store) -> None:
    fill(harness)
    StoreHarness(target).project("other")
    with pytest.raises(StoreFault, match="other"):
        copy_store(harness.store, target, lambda *_: None)
    assert [p.id for p in target.projects()] == ["other"]


def test_a_store_with_people_of_its_own_is_no_target(harness: StoreHarness, target: Store) -> None:
    fill(harness)
    StoreHarness(target).service.add_person("other@example.com", actor=TESTER)
    with pytest.raises(StoreFault, match=r"other@example\.com"):
        copy_store(harness.store, target, lambda *_: None)
    assert target.projects() == []
