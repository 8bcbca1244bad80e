"""Stored documents: a user's attributes, a project, and others. JSON text, with exact numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple
from decimal import Decimal
from functools import lru_cache
from itertools import repeat
from typing import Any, NamedTuple

import msgspec

from usertable.domain.actor import Actor
from usertable.domain.arrival import Arrival
from usertable.domain.audit import AuditEntry, AuditEvent, AuditFilter, Fact
from usertable.domain.change import UserChange, actor_in_row, last_profiles, set_and_unset
from usertable.domain.key import Key, Proof
from usertable.domain.permissions import Role, Scope, ordered
from usertable.domain.person import OpenIdAccount, PasswordLink, Person
from usertable.domain.profile import Effect, Outcome, Profile
from usertable.domain.schema import (
    DEFAULT_HISTORY,
    HISTORY_DAYS,
    HISTORY_GIGABYTES,
    Attribute,
    HistorySettings,
    Identifier,
    Project,
    Rule,
    Schema,
)
from usertable.domain.values import LIST_ELEMENT_BYTES, LIST_ELEMENTS, DataType, Limits, Value
from usertable.store.records import Write, Written
from usertable.store.tables import Row

NO_ATTRIBUTES = "{}"
"""The result of :func:`encode_attributes` without values."""
_encoder = msgspec.json.Encoder(decimal_format="number")
_OVERWRITE = Rule.OVERWRITE
_attributes_decoder = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)


def encode_attributes(attributes: dict[str, Value]) -> str:
    """Return attribute values as JSON text.

    Whole numbers have neither a point nor an exponent, so they are decoded as `int`.
    """
    return _encoder.encode(attributes).decode()


def decode_attributes(text: str | bytes) -> dict[str, Value]:
    """The inverse of :func:`encode_attributes`."""
    return _attributes_decoder.decode(text)


def decode_column(attribute: str, texts: Iterable[str]) -> list[Value]:
    """Return the values of one attribute in documents that have it."""
    decoder = _column_decoder(attribute)
    return [decoder.decode(text).value for text in texts]


def decode_values(texts: Iterable[str]) -> list[Value]:
    """Return single attribute values, from their JSON texts."""
    return [_value_decoder.decode(text) for text in texts]


_value_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Any, float_hook=Decimal)


@lru_cache(maxsize=256)
def _column_decoder(attribute: str) -> msgspec.json.Decoder[Any]:
    # A struct with a single member: the other values are skipped, not created.
    form = msgspec.defstruct("Document", [("value", Any)], rename={"value": attribute})
    return msgspec.json.Decoder(form, float_hook=Decimal)


_changed_at_decoder = msgspec.json.Decoder(dict[str, int])


def encode_changed_at(changed_at: dict[str, int]) -> str:
    """Return the times of attributes' changes as JSON text."""
    return _encoder.encode(changed_at).decode()


def decode_changed_at(text: str) -> dict[str, int]:
    """The inverse of :func:`encode_changed_at`."""
    return _changed_at_decoder.decode(text)


def encode_user(row: Row) -> Row:
    """Return a row of the table :data:`~usertable.store.tables.USERS` with its documents as JSON texts."""
    cuid, version, created_at, updated_at, attributes, changed_at, head, actor = row
    return cuid, version, created_at, updated_at, encode_attributes(attributes), encode_changed_at(changed_at), head, actor


def decode_user(row: Row) -> Row:
    """The inverse of :func:`encode_user`."""
    cuid, version, created_at, updated_at, attributes, changed_at, head, actor = row
    return cuid, version, created_at, updated_at, decode_attributes(attributes), decode_changed_at(changed_at), head, actor


def decode_user_profiles(rows: Iterable[Row]) -> dict[int, Profile]:
    """Return profiles by CUID, from such rows with JSON texts."""
    profiles = {}
    for row in rows:
        cuid, version, created_at, updated_at, attributes, changed_at, head, actor = decode_user(row)
        profiles[cuid] = Profile(version, created_at, updated_at, attributes, changed_at, 4 * len(row[4]), head, actor)
    return profiles


