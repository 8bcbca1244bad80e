"""SQLite: one file, and one server process.

Users are in one table per project, `user_<number>`, with the CUID as the rowid. That is SQLite's fastest kind of table, two
projects can have the same CUID, and no statement can reach another project's users.
"""

from usertable.store.sqlite.migrations import stored_version
from usertable.store.sqlite.store import SQLiteStore

__all__ = ["SQLiteStore", "stored_version"]
