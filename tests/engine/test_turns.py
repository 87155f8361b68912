"""Guests that compute beside others: counted are slices, not seconds."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from tests.server.serving import LOOPS, run, until
from wasi_http.engine import (
    Assembly,
    CoreFunc,
    CoreType,
    Engine,
    EngineConfig,
    Fiber,
    Module,
    Recheck,
    Store,
    Turns,
    wat_to_wasm,
)

pytestmark = [pytest.mark.usefixtures("no_leaks"), pytest.mark.parametrize("loop", LOOPS)]

NUMBER = CoreType(("i32",), ("i32",))
MANY = 50
#: What somebody may wait for beside any number of others, in slices.
FEW = 12

# Calls the host until that has enough of it.
GUEST = """(module
  (import "host" "again" (func $again (param i32) (result i32)))
  (func (export "run") (param i32) (result i32) (loop $l (br_if $l (call $again (local.get 0)))) (i32.const 0)))"""


class Guests:
    """Guests by number. ``plays`` says what becomes of one in each of its rounds; without a play it computes for ever.

    ``slices`` has their numbers in the order in which they ran.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        host = CoreFunc("again", NUMBER, self._again)
        module = Module.compile(engine, wat_to_wasm(GUEST))
        self._assembly = Assembly(engine, [host], [(module, [0])], [(0, 0)])
        self.plays: dict[int, Callable[[], Any]] = {}
        self.slices: list[int] = []
        self.tasks: list[asyncio.Task[None]] = []

    def _again(self, _: Store, number: int) -> Any:
        if self.slices[-1:] != [number]:
            self.slices.append(number)
        return self.plays.get(number, lambda: 1)()

    def fiber(self, number: int) -> Fiber:
        store = Store(self.engine)
        self._assembly.instantiate(store)
        return Fiber.of(store, 0, NUMBER, number)

    def start(self, number: int) -> asyncio.Task[None]:
        task = asyncio.ensure_future(self.fiber(number).drive())
        self.tasks.append(task)
        return task

    async def started(self, *numbers: int) -> None:
        await until(lambda: {*numbers} <= {*self.slices})

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def close_turn(self) -> Turns:
        """Uses up the turn that is there."""
        turns = Turns.of(self.engine)
        fiber = self.fiber(-1)
        while turns.open:
            fiber.poll()
        fiber.close()
        return turns


@pytest.fixture(scope="module")
def quick() -> Engine:
    return Engine(EngineConfig(max_instances=1, pooling=False, cache=False, time_slice=0.001))


@pytest.fixture
def guests(quick: Engine) -> Iterator[Guests]:
    made = Guests(quick)
    yield made
    made.tasks.clear()


def test_a_short_call_beside_many(guests: Guests, loop: str) -> None:
    async def main() -> None:
        for number in range(MANY):
            guests.start(number)
        await guests.started(*range(MANY))
        guests.plays[MANY] = lambda: 0
        before = len(guests.slices)
        await guests.start(MANY)
        assert len(guests.slices) - before < FEW
        await guests.end()

    run(loop, main())


def test_a_call_that_waits_beside_many(guests: Guests, loop: str) -> None:
    async def main() -> None:
        for number in range(MANY):
            guests.start(number)
        answers = [asyncio.get_running_loop().create_future() for _ in range(3)]
        ahead = iter(answers)
        called = asyncio.Event()

        def play() -> asyncio.Future[int]:
            called.set()
            return next(ahead)

        guests.plays[MANY] = play
        call = guests.start(MANY)
        await guests.started(*range(MANY + 1))
        called.clear()
        for position, answer in enumerate(answers, 1):
            before = len(guests.slices)
            answer.set_result(int(position < len(answers)))
            await (asyncio.wait([call]) if position == len(answers) else called.wait())
            called.clear()
            assert len(guests.slices) - before < FEW
        call.result()
        await guests.end()

    run(loop, main())


def test_a_deadline_beside_many(guests: Guests, loop: str) -> None:
    async def main() -> None:
        calls = [guests.start(number) for number in range(MANY)]
        await guests.started(*range(MANY))
        before = len(guests.slices)
        asyncio.get_running_loop().call_later(0, calls[7].cancel)
        await asyncio.wait([calls[7]])
        assert calls[7].cancelled()
        assert len(guests.slices) - before < FEW
        await guests.end()

    run(loop, main())


def test_many_that_are_cancelled_at_once_end_a_few_in_each_turn(guests: Guests, loop: str) -> None:
    async def main() -> None:
        answer = asyncio.get_running_loop().create_future()
        for number in range(MANY):
            guests.plays[number] = lambda: asyncio.shield(answer)
        calls = [guests.start(number) for number in range(MANY)]
        await guests.started(*range(MANY))
        for call in calls:
            call.cancel()
        ended = 0
        while ended < MANY:
            await asyncio.sleep(0)
            before, ended = ended, sum(call.done() for call in calls)
            assert ended - before <= 4
        assert all(call.cancelled() for call in calls)

    run(loop, main())


