"""Import rows: each one is merged into its user like a write, or creates the user."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from usertable.commands.receipts import answer_again, kept_answer
from usertable.commands.reports import record
from usertable.domain import ownership
from usertable.domain.change import ChangeKind, Decision, UserChange, is_sole_actor
from usertable.domain.errors import Problem, ProblemKind, excerpt
from usertable.domain.merge import Rules
from usertable.domain.patch import Patch
from usertable.domain.profile import Effect, Outcome, Profile
from usertable.domain.schema import Project
from usertable.store.encoding import NO_ATTRIBUTES, decode_attributes, encode_attributes
from usertable.store.protocol import NextState
from usertable.store.records import (
    LARGEST_COUNTED_CUID,
    ImportBatch,
    ImportResult,
    ImportRow,
    ImportRows,
    JobMoved,
    PatchRow,
    Receipt,
    Refusal,
    SchemaStale,
    Written,
)
from usertable.store.transaction import Loaded, Mutation, Transaction, Wanted


def import_rows(
    transaction: Transaction, batch: ImportBatch, rules: Rules, next_state: NextState | None = None
) -> ImportResult | SchemaStale | JobMoved:
    """Import rows in order. Later rows see the effects of earlier ones; a refused row does not affect the others.

    The result is stored together with the job's state `next_state(…)`. So if that state is in the store, the batch was
    imported; if the previous state is, it was not. A row that names no user is refused, or, with `register`, creates one:
    with the row's CUID, or, like Get CUID, for a value of the identifier with priority 1.

    Without `next_state` there is no job. In a batch with receipts, one is stored with each imported row, and a row whose key
    is already stored is not imported again.
    """
    loaded = transaction.load({batch.project: _wanted(batch, None if next_state is None else batch.job)})[batch.project]
    if next_state is not None and loaded.job != batch.before:
        return JobMoved(loaded.job)
    project = loaded.project
    if project is None or loaded.version != batch.schema_version:
        return SchemaStale()
    result, mutation = _imported(batch, rules, project, loaded)
    if batch.dry_run:
        return result
    mutation.reported -= project.reported
    if next_state is not None:
        mutation.job = (batch.job, next_state(result))
    if batch.actor is not None and batch.event is not None:
        transaction.record(batch.project, batch.actor, [batch.event], batch.now)
    transaction.keep([mutation])
    return result


def _wanted(batch: ImportBatch, job: str | None) -> Wanted:
    values: dict[str, list[str]] = {}
    for pairs in batch.rows.identifiers or ():
        for name, value in pairs:
            values.setdefault(name, []).append(value)
    return Wanted(
        cuids={cuid for cuid in batch.rows.cuids if cuid is not None},
        keys=[receipt.key for receipt in batch.receipts or () if receipt is not None],
        values=values,
        rows_of_owners=True,
        project=True,
        makes_users=batch.register,
        job=job,
    )


def _imported(batch: ImportBatch, rules: Rules, project: Project, loaded: Loaded) -> tuple[ImportResult, Mutation]:
    work = _Import(batch, rules, project, loaded)
    if batch.receipts is not None:
        return _answered_one_by_one(work, batch.receipts)
    rows = batch.rows
    is_new = batch.register and not batch.dry_run and rows.identifiers is None and not loaded.profiles and not loaded.erased
    if is_new and isinstance(rows, ImportRows):
        # Most batches of a large import: new users with their own CUIDs, each of them once.
        cuids = [cuid for cuid in rows.cuids if cuid is not None]
        texts = rows.texts
        if len(set(cuids)) == len(rows) and not any(_is_large(text, rules) for text in texts):
            return _all_new(batch, project, cuids, texts)
    each: Iterable[ImportRow | PatchRow] = rows
    for index, row in enumerate(each):
        if not work.is_first_of_new_user(row):
            found = work.one(row)
            if isinstance(found, list):
                work.result.refused.append((index, found))
    return work.result, work.mutation()


def _answered_one_by_one(work: _Import, receipts: Sequence[Receipt | None]) -> tuple[ImportResult, Mutation]:
    """Import rows, some of which may have been imported before."""
    batch, loaded, results = work.batch, work.loaded, work.result.row_results
    answers = []
    rows: Iterable[ImportRow | PatchRow] = batch.rows
    for row, receipt in zip(rows, receipts, strict=True):
        if receipt is not None and (answered := answer_again(receipt, loaded)) is not None:
            results.append((work.owner(row), answered))
            continue
        found = work.one(row)
        if isinstance(found, list):
            results.append((work.owner(row), Refusal(found)))
            continue
        cuid, written = found
        # A CUID assigned in a dry run belongs to nobody.
        results.append((row[0] if batch.dry_run and cuid in work.created else cuid, written))
        if receipt is not None and not batch.dry_run:
            answers.append(kept_answer(receipt, written, loaded, batch.project, cuid, batch.now))
    mutation = work.mutation()
    mutation.receipts = answers
    return work.result, mutation


def _is_large(text: str, rules: Rules) -> bool:
    """Return whether a row's values may exceed the maximum size of a user's row."""
    return 4 * len(text) > rules.row_limit


def _all_new(batch: ImportBatch, project: Project, cuids: list[int], texts: list[str]) -> tuple[ImportResult, Mutation]:
    created = [(cuid, 1 if text == NO_ATTRIBUTES else 2, text) for cuid, text in zip(cuids, texts, strict=True)]
    mutation = Mutation(
        batch.project,
        created=created,
        created_at=batch.now,
        origin=batch.origin,
        request=batch.request,
        next_cuid=_next_cuid(cuids),
    )
    if not batch.names <= project.reported:
        mutation.reported.update(*map(decode_attributes, texts))
    return ImportResult(len(created), 0, 0, []), mutation


def _next_cuid(cuids: Iterable[int]) -> int:
    """Return the minimum of the project's counter after users with these CUIDs were imported."""
    return max((cuid for cuid in cuids if cuid <= LARGEST_COUNTED_CUID), default=-1) + 1


