"""The OpenAPI 3.1 document of every route: the native API's from its table, the others written out here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from usertable.dialects.jiguang import openapi as jiguang
from usertable.domain.errors import ProblemKind
from usertable.domain.identity import MAX_CUID
from usertable.domain.permissions import PROJECT_SCOPES, Scope, ordered
from usertable.domain.schema import LEGAL_RULES, Rule
from usertable.domain.values import DataType
from usertable.http.exported_file import MEDIA_TYPES
from usertable.version import version
from usertable.wire import batch
from usertable.wire.catalogue import en
from usertable.wire.codings import CODINGS
from usertable.wire.native import documents, problem_details, queries
from usertable.wire.openapi import BODY_PROBLEMS, COUNT, FAILURES, RATE_LIMIT, TEXT, Json, answer_headers, content, ref

LIVE_PATH = "/livez"
_PROBLEM = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of a route of the native API: how it is served and documented."""

    method: str
    path: str
    tag: str
    summary: str
    handle: Callable[[Any], Any]
    """A blocking function, except for a batch. Its name is the operation's ID."""
    answer: type[msgspec.Struct] | None
    """The form of the answer's body; None if it has none."""
    status: int = 200
    query: type[msgspec.Struct] = queries.Nothing
    body: type[msgspec.Struct] | None = None
    body_optional: bool = False
    batch: bool = False
    """Its handler is a coroutine function that writes in the event loop; its body may be compressed."""
    file: bool = False
    """Its handler returns an :class:`~usertable.http.exported_file.ExportedFile`."""
    unguarded: bool = False
    """It changes neither settings nor declarations of the project, so `If-Match` does not apply."""
    refuses: tuple[ProblemKind, ...] = ()
    """Problems in addition to those of any request of its kind."""
    needs: frozenset[Scope] = field(kw_only=True)
    """Scopes of which a caller must have one; empty if it needs no credentials."""

    @property
    def access(self) -> Literal["admin", "project", "public"]:
        """Whose credentials it accepts: only the admin's, also those of the project in the path, or none needed."""
        if not self.needs:
            return "public"
        return "project" if self.needs & PROJECT_SCOPES else "admin"

    @property
    def id(self) -> str:
        """Its ID, for example `declare_attribute`."""
        return self.handle.__name__

    @property
    def guarded(self) -> bool:
        """Whether it changes a project or its schema, so that `If-Match` can name the version it is based on."""
        return self.method != "GET" and "{project}" in self.path and self.tag != "users" and not self.unguarded

    @property
    def changes_users(self) -> bool:
        """Whether it changes users, so that their history has the `Usertable-Source` of its request."""
        return self.method != "GET" and self.tag == "users"

    def problem_status(self, kind: ProblemKind) -> int:
        """Return the HTTP status of a problem that the handler raised."""
        # 404 is for what the path names. A reference to something else that is not declared is refused by a rule.
        named = (ProblemKind.ATTRIBUTE_UNKNOWN, ProblemKind.IDENTIFIER_UNKNOWN, ProblemKind.KEY_UNKNOWN)
        if kind in named and "{name}" not in self.path:
            return 422
        return problem_details.STATUSES.get(kind, 422)

    def problems(self) -> dict[int, list[ProblemKind]]:
        """Return the possible problems of a request, by HTTP status."""
        found: dict[int, list[ProblemKind]] = {}
        if self.access != "public":
            found[400] = [ProblemKind.PARAMETER]
            found[401] = (
                [ProblemKind.ADMIN_ONLY] if self.access == "admin" else [ProblemKind.CREDENTIALS, ProblemKind.ADMIN_ONLY]
            )
        kinds = [*self.refuses, *FAILURES]
        if self.access == "project":
            kinds += [ProblemKind.RATE_LIMITED, ProblemKind.PROJECT_UNKNOWN]
            if self.needs != PROJECT_SCOPES:
                kinds.append(ProblemKind.FORBIDDEN)
        if self.guarded:
            kinds.append(ProblemKind.PROJECT_CHANGED)
        if self.body:
            kinds += BODY_PROBLEMS
        for kind in kinds:
            found.setdefault(self.problem_status(kind), []).append(kind)
        return found


