"""A store's commands, for tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from support.actors import TESTER
from usertable.commands import import_rows, projects, users
from usertable.domain.actor import Actor
from usertable.domain.merge import Rules, decide
from usertable.domain.schema import Project
from usertable.store import Store
from usertable.store.protocol import NextState
from usertable.store.records import ImportBatch, ImportResult, JobMoved, SchemaStale, User

EVERYBODY = 1_000_000


def import_batch(
    store: Store, batch: ImportBatch, rules: Rules = decide, note: NextState | None = None
) -> ImportResult | SchemaStale | JobMoved:
    return store.transact(lambda tx: import_rows.import_rows(tx, batch, rules, note))


def add_user(store: Store, project: int, cuid: int, identifiers: Mapping[str, str], now: int) -> None:
    store.transact(lambda tx: users.add(tx, project, cuid, identifiers, TESTER, now))


def erase_user(store: Store, project: int, cuid: int) -> bool:
    return store.transact(lambda tx: users.erase(tx, project, cuid, TESTER, 0))


def add_project(store: Store, project: Project, actor: Actor) -> Project:
    return store.transact(lambda tx: projects.create(tx, project, actor))


def edit_project(store: Store, project_id: str, edited: Callable[[Project], Project], actor: Actor, now: int) -> Project:
    return store.transact(lambda tx: projects.edit(tx, project_id, edited, actor, lambda: now))


def all_users(store: Store, project: int, after: int | None = None) -> list[User]:
    """Return the users with a CUID greater than `after`, by CUID."""
    return store.select(project, [], after, EVERYBODY, EVERYBODY).users
