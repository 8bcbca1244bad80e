"""Sign-in by OpenID Connect: its settings, the random values of a sign-in, and its failures.

Communication with the provider is in :mod:`usertable.app.openid_provider`, which a server without a provider does not load.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from usertable.config import Config, items
from usertable.domain.openid import EntryRules, Grant


class ProviderDown(Exception):
    """The provider does not answer, or its answer is invalid."""


class AnswerOfAnother(Exception):
    """The browser returns with the answer of another provider, by its `iss` (RFC 9207)."""


class ProviderRefused(Exception):
    """The provider answers with an OAuth 2.0 error.

    Attributes:
        error: a code: `access_denied`, `invalid_grant`.
        description: the provider's text, for people; may be empty.
    """

    def __init__(self, error: str, description: str = "") -> None:
        super().__init__(f"{error}{': ' if description else ''}{description}")
        self.error = error
        self.description = description


@dataclass(frozen=True, slots=True)
class OpenIdSettings:
    """The provider's settings."""

    issuer: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    scopes: str = "openid email profile"
    email_claim: str = "email"
    rules: EntryRules = EntryRules()  # noqa: RUF009

    @classmethod
    def of(cls, config: Config) -> OpenIdSettings | None:
        """Return the settings in a checked configuration; None if it names no provider."""
        if not config.oidc_issuer:
            return None
        grants: dict[str, tuple[Grant, ...]] = {}
        for mapped in items(config.oidc_roles):
            value, _, grant = mapped.rpartition(":")
            grants[value] = (*grants.get(value, ()), Grant.parse(grant))
        rules = EntryRules(
            frozenset(domain.casefold() for domain in items(config.oidc_email_domains)),
            config.oidc_trust_email,
            config.oidc_roles_claim,
            grants,
            tuple(Grant.parse(grant) for grant in items(config.oidc_default_roles)),
        )
        return cls(
            config.oidc_issuer,
            config.oidc_client_id,
            config.oidc_client_secret,
            config.oidc_scopes,
            config.oidc_email_claim,
            rules,
        )


@dataclass(frozen=True, slots=True)
class Exchange:
    """The random values of one sign-in, which only the browser and this server know.

    Args:
        state: returned in the provider's answer.
        nonce: returned in the ID token.
        verifier: PKCE's code verifier, without which the code is useless.
        redirect_uri: where the provider sends the browser back to.
    """

    state: str
    nonce: str
    verifier: str
    redirect_uri: str


class IdTokenRejected(Exception):
    """An ID token is not valid for this sign-in.

    Attributes:
        check: the failed check: `signature`, `key`, `exp`, or the name of another claim.
    """

    def __init__(self, check: str, detail: str = "") -> None:
        super().__init__(f"{check}{': ' if detail else ''}{detail}")
        self.check = check


class UnknownKey(IdTokenRejected):
    """The token is signed with a key that is not among the provider's known keys."""

    def __init__(self) -> None:
        super().__init__("key", "it is signed with a key that the provider does not publish")
