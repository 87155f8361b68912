"""Records and tuples; variants, options and results; enums and flags."""

from __future__ import annotations

import dataclasses

import cython
from cython.cimports.cpython.mem import PyMem_Free, PyMem_Malloc
from cython.cimports.cpython.tuple import PyTuple_New
from cython.cimports.libc.stdint import int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from cython.cimports.wasi_http.component.abi.codec import (
    CALL_COST,
    DICT_COST,
    OBJECT_COST,
    POINTER_COST,
    Codec,
    set_item,
    show,
)
from cython.cimports.wasi_http.component.abi.context import LiftLowerContext
from cython.cimports.wasi_http.engine.libwasmtime import wasmtime_val_raw_t

from wasi_http.component.abi.layout import align_to, discriminant_size
from wasi_http.component.model.types import OptionType, RecordType, ValType
from wasi_http.component.model.values import Err, Ok, Some
from wasi_http.engine.errors import Trap

__all__ = ["EnumCodec", "FlagsCodec", "OptionCodec", "RecordCodec", "ResultCodec", "VariantCodec", "WitVariantCodec"]

# Python decomposes a new combination of flags into members, which takes microseconds.
_COMBINATION_COST = cython.declare(uint32_t, 2000)
# All combinations of this many flags are cached, and as many of larger types.
_KNOWN_BITS = cython.declare(cython.int, 10)


