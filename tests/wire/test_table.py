"""Writing rows: whole columns at once come to what each value by itself comes to."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from usertable.wire.columns import EARLIEST, LATEST, Moments, moment_text

HOUR = 3_600_000
CHANGES = [
    ("Asia/Shanghai", datetime(1986, 5, 3, 18, tzinfo=UTC)),
    ("Asia/Shanghai", datetime(1900, 12, 31, 15, 54, 17, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2024, 3, 31, 1, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2024, 10, 27, 1, tzinfo=UTC)),
    ("America/St_Johns", datetime(2024, 11, 3, 4, 30, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2024, 4, 6, 15, tzinfo=UTC)),
    # A day that was left out, and one that was there twice.
    ("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),
    ("Pacific/Kwajalein", datetime(1969, 9, 30, 13, tzinfo=UTC)),
    ("Asia/Kathmandu", datetime(1985, 12, 31, 18, 30, tzinfo=UTC)),
    ("UTC", datetime(1970, 1, 1, tzinfo=UTC)),
]


@st.composite
def columns(draw: st.DrawFn) -> tuple[ZoneInfo, list[int | None]]:
    zone, change = draw(st.sampled_from(CHANGES))
    at = int(change.timestamp()) * 1000
    near = st.integers(-100 * HOUR // 1000, 100 * HOUR // 1000).map(lambda seconds: at + 1000 * seconds)
    anywhen = st.integers(EARLIEST // 1000, LATEST // 1000).map(lambda seconds: 1000 * seconds)
    broken = st.integers(at - 9 * HOUR, at + 9 * HOUR)
    cell = st.none() | near | anywhen
    return ZoneInfo(zone), draw(st.lists(draw(st.sampled_from([cell, cell, cell | broken])), max_size=30))


@settings(max_examples=300, deadline=None)
@given(columns())
def test_many_moments_come_to_what_each_comes_to(column: tuple[ZoneInfo, list[int | None]]) -> None:
    zone, moments = column
    assert Moments(zone).texts(moments) == [None if ms is None else moment_text(ms, zone) for ms in moments]
