from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from wasi_http.engine import (
    Assembly,
    CoreFunc,
    CoreType,
    Engine,
    EngineConfig,
    Fiber,
    GuestCancelled,
    Module,
    Store,
    StoreLimits,
    Trap,
    leaving_stores,
    live_fibers,
    live_stores,
    wat_to_wasm,
)

pytestmark = pytest.mark.usefixtures("no_leaks")

NUMBER = CoreType(("i32",), ("i32",))
NOTHING = CoreType((), ())

GUEST = """(module
  (import "host" "call" (func $call (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "run") (param i32) (result i32) (i32.add (i32.const 1000) (call $call (local.get 0))))
  (func (export "spin") (loop $again (br $again)))
  (func $deep (export "deep") (call $deep))
  (func $outer (export "boom") (call $inner))
  (func $inner unreachable)
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "halves") (param i64 f32 f64) (result f64)
    (f64.add (f64.convert_i64_s (local.get 0)) (f64.add (f64.promote_f32 (local.get 1)) (local.get 2)))))"""
EXPORTS = ["memory", "run", "spin", "deep", "boom", "grow", "halves"]


class Guest:
    """The guest above with a host function, one store for each call."""

    def __init__(self, engine: Engine, function: Callable[..., Any]) -> None:
        self.engine = engine
        module = Module.compile(engine, wat_to_wasm(GUEST))
        host = CoreFunc("call", NUMBER, function)
        self.assembly = Assembly(engine, [host], [(module, [0])], [(0, i) for i in range(len(EXPORTS))])

    def start(self, name: str, type_: CoreType, *numbers: float, limits: StoreLimits | None = None) -> Fiber:
        store = Store(self.engine, None, limits)
        self.assembly.instantiate(store)
        return Fiber.of(store, EXPORTS.index(name), type_, *numbers)

    async def call(self, name: str, type_: CoreType, *numbers: float, limits: StoreLimits | None = None) -> Any:
        fiber = self.start(name, type_, *numbers, limits=limits)
        await fiber.drive()
        return fiber.result


def test_a_call_that_does_not_wait_completes_in_one_poll(engine: Engine) -> None:
    fiber = Guest(engine, lambda store, number: number * 2).start("run", NUMBER, 21)
    assert fiber.poll()
    assert fiber.result == 1042
    assert fiber.poll()


def test_all_kinds_of_core_values_pass(engine: Engine) -> None:
    guest = Guest(engine, lambda store, number: number)
    type_ = CoreType(("i64", "f32", "f64"), ("f64",))
    assert asyncio.run(guest.call("halves", type_, -(2**40), 0.5, 0.25)) == 0.75 - 2**40


def test_a_host_function_that_waits_suspends_the_guest(engine: Engine) -> None:
    async def scenario() -> None:
        gate = asyncio.get_running_loop().create_future()

        def wait(store: Store, number: int) -> Any:
            return gate

        guest = Guest(engine, wait)
        call = asyncio.ensure_future(guest.call("run", NUMBER, 1))
        await asyncio.sleep(0)
        assert not call.done()
        gate.set_result(7)
        assert await call == 1007

    asyncio.run(scenario())


def test_many_guests_wait_at_once_and_each_gets_its_own_answer(engine: Engine) -> None:
    async def answer(number: int) -> int:
        await asyncio.sleep(0)
        return number

    async def scenario() -> list[Any]:
        guest = Guest(engine, lambda store, number: answer(number))
        return await asyncio.gather(*(guest.call("run", NUMBER, i) for i in range(50)))

    assert asyncio.run(scenario()) == [1000 + i for i in range(50)]


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, asyncio.CancelledError])
@pytest.mark.parametrize("waits", [False, True])
def test_an_exception_of_a_host_function_surfaces_where_the_call_is_awaited(
    engine: Engine, kind: type[BaseException], waits: bool
) -> None:
    error = kind("no")

    async def later() -> int:
        await asyncio.sleep(0)
        raise error

    def fail(store: Store, number: int) -> Any:
        if waits:
            return later()
        raise error

    async def scenario() -> BaseException:
        try:
            await Guest(engine, fail).call("run", NUMBER, 1)
        except BaseException as caught:
            return caught
        raise AssertionError("nothing was raised")

    caught = asyncio.run(scenario())
    assert caught is error
    if not waits:
        assert "wasm function 1" in "".join(caught.__notes__)
    # The traceback holds the frames of the call.
    error.__traceback__ = None
    del caught


