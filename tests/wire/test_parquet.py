"""Parquet as other programs write it: what is accepted, what is refused and why, and how refused rows are written."""

from __future__ import annotations

import base64
import contextlib
import io
import struct
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from pyarrow.parquet import encryption

from usertable.domain.errors import Refused
from usertable.domain.schema import Attribute, Identifier, Project, Rule, Schema
from usertable.domain.values import DataType
from usertable.files.block import Block, originals
from usertable.files.options import ReadOptions
from usertable.files.readers import open_source
from usertable.store.encoding import decode_attributes
from usertable.wire.messages import text

SCHEMA = Schema(
    {
        name: Attribute(name, kind, Rule.OVERWRITE)
        for name, kind in {
            "level": DataType.NUMBER,
            "name": DataType.STRING,
            "vip": DataType.BOOL,
            "seen": DataType.DATETIME,
            "tags": DataType.LIST,
        }.items()
    },
    (Identifier("phone"), Identifier("device", unique=False)),
)
PROJECT = Project(1, "p", "p", b"", b"", "Asia/Shanghai", None, 0, SCHEMA)
NEW_YORK = Project(1, "p", "p", b"", b"", "America/New_York", None, 0, SCHEMA)


def written(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(table, sink, **options)
    return sink.getvalue()


def read(content: bytes, *, project: Project = PROJECT, rows: int = 5000, **how: Any) -> list[Block]:
    reading = ReadOptions("parquet", rows=rows, **how)
    return list(open_source(io.BufferedReader(io.BytesIO(content)), reading, project).blocks())


def columns(count: int | None = None, **cells: Any) -> pa.Table:
    size = count or len(next(iter(cells.values())))
    return pa.table({"cuid": pa.array(range(1, size + 1), pa.int64()), **cells})


def values(table: pa.Table, name: str, **how: Any) -> list[Any]:
    """Return the values of a column's cells; None for a row without a value. No row may be refused."""
    found: list[Any] = []
    for block in read(written(table), **how):
        assert not block.refused, reasons([block])
        found += [decode_attributes(row[2]).get(name) for row in block.rows]
    return found


def reasons(blocks: list[Block]) -> dict[int, str]:
    """Return why rows are refused, by number."""
    return {
        number: "; ".join(text(problem, "en") for problem in problems)
        for block in blocks
        for number, problems in block.refused
    }


def refusal(content: bytes, **how: Any) -> str:
    """Return why the file is refused, before the first row."""
    with pytest.raises(Refused) as caught:
        next(iter(open_source(io.BufferedReader(io.BytesIO(content)), ReadOptions("parquet", **how), PROJECT).blocks()))
    return "; ".join(text(problem, "en") for problem in caught.value.problems)


def handed_back(content: bytes, **how: Any) -> list[dict[str, Any]]:
    """Return the refused rows, as they are written to be fixed."""
    reading = ReadOptions("parquet", **how)
    found = []
    for block in open_source(io.BufferedReader(io.BytesIO(content)), reading, PROJECT).blocks():
        found += originals(block, reading, [number for number, _ in block.refused])
    return found


TEXT_LISTS = {
    "list": pa.list_(pa.string()),
    "of Polars": pa.large_list(pa.large_string()),
    "list of large strings": pa.list_(pa.large_string()),
    "list of views": pa.list_(pa.string_view()),
    "list view": pa.list_view(pa.string()),
    "large list view": pa.large_list_view(pa.large_string()),
    "of bytes": pa.list_(pa.binary()),
    "of a dictionary": pa.list_(pa.dictionary(pa.int32(), pa.string())),
}


@pytest.mark.parametrize("kind", TEXT_LISTS.values(), ids=TEXT_LISTS)
def test_lists_of_texts_are_taken_in_whatever_type_they_are_held(kind: pa.DataType) -> None:
    cells = [["a", 'é"\\'], None, [], ["x", "x"], ["", "y"]]
    assert values(columns(tags=pa.array(cells, kind)), "tags") == [["a", 'é"\\'], None, None, ["x"], ["", "y"]]
    assert values(columns(tags=pa.array(cells, kind)), "tags", rows=2) == [["a", 'é"\\'], None, None, ["x"], ["", "y"]]


def test_a_list_of_a_fixed_size_is_taken() -> None:
    assert values(columns(tags=pa.array([["a", "b"], None], pa.list_(pa.string(), 2))), "tags") == [["a", "b"], None]


@pytest.mark.parametrize(
    "kind",
    [pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.dictionary(pa.int8(), pa.string())],
    ids=str,
)
def test_texts_are_taken_in_whatever_type_they_are_held(kind: pa.DataType) -> None:
    table = pa.table(
        {
            "cuid": pa.array(["1", "2", "3"], kind),
            "phone": pa.array(["p1", None, "p3"], kind),
            "name": pa.array(["é", "", None], kind),
            "level": pa.array(["1.5", None, "2"], kind),
            "seen": pa.array(["2024-05-01 12:00:00", "2024-05-01T12:00:00.5Z", None], kind),
        }
    )
    (block,) = read(written(table))
    assert [(row[0], row[1]) for row in block.rows] == [(1, (("phone", "p1"),)), (2, ()), (3, (("phone", "p3"),))]
    assert [decode_attributes(row[2]) for row in block.rows] == [
        {"name": "é", "level": Decimal("1.5"), "seen": 1714536000000},
        {"seen": 1714564800500},
        {"level": 2},
    ]


UNFIT = {
    "level": [pa.list_(pa.int64()), pa.bool_(), pa.date32(), pa.timestamp("us"), pa.duration("ns")],
    "name": [pa.struct([("a", pa.int64())]), pa.map_(pa.string(), pa.int64()), pa.timestamp("ms", "UTC"), pa.time64("us")],
    "vip": [pa.string(), pa.list_(pa.bool_())],
    "seen": [pa.int64(), pa.date32(), pa.float64()],
    "tags": [
        pa.list_(pa.int64()),
        pa.list_(pa.float32()),
        pa.list_(pa.struct([("a", pa.int64())])),
        pa.list_(pa.int16(), 2),
        pa.large_list(pa.list_(pa.string())),
        pa.map_(pa.string(), pa.string()),
        pa.int64(),
    ],
    "phone": [pa.list_(pa.string()), pa.float64(), pa.timestamp("s"), pa.bool_(), pa.binary(16)],
    "device": [pa.list_(pa.float64()), pa.struct([("a", pa.string())])],
}
SAMPLES: list[tuple[str, pa.DataType]] = [(name, kind) for name, kinds in UNFIT.items() for kind in kinds]


def sample(kind: pa.DataType) -> Any:
    """Return a value of a type."""
    if pa.types.is_map(kind):
        return [("k", sample(kind.item_type))]
    if pa.types.is_nested(kind) and not pa.types.is_struct(kind):
        return [sample(kind.value_type)] * 2
    if pa.types.is_struct(kind):
        return {kind.field(0).name: sample(kind.field(0).type)}
    if pa.types.is_string(kind):
        return "x"
    if pa.types.is_date(kind):
        return date(2024, 5, 1)
    return b"0123456789abcdef" if pa.types.is_fixed_size_binary(kind) else True if pa.types.is_boolean(kind) else 1


@pytest.mark.parametrize(("name", "kind"), SAMPLES, ids=[f"{name} {kind}" for name, kind in SAMPLES])
def test_a_column_of_another_type_is_refused_by_name_before_the_first_row(name: str, kind: pa.DataType) -> None:
    content = written(columns(**{name: pa.array([sample(kind), None], kind)}))
    reason = refusal(content)
    # Parquet has fewer types than Arrow; the message names the stored one.
    assert reason.startswith(f"column [{name}]: it contains values of the type ")
    assert f"{name} " in reason.partition(", and ")[2]
    assert reason.endswith(f"or leave the column out with --map '{name}='")
    # If it is omitted, or has no value, the row is valid.
    assert len(read(content, columns={name: ""})[0].numbers) == 2
    assert values(columns(2, **{name: pa.nulls(2, kind)}), name) == [None, None]


def test_lists_without_elements_are_empty_whatever_they_are_of() -> None:
    for kind in (
        pa.list_(pa.int64()),
        pa.list_(pa.null()),
        pa.large_list(pa.float64()),
        pa.list_(pa.struct([("a", pa.int8())])),
    ):
        assert values(columns(tags=pa.array([[], None], kind)), "tags") == [None, None]


def test_all_columns_of_other_types_are_named_at_once() -> None:
    reason = refusal(written(columns(level=[date(2024, 5, 1)], tags=[[1]])))
    assert reason.count("it contains values of the type") == 2


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "+02:00", "Mars/Olympus"])
def test_an_instant_is_taken_in_every_unit_whatever_its_zone_is_called(unit: str, zone: str) -> None:
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    moments = [1_714_564_800, -1, 0]
    table = columns(seen=pa.array([moment * per_second for moment in moments], pa.timestamp(unit, zone)))
    assert values(table, "seen") == [moment * 1000 for moment in moments]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_timestamp_without_a_zone_is_a_clocks_in_the_projects(unit: str) -> None:
    texts = ["2024-05-01 12:00:00", "1969-12-31 23:59:59", "2024-11-03 01:30:00", "1900-01-01 00:00:00"]
    cells = pa.array([datetime.fromisoformat(text) for text in texts], pa.timestamp(unit))
    expected = [
        int(datetime.fromisoformat(t).replace(tzinfo=ZoneInfo("America/New_York")).timestamp()) * 1000 for t in texts
    ]
    assert values(columns(seen=cells), "seen", project=NEW_YORK) == expected
    assert values(columns(seen=cells), "seen", project=NEW_YORK, rows=1) == expected


