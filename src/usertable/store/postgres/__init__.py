"""PostgreSQL 15 to 18: any number of server processes on any number of hosts over one database.

All tables stand in the schema `usertable`. Everything runs under READ COMMITTED, where a statement sees what was committed
before it began; what must not change under a transaction is locked first and read afterwards:

- a project (its schema, its settings): an advisory lock, shared by those who use it, exclusive for an edit;
- the giving of CUIDs: the project's row in `cuid_counter`, and on Citus an advisory lock while they are committed;
- a user: its row, and several in the order of project and CUID, so that no two writers wait for each other.

Plain writes of a server take no lock beforehand: the database merges them in one statement, which leaves alone whoever got
another version meanwhile (docs/adr/0007-postgresql.md).

A transaction that others got in the way of (deadlock, serialization), or whose connection broke before COMMIT was sent, has
changed nothing and is begun again. A connection that breaks during COMMIT leaves open what came of it: StoreDown.
"""

from usertable.store.postgres.store import PostgresStore, distribute_store, stored_version

__all__ = ["PostgresStore", "distribute_store", "stored_version"]
