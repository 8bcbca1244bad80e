"""What the use cases of every topic have: a store, a clock, the rules, and how a project is read and edited."""

from __future__ import annotations

from collections.abc import Callable

from usertable.app.clock import now_ms
from usertable.commands import projects
from usertable.domain.errors import ProblemKind, ProjectChanged, refusal
from usertable.domain.merge import Rules
from usertable.domain.schema import MAX_ATTRIBUTES, Project
from usertable.store.protocol import Store


class UseCases:
    """The use cases that may block. Every method may raise Unavailable; those that change something, Refused.

    A `version` that is given must be the project's when the change is made, else it is refused and nothing is changed: so
    whoever read the project before changes what was read, and nobody else's change in between is undone.

    Args:
        clock: milliseconds since 1970 UTC.
        max_attributes: attributes per project.
        rules: what decides all writes.
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

    def project(self, project_id: str) -> Project:
        if found := self.find_project(project_id):
            return found
        raise refusal(ProblemKind.PROJECT_UNKNOWN, id=project_id)

    def find_project(self, project_id: str) -> Project | None:
        return self._store.project(project_id)

    def _edit(self, project_id: str, edit: Callable[[Project], Project], actor: str, version: int | None = None) -> Project:
        def checked(project: Project) -> Project:
            check_version(project, version)
            return edit(project)

        now = self._clock()
        return self._store.transact(lambda tx: projects.edit(tx, project_id, checked, actor, now))


def check_version(project: Project, version: int | None) -> None:
    if version is not None and version != project.version:
        raise ProjectChanged(version, project.version)
