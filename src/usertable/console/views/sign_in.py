"""Sign in and out, and choose the language and the theme."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.responses import Response

from usertable import logs
from usertable.config import Config
from usertable.console.context import HOME, LANGUAGE_COOKIE, THEME_COOKIE, THEMES, Access, PageContext, PageRoute
from usertable.console.openid_flow import SignInFlow, provider_name
from usertable.console.session import COOKIE, LINK_SECONDS, VISITOR_SECONDS, Disabled, SignedIn, cookie_for
from usertable.console.shared_state import MustWait

log = logging.getLogger("usertable.console")

ANSWER_SECONDS = 0.1
"""Refused passwords are answered at a multiple of this time, so that it does not tell what was done for the answer."""
SIGN_IN_FIELDS = ("form_token", "sign_in_email", "sign_in_password", "token", "new_link")
"""Fields that only the sign-in forms have."""
PASSWORDS = ("password", "old", "new")
"""Fields that are not kept in a form that is shown again."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why the visitor was not signed in.

    Args:
        field: the form field to show the error beside.
        seconds: until another attempt is accepted.
    """

    status: int
    field: str
    error: str
    seconds: int = 0


def home(context: PageContext) -> Response:
    """Redirect to the first page."""
    return context.redirect(f"{context.home}/projects")


def show_sign_in(context: PageContext) -> Response:
    """Show the sign-in forms, or the form of a one-time link."""
    query = context.filled(context.request.query_params)
    if context.visitor.is_signed_in:
        return context.redirect(context.own(query.get("next", "")))
    return _sign_in_page(context, link=query.get("link", ""), following=query.get("next", ""))


async def sign_in(context: PageContext) -> Response:
    """Sign in with an e-mail address and a password, or with the admin token."""
    following = context.form.get("next", "")
    signed_in = await _sign_in(context)
    if isinstance(signed_in, _Failure):
        return await asyncio.to_thread(_sign_in_page, context, failure=signed_in, following=following)
    return enter(context, following, signed_in)


def follow_link(context: PageContext) -> Response:
    """Sign in with a one-time link, which is then used up."""
    link = context.form.get("link", "")
    signed_in = context.console.sessions.sign_in_by_link(link, context.visitor, context.anonymous, context.browser)
    if signed_in is None:
        return _sign_in_page(context, failure=_Failure(403, "link", context.text("sign_in.link_over")))
    # On a new server, whoever reads its output first creates their account.
    first = "" if context.console.sessions.has_people() else f"{context.home}/first-person"
    return enter(context, first, signed_in)


def ask_for_link(context: PageContext) -> Response:
    """Write a new one-time link to the server's log, which only its operator can read."""
    if context.console.sessions.takes_token:
        return context.redirect(f"{context.home}/sign-in")
    try:
        _make_link(context)
    except MustWait as wait:
        return _sign_in_page(context, failure=_delayed(context, "link", wait))
    return context.redirect(f"{context.home}/sign-in", "link_printed")


def without_sign_in(form: Mapping[str, str]) -> dict[str, str]:
    """Return the fields of a form without the sign-in fields and without passwords."""
    return {name: value for name, value in form.items() if name not in SIGN_IN_FIELDS + PASSWORDS}


async def keep_form(context: PageContext, proven: bool) -> Response | None:
    """Sign in on a page that keeps a form sent after its session ended. Returns None on success.

    Nothing is stored: the browser receives the form's fields and sends them again with the credentials.

    Args:
        proven: whether the page was generated for this browser, so that it may sign in.
    """
    sessions, form = context.console.sessions, context.form
    kept = without_sign_in(form)
    context.note = "session_kept"
    failure: _Failure | None = None
    if proven and "new_link" in form and not sessions.takes_token:
        try:
            _make_link(context)
            context.note = "link_printed"
        except MustWait as wait:
            failure = _delayed(context, "link", wait)
    if not proven or not {"token", "sign_in_email"} & form.keys():
        return await asyncio.to_thread(_sign_in_page, context, 403, failure=failure, kept=kept)
    signed_in = await _sign_in(context)
    if isinstance(signed_in, _Failure):
        return await asyncio.to_thread(_sign_in_page, context, failure=signed_in, kept=kept)
    if visitor := await asyncio.to_thread(sessions.open, signed_in.token):
        context.visitor = visitor
    return None


def print_link(config: Config, link: str) -> None:
    """Print a one-time link on stderr, with the address that the server listens on: no caller can influence it."""
    logs.announce(
        log,
        f"sign in to the console, once and within {LINK_SECONDS // 60} minutes:"
        f" {config.browser_url}{HOME}/sign-in?link={link}",
    )


def sign_out(context: PageContext) -> Response:
    """End the session."""
    context.console.sessions.end(context.visitor, context.actor)
    if SignInFlow.has_signed_in(context):
        response = context.redirect(f"{context.home}/sign-in/openid/sign-out")
    else:
        response = context.redirect(f"{context.home}/sign-in", "signed_out")
    keep(context, response, context.console.sessions.new_visitor().token, VISITOR_SECONDS)
    context.remember(response, COOKIE, "", 0)
    return response


