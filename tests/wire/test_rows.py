"""Reading rows: converting whole columns gives the same result as converting each value."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.store_harness import StoreHarness
from usertable.domain.errors import ProblemKind
from usertable.domain.patch import Patch, validate
from usertable.domain.schema import Project
from usertable.files.block import Block
from usertable.files.options import Format, ReadOptions
from usertable.files.readers import open_source
from usertable.store.encoding import decode_attributes
from usertable.store.memory import MemoryStore
from usertable.wire.messages import text

NAMES = ["user_number_overwrite", "user_string_overwrite", "user_bool_overwrite", "user_datetime_overwrite"]
NUMBERS = [
    "0",
    "-0",
    "1",
    "01",
    "-1",
    "1.5",
    "1.50",
    "0.000001",
    "0.0000001",
    "1e5",
    "1E-5",
    "-0.0",
    "9" * 38,
    "9" * 39,
    "+1",
    " 1",
]
NUMBERS += ["0." + "1" * 38, "1." + "0" * 40, "١", "1_0", ".5", "5.", "NaN", "--1", "-"]
TEXTS = ["a", 'say "a"', "a\\b", "é", "a\tb", "\x7f", "\u2028", "\0", "x" * 8193, "中" * 2731, " ", "%s", "{", "null"]
MOMENTS = ["2023-12-12 00:56:23", "2023-02-30 00:00:00", "2023-12-12 24:00:00", "2023-12-12-00:56:23", "0001-01-01 00:00:00"]
MOMENTS += ["9999-12-31 23:59:59", "1986-05-04 02:30:00", "2023-12-12 00:56", "20233-1-12 00:56:23"]
FORMS = [*MOMENTS, "2023-12-12T00:56:23", "2023-12-12 00:56:23.1234", "2023-12-12 00:56:23+08", "0001-01-01 00:00:00Z"]
"""Including those that only an import accepts."""
CELLS = {
    "number": st.sampled_from(NUMBERS) | st.decimals(allow_nan=False, allow_infinity=False, places=3).map(str),
    "string": st.sampled_from(TEXTS) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    "bool": st.sampled_from(["0", "1", "true", "false", "2", "yes", "True"]),
    "datetime": st.sampled_from(MOMENTS) | st.datetimes().map(lambda d: f"{d.year:04}-{d:%m-%d %H:%M:%S}"),
}
BOOLS = {"true": 1, "True": 1, "false": 0, "0": 0, "1": 1}


def project() -> Project:
    return StoreHarness(MemoryStore()).project()


PROJECT = project()


def blocks(content: bytes, format: Format = "csv", **how: Any) -> list[Block]:
    stream = io.BufferedReader(io.BytesIO(content))
    return list(open_source(stream, ReadOptions(format, **how), PROJECT).blocks())


def expected(row: dict[str, object]) -> dict[str, object] | None:
    """Return the row's values, converted one by one; None if something is invalid."""
    sent = {name: BOOLS.get(str(cell), cell) if "bool" in name else cell for name, cell in row.items() if cell != ""}
    patch = validate(PROJECT.schema, sent, PROJECT.zone) if sent else Patch([])
    return {a.name: value for a, value in patch.entries} if isinstance(patch, Patch) else None


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_columns_come_to_what_values_come_to(data: st.DataObject) -> None:
    cells: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
        {name: st.just("") | CELLS[name.split("_")[1]] for name in NAMES}
    )
    plain: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
        {
            NAMES[0]: st.integers(0, 10**37).map(str),
            NAMES[1]: st.text("abc", min_size=1),
            NAMES[2]: st.sampled_from("01"),
            NAMES[3]: st.sampled_from(MOMENTS[:1]),
        }
    )
    rows: list[dict[str, Any]] = data.draw(st.lists(cells, min_size=1, max_size=4) | st.lists(plain, max_size=4))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["cuid", *NAMES])
    writer.writeheader()
    writer.writerows({"cuid": place, **row} for place, row in enumerate(rows, start=1))
    found: dict[int, Any] = {}
    for block in blocks(text.getvalue().encode(), rows=data.draw(st.integers(1, 5)), encoding="utf-8"):
        found |= {number: decode_attributes(row[2]) for number, row in zip(block.numbers, block.rows, strict=True)}
        found |= {number: None for number, _ in block.refused}
    wanted = {place: expected(row) for place, row in enumerate(rows, start=1)}
    assert found == wanted
    # The same as JSON texts, each with the value that the API would parse from it.
    lines = b"\n".join(json.dumps({"cuid": n, **row}).encode() for n, row in enumerate(rows, start=1))
    found = {}
    for block in blocks(lines, "ndjson", rows=data.draw(st.integers(1, 5))):
        found |= {number: decode_attributes(row[2]) for number, row in zip(block.numbers, block.rows, strict=True)}
        found |= {number: None for number, _ in block.refused}
    for place, row in enumerate(rows, start=1):
        sent = {name: cell for name, cell in row.items() if cell != ""}
        patch = validate(PROJECT.schema, sent, PROJECT.zone) if sent else Patch([])
        alone = {a.name: value for a, value in patch.entries} if isinstance(patch, Patch) else None
        assert found[place] == alone


