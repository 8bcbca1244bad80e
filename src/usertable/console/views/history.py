"""A project's history: how much is kept, how it grows, what takes the space, and the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup
from starlette.responses import Response

from usertable.app.history import HistoryStatus
from usertable.console.charts import Part, share
from usertable.console.context import HOME, PageContext, PageRoute
from usertable.console.edits import SHOWN, Edit, as_shown, what_others_did
from usertable.console.views.statistics import percent
from usertable.domain.audit import AuditKind
from usertable.domain.errors import ProjectChanged
from usertable.domain.moments import DAY_MS
from usertable.domain.permissions import Scope
from usertable.domain.schema import (
    HISTORY_DAYS,
    MAX_HISTORY_DAYS,
    MAX_HISTORY_GIGABYTES,
    Attribute,
    HistorySettings,
    Project,
)

SHARES = 50
"""Maximum number of attributes whose share is listed."""
_BOXES = ("record", "all_reports")


@dataclass(frozen=True, slots=True)
class Share:
    """The share of history that an attribute takes."""

    attribute: Attribute
    percent: str
    """Empty if it is not in what was examined."""
    bar: Markup


def show(context: PageContext) -> Response:
    """Show how much history is kept, how it grows, what each attribute takes of it, and the settings."""
    project = context.project()
    now = _settings(project.history)
    return _page(context, project, context.filled({**now, SHOWN: as_shown(now)}))


def save(context: PageContext) -> Response:
    """Change the settings that were edited in the form. What would remove history must be confirmed first."""
    project, form = context.project(), context.form
    edit = Edit(_settings(project.history), form, _BOXES)
    if edit.others:
        others = what_others_did(context, project, edit.others, [AuditKind.EDIT_HISTORY])
        return _page(context, project, edit.merged, others=others)
    changes = edit.changes
    errors: dict[str, str] = {}
    wanted: dict[str, Any] = {}
    is_on = changes.get("record", edit.now["record"]) == "on"
    if not is_on:
        wanted["days"] = 0
    elif "days" in changes or "record" in changes:
        wanted["days"] = _number(context, form.get("days", ""), "days", MAX_HISTORY_DAYS, errors)
    if "gigabytes" in changes:
        wanted["gigabytes"] = _number(context, changes["gigabytes"], "gigabytes", MAX_HISTORY_GIGABYTES, errors)
    if errors:
        return _page(context, project, form, errors=errors)
    consequences = _consequences(context, project, replace(project.history, **wanted))
    asked = ",".join(f"{name}={number}" for name, number in sorted(wanted.items()))
    if consequences and (form.get("confirm") != "on" or form.get("asked") != asked):
        return _page(context, project, form, consequences=consequences, asked=asked)
    all_reports = {"all_reports": changes["all_reports"] == "on"} if "all_reports" in changes else {}
    try:
        context.service.edit_history(project.id, **wanted, **all_reports, version=project.version, actor=context.actor)
    except ProjectChanged:
        return save(context)
    return context.redirect(context.project_path("/history"), "saved")


def size_text(size: float) -> str:
    """Return a size in decimal units: `1.2 GB`, `640 kB`."""
    for unit, bytes_ in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= bytes_ * 0.9995:
            number = size / bytes_
            return f"{number:,.0f} {unit}" if number >= 99.95 else f"{number:.1f} {unit}"
    return f"{size:.0f} B"


def _page(
    context: PageContext,
    project: Project,
    fields: Mapping[str, str],
    *,
    errors: Mapping[str, str] | None = None,
    others: Mapping[str, Any] | None = None,
    consequences: list[str] | None = None,
    asked: str = "",
) -> Response:
    status = context.service.history(project)
    expected = status.forecast
    shares = context.service.attribute_shares(project)
    whole = sum(shares.bytes.values())
    declared = project.schema.attributes
    names = [name for name in shares.bytes if name in declared]
    names += [name for name, attribute in declared.items() if attribute.history_since is None and name not in shares.bytes]
    return context.render(
        "history.html",
        409 if others else 422 if errors or consequences else 200,
        project=project,
        status=status,
        growth=status.bytes_per_day,
        forecast=expected,
        measured="" if status.since is None else _span(context, min(DAY_MS, context.now - status.since)),
        kept=_days(expected.days) if expected else "",
        size=size_text,
        shares=[_share(declared[name], shares.bytes.get(name, 0), whole) for name in names[:SHARES]],
        left_out=max(0, len(names) - SHARES),
        examined=shares.examined,
        fields=fields,
        errors=errors or {},
        others=others,
        consequences=consequences or [],
        asked=asked,
        maximum_days=MAX_HISTORY_DAYS,
        maximum_gigabytes=MAX_HISTORY_GIGABYTES,
    )


def _share(attribute: Attribute, size: int, whole: int) -> Share:
    parts = [Part("bar-good", size), Part("bar-none", max(0, whole - size))]
    said = percent(size, whole) if size else ""
    return Share(attribute, said, Markup(share(parts, label=said)) if size else Markup(""))


def _span(context: PageContext, ms: int) -> str:
    """Return a time span in words: `5 hours`, `12 days`."""
    hours = ms / 3_600_000
    if hours < 48:
        return context.text("history.hours", count=round(hours))
    return context.text("history.days", count=round(hours / 24))


def _days(days: float) -> str:
    return f"{days:,.0f}" if days >= 10 else f"{days:.1f}".removesuffix(".0")


def _settings(settings: HistorySettings) -> dict[str, str]:
    """Return settings as form fields. The form has a separate checkbox for no history."""
    return {
        "record": "on" if settings.is_on else "",
        "days": str(settings.days or HISTORY_DAYS),
        "gigabytes": str(settings.gigabytes),
        "all_reports": "on" if settings.all_reports else "",
    }


def _number(context: PageContext, text: str, field: str, maximum: int, errors: dict[str, str]) -> int:
    """Return a number of the form. An invalid one is reported in `errors`."""
    sent = text.strip()
    if sent.isascii() and sent.isdigit() and len(sent) < 10 and 1 <= int(sent) <= maximum:
        return int(sent)
    errors[field] = context.text("history.number_wrong", maximum=f"{maximum:,}")
    return 1


def _consequences(context: PageContext, project: Project, wanted: HistorySettings) -> list[str]:
    """Return what the new settings take away, in words; nothing if they only add."""
    status: HistoryStatus = context.service.history(project)
    if status.since is None or not project.history.is_on:
        return []
    size = status.figures.bytes
    if not wanted.is_on:
        return [
            context.text("history.off_now"),
            context.text("history.off_past", size=size_text(size), count=f"{status.figures.changes:,}"),
            context.text("history.off_again"),
        ]
    found = []
    begin = context.now - wanted.days * DAY_MS
    if wanted.days < project.history.days and status.since < begin:
        found.append(context.text("history.days_cut", moment=context.full_time(begin, project.zone)))
    if wanted.gigabytes < project.history.gigabytes and size > wanted.gigabytes * 1e9:
        found.append(context.text("history.size_cut", size=size_text(size - wanted.gigabytes * 1e9)))
    return found


_HISTORY = f"{HOME}/projects/{{project}}/history"

PAGES = (
    PageRoute("GET", _HISTORY, show, Scope.READ),
    PageRoute("POST", _HISTORY, save, Scope.KEYS),
)
