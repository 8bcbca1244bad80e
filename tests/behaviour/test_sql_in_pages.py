"""The SQL in the pages works as written: three roles on PostgreSQL, and what a reporting tool may read with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from support import postgres
from support.cli_runner import CliRunner
from support.pages import PAGES, ROOT, Block, blocks
from support.postgres import Cluster
from support.server_process import ATTRIBUTE, REGISTER, ServerProcess

HOWTO = ROOT / "docs" / "howto"
ROLES = [
    block for block in blocks("sql") if block.page == HOWTO / "run-on-postgresql.md" and "usertable_server" in block.text
]
QUERIES = [block for block in blocks("sql", "text") if block.page == HOWTO / "read-with-sql.md"]
PROJECT, SECRET = "100102", "a-secret-of-your-own"


class Database:
    """A database that is set up as the page says, and its URL for each role."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def url(self, role: str) -> str:
        return self._cluster.url("usertable").replace("postgres@", f"{role}@")

    def run(self, statements: str, role: str) -> str:
        """Run statements in psql. Return its output."""
        database = self._cluster.url("postgres") if role == "postgres" else self.url(role)
        return self._cluster.run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", statements)


@pytest.fixture(scope="module", params=[postgres.NEWEST, postgres.OLDEST])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database with the three roles, and the quickstart's project with two users, written with the server's role."""
    cluster = postgres.shared(request.param)
    made = Database(cluster)
    as_superuser, as_owner = ROLES
    for statement in as_superuser.text.strip().removesuffix(";").split(";\n"):
        made.run(statement, "postgres")
    try:
        assert "permission denied" in CliRunner(made.url("usertable_server"), {}).refused("migrate")
        CliRunner(made.url("usertable_owner"), {}).run("migrate")
        made.run(as_owner.text, "usertable_owner")
        fill(made.url("usertable_server"), tmp_path_factory.mktemp("server"))
        yield made
    finally:
        cluster.execute("DROP DATABASE usertable WITH (FORCE)")
        cluster.execute("DROP ROLE usertable_owner, usertable_server, usertable_reader")


def fill(url: str, folder: Path) -> None:
    """Do everything that needs the server's role: commands, an import, and every kind of write over HTTP."""
    cli = CliRunner(url, {})
    cli.run("project", "create", "demo", "--id", PROJECT, "--secret", SECRET)
    declared = ("level NUMBER overwrite", "total_spent NUMBER accumulate", "first_seen DATETIME once", "tags LIST append")
    for name, data_type, rule in map(str.split, declared):
        cli.run("attribute", "create", name, "--type", data_type, "--rule", rule)
    cli.run("identifier", "create", "phone")
    file = folder / "users.csv"
    file.write_text("phone,level\n18012345678,1\n")
    assert "1 user created" in cli.run("import", str(file), "--register").output
    server = ServerProcess(url, folder)
    with server.client() as http:
        http.auth = (PROJECT, SECRET)
        values = {"identityName": "phone", "identityValues": ["18012345679", "18012345680"]}
        second, third = (entry["cuid"] for entry in http.post(REGISTER, json=values).json()["data"])
        first = {"level": 3, "total_spent": 9.9, "first_seen": "2023-12-12 00:56:23", "tags": ["news", "sport"]}
        # Merged by the database, and with the outcome by the writer.
        for data, headers in (
            (first, {"Idempotency-Key": "order-1"}),
            (first, {"Idempotency-Key": "order-1"}),
            ({"total_spent": 0.1, "tags": ["sport", "music"]}, {"Prefer": "return=representation"}),
        ):
            answer = http.put(ATTRIBUTE, json={"cuid": 10000001, "data": data}, headers=headers)
            assert answer.json()["code"] == 0, answer.text
        assert http.put(ATTRIBUTE, json={"cuid": second, "data": {"tags": ["sport"]}}).json()["code"] == 0
        assert http.delete(f"/api/v1/projects/{PROJECT}/users/{third}").status_code == 204
    assert server.stop() == 0
    assert "permission denied" not in server.log
    assert cli.run("migrate", "--check").exit_code == 0
    cli.run("export", "-o", str(folder / "users.ndjson"))


