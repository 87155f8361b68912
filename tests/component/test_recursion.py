"""Guests and host functions that call each other on one native stack: what is too deep is a `Trap`.

The cases run in a process of their own, because a stack that overflows ends its process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from wasi_http.component import Component, GuestResource, Interface, Linker, Own, Resource, constructor, func, u32
from wasi_http.engine import Engine, EngineConfig, Store, Trap

EXHAUSTED = "Trap: call stack exhausted"
DONE = "done"
TOO_FEW = "RuntimeError: "

# What all guests have: `thing`, represented by a number; its destructor calls `end` with it, which follows.
# `dig` recurses so many times, which takes at least as many bytes of stack, and calls `end` at the bottom of the pit.
FRAME = """(component
  (import "test:recursion/host" (instance $host
    (export "text" (func (result string)))
    (export "again" (func))))
  (core module $Table
    (table (export "t") 2 funcref)
    (memory (export "memory") 1)
    (type $end (func (param i32)))
    (func (export "dtor") (param i32) (call_indirect (type $end) (local.get 0) (i32.const 0)))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (call_indirect (type $end) (local.get 3) (i32.const 1)) (i32.const 1024)))
  (core instance $table (instantiate $Table))
  (alias core export $table "t" (core table $t))
  (alias core export $table "memory" (core memory $memory))
  (alias core export $table "realloc" (core func $realloc))
  (type $thing (resource (rep i32) (dtor (core func $table "dtor"))))
  (core func $new (canon resource.new $thing))
  (core func $drop (canon resource.drop $thing))
  (core func $text (canon lower (func $host "text") (memory $memory) (realloc $realloc)))
  (core func $again (canon lower (func $host "again")))
  (core module $Main
    (import "" "t" (table 2 funcref))
    (import "" "new" (func $new (param i32) (result i32)))
    (import "" "drop" (func $drop (param i32)))
    (import "" "text" (func $text (param i32)))
    (import "" "again" (func $again))
    (func $dig (param $depth i32) (param $level i32) (result i32)
      (if (i32.eqz (local.get $depth)) (then (call $bottom (local.get $level)) (return (i32.const 0))))
      (i32.add (local.get $depth) (call $dig (i32.sub (local.get $depth) (i32.const 1)) (local.get $level))))
    (func $bottom (param $level i32) {bottom})
    (func $end (param $level i32) {end})
    (func $allocated (param $size i32) {allocated})
    (elem (i32.const 0) func $end $allocated)
    (func (export "make") (param i32) (result i32) (call $new (local.get 0)))
    (func (export "run") (result i32) {run} (i32.const 2048))
    (func (export "after") (param i32) {after})
    {start})
  (core instance $main (instantiate $Main (with "" (instance
    (export "t" (table $t)) (export "new" (func $new)) (export "drop" (func $drop))
    (export "text" (func $text)) (export "again" (func $again))))))
  (func $make (param "number" u32) (result (own $thing)) (canon lift (core func $main "make")))
  (func $run (result string)
    (canon lift (core func $main "run") (memory $memory) (post-return (core func $main "after"))))
  (component $Shape
    (import "t" (type $t (sub resource)))
    (import "make" (func $make (param "number" u32) (result (own $t))))
    (import "run" (func $run (result string)))
    (export $e "thing" (type $t))
    (export "[constructor]thing" (func $make) (func (param "number" u32) (result (own $e))))
    (export "run" (func $run)))
  (instance $i (instantiate $Shape (with "t" (type $thing)) (with "make" (func $make)) (with "run" (func $run))))
  (export "test:recursion/guest" (instance $i)))"""
PLACES = ("run", "end", "bottom", "allocated", "after", "start")

DIG = "(drop (call $dig (i32.const 10000) {level}))"
DROP = "(call $drop (call $new {level}))"
LESS = "(i32.sub (local.get $level) (i32.const 1))"


@dataclass(frozen=True)
class Case:
    """Code of a guest by place, how the case is played, and what comes of it: `DONE` or the beginning of an error."""

    expected: str | tuple[str, ...]
    code: dict[str, str]
    play: Callable[[Player], object]

    def text(self) -> str:
        text = FRAME
        for place in PLACES:
            code = self.code.get(place, "")
            if place == "start" and code:
                code = f"(func $start {code}) (start $start)"
            text = text.replace("{" + place + "}", code)
        return text


class Host(Interface, name="test:recursion/host"):
    @func
    def text() -> str:
        return "text"

    @func
    def again() -> None:
        assert Player.current is not None
        Player.current.then()


class Thing(Resource, name="thing"):
    @constructor
    def make(number: u32) -> Own[Thing]: ...


class Guest(Interface, name="test:recursion/guest"):
    resources = (Thing,)

    @func
    def run() -> str: ...


class Player:
    """A guest that is linked; stores are closed in the end."""

    current: Player | None = None

    def __init__(self, engine: Engine, case: Case) -> None:
        linker = Linker(engine)
        linker.define(Host)
        self.engine = engine
        self.pre = linker.instantiate_pre(Component(engine, case.text()))
        self.functions = self.pre.export(Guest)
        self.then: Callable[[], object] = lambda: None
        Player.current = self

    def fresh(self) -> Store:
        store = Store(self.engine)
        try:
            self.pre.instantiate(store)
        except BaseException:
            store.close()
            raise
        return store

    def run(self, store: Store) -> None:
        call = self.functions["run"].start(store)
        while not call.poll():
            pass

    def make(self, store: Store, number: int) -> GuestResource:
        call = self.functions["[constructor]thing"].start(store, number)
        assert call.poll()
        made = call.result
        assert isinstance(made, GuestResource)
        return made


@contextmanager
def frames() -> Iterator[None]:
    """Lets the interpreter have any number of frames: what ends the recursion is the stack."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def run(player: Player) -> None:
    store = player.fresh()
    try:
        player.run(store)
    finally:
        store.close()


