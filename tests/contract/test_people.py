"""People and their sessions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from support.actors import TESTER
from support.store_harness import StoreHarness
from usertable.app.people import EXPIRED_AT_ONCE, LINK_HOURS
from usertable.commands.people import MAX_SESSIONS
from usertable.domain.actor import Actor
from usertable.domain.audit import INSTALLATION, SCHEMA_CHANGES, AuditEvent, AuditFilter, AuditKind, Fact
from usertable.domain.errors import ProblemKind, Refused
from usertable.domain.openid import EntryRefused, EntryRules, Grant, Identity, Refusal
from usertable.domain.permissions import Role, scopes_of
from usertable.domain.person import MIN_PASSWORD, OpenIdAccount, Person, Session
from usertable.store import Store
from usertable.store.transaction import Transaction

PASSWORD = "correct horse battery staple"
CALLER = Actor.anonymous().with_origin("request", "203.0.113.9")


def kinds(refused: pytest.ExceptionInfo[Refused]) -> list[ProblemKind]:
    return [problem.kind for problem in refused.value.problems]


def begin(harness: StoreHarness, person: Person, *, seconds: int = 600) -> str:
    token = harness.service.begin_session(person, seconds=seconds, browser="Browser/1.0", caller=CALLER)
    assert token is not None
    return token


def test_a_person_is_kept_as_they_are(harness: StoreHarness) -> None:
    service, project = harness.service, harness.project()
    ann = service.add_person("Ann@Example.com", name="Ann", roles={project.id: "editor"}, password=PASSWORD, actor=TESTER)
    bob = service.add_person("bob@example.com", admin=True, actor=TESTER)
    assert service.people() == [ann, bob]
    assert service.person("ann@example.COM") == ann
    assert (ann.email, ann.roles, ann.created_at, ann.created_by) == (
        "Ann@Example.com",
        {project.number: Role.EDITOR},
        harness.now,
        "cli:test",
    )
    assert PASSWORD not in repr(ann) + ann.password_hash
    assert ann.scopes(project.number) == scopes_of(Role.EDITOR)
    assert ann.scopes(project.number + 1) == frozenset()
    assert bob.scopes(project.number + 1) == scopes_of(Role.ADMIN)
    edited = service.edit_person("ANN@example.com", name="Anna", roles={project.id: None}, actor=TESTER)
    assert edited == replace(ann, name="Anna", roles={}) == service.person("ann@example.com")


@pytest.mark.parametrize("other", ["ann@example.com", "ANN@EXAMPLE.COM", " Ann@example.com "])
def test_an_address_in_two_letter_cases_is_one_persons(harness: StoreHarness, other: str) -> None:
    harness.service.add_person("Ann@Example.com", actor=TESTER)
    with pytest.raises(Refused) as refused:
        harness.service.add_person(other, actor=TESTER)
    assert kinds(refused) == [ProblemKind.PERSON_EXISTS]
    assert len(harness.service.people()) == 1


@pytest.mark.parametrize(
    "email",
    [
        "",
        "ann",
        "a/b@example.com",
        "ann@example.com:link",
        "@example.com",
        "ann@",
        "a b@example.com",
        "ann@ex\0ample.com",
        "a" * 251 + "@b.c",
    ],
)
def test_what_is_no_address_is_nobodys(harness: StoreHarness, email: str) -> None:
    with pytest.raises(Refused) as refused:
        harness.service.add_person(email, actor=TESTER)
    assert kinds(refused) == [ProblemKind.EMAIL]
    with pytest.raises(Refused) as refused:
        harness.service.person(email)
    assert kinds(refused) == [ProblemKind.PERSON_UNKNOWN]


@pytest.mark.parametrize("password", ["", "x" * (MIN_PASSWORD - 1), "é" * 600])
def test_a_password_is_judged_by_its_length_only(harness: StoreHarness, password: str) -> None:
    with pytest.raises(Refused) as refused:
        harness.service.add_person("ann@example.com", password=password, actor=TESTER)
    assert kinds(refused) == [ProblemKind.PASSWORD]
    assert harness.service.people() == []
    harness.service.add_person("ann@example.com", password=" " * MIN_PASSWORD, actor=TESTER)


def test_an_unknown_role_or_project_is_refused(harness: StoreHarness) -> None:
    project = harness.project()
    for roles, kind in (
        ({project.id: "admin"}, ProblemKind.ROLE),
        ({project.id: "chief"}, ProblemKind.ROLE),
        ({"no project": "owner"}, ProblemKind.PROJECT_UNKNOWN),
    ):
        with pytest.raises(Refused) as refused:
            harness.service.add_person("ann@example.com", roles=roles, actor=TESTER)
        assert kinds(refused) == [kind]


def test_the_last_admin_who_can_sign_in_stays_one(harness: StoreHarness) -> None:
    service = harness.service
    service.add_person("ann@example.com", admin=True, password=PASSWORD, actor=TESTER)
    # An invited admin cannot sign in yet.
    service.add_person("bob@example.com", admin=True, actor=TESTER)
    changes: list[Callable[[], Person]] = [
        lambda: service.edit_person("ann@example.com", admin=False, actor=TESTER),
        lambda: service.edit_person("ann@example.com", disabled=True, actor=TESTER),
        lambda: service.remove_person("ann@example.com", actor=TESTER),
    ]
    for change in changes:
        with pytest.raises(Refused) as refused:
            change()
        assert kinds(refused) == [ProblemKind.LAST_ADMIN]
    service.add_person("eve@example.com", admin=True, password=PASSWORD, actor=TESTER)
    service.edit_person("ann@example.com", disabled=True, actor=TESTER)
    with pytest.raises(Refused):
        service.edit_person("eve@example.com", admin=False, actor=TESTER)


def test_of_two_who_take_the_last_admins_from_each_other_one_is_refused(harness: StoreHarness) -> None:
    service = harness.service
    for email in ("ann@example.com", "bob@example.com"):
        service.add_person(email, admin=True, password=PASSWORD, actor=TESTER)
    at_once = threading.Barrier(2)

    def demote(email: str) -> bool:
        at_once.wait()
        try:
            service.edit_person(email, admin=False, actor=TESTER)
        except Refused:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(demote, ("ann@example.com", "bob@example.com")))
    assert sorted(done) == [False, True]
    assert sum(person.admin for person in service.people()) == 1


def test_the_first_person_is_only_made_where_there_is_nobody(harness: StoreHarness) -> None:
    harness.service.add_person("ann@example.com", as_first=True, actor=TESTER)
    with pytest.raises(Refused) as refused:
        harness.service.add_person("bob@example.com", as_first=True, actor=TESTER)
    assert kinds(refused) == [ProblemKind.NOT_FIRST]


def test_a_session_is_found_by_its_token_until_its_time_is_over(harness: StoreHarness) -> None:
    service = harness.service
    ann = service.add_person("ann@example.com", password=PASSWORD, actor=TESTER)
    token = begin(harness, ann)
    found = service.find_session(token)
    assert found is not None
    session, person = found
    assert person == service.person("ann@example.com")
    assert (person.last_sign_in, person.last_address) == (harness.now, "203.0.113.9")
    assert (session.begun, session.seen, session.expires) == (harness.now, harness.now, harness.now + 600_000)
    assert (session.address, session.browser) == ("203.0.113.9", "Browser/1.0")
    assert service.find_session(token + "x") is None
    assert service.find_session("") is None
    harness.now += 599_999
    assert service.find_session(token) is not None
    service.renew_session(session, 600)
    harness.now += 599_999
    assert service.find_session(token) is not None
    harness.now += 1
    assert service.find_session(token) is None
    assert service.sessions(ann) == []


def test_only_the_digest_of_a_token_is_kept(harness: StoreHarness, store: Store) -> None:
    ann = harness.service.add_person("ann@example.com", password=PASSWORD, actor=TESTER)
    token = begin(harness, ann)
    (session,) = store.sessions(ann.id)
    assert token.encode() not in session.digest
    assert token not in repr(session)


def test_when_a_session_was_last_used_never_goes_back(harness: StoreHarness, store: Store) -> None:
    ann = harness.service.add_person("ann@example.com", password=PASSWORD, actor=TESTER)
    begin(harness, ann)
    (session,) = store.sessions(ann.id)
    for seen, kept in ((harness.now + 60_000, harness.now + 60_000), (harness.now, harness.now + 60_000)):
        store.see_sessions({session.digest: seen, b"nobody's": seen})
        assert [s.seen for s in store.sessions(ann.id)] == [kept]
    store.see_sessions({})


def test_a_session_that_was_ended_is_not_renewed(harness: StoreHarness) -> None:
    service = harness.service
    ann = service.add_person("ann@example.com", password=PASSWORD, actor=TESTER)
    token = begin(harness, ann)
    (session,) = service.sessions(ann)
    service.end_session(ann, session, actor=TESTER)
    service.renew_session(session, 600)
    assert service.find_session(token) is None


def test_who_is_disabled_is_signed_out_everywhere_and_stays_out(harness: StoreHarness) -> None:
    service = harness.service
    ann = service.add_person("ann@example.com", password=PASSWORD, actor=TESTER)
    bob = service.add_person("bob@example.com", password=PASSWORD, actor=TESTER)
    tokens, bobs = [begin(harness, ann), begin(harness, ann)], begin(harness, bob)
    service.edit_person("ann@example.com", disabled=True, actor=TESTER)
    assert [service.find_session(token) for token in tokens] == [None, None]
    assert service.begin_session(ann, seconds=600, browser="", caller=CALLER) is None
    assert service.find_session(bobs) is not None
    service.edit_person("ann@example.com", disabled=False, actor=TESTER)
    assert service.find_session(tokens[0]) is None
    begin(harness, ann)


def test_sessions_are_ended_one_by_one_or_all_but_one(harness: StoreHarness) -> None:
    service = harness.service
    ann = service.add_person("ann@example.com", password=PASSWORD, actor=TESTER)
    tokens = []
    for _ in range(3):
        tokens.append(begin(harness, ann))
        harness.now += 1
    newest, middle, oldest = service.sessions(ann)
    assert [s.begun for s in (newest, middle, oldest)] == [harness.now - 1, harness.now - 2, harness.now - 3]
    service.end_session(ann, oldest, actor=TESTER)
    assert service.end_sessions(ann, but=newest.digest, actor=TESTER) == 1
    assert [service.find_session(token) is not None for token in tokens] == [False, False, True]
    assert service.end_sessions(ann, actor=TESTER) == 1
    assert service.sessions(ann) == []
    recorded = service.audit(INSTALLATION, AuditFilter(kinds={AuditKind.END_SESSIONS}), 10)
    assert service.end_sessions(ann, actor=TESTER) == 0
    # Whoever does nothing again and again fills no disk.
    assert service.audit(INSTALLATION, AuditFilter(kinds={AuditKind.END_SESSIONS}), 10) == recorded
    assert [entry.event.after["count"] for entry in recorded] == [1, 1, 1]


def test_a_removed_person_leaves_nothing_behind(harness: StoreHarness, store: Store) -> None:
    ann = harness.service.add_person("ann@example.com", password=PASSWORD, actor=TESTER)
    token = begin(harness, ann)
    harness.service.remove_person("ann@example.com", actor=TESTER)
    assert (store.people(), store.person(ann.id), store.sessions(ann.id)) == ([], None, [])
    assert harness.service.find_session(token) is None
    again = harness.service.add_person("ann@example.com", actor=TESTER)
    assert again.id != ann.id


def test_a_session_of_the_admin_token_is_nobodys(harness: StoreHarness, store: Store) -> None:
    token = harness.service.begin_token_session(lambda token: b"proof", seconds=600, browser="", caller=CALLER)
    found = harness.service.find_session(token)
    assert found is not None
    assert (found[0].person, found[0].proof, found[1]) == ("", b"proof", None)
    assert store.sessions("") == [found[0]]


def test_sessions_whose_time_is_over_are_forgotten(harness: StoreHarness, store: Store) -> None:
    ann = harness.service.add_person("ann@example.com", password=PASSWORD, actor=TESTER)
    begin(harness, ann, seconds=60)
    begin(harness, ann, seconds=600)
    harness.now += 60_001
    assert harness.service.expire_sessions() == 1
    assert [s.expires for s in store.sessions(ann.id)] == [harness.now - 1 - 60_000 + 600_000]


def test_expired_sessions_are_deleted_in_slices(harness: StoreHarness, store: Store) -> None:
    sessions = [Session(f"{n}".encode(), "gone", 0, 0, 1 + n % 2 * harness.now * 2, "", "") for n in range(1200)]

    def add(tx: Transaction) -> None:
        for session in sessions:
            tx.add_session(session)

    store.transact(add)
    deleted = [harness.service.expire_sessions() for _ in range(3)]
    assert deleted == [EXPIRED_AT_ONCE, 600 - EXPIRED_AT_ONCE, 0]
    assert len(store.sessions("gone")) == 600


def test_somebody_who_signs_in_without_end_keeps_the_sessions_that_were_used_last(harness: StoreHarness) -> None:
    ann = harness.service.add_person("ann@example.com", password=PASSWORD, actor=TESTER)
    bob = harness.service.add_person("bob@example.com", password=PASSWORD, actor=TESTER)
    bobs = begin(harness, bob)
    tokens = []
    for _ in range(MAX_SESSIONS):
        harness.now += 1000
        tokens.append(begin(harness, ann))
    first = harness.service.find_session(tokens[0])
    assert first is not None
    harness.service.see_sessions({first[0].digest: harness.now + 1})
    harness.now += 1000
    tokens.append(begin(harness, ann))
    kept = [harness.service.find_session(token) is not None for token in tokens]
    assert kept == [True, False, *[True] * (MAX_SESSIONS - 1)]
    assert harness.service.find_session(bobs) is not None


def test_the_admin_token_has_no_more_sessions_than_a_person(harness: StoreHarness, store: Store) -> None:
    for _ in range(MAX_SESSIONS + 3):
        harness.service.begin_token_session(lambda token: b"proof", seconds=600, browser="", caller=CALLER)
    assert len(store.sessions("")) == MAX_SESSIONS


def test_a_link_sets_a_password_once_and_in_time(harness: StoreHarness) -> None:
    service = harness.service
    ann = service.add_person("ann@example.com", actor=TESTER)
    _, first = service.make_password_link("ann@example.com", actor=TESTER)
    _, second = service.make_password_link("ANN@example.com", actor=TESTER)
    for void in (first, second + "x", ann.id, f"{ann.id}.", "", "nobody.x"):
        with pytest.raises(Refused) as refused:
            service.set_password_by_link(void, PASSWORD, caller=CALLER)
        assert kinds(refused) == [ProblemKind.LINK_OVER], void
    with pytest.raises(Refused) as refused:
        service.set_password_by_link(second, "short", caller=CALLER)
    assert kinds(refused) == [ProblemKind.PASSWORD]
    assert service.person_of_link(second).id == ann.id
    token = begin(harness, ann)
    assert service.set_password_by_link(second, PASSWORD, name="Ann", caller=CALLER).name == "Ann"
    assert service.find_session(token) is None
    assert service.person("ann@example.com").can_sign_in
    with pytest.raises(Refused):
        service.set_password_by_link(second, PASSWORD, caller=CALLER)
    _, third = service.make_password_link("ann@example.com", actor=TESTER)
    harness.now += LINK_HOURS * 3_600_000
    with pytest.raises(Refused) as refused:
        service.person_of_link(third)
    assert kinds(refused) == [ProblemKind.LINK_OVER]


def test_of_two_who_use_a_link_at_once_one_is_refused(harness: StoreHarness) -> None:
    service = harness.service
    service.add_person("ann@example.com", actor=TESTER)
    _, link = service.make_password_link("ann@example.com", actor=TESTER)
    at_once = threading.Barrier(2)

    def use(password: str) -> bool:
        at_once.wait()
        try:
            service.set_password_by_link(link, password, caller=CALLER)
        except Refused:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(use, (PASSWORD, PASSWORD + "2"))) == [False, True]


def test_a_password_is_changed_by_who_knows_the_old_one_and_other_sessions_end(harness: StoreHarness) -> None:
    service = harness.service
    ann = service.add_person("ann@example.com", password=PASSWORD, actor=TESTER)
    here, elsewhere = begin(harness, ann), begin(harness, ann)
    found = service.find_session(here)
    assert found is not None
    with pytest.raises(Refused) as refused:
        service.change_password(ann.id, "wrong", PASSWORD + "2", caller=CALLER)
    assert kinds(refused) == [ProblemKind.PASSWORD_WRONG]
    with pytest.raises(Refused) as refused:
        service.change_password(ann.id, PASSWORD, "short", caller=CALLER)
    assert kinds(refused) == [ProblemKind.PASSWORD]
    service.change_password(ann.id, PASSWORD, PASSWORD + "2", but=found[0].digest, caller=CALLER)
    assert service.find_session(here) is not None
    assert service.find_session(elsewhere) is None
    # A sign-in that verified the old password a moment before does not succeed.
    assert service.begin_session(ann, seconds=600, browser="", caller=CALLER, password=PASSWORD) is None


def log(store: Store, project: int = INSTALLATION) -> list[tuple[str, AuditEvent]]:
    """Return the entries of an audit log about people, oldest first, with their actors."""
    entries = store.audit(project, AuditFilter(), 100)[::-1]
    return [(entry.actor, entry.event) for entry in entries if entry.event.kind not in SCHEMA_CHANGES]


def test_a_person_keeps_the_account_that_they_sign_in_with(harness: StoreHarness, store: Store) -> None:
    service, project = harness.service, harness.project()
    rules = EntryRules(frozenset({"example.com"}), claim="groups", grants={"staff": (Grant.parse("*=editor"),)})
    account = OpenIdAccount("https://sso.example.com", "Subject/1")
    identity = Identity(account, "Ann@Example.com", is_verified=True, name="Ann", values=frozenset({"staff"}))
    ann = service.enter_by_openid(identity, rules, caller=CALLER)
    assert service.people() == [ann] == store.people()
    assert (ann.openid, ann.roles, ann.can_sign_in) == (account, {project.number: Role.EDITOR}, True)
    assert service.enter_by_openid(replace(identity, email="ann@EXAMPLE.com"), rules, caller=CALLER) == ann
    newer = replace(account, subject="Subject/2")
    for other, refusal in (
        (replace(identity, account=newer), Refusal.OTHER_ACCOUNT),
        (replace(identity, values=frozenset()), Refusal.NO_ROLE),
    ):
        with pytest.raises(EntryRefused) as refused:
            service.enter_by_openid(other, rules, caller=CALLER)
        assert refused.value.refusal is refusal
    assert service.people() == [ann]
    admins = replace(rules, grants={"staff": (Grant.parse("admin"),), "rest": (Grant.parse("*=viewer"),)})
    admin = service.enter_by_openid(identity, admins, caller=CALLER)
    assert (admin.admin, admin.roles) == (True, {})
    with pytest.raises(EntryRefused) as refused:
        service.enter_by_openid(replace(identity, values=frozenset({"rest"})), admins, caller=CALLER)
    assert refused.value.refusal is Refusal.LAST_ADMIN
    assert service.people() == [admin]


def test_the_audit_log_has_what_was_done_to_people_and_what_they_did(harness: StoreHarness, store: Store) -> None:
    service, project = harness.service, harness.project()
    ann = service.add_person("ann@example.com", roles={project.id: "viewer"}, actor=TESTER)
    service.edit_person("ann@example.com", roles={project.id: "owner"}, name="Ann", actor=TESTER)
    service.edit_person("ann@example.com", name="Ann", actor=TESTER)
    _, link = service.make_password_link("ann@example.com", actor=TESTER)
    service.set_password_by_link(link, PASSWORD, caller=CALLER)
    token = begin(harness, service.person("ann@example.com"))
    found = service.find_session(token)
    assert found is not None
    service.sign_out(found[0], Actor.person("ann@example.com"))
    begin(harness, service.person("ann@example.com"))
    service.end_sessions(ann, actor=TESTER)
    service.begin_token_session(lambda token: b"", seconds=600, browser="", caller=CALLER)
    service.remove_person("ann@example.com", actor=TESTER)
    email, tester, person = "ann@example.com", "cli:test", "person:ann@example.com"
    facts: dict[str, Fact] = {"name": "", "admin": False, "disabled": False, "roles": [f"{project.id}=viewer"]}
    after: dict[str, Fact] = {"name": "Ann", "roles": [f"{project.id}=owner"]}
    assert log(store) == [
        (tester, AuditEvent("create person", email, {}, facts)),
        (tester, AuditEvent("edit person", email, {"name": "", "roles": facts["roles"]}, after)),
        (tester, AuditEvent("make password link", email)),
        (person, AuditEvent("set password", email)),
        (person, AuditEvent("sign in", email)),
        (person, AuditEvent("sign out", email)),
        (person, AuditEvent("sign in", email)),
        (tester, AuditEvent("end sessions", email, {}, {"count": 1})),
        ("admin-token", AuditEvent("sign in", "admin-token")),
        (tester, AuditEvent("remove person", email, {**facts, **after}, {})),
    ]
    assert log(store, project.number) == [
        (tester, AuditEvent("edit member", email, {}, {"role": "viewer"})),
        (tester, AuditEvent("edit member", email, {"role": "viewer"}, {"role": "owner"})),
        (tester, AuditEvent("edit member", email, {"role": "owner"}, {})),
    ]
    signed_in = next(entry for entry in store.audit(INSTALLATION, AuditFilter(actor=person), 1, after=0))
    assert (signed_in.request_id, signed_in.address) == ("request", "203.0.113.9")
