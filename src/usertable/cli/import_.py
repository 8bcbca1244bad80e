"""`usertable import`: its options. What it does with them is in `import_run.py`."""

from __future__ import annotations

from typing import Any

import click

from usertable.cli.formats import FORMAT
from usertable.cli.options import Pair, backend_options, checked_secret, project_option
from usertable.cli.process import exit_on_sigterm
from usertable.config import SECRET


def _read_secret(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    return value and checked_secret(value)


@click.command("import")
@click.argument("file", metavar="FILE|-")
@project_option
@click.option("--format", type=FORMAT, help="Default: by the file's ending.")
@click.option(
    "--map",
    "pairs",
    type=Pair(),
    multiple=True,
    metavar="COLUMN=NAME[,NAME]",
    help="What a column is for, or several things; repeatable.",
)
@click.option("--map-file", type=click.File("rb"), metavar="FILE", help="The same as a YAML file of COLUMN: NAME.")
@click.option("--register", is_flag=True, help="Create users, and identifier values, that are not there.")
@click.option(
    "--empty",
    type=click.Choice(["skip", "refuse"]),
    default="skip",
    show_default=True,
    help="An empty cell: the attribute is not set, or the row is refused.",
)
@click.option(
    "--null", "nulls", multiple=True, metavar="TEXT", help="A cell that counts as empty, such as NULL; repeatable."
)
@click.option(
    "--encoding",
    default="auto",
    metavar="NAME",
    help="Of CSV and NDJSON, such as gb18030, big5, shift_jis, euc-kr, cp1252, latin-1, utf-16le. Default: by the byte order"
    " mark, else UTF-8.",
)
@click.option(
    "--delimiter",
    metavar="CHARACTER",
    help="Of CSV; \\t for a tab. Default: what a first line such as sep=; says, else a comma.",
)
@click.option(
    "--list-separator", metavar="TEXT", help="Of CSV: what stands between a LIST's elements. Default: JSON arrays."
)
@click.option(
    "--date-format",
    "date_formats",
    metavar="FORMAT",
    multiple=True,
    help="How texts of DATETIMEs are written, such as '%d.%m.%Y %H:%M'; repeatable: the first one that fits."
    " Default: yyyy-MM-dd HH:mm:ss.",
)
@click.option(
    "--decimal-comma",
    is_flag=True,
    help="Texts of NUMBERs have a decimal comma, and may have a point or a blank between thousands: 1.234,5.",
)
@click.option(
    "--true", "true_texts", metavar="TEXT", multiple=True, help="A text that is true as a BOOL, such as yes; repeatable."
)
@click.option(
    "--false", "false_texts", metavar="TEXT", multiple=True, help="A text that is false as a BOOL, such as no; repeatable."
)
@click.option(
    "--default",
    "defaults",
    type=Pair(),
    multiple=True,
    metavar="NAME=VALUE",
    help="The value of an attribute in rows that have none; repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Check every row, show the first ones and what is wrong; keep nothing.")
@click.option(
    "--resume",
    is_flag=True,
    help="Resume after the last row that an interrupted import of this file stored; start if there was none.",
)
@click.option("--restart", is_flag=True, help="Start over, although an import of this file was interrupted.")
@click.option(
    "--job", metavar="NAME", help="The name to resume by. Default: the file's path, or of stdin and pipes, their content."
)
@click.option("--rejects", metavar="FILE", help="Where refused rows go. Default: FILE.rejects.csv or .ndjson.")
@click.option(
    "--batch",
    type=click.IntRange(1, 100_000),
    metavar="N",
    help="Rows per commit. Default: 5000; with --url, 1000, which is also the most.",
)
@click.option(
    "--secret",
    metavar="SECRET",
    callback=_read_secret,
    help=f"With --url: the project's secret. Better: {SECRET}.",
)
@click.option("--state", metavar="FILE", help="With --url: where the position is kept. Default: FILE.import.json.")
@click.option(
    "--receipt-hours",
    type=click.IntRange(24, 24 * 365),
    default=24,
    show_default=True,
    metavar="N",
    help="With --url: the server's setting of that name.",
)
@backend_options
@exit_on_sigterm()
def import_table(**given: Any) -> None:
    """Import users from a CSV, NDJSON or Parquet file, or from stdin.

    CSV and NDJSON may be compressed with gzip or zstd, which the file's name says: users.csv.gz, users.ndjson.zst.

    Every row names its user by cuid, or by the value of an identifier. Its other columns are attributes, which merge by
    their rules, row by row. A row with anything wrong is refused whole and goes to the rejects file, with its number and
    the reason; fix it there and import that file. The exit code is 1 if a row was refused.

    If it is interrupted, --resume continues exactly after the last row that was stored: nothing is applied twice. It
    works beside a running server.

    With --url the rows go to a server, in batches, with the project's secret. How far it came is kept in a file, --state,
    without which it cannot be resumed.

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
