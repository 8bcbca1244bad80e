"""History on SQLite: a row per block; see :mod:`usertable.store.history`."""

from __future__ import annotations

import itertools
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

import apsw

from usertable.domain.change import Change
from usertable.domain.moments import HOUR_MS
from usertable.store.history import (
    LAST_BLOCKS,
    PLACES,
    BlockSize,
    HistoryBlock,
    HistoryFigures,
    HistoryGrowth,
    blocks_of,
    examined,
    kept_since,
    to_pack,
    to_prune,
    walk,
    without_user,
)
from usertable.store.keyframes import Keyframe, decode_keyframe, encode_keyframe, keyframes_of
from usertable.store.protocol import T
from usertable.store.queries import load_queries
from usertable.store.records import User
from usertable.store.sqlite import reads
from usertable.store.tables import Row
from usertable.store.transaction import Mutation

_SQL = load_queries("usertable.store.sqlite", "history.sql")
_LARGEST = 2**63 - 1
_PAGE = 1000


def record(db: apsw.Connection, mutation: Mutation) -> list[HistoryBlock]:
    """Store what is to be recorded of a mutation, and return its blocks. Numbers are in the order of commits."""
    blocks = blocks_of(mutation, itertools.count(next_block(db, mutation.project)))
    for block in blocks:
        keep_block(db, mutation.project, block)
    if keyframes := keyframes_of(mutation.changes, lambda: _unrecorded(db, mutation.project)):
        db.executemany(_SQL["add_keyframe"], [(mutation.project, *encode_keyframe(k.row)) for k in keyframes])
    if mutation.values and (cuids := mutation.identified):
        db.executemany(_SQL["remove_keyframes_of_user"], [(mutation.project, cuid) for cuid in cuids])
    return blocks


def next_block(db: apsw.Connection, project: int) -> int:
    """Return the number for the next block."""
    found: int | None = db.execute(_SQL["next_block"], (project,)).get
    return found or 1


def newest(db: apsw.Connection, project: int) -> int | None:
    """Return the newest time of the last blocks, in ms since 1970 UTC; None if there are none."""
    found: int | None = db.execute(_SQL["newest_moment"], {"project": project, "limit": LAST_BLOCKS}).get
    return found


def _unrecorded(db: apsw.Connection, project: int) -> set[str]:
    return {name for (name,) in db.execute(_SQL["unrecorded"], (project,))}


def keep_block(db: apsw.Connection, project: int, block: HistoryBlock) -> None:
    """Store a block, in place of one with the same number."""
    db.execute(_SQL["keep_block"], (project, block.block, block.last, block.changes, block.latest, block.body))


def changes(db: apsw.Connection, project: int, cuid: int, head: int) -> Iterator[Change]:
    """Yield a user's changes, newest first. `head` is the number of the newest."""
    return walk(lambda number: block_of(db, project, number), cuid, head)


def with_changes(
    db: apsw.Connection,
    project: int,
    cuid: int,
    work: Callable[[User | None, Iterator[Change]], T],
    *,
    start: int | None = None,
    after: int | None = None,
) -> T:
    """See :meth:`usertable.store.protocol.Remembering.with_changes`. The connection is in a transaction."""
    user = reads.user(db, project, cuid)
    if user is None:
        return work(None, iter(()))
    if after is not None and (row := db.execute(_SQL["keyframe_after"], (project, cuid, after)).fetchone()):
        user.profile = Keyframe(*decode_keyframe(row)).profile(user.profile)
    return work(user, changes(db, project, cuid, user.profile.head if start is None else start))


def block_of(db: apsw.Connection, project: int, number: int) -> HistoryBlock | None:
    """Return the block that contains a change's number."""
    wanted = number // PLACES
    row = db.execute(_SQL["block_of"], (project, wanted)).fetchone()
    return HistoryBlock(*row) if row is not None and wanted <= row[1] else None


def blocks(db: apsw.Connection, project: int, below: int | None, limit: int) -> list[HistoryBlock]:
    found = db.execute(_SQL["blocks_below"], (project, _LARGEST if below is None else below, limit))
    return [HistoryBlock(*row) for row in found]


def all_blocks(db: apsw.Connection, project: int) -> Iterator[HistoryBlock]:
    """Yield the blocks, newest first, reading each as it is consumed."""
    for row in db.execute(_SQL["blocks_below"], (project, _LARGEST, _LARGEST)):
        yield HistoryBlock(*row)


