"""Shims are bypassed, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.guests.build import build, unavailable
from wasi_http.component import Component, Interface, Lifted, Linker, func, u32
from wasi_http.component import component as component_module
from wasi_http.engine import Engine, Store, Trap

pytestmark = pytest.mark.usefixtures("no_leaks")


class Host(Interface, name="test:shims/host"):
    def __init__(self) -> None:
        self.calls: list[Any] = []

    @func
    def first(self, x: u32, y: u32) -> u32:
        self.calls.append(("first", x, y))
        return (3 * x - y) & 0xFFFFFFFF

    @func
    def second(self, x: u32, y: u32) -> u32:
        self.calls.append(("second", x, y))
        return x + y

    @func
    def text(self, x: str) -> None:
        self.calls.append(("text", x))


class Run(Interface, name="test:shims/run"):
    @func
    def run(x: u32, y: u32) -> u32: ...


IMPORTS = """
  (import "test:shims/host" (instance $host
    (export "first" (func (param "x" u32) (param "y" u32) (result u32)))
    (export "second" (func (param "x" u32) (param "y" u32) (result u32)))
    (export "text" (func (param "x" string)))))"""

SHIM = """
    (type $t (func (param i32 i32) (result i32)))
    (type $v (func (param i32 i32)))
    (table (export "$imports") 3 3 funcref)
    (func (export "0") (type $t) (call_indirect (type $t) (local.get 0) (local.get 1) (i32.const 0)))
    (func (export "1") (type $t) (call_indirect (type $t) (local.get 0) (local.get 1) (i32.const 1)))
    (func (export "2") (type $v) (call_indirect (type $v) (local.get 0) (local.get 1) (i32.const 2)))"""

FIXUP = """
    (type $t (func (param i32 i32) (result i32)))
    (import "" "0" (func $0 (type $t)))
    (import "" "1" (func $1 (type $t)))
    (import "" "2" (func $2 (param i32 i32)))
    (import "" "$imports" (table 3 3 funcref))
    (elem (i32.const 0) func $0 $1 $2)"""

MAIN = """
    (import "host" "first" (func $first (param i32 i32) (result i32)))
    (import "host" "second" (func $second (param i32 i32) (result i32)))
    (import "host" "text" (func $text (param i32 i32)))
    (memory (export "memory") 1)
    (data (i32.const 8) "hello")
    (func (export "run") (param i32 i32) (result i32)
      (call $text (i32.const 8) (i32.const 5))
      (i32.mul (call $first (local.get 0) (local.get 1)) (call $second (local.get 0) (local.get 1))))"""


def text(shim: str = SHIM, fixup: str = FIXUP, main: str = MAIN, after: str = "") -> str:
    """A component as wit-component makes them: main calls the host through a shim, which the fixup fills."""
    return f"""(component {IMPORTS}
  (core module $shim {shim})
  (core module $main {main})
  (core module $fixup {fixup})
  (core instance $s (instantiate $shim))
  (alias core export $s "$imports" (core table $table))
  (core instance $m (instantiate $main (with "host" (instance
    (export "first" (func $s "0")) (export "second" (func $s "1")) (export "text" (func $s "2"))))))
  (alias core export $m "memory" (core memory $memory))
  (core func $first (canon lower (func $host "first")))
  (core func $second (canon lower (func $host "second")))
  (core func $text (canon lower (func $host "text") (memory $memory)))
  (core instance (instantiate $fixup (with "" (instance
    (export "0" (func $first)) (export "1" (func $second)) (export "2" (func $text))
    (export "$imports" (table $table))))))
  {after}
  (func $run (param "x" u32) (param "y" u32) (result u32) (canon lift (core func $m "run")))
  (instance $i (export "run" (func $run)))
  (export "test:shims/run" (instance $i)))"""


class Outcome:
    """What the component's `run` does: its result or the trap, and what the host heard."""

    def __init__(self, engine: Engine, source: str | bytes, x: int = 50, y: int = 8) -> None:
        host = Host()
        linker = Linker(engine)
        linker.define(host)
        self.component = Component(engine, source)
        self.steps = len(self.component.plan.steps)
        pre = linker.instantiate_pre(self.component)
        run: Lifted = pre.export(Run)["run"]
        store = Store(engine)
        self.end: Any
        try:
            pre.instantiate(store)
            call = run.start(store, x, y)
            while not call.poll():
                pass
            self.end = call.result
        except Trap as trap:
            self.end = trap.message
        store.close()
        self.calls = host.calls


def both(engine: Engine, monkeypatch: pytest.MonkeyPatch, source: str) -> tuple[Outcome, Outcome]:
    """The component as it is, and with its shims left alone."""
    one = Outcome(engine, source)
    with monkeypatch.context() as patched:
        patched.setattr(component_module, "bypass_shims", lambda plan, modules: None)
        other = Outcome(engine, source)
    assert other.steps == 3 + source.count("(core instance (instantiate $third") + source.count("$f2")
    return one, other


