"""Hostile guests, as data: calls of the `abi` guests that break the canonical ABI, and components hostile as a whole.

Of `CALLS`, do the `steps` of a case in turn in one instance of its `guest`: all but the last one succeed, and the last
one ends as `expected` says. Of `COMPONENTS`, load the `binary()`, instantiate it, and call `run: func()` of its export
`test:evil/run` if it has one: what happens is `expected`.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class Expected(enum.Enum):
    """How it ends."""

    FINE = "returns, because the ABI allows it"
    TRAP = "Trap"
    ENDLESS = "never ends: stopped by a deadline or by cancelling"
    REFUSED = "InvalidComponent, LinkError or Trap, at the latest when it is called"
    FINE_OR_REFUSED = "either: whatever else happens is a fault"


class Argument(enum.Enum):
    """What stands for a value that is only known when the case runs."""

    THING = "a new thing of the host"
    LAST = "the result of the step before"


FINE, TRAP, ENDLESS, REFUSED = Expected.FINE, Expected.TRAP, Expected.ENDLESS, Expected.REFUSED
THING, LAST = Argument.THING, Argument.LAST


@dataclass(frozen=True)
class Step:
    """A call of `test:abi/<interface>`'s `function`."""

    interface: str
    function: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Case:
    """Steps in one instance of one of the abi guests."""

    steps: tuple[Step, ...]
    expected: Expected
    guest: str = "abi"


def _raw(function: str, *arguments: Any) -> Step:
    return Step("raw", function, arguments)


def _image(function: str, *arguments: Any) -> Step:
    return Step("images", function, arguments)


def _handle(function: str, *arguments: Any) -> Step:
    return Step("handles", function, arguments)


def _echo(function: str, *arguments: Any) -> Step:
    return Step("guest", f"echo-{function}", arguments)


def _one(expected: Expected, *steps: Step, guest: str = "abi") -> Case:
    return Case(steps, expected, guest)


MEMORY = 2 * 65536  # the guest's memory before it grows
LARGE = 0xFFFFFFFF

STRINGS = {
    "string at the end of memory": _one(FINE, _raw("send-string", MEMORY, 0)),
    "string past the end of memory": _one(TRAP, _raw("send-string", MEMORY, 1)),
    "string across the end of memory": _one(TRAP, _raw("send-string", MEMORY - 4, 5)),
    "string whose end overflows": _one(TRAP, _raw("send-string", LARGE - 15, 64)),
    "string of 4 GiB": _one(TRAP, _raw("send-string", 0, LARGE)),
    "string of 2 GiB": _one(TRAP, _raw("send-string", 0, 1 << 31)),
    "result string past the end of memory": _one(TRAP, _image("string-of-image", struct.pack("<II", MEMORY, 1), 1)),
    "UTF-8: no such byte": _one(TRAP, _raw("string-of-raw", 2, b"\xff\xfe")),
    "UTF-8: overlong": _one(TRAP, _raw("string-of-raw", 2, b"\xc0\x80")),
    "UTF-8: surrogate": _one(TRAP, _raw("string-of-raw", 3, b"\xed\xa0\x80")),
    "UTF-8: past U+10FFFF": _one(TRAP, _raw("string-of-raw", 4, b"\xf4\x90\x80\x80")),
    "UTF-8: cut short": _one(TRAP, _raw("string-of-raw", 2, b"\xe2\x82\xac")),
    "UTF-8: NUL": _one(FINE, _raw("string-of-raw", 1, b"\x00")),
    "UTF-16: lone high surrogate": _one(TRAP, _raw("string-of-raw", 1, b"\x00\xd8"), guest="abi_utf16"),
    "UTF-16: lone low surrogate": _one(TRAP, _raw("string-of-raw", 1, b"\x00\xdc"), guest="abi_utf16"),
    "UTF-16: surrogates swapped": _one(TRAP, _raw("string-of-raw", 2, b"\x00\xdc\x00\xd8"), guest="abi_utf16"),
    "UTF-16: odd pointer": _one(TRAP, _raw("send-string", 1025, 1), guest="abi_utf16"),
    "UTF-16: across the end of memory": _one(TRAP, _raw("send-string", MEMORY - 2, 2), guest="abi_utf16"),
    "UTF-16: twice the length overflows": _one(TRAP, _raw("send-string", 0, (1 << 31) + 1), guest="abi_utf16"),
    "Latin-1: every byte is good": _one(FINE, _raw("string-of-raw", 2, b"\xff\x80"), guest="abi_latin1"),
    "Latin-1: odd pointer": _one(TRAP, _raw("send-string", 1025, 1), guest="abi_latin1"),
    "Latin-1: past the end of memory": _one(TRAP, _raw("send-string", MEMORY, 1), guest="abi_latin1"),
    "tagged UTF-16: lone surrogate": _one(TRAP, _raw("string-of-raw", (1 << 31) + 1, b"\x00\xd8"), guest="abi_latin1"),
    "tagged UTF-16: past the end": _one(TRAP, _raw("send-string", MEMORY - 2, (1 << 31) + 2), guest="abi_latin1"),
    "tagged UTF-16: 4 GiB": _one(TRAP, _raw("send-string", 0, LARGE), guest="abi_latin1"),
}

