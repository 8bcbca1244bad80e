"""What a forked child must not share with its parent: it has copies of keys, locks and connections, but no threads."""

from __future__ import annotations

import os
import threading
import weakref

_objects: weakref.WeakSet[PerProcess] = weakref.WeakSet()
_lock = threading.Lock()


class PerProcess:
    """An object that is reset in each forked process.

    Python reports a fork, except where a program forks in C without telling Python, as uWSGI does without threads. Therefore
    each use begins with :meth:`_own_process`.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        _objects.add(self)

    def _own_process(self) -> None:
        """Reset the object if this is not the process that it was created in."""
        if self._process != os.getpid():
            with _lock:
                if self._process != os.getpid():
                    self._begin_in_child()
                    self._process = os.getpid()

    def _begin_in_child(self) -> None:
        """Release everything that belongs to the parent. Do not wait for a lock: a thread of the parent may hold it."""
        raise NotImplementedError


def _in_child() -> None:
    global _lock
    _lock = threading.Lock()
    for thing in list(_objects):
        thing._begin_in_child()
        thing._process = os.getpid()


os.register_at_fork(after_in_child=_in_child)
