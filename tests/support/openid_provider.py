"""A real OpenID Connect provider: oidc-provider-mock, in its own process."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx

from support.ports import reserve_port
from support.waiting import wait_until

CLIENT, CLIENT_SECRET = "usertable", "a-client-secret-for-the-tests"


class OpenIdProvider:
    """The provider, for any client. It signs in whoever enters a subject.

    Attributes:
        issuer: of another site than 127.0.0.1, as browsers see it.
    """

    def __init__(self, log: Path, token_seconds: int) -> None:
        self._port = reserve_port()
        self.issuer = f"http://localhost:{self._port}"
        self._log = log
        self._token_seconds = token_seconds
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers; it knows nobody."""
        command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(self._port)]
        command.append(f"--token-max-age={self._token_seconds}")
        with self._log.open("ab") as stream:
            self._process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdout=stream, stderr=stream)
        wait_until(self._answers)

    def stop(self) -> None:
        """End it, as when it is down."""
        self._process.terminate()
        self._process.wait(60)

    def set_user(self, subject: str, **claims: object) -> None:
        """What it says of a user from now on."""
        assert httpx.put(f"{self.issuer}/users/{subject}", json=claims).is_success

    def _answers(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.issuer}/.well-known/openid-configuration").is_success
        return False


@contextlib.contextmanager
def openid_provider(folder: Path, token_seconds: int = 3600) -> Iterator[OpenIdProvider]:
    """A provider for a while.

    Args:
        token_seconds: how long its ID tokens are valid; negative for such as have expired.
    """
    provider = OpenIdProvider(folder / "provider.log", token_seconds)
    try:
        yield provider
    finally:
        provider.stop()