JSON_VALUES = [0, 1, True, False, "1", "1.50", "x", [], ["a"], ["a", "a"], [1], {}, None, "", "2023-12-12 00:56:23"]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_lines_taken_together_come_to_what_each_comes_to(data: st.DataObject) -> None:
    numbers = st.sampled_from(["1", "1.0", "1.50", "1e2", "-0", "1E400", "0.1", "9" * 39])
    values = st.sampled_from(JSON_VALUES).map(json.dumps) | numbers
    names = [*NAMES, "user_list_append"]
    keys = data.draw(st.lists(st.sampled_from(names), unique=True, min_size=1))
    alike = data.draw(st.booleans())
    lines = []
    for number in range(1, data.draw(st.integers(2, 6))):
        own = keys if alike else data.draw(st.lists(st.sampled_from(names), unique=True))
        members = "".join(f',"{name}":{data.draw(values)}' for name in own)
        lines.append(f'{{"cuid":{number}{members}}}'.encode())

    def outcome(content: list[Block]) -> list[tuple[int, object]]:
        found: list[tuple[int, object]] = []
        for block in content:
            found += zip(block.numbers, [(row[0], decode_attributes(row[2])) for row in block.rows], strict=True)
            found += [(number, [problem.kind for problem in problems]) for number, problems in block.refused]
        return sorted(found, key=lambda entry: entry[0])

    together = outcome(blocks(b"\n".join(lines), "ndjson"))
    # A space after a quote prevents the lines from being converted together.
    alone = outcome(blocks(b"\n".join(line.replace(b'"cuid":', b'"cuid" :') for line in lines), "ndjson"))
    assert together == alone


def test_a_quote_that_is_never_closed_costs_its_row() -> None:
    content = b'cuid,user_string_once\n1,a\n2,"b\n' + b"3,c\n" * 10
    (block,) = blocks(content, rows=100)
    assert block.numbers == [1]
    ((number, (problem,)),) = block.refused
    assert (number, problem.kind) == (2, ProblemKind.ROW_FORM)
    assert "is a quote not closed?" in text(problem, "en")


def test_a_row_may_go_on_over_blocks() -> None:
    content = b"cuid,user_string_once\n" + b"".join(b'%d,"a\n\n\nb"\n' % n for n in range(1, 50))
    for rows in (1, 2, 3, 7):
        found = [row for block in blocks(content, rows=rows) for row in block.rows]
        assert [row[0] for row in found] == list(range(1, 50))
        assert {row[2] for row in found} == {'{"user_string_once":"a\\n\\n\\nb"}'}


@pytest.mark.parametrize("format", ["csv", "ndjson"])
def test_reading_goes_on_after_any_row(format: Format) -> None:
    if format == "csv":
        cells = [b'"a\nb"', b"c", b'"\n\n\nd"', b'"e"f', b""]
        content = b"cuid,user_string_once\n" + b"".join(b"%d,%s\n" % (n, cells[n % 5]) for n in range(1, 40))
    else:
        content = b"".join(b'{"cuid":%d}\n' % n for n in range(1, 20))
    whole = [row for block in blocks(content, format) for row in block.rows]
    for rows, others in ((1, 4), (3, 1), (5, 7), (7, 100), (100, 8)):
        taken: list[Any] = []
        for block in blocks(content, format, rows=rows):
            taken += block.rows
            stream = io.BufferedReader(io.BytesIO(content))
            rest = open_source(stream, ReadOptions(format, rows=others), PROJECT).blocks(block.done, block.digest)
            assert taken + [row for later in rest for row in later.rows] == whole


