"""Errors of commands: every error of usertable is printed on stderr and sets the exit code."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

import click

from usertable.config import ConfigError
from usertable.domain.errors import Problem, ProblemKind, Refused, StoreFault, Unavailable
from usertable.wire.messages import text

STORE_LOOKED_IN = "usertable.looked_in"
"""Key in the context's `meta` of the URL of the store that the command opened, for error messages."""
COMMAND = "usertable.command"
"""Key in the context's `meta` of the command that opened a store, for error messages."""
HOW_TO_NAME_A_STORE = "name it with --store URL or USERTABLE_STORE"


class Failure(click.ClickException):
    """The command was rejected or failed: the reason is printed on stderr, and the exit code is 1."""

    exit_code = 1


class RootGroup(click.Group):
    """The root command: prints the errors that usertable raises on stderr, and sets the exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Refused as refused:
            raise Failure("\n".join(_message(ctx, problem) for problem in refused.problems)) from refused
        except ConfigError as error:
            raise click.UsageError(str(error)) from error
        except StoreFault as fault:
            raise Failure(str(fault)) from fault
        except Unavailable as failure:
            raise Failure(f"temporarily unavailable, retry later: {failure}") from failure
        except BrokenPipeError:
            # The reader of the output closed the pipe.
            _discard_output()
            ctx.exit(0)
        except OSError as error:
            try:
                sys.stdout.flush()
            except OSError:
                _discard_output()
            file = f"{error.filename}: " if error.filename else ""
            raise Failure(f"{file}{error.strerror or error}") from error


def store_place() -> str:
    """Return the store that the command opened, for messages: `the store sqlite:///users.db`."""
    return f"the store {click.get_current_context().meta[STORE_LOOKED_IN]}"


_PARAMETER = re.compile(r"parameter \[(\w+)\]")


def in_terms_of(command: click.Command, said: str) -> str:
    """Return a message of the API about a parameter with the name that it has on the command line: `--as-of` for `as_of`."""
    names = {
        name: option
        for param in command.params
        for option in (max(param.opts, key=len) if isinstance(param, click.Option) else param.human_readable_name,)
        for name in (param.name, option.lstrip("-").replace("-", "_"))
    }
    return _PARAMETER.sub(lambda found: names.get(found[1], found[0]), said)


def _message(ctx: click.Context, problem: Problem) -> str:
    looked_in = ctx.meta.get(STORE_LOOKED_IN)
    if problem.kind is ProblemKind.PROJECT_UNKNOWN and looked_in:
        return f"{text(problem, 'en')} in the store {looked_in}; for another store, {HOW_TO_NAME_A_STORE}"
    return in_terms_of(ctx.meta.get(COMMAND, ctx.command), text(problem, "en"))


def _discard_output() -> None:
    """Discard the rest of the output. Flushing it at exit would fail again, with another exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
