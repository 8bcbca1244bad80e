"""Writes: order, all or nothing, exactness, outdated schemas, dry runs."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from support.actors import TESTER
from support.commands import all_users
from support.store_harness import StoreHarness
from usertable.commands.write import WriteBatch
from usertable.domain.change import Decision
from usertable.domain.errors import ProblemKind
from usertable.domain.merge import Rules
from usertable.domain.patch import Patch, Restoration
from usertable.domain.profile import OTHER_ATTRIBUTES, Profile
from usertable.domain.schema import Attribute, Rule
from usertable.domain.values import DataType
from usertable.store.records import Refusal, SchemaStale, UserUnknown, Write, Written


def test_two_writes_to_one_user_in_one_call_see_each_other_in_order(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    results = harness.write(
        *(
            harness.prepare(project, cuid, {"user_list_append": [c], "user_number_accumulate": 1, "user_string_once": c})
            for c in "CAB"
        )
    )
    assert [r.version for r in results if isinstance(r, Written)] == [2, 3, 4]
    assert [r.outcomes["user_string_once"] for r in results if isinstance(r, Written)] == ["applied", "kept", "kept"]
    assert harness.attributes(project, cuid) == {
        "user_list_append": ["C", "A", "B"],
        "user_number_accumulate": 3,
        "user_string_once": "C",
    }


def test_a_refused_write_does_not_disturb_its_neighbours(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    big = 10**38 - 1
    first, second, third, fourth = harness.write(
        harness.prepare(project, cuid, {"user_number_accumulate": big}),
        harness.prepare(project, cuid, {"user_string_overwrite": "no", "user_number_accumulate": big}),
        harness.prepare(project, cuid + 1, {"user_string_overwrite": "no"}),
        harness.prepare(project, cuid, {"user_string_overwrite": "yes"}),
    )
    assert isinstance(first, Written)
    assert isinstance(second, Refusal)
    assert [p.kind for p in second.problems] == [ProblemKind.ACCUMULATE_RANGE]
    assert isinstance(third, UserUnknown)
    assert isinstance(fourth, Written)
    assert harness.attributes(project, cuid) == {"user_number_accumulate": big, "user_string_overwrite": "yes"}


def test_a_write_that_changes_nothing_leaves_version_and_time(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    harness.write(harness.prepare(project, cuid, {"user_string_overwrite": "a"}))
    before = harness.store.read(project.number, cuid)
    harness.now += 1000
    (result,) = harness.write(harness.prepare(project, cuid, {"user_string_overwrite": "a"}))
    assert isinstance(result, Written)
    assert (result.version, result.outcomes) == (2, {"user_string_overwrite": "unchanged"})
    assert harness.store.read(project.number, cuid) == before


def test_times_of_creation_and_change(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    created = harness.now
    harness.now += 5
    harness.write(harness.prepare(project, cuid, {"user_bool_once": 1}))
    user = harness.store.read(project.number, cuid)
    assert user is not None
    assert user.profile == Profile(2, created, created + 5, {"user_bool_once": True}, {OTHER_ATTRIBUTES: created + 5})


def test_when_each_attribute_last_changed(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    begin = harness.now
    for data in (
        {"user_string_once": "a", "user_number_accumulate": 1, "user_list_append": ["x"], "user_bool_overwrite": 1},
        # Kept, changed, unchanged, unchanged; and a new one.
        {"user_string_once": "b", "user_number_accumulate": 1, "user_list_append": ["x"], "user_bool_overwrite": 1},
        {"user_number_accumulate": 0, "user_list_append": ["y"], "user_string_overwrite": "c"},
        # Changes nothing.
        {"user_number_accumulate": 0, "user_string_overwrite": "c"},
    ):
        harness.now += 10
        harness.write(harness.prepare(project, cuid, data))
    user = harness.store.read(project.number, cuid)
    assert user is not None
    assert {name: at - begin for name in user.profile.attributes if (at := user.profile.changed(name))} == {
        "user_string_once": 10,
        "user_bool_overwrite": 10,
        "user_number_accumulate": 20,
        "user_list_append": 30,
        "user_string_overwrite": 30,
    }
    assert user.profile.updated_at - begin == 30


def test_a_dry_write_answers_and_keeps_nothing(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    dry_run, real = harness.write(
        harness.prepare(project, cuid, {"user_number_accumulate": 5}, dry_run=True),
        harness.prepare(project, cuid, {"user_number_accumulate": 1}),
    )
    assert isinstance(dry_run, Written)
    assert (dry_run.version, dry_run.attributes) == (2, {"user_number_accumulate": 5})
    assert isinstance(real, Written)
    assert (real.version, real.attributes) == (2, {"user_number_accumulate": 1})


def test_a_patch_of_an_older_schema_is_stale(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    old = harness.prepare(project, cuid, {"user_bool_once": 1})
    harness.service.declare_attribute("one", Attribute("more", DataType.STRING, Rule.ONCE), actor=TESTER)
    new = harness.prepare(harness.service.project("one"), cuid, {"user_string_once": "a"})
    stale, written = harness.write(old, new)
    assert isinstance(stale, SchemaStale)
    assert isinstance(written, Written)
    assert harness.attributes(project, cuid) == {"user_string_once": "a"}


@pytest.mark.parametrize(
    ("attribute", "sent", "kept"),
    [
        ("user_number_overwrite", Decimal("46.20"), Decimal("46.2")),
        ("user_number_overwrite", 10**30 + 1, 10**30 + 1),
        ("user_number_overwrite", -(10**38) + 1, -(10**38) + 1),
        ("user_number_overwrite", Decimal("0.00000000000000000000000000000000000001"), Decimal("1e-38")),
        ("user_number_overwrite", 2**63, 2**63),
        ("user_number_overwrite", 2**64 + 1, 2**64 + 1),
        (
            "user_string_overwrite",
            'quote " backslash \\ newline \n \x01 \U0001f600 e\u0301 é\u2028',
            'quote " backslash \\ newline \n \x01 \U0001f600 e\u0301 é\u2028',
        ),
        ("user_string_overwrite", "12", "12"),
        ("user_string_overwrite", "true", "true"),
        ("user_list_overwrite", ["1", "true", "null", "é", "e\u0301", " "], ["1", "true", "null", "é", "e\u0301", " "]),
        ("user_bool_overwrite", 0, False),
        ("user_datetime_overwrite", "0999-01-01 00:00:00", None),
    ],
)
def test_values_come_back_as_they_were_kept(harness: StoreHarness, attribute: str, sent: object, kept: object) -> None:
    project = harness.project()
    cuid = harness.user(project)
    write = harness.prepare(project, cuid, {attribute: sent})
    harness.write(write)
    found = harness.attributes(project, cuid)[attribute]
    wanted = write.patch.entries[0][1] if kept is None else kept
    assert (found, type(found)) == (wanted, type(wanted))


def test_a_tenth_ten_times_is_one(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    for _ in range(10):
        harness.write(harness.prepare(project, cuid, {"user_number_accumulate": Decimal("0.1")}))
    assert harness.attributes(project, cuid) == {"user_number_accumulate": 1}


def test_a_defect_in_a_rule_keeps_nothing_of_the_batch(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)

    class Broken(Rules):
        def __call__(self, profile: Profile, patch: Patch | Restoration, now: int) -> Decision:
            raise ZeroDivisionError

    write: Write = harness.prepare(project, cuid, {"user_bool_once": 1})
    failure: object
    try:
        (failure,) = harness.store.write([write], WriteBatch(Broken()))
    except ZeroDivisionError as raised:
        # An engine that splits batches returns the failure of a part as its results.
        failure = raised
    assert isinstance(failure, ZeroDivisionError)
    assert harness.attributes(project, cuid) == {}
    (result,) = harness.write(write)
    assert isinstance(result, Written)


def test_plain_writes_to_many_users_are_no_news_for_the_log(harness: StoreHarness, caplog: pytest.LogCaptureFixture) -> None:
    """A database that should merge them and cannot logs it."""
    project = harness.project()
    cuids = harness.service.register(project, "phone", [str(n) for n in range(20)], actor=TESTER)
    data = {"user_number_accumulate": 1, "user_list_append": ["a"], "user_string_overwrite": "x", "user_bool_once": 1}
    for _ in range(3):
        harness.write(*(replace(harness.prepare(project, cuid, data), details=False) for cuid in cuids))
    assert {harness.attributes(project, cuid)["user_number_accumulate"] for cuid in cuids} == {3}
    assert caplog.messages == []


def test_a_batch_over_projects_users_and_hundreds_of_rows(harness: StoreHarness) -> None:
    one, two = harness.project("one"), harness.project("two")
    values = [f"{n}" for n in range(300)]
    cuids = harness.service.register(one, "phone", values, actor=TESTER)
    assert harness.service.register(two, "phone", values, actor=TESTER) == cuids
    writes = [harness.prepare(p, c, {"user_number_overwrite": i}) for i, c in enumerate(cuids) for p in (one, two)]
    assert all(isinstance(r, Written) for r in harness.write(*writes))
    for project in (one, two):
        users = all_users(harness.store, project.number)
        assert [u.cuid for u in users] == cuids
        assert [u.profile.attributes["user_number_overwrite"] for u in users] == list(range(300))


def test_one_project_never_reaches_anothers_users(harness: StoreHarness) -> None:
    one, two = harness.project("one"), harness.project("two")
    cuid = harness.user(one)
    (result,) = harness.write(harness.prepare(two, cuid, {"user_bool_once": 1}))
    assert isinstance(result, UserUnknown)
    assert harness.store.read(two.number, cuid) is None
    assert harness.user(two, "other") == cuid
    harness.write(harness.prepare(two, cuid, {"user_bool_once": 1}))
    assert harness.attributes(one, cuid) == {}
