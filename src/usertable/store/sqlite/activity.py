"""Stored arrivals; see :class:`usertable.store.protocol.Arriving`."""

from __future__ import annotations

from collections.abc import Sequence

import apsw
import msgspec

from usertable.domain.arrival import Arrival, Arrivals, Rate
from usertable.domain.errors import ProblemKind
from usertable.store.encoding import decode_arrival, encode_arrival
from usertable.store.protocol import KEPT_SAMPLES
from usertable.store.queries import load_queries

_SQL = load_queries("usertable.store.sqlite", "activity.sql")


def _minute(at: int) -> int:
    return at - at % 60_000


def keep_arrivals(db: apsw.Connection, batch: Sequence[Arrivals]) -> None:
    for arrivals in batch:
        project, at = arrivals.project, arrivals.at
        if not arrivals.is_empty:
            db.execute(_SQL["add_rate"], (project, at, arrivals.accepted, arrivals.refused, len(arrivals.samples)))
        db.executemany(
            _SQL["add_refusal"],
            [
                (project, _minute(at), kind, attribute or "", count, at)
                for (kind, attribute), count in arrivals.refusals.items()
            ],
        )
        db.executemany(_SQL["add_last_write"], [(project, name, at) for name in arrivals.written])
        db.executemany(_SQL["add_key_use"], [(project, name, _minute(at)) for name in arrivals.keys])
        db.executemany(
            _SQL["add_sample"],
            [
                (project, bool(sample.problems), sample.at, sample.cuid, encode_arrival(sample))
                for sample in arrivals.samples
            ],
        )


def arrivals(db: apsw.Connection, project: int, after: int, limit: int, refused: bool | None) -> list[tuple[int, Arrival]]:
    which = (0, 1) if refused is None else (refused, refused)
    rows = db.execute(_SQL["samples"], (project, *which, after, limit))
    return [(number, decode_arrival(document)) for number, document in rows]


def rates(db: apsw.Connection, project: int, since: int, step: int) -> list[Rate]:
    return [Rate(*row) for row in db.execute(_SQL["rates"], {"project": project, "since": since, "step": step})]


def refusals(db: apsw.Connection, project: int, since: int) -> list[tuple[ProblemKind, str | None, int, int]]:
    rows = db.execute(_SQL["refusals"], (project, _minute(since)))
    return [(ProblemKind(kind), attribute or None, count, last) for kind, attribute, count, last in rows]


def last_writes(db: apsw.Connection, project: int) -> dict[str, int]:
    return dict(db.execute("SELECT attribute, at FROM last_write WHERE project = ?", (project,)))


def key_uses(db: apsw.Connection, project: int, names: Sequence[str]) -> dict[str, int]:
    wanted = msgspec.json.encode(names).decode()
    named = "project = ? AND name IN (SELECT value FROM json_each(?))"
    return dict(db.execute(f"SELECT name, at FROM key_use WHERE {named}", (project, wanted)))


def expire_arrivals(db: apsw.Connection, before: int) -> None:
    for (project,) in list(db.execute("SELECT number FROM project")):
        until = {"project": project, "before": before}
        db.execute(_SQL["expire_counts"], {**until, "minute": _minute(before)})
        for refused in (0, 1):
            db.execute(_SQL["expire_samples"], {**until, "refused": refused, "kept": KEPT_SAMPLES})
