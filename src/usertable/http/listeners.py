"""The sockets that a server listens on: on a host and port, or on a path."""

from __future__ import annotations

import contextlib
import socket
import stat
from pathlib import Path

UNIX = "unix:"
"""The prefix of a Unix socket's address: unix:/run/usertable/metrics.sock."""


class ListenFault(Exception):
    """The server cannot listen on an address.

    Args:
        address: as configured: `127.0.0.1 port 8000`, `unix:/run/usertable/metrics.sock`.
        setting: the setting with the address.
    """

    def __init__(self, reason: OSError | UnicodeError, address: str = "", setting: str = "host") -> None:
        super().__init__(str(reason))
        self.reason = reason
        self.address = address
        self.setting = setting


def listen(host: str, port: int, *, shared: bool = False, setting: str = "host") -> socket.socket:
    """Return a socket bound to an address. Raises ListenFault.

    Args:
        shared: other processes listen on the same address, and the system distributes connections.
        setting: the setting with the address.
    """
    address = f"{host} port {port}"
    try:
        family, kind, proto, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind, proto)
    except (OSError, UnicodeError) as reason:
        raise ListenFault(reason, address, setting) from reason
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind(place)
    except OSError as reason:
        listener.close()
        raise ListenFault(reason, address, setting) from reason
    return listener


def listen_at(address: str, *, setting: str) -> socket.socket:
    """Return a socket bound to `host:port`, `[::1]:port` or `unix:/path`. Raises ListenFault."""
    if not address.startswith(UNIX):
        host, _, port = address.rpartition(":")
        return listen(host.strip("[]"), int(port), setting=setting)
    path = Path(address.removeprefix(UNIX))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_left(path)
        listener.bind(str(path))
    except OSError as reason:
        listener.close()
        raise ListenFault(reason, address, setting) from reason
    return listener


def shown_address(listener: socket.socket) -> str:
    """Return its address as a URL or a path: `http://127.0.0.1:9464`, `unix:/run/usertable/metrics.sock`."""
    address = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"{UNIX}{address}"
    host, port = address[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _remove_left(path: Path) -> None:
    """Remove the socket of a server that is gone. A socket in use stays, and so does any other file."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.stat().st_mode):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                try:
                    probe.connect(str(path))
                except ConnectionRefusedError:
                    path.unlink()
