"""Where the user tables live: one protocol (:mod:`usertable.store.base`), one file per engine."""

from usertable.store.base import Store, open_store

__all__ = ["Store", "open_store"]
