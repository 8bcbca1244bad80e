"""Sign-in by OpenID Connect: what a provider says of somebody, who may enter, and which roles they get."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from usertable.domain.permissions import Role
from usertable.domain.person import OpenIdAccount, email_key

EVERY_PROJECT = "*"
"""In place of a project's ID in a grant."""
_STRENGTH = (Role.VIEWER, Role.EDITOR, Role.OWNER)


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody whom a provider has signed in, from a verified ID token.

    Args:
        account: who they are there.
        email: as the provider has it; empty for none.
        is_verified: whether the provider says that the address is theirs.
        name: empty for none.
        values: those of the claim that decides the roles.
    """

    account: OpenIdAccount
    email: str
    is_verified: bool
    name: str = ""
    values: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Grant:
    """A role in a project, `100102=editor`, in every project, `*=viewer`, or `admin`, without a project."""

    role: Role
    project: str = ""

    @classmethod
    def parse(cls, text: str) -> Grant:
        """Read `100102=editor`, `*=viewer` or `admin`, which the configuration has checked."""
        project, _, role = text.rpartition("=")
        return cls(Role(role), project)


@dataclass(frozen=True, slots=True)
class Granted:
    """The roles that somebody gets: in the installation, and by project number."""

    admin: bool
    roles: Mapping[int, Role]

    def __bool__(self) -> bool:
        return self.admin or bool(self.roles)


@dataclass(frozen=True, slots=True)
class EntryRules:
    """Who may enter, and with which roles.

    Args:
        domains: those of the e-mail addresses that may enter, in lower case; none for all.
        trusts_email: accept addresses of which the provider does not say that they are verified.
        claim: decides the roles; empty if they are edited in the console.
        grants: by value of the claim.
        default: for whoever gets none by the claim; without a claim, for whoever enters for the first time.
    """

    domains: frozenset[str] = frozenset()
    trusts_email: bool = False
    claim: str = ""
    grants: Mapping[str, tuple[Grant, ...]] | None = None
    default: tuple[Grant, ...] = ()

    def granted(self, values: Iterable[str], projects: Mapping[int, str]) -> Granted:
        """The roles for these values of the claim: of several in one project, the one that may do most.

        Args:
            projects: the IDs of the projects by number. A grant for another project has no effect.
        """
        grants = [grant for value in values for grant in (self.grants or {}).get(value, ())] or list(self.default)
        roles: dict[int, Role] = {}
        for number, id in projects.items():
            here = [grant.role for grant in grants if grant.project in (EVERY_PROJECT, id)]
            if here:
                roles[number] = max(here, key=_STRENGTH.index)
        return Granted(any(grant.role is Role.ADMIN for grant in grants), roles)


class Refusal(StrEnum):
    """Why somebody whom the provider has signed in may not enter."""

    EMAIL_MISSING = "email_missing"
    """The provider gives no e-mail address."""
    EMAIL_UNVERIFIED = "email_unverified"
    EMAIL_DOMAIN = "email_domain"
    """The address is of no allowed domain."""
    NO_ROLE = "no_role"
    LINK_NOT_ALLOWED = "link_not_allowed"
    """A person has the address, and no allowed domains are set, so nobody vouches that they are the same."""
    OTHER_ACCOUNT = "other_account"
    """A person has the address who signs in with another account of the provider."""
    DISABLED = "disabled"
    LAST_ADMIN = "last_admin"
    """The new roles would leave no admin who can sign in."""


class EntryRefused(Exception):
    """Somebody whom the provider has signed in may not enter."""

    def __init__(self, refusal: Refusal, email: str) -> None:
        super().__init__(f"{refusal}: {email or 'no e-mail address'}")
        self.refusal = refusal
        self.email = email


def check_email(identity: Identity, rules: EntryRules) -> None:
    """Raises EntryRefused unless the e-mail address is there, verified or trusted, and of an allowed domain."""
    if not identity.email:
        raise EntryRefused(Refusal.EMAIL_MISSING, "")
    if not (identity.is_verified or rules.trusts_email):
        raise EntryRefused(Refusal.EMAIL_UNVERIFIED, identity.email)
    if rules.domains and email_key(identity.email).rpartition("@")[2] not in rules.domains:
        raise EntryRefused(Refusal.EMAIL_DOMAIN, identity.email)
