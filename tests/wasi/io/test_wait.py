from __future__ import annotations

import asyncio

import pytest

from tests.engine.test_turns import Guests
from tests.server.serving import LOOPS, run, until
from tests.stalls import Stalls
from wasi_http.engine import Engine, EngineConfig
from wasi_http.flow.signal import Signal
from wasi_http.wasi.io import Poll, Pollable
from wasi_http.wasi.io.wait import Wait

from ..view import View


def test_a_wake_up_asks_nothing() -> None:
    """What waits for many is asked about them in the guest's time, not when a signal wakes it."""

    async def main() -> None:
        asked = 0

        def is_ready() -> bool:
            nonlocal asked
            asked += 1
            return on

        on, signals = False, [Signal() for _ in range(100)]
        wait = Poll.poll(View(), [Pollable(is_ready, signal) for signal in signals])
        assert isinstance(wait, Wait)
        assert not any(len(signal) for signal in signals)
        for _ in range(2):
            assert not wait.look()
            assert all(len(signal) == 1 for signal in signals)
            before = asked
            for signal in signals:
                signal.notify()
            await wait.woken()
            assert asked == before
        on = True
        assert wait.look() == list(range(100))
        wait.close()
        wait.close()
        assert not any(len(signal) for signal in signals)
        assert await wait == list(range(100))

    asyncio.run(main())


def test_each_look_waits_for_another_wake_up() -> None:
    async def main() -> None:
        signal = Signal()
        wait = Wait(lambda: False, signal)
        wait.look()
        signal.notify()
        await wait.woken()
        wait.look()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wait.woken(), 0)
        signal.notify()
        wait.close()

    asyncio.run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_guests_that_are_woken_at_once_from_long_polls(loop: str) -> None:
    async def main() -> None:
        guests = Guests(Engine(EngineConfig(max_instances=1, pooling=False, cache=False)))
        on, signal, view = False, Signal(), View()
        pollables = [Pollable(lambda: on, signal) for _ in range(view.ctx.max_pollables)]

        def poll() -> Wait[int]:
            wait = Poll.poll(view, pollables)
            assert isinstance(wait, Wait)
            return Wait(lambda: len(wait.look()), signal)

        stages = [iter([poll, lambda: 0]) for _ in range(300)]
        for number, stage in enumerate(stages):
            guests.plays[number] = lambda stage=stage: next(stage)()
        calls = [guests.start(number) for number in range(len(stages))]
        await until(lambda: len(signal) == 2 * len(calls))
        with Stalls() as stalls:
            on = True
            signal.notify()
            await asyncio.wait(calls)
        for call in calls:
            call.result()
        assert stalls.found == []

    run(loop, main())
