"""The table as of an earlier moment: an export of it is the file that an export at that moment wrote."""

from __future__ import annotations

import contextlib
import csv
import io
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract import test_retention
from support.actors import TESTER
from support.commands import edit_project, erase_user, import_batch
from support.store_harness import StoreHarness
from usertable.domain.change import Origin
from usertable.domain.errors import ProblemKind, Refused
from usertable.domain.patch import Restoration
from usertable.domain.schema import Attribute, HistorySettings, Identifier, Project, Rule
from usertable.domain.values import ABSENT, DataType
from usertable.files.as_of import TableAsOf
from usertable.files.export import export
from usertable.files.export_options import export_options
from usertable.files.options import Format
from usertable.store.memory import MemoryStore
from usertable.store.records import ImportBatch, ImportRow, ImportRows, Write
from usertable.wire.native.queries import ExportQuery

FORMATS: tuple[Format, ...] = get_args(Format)
COLUMNS = "*,@version,@created_at,@updated_at"


def exported(harness: StoreHarness, format: Format = "csv", moment: int | None = None, **query: Any) -> bytes:
    """Return the table as a file: as of now, or as of an earlier moment."""
    stream = io.BytesIO()
    asked = ExportQuery(format, **{"attributes": COLUMNS, **query})
    with harness.store.snapshot("one") as snapshot:
        if moment is None:
            export(snapshot, stream, export_options(snapshot.project, asked))
        else:
            with contextlib.closing(TableAsOf(snapshot, moment, asked)) as past:
                export(past, stream, past.options)
    return stream.getvalue()


def rows(file: bytes) -> dict[str, dict[str, str]]:
    """Return the rows of a CSV by CUID."""
    return {row["cuid"]: row for row in csv.DictReader(io.StringIO(file.decode()))}


