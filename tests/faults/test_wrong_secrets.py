"""Wrong secrets from outside, and concurrent schema edits: callers with a verified secret notice neither."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from support.actors import TESTER
from support.server_process import ATTRIBUTE, PROJECT, SECRET, ServerProcess, create_project
from support.waiting import wait_until
from usertable.app.service import Service
from usertable.store import open_store

STRANGERS = 150
TURNS = 30


def wrong_secrets_beside_known_callers(url: str, folder: Path, **settings: str) -> None:
    (cuid,) = create_project(url, users=1)
    store = open_store(url)
    Service(store).create_project("Other", id="200200", secret="the-other-secret", actor=TESTER)
    server = ServerProcess(url, folder, admin_token="x" * 32, **settings)
    body = {"cuid": cuid, "data": {"user_number_accumulate": 1}}

    async def attack(http: httpx.AsyncClient) -> list[int]:
        async def guess(number: int) -> int:
            project = (PROJECT, "200200", "999999")[number % 3]
            return (await http.put(ATTRIBUTE, json=body, auth=(project, f"wrong {number}"))).status_code

        return await asyncio.gather(*(guess(number) for number in range(STRANGERS)))

    async def call(known: httpx.AsyncClient, admin: httpx.AsyncClient) -> list[int]:
        statuses = []
        for turn in range(TURNS):
            edited = await admin.patch("/api/v1/projects/200200", json={"name": f"Other {turn}"})
            assert edited.status_code == 200, edited.text
            described = {"description": f"{turn}"}
            edited = await admin.patch(f"/api/v1/projects/{PROJECT}/attributes/user_bool_once", json=described)
            assert edited.status_code == 200, edited.text
            statuses.append((await known.put(ATTRIBUTE, json=body)).status_code)
            # On a new connection, which may lead to another worker.
            async with httpx.AsyncClient(base_url=server.url, auth=(PROJECT, SECRET), timeout=60) as other:
                statuses.append((await other.put(ATTRIBUTE, json=body)).status_code)
        return statuses

    async def work() -> tuple[list[int], list[int]]:
        async with (
            httpx.AsyncClient(base_url=server.url, auth=(PROJECT, SECRET), timeout=60) as known,
            httpx.AsyncClient(base_url=server.url, headers={"Authorization": f"Bearer {'x' * 32}"}, timeout=60) as admin,
            httpx.AsyncClient(base_url=server.url, timeout=60) as strangers,
        ):
            assert (await known.put(ATTRIBUTE, json=body)).status_code == 200
            attacking = asyncio.create_task(attack(strangers))
            statuses = await call(known, admin)
            return statuses, await attacking

    try:
        statuses, guessed = asyncio.run(work())
        assert statuses == [200] * 2 * TURNS
        # A guess is refused, or told to retry; none is accepted.
        assert set(guessed) <= {401, 503}
        assert 401 in guessed
        user = store.read(store.project(PROJECT).number, cuid)  # type: ignore[union-attr]
        assert user is not None
        assert user.profile.attributes == {"user_number_accumulate": 1 + 2 * TURNS}
    finally:
        store.close()
        assert server.stop() == 0


def test_known_callers_are_answered_while_wrong_secrets_come_and_schemas_are_edited(kept_url: str, tmp_path: Path) -> None:
    wrong_secrets_beside_known_callers(kept_url, tmp_path)


def test_a_caller_who_passed_at_one_worker_is_known_at_all(shared_url: str, tmp_path: Path) -> None:
    wrong_secrets_beside_known_callers(shared_url, tmp_path, workers="3")


def test_a_replaced_secret_stops_working_within_a_second_and_the_new_one_works(kept_url: str, tmp_path: Path) -> None:
    (cuid,) = create_project(kept_url, users=1)
    server = ServerProcess(kept_url, tmp_path)
    body = {"cuid": cuid, "data": {"user_number_accumulate": 1}}
    try:
        with server.client() as http:
            assert http.put(ATTRIBUTE, json=body).status_code == 200
            store = open_store(kept_url)
            Service(store).rotate_secret(PROJECT, secret="another-secret", actor=TESTER)
            store.close()
            wait_until(lambda: http.put(ATTRIBUTE, json=body).status_code == 401)
            assert http.put(ATTRIBUTE, json=body, auth=(PROJECT, "another-secret")).status_code == 200
    finally:
        assert server.stop() == 0
