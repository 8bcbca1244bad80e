"""`usertable history`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

import click
import msgspec

from usertable.cli.backend import ProjectBackend, opened_project
from usertable.cli.options import Cuid, backend_options, confirm, project_option, require_a_change, without_none
from usertable.cli.output import is_terminal, noun, print_lines, print_result, print_table, printable
from usertable.domain.schema import MAX_HISTORY_DAYS, MAX_HISTORY_GIGABYTES
from usertable.wire.native import documents, forms, history_documents, queries

_NONE = "–"
"""Stands for no value."""


@click.group()
@backend_options
def history() -> None:
    """History: who changed what of a user, when, and what it was before."""


hidden_option = click.option("--hidden", is_flag=True, help="Include hidden attributes.")


@history.command("show")
@click.argument("cuid", type=Cuid(), help="CUID of the user.")
@project_option
@click.option("--attribute", metavar="NAME", help="Only changes that this attribute was sent in.")
@click.option("--actor", metavar="ACTOR", help="Only changes by this actor, such as key:default or import:crm.")
@click.option("--before", metavar="NUMBER", type=click.IntRange(1), help="Only changes with a lower number.")
@click.option(
    "--limit", metavar="N", type=click.IntRange(1), default=100, show_default=True, help="Maximum number of changes."
)
@hidden_option
@backend_options
def show_history(
    cuid: int,
    project_id: str | None,
    attribute: str | None,
    actor: str | None,
    before: int | None,
    limit: int,
    hidden: bool,
) -> None:
    """List the changes of a user, newest first.

    Each change has its time in the project's time zone, who made it, the source (what the caller runs, according to it), and
    the ID of the request; each attribute of it the value before and after, and the outcome. `+` marks elements that were
    appended to a list; `–` stands for no value. If stdout is not a terminal, each line is one attribute, with all columns.

    With --json: `changes`, as the native API has them; `next`, to be passed as --before, or null; `complete`, whether the
    list ends with the creation of the user; `not_kept`, attributes whose history was off before the oldest change of the
    list; and `kept_since`.

    \b
    Examples:
      usertable history show 10362473 --project 100102
      usertable history show 10362473 --attribute level --limit 1 --json
    """
    wanted = queries.UserChangeQuery(
        hidden="1" if hidden else "0", **without_none(attribute=attribute, actor=actor, before=before)
    )
    with opened_project(project_id) as project:
        found = _pages(project, cuid, wanted, limit)
        zone = _zone(project)

    def show() -> None:
        if is_terminal():
            _show_groups(found.changes, zone)
        else:
            heads = (f"time ({zone.key})", "actor", "attribute", "change", "outcome", "source", "request")
            print_table(heads, (row for change in found.changes for row in _rows(change, zone)))
        if found.not_kept:
            click.echo(f"Older changes may be missing, because {_off(found.not_kept)}", err=True)
        if found.next is not None:
            click.echo(f"Older changes may follow; continue with --before {found.next}", err=True)
        elif not found.complete:
            since = _local(found.kept_since, zone)
            click.echo(f"Older changes are not kept; this project's are kept since {since}", err=True)

    print_result(found, show)


def _pages(
    project: ProjectBackend, cuid: int, wanted: queries.UserChangeQuery, limit: int
) -> history_documents.UserChangeList:
    """Return up to `limit` changes, fetched in as many pages as needed."""
    changes: list[history_documents.UserChangeDocument] = []
    not_kept: list[str] = []
    while True:
        query = msgspec.structs.replace(wanted, limit=min(limit - len(changes), queries.MAX_CHANGES))
        page: history_documents.UserChangeList = project.ask("list_user_changes", cuid=str(cuid), query=query)
        if page.changes:
            page.changes[0].not_kept[:0], not_kept = not_kept, []
        changes, not_kept = [*changes, *page.changes], [*not_kept, *page.not_kept]
        if page.next is None or len(changes) == limit:
            return msgspec.structs.replace(page, changes=changes, not_kept=not_kept)
        wanted = msgspec.structs.replace(wanted, before=page.next)


def _zone(project: ProjectBackend) -> ZoneInfo:
    shown: documents.ProjectDocument = project.ask("get_project")
    return ZoneInfo(shown.timezone)


def _local(moment: str, zone: ZoneInfo) -> str:
    """Return a moment of a document in a time zone: `2026-11-30 08:00:00.123`."""
    return datetime.fromisoformat(moment).astimezone(zone).replace(tzinfo=None).isoformat(" ", "milliseconds")


def _rows(change: history_documents.UserChangeDocument, zone: ZoneInfo) -> Iterator[tuple[object, ...]]:
    """Yield the lines of a change, each with all columns."""
    for gap in _gaps(change):
        yield ("", "", "", gap, "", "", "")
    for line in _lines(change):
        yield (_local(change.at, zone), change.actor, *line, change.source, change.request)


def _show_groups(changes: Sequence[history_documents.UserChangeDocument], zone: ZoneInfo) -> None:
    """Print changes for a person: a line with who and when, and below it the attributes."""
    for change in changes:
        for gap in _gaps(change):
            click.echo(f"{gap}\n")
        request = f"request {change.request}" if change.request else ""
        parts = (_local(change.at, zone), zone.key, change.actor, change.source, request)
        click.echo("  ".join(printable(part) for part in parts if part))
        print_lines(("", *line) for line in _lines(change))
        click.echo()


def _gaps(change: history_documents.UserChangeDocument) -> Iterator[str]:
    """Yield what is not recorded after a change."""
    if change.unrecorded:
        yield f"at least {change.unrecorded:,} {noun(change.unrecorded, 'write')} not recorded"
    if change.not_kept:
        yield f"changes may be missing, because {_off(change.not_kept)}"


def _off(attributes: Sequence[str]) -> str:
    return f"the history of {', '.join(attributes)} was off"


_CREATED = {
    "import": " by an import",
    "api": " by Get CUID or the API",
    "console": " in the console",
    "command": " by a command",
}
"""By `created_through` of a change."""


def _lines(change: history_documents.UserChangeDocument) -> list[tuple[str, str, str]]:
    """Return attribute, values and outcome for each line of a change."""
    lines = [(name, _values(part), str(part.outcome)) for name, part in change.attributes.items()]
    lines += [(f"identifier {name}", f"+ {', '.join(values)}", "applied") for name, values in change.identifiers.items()]
    if change.kind == "created":
        through = _CREATED.get(str(change.created_through), "")
        lines.insert(0, ("", f"user created{through}", ""))
    return lines or [("", change.kind, "")]


def _values(part: history_documents.AttributeChangeDocument) -> str:
    """Return the values of an attribute's change: `3 → 9`, `1.5 → 1 (sent -0.5)`, `2 elements + C`."""
    if isinstance(part.added, list):
        count = part.elements_before
        elements = f"{count} {'element' if count == 1 else 'elements'}"
        return f"{elements} + {', '.join(part.added)}" if part.added else f"{elements} (sent {_shown(part.sent)})"
    before, after = _shown(part.before), _shown(part.after)
    values = before if before == after else f"{before} → {after}"
    return values if part.sent == part.after else f"{values} (sent {_shown(part.sent)})"


