"""Nothing interrupts a host function: the longest call that a server's limits let a guest make is short."""

from __future__ import annotations

import enum
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from wasi_http.component import ResourceTable, Variant, case
from wasi_http.component.abi.context import ENCODINGS
from wasi_http.component.abi.signature import codec_of
from wasi_http.component.canon.instances import Instances
from wasi_http.component.handles import HandleTable, Resource
from wasi_http.component.model.types import (
    BorrowType,
    Case,
    Field,
    FlagsType,
    ListType,
    OptionType,
    Primitive,
    RecordType,
    ResourceType,
    ResultType,
    TupleType,
    ValType,
    VariantType,
)
from wasi_http.engine import Assembly, Engine, EngineConfig, Module, Store, Trap, wat_to_wasm
from wasi_http.http.fields import ENTRY_OVERHEAD, Fields
from wasi_http.http.types import MAX_PART, OutgoingRequest, OutgoingResponse, RequestOptions
from wasi_http.server.config import ServerConfig
from wasi_http.wasi.cli import Environment
from wasi_http.wasi.context import WasiCtx
from wasi_http.wasi.io import LinePrefix
from wasi_http.wasi.io.inputs import input_stream
from wasi_http.wasi.io.outputs import SINK_PERMIT, NullOutput
from wasi_http.wasi.io.poll import Poll, Pollable
from wasi_http.wasi.io.streams import MAX_PERMIT, MAX_READ
from wasi_http.wasi.random import Insecure, Random

from ..view import View

CONFIG = ServerConfig()

#: What one call may take of the processor, in seconds; they take less than a tenth of it.
SHORT = 0.05


def seconds(call: Callable[[], object]) -> float:
    """The least processor time that it takes."""
    best = float("inf")
    for _ in range(3):
        began = time.thread_time()
        call()
        best = min(best, time.thread_time() - began)
    return best


class ServerView(View):
    """A store's data with the limits of a server."""

    def __init__(self) -> None:
        super().__init__()
        self.table = ResourceTable(CONFIG.max_resources, value_limit=CONFIG.value_limit)


# ---- lifting --------------------------------------------------------------------------------------------------------

GUEST = """(module
  (memory (export "memory") 1024)
  (global $next (mut i32) (i32.const 64))
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    (global.set $next (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
    (global.get $next)
    (global.set $next (i32.add (global.get $next) (local.get 3)))))"""

BYTES = ListType(Primitive.U8)
TEXT = Primitive.STRING


class Thing(Resource):
    pass


@dataclass(slots=True)
class Point:
    x: int
    y: int


class Shape(Variant):
    Nothing: ClassVar[Any] = case("nothing")
    Circle = case("circle", int)


Wide = enum.Flag("Wide", [f"B{i}" for i in range(32)])  # type: ignore[misc]
Few = enum.Flag("Few", [f"B{i}" for i in range(10)])  # type: ignore[misc]

THING = ResourceType("thing", Thing)
POINT = RecordType((Field("x", Primitive.U32), Field("y", Primitive.U32)), Point)
SHAPE = VariantType((Case("nothing"), Case("circle", Primitive.U32)), Shape)
OPTION = OptionType(OptionType(Primitive.U32))
RESULT = ResultType(None, Primitive.U32)

#: Types of elements, what each one is in the guest's memory, and how many bytes are in its strings and lists. {at} is
#: the place of ten letters.
ELEMENTS: list[tuple[ValType, Callable[[int, int], bytes], int]] = [
    (Primitive.BOOL, lambda at, i: b"\1", 0),
    (Primitive.U64, lambda at, i: b"\xff" * 8, 0),
    (Primitive.F64, lambda at, i: struct.pack("<d", i), 0),
    (Primitive.CHAR, lambda at, i: struct.pack("<I", 0x10000 + i), 0),
    (TEXT, lambda at, i: bytes(8), 0),
    (TEXT, lambda at, i: struct.pack("<II", at, 3), 3),
    (BYTES, lambda at, i: struct.pack("<II", at, 3), 3),
    (ListType(BYTES), lambda at, i: bytes(8), 0),
    (TupleType((TEXT, BYTES)), lambda at, i: struct.pack("<IIII", at, 3, at, 3), 6),
    (POINT, lambda at, i: b"\xff" * 8, 0),
    (SHAPE, lambda at, i: struct.pack("<II", 1, i), 0),
    (OPTION, lambda at, i: struct.pack("<III", 1, 1, i), 0),
    (RESULT, lambda at, i: struct.pack("<II", 1, i), 0),
    (FlagsType(tuple(f"b{i}" for i in range(32)), Wide), lambda at, i: struct.pack("<I", i * 0x9E3779B1 % 2**32), 0),
    (FlagsType(tuple(f"b{i}" for i in range(10)), Few), lambda at, i: struct.pack("<H", i % 1024), 0),
    (BorrowType(THING), lambda at, i: struct.pack("<I", 1), 0),
]


