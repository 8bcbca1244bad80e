"""`usertable project`."""

from __future__ import annotations

from typing import Any, Literal

import click

from usertable.cli.backend import opened_backend
from usertable.cli.options import backend_options, require_a_change, without_none
from usertable.cli.output import print_lines, print_result, print_table
from usertable.wire.native import documents, forms, queries

SHORT_SECRET = 16
"""A given secret with fewer characters is taken with a warning."""


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
    """Projects: each has its own users, attributes and secret."""


@project.command("create")
@click.argument("name")
@click.option(
    "--id",
    "project_id",
    metavar="ID",
    help="Its id in requests: 1 to 64 of A-Z a-z 0-9 . _ -, and neither . nor .. (default: six digits).",
)
@click.option("--secret", metavar="SECRET", help="A secret that you have already (default: a random one).")
@click.option("--timezone", metavar="TZ", help="IANA time zone of its DATETIME values (default: Asia/Shanghai).")
@click.option("--qps", type=Qps(), help="Requests per second and API (default: 100).")
@backend_options
def create_project(
    name: str, project_id: str | None, secret: str | None, timezone: str | None, qps: int | str | None
) -> None:
    """Create a project.

    Its secret is shown only this once; the store keeps a hash of it.

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
        click.echo("The secret is shown only this once. Keep it now; if it is lost, rotate it.")

    if given is not None and len(given) < SHORT_SECRET:
        click.echo(
            f"Warning: the secret has fewer than {SHORT_SECRET} characters and may be guessed;"
            " leave --secret out to get a random one.",
            err=True,
        )
    print_result(project, show)


@project.command("list")
@backend_options
def list_projects() -> None:
    """List all projects, in order of creation.

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
@click.argument("project_id", metavar="ID")
@click.option("--name", metavar="TEXT", help="Its new name.")
@click.option("--timezone", metavar="TZ", help="Its new IANA time zone; moments that are stored stay the same moments.")
@click.option("--qps", type=Qps(), help="Requests per second and API.")
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
@click.argument("project_id", metavar="ID")
@click.option("--secret", metavar="SECRET", help="A secret that you have already (default: a random one).")
@backend_options
def rotate_secret(project_id: str, secret: str | None) -> None:
    """Replace a project's secret. The old one stops working within a second; the new one is shown only this once.

    \b
    Example:
      usertable project rotate-secret 100102
    """
    rotation = forms.SecretRotation(**without_none(secret=secret))
    with opened_backend() as backend:
        rotated = backend.ask("rotate_secret", project=project_id, body=rotation)
    _show_secret(rotated, given=secret)


@project.command("changes")
@click.argument("project_id", metavar="ID")
@click.option(
    "--limit", type=click.IntRange(1), default=100, show_default=True, metavar="N", help="Maximum number of rows to return."
)
@backend_options
def list_changes(project_id: str, limit: int) -> None:
    """Show who changed the project or its schema, when and how, newest first.

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
