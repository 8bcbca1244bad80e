"""DATETIMEs as texts for a file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta, tzinfo

from usertable.domain.values import DEFAULT_LIMITS, PARSERS, DataType, datetime_text
from usertable.files.options import MomentStyle

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def moment_text(ms: int, zone: tzinfo, style: MomentStyle = "local") -> str:
    """Return a DATETIME for a file.

    `local`: `2024-10-27 02:30:00` in the zone if that is unambiguous, else as `offset`. `offset`: in the zone, with its
    offset, `2024-10-27 02:30:00+02:00`. `utc`: `2024-10-27 00:30:00Z`. With milliseconds only if they are not zero.
    """
    if style == "local" and not ms % 1000:
        text = datetime_text(ms, zone)
        if PARSERS[DataType.DATETIME]("", text, zone, DEFAULT_LIMITS) == ms:
            return text
    moment = (_EPOCH + timedelta(milliseconds=ms)).astimezone(UTC if style == "utc" else zone)
    text = moment.isoformat(" ", "milliseconds" if ms % 1000 else "seconds")
    return text.removesuffix("+00:00") + "Z" if style == "utc" else text


_HOUR, _DAY = 3_600_000, 86_400_000
_IN_HOUR = {second * 1000: f"{second // 60:02}:{second % 60:02}" for second in range(3600)}
_HOURS_KEPT = 100_000


class Moments:
    """Many DATETIMEs for a file, as :func:`moment_text` formats them, from cached texts of whole hours."""

    def __init__(self, zone: tzinfo, style: MomentStyle = "local") -> None:
        self._zone = zone
        self._style: MomentStyle = style
        self._hours = _Hours(UTC if style == "utc" else zone)
        self._ends = None if style == "local" else _Ends(zone, style, self._hours.shift)

    def texts(self, moments: Iterable[int | None]) -> list[str | None]:
        """Return the texts of some times, None where there is none."""
        hours, shift, zone, style, ends = self._hours, self._hours.shift, self._zone, self._style, self._ends
        cells = list(moments)
        shifted = [None if ms is None else ms + shift for ms in cells] if shift else cells
        try:
            if ends is not None:
                return [
                    None
                    if ms is None
                    else hour + _IN_HOUR[ms % _HOUR] + ends[ms // _HOUR]
                    if (hour := hours[ms // _HOUR])
                    else moment_text(ms - shift, zone, style)
                    for ms in shifted
                ]
            return [
                None
                if ms is None
                else hour + _IN_HOUR[ms % _HOUR]
                if (hour := hours[ms // _HOUR])
                else moment_text(ms - shift, zone)
                for ms in shifted
            ]
        except KeyError:
            # Some are not whole seconds.
            return [None if ms is None else moment_text(ms, zone, style) for ms in cells]


class _Hours(dict[int, str]):
    """`yyyy-MM-dd HH:` by hour since 1970, shifted so that a zone's hours begin on the hour; "" where they do not."""

    def __init__(self, zone: tzinfo) -> None:
        self._offsets = _Offsets(zone)
        # The shift on some day. Hours for which it is wrong have no text.
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


class _Ends(dict[int, str]):
    """The text after the seconds, by hour as in :class:`_Hours`: `+02:00`."""

    def __init__(self, zone: tzinfo, style: MomentStyle, shift: int) -> None:
        self._zone = zone
        self._style = style
        self._shift = shift

    def __missing__(self, hour: int) -> str:
        if len(self) >= _HOURS_KEPT:
            self.clear()
        begin = hour * _HOUR - self._shift
        end = self[hour] = moment_text(begin, self._zone, self._style)[len("2024-10-27 02:30:00") :]
        return end


class _Offsets(dict[int, int | None]):
    """Milliseconds by which a zone is ahead of UTC, by UTC day; None if that changes within a day, or the calendar ends."""

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
