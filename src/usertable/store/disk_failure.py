"""What the processes of a server do when the disk fails to keep what was written."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
from typing import NoReturn

log = logging.getLogger("usertable.store")

EXIT_CODE = 74
"""The exit code of a process that ended so; `EX_IOERR` of sysexits.h."""

_writers: list[subprocess.Popen[bytes]] = []


def end_with_this(writer: subprocess.Popen[bytes]) -> None:
    """Let this server's newest writer end with it: while it has the store open, the next start would recover nothing."""
    _writers[:] = [writer]


def end_at_once(exit_code: int) -> NoReturn:
    """End this process and its writers as a crash would: nothing is closed."""
    for writer in _writers:
        with contextlib.suppress(ProcessLookupError):
            writer.kill()
        # One that waits for a disk that hangs ends when the disk lets it.
        with contextlib.suppress(subprocess.TimeoutExpired):
            writer.wait(1)
    logging.shutdown()
    os._exit(exit_code)


def end_process(failure: str) -> NoReturn:
    """End the process at once, so that nothing is copied from the WAL any more.

    A page that could not be written counts as written for the operating system from then on, so no later sync can be
    trusted. What was answered is in the WAL, and the next process to open the store recovers all of it.
    """
    log.critical(
        "%s. The server ends now, as after a crash. Nothing that was answered is lost: the next start recovers it from the"
        " log beside the store. Check the disk, then start the server again",
        failure,
    )
    end_at_once(EXIT_CODE)
