"""What is packed is the project, and nothing that somebody left in the clone."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

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
    named = {"src", "tests", "docs", "benchmarks", "requirements"}
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
