"""Background scans of a whole table: their results, that they end, and that nobody waits for one in vain."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.actors import TESTER
from support.manual_clock import ManualClock
from support.store_harness import StoreHarness
from support.waiting import wait_until
from usertable.app import distribution
from usertable.app import scans as module
from usertable.app.clock import SYSTEM_CLOCK, Clock
from usertable.app.distribution import Distribution
from usertable.app.scans import Found, TableScans
from usertable.domain.condition import Condition, parse_condition
from usertable.domain.errors import StoreDown
from usertable.domain.schema import Attribute, Project, Rule
from usertable.domain.values import DataType
from usertable.store import open_store
from usertable.store.memory import MemoryStore


@contextmanager
def scanning(harness: StoreHarness, clock: Clock | None = None) -> Iterator[TableScans]:
    scans = TableScans(harness.store, clock=clock or replace(SYSTEM_CLOCK, now_ms=lambda: harness.now))
    try:
        yield scans
    finally:
        scans.close()


def done(look: Callable[[], Found[Any]]) -> Found[Any]:
    """Return the result of a scan, when it is done or has failed."""
    return wait_until(lambda: found if (found := look()).done or found.failed else None)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[StoreHarness]:
    harness = StoreHarness(open_store(f"sqlite:///{tmp_path / 'store.db'}"))
    yield harness
    harness.store.close()


def fill(harness: StoreHarness, project: Project, rows: list[dict[str, Any]]) -> list[int]:
    cuids = harness.service.register(project, "phone", [str(n) for n in range(len(rows))], actor=TESTER)
    for cuid, data in zip(cuids, rows, strict=True):
        harness.now += 1000
        if data:
            harness.write(harness.prepare(project, cuid, data))
    return cuids


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (module._CountPass, module._FillPass, distribution.ColumnPass):
        monkeypatch.setattr(kind, "chunk", 3)


@pytest.mark.usefixtures("small_chunks")
def test_counts_and_who_changed_last(harness: StoreHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_TOP", 4)
    project = harness.project()
    cuids = fill(harness, project, [{"user_bool_overwrite": n % 2} for n in range(11)])
    with scanning(harness) as scans:
        odd = [parse_condition("user_bool_overwrite:eq:1", project.schema, project.zone)]
        found = done(lambda: scans.count(project, odd))
        assert (found.result.matched, found.examined, found.sampled, found.at) == (5, 11, False, harness.now)
        assert [cuid for _, cuid in found.result.top] == [cuids[9], cuids[7], cuids[5], cuids[3]]
        assert not found.result.has_all
        oldest = done(lambda: scans.count(project, [], oldest=True))
        assert [cuid for _, cuid in oldest.result.top] == cuids[:4]
        # A fresh result is returned again; an outdated one until the next pass is done; a refresh starts a new one.
        moment = harness.now
        harness.service.erase_user(project, cuids[0], actor=TESTER)
        harness.now += 1000
        assert scans.count(project, [], oldest=True).result.matched == 11
        assert scans.count(project, [], oldest=True, refresh=True).at == moment
        wait_until(lambda: scans.count(project, [], oldest=True).at != moment)
        found = scans.count(project, [], oldest=True)
        assert (found.result.matched, found.at) == (10, harness.now)
        scans.forget(project)
        assert scans.count(project, [], oldest=True).examined in range(11)


def test_a_small_table_is_counted_again_soon_and_a_page_waits_for_it(
    harness: StoreHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On any machine, this pass is a short one.
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 10.0)
    monkeypatch.setattr(module, "FRESH_TIMES", 0)
    project = harness.project()
    with scanning(harness) as scans:
        assert done(lambda: scans.count(project, [])).result.matched == 0
        fill(harness, project, [{}, {}])
        harness.now += 1001
        assert scans.count(project, [], wait=True).result.matched == 2


def test_what_was_found_before_is_no_end_while_another_pass_goes_on() -> None:
    store = Scanned()
    harness = StoreHarness(store)
    project = harness.project()
    with scanning(harness) as scans:
        found = done(lambda: scans.count(project, []))
        fill(harness, project, [{}, {}])
        harness.now += 60_001
        store.may_go_on.clear()
        found = scans.count(project, [])
        assert (found.result.matched, found.done, found.ended) == (0, True, False)
        store.may_go_on.set()
        wait_until(lambda: scans.count(project, []).ended)
        assert scans.count(project, []).result.matched == 2


@pytest.mark.usefixtures("small_chunks")
def test_fill_rates(harness: StoreHarness) -> None:
    project = harness.project()
    fill(harness, project, [{"user_number_once": 1}, {}, {"user_number_once": 2, "user_bool_once": 1}, {}, {}])
    with scanning(harness) as scans:
        found = done(lambda: scans.filled(project))
        assert (found.result.filled, found.examined) == ({"user_number_once": 2, "user_bool_once": 1}, 5)
        empty, _ = harness.service.create_project("empty", actor=TESTER)
        assert done(lambda: scans.filled(empty)).examined == 0


@pytest.mark.usefixtures("small_chunks")
def test_distributions_of_every_type(harness: StoreHarness) -> None:
    project = harness.project()
    fill(
        harness,
        project,
        [
            {"user_number_overwrite": 1, "user_string_overwrite": "a", "user_bool_overwrite": 1},
            {"user_number_overwrite": 3, "user_string_overwrite": "<b>", "user_bool_overwrite": 0},
            {"user_number_overwrite": 3, "user_string_overwrite": "a", "user_list_append": ["x", "y"]},
            {"user_number_overwrite": Decimal("2.5"), "user_list_append": ["y"]},
            {"user_datetime_overwrite": "2024-02-29 12:00:00"},
        ],
    )
    attributes = project.schema.attributes
    with scanning(harness) as scans:

        def spread(name: str) -> Distribution:
            result = done(lambda: scans.distribution(project, attributes[name])).result
            assert isinstance(result, Distribution)
            return result

        numbers = spread("user_number_overwrite")
        assert (numbers.values, numbers.minimum, numbers.maximum) == (4, 1, 3)
        assert sum(b.count for b in numbers.bins) == 4
        assert spread("user_string_overwrite").top == (("a", 2), ("<b>", 1))
        assert spread("user_bool_overwrite").top == ((True, 1), (False, 1))
        lists = spread("user_list_append")
        assert (lists.values, lists.top, lists.distinct) == (2, (("y", 2), ("x", 1)), 2)
        moments = spread("user_datetime_overwrite")
        assert moments.minimum == moments.maximum == 1_709_179_200_000
        assert [(b.low <= 1_709_179_200_000 < b.high, b.count) for b in moments.bins] == [(True, 1)]
        assert spread("user_number_once") == Distribution()


def test_too_many_different_values_are_said_to_be_rounded(harness: StoreHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution, "DISTINCT", 4)
    project = harness.project()
    fill(harness, project, [{"user_string_overwrite": text} for text in ["a", "a", "b", "b", "c", "d", "e"]])
    with scanning(harness) as scans:
        attribute = project.schema.attributes["user_string_overwrite"]
        found = done(lambda: scans.distribution(project, attribute)).result
        assert (found.top, found.rounded) == ((("a", 2), ("b", 2)), True)


def histogram(chunks: list[list[Any]], data_type: DataType = DataType.NUMBER) -> Distribution:
    project = StoreHarness(MemoryStore()).project()
    work = distribution.column_pass(Attribute("n", data_type, Rule.OVERWRITE), project)
    for chunk in chunks:
        work.add(chunk)
    return work.result()


@given(
    st.lists(
        st.lists(
            st.integers(-(10**6), 10**6)
            | st.decimals(-(10**3), 10**3, places=2)
            | st.decimals(Decimal("-1e38"), Decimal("1e38"), allow_nan=False)
            | st.sampled_from([10**30, Decimal("1e-9"), Decimal("-1e-38")]),
            min_size=1,
            max_size=30,
        ),
        max_size=4,
    ),
    st.integers(2, 50),
)
@settings(deadline=None)
def test_a_histogram_counts_every_value_once_in_the_bin_it_lies_in(chunks: list[list[Any]], fine_bins: int) -> None:
    values = [value for chunk in chunks for value in chunk]
    with pytest.MonkeyPatch.context() as patch:
        # Fine bins are widened repeatedly.
        patch.setattr(distribution, "FINE_BINS", fine_bins)
        found = histogram(chunks)
    bins = found.bins
    assert len(bins) <= distribution.BINS
    assert found.below + sum(b.count for b in bins) + found.above == len(values)
    assert all(one.high == other.low for one, other in itertools.pairwise(bins))
    for one in bins:
        assert one.count == sum(one.low <= value < one.high for value in values)
    if values:
        assert found.below == sum(value < bins[0].low for value in values) <= max(1, len(values) // 100)
        assert found.above == sum(value >= bins[-1].high for value in values) <= max(1, len(values) // 100)
        assert bins[0].count
        assert bins[-1].count


@pytest.mark.parametrize("outlier", [Decimal("1.2e23"), 10**37, -(10**37)])
def test_one_value_far_away_does_not_put_all_others_into_one_bin(outlier: int | Decimal) -> None:
    usual: list[Any] = [n % 1000 for n in range(20_000)]
    found = histogram([[*usual[:5000], outlier], usual[5000:]])
    assert (found.below, found.above) == ((1, 0) if outlier < 0 else (0, 1))
    assert (found.bins[0].low, found.bins[-1].high) == (0, 1000)
    assert {b.count for b in found.bins} == {len(usual) * 50 // 1000}
    # With few values, none is left out: it is unclear which of 5 is an outlier.
    few = histogram([[1, 2, 3, 4, outlier]])
    assert (few.below, few.above, sum(b.count for b in few.bins)) == (0, 0, 5)


def test_a_moment_far_away_does_not_put_all_others_into_one_bin() -> None:
    day = 86_400_000
    usual: list[Any] = [1_700_000_000_000 + n * day for n in range(30)]
    found = histogram([usual, [-62_135_596_800_000]], DataType.DATETIME)
    assert found.below == 1
    assert sum(b.count for b in found.bins) == 30
    assert {b.high - b.low for b in found.bins} == {day}


def test_numbers_that_differ_in_their_last_digits_only_are_told_apart() -> None:
    found = histogram([[10**17 + n for n in range(100)] for _ in range(3)])
    assert [b.count for b in found.bins] == [15] * 20
    assert histogram([[Decimal("46.2")]]).bins == (distribution.Bin(Decimal(46), Decimal(47), 1),)


@pytest.mark.usefixtures("small_chunks")
def test_a_large_table_is_sampled_and_says_so(harness: StoreHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLED_USERS", 30)
    project = harness.project()
    fill(harness, project, [{"user_bool_overwrite": n % 2} for n in range(100)])
    with scanning(harness) as scans:
        found = done(lambda: scans.filled(project))
        assert found.sampled
        assert 20 <= found.examined <= 40
        assert found.result.filled == {"user_bool_overwrite": found.examined}
        assert done(lambda: scans.count(project, [])).examined == 100


class Scanned(MemoryStore):
    """A store whose chunks can be delayed, take time by a manual clock, or fail; it counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.chunks = 0
        self.down = False
        self.time = ManualClock()
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.meanwhile: Callable[[], object] = lambda: None

    def count_matching(self, *arguments: Any, **options: Any) -> Any:
        self.chunks += 1
        assert self.may_go_on.wait(60)
        self.time.advance(0.02)
        self.meanwhile()
        if self.down:
            raise StoreDown("gone")
        return super().count_matching(*arguments, **options)


