"""Grafana's own model of a dashboard has every member of ours, in the same place. Runs with `make clients`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv/generators/bin/python"
DASHBOARD = ROOT / "deploy/grafana/usertable.json"
# Members that the model does not have are lost on the way.
PROGRAM = """
import json, sys
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

register_default_plugins()
print(JSONEncoder().encode(Dashboard.from_json(json.load(sys.stdin))))
"""

pytestmark = pytest.mark.generated


def missing(ours: object, theirs: object, path: str = "$") -> list[str]:
    """Return the paths of what the model lacks or has differently: `$.panels[3].targets[0].expr`."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        found = [f"{path}.{name}" for name in ours.keys() - theirs.keys()]
        shared = ours.keys() & theirs.keys()
        return found + [each for name in shared for each in missing(ours[name], theirs[name], f"{path}.{name}")]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [each for index, pair in pairs for each in missing(*pair, f"{path}[{index}]")]
    return [] if ours == theirs else [path]


def read_by_grafanas_model(dashboard: str) -> object:
    done = subprocess.run([PYTHON, "-c", PROGRAM], input=dashboard, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_grafanas_model_has_every_member_of_the_dashboard() -> None:
    text = DASHBOARD.read_text()
    assert missing(json.loads(text), read_by_grafanas_model(text)) == []


def test_a_misspelled_option_of_a_panel_would_be_noticed() -> None:
    misspelled = DASHBOARD.read_text().replace('"lineWidth"', '"lineWidht"', 1)
    (path,) = missing(json.loads(misspelled), read_by_grafanas_model(misspelled))
    assert path.endswith(".fieldConfig.defaults.custom.lineWidht")