LISTS = {
    "empty list at the end of memory": _one(FINE, _image("u8-at", MEMORY, 0)),
    "list past the end of memory": _one(TRAP, _image("u64-at", MEMORY, 1)),
    "list up to the end of memory": _one(FINE, _image("u64-at", MEMORY - 8, 1)),
    "list across the end of memory": _one(TRAP, _image("u64-at", MEMORY - 8, 2)),
    "list of 4 GiB": _one(TRAP, _image("u8-at", 0, LARGE)),
    "list whose size overflows": _one(TRAP, _image("u64-at", 0, (1 << 29) + 1)),
    "list whose size overflows to zero": _one(TRAP, _image("u64-at", 0, 1 << 29)),
    "list whose end overflows": _one(TRAP, _image("u8-at", LARGE - 15, 64)),
    "misaligned list": _one(TRAP, _image("u64-at", 4, 1)),
    "misaligned empty list": _one(TRAP, _image("u64-at", 4, 0)),
    "misaligned list of records": _one(TRAP, _image("mixed-at", 12, 1)),
    "misaligned list of strings": _one(TRAP, _image("string-at", 2, 1)),
    "list as an argument past the end": _one(TRAP, _raw("send-list-u8", MEMORY, 1)),
    "misaligned list as an argument": _one(TRAP, _raw("send-list-u64", 4, 1)),
    "list in a list past the end": _one(TRAP, _image("list-u64-of-image", struct.pack("<II", MEMORY, 1), 1)),
    "list in a list, misaligned": _one(TRAP, _image("list-u64-of-image", struct.pack("<II", 4, 1), 1)),
    "a thousand million strings": _one(TRAP, _image("string-at", 0, 1_000_000_000)),
}

SCALARS = {
    "char: last one": _one(FINE, _raw("send-char", 0x10FFFF)),
    "char: past the last one": _one(TRAP, _raw("send-char", 0x110000)),
    "char: first surrogate": _one(TRAP, _raw("send-char", 0xD800)),
    "char: last surrogate": _one(TRAP, _raw("send-char", 0xDFFF)),
    "char: all ones": _one(TRAP, _raw("send-char", LARGE)),
    "char in memory: surrogate": _one(TRAP, _image("char-of-image", struct.pack("<I", 0xD800), 1)),
    "char in memory: past the last one": _one(TRAP, _image("char-of-image", struct.pack("<I", 0x110000), 1)),
    "bool: anything but zero is true": _one(FINE, _raw("send-bool", 2)),
    "bool in memory: anything but zero is true": _one(FINE, _image("bool-of-image", b"\x02", 1)),
    "u8: what is above is cut off": _one(FINE, _raw("send-u8", 0x1FF)),
    "s8: what is above is cut off": _one(FINE, _raw("send-s8", 0x1FF)),
    "u16: what is above is cut off": _one(FINE, _raw("send-u16", 0x12345)),
    "s16: what is above is cut off": _one(FINE, _raw("send-s16", 0x1FFFF)),
    "flags: what is above is ignored": _one(FINE, _raw("send-flags1", 0xFF)),
    "flags in memory: what is above is ignored": _one(FINE, _image("flags9-of-image", b"\xff\xff", 1)),
}

