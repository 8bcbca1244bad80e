"""The Python client as its callers use it, sync and async, with the test server."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.actors import TESTER
from support.clients import AnyClient, any_client
from support.sample_project import sample_schema
from usertable import Client, Record
from usertable.client import (
    ApiError,
    AttributeUnknown,
    AuthenticationFailed,
    BatchFailed,
    BufferFull,
    InvalidParameter,
    NotDelivered,
    RecordsRefused,
    Retry,
    ServerFailed,
    SpoolFault,
    Stale,
    Unreachable,
    UserUnknown,
    ValueEmpty,
)
from usertable.client.core import Core, Lost, Pace, Reply, Send, Steps, Wait
from usertable.domain.merge import decide
from usertable.domain.patch import Patch, validate
from usertable.domain.profile import Profile
from usertable.testing import Server, running

QUICK = Retry(attempts=3, first=0.001, most=0.002)
CUID = 7


@pytest.fixture
def server(usertable_server: Server) -> Server:
    """The test server, with `<type>_<rule>` for every legal pair, the identifier `phone` and the users 1 to 9."""
    declare(usertable_server)
    return usertable_server


def declare(server: Server) -> None:
    server.service.apply_schema(server.project, sample_schema(""), actor=TESTER)
    for cuid in range(1, 10):
        server.add_user(cuid)


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[AnyClient]:
    with any_client(request.param, server.url, server.project, server.secret, retry=QUICK) as made:
        yield made


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_batches_are_sent_in_gzip_if_that_is_asked(server: Server, kind: str) -> None:
    records = [Record(CUID, {"list_append": [f"{n:0100}"]}) for n in range(100)]
    sizes: dict[str | None, int] = {}

    def note(request: httpx.Request) -> None:
        sizes[request.headers.get("content-encoding")] = int(request.headers["content-length"])

    async def note_later(request: httpx.Request) -> None:
        note(request)

    http = {"event_hooks": {"request": [note if kind == "sync" else note_later]}}
    for compress in (False, True):
        with any_client(kind, server.url, server.project, server.secret, compress=compress, http=http) as client:
            assert all(result.error is None for result in client.batch(records))
    assert sizes["gzip"] * 5 < sizes[None]


def refused(error: type[ApiError], call: Callable[..., Any], *arguments: Any, **more: Any) -> ApiError:
    with pytest.raises(error) as caught:
        call(*arguments, **more)
    assert type(caught.value) is error
    return caught.value


# single calls


class Colour(StrEnum):
    RED = "red"


def test_values_arrive_as_they_are(client: AnyClient, server: Server) -> None:
    moment = datetime(2024, 2, 29, 12, 30, 15, 999_999, tzinfo=timezone(timedelta(hours=-3)))
    values: dict[str, Any] = {
        "number_overwrite": Decimal("0.10000000000000000000000000000000000001"),
        "number_once": 0.1,
        "number_accumulate": 10**37 + 1,
        "string_overwrite": Colour.RED,
        "string_once": "中文 \"'\n",
        "bool_overwrite": True,
        "bool_once": False,
        "datetime_overwrite": moment,
        "datetime_once": datetime(2024, 1, 2, 3, 4, 5),
        "list_overwrite": {"b", "a", "c"},
        "list_once": ("z", "a"),
        "list_append": ["x", "x"],
    }
    expected = {
        **values,
        "number_once": Decimal("0.1"),
        "string_overwrite": "red",
        "datetime_overwrite": moment.replace(microsecond=0),
        # A datetime without a zone is in the project's local time.
        "datetime_once": datetime(2024, 1, 2, 3, 4, 5, tzinfo=ZoneInfo("Asia/Shanghai")),
        "list_overwrite": ["a", "b", "c"],
        "list_once": ["z", "a"],
        "list_append": ["x"],
    }
    done = client.set(CUID, values, explain=True)
    assert done.outcomes == dict.fromkeys(values, "applied")
    assert (done.version, done.replayed) == (2, False)
    assert server.attributes(CUID) == expected
    user = client.get(CUID)
    assert user.attributes == expected
    assert (user.cuid, user.version, user.updated_at) == (CUID, 2, server.clock.now)
    assert user.changed_at == dict.fromkeys(expected, server.clock.now)
    assert type(user.attributes["number_accumulate"]) is int
    assert type(user.attributes["bool_once"]) is bool
    project, schema = client.declared()
    assert (project["id"], project["timezone"]) == (server.project, "Asia/Shanghai")
    assert values.keys() <= {attribute["name"] for attribute in schema["attributes"]}


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (float("nan"), ValueError, "expected a finite number"),
        (Decimal("Infinity"), ValueError, "expected a finite number"),
        (date(2024, 1, 1), TypeError, "a date"),
        (b"bytes", TypeError, "of type bytes"),
        ({"a": 1}, TypeError, "of type dict"),
        ([1], TypeError, "element of type int"),
    ],
)
def test_what_no_attribute_can_have_is_not_sent(client: AnyClient, value: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        client.set(CUID, {"number_once": value})
    with pytest.raises(error, match="record 1: number_once"):
        client.batch([Record(CUID, {"number_once": 1}), Record(CUID, {"number_once": value})])


def test_the_second_of_a_repeated_hour_cannot_be_said(tmp_path: Path) -> None:
    first = datetime(2024, 11, 3, 5, 30, tzinfo=UTC)
    with running(timezone="America/New_York") as server, server.client() as client:
        server.declare("seen", "DATETIME")
        server.add_user(1)
        client.set(1, {"seen": first})
        assert server.attributes(1)["seen"].astimezone(UTC) == first
        with pytest.raises(ValueError, match="occurs twice"):
            client.set(1, {"seen": first + timedelta(hours=1)})
        client.set(1, {"seen": first + timedelta(hours=2)})
        assert server.attributes(1)["seen"].astimezone(UTC) == first + timedelta(hours=2)


def test_refusals_have_a_class_per_code_and_all_problems(client: AnyClient) -> None:
    two = refused(InvalidParameter, client.set, CUID, {"bool_once": 2, "nowhere": 1})
    assert [(p.kind, p.attribute) for p in two.problems] == [("value_type", "bool_once"), ("attribute_unknown", "nowhere")]
    assert (two.code, two.status) == (40002, 400)
    assert two.request_id
    assert refused(AttributeUnknown, client.set, CUID, {"nowhere": 1}).code == 40010
    assert refused(ValueEmpty, client.set, CUID, {"string_once": ""}).code == 40009
    assert refused(ValueEmpty, client.set, CUID, {"string_once": None}).code == 40009
    unknown = refused(UserUnknown, client.set, 12345, {"number_once": 1})
    assert [p.kind for p in unknown.problems] == ["cuid_unknown"]
    assert refused(UserUnknown, client.get, 12345).code == 40003
    assert refused(InvalidParameter, client.register, "fax", ["1"]).code == 40002


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_wrong_credentials_are_refused_at_once(server: Server, kind: str) -> None:
    with any_client(kind, server.url, server.project, "wrong") as client:
        refused(AuthenticationFailed, client.set, CUID, {"number_once": 1})
        refused(AuthenticationFailed, client.get, CUID)
        with pytest.raises(BatchFailed) as failed:
            client.batch([Record(CUID, {"number_once": 1})])
        assert isinstance(failed.value.__cause__, AuthenticationFailed)
        assert failed.value.results == [None]


def test_a_key_of_the_callers_and_a_dry_run(client: AnyClient, server: Server) -> None:
    assert not client.set(CUID, {"number_accumulate": 1}, key="order-1").replayed
    assert client.set(CUID, {"number_accumulate": 1}, key="order-1").replayed
    refused(InvalidParameter, client.set, CUID, {"number_accumulate": 2}, key="order-1")
    assert client.set(CUID, {"number_accumulate": 5}, dry_run=True).outcomes == {"number_accumulate": "applied"}
    assert server.attributes(CUID) == {"number_accumulate": 1}
    # A receipt is valid for a day by the server's clock, which the test sets.
    server.clock.advance(hours=25)
    server.service.expire_receipts(server.clock.ms() - 24 * 3_600_000)
    assert not client.set(CUID, {"number_accumulate": 1}, key="order-1").replayed


def test_register_takes_any_number_of_values(client: AnyClient) -> None:
    values = [f"{n:011}" for n in range(250)]
    cuids = client.register("phone", values)
    assert list(cuids) == values
    assert len(set(cuids.values())) == 250
    assert client.register("phone", [values[7], values[7]]) == {values[7]: cuids[values[7]]}


def test_a_server_that_always_answers_200() -> None:
    with running(always_200=True, qps=2) as server:
        declare(server)
        with server.client() as client:
            two = refused(AttributeUnknown, client.set, CUID, {"nowhere": 1, "elsewhere": 1})
            assert len(two.problems) == 2
            for _ in range(3):
                client.set(CUID, {"number_accumulate": 1})
        assert server.attributes(CUID) == {"number_accumulate": 3}


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://localhost", "http://", ""])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        Client(url, "p", "s")


# batches


def test_a_batch_of_any_size_has_a_result_per_record(client: AnyClient, server: Server) -> None:
    records = [Record(1 + n % 9, {"number_accumulate": 1, "number_overwrite": n}) for n in range(2300)]
    records[1500] = Record(1500, {"number_once": 1})
    records[3] = Record(3, {"bool_once": 7, "nowhere": 1})
    results = client.batch(records)
    assert [r.record for r in results] == records
    wrong = {place: type(r.error) for place, r in enumerate(results) if r.error}
    assert wrong == {3: InvalidParameter, 1500: UserUnknown}
    assert len(results[3].error.problems) == 2
    assert sum(server.attributes(c)["number_accumulate"] for c in range(1, 10)) == 2298
    assert server.attributes(9)["number_overwrite"] == max(n for n in range(2300) if n % 9 == 8)


def test_a_batch_by_identifier(client: AnyClient, server: Server) -> None:
    records = [Record(("phone", "a"), {"number_accumulate": 1}), Record(("phone", "a"), {"number_accumulate": 2})]
    with pytest.raises(ValueError, match="on_unknown"):
        client.batch(records)
    assert [type(r.error) for r in client.batch(records, on_unknown="refuse")] == [UserUnknown, UserUnknown]
    assert [r.cuid for r in client.batch(records, on_unknown="register", dry_run=True)] == [None, None]
    first, second = client.batch(records, on_unknown="register")
    assert first.cuid == second.cuid
    assert server.attributes(first.cuid) == {"number_accumulate": 3}


def test_a_batch_of_rows_of_an_import(client: AnyClient, server: Server) -> None:
    rows = [
        Record(501, {"number_once": 1}, "row-1", {"phone": "501"}),
        Record(None, {}, identifiers={"phone": "new"}),
        Record(501, {}, identifiers={}),
        Record(None, {"number_once": 1}, identifiers={}),
    ]
    for unsaid in (None, "register"):
        with pytest.raises(ValueError, match="because a record has identifiers"):
            client.batch(rows, on_unknown=unsaid)
    assert [type(r.error) for r in client.batch(rows[:2], on_unknown="refuse")] == [UserUnknown, UserUnknown]
    dry_run = client.batch(rows, on_unknown="import", dry_run=True)
    assert [(r.cuid, r.effect) for r in dry_run[:2]] == [(501, "created"), (None, "created")]
    done = client.batch(rows, on_unknown="import")
    assert [r.effect for r in done] == ["created", "created", "unchanged", None]
    assert isinstance(done[3].error, InvalidParameter)
    (again,) = client.batch(rows[:1], on_unknown="import")
    assert (again.replayed, again.effect) == (True, "created")
    assert client.get(501).identifiers == {"phone": ["501"]}
    assert client.register("phone", ["new"]) == {"new": done[1].cuid}
    with pytest.raises(TypeError, match="a CUID or None beside identifiers"):
        Record(("phone", "1"), {}, identifiers={})
    with pytest.raises(TypeError, match="user is None"):
        Record(None, {"number_once": 1})
    with client.buffer() as buffer, pytest.raises(ValueError, match="cannot be added to a buffer"):
        buffer.add(rows)


def test_a_server_that_takes_less_gets_smaller_batches() -> None:
    with running(batch_body_limit=20_000) as server:
        declare(server)
        with server.client() as client:
            results = client.batch([Record(1, {"string_overwrite": "x" * 4000, "number_accumulate": 1}) for _ in range(20)])
            assert all(result.error is None for result in results)
            large, small = client.batch([Record(1, {"string_once": "x" * 30_000}), Record(1, {"number_accumulate": 1})])
            assert isinstance(large.error, ApiError)
            assert large.error.problems[0].kind == "body_too_large"
            assert small.error is None
        assert server.attributes(1)["number_accumulate"] == 21


# the core alone: what is sent and when, without network and without time


class Hand:
    """Performs the steps of a call: `script` has the server's answers, and time passes only by waiting."""

    def __init__(self, *script: Reply | Lost, **settings: Any) -> None:
        self.script = list(script)
        self.now = 0.0
        self.sent: list[tuple[float, Send]] = []
        defaults: dict[str, Any] = {"timezone": None, "plain": False, "qps": None, "retry": Retry()}
        self.core = Core("p", "s", **{**defaults, **settings}, clock=lambda: self.now, chance=random.Random(1))

    def run(self, steps: Steps[Any]) -> Any:
        came: Reply | Lost | None = None
        try:
            while True:
                step = steps.send(came)
                came = None
                if isinstance(step, Wait):
                    assert step.seconds >= 0
                    self.now += step.seconds
                else:
                    self.sent.append((self.now, step))
                    came = self.script.pop(0) if self.script else OK
        except StopIteration as end:
            return end.value


