"""Try it: send one PUT for real or as a dry run, through the platform's endpoint, and compare the user before and after."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.responses import Response

from usertable.console.context import HOME, PageContext, PageRoute
from usertable.console.values import sample
from usertable.dialects.jiguang.answers import wire_value
from usertable.dialects.jiguang.vocabulary import ATTRIBUTE_PATH
from usertable.domain.errors import Problem, Refused
from usertable.domain.identity import malformed_cuid, parse_cuid
from usertable.domain.permissions import Scope
from usertable.domain.schema import Project, Rule
from usertable.domain.values import DataType, Value
from usertable.store.records import User
from usertable.wire.bodies import decode_object
from usertable.wire.native.documents import encode, user_document

_SAMPLED = 3


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the comparison: an attribute's value before and after; None for no value."""

    name: str
    before: Value | None
    after: Value | None
    outcome: str

    @property
    def changed(self) -> bool:
        return self.before != self.after


def show(context: PageContext) -> Response:
    """Show the form with a sample request, or the result of a request."""
    project = context.project()
    if name := context.request.query_params.get("result"):
        kept = context.console.results.find(_result(name))
        if kept is not None and context.kept is None:
            return _result_page(context, project, kept)
        context.note = context.note or "try_gone"
    value = context.request.query_params.get("cuid", "")
    fields = {"by": "cuid", "value": value, "data": _sample_data(context, project, parse_cuid(value))}
    return _page(context, project, context.filled(fields))


def _sample_data(context: PageContext, project: Project, cuid: int | None) -> str:
    """Return the data of a sample request. For a named user, it is the stored values, so that sending it changes nothing."""
    declared = [a for a in project.schema.attributes.values() if not a.hidden][:_SAMPLED]
    if not declared:
        return ""
    has: Mapping[str, Value] = {}
    if cuid is not None:
        with contextlib.suppress(Refused):
            has = context.service.user(project, cuid).profile.attributes
    data = {
        a.name: wire_value(has[a.name], project.schema, a.name, project.zone)
        if a.name in has and a.rule is not Rule.ACCUMULATE
        else sample(a)
        for a in declared
    }
    return msgspec.json.format(encode(data), indent=2).decode()


async def send(context: PageContext) -> Response:
    """Send the request, and redirect to the page with its result."""
    form = context.form
    project = await asyncio.to_thread(context.project)
    dry_run = form.get("mode") != "real"
    errors: dict[str, str] = {}
    sent = form.get("data", "").strip()
    data = decode_object(sent.encode()) if sent else None
    if data is None:
        errors["data"] = context.text("try.data_missing")
    elif isinstance(data, Problem):
        errors["data"] = context.problem(data)
    before = await asyncio.to_thread(_find, context, project, errors)
    if errors or before is None:
        return _page(context, project, form, errors)
    # As a string, so that every digit is sent as it was typed.
    body = f'{{"cuid":{before.cuid},"data":{sent}}}'
    name = context.sending
    key = f"console-{name}"
    put = await context.console.put(
        project, body.encode(), language=context.language, actor=context.actor, dry_run=dry_run, key=key
    )
    done = {
        "form": {name: form[name] for name in ("by", "value", "data") if name in form},
        "dry": dry_run,
        "cuid": before.cuid,
        "body": body,
        "before": user_document(before, project, hidden=True).attributes,
        "status": put.status,
        "headers": "\n".join(f"{name}: {value}" for name, value in put.headers),
        "answer": put.body.decode(),
        "problems": put.problems,
    }
    kept = encode(done)
    if await asyncio.to_thread(context.console.results.keep, _result(name), about(project, before.cuid), kept):
        return context.redirect(f"{context.project_path('/try')}?{urlencode({'result': name})}", at="result")
    # The result is too large to keep. Reloading sends the request again, which is not applied a second time.
    return await asyncio.to_thread(_result_page, context, project, kept)


def about(project: Project, cuid: int) -> str:
    """Return the subject under which the results of requests about a user are kept."""
    return f"user {project.number} {cuid}"


def _result(name: str) -> str:
    return f"try {name}"


def _result_page(context: PageContext, project: Project, kept: bytes) -> Response:
    """Return the page with the result of a request."""
    done = decode_object(kept)
    assert isinstance(done, dict)
    answer = decode_object(done["answer"].encode())
    assert isinstance(answer, dict)
    data = answer.get("data", {})
    result = {
        "dry": done["dry"],
        "cuid": done["cuid"],
        "accepted": done["status"] == 200 and answer["code"] == 0,
        "curl": _curl(context, project, done["body"], done["dry"]),
        "status": done["status"],
        "headers": done["headers"],
        "answer": msgspec.json.format(done["answer"].encode(), indent=2).decode(),
        "problems": [context.problem(problem) for problem in msgspec.convert(done["problems"], list[Problem])],
        "lines": _compare(project, done["before"], data),
    }
    return _page(context, project, done["form"], result=result)


def _find(context: PageContext, project: Project, errors: dict[str, str]) -> User | None:
    """Return the user that the form names; None if there is none, with the reason in `errors`."""
    by, value = context.form.get("by", "cuid"), context.form.get("value", "").strip()
    if not value:
        errors["value"] = context.text("try.value_missing")
        return None
    try:
        if by != "cuid":
            return context.service.find_user(project, by, value)
        cuid = parse_cuid(value, leading_zeros=True)
        if cuid is None:
            errors["value"] = context.problem(malformed_cuid(value[:60]))
            return None
        return context.service.user(project, cuid)
    except Refused as refused:
        errors["value"] = context.problem(refused.problems[0])
        return None


def _compare(project: Project, old: Mapping[str, Value], answered: Mapping[str, Any]) -> list[Line]:
    """Return every attribute that has a value before or after, in the order of the schema."""
    user = answered.get("user")
    # Taken from the response: what this request did, regardless of concurrent writes.
    new = {name: _shown(value, project, name) for name, value in user["attributes"].items()} if user else old
    outcomes = answered.get("outcomes", {})
    names = [n for n in project.schema.attributes if n in old or n in new]
    return [Line(name, old.get(name), new.get(name), outcomes.get(name, "")) for name in names]


def _shown(value: Value, project: Project, name: str) -> Value:
    """Return a value of a response as the user's page shows it. In the response, a BOOL is a number."""
    attribute = project.schema.attributes.get(name)
    return bool(value) if attribute is not None and attribute.type is DataType.BOOL else value


def _curl(context: PageContext, project: Project, body: str, dry_run: bool) -> str:
    address = f"{context.base_url}{ATTRIBUTE_PATH}{'?dryRun=1' if dry_run else ''}"
    lines = (
        f"curl -X PUT {shlex.quote(address)}",
        f'-u "{project.id}:$SECRET"',
        "-H 'Content-Type: application/json'",
        "-H 'Prefer: return=representation'",
        f"-d {shlex.quote(body)}",
    )
    return " \\\n  ".join(lines)


def _page(
    context: PageContext,
    project: Project,
    fields: Mapping[str, str],
    errors: Mapping[str, str] | None = None,
    result: Mapping[str, Any] | None = None,
) -> Response:
    return context.render(
        "try_it.html",
        422 if errors else 200,
        project=project,
        fields=fields,
        errors=errors or {},
        result=result,
        samples={a.name: json.dumps(sample(a)) for a in project.schema.attributes.values()},
    )


_TRY = f"{HOME}/projects/{{project}}/try"

PAGES = (PageRoute("GET", _TRY, show, Scope.WRITE), PageRoute("POST", _TRY, send, Scope.WRITE))
