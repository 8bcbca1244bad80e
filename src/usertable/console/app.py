"""The console as an ASGI application: the routes, and what holds for all of them."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from usertable import logs
from usertable.console import live
from usertable.console.context import HOME, LANGUAGE_COOKIE, THEME_COOKIE, THEMES, Console, PageContext, PageRoute
from usertable.console.session import COOKIE, Session
from usertable.console.views import arrivals, attributes, identifiers, projects, sign_in, statistics, try_it, users
from usertable.domain.errors import Refused, Unavailable, excerpt
from usertable.domain.schema import Project
from usertable.wire.messages import Language, negotiate
from usertable.wire.native.problem_details import STATUSES

log = logging.getLogger("usertable.console")

PAGES: tuple[PageRoute, ...] = (
    *sign_in.PAGES,
    *projects.PAGES,
    *attributes.PAGES,
    *identifiers.PAGES,
    *users.PAGES,
    *arrivals.PAGES,
    *statistics.PAGES,
    *try_it.PAGES,
)
"""Every page of the console."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
"""What every answer carries; a static file has its own `cache-control`."""
ONCE_SECONDS = 10.0
"""Seconds for which a second sending of a form waits for the first."""
_STATIC_HEADERS = {**HEADERS, "cache-control": "public, max-age=31536000, immutable"}
_ICON_HEADERS = {**HEADERS, "cache-control": "public, max-age=86400"}
ICON = "/favicon.ico"
"""Where browsers look for an icon that no page names, such as that of a JSON answer."""


def is_for_console(scope: Scope) -> bool:
    """Whether a request is for the console: what is under `/console`, the icon, and `/` if a browser asks for it."""
    path = scope["path"]
    if path == HOME or path.startswith(f"{HOME}/"):
        return True
    if scope["method"] not in ("GET", "HEAD"):
        return False
    return bool(path == ICON or (path == "/" and b"text/html" in dict(scope["headers"]).get(b"accept", b"")))


def console_app(console: Console) -> ASGIApp:
    """The ASGI application of everything that :func:`is_for_console`."""
    by_path: dict[str, dict[str, PageRoute]] = {}
    for page in PAGES:
        by_path.setdefault(page.path, {})[page.method] = page

    async def static(request: Request) -> Response:
        request.scope["route"] = f"{HOME}/static/{{name}}"
        found = console.assets.by_address.get(request.path_params["name"])
        if found is None:
            return PlainTextResponse("no such file", 404, HEADERS)
        return Response(found[0], media_type=found[1], headers=_STATIC_HEADERS)

    async def icon(request: Request) -> Response:
        request.scope["route"] = ICON
        content, media_type = console.assets.file("icon.svg")
        return Response(content, media_type=media_type, headers=_ICON_HEADERS)

    async def root(request: Request) -> Response:
        request.scope["route"] = "/"
        return RedirectResponse(HOME, 303, {**HEADERS, "vary": "Accept"})

    routes = [Route(path, _PageEndpoint(console, path, pages)) for path, pages in by_path.items()]
    files = [Route("/", root), Route(ICON, icon), Route(f"{HOME}/static/{{name}}", static)]
    return Router([*files, *routes], redirect_slashes=False, default=_PageEndpoint(console, "", {}))


