"""The platform's endpoints: `PUT /smartop/api/v1/user/attribute` and `POST /smartop/api/v1/user/register`.

Sources: the platform's API documents for fields, codes and limits. HTTP statuses, 4029 and the extras are ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any

import msgspec

from usertable.domain.errors import Kind, Problem, bounded
from usertable.domain.identity import MAX_VALUE_CHARACTERS, is_identifier_value, malformed_cuid
from usertable.domain.profile import Outcome
from usertable.domain.schema import Schema
from usertable.domain.values import DataType, Value, show
from usertable.wire.bodies import MAX_CONTAINERS, decode_object
from usertable.wire.messages import Language, text

OK = b'{"code":0,"msg":"ok"}'
"""The success answer, byte for byte."""
MAX_IDENTITY_VALUES = 100

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

_DIGITS = re.compile(r"0|-?[1-9][0-9]{0,19}")
_encoder = msgspec.json.Encoder(decimal_format="number")


def code(kind: Kind) -> tuple[int, int]:
    """The platform's code and the HTTP status of a problem."""
    return CODES.get(kind, _BAD_PARAMETER)


@dataclass(slots=True)
class SetRequest:
    """A decoded PUT: what could be read of it, and what is wrong with its form."""

    cuid: int | None = None
    data: dict[str, Any] | None = None
    problems: list[Problem] = field(default_factory=list)


def decode_set(body: bytes) -> SetRequest:
    """The body of a PUT: `{"cuid": Long or string of digits, "data": {name: value, …}}`; other members are ignored."""
    members = decode_object(body, MAX_CONTAINERS)
    if type(members) is Problem:
        return SetRequest(problems=[members])
    assert type(members) is dict
    request = SetRequest()
    read_set(members, request)
    return request


def read_set(members: dict[str, Any], request: SetRequest) -> None:
    """Fill `request` with what a PUT's members, or a batch's record's, say of `cuid` and `data`."""
    data = members.get("data")
    if type(data) is dict and data:
        request.data = data
    else:
        kind = Kind.DATA_MISSING if "data" not in members else Kind.DATA_EMPTY if data == {} else Kind.DATA_NOT_OBJECT
        request.problems.append(Problem(kind))
    cuid = members.get("cuid")
    if cuid is None or cuid == "":
        request.problems.append(Problem(Kind.CUID_MISSING))
        return
    if type(cuid) is str and _DIGITS.fullmatch(cuid):
        cuid = int(cuid)
    if type(cuid) is int and -(2**63) <= cuid < 2**63:
        request.cuid = cuid
    else:
        request.problems.append(malformed_cuid(cuid))


@dataclass(slots=True)
class RegisterRequest:
    """A decoded Get CUID: the identifier's name and the values, or what is wrong."""

    name: str = ""
    values: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def decode_register(body: bytes) -> RegisterRequest:
    """The body of a Get CUID: `{"identityName": name, "identityValues": [1 to 100 strings of 1 to 256 characters]}`."""
    members = decode_object(body, MAX_CONTAINERS)
    if type(members) is Problem:
        return RegisterRequest(problems=[members])
    assert type(members) is dict
    request = RegisterRequest()
    name = members.get("identityName")
    if type(name) is str and name:
        request.name = name
    else:
        request.problems.append(Problem(Kind.IDENTITY_NAME))
    values = members.get("identityValues")
    if type(values) is list and 1 <= len(values) <= MAX_IDENTITY_VALUES:
        request.values = values
        limit = str(MAX_VALUE_CHARACTERS)
        request.problems += [
            Problem(Kind.IDENTITY_VALUE, None, {"place": str(place), "limit": limit})
            for place, value in enumerate(values, start=1)
            if not is_identifier_value(value)
        ]
    else:
        request.problems.append(Problem(Kind.IDENTITY_VALUES, None, {"limit": str(MAX_IDENTITY_VALUES)}))
    return request


def encode_registered(values: Sequence[str], cuids: Sequence[int]) -> bytes:
    """The answer of a Get CUID: one entry per value, in the order sent."""
    data = [
        {"identityValues": value, "cuid": cuid, "errorCode": 0, "errorMsg": ""}
        for value, cuid in zip(values, cuids, strict=True)
    ]
    return _encoder.encode({"code": 0, "msg": "ok", "data": data})


def encode_refusal(problems: Sequence[Problem], language: Language, *, details: bool = False) -> tuple[int, bytes]:
    """HTTP status and body for a refused request: the first problem's code and text; all of them with `details`."""
    number, status = code(problems[0].kind)
    answer: dict[str, Any] = {"code": number, "msg": text(problems[0], language)}
    if details:
        answer["data"] = {
            "version": None,
            "outcomes": {},
            "problems": [encode_problem(p, language) for p in bounded(problems)],
            "user": None,
        }
    return status, _encoder.encode(answer)


def encode_problem(problem: Problem, language: Language) -> dict[str, Any]:
    """One entry of a list of problems."""
    return {
        "code": code(problem.kind)[0],
        "kind": problem.kind.value,
        "attribute": problem.attribute,
        "msg": text(problem, language),
    }


def encode_representation(
    cuid: int,
    version: int,
    outcomes: Mapping[str, Outcome],
    attributes: Mapping[str, Value] | None,
    schema: Schema,
    zone: tzinfo,
) -> bytes:
    """The success answer for those who ask for more: version, outcome per attribute, and the user's row if known."""
    user = None
    if attributes is not None:
        shown = {name: wire_value(value, schema, name, zone) for name, value in attributes.items()}
        user = {"cuid": cuid, "version": version, "attributes": shown}
    data = {"version": version, "outcomes": outcomes, "problems": [], "user": user}
    return _encoder.encode({"code": 0, "msg": "ok", "data": data})


def wire_value(value: Value, schema: Schema, name: str, zone: tzinfo) -> Value:
    """A stored value as the wire shows it: BOOL as 0 or 1, DATETIME as text in the project's zone."""
    if type(value) is bool:
        return int(value)
    attribute = schema.attributes.get(name)
    return show(value, attribute.type if attribute else DataType.STRING, zone)
