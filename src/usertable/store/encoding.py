"""Documents as engines keep them: a user's attributes, and a project. JSON text, with numbers exact to the last digit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import lru_cache
from itertools import repeat
from typing import Any

import msgspec

from usertable.domain.arrival import Arrival
from usertable.domain.change import UserChange, last_profiles, set_and_unset
from usertable.domain.profile import Effect, Outcome, Profile
from usertable.domain.schema import Attribute, Identifier, Project, Rule, Schema
from usertable.domain.schema_change import Change
from usertable.domain.values import LIST_ELEMENT_BYTES, LIST_ELEMENTS, DataType, Limits, Value
from usertable.store.records import Write, Written
from usertable.store.tables import Row

NO_ATTRIBUTES = "{}"
"""What :func:`encode_attributes` makes of no values."""
_encoder = msgspec.json.Encoder(decimal_format="number")
_OVERWRITE = Rule.OVERWRITE
_attributes_decoder = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)


def encode_attributes(attributes: dict[str, Value]) -> str:
    """Attribute values as JSON text. Whole numbers have no point and no exponent, so they come back as `int`."""
    return _encoder.encode(attributes).decode()


def decode_attributes(text: str | bytes) -> dict[str, Value]:
    """The inverse of :func:`encode_attributes`."""
    return _attributes_decoder.decode(text)


def decode_column(attribute: str, texts: Iterable[str]) -> list[Value]:
    """The values of one attribute in documents that have it."""
    decoder = _column_decoder(attribute)
    return [decoder.decode(text).value for text in texts]


def decode_values(texts: Iterable[str]) -> list[Value]:
    """Single values of attributes, from their JSON texts."""
    return [_value_decoder.decode(text) for text in texts]


_value_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Any, float_hook=Decimal)


@lru_cache(maxsize=256)
def _column_decoder(attribute: str) -> msgspec.json.Decoder[Any]:
    # A struct with but one member: the other values are passed over, not built.
    form = msgspec.defstruct("Document", [("value", Any)], rename={"value": attribute})
    return msgspec.json.Decoder(form, float_hook=Decimal)


_changed_at_decoder = msgspec.json.Decoder(dict[str, int])


def encode_changed_at(changed_at: dict[str, int]) -> str:
    """When attributes changed, as JSON text."""
    return _encoder.encode(changed_at).decode()


def decode_changed_at(text: str) -> dict[str, int]:
    """The inverse of :func:`encode_changed_at`."""
    return _changed_at_decoder.decode(text)


def encode_user(row: Row) -> Row:
    """A row of the table :data:`~usertable.store.tables.USERS`, with its documents as JSON texts."""
    cuid, version, created_at, updated_at, attributes, changed_at = row
    return cuid, version, created_at, updated_at, encode_attributes(attributes), encode_changed_at(changed_at)


def decode_user(row: Row) -> Row:
    """The inverse of :func:`encode_user`."""
    cuid, version, created_at, updated_at, attributes, changed_at = row
    return cuid, version, created_at, updated_at, decode_attributes(attributes), decode_changed_at(changed_at)


def decode_user_profiles(rows: Iterable[Row]) -> dict[int, Profile]:
    """Profiles by CUID, of such rows with JSON texts."""
    profiles = {}
    for row in rows:
        cuid, version, created_at, updated_at, attributes, changed_at = decode_user(row)
        profiles[cuid] = Profile(version, created_at, updated_at, attributes, changed_at, 4 * len(row[4]))
    return profiles


_FEW_BYTES = 512 * 1024
"""Up to here nobody measures the single rows of a batch."""
_rows_decoder = msgspec.json.Decoder(list[tuple[int, int, int, int, dict[str, Any], dict[str, int]]], float_hook=Decimal)


def decode_profiles(rows: str | bytes) -> dict[int, Profile]:
    """Profiles by CUID, from a JSON array of `[cuid, version, …]` with a profile's members."""
    size = len(rows) if isinstance(rows, bytes) else 4 * len(rows)
    decoded = _rows_decoder.decode(rows)
    if size <= _FEW_BYTES:
        # None of them is larger than all together.
        sizes: Iterable[int] = repeat(size)
    else:
        sizes = [len(_encoder.encode(attributes)) for *_, attributes, _ in decoded]
    return {
        cuid: Profile(version, created_at, updated_at, attributes, changed_at, bound)
        for (cuid, version, created_at, updated_at, attributes, changed_at), bound in zip(decoded, sizes, strict=False)
    }


def encode_user_changes(changes: Sequence[UserChange]) -> str:
    """What changed of users, as a JSON array, one member a user.

    Of each `{"c": CUID, "v": version, "t": updated_at, "a": the attributes with new values, "r": the names of those that
    have none any more, or null, "m": changed_at}`.
    """
    profiles = last_profiles(changes)
    rows = []
    for cuid, (values, unset) in set_and_unset(changes).items():
        p = profiles[cuid]
        rows.append({"c": cuid, "v": p.version, "t": p.updated_at, "a": values, "r": unset or None, "m": p.changed_at})
    return _encoder.encode(rows).decode()


def values_by_user(rows: Iterable[tuple[int, str, str]]) -> dict[int, dict[str, list[str]]]:
    """Identifier values by CUID and identifier, of (CUID, identifier, value)."""
    found: dict[int, dict[str, list[str]]] = {}
    for cuid, name, value in rows:
        found.setdefault(cuid, {}).setdefault(name, []).append(value)
    return found


