"""Blocks of history: how changes are stored.

A transaction's changes are stored in blocks of up to 1,024, each compressed as a whole: so a change costs an engine neither
a row nor an index entry of its own. A change's number is `block * 1024 + its place`. Old blocks are packed: the changes of
several blocks become one, which is written column by column: see :mod:`usertable.store.packing`.

A block's body is JSON, compressed with zstd. For each attribute of a change it has the value sent and the one before: for
the rule append, the number of elements before, or `[number, [added element, …]]` if not all of `sent` were added. A null
stands for no value. Where the user's previous change is, is stored as `back`: the change's number minus its number, 0 if
there is none. There are three forms:

- What a transaction writes has what changes have in common once: see :class:`_Writes`.
- The body of a block that the database merges is what it was sent, so that values are encoded once: see
  :class:`_SentWrites`.
- Blocks of new users, of an erased user, those that were packed before, and all of earlier versions are an array of one
  member per change (null where a place is not used): `[place, CUID, version, changed, back, at, since, kind, actor, request,
  source, reports, identifiers, occurred_at]`. `reports` are `[attribute, sent, before]`; in a block that the database merged
  `[attribute, sent, index of the value before]`. Members at the end that have their default are left out. For new users
  there is one change for many: its CUID is an array.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, Sequence, ValuesView
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from usertable.domain.change import Change, ChangeKind, Origin, Report, UserChange, actor_in_row
from usertable.domain.moments import DAY_MS
from usertable.domain.patch import Patch, Restoration
from usertable.domain.schema import Rule
from usertable.domain.values import ABSENT
from usertable.store.encoding import EncodedPatches, encode_patches
from usertable.store.packing import (
    NO_TEXT,
    NOTHING,
    EncodedChange,
    PackedChanges,
    StoredChange,
    UnsentChange,
    is_packed,
    pack,
    pack_encoded,
)
from usertable.store.records import Write
from usertable.store.transaction import Mutation
from usertable.zstandard import zstd

T = TypeVar("T")

PLACES = 1024
"""Maximum number of changes of a block that is not packed."""
WRITE_LEVEL = 1
"""zstd level of a block that a write waits for."""
_KINDS = tuple(ChangeKind)
_CODES = {kind: code for code, kind in enumerate(_KINDS)}
_APPEND = Rule.APPEND
_WRITE = _CODES[ChangeKind.WRITE]
_encoder = msgspec.json.Encoder(decimal_format="number")
_raw_decoder = msgspec.json.Decoder(list[msgspec.Raw])


class _Shared(msgspec.Struct, array_like=True, gc=False):
    """What changes have in common."""

    kind: int
    changed: int
    actor: str
    source: str
    occurred_at: int | None
    names: list[str]
    """The attributes."""


class _Row(msgspec.Struct, array_like=True, gc=False):
    """The rest of a change."""

    shared: int
    """Index of what it shares with others."""
    cuid: int
    version: int
    back: int
    at: int
    since: int
    request: str
    values: list[Any]
    """For each attribute, the value sent and the one before."""
    identifiers: list[tuple[str, str]] = []
    """Left out if there are none."""


class _Writes(msgspec.Struct, array_like=True):
    """The body of a block that the server merged, a JSON array. Example:

    `[[[0, 1, "key:billing", "", null, ["spent", "level"]]],
    [[0, 10000001, 17, 156753, 1764518400000, 1764432000000, "5f0c1d2e9a77-4b1", [5, 36.2, 9, 3]]]]`.
    """

    shared: list[_Shared]
    rows: list[msgspec.Raw]
    """By place."""

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, place: int) -> StoredChange:
        """Return the change at a place."""
        row = _row_decoder.decode(self.rows[place])
        shared = self.shared[row.shared]
        return StoredChange(
            *(place, row.cuid, row.version, shared.changed, row.back, row.at, row.since, shared.kind),
            *(shared.actor, row.request, shared.source),
            list(zip(shared.names, row.values[::2], row.values[1::2], strict=True)),
            row.identifiers,
            shared.occurred_at,
        )


class _EncodedRow(msgspec.Struct, array_like=True, gc=False):
    shared: int
    cuid: int
    version: int
    back: int
    at: int
    since: int
    request: msgspec.Raw
    values: list[msgspec.Raw]
    identifiers: msgspec.Raw = NOTHING


class _EncodedWrites(msgspec.Struct, array_like=True):
    """The same with what is copied unread still encoded."""

    shared: list[_Shared]
    rows: list[_EncodedRow]

    def changes(self) -> Iterator[EncodedChange]:
        """Yield the changes, by place."""
        texts = [(msgspec.Raw(_encoder.encode(s.actor)), msgspec.Raw(_encoder.encode(s.source))) for s in self.shared]
        for place, row in enumerate(self.rows):
            shared, (actor, source) = self.shared[row.shared], texts[row.shared]
            yield EncodedChange(
                *(place, row.cuid, row.version, shared.changed, row.back, row.at, row.since, shared.kind),
                *(actor, row.request, source),
                list(zip(shared.names, row.values[::2], row.values[1::2], strict=True)),
                row.identifiers,
                shared.occurred_at,
            )


class _SentHead(msgspec.Struct, gc=False):
    c: int
    t: int
    h: int


class _SentPatch(_SentHead, gc=False):
    s: dict[str, Any]
    o: list[tuple[str, str, Any, int]]


class _SentWrites(msgspec.Struct):
    """The body of a block that the database merges, a JSON object: what it was sent, and what it does not need to know.

    `patches` and `orders` are as :class:`~usertable.store.encoding.EncodedPatches` says, but without attributes whose
    history is off. The other members are by place, like `patches`. Example:
    `{"patches": [{"c": 10000001, "t": 1764518400000, "h": 0, "s": {"level": 9}, "o": [["accumulate", "spent", 5, 1000]]}],
    "orders": [["key:billing", [["spent", 1], ["level", 0]]]], "requests": ["5f0c1d2e9a77-4b1"]}`.
    """

    patches: list[msgspec.Raw]
    orders: list[tuple[str, list[tuple[str, int]]]]
    requests: list[str]
    sources: list[str] = []
    """Left out if nobody named one, as `occurred` is."""
    occurred: list[int | None] = []

    def __len__(self) -> int:
        return len(self.patches)

    def at(self, place: int) -> StoredChange:
        """Return the change at a place without what the database adds. A report has the index of the value before."""
        patch = _sent_patch_decoder.decode(self.patches[place])
        sent = [*patch.s.values(), *(value for _, _, value, _ in patch.o)]
        actor, order = self.orders[patch.h]
        return StoredChange(
            *(place, patch.c, 0, 1, 0, patch.t, 0, _WRITE, actor, self.requests[place]),
            source=self.sources[place] if self.sources else "",
            reports=[(name, sent[index], index) for name, index in order],
            occurred_at=self.occurred[place] if self.occurred else None,
        )


class _EncodedPatch(_SentHead, gc=False):
    s: dict[str, msgspec.Raw]
    o: list[tuple[str, str, msgspec.Raw, msgspec.Raw]]


class _EncodedSent(msgspec.Struct):
    """The same with what is copied unread still encoded."""

    patches: list[_EncodedPatch]
    orders: list[tuple[str, list[tuple[str, int]]]]
    requests: list[msgspec.Raw]
    sources: list[msgspec.Raw] = []
    occurred: list[int | None] = []


class Step(msgspec.Struct, array_like=True, gc=False):
    """A change of one user, of which an :class:`UnsentChange` was written."""

    cuid: int
    version: int
    changed: int
    at: int
    since: int
    kind: int
    names: str
    befores: msgspec.Raw
    identifiers: list[tuple[str, str]]

    @property
    def is_undo(self) -> bool:
        return self.kind == _UNDO


STEP_BYTES = 150
"""Bytes of memory of an encoded change in a list, in addition to its text."""
_UNDO = _CODES[ChangeKind.UNDO]
_ERASED = _CODES[ChangeKind.ERASED]
_decoder = msgspec.json.Decoder(StoredChange, float_hook=Decimal)
_steps_decoder = msgspec.json.Decoder(list[Step])
_writes_decoder = msgspec.json.Decoder(_Writes)
_row_decoder = msgspec.json.Decoder(_Row, float_hook=Decimal)
_encoded_writes_decoder = msgspec.json.Decoder(_EncodedWrites)
_sent_decoder = msgspec.json.Decoder(_SentWrites)
_sent_patch_decoder = msgspec.json.Decoder(_SentPatch, float_hook=Decimal)
_encoded_sent_decoder = msgspec.json.Decoder(_EncodedSent)
_encoded_decoder = msgspec.json.Decoder(list[EncodedChange | None])
_found_rows_decoder = msgspec.json.Decoder(list[list[msgspec.Raw]])
_before_decoder: msgspec.json.Decoder[list[Any]] = msgspec.json.Decoder(list[Any], float_hook=Decimal)


@dataclass(slots=True)
class HistoryBlock:
    """Changes that are stored together.

    The numbers of its changes are from `block * 1024` up to `last * 1024 + 1023`.
    """

    block: int
    last: int
    """Like `block`, unless it is packed: then the last of the blocks that it was made of."""
    changes: int
    """Number of changes; one for all users that were created together."""
    latest: int
    """The time of its newest change; ms since 1970 UTC."""
    body: bytes
    previous: Mapping[int, int] = field(default_factory=dict, repr=False, compare=False)
    """By place, the number of the user's previous change. Stored by an engine that follows it in the database."""
    befores: Mapping[int, str] | None = field(default=None, repr=False, compare=False)
    """If the database merged these writes: by place, what it found, as the JSON texts `version,updated_at,value before,…`.

    The body then lacks that. Its reports are `[attribute, sent, index of the value before]`. A place that is not here is not
    used.
    """
    writes: _Writes | _SentWrites | None = field(default=None, repr=False, compare=False)
    """The content of the body, from the first use on, unless it has members."""
    members: list[msgspec.Raw] = field(default_factory=list, repr=False, compare=False)
    """The encoded changes of a body that has members, in order. Filled on the first use."""
    columns: PackedChanges | None = field(default=None, repr=False, compare=False)
    """The changes of a packed block, from the first use on."""
    index: tuple[int, int] | None = field(default=None, repr=False, compare=False)
    """A place of a packed block and the index of its change, if the database has looked it up."""

    @property
    def is_packed(self) -> bool:
        return is_packed(self.body)

    @property
    def size(self) -> int:
        """Bytes of the changes of a block that is not packed, before they were compressed."""
        found = sum(map(len, self.befores.values())) if self.befores else 0
        return found + (zstd.get_frame_info(self.body).decompressed_size or 0)

    def contains(self, number: int) -> bool:
        """Return whether a change's number is within the block's."""
        return self.block * PLACES <= number < (self.last + 1) * PLACES

    def change(self, number: int, cuid: int) -> Change | None:
        """Return the user's change with this number; None if it is not there."""
        place = number - self.block * PLACES
        found = self._packed_at(place) if self.is_packed else self._at(place)
        if found is None:
            return None
        stored, reports = found
        if cuid not in stored.cuid if isinstance(stored.cuid, list) else cuid != stored.cuid:
            return None
        return _change(stored, self.block, cuid, reports)

    def all_changes(self) -> Iterator[tuple[Change, list[int]]]:
        """Yield the changes with their users, in the order in which they are stored."""
        for stored in self.stored():
            cuids = stored.cuid if isinstance(stored.cuid, list) else [stored.cuid]
            yield _change(stored, self.block, cuids[0] if cuids else 0, _reports(stored.reports)), cuids

    def stored(self) -> Iterator[StoredChange]:
        """Yield the changes as they are stored, by place."""
        if self.is_packed:
            yield from PackedChanges(self.body)
            return
        text = zstd.decompress(self.body)
        writes = _writes(text)
        found: Iterable[StoredChange]
        if writes is not None:
            found = map(writes.at, range(len(writes)))
        else:
            found = (_decoder.decode(raw) for _, raw in _places(_raw_decoder.decode(text)))
        for each in found:
            stored = self._completed(each)
            if stored is not None:
                yield stored

    def steps_after(self, moment: int) -> tuple[list[tuple[int, bytes]], int]:
        """Return the changes of existing users after `moment` (ms since 1970 UTC), and the bytes of memory that they use.

        They are CUID, and a :class:`Step` encoded for :func:`pack_steps`; those of one user from the newest to the oldest.
        """
        if self.latest <= moment:
            return [], 0
        found = PackedChanges(self.body).without_sent() if self.is_packed else map(_without_sent, _encoded_changes(self, 0))
        steps = [
            (change.cuid, change)
            for change in found
            if change.at > moment and change.kind != _ERASED and isinstance(change.cuid, int)
        ]
        steps.reverse()
        text = _encoder.encode_lines([change for _, change in steps])
        lines = text.splitlines()
        encoded = [(cuid, line) for (cuid, _), line in zip(steps, lines, strict=True)]
        return encoded, len(text) + STEP_BYTES * len(encoded)

    def first_after(self, moment: int) -> int | None:
        """Return the lowest number of its changes after `moment` (ms since 1970 UTC); None if there are none."""
        if self.latest <= moment:
            return None
        return min((self.block * PLACES + stored.place for stored in self.stored() if stored.at > moment), default=None)

    def whole(self) -> HistoryBlock:
        """Return the block with everything in its body."""
        if self.befores is None:
            return self
        return _encoded(self.block, self.last, self.latest, self.stored())

    def _packed_at(self, place: int) -> tuple[StoredChange, Mapping[str, Report]] | None:
        """Return the change at a place of a packed block, and its reports; None if the place is not used."""
        if self.columns is None:
            self.columns = PackedChanges(self.body)
        index = self.index[1] if self.index and self.index[0] == place else self.columns.index_of(place)
        if index is None:
            return None
        reports = PackedReports(self.columns, index)
        return self.columns.at(index, place), reports if self.columns.size <= LATER_BYTES else dict(reports)

    def _at(self, place: int) -> tuple[StoredChange, Mapping[str, Report]] | None:
        """Return the same of a block that is not packed."""
        stored = self._stored_at(place)
        return None if stored is None else (stored, _reports(stored.reports))

    def _stored_at(self, place: int) -> StoredChange | None:
        if self.writes is None and not self.members:
            text = zstd.decompress(self.body)
            self.writes = _writes(text)
            if self.writes is None:
                self.members = _raw_decoder.decode(text)
        if self.writes is not None:
            return self._completed(self.writes.at(place)) if place < len(self.writes) else None
        raw = self.members[place] if place < len(self.members) else None
        if raw is None or not bytes(raw).startswith(b"[%d," % place):
            # Places that are not used are left out, or null.
            raw = next((raw for at, raw in _places(self.members) if at == place), None)
        return None if raw is None else self._completed(_decoder.decode(raw))

    def _completed(self, stored: StoredChange) -> StoredChange | None:
        """Return a change of the body with what the database found; None if its place is not used."""
        if self.befores is None:
            return stored
        before = self.befores.get(stored.place)
        if before is None:
            return None
        version, stored.since, *values = _before_decoder.decode(f"[{before}]")
        stored.version, stored.changed = version + 1, 1
        previous = self.previous[stored.place]
        stored.back = self.block * PLACES + stored.place - previous if previous else 0
        stored.reports = [(name, sent, values[index]) for name, sent, index in stored.reports]
        return stored


