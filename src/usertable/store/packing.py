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

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import chain, repeat
from operator import sub
from typing import Any

import msgspec

from usertable.store.columns import Column, Form, encode_lines, encode_numbers
from usertable.zstandard import zstd

MAGIC = b"\x01"
"""The first byte of a packed body. One that is not packed begins as a zstd frame, with 0x28."""
LEVEL = 3
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


EncodedReport = tuple[str, msgspec.Raw, msgspec.Raw]
NOTHING = msgspec.Raw(b"[]")
NO_TEXT = msgspec.Raw(b'""')


class EncodedChange(msgspec.Struct, array_like=True, gc=False):
    """The same with what is copied unread still encoded."""

    place: int
    cuid: int | list[int]
    version: int
    changed: int
    back: int
    at: int
    since: int
    kind: int
    actor: msgspec.Raw
    request: msgspec.Raw = NO_TEXT
    source: msgspec.Raw = NO_TEXT
    reports: list[EncodedReport] = []
    identifiers: msgspec.Raw = NOTHING
    occurred_at: int | None = None


class UnsentChange(msgspec.Struct, array_like=True, gc=False):
    """A change without what was sent, and by whom."""

    cuid: int | list[int]
    version: int
    changed: int
    at: int
    since: int
    kind: int
    names: str
    """The attributes that were sent, joined by commas."""
    befores: Sequence[Any]
    """Their values before."""
    identifiers: Any


class _Head(msgspec.Struct, array_like=True):
    shapes: list[list[str]]
    columns: list[Column]
    groups: list[tuple[int, list[int]]]


_encoder = msgspec.json.Encoder(decimal_format="number")
_decoder = msgspec.json.Decoder(_Head, float_hook=Decimal)
_encoded_decoder = msgspec.json.Decoder(list[EncodedChange])
_FIELDS = EncodedChange.__struct_fields__
_ASCENDING = ("place", "at")
_TEXTS = ("actor", "request", "source", "identifiers")
_SINGLE = ("version", "changed", "back", "kind", "actor", "request", "source", "occurred_at")
"""Fields that are stored as they are."""
_COLUMNS = ("place", "at", "cuid", "is_list", "age", "shape", *_SINGLE, "identifiers")
_READ = ("at", "cuid", "is_list", "age", "identifiers", *_SINGLE)
"""Columns that each change is read from, in addition to its place and those of its reports."""


def is_packed(body: bytes) -> bool:
    """Return whether a block's body is packed."""
    return body.startswith(MAGIC)


def pack(changes: Sequence[StoredChange]) -> bytes:
    """Return the body of a packed block with these changes, which are in the order of their places."""
    return pack_encoded([_encoded_decoder.decode(_encoder.encode(changes))])


def pack_encoded(parts: Iterable[Sequence[EncodedChange]]) -> bytes:
    """Return the same of changes whose values are still encoded.

    Args:
        parts: some changes at a time. Each part is taken apart while the processor still has it in its cache.
    """
    fields: dict[str, list[Any]] = {name: [] for name in _FIELDS}
    reports = _Reports()
    for part in parts:
        for name, values in zip(_FIELDS, zip(*map(msgspec.structs.astuple, part), strict=True), strict=False):
            if name == "reports":
                reports.add(values)
            elif name in _TEXTS:
                fields[name].append(b"\n".join(values))
            else:
                fields[name] += values
    count = len(fields["place"])
    groups: list[tuple[int, list[int]]] = []
    fields["is_list"] = [0] * count
    if list in set(map(type, fields["cuid"])):
        fields["is_list"] = [int(isinstance(cuid, list)) for cuid in fields["cuid"]]
        users = [[cuid] if isinstance(cuid, int) else cuid for cuid in fields["cuid"]]
        groups = [(index, cuids) for index, cuids in enumerate(users) if len(cuids) != 1]
        fields["cuid"] = [cuids[0] if cuids else 0 for cuids in users]
    fields["age"] = list(map(sub, fields["at"], fields["since"]))
    fields["shape"] = reports.shape_of
    listed: list[tuple[str, Form, int, int]] = []
    contents: list[bytes] = []
    for name in _COLUMNS:
        if name in _TEXTS:
            form, content = encode_lines(b"\n".join(fields[name]), count)
        else:
            form, content = encode_numbers(fields[name], ascending=name in _ASCENDING)
        listed.append((name, form, count, len(content)))
        contents.append(content)
    for name, lines, length in reports.columns():
        form, content = encode_lines(lines, length)
        listed.append((name, form, length, len(content)))
        contents.append(content)
    head = zstd.compress(_encoder.encode((list(reports.shapes), listed, groups)), LEVEL)
    frame = zstd.ZstdCompressor(LEVEL)
    # Its tables are then no larger than that.
    frame.set_pledged_input_size(sum(map(len, contents)))
    compressed = [frame.compress(content, frame.FLUSH_BLOCK) for content in contents if content]
    return b"".join([MAGIC, len(head).to_bytes(_LENGTH_BYTES, "little"), head, *compressed, frame.flush()])


