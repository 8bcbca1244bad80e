"""The user table as of an earlier moment, for an export.

Every user is walked back from the present, as in :func:`usertable.domain.history.as_of`, but all of them together:

1. The blocks of history are read from the newest on, as far as they reach beyond the moment. What each change says about the
   row before it goes to a temporary file, in runs of some hundred thousand changes that are sorted by user.
2. The table is read by user, and with each page that part of every run that belongs to its users. Of all changes of an
   attribute, the oldest one tells its value at the moment.

So each block and each user is read once, in order, and memory has a run, or a part of every run.

A user's versions must continue from the moment to the present. If they do not, the user is walked back alone. If changes are
missing then, too, the whole export is refused, because no row may be wrong or left out.
"""

from __future__ import annotations

import contextlib
import io
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import IO

import msgspec

from usertable.domain.change import Change
from usertable.domain.errors import Problem, ProblemKind, Refused, refusal
from usertable.domain.history import PastUser, as_of, gone, moment_text
from usertable.domain.schema import Project, Rule
from usertable.files.disk import spooled
from usertable.files.export_options import export_options
from usertable.store.encoding import encode_attributes
from usertable.store.history import PLACES, HistoryBlock, Step, pack_steps, unpack_steps
from usertable.store.protocol import Snapshot
from usertable.store.records import Page, User
from usertable.wire.native.queries import ExportQuery

RUN_BYTES = 96 * 2**20
"""Approximate bytes of memory for the changes of a run."""
PACK_BYTES = 64 * 2**10
"""Bytes of changes that are compressed together. While a run is read, so many are in memory, and take ten times as much."""
LATE_MS = 10 * 60 * 1000
"""Milliseconds by which a block may be older than blocks with lower numbers: the clocks of servers differ, and a transaction
that decided first may commit later. See :data:`QUIET_BLOCKS`."""
QUIET_BLOCKS = 64
"""Number of successive blocks, all older than the moment by :data:`LATE_MS`, after which no more are read. A change that is
missed is noticed: its user is then walked back alone."""
TOGETHER = 16
"""Number of lists of attributes, sent together, of which a user's values before are in memory undecoded."""
_cuid_of = attrgetter("cuid")
_row_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_values_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_list_decoder = msgspec.json.Decoder(list[str])
_encode = msgspec.json.Encoder(decimal_format="number").encode
_NONE = b"null"


class _Run:
    """Changes by user, in a file.

    Args:
        parts: offset and length of each compressed part, in order.
    """

    def __init__(self, stream: IO[bytes], parts: Sequence[tuple[int, int]]) -> None:
        self._stream = stream
        self._parts = parts
        self.rewind()

    def rewind(self) -> None:
        """Begin with the first user again."""
        self._part = self._index = 0
        self._steps: list[Step] = []

    def until(self, cuid: int) -> Iterator[list[Step]]:
        """Yield the next changes, up to those of this user."""
        while True:
            if self._index == len(self._steps):
                if self._part == len(self._parts):
                    return
                offset, length = self._parts[self._part]
                self._stream.seek(offset)
                self._steps, self._index = unpack_steps(self._stream.read(length)), 0
                self._part += 1
            end = bisect_right(self._steps, cuid, self._index, key=_cuid_of)
            yield self._steps[self._index : end]
            self._index = end
            if end < len(self._steps):
                return


