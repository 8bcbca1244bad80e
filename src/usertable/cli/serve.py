"""`usertable serve`."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import click

from usertable.cli.context import load_settings, make_default_folder, warn_of_service_links
from usertable.cli.errors import Failure
from usertable.cli.options import store_options

if TYPE_CHECKING:
    from usertable.http.listeners import ListenFault


@click.command()
@click.option("--host", metavar="ADDRESS", help="Address to listen on, default 127.0.0.1; 0.0.0.0 for every interface.")
@click.option("--port", metavar="PORT", help="Port to listen on, default 8000; 0 for any free one.")
@click.option("--uds", metavar="PATH", help="Unix socket to listen on, in place of host and port.")
@click.option("--workers", metavar="N", help="Server processes, default 1; more than one needs a postgresql store.")
@click.option("--always-200", is_flag=True, default=None, help="Answer HTTP 200 to every business error.")
@click.option("--body-limit", metavar="BYTES", help="Largest request body, default 1048576.")
@click.option("--queue-capacity", metavar="N", help="Writes waiting at most, default 10000; one more gets 503.")
@click.option("--log-level", metavar="LEVEL", help="debug, info (the default), warning or error.")
@store_options
def serve(**flags: Any) -> None:
    """Serve the API until Ctrl-C or SIGTERM.

    Every setting that `usertable config` lists can also be given as an environment variable or in a TOML file; the
    options here are the most used ones. Only one server can serve a SQLite file.

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
        serve_http(loaded.config, lambda: load_settings(**flags).config)
    except ListenFault as fault:
        raise Failure(_cannot_listen(fault)) from fault
    except OSError as error:
        what = f": {error.filename}" if error.filename else ""
        raise Failure(
            f"the server ended, because the system refused it something: {error.strerror or error}{what}"
        ) from error


def _cannot_listen(fault: ListenFault) -> str:
    from socket import gaierror  # slow to import, and an error is rare

    error = fault.reason
    problem = f"cannot listen on {fault.address}: "
    is_main = fault.setting == "host"
    if isinstance(error, UnicodeError | gaierror):
        option = "--host" if is_main else fault.setting
        return f"{problem}there is no such host; {option} takes an address of this machine"
    if fault.setting == "uds":
        return f"{problem}{error.strerror or error}; --uds takes the path of a socket to make, in a folder that is there"
    if error.errno == errno.EADDRINUSE:
        other = "port with --port (0 for any free one)" if is_main else f"one in {fault.setting}"
        return f"{problem}another program does already; stop it, or choose another {other}"
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            f"{problem}this machine does not have that address; choose another with {'--host' if is_main else fault.setting}"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        hint = (
            "ports below 1024 are the administrator's, choose another with --port" if is_main else f"change {fault.setting}"
        )
        return f"{problem}you are not permitted to; {hint}"
    return f"{problem}{error.strerror or error}"
