"""Long bulk operations are interrupted, and otherwise do what WebAssembly says."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from wasi_http.engine import (
    Assembly,
    CoreType,
    Engine,
    EngineConfig,
    Fiber,
    Module,
    Store,
    Trap,
    Unreadable,
    interruptible,
    wat_to_wasm,
)
from wasi_http.engine.binary.bulk import CHUNK

from .test_fuse import CODES

PAGES = 80
SIZE = PAGES << 16

#: The size of the segment that "init" copies from.
SEGMENT = 3 * CHUNK + 7

GUEST = f"""(module
  (memory (export "memory") {PAGES}) (memory $other {PAGES + 1})
  (func (export "fill") (param i32 i32 i32) (memory.fill (local.get 0) (local.get 1) (local.get 2)))
  (func (export "copy") (param i32 i32 i32) (memory.copy (local.get 0) (local.get 1) (local.get 2)))
  (func (export "there and back") (param i32 i32 i32) (local i64 f32)
    (memory.copy $other 0 (local.get 0) (local.get 1) (local.get 2))
    (memory.copy 0 $other (local.get 1) (local.get 0) (local.get 2)))
  (func (export "seed") (param i32 i32 i32)
    (loop $more
      (i32.store (local.get 0) (i32.mul (local.get 0) (i32.const 0x9E3779B1)))
      (local.set 0 (i32.add (local.get 0) (i32.const 4)))
      (br_if $more (i32.lt_u (local.get 0) (i32.const {SIZE})))))
  (func (export "digest") (result i64) (local i32 i64)
    (loop $more
      (local.set 1 (i64.mul (i64.xor (local.get 1) (i64.load (local.get 0))) (i64.const 0x100000001b3)))
      (local.set 0 (i32.add (local.get 0) (i32.const 8)))
      (br_if $more (i32.lt_u (local.get 0) (i32.const {SIZE}))))
    (local.get 1))
  (func (export "grow and fill") (param i32 i32 i32)
    (drop (memory.grow (i32.const 3300)))
    (memory.fill (local.get 0) (local.get 1) (local.get 2)))
  (func (export "init") (param i32 i32 i32) (memory.init $segment (local.get 0) (local.get 1) (local.get 2)))
  (func (export "drop") (param i32 i32 i32) (data.drop $segment))
  (data (i32.const 0) "") (data $segment "x"))"""
EXPORTS = ["memory", "fill", "copy", "there and back", "seed", "digest", "grow and fill", "init", "drop"]
OPERATION = CoreType(("i32", "i32", "i32"), ())


def guest_code(segment: int = SEGMENT) -> bytes:
    """The guest with a segment of that size, which text would take long to say."""
    code = wat_to_wasm(GUEST)
    start = code.index(b"\x0b\x09\x02\x00\x41\x00\x0b\x00\x01\x01x")
    content = bytes(range(251)) * (segment // 251 + 1)
    data = b"\x02\x00\x41\x00\x0b\x00\x01" + leb128(segment) + content[:segment]
    return code[:start] + b"\x0b" + leb128(len(data)) + data + code[start + 11 :]


def leb128(number: int) -> bytes:
    return bytes([number & 0x7F]) if number < 0x80 else bytes([number & 0x7F | 0x80]) + leb128(number >> 7)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(EngineConfig(max_instances=4, cache=False))


class Guest:
    def __init__(self, engine: Engine, code: bytes | Module) -> None:
        module = Module.compile(engine, code) if isinstance(code, bytes) else code
        self.assembly = Assembly(engine, [], [(module, [])], [(0, i) for i in range(len(EXPORTS))])
        self.store = Store(engine)
        self.assembly.instantiate(self.store)

    def start(self, name: str, *numbers: int) -> Fiber:
        return Fiber.of(self.store, EXPORTS.index(name), OPERATION, *(signed(number) for number in numbers))

    def call(self, name: str, *numbers: int) -> int:
        """How many time slices it took."""
        fiber = self.start(name, *numbers)
        slices = 1
        while not fiber.poll():
            slices += 1
        return slices

    def digest(self) -> float | None:
        """What tells whether the memory is another one."""
        fiber = Fiber.of(self.store, EXPORTS.index("digest"), CoreType((), ("i64",)))
        while not fiber.poll():
            pass
        return fiber.result


def signed(number: int) -> int:
    return number - (1 << 32) if number >= 1 << 31 else number


@pytest.fixture
def guests(engine: Engine) -> Iterator[tuple[Guest, Guest]]:
    """As it is, and in pieces."""
    code = guest_code()
    changed = interruptible(code)
    assert changed != code
    pair = Guest(engine, code), Guest(engine, bytes(changed))
    yield pair
    for guest in pair:
        guest.store.close()


LENGTHS = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 7, 3 * CHUNK - 1]
#: How far the source is from the place.
DISTANCES = [0, 1, -1, 8, -8, CHUNK, -CHUNK, CHUNK + 3, -CHUNK - 3, 2 * CHUNK, -2 * CHUNK]


def test_they_write_what_they_should(guests: tuple[Guest, Guest]) -> None:
    plain, pieces = guests
    for guest in guests:
        guest.call("seed", 0, 0, 0)
    for length in LENGTHS:
        for guest in guests:
            guest.call("fill", 77, length & 0xFF, length)
        assert plain.digest() == pieces.digest()
    for guest in guests:
        guest.call("seed", 0, 0, 0)
    for length in LENGTHS:
        for distance in DISTANCES:
            place = max(0, -distance)
            for name in ("copy", "there and back"):
                for guest in guests:
                    guest.call(name, place, place + distance, length)
                assert plain.digest() == pieces.digest()
    for length in LENGTHS:
        for source in (0, 1, SEGMENT - length):
            for guest in guests:
                guest.call("init", 5, source, length)
            assert plain.digest() == pieces.digest()


#: Place, source and length of what is just within the memory, and of what is not.
WITHIN = [(SIZE, 0, 0), (SIZE - CHUNK - 1, 0, CHUNK + 1), (0, SIZE - CHUNK - 1, CHUNK + 1), (0, 0, SIZE)]
WITHIN_SEGMENT = [(SIZE - SEGMENT, 0, SEGMENT), (SIZE, SEGMENT, 0), (0, SEGMENT - CHUNK - 1, CHUNK + 1)]
BEYOND = [
    (SIZE + 1, 0, 0),
    (SIZE - CHUNK, 0, CHUNK + 1),
    (0, SIZE - CHUNK, CHUNK + 1),
    (0, 0, SIZE + 1),
    (0, 0, 0xFFFFFFFF),
    (0xFFFFFFFF, 0, CHUNK + 1),
    (0, 0xFFFFFFFF, CHUNK + 1),
    (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
    (SIZE - 1, 0, 0xFFFFFFFF),
    (0x80000000, 0, 0x80000000),
]


@pytest.mark.parametrize("operation", ["fill", "copy", "there and back", "init"])
def test_what_is_within_the_memory_is_done(guests: tuple[Guest, Guest], operation: str) -> None:
    for place, source, length in WITHIN if operation != "init" else WITHIN_SEGMENT:
        for guest in guests:
            guest.call(operation, place, source, length)
    assert guests[0].digest() == guests[1].digest()


@pytest.mark.parametrize("operation", ["fill", "copy"])
@pytest.mark.parametrize("place", BEYOND)
def test_what_leads_out_of_the_memory_traps(
    guests: tuple[Guest, Guest], operation: str, place: tuple[int, int, int]
) -> None:
    if operation == "fill" and place[0] + place[2] <= SIZE:
        place = place[1], 255, place[2]
    for guest in guests:
        with pytest.raises(Trap, match="out of bounds memory access"):
            guest.call(operation, *place)


BEYOND_SEGMENT = [
    (0, 0, SEGMENT + 1),
    (0, 1, SEGMENT),
    (0, SEGMENT + 1, 0),
    (0, SEGMENT - CHUNK, CHUNK + 1),
    (0, 0xFFFFFFFF, CHUNK + 1),
    (0, 0, 0xFFFFFFFF),
    (SIZE - SEGMENT + 1, 0, SEGMENT),
    (0xFFFFFFFF, 0, SEGMENT),
]


@pytest.mark.parametrize("operation", ["fill", "copy", "init", "dropped"])
def test_what_traps_writes_nothing(operation: str) -> None:
    places = BEYOND_SEGMENT if operation == "init" else [(0, 0, SEGMENT)] if operation == "dropped" else BEYOND
    # A store of our own is useless after a trap.
    engine = wasmtime.Engine()
    for code in (guest_code(), bytes(interruptible(guest_code()))):
        module = wasmtime.Module(engine, code)
        for place in places:
            store = wasmtime.Store(engine)
            exports = wasmtime.Instance(store, module, []).exports(store)
            exports["seed"](store, 0, 0, 0)
            before = exports["memory"].read(store)
            if operation == "dropped":
                exports["drop"](store, 0, 0, 0)
            elif operation == "fill":
                place = max(place[0], place[1]), 255, place[2]
            with pytest.raises(wasmtime.Trap, match="out of bounds memory access"):
                exports["init" if operation == "dropped" else operation](store, *map(signed, place))
            assert exports["memory"].read(store) == before


def test_a_long_operation_is_interrupted() -> None:
    # Slices so short that the operations take many of them on any machine.
    engine = Engine(EngineConfig(max_instances=2, cache=False, time_slice=0.001))
    segment = 64 << 20
    code = guest_code(segment)
    plain, pieces = Module.compile(engine, code), Module.compile(engine, interruptible(code))
    length = 200 << 20

    def slices(module: Module, operation: str, arguments: tuple[int, int, int]) -> int:
        # In memory that was not written to yet, which takes longest.
        guest = Guest(engine, module)
        guest.call("grow and fill", 0, 1, 1)
        try:
            return guest.call(operation, *arguments)
        finally:
            guest.store.close()

    operations = (("fill", (0, 7, length)), ("copy", (0, 1 << 20, length - (1 << 20))), ("init", (0, 0, segment)))
    for operation, arguments in operations:
        # One look at the clock at the beginning and one at the end.
        assert all(slices(plain, operation, arguments) <= 3 for _ in range(4))
        # Whose thread may be late on a busy machine.
        assert any(slices(pieces, operation, arguments) > 3 for _ in range(20))


UNCHANGED = [
    "(module)",
    "(module (memory 1) (func))",
    f"(module (memory 1) (func (memory.fill (i32.const 0) (i32.const 0) (i32.const {CHUNK}))))",
    "(module (memory 1) (func (memory.copy (i32.const 0) (i32.const 0) (i32.const 0))))",
    '(module (memory 1) (data $d "abc") (func (memory.init $d (i32.const 0) (i32.const 0) (i32.const 3))))',
    "(module (table 1 funcref) (func (table.fill (i32.const 0) (ref.null func) (i32.const 1))))",
]


@pytest.mark.parametrize("text", UNCHANGED)
def test_modules_without_long_operations_are_as_they_were(text: str) -> None:
    code = wat_to_wasm(text)
    assert interruptible(code) is code


CHANGED = [
    # Operands of any kind, code that is not reached, and operations in blocks and arms.
    "(func (param i32) (memory.fill (i32.const 0) (i32.const 0) (local.get 0)))",
    "(func (unreachable) (memory.fill))",
    "(func (unreachable) (memory.copy))",
    f"(func (memory.fill (i32.const 0) (i32.const 0) (i32.const {CHUNK + 1})))",
    "(func (memory.fill (i32.const 0) (i32.const 0) (i32.const -1)))",
    "(func (param i32) (local i64 f64) (local i32) (if (local.get 0) (then (memory.copy (local.get 0) (local.get 0)"
    " (local.get 0))) (else (loop (memory.fill (local.get 0) (local.get 0) (local.get 3)) (br_if 0 (local.get 0))))))",
    "(func (result i32) (block (result i32) (i32.const 5) (i32.const 1) (i32.const 2) (memory.size) (memory.fill)))",
    "(func (param i32) (memory.copy 0 1 (local.get 0) (local.get 0) (local.get 0))"
    " (memory.copy 1 0 (local.get 0) (local.get 0) (local.get 0)) (memory.fill 1 (local.get 0) (local.get 0)"
    " (local.get 0)))",
]


@pytest.mark.parametrize("text", CHANGED)
@pytest.mark.parametrize("more", ["", '(import "a" "b" (func)) (import "a" "c" (global i32))', "(start 0) (func)"])
def test_modules_that_change_are_valid(engine: Engine, text: str, more: str) -> None:
    code = wat_to_wasm(f"(module {more} {text} (memory 1) (memory 1))")
    changed = interruptible(code)
    assert changed != code
    Module.validate(engine, bytes(changed))
    # The operation that is left in an arm would be changed once more, and that does no harm.
    Module.validate(engine, bytes(interruptible(changed)))


@pytest.mark.parametrize("code", CODES, ids=range(len(CODES)))
def test_all_kinds_of_modules_are_read(engine: Engine, code: bytes) -> None:
    Module.validate(engine, bytes(interruptible(code)))


@given(st.lists(st.tuples(st.integers(0, 4096), st.integers(0, 255)), min_size=1, max_size=4), st.integers(0, 4096))
def test_nothing_but_unreadable_comes_of_damaged_modules(damage: list[tuple[int, int]], end: int) -> None:
    damaged = bytearray(wat_to_wasm(GUEST))
    for position, byte in damage:
        damaged[8 + position % (len(damaged) - 8)] = byte
    try:
        interruptible(bytes(damaged))
        interruptible(bytes(damaged[:end]))
    except Unreadable:
        pass


def test_the_end_of_a_store_with_much_memory_is_short() -> None:
    """The system takes the memory back on another thread, and its place in the pool comes back."""
    engine = Engine(EngineConfig(max_instances=20, cache=False))
    code = bytes(interruptible(wat_to_wasm(GUEST)))
    times = []
    for _ in range(5):
        guest = Guest(engine, code)
        guest.call("grow and fill", 0, 7, 200 << 20)
        began = time.thread_time()
        guest.store.close()
        times.append(time.thread_time() - began)
    assert min(times) < 0.005, "closing takes back 200 MiB itself"
    for _ in range(100):
        guest = Guest(engine, code)
        guest.call("grow and fill", 0, 7, 1)
        guest.store.close()


def test_where_instances_are_scarce_a_closed_store_leaves_its_place_at_once() -> None:
    engine = Engine(EngineConfig(max_instances=1, cache=False))
    for _ in range(5):
        guest = Guest(engine, bytes(interruptible(wat_to_wasm(GUEST))))
        guest.call("grow and fill", 0, 7, 100 << 20)
        guest.store.close()