def test_a_shim_is_bypassed(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = both(engine, monkeypatch, text())
    assert (one.steps, other.steps) == (1, 3)
    assert one.end == other.end == 142 * 58
    assert one.calls == other.calls == [("text", "hello"), ("first", 50, 8), ("second", 50, 8)]


FORWARD = "(call_indirect (type $t) (local.get 0) (local.get 1) (i32.const 0))"

#: Shims with one thing that is not a shim's: what has to be replaced, and by what.
VARIANTS: dict[str, tuple[str, str]] = {
    "arguments swapped": (FORWARD, "(call_indirect (type $t) (local.get 1) (local.get 0) (i32.const 0))"),
    "an argument twice": (FORWARD, "(call_indirect (type $t) (local.get 0) (local.get 0) (i32.const 0))"),
    "a constant argument": (FORWARD, "(call_indirect (type $t) (local.get 0) (i32.const 1) (i32.const 0))"),
    "a dropped call": (FORWARD, f"(drop {FORWARD}) (i32.const 1)"),
    "a result that is changed": (FORWARD, f"(i32.eqz {FORWARD})"),
    "a call before": (FORWARD, f"(drop {FORWARD}) {FORWARD}"),
    "a trap behind": (FORWARD, f"{FORWARD} unreachable"),
    "nothing but a trap": (FORWARD, "unreachable"),
    "a slot that is computed": (FORWARD, FORWARD.replace("(i32.const 0)", "(i32.sub (i32.const 1) (i32.const 1))")),
    "a slot out of bounds": (FORWARD, FORWARD.replace("const 0", "const 64")),
    "a negative slot": (FORWARD, FORWARD.replace("const 0", "const -1")),
    "another type": (FORWARD, f"{FORWARD.replace('$t', '$v').replace('const 0', 'const 2')} (i32.const 0)"),
    "an argument as slot": (FORWARD, "(call_indirect (type $t) (local.get 0) (local.get 1) (local.get 0))"),
    "a direct call": (FORWARD, "(call 1 (local.get 0) (local.get 1))"),
    "a tail call": (FORWARD, FORWARD.replace("call_indirect", "return_call_indirect")),
    "a local": (FORWARD, f"(local i32) {FORWARD}"),
    "a block": (FORWARD, f"(block (result i32) {FORWARD})"),
    "a start function": ("(table", "(func $start) (start $start) (table"),
    "a memory": ("(table", "(memory 1) (table"),
    "a global": ("(table", "(global i32 (i32.const 0)) (table"),
    "elements of its own": (
        '(table (export "$imports") 3 3 funcref)',
        '(table (export "$imports") 3 3 funcref) (elem (i32.const 0) func 1)',
    ),
    "a second table": ("3 funcref)", "3 funcref) (table 3 funcref)"),
}


@pytest.mark.parametrize(("old", "new"), VARIANTS.values(), ids=VARIANTS)
def test_what_is_no_shim_is_not_bypassed(engine: Engine, monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    assert SHIM.count(old) == 1
    one, other = both(engine, monkeypatch, text(shim=SHIM.replace(old, new)))
    assert one.steps == other.steps == 3
    assert (one.end, one.calls) == (other.end, other.calls)


#: Fixups with one thing that is not a fixup's, or that a bypass has to follow.
FIXUPS: dict[str, tuple[str, str, int]] = {
    "another order": ("func $0 $1 $2", "func $1 $0 $2", 1),
    "the same twice": ("func $0 $1 $2", "func $0 $0 $2", 1),
    "a wrong type in a slot": ("func $0 $1 $2", "func $2 $1 $0", 3),
    "a slot left empty": ("func $0 $1 $2", "func $0 $1", 3),
    "one more than the table has": ("func $0 $1 $2", "func $0 $1 $2 $2", 3),
    "not from the start": ("(i32.const 0) func $0 $1 $2", "(i32.const 1) func $0 $1", 3),
    "in two parts": (
        "(elem (i32.const 0) func $0 $1 $2)",
        "(elem (i32.const 0) func $0 $1) (elem (i32.const 2) $2)",
        3,
    ),
    "passive": ("(elem (i32.const 0) func", "(elem func", 3),
    "a function of its own": ("func $0 $1 $2)", "func $own $1 $2) (func $own (type $t) (i32.const 7))", 3),
    "a start function": ("func $0 $1 $2)", "func $0 $1 $2) (func $own unreachable) (start $own)", 3),
    "as expressions": ("func $0 $1 $2", "funcref (ref.func $0) (ref.func $1) (ref.func $2)", 3),
}


@pytest.mark.parametrize(("old", "new", "steps"), FIXUPS.values(), ids=FIXUPS)
def test_fixups(engine: Engine, monkeypatch: pytest.MonkeyPatch, old: str, new: str, steps: int) -> None:
    assert FIXUP.count(old) == 1
    one, other = both(engine, monkeypatch, text(fixup=FIXUP.replace(old, new)))
    assert one.steps == steps
    assert (one.end, one.calls) == (other.end, other.calls)


def test_code_that_runs_before_the_table_is_filled_traps(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    main = f"{MAIN} (func $start (drop (call $first (i32.const 1) (i32.const 2)))) (start $start)"
    one, other = both(engine, monkeypatch, text(main=main))
    assert one.steps == 3
    assert (one.end, one.calls) == (other.end, other.calls)
    assert one.calls == []
    assert "uninitialized element" in one.end


def test_a_table_that_others_get_too_is_not_bypassed(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    third = """
  (core module $third (import "" "$imports" (table 3 3 funcref))
    (func $start (table.set 0 (i32.const 0) (ref.null func))) (start $start))
  (core instance (instantiate $third (with "" (instance (export "$imports" (table $table))))))"""
    one, other = both(engine, monkeypatch, text(after=third))
    assert one.steps == 4
    assert (one.end, one.calls) == (other.end, other.calls)
    assert "uninitialized element" in one.end


@pytest.mark.parametrize("guest", ["wat_hello", "c_hello", "abi"])
def test_real_components_are_bypassed(engine: Engine, guest: str) -> None:
    if unavailable(guest):
        pytest.skip(str(unavailable(guest)))
    made = Component.from_file(engine, build(guest))
    modules = [made.modules[position][0].offset for position, _ in made.plan.steps]
    if guest == "abi":
        # The destructor of its resource is called through the shim: it stays, but host functions go past it.
        assert len(modules) == 3
        main = made.plan.steps[1][1]
        assert all(isinstance(source, int) for source in main)
    else:
        assert len(modules) == 1
