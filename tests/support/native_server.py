"""The kinds of callers of the native API: the admin, projects, and anonymous callers; and a running server with them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from support.manual_clock import ManualClock
from support.server_process import ServerProcess
from support.waiting import DEADLINE_SECONDS
from usertable.config import Config
from usertable.store import open_store

TOKEN = "a-token-for-the-tests-only"


class NativeCallers:
    """Clients for the server at this URL, whose admin token is :data:`TOKEN`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._clients: list[httpx.Client] = []
        self.anyone = self._client()
        self.admin = self._client(headers={"Authorization": f"Bearer {TOKEN}"})

    def _client(self, **settings: Any) -> httpx.Client:
        self._clients.append(httpx.Client(base_url=self.url, timeout=DEADLINE_SECONDS, **settings))
        return self._clients[-1]

    def caller(self, project: str, secret: str) -> httpx.Client:
        """Return a client with a project's own credentials."""
        return self._client(auth=(project, secret))

    def new_project(self, **settings: Any) -> tuple[str, httpx.Client]:
        """Return path and client of a new project without a rate limit."""
        answer = self.admin.post("/api/v1/projects", json={"name": "test", "qps": "unlimited", **settings})
        assert answer.status_code == 201, answer.text
        made = answer.json()
        return f"/api/v1/projects/{made['id']}", self.caller(made["id"], made["secret"])

    def expiring_key(self, path: str, owner: httpx.Client, name: str, scopes: Sequence[str], at_ms: int) -> httpx.Client:
        """Return a client with a new key of the project at this path, which expires at the last full second before a time.

        Args:
            at_ms: milliseconds since 1970 UTC.
        """
        end = datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        answer = owner.post(f"{path}/keys", json={"name": name, "scopes": list(scopes), "expires_at": end})
        assert answer.status_code == 201, answer.text
        return self.caller(path.rpartition("/")[2], answer.json()["secret"])

    def close(self) -> None:
        for client in self._clients:
            client.close()


class NativeServer(NativeCallers):
    """A server over a new store in `folder`, or the one at this URL, and clients for it."""

    def __init__(self, folder: Path, url: str | None = None, **settings: str) -> None:
        self.database = folder / "usertable.db"
        self.process = ServerProcess(url or f"sqlite:///{self.database}", folder, admin_token=TOKEN, **settings)
        super().__init__(self.process.url)

    def close(self) -> None:
        super().close()
        self.process.stop()


@contextlib.contextmanager
def native_server(folder: Path, url: str | None = None, **settings: str) -> Iterator[NativeServer]:
    """Run a server during the block, with these additional settings."""
    server = NativeServer(folder, url, **settings)
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def serving_by(clock: ManualClock, url: str = "memory:", **settings: Any) -> Iterator[NativeCallers]:
    """Serve a store in this process by a manual clock during the block, with these additional settings."""
    with contextlib.closing(open_store(url)) as store:
        config = Config(store=url, port=0, admin_token=TOKEN, **settings)
        with clock.serving(config, store) as address, contextlib.closing(NativeCallers(address)) as callers:
            yield callers
