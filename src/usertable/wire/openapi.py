"""Parts of OpenAPI documents that the native API and the dialects share."""

from __future__ import annotations

from typing import Any

from usertable.domain.errors import ProblemKind

Json = dict[str, Any]

TEXT: Json = {"type": "string"}
COUNT: Json = {"type": "integer", "minimum": 0}
RATE_LIMIT = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
"""Headers of an answer to a caller with a rate limit."""
BODY_PROBLEMS = (
    *(ProblemKind.CONTENT_TYPE, ProblemKind.CONTENT_CODING, ProblemKind.BODY_TOO_LARGE),
    *(ProblemKind.BODY_NOT_JSON, ProblemKind.BODY_NOT_OBJECT, ProblemKind.BODY_CONTAINERS, ProblemKind.DUPLICATE_KEY),
)
FAILURES = (ProblemKind.INTERNAL, ProblemKind.OVERLOADED, ProblemKind.STORE_DOWN)


def ref(section: str, name: str) -> Json:
    return {"$ref": f"#/components/{section}/{name}"}


def answer_headers(*names: str) -> Json:
    return {name: ref("headers", name) for name in ("X-Request-Id", *names)}


def content(schema: Json, media_type: str = "application/json") -> Json:
    return {media_type: {"schema": schema}}
