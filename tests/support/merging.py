"""Writes as a server sends them: PostgreSQL merges plain ones itself, and the store gets those that it declines."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from usertable.store import Store
from usertable.store.postgres import PostgresStore
from usertable.store.postgres.failures import CONFLICTS
from usertable.store.postgres.merge import STATEMENTS, UserKey, mergeable
from usertable.store.records import WRITTEN, Result, Write
from usertable.store.transaction import WriteCommand


def write_as_server(store: Store, writes: Sequence[Write], command: WriteCommand) -> list[Result]:
    """Like `store.write`, for any store."""
    if not isinstance(store, PostgresStore) or all(write.details for write in writes) or store.connections.shards():
        return store.write(writes, command)
    merged: set[UserKey] = set()
    reported = {project.number: project.reported for project in store.projects()}
    for merge in mergeable(writes, reported, command.row_limit, receipts=True):
        with suppress(*CONFLICTS), store.connections.pool.connection() as db:
            found = db.execute(STATEMENTS[merge.name.decode()], merge.parameters)
            merged.update([(merge.project, cuid) for (cuid,) in found])
    rest = [write for write in writes if (write.project, write.cuid) not in merged]
    results = iter(store.write(rest, command))
    return [WRITTEN if (write.project, write.cuid) in merged else next(results) for write in writes]
