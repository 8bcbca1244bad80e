"""The elements of an array are found without decoding them, whatever they contain."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import usertable
from usertable.wire.elements import holds_more_containers, holds_more_values, occurrences, split_array

tricky = st.sampled_from(['a"b', "\\", '\\"', "],[", "{", '"}', ",", "[[]]"])
values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.integers(), st.booleans(), st.none(), st.text(max_size=5), tricky),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.one_of(st.text(max_size=3), tricky), inner, max_size=4),
)


@given(st.lists(values), st.booleans(), st.sampled_from([None, 0, 2]))
def test_every_element_is_found(array: list[Any], ascii_only: bool, indent: int | None) -> None:
    body = json.dumps(array, ensure_ascii=ascii_only, indent=indent).encode() + b"]}"
    spans, end = split_array(body, 1, 1000)
    assert body[end:] == b"]]}"
    assert [json.loads(body[begin:stop]) for begin, stop in spans] == array


@given(values)
def test_values_are_counted_outside_of_texts(value: Any) -> None:
    def separators(value: Any) -> int:
        if not isinstance(value, list | dict):
            return 0
        members = list(value.values()) if isinstance(value, dict) else value
        return 1 + max(0, len(members) - 1) + sum(map(separators, members))

    def containers(value: Any) -> int:
        if not isinstance(value, list | dict):
            return 0
        return 1 + sum(map(containers, value.values() if isinstance(value, dict) else value))

    body = json.dumps(value).encode()
    count = separators(value)
    assert holds_more_values(body, count)
    assert not holds_more_values(body, count + 1)
    assert not holds_more_containers(body, containers(value))
    assert holds_more_containers(body, containers(value) - 1)


@pytest.mark.parametrize(
    "filling", [b"x" * 262_133, b"x" * 262_143, b" " * 262_144 + b'"' + b"[" * 70_000 + b'"', b"1 " * 300_000]
)
def test_what_is_counted_piece_by_piece_is_counted_once(filling: bytes) -> None:
    body = b'{"a":[' + filling + b'],"b":[]}'
    assert occurrences(b'":', body) == body.count(b'":') == 2
    assert holds_more_containers(body, 2)
    assert not holds_more_containers(body, 3)


@pytest.mark.parametrize(
    "element",
    [
        b'"' + b"x" * 3_000_000 + b'"',
        b'"' + b'\\"],[' * 500_000 + b'"',
        b"[" * 100_000 + b"]" * 100_000,
        b"[" + b'{"a":[' * 50_000 + b"]}" * 50_000 + b"]",
    ],
    ids=["long text", "many escapes", "deep", "deep objects"],
)
def test_a_large_element_is_one(element: bytes) -> None:
    body = b"[1," + element + b",2]"
    assert split_array(body, 1, 1000) == (
        [(1, 2), (3, 3 + len(element)), (4 + len(element), 5 + len(element))],
        len(body) - 1,
    )


def test_it_stops_after_the_number_of_elements_that_is_asked_for() -> None:
    spans, end = split_array(b"[" + b"[]," * 5000 + b"[]]", 1, 1000)
    assert (len(spans), end) == (1001, -1)


@pytest.mark.parametrize("body", [b"[1,2", b'["a', b"[[1]", b'[{"a":1}', b"[", b'["\\'])
def test_an_array_without_its_end_has_none(body: bytes) -> None:
    assert split_array(body, 1, 1000)[1] == -1


def test_no_pattern_repeats_a_group_possessively() -> None:
    """Python before 3.11.5 matches such a pattern wrongly, and Debian 12 has 3.11.2; `(?>(?:…)*)` is equivalent."""
    found = [
        f"{file.name}:{node.lineno} {node.value!r}"
        for file in Path(usertable.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
        for text in [node.value if isinstance(node.value, str) else node.value.decode("latin-1")]
        if re.search(r"\)(?:[*+?]|\{[0-9,]+\})\+", re.sub(r"\[\^?\]?[^]]*\]", "", text))
    ]
    assert found == []