class _Import:
    """The rows imported so far.

    A new user takes the values of its first row as they are, which is what every rule does for a user without values. So
    that row's text is stored unchanged. Everything else goes through the rules.
    """

    def __init__(self, batch: ImportBatch, rules: Rules, project: Project, loaded: Loaded) -> None:
        self.result = ImportResult(0, 0, 0, [])
        self.created: dict[int, str | Profile] = {}
        """Users that are not in the store: the text of their only row, or the profile after several rows."""
        self.batch = batch
        self.loaded = loaded
        self._rules = rules
        self._project = project
        self._mutation = Mutation(batch.project, created_at=batch.now, origin=batch.origin, request=batch.request)
        self._given = 0
        """The counter after the last assigned CUID."""

    def owner(self, row: ImportRow | PatchRow) -> int | None:
        """Return the row's user: its CUID, or the owner of the first identifier value that has one."""
        return ownership.owner(row[0], row[1], self.loaded.owners)

    def is_first_of_new_user(self, row: ImportRow | PatchRow) -> bool:
        """Import the row if it is the first one of a new user with its own CUID. Return whether it was."""
        cuid, identifiers, text = row
        loaded, created = self.loaded, self.created
        if isinstance(text, Patch) or not self.batch.register or cuid is None or identifiers or _is_large(text, self._rules):
            return False
        if cuid in loaded.profiles or cuid in created or cuid in loaded.erased:
            return False
        created[cuid] = text
        if self.batch.dry_run:
            self.result.previews.append((cuid, decode_attributes(text)))
        return True

    def one(self, row: ImportRow | PatchRow) -> list[Problem] | tuple[int, Written]:
        """Import one row. Return the user's CUID and the result, or the row's problems."""
        _, identifiers, values = row
        cuid = self.owner(row)
        is_new = cuid is None or (cuid not in self.loaded.profiles and cuid not in self.created)
        if problems := self._problems(cuid, identifiers, is_new=is_new):
            return problems
        profile = Profile.new(self.batch.now) if is_new or cuid is None else self._profile(cuid)
        patch = self._patch(values) if isinstance(values, str) else values
        decision = self._rules(profile, patch, self.batch.now)
        if decision.problems:
            return decision.problems
        if cuid is None:
            cuid = next(c for c in self.loaded.unused if c not in self.created and c not in self.loaded.profiles)
            self._given = max(self._given, cuid + 1)
        added = ownership.added(identifiers, self.loaded.owners)
        self._add_values(cuid, added)
        if is_new or cuid in self.created:
            self.created[cuid] = decision.profile
        else:
            self._record(cuid, decision, added)
        if decision.profile is not profile:
            self._mutation.reported.update(decision.outcomes)
        outcomes = decision.outcomes
        effect = self._counted(is_new=is_new, is_changed=bool(added) or Outcome.APPLIED in outcomes.values())
        if self.batch.dry_run:
            self.result.previews.append((cuid, dict(decision.profile.attributes)))
        return cuid, Written(decision.profile.version, outcomes, None, effect)

    def _record(self, cuid: int, decision: Decision, added: Sequence[ownership.Pair]) -> None:
        """Add a row's change of a user that existed before."""
        batch, changes = self.batch, self._mutation.changes
        origin, kind = batch.origin, ChangeKind.IMPORT
        is_changed = decision.profile is not decision.before
        if is_changed:
            self.loaded.profiles[cuid] = decision.profile
        elif origin is None:
            return
        elif added:
            kind = ChangeKind.IDENTIFIER
        elif is_sole_actor(decision.before, origin.actor) and not self._project.history.all_reports:
            # Otherwise it is recorded: to find out whether the actor has said it before would take longer.
            return
        record(changes, UserChange(cuid, decision, origin, batch.request, kind, added, batch.now))

    def _problems(self, cuid: int | None, identifiers: Sequence[ownership.Pair], *, is_new: bool) -> list[Problem]:
        if cuid in self.loaded.erased:
            return [Problem(ProblemKind.CUID_ERASED, None, {"cuid": str(cuid)})]
        if is_new and not self.batch.register:
            name = "=".join(identifiers[0]) if cuid is None else str(cuid)
            return [Problem(ProblemKind.CUID_UNKNOWN, None, {"cuid": excerpt(name)})]
        if cuid is None:
            first = self._project.schema.identifiers[0]
            if not first.unique or all(name != first.name for name, _ in identifiers):
                return [Problem(ProblemKind.IDENTIFIER_NOT_FIRST, identifiers[0][0], {"first": first.name})]
        have = {} if cuid is None else self.loaded.values.get(cuid, {})
        return ownership.problems_with(
            self._project.schema, cuid, identifiers, self.loaded.owners, have, may_add=self.batch.register
        )

    def _add_values(self, cuid: int, pairs: Sequence[ownership.Pair]) -> None:
        for name, value in pairs:
            self.loaded.owners[name, value] = cuid
            self.loaded.values.setdefault(cuid, {}).setdefault(name, []).append(value)
            self._mutation.values.append((cuid, name, value))

    def _counted(self, *, is_new: bool, is_changed: bool) -> Effect:
        if is_new:
            return Effect.CREATED
        if is_changed:
            self.result.changed += 1
            return Effect.CHANGED
        self.result.unchanged += 1
        return Effect.UNCHANGED

    def _profile(self, cuid: int) -> Profile:
        created = self.created.get(cuid)
        if created is None:
            return self.loaded.profiles[cuid]
        if isinstance(created, Profile):
            return created
        empty = Profile.new(self.batch.now)
        return self._rules(empty, self._patch(created), self.batch.now).profile

    def _patch(self, text: str) -> Patch:
        attributes = self._project.schema.attributes
        return Patch([(attributes[name], value) for name, value in decode_attributes(text).items()])

    def mutation(self) -> Mutation:
        """Return the changes of all rows together."""
        mutation = self._mutation
        names_are_new = not self.batch.names <= self._project.reported
        for cuid, created in self.created.items():
            if isinstance(created, Profile):
                mutation.created.append((cuid, created.version, encode_attributes(created.attributes)))
            else:
                mutation.created.append((cuid, 1 if created == NO_ATTRIBUTES else 2, created))
                if names_are_new:
                    mutation.reported.update(decode_attributes(created))
        self.result.created = len(mutation.created)
        mutation.next_cuid = max(self._given, _next_cuid(self.created))
        return mutation