_FEW_BYTES = 512 * 1024
"""Maximum bytes of a batch whose rows are not measured one by one."""
_rows_decoder = msgspec.json.Decoder(
    list[tuple[int, int, int, int, dict[str, Any], dict[str, int], int, str]], float_hook=Decimal
)


def decode_profiles(rows: str | bytes) -> dict[int, Profile]:
    """Return profiles by CUID, from a JSON array of `[cuid, version, …]` with a profile's members."""
    size = len(rows) if isinstance(rows, bytes) else 4 * len(rows)
    decoded = _rows_decoder.decode(rows)
    if size <= _FEW_BYTES:
        # No row is larger than all together.
        sizes: Iterable[int] = repeat(size)
    else:
        sizes = [len(_encoder.encode(row[4])) for row in decoded]
    return {
        cuid: Profile(version, created_at, updated_at, attributes, changed_at, bound, head, actor)
        for (cuid, version, created_at, updated_at, attributes, changed_at, head, actor), bound in zip(
            decoded, sizes, strict=False
        )
    }


def encode_user_changes(changes: Sequence[UserChange]) -> str:
    """Return the changes of users as a JSON array, one member per user.

    Each is `{"c": CUID, "v": version, "t": updated_at, "a": the attributes with new values, "r": the names of those that no
    longer have one, or null, "m": changed_at, "h": the number of the newest recorded change, "w": the sole actor}`.
    """
    profiles = last_profiles(changes)
    rows = []
    for cuid, (values, unset) in set_and_unset(changes).items():
        p = profiles[cuid]
        row = {"c": cuid, "v": p.version, "t": p.updated_at, "a": values, "r": unset or None, "m": p.changed_at}
        rows.append({**row, "h": p.head, "w": p.sole_actor})
    return _encoder.encode(rows).decode()


def values_by_user(rows: Iterable[tuple[int, str, str]]) -> dict[int, dict[str, list[str]]]:
    """Return identifier values by CUID and identifier, from (CUID, identifier, value)."""
    found: dict[int, dict[str, list[str]]] = {}
    for cuid, name, value in rows:
        found.setdefault(cuid, {}).setdefault(name, []).append(value)
    return found


class EncodedPatches(NamedTuple):
    """Writes for an engine that merges itself."""

    patches: bytes
    """JSON array, one member per write: `{"c": CUID, "t": its time, "h": its shape, "s": {name: value}, "o": [[rule, name,
    value, maximum elements], …]}`: `s` for the rule overwrite, `o` for the others."""
    shapes: bytes
    """JSON array of what many writes have in common: `{"w": [name in s, …], "m": {name: the time}, "n": [how many in s have
    history, how many in o], "a": actor}`, with all names in `m`. Those that have history are the first. The actor is as in
    a row, and empty if the writes are not recorded. `"r": 1` says that they are recorded even if they change nothing. If
    some writes have a receipt, also `"o": [[rule, name], …]` in the order sent."""
    receipts: bytes | None
    """JSON array, one member per write: `{"k": key, "f": fingerprint in hex}`, or `{}` without a receipt; None if no write
    has one."""
    orders: list[tuple[str, list[tuple[str, int]]]]
    """By shape, the actor, and the names in the order sent, each with its index in `s` or, after those, in `o`."""
    whole_history: bool
    """Whether all attributes have history."""


def encode_patches(writes: Sequence[Write]) -> EncodedPatches:
    """Return writes for an engine that merges itself. They are for one project and one version of its schema."""
    rows: list[_Row] = []
    layouts: dict[tuple[str, ...], _Layout] = {}
    shapes: list[dict[str, object]] = []
    orders: list[tuple[str, list[tuple[str, int]]]] = []
    has_receipts = any(write.receipt is not None for write in writes)
    for write in writes:
        entries, origin, now = write.patch.entries, write.origin, write.now
        names = tuple([attribute.name for attribute, _ in entries])
        layout = layouts.get(names)
        if layout is None:
            layout = layouts[names] = _Layout(entries)
        common = now, "" if origin is None else origin.actor, write.all_reports
        shape = layout.shapes.get(common)
        if shape is None:
            shape = layout.shapes[common] = len(shapes)
            shapes.append(layout.shape(*common, is_recorded=origin is not None, has_receipts=has_receipts))
            orders.append((common[1], layout.order))
        values = {name: entries[index][1] for name, index in layout.overwritten}
        reports = [(rule, name, entries[index][1], elements) for rule, name, index, elements in layout.others]
        rows.append(_Row(write.cuid, now, shape, values, reports))
    receipts = None
    if has_receipts:
        found = [{} if (r := write.receipt) is None else {"k": r.key, "f": r.fingerprint.hex()} for write in writes]
        receipts = _encoder.encode(found)
    whole_history = all(layout.whole_history for layout in layouts.values())
    return EncodedPatches(_encoder.encode(rows), _encoder.encode(shapes), receipts, orders, whole_history)


