"""The OpenAPI 3.1 document of every route: the native API's from its table, the others written out here."""

from __future__ import annotations

import importlib.metadata
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from usertable.dialects.jiguang.codes import code
from usertable.dialects.jiguang.vocabulary import ATTRIBUTE_PATH, MAX_IDENTITY_VALUES, REGISTER_PATH
from usertable.domain.errors import Kind
from usertable.domain.identity import MAX_CUID, MAX_VALUE_CHARACTERS
from usertable.domain.schema import LEGAL_RULES, Rule
from usertable.domain.values import DataType
from usertable.wire import batch, native
from usertable.wire.codings import CODINGS
from usertable.wire.messages import TEXTS

Json = dict[str, Any]

LIVE_PATH = "/livez"
_PROBLEM = "application/problem+json"
_BODY = (
    *(Kind.CONTENT_TYPE, Kind.CONTENT_CODING, Kind.BODY_TOO_LARGE),
    *(Kind.BODY_NOT_JSON, Kind.BODY_NOT_OBJECT, Kind.BODY_CONTAINERS, Kind.DUPLICATE_KEY),
)
_FAILURES = (Kind.INTERNAL, Kind.OVERLOADED, Kind.STORE_DOWN)


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of a route of the native API: how it is served and what is said of it."""

    method: str
    path: str
    tag: str
    summary: str
    handle: Callable[[Any], Any]
    """A blocking function, but for a batch; its name is the operation's id."""
    answer: type[msgspec.Struct] | None
    """The form of the answer's body; None if it has none."""
    status: int = 200
    who: Literal["admin", "project", "public"] = "project"
    """Whose credentials it takes: the admin's only, also those of the project in the path, or none."""
    query: type[msgspec.Struct] = native.Nothing
    body: type[msgspec.Struct] | None = None
    body_optional: bool = False
    batch: bool = False
    """Its handler is a coroutine function that writes in the event loop; its body may be compressed."""
    refuses: tuple[Kind, ...] = ()
    """What may be wrong beyond what may be wrong with any request of its kind."""

    @property
    def guarded(self) -> bool:
        """Whether it changes a project or its schema, and `If-Match` can name the version that the change was made for."""
        return self.method != "GET" and "{project}" in self.path and self.tag != "users"

    def problem_status(self, kind: Kind) -> int:
        """The HTTP status of a problem that the handler met."""
        # 404 is for what the path names. What else is not declared, a rule refuses.
        if kind in (Kind.ATTRIBUTE_UNKNOWN, Kind.IDENTIFIER_UNKNOWN) and "{name}" not in self.path:
            return 422
        return native.STATUSES.get(kind, 422)

    def problems(self) -> dict[int, list[Kind]]:
        """What may be wrong with a request, by HTTP status."""
        found: dict[int, list[Kind]] = {}
        if self.who != "public":
            found[400] = [Kind.PARAMETER]
            found[401] = [Kind.ADMIN_ONLY] if self.who == "admin" else [Kind.CREDENTIALS, Kind.ADMIN_ONLY]
        kinds = [*self.refuses, *_FAILURES]
        if self.who == "project":
            kinds += [Kind.RATE_LIMITED, Kind.PROJECT_UNKNOWN]
        if self.guarded:
            kinds.append(Kind.PROJECT_CHANGED)
        if self.body:
            kinds += _BODY
        for kind in kinds:
            found.setdefault(self.problem_status(kind), []).append(kind)
        return found


def document(operations: Sequence[Operation]) -> Json:
    """The OpenAPI document of these operations of the native API and of all other routes."""
    paths: dict[str, Json] = {ATTRIBUTE_PATH: {"put": _put_attribute()}, REGISTER_PATH: {"post": _post_register()}}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    paths[LIVE_PATH] = {"get": _live()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "usertable",
            "version": _version(),
            "summary": "The open, self-hosted user-attribute store.",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": _schemas(operations),
            "parameters": _PARAMETERS,
            "headers": _HEADERS,
            "responses": {name: _refusal(*of) for name, of in _SHARED.items()},
            "securitySchemes": {
                "admin": {"type": "http", "scheme": "bearer", "description": "The server's admin token: every project."},
                "project": {"type": "http", "scheme": "basic", "description": "A project's id and secret: that project."},
            },
        },
    }


