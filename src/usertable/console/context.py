"""One request to the console: who, in what language, with what form; and the ways to answer it."""

from __future__ import annotations

import hashlib
import json
import mimetypes
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import resources
from types import MappingProxyType
from typing import Any, Literal, Protocol
from urllib.parse import parse_qsl, quote, urlencode, urlsplit
from zoneinfo import ZoneInfo

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from usertable.app.access import Authenticator
from usertable.app.clock import Clock
from usertable.app.scans import TableScans
from usertable.app.service import Service
from usertable.config import Config
from usertable.console.problems import sentence
from usertable.console.results import Results
from usertable.console.session import Session, Sessions
from usertable.console.texts import TEXTS
from usertable.console.values import value_text
from usertable.dialects.base import HttpAnswer
from usertable.domain.errors import Problem, ProblemKind, Refused
from usertable.domain.schema import Project
from usertable.domain.schema_change import Change, ChangeKind, Fact
from usertable.wire.messages import Language

HOME = "/console"
_OLD_KINDS = "|".join([*ChangeKind, "apply schema"])
_OLD_CHANGE = re.compile(rf"^(?:{_OLD_KINDS})\b|(?<=^apply schema: )(?:{_OLD_KINDS})\b")
# A path of this console, not of another host.
_OWN_PATH = re.compile(r"/console(/[A-Za-z0-9._~%:-]+)*")
LANGUAGE_COOKIE, THEME_COOKIE = "usertable_language", "usertable_theme"
THEMES = ("auto", "light", "dark")
_YEAR = 365 * 86400
_NAMES_ITS_FIELD = {ProblemKind.TEXT_TOO_LONG: "field", ProblemKind.PARAMETER: "name"}
"""Kinds whose parameters have the name of the field, and under which name."""


class PutAs(Protocol):
    """Does what the platform's PUT does, in its long form, as a project; a second time under a key, nothing."""

    def __call__(
        self, project: Project, body: bytes, language: Language, dry_run: bool, key: str
    ) -> Awaitable[HttpAnswer]: ...


@dataclass(frozen=True, slots=True)
class Section:
    """An entry of a project's navigation.

    Args:
        key: of its text.
        path: what comes after the project's own.
        others: its other pages, for something new or for the secret.
    """

    key: str
    path: str
    others: tuple[str, ...] = ()


SECTIONS = (
    Section("nav.overview", ""),
    Section("nav.attributes", "/attributes", ("/new-attribute",)),
    Section("nav.identifiers", "/identifiers", ("/new-identifier",)),
    Section("nav.users", "/users"),
    Section("nav.arrivals", "/arrivals"),
    Section("nav.try", "/try"),
    Section("nav.changes", "/changes"),
    Section("nav.settings", "/settings", ("/secret", "/new-secret")),
)


class Assets:
    """The static files, under addresses that change with their content."""

    def __init__(self) -> None:
        self.by_address: dict[str, tuple[bytes, str]] = {}
        self._addresses: dict[str, str] = {}
        for file in resources.files("usertable.console").joinpath("static").iterdir():
            content = file.read_bytes()
            stem, _, ending = file.name.rpartition(".")
            address = f"{stem}.{hashlib.sha256(content).hexdigest()[:12]}.{ending}"
            self.by_address[address] = content, mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            self._addresses[file.name] = f"{HOME}/static/{address}"

    def address(self, name: str) -> str:
        """Where a file is served."""
        return self._addresses[name]

    def file(self, name: str) -> tuple[bytes, str]:
        """A file's content and media type."""
        return self.by_address[self._addresses[name].rpartition("/")[2]]


