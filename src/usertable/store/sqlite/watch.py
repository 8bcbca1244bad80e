"""Checks whether the open store is still there, complete, and writable."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable

from usertable.store.sqlite.files import StoreFiles
from usertable.store.sqlite.overwrite import Overwriting

log = logging.getLogger("usertable.store")

LOOK_SECONDS = 1.0
"""Seconds between two comparisons of the open files with the files at their paths."""


class Watch:
    """Checks the files at most once per second, and logs changes.

    Args:
        files: the open files.
        lacks_pages: see :meth:`usertable.store.sqlite.files.StoreFiles.moved`.
    """

    def __init__(self, files: StoreFiles, lacks_pages: Callable[[], bool | None]) -> None:
        self._files = files
        self._lacks_pages = lacks_pages
        self._overwriting: Overwriting | None = None
        self._looked_at = 0.0
        self._logged: str | None = None

    def compare_content(self) -> None:
        """Also check from now on whether other programs write the file, as a server does."""
        self._overwriting = Overwriting(self._files.real)

    def trouble(self) -> str | None:
        """Return why the store is not writable; None if it is."""
        now = time.monotonic()
        if now >= self._looked_at + LOOK_SECONDS:
            # No other thread checks meanwhile, and neither do the connections that this check uses.
            self._looked_at = math.inf
            try:
                found = self.moved() or self._files.read_only()
            finally:
                self._looked_at = now
            if found != self._logged:
                self._logged = found
                self._log(found)
        return self._logged

    def moved(self) -> str | None:
        """Return what happened to the open files if they are not at their paths or have changed."""
        if moved := self._files.moved(self._lacks_pages):
            return moved
        return f"{self._files.real} was overwritten while it was open" if self.is_overwritten() else None

    def is_overwritten(self) -> bool:
        """Return whether another program wrote the file. A writer reports it to its server, and to the next one."""
        if self._overwriting is None:
            return False
        if self._overwriting.is_found():
            self._files.note_overwriting()
            return True
        return self._files.overwriting_is_noted()

    def close(self) -> None:
        """Close the database's descriptor. Call it after all connections are closed, see :class:`Overwriting`."""
        if self._overwriting:
            self._overwriting.close()

    def _log(self, found: str | None) -> None:
        if self.is_overwritten():
            log.critical(
                "%s, so what it held is lost. No write is taken. Stop the server, move the file and its log away,"
                " and put a backup in their place",
                found,
            )
        elif found is None:
            log.warning("%s: all its files are in their places again; writes are taken", self._files.path)
        else:
            log.critical(
                "%s. No write is taken until it is back. What was answered is in the files that process %d has open:"
                " put them back, or copy them from there, before you stop it",
                found,
                os.getpid(),
            )