_DESCRIPTION = """\
Two APIs in one server. The platform's endpoints (`/smartop/…`) set attributes and hand out CUIDs; their answers have a
`code`, which is 0 on success. The native API (`/api/v1/…`) is for what the platform has in its console only; its errors are
problem details (RFC 9457): 400 if a request has not the form given here, 404 if what its path names does not exist, 409 if
it clashes with what there is, 422 if a rule of the Data Center refuses it.
"""

_TAGS = {
    "platform": "The platform's two endpoints, with the platform's own fields and codes.",
    "projects": "The units of isolation, each with its own users, schema and secret.",
    "attributes": "What a user can have: name, data type, rule.",
    "identifiers": "How a user is pointed at from elsewhere.",
    "schema": "Attributes and identifiers as one document: schema as code.",
    "users": "The user table.",
    "server": "Health, and this document.",
}

_TEXT: Json = {"type": "string"}
_COUNT: Json = {"type": "integer", "minimum": 0}

_PARAMETERS: dict[str, Json] = {
    "RequestId": {
        "name": "X-Request-Id",
        "in": "header",
        "description": "1 to 128 visible ASCII characters, echoed in the answer and named in the log. Made if left out.",
        "schema": _TEXT,
    },
    "AcceptLanguage": {
        "name": "Accept-Language",
        "in": "header",
        "description": "The language of messages: `zh` or `en`. By default the platform's endpoints speak Chinese, the"
        " others English.",
        "schema": _TEXT,
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
    "Prefer": {
        "name": "Prefer",
        "in": "header",
        "description": "`return=representation` adds `data` to the answer: outcomes, all problems, the user's row.",
        "schema": _TEXT,
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
    "X-Request-Id": {"required": True, "schema": _TEXT, "description": "The caller's, or one that the server made."},
    "RateLimit-Limit": {"schema": _COUNT, "description": "Requests per second. Only if there is a limit for the caller."},
    "RateLimit-Remaining": {"schema": _COUNT, "description": "What is left of them in this second."},
    "RateLimit-Reset": {"schema": _COUNT, "description": "Seconds until there are new ones."},
    "Retry-After": {"required": True, "schema": _COUNT, "description": "Seconds to wait before the next try."},
    "WWW-Authenticate": {"required": True, "schema": _TEXT, "description": "What credentials would be right."},
    "ETag": {"required": True, "schema": _TEXT, "description": "The project's `version` in quotes, for `If-Match`."},
    "Location": {"required": True, "schema": _TEXT, "description": "The path of what was created."},
    "Idempotency-Replayed": {"schema": {"const": "true"}, "description": "The answer is that of an earlier request."},
    "Preference-Applied": {"schema": {"const": "return=representation"}, "description": "The preference was honoured."},
}
_RATE_LIMIT = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")


def _ref(section: str, name: str) -> Json:
    return {"$ref": f"#/components/{section}/{name}"}


def _headers(*names: str) -> Json:
    return {name: _ref("headers", name) for name in ("X-Request-Id", *names)}


def _content(schema: Json, media_type: str = "application/json") -> Json:
    return {media_type: {"schema": schema}}


# The native API.


def _operation(operation: Operation) -> Json:
    limits = _RATE_LIMIT if operation.who == "project" else ()
    created = ("Location",) if operation.status == 201 else ()
    success: Json = {"description": "Done." if operation.status == 200 else "Created."}
    if operation.answer is None:
        success = {"description": "Done; there is nothing to show."}
    else:
        success["content"] = _content(_ref("schemas", operation.answer.__name__))
    tagged = ("ETag",) if operation.answer is native.ProjectDocument and operation.status == 200 else ()
    success["headers"] = _headers(*created, *tagged, *limits)
    responses: Json = {str(operation.status): success}
    for status, kinds in sorted(operation.problems().items()):
        shared = next((name for name, of in _SHARED.items() if of == (status, kinds)), None)
        responses[str(status)] = _ref("responses", shared) if shared else _refusal(status, kinds)
    described: Json = {
        "operationId": operation.handle.__name__,
        "tags": [operation.tag],
        "summary": operation.summary,
        "security": {"admin": [{"admin": []}], "project": [{"admin": []}, {"project": []}], "public": []}[operation.who],
        "parameters": [
            *(_PATH_PARAMETERS[name] for name in re.findall(r"{(\w+)}", operation.path)),
            *_query_parameters(operation.query),
            *([_ref("parameters", "IdempotencyKey")] if operation.batch else []),
            *([_ref("parameters", "IfMatch")] if operation.guarded else []),
            _ref("parameters", "RequestId"),
            _ref("parameters", "AcceptLanguage"),
        ],
    }
    if operation.body:
        described["requestBody"] = {
            "required": not operation.body_optional,
            "content": _content(_ref("schemas", operation.body.__name__)),
        }
        if operation.batch:
            described["requestBody"]["description"] = (
                f"It may be compressed; `Content-Encoding` says so then: {' or '.join(CODINGS)}."
            )
    described["responses"] = responses
    return described


def _refusal(status: int, kinds: Iterable[Kind]) -> Json:
    extra = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}.get(status, ())
    return {
        # The facts of a problem are named in braces, which are kept.
        "description": "\n".join(f"- `{kind}`: {TEXTS[kind][1]}" for kind in kinds),
        "headers": _headers(*extra, *(_RATE_LIMIT if status != 401 else ())),
        "content": _content(_ref("schemas", "ProblemDetails"), _PROBLEM),
    }


_SHARED: dict[str, tuple[int, list[Kind]]] = {
    "WrongParameter": (400, [Kind.PARAMETER]),
    "WrongBody": (400, [Kind.PARAMETER, Kind.BODY_NOT_JSON, Kind.BODY_NOT_OBJECT, Kind.DUPLICATE_KEY]),
    "AdminOnly": (401, [Kind.ADMIN_ONLY]),
    "Unauthorized": (401, [Kind.CREDENTIALS, Kind.ADMIN_ONLY]),
    "ProjectUnknown": (404, [Kind.PROJECT_UNKNOWN]),
    "BodyTooLarge": (413, [Kind.BODY_TOO_LARGE, Kind.BODY_CONTAINERS]),
    "ContentType": (415, [Kind.CONTENT_TYPE, Kind.CONTENT_CODING]),
    "RateLimited": (429, [Kind.RATE_LIMITED]),
    "Internal": (500, [Kind.INTERNAL]),
    "Unavailable": (503, [Kind.OVERLOADED, Kind.STORE_DOWN]),
}
"""The refusals that many operations have alike."""

_PATH_PARAMETERS: dict[str, Json] = {
    "project": {"name": "project", "in": "path", "required": True, "description": "The project's id.", "schema": _TEXT},
    "name": {
        "name": "name",
        "in": "path",
        "required": True,
        "description": "The name it was declared with.",
        "schema": _TEXT,
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
    for name, schema in components[form.__name__]["properties"].items():
        parameter = {"name": name, "in": "query", "schema": schema}
        for key in ("description", "examples"):
            if key in schema:
                value = schema.pop(key)
                parameter |= {key: value} if key == "description" else {"example": value[0]}
        parameters.append(parameter)
    return parameters


def _schemas(operations: Iterable[Operation]) -> Json:
    forms: dict[type, None] = {
        native.ProblemDetails: None,
        native.Live: None,
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
    # Some generators make wrong code of a default among several types; `qps` says what it is.
    qps = components["NewProject"]["properties"]["qps"]
    qps["description"] = f"Requests per second and API. Left out: {qps.pop('default')}."
    components["NewAttribute"] |= _LEGAL_ATTRIBUTE
    enums = {name: schema for name, schema in components.items() if "enum" in schema}
    uses = Counter(value for schema in enums.values() for value in schema["enum"])
    for name, schema in enums.items():
        schema["type"] = "string"
        if any(uses[value] > 1 for value in schema["enum"]):
            # In languages whose enums share a namespace, two values would have one name.
            schema["x-enum-varnames"] = [f"{name}_{value}".upper() for value in schema["enum"]]
    return components | _PLATFORM_SCHEMAS


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
"""Which rules a data type may have, and that only a LIST has limits."""


# The platform's endpoints, and the server's own.

_ATTRIBUTE_VALUE: Json = {
    "anyOf": [
        {"type": ["number", "boolean"]},
        {"type": "string", "minLength": 1},
        {"type": "array", "items": _TEXT, "minItems": 1},
    ]
}
_CUID: Json = {"type": "integer", "format": "int64"}
_CODE: Json = {"type": "integer", "description": "0 on success; otherwise what is wrong."}
_MSG: Json = {"type": "string", "description": "`ok` on success; otherwise the first problem in words."}

_PLATFORM_SCHEMAS: dict[str, Json] = {
    "SetAttributes": {
        "type": "object",
        "description": "Attributes to set of one user. Other members are ignored.",
        "required": ["cuid", "data"],
        "properties": {
            "cuid": {
                "description": "The user's CUID; as digits in a string for clients whose numbers stop at 2^53.",
                "anyOf": [{**_CUID, "minimum": 1, "maximum": MAX_CUID}, {"type": "string", "pattern": "^[0-9]{1,19}$"}],
            },
            "data": {
                "description": "Value by attribute: NUMBER a number or a string that is one; STRING a string, number or"
                " true/false; BOOL 0 or 1; DATETIME `yyyy-MM-dd HH:mm:ss` in the project's zone; LIST an array of strings.",
                "type": "object",
                "minProperties": 1,
                "additionalProperties": _ATTRIBUTE_VALUE,
            },
        },
        "examples": [{"cuid": 10362473, "data": {"user_number_once": 46.2, "user_datetime_once": "2023-12-12 00:56:23"}}],
    },
    "SetAnswer": {
        "type": "object",
        "required": ["code", "msg"],
        "properties": {"code": _CODE, "msg": _MSG, "data": _ref("schemas", "Representation")},
        "additionalProperties": False,
        "examples": [{"code": 0, "msg": "ok"}],
    },
    "Representation": {
        "type": "object",
        "description": "Only for those who ask for it.",
        "required": ["version", "outcomes", "problems", "user"],
        "properties": {
            "version": {"type": ["integer", "null"], "description": "Of the user's row after the write."},
            "outcomes": {
                "type": "object",
                "description": "What became of each attribute.",
                "additionalProperties": _ref("schemas", "Outcome"),
            },
            "problems": {
                "type": "array",
                "description": "All that is wrong; at most 100, and a last one that says how many more there are.",
                "items": {
                    "type": "object",
                    "required": ["code", "kind", "attribute", "msg"],
                    "properties": {"code": _CODE, "kind": _TEXT, "attribute": {"type": ["string", "null"]}, "msg": _TEXT},
                    "additionalProperties": False,
                },
            },
            "user": {
                "description": "The user's row after the write; null if refused, or in a replay that did not keep it.",
                "anyOf": [
                    {
                        "type": "object",
                        "required": ["cuid", "version", "attributes"],
                        "properties": {"cuid": _CUID, "version": _COUNT, "attributes": {"type": "object"}},
                        "additionalProperties": False,
                    },
                    {"type": "null"},
                ],
            },
        },
        "additionalProperties": False,
    },
    "Register": {
        "type": "object",
        "description": "Values of the project's first identifier. Other members are ignored.",
        "required": ["identityName", "identityValues"],
        "properties": {
            "identityName": {"type": "string", "minLength": 1, "description": "Declared, unique and of priority 1."},
            "identityValues": {
                "type": "array",
                "minItems": 1,
                "maxItems": MAX_IDENTITY_VALUES,
                "items": {"type": "string", "minLength": 1, "maxLength": MAX_VALUE_CHARACTERS},
            },
        },
        "examples": [{"identityName": "phone", "identityValues": ["18012345678"]}],
    },
    "RegisterAnswer": {
        "type": "object",
        "required": ["code", "msg"],
        "properties": {
            "code": _CODE,
            "msg": _MSG,
            "data": {
                "type": "array",
                "description": "One entry per value, in the order sent.",
                "items": {
                    "type": "object",
                    "required": ["identityValues", "cuid", "errorCode", "errorMsg"],
                    "properties": {
                        "identityValues": {"type": "string", "description": "The one value."},
                        "cuid": _CUID,
                        "errorCode": {"type": "integer"},
                        "errorMsg": _TEXT,
                    },
                    "additionalProperties": False,
                },
            },
        },
        "additionalProperties": False,
    },
}

_SET_REFUSES = (
    *(Kind.CREDENTIALS, Kind.RATE_LIMITED, *_BODY, Kind.PARAMETER, Kind.KEY_MALFORMED, Kind.KEY_REUSED),
    *(Kind.DATA_MISSING, Kind.DATA_NOT_OBJECT, Kind.DATA_EMPTY, Kind.DATA_LENGTH),
    *(Kind.CUID_MISSING, Kind.CUID_MALFORMED, Kind.CUID_UNKNOWN),
    *(Kind.ATTRIBUTE_UNKNOWN, Kind.VALUE_EMPTY, Kind.VALUE_TYPE, Kind.NUMBER_RANGE, Kind.STRING_LENGTH),
    *(Kind.STRING_CHARACTER, Kind.DATETIME_SKIPPED, Kind.LIST_LENGTH, Kind.LIST_ELEMENT_LENGTH),
    *(Kind.ACCUMULATE_RANGE, Kind.APPEND_LENGTH, Kind.ROW_LENGTH, *_FAILURES),
)
_REGISTER_REFUSES = (
    *(Kind.CREDENTIALS, Kind.RATE_LIMITED, *_BODY, Kind.IDENTITY_NAME, Kind.IDENTITY_VALUES, Kind.IDENTITY_VALUE),
    *(Kind.IDENTIFIER_UNKNOWN, Kind.IDENTIFIER_NOT_UNIQUE, Kind.IDENTIFIER_NOT_FIRST, *_FAILURES),
)


def _put_attribute() -> Json:
    extra = [_ref("parameters", name) for name in ("IdempotencyKey", "Prefer", "DryRun")]
    headers = ("Idempotency-Replayed", "Preference-Applied")
    return _platform("put_attribute", "Set attributes of one user", "Set", _SET_REFUSES, extra, headers)


def _post_register() -> Json:
    return _platform("post_register", "Get CUID: one per value; a new value makes a user", "Register", _REGISTER_REFUSES)


def _platform(
    name: str, summary: str, form: str, refuses: Iterable[Kind], parameters: Sequence[Json] = (), headers: Sequence[str] = ()
) -> Json:
    answer = _content(_ref("schemas", f"{form}Answer"))
    by_status: dict[int, list[Kind]] = {}
    for kind in refuses:
        by_status.setdefault(code(kind)[1], []).append(kind)
    responses: Json = {
        "200": {
            "description": "Done, durably: code 0. A server may be set to refuse with 200 too; go by `code` then.",
            "headers": _headers(*_RATE_LIMIT, *headers),
            "content": answer,
        }
    }
    for status, kinds in sorted(by_status.items()):
        extra = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}.get(status, ())
        responses[str(status)] = {
            "description": "\n".join(f"- {code(kind)[0]} `{kind}`: {TEXTS[kind][0]}" for kind in kinds),
            "headers": _headers(*extra, *(_RATE_LIMIT if status != 401 else ())),
            "content": answer,
        }
    return {
        "operationId": name,
        "tags": ["platform"],
        "summary": summary,
        "security": [{"project": []}],
        "parameters": [*parameters, _ref("parameters", "RequestId"), _ref("parameters", "AcceptLanguage")],
        "requestBody": {
            "required": True,
            "content": _content(_ref("schemas", "SetAttributes" if form == "Set" else form)),
        },
        "responses": responses,
    }


def _live() -> Json:
    return {
        "operationId": "live",
        "tags": ["server"],
        "summary": "Whether the server answers at all; it does no work",
        "security": [],
        "responses": {"200": {"description": "It does.", "content": _content(_ref("schemas", "Live"))}},
    }


def _version() -> str:
    try:
        return importlib.metadata.version("usertable")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