def test_numbers_of_typed_columns_stay_exact() -> None:
    import pyarrow as pa
    from pyarrow import parquet

    numbers = [Decimal("1E-18"), Decimal("46.2"), Decimal("12345678901234567890.5"), None, Decimal(0)]
    sink = io.BytesIO()
    columns = {"cuid": [1, 2, 3, 4, 5], "user_number_once": pa.array(numbers, pa.decimal128(38, 18))}
    parquet.write_table(pa.table(columns), sink)
    (block,) = blocks(sink.getvalue(), "parquet")
    found = [decode_attributes(row[2]).get("user_number_once") for row in block.rows]
    assert found == numbers


def outcomes(found: list[Block]) -> list[tuple[int, object]]:
    """Return the result of each row, by number."""
    rows: list[tuple[int, object]] = []
    for block in found:
        taken = ((cuid, pairs, decode_attributes(text)) for cuid, pairs, text in block.rows)
        rows += zip(block.numbers, taken, strict=True)
        rows += [(number, [(p.kind, p.attribute, p.params) for p in problems]) for number, problems in block.refused]
        rows += [(number, count) for number, count in block.cut.items()]
    return sorted(rows, key=lambda row: row[0])


COLUMNS = ["cuid", "phone", "user_list_append", *NAMES]
IN_OTHER_FORMS = {
    "user_number_overwrite": ["1,5", "1.234", "1.234,50", "1 234", "-1.234.567,8", "12.34", "1,", "1.5"],
    "user_bool_overwrite": ["ja", "nein", "Ja"],
    "user_datetime_overwrite": ["31.12.2024", "1.2.2024 08:30", "31.12.2024 24:00", "04.05.1986 02:30"],
}
FURTHER: dict[str, st.SearchStrategy[Any]] = {
    "columns": st.sampled_from([{}, {NAMES[1]: f"{NAMES[1]},user_string_once"}, {"cuid": "cuid,user_number_once"}]),
    "date_formats": st.sampled_from([(), ("%d.%m.%Y", "%d.%m.%Y %H:%M")]),
    "decimal_comma": st.booleans(),
    "true_texts": st.sampled_from([(), ("ja", "2")]),
    "false_texts": st.sampled_from([(), ("nein",)]),
    "defaults": st.sampled_from(
        [
            (),
            (("user_bool_once", "1"), (NAMES[0], "7")),
            ((NAMES[1], 'a"b'), (NAMES[2], "0")),
            (("user_list_append", '["a"]'),),
        ]
    ),
}
"""Options that change how cells are read."""
QUOTED = st.lists(
    st.sampled_from(['"', '""', ",", "\n", "\r\n", "\r", "a", "1", "[", "]", "é", "\1", "\ufeff"]), max_size=12
)


def further(data: st.DataObject, *without: str) -> dict[str, Any]:
    """Draw some of the further options."""
    names = data.draw(st.lists(st.sampled_from([name for name in FURTHER if name not in without]), unique=True, max_size=3))
    return {name: data.draw(FURTHER[name]) for name in names}


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_arrow_comes_to_what_python_comes_to(data: st.DataObject) -> None:
    width = len(COLUMNS)
    if data.draw(st.booleans()):
        # Cells, some of them valid, and quotes in any place.
        width = data.draw(st.integers(1, 4))
        cell = QUOTED.map("".join) | st.sampled_from(["1", "a", '"a,b"', '"[""x"",""y""]"', '""', '""""', '"a\nb"', ""])
        lines = data.draw(st.lists(st.lists(cell, min_size=width, max_size=width).map(",".join), max_size=4))
        end = data.draw(st.sampled_from(["\n", "\r\n"]))
        text = end.join([",".join(COLUMNS[:width]), *lines]) + data.draw(st.sampled_from(["", end]))
    else:
        lists = st.lists(st.sampled_from(["a", "b", 'q"', ""]) | st.sampled_from(TEXTS)).map(json.dumps)
        cells = [st.integers(-1, 9).map(str), st.sampled_from(["", "1", "x" * 300]), lists]
        values = CELLS | {"datetime": CELLS["datetime"] | st.sampled_from(FORMS)}
        others = {name: st.sampled_from(forms) for name, forms in IN_OTHER_FORMS.items()}
        row = st.tuples(
            *cells, *(st.just("") | values[name.split("_")[1]] | others.get(name, st.nothing()) for name in NAMES)
        )
        out = io.StringIO(newline="")
        csv.writer(out).writerows([COLUMNS, *data.draw(st.lists(row, min_size=1, max_size=4))])
        text = out.getvalue()
    how = ReadOptions(
        "csv",
        encoding="utf-8",
        rows=data.draw(st.integers(1, 5)),
        empty=data.draw(st.sampled_from(["skip", "refuse"])),
        nulls=data.draw(st.sampled_from([frozenset(), frozenset({"1"})])),
        **further(data, *([] if width == len(COLUMNS) else ["columns"])),
    )
    found = []
    for arrow in (True, False):
        stream = io.BufferedReader(io.BytesIO(text.encode()))
        found.append(list(open_source(stream, how, PROJECT, arrow=arrow).blocks()))
    with_it, without = found
    assert outcomes(with_it) == outcomes(without)
    assert [(b.done, b.digest, b.raw, b.names) for b in with_it] == [(b.done, b.digest, b.raw, b.names) for b in without]


