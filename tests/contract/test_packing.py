"""Packed changes are read as they were written, whatever their values."""

from __future__ import annotations

import gc
import weakref
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usertable.domain.change import ChangeKind, Origin, Report, UserChange
from usertable.domain.merge import decide
from usertable.domain.patch import Patch, Restoration
from usertable.domain.profile import Profile
from usertable.domain.schema import Attribute, Rule
from usertable.domain.values import ABSENT, DataType
from usertable.store import packing
from usertable.store.columns import Column, Form, encode, encode_numbers
from usertable.store.history import LATER_BYTES, PLACES, HistoryBlock, compress, encode_changes, pack_blocks, without_user
from usertable.store.packing import PackedChanges, StoredChange, is_packed, pack
from usertable.zstandard import zstd

_encoder = msgspec.json.Encoder(decimal_format="number")
_decoder: msgspec.json.Decoder[list[Any]] = msgspec.json.Decoder(list[Any], float_hook=Decimal)


def as_read(value: Any) -> Any:
    """Return a value as it is read from a block that is not packed."""
    return _decoder.decode(b"[" + _encoder.encode(value) + b"]")[0]


def at(changes: PackedChanges, place: int) -> StoredChange | None:
    """Return the change at a place; None if there is none."""
    index = changes.index_of(place)
    if index is None:
        return None
    found = changes.at(index, place)
    found.reports = changes.reports_at(index)
    assert [name for name, _, _ in found.reports] == changes.names_at(index)
    return found


integers = st.integers(-(10**38), 10**38) | st.integers(-300, 300)
decimals = st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**9), max_value=10**9)
odd_decimals = st.sampled_from(["1.50", "1E+3", "0.000", "-0.0", "123456789012345678901234567890.12345678", "1e-30"])
moments = st.datetimes().map(lambda d: d.strftime("%Y-%m-%d %H:%M:%S"))
serials = st.builds("{}-{:x}".format, st.sampled_from(["a1", "b-2", ""]), st.integers(0, 2**70))
texts = st.text(max_size=20)
lists = st.lists(st.sampled_from("abc"), max_size=3)
pairs: st.SearchStrategy[Any] = st.builds(lambda number, elements: [number, elements], integers, lists)
kinds: list[st.SearchStrategy[Any]] = [
    *(integers, st.integers(0, 9), decimals | st.integers(0, 5), odd_decimals.map(Decimal), moments, serials, texts, lists),
    *(st.booleans(), st.sampled_from(["gold", "silver"]), moments | texts, pairs),
]
columns = st.sampled_from(kinds).flatmap(
    lambda kind: st.lists(kind, min_size=1, max_size=60) | st.lists(kind | st.none(), min_size=1, max_size=60)
)


@given(columns)
@settings(max_examples=300, deadline=None)
def test_a_column_has_the_values_that_it_was_made_of(values: list[Any]) -> None:
    values = [as_read(value) for value in values]
    form, content = encode(values)
    form = _decoder.decode(_encoder.encode(form))
    column = column_of(form, content, len(values))
    assert repr(column.all()) == repr(values)
    assert repr([column.at(index) for index in range(len(values))]) == repr(values)


def column_of(form: Form, content: bytes, count: int) -> Column:
    """Return a column whose bytes are among those of others."""
    return Column("", form, count, len(content), 1, 1 + len(content), b"\n%b\n1" % content)


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=60, unique=True).map(sorted), st.integers(0, 2**40))
def test_the_index_of_a_number_is_found_among_ascending_ones(numbers: list[int], other: int) -> None:
    for ascending in (True, False):
        column = column_of(*encode_numbers(numbers, ascending=ascending), len(numbers))
        assert [column.index_of(number) for number in numbers] == list(range(len(numbers)))
        assert column.index_of(other) == (numbers.index(other) if other in numbers else None)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("constant", ["key:a"] * 20),
        ("numbers", list(range(100, 200, 3))),
        ("numbers", [None, *range(40)]),
        ("decimals", [Decimal("12.5"), 7, Decimal("0.25"), *map(Decimal, range(100, 130))]),
        ("moments", [f"2026-11-{day:02} 08:00:00" for day in range(1, 29)]),
        ("serials", [f"a1b2-{n:x}" for n in range(250, 290)]),
        ("choices", ["gold", "silver", ["x"], True] * 5),
        ("texts", [f"name {n}" for n in range(40)]),
    ],
)
def test_each_kind_of_values_has_its_form(name: str, values: list[Any]) -> None:
    values = [as_read(value) for value in values]
    form, content = encode(values)
    assert form[0] == name
    assert column_of(form, content, len(values)).all() == values


