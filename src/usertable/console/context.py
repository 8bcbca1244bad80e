"""One request to the console: the visitor, the language and the form, and the ways to respond."""

from __future__ import annotations

import hashlib
import json
import mimetypes
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import parse_qsl, quote, urlencode, urlsplit
from zoneinfo import ZoneInfo

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
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
from usertable.console.session import Sessions, Visitor
from usertable.console.texts import TEXTS
from usertable.console.values import value_text
from usertable.dialects.base import HttpAnswer
from usertable.dialects.jiguang.vocabulary import ENGLISH_PRESETS
from usertable.domain.actor import Actor
from usertable.domain.audit import INSTALLATION, AuditEvent, AuditKind, Fact
from usertable.domain.errors import Problem, ProblemKind, Refused
from usertable.domain.permissions import Role, Scope
from usertable.domain.schema import PRESET_IDENTIFIERS, Identifier, Project
from usertable.wire.messages import Language

if TYPE_CHECKING:
    from usertable.app.openid_provider import OpenIdProvider

HOME = "/console"
_OLD_KINDS = "|".join([*AuditKind, "apply schema"])
_OLD_CHANGE = re.compile(rf"^(?:{_OLD_KINDS})\b|(?<=^apply schema: )(?:{_OLD_KINDS})\b")
# A path of the console, not an address on another host.
_OWN_PATH = re.compile(r"(/[A-Za-z0-9._~%:-]+)*")
LANGUAGE_COOKIE, THEME_COOKIE = "usertable_language", "usertable_theme"
THEMES = ("auto", "light", "dark")
_YEAR = 365 * 86400
_PRESET_NAMES = {(preset.name, preset.display_name) for preset in PRESET_IDENTIFIERS}
_NAMES_ITS_FIELD = {ProblemKind.TEXT_TOO_LONG: "field", ProblemKind.PARAMETER: "name"}
"""The parameter that holds the field's name, by kind of problem."""


class PutAs(Protocol):
    """Handles a project's PUT in the platform's long form. Repeating it with the same key changes nothing."""

    def __call__(
        self, project: Project, body: bytes, language: Language, actor: Actor, dry_run: bool, key: str
    ) -> Awaitable[HttpAnswer]: ...


@dataclass(frozen=True, slots=True)
class Section:
    """An entry in a project's navigation.

    Args:
        key: key of its text.
        path: the path below the project's own.
        needs: the scope that a visitor must have to see the entry.
        others: its other pages, such as the form for a new item or the page with the secret.
    """

    key: str
    path: str
    needs: Scope = Scope.READ
    others: tuple[str, ...] = ()


SECTIONS = (
    Section("nav.overview", ""),
    Section("nav.attributes", "/attributes", others=("/new-attribute",)),
    Section("nav.identifiers", "/identifiers", others=("/new-identifier",)),
    Section("nav.users", "/users"),
    Section("nav.history", "/history"),
    Section("nav.arrivals", "/arrivals"),
    Section("nav.try", "/try", Scope.WRITE),
    Section("nav.keys", "/keys", Scope.KEYS, ("/new-key",)),
    Section("nav.members", "/members"),
    Section("nav.audit", "/audit"),
    Section("nav.settings", "/settings", Scope.KEYS, ("/secret", "/new-secret")),
)


class Assets:
    """The static files, at addresses that change with their content.

    Args:
        home: path of the console.
    """

    def __init__(self, home: str = HOME) -> None:
        self.by_address: dict[str, tuple[bytes, str]] = {}
        self._addresses: dict[str, str] = {}
        for file in resources.files("usertable.console").joinpath("static").iterdir():
            content = file.read_bytes()
            stem, _, ending = file.name.rpartition(".")
            address = f"{stem}.{hashlib.sha256(content).hexdigest()[:12]}.{ending}"
            self.by_address[address] = content, mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            self._addresses[file.name] = f"{home}/static/{address}"

    def address(self, name: str) -> str:
        """Return the address of a file."""
        return self._addresses[name]

    def file(self, name: str) -> tuple[bytes, str]:
        """Return a file's content and media type."""
        return self.by_address[self._addresses[name].rpartition("/")[2]]