def test_one_that_is_cancelled_twice_ends_at_once(guests: Guests, loop: str) -> None:
    async def main() -> None:
        answer = asyncio.get_running_loop().create_future()
        for number in range(MANY):
            guests.plays[number] = lambda: asyncio.shield(answer)
        calls = [guests.start(number) for number in range(MANY)]
        await guests.started(*range(MANY))
        for _ in range(2):
            for call in calls:
                call.cancel()
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert all(call.cancelled() for call in calls)

    run(loop, main())


def test_those_that_compute_take_turns(guests: Guests, loop: str) -> None:
    async def main() -> None:
        for number in range(10):
            guests.start(number)
        await until(lambda: len(guests.slices) > 100)
        assert all(guests.slices.count(number) >= 3 for number in range(10))
        await guests.end()

    run(loop, main())


def test_those_that_compute_go_on_beside_an_endless_stream_of_others(guests: Guests, loop: str) -> None:
    async def main() -> None:
        turns = Turns.of(guests.engine)
        numbers = iter(range(1, 1_000_000))

        def use_the_turn() -> int:
            while turns.open:
                pass
            return 0

        def another(_: object = None) -> None:
            if not stop:
                number = next(numbers)
                guests.plays[number] = use_the_turn
                guests.start(number).add_done_callback(another)

        stop = False
        guests.start(0)
        for _ in range(5):
            another()
        await until(lambda: guests.slices.count(0) > 5)
        stop = True
        assert len(guests.slices) < 200
        await guests.end()

    run(loop, main())


def test_those_that_waited_for_the_host_go_on_in_one_turn(guests: Guests, loop: str) -> None:
    async def main() -> None:
        answer = asyncio.get_running_loop().create_future()
        for number in range(MANY):
            guests.plays[number] = lambda: asyncio.shield(answer)
        calls = [guests.start(number) for number in range(MANY)]
        await guests.started(*range(MANY))
        guests.plays.update(dict.fromkeys(range(MANY), lambda: 0))
        answer.set_result(1)
        guests.close_turn()
        rounds = 0
        while not all(call.done() for call in calls):
            await asyncio.sleep(0)
            rounds += 1
        assert rounds < MANY / 2

    run(loop, main())


def test_the_first_that_is_let_on_goes_on_however_long_the_loop_was_away(guests: Guests, loop: str) -> None:
    async def main() -> None:
        turns = guests.close_turn()
        ran: list[str] = []
        turns.join(lambda: (ran.append("first"), guests.close_turn()))
        turns.join(lambda: ran.append("second"))
        clock = asyncio.get_running_loop()
        for _ in range(3):
            # Whatever else the loop does takes all the time that a turn has.
            clock.call_soon(guests.close_turn)
            await asyncio.sleep(0)
        await until(lambda: len(ran) == 2)
        assert ran == ["first", "second"]

    run(loop, main())


def test_the_order_of_those_that_queue(guests: Guests, loop: str) -> None:
    async def main() -> None:
        turns = guests.close_turn()
        ran: list[str] = []
        runs = {name: lambda name=name: ran.append(name) for name in ("computes", "computes much", "a", "b", "gone")}
        turns.join(runs["computes much"], 500)
        turns.join(runs["computes"], 1)
        turns.join(runs["a"])
        turns.join(runs["gone"])
        turns.join(runs["b"])
        turns.join(runs["a"])
        turns.leave(runs["gone"])
        turns.leave(runs["gone"])
        await until(lambda: len(ran) == 4)
        assert ran[:2] == ["a", "b"]
        assert turns.open
        await asyncio.sleep(0)
        assert len(ran) == 4

    run(loop, main())


class Costly(Recheck, Awaitable[int]):
    """Has an answer when ``answers`` does, and uses up the turn whenever it is asked."""

    def __init__(self, turns: Turns, woken: asyncio.Event, answers: Callable[[], int]) -> None:
        self.turns, self.event, self.answers = turns, woken, answers
        self.looks = 0
        self.closed = False

    def __await__(self) -> Any:
        raise AssertionError("a guest does not await it")

    async def woken(self) -> None:
        await self.event.wait()

    def look(self) -> int:
        self.looks += 1
        while self.turns.open:
            pass
        return self.answers()

    def close(self) -> None:
        self.closed = True


