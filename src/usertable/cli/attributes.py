"""`usertable attribute`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from usertable.cli.context import actor, opened_service
from usertable.cli.options import common_options, project_option, require_a_change, without_none
from usertable.cli.output import print_result, print_table
from usertable.domain.schema import Attribute, Rule
from usertable.domain.values import LIST_ELEMENT_BYTES, LIST_ELEMENTS, DataType, Limits
from usertable.wire import native

if TYPE_CHECKING:
    from usertable.app.service import Service


class Word(click.Choice[str]):
    """One of some words, in upper or lower case."""

    def __init__(self, words: Iterable[str]) -> None:
        super().__init__([str(word) for word in words])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return super().convert(next((w for w in self.choices if w.lower() == str(value).lower()), value), param, ctx)


TYPE = Word(DataType)
RULE = Word(Rule)


@click.group()
@common_options
def attribute() -> None:
    """Attributes: the columns of a project's user table."""


@attribute.command("create")
@click.argument("name")
@project_option
@click.option("--type", "data_type", type=TYPE, required=True, help="Data type of its values; never changes.")
@click.option("--rule", type=RULE, required=True, help="What becomes of a new value; never changes.")
@click.option("--display-name", default="", metavar="TEXT", help="Name for people.")
@click.option("--description", default="", metavar="TEXT", help="What it means.")
@click.option("--hidden", is_flag=True, help="Leave it out of lists; writes are taken all the same.")
@click.option("--max-elements", type=int, default=LIST_ELEMENTS, show_default=True, help="LIST: elements at most.")
@click.option(
    "--max-element-bytes", type=int, default=LIST_ELEMENT_BYTES, show_default=True, help="LIST: bytes per element at most."
)
@common_options
def create_attribute(
    name: str,
    project_id: str,
    data_type: str,
    rule: str,
    display_name: str,
    description: str,
    hidden: bool,
    max_elements: int,
    max_element_bytes: int,
) -> None:
    """Declare an attribute.

    NAME has lowercase letters, digits and underscores, and begins with a letter. Name, type and rule never change.

    \b
    The rules:
      overwrite   the newest value replaces the old        every type
      once        the first value stays                    every type
      accumulate  every report is added, from 0 on         NUMBER
      append      new elements join, without repeats       LIST

    \b
    Example:
      usertable attribute create level --project 100102 --type NUMBER --rule overwrite
    """
    limits = Limits(max_elements, max_element_bytes)
    declared = Attribute(name, DataType(data_type), Rule(rule), display_name, description, hidden, limits)
    with opened_service() as service:
        service.declare_attribute(project_id, declared, actor=actor())
        _show_attribute(service, project_id, name, "declared")


def _show_attribute(service: Service, project_id: str, name: str, what: str) -> None:
    project = service.project(project_id)
    document = native.attribute_document(project.schema.attribute(name), project)
    print_result(
        document, lambda: click.echo(f"attribute {name} ({document.type}, {document.rule}) of project {project.id}: {what}")
    )


@attribute.command("list")
@project_option
@click.option("--search", default="", metavar="TEXT", help="Only those with TEXT in their name or display name.")
@click.option(
    "--status",
    type=Word(["visible", "hidden", "all"]),
    default="visible",
    show_default=True,
    help="Only those with this status.",
)
@click.option("--type", "data_type", type=TYPE, help="Only those of this data type.")
@click.option("--rule", type=RULE, help="Only those with this rule.")
@common_options
def list_attributes(project_id: str, search: str, status: str, data_type: str | None, rule: str | None) -> None:
    """List a project's attributes, in order of declaration.

    \b
    Example:
      usertable attribute list --project 100102 --status all --type LIST
    """
    with opened_service() as service:
        project = service.project(project_id)
    found = native.select_attributes(project, search=search, status=status, type=data_type, rule=rule)
    documents = [native.attribute_document(a, project) for a in found]
    print_result(
        native.AttributeList(documents),
        lambda: print_table(
            ("name", "display name", "type", "rule", "status", "reported", "description"),
            (
                (
                    a.name,
                    a.display_name,
                    a.type,
                    a.rule,
                    "hidden" if a.hidden else "visible",
                    "yes" if a.reported else "no",
                    a.description,
                )
                for a in documents
            ),
        ),
    )


@attribute.command("edit")
@click.argument("name")
@project_option
@click.option("--display-name", metavar="TEXT", help="Its new name for people.")
@click.option("--description", metavar="TEXT", help="Its new description.")
@common_options
def edit_attribute(name: str, project_id: str, display_name: str | None, description: str | None) -> None:
    """Change an attribute's display name or description.

    \b
    Example:
      usertable attribute edit level --project 100102 --display-name 等级
    """
    require_a_change(display_name, description)
    _edit_attribute(project_id, name, "edited", **without_none(display_name=display_name, description=description))


def _edit_attribute(project_id: str, name: str, what: str, **changes: Any) -> None:
    with opened_service() as service:
        service.edit_attribute(project_id, name, actor=actor(), **changes)
        _show_attribute(service, project_id, name, what)


@attribute.command("hide")
@click.argument("name")
@project_option
@common_options
def hide_attribute(name: str, project_id: str) -> None:
    """Leave an attribute out of lists. Its values stay, and writes are taken all the same.

    \b
    Example:
      usertable attribute hide level --project 100102
    """
    _edit_attribute(project_id, name, "hidden", hidden=True)


@attribute.command("show")
@click.argument("name")
@project_option
@common_options
def show_attribute(name: str, project_id: str) -> None:
    """Show a hidden attribute in lists again.

    \b
    Example:
      usertable attribute show level --project 100102
    """
    _edit_attribute(project_id, name, "visible", hidden=False)


@attribute.command("delete")
@click.argument("name")
@project_option
@common_options
def delete_attribute(name: str, project_id: str) -> None:
    """Delete an attribute that no value was ever reported for. Any other can be hidden.

    \b
    Example:
      usertable attribute delete level --project 100102
    """
    with opened_service() as service:
        service.delete_attribute(project_id, name, actor=actor())
    print_result({"name": name, "deleted": True}, lambda: click.echo(f"attribute {name} deleted"))
