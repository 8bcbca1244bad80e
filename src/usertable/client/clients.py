"""The clients that programs use: they send and wait as the core says, with threads or with asyncio."""

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

T = TypeVar("T")


class _Client:
    """A client of one project. Close it, or use it in a `with` (`async with`) block.

    It may be made before a process is forked, and be pickled: each process has its own keys and connections.

    Args:
        base_url: where the server is, such as `https://usertable.example.com`.
        project: the project's id.
        secret: its secret.
        timezone: the project's time zone, an IANA name. Left out, the server is asked when it is first needed.
        plain: the server is the original platform, which knows single calls only; then a write whose reply was lost is not
            tried again, unless it is said to be `repeatable`.
        qps: so many requests per second and API at most. Without it, what the server's RateLimit headers allow.
        retry: how often and how long to try.
        timeout: seconds for connecting, and for each wait for a piece of the answer.
        receipt_hours: how long the server remembers a key: its setting of that name.
        compress: send batches in gzip: less to send, more to compute.
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
        http: Mapping[str, Any] | None = None,
    ) -> None:
        self._core = Core(
            project, secret, timezone=timezone, plain=plain, qps=qps, retry=retry or Retry(), compress=compress
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
            "http": http,
        }
        self._open()

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_again, (type(self), self._arguments)

    def _open(self) -> None:
        raise NotImplementedError

    def _buffer(self, **settings: Any) -> Buffer:
        # A buffer sends from a thread of its own, with connections of its own.
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
        """Close the connections. What is called afterwards raises ClientError."""
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
        """Set attributes of one user, all of them or none; the write is durable when this returns.

        Args:
            key: the write's own idempotency key; one is made otherwise. Either way the client's own retries are safe.
            explain: tell the outcome of each attribute.
            dry_run: decide, and write nothing; tells outcomes too.
            repeatable: with `plain`, whether it may be sent again after a lost reply, as it may where rules are `overwrite`,
                `once` and `append`, but never where one is `accumulate`.

        Raises:
            ApiError: it was refused; the class tells the code, and `problems` all that is wrong.
            Unreachable: there was no answer.
            TypeError, ValueError: a value that no attribute can have; nothing was sent.
        """
        return self._run(self._core.set(cuid, values, key=key, explain=explain, dry_run=dry_run, repeatable=repeatable))

    def register(self, identifier: str, values: Iterable[str]) -> dict[str, int]:
        """Get CUID: the CUID of each value; a value never seen makes a user. Raises ApiError, Unreachable."""
        return self._run(self._core.register(identifier, values))

    def get(self, cuid: int, *, hidden: bool = False) -> User:
        """A user's row; hidden attributes too, if asked. Raises UserUnknown, ApiError, Unreachable."""
        return self._run(self._core.get(cuid, hidden=hidden))

    def declared(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The project and its schema, as the native API shows them. Raises ApiError, Unreachable."""
        return self._run(self._core.declared())

    def batch(
        self, records: Iterable[Record], *, on_unknown: OnUnknown | None = None, dry_run: bool = False
    ) -> list[RecordResult]:
        """Write any number of records, each by itself, in order: one result per record, whose `error` is None if it is done.

        Args:
            on_unknown: what to do with an identifier's value that points to nobody. Must be said if a record names its user
                by an identifier, or has identifiers; `import` also makes users with the CUID that they bring along.

        Raises:
            BatchFailed: it could not be finished; `results` tells what is known, and the cause is in `__cause__`.
            TypeError, ValueError: a value that no attribute can have; nothing was sent.
        """
        return self._run(self._core.batch(records, on_unknown=on_unknown, dry_run=dry_run))

    def send_encoded(
        self, records: Sequence[bytes], *, on_unknown: OnUnknown | None = None, dry_run: bool = False
    ) -> list[Answer]:
        """Write records that are JSON already, in order; the answer to each. Raises ApiError, Unreachable.

        What was written before that is raised is known to whoever sends the same records with the same keys again.
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
        """A buffer that takes records at once and sends them in batches, from a thread of its own.

        Args:
            capacity: so many records are held in memory at most. A spool is bounded by `spool_bytes` instead.
            full: what to do with a record more: wait until there is room, or raise BufferFull.
            on_unknown: as for :meth:`batch`.
            on_error: called in the buffer's thread with every record that was refused, and why; a plain function, no
                coroutine. It may hand records to the buffer while there is room. Without it, refused records are raised by
                `flush` and at the end of the block, as RecordsRefused.
            spool: a folder in which records are kept until they are delivered, also if this process is killed.
            close_seconds: how long the end of the block waits for what is still to be delivered.
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

    async def get(self, cuid: int, *, hidden: bool = False) -> User:
        """See :meth:`Client.get`."""
        return await self._run(self._core.get(cuid, hidden=hidden))

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
        """See :meth:`Client.buffer`. It sends from a thread, so a busy event loop does not hold it up."""
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
                    # The call ends, and tells what it knows so far.
                    steps.throw(given_up)
    except StopIteration as end:
        result: T = end.value
        return result