def test_a_clock_that_was_set_forward_refuses_what_it_never_showed() -> None:
    cells = pa.array([datetime(2024, 3, 10, 2, 30), datetime(2024, 3, 10, 3, 30)], pa.timestamp("us"))
    blocks = read(written(columns(seen=cells)), project=NEW_YORK)
    assert "does not exist in time zone America/New_York" in reasons(blocks)[1]
    assert blocks[0].numbers == [2]


@pytest.mark.parametrize("zone", [None, "UTC"])
@pytest.mark.parametrize(("unit", "digits"), [("us", 3), ("ns", 6)])
def test_what_is_finer_than_a_millisecond_is_cut_and_counted(zone: str | None, unit: str, digits: int) -> None:
    least = 10**digits
    counts = [1_714_564_800_123 * least, 1_714_564_800_123 * least + 1, -1, -least, None]
    (block,) = read(written(columns(seen=pa.array(counts, pa.timestamp(unit, zone)))))
    shift = 8 * 3_600_000 if zone is None else 0
    moments = [1_714_564_800_123, 1_714_564_800_123, -1, -1]
    assert [decode_attributes(row[2]).get("seen") for row in block.rows] == [m - shift for m in moments] + [None]
    assert block.cut == {2: 1, 3: 1}


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(-(2**63) + 1, 2**63 - 1) | st.integers(-(10**15), 10**15) | st.none(), min_size=1, max_size=6),
    st.sampled_from(["s", "ms", "us", "ns"]),
    st.sampled_from([None, "UTC"]),
)
def test_timestamps_taken_together_come_to_what_each_comes_to(counts: list[int | None], unit: str, zone: str | None) -> None:
    if unit == "s":
        # Parquet has no seconds, and their milliseconds must be in range.
        counts = [None if count is None else -(-count // 1000) if count < 0 else count // 1000 for count in counts]
    content = written(columns(seen=pa.array(counts, pa.timestamp(unit, zone))))
    outcomes = []
    for rows in (1, 100):
        blocks = read(content, project=NEW_YORK, rows=rows)
        taken = {n: decode_attributes(row[2]).get("seen") for b in blocks for n, row in zip(b.numbers, b.rows, strict=True)}
        outcomes.append((taken, reasons(blocks), {n: count for block in blocks for n, count in block.cut.items()}))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("zone", [None, "UTC", "Mars/Olympus"])
def test_the_year_10000_refuses_its_row_and_nothing_else(zone: str | None) -> None:
    counts = [253_402_300_800_000, 1_714_564_800_000, -70_000_000_000_000]
    content = written(columns(seen=pa.array(counts, pa.timestamp("ms", zone))))
    found = reasons(read(content))
    assert set(found) == {1, 3}
    assert "since 1970" in found[1]
    assert [row["cuid"] for row in handed_back(content)] == [1, 3]
    assert len(read(content, columns={"seen": ""})[0].numbers) == 3


def test_an_int96_is_refused_because_it_does_not_say_its_zone() -> None:
    table = columns(seen=pa.array([datetime(2024, 5, 1, 12)], pa.timestamp("ns")))
    content = written(table, use_deprecated_int96_timestamps=True)
    assert "column [seen]: it contains timestamps of the type INT96, which do not say whether they are in UTC" in refusal(
        content
    )
    assert len(read(content, columns={"seen": ""})[0].numbers) == 1


def test_a_floating_point_number_is_the_shortest_of_its_own_width() -> None:
    halves, floats = [0.1, 46.2, 65504.0, 0.0, None], [0.1, 46.2, 16777216.0, -0.0, 3.4e38]
    doubles = [0.1, 46.2, 1e-7, 1e20, 5e-324]
    assert values(columns(level=pa.array(halves, pa.float16())), "level") == [
        Decimal("0.1"),
        Decimal("46.2"),
        65500,
        0,
        None,
    ]
    assert values(columns(level=pa.array(floats, pa.float32())), "level")[:4] == [
        Decimal("0.1"),
        Decimal("46.2"),
        16777216,
        0,
    ]
    assert values(columns(level=pa.array(floats, pa.float32())), "level")[4] == 34 * 10**37
    found = values(columns(level=pa.array(doubles[:4], pa.float64())), "level")
    assert found == [Decimal("0.1"), Decimal("46.2"), Decimal("0.0000001"), 10**20]
    assert "out of range" in reasons(read(written(columns(level=pa.array(doubles, pa.float64())))))[5]
    # A whole number has no decimal point as a text either.
    assert values(columns(name=pa.array([5.0, 0.1], pa.float32())), "name") == ["5", "0.1"]


@settings(max_examples=300, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False, width=16))
def test_every_half_comes_back_from_its_text(value: float) -> None:
    from usertable.files.readers.parquet_cells import half_text

    found = half_text(value + 0.0)
    assert struct.pack("e", float(found)) == struct.pack("e", value + 0.0)
    assert len(found.strip("-0.").replace(".", "").partition("e")[0]) <= 5


@settings(max_examples=300, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False, width=32, min_value=-(2.0**100), max_value=2.0**100))
def test_every_float_comes_back_from_its_number(value: float) -> None:
    if 0 < abs(value) < 1e-30:
        return
    (found,) = values(columns(level=pa.array([value], pa.float32())), "level")
    assert struct.pack("f", float(found)) == struct.pack("f", value + 0.0)
    assert len(Decimal(found).normalize().as_tuple().digits) <= 9


