"""The command `usertable`: the use cases for a terminal and for scripts. The help texts are the manual.

Exit codes: 0 done, 1 refused (the reason is on stderr), 2 wrong usage.
"""

from __future__ import annotations

import contextlib
import errno
import getpass
import os
import socket
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, TypeVar

import click

from usertable.config import Config, ConfigError, Loaded, load
from usertable.domain.condition import parse_conditions
from usertable.domain.errors import Kind, Problem, Refused, StoreFault, StoreMissing, Unavailable
from usertable.domain.merge import Rules
from usertable.domain.schema import Attribute, Identifier, Project, Rule, Step
from usertable.domain.values import LIST_ELEMENT_BYTES, LIST_ELEMENTS, DataType, Limits
from usertable.folders import make_folder
from usertable.store.records import MAX_CUID, User
from usertable.store.urls import shown_url
from usertable.wire import jiguang, native
from usertable.wire.messages import text

# asyncio, rich, the YAML reader and the web framework are slow to import: only the commands that need one do so.
if TYPE_CHECKING:
    from usertable.service import Service
    from usertable.store import Store

SHORT_SECRET = 16
"""A given secret with fewer characters is taken with a warning."""
MASK = "********"

F = TypeVar("F", bound=Callable[..., Any])


class Failure(click.ClickException):
    """Refused, or not possible: the reason goes to stderr, and the exit code is 1."""

    exit_code = 1


class Root(click.Group):
    """The outermost command: what usertable raises becomes a reason on stderr and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Refused as refused:
            raise Failure("\n".join(_said(ctx, problem) for problem in refused.problems)) from refused
        except ConfigError as error:
            raise click.UsageError(str(error)) from error
        except StoreFault as fault:
            raise Failure(str(fault)) from fault
        except Unavailable as failure:
            raise Failure(f"not possible at the moment, retry later: {failure}") from failure
        except BrokenPipeError:
            # Whoever read our output has enough of it.
            _drop_output()
            ctx.exit(0)
        except OSError as error:
            try:
                sys.stdout.flush()
            except OSError:
                _drop_output()
            place = f"{error.filename}: " if error.filename else ""
            raise Failure(f"{place}{error.strerror or error}") from error


def main() -> None:
    """Run this process's command line, and exit."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            # A terminal that cannot show a character shows its number.
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    for place, argument in enumerate(sys.argv[1:], start=1):
        if any("\ud800" <= c <= "\udfff" for c in argument):
            click.echo(f"Error: argument {place} is not valid UTF-8", err=True)
            sys.exit(2)
    cli(prog_name="usertable")


def _drop_output() -> None:
    """Let the rest of the output go nowhere: flushed at the exit, it would fail once more, with another exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# Options and parameter types


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    # The innermost command comes last, so what stands closest to the command wins.
    if value is not None:
        ctx.meta[f"usertable.{param.name}"] = value


def _kept(name: str) -> Any:
    return click.get_current_context().meta.get(f"usertable.{name}")


def _common(command: F) -> F:
    """The options that may stand anywhere: before the group, after it, after the command."""
    command = click.option(
        "--config",
        metavar="FILE",
        expose_value=False,
        callback=_keep,
        help="A TOML file with settings. Also: USERTABLE_CONFIG.",
    )(command)
    return click.option(
        "--store",
        metavar="URL",
        expose_value=False,
        callback=_keep,
        help="Where the data is, such as sqlite:///users.db. Also: USERTABLE_STORE. Default: a file in your data folder.",
    )(command)


def _json(command: F) -> F:
    return click.option(
        "--json", is_flag=True, default=None, expose_value=False, callback=_keep, help="Print JSON, for programs."
    )(_common(command))


def _in_project(command: F) -> F:
    return click.option("--project", "project_id", metavar="ID", required=True, help="The project's id.")(command)


class Pair(click.ParamType[tuple[str, str]]):
    """NAME=VALUE. The value may hold further equals signs."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        name, equals, rest = str(value).partition("=")
        if not name or not equals:
            self.fail(f"{value!r} is not NAME=VALUE, such as phone=18012345678", param, ctx)
        return name, rest


class Qps(click.ParamType[int | Literal["unlimited"]]):
    """A number of requests per second, or `unlimited`."""

    name = "N|unlimited"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | Literal["unlimited"]:
        if value == "unlimited":
            return "unlimited"
        try:
            return int(value)
        except ValueError:
            self.fail(f"{value!r} is neither an integer nor 'unlimited'", param, ctx)


class Word(click.Choice[str]):
    """One of some words, in upper or lower case."""

    def __init__(self, words: Iterable[str]) -> None:
        super().__init__([str(word) for word in words])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return super().convert(next((w for w in self.choices if w.lower() == str(value).lower()), value), param, ctx)


