"""A batch of writes on Citus: the users of each shard are written in their own transaction, on that shard's machine."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psycopg
from psycopg import errors

from usertable.store.postgres.citus import ShardMap
from usertable.store.postgres.failures import error_text
from usertable.store.postgres.history import draw_numbers
from usertable.store.postgres.locks import share, wait_for_users
from usertable.store.postgres.merge import Merge, UserKey, forget_undone, merge_in_shard, mergeable, record_in_shard
from usertable.store.postgres.pool import Connections, TrackedConnection
from usertable.store.postgres.transaction import PostgresTransaction, ReceiptsByKey, find_receipts
from usertable.store.records import WRITTEN, Result, SchemaStale, UserUnknown, Write
from usertable.store.transaction import WriteCommand

log = logging.getLogger("usertable.store")


class CitusWrites:
    """Writes batches to a distributed store.

    Args:
        reported: by project, attributes that are known to be stored as reported.
        threads: maximum number of shards that are written at once.
        display_url: the store's URL without passwords.
    """

    def __init__(self, connections: Connections, reported: dict[int, set[str]], threads: int, display_url: str) -> None:
        self._connections = connections
        self._reported = reported
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="shard")
        self._display_url = display_url

    def write(self, shards: ShardMap, writes: Sequence[Write], command: WriteCommand) -> list[Result]:
        """Write the users of each shard concurrently. See :meth:`usertable.store.protocol.Store.write`."""
        results = self._write(shards, writes, command)
        refused = [index for index, result in enumerate(results) if isinstance(result, errors.FeatureNotSupported)]
        split = self._connections.shards() if refused else None
        if split is not None:
            # The shards were split after they were loaded. What is refused has changed nothing.
            again = self._write(split, [writes[index] for index in refused], command)
            for index, result in zip(refused, again, strict=True):
                results[index] = result
        return results

    def _write(self, shards: ShardMap, writes: Sequence[Write], command: WriteCommand) -> list[Result]:
        """Write the users of each shard concurrently. If the map of shards is outdated, writes may be refused."""
        groups: dict[int, list[int]] = {}
        users: dict[tuple[int, str], set[int]] = {}
        keys: dict[int, list[str]] = {}
        for index, write in enumerate(writes):
            groups.setdefault(shards.shard(write.cuid), []).append(index)
            if write.receipt is not None:
                users.setdefault((write.project, write.receipt.key), set()).add(write.cuid)
                keys.setdefault(write.project, []).append(write.receipt.key)
        results: list[Result] = [SchemaStale()] * len(writes)

        def write_group(indexes: Sequence[int], elsewhere: Callable[[], ReceiptsByKey]) -> None:
            found = self._write_in_shard(shards, [writes[index] for index in indexes], command, elsewhere)
            for index, result in zip(indexes, found, strict=True):
                results[index] = result

        if any(len(cuids) > 1 for cuids in users.values()):
            # A key used for two users, possibly in two shards: the second write must see the receipt of the first.
            for index in range(len(writes)):
                write_group([index], lambda: self._find_receipts(keys))
            return results
        receipts = self._find_receipts(keys)
        if len(groups) == 1:
            write_group(range(len(writes)), lambda: receipts)
        else:
            list(self._threads.map(lambda indexes: write_group(indexes, lambda: receipts), groups.values()))
        return results

    def _write_in_shard(
        self,
        shards: ShardMap,
        writes: Sequence[Write],
        command: WriteCommand,
        elsewhere: Callable[[], ReceiptsByKey],
    ) -> list[Result]:
        """Write the users of one shard. A failure is the result of each write that was not applied.

        Args:
            elsewhere: returns the receipts of the batch's keys in all shards.
        """
        merged: set[UserKey] = set()
        rest: Iterator[Result] = iter(())
        try:
            receipts = elsewhere()
            self._merge(shards, writes, command.row_limit, merged)
            left = [write for write in writes if (write.project, write.cuid) not in merged]
            unknown: set[UserKey] = set()

            def decide(writes: Sequence[Write]) -> list[Result]:
                return self._connections.run(
                    lambda connection: PostgresTransaction(connection, self._reported, shards, receipts, unknown).run(
                        lambda transaction: command(transaction, writes)
                    )
                )

            if left:
                rest = iter(self._decided_again(left, decide(left), decide))
                forget_undone(self._connections, shards, unknown)
        except Exception as failure:
            if isinstance(failure, errors.FeatureNotSupported):
                # The shards have been split since.
                self._connections.forget_shards()
            rest = itertools.repeat(failure)
        return [WRITTEN if (write.project, write.cuid) in merged else next(rest) for write in writes]

    def _decided_again(
        self, writes: Sequence[Write], results: list[Result], decide: Callable[[Sequence[Write]], list[Result]]
    ) -> list[Result]:
        """Return the results, after deciding writes to unknown users once more.

        A user is created on several machines. Another caller may already have the CUID, from a machine that shows its
        identifier value, while the user's machine does not show the user yet.
        """
        unknown = [index for index, result in enumerate(results) if isinstance(result, UserUnknown)]
        if not unknown:
            return results
        again: Iterable[Result]
        try:
            for project in sorted({writes[index].project for index in unknown}):
                self._connections.change(partial(wait_for_users, project=project))
            again = decide([writes[index] for index in unknown])
        except Exception as failure:
            # The others are done.
            again = itertools.repeat(failure)
        for index, result in zip(unknown, again, strict=False):
            results[index] = result
        return results

    def _merge(self, shards: ShardMap, writes: Sequence[Write], row_limit: int, merged: set[UserKey]) -> None:
        """Let the database merge writes to users in one shard. Each statement succeeds or fails on its own.

        Args:
            merged: receives the users whose writes are done. After a failure it contains those done before.
        """
        for merge in mergeable(writes, self._reported, row_limit):

            def work(connection: TrackedConnection, merge: Merge = merge) -> list[UserKey]:
                db = connection.db
                if merge.body is None:
                    # The statement is a transaction of its own.
                    connection.committing = True
                    rows = merge_in_shard(db, merge, None)
                else:
                    with db.pipeline():
                        connection.begin()
                        # An edit of the project waits, or this merge sees it, so that its number is on the right side of it.
                        share(db, [merge.project])
                        (block,) = draw_numbers(db, 1)
                    connection.check_host()
                    rows = merge_in_shard(db, merge, block)
                    with db.pipeline():
                        record_in_shard(db, merge, rows, shards.representative(merge.users[0][1]), block)
                        connection.commit()
                return [(merge.project, cuid) for cuid, *_ in rows]

            try:
                merged.update(self._connections.run(work))
            except (psycopg.NotSupportedError, psycopg.ProgrammingError, psycopg.DataError) as failure:
                # Refused, so nothing was changed. The shards may have been split.
                log.warning("%s: a merge was refused: %s", self._display_url, error_text(failure))
                self._connections.forget_shards()

    def _find_receipts(self, keys: Mapping[int, Sequence[str]]) -> ReceiptsByKey:
        """Return the receipts of these keys in all shards."""
        return self._connections.read(lambda db: find_receipts(db, keys)) if keys else {}

    def close(self) -> None:
        """End the threads. All batches must be finished."""
        self._threads.shutdown()
