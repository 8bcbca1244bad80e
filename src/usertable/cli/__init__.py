"""The command `usertable`: the use cases for a terminal and for scripts. The help texts are the manual.

Exit codes: 0 done, 1 refused (the reason is on stderr), 2 wrong usage.
"""

from __future__ import annotations

import sys

import click

# Slow to import, so only inside the commands that need them: asyncio, rich, the YAML reader, the web framework.
from usertable.cli import (
    attributes,
    backup,
    config,
    doctor,
    export,
    identifiers,
    import_,
    projects,
    schema,
    serve,
    stores,
    users,
)
from usertable.cli.errors import RootGroup
from usertable.cli.options import common_options

COMMANDS: tuple[click.Command, ...] = (
    serve.serve,
    config.show_config,
    stores.migrate,
    stores.store,
    backup.backup,
    backup.restore,
    doctor.doctor,
    projects.project,
    attributes.attribute,
    identifiers.identifier,
    users.user,
    schema.schema,
    import_.import_table,
    export.export_table,
)


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        from usertable.version import version

        click.echo(version())
        ctx.exit()


@click.group(
    cls=RootGroup,
    commands=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version.")
@common_options
def cli() -> None:
    """The open, self-hosted user-attribute store.

    Declare attributes in a project, serve its API, and look at its users. Every command works while a server serves the
    same store, and a running server sees a change within a second.

    \b
    A first tour:
      usertable project create demo --json
      usertable attribute create level --project ID --type NUMBER --rule overwrite
      usertable identifier create phone --project ID
      usertable user register phone 18012345678 --project ID
      usertable serve

    Exit codes: 0 done, 1 refused (the reason is on stderr), 2 wrong usage.
    """


def main() -> None:
    """Run this process's command line, and exit."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            # A terminal that cannot show a character shows its number.
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    for index, argument in enumerate(sys.argv[1:], start=1):
        if any("\ud800" <= c <= "\udfff" for c in argument):
            click.echo(f"Error: argument {index} is not valid UTF-8", err=True)
            sys.exit(2)
    cli(prog_name="usertable")