def document(operations: Sequence[Operation], server: str = "/") -> Json:
    """Return the OpenAPI document of these operations of the native API and of all other routes.

    Args:
        server: its URL, or path.
    """
    paths = jiguang.paths()
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    paths[LIVE_PATH] = {"get": _live()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "usertable",
            "version": version(),
            "summary": "The open, self-hosted user-attribute store.",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": server}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": _schemas(operations),
            "parameters": _PARAMETERS,
            "headers": _HEADERS,
            "responses": {name: _refusal(*of) for name, of in _SHARED.items()},
            "securitySchemes": {
                "admin": {"type": "http", "scheme": "bearer", "description": "The server's admin token: every project."},
                "project": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "A project's id and the secret of a key: what it is for.",
                },
            },
        },
    }


_DESCRIPTION = f"""\
Two APIs in one server. {jiguang.DESCRIPTION} \
The native API (`/api/v1/…`) is for what the platform has in its console only; its errors are
problem details (RFC 9457): 400 if a request has not the form given here, 404 if what its path names does not exist, 409 if
it clashes with what there is, 422 if a rule of the Data Center refuses it.
"""

_TAGS = {
    "platform": "The platform's two endpoints, with the platform's own fields and codes.",
    "projects": "The units of isolation, each with its own users, schema and secret.",
    "people": "Who may sign in to the console, and with which roles.",
    "keys": "Keys of a project: who may call it, what for, until when.",
    "attributes": "What a user can have: name, data type, rule.",
    "identifiers": "How a user is pointed at from elsewhere.",
    "schema": "Attributes and identifiers as one document: schema as code.",
    "users": "The user table.",
    "history": "What was changed of users, when, by whom; and what it was before.",
    "audit": "The audit logs: who did what, when. No operation changes or deletes an entry.",
    "server": "Health, and this document.",
}


_PARAMETERS: dict[str, Json] = {
    "RequestId": {
        "name": "X-Request-Id",
        "in": "header",
        "description": "1 to 128 visible ASCII characters, echoed in the answer and named in the log. Made if left out.",
        "schema": TEXT,
    },
    "AcceptLanguage": {
        "name": "Accept-Language",
        "in": "header",
        "description": "The language of messages: `zh` or `en`. By default the platform's endpoints speak Chinese, the"
        " others English.",
        "schema": TEXT,
        "example": "en",
    },
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Makes a retry safe: the same key with the same request gets the first answer again, for at least a"
        " day, and writes nothing. With another request it is refused.",
        "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
    },
    "IfMatch": {
        "name": "If-Match",
        "in": "header",
        "description": "The project's `version` in quotes, as its `ETag` has it. The change is made only if that is the"
        " version still.",
        "schema": {"type": "string", "pattern": '^(W/)?"?[0-9]{1,18}"?$|^[*]$'},
        "example": "*",
    },
    "Source": {
        "name": "Usertable-Source",
        "in": "header",
        "description": "What the caller runs, such as a release or a job: up to 100 visible ASCII characters, with spaces in"
        " between. The history of a user shows it with each change, so that a bad release can be told from a good one.",
        "schema": {"type": "string", "pattern": "^([!-~]([ -~]{0,98}[!-~])?)?$"},
        "example": "billing 2026.11.3",
    },
    "Prefer": {
        "name": "Prefer",
        "in": "header",
        "description": "`return=representation` adds `data` to the answer: outcomes, all problems, the user's row.",
        "schema": TEXT,
        "example": "return=representation",
    },
    "DryRun": {
        "name": "dryRun",
        "in": "query",
        "description": "Validate and decide, write nothing, answer as with the representation.",
        "schema": {"enum": ["0", "1", "false", "true"], "default": "0"},
    },
}

_HEADERS: dict[str, Json] = {
    "X-Request-Id": {"required": True, "schema": TEXT, "description": "The caller's, or one that the server made."},
    "RateLimit-Limit": {"schema": COUNT, "description": "Requests per second. Only if there is a limit for the caller."},
    "RateLimit-Remaining": {"schema": COUNT, "description": "What is left of them in this second."},
    "RateLimit-Reset": {"schema": COUNT, "description": "Seconds until there are new ones."},
    "Retry-After": {"required": True, "schema": COUNT, "description": "Seconds to wait before the next try."},
    "WWW-Authenticate": {"required": True, "schema": TEXT, "description": "What credentials would be right."},
    "ETag": {"required": True, "schema": TEXT, "description": "The project's `version` in quotes, for `If-Match`."},
    "Repr-Digest": {
        "required": True,
        "schema": TEXT,
        "description": "SHA-256 of the whole file (RFC 9530), to tell a truncated one: `sha-256=:…:`.",
    },
    "Usertable-Users": {"required": True, "schema": COUNT, "description": "Number of users in the file."},
    "Usertable-Text-Columns": {
        "schema": TEXT,
        "description": "Parquet: NUMBER columns, separated by commas, that are stored as text because DECIMAL(38, 18)"
        " cannot hold all their values.",
    },
    "Usertable-As-Of": {
        "schema": TEXT,
        "description": "The moment that `as_of` named, in UTC: `2026-11-30T00:00:00.000Z`.",
    },
    "Usertable-Columns-Not-Kept": {
        "schema": TEXT,
        "description": "Empty columns, separated by commas: their values at the moment are not known, because their history"
        " was off then or later.",
    },
    "Location": {"required": True, "schema": TEXT, "description": "The path of what was created."},
    "Idempotency-Replayed": {"schema": {"const": "true"}, "description": "The answer is that of an earlier request."},
    "Preference-Applied": {"schema": {"const": "return=representation"}, "description": "The preference was honoured."},
}


