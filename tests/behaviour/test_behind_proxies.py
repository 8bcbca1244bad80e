"""Settings of a server behind a reverse proxy, or called by scripts of other origins."""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.cli_runner import CliRunner
from support.form_browser import FormBrowser
from support.server_process import ATTRIBUTE, PROJECT, SECRET, ServerProcess, create_project
from usertable.http.proxies import TrustedProxies

APP = "https://app.example.com"
TOKEN = "a-token-for-the-tests"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, int]]:
    """A server that trusts a proxy on this machine and pages of one origin, and the CUID of a user."""
    folder = tmp_path_factory.mktemp("proxies")
    url = f"sqlite:///{folder / 'store.db'}"
    (cuid,) = create_project(url, users=1)
    settings = {"CORS_ORIGINS": f"{APP}, http://localhost:3000", "TRUSTED_PROXIES": "127.0.0.1,10.0.0.0/8"}
    server = ServerProcess(url, folder, ADMIN_TOKEN=TOKEN, **settings)
    try:
        yield server, cuid
    finally:
        assert server.stop() == 0


# the caller's address


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "caller"),
    [
        ("127.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("127.0.0.1", ["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
        ("127.0.0.1", ["198.51.100.1, 203.0.113.9, 10.1.2.3"], "203.0.113.9"),
        ("127.0.0.1", ["203.0.113.9", "10.1.2.3"], "203.0.113.9"),
        ("::ffff:127.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("127.0.0.1", ["10.9.9.9, 10.1.2.3"], "10.9.9.9"),
        ("127.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"),
        ("127.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("127.0.0.1", ["203.0.113.9, unknown"], "127.0.0.1"),
        ("127.0.0.1", [""], "127.0.0.1"),
        ("192.0.2.1", ["203.0.113.9"], "192.0.2.1"),
        (None, ["203.0.113.9"], "203.0.113.9"),
    ],
)
def test_the_caller_is_the_last_address_that_is_no_trusted_proxy(
    peer: str | None, forwarded_for: list[str], caller: str
) -> None:
    proxies = TrustedProxies(["127.0.0.1", "10.0.0.0/8"])
    found = proxies.client((peer, 4711) if peer else None, [value.encode() for value in forwarded_for])
    assert found is not None
    assert found[0] == caller


def test_without_trusted_proxies_nobodys_word_counts() -> None:
    assert TrustedProxies([]).client(("127.0.0.1", 1), [b"203.0.113.9"]) == ("127.0.0.1", 1)


def test_one_who_guesses_tokens_behind_a_proxy_does_not_slow_others_down(served: tuple[ServerProcess, int]) -> None:
    def sign_in(address: str, token: str) -> httpx.Response:
        with FormBrowser(base_url=served[0].url, headers={"X-Forwarded-For": address}) as browser:
            browser.page("/console/sign-in")
            return browser.submit("/console/sign-in", token=token)

    guesses = [sign_in("203.0.113.9", "a guess of somebody").status_code for _ in range(12)]
    assert 429 in guesses
    assert sign_in("203.0.113.10", TOKEN).status_code == 303


# pages of other origins


def test_a_page_of_an_allowed_origin_may_set_attributes(served: tuple[ServerProcess, int]) -> None:
    server, cuid = served
    with server.client() as client:
        asked = client.options(
            ATTRIBUTE,
            headers={
                "Origin": APP,
                "Access-Control-Request-Method": "PUT",
                "Access-Control-Request-Headers": "authorization, content-type, idempotency-key",
            },
        )
        assert asked.status_code == 200
        assert asked.headers["access-control-allow-origin"] == APP
        assert "PUT" in asked.headers["access-control-allow-methods"]
        for _ in range(3):
            # The second caller is known, so it is served by the fast path.
            answer = client.put(
                ATTRIBUTE, json={"cuid": cuid, "data": {"user_number_overwrite": 1}}, headers={"Origin": APP}
            )
            assert answer.json() == {"code": 0, "msg": "ok"}
            assert answer.headers["access-control-allow-origin"] == APP
            assert "X-Request-Id" in answer.headers["access-control-expose-headers"]


def test_a_page_of_another_origin_cannot_read_the_answer(served: tuple[ServerProcess, int]) -> None:
    server, cuid = served
    with server.client() as client:
        for origin in ("https://evil.example.com", "https://app.example.com.evil.example", "null"):
            answer = client.get(f"/api/v1/projects/{PROJECT}/users/{cuid}", headers={"Origin": origin})
            assert answer.status_code == 200
            assert "access-control-allow-origin" not in answer.headers
            asked = client.options(ATTRIBUTE, headers={"Origin": origin, "Access-Control-Request-Method": "PUT"})
            assert asked.status_code == 400
            assert "access-control-allow-origin" not in asked.headers


# a Unix socket


def test_a_server_listens_on_a_unix_socket_and_replaces_the_one_of_a_killed_server(tmp_path: Path) -> None:
    url, path = f"sqlite:///{tmp_path / 'store.db'}", tmp_path / "usertable.sock"
    (cuid,) = create_project(url, users=1)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    server = ServerProcess(url, tmp_path, UDS=str(path))
    try:
        assert stat.S_ISSOCK(path.stat().st_mode)
        with httpx.Client(
            transport=httpx.HTTPTransport(uds=str(path)), base_url="http://usertable", auth=(PROJECT, SECRET)
        ) as client:
            for _ in range(2):
                answer = client.put(ATTRIBUTE, json={"cuid": cuid, "data": {"user_number_overwrite": 1}})
                assert answer.json() == {"code": 0, "msg": "ok"}
    finally:
        assert server.stop() == 0


# wrong settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"UDS": "relative.sock"}, "absolute path"),
        ({"UDS": "/tmp/u.sock", "PORT": "8001"}, "port would be ignored"),
        ({"TRUSTED_PROXIES": "10.0.0.0/8, proxy.example.com"}, "'proxy.example.com'"),
        ({"TRUSTED_PROXIES": "10.0.0.1/8"}, "has host bits set"),
        ({"CORS_ORIGINS": "*"}, "expected origins"),
        ({"CORS_ORIGINS": "https://app.example.com/"}, "without a path"),
    ],
)
def test_a_setting_that_would_not_do_what_it_says_refuses_to_start(settings: dict[str, str], message: str) -> None:
    runner = CliRunner("memory:", {f"USERTABLE_{name}": value for name, value in settings.items()})
    assert message in runner.misused("config")