def test_a_trap_has_the_guests_backtrace(engine: Engine) -> None:
    with pytest.raises(Trap, match="unreachable") as caught:
        asyncio.run(Guest(engine, lambda store, number: 0).call("boom", NOTHING))
    assert [line.split()[1] for line in caught.value.backtrace.splitlines()] == ["inner", "outer"]


def test_backtraces_are_bounded(engine: Engine) -> None:
    name = "x" * 50_000
    text = f'(module ${name} (func $again{name}y (export "run") (call $again{name}y)))'
    binary = wat_to_wasm(text).replace(f"{name}y".encode(), f"{name[1:]}\x1by".encode())
    module = Module.compile(engine, binary)
    store = Store(engine)
    Assembly(engine, [], [(module, [])], [(0, 0)]).instantiate(store)
    with pytest.raises(Trap) as caught:
        Fiber.of(store, 0, CoreType((), ())).poll()
    lines = caught.value.backtrace.splitlines()
    assert len(lines) == 20
    assert all(len(line) < 500 for line in lines)
    assert " 19: xxxxx" in lines[-1]
    assert "xx!againxx" in lines[-1]
    assert "xx\\x1by at offset" in lines[-1]


def test_messages_of_traps_are_cut() -> None:
    trap = Trap("the host says " + "x" * 100_000_000 + "\x1b[31m")
    assert str(trap) == trap.message
    assert len(trap.message) < 1100
    assert trap.message.endswith("xx\\x1b[31m")


def test_a_trap_raised_by_a_host_function_gets_the_backtrace(engine: Engine) -> None:
    def refuse(store: Store, number: int) -> int:
        raise Trap("not today")

    with pytest.raises(Trap, match="not today") as caught:
        asyncio.run(Guest(engine, refuse).call("run", NUMBER, 1))
    assert caught.value.backtrace


def test_endless_recursion_is_a_trap(engine: Engine) -> None:
    with pytest.raises(Trap, match="call stack exhausted"):
        asyncio.run(Guest(engine, lambda store, number: 0).call("deep", NOTHING))


def test_a_guest_in_an_endless_loop_delays_nobody_and_is_stopped(engine: Engine) -> None:
    async def scenario() -> int:
        guest = Guest(engine, lambda store, number: 0)
        turns = 0
        call = asyncio.ensure_future(guest.call("spin", NOTHING))
        while turns < 3:
            await asyncio.sleep(0)
            turns += 1
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        return turns

    assert asyncio.run(scenario()) == 3


def test_a_store_is_spent_after_a_trap_and_after_cancellation(engine: Engine) -> None:
    fiber = Guest(engine, lambda store, number: 0).start("boom", NOTHING)
    with pytest.raises(Trap):
        fiber.poll()
    with pytest.raises(RuntimeError, match="spent"):
        Fiber.of(fiber.store, EXPORTS.index("run"), NUMBER, 1)