def run_in_thread(size: int) -> Callable[[Player], None]:
    """On a thread with a stack of so many bytes."""

    def play(player: Player) -> None:
        failures: list[BaseException] = []

        def work() -> None:
            try:
                run(player)
            except BaseException as failure:
                failures.append(failure)

        before = threading.stack_size(size)
        try:
            thread = threading.Thread(target=work)
            thread.start()
        finally:
            threading.stack_size(before)
        thread.join()
        if failures:
            raise failures[0]

    return play


def drop(player: Player) -> None:
    """The host drops a resource while no guest runs."""
    store = player.fresh()
    try:
        player.make(store, 1).drop()
    finally:
        store.close()


def drop_in_turn(player: Player) -> None:
    """A host function drops a resource, whose destructor calls the host function, which drops another."""
    store = player.fresh()
    things = [player.make(store, 1) for _ in range(2000)]
    player.then = lambda: things.pop().drop()
    try:
        with frames():
            things.pop().drop()
    finally:
        store.close()


def instantiate_in_turn(player: Player) -> None:
    """A start function calls a host function, which makes an instance, whose start function calls it."""
    player.then = lambda: player.fresh()
    with frames():
        player.fresh()


def instantiate_on_fibers(player: Player) -> None:
    """A guest calls a host function, which makes an instance and calls it."""
    stores: list[Store] = []

    def then() -> None:
        if len(stores) < 8:
            stores.append(player.fresh())
            player.run(stores[-1])

    player.then = then
    run(player)


ENDLESS = {"run": DROP.format(level="(i32.const 1)"), "end": DROP.format(level="(i32.const 1)")}
DEEP_TEXT = {"run": DIG.format(level="(i32.const 1)"), "bottom": "(call $text (i32.const 64))"}

