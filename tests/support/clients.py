"""The synchronous and the asynchronous Python client behind one interface."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from usertable import AsyncClient, Client


class AnyClient:
    """A client of either kind with the same calls; the asynchronous one runs in its own event loop."""

    def __init__(self, kind: str, *arguments: Any, **settings: Any) -> None:
        self._runner = asyncio.Runner() if kind == "async" else None
        self.client: Any = (AsyncClient if self._runner else Client)(*arguments, **settings)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.client, name)
        runner = self._runner
        return method if runner is None else lambda *a, **k: runner.run(method(*a, **k))

    def buffer(self, **settings: Any) -> contextlib.AbstractContextManager[Any]:
        runner = self._runner
        return self.client.buffer(**settings) if runner is None else _Buffer(self.client.buffer(**settings), runner)

    def close(self) -> None:
        if self._runner is None:
            self.client.close()
        else:
            self._runner.run(self.client.close())
            self._runner.close()


class _Buffer:
    def __init__(self, buffer: Any, runner: asyncio.Runner) -> None:
        self._buffer = buffer
        self._runner = runner

    def __enter__(self) -> _Buffer:
        self._runner.run(self._buffer.__aenter__())
        return self

    def __exit__(self, *exception: object) -> None:
        self._runner.run(self._buffer.__aexit__(*exception))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._buffer, name)
        if not callable(found):
            return found
        return lambda *a, **k: self._runner.run(found(*a, **k))


@contextlib.contextmanager
def any_client(kind: str, *arguments: Any, **settings: Any) -> Iterator[AnyClient]:
    caller = AnyClient(kind, *arguments, **settings)
    try:
        yield caller
    finally:
        caller.close()
