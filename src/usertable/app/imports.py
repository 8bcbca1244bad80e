"""Rows of an import: many users in one transaction, each row decided on its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from usertable.app.access import Authenticator, ProjectAccess
from usertable.app.batches import BatchEntry
from usertable.app.use_cases import UseCases
from usertable.commands.import_rows import import_rows
from usertable.commands.users import origin_of
from usertable.domain.actor import Actor
from usertable.domain.arrival import Arrivals
from usertable.domain.errors import Overloaded, Problem, ProblemKind, Refused, Unavailable
from usertable.domain.identity import is_cuid, malformed_cuid
from usertable.domain.patch import Patch
from usertable.domain.schema import Project
from usertable.store.protocol import NextState
from usertable.store.records import ImportBatch, ImportResult, JobMoved, PatchRow, PatchRows, Refusal, Result, SchemaStale
from usertable.wire.import_values import identifier_values, read_row

log = logging.getLogger("usertable.app")


class Imports(UseCases):
    """Use cases of an import."""

    def job(self, project: Project, name: str) -> str | None:
        """Return the state of the import with this name; None if there was none."""
        return self._store.job(project.number, name)

    def import_batch(self, batch: ImportBatch, next_state: NextState | None = None) -> ImportResult | SchemaStale | JobMoved:
        """Import validated rows; see :func:`usertable.commands.import_rows.import_rows`."""
        done = self._store.transact(lambda tx: import_rows(tx, batch, self.rules, next_state), background=not batch.dry_run)
        if isinstance(done, ImportResult) and not batch.dry_run and _is_accepted(done):
            # The rows are stored already, whether or not this succeeds.
            with contextlib.suppress(Unavailable):
                self._store.keep_arrivals([Arrivals(batch.project, batch.now // 1000 * 1000, written={*batch.names})])
        return done

    def import_rows(
        self, project: Project, entries: Sequence[BatchEntry], *, register: bool, actor: Actor, dry_run: bool = False
    ) -> list[tuple[int | None, Result]] | None:
        """Import entries as rows, in order, all valid ones in one transaction.

        Returns the CUID of each, if known, and its result; None if the project was changed meanwhile.
        """
        results: dict[int, tuple[int | None, Result]] = {}
        rows: list[PatchRow] = []
        names: set[str] = set()
        for index, entry in enumerate(entries):
            row = _row(project, entry)
            if isinstance(row, list):
                results[index] = (entry.cuid, Refusal(row))
            else:
                rows.append(row)
                names.update([attribute.name for attribute, _ in row[2].entries])
        if rows:
            batch = ImportBatch(
                project.number,
                project.version,
                PatchRows(*zip(*rows, strict=True)),
                frozenset(names),
                self._clock(),
                register,
                dry_run=dry_run,
                origin=origin_of(project, actor),
                request=actor.request_id,
                receipts=[entry.receipt for index, entry in enumerate(entries) if index not in results],
            )
            result = self.import_batch(batch)
            if isinstance(result, SchemaStale):
                return None
            assert isinstance(result, ImportResult)
            row_results = iter(result.row_results)
            results |= {index: next(row_results) for index in range(len(entries)) if index not in results}
        return [results[index] for index in range(len(entries))]


def _is_accepted(done: ImportResult) -> bool:
    """Return whether any row of a batch was imported, now or before."""
    by_row = (not isinstance(result, Refusal) for _, result in done.row_results)
    return bool(done.created or done.changed or done.unchanged) or any(by_row)


class RowImporter:
    """Imports rows from HTTP requests, one batch after the other.

    Args:
        capacity: maximum number of rows that are being imported or wait for it.
    """

    def __init__(self, imports: Imports, authenticator: Authenticator, *, capacity: int) -> None:
        self._imports = imports
        self._authenticator = authenticator
        self._capacity = capacity
        self._turn = asyncio.Lock()
        self.rows = 0
        """Number of rows that are being imported or wait for it."""

    async def import_rows(
        self, access: ProjectAccess, entries: Sequence[BatchEntry], *, register: bool, actor: Actor, dry_run: bool = False
    ) -> list[tuple[int | None, Result]]:
        """Write entries as rows of an import, one batch after the other; otherwise like
        :meth:`~usertable.app.batches.BatchWriter.set_many`.

        Args:
            register: whether missing users and identifier values are created, or the entry is refused.
        """
        try:
            # The first batch may be of any size, as in the queue of single writes.
            if self.rows and self.rows + len(entries) > self._capacity:
                raise Overloaded(f"{self.rows} rows of imports are waiting")
            self.rows += len(entries)
            try:
                async with self._turn:
                    return await self._import(access, entries, register=register, actor=actor, dry_run=dry_run)
            finally:
                self.rows -= len(entries)
        except Unavailable as unavailable:
            failure: Exception = unavailable
        except Exception as defect:
            log.exception("a batch of an import failed")
            failure = defect
        return [(entry.cuid, failure) for entry in entries]

    async def _import(
        self, access: ProjectAccess, entries: Sequence[BatchEntry], *, register: bool, actor: Actor, dry_run: bool
    ) -> list[tuple[int | None, Result]]:
        for _ in range(3):
            project = access.project
            found = await asyncio.to_thread(
                self._imports.import_rows, project, entries, register=register, actor=actor, dry_run=dry_run
            )
            if found is not None:
                return found
            await self._authenticator.refresh(access)
        raise Overloaded(f"the schema of project {access.project.id} keeps changing")


def _row(project: Project, entry: BatchEntry) -> PatchRow | list[Problem]:
    """Return an entry as a row of an import, or its problems."""
    schema = project.schema
    problems = list(entry.problems)
    if entry.cuid is not None and not is_cuid(entry.cuid):
        problems.append(malformed_cuid(entry.cuid))
    given = dict([entry.identity] if entry.identity else entry.identifiers or {})
    pairs: list[tuple[str, str]] = []
    # By priority, the order in which they determine the row's user.
    for identifier in schema.identifiers:
        if identifier.name in given:
            values = identifier_values(identifier, given.pop(identifier.name))
            if isinstance(values, Problem):
                problems.append(values)
            else:
                pairs += [(identifier.name, value) for value in values]
    for name in given:
        try:
            schema.identifier(name)
        except Refused as refused:
            problems += refused.problems
    if entry.cuid is None and not pairs and not problems:
        problems.append(Problem(ProblemKind.USER_UNNAMED))
    patch = read_row(schema, entry.data or {}, project.zone)
    if isinstance(patch, list):
        problems += patch
    if problems:
        return problems
    assert isinstance(patch, Patch)
    return entry.cuid, tuple(pairs), patch
