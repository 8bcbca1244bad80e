"""History on PostgreSQL: a row per block; see :mod:`usertable.store.history`."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from usertable.domain.change import Change
from usertable.domain.moments import HOUR_MS
from usertable.store.history import (
    LAST_BLOCKS,
    PLACES,
    BlockSize,
    HistoryBlock,
    HistoryFigures,
    HistoryGrowth,
    PackedHistory,
    PrunedHistory,
    examined,
    kept_since,
    pack_blocks,
    to_pack,
    to_prune,
    unpack_block,
    without_user,
)
from usertable.store.keyframes import VERSIONS, Keyframe, decode_keyframe, encode_keyframe
from usertable.store.packing import PackedChanges
from usertable.store.postgres import reads
from usertable.store.postgres.citus import ShardMap
from usertable.store.postgres.connection import Connection, first_rows
from usertable.store.postgres.locks import lock_history, try_lock_history
from usertable.store.protocol import T
from usertable.store.queries import load_queries
from usertable.store.records import User
from usertable.store.tables import Row

EVERYWHERE = 0
"""The `cuid` of blocks that belong to no shard: all of them, unless the store is distributed."""
FIRST_STEPS = 16
"""Maximum number of changes that the first query of a walk reads, if no moment is asked for. Each further one reads four
times as many."""
MOST_STEPS = 1024
"""Maximum number of changes that any query of a walk reads."""
WALK_BYTES = 4 * 2**20
"""Bytes of blocks after which a query of a walk reads no more."""
_PAGE = 1000
_ABOVE_ALL = 2**63 - 1
"""A number that no change and no block has."""
_LARGEST_BACK = 2**31 - 1
_FIRST_PAGE = 24
_PACKED_PAGE = 64
_LATE_BLOCKS = 16
"""Number of blocks of a shard that may have come after those around them were packed: what several machines commit, each
commits after the coordinator, and one may be late."""
_SQL = load_queries("usertable.store.postgres", "history.sql")
_UNRECORDED = load_queries("usertable.store.postgres", "merge.sql")["unrecorded"]
_OF_TRANSACTIONS = load_queries("usertable.store.postgres", "transaction.sql")


def draw_numbers(db: Connection, wanted: int) -> Iterator[int]:
    """Return numbers for blocks. Numbers that are drawn later are higher, whoever draws them."""
    if not wanted:
        return iter(())
    return iter([number for (number,) in db.execute(_SQL["draw_numbers"], {"wanted": wanted})])


def add_block(db: Connection, project: int, cuid: int, block: HistoryBlock) -> None:
    """Store a new block.

    Args:
        cuid: of its shard, on Citus; otherwise :data:`EVERYWHERE`.
    """
    previous = [block.previous.get(place, 0) for place in range(max(block.previous) + 1)] if block.previous else None
    row = (project, cuid, block.block, block.last, block.changes, block.latest, _array(previous), block.body)
    db.execute(_SQL["add_block"], (*row, *map(_array, _links(block))))


def _array(numbers: Sequence[int] | None) -> str | None:
    """Return an array as PostgreSQL reads it: `{1,2}`. The driver takes six times as long to write it."""
    return None if numbers is None else f"{{{','.join(map(str, numbers))}}}"


def _links(block: HistoryBlock) -> tuple[list[int] | None, list[int] | None, list[int] | None]:
    """Return the columns `firsts`, `shifts` and `backs` of a block (migrations/0017_links.sql)."""
    if not block.is_packed:
        return None, None, None
    firsts: list[int] = []
    shifts: list[int] = []
    backs: list[int] = []
    for index, (place, back) in enumerate(PackedChanges(block.body).links()):
        if not shifts or place - index != shifts[-1]:
            firsts.append(place)
            shifts.append(place - index)
        backs.append(back if back <= _LARGEST_BACK else 0)
    return firsts, shifts, backs


def unrecorded(db: Connection, project: int) -> set[str]:
    """Return the attributes whose history is off."""
    return {name for (name,) in db.execute(_UNRECORDED, {"project": project})}


def add_keyframe(db: Connection, project: int, keyframe: Keyframe) -> None:
    db.execute(_SQL["add_keyframe"], (project, *encode_keyframe(keyframe.row)))


def remove_keyframes_of_users(db: Connection, project: int, cuids: Collection[int]) -> None:
    if cuids:
        span = {"first": min(cuids), "last": max(cuids)}
        db.execute(_SQL["remove_keyframes_of_users"], {"project": project, "cuids": list(cuids), **span})


def changes(
    db: Connection, shards: ShardMap | None, project: int, cuid: int, head: int, after: int | None = None
) -> Iterator[Change]:
    """Yield a user's changes, newest first. `head` is the number of the newest.

    Args:
        after: the caller is expected to need those after this moment (ms since 1970 UTC), and the next one.
    """
    for change, _ in _walk(db, shards, project, cuid, head, after):
        yield change


def with_changes(
    db: Connection,
    shards: ShardMap | None,
    project: int,
    cuid: int,
    work: Callable[[User | None, Iterator[Change]], T],
    *,
    start: int | None = None,
    after: int | None = None,
) -> T:
    user = reads.user(db, shards, project, cuid)
    if user is None:
        return work(None, iter(()))
    if after is not None:
        query = {"project": project, "cuid": cuid, "after": after}
        for row in db.execute(_SQL["keyframe_after"], query):
            user.profile = Keyframe(*decode_keyframe(row)).profile(user.profile)
    return work(user, changes(db, shards, project, cuid, user.profile.head if start is None else start, after))


def figures(db: Connection, project: int) -> HistoryFigures:
    query = {"project": project}
    count, number, size, newest = db.execute(_SQL["figures"], query).fetchall()[0]
    oldest = db.execute(_SQL["oldest_moment"], query).fetchone()
    return HistoryFigures(count, number, size + _keyframe_bytes(db, project), oldest[0] if oldest else None, newest)


def _keyframe_bytes(db: Connection, project: int, *, since: int = 0, below: int = _ABOVE_ALL) -> int:
    query = {"project": project, "since": since, "below": below}
    found: int = db.execute(_SQL["keyframe_bytes"], query).fetchall()[0][0]
    return found


def _walk(
    db: Connection, shards: ShardMap | None, project: int, cuid: int, head: int, after: int | None = None
) -> Iterator[tuple[Change, HistoryBlock]]:
    """Yield a user's changes, newest first, each with its block.

    The database follows the chain, except through blocks that an earlier version packed. What follows in such a block is
    read here.

    Args:
        after: see :func:`changes`.
    """
    number = head
    # To a moment, no further than from the keyframe after it, which may be of a version that stored half as many.
    steps = FIRST_STEPS if after is None else 2 * VERSIONS + 1
    place = EVERYWHERE if shards is None else shards.representative(cuid)
    while number:
        place, found = _steps(db, shards, project, cuid, number, steps, after, place)
        start = number
        for step, block in _blocks_of_steps(found):
            while number and (number == step or (block.contains(number) and block.befores is None)):
                change = block.change(number, cuid)
                if change is None:
                    return
                yield change, block
                number = change.previous
        if number == start:
            return
        steps = min(4 * steps, MOST_STEPS)


def _steps(
    db: Connection,
    shards: ShardMap | None,
    project: int,
    cuid: int,
    number: int,
    steps: int,
    after: int | None,
    place: int,
) -> tuple[int, list[Row]]:
    """Return rows of a user's changes from a number on: at least one if it is kept.

    Args:
        steps: maximum number of changes.
        after: stop at a change that is in a block without changes after this moment (ms since 1970 UTC).
        place: where to search first: the `cuid` of the block that the newer change was in.

    Returns: where they were found, and the rows, for :func:`_blocks_of_steps`.
    """
    query = {"project": project, "number": number, "steps": steps, "after": after, "bytes": WALK_BYTES}
    for tried in (place,) if shards is None else _places(db, shards, project, cuid, number, place):
        # In binary form, because a body as text is twice as long.
        found = db.execute(_SQL["walk"], {**query, "cuid": tried}, binary=True).fetchall()
        # The numbers of a packed block span those of other shards.
        if found and (shards is None or next(_blocks_of_steps(found))[1].change(number, cuid) is not None):
            return tried, found
    return place, []


def _blocks_of_steps(rows: Sequence[Row]) -> Iterator[tuple[int, HistoryBlock]]:
    """Yield the number and the block of each change, from rows of the statement `walk`.

    A block's change of that number can be read until the next one is consumed. Each block is dropped after its changes: once
    read, it is many times larger.
    """
    block = None
    for number, first, last, changes, latest, body, place, index, before, previous in rows:
        if block is None or body is not None:
            block = HistoryBlock(first, last, changes, latest, body)
        block.index = None if index is None else (place, index)
        if before is not None:
            block.befores, block.previous = {place: before}, {place: previous or 0}
        yield number, block


def _places(db: Connection, shards: ShardMap, project: int, cuid: int, number: int, place: int) -> Iterator[int]:
    """Yield where a user's change may be on Citus, the most likely first."""
    tried: list[int] = []
    # A copied store has its blocks EVERYWHERE. Those from before a split are beside one of the shards that came of it.
    for likely in (place, shards.representative(cuid), EVERYWHERE, *shards.representatives()):
        if likely not in tried:
            tried.append(likely)
            yield likely
    for (rest,) in db.execute(_SQL["places_with"], {"project": project, "number": number}).fetchall():
        if rest not in tried:
            yield rest