def test_a_whole_float_or_decimal_counts_as_its_cuid() -> None:
    for kind in (pa.float16(), pa.float32(), pa.float64(), pa.decimal128(20, 3), pa.uint64(), pa.int8()):
        cells = [Decimal(1), Decimal(100)] if pa.types.is_decimal(kind) else [1, 100]
        (block,) = read(written(pa.table({"cuid": pa.array(cells, kind), "level": [1, 1]})))
        assert [row[0] for row in block.rows] == [1, 100]


def test_a_cuid_that_is_none_refuses_its_row() -> None:
    nan = float("nan")
    floats = pa.table({"cuid": pa.array([1.5, nan, 2.0**53 + 2, -1.0, None, 2.0], pa.float64()), "phone": ["p"] * 6})
    found = reasons(read(written(floats)))
    assert [found[n].partition(";")[0] for n in (1, 2, 3, 4)] == [
        "cuid [1.5] is invalid",
        "cuid [NaN] is invalid",
        "cuid [9007199254740994] is invalid",
        "cuid [-1] is invalid",
    ]
    assert [row[0] for row in read(written(floats), nulls=frozenset({"NaN"}))[0].rows] == [None, None, 2]
    large = pa.table({"cuid": pa.array([2**63, 2**63 - 1, 2**64 - 1, 0], pa.uint64()), "level": [1] * 4})
    (block,) = read(written(large))
    assert [row[0] for row in block.rows] == [2**63 - 1]
    assert "cuid [9223372036854775808] is invalid" in reasons([block])[1]
    assert set(reasons([block])) == {1, 3, 4}


