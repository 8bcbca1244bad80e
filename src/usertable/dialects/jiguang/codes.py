"""The platform's code for each kind of problem."""

from __future__ import annotations

from usertable.domain.errors import ProblemKind

_BAD_PARAMETER = (40002, 400)
CODES: dict[ProblemKind, tuple[int, int]] = {
    ProblemKind.CREDENTIALS: (4009, 401),
    ProblemKind.FORBIDDEN: (4009, 403),
    ProblemKind.RATE_LIMITED: (4029, 429),
    ProblemKind.NO_ROUTE: (40002, 404),
    ProblemKind.NO_METHOD: (40002, 405),
    ProblemKind.CONTENT_TYPE: (40002, 415),
    ProblemKind.HTTP_VERSION: (40002, 505),
    ProblemKind.HEAD_TOO_LARGE: (40002, 431),
    ProblemKind.TRANSFER_CODING: (40002, 501),
    ProblemKind.EXPECTATION: (40002, 417),
    ProblemKind.BODY_TOO_LARGE: (40002, 413),
    ProblemKind.BODY_CONTAINERS: (40002, 413),
    ProblemKind.BODY_TIMEOUT: (40002, 408),
    ProblemKind.CONTENT_CODING: (40002, 415),
    ProblemKind.KEY_REUSED: (40002, 422),
    ProblemKind.CUID_UNKNOWN: (40003, 400),
    ProblemKind.CUID_MISSING: (40007, 400),
    ProblemKind.VALUE_EMPTY: (40009, 400),
    ProblemKind.ATTRIBUTE_UNKNOWN: (40010, 400),
    ProblemKind.OVERLOADED: (-1, 503),
    ProblemKind.STORE_DOWN: (-1, 503),
    ProblemKind.INTERNAL: (-1, 500),
}
"""The platform's code and usertable's HTTP status for each kind of problem. Any other kind is 40002 with 400."""


def code(kind: ProblemKind) -> tuple[int, int]:
    """Return the platform's code and the HTTP status of a problem."""
    return CODES.get(kind, _BAD_PARAMETER)
