"""Many clients on few users: sums are exact, lists complete, and the rule once has one winner."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from support.server_process import ATTRIBUTE, PROJECT, REGISTER, SECRET, ServerProcess, create_project

CLIENTS = 32
EACH = 40


def test_many_clients_on_few_users(kept_url: str, tmp_path: Path) -> None:
    cuids = create_project(kept_url, users=3)
    server = ServerProcess(kept_url, tmp_path)

    async def client(http: httpx.AsyncClient, number: int) -> int:
        applied = 0
        for turn in range(EACH):
            data = {
                "user_number_accumulate": "0.1",
                "user_list_append": [f"{number}-{turn}"],
                "user_string_once": f"client {number}",
            }
            body = {"cuid": cuids[turn % len(cuids)], "data": data}
            answer = await http.put(ATTRIBUTE, json=body, headers={"Prefer": "return=representation"})
            assert answer.status_code == 200, answer.text
            applied += answer.json()["data"]["outcomes"]["user_string_once"] == "applied"
        return applied

    async def load() -> list[int]:
        async with httpx.AsyncClient(base_url=server.url, auth=(PROJECT, SECRET), timeout=60) as http:
            return await asyncio.gather(*(client(http, n) for n in range(CLIENTS)))

    try:
        winners = asyncio.run(load())
        assert sum(winners) == len(cuids)
        with server.client() as http:
            for place, cuid in enumerate(cuids):
                turns = len(range(place, EACH, len(cuids)))
                user = http.put(ATTRIBUTE + "?dryRun=1", json={"cuid": cuid, "data": {"user_number_accumulate": 0}}).text
                assert f'"user_number_accumulate":{exact_tenths(turns * CLIENTS)}' in user
                assert user.count("-") >= turns * CLIENTS
    finally:
        assert server.stop() == 0


def exact_tenths(count: int) -> str:
    whole, rest = divmod(count, 10)
    return f"{whole}.{rest}" if rest else str(whole)


def test_callers_racing_with_one_value_get_one_cuid(kept_url: str, tmp_path: Path) -> None:
    create_project(kept_url)
    server = ServerProcess(kept_url, tmp_path)

    async def load() -> list[tuple[int, ...]]:
        async with httpx.AsyncClient(base_url=server.url, auth=(PROJECT, SECRET), timeout=60) as http:

            async def register() -> tuple[int, ...]:
                body = {"identityName": "phone", "identityValues": ["18012345678", "18012345679", "18012345678"]}
                answer = await http.post(REGISTER, json=body)
                return tuple(entry["cuid"] for entry in answer.json()["data"])

            return await asyncio.gather(*(register() for _ in range(24)))

    try:
        answers = asyncio.run(load())
    finally:
        assert server.stop() == 0
    assert len(set(answers)) == 1
    first, second, third = answers[0]
    assert first == third != second
    assert min(first, second) > 10_000_000
