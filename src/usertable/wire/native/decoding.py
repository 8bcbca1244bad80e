"""From the bytes of a request or an answer to its form, or to what is wrong with it."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, TypeVar, get_args
from urllib.parse import parse_qsl, urlencode

import msgspec

from usertable.domain.errors import Problem, Refused
from usertable.domain.schema import Rule
from usertable.domain.values import DataType
from usertable.wire.bodies import MAX_CONTAINERS, decode_object
from usertable.wire.messages import text
from usertable.wire.native.members import Flag
from usertable.wire.native.problem_details import parameter_problem

Body = TypeVar("Body")


def decode(body: bytes, form: type[Body]) -> Body:
    """The body as `form`.

    Raises:
        Refused: it is no JSON object, repeats a key, has an unknown member, one of the wrong type, or too many arrays and
            objects.
    """
    members = decode_object(body, MAX_CONTAINERS)
    if isinstance(members, Problem):
        raise Refused([members])
    return convert(_with_whole_numbers(members), form, strict=True, name="body")


def _with_whole_numbers(value: Any, depth: int = 4) -> Any:
    """`value` with 5.0 as 5: to JSON Schema that is an integer, and no body has a member that is a broken number.

    Only as deep as bodies are: what is deeper is refused anyway.
    """
    if type(value) is dict and depth:
        return {name: _with_whole_numbers(member, depth - 1) for name, member in value.items()}
    if type(value) is list and depth:
        return [_with_whole_numbers(element, depth - 1) for element in value]
    if type(value) is Decimal and value.is_finite() and value.adjusted() < 20 and value == (whole := int(value)):
        return whole
    return value


def decode_query(query: bytes, form: type[Body]) -> Body:
    """The parameters of a query (as it stands in the URL) as `form`; those of a list type may be repeated.

    Raises:
        Refused: it is not UTF-8, repeats a parameter, has an unknown one, or a value of the wrong form.
    """
    parameters: dict[str, Any] = {}
    lists = {f.encode_name for f in msgspec.structs.fields(form) if isinstance(f.default_factory, type)}  # type: ignore[arg-type]
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError as error:
        raise Refused([parameter_problem("query", "percent-encoded UTF-8")]) from error
    for name, value in pairs:
        if name in lists:
            parameters.setdefault(name, []).append(value)
        elif name in parameters:
            raise Refused([parameter_problem(name, "one value")])
        else:
            parameters[name] = value
    # Not strict: a query has nothing but texts.
    return convert(parameters, form, strict=False, name="query")


def encode_query(query: msgspec.Struct) -> str:
    """The parameters of a query as they stand in a URL, without those that have their defaults."""
    pairs: list[tuple[str, str]] = []
    for field in msgspec.structs.fields(query):
        value = getattr(query, field.name)
        if isinstance(value, list):
            pairs += [(field.encode_name, str(entry)) for entry in value]
        elif value != field.default:
            pairs.append((field.encode_name, str(value)))
    return urlencode(pairs)


def decode_document(content: bytes, form: type[Body]) -> Body:
    """A document that a server answers, numbers exact. Raises ValueError if it is none."""
    members = decode_object(content)
    if isinstance(members, Problem):
        raise ValueError(text(members, "en"))
    try:
        return msgspec.convert(members, form)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error


def convert(members: dict[str, Any], form: type[Body], *, strict: bool, name: str) -> Body:
    """Decoded members as `form`; with `strict`, a text is no number. Raises Refused; `name` is what they are called."""
    try:
        return msgspec.convert(members, form, strict=strict)
    except msgspec.ValidationError as error:
        raise Refused([_problem(str(error), name, form)]) from error


_ERROR = re.compile(r"(?P<what>.*?)(?: `(?P<field>[^`]*)`)?(?: - at `\$(?P<path>.*)`)?", re.DOTALL)
_CHOICES = {"type": DataType, "rule": Rule, "status": ("visible", "hidden", "all"), "qps": ("a number", "unlimited")}


def _problem(error: str, name: str, form: type) -> Problem:
    """The problem that msgspec tells of: `Object contains unknown field `x` - at `$.a[0]``, and the like."""
    found = _ERROR.fullmatch(error)
    assert found
    what, field, path = found["what"], found["field"], (found["path"] or "").lstrip(".")
    inside = f"{path}." if path else ""
    if what == "Object contains unknown field":
        known = ", ".join(f.encode_name for f in msgspec.structs.fields(form)) if not path else ""
        return parameter_problem(inside + field, f"one of {known}" if known else "nothing of that name")
    if what == "Object missing required field":
        return parameter_problem(inside + field, "a value, but it is missing")
    if what.startswith("Invalid enum value"):
        choices = _CHOICES.get(path.rpartition(".")[2], get_args(Flag))
        return parameter_problem(path, f"one of {', '.join(choices)}")
    return parameter_problem(path or name, error.partition(" - at `")[0].removeprefix("Expected "))
