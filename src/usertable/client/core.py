"""The client without I/O: what to send, and when to retry.

A call is a generator of steps. It yields an action (:class:`Wait`, :class:`Send`) and receives the result (:class:`Reply`,
:class:`Lost`). The clients in :mod:`usertable.client.clients` perform the actions, with threads or with asyncio.
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
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeVar
from urllib.parse import quote, urlencode
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
from usertable.client.history import (
    ChangePage,
    Moment,
    Shown,
    UserDifference,
    change_of,
    datetime_of,
    difference_of,
    moment_text,
)
from usertable.client.process import PerProcess
from usertable.client.values import Wire, check_text, seconds, type_name, wire_values
from usertable.dialects.jiguang.vocabulary import ATTRIBUTE_PATH, MAX_IDENTITY_VALUES, REGISTER_PATH
from usertable.domain.identity import MAX_CUID

log = logging.getLogger("usertable.client")

MAX_RECORDS = 1000
BATCH_BYTES = 4 * 2**20
"""Maximum bytes of a batch; well below a server's default limit."""
_SLOW_BATCHES = 5
"""Number of times that a batch of 1,000 records is cut to a quarter until one record is left."""
_PACE_MARGIN = 0.05
_KEY = re.compile(r"[!-~]{1,255}")
_SOURCE = re.compile(r"[!-~]([ -~]{0,98}[!-~])?")
_SLOW = {408, 504}
"""HTTP statuses with which a proxy reports that the server or the client took too long."""
_BUSINESS = {40002, 40003, 40007, 40009, 40010}
_encode = msgspec.json.Encoder(decimal_format="number").encode

T = TypeVar("T")
Identity = tuple[str, str]
"""Name and value of an identifier."""
OnUnknown = Literal["refuse", "register", "import"]
Answer = RecordAnswer | ApiError
"""The answer to one record. An ApiError stands for a record that is too large for the server."""


@dataclass(slots=True)
class Wait:
    """Action: wait for this number of seconds."""

    seconds: float


@dataclass(slots=True)
class Send:
    """Action: send a request."""

    method: str
    path: str
    content: bytes | None
    headers: dict[str, str]


@dataclass(slots=True)
class Reply:
    """The response. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(slots=True)
class Lost:
    """No response. `sent`: the request may have reached the server. `slow`: it timed out."""

    error: Exception
    sent: bool
    slow: bool = False


Steps = Generator[Wait | Send, Reply | Lost | None, T]


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how long to retry.

    Waits are random: up to `first` seconds, then up to twice that, and so on, up to `most` seconds. A server's Retry-After
    makes them longer. A call gives up after `attempts` attempts, or when the next would begin more than `seconds` seconds
    after the first.
    """

    attempts: int = 10
    first: float = 0.1
    most: float = 10.0
    seconds: float = 60.0

    def delay(self, attempt: int, chance: random.Random) -> float:
        """Return the seconds to wait after this attempt (0 is the first)."""
        return chance.uniform(0, min(self.most, self.first * 2 ** min(attempt, 60)))


@dataclass(frozen=True, slots=True)
class Record:
    """One user's values, for a batch or a buffer. `user` is a CUID, or an identifier's name and value.

    `key` makes the write safe to retry. If the write has a number or ID of its own (an order, an event), use it as the key.
    Without one, a key is generated.

    With `identifiers`, the record is a row of an import, for a batch: the identifier values to assign to the user, by name.
    `user` is then a CUID or None, and `values` may be empty.

    Raises:
        TypeError, ValueError: the user or the key is invalid.
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
    """Raise ValueError if the key is not a valid idempotency key."""
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise ValueError(f"key is {key!r}; expected 1 to 255 visible ASCII characters")


def check_cuid(cuid: Any) -> None:
    """Raise TypeError or ValueError if the CUID cannot be sent. The server validates the rest."""
    if cuid is not None and not isinstance(cuid, (int, str)):
        raise TypeError(f"cuid is of type {type_name(cuid)}; expected int")
    if isinstance(cuid, int) and cuid.bit_length() > 63:
        raise ValueError(f"cuid has {cuid.bit_length()} bits; expected 1 to {MAX_CUID}")
    if isinstance(cuid, str):
        check_text("cuid", cuid)


@dataclass(frozen=True, slots=True)
class SetResult:
    """A completed write. `outcomes`, `version` and `change` are set only if they were requested."""

    replayed: bool
    outcomes: dict[str, str] | None = None
    version: int | None = None
    change: int | None = None
    """The number of the change in the user's history; None if none was recorded."""


