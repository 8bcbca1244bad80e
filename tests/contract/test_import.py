"""What an import promises for every store: rows merge like writes, and become durable together with the progress."""

from __future__ import annotations

import itertools
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.actors import TESTER
from support.commands import all_users, erase_user, import_batch
from support.histories import user_and_changes
from support.store_harness import StoreHarness
from usertable.domain.change import Origin
from usertable.domain.errors import ProblemKind, Refused
from usertable.domain.merge import decide
from usertable.domain.patch import Patch, validate
from usertable.domain.profile import Effect, Outcome, Profile
from usertable.domain.schema import Identifier, Project
from usertable.store.encoding import encode_attributes
from usertable.store.records import (
    ImportBatch,
    ImportResult,
    ImportRow,
    ImportRows,
    JobMoved,
    KeyReused,
    Receipt,
    Refusal,
    Replayed,
    Result,
    SchemaStale,
    Written,
)


def row(project: Project, cuid: int | None, data: dict[str, object], *identifiers: tuple[str, str]) -> ImportRow:
    patch = validate(project.schema, data, project.zone) if data else Patch([])
    assert isinstance(patch, Patch), patch
    return cuid, identifiers, encode_attributes({attribute.name: value for attribute, value in patch.entries})


def take(
    harness: StoreHarness,
    project: Project,
    *rows: ImportRow,
    register: bool = True,
    before: str | None = None,
    dry_run: bool = False,
) -> ImportResult:
    """Import rows as a job of their own."""
    names = frozenset(name for name in project.schema.attributes)
    job = "" if before is None else "job"
    batch = ImportBatch(
        project.number, project.version, ImportRows.of(rows), names, harness.now, register, job, before, dry_run
    )
    if before is None:
        batch.before = harness.store.job(project.number, job)
    result = import_batch(harness.store, batch, decide, lambda taken: "done")
    assert isinstance(result, ImportResult), result
    return result


def tell(
    harness: StoreHarness,
    project: Project,
    *rows: tuple[ImportRow, str],
    register: bool = True,
    dry_run: bool = False,
    body: bytes = b"same",
) -> list[tuple[int | None, Result]]:
    """Import rows that are answered one by one, each with a key, or without one if it is empty."""
    receipts = [Receipt(key, body) if key else None for _, key in rows]
    names = frozenset(project.schema.attributes)
    incoming = ImportRows.of(row for row, _ in rows)
    batch = ImportBatch(
        project.number,
        project.version,
        incoming,
        names,
        harness.now,
        register,
        "job",
        "a state",
        dry_run=dry_run,
        receipts=receipts,
    )
    result = import_batch(harness.store, batch, decide)
    assert isinstance(result, ImportResult), result
    return result.row_results


def kinds(taken: ImportResult) -> list[tuple[int, list[ProblemKind]]]:
    return [(place, [problem.kind for problem in problems]) for place, problems in taken.refused]