class _Row(msgspec.Struct, gc=False):
    c: int
    t: int
    h: int
    s: dict[str, Any]
    o: list[tuple[Rule, str, Any, int]]


class _Layout:
    """What writes with the same names in the same order have in common."""

    def __init__(self, entries: Sequence[tuple[Attribute, object]]) -> None:
        self.entries = entries
        self.whole_history = all(attribute.history_since is not None for attribute, _ in entries)
        indexed = [(attribute, index) for index, (attribute, _) in enumerate(entries)]
        indexed.sort(key=lambda each: each[0].history_since is None)
        self.overwritten = [(a.name, index) for a, index in indexed if a.rule is _OVERWRITE]
        """Name and index in the order sent, for the rule overwrite; those with history first."""
        self.others = [(a.rule, a.name, index, a.limits.elements) for a, index in indexed if a.rule is not _OVERWRITE]
        indexes = {name: index for index, name in enumerate(self._names)}
        self.order = [(attribute.name, indexes[attribute.name]) for attribute, _ in entries]
        self.shapes: dict[tuple[int, str, bool], int] = {}
        """By time, actor, and whether all reports are recorded."""

    @property
    def _names(self) -> list[str]:
        return [*(name for name, _ in self.overwritten), *(name for _, name, _, _ in self.others)]

    def shape(self, now: int, actor: str, all_reports: bool, *, is_recorded: bool, has_receipts: bool) -> dict[str, object]:
        kept = [a.rule is _OVERWRITE for a, _ in self.entries if a.history_since is not None] if is_recorded else []
        return {
            "w": [name for name, _ in self.overwritten],
            "m": dict.fromkeys(self._names, now),
            "n": (sum(kept), len(kept) - sum(kept)),
            "a": actor_in_row(actor),
            **({"r": 1} if all_reports else {}),
            **({"o": [(attribute.rule, attribute.name) for attribute, _ in self.entries]} if has_receipts else {}),
        }


class _WrittenDocument(msgspec.Struct, array_like=True):
    version: int
    outcomes: dict[str, Outcome]
    attributes: dict[str, Any] | None
    effect: Effect | None = None
    change: int | None = None


_written_decoder = msgspec.json.Decoder(_WrittenDocument, float_hook=Decimal)


def encode_written(written: Written) -> str:
    """Return the result of a write, as stored in its receipt."""
    found: tuple[object, ...] = (written.version, written.outcomes, written.attributes)
    if written.change is not None:
        found = (*found, written.effect, written.change)
    elif written.effect:
        found = (*found, written.effect)
    return _encoder.encode(found).decode()


def decode_written(text: str) -> Written:
    """The inverse of :func:`encode_written`."""
    found = _written_decoder.decode(text)
    return Written(found.version, found.outcomes, found.attributes, found.effect, found.change)


class _ProjectDocument(msgspec.Struct, omit_defaults=True):
    name: str
    secret_salt: bytes
    secret_hash: bytes
    timezone: str
    qps: int | None
    created_at: int
    attributes: list[_AttributeDocument]
    identifiers: list[_IdentifierDocument]
    history: _HistoryDocument | None = None


class _HistoryDocument(msgspec.Struct, omit_defaults=True):
    days: int = HISTORY_DAYS
    gigabytes: int = HISTORY_GIGABYTES
    all_reports: bool = False


class _AttributeDocument(msgspec.Struct, omit_defaults=True):
    name: str
    type: str
    rule: str
    display_name: str = ""
    description: str = ""
    hidden: bool = False
    elements: int = LIST_ELEMENTS
    element_bytes: int = LIST_ELEMENT_BYTES
    history_since: int | None = 0
    history_from: int = 0


