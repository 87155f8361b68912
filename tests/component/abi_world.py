"""The host's side of the world `test:abi/abi`: its types as Python classes, its interfaces put together from them.

The guests are described in tests/guests/abi. The host's echoes write what they get into ``Host.seen`` and give it back.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar

from tests.guests.abi import MANY, SENT, TYPES
from tests.guests.build import build
from wasi_http.component import (
    Borrow,
    Call,
    Component,
    Err,
    InstancePre,
    Interface,
    Lifted,
    Linker,
    Ok,
    Own,
    Resource,
    ResourceTable,
    Some,
    Variant,
    case,
    char,
    constructor,
    f32,
    f64,
    func,
    method,
    s8,
    s16,
    s32,
    s64,
    static,
    u8,
    u16,
    u32,
    u64,
)
from wasi_http.engine import Engine, Store
from wasi_http.wasi.context import WasiCtx
from wasi_http.wasi.imports import add_to_linker

__all__ = [
    "Counter",
    "Counters",
    "Guest",
    "Host",
    "LargeEnum",
    "Linked",
    "SmallEnum",
    "Thing",
    "World",
    "python_type",
]


@dataclass
class Mixed:
    a: u8
    b: u64
    c: u16
    d: f32
    e: bool
    f: char
    g: str
    h: s32


@dataclass
class Nested:
    inner: tuple[u8, s64]
    pair: Mixed
    maybe: u16 | None
    many: bytes


@dataclass
class Wide:
    a: u8
    b: u8
    c: u16
    d: u16
    e: u32
    f: u32
    g: u64
    h: u64
    i: f32
    j: f64
    k: str
    l: bytes  # noqa: E741 - the name in the WIT
    m: str | None
    n: bool
    o: s8
    p: s16
    q: s32
    r: s64
    s: char


class Choice(Variant):
    Byte = case("byte", u8)
    Text = case("text", str)
    Real = case("real", f64)
    NOTHING: ClassVar[Any] = case("nothing")
    Group = case("group", tuple[u8, u16])


class Joined(Variant):
    Small = case("small", f32)
    Large = case("large", u64)
    Real = case("real", f64)
    Whole = case("whole", s32)


class SmallEnum(enum.Enum):
    RED = "red"
    GREEN = "green"
    BLUE = "blue"


LargeEnum: Any = enum.Enum("LargeEnum", [f"E{i}" for i in range(300)])
FLAGS: dict[str, Any] = {
    f"flags{count}": enum.Flag(f"Flags{count}", [f"B{i}" for i in range(count)])  # type: ignore[misc]
    for count in (1, 3, 8, 9, 16, 17, 32)
}


class Thing(Resource, name="thing"):
    def __init__(self, number: int) -> None:
        self.number = number
        self.drops = 0

    def drop(self) -> None:
        self.drops += 1

    @constructor
    def new(value: u32) -> Own[Thing]:
        return Thing(value)

    @method
    def value(self) -> u32:
        return self.number

    @static
    def sum(a: Borrow[Thing], b: Borrow[Thing]) -> u32:
        return a.number + b.number


class Other(Resource, name="other"):
    @constructor
    def new() -> Own[Other]:
        return Other()


class Counter(Resource, name="counter"):
    """Implemented by the guest: only the types count here."""

    @constructor
    def new(start: u32) -> Own[Counter]: ...

    @method
    def get(self) -> u32: ...

    @method
    def increment(self, by: u32) -> u32: ...

    @static
    def merge(a: Own[Counter], b: Borrow[Counter]) -> Own[Counter]: ...

    @static
    def fragile() -> Own[Counter]: ...


_PRIMITIVES: dict[str, Any] = {
    "bool": bool,
    "char": char,
    "string": str,
    **{"u8": u8, "u16": u16, "u32": u32, "u64": u64, "s8": s8, "s16": s16, "s32": s32, "s64": s64},
    **{"f32": f32, "f64": f64},
}
_NAMED: dict[str, Any] = {
    "mixed": Mixed,
    "nested": Nested,
    "wide": Wide,
    "choice": Choice,
    "joined": Joined,
    "small-enum": SmallEnum,
    "large-enum": LargeEnum,
    "thing": Own[Thing],
    "counter": Own[Counter],
    **FLAGS,
}


def _split(text: str) -> list[str]:
    """The parts of ``a, list<b, c>``."""
    parts, depth = [""], 0
    for letter in text:
        depth += {"<": 1, ">": -1}.get(letter, 0)
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


@cache
def python_type(wit: str) -> Any:
    """The annotation of a type that is written as in WIT."""
    if wit in _PRIMITIVES:
        return _PRIMITIVES[wit]
    if wit in _NAMED:
        return _NAMED[wit]
    if wit == "result":
        return Ok[None] | Err[None]
    kind, _, rest = wit.partition("<")
    arguments = _split(rest[:-1])
    if kind == "borrow":
        return Borrow[Thing if arguments[0] == "thing" else Counter]
    if kind == "result":
        good, bad = (None if part == "_" else python_type(part) for part in (*arguments, "_")[:2])
        return Ok[good] | Err[bad]  # type: ignore[valid-type]
    if kind == "list":
        return bytes if arguments == ["u8"] else list[python_type(arguments[0])]  # type: ignore[misc]
    if kind == "option":
        payload = python_type(arguments[0])
        return Some[payload] | None if arguments[0].startswith("option") else payload | None  # type: ignore[valid-type]
    assert kind == "tuple"
    return tuple[tuple(map(python_type, arguments))]  # type: ignore[misc]


def _function(name: str, parameters: str, result: str = "", body: Callable[..., Any] | None = None) -> Any:
    """A declaration like ``name: func(parameters) -> result``; a body gets what comes before the first parameter."""

    def declared(self: Any, *arguments: Any) -> Any:
        return body(self, *arguments) if body else None

    # The signature is read from a lambda that has it; what is called takes any arguments.
    pairs = [part.split(": ", 1) for part in _split(parameters) if part]
    names = [pair[0].replace("-", "_") for pair in pairs]
    made: Any = eval(
        f"lambda self{''.join(', ' + name for name in names)}: declared(self, {', '.join(names)})",
        {"declared": declared},
    )
    made.__annotations__ = {n: python_type(pair[1]) for n, pair in zip(names, pairs, strict=True)}
    made.__annotations__["return"] = python_type(result) if result else None
    return method(name=name)(made)


def _interface(name: str, functions: list[Any], **attributes: Any) -> type[Interface]:
    namespace = {f"function_{i}": function for i, function in enumerate(functions)}
    return type(name, (Interface,), {**namespace, **attributes}, name=f"test:abi/{name.lower()}")  # type: ignore[call-overload,no-any-return]


_MANY = ", ".join(f"p{i}: {type_}" for i, type_ in enumerate(MANY))
_MANY_RESULT = f"tuple<{', '.join(MANY)}>"


def _see(self: Any, *arguments: Any) -> Any:
    value = arguments[0] if len(arguments) == 1 else arguments
    self.seen.append(value)
    return value


class _Host(Interface, name="test:abi/host"):
    """The part that is written by hand; the echoes join it below."""

    resources = (Thing, Other)

    def __init__(self) -> None:
        self.seen: list[Any] = []

    @func
    def nothing() -> None: ...

    @method
    def take_thing(self, x: Own[Thing]) -> u32:
        self.seen.append(x)
        return x.number

    @func
    def lend_and_take(a: Borrow[Thing], b: Own[Thing]) -> u32:
        return a.number + b.number


_HANDLES = {"thing": "thing", "list-thing": "list<thing>", "option-thing": "option<thing>"}


def _echoes(body: Callable[..., Any] | None = None) -> list[Any]:
    echoes = [_function(f"echo-{name}", f"x: {type_}", type_, body) for name, type_ in TYPES.items()]
    return [*echoes, _function("echo-many", _MANY, _MANY_RESULT, body)]


Host: Any = type(
    "Host",
    (_Host,),
    {
        f"echo_{i}": function
        for i, function in enumerate(
            [
                *_echoes(_see),
                *(_function(f"echo-{name}", f"x: {type_}", type_, _see) for name, type_ in _HANDLES.items()),
            ]
        )
    },
)

GuestEchoes = _interface("Guest", _echoes())
Images = _interface(
    "Images",
    [
        declared
        for name, type_ in TYPES.items()
        for declared in (
            _function(f"image-of-{name}", f"x: list<{type_}>, size: u32", "list<u8>"),
            _function(f"{name}-of-image", "image: list<u8>, count: u32", f"list<{type_}>"),
            _function(f"{name}-at", "pointer: u32, count: u32", f"list<{type_}>"),
        )
    ],
)
Raw = _interface(
    "Raw",
    [
        *(
            _function(
                f"send-{name}",
                ", ".join(f"{letter}: {type_}" for letter, type_ in zip("abc", core.split(), strict=False)),
                TYPES[name],
            )
            for name, core in SENT.items()
        ),
        _function("raw-of-string", "x: string", "tuple<u32, list<u8>>"),
        _function("string-of-raw", "length: u32, bytes: list<u8>", "string"),
        _function("take-bytes", "x: list<u8>", "u32"),
        _function("give-bytes", "size: u32", "list<u8>"),
        _function("set-realloc", "mode: u32, value: u32, after: u32"),
        _function("set-post-return", "mode: u32"),
        _function("reallocs", "", "u32"),
        _function("post-returns", "", "u32"),
        _function("memory-size", "", "u32"),
    ],
)
Handles = _interface(
    "Handles",
    [
        *(_function(f"echo-{name}", f"x: {type_}", type_) for name, type_ in _HANDLES.items()),
        _function("make", "value: u32", "thing"),
        _function("value", "x: borrow<thing>", "u32"),
        _function("sum", "a: borrow<thing>, b: borrow<thing>", "u32"),
        _function("take", "x: thing"),
        _function("stash", "x: thing", "u32"),
        _function("unstash", "number: u32", "thing"),
        _function("stash-many", "count: u32", "u32"),
        _function("keep-borrow", "x: borrow<thing>"),
        _function("drop-borrow-twice", "x: borrow<thing>"),
        _function("use-dropped-borrow", "x: borrow<thing>", "u32"),
        _function("return-borrow", "x: borrow<thing>", "thing"),
        _function("give-borrow", "x: borrow<thing>", "u32"),
        _function("give-twice", "x: thing", "u32"),
        _function("lend-and-give", "x: thing", "u32"),
        _function("drop-number", "number: u32"),
        _function("drop-number-as-other", "number: u32"),
        _function("value-of-number", "number: u32", "u32"),
        _function("give-number", "number: u32", "u32"),
    ],
)
Counters = _interface(
    "Counters",
    [_function("same", "x: counter", "counter"), _function("dropped", "", "u32")],
    resources=(Counter,),
)

INTERFACES: dict[str, type[Interface]] = {
    "guest": GuestEchoes,
    "images": Images,
    "raw": Raw,
    "handles": Handles,
    "counters": Counters,
}


class Linked:
    """One of the abi guests, linked with a host of its own."""

    def __init__(self, engine: Engine, guest: str) -> None:
        self.host = Host()
        linker = Linker(engine)
        linker.define(self.host)
        add_to_linker(linker)  # for the interpreter of py_abi
        self.pre: InstancePre = linker.instantiate_pre(Component.from_file(engine, build(guest)))
        self.functions: dict[str, dict[str, Lifted]] = {
            name: self.pre.export(interface)
            for name, interface in INTERFACES.items()
            if f"test:abi/{name}" in self.pre.component.exports
        }


@dataclass
class View:
    table: ResourceTable
    ctx: WasiCtx = field(default_factory=WasiCtx)


class World:
    """The abi guests of one engine, each linked once."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._linked: dict[str, Linked] = {}

    def linked(self, guest: str) -> Linked:
        if guest not in self._linked:
            self._linked[guest] = Linked(self.engine, guest)
        return self._linked[guest]

    def close(self) -> None:
        self._linked.clear()

    def guest(self, guest: str = "abi", table: ResourceTable | None = None) -> Guest:
        """An instance; its handles and values are charged to the table."""
        return Guest(self.linked(guest), Store(self.engine, View(ResourceTable() if table is None else table)))


class Guest:
    """A guest in a store of its own; leaving the block closes it."""

    def __init__(self, linked: Linked, store: Store) -> None:
        self.linked = linked
        self.store = store
        self.seen: list[Any] = linked.host.seen
        self.seen.clear()
        linked.pre.instantiate(store)

    def start(self, interface: str, function: str, *arguments: Any) -> Call:
        return self.linked.functions[interface][function].start(self.store, *arguments)

    def call(self, interface: str, function: str, *arguments: Any) -> Any:
        """The result of a call that does not wait; the bad outcome of a result is raised."""
        call = self.start(interface, function, *arguments)
        while not call.poll():  # the time slice ended
            pass
        return call.result

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()
        self.seen.clear()
