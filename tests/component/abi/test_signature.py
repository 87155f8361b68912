from __future__ import annotations

import array
import dataclasses
import enum
import math
import struct
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.component.strategies import values
from wasi_http.component.abi.context import ENCODINGS, MAX_BYTE_LENGTH, LiftLowerContext
from wasi_http.component.abi.signature import Signature, codec_of
from wasi_http.component.canon.instances import Instances
from wasi_http.component.handles import GuestResource, Resource, ResourceTable
from wasi_http.component.model.types import (
    BorrowType,
    Case,
    EnumType,
    Field,
    FlagsType,
    FuncType,
    ListType,
    OptionType,
    OwnType,
    Primitive,
    RecordType,
    ResourceType,
    ResultType,
    TupleType,
    ValType,
    VariantType,
)
from wasi_http.component.model.values import Err, Ok, Some, Variant, case
from wasi_http.engine import Assembly, Engine, Module, Store, Trap, wat_to_wasm

pytestmark = pytest.mark.usefixtures("no_leaks")

# Types, with all kinds of Python classes


class Color(enum.Enum):
    RED = enum.auto()
    DARK_GREEN = enum.auto()
    BLUE = enum.auto()


class Rights(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()
    EXECUTE = enum.auto()


class Odd(enum.Flag):
    """Bits that are not WIT's."""

    FIRST = 1 << 7
    SECOND = 1 << 2


@dataclasses.dataclass(slots=True)
class Point:
    x: int
    type_: int


@dataclasses.dataclass
class Named:
    name: str
    tags: list[str]


class Shape(Variant):
    NOTHING: ClassVar[Any] = case("nothing")
    Circle = case("circle", float)
    Pair = case("pair", object)
    Label = case("label", str)


class Thing(Resource):
    pass


BOOL, CHAR, STRING, F32, F64 = Primitive.BOOL, Primitive.CHAR, Primitive.STRING, Primitive.F32, Primitive.F64
U8, U16, U32, U64 = Primitive.U8, Primitive.U16, Primitive.U32, Primitive.U64
S8, S16, S32, S64 = Primitive.S8, Primitive.S16, Primitive.S32, Primitive.S64

COLOR = EnumType(("red", "dark-green", "blue"), Color)
PLAIN = EnumType(("a", "b"))
Many = enum.Enum("Many", [f"M{i}" for i in range(300)])  # type: ignore[misc]
MANY = EnumType(tuple(f"m{i}" for i in range(300)), Many)
RIGHTS = FlagsType(("read", "write", "execute"), Rights)
ODD = FlagsType(("first", "second"), Odd)
Wide = enum.Flag("Wide", [f"B{i}" for i in range(32)])  # type: ignore[misc]
WIDE = FlagsType(tuple(f"b{i}" for i in range(32)), Wide)
POINT = RecordType((Field("x", U8), Field("type", U32)), Point)
NAMED = RecordType((Field("name", STRING), Field("tags", ListType(STRING))), Named)
SHAPE = VariantType(
    (Case("nothing"), Case("circle", F32), Case("pair", TupleType((U64, F64))), Case("label", STRING)), Shape
)
THING = ResourceType("thing", Thing)
GUEST = ResourceType("guest-made")

# A guest whose realloc does what the word at address 0 says

REALLOC = """(module
  (memory (export "memory") 1)
  (global $next (mut i32) (i32.const 4096))
  (func (export "realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (if (i32.eq (i32.load (i32.const 0)) (i32.const 1)) (then (return (i32.const 4097))))
    (if (i32.eq (i32.load (i32.const 0)) (i32.const 2)) (then (return (i32.const -16))))
    (if (i32.eq (i32.load (i32.const 0)) (i32.const 3)) (then unreachable))
    (if (i32.or (local.get $old) (local.get $old_size)) (then unreachable))
    (local.set $at (i32.and
      (i32.add (global.get $next) (i32.sub (local.get $align) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get $align))))
    (global.set $next (i32.add (local.get $at) (local.get $size)))
    (block $done (loop $more
      (br_if $done (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
      (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
      (br $more)))
    (local.get $at)))"""

PLACE = 64
MISALIGNS, ESCAPES, TRAPS = 1, 2, 3


def context(
    store: Store, encoding: str = "utf8", memory: int = 0, realloc: int = 1, account: ResourceTable | None = None
) -> LiftLowerContext:
    options = ((memory, realloc, ENCODINGS[encoding], 0),)
    return Instances(ResourceTable() if account is None else account, options).context(store, 0)


class Guest:
    """One store with the guest above, and what a call needs of it."""

    def __init__(
        self,
        engine: Engine,
        encoding: str = "utf8",
        memory: int = 0,
        realloc: int = 1,
        account: ResourceTable | None = None,
    ) -> None:
        self.account = ResourceTable() if account is None else account
        self.store = Store(engine)
        _assembly(engine).instantiate(self.store)
        self.cx = context(self.store, encoding, memory, realloc, self.account)
        self.handles = self.cx.instance.handles

    def write(self, data: bytes, pointer: int = PLACE) -> None:
        for i, byte in enumerate(data):
            codec_of(U8).store_to(self.cx, byte, pointer + i)

    def read(self, length: int, pointer: int = PLACE) -> bytes:
        return bytes(codec_of(U8).load_from(self.cx, pointer + i) for i in range(length))  # type: ignore[misc]

    def misbehave(self, how: int) -> None:
        codec_of(U32).store_to(self.cx, how, 0)

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *_: object) -> None:
        self.handles.close()
        self.store.close()


_assemblies: dict[Engine, Assembly] = {}


@pytest.fixture(scope="module", autouse=True)
def forget_assemblies() -> Iterator[None]:
    yield
    _assemblies.clear()


def _assembly(engine: Engine) -> Assembly:
    if engine not in _assemblies:
        module = Module.compile(engine, wat_to_wasm(REALLOC))
        _assemblies[engine] = Assembly(engine, [], [(module, [])], [(0, 0), (0, 1)])
    return _assemblies[engine]


def bits32(number: float) -> int:
    return int.from_bytes(struct.pack("<f", number), "little")


