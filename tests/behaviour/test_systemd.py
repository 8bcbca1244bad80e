"""The server under systemd: what it tells the service manager, and the unit that comes with it."""

from __future__ import annotations

import secrets
import socket
from dataclasses import fields
from pathlib import Path

import pytest

from support.server_process import ServerProcess
from usertable.config import FROM_FILES, PREFIX, Config, load

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "usertable.service"


@pytest.fixture
def unit() -> dict[str, list[str]]:
    """Return the values of each key in the unit's section [Service], in order."""
    found: dict[str, list[str]] = {}
    section = UNIT.read_text().partition("[Service]\n")[2].partition("\n[")[0]
    for line in section.splitlines():
        if line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("kind", ["file", "abstract"])
def test_the_service_manager_is_told_once_the_server_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    name = str(tmp_path / "notify") if kind == "file" else f"@usertable-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0", 1))
        manager.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        server = ServerProcess(f"sqlite:///{tmp_path}/users.db", tmp_path)
        said = manager.recv(4096).decode().splitlines()
        with server.client() as http:
            assert http.get("/livez").status_code == 200
    assert said == ["READY=1", f"STATUS=serving sqlite:///{tmp_path}/users.db on {server.url}"]
    assert server.stop() == 0


def test_a_service_manager_that_does_not_listen_keeps_nothing_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    server = ServerProcess(f"sqlite:///{tmp_path}/users.db", tmp_path)
    assert server.stop() == 0


def test_the_unit_sets_what_the_server_knows(unit: dict[str, list[str]]) -> None:
    variables = dict(pair.split("=", 1) for pair in unit["Environment"])
    known = {f"{PREFIX}{name.upper()}" for name in ("config", *(setting.name for setting in fields(Config)))}
    assert set(variables) <= known | {f"{PREFIX}{name.upper()}_FILE" for name in FROM_FILES}
    assert variables["USERTABLE_ADMIN_TOKEN_FILE"] == "/run/credentials/%n/admin_token"
    assert unit["LoadCredential"] == ["admin_token:/etc/usertable/admin_token"]


def test_the_unit_waits_for_a_server_that_drains(unit: dict[str, list[str]]) -> None:
    config = load({}, {"USERTABLE_STORE": "memory:"}).config
    assert int(unit["TimeoutStopSec"][0]) >= config.drain_seconds + config.shutdown_delay + 25
    assert unit["KillMode"] == ["mixed"]
    assert unit["Type"] == ["notify"]