@pytest.mark.parametrize("name", ["level", "name", "vip"])
def test_nan_is_said_or_counts_as_empty(name: str) -> None:
    cells = pa.array([1.0, float("nan"), None, float("inf"), 0.0], pa.float64())
    content = written(columns(**{name: cells}))
    found = reasons(read(content))
    assert set(found) == {2, 4}
    assert f"[NaN] of user attribute [{name}]" in found[2]
    assert "use --null NaN to treat it as an empty cell" in found[2]
    assert "[Infinity]" in found[4]
    assert [row[name] for row in handed_back(content)] == ["NaN", "Infinity"]
    assert set(reasons(read(content, nulls=frozenset({"NaN"})))) == {4}


def test_booleans_that_became_numbers_are_taken() -> None:
    assert values(columns(vip=pa.array([1.0, None, 0.0], pa.float64())), "vip") == [True, None, False]
    assert values(columns(vip=pa.array([1, 0], pa.int8())), "vip") == [True, False]
    assert "[0.5]" in reasons(read(written(columns(vip=pa.array([0.5], pa.float64())))))[1]


def foreign(texts: list[bytes], kind: pa.DataType) -> pa.Array:
    """Return bytes as texts, without validation."""
    return pa.array(texts, pa.binary()).view(pa.string()).cast(kind)