@pytest.fixture(scope="module")
def engine() -> Engine:
    """One whose guests are not interrupted in what they do for the tests: that has no fiber."""
    return Engine(EngineConfig(max_instances=10, cache=False, start_time_limit=600.0))


class Guest:
    """A store with a memory, and the limit of a server for what one call sends."""

    def __init__(self, engine: Engine, encoding: str = "utf8") -> None:
        self.store = Store(engine)
        module = Module.compile(engine, wat_to_wasm(GUEST))
        Assembly(engine, [], [(module, [])], [(0, 0), (0, 1)]).instantiate(self.store)
        account = ResourceTable(value_limit=CONFIG.value_limit)
        self.cx = Instances(account, ((0, 1, ENCODINGS[encoding], 0),)).context(self.store, 0)
        self.handles = self.cx.instance.handles

    def put(self, data: bytes) -> int:
        pointer: int = codec_of(BYTES).lower_values(self.cx, data)[0]
        return pointer

    def lift(self, type_: ValType, pointer: int, length: int) -> object:
        value = codec_of(type_).lift_values(self.cx, [pointer, length])
        self.handles.end_call()
        return value


@pytest.fixture
def guest(engine: Engine) -> Iterator[Guest]:
    guest = Guest(engine)
    yield guest
    guest.handles.close()
    guest.store.close()


@pytest.mark.parametrize(("element", "form", "content"), ELEMENTS, ids=[str(element) for element, _, _ in ELEMENTS])
def test_the_most_that_is_let_in_is_lifted_quickly(
    guest: Guest, element: ValType, form: Callable[[int, int], bytes], content: int
) -> None:
    guest.handles.add(THING, Thing())
    letters = guest.put(b"abcdefghij")
    list_ = codec_of(ListType(element))
    most = (CONFIG.value_limit - list_.cost) // (8 + codec_of(element).cost + content)
    pointer = guest.put(b"".join(form(letters, i) for i in range(most)))
    assert len(guest.lift(ListType(element), pointer, most)) == most  # type: ignore[arg-type]
    assert seconds(lambda: guest.lift(ListType(element), pointer, most)) < SHORT


def test_more_is_refused_before_it_is_lifted(guest: Guest) -> None:
    # A million empty strings, and the pointer of the first is wrong: what is counted first is not looked at.
    pointer = guest.put(struct.pack("<II", 0xFFFFFFFF, 1) + bytes(8_000_000))
    with pytest.raises(Trap, match="take more than 4194304 bytes"):
        guest.lift(ListType(TEXT), pointer, 1_000_000)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("text", ["a", "é", "日", "😀", "aé", "a日", "a😀"])
