"""A project's keys: created, listed, revoked, and which of them a secret belongs to."""

from __future__ import annotations

import asyncio
import os
import time
from base64 import b64encode
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from support.actors import TESTER
from support.commands import add_project, edit_project
from support.manual_clock import ManualClock
from support.store_harness import StoreHarness
from usertable.app.access import Authenticator, KeyChanged, ProjectAccess
from usertable.app.batches import BatchEntry, BatchWriter
from usertable.app.imports import RowImporter
from usertable.app.limits import SharedCounts
from usertable.app.secrets import slow_hash
from usertable.app.verification import FAILURES_AT_ONCE
from usertable.commands.write import WriteBatch
from usertable.domain.actor import Actor
from usertable.domain.arrival import Arrivals
from usertable.domain.audit import AuditEvent, AuditKind
from usertable.domain.errors import Overloaded, ProblemKind, Refused
from usertable.domain.key import DEFAULT_KEY, MAX_OWN_SECRETS, Key, KeyPosition, KeyState
from usertable.domain.merge import decide
from usertable.domain.permissions import ALL_SCOPES, PROJECT_SCOPES, Scope
from usertable.domain.schema import Project
from usertable.http.admission import admit
from usertable.pipeline.channel import ThreadChannel
from usertable.pipeline.group_commit import GroupCommit
from usertable.store.encoding import decode_key, encode_key
from usertable.store.records import Result, Written

OLDER = Actor.cli("older")
HERE = ("192.0.2.1", 5000)
READ = [Scope.READ]
UNKNOWN = Project(0, "unknown", "unknown", b"salt", slow_hash("secret", b"salt"), "UTC", None, 1_700_000_000_000)
"""A project created by an older usertable, which has no keys. The secret is `secret`."""


def header(secret: str, project: str = "one") -> bytes:
    return b"Basic " + b64encode(f"{project}:{secret}".encode())


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def new_key(harness: StoreHarness, name: str, scopes: list[Scope] | None = None, **settings: Any) -> str:
    """Create a key, and return its secret."""
    wanted = READ if scopes is None else scopes
    return harness.service.create_key("one", name, wanted, **{"granted": ALL_SCOPES, "actor": TESTER, **settings})[1]


def key_of(harness: StoreHarness, secret: str) -> str | None:
    """Return the name of the key with this secret."""
    caller = harness.service.verify("one", secret)
    return caller.match.key if caller else None


def refused_kind(harness: StoreHarness, name: str, scopes: list[Scope] | None = None, **settings: Any) -> ProblemKind:
    before = harness.service.project("one")
    with pytest.raises(Refused) as refused:
        new_key(harness, name, scopes, **settings)
    assert harness.service.project("one") == before
    return refused.value.problems[0].kind


def test_the_secret_tells_which_key_calls(harness: StoreHarness) -> None:
    harness.project()
    generated, brought = new_key(harness, "generated"), new_key(harness, "brought", secret="brought-along")
    assert brought == "brought-along"
    assert [key_of(harness, secret) for secret in (generated, brought, "secret", "wrong")] == [
        "generated",
        "brought",
        DEFAULT_KEY,
        None,
    ]
    assert key_of(harness, generated[:-1] + ("0" if generated[-1] != "0" else "1")) is None


def test_keys_are_listed_with_what_they_may_and_who_made_them(harness: StoreHarness) -> None:
    project = harness.project()
    harness.now += 1000
    expires = harness.now + 5000
    new_key(harness, "b", [Scope.WRITE, Scope.READ], expires_at=expires, actor=Actor.cli("somebody"))
    harness.now += 1000
    new_key(harness, "a")
    default, b, a = harness.service.keys(harness.service.project("one"))
    assert (default.key.name, default.key.scopes) == (DEFAULT_KEY, PROJECT_SCOPES)
    assert b.key == replace(
        b.key,
        name="b",
        scopes=frozenset({Scope.WRITE, Scope.READ}),
        created_at=project.created_at + 1000,
        created_by="cli:somebody",
        expires_at=expires,
        revoked_at=None,
    )
    assert [b.key.state(now) for now in (expires - 1, expires)] == [KeyState.ACTIVE, KeyState.EXPIRED]
    assert a.key.created_at == project.created_at + 2000


