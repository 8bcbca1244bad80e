"""Parts of OpenAPI documents that the native API and the dialects have in common."""

from __future__ import annotations

from typing import Any

from usertable.domain.errors import Kind

Json = dict[str, Any]

TEXT: Json = {"type": "string"}
COUNT: Json = {"type": "integer", "minimum": 0}
RATE_LIMIT = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
"""Headers of an answer to a caller that is limited."""
BODY_PROBLEMS = (
    *(Kind.CONTENT_TYPE, Kind.CONTENT_CODING, Kind.BODY_TOO_LARGE),
    *(Kind.BODY_NOT_JSON, Kind.BODY_NOT_OBJECT, Kind.BODY_CONTAINERS, Kind.DUPLICATE_KEY),
)
FAILURES = (Kind.INTERNAL, Kind.OVERLOADED, Kind.STORE_DOWN)


def ref(section: str, name: str) -> Json:
    return {"$ref": f"#/components/{section}/{name}"}


def answer_headers(*names: str) -> Json:
    return {name: ref("headers", name) for name in ("X-Request-Id", *names)}


def content(schema: Json, media_type: str = "application/json") -> Json:
    return {media_type: {"schema": schema}}
