"""The audit logs of projects and of the installation."""

from __future__ import annotations

import re
from collections.abc import Set
from datetime import date, datetime, time, timedelta
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from starlette.responses import Response

from usertable.console.context import HOME, PageContext, PageRoute
from usertable.domain.audit import INSTALLATION, INSTALLATION_KINDS, PROJECT_LOG_KINDS, AuditEntry, AuditFilter
from usertable.domain.errors import Refused
from usertable.domain.permissions import Scope
from usertable.domain.schema import Project

ENTRIES = 50
"""Maximum number of entries on a page."""
FILTERS = ("actor", "kind", "subject", "from", "to")
"""Query parameters that filter the entries."""
_UTC = ZoneInfo("UTC")
_LARGEST_NUMBER = 2**63 - 1
# Python does not convert strings of thousands of digits.
_DIGITS = re.compile(r"[0-9]{1,19}")


def show_project(context: PageContext) -> Response:
    """Show the audit log of a project, newest first, filtered by actor, kind, subject and day."""
    project = context.project()
    return _page(context, project.number, project, project.zone, PROJECT_LOG_KINDS)


def show_installation(context: PageContext) -> Response:
    """Show the audit log of the installation: projects, people, sign-ins, and operations on the store."""
    return _page(context, INSTALLATION, None, _UTC, INSTALLATION_KINDS)


def show_changes(context: PageContext) -> Response:
    """Redirect from the former address of a project's audit log."""
    return context.redirect(context.project_path("/audit"))


def _page(context: PageContext, log: int, project: Project | None, zone: ZoneInfo, kinds: Set[str]) -> Response:
    query = context.request.query_params
    chosen = {name: query.get(name, "").strip() for name in FILTERS}
    first, last = _day(chosen["from"]), _day(chosen["to"])
    days = {"from": first, "to": last}
    errors = {name: context.text("audit.day_wrong") for name, day in days.items() if chosen[name] and day is None}
    wanted = AuditFilter(
        actor=chosen["actor"] or None,
        kinds=frozenset({chosen["kind"]} if chosen["kind"] else ()),
        subject=chosen["subject"] or None,
        since=_begin(first, zone),
        until=_begin(last and _next(last), zone),
    )
    before = _number(query.get("before", ""))
    found: list[AuditEntry] = []
    try:
        found = [] if errors else context.service.audit(log, wanted, ENTRIES + 1, before=before)
    except Refused:
        errors["actor"] = context.text("audit.actor_wrong")
    entries = found[:ENTRIES]
    asked = [(name, value) for name, value in chosen.items() if value]
    older = urlencode([*asked, ("before", entries[-1].number)]) if len(found) > ENTRIES else ""
    return context.render(
        "audit.html",
        422 if errors else 200,
        project=project,
        zone=zone,
        entries=entries,
        kinds=sorted(kinds, key=context.kind_name),
        chosen=chosen,
        is_filtered=bool(asked),
        is_first=before is None,
        newest=f"?{urlencode(asked)}" if asked else context.request.url.path,
        older=f"?{older}" if older else "",
        errors=errors,
    )


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _next(day: date) -> date | None:
    """Return the following day; None after the last day of the calendar."""
    return None if day == date.max else day + timedelta(days=1)


def _begin(day: date | None, zone: ZoneInfo) -> int | None:
    """Return when a day begins, in milliseconds since 1970-01-01 UTC; None for no limit."""
    # Near the ends of the calendar, a zone's offset would overflow. No entry is that old or that new.
    if day is None or not 1900 <= day.year < 9999:
        return None
    return int(datetime.combine(day, time.min, zone).timestamp()) * 1000


def _number(text: str) -> int | None:
    """Return the number of an entry; None if the text is not a valid number."""
    return int(text) if _DIGITS.fullmatch(text) and int(text) <= _LARGEST_NUMBER else None


_PROJECT = f"{HOME}/projects/{{project}}"

PAGES = (
    PageRoute("GET", f"{HOME}/audit", show_installation, Scope.INSTALLATION),
    PageRoute("GET", f"{_PROJECT}/audit", show_project, Scope.READ),
    PageRoute("GET", f"{_PROJECT}/changes", show_changes, Scope.READ),
)
