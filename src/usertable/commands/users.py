"""Users come and go: Get CUID, a user that brings its CUID along, an erasure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from usertable.domain import ownership
from usertable.domain.errors import ProblemKind, Refused, refusal
from usertable.store.encoding import NO_ATTRIBUTES
from usertable.store.records import LARGEST_COUNTED_CUID
from usertable.store.transaction import Loaded, Mutation, Transaction, Wanted


def register(transaction: Transaction, project: int, identifier: str, values: Sequence[str], now: int) -> list[int]:
    """The CUID of each value, in order; a value never seen makes a user.

    Equal values get one CUID, whoever asks at the same time. Values are compared exactly.

    Raises:
        Refused: the identifier is not declared, not unique, or not the first.
    """
    loaded = _load(transaction, project, Wanted(values={identifier: values}, project=True))
    assert loaded.project is not None
    loaded.project.schema.registration_identifier(identifier)
    if any((identifier, value) not in loaded.owners for value in values):
        # Somebody may make them until nobody else can.
        loaded = _load(transaction, project, Wanted(values={identifier: values}, project=True, makes_users=True))
        mutation = Mutation(project, created_at=now)
        for value in dict.fromkeys(values):
            if (identifier, value) not in loaded.owners:
                cuid = loaded.owners[identifier, value] = next(loaded.unused)
                mutation.created.append((cuid, 1, NO_ATTRIBUTES))
                mutation.values.append((cuid, identifier, value))
                mutation.next_cuid = cuid + 1
        transaction.keep([mutation])
    return [loaded.owners[identifier, value] for value in values]


def add(transaction: Transaction, project: int, cuid: int, identifiers: Mapping[str, str], now: int) -> None:
    """Make a user with a CUID of the caller's, and a value for each identifier named.

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
    mutation = Mutation(project, created=[(cuid, 1, NO_ATTRIBUTES)], created_at=now)
    mutation.values = [(cuid, name, value) for name, value in identifiers.items()]
    mutation.next_cuid = cuid + 1 if cuid <= LARGEST_COUNTED_CUID else 0
    transaction.keep([mutation])


def erase(transaction: Transaction, project: int, cuid: int) -> bool:
    """Remove a user and everything that shows its data; its CUID is never given again. False if there is no such user."""
    loaded = _load(transaction, project, Wanted(cuids=[cuid], makes_users=True))
    if cuid not in loaded.profiles:
        return False
    transaction.keep([Mutation(project, erased=[cuid])])
    return True


def _load(transaction: Transaction, project: int, wanted: Wanted) -> Loaded:
    return transaction.load({project: wanted})[project]