@dataclass(slots=True)
class Console:
    """What the contexts of all requests share."""

    service: Service
    authenticator: Authenticator
    put: PutAs
    sessions: Sessions
    scans: TableScans
    config: Config
    clock: Clock
    is_stopping: Callable[[], bool] = lambda: False
    """Whether the server is about to end, so that nothing may be kept open."""
    assets: Assets = field(default_factory=Assets)
    results: Results = field(init=False)
    templates: Environment = field(init=False)

    def __post_init__(self) -> None:
        self.results = self.sessions.shared.results
        self.templates = Environment(
            loader=PackageLoader("usertable.console"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.templates.globals["asset"] = self.assets.address
        self.templates.filters["segment"] = lambda value: quote(str(value), safe="")
        self.templates.filters["text"] = value_text


@dataclass(slots=True)
class PageContext:
    """One request. Views get it and give a response."""

    console: Console
    request: Request
    session: Session
    language: Language
    theme: str
    form: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, str] | None = None
    """The fields of this page's form, if it was sent and could not be taken."""
    note: str = ""
    """What the page says above all else: a text `done.…` without that beginning."""

    @property
    def service(self) -> Service:
        return self.console.service

    @property
    def path(self) -> Mapping[str, str]:
        """What the path's variables stand for."""
        return self.request.path_params

    @property
    def address(self) -> str:
        """The caller's network address, as far as this server sees it."""
        return self.request.client.host if self.request.client else ""

    @property
    def is_https(self) -> bool:
        """Whether the browser came by https, by the word of the proxy if there is one."""
        forwarded = self.request.headers.get("x-forwarded-proto", "").rpartition(",")[2].strip()
        return (forwarded or self.request.url.scheme) == "https"

    @property
    def base_url(self) -> str:
        """This server as the browser calls it."""
        return f"{'https' if self.is_https else 'http'}://{self.request.headers.get('host', '')}"

    @property
    def came_from(self) -> str:
        """The page of this server that the browser was on, by its word; an empty text if that is not known."""
        url = urlsplit(self.request.headers.get("referer", ""))
        if url.netloc != self.request.headers.get("host", ""):
            return ""
        query = urlencode([(name, value) for name, value in parse_qsl(url.query) if name != "done"])
        return self.own(f"{url.path}?{query}" if query else url.path)

    @property
    def address_without_note(self) -> str:
        """The page's own address, which says nothing of what was done before."""
        url = self.request.url
        query = urlencode([pair for pair in parse_qsl(url.query, keep_blank_values=True) if pair[0] != "done"])
        return f"{url.path}?{query}" if query else url.path

    @staticmethod
    def own(address: str) -> str:
        """The address, if it is one of this console's pages; else that of the projects."""
        return address if _OWN_PATH.fullmatch(address.partition("?")[0]) else f"{HOME}/projects"

    @property
    def actor(self) -> str:
        """Who it is, for the record of changes."""
        return "admin (console)"

    @property
    def sending(self) -> str:
        """A name of what this form sends, which only a second sending of the same form with the same content has too."""
        content = json.dumps([self.request.url.path, sorted(self.form.items())])
        return self.console.sessions.derive("sending", content)

    def project(self) -> Project:
        """The project that the path names, as it is now; raises Refused if there is none."""
        return self.service.project(self.path["project"])

    def project_path(self, rest: str = "") -> str:
        """The address of a page of the project that the path names."""
        return f"{HOME}/projects/{quote(self.path['project'], safe='')}{rest}"

    def filled(self, fields: Mapping[str, str]) -> Mapping[str, str]:
        """What a form begins with: `fields`, or what was typed if it is shown again."""
        return fields if self.kept is None else self.kept

    def is_in(self, project: Project, section: Section) -> bool:
        whole = f"{HOME}/projects/{quote(project.id, safe='')}"
        here = self.request.url.path
        if not here.startswith(whole):
            return False
        own = here.removeprefix(whole)
        return own in section.others or (own.startswith(section.path) if section.path else not own)

    def text(self, key: str, **values: object) -> str:
        """A text of the console in the context's language."""
        return say(self.language, key, **values)

    @property
    def sentence_space(self) -> str:
        """What separates two sentences: a space in English, nothing after a Chinese full stop."""
        return "" if self.language == "zh" else " "

    def old_change(self, what: str) -> str:
        """An entry that was recorded in English: what was done in the context's language, to what as it was recorded."""
        return what if self.language == "en" else _OLD_CHANGE.sub(lambda found: self.text(f"change.{found[0]}"), what)

    def changed_fields(self, change: Change) -> list[tuple[str, str | None, str | None]]:
        """The fields of a change: how each is called, and what it was before and after; None for nothing."""
        return [
            (
                self.text(f"change.field.{name}"),
                self._fact(name, change.before[name]) if name in change.before else None,
                self._fact(name, change.after[name]) if name in change.after else None,
            )
            for name in change.after or change.before
        ]

    def _fact(self, name: str, fact: Fact) -> str:
        match fact:
            case None:
                return self.text("project.unlimited")
            case bool() if name == "hidden":
                return self.text("attribute.hidden" if fact else "attribute.visible")
            case bool():
                return self.text("yes" if fact else "no")
            case int():
                return f"{fact:,}"
            case list():
                return " > ".join(fact)
        return self.text(f"rule.{fact}") if name == "rule" else fact or "–"

    def problem(self, problem: Problem) -> str:
        """A problem in words."""
        return sentence(problem, self.language)

    def problems(self, refused: Refused, fields: Mapping[ProblemKind, str] = MappingProxyType({})) -> dict[str, str]:
        """The texts of a refusal by the field they belong beside; those of no field are under an empty name.

        `fields`: the field that a kind is about, where the problem itself does not name it.
        """
        errors: dict[str, str] = {}
        for problem in refused.problems:
            named = problem.params.get(_NAMES_ITS_FIELD.get(problem.kind, ""))
            errors.setdefault(named or fields.get(problem.kind, ""), self.problem(problem))
        return errors

    def render(self, template: str, status: int = 200, /, **values: Any) -> Response:
        """A page. `project`, if given, brings its navigation."""
        return HTMLResponse(self.fragment(template, **values), status)

    def fragment(self, template: str, /, **values: Any) -> str:
        """The markup of a template."""
        done = self.note or self.request.query_params.get("done", "")
        return self.console.templates.get_template(template).render(
            {
                "context": self,
                "t": self.text,
                "language": self.language,
                "theme": self.theme,
                "home": HOME,
                "sections": SECTIONS,
                "form_token": Markup('<input type="hidden" name="form_token" value="{}">').format(
                    self.console.sessions.form_token(self.session)
                ),
                "here": self.request.url.path + (f"?{self.request.url.query}" if self.request.url.query else ""),
                "done": f"done.{done}" if f"done.{done}" in TEXTS else "",
                "project": None,
                "errors": {},
                "others": None,
                **values,
            }
        )

    def redirect(self, path: str, done: str = "", *, at: str = "") -> Response:
        """Send the browser to another page, which then says what was done (a text `done.…`).

        `at`: the element from which the Tab key goes on there.
        """
        address = f"{path}{'&' if '?' in path else '?'}{urlencode({'done': done})}" if done else path
        return RedirectResponse(f"{address}#{quote(at)}" if at else address, 303)

    @property
    def now(self) -> int:
        """Milliseconds since 1970 UTC."""
        return self.console.clock.now_ms()

    def moment(self, ms: int, zone: ZoneInfo, *, aged: bool = True) -> Markup:
        """A moment (ms since 1970 UTC) as an element.

        Args:
            aged: a script replaces its text with its age; not for what is read aloud whenever it changes.
        """
        at = datetime.fromtimestamp(ms // 1000, UTC)
        day, time = at.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S").split()
        return Markup('<time datetime="{}" title="{}"{}><span>{}</span> <span>{}</span></time>').format(
            at.isoformat(), self.full_time(ms, zone), " data-age" if aged else "", day, time
        )

    @staticmethod
    def full_time(ms: int, zone: ZoneInfo) -> str:
        """A moment with its zone: `2026-11-28 17:00:01 (Asia/Shanghai, UTC+08:00)`."""
        local = datetime.fromtimestamp(ms // 1000, zone).isoformat(" ")
        return f"{local[:19]} ({zone.key}, UTC{local[19:]})"

    def remember(self, response: Response, cookie: str, value: str, seconds: int = _YEAR) -> None:
        """Set a cookie that scripts and other sites do not get."""
        response.set_cookie(cookie, value, max_age=seconds, path=HOME, httponly=True, samesite="lax", secure=self.is_https)


def say(language: Language, key: str, **values: object) -> str:
    """A text of the catalogue; raises KeyError if there is none."""
    if str(values.get("count")) == "1" and f"{key}.one" in TEXTS:
        key += ".one"
    chinese, english = TEXTS[key]
    return (chinese if language == "zh" else english).format(**values)


Handler = Callable[[PageContext], Response | Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class PageRoute:
    """A route of the console. A view that is no coroutine function may block: it runs in a thread."""

    method: Literal["GET", "POST"]
    path: str
    view: Handler
    public: bool = False
    """Whether one need not be signed in."""
