"""Batches: up to 1,000 records in one body, and an answer for each, with the platform's codes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from usertable.domain.errors import MAX_PROBLEMS, Overloaded, Problem, ProblemKind, Refused, Unavailable, bounded, phrase
from usertable.domain.identity import MAX_VALUE_CHARACTERS, is_identifier_value
from usertable.domain.phrases import Phrase, PhraseKind
from usertable.domain.profile import Effect, Outcome
from usertable.store.records import KeyReused, Receipt, Refusal, Replayed, Result, Written
from usertable.wire.bodies import decode_object
from usertable.wire.elements import holds_more_values, split_array
from usertable.wire.messages import Language, text
from usertable.wire.native import decoding, members, problem_details
from usertable.wire.set_request import SetRequest, read_set

Code = Callable[[ProblemKind], tuple[int, int]]
"""Returns the code of a problem, and an HTTP status."""
MAX_RECORDS = 1000
MAX_VALUES = 1_200_000
"""Maximum number of values in a batch, including those inside arrays and objects."""
MAX_BATCH_PROBLEMS = 10_000
"""Maximum number of problems reported for all records of a batch. After that, one per record, and how many more it has."""
SMALL_BYTES = 1_048_576
SMALL_VALUES = 50_000
"""Maximum bytes and values of a small batch, which is decoded at once, concurrently with any number of others."""
HUGE_VALUES = 500_000
"""A batch with more values is huge: only one such batch is decoded at a time."""
RETRY_SECONDS = 1
_MEMBERS = ("cuid", "identity", "identifiers", "data", "key")
_KEY_FORM = phrase(PhraseKind.VISIBLE_ASCII, maximum=255)

# A number that Decimal cannot represent is hashed as it was sent.
_encoder = msgspec.json.Encoder(decimal_format="number", order="deterministic", enc_hook=str)


class BatchIdentity(msgspec.Struct):
    """A user, by an identifier value. Compared exactly."""

    name: Annotated[str, Meta(examples=["phone"], description="A declared identifier.")]
    value: members.IdentifierValue


class BatchRecord(msgspec.Struct):
    """The attributes to set for one user, named by `cuid`, `identity` or `identifiers`. Applied completely or not at all."""

    data: Annotated[
        dict[str, Any] | UnsetType,
        Meta(
            description="As in the platform's own call. With `identifiers` it may be omitted, and a DATETIME may have"
            " milliseconds and an offset: `2024-10-27 02:30:00.500+01:00`."
        ),
    ] = UNSET
    cuid: members.Cuid | UnsetType = UNSET
    identity: BatchIdentity | UnsetType = UNSET
    identifiers: Annotated[
        dict[str, members.IdentifierValue | list[members.IdentifierValue]] | UnsetType,
        Meta(
            description="By name, the identifier values to assign to the user; an array if the identifier is not unique."
            " Can be combined with `cuid`, and may then be empty.",
            examples=[{"phone": "18012345678", "device": ["d1", "d2"]}],
        ),
    ] = UNSET
    key: Annotated[
        str | UnsetType,
        Meta(
            description="Makes this record safe to retry, in any batch.",
            extra_json_schema={"pattern": "^[!-~]{1,255}$"},
        ),
    ] = UNSET


class Batch(msgspec.Struct, forbid_unknown_fields=True):
    """Records to write, each on its own. An invalid record is refused without affecting the others."""

    records: Annotated[
        list[Any],
        Meta(
            min_length=1,
            max_length=MAX_RECORDS,
            extra_json_schema={
                "items": {
                    "anyOf": [
                        {"$ref": "#/components/schemas/BatchRecord"},
                        {"description": "Anything else gets the answer of a refused record."},
                    ]
                },
                "examples": [
                    [
                        {"cuid": 10362473, "data": {"user_level": 3}},
                        {
                            "identity": {"name": "phone", "value": "18012345678"},
                            "data": {"total_spent": 9.9},
                            "key": "order-1",
                        },
                    ],
                    [{"cuid": 10362473, "identifiers": {"phone": "18012345678"}, "data": {"user_level": 3}}],
                ],
            },
        ),
    ]
    on_unknown: Annotated[
        Literal["refuse", "register", "import"] | UnsetType,
        Meta(
            description="What to do if the user does not exist. `refuse`: refuse the record. `register`: create a user"
            " for an identifier value that belongs to nobody, as Get CUID does. `import`: also create users with the"
            " `cuid` in the record, and add the values of `identifiers` to their users. Required if any record has an"
            " `identity` (any choice) or `identifiers` (refuse or import)."
        ),
    ] = UNSET


class RecordProblem(msgspec.Struct):
    """One problem of a record."""

    code: Annotated[int, Meta(description="The platform's code.")]
    kind: Annotated[str, Meta(description="For programs; never changes.")]
    attribute: str | None
    msg: str


class RecordAnswer(msgspec.Struct):
    """The result of one record: the code and text that the platform's own call would have returned, and details."""

    code: Annotated[int, Meta(description="0 on success. -1: temporarily unavailable; send the same record again.")]
    msg: str
    cuid: Annotated[int | None, Meta(description="The user's CUID, if known.")]
    version: Annotated[int | None, Meta(description="Version of the user's row after the write.")]
    outcomes: Annotated[dict[str, Outcome], Meta(description="The outcome of each attribute.")]
    problems: Annotated[
        list[RecordProblem],
        Meta(
            description="All problems; `code` and `msg` are those of the first. Maximum 100 per record and 10,000 per batch;"
            " the last one then says how many more there are."
        ),
    ]
    replayed: Annotated[bool, Meta(description="Whether this is the stored answer to an earlier request with the same key.")]
    effect: Annotated[
        Effect | UnsetType,
        Meta(description="The effect on the user. Only for a row of an import that was applied."),
    ] = UNSET
    change: Annotated[
        int | UnsetType,
        Meta(
            description="The number of the change in the user's history. Only if one was recorded, and not for a row of an"
            " import."
        ),
    ] = UNSET