def test_what_a_row_says_after_a_dry_run_of_it_is_recorded(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    batch = ImportBatch(
        project.number,
        project.version,
        ImportRows.of([row(project, cuid, {})]),
        frozenset(),
        harness.now,
        origin=Origin("import:job"),
    )
    import_batch(harness.store, replace(batch, dry_run=True))
    assert len(user_and_changes(harness.store, project.number, cuid)[1]) == 1
    import_batch(harness.store, batch)
    # The job is another actor than the one of the values so far.
    assert len(user_and_changes(harness.store, project.number, cuid)[1]) == 2


def test_rows_merge_as_writes_do(harness: StoreHarness) -> None:
    project = harness.project()
    there = harness.user(project)
    harness.write(harness.prepare(project, there, {"user_number_accumulate": 1, "user_list_append": ["a"]}))
    taken = take(
        harness,
        project,
        row(project, there, {"user_number_accumulate": "0.1", "user_list_append": ["b"]}),
        row(project, 7, {"user_number_accumulate": 5, "user_number_once": 1}),
        row(project, there, {"user_number_accumulate": "0.2", "user_list_append": ["a", "c"]}),
        row(project, 7, {"user_number_accumulate": -1, "user_number_once": 2}),
        row(project, 8, {}),
        row(project, 8, {"user_string_overwrite": 'a\\b\t"c"\n'}),
        row(project, there, {"user_list_append": ["a"]}),
    )
    assert (taken.created, taken.changed, taken.unchanged, taken.refused) == (2, 4, 1, [])
    assert harness.attributes(project, there) == {
        "user_number_accumulate": Decimal("1.3"),
        "user_list_append": ["a", "b", "c"],
    }
    assert harness.attributes(project, 7) == {"user_number_accumulate": 4, "user_number_once": 1}
    assert harness.attributes(project, 8) == {"user_string_overwrite": 'a\\b\t"c"\n'}
    versions = {cuid: harness.service.user(project, cuid).profile.version for cuid in (there, 7, 8)}
    assert versions == {there: 4, 7: 3, 8: 2}


def test_when_imported_values_last_changed(harness: StoreHarness) -> None:
    project = harness.project()
    there = harness.user(project)
    begin = harness.now
    harness.write(harness.prepare(project, there, {"user_number_accumulate": 1, "user_string_once": "a"}))
    harness.now += 10
    take(
        harness,
        project,
        row(project, there, {"user_number_accumulate": 1, "user_string_once": "b", "user_bool_overwrite": 1}),
        row(project, 7, {"user_number_accumulate": 1}),
        row(project, 8, {"user_string_once": "a", "user_number_accumulate": 1}),
        row(project, 8, {"user_number_accumulate": 1}),
    )
    harness.now += 10
    take(harness, project, row(project, 7, {"user_number_accumulate": 0, "user_string_once": "b"}))
    changed = {
        cuid: {name: at - begin for name in profile.attributes if (at := profile.changed(name)) is not None}
        for cuid in (there, 7, 8)
        if (profile := harness.service.user(project, cuid).profile)
    }
    assert changed == {
        there: {"user_number_accumulate": 10, "user_string_once": 0, "user_bool_overwrite": 10},
        7: {"user_number_accumulate": 10, "user_string_once": 20},
        8: {"user_number_accumulate": 10, "user_string_once": 10},
    }


def test_what_an_import_reported_cannot_be_deleted(harness: StoreHarness) -> None:
    project = harness.project()
    take(harness, project, row(project, 7, {"user_number_once": 1}), row(project, 8, {"user_bool_once": 1}))
    take(harness, project, row(project, 8, {"user_string_once": "a"}))
    assert harness.service.project("one").reported == {"user_number_once", "user_bool_once", "user_string_once"}


def test_a_refused_row_disturbs_no_other(harness: StoreHarness) -> None:
    project = harness.project()
    there = harness.user(project)
    erase_user(harness.store, project.number, harness.user(project, "gone"))
    most = "9" * 38
    taken = take(
        harness,
        project,
        row(project, there, {"user_number_accumulate": most}),
        row(project, there, {"user_number_accumulate": most, "user_bool_overwrite": 1}),
        row(project, there + 1, {"user_bool_overwrite": 1}),
        row(project, there, {"user_number_accumulate": -1}),
    )
    assert kinds(taken) == [(1, [ProblemKind.ACCUMULATE_RANGE]), (2, [ProblemKind.CUID_ERASED])]
    assert (taken.created, taken.changed) == (0, 2)
    assert harness.attributes(project, there) == {"user_number_accumulate": int(most) - 1}


def test_without_register_nobody_is_made(harness: StoreHarness) -> None:
    project = harness.project()
    there = harness.user(project, "a")
    taken = take(
        harness,
        project,
        row(project, 7, {"user_bool_once": 1}),
        row(project, None, {"user_bool_once": 1}, ("phone", "b")),
        row(project, None, {"user_bool_once": 1}, ("phone", "a")),
        row(project, there, {"user_bool_once": 0}, ("phone", "c")),
        register=False,
    )
    assert kinds(taken) == [
        (0, [ProblemKind.CUID_UNKNOWN]),
        (1, [ProblemKind.CUID_UNKNOWN]),
        (3, [ProblemKind.CUID_UNKNOWN]),
    ]
    assert harness.attributes(project, there) == {"user_bool_once": True}
    assert harness.store.resolve_identifiers(project.number, "phone", ["c"]) == {}
    assert harness.user(project, "next") == there + 1


def test_identifiers_find_users_or_make_them(harness: StoreHarness) -> None:
    harness.project()
    harness.service.declare_identifier("one", Identifier("mail"), actor=TESTER)
    harness.service.declare_identifier("one", Identifier("device", unique=False), actor=TESTER)
    project = harness.service.project("one")
    there = harness.user(project, "a")
    taken = take(
        harness,
        project,
        row(project, None, {"user_number_accumulate": 1}, ("phone", "new"), ("mail", "n@x")),
        row(project, None, {"user_number_accumulate": 2}, ("mail", "n@x"), ("device", "d1"), ("device", "d2")),
        row(project, None, {"user_number_accumulate": 3}, ("phone", "a"), ("mail", "a@x")),
        row(project, None, {"user_number_accumulate": 4}, ("mail", "nobody")),
        row(project, there, {"user_number_accumulate": 5}, ("mail", "n@x")),
        row(project, there, {"user_number_accumulate": 6}, ("mail", "second@x")),
        row(project, there + 1, {"user_number_accumulate": 7}, ("device", "d2")),
        row(project, 55, {"user_number_accumulate": 8}, ("phone", "own")),
        row(project, None, {"user_number_accumulate": 9}, ("phone", "last")),
        row(project, there, {}, *(("device", f"e{n}") for n in range(11))),
    )
    assert kinds(taken) == [
        (3, [ProblemKind.IDENTIFIER_NOT_FIRST]),
        (4, [ProblemKind.IDENTIFIER_TAKEN]),
        (5, [ProblemKind.IDENTIFIER_FULL]),
        (9, [ProblemKind.IDENTIFIER_FULL]),
    ]
    new = harness.service.find_user(project, "mail", "n@x")
    assert new.cuid == there + 1
    assert new.identifiers == {"phone": ["new"], "mail": ["n@x"], "device": ["d1", "d2"]}
    assert new.profile.attributes == {"user_number_accumulate": 10}
    assert harness.service.find_user(project, "mail", "a@x").profile.attributes == {"user_number_accumulate": 3}
    assert harness.service.find_user(project, "phone", "own").cuid == 55
    assert harness.service.find_user(project, "phone", "last").cuid == there + 2
    assert harness.service.register(project, "phone", ["next"], actor=TESTER) == [there + 3]


def test_imported_cuids_move_the_counter(harness: StoreHarness) -> None:
    project = harness.project()
    take(harness, project, row(project, 20_000_000, {}), row(project, 2**60, {}))
    assert harness.user(project) == 20_000_001


def test_a_batch_is_taken_once(harness: StoreHarness) -> None:
    project = harness.project()
    rows = ImportRows.of([row(project, 7, {"user_number_accumulate": 1})])
    batch = ImportBatch(
        project.number, project.version, rows, frozenset({"user_number_accumulate"}), harness.now, True, "job"
    )
    seen: list[ImportResult] = []

    def note(taken: ImportResult) -> str:
        seen.append(taken)
        return f"state {len(seen)}"

    assert harness.store.job(project.number, "job") is None
    assert isinstance(import_batch(harness.store, batch, decide, note), ImportResult)
    assert harness.store.job(project.number, "job") == "state 1"
    assert import_batch(harness.store, batch, decide, note) == JobMoved("state 1")
    assert harness.attributes(project, 7) == {"user_number_accumulate": 1}
    batch.before = "state 1"
    assert isinstance(import_batch(harness.store, batch, decide, note), ImportResult)
    assert import_batch(harness.store, batch, decide, note) == JobMoved("state 2")
    assert harness.attributes(project, 7) == {"user_number_accumulate": 2}


def in_short(told: list[tuple[int | None, Result]]) -> list[object]:
    """Return CUID and effect of imported rows, `again` for a replay; for refused rows the kinds of problems."""
    found: list[object] = []
    for cuid, result in told:
        if isinstance(result, Written):
            found.append((cuid, result.effect))
        elif isinstance(result, Replayed):
            found.append((cuid, result.written.effect, "again"))
        elif isinstance(result, Refusal):
            found.append([problem.kind for problem in result.problems])
        else:
            found.append(result)
    return found


def test_a_row_with_a_key_is_taken_once(harness: StoreHarness) -> None:
    harness.project()
    harness.service.declare_identifier("one", Identifier("device", unique=False), actor=TESTER)
    project = harness.service.project("one")
    there = harness.user(project, "a")
    rows = [
        (row(project, 7, {"user_number_accumulate": 1}, ("phone", "own")), "k1"),
        (row(project, None, {"user_number_accumulate": 1}, ("phone", "new"), ("device", "d1"), ("device", "d2")), "k2"),
        (row(project, None, {"user_number_accumulate": 1}, ("device", "d2")), "k3"),
        (row(project, there, {"user_number_accumulate": 1}, ("phone", "own")), "k4"),
        (row(project, there, {}, ("device", "d3")), "k5"),
        (row(project, there, {}), "k6"),
        (row(project, 7, {"user_number_accumulate": 1}, ("phone", "own")), "k1"),
        (row(project, 7, {"user_number_accumulate": 1}), ""),
    ]
    first = [
        (7, Effect.CREATED),
        (there + 1, Effect.CREATED),
        (there + 1, Effect.CHANGED),
        [ProblemKind.IDENTIFIER_TAKEN],
        (there, Effect.CHANGED),
        (there, Effect.UNCHANGED),
    ]
    assert in_short(tell(harness, project, *rows)) == [*first, (7, Effect.CREATED, "again"), (7, Effect.CHANGED)]
    # No job state is read or stored.
    assert harness.store.job(project.number, "job") is None
    again = tell(harness, project, *rows[:-1])
    assert in_short(again) == [
        *((*done, "again") if isinstance(done, tuple) else done for done in first),
        (7, Effect.CREATED, "again"),
    ]
    assert isinstance(again[0][1], Replayed)
    assert again[0][1].written == Written(2, {"user_number_accumulate": Outcome.APPLIED}, None, Effect.CREATED)
    assert [result for _, result in tell(harness, project, rows[1], body=b"other")] == [KeyReused()]
    assert harness.attributes(project, 7) == {"user_number_accumulate": 2}
    assert harness.attributes(project, there + 1) == {"user_number_accumulate": 2}
    # A key is the same key in a single write.
    write = harness.prepare(project, 7, {"user_number_accumulate": 1}, "k3", body=b"same")
    assert isinstance(harness.write(write)[0], Replayed)
    harness.now += 1000
    assert harness.store.expire_receipts(harness.now) == 5
    assert in_short(tell(harness, project, rows[0])) == [(7, Effect.CHANGED)]


def test_a_dry_row_is_decided_and_keeps_no_key(harness: StoreHarness) -> None:
    project = harness.project()
    rows = [
        (row(project, None, {"user_number_accumulate": 1}, ("phone", "new")), "k1"),
        (row(project, 7, {"user_number_accumulate": 1}), "k2"),
    ]
    twice = (row(project, None, {"user_number_accumulate": 1}, ("phone", "new")), "k3")
    dry_run = tell(harness, project, *rows, twice, dry_run=True)
    assert in_short(dry_run) == [(None, Effect.CREATED), (7, Effect.CREATED), (None, Effect.CHANGED)]
    assert all_users(harness.store, project.number) == []
    unknown = tell(harness, project, *rows, register=False)
    assert in_short(unknown) == [[ProblemKind.CUID_UNKNOWN], [ProblemKind.CUID_UNKNOWN]]
    made = tell(harness, project, *rows)
    assert in_short(made) == [(made[0][0], Effect.CREATED), (7, Effect.CREATED)]


@pytest.mark.parametrize("register", [True, False])
def test_rows_that_come_twice_at_the_same_time_count_once(harness: StoreHarness, register: bool) -> None:
    project = harness.project()
    cuids = [harness.user(project, str(n)) for n in range(20)]
    rows = [(row(project, cuid, {"user_number_accumulate": 1}), f"k{cuid}") for cuid in cuids]
    if register:
        new = [(row(project, None, {"user_number_accumulate": 1}, ("phone", f"new {n}")), f"n{n}") for n in range(20)]
        rows = [pair for pairs in zip(rows, new, strict=True) for pair in pairs]

    def send(turn: int) -> list[tuple[int | None, Result]]:
        ordered = rows if turn % 2 else list(reversed(rows))
        told = tell(harness, project, *ordered, register=register)
        return told if turn % 2 else list(reversed(told))

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(send, range(4)))
    first = next(answer for answer in answers if isinstance(answer[0][1], Written))
    for answer in answers:
        assert [cuid for cuid, _ in answer] == [cuid for cuid, _ in first]
        again = [result.written if isinstance(result, Replayed) else result for _, result in answer]
        assert again == [result for _, result in first]
    assert sum(isinstance(result, Written) for answer in answers for _, result in answer) == len(rows)
    users = all_users(harness.store, project.number)
    assert len(users) == len(rows)
    assert {user.profile.attributes["user_number_accumulate"] for user in users} == {1}


