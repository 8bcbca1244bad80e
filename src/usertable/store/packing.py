"""Packed blocks of history: the changes of many blocks, column by column.

A body that is packed begins with :data:`MAGIC`, the length of the head, and the head:

    [[["age", "city"], []], [["place", ["differences", 0, 1, 5], 3, 3], …], [[2, [10000001, 10000002]]]]

These are the lists of attributes that changes have; the columns, each with its form (see :mod:`usertable.store.columns`),
the number of its values and of its bytes; and changes of several users: index and CUIDs. Then follow the columns in one zstd
frame: a frame of its own for each would take 9 µs to open. Each begins a block of the frame, so it has its own statistics.

Changes are in the order of their numbers, not of their users. A packed block has some hundreds of changes, of possibly
millions of users: few of them occur twice, while numbers, times and request IDs ascend, and then take next to nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import repeat
from typing import Any

import msgspec

from usertable.store.columns import Column, Form, encode
from usertable.zstandard import zstd

MAGIC = b"\x01"
"""The first byte of a packed body. One that is not packed begins as a zstd frame, with 0x28."""
LEVEL = 9
"""zstd level."""
MINIMUM_VALUES = 16
"""Number of values from which an attribute has columns of its own. Rarer ones share a column."""
_LENGTH_BYTES = 4


class StoredChange(msgspec.Struct, array_like=True):
    """A change as it is stored; see :mod:`usertable.store.history`."""

    place: int
    cuid: int | list[int]
    version: int
    changed: int
    back: int
    at: int
    since: int
    kind: int
    actor: str
    request: str = ""
    source: str = ""
    reports: list[tuple[str, Any, Any]] = []
    identifiers: list[tuple[str, str]] = []
    occurred_at: int | None = None


class _Head(msgspec.Struct, array_like=True):
    shapes: list[list[str]]
    columns: list[tuple[str, Form, int, int]]
    groups: list[tuple[int, list[int]]]


_encoder = msgspec.json.Encoder(decimal_format="number")
_decoder = msgspec.json.Decoder(_Head, float_hook=Decimal)
_SINGLE = ("version", "changed", "back", "kind", "actor", "request", "source", "occurred_at")
"""Fields that are stored as they are."""


def is_packed(body: bytes) -> bool:
    """Return whether a block's body is packed."""
    return body.startswith(MAGIC)


def pack(changes: Sequence[StoredChange], level: int = LEVEL) -> bytes:
    """Return the body of a packed block with these changes, which are in the order of their places."""
    shapes: dict[tuple[str, ...], int] = {}
    cuids: list[int] = []
    groups: list[tuple[int, list[int]]] = []
    counts: Counter[str] = Counter()
    shape_of: list[int] = []
    for index, change in enumerate(changes):
        shape = tuple([name for name, _, _ in change.reports])
        shape_of.append(shapes.setdefault(shape, len(shapes)))
        counts.update(shape)
        users = [change.cuid] if isinstance(change.cuid, int) else change.cuid
        cuids.append(users[0] if users else 0)
        if len(users) != 1:
            groups.append((index, users))
    columns: list[tuple[str, Sequence[Any]]] = [
        ("place", [change.place for change in changes]),
        ("at", [change.at for change in changes]),
        ("cuid", cuids),
        ("is_list", [int(isinstance(change.cuid, list)) for change in changes]),
        ("age", [change.at - change.since for change in changes]),
        ("shape", shape_of),
        *((name, [getattr(change, name) for change in changes]) for name in _SINGLE),
    ]
    frequent = {name for name, count in counts.items() if count >= MINIMUM_VALUES}
    sent: dict[str, list[Any]] = {name: [] for name in frequent}
    before: dict[str, list[Any]] = {name: [] for name in frequent}
    rare: list[list[tuple[str, Any, Any]]] = []
    for change in changes:
        rare.append([])
        for report in change.reports:
            name = report[0]
            if name in frequent:
                sent[name].append(report[1])
                before[name].append(report[2])
            else:
                rare[-1].append(report)
    columns += [("identifiers", [change.identifiers for change in changes]), ("rare", rare)]
    for name in sorted(frequent):
        columns += [(f"sent {name}", sent[name]), (f"before {name}", before[name])]
    frame = zstd.ZstdCompressor(level)
    parts: list[bytes] = []
    listed: list[tuple[str, Form, int, int]] = []
    for name, values in columns:
        form, content = encode(values, ascending=name in ("place", "at"))
        parts.append(frame.compress(content, frame.FLUSH_BLOCK))
        listed.append((name, form, len(values), len(content)))
    head = zstd.compress(_encoder.encode(_Head([list(shape) for shape in shapes], listed, groups)), level)
    return b"".join([MAGIC, len(head).to_bytes(_LENGTH_BYTES, "little"), head, *parts, frame.flush()])


