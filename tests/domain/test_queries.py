"""Statements are read from `.sql` files by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from usertable.store.queries import load_queries


def test_a_statement_has_an_earlier_one_in_place_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "statements"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "two.sql").write_text(
        "-- About both.\n\n-- name: off\n-- Names.\nSELECT name FROM settings;\n\n"
        "-- name: rest\nSELECT * FROM users WHERE name <> ALL ({off}) AND {conditions};\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "statements", raising=False)
    queries = load_queries("statements", "two.sql")
    assert queries["off"] == "SELECT name FROM settings"
    assert queries["rest"] == "SELECT * FROM users WHERE name <> ALL (SELECT name FROM settings) AND {conditions}"
