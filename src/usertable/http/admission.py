"""Who may come in: Basic credentials of a project, the admin's bearer token."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from usertable.app.access import Authenticator, ProjectAccess
from usertable.app.verification import network


def basic_credentials(authorization: bytes) -> tuple[str, str] | None:
    """Project id and secret of an `Authorization: Basic …` header, or None if it is malformed.

    The shape of neither half is checked; the secret may hold colons.
    """
    scheme, _, encoded = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        project_id, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (project_id, secret) if project_id and colon and secret else None


async def admit(authenticator: Authenticator, authorization: bytes, client: tuple[str, int] | None) -> ProjectAccess | None:
    """The access that the header grants; None if id or secret are wrong, missing or malformed. May raise Unavailable.

    Args:
        client: address and port of the peer, as ASGI has them.
    """
    access = authenticator.known(authorization)
    if access is None and (credentials := basic_credentials(authorization)):
        access = await authenticator.verify(authorization, *credentials, network(client[0]) if client else "")
    return access


def is_admin(authorization: bytes, token: str) -> bool:
    """Whether the header carries the admin token. Without a configured token, nobody is admin."""
    scheme, _, sent = authorization.partition(b" ")
    if not token or scheme.lower() != b"bearer":
        return False
    # Hashing makes the lengths equal, so the comparison's time tells nothing.
    return hmac.compare_digest(hashlib.sha256(sent.strip()).digest(), hashlib.sha256(token.encode()).digest())