@pytest.mark.parametrize("scale", [0, 1, 5, 6, 18, 38])
def test_a_decimal_of_any_type_stays_exact(scale: int) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    # Arrow's own rescaling makes other numbers of some of these.
    digits = "77704909808966381918379981520636655853777049098089663819183799815206366558537"
    numbers = [Decimal(f"{digits[i : i + size]}E-{scale}") for size in range(1, 39) for i in range(30)]
    for make in (pa.decimal128, pa.decimal256):
        sink = io.BytesIO()
        columns = {"cuid": list(range(1, len(numbers) + 1)), "user_number_once": pa.array(numbers, make(38, scale))}
        parquet.write_table(pa.table(columns), sink)
        rows = [row for block in blocks(sink.getvalue(), "parquet", rows=1) for row in block.rows]
        assert [decode_attributes(row[2])["user_number_once"] for row in rows] == numbers


def test_typed_columns_come_to_what_their_values_come_to() -> None:
    import pyarrow as pa
    from pyarrow import parquet

    numbers = [Decimal("0.000001"), Decimal(100), Decimal("-12.5"), Decimal(0), None, Decimal("99999999999999999999")]
    moments = [-1000, 0, 1_700_000_000_000, -62_135_424_000_000, None, 253_402_128_000_000]
    sink = io.BytesIO()
    columns = {
        "cuid": [1, 2, 3, 4, 5, 6],
        "user_number_once": pa.array(numbers, pa.decimal128(38, 18)),
        "user_number_overwrite": pa.array([0, -1, 2**63 - 1, 5, None, 7], pa.int64()),
        "user_bool_once": [True, False, None, True, True, False],
        "user_string_once": pa.array(["a", "", None, "a", "é", "b"]).dictionary_encode(),
        "user_datetime_once": pa.array(moments, pa.timestamp("ms", "UTC")),
        "user_list_append": [["a", "b", "a"], [], None, ["x"], [""], ["", "y"]],
    }
    parquet.write_table(pa.table(columns), sink)
    (block,) = blocks(sink.getvalue(), "parquet")
    found = [decode_attributes(row[2]) for row in block.rows]
    assert [row.get("user_number_once") for row in found] == numbers
    assert [row.get("user_number_overwrite") for row in found] == [0, -1, 2**63 - 1, 5, None, 7]
    assert [row.get("user_bool_once") for row in found] == columns["user_bool_once"]
    assert [row.get("user_string_once") for row in found] == ["a", None, None, "a", "é", "b"]
    assert [row.get("user_datetime_once") for row in found] == moments
    assert [row.get("user_list_append") for row in found] == [["a", "b"], None, None, ["x"], [""], ["", "y"]]


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_lines_in_arrow_come_to_what_lines_in_python_come_to(data: st.DataObject) -> None:
    numbers = st.sampled_from(["1", "1.0", "1.50", "1e2", "-0", "1E400", "0.1", "9" * 39, "9" * 20, "-5"]) | st.just("null")
    moments = st.sampled_from([*FORMS, "31.12.2024", "1.2.2024 08:30"]).map(json.dumps)
    texts = st.sampled_from(["a", "é", " ", "", "x" * 8193]).map(lambda text: json.dumps(text, ensure_ascii=False))
    bools = st.sampled_from(["0", "1", "2"]) | st.sampled_from(["true", "false"])
    lists = st.lists(st.sampled_from(["a", "b", "", "é"]) | st.sampled_from([1, None])).map(
        lambda cell: json.dumps(cell, ensure_ascii=False, separators=(",", ":"))
    )
    kinds = dict(zip([*NAMES, "user_list_append"], [numbers, texts, bools, moments, lists], strict=True))
    lines = [
        "{" + ",".join([f'"cuid":{n}', *(f'"{name}":{data.draw(kind)}' for name, kind in kinds.items())]) + "}\n"
        for n in range(1, data.draw(st.integers(2, 5)))
    ]
    content = "".join(lines).encode()
    alone = b"".join(line.encode().replace(b'"cuid":', b'"cuid" :') for line in lines)
    how = further(data)
    assert outcomes(blocks(content, "ndjson", **how)) == outcomes(blocks(alone, "ndjson", **how))