def refused(harness: StoreHarness, moment: int, **query: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        exported(harness, moment=moment, **query)
    return caught.value


def imported(harness: StoreHarness, project: Project, *rows: ImportRow, job: str = "crm") -> None:
    names = frozenset(["user_number_accumulate", "user_string_overwrite"])
    batch = ImportBatch(
        *(project.number, project.version, ImportRows.of(rows), names, harness.now, True, job),
        harness.store.job(project.number, job),
        origin=Origin(f"import:{job}"),
    )
    import_batch(harness.store, batch, note=lambda result: f"{harness.now}")


def send(harness: StoreHarness, project: Project, cuid: int, **data: object) -> None:
    harness.write(harness.prepare(project, cuid, {f"user_{name}": value for name, value in data.items()}))


def restore(harness: StoreHarness, project: Project, cuid: int, **values: Any) -> None:
    entries = [(project.schema.attribute(f"user_{name}"), value) for name, value in values.items()]
    harness.write(Write(project.number, cuid, Restoration(entries), project.version, harness.now, origin=Origin("undo:1")))


def shop(harness: StoreHarness) -> Project:
    """Return a project whose users 1 to 6 have values of every kind."""
    harness.project()
    harness.service.declare_identifier("one", Identifier("device", unique=False), actor=TESTER)
    project = harness.service.project("one")
    imported(harness, project, *((cuid, (("phone", f"p{cuid}"),), "{}") for cuid in range(1, 7)))
    send(harness, project, 1, number_accumulate=5, list_append=["A", "B"], string_once="ads", bool_overwrite=1)
    send(harness, project, 2, number_overwrite="1.5", list_append=["A"], datetime_overwrite="2024-02-29 12:00:00")
    send(harness, project, 3, list_append=["x", "y", "z"], string_overwrite='a "b"\n,c')
    return project


def change_everything(harness: StoreHarness, project: Project) -> None:
    """Write in every way that there is."""
    harness.now += 1000
    send(harness, project, 1, number_accumulate=2, list_append=["B", "C"], string_once="later", bool_overwrite=0)
    harness.now += 1000
    send(harness, project, 1, number_accumulate=-7, list_append=["D"], list_overwrite=["q"])
    send(harness, project, 2, number_overwrite=10**37, string_overwrite="new")
    # What was said already, by somebody else: a change that leaves the version.
    harness.write(harness.prepare(project, 2, {"user_string_overwrite": "new"}, actor="key:other"))
    imported(
        harness, project, (2, (), '{"user_number_accumulate":4}'), (7, (("phone", "p7"),), '{"user_number_accumulate":1}')
    )
    harness.now += 1000
    imported(harness, project, (3, (("device", "d3"), ("device", "d4")), "{}"), (4, (), '{"user_string_overwrite":"four"}'))
    restore(harness, project, 3, list_append=["z", "x"], string_overwrite=ABSENT)
    harness.now += 1000
    send(harness, project, 3, list_append=["w"])
    harness.service.register(project, "phone", ["p8", "p1"], actor=TESTER)
    send(harness, project, 10000001, string_overwrite="a new user")


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if a user is walked back alone. The result would be right, but it takes a thousand times as long."""
    monkeypatch.setattr(TableAsOf, "_alone", never)


def never(*_: object) -> None:
    raise AssertionError("a user is walked back alone")


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("format", FORMATS)
def test_an_export_as_of_a_moment_is_the_file_that_an_export_wrote_then(harness: StoreHarness, format: Format) -> None:
    project = shop(harness)
    seen = {harness.now: exported(harness, format)}
    for _ in range(2):
        change_everything(harness, project)
        seen[harness.now] = exported(harness, format)
        harness.now += 1000
    change_everything(harness, project)
    seen[harness.now] = exported(harness, format)
    for moment, file in seen.items():
        assert exported(harness, format, moment) == file
    first, second, third, _ = seen
    assert exported(harness, format, second - 1) not in (seen[first], seen[second])
    assert exported(harness, format, third + 999) == seen[third]
    assert len({*seen.values()}) == 4


def pack(harness: StoreHarness, project: Project) -> int:
    """Pack all changes so far. Return the number of packed blocks."""
    test_retention.pack(harness, project, harness.now + 1)
    return sum(block.is_packed for block in harness.store.history_blocks(project.number, None, 1000))


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("values", [1, 16], ids=["in columns of their own", "in one column"])
def test_packed_changes_lead_to_the_same_file(harness: StoreHarness, values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usertable.store.packing.MINIMUM_VALUES", values)
    monkeypatch.setattr("usertable.store.history.PACKED_CHANGES", 6)
    project = shop(harness)
    seen = {}
    for _ in range(3):
        seen[harness.now] = exported(harness)
        change_everything(harness, project)
    assert pack(harness, project) > 2
    change_everything(harness, project)
    for moment, file in seen.items():
        assert exported(harness, moment=moment) == file
    assert erase_user(harness.store, project.number, 1)
    for moment, file in seen.items():
        known = rows(file)
        del known["1"]
        assert rows(exported(harness, moment=moment)) == known


def test_an_erased_user_is_in_no_export_and_the_others_stay(harness: StoreHarness) -> None:
    project = shop(harness)
    before = rows(exported(harness))
    moment = harness.now
    change_everything(harness, project)
    assert erase_user(harness.store, project.number, 3)
    assert erase_user(harness.store, project.number, 6)
    file = exported(harness, moment=moment)
    assert rows(file) == {cuid: row for cuid, row in before.items() if cuid not in ("3", "6")}


def test_filters_masks_and_columns_apply_to_the_row_as_it_was(harness: StoreHarness) -> None:
    project = shop(harness)
    queries: list[dict[str, Any]] = [
        {"where": ["user_number_accumulate:eq:5"]},
        {"where": ["@version:ge:2", "user_list_append:contains:A"], "attributes": "@updated_at,user_list_append"},
        {"where": ["user_string_overwrite:unset"], "identifiers": "none", "attributes": "user_string_overwrite"},
        {"identifiers": "phone", "datetimes": "utc", "attributes": "user_datetime_overwrite"},
    ]
    seen = [exported(harness, **query) for query in queries]
    moment = harness.now
    change_everything(harness, project)
    assert [exported(harness, moment=moment, **query) for query in queries] == seen
    assert [exported(harness, **query) for query in queries] != seen


@pytest.mark.usefixtures("together")
def test_every_page_and_every_run_is_read_in_step(harness: StoreHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    for engine in ("sqlite", "postgres"):
        monkeypatch.setattr(f"usertable.store.{engine}.snapshot.SNAPSHOT_ROWS", 7)
    monkeypatch.setattr("usertable.files.as_of.RUN_BYTES", 4000)
    monkeypatch.setattr("usertable.files.as_of.PACK_BYTES", 300)
    project = shop(harness)
    cuids = [*range(100, 140)]
    imported(harness, project, *((cuid, (("phone", f"p{cuid}"),), "{}") for cuid in cuids))
    seen = {}
    for turn in range(6):
        harness.now += 10
        for cuid in cuids[turn % 3 :: 2]:
            send(harness, project, cuid, number_accumulate=cuid, string_overwrite=f"{turn}", list_append=[f"{turn}"])
        seen[harness.now] = exported(harness)
    for moment, file in seen.items():
        assert exported(harness, moment=moment) == file


@pytest.mark.usefixtures("together")
def test_a_parquet_that_is_written_again_begins_with_the_first_change_again(harness: StoreHarness) -> None:
    project = shop(harness)
    # Neither fits the first page's type.
    send(harness, project, 6, number_overwrite=10**30, number_once="0.5")
    file = exported(harness, "parquet")
    moment = harness.now
    change_everything(harness, project)
    assert exported(harness, "parquet", moment) == file


@pytest.mark.usefixtures("together")
def test_writes_that_go_on_meanwhile_change_nothing(harness: StoreHarness) -> None:
    project = shop(harness)
    file, moment = exported(harness), harness.now
    change_everything(harness, project)
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            for cuid in range(1, 7):
                send(harness, project, cuid, number_accumulate=1, list_append=[f"{harness.now}"])
                harness.now += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        found = [exported(harness, moment=moment) for _ in range(10)]
    finally:
        ended.set()
        writer.join()
    assert found == [file] * 10


def unrecorded(harness: StoreHarness, project: Project, cuid: int) -> None:
    """Write as a server without history does."""
    harness.write(replace(harness.prepare(project, cuid, {"user_number_accumulate": 1}), origin=None))


def test_an_export_across_unrecorded_writes_is_refused_and_says_from_when_it_is_possible(harness: StoreHarness) -> None:
    project = shop(harness)
    moment = harness.now
    harness.now += 10
    unrecorded(harness, project, 4)
    harness.now += 10
    unrecorded(harness, project, 5)
    last, file = harness.now, exported(harness)
    harness.now += 10
    send(harness, project, 5, number_accumulate=1)
    problem = refused(harness, moment).problems[0]
    assert problem.kind is ProblemKind.HISTORY_GAP
    assert problem.params == {"users": "2", "cuid": "4", "oldest": "2023-11-14T22:13:20.020Z"}
    assert harness.now - last == 10
    assert exported(harness, moment=last) == file
    assert refused(harness, last - 1).problems[0].params["users"] == "1"


def test_unrecorded_writes_between_recorded_ones_are_noticed(harness: StoreHarness) -> None:
    project = shop(harness)
    moment = harness.now
    harness.now += 10
    send(harness, project, 4, string_overwrite="new")
    harness.now += 10
    unrecorded(harness, project, 4)
    harness.now += 10
    send(harness, project, 4, string_overwrite="newer")
    problem = refused(harness, moment).problems[0]
    assert (problem.kind, problem.params["oldest"]) == (ProblemKind.HISTORY_GAP, "2023-11-14T22:13:20.020Z")


def test_a_change_that_the_search_for_blocks_did_not_reach_is_found_by_walking_back(
    harness: StoreHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after clocks were wrong by more than is expected."""
    monkeypatch.setattr("usertable.files.as_of.QUIET_BLOCKS", 1)
    monkeypatch.setattr("usertable.files.as_of.LATE_MS", -(10**9))
    project = shop(harness)
    file, moment = exported(harness), harness.now
    change_everything(harness, project)
    harness.now += 10**9
    send(harness, project, 1, number_accumulate=1)
    assert exported(harness, moment=moment) == file


def test_moments_that_history_does_not_reach_are_refused(harness: StoreHarness) -> None:
    project = shop(harness)
    since = harness.store.history_since(project.number)
    assert since is not None
    problem = refused(harness, since - 1).problems[0]
    assert (problem.kind, problem.params) == (ProblemKind.HISTORY_GONE, {"oldest": "2023-11-14T22:13:20.000Z"})
    edit_project(harness.store, "one", lambda p: replace(p, history=HistorySettings(days=0)), TESTER, harness.now)
    assert refused(harness, harness.now).problems[0].kind is ProblemKind.HISTORY_OFF


def without_history(harness: StoreHarness, name: str, since: int | None) -> Project:
    def edited(project: Project) -> Project:
        attributes = {**project.schema.attributes}
        attributes[name] = replace(attributes[name], history_since=since)
        return replace(project, schema=replace(project.schema, attributes=attributes))

    return edit_project(harness.store, "one", edited, TESTER, harness.now)


def test_an_attribute_without_history_is_an_empty_column_and_cannot_be_asked_for(harness: StoreHarness) -> None:
    project = shop(harness)
    project = without_history(harness, "user_string_overwrite", None)
    before, moment = rows(exported(harness)), harness.now
    harness.now += 10
    send(harness, project, 3, string_overwrite="other", number_accumulate=1)
    since = harness.now = harness.now + 10
    project = without_history(harness, "user_string_overwrite", since)
    known = exported(harness)
    harness.now += 10
    send(harness, project, 3, string_overwrite="a third")
    assert exported(harness, moment=since) == known
    assert rows(exported(harness, moment=moment)) == {
        cuid: {**row, "user_string_overwrite": ""} for cuid, row in before.items()
    }
    with harness.store.snapshot("one") as snapshot:
        with contextlib.closing(TableAsOf(snapshot, moment, ExportQuery())) as past:
            assert past.not_kept == ["user_string_overwrite"]
        with contextlib.closing(TableAsOf(snapshot, moment, ExportQuery(attributes="@version"))) as past:
            assert past.not_kept == []
    queries: list[dict[str, Any]] = [{"attributes": "user_string_overwrite"}, {"where": ["user_string_overwrite:set"]}]
    for query in queries:
        problem = refused(harness, moment, **query).problems[0]
        assert (problem.kind, problem.attribute) == (ProblemKind.ATTRIBUTE_NOT_KEPT, "user_string_overwrite")
        assert exported(harness, moment=since, **query) != b""


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("packed", [False, True])
def test_an_attribute_turned_on_again_by_a_clock_that_is_behind_is_an_empty_column_until_then(
    harness: StoreHarness, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = shop(harness)
    project = without_history(harness, "user_string_overwrite", None)
    harness.now += 1000
    send(harness, project, 3, string_overwrite="not recorded")
    behind = harness.now = harness.now - 500
    project = without_history(harness, "user_string_overwrite", behind)
    harness.now += 1000
    send(harness, project, 3, string_overwrite="recorded")
    if packed:
        monkeypatch.setattr("usertable.store.history.PACKED_CHANGES", 3)
        harness.now += 1000
        assert pack(harness, project)
    then = rows(exported(harness, moment=behind + 100))
    assert {row["user_string_overwrite"] for row in then.values()} == {""}
    with (
        harness.store.snapshot("one") as snapshot,
        contextlib.closing(TableAsOf(snapshot, behind + 100, ExportQuery())) as past,
    ):
        assert past.not_kept == ["user_string_overwrite"]
    problem = refused(harness, behind + 100, attributes="user_string_overwrite").problems[0]
    assert (problem.kind, problem.attribute) == (ProblemKind.ATTRIBUTE_NOT_KEPT, "user_string_overwrite")
    assert rows(exported(harness, moment=behind + 600))["3"]["user_string_overwrite"] == "not recorded"


def test_a_change_without_an_attribute_that_the_search_did_not_reach_is_refused(
    harness: StoreHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usertable.files.as_of.QUIET_BLOCKS", 1)
    monkeypatch.setattr("usertable.files.as_of.LATE_MS", -(10**9))
    project = shop(harness)
    project = without_history(harness, "user_string_overwrite", None)
    harness.now += 1000
    send(harness, project, 3, string_overwrite="not recorded")
    behind = harness.now = harness.now - 500
    project = without_history(harness, "user_string_overwrite", behind)
    problem = refused(harness, behind + 100).problems[0]
    assert (problem.kind, problem.params["oldest"]) == (ProblemKind.HISTORY_GAP, "2023-11-14T22:13:21.000Z")


def test_an_attribute_that_was_declared_later_is_an_empty_column(harness: StoreHarness) -> None:
    shop(harness)
    before, moment = rows(exported(harness)), harness.now
    harness.now += 10
    harness.service.declare_attribute("one", Attribute("later", DataType.STRING, Rule.OVERWRITE), actor=TESTER)
    harness.write(harness.prepare(harness.service.project("one"), 1, {"later": "x"}))
    assert rows(exported(harness, moment=moment)) == {cuid: {**row, "later": ""} for cuid, row in before.items()}


elements = st.lists(st.sampled_from("ABCDE"), min_size=1, max_size=3, unique=True)
values = st.fixed_dictionaries(
    {},
    optional={
        "number_overwrite": st.integers(-5, 5) | st.decimals(-3, 3, places=1).map(str),
        "number_accumulate": st.integers(-5, 5),
        "number_once": st.integers(-5, 5),
        "string_overwrite": st.sampled_from(["a", "b", '"']),
        "list_overwrite": elements,
        "list_append": elements,
    },
).filter(bool)
restored = st.fixed_dictionaries(
    {}, optional={"list_append": elements | st.just(ABSENT), "string_overwrite": st.sampled_from(["a", ABSENT])}
).filter(bool)
cuids = st.integers(1, 4)
Step = Callable[[StoreHarness, Project], object]
steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(lambda cuid, data: lambda h, p: send(h, p, cuid, **data), cuids, values),
    st.builds(lambda cuid, data: lambda h, p: restore(h, p, cuid, **data), cuids, restored),
    st.builds(
        lambda cuid, value: lambda h, p: imported(h, p, (cuid, (("device", value),), '{"user_number_accumulate":1}')),
        cuids | st.integers(10, 12),
        st.sampled_from("abc").map("device-{}".format),
    ),
    st.builds(
        lambda cuid, data: (
            lambda h, p: h.write(h.prepare(p, cuid, {f"user_{name}": value for name, value in data.items()}, actor="key:b"))
        ),
        cuids,
        values,
    ),
    st.builds(lambda value: lambda h, p: h.service.register(p, "phone", [value], actor=TESTER), st.sampled_from("rst")),
)


@given(
    st.lists(st.tuples(steps, st.integers(0, 2)), min_size=1, max_size=20),
    st.sampled_from([1, 10**8]),
    st.none() | st.integers(1, 20),
    st.sampled_from([1, 16]),
    st.sampled_from([1, 16]),
)
@settings(max_examples=150, deadline=None)
def test_every_moment_of_a_random_history_can_be_exported(
    history: list[tuple[Step, int]], run_bytes: int, packed: int | None, values: int, together: int
) -> None:
    harness = StoreHarness(MemoryStore())
    project = shop(harness)
    seen = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TableAsOf, "_alone", never)
        patch.setattr("usertable.files.as_of.RUN_BYTES", run_bytes)
        patch.setattr("usertable.files.as_of.TOGETHER", together)
        patch.setattr("usertable.store.history.PACKED_CHANGES", 4)
        patch.setattr("usertable.store.packing.MINIMUM_VALUES", values)
        for number, (step, pause) in enumerate(history, 1):
            harness.now += pause
            step(harness, project)
            seen[harness.now] = exported(harness, "ndjson")
            if number == packed:
                pack(harness, project)
        for moment, file in seen.items():
            assert exported(harness, "ndjson", moment) == file
