"""A user's history: its changes, its row as of a moment, and how two moments differ."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from starlette.responses import Response

from usertable.app.history import FoundChanges
from usertable.console.context import HOME, PageContext, PageRoute
from usertable.console.timeline import Entry, listed_entries, moment_query, shown
from usertable.console.views.users import cuid_of
from usertable.domain.actor import is_actor
from usertable.domain.change import Change, ChangeKind
from usertable.domain.errors import Problem, ProblemKind, Refused, excerpt
from usertable.domain.history import PastUser
from usertable.domain.permissions import Scope
from usertable.domain.schema import Attribute, Project
from usertable.domain.values import Value
from usertable.store.records import User
from usertable.wire.native.documents import masked_value
from usertable.wire.native.problem_details import STATUSES

CHANGES = 50
"""Maximum number of changes on a page."""
AGES = {"history.hour": 3_600_000, "history.day": 86_400_000, "history.week": 7 * 86_400_000}
"""Milliseconds by the text of the link that goes that far back."""
_DIGITS = re.compile(r"[0-9]{1,19}")
_LARGEST = 2**63 - 1
_TO_THE_MINUTE = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}")
_MOMENTS = ("oldest", "moment", "created", "now")
"""Parameters of problems that are moments."""


@dataclass(slots=True)
class PastValue:
    """An attribute as of a moment and now, or as of two moments."""

    attribute: Attribute
    then: Value | None
    now: Value | None
    is_known: bool = True
    """Whether it is known what the value was then."""
    is_known_later: bool = True
    """Whether it is known what the value was at the second of two moments."""
    changes: int = 0
    """Number of changes between the two moments."""
    last: Change | None = None
    """The newest of them."""

    @property
    def differs(self) -> bool:
        """Whether the two values differ, as far as is known."""
        return self.is_known and self.is_known_later and self.then != self.now


@dataclass(slots=True)
class Moments:
    """The moments that a page was asked for, by the name of their field."""

    typed: dict[str, str] = field(default_factory=dict)
    """What the fields show."""
    ms: dict[str, int] = field(default_factory=dict)
    """Milliseconds since 1970 UTC, of those that are valid."""
    errors: dict[str, str] = field(default_factory=dict)
    status: int = 200


def show_changes(context: PageContext) -> Response:
    """Show a user's changes, newest first, filtered by attribute and actor."""
    project, user = _user(context)
    query = context.request.query_params
    attribute, actor = query.get("attribute", ""), query.get("actor", "").strip()
    if attribute not in project.schema.attributes:
        attribute = ""
    before = _number(query.get("before", ""))
    asked = {name: value for name, value in (("attribute", attribute), ("actor", actor)) if value}
    errors = {} if not actor or is_actor(actor) else {"actor": context.text("audit.actor_wrong")}
    found = FoundChanges([], None, False)
    if not errors:
        found = context.service.changes(
            project, user.cuid, before=before, limit=CHANGES, attribute=attribute or None, actor=actor or None
        )
    listed = listed_entries(context, project, found.changes, attribute or None)
    for entry in listed:
        _add_first_values(context, project, entry, attribute)
    return context.render(
        "user_history.html",
        422 if errors else 200,
        project=project,
        user=user,
        entries=listed,
        found=found,
        chosen={"attribute": attribute, "actor": actor},
        newest=f"?{urlencode(asked)}" if asked else context.request.url.path,
        older=f"?{urlencode({**asked, 'before': found.next})}" if found.next else "",
        is_first=before is None,
        is_filtered=bool(asked),
        errors=errors,
        since=kept_since(context, project),
    )


def show_as_of(context: PageContext) -> Response:
    """Show a user's row as of a moment, with what differs from now marked."""
    project, user = _user(context)
    moments = _moments(context, project, "at")
    past: PastUser | None = None
    oldest = kept_since(context, project)
    if "at" in moments.ms:
        try:
            past = context.service.user_as_of(project, user.cuid, moments.ms["at"])
        except Refused as refused:
            _refuse(context, project, moments, "at", refused)
    return context.render(
        "user_as_of.html",
        moments.status,
        project=project,
        user=user,
        past=past,
        at=moments.ms.get("at"),
        fields=moments.typed,
        errors=moments.errors,
        values=_values(project, past, user) if past else [],
        identifiers=_identifiers(project, past, user) if past else [],
        ages={text: moment_query(project, at=context.now - ms) for text, ms in AGES.items()},
        oldest=None if oldest is None else max(oldest, user.profile.created_at),
        query=lambda ms: moment_query(project, at=ms),
    )


def compare(context: PageContext) -> Response:
    """Show how a user differs between two moments."""
    project, user = _user(context)
    moments = _moments(context, project, "from", "to")
    difference = None
    rows: list[PastValue] = []
    if "from" in moments.ms and not moments.errors:
        start, end = sorted((moments.ms["from"], moments.ms.get("to", context.now)))
        moments.ms = {"from": start, "to": end}
        try:
            difference = context.service.user_difference(project, user.cuid, start, end)
        except Refused as refused:
            _refuse(context, project, moments, "from", refused)
        else:
            unknown = difference.first.not_kept if difference.first else []
            unknown_later = difference.second.not_kept
            for name, attribute in project.schema.attributes.items():
                if found := difference.attributes.get(name):
                    before, after = (shown(value, attribute, project) for value in (found.before, found.after))
                    known = name not in unknown, name not in unknown_later
                    rows.append(PastValue(attribute, before, after, *known, found.changes, found.last))
            rows.sort(key=lambda row: not row.differs)
    return context.render(
        "user_compare.html",
        moments.status,
        project=project,
        user=user,
        difference=difference,
        moments=moments.ms,
        fields=moments.typed,
        errors=moments.errors,
        rows=rows,
        ages={text: moment_query(project, **{"from": context.now - ms}) for text, ms in AGES.items()},
        since=kept_since(context, project),
    )


