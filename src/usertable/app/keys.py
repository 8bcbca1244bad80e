"""Keys of a project: create, list, revoke."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from usertable.app.keyring import Keyring
from usertable.app.secrets import check_secret, generate_secret, proof_of, public_id
from usertable.app.use_cases import UseCases, check_version
from usertable.commands import projects
from usertable.domain.actor import Actor
from usertable.domain.errors import ProblemKind, refusal
from usertable.domain.key import DEFAULT_KEY, MAX_KEYS, Key, KeyPosition, find_key, with_key, without_key
from usertable.domain.permissions import Scope, ordered
from usertable.domain.schema import Project
from usertable.store.transaction import Transaction

SALT_BYTES = 16


@dataclass(frozen=True, slots=True)
class KeyUse:
    """A key, and when a request last used it (milliseconds since 1970-01-01 UTC, to the minute); None for never."""

    key: Key
    last_used: int | None


class Keys(UseCases):
    """Use cases about the keys of a project."""

    def keys(self, project: Project, *, after: str = "", limit: int = MAX_KEYS) -> list[KeyUse]:
        """Return keys of a project in order of creation, then revoked ones, the last revoked first.

        Args:
            after: the :class:`KeyPosition` of the last key of the previous page, as text; empty for the first page.
            limit: maximum number of keys.
        """
        last = KeyPosition.parsed(after) if after else None
        unrevoked = sorted((KeyPosition.of(key), key) for key in project.keys if key.revoked_at is None)
        keys = [key for position, key in unrevoked if last is None or position > last][:limit]
        if len(keys) < limit:
            revoked = last.revoked if last else None
            keys += self._store.revoked_keys(project.number, revoked, limit - len(keys))
        uses = self._store.key_uses(project.number, [key.name for key in keys])
        return [KeyUse(key, uses.get(key.name)) for key in keys]

    def key(self, project: Project, name: str) -> KeyUse:
        """Return the key with that name, revoked or not. Raises Refused if there is none."""
        key = next((key for key in project.keys if key.name == name), None) or self._store.stored_key(project.number, name)
        if key is None:
            raise refusal(ProblemKind.KEY_UNKNOWN, key=name)
        return KeyUse(key, self._store.key_uses(project.number, [name]).get(name))

    def create_key(
        self,
        project_id: str,
        name: str,
        scopes: Collection[Scope],
        *,
        expires_at: int | None = None,
        secret: str | None = None,
        granted: Collection[Scope],
        version: int | None = None,
        actor: Actor,
    ) -> tuple[Key, str]:
        """Create a key, and return it with its secret, which is not stored and cannot be shown again.

        Args:
            scopes: what the key allows.
            expires_at: when the key expires, in milliseconds since 1970-01-01 UTC; None for never.
            secret: an existing secret to use; None to generate one.
            granted: the scopes of the creator. The key can have no others.

        Raises:
            Refused: the name is malformed or was used before, the key would allow more than its creator may, it expires in
                the past, another key of the project has the secret, or there are too many keys.
        """
        check_granted(scopes, granted)
        if secret is not None:
            check_secret(secret)
        now = self._clock()
        project = self.project(project_id)
        made = secret or generate_secret()
        proof = proof_of(made, b"" if public_id(made) else shared_salt(project))
        key = Key(name, frozenset(scopes), now, str(actor), (proof,), expires_at)
        # Check this first, so that guessing other keys' secrets leaves a key in the audit log for each guess.
        with_key(project.keys, key, now, was_used=self._store.stored_key(project.number, name) is not None)
        if secret is not None:
            check_is_new(project, secret, now)

        def edit(tx: Transaction, project: Project) -> Project:
            keys = with_key(project.keys, key, now, was_used=tx.stored_key(project.number, name) is not None)
            if any(p.hash == proof.hash or (p.id and p.id == proof.id) for k in project.keys for p in k.proofs):
                raise refusal(ProblemKind.KEY_SECRET)
            return with_keys(project, keys)

        self._edit_with_keys(project_id, edit, actor, version)
        return key, made

    def revoke_key(
        self, project_id: str, name: str, *, confirmed: bool = False, version: int | None = None, actor: Actor
    ) -> Key:
        """Revoke a key. Its secret stops working within a second. Revoking a revoked key changes nothing.

        Args:
            confirmed: revoke the key even if it is the last one that can create keys.

        Raises:
            Refused: there is no such key, or it is the last one that can create keys and `confirmed` is false.
        """
        now = self._clock()
        key: Key | None = None

        def edit(tx: Transaction, project: Project) -> Project:
            nonlocal key
            key = tx.stored_key(project.number, name)
            if key is not None and key.revoked_at is not None:
                return project
            keys = without_key(project.keys, name, str(actor), now, confirmed=confirmed)
            key = find_key(keys, name)
            if name == DEFAULT_KEY:
                # For servers of an older version, which know only this key.
                project = replace(project, secret_hash=secrets.token_bytes(32))
            return with_keys(project, keys)

        self._edit_with_keys(project_id, edit, actor, version)
        assert key is not None
        return key

    def _edit_with_keys(
        self, project_id: str, edit: Callable[[Transaction, Project], Project], actor: Actor, version: int | None
    ) -> None:
        """Edit a project, given a transaction that also has the revoked keys."""

        def command(tx: Transaction) -> Project:
            def checked(project: Project) -> Project:
                check_version(project, version)
                return edit(tx, project)

            return projects.edit(tx, project_id, checked, actor, self._clock)

        self._store.transact(command)


def with_keys(project: Project, keys: Sequence[Key]) -> Project:
    """Return the project with these keys. The key `default` is stored only once it has been changed."""
    names, known = {key.name for key in project.stored_keys}, set(project.keys)
    stored = (key for key in keys if key.name in names or key not in known)
    return replace(project, stored_keys=tuple(sorted(stored, key=lambda key: key.name)))


def check_granted(scopes: Collection[Scope], granted: Collection[Scope]) -> None:
    """Raise Refused if `scopes` contains one that `granted` does not."""
    if missing := ordered(scope for scope in scopes if scope not in granted):
        raise refusal(ProblemKind.SCOPE_EXCEEDED, legal=tuple(missing))


def shared_salt(project: Project) -> bytes:
    """Return the salt shared by the project's secrets that were not generated here; a new one if there are none.

    A wrong secret then costs one slow hash, as for a project that does not exist, so the response time does not reveal
    whether the project exists.
    """
    brought = (p.salt for key in project.keys for p in key.proofs if not p.id)
    return next(brought, None) or secrets.token_bytes(SALT_BYTES)


def check_is_new(project: Project, secret: str, now: int, *, of: str = "") -> None:
    """Raise Refused if a key other than `of` has the secret. A secret must identify its key."""
    keyring = Keyring(project)
    match = keyring.find_generated(secret, now)
    if match is None and not public_id(secret) and (found := keyring.find_brought(secret, now)):
        match = found[0]
    if match is not None and match.key != of:
        raise refusal(ProblemKind.KEY_SECRET)
