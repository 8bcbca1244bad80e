"""An import's files exist before its first row is stored, and it can be resumed with the same command line."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from support.cli_runner import CliRunner
from support.server_process import PROJECT, SECRET, ServerProcess, create_project
from usertable.files.import_job import options_digest
from usertable.files.options import ReadOptions
from usertable.store import open_store


class Work:
    """A project with a user, in its own store, and how an import reaches it."""

    def __init__(self, folder: Path, options: tuple[str, ...], cli: CliRunner, cuid: int, store: str) -> None:
        self.folder, self.options, self.shell, self.cuid, self.store = folder, options, cli, cuid, store

    def command(self, file: str, *options: str) -> list[str]:
        return ["import", file, "--project", PROJECT, *self.options, *options]

    def load(self, file: str, *options: str, code: int = 0, stdin: bytes | None = None) -> dict[str, Any]:
        result = self.shell.run(*self.command(file, *options), "--json", code=code, stdin=stdin)
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    def refused(self, file: str, *options: str, stdin: bytes | None = None) -> str:
        return self.shell.refused(*self.command(file, *options), stdin=stdin)

    def environment(self) -> dict[str, str]:
        """Return the environment for another process."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("USERTABLE_")}
        if self.options:
            return kept | {"USERTABLE_SECRET": SECRET}
        return kept | {"USERTABLE_STORE": self.store}

    def in_bash(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script in which $IMPORT is the command without its arguments."""
        words = [sys.executable, "-m", "usertable", "import", "--project", PROJECT, *self.options]
        return subprocess.run(
            ["bash", "-c", script],
            env=self.environment() | {"IMPORT": " ".join(words)},
            capture_output=True,
            text=True,
            timeout=120,
        )

    def rows(self) -> int:
        """Return how many rows the only import has imported, as it will find when it is resumed."""
        if self.options:
            (position,) = [*self.folder.glob("*import.json"), None][:1]
            text = position.read_bytes() if position else b""
            return json.loads(text)["state"]["rows"] if text else 0
        with closing(sqlite3.connect(self.folder / "store.db")) as database:
            states = database.execute("SELECT state FROM import_job").fetchall()
        return max((json.loads(state)["rows"] for (state,) in states), default=0)

    def total(self) -> Decimal:
        """Return the sum for the user."""
        with closing(open_store(self.store)) as store, store.snapshot(PROJECT) as snapshot:
            rows = [
                json.loads(row[1], parse_float=Decimal) for page in snapshot.pages() for row in page if row[0] == self.cuid
            ]
        return Decimal(rows[0].get("user_number_accumulate", 0))


@pytest.fixture(params=["into the store", "through the API"])
def work(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    monkeypatch.chdir(tmp_path)
    store = f"sqlite:///{tmp_path / 'store.db'}"
    (cuid,) = create_project(store, users=1)
    if request.param == "into the store":
        yield Work(tmp_path, (), CliRunner(store, {}), cuid, store)
        return
    server = ServerProcess(store, tmp_path)
    cli = CliRunner("sqlite:////nowhere/there-is-no-such-store.db", {"USERTABLE_SECRET": SECRET})
    yield Work(tmp_path, ("--url", server.url), cli, cuid, store)
    server.stop()
    assert "Traceback" not in server.log


def content(cuid: int, rows: int, *more: str) -> str:
    return "\n".join(["cuid,user_number_accumulate", *[f"{cuid},1"] * rows, *more]) + "\n"


def test_process_substitution_with_a_late_refused_row_counts_once(work: Work) -> None:
    script = f"$IMPORT <(printf 'cuid,user_number_accumulate\\n'; yes {work.cuid},1 | head -n 3000; echo x,1)"
    first = work.in_bash(f"{script} --format csv --batch 500")
    assert "1 row was rejected: it is in import.rejects.csv" in first.stderr
    assert first.returncode == 1
    assert work.total() == 3000
    again = work.in_bash(f"{script} --format csv --batch 500 --resume")
    assert "already complete: 3001 rows" in again.stdout, again.stderr
    assert again.returncode == 0
    assert "import.rejects.csv already exists" in work.in_bash(f"{script} --format csv").stderr
    assert work.total() == 3000


def test_a_pipe_that_broke_off_is_known_again_by_its_content(work: Work) -> None:
    lines = content(work.cuid, 12_000, "x,1").encode().splitlines(keepends=True)
    words = [sys.executable, "-m", "usertable", *work.command("-", "--format", "csv", "--batch", "1000")]
    with subprocess.Popen(words, env=work.environment(), stdin=subprocess.PIPE) as process:
        assert process.stdin
        # More than is read to recognize it.
        process.stdin.write(b"".join(lines[:10_000]))
        process.stdin.flush()
        while not work.rows():
            time.sleep(0.02)
        process.kill()
    before = work.rows()
    again = ("-", "--format", "csv", "--batch", "1000")
    assert f"it was interrupted after row {before}" in work.refused(*again, stdin=b"".join(lines))
    found = work.load(*again, "--resume", code=1, stdin=b"".join(lines))
    assert (found["resumed_after"], found["rows"], found["refused"]) == (before, 12_001, 1)
    assert work.total() == 12_000


def test_another_content_of_stdin_is_another_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = f"sqlite:///{tmp_path / 'store.db'}"
    (cuid,) = create_project(store, users=1)
    work = Work(tmp_path, (), CliRunner(store, {}), cuid, store)
    Path("one.csv").write_text(content(cuid, 10, "x,1"))
    assert work.in_bash("$IMPORT - --format csv < one.csv").returncode == 1
    Path("import.rejects.csv").unlink()
    Path("two.csv").write_text(content(cuid, 20))
    assert work.load("-", "--format", "csv", stdin=Path("two.csv").read_bytes())["rows"] == 20
    assert work.in_bash("$IMPORT - --format csv --resume < one.csv").stdout.startswith("already complete: 11 rows")
    assert work.in_bash("$IMPORT /dev/stdin --format csv --resume < one.csv").stdout.startswith("already complete: 11 rows")
    assert work.total() == 30


@pytest.mark.parametrize(
    ("place", "why"),
    [
        (lambda folder: folder / "missing" / "rejects.csv", "No such file or directory"),
        (lambda folder: folder, "is not a regular file"),
        (lambda folder: Path("/dev/null"), "is not a regular file"),
        (lambda folder: Path("/proc/rejects.csv"), "No such file or directory"),
    ],
    ids=["no folder", "a folder", "a device", "not writable"],
)
def test_a_rejects_file_that_cannot_be_written_is_found_before_the_first_row(
    work: Work, tmp_path: Path, place: Callable[[Path], Path], why: str
) -> None:
    Path("crm.csv").write_text(content(work.cuid, 3, "x,1"))
    reason = work.refused("crm.csv", "--rejects", str(place(tmp_path)))
    assert why in reason
    assert "name another with --rejects" in reason
    assert work.total() == 0
    # A dry run stores nothing, so it needs none.
    assert work.load("crm.csv", "--rejects", str(place(tmp_path)), "--dry-run", code=1)["refused"] == 1


def test_beside_an_input_in_a_read_only_folder_the_rejects_file_is_named(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'store.db'}"
    (cuid,) = create_project(store, users=1)
    folder = tmp_path / "mounted"
    folder.mkdir()
    (folder / "crm.csv").write_text(content(cuid, 3, "x,1"))
    folder.chmod(0o555)
    # Root may write there anyway, unless it drops that capability.
    as_others = ["setpriv", "--bounding-set", "-all"] if os.getuid() == 0 else []
    command = [*as_others, sys.executable, "-m", "usertable", "import", str(folder / "crm.csv"), "--project", PROJECT]

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, "--store", store, *options], capture_output=True, text=True, timeout=60)

    reason = "cannot be written: Permission denied; name another with --rejects"
    assert f"the rejects file {folder}/crm.rejects.csv {reason}" in run().stderr
    named = run("--rejects", str(tmp_path / "rejects.csv"), "--json")
    assert json.loads(named.stdout)["changed"] == 3, named.stderr


def test_the_name_of_a_new_rejects_file_is_durable_before_its_first_row(work: Work, synced: list[Path]) -> None:
    Path("crm.csv").write_text(content(work.cuid, 1, "x,1"))
    # In a folder that contains nothing else: with --url, the position file is synced too.
    Path("kept").mkdir()
    work.load("crm.csv", "--rejects", "kept/refused.csv", code=1)
    file = Path("kept/refused.csv").resolve()
    assert file in synced
    assert file.parent in synced[: synced.index(file)]


def test_a_rejects_file_without_rows_goes_away(work: Work) -> None:
    Path("crm.csv").write_text(content(work.cuid, 3))
    Path("crm.rejects.csv").touch()
    assert work.load("crm.csv")["rejects"] is None
    assert not Path("crm.rejects.csv").exists()
    Path("broken.csv").write_text("no such column\n1\n")
    work.refused("broken.csv")
    assert not Path("broken.rejects.csv").exists()


def test_resume_begins_if_nothing_was_begun_and_says_if_it_was_done(work: Work) -> None:
    Path("crm.csv").write_text(content(work.cuid, 3, "x,1"))
    assert work.load("crm.csv", "--resume", code=1)["changed"] == 3
    done = work.shell.run(*work.command("crm.csv", "--resume"))
    assert done.stdout == "already complete: 4 rows: 0 users created, 3 changed, 0 unchanged, 1 rejected\n"
    # Even if somebody already works on the refused rows.
    Path("crm.rejects.csv").unlink()
    assert work.load("crm.csv", "--resume")["resumed_after"] == 4
    assert work.total() == 3


def test_resume_of_a_finished_import_tells_another_file(work: Work) -> None:
    Path("crm.csv").write_text(content(work.cuid, 3))
    work.load("crm.csv")
    Path("crm.csv").write_text(content(work.cuid, 5))
    assert "it was finished with row 3, and the file has more rows now" in work.refused("crm.csv", "--resume")
    Path("crm.csv").write_text(content(work.cuid, 2))
    assert "its first 3 rows are not those imported before" in work.refused("crm.csv", "--resume")
    assert work.total() == 3


def test_resume_with_another_rejects_file_than_was_left_is_refused(work: Work) -> None:
    Path("crm.csv").write_text(content(work.cuid, 3, "x,1") + content(work.cuid, 3000).partition("\n")[2])
    interrupted(work, "crm.csv")
    rejects = Path("crm.rejects.csv")
    whole = rejects.read_bytes()
    for change in (rejects.unlink, lambda: rejects.write_bytes(whole[:-5]), lambda: rejects.write_bytes(b"")):
        change()
        reason = work.refused("crm.csv", "--resume", "--batch", "1000")
        assert f"but {len(whole)} were written to it; restore it" in reason
        # None is created where there was none, and one that is too short is not completed.
        assert not rejects.exists() or rejects.read_bytes() == whole[:-5]
        rejects.write_bytes(whole)
    assert work.load("crm.csv", "--resume", "--batch", "1000", code=1)["rows"] == 3004
    assert rejects.read_bytes() == whole
    assert work.total() == 3003


def interrupted(work: Work, file: str) -> None:
    """Import a file through a pipe that is not filled further, and kill it after the first rows."""
    text = Path(file).read_bytes()
    Path(file).unlink()
    os.mkfifo(file)
    name = ["--state", f"{file}.import.json"] if work.options else ["--job", str(Path(file).resolve())]
    process = subprocess.Popen(
        [sys.executable, "-m", "usertable", *work.command(file, "--batch", "1000", "--rejects", "crm.rejects.csv", *name)],
        env=work.environment(),
    )
    with Path(file).open("wb", buffering=0) as pipe:
        lines = text.splitlines(keepends=True)
        pipe.write(b"".join(lines[:1500]))
        while process.poll() is None and not work.rows():
            time.sleep(0.02)
        process.kill()
        process.wait()
    Path(file).unlink()
    Path(file).write_bytes(text)


def test_two_imports_do_not_write_one_rejects_file(work: Work) -> None:
    from usertable.files.disk import hold

    Path("crm.csv").write_text(content(work.cuid, 3))
    held = hold(Path("crm.rejects.csv"))
    assert held
    with held:
        held.write(b"cuid\n")
        assert "is in use by another process; name another with --rejects" in work.refused("crm.csv")
    assert work.total() == 0


def test_a_line_of_progress_is_written_where_no_terminal_is(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usertable.cli.progress.PROGRESS_SECONDS", 0.05)
    os.mkfifo("slow.csv")

    def fill() -> None:
        with Path("slow.csv").open("w") as pipe:
            pipe.write(content(work.cuid, 20_000))
            pipe.flush()
            time.sleep(1)
            pipe.write(f"{work.cuid},1\n")

    for options in (["--json"], []):
        thread = threading.Thread(target=fill)
        thread.start()
        result = work.shell.run(*work.command("slow.csv", "--format", "csv", "--batch", "1000", *options))
        thread.join()
        lines = [line for line in result.stderr.splitlines() if "progress" in line or line.startswith("import:")]
        assert lines, result.stderr
        if options:
            progress = json.loads(lines[-1])["progress"]
            assert progress.keys() == {"rows", "refused", "rows_per_second", "position", "size"}
            assert progress["rows"] >= 1000
            assert json.loads(result.stdout)["rows"] == 20_001
        else:
            assert " rows, 0 rejected, " in lines[-1]


def test_an_export_tells_its_progress_where_no_terminal_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("usertable.cli.progress.PROGRESS_SECONDS", 0.01)
    store = f"sqlite:///{tmp_path / 'store.db'}"
    create_project(store, users=1)
    cli = CliRunner(store, {})
    Path("many.csv").write_text("cuid,user_number_overwrite\n" + "".join(f"{n},{n}\n" for n in range(1, 50_001)))
    cli.run("import", "many.csv", "--project", PROJECT, "--register")
    result = cli.run("export", "--project", PROJECT, "-o", "users.ndjson", "--json")
    assert "users" in json.loads(result.stderr.splitlines()[0])["progress"]
    assert "export: " in cli.run("export", "--project", PROJECT, "-o", "users.ndjson").stderr


@pytest.mark.parametrize(
    ("nulls", "digest"),
    [({"NULL"}, "ec209b71405f5f443b87defbc8a8b1ec"), ({"NULL", "-"}, None)],
    ids=["as it was stored by earlier versions", "of several texts, in any order"],
)
def test_options_have_one_digest_in_every_process(nulls: set[str], digest: str | None) -> None:
    options = ReadOptions("csv", nulls=frozenset(nulls), columns={"b": "phone", "a": ""})
    found = options_digest(options, register=True)
    assert digest in (None, found)
    code = (
        "from usertable.files.import_job import options_digest; from usertable.files.options import ReadOptions;"
        f"print(options_digest({options!r}, register=True))"
    )
    for seed in ("1", "2", "3", "4"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True).strip() == found
