"""Calls of the host by guests: what they borrow, they have until each of them ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from wasi_http.component import (
    Borrow,
    Component,
    GuestResource,
    Interface,
    Linker,
    Own,
    Resource,
    constructor,
    func,
)
from wasi_http.engine import Engine, Store, Trap

pytestmark = pytest.mark.usefixtures("no_leaks")

# ``run`` lends a thing to ``use``. In the middle of that the host may drop an item of the guest's: its destructor lends
# the thing to ``look``, and then drops it.
LENDS = """(component
  (import "test:lends/host" (instance $host
    (export "thing" (type $thing (sub resource)))
    (export "get" (func (result (own $thing))))
    (export "use" (func (param "thing" (borrow $thing))))
    (export "look" (func (param "thing" (borrow $thing))))))
  (alias export $host "thing" (type $thing))
  (core func $get (canon lower (func $host "get")))
  (core func $use (canon lower (func $host "use")))
  (core func $look (canon lower (func $host "look")))
  (core func $drop (canon resource.drop $thing))
  (core module $destructor
    (import "host" "look" (func $look (param i32)))
    (import "host" "drop" (func $drop (param i32)))
    (func (export "dtor") (param i32)
      (call $look (i32.const 1))
      (call $drop (i32.const 1))))
  (core instance $d (instantiate $destructor (with "host" (instance
    (export "look" (func $look)) (export "drop" (func $drop))))))
  (type $item (resource (rep i32) (dtor (core func $d "dtor"))))
  (core func $new (canon resource.new $item))
  (core module $main
    (import "host" "get" (func $get (result i32)))
    (import "host" "use" (func $use (param i32)))
    (import "host" "drop" (func $drop (param i32)))
    (import "host" "new" (func $new (param i32) (result i32)))
    (func (export "new") (result i32) (call $new (i32.const 0)))
    (func (export "run") (local $thing i32)
      (local.set $thing (call $get))
      (call $use (local.get $thing))
      (call $drop (local.get $thing))))
  (core instance $m (instantiate $main (with "host" (instance
    (export "get" (func $get)) (export "use" (func $use)) (export "drop" (func $drop)) (export "new" (func $new))))))
  (func $make (result (own $item)) (canon lift (core func $m "new")))
  (func $run (canon lift (core func $m "run")))
  (component $shape
    (import "t" (type $t (sub resource)))
    (import "make" (func $make (result (own $t))))
    (import "run" (func $run))
    (export $e "item" (type $t))
    (export "[constructor]item" (func $make) (func (result (own $e))))
    (export "run" (func $run) (func)))
  (instance $i (instantiate $shape (with "t" (type $item)) (with "make" (func $make)) (with "run" (func $run))))
  (export "test:lends/guest" (instance $i)))"""


class Thing(Resource, name="thing"):
    pass


class Host(Interface, name="test:lends/host"):
    resources = (Thing,)

    def __init__(self) -> None:
        self.log: list[str] = []
        self.then: Callable[[], object] = lambda: None

    @func
    def get(self) -> Own[Thing]:
        return Thing()

    @func
    def use(self, thing: Borrow[Thing]) -> None:
        self.log.append("use")
        self.then()

    @func
    def look(self, thing: Borrow[Thing]) -> None:
        self.log.append("look")


class Item(Resource, name="item"):
    @constructor
    def new() -> Own[Item]: ...


class Guest(Interface, name="test:lends/guest"):
    resources = (Item,)

    @func
    def run() -> None: ...


@pytest.mark.parametrize("nested", [False, True])
def test_what_a_call_borrows_it_has_until_it_ends(engine: Engine, nested: bool) -> None:
    """Also when a call within it, of a destructor, borrows the same and ends."""
    host = Host()
    linker = Linker(engine)
    linker.define(host)
    pre = linker.instantiate_pre(Component(engine, LENDS))
    functions = pre.export(Guest)
    store = Store(engine)
    pre.instantiate(store)
    make = functions["[constructor]item"].start(store)
    assert make.poll()
    item = make.result
    assert isinstance(item, GuestResource)
    if nested:
        host.then = item.drop
    run = functions["run"].start(store)
    if nested:
        with pytest.raises(Trap, match="cannot drop or give away handle index 1: a call that is running has borrowed"):
            run.poll()
    else:
        assert run.poll()
    assert host.log == ["use", "look"][: 1 + nested]
    del item, make, run
    host.then = lambda: None
    store.close()