class BatchAnswer(msgspec.Struct):
    """An answer for every record, in order."""

    results: list[RecordAnswer]
    done: Annotated[int, Meta(ge=0, description="Number of records with code 0.")]
    refused: Annotated[
        int, Meta(ge=0, description="Number of refused records. If sent again unchanged, they are refused again.")
    ]
    unavailable: Annotated[int, Meta(ge=0, description="Number of records with code -1.")]
    retry_after: Annotated[
        int | None, Meta(description="Seconds to wait before sending those again; null if there are none.")
    ]


class BatchQuery(msgspec.Struct, forbid_unknown_fields=True):
    """How to process the batch."""

    dry_run: Annotated[members.Flag, Meta(description="Validate and answer as usual, but write nothing.")] = "0"


@dataclass(slots=True)
class Record(SetRequest):
    """A decoded record: what could be read, and the problems of its form."""

    identity: tuple[str, str] | None = None
    identifiers: dict[str, Any] | None = None
    key: str | None = None

    def receipt(self, batch_key: str | None, batch_fingerprint: bytes, index: int) -> Receipt | None:
        """Return the record's receipt: by its own key in any batch, else by its index in the batch with this key."""
        if self.key is not None:
            parts = (self.cuid, self.identity, self.data)
            content = _encoder.encode(parts if self.identifiers is None else (*parts, self.identifiers))
            return Receipt(self.key, hashlib.sha256(content).digest())
        if batch_key is None:
            return None
        # A key in a request contains no space, so none can equal this one.
        return Receipt(f"{batch_key} {index}", batch_fingerprint)


def is_small(body: bytes) -> bool:
    """Return whether a decoded batch needs so little memory that it need not wait for others."""
    return len(body) <= SMALL_BYTES and not holds_more_values(body, SMALL_VALUES)


def is_huge(body: bytes) -> bool:
    """Return whether a decoded batch needs so much memory that no other such batch should be decoded at the same time."""
    return holds_more_values(body, HUGE_VALUES)


def decode_batch(body: bytes, record_limit: int) -> tuple[list[Record], str | UnsetType]:
    """Return the records of a batch, and its `on_unknown`.

    Args:
        record_limit: maximum bytes of a record; a larger one is refused alone.

    Raises:
        Refused: the body as a whole does not have the form of :class:`Batch`, or has more than :data:`MAX_VALUES` values.
    """
    fault: Problem | None = None
    if is_small(body):
        members = decode_object(body)
        if not isinstance(members, Problem):
            batch = decoding.convert(members, Batch, strict=True, name="body")
            return [_record(member, f"records[{i}]") for i, member in enumerate(batch.records)], batch.on_unknown
        if members.kind is not ProblemKind.BODY_NOT_JSON:
            raise Refused([members])
        fault = members
    elif holds_more_values(body, MAX_VALUES):
        raise Refused([Problem(ProblemKind.BODY_VALUES, None, {"limit": str(MAX_VALUES)})])
    return _decode_one_by_one(body, record_limit, fault)


