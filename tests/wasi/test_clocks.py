from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from wasi_http.wasi.clocks import Datetime, MonotonicClock, Timezone, TimezoneDisplay, WallClock
from wasi_http.wasi.io import Poll, Pollable

from .view import View

MAX_U64 = 2**64 - 1
SECOND = 10**9
MILLISECOND = 10**6

LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])


async def finish(value: Any) -> Any:
    return await value if isinstance(value, Awaitable) else value


def run(new_loop: Callable[[], asyncio.AbstractEventLoop], main: Any) -> Any:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)


def test_now() -> None:
    view = View()
    assert 0 <= MonotonicClock.now(view) <= MonotonicClock.now(view)
    assert MonotonicClock.now(View(monotonic=lambda: 42)) == 42
    assert 0 < MonotonicClock.resolution() < SECOND


@pytest.mark.parametrize(
    ("nanoseconds", "expected"),
    [
        (0, Datetime(0, 0)),
        (1_700_000_000_123_456_789, Datetime(1_700_000_000, 123_456_789)),
        (-1, Datetime(0, 0)),
        (2**64 * SECOND, Datetime(0, 0)),
        (2**64 * SECOND - 1, Datetime(MAX_U64, 999_999_999)),
    ],
)
def test_wall_clock(nanoseconds: int, expected: Datetime) -> None:
    assert WallClock.now(View(wall=lambda: nanoseconds)) == expected


def test_wall_clock_of_the_system() -> None:
    now = WallClock.now(View())
    assert abs(now.seconds - time.time()) < 10
    resolution = WallClock.resolution()
    assert resolution.seconds == 0
    assert 0 < resolution.nanoseconds < SECOND


@pytest.mark.parametrize("when", [Datetime(0, 0), Datetime(MAX_U64, 2**32 - 1)])
def test_guests_live_in_utc(when: Datetime) -> None:
    assert Timezone.display(when) == TimezoneDisplay(0, "UTC", False)
    assert Timezone.utc_offset(when) == 0


def test_readiness_follows_the_clock() -> None:
    now = 1000
    view = View(monotonic=lambda: now)
    duration = MonotonicClock.subscribe_duration(view, 10)
    instant = MonotonicClock.subscribe_instant(view, 1020)
    answers = []
    for now in (1009, 1010, 1020):  # noqa: B007, the clock reads it
        answers.append((duration.ready(), instant.ready()))
    assert answers == [(False, False), (True, False), (True, True)]


@pytest.mark.parametrize("subscribe", [MonotonicClock.subscribe_duration, MonotonicClock.subscribe_instant])
def test_the_far_future_never_comes(subscribe: Callable[[View, int], Pollable]) -> None:
    async def main() -> None:
        pollable = subscribe(View(), MAX_U64)
        assert not pollable.ready()
        task = asyncio.ensure_future(finish(pollable.block()))
        await asyncio.sleep(0)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    for new_loop in (asyncio.new_event_loop, uvloop.new_event_loop):
        run(new_loop, main())


@LOOPS
def test_block_waits_until_the_time_has_come(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def main() -> None:
        view = View()
        for delay in (1, 400_000, 5 * MILLISECOND):
            start = MonotonicClock.now(view)
            pollable = MonotonicClock.subscribe_duration(view, delay)
            await asyncio.wait_for(finish(pollable.block()), 5)
            assert MonotonicClock.now(view) - start >= delay
            assert pollable.ready()
            assert len(pollable.signal) == 0

    run(new_loop, main())


def test_a_timer_that_fires_before_the_clock_is_set_again() -> None:
    async def main() -> None:
        times = iter([0, 0, 0, *[10] * 3, *[MILLISECOND] * 9])
        pollable = MonotonicClock.subscribe_duration(View(monotonic=lambda: next(times)), MILLISECOND)
        await asyncio.wait_for(finish(pollable.block()), 5)

    asyncio.run(main())


@pytest.mark.parametrize("subscribe", [MonotonicClock.subscribe_duration, MonotonicClock.subscribe_instant])
def test_polling_with_a_timeout_of_zero_lets_the_loop_go_round(subscribe: Callable[[View, int], Pollable]) -> None:
    async def main() -> None:
        view = View()
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.ensure_future(other())
        for _ in range(10):
            before = turns
            pollable = subscribe(view, 0)
            assert await finish(Poll.poll(view, [pollable])) == [0]
            assert turns > before
            assert len(pollable.signal) == 0
            assert pollable.ready()
        task.cancel()

    asyncio.run(main())


def test_a_passed_deadline_is_ready_at_the_second_look_without_a_loop() -> None:
    pollable = MonotonicClock.subscribe_duration(View(), 0)
    assert [pollable.ready(), pollable.ready()] == [False, True]


def test_a_cancelled_wait_for_a_passed_deadline_leaves_nothing() -> None:
    async def main() -> None:
        pollable = MonotonicClock.subscribe_duration(View(), 0)
        task = asyncio.ensure_future(finish(pollable.block()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(pollable.signal) == 0
        await asyncio.wait_for(finish(pollable.block()), 5)

    asyncio.run(main())


class Counting(asyncio.SelectorEventLoop):
    """Counts the timers that are set and neither fired nor cancelled."""

    def pending(self) -> int:
        return sum(not timer.cancelled() for timer in self._scheduled)  # type: ignore[attr-defined]


def test_timers_run_only_while_somebody_waits() -> None:
    loop = Counting()

    async def main() -> None:
        view = View()
        timers = [MonotonicClock.subscribe_duration(view, 1000 * SECOND) for _ in range(1000)]
        assert loop.pending() == 0
        task = asyncio.ensure_future(finish(Poll.poll(view, timers)))
        await asyncio.sleep(0)
        # The first one that is due comes first.
        assert loop.pending() == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert loop.pending() == 0
        assert not any(len(timer.signal) for timer in timers)
        for timer in timers:
            timer.release()
        assert loop.pending() == 0

    run(lambda: loop, main())


def test_the_first_of_many_timers_ends_the_wait() -> None:
    async def main() -> None:
        view = View()
        soon, later = 5 * MILLISECOND, 1000 * SECOND
        timers = [MonotonicClock.subscribe_duration(view, delay) for delay in (later, soon, later)]
        answer = Poll.poll(view, [*timers, *timers, Pollable(lambda: False, timers[0].signal)])
        assert await asyncio.wait_for(finish(answer), 5) == [1, 4]

    asyncio.run(main())


@LOOPS
def test_two_thousand_guests_sleep_at_once(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def guest(view: View) -> list[int]:
        timers = [MonotonicClock.subscribe_duration(view, 50 * MILLISECOND), Pollable(lambda: False)]
        return await finish(Poll.poll(view, timers))

    async def main() -> None:
        view = View()
        start = time.monotonic()
        results = await asyncio.gather(*[guest(view) for _ in range(2000)])
        assert results == [[0]] * 2000
        assert 0.05 <= time.monotonic() - start < 10  # together, not one after the other

    run(new_loop, main())
