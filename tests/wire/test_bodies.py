"""No key of a body is lost, however it is spelled, spaced or nested."""

from __future__ import annotations

import json
from datetime import UTC
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usertable.domain.errors import Problem, ProblemKind
from usertable.domain.values import DEFAULT_LIMITS, PARSERS, DataType
from usertable.wire.bodies import decode_object
from usertable.wire.messages import text as text_of

keys = st.sampled_from(["a", "b", "data", ":", '":', " ", "é", '"', "\\"])
leaves = st.sampled_from(["1", "1.5", "null", '"x"', '":"', '" :"', '"\\":"', '"\\u003a"', "[]", '[":",{"a":1}]'])
space = st.sampled_from(["", "", " ", "\n"])


@st.composite
def objects(draw: st.DrawFn, depth: int = 2) -> str:
    """JSON text of an object, possibly with repeated keys, in every spelling."""
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
        assert decoded.kind is ProblemKind.DUPLICATE_KEY
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
        b'\xef\xbb\xbf\xef\xbb\xbf{"a":1}',
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
    assert decoded.kind is ProblemKind.BODY_NOT_JSON
    assert len(text_of(decoded, "en")) <= 120


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1.10", Decimal("1.10")),
        ("1e5", Decimal("1e5")),
        ("1000000000000000000000000000001", 10**30 + 1),
        ("0.1000000000000000000000000000000000001", Decimal("0.1000000000000000000000000000000000001")),
        ("-0", 0),
        ("-0.0", Decimal("-0.0")),
        ("1e400", Decimal("1e400")),
        ("1e99999999999999999999999", Decimal("Infinity")),
    ],
)
def test_numbers_are_exact(text: str, value: object) -> None:
    assert decode_object(f'{{"a":{text}}}'.encode()) == {"a": value}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"a":"\\ud800"}', "\\ud800 at position 6 is half of a surrogate pair"),
        (b'{"a":"\\\\\\uDC00 and more"}', "\\uDC00 at position 8 is half of a surrogate pair"),
        (b'{"a":"\\ud83d\\ude00\\ud83d\\u0041"}', "\\ud83d at position 18 is half of a surrogate pair"),
        (b'{"\\ud800":1}', "\\ud800 at position 2 is half of a surrogate pair"),
        (b'{"a":NaN}', "NaN at position 5 is not a JSON number"),
        (b'{"a":-Infinity}', "Infinity at position 6 is not a JSON number"),
        (b'{"a":' + b"9" * 5000 + b"}", "a number has more than 4300 digits"),
        (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", "nested too deeply"),
        ('{"a":1}'.encode("utf-16"), "it is UTF-16; expected UTF-8"),
        ('{"a":1}'.encode("utf-16-le"), "it is UTF-16; expected UTF-8"),
        ('{"a":1}'.encode("utf-16-be"), "it is UTF-16; expected UTF-8"),
        ('{"a":1}'.encode("utf-32"), "it is UTF-32; expected UTF-8"),
        ('{"a":1}'.encode("utf-32-be"), "it is UTF-32; expected UTF-8"),
        (b'{"a":"\xed\xa0\x80"}', "byte 0xed at position 6 is not UTF-8"),
        (b"\x1f\x8b\x08\0", "it is compressed with gzip"),
        (b'{"a":"\\\\ud800', "it is incomplete"),
        (b"", "it is incomplete"),
        (b'{"a":1} x', "unexpected text after the end of the JSON value near position 9"),
        (b'{"a":1,}', "a trailing comma near position 7"),
        (b"[1,]", "a trailing comma near position 3"),
        (b'{"a":tru!}', "unexpected character near position 9"),
        (b"{a:1}", "a key without double quotes near position 1"),
        (b'{"a":1,b:2}', "a key without double quotes near position 7"),
        (b'{"a" 1}', "a colon is missing near position 5"),
        (b"[1 2]", "a comma or a closing bracket is missing near position 3"),
        (b'{"a":1 "b":2}', "a comma or a closing bracket is missing near position 7"),
        (b'{"a":01}', "invalid number near position 6"),
        (b'{"a":"\\q"}', "invalid escape sequence near position 8"),
        (b'{"a":"\\uzz11"}', "invalid escape sequence near position 9"),
    ],
)
def test_what_is_wrong_is_named_with_its_position(body: bytes, reason: str) -> None:
    decoded = decode_object(body)
    assert isinstance(decoded, Problem)
    assert (decoded.kind, text_of(decoded, "en")) == (ProblemKind.BODY_NOT_JSON, f"the body is not valid JSON: {reason}")


def test_a_byte_order_mark_before_the_body_is_left_out() -> None:
    assert decode_object(b'\xef\xbb\xbf{"a":"\xef\xbb\xbf"}') == {"a": "\ufeff"}


@pytest.mark.parametrize("sent", ["1e99999999999999999999999", "-1.5e99999999999999999999999", "1e400", "1.5e-400"])
def test_a_huge_exponent_is_shown_as_it_was_sent(sent: str) -> None:
    decoded = decode_object(f'{{"a":{sent}}}'.encode())
    assert isinstance(decoded, dict)
    problem = PARSERS[DataType.NUMBER]("a", decoded["a"], UTC, DEFAULT_LIMITS)
    assert isinstance(problem, Problem)
    assert (problem.kind, problem.params["value"]) == (ProblemKind.NUMBER_RANGE, sent)
