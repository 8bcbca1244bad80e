"""History: the recorded changes of a user, and the user's row as of an earlier moment.

A change contains what was sent and what stood before, so a row is walked back from the present, change by change. Nothing
older than the moment asked for is needed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from usertable.domain.change import AttributeChange, Change, ChangeKind, Report
from usertable.domain.errors import ProblemKind, Refused, refusal
from usertable.domain.merge import RULES
from usertable.domain.profile import Outcome
from usertable.domain.schema import Attribute, Rule, Schema
from usertable.domain.values import ABSENT, Absent, Value


def effect(change: Change, attribute: Attribute) -> AttributeChange:
    """Return the effect of a recorded change on an attribute, by its rule.

    For the rule append, `before` and `after` are ABSENT: see :class:`~usertable.domain.change.Report`.
    """
    report = change.reports[attribute.name]
    if change.kind is ChangeKind.UNDO:
        outcome = Outcome.UNCHANGED if report.before == report.sent else Outcome.APPLIED
        return AttributeChange(report.sent, report.before, report.sent, outcome)
    if attribute.rule is Rule.APPEND:
        outcome = Outcome.UNCHANGED if report.added == [] else Outcome.APPLIED
        return AttributeChange(report.sent, ABSENT, ABSENT, outcome)
    stored = None if report.before is ABSENT else report.before
    after, outcome = RULES[attribute.rule](attribute, stored, report.sent)  # type: ignore[misc]
    return AttributeChange(report.sent, report.before, after, outcome)


@dataclass(slots=True)
class PastUser:
    """A user as of a moment."""

    cuid: int
    version: int
    created_at: int
    updated_at: int
    attributes: dict[str, Value]
    identifiers: dict[str, list[str]]
    not_kept: list[str] = field(default_factory=list)
    """Attributes whose values at that moment are unknown, because their history was off then or later."""


UNREAD_CHANGES = 32
"""Number of changes whose reports may be kept unread. Each may keep a block of history in memory, or two large values."""


class Rewinding:
    """A user's row on the way back from the present.

    What stood before the oldest change of an attribute is its value. So reports are read only when the row is, and only
    those of the oldest change of each attribute; but after 32 changes at the latest, so that few are kept.

    Args:
        present: the row now.
    """

    def __init__(self, present: PastUser) -> None:
        attributes = dict(present.attributes)
        identifiers = {name: list(values) for name, values in present.identifiers.items()}
        self._user = replace(present, attributes=attributes, identifiers=identifiers)
        self._replaced: dict[str, Mapping[str, Report]] = {}
        """By attribute, the reports of the last change that was taken back, and not read yet."""
        self._appended: dict[str, Mapping[str, Report]] = {}
        """The same of those that added elements to a list, which is the one of `_replaced` if it is there."""
        self._unread = 0
        """Number of changes that were taken back since reports were read."""
        self.pending: Change | None = None
        """The newest change that was read and not taken back; None if there is none."""
        self._oldest: int | None = None
        """The number of the last change of the row that was taken back; None if none was."""

    def follows(self, change: Change) -> bool:
        """Return whether the row is what the change left. If not, writes in between were not recorded."""
        return change.version == self._user.version

    @property
    def user(self) -> PastUser:
        """The row before the changes that were taken back."""
        self._read_reports()
        return self._user

    def _read_reports(self) -> None:
        attributes = self._user.attributes
        for name, reports in self._replaced.items():
            before = reports[name].before
            if before is ABSENT:
                attributes.pop(name, None)
            else:
                attributes[name] = before
        for name, reports in self._appended.items():
            elements = reports[name].elements
            if elements is None:
                attributes.pop(name, None)
            elif name in attributes:
                attributes[name] = attributes[name][:elements]  # type: ignore[index]
        self._replaced, self._appended, self._unread = {}, {}, 0

    def undo(self, change: Change, schema: Schema) -> None:
        """Take a change back. It must be the one that left the row."""
        user, reports = self._user, change.reports
        for name in reports if change.changed else ():
            attribute = schema.attributes.get(name)
            if attribute is None:
                continue
            if attribute.rule is Rule.APPEND and change.kind is not ChangeKind.UNDO:
                self._appended[name] = reports
            else:
                self._replaced[name] = reports
                self._appended.pop(name, None)
        self._unread += 1
        if self._unread == UNREAD_CHANGES:
            self._read_reports()
        for name, value in change.identifiers:
            values = user.identifiers.get(name, [])
            if value in values:
                values.remove(value)
            if not values:
                user.identifiers.pop(name, None)
        if change.changed:
            self._oldest = change.number
            user.version -= 1
            user.updated_at = change.since

    def rewind(self, changes: Iterator[Change], moment: int, schema: Schema) -> Iterator[Change]:
        """Take the changes after a moment back, and yield each that was.

        Args:
            changes: the user's changes, newest first. The one that is read last and not taken back is in `pending`.
        """
        while (change := self.pending or next(changes, None)) is not None:
            self.pending = change
            if change.at <= moment or change.kind is ChangeKind.CREATED or not self.follows(change):
                return
            self.undo(change, schema)
            self.pending = None
            yield change

    def reached(self, moment: int, schema: Schema) -> PastUser | None:
        """Return the user as of the moment up to which changes were taken back, or None if it did not exist then.

        Raises:
            Refused: the changes do not reach that far back (`history_gone`).
        """
        change, row = self.pending, self._user
        if change is not None and change.kind is ChangeKind.CREATED and change.at > moment and self.follows(change):
            return None
        if row.updated_at > moment:
            raise gone(row.updated_at)
        oldest = self._oldest
        not_kept = [
            name
            for name, attribute in schema.attributes.items()
            if not attribute.history_at(moment) or (oldest is not None and oldest < attribute.history_from)
        ]
        attributes = {name: value for name, value in self.user.attributes.items() if name not in not_kept}
        identifiers = {name: list(values) for name, values in row.identifiers.items()}
        return replace(row, attributes=attributes, identifiers=identifiers, not_kept=not_kept)


def as_of(present: PastUser, changes: Iterable[Change], moment: int, schema: Schema) -> PastUser | None:
    """Return the user as of `moment` (ms since 1970 UTC), or None if the user did not exist then.

    Args:
        changes: the user's changes, newest first, as far as they are kept.

    Raises:
        Refused: the changes do not reach that far back (`history_gone`).
    """
    if moment < present.created_at:
        return None
    past = Rewinding(present)
    for _ in past.rewind(iter(changes), moment, schema):
        pass
    return past.reached(moment, schema)


@dataclass(slots=True)
class Difference:
    """How an attribute differs between two moments."""

    before: Value | Absent
    after: Value | Absent
    changes: int
    """Number of changes of it in between."""
    last: Change | None
    """The newest of them, without its reports."""


def difference(
    present: PastUser, changes: Iterable[Change], start: int, end: int, schema: Schema
) -> tuple[PastUser | None, PastUser | None, dict[str, Difference]]:
    """Return a user as of two moments, and the attributes that differ, or that changed in between, by name.

    Each change is read once and not kept, because a user may have many large ones.

    Args:
        changes: the user's changes, newest first, as far as they are kept.
        start: the earlier moment, in ms since 1970 UTC.
        end: not before `start`.

    Raises:
        Refused: the changes do not reach back to a moment at which the user existed (`history_gone`).
    """
    if end < present.created_at:
        return None, None, {}
    unread, past = iter(changes), Rewinding(present)
    for _ in past.rewind(unread, end, schema):
        pass
    second, first = past.reached(end, schema), None
    counts: dict[str, int] = {}
    newest: dict[str, Change] = {}
    between = past.rewind(unread, start, schema)
    if start < present.created_at:
        # There is nothing to walk back to.
        between = itertools.chain([past.pending] if past.pending else [], unread)
    for change in between:
        for name in _changed(change, schema):
            counts[name] = counts.get(name, 0) + 1
            if name not in newest:
                newest[name] = replace(change, reports={})
    if start >= present.created_at:
        first = past.reached(start, schema)
    before = first.attributes if first else {}
    after = second.attributes if second else {}
    names = dict.fromkeys(counts) | dict.fromkeys(
        name for name in (*before, *after) if before.get(name, ABSENT) != after.get(name, ABSENT)
    )
    found = {
        name: Difference(before.get(name, ABSENT), after.get(name, ABSENT), counts.get(name, 0), newest.get(name))
        for name in names
    }
    return first, second, found


def _changed(change: Change, schema: Schema) -> Iterator[str]:
    """Yield the attributes whose values a change replaced. It may have sent others too."""
    for name in change.reports if change.changed else ():
        attribute = schema.attributes.get(name)
        if attribute is not None and effect(change, attribute).outcome is Outcome.APPLIED:
            yield name


def gone(oldest: int) -> Refused:
    """Return the refusal of a moment that history does not reach.

    Args:
        oldest: the oldest moment that can be asked for, in ms since 1970 UTC.
    """
    return refusal(ProblemKind.HISTORY_GONE, oldest=moment_text(oldest))


def moment_text(moment: int) -> str:
    """Return a moment (ms since 1970 UTC) as text: `2026-11-30T08:00:00.000Z`."""
    second = datetime.fromtimestamp(moment // 1000, UTC).replace(tzinfo=None)
    return f"{second.isoformat()}.{moment % 1000:03}Z"


@dataclass(frozen=True, slots=True)
class Sent:
    """Who sent which attributes, and whether that changed any."""

    actor: str
    names: Set[str]
    changed: bool


def has_sent(changes: Iterable[Sent], actor: str, names: Iterable[str], maximum: int) -> bool:
    """Return whether the actor has already sent all these attributes, each since its value last changed.

    If so, one more report of the same values tells nothing new. No more changes are read than it takes to know.

    Args:
        changes: the user's changes, newest first.
        maximum: number of changes to look at; beyond them the answer is no.
    """
    open_names = set(names)
    if not open_names:
        return True
    for change in itertools.islice(changes, maximum):
        for name in open_names & change.names:
            if change.actor == actor:
                open_names.discard(name)
            elif change.changed:
                # Whether this one set the value or not, nobody looks further back: one report too many is harmless.
                return False
        if not open_names:
            return True
    return False
