"""The client's environment: variables, event loops, clocks, slow servers, unusual values."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from support.clients import any_client
from usertable import AsyncClient, Client, Record
from usertable import client as module
from usertable.client import (
    BatchFailed,
    ClientError,
    InvalidParameter,
    NotDelivered,
    ProblemShown,
    RecordResult,
    RecordsRefused,
    Retry,
    Stale,
    Unreachable,
)
from usertable.client.age import CLOCK_UNSET_MS, NO_BOOT, Moment
from usertable.client.connections import settings_for
from usertable.client.spool import Spool
from usertable.testing import Server

PROXY = "http://proxy.example.net:3128"
QUICK = Retry(attempts=2, first=0.001, most=0.002)
CUID = 7
KINDS = pytest.mark.parametrize("kind", ["sync", "async"])
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def server(usertable_server: Server) -> Server:
    usertable_server.declare("count", "NUMBER", "accumulate")
    usertable_server.declare("text", "STRING")
    usertable_server.declare("seen", "DATETIME")
    usertable_server.add_user(CUID)
    return usertable_server


# the environment


@KINDS
@pytest.mark.parametrize(
    "no_proxy",
    [
        "localhost,[::1],127.0.0.1",
        "fd00::/8, 127.0.0.0/8",
        "[fd00::]/8 127.0.0.1/32",
        "example.com,*",
        "http://127.0.0.1",
    ],
)
def test_no_proxy_is_read_as_it_is_meant(server: Server, kind: str, no_proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy does not exist: a request through it fails."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with (
        any_client(kind, server.url, server.project, server.secret, retry=QUICK) as client,
        pytest.raises(Unreachable),
    ):
        client.set(CUID, {"count": 1})
    monkeypatch.setenv("NO_PROXY", no_proxy)
    with any_client(kind, server.url, server.project, server.secret, retry=QUICK) as client:
        client.set(CUID, {"count": 1})
        with client.buffer() as buffer:
            buffer.set(CUID, {"count": 1})
    assert server.attributes(CUID) == {"count": 2}


@pytest.mark.parametrize(
    ("entry", "direct", "proxied"),
    [
        ("[::1]", ["http://[::1]:8000", "http://[0:0::1]"], ["http://[::2]", "http://127.0.0.1"]),
        ("::1", ["http://[::1]"], ["http://1"]),
        ("[::1]:8000", ["http://[::1]:8000"], ["http://[::1]", "http://[::1]:80"]),
        ("fd00::/8", ["http://[fd12:3456::1]:8000"], ["http://[fe80::1]"]),
        ("10.0.0.0/8", ["http://10.200.3.4"], ["http://11.0.0.1", "http://10.example.com"]),
        ("10.1.2.3:8000", ["http://10.1.2.3:8000"], ["http://10.1.2.3:8001"]),
        ("example.com", ["http://example.com", "http://a.b.Example.com:8"], ["http://wwwexample.com", "http://com"]),
        (".example.com", ["http://example.com", "http://a.example.com"], ["http://example.org"]),
        ("*.example.com", ["http://a.example.com"], ["http://example.org"]),
        ("example.com:80", ["http://example.com"], ["http://example.com:8000", "https://example.com"]),
        ("https://example.com", ["https://example.com"], ["http://example.com"]),
        (", ,", [], ["http://example.com"]),
        ("[", [], ["http://example.com"]),
        ("foo:bar:baz", [], ["http://example.com"]),
    ],
)
def test_what_an_entry_of_no_proxy_means(
    entry: str, direct: list[str], proxied: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", PROXY)
    monkeypatch.setenv("no_proxy", entry)
    assert [settings_for(url, 1, {})["proxy"] for url in direct] == [None] * len(direct)
    assert [str(settings_for(url, 1, {})["proxy"].url) for url in proxied] == [PROXY] * len(proxied)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("variable", "value", "url"),
    [
        ("HTTP_PROXY", "foo:bar:baz", "http://127.0.0.1:8000"),
        ("http_proxy", "http://user:word@:99999", "http://127.0.0.1:8000"),
        ("HTTPS_PROXY", "gopher://proxy:70", "https://127.0.0.1:8000"),
        ("ALL_PROXY", "http://", "https://127.0.0.1:8000"),
        ("ALL_PROXY", "socks5://127.0.0.1:1080", "http://127.0.0.1:8000"),
        ("all_proxy", "socks4://127.0.0.1:1080", "http://127.0.0.1:8000"),
        ("SSL_CERT_FILE", "/nowhere/ca.pem", "https://127.0.0.1:8000"),
        ("SSL_CERT_FILE", "/etc/hostname", "https://127.0.0.1:8000"),
        ("SSL_CERT_DIR", "/nowhere", "https://127.0.0.1:8000"),
    ],
)
def test_a_variable_that_is_of_no_use_is_named(
    kind: Any, variable: str, value: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ClientError, match=f"the environment variable {variable} is ") as told:
        kind(url, "p", "s")
    assert "unset it" in str(told.value)
    assert "word" not in str(told.value)
    # Only needed if the environment is used.
    kind(url, "p", "s", http={"trust_env": False})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HTTPS_PROXY", "foo:bar:baz"),
        ("SSL_CERT_FILE", "/nowhere/ca.pem"),
        ("SSL_CERT_DIR", "/nowhere"),
        ("FTP_PROXY", "::"),
    ],
)
def test_a_variable_that_does_not_matter_for_the_url_does_no_harm(
    server: Server, variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with server.client() as client:
        client.set(CUID, {"count": 1})
    assert server.attributes(CUID) == {"count": 1}


def test_an_import_by_url_names_the_variable_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "users.csv").write_text("cuid,level\n1,2\n")
    monkeypatch.setenv("HTTP_PROXY", "foo:bar:baz")
    monkeypatch.setenv("USERTABLE_SECRET", "s")
    command = [sys.executable, "-m", "usertable", "import", "users.csv", "--url", "http://127.0.0.1:9", "--project", "p"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "the environment variable HTTP_PROXY is 'foo:bar:baz'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("base_url", "http://[::1", ValueError),
        ("base_url", "http://h:99999", ValueError),
        ("base_url", None, ValueError),
        ("project", 100102, TypeError),
        ("project", "a:b", ValueError),
        ("secret", "from-a-file\n", ValueError),
        ("secret", "a\ud800", ValueError),
        ("secret", None, TypeError),
    ],
)
def test_arguments_that_can_be_none_are_refused_by_name(name: str, value: Any, error: type[Exception]) -> None:
    arguments = {"base_url": "http://127.0.0.1:9", "project": "p", "secret": "s", name: value}
    with pytest.raises(error, match=name):
        Client(**arguments)


# event loops and copies


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_async_client_in_one_event_loop_after_the_other_and_in_two_at_once(server: Server) -> None:
    client = server.async_client(retry=QUICK)

    async def calls() -> None:
        for _ in range(10):
            assert not (await client.set(CUID, {"count": 1})).replayed
        async with client.buffer() as buffer:
            await buffer.set(CUID, {"count": 1})

    for _ in range(3):
        asyncio.run(calls())
    threads = [threading.Thread(target=lambda: asyncio.run(calls())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    async def ends() -> None:
        await calls()
        await client.close()
        await client.close()
        with pytest.raises(ClientError, match="closed"):
            await client.set(CUID, {"count": 1})

    asyncio.run(ends())
    # Clients that were not closed before their loop are reported here, not in the middle of another test.
    gc.collect()
    assert server.attributes(CUID) == {"count": 7 * 11}


@KINDS
def test_a_client_can_be_copied_and_pickled_and_a_buffer_cannot(server: Server, kind: str) -> None:
    with any_client(kind, server.url, server.project, server.secret, retry=QUICK) as original:
        client = original.client
        for same in (copy.copy(client), copy.deepcopy(client), pickle.loads(pickle.dumps(client))):
            assert type(same) is type(client)
            if isinstance(same, Client):
                assert not same.set(CUID, {"count": 1}).replayed
                same.close()
        with pytest.raises(TypeError, match="a buffer cannot be pickled"):
            pickle.dumps(client.buffer())


# errors


def errors() -> list[ClientError]:
    """Return an exception of every class of the client, with all attributes."""
    record = Record(7, {"total": Decimal("1.5"), "tags": ["a"]}, "a-key")
    problem = ProblemShown("value_type", "total", "wrong")
    cause = InvalidParameter(40002, "wrong", [problem], 400, "request-1")
    special: dict[str, Any] = {
        "Unreachable": lambda kind: kind("away", maybe_done=True),
        "Stale": lambda kind: kind("old", maybe_done=True),
        "BatchFailed": lambda kind: kind("2 are not done", [RecordResult(record, cause, 7), None], cause),
        "RecordsRefused": lambda kind: kind([(record, cause)], 12),
        "NotDelivered": lambda kind: kind("1 is left", [record], 1),
    }
    found: list[ClientError] = []
    for name in module.__all__:
        kind = getattr(module, name)
        if not (isinstance(kind, type) and issubclass(kind, ClientError)):
            continue
        if issubclass(kind, module.ApiError):
            error = kind(4, "text", [problem], 400, "request-2")
        else:
            error = special.get(name, lambda kind: kind("text"))(kind)
        error.add_note("noted")
        found.append(error)
    assert len(found) > 15
    return found


@pytest.mark.parametrize("error", errors(), ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_comes_out_of_a_pickle_as_it_went_in(error: ClientError, protocol: int) -> None:
    def told(error: Any) -> Any:
        if isinstance(error, ClientError):
            return type(error), error.args, str(error), {name: told(value) for name, value in vars(error).items()}
        if isinstance(error, (list, tuple)):
            return [told(one) for one in error]
        return [error.record, told(error.error), error.cuid] if isinstance(error, RecordResult) else error

    # Protocols 0 and 1 do not support objects with slots, such as records and results.
    if protocol < 2 and isinstance(error, (BatchFailed, RecordsRefused, NotDelivered)):
        protocol = 2
    error.__cause__ = Unreachable("away", maybe_done=False)
    for again in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error)):
        assert told(again) == told(error)
        assert told(again.__cause__) == told(error.__cause__)


# clocks


HOUR = 3_600_000


def test_the_age_of_what_was_sent() -> None:
    boot, other = b"1" * 16, b"2" * 16
    now = Moment(CLOCK_UNSET_MS + 1000 * HOUR, 500 * HOUR, boot)

    def age(wall: int, running: int, of: bytes = boot) -> int | None:
        found = Moment(wall, running * HOUR, of).age_ms(now)
        return found if found is None else found // HOUR

    sent = now.wall_ms - 2 * HOUR
    assert age(sent, 498) == 2
    # The clock had not been set, and has been set since.
    assert age(600_000, 499) == 1
    # If the clock was set, a record counts as older rather than younger.
    assert age(now.wall_ms + 9 * HOUR, 470) == 30
    assert age(now.wall_ms - 30 * HOUR, 499) == 30
    # After another boot only the wall clock is usable, and not always.
    assert age(sent, 7, other) == 2
    assert age(now.wall_ms + HOUR // 2, 7, other) is not None
    assert age(now.wall_ms + 2 * HOUR, 7, other) is None
    assert age(600_000, 499, other) is None
    assert age(600_000, 499, NO_BOOT) is None
    assert Moment(600_000, 0, NO_BOOT).age_ms(Moment(now.wall_ms, 0, NO_BOOT)) is None


def test_what_was_sent_before_the_clock_was_set_is_delivered(server: Server, tmp_path: Path) -> None:
    """A process sent two records and was killed, at ten past midnight of 1970; then the machine's clock was set."""
    spool = Spool(tmp_path, 2**20)
    for n in range(2):
        spool.append(spool.frame([(CUID, {"count": 1}, f"k{n}")]), 1)
    spool.mark_sent(spool.take(2)[-1].end, 600_000)
    spool.close()
    with server.client() as client, client.buffer(spool=tmp_path):
        pass
    assert server.attributes(CUID) == {"count": 2}