class _Reports:
    """What changes report of each attribute, as columns of lines of JSON."""

    def __init__(self) -> None:
        self.shapes: dict[tuple[str, ...], int] = {}
        """The lists of attributes that changes have, with their numbers."""
        self.shape_of: list[int] = []
        self._counts: Counter[str] = Counter()
        self._sent: defaultdict[str, list[bytes]] = defaultdict(list)
        self._before: defaultdict[str, list[bytes]] = defaultdict(list)

    def add(self, of_changes: Sequence[list[EncodedReport]]) -> None:
        """Add the reports of some changes."""
        for name, sent, before in self._by_attribute(of_changes):
            self._counts[name] += len(sent)
            self._sent[name].append(b"\n".join(sent))
            self._before[name].append(b"\n".join(before))

    def _by_attribute(
        self, of_changes: Sequence[list[EncodedReport]]
    ) -> Iterable[tuple[str, Sequence[msgspec.Raw], Sequence[msgspec.Raw]]]:
        count, width = len(of_changes), len(of_changes[0])
        if width and set(map(len, of_changes)) == {width}:
            names, sent, before = zip(*chain.from_iterable(of_changes), strict=True)
            if names == names[:width] * count:
                # Most often one program has sent them all. This takes a third of the time.
                self.shape_of += [self.shapes.setdefault(names[:width], len(self.shapes))] * count
                return [(names[start], sent[start::width], before[start::width]) for start in range(width)]
        found: defaultdict[str, tuple[list[msgspec.Raw], list[msgspec.Raw]]] = defaultdict(lambda: ([], []))
        for reports in of_changes:
            shape = tuple([name for name, _, _ in reports])
            self.shape_of.append(self.shapes.setdefault(shape, len(self.shapes)))
            for name, value, stood in reports:
                values = found[name]
                values[0].append(value)
                values[1].append(stood)
        return [(name, sent, before) for name, (sent, before) in found.items()]

    def columns(self) -> Iterator[tuple[str, bytes, int]]:
        """Yield the columns: name, lines, and their number. Rare attributes share one."""
        rare = {name for name, count in self._counts.items() if count < MINIMUM_VALUES}
        yield "rare", b"\n".join(self._rare(rare) if rare else repeat(b"[]", len(self.shape_of))), len(self.shape_of)
        for name in sorted(self._counts.keys() - rare):
            yield f"sent {name}", b"\n".join(self._sent[name]), self._counts[name]
            yield f"before {name}", b"\n".join(self._before[name]), self._counts[name]

    def _rare(self, names: Collection[str]) -> Iterator[bytes]:
        """Yield the reports of these attributes, for each change."""
        left = {name: (_values(self._sent[name]), _values(self._before[name])) for name in names}
        of_shapes = [[(name, *left[name]) for name in shape if name in left] for shape in self.shapes]
        for shape in self.shape_of:
            yield _encoder.encode([(name, next(sent), next(before)) for name, sent, before in of_shapes[shape]])


def _values(lines: Sequence[bytes]) -> Iterator[msgspec.Raw]:
    return map(msgspec.Raw, b"\n".join(lines).split(b"\n"))


