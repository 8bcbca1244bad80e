"""The history of users as callers of the Python client see it, sync and async."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from support.actors import TESTER
from support.clients import AnyClient, any_client
from support.sample_project import sample_schema
from usertable import AsyncClient, Client, Record
from usertable.client import ApiError, AsyncChanges, Change, Changes, InvalidParameter, UserUnknown
from usertable.client import clients as client_module
from usertable.testing import Server

BERLIN = ZoneInfo("Europe/Berlin")
CUID = 7


@pytest.fixture
def server(usertable_server: Server) -> Server:
    usertable_server.service.apply_schema(usertable_server.project, sample_schema(""), actor=TESTER)
    usertable_server.add_user(CUID)
    return usertable_server


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[AnyClient]:
    with any_client(request.param, server.url, server.project, server.secret, source="shop 1.0") as made:
        yield made


def changes(client: AnyClient, cuid: int, **more: Any) -> list[Change]:
    if isinstance(client.client, Client):
        return list(client.client.changes(cuid, **more))

    async def collected() -> list[Change]:
        return [change async for change in client.client.changes(cuid, **more)]

    return client._runner.run(collected())  # type: ignore[union-attr]


def test_changes_have_python_values_and_the_clients_source(client: AnyClient, server: Server) -> None:
    moment = datetime(2024, 2, 29, 12, 30, 15, tzinfo=UTC)
    server.clock.advance(hours=1)
    client.set(CUID, {"number_accumulate": Decimal("1.5"), "datetime_overwrite": moment, "list_append": ["A"]})
    server.clock.advance(hours=1)
    client.batch([Record(CUID, {"number_accumulate": 2, "bool_overwrite": True, "list_append": ["A", "B"]})])
    newest, older, created = changes(client, CUID)
    assert (newest.source, older.source, newest.actor, newest.kind) == ("shop 1.0", "shop 1.0", "key:default", "write")
    assert newest.at - older.at == timedelta(hours=1)
    assert (newest.since, newest.occurred_at, newest.unrecorded) == (older.at, None, 0)
    added = newest.attributes["number_accumulate"]
    assert (added.sent, added.before, added.after, added.outcome) == (2, Decimal("1.5"), Decimal("3.5"), "applied")
    assert newest.attributes["bool_overwrite"].after is True
    appended = newest.attributes["list_append"]
    assert (appended.rule, appended.elements_before, appended.added, appended.before) == ("append", 1, ["B"], None)
    assert older.attributes["datetime_overwrite"].after == moment
    assert older.attributes["datetime_overwrite"].before is None
    assert (created.kind, created.since, created.attributes) == ("created", None, {})
    assert (created.created_through, newest.created_through) == ("command", None)


def test_the_result_of_a_write_has_the_number_of_its_change(client: AnyClient, server: Server) -> None:
    result = client.set(CUID, {"number_overwrite": 1}, explain=True)
    assert result.change == changes(client, CUID)[0].number
    assert client.set(CUID, {"number_overwrite": 2}).change is None
    (done,) = client.batch([Record(CUID, {"number_overwrite": 3})])
    assert done.change == changes(client, CUID)[0].number


def test_changes_are_fetched_page_by_page(client: AnyClient, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "CHANGES_PER_REQUEST", 2)
    for n in range(5):
        client.set(CUID, {"number_overwrite": n, "string_overwrite": "x"} if n % 2 else {"number_overwrite": n})
    assert [c.attributes["number_overwrite"].after for c in changes(client, CUID)[:-1]] == [4, 3, 2, 1, 0]
    assert len(changes(client, CUID, attribute="string_overwrite")) == 2
    assert changes(client, CUID, actor="key:nobody") == []


def test_changes_say_whether_they_end_with_the_creation_of_the_user(
    client: AnyClient, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "CHANGES_PER_REQUEST", 1)
    client.set(CUID, {"number_overwrite": 1})
    began = server.clock.now

    def walked() -> tuple[list[Change], Changes | AsyncChanges]:
        made = client.client.changes(CUID)
        assert (made.complete, made.kept_since) == (None, None)
        if isinstance(made, Changes):
            assert next(made).kind == "write"
            assert made.complete is None
            return [*made], made

        async def rest() -> list[Change]:
            await anext(made)
            assert made.complete is None
            return [change async for change in made]

        return client._runner.run(rest()), made  # type: ignore[union-attr]

    rest, whole = walked()
    assert ([change.kind for change in rest], whole.complete) == (["created"], True)
    server.clock.advance(hours=1)
    client.set(CUID, {"number_overwrite": 2})
    project = server.service.project(server.project)
    server.service.prune_history(project, round(server.clock.now.timestamp() * 1000), TESTER)
    rest, cut = walked()
    assert (rest, cut.complete) == ([], False)
    assert cut.kept_since is not None
    assert cut.kept_since > began


def test_changes_say_where_the_history_of_an_attribute_was_off(
    client: AnyClient, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.set(CUID, {"number_overwrite": 1})
    server.service.edit_attribute(server.project, "number_overwrite", history=False, actor=TESTER)
    assert [change.not_kept for change in changes(client, CUID)] == [["number_overwrite"], []]
    server.service.edit_attribute(server.project, "number_overwrite", history=True, actor=TESTER)
    client.set(CUID, {"string_overwrite": "x"})
    for size in (1000, 1):
        monkeypatch.setattr(client_module, "CHANGES_PER_REQUEST", size)
        assert [change.not_kept for change in changes(client, CUID)] == [[], ["number_overwrite"], []]


def test_an_iterator_of_changes_that_failed_continues_where_it_stopped(server: Server) -> None:
    with Client(server.url, server.project, server.secret) as client:
        found = client.changes(99)
        for _ in range(2):
            with pytest.raises(UserUnknown):
                next(found)


def test_a_user_is_read_as_of_a_moment(client: AnyClient, server: Server) -> None:
    began = server.clock.now
    server.clock.advance(hours=1)
    client.set(CUID, {"number_overwrite": 1})
    server.clock.advance(hours=1)
    client.set(CUID, {"number_overwrite": 2})
    past = client.get(CUID, as_of=began + timedelta(minutes=90))
    assert (past.attributes, past.version, past.not_kept) == ({"number_overwrite": 1}, 2, [])
    assert past.as_of == began + timedelta(minutes=90)
    assert client.get(CUID).as_of is None
    zone = ZoneInfo("Asia/Shanghai")
    local = (began + timedelta(minutes=90)).astimezone(zone).replace(tzinfo=None)
    assert client.get(CUID, as_of=local).as_of == past.as_of
    assert client.get(CUID, as_of=local.isoformat()).as_of == past.as_of


def test_two_moments_are_compared(client: AnyClient, server: Server) -> None:
    server.clock.advance(hours=1)
    client.set(CUID, {"number_overwrite": 1})
    first = server.clock.now
    server.clock.advance(hours=1)
    client.set(CUID, {"number_overwrite": 2, "datetime_once": datetime(2024, 1, 1, tzinfo=BERLIN)})
    found = client.diff(CUID, first)
    assert (found.version_before, found.version_after, found.start, found.end) == (2, 3, first, server.clock.now)
    number = found.attributes["number_overwrite"]
    assert (number.before, number.after, number.changes, number.last_source) == (1, 2, 1, "shop 1.0")
    assert number.last_at == server.clock.now
    assert found.attributes["datetime_once"].after == datetime(2024, 1, 1, tzinfo=BERLIN)
    assert client.diff(CUID, first, first).attributes == {}


def test_what_the_server_refuses_is_an_error_with_its_kind(client: AnyClient, server: Server) -> None:
    with pytest.raises(UserUnknown):
        client.get(99, as_of=server.clock.now)
    with pytest.raises(UserUnknown):
        changes(client, 99)
    for moment, kind in (
        (server.clock.now + timedelta(days=1), "moment_ahead"),
        (date(2000, 1, 1), "user_not_yet"),
        ("yesterday", "parameter"),
    ):
        with pytest.raises(InvalidParameter) as caught:
            client.get(CUID, as_of=moment)
        assert caught.value.problems[0].kind == kind
    with pytest.raises(InvalidParameter, match="from"):
        client.diff(CUID, "yesterday")
    with pytest.raises(ApiError, match="nope"):
        changes(client, CUID, attribute="nope")
    with pytest.raises(TypeError, match="as_of is of type int; expected datetime, date or str"):
        client.get(CUID, as_of=1_700_000_000)


def test_a_source_that_cannot_be_sent_is_refused_at_once(server: Server) -> None:
    for source in (" shop", "x" * 101, "商店", "a\nb"):
        with pytest.raises(ValueError, match="expected 1 to 100 visible ASCII characters"):
            Client(server.url, server.project, server.secret, source=source)


def test_a_buffer_and_a_pickled_client_send_the_source(server: Server) -> None:
    made = pickle.dumps(Client(server.url, server.project, server.secret, source="worker 2"))
    with pickle.loads(made) as client:
        with client.buffer() as buffer:
            buffer.set(CUID, {"number_overwrite": 1})
        assert next(client.changes(CUID)).source == "worker 2"


def test_an_async_caller_may_stop_in_the_middle(server: Server) -> None:
    async def newest() -> Change:
        async with AsyncClient(server.url, server.project, server.secret) as client:
            await client.set(CUID, {"number_overwrite": 1})
            async for change in client.changes(CUID):
                return change
            raise AssertionError("there is no change")

    assert asyncio.run(newest()).attributes["number_overwrite"].after == 1
