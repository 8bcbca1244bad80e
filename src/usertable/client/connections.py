"""The connections of a client: through which proxy, with which certificates, and whose they are.

What the environment says about it is read here and not by httpx, which takes some of it as URLs that are none.
"""

from __future__ import annotations

import asyncio

# Names of hosts are encoded by it. A child that is forked while a thread imports it would have half of it for good.
import encodings.idna  # noqa: F401
import importlib.util
import ipaddress
import os
import re
import ssl
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.request import getproxies

import httpx

from usertable.client.core import Lost, Reply, Send
from usertable.client.errors import ClientError
from usertable.client.process import PerProcess

# Of these it is certain that the server has not got the request.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
_SLOW = (httpx.ReadTimeout, httpx.WriteTimeout)


def settings_for(base_url: str, timeout: float, http: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for an httpx client, with what the environment says and the caller does not.

    Raises:
        ValueError: the base URL is none.
        ClientError: an environment variable is of no use; it is named.
    """
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, TypeError):
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host or (url.port or 0) > 65_535:
        raise ValueError(f"base_url is {base_url!r}; expected something like https://usertable.example.com")
    settings: dict[str, Any] = {"base_url": url, "timeout": timeout, **http}
    if settings.get("trust_env", True) and settings.get("transport") is None:
        settings["trust_env"] = False
        if settings.get("proxy") is None:
            settings["proxy"] = _proxy(url)
        if settings.get("verify", True) is True and url.scheme == "https":
            settings["verify"] = _trusted()
    return settings


def _proxy(url: httpx.URL) -> httpx.Proxy | None:
    """The proxy that the environment names for a URL."""
    named = getproxies()
    scheme = next((scheme for scheme in (url.scheme, "all") if named.get(scheme)), None)
    if scheme is None or any(_is_meant(entry, url) for entry in re.split(r"[,\s]+", named.get("no", "")) if entry):
        return None
    value = named[scheme]
    variable = next((name for name in (f"{scheme}_proxy", f"{scheme}_PROXY".upper()) if os.environ.get(name)), scheme)
    shown = re.sub(r"[^/@]*@", "***@", value)
    way_out = f"; correct or unset it, or name {url.host} in NO_PROXY"
    try:
        proxy = httpx.Proxy(value if "://" in value else f"http://{value}")
    except (httpx.InvalidURL, ValueError):
        proxy = None
    if proxy is None or not proxy.url.host:
        raise ClientError(
            f"the environment variable {variable} is {shown!r}, which is no proxy's URL"
            f" such as http://proxy.example.com:3128{way_out}"
        )
    if proxy.url.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise ClientError(
            f"the environment variable {variable} is {shown!r}: for a SOCKS proxy install httpx[socks]{way_out}"
        )
    return proxy


def _is_meant(entry: str, url: httpx.URL) -> bool:
    """Whether an entry of NO_PROXY means a URL: a host, its domain, an address or a network, some with a port."""
    scheme, found, rest = entry.lower().rpartition("://")
    if found and scheme not in ("all", url.scheme):
        return False
    if rest == "*":
        return True
    network = _network(rest)
    if network is None and (ported := re.fullmatch(r"(\[.*\]|[^:]+):(\d+)", rest)):
        if int(ported[2]) != (url.port or {"http": 80, "https": 443}[url.scheme]):
            return False
        rest, network = ported[1], _network(ported[1])
    if network is not None:
        address = _network(url.host)
        return address is not None and address.version == network.version and address.subnet_of(network)  # type: ignore[arg-type]
    domain = rest.removeprefix("*").strip(".")
    return bool(domain) and any(
        host == domain or host.endswith(f".{domain}")
        for host in (url.host.lower().rstrip("."), url.raw_host.decode().lower().rstrip("."))
    )


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """An address or a network, IPv6 with or without brackets; None if the text is neither."""
    try:
        return ipaddress.ip_network(re.sub(r"^\[(.*)\](/\d+)?$", r"\1\2", text), strict=False)
    except ValueError:
        return None


def _trusted() -> ssl.SSLContext | bool:
    """The certificates that the environment names; True if it names none."""
    if file := os.environ.get("SSL_CERT_FILE"):
        try:
            return ssl.create_default_context(cafile=file)
        except OSError as error:
            raise ClientError(
                f"the environment variable SSL_CERT_FILE is {file!r}, which is no file of certificates: {error};"
                " correct or unset it"
            ) from error
    if folder := os.environ.get("SSL_CERT_DIR"):
        if not any(Path(part).is_dir() for part in folder.split(os.pathsep)):
            raise ClientError(
                f"the environment variable SSL_CERT_DIR is {folder!r}, which is no folder; correct or unset it"
            )
        return ssl.create_default_context(capath=folder)
    return True


class Connections(PerProcess):
    """An httpx client of the process's own. May be used by many threads."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._http: httpx.Client | None = httpx.Client(**settings)
        self._closed = False
        self._opening = threading.Lock()
        super().__init__()

    def _begin_in_child(self) -> None:
        self._opening = threading.Lock()
        # What both processes write to one connection would be mixed up. Here it is closed, there it stays open.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            self._http = None

    def request(self, send: Send) -> Reply | Lost:
        """Send a request and wait for its answer. Raises ClientError: it is closed."""
        self._own_process()
        with self._opening:
            if self._closed:
                raise ClientError("the client is closed")
            if self._http is None:
                self._http = httpx.Client(**self._settings)
            http = self._http
        try:
            return _reply(http.request(send.method, send.path, content=send.content, headers=send.headers))
        except httpx.RequestError as error:
            return _lost(error)

    def close(self) -> None:
        """Close them; may be called again."""
        self._own_process()
        with self._opening:
            self._closed = True
            http, self._http = self._http, None
        if http is not None:
            http.close()


class AsyncConnections(PerProcess):
    """An httpx client for each event loop in which it is used, since a connection belongs to one, and for each process."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        # Made here, so that what is wrong with the settings is told here.
        self._unused: httpx.AsyncClient | None = httpx.AsyncClient(**settings)
        self._by_loop: dict[asyncio.AbstractEventLoop, httpx.AsyncClient] = {}
        self._parents: list[object] = []
        self._closed = False
        self._opening = threading.Lock()
        super().__init__()

    def _begin_in_child(self) -> None:
        self._opening = threading.Lock()
        # Kept, not closed: event loops share what tells them of events with their parent's, whose connections would hang.
        self._parents.append(self._by_loop)
        self._by_loop = {}

    async def request(self, send: Send) -> Reply | Lost:
        """Send a request and wait for its answer. Raises ClientError: it is closed."""
        self._own_process()
        http = self._here()
        try:
            return _reply(await http.request(send.method, send.path, content=send.content, headers=send.headers))
        except httpx.RequestError as error:
            return _lost(error)

    def _here(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        with self._opening:
            if self._closed:
                raise ClientError("the client is closed")
            http = self._by_loop.get(loop)
            if http is None:
                self._by_loop = {other: kept for other, kept in self._by_loop.items() if not other.is_closed()}
                http, self._unused = self._unused or httpx.AsyncClient(**self._settings), None
                self._by_loop[loop] = http
            return http

    async def close(self) -> None:
        """Close them, in each event loop that is running; may be called again."""
        self._own_process()
        with self._opening:
            self._closed = True
            by_loop, self._by_loop = self._by_loop, {}
            unused, self._unused = self._unused, None
        if unused is not None:
            await unused.aclose()
        here = asyncio.get_running_loop()
        for loop, http in by_loop.items():
            if loop is here:
                await http.aclose()
            elif loop.is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(http.aclose(), loop))


def _reply(response: httpx.Response) -> Reply:
    return Reply(response.status_code, response.headers, response.content)


def _lost(error: httpx.RequestError) -> Lost:
    return Lost(error, sent=not isinstance(error, _NOT_SENT), slow=isinstance(error, _SLOW))
