"""A project's keys: which secrets are accepted, with which scopes, and until when."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from usertable.domain.errors import ProblemKind, check_all, refusal
from usertable.domain.permissions import PROJECT_SCOPES, Scope, ordered

DEFAULT_KEY = "default"
"""The key that every project is created with. Its secret is the project's."""
MAX_KEYS = 1000
"""Maximum number of a project's keys that are not revoked."""
MAX_OWN_SECRETS = 8
"""Maximum number of those keys whose secret was chosen by the caller, because it may be easy to guess."""
MAX_OVERLAP_SECONDS = 30 * 86_400
"""Maximum number of seconds for which a replaced secret keeps working."""
KEY_POSITION = r"^[0-2]\.[0-9]{1,15}\.[A-Za-z0-9._-]{1,64}$"
"""The form of a :class:`KeyPosition` as text."""
_REVOKED = 2
# As for a project's ID: `.` and `..` could not be used in a URL.
_NAME = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,64}")


class KeyState(StrEnum):
    """Whether a key is accepted."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Proof:
    """What a secret is verified against. The secret itself is not stored."""

    hash: bytes
    """SHA-256 of a generated secret, scrypt of one chosen by the caller."""
    id: str = ""
    """The public ID in a generated secret; empty for one chosen by the caller."""
    salt: bytes = b""
    """Salt of scrypt. For the key `default`, the salt of the project's secret, even next to a SHA-256."""
    until: int | None = None
    """When a replaced secret stops working, in ms since 1970 UTC; None for the current one."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key. Times are in ms since 1970 UTC."""

    name: str
    """Unique in the project, including revoked keys."""
    scopes: frozenset[Scope]
    created_at: int
    created_by: str = ""
    """Empty if unknown: for a key `default` that an older usertable created."""
    proofs: tuple[Proof, ...] = ()
    """The current secret's first. Empty after the key is revoked."""
    expires_at: int | None = None
    revoked_at: int | None = None
    revoked_by: str = ""

    def state(self, now: int) -> KeyState:
        """Return the key's state at `now`."""
        if self.revoked_at is not None:
            return KeyState.REVOKED
        return KeyState.EXPIRED if self.expires_at is not None and self.expires_at <= now else KeyState.ACTIVE

    def ends(self, proof: Proof) -> int | None:
        """Return when the secret of a proof stops working; None for never."""
        return min((end for end in (self.expires_at, proof.until) if end is not None), default=None)

    def admits_all_of(self, before: Key) -> bool:
        """Whether whoever had a secret of the key, as it was before, has one still."""
        return self.revoked_at is None and {p.hash for p in before.proofs} <= {p.hash for p in self.proofs}

    def previous_until_after(self, now: int) -> int | None:
        """Return when the secret before the current one stops working; None if it does not work at `now` any more."""
        until = self.previous_until
        return until if until is not None and until > now else None

    @property
    def previous_until(self) -> int | None:
        """When the secret before the current one stops working; None if it stopped when it was replaced."""
        return self.ends(self.proofs[1]) if len(self.proofs) > 1 else None

    @property
    def public_id(self) -> str:
        """The public ID in the current secret; empty if the caller chose it, or the key is revoked."""
        return self.proofs[0].id if self.proofs else ""


@dataclass(frozen=True, slots=True, order=True)
class KeyPosition:
    """A key's position in a list: `default` first, others in order of creation, then revoked ones, the last revoked first.

    As text: `1.1700000000000.billing`.
    """

    group: int
    at: int
    """When the key was created, or minus the time when it was revoked; ms since 1970 UTC."""
    name: str

    @classmethod
    def of(cls, key: Key) -> Self:
        if key.revoked_at is not None:
            return cls(_REVOKED, -key.revoked_at, key.name)
        return cls(int(key.name != DEFAULT_KEY), key.created_at, key.name)

    @classmethod
    def parsed(cls, text: str) -> Self:
        """Return the position of a text of the form :data:`KEY_POSITION`."""
        group, at, name = text.split(".", 2)
        return cls(int(group), -int(at) if int(group) == _REVOKED else int(at), name)

    def __str__(self) -> str:
        return f"{self.group}.{abs(self.at)}.{self.name}"

    @property
    def revoked(self) -> tuple[int, str] | None:
        """When the key was revoked, and its name; None if it is not revoked."""
        return (-self.at, self.name) if self.group == _REVOKED else None


