"""A user's history, as the client returns it: changes, differences of two moments, and moments to ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
