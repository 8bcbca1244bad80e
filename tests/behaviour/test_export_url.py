"""`usertable export --url`, and the route of the native API behind it."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import queue
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import IO

import httpx
import pytest

from support.cli_runner import CliRunner
from support.native_server import TOKEN, NativeServer, native_server
from support.raw_http import connect
from usertable.files.export_options import ExportOptions
from usertable.files.options import Format
from usertable.http.answers import Disconnected
from usertable.http.exported_file import export_to_file
from usertable.store import open_store
from usertable.store.protocol import Snapshot
from usertable.testing import Server
from usertable.wire.native.queries import ExportQuery

SECRET = "a-secret-of-the-tests"
USERS = 3000
NOWHERE = "sqlite:////nowhere/there-is-no-such-store.db"
ROUTE = "/api/v1/projects/p/users:export"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeServer]:
    """A server with the project `p` in Berlin: a masked identifier, a hidden attribute, and numbers of every size."""
    folder = tmp_path_factory.mktemp("server")
    with native_server(folder) as started:
        owner = CliRunner(f"sqlite:///{started.database}", {"USERTABLE_PROJECT": "p"})
        owner.run("project", "create", "shop", "--id", "p", "--secret", SECRET, "--timezone", "Europe/Berlin")
        owner.run("identifier", "create", "phone", "--masked")
        for name, kind, *more in (
            ("level", "NUMBER"),
            ("huge", "NUMBER"),
            ("city", "STRING"),
            ("seen", "DATETIME"),
            ("note", "STRING", "--hidden"),
        ):
            owner.run("attribute", "create", name, "--type", kind, "--rule", "overwrite", *more)
        rows = "".join(
            f"{cuid},1801234{cuid:04},{cuid % 7},{cuid}{'0' * 21},=city {cuid} 杭州,2024-10-27 02:30:00+02:00,n{cuid}\n"
            for cuid in range(1, USERS + 1)
        )
        (folder / "in.csv").write_text("cuid,phone,level,huge,city,seen,note\n" + rows)
        owner.run("import", str(folder / "in.csv"), "--register")
        yield started


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def remote(**environment: str) -> CliRunner:
    """Return a shell that has no store."""
    return CliRunner(NOWHERE, {f"USERTABLE_{name.upper()}": value for name, value in environment.items()})


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--bom", "--escape-formulas", "--hidden"),
        ("--attributes", "city,@version,level", "--identifiers", "none"),
        ("--where", "level:in:1,2", "--where", "@cuid:le:100", "--utc"),
        ("--format", "ndjson", "--offsets", "--identifiers", "masked"),
        ("--format", "ndjson", "--identifiers", "phone"),
        ("--format", "parquet"),
        ("--format", "parquet", "--numbers", "float", "--attributes", "huge"),
    ],
    ids=" ".join,
)
def test_an_export_through_a_server_is_the_file_that_the_store_gives(server: NativeServer, options: tuple[str, ...]) -> None:
    here = CliRunner(f"sqlite:///{server.database}", {}).run("export", "--project", "p", *options)
    there = remote(secret=SECRET).run("export", "--project", "p", *options, "--url", server.url)
    assert there.stdout_bytes == here.stdout_bytes
    assert there.stderr == here.stderr
    assert len(here.stdout_bytes) > 1000


def test_the_admin_exports_the_only_project_into_a_compressed_file(server: NativeServer) -> None:
    admin = remote(admin_token=TOKEN)
    said = admin.out("export", "--url", server.url, "-o", "users.csv.gz")
    assert said == f"{USERS} users written to users.csv.gz\n"
    assert gzip.decompress(Path("users.csv.gz").read_bytes()) == admin.run("export", "--url", server.url).stdout_bytes
    told = admin.run("export", "--url", server.url, "-o", "users.parquet", "--json")
    assert told.stdout == f'{{"users":{USERS},"file":"users.parquet","as_text":["huge"]}}\n'
    assert "stored as text" in told.stderr


def test_what_is_wrong_is_said_as_on_the_store(server: NativeServer) -> None:
    here = CliRunner(f"sqlite:///{server.database}", {"USERTABLE_PROJECT": "p"})
    there = remote(secret=SECRET, project="p")
    url = ("--url", server.url)
    for options in (("--where", "nope:set"), ("--attributes", "nope"), ("--identifiers", "nope"), ("--where", "level:ge:x")):
        assert there.refused("export", *options, *url) == here.refused("export", *options)
    assert there.misused("export", "--utc", "--format", "parquet", *url) == here.misused(
        "export", "--utc", "--format", "parquet"
    )
    assert "rejected project p with the secret" in remote(secret="wrong", project="p").refused("export", *url)
    assert "--url needs credentials" in remote(project="p").misused("export", *url)
    assert "cannot be reached" in there.refused("export", "--url", "http://127.0.0.1:9")


@contextlib.contextmanager
def altering(server: NativeServer, alter: Callable[[httpx.Response], tuple[dict[str, str], bytes]]) -> Iterator[str]:
    """Run a proxy in front of the server that answers with other headers and another body."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {"authorization": self.headers["authorization"]}
            headers, body = alter(httpx.get(server.url + self.path, headers=headers))
            self.send_response(200)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    proxy = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=proxy.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{proxy.server_port}"
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()


