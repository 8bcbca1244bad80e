"""The platform's code for each kind of problem."""

from __future__ import annotations

from usertable.domain.errors import Kind

_BAD_PARAMETER = (40002, 400)
CODES: dict[Kind, tuple[int, int]] = {
    Kind.CREDENTIALS: (4009, 401),
    Kind.RATE_LIMITED: (4029, 429),
    Kind.NO_ROUTE: (40002, 404),
    Kind.NO_METHOD: (40002, 405),
    Kind.CONTENT_TYPE: (40002, 415),
    Kind.HTTP_VERSION: (40002, 505),
    Kind.HEAD_TOO_LARGE: (40002, 431),
    Kind.TRANSFER_CODING: (40002, 501),
    Kind.EXPECTATION: (40002, 417),
    Kind.BODY_TOO_LARGE: (40002, 413),
    Kind.BODY_CONTAINERS: (40002, 413),
    Kind.BODY_TIMEOUT: (40002, 408),
    Kind.CONTENT_CODING: (40002, 415),
    Kind.KEY_REUSED: (40002, 422),
    Kind.CUID_UNKNOWN: (40003, 400),
    Kind.CUID_MISSING: (40007, 400),
    Kind.VALUE_EMPTY: (40009, 400),
    Kind.ATTRIBUTE_UNKNOWN: (40010, 400),
    Kind.OVERLOADED: (-1, 503),
    Kind.STORE_DOWN: (-1, 503),
    Kind.INTERNAL: (-1, 500),
}
"""The platform's code and our HTTP status per kind of problem; any other kind is 40002 with 400."""


def code(kind: Kind) -> tuple[int, int]:
    """The platform's code and the HTTP status of a problem."""
    return CODES.get(kind, _BAD_PARAMETER)
