"""A project is made, or edited, with a record of who changed what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from usertable.domain.errors import ProblemKind, refusal
from usertable.domain.schema import Project
from usertable.domain.schema_change import changes_between
from usertable.store.transaction import Transaction


def create(transaction: Transaction, project: Project, actor: str) -> Project:
    """Keep a new project; its `number` is the engine's choice. Raises Refused if the id is taken."""
    if transaction.has_project(project.id):
        raise refusal(ProblemKind.PROJECT_EXISTS, id=project.id)
    return transaction.add_project(project, actor, changes_between(None, project))


def edit(transaction: Transaction, project_id: str, edited: Callable[[Project], Project], actor: str, now: int) -> Project:
    """Replace a project by `edited(project)`, and record who changed what. If it is equal, nothing is recorded.

    `edited` sees `reported`, `identifying` and the schema as stored; what it raises leaves everything as it is.

    Raises:
        Refused: there is no such project.
    """
    project = transaction.project(project_id)
    if project is None:
        raise refusal(ProblemKind.PROJECT_UNKNOWN, id=project_id)
    after = edited(project)
    if after != project:
        after = replace(after, version=project.version + 1)
        transaction.replace_project(after, actor, changes_between(project, after), now)
    return after