def test_rows_come_to_the_same_with_a_job_and_with_keys(harness: StoreHarness) -> None:
    """Both ways give the same result: what is refused, what is counted, what is stored."""
    harness.project()
    harness.project("two")
    chance = random.Random(8)
    projects = []
    for name in ("one", "two"):
        harness.service.declare_identifier(name, Identifier("device", unique=False), actor=TESTER)
        projects.append(harness.service.project(name))
    first, second = projects
    key = itertools.count()
    for register in (True, True, False):
        rows = []
        for _ in range(150):
            cuid = chance.choice([None, *range(1, 30)])
            pairs = [("phone", f"p{chance.randrange(40)}")] if chance.random() < 0.5 or cuid is None else []
            pairs += [("device", f"d{chance.randrange(60)}") for _ in range(chance.choice([0, 0, 1, 2]))]
            data: dict[str, object] = {"user_number_accumulate": chance.choice([1, "0.5", 0])}
            data |= {"user_list_append": [str(chance.randrange(9))], "user_string_once": "x"}
            rows.append(row(first, cuid, data if chance.random() < 0.9 else {}, *dict.fromkeys(pairs)))
        taken = take(harness, first, *rows, register=register)
        told = tell(harness, second, *((one, f"k{next(key)}") for one in rows), register=register)
        effects = [result.effect for _, result in told if isinstance(result, Written)]
        assert (taken.created, taken.changed, taken.unchanged) == tuple(effects.count(effect) for effect in Effect)
        assert taken.refused == [(n, result.problems) for n, (_, result) in enumerate(told) if isinstance(result, Refusal)]
        assert taken.refused
        assert effects
    tables = [all_users(harness.store, project.number) for project in projects]
    assert tables[0] == tables[1]
    assert harness.service.project("one").reported == harness.service.project("two").reported
    assert harness.user(first, "next") == harness.user(second, "next")


