"""A TCP proxy that breaks the connections that pass through it."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit


class FaultyProxy:
    """A TCP proxy that breaks connections: before a request gets through, or after it, while the reply is on its way.

    Args:
        faults: probability of each fault for a chunk: `refuse` (answer 503 or 429 instead of forwarding it), `before` (drop
            the connection before the request gets through), `lost` (drop the reply), `cut` (half of it).
    """

    def __init__(self, url: str, **faults: float) -> None:
        self.lead_to(url)
        self.faults = faults
        self.met: dict[str, int] = dict.fromkeys(("refuse", "before", "lost", "cut"), 0)
        self._chance = random.Random(1)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: set[socket.socket] = set()
        self._closing = False
        self._passes = threading.Event()
        self._passes.set()
        self._lock = threading.Lock()
        self._pieces_left: int | None = None
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def lead_to(self, url: str) -> None:
        """Set the target of new connections."""
        target = urlsplit(url)
        self._target = (target.hostname, target.port)

    def hold(self) -> None:
        """Hold back everything in both directions, as a network that is cut does, until :meth:`release`."""
        self._passes.clear()

    def hold_after(self, pieces: int) -> None:
        """Hold back everything once this many requests and replies have passed."""
        with self._lock:
            self._pieces_left = pieces

    @property
    def is_holding(self) -> bool:
        return not self._passes.is_set()

    def release(self) -> None:
        """Forward what was held back, and everything from now on."""
        with self._lock:
            self._pieces_left = None
            self._passes.set()

    def close(self) -> None:
        self._closing = True
        self._passes.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            _end(connection)
        for thread in self._threads:
            thread.join(10)

    def _wait(self) -> None:
        """Wait until a piece may pass."""
        while True:
            self._passes.wait()
            with self._lock:
                if not self._passes.is_set():
                    continue
                if self._pieces_left is not None:
                    self._pieces_left -= 1
                    if self._pieces_left == 0:
                        self._passes.clear()
                return

    def _strikes(self, fault: str) -> bool:
        struck = self._chance.random() < self.faults.get(fault, 0)
        self.met[fault] += struck
        return struck

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            self._open |= {client, server}
            for work in (self._requests, self._replies):
                thread = threading.Thread(target=self._pump, args=(work, client, server), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pump(self, work: Callable[..., None], client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            work(client, server)
        for connection in (client, server):
            _end(connection)

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        while piece := client.recv(262_144):
            self._wait()
            begins = piece[:4] in (b"PUT ", b"POST", b"GET ")
            if begins and self._strikes("refuse"):
                status = self._chance.choice((b"503 Service Unavailable", b"429 Too Many Requests"))
                client.sendall(b"HTTP/1.1 %b\r\nretry-after: 0\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status)
                # The rest of the request must not cause a reset.
                client.shutdown(socket.SHUT_WR)
                while client.recv(262_144):
                    pass
                return
            if begins and self._strikes("before"):
                return
            server.sendall(piece)

    def _replies(self, client: socket.socket, server: socket.socket) -> None:
        while piece := server.recv(262_144):
            self._wait()
            if self._strikes("lost"):
                return
            if self._strikes("cut"):
                client.sendall(piece[: len(piece) // 2])
                return
            client.sendall(piece)


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextlib.contextmanager
def faulty_proxy(url: str, **faults: float) -> Iterator[FaultyProxy]:
    proxy = FaultyProxy(url, **faults)
    try:
        yield proxy
    finally:
        proxy.close()
