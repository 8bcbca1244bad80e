"""`usertable identifier`."""

from __future__ import annotations

import click

from usertable.cli.backend import ProjectBackend, opened_project
from usertable.cli.options import backend_options, project_option, require_a_change, without_none
from usertable.cli.output import print_result, print_table
from usertable.wire.native import documents, forms


@click.group()
@backend_options
def identifier() -> None:
    """Identifiers: named ways to point at a user, such as a phone number."""


@identifier.command("create")
@click.argument("name")
@project_option
@click.option("--display-name", default="", metavar="TEXT", help="Name for people.")
@click.option("--unique/--no-unique", default=True, show_default=True, help="One value per user; never changes.")
@click.option("--masked", is_flag=True, help="Lists show only the first 4 characters of its values.")
@backend_options
def create_identifier(name: str, project_id: str | None, display_name: str, unique: bool, masked: bool) -> None:
    """Declare an identifier.

    Its priority is below that of the ones declared before. The one with priority 1, if it is unique, can be exchanged for
    a CUID: `usertable user register`, or Get CUID of the API.

    \b
    Example:
      usertable identifier create phone --project 100102 --display-name 手机号 --masked
    """
    wanted = forms.NewIdentifier(name, display_name, unique, masked)
    with opened_project(project_id) as project:
        _show_identifier(project, project.ask("declare_identifier", body=wanted), "declared")


def _show_identifier(project: ProjectBackend, identifier: documents.IdentifierDocument, what: str) -> None:
    said = f"identifier {identifier.name} of project {project.id}: {what}, priority {identifier.priority}"
    print_result(identifier, lambda: click.echo(said))


@identifier.command("list")
@project_option
@backend_options
def list_identifiers(project_id: str | None) -> None:
    """List a project's identifiers, by priority.

    \b
    Example:
      usertable identifier list --project 100102
    """
    with opened_project(project_id) as project:
        _show_identifiers(project.ask("list_identifiers"))


def _show_identifiers(found: documents.IdentifierList) -> None:
    print_result(
        found,
        lambda: print_table(
            ("priority", "name", "display name", "unique", "masked", "preset"),
            (
                (d.priority, d.name, d.display_name, *("yes" if flag else "no" for flag in (d.unique, d.masked, d.preset)))
                for d in found.identifiers
            ),
        ),
    )


@identifier.command("order")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@project_option
@backend_options
def order_identifiers(names: tuple[str, ...], project_id: str | None) -> None:
    """Set the priority of all identifiers: the first NAME gets priority 1.

    The platform's presets may be left out; they stand last then.

    \b
    Example:
      usertable identifier order login_id phone --project 100102
    """
    with opened_project(project_id) as project:
        declared: documents.IdentifierList = project.ask("list_identifiers")
        left_out = [i.name for i in declared.identifiers if i.preset and i.name not in names]
        order = forms.IdentifierOrder([*names, *left_out])
        _show_identifiers(project.ask("order_identifiers", body=order))


@identifier.command("edit")
@click.argument("name")
@project_option
@click.option("--display-name", metavar="TEXT", help="Its new name for people.")
@click.option("--masked/--no-masked", default=None, help="Whether lists show only the first 4 characters of its values.")
@backend_options
def edit_identifier(name: str, project_id: str | None, display_name: str | None, masked: bool | None) -> None:
    """Change an identifier's display name, or whether lists mask its values.

    \b
    Example:
      usertable identifier edit phone --project 100102 --masked
    """
    require_a_change(display_name, masked)
    edit = forms.IdentifierEdit(**without_none(display_name=display_name, masked=masked))
    with opened_project(project_id) as project:
        _show_identifier(project, project.ask("edit_identifier", name=name, body=edit), "edited")


@identifier.command("delete")
@click.argument("name")
@project_option
@backend_options
def delete_identifier(name: str, project_id: str | None) -> None:
    """Delete an identifier that no user has a value of. The platform's presets cannot be deleted.

    \b
    Example:
      usertable identifier delete phone --project 100102
    """
    with opened_project(project_id) as project:
        project.ask("delete_identifier", name=name)
    print_result({"name": name, "deleted": True}, lambda: click.echo(f"identifier {name} deleted"))