CUID = click.IntRange(1, MAX_CUID)
TYPE = Word(DataType)
RULE = Word(Rule)


# Work and output


_WHICH = "name the one you mean with --store URL or USERTABLE_STORE"


def _said(ctx: click.Context, problem: Problem) -> str:
    looked_in = ctx.meta.get("usertable.looked_in")
    if problem.kind is Kind.PROJECT_UNKNOWN and looked_in:
        return f"{text(problem, 'en')} in the store {looked_in}; if that is another store than you mean, {_WHICH}"
    return text(problem, "en")


def _loaded(**flags: Any) -> Loaded:
    return load({"store": _kept("store"), **flags}, file=_kept("config"))


def _make_default_folder(loaded: Loaded) -> None:
    """Make the data folder of the default store. The folder of a store that someone named is theirs to make."""
    if loaded.sources["store"] == "default":
        make_folder(Path(loaded.config.store.removeprefix("sqlite:///")).parent, 0o700)


@contextlib.contextmanager
def _store(*, create: bool = False) -> Iterator[Store]:
    """The store that is named, or the default one.

    Args:
        create: make it if there is none. Few commands do: one that looks for something would only find nothing in it.
    """
    loaded = _loaded()
    if loaded.config.store.startswith("memory:"):
        raise click.UsageError(
            "a memory: store lives and dies with the server that holds it, so no other command can reach it;"
            " name a file: --store sqlite:///users.db"
        )
    if create:
        _make_default_folder(loaded)
    from usertable.store import open_store

    try:
        opened = open_store(loaded.config.store, create=create, migrate=False)
    except StoreMissing as missing:
        by_default = ", the default" if loaded.sources["store"] == "default" else ""
        raise Failure(f"{missing}{by_default}; {_WHICH}, or make one there: usertable project create NAME") from missing
    click.get_current_context().meta["usertable.looked_in"] = shown_url(loaded.config.store)
    with contextlib.closing(opened) as store:
        yield store


@contextlib.contextmanager
def _service(*, create: bool = False) -> Iterator[Service]:
    with _store(create=create) as store:
        from usertable.service import Service

        config = _loaded().config
        yield Service(store, max_attributes=config.max_attributes, rules=Rules(config.row_limit))


def _who() -> str:
    """Who is written into the record of changes."""
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError):
        return f"cli:uid {os.getuid()}"


def _answer(document: object, show: Callable[[], None]) -> None:
    """Print the document if JSON is wanted, otherwise `show()`."""
    if _kept("json"):
        click.echo(native.encode(document))
    else:
        show()


def _plain(value: object) -> str:
    """`value` on one line, without characters that would steer a terminal."""
    shown = value if isinstance(value, str) else "" if value is None else native.shown_value(value)  # type: ignore[arg-type]
    if shown.isprintable():
        return shown
    return "".join(
        c if c.isprintable() or unicodedata.category(c) == "Zs" else c.encode("unicode_escape").decode() for c in shown
    )


def _lines(rows: Iterable[Sequence[object]]) -> None:
    """Print a line per row, however long, with aligned columns."""
    from rich.cells import cell_len

    cells = [[_plain(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(padded).rstrip(" "))


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table: one that fits a terminal's width, or, for anything else, lines that a script can read."""
    if sys.stdout is None or not sys.stdout.isatty():
        _lines([heads, *rows])
        return

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_plain(cell)) for cell in row))
    Console().print(table)


def _need_a_change(*changes: object) -> None:
    if all(change is None for change in changes):
        raise click.UsageError("nothing to change; see --help for what can be")


def _given(**changes: Any) -> dict[str, Any]:
    return {name: change for name, change in changes.items() if change is not None}


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        from importlib import metadata

        try:
            click.echo(metadata.version("usertable"))
        except metadata.PackageNotFoundError:
            click.echo("unknown: the package is not installed")
        ctx.exit()


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version.")
@_json
def cli() -> None:
    """The open, self-hosted user-attribute store.

    Declare attributes in a project, serve its API, and look at its users. Every command works while a server serves the
    same store, and a running server sees a change within a second.

    \b
    A first tour:
      usertable project create demo --json
      usertable attribute create level --project ID --type NUMBER --rule overwrite
      usertable identifier create phone --project ID
      usertable user register phone 18012345678 --project ID
      usertable serve

    Exit codes: 0 done, 1 refused (the reason is on stderr), 2 wrong usage.
    """


# serve, config