def _writes(text: bytes) -> _Writes | _SentWrites | None:
    """Return the content of a body that was decompressed; None if it has members."""
    if _is_sent(text):
        return _sent_decoder.decode(text)
    return _writes_decoder.decode(text) if _is_shared(text) else None


def _is_sent(text: bytes) -> bool:
    """Return whether a body that was decompressed is one of :class:`_SentWrites`."""
    return text.startswith(b"{")


def _is_shared(text: bytes) -> bool:
    """Return whether it is one of :class:`_Writes`. A member begins with a number."""
    return text.startswith(b"[[[")


def _without_sent(change: EncodedChange) -> UnsentChange:
    c = change
    names, befores = ",".join([name for name, _, _ in c.reports]), [before for _, _, before in c.reports]
    return UnsentChange(c.cuid, c.version, c.changed, c.at, c.since, c.kind, names, befores, c.identifiers)


def pack_steps(steps: Iterable[bytes]) -> bytes:
    """Return encoded changes, which may be of different blocks, as a compressed JSON array."""
    return compress(b"[" + b",".join(steps) + b"]")


def unpack_steps(packed: bytes) -> list[Step]:
    """The inverse of :func:`pack_steps`."""
    return _steps_decoder.decode(zstd.decompress(packed))


@dataclass(frozen=True, slots=True)
class HistoryFigures:
    """How much history is stored."""

    blocks: int
    changes: int
    """Number of changes; one for all users that were created together."""
    bytes: int
    """Bytes of the blocks' bodies, of what an engine stores beside them, and of keyframes."""
    oldest: int | None
    """The time of the newest change of the oldest block, in ms since 1970 UTC; None without changes."""
    newest: int | None
    """The time of the newest change."""


