"""THE RULES. What happens when a checked value meets what is stored; nothing else in usertable decides that.

Pure functions: no clock, no I/O, no chance. A store loads a profile, calls :func:`decide` in its own transaction, and
keeps what it answers.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from usertable.domain.errors import Kind, Problem
from usertable.domain.patch import Patch
from usertable.domain.profile import Decision, Outcome, Profile
from usertable.domain.schema import Attribute, Rule
from usertable.domain.values import NUMBER_DIGITS, Value, add, number_text

_Merged = tuple[Value, Outcome] | Problem


def _overwrite(attribute: Attribute, stored: Value | None, value: Value) -> _Merged:
    """The newest value replaces the old."""
    return (value, Outcome.UNCHANGED) if stored == value else (value, Outcome.APPLIED)


def _once(attribute: Attribute, stored: Value | None, value: Value) -> _Merged:
    """The first value stays; later ones are ignored, which is a success."""
    return (value, Outcome.APPLIED) if stored is None else (stored, Outcome.KEPT)


def _accumulate(attribute: Attribute, stored: Value | None, value: Value) -> _Merged:
    """Starts at 0; every report is added, exactly. A sum out of a NUMBER's range is refused."""
    assert isinstance(value, int | Decimal)
    if stored is None:
        return value, Outcome.APPLIED
    assert isinstance(stored, int | Decimal)
    total = add(stored, value)
    if total is None:
        facts = {"stored": number_text(stored), "value": number_text(value), "digits": str(NUMBER_DIGITS)}
        return Problem(Kind.ACCUMULATE_RANGE, attribute.name, facts)
    return total, Outcome.APPLIED if value else Outcome.UNCHANGED


def _append(attribute: Attribute, stored: Value | None, value: Value) -> _Merged:
    """Adds the elements that are not there yet, in order of first arrival. More than the bound is refused."""
    assert isinstance(value, list)
    if stored is None:
        return value, Outcome.APPLIED
    assert isinstance(stored, list)
    merged = list(dict.fromkeys([*stored, *value]))
    if len(merged) == len(stored):
        return stored, Outcome.UNCHANGED
    if len(merged) > attribute.limits.elements:
        facts = {"elements": str(len(merged)), "limit": str(attribute.limits.elements)}
        return Problem(Kind.APPEND_LENGTH, attribute.name, facts)
    return merged, Outcome.APPLIED


RULES: dict[Rule, Callable[[Attribute, Value | None, Value], _Merged]] = {
    Rule.OVERWRITE: _overwrite,
    Rule.ONCE: _once,
    Rule.ACCUMULATE: _accumulate,
    Rule.APPEND: _append,
}
"""Per rule: `merge(attribute, stored value or None, new value)` gives the result with its outcome, or a problem."""


def decide(profile: Profile, patch: Patch, now: int) -> Decision:
    """Merge `patch` into `profile` at the moment `now` (ms since 1970 UTC), by each attribute's rule.

    All or nothing: with a problem, the decision holds the old profile and every problem. The version grows by one
    if anything changed; otherwise the very same profile object comes back and there is nothing to write.
    """
    attributes = profile.attributes
    changed: dict[str, Value] = {}
    outcomes: dict[str, Outcome] = {}
    problems: list[Problem] = []
    for attribute, value in patch.entries:
        name = attribute.name
        merged = RULES[attribute.rule](attribute, attributes.get(name), value)
        if type(merged) is Problem:
            problems.append(merged)
            continue
        result, outcome = merged  # type: ignore[misc]
        outcomes[name] = outcome
        if outcome is Outcome.APPLIED:
            changed[name] = result
    if problems:
        return Decision(profile, {}, problems)
    if changed:
        profile = Profile(profile.version + 1, profile.created_at, now, {**attributes, **changed})
    return Decision(profile, outcomes, problems)