def test_every_change_of_keys_makes_a_new_version_and_is_recorded(harness: StoreHarness) -> None:
    before, epoch = harness.project(), harness.store.epoch()
    new_key(harness, "a", [Scope.READ, Scope.WRITE], expires_at=harness.now + 1000)
    harness.service.revoke_key("one", "a", actor=Actor.cli("another"))
    assert harness.service.project("one").version == before.version + 2
    assert harness.store.epoch() != epoch
    revoked, created, *_ = harness.service.schema_changes("one")
    assert (created.actor, created.what) == (
        "cli:test",
        [AuditEvent(AuditKind.CREATE_KEY, "a", after={"scopes": ["write", "read"], "expires": "2023-11-14T22:13:21Z"})],
    )
    assert (revoked.actor, revoked.what) == ("cli:another", [AuditEvent(AuditKind.REVOKE_KEY, "a")])


def test_a_revoked_key_is_listed_and_its_name_is_never_used_again(harness: StoreHarness) -> None:
    harness.project()
    secret = new_key(harness, "a")
    harness.now += 1000
    harness.service.revoke_key("one", "a", actor=Actor.cli("somebody"))
    assert key_of(harness, secret) is None
    (use,) = [use for use in harness.service.keys(harness.service.project("one")) if use.key.name == "a"]
    assert (use.key.state(harness.now), use.key.revoked_at, use.key.revoked_by) == (
        KeyState.REVOKED,
        harness.now,
        "cli:somebody",
    )
    assert use.key.proofs == ()
    assert refused_kind(harness, "a") is ProblemKind.KEY_EXISTS
    # Revoking it again changes nothing.
    harness.now += 1000
    assert harness.service.revoke_key("one", "a", actor=Actor.cli("another")) == use.key


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a:b", "é", "a" * 65, "a b"])
def test_a_malformed_name_is_refused(harness: StoreHarness, name: str) -> None:
    harness.project()
    assert refused_kind(harness, name) is ProblemKind.KEY_NAME


def test_what_cannot_be_a_key_is_refused(harness: StoreHarness) -> None:
    harness.project()
    new_key(harness, "a", secret="brought-along")
    assert refused_kind(harness, DEFAULT_KEY) is ProblemKind.KEY_EXISTS
    assert refused_kind(harness, "b", []) is ProblemKind.SCOPE
    assert refused_kind(harness, "b", expires_at=harness.now) is ProblemKind.KEY_EXPIRY
    assert refused_kind(harness, "b", secret="with a blank") is ProblemKind.SECRET
    assert refused_kind(harness, "b", secret="brought-along") is ProblemKind.KEY_SECRET
    assert refused_kind(harness, "b", secret="secret") is ProblemKind.KEY_SECRET
    assert refused_kind(harness, "b", [Scope.READ, Scope.ERASE], granted=READ) is ProblemKind.SCOPE_EXCEEDED
    assert refused_kind(harness, "b", [Scope.INSTALLATION], granted=PROJECT_SCOPES) is ProblemKind.SCOPE_EXCEEDED


def test_secrets_that_are_brought_along_are_few_and_share_a_salt(harness: StoreHarness) -> None:
    harness.project()
    # `default` has one too.
    for number in range(MAX_OWN_SECRETS - 1):
        new_key(harness, f"key{number}", secret=f"brought-{number}")
    assert refused_kind(harness, "more", secret="more") is ProblemKind.TOO_MANY_OWN_SECRETS
    new_key(harness, "generated")
    harness.service.rotate_secret("one", secret="brought-anew", overlap_seconds=60, actor=TESTER)
    proofs = [proof for key in harness.service.project("one").keys for proof in key.proofs if not proof.id]
    assert (len(proofs), len({proof.salt for proof in proofs})) == (MAX_OWN_SECRETS + 1, 1)
    for secret in ("brought-0", "brought-anew", "secret"):
        assert key_of(harness, secret) is not None
    harness.service.revoke_key("one", "key0", actor=TESTER)
    new_key(harness, "more", secret="more")
    assert key_of(harness, "more") == "more"


