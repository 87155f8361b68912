from __future__ import annotations

import asyncio
import gc

import pytest

from wasi_http.flow.signal import Signal, until


def test_notify_wakes_watchers_in_order_until_they_are_removed() -> None:
    signal = Signal()
    woken: list[str] = []
    first, second = lambda: woken.append("first"), lambda: woken.append("second")
    signal.add(first)
    signal.add(second)
    signal.add(first)
    assert len(signal) == 2
    signal.notify()
    signal.notify()
    assert woken == ["first", "second"] * 2
    signal.remove(first)
    signal.remove(first)
    signal.notify()
    assert woken == [*["first", "second"] * 2, "second"]


def test_a_signal_without_watchers_is_true() -> None:
    assert Signal()


def test_a_watcher_may_leave_while_it_is_woken() -> None:
    signal = Signal()

    def leave() -> None:
        signal.remove(leave)

    signal.add(leave)
    signal.add(lambda: None)
    signal.notify()
    assert len(signal) == 1


def test_until_returns_at_once_what_is_true() -> None:
    signal = Signal()
    assert asyncio.run(until(lambda: 7, signal)) == 7
    assert len(signal) == 0


def test_until_looks_again_at_each_wake_up() -> None:
    async def main() -> None:
        signals = [Signal() for _ in range(3)]
        answers = [0, 0, 0, 5]
        task = asyncio.ensure_future(until(lambda: answers.pop(0), *signals))
        for signal in signals:
            await asyncio.sleep(0)
            assert [len(each) for each in signals] == [1, 1, 1]
            signal.notify()
            signal.notify()  # one look for both
        assert await task == 5
        assert [len(each) for each in signals] == [0, 0, 0]

    asyncio.run(main())


def test_until_sees_what_changes_while_it_looks() -> None:
    async def main() -> None:
        signal = Signal()
        looks = 0

        def step() -> bool:
            nonlocal looks
            looks += 1
            if looks == 1:
                signal.notify()
            return looks == 2

        assert await asyncio.wait_for(until(step, signal), 5)

    asyncio.run(main())


def test_until_leaves_nothing_behind_when_it_is_cancelled() -> None:
    async def main() -> None:
        signals = [Signal() for _ in range(3)]
        task = asyncio.ensure_future(until(lambda: False, *signals))
        await asyncio.sleep(0)
        assert [len(signal) for signal in signals] == [1, 1, 1]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [len(signal) for signal in signals] == [0, 0, 0]

    asyncio.run(main())


def test_until_leaves_nothing_behind_when_the_step_raises() -> None:
    signal = Signal()
    with pytest.raises(ZeroDivisionError):
        asyncio.run(until(lambda: 1 / 0, signal))
    assert len(signal) == 0


def test_a_wait_leaves_no_cycle_behind() -> None:
    # What a cycle holds (chunks of bodies, say) would stay until the collector comes round.
    signal = Signal()

    async def scenario() -> None:
        for _ in range(100):
            ready: list[int] = []
            waiting = asyncio.ensure_future(until(lambda ready=ready: ready, signal))  # type: ignore[misc]
            await asyncio.sleep(0)
            ready.append(1)
            signal.notify()
            assert await waiting == [1]

    asyncio.run(scenario())
    gc.collect()
    gc.disable()
    try:
        asyncio.run(scenario())
        assert gc.collect() < 50  # the loop has some of its own
    finally:
        gc.enable()
