"""Sign in and out by OpenID Connect: redirect to the provider, handle its response, and sign out there."""

from __future__ import annotations

import asyncio
import hmac
import logging
from typing import TYPE_CHECKING

from starlette.responses import Response

from usertable.app.openid import AnswerOfAnother, IdTokenRejected, ProviderDown, ProviderRefused
from usertable.console.context import HOME, Access, PageContext, PageRoute
from usertable.console.openid_flow import CALLBACK, SignInFlow, provider_name
from usertable.console.session import SignedIn
from usertable.console.views.sign_in import enter, show_failure
from usertable.domain.errors import excerpt
from usertable.domain.openid import EntryRefused, Refusal

if TYPE_CHECKING:
    from usertable.app.openid_provider import OpenIdProvider

log = logging.getLogger("usertable.console")

_WRONG_CLIENT = ("invalid_client", "unauthorized_client")
"""OAuth 2.0 errors that a wrong configuration causes."""


class _NotSignedIn(Exception):
    """The person was not signed in.

    Args:
        reason: one word for the audit log.
        text: message for the person.
    """

    def __init__(self, status: int, reason: str, text: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.text = text


async def begin(context: PageContext) -> Response:
    """Redirect the browser to the provider."""
    provider = context.console.openid
    if provider is None:
        return _no_provider(context)
    following = context.request.query_params.get("next", "")
    flow = SignInFlow.begin(context, following)
    try:
        url = await provider.authorization_url(flow.exchange(context))
    except ProviderDown as down:
        return await _not_signed_in(context, _down(context, provider, down), following)
    response = context.redirect(url)
    flow.keep(context, response)
    return response


async def come_back(context: PageContext) -> Response:
    """Handle the provider's response: sign in the person whom the provider has signed in."""
    provider = context.console.openid
    if provider is None:
        return _no_provider(context)
    flow = SignInFlow.of(context)
    try:
        signed_in = await _signed_in(context, provider, flow)
    except _NotSignedIn as failure:
        response = await _not_signed_in(context, failure, flow.following if flow else "")
        if flow is not None:
            SignInFlow.end(context, response)
        return response
    response = enter(context, flow.following if flow else "", signed_in)
    SignInFlow.end(context, response, signed_in_for=context.console.sessions.seconds)
    return response


async def sign_out(context: PageContext) -> Response:
    """Send the browser to the provider to sign out there too. The console has already ended its session."""
    provider, signed_out = context.console.openid, "/sign-in?done=signed_out"
    url = ""
    if provider is not None:
        try:
            url = await provider.end_session_url(f"{context.base_url}{HOME}{signed_out}")
        except ProviderDown as down:
            _log_down(provider, down)
    # A page, not a redirect: browsers treat a redirect as part of the form, which may only lead to this server.
    response = (
        context.render("openid_sign_out.html", url=url, provider=provider_name(context))
        if url
        else context.redirect(f"{context.home}{signed_out}")
    )
    SignInFlow.end(context, response)
    return response


async def _signed_in(context: PageContext, provider: OpenIdProvider, flow: SignInFlow | None) -> SignedIn:
    query = context.request.query_params
    if flow is None or not hmac.compare_digest(flow.state.encode(), query.get("state", "").encode()):
        raise _NotSignedIn(403, "state", context.text("openid.state"))
    sessions = context.console.sessions
    if not await asyncio.to_thread(sessions.shared.spend, "openid", flow.state):
        raise _NotSignedIn(403, "replay", context.text("openid.replay"))
    if "error" in query:
        raise _refused(context, ProviderRefused(query["error"], query.get("error_description", "")))
    if not query.get("code"):
        raise _NotSignedIn(403, "code", context.text("openid.state"))
    try:
        identity = await provider.identity(query["code"], flow.exchange(context), query.get("iss"))
    except ProviderDown as down:
        raise _down(context, provider, down) from down
    except AnswerOfAnother as other:
        raise _NotSignedIn(403, "iss", context.text("openid.token", check="iss")) from other
    except ProviderRefused as refused:
        if refused.error in _WRONG_CLIENT:
            raise _wrong_client(context, refused) from refused
        raise _refused(context, refused) from refused
    except IdTokenRejected as rejected:
        log.warning("the answer of the OpenID Connect provider %s was rejected: %s", provider.settings.issuer, rejected)
        raise _NotSignedIn(403, rejected.check, context.text("openid.token", check=rejected.check)) from rejected
    rules = provider.settings.rules
    try:
        return await asyncio.to_thread(sessions.sign_in_by_openid, identity, rules, context.anonymous, context.browser)
    except EntryRefused as refused:
        # Already recorded, with the person's address.
        uninvited = refused.refusal is Refusal.NO_ROLE and not rules.claim
        key = "openid.not_invited" if uninvited else f"openid.{refused.refusal}"
        text = context.text(key, email=refused.email, provider=provider_name(context), claim=rules.claim)
        raise _NotSignedIn(403, "", text) from refused


async def _not_signed_in(context: PageContext, failure: _NotSignedIn, following: str) -> Response:
    if failure.reason:
        await asyncio.to_thread(context.console.sessions.refuse_by_openid, failure.reason, context.anonymous)
    return await asyncio.to_thread(show_failure, context, failure.status, failure.text, following=following)


def _refused(context: PageContext, refused: ProviderRefused) -> _NotSignedIn:
    """Return the provider's error as the browser reports it. It is not logged, because anybody can send one."""
    error, description = excerpt(refused.error, 100), excerpt(refused.description, 300)
    if refused.error == "access_denied":
        return _NotSignedIn(403, error, context.text("openid.access_denied", provider=provider_name(context)))
    key = "openid.error_described" if description else "openid.error"
    return _NotSignedIn(403, error, context.text(key, provider=provider_name(context), error=error, description=description))


def _wrong_client(context: PageContext, refused: ProviderRefused) -> _NotSignedIn:
    log.error("the OpenID Connect provider rejects oidc_client_id or oidc_client_secret: %s", excerpt(str(refused), 400))
    error = excerpt(refused.error, 100)
    return _NotSignedIn(503, error, context.text("openid.client", error=error))


def _down(context: PageContext, provider: OpenIdProvider, down: ProviderDown) -> _NotSignedIn:
    _log_down(provider, down)
    return _NotSignedIn(503, "provider", context.text("openid.down", provider=provider_name(context)))


def _log_down(provider: OpenIdProvider, down: ProviderDown) -> None:
    log.warning("the OpenID Connect provider %s cannot be used: %s", provider.settings.issuer, down)


def _no_provider(context: PageContext) -> Response:
    return context.render("error.html", 404, title="error.no_page", message=context.text("error.no_page_help"))


PAGES = (
    PageRoute("GET", f"{HOME}/sign-in/openid", begin, Access.PUBLIC),
    PageRoute("GET", CALLBACK, come_back, Access.PUBLIC),
    PageRoute("GET", f"{HOME}/sign-in/openid/sign-out", sign_out, Access.PUBLIC),
)
