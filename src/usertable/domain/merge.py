"""THE RULES. What happens when a checked value meets what is stored; nothing else in usertable decides that.

Pure functions: no clock, no I/O, no chance. A store loads a profile, calls :data:`decide` in its own transaction, and
keeps what it answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from usertable.domain.change import Decision
from usertable.domain.errors import Problem, ProblemKind
from usertable.domain.patch import Patch, Restoration
from usertable.domain.profile import OTHER_ATTRIBUTES, Outcome, Profile, maximum_bytes, row_bytes, value_bytes
from usertable.domain.schema import Attribute, Rule
from usertable.domain.values import ABSENT, NUMBER_DIGITS, Value, add, number_text

ROW_LIMIT = 1_048_576
"""Bytes that a user's row may have, unless the setting `row_limit` says otherwise; see :func:`row_bytes`."""

_Merged = tuple[Any, Outcome] | Problem

# Looked up once: an enumeration's member costs more than the rest of a rule.
_APPLIED, _UNCHANGED, _KEPT = Outcome.APPLIED, Outcome.UNCHANGED, Outcome.KEPT


_FEW = 4
"""Elements of a list that are looked for one by one in another."""


def _overwrite(attribute: Attribute, stored: Any, value: Any) -> _Merged:
    """The newest value replaces the old."""
    return value, _UNCHANGED if stored == value else _APPLIED


def _once(attribute: Attribute, stored: Any, value: Any) -> _Merged:
    """The first value stays; later ones are ignored, which is a success."""
    return (value, _APPLIED) if stored is None else (stored, _KEPT)


def _accumulate(attribute: Attribute, stored: Any, value: Any) -> _Merged:
    """Starts at 0; every report is added, exactly. A sum out of a NUMBER's range is refused."""
    if stored is None:
        return value, _APPLIED
    total = add(stored, value)
    if total is None:
        params = {"stored": number_text(stored), "value": number_text(value), "digits": str(NUMBER_DIGITS)}
        return Problem(ProblemKind.ACCUMULATE_RANGE, attribute.name, params)
    return total, _APPLIED if value else _UNCHANGED


def _append(attribute: Attribute, stored: Any, value: Any) -> _Merged:
    """Adds the elements that are not there yet, in order of first arrival. More than the bound is refused."""
    if stored is None:
        return value, _APPLIED
    # To look through a list for a few elements takes less than to build a set of it.
    known = stored if len(value) <= _FEW else set(stored)
    added = [element for element in value if element not in known]
    if not added:
        return stored, _UNCHANGED
    merged = [*stored, *added]
    if len(merged) > attribute.limits.elements:
        params = {"elements": str(len(merged)), "limit": str(attribute.limits.elements)}
        return Problem(ProblemKind.APPEND_LENGTH, attribute.name, params)
    return merged, _APPLIED


RULES: dict[Rule, Callable[[Attribute, Any, Any], _Merged]] = {
    Rule.OVERWRITE: _overwrite,
    Rule.ONCE: _once,
    Rule.ACCUMULATE: _accumulate,
    Rule.APPEND: _append,
}
"""Per rule: `merge(attribute, stored value or None, new value)` gives the result with its outcome, or a problem."""


def _restore(attribute: Attribute, stored: Any, value: Any) -> _Merged:
    """Whatever the rule, the value is this, or there is none."""
    if value is ABSENT:
        return ABSENT, _UNCHANGED if stored is None else _APPLIED
    return _overwrite(attribute, stored, value)


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides: the rules, with the bound that a row must keep. It goes to other processes by pickle.

    Args:
        row_limit: bytes that a user's row may have.
    """

    row_limit: int = ROW_LIMIT

    def __call__(self, profile: Profile, patch: Patch | Restoration, now: int) -> Decision:
        """Merge `patch` into `profile` at the moment `now` (ms since 1970 UTC), by each attribute's rule.

        All or nothing: with a problem, the decision holds the old profile and every problem. The version grows by one
        if anything changed; otherwise the very same profile object comes back and there is nothing to write.
        """
        attributes = profile.attributes
        if not attributes and type(patch) is Patch:
            return self._first(profile, patch, now)
        restored = type(patch) is Restoration
        outcomes: dict[str, Outcome] = {}
        changed: dict[str, Any] = {}
        problems: list[Problem] = []
        for attribute, value in patch.entries:
            name = attribute.name
            merge = _restore if restored else RULES[attribute.rule]
            merged = merge(attribute, attributes.get(name), value)
            if type(merged) is Problem:
                problems.append(merged)
                continue
            result, outcome = merged  # type: ignore[misc]
            outcomes[name] = outcome
            if outcome is _APPLIED:
                changed[name] = result
        if problems:
            return Decision(profile, patch, profile, {}, problems)
        before = profile
        if changed:
            after = {**attributes, **changed}
            changed_at = {**profile.changed_at, **dict.fromkeys(changed, now)} if attributes else {OTHER_ATTRIBUTES: now}
            if restored:
                for name in [name for name, value in changed.items() if value is ABSENT]:
                    del changed[name], after[name]
                    changed_at.pop(name, None)
            size = self._size(profile, changed, after)
            if type(size) is Problem:
                return Decision(before, patch, before, {}, [size])
            profile = Profile(profile.version + 1, profile.created_at, now, after, changed_at, size)  # type: ignore[arg-type]
        return Decision(before, patch, profile, outcomes, problems)

    def _first(self, profile: Profile, patch: Patch, now: int) -> Decision:
        """Merge into a profile without values: by every rule, the first one is taken as it is."""
        values: dict[str, Value] = {attribute.name: value for attribute, value in patch.entries}
        if not values:
            return Decision(profile, patch, profile, {}, [])
        size = self._size(profile, values, values)
        if type(size) is Problem:
            return Decision(profile, patch, profile, {}, [size])
        after = Profile(profile.version + 1, profile.created_at, now, values, {OTHER_ATTRIBUTES: now}, size)  # type: ignore[arg-type]
        return Decision(profile, patch, after, dict.fromkeys(values, _APPLIED), [])

    def _size(self, profile: Profile, changed: dict[str, Value], after: dict[str, Value]) -> int | Problem:
        """A bound on the bytes of the row after a write, or the problem with it. A row that is too large may shrink."""
        before = profile.maximum_bytes
        if before < 0:
            before = profile.maximum_bytes = row_bytes(profile.attributes)
        size = before + sum([maximum_bytes(name, value) for name, value in changed.items()])
        if size <= self.row_limit:
            return size
        size = row_bytes(after)
        if size <= self.row_limit or size <= row_bytes(profile.attributes):
            return size

        def growth(name: str) -> int:
            old = profile.attributes.get(name)
            return value_bytes(changed[name]) - (0 if old is None else value_bytes(old))

        return Problem(ProblemKind.ROW_LENGTH, max(changed, key=growth), {"bytes": str(size), "limit": str(self.row_limit)})


decide = Rules()
"""The rules with the usual bound."""
