"""Reports that change nothing: whether they are recorded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from usertable.domain.change import Decision, Origin, UserChange, is_sole_actor, sole_actor
from usertable.domain.history import Sent, has_sent
from usertable.store.transaction import Transaction

LOOKED_AT = 8
"""Maximum number of a user's changes that are read to decide it. Beyond them, a report is recorded once more."""


def record(changes: list[UserChange], change: UserChange) -> None:
    """Add a change to those of a transaction."""
    origin, after = change.origin, change.decision.profile
    # Usually it is already there, as in the row before.
    if origin is None or after.sole_actor != origin.actor:
        after.sole_actor = sole_actor(change.decision.before, origin)
    changes.append(change)


def is_new_report(
    transaction: Transaction,
    project: int,
    cuid: int,
    decision: Decision,
    origin: Origin,
    recorded: Sequence[UserChange],
) -> bool:
    """Return whether a write that changes nothing is recorded: another actor confirms the stored value for the first time.

    Undoing what the other has sent must then leave the value.

    Args:
        recorded: the changes of the transaction so far, of all users.
    """
    before = decision.before
    if before.sole_actor:
        # Had the actor sent anything before, there would be several.
        return not is_sole_actor(before, origin.actor)
    names = [attribute.name for attribute, _ in decision.patch.entries if attribute.history_since is not None]
    return not has_sent(_sent(transaction, project, cuid, before.head, recorded), origin.actor, names, LOOKED_AT)


def _sent(transaction: Transaction, project: int, cuid: int, head: int, recorded: Sequence[UserChange]) -> Iterator[Sent]:
    """Yield what was sent of a user, newest first: in this transaction, and before it."""
    for change in reversed(recorded):
        if change.cuid == cuid:
            decision = change.decision
            names = {attribute.name for attribute, _ in decision.patch.entries}
            yield Sent(change.origin.actor if change.origin else "", names, decision.profile is not decision.before)
    for stored in transaction.changes(project, cuid, head):
        yield Sent(stored.origin.actor, stored.reports.keys(), stored.changed)