def test_what_raises_before_the_commit_keeps_nothing(harness: StoreHarness) -> None:
    project = harness.project()
    batch = ImportBatch(
        project.number,
        project.version,
        ImportRows.of([row(project, 7, {"user_bool_once": 1}, ("phone", "a"))]),
        frozenset({"user_bool_once"}),
        harness.now,
        True,
        "job",
    )

    def note(taken: ImportResult) -> str:
        raise OSError("no space for the refused rows")

    with pytest.raises(OSError, match="no space"):
        import_batch(harness.store, batch, decide, note)
    assert harness.store.job(project.number, "job") is None
    assert harness.store.read(project.number, 7) is None
    assert harness.store.resolve_identifiers(project.number, "phone", ["a"]) == {}
    assert harness.service.project("one").reported == frozenset()


def test_a_stale_schema_is_told(harness: StoreHarness) -> None:
    project = harness.project()
    harness.service.edit_attribute("one", "user_bool_once", hidden=True, actor=TESTER)
    batch = ImportBatch(
        project.number, project.version, ImportRows.of([row(project, 7, {})]), frozenset(), harness.now, True
    )
    assert import_batch(harness.store, batch, decide, lambda taken: "") == SchemaStale()
    assert harness.store.read(project.number, 7) is None


def test_a_dry_batch_shows_and_keeps_nothing(harness: StoreHarness) -> None:
    project = harness.project()
    there = harness.user(project)
    taken = take(
        harness,
        project,
        row(project, there, {"user_number_accumulate": 1}),
        row(project, there, {"user_number_accumulate": 1}),
        row(project, 7, {"user_bool_once": 1}),
        row(project, None, {}, ("phone", "new")),
        dry_run=True,
    )
    assert taken.previews == [
        (there, {"user_number_accumulate": 1}),
        (there, {"user_number_accumulate": 2}),
        (7, {"user_bool_once": True}),
        (there + 1, {}),
    ]
    assert harness.attributes(project, there) == {}
    assert harness.store.read(project.number, 7) is None
    assert harness.store.job(project.number, "") is None
    assert harness.user(project, "next") == there + 1


