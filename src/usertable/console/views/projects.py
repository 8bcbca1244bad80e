"""Projects: the list, one of them, its settings, its secret, the record of changes."""

from __future__ import annotations

import json
from zoneinfo import available_timezones

from starlette.responses import Response

from usertable.console.visit import HOME, Page, Visit
from usertable.domain.errors import Kind, Refused, refuse
from usertable.domain.schema import Attribute, Project, Rule
from usertable.domain.values import DataType
from usertable.service import DEFAULT_QPS, DEFAULT_TIMEZONE, MAX_QPS

CHANGES_SHOWN = 500
_FIELDS = {
    Kind.PROJECT_NAME: "name",
    Kind.PROJECT_ID: "id",
    Kind.PROJECT_EXISTS: "id",
    Kind.TIMEZONE: "timezone",
    Kind.QPS: "qps",
}
CUID = 10000001
SAMPLES: dict[DataType, object] = {
    DataType.NUMBER: 46.2,
    DataType.STRING: "gold",
    DataType.BOOL: 1,
    DataType.DATETIME: "2023-12-12 00:56:23",
    DataType.LIST: ["news", "sport"],
}
"""A value of each data type, for examples."""


def list_projects(visit: Visit) -> Response:
    """All projects."""
    return visit.render("projects.html", projects=visit.service.projects())


def show_new(visit: Visit) -> Response:
    """The form for a new project."""
    return _new_page(visit, visit.filled({"timezone": DEFAULT_TIMEZONE, "qps": str(DEFAULT_QPS)}))


def create(visit: Visit) -> Response:
    """Create a project; show its secret, this once."""
    form = visit.form
    try:
        project, secret = visit.service.create_project(
            form.get("name", "").strip(),
            id=form.get("id", "").strip() or None,
            timezone=form.get("timezone", "").strip(),
            qps=_qps(visit),
            who=visit.who,
        )
    except Refused as refused:
        return _new_page(visit, form, refused)
    return _secret_page(visit, project, secret, created=True)


def show(visit: Visit) -> Response:
    """A project at a glance, with snippets to paste."""
    project = visit.project()
    return visit.render("project.html", project=project, **_snippets(visit, project, ""))


def show_settings(visit: Visit) -> Response:
    """The form of a project's settings."""
    project = visit.project()
    unlimited = {"unlimited": "on"} if project.qps is None else {}
    fields = {"name": project.name, "timezone": project.timezone, "qps": str(project.qps or DEFAULT_QPS), **unlimited}
    return _settings_page(visit, project, visit.filled(fields))


def edit(visit: Visit) -> Response:
    """Change a project's settings."""
    project, form = visit.project(), visit.form
    qps = _qps(visit)
    try:
        visit.service.edit_project(
            project.id,
            name=form.get("name", "").strip(),
            timezone=form.get("timezone", "").strip(),
            qps=qps,
            unlimited=qps is None,
            who=visit.who,
        )
    except Refused as refused:
        return _settings_page(visit, project, form, refused)
    return visit.redirect(visit.project_path("/settings"), "saved")


def ask_rotate(visit: Visit) -> Response:
    """Ask whether the secret shall be replaced."""
    return visit.render("secret_rotate.html", project=visit.project(), fields=visit.filled({}))


def rotate(visit: Visit) -> Response:
    """Replace the secret; show the new one, this once."""
    project = visit.project()
    if visit.form.get("confirm") != "on":
        return visit.render(
            "secret_rotate.html",
            422,
            project=project,
            fields=visit.form,
            errors={"confirm": visit.text("secret.confirm_missing")},
        )
    return _secret_page(visit, *visit.service.rotate_secret(project.id, who=visit.who), created=False)


def list_changes(visit: Visit) -> Response:
    """Who changed what, newest first."""
    project = visit.project()
    changes = visit.service.schema_changes(project.id, CHANGES_SHOWN)
    return visit.render("changes.html", project=project, changes=changes, most=CHANGES_SHOWN)


