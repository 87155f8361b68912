"""Shims are bypassed, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.guests.build import build, unavailable
from wasi_http.component import Component, Interface, InvalidComponent, Lifted, Linker, func, u32
from wasi_http.component.decode.decoder import decode
from wasi_http.component.decode.definitions import CoreModule
from wasi_http.component.link import component as component_module
from wasi_http.component.link import shims as shims_module
from wasi_http.component.link.plan import Plan, core_modules, make_plan
from wasi_http.component.link.shims import bypass_shims
from wasi_http.engine import Engine, ModuleBinary, Store, Trap, wat_to_wasm

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


def planned(source: str | bytes, bypassed: bool = True) -> tuple[Plan, list[tuple[CoreModule, ModuleBinary]]]:
    """How a component is put together before its modules are fused."""
    definition = decode(wat_to_wasm(source) if isinstance(source, str) else source)
    modules = [(module, ModuleBinary(module.code)) for module in core_modules(definition)]
    plan = make_plan(definition, modules)
    if bypassed:
        bypass_shims(plan, modules)
    return plan, modules


def steps(source: str, bypassed: bool = True) -> int:
    return len(planned(source, bypassed)[0].steps)


class Outcome:
    """What the component's `run` does: its result or the trap, and what the host heard."""

    def __init__(self, engine: Engine, source: str, x: int = 50, y: int = 8) -> None:
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


def outcome(engine: Engine, monkeypatch: pytest.MonkeyPatch, source: str) -> Outcome:
    """What the component does, which must not depend on whether shims are bypassed and core modules are fused."""
    fused = Outcome(engine, source)
    with monkeypatch.context() as patched:
        patched.setattr(component_module, "fuse", lambda steps, captures: None)
        patched.setattr(component_module, "FUSION", "none")  # what was compiled before does not count
        apart = Outcome(engine, source)
        assert apart.steps == steps(source)
        patched.setattr(component_module, "bypass_shims", lambda plan, modules: None)
        plain = Outcome(engine, source)
        assert plain.steps == steps(source, bypassed=False)
    with monkeypatch.context() as patched:
        patched.setattr(component_module, "bypass_shims", lambda plan, modules: None)
        whole = Outcome(engine, source)
    for other in (apart, whole, fused):
        assert (other.end, other.calls) == (plain.end, plain.calls)
    return fused


