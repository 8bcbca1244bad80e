"""Poolers in front of PostgreSQL: Debian's PgBouncer if installed, and a minimal one for what matters."""

from __future__ import annotations

import os
import shutil
import socket
import socketserver
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from support.ports import reserve_port
from support.waiting import wait_until

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

_PARAMETERS = {
    "server_version": "18.0",
    "server_encoding": "UTF8",
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    "integer_datetimes": "on",
}
_SSL, _GSS = 80877103, 80877104


@contextmanager
def pgbouncer(url: str, mode: str, folder: Path) -> Iterator[str]:
    """Run PgBouncer in front of the database at this URL. Return its URL."""
    assert PGBOUNCER
    parts = urlsplit(url)
    port = reserve_port()
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n* = host=127.0.0.1 port={parts.port} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nauth_type = any\npool_mode = {mode}\ndefault_pool_size = 40\nunix_socket_dir =\n"
    )
    # It does not run as root, so its user needs access to these files.
    for place in (settings, folder, *folder.parents):
        if place.owner() == "root" and os.geteuid() == 0:
            place.chmod(place.stat().st_mode | 0o005)
    command = [PGBOUNCER, "-q", *(["-u", "nobody"] if os.geteuid() == 0 else []), str(settings)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield f"postgresql://postgres@127.0.0.1:{port}{parts.path}"
    finally:
        process.terminate()
        process.wait()


@contextmanager
def by_transaction(url: str) -> Iterator[str]:
    """Run a pooler with one connection to the database at this URL, which it lends for each transaction."""
    parts = urlsplit(url)
    database = _Database(parts.port or 5432, parts.path[1:])

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError, EOFError):
                _serve(self.request, database)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"postgresql://postgres@127.0.0.1:{server.server_address[1]}{parts.path}"
        server.shutdown()
    database.connection.close()


class _Database:
    """The only connection to the database, without a password."""

    def __init__(self, port: int, name: str) -> None:
        self.lent = threading.Lock()
        self.connection = socket.create_connection(("127.0.0.1", port))
        parameters = b"".join(f"{key}\0{value}\0".encode() for key, value in (("user", "postgres"), ("database", name)))
        packet = struct.pack("!i", 196608) + parameters + b"\0"
        self.connection.sendall(struct.pack("!i", len(packet) + 4) + packet)
        while _message(self.connection)[:1] != b"Z":
            pass


def _serve(client: socket.socket, database: _Database) -> None:
    """Serve a client's connection: from the first message of a transaction to its end it has the database exclusively."""
    (length, kind) = struct.unpack("!ii", _exactly(client, 8))
    while kind in (_SSL, _GSS):
        client.sendall(b"N")
        (length, kind) = struct.unpack("!ii", _exactly(client, 8))
    _exactly(client, length - 8)
    said = [(b"R", struct.pack("!i", 0))]
    said += [(b"S", f"{key}\0{value}\0".encode()) for key, value in _PARAMETERS.items()]
    # Its own numbers, as a pooler has.
    said += [(b"K", struct.pack("!ii", 4711, 4711)), (b"Z", b"I")]
    client.sendall(b"".join(kind + struct.pack("!i", len(body) + 4) + body for kind, body in said))
    while True:
        message = _message(client)
        with database.lent:
            waiting = 0
            while True:
                if message[:1] == b"X":
                    return
                database.connection.sendall(message)
                waiting += message[:1] in (b"Q", b"S")
                state = b""
                while waiting:
                    answer = _message(database.connection)
                    client.sendall(answer)
                    if answer[:1] == b"Z":
                        waiting, state = waiting - 1, answer[-1:]
                if state == b"I":
                    break
                message = _message(client)


def _message(connection: socket.socket) -> bytes:
    head = _exactly(connection, 5)
    return head + _exactly(connection, struct.unpack("!i", head[1:])[0] - 4)


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        if not (some := connection.recv(size - len(found))):
            raise EOFError
        found += some
    return found


def _wait_for(port: int) -> None:
    def accepts() -> bool:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            return True
        return False

    wait_until(accepts)