def reply(status: int, body: str = "", **headers: str) -> Reply:
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, body.encode())


OK = reply(200, '{"code":0,"msg":"ok"}')
LOST = Lost(OSError("reset"), sent=True)
NOT_SENT = Lost(OSError("refused"), sent=False)
BUSY = reply(503, '{"code":-1,"msg":"busy"}', retry_after="7")
MANY = reply(429, '{"code":4029,"msg":"too many"}', retry_after="1")


def test_a_retry_is_the_same_request_and_waits_as_it_is_told() -> None:
    hand = Hand(LOST, BUSY, MANY, reply(502, "<html>"), NOT_SENT)
    hand.run(hand.core.set(1, {"a": 1}))
    assert len(hand.sent) == 6
    assert len({(s.content, s.headers["idempotency-key"]) for _, s in hand.sent}) == 1
    times = [at for at, _ in hand.sent]
    assert times[2] - times[1] > 6.99
    assert times[3] - times[2] > 0.99


def test_waits_grow_are_random_and_bounded() -> None:
    hand = Hand(*[LOST] * 100, retry=Retry(attempts=12, first=0.1, most=3, seconds=1000))
    with pytest.raises(Unreachable) as failed:
        hand.run(hand.core.set(1, {"a": 1}))
    assert failed.value.maybe_done
    waits = [b[0] - a[0] for a, b in zip(hand.sent, hand.sent[1:], strict=False)]
    assert len(waits) == 11
    for attempt, wait in enumerate(waits):
        assert 0 <= wait <= min(3, 0.1 * 2**attempt)
    assert len(set(waits)) == 11