def test_marks_of_an_earlier_version_are_read(server: Server, tmp_path: Path) -> None:
    """Earlier versions stored only the wall clock, so a record sent before it was set may have any age."""
    import struct
    import zlib

    frames = b"usertable spool 1\n"
    for content in (
        b"M" + struct.pack("<QQQQQ", 0, 0, 0, 0, 0),
        b'W[{"u":7,"v":{"count":1},"k":"k1"}]',
        b"M" + struct.pack("<QQQQQ", 0, 0, 1, 110, 600_000),
    ):
        frames += struct.pack("<II", len(content), zlib.crc32(content)) + content
    (tmp_path / "00000001.spool").write_bytes(frames)
    told: list[Any] = []
    with server.client() as client, client.buffer(spool=tmp_path, on_error=lambda r, e: told.append((r.key, type(e)))):
        pass
    assert told == [("k1", Stale)]


@pytest.mark.parametrize("spooled", [False, True])
def test_a_clock_that_jumps_while_a_batch_is_tried_gives_nothing_up(server: Server, tmp_path: Path, spooled: bool) -> None:
    from usertable.client.connections import Connections

    with Client("http://127.0.0.1:9", server.project, server.secret, retry=QUICK) as client:
        connections = Connections(settings_for("http://127.0.0.1:9", 1, {}))
        real = Connections(settings_for(server.url, 10, {}))
        clock = [600_000]
        tried = threading.Event()

        def drive(steps: Any, *, sleep: Any) -> Any:
            from usertable.client.clients import _drive

            if clock[0] > 600_000:
                return _drive(real, steps, sleep)
            # The first are the caller's steps, without a request; then come those of the buffer's thread.
            if threading.current_thread() is not threading.main_thread():
                tried.set()
            return _drive(connections, steps, sleep)

        buffer = module.Buffer(
            client._core,
            drive,
            lambda: None,
            receipt_hours=24,
            capacity=10,
            full="block",
            on_unknown=None,
            on_error=None,
            spool=tmp_path if spooled else None,
            spool_bytes=2**20,
            close_seconds=30,
            now_ms=lambda: clock[0],
        )
        buffer.set(CUID, {"count": 1})
        assert tried.wait(30)
        clock[0] = time.time_ns() // 1_000_000
        buffer.close()
        connections.close()
        real.close()
    assert server.attributes(CUID) == {"count": 1}


