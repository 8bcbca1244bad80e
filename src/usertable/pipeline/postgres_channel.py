"""Plain writes, sent to PostgreSQL from the server's event loop. All others go to the writer process.

A plain write needs no rule in Python: the database merges it (see `postgres/merge.py`). Passing it to another process first
would cost as much as the database's own work. So libpq is driven here without blocking, with one batch per connection.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from socket import MSG_DONTWAIT, MSG_PEEK, socket

import psycopg
from psycopg import errors, pq

from usertable.domain.errors import StoreDown, StoreFault, Unavailable
from usertable.domain.patch import Patch
from usertable.pipeline.channel import Done, MergeCounts, ObservedChannel
from usertable.store.postgres.connection import Connection
from usertable.store.postgres.failures import CONFLICTS, error_text
from usertable.store.postgres.merge import Merge, UserKey, connect_to_merge, mergeable
from usertable.store.records import WRITTEN, Result, Write, Written
from usertable.store.urls import redacted_url

log = logging.getLogger("usertable.store")

CONNECTIONS = 2
"""Number of batches that the database merges at once: one waits for the disk while the other is processed."""
RECONNECT_SECONDS = 1.0

Merged = Callable[[set[UserKey] | Exception | None], None]
"""Called with the users whose writes are done; None if nothing was done; StoreDown if that is unknown."""


@dataclass(slots=True)
class _Batch:
    writes: Sequence[Write]
    done: Done
    users: frozenset[UserKey]
    results: list[Result] = field(default_factory=list)
    parts: int = 0
    """Number of its unanswered parts."""

    def indexes(self, users: Set[UserKey]) -> list[int]:
        """Return the indexes of the writes to these users."""
        return [index for index, write in enumerate(self.writes) if (write.project, write.cuid) in users]


class MergingChannel:
    """Lets the database merge plain writes.

    Passes to another channel all other writes, and those that it declines or refuses.

    Without a connection everything goes to that other channel, until there is one again.

    Args:
        url: the store's URL.
        other: accepts every write.
        row_limit: maximum bytes of a user's row as JSON text.
    """

    def __init__(self, url: str, other: ObservedChannel, row_limit: int) -> None:
        self._url = url
        self._row_limit = row_limit
        self._display_url = redacted_url(url)
        self._other = other
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Batch] = deque()
        self._users: set[UserKey] = set()
        """Users of the unanswered batches. The next write to one of them waits, which keeps each user's writes in order."""
        self._reported: dict[int, set[str]] = {}
        """By project, the attributes known to have had values."""
        self._sessions: set[_Session] = set()
        self._free: deque[_Session] = deque()
        """Idle connections, the one that has been idle longest first. They are used in this order: with the last one first,
        the others would stay open to a demoted primary until there is more than one batch at a time."""
        self._connecting: set[asyncio.Task[None]] = set()
        self._closing = False
        self._usable = True
        """Whether the store supports merges; a distributed one does not."""
        self.merges = MergeCounts()
        for _ in range(CONNECTIONS):
            self._connect()

    @property
    def writer(self) -> int | None:
        return self._other.writer

    @property
    def writer_starts(self) -> int:
        return self._other.writer_starts

    def is_open(self, under_way: int) -> bool:
        return self._other.is_open(under_way)

    def write(self, writes: Sequence[Write], done: Done) -> None:
        users = frozenset([(write.project, write.cuid) for write in writes])
        self._waiting.append(_Batch(writes, done, users))
        self._begin_next()

    async def check(self) -> None:
        await self._other.check()

    async def close(self) -> None:
        self._closing = True
        await asyncio.gather(*self._connecting)
        for session in self._sessions:
            session.close()
        await self._other.close()

    def _begin_next(self) -> None:
        while self._waiting and self._users.isdisjoint(self._waiting[0].users) and (self._free or not self._sessions):
            batch = self._waiting.popleft()
            self._users |= batch.users
            self._begin(batch)

    def _begin(self, batch: _Batch) -> None:
        merges = mergeable(batch.writes, self._reported, self._row_limit, receipts=True) if self._free else []
        batch.results = [WRITTEN] * len(batch.writes)
        if not merges:
            self.merges.others += len(batch.writes)
            self._hand_on(batch, range(len(batch.writes)))
            return
        sent = {user for merge in merges for user in merge.users}
        batch.parts = 1
        self._free.popleft().merge(merges, lambda merged: self._merged(batch, sent, merged))
        if len(sent) < len(batch.writes):
            others = batch.indexes(batch.users - sent)
            self.merges.others += len(others)
            self._hand_on(batch, others)

    def _merged(self, batch: _Batch, sent: set[UserKey], merged: set[UserKey] | Exception | None) -> None:
        if isinstance(merged, Exception):
            for index in batch.indexes(sent):
                batch.results[index] = merged
        else:
            # A user of a merge has no other write in its batch.
            declined = sent - (merged or set())
            self.merges.merged += len(sent) - len(declined)
            self.merges.declined += len(declined)
            if declined:
                self._hand_on(batch, batch.indexes(declined))
        self._finish_part(batch)

    def _hand_on(self, batch: _Batch, indexes: Sequence[int]) -> None:
        """Pass the writes at these indexes of the batch to the other channel."""
        batch.parts += 1
        self._other.write(
            [batch.writes[index] for index in indexes], lambda outcome: self._handed_back(batch, indexes, outcome)
        )

    def _handed_back(self, batch: _Batch, indexes: Sequence[int], outcome: Sequence[Result] | Exception) -> None:
        if isinstance(outcome, Exception):
            if not isinstance(outcome, Unavailable) and len(indexes) > 1:
                # One write must not fail the others. Done here, while no other write to these users is sent, so that each
                # user's writes stay in order.
                for index in indexes:
                    self._hand_on(batch, [index])
                self._finish_part(batch)
                return
            outcome = [outcome] * len(indexes)
        for index, result in zip(indexes, outcome, strict=True):
            batch.results[index] = result
            write = batch.writes[index]
            if type(result) is Written and type(write.patch) is Patch and not write.dry_run:
                # Whatever the rule, the user has a value of each attribute now.
                self._reported.setdefault(write.project, set()).update([a.name for a, _ in write.patch.entries])
        self._finish_part(batch)

    def _finish_part(self, batch: _Batch) -> None:
        batch.parts -= 1
        if not batch.parts:
            self._users -= batch.users
            self._begin_next()
            batch.done(batch.results)

    def _connect(self, delay: float = 0) -> None:
        """Open a connection in a thread, retrying until there is one."""
        task = self._loop.create_task(self._connected(delay))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connected(self, delay: float) -> None:
        db: Connection | None = None
        while db is None:
            await asyncio.sleep(delay)
            if self._closing or not self._usable:
                return
            delay = RECONNECT_SECONDS
            try:
                db = await asyncio.to_thread(connect_to_merge, self._url)
                self._usable = db is not None
            except (psycopg.Error, StoreFault) as failure:
                log.debug("%s: no connection to merge on: %s", self._display_url, failure)
        session = _Session(db, self._display_url, self._released, self._lost)
        self._sessions.add(session)
        self._released(session)

    def _released(self, session: _Session) -> None:
        self._free.append(session)
        self._begin_next()

    def _lost(self, session: _Session, delay: float) -> None:
        """Replace a connection that ended or is unusable, after `delay` seconds."""
        self._sessions.discard(session)
        if session in self._free:
            self._free.remove(session)
        self._connect(delay)
        self._begin_next()