def test_a_call_gives_up_in_its_time() -> None:
    hand = Hand(*[BUSY] * 100, retry=Retry(attempts=100, seconds=30))
    with pytest.raises(ServerFailed) as failed:
        hand.run(hand.core.set(1, {"a": 1}))
    assert failed.value.status == 503
    assert hand.now <= 30
    assert len(hand.sent) == 5
    hand = Hand(*[NOT_SENT] * 100, retry=Retry(attempts=4))
    with pytest.raises(Unreachable) as unsent:
        hand.run(hand.core.set(1, {"a": 1}))
    assert not unsent.value.maybe_done


def test_plain_calls_have_no_extras_and_are_repeated_only_if_surely_not_done() -> None:
    hand = Hand(NOT_SENT, MANY, plain=True)
    hand.run(hand.core.set(1, {"a": 1}))
    assert len(hand.sent) == 3
    for _, sent in hand.sent:
        assert set(sent.headers) == {"authorization", "accept-language", "content-type"}
    for lost, error in ((LOST, Unreachable), (BUSY, ServerFailed), (reply(500, "oops"), ServerFailed)):
        hand = Hand(lost, plain=True)
        with pytest.raises(error):
            hand.run(hand.core.set(1, {"a": 1}))
        assert len(hand.sent) == 1
        hand = Hand(lost, plain=True)
        hand.run(hand.core.set(1, {"a": 1}, repeatable=True))
        assert len(hand.sent) == 2
    for steps in (
        hand.core.set(1, {"a": 1}, key="k"),
        hand.core.get(1),
        hand.core.set(1, {"a": datetime.now(UTC)}),
        hand.core.batch([Record(1, {})], dry_run=True),
    ):
        with pytest.raises(ValueError, match=r"platform|timezone"):
            hand.run(steps)


