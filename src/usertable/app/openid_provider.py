"""The OpenID Connect provider that people sign in with: authorization code flow with PKCE, over httpx.

Nothing here blocks the event loop, and no request takes longer than :data:`TOTAL_SECONDS`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar
from urllib.parse import quote_plus, urlencode, urlsplit

import httpx
import msgspec
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.client import OAuth2Client
from authlib.oauth2.rfc6749.parameters import prepare_token_request
from joserfc.jwk import KeySet

from usertable.app.clock import Clock
from usertable.app.id_token import import_keys, verify
from usertable.app.openid import (
    AnswerOfAnother,
    Exchange,
    IdTokenRejected,
    OpenIdSettings,
    ProviderDown,
    ProviderRefused,
    UnknownKey,
)
from usertable.config import is_loopback
from usertable.domain.errors import excerpt
from usertable.domain.openid import Identity
from usertable.domain.person import OpenIdAccount

T = TypeVar("T")

EXPIRY_SECONDS = 600.0
"""Seconds for which the provider's configuration and keys are used before they are fetched again."""
KEYS_SECONDS = 30.0
"""Minimum seconds between two fetches of the keys, when an ID token is signed with an unknown key."""
RETRY_SECONDS = 5.0
"""Seconds after a failed fetch in which no other is tried."""
TOTAL_SECONDS = 10.0
"""Maximum seconds for one request to the provider, including the wait for its turn."""
CONCURRENCY = 20
"""Maximum number of concurrent requests to the provider; further ones wait."""
_TIMEOUT = httpx.Timeout(5.0, connect=3.0)
_CONFIGURATION = "/.well-known/openid-configuration"
_METHODS = ("client_secret_post", "client_secret_basic")


