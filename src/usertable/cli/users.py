"""`usertable user`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from usertable.cli.backend import ProjectBackend, opened_project
from usertable.cli.options import Cuid, Pair, backend_options, confirm, project_option, where_option, without_none
from usertable.cli.output import print_lines, print_result, print_table
from usertable.domain.errors import ProblemKind, Refused, refusal
from usertable.domain.identity import EXPECTED_VALUE, MAX_CUID, is_identifier_value
from usertable.domain.pseudo_columns import PSEUDO_COLUMNS
from usertable.wire.native import documents, forms, members, problem_details, queries

PAGE = 1000
"""Maximum number of users per request."""


@click.group()
@backend_options
def user() -> None:
    """Users, the rows of a project's user table."""


@user.command("register")
@click.argument("name", help="Name of the identifier. It must be unique and have priority 1.")
@click.argument(
    "values", metavar="VALUE...", nargs=-1, required=True, help="Values of 1 to 256 characters, compared exactly."
)
@project_option
@backend_options
def register_users(name: str, values: tuple[str, ...], project_id: str | None) -> None:
    """Print the CUIDs of users by the values of an identifier. An unknown value creates a user.

    \b
    Example:
      usertable user register phone 18012345678 18012345679 --project 100102
    """
    _check_identifier_values({f"VALUE {index}": value for index, value in enumerate(values, start=1)})
    users: list[documents.RegisteredUser] = []
    with opened_project(project_id) as project:
        for start in range(0, len(values), members.MAX_REGISTERED):
            some = forms.Registration(name, list(values[start : start + members.MAX_REGISTERED]))
            users += project.ask("register_users", body=some).users
    print_result(
        documents.RegisteredUsers(users),
        lambda: print_table(("value", "cuid"), ((user.value, user.cuid) for user in users)),
    )


def _check_identifier_values(values: Mapping[str, str]) -> None:
    """Reject values that no identifier can have. The keys name the values in the messages."""
    problems = [
        problem_details.parameter_problem(name, EXPECTED_VALUE)
        for name, value in values.items()
        if not is_identifier_value(value)
    ]
    if problems:
        raise Refused(problems)


@user.command("create")
@click.argument("cuid", type=Cuid(), help="CUID of the new user.")
@project_option
@click.option("--identifier", "identifiers", type=Pair(), multiple=True, help="Identifier value of the user. Repeatable.")
@backend_options
def create_user(cuid: int, project_id: str | None, identifiers: tuple[tuple[str, str], ...]) -> None:
    """Create a user with a CUID that it already has in another system.

    \b
    Example:
      usertable user create 10362473 --project 100102 --identifier phone=18012345678
    """
    values = dict(identifiers)
    if len(values) < len(identifiers):
        raise click.UsageError("--identifier names the same identifier twice")
    _check_identifier_values({f"--identifier {name}": value for name, value in values.items()})
    with opened_project(project_id) as project:
        created = project.ask("add_user", body=forms.NewUser(cuid, values))
    print_result(created, lambda: click.echo(f"user {cuid} created"))


@user.command("get")
@click.argument("cuid", type=Cuid(), required=False, help="CUID of the user.")
@project_option
@click.option("--identifier", type=Pair(), help="Find the user by this identifier value instead of a CUID.")
@click.option("--hidden", is_flag=True, help="Include hidden attributes.")
@click.option(
    "--as-of",
    metavar="TIME",
    show_default="now",
    help="Show the user as it was at this moment: a date, or a date and time, in the project's time zone without an offset.",
)
@backend_options
def get_user(
    cuid: int | None, project_id: str | None, identifier: tuple[str, str] | None, hidden: bool, as_of: str | None
) -> None:
    """Show one user: identifiers, attributes, version and times.

    DATETIME values are in the project's time zone; created and updated are in UTC. With --json, `changed_at` has the time of
    the last change of each attribute. With --as-of, the user is found by the identifier values of now.

    \b
    Examples:
      usertable user get --identifier phone=18012345678 --project 100102
      usertable user get 10362473 --as-of "2026-11-30 08:00:00"
    """
    if (cuid is None) == (identifier is None):
        raise click.UsageError("give either a CUID or --identifier NAME=VALUE")
    with opened_project(project_id) as project:
        if identifier is not None:
            cuid = _find(project, *identifier)
        query = queries.UserReadQuery(hidden="1" if hidden else "0", **without_none(as_of=as_of))
        document: documents.UserDocument = project.ask("get_user", cuid=str(cuid), query=query)
        schema: documents.AttributeList = project.ask("list_attributes", query=queries.AttributeQuery(status="all"))

    def show() -> None:
        print_lines(
            (
                ("cuid", document.cuid),
                *((("as of", document.as_of),) if isinstance(document.as_of, str) else ()),
                ("version", document.version),
                ("created", document.created_at),
                ("updated", document.updated_at),
                *((f"identifier {name}", value) for name, values in document.identifiers.items() for value in values),
            )
        )
        click.echo()
        declared = {attribute.name: attribute for attribute in schema.attributes}
        print_table(
            ("attribute", "type", "rule", "value"),
            ((n, declared[n].type, declared[n].rule, value) for n, value in document.attributes.items()),
        )
        if isinstance(document.not_kept, list) and document.not_kept:
            not_kept = ", ".join(document.not_kept)
            click.echo(f"Unknown at that moment, because their history was off then or later: {not_kept}", err=True)

    print_result(document, show)