class _PageEndpoint:
    """The ASGI application of one path: its pages by method."""

    def __init__(self, console: Console, route: str, pages: dict[str, PageRoute]) -> None:
        self._console = console
        self._route = route
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._route:
            # By which the server counts the request.
            scope["route"] = self._route
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            return
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        cookie = self._console.sessions.open(request.cookies.get(COOKIE, ""))
        session = cookie or self._console.sessions.begin("visitor")
        context = PageContext(self._console, request, session, _language(request), _theme(request))
        try:
            response = await self._serve(context)
        except Refused as refused:
            status = STATUSES.get(refused.problems[0].kind, 422)
            title = "error.not_found" if status == 404 else "error.refused"
            message = context.problem(refused.problems[0])
            response = context.render("error.html", status, title=title, message=message, project=_project(context))
        except Unavailable as failure:
            log.warning("a page was answered with 503: %s", failure)
            response = context.render("error.html", 503, title="error.unavailable", message=context.text("error.try_later"))
            response.headers["retry-after"] = "1"
        except ClientDisconnect:
            raise
        except Exception:
            log.exception("a page failed, it was answered with 500")
            current = logs.request.get()
            number = current.id if current else "-"
            message = context.text("error.quote", request=number)
            response = context.render("error.html", 500, title="error.internal", message=message)
        self._keep(context, response, known=cookie is not None)
        return response

    async def _serve(self, context: PageContext) -> Response:
        request = context.request
        if not self._pages:
            return context.render("error.html", 404, title="error.no_page", message=context.text("error.no_page_help"))
        page = self._pages.get("GET" if request.method == "HEAD" else request.method)
        if page is None:
            response = context.render("error.html", 405, title="error.method", message=context.text("error.no_page_help"))
            response.headers["allow"] = ", ".join(self._pages)
            return response
        if page.method == "POST" and (answer := await self._check_form(page, context)) is not None:
            return answer
        if not page.public and context.session.role != "admin":
            if "text/event-stream" in request.headers.get("accept", ""):
                return live.signed_out(context)
            return _to_sign_in(context, self._pages)
        response = await (_view(page, context) if page.method == "GET" or page.public else self._once(page, context))
        if page.method == "POST":
            # Who declares an attribute may send values of it as soon as it is answered.
            with contextlib.suppress(Unavailable):
                await asyncio.to_thread(self._console.authenticator.poll)
        return response

    async def _check_form(self, page: PageRoute, context: PageContext) -> Response | None:
        """Read the form that was sent; what to answer instead if it is not to be acted on."""
        request = context.request
        form = await _form(request, self._console.config.body_limit)
        if form is None:
            return context.render("error.html", 413, title="error.too_large", message=context.text("error.go_back"))
        context.form = form
        from_here = _is_from_here(request)
        if not from_here and (address := _address_of_browser(request)):
            host = request.headers.get("host", "")
            message = context.text("error.host_help", address=excerpt(address, 200), host=excerpt(host, 200))
            return context.render("error.html", 403, title="error.host", message=message)
        proven = from_here and self._console.sessions.is_form_token(context.session, form.get("form_token", ""))
        if not page.public and context.session.role != "admin":
            is_kept = from_here and "GET" in self._pages
            return await self._sign_in_and_show_again(context, proven) if is_kept else None
        if proven:
            return None
        if from_here:
            return await self._show_again(context, "form_over", 403)
        return context.render("error.html", 403, title="error.forged", message=context.text("error.forged_help"))

    async def _once(self, page: PageRoute, context: PageContext) -> Response:
        """Do what a form asks for. A second sending of the same form waits for the first one, and is led where that was."""
        results, name, clock = self._console.results, context.sending, self._console.clock
        patient_until = clock.monotonic() + ONCE_SECONDS
        while not results.begin(name) and clock.monotonic() < patient_until:
            await clock.sleep(0.05)
        try:
            if done := results.find(name):
                return _led_again(done)
            response = await _view(page, context)
            if response.status_code == 303:
                results.keep(name, "", _leading(response))
            return response
        finally:
            results.end(name)

    async def _sign_in_and_show_again(self, context: PageContext, proven: bool) -> Response:
        """Somebody whose session is over has sent a form: it is kept on the page for signing in, and shown afterwards."""
        response = await asyncio.to_thread(sign_in.keep_form, context, proven)
        if response is not None:
            return response
        response = await self._show_again(context, "form_kept", 200)
        sign_in.keep(context, response, context.session)
        return response

    async def _show_again(self, context: PageContext, note: str, status: int) -> Response:
        """Show a form that could not be taken as it was filled in, or the page that it was on. Nothing is done."""
        if "GET" not in self._pages:
            return context.redirect(context.own(context.came_from), note)
        context.kept, context.note = sign_in.without_sign_in(context.form), note
        response = await _view(self._pages["GET"], context)
        if response.status_code == 200:
            response.status_code = status
        return response

    def _keep(self, context: PageContext, response: Response, *, known: bool) -> None:
        """Give the browser its session, if it has none or half of its time is over."""
        sessions = self._console.sessions
        session: Session | None = context.session if not known else sessions.renewed(context.session)
        if session is None or any(value.startswith(f"{COOKIE}=") for value in response.headers.getlist("set-cookie")):
            return
        sign_in.keep(context, response, session)


