"""Rows of CSV and NDJSON: the same at every batch size, in every encoding, with Arrow and without, and after being
refused once."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.store_harness import StoreHarness
from usertable.domain.errors import Refused
from usertable.files.block import originals
from usertable.files.encodings import encoding_codec
from usertable.files.options import Format, ReadOptions
from usertable.files.readers import open_source
from usertable.files.reject_rows import reject_line, reject_row, rejects_head
from usertable.store.encoding import decode_attributes
from usertable.store.memory import MemoryStore
from usertable.wire.messages import text

PROJECT = StoreHarness(MemoryStore()).project()
NAME = "user_string_overwrite"


def read(content: bytes, format: Format = "csv", *, arrow: bool = True, **how: Any) -> tuple[list[Any], list[Any], bytes]:
    """Return the rows of a file, the refused ones, and the file of refused rows."""
    reading = ReadOptions(format, **how)
    source = open_source(io.BufferedReader(io.BytesIO(content)), reading, PROJECT, arrow=arrow)
    rows: list[Any] = []
    refused: list[Any] = []
    kept = []
    for block in source.blocks():
        taken = ((cuid, pairs, decode_attributes(line)) for cuid, pairs, line in block.rows)
        rows += zip(block.numbers, taken, strict=True)
        whole = originals(block, reading, [number for number, _ in block.refused])
        for (number, problems), row in zip(block.refused, whole, strict=True):
            reason = "; ".join(text(problem, "en") for problem in problems)
            refused.append((number, reason))
            is_csv = format == "csv"
            kept.append(
                reject_row(row, source.head, number, reason)
                if is_csv
                else reject_line(row, source.head.encoding, number, reason)
            )
    if kept:
        kept.insert(0, rejects_head(source.head) if format == "csv" else source.head.encoding.mark)
    return rows, refused, b"".join(kept)


PIECES = [
    '"',
    '""',
    ",",
    ";",
    "\n",
    "\r\n",
    "\r",
    "a",
    "1",
    "2",
    "杭",
    " ",
    "\t",
    '="',
    "\ufeff",
    "\0",
    "\x85",
    "\u2028",
    "#",
]
ENCODINGS = ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "gb18030", "big5", "shift_jis"]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_rows_of_a_csv_are_the_same_at_every_batch_size_and_refused_ones_are_refused_again(data: st.DataObject) -> None:
    lines = data.draw(
        st.lists(
            st.lists(st.sampled_from(PIECES), max_size=10).map("".join)
            | st.integers(1, 9).map(lambda n: f"{n},a")
            | st.sampled_from(['3,"b"', '4,"c\n\nd"', '5,"e', "6", "7,a,b", "x,1", ",", '8,="01"', '9, "f"']),
            max_size=8,
        )
    )
    codec = data.draw(st.sampled_from(ENCODINGS))
    end = data.draw(st.sampled_from(["\n", "\r\n"]))
    header = f"cuid,{NAME}{end}".encode(codec)
    content = header + end.join(lines).encode(codec, "replace")
    if data.draw(st.booleans()):
        place = data.draw(st.integers(len(header), len(content)))
        content = content[:place] + data.draw(st.sampled_from([b"\xff", b"\x80", b"\x3d\xd8", b"\x0a"])) + content[place:]
    found = read(content, encoding=codec)
    for rows in (1, 2, 3):
        assert read(content, encoding=codec, rows=rows) == found
    assert read(content, encoding=codec, arrow=False, rows=data.draw(st.integers(1, 4))) == found
    _, refused, kept = found
    if refused:
        again = read(kept, encoding=codec, rows=data.draw(st.integers(1, 4)))
        assert again[0] == []
        assert len(again[1]) == len(refused)
        if codec == "utf-8":
            table = list(csv.DictReader(io.StringIO(again[2].decode("utf-8", "replace"), newline="")))
            assert [row["#row"] for row in table] == [str(number) for number, _ in refused]


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_a_refused_row_with_a_byte_too_many_leaves_the_next_ones_in_step(codec: str) -> None:
    half = "\ud83d".encode(codec, "surrogatepass")
    for row in ("2,x@y", "2,x@", '2,"a ""b@"" c"', '2,"a\nb@\nc"', "@2,x", "2,≤@一", '2,"@', "2,ഀ一@ഀ一", "2,ਊ\u0100@,x,y"):
        before, behind = (part.encode(codec) for part in f"cuid,{NAME}\n1,a\n{row}\n3,b,c\nx,≤一y\n".split("@"))
        for too_many in (b"\0", b"A", b'"', b"\n", b"\xd8", half, half + b"A", b"A" + half, b"AAA"):
            _, refused, kept = read(before + too_many + behind, encoding=codec)
            if not refused:
                continue
            rows, again, kept_again = read(kept, encoding=codec)
            assert rows == []
            assert len(again) == len(refused)
            assert len(kept_again) % len("x".encode(codec)) == 0
            table = csv.DictReader(io.StringIO(kept_again.decode(codec, "replace"), newline=""))
            assert [row["#row"] for row in table] == [str(number) for number, _ in refused]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_refused_lines_of_ndjson_are_refused_again(data: st.DataObject) -> None:
    pieces = ["{", "}", '"cuid"', ":", ",", "1", "0", '"', "[", "null", f'"{NAME}"', '"杭"', "\\", "\ufeff", " ", "x", "\r"]
    whole = [
        b'{"cuid":1}',
        b'{"cuid":0}',
        b'{"cuid":1,"cuid":2}',
        b'{"cuid":"\xff"}',
        b"{}",
        b' {"cuid":0}',
        b'{"#row":5,"cuid":0}',
    ]
    line = st.lists(st.sampled_from(pieces), max_size=9).map(lambda parts: "".join(parts).encode()) | st.sampled_from(whole)
    content = b"\n".join([b'{"cuid":9}', *data.draw(st.lists(line, max_size=6))])
    found = read(content, "ndjson", encoding="utf-8")
    for rows in (1, 2):
        assert read(content, "ndjson", encoding="utf-8", rows=rows) == found
    assert read(content, "ndjson", encoding="utf-8", arrow=False) == found
    if found[1]:
        again = read(found[2], "ndjson", encoding="utf-8")
        assert again[0] == []
        assert len(again[1]) == len(found[1])


def test_the_lines_of_any_encoding_are_those_of_utf8() -> None:
    text_ = f"cuid,{NAME}\r\n" + "".join(f'{n},"城市, {n}\n杭"\r\n{n + 5000},ソ|\r\n' for n in range(1, 3000))
    rows = read(text_.encode())[0]
    assert len(rows) == 5998
    for codec in ("gb18030", "shift_jis", "utf-16-le", "utf-32-be"):
        assert read(text_.encode(codec, "replace"), encoding=codec)[0] == (
            rows if codec != "shift_jis" else read(text_.encode(codec, "replace").decode(codec).encode())[0]
        )


def test_a_line_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usertable.files.lines.LINE_BYTES", 2**20)
    content = f"cuid,{NAME}\n1,a\n".encode() + b"x" * 3 * 2**20
    with pytest.raises(Refused) as refused:
        read(content)
    assert "line 3 has more than 1048576 bytes" in text(refused.value.problems[0], "en")


def test_encodings_are_named_as_people_name_them() -> None:
    named = {
        "GBK": "gb18030",
        "gb2312": "gb18030",
        "UTF-16LE": "utf-16-le",
        "latin-1": "iso8859-1",
        "Windows-1252": "cp1252",
    }
    named |= {"Shift_JIS": "shift_jis", "euc-kr": "euc_kr", "utf8": "utf-8", "utf-8-sig": "utf-8", "auto": "auto"}
    assert {name: encoding_codec(name) for name in named} == named
    # Without encodings whose lines depend on earlier ones, or that do not encode text.
    assert [encoding_codec(name) for name in ("iso2022_jp", "utf-7", "base64", "rot13", "punycode", "nonsense", "")] == [
        None
    ] * 7
