"""The console as an ASGI application: its routes, and the checks that apply to all of them."""

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
from usertable.console.context import (
    HOME,
    LANGUAGE_COOKIE,
    THEME_COOKIE,
    THEMES,
    AccessEnded,
    Console,
    PageContext,
    PageRoute,
)
from usertable.console.not_allowed import not_allowed
from usertable.console.session import COOKIE, VISITOR_COOKIE, VISITOR_SECONDS, Visitor
from usertable.console.views import (
    account,
    arrivals,
    attributes,
    audit,
    history,
    identifiers,
    keys,
    members,
    openid,
    passwords,
    people,
    projects,
    sign_in,
    statistics,
    try_it,
    user_history,
    users,
)
from usertable.domain.errors import Refused, Unavailable, excerpt
from usertable.domain.schema import Project
from usertable.wire.messages import Language, negotiate
from usertable.wire.native.problem_details import STATUSES

log = logging.getLogger("usertable.console")

PAGES: tuple[PageRoute, ...] = (
    *sign_in.PAGES,
    *passwords.PAGES,
    *account.PAGES,
    *people.PAGES,
    *openid.PAGES,
    *projects.PAGES,
    *attributes.PAGES,
    *identifiers.PAGES,
    *keys.PAGES,
    *audit.PAGES,
    *users.PAGES,
    *user_history.PAGES,
    *history.PAGES,
    *arrivals.PAGES,
    *statistics.PAGES,
    *try_it.PAGES,
    *members.PAGES,
)
"""All pages of the console."""

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
"""Headers of every response. A static file has its own `cache-control`."""
ONCE_SECONDS = 10.0
"""Seconds for which a repeated submission of a form waits for the first one."""
MAX_FORM_FIELDS = 10_000
"""Maximum number of fields of a form. Anybody can send one, and half a million fields blocked a server for 0.3 s."""
_STATIC_HEADERS = {**HEADERS, "cache-control": "public, max-age=31536000, immutable"}
_ICON_HEADERS = {**HEADERS, "cache-control": "public, max-age=86400"}
ICON = "/favicon.ico"
"""Path from which browsers load an icon that no page names, such as for a JSON response."""


def is_for_console(scope: Scope) -> bool:
    """Return whether a request is for the console: under `/console`, for the icon, or for `/` from a browser."""
    path = scope["path"]
    if path == HOME or path.startswith(f"{HOME}/"):
        return True
    if scope["method"] not in ("GET", "HEAD"):
        return False
    return bool(path == ICON or (path == "/" and b"text/html" in dict(scope["headers"]).get(b"accept", b"")))


def console_app(console: Console) -> ASGIApp:
    """Return the ASGI application for all requests that :func:`is_for_console` accepts."""
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
        return RedirectResponse(console.home, 303, {**HEADERS, "vary": "Accept"})

    async def home(request: Request) -> Response:
        request.scope["route"] = HOME
        return RedirectResponse(console.home, 303, HEADERS)

    routes = [Route(path, _PageEndpoint(console, path, pages)) for path, pages in by_path.items()]
    files = [Route("/", root), Route(f"{HOME}/", home), Route(ICON, icon), Route(f"{HOME}/static/{{name}}", static)]
    router = Router([*files, *routes], redirect_slashes=False, default=_PageEndpoint(console, "", {}))
    public_path = console.config.public_path

    async def below_public_path(scope: Scope, receive: Receive, send: Send) -> None:
        # The pages use the addresses that the browser sees; the routes are the ones below.
        scope["root_path"], scope["path"] = public_path, f"{public_path}{scope['path']}"
        await router(scope, receive, send)

    return below_public_path if public_path else router