class _Session:
    """A connection that belongs to the event loop, for one batch at a time, which is one transaction.

    Args:
        released: called when it is free again.
        lost: called when it is gone, with the seconds to wait before another is opened.
    """

    def __init__(
        self,
        db: Connection,
        display_url: str,
        released: Callable[[_Session], None],
        lost: Callable[[_Session, float], None],
    ) -> None:
        self._db = db
        self._pgconn = db.pgconn
        self._loop = asyncio.get_running_loop()
        self._display_url = display_url
        self._released = released
        self._lost = lost
        self._merges: Sequence[Merge] = ()
        self._tell: Merged | None = None
        """Callback for the current batch."""
        self._users: set[UserKey] = set()
        self._answered = 0
        self._refusal: psycopg.Error | None = None
        self._closed = False
        self._pgconn.nonblocking = 1
        self._pgconn.enter_pipeline_mode()
        # A duplicate: libpq closes its own descriptor when it notices the end, and the next connection may get its number.
        self._socket = socket(fileno=os.dup(self._pgconn.socket))
        self._loop.add_reader(self._socket, self._receive)

    def merge(self, merges: Sequence[Merge], tell: Merged) -> None:
        """Send a batch. `tell` is called later, in the event loop, never during this call."""
        self._merges, self._tell = merges, tell
        self._users, self._answered, self._refusal = set(), 0, None
        try:
            for merge in merges:
                self._pgconn.send_query_prepared(merge.name, merge.encoded_parameters, merge.formats)
            self._pgconn.pipeline_sync()
        except psycopg.OperationalError:
            self._loop.call_soon(self._end)
            return
        self._flush()

    def close(self) -> None:
        self._closed = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        self._db.close()

    def _flush(self) -> None:
        unsent = 0
        try:
            unsent = self._pgconn.flush()
        except psycopg.OperationalError:
            # It is gone. This is handled after everything it sent before.
            self._loop.call_soon(self._receive)
        if unsent:
            self._loop.add_writer(self._socket, self._flush)
        else:
            self._loop.remove_writer(self._socket)

    def _receive(self) -> None:
        # Up to the end: the loop reports a reset connection only once, though data may precede the end.
        while not self._closed:
            self._receive_some()
            if self._closed or not self._has_more():
                return

    def _receive_some(self) -> None:
        broken = False
        try:
            self._pgconn.consume_input()
        except psycopg.OperationalError:
            broken = True
        synced = False
        for result in self._results(broken):
            if result.status == pq.ExecStatus.TUPLES_OK:
                self._count(result)
            elif result.status == pq.ExecStatus.FATAL_ERROR:
                failure = errors.error_from_result(result)
                # The database returned an error instead of a result: nothing is done. Any other failure leaves that open.
                if failure.sqlstate is None or self._answered == len(self._merges):
                    broken = True
                    break
                self._refusal = failure
                if failure.diag.severity_nonlocalized in ("FATAL", "PANIC"):
                    # The error ends the connection. Anything it sends after this changes nothing.
                    broken = True
                    break
            elif result.status == pq.ExecStatus.PIPELINE_SYNC:
                synced = True
                break
        if broken or self._pgconn.status != pq.ConnStatus.OK:
            self._end()
        elif synced:
            self._finish_batch()

    def _has_more(self) -> bool:
        """Return whether there is more to receive, even if only the end."""
        try:
            self._socket.recv(1, MSG_PEEK | MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def _results(self, broken: bool) -> Iterator[pq.abc.PGresult]:
        """Yield the results of the current batch that have arrived; for a broken connection, the last ones."""
        ends = 0
        while self._tell is not None and ends <= len(self._merges) and (broken or not self._pgconn.is_busy()):
            result = self._pgconn.get_result()
            if result is None:
                ends += 1
            else:
                yield result

    def _count(self, result: pq.abc.PGresult) -> None:
        merge = self._merges[self._answered]
        self._answered += 1
        if result.ntuples == len(merge.users):
            self._users.update(merge.users)
        else:
            cuids = (result.get_value(row, 0) for row in range(result.ntuples))
            self._users.update([(merge.project, int(cuid)) for cuid in cuids if cuid is not None])

    def _finish_batch(self) -> None:
        """Finish the batch, which is committed or rolled back."""
        if self._refusal is not None and not isinstance(self._refusal, CONFLICTS):
            log.warning("%s: a merge was refused: %s", self._display_url, error_text(self._refusal))
            self._end(RECONNECT_SECONDS)
            return
        tell, self._tell = self._tell, None
        assert tell is not None
        merged = None if self._refusal is not None else self._users
        # After this, another batch may be sent.
        self._released(self)
        tell(merged)

    def _end(self, delay: float = 0) -> None:
        if self._closed:
            return
        self.close()
        self._lost(self, delay)
        if self._tell is not None:
            tell, self._tell = self._tell, None
            lost = StoreDown(
                f"{self._display_url}: the connection broke during a merge, so it is not known whether it was done"
            )
            tell(None if self._refusal is not None else lost)