@dataclass(frozen=True, slots=True)
class HistoryGrowth:
    """How much history was added since a moment."""

    changes: int
    bytes: int


@dataclass(frozen=True, slots=True)
class PrunedHistory:
    """What was removed from the old end of history."""

    blocks: int = 0
    changes: int = 0
    bytes: int = 0

    @classmethod
    def of(cls, removed: Sequence[BlockSize], keyframe_bytes: int) -> PrunedHistory:
        size = keyframe_bytes + sum(size.bytes for size in removed)
        return cls(len(removed), sum(size.changes for size in removed), size)

    def __add__(self, other: PrunedHistory) -> PrunedHistory:
        return PrunedHistory(self.blocks + other.blocks, self.changes + other.changes, self.bytes + other.bytes)


@dataclass(frozen=True, slots=True)
class PackedHistory:
    """What was packed to one block."""

    blocks: int = 0
    latest: int = 0
    """Time of the newest change, in ms since 1970 UTC."""
    is_busy: bool = False
    """Others change the project's blocks just now, so nothing was packed."""

    @classmethod
    def of(cls, blocks: Sequence[HistoryBlock]) -> PackedHistory:
        return cls(len(blocks), max((block.latest for block in blocks), default=0))


@dataclass(frozen=True, slots=True)
class BlockSize:
    """A block without its changes."""

    block: int
    changes: int
    latest: int
    bytes: int

    @classmethod
    def of(cls, block: HistoryBlock) -> BlockSize:
        return cls(block.block, block.changes, block.latest, len(block.body))


