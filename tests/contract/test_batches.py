"""A batch of records through the writer, for every store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from support.actors import TESTER
from support.commands import all_users
from support.store_harness import StoreHarness
from usertable.app.access import Authenticator, ProjectAccess
from usertable.app.batches import BatchEntry, BatchWriter
from usertable.app.imports import RowImporter
from usertable.commands.write import WriteBatch
from usertable.domain.errors import Overloaded, StoreDown
from usertable.domain.merge import decide
from usertable.pipeline.channel import ThreadChannel
from usertable.pipeline.group_commit import GroupCommit
from usertable.store.records import Receipt, Refusal, Replayed, Result, Written


def entry(user: int | str, key: str = "", **data: Any) -> BatchEntry:
    """A record for a CUID, or for a value of `phone`."""
    receipt = Receipt(key, b"same") if key else None
    if isinstance(user, str):
        return BatchEntry(None, ("phone", user), data, receipt)
    return BatchEntry(user, None, data, receipt)


def send(
    harness: StoreHarness, *batches: Sequence[BatchEntry], register: bool = True
) -> list[list[tuple[int | None, Result]]]:
    """Return the results of concurrent batches."""

    async def work() -> list[list[tuple[int | None, Result]]]:
        authenticator = Authenticator(harness.service)
        commit = GroupCommit(ThreadChannel(harness.store, WriteBatch(decide)), max_batch=7)
        writer = BatchWriter(harness.service, authenticator, commit, clock=lambda: harness.now)
        access = ProjectAccess(harness.service.project("one"), {})
        results = await asyncio.gather(
            *(writer.set_many(access, batch, register=register, actor=TESTER) for batch in batches)
        )
        await commit.close()
        authenticator.close()
        return list(results)

    return asyncio.run(work())


def test_records_of_one_user_are_written_in_order(harness: StoreHarness) -> None:
    project = harness.project()
    cuids = [harness.user(project, str(n)) for n in range(3)]
    batch = [entry(cuids[n % 3], user_number_overwrite=n, user_list_append=[str(n)]) for n in range(60)]
    (results,) = send(harness, batch)
    assert all(type(result) is Written for _, result in results)
    for place, cuid in enumerate(cuids):
        row = harness.attributes(project, cuid)
        assert row["user_number_overwrite"] == 57 + place
        assert row["user_list_append"] == [str(n) for n in range(place, 60, 3)]


def test_records_of_one_user_are_one_transaction_and_those_that_are_wrong_fail_alone(
    harness: StoreHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = harness.project()
    cuid, other = harness.user(project, "1"), harness.user(project, "2")
    batch = [entry(cuid, f"key {n}", user_number_accumulate=1, user_list_append=[f"{n}"]) for n in range(600)]
    batch[100] = entry(cuid, "key 100", user_bool_once=7)
    batch[200] = entry(cuid, "key 199", user_number_accumulate=1, user_list_append=["199"])
    batch[300] = entry(other, "key 300", user_number_accumulate=1)
    batches: list[int] = []
    write = harness.store.write

    def counted(writes: Sequence[Any], *rest: Any) -> Any:
        batches.append(len(writes))
        return write(writes, *rest)

    monkeypatch.setattr(harness.store, "write", counted)
    (results,) = send(harness, batch)
    assert len(batches) <= 2
    assert sum(batches) == 599
    wrong = {100: Refusal, 200: Replayed}
    assert [type(result) for _, result in results] == [wrong.get(place, Written) for place in range(600)]
    row = harness.attributes(project, cuid)
    assert row["user_number_accumulate"] == 597
    assert row["user_list_append"] == [f"{n}" for n in range(600) if n not in (100, 200, 300)]
    assert harness.attributes(project, other) == {"user_number_accumulate": 1}
    # Nothing is applied twice when all of it is sent again.
    (again,) = send(harness, batch)
    assert {type(result) for place, (_, result) in enumerate(again) if place != 100} == {Replayed}
    assert harness.attributes(project, cuid)["user_number_accumulate"] == 597


def test_records_after_one_that_failed_wait_for_the_retry(harness: StoreHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    project = harness.project()
    cuid = harness.user(project)
    batch = [entry(cuid, user_list_append=[f"{n}"]) for n in range(10)]
    write = harness.store.write

    def broken(writes: Sequence[Any], *rest: Any) -> Any:
        if any(value == ["4"] for w in writes for _, value in w.patch.entries):
            raise RuntimeError("a defect")
        return write(writes, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(harness.store, "write", broken)
        (results,) = send(harness, batch)
    assert [type(result) for _, result in results] == [Written] * 4 + [RuntimeError] * 6
    (results,) = send(harness, batch[4:])
    assert [type(result) for _, result in results] == [Written] * 6
    assert harness.attributes(project, cuid) == {"user_list_append": [f"{n}" for n in range(10)]}


def test_records_of_a_user_who_does_not_exist_are_refused_with_all_that_is_wrong(harness: StoreHarness) -> None:
    harness.project()
    (results,) = send(harness, [entry(99, user_bool_once=1), entry(99, user_bool_once=7), entry(99, nothing=1)])
    kinds = [[problem.kind for problem in result.problems] for _, result in results if isinstance(result, Refusal)]
    assert kinds == [["cuid_unknown"], ["cuid_unknown", "value_type"], ["cuid_unknown", "attribute_unknown"]]


def test_values_that_are_new_make_one_user_each_whoever_comes_first(harness: StoreHarness) -> None:
    project = harness.project()
    batches = [[entry(str(n), user_number_accumulate=1) for n in range(10)] for _ in range(4)]
    answers = send(harness, *batches)
    assert len({tuple(cuid for cuid, _ in results) for results in answers}) == 1
    assert len(all_users(harness.store, project.number)) == 10
    for cuid, _ in answers[0]:
        assert cuid is not None
        assert harness.attributes(project, cuid) == {"user_number_accumulate": 4}
    (refused,) = send(harness, [entry("unseen", user_number_accumulate=1), entry("3", user_bool_once=7)], register=False)
    assert [type(result) for _, result in refused] == [Refusal, Refusal]
    assert len(all_users(harness.store, project.number)) == 10


def test_a_key_holds_across_batches(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    batch = [entry(cuid, f"key {n}", user_number_accumulate=1) for n in range(20)]
    send(harness, batch[:12])
    answers = send(harness, batch, batch[::-1])
    assert harness.attributes(project, cuid) == {"user_number_accumulate": 20}
    results = [result for results in answers for _, result in results]
    assert {type(result) for result in results} == {Written, Replayed}
    assert sum(type(result) is Written for result in results) == 8


def test_a_schema_that_changes_meanwhile_costs_no_record(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)

    async def work() -> list[tuple[int | None, Result]]:
        authenticator = Authenticator(harness.service)
        commit = GroupCommit(ThreadChannel(harness.store, WriteBatch(decide)))
        writer = BatchWriter(harness.service, authenticator, commit, clock=lambda: harness.now)
        access = ProjectAccess(harness.service.project("one"), {})
        harness.service.edit_attribute("one", "user_bool_once", actor=TESTER, hidden=True)
        results = await writer.set_many(
            access, [entry(cuid, user_number_overwrite=n) for n in range(5)], register=False, actor=TESTER
        )
        await commit.close()
        authenticator.close()
        return results

    assert [type(result) for _, result in asyncio.run(work())] == [Written] * 5
    assert harness.attributes(project, cuid) == {"user_number_overwrite": 4}


def import_rows(
    harness: StoreHarness, *batches: Sequence[BatchEntry], capacity: int = 10_000
) -> list[list[tuple[int | None, Result]]]:
    """Return the results of concurrent batches of import rows."""

    async def work() -> list[list[tuple[int | None, Result]]]:
        authenticator = Authenticator(harness.service)
        importer = RowImporter(harness.service, authenticator, capacity=capacity)
        access = ProjectAccess(harness.service.project("one"), {})
        results = await asyncio.gather(
            *(importer.import_rows(access, batch, register=True, actor=TESTER) for batch in batches)
        )
        authenticator.close()
        return list(results)

    return asyncio.run(work())


def test_rows_of_imports_wait_their_turn_and_no_more_than_have_room(harness: StoreHarness) -> None:
    project = harness.project()
    batches = [[entry(100 * turn + n, user_number_accumulate=1) for n in range(1, 4)] for turn in range(4)]
    first, second, third, fourth = import_rows(harness, *batches, capacity=6)
    assert all(isinstance(result, Written) for _, result in (*first, *second))
    assert all(isinstance(result, Overloaded) for _, result in (*third, *fourth))
    assert [cuid for cuid, _ in third] == [201, 202, 203]
    assert [user.cuid for user in all_users(harness.store, project.number)] == [1, 2, 3, 101, 102, 103]
    # A batch alone may be larger.
    (alone,) = import_rows(harness, [e for batch in batches for e in batch], capacity=6)
    assert all(isinstance(result, Written) for _, result in alone)


def test_rows_that_cannot_be_taken_now_are_told_so(harness: StoreHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    project = harness.project()
    transact = harness.store.transact

    def broken(*arguments: Any, **settings: Any) -> object:
        transact(*arguments, **settings)
        raise StoreDown("the connection broke during COMMIT")

    batch = [entry(7, "k", user_number_accumulate=1), entry(8, user_number_accumulate=1)]
    with monkeypatch.context() as patch:
        patch.setattr(harness.store, "transact", broken)
        (results,) = import_rows(harness, batch)
    assert [(cuid, type(result)) for cuid, result in results] == [(7, StoreDown), (8, StoreDown)]
    # A row with a key is not applied twice.
    (again,) = import_rows(harness, batch)
    assert [type(result) for _, result in again] == [Replayed, Written]
    assert [harness.attributes(project, cuid) for cuid in (7, 8)] == [
        {"user_number_accumulate": 1},
        {"user_number_accumulate": 2},
    ]


def test_rows_meet_a_changed_schema(harness: StoreHarness) -> None:
    harness.project()
    stale = harness.service.project("one")
    harness.service.edit_attribute("one", "user_bool_once", hidden=True, actor=TESTER)

    async def work() -> list[tuple[int | None, Result]]:
        authenticator = Authenticator(harness.service)
        importer = RowImporter(harness.service, authenticator, capacity=1)
        results = await importer.import_rows(
            ProjectAccess(stale, {}), [entry(7, user_bool_once=1)], register=True, actor=TESTER
        )
        authenticator.close()
        return results

    assert [type(result) for _, result in asyncio.run(work())] == [Written]
