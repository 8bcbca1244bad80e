"""How batches reach a store from the server's event loop, whatever their size."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Sequence
from decimal import Decimal

import pytest
import uvloop

from support.actors import TESTER
from support.store_harness import StoreHarness
from usertable.commands.write import WriteBatch
from usertable.domain.merge import decide
from usertable.pipeline.channel import open_channel
from usertable.store import open_store
from usertable.store.memory import MemoryStore
from usertable.store.records import Receipt, Result, Write, Written

LARGE = "x" * 8000
Answer = asyncio.Future[Sequence[Result] | Exception]


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_batches_and_answers_larger_than_any_socket_buffer(kept_url: str, loop: type) -> None:
    store = open_store(kept_url)
    harness = StoreHarness(store)
    project = harness.project()
    cuids = harness.service.register(project, "phone", [str(n) for n in range(100)], actor=TESTER)
    batches = [
        [harness.prepare(project, cuid, {"user_string_overwrite": f"{turn} {LARGE}"}) for cuid in cuids for _ in range(2)]
        for turn in range(4)
    ]

    async def send() -> list[Sequence[Result] | Exception]:
        channel = open_channel(kept_url, store, WriteBatch(decide))
        answers: list[Answer] = [asyncio.get_running_loop().create_future() for _ in batches]
        for batch, answer in zip(batches, answers, strict=True):
            channel.write(batch, answer.set_result)
        try:
            return await asyncio.gather(*answers)
        finally:
            await channel.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        outcomes = runner.run(send())
    for turn, results in enumerate(outcomes):
        assert not isinstance(results, Exception)
        assert len(results) == 200
        for result in results:
            assert isinstance(result, Written)
            assert result.attributes == {"user_string_overwrite": f"{turn} {LARGE}"}
    store.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_all_processes_does_not_end_a_writer_that_is_starting(kept_url: str, number: signal.Signals) -> None:
    store = open_store(kept_url)
    harness = StoreHarness(store)
    project = harness.project()
    cuid = harness.user(project)

    async def send() -> Sequence[Result] | Exception:
        channel = open_channel(kept_url, store, WriteBatch(decide))
        assert channel.writer is not None
        os.kill(channel.writer, number)
        answer: Answer = asyncio.get_running_loop().create_future()
        channel.write([harness.prepare(project, cuid, {"user_number_accumulate": 1})], answer.set_result)
        try:
            await channel.check()
            return await answer
        finally:
            assert channel.writer_starts == 1
            await channel.close()

    results = asyncio.run(send())
    assert not isinstance(results, Exception)
    assert harness.attributes(project, cuid) == {"user_number_accumulate": 1}
    store.close()


def test_order_is_kept_when_a_batch_is_large(kept_url: str) -> None:
    store = open_store(kept_url)
    harness = StoreHarness(store)
    project = harness.project()
    cuid = harness.user(project)
    sizes = [1, 300, 2, 200, 1]

    def batch(turn: int, size: int) -> list[Write]:
        data = {"user_list_append": [f"{turn}"], "user_string_overwrite": f"{turn} {LARGE}"}
        return [harness.prepare(project, cuid, data) for _ in range(size)]

    async def send() -> list[Sequence[Result] | Exception]:
        channel = open_channel(kept_url, store, WriteBatch(decide))
        answers: list[Answer] = [asyncio.get_running_loop().create_future() for _ in sizes]
        for turn, (size, answer) in enumerate(zip(sizes, answers, strict=True)):
            channel.write(batch(turn, size), answer.set_result)
        try:
            return await asyncio.gather(*answers)
        finally:
            await channel.close()

    outcomes = asyncio.run(send())
    assert [len(results) for results in outcomes if not isinstance(results, Exception)] == sizes
    assert harness.attributes(project, cuid)["user_list_append"] == ["0", "1", "2", "3", "4"]
    store.close()


@pytest.mark.parametrize("seed", range(4))
def test_batches_under_way_together_do_what_they_do_one_after_the_other(kept_url: str, seed: int) -> None:
    chance = random.Random(seed)
    store = open_store(kept_url)
    harness, reference = StoreHarness(store), StoreHarness(MemoryStore())
    project = harness.project()
    reference.project()
    cuids = [harness.user(project, str(number)) for number in range(12)]
    assert [reference.user(project, str(number)) for number in range(12)] == cuids

    def write(names: Sequence[str], cuid: int) -> Write:
        data = {
            "user_number_accumulate": chance.choice([0, 1, Decimal("2.5"), -3, 4 * 10**37]),
            "user_list_append": chance.choices("abcdefgh", k=2),
            "user_string_overwrite": chance.choice("ab"),
            "user_bool_once": chance.randint(0, 1),
        }
        made = harness.prepare(project, cuid, {name: data[name] for name in names})
        made.details = chance.random() < 0.1
        if chance.random() < 0.5:
            made.receipt = Receipt(f"{cuid} {chance.randrange(30)}", bytes([chance.randrange(2)]), whole=made.details)
        return made

    names = ["user_number_accumulate", "user_list_append", "user_string_overwrite", "user_bool_once"]
    # The database can merge attributes that had values before.
    batches = [[write(names, cuids[0])]]
    for _ in range(150):
        size = chance.randint(1, 12)
        some = (chance.sample(names, chance.randint(1, 4)) for _ in range(size))
        batches.append([write(chosen, chance.choice([*cuids, 7])) for chosen in some])

    async def send() -> list[Sequence[Result] | Exception]:
        channel = open_channel(kept_url, store, WriteBatch(decide))
        answers: list[Answer] = []
        under_way: set[Answer] = set()
        for batch in batches:
            while not channel.is_open(len(under_way)):
                _, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            answer: Answer = asyncio.get_running_loop().create_future()
            channel.write(batch, answer.set_result)
            answers.append(answer)
            under_way.add(answer)
        try:
            return await asyncio.gather(*answers)
        finally:
            await channel.close()

    def told(results: Sequence[Result] | Exception, batch: Sequence[Write]) -> list[object]:
        assert not isinstance(results, Exception), results
        return [type(r) if type(r) is Written and not w.details else r for r, w in zip(results, batch, strict=True)]

    for results, batch in zip(asyncio.run(send()), batches, strict=True):
        assert told(results, batch) == told(reference.write(*batch), batch)
    assert [harness.attributes(project, cuid) for cuid in cuids] == [reference.attributes(project, cuid) for cuid in cuids]
    store.close()
