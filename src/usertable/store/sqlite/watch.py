"""Whether the store that is open is still there, whole, and takes writes."""

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
"""After so long the files that are open are compared with what their names stand for."""


class Watch:
    """Looks at the files once a second at most, and logs what changes.

    Args:
        files: those that are open.
        lacks_pages: see :meth:`usertable.store.sqlite.files.StoreFiles.moved`.
    """

    def __init__(self, files: StoreFiles, lacks_pages: Callable[[], bool | None]) -> None:
        self._files = files
        self._lacks_pages = lacks_pages
        self._overwriting: Overwriting | None = None
        self._looked_at = 0.0
        self._logged: str | None = None

    def compare_content(self) -> None:
        """From now on, also look whether anybody but SQLite writes the file: what a server does."""
        self._overwriting = Overwriting(self._files.real)

    def trouble(self) -> str | None:
        """Why the store takes no writes; None if it does."""
        now = time.monotonic()
        if now >= self._looked_at + LOOK_SECONDS:
            # Nobody else looks meanwhile, nor do the connections that this look needs.
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
        """What became of the files that are open, if they are not in their places or not what they were."""
        if moved := self._files.moved(self._lacks_pages):
            return moved
        return f"{self._files.real} was overwritten while it was open" if self.is_overwritten() else None

    def is_overwritten(self) -> bool:
        """Whether anybody but SQLite wrote the file. Tells the server, if this is its writer, and the next one."""
        if self._overwriting is None:
            return False
        if self._overwriting.is_found():
            self._files.note_overwriting()
            return True
        return self._files.overwriting_is_noted()

    def close(self) -> None:
        """To be called after all connections were closed, see :class:`Overwriting`."""
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