def test_a_shim_is_bypassed(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (steps(text()), steps(text(), bypassed=False)) == (1, 3)
    made = outcome(engine, monkeypatch, text())
    assert made.end == 142 * 58
    assert made.calls == [("text", "hello"), ("first", 50, 8), ("second", 50, 8)]


def test_fusion_takes_up_what_is_left(engine: Engine) -> None:
    for source in (text(), text(fixup=FIXUP.replace("func $0 $1 $2", "func $0 $1"))):
        assert Outcome(engine, source).steps == 1


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
    source = text(shim=SHIM.replace(old, new))
    plan, plain = planned(source)[0], planned(source, bypassed=False)[0]
    assert (plan.steps, plan.captures) == (plain.steps, plain.captures)
    assert len(plan.steps) == 3
    outcome(engine, monkeypatch, source)


def test_a_slot_out_of_bounds_is_not_bypassed(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    source = text(shim=SHIM.replace(FORWARD, FORWARD.replace("const 0", "const 64")))
    plan, plain = planned(source)[0], planned(source, bypassed=False)[0]
    assert len(plan.steps) == 3
    # The other functions of the shim forward their calls, and those go past it.
    assert plan.steps[1][1] == [plain.steps[1][1][0], 1, 2]
    assert "out of bounds" in outcome(engine, monkeypatch, source).end


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


@pytest.mark.parametrize(("old", "new", "left"), FIXUPS.values(), ids=FIXUPS)
def test_fixups(engine: Engine, monkeypatch: pytest.MonkeyPatch, old: str, new: str, left: int) -> None:
    assert FIXUP.count(old) == 1
    source = text(fixup=FIXUP.replace(old, new))
    assert (steps(source), steps(source, bypassed=False)) == (left, 3)
    outcome(engine, monkeypatch, source)


def test_code_that_runs_before_the_table_is_filled_traps(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    main = f"{MAIN} (func $start (drop (call $first (i32.const 1) (i32.const 2)))) (start $start)"
    assert steps(text(main=main)) == 3
    made = outcome(engine, monkeypatch, text(main=main))
    assert made.calls == []
    assert "uninitialized element" in made.end


def test_a_table_that_others_get_too_is_not_bypassed(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    third = """
  (core module $third (import "" "$imports" (table 3 3 funcref))
    (func $start (table.set 0 (i32.const 0) (ref.null func))) (start $start))
  (core instance (instantiate $third (with "" (instance (export "$imports" (table $table))))))"""
    assert steps(text(after=third)) == 4
    made = outcome(engine, monkeypatch, text(after=third))
    assert "uninitialized element" in made.end


@pytest.mark.parametrize("guest", ["wat_hello", "c_hello", "abi"])
def test_real_components_are_bypassed(guest: str) -> None:
    if unavailable(guest):
        pytest.skip(str(unavailable(guest)))
    plan, _ = planned(build(guest).read_bytes())
    if guest == "abi":
        # The destructor of its resource is called through the shim: it stays, but host functions go past it.
        assert len(plan.steps) == 3
        main = plan.steps[1][1]
        assert all(isinstance(source, int) for source in main)
    else:
        assert len(plan.steps) == 1


# Components that are hostile, in binary form: core modules, and how often each is instantiated


def unsigned(number: int) -> bytes:
    data = bytearray()
    while number >= 0x80:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*data, number))


def sized(data: bytes) -> bytes:
    return unsigned(len(data)) + data


def section(number: int, data: bytes) -> bytes:
    return bytes([number]) + sized(data)


def vector(items: list[bytes]) -> bytes:
    return unsigned(len(items)) + b"".join(items)


HEADER = b"\0asm\1\0\0\0"
FORWARDING = sized(b"\0\x41\0\x11\0\0\x0b")
FILLING = b"\1\0\x41\0\x0b"  # one segment for the first table, from slot 0
FILLED = FILLING + b"\1\0"


def small_shim(code: bytes, functions: int = 1) -> bytes:
    """A shim whose functions have neither parameters nor results; it exports the first, and its table."""
    types, table = section(1, b"\1\x60\0\0"), section(4, b"\1\x70\0\1")
    exports = vector([sized(b"f") + b"\0\0", sized(b"t") + b"\1\0"])
    declared = section(3, vector([b"\0"] * functions))
    return HEADER + types + declared + table + section(7, exports) + section(10, code)


def small_fixup(elements: bytes) -> bytes:
    imports = vector([sized(b"s") + sized(b"t") + b"\1\x70\0\1", sized(b"s") + sized(b"f") + b"\0\0"])
    return HEADER + section(1, b"\1\x60\0\0") + section(2, imports) + section(9, elements)


def small(shim: bytes, fixup: bytes, shims: int = 1, fixups: int = 1) -> bytes:
    """A component with so many instances of a shim, and of a fixup for each."""
    instances = [b"\0" + unsigned(0) + unsigned(0)] * shims
    for number in range(shims * fixups):
        instances.append(b"\0" + unsigned(1) + unsigned(1) + sized(b"s") + b"\x12" + unsigned(number % shims))
    return b"\0asm\x0d\0\1\0" + section(1, shim) + section(1, fixup) + section(2, vector(instances))


ONE = vector([FORWARDING])

#: What is wrong, the shim, the fixup.
DAMAGED: dict[str, tuple[bytes, bytes]] = {
    "more bodies than functions": (small_shim(vector([FORWARDING] * 2)), small_fixup(FILLED)),
    "no body": (small_shim(vector([])), small_fixup(FILLED)),
    "bodies that are not there": (small_shim(b"\5"), small_fixup(FILLED)),
    "an element that is no function": (small_shim(ONE), small_fixup(FILLING + b"\1\7")),
    "elements that are not there": (small_shim(ONE), small_fixup(FILLING + b"\5\0")),
    "a number of elements without an end": (small_shim(ONE), small_fixup(FILLING + b"\xff" * 200 + b"\1")),
    "a number that is all there is": (small_shim(ONE), small_fixup(b"\x80" * 200_000)),
}


@pytest.mark.parametrize(("shim", "fixup"), DAMAGED.values(), ids=DAMAGED)
def test_what_is_malformed_is_no_shim(engine: Engine, shim: bytes, fixup: bytes) -> None:
    assert len(planned(small(shim, fixup))[0].steps) == 2
    with pytest.raises(InvalidComponent, match="a core module is invalid"):
        Component(engine, small(shim, fixup))


def test_the_small_shim_would_be_bypassed(engine: Engine) -> None:
    assert planned(small(small_shim(ONE), small_fixup(FILLED)))[0].steps == []
    Component(engine, small(small_shim(ONE), small_fixup(FILLED)))


@pytest.mark.parametrize(("size", "left"), [(256 * 1024, 0), (256 * 1024 + 1, 2)])
def test_a_shim_is_small(size: int, left: int) -> None:
    shim = small_shim(ONE)
    rest = size - len(shim) - 4
    shim += b"\0" + unsigned(rest) + bytes(rest)
    assert len(shim) == size
    assert len(planned(small(shim, small_fixup(FILLED)))[0].steps) == left


# How many instances there are of a shim, of a fixup for each, and how often shim and fixup are read.
MANY = [(1, 300, 0), (300, 1, 1), (20, 20, 0)]


@pytest.mark.parametrize(("shims", "fixups", "reads"), MANY)
def test_a_large_shim_is_read_once(monkeypatch: pytest.MonkeyPatch, shims: int, fixups: int, reads: int) -> None:
    functions = 20_000
    shim = small_shim(vector([FORWARDING] * functions), functions)
    assert 180_000 < len(shim) < 256 * 1024
    heard: list[str] = []

    def counted(name: str) -> None:
        original = getattr(shims_module, name)

        def read(*arguments: Any) -> Any:
            heard.append(name)
            return original(*arguments)

        monkeypatch.setattr(shims_module, name, read)

    counted("_read_shim")
    counted("_fixup_elements")
    # It fills more slots than there are, so it is none; each of them might have been one.
    source = small(shim, small_fixup(FILLING + b"\2\0\0"), shims, fixups)
    assert len(planned(source)[0].steps) == shims + shims * fixups
    assert sorted(heard) == ["_fixup_elements", "_read_shim"] * reads
