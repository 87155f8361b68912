"""The watch over event loops watches."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.stalls import LATE, Stalls

from .server.serving import LOOPS, run

LONG = LATE


def compute(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


async def at_once() -> None:
    compute(LONG)


async def in_pieces() -> None:
    for _ in range(40):
        compute(LONG / 20)
        await asyncio.sleep(0)


async def next_to_each_other() -> None:
    """Two callbacks of one turn."""
    loop = asyncio.get_running_loop()
    loop.call_soon(compute, LONG / 2)
    loop.call_soon(compute, LONG / 2)
    await asyncio.sleep(0)


async def in_a_garbage_collection() -> None:
    class Slow:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            compute(LONG)

    Slow()
    gc.collect()


async def asleep() -> None:
    time.sleep(LONG)  # noqa: ASYNC251 - what it looks like when others have the processor


STALLS = [at_once, next_to_each_other]
REST = [in_pieces, in_a_garbage_collection, asleep]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("work", STALLS + REST, ids=lambda work: work.__name__)
def test_what_counts_as_a_stall(loop: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def main() -> Stalls:
        with Stalls() as stalls:
            await asyncio.sleep(0.01)
            await work()
            await asyncio.sleep(0.01)
        return stalls

    stalls = run(loop, main())
    if work in STALLS:
        assert stalls.found[0] >= LONG
        with pytest.raises(AssertionError, match="the event loop stood still for"):
            stalls.check()
    else:
        stalls.check()
