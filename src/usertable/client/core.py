"""The client without I/O: what to send, and when to try again.

A call is a generator of steps: it yields what is to be done (:class:`Wait`, :class:`Send`) and is sent what came of it
(:class:`Reply`, :class:`Lost`). The clients in :mod:`usertable.client.clients` take the steps, with threads or with asyncio.
"""

from __future__ import annotations

import base64
import gzip
import itertools
import logging
import random
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeVar
from urllib.parse import quote
from zoneinfo import ZoneInfo

import msgspec

from usertable.client.answers import (
    RecordAnswer,
    batch_answers,
    native_answer,
    outcomes,
    platform_answer,
    refusal,
    shown_problems,
)
from usertable.client.errors import ApiError, BatchFailed, ClientError, RateLimited, ServerFailed, Unreachable, api_error
from usertable.client.process import PerProcess
from usertable.client.values import Wire, check_text, seconds, type_name, wire_values
from usertable.dialects.jiguang.vocabulary import ATTRIBUTE_PATH, MAX_IDENTITY_VALUES, REGISTER_PATH
from usertable.domain.identity import MAX_CUID

log = logging.getLogger("usertable.client")

MAX_RECORDS = 1000
BATCH_BYTES = 4 * 2**20
"""A batch is cut at so many bytes, well below what a server takes unless it is told otherwise."""
_SLOW_BATCHES = 5
"""Number of times that a batch of 1,000 records is cut to a quarter until one is left."""
_PACE_MARGIN = 0.05
_KEY = re.compile(r"[!-~]{1,255}")
_SLOW = {408, 504}
"""What a proxy answers if the server, or the client, takes too long."""
_BUSINESS = {40002, 40003, 40007, 40009, 40010}
_encode = msgspec.json.Encoder(decimal_format="number").encode

T = TypeVar("T")
Identity = tuple[str, str]
"""Name and value of an identifier."""
OnUnknown = Literal["refuse", "register", "import"]
Answer = RecordAnswer | ApiError
"""What came of a record that was sent; an error of its own is of one that is too large for the server."""


@dataclass(slots=True)
class Wait:
    """To be done: wait so many seconds."""

    seconds: float


@dataclass(slots=True)
class Send:
    """To be done: send a request."""

    method: str
    path: str
    content: bytes | None
    headers: dict[str, str]


@dataclass(slots=True)
class Reply:
    """What came back. The names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(slots=True)
class Lost:
    """No reply: `sent` tells whether the request may have reached the server, `slow` that it was not answered in time."""

    error: Exception
    sent: bool
    slow: bool = False


Steps = Generator[Wait | Send, Reply | Lost | None, T]


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how long to try: waits are random, up to `first`, twice that, and so on, up to `most` seconds.

    A server's Retry-After makes them longer. A call gives up after so many `attempts`, or when the next would begin later
    than `seconds` after it began.
    """

    attempts: int = 10
    first: float = 0.1
    most: float = 10.0
    seconds: float = 60.0

    def delay(self, attempt: int, chance: random.Random) -> float:
        """How long to wait after that attempt (0 is the first)."""
        return chance.uniform(0, min(self.most, self.first * 2 ** min(attempt, 60)))


@dataclass(frozen=True, slots=True)
class Record:
    """One user's values, for a batch or a buffer. The user is named by CUID, or by an identifier's name and value.

    `key` makes the write safe to retry; what has a number or id of its own (an order, an event) is best named by that. One
    is made if there is none.

    With `identifiers` it is a row of an import, for a batch: all identifier values that the user has, or is to have, by
    name. The user is a CUID then, or None, and there need be no values.

    Raises:
        TypeError, ValueError: user or key is none.
    """

    user: int | Identity | None
    values: Mapping[str, Any]
    key: str | None = None
    identifiers: Mapping[str, str | Sequence[str]] | None = None

    def __post_init__(self) -> None:
        user = self.user
        is_cuid = isinstance(user, int) and not isinstance(user, bool)
        if is_cuid:
            check_cuid(user)
        if self.identifiers is not None:
            if not is_cuid and user is not None:
                raise TypeError(f"user is {user!r}; expected a CUID or None beside identifiers")
        elif not is_cuid and not (isinstance(user, tuple) and len(user) == 2 and all(isinstance(p, str) for p in user)):
            raise TypeError(f"user is {user!r}; expected a CUID, or a pair of an identifier's name and value")
        if isinstance(user, tuple):
            check_text(f"the user {user!r}", "".join(user))
        if self.key is not None:
            check_key(self.key)


