"""The `Authorization` header."""

from __future__ import annotations

import base64
import binascii


def basic_credentials(authorization: bytes) -> tuple[str, str] | None:
    """Return the project ID and secret in an `Authorization: Basic …` header, or None if it is malformed.

    Neither part is validated; the secret may contain colons.
    """
    scheme, _, encoded = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        project_id, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (project_id, secret) if project_id and colon and secret else None
