"""Values as the console shows them, and values for examples. Each can be copied into a request."""

from __future__ import annotations

import msgspec

from usertable.domain.schema import Attribute, Rule
from usertable.domain.values import DataType, Value, number_text

_SAMPLES: dict[DataType, object] = {
    DataType.NUMBER: 46.2,
    DataType.STRING: "example",
    DataType.BOOL: 1,
    DataType.DATETIME: "2023-12-12 00:56:23",
    DataType.LIST: ["example 1", "example 2"],
}


def value_text(value: Value) -> str:
    """Return a stored value in the API's notation: a BOOL is 0 or 1, a number has no exponent, a LIST is JSON."""
    match value:
        case str():
            return value
        case bool():
            return str(int(value))
        case list():
            return msgspec.json.encode(value).decode()
    return number_text(value)


def sample(attribute: Attribute) -> object:
    """Return an example value that the attribute accepts."""
    return 1 if attribute.rule is Rule.ACCUMULATE else _SAMPLES[attribute.type]


def sample_identifier_value(name: str) -> str:
    """Return an example value for an identifier with that name."""
    if "mail" in name:
        return "user@example.com"
    return "18012345678" if any(part in name for part in ("phone", "mobile", "tel")) else "user-1"
