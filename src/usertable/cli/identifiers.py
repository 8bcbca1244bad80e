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
    """Identifiers of users, such as a phone number or a login name."""


@identifier.command("create")
@click.argument("name", help="Lowercase letters, digits and underscores, starting with a letter. Cannot be changed later.")
@project_option
@click.option("--display-name", default="", metavar="TEXT", help="Name shown to people.")
@click.option(
    "--unique/--no-unique",
    default=True,
    show_default=True,
    help="Whether a user has at most one value. Cannot be changed later.",
)
@click.option("--masked", is_flag=True, help="Show only the first 4 characters of the values in lists.")
@backend_options
def create_identifier(name: str, project_id: str | None, display_name: str, unique: bool, masked: bool) -> None:
    """Declare an identifier.

    It gets the lowest priority of the declared identifiers. Values of the identifier with priority 1, if it is unique, can
    be exchanged for CUIDs: with `usertable user register`, or with Get CUID of the API.

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
    """List a project's identifiers by priority.

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
@click.argument(
    "names", metavar="NAME...", nargs=-1, required=True, help="Names of all identifiers, highest priority first."
)
@project_option
@backend_options
def order_identifiers(names: tuple[str, ...], project_id: str | None) -> None:
    """Set the priority of all identifiers. The first NAME gets priority 1.

    The platform's presets may be omitted; they then come last.

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
@click.argument("name", help="Name of the identifier.")
@project_option
@click.option("--display-name", metavar="TEXT", help="New display name.")
@click.option("--masked/--no-masked", default=None, help="Whether lists show only the first 4 characters of the values.")
@backend_options
def edit_identifier(name: str, project_id: str | None, display_name: str | None, masked: bool | None) -> None:
    """Change an identifier's display name or masking.

    \b
    Example:
      usertable identifier edit phone --project 100102 --masked
    """
    require_a_change(display_name, masked)
    edit = forms.IdentifierEdit(**without_none(display_name=display_name, masked=masked))
    with opened_project(project_id) as project:
        _show_identifier(project, project.ask("edit_identifier", name=name, body=edit), "edited")


@identifier.command("delete")
@click.argument("name", help="Name of the identifier.")
@project_option
@backend_options
def delete_identifier(name: str, project_id: str | None) -> None:
    """Delete an identifier that no user has a value for. The platform's presets cannot be deleted.

    \b
    Example:
      usertable identifier delete phone --project 100102
    """
    with opened_project(project_id) as project:
        project.ask("delete_identifier", name=name)
    print_result({"name": name, "deleted": True}, lambda: click.echo(f"identifier {name} deleted"))
