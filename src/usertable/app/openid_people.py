"""People who sign in with an OpenID Connect provider."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import replace

from usertable.app.people import People
from usertable.commands import openid
from usertable.domain.actor import Actor, ActorKind
from usertable.domain.errors import Refused
from usertable.domain.openid import EntryRules, Identity
from usertable.domain.person import MAX_NAME, Person, checked_email


class OpenIdPeople(People):
    """Use cases about people who sign in with an OpenID Connect provider."""

    def enter_by_openid(self, identity: Identity, rules: EntryRules, *, caller: Actor) -> Person:
        """Return the person whom a provider has signed in, with the roles that its claims now give them.

        Args:
            caller: the request of the sign-in.

        Raises:
            EntryRefused: they may not sign in. Nothing was changed.
        """
        email = ""
        with contextlib.suppress(Refused):
            email = checked_email(identity.email)
        identity = replace(identity, email=email)
        actor = replace(caller, kind=ActorKind.PERSON, name=email)
        recording = self._recording(actor)
        new = Person(
            id=secrets.token_hex(8),
            email=email,
            name="".join(c for c in identity.name if c.isprintable()).strip()[:MAX_NAME],
            openid=identity.account,
            created_at=recording.now,
            created_by=str(actor),
        )
        return self._store.transact(lambda tx: openid.enter(tx, identity, rules, new, recording))