def blocks(db: Connection, project: int, below: int | None, limit: int) -> list[HistoryBlock]:
    rows = db.execute(_SQL["blocks_below"], {"project": project, "below": below, "limit": limit})
    return [stored_block(*row).whole() for row in rows]


def places(db: Connection, shards: ShardMap | None, project: int) -> list[int]:
    """Return the `cuid`s of a project's blocks: one for each shard that has any, on Citus."""
    return [EVERYWHERE] if shards is None else [place for (place,) in db.execute(_SQL["places"], {"project": project})]


def all_blocks(db: Connection, shards: ShardMap | None, project: int) -> Iterator[HistoryBlock]:
    """Yield the blocks, newest first, some at a time. Citus would read all that a cursor could still ask for.

    The numbers of a packed block span those of blocks of other shards. It comes in the order of its last.
    """
    found = places(db, shards, project)
    page = max(_PACKED_PAGE // max(len(found), 1), 1)
    of_places = [_blocks_of(db, project, place, page) for place in found]
    yield from heapq.merge(*of_places, key=lambda block: -block.last)


def _blocks_of(db: Connection, project: int, place: int, page: int) -> Iterator[HistoryBlock]:
    query = {"project": project, "cuid": place, "limit": page}
    below = _ABOVE_ALL
    while rows := db.execute(_SQL["blocks_of_place"], {**query, "below": below}).fetchall():
        yield from itertools.starmap(stored_block, rows)
        below = rows[-1][0]


def stored_block(
    block: int,
    last: int,
    changes: int,
    latest: int,
    body: bytes,
    befores: Sequence[str | None] | None,
    previous: Sequence[int | None] | None,
) -> HistoryBlock:
    """Return a block from its row."""
    found = HistoryBlock(block, last, changes, latest, body)
    if befores is not None:
        found.befores = {place: before for place, before in enumerate(befores) if before is not None}
        found.previous = {place: number or 0 for place, number in enumerate(previous or ())}
    return found


def blocks_after(
    db: Connection, places: Sequence[int], project: int, after: Row | None, limit: int, size: int
) -> list[HistoryBlock]:
    """Return up to `limit` blocks in the order of their numbers, from the one after the key `after` on.

    The numbers of packed blocks of different shards overlap, those of a store's blocks do not. So on Citus, packed blocks of
    shards are unpacked, and there may be more than `limit`.

    Args:
        places: see :func:`places`.
        size: bytes of blocks after which there are no more. On Citus, those that overlap the page are not counted.
    """
    number = after[0] if after else -1
    query = {"project": project, "after": number, "limit": limit if places == [EVERYWHERE] else _PACKED_PAGE}
    rows = first_rows(db, _SQL["blocks_after"], query, size)
    if places == [EVERYWHERE]:
        return [stored_block(*row).whole() for _, *row in rows]
    # What a packed block has after the last one of the page is found again below, once there are no more.
    end = rows[-1][1] if rows else 2**63
    for place in places:
        rows += db.execute(
            _SQL["blocks_around"], {"project": project, "cuid": place, "after": number, "limit": _LATE_BLOCKS}
        )
    found: list[HistoryBlock] = []
    for place, *row in rows:
        block = stored_block(*row)
        found += unpack_block(block) if block.is_packed and place != EVERYWHERE else [block.whole()]
    return sorted((block for block in found if number < block.block <= end), key=lambda block: block.block)


def load_blocks(db: Connection, project: int, blocks: Sequence[HistoryBlock]) -> None:
    """Store blocks of another store. Numbers that are drawn later are higher."""
    for block in blocks:
        if block.last == block.block:
            block.previous = {change.number - block.block * PLACES: change.previous for change, _ in block.all_changes()}
        add_block(db, project, EVERYWHERE, block)
    if blocks:
        db.execute(_SQL["raise_numbers"], {"last": max(block.last for block in blocks)})


def since(db: Connection, project: int) -> int | None:
    found = db.execute("SELECT at FROM usertable.history_since WHERE project = %s", (project,)).fetchone()
    return found[0] if found else None


def keep_since(db: Connection, project: int, moment: int | None) -> None:
    if moment is None:
        db.execute("DELETE FROM usertable.history_since WHERE project = %s", (project,))
    else:
        db.execute(_SQL["keep_history_since"], {"project": project, "at": moment})


def newest(db: Connection, project: int) -> int | None:
    """Return the newest time of the last blocks, in ms since 1970 UTC; None if there are none."""
    found: int | None = db.execute(_SQL["newest_moment"], {"project": project, "limit": LAST_BLOCKS}).fetchall()[0][0]
    return found


def forget(db: Connection, shards: ShardMap | None, project: int, cuid: int) -> None:
    """Take a locked user's values out of history."""
    # Nobody packs blocks meanwhile.
    lock_history(db, project)
    remove_keyframes_of_users(db, project, [cuid])
    head = db.execute(_SQL["head"], {"project": project, "cuid": cuid}).fetchone()
    if head is None:
        return
    for number in sorted({block.block for _, block in _walk(db, shards, project, cuid, head[0])}):
        for place, *row in db.execute(_SQL["stored_blocks"], {"project": project, "block": number}).fetchall():
            body = without_user(stored_block(*row).whole(), cuid).body
            db.execute(_SQL["replace_body"], {"project": project, "cuid": place, "block": number, "body": body})
    # A block that the database merged was sent as a whole: with what was sent in writes that changed nothing, or were
    # declined. Once it is packed, it no longer has that.
    _forget_between(db, project, _last_packed(db, project, EVERYWHERE), _ABOVE_ALL, [cuid])


def forget_undone(db: Connection, shards: ShardMap | None, project: int, cuids: Iterable[int]) -> None:
    """Take out of the newest blocks what was sent for users that do not exist, together with writes that were done.

    They may have been erased, after these writes were sent or before.
    """
    lock_history(db, project)
    by_place: dict[int, list[int]] = {}
    for cuid in cuids:
        by_place.setdefault(EVERYWHERE if shards is None else shards.representative(cuid), []).append(-cuid)
    for place, undone in sorted(by_place.items()):
        query = {"project": project, "place": place, "limit": LAST_BLOCKS, "undone": undone}
        _keep_what_was_done(db, project, db.execute(_SQL["newest_with_undone"], query).fetchall())


def _forget_between(db: Connection, project: int, after: int, last: int, cuids: Iterable[int]) -> None:
    """Take out of the blocks after one, up to another, what was sent for users in writes that were not done."""
    query = {"project": project, "after": after, "last": last, "undone": [-cuid for cuid in cuids]}
    _keep_what_was_done(db, project, db.execute(_SQL["blocks_with_undone"], query).fetchall())


def _keep_what_was_done(db: Connection, project: int, rows: Iterable[Row]) -> None:
    """Replace the bodies of blocks that the database merged: they get what it found, and lose writes that were not done."""
    for place, *row in rows:
        block = stored_block(*row)
        body = block.whole().body
        db.execute(_SQL["replace_body"], {"project": project, "cuid": place, "block": block.block, "body": body})


def growth(db: Connection, project: int, since: int) -> HistoryGrowth:
    start = since // HOUR_MS * HOUR_MS
    found = HistoryGrowth(*db.execute(_SQL["growth"], {"project": project, "since": start}).fetchall()[0])
    return replace(found, bytes=found.bytes + _keyframe_bytes(db, project, since=start))


def prune(db: Connection, project: int, before: int | None, excess: int, now: int) -> PrunedHistory:
    """Remove some of the oldest blocks, but never the newest. `history_since` moves forward with it."""
    lock_history(db, project)

    def read(limit: int) -> list[tuple[int, int, int, int, int]]:
        return db.execute(_SQL["oldest_blocks"], {"project": project, "limit": limit}).fetchall()

    oldest, has_more = examined(read, lambda row: row[3], before, excess, now)
    # On Citus, the numbers of a packed block span those of other shards. It is as old as its last one, and does not go
    # before blocks that are not among these.
    end = max((row[0] for row in oldest), default=0) if has_more else 2**63
    removed = to_prune([BlockSize(block, *sizes) for block, last, *sizes in oldest if last < end], before, excess, now)
    # Asked after the blocks were read: if it was turned on again since, none of them is of later.
    if not removed or (before is None and since(db, project) is not None):
        return PrunedHistory()
    blocks = [size.block for size in removed]
    db.execute(_SQL["remove_blocks"], {"project": project, "blocks": blocks, "first": min(blocks), "last": max(blocks)})
    if before is not None:
        at = kept_since(removed, before, excess, now)
        db.execute(_SQL["move_history_since"], {"project": project, "at": at})
    lasts: dict[int, int] = {block: last for block, last, *_ in oldest}
    below = (lasts[removed[-1].block] + 1) * PLACES
    keyframes = _keyframe_bytes(db, project, below=below)
    db.execute(_SQL["remove_keyframes"], {"project": project, "below": below})
    return PrunedHistory.of(removed, keyframes)


class Packer:
    """Packs the old blocks of a store, and remembers how far it got.

    A transaction that is still open may yet add a block with a lower number than others have. The block would be within the
    numbers of a packed one, and hide a part of them. So blocks are packed only up to a number that is settled: when it was
    the last one drawn, a transaction ID was drawn after it, and since then all transactions with lower IDs have ended.
    """

    def __init__(self) -> None:
        self._packed: dict[tuple[int, int], int] = {}
        """By project and shard, the number of the last block that is packed."""
        self._examined: dict[tuple[int, int], int] = {}
        """By project and shard, up to which number no block has what was sent for erased users."""
        self._settled = 0
        self._drawn: tuple[int, int] | None = None
        """A number that was the last one drawn, and the ID of a transaction that began after that."""

    @property
    def is_waiting(self) -> bool:
        """Whether transactions that were open when :meth:`observe` was called may not have ended."""
        return self._drawn is not None

    def observe(self, db: Connection) -> None:
        """Look which numbers are drawn, in a transaction of its own."""
        if self._drawn is None:
            (drawn,) = db.execute(_SQL["drawn"]).fetchall()[0]
            (transaction,) = db.execute(_SQL["transaction"]).fetchall()[0]
            self._drawn = drawn, transaction

    def settle(self, db: Connection) -> bool:
        """Return whether what was observed in an earlier transaction is settled now."""
        if self._drawn is not None and db.execute(_SQL["oldest_transaction"]).fetchall()[0][0] >= self._drawn[1]:
            self._settled, self._drawn = self._drawn[0], None
            return True
        return False

    def pack(self, db: Connection, shards: ShardMap | None, project: int, before: int) -> PackedHistory:
        """Pack the first stretch of a project's blocks that can be packed."""
        # Whoever erases a user changes blocks too. Another server may already be at it.
        if not try_lock_history(db, project):
            return PackedHistory(is_busy=True)
        for place in self._places(db, shards, project):
            settled = self._settled_blocks(db, project, place)
            if blocks := to_pack(settled, before):
                packed = pack_blocks(blocks)
                removed = [block.block for block in blocks]
                span = {"first": removed[0], "last": removed[-1]}
                db.execute(_SQL["remove_packed"], {"project": project, "cuid": place, "blocks": removed, **span})
                add_block(db, project, place, packed)
                # Not after it: the transaction may be lost, and is then run again.
                self._packed[project, place] = packed.block - 1
                return PackedHistory.of(blocks)
        return PackedHistory()

    def forget_erased(self, db: Connection, shards: ShardMap | None, project: int) -> bool:
        """Take out of some settled blocks what was sent for erased users, if a server ended before :func:`forget_undone`.

        In blocks that are not settled, whoever merged them may still do so.

        Returns: whether there was any, so there may be more.
        """
        if not try_lock_history(db, project):
            return False
        search = _OF_TRANSACTIONS["erased" if shards is None else "erased_in_shards"]
        for place in self._places(db, shards, project):
            examined = self._examined.get((project, place), 0)
            if examined == self._settled:
                continue
            after = max(self._packed[project, place], examined if shards is None else examined - _LATE_BLOCKS)
            span = {"project": project, "cuid": place, "settled": self._settled, "limit": _PAGE}
            while (page := db.execute(_SQL["undone"], {**span, "after": after}).fetchall()[0])[0] is not None:
                last, cuids = page
                erased = db.execute(search, {"project": project, "cuids": cuids}).fetchall() if cuids else []
                if erased:
                    _forget_between(db, project, after, last, [cuid for (cuid,) in erased])
                    # It is looked at once more: the transaction may be lost.
                    return True
                self._examined[project, place] = after = last
            self._examined[project, place] = self._settled
        return False

    def _places(self, db: Connection, shards: ShardMap | None, project: int) -> Iterator[int]:
        """Yield where the project's blocks are."""
        for place in (EVERYWHERE,) if shards is None else (EVERYWHERE, *shards.representatives()):
            if (project, place) not in self._packed:
                self._packed[project, place] = _last_packed(db, project, place)
            yield place

    def _settled_blocks(self, db: Connection, project: int, place: int) -> Iterator[HistoryBlock]:
        """Yield the blocks after those that are packed, and take note of what another server has packed meanwhile."""
        after = self._packed[project, place]
        span = {"project": project, "cuid": place, "settled": self._settled}
        # Most often, the first ones are enough.
        limit = _FIRST_PAGE
        while rows := db.execute(_SQL["settled_blocks"], {**span, "after": after, "limit": limit}).fetchall():
            for block in itertools.starmap(stored_block, rows):
                if block.is_packed:
                    self._packed[project, place] = block.block
                yield block
            after, limit = rows[-1][0], min(2 * limit, _PACKED_PAGE)


def _last_packed(db: Connection, project: int, place: int) -> int:
    below = _ABOVE_ALL
    span = {"project": project, "cuid": place, "limit": _PAGE}
    while rows := db.execute(_SQL["newest_packed"], {**span, "below": below}).fetchall():
        for block, is_packed in rows:
            if is_packed:
                return int(block)
        below = rows[-1][0]
    return 0
