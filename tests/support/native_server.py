"""A running server as the callers of the native API have it: the admin, projects of their own, and anyone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from support.server_process import ServerProcess

TOKEN = "a-token-for-the-tests-only"


class NativeServer:
    """A server over a new store in `folder`, or the one of that URL, and clients for it."""

    def __init__(self, folder: Path, url: str | None = None, **settings: str) -> None:
        self.database = folder / "usertable.db"
        self.process = ServerProcess(url or f"sqlite:///{self.database}", folder, admin_token=TOKEN, **settings)
        self.url = self.process.url
        self._clients: list[httpx.Client] = []
        self.anyone = self._client()
        self.admin = self._client(headers={"Authorization": f"Bearer {TOKEN}"})

    def _client(self, **settings: Any) -> httpx.Client:
        self._clients.append(httpx.Client(base_url=self.url, timeout=30, **settings))
        return self._clients[-1]

    def caller(self, project: str, secret: str) -> httpx.Client:
        """A client with a project's own credentials."""
        return self._client(auth=(project, secret))

    def new_project(self, **settings: Any) -> tuple[str, httpx.Client]:
        """Path and client of a new project without a rate limit."""
        answer = self.admin.post("/api/v1/projects", json={"name": "test", "qps": "unlimited", **settings})
        assert answer.status_code == 201, answer.text
        made = answer.json()
        return f"/api/v1/projects/{made['id']}", self.caller(made["id"], made["secret"])

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.process.stop()


@contextlib.contextmanager
def native_server(folder: Path, url: str | None = None, **settings: str) -> Iterator[NativeServer]:
    """A server for a while, with these settings beside."""
    server = NativeServer(folder, url, **settings)
    try:
        yield server
    finally:
        server.close()
