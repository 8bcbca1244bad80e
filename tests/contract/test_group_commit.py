"""Which writes form a batch, and when it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from support.store_harness import StoreHarness
from usertable.pipeline.channel import Done
from usertable.pipeline.group_commit import GroupCommit
from usertable.store.memory import MemoryStore
from usertable.store.records import WRITTEN, Result, Write


class WriteChannel:
    """Accepts two batches, and answers on request."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.answers: list[Callable[[], None]] = []

    def is_open(self, under_way: int) -> bool:
        return under_way < 2

    def write(self, writes: Sequence[Write], done: Done) -> None:
        self.sizes.append(len(writes))
        self.answers.append(lambda: done([WRITTEN] * len(writes)))

    async def check(self) -> None:
        return

    async def close(self) -> None:
        return


def test_a_batch_goes_ahead_of_an_answer_only_if_it_is_as_large() -> None:
    harness = StoreHarness(MemoryStore())
    project = harness.project()
    write = harness.prepare(project, harness.user(project), {"user_bool_once": 1})

    async def work() -> None:
        channel = WriteChannel()
        commit = GroupCommit(channel)
        futures: list[asyncio.Future[Result]] = []

        async def come(count: int) -> list[int]:
            futures.extend(commit.submit(write) for _ in range(count))
            await asyncio.sleep(0)
            return channel.sizes

        assert await come(1) == [1]
        # As large as the unanswered batch: the store has work meanwhile.
        assert await come(4) == [1, 4]
        assert await come(3) == [1, 4]
        channel.answers[0]()
        # Four are unanswered, three wait: their own commit would not be faster.
        assert channel.sizes == [1, 4]
        assert await come(1) == [1, 4, 4]
        assert await come(2) == [1, 4, 4]
        channel.answers[1]()
        assert channel.sizes == [1, 4, 4]
        channel.answers[2]()
        # No batch is unanswered: what waits is sent, however little.
        assert channel.sizes == [1, 4, 4, 2]
        closing = asyncio.create_task(commit.close())
        await asyncio.sleep(0)
        channel.answers[3]()
        await closing
        assert all(future.result() is WRITTEN for future in futures)

    asyncio.run(work())


def test_of_a_users_writes_none_is_tried_again_after_a_later_one_was_stored() -> None:
    harness = StoreHarness(MemoryStore())
    project = harness.project()
    users = harness.user(project, "one"), harness.user(project, "two")
    defect = ZeroDivisionError()

    async def work() -> None:
        sent: list[list[int]] = []

        class Defective(WriteChannel):
            def write(self, writes: Sequence[Write], done: Done) -> None:
                sent.append([users.index(write.cuid) for write in writes])
                results: list[Result] = [WRITTEN] * len(writes)
                if len(sent) == 1:
                    # Both users' first writes failed, and the second one of the first user was stored.
                    results[:2] = [defect, defect]
                asyncio.get_running_loop().call_soon(done, results)

        commit = GroupCommit(Defective())
        writes = [harness.prepare(project, users[n], {"user_bool_once": 1}) for n in (0, 1, 0)]
        found = await asyncio.gather(*map(commit.submit, writes), return_exceptions=True)
        assert found == [defect, WRITTEN, WRITTEN]
        assert sent == [[0, 1, 0], [1]]

    asyncio.run(work())
