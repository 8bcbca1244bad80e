"""Somebody whom an OpenID Connect provider has signed in is found, linked or created, and gets their roles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from usertable.commands import people
from usertable.commands.people import Recording
from usertable.domain.audit import AuditKind
from usertable.domain.errors import ProblemKind, Refused
from usertable.domain.openid import EntryRefused, EntryRules, Granted, Identity, Refusal, check_email
from usertable.domain.person import Person, email_key
from usertable.store.transaction import Transaction


def enter(transaction: Transaction, identity: Identity, rules: EntryRules, new: Person, recording: Recording) -> Person:
    """The person that an identity is of, with the roles that it has now.

    The account of the provider decides who it is. A person without one who has the e-mail address is linked to it if
    domains are allowed by name, and this is one of them. Otherwise the address must be new.

    Args:
        new: the person to keep if there is none; without roles.

    Raises:
        EntryRefused: they may not enter. Nothing was changed.
    """
    check_email(identity, rules)
    persons = transaction.people()
    found = _by_account(identity, persons)
    linked = found or next((p for p in persons.values() if email_key(p.email) == email_key(identity.email)), None)
    if linked is not None and linked.disabled:
        raise EntryRefused(Refusal.DISABLED, linked.email)
    granted = rules.granted(identity.values, recording.projects)
    if linked is None:
        if not granted:
            raise EntryRefused(Refusal.NO_ROLE, identity.email)
        return people.add(transaction, replace(new, admin=granted.admin, roles=granted.roles), recording)
    # Decided before anything is kept: a refusal leaves no trace but the one in the audit log.
    if rules.claim and not granted:
        raise EntryRefused(Refusal.NO_ROLE, linked.email)
    if found is None:
        _check_link(linked, rules)
    # The address that the person has here may be another one than the provider's.
    recording = replace(recording, actor=replace(recording.actor, name=linked.email))
    return _kept(transaction, linked, identity, granted if rules.claim else None, recording)


def _by_account(identity: Identity, persons: Mapping[str, Person]) -> Person | None:
    return next((person for person in persons.values() if person.openid == identity.account), None)


def _check_link(person: Person, rules: EntryRules) -> None:
    if person.openid is not None:
        raise EntryRefused(Refusal.OTHER_ACCOUNT, person.email)
    if not rules.domains:
        raise EntryRefused(Refusal.LINK_NOT_ALLOWED, person.email)


def _kept(
    transaction: Transaction, person: Person, identity: Identity, granted: Granted | None, recording: Recording
) -> Person:
    """Link a person to the account if they are not yet, and give them these roles; None for those that they have."""

    def linked(before: Person) -> Person:
        return replace(before, openid=identity.account)

    def refreshed(before: Person) -> Person:
        return before if granted is None else replace(before, admin=granted.admin, roles=granted.roles)

    try:
        # First, because it may be refused.
        people.edit(transaction, person.id, refreshed, recording, AuditKind.REFRESH_ROLES)
    except Refused as refused:
        if refused.problems[0].kind is ProblemKind.LAST_ADMIN:
            raise EntryRefused(Refusal.LAST_ADMIN, person.email) from refused
        raise
    return people.edit(transaction, person.id, linked, recording, AuditKind.LINK_PERSON)