class _PageEndpoint:
    """The ASGI application of one path: its pages by HTTP method."""

    def __init__(self, console: Console, route: str, pages: dict[str, PageRoute]) -> None:
        self._console = console
        self._route = route
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._route:
            # The server's request metrics use this.
            scope["route"] = self._route
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            return
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        try:
            await response(scope, receive, send)
        except AccessEnded:
            # The server closes the connection, so that an incomplete response is not taken for the whole.
            log.info("a file was not sent to its end: whoever asked for it may no longer see it")

    async def _answer(self, request: Request) -> Response:
        visitor = self._console.sessions.new_visitor()
        context = PageContext(self._console, request, visitor, _language(request), _theme(request))
        seconds: int | None = VISITOR_SECONDS
        try:
            form = await _form(request, self._console.config.body_limit) if self._takes_form(request) else {}
            # Check here, because receiving a form can take long, and its sender may have been signed out in the meantime.
            if known := await self._known(request):
                context.visitor, seconds = known
            response = await self._serve(context, form)
        except Refused as refused:
            status = STATUSES.get(refused.problems[0].kind, 422)
            title = "error.not_found" if status == 404 else "error.refused"
            message = context.problem(refused.problems[0])
            response = context.render("error.html", status, title=title, message=message, project=_project(context))
        except Unavailable as failure:
            log.warning("a page was answered with 503: %s", failure)
            response = context.render("error.html", 503, title="error.unavailable", message=context.text("error.try_later"))
            response.headers["retry-after"] = "1"
            if context.visitor is visitor:
                # The session could not be checked, so the existing cookie may be valid.
                seconds = None
        except ClientDisconnect:
            raise
        except Exception:
            log.exception("a page failed; it was answered with 500")
            current = logs.request.get()
            number = current.id if current else "-"
            message = context.text("error.quote", request=number)
            response = context.render("error.html", 500, title="error.internal", message=message)
        if seconds is not None and not any(v.startswith(f"{COOKIE}=") for v in response.headers.getlist("set-cookie")):
            sign_in.keep(context, response, context.visitor.token, seconds)
        return response

    def _takes_form(self, request: Request) -> bool:
        return request.method == "POST" and "POST" in self._pages

    async def _known(self, request: Request) -> tuple[Visitor, int | None] | None:
        """Return the request's visitor, and the new lifetime of their cookie in seconds; None to keep the current one."""
        sessions = self._console.sessions
        for name in (COOKIE, VISITOR_COOKIE):
            cookie = request.cookies.get(name, "")
            if cookie and (visitor := await asyncio.to_thread(sessions.open, cookie)) is not None:
                return visitor, await asyncio.to_thread(sessions.see, visitor)
        return None

    async def _serve(self, context: PageContext, form: Mapping[str, str] | None) -> Response:
        request = context.request
        if not self._pages:
            return context.render("error.html", 404, title="error.no_page", message=context.text("error.no_page_help"))
        page = self._pages.get("GET" if request.method == "HEAD" else request.method)
        if page is None:
            response = context.render("error.html", 405, title="error.method", message=context.text("error.no_page_help"))
            response.headers["allow"] = ", ".join(self._pages)
            return response
        if page.method == "POST" and (answer := await self._check_form(page, context, form)) is not None:
            return answer
        if not page.is_public and not context.visitor.is_signed_in:
            if "text/event-stream" in request.headers.get("accept", ""):
                return live.signed_out(context)
            return _to_sign_in(context, self._pages)
        if (answer := await self._check_scope(page, context)) is not None:
            return answer
        response = await (_view(page, context) if page.method == "GET" or page.is_public else self._once(page, context))
        if page.method == "POST":
            # A client may send values of a new attribute as soon as the response arrives.
            with contextlib.suppress(Unavailable):
                await asyncio.to_thread(self._console.authenticator.poll)
        return response

    async def _check_scope(self, page: PageRoute, context: PageContext) -> Response | None:
        """Return the response to a visitor who may not use the page; None if they may."""
        context.page = page
        context.granted = await asyncio.to_thread(context.granted_now)
        return None if page.allows(context.visitor, context.granted) else await asyncio.to_thread(not_allowed, context)

    async def _check_form(self, page: PageRoute, context: PageContext, form: Mapping[str, str] | None) -> Response | None:
        """Return the response to a form that must not be processed; None if it may be. `form` is None if it is too large."""
        request = context.request
        if form is None:
            return context.render("error.html", 413, title="error.too_large", message=context.text("error.go_back"))
        context.form = form
        from_here = _is_from_here(request, self._console.config.public_url)
        if not from_here and (address := _address_of_browser(request)):
            host = request.headers.get("host", "")
            message = context.text("error.host_help", address=excerpt(address, 200), host=excerpt(host, 200))
            return context.render("error.html", 403, title="error.host", message=message)
        proven = from_here and self._console.sessions.is_form_token(context.visitor, form.get("form_token", ""))
        if not page.is_public and not context.visitor.is_signed_in:
            is_kept = from_here and "GET" in self._pages
            return await self._sign_in_and_show_again(context, proven) if is_kept else None
        if proven:
            return None
        if from_here:
            return await self._show_again(context, "form_over", 403)
        return context.render("error.html", 403, title="error.forged", message=context.text("error.forged_help"))

    async def _once(self, page: PageRoute, context: PageContext) -> Response:
        """Process a form. A repeated submission waits for the first one and gets the same redirect."""
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
        """Handle a form sent after its session ended: keep it on the sign-in page, and show it again after signing in."""
        response = await sign_in.keep_form(context, proven)
        if response is not None:
            return response
        response = await self._show_again(context, "form_kept", 200)
        sign_in.keep(context, response, context.visitor.token, self._console.sessions.seconds)
        return response

    async def _show_again(self, context: PageContext, note: str, status: int) -> Response:
        """Show a form that was not processed again as it was filled in, or go back to its page. Changes nothing."""
        if "GET" not in self._pages:
            return context.redirect(context.own(context.came_from), note)
        page = self._pages["GET"]
        if (answer := await self._check_scope(page, context)) is not None:
            return answer
        context.kept, context.note = sign_in.without_sign_in(context.form), note
        response = await _view(page, context)
        if response.status_code == 200:
            response.status_code = status
        return response