def _new_page(visit: Visit, fields: object, refused: Refused | None = None) -> Response:
    errors = _errors(visit, refused) if refused else {}
    zones = sorted(available_timezones())
    return visit.render(
        "project_new.html", 422 if refused else 200, fields=fields, errors=errors, zones=zones, most_qps=MAX_QPS
    )


def _settings_page(visit: Visit, project: Project, fields: object, refused: Refused | None = None) -> Response:
    return visit.render(
        "project_settings.html",
        422 if refused else 200,
        project=project,
        fields=fields,
        errors=_errors(visit, refused) if refused else {},
        zones=sorted(available_timezones()),
        most_qps=MAX_QPS,
    )


def _secret_page(visit: Visit, project: Project, secret: str, *, created: bool) -> Response:
    return visit.render("secret.html", project=project, secret=secret, created=created, **_snippets(visit, project, secret))


def _qps(visit: Visit) -> int | None:
    """The QPS limit of a form; None for none, and one that is refused for what is no number."""
    if visit.form.get("unlimited") == "on":
        return None
    sent = visit.form.get("qps", "").strip()
    return int(sent) if sent.isascii() and sent.isdigit() and len(sent) <= 12 else 0


def _errors(visit: Visit, refused: Refused) -> dict[str, str]:
    errors = visit.problems(refused, _FIELDS)
    if "qps" in errors:
        # As it was sent, number or not.
        sent = refuse(Kind.QPS, value=visit.form.get("qps", ""), most=MAX_QPS)
        errors["qps"] = visit.problem(sent.problems[0])
    return errors


def _snippets(visit: Visit, project: Project, secret: str) -> dict[str, str]:
    """Requests to paste, with this server's address and the project's own id, identifier and attributes."""
    attributes = [a for a in project.schema.attributes.values() if not a.hidden][:2]
    data = {a.name: SAMPLES[a.type] for a in attributes or [Attribute("level", DataType.NUMBER, Rule.OVERWRITE)]}
    register, put = "/smartop/api/v1/user/register", "/smartop/api/v1/user/attribute"
    first = project.schema.identifiers[0]
    who = {"identityName": first.name, "identityValues": ["18012345678"]}

    def curl(method: str, path: str, body: object) -> str:
        return (
            f"curl -X {method} '{visit.base_url}{path}' \\\n  -u \"{project.id}:{secret or '$SECRET'}\" \\\n"
            f"  -H 'Content-Type: application/json' \\\n  -d '{json.dumps(body)}'"
        )

    python = (
        "import httpx\n\n"
        f'auth = ("{project.id}", {json.dumps(secret or "the secret")})\n'
        f'with httpx.Client(base_url="{visit.base_url}", auth=auth) as client:\n'
    )
    if first.unique:
        python += f'    users = client.post(\n        "{register}",\n        json={who!r},\n    )\n'
        python += '    cuid = users.json()["data"][0]["cuid"]\n'
    else:
        python += f"    cuid = {CUID}\n"
    python += f"    answer = client.put(\n        \"{put}\",\n        json={{'cuid': cuid, 'data': {data!r}}},\n    )\n"
    python += "    print(answer.json())"
    return {
        "register": curl("POST", register, who) if first.unique else "",
        "curl": curl("PUT", put, {"cuid": CUID, "data": data}),
        "python": python,
    }


_PROJECT = f"{HOME}/projects/{{project}}"

PAGES = (
    Page("GET", f"{HOME}/projects", list_projects),
    Page("GET", f"{HOME}/new-project", show_new),
    Page("POST", f"{HOME}/new-project", create),
    Page("GET", _PROJECT, show),
    Page("GET", f"{_PROJECT}/settings", show_settings),
    Page("POST", f"{_PROJECT}/settings", edit),
    Page("GET", f"{_PROJECT}/secret", ask_rotate),
    Page("POST", f"{_PROJECT}/secret", rotate),
    Page("GET", f"{_PROJECT}/changes", list_changes),
)
