"""DATETIMEs as texts for a file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta, tzinfo

from usertable.domain.values import DEFAULT_LIMITS, PARSERS, DataType, datetime_text

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def moment_text(ms: int, zone: tzinfo) -> str:
    """A DATETIME for a file: `yyyy-MM-dd HH:mm:ss` in the zone if that means this very moment, else with an offset."""
    if not ms % 1000:
        text = datetime_text(ms, zone)
        if PARSERS[DataType.DATETIME]("", text, zone, DEFAULT_LIMITS) == ms:
            return text
    return (_EPOCH + timedelta(milliseconds=ms)).astimezone(zone).isoformat(" ", "milliseconds" if ms % 1000 else "seconds")


_HOUR, _DAY = 3_600_000, 86_400_000
_IN_HOUR = {second * 1000: f"{second // 60:02}:{second % 60:02}" for second in range(3600)}
_HOURS_KEPT = 100_000


class Moments:
    """DATETIMEs for a file, many at once: as :func:`moment_text` makes them, from texts of whole hours."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone
        self._hours = _Hours(zone)

    def texts(self, moments: Iterable[int | None]) -> list[str | None]:
        """The texts of some moments, None where there is none."""
        hours, shift, zone = self._hours, self._hours.shift, self._zone
        cells = list(moments)
        shifted = [None if ms is None else ms + shift for ms in cells] if shift else cells
        try:
            return [
                None
                if ms is None
                else hour + _IN_HOUR[ms % _HOUR]
                if (hour := hours[ms // _HOUR])
                else moment_text(ms - shift, zone)
                for ms in shifted
            ]
        except KeyError:
            # Some are no whole seconds.
            return [None if ms is None else moment_text(ms, zone) for ms in cells]


class _Hours(dict[int, str]):
    """`yyyy-MM-dd HH:` by hour since 1970, counted so that a zone's hours begin on the hour; "" where that does not hold."""

    def __init__(self, zone: tzinfo) -> None:
        self._offsets = _Offsets(zone)
        # Of one day, as good as any other: hours that it does not hold for have no text.
        self.shift = (self._offsets[20_000] or 0) % _HOUR

    def __missing__(self, hour: int) -> str:
        if len(self) >= _HOURS_KEPT:
            self.clear()
        begin = hour * _HOUR - self.shift
        offset = self._offsets[begin // _DAY]
        made = ""
        if offset is not None and offset % _HOUR == self.shift:
            day, rest = divmod(begin + offset, _DAY)
            made = f"{date.fromordinal(_EPOCH.toordinal() + day)} {rest // _HOUR:02}:"
        self[hour] = made
        return made


class _Offsets(dict[int, int | None]):
    """Milliseconds that a zone is ahead of UTC by UTC day; None if that changes within a day of it, or the calendar ends."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone

    def __missing__(self, day: int) -> int | None:
        found = None
        with contextlib.suppress(OverflowError, ValueError):
            around = [_EPOCH + timedelta(days=day + days) for days in (-1, 0, 1, 2)]
            offsets = {moment.astimezone(self._zone).utcoffset() for moment in around}
            if len(offsets) == 1:
                found = (offsets.pop() or timedelta()) // _MILLISECOND
        self[day] = found
        return found
