"""Hashing of passwords: what is stored, how long it takes, and that it keeps nobody else waiting."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from usertable.app.passwords import HASHES_WAITING, HashingThread, hash_password, is_outdated, is_password
from usertable.domain.errors import Overloaded

PASSWORD = "correct horse battery staple"
OLD = "$argon2id$v=19$m=8192,t=1,p=1$c29tZSBzYWx0IGZvciB0ZXN0$bWEnUM1LpN3G9fZzVlEmo9L8jIBVQ2uuX1oKqpGhd9A"


def test_a_password_is_stored_as_argon2id_with_a_salt_of_its_own() -> None:
    one, other = hash_password(PASSWORD), hash_password(PASSWORD)
    assert one.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert one != other
    assert is_password(one, PASSWORD)
    assert not is_password(one, PASSWORD + " ")
    assert not is_outdated(one)
    assert is_outdated(OLD)


def test_a_password_is_the_same_from_whatever_keyboard() -> None:
    assert is_password(hash_password("\u00e9" * 15), "e\u0301" * 15)


@pytest.mark.parametrize("stored", ["", "nothing", "$argon2id$v=19$m=19456,t=2,p=1$broken", OLD])
def test_of_a_hash_that_is_none_no_password_is_right(stored: str) -> None:
    for password in ("", PASSWORD, "the password of an account that does not exist", "\ud800"):
        assert not is_password(stored, password)


def test_an_account_that_does_not_exist_takes_as_long_as_one_that_does() -> None:
    stored = hash_password(PASSWORD)

    def cpu(stored: str) -> float:
        took = []
        for _ in range(7):
            began = time.thread_time()
            is_password(stored, "wrong")
            took.append(time.thread_time() - began)
        return min(took)

    assert 0.6 < cpu("") / cpu(stored) < 1.6


def test_passwords_are_hashed_one_at_a_time_beside_the_event_loop_and_not_without_end() -> None:
    async def wait() -> None:
        hashing, begun, go_on = HashingThread(), threading.Event(), threading.Event()
        at_once: list[int] = []
        running = 0

        def work() -> int:
            nonlocal running
            running += 1
            at_once.append(running)
            begun.set()
            go_on.wait(30)
            running -= 1
            return threading.get_native_id()

        waiting = [asyncio.create_task(hashing.run(work)) for _ in range(HASHES_WAITING)]
        while not begun.is_set():
            # The event loop goes on meanwhile.
            await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await hashing.run(work)
        go_on.set()
        threads = set(await asyncio.gather(*waiting))
        assert len(threads) == 1
        assert threading.get_native_id() not in threads
        assert set(at_once) == {1}
        # There is room again.
        assert await hashing.run(work) in threads
        hashing.close()

    asyncio.run(wait())