def test_the_pace_keeps_below_the_limit_in_any_second() -> None:
    hand = Hand(qps=5)
    for _ in range(23):
        hand.run(hand.core.set(1, {"a": 1}))
    times = [at for at, _ in hand.sent]
    assert all(later - earlier > 1 for earlier, later in zip(times, times[5:], strict=False))
    assert times[-1] < 5


def test_the_pace_learns_the_limit_from_the_answers() -> None:
    told = reply(200, '{"code":0,"msg":"ok"}', ratelimit_limit="3", ratelimit_remaining="2", ratelimit_reset="1")
    hand = Hand(*[told] * 50, qps=100)
    for _ in range(10):
        hand.run(hand.core.set(1, {"a": 1}))
    times = [at for at, _ in hand.sent]
    assert all(later - earlier > 1 for earlier, later in zip(times, times[3:], strict=False))
    # Other clients have used up the limit.
    pace = Pace(None)
    turn = pace.turn(0.0)
    assert turn.moment == 0
    pace.observe(turn, {"ratelimit-limit": "100", "ratelimit-remaining": "0", "ratelimit-reset": "1"}, 0.0)
    assert pace.turn(0.25).moment == 1


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_real_limit_is_kept_without_refusals(kind: str) -> None:
    with running(qps=20) as server:
        declare(server)
        with any_client(kind, server.url, server.project, server.secret, retry=Retry(attempts=1)) as client:
            for _ in range(50):
                client.set(CUID, {"number_accumulate": 1})
        assert server.attributes(CUID) == {"number_accumulate": 50}