def encode_patches(writes: Iterable[Write]) -> tuple[str, str]:
    """Writes for an engine that merges by itself, as two JSON arrays: patches, and the shapes that they refer to.

    Of each write `{"c": CUID, "t": its moment, "h": its shape, "s": {name: value}, "o": [[rule, name, value, maximum
    elements], …]}`: `s` for the rule overwrite, `o` for the others. With a receipt also `"k": key, "f": fingerprint in hex,
    "n": [[rule, name], …]`.

    A shape is what many writes have in common: `{"w": [name in s, …], "m": {name: the moment}}`, with all names in `m`.
    """
    rows: list[dict[str, object]] = []
    shapes: dict[tuple[int, tuple[str, ...], tuple[str, ...]], int] = {}
    for write in writes:
        values: dict[str, object] = {}
        reports: list[tuple[Rule, str, object, int]] = []
        for attribute, value in write.patch.entries:
            if attribute.rule is _OVERWRITE:
                values[attribute.name] = value
            else:
                reports.append((attribute.rule, attribute.name, value, attribute.limits.elements))
        shape = shapes.setdefault((write.now, tuple(values), tuple([name for _, name, _, _ in reports])), len(shapes))
        row: dict[str, object] = {"c": write.cuid, "t": write.now, "h": shape, "s": values, "o": reports}
        receipt = write.receipt
        if receipt is not None:
            row["k"], row["f"] = receipt.key, receipt.fingerprint.hex()
            row["n"] = [(attribute.rule, attribute.name) for attribute, _ in write.patch.entries]
        rows.append(row)
    common = [{"w": w, "m": dict.fromkeys((*w, *others), now)} for now, w, others in shapes]
    return _encoder.encode(rows).decode(), _encoder.encode(common).decode()


class _WrittenDocument(msgspec.Struct, array_like=True):
    version: int
    outcomes: dict[str, Outcome]
    attributes: dict[str, Any] | None
    effect: Effect | None = None


_written_decoder = msgspec.json.Decoder(_WrittenDocument, float_hook=Decimal)


def encode_written(written: Written) -> str:
    """What came of a write, as its receipt keeps it."""
    found = (written.version, written.outcomes, written.attributes)
    return _encoder.encode((*found, written.effect) if written.effect else found).decode()


def decode_written(text: str) -> Written:
    """The inverse of :func:`encode_written`."""
    found = _written_decoder.decode(text)
    return Written(found.version, found.outcomes, found.attributes, found.effect)


class _ProjectDocument(msgspec.Struct, omit_defaults=True):
    name: str
    secret_salt: bytes
    secret_hash: bytes
    timezone: str
    qps: int | None
    created_at: int
    attributes: list[_AttributeDocument]
    identifiers: list[_IdentifierDocument]


class _AttributeDocument(msgspec.Struct, omit_defaults=True):
    name: str
    type: str
    rule: str
    display_name: str = ""
    description: str = ""
    hidden: bool = False
    elements: int = LIST_ELEMENTS
    element_bytes: int = LIST_ELEMENT_BYTES


class _IdentifierDocument(msgspec.Struct, omit_defaults=True):
    name: str
    display_name: str = ""
    unique: bool = True
    masked: bool = False


_project_decoder = msgspec.json.Decoder(_ProjectDocument)


def encode_project(project: Project) -> str:
    """All of a project but what engines keep in columns of their own (number, id, version, reported)."""
    document = _ProjectDocument(
        name=project.name,
        secret_salt=project.secret_salt,
        secret_hash=project.secret_hash,
        timezone=project.timezone,
        qps=project.qps,
        created_at=project.created_at,
        attributes=[
            _AttributeDocument(
                a.name,
                a.type,
                a.rule,
                a.display_name,
                a.description,
                a.hidden,
                a.limits.elements,
                a.limits.element_bytes,
            )
            for a in project.schema.attributes.values()
        ],
        identifiers=[_IdentifierDocument(i.name, i.display_name, i.unique, i.masked) for i in project.schema.identifiers],
    )
    return _encoder.encode(document).decode()


def decode_project(number: int, project_id: str, version: int, document: str, reported: Iterable[str]) -> Project:
    """The inverse of :func:`encode_project`."""
    d = _project_decoder.decode(document)
    attributes = (
        Attribute(
            a.name,
            DataType(a.type),
            Rule(a.rule),
            a.display_name,
            a.description,
            a.hidden,
            Limits(a.elements, a.element_bytes),
        )
        for a in d.attributes
    )
    identifiers = tuple(Identifier(i.name, i.display_name, i.unique, i.masked) for i in d.identifiers)
    return Project(
        number=number,
        id=project_id,
        name=d.name,
        secret_salt=d.secret_salt,
        secret_hash=d.secret_hash,
        timezone=d.timezone,
        qps=d.qps,
        created_at=d.created_at,
        schema=Schema({a.name: a for a in attributes}, identifiers),
        version=version,
        reported=frozenset(reported),
    )


_changes_decoder = msgspec.json.Decoder(list[Change])


def encode_changes(changes: Sequence[Change]) -> str:
    """What the record of changes keeps of an edit."""
    return _encoder.encode(changes).decode()


def decode_changes(text: str) -> list[Change] | str:
    """The inverse of :func:`encode_changes`; a sentence of an older record stays one."""
    return _changes_decoder.decode(text) if text.startswith("[") else text


def encode_arrival(arrival: Arrival) -> str:
    """A sample of what came in: `{"at":…,"api":…,"problems":[{"kind":"value_type","attribute":…,"facts":{…}}],…}`."""
    document = msgspec.to_builtins(arrival)
    for problem in document["problems"]:
        problem["facts"] = problem.pop("params")
    return _encoder.encode(document).decode()


def decode_arrival(text: str) -> Arrival:
    """The inverse of :func:`encode_arrival`."""
    document = msgspec.json.decode(text)
    for problem in document["problems"]:
        problem["params"] = problem.pop("facts")
    return msgspec.convert(document, Arrival)