def _written(stream: IO[bytes], steps: list[tuple[int, bytes]], size: int) -> _Run:
    """Write changes to the end of a file, sorted by user.

    Args:
        steps: of each user from the newest to the oldest.
        size: bytes of all of them.
    """
    steps.sort(key=itemgetter(0))
    parts: list[tuple[int, int]] = []
    offset = stream.seek(0, io.SEEK_END)
    count = max(1, len(steps) * PACK_BYTES // size)
    for first in range(0, len(steps), count):
        length = stream.write(pack_steps([step for _, step in steps[first : first + count]]))
        parts.append((offset, length))
        offset += length
    return _Run(stream, parts)


def _runs(
    blocks: Iterator[HistoryBlock], moment: int, below: int, stream: IO[bytes], progress: Callable[[int], None]
) -> tuple[list[_Run], int]:
    """Write the changes after the moment to a file, the newest run first.

    Args:
        below: the caller asks for the number of the first of these changes, if it is below this number.

    Returns: the runs, and that number; otherwise `below`.
    """
    runs: list[_Run] = []
    steps: list[tuple[int, bytes]] = []
    size = read = quiet = 0
    for block in blocks:
        quiet = quiet + 1 if block.latest < moment - LATE_MS else 0
        if quiet == QUIET_BLOCKS:
            break
        if block.block * PLACES < below:
            below = min(below, block.first_after(moment) or below)
        found, used = block.steps_after(moment)
        steps += found
        size += used
        read += len(found)
        if size >= RUN_BYTES:
            runs.append(_written(stream, steps, size))
            steps, size = [], 0
        progress(read)
    if steps:
        runs.append(_written(stream, steps, size))
    return runs, below


class _Back:
    """The way back of a user, change by change, from the newest to the oldest.

    Args:
        version: of the row in the present.
    """

    __slots__ = ("befores", "identifiers", "is_whole", "reported", "restored", "since", "version")

    def __init__(self, version: int) -> None:
        self.version = version
        """The version before the last change."""
        self.since = -1
        """When the row of that version was last changed; -1 if it is the row of the present."""
        self.is_whole = True
        """Whether the versions have continued."""
        self.reported: dict[str, msgspec.Raw] = {}
        """By attributes that were sent together, their values before the oldest such change so far, encoded: those before
        later ones do not matter. The oldest is the last. What `befores` says is of later changes."""
        self.befores: dict[str, msgspec.Raw] = {}
        """By attribute, its value before the oldest change of it so far; for the rule append, the number of elements."""
        self.restored: dict[str, msgspec.Raw] = {}
        """By attribute with the rule append, its value before a restoration. What `befores` says of it is older."""
        self.identifiers: list[tuple[str, str]] = []
        """Identifier values that the user got."""

    def undo_report(self, step: Step) -> None:
        reported, names = self.reported, step.names
        reported.pop(names, None)
        reported[names] = step.befores
        if len(reported) > TOGETHER:
            self.settle()

    def undo_restoration(self, step: Step, appended: Set[str]) -> None:
        self.settle()
        for name, before in _values(step.names, step.befores):
            if name in appended:
                self.restored[name] = before
                self.befores.pop(name, None)
            else:
                self.befores[name] = before

    def settle(self) -> None:
        """Decode what `reported` has."""
        for names, befores in self.reported.items():
            self.befores.update(_values(names, befores))
        self.reported.clear()


def _values(names: str, befores: msgspec.Raw) -> Iterator[tuple[str, msgspec.Raw]]:
    """Return the attributes of a :class:`Step` with their values before."""
    return zip(names.split(",") if names else (), _values_decoder.decode(befores), strict=True)


@dataclass(slots=True)
class _Gaps:
    """Users whose changes after the moment are not all recorded."""

    users: int = 0
    first: int = 0
    """The first of them."""
    oldest: str = ""
    """The oldest moment from which the changes of all of them are recorded."""

    def add(self, cuid: int, refused: Refused) -> None:
        self.first = self.first if self.users else cuid
        self.users += 1
        self.oldest = max(self.oldest, *(str(problem.params["oldest"]) for problem in refused.problems))

    def check(self) -> None:
        """Raise Refused if there are any."""
        if self.users:
            raise refusal(ProblemKind.HISTORY_GAP, users=self.users, cuid=self.first, oldest=self.oldest)


class TableAsOf:
    """A project as of an earlier moment; a :class:`~usertable.store.protocol.UserTable`. Close it.

    Its schema is that of the present. Users that were created later are left out, and users that were erased since.

    Args:
        present: the project as of now.
        moment: milliseconds since 1970 UTC. Not after the moment of `present`.
        query: of the export.
        progress: called with the number of changes read so far.

    Raises:
        Refused: history is off or does not reach that far back, or the values of an attribute that a condition or a column
            names are not known from then.
    """

    def __init__(
        self, present: Snapshot, moment: int, query: ExportQuery, progress: Callable[[int], None] = lambda changes: None
    ) -> None:
        self.project: Project = present.project
        self._present = present
        self.moment = moment
        since = present.history_since()
        if since is None:
            raise refusal(ProblemKind.HISTORY_OFF, project=self.project.id)
        if since > moment:
            raise gone(since)
        schema = self.project.schema
        self.options = export_options(self.project, query)
        """How the table is to be written."""
        self._named = {*query.attributes.split(","), *(condition.attribute for condition in self.options.conditions)}
        self._unknown: frozenset[str] = frozenset()
        self.not_kept: list[str] = []
        """Columns whose values then are not known, because their history was off then or later. They are empty."""
        self._leave_out(a.name for a in schema.attributes.values() if not a.history_at(moment))
        self._appended = frozenset(a.name for a in schema.attributes.values() if a.rule is Rule.APPEND)
        self._stream = spooled(io.BytesIO())
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self.close)
            below = max((a.history_from for a in schema.attributes.values()), default=0)
            self._runs, first = _runs(present.history_blocks(), moment, below, self._stream, progress)
            self._leave_out(a.name for a in schema.attributes.values() if a.history_from > first)
            on_failure.pop_all()

    def _leave_out(self, names: Iterable[str]) -> None:
        """Take note of attributes whose values are not known. Raises Refused if one is named in the query."""
        self._unknown |= frozenset(names)
        self._unknown_keys = [b'"%b"' % name.encode() for name in self._unknown]
        if unknown := sorted(self._unknown & self._named):
            then = moment_text(self.moment)
            raise Refused([Problem(ProblemKind.ATTRIBUTE_NOT_KEPT, name, {"moment": then}) for name in unknown])
        self.not_kept = [a.name for a in self.options.attributes if a.name in self._unknown]

    def close(self) -> None:
        """Remove the temporary file."""
        self._stream.close()

    def count(self) -> int:
        """Return the number of users to examine: those of the present."""
        return self._present.count()

    def pages(self, *, rows: bool = False) -> Iterator[Page]:
        """Yield the users as of the moment.

        Raises:
            Refused: changes of users are missing. It is raised at the end, when all of them are known; until then, other
                users may have been yielded.
        """
        gaps = _Gaps()
        for run in self._runs:
            run.rewind()
        for page in self._present.pages(rows=True):
            past = self._past(page, gaps)
            if past and not gaps.users:
                yield past
        gaps.check()

    def _past(self, page: Page, gaps: _Gaps) -> Page:
        """Return a page as of the moment; possibly without users."""
        moment, unknown = self.moment, self._unknown
        assert page.rows is not None
        backs = self._backs(page)
        cuids: list[int] = []
        lines: list[bytes] = []
        rows: list[tuple[int, int, int]] = []
        values = dict(page.values)
        for position, (cuid, line, (version, created, updated)) in enumerate(
            zip(page.cuids, page.lines.split(b"\n"), page.rows, strict=True)
        ):
            if created > moment:
                values.pop(cuid, None)
                continue
            back = backs.get(position)
            row = (version, created, updated)
            if back is not None and back.since >= 0:
                row = (back.version, created, back.since)
            is_known = row[2] <= moment and (back is None or back.is_whole)
            if not is_known:
                past = self._alone(cuid, gaps)
                if past is None:
                    values.pop(cuid, None)
                    continue
                row = (past.version, created, past.updated_at)
                line = encode_attributes(past.attributes).encode()
                values[cuid] = past.identifiers
            elif back is not None:
                back.settle()
                if back.befores or back.restored:
                    line = self._line_before(line, back)
                if back.identifiers:
                    values[cuid] = _without(values.get(cuid, {}), back.identifiers)
            if any(key in line for key in self._unknown_keys):
                kept = _row_decoder.decode(line)
                line = _encode({name: value for name, value in kept.items() if name not in unknown})
            cuids.append(cuid)
            lines.append(line)
            rows.append(row)
        return Page(cuids, b"\n".join(lines), {cuid: found for cuid, found in values.items() if found}, rows)

    def _backs(self, page: Page) -> dict[int, _Back]:
        """Return the way back of the users of a page that changed since the moment, by their position on it."""
        appended = self._appended
        positions = {cuid: position for position, cuid in enumerate(page.cuids)}
        rows = page.rows
        assert rows is not None
        backs: dict[int, _Back] = {}
        for run in self._runs:
            for steps in run.until(page.cuids[-1]):
                for step in steps:
                    position = positions.get(step.cuid)
                    version = step.version
                    # On Citus, history may be newer than the row.
                    if position is None or version > rows[position][0]:
                        continue
                    back = backs.get(position)
                    if back is None:
                        back = backs[position] = _Back(rows[position][0])
                    if step.identifiers:
                        back.identifiers += step.identifiers
                    if not step.changed:
                        continue
                    if version != back.version:
                        back.is_whole = False
                    back.version, back.since = version - 1, step.since
                    if step.is_undo:
                        back.undo_restoration(step, appended)
                    elif step.names:
                        back.undo_report(step)
        return backs

    def _line_before(self, line: bytes, back: _Back) -> bytes:
        row = _row_decoder.decode(line)
        for name, value in back.restored.items():
            _set(row, name, value)
        for name, before in back.befores.items():
            if name not in self._appended:
                _set(row, name, before)
                continue
            elements = _elements(bytes(before))
            if elements is None:
                row.pop(name, None)
            elif name in row:
                row[name] = msgspec.Raw(_encode(_list_decoder.decode(row[name])[:elements]))
        return _encode(row)

    def _alone(self, cuid: int, gaps: _Gaps) -> PastUser | None:
        """Return a user as of the moment; None if it was erased meanwhile, or if its changes are not all kept."""
        schema = self.project.schema

        def work(user: User | None, changes: Iterator[Change]) -> PastUser | None:
            if user is None:
                return None
            p = user.profile
            present = PastUser(cuid, p.version, p.created_at, p.updated_at, p.attributes, user.identifiers)
            try:
                past = as_of(present, changes, self.moment, schema)
                if past is not None and not self._unknown.issuperset(past.not_kept):
                    raise gone(p.updated_at)
                return past
            except Refused as refused:
                gaps.add(cuid, refused)
                return None

        return self._present.with_changes(cuid, work, self.moment)


def _set(row: dict[str, msgspec.Raw], name: str, value: msgspec.Raw) -> None:
    if bytes(value) == _NONE:
        row.pop(name, None)
    else:
        row[name] = value


def _elements(before: bytes) -> int | None:
    """Return the number of elements that a list had, from `null`, `3`, or `[3,["added"]]`; None if there was no list."""
    if before == _NONE:
        return None
    return int(before[1 : before.index(b",")] if before.startswith(b"[") else before)


def _without(values: Mapping[str, list[str]], got: Sequence[tuple[str, str]]) -> Mapping[str, list[str]]:
    """Return a user's identifier values without some."""
    left = {name: [value for value in found if (name, value) not in got] for name, found in values.items()}
    return {name: found for name, found in left.items() if found}
