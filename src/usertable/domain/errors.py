"""Problems (bad input, as values) and failures (cannot do it now, as exceptions).

The exception tree::

    UsertableError
    ├── Refused            a use case other than a write was refused; carries its problems
    ├── Unavailable        nothing is wrong with the request; retry later
    │   ├── Overloaded     the queue of waiting writes is full, or the server is shutting down
    │   └── StoreDown      the store cannot be reached, is locked, or has no space left
    └── StoreFault         the store cannot be used at all: not ours, too new, already served, unwritable
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

MAX_PROBLEMS = 100
"""Maximum number of problems told of a record or request; one more says how many there are besides."""

_NO_PARAMS: Mapping[str, str] = {}
_OWN_WORDS = ("expected", "have", "legal", "hint", "reason")


class ProblemKind(StrEnum):
    """What can be wrong with a request. The texts are in :mod:`usertable.wire.messages`."""

    # the request as a whole
    CREDENTIALS = "credentials"
    ADMIN_ONLY = "admin_only"
    METRICS_ONLY = "metrics_only"
    RATE_LIMITED = "rate_limited"
    NO_ROUTE = "no_route"
    NO_METHOD = "no_method"
    NOT_HTTP = "not_http"
    HTTP_VERSION = "http_version"
    HEAD_TOO_LARGE = "head_too_large"
    HEADER_REPEATED = "header_repeated"
    HOST = "host"
    TRANSFER_CODING = "transfer_coding"
    EXPECTATION = "expectation"
    CONTENT_TYPE = "content_type"
    BODY_TOO_LARGE = "body_too_large"
    BODY_TIMEOUT = "body_timeout"
    CONTENT_CODING = "content_coding"
    BODY_BROKEN = "body_broken"
    BODY_NOT_JSON = "body_not_json"
    BODY_NOT_OBJECT = "body_not_object"
    BODY_VALUES = "body_values"
    BODY_CONTAINERS = "body_containers"
    DUPLICATE_KEY = "duplicate_key"
    PARAMETER = "parameter"
    KEY_MALFORMED = "key_malformed"
    KEY_REUSED = "key_reused"
    OVERLOADED = "overloaded"
    STORE_DOWN = "store_down"
    INTERNAL = "internal"
    MORE_PROBLEMS = "more_problems"
    # setting attributes
    DATA_MISSING = "data_missing"
    DATA_NOT_OBJECT = "data_not_object"
    DATA_EMPTY = "data_empty"
    DATA_LENGTH = "data_length"
    CUID_MISSING = "cuid_missing"
    CUID_MALFORMED = "cuid_malformed"
    CUID_UNKNOWN = "cuid_unknown"
    ATTRIBUTE_UNKNOWN = "attribute_unknown"
    VALUE_EMPTY = "value_empty"
    VALUE_TYPE = "value_type"
    NUMBER_RANGE = "number_range"
    STRING_LENGTH = "string_length"
    STRING_CHARACTER = "string_character"
    DATETIME_SKIPPED = "datetime_skipped"
    LIST_LENGTH = "list_length"
    LIST_ELEMENT_LENGTH = "list_element_length"
    ACCUMULATE_RANGE = "accumulate_range"
    APPEND_LENGTH = "append_length"
    ROW_LENGTH = "row_length"
    # get CUID
    IDENTITY_NAME = "identity_name"
    IDENTITY_VALUES = "identity_values"
    IDENTITY_VALUE = "identity_value"
    IDENTIFIER_UNKNOWN = "identifier_unknown"
    IDENTIFIER_NOT_UNIQUE = "identifier_not_unique"
    IDENTIFIER_NOT_FIRST = "identifier_not_first"
    # the Data Center
    PROJECT_UNKNOWN = "project_unknown"
    PROJECT_EXISTS = "project_exists"
    PROJECT_CHANGED = "project_changed"
    PROJECT_ID = "project_id"
    PROJECT_NAME = "project_name"
    SECRET = "secret"
    TIMEZONE = "timezone"
    QPS = "qps"
    NAME_FORM = "name_form"
    NAME_PRESET = "name_preset"
    NAME_TAKEN = "name_taken"
    TOO_MANY_ATTRIBUTES = "too_many_attributes"
    RULE_ILLEGAL = "rule_illegal"
    LIMIT_ILLEGAL = "limit_illegal"
    TEXT_TOO_LONG = "text_too_long"
    ATTRIBUTE_IN_USE = "attribute_in_use"
    ATTRIBUTE_FIXED = "attribute_fixed"
    IDENTIFIER_PRESET = "identifier_preset"
    IDENTIFIER_IN_USE = "identifier_in_use"
    IDENTIFIER_ORDER = "identifier_order"
    IDENTIFIER_TAKEN = "identifier_taken"
    CUID_EXISTS = "cuid_exists"
    CUID_ERASED = "cuid_erased"
    CONDITION = "condition"
    SCHEMA_FILE = "schema_file"
    # import and export
    IDENTIFIER_FULL = "identifier_full"
    USER_UNNAMED = "user_unnamed"
    ROW_FORM = "row_form"
    COLUMN = "column"
    IMPORT_FILE = "import_file"
    PARQUET_LIBRARY = "parquet_library"
    IMPORT_JOB = "import_job"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: what (`kind`), where (`attribute`), and the parameters that its text names.

    `params` are already fit to be shown: they never hold more than an excerpt of what was sent.
    """

    kind: ProblemKind
    attribute: str | None = None
    params: Mapping[str, str] = field(default_factory=lambda: _NO_PARAMS)