# The native API.

_OF_FILES = ("Repr-Digest", "Usertable-Users", "Usertable-Text-Columns", "Usertable-As-Of", "Usertable-Columns-Not-Kept")


def _operation(operation: Operation) -> Json:
    limits = RATE_LIMIT if operation.access == "project" else ()
    created = ("Location",) if operation.status == 201 else ()
    success: Json = {"description": "Done." if operation.status == 200 else "Created."}
    if operation.file:
        success["content"] = {media: {"schema": TEXT} for media in MEDIA_TYPES.values()}
    elif operation.answer is None:
        success = {"description": "Done; there is nothing to show."}
    else:
        success["content"] = content(ref("schemas", operation.answer.__name__))
    tagged = ("ETag",) if operation.answer is documents.ProjectDocument and operation.status == 200 else ()
    described_file = _OF_FILES if operation.file else ()
    success["headers"] = answer_headers(*created, *tagged, *described_file, *limits)
    responses: Json = {str(operation.status): success}
    for status, kinds in sorted(operation.problems().items()):
        shared = next((name for name, of in _SHARED.items() if of == (status, kinds)), None)
        responses[str(status)] = ref("responses", shared) if shared else _refusal(status, kinds)
    described: Json = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        **_needed(operation),
        "security": {"admin": [{"admin": []}], "project": [{"admin": []}, {"project": []}], "public": []}[operation.access],
        "parameters": [
            *(_PATH_PARAMETERS[name] for name in re.findall(r"{(\w+)}", operation.path)),
            *_query_parameters(operation.query),
            *([ref("parameters", "IdempotencyKey")] if operation.batch else []),
            *([ref("parameters", "IfMatch")] if operation.guarded else []),
            *([ref("parameters", "Source")] if operation.changes_users else []),
            ref("parameters", "RequestId"),
            ref("parameters", "AcceptLanguage"),
        ],
    }
    if operation.body:
        described["requestBody"] = {
            "required": not operation.body_optional,
            "content": content(ref("schemas", operation.body.__name__)),
        }
        if operation.batch:
            described["requestBody"]["description"] = (
                f"It may be compressed; `Content-Encoding` says so then: {' or '.join(CODINGS)}."
            )
    described["responses"] = responses
    return described


def _needed(operation: Operation) -> Json:
    if operation.access != "project":
        return {}
    if operation.needs == PROJECT_SCOPES:
        return {"description": "Any key of the project may."}
    return {"description": f"A key needs the scope {' or '.join(f'`{scope}`' for scope in ordered(operation.needs))}."}


def _refusal(status: int, kinds: Iterable[ProblemKind]) -> Json:
    extra = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}.get(status, ())
    return {
        # The parameters of a problem's text stay in braces.
        "description": "\n".join(f"- `{kind}`: {en.PROBLEMS[kind]}" for kind in kinds),
        "headers": answer_headers(*extra, *(RATE_LIMIT if status != 401 else ())),
        "content": content(ref("schemas", "ProblemDetails"), _PROBLEM),
    }