_Shape = list[tuple[str, Column | None, Column | None]]
"""The attributes of a change, in order, each with its columns if it has any."""


class PackedChanges:
    """The changes of a packed body."""

    def __init__(self, body: bytes) -> None:
        view = memoryview(body)
        start = len(MAGIC) + _LENGTH_BYTES
        end = start + int.from_bytes(view[len(MAGIC) : start], "little")
        head = _decoder.decode(zstd.decompress(view[start:end]))
        self._groups = dict(head.groups)
        self._columns: dict[str, Column] = {}
        content, start = zstd.decompress(view[end:]), 0
        for name, form, count, length in head.columns:
            self._columns[name] = Column(form, content[start : start + length], count)
            start += length
        columns = self._columns
        self._fields = [columns[name] for name in ("place", "at", "cuid", "is_list", "age", "identifiers", *_SINGLE)]
        self._shapes: list[_Shape] = [
            [(name, columns.get(f"sent {name}"), columns.get(f"before {name}")) for name in shape] for shape in head.shapes
        ]

    def at(self, place: int) -> StoredChange | None:
        """Return the change at a place; None if there is none."""
        places = self._columns["place"]
        index = bisect_left(range(places.count), place, key=places.at)
        if index == places.count or places.at(index) != place:
            return None
        shape = self._shape(index)
        return self._change(index, shape, [self._index_of(name, index) for name, _, _ in shape])

    def __iter__(self) -> Iterator[StoredChange]:
        """Yield all changes, by place."""
        indexes = dict.fromkeys((name for shape in self._shapes for name, _, _ in shape), 0)
        for index in range(self._columns["place"].count):
            shape = self._shape(index)
            yield self._change(index, shape, [indexes[name] for name, _, _ in shape])
            for name, _, _ in shape:
                indexes[name] += 1

    def without_sent(self) -> Iterator[tuple[Any, ...]]:
        """Yield all changes, by place, as tuples that are written like them, without what was sent, by whom, and `back`.

        Columns of what is left out are not decoded.
        """
        names = ("place", "cuid", "version", "changed", "at", "age", "kind", "is_list", "shape", "identifiers", "rare")
        fields = zip(*(self._columns[name].all() for name in names), strict=True)
        columns = {name: before for shape in self._shapes for name, _, before in shape}
        befores = {
            name: zip(repeat(name), repeat(None), before.all(), strict=False)
            for name, before in columns.items()
            if before is not None
        }
        shapes = [[befores.get(name) for name, _, _ in shape] for shape in self._shapes]
        for place, cuid, version, changed, at, age, kind, is_list, shape, identifiers, rare in fields:
            rarely = iter(rare)
            reports = [(*next(rarely),) if of is None else next(of) for of in shapes[shape]]
            users = [cuid] if is_list else cuid
            yield place, users, version, changed, 0, at, at - age, kind, "", "", "", reports, identifiers

    def _shape(self, index: int) -> _Shape:
        return self._shapes[self._columns["shape"].at(index)]

    def _index_of(self, name: str, index: int) -> int:
        """Return the number of changes before an index in which an attribute was sent."""
        having = {number for number, shape in enumerate(self._shapes) if any(name == other for other, _, _ in shape)}
        if len(having) == len(self._shapes):
            return index
        shape = self._columns["shape"]
        return sum(shape.at(other) in having for other in range(index))

    def _change(self, index: int, shape: _Shape, indexes: Sequence[int]) -> StoredChange:
        """Return a change.

        Args:
            indexes: of each attribute that was sent, its index in the attribute's columns.
        """
        rare = iter(self._columns["rare"].at(index))
        reports: list[tuple[str, Any, Any]] = []
        for (name, sent, before), place in zip(shape, indexes, strict=True):
            if sent is None or before is None:
                reports.append(tuple(next(rare)))
            else:
                reports.append((name, sent.at(place), before.at(place)))
        place, at, cuid, is_list, age, identifiers, *single = [column.at(index) for column in self._fields]
        if is_list:
            cuid = self._groups.get(index, [cuid])
        version, changed, back, kind, actor, request, source, occurred_at = single
        pairs = [(name, value) for name, value in identifiers]
        return StoredChange(
            *(place, cuid, version, changed, back, at, at - age, kind, actor, request, source, reports, pairs, occurred_at)
        )