CASES = {
    "a destructor that drops another without end": Case(EXHAUSTED, ENDLESS, run),
    "five levels of deep destructors": Case(
        EXHAUSTED,
        {
            "run": DROP.format(level="(i32.const 5)"),
            "end": DIG.format(level="(local.get $level)"),
            "bottom": f"(if (local.get $level) (then {DROP.format(level=LESS)}))",
        },
        run,
    ),
    "fifty levels of flat destructors": Case(
        DONE,
        {
            "run": DROP.format(level="(i32.const 50)"),
            "end": f"(if (local.get $level) (then {DROP.format(level=LESS)}))",
        },
        run,
    ),
    "a destructor that the host calls": Case(EXHAUSTED, {"end": ENDLESS["end"]}, drop),
    "a destructor that has text allocated": Case(
        EXHAUSTED, {**ENDLESS, "end": f"(call $text (i32.const 64)) {ENDLESS['end']}"}, run
    ),
    "text at the bottom of a pit": Case(DONE, DEEP_TEXT, run),
    "a deep realloc at the bottom of a pit": Case(
        DONE,
        {
            **DEEP_TEXT,
            "bottom": "(if (local.get $level) (then (call $text (i32.const 64))))",
            "allocated": DIG.format(level="(i32.const 0)"),
        },
        run,
    ),
    "realloc without end": Case(EXHAUSTED, {**DEEP_TEXT, "allocated": "(call $allocated (local.get $size))"}, run),
    "realloc that calls the host": Case(
        "Trap: cannot leave the component instance", {**DEEP_TEXT, "allocated": "(call $text (i32.const 64))"}, run
    ),
    "realloc that drops": Case(
        "Trap: cannot leave the component instance",
        {**DEEP_TEXT, "allocated": DROP.format(level="(i32.const 1)")},
        run,
    ),
    "a deep post-return": Case(DONE, {"after": DIG.format(level="(i32.const 1)")}, run),
    "post-return without end": Case(
        EXHAUSTED, {"after": DIG.format(level="(i32.const 1)").replace("10000", "-1")}, run
    ),
    "post-return that drops": Case(
        "Trap: cannot leave the component instance", {"after": DROP.format(level="(i32.const 1)")}, run
    ),
    "a start function that drops": Case(EXHAUSTED, {"start": ENDLESS["run"], "end": ENDLESS["end"]}, run),
    "a start function without end": Case(EXHAUSTED, {"start": "(call $start)"}, run),
    "destructors that host functions call": Case(EXHAUSTED, {"end": "(call $again)"}, drop_in_turn),
    # Whether the guest or the host comes to the end of the stack first depends on where it begins.
    "start functions that make instances": Case((TOO_FEW, EXHAUSTED), {"start": "(call $again)"}, instantiate_in_turn),
    "guests that make instances": Case(
        DONE, {"start": DIG.format(level="(i32.const 0)"), "run": "(call $again)"}, instantiate_on_fibers
    ),
    "a small thread": Case(EXHAUSTED, ENDLESS, run_in_thread(256 << 10)),
    "a start function on a small thread": Case(TOO_FEW, {"start": "(call $start)"}, run_in_thread(256 << 10)),
    "a start function on a thread that is just large enough": Case(
        EXHAUSTED, {"start": "(call $start)"}, run_in_thread(2 << 20)
    ),
}


def play(case: Case) -> str:
    try:
        case.play(Player(Engine(EngineConfig(max_instances=1, pooling=False, cache=False)), case))
    except (Trap, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return DONE


def play_all() -> None:
    for name, case in CASES.items():
        print(json.dumps((name, play(case))), flush=True)


@pytest.fixture(scope="module")
def outcomes() -> tuple[dict[str, str], str]:
    """What became of the cases, by name, and what the process said in the end."""
    command = [sys.executable, "-c", f"from {__name__} import play_all; play_all()"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    return dict(json.loads(line) for line in done.stdout.splitlines()), f"exit code {done.returncode}: {done.stderr}"


@pytest.mark.parametrize("name", CASES)
def test_recursion_ends(outcomes: tuple[dict[str, str], str], name: str) -> None:
    found, end = outcomes
    assert name in found, end
    assert found[name].startswith(CASES[name].expected)