VARIANTS = {
    "enum: past the last case": _one(TRAP, _raw("send-small-enum", 3)),
    "enum: all ones": _one(TRAP, _raw("send-small-enum", LARGE)),
    "enum: what is above is not cut off": _one(TRAP, _raw("send-small-enum", 0x100)),
    "large enum: last case": _one(FINE, _raw("send-large-enum", 299)),
    "large enum: past the last case": _one(TRAP, _raw("send-large-enum", 300)),
    "enum in memory: past the last case": _one(TRAP, _image("small-enum-of-image", b"\x03", 1)),
    "large enum in memory: past the last case": _one(TRAP, _image("large-enum-of-image", struct.pack("<H", 300), 1)),
    "option: 2": _one(TRAP, _raw("send-option-u32", 2, 0)),
    "option in memory: 2": _one(TRAP, _image("option-u32-of-image", struct.pack("<II", 2, 0), 1)),
    "option in memory: 255": _one(TRAP, _image("option-u32-of-image", struct.pack("<II", 255, 0), 1)),
    "option in memory: only the first byte counts": _one(
        FINE, _image("option-u32-of-image", struct.pack("<II", 0xABCDEF00, 0), 1)
    ),
    "result: 2": _one(TRAP, _raw("send-result-none", 2)),
    "result with an error: 2": _one(TRAP, _raw("send-result-error", 2, 0)),
    "result with a bad error": _one(TRAP, _raw("send-result-error", 1, 3)),
    "result with no error: the rest is ignored": _one(FINE, _raw("send-result-error", 0, LARGE)),
    "result with a string past the end": _one(TRAP, _raw("send-result-u32-string", 1, MEMORY, 1)),
    "result in memory: 2": _one(TRAP, _image("result-none-of-image", b"\x02", 1)),
    "variant: past the last case": _one(TRAP, _raw("send-choice", 5, 0, 0)),
    "variant: all ones": _one(TRAP, _raw("send-choice", LARGE, 0, 0)),
    "variant with a string past the end": _one(TRAP, _raw("send-choice", 1, MEMORY, 1)),
    "variant: what is above a joined value is cut off": _one(FINE, _raw("send-joined", 0, 0xFFFFFFFF_3F800000)),
    "variant in memory: past the last case": _one(TRAP, _image("joined-of-image", struct.pack("<QQ", 4, 0), 1)),
}

REALLOC = {
    "realloc: past the end": _one(TRAP, _raw("set-realloc", 1, MEMORY, 0), _echo("list-u32", [1])),
    "realloc: across the end": _one(TRAP, _raw("set-realloc", 1, MEMORY - 4, 0), _echo("list-u32", [1, 2])),
    "realloc: end overflows": _one(TRAP, _raw("set-realloc", 1, LARGE - 3, 0), _echo("list-u32", [1, 2])),
    "realloc: misaligned": _one(TRAP, _raw("set-realloc", 1, 8193, 0), _echo("list-u32", [1])),
    "realloc: misaligned for UTF-16": _one(
        TRAP, _raw("set-realloc", 1, 8193, 0), _echo("string", "ab"), guest="abi_utf16"
    ),
    "realloc: a string past the end": _one(TRAP, _raw("set-realloc", 1, MEMORY, 0), _echo("string", "ab")),
    "realloc: bytes past the end": _one(TRAP, _raw("set-realloc", 1, LARGE, 0), _echo("list-u8", b"ab")),
    "realloc: the second one past the end": _one(
        TRAP, _raw("set-realloc", 1, MEMORY, 1), _echo("list-string", ["a", "b"])
    ),
    "realloc: past the end, for a result": _one(TRAP, _raw("set-realloc", 1, MEMORY, 1), _echo("list-u32", [1])),
    "realloc: traps": _one(TRAP, _raw("set-realloc", 2, 0, 0), _echo("string", "ab")),
    "realloc: traps, for a result": _one(TRAP, _raw("set-realloc", 2, 0, 1), _echo("string", "ab")),
    "realloc: calls the host": _one(TRAP, _raw("set-realloc", 3, 0, 0), _echo("string", "ab")),
    "realloc: calls the host, for a result": _one(TRAP, _raw("set-realloc", 3, 0, 1), _echo("string", "ab")),
    "realloc: moves the memory": _one(FINE, _raw("set-realloc", 4, 3, 0), _echo("list-string", ["a", "bc", "def"])),
    "realloc: never returns": _one(ENDLESS, _raw("set-realloc", 5, 0, 0), _echo("string", "ab")),
    "realloc: never returns, for a result": _one(ENDLESS, _raw("set-realloc", 5, 0, 1), _echo("string", "ab")),
    "post-return: traps": _one(TRAP, _raw("set-post-return", 1), _echo("string", "ab")),
    "post-return: calls the host": _one(TRAP, _raw("set-post-return", 2), _echo("string", "ab")),
    "post-return: never returns": _one(ENDLESS, _raw("set-post-return", 3), _echo("string", "ab")),
}

