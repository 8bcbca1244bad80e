"""People who sign in to the console: their roles, and their sessions."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field

from usertable.domain.errors import ProblemKind, refusal
from usertable.domain.permissions import Role, Scope, scopes_of

MAX_EMAIL = 254
"""Maximum characters of an email address: the limit of RFC 5321."""
MAX_NAME = 200
"""Maximum characters of a person's name."""
MIN_PASSWORD = 15
"""Minimum characters of a password that is the only factor, by NIST SP 800-63B-4 (section 3.1.1.2). There is no other rule.
"""
MAX_PASSWORD_BYTES = 1024
"""Maximum bytes of a password in UTF-8."""
# The native API has the address in paths, where a slash divides and `:link` follows.
_EMAIL = re.compile(r"[^@\s/]+@[^@\s/:]+")
_NO_ROLES: Mapping[int, Role] = {}
_NONE: frozenset[Scope] = frozenset()


@dataclass(frozen=True, slots=True)
class PasswordLink:
    """A link for setting a password once: an invitation, or a reset.

    Args:
        digest: SHA-256 of the link's secret.
        expires: ms since 1970 UTC.
    """

    digest: bytes
    expires: int


@dataclass(frozen=True, slots=True)
class OpenIdAccount:
    """An account of an OpenID Connect provider: `https://sso.example.com/realms/staff`, `f:7c1e:ann`.

    Args:
        issuer: the provider.
        subject: the provider's name for the account, which is never reused.
    """

    issuer: str
    subject: str

    def __str__(self) -> str:
        return f"{self.subject} of {self.issuer}"


@dataclass(frozen=True, slots=True)
class Person:
    """A person who may sign in to the console.

    Args:
        id: never changes and is never reused: `9f3c1b7a20d4e586`.
        email: as typed; unique regardless of case, see :func:`email_key`.
        password_hash: argon2id, `$argon2id$v=19$m=19456,t=2,p=1$…`; empty if no password has been set.
        admin: has all permissions.
        roles: role by project number; no entry means no access to the project.
        created_at: ms since 1970 UTC.
        created_by: the actor.
        last_sign_in: ms since 1970 UTC; None for never.
        last_address: network address of the last sign-in.
        link: the valid link for setting a password, if any. A new link replaces it.
        openid: the account used to sign in by OpenID Connect; None if they never did.
    """

    id: str
    email: str
    name: str = ""
    password_hash: str = field(default="", repr=False)
    admin: bool = False
    disabled: bool = False
    roles: Mapping[int, Role] = field(default_factory=lambda: _NO_ROLES)
    created_at: int = 0
    created_by: str = ""
    last_sign_in: int | None = None
    last_address: str = ""
    link: PasswordLink | None = field(default=None, repr=False)
    openid: OpenIdAccount | None = None

    @property
    def can_sign_in(self) -> bool:
        """Whether the person can sign in. Not possible if disabled, or invited and not signed in yet."""
        return not self.disabled and (bool(self.password_hash) or self.openid is not None)

    @property
    def shown_name(self) -> str:
        """The name, or the email address if there is none."""
        return self.name or self.email

    def role(self, project: int) -> Role | None:
        """Return the role in the project with this number; `admin` for an admin."""
        return Role.ADMIN if self.admin else self.roles.get(project)

    def scopes(self, project: int) -> frozenset[Scope]:
        """Return the person's scopes in the project with this number."""
        role = self.role(project)
        return scopes_of(role) if role else _NONE


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that is signed in.

    Args:
        digest: SHA-256 of the token in the browser. The token is stored nowhere else.
        person: the person's ID; empty for the admin token, and for a link that `serve` printed.
        begun: ms since 1970 UTC.
        seen: last use, to the minute; ms since 1970 UTC.
        expires: ms since 1970 UTC.
        address: network address at sign-in.
        browser: the User-Agent header: `Mozilla/5.0 (X11; Linux x86_64) …`.
        proof: for a session without a person, proof that its admin token is still valid; else empty.
    """

    digest: bytes
    person: str
    begun: int
    seen: int
    expires: int
    address: str = ""
    browser: str = ""
    proof: bytes = field(default=b"", repr=False)

    @property
    def id(self) -> str:
        """A public ID, from which the token cannot be derived: `5f0c1b2a9d3e4f60`."""
        return self.digest.hex()[:16]


def email_key(email: str) -> str:
    """Return a key that is equal for two spellings of one address: `Ann@Example.com` and `ann@example.COM`."""
    return unicodedata.normalize("NFC", email.strip()).casefold()


def checked_email(email: str) -> str:
    """Return the address without surrounding blanks. Raises Refused if it is not an address."""
    email = unicodedata.normalize("NFC", email.strip())
    if not _EMAIL.fullmatch(email) or len(email) > MAX_EMAIL or not email.isprintable():
        raise refusal(ProblemKind.EMAIL, value=email)
    return email


def checked_name(name: str) -> str:
    """Return the name without surrounding blanks. Raises Refused if it is too long or has control characters."""
    name = name.strip()
    if len(name) > MAX_NAME or not name.isprintable():
        raise refusal(ProblemKind.PERSON_NAME, limit=MAX_NAME)
    return name


def encoded(password: str) -> bytes:
    """Return the password in the Unicode form that is hashed, whatever keyboard it was typed on."""
    return unicodedata.normalize("NFC", password).encode(errors="surrogatepass")


def checked_password(password: str) -> bytes:
    """Return the normalized password. Raises Refused if it is too short or too long."""
    sent = encoded(password)
    if len(unicodedata.normalize("NFC", password)) < MIN_PASSWORD or len(sent) > MAX_PASSWORD_BYTES:
        raise refusal(ProblemKind.PASSWORD, minimum=MIN_PASSWORD, maximum=MAX_PASSWORD_BYTES)
    return sent
