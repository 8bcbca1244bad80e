"""`usertable project`."""

from __future__ import annotations

from typing import Any, Literal

import click
from msgspec import UNSET

from usertable.cli.backend import opened_backend
from usertable.cli.options import backend_options, require_a_change, warn_of_short_secret, without_none
from usertable.cli.output import print_lines, print_result, print_table
from usertable.domain.key import MAX_OVERLAP_SECONDS
from usertable.wire.native import documents, forms, queries


class Qps(click.ParamType[int | Literal["unlimited"]]):
    """A number of requests per second, or `unlimited`."""

    name = "N|unlimited"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | Literal["unlimited"]:
        if value == "unlimited":
            return "unlimited"
        try:
            return int(value)
        except ValueError:
            self.fail(f"{value!r} is neither an integer nor 'unlimited'", param, ctx)


@click.group()
@backend_options
def project() -> None:
    """Projects, each with its own users, attributes and secret."""


@project.command("create")
@click.argument("name", help="Name of the project, for people.")
@click.option(
    "--id",
    "project_id",
    metavar="ID",
    show_default="six random digits",
    help="ID of the project in requests: 1 to 64 of the characters A-Z a-z 0-9 . _ -, but not . or ..",
)
@click.option("--secret", metavar="SECRET", show_default="a generated secret", help="Secret to use.")
@click.option(
    "--timezone", metavar="TZ", show_default="Asia/Shanghai", help="IANA time zone of the project's DATETIME values."
)
@click.option("--qps", type=Qps(), show_default="100", help="Maximum requests per second for each API, or unlimited.")
@backend_options
def create_project(
    name: str, project_id: str | None, secret: str | None, timezone: str | None, qps: int | str | None
) -> None:
    """Create a project and print its secret.

    The secret is shown once; the store keeps only a hash of it. Omit --id and --secret to have them generated.

    \b
    Examples:
      usertable project create demo
      usertable project create shop --timezone Europe/Berlin --qps unlimited --json
    """
    wanted = forms.NewProject(name, **without_none(id=project_id, secret=secret, timezone=timezone, qps=qps))
    with opened_backend(create=True) as backend:
        created = backend.ask("create_project", body=wanted)
    _show_secret(created, given=secret)


def _show_secret(project: documents.ProjectDocument, *, given: str | None) -> None:
    def show() -> None:
        print_lines((("id", project.id), ("name", project.name), ("secret", project.secret)))
        if project.previous_secret_until is not UNSET:
            click.echo(f"The old secret works until {project.previous_secret_until}.")
        click.echo("The secret is shown only once. Save it now; if it is lost, rotate it.")

    warn_of_short_secret(given)
    print_result(project, show)


@project.command("list")
@backend_options
def list_projects() -> None:
    """List all projects in the order of their creation.

    \b
    Example:
      usertable project list --json
    """
    with opened_backend() as backend:
        found: documents.ProjectList = backend.ask("list_projects")
    print_result(
        found,
        lambda: print_table(
            ("id", "name", "timezone", "qps", "created"),
            ((p.id, p.name, p.timezone, p.qps, p.created_at) for p in found.projects),
        ),
    )


@project.command("edit")
@click.argument("project_id", metavar="ID", help="ID of the project.")
@click.option("--name", metavar="TEXT", help="New name.")
@click.option("--timezone", metavar="TZ", help="New IANA time zone. Stored DATETIME values keep their moment.")
@click.option("--qps", type=Qps(), help="New maximum requests per second for each API, or unlimited.")
@backend_options
def edit_project(project_id: str, name: str | None, timezone: str | None, qps: int | str | None) -> None:
    """Change a project's name, time zone or QPS limit.

    \b
    Example:
      usertable project edit 100102 --qps 500
    """
    require_a_change(name, timezone, qps)
    edit = forms.ProjectEdit(**without_none(name=name, timezone=timezone, qps=qps))
    with opened_backend() as backend:
        document: documents.ProjectDocument = backend.ask("edit_project", project=project_id, body=edit)
    print_result(
        document,
        lambda: print_lines(
            (("id", document.id), ("name", document.name), ("timezone", document.timezone), ("qps", document.qps))
        ),
    )


@project.command("rotate-secret")
@click.argument("project_id", metavar="ID", help="ID of the project.")
@click.option("--secret", metavar="SECRET", show_default="a generated secret", help="Secret to use.")
@click.option(
    "--overlap",
    type=click.IntRange(0, MAX_OVERLAP_SECONDS),
    default=0,
    show_default=True,
    metavar="SECONDS",
    help="Seconds for which the old secret continues to work.",
)
@backend_options
def rotate_secret(project_id: str, secret: str | None, overlap: int) -> None:
    """Replace the secret of a project's key "default" and print the new one.

    The old secret stops working within a second, or after --overlap. A secret that was replaced earlier stops in any
    case. The new secret is shown once. Omit --secret to have it generated.

    \b
    Examples:
      usertable project rotate-secret 100102
      usertable project rotate-secret 100102 --overlap 3600
    """
    rotation = forms.SecretRotation(**without_none(secret=secret), overlap_seconds=overlap)
    with opened_backend() as backend:
        rotated = backend.ask("rotate_secret", project=project_id, body=rotation)
    _show_secret(rotated, given=secret)


@project.command("changes")
@click.argument("project_id", metavar="ID", help="ID of the project.")
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=100,
    show_default=True,
    metavar="N",
    help="Maximum number of rows to return (1–1000).",
)
@backend_options
def list_changes(project_id: str, limit: int) -> None:
    """List the changes of a project and its schema, newest first: when, by whom, and what.

    \b
    Example:
      usertable project changes 100102 --limit 10
    """
    with opened_backend() as backend:
        found: documents.ChangeList = backend.ask("list_changes", project=project_id, query=queries.ChangeQuery(limit))
    print_result(
        found,
        lambda: print_table(("at", "actor", "what"), ((c.at, c.actor, c.what) for c in found.changes)),
    )
