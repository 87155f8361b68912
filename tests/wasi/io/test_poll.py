from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from wasi_http.engine import Trap
from wasi_http.flow.signal import Signal
from wasi_http.wasi.io import Poll, Pollable

from ..view import View


class Switch(Pollable):
    """A pollable with a switch."""

    def __init__(self, on: bool = False, signal: Signal | None = None) -> None:
        super().__init__(lambda: self.on, Signal() if signal is None else signal)
        self.on = on

    def turn_on(self) -> None:
        self.on = True
        self.signal.notify()


async def _all(value: Any) -> Any:
    return await value if isinstance(value, Awaitable) else value


def test_a_pollable_without_arguments_is_ready() -> None:
    assert Pollable().ready()
    assert Pollable().block() is None


def test_ready_asks_each_time() -> None:
    switch = Switch()
    assert not switch.ready()
    switch.on = True
    assert switch.ready()
    assert switch.block() is None


@pytest.mark.parametrize(
    ("states", "expected"),
    [([True], [0]), ([True, True], [0, 1]), ([False, True, False, True], [1, 3]), ([False] * 9_999 + [True], [9_999])],
)
def test_poll_answers_at_once_when_something_is_ready(states: list[bool], expected: list[int]) -> None:
    assert Poll.poll(View(), [Switch(state) for state in states]) == expected


@pytest.mark.parametrize("length", [0, 4, 1_000_000])
def test_poll_traps_on_an_empty_list_and_beyond_the_limit(length: int) -> None:
    with pytest.raises(Trap, match="poll: "):
        Poll.poll(View(max_pollables=3), [Switch(True)] * length)


def test_the_same_pollable_counts_at_each_position() -> None:
    switch = Switch(True)
    assert Poll.poll(View(), [switch, Switch(), switch]) == [0, 2]


def test_poll_waits_for_the_first_of_many_without_tasks() -> None:
    async def main() -> None:
        switches = [Switch() for _ in range(100)]
        poll = asyncio.ensure_future(_all(Poll.poll(View(), switches)))
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 2  # this one and the guest's
        assert all(len(switch.signal) == 1 for switch in switches)
        switches[3].signal.notify()  # nothing is ready: it waits on
        await asyncio.sleep(0)
        assert not poll.done()
        switches[70].turn_on()
        switches[7].turn_on()
        assert await poll == [7, 70]
        assert not any(len(switch.signal) for switch in switches)

    asyncio.run(main())


def test_many_pollables_of_one_signal_and_one_pollable_many_times() -> None:
    async def main() -> None:
        signal = Signal()
        switches = [Switch(signal=signal) for _ in range(3)]
        poll = asyncio.ensure_future(_all(Poll.poll(View(), switches * 2)))
        await asyncio.sleep(0)
        assert len(signal) == 1
        switches[1].turn_on()
        assert await poll == [1, 4]
        assert len(signal) == 0

    asyncio.run(main())


def test_what_becomes_ready_before_the_wait_begins_is_seen() -> None:
    async def main() -> None:
        switch = Switch()
        pending = Poll.poll(View(), [switch])
        switch.turn_on()
        assert isinstance(pending, Awaitable)
        assert await asyncio.wait_for(_all(pending), 5) == [0]

    asyncio.run(main())


def test_block_waits() -> None:
    async def main() -> None:
        switch = Switch()
        block = asyncio.ensure_future(_all(switch.block()))
        await asyncio.sleep(0)
        switch.turn_on()
        assert await block is None
        assert len(switch.signal) == 0

    asyncio.run(main())


def test_a_cancelled_poll_leaves_no_watcher() -> None:
    async def main() -> None:
        switches = [Switch() for _ in range(100)]
        for wait in (lambda: Poll.poll(View(), switches), switches[0].block):
            task = asyncio.ensure_future(_all(wait()))
            await asyncio.sleep(0)
            assert len(switches[0].signal) == 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not any(len(switch.signal) for switch in switches)

    asyncio.run(main())


def test_a_dropped_pollable_is_forgotten() -> None:
    switch = Switch()
    switch.release()
    switch.turn_on()
    assert len(switch.signal) == 0