@cli.command()
@click.option("--host", metavar="ADDRESS", help="Address to listen on, default 127.0.0.1; 0.0.0.0 for every interface.")
@click.option("--port", metavar="PORT", help="Port to listen on, default 8000; 0 for any free one.")
@click.option("--workers", metavar="N", help="Server processes, default 1; more than one needs a postgresql store.")
@click.option("--always-200", is_flag=True, default=None, help="Answer HTTP 200 to every business error.")
@click.option("--body-limit", metavar="BYTES", help="Largest request body, default 1048576.")
@click.option("--queue-capacity", metavar="N", help="Writes waiting at most, default 10000; one more gets 503.")
@click.option("--log-level", metavar="LEVEL", help="debug, info (the default), warning or error.")
@_common
def serve(**flags: Any) -> None:
    """Serve the API until Ctrl-C or SIGTERM.

    Every setting that `usertable config` lists can also be given as an environment variable or in a TOML file; the
    options here are the most used ones. Only one server can serve a SQLite file.

    \b
    Example:
      usertable serve --store sqlite:///users.db --port 8080
    """
    loaded = _loaded(**flags)
    _tell_of_service_links(loaded)
    _make_default_folder(loaded)
    from usertable.http.server import ListenFault
    from usertable.http.server import serve as serve_http

    try:
        serve_http(loaded.config, lambda: _loaded(**flags).config)
    except ListenFault as fault:
        raise Failure(_cannot_listen(loaded.config, fault.reason)) from fault
    except OSError as error:
        what = f": {error.filename}" if error.filename else ""
        raise Failure(
            f"the server ended, because the system refused it something: {error.strerror or error}{what}"
        ) from error


def _tell_of_service_links(loaded: Loaded) -> None:
    if loaded.service_links:
        click.echo(
            "Ignored, because Kubernetes sets them for a Service named usertable:"
            f" {', '.join(sorted(loaded.service_links))}. With enableServiceLinks: false in the pod's spec it sets none.",
            err=True,
        )


def _cannot_listen(config: Config, error: OSError | UnicodeError) -> str:
    place = f"cannot listen on {config.host} port {config.port}: "
    if isinstance(error, UnicodeError | socket.gaierror):
        return f"{place}there is no such host; --host takes an address of this machine"
    if error.errno == errno.EADDRINUSE:
        return f"{place}another program does already; stop it, or choose another port with --port (0 for any free one)"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{place}this machine does not have that address; choose another with --host"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{place}you are not permitted to; ports below 1024 are the administrator's, choose another with --port"
    return f"{place}{error.strerror or error}"


@cli.command("config")
@_json
def show_config() -> None:
    """Show every setting: its value, where that came from, and what it is for.

    A flag goes before an environment variable (upper case after USERTABLE_, such as USERTABLE_PORT), which goes before
    the file that --config or USERTABLE_CONFIG names, which goes before the default.

    \b
    Example:
      usertable config --config usertable.toml
    """
    loaded = _loaded()
    _tell_of_service_links(loaded)
    settings = {}
    for setting in fields(Config):
        value = getattr(loaded.config, setting.name)
        if setting.name == "admin_token" and value:
            value = MASK
        elif setting.name == "store":
            value = shown_url(value)
        settings[setting.name] = {
            "value": value,
            "source": loaded.sources[setting.name],
            "help": setting.metadata["help"],
        }
    _answer(
        settings,
        lambda: _table(
            ("setting", "value", "source", "help"),
            ((name, s["value"], s["source"], s["help"]) for name, s in settings.items()),
        ),
    )


@cli.command()
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 if there is something to do.")
@click.option("--distribute", "distributed", is_flag=True, help="Distribute the tables over a Citus cluster.")
@click.option("--shards", metavar="N", type=click.IntRange(1, 1024), default=8, help="With --distribute; default 8.")
@_json
def migrate(check: bool, distributed: bool, shards: int) -> None:
    """Bring a store's tables to what this version needs.

    `serve` does so by itself; this is for those who run it apart, before new servers start. Every other command refuses a
    store of an older version. Stop the server of a SQLite file first, and have a backup. It goes forward only, and may be
    run by several at once.

    --distribute turns a PostgreSQL store, filled or empty, into the layout for Citus. Stop the servers for it, and have
    a backup: it cannot be turned back.

    \b
    Examples:
      usertable migrate --store postgresql://usertable@db/usertable --check
      usertable migrate --store postgresql://usertable@coordinator/usertable --distribute --shards 16
    """
    if check and distributed:
        raise click.UsageError("--check changes nothing, so it does not go with --distribute")
    loaded = _loaded()
    from usertable.store import distribute, open_store, stored_version

    url = loaded.config.store
    before, newest = stored_version(url)
    if not check:
        _make_default_folder(loaded)
        open_store(url).close()
    found = {
        "store": shown_url(url),
        "version": before if check else newest,
        "newest": newest,
        "migrated": not check and before < newest,
    }
    if distributed:
        found["distributed"] = distribute(url, shards)

    def show() -> None:
        if check:
            click.echo(f"{found['store']} is at version {before}, the newest is {newest}")
        elif before < newest:
            click.echo(f"{found['store']}: brought from version {before} to {newest}")
        else:
            click.echo(f"{found['store']} is at version {newest}, nothing to do")
        if distributed:
            done = f"distributed over {shards} shards" if found["distributed"] else "is distributed already"
            click.echo(f"{found['store']}: {done}")

    _answer(found, show)
    if check and before < newest:
        raise Failure("the store needs a migration: run usertable migrate")


