"""Console sessions: the browser's cookie, the stored session that it identifies, and the tokens of forms."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from usertable.app.passwords import HashingThread, is_password
from usertable.app.refused_sign_ins import RefusedSignIns
from usertable.app.service import Service
from usertable.app.verification import network
from usertable.console.shared_state import MustWait, SharedState
from usertable.domain.actor import Actor, ActorKind
from usertable.domain.errors import Unavailable
from usertable.domain.openid import EntryRefused, EntryRules, Identity, Refusal
from usertable.domain.permissions import ALL_SCOPES, Scope
from usertable.domain.person import Person, Session, email_key

COOKIE = "usertable_session"
VISITOR_COOKIE = "usertable_visitor"
"""The cookie of a visitor without a session. With a single cookie, a late answer to a request from before the sign-in, for
example in another tab, would replace the session."""
LINK_SECONDS = 15 * 60
VISITOR_SECONDS = 3600
ADMIN_TOKEN = str(ActorKind.ADMIN_TOKEN)
"""The account in the audit log for a sign-in with the admin token or a one-time link."""
UNKNOWN_ACCOUNT = "unknown account"
"""The account in the audit log for an e-mail address that belongs to nobody."""
OPENID = "OpenID Connect"
"""The account in the audit log for a person who returns from the provider without being signed in there."""
_VISITOR = "visitor."
_FORM_KEY = 24
_MINUTE = 60_000
"""Milliseconds in a minute."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """A person at a browser.

    Args:
        token: value of the browser's cookie, which is secret: `visitor.` and 24 characters, or the 43 characters of a
            session.
        session: the visitor's session; None if they are not signed in.
        person: the session's person; None for the admin token.
    """

    token: str
    session: Session | None = None
    person: Person | None = None

    @property
    def is_signed_in(self) -> bool:
        return self.session is not None

    @property
    def actor(self) -> Actor:
        """The visitor, for the audit log."""
        if self.session is None:
            return Actor.anonymous()
        return Actor.person(self.person.email) if self.person else Actor.admin_token()

    def scopes(self, project: int) -> frozenset[Scope]:
        """Return the visitor's scopes in the project with that number."""
        if self.session is None:
            return frozenset()
        return self.person.scopes(project) if self.person else ALL_SCOPES


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The result of signing in: the value of the new cookie."""

    token: str


class Disabled(Exception):
    """The password was correct, but the person is disabled."""


def cookie_for(token: str) -> str:
    """Return the name of the cookie for a visitor's token."""
    return VISITOR_COOKIE if token.startswith(_VISITOR) else COOKIE