def rows(db: apsw.Connection, project: int, after: int | None, limit: int) -> Iterator[Row]:
    """Yield blocks after one as rows of the table :data:`~usertable.store.tables.HISTORY`, in the order of their numbers."""
    found = db.execute(_SQL["blocks_after"], {"project": project, "after": -1 if after is None else after})
    return itertools.islice(found, limit)


def load(db: apsw.Connection, project: int, rows: Iterable[Row]) -> None:
    """Store such rows."""
    db.executemany(_SQL["keep_block"], [(project, *row) for row in rows])


def last(db: apsw.Connection, project: int) -> int | None:
    """Return the number of the last block; None if there is none."""
    found: int | None = next(db.execute(_SQL["ends"], {"project": project}))[1]
    return found


def count(db: apsw.Connection, project: int) -> int:
    """Return the number of blocks."""
    found: int = db.execute(_SQL["count"], {"project": project}).get
    return found


def since(db: apsw.Connection, project: int) -> int | None:
    found: int | None = db.execute("SELECT at FROM history_since WHERE project = ?", (project,)).get
    return found


def keep_since(db: apsw.Connection, project: int, moment: int | None) -> None:
    if moment is None:
        db.execute("DELETE FROM history_since WHERE project = ?", (project,))
    else:
        db.execute(_SQL["keep_history_since"], (project, moment))


