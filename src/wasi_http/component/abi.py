"""The canonical ABI (specification: CanonicalABI.md): values between Python and the memory of a guest.

Each type is compiled once into a tree of codecs; nothing looks at types at run time. The four operations are those of
the specification:

``lift``    flat core values become a Python value
``lower``   a Python value becomes flat core values
``load``    bytes of guest memory become a Python value
``store``   a Python value becomes bytes of guest memory

Lifting never runs guest code, so whoever loads checks the bounds of the whole value once and hands host pointers down.
Storing runs the guest's ``realloc``, which may move its memory, so it works on guest pointers, checked at each leaf.

What the guest gets wrong is a `Trap`. What the host gets wrong (a value that is not of the declared type) is a
TypeError or OverflowError for the embedder; the guest never sees a half-written value as an answer.
"""

from __future__ import annotations

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.cpython.unicode import (
    PyUnicode_AsUTF8AndSize,
    PyUnicode_DecodeLatin1,
    PyUnicode_DecodeUTF8,
)
from cython.cimports.libc.math import isnan
from cython.cimports.libc.stdint import (
    int8_t,
    int16_t,
    int32_t,
    int64_t,
    uint8_t,
    uint16_t,
    uint32_t,
    uint64_t,
)
from cython.cimports.libc.string import memcpy
from cython.cimports.wasi_http.component.resources import HandleTable
from cython.cimports.wasi_http.engine.libwasmtime import wasmtime_val_raw_t
from cython.cimports.wasi_http.engine.store import Func, Memory

from wasi_http.component.layout import (
    MAX_FLAT_PARAMS,
    align_to,
    alignment,
    cases_of,
    discriminant_size,
    elements_of,
    flatten,
    lifted_core_type,
    lowered_core_type,
    size,
)
from wasi_http.component.types import (
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
    ValType,
    VariantType,
)
from wasi_http.component.values import Err, Ok, Some
from wasi_http.engine.errors import Trap

__all__ = ["DEFAULT_BUDGET", "ENCODINGS", "Codec", "Context", "Signature", "codec_of"]

#: What the arguments of one call may cost on the host, in bytes: a guest's byte can become a Python object of sixty.
DEFAULT_BUDGET = 128 << 20

_BUDGET = cython.declare(int64_t, DEFAULT_BUDGET)
_ELEMENT_COST = cython.declare(uint64_t, 64)
_MAX_BYTES = cython.declare(uint64_t, (1 << 31) - 1)
_TAG = cython.declare(uint32_t, 1 << 31)

ENCODINGS = {"utf8": UTF8, "utf16": UTF16, "latin1+utf16": LATIN1_UTF16}


