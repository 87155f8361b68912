"""Instances: calls from both sides, and the resources that guests implement."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.component.abi_world import Guest, World
from tests.guests.build import unavailable
from wasi_http.component import (
    Component,
    GuestResource,
    InstancePre,
    Interface,
    Lifted,
    Linker,
    Own,
    Resource,
    ResourceTable,
    constructor,
    func,
    method,
    static,
    u32,
)
from wasi_http.component.handles import live_handles
from wasi_http.engine import Engine, Store, Trap, live_stores

pytestmark = pytest.mark.usefixtures("no_leaks")

# A guest with a resource: `item`, represented by a number. What its destructor does depends on the number.

WAITS, SPINS, TRAPS, DROPS_ANOTHER = 1, 2, 3, 4

ITEMS = """(component
  (import "test:items/host" (instance $host
    (export "dropped" (func (param "rep" u32)))
    (export "wait" (func))
    (export "callback" (func))))
  (core func $dropped (canon lower (func $host "dropped")))
  (core func $wait (canon lower (func $host "wait")))
  (core func $callback (canon lower (func $host "callback")))
  (core module $destructor
    (import "host" "dropped" (func $dropped (param i32)))
    (import "host" "wait" (func $wait))
    (import "host" "callback" (func $callback))
    (func (export "dtor") (param i32)
      (if (i32.eq (local.get 0) (i32.const 1)) (then (call $wait)))
      (if (i32.eq (local.get 0) (i32.const 2)) (then (loop $l (br $l))))
      (if (i32.eq (local.get 0) (i32.const 3)) (then unreachable))
      (if (i32.eq (local.get 0) (i32.const 4)) (then (call $callback)))
      (call $dropped (local.get 0))))
  (core instance $d (instantiate $destructor (with "host" (instance
    (export "dropped" (func $dropped)) (export "wait" (func $wait)) (export "callback" (func $callback))))))
  (type $item (resource (rep i32) (dtor (core func $d "dtor"))))
  (core func $new (canon resource.new $item))
  (core func $rep (canon resource.rep $item))
  (core func $drop (canon resource.drop $item))
  (core module $main
    (import "r" "new" (func $new (param i32) (result i32)))
    (import "r" "rep" (func $rep (param i32) (result i32)))
    (import "r" "drop" (func $drop (param i32)))
    (import "r" "callback" (func $callback))
    (func (export "new") (param i32) (result i32) (call $new (local.get 0)))
    (func (export "number") (param i32) (result i32) (local.get 0))
    (func (export "rep") (param i32) (result i32) (call $rep (local.get 0)))
    (func (export "take") (param i32) (call $drop (local.get 0)))
    (func (export "keep") (param i32))
    (func (export "same") (param i32) (result i32) (local.get 0))
    (func (export "call") (call $callback)))
  (core instance $m (instantiate $main (with "r" (instance
    (export "new" (func $new)) (export "rep" (func $rep)) (export "drop" (func $drop))
    (export "callback" (func $callback))))))
  (func $make (param "number" u32) (result (own $item)) (canon lift (core func $m "new")))
  (func $number (param "self" (borrow $item)) (result u32) (canon lift (core func $m "number")))
  (func $take (param "item" (own $item)) (canon lift (core func $m "take")))
  (func $keep (param "item" (own $item)) (canon lift (core func $m "keep")))
  (func $same (param "item" (own $item)) (result (own $item)) (canon lift (core func $m "same")))
  (func $forge (param "handle" u32) (result (own $item)) (canon lift (core func $m "same")))
  (func $rep-of (param "handle" u32) (result u32) (canon lift (core func $m "rep")))
  (func $call (canon lift (core func $m "call")))
  (component $shape
    (import "t" (type $t (sub resource)))
    (import "make" (func $make (param "number" u32) (result (own $t))))
    (import "number" (func $number (param "self" (borrow $t)) (result u32)))
    (import "take" (func $take (param "item" (own $t))))
    (import "keep" (func $keep (param "item" (own $t))))
    (import "same" (func $same (param "item" (own $t)) (result (own $t))))
    (import "forge" (func $forge (param "handle" u32) (result (own $t))))
    (import "rep-of" (func $rep-of (param "handle" u32) (result u32)))
    (import "call" (func $call))
    (export $e "item" (type $t))
    (export "[constructor]item" (func $make) (func (param "number" u32) (result (own $e))))
    (export "[method]item.number" (func $number) (func (param "self" (borrow $e)) (result u32)))
    (export "[static]item.take" (func $take) (func (param "item" (own $e))))
    (export "keep" (func $keep) (func (param "item" (own $e))))
    (export "same" (func $same) (func (param "item" (own $e)) (result (own $e))))
    (export "forge" (func $forge) (func (param "handle" u32) (result (own $e))))
    (export "rep-of" (func $rep-of) (func (param "handle" u32) (result u32)))
    (export "call" (func $call) (func)))
  (instance $i (instantiate $shape (with "t" (type $item))
    (with "make" (func $make))
    (with "number" (func $number))
    (with "take" (func $take))
    (with "keep" (func $keep))
    (with "same" (func $same))
    (with "forge" (func $forge))
    (with "rep-of" (func $rep-of))
    (with "call" (func $call))))
  (export "test:items/items" (instance $i)))"""


class Host(Interface, name="test:items/host"):
    def __init__(self) -> None:
        self.reps: list[int] = []
        self.release = asyncio.Event()
        self.then: Callable[[], object] = lambda: None

    @method
    def dropped(self, rep: u32) -> None:
        self.reps.append(rep)

    @method
    async def wait(self) -> None:
        await self.release.wait()

    @func
    def callback(self) -> None:
        self.then()


class Item(Resource, name="item"):
    @constructor
    def new(number: u32) -> Own[Item]: ...

    @method
    def number(self) -> u32: ...

    @static
    def take(item: Own[Item]) -> None: ...


class Items(Interface, name="test:items/items"):
    resources = (Item,)

    @func
    def keep(item: Own[Item]) -> None: ...

    @func
    def same(item: Own[Item]) -> Own[Item]: ...

    @func
    def forge(handle: u32) -> Own[Item]: ...

    @func
    def rep_of(handle: u32) -> u32: ...

    @func
    def call() -> None: ...


class Fixture:
    """One instance of the guest with the resource; its stores end with the test."""

    def __init__(self, engine: Engine, text: str = ITEMS) -> None:
        self.host = Host()
        linker = Linker(engine)
        linker.define(self.host)
        self.pre: InstancePre = linker.instantiate_pre(Component(engine, text))
        self.functions: dict[str, Lifted] = self.pre.export(Items)
        self.store = self.fresh(engine)

    def fresh(self, engine: Engine) -> Store:
        store = Store(engine)
        self.pre.instantiate(store)
        return store

    def call(self, name: str, *arguments: Any, store: Store | None = None) -> Any:
        call = self.functions[name].start(store or self.store, *arguments)
        assert call.poll()
        return call.result

    def make(self, number: int) -> GuestResource:
        made = self.call("[constructor]item", number)
        assert isinstance(made, GuestResource)
        return made


@pytest.fixture
def items(engine: Engine, no_leaks: None) -> Iterator[Fixture]:
    fixture = Fixture(engine)
    yield fixture
    fixture.store.close()
    del fixture.store


def test_the_host_holds_a_guests_resource(items: Fixture) -> None:
    item = items.make(70)
    assert (item.rep, item.owned, str(item.type)) == (70, True, "item")
    assert repr(item) == "<own of the guest's item 70>"
    # A borrow reaches the instance that implements the type as the representation, without a handle.
    assert items.call("[method]item.number", item) == 70
    assert items.call("[method]item.number", item) == 70
    item.drop()
    assert items.host.reps == [70]
    for use in (item.drop, lambda: items.call("[method]item.number", item)):
        with pytest.raises(ValueError, match="the resource item was dropped or given away"):
            use()
    assert items.host.reps == [70]


def test_a_resource_that_is_given_back_is_dropped_by_its_guest(items: Fixture) -> None:
    item = items.make(71)
    items.call("[static]item.take", item)
    assert items.host.reps == [71]
    with pytest.raises(ValueError, match="dropped or given away"):
        item.drop()
    assert items.host.reps == [71]


def test_a_resource_goes_to_the_guest_and_comes_back(items: Fixture) -> None:
    item = items.make(0)
    again = items.call("same", item)
    assert again is not item
    assert again.rep == 0
    with pytest.raises(ValueError, match="dropped or given away"):
        items.call("same", item)


def test_resource_rep_of_the_guest(items: Fixture) -> None:
    items.call("keep", items.make(77))
    assert items.call("rep-of", 1) == 77
    assert items.call("forge", 1).rep == 77
    with pytest.raises(Trap, match="unknown handle index 1"):
        items.call("rep-of", 1)


@pytest.mark.parametrize("handle", [0, 9, 0xFFFFFFFF])
def test_a_handle_that_the_guest_made_up(items: Fixture, handle: int) -> None:
    items.make(5)
    with pytest.raises(Trap, match=f"unknown handle index {handle}"):
        items.call("forge", handle)


def test_closing_the_store_runs_no_guest_code(items: Fixture) -> None:
    """The instance that a destructor would put in order ends as a whole."""
    before = live_handles()
    item = items.make(72)
    items.call("keep", items.make(73))
    assert live_handles() == before + 1
    items.store.close()
    assert live_handles() == before
    item.drop()
    assert items.host.reps == []
    with pytest.raises(ValueError, match="dropped or given away"):
        item.drop()


def test_a_dropped_resource_stays_dropped_when_the_store_closes(items: Fixture) -> None:
    items.make(74).drop()
    items.call("[static]item.take", items.make(75))
    items.store.close()
    assert items.host.reps == [74, 75]


def test_after_a_trap_there_is_nothing_to_drop(items: Fixture) -> None:
    item = items.make(76)
    with pytest.raises(Trap):
        items.call("forge", 99)
    item.drop()
    assert items.host.reps == []


def test_a_forgotten_store_is_freed_at_once(items: Fixture, engine: Engine) -> None:
    """What leads from a resource to its destructor is no reference to the store."""
    before = live_stores()
    gc.disable()
    try:
        store = items.fresh(engine)
        call = items.functions["[constructor]item"].start(store, 5)
        assert call.poll()
        item = call.result
        del call, store
        assert live_stores() == before
        item.drop()
    finally:
        gc.enable()


def test_a_destructor_that_traps(items: Fixture) -> None:
    with pytest.raises(Trap, match="unreachable"):
        items.make(TRAPS).drop()
    with pytest.raises(RuntimeError, match="the store is spent"):
        items.make(70)


def test_a_destructor_that_never_ends_gets_one_time_slice(items: Fixture) -> None:
    item = items.make(SPINS)
    with pytest.raises(Trap, match="the destructor of item has to wait or takes too long"):
        item.drop()
    with pytest.raises(RuntimeError, match="the store is spent"):
        items.make(70)


def test_a_destructor_that_waits_needs_the_loop(items: Fixture) -> None:
    with pytest.raises(Trap, match="drop_async lets it"):
        items.make(WAITS).drop()
    assert items.host.reps == []


def test_a_destructor_that_waits(items: Fixture) -> None:
    async def main() -> None:
        item = items.make(WAITS)
        task = asyncio.create_task(item.drop_async())
        await asyncio.sleep(0)
        assert not task.done()
        with pytest.raises(RuntimeError, match="busy with another call"):
            items.make(70)
        items.host.release.set()
        await task
        assert items.host.reps == [WAITS]
        # One that does not wait is done at once.
        await items.make(80).drop_async()
        assert items.host.reps == [WAITS, 80]
        with pytest.raises(ValueError, match="dropped or given away"):
            await item.drop_async()

    asyncio.run(main())


def test_cancelling_a_destructor(items: Fixture) -> None:
    async def main() -> None:
        task = asyncio.create_task(items.make(WAITS).drop_async())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(RuntimeError, match="the store is spent"):
            items.make(70)

    asyncio.run(main())


def test_dropping_while_another_call_waits(items: Fixture) -> None:
    """Nothing happens, and it can be done later."""

    async def main() -> None:
        item = items.make(81)
        task = asyncio.create_task(items.make(WAITS).drop_async())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="busy with another call"):
            item.drop()
        with pytest.raises(RuntimeError, match="busy with another call"):
            await item.drop_async()
        items.host.release.set()
        await task
        item.drop()
        assert items.host.reps == [WAITS, 81]

    asyncio.run(main())


def test_dropping_in_a_host_function(items: Fixture) -> None:
    """The destructor runs on the fiber of the guest that called."""
    item = items.make(82)
    items.host.then = item.drop
    items.call("call")
    assert items.host.reps == [82]
    # And in a host function that a destructor calls.
    inner = items.make(83)
    items.host.then = inner.drop
    items.make(DROPS_ANOTHER).drop()
    assert items.host.reps == [82, 83, DROPS_ANOTHER]


def test_a_destructor_that_traps_in_a_host_function(items: Fixture) -> None:
    items.host.then = items.make(TRAPS).drop
    with pytest.raises(Trap, match="unreachable"):
        items.call("call")
    with pytest.raises(RuntimeError, match="the store is spent"):
        items.call("call")


@pytest.mark.parametrize(("rep", "why"), [(1, "may not wait"), (2, "takes too long")])
def test_a_destructor_in_a_host_function_is_not_suspended(items: Fixture, rep: int, why: str) -> None:
    # The frames of the host function are on the guest's stack: Python would lose them if that were left behind.
    item = items.make(rep)
    items.host.then = item.drop
    with pytest.raises(Trap, match=why):
        asyncio.run(items.functions["call"](items.store))


def test_a_resource_belongs_to_its_store(items: Fixture, engine: Engine) -> None:
    item = items.make(84)
    other = items.fresh(engine)
    with pytest.raises(ValueError, match="belongs to the guest of another store"):
        items.call("[method]item.number", item, store=other)
    other.close()
    assert items.call("[method]item.number", item) == 84


def test_what_is_no_resource_of_the_guest(items: Fixture) -> None:
    with pytest.raises(TypeError, match="expected a resource of a guest for borrow<item>, not 5"):
        items.call("[method]item.number", 5)


def test_a_resource_without_a_destructor(engine: Engine) -> None:
    fixture = Fixture(
        engine, ITEMS.replace('(resource (rep i32) (dtor (core func $d "dtor")))', "(resource (rep i32))")
    )
    fixture.make(85).drop()
    fixture.call("[static]item.take", fixture.make(86))
    assert fixture.host.reps == []
    fixture.store.close()


def test_handles_to_own_resources_are_charged(engine: Engine, items: Fixture) -> None:
    class Data:
        table = ResourceTable(limit=3)

    store = Store(engine, Data())
    items.pre.instantiate(store)
    for number in range(3):
        items.call("keep", items.call("[constructor]item", number, store=store), store=store)
    assert len(Data.table) == 3
    with pytest.raises(Trap, match="the limit of 3 resources is reached"):
        items.call("[constructor]item", 9, store=store)
    store.close()
    assert len(Data.table) == 0


# The same through what wit-component makes of it

needs_abi = pytest.mark.skipif(unavailable("abi") is not None, reason=str(unavailable("abi")))


@needs_abi
def test_counters(world: World) -> None:
    with world.guest() as guest:
        a = guest.call("counters", "[constructor]counter", 40)
        b = guest.call("counters", "[constructor]counter", 2)
        assert guest.call("counters", "[method]counter.increment", a, 5) == 45
        assert guest.call("counters", "[method]counter.get", b) == 2
        both = guest.call("counters", "[static]counter.merge", a, b)
        assert guest.call("counters", "[method]counter.get", both) == 47
        assert guest.call("counters", "dropped") == 1
        with pytest.raises(ValueError, match="the resource counter was dropped or given away"):
            a.drop()
        same = guest.call("counters", "same", both)
        same.drop()
        b.drop()
        assert guest.call("counters", "dropped") == 3


@needs_abi
def test_a_counter_cannot_be_used_up_and_borrowed_at_once(world: World) -> None:
    with world.guest() as guest:
        a = guest.call("counters", "[constructor]counter", 40)
        with pytest.raises(ValueError, match="dropped or given away"):
            guest.call("counters", "[static]counter.merge", a, a)


@needs_abi
def test_a_fragile_counter(world: World) -> None:
    with world.guest() as guest:
        fragile = guest.call("counters", "[static]counter.fragile")
        with pytest.raises(Trap, match="unreachable"):
            fragile.drop()


# Calls


@needs_abi
def test_a_call_is_polled_awaited_or_closed(world: World) -> None:
    async def awaited(guest: Guest) -> Any:
        return await guest.linked.functions["guest"]["echo-string"](guest.store, "x")

    with world.guest() as guest:
        call = guest.start("guest", "echo-u8", 7)
        assert not call.done
        assert call.poll()
        assert call.done
        assert call.result == 7
        assert call.poll()
        assert call.result == 7
        call.close()
        assert asyncio.run(awaited(guest)) == "x"
        guest.start("guest", "echo-u8", 7).close()
        with pytest.raises(RuntimeError, match="the store is spent"):
            guest.start("guest", "echo-u8", 7)


@needs_abi
def test_a_call_of_a_busy_store_does_not_disturb_the_other(world: World) -> None:
    with world.guest() as guest:
        call = guest.start("guest", "echo-string", "first")
        with pytest.raises(RuntimeError, match="the store is busy with another call"):
            guest.start("guest", "echo-string", "second")
        assert call.poll()
        assert call.result == "first"


def test_a_call_of_a_busy_store_takes_no_arguments(items: Fixture) -> None:
    item = items.make(5)
    call = items.functions["call"].start(items.store)
    with pytest.raises(RuntimeError, match="the store is busy with another call"):
        items.functions["[static]item.take"].start(items.store, item)
    assert call.poll()
    items.call("[static]item.take", item)
    assert items.host.reps == [5]


@needs_abi
def test_a_store_without_an_instance_has_nothing_to_call(world: World, engine: Engine) -> None:
    lifted = world.linked("abi").functions["guest"]["echo-u8"]
    store = Store(engine)
    with pytest.raises(RuntimeError, match="cannot call test:abi/guest#echo-u8: the store has no instance"):
        lifted.start(store, 1)
    store.close()


@needs_abi
@pytest.mark.parametrize(
    ("function", "arguments", "error", "message"),
    [
        ("echo-u8", (256,), OverflowError, "256 is out of range for u8"),
        ("echo-u8", ("x",), TypeError, "expected an int for u8"),
        ("echo-u8", (), TypeError, "takes 1 arguments, not 0"),
        ("echo-string", (b"x",), TypeError, "for string"),
        ("echo-list-string", (["x", 1],), TypeError, "for string"),
    ],
)
def test_arguments_that_do_not_fit(
    world: World, function: str, arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with world.guest() as guest, pytest.raises(error, match=message):
        guest.call("guest", function, *arguments)
