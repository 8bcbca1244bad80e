"""`usertable key`."""

from __future__ import annotations

from collections.abc import Sequence

import click
from msgspec import UNSET

from usertable.cli.backend import ProjectBackend, opened_project
from usertable.cli.options import backend_options, project_option, warn_of_short_secret, without_none
from usertable.cli.output import print_lines, print_result, print_table
from usertable.domain.key import MAX_KEYS
from usertable.domain.permissions import PROJECT_SCOPES, ordered
from usertable.wire.native import documents, forms, queries

SCOPES = tuple(str(scope) for scope in ordered(PROJECT_SCOPES))


@click.group()
@backend_options
def key() -> None:
    """Keys, the credentials of a project, each with its own scopes."""


@key.command("create")
@click.argument("name", help="Name of the key: 1 to 64 of the characters A-Z a-z 0-9 . _ -. It can be used only once.")
@project_option
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    metavar="SCOPE",
    show_default="write and register",
    help=f"What the key may do: {', '.join(SCOPES)}. Repeatable.",
)
@click.option(
    "--expires",
    "expires_at",
    metavar="DATE",
    show_default="never",
    help="When the key expires: a date such as 2027-01-31, or a time such as 2027-01-31T12:00:00Z.",
)
@click.option("--secret", metavar="SECRET", show_default="a generated secret", help="Secret to use.")
@backend_options
def create_key(name: str, project_id: str | None, scopes: Sequence[str], expires_at: str | None, secret: str | None) -> None:
    """Create a key and print its secret.

    The secret is shown once. Callers send it with the ID of the project. A date begins in the project's time zone.

    \b
    Examples:
      usertable key create billing --project 100102 --scope read --scope write
      usertable key create load-test --project 100102 --expires 2027-01-31 --json
    """
    wanted = forms.NewKey(name, **without_none(scopes=list(scopes) or None, expires_at=expires_at, secret=secret))
    with opened_project(project_id) as project:
        created: documents.KeyDocument = project.ask("create_key", body=wanted)

    warn_of_short_secret(secret)

    def show() -> None:
        lines = [("project", project.id), ("name", created.name), ("scopes", " ".join(created.scopes))]
        if created.expires_at is not None:
            lines.append(("expires", created.expires_at))
        print_lines((*lines, ("secret", created.secret)))
        click.echo("The secret is shown only once. Save it now; if it is lost, create another key and revoke this one.")

    print_result(created, show)


@key.command("list")
@project_option
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Maximum number of keys.",
)
@backend_options
def list_keys(project_id: str | None, limit: int) -> None:
    """List a project's keys in the order of their creation, then revoked ones, the last revoked first.

    After `project rotate-secret --overlap`, a line on stderr says until when the old secret also works.

    \b
    Examples:
      usertable key list --project 100102
      usertable key list --project 100102 --limit 10000 --json
    """
    with opened_project(project_id) as project:
        found = _pages(project, limit)

    def show() -> None:
        print_table(
            ("name", "scopes", "state", "created", "by", "last used", "expires"),
            (
                (k.name, " ".join(k.scopes), k.state, k.created_at, k.created_by, k.last_used_at, k.expires_at)
                for k in found.keys
            ),
        )
        for each in found.keys:
            if each.previous_secret_until is not UNSET:
                click.echo(f"The old secret of {each.name} works until {each.previous_secret_until}.", err=True)
        if found.next:
            click.echo("There are more keys: use a larger --limit.", err=True)

    print_result(found, show)


def _pages(project: ProjectBackend, limit: int) -> documents.KeyList:
    """Return up to `limit` keys, fetched in as many pages as needed."""
    page: documents.KeyList = project.ask("list_keys", query=queries.KeyQuery(limit=min(limit, MAX_KEYS)))
    keys = page.keys
    while page.next is not None and len(keys) < limit:
        query = queries.KeyQuery(limit=min(limit - len(keys), MAX_KEYS), after=page.next)
        page = project.ask("list_keys", query=query)
        keys += page.keys
    return documents.KeyList(keys, page.next)


@key.command("revoke")
@click.argument("name", help="Name of the key.")
@project_option
@click.option("--confirm", is_flag=True, help="Revoke the key even if it is the last one with the scope keys.")
@backend_options
def revoke_key(name: str, project_id: str | None, confirm: bool) -> None:
    """Revoke a key.

    Its secret stops working within a second, on every server of the store. A revoked key cannot be restored.

    \b
    Example:
      usertable key revoke billing --project 100102
    """
    with opened_project(project_id) as project:
        revoked = project.ask("revoke_key", name=name, body=forms.Revocation(confirm))
    print_result(revoked, lambda: click.echo(f"key {name} of project {project.id}: revoked"))
