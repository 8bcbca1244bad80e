"""Moments in a file: the forms that an import takes, for every format, and how finely they are kept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, tzinfo

from usertable.domain.errors import Problem, ProblemKind, excerpt
from usertable.domain.values import DEFAULT_LIMITS, PARSERS, DataType

MOMENT_FORMS = (
    "yyyy-MM-dd HH:mm:ss, with T in place of the blank, a fraction of up to nine digits,"
    " and Z or an offset such as +08:00 if you like"
)


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment as it is kept."""

    ms: int
    """Milliseconds since 1970-01-01 UTC."""
    is_cut: bool = False
    """Whether it was given more finely than that."""


def moment_at(count: int, per_second: int) -> Moment:
    """The moment so many units after 1970-01-01 UTC: of a column of timestamps. `per_second` is 10**9 for nanoseconds."""
    ms, rest = divmod(count * 1000, per_second)
    return Moment(ms, rest != 0)


_FORM = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})[ T](?P<clock>[0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(?:\.(?P<fraction>[0-9]{1,9}))?"
    r"(?P<offset>Z|(?P<sign>[+-])(?P<hours>[01][0-9]|2[0-3])(?::?(?P<minutes>[0-5][0-9])(?::(?P<seconds>[0-5][0-9]))?)?)?"
)


def parse_moment(name: str, text: str, zone: tzinfo) -> Moment | Problem:
    """The moment that a text of a DATETIME's column means, to the millisecond: `2024-05-01T12:00:00.123456+08`.

    Without an offset it is local time in `zone`. What is finer than a millisecond is cut off, towards the past.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        params = {"type": DataType.DATETIME.value, "value": excerpt(text), "expected": MOMENT_FORMS}
        return Problem(ProblemKind.VALUE_TYPE, name, params)
    is_local = found["offset"] is None
    parse = PARSERS[DataType.DATETIME]
    begin = parse(name, f"{found['day']} {found['clock']}", zone if is_local else UTC, DEFAULT_LIMITS)
    if isinstance(begin, Problem):
        params = {**begin.params, "value": excerpt(text)}
        if begin.kind is ProblemKind.VALUE_TYPE:
            params["expected"] = MOMENT_FORMS
        return Problem(begin.kind, name, params)
    assert type(begin) is int
    fraction = (found["fraction"] or "").ljust(9, "0")
    ahead = 0
    if found["sign"]:
        ahead = (int(found["hours"]) * 60 + int(found["minutes"] or 0)) * 60 + int(found["seconds"] or 0)
        ahead = -ahead if found["sign"] == "-" else ahead
    return Moment(begin + int(fraction[:3]) - ahead * 1000, fraction[3:].strip("0") != "")
