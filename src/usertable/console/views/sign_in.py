"""Signing in and out, and the choice of language and theme."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

from starlette.responses import Response

from usertable import logs
from usertable.config import Config
from usertable.console.context import HOME, LANGUAGE_COOKIE, THEME_COOKIE, THEMES, PageContext, PageRoute
from usertable.console.session import COOKIE, LINK_SECONDS, Session
from usertable.console.shared_state import MustWait

log = logging.getLogger("usertable.console")

SIGN_IN_FIELDS = ("form_token", "token", "new_link")
"""What the form for signing in has of its own, and no other form has."""


def home(context: PageContext) -> Response:
    """The way in."""
    return context.redirect(f"{HOME}/projects")


def show_sign_in(context: PageContext) -> Response:
    """The form for the admin token, or that of a one-time link."""
    query = context.filled(context.request.query_params)
    if context.session.role == "admin":
        return context.redirect(context.own(query.get("next", "")))
    return _sign_in_page(context, link=query.get("link", ""), following=query.get("next", ""))


def sign_in(context: PageContext) -> Response:
    """Check the admin token."""
    following = context.form.get("next", "")
    token = context.form.get("token", "").strip()
    if not token:
        return _sign_in_page(context, 422, error=context.text("sign_in.empty"), following=following)
    try:
        if context.console.sessions.sign_in(context.address, token):
            return _enter(context, following)
    except MustWait as wait:
        return _must_wait(context, wait, following)
    return _sign_in_page(context, 403, error=context.text("sign_in.wrong"), following=following)


def follow_link(context: PageContext) -> Response:
    """Use a one-time link up."""
    if not context.console.sessions.follow_link(context.form.get("link", ""), context.session):
        return _sign_in_page(context, 403, error=context.text("sign_in.link_over"))
    return _enter(context, "")


def ask_for_link(context: PageContext) -> Response:
    """Write a new one-time link to the server's log, which only its operator reads."""
    if context.console.sessions.takes_token:
        return context.redirect(f"{HOME}/sign-in")
    try:
        _make_link(context)
    except MustWait as wait:
        return _must_wait(context, wait, "")
    return context.redirect(f"{HOME}/sign-in", "link_printed")


def without_sign_in(form: Mapping[str, str]) -> dict[str, str]:
    """The fields of a form without those for signing in."""
    return {name: value for name, value in form.items() if name not in SIGN_IN_FIELDS}


def keep_form(context: PageContext, proven: bool) -> Response | None:
    """Sign in on a page that keeps a form which was sent after its session; None once that is done.

    Nothing is stored: what was typed goes back to the browser, which sends it again with the token.

    Args:
        proven: whether the page was made for this session, so that it may sign in.
    """
    sessions, form = context.console.sessions, context.form
    kept = without_sign_in(form)
    context.note = "session_kept"
    try:
        if proven and "new_link" in form and not sessions.takes_token:
            _make_link(context)
            context.note = "link_printed"
        if not proven or "token" not in form:
            return _sign_in_page(context, 403, kept=kept)
        token = form["token"].strip()
        if not token:
            return _sign_in_page(context, 422, error=context.text("sign_in.empty"), kept=kept)
        if not sessions.sign_in(context.address, token):
            return _sign_in_page(context, 403, error=context.text("sign_in.wrong"), kept=kept)
    except MustWait as wait:
        return _must_wait(context, wait, "", kept)
    context.session = sessions.begin("admin")
    return None


def print_link(config: Config, link: str) -> None:
    """Print a one-time link on stderr, by the address that the server listens on: no caller has a say in it."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(config.host, config.host)
    address = f"http://[{host}]:{config.port}" if ":" in host else f"http://{host}:{config.port}"
    logs.announce(
        log,
        f"sign in to the console, once and within {LINK_SECONDS // 60} minutes:"
        f" {'(address of your proxy)' if config.uds else address}{HOME}/sign-in?link={link}",
    )


def sign_out(context: PageContext) -> Response:
    """End the session."""
    context.console.sessions.end(context.session)
    response = context.redirect(f"{HOME}/sign-in", "signed_out")
    keep(context, response, context.console.sessions.begin("visitor"))
    return response


def prefer(context: PageContext) -> Response:
    """Remember a language or a theme."""
    response = context.redirect(context.own(context.form.get("back", "")))
    language, theme = context.form.get("language"), context.form.get("theme")
    if language in ("zh", "en"):
        context.remember(response, LANGUAGE_COOKIE, language)
    if theme in THEMES:
        context.remember(response, THEME_COOKIE, theme)
    return response


def keep(context: PageContext, response: Response, session: Session) -> None:
    """Set the session's cookie, which ends with the session."""
    seconds = max(1, session.expires - int(context.console.clock.seconds()))
    context.remember(response, COOKIE, context.console.sessions.seal(session), seconds)


def _enter(context: PageContext, following: str) -> Response:
    response = context.redirect(context.own(following))
    # A new one: whoever knew the visitor's session knows nothing of it.
    keep(context, response, context.console.sessions.begin("admin"))
    return response


def _make_link(context: PageContext) -> None:
    print_link(context.console.config, context.console.sessions.make_link())


def _must_wait(context: PageContext, wait: MustWait, following: str, kept: Mapping[str, str] | None = None) -> Response:
    seconds = math.ceil(wait.seconds)
    error = context.text("sign_in.wait", seconds=seconds)
    response = _sign_in_page(context, 429, error=error, following=following, kept=kept)
    response.headers["retry-after"] = str(seconds)
    return response


def _sign_in_page(
    context: PageContext,
    status: int = 200,
    *,
    error: str = "",
    link: str = "",
    following: str = "",
    kept: Mapping[str, str] | None = None,
) -> Response:
    sessions = context.console.sessions
    if link and not sessions.takes_token and not sessions.link.holds(link):
        status, error, link = 403, context.text("sign_in.link_over"), ""
    return context.render(
        "sign_in.html",
        status,
        error=error,
        link="" if sessions.takes_token else link,
        following=following,
        kept=kept,
        takes_token=sessions.takes_token,
    )


PAGES = (
    PageRoute("GET", HOME, home),
    PageRoute("GET", f"{HOME}/sign-in", show_sign_in, public=True),
    PageRoute("POST", f"{HOME}/sign-in", sign_in, public=True),
    PageRoute("POST", f"{HOME}/sign-in/link", follow_link, public=True),
    PageRoute("POST", f"{HOME}/sign-in/new-link", ask_for_link, public=True),
    PageRoute("POST", f"{HOME}/sign-out", sign_out),
    PageRoute("POST", f"{HOME}/preferences", prefer, public=True),
)
