"""Programs whose output goes to a terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
from typing import Any


def run_on_terminal(command: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a program whose stdout, of up to 4 KiB, is a terminal. Takes the arguments of `subprocess.run`."""
    main, terminal = pty.openpty()
    try:
        done = subprocess.run(command, stdout=terminal, stderr=subprocess.PIPE, text=True, check=False, **more)
    finally:
        os.close(terminal)
    done.stdout = shown_on(main).replace("\r\n", "\n")
    return done


def shown_on(main: int) -> str:
    """Return what a terminal shows until the last process has left it, and close it."""
    shown = b""
    # Once the process has left the terminal, there is no more to read.
    with contextlib.suppress(OSError):
        while part := os.read(main, 1 << 16):
            shown += part
    os.close(main)
    return shown.decode()