HANDLES = {
    "handle 0": _one(TRAP, _handle("value-of-number", 0)),
    "unknown handle: called": _one(TRAP, _handle("value-of-number", 77)),
    "unknown handle: dropped": _one(TRAP, _handle("drop-number", 77)),
    "unknown handle: given away": _one(TRAP, _handle("give-number", 77)),
    "unknown handle: returned": _one(TRAP, _handle("unstash", 77)),
    "handle of all ones": _one(TRAP, _handle("value-of-number", LARGE)),
    "handle: dropped as another type": _one(TRAP, _handle("stash-many", 1), _handle("drop-number-as-other", LAST)),
    "own: dropped": _one(FINE, _handle("stash-many", 1), _handle("drop-number", LAST)),
    "own: given away twice": _one(TRAP, _handle("give-twice", THING)),
    "own: given away while lent": _one(TRAP, _handle("lend-and-give", THING)),
    "own: returned": _one(FINE, _handle("stash", THING), _handle("unstash", LAST)),
    "borrow: kept": _one(TRAP, _handle("keep-borrow", THING)),
    "borrow: dropped twice": _one(TRAP, _handle("drop-borrow-twice", THING)),
    "borrow: used after it was dropped": _one(TRAP, _handle("use-dropped-borrow", THING)),
    "borrow: returned as own": _one(TRAP, _handle("return-borrow", THING)),
    "borrow: given away as own": _one(TRAP, _handle("give-borrow", THING)),
    "more handles than anyone needs": _one(TRAP, _handle("stash-many", LARGE)),
}

CALLS: dict[str, Case] = {**STRINGS, **LISTS, **SCALARS, **VARIANTS, **REALLOC, **HANDLES}


@dataclass(frozen=True)
class Component:
    """A component that is hostile whole: its text, or a function that makes its binary."""

    source: str | Callable[[], bytes]
    expected: Expected

    def binary(self) -> bytes:
        """The component; text is not validated on the way."""
        if isinstance(self.source, str):
            from wasmtime import wat2wasm

            return bytes(wat2wasm(self.source))
        return self.source()


def _with_core(core: str, run: str = "", outer: str = "") -> str:
    """A component around one core module, whose function `run`, when there is one, is exported."""
    lift = """(func $run (canon lift (core func $i "run")))
      (instance $run (export "run" (func $run))) (export "test:evil/run" (instance $run))"""
    lift = lift if run else ""
    return f"(component {outer} (core module $m {core} {run}) (core instance $i (instantiate $m)) {lift})"


def _with_host(core: str) -> str:
    """As above, with an import of the host's: a timer that it may wait for."""
    return f"""(component
      (import "wasi:io/poll@0.2.12" (instance $poll
        (export "pollable" (type $pollable (sub resource)))
        (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
      (alias export $poll "pollable" (type $pollable))
      (import "wasi:clocks/monotonic-clock@0.2.12" (instance $clock
        (export "pollable" (type $p (eq $pollable)))
        (export "now" (func (result u64)))
        (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))
      (core func $block (canon lower (func $poll "[method]pollable.block")))
      (core func $now (canon lower (func $clock "now")))
      (core func $subscribe (canon lower (func $clock "subscribe-duration")))
      (core module $m
        (import "host" "block" (func $block (param i32)))
        (import "host" "now" (func $now (result i64)))
        (import "host" "subscribe" (func $subscribe (param i64) (result i32)))
        {core})
      (core instance $i (instantiate $m (with "host" (instance
        (export "block" (func $block)) (export "now" (func $now)) (export "subscribe" (func $subscribe)))))))"""


RECURSE = "(func $f (param i64) (result i64) (i64.add (local.get 0) (call $f (i64.add (local.get 0) (i64.const 1)))))"
GROW = "(memory 1) (func $f (loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))))"
GROW_TABLE = """(table 1 funcref)
  (func $f (loop $l (br_if $l (i32.ne (table.grow (ref.null func) (i32.const 1000)) (i32.const -1)))))"""


def _nested_lists(depth: int) -> str:
    types = "".join(f"(type $t{i + 1} (list $t{i}))" for i in range(depth))
    return f'(component (type $t0 (list u8)) {types} (import "f" (func (param "x" $t{depth}))))'


def _doubled_tuples(depth: int) -> str:
    types = "".join(f"(type $t{i + 1} (tuple $t{i} $t{i}))" for i in range(depth))
    return f'(component (type $t0 (tuple u8 u8)) {types} (import "f" (func (param "x" $t{depth}))))'


def _doubled_instances(depth: int) -> str:
    text = '(component $c0 (core module $m (func (export "run"))) (core instance (instantiate $m)))'
    for i in range(depth):
        text = f"(component $c{i + 1} {text} (instance (instantiate $c{i})) (instance (instantiate $c{i})))"
    return text


def _leb(value: int) -> bytes:
    out = b""
    while True:
        out += bytes([(value & 0x7F) | (0x80 if value > 0x7F else 0)])
        value >>= 7
        if not value:
            return out


