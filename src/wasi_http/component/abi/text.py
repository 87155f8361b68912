"""Characters, and strings in the three encodings that guests may use."""

from __future__ import annotations

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_GET_SIZE
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
from cython.cimports.libc.stdint import uint8_t, uint16_t, uint32_t, uint64_t
from cython.cimports.libc.string import memcpy
from cython.cimports.wasi_http.component.abi.codec import STRING_COST, Codec, PointerLengthCodec, show
from cython.cimports.wasi_http.component.abi.context import LATIN1_UTF16, MAX_BYTES, UTF8, LiftLowerContext, charge
from cython.cimports.wasi_http.engine.libwasmtime import wasmtime_val_raw_t

from wasi_http.component.model.types import ValType
from wasi_http.engine.errors import Trap

__all__ = ["CharCodec", "StringCodec"]

_TAG = cython.declare(uint32_t, 1 << 31)


def _character(code: uint32_t) -> str:
    if code >= 0x110000 or 0xD800 <= code <= 0xDFFF:
        raise Trap(f"{code:#x} is not a Unicode scalar value")
    return chr(code)


def _code(value: object) -> uint32_t:
    if not isinstance(value, str) or len(value) != 1:
        raise TypeError(f"expected a str of one character for char, not {show(value)}")
    code: uint32_t = ord(value)
    if 0xD800 <= code <= 0xDFFF:
        raise TypeError(f"expected a character for char, not the surrogate {show(value)}")
    return code


@cython.final
@cython.cclass
class CharCodec(Codec):
    def __init__(self, type: ValType) -> None:
        Codec.__init__(self, type)
        self.cost = 80

    def lift(self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        return _character(raw[0].u32)

    def lower(self, cx: LiftLowerContext, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        raw[0].i64 = _code(value)
        return 0

    def load(self, cx: LiftLowerContext, place: cython.pointer(uint8_t)) -> object:
        return _character(cython.cast(cython.pointer(uint32_t), place)[0])

    def put(self, cx: LiftLowerContext, value: object, place: cython.pointer(uint8_t)) -> cython.int:
        cython.cast(cython.pointer(uint32_t), place)[0] = _code(value)
        return 0


def _text(cx: LiftLowerContext, pointer: uint32_t, length: uint64_t, alignment: uint32_t) -> cython.p_char:
    if length > MAX_BYTES:
        raise Trap(f"a string of {length} bytes is longer than the canonical ABI allows")
    place = cx.span(pointer, length, alignment)
    charge(cx, length)
    return cython.cast(cython.p_char, place)


def _widened(source: cython.p_char, length: uint64_t, encoding: cython.int) -> uint64_t:
    """Returns the bytes that a text takes on the host: one wide character makes all of them wide."""
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


def _check_width(cx: LiftLowerContext, source: cython.p_char, length: uint64_t) -> cython.int:
    """Raises `Trap` if the decoded text exceeds the budget; scans the text only if it could."""
    budget = cython.cast(uint64_t, cx.budget)
    if length * 3 > budget and _widened(source, length, cx.encoding) > length + budget:
        return charge(cx, budget + 1)
    return 0


def _decode(cx: LiftLowerContext, pointer: uint32_t, tagged: uint32_t) -> object:
    """Returns the string at ``pointer``; the length is in code units of the encoding, with its tag bit."""
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
        charge(cx, width - length)
    return text


def _encode(cx: LiftLowerContext, value: object, pair: cython.pointer(uint32_t)) -> cython.int:
    """Copies a string into the guest; sets ``pair`` to its pointer and its length with the tag bit."""
    length: cython.Py_ssize_t = 0
    source: cython.p_const_char
    tag: uint32_t = 0
    unit: uint32_t = 1
    if not isinstance(value, str):
        raise TypeError(f"expected a str for string, not {show(value)}")
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


@cython.final
@cython.cclass
class StringCodec(PointerLengthCodec):
    def __init__(self, type: ValType) -> None:
        Codec.__init__(self, type)
        self.cost = STRING_COST

    def load_range(self, cx: LiftLowerContext, pointer: uint32_t, length: uint32_t) -> object:
        return _decode(cx, pointer, length)

    def store_range(self, cx: LiftLowerContext, value: object, pair: cython.pointer(uint32_t)) -> cython.int:
        return _encode(cx, value, pair)
