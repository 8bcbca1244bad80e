"""Options that many commands have."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from usertable.config import PROJECT, SECRET, SECRET_FILE, read_secret
from usertable.domain.errors import excerpt
from usertable.domain.identity import MAX_CUID, parse_cuid

F = TypeVar("F", bound=Callable[..., Any])


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    # The innermost command is read last, so its option replaces one that stands before it.
    if value is not None:
        ctx.meta[f"usertable.{param.name}"] = value


def common_option(name: str) -> Any:
    """The value of `--config`, `--store`, `--json` or `--url`, or None. The one closest to the command counts."""
    return click.get_current_context().meta.get(f"usertable.{name}")


def store_options(command: F) -> F:
    """Add `--config` and `--store`, which may stand anywhere: before the group, after it, after the command."""
    command = click.option(
        "--config",
        metavar="FILE",
        expose_value=False,
        callback=_keep,
        help="A TOML file with settings. Also: USERTABLE_CONFIG.",
    )(command)
    return click.option(
        "--store",
        metavar="URL",
        expose_value=False,
        callback=_keep,
        help="Where the data is, such as sqlite:///users.db. Also: USERTABLE_STORE. Default: a file in your data folder.",
    )(command)


def common_options(command: F) -> F:
    """Add `--config`, `--store` and `--json`, which may stand anywhere."""
    return click.option(
        "--json", is_flag=True, default=None, expose_value=False, callback=_keep, help="Print JSON, for programs."
    )(store_options(command))


def backend_options(command: F) -> F:
    """Add the common options and `--url`, for a command that works on a store or through a server."""
    return common_options(
        click.option(
            "--url",
            metavar="URL",
            expose_value=False,
            callback=_keep,
            help="Work through the API of the server there, instead of on a store.",
        )(command)
    )


def project_option(command: F) -> F:
    """Add `--project`; the argument is named `project_id`, and is None for the only project that there is."""
    return click.option(
        "--project",
        "project_id",
        metavar="ID",
        envvar=PROJECT,
        help=f"The project's id. Also: {PROJECT}. Default: the only project that there is.",
    )(command)


def environment_secret() -> str:
    """The project's secret that the environment holds, or names the file of; empty if it does neither."""
    secret = os.environ.get(SECRET, "")
    if file := os.environ.get(SECRET_FILE, ""):
        if secret:
            raise click.UsageError(f"{SECRET} and {SECRET_FILE} are both set; set one of them")
        secret = read_secret(file, SECRET_FILE)
    return checked_secret(secret)


def checked_secret(secret: str) -> str:
    """A secret without the line end that one from a file has.

    Raises:
        UsageError: it has a control character in it.
    """
    secret = secret.rstrip("\r\n")
    if any(character < " " or character == "\x7f" for character in secret):
        # Not shown, as it is a secret.
        raise click.UsageError("the project's secret has a line break or another control character in it")
    return secret


class Cuid(click.ParamType[int]):
    name = "cuid"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        cuid = value if isinstance(value, int) else parse_cuid(str(value))
        if cuid is None:
            self.fail(f"{excerpt(value)!r} is not a CUID: a CUID is a number from 1 to {MAX_CUID}", param, ctx)
        return cuid


class Pair(click.ParamType[tuple[str, str]]):
    """NAME=VALUE. The value may hold further equals signs."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        name, equals, rest = str(value).partition("=")
        if not name or not equals:
            self.fail(f"{value!r} is not NAME=VALUE, such as phone=18012345678", param, ctx)
        return name, rest


def require_a_change(*changes: object) -> None:
    """Refuse an edit that changes nothing: every option is None."""
    if all(change is None for change in changes):
        raise click.UsageError("nothing to change; see --help for what can be")


def without_none(**changes: Any) -> dict[str, Any]:
    """The options that were given: those that are not None."""
    return {name: change for name, change in changes.items() if change is not None}