HEADER = b"\0asm\x0d\0\x01\0"


def _nested_components(depth: int) -> bytes:
    binary = HEADER
    for _ in range(depth):
        binary = HEADER + b"\x04" + _leb(len(binary)) + binary
    return binary


def _section(identifier: int, content: bytes) -> bytes:
    return HEADER + bytes([identifier]) + _leb(len(content)) + content


COMPONENTS: dict[str, Component] = {
    "start: never returns": Component(_with_core("(func $f (loop $l (br $l))) (start $f)"), ENDLESS),
    "start: traps": Component(_with_core("(func $f unreachable) (start $f)"), TRAP),
    "start: overflows the stack": Component(
        _with_core(f"{RECURSE} (func $s (drop (call $f (i64.const 0)))) (start $s)"), TRAP
    ),
    "start: takes all memory": Component(_with_core(f"{GROW} (start $f)"), FINE),
    "start: takes all of a table": Component(_with_core(f"{GROW_TABLE} (start $f)"), FINE),
    "start: calls the host": Component(_with_host("(func $f (drop (call $now))) (start $f)"), FINE),
    "start: waits": Component(
        _with_host("(func $f (call $block (call $subscribe (i64.const 3600000000000)))) (start $f)"), TRAP
    ),
    "run: never returns": Component(_with_core("", '(func (export "run") (loop $l (br $l)))'), ENDLESS),
    "run: traps": Component(_with_core("", '(func (export "run") unreachable)'), TRAP),
    "run: divides by zero": Component(
        _with_core("", '(func (export "run") (drop (i32.div_u (i32.const 1) (i32.const 0))))'), TRAP
    ),
    "run: overflows the stack": Component(
        _with_core(RECURSE, '(func (export "run") (drop (call $f (i64.const 0))))'), TRAP
    ),
    "run: takes all memory": Component(_with_core(GROW, '(func (export "run") (call $f))'), FINE),
    "run: takes all of a table": Component(_with_core(GROW_TABLE, '(func (export "run") (call $f))'), FINE),
    "a vector as parameter": Component(
        _with_core('(func (export "f") (param v128) (result v128) (local.get 0))', '(func (export "run"))'), FINE
    ),
    "a vector as parameter, lifted": Component(
        """(component (core module $m (func (export "f") (param v128))) (core instance $i (instantiate $m))
        (func (param "x" u32) (canon lift (core func $i "f"))))""",
        REFUSED,
    ),
    "data past the end of memory": Component(_with_core('(memory 1) (data (i32.const 65536) "x")'), TRAP),
    "elements past the end of a table": Component(
        _with_core("(table 1 funcref) (elem (i32.const 1) func $f) (func $f)"), TRAP
    ),
    "a memory of 4 GiB": Component(_with_core("(memory 65536)"), Expected.FINE_OR_REFUSED),
    "a table of a thousand million": Component(_with_core("(table 1000000000 funcref)"), REFUSED),
    "a thousand memories": Component(
        "(component (core module $m (memory 1)) " + "(core instance (instantiate $m)) " * 1000 + ")",
        Expected.FINE_OR_REFUSED,
    ),
    "a shared memory": Component(_with_core("(memory 1 1 shared)"), REFUSED),
    "a missing import": Component(
        '(component (import "test:nowhere/nothing" (instance (export "f" (func)))))', REFUSED
    ),
    "lists in lists, 5,000 deep": Component(_nested_lists(5_000), Expected.FINE_OR_REFUSED),
    "tuples of twice the tuple before, 60 deep": Component(_doubled_tuples(60), REFUSED),
    "components of twice the component before, 40 deep": Component(_doubled_instances(40), REFUSED),
    "components in components, 10,000 deep": Component(lambda: _nested_components(10_000), REFUSED),
    "a type section of 4 thousand million": Component(lambda: _section(7, _leb(0xFFFFFFFF)), REFUSED),
    "a tuple of 4 thousand million": Component(lambda: _section(7, b"\x01\x6f" + _leb(0xFFFFFFFF)), REFUSED),
    "a list of itself": Component(lambda: _section(7, b"\x01\x70\x00"), REFUSED),
    "a section longer than the file": Component(lambda: HEADER + b"\x07" + _leb(1 << 31), REFUSED),
    "an integer that does not end": Component(lambda: HEADER + b"\x07" + b"\x80" * 100, REFUSED),
    "nothing": Component(lambda: b"", REFUSED),
    "only a magic number": Component(lambda: b"\0asm", REFUSED),
    "a core module": Component(lambda: b"\0asm\x01\0\0\0", REFUSED),
}
