"""A user's row has a maximum size, however values arrive. A write that would exceed it fails alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

import pytest

from support.actors import TESTER
from support.commands import all_users, import_batch
from support.merging import write_as_server
from support.store_harness import StoreHarness
from usertable.app.batches import BatchEntry
from usertable.app.service import Service
from usertable.commands.write import WriteBatch
from usertable.domain import merge
from usertable.domain.errors import ProblemKind
from usertable.domain.merge import Rules
from usertable.domain.profile import maximum_bytes, row_bytes
from usertable.domain.schema import Project
from usertable.domain.values import Value
from usertable.store.encoding import encode_attributes
from usertable.store.records import ImportBatch, ImportResult, ImportRows, Receipt, Refusal, Result, Write, Written

LIMIT = 2000
SMALL = Rules(LIMIT)


def is_too_large(result: Result, attribute: str) -> bool:
    return isinstance(result, Refusal) and [(p.kind, p.attribute) for p in result.problems] == [
        (ProblemKind.ROW_LENGTH, attribute)
    ]


def size(harness: StoreHarness, project: Project, cuid: int) -> int:
    return len(encode_attributes(harness.attributes(project, cuid)))  # type: ignore[arg-type]


def plain(write: Write) -> Write:
    """Return the write as most calls make it, which the database may merge itself."""
    return replace(write, details=False)


@pytest.mark.parametrize(
    "value",
    ["a" * 400, "\x01" * 150, '"' * 300, "杭" * 130, "😀" * 100],
    ids=["ascii", "control", "quotes", "han", "astral"],
)
def test_a_write_that_would_make_the_row_too_large_is_refused_alone(harness: StoreHarness, value: str) -> None:
    project = harness.project()
    cuid, other = harness.user(project, "1"), harness.user(project, "2")
    for user in (cuid, other):
        harness.write(harness.prepare(project, user, {"user_string_overwrite": "short", "user_list_append": ["-"]}))
    appended = [harness.prepare(project, cuid, {"user_list_append": [f"{n}{value}"]}) for n in range(12)]
    neighbour = harness.prepare(project, other, {"user_string_overwrite": value})
    # All in one batch, and one after the other as the database merges them.
    results = harness.store.write([*appended[:6], neighbour], WriteBatch(SMALL))
    results[6:6] = [
        result for write in appended[6:] for result in write_as_server(harness.store, [plain(write)], WriteBatch(SMALL))
    ]
    assert isinstance(results[-1], Written)
    assert harness.attributes(project, other)["user_string_overwrite"] == value
    kept = [result for result in results[:-1] if isinstance(result, Written)]
    assert kept
    assert all(is_too_large(result, "user_list_append") for result in results[:-1] if not isinstance(result, Written))
    assert len(kept) < len(appended)
    assert len(harness.attributes(project, cuid)["user_list_append"]) == 1 + len(kept)  # type: ignore[arg-type]
    assert size(harness, project, cuid) <= LIMIT
    # There is room for small values.
    (result,) = harness.store.write(
        [harness.prepare(project, cuid, {"user_string_overwrite": "shorter"})], WriteBatch(SMALL)
    )
    assert isinstance(result, Written) or size(harness, project, cuid) > LIMIT - 10


def test_the_attribute_that_grows_the_most_is_named(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    harness.write(harness.prepare(project, cuid, {"user_string_overwrite": "a" * 1500}))
    data = {"user_string_overwrite": "b" * 1550, "user_string_once": "c" * 600, "user_bool_once": 1}
    (result,) = harness.store.write([harness.prepare(project, cuid, data)], WriteBatch(SMALL))
    assert is_too_large(result, "user_string_once")
    assert harness.attributes(project, cuid) == {"user_string_overwrite": "a" * 1500}


def test_a_row_that_is_too_large_already_may_shrink_and_not_grow(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    harness.write(harness.prepare(project, cuid, {"user_string_overwrite": "a" * 5000, "user_number_accumulate": 1}))

    def write(data: dict[str, object]) -> Result:
        (result,) = write_as_server(harness.store, [plain(harness.prepare(project, cuid, data))], WriteBatch(SMALL))
        return result

    assert isinstance(write({"user_string_overwrite": "b" * 4000}), Written)
    assert isinstance(write({"user_number_accumulate": 1}), Written)
    assert isinstance(write({"user_string_overwrite": "b" * 4000}), Written)
    assert is_too_large(write({"user_string_overwrite": "b" * 4001}), "user_string_overwrite")
    assert is_too_large(write({"user_string_once": "c"}), "user_string_once")
    assert isinstance(write({"user_string_overwrite": "d"}), Written)
    assert isinstance(write({"user_string_once": "c"}), Written)
    assert harness.attributes(project, cuid) == {
        "user_string_overwrite": "d",
        "user_number_accumulate": 2,
        "user_string_once": "c",
    }


ROWS: list[tuple[int, dict[str, Value]]] = [
    (1, {"user_string_overwrite": "a"}),
    (2, {"user_string_overwrite": "b" * 2100}),
    (3, {"user_list_append": ["c" * 500, "d" * 500]}),
    (3, {"user_list_append": ["e" * 500, "f" * 500]}),
    (3, {"user_list_append": ["g" * 500]}),
    (4, {"user_string_overwrite": "\x01" * 400}),
    (5, {"user_string_overwrite": "杭" * 600}),
]
TAKEN = [True, False, True, False, True, False, True]


def check_rows(harness: StoreHarness, project: Project) -> None:
    rows = {user.cuid: user.profile.attributes for user in all_users(harness.store, project.number)}
    assert rows[1] == ROWS[0][1]
    assert rows[3] == {"user_list_append": ["c" * 500, "d" * 500, "g" * 500]}
    assert rows[5] == ROWS[6][1]
    assert not rows.get(2)
    assert not rows.get(4)


@pytest.mark.parametrize("chosen", [slice(None), slice(0, 3)], ids=["some twice", "all new"])
@pytest.mark.parametrize("known", [False, True], ids=["new users", "known users"])
def test_rows_of_an_import_that_are_too_large_are_refused_alone(harness: StoreHarness, chosen: slice, known: bool) -> None:
    project = harness.project()
    if known:
        for cuid in range(1, 6):
            harness.service.add_user(project, cuid, {}, actor=TESTER)
    given = ROWS[chosen]
    rows = ImportRows.of((cuid, (), encode_attributes(attributes)) for cuid, attributes in given)
    names = frozenset(name for _, attributes in given for name in attributes)
    batch = ImportBatch(project.number, project.version, rows, names, harness.now, register=True, job="job")
    taken = import_batch(harness.store, batch, SMALL, lambda taken: "state")
    assert isinstance(taken, ImportResult)
    assert [place for place, _ in taken.refused] == [n for n, right in enumerate(TAKEN[chosen]) if not right]
    assert all(problem.kind is ProblemKind.ROW_LENGTH for _, problems in taken.refused for problem in problems)
    if chosen.stop is None:
        check_rows(harness, project)


def test_rows_of_an_import_through_the_api_that_are_too_large_are_refused_alone(harness: StoreHarness) -> None:
    project = harness.project()
    service = Service(harness.store, clock=lambda: harness.now, rules=SMALL)
    entries = [BatchEntry(cuid, None, values, Receipt(f"{n}", b"")) for n, (cuid, values) in enumerate(ROWS)]
    taken = service.import_rows(project, entries, register=True, actor=TESTER)
    assert taken is not None
    assert [isinstance(result, Written) for _, result in taken] == TAKEN
    check_rows(harness, project)


def test_large_rows_of_many_users_in_one_batch_are_all_written(harness: StoreHarness) -> None:
    project = harness.project()
    cuids = harness.service.register(project, "phone", [f"{n}" for n in range(24)], actor=TESTER)
    large: Sequence[str] = [f"{n:04}" + "x" * 500 for n in range(1000)]
    for n in range(2):
        lists = {("user_list_append", "user_list_overwrite")[n]: list(large)}
        assert all(isinstance(r, Written) for r in harness.write(*(harness.prepare(project, c, lists) for c in cuids)))
    # Together they have 24 MB.
    writes = [harness.prepare(project, c, {"user_number_accumulate": 1}, f"{c}") for c in cuids]
    assert all(isinstance(result, Written) for result in harness.write(*writes))
    for cuid in cuids:
        assert harness.attributes(project, cuid)["user_number_accumulate"] == 1


VALUES: list[Value] = [
    "",
    "a",
    '\x01\n\x7f"\\/',
    "杭州",
    "😀",
    True,
    False,
    0,
    -12,
    10**37,
    Decimal("0.1"),
    [],
    ["a"],
    ["杭", '"'] * 3,
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_row_is_as_large_as_its_json(value: Value) -> None:
    for row in ({}, {"a": value}, {"a": value, "bc": value}):
        assert row_bytes(row) == len(encode_attributes(row).encode())
    assert maximum_bytes("a", value) >= row_bytes({"a": value}) - 2


def test_rows_far_under_the_limit_are_not_measured(harness: StoreHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    project = harness.project()
    cuids = harness.service.register(project, "phone", [f"{n}" for n in range(50)], actor=TESTER)
    data = {"user_string_overwrite": "a" * 500, "user_list_append": ["b" * 300], "user_number_accumulate": 1}
    harness.write(*(harness.prepare(project, cuid, data) for cuid in cuids))
    measured: list[int] = []

    def measure(attributes: Mapping[str, Value]) -> int:
        measured.append(row_bytes(attributes))
        return measured[-1]

    monkeypatch.setattr(merge, "row_bytes", measure)
    for _ in range(2):
        writes = [harness.prepare(project, cuid, {"user_number_accumulate": 1}) for cuid in cuids]
        assert all(isinstance(result, Written) for result in harness.write(*writes))
    assert not measured
