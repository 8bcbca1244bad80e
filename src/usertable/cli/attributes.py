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
    """A choice of words in any case."""

    def __init__(self, words: Iterable[str]) -> None:
        super().__init__([str(word) for word in words])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return super().convert(next((w for w in self.choices if w.lower() == str(value).lower()), value), param, ctx)


TYPE = Word(DataType)
RULE = Word(Rule)


@click.group()
@backend_options
def attribute() -> None:
    """Attributes, the columns of a project's user table."""


@attribute.command("create")
@click.argument("name", help="Lowercase letters, digits and underscores, starting with a letter. Cannot be changed later.")
@project_option
@click.option("--type", "data_type", type=TYPE, required=True, help="Data type of the values. Cannot be changed later.")
@click.option(
    "--rule", type=RULE, required=True, help="How a new value is merged with the stored one. Cannot be changed later."
)
@click.option("--display-name", default="", metavar="TEXT", help="Name shown to people.")
@click.option("--description", default="", metavar="TEXT", help="Meaning of the attribute.")
@click.option("--hidden", is_flag=True, help="Leave the attribute out of lists and exports. Writes are still accepted.")
@click.option(
    "--max-elements",
    type=int,
    metavar="N",
    default=LIST_ELEMENTS,
    show_default=True,
    help="LIST: maximum number of elements.",
)
@click.option(
    "--max-element-bytes",
    type=int,
    metavar="N",
    default=LIST_ELEMENT_BYTES,
    show_default=True,
    help="LIST: maximum bytes per element, in UTF-8.",
)
@click.option("--no-history", is_flag=True, help="Do not record changes of the attribute in the history of users.")
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
    no_history: bool,
) -> None:
    """Declare an attribute.

    \b
    Rules:
      overwrite   the newest value replaces the stored one    every type
      once        the first value is kept                     every type
      accumulate  each value is added, starting at 0          NUMBER
      append      new elements are added, without repeats     LIST

    \b
    Example:
      usertable attribute create level --project 100102 --type NUMBER --rule overwrite
    """
    wanted = forms.NewAttribute(
        *(name, DataType(data_type), Rule(rule), display_name, description, hidden, max_elements, max_element_bytes)
    )
    if no_history:
        wanted.history = False
    with opened_project(project_id) as project:
        _show_attribute(project, project.ask("declare_attribute", body=wanted), "declared")


def _show_attribute(project: ProjectBackend, attribute: documents.AttributeDocument, what: str) -> None:
    said = f"attribute {attribute.name} ({attribute.type}, {attribute.rule}) of project {project.id}: {what}"
    print_result(attribute, lambda: click.echo(said))


@attribute.command("list")
@project_option
@click.option("--search", default="", metavar="TEXT", help="Only attributes with TEXT in the name or display name.")
@click.option(
    "--status",
    type=Word(["visible", "hidden", "all"]),
    default="visible",
    show_default=True,
    help="Only attributes with this status.",
)
@click.option("--type", "data_type", type=TYPE, help="Only attributes of this data type.")
@click.option("--rule", type=RULE, help="Only attributes with this rule.")
@backend_options
def list_attributes(project_id: str | None, search: str, status: str, data_type: str | None, rule: str | None) -> None:
    """List a project's attributes in the order of their declaration.

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
@click.argument("name", help="Name of the attribute.")
@project_option
@click.option("--display-name", metavar="TEXT", help="New display name.")
@click.option("--description", metavar="TEXT", help="New description.")
@click.option("--history/--no-history", default=None, help="Whether to record changes of it in the history of users.")
@backend_options
def edit_attribute(
    name: str, project_id: str | None, display_name: str | None, description: str | None, history: bool | None
) -> None:
    """Change an attribute's display name or description, or whether its changes are recorded.

    --no-history keeps what is already recorded, for as long as history is kept. After --history, values are known from then
    on: those at earlier moments are not, because changes are missing, although the recorded ones are still listed.

    \b
    Examples:
      usertable attribute edit level --project 100102 --display-name 等级
      usertable attribute edit last_seen --project 100102 --no-history
    """
    require_a_change(display_name, description, history)
    edit = forms.AttributeEdit(**without_none(display_name=display_name, description=description, history=history))
    _edit_attribute(project_id, name, "edited", edit)


def _edit_attribute(project_id: str | None, name: str, what: str, edit: forms.AttributeEdit) -> None:
    with opened_project(project_id) as project:
        _show_attribute(project, project.ask("edit_attribute", name=name, body=edit), what)


@attribute.command("hide")
@click.argument("name", help="Name of the attribute.")
@project_option
@backend_options
def hide_attribute(name: str, project_id: str | None) -> None:
    """Leave an attribute out of lists and exports. Its values are kept, and writes are still accepted.

    \b
    Example:
      usertable attribute hide level --project 100102
    """
    _edit_attribute(project_id, name, "hidden", forms.AttributeEdit(hidden=True))


@attribute.command("show")
@click.argument("name", help="Name of the attribute.")
@project_option
@backend_options
def show_attribute(name: str, project_id: str | None) -> None:
    """Make a hidden attribute visible in lists and exports again.

    \b
    Example:
      usertable attribute show level --project 100102
    """
    _edit_attribute(project_id, name, "visible", forms.AttributeEdit(hidden=False))


@attribute.command("delete")
@click.argument("name", help="Name of the attribute.")
@project_option
@backend_options
def delete_attribute(name: str, project_id: str | None) -> None:
    """Delete an attribute that never received a value. An attribute that did can only be hidden.

    \b
    Example:
      usertable attribute delete level --project 100102
    """
    with opened_project(project_id) as project:
        project.ask("delete_attribute", name=name)
    print_result({"name": name, "deleted": True}, lambda: click.echo(f"attribute {name} deleted"))
