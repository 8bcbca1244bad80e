"""People's passwords: hashed with argon2id, in one thread outside of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from usertable.app.verification import yield_to_others
from usertable.domain.errors import Overloaded
from usertable.domain.person import checked_password, encoded

T = TypeVar("T")

HASHES_WAITING = 100
"""Maximum number of passwords that wait to be hashed in one process: at 30 ms each, the last one waits for 3 s."""
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
"""19 MiB and two passes, by OWASP's Password Storage Cheat Sheet: about 30 ms of CPU on one core."""
_NOBODYS = f"$argon2id$v=19$m={_HASHER.memory_cost},t={_HASHER.time_cost},p={_HASHER.parallelism}${'A' * 22}${'A' * 43}"
"""The hash that a password is compared with if the account has none, so that it takes as long.

No password is known to have this hash. Computing one would take 30 ms in every process that imports this module.
"""


def hash_password(password: str) -> str:
    """Return the hash to store, `$argon2id$v=19$m=19456,t=2,p=1$…`.

    Raises Refused if the password is too short or too long.
    """
    return _HASHER.hash(checked_password(password))


def is_password(stored: str, password: str) -> bool:
    """Return whether the password matches the stored hash; never for an empty hash. Takes the same time either way."""
    try:
        return _HASHER.verify(stored or _NOBODYS, encoded(password)) and bool(stored)
    except (Argon2Error, InvalidHashError):
        return False


def is_outdated(stored: str) -> bool:
    """Return whether a stored hash has other parameters than new ones."""
    return _HASHER.check_needs_rehash(stored)


class HashingThread:
    """Hashes passwords of unauthenticated callers, one at a time, with a lower priority than other requests."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="password", initializer=yield_to_others)
        self._waiting = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Return the result of `work`. Raises Overloaded, without calling it, if too many wait."""
        if self._waiting >= HASHES_WAITING:
            raise Overloaded(f"{HASHES_WAITING} passwords wait to be hashed")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)