def _half(answer: httpx.Response) -> tuple[dict[str, str], bytes]:
    """As after a broken connection."""
    return dict(answer.headers), answer.content[: len(answer.content) // 2]


def _half_of_that_length(answer: httpx.Response) -> tuple[dict[str, str], bytes]:
    """As from a proxy that drops the length."""
    headers, body = _half(answer)
    return headers | {"content-length": str(len(body))}, body


def _without_digest(answer: httpx.Response) -> tuple[dict[str, str], bytes]:
    return {name: value for name, value in answer.headers.items() if name != "repr-digest"}, answer.content


@pytest.mark.parametrize(
    ("alter", "why"),
    [
        (_half, "ended after"),
        (_half_of_that_length, "arrived incomplete or damaged"),
        (_without_digest, "arrived incomplete or damaged"),
    ],
)
def test_a_file_that_does_not_arrive_complete_is_an_error_and_replaces_nothing(
    server: NativeServer, alter: Callable[[httpx.Response], tuple[dict[str, str], bytes]], why: str
) -> None:
    Path("users.csv").write_text("of yesterday")
    with altering(server, alter) as url:
        shell = remote(secret=SECRET, project="p")
        assert why in shell.refused("export", "--url", url, "-o", "users.csv")
        assert why in shell.run("export", "--url", url, code=1).stderr
    assert Path("users.csv").read_text() == "of yesterday"
    assert [file.name for file in Path().iterdir()] == ["users.csv"]


def test_the_route_gives_a_file_with_its_length_its_digest_and_its_users(server: NativeServer) -> None:
    caller = server.caller("p", SECRET)
    answer = caller.get(ROUTE, params={"format": "ndjson", "where": "level:eq:3"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["content-disposition"] == 'attachment; filename="users.ndjson"'
    assert answer.headers["content-length"] == str(len(answer.content))
    assert answer.headers["usertable-users"] == str(answer.content.count(b"\n"))
    digest = base64.b64encode(hashlib.sha256(answer.content).digest()).decode()
    assert answer.headers["repr-digest"] == f"sha-256=:{digest}:"
    assert "usertable-text-columns" not in answer.headers
    assert caller.get(ROUTE, params={"format": "parquet"}).headers["usertable-text-columns"] == "huge"
    head = caller.head(ROUTE)
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) > 1000


@pytest.mark.parametrize(
    ("query", "status", "detail"),
    [
        ({"format": "xlsx"}, 400, "parameter [format] is invalid; expected one of csv, ndjson, parquet, got [xlsx]"),
        (
            {"format": "parquet", "bom": "1"},
            422,
            "[bom] is invalid; expected nothing, because it is only for the format csv",
        ),
        ({"datetimes": "utc", "format": "parquet"}, 422, "expected nothing, because it is only for the format csv, ndjson"),
        ({"numbers": "float"}, 422, "expected nothing, because it is only for the format parquet"),
        (
            {"attributes": "level,level"},
            422,
            "parameter [attributes] is invalid; expected each name once, got [level,level]",
        ),
        ({"where": "nope:set"}, 422, "nope"),
        ({"identifiers": "nope"}, 422, "identifier [nope] does not exist"),
        ({"colour": "red"}, 400, "parameter [colour] is invalid"),
    ],
)
def test_a_query_that_cannot_be_answered_is_refused(
    server: NativeServer, query: dict[str, str], status: int, detail: str
) -> None:
    answer = server.caller("p", SECRET).get(ROUTE, params=query)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert detail in answer.json()["detail"]


def test_an_export_ends_when_its_client_disconnects(usertable_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, over, ended = threading.Event(), threading.Event(), queue.SimpleQueue[BaseException]()

    def endless(snapshot: Snapshot, stream: IO[bytes], options: ExportOptions, progress: Callable[[int], None]) -> None:
        begun.set()
        try:
            while not over.is_set():
                progress(0)
        except BaseException as failure:
            ended.put(failure)
            raise

    monkeypatch.setattr("usertable.files.export.export", endless)
    credentials = base64.b64encode(f"{usertable_server.project}:{usertable_server.secret}".encode()).decode()
    try:
        with connect(usertable_server.url) as client:
            client.sendall(
                f"GET /api/v1/projects/{usertable_server.project}/users:export HTTP/1.1\r\nHost: x\r\n"
                f"Authorization: Basic {credentials}\r\n\r\n".encode()
            )
            assert begun.wait(60)
        assert type(ended.get(timeout=60)) is Disconnected
    finally:
        over.set()


def test_an_export_that_nobody_waits_for_ends_and_leaves_no_file_open(server: NativeServer) -> None:
    """As when its client disconnects, or the server is stopped, while the file is written."""

    def check() -> None:
        raise Disconnected

    store = open_store(f"sqlite:///{server.database}", migrate=False)
    formats: tuple[Format, ...] = ("csv", "ndjson", "parquet")
    with contextlib.closing(store), store.snapshot("p") as snapshot:
        before = len(list(Path("/proc/self/fd").iterdir()))
        for form in formats:
            with pytest.raises(Disconnected):
                export_to_file(snapshot, ExportQuery(form), check)
        assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_project_exports_only_its_own_users(server: NativeServer) -> None:
    path, other = server.new_project()
    assert other.get(ROUTE).status_code == 404
    assert server.anyone.get(ROUTE).status_code == 401
    assert other.get(f"{path}/users:export").headers["usertable-users"] == "0"


def test_who_reads_an_export_slowly_keeps_no_other_project_waiting(server: NativeServer) -> None:
    path, owner = server.new_project()
    owner.post(f"{path}/attributes", json={"name": "note", "type": "STRING", "rule": "overwrite"}).raise_for_status()
    for first in range(0, 4000, 400):
        records = [{"cuid": 1 + first + n, "data": {"note": "x" * 5000}} for n in range(400)]
        batch = owner.post(f"{path}/users:batch", json={"on_unknown": "import", "records": records})
        assert {result["code"] for result in batch.json()["results"]} == {0}
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            # As much as the connection holds is sent, and no more, as long as it is not read.
            answer = stack.enter_context(owner.stream("GET", f"{path}/users:export", params={"format": "ndjson"}))
            assert answer.status_code == 200
        other = server.caller("p", SECRET).get(ROUTE, params={"format": "csv"}, timeout=60)
        assert other.status_code == 200
        with pytest.raises(httpx.ReadTimeout):
            owner.get(f"{path}/users:export", params={"format": "csv"}, timeout=1)
