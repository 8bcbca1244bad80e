"""Authentication: a project's Basic credentials, and the admin's bearer token."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

from usertable.app.access import Authenticator, ProjectAccess
from usertable.app.verification import network
from usertable.domain import permissions
from usertable.domain.errors import ProblemKind, Refused, refusal
from usertable.wire.credentials import basic_credentials


async def admit(
    authenticator: Authenticator,
    authorization: bytes,
    client: tuple[str, int] | None,
    credentials: Callable[[bytes], tuple[str, str] | None] = basic_credentials,
) -> ProjectAccess | None:
    """Return the access that the header grants; None if the credentials are wrong, missing or malformed.

    May raise Unavailable.

    Args:
        client: address and port of the peer, as in ASGI.
        credentials: reads project ID and secret from the header.
    """
    asked = authenticator.now()
    while (access := await _look_up(authenticator, authorization, client, credentials)) is not None:
        if await authenticator.confirm(access, asked):
            access.use.used = True
            return access
    return None


async def _look_up(
    authenticator: Authenticator,
    authorization: bytes,
    client: tuple[str, int] | None,
    credentials: Callable[[bytes], tuple[str, str] | None],
) -> ProjectAccess | None:
    """Return the access of the header, as far as this process knows."""
    access = authenticator.known(authorization)
    if access is None and (found := credentials(authorization)):
        access = await authenticator.verify(authorization, *found, network(client[0]) if client else "")
    return access


def forbidden(access: ProjectAccess, *scopes: permissions.Scope) -> Refused:
    """Return the refusal of a caller whose key has none of these scopes."""
    return refusal(ProblemKind.FORBIDDEN, key=access.key_name, scope=" / ".join(scopes))


def carries_token(authorization: bytes, *tokens: str) -> bool:
    """Return whether the header contains one of these bearer tokens. An empty one never matches."""
    scheme, _, sent = authorization.partition(b" ")
    if scheme.lower() != b"bearer":
        return False
    # Hashing makes the lengths equal, so that the time of the comparison reveals nothing.
    given = hashlib.sha256(sent.strip()).digest()
    return any(hmac.compare_digest(given, hashlib.sha256(token.encode()).digest()) for token in tokens if token)