def check_key(key: str) -> None:
    """Raise ValueError if it can be no idempotency key."""
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise ValueError(f"key is {key!r}; expected 1 to 255 visible ASCII characters")


def check_cuid(cuid: Any) -> None:
    """Raise TypeError or ValueError if it can be sent as no CUID. What the server can judge is left to it."""
    if cuid is not None and not isinstance(cuid, (int, str)):
        raise TypeError(f"cuid is of type {type_name(cuid)}; expected int")
    if isinstance(cuid, int) and cuid.bit_length() > 63:
        raise ValueError(f"cuid has {cuid.bit_length()} bits; expected 1 to {MAX_CUID}")
    if isinstance(cuid, str):
        check_text("cuid", cuid)


@dataclass(frozen=True, slots=True)
class SetResult:
    """A write that is done. `outcomes` and `version` are told only if they were asked for."""

    replayed: bool
    outcomes: dict[str, str] | None = None
    version: int | None = None


@dataclass(frozen=True, slots=True)
class RecordResult:
    """What came of one record of a batch: `error` is None if it is done."""

    record: Record
    error: ClientError | None
    cuid: int | None = None
    version: int | None = None
    outcomes: dict[str, str] = field(default_factory=dict)
    replayed: bool = False
    effect: str | None = None
    """Of a row of an import that is done: `created`, `changed` or `unchanged`."""


@dataclass(frozen=True, slots=True)
class User:
    """A user's row. NUMBERs are `int` or `Decimal`, DATETIMEs `datetime` in the project's zone, BOOLs `bool`."""

    cuid: int
    version: int
    created_at: datetime
    updated_at: datetime
    attributes: dict[str, Any]
    identifiers: dict[str, list[str]]
    changed_at: dict[str, datetime | None] = field(default_factory=dict)
    """When the value of each attribute last changed, in UTC; None where that was before such times were kept."""


@dataclass(slots=True)
class Turn:
    """When a request may be sent, and later, when it was answered; monotonic seconds."""

    moment: float


class Pace:
    """Keeps requests of one API below so many in any second."""

    def __init__(self, limit: int | None) -> None:
        self._own_limit = limit
        self._limit = limit
        self._lock = threading.Lock()
        self._sent: deque[Turn] = deque()
        self._not_before = 0.0

    def turn(self, now: float) -> Turn:
        """Take a turn, which begins at its moment."""
        with self._lock:
            moment = max(now, self._not_before)
            if self._limit is not None:
                if len(self._sent) >= self._limit:
                    moment = max(moment, self._sent[-self._limit].moment + 1 + _PACE_MARGIN)
                while len(self._sent) >= self._limit:
                    self._sent.popleft()
            turn = Turn(moment)
            if self._limit is not None:
                self._sent.append(turn)
            return turn

    def observe(self, turn: Turn, headers: Mapping[str, str], now: float) -> None:
        """Learn from the answer to a turn: the limit, and whether others that share it have used it up."""
        # The server has counted it by now, but maybe not long before.
        turn.moment = now
        limit = headers.get("ratelimit-limit", "")
        if not limit.isascii() or not limit.isdigit() or not int(limit):
            return
        with self._lock:
            self._limit = min(int(limit), self._own_limit or int(limit))
            if headers.get("ratelimit-remaining") == "0":
                recent = sum(1 for sent in self._sent if now - 1 < sent.moment <= now)
                if recent < self._limit:
                    self._not_before = max(self._not_before, now + seconds(headers.get("ratelimit-reset")))