def test_dropping_a_call_unwinds_the_guest_and_closes_what_it_waited_for(engine: Engine) -> None:
    events: list[str] = []

    async def forever() -> int:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            events.append("closed")
        return 0

    async def scenario() -> None:
        guest = Guest(engine, lambda store, number: forever())
        call = asyncio.ensure_future(guest.call("run", NUMBER, 1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(scenario())
    assert events == ["closed"]


def test_thousands_of_cancelled_calls_leave_nothing(engine: Engine) -> None:
    async def forever() -> int:
        return await asyncio.get_running_loop().create_future()

    guest = Guest(engine, lambda store, number: forever())
    before = live_stores(), live_fibers()
    for _ in range(2000):
        fiber = guest.start("run", NUMBER, 1)
        assert not fiber.poll()
        fiber.close()
        with pytest.raises(RuntimeError):
            Fiber.of(fiber.store, 1, NUMBER, 1)
    del fiber
    assert (live_stores(), live_fibers()) == before


def test_a_fiber_that_is_forgotten_is_dropped_with_its_store(engine: Engine) -> None:
    async def forever() -> int:
        return 0

    before = live_stores(), live_fibers()
    fiber = Guest(engine, lambda store, number: forever()).start("run", NUMBER, 1)
    assert not fiber.poll()
    del fiber
    gc.collect()
    assert (live_stores(), live_fibers()) == before


def test_memory_beyond_the_limit_is_refused_the_way_wasm_has_for_it(engine: Engine) -> None:
    guest = Guest(engine, lambda store, number: 0)
    limits = StoreLimits(memory_size=3 * 65536)
    assert asyncio.run(guest.call("grow", NUMBER, 2, limits=limits)) == 1
    assert asyncio.run(guest.call("grow", NUMBER, 3, limits=limits)) == -1


def test_a_memory_that_is_born_too_large_is_not_instantiated(engine: Engine) -> None:
    with pytest.raises(Trap, match="memory"):
        Guest(engine, lambda store, number: 0).start("boom", NOTHING, limits=StoreLimits(memory_size=100))


# The limit, a module that is just within it, one that is beyond.
COUNTS = [
    ("table_elements", "(module (table 2 funcref))", "(module (table 3 funcref))"),
    ("tables", "(module (table 1 funcref) (table 1 funcref))", f"(module {'(table 1 funcref)' * 3})"),
    ("memories", "(module (memory 1) (memory 1))", "(module (memory 1) (memory 1) (memory 1))"),
    ("instances", "(module)", None),
]


@pytest.mark.parametrize(("limit", "within", "beyond"), COUNTS, ids=[limit for limit, _, _ in COUNTS])
def test_what_a_store_may_hold(limit: str, within: str, beyond: str | None) -> None:
    engine = Engine(EngineConfig(max_instances=1, pooling=False, cache=False))
    limits = StoreLimits(**{limit: 2})

    def instantiate(*texts: str) -> None:
        modules = [Module.compile(engine, wat_to_wasm(text)) for text in texts]
        with closing(Store(engine, None, limits)) as store:
            Assembly(engine, [], [(module, []) for module in modules], []).instantiate(store)

    instantiate(within)
    with pytest.raises(Trap, match=r"limit"):
        instantiate(*([within] * 3 if beyond is None else [beyond]))


def test_tables_beyond_the_limit_do_not_grow(engine: Engine) -> None:
    text = """(module (table $t 1 funcref)
      (func (export "grow") (param i32) (result i32) (table.grow $t (ref.null func) (local.get 0))))"""
    assembly = Assembly(engine, [], [(Module.compile(engine, wat_to_wasm(text)), [])], [(0, 0)])

    async def grow(more: int) -> Any:
        with closing(Store(engine, None, StoreLimits(table_elements=3))) as store:
            assembly.instantiate(store)
            fiber = Fiber.of(store, 0, NUMBER, more)
            await fiber.drive()
            return fiber.result

    assert [asyncio.run(grow(more)) for more in (2, 3)] == [1, -1]


FILL = """(module
  (memory (export "memory") 4096)
  (func (export "fill") (memory.fill (i32.const 0) (i32.const 1) (i32.const 0x10000000))))"""


def test_large_memories_leave_in_another_thread_and_keep_their_place_meanwhile() -> None:
    engine = Engine(EngineConfig(max_instances=1, memories_per_instance=1, cache=False))
    assembly = Assembly(engine, [], [(Module.compile(engine, wat_to_wasm(FILL)), [])], [(0, 0), (0, 1)])
    took = []
    for _ in range(3):
        store = Store(engine)
        assembly.instantiate(store)
        fiber = Fiber.of(store, 1, NOTHING)
        while not fiber.poll():
            pass
        began = time.thread_time()
        assert store.close()
        took.append(time.thread_time() - began)
        assert not store.close()
        del store, fiber
    # The system takes 15 ms and more for 256 MiB.
    assert min(took) < 0.005
    while leaving_stores():
        time.sleep(0.001)


def test_small_stores_leave_at_once(engine: Engine) -> None:
    fiber = Guest(engine, lambda store, number: number).start("run", NUMBER, 1)
    assert fiber.poll()
    assert not fiber.store.close()


def test_a_store_in_use_refuses_another_thread(engine: Engine) -> None:
    inside, leave = threading.Event(), threading.Event()
    errors: list[str] = []

    def block(store: Store, number: int) -> int:
        inside.set()
        leave.wait(10)
        return 0

    fiber = Guest(engine, block).start("run", NUMBER, 1)

    def intrude() -> None:
        inside.wait(10)
        try:
            fiber.poll()
        except RuntimeError as error:
            errors.append(str(error))
        leave.set()

    thread = threading.Thread(target=intrude)
    thread.start()
    assert fiber.poll()
    thread.join()
    assert len(errors) == 1
    assert "one thread at a time" in errors[0]


def test_guests_of_several_threads_run_side_by_side(engine: Engine) -> None:
    guest = Guest(engine, lambda store, number: number + threading.get_ident() % 7)
    results: dict[int, set[Any]] = {}

    def work(key: int) -> None:
        results[key] = {asyncio.run(guest.call("run", NUMBER, key)) - threading.get_ident() % 7 for _ in range(200)}

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {i: {1000 + i} for i in range(4)}


START = """(module (import "host" "call" (func $call (param i32) (result i32)))
  (func $start {body}) (start $start))"""


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("(loop $l (br $l))", r"longer than 0\.02 s: EngineConfig\.start_time_limit"),
        ("unreachable", "unreachable"),
        ("(drop (call $call (i32.const 1)))", "start function"),
    ],
)
def test_start_functions_cannot_hang_or_wait(body: str, expected: str, engine: Engine) -> None:
    quick = Engine(EngineConfig(max_instances=2, start_time_limit=0.02, cache=False))
    module = Module.compile(quick, wat_to_wasm(START.format(body=body)))

    async def later() -> int:
        return 1

    assembly = Assembly(quick, [CoreFunc("call", NUMBER, lambda store, number: later())], [(module, [0])], [])
    started = time.thread_time()
    with pytest.raises(Trap, match=expected):
        assembly.instantiate(Store(quick))
    assert time.thread_time() - started < 1