def bits64(number: float) -> int:
    return int.from_bytes(struct.pack("<d", number), "little")


# Values and what they are, worked out by hand from the specification: flat form, and bytes in memory

VALUES: list[tuple[ValType, Any, list[int], str]] = [
    (BOOL, True, [1], "01"),
    (BOOL, False, [0], "00"),
    (U8, 255, [255], "ff"),
    (S8, -1, [0xFFFFFFFF], "ff"),
    (U16, 0xABCD, [0xABCD], "cdab"),
    (S16, -2, [0xFFFFFFFE], "feff"),
    (U32, 2**32 - 1, [0xFFFFFFFF], "ffffffff"),
    (S32, -(2**31), [0x80000000], "00000080"),
    (U64, 2**64 - 1, [2**64 - 1], "ff" * 8),
    (U64, 2**63, [2**63], "00" * 7 + "80"),
    (S64, -1, [2**64 - 1], "ff" * 8),
    (F32, 1.5, [bits32(1.5)], "0000c03f"),
    (F64, -0.5, [bits64(-0.5)], "000000000000e0bf"),
    (F32, math.inf, [bits32(math.inf)], "0000807f"),
    (CHAR, "A", [0x41], "41000000"),
    (CHAR, "\U0010ffff", [0x10FFFF], "ffff1000"),
    (COLOR, Color.BLUE, [2], "02"),
    (PLAIN, "b", [1], "01"),
    (MANY, Many["M299"], [299], "2b01"),
    (RIGHTS, Rights.READ | Rights.EXECUTE, [5], "05"),
    (RIGHTS, Rights(0), [0], "00"),
    (ODD, Odd.SECOND, [2], "02"),
    (ODD, Odd.FIRST | Odd.SECOND, [3], "03"),
    (WIDE, ~Wide(0), [0xFFFFFFFF], "ffffffff"),
    (POINT, Point(1, 2), [1, 2], "01xxxxxx02000000"),
    (TupleType((U8, U16, U8)), (1, 2, 3), [1, 2, 3], "01xx020003"),
    (OptionType(U16), None, [0, 0], "00"),
    (OptionType(U16), 7, [1, 7], "01xx0700"),
    (OptionType(OptionType(U8)), None, [0, 0, 0], "00"),
    (OptionType(OptionType(U8)), Some(None), [1, 0, 0], "0100"),
    (OptionType(OptionType(U8)), Some(9), [1, 1, 9], "010109"),
    (ResultType(None, None), Ok(), [0], "00"),
    (ResultType(None, None), Err(), [1], "01"),
    (ResultType(F32, U64), Ok(1.5), [0, bits32(1.5)], "00" + "xx" * 7 + "0000c03f"),
    (ResultType(F32, U64), Err(5), [1, 5], "01" + "xx" * 7 + "05" + "00" * 7),
    (ResultType(S32, U64), Ok(-1), [0, 0xFFFFFFFF], "00" + "xx" * 7 + "ffffffff"),
    (ResultType(F64, F32), Ok(2.0), [0, bits64(2.0)], "00" + "xx" * 7 + "0000000000000040"),
    (ResultType(F32, S8), Err(-1), [1, 0xFFFFFFFF], "01xxxxxxff"),
    (SHAPE, Shape.NOTHING, [0, 0, 0], "00"),
    (SHAPE, Shape.Circle(1.5), [1, bits32(1.5), 0], "01" + "xx" * 7 + "0000c03f"),
    (SHAPE, Shape.Pair((1, 2.0)), [2, 1, bits64(2.0)], "02" + "xx" * 7 + "0100000000000000" + "0000000000000040"),
]


