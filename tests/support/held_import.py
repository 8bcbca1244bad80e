"""`usertable import`, held in a state of its choice, so that a kill or a signal meets it there."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from enum import Enum


class State(Enum):
    """Where an import is held: a call, and whether before or after it."""

    BEFORE_A_TRANSACTION = "Service.import_batch", True
    IN_A_TRANSACTION = "Rejects.keep", False
    """The rejected rows are on disk."""
    AFTER_A_COMMIT = "Service.import_batch", False


def held_program(state: State, calls: int) -> Sequence[str]:
    """Return the arguments of Python for a `usertable` whose import is held at the call of this number, from 1.

    A run calls :meth:`Service.import_batch` for the preview first, and once more if it is not resumed.
    """
    call, is_before = state.value
    return "-c", _PROGRAM.format(call=call, calls=calls, is_before=is_before)


def wait_until_held(process: subprocess.Popen[bytes]) -> None:
    """Wait until it is held. Its stdout is a pipe."""
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n", process.communicate()


def release(process: subprocess.Popen[bytes]) -> None:
    """Let it continue. Its stdin is a pipe."""
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()


_PROGRAM = """
import sys
from usertable.app.service import Service
from usertable.cli import main
from usertable.files.rejects import Rejects

call, left = {call}, {calls}

def hold():
    print("held", flush=True)
    sys.stdin.readline()

def held(*arguments):
    global left
    left -= 1
    if not left and {is_before}:
        hold()
    answer = call(*arguments)
    if not left and not {is_before}:
        hold()
    return answer

{call} = held
main()
"""
