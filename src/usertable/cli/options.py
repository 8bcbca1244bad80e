"""Options that many commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    # The innermost command is read last, so its option replaces one that stands before it.
    if value is not None:
        ctx.meta[f"usertable.{param.name}"] = value


def common_option(name: str) -> Any:
    """The value of `--config`, `--store` or `--json`, or None. The one closest to the command counts."""
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


def project_option(command: F) -> F:
    """Add `--project`, which is required; the argument is named `project_id`."""
    return click.option("--project", "project_id", metavar="ID", required=True, help="The project's id.")(command)


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