@pytest.mark.parametrize(("type_", "value", "flat", "memory"), VALUES, ids=lambda item: str(item)[:30])
def test_values_are_what_the_specification_says(
    engine: Engine, type_: ValType, value: Any, flat: list[int], memory: str
) -> None:
    with Guest(engine) as guest:
        codec = codec_of(type_)
        assert codec.lower_values(guest.cx, value) == flat
        assert codec.lift_values(guest.cx, flat) == value
        codec.store_to(guest.cx, value, PLACE)
        stored = guest.read(len(memory) // 2).hex()
        assert "".join(x if x == "x" else y for x, y in zip(memory, stored, strict=True)) == memory
        assert codec.load_from(guest.cx, PLACE) == value


TEXTS: list[tuple[str, str, str, int]] = [
    ("utf8", "", "", 0),
    ("utf8", "aé€😀", "61c3a9e282acf09f9880", 10),
    ("utf8", "a\0b", "610062", 3),
    ("utf16", "", "", 0),
    ("utf16", "aé€", "6100e900ac20", 3),
    ("utf16", "😀", "3dd800de", 2),
    ("utf16", "\ufeffa", "fffe6100", 2),
    ("latin1+utf16", "", "", 0),
    ("latin1+utf16", "aé", "61e9", 2),
    ("latin1+utf16", "aé€", "6100e900ac20", 3 | 1 << 31),
]


@pytest.mark.parametrize(("encoding", "text", "data", "length"), TEXTS)
def test_strings_are_what_the_specification_says(
    engine: Engine, encoding: str, text: str, data: str, length: int
) -> None:
    with Guest(engine, encoding) as guest:
        pointer, units = codec_of(STRING).lower_values(guest.cx, text)
        assert units == length
        assert guest.read(len(data) // 2, pointer).hex() == data
        assert pointer % (1 if encoding == "utf8" else 2) == 0
        assert codec_of(STRING).lift_values(guest.cx, [pointer, units]) == text


def test_lists_are_what_the_specification_says(engine: Engine) -> None:
    with Guest(engine) as guest:
        pointer, length = codec_of(ListType(POINT)).lower_values(guest.cx, [Point(1, 2), Point(3, 4)])
        assert (pointer % 4, length) == (0, 2)
        stored = guest.read(16, pointer)
        assert (stored[0], stored[4:8], stored[8], stored[12:]) == (1, b"\2\0\0\0", 3, b"\4\0\0\0")
        codec_of(ListType(U8)).store_to(guest.cx, b"ab", PLACE)
        pointer, length = struct.unpack("<II", guest.read(8))
        assert (guest.read(2, pointer), length) == (b"ab", 2)


# Every type there and back


def _records(types: st.SearchStrategy[ValType]) -> st.SearchStrategy[ValType]:
    return st.lists(types, min_size=1, max_size=4).map(lambda elements: TupleType(tuple(elements)))


LEAVES = st.sampled_from([*Primitive, COLOR, PLAIN, MANY, RIGHTS, ODD, WIDE, POINT, NAMED, SHAPE])
TYPES: st.SearchStrategy[ValType] = st.recursive(
    LEAVES,
    lambda types: st.one_of(
        types.map(ListType),
        _records(types),
        types.map(OptionType),
        st.builds(ResultType, st.none() | types, st.none() | types),
    ),
    max_leaves=6,
)


@given(TYPES.flatmap(lambda type_: st.tuples(st.just(type_), values(type_))), st.sampled_from(sorted(ENCODINGS)))
@example((OptionType(F64), math.nan), "utf8")
def test_every_value_survives_the_way_there_and_back(engine: Engine, typed: tuple[ValType, Any], encoding: str) -> None:
    type_, value = typed
    codec = codec_of(type_)
    with Guest(engine, encoding) as guest:
        flat = codec.lower_values(guest.cx, value)
        assert len(flat) == len(codec.flat)
        # NaN differs from itself, but not in writing.
        assert repr(codec.lift_values(guest.cx, flat)) == repr(value)
        codec.store_to(guest.cx, value, PLACE)
        assert repr(codec.load_from(guest.cx, PLACE)) == repr(value)


@given(TYPES, st.binary(min_size=64, max_size=64), st.sampled_from(sorted(ENCODINGS)))
def test_whatever_a_guest_sends_is_a_value_or_a_trap(
    engine: Engine, type_: ValType, data: bytes, encoding: str
) -> None:
    codec = codec_of(type_)
    words = [int.from_bytes(data[8 * i % 64 : 8 * i % 64 + 8], "little") for i in range(len(codec.flat))]
    with Guest(engine, encoding) as guest:
        guest.write(data)
        attempts: list[Callable[[], object]] = [
            lambda: codec.lift_values(guest.cx, words),
            lambda: codec.load_from(guest.cx, PLACE),
        ]
        for attempt in attempts:
            try:
                value = attempt()
            except Trap:
                continue
            assert repr(codec.lift_values(guest.cx, codec.lower_values(guest.cx, value))) == repr(value)


# What guests get wrong

BIG = 1 << 20
HOSTILE: list[tuple[str, ValType, list[int], str]] = [
    ("utf8", CHAR, [0xD800], "0xd800 is not a Unicode scalar value"),
    ("utf8", CHAR, [0xDFFF], "0xdfff is not a Unicode scalar value"),
    ("utf8", CHAR, [0x110000], "0x110000 is not a Unicode scalar value"),
    ("utf8", CHAR, [0xFFFFFFFF], "0xffffffff is not a Unicode scalar value"),
    ("utf8", COLOR, [3], "discriminant 3 is out of range for enum { red, dark-green, blue }"),
    ("utf8", COLOR, [0xFFFFFFFF], "discriminant 4294967295 is out of range"),
    ("utf8", OptionType(U8), [2, 0], "discriminant 2 is out of range for option<u8>"),
    ("utf8", ResultType(None, None), [0x100], "discriminant 256 is out of range for result"),
    ("utf8", SHAPE, [4, 0, 0], "discriminant 4 is out of range for variant"),
    ("utf8", STRING, [0, 65537], "pointer out of bounds: 65537 bytes at 0 in a memory of 65536"),
    ("utf8", STRING, [65537, 0], "pointer out of bounds: 0 bytes at 65537"),
    ("utf8", STRING, [0xFFFFFFFF, 0xFFFFFFF], "pointer out of bounds: 268435455 bytes at 4294967295"),
    ("utf8", STRING, [0, 1 << 28], "a string of 268435456 bytes is longer than the canonical ABI allows"),
    ("utf16", STRING, [0, 1 << 27], "a string of 268435456 bytes is longer"),
    ("utf16", STRING, [0, 0xFFFFFFFF], "a string of 8589934590 bytes is longer"),
    ("utf16", STRING, [PLACE + 1, 1], f"pointer {PLACE + 1} is not aligned to 2"),
    ("utf16", STRING, [65534, 2], "pointer out of bounds: 4 bytes at 65534"),
    ("latin1+utf16", STRING, [PLACE + 1, 1], f"pointer {PLACE + 1} is not aligned to 2"),
    ("latin1+utf16", STRING, [0, 1 << 28], "a string of 268435456 bytes is longer"),
    ("latin1+utf16", STRING, [0, 1 << 31 | 1 << 27], "a string of 268435456 bytes is longer"),
    ("latin1+utf16", STRING, [65534, 1 << 31 | 2], "pointer out of bounds: 4 bytes at 65534"),
    ("utf8", ListType(U8), [0, 65537], "pointer out of bounds: 65537 bytes at 0"),
    ("utf8", ListType(U8), [0, 1 << 28], "a list of 268435456 bytes is longer than the canonical ABI allows"),
    ("utf8", ListType(U8), [0, 0xFFFFFFFF], "a list of 4294967295 bytes is longer"),
    ("utf8", ListType(U64), [0, 0xFFFFFFFF], "a list of 34359738360 bytes is longer"),
    ("utf8", ListType(U64), [PLACE + 4, 1], f"pointer {PLACE + 4} is not aligned to 8"),
    ("utf8", ListType(U64), [PLACE + 4, 0], f"pointer {PLACE + 4} is not aligned to 8"),
    ("utf8", ListType(U64), [65528, 2], "pointer out of bounds: 16 bytes at 65528"),
    ("utf8", ListType(STRING), [65532, 1], "pointer out of bounds: 8 bytes at 65532"),
    ("utf8", ListType(CHAR), [PLACE, 1], "0xffffffff is not a Unicode scalar value"),
    ("utf8", ListType(COLOR), [PLACE, 1], "discriminant 255 is out of range"),
    ("utf8", ListType(MANY), [PLACE, 1], "discriminant 65535 is out of range"),
    ("utf8", TupleType((U8, ListType(OptionType(U8)))), [0, PLACE, 1], "discriminant 255 is out of range"),
    ("utf8", OwnType(THING), [0], "unknown handle index 0"),
    ("utf8", BorrowType(THING), [9], "unknown handle index 9"),
    ("utf8", ListType(OwnType(THING)), [PLACE, 1], "unknown handle index 4294967295"),
]


@pytest.mark.parametrize(("encoding", "type_", "flat", "message"), HOSTILE, ids=lambda item: str(item)[:40])
def test_wrong_values_of_guests_trap(
    engine: Engine, encoding: str, type_: ValType, flat: list[int], message: str
) -> None:
    with Guest(engine, encoding) as guest:
        guest.write(b"\xff" * 64)
        with pytest.raises(Trap) as caught:
            codec_of(type_).lift_values(guest.cx, flat)
        assert message in caught.value.message


@pytest.mark.parametrize(
    ("encoding", "data", "message"),
    [
        ("utf8", b"a\xff", "a string is not UTF-8: invalid start byte at byte 1"),
        ("utf8", b"\xc0\x80", "a string is not UTF-8: invalid start byte at byte 0"),
        ("utf8", b"ab\xe2\x82", "a string is not UTF-8: unexpected end of data at byte 2"),
        ("utf8", b"\xed\xa0\x80", "a string is not UTF-8: invalid continuation byte at byte 0"),
        ("utf8", b"\xf4\x90\x80\x80", "a string is not UTF-8: invalid continuation byte at byte 0"),
        ("utf16", b"\x00\xd8", "a string is not UTF-16: unexpected end of data at byte 0"),
        ("utf16", b"\x00\xd8a\x00", "a string is not UTF-16: illegal UTF-16 surrogate at byte 0"),
        ("utf16", b"\x00\xdca\x00", "a string is not UTF-16: illegal encoding at byte 0"),
    ],
)
def test_wrong_text_of_guests_traps(engine: Engine, encoding: str, data: bytes, message: str) -> None:
    with Guest(engine, encoding) as guest:
        guest.write(data)
        units = len(data) if encoding == "utf8" else len(data) // 2
        with pytest.raises(Trap) as caught:
            codec_of(STRING).lift_values(guest.cx, [PLACE, units])
        assert caught.value.message == message
        if encoding == "utf16":
            both = context(guest.store, "latin1+utf16")
            with pytest.raises(Trap, match="not UTF-16"):
                codec_of(STRING).lift_values(both, [PLACE, units | 1 << 31])


@pytest.mark.parametrize(
    ("type_", "flat", "value"),
    [
        (BOOL, [2], True),
        (BOOL, [1 << 32], False),
        (U8, [0x1FF], 0xFF),
        (S8, [0x80], -128),
        (U16, [0xFFFF0001], 1),
        (S16, [0x8000], -32768),
        (U32, [1 << 32 | 5], 5),
        (S32, [0x80000000], -(2**31)),
        (RIGHTS, [0xFF], Rights.READ | Rights.WRITE | Rights.EXECUTE),
        (RIGHTS, [0xF8], Rights(0)),
        (ResultType(U8, U64), [0, 0xABCDEF0123], 0x23),
    ],
)
def test_bits_that_a_type_does_not_have_are_ignored(
    engine: Engine, type_: ValType, flat: list[int], value: Any
) -> None:
    with Guest(engine) as guest:
        lifted = codec_of(type_).lift_values(guest.cx, flat)
        assert (lifted.value if isinstance(lifted, Ok) else lifted) == value


@pytest.mark.parametrize(
    ("type_", "noise", "canonical", "form"),
    [(F32, 0xFFA00001, 0x7FC00000, "<f"), (F64, 0xFFF4 << 48, 0x7FF8 << 48, "<d")],
    ids=str,
)
def test_every_nan_becomes_the_canonical_one(
    engine: Engine, type_: ValType, noise: int, canonical: int, form: str
) -> None:
    codec = codec_of(type_)
    clean = canonical.to_bytes(codec.size, "little")
    dirty = struct.unpack("<d", struct.pack("<Q", 0xFFF8000000000123))[0]
    with Guest(engine) as guest:
        guest.write(noise.to_bytes(codec.size, "little"))
        for value in (codec.lift_values(guest.cx, [noise]), codec.load_from(guest.cx, PLACE)):
            assert struct.pack(form, value) == clean
        assert codec.lower_values(guest.cx, dirty) == [canonical]
        codec.store_to(guest.cx, dirty, PLACE)
        assert guest.read(codec.size) == clean


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (MISALIGNS, "realloc returned 4097, which is not aligned to 4"),
        (ESCAPES, "pointer out of bounds: 4 bytes at 4294967280"),
        (TRAPS, "wasm `unreachable` instruction executed"),
    ],
)
def test_a_realloc_that_misbehaves_traps(engine: Engine, how: int, message: str) -> None:
    with Guest(engine) as guest:
        guest.misbehave(how)
        with pytest.raises(Trap) as caught:
            codec_of(ListType(U32)).lower_values(guest.cx, [1])
        assert message in caught.value.message