class _IdentifierDocument(msgspec.Struct, omit_defaults=True):
    name: str
    display_name: str = ""
    unique: bool = True
    masked: bool = False


_project_decoder = msgspec.json.Decoder(_ProjectDocument)


def encode_project(project: Project) -> str:
    """Return a project, without what engines store separately: number, ID, version, reported, keys."""
    history = project.history
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
                a.history_since,
                a.history_from,
            )
            for a in project.schema.attributes.values()
        ],
        identifiers=[_IdentifierDocument(i.name, i.display_name, i.unique, i.masked) for i in project.schema.identifiers],
        history=None if history == DEFAULT_HISTORY else _HistoryDocument(*astuple(history)),
    )
    return _encoder.encode(document).decode()


def decode_project(
    number: int, project_id: str, version: int, document: str, reported: Iterable[str], keys: Iterable[tuple[str, str]]
) -> Project:
    """The inverse of :func:`encode_project`.

    Args:
        keys: the project's stored keys except revoked ones: names, and documents of :func:`encode_key`.
    """
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
            a.history_since,
            a.history_from,
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
        stored_keys=tuple(sorted((decode_key(*key) for key in keys), key=lambda key: key.name)),
        history=HistorySettings(d.history.days, d.history.gigabytes, d.history.all_reports)
        if d.history
        else DEFAULT_HISTORY,
    )


class _ProofDocument(msgspec.Struct, omit_defaults=True):
    hash: bytes
    id: str = ""
    salt: bytes = b""
    until: int | None = None


class _KeyDocument(msgspec.Struct, omit_defaults=True):
    scopes: list[str]
    created_at: int
    created_by: str = ""
    proofs: list[_ProofDocument] = []
    expires_at: int | None = None
    revoked_at: int | None = None
    revoked_by: str = ""


_key_decoder = msgspec.json.Decoder(_KeyDocument)
_SCOPES = {scope.value: scope for scope in Scope}


def encode_key(key: Key) -> str:
    """Return a key without its name:
    `{"scopes":["write"],"created_at":…,"created_by":"admin","proofs":[{"hash":…,"id":…}]}`."""
    document = _KeyDocument(
        [str(scope) for scope in ordered(key.scopes)],
        key.created_at,
        key.created_by,
        [_ProofDocument(proof.hash, proof.id, proof.salt, proof.until) for proof in key.proofs],
        key.expires_at,
        key.revoked_at,
        key.revoked_by,
    )
    return _encoder.encode(document).decode()


def decode_key(name: str, document: str) -> Key:
    """The inverse of :func:`encode_key`. Scopes of a later version are dropped: nothing here checks for them."""
    d = _key_decoder.decode(document)
    return Key(
        name,
        frozenset(_SCOPES[scope] for scope in d.scopes if scope in _SCOPES),
        d.created_at,
        d.created_by,
        tuple(Proof(proof.hash, proof.id, proof.salt, proof.until) for proof in d.proofs),
        d.expires_at,
        d.revoked_at,
        d.revoked_by,
    )


class _PersonDocument(msgspec.Struct, omit_defaults=True):
    email: str
    created_at: int
    created_by: str
    name: str = ""
    password_hash: str = ""
    admin: bool = False
    disabled: bool = False
    roles: dict[int, Role] = {}
    last_sign_in: int | None = None
    last_address: str = ""
    link_digest: bytes = b""
    link_expires: int = 0
    openid_issuer: str = ""
    openid_subject: str = ""


_person_decoder = msgspec.json.Decoder(_PersonDocument)


def encode_person(person: Person) -> str:
    """Return a person without the ID: `{"email":"Ann@example.com","created_at":…,"roles":{"1":"owner"},…}`."""
    document = _PersonDocument(
        email=person.email,
        created_at=person.created_at,
        created_by=person.created_by,
        name=person.name,
        password_hash=person.password_hash,
        admin=person.admin,
        disabled=person.disabled,
        roles=dict(sorted(person.roles.items())),
        last_sign_in=person.last_sign_in,
        last_address=person.last_address,
        link_digest=person.link.digest if person.link else b"",
        link_expires=person.link.expires if person.link else 0,
        openid_issuer=person.openid.issuer if person.openid else "",
        openid_subject=person.openid.subject if person.openid else "",
    )
    return _encoder.encode(document).decode()