def forget(db: apsw.Connection, project: int, cuid: int) -> None:
    """Take a user's values out of history."""
    db.execute(_SQL["remove_keyframes_of_user"], (project, cuid))
    user = reads.user(db, project, cuid)
    if user is None:
        return
    places = {change.number // PLACES for change in changes(db, project, cuid, user.profile.head)}
    for wanted in places:
        block = block_of(db, project, wanted * PLACES)
        if block is not None:
            keep_block(db, project, without_user(block, cuid))


def prune(
    db: apsw.Connection, project: int, before: int | None, excess: int, now: int
) -> tuple[list[BlockSize], list[BlockSize]]:
    """Remove some of the oldest blocks, but never the newest. `history_since` moves forward with it.

    Returns:
        the blocks, and their keyframes, each as the size without changes of the block that it belonged to.
    """

    def read(limit: int) -> list[BlockSize]:
        rows = db.execute(_SQL["oldest_blocks"], {"project": project, "limit": limit})
        return list(itertools.starmap(BlockSize, rows))

    oldest, _ = examined(read, attrgetter("latest"), before, excess, now)
    removed = to_prune(oldest, before, excess, now)
    if not removed or (before is None and since(db, project) is not None):
        # It may have been turned on again.
        return [], []
    db.executemany(_SQL["remove_block"], [(project, size.block) for size in removed])
    if before is not None:
        at = kept_since(removed, before, excess, now)
        db.execute(_SQL["move_history_since"], {"project": project, "at": at})
    keyframes = db.execute(_SQL["remove_keyframes"], {"project": project})
    return removed, list(itertools.starmap(BlockSize, keyframes))


def last_packed(db: apsw.Connection, project: int) -> int:
    """Return the number of the newest packed block; 0 if there is none."""
    below = _LARGEST
    page: list[tuple[int, int]]
    while page := list(db.execute(_SQL["newest_packed"], {"project": project, "below": below, "limit": _PAGE})):
        for block, is_packed in page:
            if is_packed:
                return block
        below = page[-1][0]
    return 0


def unpacked(db: apsw.Connection, project: int, after: int, before: int) -> list[HistoryBlock]:
    """Return blocks after one that can be packed to one, because all their changes are before a moment; none if too few."""
    rows = db.execute(_SQL["blocks_after"], {"project": project, "after": after})
    return to_pack(itertools.starmap(HistoryBlock, rows), before)


def replace_blocks(db: apsw.Connection, project: int, blocks: Sequence[HistoryBlock], packed: HistoryBlock) -> bool:
    """Replace blocks by a packed one. Return False, and change nothing, if they are no longer what was read."""
    span = {"project": project, "first": packed.block, "last": packed.last}
    if [HistoryBlock(*row) for row in db.execute(_SQL["blocks_between"], span)] != list(blocks):
        return False
    db.executemany(_SQL["remove_block"], [(project, block.block) for block in blocks])
    keep_block(db, project, packed)
    return True


@dataclass(slots=True)
class _Sums:
    blocks: int = 0
    changes: int = 0
    bytes: int = 0
    keyframe_bytes: int = 0

    def add(self, blocks: int, changes: int, size: int, keyframe_bytes: int = 0) -> None:
        self.blocks += blocks
        self.changes += changes
        self.bytes += size
        self.keyframe_bytes += keyframe_bytes


_ByHour = defaultdict[int, _Sums]
STRETCH = 4096
"""Number of blocks that are added up again at once."""


@dataclass(slots=True)
class _Counted:
    first: int | None
    """The first block; None if this process has removed some since."""
    last: int = -1
    stretches: defaultdict[int, _ByHour] = field(default_factory=lambda: defaultdict(_by_hour))
    """By `block // STRETCH`."""
    again: int = 0
    """The stretch from which on one is added up again next."""

    def hours(self) -> Iterator[tuple[int, _Sums]]:
        for stretch in self.stretches.values():
            yield from stretch.items()

    def of(self, size: BlockSize) -> _Sums:
        """Return the sums to which a block belongs."""
        return self.stretches[size.block // STRETCH][size.latest // HOUR_MS]


def _by_hour() -> _ByHour:
    return defaultdict(_Sums)


class StoredSizes:
    """How much history is stored, by project.

    Adding up all blocks reads a page of each, which for a large history takes seconds to minutes. So they are added up once,
    and then only those that came since. What the blocks of an erased user lose, possibly in another process, is noticed when
    they are added up again: a stretch of :data:`STRETCH` blocks at a time. Keyframes are also removed in other processes, so
    the database itself adds up what is stored of them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._projects: dict[int, _Counted] = {}

    def figures(self, db: apsw.Connection, project: int) -> HistoryFigures:
        """Return how much history of a project is stored."""
        with self._lock:
            sums = [sums for _, sums in self._count(db, project).hours()]
        oldest, newest = next(db.execute(_SQL["ages"], {"project": project}))
        size: int = sum(s.bytes for s in sums) + db.execute(_SQL["keyframe_bytes"], {"project": project}).get
        return HistoryFigures(sum(s.blocks for s in sums), sum(s.changes for s in sums), size, oldest, newest)

    def growth(self, db: apsw.Connection, project: int, since: int) -> HistoryGrowth:
        """Return how much history was added since a moment, to the hour."""
        with self._lock:
            sums = [s for hour, s in self._count(db, project).hours() if hour >= since // HOUR_MS]
        return HistoryGrowth(sum(s.changes for s in sums), sum(s.bytes + s.keyframe_bytes for s in sums))

    def replaced(
        self,
        project: int,
        removed: Iterable[BlockSize],
        added: Iterable[BlockSize] = (),
        *,
        keyframes: Iterable[BlockSize] = (),
    ) -> None:
        """Take note of blocks that this process has removed and added, and of keyframes that it has removed."""
        with self._lock:
            counted = self._projects.get(project)
            if counted is None:
                return
            for sign, sizes in ((-1, removed), (1, added)):
                for size in sizes:
                    if size.block <= counted.last:
                        counted.of(size).add(sign, sign * size.changes, sign * size.bytes)
            for size in keyframes:
                if size.block <= counted.last:
                    counted.of(size).add(0, 0, 0, -size.bytes)
            counted.first = None

    def refresh(self, db: apsw.Connection, project: int) -> None:
        """Add a stretch of the project's blocks up again, the next one at each call."""
        with self._lock:
            counted = self._projects.get(project)
            if counted is None or not counted.stretches:
                return
            numbers = sorted(counted.stretches)
            number = next((number for number in numbers if number >= counted.again), numbers[0])
            counted.again = number + 1
            del counted.stretches[number]
            self._add_up(db, project, counted, number * STRETCH - 1, min((number + 1) * STRETCH - 1, counted.last))

    def _count(self, db: apsw.Connection, project: int) -> _Counted:
        first, last = next(db.execute(_SQL["ends"], {"project": project}))
        counted = self._projects.get(project)
        if counted is None or first is None or last < counted.last or counted.first not in (None, first):
            counted = self._projects[project] = _Counted(first)
        counted.first = first
        if first is not None and last > counted.last:
            after = max(counted.last, first - 1)
            while after < last:
                end = min(((after + 1) // STRETCH + 1) * STRETCH - 1, last)
                self._add_up(db, project, counted, after, end)
                after = end
            counted.last = last
        return counted

    @staticmethod
    def _add_up(db: apsw.Connection, project: int, counted: _Counted, after: int, last: int) -> None:
        """Add the blocks of a range, which is within a stretch."""
        for hour, *sums in db.execute(_SQL["sizes"], {"project": project, "after": after, "last": last}):
            counted.stretches[last // STRETCH][hour].add(*sums)
