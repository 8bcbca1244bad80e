"""What all writers of a table have in common: its columns, and pages that are converted beside the reading."""

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
"""Of pages that are converted and written beside the reading, in so many threads and one."""


def table_columns(project: Project, options: ExportOptions) -> list[tuple[str, Target]]:
    """The columns of a table: CUID, identifiers by priority, attributes and pseudo-columns as chosen.

    A name that means two things has a prefix.
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
    """The cells of a pseudo-column; times in ms since 1970 UTC."""
    assert page.rows is not None
    return [pseudo_value(name, cuid, Profile(*row, {}, {})) for cuid, row in zip(page.cuids, page.rows, strict=True)]


class TableWriter(ABC):
    """Writes users, a page at a time: converts them in threads and writes them in another, in order, beside the reading.

    Args:
        converters: threads that convert.
    """

    def __init__(self, converters: int) -> None:
        self._converting = ThreadPoolExecutor(converters, thread_name_prefix="convert")
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._under_way: deque[tuple[int, Future[None]]] = deque()
        self._bytes_under_way = 0

    def write(self, page: Page) -> None:
        """Write some more users."""
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
        """Write what is left. The stream stays open."""
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
        """What is to be written for a page."""

    @abstractmethod
    def _add(self, converted: Any) -> None:
        """Write it, or keep it for the next."""

    def _finish(self) -> None:  # noqa: B027 - most have nothing left
        """Write what is left."""

    def _release(self) -> None:  # noqa: B027
        """Done at the end, after a failure as well."""