@pytest.mark.parametrize("text", ["[7]", "[]", '["a"]', "[a"])
@pytest.mark.parametrize("begin", ['{"cuid":', '{"cuid" :'])
def test_a_text_that_looks_like_an_array_is_a_text_in_ndjson_however_it_is_read(begin: str, text: str) -> None:
    lines = [f'{begin}{n},"jg_registration_id":{json.dumps(text)}}}\n' for n in (1, 2)]
    (block,) = blocks("".join(lines).encode(), "ndjson")
    assert not block.refused
    assert [pairs for _, pairs, _ in block.rows] == [(("jg_registration_id", text),)] * 2


@pytest.mark.parametrize("elements", ["1.5", '"a",1.5', "1e3", "1", "true", "null"])
def test_what_is_no_text_in_a_list_is_refused_however_it_is_read(elements: str) -> None:
    (block,) = blocks(f'{{"cuid":1,"user_list_append":[{elements}]}}\n'.encode(), "ndjson")
    assert [[problem.kind for problem in problems] for _, problems in block.refused] == [[ProblemKind.VALUE_TYPE]]


PIECES = [
    "null",
    "true",
    "1",
    "-0",
    "1.5",
    "1e3",
    "1E-7",
    "5e-90",
    '"x"',
    '"5"',
    '""',
    "[]",
    '["a"]',
    "[null]",
    "[1]",
    ",",
    ":",
]
PIECES += [
    " ",
    "\t",
    "\r",
    "\n",
    "[",
    "]",
    '"',
    "-",
    ".",
    "0",
    "NaN",
    "Infinity",
    "é",
    "{",
    "}",
    "{}",
    "} null {",
    "\x00",
    "\x01",
]
PIECES += ["\\u00e9", "\\ud800", "9" * 19, "9" * 39, "9" * 57, "9" * 60, "1." + "1" * 19, "\xff", '"cuid":7,', '"more":1,']
LINES = st.tuples(
    st.sampled_from(["1", "1.5", "0.10", "-7", "100", "1e2", "123456789012345678901234567890.5", "0.0000001"]),
    st.sampled_from(["a", "é", " ", "", "channel-1", "a5e-9", "null", "x:null"]),
    st.sampled_from(["true", "false"]),
    st.sampled_from(MOMENTS[:1]),
    st.sampled_from(["[]", '["a"]', '["a","b","a"]', '[""]']),
)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_lines_split_by_arrow_come_to_what_each_comes_to(data: st.DataObject) -> None:
    form = '{{"cuid":{},"{}":{},"{}":"{}","{}":{},"{}":"{}","user_list_append":{}}}'
    lines = []
    for place, (number, *texts) in enumerate(data.draw(st.lists(LINES, min_size=3, max_size=8)), start=1):
        pairs = zip(NAMES, [number, *texts], strict=False)
        line = form.format(place, *(part for pair in pairs for part in pair), texts[-1]).encode()
        if place > 2 and data.draw(st.booleans()):
            for _ in range(data.draw(st.integers(1, 3))):
                # The text between two positions is replaced.
                start = data.draw(st.integers(0, len(line)))
                piece = data.draw(st.sampled_from(["", *PIECES])).encode("latin-1" if data.draw(st.booleans()) else "utf-8")
                line = line[:start] + piece + line[start + data.draw(st.integers(0, 9)) :]
        lines.append(line)
    content = b"\n".join(lines) + data.draw(st.sampled_from([b"", b"\n"]))
    how = ReadOptions("ndjson", encoding="utf-8", rows=data.draw(st.integers(1, 3)))
    found = []
    for arrow in (True, False):
        stream = io.BufferedReader(io.BytesIO(content))
        found.append(list(open_source(stream, how, PROJECT, arrow=arrow).blocks()))
    with_it, without = found
    assert outcomes(with_it) == outcomes(without)
    assert [(b.done, b.digest, b.raw) for b in with_it] == [(b.done, b.digest, b.raw) for b in without]