class Sessions:
    """Begins, finds and ends console sessions.

    A session is stored by a digest of the token, which only the browser has. It is therefore valid on every worker and
    host, survives a restart, and ends as soon as it is ended.

    A session of the admin token is valid as long as the token is. A session begun by a link that `serve` printed is valid
    while this server runs and no admin token is set.

    Args:
        refused: where rejected sign-ins are recorded.
        tokens: the valid admin tokens, newest first; none for signing in by links.
        seconds: how long a session lasts without a request.
        clock: seconds since 1970-01-01 UTC.
    """

    def __init__(
        self,
        service: Service,
        refused: RefusedSignIns,
        shared: SharedState,
        tokens: Sequence[str],
        seconds: int,
        clock: Callable[[], float],
    ) -> None:
        self.shared = shared
        self.link = Link(shared, clock)
        self.seconds = seconds
        self.sign_ins: dict[str, int] = {"accepted": 0, "wrong": 0, "delayed": 0}
        """Sign-in attempts since this process started. A delayed attempt came too soon after failed ones."""
        self.ended = 0
        """Sessions ended by signing out since this process started."""
        self.hashing = HashingThread()
        self._service = service
        self._refused = refused
        self._clock = clock
        self._seen: dict[bytes, int] = {}
        self._seeing = threading.Lock()
        self._has_people = False
        self.take_tokens(tokens)

    def take_tokens(self, tokens: Sequence[str]) -> None:
        """Replace the admin tokens. Sessions of a token that is not among them become invalid."""
        self._tokens = tuple(tokens)
        secrets = [token.encode() for token in tokens] or [self.shared.key]
        self._keys = [_session_key(secret) for secret in secrets]

    @property
    def takes_token(self) -> bool:
        """Return whether there is an admin token to sign in with."""
        return bool(self._tokens)

    def has_people(self) -> bool:
        """Return whether anybody has an account, or had one since this process started. Blocks; raises Unavailable."""
        self._has_people = self._has_people or bool(self._service.people())
        return self._has_people

    @staticmethod
    def new_visitor() -> Visitor:
        """Return a visitor who is not signed in."""
        return Visitor(_VISITOR + secrets.token_urlsafe(18))

    def open(self, cookie: str) -> Visitor | None:
        """Return the visitor of a cookie; None if it is invalid or its session has expired. Blocks; raises Unavailable."""
        if cookie.startswith(_VISITOR):
            return Visitor(cookie)
        found = self._service.find_session(cookie) if cookie else None
        if found is None:
            return None
        session, person = found
        if person is None and not any(hmac.compare_digest(session.proof, _proof(key, cookie)) for key in self._keys):
            return None
        return Visitor(cookie, session, person)

    def see(self, visitor: Visitor) -> int | None:
        """Mark a session as used. Returns the cookie's new lifetime in seconds; None to keep the current one.

        A session is renewed when half of its time has passed. Then this blocks, and raises Unavailable.
        """
        session = visitor.session
        if session is None:
            return VISITOR_SECONDS
        now = int(self._clock() * 1000)
        if session.expires - now <= self.seconds * 500:
            self._service.renew_session(session, self.seconds)
            return self.seconds
        if now - now % _MINUTE > session.seen:
            with self._seeing:
                self._seen[session.digest] = now - now % _MINUTE
        return None

    def keep_seen(self) -> int:
        """Store when sessions were last used, and delete some expired ones. Return how many. Blocks; raises Unavailable."""
        with self._seeing:
            seen, self._seen = self._seen, {}
        if seen:
            self._service.see_sessions(seen)
        return self._service.expire_sessions()

    def end(self, visitor: Visitor, actor: Actor) -> None:
        """Sign out. Blocks; raises Unavailable."""
        if visitor.session is not None:
            self._service.sign_out(visitor.session, actor)
            self.ended += 1

    def form_token(self, visitor: Visitor) -> str:
        """Return a token for a form in this browser: a random key and the proof that it was generated for the browser.

        Hexadecimal: `3fb1…` (24 digits, the key), `9c04…` (64 digits, the proof).
        """
        key = secrets.token_hex(_FORM_KEY // 2)
        return key + _mac(visitor.token.encode(), "form", key)

    def is_form_token(self, visitor: Visitor, sent: str) -> bool:
        """Return whether a form's token was generated for this browser."""
        key, proof = sent[:_FORM_KEY], sent[_FORM_KEY:]
        return hmac.compare_digest(proof.encode(), _mac(visitor.token.encode(), "form", key).encode())

    @staticmethod
    def derive(visitor: Visitor, purpose: str, text: str) -> str:
        """Return 64 hexadecimal digits for a text: the same throughout a session, on every host, unpredictable to others."""
        return _mac(visitor.token.encode(), f"derive {purpose}", text)

    def sign_in_by_token(self, token: str, caller: Actor, browser: str) -> SignedIn | None:
        """Begin a session if the admin token is valid; otherwise return None. Blocks.

        Args:
            caller: the request and its network address, for the audit log.
            browser: the browser's user agent.

        Raises:
            MustWait: too many attempts from this address failed.
            Unavailable: the store is down.
        """
        given = hashlib.sha256(token.encode()).digest()
        valid = [hashlib.sha256(each.encode()).digest() for each in self._tokens]
        self._begin_attempt(ADMIN_TOKEN, caller, f"token {network(caller.address)}")
        if not any(hmac.compare_digest(each, given) for each in valid):
            self._refuse(ADMIN_TOKEN, caller)
            return None
        self.shared.end_attempt(f"token {network(caller.address)}")
        return self._begin_token_session(_session_key(token.encode()), caller, browser)

    def sign_in_by_link(self, link: str, visitor: Visitor, caller: Actor, browser: str) -> SignedIn | None:
        """Use up a one-time link, and begin a session if it is valid; otherwise return None. Blocks; raises Unavailable."""
        if self.takes_token or not self.link.follow(link, visitor.token):
            self._refuse(ADMIN_TOKEN, caller)
            return None
        return self._begin_token_session(self._keys[0], caller, browser)

    def sign_in_by_password(self, email: str, password: str, caller: Actor, browser: str) -> SignedIn | None:
        """Begin a session if it is the person's password. Takes 30 ms of CPU, whether or not the person exists.

        Failures count for the account and for the address. While these delay, the password is still compared at the address
        of the person's last sign-in. So neither guesses from other addresses delay them there, nor guesses at other accounts
        from that address: nobody can lock out everybody behind the same proxy. Whoever does not know the password gets the
        same answers as for an account that does not exist.

        Raises:
            MustWait: too many attempts failed, for the account or from the address.
            Disabled: the password is correct, but the person is disabled.
            Unavailable: the store is down.
        """
        person = self._service.find_person(email)
        # Only the address of an existing account is recorded, because what was typed may be a password.
        account = person.email if person else UNKNOWN_ACCOUNT
        counted, place = f"account {email_key(email)}", network(caller.address)
        counts = (counted, f"address {place}")
        is_home = person is not None and person.last_sign_in is not None and network(person.last_address) == place
        delay = self._delay(f"{counted} at {place}" if is_home else "", counts, account, caller)
        if not is_password(person.password_hash if person else "", password) or person is None:
            self._refuse(account, caller)
            if delay:
                raise delay
            return None
        self.shared.end_attempt(f"{counted} at {place}")
        if not delay:
            # Other failures still count, because somebody with an account may guess at others. And that they are forgotten
            # would tell others that the account exists.
            self.shared.take_back(*counts)
        return self.sign_in(person, caller, browser, password)

    def _delay(self, home: str, counts: Sequence[str], account: str, caller: Actor) -> MustWait | None:
        """Count an attempt by password, and return the delay to report if the password is wrong.

        Args:
            home: what attempts from the address of the account's last sign-in are counted by; empty for other attempts.

        Raises:
            MustWait: the password must not be compared.
        """
        delay: MustWait | None = None
        try:
            self.shared.begin_attempt(*counts)
        except MustWait as wait:
            delay = wait
        try:
            if home:
                self.shared.begin_attempt(home)
        except MustWait:
            home = ""
        if delay and not home:
            self._refuse(account, caller, "delayed")
            raise delay
        return delay

    def sign_in(self, person: Person, caller: Actor, browser: str, password: str | None = None) -> SignedIn:
        """Begin a session for a person who has been authenticated, by that password or by another method. Blocks.

        Raises:
            Disabled: the person is disabled.
            Unavailable: the store is down.
        """
        token = self._service.begin_session(person, seconds=self.seconds, browser=browser, caller=caller, password=password)
        if token is None:
            self._refuse(person.email, caller)
            raise Disabled
        self.sign_ins["accepted"] += 1
        return SignedIn(token)

    def sign_in_by_openid(self, identity: Identity, rules: EntryRules, caller: Actor, browser: str) -> SignedIn:
        """Begin a session for a person whom an OpenID Connect provider has signed in. Blocks.

        Raises:
            EntryRefused: the person may not enter.
            Unavailable: the store is down.
        """
        try:
            person = self._service.enter_by_openid(identity, rules, caller=caller)
        except EntryRefused as refused:
            self.refuse_by_openid(refused.refusal, caller, refused.email or OPENID)
            raise
        try:
            return self.sign_in(person, caller, browser)
        except Disabled as disabled:
            raise EntryRefused(Refusal.DISABLED, person.email) from disabled

    def refuse_by_openid(self, reason: str, caller: Actor, account: str = OPENID) -> None:
        """Record that a person who returned from the provider was not signed in, and the reason in one word. Blocks."""
        self._refuse(account, caller, reason=reason)

    def make_link(self) -> str:
        """Return a new one-time link. Raises MustWait: the delay grows with each request."""
        # Counts as an attempt that always fails.
        self.shared.begin_attempt("a new link")
        return self.link.make()

    def _begin_attempt(self, account: str, caller: Actor, *counts: str) -> None:
        try:
            self.shared.begin_attempt(*counts)
        except MustWait:
            self._refuse(account, caller, "delayed")
            raise

    def _refuse(self, account: str, caller: Actor, result: str = "wrong", reason: str = "") -> None:
        self.sign_ins[result] += 1
        # The sign-in is rejected whether or not that can be recorded.
        with contextlib.suppress(Unavailable):
            self._refused.add(account, caller, reason)

    def _begin_token_session(self, key: bytes, caller: Actor, browser: str) -> SignedIn:
        token = self._service.begin_token_session(
            lambda token: _proof(key, token), seconds=self.seconds, browser=browser, caller=caller
        )
        self.sign_ins["accepted"] += 1
        return SignedIn(token)


def _session_key(secret: bytes) -> bytes:
    """Return the key that proves the sessions of an admin token, or of this server's one-time links."""
    return hmac.digest(secret, b"usertable console", "sha256")


def _proof(key: bytes, token: str) -> bytes:
    """Return the stored proof of an admin token's session, which can only be computed with `key`, derived from the token."""
    return hmac.digest(key, b"session " + token.encode(errors="replace"), "sha256")


def _mac(key: bytes, purpose: str, text: str) -> str:
    return hmac.new(key, f"{purpose} {text}".encode(errors="replace"), hashlib.sha256).hexdigest()


class Link:
    """One-time links, for a server without an admin token. Whoever can read the server's output can sign in.

    Args:
        shared: state created by the parent of the workers and shared with them.
        clock: seconds since 1970-01-01 UTC.
    """

    def __init__(self, shared: SharedState, clock: Callable[[], float]) -> None:
        self._shared = shared
        self._clock = clock

    def make(self) -> str:
        """Return a new link, which is valid once, for 15 minutes."""
        unsigned = f"{secrets.token_urlsafe(18)}.{int(self._clock()) + LINK_SECONDS}"
        return f"{unsigned}.{self._mac(unsigned)}"

    def holds(self, link: str) -> bool:
        """Return whether a link is still valid."""
        return self._is_ours(link) and not self._shared.is_spent("link", link.rpartition(".")[0])

    def follow(self, link: str, browser: str) -> bool:
        """Use up a link, and return whether it was valid. A second click with the same browser cookie is the same use."""
        unsigned = link.rpartition(".")[0]
        used_here = f"{unsigned} {browser}"
        if self.holds(link) and self._shared.spend("link", unsigned):
            return self._shared.spend("link", used_here)
        return self._is_ours(link) and self._shared.is_spent("link", used_here)

    def _is_ours(self, link: str) -> bool:
        unsigned, _, mac = link.rpartition(".")
        if not unsigned or not hmac.compare_digest(mac.encode(), self._mac(unsigned).encode()):
            return False
        return int(unsigned.rpartition(".")[2]) > self._clock()

    def _mac(self, unsigned: str) -> str:
        return _mac(self._shared.key, "link", unsigned)
