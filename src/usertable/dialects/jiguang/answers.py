"""The platform's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import Any

import msgspec

from usertable.dialects.jiguang.codes import code
from usertable.domain.errors import Problem, bounded
from usertable.domain.profile import Outcome
from usertable.domain.schema import Schema
from usertable.domain.values import DataType, Value, show
from usertable.wire.messages import Language, text

OK = b'{"code":0,"msg":"ok"}'
"""The success answer, byte for byte."""

_encoder = msgspec.json.Encoder(decimal_format="number")


def encode_registered(values: Sequence[str], cuids: Sequence[int]) -> bytes:
    """Return the answer to a Get CUID: one entry per value, in the order sent."""
    data = [
        {"identityValues": value, "cuid": cuid, "errorCode": 0, "errorMsg": ""}
        for value, cuid in zip(values, cuids, strict=True)
    ]
    return _encoder.encode({"code": 0, "msg": "ok", "data": data})


def encode_refusal(problems: Sequence[Problem], language: Language, *, details: bool = False) -> tuple[int, bytes]:
    """Return HTTP status and body for a refused request: the first problem's code and text; all problems with `details`."""
    number, status = code(problems[0].kind)
    answer: dict[str, Any] = {"code": number, "msg": text(problems[0], language)}
    if details:
        answer["data"] = {
            "version": None,
            "change": None,
            "outcomes": {},
            "problems": [encode_problem(p, language) for p in bounded(problems)],
            "user": None,
        }
    return status, _encoder.encode(answer)


def encode_problem(problem: Problem, language: Language) -> dict[str, Any]:
    """Return one entry of a list of problems."""
    return {
        "code": code(problem.kind)[0],
        "kind": problem.kind.value,
        "attribute": problem.attribute,
        "msg": text(problem, language),
    }


def encode_representation(
    cuid: int,
    version: int,
    change: int | None,
    outcomes: Mapping[str, Outcome],
    attributes: Mapping[str, Value] | None,
    schema: Schema,
    zone: tzinfo,
) -> bytes:
    """Return the success answer with details: version, change, outcome per attribute, and the user's row if known."""
    user = None
    if attributes is not None:
        shown = {name: wire_value(value, schema, name, zone) for name, value in attributes.items()}
        user = {"cuid": cuid, "version": version, "attributes": shown}
    data: dict[str, object] = {"version": version, "change": change, "outcomes": outcomes, "problems": [], "user": user}
    return _encoder.encode({"code": 0, "msg": "ok", "data": data})


def wire_value(value: Value, schema: Schema, name: str, zone: tzinfo) -> Value:
    """Return a stored value in the wire's form: BOOL as 0 or 1, DATETIME as text in the project's zone."""
    if type(value) is bool:
        return int(value)
    attribute = schema.attributes.get(name)
    return show(value, attribute.type if attribute else DataType.STRING, zone)
