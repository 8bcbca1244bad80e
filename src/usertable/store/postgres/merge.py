"""Plain writes that the database merges by itself: which they are, and the statements that do it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from psycopg import errors
from psycopg.pq import ExecStatus

from usertable.domain.patch import Patch
from usertable.store.encoding import encode_patches
from usertable.store.postgres.citus import load_shards
from usertable.store.postgres.connection import Connection, connect, plan_by_index
from usertable.store.postgres.url import connection_parameters
from usertable.store.queries import load_queries
from usertable.store.records import Write
from usertable.store.urls import redacted_url

MERGE_PARAMETERS = ("project", "version", "patches", "shapes", "limit")
JSON_PER_JSONB = 8
"""Bytes of JSON text per byte of jsonb, at most: a control character is one byte there, and `\\u0001` here."""
_SQL = load_queries("usertable.store.postgres", "merge.sql")

UserKey = tuple[int, int]
"""A user: the project's number, and the CUID."""


@dataclass(frozen=True, slots=True)
class Merge:
    """Plain writes under one version of a project, for the database to merge in one statement."""

    project: int
    version: int
    users: Sequence[UserKey]
    patches: str
    shapes: str
    receipts: bool
    """Whether any of them has one."""
    limit: int
    """Rows of more bytes than this, as the database has them, are not merged: they may be larger than a row may be."""

    @property
    def name(self) -> bytes:
        """Of its statement, see :func:`connect_to_merge`."""
        return b"merge_with_receipts" if self.receipts else b"merge"

    @property
    def parameters(self) -> dict[str, object]:
        """Of its statement, by name."""
        return {name: getattr(self, name) for name in MERGE_PARAMETERS}


def mergeable(
    writes: Sequence[Write], reported: Mapping[int, Set[str]], row_limit: int, *, receipts: bool = False
) -> list[Merge]:
    """Those of the writes that the database can merge, by project and version of its schema.

    They are the ones whose outcomes nobody looks at, alone on their user and with their key in the batch, and of
    attributes that had values before.

    Args:
        reported: by project, attributes that are known to have had values.
        row_limit: bytes that a user's row may have as JSON text.
        receipts: also those with a receipt.
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
    batches: dict[tuple[int, int], list[Write]] = {}
    # In order, so that no two batches wait for each other's users.
    for user in sorted(found):
        write = found[user]
        known = reported.get(write.project, ())
        if all(attribute.name in known for attribute, _ in write.patch.entries):
            batches.setdefault((write.project, write.schema_version), []).append(write)
    return [
        Merge(
            project,
            version,
            [(project, write.cuid) for write in batch],
            *encode_patches(batch),
            any(write.receipt is not None for write in batch),
            row_limit // JSON_PER_JSONB,
        )
        for (project, version), batch in batches.items()
    ]


def connect_to_merge(url: str) -> Connection | None:
    """A connection on which the statements of `Merge`s are prepared by their names; None if the store is distributed.

    Raises:
        psycopg.Error: there is none to be had now.
        StoreFault: the database cannot be written now.
    """
    db = connect(connection_parameters(url)[0], redacted_url(url))
    try:
        if load_shards(db) is not None:
            db.close()
            return None
        plan_by_index(db)
        for name in ("merge", "merge_with_receipts"):
            text: str = _SQL[name]
            for index, parameter in enumerate(MERGE_PARAMETERS, start=1):
                text = text.replace(f"%({parameter})s", f"${index}")
            prepared = db.pgconn.prepare(name.encode(), text.encode())
            if prepared.status != ExecStatus.COMMAND_OK:
                raise errors.error_from_result(prepared)
    except BaseException:
        db.close()
        raise
    return db


def merge_in_shard(db: Connection, merge: Merge) -> list[UserKey]:
    """On Citus, merge plain writes without a receipt to users in one shard; the users whose writes are done."""
    parameters = {**merge.parameters, "cuids": [cuid for _, cuid in merge.users]}
    return [(merge.project, cuid) for (cuid,) in db.execute(_SQL["merge_in_shard"], parameters)]