def test_realloc_is_asked_for_empty_values_and_its_answer_checked(engine: Engine) -> None:
    for type_, value in ((STRING, ""), (ListType(U8), b""), (ListType(U8), bytearray()), (ListType(U64), [])):
        with Guest(engine) as guest:
            assert codec_of(type_).lower_values(guest.cx, value) == [4096, 0]
            guest.misbehave(ESCAPES)
            with pytest.raises(Trap, match="out of bounds: 0 bytes at 4294967280"):
                codec_of(type_).lower_values(guest.cx, value)


def test_memory_that_moves_while_a_value_is_stored_does_no_harm(engine: Engine) -> None:
    type_ = ListType(TupleType((STRING, ListType(STRING))))
    value = [("x" * 30_000, ["y" * 40_000] * 3)] * 5
    with Guest(engine) as guest:
        flat = codec_of(type_).lower_values(guest.cx, value)
        assert codec_of(type_).lift_values(guest.cx, flat) == value


def test_guests_without_memory_or_realloc_trap(engine: Engine) -> None:
    with Guest(engine, memory=-1) as guest:
        for type_ in (STRING, ListType(U8), ListType(U32)):
            with pytest.raises(Trap, match="the guest has no memory yet"):
                codec_of(type_).lift_values(guest.cx, [0, 0])
            with pytest.raises(Trap, match="the guest has no memory yet"):
                codec_of(type_).lower_values(guest.cx, [] if type_ is not STRING else "")
    with Guest(engine, realloc=-1) as guest, pytest.raises(Trap, match="the guest has no realloc yet"):
        codec_of(STRING).lower_values(guest.cx, "a")