def _user(context: PageContext) -> tuple[Project, User]:
    project = context.project()
    return project, context.service.user(project, cuid_of(context.path["cuid"]))


def kept_since(context: PageContext, project: Project) -> int | None:
    """Return the oldest moment that can be asked for, in ms since 1970 UTC; None if history is off."""
    with contextlib.suppress(Refused):
        return context.service.kept_since(project)
    return None


def _add_first_values(context: PageContext, project: Project, entry: Entry, attribute: str) -> None:
    """Add the values with which an import created the user. They are not in the change, but follow from the later ones."""
    change = entry.change
    if change.kind is not ChangeKind.CREATED or not change.origin.actor.startswith("import:"):
        return
    try:
        past = context.service.user_as_of(project, change.cuid, change.at)
    except Refused:
        return
    for name, declared in project.schema.attributes.items():
        if name in past.attributes and attribute in ("", name):
            value = shown(past.attributes[name], declared, project)
            assert value is not None
            entry.first_values.append((name, declared.display_name, value))


def _moments(context: PageContext, project: Project, *names: str) -> Moments:
    """Return the moments in the query of the request, of fields with these names. Empty ones are left out."""
    moments = Moments()
    for name in names:
        text = context.request.query_params.get(name, "").strip()
        moments.typed[name] = ""
        if not text:
            continue
        try:
            # A browser leaves out the seconds if there are none.
            whole = f"{text}:00" if _TO_THE_MINUTE.fullmatch(text) else text
            moments.ms[name] = context.service.moment(project, name, whole)
        except Refused as refused:
            _refuse(context, project, moments, name, refused, text)
            moments.typed[name] = text
        else:
            moments.typed[name] = _local(moments.ms[name], project.zone)
    return moments


def _refuse(context: PageContext, project: Project, moments: Moments, name: str, refused: Refused, text: str = "") -> None:
    problem = refused.problems[0]
    moments.status = STATUSES.get(problem.kind, 422)
    if problem.kind is ProblemKind.MOMENT_SKIPPED:
        # With what was typed: a browser left out the seconds.
        moments.errors[name] = context.problem(replace(problem, params={**problem.params, "value": excerpt(text)}))
    elif problem.kind is ProblemKind.HISTORY_GONE and moments.ms.get(name, 0) >= (kept_since(context, project) or 0):
        # History reaches that far back, but not past the writes that were not recorded.
        moments.errors[name] = context.text("history.gap", oldest=_in_zone(context, problem, project.zone).params["oldest"])
    elif problem.kind in _SAID:
        moments.errors[name] = context.problem(_in_zone(context, problem, project.zone))
    else:
        moments.errors[name] = context.text("history.moment_wrong")


_SAID = (ProblemKind.HISTORY_GONE, ProblemKind.USER_NOT_YET, ProblemKind.MOMENT_AHEAD, ProblemKind.HISTORY_OFF)


def _in_zone(context: PageContext, problem: Problem, zone: ZoneInfo) -> Problem:
    """Return the problem with its moments in the project's time zone."""
    params = dict(problem.params)
    for name in _MOMENTS:
        if name in params:
            ms = round(datetime.fromisoformat(str(params[name])).timestamp() * 1000)
            params[name] = context.full_time(ms, zone)
    return Problem(problem.kind, problem.attribute, params)


def _local(ms: int, zone: ZoneInfo) -> str:
    """Return a moment as a browser's field for a local time takes it: `2026-11-30T08:00:00`, with milliseconds if any."""
    text = datetime.fromtimestamp(ms / 1000, UTC).astimezone(zone).replace(tzinfo=None).isoformat(timespec="milliseconds")
    return text.removesuffix(".000")


def _values(project: Project, past: PastUser, user: User) -> list[PastValue]:
    """Return the attributes that had a value then, have one now, or whose values then are unknown."""
    now = user.profile.attributes
    rows = []
    for name, attribute in project.schema.attributes.items():
        is_known = name not in past.not_kept
        if name in past.attributes or name in now or not is_known:
            then, current = (
                shown(values[name], attribute, project) if name in values else None for values in (past.attributes, now)
            )
            if is_known or current is not None:
                rows.append(PastValue(attribute, then, current, is_known))
    return rows


def _identifiers(project: Project, past: PastUser, user: User) -> list[tuple[str, list[str], list[str]]]:
    """Return the identifiers by priority, with their values then and now; masked ones as in lists."""
    declared = project.schema.identifiers
    masked = {identifier.name for identifier in declared if identifier.masked}

    def values(name: str, of: Mapping[str, list[str]]) -> list[str]:
        return [masked_value(value) if name in masked else value for value in of.get(name, ())]

    names = [i.name for i in declared if i.name in past.identifiers or i.name in user.identifiers]
    return [(name, values(name, past.identifiers), values(name, user.identifiers)) for name in names]


def _number(text: str) -> int | None:
    return int(text) if _DIGITS.fullmatch(text) and 0 < int(text) <= _LARGEST else None


_OF_USER = f"{HOME}/projects/{{project}}/users/{{cuid}}"

PAGES = (
    PageRoute("GET", f"{_OF_USER}/history", show_changes, Scope.READ),
    PageRoute("GET", f"{_OF_USER}/as-of", show_as_of, Scope.READ),
    PageRoute("GET", f"{_OF_USER}/compare", compare, Scope.READ),
)
