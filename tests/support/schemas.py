"""The table definitions of a newly created store: kept in the engines' folders, to be read and compared.

`make schemas` writes the files.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import apsw

from support import postgres
from support.store_harness import StoreHarness
from usertable.store import open_store

ENGINES = Path(__file__).parents[2] / "src/usertable/store"
POSTGRES = ENGINES / "postgres/schema.sql"
SQLITE = ENGINES / "sqlite/schema.sql"
_HEAD = "-- The tables of a store that is made now, after all migrations. Written by `make schemas`; never run.\n\n"


def postgres_schema() -> str:
    """Return the content that :data:`POSTGRES` must have."""
    cluster = postgres.shared(postgres.NEWEST)
    url = cluster.create()
    open_store(url).close()
    schema = cluster.dump_schema(url)
    cluster.drop(url)
    return _HEAD + schema


def sqlite_schema() -> str:
    """Return the content that :data:`SQLITE` must have."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "store.db"
        harness = StoreHarness(open_store(f"sqlite:///{file}"))
        harness.project()
        harness.store.close()
        return f"{_HEAD}-- Each project has a table of users by its number, like `user_1`.\n\n{dump_sqlite_schema(file)}"


def dump_sqlite_schema(file: Path) -> str:
    """Return the statements that create a store's tables; of the user tables only the first."""
    with closing(apsw.Connection(str(file))) as db:
        statements = db.execute(
            "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT GLOB 'sqlite_*'"
            " AND (name NOT GLOB 'user_[0-9]*' OR name = 'user_1') ORDER BY tbl_name, type DESC, name"
        )
        return "\n\n".join(f"{statement};" for (statement,) in statements) + "\n"


if __name__ == "__main__":
    POSTGRES.write_text(postgres_schema())
    SQLITE.write_text(sqlite_schema())
