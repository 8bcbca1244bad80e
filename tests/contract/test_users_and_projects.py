"""Registering, importing, erasing and paging users; projects and their record of changes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from house import House
from usertable.domain.change import Change, ChangeKind
from usertable.domain.errors import Kind, ProjectChanged, Refused
from usertable.domain.schema import Attribute, Identifier, Project, Rule
from usertable.domain.values import DataType
from usertable.store.parts import CHANGES


def kind_of(refused: pytest.ExceptionInfo[Refused]) -> Kind:
    return refused.value.problems[0].kind


def test_a_value_never_seen_creates_a_user(house: House) -> None:
    project = house.project()
    first, second, third = house.service.register(project, "phone", ["a", "b", "a"])
    assert first == third
    assert 10_000_000 < first < second
    assert house.service.register(project, "phone", ["b", "c"])[0] == second
    user = house.store.read(project.number, first)
    assert user is not None
    assert (user.profile.version, user.profile.attributes, user.identifiers) == (1, {}, {"phone": ["a"]})
    assert house.store.resolve_identifiers(project.number, "phone", ["A", "a", "a"]) == {"a": first}
    assert house.store.resolve_identifiers(project.number, "phone", []) == {}


def test_values_are_compared_exactly(house: House) -> None:
    project = house.project()
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
    cuids = house.service.register(project, "phone", values)
    assert len(set(cuids)) == len(values)
    assert house.service.register(project, "phone", values) == cuids


def test_racing_callers_get_one_cuid(house: House) -> None:
    project = house.project()
    found: list[list[int]] = []
    values = [f"v{n}" for n in range(20)]
    threads = [
        threading.Thread(target=lambda: found.append(house.service.register(project, "phone", values))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(cuids == found[0] for cuids in found)


def test_only_a_unique_identifier_of_priority_one_registers(house: House) -> None:
    project = house.project()
    house.service.declare_identifier("one", Identifier("second"), who="test")
    house.service.declare_identifier("one", Identifier("many", unique=False), who="test")
    for name, kind in (
        ("nope", Kind.IDENTIFIER_UNKNOWN),
        ("second", Kind.IDENTIFIER_NOT_FIRST),
        ("many", Kind.IDENTIFIER_NOT_UNIQUE),
        ("jg_UnionID", Kind.IDENTIFIER_NOT_FIRST),
    ):
        with pytest.raises(Refused) as refused:
            house.service.register(project, name, ["x"])
        assert kind_of(refused) is kind
    house.service.order_identifiers("one", ["second", "phone", "many", "jg_registration_id", "jg_UnionID"], who="test")
    assert house.service.register(project, "second", ["x"])


def test_imported_cuids_are_kept_and_never_handed_out(house: House) -> None:
    project = house.project()
    first = house.user(project)
    house.service.add_user(project, first + 1, {"phone": "imported"})
    house.service.add_user(project, 7, {})
    house.service.add_user(project, 2**63 - 1, {})
    assert house.user(project, "next") == first + 2
    assert house.service.register(project, "phone", ["imported"]) == [first + 1]
    for cuid, identifiers, kind in (
        (7, {}, Kind.CUID_EXISTS),
        (8, {"phone": "imported"}, Kind.IDENTIFIER_TAKEN),
        (8, {"nope": "x"}, Kind.IDENTIFIER_UNKNOWN),
        (0, {}, Kind.CUID_MALFORMED),
        (2**63, {}, Kind.CUID_MALFORMED),
    ):
        with pytest.raises(Refused) as refused:
            house.service.add_user(project, cuid, identifiers)
        assert kind_of(refused) is kind
    assert house.store.read(project.number, 8) is None


def test_an_erased_user_is_gone_and_its_cuid_not_used_again(house: House) -> None:
    project = house.project()
    cuid = house.user(project)
    house.write(house.prepare(project, cuid, {"user_bool_once": 1}))
    house.service.erase_user(project, cuid)
    assert house.store.read(project.number, cuid) is None
    assert house.store.scan(project.number, 0, 10) == []
    assert house.store.resolve_identifiers(project.number, "phone", ["18012345678"]) == {}
    with pytest.raises(Refused) as again:
        house.service.erase_user(project, cuid)
    assert kind_of(again) is Kind.CUID_UNKNOWN
    with pytest.raises(Refused) as imported:
        house.service.add_user(project, cuid, {})
    assert kind_of(imported) is Kind.CUID_ERASED
    assert house.user(project) > cuid


def test_paging_by_cuid(house: House) -> None:
    project = house.project()
    cuids = house.service.register(project, "phone", [f"{n}" for n in range(7)])
    page = house.service.users(project, limit=3)
    seen = []
    while True:
        seen += [u.cuid for u in page.users]
        if page.next is None:
            break
        page = house.service.users(project, after=page.next, limit=3)
    assert seen == cuids


def test_every_change_of_a_project_is_recorded_and_seen(house: House) -> None:
    epoch = house.store.epoch()
    project = house.project()
    assert house.store.epoch() != epoch
    epoch = house.store.epoch()
    house.now += 1
    house.service.edit_attribute("one", "user_bool_once", who="somebody", hidden=True)
    assert house.store.epoch() != epoch
    newest = house.service.schema_changes("one")[0]
    assert (newest.at, newest.who) == (house.now, "somebody")
    assert newest.what == [Change(ChangeKind.EDIT_ATTRIBUTE, "user_bool_once", {"hidden": False}, {"hidden": True})]
    changed = house.service.project("one")
    assert changed.version == project.version + 1
    assert changed.schema.attributes["user_bool_once"].hidden


def test_an_edit_without_change_or_with_an_error_leaves_no_trace(house: House) -> None:
    project = house.project()
    epoch, changes = house.store.epoch(), house.service.schema_changes("one")
    house.service.edit_project("one", name="one", who="test")

    def fail(project: Project) -> Project:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        house.store.edit_project("one", fail, "test", 1)
    with pytest.raises(Refused):
        house.store.edit_project("nope", lambda p: replace(p, name="x"), "test", 1)
    assert house.store.epoch() == epoch
    assert house.service.schema_changes("one") == changes
    assert house.service.project("one") == project


def test_only_what_changed_is_recorded(house: House) -> None:
    house.project()
    house.service.edit_project("one", name="one", timezone="Asia/Shanghai", unlimited=True, who="test")
    house.service.edit_attribute("one", "user_list_append", who="test", display_name="会员", description="", hidden=False)
    house.service.rotate_secret("one", who="test")
    assert [entry.what for entry in house.service.schema_changes("one", 3)] == [
        [Change(ChangeKind.ROTATE_SECRET)],
        [Change(ChangeKind.EDIT_ATTRIBUTE, "user_list_append", {"display_name": ""}, {"display_name": "会员"})],
        [Change(ChangeKind.EDIT_PROJECT, "", {"qps": 100}, {"qps": None})],
    ]


def test_an_entry_that_was_kept_as_a_sentence_is_still_there(house: House) -> None:
    project = house.project()
    (number,) = house.store.last(project.number, CHANGES) or (0,)
    house.store.load(project.number, CHANGES, [(number + 1, 5, "somebody", "edit project: name = [one]")])
    newest = house.service.schema_changes("one")[0]
    assert (newest.at, newest.who, newest.what) == (5, "somebody", "edit project: name = [one]")


def test_an_id_is_of_one_project(house: House) -> None:
    house.project()
    with pytest.raises(Refused) as refused:
        house.project()
    assert kind_of(refused) is Kind.PROJECT_EXISTS
    assert [p.id for p in house.service.projects()] == ["one"]
    made, secret = house.service.create_project("another", who="test")
    assert made.id.isdigit()
    assert len(secret) == 32
    assert house.service.verify(made.id, secret) == made
    assert house.service.verify(made.id, "wrong") is None
    assert house.service.verify("nope", secret) is None
    _, rotated = house.service.rotate_secret(made.id, who="test")
    assert house.service.verify(made.id, secret) is None
    assert house.service.verify(made.id, rotated) is not None


def test_a_change_for_an_earlier_version_changes_nothing(house: House) -> None:
    seen = house.project().version
    service = house.service
    service.edit_project("one", qps=7, version=seen, who="first")
    before = service.project("one")
    changes = service.schema_changes("one")
    for late in (
        lambda: service.edit_project("one", name="late", version=seen, who="late"),
        lambda: service.rotate_secret("one", version=seen, who="late"),
        lambda: service.edit_attribute("one", "user_bool_once", hidden=True, version=seen, who="late"),
        lambda: service.delete_attribute("one", "user_bool_once", version=seen, who="late"),
        lambda: service.edit_identifier("one", "phone", masked=True, version=seen, who="late"),
        lambda: service.delete_identifier("one", "phone", version=seen, who="late"),
        lambda: service.order_identifiers("one", ["jg_UnionID", "jg_registration_id", "phone"], version=seen, who="late"),
        lambda: service.apply_schema("one", before.schema, version=seen, who="late"),
    ):
        with pytest.raises(ProjectChanged) as refused:
            late()
        assert refused.value.problems[0].facts == {"version": str(seen), "now": str(seen + 1)}
    assert service.project("one") == before
    assert service.schema_changes("one") == changes
    # Of two that saw the same version, one is first.
    with ThreadPoolExecutor(4) as pool:

        def edit(qps: int) -> bool:
            try:
                service.edit_project("one", qps=qps, version=seen + 1, who="test")
            except ProjectChanged:
                return False
            return True

        assert sum(pool.map(edit, range(10, 14))) == 1
    assert service.project("one").version == seen + 2


def test_an_attribute_can_be_deleted_until_a_value_was_reported(house: House) -> None:
    project = house.project()
    cuid = house.user(project)
    house.write(house.prepare(project, cuid, {"user_bool_once": 1}, dry=True))
    house.write(house.prepare(project, cuid, {"user_string_once": "a"}))
    house.service.erase_user(project, cuid)
    with pytest.raises(Refused) as refused:
        house.service.delete_attribute("one", "user_string_once", who="test")
    assert kind_of(refused) is Kind.ATTRIBUTE_IN_USE
    house.service.delete_attribute("one", "user_bool_once", who="test")
    house.service.declare_attribute("one", Attribute("user_bool_once", DataType.STRING, Rule.ONCE), who="test")


def test_an_identifier_can_be_deleted_until_a_user_has_a_value(house: House) -> None:
    project = house.project()
    house.service.declare_identifier("one", Identifier("email"), who="test")
    house.user(project)
    for name, kind in (("phone", Kind.IDENTIFIER_IN_USE), ("jg_UnionID", Kind.IDENTIFIER_PRESET)):
        with pytest.raises(Refused) as refused:
            house.service.delete_identifier("one", name, who="test")
        assert kind_of(refused) is kind
    house.service.delete_identifier("one", "email", who="test")
    assert [i.name for i in house.service.project("one").schema.identifiers] == ["phone", "jg_registration_id", "jg_UnionID"]
