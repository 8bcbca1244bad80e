"""A user's history, as the client returns it: changes, differences of two moments, and moments to ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from usertable.client.values import check_text, type_name

CHANGES_PER_REQUEST = 1000
"""Maximum number of changes in an answer of a server."""
Moment = datetime | date | str
"""A moment of history. Without a zone it is local time in the project's zone; a date stands for its first moment."""
Shown = Callable[[str, Any], Any]
"""Returns a value of an attribute, given its name and the value in an answer, as a Python value."""


@dataclass(frozen=True, slots=True)
class AttributeChange:
    """One attribute of a change. Values are as in :class:`~usertable.client.core.User`; None stands for no value."""

    rule: str
    outcome: str
    sent: Any
    before: Any = None
    """None for the rule `append`."""
    after: Any = None
    elements_before: int | None = None
    """For the rule `append`, the number of elements before."""
    added: list[str] | None = None
    """For the rule `append`, the elements that were not in the list."""


@dataclass(frozen=True, slots=True)
class Change:
    """A recorded change of a user."""

    number: int
    version: int
    """The version of the row after it."""
    at: datetime
    since: datetime | None
    """When the row before it was last changed; None for the creation of the user."""
    occurred_at: datetime | None
    kind: str
    """`write`, `created`, `import`, `identifier`, `undo`, or a kind of a newer server."""
    actor: str
    source: str
    request: str
    unrecorded: int
    """Minimum number of writes after it that were not recorded."""
    not_kept: list[str]
    """Attributes whose history was off after it. Older changes of them may be missing too."""
    attributes: dict[str, AttributeChange]
    identifiers: dict[str, list[str]]
    """Identifier values that the user got; those of masked identifiers show 4 characters."""
    created_through: str | None = None
    """For the creation of the user: `import`, `api`, `console`, `command`, or a way of a newer server; None if unknown."""


@dataclass(frozen=True, slots=True)
class AttributeDifference:
    """How an attribute differs between two moments.

    Values are as in :class:`~usertable.client.core.User`; None stands for no value.
    """

    before: Any
    after: Any
    changes: int
    """Number of changes of it in between."""
    last_at: datetime | None
    """When the last of them was made; None if none is recorded."""
    last_actor: str
    last_source: str
    last_request: str


@dataclass(frozen=True, slots=True)
class UserDifference:
    """How a user differs between two moments."""

    cuid: int
    start: datetime
    end: datetime
    version_before: int | None
    """None if the user did not exist yet."""
    version_after: int
    attributes: dict[str, AttributeDifference]
    identifiers: dict[str, tuple[list[str], list[str]]]
    """The values before and after of the identifiers that differ; those of masked ones show 4 characters."""
    not_kept: list[str]
    """Attributes that cannot be compared: their history was off at one of the moments or later."""


@dataclass(frozen=True, slots=True)
class ChangePage:
    """A page of a user's changes in an answer."""

    changes: list[Change]
    next: int | None
    """What to ask for next; None on the last page."""
    complete: bool
    kept_since: datetime
    not_kept: list[str]


class _Walk:
    """A walk through the pages of a user's changes, newest first."""

    complete: bool | None = None
    """Whether the last change is the creation of the user. False: older ones are not kept, or were never recorded. None
    until the iterator has ended."""
    kept_since: datetime | None = None
    """The changes of the project are kept from this moment on. None until the first was read."""

    def __init__(self) -> None:
        self.not_kept: list[str] = []
        """Attributes whose history was off before the oldest change that was read: changes of them may be missing."""
        self._changes: Iterator[Change] = iter(())
        self._before: int | None = None
        self._end: bool | None = None
        """What `complete` will be; None until the last page was read."""

    def _take(self, page: ChangePage) -> None:
        """Continue with the changes of a page, which was read after the ones so far."""
        if page.changes:
            # What was off before the last change of an earlier page was off after this one.
            first = page.changes[0]
            page.changes[0] = replace(first, not_kept=[*self.not_kept, *first.not_kept])
            self.not_kept = []
        self.not_kept += page.not_kept
        self._changes, self._before, self.kept_since = iter(page.changes), page.next, page.kept_since
        if page.next is None:
            self._end = page.complete

    def _has_ended(self) -> bool:
        """Return whether there is no further page, given that all changes of the one before were returned."""
        self.complete = self._end
        return self._end is not None


class Changes(_Walk, Iterator[Change]):
    """The changes of a user, newest first, fetched as they are needed. An iterator."""

    def __init__(self, fetch: Callable[[int | None], ChangePage]) -> None:
        super().__init__()
        self._fetch = fetch

    def __next__(self) -> Change:
        while (change := next(self._changes, None)) is None:
            if self._has_ended():
                raise StopIteration
            self._take(self._fetch(self._before))
        return change


class AsyncChanges(_Walk, AsyncIterator[Change]):
    """The changes of a user, newest first, fetched as they are needed. An asynchronous iterator."""

    def __init__(self, fetch: Callable[[int | None], Awaitable[ChangePage]]) -> None:
        super().__init__()
        self._fetch = fetch

    async def __anext__(self) -> Change:
        while (change := next(self._changes, None)) is None:
            if self._has_ended():
                raise StopAsyncIteration
            self._take(await self._fetch(self._before))
        return change


def moment_text(name: str, moment: Moment | None) -> str | None:
    """Return a moment as it is sent. Raises TypeError, ValueError."""
    if moment is None:
        return None
    if isinstance(moment, str):
        check_text(name, moment)
        return moment
    if isinstance(moment, date):
        # A datetime is a date too.
        return moment.isoformat()
    raise TypeError(f"{name} is of type {type_name(moment)}; expected datetime, date or str")


def datetime_of(text: str | None) -> datetime | None:
    """Return a moment in an answer."""
    return None if text is None else datetime.fromisoformat(text)


def change_of(entry: Mapping[str, Any], shown: Shown) -> Change:
    """Return a change in an answer."""
    return Change(
        number=entry["number"],
        version=entry["version"],
        at=datetime.fromisoformat(entry["at"]),
        since=datetime_of(entry["since"]),
        occurred_at=datetime_of(entry["occurred_at"]),
        kind=entry["kind"],
        actor=entry["actor"],
        source=entry["source"],
        request=entry["request"],
        unrecorded=entry["unrecorded"],
        not_kept=entry["not_kept"],
        attributes={
            name: AttributeChange(
                rule=told["rule"],
                outcome=told["outcome"],
                sent=shown(name, told["sent"]),
                before=shown(name, told.get("before")),
                after=shown(name, told.get("after")),
                elements_before=told.get("elements_before"),
                added=told.get("added"),
            )
            for name, told in entry["attributes"].items()
        },
        identifiers=entry["identifiers"],
        created_through=entry.get("created_through"),
    )


def difference_of(name: str, entry: Mapping[str, Any], shown: Shown) -> AttributeDifference:
    """Return an attribute's difference in an answer."""
    last = entry["last"] or {"at": None, "actor": "", "source": "", "request": ""}
    return AttributeDifference(
        before=shown(name, entry["before"]),
        after=shown(name, entry["after"]),
        changes=entry["changes"],
        last_at=datetime_of(last["at"]),
        last_actor=last["actor"],
        last_source=last["source"],
        last_request=last["request"],
    )
