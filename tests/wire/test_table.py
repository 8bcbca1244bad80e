"""Writing rows: converting whole columns gives the same result as converting each value."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usertable.domain.schema import Attribute, Rule
from usertable.domain.values import DataType
from usertable.files.arrow_json import Documents, split_objects
from usertable.files.moment_texts import Moments, moment_text
from usertable.files.options import MomentStyle
from usertable.store.encoding import decode_attributes, encode_attributes
from usertable.wire.import_values import EARLIEST, LATEST

HOUR = 3_600_000
CHANGES = [
    ("Asia/Shanghai", datetime(1986, 5, 3, 18, tzinfo=UTC)),
    ("Asia/Shanghai", datetime(1900, 12, 31, 15, 54, 17, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2024, 3, 31, 1, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2024, 10, 27, 1, tzinfo=UTC)),
    ("America/St_Johns", datetime(2024, 11, 3, 4, 30, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2024, 4, 6, 15, tzinfo=UTC)),
    # A day that was skipped, and one that occurred twice.
    ("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),
    ("Pacific/Kwajalein", datetime(1969, 9, 30, 13, tzinfo=UTC)),
    ("Asia/Kathmandu", datetime(1985, 12, 31, 18, 30, tzinfo=UTC)),
    ("UTC", datetime(1970, 1, 1, tzinfo=UTC)),
]


@st.composite
def columns(draw: st.DrawFn) -> tuple[ZoneInfo, list[int | None]]:
    zone, change = draw(st.sampled_from(CHANGES))
    at = int(change.timestamp()) * 1000
    near = st.integers(-100 * HOUR // 1000, 100 * HOUR // 1000).map(lambda seconds: at + 1000 * seconds)
    anywhen = st.integers(EARLIEST // 1000, LATEST // 1000).map(lambda seconds: 1000 * seconds)
    broken = st.integers(at - 9 * HOUR, at + 9 * HOUR)
    cell = st.none() | near | anywhen
    return ZoneInfo(zone), draw(st.lists(draw(st.sampled_from([cell, cell, cell | broken])), max_size=30))


@settings(max_examples=300, deadline=None)
@given(columns())
def test_many_moments_come_to_what_each_comes_to(column: tuple[ZoneInfo, list[int | None]]) -> None:
    zone, moments = column
    for style in get_args(MomentStyle):
        expected = [None if ms is None else moment_text(ms, zone, style) for ms in moments]
        assert Moments(zone, style).texts(moments) == expected


# Texts that look like the ends of values, without a backslash in JSON.
ODD = ["", ":", ",", "}", "{", "[]", "],[", "null", ", ", ": ", "\u2028", "中", "😀", "a:b,c", "}{", "1"]
PLAIN = st.sampled_from(ODD) | st.text(st.characters(codec="utf-8", categories=["L", "N", "Zs"]), max_size=8)
STORED: dict[DataType, st.SearchStrategy[Any]] = {
    DataType.NUMBER: st.integers(-(10**19), 10**19) | st.decimals(-1000, 1000, places=3).map(Decimal.normalize),
    DataType.STRING: PLAIN,
    DataType.BOOL: st.booleans(),
    DataType.DATETIME: st.integers(EARLIEST, LATEST),
    DataType.LIST: st.lists(PLAIN, min_size=1, max_size=4),
}


@st.composite
def alike(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Attributes of users who all have the same ones."""
    kinds = draw(st.lists(st.sampled_from(list(DataType)), min_size=1, max_size=6))
    names = [f"{kind.lower()}_{i}" for i, kind in enumerate(kinds)]
    values = st.tuples(*(STORED[kind] for kind in kinds)).map(lambda found: dict(zip(names, found, strict=True)))
    return draw(st.lists(values, min_size=1, max_size=6))


def columns_of(lines: bytes, names: list[str]) -> dict[str, list[Any]]:
    """Return the typed columns, and one of an attribute that no user has."""
    attributes = [Attribute(name, DataType(name.split("_")[0].upper()), Rule.OVERWRITE) for name in [*names, "bool_none"]]
    found = Documents(attributes).columns(lines, lines.count(b"\n") + 1)
    return {attribute.name: found[attribute.name].to_pylist() for attribute in attributes}


def spaced(document: dict[str, Any]) -> str:
    """Return a document as PostgreSQL formats it."""

    def text(value: Any) -> str:
        return f"[{', '.join(map(text, value))}]" if type(value) is list else encode_attributes({"": value})[4:-1]

    return f"{{{', '.join(f'{text(name)}: {text(value)}' for name, value in document.items())}}}"


@settings(max_examples=300, deadline=None)
@given(alike(), st.booleans())
def test_documents_that_are_alike_are_split_exactly(documents: list[dict[str, Any]], has_spaces: bool) -> None:
    text = "\n".join(map(spaced if has_spaces else encode_attributes, documents)).encode()
    is_odd = (b'": ' if has_spaces else b'":') in b"".join(
        encode_attributes({"": value})[4:].encode() for document in documents for value in document.values()
    )
    assert (split_objects(text, len(documents)) is None) == is_odd
    names = list(documents[0])
    expected = {name: [document[name] for document in documents] for name in names}
    assert columns_of(text, names) == expected | {"bool_none": [None] * len(documents)}


UNLIKE = {
    "another member": ['{"bool_a":true,"bool_b":true}', '{"bool_a":true,"bool_c":true}'],
    "another order": ['{"bool_a":true,"bool_b":true}', '{"bool_b":true,"bool_a":true}'],
    "one more and one less": [
        '{"bool_a":true,"bool_b":true}',
        '{"bool_a":true,"bool_b":true,"bool_c":true}',
        '{"bool_a":true}',
    ],
    "a longer name": ['{"bool_a":true,"bool_b":true}', '{"bool_a":true,"bool_bb":true}'],
    "spaces": ['{"bool_a":true,"bool_b":true}', '{"bool_a": true, "bool_b": true}'],
    "a backslash": ['{"string_a":"\\\\"}', '{"string_a":"b"}'],
    "a list of none": ['{"list_a":[]}', '{"list_a":["b"]}'],
    "nothing": ["{}", '{"bool_a":true}'],
}


@pytest.mark.parametrize("lines", UNLIKE.values(), ids=UNLIKE)
def test_documents_that_are_not_alike_are_read_another_way(lines: list[str]) -> None:
    documents = [decode_attributes(line) for line in lines]
    names = list(dict.fromkeys(name for document in documents for name in document))
    found = columns_of("\n".join(lines).encode(), names)
    assert found == {name: [document.get(name) for document in documents] for name in [*names, "bool_none"]}