@pytest.mark.parametrize("name", ["name", "phone", "level", "seen"])
def test_texts_that_are_not_utf_8_refuse_their_row(name: str) -> None:
    content = written(columns(**{name: foreign([b"1", b"M\xfcller", b"2"], pa.string())}))
    blocks = read(content, nulls=frozenset({"1", "2"}))
    assert reasons(blocks) == {2: f"the row cannot be read: column [{name}] contains the byte 0xFC, which is not UTF-8"}
    # Written so that it is refused again until somebody fixes it.
    (row,) = handed_back(content, nulls=frozenset({"1", "2"}))
    assert row["#line"] == f'{{"cuid": 2, "{name}": "M\\xfcller"}}'
    assert len(read(content, columns={name: ""}, nulls=frozenset({"1", "2"}))[0].numbers) == 3


def test_elements_that_are_not_utf_8_refuse_their_row() -> None:
    offsets = pa.array([0, 2, 2, 4], pa.int32())
    tags = pa.ListArray.from_arrays(offsets, foreign([b"a", b"\xff", b"b", b"c"], pa.string()))
    content = written(columns(tags=tags))
    assert set(reasons(read(content))) == {1}
    assert [decode_attributes(row[2]).get("tags") for row in read(content)[0].rows] == [None, ["b", "c"]]
    assert '"tags": ["a", "\\xff"]' in handed_back(content)[0]["#line"]


@pytest.mark.parametrize(
    "cells",
    [
        pa.array([1714564800000000001, None], pa.timestamp("ns")),
        pa.array([253_402_300_800_000, None], pa.timestamp("ms", "UTC")),
        pa.array([1, None], pa.timestamp("us", "Mars/Olympus")),
        pa.array([1, None], pa.duration("ns")),
        foreign([b"\xff", b"x"], pa.string()),
        pa.array([b"\xff\x00", None], pa.binary()),
        pa.array([{"a": [1]}, None]),
        pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
        pa.array([[[1]], None]),
        pa.array([2**64 - 1, None], pa.uint64()),
        pa.array([Decimal(10) ** 60, None], pa.decimal256(76, 0)),
    ],
    ids=lambda cells: str(cells.type),
)
def test_a_column_that_is_for_nothing_does_not_matter(cells: pa.Array) -> None:
    # `level` refuses the first row, so that it is written out as well.
    content = written(columns(odd=cells, level=["x", "1"]))
    blocks = read(content, columns={"odd": ""})
    assert (blocks[0].numbers, set(reasons(blocks))) == ([2], {1})
    assert handed_back(content, columns={"odd": ""}) == [{"cuid": 1, "level": "x"}]