@dataclass(frozen=True, slots=True)
class RecordResult:
    """The result of one record of a batch. `error` is None if the record was written."""

    record: Record
    error: ClientError | None
    cuid: int | None = None
    version: int | None = None
    outcomes: dict[str, str] = field(default_factory=dict)
    replayed: bool = False
    effect: str | None = None
    """For a row of an import that was written: `created`, `changed` or `unchanged`."""
    change: int | None = None
    """The number of the change in the user's history; None if none was recorded, and for a row of an import."""


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
    """When the value of each attribute last changed, in UTC; None if that was before change times were stored.

    Empty if an earlier moment was requested.
    """
    as_of: datetime | None = None
    """The moment that was requested, in UTC; None for now."""
    not_kept: list[str] = field(default_factory=list)
    """Attributes whose values at that moment are unknown, because their history was off then or later."""


@dataclass(slots=True)
class Turn:
    """When a request may be sent; after its answer, when it was answered. Monotonic seconds."""

    moment: float


class Pace:
    """Limits the requests to one API per second."""

    def __init__(self, limit: int | None) -> None:
        self._own_limit = limit
        self._limit = limit
        self._lock = threading.Lock()
        self._sent: deque[Turn] = deque()
        self._not_before = 0.0

    def turn(self, now: float) -> Turn:
        """Reserve the next turn. The request may be sent at its `moment`."""
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
        """Adjust to the answer to a turn: the server's limit, and whether other clients of the project have used it up."""
        # The server has counted the request by now, but possibly not long before.
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
    """All calls of a client, as steps. Safe to share between threads, and in forked processes.

    Args:
        plain: the server is the original platform: no keys, no batches, no native API.
        qps: maximum requests per second and API, even if the server allows more.
        compress: whether to send batches with gzip.
        admin_token: the server's admin token, sent instead of the project's ID and secret.
        source: what the caller runs, such as a release; sent with every request.
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
        admin_token: str = "",
        source: str = "",
        clock: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
    ) -> None:
        if qps is not None and qps < 1:
            raise ValueError(f"qps is {qps}; expected 1 or more, or None")
        check_credential("project", project)
        if admin_token:
            check_credential("admin_token", admin_token)
        else:
            check_credential("secret", secret)
        if source and not _SOURCE.fullmatch(source):
            raise ValueError(f"source is {source!r}; expected 1 to 100 visible ASCII characters, with spaces in between")
        if ":" in project:
            raise ValueError(f"project is {project!r}; expected the ID of a project, which has no colon")
        credentials = base64.b64encode(f"{project}:{secret}".encode()).decode()
        self.plain = plain
        self.retry = retry
        self._compress = compress
        self.chance = chance or random.Random()
        authorization = f"Bearer {admin_token}" if admin_token else f"Basic {credentials}"
        self._headers = {"authorization": authorization, "accept-language": "en"}
        if source:
            self._headers["usertable-source"] = source
        self._project = f"/api/v1/projects/{quote(project, safe='')}"
        self._zone = ZoneInfo(timezone) if timezone else None
        self._types: dict[str, str] = {}
        self._clock = clock
        self._qps = qps
        self._batch_bytes = BATCH_BYTES
        self._batch_records = MAX_RECORDS
        """Maximum number of records in a batch. Reduced below the server's limit if the server did not answer in time."""
        self._begin()
        super().__init__()

    def _begin(self) -> None:
        self._paces = {api: Pace(self._qps) for api in ("attribute", "register", "native", "batch")}
        self._key = secrets.token_hex(8)
        self._count = itertools.count(1)

    def _begin_in_child(self) -> None:
        # If a child used its parent's keys, the server would take its writes for retries of the parent's and ignore them.
        self._begin()
        self.chance = random.Random()

    def new_key(self) -> str:
        """Return an idempotency key that no process has used before."""
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
            raise ValueError(
                "key, explain and dry_run cannot be used with plain=True: the platform's endpoint does not have them"
            )
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
            # A plain refusal contains only the first problem. A dry run returns all of them.
            if not self.plain and not refused.problems and refused.code in _BUSINESS:
                yield from self._explain_refusal(body)
            raise
        told = answer.get("data") or {}
        replayed = reply.headers.get("idempotency-replayed") == "true"
        return SetResult(replayed, told.get("outcomes"), told.get("version"), told.get("change"))

    def _explain_refusal(self, body: bytes) -> Steps[None]:
        """Raise the refusal of a write with all its problems, if a dry run returns them."""
        request = self._send("PUT", ATTRIBUTE_PATH + "?dryRun=1", body)
        reply = yield from self._ask(request, "attribute", safe=True)
        if reply.status < 429:
            platform_answer(reply)

    def register(self, identifier: str, values: Iterable[str]) -> Steps[dict[str, int]]:
        """Call Get CUID, for any number of values."""
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
            # The same value always returns the same CUID, so this is safe to repeat, on the platform too.
            reply = yield from self._ask(self._send("POST", REGISTER_PATH, body), "register", safe=True)
            for entry in platform_answer(reply)["data"]:
                if entry.get("errorCode"):
                    raise api_error(entry["errorCode"], str(entry.get("errorMsg", "")), status=reply.status)
                cuids[entry["identityValues"]] = entry["cuid"]
        return cuids

    def get(self, cuid: int, *, hidden: bool = False, as_of: Moment | None = None) -> Steps[User]:
        """Return one user's row, now or as of an earlier moment."""
        query = _query(hidden="1" if hidden else None, as_of=moment_text("as_of", as_of))
        row = yield from self._native("GET", f"{self._project}/users/{int(cuid)}{query}")
        shown = yield from self._python_values(row["attributes"])
        return User(
            cuid=row["cuid"],
            version=row["version"],
            created_at=datetime.fromisoformat(row["created_at"]),
            updated_at=datetime.fromisoformat(row["updated_at"]),
            attributes={name: shown(name, value) for name, value in row["attributes"].items()},
            identifiers=row["identifiers"],
            changed_at={name: datetime_of(at) for name, at in row.get("changed_at", {}).items()},
            as_of=datetime_of(row.get("as_of")),
            not_kept=row.get("not_kept", []),
        )

    def changes(
        self, cuid: int, *, attribute: str | None, actor: str | None, hidden: bool, before: int | None, limit: int
    ) -> Steps[ChangePage]:
        """Return a page of a user's changes, newest first."""
        query = _query(attribute=attribute, actor=actor, hidden="1" if hidden else None, before=before, limit=limit)
        page = yield from self._native("GET", f"{self._project}/users/{int(cuid)}/changes{query}")
        shown = yield from self._python_values({name for entry in page["changes"] for name in entry["attributes"]})
        return ChangePage(
            [change_of(entry, shown) for entry in page["changes"]],
            page["next"],
            page["complete"],
            datetime.fromisoformat(page["kept_since"]),
            page["not_kept"],
        )

    def diff(self, cuid: int, start: Moment, end: Moment | None, *, hidden: bool) -> Steps[UserDifference]:
        """Return how a user differs between two moments."""
        moments = {"from": moment_text("start", start), "to": moment_text("end", end)}
        query = _query(**moments, hidden="1" if hidden else None)
        found = yield from self._native("GET", f"{self._project}/users/{int(cuid)}:diff{query}")
        shown = yield from self._python_values(found["attributes"])
        return UserDifference(
            cuid=found["cuid"],
            start=datetime.fromisoformat(found["from"]),
            end=datetime.fromisoformat(found["to"]),
            version_before=found["version_before"],
            version_after=found["version_after"],
            attributes={name: difference_of(name, entry, shown) for name, entry in found["attributes"].items()},
            identifiers={name: (values["before"], values["after"]) for name, values in found["identifiers"].items()},
            not_kept=found["not_kept"],
        )

    def batch(
        self, records: Iterable[Record], *, on_unknown: OnUnknown | None = None, dry_run: bool = False
    ) -> Steps[list[RecordResult]]:
        """Write any number of records in order, each on its own."""
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
                        "dry_run and on_unknown='refuse' or 'import' cannot be used with plain=True:"
                        " the platform's endpoint does not have them"
                    )
                yield from self._one_by_one(given, wired, results)
            else:
                yield from self._in_batches(given, wired, results, on_unknown, dry_run)
        except ClientError as failure:
            known = sum(result is not None for result in results)
            raise BatchFailed(
                f"records without a result: {len(given) - known} of {len(given)}; {failure}", results, failure
            ) from failure
        return [result for result in results if result is not None]

    def declared(self) -> Steps[tuple[dict[str, Any], dict[str, Any]]]:
        """Return the project and its schema, as the native API shows them."""
        project = yield from self._native("GET", self._project)
        return project, (yield from self._native("GET", f"{self._project}/schema"))

    # parts of the calls

    def _python_values(self, names: Collection[str]) -> Steps[Shown]:
        """Return a function that returns a value of one of these attributes as a Python value. Asks the server if needed."""
        zone = yield from self.zone()
        if not set(names) <= self._types.keys():
            schema = yield from self._native("GET", f"{self._project}/schema")
            self._types = {a["name"]: a["type"] for a in schema["attributes"]}
        types = self._types

        def shown(name: str, value: Any) -> Any:
            if types.get(name) == "DATETIME" and isinstance(value, str):
                return datetime.fromisoformat(value).replace(tzinfo=zone)
            return value

        return shown

    def zone(self) -> Steps[ZoneInfo]:
        """Return the project's time zone. The server is asked once."""
        if self._zone is None:
            if self.plain:
                raise ValueError(
                    "create the client with the project's timezone: with plain=True, it cannot be read from the server"
                )
            project = yield from self._native("GET", self._project)
            self._zone = ZoneInfo(project["timezone"])
        return self._zone

    def wire(self, values: Mapping[str, Any]) -> Steps[dict[str, Wire]]:
        """Return the values as they are sent. Asks the server for the time zone if a value needs it."""
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
            raise ValueError(
                "this call cannot be made with plain=True: the platform has endpoints only for set() and register()"
            )
        return native_answer((yield from self._ask(self._send(method, path), "native", safe=True)))

    def _ask(self, request: Send, api: str, *, safe: bool, parts: bool = False) -> Steps[Reply]:
        """Send a request, and retry until a retry would not change the answer or the time is over.

        Args:
            safe: whether it may be sent again when it is unknown whether it was applied.
            parts: whether the caller can split it. Then a request that times out is not retried; _TooSlow is raised.
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
                        f"no answer: {came.error}; the request was not retried, because the server may have executed it",
                        maybe_done=True,
                    ) from came.error
            pause = max(least, self.retry.delay(attempt, self.chance))
            if attempt + 1 >= self.retry.attempts or self._clock() + pause > give_up:
                if isinstance(came, Reply):
                    return came
                raise Unreachable(
                    f"no answer; attempts: {attempt + 1}; the last one: {came.error}", maybe_done=maybe_done
                ) from came.error
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
        """Send records that are already JSON, in order, and store the answer to each in `answers` as it arrives.

        Raises ClientError if the rest cannot be sent. Records without an answer may have been sent.
        """
        waiting = _Waiting(records, answers)
        attempt = slow = 0
        most_slow = min(_SLOW_BATCHES, self.retry.attempts - 1)
        while indexes := waiting.next_batch(self._batch_records, self._batch_bytes):
            request = self._batch_request([records[i] for i in indexes], on_unknown, dry_run)
            try:
                # The last attempts are like those of any other request.
                reply = yield from self._ask(request, "batch", safe=True, parts=len(indexes) > 1 and slow < most_slow)
            except _TooSlow as failure:
                # The server may still be working on it. It recognizes the records that it has written by their keys and does
                # not write them again. A quarter takes less time, so each attempt makes progress.
                log.warning(
                    "a batch of %d records was not answered in time (%s); it is sent again in smaller batches",
                    len(indexes),
                    failure,
                )
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
        """Adjust to an answer that a batch was too large: this server's limit is lower than the default."""
        if len(indexes) > 1:
            self._batch_bytes = max(1, waiting.size(indexes) // 2)
            waiting.put_back(indexes)
        else:
            # This record alone is too large.
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
                    # It is unknown whether the record was written, and a retry would not clarify it.
                    raise
            except Unreachable as unreachable:
                if unreachable.maybe_done:
                    # Sending it again is not safe.
                    results[place] = RecordResult(record, unreachable)
                raise
            else:
                results[place] = RecordResult(record, None, cuid)


class _Waiting:
    """The records that are still to be sent, in order, as indexes; and the answers to the others."""

    def __init__(self, records: Sequence[bytes], answers: list[Answer | None]) -> None:
        self.answers = answers
        self._records = records
        self._waiting = deque(range(len(records)))

    def size(self, indexes: Iterable[int]) -> int:
        """Return the bytes of some records."""
        return sum(len(self._records[i]) for i in indexes)

    def next_batch(self, count: int, size: int) -> list[int]:
        """Remove and return the indexes of the next records: up to `count` records and `size` bytes, at least one record.

        Empty at the end.
        """
        indexes: list[int] = []
        while self._waiting and len(indexes) < count:
            size -= len(self._records[self._waiting[0]])
            if indexes and size < 0:
                break
            indexes.append(self._waiting.popleft())
        return indexes

    def put_back(self, indexes: Sequence[int]) -> None:
        """Send these records again, before all others."""
        self._waiting.extendleft(reversed(indexes))

    def settle(self, indexes: Sequence[int], answers: Sequence[RecordAnswer]) -> list[RecordAnswer]:
        """Store the answers to records. Return those that say "not now"; their records are queued again."""
        undone = {}
        for i, answer in zip(indexes, answers, strict=True):
            if answer.code == -1:
                undone[i] = answer
            else:
                self.answers[i] = answer
        # The records after them wait too, so that the order of one user's records is kept.
        self.put_back(list(undone))
        return list(undone.values())


class _TooSlow(Exception):
    """Raise TypeError or ValueError if the value cannot be a project's ID or secret, such as a text with a newline."""


def check_credential(name: str, value: Any) -> None:
    """Raise TypeError or ValueError if the value cannot be a project's ID or secret, such as a text with a newline."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is of type {type_name(value)}; expected str")
    check_text(name, value)
    if any(character < " " or character == "\x7f" for character in value):
        raise ValueError(f"{name} has a line break or another control character in it; strip() removes those at its ends")


def _query(**parameters: object) -> str:
    """Return a URL's query, with its question mark, of the parameters that are not None."""
    given = {name: value for name, value in parameters.items() if value is not None}
    return f"?{urlencode(given)}" if given else ""


def _is_passing(reply: Reply, *, safe: bool) -> bool:
    """Return whether a retry may succeed."""
    # A server can be configured to answer refusals with 200.
    if reply.status in (408, 429) or reply.content.startswith(b'{"code":4029,'):
        return True
    return safe and reply.status >= 500


def _record_result(record: Record, answer: Answer) -> RecordResult:
    if isinstance(answer, ApiError):
        return RecordResult(record, answer)
    told = (answer.cuid, answer.version, outcomes(answer), answer.replayed, answer.effect, answer.change)
    return RecordResult(record, answer.error, *told)