@cython.final
@cython.cclass
class RecordCodec(Codec):
    """Records, made by calling their class with the fields in order, and tuples."""

    def __init__(self, type: ValType, parts: tuple) -> None:
        Codec.__init__(self, type)
        if not parts:
            raise TypeError("records and tuples must not be empty")
        i: cython.Py_ssize_t
        offset = 0
        self.count = len(parts)
        self.offsets = cython.cast(cython.pointer(uint32_t), PyMem_Malloc(self.count * cython.sizeof(uint32_t)))
        if self.offsets == cython.NULL:
            raise MemoryError
        for i in range(self.count):
            offset = align_to(offset, parts[i].alignment)
            self.offsets[i] = offset
            offset += parts[i].size
        self.elements = parts
        self.cost = OBJECT_COST + sum([POINTER_COST + codec.cost for codec in self.elements])
        if isinstance(type, RecordType):
            self.make = _python_class(type)
            self.names = _field_names(type)
            self.cost += CALL_COST
            if getattr(self.make, "__dictoffset__", 0):
                self.cost += DICT_COST

    def parts(self, value: object) -> tuple:
        if self.names is not None:
            if not isinstance(value, self.make):
                raise TypeError(f"expected {self.make.__name__} for {self.type}, not {show(value)}")
            return tuple([getattr(value, name) for name in self.names])
        if not isinstance(value, (tuple, list)) or len(value) != self.count:
            raise TypeError(f"expected a tuple of {self.count} for {self.type}, not {show(value)}")
        return tuple(value)

    def lift(self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        i: cython.Py_ssize_t
        values: tuple = PyTuple_New(self.count)
        for i in range(self.count):
            element: Codec = cython.cast(Codec, self.elements[i])
            set_item(values, i, element.lift(cx, raw))
            raw += element.width
        return values if self.make is None else self.make(*values)

    def lower(self, cx: LiftLowerContext, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        i: cython.Py_ssize_t
        parts: tuple = self.parts(value)
        for i in range(self.count):
            element: Codec = cython.cast(Codec, self.elements[i])
            element.lower(cx, parts[i], raw)
            raw += element.width
        return 0

    def load(self, cx: LiftLowerContext, place: cython.pointer(uint8_t)) -> object:
        i: cython.Py_ssize_t
        values: tuple = PyTuple_New(self.count)
        for i in range(self.count):
            element: Codec = cython.cast(Codec, self.elements[i])
            set_item(values, i, element.load(cx, place + self.offsets[i]))
        return values if self.make is None else self.make(*values)

    def store(self, cx: LiftLowerContext, value: object, pointer: uint64_t) -> cython.int:
        i: cython.Py_ssize_t
        if not self.reallocates:
            return self.put(cx, value, cx.span(pointer, self.size, self.alignment))
        parts: tuple = self.parts(value)
        for i in range(self.count):
            element: Codec = cython.cast(Codec, self.elements[i])
            element.store(cx, parts[i], pointer + self.offsets[i])
        return 0

    def put(self, cx: LiftLowerContext, value: object, place: cython.pointer(uint8_t)) -> cython.int:
        i: cython.Py_ssize_t
        parts: tuple = self.parts(value)
        for i in range(self.count):
            element: Codec = cython.cast(Codec, self.elements[i])
            element.put(cx, parts[i], place + self.offsets[i])
        return 0

    def __dealloc__(self):
        PyMem_Free(self.offsets)


def _python_class(type: object) -> object:
    if type.python is None:
        raise TypeError(f"{type} has no Python class")
    return type.python


def _field_names(type: object) -> tuple:
    # Python names may differ from WIT's (`type_` is `type`), so take those of the class.
    if dataclasses.is_dataclass(type.python):
        names = tuple([field.name for field in dataclasses.fields(type.python)])
    else:
        names = tuple([field.name.replace("-", "_") for field in type.fields])
    _check_count(type, len(names), len(type.fields))
    return names


def _check_count(type: object, there: cython.Py_ssize_t, wanted: cython.Py_ssize_t):
    if there != wanted:
        raise TypeError(f"{type.python.__qualname__} has {there} parts, but {type} has {wanted}")


def _load_discriminant(place: cython.pointer(uint8_t), width: uint32_t) -> uint32_t:
    if width == 1:
        return place[0]
    if width == 2:
        return cython.cast(cython.pointer(uint16_t), place)[0]
    return cython.cast(cython.pointer(uint32_t), place)[0]


def _put_discriminant(place: cython.pointer(uint8_t), width: uint32_t, tag: uint32_t) -> cython.void:
    if width == 1:
        place[0] = cython.cast(uint8_t, tag)
    elif width == 2:
        cython.cast(cython.pointer(uint16_t), place)[0] = cython.cast(uint16_t, tag)
    else:
        cython.cast(cython.pointer(uint32_t), place)[0] = tag


class VariantCodec(Codec):
    """Base of types with cases; subclasses define their Python form."""

    def __init__(self, type: ValType, payloads: tuple) -> None:
        Codec.__init__(self, type)
        if not payloads:
            raise TypeError("variants must not be empty")
        self.count = len(payloads)
        self.payloads = payloads
        there = [codec for codec in payloads if codec is not None]
        self.discriminant = discriminant_size(self.count)
        self.offset = align_to(self.discriminant, max([codec.alignment for codec in there], default=1))
        self.cost = max([codec.cost for codec in there], default=0)

    def wrap(self, tag: uint32_t, payload: object) -> object:
        raise TypeError

    def unwrap(self, value: object, tag: cython.pointer(uint32_t)) -> object:
        raise TypeError

    def check(self, tag: uint32_t) -> cython.int:
        if tag >= self.count:
            raise Trap(f"discriminant {tag} is out of range for {self.type}")
        return 0

    def lift(self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        tag: uint32_t = raw[0].u32
        self.check(tag)
        payload: Codec | None = self.payloads[tag]
        # A payload narrower than the joined flat type reads the lower bytes: raw values are little-endian.
        return self.wrap(tag, None if payload is None else payload.lift(cx, raw + 1))

    def lower(self, cx: LiftLowerContext, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        tag: uint32_t = 0
        content = self.unwrap(value, cython.address(tag))
        return self.lower_case(cx, tag, content, raw)

    def lower_case(
        self, cx: LiftLowerContext, tag: uint32_t, content: object, raw: cython.pointer(wasmtime_val_raw_t)
    ) -> cython.int:
        i: uint32_t
        # Zeroes unused values, and the upper halves of partly used ones.
        for i in range(1, self.width):
            raw[i].i64 = 0
        raw[0].i64 = tag
        payload: Codec | None = self.payloads[tag]
        if payload is not None:
            payload.lower(cx, content, raw + 1)
        return 0

    def load(self, cx: LiftLowerContext, place: cython.pointer(uint8_t)) -> object:
        tag: uint32_t = _load_discriminant(place, self.discriminant)
        self.check(tag)
        payload: Codec | None = self.payloads[tag]
        return self.wrap(tag, None if payload is None else payload.load(cx, place + self.offset))

    def store(self, cx: LiftLowerContext, value: object, pointer: uint64_t) -> cython.int:
        tag: uint32_t = 0
        content = self.unwrap(value, cython.address(tag))
        return self.store_case(cx, tag, content, pointer)

    def store_case(self, cx: LiftLowerContext, tag: uint32_t, content: object, pointer: uint64_t) -> cython.int:
        place = cx.span(pointer, self.size, self.alignment)
        payload: Codec | None = self.payloads[tag]
        _put_discriminant(place, self.discriminant, tag)
        if payload is None:
            return 0
        if payload.reallocates:
            return payload.store(cx, content, pointer + self.offset)
        return payload.put(cx, content, place + self.offset)

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
    def __init__(self, type: ValType, parts: tuple) -> None:
        VariantCodec.__init__(self, type, parts)
        self.python = _python_class(type)
        _check_count(type, len(self.python.__cases__), self.count)
        self.forms = tuple([form for _, _, form in self.python.__cases__])
        self.cost += OBJECT_COST + CALL_COST

    def wrap(self, tag: uint32_t, payload: object) -> object:
        form = self.forms[tag]
        return form if self.payloads[tag] is None else form(payload)

    def unwrap(self, value: object, tag: cython.pointer(uint32_t)) -> object:
        position: uint32_t
        if not isinstance(value, self.python):
            raise TypeError(f"expected {self.python.__name__} for {self.type}, not {show(value)}")
        position = value._tag
        if position >= self.count:
            raise TypeError(f"{show(value)} is not a case of {self.type}")
        tag[0] = position
        return None if self.payloads[position] is None else value.value


@cython.final
@cython.cclass
class OptionCodec(VariantCodec):
    def __init__(self, type: ValType, parts: tuple) -> None:
        VariantCodec.__init__(self, type, (None, *parts))
        self.wraps = isinstance(type.payload, OptionType)
        if self.wraps:
            self.cost += OBJECT_COST + CALL_COST

    def wrap(self, tag: uint32_t, payload: object) -> object:
        return Some(payload) if tag and self.wraps else payload

    def unwrap(self, value: object, tag: cython.pointer(uint32_t)) -> object:
        if value is None:
            tag[0] = 0
            return None
        tag[0] = 1
        if self.wraps:
            if not isinstance(value, Some):
                raise TypeError(f"expected Some(value) or None for {self.type}, not {show(value)}")
            return value.value
        return value


@cython.final
@cython.cclass
class ResultCodec(VariantCodec):
    def __init__(self, type: ValType, parts: tuple) -> None:
        VariantCodec.__init__(self, type, parts)
        # Err is an exception, with arguments and a dictionary.
        self.cost += OBJECT_COST + DICT_COST + CALL_COST

    def wrap(self, tag: uint32_t, payload: object) -> object:
        return Err(payload) if tag else Ok(payload)

    def unwrap(self, value: object, tag: cython.pointer(uint32_t)) -> object:
        if isinstance(value, Ok) and not isinstance(value, Some):
            tag[0] = 0
        elif isinstance(value, Err):
            tag[0] = 1
        else:
            raise TypeError(f"expected Ok or Err for {self.type}, not {show(value)}")
        content = value.value
        if content is not None and self.payloads[tag[0]] is None:
            raise TypeError(f"{self.type} has no payload in that case, unlike {show(value)}")
        return content


@cython.final
@cython.cclass
class EnumCodec(Codec):
    """Members of a Python enum, compared by identity, or labels without a Python class."""

    def __init__(self, type: ValType) -> None:
        Codec.__init__(self, type)
        self.labels = type.python is None
        self.members = type.labels if self.labels else tuple(type.python)
        self.count = len(self.members)
        if not self.labels:
            _check_count(type, self.count, len(type.labels))
        self.positions = {member if self.labels else id(member): i for i, member in enumerate(self.members)}

    def member(self, tag: uint32_t) -> object:
        if tag >= self.count:
            raise Trap(f"discriminant {tag} is out of range for {self.type}")
        return self.members[tag]

    def position(self, value: object) -> uint32_t:
        found = None
        if not self.labels:
            # Hashing an enum member runs Python code, hashing its address does not.
            found = self.positions.get(cython.cast(uintptr_t, cython.cast(cython.p_void, value)))
        elif isinstance(value, str):
            found = self.positions.get(value)
        if found is None:
            raise TypeError(f"{show(value)} is not a case of {self.type}")
        return found

    def lift(self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        return self.member(raw[0].u32)

    def lower(self, cx: LiftLowerContext, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        raw[0].i64 = self.position(value)
        return 0

    def load(self, cx: LiftLowerContext, place: cython.pointer(uint8_t)) -> object:
        return self.member(_load_discriminant(place, self.size))

    def put(self, cx: LiftLowerContext, value: object, place: cython.pointer(uint8_t)) -> cython.int:
        _put_discriminant(place, self.size, self.position(value))
        return 0


@cython.final
@cython.cclass
class FlagsCodec(Codec):
    """Values of a Python flag enum; its members are the labels, in order, whatever their bits in Python.

    Python caches every combination it has seen, so with very many labels a guest can slowly fill memory.
    """

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

    def pack(self, value: object) -> uint32_t:
        i: cython.Py_ssize_t
        bits: uint32_t = 0
        if not isinstance(value, self.python):
            raise TypeError(f"expected {self.python.__name__} for {self.type}, not {show(value)}")
        number = value.value
        if self.plain:
            if number & ~cython.cast(int64_t, self.mask):
                raise TypeError(f"{show(value)} has more than the flags of {self.type}")
            return number
        for i in range(len(self.bits)):
            if number & self.bits[i]:
                bits |= cython.cast(uint32_t, 1) << i
        return bits

    def lift(self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        return self.unpack(raw[0].u32)

    def lower(self, cx: LiftLowerContext, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        raw[0].i64 = self.pack(value)
        return 0

    def load(self, cx: LiftLowerContext, place: cython.pointer(uint8_t)) -> object:
        return self.unpack(_load_discriminant(place, self.size))

    def put(self, cx: LiftLowerContext, value: object, place: cython.pointer(uint8_t)) -> cython.int:
        _put_discriminant(place, self.size, self.pack(value))
        return 0
