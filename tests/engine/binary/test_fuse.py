"""Fused modules do what their parts did one by one; what cannot be fused is not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasi_http.engine import (
    Assembly,
    CoreFunc,
    CoreType,
    Engine,
    EngineConfig,
    Fiber,
    Module,
    ModuleBinary,
    Store,
    Trap,
    Unreadable,
    fuse,
    wat_to_wasm,
)
from wasi_http.engine.binary.fuse import START

Source = int | tuple[int, int]

HOST = {"log": CoreType(("i32",), ()), "ask": CoreType((), ("i32",))}


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(EngineConfig(max_instances=4, cache=False))


def wire(binaries: Sequence[ModuleBinary]) -> list[tuple[ModuleBinary, list[Source]]]:
    """Imports of the module "host" are host functions, those of "0", "1" … exports of these steps."""
    steps: list[tuple[ModuleBinary, list[Source]]] = []
    for binary in binaries:
        sources: list[Source] = []
        for wanted in binary.imports:
            if wanted.module == "host":
                sources.append(list(HOST).index(wanted.name))
            else:
                step = int(wanted.module)
                sources.append((step, [export.name for export in binaries[step].exports].index(wanted.name)))
        steps.append((binary, sources))
    return steps


def outcome(engine: Engine, assembly: Assembly, log: list[int], calls: int) -> list[object]:
    """What the first captures return, one after another, and what the host heard."""
    log.clear()
    store = Store(engine)
    seen: list[object] = []
    try:
        assembly.instantiate(store)
        for call in range(calls):
            fiber = Fiber.of(store, call, CoreType((), ("i32",)))
            while not fiber.poll():
                pass
            seen.append(fiber.result)
    except Trap as trap:
        seen.append(str(trap))
    store.close()
    return [*seen, list(log)]


def both(engine: Engine, *texts: str) -> tuple[list[object], list[object]]:
    """The outcome of modules one by one, and fused; what the last one exports is called."""
    log: list[int] = []
    functions = [
        CoreFunc("log", HOST["log"], lambda store, number: log.append(number)),
        CoreFunc("ask", HOST["ask"], lambda store: 42),
    ]
    codes = [wat_to_wasm(text) for text in texts]
    steps = wire([ModuleBinary(code) for code in codes])
    captures = [(len(steps) - 1, position) for position in range(len(steps[-1][0].exports))]
    modules = [Module.compile(engine, code) for code in codes]
    plain = Assembly(
        engine, functions, [(module, sources) for module, (_, sources) in zip(modules, steps, strict=True)], captures
    )
    code = fuse(steps, captures)
    assert code is not None
    fused = Module.compile(engine, code)
    starts = [export.name for export in fused.exports[len(captures) :]]
    assert starts in ([], [START.decode()])
    hosts = list(dict.fromkeys(source for _, sources in steps for source in sources if isinstance(source, int)))
    all_captures = [(0, position) for position in range(len(fused.exports))]
    whole = Assembly(engine, functions, [(fused, hosts)], all_captures, start=len(captures) if starts else -1)
    return outcome(engine, plain, log, len(captures)), outcome(engine, whole, log, len(captures))


CASES: dict[str, tuple[object, tuple[str, ...]]] = {
    "functions and types": (
        [50, []],
        (
            """(module (type (func (param i64))) (func (export "add") (param i32 i32) (result i32)
              (i32.add (local.get 0) (local.get 1))))""",
            """(module (import "0" "add" (func $add (param i32 i32) (result i32)))
              (import "host" "ask" (func $ask (result i32)))
              (func (export "run") (result i32) (call $add (call $ask) (i32.const 8))))""",
        ),
    ),
    "what is imported is exported again": (
        [42, []],
        (
            '(module (import "host" "ask" (func $ask (result i32))) (export "a" (func $ask)))',
            '(module (import "0" "a" (func $a (result i32))) (export "b" (func $a)))',
            '(module (import "1" "b" (func $b (result i32))) (func (export "run") (result i32) (call $b)))',
        ),
    ),
    "a global that is imported and changed": (
        [7, []],
        (
            '(module (global (export "g") (mut i32) (i32.const 3)))',
            """(module (import "0" "g" (global $g (mut i32))) (global i64 (i64.const 1))
              (func (export "run") (result i32) (global.set $g (i32.add (global.get $g) (i32.const 4)))
                (global.get $g)))""",
        ),
    ),
    "position-independent code": (
        [0x64636261 + 11, []],
        (
            """(module (global (export "base") i32 (i32.const 64)) (memory (export "m") 1)
              (table (export "t") 8 funcref) (global (export "start") i32 (i32.const 3)))""",
            """(module (import "0" "base" (global $base i32)) (import "0" "start" (global $start i32))
              (import "0" "m" (memory 1)) (import "0" "t" (table 8 funcref))
              (global $twice i32 (i32.add (global.get $base) (global.get $base)))
              (func $eleven (result i32) (i32.const 11))
              (data (global.get $base) "abcd")
              (data (offset (i32.sub (i32.mul (global.get $base) (i32.const 2)) (i32.const -4))) "wxyz")
              (elem (offset (i32.add (global.get $start) (i32.const 1))) $eleven)
              (func (export "run") (result i32)
                (if (i32.ne (global.get $twice) (i32.const 128)) (then unreachable))
                (if (i32.ne (i32.load (i32.const 132)) (i32.const 0x7a797877)) (then unreachable))
                (i32.add (i32.load (global.get $base)) (call_indirect (result i32) (i32.const 4)))))""",
        ),
    ),
    "starts see what they saw": (
        [0x0201, [1, 0x7777, 0x0201]],
        (
            """(module (import "host" "log" (func $log (param i32))) (memory (export "m") 1)
              (func $start (call $log (i32.const 1)) (i32.store (i32.const 0) (i32.const 0x7777)))
              (data (i32.const 0) "\\aa\\bb") (start $start))""",
            """(module (import "host" "log" (func $log (param i32))) (import "0" "m" (memory 1))
              (func (export "log") (call $log (i32.load (i32.const 0)))))""",
            """(module (import "1" "log" (func $log)) (func $start (call $log)) (start $start))""",
            """(module (import "0" "m" (memory 1)) (import "1" "log" (func $log))
              (data (i32.const 0) "\\01\\02") (data $more "\\05") (start $log)
              (func (export "run") (result i32) (i32.load (i32.const 0))))""",
        ),
    ),
    "segments that come too late for a start, in a table": (
        ["undefined element: out of bounds table access", []],
        (
            """(module (table (export "t") 2 funcref) (type $f (func (result i32)))
              (func $start (drop (call_indirect (type $f) (i32.const 1)))) (start $start))""",
            """(module (import "0" "t" (table 2 funcref)) (func $one (result i32) (i32.const 1))
              (elem (i32.const 1) $one) (func (export "run") (result i32) (i32.const 0)))""",
        ),
    ),
    "elements after a start": (
        [5, [9]],
        (
            """(module (import "host" "log" (func $log (param i32))) (table (export "t") 4 funcref)
              (func $start (call $log (i32.const 9))) (start $start))""",
            """(module (import "0" "t" (table 4 funcref)) (func $five (result i32) (i32.const 5))
              (elem (i32.const 1) func $five) (elem (i32.const 2) funcref (ref.func $five) (ref.null func))
              (func (export "run") (result i32)
                (if (i32.eqz (ref.is_null (table.get (i32.const 3)))) (then unreachable))
                (drop (call_indirect (result i32) (i32.const 2))) (call_indirect (result i32) (i32.const 1))))""",
        ),
    ),
    "several memories": (
        [3 + 0x41414141 + 1, []],
        (
            '(module (memory (export "m") 1))',
            """(module (import "0" "m" (memory $m 1)) (memory $own 2) (data $d "AAAAAAAA")
              (func (export "run") (result i32)
                (memory.init $own $d (i32.const 8) (i32.const 0) (i32.const 8)) (data.drop $d)
                (memory.copy $m $own (i32.const 100) (i32.const 8) (i32.const 4))
                (memory.fill $m (i32.const 200) (i32.const 1) (i32.const 1))
                (drop (memory.grow $own (i32.const 1)))
                (if (i32.ne (memory.size $m) (i32.const 1)) (then unreachable))
                (i32.store $own offset=4 (i32.const 0) (i32.load $m (i32.const 100)))
                (i32.add (i32.add (memory.size $own) (i32.load8_u $m (i32.const 200)))
                  (i32.load $own (i32.const 4)))))""",
        ),
    ),
    "tables and references": (
        [6 + 10 + 3, []],
        (
            """(module (table (export "t") 3 10 funcref) (func (export "six") (result i32) (i32.const 6)))""",
            """(module (import "0" "t" (table $t 3 funcref)) (import "0" "six" (func $six (result i32)))
              (table $own 5 funcref) (table $more 1 funcref) (elem declare func $six)
              (elem $passive funcref (ref.func $six) (ref.func $ten)) (func $ten (result i32) (i32.const 10))
              (func (export "run") (result i32)
                (table.set $t (i32.const 0) (ref.func $six))
                (table.init $more $passive (i32.const 0) (i32.const 1) (i32.const 1)) (elem.drop $passive)
                (table.copy $t $more (i32.const 1) (i32.const 0) (i32.const 1))
                (drop (table.grow $t (ref.null func) (i32.const 1)))
                (table.fill $t (i32.const 2) (ref.func $six) (i32.const 1))
                (table.set $own (i32.const 4) (ref.null func))
                (if (ref.is_null (select (result funcref) (table.get $t (i32.const 2)) (ref.null func) (i32.const 1)))
                  (then unreachable))
                (i32.add (i32.add (call_indirect $t (result i32) (i32.const 0))
                    (call_indirect $t (result i32) (i32.const 1)))
                  (i32.sub (table.size $t) (table.size $more)))))""",
        ),
    ),
    "control": (
        [112, []],
        (
            '(module (type (func)) (type (func (param f32))) (func (export "nop")))',
            """(module (import "0" "nop" (func $nop)) (type $pair (func (param i32) (result i32 i32)))
              (type $unary (func (param i32) (result i32))) (table 1 funcref) (elem (i32.const 0) $inc)
              (func $inc (type $unary) (i32.add (local.get 0) (i32.const 1)))
              (func $tail (type $unary) (return_call $inc (local.get 0)))
              (func $tail2 (type $unary) (return_call_indirect (type $unary) (local.get 0) (i32.const 0)))
              (func (export "run") (result i32) (local i64 f64 f32 i32)
                (call $nop)
                (local.set 1 (f64.const 1.5)) (local.set 2 (f32.const -0.5)) (local.set 0 (i64.const -9876543210))
                (block $out (block $two (block $one (br_table $one $two $out (i32.const 1))) unreachable)
                  (local.set 3 (i32.const 100)))
                (i32.const 7) (block (type $pair) (i32.const 3)) i32.add (local.get 3) i32.add
                (loop (result i32) (i32.const 0)) i32.add
                (call $tail) (call $tail2)
                (i32.trunc_sat_f64_s (local.get 1)) i32.mul (i32.extend8_s (i32.const 0x100)) i32.add))""",
        ),
    ),
    "vectors": (
        [1 + 2 + 9, []],
        (
            '(module (memory (export "m") 1) (memory (export "n") 1))',
            """(module (import "0" "m" (memory $m 1)) (import "0" "n" (memory $n 1))
              (global v128 (v128.const i64x2 1 2))
              (func (export "run") (result i32) (local v128)
                (v128.store $n (i32.const 16) (v128.const i32x4 1 2 3 4))
                (local.set 0 (v128.load32_lane $n 1 (i32.const 20) (v128.load32_zero $n (i32.const 16))))
                (v128.store8_lane $m 0 (i32.const 0) (local.get 0))
                (local.set 0 (i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 (local.get 0) (local.get 0)))
                (i32.add (i32.add (i32x4.extract_lane 0 (local.get 0)) (i32x4.extract_lane 1 (local.get 0)))
                  (i32.mul (i32.load8_u $m (i32.const 0)) (i32x4.extract_lane 3
                    (i32x4.replace_lane 3 (i32x4.add (local.get 0) (i32x4.splat (i32.const 1))) (i32.const 9)))))))""",
        ),
    ),
    "a segment out of bounds": (
        ["wasm trap: out of bounds memory access", []],
        (
            '(module (memory (export "m") 1))',
            '(module (import "0" "m" (memory 1)) (data (i32.const 65536) "x") (func (export "run")))',
        ),
    ),
    "a start that traps": (
        [None, [1]],
        (
            """(module (import "host" "log" (func $log (param i32)))
              (func $start (call $log (i32.const 1)) unreachable) (start $start))""",
            '(module (func (export "run")))',
        ),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_fused_module_does_what_its_parts_did(engine: Engine, case: str) -> None:
    expected, texts = CASES[case]
    plain, fused = both(engine, *texts)
    assert isinstance(expected, list)
    assert plain[-1] == fused[-1] == expected[-1]
    if isinstance(expected[0], int):
        assert plain == fused == expected
    else:
        # Which trap it is depends on wording: what matters is that both fail, at the same time.
        assert isinstance(plain[0], str)
        assert isinstance(fused[0], str)


REFUSED = {
    "a memory that is too small": ('(memory (export "x") 1)', '(import "0" "x" (memory 2))'),
    "a memory without a maximum": ('(memory (export "x") 1)', '(import "0" "x" (memory 1 2))'),
    "a memory whose maximum is larger": ('(memory (export "x") 1 3)', '(import "0" "x" (memory 1 2))'),
    "a table that is too small": ('(table (export "x") 1 funcref)', '(import "0" "x" (table 2 funcref))'),
    "a table of other elements": ('(table (export "x") 1 funcref)', '(import "0" "x" (table 1 externref))'),
    "a global of another type": ('(global (export "x") i32 (i32.const 1))', '(import "0" "x" (global i64))'),
    "a global that does not change": ('(global (export "x") i32 (i32.const 1))', '(import "0" "x" (global (mut i32)))'),
    "a function of another type": ('(func (export "x"))', '(import "0" "x" (func (param i32)))'),
    "something else": ('(func (export "x"))', '(import "0" "x" (memory 1))'),
    "a host function of two types": (
        '(import "host" "ask" (func (result i32)))',
        '(import "host" "ask" (func (result i64)))',
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_import_gets_no_less_than_it_asks_for(case: str) -> None:
    binaries = [ModuleBinary(wat_to_wasm(f"(module {text})")) for text in REFUSED[case]]
    assert fuse(wire(binaries), []) is None


FITS = {
    "a memory": ('(memory (export "x") 2 3)', '(import "0" "x" (memory 1 4))'),
    "a table": ('(table (export "x") 2 funcref)', '(import "0" "x" (table 2 funcref))'),
}


@pytest.mark.parametrize("case", FITS)
def test_an_import_may_get_more(engine: Engine, case: str) -> None:
    binaries = [ModuleBinary(wat_to_wasm(f"(module {text})")) for text in FITS[case]]
    code = fuse(wire(binaries), [])
    assert code is not None
    Module.validate(engine, code)


def test_a_module_that_is_there_twice_is_not_copied() -> None:
    binary = ModuleBinary(wat_to_wasm("(module)"))
    assert fuse([(binary, []), (binary, [])], []) is None


def test_backtraces_have_the_names_of_functions(engine: Engine) -> None:
    texts = (
        '(module (func $unused) (func $broken (export "f") unreachable))',
        '(module (import "0" "f" (func $f)) (func $caller (export "run") (call $f)))',
    )
    code = fuse(wire([ModuleBinary(wat_to_wasm(text)) for text in texts]), [(1, 0)])
    assert code is not None
    store = Store(engine)
    Assembly(engine, [], [(Module.compile(engine, code), [])], [(0, 0)]).instantiate(store)
    with pytest.raises(Trap) as caught:
        Fiber.of(store, 0, CoreType((), ())).poll()
    assert "broken" in caught.value.backtrace
    assert "caller" in caught.value.backtrace
    store.close()


def test_what_is_not_wanted_is_not_exported() -> None:
    binary = ModuleBinary(wat_to_wasm('(module (func (export "a")) (func (export "b")) (memory (export "m") 1))'))
    code = fuse([(binary, [])], [(0, 2)])
    assert code is not None
    assert [export.kind for export in ModuleBinary(code).exports] == ["memory"]


def test_a_description_says_what_a_compiled_module_does(engine: Engine) -> None:
    code = wat_to_wasm(CASES["tables and references"][1][1])
    described, compiled = ModuleBinary(code), Module.compile(engine, code)
    assert described.imports == compiled.imports
    assert described.exports == compiled.exports


def test_globals_made_of_globals_do_not_double() -> None:
    doubled = """(module (import "%d" "g" (global $g i64))
        (global (export "g") i64 (i64.add (global.get $g) (global.get $g))))"""
    texts = ['(module (global (export "g") i64 (i64.const 1)))', *(doubled % step for step in range(60))]
    assert fuse(wire([ModuleBinary(wat_to_wasm(text)) for text in texts]), []) is None


def test_globals_made_of_long_globals_do_not_multiply() -> None:
    def fused(count: int) -> bytes | None:
        long = "(i64.add (i64.const 1) " * 40 + "(i64.const 1)" + ")" * 40
        giver = f'(module (global (export "g") i64 {long}))'
        taker = f'(module (import "0" "g" (global $g i64)) {"(global i64 (global.get $g))" * count})'
        return fuse(wire([ModuleBinary(wat_to_wasm(text)) for text in (giver, taker)]), [])

    assert fused(10) is not None
    assert fused(10_000) is None


def test_modules_with_many_names_are_not_fused() -> None:
    def exporting(count: int) -> bytes:
        exports = "".join(f'(export "{i}" (func $f))' for i in range(count))
        return wat_to_wasm(f"(module (func $f) {exports})")

    def importing(count: int) -> bytes:
        imports = '(import "host" "log" (func (param i32)))' * count
        return wat_to_wasm(f"(module {imports})")

    for make in (exporting, importing):
        assert fuse(wire([ModuleBinary(make(100_000))]), []) is not None
        assert fuse(wire([ModuleBinary(make(100_001))]), []) is None


def test_functions_stay_declared_whose_exports_are_not_wanted(engine: Engine) -> None:
    text = """(module (func $one (export "one") (result i32) (i32.const 1)) (table 1 funcref)
      (func (export "run") (result i32)
        (table.set (i32.const 0) (ref.func $one)) (call_indirect (result i32) (i32.const 0))))"""
    code = fuse([(ModuleBinary(wat_to_wasm(text)), [])], [(0, 1)])
    assert code is not None
    Module.validate(engine, code)


CODES = [wat_to_wasm(text) for _, texts in CASES.values() for text in texts]


@pytest.mark.parametrize("code", CODES, ids=range(len(CODES)))
def test_truncated_modules_are_unreadable(code: bytes) -> None:
    # Custom sections come last, and may be missing.
    whole = ModuleBinary(code)
    for end in range(len(code)):
        try:
            shorter = ModuleBinary(code[:end])
        except Unreadable:
            continue
        assert len(shorter.imports) <= len(whole.imports)


@given(st.sampled_from(CODES), st.lists(st.tuples(st.integers(8, 4096), st.integers(0, 255)), min_size=1, max_size=4))
def test_nothing_but_unreadable_comes_of_damaged_modules(code: bytes, damage: list[tuple[int, int]]) -> None:
    damaged = bytearray(code)
    for position, byte in damage:
        damaged[8 + position % (len(code) - 8)] = byte
    try:
        binary = ModuleBinary(bytes(damaged))
    except Unreadable:
        return
    if all(wanted.kind == "func" for wanted in binary.imports):
        fused = fuse([(binary, list(range(len(binary.imports))))], [(0, i) for i in range(len(binary.exports))])
        assert fused is None or fused.startswith(b"\0asm")
