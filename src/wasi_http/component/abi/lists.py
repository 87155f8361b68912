"""Lists; those of bytes are bytes in Python."""

from __future__ import annotations

from collections.abc import Sequence

import cython
from cython.cimports.cpython.buffer import PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.libc.string import memcpy
from cython.cimports.wasi_http.component.abi.codec import (
    LIST_COST,
    POINTER_COST,
    STRING_COST,
    Codec,
    PointerLengthCodec,
    show,
)
from cython.cimports.wasi_http.component.abi.context import MAX_BYTES, LiftLowerContext, charge

from wasi_http.component.model.types import ValType
from wasi_http.engine.errors import Trap

__all__ = ["BytesCodec", "ListCodec"]


def _elements(
    cx: LiftLowerContext, pointer: uint32_t, length: uint32_t, size: uint32_t, alignment: uint32_t
) -> cython.pointer(uint8_t):
    bytes_: uint64_t = cython.cast(uint64_t, length) * size
    if bytes_ > MAX_BYTES:
        raise Trap(f"a list of {bytes_} bytes is longer than the canonical ABI allows")
    return cx.span(pointer, bytes_, alignment)


@cython.final
@cython.cclass
class BytesCodec(PointerLengthCodec):
    """``list<u8>``: one copy each way."""

    def __init__(self, type: ValType, parts: tuple) -> None:
        Codec.__init__(self, type)
        self.element = parts[0]
        self.cost = STRING_COST

    def load_range(self, cx: LiftLowerContext, pointer: uint32_t, length: uint32_t) -> object:
        place = _elements(cx, pointer, length, 1, 1)
        charge(cx, length)
        return PyBytes_FromStringAndSize(cython.cast(cython.p_char, place), length)

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
            # Held while realloc runs, so that the object cannot be resized.
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
            raise TypeError(f"expected bytes for list<u8>, not {show(value)}")
        pair[1] = cython.cast(uint32_t, length)
        return 0


@cython.final
@cython.cclass
class ListCodec(PointerLengthCodec):
    def __init__(self, type: ValType, parts: tuple) -> None:
        Codec.__init__(self, type)
        self.element = parts[0]
        self.element_cost = POINTER_COST + self.element.cost
        self.cost = LIST_COST

    def load_range(self, cx: LiftLowerContext, pointer: uint32_t, length: uint32_t) -> object:
        element: Codec = self.element
        place = _elements(cx, pointer, length, element.size, element.alignment)
        charge(cx, cython.cast(uint64_t, length) * self.element_cost)
        return element.load_many(cx, place, length)

    def store_range(self, cx: LiftLowerContext, value: object, pair: cython.pointer(uint32_t)) -> cython.int:
        i: cython.Py_ssize_t
        element: Codec = self.element
        pointer: uint64_t
        if not isinstance(value, (list, tuple)) and (
            isinstance(value, (str, bytes, bytearray, memoryview)) or not isinstance(value, Sequence)
        ):
            raise TypeError(f"expected a sequence for {self.type}, not {show(value)}")
        # A copy: a list could change while the guest's realloc yields.
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
