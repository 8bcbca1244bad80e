"""THE RULES: how a validated value is merged with the stored one. Nothing else in usertable decides that.

Pure functions: no clock, no I/O, no randomness. A store loads a profile, calls :data:`decide` in its own transaction, and
stores the result.
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
"""Maximum bytes of a user's row, unless the setting `row_limit` differs; see :func:`row_bytes`."""

_Merged = tuple[Any, Outcome] | Problem

# Looked up once, because looking up an enum member costs more than the rest of a rule.
_APPLIED, _UNCHANGED, _KEPT = Outcome.APPLIED, Outcome.UNCHANGED, Outcome.KEPT


_FEW = 4
"""Maximum number of new elements that are searched for in the stored list itself instead of in a set of it."""


def _overwrite(attribute: Attribute, stored: Any, value: Any) -> _Merged:
    """The new value replaces the stored one."""
    return value, _UNCHANGED if stored == value else _APPLIED


def _once(attribute: Attribute, stored: Any, value: Any) -> _Merged:
    """The first value stays. Later ones are ignored, which counts as success."""
    return (value, _APPLIED) if stored is None else (stored, _KEPT)


def _accumulate(attribute: Attribute, stored: Any, value: Any) -> _Merged:
    """Starts at 0. Every value is added, exactly. A sum outside a NUMBER's range is refused."""
    if stored is None:
        return value, _APPLIED
    total = add(stored, value)
    if total is None:
        params = {"stored": number_text(stored), "value": number_text(value), "digits": str(NUMBER_DIGITS)}
        return Problem(ProblemKind.ACCUMULATE_RANGE, attribute.name, params)
    return total, _APPLIED if value else _UNCHANGED


def _append(attribute: Attribute, stored: Any, value: Any) -> _Merged:
    """Adds the elements that are not in the list yet, in the order of first arrival. Exceeding the maximum is refused."""
    if stored is None:
        return value, _APPLIED
    # Searching a list for a few elements is faster than building a set of it.
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
"""For each rule: `merge(attribute, stored value or None, new value)` returns the result with its outcome, or a problem."""


def _restore(attribute: Attribute, stored: Any, value: Any) -> _Merged:
    """Set or remove the value, whatever the rule."""
    if value is ABSENT:
        return ABSENT, _UNCHANGED if stored is None else _APPLIED
    return _overwrite(attribute, stored, value)


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules, with the maximum size of a row. Pickled to other processes.

    Args:
        row_limit: maximum bytes of a user's row.
    """

    row_limit: int = ROW_LIMIT

    def __call__(self, profile: Profile, patch: Patch | Restoration, now: int) -> Decision:
        """Merge `patch` into `profile` at `now` (ms since 1970 UTC), by each attribute's rule.

        All or nothing: if there is a problem, the decision has the old profile and every problem. The version is incremented
        if anything changed. Otherwise the same profile object is returned and there is nothing to write.
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
            # A clock that was set back does not make a row older than it is.
            now = max(now, profile.updated_at)
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
            profile.head, profile.sole_actor = before.head, before.sole_actor
        return Decision(before, patch, profile, outcomes, problems)

    def _first(self, profile: Profile, patch: Patch, now: int) -> Decision:
        """Merge into a profile without values: every rule stores the first value as it is."""
        values: dict[str, Value] = {attribute.name: value for attribute, value in patch.entries}
        if not values:
            return Decision(profile, patch, profile, {}, [])
        size = self._size(profile, values, values)
        if type(size) is Problem:
            return Decision(profile, patch, profile, {}, [size])
        now = max(now, profile.updated_at)
        after = Profile(profile.version + 1, profile.created_at, now, values, {OTHER_ATTRIBUTES: now}, size)  # type: ignore[arg-type]
        after.head = profile.head
        return Decision(profile, patch, after, dict.fromkeys(values, _APPLIED), [])

    def _size(self, profile: Profile, changed: dict[str, Value], after: dict[str, Value]) -> int | Problem:
        """Return an upper bound of the row's bytes after a write, or the problem. A row that is too large may shrink."""
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
"""The rules with the default row limit."""
