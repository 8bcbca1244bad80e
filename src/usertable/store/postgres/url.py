"""Parsing a store's URL: libpq's connection parameters, and the size of the pool."""

from __future__ import annotations

import re

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from usertable.domain.errors import StoreFault
from usertable.store.postgres.failures import error_text
from usertable.store.urls import URL_HOSTS, redacted_url

POOL_SIZE = 8
"""Maximum number of connections per process, unless the URL has `pool_size=N`."""
CONNECT_SECONDS = 5
ENCODING = "UTF8"
"""The only client encoding, whatever PGCLIENTENCODING or the role's settings say: statements sent from the event loop are
encoded in Python, and the database would store their bytes as another text."""
OWN_PARAMETERS = {
    "application_name": "usertable",
    "client_encoding": ENCODING,
    "connect_timeout": str(CONNECT_SECONDS),
    # A host that is gone is noticed in seconds, not in the kernel's 15 minutes.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
"""Parameters of every connection, unless the URL sets them."""
_URL = re.compile(rf"(?P<base>postgres(?:ql)?://(?:[^][@/]*@)?{URL_HOSTS}(?:/[^?]*)?)(?:\?(?P<query>.*))?", re.DOTALL)
_LONE_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")


def connection_parameters(url: str) -> tuple[str, int]:
    """Return libpq's parameters for a URL, and the size of the pool.

    Everything except `pool_size` is passed to libpq unchanged, because libpq and Python parse URLs differently.

    Raises:
        StoreFault: the URL cannot be used.
    """
    display_url = redacted_url(url)
    found = _URL.fullmatch(url)
    if not found:
        # Not shown: the text in place of a host may be part of a password.
        raise StoreFault(
            "unusable store URL: it is not postgresql://user:password@host:port/database?parameters;"
            " write the characters [ ] @ / : ? of a user or password as %5B %5D %40 %2F %3A %3F"
        )
    if _LONE_PERCENT.search(url):
        raise StoreFault(
            f"unusable store URL {display_url!r}: a % stands before two hexadecimal digits only; write % as %25"
        )
    parameters = found["query"].split("&") if found["query"] else []
    sizes = [p.partition("=")[2] for p in parameters if p.partition("=")[0] == "pool_size"]
    size = sizes[-1] if sizes else str(POOL_SIZE)
    if not size.isascii() or not size.isdigit() or not 2 <= int(size) <= 1000:
        raise StoreFault(f"unusable store URL {display_url!r}: pool_size is {size!r}, expected a number from 2 to 1000")
    others = "&".join(p for p in parameters if p.partition("=")[0] != "pool_size")
    without = found["base"] + ("?" + others if others else "")
    try:
        given = conninfo_to_dict(without)
    except psycopg.ProgrammingError as error:
        # libpq may quote all of it, including the password.
        words = error_text(error).replace(without, display_url)
        raise StoreFault(f"unusable store URL {display_url!r}: {words}") from error
    encoding = str(given.pop("client_encoding", ENCODING))
    if encoding not in ("", "auto") and encoding.upper().replace("-", "") not in ("UTF8", "UNICODE"):
        raise StoreFault(f"unusable store URL {display_url!r}: client_encoding is {encoding!r}; it is always {ENCODING}")
    return make_conninfo("", **{**OWN_PARAMETERS, **given}), int(size)