def _shown(value: object) -> str:
    return _NONE if value is None else documents.shown_value(value)  # type: ignore[arg-type]


@history.command("diff")
@click.argument("cuid", type=Cuid(), help="CUID of the user.")
@project_option
@click.option(
    "--from",
    "start",
    metavar="TIME",
    required=True,
    help="Earlier moment: a date, or a date and time, in the project's time zone without an offset.",
)
@click.option("--to", "end", metavar="TIME", show_default="now", help="Later moment.")
@hidden_option
@backend_options
def compare_user(cuid: int, project_id: str | None, start: str, end: str | None, hidden: bool) -> None:
    """Show how a user differs between two moments.

    For each attribute that differs, or that changed in between: the values, the number of changes, and who made the last of
    them.

    \b
    Example:
      usertable history diff 10362473 --from 2026-11-29 --to "2026-11-30 08:00:00" --project 100102
    """
    query = queries.DifferenceQuery(start, hidden="1" if hidden else "0", **without_none(end=end))
    with opened_project(project_id) as project:
        found: history_documents.UserDifferenceDocument = project.ask("compare_user", cuid=str(cuid), query=query)
        zone = _zone(project)

    def show() -> None:
        before = "did not exist" if found.version_before is None else f"version {found.version_before}"
        print_lines(
            (
                ("from", _local(found.start, zone), before),
                ("to", _local(found.end, zone), f"version {found.version_after}"),
            )
        )
        click.echo()
        print_table(
            ("attribute", "before", "after", "changes", f"last change ({zone.key})", "by", "source", "request"),
            (
                (name, _shown(d.before), _shown(d.after), d.changes, *_last(d.last, zone))
                for name, d in found.attributes.items()
            ),
        )
        for name, values in found.identifiers.items():
            click.echo(f"identifier {name}: {', '.join(values.before) or _NONE} → {', '.join(values.after) or _NONE}")
        if found.not_kept:
            click.echo(f"Not compared, because their history was off then or later: {', '.join(found.not_kept)}", err=True)

    print_result(found, show)


