"""Get CUID, adding a user with its own CUID, and erasing a user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from usertable.domain import ownership
from usertable.domain.actor import Actor
from usertable.domain.audit import AuditEvent, AuditKind
from usertable.domain.change import ChangeKind, Origin
from usertable.domain.errors import ProblemKind, Refused, refusal
from usertable.domain.schema import Project
from usertable.store.encoding import NO_ATTRIBUTES
from usertable.store.records import LARGEST_COUNTED_CUID
from usertable.store.transaction import Loaded, Mutation, Transaction, Wanted


def register(
    transaction: Transaction, project: int, identifier: str, values: Sequence[str], actor: Actor, now: int
) -> list[int]:
    """Return the CUID of each value, in order. A new value creates a user.

    Equal values get one CUID, even in concurrent calls. Values are compared exactly.

    Raises:
        Refused: the identifier is not declared, not unique, or not the first.
    """
    loaded = _load(transaction, project, Wanted(values={identifier: values}, project=True))
    assert loaded.project is not None
    loaded.project.schema.registration_identifier(identifier)
    if any((identifier, value) not in loaded.owners for value in values):
        # Another transaction may create them until this one has the lock.
        loaded = _load(transaction, project, Wanted(values={identifier: values}, project=True, makes_users=True))
        assert loaded.project is not None
        mutation = Mutation(project, created_at=now, origin=origin_of(loaded.project, actor), request=actor.request_id)
        for value in dict.fromkeys(values):
            if (identifier, value) not in loaded.owners:
                cuid = loaded.owners[identifier, value] = next(loaded.unused)
                mutation.created.append((cuid, 1, NO_ATTRIBUTES))
                mutation.values.append((cuid, identifier, value))
                mutation.next_cuid = cuid + 1
        transaction.keep([mutation])
    return [loaded.owners[identifier, value] for value in values]


def add(transaction: Transaction, project: int, cuid: int, identifiers: Mapping[str, str], actor: Actor, now: int) -> None:
    """Create a user with the caller's CUID, and a value for each identifier named.

    Raises:
        Refused: the CUID exists or was erased, a value belongs to another user, or an identifier is not declared.
    """
    loaded = _load(transaction, project, Wanted(cuids=[cuid], project=True, makes_users=True))
    assert loaded.project is not None
    if cuid in loaded.erased:
        raise refusal(ProblemKind.CUID_ERASED, cuid=cuid)
    if cuid in loaded.profiles:
        raise refusal(ProblemKind.CUID_EXISTS, cuid=cuid)
    schema = loaded.project.schema
    declared = {identifier.name for identifier in schema.identifiers}
    values = {name: [value] for name, value in identifiers.items() if name in declared}
    owners = _load(transaction, project, Wanted(values=values)).owners if values else {}
    for pair in identifiers.items():
        schema.identifier(pair[0])
        if problems := ownership.problems_with(schema, cuid, [pair], owners, {}, may_add=True):
            raise Refused(problems)
    mutation = Mutation(
        project,
        created=[(cuid, 1, NO_ATTRIBUTES)],
        created_at=now,
        origin=origin_of(loaded.project, actor),
        request=actor.request_id,
    )
    mutation.values = [(cuid, name, value) for name, value in identifiers.items()]
    mutation.next_cuid = cuid + 1 if cuid <= LARGEST_COUNTED_CUID else 0
    # The names of identifiers, not their values: the entry stays when the user is erased.
    after = {"identifiers": sorted(identifiers)} if identifiers else {}
    transaction.record(project, actor, [AuditEvent(AuditKind.ADD_USER, str(cuid), after=after)], now)
    transaction.keep([mutation])


def erase(transaction: Transaction, project: int, cuid: int, actor: Actor, now: int) -> bool:
    """Remove a user and everything that shows its data, also from history. Its CUID is never reused.

    The entry in the audit log says how many recorded changes lost their values. Return False if there is no such user.
    """
    loaded = _load(transaction, project, Wanted(cuids=[cuid], project=True, makes_users=True))
    assert loaded.project is not None
    profile = loaded.profiles.get(cuid)
    if profile is None:
        return False
    changes = transaction.changes(project, cuid, profile.head)
    # The change that created the user has no values, and may be that of many users.
    count = sum(change.kind is not ChangeKind.CREATED for change in changes)
    before = {"changes": count} if count else {}
    transaction.record(project, actor, [AuditEvent(AuditKind.ERASE_USER, str(cuid), before)], now)
    transaction.keep(
        [Mutation(project, erased=[cuid], created_at=now, origin=origin_of(loaded.project, actor), request=actor.request_id)]
    )
    return True


def origin_of(project: Project, actor: Actor) -> Origin | None:
    """Return the origin of an actor's changes; None if the project's history is off."""
    return Origin.of(actor) if project.history.is_on else None


def _load(transaction: Transaction, project: int, wanted: Wanted) -> Loaded:
    return transaction.load({project: wanted})[project]