@pytest.mark.parametrize("interruptible", [True, False])
def test_time_slices_end_unless_guests_are_trusted(interruptible: bool) -> None:
    """What a host function takes is the guest's time: its next round through a loop is one too many."""
    engine = Engine(EngineConfig(max_instances=1, cache=False, time_slice=0.001, interruptible=interruptible))
    wat = """(module
      (import "host" "wait" (func $wait))
      (func (export "run") (local $i i32)
        (call $wait)
        (loop $l
          (br_if $l (i32.ne (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 5))))))"""
    module = Module.compile(engine, wat_to_wasm(wat))
    wait = CoreFunc("wait", NOTHING, lambda store: time.sleep(0.1))  # a hundred time slices
    store = Store(engine)
    Assembly(engine, [wait], [(module, [0])], [(0, 0)]).instantiate(store)
    fiber = Fiber.of(store, 0, NOTHING)
    assert fiber.poll() is not interruptible
    while not fiber.poll():
        pass


def test_a_closed_store_is_refused_everywhere(engine: Engine) -> None:
    guest = Guest(engine, lambda store, number: 0)
    fiber = guest.start("run", NUMBER, 1)
    assert fiber.poll()
    fiber.store.close()
    fiber.store.close()
    with pytest.raises(RuntimeError, match="closed"):
        guest.assembly.instantiate(fiber.store)


@pytest.mark.parametrize("what", ["the store", "the fiber"])
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_closing_a_store_ends_the_wait_of_its_call(engine: Engine, what: str, turns: int) -> None:
    events: list[str] = []

    async def forever() -> int:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            events.append("closed")
        return 0

    async def scenario() -> None:
        guest = Guest(engine, lambda store, number: forever())
        fiber = guest.start("run", NUMBER, 1)
        assert not fiber.poll()
        call = asyncio.ensure_future(fiber.drive())
        for _ in range(turns):
            await asyncio.sleep(0)
        if what == "the store":
            fiber.store.close()
        else:
            fiber.close()
        done, _ = await asyncio.wait([call], timeout=10)
        assert done
        # The task was not cancelled by those whom it belongs to.
        assert call.cancelling() == 0
        with pytest.raises(RuntimeError, match="closed while its guest waited"):
            call.result()

    asyncio.run(scenario())
    assert events == ["closed"]


def test_a_cancelled_host_function_sees_guest_cancelled(engine: Engine) -> None:
    assert issubclass(GuestCancelled, BaseException)
    assert not issubclass(GuestCancelled, Exception)


def test_the_clock_wakes_for_a_guest_that_keeps_the_gil() -> None:
    # With slices of a millisecond the clock goes to sleep after 0.1 s. A guest begins with the GIL, so a clock that
    # needed it to wake up would never end the slice.
    engine = Engine(EngineConfig(max_instances=1, time_slice=0.001, cache=False))
    guest = Guest(engine, lambda store, number: number)
    for pause in (0.0, 0.3):
        time.sleep(pause)
        fiber = guest.start("spin", NOTHING)
        assert not fiber.poll()
        assert not fiber.poll()
        fiber.close()