class Core(PerProcess):
    """All calls of a client, as steps. May be used by many threads, and in processes that are forked.

    Args:
        plain: the server is the original platform: no keys, no batches, no native API.
        qps: so many requests per second and API at most, even if the server would take more.
        compress: batches are sent in gzip.
    """

    def __init__(
        self,
        project: str,
        secret: str,
        *,
        timezone: str | None,
        plain: bool,
        qps: int | None,
        retry: Retry,
        compress: bool = False,
        clock: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
    ) -> None:
        if qps is not None and qps < 1:
            raise ValueError(f"qps is {qps}; expected 1 or more, or None")
        check_credential("project", project)
        check_credential("secret", secret)
        if ":" in project:
            raise ValueError(f"project is {project!r}; a project's id has no colon")
        credentials = base64.b64encode(f"{project}:{secret}".encode()).decode()
        self.plain = plain
        self.retry = retry
        self._compress = compress
        self.chance = chance or random.Random()
        self._headers = {"authorization": f"Basic {credentials}", "accept-language": "en"}
        self._project = f"/api/v1/projects/{quote(project, safe='')}"
        self._zone = ZoneInfo(timezone) if timezone else None
        self._types: dict[str, str] = {}
        self._clock = clock
        self._qps = qps
        self._batch_bytes = BATCH_BYTES
        self._batch_records = MAX_RECORDS
        """Maximum records in a batch: fewer than the server takes, if it did not answer in time."""
        self._begin()
        super().__init__()

    def _begin(self) -> None:
        self._paces = {api: Pace(self._qps) for api in ("attribute", "register", "native", "batch")}
        self._key = secrets.token_hex(8)
        self._count = itertools.count(1)

    def _begin_in_child(self) -> None:
        # With its parent's keys a child's write would be taken for its parent's, sent again, and not be done.
        self._begin()
        self.chance = random.Random()

    def new_key(self) -> str:
        """An idempotency key that was never used, in this process or any other."""
        self._own_process()
        return f"{self._key}-{next(self._count):x}"

    # calls

    def set(
        self,
        cuid: int,
        values: Mapping[str, Any],
        *,
        key: str | None = None,
        explain: bool = False,
        dry_run: bool = False,
        repeatable: bool = False,
    ) -> Steps[SetResult]:
        """Set attributes of one user."""
        if self.plain and (key is not None or explain or dry_run):
            raise ValueError("the platform's own endpoint knows no key, explanation or dry run")
        if key is not None:
            check_key(key)
        check_cuid(cuid)
        body = _encode({"cuid": cuid, "data": (yield from self.wire(values))})
        headers = {}
        if not self.plain and not dry_run:
            headers["idempotency-key"] = key or self.new_key()
        if explain:
            headers["prefer"] = "return=representation"
        request = self._send("PUT", ATTRIBUTE_PATH + ("?dryRun=1" if dry_run else ""), body, headers)
        reply = yield from self._ask(request, "attribute", safe=not self.plain or repeatable)
        try:
            answer = platform_answer(reply)
        except ApiError as refused:
            # A lean refusal tells the first problem only; a dry run tells all of them.
            if not self.plain and not refused.problems and refused.code in _BUSINESS:
                yield from self._explain_refusal(body)
            raise
        told = answer.get("data") or {}
        return SetResult(reply.headers.get("idempotency-replayed") == "true", told.get("outcomes"), told.get("version"))

    def _explain_refusal(self, body: bytes) -> Steps[None]:
        """Raise the refusal of a write with all its problems, if a dry run can tell them."""
        request = self._send("PUT", ATTRIBUTE_PATH + "?dryRun=1", body)
        reply = yield from self._ask(request, "attribute", safe=True)
        if reply.status < 429:
            platform_answer(reply)

    def register(self, identifier: str, values: Iterable[str]) -> Steps[dict[str, int]]:
        """Get CUID, for any number of values."""
        if isinstance(values, (str, bytes)):
            raise TypeError(f"values is of type {type_name(values)}; expected a list of str, one per user")
        wanted = list(dict.fromkeys(values))
        for text in (identifier, *wanted):
            if not isinstance(text, str):
                raise TypeError(f"a value of {identifier} is of type {type_name(text)}; expected str")
            check_text(f"the value {text!r} of {identifier}", text)
        cuids: dict[str, int] = {}
        while wanted:
            some, wanted = wanted[:MAX_IDENTITY_VALUES], wanted[MAX_IDENTITY_VALUES:]
            body = _encode({"identityName": identifier, "identityValues": some})
            # The same value always gives the same CUID, so this is safe to repeat, on the platform too.
            reply = yield from self._ask(self._send("POST", REGISTER_PATH, body), "register", safe=True)
            for entry in platform_answer(reply)["data"]:
                if entry.get("errorCode"):
                    raise api_error(entry["errorCode"], str(entry.get("errorMsg", "")), status=reply.status)
                cuids[entry["identityValues"]] = entry["cuid"]
        return cuids

    def get(self, cuid: int, *, hidden: bool = False) -> Steps[User]:
        """One user's row."""
        query = "?hidden=1" if hidden else ""
        row = yield from self._native("GET", f"{self._project}/users/{int(cuid)}{query}")
        zone = yield from self.zone()
        values = row["attributes"]
        if not values.keys() <= self._types.keys():
            schema = yield from self._native("GET", f"{self._project}/schema")
            self._types = {a["name"]: a["type"] for a in schema["attributes"]}
        return User(
            cuid=row["cuid"],
            version=row["version"],
            created_at=datetime.fromisoformat(row["created_at"]),
            updated_at=datetime.fromisoformat(row["updated_at"]),
            attributes={
                name: datetime.fromisoformat(value).replace(tzinfo=zone) if self._types.get(name) == "DATETIME" else value
                for name, value in values.items()
            },
            identifiers=row["identifiers"],
            changed_at={
                name: None if at is None else datetime.fromisoformat(at) for name, at in row.get("changed_at", {}).items()
            },
        )

    def batch(
        self, records: Iterable[Record], *, on_unknown: OnUnknown | None = None, dry_run: bool = False
    ) -> Steps[list[RecordResult]]:
        """Write any number of records, each by itself, in order."""
        given = list(records)
        if on_unknown in (None, "register") and any(record.identifiers is not None for record in given):
            raise ValueError("on_unknown must be 'refuse' or 'import', because a record has identifiers")
        if on_unknown is None and any(isinstance(record.user, tuple) for record in given):
            raise ValueError("on_unknown must be 'refuse' or 'register', because a record names its user by an identifier")
        results: list[RecordResult | None] = [None] * len(given)
        wired: list[dict[str, Wire]] = []
        for place, record in enumerate(given):
            try:
                wired.append((yield from self.wire(record.values)))
            except (TypeError, ValueError) as error:
                raise type(error)(f"record {place}: {error}") from None
        try:
            if self.plain:
                if dry_run or on_unknown in ("refuse", "import"):
                    raise ValueError(
                        "the platform's own endpoint knows no dry run, no look-up without making users, and no import"
                    )
                yield from self._one_by_one(given, wired, results)
            else:
                yield from self._in_batches(given, wired, results, on_unknown, dry_run)
        except ClientError as failure:
            known = sum(result is not None for result in results)
            raise BatchFailed(
                f"{len(given) - known} of {len(given)} records are not done: {failure}", results, failure
            ) from failure
        return [result for result in results if result is not None]

    def declared(self) -> Steps[tuple[dict[str, Any], dict[str, Any]]]:
        """The project and its schema, as the native API shows them."""
        project = yield from self._native("GET", self._project)
        return project, (yield from self._native("GET", f"{self._project}/schema"))

    # what they are made of

    def zone(self) -> Steps[ZoneInfo]:
        """The project's time zone, asked for once."""
        if self._zone is None:
            if self.plain:
                raise ValueError("name the project's timezone: the platform's own endpoint does not tell it")
            project = yield from self._native("GET", self._project)
            self._zone = ZoneInfo(project["timezone"])
        return self._zone

    def wire(self, values: Mapping[str, Any]) -> Steps[dict[str, Wire]]:
        """Values as they are sent; asks for the time zone if that is needed."""
        if self._zone is None and any(isinstance(v, datetime) and v.tzinfo is not None for v in values.values()):
            yield from self.zone()
        known = self._zone or ZoneInfo("UTC")
        return wire_values(values, lambda: known)

    def _send(self, method: str, path: str, content: bytes | None = None, headers: Mapping[str, str] | None = None) -> Send:
        sent = {**self._headers, **(headers or {})}
        if content is not None:
            sent["content-type"] = "application/json"
        return Send(method, path, content, sent)

    def _native(self, method: str, path: str) -> Steps[dict[str, Any]]:
        if self.plain:
            raise ValueError("the platform has no such endpoint; only set and register are plain")
        return native_answer((yield from self._ask(self._send(method, path), "native", safe=True)))

    def _ask(self, request: Send, api: str, *, safe: bool, parts: bool = False) -> Steps[Reply]:
        """Send a request until there is an answer that another try would not better, or no time for one.

        Args:
            safe: whether it may be sent again when nobody knows if it was done.
            parts: whether it may be sent in parts; then one that takes too long is not sent again: raises _TooSlow.
        """
        self._own_process()
        pace = self._paces[api]
        give_up = self._clock() + self.retry.seconds
        maybe_done = False
        for attempt in itertools.count():
            turn = pace.turn(self._clock())
            if (delay := turn.moment - self._clock()) > 0:
                yield Wait(delay)
            came = yield request
            assert came is not None
            least = 0.0
            if parts and (came.slow if isinstance(came, Lost) else came.status in _SLOW):
                raise _TooSlow(str(came.error) if isinstance(came, Lost) else f"HTTP {came.status}")
            if isinstance(came, Reply):
                pace.observe(turn, came.headers, self._clock())
                if not _is_passing(came, safe=safe):
                    return came
                least = seconds(came.headers.get("retry-after"))
            else:
                maybe_done |= came.sent
                if came.sent and not safe:
                    raise Unreachable(
                        f"no reply: {came.error}; it was not tried again, since it may have been done",
                        maybe_done=True,
                    ) from came.error
            pause = max(least, self.retry.delay(attempt, self.chance))
            if attempt + 1 >= self.retry.attempts or self._clock() + pause > give_up:
                if isinstance(came, Reply):
                    return came
                raise Unreachable(f"no reply after {attempt + 1} tries: {came.error}", maybe_done=maybe_done) from came.error
            yield Wait(pause)
        raise AssertionError("unreachable")

    def _encode_record(self, record: Record, values: dict[str, Wire], dry_run: bool) -> bytes:
        user: dict[str, Any] = {} if record.user is None else {"cuid": record.user}
        if isinstance(record.user, tuple):
            user = {"identity": {"name": record.user[0], "value": record.user[1]}}
        if record.identifiers is not None:
            user["identifiers"] = record.identifiers
        key = {} if dry_run else {"key": record.key or self.new_key()}
        return _encode({**user, "data": values, **key})

    def _in_batches(
        self,
        records: Sequence[Record],
        wired: Sequence[dict[str, Wire]],
        results: list[RecordResult | None],
        on_unknown: OnUnknown | None,
        dry_run: bool,
    ) -> Steps[None]:
        encoded = [self._encode_record(r, w, dry_run) for r, w in zip(records, wired, strict=True)]
        answers: list[Answer | None] = [None] * len(records)
        try:
            yield from self.send_encoded(encoded, answers, on_unknown=on_unknown, dry_run=dry_run)
        finally:
            results[:] = [_record_result(r, a) if a else None for r, a in zip(records, answers, strict=True)]

    def send_encoded(
        self,
        records: Sequence[bytes],
        answers: list[Answer | None],
        *,
        on_unknown: OnUnknown | None,
        dry_run: bool,
    ) -> Steps[None]:
        """Send records that are JSON already, in order, and put the answer to each into `answers` when it is known.

        Raises ClientError if there is no getting on; what follows the answers that there are then may have been sent.
        """
        waiting = _Waiting(records, answers)
        attempt = slow = 0
        most_slow = min(_SLOW_BATCHES, self.retry.attempts - 1)
        while indexes := waiting.next_batch(self._batch_records, self._batch_bytes):
            request = self._batch_request([records[i] for i in indexes], on_unknown, dry_run)
            try:
                # The last tries are as for any other request.
                reply = yield from self._ask(request, "batch", safe=True, parts=len(indexes) > 1 and slow < most_slow)
            except _TooSlow as failure:
                # The server may still be at it: what it has done by then is known to it by its key, and not done again. A
                # quarter takes less time, so that each try gets on.
                log.warning("%d records were not answered in time (%s); they are sent in parts", len(indexes), failure)
                slow += 1
                self._batch_records = max(1, len(indexes) // 4)
                waiting.put_back(indexes)
                yield Wait(self.retry.delay(slow, self.chance))
                continue
            if slow or self._batch_records < MAX_RECORDS:
                slow = 0
                self._batch_records = min(MAX_RECORDS, self._batch_records + 1 + self._batch_records // 4)
            if reply.status == 413:
                self._learn_size(waiting, indexes, reply)
                continue
            undone = waiting.settle(indexes, batch_answers(reply))
            if not undone:
                attempt = 0
                continue
            attempt = attempt + 1 if len(undone) == len(indexes) else 0
            if attempt >= self.retry.attempts:
                raise ServerFailed(-1, undone[0].msg, shown_problems(undone[0].problems))
            yield Wait(max(1.0 if attempt else 0.0, self.retry.delay(attempt, self.chance)))

    def _batch_request(self, records: Sequence[bytes], on_unknown: OnUnknown | None, dry_run: bool) -> Send:
        path = f"{self._project}/users:batch{'?dry_run=1' if dry_run else ''}"
        tail = f'],"on_unknown":"{on_unknown}"}}'.encode() if on_unknown else b"]}"
        body = b'{"records":[' + b",".join(records) + tail
        if self._compress:
            return self._send("POST", path, gzip.compress(body, 1), {"content-encoding": "gzip"})
        return self._send("POST", path, body)

    def _learn_size(self, waiting: _Waiting, indexes: Sequence[int], reply: Reply) -> None:
        """After a batch that was too large: this server takes less than others."""
        if len(indexes) > 1:
            self._batch_bytes = max(1, waiting.size(indexes) // 2)
            waiting.put_back(indexes)
        else:
            # The record is too large all by itself.
            waiting.answers[indexes[0]] = refusal(reply)

    def _one_by_one(
        self, records: Sequence[Record], wired: Sequence[dict[str, Wire]], results: list[RecordResult | None]
    ) -> Steps[None]:
        for place, (record, values) in enumerate(zip(records, wired, strict=True)):
            try:
                cuid = record.user
                if isinstance(cuid, tuple):
                    cuid = (yield from self.register(cuid[0], [cuid[1]]))[cuid[1]]
                assert cuid is not None
                yield from self.set(cuid, values)
            except RateLimited:
                raise
            except ApiError as refused:
                results[place] = RecordResult(record, refused)
                if isinstance(refused, ServerFailed):
                    # Whether it was done is not known, and that it will be next time neither.
                    raise
            except Unreachable as unreachable:
                if unreachable.maybe_done:
                    # It must not be sent again.
                    results[place] = RecordResult(record, unreachable)
                raise
            else:
                results[place] = RecordResult(record, None, cuid)


class _Waiting:
    """Records that wait to be sent, in order, by their indexes among all, and the answers to the others."""

    def __init__(self, records: Sequence[bytes], answers: list[Answer | None]) -> None:
        self.answers = answers
        self._records = records
        self._waiting = deque(range(len(records)))

    def size(self, indexes: Iterable[int]) -> int:
        """Bytes of some records."""
        return sum(len(self._records[i]) for i in indexes)

    def next_batch(self, count: int, size: int) -> list[int]:
        """Take the indexes of the next records, at most so many with so many bytes, or one; none if none are left."""
        indexes: list[int] = []
        while self._waiting and len(indexes) < count:
            size -= len(self._records[self._waiting[0]])
            if indexes and size < 0:
                break
            indexes.append(self._waiting.popleft())
        return indexes

    def put_back(self, indexes: Sequence[int]) -> None:
        """Have records sent again, before all others."""
        self._waiting.extendleft(reversed(indexes))

    def settle(self, indexes: Sequence[int], answers: Sequence[RecordAnswer]) -> list[RecordAnswer]:
        """Keep the answers to records, but for those who say "not now", which are given back: their records wait again."""
        undone = {}
        for i, answer in zip(indexes, answers, strict=True):
            if answer.code == -1:
                undone[i] = answer
            else:
                self.answers[i] = answer
        # What follows waits, so that the order of one user's records is kept.
        self.put_back(list(undone))
        return list(undone.values())


class _TooSlow(Exception):
    """A request that can be sent in parts was not answered in time."""


def check_credential(name: str, value: Any) -> None:
    """Raise TypeError or ValueError if it can be no project's id or secret, as the end of a file's line may make it."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is of type {type_name(value)}; expected str")
    check_text(name, value)
    if any(character < " " or character == "\x7f" for character in value):
        raise ValueError(f"{name} has a line break or another control character in it; strip() removes those at its ends")


def _is_passing(reply: Reply, *, safe: bool) -> bool:
    """Whether another try may be answered better."""
    # A server may be set to answer 200 to refusals.
    if reply.status in (408, 429) or reply.content.startswith(b'{"code":4029,'):
        return True
    return safe and reply.status >= 500


def _record_result(record: Record, answer: Answer) -> RecordResult:
    if isinstance(answer, ApiError):
        return RecordResult(record, answer)
    told = (answer.cuid, answer.version, outcomes(answer), answer.replayed, answer.effect)
    return RecordResult(record, answer.error, *told)