# What values cost


def test_what_one_call_sends_is_limited(engine: Engine) -> None:
    with Guest(engine) as guest:
        assert guest.cx.limit == guest.account.value_limit == 128 << 20
        guest.cx.limit = 10_000
        chunk = codec_of(ListType(U8))
        assert len(chunk.lift_values(guest.cx, [0, 9_900])) == 9_900  # type: ignore[arg-type]
        assert len(chunk.lift_values(guest.cx, [0, 9_900])) == 9_900  # type: ignore[arg-type]
        for type_, length in ((ListType(U8), 10_000), (STRING, 10_000), (ListType(BOOL), 1_300), (ListType(U32), 250)):
            with pytest.raises(Trap, match="the values of one call take more than 10000 bytes on the host"):
                codec_of(type_).lift_values(guest.cx, [0, length])
        # All arguments of one call draw on the same budget.
        twice = Signature(FuncType((("a", ListType(U8)), ("b", ListType(U8)))))
        assert len(twice.lift_param_values(guest.cx, [0, 4_000, 0, 4_000])) == 2
        with pytest.raises(Trap, match="take more than"):
            twice.lift_param_values(guest.cx, [0, 6_000, 0, 6_000])


def test_a_few_bytes_that_are_sent_many_times_are_counted_each_time(engine: Engine) -> None:
    with Guest(engine) as guest:
        pointer, _ = codec_of(ListType(U8)).lower_values(guest.cx, b"x" * 50_000)
        guest.write(struct.pack("<II", pointer, 50_000) * 400, 128)
        guest.cx.limit = 10_000_000
        many = codec_of(ListType(STRING))
        assert len(many.lift_values(guest.cx, [128, 100])) == 100  # type: ignore[arg-type]
        with pytest.raises(Trap, match="take more than 10000000 bytes"):
            many.lift_values(guest.cx, [128, 400])


def test_one_wide_character_makes_a_string_cost_four_times_as_much(engine: Engine) -> None:
    with Guest(engine) as guest:
        narrow = codec_of(STRING).lower_values(guest.cx, "a" * 4_000)
        wide = codec_of(STRING).lower_values(guest.cx, "a" * 4_000 + "😀")
        guest.cx.limit = 10_000
        codec_of(STRING).lift_values(guest.cx, narrow)
        with pytest.raises(Trap, match="take more than 10000 bytes"):
            codec_of(STRING).lift_values(guest.cx, wide)


@pytest.mark.parametrize(
    ("type_", "at_least"),
    [
        (U32, 28),
        (F64, 24),
        (CHAR, 76),
        (POINT, 32 + 2 * 32),
        (TupleType((U64,) * 10), 456),
        (OptionType(OptionType(U32)), 60),
        (ResultType(None, U32), 150),
        (SHAPE, 130),
    ],
    ids=str,
)
def test_what_elements_cost_is_not_underrated(type_: ValType, at_least: int) -> None:
    assert codec_of(type_).cost >= at_least


# What hosts get wrong