# store


@cli.group()
@_json
def store() -> None:
    """Whole stores."""


@store.command("copy")
@click.argument("source", metavar="FROM_URL")
@click.argument("target", metavar="TO_URL")
@_json
def copy_stores(source: str, target: str) -> None:
    """Copy everything from one store into another, empty one, and compare the two.

    Projects, secrets, users, identifiers, answers kept for retries, the record of changes: all of it as it is. Arrivals
    stay behind. Stop the servers of both. If it is interrupted, run it again: it goes on where it was, and a project
    appears in the target only when it is whole. At the end both are read and compared by count and checksum.

    \b
    Example:
      usertable store copy sqlite:///users.db postgresql://usertable@db/usertable
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from usertable.store import open_store
    from usertable.store.copy import copy_store

    if source == target:
        raise click.UsageError("FROM_URL and TO_URL are the same store")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("users"),
        TimeRemainingColumn(),
    )
    with contextlib.ExitStack() as stores:
        original, copy = (
            stores.enter_context(contextlib.closing(open_store(url, alone=True, create=url == target, migrate=False)))
            for url in (source, target)
        )
        with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
            tasks = {what: bar.add_task(what) for what in ("copy", "verify")}
            sums = copy_store(original, copy, lambda what, done, of: bar.update(tasks[what], completed=done, total=of))
    rows = [
        (project, table, found.rows, found.checksum) for project, parts in sums.items() for table, found in parts.items()
    ]
    _answer(
        {
            project: {table: {"rows": s.rows, "checksum": s.checksum} for table, s in parts.items()}
            for project, parts in sums.items()
        },
        lambda: _table(("project", "table", "rows", "checksum"), [(*row[:3], row[3][:12]) for row in rows]),
    )


# project


@cli.group()
@_json
def project() -> None:
    """Projects: each has its own users, attributes and secret."""


@project.command("create")
@click.argument("name")
@click.option(
    "--id",
    "project_id",
    metavar="ID",
    help="Its id in requests: 1 to 64 of A-Z a-z 0-9 . _ -, and neither . nor .. (default: six digits).",
)
@click.option("--secret", metavar="SECRET", help="A secret that you have already (default: a random one).")
@click.option("--timezone", metavar="TZ", help="IANA time zone of its DATETIME values (default: Asia/Shanghai).")
@click.option("--qps", type=Qps(), help="Requests per second and API (default: 100).")
@_json
def create_project(
    name: str, project_id: str | None, secret: str | None, timezone: str | None, qps: int | str | None
) -> None:
    """Create a project.

    Its secret is shown only this once; the store keeps a hash of it.

    \b
    Examples:
      usertable project create demo
      usertable project create shop --timezone Europe/Berlin --qps unlimited --json
    """
    settings = _given(timezone=timezone)
    if qps is not None:
        settings["qps"] = None if qps == "unlimited" else qps
    with _service(create=True) as service:
        created, made = service.create_project(name, id=project_id, secret=secret, **settings, who=_who())
    _show_secret(created, made, given=secret is not None)


def _show_secret(project: Project, secret: str, *, given: bool) -> None:
    def show() -> None:
        _lines((("id", project.id), ("name", project.name), ("secret", secret)))
        click.echo("The secret is shown only this once. Keep it now; if it is lost, rotate it.")

    if given and len(secret) < SHORT_SECRET:
        click.echo(
            f"Warning: the secret has fewer than {SHORT_SECRET} characters and may be guessed;"
            " leave --secret out to get a random one.",
            err=True,
        )
    _answer(native.project_document(project, secret), show)


@project.command("list")
@_json
def list_projects() -> None:
    """List all projects, in order of creation.

    \b
    Example:
      usertable project list --json
    """
    with _service() as service:
        documents = [native.project_document(p) for p in service.projects()]
    _answer(
        native.ProjectList(documents),
        lambda: _table(
            ("id", "name", "timezone", "qps", "created"),
            ((p.id, p.name, p.timezone, p.qps, p.created_at) for p in documents),
        ),
    )


@project.command("edit")
@click.argument("project_id", metavar="ID")
@click.option("--name", metavar="TEXT", help="Its new name.")
@click.option("--timezone", metavar="TZ", help="Its new IANA time zone; moments that are stored stay the same moments.")
@click.option("--qps", type=Qps(), help="Requests per second and API.")
@_json
def edit_project(project_id: str, name: str | None, timezone: str | None, qps: int | str | None) -> None:
    """Change a project's name, time zone or QPS limit.

    \b
    Example:
      usertable project edit 100102 --qps 500
    """
    _need_a_change(name, timezone, qps)
    limit = qps if isinstance(qps, int) else None
    with _service() as service:
        edited = service.edit_project(
            project_id, name=name, timezone=timezone, qps=limit, unlimited=qps == "unlimited", who=_who()
        )
    document = native.project_document(edited)
    _answer(
        document,
        lambda: _lines(
            (("id", document.id), ("name", document.name), ("timezone", document.timezone), ("qps", document.qps))
        ),
    )


@project.command("rotate-secret")
@click.argument("project_id", metavar="ID")
@click.option("--secret", metavar="SECRET", help="A secret that you have already (default: a random one).")
@_json
def rotate_secret(project_id: str, secret: str | None) -> None:
    """Replace a project's secret. The old one stops working within a second; the new one is shown only this once.

    \b
    Example:
      usertable project rotate-secret 100102
    """
    with _service() as service:
        rotated, made = service.rotate_secret(project_id, secret=secret, who=_who())
    _show_secret(rotated, made, given=secret is not None)


@project.command("changes")
@click.argument("project_id", metavar="ID")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, metavar="N", help="So many at most.")
@_json
def list_changes(project_id: str, limit: int) -> None:
    """Show who changed the project or its schema, when and how, newest first.

    \b
    Example:
      usertable project changes 100102 --limit 10
    """
    with _service() as service:
        changes = [native.change_document(c) for c in service.schema_changes(project_id, limit)]
    _answer(
        native.ChangeList(changes),
        lambda: _table(("at", "who", "what"), ((c.at, c.who, c.what) for c in changes)),
    )


# attribute


@cli.group()
@_json
def attribute() -> None:
    """Attributes: the columns of a project's user table."""


