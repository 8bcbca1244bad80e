"""Who owns an identifier's value, and whether a user may have one more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from usertable.domain.errors import Problem, ProblemKind, excerpt
from usertable.domain.schema import IDENTIFIER_VALUES, Schema

Pair = tuple[str, str]
"""An identifier and a value: `("phone", "18012345678")`."""
Owners = Mapping[Pair, int]
"""The CUID that a pair points to. Nobody owns a pair that is not in it."""


def owner(cuid: int | None, pairs: Sequence[Pair], owners: Owners) -> int | None:
    """Whom a CUID and pairs mean: the CUID, else the owner of the first pair that has one; None for nobody."""
    if cuid is not None:
        return cuid
    return next((found for pair in pairs if (found := owners.get(pair)) is not None), None)


def added(pairs: Sequence[Pair], owners: Owners) -> list[Pair]:
    """The pairs that nobody owns."""
    return [pair for pair in pairs if pair not in owners]


def problems_with(
    schema: Schema,
    cuid: int | None,
    pairs: Sequence[Pair],
    owners: Owners,
    have: Mapping[str, Sequence[str]],
    *,
    may_add: bool,
) -> list[Problem]:
    """What keeps a user from owning all these pairs.

    Args:
        cuid: the user's; None for one that is not made yet.
        have: the values that the user has by identifier.
        may_add: whether pairs that nobody owns may become the user's.
    """
    problems = [
        Problem(ProblemKind.IDENTIFIER_TAKEN, name, {"value": excerpt(value)})
        for name, value in pairs
        if owners.get((name, value), cuid) != cuid
    ]
    missing = added(pairs, owners)
    if not may_add:
        return problems + [Problem(ProblemKind.CUID_UNKNOWN, None, {"cuid": excerpt(f"{n}={v}")}) for n, v in missing]
    names = [name for name, _ in missing]
    for name in dict.fromkeys(names):
        limit = 1 if schema.identifier(name).unique else IDENTIFIER_VALUES
        if len(have.get(name, ())) + names.count(name) > limit:
            params = {"cuid": "new" if cuid is None else str(cuid), "limit": str(limit)}
            problems.append(Problem(ProblemKind.IDENTIFIER_FULL, name, params))
    return problems