WRONG: list[tuple[ValType, Any, type[Exception], str]] = [
    (BOOL, 1, TypeError, "expected a bool for bool, not 1"),
    (BOOL, None, TypeError, "expected a bool for bool, not None"),
    (U8, 256, OverflowError, "256 is out of range for u8"),
    (U8, -1, OverflowError, "-1 is out of range for u8"),
    (S8, 128, OverflowError, "128 is out of range for s8"),
    (S8, -129, OverflowError, "-129 is out of range for s8"),
    (U16, 65536, OverflowError, "65536 is out of range for u16"),
    (S16, 32768, OverflowError, "32768 is out of range for s16"),
    (U32, 2**32, OverflowError, "4294967296 is out of range for u32"),
    (S32, 2**31, OverflowError, "2147483648 is out of range for s32"),
    (U64, 2**64, OverflowError, "18446744073709551616 is out of range for u64"),
    (U64, -1, OverflowError, "-1 is out of range for u64"),
    (U64, -(2**70), OverflowError, "is out of range for u64"),
    (S64, 2**63, OverflowError, "9223372036854775808 is out of range for s64"),
    (S64, -(2**63) - 1, OverflowError, "-9223372036854775809 is out of range for s64"),
    (U32, 1.0, TypeError, "expected an int for u32, not 1.0"),
    (U32, "1", TypeError, "expected an int for u32, not '1'"),
    (S64, None, TypeError, "expected an int for s64, not None"),
    (F32, 1e300, OverflowError, "1e+300 is out of range for f32"),
    (F64, 10**400, OverflowError, "is out of range for f64"),
    (F64, "1", TypeError, "expected a float for f64, not '1'"),
    (F32, None, TypeError, "expected a float for f32, not None"),
    (CHAR, "", TypeError, "expected a str of one character for char, not ''"),
    (CHAR, "ab", TypeError, "expected a str of one character for char, not 'ab'"),
    (CHAR, 97, TypeError, "expected a str of one character for char, not 97"),
    (CHAR, "\ud800", TypeError, "expected a character for char, not the surrogate"),
    (STRING, b"a", TypeError, "expected a str for string, not b'a'"),
    (STRING, "a\ud800", TypeError, "expected Unicode text for string, but surrogates not allowed at 1"),
    (COLOR, "red", TypeError, "'red' is not a case of enum { red, dark-green, blue }"),
    (COLOR, Many["M1"], TypeError, "is not a case of enum"),
    (COLOR, [], TypeError, "[] is not a case of enum"),
    (PLAIN, "c", TypeError, "'c' is not a case of enum { a, b }"),
    (PLAIN, [], TypeError, "[] is not a case of enum"),
    (RIGHTS, 1, TypeError, "expected Rights for flags { read, write, execute }, not 1"),
    (RIGHTS, Odd.FIRST, TypeError, "expected Rights for flags"),
    (POINT, (1, 2), TypeError, "expected Point for record { x: u8, type: u32 }, not (1, 2)"),
    (POINT, Point(1, 2**40), OverflowError, "is out of range for u32"),
    (TupleType((U8, U8)), (1,), TypeError, "expected a tuple of 2 for tuple<u8, u8>, not (1,)"),
    (TupleType((CHAR, CHAR)), "ab", TypeError, "expected a tuple of 2 for tuple<char, char>, not 'ab'"),
    (OptionType(U8), "x", TypeError, "expected an int for u8, not 'x'"),
    (OptionType(OptionType(U8)), 1, TypeError, "expected Some(value) or None for option<option<u8>>, not 1"),
    (ResultType(U8, U8), 1, TypeError, "expected Ok or Err for result<u8, u8>, not 1"),
    (ResultType(U8, U8), Some(1), TypeError, "expected Ok or Err for result<u8, u8>, not Some(1)"),
    (ResultType(None, U8), Ok(1), TypeError, "result<_, u8> has no payload in that case, unlike Ok(1)"),
    (SHAPE, "circle", TypeError, "expected Shape for variant"),
    (SHAPE, Shape.Circle("x"), TypeError, "expected a float for f32, not 'x'"),
    (ListType(U8), "a", TypeError, "expected bytes for list<u8>, not 'a'"),
    (ListType(U8), [1, 256], OverflowError, "256 is out of range for u8"),
    (ListType(U8), memoryview(b"abcd").cast("I"), TypeError, "expected bytes for list<u8>, not a memoryview of 'I'"),
    (ListType(U16), b"ab", TypeError, "expected a sequence for list<u16>, not b'ab'"),
    (ListType(CHAR), "ab", TypeError, "expected a sequence for list<char>, not 'ab'"),
    (ListType(U16), {1: 2}, TypeError, "expected a sequence for list<u16>, not {1: 2}"),
    (ListType(U16), iter([1]), TypeError, "expected a sequence for list<u16>"),
    (ListType(STRING), ["a", 1], TypeError, "expected a str for string, not 1"),
    (U8, 10**5000, OverflowError, "is out of range for u8"),
    (STRING, b"x" * 1000, TypeError, "not b'xxx"),
    (OwnType(THING), "x", TypeError, "expected Thing for own<thing>, not 'x'"),
    (OwnType(GUEST), 5, TypeError, "expected a resource of a guest for own<guest-made>, not 5"),
]


@pytest.mark.parametrize(("type_", "value", "error", "message"), WRONG, ids=[str(type_)[:30] for type_, *_ in WRONG])
@pytest.mark.parametrize("encoding", ["utf8", "latin1+utf16"])
def test_wrong_values_of_hosts_are_errors_that_name_the_type(
    engine: Engine, type_: ValType, value: Any, error: type[Exception], message: str, encoding: str
) -> None:
    codec = codec_of(type_)
    with Guest(engine, encoding) as guest:
        attempts: list[Callable[[], object]] = [
            lambda: codec.lower_values(guest.cx, value),
            lambda: codec.store_to(guest.cx, value, PLACE),
        ]
        for attempt in attempts:
            with pytest.raises(error) as caught:
                attempt()
            assert message in str(caught.value)
            assert len(str(caught.value)) < 300


def test_values_that_no_guest_could_hold_are_overflows(engine: Engine) -> None:
    with Guest(engine) as guest, pytest.raises(OverflowError, match="268435456 bytes is too long for a guest"):
        codec_of(ListType(U8)).lower_values(guest.cx, bytes(MAX_BYTE_LENGTH + 1))


@pytest.mark.parametrize(
    ("type_", "value", "lifted"),
    [
        (ListType(U8), bytearray(b"abc"), b"abc"),
        (ListType(U8), memoryview(b"abc"), b"abc"),
        (ListType(U8), memoryview(b"abcdef")[::2], b"ace"),
        (ListType(U8), memoryview(b"abcdef")[1:4], b"bcd"),
        (ListType(U8), memoryview(b"abcd").cast("B", (2, 2)), b"abcd"),
        (ListType(U8), [1, 2], b"\1\2"),
        (ListType(U16), (1, 2), [1, 2]),
        (ListType(U16), range(3), [0, 1, 2]),
        (ListType(F64), array.array("d", [1.0, 2.0]), [1.0, 2.0]),
        (TupleType((U8, U8)), [1, 2], (1, 2)),
        (F32, 3, 3.0),
        (F64, True, 1.0),
        (U8, True, 1),
    ],
)
def test_other_values_that_mean_the_same_are_taken(engine: Engine, type_: ValType, value: Any, lifted: Any) -> None:
    codec = codec_of(type_)
    with Guest(engine) as guest:
        assert codec.lift_values(guest.cx, codec.lower_values(guest.cx, value)) == lifted
        codec.store_to(guest.cx, value, PLACE)
        assert codec.load_from(guest.cx, PLACE) == lifted


def test_pointers_of_the_host_side_are_checked_too(engine: Engine) -> None:
    with Guest(engine) as guest:
        for type_, value in ((U32, 1), (POINT, Point(1, 2)), (NAMED, Named("a", [])), (SHAPE, Shape.NOTHING)):
            with pytest.raises(Trap, match="not aligned"):
                codec_of(type_).store_to(guest.cx, value, 65)
            with pytest.raises(Trap, match="out of bounds"):
                codec_of(type_).store_to(guest.cx, value, 65536)


# Codecs


def test_codecs_are_shared_by_structure_and_python_class() -> None:
    assert codec_of(ListType(POINT)) is codec_of(ListType(RecordType(POINT.fields, Point)))
    twin = enum.Enum("Color", ["RED", "DARK_GREEN", "BLUE"])  # type: ignore[misc]
    assert codec_of(EnumType(COLOR.labels, twin)) is not codec_of(COLOR)
    assert codec_of(OptionType(EnumType(COLOR.labels, twin))) is not codec_of(OptionType(COLOR))
    assert codec_of(OwnType(THING)) is not codec_of(OwnType(ResourceType("thing", Thing)))
    assert repr(codec_of(ListType(U8))) == "<Codec of list<u8>>"


