"""Projects: create, list, edit, rotate the secret, verify a secret."""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any
from zoneinfo import available_timezones

from usertable.app.keyring import Keyring, Match
from usertable.app.keys import SALT_BYTES, check_granted, check_is_new, shared_salt, with_keys
from usertable.app.secrets import check_secret, generate_secret, proof_of, public_id, slow_hash
from usertable.app.use_cases import UseCases
from usertable.commands import projects
from usertable.domain.actor import Actor
from usertable.domain.errors import ProblemKind, Refused, check_all, refusal
from usertable.domain.key import DEFAULT_KEY, MAX_OVERLAP_SECONDS, Key, Proof, find_key
from usertable.domain.permissions import ALL_SCOPES, PROJECT_SCOPES, Scope
from usertable.domain.schema import DEFAULT_TIMEZONE, Project

DEFAULT_QPS = 100
MAX_QPS = 1_000_000
# The IDs `.` and `..` could not be used in a URL: browsers and proxies treat them as steps in a path.
_PROJECT_ID = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Caller:
    """A verified caller: a key of a project."""

    project: Project
    match: Match
    brought: Proof | None = None
    """The proof of a secret that was not generated."""


class Projects(UseCases):
    """Use cases about projects and their secrets."""

    def create_project(
        self,
        name: str,
        *,
        id: str | None = None,
        secret: str | None = None,
        timezone: str = DEFAULT_TIMEZONE,
        qps: int | None = DEFAULT_QPS,
        actor: Actor,
    ) -> tuple[Project, str]:
        """Create a project. Return it with its secret, which is not stored and cannot be shown again.

        `id` and `secret` are generated if omitted; a generated ID has six digits.
        """
        check_all(
            lambda: _check_project_name(name),
            lambda: _check_project_id(id),
            lambda: _check_timezone(timezone),
            lambda: _check_qps(qps),
            lambda: None if secret is None else check_secret(secret),
        )
        secret = secret or generate_secret()
        salt, now = secrets.token_bytes(SALT_BYTES), self._clock()
        key = Key(DEFAULT_KEY, PROJECT_SCOPES, now, str(actor), (proof_of(secret, salt),))
        while True:
            project = Project(
                number=0,
                id=id or str(100_000 + secrets.randbelow(900_000)),
                name=name,
                secret_salt=salt,
                secret_hash=slow_hash(secret, salt),
                timezone=timezone,
                qps=qps,
                created_at=now,
                stored_keys=(key,),
            )
            try:
                return self._store.transact(partial(projects.create, project=project, actor=actor)), secret
            except Refused:
                if id is not None:
                    raise

    def projects(self) -> list[Project]:
        """Return all projects, in order of creation."""
        return self._store.projects()

    def edit_project(
        self,
        project_id: str,
        *,
        name: str | None = None,
        timezone: str | None = None,
        qps: int | None = None,
        unlimited: bool = False,
        version: int | None = None,
        actor: Actor,
    ) -> Project:
        """Change settings of a project. None leaves a setting unchanged. `unlimited` removes the QPS limit.

        Times are stored in UTC, so another time zone changes how they are shown and how later ones are read.
        """
        check_all(
            lambda: _check_project_name(name),
            lambda: _check_timezone(timezone),
            lambda: _check_qps(None if unlimited else qps),
        )
        sent = {"name": name, "timezone": timezone, "qps": qps}
        changes: dict[str, Any] = {key: value for key, value in sent.items() if value is not None}
        if unlimited:
            changes["qps"] = None
        return self._edit(project_id, lambda project: replace(project, **changes), actor, version)

    def rotate_secret(
        self,
        project_id: str,
        *,
        secret: str | None = None,
        overlap_seconds: int = 0,
        granted: Collection[Scope] = ALL_SCOPES,
        version: int | None = None,
        actor: Actor,
    ) -> tuple[Project, str]:
        """Replace the secret of the key `default`. The new one cannot be shown again.

        Args:
            overlap_seconds: seconds for which the previous secret keeps working; 0 ends that within a second. An older one
                stops in any case.
            granted: the scopes of the caller, who gets a secret with those of `default`.

        Raises:
            Refused: the key is revoked, or has scopes that the caller does not have.
        """
        check_all(
            lambda: None if secret is None else check_secret(secret),
            lambda: _check_overlap(overlap_seconds),
        )
        now, salt = self._clock(), secrets.token_bytes(SALT_BYTES)
        if secret is not None:
            project = self.project(project_id)
            check_is_new(project, secret, now, of=DEFAULT_KEY)
            salt = salt if public_id(secret) else shared_salt(project)
        secret = secret or generate_secret()
        proof, hashed = proof_of(secret, salt), slow_hash(secret, salt)

        def edit(project: Project) -> Project:
            key = find_key(project.keys, DEFAULT_KEY)
            check_granted(key.scopes, granted)
            if key.revoked_at is not None:
                raise refusal(ProblemKind.KEY_REVOKED, key=DEFAULT_KEY)
            before = [replace(key.proofs[0], until=now + overlap_seconds * 1000)] if overlap_seconds else []
            others = [k for k in project.keys if k.name != DEFAULT_KEY]
            kept = with_keys(project, [*others, replace(key, proofs=(proof, *before))])
            return replace(kept, secret_salt=salt, secret_hash=hashed)

        return self._edit(project_id, edit, actor, version), secret

    def epoch(self) -> int:
        """Return a number that changes whenever a project is created or changed. Fast."""
        return self._store.epoch()

    def versions(self) -> Mapping[str, int]:
        """Return the version of every project by its ID. Fast."""
        return self._store.versions()

    def verify(self, project_id: str, secret: str) -> Caller | None:
        """Return the caller whose secret this is, if a key of the project has it.

        Fast for a generated secret. Any other takes about 25 ms of CPU, even if it is wrong or the project does not exist.
        """
        project, now = self.find_project(project_id), self._clock()
        keyring = Keyring(project)
        if project is not None and (match := keyring.find_generated(secret, now)):
            return Caller(project, match)
        found = keyring.find_brought(secret, now)
        return Caller(project, *found) if project is not None and found else None


def _check_project_name(name: str | None) -> None:
    if name is not None and (not name.strip() or len(name) > 200 or not name.isprintable()):
        raise refusal(ProblemKind.PROJECT_NAME, limit=200)


def _check_project_id(id: str | None) -> None:
    if id is not None and not _PROJECT_ID.fullmatch(id):
        raise refusal(ProblemKind.PROJECT_ID, id=id)


@cache
def time_zones() -> frozenset[str]:
    """Return the names of all time zones. Looking for their files takes 20 ms of CPU, so that is done once."""
    return frozenset(available_timezones())


def _check_timezone(name: str | None) -> None:
    if name is not None and name not in time_zones():
        raise refusal(ProblemKind.TIMEZONE, value=name)


def _check_qps(qps: int | None) -> None:
    if qps is not None and not 1 <= qps <= MAX_QPS:
        raise refusal(ProblemKind.QPS, value=qps, maximum=MAX_QPS)


def _check_overlap(seconds: int) -> None:
    if not 0 <= seconds <= MAX_OVERLAP_SECONDS:
        raise refusal(ProblemKind.OVERLAP, maximum=MAX_OVERLAP_SECONDS)
