"""What the use cases of every topic share: a store, a clock, the rules, and how a project is read and edited."""

from __future__ import annotations

from collections.abc import Callable

from usertable.app.clock import now_ms
from usertable.commands import projects
from usertable.domain.actor import Actor
from usertable.domain.errors import ProblemKind, ProjectChanged, refusal
from usertable.domain.merge import Rules
from usertable.domain.schema import MAX_ATTRIBUTES, Project
from usertable.store.protocol import Store


class UseCases:
    """The use cases that may block. Every method may raise Unavailable; those that change something, Refused.

    If a `version` is given, it must be the project's version when the change is made. Otherwise the change is refused, so
    that a caller does not overwrite changes made after it read the project.

    Args:
        clock: milliseconds since 1970 UTC.
        max_attributes: maximum number of attributes per project.
        rules: the rules for all writes.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], int] = now_ms,
        max_attributes: int = MAX_ATTRIBUTES,
        rules: Rules = Rules(),  # noqa: B008
    ) -> None:
        self.rules = rules
        self._store = store
        self._clock = clock
        self._max_attributes = max_attributes

    def now(self) -> int:
        """Return milliseconds since 1970 UTC."""
        return self._clock()

    def project(self, project_id: str) -> Project:
        if found := self.find_project(project_id):
            return found
        raise refusal(ProblemKind.PROJECT_UNKNOWN, id=project_id)

    def find_project(self, project_id: str) -> Project | None:
        return self._store.project(project_id)

    def _edit(
        self, project_id: str, edit: Callable[[Project], Project], actor: Actor, version: int | None = None
    ) -> Project:
        def checked(project: Project) -> Project:
            check_version(project, version)
            return edit(project)

        return self._store.transact(lambda tx: projects.edit(tx, project_id, checked, actor, self._clock))


def check_version(project: Project, version: int | None) -> None:
    if version is not None and version != project.version:
        raise ProjectChanged(version, project.version)