@pytest.mark.parametrize(
    ("type_", "message"),
    [
        (RecordType((Field("x", U8),)), "has no Python class"),
        (VariantType((Case("a"),)), "has no Python class"),
        (FlagsType(("a",)), "has no Python class"),
        (TupleType(()), "must not be empty"),
        (RecordType((Field("x", U8),), Point), "Point has 2 parts, but record { x: u8 } has 1"),
        (EnumType(("red",), Color), "Color has 3 parts"),
        (FlagsType(("read",), Rights), "Rights has 3 parts"),
        (VariantType((Case("nothing"),), Shape), "Shape has 4 parts"),
        ("u8", "'u8' is not a value type"),
    ],
    ids=str,
)
def test_types_that_cannot_be_compiled_say_why(type_: Any, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        codec_of(type_)
    assert message in str(caught.value)


# Functions


def func(*params: ValType, result: ValType | None = None) -> FuncType:
    return FuncType(tuple((f"p{i}", type_) for i, type_ in enumerate(params)), result)


def test_arguments_and_results_pass_flat(engine: Engine) -> None:
    with Guest(engine) as guest:
        signature = Signature(func(U8, F64, OptionType(S64), result=S8))
        assert signature.lift_param_values(guest.cx, [0x101, bits64(0.5), 1, 2**64 - 1]) == (1, 0.5, -1)
        assert signature.lower_result_values(guest.cx, [0, 0, 0, 0], -1) == [0xFFFFFFFF]
        assert signature.lower_param_values(guest.cx, 1, 0.5, None) == [1, bits64(0.5), 0, 0]
        assert signature.lift_result_values(guest.cx, [0x80]) == -128
        nothing = Signature(func())
        assert nothing.lift_param_values(guest.cx, []) == ()
        assert nothing.lower_result_values(guest.cx, [], None) == []
        assert nothing.lower_param_values(guest.cx) == []
        assert nothing.lift_result_values(guest.cx, []) is None


def test_many_arguments_pass_through_memory(engine: Engine) -> None:
    types = [U8, U64, *[STRING] * 8]
    arguments = (1, 2, *[f"text {i}" for i in range(8)])
    with Guest(engine) as guest:
        signature = Signature(func(*types))
        (pointer,) = signature.lower_param_values(guest.cx, *arguments)
        assert pointer % 8 == 0
        assert codec_of(TupleType(tuple(types))).load_from(guest.cx, pointer) == arguments
        assert signature.lift_param_values(guest.cx, [pointer]) == arguments
        with pytest.raises(Trap, match=f"pointer {pointer + 4} is not aligned to 8"):
            signature.lift_param_values(guest.cx, [pointer + 4])
        with pytest.raises(Trap, match="out of bounds: 80 bytes at 65528"):
            signature.lift_param_values(guest.cx, [65528])
        guest.misbehave(MISALIGNS)
        with pytest.raises(Trap, match="realloc returned 4097, which is not aligned to 8"):
            signature.lower_param_values(guest.cx, *arguments)


@pytest.mark.parametrize("params", [(), (U8,), (U64,) * 16, (U64,) * 17])
def test_wide_results_pass_through_memory(engine: Engine, params: tuple[ValType, ...]) -> None:
    result = TupleType((U8, STRING))
    with Guest(engine) as guest:
        signature = Signature(func(*params, result=result))
        given = [0] * (len(params) if len(params) <= 16 else 1)
        assert signature.lower_result_values(guest.cx, [*given, PLACE], (1, "a")) == []
        assert codec_of(result).load_from(guest.cx, PLACE) == (1, "a")
        assert signature.lift_result_values(guest.cx, [PLACE]) == (1, "a")
        for pointer, message in ((PLACE + 2, "not aligned to 4"), (65536, "out of bounds: 12 bytes at 65536")):
            with pytest.raises(Trap, match=message):
                signature.lower_result_values(guest.cx, [*given, pointer], (1, "a"))
            with pytest.raises(Trap, match=message):
                signature.lift_result_values(guest.cx, [pointer])


def test_results_are_returned_or_raised(engine: Engine) -> None:
    with Guest(engine) as guest:
        signature = Signature(func(result=ResultType(U64, STRING)))
        assert signature.result_is_result
        signature.lower_result_values(guest.cx, [PLACE], 7)
        assert signature.lift_result_values(guest.cx, [PLACE]) == 7
        signature.lower_result_values(guest.cx, [PLACE], Err("no"))
        with pytest.raises(Err) as caught:
            signature.lift_result_values(guest.cx, [PLACE])
        assert caught.value == Err("no")
        with pytest.raises(TypeError, match=r"expected an int for u64, not Ok\(7\)"):
            signature.lower_result_values(guest.cx, [PLACE], Ok(7))
        bare = Signature(func(result=ResultType(None, None)))
        assert bare.lower_result_values(guest.cx, [], None) == [0]
        assert bare.lower_result_values(guest.cx, [], Err()) == [1]
        assert bare.lift_result_values(guest.cx, [0]) is None
        with pytest.raises(TypeError, match="has no payload in that case, but the function gave 7"):
            bare.lower_result_values(guest.cx, [], 7)
        with pytest.raises(TypeError, match="has no payload in that case, but the function gave 7"):
            bare.lower_result_values(guest.cx, [], Err(7))
        with pytest.raises(Trap, match="discriminant 2 is out of range for result"):
            bare.lift_result_values(guest.cx, [2])
        nested = Signature(func(result=OptionType(ResultType(U8, None))))
        assert not nested.result_is_result
        nested.lower_result_values(guest.cx, [PLACE], Err())
        assert nested.lift_result_values(guest.cx, [PLACE]) == Err()


def test_wrong_calls_of_hosts_are_errors(engine: Engine) -> None:
    with Guest(engine) as guest:
        with pytest.raises(TypeError, match="takes 1 arguments, not 2"):
            Signature(func(U8)).lower_param_values(guest.cx, 1, 2)
        with pytest.raises(TypeError, match="a function without a result returned 5"):
            Signature(func()).lower_result_values(guest.cx, [], 5)
        with pytest.raises(TypeError, match="expected a str for string, not None"):
            Signature(func(result=STRING)).lower_result_values(guest.cx, [PLACE], None)
    assert repr(Signature(func(U8, result=STRING))) == "<Signature of func(p0: u8) -> string>"


# Handles


def test_own_handles_change_hands(engine: Engine) -> None:
    thing = Thing()
    with Guest(engine) as guest:
        signature = Signature(func(OwnType(THING), result=OwnType(THING)))
        (handle,) = signature.lower_result_values(guest.cx, [0], thing)
        assert guest.handles.get(handle, THING) is thing
        assert signature.lift_param_values(guest.cx, [handle]) == (thing,)
        with pytest.raises(Trap, match=f"unknown handle index {handle}"):
            signature.lift_param_values(guest.cx, [handle])


def test_borrowed_handles_stay_with_the_guest(engine: Engine) -> None:
    thing = Thing()
    with Guest(engine) as guest:
        handle = guest.handles.add(THING, thing)
        signature = Signature(func(BorrowType(THING)))
        for _ in range(3):
            assert signature.lift_param_values(guest.cx, [handle]) == (thing,)
            with pytest.raises(Trap, match=f"handle index {handle}: a call that is running has borrowed it"):
                guest.handles.drop(handle, THING)
            signature.lower_result_values(guest.cx, [handle], None)
        guest.handles.drop(handle, THING)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ((BorrowType(THING), OwnType(THING)), "a call that is running has borrowed it"),
        ((OwnType(THING), BorrowType(THING)), "unknown handle index 1"),
        ((OwnType(THING), OwnType(THING)), "unknown handle index 1"),
    ],
)
def test_one_handle_cannot_be_given_and_lent_in_one_call(
    engine: Engine, params: tuple[ValType, ...], message: str
) -> None:
    with Guest(engine) as guest:
        handle = guest.handles.add(THING, Thing())
        with pytest.raises(Trap, match=message):
            Signature(func(*params)).lift_param_values(guest.cx, [handle, handle])


