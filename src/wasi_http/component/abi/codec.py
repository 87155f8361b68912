"""Codecs of the canonical ABI (specification: CanonicalABI.md): convert values between Python and guest memory.

Each type is compiled once into a tree of codecs; types are not examined at run time. The four operations are those of
the specification:

``lift``    flat core values become a Python value
``lower``   a Python value becomes flat core values
``load``    bytes of guest memory become a Python value
``store``   a Python value becomes bytes of guest memory

Lifting never runs guest code, so the caller of ``load`` checks the bounds of the whole value once and passes host
pointers down. Storing a string or a list runs the guest's ``realloc``, which may move its memory: types that contain
one are stored by guest pointers, checked at each leaf; all others are ``put`` at a host pointer, checked once.

Faults of the guest raise `Trap`. Faults of the host (a value that is not of the declared type) raise TypeError or
OverflowError in the embedder; the guest never receives a half-written value as a result.
"""

from __future__ import annotations

from collections.abc import Sequence

import cython
from cython.cimports.cpython.list import PyList_New, PyList_SET_ITEM
from cython.cimports.cpython.mem import PyMem_Free, PyMem_Malloc
from cython.cimports.cpython.ref import Py_INCREF
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.wasi_http.component.abi.context import LiftLowerContext, open_budget
from cython.cimports.wasi_http.engine.libwasmtime import wasmtime_val_raw_t

from wasi_http.component.abi.layout import alignment, contains_borrow, contains_pointer, flatten, size
from wasi_http.component.model.types import ValType

__all__ = ["Codec", "PointerLengthCodec"]


class Codec:
    """Lifts, lowers, loads and stores values of one type."""

    def __init__(self, type: ValType) -> None:
        self.type = type
        self.size = size(type)
        self.alignment = alignment(type)
        self.flat = flatten(type)
        self.width = len(self.flat)
        self.reallocates = contains_pointer(type)
        self.lends = contains_borrow(type)

    def lift(self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        raise TypeError(f"no codec lifts {self.type}")

    def lower(self, cx: LiftLowerContext, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        raise TypeError(f"no codec lowers {self.type}")

    def load(self, cx: LiftLowerContext, place: cython.pointer(uint8_t)) -> object:
        raise TypeError(f"no codec loads {self.type}")

    def store(self, cx: LiftLowerContext, value: object, pointer: uint64_t) -> cython.int:
        return self.put(cx, value, cx.span(pointer, self.size, self.alignment))

    def put(self, cx: LiftLowerContext, value: object, place: cython.pointer(uint8_t)) -> cython.int:
        """`store` for types without strings and lists, at a place whose bounds the caller has checked."""
        raise TypeError(f"no codec stores {self.type}")

    def load_many(self, cx: LiftLowerContext, place: cython.pointer(uint8_t), count: uint32_t) -> list:
        i: uint32_t
        values: list = PyList_New(count)
        for i in range(count):
            value = self.load(cx, place + cython.cast(uint64_t, i) * self.size)
            Py_INCREF(value)
            PyList_SET_ITEM(values, i, value)
        return values

    def put_many(self, cx: LiftLowerContext, values: tuple, place: cython.pointer(uint8_t)) -> cython.int:
        for value in values:
            self.put(cx, value, place)
            place += self.size
        return 0

    # The four operations for Python callers (tests and tools): core values are ints of their 64 bits.

    def lift_values(self, cx: LiftLowerContext, values: Sequence[int]) -> object:
        """Lifts a value from its flat form; raises `Trap`."""
        raw = raw_values(values, self.width)
        open_budget(cx, self.cost)
        try:
            return self.lift(cx, raw)
        finally:
            PyMem_Free(raw)

    def lower_values(self, cx: LiftLowerContext, value: object) -> list[int]:
        """Lowers a value to its flat form; raises TypeError, OverflowError and `Trap`."""
        raw = raw_values((), self.width)
        try:
            self.lower(cx, value, raw)
            return [raw[i].u64 for i in range(self.width)]
        finally:
            PyMem_Free(raw)

    def load_from(self, cx: LiftLowerContext, pointer: int) -> object:
        """Loads a value from guest memory; raises `Trap`."""
        open_budget(cx, self.cost)
        return self.load(cx, cx.span(pointer, self.size, self.alignment))

    def store_to(self, cx: LiftLowerContext, value: object, pointer: int) -> None:
        """Stores a value in guest memory; raises TypeError, OverflowError and `Trap`."""
        self.store(cx, value, pointer)

    def __repr__(self) -> str:
        return f"<Codec of {self.type}>"


def raw_values(values: object, width: uint32_t) -> cython.pointer(wasmtime_val_raw_t):
    """Returns an array with the raw values and room for ``width`` of them; the caller frees it."""
    i: cython.size_t
    given: list = list(values)
    room: cython.size_t = max(len(given), width, 1)
    raw = cython.cast(cython.pointer(wasmtime_val_raw_t), PyMem_Malloc(room * cython.sizeof(wasmtime_val_raw_t)))
    if raw == cython.NULL:
        raise MemoryError
    memset(raw, 0, room * cython.sizeof(wasmtime_val_raw_t))
    try:
        for i in range(cython.cast(cython.size_t, len(given))):
            raw[i].u64 = given[i]
    except BaseException:
        PyMem_Free(raw)
        raise
    return raw


def show(value: object) -> str:
    """Returns a value as text for a message: never long, never raises."""
    try:
        text = repr(value)
    except Exception:
        # Python refuses to print very long integers, and any __repr__ may raise.
        text = object.__repr__(value)
    return text if len(text) <= 100 else text[:97] + "..."


class PointerLengthCodec(Codec):
    """A string or a list: a pointer and a length; the content is elsewhere.

    ``cost`` is that of an empty one; the content is charged when it is loaded.
    """

    def load_range(self, cx: LiftLowerContext, pointer: uint32_t, length: uint32_t) -> object:
        raise TypeError(f"no codec loads {self.type}")

    def store_range(self, cx: LiftLowerContext, value: object, pair: cython.pointer(uint32_t)) -> cython.int:
        raise TypeError(f"no codec stores {self.type}")

    def lift(self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        return self.load_range(cx, raw[0].u32, raw[1].u32)

    def lower(self, cx: LiftLowerContext, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        pair: uint32_t[2]
        self.store_range(cx, value, pair)
        raw[0].i64 = pair[0]
        raw[1].i64 = pair[1]
        return 0

    def load(self, cx: LiftLowerContext, place: cython.pointer(uint8_t)) -> object:
        pair = cython.cast(cython.pointer(uint32_t), place)
        return self.load_range(cx, pair[0], pair[1])

    def store(self, cx: LiftLowerContext, value: object, pointer: uint64_t) -> cython.int:
        pair: uint32_t[2]
        self.store_range(cx, value, pair)
        memcpy(cx.span(pointer, 8, 4), pair, 8)
        return 0