class PackedChanges:
    """The changes of a packed body. No more of it is decompressed and decoded than what is asked for."""

    def __init__(self, body: bytes) -> None:
        view = memoryview(body)
        start = len(MAGIC) + _LENGTH_BYTES
        end = start + int.from_bytes(view[len(MAGIC) : start], "little")
        # Not by zstd.decompress: it takes some microseconds more, and walks open a block for each change.
        head = _decoder.decode(zstd.ZstdDecompressor().decompress(view[start:end]))
        self._shapes = head.shapes
        self._groups = dict(head.groups)
        self._shape_of: list[int] = []
        self._columns: dict[str, Column] = {}
        start = 0
        for column in head.columns:
            self._columns[column.name] = column
            column.start = start
            column.end = start = start + column.length
        self.size = start
        """Bytes of the columns."""
        self._decompressor, self._left = zstd.ZstdDecompressor(), view[end:]
        self._content = b""

    def index_of(self, place: int) -> int | None:
        """Return the index of the change at a place; None if there is none."""
        return self._column("place").index_of(place)

    def at(self, index: int, place: int) -> StoredChange:
        """Return the change at an index, which is that of a place, without its reports."""
        values: list[Any] = []
        for name in _READ:
            form = self._columns[name].form
            # Half of them are constant. They have no bytes, and a walk reads one change per block.
            values.append(form[1] if form[0] == "constant" else self._column(name).at(index))
        return self._change(index, place, values, [])

    def names_at(self, index: int) -> list[str]:
        """Return the attributes of its reports."""
        return self._shapes[self._column("shape").at(index)]

    def reports_at(self, index: int) -> list[tuple[str, Any, Any]]:
        """Return its reports."""
        self._read(self.size)
        rare = iter(self._column("rare").at(index))
        reports: list[tuple[str, Any, Any]] = []
        for name in self.names_at(index):
            if f"sent {name}" in self._columns:
                of_name = self._index_of(name, index)
                reports.append((name, self._column(f"sent {name}").at(of_name), self._column(f"before {name}").at(of_name)))
            else:
                reports.append(tuple(next(rare)))
        return reports

    def __iter__(self) -> Iterator[StoredChange]:
        """Yield all changes, by place."""
        self._read(self.size)
        places = self._column("place").all()
        fields = zip(*(self._column(name).all() for name in _READ), strict=True)
        for index, (place, values, reports) in enumerate(zip(places, fields, self._reports(), strict=True)):
            yield self._change(index, place, values, reports)

    def links(self) -> Iterator[tuple[int, int]]:
        """Yield the place of each change and `back`, see :mod:`usertable.store.history`."""
        return zip(self._column("place").all(), self._column("back").all(), strict=True)

    def without_sent(self) -> Iterator[UnsentChange]:
        """Yield all changes, by place. Columns of what is left out are not decoded.

        The CUIDs of a change of several users are left out, too.
        """
        self._read(self.size)
        fields = ("cuid", "is_list", "version", "changed", "at", "age", "kind", "identifiers")
        cuid, is_list, version, changed, at, age, kind, identifiers = (self._column(name).all() for name in fields)
        names, befores = zip(*self._befores(), strict=True)
        if any(is_list):
            cuid = [[] if several else one for one, several in zip(cuid, is_list, strict=True)]
        # Not in a loop, which takes twice as long.
        return map(UnsentChange, cuid, version, changed, at, map(sub, at, age), kind, names, befores, identifiers)

    def _befores(self) -> Iterator[tuple[str, Sequence[Any]]]:
        """Yield the attributes of each change, joined by commas, and their values before."""
        columns = {
            name: iter(self._column(f"before {name}").all())
            for name in {name for shape in self._shapes for name in shape}
            if f"before {name}" in self._columns
        }
        shapes = [(",".join(shape), [columns.get(name) for name in shape]) for shape in self._shapes]
        if len(shapes) == 1 and columns and len(columns) == len(self._shapes[0]):
            # Most often one program has sent them all.
            names = self._shapes[0]
            yield from zip(repeat(",".join(names)), zip(*map(columns.__getitem__, names), strict=True), strict=False)
            return
        for shape, rare in zip(self._column("shape").all(), self._column("rare").all(), strict=True):
            rarely = iter(rare)
            joined, of_names = shapes[shape]
            yield joined, [next(rarely)[2] if of_name is None else next(of_name) for of_name in of_names]

    def _reports(self) -> Iterator[list[tuple[str, Any, Any]]]:
        """Yield the reports of each change."""
        columns: dict[str, Iterator[tuple[str, Any, Any]]] = {}
        for name in {name for shape in self._shapes for name in shape}:
            if f"sent {name}" in self._columns:
                sent, before = self._column(f"sent {name}").all(), self._column(f"before {name}").all()
                columns[name] = zip(repeat(name), sent, before, strict=False)
        shapes = [[columns.get(name) for name in shape] for shape in self._shapes]
        for shape, rare in zip(self._column("shape").all(), self._column("rare").all(), strict=True):
            rarely = iter(rare)
            yield [(*next(rarely),) if of_name is None else next(of_name) for of_name in shapes[shape]]

    def _column(self, name: str) -> Column:
        """Return a column, ready to be read."""
        column = self._columns[name]
        if len(column.content) < column.end:
            self._read(column.end)
            column.content = self._content
        return column

    def _read(self, end: int) -> None:
        """Decompress the columns, at least up to `end`. The first time, these are the fields of changes, without reports."""
        have, fields_end = len(self._content), self._columns["rare"].start
        if end > have:
            self._content += self._decompressor.decompress(self._left, -1 if have or end > fields_end else fields_end)
            self._left = memoryview(b"")
            if len(self._content) < end:
                raise zstd.ZstdError("a packed block of history is damaged: its columns end too early")

    def _index_of(self, name: str, index: int) -> int:
        """Return the number of changes before an index in which an attribute was sent."""
        if len(self._shapes) == 1:
            return index
        having = [name in shape for shape in self._shapes]
        self._shape_of = self._shape_of or self._column("shape").all()
        return sum([having[shape] for shape in self._shape_of[:index]])

    def _change(self, index: int, place: int, values: Sequence[Any], reports: list[tuple[str, Any, Any]]) -> StoredChange:
        """Return a change.

        Args:
            values: of :data:`_READ`.
        """
        at, cuid, is_list, age, identifiers, version, changed, back, kind, actor, request, source, occurred_at = values
        if is_list:
            cuid = self._groups.get(index, [cuid])
        pairs = [(name, value) for name, value in identifiers]
        return StoredChange(
            *(place, cuid, version, changed, back, at, at - age, kind, actor, request, source, reports, pairs, occurred_at)
        )
