"""The URLs of stores, and how they are shown without their passwords."""

from __future__ import annotations

import re
from urllib.parse import unquote

from usertable.domain.errors import StoreFault

CACHE_MB = 1024


URL_HOSTS = r"(?:(?:\[[^]]*\]|[^][@/?:,]*)(?::\d*)?)(?:,(?:\[[^]]*\]|[^][@/?:,]*)(?::\d*)?)*"
"""A URL's host part as a regular expression: `db1:5432,[::1]:5433`, or nothing."""
SECRETS = ("password", "sslpassword", "oauth_client_secret")
"""Parameters of a URL that are never shown."""
_MASK = "********"


def redacted_url(url: str) -> str:
    """Return the store's URL as written, without its passwords, for messages and logs."""
    head, question, query = url.partition("?")
    scheme, separator, rest = url.partition("://")
    if separator:
        userinfo, at, location = rest.partition("/")[0].rpartition("@")
        location = rest[len(userinfo + at) :]
        if not at and ("@" in rest.partition("?")[0] or not re.fullmatch(URL_HOSTS, re.split("[/?]", rest)[0])):
            # A password with an unescaped slash, which a URL cannot contain. Everything that may belong to it is removed.
            userinfo, at, location = rest.rpartition("@")
        user, colon, _ = userinfo.partition(":")
        location, question, query = location.partition("?")
        head = f"{scheme}://{user}{colon and colon + _MASK}{at}{location}"
    parameters = [
        f"{name}={_MASK}" if unquote(name).lower() in SECRETS else f"{name}{equals}{value}"
        for name, equals, value in (parameter.partition("=") for parameter in query.split("&"))
    ]
    return f"{head}{question}{'&'.join(parameters)}"


def sqlite_file(url: str) -> tuple[str, int]:
    """Return the file in a `sqlite:///…[?cache_mb=N]` URL, and the maximum memory for the writer's pages, in MiB."""
    path, _, query = url.removeprefix("sqlite:///").partition("?")
    name, _, text = query.partition("=")
    if not url.startswith("sqlite:///") or not path or "#" in path:
        raise StoreFault(f"unusable store URL {url!r}: write sqlite:///relative/file.db or sqlite:////absolute/file.db")
    if not query:
        return path, CACHE_MB
    if name != "cache_mb" or not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1_000_000:
        raise StoreFault(f"unusable store URL {url!r}: the only parameter is cache_mb=N, from 1 to 1000000")
    return path, int(text)
