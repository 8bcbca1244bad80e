"""Import into a store: rows and progress in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any

import msgspec

from usertable.domain.actor import Actor
from usertable.domain.audit import AuditEvent, AuditKind, Facts
from usertable.domain.change import Origin
from usertable.domain.errors import StoreDown, phrase
from usertable.domain.phrases import PhraseKind
from usertable.domain.schema import Project
from usertable.domain.values import show
from usertable.files.block import Block
from usertable.files.import_job import (
    PATIENCE_SECONDS,
    PREVIEW_ROWS,
    ImportJob,
    ImportState,
    RowPreview,
    SchemaChanged,
    reason_of,
)
from usertable.files.options import ReadOptions
from usertable.store.records import ImportBatch, ImportResult, ImportRows, JobMoved, SchemaStale

if TYPE_CHECKING:
    from usertable.app.service import Service


_encoder = msgspec.json.Encoder(decimal_format="number")
_state_decoder = msgspec.json.Decoder(ImportState)


class StoreImport(ImportJob):
    """An import into a store: the rows of a block and the progress become durable in one transaction.

    The block's refused rows are on disk before that transaction ends, and the valid length of their file is part of it. A
    job of the same name in the same project finds the progress again. The audit log has entries for its beginning and its
    end.
    """

    def __init__(
        self, service: Service, project_id: str, stream: IO[bytes], options: ReadOptions, *, actor: Actor, **settings: Any
    ) -> None:
        super().__init__(service.project(project_id), stream, options, **settings)
        self._service = service
        self._actor = actor
        self._stored = service.job(self._project, self._job)

    def _earlier(self) -> ImportState | None:
        return _state_decoder.decode(self._stored) if self._stored else None

    def _reread(self) -> Project:
        return self._service.project(self._project.id)

    def _preview(self, block: Block) -> list[RowPreview]:
        batch = self._batch(block, block.rows.first(PREVIEW_ROWS))
        batch.dry_run = True
        result = self._import_with_retries(batch, lambda result: "")
        refused = dict(result.refused)
        after = iter(result.previews)
        declared, zone = self._project.schema.attributes, self._project.zone
        rows = []
        for index, number in enumerate(block.numbers[:PREVIEW_ROWS]):
            if index in refused:
                rows.append(RowPreview(number, reason_of(refused[index])))
            else:
                cuid, attributes = next(after)
                values = {name: show(value, declared[name].type, zone) for name, value in attributes.items()}
                rows.append(RowPreview(number, "", f"cuid {cuid}", values))
        return self._shown(block, rows)

    def _batch(self, block: Block | None, rows: ImportRows) -> ImportBatch:
        return ImportBatch(
            self._project.number,
            self._project.version,
            rows,
            block.names if block else frozenset(),
            self._clock.now_ms(),
            self._register,
            self._job,
            self._stored,
            self._dry_run,
            origin=Origin(str(Actor.import_job(self._job))) if self._project.history.is_on else None,
        )

    def _import_block(self, block: Block) -> None:
        after = self.state
        refused: list[tuple[int, str]] = []

        def next_state(result: ImportResult) -> str:
            nonlocal after, refused
            found = block.refused + [(block.numbers[index], problems) for index, problems in result.refused]
            refused = sorted((number, reason_of(problems)) for number, problems in found)
            after = self._counted(block, refused, created=result.created, changed=result.changed, unchanged=result.unchanged)
            return _encoder.encode(after).decode()

        batch = self._batch(block, block.rows)
        result = self._import_with_retries(batch, next_state)
        if self._dry_run:
            next_state(result)
        self._note(block, refused)
        self.state = after

    def _begin(self) -> None:
        # Before a refused row is written, so that a file of refused rows always belongs to a known job.
        if not self._dry_run and not self.state.rows:
            event = AuditEvent(AuditKind.BEGIN_IMPORT, self._job, after={"creates_users": self._register})
            self._keep(self.state, event)

    def _finish(self) -> None:
        after = replace(self.state, finished=True)
        if not self._dry_run:
            counts: Facts = {name: getattr(after, name) for name in ("rows", "created", "changed", "unchanged", "refused")}
            self._keep(after, AuditEvent(AuditKind.FINISH_IMPORT, self._job, after=counts))
        self.state = after

    def _keep(self, state: ImportState, event: AuditEvent) -> None:
        """Make a state durable, without rows, and record the event in the audit log."""
        batch = replace(self._batch(None, ImportRows.of([])), actor=self._actor, event=event)
        self._import_with_retries(batch, lambda result: _encoder.encode(state).decode())

    def _import_with_retries(self, batch: ImportBatch, next_state: Callable[[ImportResult], str]) -> ImportResult:
        """Import a batch. If the store cannot tell whether it was committed, check."""
        found: ImportResult | None = None
        wanted: str | None = None

        def keep_state(result: ImportResult) -> str:
            nonlocal found, wanted
            found, wanted = result, next_state(result)
            return wanted

        deadline = self._clock.monotonic() + PATIENCE_SECONDS
        pause = 0.1
        while True:
            try:
                result = self._service.import_batch(batch, keep_state)
            except StoreDown:
                if self._clock.monotonic() >= deadline:
                    raise
                self._clock.pause(pause)
                pause = min(2 * pause, 5.0)
                continue
            if type(result) is JobMoved and wanted is not None and result.state == wanted:
                # The commit whose answer was lost had succeeded.
                assert found is not None
                result = found
            if type(result) is SchemaStale:
                raise SchemaChanged
            if type(result) is JobMoved:
                raise self._refuse(phrase(PhraseKind.RUNS_ELSEWHERE))
            assert isinstance(result, ImportResult)
            if not batch.dry_run:
                self._stored = wanted
            return result