def test_those_that_are_woken_at_once_look_one_after_another(guests: Guests, loop: str) -> None:
    async def main() -> None:
        woken, turns = asyncio.Event(), Turns.of(guests.engine)
        rechecks = [Costly(turns, woken, lambda: int(woken.is_set())) for _ in range(MANY)]
        stages = [iter([recheck, 0]) for recheck in rechecks]
        for number, stage in enumerate(stages):
            guests.plays[number] = lambda stage=stage: next(stage)
        calls = [guests.start(number) for number in range(MANY)]
        await until(lambda: all(recheck.looks for recheck in rechecks))
        assert not any(recheck.closed for recheck in rechecks)
        woken.set()
        looked = MANY
        while not all(call.done() for call in calls):
            await asyncio.sleep(0)
            before, looked = looked, sum(recheck.looks for recheck in rechecks)
            assert looked - before <= 3
        for call in calls:
            call.result()
        assert all(recheck.looks == 2 and recheck.closed for recheck in rechecks)

    run(loop, main())


@pytest.mark.parametrize("end", ["cancel", "close", "fail"])
def test_what_is_looked_at_is_closed_with_the_call(guests: Guests, loop: str, end: str) -> None:
    async def main() -> None:
        woken, turns = asyncio.Event(), Turns.of(guests.engine)
        recheck = Costly(turns, woken, lambda: 1 // 0 if woken.is_set() else 0)
        guests.plays[0] = lambda: recheck
        fiber = guests.fiber(0)
        call = asyncio.ensure_future(fiber.drive())
        await until(lambda: recheck.looks)
        await asyncio.sleep(0)
        if end == "cancel":
            call.cancel()
        elif end == "close":
            fiber.store.close()
        else:
            woken.set()
        await asyncio.wait([call])
        assert recheck.closed
        if end == "cancel":
            assert call.cancelled()
        else:
            assert type(call.exception()) is (RuntimeError if end == "close" else ZeroDivisionError)
        fiber.store.close()

    run(loop, main())


def test_the_end_of_a_store_takes_from_the_turn(guests: Guests, loop: str) -> None:
    async def main() -> None:
        turns = Turns.of(guests.engine)

        class Full:
            """What takes long to release."""

            def close(self) -> None:
                end = time.thread_time() + 5
                while turns.open and time.thread_time() < end:
                    pass

        def end() -> None:
            assert turns.open
            store.close()
            open_.append(turns.open)

        open_: list[bool] = []
        store = Store(guests.engine)
        store.instance = Full()
        turns.join(end)
        await until(lambda: open_)
        assert open_ == [False]

    run(loop, main())


def test_one_that_fails_stops_nobody(guests: Guests, loop: str) -> None:
    async def main() -> None:
        failures: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))
        turns = guests.close_turn()
        ran: list[int] = []
        turns.join(lambda: 1 // 0)
        turns.join(lambda: ran.append(1))
        await until(lambda: ran)
        assert [type(failure) for failure in failures] == [ZeroDivisionError]

    run(loop, main())


@pytest.mark.parametrize("end", ["cancel", "close"])
@pytest.mark.parametrize("kind", ["starts", "computes", "goes on"])
def test_a_call_that_ends_while_it_queues(guests: Guests, loop: str, kind: str, end: str) -> None:
    async def main() -> None:
        answer = asyncio.get_running_loop().create_future()
        guests.plays[1] = lambda: answer if kind == "goes on" else 1
        fiber = guests.fiber(1)
        if kind != "starts":
            assert not fiber.poll()
        if kind == "starts":
            guests.close_turn()
        call = asyncio.ensure_future(fiber.drive())
        await asyncio.sleep(0)
        if kind == "goes on":
            answer.set_result(1)
            guests.close_turn()
            await asyncio.sleep(0)
        ran = len(guests.slices)
        if end == "cancel":
            call.cancel()
        else:
            fiber.store.close()
        await asyncio.wait([call])
        assert len(guests.slices) == ran
        if end == "cancel":
            assert call.cancelled()
        else:
            with pytest.raises(RuntimeError, match="closed"):
                call.result()
        fiber.store.close()

    run(loop, main())


def test_each_loop_has_turns_of_its_own(guests: Guests, loop: str) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        async def main() -> None:
            mine = Guests(guests.engine)
            mine.plays[2] = lambda: 0
            for number in (0, 1):
                mine.start(number)
            await mine.started(0, 1)
            await mine.start(2)
            await until(lambda: len(mine.slices) > 10)
            await mine.end()

        try:
            run(loop, main())
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_turns_belong_to_a_running_loop(quick: Engine, loop: str) -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        Turns.of(quick)

    async def main() -> Turns:
        assert Turns.of(quick) is Turns.of(quick)
        return Turns.of(quick)

    assert run(loop, main()) is not run(loop, main())
