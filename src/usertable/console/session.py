"""Who is signed in: signed cookies, the tokens of forms, and one-time links."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from usertable.console.shared_state import MustWait, SharedState

COOKIE = "usertable_session"
LINK_SECONDS = 15 * 60
VISITOR_SECONDS = 3600
_FORM_KEY = 24

Role = Literal["admin", "visitor"]


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody at a browser: the admin, or a visitor who may sign in."""

    role: Role
    nonce: str
    expires: int
    """Seconds since 1970 UTC."""


class Sessions:
    """Makes and checks what proves that somebody signed in. Nothing of it is stored; what is ended early is noted.

    With an admin token the key comes from it: sessions outlive a restart, hold on every worker and host, and end when the
    token is changed. Without one the key is of this start of this server.

    Args:
        tokens: the admin tokens that are valid, the newest first; none to sign in by links.
        seconds: how long a session lasts without a request.
        clock: seconds since 1970 UTC.
    """

    def __init__(self, shared: SharedState, tokens: Sequence[str], seconds: int, clock: Callable[[], float]) -> None:
        self.shared = shared
        self.link = Link(shared, clock)
        self.seconds = seconds
        self.sign_ins: dict[str, int] = {"accepted": 0, "wrong": 0, "delayed": 0}
        """Attempts to sign in since this process started; a delayed one came too soon after others that failed."""
        self.ended = 0
        """Sessions that were ended by signing out."""
        self._clock = clock
        self.take_tokens(tokens)

    def take_tokens(self, tokens: Sequence[str]) -> None:
        """Go on with these admin tokens; what another one signed holds no more."""
        self._tokens = tuple(tokens)
        secrets = [token.encode() for token in tokens] or [self.shared.key]
        self._keys = [hmac.digest(secret, b"usertable console", "sha256") for secret in secrets]

    @property
    def takes_token(self) -> bool:
        """Whether there is an admin token to sign in with."""
        return bool(self._tokens)

    def begin(self, role: Role) -> Session:
        lifetime = self.seconds if role == "admin" else VISITOR_SECONDS
        return Session(role, secrets.token_urlsafe(18), int(self._clock()) + lifetime)

    def renewed(self, session: Session) -> Session | None:
        """The same session with a new end, if half of its time is over."""
        fresh = self.begin(session.role)
        left = session.expires - self._clock()
        if left > (fresh.expires - self._clock()) / 2:
            return None
        return Session(session.role, session.nonce, fresh.expires)

    def end(self, session: Session) -> None:
        """Make a session void before its time, on every worker of this server."""
        self.shared.spend(session.nonce)
        self.ended += 1

    def seal(self, session: Session) -> str:
        """The session as a cookie's value."""
        unsigned = f"{session.role}.{session.nonce}.{session.expires}"
        return f"{unsigned}.{self._mac('session', unsigned)}"

    def open(self, sealed: str) -> Session | None:
        """The session of a cookie, if it is one of ours, not over and not ended."""
        unsigned, _, mac = sealed.rpartition(".")
        if not unsigned or not self._is_mac(mac, "session", unsigned):
            return None
        role, nonce, expires = unsigned.split(".")
        session = Session("admin" if role == "admin" else "visitor", nonce, int(expires))
        return None if self.is_over(session) else session

    def is_over(self, session: Session) -> bool:
        """Whether a session's time is over, or it was ended before."""
        return session.expires <= self._clock() or self.shared.is_spent(session.nonce)

    def form_token(self, session: Session) -> str:
        """What a form of this session carries: a key that no other form has, and the proof that it was made for the session.

        Hexadecimal: `3fb1…` (24 digits, the key), `9c04…` (64 digits, the proof).
        """
        key = secrets.token_hex(_FORM_KEY // 2)
        return key + self._mac("form", f"{session.nonce} {key}")

    def is_form_token(self, session: Session, sent: str) -> bool:
        """Whether a form was made for this session."""
        key, proof = sent[:_FORM_KEY], sent[_FORM_KEY:]
        return self._is_mac(proof, "form", f"{session.nonce} {key}")

    def derive(self, purpose: str, text: str) -> str:
        """64 hexadecimal digits that only this server can tell from the text, and always the same."""
        return self._mac(f"derive {purpose}", text)

    def sign_in(self, address: str, token: str) -> bool:
        """Whether it is a valid admin token. Raises MustWait if too many of this address were not."""
        given = hashlib.sha256(token.encode()).digest()
        valid = [hashlib.sha256(each.encode()).digest() for each in self._tokens]
        try:
            passes = self.shared.attempt(address, lambda: any(hmac.compare_digest(each, given) for each in valid))
        except MustWait:
            self.sign_ins["delayed"] += 1
            raise
        self.sign_ins["accepted" if passes else "wrong"] += 1
        return passes

    def follow_link(self, link: str, browser: Session) -> bool:
        """Use a one-time link up: whether it signs in."""
        follows = not self.takes_token and self.link.follow(link, browser)
        self.sign_ins["accepted" if follows else "wrong"] += 1
        return follows

    def make_link(self) -> str:
        """A new one-time link. Raises MustWait: who asks again and again waits longer and longer."""
        # An attempt that cannot pass.
        self.shared.attempt("a new link", lambda: False)
        return self.link.make()

    def _mac(self, purpose: str, text: str) -> str:
        return _mac(self._keys[0], purpose, text)

    def _is_mac(self, mac: str, purpose: str, text: str) -> bool:
        """Whether it was made with one of the keys."""
        return any(hmac.compare_digest(mac.encode(), _mac(key, purpose, text).encode()) for key in self._keys)


def _mac(key: bytes, purpose: str, text: str) -> str:
    return hmac.new(key, f"{purpose} {text}".encode(), hashlib.sha256).hexdigest()


class Link:
    """One-time links, for a server without an admin token. Whoever can read the server's output may sign in.

    Args:
        shared: made by the parent of the workers, and shared with them.
        clock: seconds since 1970 UTC.
    """

    def __init__(self, shared: SharedState, clock: Callable[[], float]) -> None:
        self._shared = shared
        self._clock = clock

    def make(self) -> str:
        """What signs in once, within a quarter of an hour."""
        unsigned = f"{secrets.token_urlsafe(18)}.{int(self._clock()) + LINK_SECONDS}"
        return f"{unsigned}.{self._mac(unsigned)}"

    def holds(self, link: str) -> bool:
        """Whether a link would still sign in."""
        return self._is_ours(link) and not self._shared.is_spent(link.rpartition(".")[0])

    def follow(self, link: str, browser: Session) -> bool:
        """Use a link up: whether it signs in. A second click in the same browser is the same use."""
        unsigned = link.rpartition(".")[0]
        used_here = f"{unsigned} {browser.nonce}"
        if self.holds(link) and self._shared.spend(unsigned):
            return self._shared.spend(used_here)
        return self._is_ours(link) and self._shared.is_spent(used_here)

    def _is_ours(self, link: str) -> bool:
        unsigned, _, mac = link.rpartition(".")
        if not unsigned or not hmac.compare_digest(mac.encode(), self._mac(unsigned).encode()):
            return False
        return int(unsigned.rpartition(".")[2]) > self._clock()

    def _mac(self, unsigned: str) -> str:
        return hmac.new(self._shared.key, f"link {unsigned}".encode(), hashlib.sha256).hexdigest()
