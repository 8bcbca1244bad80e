"""Times in a file: the forms that an import accepts, for every format, and their stored precision."""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from usertable.domain.errors import Problem, ProblemKind, excerpt
from usertable.domain.phrases import Param, Phrase, PhraseKind
from usertable.domain.values import DEFAULT_LIMITS, PARSERS, DataType

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
_FORMS = Phrase(PhraseKind.MOMENT_FORM)


@dataclass(frozen=True, slots=True)
class Moment:
    """A time as stored."""

    ms: int
    """Milliseconds since 1970-01-01 UTC."""
    is_cut: bool = False
    """Whether it was given with a higher precision."""


def moment_at(count: int, per_second: int) -> Moment:
    """Return the time that is `count` units after 1970-01-01 UTC. `per_second` is 10**9 for nanoseconds."""
    ms, rest = divmod(count * 1000, per_second)
    return Moment(ms, rest != 0)


_FORM = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})[ T](?P<clock>[0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(?:\.(?P<fraction>[0-9]{1,9}))?"
    r"(?P<offset>Z|(?P<sign>[+-])(?P<hours>[01][0-9]|2[0-3])(?::?(?P<minutes>[0-5][0-9])(?::(?P<seconds>[0-5][0-9]))?)?)?"
)


def parse_moment(name: str, text: str, zone: tzinfo) -> Moment | Problem:
    """Parse a time in a DATETIME's column, to the millisecond: `2024-05-01T12:00:00.123456+08`.

    Without an offset it is local time in `zone`. Digits below a millisecond are cut off, which rounds towards the past.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        params: dict[str, Param] = {"type": DataType.DATETIME.value, "value": excerpt(text), "expected": _FORMS}
        return Problem(ProblemKind.VALUE_TYPE, name, params)
    is_local = found["offset"] is None
    parse = PARSERS[DataType.DATETIME]
    begin = parse(name, f"{found['day']} {found['clock']}", zone if is_local else UTC, DEFAULT_LIMITS)
    if isinstance(begin, Problem):
        params = {**begin.params, "value": excerpt(text)}
        if begin.kind is ProblemKind.VALUE_TYPE:
            params["expected"] = _FORMS
        return Problem(begin.kind, name, params)
    assert type(begin) is int
    fraction = (found["fraction"] or "").ljust(9, "0")
    ahead = 0
    if found["sign"]:
        ahead = (int(found["hours"]) * 60 + int(found["minutes"] or 0)) * 60 + int(found["seconds"] or 0)
        ahead = -ahead if found["sign"] == "-" else ahead
    return Moment(begin + int(fraction[:3]) - ahead * 1000, fraction[3:].strip("0") != "")


_PARTS = re.compile(
    r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
    r"(?:[ T](?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(?P<second>:[0-9]{2}(?:\.[0-9]{1,9})?)?(?P<offset>Z|[ +-][0-9:]+)?)?"
)


def expected_moment(text: str) -> Phrase:
    """Return what `text`, which is not a day or a moment, should have been: as `a day of 2026-02, 01 to 28`."""
    found = _PARTS.fullmatch(text)
    if found is None or found["year"] == "0000":
        return Phrase(PhraseKind.DAY_OR_MOMENT)
    year, month = int(found["year"]), int(found["month"])
    if not 1 <= month <= 12:
        return Phrase(PhraseKind.MONTH)
    last = monthrange(year, month)[1]
    if not 1 <= int(found["day"]) <= last:
        return Phrase(PhraseKind.DAY_OF_MONTH, {"month": f"{year:04}-{month:02}", "last": str(last)})
    if found["hour"] is None:
        return Phrase(PhraseKind.DAY_OR_MOMENT)
    if int(found["hour"]) > 23:
        return Phrase(PhraseKind.HOUR)
    if int(found["minute"]) > 59 or int((found["second"] or ":00")[1:3]) > 59:
        return Phrase(PhraseKind.MINUTES_AND_SECONDS)
    if found["second"] is None:
        return Phrase(PhraseKind.WITH_SECONDS)
    if (found["offset"] or "").startswith(" "):
        # A + in a URL stands for a space.
        return Phrase(PhraseKind.PLUS_OF_OFFSET)
    return Phrase(PhraseKind.DAY_OR_MOMENT)


def after_skipped(text: str, zone: tzinfo) -> str:
    """Return the first minute after a local time, or a day, that `zone` skips: `2024-03-31 03:00:00` after 02:30:00."""
    local = datetime.fromisoformat(text[:19]).replace(second=0)
    while True:
        local += timedelta(minutes=1)
        found = parse_moment("", local.isoformat(" "), zone)
        if isinstance(found, Moment) or found.kind is not ProblemKind.DATETIME_SKIPPED:
            return local.isoformat(" ")


def first_moment(name: str, day: str, zone: tzinfo) -> Moment | Problem:
    """Parse a day, and return its first moment in `zone`: 01:00 where clocks are set forward at midnight."""
    for minute in range(24 * 60):
        found = parse_moment(name, f"{day} {minute // 60:02}:{minute % 60:02}:00", zone)
        if isinstance(found, Moment) or found.kind is not ProblemKind.DATETIME_SKIPPED:
            break
    return found
