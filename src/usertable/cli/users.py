"""`usertable user`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from usertable.cli.context import opened_service
from usertable.cli.options import Pair, common_options, project_option
from usertable.cli.output import print_lines, print_result, print_table
from usertable.domain.condition import Condition, parse_conditions
from usertable.domain.errors import Refused
from usertable.domain.identity import EXPECTED_VALUE, MAX_CUID, is_identifier_value
from usertable.domain.schema import Project, Schema
from usertable.store.records import User
from usertable.wire import native

if TYPE_CHECKING:
    from usertable.app.service import Service

CUID = click.IntRange(1, MAX_CUID)


@click.group()
@common_options
def user() -> None:
    """Users: the rows of a project's user table."""


@user.command("register")
@click.argument("name")
@click.argument("values", metavar="VALUE...", nargs=-1, required=True)
@project_option
@common_options
def register_users(name: str, values: tuple[str, ...], project_id: str) -> None:
    """Exchange values of the identifier NAME for CUIDs. A value never seen creates a user.

    The identifier must be unique and have priority 1. Values have 1 to 256 characters and are compared exactly.

    \b
    Example:
      usertable user register phone 18012345678 18012345679 --project 100102
    """
    _check_identifier_values({f"VALUE {index}": value for index, value in enumerate(values, start=1)})
    with opened_service() as service:
        cuids = service.register(service.project(project_id), name, values)
    registered = list(zip(values, cuids, strict=True))
    print_result(
        {"users": [{"value": value, "cuid": cuid} for value, cuid in registered]},
        lambda: print_table(("value", "cuid"), registered),
    )


def _check_identifier_values(values: Mapping[str, str]) -> None:
    """Refuse values that no identifier can have. The keys name the values in the messages."""
    problems = [
        native.parameter_problem(name, EXPECTED_VALUE) for name, value in values.items() if not is_identifier_value(value)
    ]
    if problems:
        raise Refused(problems)


@user.command("create")
@click.argument("cuid", type=CUID)
@project_option
@click.option("--identifier", "identifiers", type=Pair(), multiple=True, help="A value that points at the user; repeatable.")
@common_options
def create_user(cuid: int, project_id: str, identifiers: tuple[tuple[str, str], ...]) -> None:
    """Import a user with the CUID that it has elsewhere.

    \b
    Example:
      usertable user create 10362473 --project 100102 --identifier phone=18012345678
    """
    values = dict(identifiers)
    if len(values) < len(identifiers):
        raise click.UsageError("--identifier gives a value to the same name twice")
    _check_identifier_values({f"--identifier {name}": value for name, value in values.items()})
    with opened_service() as service:
        project = service.project(project_id)
        created = service.add_user(project, cuid, values)
    print_result(native.user_document(created, project), lambda: click.echo(f"user {cuid} created"))


@user.command("get")
@click.argument("cuid", type=CUID, required=False)
@project_option
@click.option("--identifier", type=Pair(), help="Find the user by an identifier's value instead.")
@click.option("--hidden", is_flag=True, help="Hidden attributes too.")
@common_options
def get_user(cuid: int | None, project_id: str, identifier: tuple[str, str] | None, hidden: bool) -> None:
    """Show a user's row.

    A DATETIME is shown in the project's time zone; created and updated are in UTC. With --json, `changed_at` tells when
    each attribute last changed.

    \b
    Examples:
      usertable user get 10362473 --project 100102
      usertable user get --identifier phone=18012345678 --project 100102 --json
    """
    if (cuid is None) == (identifier is None):
        raise click.UsageError("give either a CUID or --identifier NAME=VALUE")
    with opened_service() as service:
        project = service.project(project_id)
        if identifier is not None:
            found = service.find_user(project, *identifier)
        else:
            assert cuid is not None
            found = service.user(project, cuid)
    document = native.user_document(found, project, hidden=hidden, times=True)

    def show() -> None:
        print_lines(
            (
                ("cuid", document.cuid),
                ("version", document.version),
                ("created", document.created_at),
                ("updated", document.updated_at),
                *((f"identifier {name}", value) for name, values in document.identifiers.items() for value in values),
            )
        )
        click.echo()
        declared = project.schema.attributes
        print_table(
            ("attribute", "type", "rule", "value"),
            ((n, declared[n].type, declared[n].rule, value) for n, value in document.attributes.items()),
        )

    print_result(document, show)


