"""The command `usertable` whose server packs and removes history seconds after it was written, not an hour or days.

python benchmarks/history_server.py serve --store sqlite:///some.db
"""

from __future__ import annotations

from usertable.__main__ import main
from usertable.app import retention
from usertable.domain.schema import DEFAULT_HISTORY
from usertable.http import app

MAXIMUM_BYTES = 2 * 10**6
"""Of a project's history: what is written in about ten seconds, once it is packed."""

retention.PACK_AGE_MS = 1000
retention.GIGABYTE = MAXIMUM_BYTES // DEFAULT_HISTORY.gigabytes
app.RETENTION_SECONDS = 1.0

if __name__ == "__main__":
    main()
