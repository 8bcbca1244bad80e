"""Clients that generators make from the OpenAPI document compile, in three languages. Runs with `make clients`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.native_server import NativeServer, native_server

TOOLS = Path(__file__).parents[2] / ".venv/generators"

pytestmark = [pytest.mark.generated, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeServer]:
    with native_server(tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture
def document(server: NativeServer, tmp_path: Path) -> Path:
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(server.anyone.get("/openapi.json").json()))
    return file


def run(*command: object, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_python_client_can_be_used(server: NativeServer, document: Path, tmp_path: Path) -> None:
    generator = TOOLS / "bin/openapi-python-client"
    run(generator, "generate", "--path", document, "--meta", "none", "--output-path", "made", folder=tmp_path)
    python = TOOLS / "bin/python"
    run(python, "-m", "compileall", "-q", "made", folder=tmp_path)
    path, owner = server.new_project()
    assert owner.post(f"{path}/users", json={"cuid": 7}).status_code == 201
    program = f"""
import sys
sys.path.insert(0, ".")
from made import AuthenticatedClient
from made.api.users import get_user
from made.api.attributes import declare_attribute
from made.models import DataType, NewAttribute, Rule
client = AuthenticatedClient(base_url={server.url!r}, token={server.admin.headers["authorization"].split()[1]!r})
project = {path.rpartition("/")[2]!r}
made = declare_attribute.sync(project, client=client, body=NewAttribute("level", DataType.NUMBER, Rule.ACCUMULATE))
print(made.name, get_user.sync(project, 7, client=client).cuid)
"""
    assert run(python, "-c", program, folder=tmp_path) == "level 7\n"


def test_a_typescript_client_compiles(document: Path, tmp_path: Path) -> None:
    programs = TOOLS / "node/node_modules/.bin"
    run(programs / "openapi-typescript", document, "-o", "api.d.ts", folder=tmp_path)
    (tmp_path / "use.ts").write_text("""
import type { components, paths } from "./api";
type Answer = components["schemas"]["BatchAnswer"];
const attribute: components["schemas"]["NewAttribute"] =
  { name: "level", type: "NUMBER", rule: "accumulate", display_name: "", description: "", hidden: false };
type Batch = paths["/api/v1/projects/{project}/users:batch"]["post"];
const body: Batch["requestBody"]["content"]["application/json"] = { records: [{ cuid: 7, data: { level: 1 } }] };
export function outcomes(answer: Answer): string[] {
  return answer.results.flatMap((record) => Object.values(record.outcomes));
}
console.log(attribute, body);
""")
    run(programs / "tsc", "--strict", "--noEmit", "--target", "es2022", "--lib", "es2022,dom", "use.ts", folder=tmp_path)


def test_a_go_client_compiles(document: Path, tmp_path: Path) -> None:
    assert shutil.which("java"), "the generator needs Java"
    assert shutil.which("go"), "on Debian or Ubuntu: apt-get install golang-go"
    generator = TOOLS / "bin/openapi-generator-cli"
    run(generator, "generate", "-g", "go", "-i", document, "-o", "made", "--package-name", "usertable", folder=tmp_path)
    run("go", "vet", ".", folder=tmp_path / "made", GOPROXY="off", GOFLAGS="-mod=mod", GOTOOLCHAIN="local")
