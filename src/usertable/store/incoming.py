"""What a batch of imported rows comes to: the part of an import that is the same in every engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat

from usertable.domain.errors import Kind, Problem, excerpt
from usertable.domain.patch import Patch
from usertable.domain.profile import Effect, Outcome, Profile
from usertable.domain.schema import IDENTIFIER_VALUES, Project
from usertable.store.encoding import decode_attributes, encode_attributes
from usertable.store.protocol import Decide
from usertable.store.records import (
    LARGEST_COUNTED_CUID,
    Batch,
    Incoming,
    KeyReused,
    NewReceipt,
    Receipt,
    Refusal,
    Replayed,
    StoredReceipt,
    Taken,
    Written,
)


@dataclass(slots=True)
class Known:
    """What the store has of the users that a batch names. Updated on the way."""

    profiles: dict[int, Profile]
    erased: set[int]
    owners: dict[tuple[str, str], int]
    """By identifier and value."""
    values: dict[int, dict[str, list[str]]]
    """The values of those users by CUID and identifier; empty if the batch names no identifier."""
    receipts: dict[str, StoredReceipt] = field(default_factory=dict)
    """The stored receipts of the batch's keys."""


@dataclass(slots=True)
class Intake:
    """What the engine must persist for a batch, beside the job's state."""

    taken: Taken
    created: list[tuple[int, int, str]] = field(default_factory=list)
    """CUID, version, and attributes as text. Made and last changed by this batch, whatever a profile says."""
    changed: dict[int, Profile] = field(default_factory=dict)
    values: list[tuple[int, str, str]] = field(default_factory=list)
    """New ones: CUID, identifier, value."""
    reported: set[str] = field(default_factory=set)
    """Attributes that got a value for the first time."""
    next_cuid: int = 0
    """The project's counter must be this at least; 0 if nobody was made."""
    receipts: list[NewReceipt] = field(default_factory=list)


def resolve_batch(batch: Batch, decide: Decide, project: Project, known: Known, unused: Iterator[int]) -> Intake:
    """Decide the rows in order on what the engine loaded: later rows see what earlier ones did.

    A user that is new takes the values of its first row as they are, which is what `decide` makes of a user without any
    value, whatever the rules; so that row's text is kept as it came. Everything else is decided.

    Args:
        project: as stored now.
        unused: CUIDs that may be given, from the project's counter on.
    """
    if batch.receipts is not None:
        return _told(_Work(batch, decide, project, known, unused), batch.receipts)
    if batch.register and not batch.dry and batch.rows.identifiers is None and not known.profiles and not known.erased:
        # Most batches of a large import: users that are brought along and that are not there yet, each once.
        cuids = [cuid for cuid in batch.rows.cuids if cuid is not None]
        texts = batch.rows.texts
        if len(set(cuids)) == len(batch.rows) and not any(_is_large(text, decide) for text in texts):
            return _all_new(batch, project, cuids, texts)
    work = _Work(batch, decide, project, known, unused)
    created, profiles, erased = work.created, known.profiles, known.erased
    register, dry = batch.register, batch.dry
    for place, row in enumerate(batch.rows):
        cuid, identifiers, text = row
        plain = register and cuid is not None and not identifiers and not _is_large(text, decide)
        if plain and not (cuid in profiles or cuid in created or cuid in erased):
            assert cuid is not None
            created[cuid] = text
            if dry:
                work.taken.shown.append((cuid, decode_attributes(text)))
            continue
        found = work.one(row)
        if isinstance(found, list):
            work.taken.refused.append((place, found))
    return work.outcome()


