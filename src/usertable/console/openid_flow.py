"""A sign-in by OpenID Connect in progress: the content of its cookie, and what is sent to the provider."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from urllib.parse import quote, unquote

from starlette.responses import Response

from usertable.app.openid import Exchange
from usertable.console.context import HOME, PageContext

CALLBACK = f"{HOME}/sign-in/openid/callback"
"""Path to which the provider redirects the browser. It is registered there with the server's address before it."""
COOKIE = "usertable_openid"
FLOW_SECONDS = 600
"""Seconds in which a person must complete the sign-in at the provider."""
_SIGNED_IN = "signed-in"
_COOKIE = re.compile(r"([\w-]{43})\.(\d{1,15})\.(.*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class SignInFlow:
    """A sign-in in progress. Everything that identifies it is derived from a secret that only its browser has.

    Cookie: secret (43 characters), `begun`, `following`, as in `q0VXf….1764489600.%2Fconsole%2Fprojects%2F100102`.

    Args:
        begun: when it began, in seconds since 1970-01-01 UTC.
        following: the page to go to after signing in; empty for none.
    """

    secret: str
    begun: int
    following: str = ""

    @classmethod
    def begin(cls, context: PageContext, following: str) -> SignInFlow:
        """Begin a sign-in."""
        return cls(secrets.token_urlsafe(32), context.now // 1000, following)

    @classmethod
    def of(cls, context: PageContext) -> SignInFlow | None:
        """Return the browser's sign-in; None if there is none, or it has expired."""
        found = _COOKIE.fullmatch(context.request.cookies.get(COOKIE, ""))
        if found is None:
            return None
        flow = cls(found[1], int(found[2]), unquote(found[3]))
        return flow if 0 <= context.now // 1000 - flow.begun <= FLOW_SECONDS else None

    @staticmethod
    def has_signed_in(context: PageContext) -> bool:
        """Return whether the browser's session was begun with OpenID Connect, according to its cookie."""
        return context.console.openid is not None and context.request.cookies.get(COOKIE) == _SIGNED_IN

    @property
    def state(self) -> str:
        return self._derived("state")

    def exchange(self, context: PageContext) -> Exchange:
        """Return the parameters that are sent to the provider and checked in its response."""
        redirect_uri = f"{context.base_url}{CALLBACK}"
        return Exchange(self.state, self._derived("nonce"), self._derived("code verifier"), redirect_uri)

    def keep(self, context: PageContext, response: Response) -> None:
        """Set the cookie."""
        context.remember(response, COOKIE, f"{self.secret}.{self.begun}.{quote(self.following, safe='')}", FLOW_SECONDS)

    @staticmethod
    def end(context: PageContext, response: Response, *, signed_in_for: int = 0) -> None:
        """Delete the cookie, and note for `signed_in_for` seconds that the browser signed in with OpenID Connect."""
        context.remember(response, COOKIE, _SIGNED_IN if signed_in_for else "", signed_in_for)

    def _derived(self, purpose: str) -> str:
        """Return 64 hexadecimal digits that reveal nothing about the secret, or about the digits for another purpose."""
        message = f"{purpose} {self.begun} {self.following}"
        return hmac.new(self.secret.encode(), message.encode(errors="replace"), hashlib.sha256).hexdigest()


def provider_name(context: PageContext) -> str:
    """Return the name of the provider."""
    return context.console.config.oidc_label or context.text("openid.provider")
