"""Projects: create, list, edit, rotate the secret, verify it."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any
from zoneinfo import available_timezones

from usertable.app.use_cases import UseCases
from usertable.commands import projects
from usertable.domain.errors import ProblemKind, Refused, check_all, refusal
from usertable.domain.schema import DEFAULT_TIMEZONE, Project
from usertable.store.records import SchemaChange

DEFAULT_QPS = 100
MAX_QPS = 1_000_000
# The ids `.` and `..` could not be addressed: browsers and proxies take them for steps in a path.
_PROJECT_ID = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,64}")
_SECRET = re.compile(r"[!-~]{1,128}")


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
        actor: str,
    ) -> tuple[Project, str]:
        """A new project, and its secret, which is not kept and cannot be shown again.

        `id` and `secret` are made if they are not given: an id of digits, a secret of 32 random hex characters.
        """
        check_all(
            lambda: _check_project_name(name),
            lambda: _check_project_id(id),
            lambda: _check_timezone(timezone),
            lambda: _check_qps(qps),
            lambda: _checked_secret(secret),
        )
        secret = _checked_secret(secret)
        salt = secrets.token_bytes(16)
        while True:
            project = Project(
                number=0,
                id=id or str(100_000 + secrets.randbelow(900_000)),
                name=name,
                secret_salt=salt,
                secret_hash=_hash_secret(secret, salt),
                timezone=timezone,
                qps=qps,
                created_at=self._clock(),
            )
            try:
                return self._store.transact(partial(projects.create, project=project, actor=actor)), secret
            except Refused:
                if id is not None:
                    raise

    def projects(self) -> list[Project]:
        """All projects, in order of creation."""
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
        actor: str,
    ) -> Project:
        """Change some settings of a project; what is None stays. `unlimited` lifts the QPS limit.

        Moments are kept in UTC, so another time zone changes how they are shown and how later ones are read.
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
        self, project_id: str, *, secret: str | None = None, version: int | None = None, actor: str
    ) -> tuple[Project, str]:
        """Replace a project's secret; the old one stops working within a second. The new one cannot be shown again."""
        secret = _checked_secret(secret)
        salt = secrets.token_bytes(16)
        hashed = _hash_secret(secret, salt)
        project = self._edit(project_id, lambda p: replace(p, secret_salt=salt, secret_hash=hashed), actor, version)
        return project, secret

    def schema_changes(self, project_id: str, limit: int = 100) -> list[SchemaChange]:
        """The newest changes of a project and its schema, newest first."""
        return self._store.schema_changes(self.project(project_id).number, limit)

    def epoch(self) -> int:
        """A number that differs from an earlier one if any project was created or changed in between. Cheap."""
        return self._store.epoch()

    def versions(self) -> Mapping[str, int]:
        """The version of every project by its id. Cheap."""
        return self._store.versions()

    def verify(self, project_id: str, secret: str) -> Project | None:
        """The project, if the secret is its own. Takes some 25 ms of CPU, whether the project exists or not."""
        project = self.find_project(project_id)
        salt, expected = (project.secret_salt, project.secret_hash) if project else (b"-" * 16, b"-" * 32)
        matches = hmac.compare_digest(_hash_secret(secret, salt), expected)
        return project if matches else None


def _check_project_name(name: str | None) -> None:
    if name is not None and (not name.strip() or len(name) > 200 or not name.isprintable()):
        raise refusal(ProblemKind.PROJECT_NAME, limit=200)


def _check_project_id(id: str | None) -> None:
    if id is not None and not _PROJECT_ID.fullmatch(id):
        raise refusal(ProblemKind.PROJECT_ID, id=id)


def _check_timezone(name: str | None) -> None:
    if name is not None and name not in available_timezones():
        raise refusal(ProblemKind.TIMEZONE, value=name)


def _check_qps(qps: int | None) -> None:
    if qps is not None and not 1 <= qps <= MAX_QPS:
        raise refusal(ProblemKind.QPS, value=qps, maximum=MAX_QPS)


def _checked_secret(secret: str | None) -> str:
    if secret is None:
        return secrets.token_hex(16)
    if not _SECRET.fullmatch(secret):
        raise refusal(ProblemKind.SECRET, maximum=128)
    return secret


def _hash_secret(secret: str, salt: bytes) -> bytes:
    # An operator may bring a short secret along, so the hash is a slow one; a running server remembers who passed.
    return hashlib.scrypt(secret.encode(), salt=salt, n=2**13, r=8, p=1, dklen=32)