_SHARED: dict[str, tuple[int, list[ProblemKind]]] = {
    "WrongParameter": (400, [ProblemKind.PARAMETER]),
    "WrongBody": (
        400,
        [ProblemKind.PARAMETER, ProblemKind.BODY_NOT_JSON, ProblemKind.BODY_NOT_OBJECT, ProblemKind.DUPLICATE_KEY],
    ),
    "AdminOnly": (401, [ProblemKind.ADMIN_ONLY]),
    "Unauthorized": (401, [ProblemKind.CREDENTIALS, ProblemKind.ADMIN_ONLY]),
    "ProjectUnknown": (404, [ProblemKind.PROJECT_UNKNOWN]),
    "BodyTooLarge": (413, [ProblemKind.BODY_TOO_LARGE, ProblemKind.BODY_CONTAINERS]),
    "ContentType": (415, [ProblemKind.CONTENT_TYPE, ProblemKind.CONTENT_CODING]),
    "RateLimited": (429, [ProblemKind.RATE_LIMITED]),
    "Internal": (500, [ProblemKind.INTERNAL]),
    "Unavailable": (503, [ProblemKind.OVERLOADED, ProblemKind.STORE_DOWN]),
}
"""Refusals that many operations share."""

_PATH_PARAMETERS: dict[str, Json] = {
    "project": {"name": "project", "in": "path", "required": True, "description": "The project's id.", "schema": TEXT},
    "name": {
        "name": "name",
        "in": "path",
        "required": True,
        "description": "The name it was declared with.",
        "schema": TEXT,
    },
    "email": {
        "name": "email",
        "in": "path",
        "required": True,
        "description": "The person's e-mail address; letter case makes no difference.",
        "schema": TEXT,
    },
    "cuid": {
        "name": "cuid",
        "in": "path",
        "required": True,
        "description": "The user's CUID.",
        "schema": {"type": "integer", "format": "int64", "minimum": 1, "maximum": MAX_CUID},
    },
}


def _query_parameters(form: type[msgspec.Struct]) -> list[Json]:
    _, components = msgspec.json.schema_components([form], ref_template="#/components/schemas/{name}")
    parameters = []
    described = components[form.__name__]
    for name, schema in described["properties"].items():
        parameter: Json = {"name": name, "in": "query", "schema": schema}
        if name in described.get("required", ()):
            parameter["required"] = True
        for key in ("description", "examples"):
            if key in schema:
                value = schema.pop(key)
                parameter |= {key: value} if key == "description" else {"example": value[0]}
        parameters.append(parameter)
    return parameters


def _schemas(operations: Iterable[Operation]) -> Json:
    forms: dict[type, None] = {
        problem_details.ProblemDetails: None,
        documents.Live: None,
        batch.BatchRecord: None,
        DataType: None,
        Rule: None,
    }
    for operation in operations:
        forms |= dict.fromkeys(form for form in (operation.body, operation.answer) if form)
    _, components = msgspec.json.schema_components(forms, ref_template="#/components/schemas/{name}")
    components["DataType"]["description"] = "The data types of the platform."
    components["Rule"]["description"] = (
        "How a reported value meets the stored one: the newest stays, the first stays, numbers add up (NUMBER only),"
        " elements are appended (LIST only)."
    )
    # Some generators produce wrong code for a default among several types. `qps` documents its default.
    qps = components["NewProject"]["properties"]["qps"]
    qps["description"] = f"Requests per second and API. Left out: {qps.pop('default')}."
    components["NewAttribute"] |= _LEGAL_ATTRIBUTE
    enums = {name: schema for name, schema in components.items() if "enum" in schema}
    uses = Counter(value for schema in enums.values() for value in schema["enum"])
    for name, schema in enums.items():
        schema["type"] = "string"
        if any(uses[value] > 1 for value in schema["enum"]):
            # In languages whose enums share a namespace, two values would have the same name.
            schema["x-enum-varnames"] = [f"{name}_{value}".upper() for value in schema["enum"]]
    return components | jiguang.SCHEMAS


def _when(data_type: DataType, then: Json, otherwise: Json) -> Json:
    return {"if": {"properties": {"type": {"const": data_type}}}, "then": then, "else": otherwise}


def _with_rules(data_type: DataType, **more: Json) -> Json:
    return {"properties": {"rule": {"enum": sorted(LEGAL_RULES[data_type])}, **more}}


_LEGAL_ATTRIBUTE: Json = _when(
    DataType.LIST,
    _with_rules(DataType.LIST),
    {
        "properties": {"max_elements": False, "max_element_bytes": False},
        **_when(DataType.NUMBER, _with_rules(DataType.NUMBER), _with_rules(DataType.STRING)),
    },
)
"""The rules that each data type can have, and that only a LIST has limits."""


def _live() -> Json:
    return {
        "operationId": "live",
        "tags": ["server"],
        "summary": "Whether the server answers at all; it does no work",
        "security": [],
        "responses": {"200": {"description": "It does.", "content": content(ref("schemas", "Live"))}},
    }