def _told(work: _Work, receipts: Sequence[Receipt | None]) -> Intake:
    """Decide rows that are answered one by one, of which some may have been taken before."""
    batch, known, told = work.batch, work.known, work.taken.told
    made: list[NewReceipt] = []
    for row, receipt in zip(batch.rows, receipts, strict=True):
        stored = known.receipts.get(receipt.key) if receipt else None
        if receipt and stored:
            same = stored.fingerprint == receipt.fingerprint
            told.append((work.owner(row), Replayed(stored.written) if same else KeyReused()))
            continue
        found = work.one(row)
        if isinstance(found, list):
            told.append((work.owner(row), Refusal(found)))
            continue
        cuid, written = found
        # The CUID that a dry run would give is nobody's.
        told.append((row[0] if batch.dry and cuid in work.created else cuid, written))
        if receipt and not batch.dry:
            known.receipts[receipt.key] = StoredReceipt(receipt.fingerprint, written)
            made.append(NewReceipt(batch.project, receipt.key, cuid, receipt.fingerprint, written, batch.now))
    intake = work.outcome()
    intake.receipts = made
    return intake


def _is_large(text: str, decide: Decide) -> bool:
    """Whether a row's values may be more than a user's row may have."""
    return 4 * len(text) > decide.row_limit


def _all_new(batch: Batch, project: Project, cuids: list[int], texts: list[str]) -> Intake:
    versions: Iterable[int] = repeat(2)
    if "{}" in batch.rows.lines:
        versions = [1 if text == "{}" else 2 for text in texts]
    created = list(zip(cuids, versions, texts, strict=False))
    reported: set[str] = set()
    if not batch.names <= project.reported:
        reported.update(*map(decode_attributes, texts))
    last = max((cuid for cuid in cuids if cuid <= LARGEST_COUNTED_CUID), default=-1)
    return Intake(Taken(len(created), 0, 0, []), created, reported=reported - project.reported, next_cuid=last + 1)


