"""`usertable audit`."""

from __future__ import annotations

import click
import msgspec
from msgspec import UNSET

from usertable.cli.backend import Backend, opened_backend
from usertable.cli.options import backend_options, without_none
from usertable.cli.output import print_result, print_table
from usertable.wire.native import documents, queries


@click.command("audit")
@click.option("--project", "project_id", metavar="ID", help="ID of the project. [default: the log of the installation]")
@click.option("--actor", metavar="ACTOR", help="Only entries of this actor, such as key:default or person:ann@example.com.")
@click.option("--kind", "kinds", metavar="KIND", multiple=True, help="Only entries of this kind. Repeatable.")
@click.option("--subject", metavar="TEXT", help="Only entries about this: an attribute, a CUID, an import job.")
@click.option(
    "--from",
    "since",
    metavar="TIME",
    help="Only entries since this time: a date, or a date and time, in UTC without an offset.",
)
@click.option("--to", "until", metavar="TIME", help="Only entries before this time.")
@click.option("--after", metavar="NUMBER", type=click.IntRange(0), help="Only entries after this one, oldest first.")
@click.option(
    "--limit", metavar="N", type=click.IntRange(1), default=100, show_default=True, help="Maximum number of entries."
)
@backend_options
def show_audit(
    project_id: str | None,
    actor: str | None,
    kinds: tuple[str, ...],
    subject: str | None,
    since: str | None,
    until: str | None,
    after: int | None,
    limit: int,
) -> None:
    """Show the audit log of a project or of the installation.

    It lists who did what, newest first.

    The log of a project has the changes of its settings, schema and keys, users that were added or erased, and imports.
    The log of the installation has the projects that were created, sign-ins, and operations on the whole store. With
    --url, it takes the admin token.

    With --json: `entries`, each with `number`, `at`, `actor`, `kind`, `subject`, `before`, `after`, `what`, `request_id`
    and `address`; and `next`, the number with which the next page continues, or null.

    \b
    Examples:
      usertable audit --project 100102 --kind "erase user" --from 2026-11-01
      usertable audit --project 100102 --after 0 --limit 1000 --json
    """
    wanted = queries.AuditQuery(
        kind=list(kinds), **without_none(actor=actor, subject=subject, since=since, until=until, after=after)
    )
    with opened_backend() as backend:
        found = _pages(backend, project_id, wanted, limit)
    print_result(
        found,
        lambda: print_table(("number", "at", "actor", "what"), ((e.number, e.at, e.actor, e.what) for e in found.entries)),
    )


def _pages(backend: Backend, project_id: str | None, wanted: queries.AuditQuery, limit: int) -> documents.AuditPage:
    """Return up to `limit` entries, fetched in as many pages as needed."""
    entries: list[documents.AuditDocument] = []
    while True:
        query = msgspec.structs.replace(wanted, limit=min(limit - len(entries), queries.MAX_ENTRIES))
        if project_id is None:
            page: documents.AuditPage = backend.ask("list_installation_audit", query=query)
        else:
            page = backend.ask("list_audit", query=query, project=project_id)
        entries += page.entries
        if page.next is None or len(entries) == limit:
            return documents.AuditPage(entries, page.next)
        wanted = msgspec.structs.replace(wanted, **{"before" if wanted.after is UNSET else "after": page.next})