# buffers


def test_a_buffer_delivers_in_order_and_tells_what_was_refused(client: AnyClient, server: Server) -> None:
    with pytest.raises(RecordsRefused) as told, client.buffer() as buffer:  # noqa: PT012
        for n in range(500):
            buffer.set(CUID, {"number_overwrite": n, "number_accumulate": 1})
        buffer.set(CUID, {"nowhere": 1})
        with pytest.raises(RecordsRefused):
            buffer.flush(30)
        assert buffer.waiting == 0
        assert server.attributes(CUID) == {"number_overwrite": 499, "number_accumulate": 500}
        buffer.set(8, {"nowhere": 1})
        buffer.add([Record(1, {"number_once": 1}), Record(77, {"number_once": 1})])
    assert told.value.count == 2
    assert [(record.user, type(error)) for record, error in told.value.failures] == [
        (8, AttributeUnknown),
        (77, UserUnknown),
    ]


def test_a_callback_is_told_instead(client: AnyClient, server: Server) -> None:
    told: list[Any] = []
    with client.buffer(on_error=lambda record, error: told.append((record.values, error.code))) as buffer:
        buffer.set(CUID, {"nowhere": Decimal("1.5")})
        buffer.set(CUID, {"number_once": 1})
    assert told == [({"nowhere": Decimal("1.5")}, 40010)]
    assert server.attributes(CUID) == {"number_once": 1}


