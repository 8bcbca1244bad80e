"""The bodies of the platform's requests."""

from __future__ import annotations

from usertable.dialects.base import RegisterRequest
from usertable.dialects.jiguang.vocabulary import MAX_IDENTITY_VALUES
from usertable.domain.errors import Problem, ProblemKind
from usertable.domain.identity import MAX_VALUE_CHARACTERS, is_identifier_value
from usertable.wire.bodies import MAX_CONTAINERS, decode_object
from usertable.wire.set_request import SetRequest, read_set


def decode_set(body: bytes) -> SetRequest:
    """Decode a PUT's body: `{"cuid": Long or string of digits, "data": {name: value, …}}`. Other members are ignored."""
    members = decode_object(body, MAX_CONTAINERS)
    if type(members) is Problem:
        return SetRequest(problems=[members])
    assert type(members) is dict
    request = SetRequest()
    read_set(members, request)
    return request


def decode_register(body: bytes) -> RegisterRequest:
    """Decode a Get CUID: `{"identityName": name, "identityValues": [1 to 100 strings of 1 to 256 characters]}`."""
    members = decode_object(body, MAX_CONTAINERS)
    if type(members) is Problem:
        return RegisterRequest(problems=[members])
    assert type(members) is dict
    request = RegisterRequest()
    name = members.get("identityName")
    if type(name) is str and name:
        request.name = name
    else:
        request.problems.append(Problem(ProblemKind.IDENTITY_NAME))
    values = members.get("identityValues")
    if type(values) is list and 1 <= len(values) <= MAX_IDENTITY_VALUES:
        request.values = values
        limit = str(MAX_VALUE_CHARACTERS)
        request.problems += [
            Problem(ProblemKind.IDENTITY_VALUE, None, {"place": str(place), "limit": limit})
            for place, value in enumerate(values, start=1)
            if not is_identifier_value(value)
        ]
    else:
        request.problems.append(Problem(ProblemKind.IDENTITY_VALUES, None, {"limit": str(MAX_IDENTITY_VALUES)}))
    return request
