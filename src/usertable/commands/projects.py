"""Creating and editing projects, with entries in the audit log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from usertable.domain.actor import Actor
from usertable.domain.audit import INSTALLATION
from usertable.domain.errors import ProblemKind, refusal
from usertable.domain.schema import Project, Schema
from usertable.domain.schema_change import changes_between
from usertable.store.transaction import Transaction


def create(transaction: Transaction, project: Project, actor: Actor) -> Project:
    """Store a new project. The engine chooses its `number`. Raises Refused if the ID is taken."""
    if transaction.has_project(project.id):
        raise refusal(ProblemKind.PROJECT_EXISTS, id=project.id)
    made = transaction.add_project(project)
    if made.history.is_on:
        transaction.keep_history_since(made.number, made.created_at)
    events = changes_between(None, made)
    transaction.record(made.number, actor, events, made.created_at)
    transaction.record(INSTALLATION, actor, [replace(event, subject=made.id) for event in events], made.created_at)
    return made


def begin_history(transaction: Transaction, project_id: str, clock: Callable[[], int]) -> None:
    """Say that changes are recorded from now on, if they should be and nothing says since when.

    That is so for a project that a server of a version without history made, beside servers with it.
    """
    project = transaction.project(project_id)
    if project is not None and project.history.is_on and transaction.history_since(project.number) is None:
        _begin_history(transaction, project.number, clock())


def _begin_history(transaction: Transaction, number: int, now: int) -> None:
    # Not before what is recorded or was: the clock may be behind.
    transaction.keep_history_since(number, max(now, transaction.newest_change(number) or now))


def edit(
    transaction: Transaction,
    project_id: str,
    edited: Callable[[Project], Project],
    actor: Actor,
    clock: Callable[[], int],
) -> Project:
    """Replace a project by `edited(project)` and record the changes. If it is equal, nothing is recorded.

    `edited` sees `reported`, `identifying` and the schema as stored. If it raises, nothing changes.

    Args:
        clock: milliseconds since 1970 UTC. It is read once nobody else writes to the project, which on PostgreSQL may take
            as long as an import's batch: what was written until then may not be in its history.

    Raises:
        Refused: there is no such project.
    """
    project = transaction.project(project_id)
    if project is None:
        raise refusal(ProblemKind.PROJECT_UNKNOWN, id=project_id)
    now = clock()
    after = edited(project)
    if after != project:
        schema = _with_history_from(transaction, project, after.schema)
        after = replace(after, version=project.version + 1, schema=schema)
        stored = {key.name: key for key in project.stored_keys}
        keys = [key for key in after.stored_keys if key != stored.get(key.name)]
        transaction.replace_project(after, keys)
        if after.history.is_on and not project.history.is_on:
            _begin_history(transaction, project.number, now)
        elif project.history.is_on and not after.history.is_on:
            transaction.keep_history_since(project.number, None)
        transaction.record(project.number, actor, changes_between(project, after), now)
    return after


def _with_history_from(transaction: Transaction, before: Project, schema: Schema) -> Schema:
    """Return an edited schema in which attributes whose history was turned on know from which change on they have it.

    Their moment alone could be wrong, because the clock may be behind that of earlier writes.
    """
    known = before.schema.attributes
    begun = [a for name, a in schema.attributes.items() if name in known and a.begins_after(known[name])]
    if not begun:
        return schema
    number = transaction.next_change(before.number)
    return replace(schema, attributes={**schema.attributes, **{a.name: replace(a, history_from=number) for a in begun}})
