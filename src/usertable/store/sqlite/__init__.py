"""SQLite: one file, and one server process.

Users stand in one table per project, `user_<number>`, with the CUID as the rowid: that is the fastest table SQLite has,
two projects may have the same CUID, and no statement can reach another project's users.
"""

from usertable.store.sqlite.migrations import stored_version
from usertable.store.sqlite.store import SQLiteStore

__all__ = ["SQLiteStore", "stored_version"]
