"""Plain writes, which the database merges itself: which writes are plain, and the statements for them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import LiteralString

import psycopg
from psycopg import errors
from psycopg.pq import ExecStatus, Format

from usertable.domain.errors import UsertableError
from usertable.domain.patch import Patch
from usertable.store.encoding import encode_patches
from usertable.store.history import PLACES, encode_merged
from usertable.store.keyframes import ROW_BYTES, VERSIONS
from usertable.store.postgres import history
from usertable.store.postgres.citus import ShardMap, load_shards
from usertable.store.postgres.connection import Connection, connect, plan_by_index
from usertable.store.postgres.failures import error_text
from usertable.store.postgres.pool import Connections
from usertable.store.postgres.url import connection_parameters
from usertable.store.queries import load_queries
from usertable.store.records import Write
from usertable.store.urls import redacted_url

log = logging.getLogger("usertable.store")

_PARAMETERS = ("project", "version", "patches", "shapes", "limit", "body")
_FORMATS = (Format.TEXT,) * 5 + (Format.BINARY,)
JSON_PER_JSONB = 8
"""Maximum bytes of JSON text per byte of jsonb: a control character is one byte in jsonb, and `\\u0001` in JSON."""
STATEMENTS: Mapping[str, LiteralString] = {
    name: text.replace("{versions}", f"{VERSIONS}").replace("{row_bytes}", f"{ROW_BYTES}")
    for name, text in load_queries("usertable.store.postgres", "merge.sql").items()
}
"""Those of `merge.sql`, by name."""
_SQL_HISTORY = load_queries("usertable.store.postgres", "history.sql")

UserKey = tuple[int, int]
"""A user: the project's number, and the CUID."""


@dataclass(frozen=True, slots=True)
class Merge:
    """Plain writes for one version of a project, which the database merges in one statement."""

    project: int
    version: int
    users: Sequence[UserKey]
    patches: bytes
    shapes: bytes
    receipts: bytes | None
    """None if none of them has a receipt."""
    limit: int
    """Rows with more bytes in the database are not merged, because they may exceed the maximum size of a row."""
    body: bytes | None
    """Of the block in which they are recorded; None if they are not."""

    @property
    def name(self) -> bytes:
        """The name of its statement, see :func:`connect_to_merge`."""
        return b"merge" if self.receipts is None else b"merge_with_receipts"

    @property
    def parameters(self) -> dict[str, object]:
        """Return the parameters of its statement, by name."""
        texts = (self.patches.decode(), self.shapes.decode())
        return {
            **dict(zip(_PARAMETERS, (self.project, self.version, *texts, self.limit, self.body), strict=True)),
            **({} if self.receipts is None else {"receipts": self.receipts.decode()}),
        }

    @property
    def encoded_parameters(self) -> list[bytes | None]:
        """Return the parameters of its statement in the order and the formats in which libpq sends them."""
        found = [b"%d" % self.project, b"%d" % self.version, self.patches, self.shapes, b"%d" % self.limit, self.body]
        return found if self.receipts is None else [*found, self.receipts]

    @property
    def formats(self) -> Sequence[Format]:
        """The formats of `encoded_parameters`."""
        return _FORMATS if self.receipts is None else (*_FORMATS, Format.TEXT)


def mergeable(
    writes: Sequence[Write],
    reported: Mapping[int, Set[str]],
    row_limit: int,
    *,
    receipts: bool = False,
) -> list[Merge]:
    """Return the writes that the database can merge, by project and version of its schema.

    Their callers do not read outcomes, no other write in the batch has the same user or key, and their attributes had values
    before.

    Args:
        reported: by project, attributes that are known to have had values.
        row_limit: maximum bytes of a user's row as JSON text.
        receipts: include writes with a receipt.
    """
    found: dict[UserKey, Write] = {}
    seen: set[UserKey] = set()
    keys: dict[tuple[int, str], UserKey] = {}
    for write in writes:
        user = (write.project, write.cuid)
        receipt = write.receipt
        simple = user not in seen and not write.details and not write.dry_run and type(write.patch) is Patch
        if receipt is not None:
            first = keys.setdefault((write.project, receipt.key), user)
            if first != user:
                found.pop(first, None)
            simple = simple and receipts and first == user and not receipt.whole
        if simple:
            found[user] = write
        else:
            found.pop(user, None)
        seen.add(user)
    batches: dict[tuple[int, int, bool], list[Write]] = {}
    # In order, so that no two batches wait for each other's users.
    for user in sorted(found):
        write = found[user]
        known = reported.get(write.project, frozenset())
        if known >= {attribute.name for attribute, _ in write.patch.entries}:
            batches.setdefault((write.project, write.schema_version, write.origin is not None), []).append(write)
    return [
        _merge(project, version, batch, row_limit, is_recorded=is_recorded)
        for (project, version, is_recorded), writes in batches.items()
        for batch in (writes[start : start + PLACES] for start in range(0, len(writes), PLACES))
    ]


