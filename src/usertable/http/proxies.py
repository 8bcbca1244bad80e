"""Support for reverse proxies and for browsers on other origins: the caller's address behind a proxy, and CORS."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

Peer = tuple[str, int]
"""Address and port, as in ASGI."""


class TrustedProxies:
    """The proxies whose `X-Forwarded-For` is trusted.

    Args:
        networks: addresses and networks, as in `trusted_proxies`: `10.0.0.7`, `10.0.0.0/8`, `fd00::/8`.
    """

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = [ipaddress.ip_network(network) for network in networks]

    def client(self, peer: Peer | None, forwarded_for: Sequence[bytes]) -> Peer | None:
        """Return the caller: the peer, or if that is a trusted proxy, the last address in the headers that is not one.

        Addresses before that one come from the caller and prove nothing, and neither do headers of an untrusted peer. The
        peer of a Unix socket is trusted if any proxy is: the socket's mode controls who may connect.

        Args:
            peer: None for a Unix socket.
            forwarded_for: the values of all `X-Forwarded-For` headers, in order: `b"203.0.113.9, 10.0.0.7"`.
        """
        if not self._networks or (peer is not None and not self._is_trusted(peer[0])):
            return peer
        caller = peer
        for text in reversed(b",".join(forwarded_for).decode("latin-1").split(",")):
            address = _address(text.strip())
            if address is None:
                break
            caller = (address, 0)
            if not self._is_trusted(address):
                break
        return caller

    def _is_trusted(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None) or address
        return any(mapped in network for network in self._networks)


def _address(text: str) -> str | None:
    """Return a proxy's address, with or without a port: `203.0.113.9`, `203.0.113.9:4711`, `[2001:db8::1]:4711`.

    A zone, as in `fe80::1%eth0`, is left out: it means something on the proxy only, and may be any text.
    """
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return None


def with_cors(application: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Return the application so that pages of these origins may call it. Credentials are in headers, never in cookies."""
    options: dict[str, Any] = {
        "allow_origins": list(origins),
        "allow_methods": ["GET", "PUT", "POST", "PATCH", "DELETE"],
        "allow_headers": ["Authorization", "Content-Type", "Idempotency-Key", "If-Match", "Prefer", "X-Request-Id"],
        "expose_headers": [
            *("ETag", "Idempotency-Replayed", "Location", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"),
            *("Repr-Digest", "Retry-After", "Usertable-As-Of", "Usertable-Columns-Not-Kept", "Usertable-Text-Columns"),
            *("Usertable-Users", "X-Request-Id"),
        ],
        "max_age": 600,
    }
    return CORSMiddleware(application, **options)