def test_values_that_cannot_be_sent_are_told_at_once(client: AnyClient) -> None:
    with client.buffer() as buffer:
        with pytest.raises(TypeError, match="of type dict"):
            buffer.set(CUID, {"string_once": {}})
        with pytest.raises(ValueError, match="on_unknown"):
            buffer.set(("phone", "1"), {"string_once": "a"})
        with pytest.raises(ValueError, match="U\\+D800"):
            buffer.set(CUID, {"string_once": "a\ud800"})
        with pytest.raises(ValueError, match="half of a surrogate pair"):
            buffer.set(CUID, {"a\ud800": "a"})
        for user in ("phone", ("phone",), ("phone", 1), None, 1.5, True):
            with pytest.raises(TypeError, match="a CUID, or a pair"):
                buffer.set(user, {"string_once": "a"})
        for key in ("", "two words", "ü", "x" * 256):
            with pytest.raises(ValueError, match="visible ASCII"):
                buffer.set(CUID, {"string_once": "a"}, key=key)
            with pytest.raises(ValueError, match="visible ASCII"):
                client.set(CUID, {"string_once": "a"}, key=key)


def test_users_by_identifier_in_a_buffer(client: AnyClient, server: Server) -> None:
    with client.buffer(on_unknown="register") as buffer:
        for _ in range(3):
            buffer.set(("phone", "1"), {"number_accumulate": 1})
    assert server.attributes(client.register("phone", ["1"])["1"]) == {"number_accumulate": 3}


def test_a_full_buffer_waits_or_refuses(server: Server) -> None:
    with Client("http://127.0.0.1:9", "p", "s", retry=QUICK) as nowhere:
        buffer = nowhere.buffer(capacity=3, full="raise", close_seconds=0.2)
        for n in range(3):
            buffer.set(CUID, {"number_once": n})
        with pytest.raises(BufferFull):
            buffer.set(CUID, {"number_once": 3})
        with pytest.raises(ValueError, match="holds 3"):
            buffer.add([Record(CUID, {"number_once": 1})] * 4)
        with pytest.raises(NotDelivered):
            buffer.flush(0.1)
        with pytest.raises(NotDelivered) as left:
            buffer.close()
        assert [record.values for record in left.value.records] == [{"number_once": n} for n in range(3)]
        assert isinstance(left.value.__cause__, Unreachable)
    with server.client() as client, client.buffer(capacity=3) as waiting:
        for _ in range(100):
            waiting.set(CUID, {"number_accumulate": 1})
            assert waiting.waiting <= 3
    assert server.attributes(CUID) == {"number_accumulate": 100}


def test_a_wrong_secret_does_not_hold_the_caller_up(server: Server) -> None:
    started = time.monotonic()
    with Client(server.url, server.project, "wrong", retry=QUICK) as client:
        buffer = client.buffer(capacity=2)
        with pytest.raises(BufferFull) as full:  # noqa: PT012
            for _ in range(10):
                buffer.set(CUID, {"number_once": 1})
        assert isinstance(full.value.__cause__, AuthenticationFailed)
        with pytest.raises(NotDelivered) as left:
            buffer.close()
        assert left.value.count == 2
    assert time.monotonic() - started < 30


