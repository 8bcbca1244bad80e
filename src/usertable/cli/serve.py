"""`usertable serve`."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click

from usertable.cli.context import actor, load_settings, make_default_folder, warn_of_service_links
from usertable.cli.errors import Failure
from usertable.cli.options import SettingOption, store_options
from usertable.config import PREFIX, Config

if TYPE_CHECKING:
    from usertable.http.listeners import ListenFault


def _setting(name: str, **attributes: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return an option for the setting with that name, with the setting's help and default."""
    setting = next(setting for setting in fields(Config) if setting.name == name)
    help_text = setting.metadata["help"]
    return click.option(
        f"--{name.replace('_', '-')}",
        cls=SettingOption,
        variable=f"{PREFIX}{name.upper()}",
        setting_default=str(setting.default) if setting.default else "",
        help=f"{help_text[0].upper()}{help_text[1:]}.",
        **attributes,
    )


@click.command()
@_setting("host", metavar="ADDRESS")
@_setting("port", metavar="PORT")
@_setting("uds", metavar="PATH")
@_setting("workers", metavar="N")
@_setting("always_200", is_flag=True, default=None)
@_setting("body_limit", metavar="BYTES")
@_setting("queue_capacity", metavar="N")
@_setting("log_level", metavar="LEVEL")
@store_options
def serve(**flags: Any) -> None:
    """Serve the API and the console until Ctrl-C or SIGTERM.

    The options here are the most used settings. Every setting can be given as an environment variable or in a TOML file;
    `usertable config` lists them. A SQLite file can be served by one server at a time.

    \b
    Example:
      usertable serve --store sqlite:///users.db --port 8080
    """
    loaded = load_settings(**flags)
    warn_of_service_links(loaded)
    make_default_folder(loaded)
    from usertable.http.listeners import ListenFault
    from usertable.http.server import serve as serve_http

    try:
        serve_http(loaded.config, lambda: load_settings(**flags).config, actor=actor())
    except ListenFault as fault:
        raise Failure(_cannot_listen(fault)) from fault
    except OSError as error:
        what = f": {error.filename}" if error.filename else ""
        raise Failure(f"the server stopped because of a system error: {error.strerror or error}{what}") from error


def _cannot_listen(fault: ListenFault) -> str:
    from socket import gaierror  # slow to import, and an error is rare

    error = fault.reason
    problem = f"cannot listen on {fault.address}: "
    is_main = fault.setting == "host"
    if isinstance(error, UnicodeError | gaierror):
        option = "--host" if is_main else fault.setting
        return f"{problem}unknown host; {option} takes an address of this machine"
    if fault.setting == "uds":
        return f"{problem}{error.strerror or error}; --uds takes the path of a socket to create, in an existing folder"
    if error.errno == errno.EADDRINUSE:
        other = "port with --port (0 for any free port)" if is_main else f"address in {fault.setting}"
        return f"{problem}the address is in use; stop the other program, or choose another {other}"
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            f"{problem}this machine does not have that address; choose another with {'--host' if is_main else fault.setting}"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        hint = (
            "ports below 1024 need administrator rights, choose another with --port"
            if is_main
            else f"change {fault.setting}"
        )
        return f"{problem}permission denied; {hint}"
    return f"{problem}{error.strerror or error}"
