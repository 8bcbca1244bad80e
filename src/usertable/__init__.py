"""usertable: the open, self-hosted user-attribute store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from usertable.client import AsyncClient as AsyncClient
    from usertable.client import Client as Client
    from usertable.client import Record as Record

__all__ = ["AsyncClient", "Client", "Record"]


def __getattr__(name: str) -> Any:
    # Imported on first use: a server needs neither the client nor its dependencies.
    if name in __all__:
        from usertable import client

        return getattr(client, name)
    raise AttributeError(f"module 'usertable' has no attribute {name!r}")