def prefer(context: PageContext) -> Response:
    """Set the language or the theme."""
    response = context.redirect(context.own(context.form.get("back", "")))
    language, theme = context.form.get("language"), context.form.get("theme")
    if language in ("zh", "en"):
        context.remember(response, LANGUAGE_COOKIE, language)
    if theme in THEMES:
        context.remember(response, THEME_COOKIE, theme)
    return response


def keep(context: PageContext, response: Response, token: str, seconds: int) -> None:
    """Set the cookie with a visitor's token for this number of seconds."""
    context.remember(response, cookie_for(token), token, seconds)


async def _sign_in(context: PageContext) -> SignedIn | _Failure:
    """Sign in with the credentials in the form: an e-mail address and a password, or the admin token."""
    sessions, form = context.console.sessions, context.form
    by_password = "sign_in_email" in form
    field = "sign_in_password" if by_password else "token"
    email, password, token = form.get("sign_in_email", ""), form.get("sign_in_password", ""), form.get("token", "").strip()
    if by_password and not (email.strip() and password):
        return _Failure(422, field, context.text("sign_in.empty_password"))
    if not by_password and not token:
        return _Failure(422, field, context.text("sign_in.empty"))
    try:
        if by_password:
            signed_in = await _sign_in_by_password(context, email, password)
        else:
            signed_in = await asyncio.to_thread(sessions.sign_in_by_token, token, context.anonymous, context.browser)
    except MustWait as wait:
        return _delayed(context, field, wait)
    except Disabled:
        return _Failure(403, field, context.text("sign_in.disabled"))
    wrong = "sign_in.wrong_password" if by_password else "sign_in.wrong"
    return signed_in or _Failure(403, field, context.text(wrong))


async def _sign_in_by_password(context: PageContext, email: str, password: str) -> SignedIn | None:
    sessions, signed_in = context.console.sessions, None
    # Real time, because it hides how long real work took.
    clock = asyncio.get_running_loop().time
    began = clock()
    try:
        # One at a time, in its own thread: hashing is slow by design, and anybody can request it.
        signed_in = await sessions.hashing.run(
            lambda: sessions.sign_in_by_password(email, password, context.anonymous, context.browser)
        )
    finally:
        if signed_in is None:
            await asyncio.sleep(ANSWER_SECONDS - (clock() - began) % ANSWER_SECONDS)
    return signed_in


def show_failure(context: PageContext, status: int, error: str, *, following: str = "") -> Response:
    """Return the sign-in page with an error message. Blocks."""
    return _sign_in_page(context, failure=_Failure(status, "openid", error), following=following)


def enter(context: PageContext, following: str, signed_in: SignedIn) -> Response:
    """Redirect to a page of the console, with the cookie of the new session."""
    response = context.redirect(context.own(following))
    # A new cookie, so that knowing the previous one is useless.
    keep(context, response, signed_in.token, context.console.sessions.seconds)
    return response


def _make_link(context: PageContext) -> None:
    print_link(context.console.config, context.console.sessions.make_link())


def _delayed(context: PageContext, field: str, wait: MustWait) -> _Failure:
    seconds = math.ceil(wait.seconds)
    return _Failure(429, field, context.text("sign_in.wait", seconds=seconds), seconds)


def _sign_in_page(
    context: PageContext,
    status: int = 200,
    *,
    failure: _Failure | None = None,
    link: str = "",
    following: str = "",
    kept: Mapping[str, str] | None = None,
) -> Response:
    sessions = context.console.sessions
    if link and not sessions.takes_token and not sessions.link.holds(link):
        failure, link = _Failure(403, "link", context.text("sign_in.link_over")), ""
    response = context.render(
        "sign_in.html",
        failure.status if failure else status,
        errors={failure.field: failure.error} if failure else {},
        email=context.form.get("sign_in_email", ""),
        link="" if sessions.takes_token else link,
        following=following,
        kept=kept,
        takes_token=sessions.takes_token,
        has_people=sessions.has_people(),
        openid=provider_name(context) if context.console.openid else "",
    )
    if failure and failure.seconds:
        response.headers["retry-after"] = str(failure.seconds)
    return response


PAGES = (
    PageRoute("GET", HOME, home, Access.SIGNED_IN),
    PageRoute("GET", f"{HOME}/sign-in", show_sign_in, Access.PUBLIC),
    PageRoute("POST", f"{HOME}/sign-in", sign_in, Access.PUBLIC),
    PageRoute("POST", f"{HOME}/sign-in/link", follow_link, Access.PUBLIC),
    PageRoute("POST", f"{HOME}/sign-in/new-link", ask_for_link, Access.PUBLIC),
    PageRoute("POST", f"{HOME}/sign-out", sign_out, Access.SIGNED_IN),
    PageRoute("POST", f"{HOME}/preferences", prefer, Access.PUBLIC),
)
