"""Problems (invalid input, as values) and failures (not possible now, as exceptions).

The exception tree::

    UsertableError
    ├── Refused            a use case other than a write was refused; carries its problems
    ├── Unavailable        the request is valid; retry later
    │   ├── Overloaded     the queue of waiting writes is full, or the server is shutting down
    │   └── StoreDown      the store cannot be reached, is locked, or has no space left
    └── StoreFault         the store cannot be used at all: not a usertable store, too new, in use, or not writable
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from usertable.domain.phrases import Param, Phrase, PhraseKind

MAX_PROBLEMS = 100
"""Maximum number of problems reported for a record or request. One more says how many there are besides."""

MAX_LISTED = 50
"""Maximum number of members of a list in a text; an ellipsis stands for the others."""

_NO_PARAMS: Mapping[str, Param] = {}


class ProblemKind(StrEnum):
    """What can be wrong with a request. The texts are in :mod:`usertable.wire.catalogue`."""

    # the request as a whole
    CREDENTIALS = "credentials"
    FORBIDDEN = "forbidden"
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
    KEY_UNKNOWN = "key_unknown"
    KEY_NAME = "key_name"
    KEY_EXISTS = "key_exists"
    KEY_EXPIRY = "key_expiry"
    KEY_REVOKED = "key_revoked"
    KEY_SECRET = "key_secret"
    LAST_KEY = "last_key"
    SCOPE = "scope"
    SCOPE_EXCEEDED = "scope_exceeded"
    OVERLAP = "overlap"
    TOO_MANY_KEYS = "too_many_keys"
    TOO_MANY_OWN_SECRETS = "too_many_own_secrets"
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
    HISTORY_OFF = "history_off"
    HISTORY_GONE = "history_gone"
    HISTORY_GAP = "history_gap"
    ATTRIBUTE_NOT_KEPT = "attribute_not_kept"
    MOMENT_AHEAD = "moment_ahead"
    MOMENT_SKIPPED = "moment_skipped"
    USER_NOT_YET = "user_not_yet"
    SCHEMA_FILE = "schema_file"
    # people
    EMAIL = "email"
    PERSON_NAME = "person_name"
    PERSON_UNKNOWN = "person_unknown"
    PERSON_EXISTS = "person_exists"
    NOT_FIRST = "not_first"
    LAST_ADMIN = "last_admin"
    ROLE = "role"
    PASSWORD = "password"
    PASSWORD_WRONG = "password_wrong"
    LINK_OVER = "link_over"
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
    """One thing that is wrong: what (`kind`), where (`attribute`), and the parameters of its text.

    `params` are names, values and phrases, never sentences. They contain at most an excerpt of what was sent::

        Problem(ProblemKind.PARAMETER, None, {"name": "dryRun", "expected": Phrase(PhraseKind.ZERO_OR_ONE)})
    """

    kind: ProblemKind
    attribute: str | None = None
    params: Mapping[str, Param] = field(default_factory=lambda: _NO_PARAMS)


def bounded(problems: Sequence[Problem], maximum: int = MAX_PROBLEMS, *, more: int = 0) -> list[Problem]:
    """Return the first `maximum` problems, and one that says how many more there are: the rest of the list, and `more`."""
    kept = [problem for problem in problems if problem.kind is not ProblemKind.MORE_PROBLEMS]
    more += sum(int(str(problem.params["count"])) for problem in problems if problem.kind is ProblemKind.MORE_PROBLEMS)
    more += max(0, len(kept) - maximum)
    return kept[:maximum] + ([Problem(ProblemKind.MORE_PROBLEMS, None, {"count": str(more)})] if more else [])


def excerpt(value: object, limit: int = 60) -> str:
    """Return `value` as a short, single-line text for a message."""
    text = str(value) if isinstance(value, str) else _json_like(value, limit)
    if len(text) <= limit and text.isprintable():
        return text
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: limit + 1])
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _json_like(value: object, limit: int) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        # Python refuses to print integers of more than a few thousand digits.
        return str(value) if value.bit_length() < 1024 else _json_like(+Decimal(value), limit)
    if isinstance(value, list):
        # Nested values are not formatted: they may be nested hundreds of levels deep.
        shown = ["[…]" if v and isinstance(v, list) else excerpt(v, limit) for v in value[:4]]
        return "[" + ", ".join(shown) + (", …" if len(value) > 4 else "") + "]"
    if isinstance(value, dict):
        return "{…}" if value else "{}"
    if type(value) is Decimal:
        # As JSON is usually written: Decimal turns 1e400 into 1E+400.
        return str(value).replace("E+", "e").replace("E-", "e-")
    return str(value)


class UsertableError(Exception):
    """Base class of the exceptions that usertable raises."""


class Refused(UsertableError):
    """The request was understood and refused; nothing was changed. Has at most :data:`MAX_PROBLEMS` problems."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(bounded(list(problems)))
        super().__init__("; ".join(f"{p.kind}({p.attribute or ''} {dict(p.params)})" for p in self.problems))


class ProjectChanged(Refused):
    """The change was based on an earlier version of the project; nothing was changed."""

    def __init__(self, version: int, now: int) -> None:
        super().__init__([Problem(ProblemKind.PROJECT_CHANGED, None, {"version": str(version), "now": str(now)})])


class Unavailable(UsertableError):
    """The request is valid, but cannot be done now. The caller should retry."""


class Overloaded(Unavailable):
    """The queue of waiting writes is full, or the server is shutting down."""


class StoreDown(Unavailable):
    """The store cannot be reached, stays locked, or has no space left. The message is for the operator."""


class StoreFault(UsertableError):
    """The store cannot be used. The message says why, and what to do."""


class StoreMissing(StoreFault):
    """The store does not exist, and was not to be created."""


def refusal(kind: ProblemKind, attribute: str | None = None, **params: object) -> Refused:
    """Return a :class:`Refused` with one problem. Parameters are handled as in :func:`phrase`."""
    return Refused([Problem(kind, attribute, {name: _param(value, 60) for name, value in params.items()})])


def phrase(kind: PhraseKind, **params: object) -> Phrase:
    """Return a phrase. Names and values are shortened to an excerpt; a tuple becomes a list of them."""
    return Phrase(kind, {name: _param(value, 300) for name, value in params.items()})


def _param(value: object, limit: int) -> Param:
    if isinstance(value, Phrase):
        return value
    if isinstance(value, tuple):
        members = [each if isinstance(each, Phrase) else excerpt(each, limit) for each in value[:MAX_LISTED]]
        return tuple([*members, "…"] if len(value) > MAX_LISTED else members)
    return excerpt(value, limit)


def other_value(expected: Phrase, value: str) -> Phrase:
    """Return the phrase that says what was expected, and what was sent instead."""
    return Phrase(PhraseKind.OTHER_VALUE, {"expected": expected, "value": excerpt(value)})


def check_all(*checks: Callable[[], object]) -> None:
    """Run every check, each of which may raise Refused. Then raise one Refused with all their problems."""
    problems: list[Problem] = []
    for check in checks:
        try:
            check()
        except Refused as refused:
            problems += refused.problems
    if problems:
        raise Refused(problems)