class _Work:
    def __init__(self, batch: Batch, decide: Decide, project: Project, known: Known, unused: Iterator[int]) -> None:
        self.taken = Taken(0, 0, 0, [])
        self.created: dict[int, str | Profile] = {}
        """Users that are not in the store: the text of their only row, or the profile that several made."""
        self.batch = batch
        self.known = known
        self._decide = decide
        self._project = project
        self._unused = unused
        self._changed: dict[int, Profile] = {}
        self._values: list[tuple[int, str, str]] = []
        self._reported: set[str] = set()
        self._next_cuid = 0

    def owner(self, row: Incoming) -> int | None:
        """Whose row it is: the CUID it has, or that of the first identifier's value that somebody has."""
        cuid, identifiers, _ = row
        if cuid is None:
            return next((owner for pair in identifiers if (owner := self.known.owners.get(pair)) is not None), None)
        return cuid

    def one(self, row: Incoming) -> list[Problem] | tuple[int, Written]:
        """Take one row; the user's CUID and what came of it, or what is wrong with it."""
        _, identifiers, text = row
        known, created, register = self.known, self.created, self.batch.register
        owners = [known.owners.get(pair) for pair in identifiers]
        cuid = self.owner(row)
        is_new = cuid is None or (cuid not in known.profiles and cuid not in created)
        if cuid in known.erased:
            return [Problem(Kind.CUID_ERASED, None, {"cuid": str(cuid)})]
        if is_new and not register:
            name = "=".join(identifiers[0]) if cuid is None else str(cuid)
            return [Problem(Kind.CUID_UNKNOWN, None, {"cuid": excerpt(name)})]
        if is_new and cuid is None:
            first = self._project.schema.identifiers[0]
            if not first.unique or all(name != first.name for name, _ in identifiers):
                return [Problem(Kind.IDENTIFIER_NOT_FIRST, identifiers[0][0], {"first": first.name})]
        missing = [pair for pair, owner in zip(identifiers, owners, strict=True) if owner is None]
        if problems := self._identifier_problems(cuid, identifiers, owners, missing):
            return problems
        profile = Profile.new(self.batch.now)
        if not is_new:
            assert cuid is not None
            profile = self._profile(cuid)
        decision = self._decide(profile, self._patch(text), self.batch.now)
        if decision.problems:
            return decision.problems
        if cuid is None:
            cuid = next(c for c in self._unused if c not in created and c not in known.profiles)
            self._next_cuid = max(self._next_cuid, cuid + 1)
        for name, value in missing:
            known.owners[name, value] = cuid
            known.values.setdefault(cuid, {}).setdefault(name, []).append(value)
            self._values.append((cuid, name, value))
        if is_new or cuid in created:
            created[cuid] = decision.profile
        elif decision.profile is not profile:
            known.profiles[cuid] = self._changed[cuid] = decision.profile
        if decision.profile is not profile:
            self._reported.update(decision.outcomes)
        effect = Effect.CREATED
        if not is_new:
            if Outcome.APPLIED in decision.outcomes.values() or missing:
                effect = Effect.CHANGED
                self.taken.changed += 1
            else:
                effect = Effect.UNCHANGED
                self.taken.unchanged += 1
        if self.batch.dry:
            self.taken.shown.append((cuid, dict(decision.profile.attributes)))
        return cuid, Written(decision.profile.version, decision.outcomes, None, effect)

    def _identifier_problems(
        self,
        cuid: int | None,
        identifiers: tuple[tuple[str, str], ...],
        owners: list[int | None],
        missing: list[tuple[str, str]],
    ) -> list[Problem]:
        problems = [
            Problem(Kind.IDENTIFIER_TAKEN, name, {"value": excerpt(value)})
            for (name, value), owner in zip(identifiers, owners, strict=True)
            if owner not in (None, cuid)
        ]
        if missing and not self.batch.register:
            problems += [Problem(Kind.CUID_UNKNOWN, None, {"cuid": excerpt(f"{n}={v}")}) for n, v in missing]
            return problems
        have = self.known.values.get(cuid, {}) if cuid is not None else {}
        for name in dict.fromkeys(name for name, _ in missing):
            most = 1 if self._project.schema.identifier(name).unique else IDENTIFIER_VALUES
            if len(have.get(name, ())) + sum(n == name for n, _ in missing) > most:
                facts = {"cuid": "new" if cuid is None else str(cuid), "limit": str(most)}
                problems.append(Problem(Kind.IDENTIFIER_FULL, name, facts))
        return problems

    def _profile(self, cuid: int) -> Profile:
        made = self.created.get(cuid)
        if made is None:
            return self.known.profiles[cuid]
        if isinstance(made, Profile):
            return made
        empty = Profile.new(self.batch.now)
        return self._decide(empty, self._patch(made), self.batch.now).profile

    def _patch(self, text: str) -> Patch:
        attributes = self._project.schema.attributes
        return Patch([(attributes[name], value) for name, value in decode_attributes(text).items()])

    def outcome(self) -> Intake:
        created: list[tuple[int, int, str]] = []
        names_are_news = not self.batch.names <= self._project.reported
        for cuid, made in self.created.items():
            if isinstance(made, Profile):
                created.append((cuid, made.version, encode_attributes(made.attributes)))
            else:
                created.append((cuid, 1 if made == "{}" else 2, made))
                if names_are_news:
                    self._reported.update(decode_attributes(made))
        brought = max((cuid for cuid in self.created if cuid <= LARGEST_COUNTED_CUID), default=-1)
        self.taken.created = len(created)
        next_cuid = max(self._next_cuid, brought + 1)
        return Intake(self.taken, created, self._changed, self._values, self._reported - self._project.reported, next_cuid)


def named(batch: Batch) -> tuple[set[int], dict[str, list[str]]]:
    """The CUIDs that the rows name, and the values by identifier."""
    cuids = {cuid for cuid in batch.rows.cuids if cuid is not None}
    values: dict[str, list[str]] = {}
    for identifiers in batch.rows.identifiers or ():
        for name, value in identifiers:
            values.setdefault(name, []).append(value)
    return cuids, values


def row_keys(batch: Batch) -> list[str]:
    """The keys of the rows that are answered one by one."""
    return [receipt.key for receipt in batch.receipts or () if receipt is not None]


def values_by_user(rows: Iterable[tuple[int, str, str]]) -> dict[int, dict[str, list[str]]]:
    """Identifier values by CUID and identifier, of (CUID, identifier, value)."""
    found: dict[int, dict[str, list[str]]] = {}
    for cuid, name, value in rows:
        found.setdefault(cuid, {}).setdefault(name, []).append(value)
    return found
