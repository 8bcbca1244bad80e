"""Who may come in: Basic credentials of a project, the admin's bearer token."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

from usertable.app.access import Authenticator, ProjectAccess
from usertable.app.verification import network
from usertable.wire.credentials import basic_credentials


async def admit(
    authenticator: Authenticator,
    authorization: bytes,
    client: tuple[str, int] | None,
    credentials: Callable[[bytes], tuple[str, str] | None] = basic_credentials,
) -> ProjectAccess | None:
    """The access that the header grants; None if id or secret are wrong, missing or malformed. May raise Unavailable.

    Args:
        client: address and port of the peer, as ASGI has them.
        credentials: reads project id and secret from the header.
    """
    access = authenticator.known(authorization)
    if access is None and (found := credentials(authorization)):
        access = await authenticator.verify(authorization, *found, network(client[0]) if client else "")
    return access


def carries_token(authorization: bytes, *tokens: str) -> bool:
    """Whether the header carries one of these bearer tokens; an empty one is none."""
    scheme, _, sent = authorization.partition(b" ")
    if scheme.lower() != b"bearer":
        return False
    # Hashing makes the lengths equal, so the comparison's time tells nothing.
    given = hashlib.sha256(sent.strip()).digest()
    return any(hmac.compare_digest(given, hashlib.sha256(token.encode()).digest()) for token in tokens if token)