def test_many_threads_share_a_buffer(server: Server) -> None:
    with server.client() as client, client.buffer(capacity=100) as buffer:

        def hand_over() -> None:
            for _ in range(100):
                buffer.set(CUID, {"number_accumulate": 1})

        threads = [threading.Thread(target=hand_over) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert server.attributes(CUID) == {"number_accumulate": 500}


def test_a_buffer_keeps_the_callers_exception_and_still_delivers(server: Server) -> None:
    with server.client() as client:
        with pytest.raises(KeyError), client.buffer() as buffer:  # noqa: PT012
            buffer.set(CUID, {"number_accumulate": 1})
            raise KeyError
        with pytest.raises(BufferFull, match="closed"):
            buffer.set(CUID, {"number_accumulate": 1})
    assert server.attributes(CUID) == {"number_accumulate": 1}


# a buffer's result is that of single calls in the same order: compared with the rules themselves

_texts = st.sampled_from("abc")
_values = st.fixed_dictionaries(
    {},
    optional={
        "number_accumulate": st.one_of(st.integers(-5, 5), st.decimals("-1", "1", places=2), st.just(Decimal("9e37"))),
        "number_overwrite": st.integers(0, 3),
        "number_once": st.integers(0, 3),
        "string_once": _texts,
        "list_append": st.lists(st.text("abcdefg", min_size=1, max_size=1), min_size=1, max_size=3),
        "bool_overwrite": st.one_of(st.booleans(), st.just(7)),
    },
).filter(bool)


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    with running() as server:
        declare(server)
        yield server


@settings(max_examples=25, deadline=None)
@given(
    records=st.lists(st.tuples(st.integers(0, 2), _values), min_size=1, max_size=30),
    flushes=st.sets(st.integers(0, 30)),
    spooled=st.booleans(),
)
def test_a_buffer_does_what_the_rules_say(
    shared: Server, tmp_path_factory: pytest.TempPathFactory, records: list[Any], flushes: set[int], spooled: bool
) -> None:
    project = shared.service.project(shared.project)
    base = 10_000 + shared.service.users(project, limit=1000).users[-1].cuid
    for user in range(3):
        shared.add_user(base + user)
    model = [Profile.new(0) for _ in range(3)]
    wrong = 0
    for user, values in records:
        wire = {name: int(value) if isinstance(value, bool) else value for name, value in values.items()}
        patch = validate(project.schema, wire, project.zone)
        decision = decide(model[user], patch, 0) if isinstance(patch, Patch) else None
        if decision is None or decision.problems:
            wrong += 1
        else:
            model[user] = decision.profile
    told: list[Any] = []
    spool = tmp_path_factory.mktemp("spool") if spooled else None
    with shared.client() as client, client.buffer(spool=spool, on_error=lambda *refusal: told.append(refusal)) as buffer:
        for place, (user, values) in enumerate(records):
            buffer.set(base + user, values)
            if place in flushes:
                buffer.flush(30)
    assert [shared.attributes(base + user) for user in range(3)] == [profile.attributes for profile in model]
    assert len(told) == wrong


# spools


def test_a_spool_outlives_its_buffer(client: AnyClient, server: Server, tmp_path: Path) -> None:
    spool = tmp_path / "deep" / "spool"
    with Client("http://127.0.0.1:9", "p", "s", retry=QUICK, timezone="UTC") as nowhere:
        buffer = nowhere.buffer(spool=spool, close_seconds=0.1, on_unknown="register")
        for n in range(10):
            buffer.set(CUID, {"number_accumulate": Decimal("0.1"), "list_append": [str(n)]})
        buffer.set(("phone", "1"), {"string_once": "中"})
        with pytest.raises(SpoolFault, match="in use"):
            nowhere.buffer(spool=spool)
        with pytest.raises(NotDelivered, match="stay in the spool") as left:
            buffer.close()
        assert left.value.count == 11
    with client.buffer(spool=spool, on_unknown="register") as again:
        again.flush(30)
    assert server.attributes(CUID) == {"number_accumulate": 1, "list_append": [str(n) for n in range(10)]}
    with client.buffer(spool=spool) as empty:
        assert empty.waiting == 0


def test_what_may_have_been_sent_too_long_ago_is_told_and_not_sent_again(server: Server, tmp_path: Path) -> None:
    """The server may have forgotten its key. A record that was never sent is sent, at any age."""
    from usertable.client.spool import Spool

    spool = Spool(tmp_path, 2**20)
    for n in range(4):
        spool.append(spool.frame([(CUID, {"list_append": [str(n)], "number_accumulate": 1}, f"k{n}")]), 1)
    sent = spool.take(2)
    a_day_ago = time.time_ns() // 1_000_000 - 24 * 3_600_000
    spool.mark_sent(sent[-1].end, a_day_ago)
    spool.close()
    told: list[Any] = []
    with server.client() as client, client.buffer(spool=tmp_path, on_error=lambda r, e: told.append((r.key, type(e)))):
        pass
    assert told == [("k0", Stale), ("k1", Stale)]
    assert server.attributes(CUID) == {"list_append": ["2", "3"], "number_accumulate": 2}
    with server.client() as client, client.buffer(spool=tmp_path) as again:
        assert again.waiting == 0


def test_a_spool_and_the_platform_do_not_go_together(tmp_path: Path) -> None:
    with Client("http://127.0.0.1:9", "p", "s", plain=True) as client, pytest.raises(ValueError, match="delivered twice"):
        client.buffer(spool=tmp_path)
