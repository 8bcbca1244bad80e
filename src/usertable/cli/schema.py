"""`usertable schema`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

import click

from usertable.cli.context import actor, opened_service
from usertable.cli.options import common_options, project_option
from usertable.cli.output import print_result, printable
from usertable.domain.schema_plan import Step
from usertable.wire import native


@click.group()
@common_options
def schema() -> None:
    """Schema as code: a project's attributes and identifiers as a YAML file."""


@schema.command("export")
@project_option
@common_options
def export_schema(project_id: str) -> None:
    """Print a project's schema as YAML, or as JSON, which is YAML too.

    \b
    Example:
      usertable schema export --project 100102 > schema.yaml
    """
    from usertable.wire import schema_file

    with opened_service() as service:
        exported = service.project(project_id).schema
    # In UTF-8 whatever the terminal has, because that is what a schema file is in.
    print_result(native.schema_form(exported), lambda: click.echo(schema_file.encode(exported).encode(), nl=False))


@schema.command("diff")
@click.argument("file", type=click.File("rb"))
@project_option
@common_options
def diff_schema(file: IO[bytes], project_id: str) -> None:
    """Print the plan that `apply` would follow, and change nothing. FILE may be - for stdin.

    The exit code is 1 if `apply` would refuse.

    \b
    Example:
      usertable schema diff schema.yaml --project 100102
    """
    from usertable.app.schema import refuse_steps
    from usertable.wire import schema_file

    wanted = schema_file.decode(file.read())
    with opened_service() as service:
        steps, refused = service.plan_schema(project_id, wanted)
    _show_plan(steps, refused, dry_run=True)
    if refused:
        raise refuse_steps(refused)


@schema.command("apply")
@click.argument("file", type=click.File("rb"))
@project_option
@common_options
def apply_schema(file: IO[bytes], project_id: str) -> None:
    """Print the plan that turns a project's schema into that of FILE (- for stdin), and follow it.

    Whole or not at all: a step that would lose or reinterpret data, such as another type or the removal of an attribute,
    refuses everything. Applying the same file again does nothing.

    \b
    Example:
      usertable schema apply schema.yaml --project 100102
    """
    from usertable.app.schema import refuse_steps
    from usertable.wire import schema_file

    wanted = schema_file.decode(file.read())
    with opened_service() as service:
        steps, refused = service.plan_schema(project_id, wanted)
        if not refused:
            # What was done is the plan of the moment of doing it; someone else may have changed the schema since.
            steps = service.apply_schema(project_id, wanted, actor=actor())
    _show_plan(steps, refused, dry_run=False)
    if refused:
        raise refuse_steps(refused)


def _show_plan(steps: Sequence[Step], refused: Sequence[Step], *, dry_run: bool) -> None:
    def show() -> None:
        for step in steps:
            click.echo(f"{'+' if step.verb == 'declare' else '~'} {printable(str(step))}")
        for step in refused:
            click.echo(f"! {printable(str(step))}")
        if not steps and not refused:
            click.echo("nothing to do")

    print_result(native.plan_document(steps, refused, dry_run=dry_run), show)
