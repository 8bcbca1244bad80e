"""The members `cuid` and `data` of a request that sets attributes, in JSON."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from usertable.domain.errors import Problem, ProblemKind
from usertable.domain.identity import malformed_cuid

_DIGITS = re.compile(r"0|-?[1-9][0-9]{0,19}")


@dataclass(slots=True)
class SetRequest:
    """A decoded PUT: what could be read, and the problems of its form."""

    cuid: int | None = None
    data: dict[str, Any] | None = None
    problems: list[Problem] = field(default_factory=list)


def read_set(members: dict[str, Any], request: SetRequest) -> None:
    """Fill `request` from the members `cuid` and `data` of a PUT or a batch's record."""
    data = members.get("data")
    if type(data) is dict and data:
        request.data = data
    else:
        kind = (
            ProblemKind.DATA_MISSING
            if "data" not in members
            else ProblemKind.DATA_EMPTY
            if data == {}
            else ProblemKind.DATA_NOT_OBJECT
        )
        request.problems.append(Problem(kind))
    cuid = members.get("cuid")
    if cuid is None or cuid == "":
        request.problems.append(Problem(ProblemKind.CUID_MISSING))
        return
    if type(cuid) is str and _DIGITS.fullmatch(cuid):
        cuid = int(cuid)
    if type(cuid) is int and -(2**63) <= cuid < 2**63:
        request.cuid = cuid
    else:
        request.problems.append(malformed_cuid(cuid))