def _project(context: PageContext) -> Project | None:
    """Return the project that the path names, if it exists and the visitor may know about it."""
    with contextlib.suppress(KeyError, Refused, Unavailable):
        return context.project() if context.may("read") else None
    return None


async def _view(page: PageRoute, context: PageContext) -> Response:
    view: Any = page.view
    response = await view(context) if inspect.iscoroutinefunction(view) else await asyncio.to_thread(view, context)
    assert isinstance(response, Response)
    return response


def _leading(response: Response) -> bytes:
    """Return the location of a redirect with the cookies that it sets, to store it."""
    headers = [response.headers["location"], *response.headers.getlist("set-cookie")]
    return json.dumps(headers).encode()


def _led_again(leading: bytes) -> Response:
    location, *cookies = json.loads(leading)
    response = Response(status_code=303, headers={"location": location})
    for cookie in cookies:
        response.headers.append("set-cookie", cookie)
    return response


def _to_sign_in(context: PageContext, pages: Mapping[str, PageRoute]) -> Response:
    """Redirect to the sign-in page, and from there to the requested page, or to the page that had the button."""
    url, query = context.request.url, {}
    if "GET" not in pages:
        if came_from := context.came_from:
            query["next"] = came_from
    elif url.path != context.home:
        query["next"] = f"{url.path}?{url.query}" if url.query else url.path
    if context.request.method == "POST":
        signing_out = url.path == f"{context.home}/sign-out"
        query = {"done": "signed_out"} if signing_out else {**query, "done": "session_ended"}
    address = f"{context.home}/sign-in"
    return RedirectResponse(f"{address}?{urlencode(query)}" if query else address, 303)


def _is_from_here(request: Request, public_url: str) -> bool:
    """Return whether a form was sent by a page of this server, according to the browser's headers."""
    if site := request.headers.get("sec-fetch-site"):
        return site == "same-origin"
    origin = request.headers.get("origin")
    if origin is None:
        # Clients other than browsers send neither header, and have no session that another site could misuse.
        return True
    scheme, netloc = urlsplit(origin)[:2]
    authority, public = _authority(scheme, netloc), urlsplit(public_url)
    if public_url and (scheme, authority) == (public.scheme, _authority(public.scheme, public.netloc)):
        return True
    return authority == _authority(scheme, request.headers.get("host", ""))


def _address_of_browser(request: Request) -> str:
    """Return the `Origin` of a request without `Sec-Fetch-Site`; an empty string otherwise.

    Behind a proxy that forwards another `Host`, this differs from the requested address and looks like another site.
    """
    origin = request.headers.get("origin", "")
    return "" if "sec-fetch-site" in request.headers or not urlsplit(origin).netloc else origin


def _authority(scheme: str, netloc: str) -> str:
    """Return the host, with the port unless the scheme implies it: `console.example.com`, `10.0.0.7:8000`."""
    return netloc.lower().removesuffix({"http": ":80", "https": ":443"}.get(scheme, " "))


async def _form(request: Request, limit: int) -> dict[str, str] | None:
    """Return the fields of a form; None if it is too large, or has more than :data:`MAX_FORM_FIELDS` fields."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            return None
    try:
        return dict(
            parse_qsl(
                body.decode(errors="replace"), keep_blank_values=True, errors="replace", max_num_fields=MAX_FORM_FIELDS
            )
        )
    except ValueError:
        return None


def _language(request: Request) -> Language:
    kept: Any = request.cookies.get(LANGUAGE_COOKIE)
    if kept in ("zh", "en"):
        language: Language = kept
        return language
    return negotiate(request.headers.get("accept-language"), "en")


def _theme(request: Request) -> str:
    kept = request.cookies.get(THEME_COOKIE, "")
    return kept if kept in THEMES else "auto"