@user.command("list")
@project_option
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, metavar="N", help="So many at most.")
@click.option("--after", type=click.IntRange(0, MAX_CUID), default=0, metavar="CUID", help="Only users with a greater CUID.")
@click.option("--where", "conditions", multiple=True, metavar="CONDITION", help="Only users that meet it; repeatable.")
@click.option("--attribute", "attributes", multiple=True, metavar="NAME", help="Only this attribute; repeatable.")
@common_options
def list_users(project_id: str, limit: int, after: int, conditions: tuple[str, ...], attributes: tuple[str, ...]) -> None:
    """Show the user table, by CUID.

    A CONDITION is written attribute:operator or attribute:operator:value. Operators: set, unset, eq, ne, in (values with
    commas between; one that holds a comma in double quotes), lt, le, gt, ge, between, contains. Without --attribute, the
    table has a column for every visible attribute that one of the users has. Values of masked identifiers are cut.

    \b
    Examples:
      usertable user list --project 100102 --limit 20
      usertable user list --project 100102 --where level:ge:10 --where tags:contains:vip --json
    """
    with opened_service() as service:
        project = service.project(project_id)
        for name in attributes:
            project.schema.attribute(name)
        parsed = parse_conditions(conditions, project.schema, project.zone)
        users, following = _users(service, project, after, limit, parsed)
    documents = [native.user_document(u, project, attributes or None, mask=True) for u in users]

    def show() -> None:
        _show_users(documents, project.schema, attributes)
        if following is not None:
            click.echo(f"More users may follow: --after {following}", err=True)

    print_result(native.UserPage(documents, None if following is None else str(following)), show)


def _users(
    service: Service, project: Project, after: int, limit: int, conditions: Sequence[Condition]
) -> tuple[list[User], int | None]:
    """Up to `limit` users, and the CUID after which more may follow, or None."""
    users: list[User] = []
    following: int | None = after
    while following is not None and len(users) < limit:
        page = service.users(project, after=following, limit=limit - len(users), conditions=conditions)
        users += page.users
        following = page.next
    return users, following


def _show_users(documents: Sequence[native.UserDocument], schema: Schema, attributes: Sequence[str]) -> None:
    """Print a table of users, without columns that would be empty, unless they were asked for."""
    columns = attributes or [n for n in schema.attributes if any(n in d.attributes for d in documents)]
    names = [i.name for i in schema.identifiers if any(i.name in d.identifiers for d in documents)]
    print_table(
        ("cuid", *names, *columns),
        (
            (d.cuid, *(", ".join(d.identifiers.get(n, ())) for n in names), *(d.attributes.get(n) for n in columns))
            for d in documents
        ),
    )


@user.command("erase")
@click.argument("cuid", type=CUID)
@project_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@common_options
def erase_user(cuid: int, project_id: str, yes: bool) -> None:
    """Remove a user for good: the row, identifier values, and stored answers that show the user's data.

    The CUID is never used again. There is no way back.

    \b
    Example:
      usertable user erase 10362473 --project 100102
    """
    with opened_service() as service:
        project = service.project(project_id)
        service.user(project, cuid)
        if not yes:
            click.confirm(f"Erase user {cuid} of project {project.id} ({project.name}) for good?", abort=True, err=True)
        service.erase_user(project, cuid)
    print_result({"cuid": cuid, "erased": True}, lambda: click.echo(f"user {cuid} erased"))
