"""The syntax of a filter's conditions."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usertable.domain.condition import (
    MAX_CONDITIONS,
    MAX_VALUES,
    Condition,
    join_values,
    parse_condition,
    parse_conditions,
    split_values,
)
from usertable.domain.errors import ProblemKind, Refused
from usertable.domain.phrases import Phrase, PhraseKind
from usertable.domain.schema import Attribute, Rule, Schema
from usertable.domain.values import DataType

ZONE = ZoneInfo("Asia/Shanghai")
SCHEMA = (
    Schema()
    .declare(Attribute("city", DataType.STRING, Rule.OVERWRITE))
    .declare(Attribute("level", DataType.NUMBER, Rule.OVERWRITE))
)


def expected(text: str) -> object:
    with pytest.raises(Refused) as refused:
        parse_conditions([text], SCHEMA, ZONE)
    assert refused.value.problems[0].kind is ProblemKind.CONDITION
    return refused.value.problems[0].params["expected"]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('city:in:"Washington, D.C.",Paris', ("Washington, D.C.", "Paris")),
        ("city:in:Paris", ("Paris",)),
        ('city:in:5" disk,"""","a""b"', ('5" disk', '"', 'a"b')),
        ('city:in:" ",C:\\', (" ", "C:\\")),
        ('city:in:"a:b,c"', ("a:b,c",)),
        ("level:in:1,2.5", (1, 2.5)),
        ("level:between:1,2", (1, 2)),
        ('city:eq:"Paris", France', '"Paris", France'),
    ],
)
def test_a_value_with_a_comma_is_put_in_double_quotes(text: str, values: object) -> None:
    assert parse_condition(text, SCHEMA, ZONE).wanted == values


@pytest.mark.parametrize("values", ["Washington, D.C.,Paris", "Washington\\, D.C.", 'a,"b', '"a"b', " a", "a ", "a\\,b"])
def test_values_that_can_be_read_in_two_ways_are_refused(values: str) -> None:
    assert expected(f"city:in:{values}") == Phrase(PhraseKind.CONDITION_QUOTES)


@given(st.lists(st.text(), min_size=1))
def test_joined_values_are_split_into_the_same(values: list[str]) -> None:
    assert split_values(join_values(values)) == tuple(values)


def test_a_filter_has_a_bounded_number_of_conditions_and_values() -> None:
    texts = ["level:eq:1"] * MAX_CONDITIONS
    assert parse_conditions(texts, SCHEMA, ZONE) == [Condition("level", "eq", 1)] * MAX_CONDITIONS
    with pytest.raises(Refused) as refused:
        parse_conditions([*texts, "city:set"], SCHEMA, ZONE)
    assert refused.value.problems[0].params == {
        "value": "city:set",
        "expected": Phrase(PhraseKind.MAXIMUM_CONDITIONS, {"limit": "100"}),
    }

    numbers = [str(n) for n in range(MAX_VALUES)]
    half = "level:in:" + ",".join(numbers[:500])
    assert len(parse_conditions([half, half], SCHEMA, ZONE)) == 2
    assert expected("level:in:" + ",".join([*numbers, "x"])) == Phrase(PhraseKind.MAXIMUM_VALUES, {"limit": "1000"})
    with pytest.raises(Refused) as refused:
        parse_conditions([half, half, "level:eq:1"], SCHEMA, ZONE)
    assert refused.value.problems[0].params["expected"] == Phrase(PhraseKind.MAXIMUM_VALUES, {"limit": "1000"})
