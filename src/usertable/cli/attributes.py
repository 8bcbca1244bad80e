"""`usertable attribute`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from usertable.cli.backend import ProjectBackend, opened_project
from usertable.cli.options import backend_options, project_option, require_a_change, without_none
from usertable.cli.output import print_result, print_table
from usertable.domain.schema import Rule
from usertable.domain.values import LIST_ELEMENT_BYTES, LIST_ELEMENTS, DataType
from usertable.wire.native import documents, forms, queries


class Word(click.Choice[str]):
    """One of some words, in upper or lower case."""

    def __init__(self, words: Iterable[str]) -> None:
        super().__init__([str(word) for word in words])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return super().convert(next((w for w in self.choices if w.lower() == str(value).lower()), value), param, ctx)


TYPE = Word(DataType)
RULE = Word(Rule)


@click.group()
@backend_options
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
@backend_options
def create_attribute(
    name: str,
    project_id: str | None,
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
    wanted = forms.NewAttribute(
        *(name, DataType(data_type), Rule(rule), display_name, description, hidden, max_elements, max_element_bytes)
    )
    with opened_project(project_id) as project:
        _show_attribute(project, project.ask("declare_attribute", body=wanted), "declared")


def _show_attribute(project: ProjectBackend, attribute: documents.AttributeDocument, what: str) -> None:
    said = f"attribute {attribute.name} ({attribute.type}, {attribute.rule}) of project {project.id}: {what}"
    print_result(attribute, lambda: click.echo(said))


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
@backend_options
def list_attributes(project_id: str | None, search: str, status: str, data_type: str | None, rule: str | None) -> None:
    """List a project's attributes, in order of declaration.

    \b
    Example:
      usertable attribute list --project 100102 --status all --type LIST
    """
    query = queries.AttributeQuery(**without_none(search=search, status=status, type=data_type, rule=rule))
    with opened_project(project_id) as project:
        found: documents.AttributeList = project.ask("list_attributes", query=query)
    print_result(
        found,
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
                for a in found.attributes
            ),
        ),
    )


@attribute.command("edit")
@click.argument("name")
@project_option
@click.option("--display-name", metavar="TEXT", help="Its new name for people.")
@click.option("--description", metavar="TEXT", help="Its new description.")
@backend_options
def edit_attribute(name: str, project_id: str | None, display_name: str | None, description: str | None) -> None:
    """Change an attribute's display name or description.

    \b
    Example:
      usertable attribute edit level --project 100102 --display-name 等级
    """
    require_a_change(display_name, description)
    edit = forms.AttributeEdit(**without_none(display_name=display_name, description=description))
    _edit_attribute(project_id, name, "edited", edit)


def _edit_attribute(project_id: str | None, name: str, what: str, edit: forms.AttributeEdit) -> None:
    with opened_project(project_id) as project:
        _show_attribute(project, project.ask("edit_attribute", name=name, body=edit), what)


@attribute.command("hide")
@click.argument("name")
@project_option
@backend_options
def hide_attribute(name: str, project_id: str | None) -> None:
    """Leave an attribute out of lists. Its values stay, and writes are taken all the same.

    \b
    Example:
      usertable attribute hide level --project 100102
    """
    _edit_attribute(project_id, name, "hidden", forms.AttributeEdit(hidden=True))


@attribute.command("show")
@click.argument("name")
@project_option
@backend_options
def show_attribute(name: str, project_id: str | None) -> None:
    """Show a hidden attribute in lists again.

    \b
    Example:
      usertable attribute show level --project 100102
    """
    _edit_attribute(project_id, name, "visible", forms.AttributeEdit(hidden=False))


@attribute.command("delete")
@click.argument("name")
@project_option
@backend_options
def delete_attribute(name: str, project_id: str | None) -> None:
    """Delete an attribute that no value was ever reported for. Any other can be hidden.

    \b
    Example:
      usertable attribute delete level --project 100102
    """
    with opened_project(project_id) as project:
        project.ask("delete_attribute", name=name)
    print_result({"name": name, "deleted": True}, lambda: click.echo(f"attribute {name} deleted"))
