"""Calls that wait and are forgotten: the garbage collector finds them, whatever the guest's stack refers to."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.server.serving import LOOPS, until
from wasi_http.component import (
    Borrow,
    Call,
    Component,
    Interface,
    Linker,
    Own,
    Resource,
    constructor,
    func,
    method,
    u32,
)
from wasi_http.engine import Engine, Store, live_fibers, live_stores

# `plain` is called directly, `text` by way of the entry function, `drop` runs a destructor. Each waits for a host
# function that is a method of a resource, or computes for ever.
GUEST = """(component
  (import "test:forgotten/host" (instance $host
    (export "gate" (type $gate (sub resource)))
    (export "[constructor]gate" (func (result (own $gate))))
    (export "[method]gate.wait" (func (param "self" (borrow $gate)) (param "text" string) (result u32)))))
  (alias export $host "gate" (type $gate))
  (core module $Memory (memory (export "m") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64)))
  (core instance $memory (instantiate $Memory))
  (alias core export $memory "m" (core memory $m))
  (alias core export $memory "realloc" (core func $realloc))
  (core func $new-gate (canon lower (func $host "[constructor]gate")))
  (core func $wait (canon lower (func $host "[method]gate.wait") (memory $m)))
  (core module $Destructor
    (import "" "new-gate" (func $new-gate (result i32)))
    (import "" "wait" (func $wait (param i32 i32 i32) (result i32)))
    (func (export "block") (param i32)
      (if (local.get 0) (then (loop $l (br $l))))
      (drop (call $wait (call $new-gate) (i32.const 0) (i32.const 8)))))
  (core instance $destructor (instantiate $Destructor (with "" (instance
    (export "new-gate" (func $new-gate)) (export "wait" (func $wait))))))
  (type $thing (resource (rep i32) (dtor (core func $destructor "block"))))
  (core func $new (canon resource.new $thing))
  (core func $drop (canon resource.drop $thing))
  (core module $Main
    (import "" "block" (func $block (param i32)))
    (import "" "new" (func $new (param i32) (result i32)))
    (import "" "drop" (func $drop (param i32)))
    (func (export "plain") (param i32) (call $block (local.get 0)))
    (func (export "text") (param i32 i32 i32) (call $block (local.get 0)))
    (func (export "drop") (param i32) (call $drop (call $new (local.get 0)))))
  (core instance $main (instantiate $Main (with "" (instance
    (export "block" (func $destructor "block")) (export "new" (func $new)) (export "drop" (func $drop))))))
  (func $plain (param "spins" u32) (canon lift (core func $main "plain")))
  (func $text (param "spins" u32) (param "text" string)
    (canon lift (core func $main "text") (memory $m) (realloc $realloc)))
  (func $drop-thing (param "spins" u32) (canon lift (core func $main "drop")))
  (instance $i (export "plain" (func $plain)) (export "text" (func $text)) (export "drop" (func $drop-thing)))
  (export "test:forgotten/guest" (instance $i)))"""


class Gate(Resource, name="gate"):
    """Never opens; knows who waits, as pollables and streams do."""

    @constructor
    def new() -> Own[Gate]:
        gate = Gate()
        gate.future = None
        return gate

    @method
    async def wait(self: Borrow[Gate], text: str) -> u32:
        self.future = asyncio.get_running_loop().create_future()
        await self.future
        return 0

    future: asyncio.Future[None] | None


class Host(Interface, name="test:forgotten/host"):
    resources = (Gate,)


class Guest(Interface, name="test:forgotten/guest"):
    @func
    def plain(spins: u32) -> None: ...

    @func
    def text(spins: u32, text: str) -> None: ...

    @func
    def drop(spins: u32) -> None: ...


class Starter:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        linker = Linker(engine)
        linker.define(Host)
        self._pre = linker.instantiate_pre(Component(engine, GUEST))
        self._functions = self._pre.export(Guest)

    def start(self, name: str, spins: int) -> Call:
        store = Store(self.engine)
        self._pre.instantiate(store)
        return self._functions[name].start(store, spins, *(["text"] if name == "text" else []))


@pytest.fixture(scope="module")
def starter(engine: Engine) -> Starter:
    return Starter(engine)


def live() -> tuple[int, int]:
    gc.collect()
    gc.collect()
    return live_stores(), live_fibers()


@pytest.mark.parametrize("spins", [0, 1], ids=["waits", "spins"])
@pytest.mark.parametrize("name", ["plain", "text", "drop"])
def test_a_call_that_is_polled_and_forgotten(starter: Starter, name: str, spins: int) -> None:
    before = live()
    call = starter.start(name, spins)
    assert not call.poll()
    del call
    assert live() == before


@pytest.fixture
def collector() -> Iterator[Callable[[], int]]:
    """Collects garbage in another thread, while this one does not."""
    gc.collect()
    gc.disable()
    with ThreadPoolExecutor(1) as pool:
        yield lambda: pool.submit(gc.collect).result()
    gc.enable()


@pytest.mark.parametrize("spins", [0, 1], ids=["waits", "spins"])
@pytest.mark.parametrize("name", ["plain", "text", "drop"])
def test_a_call_that_another_thread_collects(
    starter: Starter, collector: Callable[[], int], name: str, spins: int
) -> None:
    before = live()
    for _ in range(3):
        cycle: list[object] = [starter.start(name, spins)]
        cycle.append(cycle)
        assert not cycle[0].poll()  # type: ignore[attr-defined]
        del cycle
    assert collector() > 0
    assert (live_stores(), live_fibers()) == (before[0] + 3, before[1] + 3)
    # The next store in this thread sees to it, which closes it in the end.
    Store(starter.engine).close()
    assert live() == before


@pytest.mark.parametrize("spins", [0, 1], ids=["waits", "spins"])
@pytest.mark.parametrize("name", ["plain", "text", "drop"])
@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_a_call_that_another_thread_collects_beside_its_loop(
    starter: Starter,
    collector: Callable[[], int],
    loop: Callable[[], asyncio.AbstractEventLoop],
    name: str,
    spins: int,
) -> None:
    async def main() -> None:
        waiting = starter.start(name, spins).wait()
        waiting.send(None)  # what a task does
        cycle: list[object] = [waiting]
        cycle.append(cycle)
        del waiting, cycle
        assert collector() > 0
        assert live_fibers() == before[1] + 1
        await until(lambda: live_fibers() == before[1])

    before = live()
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())
    assert live() == before


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("spins", [0, 1], ids=["waits", "spins"])
@pytest.mark.parametrize("name", ["plain", "text", "drop"])
@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_the_loop_is_closed_under_a_call(
    starter: Starter, loop: Callable[[], asyncio.AbstractEventLoop], name: str, spins: int
) -> None:
    def leave() -> None:
        runner = loop()
        tasks: list[asyncio.Future[None]] = []
        runner.set_exception_handler(lambda *_: None)  # which is told of tasks that are garbage

        async def main() -> None:
            task = asyncio.ensure_future(starter.start(name, spins).wait())
            for _ in range(5):
                await asyncio.sleep(0)
            assert not task.done()
            tasks.append(task)

        runner.run_until_complete(main())
        runner.close()

    before = live()
    leave()
    assert live() == before
