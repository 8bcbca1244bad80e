"""No key of a body is lost unnoticed, however it is spelled, spaced or nested."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usertable.domain.errors import Kind, Problem
from usertable.wire.bodies import decode_object

keys = st.sampled_from(["a", "b", "data", ":", '":', " ", "é", '"', "\\"])
leaves = st.sampled_from(["1", "1.5", "null", '"x"', '":"', '" :"', '"\\":"', '"\\u003a"', "[]", '[":",{"a":1}]'])
space = st.sampled_from(["", "", " ", "\n"])


@st.composite
def objects(draw: st.DrawFn, depth: int = 2) -> str:
    """JSON text of an object, perhaps with repeated keys, in every spelling."""
    members = []
    for key in draw(st.lists(keys, max_size=4)):
        spelled = draw(st.sampled_from([json.dumps(key), json.dumps(key, ensure_ascii=False), escaped(key)]))
        value = draw(st.one_of(leaves, objects(depth - 1)) if depth else leaves)
        members.append(f"{draw(space)}{spelled}{draw(space)}:{draw(space)}{value}{draw(space)}")
    return "{" + ",".join(members) + "}"


def escaped(key: str) -> str:
    return '"' + "".join(f"\\u{ord(c):04x}" for c in key) + '"'


def has_repeated(text: str) -> bool:
    found = False

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal found
        found = found or len({key for key, _ in pairs}) < len(pairs)
        return dict(pairs)

    json.loads(text, object_pairs_hook=look)
    return found


@given(objects())
def test_a_repeated_key_is_found_and_nothing_else_is(text: str) -> None:
    decoded = decode_object(text.encode())
    if has_repeated(text):
        assert isinstance(decoded, Problem)
        assert decoded.kind is Kind.DUPLICATE_KEY
    else:
        assert decoded == json.loads(text, parse_float=Decimal)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b'{"a":1}}',
        b'{"a":1} x',
        b"{'a':1}",
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":01}',
        b'{"a":1,}',
        b'{"a":"\\ud800"}',
        b'{"a":"\xff"}',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":1}\0',
        b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b"[" * 100_000,
        b'{"a":' + b"9" * 100_000 + b"}",
    ],
)
def test_not_json(body: bytes) -> None:
    decoded = decode_object(body)
    assert isinstance(decoded, Problem)
    assert decoded.kind is Kind.BODY_NOT_JSON
    assert len(decoded.facts["reason"]) <= 120


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1.10", Decimal("1.10")),
        ("1e5", Decimal("1e5")),
        ("1000000000000000000000000000001", 10**30 + 1),
        ("0.1000000000000000000000000000000000001", Decimal("0.1000000000000000000000000000000000001")),
        ("1e99999999999999999999999", Decimal("Infinity")),
    ],
)
def test_numbers_are_exact(text: str, value: object) -> None:
    assert decode_object(f'{{"a":{text}}}'.encode()) == {"a": value}