PRUNED_BLOCKS = 64
"""Maximum number of blocks that are removed in one transaction."""
EXAMINED_BLOCKS = 256
"""Number of the oldest blocks that are looked at for it. They are hardly ever out of order in time: if a clock was wrong."""
EXAMINED_AHEAD = 65_536
"""The same if all of them are of the future, which says nothing of their age: the clock of a server was ahead."""

LAST_BLOCKS = 1000
"""Number of the newest blocks among which the newest change is looked for."""


def examined(
    read: Callable[[int], Sequence[T]], latest: Callable[[T], int], before: int | None, excess: int, now: int
) -> tuple[Sequence[T], bool]:
    """Return the oldest blocks, as many as :func:`to_prune` needs with the same arguments, and whether there may be more.

    Args:
        read: returns up to a number of the oldest blocks.
        latest: returns the time of a block's newest change.
    """
    limit = EXAMINED_BLOCKS
    by_age = before is not None and excess <= 0
    while len(found := read(limit)) == limit < EXAMINED_AHEAD and by_age and all(latest(block) > now for block in found):
        limit *= 16
    return found, len(found) == limit


def to_prune(oldest: Sequence[BlockSize], before: int | None, excess: int, now: int) -> list[BlockSize]:
    """Return the blocks to remove of the oldest ones: those before a moment, and those in excess.

    None is kept before one that is removed: no change would lead to its changes any more, and erasing a user would not find
    them. So none is removed for its age after one that is to be kept, however old it claims to be: its clock was behind. A
    block of the future does not keep those after it: its clock was ahead.

    Args:
        oldest: in the order of their numbers.
        before: blocks whose newest change is before this moment (ms since 1970 UTC) are removed; None for all blocks.
        excess: bytes that are too many. The oldest blocks are removed until it is met.
        now: ms since 1970 UTC.
    """
    count = 0
    for index, size in enumerate(oldest, start=1):
        if before is None or size.latest < before or excess > 0:
            count = index
            excess -= size.bytes
        elif size.latest <= now:
            break
    return list(oldest[: min(count, PRUNED_BLOCKS)])