def test_changes_that_were_read_are_freed_without_a_search_for_cycles() -> None:
    # An export reads thousands of blocks, and hardly ever searches.
    stored = [StoredChange(place, 1, 2, 1, 0, 3, 2, 0, "key:a", f"a1b2-{place:x}") for place in range(24)]
    changes = PackedChanges(pack(stored))
    assert [at(changes, 5), *changes] == [stored[5], *stored]
    gc.disable()
    try:
        left = weakref.ref(changes)
        del changes
        assert left() is None
    finally:
        gc.enable()


values = st.one_of(*kinds, st.none())
reports = st.dictionaries(st.sampled_from("uvwxyz"), st.tuples(values, values), max_size=4).map(
    lambda found: [(name, *pair) for name, pair in found.items()]
)
change = st.builds(
    StoredChange,
    place=st.integers(1, 2000),
    cuid=st.integers(1, 10**9) | st.lists(st.integers(1, 10**9), max_size=3),
    version=st.integers(0, 300),
    changed=st.integers(0, 1),
    back=st.integers(0, 2**50),
    at=st.integers(0, 2**45),
    since=st.integers(0, 2**45),
    kind=st.integers(0, 5),
    actor=st.sampled_from(["key:a", "import:x", ""]),
    request=serials | texts,
    source=texts,
    reports=reports,
    identifiers=st.lists(st.tuples(texts, texts), max_size=2),
    occurred_at=st.none() | st.integers(0, 2**45),
)


@given(st.lists(change, min_size=1, max_size=40), st.integers(1, 20))
@settings(max_examples=100, deadline=None)
def test_packed_changes_are_those_that_were_packed(changes: list[StoredChange], minimum: int) -> None:
    place = 0
    for stored in changes:
        place += stored.place
        stored.place = place
    expected = [msgspec.json.Decoder(StoredChange, float_hook=Decimal).decode(_encoder.encode(c)) for c in changes]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "MINIMUM_VALUES", minimum)
        body = pack(expected)
    assert is_packed(body)
    assert repr(list(PackedChanges(body))) == repr(expected)
    found = PackedChanges(body)
    assert repr([at(found, stored.place) for stored in expected]) == repr(expected)
    assert at(found, place + 1) is None
    assert at(found, 0) is None


def block_of(number: int, body: object, befores: dict[int, str] | None = None) -> HistoryBlock:
    """Return a block with this body. The previous change of each user is the one before it."""
    block = HistoryBlock(number, number, 20, 0, compress(_encoder.encode(body)), befores=befores)
    block.previous = {place: number * PLACES + place - 1 for place in befores or ()}
    return block


def shared_form(members: list[Any]) -> list[list[Any]]:
    """Return a body with members as one that has what they share once. Each shares it with the next one at most."""
    found: list[list[Any]] = []
    rows: list[list[Any]] = []
    for member in members:
        if member is not None:
            _, cuid, version, changed, back, at, since, kind, actor, request, source, reports, *more = member
            shared = [kind, changed, actor, source, more[1] if len(more) == 2 else None, [name for name, _, _ in reports]]
            if shared not in found[-1:]:
                found.append(shared)
            values = [value for _, sent, before in reports for value in (sent, before)]
            row = [len(found) - 1, cuid, version, back, at, since, request, values]
            rows.append([*row, *more[:1]] if any(more[:1]) else row)
    return [found, rows]


