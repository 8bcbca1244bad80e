"""`usertable doctor`."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

import click

from usertable.cli.context import load_settings, warn_of_service_links
from usertable.cli.errors import Failure
from usertable.cli.options import common_options
from usertable.cli.output import print_lines, print_result
from usertable.store.diagnosis import Finding


@click.command()
@common_options
def doctor() -> None:
    """Check the store, the settings and the machine, and say what to do.

    Looks at the store (reachable, version, who holds its lock, files and their modes), the engine and its known bugs, disk
    space, clocks, memory, open files, addresses and secrets. It changes nothing, and may run beside a server: run it as the
    server's user, with the server's configuration.

    Each line is ok, a warning, or a problem. The exit code is 1 if there is a problem.

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
        raise Failure(f"{counts['problem']} problems, {counts['warning']} warnings")


def _show(findings: list[Finding]) -> None:
    rows: list[tuple[str, str, str]] = []
    for finding in findings:
        rows.append((finding.level, finding.check, finding.found))
        if finding.advice:
            rows.append(("", "", f"-> {finding.advice}"))
    print_lines(rows)