def kept_since(removed: Sequence[BlockSize], before: int, excess: int, now: int) -> int:
    """Return since when all changes are kept, after blocks were removed with these arguments of :func:`to_prune`."""
    if excess <= 0:
        return min(before, max(size.latest for size in removed) + 1)
    # A time of the future says nothing of when the block was written.
    return max((size.latest for size in removed if size.latest <= now), default=-1) + 1


def _places(members: Iterable[msgspec.Raw]) -> Iterator[tuple[int, msgspec.Raw]]:
    for raw in members:
        text = bytes(raw)
        if text != b"null":
            yield int(text[1 : text.index(b",")]), raw


LATER_BYTES = 256 * 1024
"""Bytes of a packed block, decompressed, up to which reports are read on use: whoever has not used them keeps the block."""


class PackedReports(Mapping[str, Report]):
    """The reports of a change of a packed block, which are read on the first use of one."""

    __slots__ = ("_columns", "_index", "_names", "_read")

    def __init__(self, columns: PackedChanges, index: int) -> None:
        self._columns: PackedChanges | None = columns
        self._index = index
        self._names = columns.names_at(index)
        self._read: dict[str, Report] = {}

    def _all(self) -> dict[str, Report]:
        if self._columns is not None:
            self._read = _reports(self._columns.reports_at(self._index))
            self._columns = None
        return self._read

    def __getitem__(self, name: str) -> Report:
        return self._all()[name]

    def items(self) -> ItemsView[str, Report]:
        return self._all().items()

    def values(self) -> ValuesView[Report]:
        return self._all().values()

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _reports(stored: Iterable[tuple[str, Any, Any]]) -> dict[str, Report]:
    return {name: _report(sent, before) for name, sent, before in stored}


def _change(stored: StoredChange, block: int, cuid: int, reports: Mapping[str, Report]) -> Change:
    number = block * PLACES + stored.place
    return Change(
        number,
        cuid,
        stored.version,
        bool(stored.changed),
        number - stored.back if stored.back else 0,
        stored.at,
        stored.since,
        _KINDS[stored.kind],
        Origin(stored.actor, stored.source, stored.occurred_at),
        stored.request,
        reports,
        list(stored.identifiers),
    )


def _report(sent: Any, before: Any) -> Report:
    """Return a report. Whether `before` is a number of elements depends on the rule, so both readings are there."""
    value = ABSENT if before is None else before
    report = Report(ABSENT if sent is None else sent, value)
    if isinstance(before, int) and isinstance(sent, list):
        report.before, report.elements = ABSENT, before
    elif isinstance(before, list) and len(before) == 2 and isinstance(before[0], int):
        report.before, report.elements, report.added = ABSENT, before[0], before[1]
    return report


