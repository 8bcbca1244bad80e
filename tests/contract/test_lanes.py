"""How batches reach a store from the server's event loop, whatever their size."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
import uvloop

from house import House
from usertable.domain.merge import decide
from usertable.store import open_store
from usertable.store.base import Result, Write, Written
from usertable.store.lanes import open_lane

LARGE = "x" * 8000
Answer = asyncio.Future[Sequence[Result] | Exception]


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_batches_and_answers_larger_than_any_socket_buffer(kept_url: str, loop: type) -> None:
    store = open_store(kept_url)
    house = House(store)
    project = house.project()
    cuids = house.service.register(project, "phone", [str(n) for n in range(100)])
    batches = [
        [house.prepare(project, cuid, {"user_string_overwrite": f"{turn} {LARGE}"}) for cuid in cuids for _ in range(2)]
        for turn in range(4)
    ]

    async def send() -> list[Sequence[Result] | Exception]:
        lane = open_lane(kept_url, store, decide)
        answers: list[Answer] = [asyncio.get_running_loop().create_future() for _ in batches]
        for batch, answer in zip(batches, answers, strict=True):
            lane.write(batch, answer.set_result)
        try:
            return await asyncio.gather(*answers)
        finally:
            await lane.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        outcomes = runner.run(send())
    for turn, results in enumerate(outcomes):
        assert not isinstance(results, Exception)
        assert len(results) == 200
        for result in results:
            assert isinstance(result, Written)
            assert result.attributes == {"user_string_overwrite": f"{turn} {LARGE}"}
    store.close()


def test_order_is_kept_when_a_batch_is_large(kept_url: str) -> None:
    store = open_store(kept_url)
    house = House(store)
    project = house.project()
    cuid = house.user(project)
    sizes = [1, 300, 2, 200, 1]

    def batch(turn: int, size: int) -> list[Write]:
        data = {"user_list_append": [f"{turn}"], "user_string_overwrite": f"{turn} {LARGE}"}
        return [house.prepare(project, cuid, data) for _ in range(size)]

    async def send() -> list[Sequence[Result] | Exception]:
        lane = open_lane(kept_url, store, decide)
        answers: list[Answer] = [asyncio.get_running_loop().create_future() for _ in sizes]
        for turn, (size, answer) in enumerate(zip(sizes, answers, strict=True)):
            lane.write(batch(turn, size), answer.set_result)
        try:
            return await asyncio.gather(*answers)
        finally:
            await lane.close()

    outcomes = asyncio.run(send())
    assert [len(results) for results in outcomes if not isinstance(results, Exception)] == sizes
    assert house.attributes(project, cuid)["user_list_append"] == ["0", "1", "2", "3", "4"]
    store.close()