@pytest.mark.parametrize(
    "cells", [[[1], None], [{"a": 1}, None], pa.array([1, None], pa.duration("ns"))], ids=["list", "struct", "duration"]
)
def test_a_column_without_a_name_disturbs_no_row_in_which_it_is_empty(cells: Any) -> None:
    table = pa.Table.from_arrays([pa.array([1, 2]), pa.array([1, 2]), pa.array(cells)], names=["cuid", "level", ""])
    assert 2 in read(written(table))[0].numbers


def test_a_refused_row_is_handed_back_as_it_counts() -> None:
    table = pa.table(
        {
            "cuid": pa.array([7.0], pa.float64()),
            "device": pa.array([["d1", "d2"]], pa.list_(pa.large_string())),
            "level": pa.array([0.1], pa.float32()),
            "seen": pa.array([1714564800123456789], pa.timestamp("ns")),
            "tags": pa.array(["no list"]),
        }
    )
    (row,) = handed_back(written(table))
    assert row == {
        "cuid": 7,
        "device": ["d1", "d2"],
        "level": 0.1,
        "seen": "2024-05-01 12:00:00.123456789",
        "tags": "no list",
    }
    instant = columns(seen=pa.array([1714564800123], pa.timestamp("ms", "Asia/Tokyo")), level=[Decimal("1.50")], tags=["x"])
    (row,) = handed_back(written(instant))
    assert row == {
        "cuid": 1,
        "seen": "2024-05-01 12:00:00.123000+00:00".replace("000+", "+"),
        "level": Decimal("1.5"),
        "tags": "x",
    }


class Keys(encryption.KmsClient):  # type: ignore[misc]
    """Stores keys without protection."""

    def __init__(self, connection: object) -> None:
        encryption.KmsClient.__init__(self)

    def wrap_key(self, key: bytes, name: str) -> bytes:
        return base64.b64encode(key)

    def unwrap_key(self, key: bytes, name: str) -> bytes:
        return base64.b64decode(key)


