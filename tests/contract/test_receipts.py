"""Receipts: the same key and request get the first answer; nothing is applied twice."""

from __future__ import annotations

from house import House
from usertable.store.records import KeyReused, Refusal, Replayed, UserUnknown, Written

ADD = {"user_number_accumulate": 1}


def test_the_same_key_and_body_are_applied_once(house: House) -> None:
    project = house.project()
    cuid = house.user(project)
    first, again = house.write(*(house.prepare(project, cuid, ADD, "k", body=b"1") for _ in range(2)))
    (later,) = house.write(house.prepare(project, cuid, ADD, "k", body=b"1"))
    assert isinstance(first, Written)
    assert isinstance(again, Replayed)
    assert isinstance(later, Replayed)
    assert later.written == again.written == Written(2, {"user_number_accumulate": "applied"}, None)  # type: ignore[dict-item]
    assert house.attributes(project, cuid) == ADD


def test_the_same_key_with_another_body_is_refused(house: House) -> None:
    project = house.project()
    cuid = house.user(project)
    first, other = house.write(
        house.prepare(project, cuid, ADD, "k", body=b"1"), house.prepare(project, cuid, ADD, "k", body=b"2")
    )
    assert isinstance(first, Written)
    assert isinstance(other, KeyReused)
    assert house.attributes(project, cuid) == ADD


def test_keys_are_exact_and_of_one_project(house: House) -> None:
    one, two = house.project("one"), house.project("two")
    for project in (one, two):
        cuid = house.user(project)
        results = house.write(*(house.prepare(project, cuid, ADD, key) for key in ("k", "K", "k2")))
        assert all(isinstance(r, Written) for r in results)
        assert house.attributes(project, cuid) == {"user_number_accumulate": 3}


def test_a_whole_receipt_shows_the_row_as_it_was(house: House) -> None:
    project = house.project()
    cuid = house.user(project)
    house.write(house.prepare(project, cuid, ADD, "k", whole=True))
    house.write(house.prepare(project, cuid, ADD))
    (again,) = house.write(house.prepare(project, cuid, ADD, "k", whole=True))
    assert isinstance(again, Replayed)
    assert (again.written.version, again.written.attributes) == (2, ADD)


def test_an_unchanged_write_keeps_its_receipt(house: House) -> None:
    project = house.project()
    cuid = house.user(project)
    house.write(house.prepare(project, cuid, {"user_string_overwrite": "a"}))
    house.write(house.prepare(project, cuid, {"user_string_overwrite": "a"}, "k"))
    house.write(house.prepare(project, cuid, {"user_string_overwrite": "b"}))
    (again,) = house.write(house.prepare(project, cuid, {"user_string_overwrite": "a"}, "k"))
    assert isinstance(again, Replayed)
    assert house.attributes(project, cuid) == {"user_string_overwrite": "b"}


def test_refused_and_dry_writes_keep_no_receipt(house: House) -> None:
    project = house.project()
    cuid = house.user(project)
    big = {"user_number_accumulate": 10**38 - 1}
    house.write(house.prepare(project, cuid, big))
    refused, dry, unknown = house.write(
        house.prepare(project, cuid, big, "k"),
        house.prepare(project, cuid, {"user_bool_once": 1}, "k", dry=True),
        house.prepare(project, cuid + 1, {"user_bool_once": 1}, "k"),
    )
    assert isinstance(refused, Refusal)
    assert isinstance(dry, Written)
    assert isinstance(unknown, UserUnknown)
    (result,) = house.write(house.prepare(project, cuid, {"user_bool_once": 1}, "k"))
    assert isinstance(result, Written)


def test_receipts_outlive_a_change_of_the_schema(house: House) -> None:
    project = house.project()
    cuid = house.user(project)
    write = house.prepare(project, cuid, ADD, "k")
    house.write(write)
    house.service.edit_attribute("one", "user_bool_once", who="test", display_name="x")
    (again,) = house.write(write)
    assert isinstance(again, Replayed)


def test_receipts_expire(house: House) -> None:
    project = house.project()
    cuid = house.user(project)
    house.write(house.prepare(project, cuid, ADD, "old"))
    house.now += 1000
    house.write(house.prepare(project, cuid, ADD, "new"))
    assert house.store.expire_receipts(house.now) == 1
    assert house.store.expire_receipts(house.now) == 0
    old, new = house.write(house.prepare(project, cuid, ADD, "old"), house.prepare(project, cuid, ADD, "new"))
    assert isinstance(old, Written)
    assert isinstance(new, Replayed)


def test_receipts_dated_in_the_future_keep_no_other_from_expiring(house: House) -> None:
    project = house.project()
    cuid = house.user(project)
    today = house.now
    house.now += 25 * 3_600_000
    house.write(*(house.prepare(project, cuid, ADD, f"future {n}") for n in range(2100)))
    house.now = today
    house.write(*(house.prepare(project, cuid, ADD, f"today {n}") for n in range(3)))
    assert house.store.expire_receipts(today + 1) == 3
    assert house.store.expire_receipts(today + 1) == 0
    (again,) = house.write(house.prepare(project, cuid, ADD, "future 7"))
    assert isinstance(again, Replayed)


def test_erasing_a_user_takes_the_receipts_that_show_it(house: House) -> None:
    project = house.project()
    cuid = house.user(project)
    house.write(house.prepare(project, cuid, ADD, "whole", whole=True), house.prepare(project, cuid, ADD, "plain"))
    assert house.store.erase(project.number, cuid)
    whole, plain = house.write(
        house.prepare(project, cuid, ADD, "whole", whole=True), house.prepare(project, cuid, ADD, "plain")
    )
    assert isinstance(whole, UserUnknown)
    assert isinstance(plain, Replayed)
    assert plain.written.attributes is None
