"""The public clients: they send and wait as the core says, with threads or with asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from usertable.client.buffer import AsyncBuffer, Buffer, OnError
from usertable.client.connections import AsyncConnections, Connections, settings_for
from usertable.client.core import (
    Answer,
    Core,
    Lost,
    OnUnknown,
    Record,
    RecordResult,
    Reply,
    Retry,
    Send,
    SetResult,
    Steps,
    User,
)
from usertable.client.errors import ClientError
from usertable.client.history import CHANGES_PER_REQUEST, AsyncChanges, ChangePage, Changes, Moment, UserDifference

T = TypeVar("T")


class _Client:
    """A client for one project. Close it, or use it in a `with` (`async with`) block.

    It can be created before a process forks, and can be pickled: each process has its own keys and connections.

    Args:
        base_url: URL of the server, such as `https://usertable.example.com`.
        project: the project's ID.
        secret: the project's secret.
        timezone: the project's time zone, an IANA name. If omitted, the server is asked when it is first needed.
        plain: the server is the original platform, which has single calls only. A write whose reply was lost is then not
            retried, unless it is marked `repeatable`.
        qps: maximum requests per second and API. If omitted, the server's RateLimit headers decide.
        retry: how often and how long to retry.
        timeout: seconds to wait for a connection, and for each part of the answer.
        receipt_hours: hours for which the server remembers a key; the server's setting of the same name.
        compress: send batches with gzip: fewer bytes, more CPU time.
        admin_token: the server's admin token, instead of the secret, which may then be empty. For everything but `set` and
            `register`, which do not use the native API.
        source: what the caller runs, such as `billing 2026.11.3`: up to 100 visible ASCII characters. The history of users
            shows it with each change.
        http: settings for the `httpx` client, such as `verify` or `proxy`.
    """

    def __init__(
        self,
        base_url: str,
        project: str,
        secret: str,
        *,
        timezone: str | None = None,
        plain: bool = False,
        qps: int | None = None,
        retry: Retry | None = None,
        timeout: float = 10.0,
        receipt_hours: int = 24,
        compress: bool = False,
        admin_token: str = "",
        source: str = "",
        http: Mapping[str, Any] | None = None,
    ) -> None:
        self._core = Core(
            *(project, secret),
            timezone=timezone,
            plain=plain,
            qps=qps,
            retry=retry or Retry(),
            compress=compress,
            admin_token=admin_token,
            source=source,
        )
        self._receipt_hours = receipt_hours
        self._settings = settings_for(base_url, timeout, http or {})
        self._arguments = {
            "base_url": base_url,
            "project": project,
            "secret": secret,
            "timezone": timezone,
            "plain": plain,
            "qps": qps,
            "retry": retry,
            "timeout": timeout,
            "receipt_hours": receipt_hours,
            "compress": compress,
            "admin_token": admin_token,
            "source": source,
            "http": http,
        }
        self._open()

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_again, (type(self), self._arguments)

    def _open(self) -> None:
        raise NotImplementedError

    def _buffer(self, **settings: Any) -> Buffer:
        # A buffer sends from its own thread, on its own connections.
        connections = Connections(self._settings)

        def drive(steps: Steps[T], *, sleep: Callable[[float], None]) -> T:
            return _drive(connections, steps, sleep)

        return Buffer(self._core, drive, connections.close, receipt_hours=self._receipt_hours, **settings)


def _made_again(kind: type[_Client], arguments: Mapping[str, Any]) -> _Client:
    return kind(**arguments)


class Client(_Client):
    __doc__ = _Client.__doc__

    def _open(self) -> None:
        self._connections = Connections(self._settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Later calls raise ClientError."""
        self._connections.close()

    def set(
        self,
        cuid: int,
        values: Mapping[str, Any],
        *,
        key: str | None = None,
        explain: bool = False,
        dry_run: bool = False,
        repeatable: bool = False,
    ) -> SetResult:
        """Set attributes of one user, all or none. The write is durable when this returns.

        Args:
            key: idempotency key of the write; generated if omitted. The client's own retries are safe either way.
            explain: return the outcome of each attribute.
            dry_run: validate and compute the outcomes, but write nothing. Returns outcomes too.
            repeatable: with `plain`, whether the write may be sent again after a lost reply. This is safe for the rules
                `overwrite`, `once` and `append`, but not for `accumulate`.

        Raises:
            ApiError: the write was refused. The class corresponds to the code; `problems` lists everything that is wrong.
            Unreachable: there was no answer.
            TypeError, ValueError: no attribute can have this value; nothing was sent.
        """
        return self._run(self._core.set(cuid, values, key=key, explain=explain, dry_run=dry_run, repeatable=repeatable))

    def register(self, identifier: str, values: Iterable[str]) -> dict[str, int]:
        """Call Get CUID: return the CUID of each value. A new value creates a user. Raises ApiError, Unreachable."""
        return self._run(self._core.register(identifier, values))

    def get(self, cuid: int, *, hidden: bool = False, as_of: Moment | None = None) -> User:
        """Return a user's row, with hidden attributes if requested.

        Args:
            as_of: return the row as it was at this moment. Without a zone it is in the project's zone.

        Raises:
            UserUnknown: there is no such user.
            ApiError: the history of users does not reach that far back, or the user did not exist yet.
            Unreachable: there was no answer.
        """
        return self._run(self._core.get(cuid, hidden=hidden, as_of=as_of))

    def changes(self, cuid: int, *, attribute: str | None = None, actor: str | None = None, hidden: bool = False) -> Changes:
        """Return an iterator of the recorded changes of a user, newest first. They are fetched as they are needed.

        After the last one, its `complete` says whether it is the creation of the user. If not, older changes are not kept.

        Args:
            attribute: only changes that this attribute was sent in.
            actor: only changes by this actor, such as `key:billing`.
            hidden: include hidden attributes.

        Raises:
            UserUnknown: there is no such user.
            ApiError: history is off, or there is no such attribute.
            Unreachable: there was no answer.
        """

        def fetch(before: int | None) -> ChangePage:
            return self._run(
                self._core.changes(
                    cuid, attribute=attribute, actor=actor, hidden=hidden, before=before, limit=CHANGES_PER_REQUEST
                )
            )

        return Changes(fetch)

    def diff(self, cuid: int, start: Moment, end: Moment | None = None, *, hidden: bool = False) -> UserDifference:
        """Return how a user differs between two moments; `end` is now if omitted. Raises as :meth:`get` does."""
        return self._run(self._core.diff(cuid, start, end, hidden=hidden))

    def declared(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the project and its schema, as the native API shows them. Raises ApiError, Unreachable."""
        return self._run(self._core.declared())

    def batch(
        self, records: Iterable[Record], *, on_unknown: OnUnknown | None = None, dry_run: bool = False
    ) -> list[RecordResult]:
        """Write any number of records in order, each on its own, and return one result per record.

        The `error` of a result is None if the record was written.

        Args:
            on_unknown: what to do with an identifier value that belongs to no user. Required if a record names its user by
                an identifier, or has `identifiers`. `import` also creates users with the CUIDs in the records.

        Raises:
            BatchFailed: the batch was not completed. `results` has the results so far, `__cause__` the reason.
            TypeError, ValueError: no attribute can have this value; nothing was sent.
        """
        return self._run(self._core.batch(records, on_unknown=on_unknown, dry_run=dry_run))

    def send_encoded(
        self, records: Sequence[bytes], *, on_unknown: OnUnknown | None = None, dry_run: bool = False
    ) -> list[Answer]:
        """Write records that are already JSON, in order, and return the answer to each. Raises ApiError, Unreachable.

        If it raises, some records may be written. Send the same records with the same keys again to get their answers.
        """
        answers: list[Answer | None] = [None] * len(records)
        self._run(self._core.send_encoded(records, answers, on_unknown=on_unknown, dry_run=dry_run))
        return [answer for answer in answers if answer is not None]

    def buffer(
        self,
        *,
        capacity: int = 10_000,
        full: Literal["block", "raise"] = "block",
        on_unknown: OnUnknown | None = None,
        on_error: OnError | None = None,
        spool: str | Path | None = None,
        spool_bytes: int = 2**30,
        close_seconds: float = 60.0,
    ) -> Buffer:
        """Return a buffer that accepts records immediately and sends them in batches from its own thread.

        Args:
            capacity: maximum number of records in memory. A spool is limited by `spool_bytes` instead.
            full: what to do when the buffer is full: wait for room, or raise BufferFull.
            on_unknown: as for :meth:`batch`.
            on_error: called in the buffer's thread with each refused record and its error. A plain function, not a coroutine
                function. It may add records to the buffer while there is room. Without it, `flush` and the end of the block
                raise refused records as RecordsRefused.
            spool: folder that stores records until they are delivered, even if this process is killed.
            close_seconds: seconds for which the end of the block waits for records to be delivered.
        """
        return self._buffer(
            capacity=capacity,
            full=full,
            on_unknown=on_unknown,
            on_error=on_error,
            spool=spool,
            spool_bytes=spool_bytes,
            close_seconds=close_seconds,
        )

    def _run(self, steps: Steps[T]) -> T:
        return _drive(self._connections, steps)


class AsyncClient(_Client):
    __doc__ = _Client.__doc__

    def _open(self) -> None:
        self._connections = AsyncConnections(self._settings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._connections.close()

    async def set(
        self,
        cuid: int,
        values: Mapping[str, Any],
        *,
        key: str | None = None,
        explain: bool = False,
        dry_run: bool = False,
        repeatable: bool = False,
    ) -> SetResult:
        """See :meth:`Client.set`."""
        return await self._run(
            self._core.set(cuid, values, key=key, explain=explain, dry_run=dry_run, repeatable=repeatable)
        )

    async def register(self, identifier: str, values: Iterable[str]) -> dict[str, int]:
        """See :meth:`Client.register`."""
        return await self._run(self._core.register(identifier, values))

    async def get(self, cuid: int, *, hidden: bool = False, as_of: Moment | None = None) -> User:
        """See :meth:`Client.get`."""
        return await self._run(self._core.get(cuid, hidden=hidden, as_of=as_of))

    def changes(
        self, cuid: int, *, attribute: str | None = None, actor: str | None = None, hidden: bool = False
    ) -> AsyncChanges:
        """See :meth:`Client.changes`. For `async for`."""

        async def fetch(before: int | None) -> ChangePage:
            return await self._run(
                self._core.changes(
                    cuid, attribute=attribute, actor=actor, hidden=hidden, before=before, limit=CHANGES_PER_REQUEST
                )
            )

        return AsyncChanges(fetch)

    async def diff(self, cuid: int, start: Moment, end: Moment | None = None, *, hidden: bool = False) -> UserDifference:
        """See :meth:`Client.diff`."""
        return await self._run(self._core.diff(cuid, start, end, hidden=hidden))

    async def declared(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """See :meth:`Client.declared`."""
        return await self._run(self._core.declared())

    async def batch(
        self, records: Iterable[Record], *, on_unknown: OnUnknown | None = None, dry_run: bool = False
    ) -> list[RecordResult]:
        """See :meth:`Client.batch`."""
        return await self._run(self._core.batch(records, on_unknown=on_unknown, dry_run=dry_run))

    def buffer(
        self,
        *,
        capacity: int = 10_000,
        full: Literal["block", "raise"] = "block",
        on_unknown: OnUnknown | None = None,
        on_error: OnError | None = None,
        spool: str | Path | None = None,
        spool_bytes: int = 2**30,
        close_seconds: float = 60.0,
    ) -> AsyncBuffer:
        """See :meth:`Client.buffer`. It sends from a thread, so a busy event loop does not delay it."""
        return AsyncBuffer(
            lambda: self._buffer(
                capacity=capacity,
                full=full,
                on_unknown=on_unknown,
                on_error=on_error,
                spool=spool,
                spool_bytes=spool_bytes,
                close_seconds=close_seconds,
            ),
            lambda values: self._run(self._core.wire(values)),
        )

    async def _run(self, steps: Steps[T]) -> T:
        came: Reply | Lost | None = None
        try:
            while True:
                step = steps.send(came)
                came = None
                if isinstance(step, Send):
                    came = await self._connections.request(step)
                else:
                    await asyncio.sleep(step.seconds)
        except StopIteration as end:
            result: T = end.value
            return result


def _drive(connections: Connections, steps: Steps[T], sleep: Callable[[float], None] = time.sleep) -> T:
    came: Reply | Lost | None = None
    try:
        while True:
            step = steps.send(came)
            came = None
            if isinstance(step, Send):
                came = connections.request(step)
            else:
                try:
                    sleep(step.seconds)
                except ClientError as given_up:
                    # The call ends with the results so far.
                    steps.throw(given_up)
    except StopIteration as end:
        result: T = end.value
        return result