@attribute.command("create")
@click.argument("name")
@_in_project
@click.option("--type", "data_type", type=TYPE, required=True, help="Data type of its values; never changes.")
@click.option("--rule", type=RULE, required=True, help="What becomes of a new value; never changes.")
@click.option("--display-name", default="", metavar="TEXT", help="Name for people.")
@click.option("--description", default="", metavar="TEXT", help="What it means.")
@click.option("--hidden", is_flag=True, help="Leave it out of lists; writes are taken all the same.")
@click.option("--max-elements", type=int, default=LIST_ELEMENTS, show_default=True, help="LIST: elements at most.")
@click.option(
    "--max-element-bytes", type=int, default=LIST_ELEMENT_BYTES, show_default=True, help="LIST: bytes per element at most."
)
@_json
def create_attribute(
    name: str,
    project_id: str,
    data_type: str,
    rule: str,
    display_name: str,
    description: str,
    hidden: bool,
    max_elements: int,
    max_element_bytes: int,
) -> None:
    """Declare an attribute.

    NAME has lowercase letters, digits and underscores, and begins with a letter. Name, type and rule never change.

    \b
    The rules:
      overwrite   the newest value replaces the old        every type
      once        the first value stays                    every type
      accumulate  every report is added, from 0 on         NUMBER
      append      new elements join, without repeats       LIST

    \b
    Example:
      usertable attribute create level --project 100102 --type NUMBER --rule overwrite
    """
    limits = Limits(max_elements, max_element_bytes)
    declared = Attribute(name, DataType(data_type), Rule(rule), display_name, description, hidden, limits)
    with _service() as service:
        service.declare_attribute(project_id, declared, who=_who())
        _show_attribute(service, project_id, name, "declared")


def _show_attribute(service: Service, project_id: str, name: str, what: str) -> None:
    owner = service.project(project_id)
    document = native.attribute_document(owner.schema.attribute(name), owner)
    _answer(
        document, lambda: click.echo(f"attribute {name} ({document.type}, {document.rule}) of project {owner.id}: {what}")
    )


@attribute.command("list")
@_in_project
@click.option("--search", default="", metavar="TEXT", help="Only those with TEXT in their name or display name.")
@click.option(
    "--status",
    type=Word(["visible", "hidden", "all"]),
    default="visible",
    show_default=True,
    help="Only those with this status.",
)
@click.option("--type", "data_type", type=TYPE, help="Only those of this data type.")
@click.option("--rule", type=RULE, help="Only those with this rule.")
@_json
def list_attributes(project_id: str, search: str, status: str, data_type: str | None, rule: str | None) -> None:
    """List a project's attributes, in order of declaration.

    \b
    Example:
      usertable attribute list --project 100102 --status all --type LIST
    """
    with _service() as service:
        owner = service.project(project_id)
    found = native.select_attributes(owner, search=search, status=status, type=data_type, rule=rule)
    documents = [native.attribute_document(a, owner) for a in found]
    _answer(
        native.AttributeList(documents),
        lambda: _table(
            ("name", "display name", "type", "rule", "status", "reported", "description"),
            (
                (
                    a.name,
                    a.display_name,
                    a.type,
                    a.rule,
                    "hidden" if a.hidden else "visible",
                    "yes" if a.reported else "no",
                    a.description,
                )
                for a in documents
            ),
        ),
    )


