"""The answer to a refused request of the native API: problem details, by RFC 9457."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from usertable.domain.errors import Problem, ProblemKind, bounded, excerpt, other_value
from usertable.domain.phrases import Phrase
from usertable.wire.messages import Language, text
from usertable.wire.native.documents import encode

STATUSES: dict[ProblemKind, int] = {
    ProblemKind.CREDENTIALS: 401,
    ProblemKind.FORBIDDEN: 403,
    ProblemKind.ADMIN_ONLY: 401,
    ProblemKind.METRICS_ONLY: 401,
    ProblemKind.RATE_LIMITED: 429,
    ProblemKind.CONTENT_TYPE: 415,
    ProblemKind.CONTENT_CODING: 415,
    ProblemKind.BODY_TOO_LARGE: 413,
    ProblemKind.BODY_VALUES: 413,
    ProblemKind.BODY_CONTAINERS: 413,
    ProblemKind.BODY_BROKEN: 400,
    ProblemKind.KEY_MALFORMED: 400,
    ProblemKind.BODY_NOT_JSON: 400,
    ProblemKind.BODY_NOT_OBJECT: 400,
    ProblemKind.DUPLICATE_KEY: 400,
    ProblemKind.NO_ROUTE: 404,
    ProblemKind.NO_METHOD: 405,
    ProblemKind.PROJECT_UNKNOWN: 404,
    ProblemKind.ATTRIBUTE_UNKNOWN: 404,
    ProblemKind.IDENTIFIER_UNKNOWN: 404,
    ProblemKind.CUID_UNKNOWN: 404,
    ProblemKind.KEY_UNKNOWN: 404,
    ProblemKind.PROJECT_EXISTS: 409,
    ProblemKind.KEY_EXISTS: 409,
    ProblemKind.KEY_SECRET: 409,
    ProblemKind.KEY_REVOKED: 409,
    ProblemKind.LAST_KEY: 409,
    ProblemKind.TOO_MANY_KEYS: 409,
    ProblemKind.TOO_MANY_OWN_SECRETS: 409,
    ProblemKind.SCOPE_EXCEEDED: 403,
    ProblemKind.PROJECT_CHANGED: 412,
    ProblemKind.NAME_TAKEN: 409,
    ProblemKind.TOO_MANY_ATTRIBUTES: 409,
    ProblemKind.ATTRIBUTE_IN_USE: 409,
    ProblemKind.ATTRIBUTE_FIXED: 409,
    ProblemKind.IDENTIFIER_IN_USE: 409,
    ProblemKind.IDENTIFIER_PRESET: 409,
    ProblemKind.IDENTIFIER_TAKEN: 409,
    ProblemKind.CUID_EXISTS: 409,
    ProblemKind.CUID_ERASED: 409,
    ProblemKind.HISTORY_OFF: 409,
    ProblemKind.HISTORY_GONE: 410,
    ProblemKind.HISTORY_GAP: 410,
    ProblemKind.ATTRIBUTE_NOT_KEPT: 410,
    ProblemKind.USER_NOT_YET: 404,
    ProblemKind.PERSON_UNKNOWN: 404,
    ProblemKind.PERSON_EXISTS: 409,
    ProblemKind.NOT_FIRST: 409,
    ProblemKind.LAST_ADMIN: 409,
    ProblemKind.PASSWORD_WRONG: 403,
    ProblemKind.LINK_OVER: 403,
    ProblemKind.INTERNAL: 500,
    ProblemKind.OVERLOADED: 503,
    ProblemKind.STORE_DOWN: 503,
}
"""HTTP status for each kind of problem.

Any other kind is 400 if the request does not have the form in the API's description, and 422 if it does but a rule refuses
it.
"""


class ProblemEntry(msgspec.Struct):
    """One problem."""

    code: str
    attribute: Annotated[str | None, Meta(description="The attribute or identifier that the problem is about, if any.")]
    detail: str


class ProblemDetails(msgspec.Struct):
    """An error, by RFC 9457. `code` is for programs and never changes; `detail` is for people, in their language."""

    type: Annotated[str, Meta(extra_json_schema={"format": "uri"})]
    title: str
    status: int
    detail: str
    code: str
    request_id: Annotated[str, Meta(description="The X-Request-Id, for support; it is in the log too.")]
    problems: Annotated[
        list[ProblemEntry],
        Meta(
            description="All problems; the first is the one above. Maximum 100, and then one that says how many more there"
            " are."
        ),
    ]


def encode_problems(problems: Sequence[Problem], status: int, language: Language, request_id: str) -> bytes:
    """Return problem details (`application/problem+json`) for a request refused with this HTTP status."""
    first = problems[0]
    details = ProblemDetails(
        type=f"urn:usertable:problem:{first.kind}",
        title=first.kind.replace("_", " "),
        status=status,
        detail=text(first, language),
        code=first.kind,
        request_id=request_id,
        problems=[ProblemEntry(p.kind, p.attribute, text(p, language)) for p in bounded(problems)],
    )
    return encode(details)


def parameter_problem(name: str, expected: Phrase, value: str | None = None) -> Problem:
    """Return the problem with an invalid parameter. `value` is quoted; None for a secret, or if there is none."""
    expected = expected if value is None else other_value(expected, value)
    return Problem(ProblemKind.PARAMETER, None, {"name": excerpt(name), "expected": expected})
