"""`usertable person`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from usertable.cli.backend import Backend, opened_backend
from usertable.cli.context import load_settings
from usertable.cli.options import Pair, backend_options, common_option, without_none
from usertable.cli.output import noun, print_lines, print_result, print_table
from usertable.config import read_secret
from usertable.wire.native import documents, forms

ROLES = ("owner", "editor", "viewer")
NO_ROLE = "none"
_role_option = click.option(
    "--role",
    "roles",
    type=Pair(),
    multiple=True,
    metavar="PROJECT=ROLE",
    help=f"Role in a project, by the ID of the project: {', '.join(ROLES)}. Repeatable.",
)


@click.group()
@backend_options
def person() -> None:
    """People who may sign in to the console, and their roles."""


@person.command("create")
@click.argument("email", help="E-mail address. Letter case makes no difference.")
@click.option("--name", metavar="NAME", help="Name shown to people.")
@click.option("--admin", is_flag=True, help="Make the person an admin, who may do everything.")
@_role_option
@click.option("--password-file", metavar="FILE", help="File with the password, 15 characters or more.")
@click.option("--invite", is_flag=True, help="Set no password, and print a link with which the person sets one.")
@backend_options
def create_person(
    email: str, name: str | None, admin: bool, roles: Sequence[tuple[str, str]], password_file: str | None, invite: bool
) -> None:
    """Add a person.

    Without --password-file and --invite, the command asks for the password.

    \b
    Examples:
      usertable person create ann@example.com --admin
      usertable person create bob@example.com --role 100102=editor --invite
    """
    if invite and password_file:
        raise click.UsageError("--invite and --password-file exclude each other: an invited person sets the password")
    password = None if invite else _password(password_file)
    wanted = forms.NewPerson(email, **without_none(name=name, roles=dict(roles), password=password), admin=admin)
    with opened_backend(create=True) as backend:
        created: documents.PersonDocument = backend.ask("create_person", body=wanted)
        if invite:
            _print_link(backend, created.email)
        else:
            print_result(created, lambda: click.echo(f"person {created.email}: created"))


@person.command("list")
@backend_options
def list_people() -> None:
    """List people by e-mail address, with their roles.

    \b
    Example:
      usertable person list
    """
    with opened_backend() as backend:
        found: documents.PersonList = backend.ask("list_people")
    print_result(
        found,
        lambda: print_table(
            ("email", "name", "state", "roles", "last sign-in"),
            (
                (
                    p.email,
                    p.name,
                    p.state,
                    " ".join((["admin"] if p.admin else []) + [f"{id}={role}" for id, role in p.roles.items()]),
                    p.last_sign_in_at,
                )
                for p in found.people
            ),
        ),
    )


@person.command("edit")
@click.argument("email", help="E-mail address of the person.")
@click.option("--name", metavar="NAME", help="New name.")
@click.option("--admin/--no-admin", default=None, help="Grant or withdraw the role admin.")
@click.option("--disable/--enable", "disabled", default=None, help="Disable or enable the account.")
@click.option(
    "--role",
    "roles",
    type=Pair(),
    multiple=True,
    metavar="PROJECT=ROLE",
    help=f"New role in a project, by the ID of the project: {', '.join(ROLES)}, or {NO_ROLE}. Repeatable.",
)
@backend_options
def edit_person(
    email: str, name: str | None, admin: bool | None, disabled: bool | None, roles: Sequence[tuple[str, str]]
) -> None:
    """Change a person's name, roles or state.

    A person who is disabled is signed out within a second, on every server of the store, and cannot sign in.

    \b
    Examples:
      usertable person edit bob@example.com --role 100102=owner --role 100103=none
      usertable person edit bob@example.com --disable
    """
    new_roles = {project: None if role == NO_ROLE else role for project, role in roles} or None
    edit = without_none(name=name, admin=admin, disabled=disabled, roles=new_roles)
    if not edit:
        raise click.UsageError("nothing to change; use --name, --admin, --no-admin, --disable, --enable or --role")
    with opened_backend() as backend:
        edited = backend.ask("edit_person", body=forms.PersonEdit(**edit), email=email)
    print_result(edited, lambda: click.echo(f"person {edited.email}: changed"))


@person.command("invite")
@click.argument("email", help="E-mail address of the person.")
@backend_options
def invite_person(email: str) -> None:
    """Print a link with which a person sets a password.

    The link works once, expires after 72 hours, and replaces the one before. Use it to invite a person again, and for a
    person who forgot the password. Setting the password signs the person out everywhere.

    \b
    Example:
      usertable person invite bob@example.com
    """
    with opened_backend() as backend:
        _print_link(backend, email)


@person.command("sign-out")
@click.argument("email", help="E-mail address of the person.")
@backend_options
def sign_out_person(email: str) -> None:
    """End all console sessions of a person.

    \b
    Example:
      usertable person sign-out bob@example.com
    """
    with opened_backend() as backend:
        ended: documents.SessionsEnded = backend.ask("sign_out_person", email=email)
    print_result(ended, lambda: click.echo(f"person {email}: signed out of {ended.ended} {noun(ended.ended, 'session')}"))


@person.command("remove")
@click.argument("email", help="E-mail address of the person.")
@backend_options
def remove_person(email: str) -> None:
    """Remove a person permanently, and end their sessions.

    What the person did stays in the audit log. To lock a person out for a while, use person edit --disable.

    \b
    Example:
      usertable person remove bob@example.com
    """
    with opened_backend() as backend:
        backend.ask("remove_person", email=email)
    print_result({"email": email, "removed": True}, lambda: click.echo(f"person {email}: removed"))


def _password(file: str | None) -> str:
    """Return the password from a file or from a prompt."""
    if file is not None:
        return read_secret(file, "--password-file")
    if not _has_terminal():
        raise click.UsageError("there is no terminal to ask for the password; use --password-file FILE or --invite")
    password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return password


def _has_terminal() -> bool:
    """Return whether there is a terminal to prompt on."""
    return sys.stdin is not None and sys.stdin.isatty()


def _print_link(backend: Backend, email: str) -> None:
    link: documents.PasswordLinkDocument = backend.ask("make_password_link", email=email)
    url = common_option("url")
    address = (load_settings().config.browser_url if url is None else url.rstrip("/")) + link.path

    def show() -> None:
        print_lines((("person", link.email), ("link", address), ("expires", link.expires_at)))
        click.echo("The link is shown only once, and works once. Send it to the person.")

    print_result({"email": link.email, "link": address, "expires_at": link.expires_at}, show)
