"""What a refused request of the native API is answered: problem details, as RFC 9457 has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from usertable.domain.errors import Problem, ProblemKind, bounded, excerpt
from usertable.wire.messages import Language, text
from usertable.wire.native.documents import encode

STATUSES: dict[ProblemKind, int] = {
    ProblemKind.CREDENTIALS: 401,
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
    ProblemKind.PROJECT_EXISTS: 409,
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
    ProblemKind.INTERNAL: 500,
    ProblemKind.OVERLOADED: 503,
    ProblemKind.STORE_DOWN: 503,
}
"""HTTP status per kind of problem.

Any other is 400 if the request has not the form that the API's description gives it, and 422 if it has and a rule of the
Data Center refuses it.
"""


class ProblemEntry(msgspec.Struct):
    """One of the things that are wrong."""

    code: str
    attribute: Annotated[str | None, Meta(description="The attribute or identifier that it is about, if any.")]
    detail: str


class ProblemDetails(msgspec.Struct):
    """An error as RFC 9457 has it. `code` is for programs and never changes; `detail` is for people, in their language."""

    type: Annotated[str, Meta(extra_json_schema={"format": "uri"})]
    title: str
    status: int
    detail: str
    code: str
    request_id: Annotated[str, Meta(description="The X-Request-Id to quote when asking about it; the log has it too.")]
    problems: Annotated[
        list[ProblemEntry],
        Meta(
            description="All that is wrong; the first is the one above. At most 100, and a last one that says how many more"
            " there are."
        ),
    ]


def encode_problems(problems: Sequence[Problem], status: int, language: Language, request_id: str) -> bytes:
    """Problem details (`application/problem+json`) of a request refused with that HTTP status, for the first problem."""
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


def parameter_problem(name: str, expected: str) -> Problem:
    """A parameter that is not as it should be."""
    return Problem(ProblemKind.PARAMETER, None, {"name": excerpt(name), "expected": excerpt(expected, 200)})
