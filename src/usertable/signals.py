"""Signals that a process sends to its whole group, or to all processes of a unit, while one of them starts."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def blocked(*numbers: signal.Signals) -> Iterator[None]:
    """Block signals in this thread during the block, and in a process that is started meanwhile, until :func:`ignore`.

    Such a process needs 0.3 s before it can ignore a signal, which would end it. A signal for this process is handled after
    the block.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore(*numbers: signal.Signals) -> None:
    """Ignore signals from now on, also those that arrived while they were blocked."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
