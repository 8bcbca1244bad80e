"""The platform's endpoints in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from usertable.dialects.jiguang.codes import code
from usertable.dialects.jiguang.vocabulary import ATTRIBUTE_PATH, MAX_IDENTITY_VALUES, REGISTER_PATH
from usertable.domain.errors import ProblemKind
from usertable.domain.identity import MAX_CUID, MAX_VALUE_CHARACTERS
from usertable.wire.catalogue import zh
from usertable.wire.openapi import BODY_PROBLEMS, COUNT, FAILURES, RATE_LIMIT, TEXT, Json, answer_headers, content, ref

DESCRIPTION = """\
The platform's endpoints (`/smartop/…`) set attributes and hand out CUIDs; their answers have a
`code`, which is 0 on success."""

_ATTRIBUTE_VALUE: Json = {
    "anyOf": [
        {"type": ["number", "boolean"]},
        {"type": "string", "minLength": 1},
        {"type": "array", "items": TEXT, "minItems": 1},
    ]
}
_CUID: Json = {"type": "integer", "format": "int64"}
_CODE: Json = {"type": "integer", "description": "0 on success; otherwise what is wrong."}
_MSG: Json = {"type": "string", "description": "`ok` on success; otherwise the first problem in words."}

SCHEMAS: dict[str, Json] = {
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
        "properties": {"code": _CODE, "msg": _MSG, "data": ref("schemas", "Representation")},
        "additionalProperties": False,
        "examples": [{"code": 0, "msg": "ok"}],
    },
    "Representation": {
        "type": "object",
        "description": "Only for those who ask for it.",
        "required": ["version", "change", "outcomes", "problems", "user"],
        "properties": {
            "version": {"type": ["integer", "null"], "description": "Of the user's row after the write."},
            "change": {
                "type": ["integer", "null"],
                "description": "The number of the change in the user's history; null if none was recorded.",
            },
            "outcomes": {
                "type": "object",
                "description": "What became of each attribute.",
                "additionalProperties": ref("schemas", "Outcome"),
            },
            "problems": {
                "type": "array",
                "description": "All that is wrong; at most 100, and a last one that says how many more there are.",
                "items": {
                    "type": "object",
                    "required": ["code", "kind", "attribute", "msg"],
                    "properties": {"code": _CODE, "kind": TEXT, "attribute": {"type": ["string", "null"]}, "msg": TEXT},
                    "additionalProperties": False,
                },
            },
            "user": {
                "description": "The user's row after the write; null if refused, or in a replay that did not keep it.",
                "anyOf": [
                    {
                        "type": "object",
                        "required": ["cuid", "version", "attributes"],
                        "properties": {"cuid": _CUID, "version": COUNT, "attributes": {"type": "object"}},
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
                        "errorMsg": TEXT,
                    },
                    "additionalProperties": False,
                },
            },
        },
        "additionalProperties": False,
    },
}

_SET_REFUSES = (
    *(
        ProblemKind.CREDENTIALS,
        ProblemKind.FORBIDDEN,
        ProblemKind.RATE_LIMITED,
        *BODY_PROBLEMS,
        ProblemKind.PARAMETER,
        ProblemKind.KEY_MALFORMED,
        ProblemKind.KEY_REUSED,
    ),
    *(ProblemKind.DATA_MISSING, ProblemKind.DATA_NOT_OBJECT, ProblemKind.DATA_EMPTY, ProblemKind.DATA_LENGTH),
    *(ProblemKind.CUID_MISSING, ProblemKind.CUID_MALFORMED, ProblemKind.CUID_UNKNOWN),
    *(
        ProblemKind.ATTRIBUTE_UNKNOWN,
        ProblemKind.VALUE_EMPTY,
        ProblemKind.VALUE_TYPE,
        ProblemKind.NUMBER_RANGE,
        ProblemKind.STRING_LENGTH,
    ),
    *(ProblemKind.STRING_CHARACTER, ProblemKind.DATETIME_SKIPPED, ProblemKind.LIST_LENGTH, ProblemKind.LIST_ELEMENT_LENGTH),
    *(ProblemKind.ACCUMULATE_RANGE, ProblemKind.APPEND_LENGTH, ProblemKind.ROW_LENGTH, *FAILURES),
)
_REGISTER_REFUSES = (
    *(
        ProblemKind.CREDENTIALS,
        ProblemKind.FORBIDDEN,
        ProblemKind.RATE_LIMITED,
        *BODY_PROBLEMS,
        ProblemKind.PARAMETER,
        ProblemKind.IDENTITY_NAME,
        ProblemKind.IDENTITY_VALUES,
        ProblemKind.IDENTITY_VALUE,
    ),
    *(ProblemKind.IDENTIFIER_UNKNOWN, ProblemKind.IDENTIFIER_NOT_UNIQUE, ProblemKind.IDENTIFIER_NOT_FIRST, *FAILURES),
)


def paths() -> dict[str, Json]:
    """Return the platform's endpoints by path and method."""
    return {ATTRIBUTE_PATH: {"put": _put_attribute()}, REGISTER_PATH: {"post": _post_register()}}


def _put_attribute() -> Json:
    extra = [ref("parameters", name) for name in ("IdempotencyKey", "Source", "Prefer", "DryRun")]
    headers = ("Idempotency-Replayed", "Preference-Applied")
    return _platform("put_attribute", "Set attributes of one user", "Set", _SET_REFUSES, extra, headers)


def _post_register() -> Json:
    extra = [ref("parameters", "Source")]
    return _platform(
        "post_register", "Get CUID: one per value; a new value makes a user", "Register", _REGISTER_REFUSES, extra
    )


def _platform(
    name: str,
    summary: str,
    form: str,
    refuses: Iterable[ProblemKind],
    parameters: Sequence[Json] = (),
    headers: Sequence[str] = (),
) -> Json:
    answer = content(ref("schemas", f"{form}Answer"))
    by_status: dict[int, list[ProblemKind]] = {}
    for kind in refuses:
        by_status.setdefault(code(kind)[1], []).append(kind)
    responses: Json = {
        "200": {
            "description": "Done, durably: code 0. A server may be set to refuse with 200 too; go by `code` then.",
            "headers": answer_headers(*RATE_LIMIT, *headers),
            "content": answer,
        }
    }
    for status, kinds in sorted(by_status.items()):
        extra = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}.get(status, ())
        responses[str(status)] = {
            "description": "\n".join(f"- {code(kind)[0]} `{kind}`: {zh.PROBLEMS[kind]}" for kind in kinds),
            "headers": answer_headers(*extra, *(RATE_LIMIT if status != 401 else ())),
            "content": answer,
        }
    return {
        "operationId": name,
        "tags": ["platform"],
        "summary": summary,
        "security": [{"project": []}],
        "parameters": [*parameters, ref("parameters", "RequestId"), ref("parameters", "AcceptLanguage")],
        "requestBody": {
            "required": True,
            "content": content(ref("schemas", "SetAttributes" if form == "Set" else form)),
        },
        "responses": responses,
    }
