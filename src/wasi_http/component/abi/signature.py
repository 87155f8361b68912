# ruff: noqa: F821 - what the .pxd declares needs no import here
"""The canonical ABI (specification: CanonicalABI.md): values between Python and the memory of a guest.

Each type is compiled once into a tree of codecs; nothing looks at types at run time. The four operations are those of
the specification:

``lift``    flat core values become a Python value
``lower``   a Python value becomes flat core values
``load``    bytes of guest memory become a Python value
``store``   a Python value becomes bytes of guest memory

Lifting never runs guest code, so whoever loads checks the bounds of the whole value once and hands host pointers down.
Storing a string or a list runs the guest's ``realloc``, which may move its memory: types that contain one are stored by
guest pointers, checked at each leaf, all others are ``put`` at a host pointer, checked once.

What the guest gets wrong is a `Trap`. What the host gets wrong (a value that is not of the declared type) is a
TypeError or OverflowError for the embedder; the guest never sees a half-written value as an answer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cython
from cython.cimports.cpython.buffer import PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.cpython.list import PyList_New, PyList_SET_ITEM
from cython.cimports.cpython.long import PyLong_AsLongLongAndOverflow, PyLong_AsUnsignedLongLong
from cython.cimports.cpython.mem import PyMem_Free, PyMem_Malloc
from cython.cimports.cpython.ref import Py_INCREF
from cython.cimports.cpython.tuple import PyTuple_New, PyTuple_SET_ITEM
from cython.cimports.cpython.unicode import (
    PyUnicode_1BYTE_DATA,
    PyUnicode_1BYTE_KIND,
    PyUnicode_AsUTF8AndSize,
    PyUnicode_DecodeLatin1,
    PyUnicode_DecodeUTF8,
    PyUnicode_DecodeUTF16,
    PyUnicode_GET_LENGTH,
    PyUnicode_KIND,
)
from cython.cimports.libc.math import isfinite, isnan
from cython.cimports.libc.stdint import (
    int8_t,
    int16_t,
    int32_t,
    int64_t,
    uint8_t,
    uint16_t,
    uint32_t,
    uint64_t,
    uintptr_t,
)
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.wasi_http.component.handles import GuestResource, HandleTable
from cython.cimports.wasi_http.component.instance import ComponentInstance
from cython.cimports.wasi_http.engine.func import Func
from cython.cimports.wasi_http.engine.libwasmtime import wasmtime_val_raw_t
from cython.cimports.wasi_http.engine.memory import Memory
from cython.cimports.wasi_http.engine.store import Store

from wasi_http.component.abi.layout import (
    MAX_FLAT_PARAMS,
    align_to,
    alignment,
    cases_of,
    contains_borrow,
    contains_pointer,
    discriminant_size,
    elements_of,
    flatten,
    lifted_core_type,
    lowered_core_type,
    size,
)
from wasi_http.component.model.types import (
    BorrowType,
    EnumType,
    FlagsType,
    FuncType,
    ListType,
    OptionType,
    OwnType,
    Primitive,
    RecordType,
    ResultType,
    TupleType,
    Type,
    ValType,
    VariantType,
)
from wasi_http.component.model.values import Err, Ok, Some
from wasi_http.engine.errors import Trap

__all__ = ["ENCODINGS", "MAX_BYTE_LENGTH", "Codec", "LiftLowerContext", "Signature", "codec_of"]

#: The longest string or list, in bytes (specification: MAX_STRING_BYTE_LENGTH and MAX_LIST_BYTE_LENGTH).
MAX_BYTE_LENGTH = (1 << 28) - 1

_MAX_BYTES = cython.declare(uint64_t, MAX_BYTE_LENGTH)
_TAG = cython.declare(uint32_t, 1 << 31)
# What CPython's objects cost, roughly; it is the order of magnitude that protects the host.
_POINTER_COST = cython.declare(uint32_t, 8)
_STRING_COST = cython.declare(uint32_t, 56)
_LIST_COST = cython.declare(uint32_t, 72)
_OBJECT_COST = cython.declare(uint32_t, 56)
_DICT_COST = cython.declare(uint32_t, 200)
# Where Python code makes the object, time is what it costs: about as much as it takes to copy so many bytes.
_CALL_COST = cython.declare(uint32_t, 400)
# Python looks for the members of a combination that it has not met, which takes microseconds.
_COMBINATION_COST = cython.declare(uint32_t, 2000)
# Handles are looked up and lent one by one.
_HANDLE_COST = cython.declare(uint32_t, 32)

# All combinations of so many flags are kept, and as many of those of more.
_KNOWN_BITS = cython.declare(cython.int, 10)

ENCODINGS = {"utf8": UTF8, "utf16": UTF16, "latin1+utf16": LATIN1_UTF16}


@cython.final
@cython.cclass
class LiftLowerContext:
    """What a call needs of its component instance: the canonical options, in one store.

    ``limit`` is what lifting the values of one call may cost on the host, in bytes; a guest that sends more traps. A
    guest's byte can become a Python object of sixty: a list is charged for its elements before the first is made.
    """

    def __init__(
        self,
        memory: Memory | None,
        realloc: Func | None,
        instance: ComponentInstance,
        encoding: int,
    ) -> None:
        self.memory = memory
        self.realloc = realloc
        self.instance = instance
        self.encoding = encoding
        self.limit = instance.handles.account.value_limit
        self.budget = self.limit

    def span(self, pointer: uint64_t, length: uint64_t, alignment: uint32_t) -> cython.pointer(uint8_t):
        if pointer & (alignment - 1):
            raise Trap(f"pointer {pointer} is not aligned to {alignment}")
        if self.memory is None:
            raise Trap("the guest has no memory yet")
        return self.memory.span(pointer, length)

    def allocate(
        self, size: uint64_t, alignment: uint32_t, pointer: cython.pointer(uint32_t)
    ) -> cython.pointer(uint8_t):
        """Asks the guest for memory; the answer is checked."""
        raw: wasmtime_val_raw_t[4]
        if size > _MAX_BYTES:
            raise OverflowError(f"a value of {size} bytes is too long for a guest")
        if self.realloc is None:
            raise Trap("the guest has no realloc yet")
        raw[0].i64 = 0
        raw[1].i64 = 0
        raw[2].i64 = alignment
        raw[3].i64 = cython.cast(int64_t, size)
        self.instance.may_leave = False
        try:
            self.realloc.call_raw(raw, 4)
        finally:
            self.instance.may_leave = True
        pointer[0] = raw[0].u32
        if pointer[0] & (alignment - 1):
            raise Trap(f"realloc returned {pointer[0]}, which is not aligned to {alignment}")
        return self.span(pointer[0], size, 1)

    def open(self, cost: uint32_t) -> cython.int:
        """Begins the lifting of the values of a call, which cost that much and what is in their strings and lists."""
        self.budget = self.limit
        return self.charge(cost)

    def charge(self, cost: uint64_t) -> cython.int:
        if cost > cython.cast(uint64_t, self.budget):
            raise Trap(f"the values of one call take more than {self.limit} bytes on the host")
        self.budget -= cython.cast(int64_t, cost)
        return 0


@cython.cclass
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
        """`store` for types without strings and lists, at a place whose bounds are checked."""
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

    # The four operations for Python, for tests and tools: core values are ints that hold their 64 bits.

    def lift_values(self, cx: LiftLowerContext, values: Sequence[int]) -> object:
        """Lifts a value from its flat form; raises `Trap`."""
        raw = _raw_values(values, self.width)
        cx.open(self.cost)
        try:
            return self.lift(cx, raw)
        finally:
            PyMem_Free(raw)

    def lower_values(self, cx: LiftLowerContext, value: object) -> list[int]:
        """Lowers a value to its flat form; raises TypeError, OverflowError and `Trap`."""
        raw = _raw_values((), self.width)
        try:
            self.lower(cx, value, raw)
            return [raw[i].u64 for i in range(self.width)]
        finally:
            PyMem_Free(raw)

    def load_from(self, cx: LiftLowerContext, pointer: int) -> object:
        """Loads a value from guest memory; raises `Trap`."""
        cx.open(self.cost)
        return self.load(cx, cx.span(pointer, self.size, self.alignment))

    def store_to(self, cx: LiftLowerContext, value: object, pointer: int) -> None:
        """Stores a value in guest memory; raises TypeError, OverflowError and `Trap`."""
        self.store(cx, value, pointer)

    def __repr__(self) -> str:
        return f"<Codec of {self.type}>"


def _raw_values(values: object, width: uint32_t) -> cython.pointer(wasmtime_val_raw_t):
    """Raw values for as many as there are, and room for ``width``; the caller frees them."""
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


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _set(values: tuple, i: cython.Py_ssize_t, value: object) -> cython.void:
    # Tuples are made in place; the macro takes the reference over.
    Py_INCREF(value)
    PyTuple_SET_ITEM(values, i, value)


@cython.cfunc
def _show(value: object) -> str:
    """A value in a message: never long, and never an error of its own."""
    try:
        text = repr(value)
    except Exception:
        # Python refuses to write very long integers, and anybody's __repr__ may fail.
        text = object.__repr__(value)
    return text if len(text) <= 100 else text[:97] + "..."


# Numbers


@cython.final
@cython.cclass
class BoolCodec(Codec):
    @cython.cfunc
    def lift(self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        return raw[0].i32 != 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lower(self, cx: LiftLowerContext, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        raw[0].i64 = _bit(value)
        return 0

    @cython.cfunc
    def load(self, cx: LiftLowerContext, place: cython.pointer(uint8_t)) -> object:
        return place[0] != 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def put(self, cx: LiftLowerContext, value: object, place: cython.pointer(uint8_t)) -> cython.int:
        place[0] = _bit(value)
        return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _bit(value: object) -> cython.int:
    if value is True:
        return 1
    if value is False:
        return 0
    raise TypeError(f"expected a bool for bool, not {_show(value)}")


@cython.final
@cython.cclass
class IntegerCodec(Codec):
    """All integers: ``signed`` and ``size`` tell them apart."""

    signed: cython.bint
    low: int64_t
    high: int64_t

    def __init__(self, type: ValType) -> None:
        Codec.__init__(self, type)
        self.signed = str(type).startswith("s")
        bits: object = 8 * self.size - self.signed
        self.low = -(1 << bits) if self.signed else 0
        self.high = min((1 << bits) - 1, (1 << 63) - 1)
        # The small ones are objects that exist anyway.
        self.cost = 0 if type is Primitive.U8 else 32

    @cython.cfunc
    def lift(self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        # The upper bits that a narrow type does not have are ignored.
        return self.load(cx, cython.cast(cython.pointer(uint8_t), raw))

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lower(self, cx: LiftLowerContext, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        raw[0].u64 = self.bits(value)
        if self.size < 8:
            raw[0].u64 = raw[0].u32
        return 0

    @cython.cfunc
    def load(self, cx: LiftLowerContext, place: cython.pointer(uint8_t)) -> object:
        # Little-endian, as every platform is that wasmtime compiles for and this package supports.
        if self.size == 1:
            return cython.cast(cython.pointer(int8_t), place)[0] if self.signed else place[0]
        if self.size == 2:
            if self.signed:
                return cython.cast(cython.pointer(int16_t), place)[0]
            return cython.cast(cython.pointer(uint16_t), place)[0]
        if self.size == 4:
            if self.signed:
                return cython.cast(cython.pointer(int32_t), place)[0]
            return cython.cast(cython.pointer(uint32_t), place)[0]
        if self.signed:
            return cython.cast(cython.pointer(int64_t), place)[0]
        return cython.cast(cython.pointer(uint64_t), place)[0]

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def put(self, cx: LiftLowerContext, value: object, place: cython.pointer(uint8_t)) -> cython.int:
        bits: uint64_t = self.bits(value)
        if self.size == 1:
            place[0] = cython.cast(uint8_t, bits)
        elif self.size == 2:
            cython.cast(cython.pointer(uint16_t), place)[0] = cython.cast(uint16_t, bits)
        elif self.size == 4:
            cython.cast(cython.pointer(uint32_t), place)[0] = cython.cast(uint32_t, bits)
        else:
            cython.cast(cython.pointer(uint64_t), place)[0] = bits
        return 0

    @cython.cfunc
    @cython.exceptval(0xFFFFFFFFFFFFFFFF, check=True)
    def bits(self, value: object) -> uint64_t:
        """The number in two's complement, when the type has it."""
        overflow: cython.int = 0
        if not isinstance(value, int):
            raise TypeError(f"expected an int for {self.type}, not {_show(value)}")
        number: int64_t = PyLong_AsLongLongAndOverflow(value, cython.address(overflow))
        if overflow > 0 and self.size == 8 and not self.signed and value <= 0xFFFFFFFFFFFFFFFF:
            return PyLong_AsUnsignedLongLong(value)
        if overflow or not self.low <= number <= self.high:
            raise OverflowError(f"{_show(value)} is out of range for {self.type}")
        return cython.cast(uint64_t, number)


