"""Who owns an identifier value, and whether a user may have another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from usertable.domain.errors import Problem, ProblemKind, excerpt
from usertable.domain.schema import IDENTIFIER_VALUES, Schema

Pair = tuple[str, str]
"""An identifier and a value: `("phone", "18012345678")`."""
Owners = Mapping[Pair, int]
"""The CUID that owns each pair. A pair that is missing has no owner."""


def owner(cuid: int | None, pairs: Sequence[Pair], owners: Owners) -> int | None:
    """Return the user that a CUID and pairs refer to: the CUID, else the owner of the first owned pair; None for nobody."""
    if cuid is not None:
        return cuid
    return next((found for pair in pairs if (found := owners.get(pair)) is not None), None)


def added(pairs: Sequence[Pair], owners: Owners) -> list[Pair]:
    """Return the pairs that nobody owns."""
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
    """Return the problems that prevent a user from owning all these pairs.

    Args:
        cuid: the user's CUID; None for a user that does not exist yet.
        have: the user's values by identifier.
        may_add: whether pairs that nobody owns may be assigned to the user.
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