def blocks_of_writes(names: list[list[str]]) -> list[HistoryBlock]:
    """Return blocks in all forms: with the changes as a whole, with what they share once, and of writes that the database
    merged, of now and before.

    Args:
        names: the attributes of each of 20 writes.
    """
    befores = {place: f"{place},1000,{','.join(str(n) for n in range(20, 30))}" for place in range(20) if place % 7}
    whole: list[Any] = [
        [place, 100 + place, 2, 1, 0, 5000, 0, 0, "key:a", f"a-{place:x}", "", [[n, "x", Decimal("1.5")] for n in own]]
        for place, own in enumerate(names)
    ]
    whole[3:5] = [None, None]
    merged = [
        [*member[:11], [[n, f"\u4e2d {n}", index] for index, n in enumerate(own)]]
        for member, own in zip([member or whole[0] for member in whole], names, strict=True)
    ]
    for place, member in enumerate(merged):
        member[0] = place
    sent = {
        "patches": [
            {
                "c": place,
                "t": 6000,
                "h": place,
                "s": dict.fromkeys(own[1:], place),
                "o": [["append", n, ["z"], 9] for n in own[:1]],
            }
            for place, own in enumerate(names)
        ],
        "orders": [[f"key:{len(own)}", [[n, index] for index, n in enumerate([*own[1:], *own[:1]])]] for own in names],
        "requests": [f"b-{place}" for place in range(20)],
        "sources": [f"job {place}" for place in range(20)],
        "occurred": [None if place % 2 else place for place in range(20)],
    }
    found = [block_of(4, whole), block_of(5, merged, befores), block_of(6, shared_form(whole)), block_of(7, sent, befores)]
    del sent["sources"], sent["occurred"]
    return [*found, block_of(8, sent, befores), block_of(9, sent, {})]


@pytest.mark.parametrize(
    "names",
    [
        [["u", "v"]] * 20,
        [["u", "v"], ["v"]] * 10,
        [["u"], ["v"]] * 10,
        [[]] * 20,
        [[f"u{n % 3}", f"v{n}"] for n in range(20)],
    ],
)
@pytest.mark.parametrize("minimum", [1, packing.MINIMUM_VALUES, 1000])
def test_a_packed_block_has_the_changes_of_blocks_in_every_form(
    names: list[list[str]], minimum: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "MINIMUM_VALUES", minimum)
    blocks = blocks_of_writes(names)
    expected = []
    for block in blocks:
        for stored in block.stored():
            stored.place += (block.block - 4) * PLACES
            expected.append(stored)
    assert len(expected) == 18 + 18 + 3 * 17
    packed = pack_blocks(blocks)
    assert (packed.block, packed.last) == (4, 9)
    assert repr(list(packed.stored())) == repr(expected)
    assert [repr(at(PackedChanges(packed.body), stored.place)) for stored in expected] == list(map(repr, expected))


def test_a_block_that_has_what_changes_share_once_is_read_like_one_of_an_earlier_version() -> None:
    def member(place: int, actor: str, reports: list[tuple[str, object, object]], *more: object) -> list[Any]:
        return [place, 100 + place, 2, int(bool(reports)), place, 5000, 4000, 0, actor, f"r-{place}", "s", reports, *more]

    members = [
        member(0, "key:a", [("u", Decimal("1.50"), None), ("v", ["x", "y"], [3, ["y"]])]),
        member(1, "key:a", [("u", 10**37 + 1, "1.50"), ("v", ["x"], 2)]),
        member(2, "key:b", [("u", "1.50", Decimal("0.10")), ("v", True, False)], [], 4711),
        member(3, "key:b", [], [("phone", "18012345678")]),
    ]
    earlier, block = block_of(4, members), block_of(4, shared_form(members))
    assert repr(list(block.stored())) == repr(list(earlier.stored()))
    assert list(block.all_changes()) == list(earlier.all_changes())
    for place in range(4):
        number = 4 * PLACES + place
        assert block.change(number, 100 + place) == earlier.change(number, 100 + place) is not None
        assert block.change(number, 1) is None
    assert block.change(4 * PLACES + 4, 104) is None
    assert pack_blocks([block]).body == pack_blocks([earlier]).body
    block.latest = earlier.latest = 5000
    assert block.steps_after(0) == earlier.steps_after(0)
    (left,) = [stored for stored in without_user(block, 101).stored() if stored.cuid == 101]
    assert (left.back, left.actor, left.request, left.reports) == (1, "", "", [])
    others = [repr(stored) for stored in earlier.stored() if stored.cuid != 101]
    assert [repr(stored) for stored in without_user(block, 101).stored() if stored.cuid != 101] == others