# a server that takes too long

PATIENCE = 0.5
"""Seconds that the client waits for an answer."""


class Slow(ThreadingHTTPServer):
    """A server that accepts batches and takes time for each new record: for all of them, longer than a client waits."""

    daemon_threads = True

    def __init__(self, seconds: float, status: int) -> None:
        super().__init__(("127.0.0.1", 0), _SlowHandler)
        self.seconds = seconds
        self.status = status
        self.seen: dict[str, int] = {}
        self.sizes: list[int] = []
        self.lock = threading.Lock()


class _SlowHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Slow

    def do_POST(self) -> None:
        records = json.loads(self.rfile.read(int(self.headers["content-length"])))["records"]
        with self.server.lock:
            self.server.sizes.append(len(records))
            new = [r["key"] for r in records if r["key"] not in self.server.seen]
        done = {"code": 0, "msg": "ok", "cuid": 7, "version": 1, "outcomes": {}, "problems": []}
        results = [{**done, "replayed": r["key"] not in new} for r in records]
        late = len(new) * self.server.seconds
        if late > PATIENCE and self.server.status:
            return self._answer(self.server.status, b"<html>gateway timeout</html>")
        time.sleep(late)
        with self.server.lock:
            for key in new:
                self.server.seen[key] = self.server.seen.get(key, 0) + 1
        self._answer(200, json.dumps({"code": 0, "results": results}).encode())

    def _answer(self, status: int, body: bytes) -> None:
        try:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(params=[0, 504])