@dataclass(slots=True)
class Console:
    """State shared by the contexts of all requests."""

    service: Service
    authenticator: Authenticator
    put: PutAs
    sessions: Sessions
    scans: TableScans
    config: Config
    clock: Clock
    is_stopping: Callable[[], bool] = lambda: False
    """Returns whether the server is shutting down, so that connections must not be kept open."""
    openid: OpenIdProvider | None = None
    """The OpenID Connect provider for signing in; None if none is configured."""
    home: str = field(init=False)
    """Path of the console as browsers see it: `/console`, or `/usertable/console` below a `public_url`."""
    assets: Assets = field(init=False)
    results: Results = field(init=False)
    templates: Environment = field(init=False)

    def __post_init__(self) -> None:
        self.home = f"{self.config.public_path}{HOME}"
        self.assets = Assets(self.home)
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
        self.templates.filters["project_option"] = lambda project: (project.id, f"{project.name} ({project.id})")
        self.templates.filters["role_option"] = _role_option


@dataclass(slots=True)
class PageContext:
    """One request. A view takes it and returns a response."""

    console: Console
    request: Request
    visitor: Visitor
    language: Language
    theme: str
    page: PageRoute | None = None
    """None for an unknown address."""
    granted: frozenset[Scope] = frozenset()
    """The visitor's scopes in the project that the path names, or in the installation if it names none."""
    form: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, str] | None = None
    """The fields of this page's form, if it was sent and not processed."""
    note: str = ""
    """The message at the top of the page: key of a text without its prefix `done.`; empty for none."""

    @property
    def service(self) -> Service:
        return self.console.service

    @property
    def path(self) -> Mapping[str, str]:
        """The values of the path's variables."""
        return self.request.path_params

    @property
    def address(self) -> str:
        """The caller's network address, as far as the server can determine it."""
        return self.request.client.host if self.request.client else ""

    @property
    def browser(self) -> str:
        """The browser's user agent."""
        return self.request.headers.get("user-agent", "")

    @property
    def is_https(self) -> bool:
        """Whether the browser uses HTTPS, according to the proxy if there is one."""
        if self.console.config.public_url:
            return self.console.config.public_url.startswith("https:")
        forwarded = self.request.headers.get("x-forwarded-proto", "").rpartition(",")[2].strip()
        return (forwarded or self.request.url.scheme) == "https"

    @property
    def base_url(self) -> str:
        """Base URL of this server as the browser addresses it."""
        return (
            self.console.config.public_url
            or f"{'https' if self.is_https else 'http'}://{self.request.headers.get('host', '')}"
        )

    @property
    def came_from(self) -> str:
        """The page of this server that the browser came from, according to its headers; empty if unknown."""
        url = urlsplit(self.request.headers.get("referer", ""))
        if url.netloc not in (self.request.headers.get("host", ""), urlsplit(self.base_url).netloc):
            return ""
        query = urlencode([(name, value) for name, value in parse_qsl(url.query) if name != "done"])
        return self.own(f"{url.path}?{query}" if query else url.path)

    @property
    def address_without_note(self) -> str:
        """The page's address without the message about an earlier action."""
        url = self.request.url
        query = urlencode([pair for pair in parse_qsl(url.query, keep_blank_values=True) if pair[0] != "done"])
        return f"{url.path}?{query}" if query else url.path

    @property
    def home(self) -> str:
        """See :attr:`Console.home`."""
        return self.console.home

    def own(self, address: str) -> str:
        """Return the address if it is a page of this console; otherwise the address of the project list."""
        path = address.partition("?")[0]
        is_own = path.startswith(self.home) and _OWN_PATH.fullmatch(path.removeprefix(self.home))
        return address if is_own else f"{self.home}/projects"

    @property
    def actor(self) -> Actor:
        """The visitor, for the audit log."""
        return self._with_origin(self.visitor.actor)

    @property
    def anonymous(self) -> Actor:
        """A visitor who is not authenticated yet, for the audit log."""
        return self._with_origin(Actor.anonymous())

    def _with_origin(self, actor: Actor) -> Actor:
        return actor.with_origin(self.request.headers.get("x-request-id", ""), self.address)

    @property
    def sending(self) -> str:
        """Identifies this submission. Only the same form sent again with the same content has the same value."""
        content = json.dumps([self.request.url.path, sorted(self.form.items())])
        return self.derive("sending", content)

    def derive(self, purpose: str, text: str) -> str:
        """See :meth:`usertable.console.session.Sessions.derive`."""
        return self.console.sessions.derive(self.visitor, purpose, text)

    def granted_now(self) -> frozenset[Scope]:
        """Return the visitor's scopes for :attr:`granted`. Blocks."""
        person = self.visitor.person
        if "project" not in self.path or person is None or person.admin:
            return self.visitor.scopes(INSTALLATION)
        project = self.service.find_project(self.path["project"])
        return person.scopes(project.number) if project else frozenset()

    def may(self, scope: str) -> bool:
        """Return whether the visitor has a scope here, to decide whether to show what needs it."""
        return Scope(scope) in self.granted

    @property
    def is_admin(self) -> bool:
        """Whether the visitor may use operations that belong to no project, on whatever page they are."""
        return Scope.INSTALLATION in self.visitor.scopes(INSTALLATION)

    def is_still_allowed(self) -> bool:
        """Return whether the visitor may still see the page. Blocks; raises Unavailable."""
        visitor = self.console.sessions.open(self.visitor.token)
        if visitor is None:
            return False
        self.visitor = visitor
        self.granted = self.granted_now()
        return self.page is not None and self.page.allows(visitor, self.granted)

    def project(self) -> Project:
        """Return the current version of the project that the path names. Raises Refused if there is none."""
        return self.service.project(self.path["project"])

    def project_path(self, rest: str = "") -> str:
        """Return the address of a page of the project that the path names."""
        return f"{self.home}/projects/{quote(self.path['project'], safe='')}{rest}"

    def filled(self, fields: Mapping[str, str]) -> Mapping[str, str]:
        """Return the initial values of a form: `fields`, or what was typed if the form is shown again."""
        return fields if self.kept is None else self.kept

    def is_in(self, project: Project, section: Section) -> bool:
        whole = f"{self.home}/projects/{quote(project.id, safe='')}"
        here = self.request.url.path
        if not here.startswith(whole):
            return False
        own = here.removeprefix(whole)
        return own in section.others or (own.startswith(section.path) if section.path else not own)

    def text(self, key: str, **values: object) -> str:
        """Return a text of the console in the context's language."""
        return say(self.language, key, **values)

    def display_name(self, identifier: Identifier) -> str:
        """Return the display name of an identifier. Presets that were not renamed have one in each language."""
        if self.language == "en" and (identifier.name, identifier.display_name) in _PRESET_NAMES:
            return ENGLISH_PRESETS[identifier.name]
        return identifier.display_name

    @property
    def sentence_space(self) -> str:
        """The separator of two sentences: a space in English, nothing after a Chinese full stop."""
        return "" if self.language == "zh" else " "

    @property
    def full_stop(self) -> str:
        """What ends a sentence."""
        return "。" if self.language == "zh" else "."

    def old_change(self, what: str) -> str:
        """Return an entry recorded in English with its action in the context's language and its object as recorded."""
        return what if self.language == "en" else _OLD_CHANGE.sub(lambda found: self.text(f"change.{found[0]}"), what)

    def changed_fields(self, change: AuditEvent, zone: ZoneInfo) -> list[tuple[str, str | None, str | None]]:
        """Return the changed fields of an event: label, value before and value after; None for no value."""
        return [
            (
                self.field_name(name),
                self._fact(name, change.before[name], zone) if name in change.before else None,
                self._fact(name, change.after[name], zone) if name in change.after else None,
            )
            for name in change.after or change.before
        ]

    def kind_name(self, kind: str) -> str:
        """Return the label of an audit kind. A kind of a newer version is returned as it is."""
        return self.text(f"change.{kind}") if f"change.{kind}" in TEXTS else kind

    def field_name(self, name: str) -> str:
        """Return the label of a field in the audit log. A field of a newer version is returned as it is."""
        return self.text(f"change.field.{name}") if f"change.field.{name}" in TEXTS else name

    def _fact(self, name: str, fact: Fact, zone: ZoneInfo) -> str:
        match fact:
            case None:
                return self.text("project.unlimited") if name == "qps" else "–"
            case bool() if name == "hidden":
                return self.text("attribute.hidden" if fact else "attribute.visible")
            case bool():
                return self.text("yes" if fact else "no")
            case int():
                return f"{fact:,}"
            case list():
                return (" > " if name == "order" else ", ").join(fact)
            case str() if name == "expires":
                return self.full_time(int(datetime.fromisoformat(fact).timestamp()) * 1000, zone)
        return self.text(f"rule.{fact}") if name == "rule" else fact or "–"

    def problem(self, problem: Problem) -> str:
        """Return the message for a problem."""
        return sentence(problem, self.language)

    def problems(self, refused: Refused, fields: Mapping[ProblemKind, str] = MappingProxyType({})) -> dict[str, str]:
        """Return the messages of a rejection by form field. Those that belong to no field are under an empty name.

        `fields`: the form field by kind of problem, for problems that do not name it themselves.
        """
        errors: dict[str, str] = {}
        for problem in refused.problems:
            named = problem.params.get(_NAMES_ITS_FIELD.get(problem.kind, ""), "")
            errors.setdefault(str(named) or fields.get(problem.kind, ""), self.problem(problem))
        return errors

    def render(self, template: str, status: int = 200, /, **values: Any) -> Response:
        """Render a page. If `project` is given, the page has the project's navigation."""
        return HTMLResponse(self.fragment(template, **values), status)

    def fragment(self, template: str, /, **values: Any) -> str:
        """Render a template and return its markup."""
        done = self.note or self.request.query_params.get("done", "")
        return self.console.templates.get_template(template).render(
            {
                "context": self,
                "t": self.text,
                "language": self.language,
                "theme": self.theme,
                "home": self.home,
                "sections": SECTIONS,
                "form_token": Markup('<input type="hidden" name="form_token" value="{}">').format(
                    self.console.sessions.form_token(self.visitor)
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
        """Redirect to another page, which then shows a message (the text `done.…`).

        `at`: the element on that page from which the Tab key continues.
        """
        address = f"{path}{'&' if '?' in path else '?'}{urlencode({'done': done})}" if done else path
        return RedirectResponse(f"{address}#{quote(at)}" if at else address, 303)

    @property
    def now(self) -> int:
        """Return the current time in milliseconds since 1970-01-01 UTC."""
        return self.console.clock.now_ms()

    def moment(self, ms: int, zone: ZoneInfo, *, aged: bool = True) -> Markup:
        """Return a time (milliseconds since 1970-01-01 UTC) as an HTML element.

        Args:
            aged: let a script replace the text with the age. False where a screen reader announces every change.
        """
        at = datetime.fromtimestamp(ms // 1000, UTC)
        day, time = at.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S").split()
        return Markup('<time datetime="{}" title="{}"{}><span>{}</span> <span>{}</span></time>').format(
            at.isoformat(), self.full_time(ms, zone), " data-age" if aged else "", day, time
        )

    @staticmethod
    def full_time(ms: int, zone: ZoneInfo) -> str:
        """Return a time with its zone: `2026-11-28 17:00:01 (Asia/Shanghai, UTC+08:00)`."""
        local = datetime.fromtimestamp(ms // 1000, zone).isoformat(" ")
        return f"{local[:19]} ({zone.key}, UTC{local[19:]})"

    def remember(self, response: Response, cookie: str, value: str, seconds: int = _YEAR) -> None:
        """Set a cookie that scripts cannot read and other sites cannot send."""
        response.set_cookie(*(cookie, value, seconds), path=self.home, httponly=True, samesite="lax", secure=self.is_https)


@pass_context
def _role_option(values: Context, role: Role) -> tuple[str, str]:
    """Return the option of a role for a select element: its value and its label."""
    return str(role), values["t"](f"role.{role}")


def say(language: Language, key: str, **values: object) -> str:
    """Return a text of the catalogue. Raises KeyError if there is none."""
    if str(values.get("count")) == "1" and f"{key}.one" in TEXTS:
        key += ".one"
    chinese, english = TEXTS[key]
    return (chinese if language == "zh" else english).format(**values)


Handler = Callable[[PageContext], Response | Awaitable[Response]]


class AccessEnded(Exception):
    """The visitor may no longer see the response that is being sent, so it is cut off."""


class Access(StrEnum):
    """Who may use a page that needs no scope."""

    PUBLIC = "public"
    """Everybody, signed in or not."""
    SIGNED_IN = "signed in"
    """Everybody who is signed in. The page shows only what they may see."""


@dataclass(frozen=True, slots=True)
class PageRoute:
    """A route of the console. A view that is not a coroutine function may block: it runs in a thread.

    Args:
        needs: the required scope, in the project that the path names or in the installation. It has no default, so that no
            route can omit it.
    """

    method: Literal["GET", "POST"]
    path: str
    view: Handler
    needs: Scope | Access

    def __post_init__(self) -> None:
        is_of_project = isinstance(self.needs, Scope) and self.needs is not Scope.INSTALLATION
        if is_of_project != ("{project}" in self.path):
            raise ValueError(f"{self.path} must need a scope of a project if, and only if, it names one")

    @property
    def is_public(self) -> bool:
        """Whether the page can be used without signing in."""
        return self.needs is Access.PUBLIC

    def allows(self, visitor: Visitor, granted: frozenset[Scope]) -> bool:
        """Return whether a visitor with these scopes may use the page."""
        if isinstance(self.needs, Scope):
            return self.needs in granted
        return self.is_public or visitor.is_signed_in
