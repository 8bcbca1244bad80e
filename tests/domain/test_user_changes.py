"""The effect of a write on a user, as laws: before and after are the rows, and restoring it undoes it."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from usertable.domain.change import UserChange, last_profiles, set_and_unset
from usertable.domain.merge import decide
from usertable.domain.patch import Patch, Restoration, validate
from usertable.domain.profile import Outcome, Profile
from usertable.domain.schema import LEGAL_RULES, Attribute, Schema
from usertable.domain.values import ABSENT, DataType, Limits

ATTRIBUTES = {
    f"{data_type.lower()}_{rule}": Attribute(f"{data_type.lower()}_{rule}", data_type, rule, limits=Limits(elements=4))
    for data_type, rules in LEGAL_RULES.items()
    for rule in rules
}
SCHEMA = Schema(ATTRIBUTES)
VALUES: dict[DataType, st.SearchStrategy[Any]] = {
    DataType.NUMBER: st.integers(-3, 3) | st.decimals(-5, 5, places=1),
    DataType.STRING: st.sampled_from("abc"),
    DataType.BOOL: st.integers(0, 1),
    DataType.DATETIME: st.integers(0, 2).map(lambda day: f"2024-02-2{day} 12:00:00"),
    DataType.LIST: st.lists(st.sampled_from("ABCDEF"), min_size=1, max_size=3),
}
reports = st.fixed_dictionaries({}, optional={name: VALUES[a.type] for name, a in ATTRIBUTES.items()}).filter(bool)
removals = st.sets(st.sampled_from(sorted(ATTRIBUTES)), min_size=1, max_size=4)
histories = st.lists(reports | removals, min_size=1, max_size=8)


def patch_of(step: dict[str, Any] | set[str]) -> Patch | Restoration:
    if isinstance(step, set):
        return Restoration([(ATTRIBUTES[name], ABSENT) for name in sorted(step)])
    patch = validate(SCHEMA, step, ZoneInfo("UTC"))
    assert isinstance(patch, Patch)
    return patch


def changes_of(history: list[Any]) -> list[UserChange]:
    profile, changes = Profile.new(0), []
    for now, step in enumerate(history, start=1):
        patch = patch_of(step)
        decision = decide(profile, patch, now)
        assert decision.problems or list(decision.changes) == [attribute.name for attribute, _ in patch.entries]
        for (attribute, sent), change in zip(patch.entries, decision.changes.values(), strict=False):
            assert change.sent == sent
            assert change.before == profile.attributes.get(attribute.name, ABSENT)
            assert change.after == decision.profile.attributes.get(attribute.name, ABSENT)
            assert (change.before != change.after) == (change.outcome is Outcome.APPLIED)
        if decision.profile is not profile:
            changes.append(UserChange(7, decision))
        profile = decision.profile
    return changes


@given(histories)
def test_what_is_set_and_unset_by_all_changes_makes_the_row_of_an_empty_one(history: list[Any]) -> None:
    changes = changes_of(history)
    if changes:
        ((values, unset),) = set_and_unset(changes).values()
        assert values == last_profiles(changes)[7].attributes
        assert not set(unset) & set(values)
        # Only an attribute with a value has a time of its own.
        assert set(last_profiles(changes)[7].changed_at) <= {"", *values}


@given(histories)
def test_whatever_the_rules_a_write_is_undone_by_setting_back_what_was_there_before(history: list[Any]) -> None:
    changes = changes_of(history)
    rows = [{}, *(change.decision.profile.attributes for change in changes)]
    for change, before in zip(reversed(changes), reversed(rows[:-1]), strict=True):
        back = Restoration([(ATTRIBUTES[name], c.before) for name, c in change.decision.changes.items()])
        undone = decide(change.decision.profile, back, 99)
        assert not undone.problems
        assert undone.profile.attributes == before
        assert undone.profile.version == change.decision.profile.version + 1