def test_the_longest_text_is_lifted_quickly(engine: Engine, encoding: str, text: str) -> None:
    guest = Guest(engine, encoding)
    pointer, length = codec_of(TEXT).lower_values(guest.cx, text * (CONFIG.value_limit // 9))
    lifted = guest.lift(TEXT, pointer, length)
    assert isinstance(lifted, str)
    assert len(lifted) == len(text) * (CONFIG.value_limit // 9)
    assert seconds(lambda: guest.lift(TEXT, pointer, length)) < SHORT


@pytest.mark.parametrize("encoding", ["utf8", "utf16"])
def test_a_text_that_becomes_too_wide_is_refused_before_it_is_decoded(engine: Engine, encoding: str) -> None:
    # The character that makes it wide is the last one, and before it is what cannot be decoded.
    guest = Guest(engine, encoding)
    code, bad = ("utf-8", b"\xff") if encoding == "utf8" else ("utf-16-le", b"\0\xdc")
    unit = len(bad)
    data = ("a" * (CONFIG.value_limit * 3 // 4 // unit)).encode(code) + bad + "😀".encode(code)
    pointer = guest.put(data)
    with pytest.raises(Trap, match="take more than 4194304 bytes"):
        guest.lift(TEXT, pointer, len(data) // unit)


# ---- host functions -------------------------------------------------------------------------------------------------


def full(view: View) -> Fields:
    """A collection with all but two of the entries that it can have."""
    most = view.http.field_size_limit // (ENTRY_OVERHEAD + 6) - 2
    return Fields.from_list(view, [(f"n{number:05}", b"") for number in range(most)])


def trapping(call: Callable[[], object]) -> Callable[[], object]:
    def traps() -> None:
        with pytest.raises(Trap):
            call()

    return traps


def of_fields(view: View) -> dict[str, Callable[[], object]]:
    one = view.http.field_size_limit // (ENTRY_OVERHEAD + 1)
    elements = CONFIG.value_limit // 64
    made = full(view)
    return {
        "from-list": lambda: full(view),
        "from-list of lengths": lambda: Fields.from_list(view, [("content-length", b"1")] * 2_700),
        "from-list of too many": trapping(lambda: Fields.from_list(view, [("content-length", b"1")] * elements)),
        "set": lambda: Fields.new(view).set("a", [b""] * one),
        "set of too many": trapping(lambda: Fields.new(view).set("a", [b""] * elements)),
        "append": lambda: full(view).append("content-length", b"5"),
        "append of a long name": trapping(lambda: made.append("n" * CONFIG.value_limit, b"")),
        "append of a long value": trapping(lambda: made.append("n", b"v" * CONFIG.value_limit)),
        "delete": lambda: full(view).delete("n00001"),
        "get": lambda: made.get("n00001"),
        "get of a long name": lambda: made.get("n" * CONFIG.value_limit),
        "entries": made.entries,
        "clone": made.clone,
    }


def of_messages(view: View) -> dict[str, Callable[[], object]]:
    def request() -> OutgoingRequest:
        return OutgoingRequest.new(Fields.new(view))

    return {
        "set-path-with-query": lambda: request().set_path_with_query("/" + "a" * (MAX_PART - 1)),
        "set-authority": lambda: request().set_authority("a%20" * (MAX_PART // 4)),
        "body": lambda: OutgoingResponse.new(full(view)).body(),
    }


def of_wasi(view: View) -> dict[str, Callable[[], object]]:
    lines = LinePrefix(lambda data: None, "stdout [1234567] :: ")
    never = [Pollable(lambda: False) for _ in range(view.ctx.max_pollables)]
    env = WasiCtx(env={f"NAME_{number}": "value" * 20 for number in range(1000)})
    view_with_env = View()
    view_with_env.ctx = env
    return {
        "get-random-bytes": lambda: Random.get_random_bytes(view, view.ctx.max_random_bytes),
        "get-insecure-random-bytes": lambda: Insecure.get_insecure_random_bytes(view, view.ctx.max_random_bytes),
        "lines": lambda: lines(b"\n" * SINK_PERMIT),
        "lines of letters": lambda: lines(b"a\n" * (SINK_PERMIT // 2)),
        "a line": lambda: lines(b"a" * SINK_PERMIT),
        "poll": lambda: Poll.poll(view, [*never[1:], Pollable()]),
        "get-environment": lambda: Environment.get_environment(view_with_env),
        "read": lambda: input_stream(bytes(2 * MAX_READ)).read(1 << 40),
        "skip": lambda: input_stream(bytes(2 * MAX_READ)).skip(1 << 40),
        "splice": lambda: NullOutput().splice(input_stream(bytes(2 * MAX_READ)), 1 << 40),
        "write": lambda: NullOutput().write(bytes(MAX_PERMIT)),
        "write-zeroes": lambda: NullOutput().write_zeroes(MAX_PERMIT),
    }


@pytest.mark.parametrize("group", [of_fields, of_messages, of_wasi])
def test_host_functions_are_quick(group: Callable[[View], dict[str, Callable[[], object]]]) -> None:
    took = {name: seconds(call) for name, call in group(ServerView()).items()}
    assert {name: time for name, time in took.items() if time >= SHORT} == {}


# ---- the end --------------------------------------------------------------------------------------------------------


def streams(view: View) -> list[Resource]:
    output = NullOutput()
    return [output, output.subscribe()]


HANDLES: dict[str, Callable[[View], list[Resource]]] = {
    "fields": lambda view: [Fields.from_list(view, [("a", b"b")])],
    "pollables": lambda view: [Pollable()],
    "parents and children": streams,
    "requests": lambda view: [OutgoingRequest.new(Fields.new(view))],
    "options": lambda view: [RequestOptions.new()],
}


@pytest.mark.parametrize("make", HANDLES.values(), ids=HANDLES)
def test_the_end_of_a_store_is_short(make: Callable[[View], list[Resource]]) -> None:
    def end() -> float:
        view = ServerView()
        table = HandleTable(view.table)
        while len(view.table) < CONFIG.max_resources:
            for resource in make(view):
                table.add(THING, resource)
        began = time.thread_time()
        view.table.close()
        return time.thread_time() - began

    assert min(end() for _ in range(3)) < SHORT