def encrypted(folder: Path, table: pa.Table, **settings: Any) -> bytes:
    how = encryption.EncryptionConfiguration(footer_key="f", **settings)
    properties = encryption.CryptoFactory(Keys).file_encryption_properties(encryption.KmsConnectionConfig(), how)
    with parquet.ParquetWriter(folder / "e.parquet", table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    return (folder / "e.parquet").read_bytes()


def test_an_encrypted_file_or_column_is_named(tmp_path: Path) -> None:
    table = columns(level=[1], name=["a"])
    assert "an encrypted footer" in refusal(encrypted(tmp_path, table, uniform_encryption=True))
    assert "an encrypted footer" in refusal(encrypted(tmp_path, table, column_keys={"k": ["level"]}))
    column = encrypted(tmp_path, table, column_keys={"k": ["level"]}, plaintext_footer=True)
    assert refusal(column) == "column [level]: it is encrypted; write the file without encryption"
    # The other columns can be read.
    assert [decode_attributes(row[2]) for row in read(column, columns={"level": ""})[0].rows] == [{"name": "a"}]


def with_rows(content: bytes, count: int) -> bytes:
    """Return a file of two rows whose footer has another number of rows, below 64."""
    size = int.from_bytes(content[-8:-4], "little")
    footer = content[-8 - size : -8]
    # A list of schema elements precedes the count, and one of row groups follows it.
    assert footer.count(b"\x16\x04\x19\x1c") == 1
    zigzag = bytes([2 * count if count >= 0 else -2 * count - 1])
    footer = footer.replace(b"\x16\x04\x19\x1c", b"\x16" + zigzag + b"\x19\x1c")
    return content[: -8 - size] + footer + len(footer).to_bytes(4, "little") + b"PAR1"


@pytest.mark.parametrize("count", [-2, 1, 3, 0])
def test_a_footer_that_tells_of_another_number_of_rows_is_named(count: int) -> None:
    rows = "1 row" if count == 1 else f"{count} rows"
    assert f"says {rows}, and its row groups 2" in refusal(with_rows(written(columns(level=[1, 2])), count))


def test_a_file_that_was_cut_off_is_named() -> None:
    content = written(columns(level=list(range(1000))))
    for size in (0, 3, 4, 8, 12, 100, len(content) // 2, len(content) - 1):
        assert "it is not a complete Parquet file" in refusal(content[:size])


def test_damaged_bytes_are_a_reason_and_no_traceback() -> None:
    content = written(columns(level=list(range(3000)), name=[f"n{i}" for i in range(3000)]), row_group_size=1000)
    for place in range(4, len(content), 97):
        damaged = content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]
        with contextlib.suppress(Refused):
            read(damaged)


def test_a_file_is_known_by_its_footer(tmp_path: Path) -> None:
    first, same, other = (written(columns(level=[1.5, value])) for value in (2.0, 2.0, 3.0))
    (block,) = read(first)
    reading = ReadOptions("parquet")
    assert list(open_source(io.BytesIO(same), reading, PROJECT).blocks(2, block.digest)) == []
    with pytest.raises(Refused) as refused:
        list(open_source(io.BytesIO(other), reading, PROJECT).blocks(2, block.digest))
    assert "its first 2 rows are not those" in text(refused.value.problems[0], "en")


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_reading_goes_on_after_any_row_of_any_row_group(rows: int) -> None:
    content = written(columns(level=list(range(20)), tags=[[str(i)] for i in range(20)]), row_group_size=6)
    whole = [n for block in read(content) for n in block.numbers]
    digest = read(content)[0].digest
    for skip in range(21):
        source = open_source(io.BytesIO(content), ReadOptions("parquet", rows=rows), PROJECT)
        found = [
            (n, row[0]) for block in source.blocks(skip, digest) for n, row in zip(block.numbers, block.rows, strict=True)
        ]
        assert found == [(n, n) for n in whole[skip:]]


def duck(folder: Path, query: str) -> bytes:
    duckdb.execute(f"COPY ({query}) TO '{folder / 'd.parquet'}' (FORMAT parquet)")
    return (folder / "d.parquet").read_bytes()


def test_a_file_of_duckdb_is_taken(tmp_path: Path) -> None:
    content = duck(
        tmp_path,
        "SELECT 1::BIGINT AS cuid, TIMESTAMP '2024-05-01 12:00:00.5' AS seen, 0.1::FLOAT AS level, ['a', 'b'] AS tags,"
        " true AS vip, 'é' AS name, {'a': 1} AS odd",
    )
    (block,) = read(content, columns={"odd": ""})
    assert not block.refused
    assert [decode_attributes(row[2]) for row in block.rows] == [
        {"seen": 1714536000500, "level": Decimal("0.1"), "tags": ["a", "b"], "vip": True, "name": "é"}
    ]
    kinds: Iterator[str] = iter(
        ["TIMESTAMPTZ '2024-05-01 04:00:00+00'", "TIMESTAMP_S '2024-05-01 12:00:00'", "'2024-05-01 12:00:00'"]
    )
    for kind in kinds:
        (block,) = read(duck(tmp_path, f"SELECT 1 AS cuid, {kind} AS seen, NULL AS tags, NULL AS vip"))
        assert [decode_attributes(row[2]) for row in block.rows] == [{"seen": 1714536000000}], kind
    assert "column [seen]: it contains values of the type date32" in refusal(
        duck(tmp_path, "SELECT 1 AS cuid, DATE '2024-05-01' AS seen")
    )
    huge = read(duck(tmp_path, "SELECT 1 AS cuid, 170141183460469231731687303715884105727::HUGEINT AS level"))
    assert [decode_attributes(row[2])["level"] for row in huge[0].rows] != []
