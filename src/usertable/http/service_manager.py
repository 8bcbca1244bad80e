"""Tells systemd that the server is ready, if systemd started it."""

from __future__ import annotations

import contextlib
import os
import socket


def tell_ready(status: str) -> None:
    """Notify the service manager by the protocol of sd_notify(3); without one, do nothing.

    Args:
        status: a line for `systemctl status`, for example `serving http://127.0.0.1:8000`.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    # A manager that does not listen is not a reason not to serve.
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        # A name that begins with @ is an abstract socket, not a path.
        manager.sendto(f"READY=1\nSTATUS={status}".encode(), address.replace("@", "\0", 1))
