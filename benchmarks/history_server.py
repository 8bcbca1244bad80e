"""The command `usertable` with a server whose history is old, or too much, within seconds or minutes.

    python benchmarks/history_server.py day=180000 serve --store sqlite:///some.db
    python benchmarks/history_server.py full serve --store sqlite:///some.db

- `day=MS`: a day has so many milliseconds, and changes are packed ten seconds after they were written, not an hour. The
  server looks for such changes every ten seconds, not once a minute. How fast it then packs and removes them is as always.
- `full`: a project's history may have 10 MB, and changes are packed a second after they were written. Once a second, not
  once a minute, the server looks for what to remove, and whether it has to pack faster.
"""

from __future__ import annotations

import sys

from usertable.__main__ import main
from usertable.app import retention
from usertable.domain.schema import DEFAULT_HISTORY
from usertable.http import age, app

MAXIMUM_BYTES = 10 * 10**6
"""Of a project's history: what is written in about half a minute, once it is packed."""

if __name__ == "__main__":
    mode, _, milliseconds = sys.argv.pop(1).partition("=")
    if mode == "day":
        app.DAY_MS = int(milliseconds)  # type: ignore[attr-defined]
        age.SETTLING_MS = 0
        retention.PACK_AGE_MS = 10_000
        app.RETENTION_SECONDS = 10.0
    else:
        retention.PACK_AGE_MS = 1000
        retention.GIGABYTE = MAXIMUM_BYTES // DEFAULT_HISTORY.gigabytes
        app.RETENTION_SECONDS = retention.PACKING_SECONDS = 1.0
    main()