def test_a_snapshot_is_of_one_moment(harness: StoreHarness) -> None:
    project = harness.project()
    cuids = harness.service.register(project, "phone", ["a", "b", "c"], actor=TESTER)
    harness.write(harness.prepare(project, cuids[0], {"user_number_overwrite": "46.20", "user_string_once": "é"}))
    with harness.store.snapshot("one") as snapshot:
        first = snapshot.count()
        harness.write(harness.prepare(project, cuids[0], {"user_number_overwrite": 1}))
        harness.user(project, "d")
        erase_user(harness.store, project.number, cuids[1])
        harness.service.declare_identifier("one", Identifier("mail"), actor=TESTER)
        rows = [row for page in snapshot.pages() for row in page]
        assert first == snapshot.count() == 3
        assert snapshot.project == replace_sets(project, harness)
    assert [(cuid, dict(values)) for cuid, _, values in rows] == [
        (cuids[0], {"phone": ["a"]}),
        (cuids[1], {"phone": ["b"]}),
        (cuids[2], {"phone": ["c"]}),
    ]
    assert b"46.2" in rows[0][1]
    with pytest.raises(Refused), harness.store.snapshot("none"):
        pass


def replace_sets(project: Project, harness: StoreHarness) -> Project:
    """Return the project as it was after its first values."""
    from dataclasses import replace

    return replace(
        project, reported=frozenset({"user_number_overwrite", "user_string_once"}), identifying=frozenset({"phone"})
    )