def slow(request: pytest.FixtureRequest) -> Iterator[Slow]:
    """400 records take four times as long as the client waits. Or a proxy reports that."""
    server = Slow(PATIENCE / 100, request.param)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_batch_that_takes_too_long_is_sent_in_parts_and_never_begins_anew_for_ever(slow: Slow) -> None:
    url = f"http://127.0.0.1:{slow.server_port}"
    records = [Record(CUID, {"count": 1}) for _ in range(400)]
    with Client(url, "p", "s", timeout=PATIENCE, retry=Retry(first=0.001, most=0.01)) as client:
        results = client.batch(records)
        assert [r.record for r in results] == records
        assert all(r.error is None for r in results)
        assert slow.sizes[:2] == [400, 100]
        # The next batch begins with the number that was answered in time, and so does a buffer.
        with client.buffer() as buffer:
            buffer.add(Record(CUID, {"count": 1}) for _ in range(400))
            buffer.flush(100)
    assert len(slow.seen) == 800


# values


class NaT(datetime):
    """Like pandas' NaT: a datetime that equals nothing, and has no parts."""

    def __eq__(self, other: object) -> bool:
        return False

    def __ne__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return "NaT"

    def strftime(self, form: str) -> str:
        raise ValueError("NaTType does not support strftime")


