"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.types import OptionHelpExtra

from usertable.config import PROJECT, SECRET, SECRET_FILE, read_secret
from usertable.domain.errors import excerpt
from usertable.domain.identity import MAX_CUID, parse_cuid

SHORT_SECRET = 16
"""Minimum number of characters of a given secret without a warning."""
F = TypeVar("F", bound=Callable[..., Any])


class SettingOption(click.Option):
    """An option that shows its environment variable and default in the help. `config.py` reads both, not click."""

    def __init__(self, *args: Any, variable: str, setting_default: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._variable = variable
        self._setting_default = setting_default

    def get_help_extra(self, ctx: click.Context) -> OptionHelpExtra:
        extra = super().get_help_extra(ctx)
        extra["envvars"] = (self._variable,)
        if self._setting_default:
            extra["default"] = self._setting_default
        return extra


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    # The innermost command is parsed last, so its option overrides an earlier one.
    if value is not None:
        ctx.meta[f"usertable.{param.name}"] = value


def common_option(name: str) -> Any:
    """Return the value of `--config`, `--store`, `--json` or `--url`, or None. The one closest to the command counts."""
    return click.get_current_context().meta.get(f"usertable.{name}")


def store_options(command: F) -> F:
    """Add `--config` and `--store`, which may be given before the group, after it, or after the command."""
    command = click.option(
        "--config",
        cls=SettingOption,
        variable="USERTABLE_CONFIG",
        metavar="FILE",
        expose_value=False,
        callback=_keep,
        help="TOML file with settings.",
    )(command)
    return click.option(
        "--store",
        cls=SettingOption,
        variable="USERTABLE_STORE",
        metavar="URL",
        expose_value=False,
        callback=_keep,
        show_default="a SQLite file in your data folder",
        help="URL of the store, such as sqlite:///users.db.",
    )(command)


def common_options(command: F) -> F:
    """Add `--config`, `--store` and `--json`, which may be given anywhere."""
    return click.option(
        "--json", is_flag=True, default=None, expose_value=False, callback=_keep, help="Print one line of JSON."
    )(store_options(command))


def backend_options(command: F) -> F:
    """Add the common options and `--url`, for a command that works on a store or through a server."""
    return common_options(
        click.option(
            "--url",
            metavar="URL",
            expose_value=False,
            callback=_keep,
            help="URL of a server. Work through its API instead of opening a store.",
        )(command)
    )


def project_option(command: F) -> F:
    """Add `--project`. The parameter is named `project_id`; None stands for the only project."""
    return click.option(
        "--project",
        "project_id",
        metavar="ID",
        envvar=PROJECT,
        show_envvar=True,
        show_default="the only project in the store",
        help="ID of the project.",
    )(command)


def where_option(command: F) -> F:
    """Add `--where`. The parameter is named `conditions`."""
    return click.option(
        "--where",
        "conditions",
        multiple=True,
        metavar="CONDITION",
        help="Only users that meet the condition. Repeatable; all conditions must be met.",
    )(command)


def environment_secret() -> str:
    """Return the project's secret from the environment, or from the file that it names; empty if neither is set."""
    secret = os.environ.get(SECRET, "")
    if file := os.environ.get(SECRET_FILE, ""):
        if secret:
            raise click.UsageError(f"{SECRET} and {SECRET_FILE} are both set; set one of them")
        secret = read_secret(file, SECRET_FILE)
    return checked_secret(secret)


def checked_secret(secret: str) -> str:
    """Return a secret without the line end that one read from a file has.

    Raises:
        UsageError: the secret contains a control character.
    """
    secret = secret.rstrip("\r\n")
    if any(character < " " or character == "\x7f" for character in secret):
        # The message does not show the secret.
        raise click.UsageError("the project's secret contains a line break or another control character")
    return secret


def warn_of_short_secret(given: str | None) -> None:
    """Warn on stderr if a given secret is short enough to be guessed. None and long secrets cause no warning."""
    if given is not None and len(given) < SHORT_SECRET:
        click.echo(
            f"Warning: the secret has fewer than {SHORT_SECRET} characters and could be guessed;"
            " omit --secret to have one generated.",
            err=True,
        )


class Cuid(click.ParamType[int]):
    name = "cuid"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        cuid = value if isinstance(value, int) else parse_cuid(str(value))
        if cuid is None:
            self.fail(f"{excerpt(value)!r} is not a CUID: a CUID is a number from 1 to {MAX_CUID}", param, ctx)
        return cuid


class Pair(click.ParamType[tuple[str, str]]):
    """NAME=VALUE. The value may contain equals signs."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        name, equals, rest = str(value).partition("=")
        if not name or not equals:
            self.fail(f"{value!r} is not NAME=VALUE, such as phone=18012345678", param, ctx)
        return name, rest


def require_a_change(*changes: object) -> None:
    """Reject an edit that changes nothing, where every option is None."""
    if all(change is None for change in changes):
        raise click.UsageError("nothing to change; give at least one option, see --help")


def confirm(question: str) -> None:
    """Ask on stderr whether to proceed.

    Raises:
        Abort: the answer is no.
        UsageError: the input ends, so nobody answers.
    """
    try:
        click.confirm(question, abort=True, err=True)
    except click.Abort as abort:
        # Ctrl-C raises Abort too, and needs no hint.
        if not isinstance(abort.__context__, EOFError):
            raise
        click.echo(err=True)
        raise click.UsageError("no answer, so nothing was done; use --yes to skip the question") from abort


def without_none(**changes: Any) -> dict[str, Any]:
    """Return the options that were given, which are not None."""
    return {name: change for name, change in changes.items() if change is not None}
