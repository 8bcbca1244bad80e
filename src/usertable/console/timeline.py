"""Recorded changes as the console shows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlencode

from usertable.app.activity import KEPT_MS
from usertable.app.history import ListedChange
from usertable.console.context import PageContext
from usertable.console.values import value_text
from usertable.domain.change import AttributeChange, Change, ChangeKind, Creation, Report
from usertable.domain.history import effect
from usertable.domain.profile import Outcome
from usertable.domain.schema import Attribute, Project, Rule
from usertable.domain.values import ABSENT, Absent, Value, show
from usertable.store.protocol import KEPT_SAMPLES
from usertable.wire.native.documents import masked_value

KINDS = {
    ChangeKind.WRITE: "history.kind_write",
    ChangeKind.CREATED: "history.kind_created",
    ChangeKind.IMPORT: "history.kind_import",
    ChangeKind.IDENTIFIER: "history.kind_identifier",
    ChangeKind.UNDO: "history.kind_undo",
    ChangeKind.ERASED: "history.kind_erased",
}
"""The text of each kind of change."""
CREATIONS = {
    Creation.IMPORT: "history.created_import",
    Creation.API: "history.created_api",
    Creation.CONSOLE: "history.created_console",
    Creation.COMMAND: "history.created_command",
}
"""The text of the creation of a user."""


@dataclass(slots=True)
class Line:
    """The effect of a change on one attribute."""

    name: str
    display_name: str
    before: Value | None
    after: Value | None
    """None for no value. Of a list that was added to, both are None: see `added`."""
    words: str
    """The rule, and what it made of the value sent: `Accumulate: 5 added`."""
    is_changed: bool
    added: Sequence[str] | None = None
    """The elements that were added to a list, if it was added to."""
    elements: tuple[int, int] | None = None
    """The number of elements before and after, then."""


@dataclass(slots=True)
class Entry:
    """A change as a list of changes shows it."""

    change: Change
    kind: str
    """Key of the text that says what made it."""
    lines: list[Line]
    identifiers: list[tuple[str, str]]
    """Identifier values that the user got; masked ones as in lists."""
    others: int = 0
    """Number of further attributes that are not shown, because one was asked for."""
    unrecorded: int = 0
    """See :class:`usertable.app.history.ListedChange`; so for `not_kept`."""
    not_kept: Sequence[str] = ()
    request: str = ""
    """The address of the request's sample under *Live requests*; empty if none is kept."""
    row_after: str = ""
    """Query for the row as the change left it."""
    first_values: list[tuple[str, str, Value]] = field(default_factory=list)
    """The values with which the user was created: attribute, display name, value."""

    @property
    def is_of_change(self) -> bool:
        """Whether it changed anything. If not, it only says that somebody has sent what was stored already."""
        return self.change.changed or not self.change.reports


def entries(context: PageContext, project: Project, changes: Iterable[Change], attribute: str | None = None) -> list[Entry]:
    """Return changes as they are shown.

    Args:
        attribute: show the effect on this attribute only.
    """
    changes = list(changes)
    sampled = _sampled(context, project, changes)
    masked = {identifier.name for identifier in project.schema.identifiers if identifier.masked}
    found = []
    for change in changes:
        names = [name for name in change.reports if attribute in (None, name)]
        entry = Entry(
            change,
            _kind(change),
            [line(context, project, change, name) for name in names],
            [(name, masked_value(value) if name in masked else value) for name, value in change.identifiers],
            len(change.reports) - len(names),
        )
        if change.request in sampled:
            query = urlencode({"request": change.request})
            entry.request = f"{context.project_path('/arrivals')}?{query}#requests"
        entry.row_after = moment_query(project, at=change.at)
        found.append(entry)
    return found


def listed_entries(
    context: PageContext, project: Project, listed: Sequence[ListedChange], attribute: str | None = None
) -> list[Entry]:
    """Return a page of a user's changes as they are shown, with the writes that were not recorded. See :func:`entries`."""
    found = entries(context, project, (each.change for each in listed), attribute)
    for entry, each in zip(found, listed, strict=True):
        entry.unrecorded, entry.not_kept = each.unrecorded, each.not_kept
    return found


def moment_query(project: Project, **moments: int) -> str:
    """Return the query for moments. Each has an offset, because a local time can stand for two moments."""
    texts = {
        name: datetime.fromtimestamp(ms / 1000, project.zone).isoformat(timespec="milliseconds")
        for name, ms in moments.items()
    }
    return urlencode(texts)


def line(context: PageContext, project: Project, change: Change, name: str) -> Line:
    """Return the effect of a change on an attribute that was sent in it."""
    report = change.reports[name]
    attribute = project.schema.attributes.get(name)
    if attribute is None:
        return Line(name, "", _raw(report.before), _raw(report.sent), "", False)
    found = effect(change, attribute)
    is_changed = change.changed and found.outcome is Outcome.APPLIED
    words = _words(context, project, change, attribute, found)
    if attribute.rule is Rule.APPEND and change.kind is not ChangeKind.UNDO:
        added = _added(report)
        count = report.elements or 0
        return Line(name, attribute.display_name, None, None, words, is_changed, added, (count, count + len(added)))
    before, after = (shown(value, attribute, project) for value in (found.before, found.after))
    return Line(name, attribute.display_name, before, after, words, is_changed)


def shown(value: Value | Absent, attribute: Attribute, project: Project) -> Value | None:
    """Return a stored value as pages show it; None for no value."""
    return None if isinstance(value, Absent) else show(value, attribute.type, project.zone)


def _words(context: PageContext, project: Project, change: Change, attribute: Attribute, found: AttributeChange) -> str:
    said = context.text(f"rule.{attribute.rule}") + context.text("colon")
    if change.kind is ChangeKind.UNDO:
        return context.text("history.restored" if found.outcome is Outcome.APPLIED else "history.same")
    if attribute.rule is Rule.APPEND:
        report = change.reports[attribute.name]
        sent, added = report.sent if isinstance(report.sent, list) else [], _added(report)
        if not added:
            return said + context.text("history.all_known")
        said += context.text("history.items_added", count=len(added))
        known = len(sent) - len(added)
        return said + (context.text("history.items_known", count=known) if known else "")
    if found.outcome is Outcome.KEPT:
        sent_text = value_text(shown(found.sent, attribute, project) or "")
        return said + context.text("history.ignored", value=sent_text[:100])
    if attribute.rule is Rule.ACCUMULATE and not isinstance(found.sent, Absent):
        sent_text = value_text(found.sent)
        return said + (sent_text.replace("-", "−") if sent_text.startswith("-") else f"+{sent_text}")
    if found.outcome is Outcome.UNCHANGED:
        return said + context.text("history.same")
    return said + context.text("history.first" if found.before is ABSENT else "history.replaced")


def _added(report: Report) -> Sequence[str]:
    if report.added is not None:
        return report.added
    return report.sent if isinstance(report.sent, list) else ()


def _raw(value: Value | Absent) -> Value | None:
    return None if isinstance(value, Absent) else value


def _kind(change: Change) -> str:
    return KINDS[change.kind] if change.creation is None else CREATIONS[change.creation]


def _sampled(context: PageContext, project: Project, changes: Sequence[Change]) -> set[str]:
    """Return the IDs of requests of which a sample is kept."""
    if all(not change.request or change.at < context.now - KEPT_MS for change in changes):
        return set()
    return {arrival.request for _, arrival in context.service.arrivals(project, limit=2 * KEPT_SAMPLES)}
