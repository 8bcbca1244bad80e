"""The types of members. What stands in `extra_json_schema` is only described here: the domain checks it, and says more."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from usertable.domain.identity import MAX_CUID, MAX_VALUE_CHARACTERS
from usertable.domain.schema import MAX_LIST_ELEMENT_BYTES, MAX_LIST_ELEMENTS, NAME_LENGTH, PRESET_PREFIX, TEXT_LENGTH

MAX_REGISTERED = 1000
"""Maximum number of an identifier's values that are exchanged for CUIDs at once."""
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
"""Also of a preset."""
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
    int, Meta(extra_json_schema={"minimum": 1, "maximum": MAX_LIST_ELEMENTS}, description="Of a LIST: elements at most.")
]
ElementBytes = Annotated[
    int,
    Meta(
        extra_json_schema={"minimum": 1, "maximum": MAX_LIST_ELEMENT_BYTES},
        description="Of a LIST: bytes (UTF-8) of an element at most.",
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
        " `yyyy-MM-dd HH:mm:ss` in the project's zone, LIST an array of texts. One without a value is left out.",
    ),
]
IdentifierValue = Annotated[
    str, Meta(extra_json_schema={"minLength": 1, "maxLength": MAX_VALUE_CHARACTERS, "pattern": r"^[^\x00]*$"})
]


Flag = Literal["0", "1", "false", "true"]


def is_set(flag: Flag) -> bool:
    """Whether a flag of a query says yes."""
    return flag in ("1", "true")