def _last(change: history_documents.LastChangeDocument | None, zone: ZoneInfo) -> tuple[str, str, str, str]:
    if change is None:
        return "", "", "", ""
    return _local(change.at, zone), change.actor, change.source, change.request


@history.command("status")
@project_option
@backend_options
def show_status(project_id: str | None) -> None:
    """Show how much history of a project is kept, how fast it grows, and its settings.

    \b
    Example:
      usertable history status --project 100102
    """
    with opened_project(project_id) as project:
        found: history_documents.HistoryDocument = project.ask("get_history")
        zone = _zone(project)
    _show_status(found, zone)


def _show_status(found: history_documents.HistoryDocument, zone: ZoneInfo) -> None:
    def show() -> None:
        limits = f"{_days(found.days)}, {found.gigabytes:,} GB" if found.days else "off"
        print_lines(
            (
                ("kept", limits),
                ("reports", found.reports),
                ("kept since", _optional(found.kept_since, zone)),
                ("changes", f"{found.changes:,} in {found.blocks:,} {noun(found.blocks, 'block')}"),
                ("newest change", _optional(found.newest, zone)),
                ("size", _size(found.bytes)),
                ("growth per day", _NONE if found.bytes_per_day is None else _size(found.bytes_per_day)),
                ("forecast", _forecast(found.forecast)),
            )
        )

    print_result(found, show)


def _optional(moment: str | None, zone: ZoneInfo) -> str:
    return _NONE if moment is None else f"{_local(moment, zone)} ({zone.key})"


def _days(days: float) -> str:
    return f"{days:,g} {noun(days, 'day')}"


def _size(count: int) -> str:
    """Return a number of bytes as text: `12.3 MB`, with 10^6 bytes to a MB."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"


def _forecast(forecast: history_documents.ForecastDocument | None) -> str:
    if forecast is None:
        return _NONE
    return f"{_size(forecast.bytes)} for {_days(forecast.days)}, limited by {forecast.limit}"


@history.command("set")
@project_option
@click.option(
    "--days",
    metavar="N",
    type=int,
    help=f"Days for which history is kept (0–{MAX_HISTORY_DAYS}). 0 turns it off and removes it.",
)
@click.option(
    "--gigabytes",
    metavar="N",
    type=int,
    help=f"Maximum size in 10^9 bytes (1–{MAX_HISTORY_GIGABYTES}). If it is exceeded, the oldest changes are removed.",
)
@click.option(
    "--reports",
    type=click.Choice(["different", "all"]),
    help="Which reports that change nothing are recorded: those of an actor who had not sent the value, or all.",
)
@backend_options
def edit_history(project_id: str | None, days: int | None, gigabytes: int | None, reports: str | None) -> None:
    """Change how much history of a project is kept.

    To turn off the history of one attribute, use `usertable attribute edit`.

    \b
    Example:
      usertable history set --days 90 --gigabytes 50 --project 100102
    """
    require_a_change(days, gigabytes, reports)
    edit = forms.HistoryEdit(**without_none(days=days, gigabytes=gigabytes, reports=reports))
    with opened_project(project_id) as project:
        edited: history_documents.HistoryDocument = project.ask("edit_history", body=edit)
        zone = _zone(project)
    _show_status(edited, zone)


@history.command("prune")
@project_option
@click.option(
    "--before",
    metavar="TIME",
    required=True,
    help="Remove changes before this moment: a date, or a date and time, in the project's time zone without an offset.",
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@backend_options
def prune_history(project_id: str | None, before: str, yes: bool) -> None:
    """Remove the history of a project before a moment.

    A server removes by itself what is older than the setting `days`. Changes that are stored together with newer ones stay
    until then. This cannot be undone.

    \b
    Example:
      usertable history prune --before 2026-11-01 --project 100102
    """
    with opened_project(project_id) as project:
        shown: documents.ProjectDocument = project.ask("get_project")
        if not yes:
            question = f"Permanently remove the history before {before} of project {shown.id} ({shown.name})?"
            confirm(question)
        removed: history_documents.PrunedHistoryDocument = project.ask("prune_history", body=forms.HistoryPruning(before))
    since = _local(removed.kept_since, ZoneInfo(shown.timezone))
    changes = f"{removed.changes:,} {noun(removed.changes, 'change')}"
    said = f"removed {changes}, {_size(removed.bytes)}; kept since {since} ({shown.timezone})"
    print_result(removed, lambda: click.echo(said))
