"""The part that all writers of a table share: its columns, and pages that are converted while others are read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from usertable.domain.profile import Profile
from usertable.domain.pseudo_columns import pseudo_value
from usertable.domain.schema import Project
from usertable.files.export_options import ExportOptions
from usertable.files.targets import CUID, MASKED, Target
from usertable.store.records import Page

BYTES_UNDER_WAY = 32 * 2**20
"""Maximum bytes of pages that are being converted and written, in all threads."""


def table_columns(project: Project, options: ExportOptions) -> list[tuple[str, Target]]:
    """Return the columns of a table: CUID, identifiers by priority, attributes and pseudo-columns as chosen.

    An ambiguous name has a prefix.
    """
    declared = project.schema.attributes
    names = {identifier.name for identifier in project.schema.identifiers}
    columns = [(CUID, Target("cuid"))]
    for identifier in options.identifiers.chosen:
        name = identifier.name
        prefix = MASKED if name in options.identifiers.masked else "identifier:" if name in declared or name == CUID else ""
        columns.append((prefix + name, Target("identifier", name)))
    for attribute in options.attributes:
        name = attribute.name
        columns.append((f"attribute:{name}" if name in names or name == CUID else name, Target("attribute", name)))
    return columns


def pseudo_cells(page: Page, name: str) -> list[int]:
    """Return the cells of a pseudo-column; times in ms since 1970 UTC."""
    assert page.rows is not None
    return [pseudo_value(name, cuid, Profile(*row, {}, {})) for cuid, row in zip(page.cuids, page.rows, strict=True)]


class TableWriter(ABC):
    """Writes users, page by page.

    Converts pages in threads and writes them in another thread, in order, while others are read.

    Args:
        converters: number of threads that convert.
    """

    def __init__(self, converters: int) -> None:
        self._converting = ThreadPoolExecutor(converters, thread_name_prefix="convert")
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._under_way: deque[tuple[int, Future[None]]] = deque()
        self._bytes_under_way = 0

    def write(self, page: Page) -> None:
        """Write more users."""
        converted = self._converting.submit(self._convert, page)
        self._under_way.append((len(page.lines), self._writing.submit(self._add_when_there, converted)))
        self._bytes_under_way += len(page.lines)
        while self._bytes_under_way > BYTES_UNDER_WAY:
            self._await_first()

    def _await_first(self) -> None:
        size, added = self._under_way.popleft()
        self._bytes_under_way -= size
        added.result()

    def _add_when_there(self, converted: Future[Any]) -> None:
        self._add(converted.result())

    def close(self) -> None:
        """Write the rest. The stream stays open."""
        try:
            while self._under_way:
                self._await_first()
            self._finish()
        finally:
            self._converting.shutdown(cancel_futures=True)
            self._writing.shutdown(cancel_futures=True)
            self._release()

    @abstractmethod
    def _convert(self, page: Page) -> Any:
        """Return the converted page."""

    @abstractmethod
    def _add(self, converted: Any) -> None:
        """Write a converted page, or keep it for the next call."""

    def _finish(self) -> None:  # noqa: B027 - most have nothing left
        """Write the rest."""

    def _release(self) -> None:  # noqa: B027
        """Called at the end, even after a failure."""