def _merge(project: int, version: int, writes: Sequence[Write], row_limit: int, *, is_recorded: bool) -> Merge:
    encoded = encode_patches(writes)
    body = encode_merged(writes, encoded) if is_recorded else None
    users = [(project, write.cuid) for write in writes]
    limit = row_limit // JSON_PER_JSONB
    return Merge(project, version, users, encoded.patches, encoded.shapes, encoded.receipts, limit, body)


def connect_to_merge(url: str) -> Connection | None:
    """Open a connection with the prepared statements of `Merge`s. None if the store is distributed.

    Raises:
        psycopg.Error: no connection can be opened now.
        StoreFault: the database is not writable now.
    """
    db = connect(connection_parameters(url)[0], redacted_url(url))
    try:
        if load_shards(db) is not None:
            db.close()
            return None
        plan_by_index(db)
        for name in ("merge", "merge_with_receipts"):
            text: str = STATEMENTS[name]
            for index, parameter in enumerate((*_PARAMETERS, "receipts"), start=1):
                text = text.replace(f"%({parameter})s", f"${index}")
            prepared = db.pgconn.prepare(name.encode(), text.encode())
            if prepared.status != ExecStatus.COMMAND_OK:
                raise errors.error_from_result(prepared)
    except BaseException:
        db.close()
        raise
    return db


MergedRow = tuple[int, int | None, int, int, str, int, str | None]
"""A row of the statement `merge_in_shard`."""


def merge_in_shard(db: Connection, merge: Merge, block: int | None) -> list[MergedRow]:
    """Merge, on Citus, plain writes without a receipt to users in one shard. Return a row for each user whose write is done.

    Args:
        block: the number of the block in which they are to be recorded, see :func:`record_in_shard`; None if they are not.
    """
    parameters = {**merge.parameters, "cuids": [cuid for _, cuid in merge.users], "block": block}
    return db.execute(STATEMENTS["merge_in_shard"], parameters).fetchall()


def record_in_shard(db: Connection, merge: Merge, rows: Sequence[MergedRow], place: int, block: int) -> None:
    """Record writes that were merged in a shard, in the same transaction.

    Args:
        place: a CUID of the shard; see :meth:`~usertable.store.postgres.citus.ShardMap.representative`.
    """
    # A write that was not done has its CUID, so that erasing the user finds what the body has of it.
    previous = [-cuid for _, cuid in merge.users]
    befores: list[str | None] = [None] * len(previous)
    changes = latest = 0
    for cuid, at_place, at, number, before, version, keyframe in rows:
        if at_place is None:
            continue
        previous[at_place], befores[at_place] = number, before
        changes, latest = changes + 1, max(latest, at)
        if keyframe is not None:
            db.execute(_SQL_HISTORY["add_keyframe"], (merge.project, block * PLACES + at_place, cuid, version, at, keyframe))
    if changes:
        found = {"changes": changes, "latest": latest, "previous": previous, "befores": befores}
        row = {"project": merge.project, "place": place, "block": block, "body": merge.body, **found}
        db.execute(STATEMENTS["record_in_shard"], row)


def forget_undone(connections: Connections, shards: ShardMap | None, users: Iterable[UserKey]) -> None:
    """Take out of history what was just sent in writes to users that do not exist, possibly because they were erased.

    A merge stores the writes as they were sent. The writes that were done are committed, so a failure is only logged: what
    was not done goes when the block is packed, and that of erased users within minutes: see
    :meth:`usertable.store.postgres.history.Packer.forget_erased`.
    """
    by_project: dict[int, list[int]] = {}
    for project, cuid in users:
        by_project.setdefault(project, []).append(cuid)
    try:
        for project, cuids in sorted(by_project.items()):
            connections.change(partial(history.forget_undone, shards=shards, project=project, cuids=cuids))
    except (psycopg.Error, UsertableError) as failure:
        log.info("writes to unknown users stay in history for now: %s", error_text(failure))
