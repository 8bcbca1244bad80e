"""`usertable doctor`."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from usertable.cli.context import load_settings, warn_of_service_links
from usertable.cli.errors import Failure
from usertable.cli.options import common_options
from usertable.cli.output import noun, print_lines, print_result

if TYPE_CHECKING:
    from usertable.store.diagnosis import Finding


@click.command()
@common_options
def doctor() -> None:
    """Check the store, the settings and the machine.

    Checks the store (whether it can be reached, its version, lock, files and their modes), known bugs of the database
    engine, disk space, clocks, memory, open files, listening addresses and secrets. It changes nothing and may run while a
    server runs. Run it as the server's user, with the server's configuration.

    Each finding is ok, a warning or a problem; the line below it says what to do. The exit code is 1 if there is a problem.

    With --json: `level`, the worst level of all, and `findings`, each with `check`, `level`, `found` and `advice`.

    \b
    Example:
      usertable doctor --config /etc/usertable/usertable.toml
    """
    loaded = load_settings()
    warn_of_service_links(loaded)
    from usertable.app import diagnosis
    from usertable.app.clock import SYSTEM_CLOCK
    from usertable.store import diagnose

    config = loaded.config
    findings = [*diagnosis.diagnose(loaded), *diagnose(config.store, SYSTEM_CLOCK.now_ms(), config.workers)]
    counts = Counter(finding.level for finding in findings)
    level = next((level for level in ("problem", "warning") if counts[level]), "ok")
    print_result({"level": level, "findings": [asdict(finding) for finding in findings]}, lambda: _show(findings))
    if counts["problem"]:
        problems, warnings = counts["problem"], counts["warning"]
        raise Failure(f"{problems} {noun(problems, 'problem')}, {warnings} {noun(warnings, 'warning')}")


def _show(findings: list[Finding]) -> None:
    rows: list[tuple[str, str, str]] = []
    for finding in findings:
        rows.append((finding.level, finding.check, finding.found))
        if finding.advice:
            rows.append(("", "", f"-> {finding.advice}"))
    print_lines(rows)
