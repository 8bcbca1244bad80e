"""The OpenAPI document against the server that serves it: nothing is missing, and what it says is so."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.native_server import TOKEN, NativeServer, native_server
from support.server_process import ATTRIBUTE, REGISTER
from usertable.dialects.jiguang.vocabulary import ATTRIBUTE_PATH, REGISTER_PATH
from usertable.domain.values import DataType
from usertable.http import openapi, operations

METHODS = ("GET", "PUT", "POST", "PATCH", "DELETE")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeServer]:
    with native_server(tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture(scope="module")
def document(server: NativeServer) -> dict[str, Any]:
    answer = server.anyone.get("/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = answer.json()
    return found


def test_every_served_route_is_in_the_document(document: dict[str, Any]) -> None:
    """The table of operations, the platform's endpoints and the health checks."""
    served = {(o.path, o.method.lower()) for o in operations.OPERATIONS}
    served |= {(ATTRIBUTE_PATH, "put"), (REGISTER_PATH, "post"), (openapi.LIVE_PATH, "get")}
    assert (ATTRIBUTE_PATH, REGISTER_PATH) == (ATTRIBUTE, REGISTER)
    assert {(path, method) for path, item in document["paths"].items() for method in item} == served


def test_the_server_serves_what_is_in_the_document_and_no_other_method(
    server: NativeServer, document: dict[str, Any]
) -> None:
    for path, item in document["paths"].items():
        for method in METHODS:
            answer = server.anyone.request(method, re.sub(r"{\w+}", "1", path))
            if method.lower() in item:
                # Without credentials there is no 404 for what a path names, so this would be one for the route.
                assert answer.status_code not in (404, 405), (method, path)
            else:
                assert answer.status_code == 405, (method, path)
                allowed = set(answer.headers["allow"].lower().split(", "))
                assert allowed - {"head"} == set(item), path


def test_every_route_with_data_asks_for_credentials(server: NativeServer, document: dict[str, Any]) -> None:
    open_paths = {"/livez", "/readyz", "/version", "/openapi.json"}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert (operation["security"] == []) == (path in open_paths)
            answer = server.anyone.request(method.upper(), re.sub(r"{\w+}", "1", path))
            assert (answer.status_code == 401) == (path not in open_paths), path
            assert ("401" in operation["responses"]) == (path not in open_paths)


def test_references_lead_somewhere_and_nothing_is_left_over(document: dict[str, Any]) -> None:
    used = set()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(reference := value.get("$ref"), str):
                used.add(reference)
            for member in value.values():
                walk(member)
        elif isinstance(value, list):
            for element in value:
                walk(element)

    walk(document)
    components = {
        f"#/components/{section}/{name}"
        for section, members in document["components"].items()
        for name in members
        if section != "securitySchemes"
    }
    assert used == components


def test_operations_have_what_a_generator_needs(server: NativeServer, document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(ids) == len(set(ids))
    tags = {tag["name"] for tag in document["tags"]}
    for path, item in document["paths"].items():
        for operation in item.values():
            assert operation["summary"]
            assert set(operation["tags"]) <= tags
            named = [p["name"] for p in operation.get("parameters", []) if p.get("in") == "path"]
            assert named == re.findall(r"{(\w+)}", path)
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["version"] == server.process.version


def of_the_past(document: dict[str, Any]) -> list[str]:
    """Return the IDs of the operations that may answer that history does not reach a moment."""
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    return [operation["operationId"] for operation in operations if "410" in operation["responses"]]


def test_only_who_asks_for_an_earlier_moment_is_told_that_it_is_gone(document: dict[str, Any]) -> None:
    assert set(of_the_past(document)) == {"export_users", "get_user", "compare_user"}


def test_every_member_of_a_form_is_described_by_its_type(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert schemas["NewProject"]["additionalProperties"] is False
    assert schemas["NewProject"]["properties"]["qps"]["anyOf"][0]["maximum"] == 1_000_000
    assert schemas["UserDocument"]["properties"]["cuid"]["format"] == "int64"
    assert set(schemas["DataType"]["enum"]) == set(DataType)
    assert not re.search(r":\w+:`", str(document)), "a docstring's markup came through"


CONFIGURATION = """
continue-on-failure = true
suppress-health-check = ["all"]

[parameters]
"path.project" = "tested"

[generation]
max-examples = {examples}
no-shrink = true
deterministic = true
database = "none"

[auth.openapi]
admin = {{ bearer = "{token}" }}
project = {{ username = "{project}", password = "{secret}" }}

# A request of the right form may name what does not exist, clash with what does, or be refused by a rule. It is never a 400.
[checks]
positive_data_acceptance.expected-statuses = ["2xx", "404", "409", "412", "422"]
negative_data_rejection.expected-statuses = ["400", "401", "404", "405", "409", "412", "415", "422", "429", "5xx"]

# These may be asked for a moment that history does not reach.
[[operations]]
include-operation-id = {past}
checks = {{ positive_data_acceptance = {{ expected-statuses = ["2xx", "404", "409", "410", "412", "422"] }} }}

# The platform answers 400 to those as well.
[[operations]]
include-tag = "platform"
checks = {{ positive_data_acceptance = {{ enabled = false }} }}
"""


def test_schemathesis_finds_no_contradiction(server: NativeServer, document: dict[str, Any], tmp_path: Path) -> None:
    """All checks on all operations: examples, boundary values, random requests and sequences of requests."""
    server.new_project(id="tested")
    _, owner = server.new_project(id="platform-side", secret="a-secret-that-stays")
    done = owner.post("/api/v1/projects/platform-side/identifiers", json={"name": "phone"})
    assert done.status_code == 201
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(
        CONFIGURATION.format(
            examples=6, token=TOKEN, project="platform-side", secret="a-secret-that-stays", past=of_the_past(document)
        )
    )
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(configuration), "run"]
    run = subprocess.run([*command, f"{server.url}/openapi.json"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    operations = sum(len(item) for item in document["paths"].values())
    # It leaves out the one that gave it the document.
    assert f"Tested: {operations - 1}\n" in run.stdout
    assert "Traceback" not in server.process.log