_RECORDS = re.compile(
    rb'(?:\xef\xbb\xbf)?[ \t\r\n]*\{[ \t\r\n]*(?:"on_unknown"[ \t\r\n]*:[ \t\r\n]*"[a-z]*"[ \t\r\n]*,[ \t\r\n]*)?'
    rb'"records"[ \t\r\n]*:[ \t\r\n]*\['
)
"""The beginning of a batch, up to its records."""


def _decode_one_by_one(body: bytes, record_limit: int, fault: Problem | None) -> tuple[list[Record], str | UnsetType]:
    """Decode a batch record by record, so that a record with invalid JSON is refused alone.

    This is slower than decoding all at once, but no single step takes long, and other threads run in between.

    Args:
        fault: the known problem with the body as a whole.
    """
    members, spans = _without_records(body, fault)
    batch = decoding.convert(members, Batch, strict=True, name="body")
    if not spans:
        return [_record(member, f"records[{i}]") for i, member in enumerate(batch.records)], batch.on_unknown
    records = [_decode_record(body, span, f"records[{i}]", record_limit) for i, span in enumerate(spans)]
    return records, batch.on_unknown


def _without_records(body: bytes, fault: Problem | None) -> tuple[dict[str, Any], list[tuple[int, int]]]:
    """Return a batch's members with numbers as records, and the records' positions; or the whole body and none."""
    opening = _RECORDS.match(body)
    spans, end = split_array(body, opening.end(), MAX_RECORDS) if opening else ([], -1)
    if len(spans) > MAX_RECORDS:
        return {"records": [None] * len(spans)}, spans
    if opening is None or end < 0:
        # It begins in another way, or has no end.
        members = fault or decode_object(body)
        if isinstance(members, Problem):
            raise Refused([members])
        return members, []
    rest = decode_object(body[: opening.end()] + b",".join([b"0"] * len(spans)) + body[end:])
    if isinstance(rest, Problem):
        raise Refused([fault if fault and rest.kind is ProblemKind.BODY_NOT_JSON else rest])
    return rest, spans


def _decode_record(body: bytes, span: tuple[int, int], name: str, limit: int) -> Record:
    begin, stop = span
    if stop - begin > limit:
        return _refused_record(problem_details.parameter_problem(name, phrase(PhraseKind.MAXIMUM_BYTES, limit=limit)))
    text = body[begin:stop]
    decoded = decode_object(text)
    if not isinstance(decoded, Problem) or decoded.kind is ProblemKind.BODY_NOT_OBJECT:
        return _record(decoded, name)
    if decoded.kind is ProblemKind.BODY_NOT_JSON and _is_json(text):
        return _refused_record(_moved(decoded, begin))
    raise Refused([_moved(decoded, begin)])


def _is_json(text: bytes) -> bool:
    """Return whether it is JSON by its grammar, so that its end is known. Half of a surrogate pair is, NaN is not."""
    try:
        # `int` rejects NaN and Infinity.
        json.loads(text.decode(), parse_int=str, parse_float=str, parse_constant=int)
    except ValueError:
        return False
    except RecursionError:
        # Its brackets match, or it would not have been found.
        return True
    return True


def _moved(problem: Problem, by: int) -> Problem:
    """Return the problem of a record with its position in the whole body."""
    reason = problem.params.get("reason")
    if not isinstance(reason, Phrase) or "position" not in reason.params:
        return problem
    position = int(str(reason.params["position"])) + by
    return replace(problem, params={"reason": replace(reason, params={**reason.params, "position": str(position)})})


def imports(records: Sequence[Record], on_unknown: str | UnsetType) -> bool:
    """Return whether the records are rows of an import, in which all identifiers together name the user."""
    return on_unknown == "import" or any(record.identifiers is not None for record in records)


def registers(records: Sequence[Record], on_unknown: str | UnsetType) -> bool:
    """Return whether missing users are created. Raises Refused if that must be specified and is not."""
    if on_unknown not in ("refuse", "import") and any(record.identifiers is not None for record in records):
        raise Refused([problem_details.parameter_problem("on_unknown", Phrase(PhraseKind.REFUSE_OR_IMPORT))])
    if on_unknown is UNSET and any(record.identity for record in records):
        raise Refused([problem_details.parameter_problem("on_unknown", Phrase(PhraseKind.REFUSE_OR_REGISTER))])
    return on_unknown in ("register", "import")


def _refused_record(problem: Problem) -> Record:
    record = Record()
    record.problems.append(problem)
    return record


