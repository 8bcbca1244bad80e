"""What reverse proxies and browsers of other origins need: the caller's address behind a proxy, and CORS."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

Peer = tuple[str, int]
"""Address and port, as ASGI has them."""


class TrustedProxies:
    """The proxies whose `X-Forwarded-For` is believed.

    Args:
        networks: addresses and networks, as `trusted_proxies` lists them: `10.0.0.7`, `10.0.0.0/8`, `fd00::/8`.
    """

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = [ipaddress.ip_network(network) for network in networks]

    def client(self, peer: Peer | None, forwarded_for: Sequence[bytes]) -> Peer | None:
        """The caller: the peer, or if that is a trusted proxy, the last address in the headers that is not one.

        Everything before that address is the caller's own word, and so is a header of a peer that is not trusted. The
        peer of a Unix socket is trusted if any proxy is: the socket's mode says who may connect.

        Args:
            peer: None of a Unix socket.
            forwarded_for: the values of all `X-Forwarded-For` headers, in their order: `b"203.0.113.9, 10.0.0.7"`.
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
    """An address that a proxy wrote, some with a port: `203.0.113.9`, `203.0.113.9:4711`, `[2001:db8::1]:4711`."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def with_cors(application: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """The application, which scripts of pages of these origins may call too. Credentials are in headers, never cookies."""
    options: dict[str, Any] = {
        "allow_origins": list(origins),
        "allow_methods": ["GET", "PUT", "POST", "PATCH", "DELETE"],
        "allow_headers": ["Authorization", "Content-Type", "Idempotency-Key", "If-Match", "Prefer", "X-Request-Id"],
        "expose_headers": [
            *("ETag", "Idempotency-Replayed", "Location", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"),
            *("Retry-After", "X-Request-Id"),
        ],
        "max_age": 600,
    }
    return CORSMiddleware(application, **options)
