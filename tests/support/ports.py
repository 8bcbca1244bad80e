"""Ports for servers that are told their port, and may be restarted on it."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

_LOWEST = 10_000
_held: list[socket.socket] = []


def reserve_port() -> int:
    """Return a port of 127.0.0.1 that nobody else gets as long as this process runs.

    It is below the range from which the system chooses: a port of that range may be given to another program whenever
    nobody listens on it, such as before the server's start or during its restart.
    """
    first_of_system = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in random.sample(range(_LOWEST, first_of_system), first_of_system - _LOWEST):
        with suppress(OSError), ExitStack() as if_taken:
            # Other test processes see the name until this process ends, whatever ends it.
            name = if_taken.enter_context(socket.socket(socket.AF_UNIX))
            name.bind(f"\0usertable-test-port-{port}")
            socket.create_server(("127.0.0.1", port)).close()
            if_taken.pop_all()
            _held.append(name)
            return port
    raise AssertionError("no port is free")