def _record(members: Any, name: str) -> Record:
    record = Record()
    if type(members) is not dict:
        record.problems.append(problem_details.parameter_problem(name, Phrase(PhraseKind.RECORD)))
        return record
    read_set(members, record)
    if "identifiers" in members:
        _read_identifiers(members, record, name)
    elif "identity" in members:
        _read_identity(members, record, f"{name}.identity")
    key = members.get("key")
    if key is not None:
        if type(key) is str and key.isascii() and key.isprintable() and " " not in key and 1 <= len(key) <= 255:
            record.key = key
        else:
            record.problems.append(problem_details.parameter_problem(f"{name}.key", _KEY_FORM))
    others = [other for other in members if other not in _MEMBERS]
    if others or record.problems:
        expected = phrase(PhraseKind.RECORD_MEMBERS, members=_MEMBERS)
        record.problems += [
            problem_details.parameter_problem(f"{name}.{other}", expected) for other in others[:MAX_PROBLEMS]
        ]
        record.problems = bounded(record.problems, more=len(others[MAX_PROBLEMS:]))
    return record


def _read_identity(members: dict[str, Any], record: Record, name: str) -> None:
    if "cuid" in members:
        record.problems.append(problem_details.parameter_problem(name, Phrase(PhraseKind.CUID_OR_IDENTITY)))
        return
    record.problems = [problem for problem in record.problems if problem.kind is not ProblemKind.CUID_MISSING]
    identity = members["identity"]
    if type(identity) is dict and set(identity) == {"name", "value"}:
        identifier, value = identity["name"], identity["value"]
        if type(identifier) is str and is_identifier_value(value):
            record.identity = (identifier, value)
            return
    expected = phrase(PhraseKind.IDENTITY, maximum=MAX_VALUE_CHARACTERS)
    record.problems.append(problem_details.parameter_problem(name, expected))


def _read_identifiers(members: dict[str, Any], record: Record, name: str) -> None:
    # The identifiers replace what such a record omits. Whether it names a user is checked with the schema.
    missing = (ProblemKind.CUID_MISSING, ProblemKind.DATA_MISSING, ProblemKind.DATA_EMPTY)
    record.problems = [problem for problem in record.problems if problem.kind not in missing]
    if members.get("data", {}) == {}:
        record.data = {}
    if "identity" in members:
        record.problems.append(
            problem_details.parameter_problem(f"{name}.identity", Phrase(PhraseKind.IDENTITY_OR_IDENTIFIERS))
        )
    identifiers = members["identifiers"]
    record.identifiers = identifiers if type(identifiers) is dict else {}
    if type(identifiers) is not dict:
        expected = Phrase(PhraseKind.IDENTIFIERS)
        record.problems.append(problem_details.parameter_problem(f"{name}.identifiers", expected))


def batch_answer(
    results: Sequence[tuple[int | None, Result]],
    language: Language,
    request_id: str,
    code: Code,
) -> BatchAnswer:
    """Return the answer to a batch whose records had these CUIDs and results. `code` returns the code of a problem."""
    answers = []
    left = MAX_BATCH_PROBLEMS
    for cuid, result in results:
        answers.append(_answer(cuid, result, language, request_id, code, max(1, min(left, MAX_PROBLEMS))))
        left -= len(answers[-1].problems)
    done = sum(answer.code == 0 for answer in answers)
    unavailable = sum(answer.code == -1 for answer in answers)
    retry_after = RETRY_SECONDS if unavailable else None
    return BatchAnswer(answers, done, len(answers) - done - unavailable, unavailable, retry_after)


def problems_of(result: Result, request_id: str) -> Sequence[Problem]:
    """Return why a record was not written; empty if it was."""
    if isinstance(result, Written | Replayed):
        return []
    if isinstance(result, Refusal):
        return result.problems
    if isinstance(result, KeyReused):
        return [Problem(ProblemKind.KEY_REUSED)]
    if isinstance(result, Unavailable):
        return [Problem(ProblemKind.OVERLOADED if isinstance(result, Overloaded) else ProblemKind.STORE_DOWN)]
    return [Problem(ProblemKind.INTERNAL, None, {"request": request_id})]


def _answer(
    cuid: int | None,
    result: Result,
    language: Language,
    request_id: str,
    code: Code,
    maximum: int,
) -> RecordAnswer:
    replayed = type(result) is Replayed
    if isinstance(result, Replayed):
        result = result.written
    if isinstance(result, Written):
        effect, change = result.effect or UNSET, result.change or UNSET
        return RecordAnswer(0, "ok", cuid, result.version, result.outcomes, [], replayed, effect, change)
    problems = bounded(problems_of(result, request_id), maximum)
    shown = [RecordProblem(code(p.kind)[0], p.kind, p.attribute, text(p, language)) for p in problems]
    return RecordAnswer(shown[0].code, shown[0].msg, cuid, None, {}, shown, replayed=False)
