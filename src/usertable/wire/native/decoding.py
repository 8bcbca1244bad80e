"""Decoding the bytes of a request or an answer to a form, or to its problems."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, TypeVar, get_args
from urllib.parse import parse_qsl, urlencode

import msgspec

from usertable.domain.errors import Problem, Refused, phrase
from usertable.domain.phrases import Phrase, PhraseKind
from usertable.domain.schema import Rule
from usertable.domain.values import DataType
from usertable.wire.bodies import MAX_CONTAINERS, decode_object
from usertable.wire.messages import text
from usertable.wire.native.members import Flag
from usertable.wire.native.problem_details import parameter_problem

Body = TypeVar("Body")


def decode(body: bytes, form: type[Body]) -> Body:
    """Decode the body as `form`.

    Raises:
        Refused: it is not a JSON object, repeats a key, has an unknown member, one of the wrong type, or too many arrays and
            objects.
    """
    members = decode_object(body, MAX_CONTAINERS)
    if isinstance(members, Problem):
        raise Refused([members])
    return convert(_with_whole_numbers(members), form, strict=True, name="body")


def _with_whole_numbers(value: Any, depth: int = 4) -> Any:
    """Return `value` with 5.0 as 5: for JSON Schema that is an integer, and no body has a member with a fractional number.

    Only to the depth of a valid body: anything deeper is refused anyway.
    """
    if type(value) is dict and depth:
        return {name: _with_whole_numbers(member, depth - 1) for name, member in value.items()}
    if type(value) is list and depth:
        return [_with_whole_numbers(element, depth - 1) for element in value]
    if type(value) is Decimal and value.is_finite() and value.adjusted() < 20 and value == (whole := int(value)):
        return whole
    return value


def decode_query(query: bytes, form: type[Body]) -> Body:
    """Decode the parameters of a query (as it is in the URL) as `form`. Parameters of a list type may be repeated.

    Raises:
        Refused: it is not UTF-8, repeats a parameter, has an unknown one, or a value of the wrong form.
    """
    parameters: dict[str, Any] = {}
    lists = {f.encode_name for f in msgspec.structs.fields(form) if isinstance(f.default_factory, type)}  # type: ignore[arg-type]
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError as error:
        raise Refused([parameter_problem("query", Phrase(PhraseKind.PERCENT_ENCODED))]) from error
    for name, value in pairs:
        if name in lists:
            parameters.setdefault(name, []).append(value)
        elif name in parameters:
            raise Refused([parameter_problem(name, Phrase(PhraseKind.SINGLE_VALUE))])
        else:
            parameters[name] = value
    # Not strict, because a query contains only texts.
    return convert(parameters, form, strict=False, name="query")


def encode_query(query: msgspec.Struct) -> str:
    """Return the parameters of a query as in a URL, without those that have their defaults."""
    pairs: list[tuple[str, str]] = []
    for field in msgspec.structs.fields(query):
        value = getattr(query, field.name)
        if isinstance(value, list):
            pairs += [(field.encode_name, str(entry)) for entry in value]
        elif value != field.default:
            pairs.append((field.encode_name, str(value)))
    return urlencode(pairs)


def decode_document(content: bytes, form: type[Body]) -> Body:
    """Decode a document from a server, with exact numbers. Raises ValueError if it is not one."""
    members = decode_object(content)
    if isinstance(members, Problem):
        raise ValueError(text(members, "en"))
    try:
        return msgspec.convert(members, form)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error


def convert(members: dict[str, Any], form: type[Body], *, strict: bool, name: str) -> Body:
    """Convert decoded members to `form`. With `strict`, a text is not a number. Raises Refused; `name` names the members."""
    try:
        return msgspec.convert(members, form, strict=strict)
    except msgspec.ValidationError as error:
        raise Refused([_problem(str(error), name, form, {} if strict else members)]) from error


_ERROR = re.compile(r"(?P<what>.*?)(?: `(?P<field>[^`]*)`)?(?: - at `\$(?P<path>.*)`)?", re.DOTALL)
_TYPES = r"`(?P<types>[^`]+)`"
_EXPECTED = (
    (re.compile(rf"Expected {_TYPES}, got `(?P<found>[^`]+)`"), PhraseKind.OTHER_TYPE),
    (re.compile(rf"Expected {_TYPES} >= (?P<minimum>\S+)"), PhraseKind.AT_LEAST),
    (re.compile(rf"Expected {_TYPES} <= (?P<maximum>\S+)"), PhraseKind.AT_MOST),
    (re.compile(rf"Expected {_TYPES} of length >= (?P<minimum>\d+)"), PhraseKind.LENGTH_AT_LEAST),
    (re.compile(rf"Expected {_TYPES} of length <= (?P<maximum>\d+)"), PhraseKind.LENGTH_AT_MOST),
    (re.compile(rf"Expected {_TYPES} matching regex '(?P<pattern>.+)'", re.DOTALL), PhraseKind.MATCHING),
)
"""msgspec 0.22's messages about a value. It distinguishes errors only by their messages."""
_JSON_TYPES = {
    "int": PhraseKind.INTEGER,
    "float": PhraseKind.NUMBER,
    "decimal": PhraseKind.NUMBER,
    "str": PhraseKind.STRING,
    "bool": PhraseKind.BOOLEAN,
    "null": PhraseKind.NULL,
    "array": PhraseKind.ARRAY,
    "object": PhraseKind.OBJECT,
}
"""By msgspec's names of types."""
_CHOICES: dict[str, Phrase] = {
    "type": phrase(PhraseKind.ONE_OF, choices=tuple(DataType)),
    "rule": phrase(PhraseKind.ONE_OF, choices=tuple(Rule)),
    "status": phrase(PhraseKind.ONE_OF, choices=("visible", "hidden", "all")),
    "on_unknown": phrase(PhraseKind.ONE_OF, choices=("refuse", "register", "import")),
    "qps": phrase(PhraseKind.NUMBER_OR_UNLIMITED),
    "format": phrase(PhraseKind.ONE_OF, choices=("csv", "ndjson", "parquet")),
    "datetimes": phrase(PhraseKind.ONE_OF, choices=("local", "utc", "offset")),
    "numbers": phrase(PhraseKind.ONE_OF, choices=("auto", "decimal", "float")),
    "reports": phrase(PhraseKind.ONE_OF, choices=("different", "all")),
}
_FLAG = phrase(PhraseKind.ONE_OF, choices=get_args(Flag))