def walk(find: Callable[[int], HistoryBlock | None], cuid: int, head: int) -> Iterator[Change]:
    """Yield a user's changes, newest first, as far as they are kept.

    Args:
        find: returns the block that contains a number.
        head: the number of the newest change; 0 for none.
    """
    number, block = head, None
    while number:
        if block is None or not block.contains(number):
            block = find(number)
        change = None if block is None else block.change(number, cuid)
        if change is None:
            return
        yield change
        number = change.previous


def _restored(change: UserChange) -> tuple[list[str], list[object]]:
    """Return the attributes of a change that restored values, and for each what is stored."""
    before = change.decision.before.attributes
    entries = [(a.name, sent) for a, sent in change.decision.patch.entries if a.history_since is not None]
    values = [(None if sent is ABSENT else sent, before.get(name)) for name, sent in entries]
    return [name for name, _ in entries], list(itertools.chain.from_iterable(values))


def blocks_needed(mutation: Mutation) -> int:
    """Return the number of blocks in which a mutation is recorded."""
    recorded = sum([change.origin is not None for change in mutation.changes])
    others = 0 if mutation.origin is None else bool(mutation.created) + len(mutation.erased)
    return others + -(-recorded // PLACES)


def report_bytes(name: str, report: Report) -> int:
    """Return about how many bytes a report takes in a block, before compression."""
    sent, before = (None if value is ABSENT else value for value in (report.sent, report.before))
    return len(_encoder.encode((name, sent, (report.elements, report.added) if before is None else before)))


def blocks_of(mutation: Mutation, numbers: Iterator[int]) -> list[HistoryBlock]:
    """Return what is to be recorded of a mutation, in blocks with the next `numbers`.

    Each changed user's row gets the number of its newest change, and an answer that of its change. If users are created, the
    first block is theirs.
    """
    blocks: list[HistoryBlock] = []
    origin, at = mutation.origin, mutation.created_at
    if origin is not None:
        if mutation.created:
            blocks.append(
                encode_created([cuid for cuid, _, _ in mutation.created], at, origin, mutation.request, next(numbers))
            )
        blocks += [encode_erased(cuid, at, origin, mutation.request, next(numbers)) for cuid in mutation.erased]
    return blocks + encode_changes([change for change in mutation.changes if change.origin is not None], numbers)


def head_of_created(blocks: Sequence[HistoryBlock], mutation: Mutation) -> tuple[int, str]:
    """Return the number of the newest change of created users, and their actor as their rows have it."""
    if mutation.origin is None or not mutation.created:
        return 0, ""
    return blocks[0].block * PLACES, actor_in_row(mutation.origin.actor)


def encode_changes(changes: Sequence[UserChange], numbers: Iterator[int]) -> list[HistoryBlock]:
    """Return blocks of recorded changes, with the next `numbers`.

    Each user's row gets the number of its newest change.
    """
    return [_block(changes[start : start + PLACES], next(numbers)) for start in range(0, len(changes), PLACES)]


def _block(changes: Sequence[UserChange], block: int) -> HistoryBlock:
    # It is done for every write, so it has few calls, and none for an attribute but to look its value up.
    shared: dict[tuple[object, ...], int] = {}
    rows: list[tuple[object, ...]] = []
    previous: dict[int, int] = {}
    last: object = None
    index = latest = 0
    for place, change in enumerate(changes):
        origin, decision = change.origin, change.decision
        assert origin is not None
        before, after, patch = decision.before, decision.profile, decision.patch
        at, changed = after.updated_at, 1
        if after is before:
            at, changed = max(change.at, at), 0
        if at > latest:
            latest = at
        number = block * PLACES + place
        previous[place] = head = before.head
        names: list[str] = []
        values: list[object] = []
        if type(patch) is Restoration:
            names, values = _restored(change)
        else:
            find = before.attributes.get
            stored_after: Mapping[str, Any] = after.attributes
            sent: Any
            for attribute, sent in patch.entries:
                if attribute.history_since is not None:
                    name = attribute.name
                    stored: Any = find(name)
                    if attribute.rule is _APPEND and stored is not None:
                        count, elements = len(stored), stored_after[name]
                        stored = count if len(elements) - count == len(sent) else (count, elements[count:])
                    names.append(name)
                    values.append(sent)
                    values.append(stored)
        common = (origin, change.kind, changed, names)
        if common != last:
            # Most often one program has sent them all.
            last = common
            found = (_CODES[change.kind], changed, origin.actor, origin.source, origin.occurred_at, tuple(names))
            index = shared.setdefault(found, len(shared))
        row: tuple[object, ...] = (
            index,
            change.cuid,
            after.version,
            number - head if head else 0,
            at,
            before.updated_at,
            change.request,
            values,
        )
        rows.append((*row, change.identifiers) if change.identifiers else row)
        after.head = number
        if change.results:
            for result in change.results:
                result.change = number
    body = compress(_encoder.encode((list(shared), rows)))
    return HistoryBlock(block, block, len(rows), latest, body, previous)


def encode_merged(writes: Sequence[Write], encoded: EncodedPatches) -> bytes:
    """Return the body of a block of writes that the database merges, see :class:`_SentWrites`.

    Args:
        encoded: the writes, as they are sent to the database.
    """
    if not encoded.whole_history:
        encoded = encode_patches([_recorded_part(write) for write in writes])
    origins = [origin for write in writes if (origin := write.origin) is not None]
    parts = [b'{"patches":', encoded.patches, b',"orders":', _encoder.encode(encoded.orders)]
    parts += [b',"requests":', _encoder.encode([write.request for write in writes if write.origin is not None])]
    sources = [origin.source for origin in origins]
    if any(sources):
        parts += [b',"sources":', _encoder.encode(sources)]
    occurred = [origin.occurred_at for origin in origins]
    if occurred.count(None) < len(occurred):
        parts += [b',"occurred":', _encoder.encode(occurred)]
    parts.append(b"}")
    return compress(b"".join(parts))


def _recorded_part(write: Write) -> Write:
    """Return the write without attributes whose history is off."""
    assert type(write.patch) is Patch
    return replace(write, patch=Patch([entry for entry in write.patch.entries if entry[0].history_since is not None]))


def encode_created(cuids: Sequence[int], at: int, origin: Origin, request: str, block: int) -> HistoryBlock:
    """Return a block with one change for users that were created together. Its number is `block * 1024`."""
    member = (0, cuids, 1, 1, 0, at, 0, _CODES[ChangeKind.CREATED], origin.actor, request, origin.source)
    return HistoryBlock(block, block, 1, at, compress(_encoder.encode([member])))


def encode_erased(cuid: int, at: int, origin: Origin, request: str, block: int) -> HistoryBlock:
    """Return a block that says that a user was erased."""
    member = (0, cuid, 0, 0, 0, at, 0, _CODES[ChangeKind.ERASED], origin.actor, request, origin.source)
    return HistoryBlock(block, block, 1, at, compress(_encoder.encode([member])))


def _trimmed(member: tuple[object, ...]) -> tuple[object, ...]:
    if member[-1] is None:
        return member[:-1] if member[-2] else member[:-2]
    return member


class _Compressors(threading.local):
    """A compressor for each thread: to create one for each block would cost five times as much as to compress it."""

    def __init__(self) -> None:
        parameter = zstd.CompressionParameter
        options: dict[int, int] = {parameter.compression_level: WRITE_LEVEL, parameter.hash_log: 12, parameter.min_match: 6}
        self.of_writes = zstd.ZstdCompressor(options=options)


_compressors = _Compressors()


def compress(content: bytes) -> bytes:
    """Return the body of a block that a write waits for."""
    compressor = _compressors.of_writes
    compressed: bytes = compressor.compress(content, compressor.FLUSH_FRAME)
    return compressed


def without_user(block: HistoryBlock, cuid: int) -> HistoryBlock:
    """Return the block without the values of a user.

    The changes themselves stay, with their numbers and times, so that a reader of the feed does not lose its place.
    """
    changes = [_blanked(stored) if stored.cuid == cuid else stored for stored in block.stored()]
    if block.is_packed:
        return HistoryBlock(block.block, block.last, block.changes, block.latest, pack(changes))
    return _encoded(block.block, block.last, block.latest, changes)


def _blanked(stored: StoredChange) -> StoredChange:
    """Return the change of an erased user: its number and time, and who it was."""
    kind = _CODES[ChangeKind.ERASED]
    return StoredChange(stored.place, stored.cuid, stored.version, stored.changed, stored.back, stored.at, 0, kind, "")


PACKED_CHANGES = 512
"""Number of changes from which a packed block is full. With 256, 512 and 1024, a change of the benchmarks takes 32, 28 and
27 bytes of SQLite's file, and reading one of them takes 0.15, 0.2 and 0.4 ms."""
PACKED_FROM = 4096
"""Maximum number of blocks that are looked at for those that are packed next."""
PACKED_BYTES = 4 * 2**20
"""Bytes of changes, not compressed, from which a packed block is full. Whoever reads one change decompresses all of them."""


def to_pack(blocks: Iterable[HistoryBlock], before: int) -> list[HistoryBlock]:
    """Return the first blocks that can be packed to one, of blocks in the order of their numbers; none if they are too few.

    They have enough changes, or all changes of a day: what is removed for its age is whole blocks. A large one is packed
    alone.

    Args:
        before: all their changes are before this moment (ms since 1970 UTC). Those of more than a day later do not keep the
            rest from being packed: the clock was ahead.
    """
    group: list[HistoryBlock] = []
    changes = size = 0
    for block in itertools.islice(blocks, PACKED_FROM):
        if not block.is_packed and before <= block.latest < before + DAY_MS:
            return []
        if group and (block.is_packed or abs(block.latest - group[0].latest) >= DAY_MS):
            # One that the database merged may have what was sent in writes that were not done.
            if len(group) > 1 or group[0].befores is not None:
                return group
            group, changes, size = [], 0, 0
        if not block.is_packed:
            group.append(block)
            changes += block.changes
            size += block.size
            if changes >= PACKED_CHANGES or len(group) == PACKED_CHANGES or size >= PACKED_BYTES:
                return group
    return []


def pack_blocks(blocks: Sequence[HistoryBlock]) -> HistoryBlock:
    """Return one packed block with the changes of several ones, which are in the order of their numbers."""
    first = blocks[0].block
    body = pack_encoded(_encoded_changes(block, (block.block - first) * PLACES) for block in blocks)
    changes, latest = sum(block.changes for block in blocks), max(block.latest for block in blocks)
    return HistoryBlock(first, blocks[-1].last, changes, latest, body)


def _encoded_changes(block: HistoryBlock, offset: int) -> list[EncodedChange]:
    """Return the changes of a block that is not packed, with their places in one that begins so many places before it."""
    text = zstd.decompress(block.body)
    if block.befores is not None:
        changes = list(_merged_changes(text, block.befores, block.previous, block.block * PLACES))
    elif _is_shared(text):
        changes = list(_encoded_writes_decoder.decode(text).changes())
    else:
        changes = [change for change in _encoded_decoder.decode(text) if change is not None]
    for change in changes:
        change.place += offset
    return changes


def _merged_changes(
    text: bytes, befores: Mapping[int, str], previous: Mapping[int, int], first: int
) -> Iterator[EncodedChange]:
    """Yield the changes of writes that the database merged, with what it found.

    Args:
        text: the body that lacks that, decompressed.
        first: the number of the change at the first place.
    """
    rows = _found_rows_decoder.decode(f"[{','.join([f'[{before}]' for before in befores.values()])}]")
    if not _is_sent(text):
        changes = {change.place: change for change in _encoded_decoder.decode(text) if change is not None}
        for place, row in zip(befores, rows, strict=True):
            change, before = changes[place], previous[place]
            change.version, change.since, change.changed = int(bytes(row[0])) + 1, int(bytes(row[1])), 1
            change.back = first + place - before if before else 0
            change.reports = [(name, value, row[int(bytes(index)) + 2]) for name, value, index in change.reports]
            yield change
        return
    sent = _encoded_sent_decoder.decode(text)
    orders = [(msgspec.Raw(_encoder.encode(actor)), order) for actor, order in sent.orders]
    for place, row in zip(befores, rows, strict=True):
        patch, before = sent.patches[place], previous[place]
        actor, order = orders[patch.h]
        values = [*patch.s.values(), *[value for _, _, value, _ in patch.o]]
        yield EncodedChange(
            place,
            patch.c,
            int(bytes(row[0])) + 1,
            1,
            first + place - before if before else 0,
            patch.t,
            int(bytes(row[1])),
            _WRITE,
            actor,
            sent.requests[place],
            sent.sources[place] if sent.sources else NO_TEXT,
            [(name, values[index], row[index + 2]) for name, index in order],
            occurred_at=sent.occurred[place] if sent.occurred else None,
        )


def unpack_block(packed: HistoryBlock) -> list[HistoryBlock]:
    """The inverse of :func:`pack_blocks`."""
    blocks: list[HistoryBlock] = []
    for index, group in itertools.groupby(packed.stored(), lambda stored: stored.place // PLACES):
        changes = list(group)
        for stored in changes:
            stored.place %= PLACES
        number = packed.block + index
        blocks.append(_encoded(number, number, max(stored.at for stored in changes), changes))
    return blocks


def _encoded(block: int, last: int, latest: int, changes: Iterable[StoredChange]) -> HistoryBlock:
    """Return a block, not packed, with these changes."""
    members = [_trimmed(msgspec.structs.astuple(stored)) for stored in changes]
    return HistoryBlock(block, last, len(members), latest, compress(_encoder.encode(members)))