def _find(project: ProjectBackend, identifier: str, value: str) -> int:
    """Return the CUID that an identifier value points to."""
    query = queries.UserQuery(identifier=identifier, value=value, attributes="")
    found: documents.UserPage = project.ask("list_users", query=query)
    if not found.users:
        raise refusal(ProblemKind.CUID_UNKNOWN, cuid=f"{identifier}={value}")
    return found.users[0].cuid


@user.command("list")
@project_option
@click.option(
    "--limit", type=click.IntRange(1), default=100, show_default=True, metavar="N", help="Maximum number of rows to return."
)
@click.option(
    "--after", type=click.IntRange(0, MAX_CUID), default=0, metavar="CUID", help="Only users with a CUID greater than this."
)
@where_option
@click.option("--attribute", "attributes", multiple=True, metavar="NAME", help="Only this attribute. Repeatable.")
@backend_options
def list_users(
    project_id: str | None, limit: int, after: int, conditions: tuple[str, ...], attributes: tuple[str, ...]
) -> None:
    """List users by CUID.

    A CONDITION is attribute:operator or attribute:operator:value. Operators: set, unset, eq, ne, in, lt, le, gt, ge,
    between, contains. `in` takes values separated by commas; put a value that contains a comma in double quotes. The
    pseudo-columns @cuid, @version, @created_at and @updated_at can be used like attributes.

    Without --attribute, the table has a column for every visible attribute that a listed user has a value for. Values of
    masked identifiers are shortened to 4 characters.

    \b
    Example:
      usertable user list --project 100102 --where level:ge:10 --where '@updated_at:ge:2026-01-02 00:00:00'
    """
    with opened_project(project_id) as project:
        users, following = _users(project, after, limit, conditions, attributes)
        columns = _columns(project, users, attributes)

    def show() -> None:
        _show_users(users, *columns)
        if following is not None:
            click.echo(f"More users may follow; continue with --after {following}", err=True)

    print_result(documents.UserPage(users, None if following is None else str(following)), show)


def _users(
    project: ProjectBackend, after: int, limit: int, conditions: Sequence[str], attributes: Sequence[str]
) -> tuple[list[documents.UserDocument], int | None]:
    """Return up to `limit` users, and the CUID after which more may follow, or None."""
    users: list[documents.UserDocument] = []
    following: int | None = after
    while following is not None and len(users) < limit:
        query = queries.UserQuery(
            limit=min(limit - len(users), PAGE),
            where=list(conditions),
            **without_none(
                attributes=",".join(attributes) or None, after=documents.cursor(following) if following else None
            ),
        )
        page: documents.UserPage = project.ask("list_users", query=query)
        users += page.users
        following = None if page.next is None else int(page.next, 16)
    return users, following


def _columns(
    project: ProjectBackend, users: Sequence[documents.UserDocument], attributes: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return the identifiers and attributes to show in a table of users: without empty ones, unless requested."""
    identifiers: documents.IdentifierList = project.ask("list_identifiers")
    declared: documents.AttributeList = project.ask("list_attributes")
    return (
        [i.name for i in identifiers.identifiers if any(i.name in user.identifiers for user in users)],
        list(attributes) or [a.name for a in declared.attributes if any(a.name in user.attributes for user in users)],
    )


def _cell(user: documents.UserDocument, column: str) -> object:
    """Return a user's value of an attribute or a pseudo-column; None for no value."""
    if column in PSEUDO_COLUMNS:
        return getattr(user, column.removeprefix("@"))
    return user.attributes.get(column)


def _show_users(users: Sequence[documents.UserDocument], identifiers: Sequence[str], attributes: Sequence[str]) -> None:
    """Print a table of users."""
    print_table(
        ("cuid", *identifiers, *attributes),
        (
            (
                user.cuid,
                *(", ".join(user.identifiers.get(name, ())) for name in identifiers),
                *(_cell(user, name) for name in attributes),
            )
            for user in users
        ),
    )


@user.command("erase")
@click.argument("cuid", type=Cuid(), help="CUID of the user.")
@project_option
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@backend_options
def erase_user(cuid: int, project_id: str | None, yes: bool) -> None:
    """Erase a user: attributes, identifier values, and stored responses that contain the user's data.

    The CUID is never assigned again. This cannot be undone.

    \b
    Example:
      usertable user erase 10362473 --project 100102
    """
    with opened_project(project_id) as project:
        project.ask("get_user", cuid=str(cuid))
        if not yes:
            shown: documents.ProjectDocument = project.ask("get_project")
            confirm(f"Permanently erase user {cuid} of project {shown.id} ({shown.name})?")
        project.ask("erase_user", cuid=str(cuid))
    print_result({"cuid": cuid, "erased": True}, lambda: click.echo(f"user {cuid} erased"))
