"""Writes to existing users: a batch of them, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from usertable.commands.receipts import answer_again, kept_answer
from usertable.commands.reports import is_new_report, record
from usertable.domain.change import ChangeKind, UserChange
from usertable.domain.merge import Rules
from usertable.domain.patch import Patch
from usertable.store.records import WRITTEN, Refusal, Result, SchemaStale, UserUnknown, Write, Written
from usertable.store.transaction import Loaded, Mutation, Transaction, Wanted

# To look a member up takes longer than to find a name of the module.
_WRITE, _UNDO = ChangeKind.WRITE, ChangeKind.UNDO


@dataclass(frozen=True, slots=True)
class WriteBatch:
    """Decides writes in order. Later writes see the effects of earlier ones; each one is applied or refused on its own.

    Pickled to other processes.
    """

    rules: Rules

    @property
    def row_limit(self) -> int:
        """Maximum bytes of a user's row."""
        return self.rules.row_limit

    def __call__(self, transaction: Transaction, writes: Sequence[Write]) -> list[Result]:
        """Decide the writes and store their changes. Return a result for each, in order."""
        loaded = transaction.load(_wanted(writes))
        mutations = {number: Mutation(number) for number in loaded}
        results = [self._result(transaction, write, loaded[write.project], mutations[write.project]) for write in writes]
        transaction.keep([m for m in mutations.values() if m.changes or m.receipts])
        return results

    def _result(self, transaction: Transaction, write: Write, loaded: Loaded, mutation: Mutation) -> Result:
        receipt = write.receipt
        if receipt is not None and (answered := answer_again(receipt, loaded)) is not None:
            return answered
        if loaded.version != write.schema_version:
            return SchemaStale()
        cuid = write.cuid
        profile = loaded.profiles.get(cuid)
        if profile is None:
            return UserUnknown()
        decision = self.rules(profile, write.patch, write.now)
        if decision.problems:
            return Refusal(decision.problems)
        after = decision.profile
        written = WRITTEN
        if write.details or receipt is not None:
            written = Written(after.version, decision.outcomes, after.attributes if write.row else None)
        if write.dry_run:
            return written
        results = [written] if write.details else []
        if receipt is not None:
            kept = kept_answer(receipt, written, loaded, write.project, cuid, write.now)
            mutation.receipts.append(kept)
            results.append(kept.written)
        kind = _WRITE if type(write.patch) is Patch else _UNDO
        if after is not profile:
            loaded.profiles[cuid] = after
            if kind is _WRITE:
                mutation.reported.update(decision.outcomes)
            record(mutation.changes, UserChange(cuid, decision, write.origin, write.request, kind, results=results))
        elif write.origin is not None and (
            write.all_reports or is_new_report(transaction, write.project, cuid, decision, write.origin, mutation.changes)
        ):
            record(
                mutation.changes,
                UserChange(cuid, decision, write.origin, write.request, kind, at=write.now, results=results),
            )
        return written


def _wanted(writes: Sequence[Write]) -> dict[int, Wanted]:
    cuids: dict[int, set[int]] = {}
    keys: dict[int, list[str]] = {}
    for write in writes:
        cuids.setdefault(write.project, set()).add(write.cuid)
        if write.receipt is not None:
            keys.setdefault(write.project, []).append(write.receipt.key)
    return {number: Wanted(cuids=users, keys=keys.get(number, ())) for number, users in cuids.items()}
