"""The wheel and the sdist: what is in them, and what can be done with the wheel alone in an empty environment."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from usertable.testing import Server

ROOT = Path(__file__).parents[2]
LEFT = [
    "users.db",
    "users.db-wal",
    ".demo/usertable.db",
    "crm.csv",
    "usertable.toml",
    "src/usertable/users.db",
    "docs/users.db",
]


def test_a_store_in_the_clone_is_not_packed(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    unneeded = shutil.ignore_patterns(".git", ".venv", ".*_cache", ".hypothesis", ".schemathesis", "__pycache__", "images")
    shutil.copytree(ROOT, clone, ignore=unneeded)
    for name in LEFT:
        (clone / name).parent.mkdir(exist_ok=True)
        (clone / name).write_text("what nobody else may see")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path / "built")]
    subprocess.run(command, cwd=clone, check=True, capture_output=True)
    (archive,) = (tmp_path / "built").glob("*.tar.gz")
    with tarfile.open(archive) as source:
        packed = {name.partition("/")[2] for name in source.getnames()}
    (archive,) = (tmp_path / "built").glob("*.whl")
    with zipfile.ZipFile(archive) as wheel:
        installed = set(wheel.namelist())
    assert {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "src/usertable/cli/__init__.py",
        "tests/conftest.py",
        "Makefile",
    } <= packed
    assert {
        "usertable/cli/__init__.py",
        "usertable/store/postgres/migrations/0001_initial.sql",
        "usertable/store/postgres/reads.sql",
        "usertable/store/sqlite/reads.sql",
        "usertable/py.typed",
    } <= installed
    assert not packed & set(LEFT)
    assert not [name for name in (*packed, *installed) if "users.db" in name or ".demo" in name]
    named = {"src", "tests", "docs", "deploy", "benchmarks", "requirements"}
    files = {
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "Makefile",
        "README.md",
        "pyproject.toml",
        ".gitignore",
        "PKG-INFO",
    }
    assert {name.partition("/")[0] for name in packed} == named | files


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def client_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of an environment with `pip install usertable`, without extras."""
    folder = tmp_path_factory.mktemp("client")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], check=True, capture_output=True)
    return python


def test_the_client_alone_needs_httpx_msgspec_tzdata_and_zstd(wheel: Path) -> None:
    requirements = [Requirement(line) for line in _metadata(wheel).get_all("Requires-Dist", [])]
    required = {requirement.name for requirement in requirements if "extra" not in str(requirement.marker)}
    assert required == {"httpx", "msgspec", "tzdata", "backports-zstd"}


def test_the_metadata_tell_what_a_package_index_shows(wheel: Path) -> None:
    metadata = _metadata(wheel)
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Summary"]
    assert metadata["Keywords"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert set(metadata.get_all("Provides-Extra", [])) == {"server", "parquet", "all"}
    classifiers = metadata.get_all("Classifier", [])
    assert "Typing :: Typed" in classifiers
    assert [c for c in classifiers if c.startswith("Programming Language :: Python :: 3.")]


def test_an_installed_client_without_the_server_sets_attributes(client_python: Path, usertable_server: Server) -> None:
    usertable_server.declare("level", "NUMBER", "overwrite")
    usertable_server.add_user(7)
    program = f"""
from usertable import Client
with Client("{usertable_server.url}", "{usertable_server.project}", "{usertable_server.secret}", compress=True) as client:
    client.set(7, {{"level": 3}})
    print(client.get(7).attributes)
"""
    ran = subprocess.run([client_python, "-c", program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "level" in ran.stdout
    assert usertable_server.attributes(7) == {"level": 3}


def test_the_command_without_the_server_says_what_to_install(client_python: Path) -> None:
    ran = subprocess.run([client_python.with_name("usertable"), "serve"], capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert "pip install 'usertable[server]'" in ran.stderr
    assert "Traceback" not in ran.stderr


def _metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


@pytest.mark.parametrize(("lock", "extras"), [("server", ["server"]), ("runtime", ["server", "parquet"])])
def test_a_lock_file_pins_every_requirement_of_what_it_installs(lock: str, extras: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    pinned = dict(re.findall(r"^([a-z0-9.-]+)==([^ ]+)", (ROOT / "requirements" / f"{lock}.txt").read_text(), re.MULTILINE))
    for requirement in map(Requirement, named):
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)])