def test_threads_share_an_engine_whose_guests_keep_and_release_the_gil() -> None:
    # Suspended in the first slice, preempted, resumed, cancelled: whoever comes back has to have the GIL.
    engine = Engine(EngineConfig(max_instances=8, time_slice=0.001, cache=False))
    failures: list[BaseException] = []

    async def call(guest: Guest) -> None:
        for number in range(30):
            assert await guest.call("run", NUMBER, number) == 1000 + number
            spinning = asyncio.ensure_future(guest.call("spin", NOTHING))
            await asyncio.sleep(0)
            spinning.cancel()
            with pytest.raises(asyncio.CancelledError):
                await spinning

    async def wait(store: Store, number: int) -> int:
        await asyncio.sleep(0)
        return number

    def work() -> None:
        try:
            asyncio.run(call(Guest(engine, wait)))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def elsewhere(function: Callable[[], Any]) -> Any:
    """What a function returns or raises in another thread."""
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append(function())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return outcome[0]


def suspended(engine: Engine) -> Fiber:
    async def never(store: Store, number: int) -> int:
        raise AssertionError("nobody awaits it")

    fiber = Guest(engine, never).start("run", NUMBER, 1)
    assert not fiber.poll()
    return fiber


def test_a_call_stays_in_its_thread(engine: Engine) -> None:
    # What waits on the fiber's stack belongs to the thread: going on elsewhere would end the process.
    fiber = suspended(engine)
    for use in (fiber.poll, fiber.close, fiber.store.close):
        refused = elsewhere(use)
        assert isinstance(refused, RuntimeError)
        assert "in the thread where it began" in str(refused)
    fiber.close()
    fiber.store.close()


def test_a_call_that_goes_away_in_another_thread_is_left_to_its_own(engine: Engine) -> None:
    before = live_fibers()
    held = [suspended(engine) for _ in range(3)]
    elsewhere(held.clear)
    elsewhere(lambda: Store(engine).close())
    assert live_fibers() == before + 3
    Store(engine).close()
    assert live_fibers() == before


@pytest.mark.parametrize("owner", ["main", "ended"])
@pytest.mark.parametrize("collector", ["main", "other"])
def test_what_becomes_of_a_call_that_is_left_when_its_thread_ends(owner: str, collector: str) -> None:
    # In a process of its own, because what cannot be unwound is there until that ends.
    code = f"""
from tests.engine.test_store import elsewhere, suspended
from wasi_http.engine import Engine, EngineConfig, Store, live_fibers

engine = Engine(EngineConfig(max_instances=1, pooling=False, cache=False))
held = []
make = lambda: held.append(suspended(engine))
make() if {owner!r} == "main" else elsewhere(make)
held.clear() if {collector!r} == "main" else elsewhere(held.clear)
print(live_fibers())
if {owner!r} == "ended":
    elsewhere(Store(engine).close)
"""
    command = [sys.executable, "-W", "always::ResourceWarning", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    left = owner == "main" and collector == "other"
    assert (done.returncode, done.stdout) == (0, f"{int(left)}\n"), done.stderr
    assert done.stderr.count("the guest's memory is lost") == (owner == "ended")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_process_is_told_that_it_cannot_go_on() -> None:
    code = """
import os
from tests.engine.test_store import NUMBER, Guest
from wasi_http.engine import Engine, EngineConfig

guest = Guest(Engine(EngineConfig(max_instances=1, pooling=False, cache=False)), lambda store, number: number)
if os.fork() == 0:
    try:
        guest.start("run", NUMBER, 1)
    except RuntimeError as error:
        os._exit("forked" not in str(error))
    os._exit(2)
assert guest.start("run", NUMBER, 1).poll()
print(os.waitpid(-1, 0)[1])
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout == "0\n", done.stderr


def test_names_that_guests_import_are_their_own(engine: Engine) -> None:
    # Modules that import nothing but host functions are linked by name.
    text = f'(module (import "host functions by their position" "{0:032d}" (func)) (func (export "run")))'
    host = CoreFunc("f", NOTHING, lambda store: None)
    assembly = Assembly(engine, [host], [(Module.compile(engine, wat_to_wasm(text)), [0])], [(0, 0)])
    store = Store(engine)
    assembly.instantiate(store)
    assert Fiber.of(store, 0, NOTHING).poll()
    store.close()