@attribute.command("edit")
@click.argument("name")
@_in_project
@click.option("--display-name", metavar="TEXT", help="Its new name for people.")
@click.option("--description", metavar="TEXT", help="Its new description.")
@_json
def edit_attribute(name: str, project_id: str, display_name: str | None, description: str | None) -> None:
    """Change an attribute's display name or description.

    \b
    Example:
      usertable attribute edit level --project 100102 --display-name 等级
    """
    _need_a_change(display_name, description)
    _edit_attribute(project_id, name, "edited", **_given(display_name=display_name, description=description))


def _edit_attribute(project_id: str, name: str, what: str, **changes: Any) -> None:
    with _service() as service:
        service.edit_attribute(project_id, name, who=_who(), **changes)
        _show_attribute(service, project_id, name, what)


@attribute.command("hide")
@click.argument("name")
@_in_project
@_json
def hide_attribute(name: str, project_id: str) -> None:
    """Leave an attribute out of lists. Its values stay, and writes are taken all the same.

    \b
    Example:
      usertable attribute hide level --project 100102
    """
    _edit_attribute(project_id, name, "hidden", hidden=True)


@attribute.command("show")
@click.argument("name")
@_in_project
@_json
def show_attribute(name: str, project_id: str) -> None:
    """Show a hidden attribute in lists again.

    \b
    Example:
      usertable attribute show level --project 100102
    """
    _edit_attribute(project_id, name, "visible", hidden=False)


@attribute.command("delete")
@click.argument("name")
@_in_project
@_json
def delete_attribute(name: str, project_id: str) -> None:
    """Delete an attribute that no value was ever reported for. Any other can be hidden.

    \b
    Example:
      usertable attribute delete level --project 100102
    """
    with _service() as service:
        service.delete_attribute(project_id, name, who=_who())
    _answer({"name": name, "deleted": True}, lambda: click.echo(f"attribute {name} deleted"))


# identifier


@cli.group()
@_json
def identifier() -> None:
    """Identifiers: named ways to point at a user, such as a phone number."""


@identifier.command("create")
@click.argument("name")
@_in_project
@click.option("--display-name", default="", metavar="TEXT", help="Name for people.")
@click.option("--unique/--no-unique", default=True, show_default=True, help="One value per user; never changes.")
@click.option("--masked", is_flag=True, help="Lists show only the first 4 characters of its values.")
@_json
def create_identifier(name: str, project_id: str, display_name: str, unique: bool, masked: bool) -> None:
    """Declare an identifier.

    Its priority is below that of the ones declared before. The one with priority 1, if it is unique, can be exchanged for
    a CUID: `usertable user register`, or Get CUID of the API.

    \b
    Example:
      usertable identifier create phone --project 100102 --display-name 手机号 --masked
    """
    with _service() as service:
        service.declare_identifier(project_id, Identifier(name, display_name, unique, masked), who=_who())
        _show_identifier(service, project_id, name, "declared")


def _show_identifier(service: Service, project_id: str, name: str, what: str) -> None:
    documents = native.identifier_documents(service.project(project_id).schema.identifiers)
    (document,) = (d for d in documents if d.name == name)
    _answer(document, lambda: click.echo(f"identifier {name} of project {project_id}: {what}, priority {document.priority}"))


@identifier.command("list")
@_in_project
@_json
def list_identifiers(project_id: str) -> None:
    """List a project's identifiers, by priority.

    \b
    Example:
      usertable identifier list --project 100102
    """
    with _service() as service:
        owner = service.project(project_id)
    _show_identifiers(owner)


def _show_identifiers(project: Project) -> None:
    documents = native.identifier_documents(project.schema.identifiers)
    _answer(
        native.IdentifierList(documents),
        lambda: _table(
            ("priority", "name", "display name", "unique", "masked", "preset"),
            (
                (d.priority, d.name, d.display_name, *("yes" if flag else "no" for flag in (d.unique, d.masked, d.preset)))
                for d in documents
            ),
        ),
    )


@identifier.command("order")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@_in_project
@_json
def order_identifiers(names: tuple[str, ...], project_id: str) -> None:
    """Set the priority of all identifiers: the first NAME gets priority 1.

    The platform's presets may be left out; they stand last then.

    \b
    Example:
      usertable identifier order login_id phone --project 100102
    """
    with _service() as service:
        declared = service.project(project_id).schema.identifiers
        left_out = [i.name for i in declared if i.preset and i.name not in names]
        ordered = service.order_identifiers(project_id, [*names, *left_out], who=_who())
    _show_identifiers(ordered)