def bounded(problems: Sequence[Problem], maximum: int = MAX_PROBLEMS, *, more: int = 0) -> list[Problem]:
    """The first `maximum` problems, and one that says how many there are besides, of which `more` are not in the list."""
    kept = [problem for problem in problems if problem.kind is not ProblemKind.MORE_PROBLEMS]
    more += sum(int(problem.params["count"]) for problem in problems if problem.kind is ProblemKind.MORE_PROBLEMS)
    more += max(0, len(kept) - maximum)
    return kept[:maximum] + ([Problem(ProblemKind.MORE_PROBLEMS, None, {"count": str(more)})] if more else [])


def excerpt(value: object, limit: int = 60) -> str:
    """`value` as a short, single-line text for a message."""
    text = value if isinstance(value, str) else _json_like(value, limit)
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: limit + 1])
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _json_like(value: object, limit: int) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        # Python refuses to print integers of more than some thousand digits.
        return str(value) if value.bit_length() < 1024 else "a number of more than 300 digits"
    if isinstance(value, list):
        # What is nested is not looked into: it may be so by hundreds of levels.
        shown = ["[…]" if v and isinstance(v, list) else excerpt(v, limit) for v in value[:4]]
        return "[" + ", ".join(shown) + (", …" if len(value) > 4 else "") + "]"
    if isinstance(value, dict):
        return "{…}" if value else "{}"
    if type(value) is Decimal:
        # As JSON is usually written: Decimal turns 1e400 into 1E+400.
        return str(value).replace("E+", "e").replace("E-", "e-")
    return str(value)


class UsertableError(Exception):
    """Everything that usertable raises on purpose."""


class Refused(UsertableError):
    """The request was understood and refused; nothing was changed. It tells no more than :data:`MAX_PROBLEMS`."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(bounded(list(problems)))
        super().__init__("; ".join(f"{p.kind}({p.attribute or ''} {dict(p.params)})" for p in self.problems))


class ProjectChanged(Refused):
    """A change was made for an earlier version of the project; nothing was changed."""

    def __init__(self, version: int, now: int) -> None:
        super().__init__([Problem(ProblemKind.PROJECT_CHANGED, None, {"version": str(version), "now": str(now)})])


class Unavailable(UsertableError):
    """Nothing is wrong with the request, but it cannot be done now. Retrying is right."""


class Overloaded(Unavailable):
    """More writes wait than the queue holds, or the server is shutting down."""


class StoreDown(Unavailable):
    """The store cannot be reached, stays locked, or has no space left. The message is for the operator."""


class StoreFault(UsertableError):
    """The store cannot be used: the message says why and what would be right."""


class StoreMissing(StoreFault):
    """There is no store, and none was to be made."""


def refusal(kind: ProblemKind, attribute: str | None = None, **params: object) -> Refused:
    """A :class:`Refused` with one problem. Of what was sent only an excerpt is kept; our own words are kept whole."""
    return Refused([Problem(kind, attribute, {k: excerpt(v, 2000 if k in _OWN_WORDS else 60) for k, v in params.items()})])


def check_all(*checks: Callable[[], object]) -> None:
    """Make every check, each of which may raise Refused; then raise one Refused with all that they found."""
    problems: list[Problem] = []
    for check in checks:
        try:
            check()
        except Refused as refused:
            problems += refused.problems
    if problems:
        raise Refused(problems)
