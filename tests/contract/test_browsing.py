"""Browsing the user table: filters, order, chunks, counts. The meaning of a condition is defined by its own `met`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.actors import TESTER
from support.commands import all_users
from support.engines import ENGINES
from support.store_harness import StoreHarness
from usertable.domain.condition import (
    MAX_CONDITIONS,
    MAX_VALUES,
    Condition,
    join_values,
    meets,
    parse_condition,
    parse_conditions,
)
from usertable.domain.identity import MAX_CUID
from usertable.domain.schema import Attribute, Project, Rule
from usertable.domain.values import DataType
from usertable.store import open_store
from usertable.store.records import FIRST_CUID, User

ALL = 10_000


def ascending(harness: StoreHarness, project: Project) -> list[User]:
    return all_users(harness.store, project.number)


def fill(harness: StoreHarness, project: Project, rows: list[dict[str, Any]]) -> list[int]:
    """Create a user for each row, changed in the order of the rows, one second apart."""
    cuids = harness.service.register(project, "phone", [str(n) for n in range(len(rows))], actor=TESTER)
    for cuid, data in zip(cuids, rows, strict=True):
        harness.now += 1000
        if data:
            harness.write(harness.prepare(project, cuid, data))
    return cuids


ROWS: list[dict[str, Any]] = [
    {"user_number_overwrite": 5, "user_string_overwrite": "Alice", "user_bool_overwrite": 1},
    {"user_number_overwrite": Decimal("5.0000000000000000000001"), "user_string_overwrite": "alice"},
    {"user_number_overwrite": 2**63, "user_list_append": ["a", "b,c"], "user_bool_overwrite": 0},
    {"user_number_overwrite": -(10**37), "user_datetime_overwrite": "2024-02-29 12:00:00", "user_list_append": ["ab"]},
    {"user_number_overwrite": Decimal("4.9999999999999999999999"), "user_datetime_overwrite": "2024-03-01 00:00:00"},
    {"user_string_overwrite": "a%_'\"\\<script>", "user_list_append": ["a"]},
    {},
]


class Filled(NamedTuple):
    """A project with a user for each of ROWS."""

    harness: StoreHarness
    project: Project
    cuids: list[int]


@pytest.fixture(scope="module", params=ENGINES)
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """One for each engine, for tests that only read."""
    with ENGINES[request.param](tmp_path_factory.mktemp("filled")) as url, closing(open_store(url)) as store:
        harness = StoreHarness(store)
        project = harness.project()
        yield Filled(harness, project, fill(harness, project, ROWS))


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["user_number_overwrite:eq:5"], [0]),
        (["user_number_overwrite:ne:5"], [1, 2, 3, 4]),
        (["user_number_overwrite:gt:5"], [1, 2]),
        (["user_number_overwrite:ge:5"], [0, 1, 2]),
        (["user_number_overwrite:lt:5"], [3, 4]),
        (["user_number_overwrite:between:4.99999999999999999999991,5"], [0]),
        (["user_number_overwrite:in:5,9223372036854775808"], [0, 2]),
        (["user_number_overwrite:eq:5.0000000000000000000001"], [1]),
        (["user_string_overwrite:eq:alice"], [1]),
        (["user_string_overwrite:contains:lic"], [0, 1]),
        (["user_string_overwrite:contains:%_'\"\\<"], [5]),
        (["user_string_overwrite:contains:"], [0, 1, 5]),
        (["user_bool_overwrite:eq:0"], [2]),
        (["user_bool_overwrite:in:0,1"], [0, 2]),
        (["user_datetime_overwrite:lt:2024-03-01 00:00:00"], [3]),
        (["user_datetime_overwrite:between:2024-02-29 12:00:00,2024-03-01 00:00:00"], [3, 4]),
        (["user_list_append:contains:a"], [2, 5]),
        (["user_list_append:contains:b,c"], [2]),
        (["user_list_append:set", "user_bool_overwrite:unset"], [3, 5]),
        (["user_number_overwrite:unset"], [5, 6]),
        (["user_number_once:set"], []),
    ],
    ids=lambda value: "+".join(value) if value and isinstance(value[0], str) else "",
)
def test_a_filter_finds_exactly_those_who_meet_it(filled: Filled, texts: list[str], expected: list[int]) -> None:
    harness, project, cuids = filled
    conditions = [parse_condition(text, project.schema, project.zone) for text in texts]
    wanted = [cuids[place] for place in expected]
    found = harness.store.select(project.number, conditions, None, ALL, ALL)
    assert [user.cuid for user in found.users] == wanted
    assert found.end is None
    assert [u.cuid for u in harness.store.select(project.number, conditions, None, ALL, ALL, True).users] == wanted[::-1]
    assert harness.store.count_matching(project.number, conditions, None, ALL, ALL).matched == len(wanted)


def many_values(attribute: str, wanted: str) -> list[str]:
    """Return a filter with the maximum number of conditions and values."""
    others = ",".join(f"{n}{wanted[1:]}" for n in range(1, MAX_VALUES - MAX_CONDITIONS + 1))
    return [f"{attribute}:in:{wanted},{others}", *[f"{attribute}:ne:7"] * (MAX_CONDITIONS - 1)]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (many_values("user_number_overwrite", "5"), [0]),
        (many_values("user_number_overwrite", "5.0000000000000000000001"), [1]),
        (many_values("user_string_overwrite", "Alice"), [0]),
        (["user_datetime_overwrite:in:" + ",".join(f"2024-03-01 00:{n // 60:02}:{n % 60:02}" for n in range(1000))], [4]),
        (["user_bool_overwrite:in:0,1", "user_bool_overwrite:in:0"], [2]),
        (["user_number_overwrite:in:9223372036854775808,-10000000000000000000000000000000000000,0.5"], [2, 3]),
        ([f"user_number_overwrite:lt:{n}.5" for n in range(5, 5 + MAX_CONDITIONS)], [0, 1, 3, 4]),
    ],
)
def test_a_filter_of_as_many_conditions_and_values_as_may_be(filled: Filled, texts: list[str], expected: list[int]) -> None:
    harness, project, cuids = filled
    conditions = parse_conditions(texts, project.schema, project.zone)
    found = harness.store.select(project.number, conditions, None, ALL, ALL)
    assert [user.cuid for user in found.users] == [cuids[n] for n in expected]
    counted = harness.store.count_matching(project.number, conditions, None, ALL, ALL)
    assert (counted.matched, sorted(cuid for _, cuid in counted.top)) == (len(expected), [cuids[n] for n in expected])


def test_another_projects_values_of_another_type_do_not_disturb(harness: StoreHarness) -> None:
    project = harness.project()
    fill(harness, project, ROWS)
    other, _ = harness.service.create_project("other", actor=TESTER)
    harness.service.declare_attribute(other.id, Attribute("user_number_overwrite", DataType.STRING, Rule.ONCE), actor=TESTER)
    other = harness.service.project(other.id)
    harness.service.add_user(other, 7, {}, actor=TESTER)
    harness.write(harness.prepare(other, 7, {"user_number_overwrite": "no number"}))
    condition = parse_condition("user_number_overwrite:ge:5", project.schema, project.zone)
    assert harness.store.count_matching(project.number, [condition], None, ALL, 0).matched == 3
    assert harness.store.count_matching(other.number, [], None, ALL, 0).matched == 1


def test_pages_go_both_ways_and_a_chunk_ends_where_it_says(harness: StoreHarness) -> None:
    project = harness.project()
    cuids = [*fill(harness, project, [{}] * 7), MAX_CUID]
    harness.service.add_user(project, MAX_CUID, {}, actor=TESTER)
    assert harness.store.cuid_range(project.number) == (cuids[0], MAX_CUID)
    first = harness.store.select(project.number, [], None, 3, 3)
    assert ([u.cuid for u in first.users], first.end) == (cuids[:3], cuids[2])
    assert first.users[0].identifiers == {"phone": ["0"]}
    last = harness.store.select(project.number, [], None, 3, 3, True)
    assert ([u.cuid for u in last.users], last.end) == (cuids[:-4:-1], cuids[-3])
    before = harness.store.select(project.number, [], cuids[2], 9, 9, True)
    assert ([u.cuid for u in before.users], before.end) == (cuids[1::-1], None)
    nobody = Condition("user_number_once", "set")
    looked = harness.store.select(project.number, [nobody], cuids[1], 5, 4)
    assert (looked.users, looked.examined, looked.end) == ([], 4, cuids[5])
    assert harness.store.select(project.number, [nobody], cuids[5], 5, 2).end is None
    assert harness.store.select(project.number, [], MAX_CUID, 5, 5).end is None


def test_the_edge_is_who_changed_last_or_first(harness: StoreHarness) -> None:
    project = harness.project()
    cuids = fill(harness, project, [{"user_bool_overwrite": n % 2} for n in range(6)])
    odd = [Condition("user_bool_overwrite", "eq", True)]
    newest = harness.store.count_matching(project.number, odd, None, ALL, 2)
    assert (newest.matched, newest.examined, newest.end) == (3, 6, None)
    assert [cuid for _, cuid in newest.top] == [cuids[5], cuids[3]]
    assert newest.top[0][0] == harness.now
    oldest = harness.store.count_matching(project.number, [], cuids[0], 3, 2, oldest=True)
    assert (oldest.matched, oldest.examined, oldest.end) == (3, 3, cuids[3])
    assert [cuid for _, cuid in oldest.top] == cuids[1:3]


def test_columns_and_fill_by_chunks(filled: Filled) -> None:
    harness, project, cuids = filled
    numbers = harness.store.column_values(project.number, "user_number_overwrite", None, ALL)
    assert numbers.values == [row["user_number_overwrite"] for row in ROWS if "user_number_overwrite" in row]
    assert (numbers.examined, numbers.end) == (7, None)
    part = harness.store.column_values(project.number, "user_list_append", cuids[1], 2)
    assert (part.values, part.examined, part.end) == ([["a", "b,c"], ["ab"]], 2, cuids[3])
    fill_ = harness.store.count_filled(project.number, None, ALL)
    names = {name for row in ROWS for name in row}
    assert fill_.filled == {name: sum(name in row for row in ROWS) for name in names}
    assert harness.store.count_filled(project.number, cuids[5], 5).filled == {}


def test_an_empty_project_has_nothing_to_look_through(harness: StoreHarness) -> None:
    number = harness.project().number
    assert harness.store.cuid_range(number) is None
    assert harness.store.select(number, [], None, 5, 5).users == []
    assert harness.store.count_matching(number, [], None, 5, 5).matched == 0
    assert harness.store.read_many(number, [1, 2]) == []


def test_many_are_read_in_the_order_asked_for(filled: Filled) -> None:
    harness, project, cuids = filled
    wanted = [cuids[3], 1, cuids[0]]
    assert [user.cuid for user in harness.store.read_many(project.number, wanted)] == [cuids[3], cuids[0]]


numbers = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**37]),
    st.sampled_from(["1e-38", "0.1", "0.3", "2.5", "0.30000000000000000001", "-0.1"]).map(Decimal),
    st.decimals(-5, 5, places=1, allow_nan=False),
)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=4)
moments = st.sampled_from(["1969-12-31 23:59:59", "2024-02-29 12:00:00", "2024-02-29 12:00:01"])
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "user_number_overwrite": numbers,
    "user_string_overwrite": texts.filter(bool),
    "user_bool_overwrite": st.integers(0, 1),
    "user_datetime_overwrite": moments,
    "user_list_overwrite": st.lists(st.sampled_from(["a", "b", "ab", "é", "e\u0301"]) | texts.filter(bool), min_size=1),
}
longs = st.sampled_from([0, 2**63 - 1, -(2**63)])
times = st.integers(0, 100).map(lambda n: f"2023-11-14T22:{13 + n // 60}:{n % 60:02}.000Z")
OF_ROW: dict[str, st.SearchStrategy[Any]] = {
    "@cuid": st.integers(FIRST_CUID - 1, FIRST_CUID + 8) | longs,
    "@version": st.integers(0, 60) | longs,
    "@created_at": times,
    "@updated_at": times,
}
SCALAR = ["eq", "ne", "in"]
ORDERED = ["lt", "le", "gt", "ge", "between"]


@st.composite
def condition(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from([*VALUES, *OF_ROW]))
    kind = name.split("_")[1] if name in VALUES else "number"
    operators = ["set", "unset"]
    operators += {"list": ["contains"], "string": [*SCALAR, "contains"], "bool": SCALAR}.get(kind, SCALAR + ORDERED)
    op = draw(st.sampled_from(operators))
    if op in ("set", "unset"):
        return f"{name}:{op}"
    one = texts if kind == "list" else (VALUES | OF_ROW)[name]
    several = {"in": (1, 3), "between": (2, 2)}.get(op, (1, 1))
    values = draw(st.lists(one, min_size=several[0], max_size=several[1]))
    shown = [format(v, "f") if isinstance(v, Decimal) else str(v) for v in values]
    return f"{name}:{op}:{join_values(shown) if op in ('in', 'between') else shown[0]}"


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_filters_as_the_condition_says(engine: str) -> None:
    with ExitStack() as places:
        folder = places.enter_context(tempfile.TemporaryDirectory())
        harness = StoreHarness(open_store(places.enter_context(ENGINES[engine](Path(folder)))))
        places.callback(harness.store.close)
        project = harness.project()
        cuids = harness.service.register(project, "phone", [str(n) for n in range(8)], actor=TESTER)

        @settings(max_examples=150 if engine == "sqlite" else 60, deadline=None)
        @given(
            st.lists(st.fixed_dictionaries({}, optional=VALUES), min_size=1, max_size=8),
            st.lists(condition(), min_size=1, max_size=3),
            st.integers(1, 9),
            st.integers(1, 9),
            st.booleans(),
        )
        def check(rows: list[dict[str, Any]], written: list[str], limit: int, examine: int, turned: bool) -> None:
            for cuid, data in zip(cuids, rows, strict=False):
                if data:
                    harness.now += 1000
                    harness.write(harness.prepare(project, cuid, data))
            conditions = [parse_condition(text, project.schema, project.zone) for text in written]
            users = ascending(harness, project)
            matching = [user for user in users if meets(user.cuid, user.profile, conditions)]

            found: list[User] = []
            after: int | None = None
            while True:
                page = harness.store.select(project.number, conditions, after, limit, examine, turned)
                assert len(page.users) <= limit
                assert page.examined <= examine
                found += page.users
                if page.end is None:
                    break
                after = page.end
            assert found == (matching[::-1] if turned else matching)

            matched, top, after = 0, [], None
            while True:
                counted = harness.store.count_matching(project.number, conditions, after, examine, limit, oldest=turned)
                matched += counted.matched
                top += counted.top
                if counted.end is None:
                    break
                after = counted.end
            assert matched == len(matching)
            times = [(user.profile.updated_at, user.cuid) for user in matching]
            assert sorted(top, reverse=not turned)[:limit] == sorted(times, reverse=not turned)[:limit]

        check()
