"""Users: the table, the search by identifier value, the page of a user, and erasing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.responses import Response, StreamingResponse

from usertable.app.scans import KEPT_TOP
from usertable.console import user_table
from usertable.console.context import HOME, AccessEnded, PageContext, PageRoute
from usertable.console.live import Parts, stream
from usertable.console.timeline import listed_entries
from usertable.console.user_table import ORDERS, TableQuery
from usertable.console.values import value_text
from usertable.console.views import try_it
from usertable.dialects.jiguang.codes import code
from usertable.domain.condition import (
    OPERATORS,
    Condition,
    check_number,
    join_values,
    parse_conditions,
    split_values,
)
from usertable.domain.errors import ProblemKind, Refused, refusal
from usertable.domain.identity import MAX_CUID, parse_cuid
from usertable.domain.permissions import Scope
from usertable.domain.pseudo_columns import PSEUDO_COLUMNS
from usertable.domain.schema import Attribute, Project
from usertable.domain.values import DataType
from usertable.store.records import User
from usertable.wire.messages import parameters
from usertable.wire.native.documents import user_document

FIRST_COLUMNS = 6
"""Number of attributes shown if none were selected."""
MAX_COLUMNS = 30
MAX_CONDITIONS = 20
MAX_SHOWN_VALUES = 10
"""Maximum number of values shown in a filter's chip."""
LATEST_CHANGES = 3
"""Number of the newest changes on a user's page."""
LIVE_SECONDS = 0.5
TIMED_OPERATORS = ("lt", "le", "gt", "ge")
"""Operators whose label for times differs from that for numbers."""
OPERATOR_ORDER = ("eq", "ne", "contains", "in", "lt", "le", "gt", "ge", "between", "set", "unset")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_LINES = re.compile(r"\r?\n")
_DIGITS = re.compile(r"[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class Chip:
    """A filter as the page shows it, and the address of the page without it."""

    attribute: str
    operator: str
    """Name of the operator's text."""
    values: Sequence[str]
    """The values shown. A list, because a value may contain the separator."""
    more: int
    """Number of values not shown."""
    without: str

    @property
    def spoken(self) -> str:
        """The values as one text, in which a value with a comma differs from two values."""
        return join_values(self.values)


def operators(data_type: DataType) -> list[str]:
    """Return the operators for attributes of a type."""
    return [op for op in OPERATOR_ORDER if op in ("set", "unset") or data_type in OPERATORS[op][0]]


def list_users(context: PageContext) -> Response:
    project = context.project()
    query = context.request.query_params
    if query.get("add_attribute"):
        return _add_filter(context, project)
    view = _view(context, project)
    if query.get("anew") == "1":
        context.console.scans.count(project, _conditions(view, project), oldest=view.order == "updated", refresh=True)
    response = context.render("users.html", project=project, **_shown(context, project, view))
    if query.get("choose") is not None:
        context.remember(response, _cookie(project), ".".join(view.columns))
    return response


def _shown(context: PageContext, project: Project, view: TableQuery, *, only_table: bool = False) -> dict[str, Any]:
    conditions = _conditions(view, project)
    page = user_table.page(context.service, context.console.scans, project, view, conditions)
    address = context.project_path("/users")

    def link(to: TableQuery | None) -> str:
        return "" if to is None else f"{address}?{to.query()}"

    shown: dict[str, Any] = {
        "view": view,
        "page": page,
        "found": page.count,
        "columns": [project.schema.attributes[name] for name in view.shown_columns],
        "rows": [_row(user, project, view.shown_columns) for user in page.users],
        "next": link(page.next),
        "previous": link(page.previous),
        "first": link(view.at()),
        "live": f"{address}/live?{view.query()}",
    }
    if only_table:
        return shown
    return shown | {
        "chips": [
            _chip(context, project, text, condition, replace(view.at(), where=_without(view.where, text)), link)
            for text, condition in zip(view.where, conditions, strict=True)
        ],
        "orders": ORDERS,
        "clear": link(TableQuery(columns=view.columns, order=view.order)),
        "anew": link(view.at()) + "&anew=1",
        "csv": f"{address}/csv?{view.query()}",
        "maximum_by_time": KEPT_TOP,
        "attributes": [a for a in project.schema.attributes.values() if not a.hidden],
        "operators": OPERATOR_ORDER,
        "operators_of": operators,
        "timed": TIMED_OPERATORS,
        "filter": {"attribute": "", "operator": "", "value": "", "values": "", "until": ""},
        "errors": {},
        "maximum_columns": MAX_COLUMNS,
        "columns_left": max(0, len(_asked_columns(context, project)) - MAX_COLUMNS),
        "sought": "",
        "matches": {},
    }


def _add_filter(context: PageContext, project: Project) -> Response:
    """Show the table with one more filter, or the error in the filter."""
    query = context.request.query_params
    view = _view(context, project).at()
    name, op = query.get("add_attribute", ""), query.get("add_operator", "")
    attribute = project.schema.attribute(name)
    errors: dict[str, str] = {}
    text = f"{name}:{op}"
    if op not in operators(attribute.type):
        errors["operator"] = context.text("users.operator_wrong", type=attribute.type)
    elif op == "in":
        # One value per line or per field, so that a value may contain any other character.
        typed = _LINES.split(query.get("add_values", "")) + query.getlist("add_value")
        values = [_filter_value(attribute, each) for each in dict.fromkeys(typed) if each]
        if not values:
            errors["values"] = context.text("users.value_missing")
        text += f":{join_values(values)}"
    elif op not in ("set", "unset"):
        value, until = (_filter_value(attribute, query.get(field, "")) for field in ("add_value", "add_until"))
        if not value or (op == "between" and not until):
            errors["value"] = context.text("users.value_missing")
        text += f":{value},{until}" if op == "between" else f":{value}"
    field = "values" if op == "in" else "value"
    if len(view.where) >= MAX_CONDITIONS:
        errors[field] = context.text("users.too_many_filters", maximum=MAX_CONDITIONS)
    if not errors:
        try:
            parse_conditions([*view.where, text], project.schema, project.zone)
        except Refused as refused:
            shown = parameters(refused.problems[0], context.language)
            errors[field] = context.text("users.value_wrong", expected=shown["expected"])
    if errors:
        sent = {"attribute": name, "operator": op}
        sent |= {field: query.get(f"add_{field}", "") for field in ("value", "values", "until")}
        shown = _shown(context, project, view) | {"filter": sent, "errors": errors}
        return context.render("users.html", 422, project=project, **shown)
    where = tuple(dict.fromkeys((*view.where, text)))
    return context.redirect(f"{context.project_path('/users')}?{replace(view, where=where).query()}")


def _filter_value(attribute: Attribute, typed: str) -> str:
    """Return a value as a condition takes it. Blanks around a STRING or LIST value are part of it, as in stored values."""
    if attribute.type in (DataType.STRING, DataType.LIST):
        return typed
    value = typed.strip()
    # A date stands for its first second.
    return f"{value} 00:00:00" if attribute.type is DataType.DATETIME and _DAY.fullmatch(value) else value


def users_live(context: PageContext) -> Response:
    """Stream the count as it grows, and the page's users once they are known."""
    project = context.project()
    view = _view(context, project)
    conditions = _conditions(view, project)

    async def look() -> tuple[Parts, bool]:
        found = context.console.scans.count(project, conditions, oldest=view.order == "updated")
        parts = {"count": context.fragment("users_count.html", project=project, found=found, view=view)}
        ended = found.ended
        if ended and (view.by_time or conditions):
            shown = await asyncio.to_thread(_shown, context, project, view, only_table=True)
            parts["rows"] = context.fragment("users_rows.html", project=project, **shown)
        return parts, ended

    return stream(context, look, LIVE_SECONDS)


def users_csv(context: PageContext) -> Response:
    """Return all users that meet the filters, as CSV."""
    project = context.project()
    view = _view(context, project)
    conditions = _conditions(view, project)
    name, pieces = user_table.csv_file(
        context.service, context.console.scans, project, view, conditions, context.console.clock
    )
    return StreamingResponse(
        _while_allowed(context, pieces),
        media_type="text/csv; charset=utf-8",
        headers={"content-disposition": f'attachment; filename="{name}"'},
    )


def _while_allowed(context: PageContext, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the pieces of a file that can take hours to read. Raises AccessEnded once the visitor may no longer see it."""
    for piece in pieces:
        if not context.is_still_allowed():
            raise AccessEnded
        yield piece


def find(context: PageContext) -> Response:
    """Redirect to the user with this CUID or identifier value, or list the users if there are several."""
    project = context.project()
    sought = context.request.query_params.get("value", "")
    if not sought.strip():
        return _not_found(context, project, sought, context.text("users.value_missing"))
    found = _find(context, project, sought)
    if not found:
        return _not_found(context, project, sought, context.text("users.nobody", value=sought.strip()[:256]))
    if len(found) > 1:
        shown = _shown(context, project, _view(context, project).at()) | {"sought": sought, "matches": found}
        return context.render("users.html", project=project, **shown)
    return context.redirect(context.project_path(f"/users/{next(iter(found))}"))


def _find(context: PageContext, project: Project, sought: str) -> dict[int, list[str]]:
    """Return the matching users: the labels of what matches, by CUID. Surrounding blanks are ignored if nothing matches."""
    service = context.service
    found: dict[int, list[str]] = {}
    for value in dict.fromkeys((sought, sought.strip())):
        cuid = parse_cuid(value.strip(), leading_zeros=True)
        if cuid is not None and service.users_of(project, [cuid]):
            found[cuid] = ["CUID"]
        for identifier in project.schema.identifiers:
            for owner in service.find_cuids(project, identifier.name, [value]).values():
                found.setdefault(owner, []).append(context.display_name(identifier) or identifier.name)
        if found:
            break
    return found


def _not_found(context: PageContext, project: Project, sought: str, error: str) -> Response:
    shown = _shown(context, project, _view(context, project).at()) | {"errors": {"sought": error}, "sought": sought}
    return context.render("users.html", 404, project=project, **shown)


def show(context: PageContext) -> Response:
    """Show a user with every attribute."""
    project = context.project()
    user = context.service.user(project, cuid_of(context.path["cuid"]))
    values = user_document(user, project, hidden=True).attributes
    declared = project.schema.attributes
    arrivals = context.service.arrivals_of(project, user.cuid)
    changes = context.service.changes(project, user.cuid, limit=LATEST_CHANGES)
    return context.render(
        "user.html",
        project=project,
        user=user,
        values=[(declared[name], values[name], user.profile.changed(name)) for name in declared if name in values],
        empty=[attribute for name, attribute in declared.items() if name not in values and not attribute.hidden],
        identifiers=user_document(user, project, (), mask=True).identifiers,
        requests=list(enumerate(arrivals[:20])),
        left_out=0,
        code=lambda kind: code(kind)[0],
        entries=listed_entries(context, project, changes.changes),
    )


def ask_erase(context: PageContext) -> Response:
    """Ask to confirm erasing the user."""
    project = context.project()
    user = context.service.user(project, cuid_of(context.path["cuid"]))
    return context.render("user_erase.html", project=project, user=user, fields=context.filled({}))


def erase(context: PageContext) -> Response:
    """Erase the user, if it was confirmed by entering the CUID."""
    project = context.project()
    user = context.service.user(project, cuid_of(context.path["cuid"]))
    if context.form.get("confirm", "").strip() != str(user.cuid):
        errors = {"confirm": context.text("erase.wrong")}
        return context.render("user_erase.html", 422, project=project, user=user, fields=context.form, errors=errors)
    context.service.erase_user(project, user.cuid, actor=context.actor)
    # No cached count or Try it result may still show the user.
    context.console.scans.forget(project)
    context.console.results.forget(try_it.about(project, user.cuid))
    return context.redirect(context.project_path("/users"), "erased")


def _view(context: PageContext, project: Project) -> TableQuery:
    """Return the table query of the request. Columns that do not exist are ignored.

    Raises:
        Refused: there are too many filters. Ignoring some would show more users than requested.
    """
    query = context.request.query_params
    where = query.getlist("where")
    check_number(where, MAX_CONDITIONS)
    declared = project.schema.attributes
    columns = _asked_columns(context, project)[:MAX_COLUMNS]
    if not columns and query.get("choose") is None:
        columns = [name for name, a in declared.items() if not a.hidden][:FIRST_COLUMNS]
    order = query.get("order", "cuid")
    return TableQuery(
        where=tuple(where),
        columns=tuple(columns),
        order=order if order in ORDERS else "cuid",
        after=_number(query.get("after")),
        before=_number(query.get("before")),
        skip=_number(query.get("skip")) or 0,
    )


def _asked_columns(context: PageContext, project: Project) -> list[str]:
    """Return the selected columns, from the query or the cookie, that are declared attributes."""
    query = context.request.query_params
    columns = query.getlist("column")
    if not columns and query.get("choose") is None:
        columns = context.request.cookies.get(_cookie(project), "").split(".")
    return [name for name in dict.fromkeys(columns) if name in project.schema.attributes]


def _cookie(project: Project) -> str:
    return f"usertable_columns_{project.number}"


def _conditions(view: TableQuery, project: Project) -> list[Condition]:
    return parse_conditions(view.where, project.schema, project.zone)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and _DIGITS.fullmatch(text) and int(text) <= MAX_CUID else None


def cuid_of(text: str) -> int:
    """Return the CUID in a path. Raises Refused if it is none."""
    cuid = parse_cuid(text, leading_zeros=True)
    if cuid is None:
        raise refusal(ProblemKind.CUID_UNKNOWN, cuid=text)
    return cuid


def _row(user: User, project: Project, columns: Sequence[str]) -> dict[str, Any]:
    shown = user_document(user, project, columns, mask=True)
    return {
        "cuid": user.cuid,
        "updated_at": user.profile.updated_at,
        "identifiers": [value for values in shown.identifiers.values() for value in values],
        "values": [shown.attributes.get(name) for name in columns],
    }


def _without(where: Sequence[str], text: str) -> tuple[str, ...]:
    return tuple(other for other in where if other != text)


def _chip(context: PageContext, project: Project, text: str, condition: Condition, without: TableQuery, link: Any) -> Chip:
    _, _, rest = text.partition(":")
    _, _, written = rest.partition(":")
    values: Sequence[str] = (written,) if written else ()
    if condition.operator == "between":
        low, _, high = written.partition(",")
        values = (context.text("users.from_to", low=low, high=high),)
    elif condition.operator == "in":
        values = split_values(written) or ()
    attribute = project.schema.attributes.get(condition.attribute) or PSEUDO_COLUMNS[condition.attribute]
    if attribute.type is DataType.BOOL and values:
        # A link may say true; everywhere else it is 1.
        wanted = condition.wanted if isinstance(condition.wanted, tuple) else (condition.wanted,)
        values = tuple(value_text(value) for value in wanted if value is not None)
    shown, more = values[:MAX_SHOWN_VALUES], max(0, len(values) - MAX_SHOWN_VALUES)
    is_timed = attribute.type is DataType.DATETIME and condition.operator in TIMED_OPERATORS
    operator = f"{condition.operator}_time" if is_timed else condition.operator
    return Chip(attribute.display_name or attribute.name, operator, shown, more, link(without))


_USERS = f"{HOME}/projects/{{project}}/users"

PAGES = (
    PageRoute("GET", _USERS, list_users, Scope.READ),
    PageRoute("GET", f"{_USERS}/live", users_live, Scope.READ),
    PageRoute("GET", f"{_USERS}/csv", users_csv, Scope.READ),
    PageRoute("GET", f"{_USERS}/find", find, Scope.READ),
    PageRoute("GET", f"{_USERS}/{{cuid}}", show, Scope.READ),
    PageRoute("GET", f"{_USERS}/{{cuid}}/erase", ask_erase, Scope.ERASE),
    PageRoute("POST", f"{_USERS}/{{cuid}}/erase", erase, Scope.ERASE),
)
