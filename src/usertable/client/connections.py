"""The connections of a client: proxy, certificates, and the process or event loop that they belong to.

The environment's settings are read here rather than by httpx, which accepts some values as URLs that are not.
"""

from __future__ import annotations

import asyncio

# Used to encode host names. A child that is forked while a thread imports it would keep half a module.
import encodings.idna  # noqa: F401
import importlib.util
import ipaddress
import os
import re
import ssl
import threading
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.request import getproxies

import httpx

from usertable.client.core import Lost, Reply, Send
from usertable.client.errors import ClientError
from usertable.client.process import PerProcess

# With these errors, the server has certainly not received the request.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
_SLOW = (httpx.ReadTimeout, httpx.WriteTimeout)


def settings_for(base_url: str, timeout: float, http: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments for an httpx client: the caller's, completed from the environment.

    Raises:
        ValueError: the base URL is invalid.
        ClientError: an environment variable is invalid; the message names it.
    """
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, TypeError):
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host or (url.port or 0) > 65_535:
        raise ValueError(f"base_url is {base_url!r}; expected a URL such as https://usertable.example.com")
    settings: dict[str, Any] = {"base_url": url, "timeout": timeout, **http}
    if settings.get("trust_env", True) and settings.get("transport") is None:
        settings["trust_env"] = False
        if settings.get("proxy") is None:
            settings["proxy"] = _proxy(url)
        if settings.get("verify", True) is True and url.scheme == "https":
            settings["verify"] = _trusted()
    return settings


def _proxy(url: httpx.URL) -> httpx.Proxy | None:
    """Return the proxy that the environment names for a URL."""
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
            f"the environment variable {variable} is {shown!r}, which is not the URL of a proxy"
            f" such as http://proxy.example.com:3128{way_out}"
        )
    if proxy.url.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise ClientError(
            f"the environment variable {variable} is {shown!r}, a SOCKS proxy, which needs httpx[socks]; install it{way_out}"
        )
    return proxy


def _is_meant(entry: str, url: httpx.URL) -> bool:
    """Return whether an entry of NO_PROXY matches a URL: a host, its domain, an address or a network, some with a port."""
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
    """Return an address or a network, IPv6 with or without brackets; None if the text is neither."""
    try:
        return ipaddress.ip_network(re.sub(r"^\[(.*)\](/\d+)?$", r"\1\2", text), strict=False)
    except ValueError:
        return None


def _trusted() -> ssl.SSLContext | bool:
    """Return the certificates that the environment names; True if it names none."""
    if file := os.environ.get("SSL_CERT_FILE"):
        try:
            return ssl.create_default_context(cafile=file)
        except OSError as error:
            raise ClientError(
                f"the environment variable SSL_CERT_FILE is {file!r}, which is not a file of certificates: {error};"
                " correct or unset it"
            ) from error
    if folder := os.environ.get("SSL_CERT_DIR"):
        if not any(Path(part).is_dir() for part in folder.split(os.pathsep)):
            raise ClientError(
                f"the environment variable SSL_CERT_DIR is {folder!r}, which is not a folder; correct or unset it"
            )
        return ssl.create_default_context(capath=folder)
    return True


class Connections(PerProcess):
    """One httpx client per process. Safe to share between threads."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._http: httpx.Client | None = httpx.Client(**settings)
        self._closed = False
        self._opening = threading.Lock()
        super().__init__()

    def _begin_in_child(self) -> None:
        self._opening = threading.Lock()
        # Data that both processes write to one connection would be mixed up. It is closed here and stays open in the parent.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            self._http = None

    def request(self, send: Send) -> Reply | Lost:
        """Send a request and wait for its answer. Raises ClientError if the client is closed."""
        http = self._here()
        try:
            return _reply(http.request(send.method, send.path, content=send.content, headers=send.headers))
        except httpx.RequestError as error:
            return _lost(error)

    def download(self, send: Send, keep: Callable[[bytes, int], object], seconds: float) -> Reply | Lost:
        """Send a request whose answer is a file, and pass on its chunks as they arrive.

        Args:
            keep: called with each chunk and the file's size in bytes, 0 if unknown.
            seconds: seconds to wait for the next chunk.

        Returns:
            The answer, without the content that was passed on. With a status of 400 or more, it has its content.
        """
        http = self._here()
        timeout = httpx.Timeout(http.timeout.connect, read=seconds)
        try:
            with http.stream(send.method, send.path, headers=send.headers, timeout=timeout) as response:
                if response.status_code >= 400:
                    response.read()
                    return _reply(response)
                size = int(response.headers.get("content-length", 0))
                for piece in response.iter_bytes():
                    keep(piece, size)
                return Reply(response.status_code, response.headers, b"")
        except httpx.RequestError as error:
            return _lost(error)

    def _here(self) -> httpx.Client:
        self._own_process()
        with self._opening:
            if self._closed:
                raise ClientError("the client is closed")
            if self._http is None:
                self._http = httpx.Client(**self._settings)
            return self._http

    def close(self) -> None:
        """Close the client. May be called more than once."""
        self._own_process()
        with self._opening:
            self._closed = True
            http, self._http = self._http, None
        if http is not None:
            http.close()


class AsyncConnections(PerProcess):
    """One httpx client per event loop, because a connection belongs to one, and per process."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        # Created here, so that errors in the settings are raised here.
        self._unused: httpx.AsyncClient | None = httpx.AsyncClient(**settings)
        self._by_loop: dict[asyncio.AbstractEventLoop, httpx.AsyncClient] = {}
        self._parents: list[object] = []
        self._closed = False
        self._opening = threading.Lock()
        super().__init__()

    def _begin_in_child(self) -> None:
        self._opening = threading.Lock()
        # Not closed: event loops share their selector with the parent's, whose connections would hang.
        self._parents.append(self._by_loop)
        self._by_loop = {}

    async def request(self, send: Send) -> Reply | Lost:
        """Send a request and wait for its answer. Raises ClientError if the client is closed."""
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
        """Close the clients of all running event loops. May be called more than once."""
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