@identifier.command("edit")
@click.argument("name")
@_in_project
@click.option("--display-name", metavar="TEXT", help="Its new name for people.")
@click.option("--masked/--no-masked", default=None, help="Whether lists show only the first 4 characters of its values.")
@_json
def edit_identifier(name: str, project_id: str, display_name: str | None, masked: bool | None) -> None:
    """Change an identifier's display name, or whether lists mask its values.

    \b
    Example:
      usertable identifier edit phone --project 100102 --masked
    """
    _need_a_change(display_name, masked)
    with _service() as service:
        service.edit_identifier(project_id, name, who=_who(), **_given(display_name=display_name, masked=masked))
        _show_identifier(service, project_id, name, "edited")


@identifier.command("delete")
@click.argument("name")
@_in_project
@_json
def delete_identifier(name: str, project_id: str) -> None:
    """Delete an identifier that no user has a value of. The platform's presets cannot be deleted.

    \b
    Example:
      usertable identifier delete phone --project 100102
    """
    with _service() as service:
        service.delete_identifier(project_id, name, who=_who())
    _answer({"name": name, "deleted": True}, lambda: click.echo(f"identifier {name} deleted"))


# user


@cli.group()
@_json
def user() -> None:
    """Users: the rows of a project's user table."""


@user.command("register")
@click.argument("name")
@click.argument("values", metavar="VALUE...", nargs=-1, required=True)
@_in_project
@_json
def register_users(name: str, values: tuple[str, ...], project_id: str) -> None:
    """Exchange values of the identifier NAME for CUIDs. A value never seen creates a user.

    The identifier must be unique and have priority 1. Values have 1 to 256 characters and are compared exactly.

    \b
    Example:
      usertable user register phone 18012345678 18012345679 --project 100102
    """
    _check_identifier_values({f"VALUE {place}": value for place, value in enumerate(values, start=1)})
    with _service() as service:
        cuids = service.register(service.project(project_id), name, values)
    registered = list(zip(values, cuids, strict=True))
    _answer(
        {"users": [{"value": value, "cuid": cuid} for value, cuid in registered]},
        lambda: _table(("value", "cuid"), registered),
    )


def _check_identifier_values(values: Mapping[str, str]) -> None:
    """Refuse values, by what to call them, that no identifier can have."""
    expected = f"a text of 1 to {jiguang.MAX_IDENTITY_CHARACTERS} characters"
    problems = [
        native.parameter_problem(place, expected) for place, value in values.items() if not jiguang.is_identity_value(value)
    ]
    if problems:
        raise Refused(problems)


@user.command("create")
@click.argument("cuid", type=CUID)
@_in_project
@click.option("--identifier", "identifiers", type=Pair(), multiple=True, help="A value that points at the user; repeatable.")
@_json
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
    with _service() as service:
        owner = service.project(project_id)
        created = service.add_user(owner, cuid, values)
    _answer(native.user_document(created, owner), lambda: click.echo(f"user {cuid} created"))


@user.command("get")
@click.argument("cuid", type=CUID, required=False)
@_in_project
@click.option("--identifier", type=Pair(), help="Find the user by an identifier's value instead.")
@click.option("--hidden", is_flag=True, help="Hidden attributes too.")
@_json
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
    with _service() as service:
        owner = service.project(project_id)
        if identifier is not None:
            found = service.find_user(owner, *identifier)
        else:
            assert cuid is not None
            found = service.user(owner, cuid)
    document = native.user_document(found, owner, hidden=hidden, times=True)

    def show() -> None:
        _lines(
            (
                ("cuid", document.cuid),
                ("version", document.version),
                ("created", document.created_at),
                ("updated", document.updated_at),
                *((f"identifier {name}", value) for name, values in document.identifiers.items() for value in values),
            )
        )
        click.echo()
        declared = owner.schema.attributes
        _table(
            ("attribute", "type", "rule", "value"),
            ((n, declared[n].type, declared[n].rule, value) for n, value in document.attributes.items()),
        )

    _answer(document, show)