class _Metadata(msgspec.Struct):
    """The used part of a provider's configuration, by OpenID Connect Discovery 1.0, section 3."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    end_session_endpoint: str | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class _Keys(msgspec.Struct):
    keys: list[dict[str, Any]]


class _Tokens(msgspec.Struct):
    id_token: str
    access_token: str = ""


class _Error(msgspec.Struct):
    error: str
    error_description: str = ""


class _Cached(Generic[T]):
    """A document of the provider, fetched on use if it is too old; by one caller at a time."""

    def __init__(self, fetch: Callable[[], Awaitable[T]], clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = asyncio.Lock()
        self._found: tuple[float, T] | None = None
        self._failed: tuple[float, ProviderDown] | None = None

    async def get(self, max_age: float = EXPIRY_SECONDS) -> T:
        """Return the document, at most `max_age` seconds old. Raises ProviderDown."""
        async with self._lock:
            now = self._clock.monotonic()
            if self._found is not None and now - self._found[0] < max_age:
                return self._found[1]
            if self._failed is not None and now - self._failed[0] < RETRY_SECONDS:
                raise ProviderDown(str(self._failed[1]))
            try:
                found = await self._fetch()
            except ProviderDown as down:
                self._failed = self._clock.monotonic(), down
                raise
            self._found, self._failed = (self._clock.monotonic(), found), None
            return found


class OpenIdProvider:
    """The provider, with what this process has cached of it. Every coroutine may raise ProviderDown."""

    def __init__(self, settings: OpenIdSettings, clock: Clock) -> None:
        self.settings = settings
        self._clock = clock
        self._tls: ssl.SSLContext | None = None
        self._free = asyncio.Semaphore(CONCURRENCY)
        self._metadata = _Cached(self._fetch_metadata, clock)
        self._keys = _Cached(self._fetch_keys, clock)

    async def authorization_url(self, exchange: Exchange) -> str:
        """Return the URL to send the browser to."""
        metadata = await self._metadata.get()
        client = OAuth2Client(
            None,
            self.settings.client_id,
            scope=self.settings.scopes,
            redirect_uri=exchange.redirect_uri,
            code_challenge_method="S256",
        )
        url, _ = client.create_authorization_url(
            metadata.authorization_endpoint,
            state=exchange.state,
            code_verifier=exchange.verifier,
            nonce=exchange.nonce,
        )
        return str(url)

    async def end_session_url(self, redirect_uri: str) -> str:
        """Return the URL for signing out of the provider (RP-Initiated Logout 1.0); empty if the provider offers none."""
        endpoint = (await self._metadata.get()).end_session_endpoint
        if not endpoint:
            return ""
        query = urlencode({"client_id": self.settings.client_id, "post_logout_redirect_uri": redirect_uri})
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{query}"

    async def identity(self, code: str, exchange: Exchange, issuer: str | None) -> Identity:
        """Return the identity that the provider has signed in.

        Args:
            code: the code in its answer.
            issuer: the `iss` in its answer (RFC 9207); None if there is none.

        Raises:
            AnswerOfAnother: the answer comes from another provider.
            ProviderRefused: it rejects the code, which may have been used before, or this client.
            IdTokenRejected: its ID token failed a check.
        """
        metadata = await self._metadata.get()
        if issuer != metadata.issuer and (issuer is not None or metadata.authorization_response_iss_parameter_supported):
            raise AnswerOfAnother
        tokens = await self._exchange(code, exchange, metadata)
        claims = await self._verified(tokens, exchange)
        rules = self.settings.rules
        email_claim = self.settings.email_claim
        wanted = [email_claim, *([] if rules.trusts_email else ["email_verified"]), *filter(None, [rules.claim])]
        if metadata.userinfo_endpoint and tokens.access_token and any(_find(claims, name) is None for name in wanted):
            claims = {**await self._user_info(metadata.userinfo_endpoint, tokens, claims["sub"]), **claims}
        email, name = _find(claims, email_claim), claims.get("name")
        return Identity(
            OpenIdAccount(self.settings.issuer, claims["sub"]),
            email if isinstance(email, str) else "",
            # Some providers send a text.
            claims.get("email_verified") in (True, "true"),
            name if isinstance(name, str) else "",
            _values(_find(claims, rules.claim)),
        )

    async def _exchange(self, code: str, exchange: Exchange, metadata: _Metadata) -> _Tokens:
        settings = self.settings
        body = prepare_token_request(
            "authorization_code", code=code, redirect_uri=exchange.redirect_uri, code_verifier=exchange.verifier
        )
        method = "none"
        if settings.client_secret:
            offered = metadata.token_endpoint_auth_methods_supported
            method = next((known for known in _METHODS if known in offered), _METHODS[1])
        client_id, secret = settings.client_id, settings.client_secret
        if method == "client_secret_basic":
            # By RFC 6749, section 2.3.1; Authlib does not do it.
            client_id, secret = quote_plus(client_id), quote_plus(secret)
        headers = {"accept": "application/json", "content-type": "application/x-www-form-urlencoded"}
        url, headers, body = ClientAuth(client_id, secret, method).prepare("POST", metadata.token_endpoint, headers, body)
        response = await self._send("POST", url, content=body, headers=headers)
        if response.is_success:
            return _decoded(response, _Tokens)
        if response.is_client_error:
            error = _decoded(response, _Error)
            raise ProviderRefused(error.error, error.error_description)
        raise ProviderDown(f"{_shown(response.url)} answers with {response.status_code}")

    async def _verified(self, tokens: _Tokens, exchange: Exchange) -> dict[str, Any]:
        def claims(keys: KeySet) -> dict[str, Any]:
            return verify(
                tokens.id_token,
                keys,
                issuer=self.settings.issuer,
                client_id=self.settings.client_id,
                nonce=exchange.nonce,
                access_token=tokens.access_token,
                now=self._clock.seconds(),
            )

        try:
            return claims(await self._keys.get())
        except UnknownKey:
            # The provider may have begun to sign with a new key.
            return claims(await self._keys.get(KEYS_SECONDS))

    async def _user_info(self, endpoint: str, tokens: _Tokens, subject: str) -> dict[str, Any]:
        response = await self._fetch(endpoint, headers={"authorization": f"Bearer {tokens.access_token}"})
        claims = _decoded(response, dict[str, Any])
        if claims.get("sub") != subject:
            # OpenID Connect Core 1.0, section 5.3.2.
            raise IdTokenRejected(
                "sub", "the UserInfo endpoint answered with the claims of another person than the ID token"
            )
        return claims

    async def _fetch_metadata(self) -> _Metadata:
        issuer = self.settings.issuer
        metadata = _decoded(await self._fetch(issuer.rstrip("/") + _CONFIGURATION), _Metadata)
        if metadata.issuer != issuer:
            raise ProviderDown(f"oidc_issuer is {issuer}, and the provider there is {excerpt(metadata.issuer, 200)}")
        endpoints = [metadata.authorization_endpoint, metadata.token_endpoint, metadata.jwks_uri]
        for url in [*endpoints, *filter(None, [metadata.userinfo_endpoint, metadata.end_session_endpoint])]:
            scheme, host = urlsplit(url)[0], urlsplit(url).hostname or ""
            if scheme != "https" and not (scheme == "http" and is_loopback(host)):
                raise ProviderDown(f"the provider's endpoint {excerpt(url, 200)} is not an https URL")
        return metadata

    async def _fetch_keys(self) -> KeySet:
        url = (await self._metadata.get()).jwks_uri
        return import_keys(_decoded(await self._fetch(url), _Keys).keys)

    async def _fetch(self, url: str, **content: Any) -> httpx.Response:
        response = await self._send("GET", url, **content)
        if not response.is_success:
            raise ProviderDown(f"{_shown(response.url)} answers with {response.status_code}")
        return response

    async def _send(self, method: str, url: str, **content: Any) -> httpx.Response:
        try:
            return await self._clock.limit(TOTAL_SECONDS, self._request(method, url, **content))
        except TimeoutError as error:
            raise ProviderDown(f"{_shown(url)}: no answer within {TOTAL_SECONDS:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            # A timeout has no text.
            raise ProviderDown(f"{_shown(url)}: {str(error) or type(error).__name__}") from error

    async def _request(self, method: str, url: str, **content: Any) -> httpx.Response:
        async with self._free:
            if self._tls is None:
                # Reads a file of certificates, which takes 20 ms and more.
                self._tls = await asyncio.to_thread(httpx.create_ssl_context)
            async with httpx.AsyncClient(verify=self._tls, timeout=_TIMEOUT) as client:
                return await client.request(method, url, **content)


def _shown(url: object) -> str:
    """Return a URL without its query, which may contain a secret."""
    return excerpt(str(url).partition("?")[0], 200)


def _decoded(response: httpx.Response, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(response.content, type=kind)
    except msgspec.MsgspecError as error:
        # The message names a position and a type, and quotes nothing.
        raise ProviderDown(
            f"{_shown(response.url)} answers with {response.status_code} and not with the expected JSON: {error}"
        ) from error


def _find(claims: Mapping[str, Any], name: str) -> Any:
    """Return a claim by its name, or by its path in an object: `realm_access.roles`. None if there is none."""
    if not name or name in claims:
        return claims.get(name)
    first, dot, rest = name.partition(".")
    inner = claims.get(first) if dot else None
    return _find(inner, rest) if isinstance(inner, dict) else None


def _values(claim: Any) -> frozenset[str]:
    """Return the values of a claim that is a text or a list of texts."""
    return frozenset(value for value in (claim if isinstance(claim, list) else [claim]) if isinstance(value, str))