def test_lines_like_those_before_are_split_by_arrow_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    line = (
        '{{"cuid":{},"user_number_once":0.{},"user_number_overwrite":{},"user_list_append":["a"],"user_bool_once":true}}\n'
    )
    content = "".join(line.format(n, n, 10**n) for n in range(1, 10)).encode()
    found = open_source(io.BufferedReader(io.BytesIO(content)), ReadOptions("ndjson", rows=3), PROJECT).blocks()
    rows = [*next(found).rows]
    monkeypatch.setattr("usertable.files.readers.ndjson._decode_lines", None)
    rows += [row for block in found for row in block.rows]
    assert [row[2] for row in rows] == [
        f'{{"user_number_once":0.{n},"user_number_overwrite":{10**n},"user_list_append":["a"],"user_bool_once":true}}'
        for n in range(1, 10)
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CR LF"])
@pytest.mark.parametrize(
    "lines",
    [
        ['{"cuid":1,"user_string_once":"a"}', '{"cuid":2,"user_string_once":"b"}'],
        ['{"cuid":1,"user_string_once":"a"}', '{"cuid":2}', '{"user_number_once":1.5,"cuid":3}'],
        ['{"cuid":"1", "user_list_append":["a"]}', '{"cuid":"2", "user_list_append":[]}'],
    ],
    ids=["the same members", "some of the members", "spaces and lists"],
)
def test_lines_of_one_kind_are_read_by_arrow(lines: list[str], end: str) -> None:
    found: list[list[Any]] = []
    for forbidden in ("_row", "_with_arrow"):
        stream = io.BufferedReader(io.BytesIO("".join(line + end for line in lines).encode()))
        source: Any = open_source(stream, ReadOptions("ndjson"), PROJECT)
        setattr(source, forbidden, lambda *_: None)
        found.append([row for block in source.blocks() for row in block.rows])
    by_arrow, row_by_row = found
    assert [(c, i, decode_attributes(t)) for c, i, t in by_arrow] == [(c, i, decode_attributes(t)) for c, i, t in row_by_row]
    assert len(by_arrow) == len(lines)


@pytest.mark.parametrize(
    "line",
    [
        b"null",
        b'{"cuid":4} null {"cuid":5}',
        b'{"cuid":4} {"cuid":5}',
        b'{"cuid":4}}',
        b'{"cuid":4,"user_string_once":"\xff"}',
        b'{"cuid":4,"user_number_once":"x"}',
        b'{"cuid":4,"user_number_once":1e-400}',
        b'{"cuid":4,"user_number_once":' + b"9" * 76 + b"}",
        b'{"cuid":4,"user_number_once":NaN}',
        b'{"cuid":4,"cuid":5}',
        b'{"cuid":4,"unknown":5}',
        b"",
    ],
)
def test_an_odd_line_among_plain_ones_is_refused_alone(line: bytes) -> None:
    plain = b'{"cuid":%d,"user_string_once":"a","user_number_once":1.5}\n'
    content = b"".join(plain % n for n in range(1, 4)) + line + b"\n" + b"".join(plain % n for n in range(5, 7))
    found = blocks(content, "ndjson", rows=3, encoding="utf-8")
    assert [number for block in found for number in block.numbers] == [1, 2, 3, 5, 6]
    assert [number for block in found for number, _ in block.refused] == ([4] if line else [])


def test_of_json_only_texts_count_as_empty() -> None:
    line = (
        '{"cuid":1,"user_number_once":1,"user_number_overwrite":1.5,"user_bool_once":1,"user_string_once":"1",'
        '"user_string_overwrite":"1.50","user_list_append":["1"]}\n'
    )
    (block,) = blocks(line.encode() * 3, "ndjson", nulls=frozenset({"1", "1.5"}))
    expected = {
        "user_number_once": 1,
        "user_number_overwrite": Decimal("1.5"),
        "user_bool_once": True,
        "user_string_overwrite": "1.50",
        "user_list_append": ["1"],
    }
    assert [(row[0], decode_attributes(row[2])) for row in block.rows] == [(1, expected)] * 3