def test_a_name_is_one_key_whoever_creates_it_at_the_same_time(harness: StoreHarness) -> None:
    harness.project()
    kinds: list[ProblemKind] = []

    def attempt(number: int) -> str | None:
        try:
            return new_key(harness, "contested") if number % 2 else new_key(harness, f"key{number}")
        except Refused as refused:
            kinds.append(refused.problems[0].kind)
            return None

    with ThreadPoolExecutor(8) as pool:
        secrets = list(pool.map(attempt, range(16)))
    assert kinds == [ProblemKind.KEY_EXISTS] * 7
    (winner,) = [secret for secret in secrets[1::2] if secret]
    assert key_of(harness, winner) == "contested"
    assert [key_of(harness, str(secret)) for secret in secrets[::2]] == [f"key{number}" for number in range(0, 16, 2)]
    assert len(harness.service.project("one").keys) == 10


def test_a_project_with_many_revoked_keys_is_edited_as_fast(harness: StoreHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.project()
    revoked = tuple(
        Key(f"old-{n:03}", frozenset({Scope.READ}), n, "tester", revoked_at=n, revoked_by="tester") for n in range(300)
    )

    edit_project(harness.store, "one", lambda project: replace(project, stored_keys=revoked), TESTER, harness.now)
    compare, comparisons = Key.__eq__, 0

    def counting(key: Key, other: object) -> bool:
        nonlocal comparisons
        comparisons += 1
        return compare(key, other)

    monkeypatch.setattr(Key, "__eq__", counting)
    new_key(harness, "new")
    assert comparisons < 10 * len(revoked)


@pytest.mark.parametrize("project", ["one", "unknown"])
def test_a_wrong_secret_costs_one_slow_hash_in_any_project(
    harness: StoreHarness, monkeypatch: pytest.MonkeyPatch, project: str
) -> None:
    harness.project()
    new_key(harness, "legacy", secret="brought-along")
    hashes = []

    def counting(secret: str, salt: bytes) -> bytes:
        hashes.append(salt)
        return slow_hash(secret, salt)

    monkeypatch.setattr("usertable.app.keyring.slow_hash", counting)
    assert harness.service.verify(project, "wrong") is None
    assert len(hashes) == 1


def test_the_last_key_that_can_create_keys_is_revoked_only_if_that_is_confirmed(harness: StoreHarness) -> None:
    harness.project()
    new_key(harness, "expired", [Scope.KEYS], expires_at=harness.now + 1)
    harness.now += 1
    with pytest.raises(Refused) as refused:
        harness.service.revoke_key("one", DEFAULT_KEY, actor=TESTER)
    assert refused.value.problems[0].kind is ProblemKind.LAST_KEY
    assert key_of(harness, "secret") == DEFAULT_KEY
    harness.service.revoke_key("one", DEFAULT_KEY, confirmed=True, actor=TESTER)
    assert key_of(harness, "secret") is None


def test_a_key_that_has_expired_is_revoked_without_a_confirmation(harness: StoreHarness) -> None:
    harness.project()
    new_key(harness, "expired", [Scope.KEYS], expires_at=harness.now + 1)
    harness.now += 1
    harness.service.revoke_key("one", DEFAULT_KEY, confirmed=True, actor=TESTER)
    assert harness.service.revoke_key("one", "expired", actor=TESTER).state(harness.now) is KeyState.REVOKED


def test_beside_another_key_that_can_create_keys_default_is_revoked(harness: StoreHarness) -> None:
    before = harness.project()
    new_key(harness, "keeper", [Scope.KEYS])
    harness.service.revoke_key("one", DEFAULT_KEY, actor=TESTER)
    assert key_of(harness, "secret") is None
    after = harness.service.project("one")
    # A server of an older usertable, which reads only this secret, rejects it too.
    assert after.secret_hash != before.secret_hash
    assert harness.service.schema_changes("one")[0].what == [AuditEvent(AuditKind.REVOKE_KEY, DEFAULT_KEY)]
    with pytest.raises(Refused) as refused:
        harness.service.rotate_secret("one", actor=TESTER)
    assert refused.value.problems[0].kind is ProblemKind.KEY_REVOKED


def test_an_unknown_key_cannot_be_revoked(harness: StoreHarness) -> None:
    harness.project()
    with pytest.raises(Refused) as refused:
        harness.service.revoke_key("one", "nobody", actor=TESTER)
    assert refused.value.problems[0].kind is ProblemKind.KEY_UNKNOWN


def test_a_key_is_made_for_the_version_of_the_project_that_was_seen(harness: StoreHarness) -> None:
    seen = harness.project().version
    new_key(harness, "a", version=seen)
    assert refused_kind(harness, "b", version=seen) is ProblemKind.PROJECT_CHANGED


def test_a_rotated_secret_works_until_its_overlap_is_over(harness: StoreHarness) -> None:
    harness.project()
    _, second = harness.service.rotate_secret("one", overlap_seconds=60, actor=TESTER)
    assert [key_of(harness, secret) for secret in ("secret", second)] == [DEFAULT_KEY] * 2
    harness.now += 60_000
    assert [key_of(harness, secret) for secret in ("secret", second)] == [None, DEFAULT_KEY]
    _, third = harness.service.rotate_secret("one", overlap_seconds=60, actor=TESTER)
    _, fourth = harness.service.rotate_secret("one", overlap_seconds=60, actor=TESTER)
    assert [key_of(harness, secret) for secret in (second, third, fourth)] == [None, DEFAULT_KEY, DEFAULT_KEY]
    _, fifth = harness.service.rotate_secret("one", actor=TESTER)
    assert [key_of(harness, secret) for secret in (third, fourth, fifth)] == [None, None, DEFAULT_KEY]
    assert harness.service.schema_changes("one")[0].what == [AuditEvent(AuditKind.ROTATE_SECRET)]


def test_whoever_may_do_less_than_default_does_not_get_its_secret(harness: StoreHarness) -> None:
    harness.project()
    with pytest.raises(Refused) as refused:
        harness.service.rotate_secret("one", granted={Scope.KEYS}, actor=TESTER)
    assert refused.value.problems[0].kind is ProblemKind.SCOPE_EXCEEDED
    with pytest.raises(Refused) as refused:
        harness.service.rotate_secret("one", overlap_seconds=-1, actor=TESTER)
    assert refused.value.problems[0].kind is ProblemKind.OVERLAP


def test_a_project_of_an_older_usertable_has_the_key_default(harness: StoreHarness) -> None:
    add_project(harness.store, replace(UNKNOWN, id="one"), OLDER)
    (use,) = harness.service.keys(harness.service.project("one"))
    assert (use.key.name, use.key.scopes, use.key.created_at) == (DEFAULT_KEY, PROJECT_SCOPES, UNKNOWN.created_at)
    assert key_of(harness, "secret") == DEFAULT_KEY
    generated = new_key(harness, "a")
    assert [key_of(harness, secret) for secret in ("secret", generated)] == [DEFAULT_KEY, "a"]


def test_a_secret_that_an_older_usertable_replaced_ends_every_one_before(harness: StoreHarness) -> None:
    _, first = harness.service.create_project("one", id="one", actor=TESTER)
    _, second = harness.service.rotate_secret("one", overlap_seconds=60, actor=TESTER)
    salt = b"another salt"
    hashed = slow_hash("theirs", salt)
    edit_project(
        harness.store, "one", lambda p: replace(p, secret_salt=salt, secret_hash=hashed), Actor.cli("older"), harness.now
    )
    assert [key_of(harness, secret) for secret in (first, second, "theirs")] == [None, None, DEFAULT_KEY]
    assert harness.service.project("one").key(DEFAULT_KEY).created_by == "cli:test"


def test_when_a_key_was_last_used_is_kept_to_the_minute(harness: StoreHarness) -> None:
    project = harness.project()
    new_key(harness, "a")
    minute = harness.now - harness.now % 60_000
    for at in (minute + 61_000, minute + 1000):
        harness.store.keep_arrivals([Arrivals(project.number, at, keys={"a"})])
    uses = {use.key.name: use.last_used for use in harness.service.keys(harness.service.project("one"))}
    assert uses == {DEFAULT_KEY: None, "a": minute + 60_000}
    assert harness.store.key_uses(project.number, ["a", "no such key"]) == {"a": minute + 60_000}
    assert harness.store.key_uses(project.number, [DEFAULT_KEY]) == {}
    assert harness.store.rates(project.number, 0, 1000) == []


def test_callers_are_known_by_their_key(harness: StoreHarness) -> None:
    harness.project()
    secrets = {name: new_key(harness, name, scopes) for name, scopes in (("r", READ), ("w", [Scope.WRITE]))}

    async def work() -> None:
        authenticator = Authenticator(harness.service)
        accesses = {name: await admit(authenticator, header(secret), HERE) for name, secret in secrets.items()}
        for name, access in accesses.items():
            assert access is not None
            assert (access.key_name, access.may_write) == (name, name == "w")
            assert authenticator.known(header(secrets[name])) is access
        authenticator.close()

    run(work())


def test_the_rate_limit_is_that_of_the_project(harness: StoreHarness) -> None:
    harness.project()
    secret = new_key(harness, "a", [Scope.WRITE])

    async def work() -> None:
        authenticator = Authenticator(harness.service)
        one, other = [await admit(authenticator, header(each), HERE) for each in ("secret", secret)]
        assert one is not None
        assert other is not None
        assert one.limit("attribute") is other.limit("attribute")
        authenticator.close()

    run(work())


def test_only_callers_of_the_key_that_was_revoked_are_forgotten(harness: StoreHarness) -> None:
    harness.project()
    secrets = [new_key(harness, name) for name in "ab"]

    async def work() -> None:
        authenticator = Authenticator(harness.service)
        first, second = [await admit(authenticator, header(secret), HERE) for secret in secrets]
        assert isinstance(first, ProjectAccess)
        harness.service.revoke_key("one", "a", actor=TESTER)
        authenticator.poll()
        assert authenticator.known(header(secrets[0])) is None
        assert authenticator.known(header(secrets[1])) is second
        # A request in progress may do nothing more.
        assert first.scopes == frozenset()
        assert await admit(authenticator, header(secrets[0]), HERE) is None
        authenticator.close()

    run(work())


@pytest.mark.parametrize("secret", [None, "brought-along"])
def test_a_known_caller_is_forgotten_when_its_key_expires(harness: StoreHarness, secret: str | None) -> None:
    harness.project()
    time = ManualClock(harness.now)
    secret = new_key(harness, "a", secret=secret, expires_at=harness.now + 10_000)

    async def work() -> None:
        authenticator = Authenticator(harness.service, clock=time.clock)
        assert await admit(authenticator, header(secret), HERE)
        time.advance(9.999)
        authenticator.poll()
        assert authenticator.known(header(secret))
        time.advance(0.001)
        harness.now += 10_000
        authenticator.poll()
        assert authenticator.known(header(secret)) is None
        assert await admit(authenticator, header(secret), HERE) is None
        authenticator.close()

    run(work())


def test_a_known_caller_is_forgotten_when_the_overlap_is_over(harness: StoreHarness) -> None:
    harness.project()
    time = ManualClock(harness.now)
    _, first = harness.service.rotate_secret("one", actor=TESTER)
    _, second = harness.service.rotate_secret("one", overlap_seconds=5, actor=TESTER)

    async def work() -> None:
        authenticator = Authenticator(harness.service, clock=time.clock)
        for secret in (first, second):
            assert await admit(authenticator, header(secret), HERE)
        time.advance(5)
        authenticator.poll()
        assert authenticator.known(header(first)) is None
        assert authenticator.known(header(second))
        authenticator.close()

    run(work())


@pytest.mark.parametrize("ends", ["revoked", "replaced", "in an hour"])
@pytest.mark.parametrize("way", ["set", "batch", "import"])
def test_a_server_that_has_not_heard_yet_that_a_key_ended_writes_nothing_for_it(
    harness: StoreHarness, way: str, ends: str
) -> None:
    project = harness.project()
    cuid = harness.user(project)
    data = {"user_number_overwrite": 7}

    async def work() -> None:
        authenticator = Authenticator(harness.service)
        commit = GroupCommit(ThreadChannel(harness.store, WriteBatch(decide)))
        writer = BatchWriter(harness.service, authenticator, commit, clock=lambda: harness.now)
        importer = RowImporter(harness.service, authenticator, capacity=10)
        access = await admit(authenticator, header("secret"), HERE)
        assert access is not None
        # By another server, a moment ago; or long ago, and this one could not reach the store.
        if ends == "revoked":
            harness.service.revoke_key("one", DEFAULT_KEY, confirmed=True, actor=TESTER)
        else:
            overlap = 3600 if ends == "in an hour" else 0
            harness.service.rotate_secret("one", secret="another", overlap_seconds=overlap, actor=TESTER)
        result: Result
        if way == "set":
            try:
                result = await writer.set_attributes(access, cuid, data)
            except Overloaded as overloaded:
                result = overloaded
        else:
            write = writer.set_many if way == "batch" else importer.import_rows
            ((_, result),) = await write(access, [BatchEntry(cuid, None, data)], register=False, actor=TESTER)
        assert isinstance(result, Written if ends == "in an hour" else Overloaded), result
        assert authenticator.known(header("secret")) is None
        await commit.close()
        authenticator.close()

    run(work())
    assert harness.attributes(project, cuid) == (data if ends == "in an hour" else {})


def test_a_key_made_just_now_works_as_soon_as_it_is_seen(harness: StoreHarness) -> None:
    harness.project()

    async def work() -> None:
        authenticator = Authenticator(harness.service)
        assert await admit(authenticator, header("wrong"), HERE) is None
        secret = new_key(harness, "a", secret="wrong")
        authenticator.poll()
        assert await admit(authenticator, header(secret), HERE)
        authenticator.close()

    run(work())


def test_a_secret_that_was_brought_along_is_recognized_by_every_worker(harness: StoreHarness) -> None:
    harness.project()
    new_key(harness, "a", secret="brought-along")

    async def work() -> None:
        with SharedCounts.file() as file:
            one, other = [Authenticator(harness.service, SharedCounts(os.dup(file.fileno()))) for _ in range(2)]
            assert await admit(one, header("brought-along"), HERE)
            # From here on nothing can be verified.
            other.close()
            access = await admit(other, header("brought-along"), HERE)
            assert access is not None
            assert access.key_name == "a"
            one.close()

    run(work())


def test_a_generated_secret_needs_no_turn_and_little_time(harness: StoreHarness) -> None:
    harness.project()
    secrets = [new_key(harness, f"key{number}") for number in range(20)]

    async def work() -> None:
        authenticator = Authenticator(harness.service)
        wrong = [asyncio.create_task(admit(authenticator, header(f"wrong-{n}"), HERE)) for n in range(16)]
        await asyncio.sleep(0)
        # Nothing can be verified any more, and the first call loads the project's secrets.
        authenticator.close()
        assert await admit(authenticator, header(secrets[0]), HERE)
        began = time.thread_time()
        for secret in secrets[1:]:
            assert await admit(authenticator, header(secret), HERE)
        assert (time.thread_time() - began) / len(secrets[1:]) < 0.002
        for task in wrong:
            task.cancel()
        await asyncio.gather(*wrong, return_exceptions=True)

    run(work())


def test_wrong_secrets_in_the_form_of_generated_ones_are_rationed(harness: StoreHarness) -> None:
    harness.project()
    secret = new_key(harness, "a")
    stopped = ManualClock(harness.now)

    async def work() -> None:
        authenticator = Authenticator(harness.service, clock=stopped.clock)
        wrong = [secret[:-2] + f"{number:02}" for number in range(FAILURES_AT_ONCE + 5)]
        wrong = [each for each in wrong if each != secret]
        tasks = []
        for each in wrong[:FAILURES_AT_ONCE]:
            assert await admit(authenticator, header(each), HERE) is None
        for each in wrong[FAILURES_AT_ONCE:]:
            tasks.append(asyncio.create_task(admit(authenticator, header(each), HERE)))
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in tasks)
        # The right one is accepted.
        assert await admit(authenticator, header(secret), HERE)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        authenticator.close()

    run(work())


