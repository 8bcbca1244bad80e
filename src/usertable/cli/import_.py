"""`usertable import`: its options. The import itself is in `import_run.py`."""

from __future__ import annotations

from typing import Any

import click

from usertable.cli.formats import FORMAT
from usertable.cli.options import Pair, SettingOption, backend_options, checked_secret, project_option
from usertable.cli.process import exit_on_sigterm
from usertable.config import SECRET


def _read_secret(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    return value and checked_secret(value)


@click.command("import")
@click.argument("file", metavar="FILE|-", help="CSV, NDJSON or Parquet file; - for stdin.")
@project_option
@click.option("--format", type=FORMAT, show_default="by the file's extension", help="Format of the file.")
@click.option(
    "--map",
    "pairs",
    type=Pair(),
    multiple=True,
    metavar="COLUMN=NAME[,NAME]",
    help="Attributes or identifiers that a column is imported to; `COLUMN=` leaves the column out. Repeatable.",
)
@click.option(
    "--map-file", type=click.File("rb"), metavar="FILE", help="YAML file with a line `COLUMN: NAME` for each --map."
)
@click.option("--register", is_flag=True, help="Create users and identifier values that do not exist.")
@click.option(
    "--empty",
    type=click.Choice(["skip", "refuse"]),
    default="skip",
    show_default=True,
    help="What to do with an empty cell: leave the attribute unchanged, or reject the row.",
)
@click.option(
    "--null", "nulls", multiple=True, metavar="TEXT", help="Text that counts as an empty cell, such as NULL. Repeatable."
)
@click.option(
    "--encoding",
    default="auto",
    metavar="NAME",
    show_default="by the byte order mark, else UTF-8",
    help="CSV and NDJSON: encoding, such as gb18030, big5, shift_jis, euc-kr, cp1252, latin-1, utf-16le.",
)
@click.option(
    "--delimiter",
    metavar="CHARACTER",
    show_default="by a first line such as sep=; or else a comma",
    help="CSV: delimiter between cells; \\t for a tab.",
)
@click.option(
    "--list-separator",
    metavar="TEXT",
    show_default="LISTs are JSON arrays",
    help="CSV: separator between the elements of a LIST.",
)
@click.option(
    "--date-format",
    "date_formats",
    metavar="FORMAT",
    multiple=True,
    show_default="yyyy-MM-dd HH:mm:ss",
    help="Format of DATETIME texts in the notation of strptime, such as '%d.%m.%Y %H:%M'. Repeatable; the first format that"
    " matches is used.",
)
@click.option(
    "--decimal-comma",
    is_flag=True,
    help="NUMBER texts have a decimal comma and optionally a point or a space between thousands, such as 1.234,5.",
)
@click.option(
    "--true", "true_texts", metavar="TEXT", multiple=True, help="Text that means true in a BOOL, such as yes. Repeatable."
)
@click.option(
    "--false", "false_texts", metavar="TEXT", multiple=True, help="Text that means false in a BOOL, such as no. Repeatable."
)
@click.option(
    "--default",
    "defaults",
    type=Pair(),
    multiple=True,
    metavar="NAME=VALUE",
    help="Value of an attribute for rows that have none. Repeatable.",
)
@click.option(
    "--dry-run", is_flag=True, help="Check every row, and show the first rows and all problems, without storing anything."
)
@click.option(
    "--resume",
    is_flag=True,
    help="Resume an interrupted import of this file after the last stored row; if there is none, start at the first row.",
)
@click.option("--restart", is_flag=True, help="Start at the first row even if an import of this file was interrupted.")
@click.option(
    "--job",
    metavar="NAME",
    show_default="path of the file; for stdin and pipes, a hash of the content",
    help="Name that identifies this import when it is resumed.",
)
@click.option(
    "--rejects", metavar="FILE", show_default="FILE.rejects.csv or FILE.rejects.ndjson", help="File for rejected rows."
)
@click.option(
    "--batch",
    type=click.IntRange(1, 100_000),
    metavar="N",
    show_default="5000; with --url 1000, the maximum there",
    help="Number of rows per commit.",
)
@click.option(
    "--secret",
    cls=SettingOption,
    variable=SECRET,
    metavar="SECRET",
    callback=_read_secret,
    help="With --url: secret of the project. Prefer the environment variable. Default: the admin token, if there is one.",
)
@click.option(
    "--state", metavar="FILE", show_default="FILE.import.json", help="With --url: file for the position to resume from."
)
@click.option(
    "--receipt-hours",
    type=click.IntRange(24, 24 * 365),
    default=24,
    show_default=True,
    metavar="N",
    help="With --url: the server's setting receipt_hours.",
)
@backend_options
@exit_on_sigterm()
def import_table(**given: Any) -> None:
    """Import users from a CSV, NDJSON or Parquet file.

    CSV and NDJSON files may be compressed with gzip or zstd: users.csv.gz, users.ndjson.zst.

    Each row identifies a user by cuid or by the value of an identifier. The other columns are attributes, and are merged by
    their rules, row by row. A row with a problem is rejected as a whole and written to the rejects file, with its number
    and the reason. Fix the rows there and import that file. The exit code is 1 if a row was rejected.

    An interrupted import resumes with --resume after the last stored row, and no row is applied twice. An import can run
    while a server serves the store.

    With --url, rows are sent to a server in batches, with the admin token or the project's secret. The position is kept in
    the file that --state names, which is needed to resume.

    \b
    Examples:
      usertable import crm.csv --project 100102 --register --map Phone=phone --map 'Old id=' --dry-run
      usertable import crm.csv --project 100102 --register --map Phone=phone --map 'Old id='
      usertable import german.csv.gz --project 100102 --delimiter ';' --decimal-comma --date-format %d.%m.%Y
      psql -c '\\copy users to stdout csv header' | usertable import - --format csv --project 100102
      usertable import crm.csv --project 100102 --url https://usertable.example.com
    """
    from usertable.cli.import_run import ImportOptions, run_import

    run_import(ImportOptions(**given))