VALUES: dict[str, st.SearchStrategy[object]] = {
    "number": st.integers(-(10**38) + 1, 10**38 - 1) | st.decimals(-100, 100, places=3),
    "string": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20),
    "bool": st.integers(0, 1),
    "datetime": st.datetimes().map(lambda moment: f"{moment.year:04}-{moment:%m-%d} 12:%M:%S"),
    "list": st.lists(st.text("abc", max_size=2), min_size=1, max_size=5),
}


@st.composite
def data_of(draw: st.DrawFn, names: list[str]) -> dict[str, object]:
    chosen = draw(st.lists(st.sampled_from(names), unique=True, max_size=6))
    return {name: draw(VALUES[name.split("_")[1]]) for name in chosen}


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_new_user_takes_its_first_values_as_they_are(data: st.DataObject) -> None:
    """The law that lets an import store the text of a new user's row unchanged."""
    from usertable.store.memory import MemoryStore

    project = StoreHarness(MemoryStore()).project()
    patch = validate(project.schema, data.draw(data_of(list(project.schema.attributes))), project.zone)
    if not isinstance(patch, Patch):
        return
    decision = decide(Profile.new(5), patch, 5)
    values = {attribute.name: value for attribute, value in patch.entries}
    assert (decision.problems, decision.profile.attributes) == ([], values)
    assert decision.profile.version == (2 if values else 1)


def test_a_long_random_import_comes_to_the_reference_sum(harness: StoreHarness) -> None:
    project = harness.project()
    chance = random.Random(5)
    sums: dict[int, Decimal] = {}
    for _ in range(6):
        rows = []
        for _ in range(300):
            cuid, amount = chance.randrange(1, 200), Decimal(chance.randrange(-1000, 1000)) / 100
            sums[cuid] = sums.get(cuid, Decimal(0)) + amount
            rows.append(row(project, cuid, {"user_number_accumulate": amount}))
        assert take(harness, project, *rows).refused == []
    for cuid, total in sums.items():
        assert harness.attributes(project, cuid) == {"user_number_accumulate": total}


@pytest.mark.parametrize("job", ["a\tb", "a\nb", "a\\.", "\\N", "/data/a folder/with\ta tab.csv"])
def test_the_name_of_an_import_may_contain_tabs_and_backslashes(job: str, harness: StoreHarness) -> None:
    project = harness.project()
    rows = ImportRows.of([(5, (), '{"user_string_once":"x"}')])
    names = frozenset({"user_string_once"})
    origin = Origin(f"import:{job}")
    batch = ImportBatch(project.number, project.version, rows, names, harness.now, True, job, origin=origin)
    result = import_batch(harness.store, batch, note=lambda _: "done")
    assert isinstance(result, ImportResult)
    assert result.created == 1
    assert harness.attributes(project, 5) == {"user_string_once": "x"}
    (change,) = user_and_changes(harness.store, project.number, 5)[1]
    assert change.origin.actor == origin.actor
