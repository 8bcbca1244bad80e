"""What an import promises of every store: rows merge as writes do, and become durable with the news of how far it came."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from house import House
from usertable.domain.errors import Kind, Refused
from usertable.domain.merge import decide
from usertable.domain.patch import Patch, validate
from usertable.domain.profile import Profile
from usertable.domain.schema import Identifier, Project
from usertable.store.base import Batch, Incoming, IncomingRows, JobMoved, SchemaStale, Taken
from usertable.store.document import encode_attributes


def row(project: Project, cuid: int | None, data: dict[str, object], *identifiers: tuple[str, str]) -> Incoming:
    patch = validate(project.schema, data, project.zone) if data else Patch([])
    assert isinstance(patch, Patch), patch
    return cuid, identifiers, encode_attributes({attribute.name: value for attribute, value in patch.entries})


def take(
    house: House, project: Project, *rows: Incoming, register: bool = True, before: str | None = None, dry: bool = False
) -> Taken:
    """Import rows as a job of their own."""
    names = frozenset(name for name in project.schema.attributes)
    job = "" if before is None else "job"
    batch = Batch(project.number, project.version, IncomingRows.of(rows), names, house.now, register, job, before, dry)
    if before is None:
        batch.before = house.store.job(project.number, job)
    result = house.store.take(batch, decide, lambda taken: "done")
    assert isinstance(result, Taken), result
    return result


def kinds(taken: Taken) -> list[tuple[int, list[Kind]]]:
    return [(place, [problem.kind for problem in problems]) for place, problems in taken.refused]


def test_rows_merge_as_writes_do(house: House) -> None:
    project = house.project()
    there = house.user(project)
    house.write(house.prepare(project, there, {"user_number_accumulate": 1, "user_list_append": ["a"]}))
    taken = take(
        house,
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
    assert house.attributes(project, there) == {
        "user_number_accumulate": Decimal("1.3"),
        "user_list_append": ["a", "b", "c"],
    }
    assert house.attributes(project, 7) == {"user_number_accumulate": 4, "user_number_once": 1}
    assert house.attributes(project, 8) == {"user_string_overwrite": 'a\\b\t"c"\n'}
    versions = {cuid: house.service.user(project, cuid).profile.version for cuid in (there, 7, 8)}
    assert versions == {there: 4, 7: 3, 8: 2}


def test_when_imported_values_last_changed(house: House) -> None:
    project = house.project()
    there = house.user(project)
    begin = house.now
    house.write(house.prepare(project, there, {"user_number_accumulate": 1, "user_string_once": "a"}))
    house.now += 10
    take(
        house,
        project,
        row(project, there, {"user_number_accumulate": 1, "user_string_once": "b", "user_bool_overwrite": 1}),
        row(project, 7, {"user_number_accumulate": 1}),
        row(project, 8, {"user_string_once": "a", "user_number_accumulate": 1}),
        row(project, 8, {"user_number_accumulate": 1}),
    )
    house.now += 10
    take(house, project, row(project, 7, {"user_number_accumulate": 0, "user_string_once": "b"}))
    changed = {
        cuid: {name: at - begin for name in profile.attributes if (at := profile.changed(name)) is not None}
        for cuid in (there, 7, 8)
        if (profile := house.service.user(project, cuid).profile)
    }
    assert changed == {
        there: {"user_number_accumulate": 10, "user_string_once": 0, "user_bool_overwrite": 10},
        7: {"user_number_accumulate": 10, "user_string_once": 20},
        8: {"user_number_accumulate": 10, "user_string_once": 10},
    }


def test_what_an_import_reported_cannot_be_deleted(house: House) -> None:
    project = house.project()
    take(house, project, row(project, 7, {"user_number_once": 1}), row(project, 8, {"user_bool_once": 1}))
    take(house, project, row(project, 8, {"user_string_once": "a"}))
    assert house.service.project("one").reported == {"user_number_once", "user_bool_once", "user_string_once"}


def test_a_refused_row_disturbs_no_other(house: House) -> None:
    project = house.project()
    there = house.user(project)
    house.store.erase(project.number, house.user(project, "gone"))
    most = "9" * 38
    taken = take(
        house,
        project,
        row(project, there, {"user_number_accumulate": most}),
        row(project, there, {"user_number_accumulate": most, "user_bool_overwrite": 1}),
        row(project, there + 1, {"user_bool_overwrite": 1}),
        row(project, there, {"user_number_accumulate": -1}),
    )
    assert kinds(taken) == [(1, [Kind.ACCUMULATE_RANGE]), (2, [Kind.CUID_ERASED])]
    assert (taken.created, taken.changed) == (0, 2)
    assert house.attributes(project, there) == {"user_number_accumulate": int(most) - 1}


def test_without_register_nobody_is_made(house: House) -> None:
    project = house.project()
    there = house.user(project, "a")
    taken = take(
        house,
        project,
        row(project, 7, {"user_bool_once": 1}),
        row(project, None, {"user_bool_once": 1}, ("phone", "b")),
        row(project, None, {"user_bool_once": 1}, ("phone", "a")),
        row(project, there, {"user_bool_once": 0}, ("phone", "c")),
        register=False,
    )
    assert kinds(taken) == [(0, [Kind.CUID_UNKNOWN]), (1, [Kind.CUID_UNKNOWN]), (3, [Kind.CUID_UNKNOWN])]
    assert house.attributes(project, there) == {"user_bool_once": True}
    assert house.store.resolve_identifiers(project.number, "phone", ["c"]) == {}
    assert house.user(project, "next") == there + 1


def test_identifiers_find_users_or_make_them(house: House) -> None:
    house.project()
    house.service.declare_identifier("one", Identifier("mail"), who="test")
    house.service.declare_identifier("one", Identifier("device", unique=False), who="test")
    project = house.service.project("one")
    there = house.user(project, "a")
    taken = take(
        house,
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
        (3, [Kind.IDENTIFIER_NOT_FIRST]),
        (4, [Kind.IDENTIFIER_TAKEN]),
        (5, [Kind.IDENTIFIER_FULL]),
        (9, [Kind.IDENTIFIER_FULL]),
    ]
    new = house.service.find_user(project, "mail", "n@x")
    assert new.cuid == there + 1
    assert new.identifiers == {"phone": ["new"], "mail": ["n@x"], "device": ["d1", "d2"]}
    assert new.profile.attributes == {"user_number_accumulate": 10}
    assert house.service.find_user(project, "mail", "a@x").profile.attributes == {"user_number_accumulate": 3}
    assert house.service.find_user(project, "phone", "own").cuid == 55
    assert house.service.find_user(project, "phone", "last").cuid == there + 2
    assert house.service.register(project, "phone", ["next"]) == [there + 3]


def test_imported_cuids_move_the_counter(house: House) -> None:
    project = house.project()
    take(house, project, row(project, 20_000_000, {}), row(project, 2**60, {}))
    assert house.user(project) == 20_000_001


def test_a_batch_is_taken_once(house: House) -> None:
    project = house.project()
    rows = IncomingRows.of([row(project, 7, {"user_number_accumulate": 1})])
    batch = Batch(project.number, project.version, rows, frozenset({"user_number_accumulate"}), house.now, True, "job")
    seen: list[Taken] = []

    def note(taken: Taken) -> str:
        seen.append(taken)
        return f"state {len(seen)}"

    assert house.store.job(project.number, "job") is None
    assert isinstance(house.store.take(batch, decide, note), Taken)
    assert house.store.job(project.number, "job") == "state 1"
    assert house.store.take(batch, decide, note) == JobMoved("state 1")
    assert house.attributes(project, 7) == {"user_number_accumulate": 1}
    batch.before = "state 1"
    assert isinstance(house.store.take(batch, decide, note), Taken)
    assert house.store.take(batch, decide, note) == JobMoved("state 2")
    assert house.attributes(project, 7) == {"user_number_accumulate": 2}


def test_what_raises_before_the_commit_keeps_nothing(house: House) -> None:
    project = house.project()
    batch = Batch(
        project.number,
        project.version,
        IncomingRows.of([row(project, 7, {"user_bool_once": 1}, ("phone", "a"))]),
        frozenset({"user_bool_once"}),
        house.now,
        True,
        "job",
    )

    def note(taken: Taken) -> str:
        raise OSError("no space for the refused rows")

    with pytest.raises(OSError, match="no space"):
        house.store.take(batch, decide, note)
    assert house.store.job(project.number, "job") is None
    assert house.store.read(project.number, 7) is None
    assert house.store.resolve_identifiers(project.number, "phone", ["a"]) == {}
    assert house.service.project("one").reported == frozenset()


def test_a_stale_schema_is_told(house: House) -> None:
    project = house.project()
    house.service.edit_attribute("one", "user_bool_once", hidden=True, who="test")
    batch = Batch(project.number, project.version, IncomingRows.of([row(project, 7, {})]), frozenset(), house.now, True)
    assert house.store.take(batch, decide, lambda taken: "") == SchemaStale()
    assert house.store.read(project.number, 7) is None


def test_a_dry_batch_shows_and_keeps_nothing(house: House) -> None:
    project = house.project()
    there = house.user(project)
    taken = take(
        house,
        project,
        row(project, there, {"user_number_accumulate": 1}),
        row(project, there, {"user_number_accumulate": 1}),
        row(project, 7, {"user_bool_once": 1}),
        row(project, None, {}, ("phone", "new")),
        dry=True,
    )
    assert taken.shown == [
        (there, {"user_number_accumulate": 1}),
        (there, {"user_number_accumulate": 2}),
        (7, {"user_bool_once": True}),
        (there + 1, {}),
    ]
    assert house.attributes(project, there) == {}
    assert house.store.read(project.number, 7) is None
    assert house.store.job(project.number, "") is None
    assert house.user(project, "next") == there + 1


def test_a_snapshot_is_of_one_moment(house: House) -> None:
    project = house.project()
    cuids = house.service.register(project, "phone", ["a", "b", "c"])
    house.write(house.prepare(project, cuids[0], {"user_number_overwrite": "46.20", "user_string_once": "é"}))
    with house.store.snapshot("one") as snapshot:
        first = snapshot.count()
        house.write(house.prepare(project, cuids[0], {"user_number_overwrite": 1}))
        house.user(project, "d")
        house.store.erase(project.number, cuids[1])
        house.service.declare_identifier("one", Identifier("mail"), who="test")
        rows = [row for page in snapshot.pages() for row in page]
        assert first == snapshot.count() == 3
        assert snapshot.project == replace_sets(project, house)
    assert [(cuid, dict(values)) for cuid, _, values in rows] == [
        (cuids[0], {"phone": ["a"]}),
        (cuids[1], {"phone": ["b"]}),
        (cuids[2], {"phone": ["c"]}),
    ]
    assert b"46.2" in rows[0][1]
    with pytest.raises(Refused), house.store.snapshot("none"):
        pass


def replace_sets(project: Project, house: House) -> Project:
    """The project as it was after its first values."""
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
    """The law that lets an import keep the text of a new user's row."""
    from usertable.store.memory import MemoryStore

    project = House(MemoryStore()).project()
    patch = validate(project.schema, data.draw(data_of(list(project.schema.attributes))), project.zone)
    if not isinstance(patch, Patch):
        return
    decision = decide(Profile.new(5), patch, 5)
    values = {attribute.name: value for attribute, value in patch.entries}
    assert (decision.problems, decision.profile.attributes) == ([], values)
    assert decision.profile.version == (2 if values else 1)


def test_a_long_random_import_comes_to_the_reference_sum(house: House) -> None:
    project = house.project()
    chance = random.Random(5)
    sums: dict[int, Decimal] = {}
    for _ in range(6):
        rows = []
        for _ in range(300):
            cuid, amount = chance.randrange(1, 200), Decimal(chance.randrange(-1000, 1000)) / 100
            sums[cuid] = sums.get(cuid, Decimal(0)) + amount
            rows.append(row(project, cuid, {"user_number_accumulate": amount}))
        assert take(house, project, *rows).refused == []
    for cuid, total in sums.items():
        assert house.attributes(project, cuid) == {"user_number_accumulate": total}
