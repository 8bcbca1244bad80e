"""Signing in by OpenID Connect, over HTTP, with a provider that can be faulty. A real one is in the browser tests."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from support.actors import TESTER
from support.cli_runner import CliRunner
from support.faulty_openid_provider import CLIENT, CLIENT_SECRET, FaultyOpenIdProvider
from support.form_browser import FormBrowser
from support.server_process import PROJECT
from usertable.app.clock import SYSTEM_CLOCK
from usertable.app.id_token import SKEW_SECONDS
from usertable.app.openid_provider import EXPIRY_SECONDS, KEYS_SECONDS, RETRY_SECONDS
from usertable.app.service import Service
from usertable.config import Config, ConfigError, load
from usertable.console.openid_flow import CALLBACK, COOKIE, FLOW_SECONDS
from usertable.domain.audit import INSTALLATION, AuditEvent, AuditFilter
from usertable.domain.permissions import Role
from usertable.domain.person import OpenIdAccount, Person
from usertable.http.server import in_background
from usertable.store import Store, open_store

PASSWORD = "correct horse battery staple"
BEGIN = "/console/sign-in/openid"
KEYS = RSAKey.generate_key(2048, {"kid": "second"}), ECKey.generate_key("P-256", {"kid": "third"})


@dataclass
class Passing:
    """A clock that runs, and that a test can also advance."""

    wall: float = 0.0
    elapsed: float = 0.0

    def seconds(self) -> float:
        return time.time() + self.wall

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.elapsed += seconds


@dataclass
class Console:
    """The console of a server with an OpenID Connect provider."""

    provider: FaultyOpenIdProvider
    store: Store
    service: Service
    passing: Passing
    browser: FormBrowser
    number: int = field(init=False)
    """The project's."""

    def __post_init__(self) -> None:
        self.number = self.service.project(PROJECT).number

    def go(self, following: str = "") -> str:
        """Sign in at the provider. Return the URL that it redirects the browser to."""
        answer = self.browser.get(BEGIN, params={"next": following} if following else {})
        assert answer.status_code == 303, answer.text
        return httpx.get(answer.headers["location"]).headers["location"]

    def sign_in(self) -> httpx.Response:
        """Sign in. Return the console's answer to the redirected browser."""
        return self.browser.get(self.go())

    def refusal(self) -> str:
        """Attempt to sign in, which is rejected. Return what the page says."""
        return refusal(self.sign_in())

    def is_signed_in(self) -> bool:
        return self.browser.get("/console/projects").status_code == 200

    def person(self) -> Person:
        return self.service.person("ann@example.com")

    def refusals(self) -> list[tuple[str, object]]:
        """Return the subjects and reasons of rejected sign-ins in the audit log, newest first."""
        return [(event.subject, event.after.get("reason")) for event in self.events("refuse sign-in")]

    def events(self, *kinds: str) -> list[AuditEvent]:
        return [entry.event for entry in self.store.audit(INSTALLATION, AuditFilter(kinds=frozenset(kinds)), 100)]


def refusal(answer: httpx.Response, status: int = 403) -> str:
    assert answer.status_code == status, answer.text
    found = re.search(r'role="alert">(.*?)</p>', answer.text)
    assert found is not None, answer.text
    return found[1]


