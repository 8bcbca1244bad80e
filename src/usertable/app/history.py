"""History: a user's changes, the user as of an earlier moment, and how much is kept."""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from usertable.app.use_cases import UseCases
from usertable.domain.actor import Actor, check_actor
from usertable.domain.audit import AuditEvent, AuditKind, Facts
from usertable.domain.change import Change, ChangeKind
from usertable.domain.errors import Problem, ProblemKind, Refused, excerpt, other_value, refusal
from usertable.domain.history import Difference, PastUser, as_of, difference, gone, moment_text
from usertable.domain.history_growth import Forecast, bytes_per_day, forecast
from usertable.domain.moments import DAY_MS, HOUR_MS, after_skipped, expected_moment, first_moment, parse_moment
from usertable.domain.phrases import Phrase, PhraseKind
from usertable.domain.profile import Profile
from usertable.domain.schema import HistorySettings, Project
from usertable.store.history import PLACES, HistoryFigures, PrunedHistory, report_bytes
from usertable.store.records import User

MAX_CHANGES = 1000
"""Maximum number of changes per page."""
EXAMINED_CHANGES = 10_000
"""Maximum number of changes examined for a filtered page."""
EXAMINED_SIZE = 32 * 2**20
"""Characters of values after which no more changes are examined: a thousand large ones would take gigabytes of memory."""
RECENT_BLOCKS = 1000
"""Maximum number of the newest blocks that are read to learn what changed lately."""
RECENT_EXAMINED = 5000
"""Number of changes after which no further block is read for that: they take 0.1 s of CPU."""
_BLOCKS_PER_READ = 20
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_YEAR_1 = -62_135_596_800_000
"""The first moment in UTC that can be written."""


@dataclass(frozen=True, slots=True)
class ListedChange:
    """A change of a user, and what is not recorded after it: up to the next newer change of the list, or the present."""

    change: Change
    unrecorded: int = 0
    """Minimum number of writes that were not recorded."""
    not_kept: Sequence[str] = ()
    """Attributes whose history was off. Older changes of them may be missing too, if it was off more than once."""


@dataclass(frozen=True, slots=True)
class FoundChanges:
    """A page of a user's changes, newest first. `next` continues after it; None if no more are kept."""

    changes: list[ListedChange]
    next: int | None
    is_whole: bool
    """Whether the page ends with the creation of the user, so that nothing older exists."""
    not_kept: Sequence[str] = ()
    """Attributes whose history was off before the oldest change of the page, as far as the page was searched."""


@dataclass(frozen=True, slots=True)
class UserDifference:
    """How a user differs between two moments."""

    first: PastUser | None
    """None if the user did not exist yet."""
    second: PastUser
    attributes: dict[str, Difference]


@dataclass(frozen=True, slots=True)
class HistoryStatus:
    """How much history of a project is kept."""

    settings: HistorySettings
    since: int | None
    """The oldest moment that can be asked for, in ms since 1970 UTC; None if history is off."""
    figures: HistoryFigures
    bytes_per_day: int | None
    """Growth in the last 24 hours, or since history is kept; None if that is less than an hour."""

    @property
    def forecast(self) -> Forecast | None:
        """What will be kept if it keeps growing like that; None if history is off or does not grow."""
        return forecast(self.settings, self.bytes_per_day)


@dataclass(slots=True)
class Examined:
    """The newest part of a project's history that was read."""

    blocks: int = 0
    changes: int = 0
    size: int = 0
    """Characters of the values of the changes."""
    since: int | None = None
    """The time of its oldest change, in ms since 1970 UTC; None without changes."""
    is_all: bool = True
    """Whether no older changes are kept."""


@dataclass(frozen=True, slots=True)
class RecentChanges:
    """The newest changes of an attribute, by all users."""

    changes: list[Change]
    """Newest first. Reports that changed nothing are included."""
    count: int
    """Number of changes of the attribute in what was examined."""
    actors: dict[str, int]
    """Number of them by actor, the most frequent first."""
    examined: Examined


@dataclass(frozen=True, slots=True)
class AttributeShares:
    """What share of the newest history each attribute takes."""

    bytes: dict[str, int]
    """Bytes before compression by attribute, the largest first."""
    examined: Examined