@cython.cfunc
@cython.exceptval(-1.0, check=True)
def _real(codec: Codec, value: object) -> cython.double:
    if isinstance(value, float):
        return value
    if not isinstance(value, int):
        raise TypeError(f"expected a float for {codec.type}, not {_show(value)}")
    try:
        return float(value)
    except OverflowError:
        raise OverflowError(f"{_show(value)} is out of range for {codec.type}") from None


@cython.cfunc
@cython.exceptval(-1.0, check=True)
def _single(codec: Codec, value: object) -> cython.float:
    real: cython.double = _real(codec, value)
    single: cython.float = real
    if isfinite(real) and not isfinite(single):
        raise OverflowError(f"{_show(value)} is out of range for {codec.type}")
    return _canonical32(single)


@cython.cfunc
@cython.exceptval(check=False)
def _canonical32(value: cython.float) -> cython.float:
    bits: uint32_t = 0x7FC00000
    if isnan(value):
        memcpy(cython.address(value), cython.address(bits), 4)
    return value


@cython.cfunc
@cython.exceptval(check=False)
def _canonical64(value: cython.double) -> cython.double:
    bits: uint64_t = 0x7FF8000000000000
    if isnan(value):
        memcpy(cython.address(value), cython.address(bits), 8)
    return value


@cython.final
@cython.cclass
class F32Codec(Codec):
    def __init__(self, type: ValType) -> None:
        Codec.__init__(self, type)
        self.cost = 24

    @cython.cfunc
    def lift(self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        return _canonical32(raw[0].f32)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lower(self, cx: LiftLowerContext, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        raw[0].i64 = 0
        raw[0].f32 = _single(self, value)
        return 0

    @cython.cfunc
    def load(self, cx: LiftLowerContext, place: cython.pointer(uint8_t)) -> object:
        return _canonical32(cython.cast(cython.pointer(cython.float), place)[0])

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def put(self, cx: LiftLowerContext, value: object, place: cython.pointer(uint8_t)) -> cython.int:
        cython.cast(cython.pointer(cython.float), place)[0] = _single(self, value)
        return 0


@cython.final
@cython.cclass
class F64Codec(Codec):
    def __init__(self, type: ValType) -> None:
        Codec.__init__(self, type)
        self.cost = 24

    @cython.cfunc
    def lift(self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        return _canonical64(raw[0].f64)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lower(self, cx: LiftLowerContext, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        raw[0].f64 = _canonical64(_real(self, value))
        return 0

    @cython.cfunc
    def load(self, cx: LiftLowerContext, place: cython.pointer(uint8_t)) -> object:
        return _canonical64(cython.cast(cython.pointer(cython.double), place)[0])

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def put(self, cx: LiftLowerContext, value: object, place: cython.pointer(uint8_t)) -> cython.int:
        cython.cast(cython.pointer(cython.double), place)[0] = _canonical64(_real(self, value))
        return 0


# Text


@cython.cfunc
def _character(code: uint32_t) -> str:
    if code >= 0x110000 or 0xD800 <= code <= 0xDFFF:
        raise Trap(f"{code:#x} is no Unicode scalar value")
    return chr(code)


@cython.cfunc
@cython.exceptval(0xFFFFFFFF, check=False)
def _code(value: object) -> uint32_t:
    if not isinstance(value, str) or len(value) != 1:
        raise TypeError(f"expected a str of one character for char, not {_show(value)}")
    code: uint32_t = ord(value)
    if 0xD800 <= code <= 0xDFFF:
        raise TypeError(f"expected a character for char, not the surrogate {_show(value)}")
    return code


@cython.final
@cython.cclass
class CharCodec(Codec):
    def __init__(self, type: ValType) -> None:
        Codec.__init__(self, type)
        self.cost = 80

    @cython.cfunc
    def lift(self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        return _character(raw[0].u32)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lower(self, cx: LiftLowerContext, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        raw[0].i64 = _code(value)
        return 0

    @cython.cfunc
    def load(self, cx: LiftLowerContext, place: cython.pointer(uint8_t)) -> object:
        return _character(cython.cast(cython.pointer(uint32_t), place)[0])

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def put(self, cx: LiftLowerContext, value: object, place: cython.pointer(uint8_t)) -> cython.int:
        cython.cast(cython.pointer(uint32_t), place)[0] = _code(value)
        return 0


def _text(cx: LiftLowerContext, pointer: uint32_t, length: uint64_t, alignment: uint32_t) -> cython.p_char:
    if length > _MAX_BYTES:
        raise Trap(f"a string of {length} bytes is longer than the canonical ABI allows")
    place = cx.span(pointer, length, alignment)
    cx.charge(length)
    return cython.cast(cython.p_char, place)


@cython.cfunc
@cython.exceptval(check=False)
def _widened(source: cython.p_char, length: uint64_t, encoding: cython.int) -> uint64_t:
    """How many bytes a text takes on the host: one wide character makes all of them wide."""
    i: uint64_t
    characters: uint64_t = 0
    widest: uint16_t = 0
    if encoding == UTF8:
        bytes_ = cython.cast(cython.pointer(uint8_t), source)
        for i in range(length):
            characters += (bytes_[i] & 0xC0) != 0x80
            widest = max(widest, cython.cast(uint16_t, bytes_[i]))
        return characters * (4 if widest >= 0xF0 else 2 if widest >= 0xC4 else 1)
    units = cython.cast(cython.pointer(uint16_t), source)
    for i in range(length // 2):
        characters += (units[i] & 0xFC00) != 0xDC00
        widest |= (units[i] & 0xF800) == 0xD800
    return characters * 4 if widest else length


@cython.cfunc
@cython.exceptval(-1, check=False)
def _check_width(cx: LiftLowerContext, source: cython.p_char, length: uint64_t) -> cython.int:
    """Traps when the text would be more than the budget once it is decoded; looks only where that could be."""
    budget = cython.cast(uint64_t, cx.budget)
    if length * 3 > budget and _widened(source, length, cx.encoding) > length + budget:
        return cx.charge(budget + 1)
    return 0


@cython.cfunc
def _decode(cx: LiftLowerContext, pointer: uint32_t, tagged: uint32_t) -> object:
    """A string that lies at ``pointer``; the length is in code units of the encoding, with its tag bit."""
    length: uint64_t = tagged
    little_endian: cython.int = -1
    source: cython.p_char
    text: str
    if cx.encoding == LATIN1_UTF16:
        if not tagged & _TAG:
            source = _text(cx, pointer, length, 2)
            return PyUnicode_DecodeLatin1(source, length, cython.NULL)
        length = tagged ^ _TAG
    try:
        if cx.encoding == UTF8:
            source = _text(cx, pointer, length, 1)
            _check_width(cx, source, length)
            text = PyUnicode_DecodeUTF8(source, length, cython.NULL)
        else:
            length *= 2
            source = _text(cx, pointer, length, 2)
            _check_width(cx, source, length)
            text = PyUnicode_DecodeUTF16(source, length, cython.NULL, cython.address(little_endian))
    except UnicodeDecodeError as error:
        name = "UTF-8" if cx.encoding == UTF8 else "UTF-16"
        raise Trap(f"a string is not {name}: {error.reason} at byte {error.start}") from None
    width: uint64_t = cython.cast(uint64_t, PyUnicode_GET_LENGTH(text)) * PyUnicode_KIND(text)
    if width > length:
        cx.charge(width - length)
    return text


@cython.cfunc
@cython.exceptval(-1, check=False)
def _encode(cx: LiftLowerContext, value: object, pair: cython.pointer(uint32_t)) -> cython.int:
    """Copies a string into the guest; ``pair`` becomes its pointer and its length with the tag bit."""
    length: cython.Py_ssize_t = 0
    source: cython.p_const_char
    tag: uint32_t = 0
    unit: uint32_t = 1
    if not isinstance(value, str):
        raise TypeError(f"expected a str for string, not {_show(value)}")
    try:
        if cx.encoding == UTF8:
            source = PyUnicode_AsUTF8AndSize(value, cython.address(length))
        elif cx.encoding == LATIN1_UTF16 and PyUnicode_KIND(value) == PyUnicode_1BYTE_KIND:
            length = PyUnicode_GET_LENGTH(value)
            source = cython.cast(cython.p_const_char, PyUnicode_1BYTE_DATA(value))
        else:
            data: bytes = value.encode("utf-16-le")
            length = PyBytes_GET_SIZE(data)
            source = PyBytes_AS_STRING(data)
            unit = 2
            if cx.encoding == LATIN1_UTF16:
                tag = _TAG
    except UnicodeEncodeError as error:
        raise TypeError(f"expected Unicode text for string, but {error.reason} at {error.start}") from None
    place = cx.allocate(length, 1 if cx.encoding == UTF8 else 2, pair)
    memcpy(place, source, length)
    pair[1] = cython.cast(uint32_t, length // unit) | tag
    return 0


@cython.cclass
class PointerLengthCodec(Codec):
    """A string or a list: a pointer and a length, and the rest is elsewhere.

    ``cost`` is that of an empty one; what is in it is charged when it is loaded.
    """

    @cython.cfunc
    def load_range(self, cx: LiftLowerContext, pointer: uint32_t, length: uint32_t) -> object:
        raise TypeError(f"no codec loads {self.type}")

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def store_range(self, cx: LiftLowerContext, value: object, pair: cython.pointer(uint32_t)) -> cython.int:
        raise TypeError(f"no codec stores {self.type}")

    @cython.cfunc
    def lift(self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        return self.load_range(cx, raw[0].u32, raw[1].u32)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lower(self, cx: LiftLowerContext, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        pair: uint32_t[2]
        self.store_range(cx, value, pair)
        raw[0].i64 = pair[0]
        raw[1].i64 = pair[1]
        return 0

    @cython.cfunc
    def load(self, cx: LiftLowerContext, place: cython.pointer(uint8_t)) -> object:
        pair = cython.cast(cython.pointer(uint32_t), place)
        return self.load_range(cx, pair[0], pair[1])

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def store(self, cx: LiftLowerContext, value: object, pointer: uint64_t) -> cython.int:
        pair: uint32_t[2]
        self.store_range(cx, value, pair)
        memcpy(cx.span(pointer, 8, 4), pair, 8)
        return 0


@cython.final
@cython.cclass
class StringCodec(PointerLengthCodec):
    def __init__(self, type: ValType) -> None:
        Codec.__init__(self, type)
        self.cost = _STRING_COST

    @cython.cfunc
    def load_range(self, cx: LiftLowerContext, pointer: uint32_t, length: uint32_t) -> object:
        return _decode(cx, pointer, length)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def store_range(self, cx: LiftLowerContext, value: object, pair: cython.pointer(uint32_t)) -> cython.int:
        return _encode(cx, value, pair)


# Lists


def _elements(
    cx: LiftLowerContext, pointer: uint32_t, length: uint32_t, size: uint32_t, alignment: uint32_t
) -> cython.pointer(uint8_t):
    bytes_: uint64_t = cython.cast(uint64_t, length) * size
    if bytes_ > _MAX_BYTES:
        raise Trap(f"a list of {bytes_} bytes is longer than the canonical ABI allows")
    return cx.span(pointer, bytes_, alignment)


@cython.final
@cython.cclass
class BytesCodec(PointerLengthCodec):
    """``list<u8>``: one copy each way."""

    element: Codec

    def __init__(self, type: ValType) -> None:
        Codec.__init__(self, type)
        self.element = codec_of(type.element)
        self.cost = _STRING_COST

    @cython.cfunc
    def load_range(self, cx: LiftLowerContext, pointer: uint32_t, length: uint32_t) -> object:
        place = _elements(cx, pointer, length, 1, 1)
        cx.charge(length)
        return PyBytes_FromStringAndSize(cython.cast(cython.p_char, place), length)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def store_range(self, cx: LiftLowerContext, value: object, pair: cython.pointer(uint32_t)) -> cython.int:
        view: cython.Py_buffer
        length: cython.Py_ssize_t
        if isinstance(value, bytes):
            length = PyBytes_GET_SIZE(value)
            memcpy(cx.allocate(length, 1, pair), PyBytes_AS_STRING(value), length)
        elif isinstance(value, (bytearray, memoryview)):
            if isinstance(value, memoryview) and value.itemsize != 1:
                raise TypeError(f"expected bytes for list<u8>, not a memoryview of {value.format!r}")
            if isinstance(value, memoryview) and not value.c_contiguous:
                value = bytes(value)
            # Held while realloc runs: nobody resizes it meanwhile.
            PyObject_GetBuffer(value, cython.address(view), PyBUF_SIMPLE)
            try:
                length = view.len
                memcpy(cx.allocate(length, 1, pair), view.buf, length)
            finally:
                PyBuffer_Release(cython.address(view))
        elif isinstance(value, (list, tuple)):
            values: tuple = tuple(value)
            length = len(values)
            self.element.put_many(cx, values, cx.allocate(length, 1, pair))
        else:
            raise TypeError(f"expected bytes for list<u8>, not {_show(value)}")
        pair[1] = cython.cast(uint32_t, length)
        return 0


@cython.final
@cython.cclass
class ListCodec(PointerLengthCodec):
    element: Codec
    element_cost: uint32_t

    def __init__(self, type: ValType) -> None:
        Codec.__init__(self, type)
        self.element = codec_of(type.element)
        self.element_cost = _POINTER_COST + self.element.cost
        self.cost = _LIST_COST

    @cython.cfunc
    def load_range(self, cx: LiftLowerContext, pointer: uint32_t, length: uint32_t) -> object:
        element: Codec = self.element
        place = _elements(cx, pointer, length, element.size, element.alignment)
        cx.charge(cython.cast(uint64_t, length) * self.element_cost)
        return element.load_many(cx, place, length)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def store_range(self, cx: LiftLowerContext, value: object, pair: cython.pointer(uint32_t)) -> cython.int:
        i: cython.Py_ssize_t
        element: Codec = self.element
        pointer: uint64_t
        if not isinstance(value, (list, tuple)) and (
            isinstance(value, (str, bytes, bytearray, memoryview)) or not isinstance(value, Sequence)
        ):
            raise TypeError(f"expected a sequence for {self.type}, not {_show(value)}")
        # A copy: a list could change while the guest's realloc uses up its time slice.
        values: tuple = tuple(value)
        place = cx.allocate(cython.cast(uint64_t, len(values)) * element.size, element.alignment, pair)
        pair[1] = cython.cast(uint32_t, len(values))
        if not element.reallocates:
            return element.put_many(cx, values, place)
        pointer = pair[0]
        for i in range(len(values)):
            element.store(cx, values[i], pointer)
            pointer += element.size
        return 0


# Records and tuples


@cython.final
@cython.cclass
class RecordCodec(Codec):
    """Records (made by calling their class with the fields in order) and tuples."""

    names: tuple
    make: object
    elements: tuple
    count: cython.Py_ssize_t
    offsets: cython.pointer(uint32_t)

    def __init__(self, type: ValType) -> None:
        Codec.__init__(self, type)
        types = elements_of(type)
        if not types:
            raise TypeError("records and tuples must not be empty")
        i: cython.Py_ssize_t
        offset = 0
        self.count = len(types)
        self.offsets = cython.cast(cython.pointer(uint32_t), PyMem_Malloc(self.count * cython.sizeof(uint32_t)))
        if self.offsets == cython.NULL:
            raise MemoryError
        for i in range(self.count):
            offset = align_to(offset, alignment(types[i]))
            self.offsets[i] = offset
            offset += size(types[i])
        self.elements = tuple([codec_of(element) for element in types])
        self.cost = _OBJECT_COST + sum([_POINTER_COST + codec.cost for codec in self.elements])
        if isinstance(type, RecordType):
            self.make = _python_class(type)
            self.names = _field_names(type)
            self.cost += _CALL_COST
            if getattr(self.make, "__dictoffset__", 0):
                self.cost += _DICT_COST

    @cython.cfunc
    def parts(self, value: object) -> tuple:
        if self.names is not None:
            if not isinstance(value, self.make):
                raise TypeError(f"expected {self.make.__name__} for {self.type}, not {_show(value)}")
            return tuple([getattr(value, name) for name in self.names])
        if not isinstance(value, (tuple, list)) or len(value) != self.count:
            raise TypeError(f"expected a tuple of {self.count} for {self.type}, not {_show(value)}")
        return tuple(value)

    @cython.cfunc
    def lift(self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        i: cython.Py_ssize_t
        values: tuple = PyTuple_New(self.count)
        for i in range(self.count):
            element: Codec = cython.cast(Codec, self.elements[i])
            _set(values, i, element.lift(cx, raw))
            raw += element.width
        return values if self.make is None else self.make(*values)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lower(self, cx: LiftLowerContext, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        i: cython.Py_ssize_t
        parts: tuple = self.parts(value)
        for i in range(self.count):
            element: Codec = cython.cast(Codec, self.elements[i])
            element.lower(cx, parts[i], raw)
            raw += element.width
        return 0

    @cython.cfunc
    def load(self, cx: LiftLowerContext, place: cython.pointer(uint8_t)) -> object:
        i: cython.Py_ssize_t
        values: tuple = PyTuple_New(self.count)
        for i in range(self.count):
            element: Codec = cython.cast(Codec, self.elements[i])
            _set(values, i, element.load(cx, place + self.offsets[i]))
        return values if self.make is None else self.make(*values)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def store(self, cx: LiftLowerContext, value: object, pointer: uint64_t) -> cython.int:
        i: cython.Py_ssize_t
        if not self.reallocates:
            return self.put(cx, value, cx.span(pointer, self.size, self.alignment))
        parts: tuple = self.parts(value)
        for i in range(self.count):
            element: Codec = cython.cast(Codec, self.elements[i])
            element.store(cx, parts[i], pointer + self.offsets[i])
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def put(self, cx: LiftLowerContext, value: object, place: cython.pointer(uint8_t)) -> cython.int:
        i: cython.Py_ssize_t
        parts: tuple = self.parts(value)
        for i in range(self.count):
            element: Codec = cython.cast(Codec, self.elements[i])
            element.put(cx, parts[i], place + self.offsets[i])
        return 0

    def __dealloc__(self):
        PyMem_Free(self.offsets)


@cython.cfunc
def _python_class(type: object) -> object:
    if type.python is None:
        raise TypeError(f"{type} has no Python class")
    return type.python


@cython.cfunc
def _field_names(type: object) -> tuple:
    # The Python names may differ from WIT's (`type_` is `type`), so the class has the last word.
    if dataclasses.is_dataclass(type.python):
        names = tuple([field.name for field in dataclasses.fields(type.python)])
    else:
        names = tuple([field.name.replace("-", "_") for field in type.fields])
    _check_count(type, len(names), len(type.fields))
    return names


@cython.cfunc
def _check_count(type: object, there: cython.Py_ssize_t, wanted: cython.Py_ssize_t):
    if there != wanted:
        raise TypeError(f"{type.python.__qualname__} has {there} parts, but {type} has {wanted}")


# Variants, options, results, enums


@cython.cfunc
@cython.exceptval(check=False)
def _load_discriminant(place: cython.pointer(uint8_t), width: uint32_t) -> uint32_t:
    if width == 1:
        return place[0]
    if width == 2:
        return cython.cast(cython.pointer(uint16_t), place)[0]
    return cython.cast(cython.pointer(uint32_t), place)[0]


@cython.cfunc
@cython.exceptval(check=False)
def _put_discriminant(place: cython.pointer(uint8_t), width: uint32_t, tag: uint32_t) -> cython.void:
    if width == 1:
        place[0] = cython.cast(uint8_t, tag)
    elif width == 2:
        cython.cast(cython.pointer(uint16_t), place)[0] = cython.cast(uint16_t, tag)
    else:
        cython.cast(cython.pointer(uint32_t), place)[0] = tag


@cython.cclass
class VariantCodec(Codec):
    """Whatever has cases; subclasses say what a case is in Python."""

    payloads: tuple
    count: uint32_t
    discriminant: uint32_t
    offset: uint32_t

    def __init__(self, type: ValType) -> None:
        Codec.__init__(self, type)
        cases = cases_of(type)
        if not cases:
            raise TypeError("variants must not be empty")
        self.count = len(cases)
        self.payloads = tuple([None if case.type is None else codec_of(case.type) for case in cases])
        self.discriminant = discriminant_size(len(cases))
        self.offset = align_to(
            self.discriminant, max([alignment(case.type) for case in cases if case.type is not None], default=1)
        )
        self.cost = max([codec.cost for codec in self.payloads if codec is not None], default=0)

    @cython.cfunc
    def wrap(self, tag: uint32_t, payload: object) -> object:
        raise TypeError

    @cython.cfunc
    def unwrap(self, value: object, tag: cython.pointer(uint32_t)) -> object:
        raise TypeError

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def check(self, tag: uint32_t) -> cython.int:
        if tag >= self.count:
            raise Trap(f"discriminant {tag} is out of range for {self.type}")
        return 0

    @cython.cfunc
    def lift(self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        tag: uint32_t = raw[0].u32
        self.check(tag)
        payload: Codec | None = self.payloads[tag]
        # A payload narrower than the joined flat type reads the lower bytes: raw values are little-endian.
        return self.wrap(tag, None if payload is None else payload.lift(cx, raw + 1))

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lower(self, cx: LiftLowerContext, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        tag: uint32_t = 0
        content = self.unwrap(value, cython.address(tag))
        return self.lower_case(cx, tag, content, raw)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lower_case(
        self, cx: LiftLowerContext, tag: uint32_t, content: object, raw: cython.pointer(wasmtime_val_raw_t)
    ) -> cython.int:
        i: uint32_t
        # What the case does not use is zero, and so are the upper halves of what it uses in part.
        for i in range(1, self.width):
            raw[i].i64 = 0
        raw[0].i64 = tag
        payload: Codec | None = self.payloads[tag]
        if payload is not None:
            payload.lower(cx, content, raw + 1)
        return 0

    @cython.cfunc
    def load(self, cx: LiftLowerContext, place: cython.pointer(uint8_t)) -> object:
        tag: uint32_t = _load_discriminant(place, self.discriminant)
        self.check(tag)
        payload: Codec | None = self.payloads[tag]
        return self.wrap(tag, None if payload is None else payload.load(cx, place + self.offset))

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def store(self, cx: LiftLowerContext, value: object, pointer: uint64_t) -> cython.int:
        tag: uint32_t = 0
        content = self.unwrap(value, cython.address(tag))
        return self.store_case(cx, tag, content, pointer)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def store_case(self, cx: LiftLowerContext, tag: uint32_t, content: object, pointer: uint64_t) -> cython.int:
        place = cx.span(pointer, self.size, self.alignment)
        payload: Codec | None = self.payloads[tag]
        _put_discriminant(place, self.discriminant, tag)
        if payload is None:
            return 0
        if payload.reallocates:
            return payload.store(cx, content, pointer + self.offset)
        return payload.put(cx, content, place + self.offset)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def put(self, cx: LiftLowerContext, value: object, place: cython.pointer(uint8_t)) -> cython.int:
        tag: uint32_t = 0
        content = self.unwrap(value, cython.address(tag))
        payload: Codec | None = self.payloads[tag]
        _put_discriminant(place, self.discriminant, tag)
        if payload is not None:
            payload.put(cx, content, place + self.offset)
        return 0


@cython.final
@cython.cclass
class WitVariantCodec(VariantCodec):
    forms: tuple
    python: object

    def __init__(self, type: ValType) -> None:
        VariantCodec.__init__(self, type)
        self.python = _python_class(type)
        _check_count(type, len(self.python.__cases__), self.count)
        self.forms = tuple([form for _, _, form in self.python.__cases__])
        self.cost += _OBJECT_COST + _CALL_COST

    @cython.cfunc
    def wrap(self, tag: uint32_t, payload: object) -> object:
        form = self.forms[tag]
        return form if self.payloads[tag] is None else form(payload)

    @cython.cfunc
    def unwrap(self, value: object, tag: cython.pointer(uint32_t)) -> object:
        position: uint32_t
        if not isinstance(value, self.python):
            raise TypeError(f"expected {self.python.__name__} for {self.type}, not {_show(value)}")
        position = value._tag
        if position >= self.count:
            raise TypeError(f"{_show(value)} is no case of {self.type}")
        tag[0] = position
        return None if self.payloads[position] is None else value.value


@cython.final
@cython.cclass
class OptionCodec(VariantCodec):
    wraps: cython.bint

    def __init__(self, type: ValType) -> None:
        VariantCodec.__init__(self, type)
        self.wraps = isinstance(type.payload, OptionType)
        if self.wraps:
            self.cost += _OBJECT_COST + _CALL_COST

    @cython.cfunc
    def wrap(self, tag: uint32_t, payload: object) -> object:
        return Some(payload) if tag and self.wraps else payload

    @cython.cfunc
    def unwrap(self, value: object, tag: cython.pointer(uint32_t)) -> object:
        if value is None:
            tag[0] = 0
            return None
        tag[0] = 1
        if self.wraps:
            if not isinstance(value, Some):
                raise TypeError(f"expected Some(value) or None for {self.type}, not {_show(value)}")
            return value.value
        return value


@cython.final
@cython.cclass
class ResultCodec(VariantCodec):
    def __init__(self, type: ValType) -> None:
        VariantCodec.__init__(self, type)
        # Err is an exception, with its arguments and a dictionary.
        self.cost += _OBJECT_COST + _DICT_COST + _CALL_COST

    @cython.cfunc
    def wrap(self, tag: uint32_t, payload: object) -> object:
        return Err(payload) if tag else Ok(payload)

    @cython.cfunc
    def unwrap(self, value: object, tag: cython.pointer(uint32_t)) -> object:
        if isinstance(value, Ok) and not isinstance(value, Some):
            tag[0] = 0
        elif isinstance(value, Err):
            tag[0] = 1
        else:
            raise TypeError(f"expected Ok or Err for {self.type}, not {_show(value)}")
        content = value.value
        if content is not None and self.payloads[tag[0]] is None:
            raise TypeError(f"{self.type} has no payload in that case, unlike {_show(value)}")
        return content


@cython.final
@cython.cclass
class EnumCodec(Codec):
    """Members of a Python enum, known by identity, or labels when there is no Python class."""

    members: tuple
    positions: dict
    count: uint32_t
    labels: cython.bint

    def __init__(self, type: ValType) -> None:
        Codec.__init__(self, type)
        self.labels = type.python is None
        self.members = type.labels if self.labels else tuple(type.python)
        self.count = len(self.members)
        if not self.labels:
            _check_count(type, self.count, len(type.labels))
        self.positions = {member if self.labels else id(member): i for i, member in enumerate(self.members)}

    @cython.cfunc
    def member(self, tag: uint32_t) -> object:
        if tag >= self.count:
            raise Trap(f"discriminant {tag} is out of range for {self.type}")
        return self.members[tag]

    @cython.cfunc
    @cython.exceptval(0xFFFFFFFF, check=False)
    def position(self, value: object) -> uint32_t:
        found = None
        if not self.labels:
            # Hashing an enum's member runs Python code, its address does not.
            found = self.positions.get(cython.cast(uintptr_t, cython.cast(cython.p_void, value)))
        elif isinstance(value, str):
            found = self.positions.get(value)
        if found is None:
            raise TypeError(f"{_show(value)} is no case of {self.type}")
        return found

    @cython.cfunc
    def lift(self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        return self.member(raw[0].u32)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lower(self, cx: LiftLowerContext, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        raw[0].i64 = self.position(value)
        return 0

    @cython.cfunc
    def load(self, cx: LiftLowerContext, place: cython.pointer(uint8_t)) -> object:
        return self.member(_load_discriminant(place, self.size))

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def put(self, cx: LiftLowerContext, value: object, place: cython.pointer(uint8_t)) -> cython.int:
        _put_discriminant(place, self.size, self.position(value))
        return 0


@cython.final
@cython.cclass
class FlagsCodec(Codec):
    """Values of a Python flag enum; its members are the labels, in order, whatever bits Python gave them.

    Python keeps every combination that ever was, so with very many labels a guest can fill memory slowly.
    """

    python: object
    bits: tuple  # of the members, in Python
    mask: uint32_t
    plain: cython.bint  # Python's bits are WIT's
    known: dict

    def __init__(self, type: ValType) -> None:
        Codec.__init__(self, type)
        self.python = _python_class(type)
        self.bits = tuple([member.value for member in self.python])
        _check_count(type, len(self.bits), len(type.labels))
        if not 0 < len(self.bits) <= 32:
            raise TypeError(f"flags must have 1 to 32 labels, unlike {type}")
        self.mask = cython.cast(uint32_t, 0xFFFFFFFF) >> (32 - len(self.bits))
        self.plain = self.bits == tuple([1 << i for i, _ in enumerate(self.bits)])
        self.known = {}
        self.cost = 16 if len(self.bits) <= _KNOWN_BITS else _COMBINATION_COST

    @cython.cfunc
    def unpack(self, bits: uint32_t) -> object:
        i: cython.Py_ssize_t
        bits &= self.mask  # bits without a label are ignored
        value = self.known.get(bits)
        if value is None:
            number = bits
            if not self.plain:
                number = 0
                for i in range(len(self.bits)):
                    if bits >> i & 1:
                        number |= self.bits[i]
            value = self.python(number)
            if len(self.known) < 1 << _KNOWN_BITS:
                self.known[bits] = value
        return value

    @cython.cfunc
    @cython.exceptval(0xFFFFFFFF, check=True)
    def pack(self, value: object) -> uint32_t:
        i: cython.Py_ssize_t
        bits: uint32_t = 0
        if not isinstance(value, self.python):
            raise TypeError(f"expected {self.python.__name__} for {self.type}, not {_show(value)}")
        number = value.value
        if self.plain:
            if number & ~cython.cast(int64_t, self.mask):
                raise TypeError(f"{_show(value)} has more than the flags of {self.type}")
            return number
        for i in range(len(self.bits)):
            if number & self.bits[i]:
                bits |= cython.cast(uint32_t, 1) << i
        return bits

    @cython.cfunc
    def lift(self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        return self.unpack(raw[0].u32)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lower(self, cx: LiftLowerContext, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        raw[0].i64 = self.pack(value)
        return 0

    @cython.cfunc
    def load(self, cx: LiftLowerContext, place: cython.pointer(uint8_t)) -> object:
        return self.unpack(_load_discriminant(place, self.size))

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def put(self, cx: LiftLowerContext, value: object, place: cython.pointer(uint8_t)) -> cython.int:
        _put_discriminant(place, self.size, self.pack(value))
        return 0


# Handles


@cython.final
@cython.cclass
class HandleCodec(Codec):
    """Own and borrow handles; ``resource`` is the type that handles in the table are compared with.

    A host resource is the Python object, a guest's is a `GuestResource` around the representation.
    """

    resource: object
    python: object
    own: cython.bint

    def __init__(self, type: ValType) -> None:
        Codec.__init__(self, type)
        self.resource = type.resource
        self.python = type.resource.python
        self.own = isinstance(type, OwnType)
        self.cost = _HANDLE_COST if self.python is not None else _HANDLE_COST + _OBJECT_COST

    @cython.cfunc
    def lift_handle(self, cx: LiftLowerContext, handle: uint32_t) -> object:
        type = cython.cast(cython.p_void, self.resource)
        rep = cx.instance.handles.take(handle, type) if self.own else cx.instance.handles.lend(handle, type)
        if self.python is None:
            return GuestResource(cx.instance.handles.account, self.resource, rep, self.own)
        return rep

    @cython.cfunc
    @cython.exceptval(0, check=True)
    def lower_handle(self, cx: LiftLowerContext, value: object) -> uint32_t:
        type = cython.cast(cython.p_void, self.resource)
        if self.python is not None:
            if not isinstance(value, self.python):
                raise TypeError(f"expected {self.python.__name__} for {self.type}, not {_show(value)}")
            return cx.instance.handles.insert(type, value, self.own)
        if not isinstance(value, GuestResource) or cython.cast(GuestResource, value).type is not self.resource:
            raise TypeError(f"expected a resource of a guest for {self.type}, not {_show(value)}")
        resource: GuestResource = cython.cast(GuestResource, value)
        if resource.account is not cx.instance.handles.account:
            raise ValueError(f"the resource {self.resource} belongs to the guest of another store")
        if self.own:
            return cx.instance.handles.insert(type, resource.give(), True)
        resource.check()
        if cx.instance.handles.destructors is not None and self.resource in cx.instance.handles.destructors:
            return cython.cast(uint32_t, resource.rep)
        return cx.instance.handles.insert(type, resource.rep, False)

    @cython.cfunc
    def lift(self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        return self.lift_handle(cx, raw[0].u32)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lower(self, cx: LiftLowerContext, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        raw[0].i64 = self.lower_handle(cx, value)
        return 0

    @cython.cfunc
    def load(self, cx: LiftLowerContext, place: cython.pointer(uint8_t)) -> object:
        return self.lift_handle(cx, cython.cast(cython.pointer(uint32_t), place)[0])

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def put(self, cx: LiftLowerContext, value: object, place: cython.pointer(uint8_t)) -> cython.int:
        cython.cast(cython.pointer(uint32_t), place)[0] = self.lower_handle(cx, value)
        return 0


_codecs: dict = {}


def codec_of(type_: ValType) -> Codec:
    """The codec of a type; types with the same structure and the same Python classes share one."""
    # Equality of types leaves their Python classes out.
    if not isinstance(type_, Type):
        raise TypeError(f"{type_!r} is no value type")
    key = type_, tuple([getattr(part, "python", None) for part in type_.walk()])
    codec = _codecs.get(key)
    if codec is None:
        codec = _codecs[key] = _compile(type_)
    return codec


@cython.cfunc
def _compile(type_: object) -> Codec:
    if isinstance(type_, Primitive):
        if type_ is Primitive.BOOL:
            return BoolCodec(type_)
        if type_ is Primitive.F32:
            return F32Codec(type_)
        if type_ is Primitive.F64:
            return F64Codec(type_)
        if type_ is Primitive.CHAR:
            return CharCodec(type_)
        if type_ is Primitive.STRING:
            return StringCodec(type_)
        return IntegerCodec(type_)
    if isinstance(type_, ListType):
        return BytesCodec(type_) if type_.element is Primitive.U8 else ListCodec(type_)
    if isinstance(type_, (RecordType, TupleType)):
        return RecordCodec(type_)
    if isinstance(type_, VariantType):
        return WitVariantCodec(type_)
    if isinstance(type_, OptionType):
        return OptionCodec(type_)
    if isinstance(type_, ResultType):
        return ResultCodec(type_)
    if isinstance(type_, EnumType):
        return EnumCodec(type_)
    if isinstance(type_, FlagsType):
        return FlagsCodec(type_)
    if isinstance(type_, (OwnType, BorrowType)):
        return HandleCodec(type_)
    raise TypeError(f"{type_!r} is no value type")


@cython.final
@cython.cclass
class Signature:
    """A function type, compiled for both directions (specification: "Lifting and Lowering Values").

    When ``result_is_result`` the function returns the good outcome or raises `Err`.
    """

    def __init__(self, type: FuncType) -> None:
        self.type = type
        self.params = tuple([codec_of(param) for _, param in type.params])
        self.count = len(self.params)
        self.result = None if type.result is None else codec_of(type.result)
        self.result_is_result = isinstance(type.result, ResultType)
        self.ok = self.error = None
        if self.result_is_result:
            self.ok = None if type.result.ok is None else codec_of(type.result.ok)
            self.error = None if type.result.error is None else codec_of(type.result.error)
        codec: Codec
        self.params_alignment = 1
        for codec in self.params:
            self.width += codec.width
            self.lends = self.lends or codec.lends
            self.cost += codec.cost
            self.params_size = align_to(self.params_size, codec.alignment) + codec.size
            self.params_alignment = max(self.params_alignment, codec.alignment)
        self.params_size = align_to(self.params_size, self.params_alignment)
        self.spills_params = self.width > MAX_FLAT_PARAMS
        self.spills_result = self.result is not None and self.result.width > 1
        self.lowered = lowered_core_type(type)
        self.lifted = lifted_core_type(type)

    def result_pointer(self, raw: cython.pointer(wasmtime_val_raw_t)) -> uint32_t:
        """Where a guest wants the result of a function that it imports; the last of its arguments."""
        if not self.spills_result:
            return 0
        return raw[1 if self.spills_params else self.width].u32

    def lift_params(self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        """The arguments of a guest's call, as a tuple. What is borrowed among them is, until the result is lowered."""
        codec: Codec
        i: uint32_t
        at: uint32_t = 0
        if self.count == 0:
            return ()
        cx.open(self.cost)
        arguments: tuple = PyTuple_New(self.count)
        if self.spills_params:
            place = cx.span(raw[0].u32, self.params_size, self.params_alignment)
            for i in range(self.count):
                codec = cython.cast(Codec, self.params[i])
                at = (at + codec.alignment - 1) & ~cython.cast(uint32_t, codec.alignment - 1)
                _set(arguments, i, codec.load(cx, place + at))
                at += codec.size
        else:
            for i in range(self.count):
                codec = cython.cast(Codec, self.params[i])
                _set(arguments, i, codec.lift(cx, raw + at))
                at += codec.width
        return arguments

    def lower_result(
        self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t), value: object, result_pointer: uint32_t
    ) -> cython.int:
        """The answer to a guest's call."""
        if self.result_is_result:
            return self.lower_outcome(cx, raw, 0, value, result_pointer)
        result = self.result
        if result is None:
            if value is not None:
                raise TypeError(f"a function without a result returned {_show(value)}")
        elif self.spills_result:
            cx.span(result_pointer, result.size, result.alignment)
            result.store(cx, value, result_pointer)
        else:
            result.lower(cx, value, raw)
        return 0

    def lower_error(
        self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t), value: object, result_pointer: uint32_t
    ) -> cython.int:
        """The answer to a guest's call when the function raised `Err`."""
        return self.lower_outcome(cx, raw, 1, value, result_pointer)

    def lower_outcome(
        self,
        cx: LiftLowerContext,
        raw: cython.pointer(wasmtime_val_raw_t),
        tag: uint32_t,
        value: object,
        result_pointer: uint32_t,
    ) -> cython.int:
        variant: VariantCodec = cython.cast(VariantCodec, self.result)
        if (self.error if tag else self.ok) is None and value is not None:
            raise TypeError(f"{self.type.result} has no payload in that case, but the function gave {_show(value)}")
        if self.spills_result:
            variant.store_case(cx, tag, value, result_pointer)
        else:
            variant.lower_case(cx, tag, value, raw)
        return 0

    def lower_params(self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t), args: tuple) -> cython.int:
        """The arguments of a call of a guest's function."""
        i: uint32_t
        at: uint32_t = 0
        codec: Codec
        pointer: uint32_t = 0
        if cython.cast(uint32_t, len(args)) != self.count:
            raise TypeError(f"{self.type} takes {self.count} arguments, not {len(args)}")
        if self.spills_params:
            cx.allocate(self.params_size, self.params_alignment, cython.address(pointer))
            for i in range(self.count):
                codec = cython.cast(Codec, self.params[i])
                at = (at + codec.alignment - 1) & ~cython.cast(uint32_t, codec.alignment - 1)
                codec.store(cx, args[i], cython.cast(uint64_t, pointer) + at)
                at += codec.size
            raw[0].i64 = pointer
            return 0
        for i in range(self.count):
            codec = cython.cast(Codec, self.params[i])
            codec.lower(cx, args[i], raw + at)
            at += codec.width
        return 0

    def lift_result(self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        """What a guest's function returned; the bad outcome of a result is raised."""
        result: Codec | None = self.result
        if result is None:
            return None
        cx.open(result.cost)
        if self.spills_result:
            value = result.load(cx, cx.span(raw[0].u32, result.size, result.alignment))
        else:
            value = result.lift(cx, raw)
        if self.result_is_result:
            if isinstance(value, Err):
                raise value
            return value.value
        return value

    # The same for Python, for tests and tools: core values are ints that hold their 64 bits.

    def lift_param_values(self, cx: LiftLowerContext, values: Sequence[int]) -> tuple[object, ...]:
        """`lift_params`: the arguments of a guest's call."""
        raw = _raw_values(values, 17)
        try:
            return self.lift_params(cx, raw)
        finally:
            PyMem_Free(raw)

    def lower_result_values(self, cx: LiftLowerContext, values: Sequence[int], result: object) -> list[int]:
        """`lower_result` of a guest's call with those arguments, or `lower_error` when ``result`` is an `Err`."""
        raw = _raw_values(values, 17)
        try:
            pointer: uint32_t = self.result_pointer(raw)
            if self.result_is_result and isinstance(result, Err):
                self.lower_error(cx, raw, result.value, pointer)
            else:
                self.lower_result(cx, raw, result, pointer)
            cx.instance.handles.end_lends(0)
            return [raw[i].u64 for i in range(len(self.lowered.results))]
        finally:
            PyMem_Free(raw)

    def lower_param_values(self, cx: LiftLowerContext, *arguments: object) -> list[int]:
        """`lower_params`: the core arguments of a call of a guest's function."""
        raw = _raw_values((), 17)
        try:
            self.lower_params(cx, raw, arguments)
            return [raw[i].u64 for i in range(len(self.lifted.params))]
        finally:
            PyMem_Free(raw)

    def lift_result_values(self, cx: LiftLowerContext, values: Sequence[int]) -> object:
        """`lift_result` of what a guest's function returned; raises `Err` for the bad outcome of a result."""
        raw = _raw_values(values, 1)
        try:
            return self.lift_result(cx, raw)
        finally:
            PyMem_Free(raw)

    def __repr__(self) -> str:
        return f"<Signature of {self.type}>"