@cython.final
@cython.cclass
class Context:
    """What a call needs of its component instance: the canonical options, in one store."""

    def __init__(self, memory: object, realloc: object, handles: object, encoding: int) -> None:
        self.memory = memory
        self.realloc = realloc
        self.handles = handles
        self.encoding = encoding
        self.budget = _BUDGET

    def span(self, pointer: uint64_t, length: uint64_t, alignment: uint32_t) -> cython.pointer(uint8_t):
        if pointer & (alignment - 1):
            raise Trap(f"pointer {pointer} is not aligned to {alignment}")
        if self.memory is None:
            raise Trap("the guest has no memory yet")
        return self.memory.span(pointer, length)

    def allocate(self, size: uint64_t, alignment: uint32_t, old: uint32_t, old_size: uint64_t) -> uint32_t:
        """Asks the guest for memory; the answer is checked."""
        raw: wasmtime_val_raw_t[4]
        pointer: uint32_t
        if size > _MAX_BYTES:
            raise Trap(f"a value of {size} bytes does not fit into a guest")
        if self.realloc is None:
            raise Trap("the guest has no realloc yet")
        raw[0].i64 = old
        raw[1].i64 = cython.cast(int64_t, old_size)
        raw[2].i64 = alignment
        raw[3].i64 = cython.cast(int64_t, size)
        self.handles.may_leave = False
        try:
            self.realloc.call_raw(raw, 4)
        finally:
            self.handles.may_leave = True
        pointer = raw[0].u32
        if pointer & (alignment - 1):
            raise Trap(f"realloc returned {pointer}, which is not aligned to {alignment}")
        self.memory.span(pointer, size)
        return pointer

    def charge(self, cost: uint64_t) -> cython.int:
        if cost > cython.cast(uint64_t, self.budget):
            raise Trap("the arguments of one call are too large for the host")
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

    def lift(self, cx: Context, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        raise TypeError(f"no codec lifts {self.type}")

    def lower(self, cx: Context, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        raise TypeError(f"no codec lowers {self.type}")

    def load(self, cx: Context, place: cython.pointer(uint8_t)) -> object:
        raise TypeError(f"no codec loads {self.type}")

    def store(self, cx: Context, value: object, pointer: uint64_t) -> cython.int:
        raise TypeError(f"no codec stores {self.type}")

    def __repr__(self) -> str:
        return f"<Codec of {self.type}>"


# Numbers


@cython.final
@cython.cclass
class BoolCodec(Codec):
    @cython.cfunc
    def lift(self, cx: Context, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        return raw[0].i32 != 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lower(self, cx: Context, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        raw[0].i64 = 1 if value else 0
        return 0

    @cython.cfunc
    def load(self, cx: Context, place: cython.pointer(uint8_t)) -> object:
        return place[0] != 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def store(self, cx: Context, value: object, pointer: uint64_t) -> cython.int:
        cx.span(pointer, 1, 1)[0] = 1 if value else 0
        return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _refuse_integer(codec: Codec, value: object) -> cython.int:
    if not isinstance(value, int):
        raise TypeError(f"expected an int for {codec.type}, not {value!r}")
    raise OverflowError(f"{value} is out of range for {codec.type}")


@cython.final
@cython.cclass
class IntegerCodec(Codec):
    """All integers: ``signed`` and ``size`` tell them apart."""

    signed: cython.bint

    def __init__(self, type: ValType) -> None:
        Codec.__init__(self, type)
        self.signed = str(type).startswith("s")

    @cython.cfunc
    def lift(self, cx: Context, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        # The upper bits that a narrow type does not have are ignored.
        return self.load(cx, cython.cast(cython.pointer(uint8_t), raw))

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lower(self, cx: Context, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        if self.signed:
            signed: int64_t = self.signed_value(value)
            raw[0].i64 = signed
            if self.size < 8:
                raw[0].u64 = raw[0].u32
        else:
            raw[0].u64 = self.unsigned_value(value)
        return 0

    @cython.cfunc
    def load(self, cx: Context, place: cython.pointer(uint8_t)) -> object:
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
    def store(self, cx: Context, value: object, pointer: uint64_t) -> cython.int:
        number: uint64_t
        if self.signed:
            number = cython.cast(uint64_t, self.signed_value(value))
        else:
            number = self.unsigned_value(value)
        # Little-endian, as every platform that wasmtime compiles for is.
        memcpy(cx.span(pointer, self.size, self.alignment), cython.address(number), self.size)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=True)
    def signed_value(self, value: object) -> int64_t:
        number: int64_t
        bits: cython.int = self.size * 8
        try:
            number = value
        except (OverflowError, TypeError):
            _refuse_integer(self, value)
        if bits < 64 and not -(cython.cast(int64_t, 1) << (bits - 1)) <= number < (cython.cast(int64_t, 1) << (bits - 1)):
            _refuse_integer(self, value)
        return number

    @cython.cfunc
    @cython.exceptval(0, check=True)
    def unsigned_value(self, value: object) -> uint64_t:
        number: uint64_t
        try:
            number = value
        except (OverflowError, TypeError):
            _refuse_integer(self, value)
        if self.size < 8 and number >> (self.size * 8):
            _refuse_integer(self, value)
        return number


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
    @cython.cfunc
    def lift(self, cx: Context, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        return _canonical32(raw[0].f32)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lower(self, cx: Context, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        raw[0].i64 = 0
        raw[0].f32 = _canonical32(value)
        return 0

    @cython.cfunc
    def load(self, cx: Context, place: cython.pointer(uint8_t)) -> object:
        return _canonical32(cython.cast(cython.pointer(cython.float), place)[0])

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def store(self, cx: Context, value: object, pointer: uint64_t) -> cython.int:
        number: cython.float = _canonical32(value)
        memcpy(cx.span(pointer, 4, 4), cython.address(number), 4)
        return 0


@cython.final
@cython.cclass
class F64Codec(Codec):
    @cython.cfunc
    def lift(self, cx: Context, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        return _canonical64(raw[0].f64)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lower(self, cx: Context, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        raw[0].f64 = _canonical64(value)
        return 0

    @cython.cfunc
    def load(self, cx: Context, place: cython.pointer(uint8_t)) -> object:
        return _canonical64(cython.cast(cython.pointer(cython.double), place)[0])

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def store(self, cx: Context, value: object, pointer: uint64_t) -> cython.int:
        number: cython.double = _canonical64(value)
        memcpy(cx.span(pointer, 8, 8), cython.address(number), 8)
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
        raise TypeError(f"expected a str of one character for char, not {value!r}")
    code: uint32_t = ord(value)
    if 0xD800 <= code <= 0xDFFF:
        raise TypeError("a surrogate is no char")
    return code


@cython.final
@cython.cclass
class CharCodec(Codec):
    @cython.cfunc
    def lift(self, cx: Context, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        return _character(raw[0].u32)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lower(self, cx: Context, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        raw[0].i64 = _code(value)
        return 0

    @cython.cfunc
    def load(self, cx: Context, place: cython.pointer(uint8_t)) -> object:
        return _character(cython.cast(cython.pointer(uint32_t), place)[0])

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def store(self, cx: Context, value: object, pointer: uint64_t) -> cython.int:
        code: uint32_t = _code(value)
        memcpy(cx.span(pointer, 4, 4), cython.address(code), 4)
        return 0


@cython.cfunc
def _decode(cx: Context, pointer: uint32_t, tagged: uint32_t) -> object:
    """A string that lies at ``pointer``; the length is in code units of the encoding, with its tag bit."""
    length: uint64_t = tagged
    place: cython.pointer(uint8_t)
    if cx.encoding == UTF8:
        place = cx.span(pointer, length, 1)
        cx.charge(length)
        try:
            return PyUnicode_DecodeUTF8(cython.cast(cython.p_char, place), length, cython.NULL)
        except UnicodeDecodeError as error:
            raise Trap(f"a string is no UTF-8: {error.reason} at byte {error.start}") from None
    if cx.encoding == LATIN1_UTF16 and not tagged & _TAG:
        place = cx.span(pointer, length, 2)
        cx.charge(length)
        return PyUnicode_DecodeLatin1(cython.cast(cython.p_char, place), length, cython.NULL)
    if cx.encoding == LATIN1_UTF16:
        length = tagged ^ _TAG
    place = cx.span(pointer, 2 * length, 2)
    cx.charge(2 * length)
    try:
        return PyBytes_FromStringAndSize(cython.cast(cython.p_char, place), 2 * length).decode("utf-16-le")
    except UnicodeDecodeError as error:
        raise Trap(f"a string is no UTF-16: {error.reason} at byte {error.start}") from None


@cython.cfunc
@cython.exceptval(-1, check=False)
def _encode(cx: Context, value: object, pointer: cython.pointer(uint32_t), tagged: cython.pointer(uint32_t)) -> cython.int:
    length: cython.Py_ssize_t = 0
    data: bytes
    source: cython.p_const_char
    if not isinstance(value, str):
        raise TypeError(f"expected a str for string, not {type(value).__name__}")
    if cx.encoding == UTF8:
        source = PyUnicode_AsUTF8AndSize(value, cython.address(length))
        pointer[0] = cx.allocate(length, 1, 0, 0)
        memcpy(cx.span(pointer[0], length, 1), source, length)
        tagged[0] = length
        return 0
    tag: uint32_t = 0
    unit: uint32_t = 2
    if cx.encoding == UTF16:
        data = value.encode("utf-16-le")
    else:
        try:
            data = value.encode("latin-1")
            unit = 1
        except UnicodeEncodeError:
            data = value.encode("utf-16-le")
            tag = _TAG
    length = PyBytes_GET_SIZE(data)
    pointer[0] = cx.allocate(length, 2, 0, 0)
    memcpy(cx.span(pointer[0], length, 2), PyBytes_AS_STRING(data), length)
    tagged[0] = cython.cast(uint32_t, length // unit) | tag
    return 0


@cython.final
@cython.cclass
class StringCodec(Codec):
    @cython.cfunc
    def lift(self, cx: Context, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        return _decode(cx, raw[0].u32, raw[1].u32)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lower(self, cx: Context, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        pointer: uint32_t = 0
        length: uint32_t = 0
        _encode(cx, value, cython.address(pointer), cython.address(length))
        raw[0].i64 = pointer
        raw[1].i64 = length
        return 0

    @cython.cfunc
    def load(self, cx: Context, place: cython.pointer(uint8_t)) -> object:
        pair = cython.cast(cython.pointer(uint32_t), place)
        return _decode(cx, pair[0], pair[1])

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def store(self, cx: Context, value: object, pointer: uint64_t) -> cython.int:
        pair: uint32_t[2]
        _encode(cx, value, cython.address(pair[0]), cython.address(pair[1]))
        memcpy(cx.span(pointer, 8, 4), pair, 8)
        return 0


# Lists


@cython.cclass
class SequenceCodec(Codec):
    """A list, lifted from and lowered to a pointer and a length."""

    @cython.cfunc
    def gather(self, cx: Context, pointer: uint32_t, length: uint32_t) -> object:
        raise TypeError

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def spread(self, cx: Context, value: object, pair: cython.pointer(uint32_t)) -> cython.int:
        raise TypeError

    @cython.cfunc
    def lift(self, cx: Context, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        return self.gather(cx, raw[0].u32, raw[1].u32)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lower(self, cx: Context, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        pair: uint32_t[2]
        self.spread(cx, value, pair)
        raw[0].i64 = pair[0]
        raw[1].i64 = pair[1]
        return 0

    @cython.cfunc
    def load(self, cx: Context, place: cython.pointer(uint8_t)) -> object:
        pair = cython.cast(cython.pointer(uint32_t), place)
        return self.gather(cx, pair[0], pair[1])

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def store(self, cx: Context, value: object, pointer: uint64_t) -> cython.int:
        pair: uint32_t[2]
        self.spread(cx, value, pair)
        memcpy(cx.span(pointer, 8, 4), pair, 8)
        return 0


@cython.final
@cython.cclass
class BytesCodec(SequenceCodec):
    """``list<u8>``: one copy each way."""

    @cython.cfunc
    def gather(self, cx: Context, pointer: uint32_t, length: uint32_t) -> object:
        place = cx.span(pointer, length, 1)
        cx.charge(length)
        return PyBytes_FromStringAndSize(cython.cast(cython.p_char, place), length)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def spread(self, cx: Context, value: object, pair: cython.pointer(uint32_t)) -> cython.int:
        length: cython.size_t
        view: cython.const[cython.uchar][:]
        if isinstance(value, bytes):
            length = PyBytes_GET_SIZE(value)
            pair[0] = cx.allocate(length, 1, 0, 0)
            memcpy(cx.span(pair[0], length, 1), PyBytes_AS_STRING(value), length)
        elif isinstance(value, (bytearray, memoryview)):
            view = value
            length = view.shape[0]
            pair[0] = cx.allocate(length, 1, 0, 0)
            if length:
                memcpy(cx.span(pair[0], length, 1), cython.address(view[0]), length)
        else:
            raise TypeError(f"expected bytes for list<u8>, not {type(value).__name__}")
        pair[1] = length
        return 0


@cython.final
@cython.cclass
class ListCodec(SequenceCodec):
    element: Codec

    def __init__(self, type: ValType) -> None:
        Codec.__init__(self, type)
        self.element = codec_of(type.element)

    @cython.cfunc
    def gather(self, cx: Context, pointer: uint32_t, length: uint32_t) -> object:
        i: uint32_t
        element: Codec = self.element
        place = cx.span(pointer, cython.cast(uint64_t, length) * element.size, element.alignment)
        cx.charge(length * _ELEMENT_COST)
        values: list = []
        for i in range(length):
            values.append(element.load(cx, place + cython.cast(uint64_t, i) * element.size))
        return values

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def spread(self, cx: Context, value: object, pair: cython.pointer(uint32_t)) -> cython.int:
        i: uint64_t = 0
        element: Codec = self.element
        if isinstance(value, (str, bytes)):
            raise TypeError(f"expected a sequence for {self.type}, not {type(value).__name__}")
        values = value if isinstance(value, (list, tuple)) else list(value)
        length: uint64_t = len(values)
        pair[0] = cx.allocate(length * element.size, element.alignment, 0, 0)
        pair[1] = cython.cast(uint32_t, length)
        for item in values:
            if i == length:
                break
            element.store(cx, item, pair[0] + i * element.size)
            i += 1
        return 0


# Records and tuples


@cython.final
@cython.cclass
class ProductCodec(Codec):
    """Records (made by calling their class with the fields in order) and tuples."""

    names: tuple
    make: object
    elements: tuple
    offsets: tuple

    def __init__(self, type: ValType) -> None:
        Codec.__init__(self, type)
        types = elements_of(type)
        offsets = []
        offset = 0
        for element in types:
            offset = align_to(offset, alignment(element))
            offsets.append(offset)
            offset += size(element)
        self.offsets = tuple(offsets)
        self.elements = tuple(codec_of(element) for element in types)
        self.names = None
        self.make = None
        if isinstance(type, RecordType):
            self.names = tuple(field.name.replace("-", "_") for field in type.fields)
            self.make = type.python
            if self.make is None:
                raise TypeError(f"{type} has no Python class")

    @cython.cfunc
    def assemble(self, values: list) -> object:
        return tuple(values) if self.make is None else self.make(*values)

    @cython.cfunc
    def parts(self, value: object) -> tuple:
        if self.names is not None:
            if not isinstance(value, self.make):
                raise TypeError(f"expected {self.make.__name__} for {self.type}, not {value!r}")
            return tuple([getattr(value, name) for name in self.names])
        parts = tuple(value)
        if len(parts) != len(self.elements):
            raise TypeError(f"expected {len(self.elements)} elements for {self.type}, not {len(parts)}")
        return parts

    @cython.cfunc
    def lift(self, cx: Context, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        values: list = []
        at: uint32_t = 0
        element: Codec
        for element in self.elements:
            values.append(element.lift(cx, raw + at))
            at += element.width
        return self.assemble(values)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lower(self, cx: Context, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        i: cython.Py_ssize_t
        at: uint32_t = 0
        parts = self.parts(value)
        for i in range(len(parts)):
            element: Codec = self.elements[i]
            element.lower(cx, parts[i], raw + at)
            at += element.width
        return 0

    @cython.cfunc
    def load(self, cx: Context, place: cython.pointer(uint8_t)) -> object:
        i: cython.Py_ssize_t
        offset: uint32_t
        values: list = []
        for i in range(len(self.elements)):
            offset = self.offsets[i]
            element: Codec = self.elements[i]
            values.append(element.load(cx, place + offset))
        return self.assemble(values)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def store(self, cx: Context, value: object, pointer: uint64_t) -> cython.int:
        i: cython.Py_ssize_t
        offset: uint32_t
        parts = self.parts(value)
        for i in range(len(parts)):
            offset = self.offsets[i]
            element: Codec = self.elements[i]
            element.store(cx, parts[i], pointer + offset)
        return 0


# Variants, options, results, enums


@cython.cfunc
@cython.exceptval(check=False)
def _load_discriminant(place: cython.pointer(uint8_t), width: uint32_t) -> uint32_t:
    if width == 1:
        return place[0]
    if width == 2:
        return cython.cast(cython.pointer(uint16_t), place)[0]
    return cython.cast(cython.pointer(uint32_t), place)[0]


@cython.cclass
class SumCodec(Codec):
    """Whatever has cases; subclasses say what a case is in Python."""

    payloads: tuple
    discriminant: uint32_t
    offset: uint32_t

    def __init__(self, type: ValType) -> None:
        Codec.__init__(self, type)
        cases = cases_of(type)
        self.payloads = tuple(None if case.type is None else codec_of(case.type) for case in cases)
        self.discriminant = discriminant_size(len(cases))
        self.offset = align_to(
            self.discriminant, max([alignment(case.type) for case in cases if case.type is not None], default=1)
        )

    @cython.cfunc
    def wrap(self, tag: uint32_t, payload: object) -> object:
        raise TypeError

    @cython.cfunc
    def unwrap(self, value: object, tag: cython.pointer(uint32_t)) -> object:
        raise TypeError

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def check(self, tag: uint32_t) -> cython.int:
        if tag >= cython.cast(uint32_t, len(self.payloads)):
            raise Trap(f"discriminant {tag} is out of range for {self.type}")
        return 0

    @cython.cfunc
    def lift(self, cx: Context, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        tag: uint32_t = raw[0].u32
        self.check(tag)
        payload: Codec | None = self.payloads[tag]
        # A payload narrower than the joined flat type reads the lower bytes: wasm values are little-endian here.
        return self.wrap(tag, None if payload is None else payload.lift(cx, raw + 1))

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lower(self, cx: Context, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        tag: uint32_t = 0
        content = self.unwrap(value, cython.address(tag))
        return self.lower_case(cx, tag, content, raw)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lower_case(
        self, cx: Context, tag: uint32_t, content: object, raw: cython.pointer(wasmtime_val_raw_t)
    ) -> cython.int:
        i: uint32_t
        for i in range(1, self.width):
            raw[i].i64 = 0
        raw[0].i64 = tag
        payload: Codec | None = self.payloads[tag]
        if payload is not None:
            payload.lower(cx, content, raw + 1)
        return 0

    @cython.cfunc
    def load(self, cx: Context, place: cython.pointer(uint8_t)) -> object:
        tag: uint32_t = _load_discriminant(place, self.discriminant)
        self.check(tag)
        payload: Codec | None = self.payloads[tag]
        return self.wrap(tag, None if payload is None else payload.load(cx, place + self.offset))

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def store(self, cx: Context, value: object, pointer: uint64_t) -> cython.int:
        tag: uint32_t = 0
        content = self.unwrap(value, cython.address(tag))
        return self.store_case(cx, tag, content, pointer)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def store_case(self, cx: Context, tag: uint32_t, content: object, pointer: uint64_t) -> cython.int:
        memcpy(cx.span(pointer, self.discriminant, self.discriminant), cython.address(tag), self.discriminant)
        payload: Codec | None = self.payloads[tag]
        if payload is not None:
            payload.store(cx, content, pointer + self.offset)
        return 0


@cython.final
@cython.cclass
class VariantCodec(SumCodec):
    forms: tuple
    python: object

    def __init__(self, type: ValType) -> None:
        SumCodec.__init__(self, type)
        self.python = type.python
        if self.python is None:
            raise TypeError(f"{type} has no Python class")
        self.forms = tuple(form for _, _, form in type.python.__cases__)

    @cython.cfunc
    def wrap(self, tag: uint32_t, payload: object) -> object:
        form = self.forms[tag]
        return form if self.payloads[tag] is None else form(payload)

    @cython.cfunc
    def unwrap(self, value: object, tag: cython.pointer(uint32_t)) -> object:
        if not isinstance(value, self.python):
            raise TypeError(f"expected {self.python.__name__} for {self.type}, not {value!r}")
        tag[0] = value._tag
        return None if self.payloads[tag[0]] is None else value.value


@cython.final
@cython.cclass
class OptionCodec(SumCodec):
    wraps: cython.bint

    def __init__(self, type: ValType) -> None:
        SumCodec.__init__(self, type)
        self.wraps = isinstance(type.payload, OptionType)

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
                raise TypeError(f"expected Some(value) or None for {self.type}, not {value!r}")
            return value.value
        return value


@cython.final
@cython.cclass
class ResultCodec(SumCodec):
    @cython.cfunc
    def wrap(self, tag: uint32_t, payload: object) -> object:
        return Err(payload) if tag else Ok(payload)

    @cython.cfunc
    def unwrap(self, value: object, tag: cython.pointer(uint32_t)) -> object:
        if isinstance(value, Ok):
            tag[0] = 0
        elif isinstance(value, Err):
            tag[0] = 1
        else:
            raise TypeError(f"expected Ok or Err for {self.type}, not {value!r}")
        return value.value


@cython.final
@cython.cclass
class EnumCodec(Codec):
    members: tuple
    positions: dict
    count: uint32_t

    def __init__(self, type: ValType) -> None:
        Codec.__init__(self, type)
        self.members = tuple(type.python) if type.python is not None else type.labels
        self.positions = {member: i for i, member in enumerate(self.members)}
        self.count = len(self.members)

    @cython.cfunc
    def member(self, tag: uint32_t) -> object:
        if tag >= self.count:
            raise Trap(f"discriminant {tag} is out of range for {self.type}")
        return self.members[tag]

    @cython.cfunc
    @cython.exceptval(0xFFFFFFFF, check=False)
    def position(self, value: object) -> uint32_t:
        found = self.positions.get(value)
        if found is None:
            raise TypeError(f"{value!r} is no case of {self.type}")
        return found

    @cython.cfunc
    def lift(self, cx: Context, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        return self.member(raw[0].u32)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lower(self, cx: Context, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        raw[0].i64 = self.position(value)
        return 0

    @cython.cfunc
    def load(self, cx: Context, place: cython.pointer(uint8_t)) -> object:
        return self.member(_load_discriminant(place, self.size))

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def store(self, cx: Context, value: object, pointer: uint64_t) -> cython.int:
        tag: uint32_t = self.position(value)
        memcpy(cx.span(pointer, self.size, self.size), cython.address(tag), self.size)
        return 0


@cython.final
@cython.cclass
class FlagsCodec(Codec):
    python: object
    members: tuple
    mask: uint32_t

    def __init__(self, type: ValType) -> None:
        Codec.__init__(self, type)
        self.python = type.python
        if self.python is None:
            raise TypeError(f"{type} has no Python class")
        self.members = tuple(type.python)
        self.mask = (1 << len(self.members)) - 1

    @cython.cfunc
    def unpack(self, bits: uint32_t) -> object:
        i: cython.int
        value = self.python(0)
        bits &= self.mask  # bits without a label are ignored
        for i in range(len(self.members)):
            if bits >> i & 1:
                value |= self.members[i]
        return value

    @cython.cfunc
    @cython.exceptval(0xFFFFFFFF, check=True)
    def pack(self, value: object) -> uint32_t:
        i: cython.int
        bits: uint32_t = 0
        if not isinstance(value, self.python):
            raise TypeError(f"expected {self.python.__name__} for {self.type}, not {value!r}")
        for i in range(len(self.members)):
            if self.members[i] in value:
                bits |= cython.cast(uint32_t, 1) << i
        return bits

    @cython.cfunc
    def lift(self, cx: Context, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        return self.unpack(raw[0].u32)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lower(self, cx: Context, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        raw[0].i64 = self.pack(value)
        return 0

    @cython.cfunc
    def load(self, cx: Context, place: cython.pointer(uint8_t)) -> object:
        return self.unpack(_load_discriminant(place, self.size))

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def store(self, cx: Context, value: object, pointer: uint64_t) -> cython.int:
        bits: uint32_t = self.pack(value)
        memcpy(cx.span(pointer, self.size, self.size), cython.address(bits), self.size)
        return 0


# Handles


@cython.cclass
class HandleCodec(Codec):
    """Own and borrow handles; ``resource`` is the type that handles in the table are compared with."""

    resource: object
    python: object
    own: cython.bint

    def __init__(self, type: ValType) -> None:
        Codec.__init__(self, type)
        self.resource = type.resource
        self.python = type.resource.python
        self.own = isinstance(type, OwnType)

    @cython.cfunc
    def lift_handle(self, cx: Context, handle: uint32_t) -> object:
        if self.own:
            return cx.handles.take(handle, cython.cast(cython.p_void, self.resource))
        return cx.handles.rep_of(handle, cython.cast(cython.p_void, self.resource))

    @cython.cfunc
    @cython.exceptval(0, check=False)
    def lower_handle(self, cx: Context, value: object) -> uint32_t:
        if self.python is not None and not isinstance(value, self.python):
            raise TypeError(f"expected {self.python.__name__} for {self.type}, not {value!r}")
        return cx.handles.insert(cython.cast(cython.p_void, self.resource), value, self.own)

    @cython.cfunc
    def lift(self, cx: Context, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        return self.lift_handle(cx, raw[0].u32)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def lower(self, cx: Context, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        raw[0].i64 = self.lower_handle(cx, value)
        return 0

    @cython.cfunc
    def load(self, cx: Context, place: cython.pointer(uint8_t)) -> object:
        return self.lift_handle(cx, cython.cast(cython.pointer(uint32_t), place)[0])

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def store(self, cx: Context, value: object, pointer: uint64_t) -> cython.int:
        place = cython.cast(cython.pointer(uint32_t), cx.span(pointer, 4, 4))
        place[0] = self.lower_handle(cx, value)
        return 0


_codecs: dict = {}


def codec_of(type_: ValType) -> Codec:
    """The codec of a type; types with the same structure and the same Python classes share one."""
    # Equality of types leaves the Python classes out, so they are part of the key.
    key = (type_, repr(type_))
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
        return ProductCodec(type_)
    if isinstance(type_, VariantType):
        return VariantCodec(type_)
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
        self.params = tuple(codec_of(param) for _, param in type.params)
        self.count = len(self.params)
        self.result = None if type.result is None else codec_of(type.result)
        self.result_is_result = isinstance(type.result, ResultType)
        self.ok = self.error = None
        if self.result_is_result:
            self.ok = None if type.result.ok is None else codec_of(type.result.ok)
            self.error = None if type.result.error is None else codec_of(type.result.error)
        self.width = sum(len(codec.flat) for codec in self.params)
        self.spills_params = self.width > MAX_FLAT_PARAMS
        self.spills_result = self.result is not None and self.result.width > 1
        self.params_size = 0
        self.params_alignment = 1
        for codec in self.params:
            self.params_size = align_to(self.params_size, codec.alignment) + codec.size
            self.params_alignment = max(self.params_alignment, codec.alignment)
        self.lowered = lowered_core_type(type)
        self.lifted = lifted_core_type(type)

    def result_pointer(self, raw: cython.pointer(wasmtime_val_raw_t)) -> uint32_t:
        """Where a guest wants the result of a function that it imports; the last of its arguments."""
        if not self.spills_result:
            return 0
        return raw[1 if self.spills_params else self.width].u32

    def lift_params(self, cx: Context, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        """The arguments of a guest's call, as a tuple."""
        codec: Codec
        at: uint32_t = 0
        cx.budget = _BUDGET
        if self.count == 0:
            return ()
        if self.count == 1 and not self.spills_params:
            codec = self.params[0]
            return (codec.lift(cx, raw),)
        arguments: list = []
        if self.spills_params:
            place = cx.span(raw[0].u32, self.params_size, self.params_alignment)
            for codec in self.params:
                at = (at + codec.alignment - 1) & ~(codec.alignment - 1)
                arguments.append(codec.load(cx, place + at))
                at += codec.size
        else:
            for codec in self.params:
                arguments.append(codec.lift(cx, raw + at))
                at += codec.width
        return tuple(arguments)

    def lower_result(
        self, cx: Context, raw: cython.pointer(wasmtime_val_raw_t), value: object, result_pointer: uint32_t
    ) -> cython.int:
        """The answer to a guest's call."""
        result = self.result
        if result is None:
            if value is not None:
                raise TypeError(f"a function without a result returned {value!r}")
            return 0
        if self.result_is_result:
            return self.lower_outcome(cx, raw, 0, value, result_pointer)
        if self.spills_result:
            cx.span(result_pointer, result.size, result.alignment)
            return result.store(cx, value, result_pointer)
        return result.lower(cx, value, raw)

    def lower_error(
        self, cx: Context, raw: cython.pointer(wasmtime_val_raw_t), value: object, result_pointer: uint32_t
    ) -> cython.int:
        """The answer to a guest's call when the function raised `Err`."""
        return self.lower_outcome(cx, raw, 1, value, result_pointer)

    def lower_outcome(
        self,
        cx: Context,
        raw: cython.pointer(wasmtime_val_raw_t),
        tag: uint32_t,
        value: object,
        result_pointer: uint32_t,
    ) -> cython.int:
        sum_: SumCodec = cython.cast(SumCodec, self.result)
        if (self.error if tag else self.ok) is None and value is not None:
            raise TypeError(f"{self.type.result} has no payload there, but the function gave {value!r}")
        if self.spills_result:
            cx.span(result_pointer, sum_.size, sum_.alignment)
            return sum_.store_case(cx, tag, value, result_pointer)
        return sum_.lower_case(cx, tag, value, raw)

    def lower_params(self, cx: Context, raw: cython.pointer(wasmtime_val_raw_t), args: tuple) -> cython.int:
        """The arguments of a call of a guest's function."""
        i: cython.Py_ssize_t
        at: uint32_t = 0
        codec: Codec
        pointer: uint32_t
        if len(args) != self.count:
            raise TypeError(f"{self.type} takes {self.count} arguments, not {len(args)}")
        if self.spills_params:
            pointer = cx.allocate(self.params_size, self.params_alignment, 0, 0)
            for i in range(len(args)):
                codec = self.params[i]
                at = (at + codec.alignment - 1) & ~(codec.alignment - 1)
                codec.store(cx, args[i], pointer + at)
                at += codec.size
            raw[0].i64 = pointer
            return 0
        for i in range(len(args)):
            codec = self.params[i]
            codec.lower(cx, args[i], raw + at)
            at += codec.width
        return 0

    def lift_result(self, cx: Context, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        """What a guest's function returned; the bad outcome of a result is raised."""
        result: Codec | None = self.result
        if result is None:
            return None
        cx.budget = _BUDGET
        if self.spills_result:
            value = result.load(cx, cx.span(raw[0].u32, result.size, result.alignment))
        else:
            value = result.lift(cx, raw)
        if self.result_is_result:
            if isinstance(value, Err):
                raise value
            return value.value
        return value

    def __repr__(self) -> str:
        return f"<Signature of {self.type}>"
