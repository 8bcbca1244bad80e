"""Verification of OpenID Connect's ID tokens: signed by the provider, for this client and this sign-in, and not expired."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from authlib.oidc.core import CodeIDToken
from joserfc import jwk, jwt
from joserfc.errors import ClaimError, ExpiredTokenError, InvalidKeyIdError, JoseError

from usertable.app.openid import IdTokenRejected, UnknownKey

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
"""Algorithms with a public key. Without `none`; and without HS256, whose key would be the provider's public key."""
SKEW_SECONDS = 60
"""Maximum difference, in seconds, between the clocks of the provider and of this machine."""
MAX_SUBJECT = 255
"""Maximum characters of a subject, by OpenID Connect Core 1.0, section 2."""
_KEY_TYPE_OF = {"RS": "RSA", "PS": "RSA", "ES": "EC"}
"""By the first two letters of the algorithm."""


def import_keys(published: Sequence[Mapping[str, Any]]) -> jwk.KeySet:
    """Return the public keys among those that a provider publishes, without keys of unknown types."""
    keys = []
    for key in published:
        if key.get("kty") in _KEY_TYPE_OF.values() and key.get("use", "sig") == "sig":
            with contextlib.suppress(JoseError, ValueError, TypeError, KeyError):
                keys.append(jwk.import_key(dict(key)))
    return jwk.KeySet(keys)


def verify(
    token: str, keys: jwk.KeySet, *, issuer: str, client_id: str, nonce: str, access_token: str, now: float
) -> dict[str, Any]:
    """Verify an ID token and return its claims.

    Args:
        nonce: the nonce of this sign-in.
        access_token: the access token that came with it.
        now: seconds since 1970 UTC.

    Raises:
        UnknownKey: its key is not in `keys`; the provider may have a new one.
        IdTokenRejected: it failed a check.
    """
    try:
        decoded = jwt.decode(token, lambda signed: _find(signed.headers(), keys), algorithms=ALGORITHMS)
    except InvalidKeyIdError as error:
        raise UnknownKey from error
    except (JoseError, ValueError) as error:
        raise IdTokenRejected("signature", _reason(error)) from error
    claims = CodeIDToken(
        decoded.claims,
        decoded.header,
        options={"iss": {"essential": True, "value": issuer}, "aud": {"essential": True, "value": client_id}},
        params={"nonce": nonce, "client_id": client_id, "access_token": access_token},
    )
    try:
        claims.validate(now=int(now), leeway=SKEW_SECONDS)
    except ExpiredTokenError as error:
        raise IdTokenRejected("exp", "it has expired; compare the clocks of this machine and of the provider") from error
    except ClaimError as error:
        raise IdTokenRejected(error.claim or "claims", _reason(error)) from error
    except (JoseError, ValueError) as error:
        raise IdTokenRejected("claims", _reason(error)) from error
    if not 0 < len(claims["sub"]) <= MAX_SUBJECT or not claims["sub"].isprintable():
        raise IdTokenRejected("sub", f"it is not 1 to {MAX_SUBJECT} printable characters")
    return dict(claims)


def _find(header: Mapping[str, Any], keys: jwk.KeySet) -> jwk.Key:
    """Return the key that a token names; if it names none, the only one that its algorithm can use."""
    if kid := header.get("kid"):
        return keys.get_by_kid(kid)
    fitting = [key for key in keys if key.key_type == _KEY_TYPE_OF.get(header["alg"][:2])]
    if len(fitting) != 1:
        raise InvalidKeyIdError
    return fitting[0]


def _reason(error: Exception) -> str:
    """Return the part of a library's error that contains nothing of the token."""
    return str(getattr(error, "error", "") or type(error).__name__)