def decode_person(id: str, document: str) -> Person:
    """The inverse of :func:`encode_person`."""
    d = _person_decoder.decode(document)
    return Person(
        id=id,
        email=d.email,
        name=d.name,
        password_hash=d.password_hash,
        admin=d.admin,
        disabled=d.disabled,
        roles=d.roles,
        created_at=d.created_at,
        created_by=d.created_by,
        last_sign_in=d.last_sign_in,
        last_address=d.last_address,
        link=PasswordLink(d.link_digest, d.link_expires) if d.link_digest else None,
        openid=OpenIdAccount(d.openid_issuer, d.openid_subject) if d.openid_issuer else None,
    )


AuditRow = tuple[int, int, int, str, str, str, str, str, str]
"""number, first, at, actor, kind, subject, facts, request, address."""


class _AuditFacts(msgspec.Struct, omit_defaults=True):
    before: dict[str, Fact] = {}
    after: dict[str, Fact] = {}


_facts_decoder = msgspec.json.Decoder(_AuditFacts | str)


def audit_rows(actor: Actor, events: Sequence[AuditEvent], last: int, now: int) -> list[AuditRow]:
    """Return the audit log's rows for events that are recorded together.

    Args:
        last: the number of the newest entry so far; 0 for none.
    """
    who, first = _storable(str(actor)), last + 1
    return [
        (
            *(number, first, now, who, str(event.kind), _storable(event.subject)),
            _encoder.encode(_AuditFacts(dict(event.before), dict(event.after))).decode(),
            *(actor.request_id, actor.address),
        )
        for number, event in enumerate(events, first)
    ]


def _storable(text: str) -> str:
    """Return a text that every engine can store: a failed sign-in may contain any text."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def audit_parameters(project: int, wanted: AuditFilter, before: int | None, after: int | None) -> dict[str, Any]:
    """Return the parameters of a query for audit log entries, one for each condition."""
    values: dict[str, Any] = {
        "project": project,
        "actor": wanted.actor,
        "kinds": sorted(wanted.kinds) or None,
        "subject": wanted.subject,
        "since": wanted.since,
        "until": wanted.until,
        "before": before,
        "after": after,
    }
    return {name: value for name, value in values.items() if value is not None}


def has_nul(wanted: AuditFilter) -> bool:
    """Return whether a search text contains NUL. No entry does, and PostgreSQL rejects it."""
    return any("\0" in text for text in (wanted.actor or "", wanted.subject or "", *wanted.kinds))


def decode_audit(row: AuditRow) -> AuditEntry:
    """Return an entry of the audit log. An older one may have a sentence instead of facts."""
    number, first, at, actor, kind, subject, facts, request, address = row
    decoded = _facts_decoder.decode(facts)
    if isinstance(decoded, str):
        return AuditEntry(number, first, at, actor, AuditEvent(kind, subject), request, address, decoded)
    event = AuditEvent(kind, subject, decoded.before, decoded.after)
    return AuditEntry(number, first, at, actor, event, request, address)


def encode_arrival(arrival: Arrival) -> str:
    """Return a sample of an arrival: `{"at":…,"api":…,"problems":[{"kind":"value_type","attribute":…,"facts":{…}}],…}`.

    `facts` are texts, because a server of an earlier version knows nothing else; `phrases` has the others.
    """
    document = msgspec.to_builtins(arrival)
    for problem in document["problems"]:
        params = problem.pop("params")
        problem["facts"] = {name: value if type(value) is str else "…" for name, value in params.items()}
        if phrases := {name: value for name, value in params.items() if type(value) is not str}:
            problem["phrases"] = phrases
    return _encoder.encode(document).decode()


def decode_arrival(text: str) -> Arrival:
    """The inverse of :func:`encode_arrival`."""
    document = msgspec.json.decode(text)
    for problem in document["problems"]:
        problem["params"] = problem.pop("facts") | problem.pop("phrases", {})
    return msgspec.convert(document, Arrival)
