"""The `Authorization` header."""

from __future__ import annotations

import base64
import binascii


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
