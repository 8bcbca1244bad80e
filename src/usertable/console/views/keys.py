"""Keys: the list, and forms to create and revoke them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.responses import Response

from usertable.app.keys import KeyUse
from usertable.console.context import HOME, PageContext, PageRoute
from usertable.console.secrets import lead_to_secret, secret_of_form
from usertable.domain.errors import ProblemKind, Refused
from usertable.domain.key import DEFAULT_KEY, KEY_POSITION, KeyPosition, KeyState, parse_scopes
from usertable.domain.permissions import PROJECT_SCOPES, Scope, ordered
from usertable.domain.schema import Project
from usertable.wire.native.forms import USUAL_SCOPES, NewKey

KEYS = 100
"""Maximum number of keys on a page."""
_FIELDS = {
    ProblemKind.KEY_NAME: "name",
    ProblemKind.KEY_EXISTS: "name",
    ProblemKind.SCOPE: "scopes",
    ProblemKind.SCOPE_EXCEEDED: "scopes",
    ProblemKind.KEY_EXPIRY: "expires_at",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A key in the list."""

    use: KeyUse
    state: KeyState
    old_until: int | None
    """When the secret before the current one stops working, in ms since 1970 UTC; None if it has."""

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """Scopes in display order."""
        return ordered(self.use.key.scopes)

    @property
    def has_all(self) -> bool:
        """Whether the key has every scope that a key can have."""
        return self.use.key.scopes == PROJECT_SCOPES


def list_keys(context: PageContext) -> Response:
    """List keys, valid ones first."""
    project = context.project()
    sent = context.request.query_params.get("after", "")
    after = sent if re.fullmatch(KEY_POSITION, sent) else ""
    found = context.service.keys(project, after=after, limit=KEYS + 1)
    now = context.now
    rows = [Row(use, use.key.state(now), use.key.previous_until_after(now)) for use in found[:KEYS]]
    last = KeyPosition.of(rows[-1].use.key) if len(found) > KEYS else None
    rows.sort(key=lambda row: row.state is not KeyState.ACTIVE)
    more = f"?{urlencode({'after': last})}" if last else ""
    return context.render("keys.html", project=project, rows=rows, default=DEFAULT_KEY, is_first=not after, more=more)


def show_new(context: PageContext) -> Response:
    return _new_page(context, context.project(), context.filled({_box(scope): "on" for scope in USUAL_SCOPES}))


def create(context: PageContext) -> Response:
    """Create a key, and redirect to the page with its secret."""
    project, form, secret = context.project(), context.form, secret_of_form(context)
    name = form.get("name", "").strip()
    try:
        wanted = NewKey(name, expires_at=form.get("expires_at", "").strip() or None)
        context.service.create_key(
            project.id,
            name,
            parse_scopes([scope for scope in PROJECT_SCOPES if form.get(_box(scope)) == "on"]),
            expires_at=wanted.expiry(project.zone),
            secret=secret,
            granted=context.visitor.scopes(project.number),
            actor=context.actor,
        )
    except Refused as refused:
        # A repeated submission finds the key that the first one created.
        caller = context.service.verify(project.id, secret)
        if caller is None or caller.match.key != name:
            return _new_page(context, project, form, refused)
    return lead_to_secret(context, context.project_path("/new-secret"), "created")


def ask_revoke(context: PageContext) -> Response:
    """Ask to confirm revoking the key."""
    project = context.project()
    return _revoke_page(context, project, context.service.key(project, context.path["name"]).key.name)


def revoke(context: PageContext) -> Response:
    """Revoke a key."""
    project = context.project()
    name = context.service.key(project, context.path["name"]).key.name
    if context.form.get("confirm") != "on":
        return _revoke_page(context, project, name, {"confirm": context.text("secret.confirm_missing")})
    # The page has warned if this is the last key that can create keys.
    context.service.revoke_key(project.id, name, confirmed=True, actor=context.actor)
    return context.redirect(context.project_path("/keys"), "key_revoked")


def _new_page(context: PageContext, project: Project, fields: Mapping[str, str], refused: Refused | None = None) -> Response:
    granted = context.visitor.scopes(project.number)
    return context.render(
        "key_new.html",
        422 if refused else 200,
        project=project,
        fields=fields,
        errors=context.problems(refused, _FIELDS) if refused else {},
        scopes=[(scope, _box(scope), scope in granted) for scope in ordered(PROJECT_SCOPES)],
    )


def _revoke_page(context: PageContext, project: Project, name: str, errors: Mapping[str, str] | None = None) -> Response:
    use, now = context.service.key(project, name), context.now
    state = use.key.state(now)
    others = [key for key in project.keys if key.name != name and key.state(now) is KeyState.ACTIVE]
    return context.render(
        "key_revoke.html",
        422 if errors else 200,
        project=project,
        use=use,
        state=state,
        is_last=Scope.KEYS in use.key.scopes
        and state is KeyState.ACTIVE
        and not any(Scope.KEYS in key.scopes for key in others),
        errors=errors or {},
    )


def _box(scope: Scope) -> str:
    """Return the name of a scope's checkbox."""
    return f"scope-{scope}"


_PROJECT = f"{HOME}/projects/{{project}}"

PAGES = (
    PageRoute("GET", f"{_PROJECT}/keys", list_keys, Scope.KEYS),
    PageRoute("GET", f"{_PROJECT}/new-key", show_new, Scope.KEYS),
    PageRoute("POST", f"{_PROJECT}/new-key", create, Scope.KEYS),
    PageRoute("GET", f"{_PROJECT}/keys/{{name}}/revoke", ask_revoke, Scope.KEYS),
    PageRoute("POST", f"{_PROJECT}/keys/{{name}}/revoke", revoke, Scope.KEYS),
)