@pytest.mark.parametrize(
    ("result", "answer"),
    [
        (None, None),
        (U8, 1),
        (STRING, "a"),
        (ResultType(U8, None), 1),
        (ResultType(U8, None), Err()),
        (ResultType(None, None), None),
        (ResultType(None, None), Err()),
    ],
    ids=str,
)
def test_every_answer_ends_what_was_lent(engine: Engine, result: ValType | None, answer: Any) -> None:
    with Guest(engine) as guest:
        handle = guest.handles.add(THING, Thing())
        guest.write(struct.pack("<I", handle) * 40)
        signature = Signature(func(OptionType(BorrowType(THING)), ListType(BorrowType(THING)), result=result))
        assert len(signature.lift_param_values(guest.cx, [1, handle, PLACE, 40])[1]) == 40  # type: ignore[arg-type]
        with pytest.raises(Trap, match="has borrowed it"):
            guest.handles.pop(handle, THING)
        signature.lower_result_values(guest.cx, [1, handle, PLACE, 40, 1024], answer)
        guest.handles.drop(handle, THING)


def test_handles_may_be_lent_on(engine: Engine) -> None:
    with Guest(engine) as guest:
        (handle,) = Signature(func(BorrowType(THING))).lower_param_values(guest.cx, Thing())
        assert guest.handles.borrows == 1
        on = Signature(func(BorrowType(THING)))
        on.lift_param_values(guest.cx, [handle])
        with pytest.raises(Trap, match="has borrowed it"):
            guest.handles.drop(handle, THING)
        on.lower_result_values(guest.cx, [handle], None)
        guest.handles.drop(handle, THING)
        assert guest.handles.borrows == 0


def test_resources_of_guests_are_opaque_to_the_host(engine: Engine) -> None:
    dropped: list[int] = []
    with Guest(engine) as guest:
        own, borrow = codec_of(OwnType(GUEST)), codec_of(BorrowType(GUEST))
        made = Signature(func(result=OwnType(GUEST)))
        guest.handles.define(GUEST, dropped.append)
        resource = made.lift_result_values(guest.cx, [guest.handles.add(GUEST, 0)])
        assert isinstance(resource, GuestResource)
        assert (resource.type, resource.rep, resource.owned) == (GUEST, 0, True)
        # The instance that implements it gets the representation itself, zero included, others a handle.
        assert borrow.lower_values(guest.cx, resource) == [0]
        assert guest.handles.borrows == 0
        with Guest(engine) as stranger, pytest.raises(ValueError, match="belongs to the guest of another store"):
            borrow.lower_values(stranger.cx, resource)
        with Guest(engine, account=guest.account) as other:
            (handle,) = borrow.lower_values(other.cx, resource)
            lent = borrow.lift_values(other.cx, [handle])
            assert isinstance(lent, GuestResource)
            assert (lent.rep, lent.owned) == (0, False)
            with pytest.raises(ValueError, match="guest-made is borrowed"):
                own.lower_values(other.cx, lent)
            other.handles.end_call()
            other.handles.drop(handle, GUEST)
        (handle,) = own.lower_values(guest.cx, resource)
        with pytest.raises(ValueError, match="dropped or given away"):
            borrow.lower_values(guest.cx, resource)
        guest.handles.drop(handle, GUEST)
        assert dropped == [0]
        with pytest.raises(TypeError, match="expected a resource of a guest for own<other>"):
            codec_of(OwnType(ResourceType("other"))).lower_values(guest.cx, resource)


def test_a_guest_cannot_collect_more_handles_than_the_account_allows(engine: Engine) -> None:
    with Guest(engine) as guest:
        account = ResourceTable(limit=2)
        cx = context(guest.store, account=account)
        with pytest.raises(Trap, match="the limit of 2 resources is reached"):
            codec_of(ListType(OwnType(THING))).lower_values(cx, [Thing() for _ in range(3)])
        account.close()
