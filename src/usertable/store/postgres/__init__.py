"""PostgreSQL 15 to 18: any number of server processes on any number of hosts with one database.

All tables are in the schema `usertable`. Everything runs under READ COMMITTED, in which a statement sees what was committed
before it began. What must not change during a transaction is locked first and read afterwards:

- a project (its schema, its settings): an advisory lock, shared for use, exclusive for an edit;
- assigning CUIDs: the project's row in `cuid_counter`, and on Citus an advisory lock until they are committed;
- people: one advisory lock for all of them;
- a user: its row, and several in the order of project and CUID, so that no two writers deadlock.

A server's plain writes take no lock beforehand: the database merges them in one statement, which skips users that got
another version meanwhile, and shares the project's lock if they are recorded (docs/adr/0007-postgresql.md).

A transaction that conflicted with others (deadlock, serialization), or whose connection broke before COMMIT was sent, has
changed nothing and is retried. If a connection breaks during COMMIT, the result is unknown: StoreDown.
"""

from usertable.store.postgres.store import PostgresStore, distribute_store, stored_version

__all__ = ["PostgresStore", "distribute_store", "stored_version"]