def _problem(error: str, name: str, form: type, query: dict[str, Any]) -> Problem:
    """Return the problem in msgspec's message: `Object contains unknown field `x` - at `$.a[0]``, and the like.

    Args:
        query: the parameters whose values may be quoted, because no URL has secrets. Empty for a body.
    """
    found = _ERROR.fullmatch(error)
    assert found
    what, field, path = found["what"], found["field"], (found["path"] or "").lstrip(".")
    inside = f"{path}." if path else ""
    if what == "Object contains unknown field":
        known = tuple(f.encode_name for f in msgspec.structs.fields(form)) if not path else ()
        choices = phrase(PhraseKind.ONE_OF, choices=known) if known else Phrase(PhraseKind.UNKNOWN_NAME)
        return parameter_problem(inside + field, choices)
    if what == "Object missing required field":
        return parameter_problem(inside + field, Phrase(PhraseKind.REQUIRED))
    if what.startswith("Invalid enum value"):
        return parameter_problem(path, _CHOICES.get(path.rpartition(".")[2], _FLAG), query.get(path))
    return parameter_problem(path or name, _expected(error.partition(" - at `")[0], path in query), query.get(path))


def _expected(message: str, is_quoted: bool) -> Phrase:
    """Return what a value should be, according to msgspec's message. If it is quoted, its type goes without saying."""
    for pattern, kind in _EXPECTED:
        if found := pattern.fullmatch(message):
            params: dict[str, Any] = found.groupdict()
            types = _types(params.pop("types"))
            if kind is PhraseKind.OTHER_TYPE and is_quoted and isinstance(types, Phrase):
                return types
            if kind is PhraseKind.OTHER_TYPE:
                return phrase(kind, expected=types, found=_types(params["found"]))
            return phrase(kind, type=types, **params)
    return phrase(PhraseKind.OTHER_FORM, detail=message)


def _types(names: str) -> Phrase | str:
    """Return the types in msgspec's notation, `int | null`, as JSON types."""
    types = [Phrase(_JSON_TYPES[name]) if name in _JSON_TYPES else name for name in names.split(" | ")]
    return types[0] if len(types) == 1 else phrase(PhraseKind.ONE_OF, choices=tuple(types))