def test_keys_that_a_later_usertable_gave_other_scopes_keep_those_that_are_known(harness: StoreHarness) -> None:
    key = Key("a", frozenset({Scope.READ}), 1)
    assert decode_key("a", encode_key(key).replace('"read"', '"read","tomorrow"')) == key


REVOKED = 5000


def revoke_many(harness: StoreHarness) -> None:
    """Store as many revoked keys as a project that makes a key per job collects in a year."""
    keys = tuple(
        Key(f"old-{n:04}", frozenset({Scope.READ}), n, "tester", revoked_at=10_000 + n // 2, revoked_by='"revoked_at":')
        for n in range(REVOKED)
    )
    edit_project(harness.store, "one", lambda project: replace(project, stored_keys=keys), TESTER, harness.now)


def test_a_project_is_loaded_without_its_revoked_keys_and_lists_them_by_page(harness: StoreHarness) -> None:
    harness.project()
    revoke_many(harness)
    new_key(harness, "current")
    harness.service.revoke_key("one", DEFAULT_KEY, confirmed=True, actor=TESTER)
    project = harness.service.project("one")
    # What authenticates callers is as small as without revoked keys.
    assert [key.name for key in project.keys] == ["current", "default"]
    listed: list[str] = []
    while found := harness.service.keys(project, after=listed[-1] if listed else "", limit=999):
        assert len(found) <= 999
        listed += [str(KeyPosition.of(use.key)) for use in found]
    assert len(listed) == len(set(listed)) == REVOKED + 2
    names = [position.split(".", 2)[2] for position in listed]
    assert names[:2] == ["current", "default"]
    assert names[2:6] == ["old-4998", "old-4999", "old-4996", "old-4997"]
    assert names[-2:] == ["old-0000", "old-0001"]
    # Their names are used, and they are shown and revoked again without a change.
    assert refused_kind(harness, "old-1234") is ProblemKind.KEY_EXISTS
    before = harness.service.project("one").version
    assert harness.service.revoke_key("one", "old-1234", actor=TESTER) == harness.service.key(project, "old-1234").key
    assert harness.service.project("one").version == before


def test_a_key_that_is_revoked_between_two_pages_hides_no_other(harness: StoreHarness) -> None:
    harness.project()
    for name in ("a", "b", "c"):
        harness.now += 1
        new_key(harness, name)
    first = harness.service.keys(harness.service.project("one"), limit=2)
    harness.service.revoke_key("one", "a", actor=TESTER)
    following = str(KeyPosition.of(first[-1].key))
    rest = harness.service.keys(harness.service.project("one"), after=following)
    assert [use.key.name for use in (*first, *rest)] == ["default", "a", "b", "c", "a"]


def test_a_revoked_key_opens_nothing_however_late_it_is_found_out(harness: StoreHarness) -> None:
    harness.project()
    secret = new_key(harness, "a")

    async def work() -> None:
        authenticator = Authenticator(harness.service)
        access = await admit(authenticator, header(secret), HERE)
        assert access is not None
        harness.service.revoke_key("one", "a", actor=TESTER)
        for _ in range(2):
            authenticator.poll()
            assert (access.scopes, access.may_write) == (frozenset(), False)
            with pytest.raises(KeyChanged):
                await authenticator.refresh(access)
        assert await admit(authenticator, header(secret), HERE) is None
        authenticator.close()

    run(work())
