"""The types of members. `extra_json_schema` only documents a rule: the domain checks it, with a better message."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from usertable.domain.identity import MAX_CUID, MAX_VALUE_CHARACTERS
from usertable.domain.permissions import PROJECT_SCOPES, ordered
from usertable.domain.person import MAX_EMAIL, MAX_NAME
from usertable.domain.schema import (
    MAX_HISTORY_DAYS,
    MAX_HISTORY_GIGABYTES,
    MAX_LIST_ELEMENT_BYTES,
    MAX_LIST_ELEMENTS,
    NAME_LENGTH,
    PRESET_PREFIX,
    TEXT_LENGTH,
)

MAX_REGISTERED = 1000
"""Maximum number of identifier values that are exchanged for CUIDs at once."""
Cuid = Annotated[int, Meta(ge=1, le=MAX_CUID, extra_json_schema={"format": "int64"})]
Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"}, description="RFC 3339, in UTC.")]
Name = Annotated[
    str,
    Meta(
        extra_json_schema={"pattern": f"^(?!{PRESET_PREFIX})[a-z][a-z0-9_]*$", "maxLength": NAME_LENGTH},
        description="Lowercase letters, digits, underscores; starts with a letter, not with"
        f" {PRESET_PREFIX}. It never changes.",
    ),
]
IdentifierName = Annotated[str, Meta(extra_json_schema={"pattern": "^[a-z][a-zA-Z0-9_]*$", "maxLength": NAME_LENGTH})]
"""Includes the names of presets."""
Text = Annotated[str, Meta(extra_json_schema={"maxLength": TEXT_LENGTH})]
Label = Annotated[
    str,
    Meta(
        extra_json_schema={"maxLength": TEXT_LENGTH, "pattern": r"^[^\x00-\x1f\x7f]*$"},
        description="Printable characters, on one line.",
    ),
]
ProjectId = Annotated[str, Meta(extra_json_schema={"pattern": r"^(?!\.{1,2}$)[A-Za-z0-9._-]{1,64}$"})]
ProjectName = Annotated[
    str,
    Meta(
        extra_json_schema={
            "minLength": 1,
            "maxLength": 200,
            "pattern": r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$",
        },
        description="Printable characters, not only spaces.",
    ),
]
Secret = Annotated[str, Meta(extra_json_schema={"pattern": "^[!-~]{1,128}$"})]
KeyName = Annotated[str, Meta(extra_json_schema={"pattern": r"^(?!\.{1,2}$)[A-Za-z0-9._-]{1,64}$"})]
KeyScope = Annotated[str, Meta(extra_json_schema={"enum": [str(scope) for scope in ordered(PROJECT_SCOPES)]})]
ProjectRole = Annotated[str, Meta(extra_json_schema={"enum": ["owner", "editor", "viewer"]})]
Email = Annotated[
    str,
    Meta(
        extra_json_schema={"pattern": r"^[^@\s/]+@[^@\s/:]+$", "maxLength": MAX_EMAIL},
        description="Case does not matter.",
        examples=["ann@example.com"],
    ),
]
PersonName = Annotated[
    str,
    Meta(
        extra_json_schema={"maxLength": MAX_NAME, "pattern": r"^[^\x00-\x1f\x7f]*$"},
        description="Printable characters, on one line.",
    ),
]
TimeZone = Annotated[
    str,
    Meta(
        extra_json_schema={"pattern": "^[A-Za-z0-9_+/-]+$"},
        description="An IANA name. DATETIME values are read and shown in it.",
        examples=["Asia/Shanghai"],
    ),
]
Qps = Annotated[int, Meta(extra_json_schema={"minimum": 1, "maximum": 1_000_000})] | Literal["unlimited"]
"""Requests per second and API."""
Elements = Annotated[
    int,
    Meta(
        extra_json_schema={"minimum": 1, "maximum": MAX_LIST_ELEMENTS}, description="Maximum number of elements of a LIST."
    ),
]
ElementBytes = Annotated[
    int,
    Meta(
        extra_json_schema={"minimum": 1, "maximum": MAX_LIST_ELEMENT_BYTES},
        description="Maximum bytes (UTF-8) of an element of a LIST.",
    ),
]
HistoryDays = Annotated[
    int,
    Meta(
        extra_json_schema={"minimum": 0, "maximum": MAX_HISTORY_DAYS},
        description="Days for which history is kept. 0: none is kept or recorded.",
    ),
]
HistoryGigabytes = Annotated[
    int,
    Meta(
        extra_json_schema={"minimum": 1, "maximum": MAX_HISTORY_GIGABYTES},
        description="Maximum size of the history, in 10^9 bytes. If it is exceeded, the oldest is removed before its days"
        " are over.",
    ),
]
HistoryReports = Annotated[
    Literal["different", "all"],
    Meta(
        description="Reports that change nothing: `different` records one only if another actor has sent the value;"
        " `all` records every one."
    ),
]
Values = Annotated[
    dict[str, Any],
    Meta(
        extra_json_schema={
            "additionalProperties": {
                "anyOf": [
                    {"type": ["number", "string", "boolean"]},
                    {"type": "array", "items": {"type": "string"}},
                ]
            }
        },
        description="By attribute: NUMBER an exact number, STRING a text, BOOL true or false, DATETIME"
        " `yyyy-MM-dd HH:mm:ss` in the project's zone, LIST an array of texts. Attributes without a value are omitted.",
    ),
]
IdentifierValue = Annotated[
    str, Meta(extra_json_schema={"minLength": 1, "maxLength": MAX_VALUE_CHARACTERS, "pattern": r"^[^\x00]*$"})
]


Flag = Literal["0", "1", "false", "true"]


def is_set(flag: Flag) -> bool:
    """Return whether a flag in a query is set."""
    return flag in ("1", "true")
