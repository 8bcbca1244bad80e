"""The secrets that authenticate the callers of a project: generated ones by public id, others by comparing hashes."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from usertable.app.secrets import is_generated_secret, public_id, slow_hash
from usertable.domain.key import Key, Proof
from usertable.domain.schema import Project

_NO_SALT = b"-" * 16


@dataclass(frozen=True, slots=True)
class Match:
    """The key that a secret belongs to."""

    key: str
    """Name of the key."""
    until: int | None
    """When the secret stops working, in milliseconds since 1970-01-01 UTC; None for never."""

    def is_over(self, now: int) -> bool:
        """Return whether the secret has stopped working at `now`, in milliseconds since 1970-01-01 UTC."""
        return self.until is not None and self.until <= now


class Keyring:
    """The data to recognize a project's secrets with, as of one version of the project. Small: it contains no schema.

    Args:
        project: None for a project that does not exist. Rejecting a secret for it takes as long as for one that does.
    """

    __slots__ = ("_generated", "brought", "mark", "version")

    def __init__(self, project: Project | None) -> None:
        keys = () if project is None else project.keys
        self.version = -1 if project is None else project.version
        self._generated: dict[str, tuple[Match, Proof]] = {}
        self.brought: list[tuple[Match, Proof]] = []
        """Secrets that were not generated here."""
        digest = hashlib.sha256()
        for key in keys:
            for proof in key.proofs:
                self._add(key, proof)
                digest.update(proof.hash)
        self.mark = digest.digest()
        """Changes whenever a secret is added, replaced or revoked."""

    def _add(self, key: Key, proof: Proof) -> None:
        match = Match(key.name, key.ends(proof))
        if proof.id:
            self._generated[proof.id] = match, proof
        else:
            self.brought.append((match, proof))

    def find_generated(self, secret: str, now: int) -> Match | None:
        """Return the key with this generated secret. Fast."""
        found = self._generated.get(public_id(secret))
        if found is None or not is_generated_secret(secret, found[1]) or found[0].is_over(now):
            return None
        return found[0]

    def find_brought(self, secret: str, now: int) -> tuple[Match, Proof] | None:
        """Return the key with this secret that was not generated here. Takes 25 ms of CPU per salt, at least once."""
        brought = [(match, proof) for match, proof in self.brought if not match.is_over(now)]
        hashes = {salt: slow_hash(secret, salt) for salt in {proof.salt for _, proof in brought} or {_NO_SALT}}
        for match, proof in brought:
            if hmac.compare_digest(hashes[proof.salt], proof.hash):
                return match, proof
        return None