@user.command("list")
@_in_project
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, metavar="N", help="So many at most.")
@click.option("--after", type=click.IntRange(0, MAX_CUID), default=0, metavar="CUID", help="Only users with a greater CUID.")
@click.option("--where", "conditions", multiple=True, metavar="CONDITION", help="Only users that meet it; repeatable.")
@click.option("--attribute", "attributes", multiple=True, metavar="NAME", help="Only this attribute; repeatable.")
@_json
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
    users: list[User] = []
    following: int | None = after
    with _service() as service:
        owner = service.project(project_id)
        for name in attributes:
            owner.schema.attribute(name)
        parsed = parse_conditions(conditions, owner.schema, owner.zone)
        while following is not None and len(users) < limit:
            page = service.users(owner, after=following, limit=limit - len(users), conditions=parsed)
            users += page.users
            following = page.next
    documents = [native.user_document(u, owner, attributes or None, mask=True) for u in users]

    def show() -> None:
        columns = attributes or [n for n in owner.schema.attributes if any(n in d.attributes for d in documents)]
        names = [i.name for i in owner.schema.identifiers if any(i.name in d.identifiers for d in documents)]
        _table(
            ("cuid", *names, *columns),
            (
                (
                    d.cuid,
                    *(", ".join(d.identifiers.get(n, ())) for n in names),
                    *(d.attributes.get(n) for n in columns),
                )
                for d in documents
            ),
        )
        if following is not None:
            click.echo(f"More users may follow: --after {following}", err=True)

    _answer(native.UserPage(documents, None if following is None else str(following)), show)


@user.command("erase")
@click.argument("cuid", type=CUID)
@_in_project
@click.option("--yes", is_flag=True, help="Do not ask.")
@_json
def erase_user(cuid: int, project_id: str, yes: bool) -> None:
    """Remove a user for good: the row, identifier values, and stored answers that show the user's data.

    The CUID is never used again. There is no way back.

    \b
    Example:
      usertable user erase 10362473 --project 100102
    """
    with _service() as service:
        owner = service.project(project_id)
        service.user(owner, cuid)
        if not yes:
            click.confirm(f"Erase user {cuid} of project {owner.id} ({owner.name}) for good?", abort=True, err=True)
        service.erase_user(owner, cuid)
    _answer({"cuid": cuid, "erased": True}, lambda: click.echo(f"user {cuid} erased"))


# schema


@cli.group()
@_json
def schema() -> None:
    """Schema as code: a project's attributes and identifiers as a YAML file."""


@schema.command("export")
@_in_project
@_json
def export_schema(project_id: str) -> None:
    """Print a project's schema as YAML, or as JSON, which is YAML too.

    \b
    Example:
      usertable schema export --project 100102 > schema.yaml
    """
    from usertable.wire import schema_file

    with _service() as service:
        exported = service.project(project_id).schema
    # In UTF-8 whatever the terminal has, because that is what a schema file is in.
    _answer(native.schema_form(exported), lambda: click.echo(schema_file.encode(exported).encode(), nl=False))


@schema.command("diff")
@click.argument("file", type=click.File("rb"))
@_in_project
@_json
def diff_schema(file: IO[bytes], project_id: str) -> None:
    """Print the plan that `apply` would follow, and change nothing. FILE may be - for stdin.

    The exit code is 1 if `apply` would refuse.

    \b
    Example:
      usertable schema diff schema.yaml --project 100102
    """
    from usertable.service import refuse_steps
    from usertable.wire import schema_file

    wanted = schema_file.decode(file.read())
    with _service() as service:
        steps, refused = service.plan_schema(project_id, wanted)
    _show_plan(steps, refused, dry_run=True)
    if refused:
        raise refuse_steps(refused)


@schema.command("apply")
@click.argument("file", type=click.File("rb"))
@_in_project
@_json
def apply_schema(file: IO[bytes], project_id: str) -> None:
    """Print the plan that turns a project's schema into that of FILE (- for stdin), and follow it.

    Whole or not at all: a step that would lose or reinterpret data, such as another type or the removal of an attribute,
    refuses everything. Applying the same file again does nothing.

    \b
    Example:
      usertable schema apply schema.yaml --project 100102
    """
    from usertable.service import refuse_steps
    from usertable.wire import schema_file

    wanted = schema_file.decode(file.read())
    with _service() as service:
        steps, refused = service.plan_schema(project_id, wanted)
        if not refused:
            # What was done is the plan of the moment of doing it; someone else may have changed the schema since.
            steps = service.apply_schema(project_id, wanted, who=_who())
    _show_plan(steps, refused, dry_run=False)
    if refused:
        raise refuse_steps(refused)


def _show_plan(steps: Sequence[Step], refused: Sequence[Step], *, dry_run: bool) -> None:
    def show() -> None:
        for step in steps:
            click.echo(f"{'+' if step.verb == 'declare' else '~'} {_plain(str(step))}")
        for step in refused:
            click.echo(f"! {_plain(str(step))}")
        if not steps and not refused:
            click.echo("nothing to do")

    _answer(native.plan_document(steps, refused, dry_run=dry_run), show)


# import, export: in a module of their own, which needs this one


from usertable.cli_bulk import export_table, import_table  # noqa: E402

cli.add_command(import_table)
cli.add_command(export_table)