def test_the_servers_role_cannot_change_a_table(database: Database) -> None:
    with psycopg.connect(database.url("usertable_server"), autocommit=True) as db:
        for statement in (
            "DROP TABLE usertable.users",
            "CREATE TABLE usertable.more (a int)",
            "CREATE TEMP TABLE more (a int)",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                db.execute(statement.encode())


def test_the_servers_role_can_use_tables_and_functions_of_a_later_version(database: Database) -> None:
    database.run("CREATE TABLE usertable.later (a int GENERATED ALWAYS AS IDENTITY, b int)", "usertable_owner")
    database.run("CREATE FUNCTION usertable.later() RETURNS int LANGUAGE sql AS 'SELECT 1'", "usertable_owner")
    database.run("REVOKE EXECUTE ON FUNCTION usertable.later FROM PUBLIC", "usertable_owner")
    database.run("INSERT INTO usertable.later (b) SELECT usertable.later(); DELETE FROM usertable.later", "usertable_server")
    database.run("DROP TABLE usertable.later; DROP FUNCTION usertable.later", "usertable_owner")


def test_the_readers_role_reads_users_but_no_secrets_and_cannot_write(database: Database) -> None:
    with psycopg.connect(database.url("usertable_reader"), autocommit=True) as db:
        assert db.execute("SELECT count(*) FROM usertable.users").fetchall() == [(2,)]
        for statement in (
            "SELECT document FROM usertable.project",
            "SELECT * FROM usertable.receipt",
            "UPDATE usertable.users SET version = 1",
            "DELETE FROM usertable.identifier_value",
            "CREATE TABLE usertable.more (a int)",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                db.execute(statement.encode())


@pytest.mark.parametrize(("query", "result"), list(zip(QUERIES[::2], QUERIES[1::2], strict=True)), ids=str)
def test_a_query_on_the_page_has_the_result_shown_below_it(database: Database, query: Block, result: Block) -> None:
    assert (query.language, result.language) == ("sql", "text")
    printed = database.run(query.text, "usertable_reader")
    assert [line.rstrip() for line in printed.splitlines() if line.strip()] == result.text.splitlines()


def test_the_stable_columns_have_these_types(database: Database) -> None:
    statement = """SELECT table_name || '.' || column_name, data_type FROM information_schema.columns
    WHERE table_schema = 'usertable' ORDER BY table_name, column_name"""
    with psycopg.connect(database.url("usertable_reader"), autocommit=True) as db:
        # Columns that the role cannot read are not listed.
        visible: dict[str, str] = dict(db.execute(statement).fetchall())
    assert visible == {
        **dict.fromkeys(("project.number", "users.project", "users.cuid", "users.version"), "bigint"),
        **dict.fromkeys(("users.created_at", "users.updated_at", "users.head"), "bigint"),
        **dict.fromkeys(("users.attributes", "users.changed_at"), "jsonb"),
        **dict.fromkeys(("user_identifier.project", "user_identifier.cuid"), "bigint"),
        **dict.fromkeys(("identifier_value.project", "identifier_value.cuid"), "bigint"),
        **dict.fromkeys(("project.id", "users.sole_actor", "user_identifier.identifier", "user_identifier.value"), "text"),
        **dict.fromkeys(("identifier_value.identifier", "identifier_value.value"), "text"),
    }


@pytest.mark.parametrize("block", [block for block in blocks("sql") if block.page in PAGES], ids=str)
def test_every_block_of_sql_can_be_read_by_postgresql(block: Block) -> None:
    # PL/pgSQL parses the statements of a function when it is created, and does not look up the names in them.
    with psycopg.connect(postgres.shared(postgres.NEWEST).url("postgres")) as db:
        db.execute(f"CREATE FUNCTION pg_temp.f() RETURNS void LANGUAGE plpgsql AS $f$ BEGIN {block.text} END $f$".encode())
        db.rollback()
