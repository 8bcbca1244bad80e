"""An OpenID Connect provider that signs people in at once, and gives whatever fault a test asks for.

What it signs, it signs with joserfc. It takes a code once, from the client that PKCE's verifier proves to be the same.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
from collections import Counter
from collections.abc import Callable
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey

CLIENT, CLIENT_SECRET = "usertable", "hush: hush & 100%"

Key = RSAKey | ECKey | OctKey


@cache
def _first_key() -> RSAKey:
    """Return a new provider's key. Generating one takes 80 ms of CPU."""
    return RSAKey.generate_key(2048, {"kid": "first"})


class FaultyOpenIdProvider:
    """A provider on a free port of 127.0.0.1.

    Attributes:
        issuer: what a client is configured with.
        claims: those of the ID token, over what it has by itself; None leaves a claim out.
        user_info: what the UserInfo endpoint gives; None for no such endpoint.
        key: what ID tokens are signed with.
        header: of ID tokens, over `alg` and `kid`.
        published: the keys that it publishes.
        metadata: its configuration, over what it has by itself; None leaves a member out.
        answers: by path, an answer in place of its own: status and body.
        authorization: what its answer from the authorization endpoint has, over `code` and `state`.
        sign: makes the ID token of its header and claims.
        requests: how often each path was asked for.
        now: seconds since 1970 UTC.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.claims: dict[str, Any] = {}
        self.user_info: dict[str, Any] | None = None
        self.key: Key = _first_key()
        self.header: dict[str, Any] = {}
        self.published: list[Key] = [self.key]
        self.metadata: dict[str, Any] = {}
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.authorization: dict[str, str | None] = {}
        self.sign: Callable[[dict[str, Any], dict[str, Any]], str] = self.signed
        self.requests: Counter[str] = Counter()
        self.asked: dict[str, str] = {}
        """The parameters of the last request to the authorization endpoint."""
        self._codes: dict[str, dict[str, str]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.issuer = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def stop(self) -> None:
        """Take no more connections."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def signed(self, header: dict[str, Any], claims: dict[str, Any]) -> str:
        """The ID token as it should be."""
        return jwt.encode(header, claims, self.key, algorithms=[header["alg"]])

    def _metadata(self) -> dict[str, Any]:
        found = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            **({"userinfo_endpoint": f"{self.issuer}/userinfo"} if self.user_info is not None else {}),
            **self.metadata,
        }
        return {name: value for name, value in found.items() if value is not None}

    def _authorize(self, asked: dict[str, str]) -> str:
        self.asked = asked
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        answer = {"code": code, "state": asked["state"], **self.authorization}
        given = {name: value for name, value in answer.items() if value is not None}
        return f"{asked['redirect_uri']}?{urlencode(given)}"

    def _token(self, form: dict[str, str], authorization: str) -> tuple[int, Any]:
        if authorization.startswith("Basic "):
            client, secret = map(unquote_plus, base64.b64decode(authorization[6:]).decode().split(":", 1))
        else:
            client, secret = form.get("client_id", ""), form.get("client_secret", "")
        if (client, secret) != (CLIENT, CLIENT_SECRET):
            return 401, {"error": "invalid_client"}
        asked = self._codes.pop(form["code"], None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if asked is None or (asked["code_challenge"], asked["redirect_uri"]) != (challenge, form["redirect_uri"]):
            return 400, {"error": "invalid_grant", "error_description": "the code is unknown"}
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": "subject-of-ann",
            "exp": int(self.now()) + 300,
            "iat": int(self.now()),
            "nonce": asked["nonce"],
            "email": "Ann@Example.com",
            "email_verified": True,
            "name": "Ann Example",
            **self.claims,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        header = {"alg": "RS256", "kid": self.key.kid, **self.header}
        token = self.sign({name: value for name, value in header.items() if value is not None}, claims)
        return 200, {"access_token": "an-access-token", "token_type": "Bearer", "id_token": token}

    def _answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes, str]:
        url = urlsplit(handler.path)
        self.requests[url.path] += 1
        if url.path in self.answers:
            return *self.answers[url.path], ""
        query = {name: values[0] for name, values in parse_qs(url.query or body.decode()).items()}
        authorization = handler.headers.get("authorization", "")
        found: Any = None
        status = 200
        match url.path:
            case "/.well-known/openid-configuration":
                found = self._metadata()
            case "/jwks":
                found = KeySet([*self.published]).as_dict()
            case "/authorize":
                return 302, b"", self._authorize(query)
            case "/token":
                status, found = self._token(query, authorization)
            case "/userinfo":
                assert authorization == "Bearer an-access-token"
                found = self.user_info
            case _:
                status = 404
        return status, json.dumps(found).encode(), ""

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                status, content, location = provider._answer(self, body)
                self.send_response(status)
                if location:
                    self.send_header("location", location)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                """Nothing: a test sees the requests."""

        return Handler
