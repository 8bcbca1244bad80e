"""`usertable identifier`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from usertable.cli.context import actor, opened_service
from usertable.cli.options import common_options, project_option, require_a_change, without_none
from usertable.cli.output import print_result, print_table
from usertable.domain.schema import Identifier, Project
from usertable.wire import native

if TYPE_CHECKING:
    from usertable.app.service import Service


@click.group()
@common_options
def identifier() -> None:
    """Identifiers: named ways to point at a user, such as a phone number."""


@identifier.command("create")
@click.argument("name")
@project_option
@click.option("--display-name", default="", metavar="TEXT", help="Name for people.")
@click.option("--unique/--no-unique", default=True, show_default=True, help="One value per user; never changes.")
@click.option("--masked", is_flag=True, help="Lists show only the first 4 characters of its values.")
@common_options
def create_identifier(name: str, project_id: str, display_name: str, unique: bool, masked: bool) -> None:
    """Declare an identifier.

    Its priority is below that of the ones declared before. The one with priority 1, if it is unique, can be exchanged for
    a CUID: `usertable user register`, or Get CUID of the API.

    \b
    Example:
      usertable identifier create phone --project 100102 --display-name 手机号 --masked
    """
    with opened_service() as service:
        service.declare_identifier(project_id, Identifier(name, display_name, unique, masked), actor=actor())
        _show_identifier(service, project_id, name, "declared")


def _show_identifier(service: Service, project_id: str, name: str, what: str) -> None:
    documents = native.identifier_documents(service.project(project_id).schema.identifiers)
    (document,) = (d for d in documents if d.name == name)
    print_result(
        document, lambda: click.echo(f"identifier {name} of project {project_id}: {what}, priority {document.priority}")
    )


@identifier.command("list")
@project_option
@common_options
def list_identifiers(project_id: str) -> None:
    """List a project's identifiers, by priority.

    \b
    Example:
      usertable identifier list --project 100102
    """
    with opened_service() as service:
        project = service.project(project_id)
    _show_identifiers(project)


def _show_identifiers(project: Project) -> None:
    documents = native.identifier_documents(project.schema.identifiers)
    print_result(
        native.IdentifierList(documents),
        lambda: print_table(
            ("priority", "name", "display name", "unique", "masked", "preset"),
            (
                (d.priority, d.name, d.display_name, *("yes" if flag else "no" for flag in (d.unique, d.masked, d.preset)))
                for d in documents
            ),
        ),
    )


@identifier.command("order")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@project_option
@common_options
def order_identifiers(names: tuple[str, ...], project_id: str) -> None:
    """Set the priority of all identifiers: the first NAME gets priority 1.

    The platform's presets may be left out; they stand last then.

    \b
    Example:
      usertable identifier order login_id phone --project 100102
    """
    with opened_service() as service:
        declared = service.project(project_id).schema.identifiers
        left_out = [i.name for i in declared if i.preset and i.name not in names]
        ordered = service.order_identifiers(project_id, [*names, *left_out], actor=actor())
    _show_identifiers(ordered)


@identifier.command("edit")
@click.argument("name")
@project_option
@click.option("--display-name", metavar="TEXT", help="Its new name for people.")
@click.option("--masked/--no-masked", default=None, help="Whether lists show only the first 4 characters of its values.")
@common_options
def edit_identifier(name: str, project_id: str, display_name: str | None, masked: bool | None) -> None:
    """Change an identifier's display name, or whether lists mask its values.

    \b
    Example:
      usertable identifier edit phone --project 100102 --masked
    """
    require_a_change(display_name, masked)
    with opened_service() as service:
        service.edit_identifier(project_id, name, actor=actor(), **without_none(display_name=display_name, masked=masked))
        _show_identifier(service, project_id, name, "edited")


@identifier.command("delete")
@click.argument("name")
@project_option
@common_options
def delete_identifier(name: str, project_id: str) -> None:
    """Delete an identifier that no user has a value of. The platform's presets cannot be deleted.

    \b
    Example:
      usertable identifier delete phone --project 100102
    """
    with opened_service() as service:
        service.delete_identifier(project_id, name, actor=actor())
    print_result({"name": name, "deleted": True}, lambda: click.echo(f"identifier {name} deleted"))
