"""The audit log: who did what."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from operator import attrgetter

from usertable.app.use_cases import UseCases
from usertable.domain.actor import Actor, check_actor, is_actor
from usertable.domain.audit import INSTALLATION, SCHEMA_CHANGES, AuditEntry, AuditEvent, AuditFilter, AuditKind, SchemaChange

_PAGE = 1000
_CHANGES = AuditFilter(kinds=SCHEMA_CHANGES | {""})
"""An entry without a kind is a change that an older version recorded."""


class AuditLog(UseCases):
    """Use cases for reading and adding to the audit log."""

    def record(self, log: int, actor: Actor, *events: AuditEvent) -> None:
        """Add entries for events that changed nothing in the store. A change is recorded together with the change itself.

        Args:
            log: number of a project, or :data:`~usertable.domain.audit.INSTALLATION`.
        """
        now = self._clock()
        self._store.transact(lambda tx: tx.record(log, actor, events, now))

    def record_migration(self, actor: Actor) -> None:
        """Add an entry if opening the store migrated it."""
        if done := self._store.migration:
            event = AuditEvent(AuditKind.MIGRATE_STORE, "", {"version": done.before}, {"version": done.after})
            self.record(INSTALLATION, actor, event)

    def audit(
        self, log: int, wanted: AuditFilter, limit: int, *, before: int | None = None, after: int | None = None
    ) -> list[AuditEntry]:
        """Return a page of a log, of a project or of the installation; see :meth:`usertable.store.protocol.Store.audit`.

        Raises:
            Refused: `wanted.actor` does not have the form of an actor, and no entry has it.
        """
        # Older versions recorded other names.
        if (actor := wanted.actor) is not None and not is_actor(actor) and not self._by(log, actor):
            check_actor(actor)
        return self._store.audit(log, wanted, limit, before=before, after=after)

    def schema_changes(self, project_id: str, limit: int = 100) -> list[SchemaChange]:
        """Return the newest changes of a project and its schema, newest first."""
        together = itertools.groupby(self._entries(self.project(project_id).number, _CHANGES), attrgetter("first"))
        return [_change(list(entries)[::-1]) for _, entries in itertools.islice(together, limit)]

    def _by(self, log: int, actor: str) -> bool:
        """Return whether a log has an entry by an actor."""
        return bool(self._store.audit(log, AuditFilter(actor=actor), 1))

    def _entries(self, project: int, wanted: AuditFilter) -> Iterator[AuditEntry]:
        """Yield the entries of a log, newest first."""
        before = None
        while page := self._store.audit(project, wanted, _PAGE, before=before):
            yield from page
            before = page[-1].number


def _change(entries: list[AuditEntry]) -> SchemaChange:
    first = entries[0]
    return SchemaChange(first.at, first.actor, first.sentence or [entry.event for entry in entries])
