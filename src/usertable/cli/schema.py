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
    """Schema as code: attributes and identifiers in a YAML file."""


@schema.command("export")
@project_option
@backend_options
def export_schema(project_id: str | None) -> None:
    """Print a project's schema as YAML, or with --json as JSON, which `schema apply` reads too.

    \b
    Example:
      usertable schema export --project 100102 > schema.yaml
    """
    from usertable.wire import schema_file

    with opened_project(project_id) as project:
        exported: forms.SchemaForm = project.ask("get_schema")
    # Always UTF-8, whatever the terminal's encoding, because schema files are UTF-8.
    print_result(exported, lambda: click.echo(schema_file.encode(exported.schema()).encode(), nl=False))


@schema.command("diff")
@click.argument("file", type=click.File("rb"), help="Schema file in YAML or JSON; - for stdin.")
@project_option
@backend_options
def diff_schema(file: IO[bytes], project_id: str | None) -> None:
    """Print what `schema apply` would change, without changing anything.

    The exit code is 1 if `schema apply` would reject the file.

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
@click.argument("file", type=click.File("rb"), help="Schema file in YAML or JSON; - for stdin.")
@project_option
@backend_options
def apply_schema(file: IO[bytes], project_id: str | None) -> None:
    """Change a project's schema to the one in FILE, and print the changes.

    All changes are applied, or none: a change that would lose or reinterpret data, such as another data type or the removal
    of an attribute, rejects the whole file. Applying the same file again changes nothing.

    \b
    Example:
      usertable schema apply schema.yaml --project 100102
    """
    from usertable.wire import schema_file

    wanted = forms.schema_form(schema_file.decode(file.read()))
    with opened_project(project_id) as project:
        plan = _plan(project, wanted)
        if not plan.refused:
            # Show the plan that was applied, because somebody may have changed the schema since the plan was shown.
            plan = project.ask("put_schema", body=wanted)
    plan.dry_run = False
    _show_plan(plan)


def _plan(project: ProjectBackend, wanted: forms.SchemaForm) -> documents.PlanDocument:
    """Return the steps that applying the file would take."""
    plan: documents.PlanDocument = project.ask("put_schema", query=queries.SchemaQuery(dry_run="1"), body=wanted)
    return plan


def _show_plan(plan: documents.PlanDocument) -> None:
    """Show a plan. Raises Refused if a step of it is rejected."""
    from usertable.app.schema import refuse_steps

    def show() -> None:
        for step in plan.steps:
            click.echo(f"{'+' if step.verb == 'declare' else '~'} {_step_line(step)}")
        for step in plan.refused:
            click.echo(f"! {_step_line(step)}")
        if not plan.steps and not plan.refused:
            click.echo("nothing to do")

    print_result(plan, show)
    if plan.refused:
        raise refuse_steps([Step(step.verb, step.thing, step.name, step.detail) for step in plan.refused])


def _step_line(step: documents.StepDocument) -> str:
    """Return a step as one line: `change attribute level: NUMBER overwrite cannot become …`."""
    detail = f": {step.detail}" if step.detail else ""
    return printable(f"{step.verb} {step.thing} {step.name}{detail}")
