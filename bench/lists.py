"""How fast a `list<u8>` of 1 MiB passes between a guest and a host function, in each direction.

A guest written for this calls a host interface written for this, many times in one call. The peer is the component API
of the `wasmtime` package on the same component; what is judged is bytes per second.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

import measure
import peers

from wasi_http import Component, Engine, Linker, Store
from wasi_http.component import Interface, func, u32
from wasi_http.engine import wat_to_wasm

GB_PER_SECOND = 1.0

MIB = 1024 * 1024

BLOBS, RUN = "bench:lists/blobs@1.0.0", "bench:lists/run@1.0.0"

# The one buffer of the guest is the second MiB of its memory: what the host gives is put there, what the host takes
# comes from there.
GUEST = f"""
(component
  (import "{BLOBS}" (instance $blobs
    (export "take" (func (param "data" (list u8))))
    (export "give" (func (result (list u8))))))
  (core module $Memory
    (memory (export "memory") 33)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const {MIB})))
  (core instance $data (instantiate $Memory))
  (alias core export $data "memory" (core memory $memory))
  (alias core export $data "realloc" (core func $realloc))
  (core func $take (canon lower (func $blobs "take") (memory $memory)))
  (core func $give (canon lower (func $blobs "give") (memory $memory) (realloc $realloc)))
  (core module $Main
    (import "data" "memory" (memory 33))
    (import "host" "take" (func $take (param i32 i32)))
    (import "host" "give" (func $give (param i32)))
    (func (export "send") (param $count i32)
      (loop $again
        (call $take (i32.const {MIB}) (i32.const {MIB}))
        (br_if $again (local.tee $count (i32.sub (local.get $count) (i32.const 1))))))
    (func (export "fetch") (param $count i32)
      (loop $again
        (call $give (i32.const 16))
        (if (i32.ne (i32.load (i32.const 16)) (i32.const {MIB})) (then unreachable))
        (if (i32.ne (i32.load (i32.const 20)) (i32.const {MIB})) (then unreachable))
        (br_if $again (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))))
  (core instance $main (instantiate $Main
    (with "data" (instance $data))
    (with "host" (instance (export "take" (func $take)) (export "give" (func $give))))))
  (func $send (param "count" u32) (canon lift (core func $main "send")))
  (func $fetch (param "count" u32) (canon lift (core func $main "fetch")))
  (instance $run (export "send" (func $send)) (export "fetch" (func $fetch)))
  (export "{RUN}" (instance $run)))
"""

#: What the host gives, and what it was given last.
GIVEN = os.urandom(MIB)
taken: list[Any] = [None]


class Blobs(Interface, name=BLOBS):
    """What the guest imports."""

    @func
    def take(data: bytes) -> None:
        taken[0] = data

    @func
    def give() -> bytes:
        return GIVEN


class Run(Interface, name=RUN):
    """What the guest exports."""

    @func
    def send(count: u32) -> None:
        raise AssertionError("guests implement this interface")

    @func
    def fetch(count: u32) -> None:
        raise AssertionError("guests implement this interface")


#: Calls the guest's function of that name with a count.
Guest = Callable[[str, int], None]


def product_guest() -> Guest:
    engine = Engine()
    linker = Linker(engine)
    linker.define(Blobs)
    pre = linker.instantiate_pre(Component(engine, GUEST))
    functions = pre.export(Run)
    store = Store(engine)
    pre.instantiate(store)

    def call(name: str, count: int) -> None:
        asyncio.run(functions[name](store, count))

    return call


def peer_guest() -> Guest:
    """The same with the `wasmtime` package."""
    import wasmtime
    from wasmtime import component

    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    linker = component.Linker(engine)
    with linker.root() as root, root.add_instance(BLOBS) as instance:
        instance.add_func("take", lambda _, data: taken.__setitem__(0, data))
        instance.add_func("give", lambda _: GIVEN)
    made = linker.instantiate(store, component.Component(engine, wat_to_wasm(GUEST)))
    run = made.get_export_index(store, RUN)

    def call(name: str, count: int) -> None:
        function = made.get_func(store, made.get_export_index(store, name, run))
        assert function is not None
        function(store, count)
        function.post_return(store)

    return call


def rate(guest: Guest, name: str, count: int) -> float:
    """Bytes per second of so many calls."""
    taken[0] = None
    began = time.perf_counter()
    guest(name, count)
    took = time.perf_counter() - began
    if name == "fetch":
        guest("send", 1)  # the guest's buffer holds what it fetched
    if taken[0] is None or bytes(taken[0]) != GIVEN:
        raise measure.Wrong("the bytes that came out of the guest are not those that went in")
    return count * MIB / took


def main() -> bool:
    parser = measure.parser(__doc__ or "", rounds=7)
    parser.add_argument("--count", type=int, default=1000, help="how many lists a measurement passes")
    options = parser.parse_args()
    measure.heading("lists: list<u8> of 1 MiB")
    os.sched_setaffinity(0, {peers.SERVER_CORE})
    product, peer = product_guest(), peer_guest()
    # From here on both guests' buffers hold what the host gave.
    rate(product, "fetch", 10)
    rate(peer, "fetch", 1)
    slowest = float("inf")
    for name, direction in (("send", "guest → host"), ("fetch", "host → guest")):
        ours, theirs = measure.take_turns(
            options.rounds,
            lambda name=name: rate(product, name, options.count),
            # Some thousand times slower: one list is measured well enough.
            lambda name=name: rate(peer, name, 1),
        )
        slowest = min(slowest, measure.median(ours) / 1e9)
        print(
            f"  {direction}  wasi_http {measure.spread([r / 1e9 for r in ours], '.2f')} GB/s,"
            f" package wasmtime {measure.spread([r / 1e6 for r in theirs], '.2f')} MB/s:"
            f" {measure.median(ours) / measure.median(theirs):,.0f} times as fast",
            flush=True,
        )
    copies = [copy_rate(options.count) for _ in range(options.rounds)]
    print(f"  a copy of 1 MiB in Python: {measure.spread(copies, '.2f')} GB/s")
    print(f"  the slower direction: {slowest:.2f} GB/s (target ≥ {GB_PER_SECOND:.2f} GB/s); as a multiple of that:")
    return measure.verdict(slowest / GB_PER_SECOND, 1.0)


def copy_rate(count: int) -> float:
    """GB/s of the only thing that has to be done: one copy."""
    view = memoryview(bytearray(GIVEN))
    began = time.perf_counter()
    for _ in range(count):
        bytes(view)
    return count * MIB / (time.perf_counter() - began) / 1e9


if __name__ == "__main__":
    measure.run(main)
