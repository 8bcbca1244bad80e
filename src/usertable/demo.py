"""`make demo`: run a server with sample data, and send it the request from the platform's documentation.

Creates `.demo/usertable.db` on the first run and keeps it. Environment variables: `DEMO_PORT=N` (0 for any free port), and
`DEMO_EXIT=1` to stop after printing.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import NoReturn

from usertable import signals
from usertable.app.service import Service
from usertable.dialects.jiguang.vocabulary import ATTRIBUTE_PATH
from usertable.domain.actor import Actor
from usertable.domain.errors import StoreFault
from usertable.domain.schema import LEGAL_RULES, Attribute, Identifier
from usertable.store import open_store
from usertable.wire.native.documents import pretty, user_document

HOST = "127.0.0.1"
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FILE = Path(".demo") / "usertable.db"
PROJECT, SECRET = "7d431e42dfa6a6d693ac2d04", "5e987ac6d2e04d95a9d8f0d1"
AUTHORIZATION = "Basic N2Q0MzFlNDJkZmE2YTZkNjkzYWMyZDA0OjVlOTg3YWM2ZDJlMDRkOTVhOWQ4ZjBkMQ=="
"""The example header in the platform's documentation: the project and secret above."""
_ACTOR = Actor.cli("demo")
CUID = 10362473
BODY = (
    '{"cuid":10362473,"data":{"user_number_once":46.2,"user_string_once":"refef",'
    '"user_datetime_once":"2023-12-12 00:56:23"}}'
)


def prepare(url: str) -> None:
    """Create the project, its attributes, the identifier and the user, unless they exist."""
    store = open_store(url)
    try:
        if store.project(PROJECT):
            return
        service = Service(store)
        project, _ = service.create_project("Demo", id=PROJECT, secret=SECRET, actor=_ACTOR)
        for data_type, rules in LEGAL_RULES.items():
            for rule in rules:
                attribute = Attribute(f"user_{data_type.lower()}_{rule}", data_type, rule)
                service.declare_attribute(PROJECT, attribute, actor=_ACTOR)
        service.declare_identifier(PROJECT, Identifier("phone", "手机号"), actor=_ACTOR)
        service.add_user(project, CUID, {"phone": "18012345678"}, actor=_ACTOR)
    finally:
        store.close()


def show_user(url: str) -> None:
    """Print the user's row as stored."""
    store = open_store(url)
    try:
        service = Service(store)
        project = service.project(PROJECT)
        print(pretty(user_document(service.user(project, CUID), project)))
    finally:
        store.close()


def call(port: int, method: str, path: str, body: str | None = None) -> tuple[int, str]:
    """Send one request to the demo's server."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json", "Authorization": AUTHORIZATION})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def start(url: str, port: str) -> subprocess.Popen[str]:
    """Start the demo's server, without the settings in the environment."""
    command = [sys.executable, "-m", "usertable", "serve", "--store", url, "--host", HOST, "--port", port]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("USERTABLE_")}
    return subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment,
        # What is blocked here would stay so there. No thread runs yet.
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING),
    )


def wait_until_it_serves(server: subprocess.Popen[str]) -> int:
    """Return the port that the server reports; another program may answer at the default one. Exit if the server exits."""
    assert server.stderr is not None
    for line in server.stderr:
        sys.stderr.write(line)
        if found := re.search(rf"serving .* on http://{re.escape(HOST)}:(\d+)", line):
            # Further output is passed on, so that the server never blocks on the pipe.
            threading.Thread(target=_pass_on, args=(server,), daemon=True).start()
            return int(found[1])
    code = server.wait()
    print("make demo: the server did not start; another port: make demo DEMO_PORT=8001", file=sys.stderr)
    sys.exit(code or 1)


def _pass_on(server: subprocess.Popen[str]) -> None:
    assert server.stderr is not None
    for line in server.stderr:
        sys.stderr.write(line)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    # A second one must not interrupt the wait for the server.
    signals.ignore(*_ENDING)
    sys.exit(0 if number == signal.SIGINT else 128 + number)


def main() -> None:
    """Prepare, serve, send, show, and keep serving."""
    # However it ends, its server must not be left running.
    for number in _ENDING:
        signal.signal(number, _end)
    chosen = os.environ.get("DEMO_PORT") or "8000"
    url = f"sqlite:///{FILE}"
    FILE.parent.mkdir(exist_ok=True)
    try:
        prepare(url)
    except StoreFault as fault:
        sys.exit(f"make demo: {fault}")
    server = None
    try:
        with signals.blocked(*_ENDING):
            server = start(url, chosen)
        port = wait_until_it_serves(server)
        status, answer = call(port, "PUT", ATTRIBUTE_PATH, BODY)
        print(f"\nPUT {ATTRIBUTE_PATH}\nAuthorization: {AUTHORIZATION}\n{BODY}\n\n{status}\n{answer}\n")
        print(f"The row of user {CUID} now:")
        show_user(url)
        if os.environ.get("DEMO_EXIT") == "1":
            return
        print(
            f"""
Try next:

  curl -X PUT http://{HOST}:{port}{ATTRIBUTE_PATH} -u {PROJECT}:{SECRET} \\
    -H 'Content-Type: application/json' -H 'Prefer: return=representation' \\
    -d '{{"cuid":{CUID},"data":{{"user_number_accumulate":9.9,"user_list_append":["news","sport"]}}}}'

Serving from {FILE} until Ctrl-C. Every further run keeps the data; `make clean` removes it.""",
            flush=True,
        )
        sys.exit(server.wait())
    finally:
        if server is not None:
            if server.poll() is None:
                server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