def default_key(secret: Proof, stored: Sequence[Key], created_at: int) -> Key:
    """Return the key `default` of a project.

    Args:
        secret: the proof of the project's secret, which every version of usertable reads.
        stored: the project's stored keys, which may include `default`.
    """
    key = next((key for key in stored if key.name == DEFAULT_KEY), None)
    if key is None:
        return Key(DEFAULT_KEY, PROJECT_SCOPES, created_at, proofs=(secret,))
    if key.revoked_at is None and key.proofs[0].salt != secret.salt:
        # An older usertable has replaced the secret since.
        return replace(key, proofs=(secret,))
    return key


def with_key(keys: Sequence[Key], key: Key, now: int, *, was_used: bool = False) -> list[Key]:
    """Return a project's keys with one added.

    Args:
        was_used: a key that is not in `keys`, because it was revoked, has the name.

    Raises:
        Refused: the name is malformed or was used before, there is no scope, the key expires in the past, or there are too
            many keys.
    """
    check_all(lambda: _check_name(keys, key.name, was_used), lambda: _check_scopes(key), lambda: _check_expiry(key, now))
    unrevoked = [key, *(k for k in keys if k.revoked_at is None)]
    if len(unrevoked) > MAX_KEYS:
        raise refusal(ProblemKind.TOO_MANY_KEYS, limit=MAX_KEYS)
    if not key.public_id and sum(any(not p.id for p in k.proofs) for k in unrevoked) > MAX_OWN_SECRETS:
        raise refusal(ProblemKind.TOO_MANY_OWN_SECRETS, limit=MAX_OWN_SECRETS)
    return [*keys, key]


def without_key(keys: Sequence[Key], name: str, actor: str, now: int, *, confirmed: bool) -> list[Key]:
    """Return a project's keys with one revoked. No change if it is already revoked.

    Args:
        confirmed: revoke the key even if it is the last that may create keys.

    Raises:
        Refused: there is no such key; or it is the last that may create keys, and `confirmed` is false.
    """
    key = find_key(keys, name)
    if key.revoked_at is not None:
        return list(keys)
    others = [k for k in keys if k is not key]
    creators = [k for k in others if Scope.KEYS in k.scopes and k.state(now) is KeyState.ACTIVE]
    is_creator = Scope.KEYS in key.scopes and key.state(now) is KeyState.ACTIVE
    if is_creator and not creators and not confirmed:
        raise refusal(ProblemKind.LAST_KEY, key=name)
    return [*others, replace(key, proofs=(), revoked_at=now, revoked_by=actor)]


def find_key(keys: Sequence[Key], name: str) -> Key:
    """Return the key with this name. Raises Refused if there is none."""
    for key in keys:
        if key.name == name:
            return key
    raise refusal(ProblemKind.KEY_UNKNOWN, key=name)


def parse_scopes(names: Sequence[str]) -> frozenset[Scope]:
    """Return the scopes with these names. Raises Refused if a key cannot have one of them."""
    legal = {scope.value: scope for scope in PROJECT_SCOPES}
    for name in names:
        if name not in legal:
            raise refusal(ProblemKind.SCOPE, value=name, legal=tuple(ordered(PROJECT_SCOPES)))
    return frozenset(legal[name] for name in names)


def _check_name(keys: Sequence[Key], name: str, was_used: bool) -> None:
    if not _NAME.fullmatch(name):
        raise refusal(ProblemKind.KEY_NAME, key=name)
    if was_used or any(key.name == name for key in keys):
        raise refusal(ProblemKind.KEY_EXISTS, key=name)


def _check_scopes(key: Key) -> None:
    if not key.scopes:
        raise refusal(ProblemKind.SCOPE, value="", legal=tuple(ordered(PROJECT_SCOPES)))


def _check_expiry(key: Key, now: int) -> None:
    if key.expires_at is not None and key.expires_at <= now:
        raise refusal(ProblemKind.KEY_EXPIRY)
