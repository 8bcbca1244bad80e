"""Stored arrivals; see :class:`usertable.store.protocol.Arriving`."""

from __future__ import annotations

from collections.abc import Sequence

from usertable.domain.arrival import Arrival, Arrivals, Rate
from usertable.domain.errors import ProblemKind
from usertable.store.encoding import decode_arrival, encode_arrival
from usertable.store.postgres.connection import Connection
from usertable.store.postgres.locks import LOCK_ARRIVALS, lock, try_lock
from usertable.store.protocol import KEPT_SAMPLES
from usertable.store.queries import load_queries

_SQL = load_queries("usertable.store.postgres", "activity.sql")
_MINUTE = 60_000
"""Milliseconds per minute."""


def keep_arrivals(db: Connection, batch: Sequence[Arrivals]) -> None:
    # One server at a time, so that numbers become visible in order, and no user is erased meanwhile.
    lock(db, LOCK_ARRIVALS)
    db.execute(_SQL["lock_counters"], {"projects": sorted({arrivals.project for arrivals in batch})})
    rates = [
        {"project": c.project, "at": c.at, "accepted": c.accepted, "refused": c.refused, "sampled": len(c.samples)}
        for c in batch
        if not c.is_empty
    ]
    refusals = [
        {
            "project": c.project,
            "minute": c.at - c.at % _MINUTE,
            "kind": kind,
            "attribute": attribute or "",
            "count": count,
            "at": c.at,
        }
        for c in batch
        for (kind, attribute), count in c.refusals.items()
    ]
    written = [{"project": c.project, "attribute": name, "at": c.at} for c in batch for name in sorted(c.written)]
    uses = [{"project": c.project, "name": name, "at": c.at - c.at % _MINUTE} for c in batch for name in sorted(c.keys)]
    samples = [
        {"project": c.project, "refused": bool(a.problems), "at": a.at, "cuid": a.cuid, "document": encode_arrival(a)}
        for c in batch
        for a in c.samples
    ]
    with db.cursor() as cursor:
        for name, rows in (
            ("add_rate", rates),
            ("add_refusal", refusals),
            ("add_last_write", written),
            ("add_key_use", uses),
            ("add_sample", samples),
        ):
            if rows:
                cursor.executemany(_SQL[name], rows)


def arrivals(db: Connection, project: int, after: int, limit: int, refused: bool | None) -> list[tuple[int, Arrival]]:
    which = [False, True] if refused is None else [refused]
    rows = db.execute(_SQL["samples"], {"project": project, "refused": which, "after": after, "limit": limit})
    return [(number, decode_arrival(document)) for number, document in rows]


def rates(db: Connection, project: int, since: int, step: int) -> list[Rate]:
    return [Rate(*row) for row in db.execute(_SQL["rates"], {"project": project, "since": since, "step": step})]


def refusals(db: Connection, project: int, since: int) -> list[tuple[ProblemKind, str | None, int, int]]:
    rows = db.execute(_SQL["refusals"], {"project": project, "minute": since - since % _MINUTE})
    return [(ProblemKind(kind), attribute or None, count, last) for kind, attribute, count, last in rows]


def last_writes(db: Connection, project: int) -> dict[str, int]:
    rows = db.execute("SELECT attribute, at FROM usertable.last_write WHERE project = %s", (project,))
    return dict(rows.fetchall())


def key_uses(db: Connection, project: int, names: Sequence[str]) -> dict[str, int]:
    named = "project = %s AND name = ANY(%s)"
    return dict(db.execute(f"SELECT name, at FROM usertable.key_use WHERE {named}", (project, list(names))).fetchall())


def expire_arrivals(db: Connection, before: int) -> None:
    # Every server tries; one at a time is enough.
    if not try_lock(db, LOCK_ARRIVALS):
        return
    db.execute("DELETE FROM usertable.arrival_rate WHERE at < %s", (before,))
    db.execute("DELETE FROM usertable.arrival_refusal WHERE at < %s", (before - before % _MINUTE,))
    db.execute(_SQL["expire_samples"], {"kept": KEPT_SAMPLES, "before": before})
