"""`usertable schema`."""

from __future__ import annotations

from typing import IO

import click

from usertable.cli.backend import ProjectBackend, opened_project
from usertable.cli.options import backend_options, project_option
from usertable.cli.output import print_result, printable
from usertable.domain.schema_plan import Step
from usertable.wire.native import documents, forms, queries


@click.group()
@backend_options
def schema() -> None:
    """Schema as code: a project's attributes and identifiers as a YAML file."""


@schema.command("export")
@project_option
@backend_options
def export_schema(project_id: str | None) -> None:
    """Print a project's schema as YAML, or as JSON, which is YAML too.

    \b
    Example:
      usertable schema export --project 100102 > schema.yaml
    """
    from usertable.wire import schema_file

    with opened_project(project_id) as project:
        exported: forms.SchemaForm = project.ask("get_schema")
    # In UTF-8 whatever the terminal has, because that is what a schema file is in.
    print_result(exported, lambda: click.echo(schema_file.encode(exported.schema()).encode(), nl=False))


@schema.command("diff")
@click.argument("file", type=click.File("rb"))
@project_option
@backend_options
def diff_schema(file: IO[bytes], project_id: str | None) -> None:
    """Print the plan that `apply` would follow, and change nothing. FILE may be - for stdin.

    The exit code is 1 if `apply` would refuse.

    \b
    Example:
      usertable schema diff schema.yaml --project 100102
    """
    from usertable.wire import schema_file

    wanted = forms.schema_form(schema_file.decode(file.read()))
    with opened_project(project_id) as project:
        plan = _plan(project, wanted)
    _show_plan(plan)


@schema.command("apply")
@click.argument("file", type=click.File("rb"))
@project_option
@backend_options
def apply_schema(file: IO[bytes], project_id: str | None) -> None:
    """Print the plan that turns a project's schema into that of FILE (- for stdin), and follow it.

    Whole or not at all: a step that would lose or reinterpret data, such as another type or the removal of an attribute,
    refuses everything. Applying the same file again does nothing.

    \b
    Example:
      usertable schema apply schema.yaml --project 100102
    """
    from usertable.wire import schema_file

    wanted = forms.schema_form(schema_file.decode(file.read()))
    with opened_project(project_id) as project:
        plan = _plan(project, wanted)
        if not plan.refused:
            # What was done is the plan of the moment of doing it; someone else may have changed the schema since.
            plan = project.ask("put_schema", body=wanted)
    plan.dry_run = False
    _show_plan(plan)


def _plan(project: ProjectBackend, wanted: forms.SchemaForm) -> documents.PlanDocument:
    """The steps that would be taken."""
    plan: documents.PlanDocument = project.ask("put_schema", query=queries.SchemaQuery(dry_run="1"), body=wanted)
    return plan


def _show_plan(plan: documents.PlanDocument) -> None:
    """Show a plan. Raises Refused if a step of it is refused."""
    from usertable.app.schema import refuse_steps

    steps, refused = (
        [Step(step.verb, step.thing, step.name, step.detail) for step in of] for of in (plan.steps, plan.refused)
    )

    def show() -> None:
        for step in steps:
            click.echo(f"{'+' if step.verb == 'declare' else '~'} {printable(str(step))}")
        for step in refused:
            click.echo(f"! {printable(str(step))}")
        if not steps and not refused:
            click.echo("nothing to do")

    print_result(plan, show)
    if refused:
        raise refuse_steps(refused)
