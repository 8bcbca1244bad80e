"""The command `usertable`, also as `python -m usertable`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit. Without the extra `server`, say how to install it."""
    try:
        from usertable.cli import main as run
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] == "usertable":
            raise
        sys.exit(
            f"Error: the module {missing.name} is not installed. `pip install usertable` installs the Python client only; "
            "for this command and the server: pip install 'usertable[server]'"
        )
    run()


if __name__ == "__main__":
    main()
