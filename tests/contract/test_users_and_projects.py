"""Registering, importing, erasing and paging users; projects and their change log."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from support.actors import TESTER
from support.commands import all_users, edit_project
from support.store_harness import StoreHarness
from usertable.app.secrets import public_id
from usertable.domain.actor import Actor
from usertable.domain.audit import AuditEvent, AuditKind
from usertable.domain.errors import ProblemKind, ProjectChanged, Refused
from usertable.domain.key import DEFAULT_KEY
from usertable.domain.schema import Attribute, Identifier, Project, Rule
from usertable.domain.values import DataType
from usertable.store.tables import AUDIT


def kind_of(refused: pytest.ExceptionInfo[Refused]) -> ProblemKind:
    return refused.value.problems[0].kind


def test_a_value_never_seen_creates_a_user(harness: StoreHarness) -> None:
    project = harness.project()
    first, second, third = harness.service.register(project, "phone", ["a", "b", "a"], actor=TESTER)
    assert first == third
    assert 10_000_000 < first < second
    assert harness.service.register(project, "phone", ["b", "c"], actor=TESTER)[0] == second
    user = harness.store.read(project.number, first)
    assert user is not None
    assert (user.profile.version, user.profile.attributes, user.identifiers) == (1, {}, {"phone": ["a"]})
    assert harness.store.resolve_identifiers(project.number, "phone", ["A", "a", "a"]) == {"a": first}
    assert harness.store.resolve_identifiers(project.number, "phone", []) == {}


def test_values_are_compared_exactly(harness: StoreHarness) -> None:
    project = harness.project()
    values = [
        "Alice",
        "alice",
        "é",
        "e\u0301",
        "a",
        "a ",
        " a",
        "1",
        "01",
        "ß",
        "ss",
        "İ",
        "i",
        "%",
        "_",
        "'",
        '"',
        "\\",
        "null",
    ]
    cuids = harness.service.register(project, "phone", values, actor=TESTER)
    assert len(set(cuids)) == len(values)
    assert harness.service.register(project, "phone", values, actor=TESTER) == cuids


def test_racing_callers_get_one_cuid(harness: StoreHarness) -> None:
    project = harness.project()
    found: list[list[int]] = []
    values = [f"v{n}" for n in range(20)]
    threads = [
        threading.Thread(target=lambda: found.append(harness.service.register(project, "phone", values, actor=TESTER)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(cuids == found[0] for cuids in found)


def test_only_a_unique_identifier_of_priority_one_registers(harness: StoreHarness) -> None:
    project = harness.project()
    harness.service.declare_identifier("one", Identifier("second"), actor=TESTER)
    harness.service.declare_identifier("one", Identifier("many", unique=False), actor=TESTER)
    for name, kind in (
        ("nope", ProblemKind.IDENTIFIER_UNKNOWN),
        ("\0", ProblemKind.IDENTIFIER_UNKNOWN),
        ("second", ProblemKind.IDENTIFIER_NOT_FIRST),
        ("many", ProblemKind.IDENTIFIER_NOT_UNIQUE),
        ("jg_UnionID", ProblemKind.IDENTIFIER_NOT_FIRST),
    ):
        with pytest.raises(Refused) as refused:
            harness.service.register(project, name, ["x"], actor=TESTER)
        assert kind_of(refused) is kind
    harness.service.order_identifiers("one", ["second", "phone", "many", "jg_registration_id", "jg_UnionID"], actor=TESTER)
    assert harness.service.register(project, "second", ["x"], actor=TESTER)


def test_imported_cuids_are_kept_and_never_handed_out(harness: StoreHarness) -> None:
    project = harness.project()
    first = harness.user(project)
    harness.service.add_user(project, first + 1, {"phone": "imported"}, actor=TESTER)
    harness.service.add_user(project, 7, {}, actor=TESTER)
    harness.service.add_user(project, 2**63 - 1, {}, actor=TESTER)
    assert harness.user(project, "next") == first + 2
    assert harness.service.register(project, "phone", ["imported"], actor=TESTER) == [first + 1]
    for cuid, identifiers, kind in (
        (7, {}, ProblemKind.CUID_EXISTS),
        (8, {"phone": "imported"}, ProblemKind.IDENTIFIER_TAKEN),
        (8, {"nope": "x"}, ProblemKind.IDENTIFIER_UNKNOWN),
        (8, {"\0": "x"}, ProblemKind.IDENTIFIER_UNKNOWN),
        (0, {}, ProblemKind.CUID_MALFORMED),
        (2**63, {}, ProblemKind.CUID_MALFORMED),
    ):
        with pytest.raises(Refused) as refused:
            harness.service.add_user(project, cuid, identifiers, actor=TESTER)
        assert kind_of(refused) is kind
    assert harness.store.read(project.number, 8) is None


def test_an_erased_user_is_gone_and_its_cuid_not_used_again(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    harness.write(harness.prepare(project, cuid, {"user_bool_once": 1}))
    harness.service.erase_user(project, cuid, actor=TESTER)
    assert harness.store.read(project.number, cuid) is None
    assert all_users(harness.store, project.number) == []
    assert harness.store.resolve_identifiers(project.number, "phone", ["18012345678"]) == {}
    with pytest.raises(Refused) as again:
        harness.service.erase_user(project, cuid, actor=TESTER)
    assert kind_of(again) is ProblemKind.CUID_UNKNOWN
    with pytest.raises(Refused) as imported:
        harness.service.add_user(project, cuid, {}, actor=TESTER)
    assert kind_of(imported) is ProblemKind.CUID_ERASED
    assert harness.user(project) > cuid


def test_paging_by_cuid(harness: StoreHarness) -> None:
    project = harness.project()
    cuids = harness.service.register(project, "phone", [f"{n}" for n in range(7)], actor=TESTER)
    page = harness.service.users(project, limit=3)
    seen = []
    while True:
        seen += [u.cuid for u in page.users]
        if page.next is None:
            break
        page = harness.service.users(project, after=page.next, limit=3)
    assert seen == cuids


def test_every_change_of_a_project_is_recorded_and_seen(harness: StoreHarness) -> None:
    epoch = harness.store.epoch()
    project = harness.project()
    assert harness.store.epoch() != epoch
    epoch = harness.store.epoch()
    harness.now += 1
    harness.service.edit_attribute("one", "user_bool_once", actor=Actor.cli("somebody"), hidden=True)
    assert harness.store.epoch() != epoch
    newest = harness.service.schema_changes("one")[0]
    assert (newest.at, newest.actor) == (harness.now, "cli:somebody")
    assert newest.what == [AuditEvent(AuditKind.EDIT_ATTRIBUTE, "user_bool_once", {"hidden": False}, {"hidden": True})]
    changed = harness.service.project("one")
    assert changed.version == project.version + 1
    assert changed.schema.attributes["user_bool_once"].hidden


def test_an_edit_without_change_or_with_an_error_leaves_no_trace(harness: StoreHarness) -> None:
    project = harness.project()
    epoch, changes = harness.store.epoch(), harness.service.schema_changes("one")
    harness.service.edit_project("one", name="one", actor=TESTER)

    def fail(project: Project) -> Project:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        edit_project(harness.store, "one", fail, TESTER, 1)
    with pytest.raises(Refused):
        edit_project(harness.store, "nope", lambda p: replace(p, name="x"), TESTER, 1)
    assert harness.store.epoch() == epoch
    assert harness.service.schema_changes("one") == changes
    assert harness.service.project("one") == project


def test_only_what_changed_is_recorded(harness: StoreHarness) -> None:
    harness.project()
    harness.service.edit_project("one", name="one", timezone="Asia/Shanghai", unlimited=True, actor=TESTER)
    harness.service.edit_attribute(
        "one", "user_list_append", actor=TESTER, display_name="会员", description="", hidden=False
    )
    harness.service.rotate_secret("one", actor=TESTER)
    assert [entry.what for entry in harness.service.schema_changes("one", 3)] == [
        [AuditEvent(AuditKind.ROTATE_SECRET)],
        [AuditEvent(AuditKind.EDIT_ATTRIBUTE, "user_list_append", {"display_name": ""}, {"display_name": "会员"})],
        [AuditEvent(AuditKind.EDIT_PROJECT, "", {"qps": 100}, {"qps": None})],
    ]


def test_an_entry_that_was_kept_as_a_sentence_is_still_there(harness: StoreHarness) -> None:
    project = harness.project()
    (number,) = harness.store.last(project.number, AUDIT) or (0,)
    sentence = "edit project: name = [one]"
    row = (number + 1, number + 1, 5, "somebody", "", "", f'"{sentence}"', "", "")
    harness.store.load(project.number, AUDIT, [row])
    newest = harness.service.schema_changes("one")[0]
    assert (newest.at, newest.actor, newest.what) == (5, "somebody", sentence)


def test_an_id_is_of_one_project(harness: StoreHarness) -> None:
    harness.project()
    with pytest.raises(Refused) as refused:
        harness.project()
    assert kind_of(refused) is ProblemKind.PROJECT_EXISTS
    assert [p.id for p in harness.service.projects()] == ["one"]
    made, secret = harness.service.create_project("another", actor=TESTER)
    assert made.id.isdigit()
    assert public_id(secret)
    caller = harness.service.verify(made.id, secret)
    assert caller is not None
    assert caller.project == made
    assert caller.match.key == DEFAULT_KEY
    assert harness.service.verify(made.id, "wrong") is None
    assert harness.service.verify("nope", secret) is None
    _, rotated = harness.service.rotate_secret(made.id, actor=TESTER)
    assert harness.service.verify(made.id, secret) is None
    assert harness.service.verify(made.id, rotated) is not None


def test_a_change_for_an_earlier_version_changes_nothing(harness: StoreHarness) -> None:
    seen = harness.project().version
    service = harness.service
    service.edit_project("one", qps=7, version=seen, actor=Actor.cli("first"))
    before = service.project("one")
    changes = service.schema_changes("one")
    for late in (
        lambda: service.edit_project("one", name="late", version=seen, actor=Actor.cli("late")),
        lambda: service.rotate_secret("one", version=seen, actor=Actor.cli("late")),
        lambda: service.edit_attribute("one", "user_bool_once", hidden=True, version=seen, actor=Actor.cli("late")),
        lambda: service.delete_attribute("one", "user_bool_once", version=seen, actor=Actor.cli("late")),
        lambda: service.edit_identifier("one", "phone", masked=True, version=seen, actor=Actor.cli("late")),
        lambda: service.delete_identifier("one", "phone", version=seen, actor=Actor.cli("late")),
        lambda: service.order_identifiers(
            "one", ["jg_UnionID", "jg_registration_id", "phone"], version=seen, actor=Actor.cli("late")
        ),
        lambda: service.apply_schema("one", before.schema, version=seen, actor=Actor.cli("late")),
    ):
        with pytest.raises(ProjectChanged) as refused:
            late()
        assert refused.value.problems[0].params == {"version": str(seen), "now": str(seen + 1)}
    assert service.project("one") == before
    assert service.schema_changes("one") == changes
    # Of two edits based on the same version, one is first.
    with ThreadPoolExecutor(4) as pool:

        def edit(qps: int) -> bool:
            try:
                service.edit_project("one", qps=qps, version=seen + 1, actor=TESTER)
            except ProjectChanged:
                return False
            return True

        assert sum(pool.map(edit, range(10, 14))) == 1
    assert service.project("one").version == seen + 2


def test_an_attribute_can_be_deleted_until_a_value_was_reported(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    harness.write(harness.prepare(project, cuid, {"user_bool_once": 1}, dry_run=True))
    harness.write(harness.prepare(project, cuid, {"user_string_once": "a"}))
    harness.service.erase_user(project, cuid, actor=TESTER)
    with pytest.raises(Refused) as refused:
        harness.service.delete_attribute("one", "user_string_once", actor=TESTER)
    assert kind_of(refused) is ProblemKind.ATTRIBUTE_IN_USE
    harness.service.delete_attribute("one", "user_bool_once", actor=TESTER)
    harness.service.declare_attribute("one", Attribute("user_bool_once", DataType.STRING, Rule.ONCE), actor=TESTER)


def test_an_identifier_can_be_deleted_until_a_user_has_a_value(harness: StoreHarness) -> None:
    project = harness.project()
    harness.service.declare_identifier("one", Identifier("email"), actor=TESTER)
    harness.user(project)
    for name, kind in (("phone", ProblemKind.IDENTIFIER_IN_USE), ("jg_UnionID", ProblemKind.IDENTIFIER_PRESET)):
        with pytest.raises(Refused) as refused:
            harness.service.delete_identifier("one", name, actor=TESTER)
        assert kind_of(refused) is kind
    harness.service.delete_identifier("one", "email", actor=TESTER)
    assert [i.name for i in harness.service.project("one").schema.identifiers] == [
        "phone",
        "jg_registration_id",
        "jg_UnionID",
    ]