def test_what_changes_of_a_transaction_share_is_stored_once() -> None:
    attributes = [
        Attribute("spent", DataType.NUMBER, Rule.ACCUMULATE),
        Attribute("tags", DataType.LIST, Rule.APPEND),
        Attribute("seen", DataType.STRING, Rule.OVERWRITE, history_since=None),
    ]
    profile, changes = Profile(1, 0, 10, {}, {}, head=5), []
    sent: list[list[Any]] = [[5, ["a"], "x"], [Decimal("-1.5"), ["b", "a"], "y"], [1, ["c", "d"], "z"], [2, ["e"], "u"]]
    for number, values in enumerate(sent):
        decision = decide(profile, Patch(list(zip(attributes, values, strict=True))), 20 + number)
        identifiers = [("phone", "1")] if number == 3 else []
        origin = Origin("key:one" if number < 2 else "key:two", "job")
        changes.append(UserChange(7, decision, origin, f"r-{number}", identifiers=identifiers))
        profile = decision.profile
    back = Restoration([(attributes[0], ABSENT), (attributes[1], ["a"]), (attributes[2], "x")])
    changes.append(UserChange(7, decide(profile, back, 30), Origin("undo:1"), "r-4", ChangeKind.UNDO))
    (block,) = encode_changes(changes, iter([3]))
    text = zstd.decompress(block.body)
    assert (text.count(b'"spent"'), text.count(b'"key:one"'), text.count(b'"job"'), text.count(b"seen")) == (3, 1, 2, 0)
    found = [change for change, _ in block.all_changes()]
    first = 3 * PLACES
    assert [(change.number, change.previous, change.version) for change in found] == [
        (first + n, first + n - 1 if n else 5, 2 + n) for n in range(5)
    ]
    assert [change.origin for change in found] == [change.origin for change in changes]
    assert [change.request for change in found] == [f"r-{n}" for n in range(5)]
    assert [change.kind for change in found] == [ChangeKind.WRITE] * 4 + [ChangeKind.UNDO]
    assert [change.identifiers for change in found] == [[], [], [], [("phone", "1")], []]
    assert [change.reports["spent"] for change in found] == [
        Report(5, ABSENT),
        Report(Decimal("-1.5"), 5),
        Report(1, Decimal("3.5")),
        Report(2, Decimal("4.5")),
        Report(ABSENT, Decimal("6.5")),
    ]
    assert [change.reports["tags"] for change in found] == [
        Report(["a"], ABSENT),
        Report(["b", "a"], ABSENT, 1, ["b"]),
        Report(["c", "d"], ABSENT, 2),
        Report(["e"], ABSENT, 4),
        Report(["a"], ["a", "b", "c", "d", "e"]),
    ]
    assert all(change.reports.keys() == {"spent", "tags"} for change in found)


def test_a_block_whose_writes_all_were_not_done_is_packed_to_one_without_changes() -> None:
    block = blocks_of_writes([["u"]] * 20)[-1]
    assert list(block.stored()) == []
    packed = pack_blocks([block])
    assert list(packed.stored()) == []
    assert at(PackedChanges(packed.body), 1) is None


def test_the_values_of_a_packed_change_are_read_when_one_is_used() -> None:
    stored = [
        StoredChange(
            place, 7, place + 2, 1, int(place > 0), place + 10, place + 9, 0, "key:a", reports=[("u", f"{place}", None)]
        )
        for place in range(40)
    ]
    body = pack(stored)
    cut = HistoryBlock(1, 1, 40, 49, body[:-40])
    change = cut.change(PLACES + 5, 7)
    assert change is not None
    assert (change.version, change.at, list(change.reports), "u" in change.reports) == (7, 15, ["u"], True)
    with pytest.raises(zstd.ZstdError, match="end too early"):
        change.reports["u"]
    whole = HistoryBlock(1, 1, 40, 49, body).change(PLACES + 5, 7)
    assert whole is not None
    assert whole.reports == {"u": Report("5", ABSENT)}


def test_the_values_of_a_large_packed_block_are_read_with_the_change() -> None:
    # Whoever has not used them would keep the block in memory.
    text = "x" * LATER_BYTES
    stored = [StoredChange(place, 7, 2, 1, 0, 10, 9, 0, "key:a", reports=[("u", text, place)]) for place in (0, 1)]
    change = HistoryBlock(1, 1, 2, 10, pack(stored)).change(PLACES + 1, 7)
    assert change is not None
    assert type(change.reports) is dict
    assert change.reports == {"u": Report(text, 1)}