Start = Callable[..., Console]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a server with a provider: domain example.com, roles by the claim `groups`.

    With `beside`, it is another host with the same store and provider.
    """
    with contextlib.ExitStack() as things:

        def started(beside: Console | None = None, **settings: Any) -> Console:
            passing = Passing()
            provider = FaultyOpenIdProvider(passing.seconds)
            things.callback(provider.stop)
            provider.claims["groups"] = ["staff"]
            if beside:
                store, service = beside.store, beside.service
                settings["oidc_issuer"] = beside.provider.issuer
            else:
                store = open_store("memory:")
                things.callback(store.close)
                service = Service(store, clock=lambda: int(passing.seconds() * 1000))
                service.create_project("Tests", id=PROJECT, actor=TESTER)
            config = Config(
                **{
                    "store": "memory:",
                    "port": 0,
                    "admin_token": "a-token-for-the-tests-only",
                    "oidc_issuer": provider.issuer,
                    "oidc_client_id": CLIENT,
                    "oidc_client_secret": CLIENT_SECRET,
                    "oidc_email_domains": "example.com",
                    "oidc_roles_claim": "groups",
                    "oidc_roles": f"staff:{PROJECT}=editor, leads:{PROJECT}=owner, operations:admin",
                    **settings,
                }
            )
            clock = replace(
                SYSTEM_CLOCK,
                now_ms=lambda: int(passing.seconds() * 1000),
                monotonic=lambda: time.monotonic() + passing.elapsed,
            )
            server = in_background(config, store, clock)
            browser = things.enter_context(FormBrowser(base_url=things.enter_context(server), timeout=30))
            return Console(provider, store, service, passing, browser)

        yield started


@pytest.fixture
def console(start: Start) -> Console:
    return start()


# signing in


def test_somebody_signs_in_and_is_a_person_with_the_roles_of_their_groups(console: Console) -> None:
    answer = console.browser.get(console.go(f"/console/projects/{PROJECT}/attributes"))
    assert (answer.status_code, answer.headers["location"]) == (303, f"/console/projects/{PROJECT}/attributes")
    assert console.is_signed_in()
    ann = console.person()
    assert (ann.email, ann.name, ann.admin, ann.roles) == (
        "Ann@Example.com",
        "Ann Example",
        False,
        {console.number: Role.EDITOR},
    )
    assert ann.openid == OpenIdAccount(console.provider.issuer, "subject-of-ann")
    assert ann.last_sign_in is not None
    created, signed_in = console.events("create person", "sign in")[::-1]
    assert created.after["openid"] == f"subject-of-ann of {console.provider.issuer}"
    assert (created.after["roles"], signed_in.subject) == ([f"{PROJECT}=editor"], "Ann@Example.com")


def test_the_provider_is_told_no_more_than_it_must_know(console: Console) -> None:
    console.sign_in()
    asked = console.provider.asked
    assert asked | {"state": "", "nonce": "", "code_challenge": ""} == {
        "response_type": "code",
        "client_id": CLIENT,
        "redirect_uri": f"{str(console.browser.base_url).rstrip('/')}{CALLBACK}",
        "scope": "openid email profile",
        "state": "",
        "nonce": "",
        "code_challenge": "",
        "code_challenge_method": "S256",
    }
    assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3
    console.sign_in()
    assert console.provider.asked["state"] != asked["state"]
    assert console.provider.asked["nonce"] != asked["nonce"]


def test_the_provider_sends_the_browser_back_to_the_public_url(start: Start) -> None:
    console = start(public_url="https://users.example.com/usertable")
    console.provider.metadata["end_session_endpoint"] = f"{console.provider.issuer}/logout"
    answer = console.browser.get(f"/usertable{BEGIN}")
    assert "; Path=/usertable/console; SameSite=lax; Secure" in answer.headers["set-cookie"]
    callback = httpx.get(answer.headers["location"]).headers["location"]
    assert callback.startswith(f"https://users.example.com/usertable{CALLBACK}?")
    cookie = answer.headers["set-cookie"].partition(";")[0]
    entered = console.browser.get(callback.removeprefix("https://users.example.com/usertable"), headers={"Cookie": cookie})
    assert (entered.status_code, entered.headers["location"]) == (303, "/usertable/console/projects")
    page = console.browser.get(f"{BEGIN}/sign-out").text
    assert "post_logout_redirect_uri=https%3A%2F%2Fusers.example.com%2Fusertable%2Fconsole%2Fsign-in%3Fdone" in page


@pytest.mark.parametrize("methods", [["client_secret_basic"], ["client_secret_post", "client_secret_basic"], None])
def test_the_client_proves_itself_as_the_provider_asks(start: Start, methods: list[str] | None) -> None:
    console = start()
    console.provider.metadata["token_endpoint_auth_methods_supported"] = methods
    assert console.sign_in().status_code == 303


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(KEYS[0], "PS256"), (KEYS[0], "RS512"), (KEYS[1], "ES256")],
    ids=["PS256", "RS512", "ES256"],
)
def test_tokens_may_be_signed_with_any_public_key_algorithm(console: Console, key: Any, algorithm: str) -> None:
    provider = console.provider
    provider.key, provider.header["alg"] = key, algorithm
    provider.published = [key, provider.published[0]]
    assert console.sign_in().status_code == 303


def test_a_token_without_a_key_id_is_checked_with_the_only_key_that_fits(console: Console) -> None:
    console.provider.header["kid"] = None
    console.provider.published.append(KEYS[1])
    assert console.sign_in().status_code == 303


def test_claims_that_the_token_lacks_come_from_the_user_info_endpoint(console: Console) -> None:
    provider = console.provider
    provider.claims |= {"email": None, "email_verified": None, "groups": None}
    provider.user_info = {
        "sub": "subject-of-ann",
        "email": "ann@example.com",
        "email_verified": "true",
        "groups": "operations",
    }
    assert console.sign_in().status_code == 303
    assert console.person().admin


def test_the_user_info_of_somebody_else_is_rejected(console: Console) -> None:
    console.provider.claims["email"] = None
    console.provider.user_info = {"sub": "somebody else", "email": "ann@example.com", "email_verified": True}
    assert "failed a check (sub)" in console.refusal()


def test_an_address_in_another_letter_case_is_the_same_person(console: Console) -> None:
    console.sign_in()
    console.provider.claims["email"] = "ANN@EXAMPLE.COM"
    assert console.sign_in().status_code == 303
    assert [person.email for person in console.service.people()] == ["Ann@Example.com"]


def test_one_account_of_the_provider_is_one_person_whatever_its_address_becomes(console: Console) -> None:
    console.sign_in()
    console.provider.claims["email"] = "ann.married@example.com"
    assert console.sign_in().status_code == 303
    assert [person.email for person in console.service.people()] == ["Ann@Example.com"]
    console.provider.claims["groups"] = ["leads"]
    console.sign_in()
    (entry,) = console.store.audit(INSTALLATION, AuditFilter(kinds=frozenset({"refresh roles"})), 100)
    assert (entry.actor, entry.event.subject) == ("person:Ann@Example.com", "Ann@Example.com")


# who may enter


@pytest.mark.parametrize(
    ("claims", "said", "reason", "account"),
    [
        ({"email": "ann@other.example"}, "is not of a domain that may sign in", "email_domain", "ann@other.example"),
        ({"email": "ann@notexample.com"}, "is not of a domain", "email_domain", "ann@notexample.com"),
        ({"email": "ann@example.com.evil"}, "is not of a domain", "email_domain", "ann@example.com.evil"),
        ({"email_verified": False}, "does not say that Ann@Example.com is verified", "email_unverified", "Ann@Example.com"),
        ({"email_verified": None}, "ask an admin to set oidc_trust_email", "email_unverified", "Ann@Example.com"),
        ({"email": None}, "did not provide a valid e-mail address", "email_missing", "OpenID Connect"),
        ({"email": "no address"}, "did not provide a valid e-mail address", "email_missing", "OpenID Connect"),
        ({"email": ["ann@example.com"]}, "did not provide a valid", "email_missing", "OpenID Connect"),
        ({"groups": ["visitors"]}, "no value of the claim groups gives one", "no_role", "Ann@Example.com"),
        ({"groups": None}, "no value of the claim groups gives one", "no_role", "Ann@Example.com"),
        ({"groups": {"staff": True}}, "no value of the claim groups gives one", "no_role", "Ann@Example.com"),
    ],
)
def test_whoever_may_not_enter_is_told_what_is_missing(
    console: Console, claims: dict[str, Any], said: str, reason: str, account: str
) -> None:
    console.provider.claims |= claims
    assert said in console.refusal()
    assert not console.is_signed_in()
    assert console.service.people() == []
    assert console.refusals() == [(account, reason)]


def test_an_unverified_address_is_taken_where_the_setting_says_so(start: Start) -> None:
    console = start(oidc_trust_email=True)
    console.provider.claims["email_verified"] = None
    assert console.sign_in().status_code == 303


def test_the_address_may_be_in_another_claim_that_the_setting_trusts(start: Start) -> None:
    console = start(oidc_email_claim="enterprise_email", oidc_trust_email=True)
    console.provider.claims |= {"email": "ann@private.example", "enterprise_email": "ann@example.com"}
    assert console.sign_in().status_code == 303
    assert console.person().email == "ann@example.com"


def test_roles_follow_the_groups_at_each_sign_in_and_the_log_has_it(console: Console) -> None:
    console.provider.claims["groups"] = ["staff", "leads"]
    console.sign_in()
    assert console.person().roles == {console.number: Role.OWNER}
    console.provider.claims["groups"] = ["operations"]
    console.sign_in()
    assert (console.person().admin, console.person().roles) == (True, {})
    (refreshed,) = console.events("refresh roles")
    assert (refreshed.before, refreshed.after) == (
        {"admin": False, "roles": [f"{PROJECT}=owner"]},
        {"admin": True, "roles": []},
    )
    console.sign_in()
    assert len(console.events("refresh roles")) == 1


def test_whoever_left_all_groups_may_not_enter_any_more(console: Console) -> None:
    console.sign_in()
    console.provider.claims["groups"] = []
    assert "no value of the claim groups gives one" in console.refusal()


def test_the_last_admin_stays_one_whatever_the_provider_says(console: Console) -> None:
    console.provider.claims["groups"] = ["operations"]
    console.sign_in()
    console.provider.claims["groups"] = ["staff"]
    assert "no other admin is left" in console.refusal()
    assert console.person().admin
    assert console.refusals() == [("Ann@Example.com", "last_admin")]


def test_roles_may_be_in_an_object_for_everybody_and_in_every_project(start: Start) -> None:
    console = start(
        oidc_roles_claim="realm_access.roles", oidc_roles="a:b:*=owner", oidc_default_roles=f"*=viewer, {PROJECT}=editor"
    )
    second, _ = console.service.create_project("Second", actor=TESTER)
    console.provider.claims["realm_access"] = {"roles": ["a:b", "other"]}
    console.sign_in()
    assert console.person().roles == {console.number: Role.OWNER, second.number: Role.OWNER}
    console.provider.claims["realm_access"] = {"roles": []}
    console.sign_in()
    assert console.person().roles == {console.number: Role.EDITOR, second.number: Role.VIEWER}


def test_without_a_claim_only_those_enter_who_were_added_or_all_with_the_default_roles(start: Start) -> None:
    console = start(oidc_roles_claim="", oidc_roles="")
    assert "Nobody has added Ann@Example.com yet" in console.refusal()
    console.service.add_person("ann@example.com", roles={PROJECT: "viewer"}, actor=TESTER)
    assert console.sign_in().status_code == 303
    assert console.person().roles == {console.number: Role.VIEWER}
    console.service.edit_person("ann@example.com", roles={PROJECT: "owner"}, actor=TESTER)
    assert console.sign_in().status_code == 303
    assert console.person().roles == {console.number: Role.OWNER}
    other = start(oidc_roles_claim="", oidc_roles="", oidc_default_roles=f"{PROJECT}=viewer")
    assert other.sign_in().status_code == 303
    assert other.person().roles == {other.number: Role.VIEWER}


# accounts that are there already


def test_a_person_with_the_address_is_linked_where_domains_are_allowed_by_name(console: Console) -> None:
    before = console.service.add_person("ANN@example.com", password=PASSWORD, roles={PROJECT: "editor"}, actor=TESTER)
    assert console.sign_in().status_code == 303
    after = console.person()
    assert (after.id, after.email, after.password_hash) == (before.id, "ANN@example.com", before.password_hash)
    (linked,) = console.events("link person")
    assert (linked.subject, linked.before) == ("ANN@example.com", {})
    assert linked.after == {"openid": f"subject-of-ann of {console.provider.issuer}"}
    console.sign_in()
    assert len(console.events("link person")) == 1
    console.browser.cookies.clear()
    assert console.browser.sign_in_as("ann@example.com", PASSWORD).status_code == 303


def test_a_person_with_the_address_is_not_linked_where_all_domains_are_allowed(start: Start) -> None:
    console = start(oidc_email_domains="")
    console.service.add_person("ann@example.com", password=PASSWORD, admin=True, actor=TESTER)
    assert "has an account already" in console.refusal()
    assert (console.person().openid, console.person().admin) == (None, True)
    assert console.refusals() == [("ann@example.com", "link_not_allowed")]


def test_a_linked_person_is_not_taken_over_by_another_account_with_the_address(console: Console) -> None:
    console.sign_in()
    console.provider.claims["sub"] = "somebody else"
    assert "is linked to another account" in console.refusal()
    assert console.refusals() == [("Ann@Example.com", "other_account")]


@pytest.mark.parametrize("is_linked", [True, False])
def test_a_disabled_person_may_not_enter(console: Console, is_linked: bool) -> None:
    if is_linked:
        console.sign_in()
    else:
        console.service.add_person("ann@example.com", password=PASSWORD, actor=TESTER)
    console.service.edit_person("ann@example.com", disabled=True, actor=TESTER)
    assert "is disabled" in console.refusal()
    assert not console.is_signed_in()
    assert console.refusals() == [(console.person().email, "disabled")]


# state, code and the browser


def test_a_callback_is_used_once(console: Console) -> None:
    callback = console.go()
    cookie = console.browser.cookies[COOKIE]
    assert console.browser.get(callback).status_code == 303
    assert "not started in this browser" in refusal(console.browser.get(callback))
    # With the cookie that the browser had, too.
    console.browser.cookies.clear()
    console.browser.cookies.set(COOKIE, cookie)
    assert "was already used once" in refusal(console.browser.get(callback))
    assert not console.is_signed_in()
    assert console.provider.requests["/token"] == 1
    assert [reason for _, reason in console.refusals()] == ["state"]


def test_one_host_finishes_what_another_began_and_a_callback_is_used_once_on_both(start: Start) -> None:
    first = start(public_url="http://users.example.com")
    second = start(beside=first, public_url="http://users.example.com")
    path = first.go().removeprefix("http://users.example.com")
    cookie = {"Cookie": f"{COOKIE}={first.browser.cookies[COOKIE]}"}

    def come_back(console: Console) -> httpx.Response:
        return httpx.get(console.browser.base_url.join(path), headers=cookie)

    assert come_back(second).status_code == 303
    assert "invalid_grant (the code is unknown)" in refusal(come_back(first))
    assert "was already used once" in refusal(come_back(first))
    assert "was already used once" in refusal(come_back(second))


def test_a_code_that_was_used_is_refused_by_the_provider(console: Console) -> None:
    used = re.search(r"code=([^&]+)", console.go())
    assert used is not None
    state = console.provider.asked["state"]
    console.browser.get(CALLBACK, params={"code": used[1], "state": state})
    console.provider.authorization["code"] = used[1]
    assert "invalid_grant (the code is unknown)" in console.refusal()


@pytest.mark.parametrize("state", [None, "", "0" * 64, "ü"])
def test_a_callback_without_the_state_that_was_begun_is_refused(console: Console, state: str | None) -> None:
    console.provider.authorization["state"] = state
    assert "not started in this browser" in console.refusal()
    assert console.provider.requests["/token"] == 0
    assert console.refusals() == [("OpenID Connect", "state")]


def test_a_callback_in_another_browser_is_refused(console: Console) -> None:
    callback = console.go()
    with FormBrowser(base_url=console.browser.base_url) as other:
        assert "not started in this browser" in refusal(other.get(callback))
        other.get(BEGIN)
        assert "not started in this browser" in refusal(other.get(callback))
    assert console.browser.get(callback).status_code == 303


def test_a_sign_in_that_took_too_long_is_refused(console: Console) -> None:
    callback = console.go()
    console.passing.wall += FLOW_SECONDS + 1
    assert "more than 10 minutes ago" in refusal(console.browser.get(callback))


@pytest.mark.parametrize("cookie", ["", ".", "x" * 43 + ".1.", "x" * 43 + ".99999999999999999.", "signed-in"])
def test_a_cookie_of_another_form_is_none(console: Console, cookie: str) -> None:
    callback = console.go()
    console.browser.cookies.clear()
    console.browser.cookies.set(COOKIE, cookie)
    assert "not started in this browser" in refusal(console.browser.get(callback))


def test_one_is_led_to_pages_of_the_console_only(console: Console) -> None:
    answer = console.browser.get(console.go("https://evil.example/console/projects"))
    assert answer.headers["location"] == "/console/projects"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"error": "access_denied"}, "The sign-in was canceled, or SSO denied it."),
        ({"error": "login_required"}, "SSO returned an error: login_required."),
        ({"error": "server_error", "error_description": "<b>down</b>"}, "server_error (&lt;b&gt;down&lt;/b&gt;)."),
        ({"code": None}, "not started in this browser"),
    ],
)
def test_an_error_of_the_provider_is_shown_as_it_is(console: Console, given: dict[str, str | None], said: str) -> None:
    console.provider.authorization |= {"code": None, **given}
    assert said in console.refusal()
    assert console.refusals() == [("OpenID Connect", given.get("error") or "code")]


def test_what_only_the_browser_says_is_not_logged(console: Console, caplog: pytest.LogCaptureFixture) -> None:
    console.provider.authorization |= {"code": None, "error": "unauthorized_client"}
    assert "SSO returned an error: unauthorized_client." in console.refusal()
    console.provider.authorization = {"iss": "https://other.example"}
    assert "failed a check (iss)" in console.refusal()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_an_error_with_another_state_is_not_shown(console: Console) -> None:
    console.provider.authorization |= {"error": "call this number", "state": "x"}
    assert "call this number" not in console.refusal()


def test_a_client_that_the_provider_does_not_know_is_the_admins_to_mend(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    console = start(oidc_client_secret="another")
    answer = console.sign_in()
    assert "check oidc_client_id and oidc_client_secret" in refusal(answer, 503)
    assert "rejects oidc_client_id or oidc_client_secret: invalid_client" in caplog.text


@pytest.mark.parametrize(
    ("given", "is_supported", "status"), [("issuer", True, 303), ("", True, 403), ("", False, 303), ("other", False, 403)]
)
def test_the_issuer_of_the_answer_is_checked(start: Start, given: str, is_supported: bool, status: int) -> None:
    console = start()
    console.provider.metadata["authorization_response_iss_parameter_supported"] = is_supported
    if given:
        console.provider.authorization["iss"] = console.provider.issuer if given == "issuer" else "https://other.example"
    assert console.sign_in().status_code == status


# the ID token


@pytest.mark.parametrize(
    ("claims", "check"),
    [
        ({"iss": "https://other.example"}, "iss"),
        ({"iss": None}, "iss"),
        ({"aud": "another client"}, "aud"),
        ({"aud": ["another client"]}, "aud"),
        ({"aud": None}, "aud"),
        ({"aud": [CLIENT, "another client"]}, "azp"),
        ({"aud": [CLIENT, "another client"], "azp": "another client"}, "azp"),
        ({"azp": "another client"}, "azp"),
        ({"nonce": "another"}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"sub": None}, "sub"),
        ({"sub": ""}, "sub"),
        ({"sub": 7}, "sub"),
        ({"sub": "x" * 256}, "sub"),
        ({"sub": "a\0b"}, "sub"),
        ({"exp": None}, "exp"),
        ({"exp": "tomorrow"}, "exp"),
        ({"iat": None}, "iat"),
        ({"at_hash": "another"}, "at_hash"),
    ],
)
def test_a_token_with_a_wrong_claim_is_rejected(
    console: Console, caplog: pytest.LogCaptureFixture, claims: dict[str, Any], check: str
) -> None:
    console.provider.claims |= claims
    assert f"failed a check ({check})" in console.refusal()
    assert not console.is_signed_in()
    assert console.refusals() == [("OpenID Connect", check)]
    (line,) = [record for record in caplog.records if "was rejected" in record.getMessage()]
    assert line.levelno == logging.WARNING
    assert "Ann" not in line.getMessage()


def test_a_token_for_several_clients_is_taken_if_it_was_made_for_this_one(console: Console) -> None:
    console.provider.claims |= {"aud": [CLIENT, "another client"], "azp": CLIENT}
    assert console.sign_in().status_code == 303


@pytest.mark.parametrize(
    ("claim", "seconds", "status"),
    [
        ("exp", -SKEW_SECONDS + 10, 303),
        ("exp", -SKEW_SECONDS - 1, 403),
        ("iat", SKEW_SECONDS - 10, 303),
        ("iat", SKEW_SECONDS + 10, 403),
        ("nbf", SKEW_SECONDS - 10, 303),
        ("nbf", SKEW_SECONDS + 10, 403),
    ],
)
def test_clocks_may_differ_by_a_minute(console: Console, claim: str, seconds: int, status: int) -> None:
    console.provider.claims[claim] = int(console.passing.seconds()) + seconds
    assert console.sign_in().status_code == status


def unsigned(header: dict[str, Any], claims: dict[str, Any]) -> str:
    parts = [json.dumps(part).encode() for part in ({**header, "alg": "none"}, claims)]
    return ".".join([*(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts), ""])


def signed_with_the_public_key(console: Console) -> Callable[[dict[str, Any], dict[str, Any]], str]:
    public = console.provider.key.as_pem(private=False)  # type: ignore[union-attr]

    def sign(header: dict[str, Any], claims: dict[str, Any]) -> str:
        # What a library would verify that takes the algorithm from the token.
        key = OctKey.import_key(public.replace(b"-----BEGIN PUBLIC KEY-----", b""))
        return jwt.encode({**header, "alg": "HS256"}, claims, key, algorithms=["HS256"])

    return sign


def signed_with_the_client_secret(header: dict[str, Any], claims: dict[str, Any]) -> str:
    key = OctKey.import_key(CLIENT_SECRET * 2)
    return jwt.encode({**header, "alg": "HS256"}, claims, key, algorithms=["HS256"])


def signed_with_another_key(header: dict[str, Any], claims: dict[str, Any]) -> str:
    return jwt.encode(header, claims, KEYS[0], algorithms=["RS256"])


def signed_by_another_kind_of_key(header: dict[str, Any], claims: dict[str, Any]) -> str:
    return jwt.encode({**header, "alg": "ES256"}, claims, KEYS[1], algorithms=["ES256"])


@pytest.mark.parametrize(
    "sign",
    [
        unsigned,
        signed_with_the_client_secret,
        signed_with_another_key,
        signed_by_another_kind_of_key,
        lambda *_: "no.token.",
        lambda *_: "",
        lambda *_: "ü.ü.ü",
    ],
)
def test_a_token_with_another_signature_is_rejected(
    console: Console, sign: Callable[[dict[str, Any], dict[str, Any]], str]
) -> None:
    console.provider.sign = sign
    assert "failed a check (signature)" in console.refusal()
    assert not console.is_signed_in()


def test_a_token_signed_with_the_public_key_as_a_secret_is_rejected(console: Console) -> None:
    console.provider.sign = signed_with_the_public_key(console)
    assert "failed a check (signature)" in console.refusal()


# keys that are new, and a provider that is down


def test_a_rotated_key_is_fetched_once_it_is_met_and_not_more_often_than_it_may_be(console: Console) -> None:
    provider = console.provider
    assert console.sign_in().status_code == 303
    provider.key = KEYS[0]
    for _ in range(3):
        assert "failed a check (key)" in console.refusal()
    assert provider.requests["/jwks"] == 1
    provider.published = [KEYS[0]]
    console.passing.advance(KEYS_SECONDS)
    assert console.sign_in().status_code == 303
    assert console.sign_in().status_code == 303
    assert provider.requests["/jwks"] == 2


def test_the_configuration_is_fetched_once_until_it_is_too_old(console: Console) -> None:
    for _ in range(3):
        assert console.sign_in().status_code == 303
    assert [console.provider.requests[path] for path in ("/.well-known/openid-configuration", "/jwks")] == [1, 1]
    console.browser.close()
    console.passing.advance(EXPIRY_SECONDS)
    with FormBrowser(base_url=console.browser.base_url, timeout=30) as console.browser:
        assert console.sign_in().status_code == 303
    assert [console.provider.requests[path] for path in ("/.well-known/openid-configuration", "/jwks")] == [2, 2]


def test_while_the_provider_is_down_one_signs_in_with_a_password(console: Console, caplog: pytest.LogCaptureFixture) -> None:
    configuration = "/.well-known/openid-configuration"
    console.service.add_person("ann@example.com", password=PASSWORD, admin=True, actor=TESTER)
    console.provider.answers[configuration] = 502, b"<html>"
    said = refusal(console.browser.get(f"{BEGIN}?next=/console/new-project"), 503)
    assert said.startswith("Can&#39;t reach SSO right now.")
    assert f"{configuration} answers with 502" in caplog.text
    refusal(console.browser.get(BEGIN), 503)
    assert console.provider.requests[configuration] == 1
    assert console.browser.sign_in_as("ann@example.com", PASSWORD).status_code == 303
    console.browser.submit("/console/sign-out")
    del console.provider.answers[configuration]
    console.provider.claims["groups"] = ["operations"]
    console.passing.advance(RETRY_SECONDS)
    assert console.sign_in().status_code == 303


@pytest.mark.parametrize("path", ["/token", "/jwks", "/.well-known/openid-configuration"])
@pytest.mark.parametrize("answer", [(500, b""), (200, b"<html>"), (200, b"[]"), (404, b"nothing")])
def test_an_answer_that_is_none_is_the_provider_being_down(console: Console, path: str, answer: tuple[int, bytes]) -> None:
    console.provider.answers[path] = answer
    refused = console.browser.get(BEGIN) if path.startswith("/.well-known") else console.sign_in()
    assert "Can&#39;t reach SSO" in refusal(refused, 503)
    assert console.refusals() == [("OpenID Connect", "provider")]


def test_a_provider_that_is_gone_is_down(console: Console, caplog: pytest.LogCaptureFixture) -> None:
    callback = console.go()
    console.provider.stop()
    assert "Can&#39;t reach" in refusal(console.browser.get(callback), 503)
    assert "cannot be used: http://127.0.0.1:" in caplog.text


def test_a_provider_that_hangs_is_down(
    console: Console, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        console.provider.metadata["token_endpoint"] = f"http://127.0.0.1:{silent.getsockname()[1]}/token"
        callback = console.go()
        monkeypatch.setattr("usertable.app.openid_provider.TOTAL_SECONDS", 0.05)
        assert "Can&#39;t reach SSO" in refusal(console.browser.get(callback), 503)
    assert "/token: no answer within 0.05 s" in caplog.text


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"issuer": "https://other.example"}, "and the provider there is https://other.example"),
        ({"token_endpoint": "http://sso.example.com/token"}, "is not an https URL"),
        ({"jwks_uri": "file:///etc/passwd"}, "is not an https URL"),
        ({"authorization_endpoint": "javascript:alert(1)"}, "is not an https URL"),
        ({"end_session_endpoint": "http://sso.example.com/"}, "is not an https URL"),
        ({"token_endpoint": None}, "token_endpoint"),
    ],
)
def test_a_configuration_that_is_not_to_be_trusted_is_not_used(
    console: Console, caplog: pytest.LogCaptureFixture, metadata: dict[str, Any], said: str
) -> None:
    console.provider.metadata |= metadata
    refusal(console.browser.get(BEGIN), 503)
    assert said in caplog.text


# signing out


def test_whoever_signs_out_is_led_to_the_provider_if_it_offers_that(console: Console) -> None:
    console.provider.metadata["end_session_endpoint"] = f"{console.provider.issuer}/logout?a=b"
    console.sign_in()
    console.browser.page("/console/projects")
    answer = console.browser.submit("/console/sign-out")
    assert answer.headers["location"] == f"{BEGIN}/sign-out"
    assert not console.is_signed_in()
    page = console.browser.get(answer.headers["location"])
    base = str(console.browser.base_url).rstrip("/").replace(":", "%3A").replace("/", "%2F")
    there = f"{console.provider.issuer}/logout?a=b&amp;client_id={CLIENT}&amp;post_logout_redirect_uri={base}%2Fconsole%2F"
    assert f'<meta http-equiv="refresh" content="0; url={there}' in page.text
    assert COOKIE not in console.browser.cookies


def test_whoever_signed_in_with_a_password_is_not_led_to_the_provider(console: Console) -> None:
    console.provider.metadata["end_session_endpoint"] = f"{console.provider.issuer}/logout"
    console.service.add_person("ann@example.com", password=PASSWORD, admin=True, actor=TESTER)
    console.browser.sign_in_as("ann@example.com", PASSWORD)
    assert console.browser.submit("/console/sign-out").headers["location"] == "/console/sign-in?done=signed_out"


@pytest.mark.parametrize("is_down", [True, False])
def test_a_provider_without_sign_out_or_one_that_is_down_keeps_nobody_signed_in(start: Start, is_down: bool) -> None:
    console = start()
    console.sign_in()
    console.browser.page("/console/projects")
    if is_down:
        console.passing.advance(EXPIRY_SECONDS - 530)
        console.provider.answers["/.well-known/openid-configuration"] = 500, b""
    leading = console.browser.submit("/console/sign-out").headers["location"]
    assert console.browser.get(leading).headers["location"] == "/console/sign-in?done=signed_out"
    assert not console.is_signed_in()


# a server without a provider, and one that is set up wrong


def test_a_server_without_a_provider_has_no_such_pages(start: Start) -> None:
    console = start(**dict.fromkeys(("oidc_issuer", "oidc_client_id", "oidc_client_secret"), ""))
    assert "/sign-in/openid" not in console.browser.get("/console/sign-in").text
    assert [console.browser.get(path).status_code for path in (BEGIN, CALLBACK)] == [404, 404]


WHOLE = {"oidc_issuer": "https://sso.example.com", "oidc_client_id": "usertable", "oidc_client_secret": "hush"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"oidc_issuer": "https://sso.example.com"}, "oidc_issuer is set, but oidc_client_id is not"),
        ({"oidc_client_id": "x"}, "oidc_client_id is set, but oidc_issuer is not"),
        ({"oidc_client_secret": "x"}, "oidc_client_secret is set, but oidc_issuer and oidc_client_id are not"),
        ({"oidc_email_domains": "example.com"}, "oidc_email_domains is set, but oidc_issuer and oidc_client_id are not"),
        (WHOLE | {"oidc_roles_claim": "groups"}, "oidc_roles_claim is set, but oidc_roles is not"),
        (WHOLE | {"oidc_roles": "a:admin"}, "oidc_roles is set, but oidc_roles_claim is not"),
        (WHOLE | {"oidc_issuer": "http://sso.example.com"}, "oidc_issuer is 'http://sso.example.com'; expected"),
        (WHOLE | {"oidc_issuer": "sso.example.com"}, "oidc_issuer is 'sso.example.com'; expected"),
        (WHOLE | {"oidc_issuer": "https://sso.example.com/?a"}, "expected the provider's issuer"),
        (WHOLE | {"oidc_email_claim": "mail"}, "set oidc_trust_email to accept its addresses"),
        (WHOLE | {"oidc_scopes": "email"}, "it must contain openid"),
        (WHOLE | {"oidc_email_domains": "@example.com"}, "oidc_email_domains has '@example.com'"),
        (WHOLE | {"oidc_roles_claim": "g", "oidc_roles": "staff"}, "oidc_roles has 'staff'; expected VALUE:admin"),
        (WHOLE | {"oidc_roles_claim": "g", "oidc_roles": "a:100102=boss"}, "oidc_roles has 'a:100102=boss'"),
        (WHOLE | {"oidc_roles_claim": "g", "oidc_roles": ":admin"}, "oidc_roles has ':admin'"),
        (WHOLE | {"oidc_default_roles": "viewer"}, "oidc_default_roles has 'viewer'; expected admin or PROJECT=ROLE"),
    ],
)
def test_a_half_set_provider_refuses_to_start_and_says_what_is_missing(settings: dict[str, str], said: str) -> None:
    environment = {f"USERTABLE_{name.upper()}": value for name, value in settings.items()}
    with pytest.raises(ConfigError) as refused:
        load({}, environment)
    assert said in str(refused.value)
    assert "hush" not in str(refused.value)


def test_the_client_secret_is_not_shown_with_the_settings() -> None:
    environment: dict[str, str | None] = {f"USERTABLE_{name.upper()}": value for name, value in WHOLE.items()}
    shown = CliRunner("memory:", environment).json("config")
    assert (shown["oidc_client_id"]["value"], shown["oidc_client_secret"]["value"]) == ("usertable", "********")