class History(UseCases):
    """Use cases about history."""

    def moment(self, project: Project, name: str, text: str) -> int:
        """Return a moment in the past, in ms since 1970 UTC, from its text: `2026-11-30`, `2026-11-30T08:00:00+08:00`.

        Without an offset it is local time in the project's zone. A day stands for its first moment.

        Args:
            name: the parameter's name, for problems.

        Raises:
            Refused: it is malformed, in an hour that the zone skips, or in the future.
        """
        parse = first_moment if _DAY.fullmatch(text) else parse_moment
        found = parse(name, text, project.zone)
        if isinstance(found, Problem) and found.kind is ProblemKind.DATETIME_SKIPPED:
            following = after_skipped(text, project.zone)
            skipped = ProblemKind.MOMENT_SKIPPED
            raise refusal(skipped, name=name, value=excerpt(text), zone=project.timezone, next=following)
        if isinstance(found, Problem) or found.ms < _YEAR_1:
            raise refusal(ProblemKind.PARAMETER, name=name, expected=other_value(expected_moment(text), text))
        if found.ms > (now := self._clock()):
            raise refusal(ProblemKind.MOMENT_AHEAD, name=name, value=excerpt(text), now=moment_text(now))
        return found.ms

    def changes(
        self,
        project: Project,
        cuid: int,
        *,
        before: int | None = None,
        limit: int = 100,
        attribute: str | None = None,
        actor: str | None = None,
    ) -> FoundChanges:
        """Return a page of a user's changes, newest first.

        A page may have fewer than `limit` changes, with a filter even none, and still be followed by another.

        Args:
            before: only changes older than the user's change with this number: the `next` of an earlier page.
            attribute: only changes that this attribute was sent in.
            actor: only changes by this actor.

        Raises:
            Refused: there is no such user, no such attribute, `actor` does not have the form of one, or `before` is not the
                number of a change of the user.
        """
        if actor is not None:
            check_actor(actor)
        wanted = list(project.schema.attributes.values())
        if attribute is not None:
            wanted = [project.schema.attribute(attribute)]
        limit = max(1, min(limit, MAX_CHANGES))

        def work(user: User | None, changes: Iterator[Change]) -> FoundChanges | None:
            if user is None:
                raise refusal(ProblemKind.CUID_UNKNOWN, cuid=cuid)
            newer = None if before is None else next(changes, None)
            if before is not None and newer is None:
                return None
            found: list[ListedChange] = []
            # Earlier pages have what is off now, and what was off after their oldest change.
            not_kept = [a.name for a in wanted if a.history_since is None and newer is None]
            begun = sorted(
                (a.history_from, a.name)
                for a in wanted
                if a.history_since is not None and (newer is None or a.history_from <= newer.number)
            )
            unrecorded, whole, size = 0, False, 0
            for examined, change in enumerate(changes):
                is_full = len(found) == limit or examined == EXAMINED_CHANGES or size >= EXAMINED_SIZE
                if newer is not None and is_full:
                    return FoundChanges(found, newer.number, False, not_kept)
                size += change.size
                unrecorded += _unrecorded(user.profile, newer, change)
                while begun and begun[-1][0] > change.number:
                    not_kept.append(begun.pop()[1])
                if (attribute is None or attribute in change.reports) and actor in (None, change.origin.actor):
                    found.append(ListedChange(change, unrecorded, not_kept))
                    unrecorded, not_kept = 0, []
                whole = change.kind is ChangeKind.CREATED
                newer = change
            return FoundChanges(found, None, whole, not_kept)

        page = self._store.with_changes(project.number, cuid, work, start=before)
        if page is not None:
            return page
        assert before is not None
        if self._store.history_blocks(project.number, before // PLACES + 1, 1):
            expected = other_value(Phrase(PhraseKind.NEXT_OF_PAGE), str(before))
            raise refusal(ProblemKind.PARAMETER, name="before", expected=expected)
        # It was removed after the earlier page was read, and everything older with it.
        return FoundChanges([], None, False)

    def user_as_of(self, project: Project, cuid: int, moment: int) -> PastUser:
        """Return the user as a read at `moment` (ms since 1970 UTC) would have.

        Raises:
            Refused: there is no such user, or was none then; history is off, or does not reach that far back.
        """
        since = self.kept_since(project)

        def work(user: User | None, changes: Iterator[Change]) -> PastUser:
            present = self._present(cuid, user, since, moment)
            found = as_of(present, changes, moment, project.schema)
            if found is None:
                raise _not_yet(present, moment)
            return found

        past = self._store.with_changes(project.number, cuid, work, after=moment)
        self._check_kept(project, moment)
        return past

    def user_difference(self, project: Project, cuid: int, start: int, end: int) -> UserDifference:
        """Return how a user differs between two moments (ms since 1970 UTC), the earlier one first.

        Raises:
            Refused: as in :meth:`user_as_of`; at `start`, the user need not have existed yet.
        """
        since = self.kept_since(project)

        def work(user: User | None, changes: Iterator[Change]) -> UserDifference:
            present = self._present(cuid, user, since, start, end)
            first, second, attributes = difference(present, changes, start, end, project.schema)
            if second is None:
                raise _not_yet(present, end)
            return UserDifference(first, second, attributes)

        found = self._store.with_changes(project.number, cuid, work, after=end)
        self._check_kept(project, end if found.first is None else start)
        return found

    def prune_history(self, project: Project, before: int, actor: Actor) -> PrunedHistory:
        """Remove a project's history before a moment (ms since 1970 UTC), except for what is stored with newer changes.

        Raises:
            Refused: history is off, or was turned off meanwhile.
        """
        earlier = self.kept_since(project)
        removed = PrunedHistory()
        while (slice := self._store.prune_history(project.number, before, 0, self._clock())).blocks:
            removed += slice
        since = self._store.history_since(project.number)
        known: Facts = {} if since is None else {"since": moment_text(since)}
        facts: Facts = {**known, "changes": removed.changes}
        event = AuditEvent(AuditKind.PRUNE_HISTORY, "", {"since": moment_text(earlier)}, facts)
        now = self._clock()
        self._store.transact(lambda transaction: transaction.record(project.number, actor, [event], now))
        self.kept_since(project)
        return removed

    def kept_since(self, project: Project) -> int:
        """Return the oldest moment that can be asked for, in ms since 1970 UTC. Raises Refused if history is off."""
        since = self._store.history_since(project.number)
        if since is None:
            raise refusal(ProblemKind.HISTORY_OFF, project=project.id)
        return since

    def history(self, project: Project) -> HistoryStatus:
        """Return how much history of a project is kept."""
        now, since = self._clock(), self._store.history_since(project.number)
        # What was added is known to the hour.
        start = (now - DAY_MS) // HOUR_MS * HOUR_MS
        added = self._store.history_growth(project.number, start).bytes
        growth = bytes_per_day(added, None if since is None else max(since, start), now)
        return HistoryStatus(project.history, since, self._store.history_figures(project.number), growth)

    def recent_changes(self, project: Project, attribute: str, limit: int) -> RecentChanges:
        """Return the newest changes of an attribute, up to `limit`, from a bounded number of the newest blocks.

        Raises:
            Refused: there is no such attribute.
        """
        project.schema.attribute(attribute)
        examined, actors = Examined(), Counter[str]()
        found: list[Change] = []
        for change in self._newest(project, examined):
            if attribute in change.reports:
                found.append(change)
                actors[change.origin.actor] += 1
        newest = heapq.nlargest(limit, found, key=lambda change: change.number)
        return RecentChanges(newest, len(found), dict(actors.most_common()), examined)

    def attribute_shares(self, project: Project) -> AttributeShares:
        """Return what share of history each attribute takes, measured on a bounded number of the newest blocks."""
        examined, sizes = Examined(), Counter[str]()
        for change in self._newest(project, examined):
            for name, report in change.reports.items():
                sizes[name] += report_bytes(name, report)
        return AttributeShares(dict(sizes.most_common()), examined)

    def _newest(self, project: Project, examined: Examined) -> Iterator[Change]:
        """Yield the changes of the newest blocks, and keep account of them in `examined`."""
        below: int | None = None
        while True:
            blocks = self._store.history_blocks(project.number, below, _BLOCKS_PER_READ)
            for block in blocks:
                is_enough = examined.changes >= RECENT_EXAMINED or examined.size >= EXAMINED_SIZE
                if examined.blocks == RECENT_BLOCKS or is_enough:
                    examined.is_all = False
                    return
                examined.blocks += 1
                for change, _ in block.all_changes():
                    examined.changes += 1
                    examined.size += change.size
                    examined.since = change.at if examined.since is None else min(examined.since, change.at)
                    yield change
                below = block.block
            if len(blocks) < _BLOCKS_PER_READ:
                return

    def edit_history(
        self,
        project_id: str,
        *,
        days: int | None = None,
        gigabytes: int | None = None,
        all_reports: bool | None = None,
        actor: Actor,
        version: int | None = None,
    ) -> Project:
        """Change how much history a project keeps. What is not given stays. Raises Refused if a number is out of range."""
        given = {"days": days, "gigabytes": gigabytes, "all_reports": all_reports}
        changes = {name: value for name, value in given.items() if value is not None}
        return self._edit(project_id, lambda p: replace(p, history=replace(p.history, **changes)), actor, version)  # type: ignore[arg-type]

    def _check_kept(self, project: Project, moment: int) -> None:
        """Refuse a moment that history no longer reached when a user's changes were read.

        A server may have removed some in between. Attributes show that themselves, by the version, but identifier values do
        not have one.
        """
        since = self.kept_since(project)
        if since > moment:
            raise gone(since)

    def _present(self, cuid: int, user: User | None, since: int, *moments: int) -> PastUser:
        """Return a user's row in the store, from which it is walked back. Refuse moments that are no longer kept."""
        if user is None:
            raise refusal(ProblemKind.CUID_UNKNOWN, cuid=cuid)
        p = user.profile
        if any(since > moment >= p.created_at for moment in moments):
            raise gone(since)
        return PastUser(cuid, p.version, p.created_at, p.updated_at, p.attributes, user.identifiers)


def _not_yet(present: PastUser, moment: int) -> Refused:
    then, created = moment_text(moment), moment_text(present.created_at)
    return refusal(ProblemKind.USER_NOT_YET, cuid=present.cuid, moment=then, created=created)


def _unrecorded(present: Profile, newer: Change | None, change: Change) -> int:
    """Return the number of writes between a change and the next newer one that were not recorded, as far as it is known.

    Args:
        newer: None if there is none; then, up to the user's row in the store.
    """
    version = present.version if newer is None else newer.version - newer.changed
    if change.kind is not ChangeKind.CREATED:
        return max(0, version - change.version)
    # The first values of a new user belong to the change that created it, and may have incremented the version once.
    since = present.updated_at if newer is None else newer.since
    return max(1, version - 2) if since > change.at else 0