def _project(context: PageContext) -> Project | None:
    """The project that the path names, if there is one and the visitor may know of it."""
    with contextlib.suppress(KeyError, Refused, Unavailable):
        return context.project() if context.session.role == "admin" else None
    return None


async def _view(page: PageRoute, context: PageContext) -> Response:
    view: Any = page.view
    response = await view(context) if inspect.iscoroutinefunction(view) else await asyncio.to_thread(view, context)
    assert isinstance(response, Response)
    return response


def _leading(response: Response) -> bytes:
    """Where an answer leads, with the cookies that it sets."""
    headers = [response.headers["location"], *response.headers.getlist("set-cookie")]
    return json.dumps(headers).encode()


def _led_again(leading: bytes) -> Response:
    location, *cookies = json.loads(leading)
    response = Response(status_code=303, headers={"location": location})
    for cookie in cookies:
        response.headers.append("set-cookie", cookie)
    return response


def _to_sign_in(context: PageContext, pages: Mapping[str, PageRoute]) -> Response:
    """To the page for signing in, and from there to the page that was asked for, or that had the button."""
    url, query = context.request.url, {}
    if "GET" not in pages:
        if came_from := context.came_from:
            query["next"] = came_from
    elif url.path != HOME:
        query["next"] = f"{url.path}?{url.query}" if url.query else url.path
    if context.request.method == "POST":
        signing_out = url.path == f"{HOME}/sign-out"
        query = {"done": "signed_out"} if signing_out else {**query, "done": "session_ended"}
    return RedirectResponse(f"{HOME}/sign-in?{urlencode(query)}" if query else f"{HOME}/sign-in", 303)


def _is_from_here(request: Request) -> bool:
    """Whether a form was sent by a page of this server, by the word of the browser."""
    if site := request.headers.get("sec-fetch-site"):
        return site == "same-origin"
    origin = request.headers.get("origin")
    if origin is None:
        # Other clients than browsers send neither, and have no session that another site could ride on.
        return True
    scheme, netloc = urlsplit(origin)[:2]
    return _authority(scheme, netloc) == _authority(scheme, request.headers.get("host", ""))


def _address_of_browser(request: Request) -> str:
    """Where the browser says that it is, if that is all it says; an empty text otherwise.

    Behind a proxy that passes on another `Host` that is not where this server was asked, and looks like another site.
    """
    origin = request.headers.get("origin", "")
    return "" if "sec-fetch-site" in request.headers or not urlsplit(origin).netloc else origin


def _authority(scheme: str, netloc: str) -> str:
    """Host and port, the port only where the scheme does not imply it: `console.example.com`, `10.0.0.7:8000`."""
    return netloc.lower().removesuffix({"http": ":80", "https": ":443"}.get(scheme, " "))


async def _form(request: Request, limit: int) -> dict[str, str] | None:
    """The fields of a form; None if it is too large."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            return None
    return dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True, errors="replace"))


def _language(request: Request) -> Language:
    kept: Any = request.cookies.get(LANGUAGE_COOKIE)
    if kept in ("zh", "en"):
        language: Language = kept
        return language
    return negotiate(request.headers.get("accept-language"), "en")


def _theme(request: Request) -> str:
    kept = request.cookies.get(THEME_COOKIE, "")
    return kept if kept in THEMES else "auto"
