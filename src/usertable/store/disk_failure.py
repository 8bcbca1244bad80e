"""What a server's processes do when the disk fails to store what was written."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
from typing import NoReturn

log = logging.getLogger("usertable.store")

EXIT_CODE = 74
"""The exit code of a process that ended this way; `EX_IOERR` in sysexits.h."""

_writers: list[subprocess.Popen[bytes]] = []


def end_with_this(writer: subprocess.Popen[bytes]) -> None:
    """Register this server's newest writer to end with it: while it has the store open, the next start would recover
    nothing."""
    _writers[:] = [writer]


def end_at_once(exit_code: int) -> NoReturn:
    """End this process and its writers like a crash, without closing anything."""
    for writer in _writers:
        with contextlib.suppress(ProcessLookupError):
            writer.kill()
        # A process that waits for a hanging disk ends when the disk responds.
        with contextlib.suppress(subprocess.TimeoutExpired):
            writer.wait(1)
    logging.shutdown()
    os._exit(exit_code)


def end_process(failure: str) -> NoReturn:
    """End the process at once, so that nothing more is copied from the WAL.

    After a page could not be written, the operating system counts it as written, so no later sync can be trusted. Everything
    that was answered is in the WAL, and the next process that opens the store recovers all of it.
    """
    log.critical(
        "%s. The server ends now, as after a crash. Nothing that was answered is lost: the next start recovers it from the"
        " log beside the store. Check the disk, then start the server again",
        failure,
    )
    end_at_once(EXIT_CODE)
