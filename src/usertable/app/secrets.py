"""Secrets: generated ones, which need no slow hash, and those chosen by callers, which do.

A generated secret is `ut_4fB9xK2a_` and 43 characters: 32 random bytes in base62. Its key is found by the 8 characters of
its public ID, and secret scanners recognize the form.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string

from usertable.domain.errors import ProblemKind, refusal
from usertable.domain.key import Proof

ID_BYTES = 8
"""Number of bytes that become the 8 characters of a public ID."""
RANDOM_BYTES = 32
_ID_CHARACTERS = 8
_RANDOM_CHARACTERS = 43
"""Number of base62 characters for the random bytes."""
_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_GENERATED = re.compile(rf"ut_([0-9A-Za-z]{{{_ID_CHARACTERS}}})_[0-9A-Za-z]{{{_RANDOM_CHARACTERS}}}")
_OWN = re.compile(r"[!-~]{1,128}")


def generate_secret() -> str:
    """Return a new secret."""
    return secret_of(secrets.token_bytes(ID_BYTES), secrets.token_bytes(RANDOM_BYTES))


def secret_of(id_bytes: bytes, random_bytes: bytes) -> str:
    """Return the secret for the 8 bytes of its public ID and 32 random ones."""
    assert len(id_bytes) == ID_BYTES
    assert len(random_bytes) == RANDOM_BYTES
    public = _base62(int.from_bytes(id_bytes, "big") % 62**_ID_CHARACTERS, _ID_CHARACTERS)
    return f"ut_{public}_{_base62(int.from_bytes(random_bytes, 'big'), _RANDOM_CHARACTERS)}"


def public_id(secret: str) -> str:
    """Return the public ID in a generated secret; empty for any other."""
    found = _GENERATED.fullmatch(secret)
    return found[1] if found else ""


def check_secret(secret: str) -> None:
    """Raise Refused if a secret chosen by a caller is invalid."""
    if not _OWN.fullmatch(secret):
        raise refusal(ProblemKind.SECRET, maximum=128)


def proof_of(secret: str, salt: bytes) -> Proof:
    """Return what a secret is verified against. Takes about 25 ms of CPU for one that was not generated."""
    if public := public_id(secret):
        return Proof(_sha256(secret), public, salt)
    return Proof(slow_hash(secret, salt), salt=salt)


def is_generated_secret(secret: str, proof: Proof) -> bool:
    """Return whether a generated secret matches a proof for such secrets."""
    return hmac.compare_digest(_sha256(secret), proof.hash)


def slow_hash(secret: str, salt: bytes) -> bytes:
    """Return the hash of a secret that may be easy to guess, so it takes about 25 ms of CPU."""
    return hashlib.scrypt(secret.encode(), salt=salt, n=2**13, r=8, p=1, dklen=32)


def _sha256(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
