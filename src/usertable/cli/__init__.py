"""The command `usertable`. The help texts are the manual.

Exit codes: 0 success, 1 rejected or failed (the reason is on stderr), 2 wrong usage or a wrong setting.
"""

from __future__ import annotations

import sys

import click

# Slow to import, so imported only inside the commands that need them: asyncio, rich, the YAML reader, the web framework.
from usertable.cli import (
    attributes,
    audit,
    backup,
    config,
    doctor,
    export,
    history,
    identifiers,
    import_,
    keys,
    people,
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
    keys.key,
    people.person,
    users.user,
    history.history,
    schema.schema,
    audit.show_audit,
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
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Print the version and exit."
)
@common_options
def cli() -> None:
    """Self-hosted store for user attributes.

    Declare attributes in a project, serve its API, and query its users. Every command works while a server serves the
    same store; the server applies a change within a second.

    \b
    First steps:
      usertable project create demo --json
      usertable attribute create level --project ID --type NUMBER --rule overwrite
      usertable identifier create phone --project ID
      usertable user register phone 18012345678 --project ID
      usertable serve

    Exit codes: 0 success, 1 rejected or failed (the reason is on stderr), 2 wrong usage or a wrong setting.
    """


def main() -> None:
    """Run the command line of this process, and exit."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            # Characters that the terminal cannot show are printed as escapes.
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    for index, argument in enumerate(sys.argv[1:], start=1):
        if any("\ud800" <= c <= "\udfff" for c in argument):
            click.echo(f"Error: argument {index} is not valid UTF-8", err=True)
            sys.exit(2)
    cli(prog_name="usertable")
