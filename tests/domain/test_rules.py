"""The rules, as a table and as laws (SPEC §2)."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.sample_project import sample_schema
from usertable.domain.change import Decision
from usertable.domain.errors import ProblemKind, Refused
from usertable.domain.merge import decide
from usertable.domain.patch import Patch, validate
from usertable.domain.profile import Profile
from usertable.domain.schema import Attribute, Rule, Schema
from usertable.domain.values import DataType, Limits

ZONE = ZoneInfo("Asia/Shanghai")
SCHEMA = sample_schema("")


def write(profile: Profile, data: Mapping[str, object], schema: Schema = SCHEMA) -> Decision:
    patch = validate(schema, data, ZONE)
    assert isinstance(patch, Patch), patch
    return decide(profile, patch, 2)


def empty() -> Profile:
    return Profile.new(1)


MATRIX = {
    "NUMBER": "overwrite once accumulate",
    "STRING": "overwrite once",
    "BOOL": "overwrite once",
    "DATETIME": "overwrite once",
    "LIST": "overwrite once append",
}


@pytest.mark.parametrize("data_type", list(DataType))
@pytest.mark.parametrize("rule", list(Rule))
def test_the_matrix_of_types_and_rules(data_type: DataType, rule: Rule) -> None:
    if rule in MATRIX[data_type].split():
        assert "x" in Schema().declare(Attribute("x", data_type, rule)).attributes
    else:
        with pytest.raises(Refused) as refused:
            Schema().declare(Attribute("x", data_type, rule))
        assert refused.value.problems[0].kind is ProblemKind.RULE_ILLEGAL


@pytest.mark.parametrize(
    ("attribute", "reports", "kept", "outcomes"),
    [
        ("number_overwrite", [1, 2, 2], 2, "applied applied unchanged"),
        ("number_once", [1, 2, 1], 1, "applied kept kept"),
        ("number_accumulate", [5, Decimal("-1.5"), 0], Decimal("3.5"), "applied applied unchanged"),
        ("number_accumulate", [0, 0], 0, "applied unchanged"),
        ("number_accumulate", [10**30, 1], 10**30 + 1, "applied applied"),
        ("string_overwrite", ["a", "b", "b"], "b", "applied applied unchanged"),
        ("string_once", ["a", "b"], "a", "applied kept"),
        ("bool_overwrite", [1, 0, 0], False, "applied applied unchanged"),
        ("bool_once", [0, 1], False, "applied kept"),
        ("datetime_overwrite", ["1970-01-01 08:00:01", "1970-01-01 08:00:02"], 2000, "applied applied"),
        ("datetime_once", ["1970-01-01 08:00:01", "1970-01-01 08:00:02"], 1000, "applied kept"),
        ("list_overwrite", [["A", "B"], ["C", "C"], ["C"]], ["C"], "applied applied unchanged"),
        ("list_once", [["A"], ["B"]], ["A"], "applied kept"),
        ("list_append", [["A", "B", "C"], ["C", "D"], ["D", "A"]], ["A", "B", "C", "D"], "applied applied unchanged"),
    ],
)
def test_reports_one_after_another(attribute: str, reports: list[object], kept: object, outcomes: str) -> None:
    profile = empty()
    seen = []
    for report in reports:
        decision = write(profile, {attribute: report})
        seen.append(str(decision.outcomes[attribute]))
        profile = decision.profile
    assert profile.attributes == {attribute: kept}
    assert seen == outcomes.split()
    assert profile.version == 1 + seen.count("applied")


def test_a_sum_out_of_range_is_refused_whole() -> None:
    profile = write(empty(), {"number_accumulate": 10**38 - 1, "string_overwrite": "a"}).profile
    decision = write(profile, {"string_overwrite": "b", "number_accumulate": Decimal("0.1")})
    assert [p.kind for p in decision.problems] == [ProblemKind.ACCUMULATE_RANGE]
    assert decision.profile is profile


def test_an_append_over_the_bound_is_refused_whole() -> None:
    schema = Schema().declare(Attribute("x", DataType.LIST, Rule.APPEND, limits=Limits(3, 10)))
    profile = write(empty(), {"x": ["A", "B"]}, schema).profile
    assert [p.kind for p in write(profile, {"x": ["C", "D"]}, schema).problems] == [ProblemKind.APPEND_LENGTH]
    assert write(profile, {"x": ["C", "A"]}, schema).profile.attributes["x"] == ["A", "B", "C"]


def test_every_problem_is_told_in_the_order_sent() -> None:
    data: dict[str, object] = {"nope": 1, "bool_once": 2, "string_once": "", "number_once": 1, "nope2": None}
    problems = validate(SCHEMA, data, ZONE)
    assert isinstance(problems, list)
    assert [(p.kind, p.attribute) for p in problems] == [
        (ProblemKind.ATTRIBUTE_UNKNOWN, "nope"),
        (ProblemKind.VALUE_TYPE, "bool_once"),
        (ProblemKind.VALUE_EMPTY, "string_once"),
        (ProblemKind.ATTRIBUTE_UNKNOWN, "nope2"),
    ]


values: dict[str, st.SearchStrategy[Any]] = {
    "number": st.integers(-(10**6), 10**6) | st.decimals(-1000, 1000, places=3),
    "string": st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8),
    "bool": st.integers(0, 1),
    "datetime": st.datetimes().map(
        lambda m: m.replace(year=2000 + m.year % 30, month=1, day=1, microsecond=0).isoformat(" ")
    ),
    "list": st.lists(st.sampled_from("ABCDE"), min_size=1, max_size=6),
}
patches = st.dictionaries(st.sampled_from(list(SCHEMA.attributes)), st.none(), min_size=1).flatmap(
    lambda names: st.fixed_dictionaries({name: values[name.split("_")[0]] for name in names})
)


@given(st.lists(patches, max_size=8))
def test_the_rules_against_a_model_of_three_lines_each(history: list[dict[str, Any]]) -> None:
    profile = empty()
    model: dict[str, Any] = {}
    for data in history:
        patch = validate(SCHEMA, data, ZONE)
        assert isinstance(patch, Patch)
        before, version = dict(model), profile.version
        for attribute, value in patch.entries:
            name, rule = attribute.name, attribute.rule
            if rule is Rule.OVERWRITE or name not in model:
                model[name] = value
            elif rule is Rule.ACCUMULATE:
                model[name] += value
            elif rule is Rule.APPEND:
                assert isinstance(value, list)
                model[name] = model[name] + [v for v in value if v not in model[name]]
        decision = decide(profile, patch, 2)
        profile = decision.profile
        assert profile.attributes == model
        assert profile.version == version + (model != before)
        assert all((outcome == "applied") == (before.get(n) != model[n]) for n, outcome in decision.outcomes.items())