@pytest.mark.usefixtures("small_chunks")
def test_what_nobody_waits_for_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITED_SECONDS", 0.1)
    store = Scanned()
    harness = StoreHarness(store)
    project = harness.project()
    fill(harness, project, [{}] * 300)
    with scanning(harness, store.time.clock) as scans:
        scans.count(project, [])
        (scan,) = scans._scans.values()
        assert scan.rests.wait(60)
        # A chunk takes 0.02 s, and is followed by an equally long pause.
        assert store.chunks == 3
        assert store.time.waits == pytest.approx([0.02] * 3)
        # A later request starts it again, and it continues as long as there are requests.
        conditions = [Condition("user_bool_once", "unset")]
        store.meanwhile = lambda: scans.count(project, conditions)
        assert done(lambda: scans.count(project, conditions)).result.matched == 300


def test_a_store_that_is_down_fails_a_scan_and_not_the_next() -> None:
    store = Scanned()
    harness = StoreHarness(store)
    project = harness.project()
    store.down = True
    with scanning(harness) as scans:
        assert done(lambda: scans.count(project, [])).failed
        store.down = False
        wait_until(lambda: scans.count(project, []).done)


def test_no_more_go_on_at_once_than_there_are_workers() -> None:
    at_once, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(module.WORKERS)

    class Counting(MemoryStore):
        def count_matching(self, *arguments: Any, **options: Any) -> Any:
            nonlocal at_once, most
            with lock:
                at_once += 1
                most = max(most, at_once)
            together.wait(60)
            with lock:
                at_once -= 1
            return super().count_matching(*arguments, **options)

    harness = StoreHarness(Counting())
    project = harness.project()
    with scanning(harness) as scans:
        conditions = [[Condition("user_number_once", "eq", n)] for n in range(8)]
        for one in conditions:
            scans.count(project, one)
        for one in conditions:
            done(lambda one=one: scans.count(project, one))  # type: ignore[misc]
    assert most == module.WORKERS
