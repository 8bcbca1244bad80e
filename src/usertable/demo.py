"""`make demo`: a server with sample data, and the platform document's own request sent to it.

Makes `.demo/usertable.db` on the first run and keeps it. Stops after printing if the environment says `DEMO_EXIT=1`.
"""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from usertable.domain.errors import StoreFault
from usertable.domain.schema import LEGAL_RULES, Attribute, Identifier
from usertable.http.platform import ATTRIBUTE_PATH
from usertable.service import Service
from usertable.store import open_store
from usertable.wire.native import pretty, user_document

HOST, PORT = "127.0.0.1", 8000
FILE = Path(".demo") / "usertable.db"
PROJECT, SECRET = "7d431e42dfa6a6d693ac2d04", "5e987ac6d2e04d95a9d8f0d1"
AUTHORIZATION = "Basic N2Q0MzFlNDJkZmE2YTZkNjkzYWMyZDA0OjVlOTg3YWM2ZDJlMDRkOTVhOWQ4ZjBkMQ=="
"""The document's own example header: the project and secret above."""
CUID = 10362473
BODY = (
    '{"cuid":10362473,"data":{"user_number_once":46.2,"user_string_once":"refef",'
    '"user_datetime_once":"2023-12-12 00:56:23"}}'
)


def prepare(url: str) -> None:
    """Create the project, its attributes, the identifier and the user, unless they are there."""
    store = open_store(url)
    try:
        if store.project(PROJECT):
            return
        service = Service(store)
        project, _ = service.create_project("Demo", id=PROJECT, secret=SECRET, who="demo")
        for data_type, rules in LEGAL_RULES.items():
            for rule in rules:
                attribute = Attribute(f"user_{data_type.lower()}_{rule}", data_type, rule)
                service.declare_attribute(PROJECT, attribute, who="demo")
        service.declare_identifier(PROJECT, Identifier("phone", "手机号"), who="demo")
        service.add_user(project, CUID, {"phone": "18012345678"})
    finally:
        store.close()


def show_user(url: str) -> None:
    """Print the user's row as the store has it."""
    store = open_store(url)
    try:
        service = Service(store)
        project = service.project(PROJECT)
        print(pretty(user_document(service.user(project, CUID), project)))
    finally:
        store.close()


def call(method: str, path: str, body: str | None = None) -> tuple[int, str]:
    """One request to the demo's server."""
    connection = http.client.HTTPConnection(HOST, PORT, timeout=10)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json", "Authorization": AUTHORIZATION})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def wait_until_ready(server: subprocess.Popen[bytes]) -> None:
    """Return when the server answers; exit with its code if it gives up."""
    while server.poll() is None:
        try:
            if call("GET", "/readyz")[0] == 200:
                return
        except OSError:
            time.sleep(0.05)
    sys.exit(server.returncode or 1)


def main() -> None:
    """Prepare, serve, send, show, and keep serving."""
    url = f"sqlite:///{FILE}"
    FILE.parent.mkdir(exist_ok=True)
    try:
        prepare(url)
    except StoreFault as fault:
        sys.exit(f"make demo: {fault}")
    command = [sys.executable, "-m", "usertable", "serve", "--store", url, "--host", HOST, "--port", str(PORT)]
    server = subprocess.Popen(command)
    try:
        wait_until_ready(server)
        status, answer = call("PUT", ATTRIBUTE_PATH, BODY)
        print(f"\nPUT {ATTRIBUTE_PATH}\nAuthorization: {AUTHORIZATION}\n{BODY}\n\n{status}\n{answer}\n")
        print(f"The row of user {CUID} now:")
        show_user(url)
        if os.environ.get("DEMO_EXIT") == "1":
            return
        print(
            f"""
Try next:

  curl -X PUT http://{HOST}:{PORT}{ATTRIBUTE_PATH} -u {PROJECT}:{SECRET} \\
    -H 'Content-Type: application/json' -H 'Prefer: return=representation' \\
    -d '{{"cuid":{CUID},"data":{{"user_number_accumulate":9.9,"user_list_append":["news","sport"]}}}}'

Serving from {FILE} until Ctrl-C. Every further run keeps the data; `make clean` removes it."""
        )
        server.wait()
    except KeyboardInterrupt:
        pass
    finally:
        if server.poll() is None:
            server.send_signal(signal.SIGTERM)
        server.wait()


if __name__ == "__main__":
    main()