class bool_:
    """Like NumPy's: its name is `bool`, but it is not."""

    def item(self) -> bool:
        return True


bool_.__name__ = bool_.__qualname__ = "bool"
bool_.__module__ = "numpy"


@KINDS
@pytest.mark.parametrize(
    ("name", "value", "error", "words"),
    [
        ("seen", NaT(1970, 1, 1), TypeError, "seen is NaT, which is not a date and time"),
        ("count", bool_(), TypeError, r"count is of type numpy.bool; .*item\(\)"),
        ("text", ["a", bool_()], TypeError, "text has an element of type numpy.bool"),
        pytest.param("count", 10**5000, ValueError, "count is a number of 5001 digits", id="huge"),
        ("count", -(10**39), ValueError, "count is a number of 40 digits"),
        ("count", 1e39, ValueError, "count is a number .* exponent 39"),
        ("count", Decimal("1E+1000000"), ValueError, "count is a number of 1 digits with exponent 1000000"),
        ("count", Decimal("0." + "1" * 39), ValueError, "count is a number of 39 digits"),
        ("text", "a\ud800", ValueError, r"text holds the character U\+D800"),
        ("text", ["\udfff"], ValueError, r"text holds the character U\+DFFF"),
        ("a\ud83d", 1, ValueError, r"the attribute name 'a\\ud83d' holds"),
        (1, 1, TypeError, "the attribute name 1 is of type int"),
        (None, 1, TypeError, "the attribute name None"),
    ],
)
def test_a_value_that_no_attribute_can_have_is_refused_by_its_name_wherever_it_is_handed_over(
    server: Server, kind: str, name: Any, value: Any, error: type[Exception], words: str
) -> None:
    """And the other values of the call arrive."""
    with any_client(kind, server.url, server.project, server.secret, retry=QUICK) as client:
        with pytest.raises(error, match=words):
            client.set(CUID, {name: value})
        with pytest.raises(error, match=f"record 1: {words}"):
            client.batch([Record(CUID, {"count": 1}), Record(CUID, {name: value})])
        with client.buffer() as buffer:
            buffer.set(CUID, {"count": 1})
            with pytest.raises(error, match=words):
                buffer.set(CUID, {name: value})
            buffer.set(CUID, {"count": 1})
    assert server.attributes(CUID) == {"count": 2}


@KINDS
def test_users_and_identifiers_that_cannot_be_sent_are_refused_here(server: Server, kind: str) -> None:
    with any_client(kind, server.url, server.project, server.secret, retry=QUICK) as client:
        with pytest.raises(ValueError, match="cuid has 71 bits"):
            client.set(2**70, {"count": 1})
        with pytest.raises(ValueError, match="cuid has 64 bits"):
            Record(2**63, {"count": 1})
        with pytest.raises(TypeError, match=r"cuid is of type numpy\.bool"):
            client.set(bool_(), {"count": 1})
        with pytest.raises(ValueError, match="half of a surrogate pair"):
            Record(("phone", "\ud800"), {"count": 1})
        # A single text would be one user per character.
        with pytest.raises(TypeError, match="values is of type str"):
            client.register("phone", "18012345678")
        with pytest.raises(TypeError, match="a value of phone is of type int"):
            client.register("phone", [18012345678])
        with pytest.raises(ValueError, match="half of a surrogate pair"):
            client.register("phone", ["\udc00"])
