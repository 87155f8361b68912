"""Booleans, integers and floats."""

from __future__ import annotations

import cython
from cython.cimports.cpython.long import PyLong_AsLongLongAndOverflow, PyLong_AsUnsignedLongLong
from cython.cimports.libc.math import isfinite, isnan
from cython.cimports.libc.stdint import int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from cython.cimports.libc.string import memcpy
from cython.cimports.wasi_http.component.abi.codec import Codec, show
from cython.cimports.wasi_http.component.abi.context import LiftLowerContext
from cython.cimports.wasi_http.engine.libwasmtime import wasmtime_val_raw_t

from wasi_http.component.model.types import Primitive, ValType

__all__ = ["BoolCodec", "F32Codec", "F64Codec", "IntegerCodec"]


@cython.final
@cython.cclass
class BoolCodec(Codec):
    def lift(self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        return raw[0].i32 != 0

    def lower(self, cx: LiftLowerContext, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        raw[0].i64 = _bit(value)
        return 0

    def load(self, cx: LiftLowerContext, place: cython.pointer(uint8_t)) -> object:
        return place[0] != 0

    def put(self, cx: LiftLowerContext, value: object, place: cython.pointer(uint8_t)) -> cython.int:
        place[0] = _bit(value)
        return 0


def _bit(value: object) -> cython.int:
    if value is True:
        return 1
    if value is False:
        return 0
    raise TypeError(f"expected a bool for bool, not {show(value)}")


@cython.final
@cython.cclass
class IntegerCodec(Codec):
    """All integer types: ``signed`` and ``size`` distinguish them."""

    def __init__(self, type: ValType) -> None:
        Codec.__init__(self, type)
        self.signed = str(type).startswith("s")
        bits: object = 8 * self.size - self.signed
        self.low = -(1 << bits) if self.signed else 0
        self.high = min((1 << bits) - 1, (1 << 63) - 1)
        # CPython preallocates small integers.
        self.cost = 0 if type is Primitive.U8 else 32

    def lift(self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        # Ignores the excess bits of narrow types.
        return self.load(cx, cython.cast(cython.pointer(uint8_t), raw))

    def lower(self, cx: LiftLowerContext, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        raw[0].u64 = self.bits(value)
        if self.size < 8:
            raw[0].u64 = raw[0].u32
        return 0

    def load(self, cx: LiftLowerContext, place: cython.pointer(uint8_t)) -> object:
        # Little-endian, as all supported platforms are.
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

    def bits(self, value: object) -> uint64_t:
        """Returns the number in two's complement; raises if it is out of range."""
        overflow: cython.int = 0
        if not isinstance(value, int):
            raise TypeError(f"expected an int for {self.type}, not {show(value)}")
        number: int64_t = PyLong_AsLongLongAndOverflow(value, cython.address(overflow))
        if overflow > 0 and self.size == 8 and not self.signed and value <= 0xFFFFFFFFFFFFFFFF:
            return PyLong_AsUnsignedLongLong(value)
        if overflow or not self.low <= number <= self.high:
            raise OverflowError(f"{show(value)} is out of range for {self.type}")
        return cython.cast(uint64_t, number)


def _real(codec: Codec, value: object) -> cython.double:
    if isinstance(value, float):
        return value
    if not isinstance(value, int):
        raise TypeError(f"expected a float for {codec.type}, not {show(value)}")
    try:
        return float(value)
    except OverflowError:
        raise OverflowError(f"{show(value)} is out of range for {codec.type}") from None


def _single(codec: Codec, value: object) -> cython.float:
    real: cython.double = _real(codec, value)
    single: cython.float = real
    if isfinite(real) and not isfinite(single):
        raise OverflowError(f"{show(value)} is out of range for {codec.type}")
    return _canonical32(single)


def _canonical32(value: cython.float) -> cython.float:
    bits: uint32_t = 0x7FC00000
    if isnan(value):
        memcpy(cython.address(value), cython.address(bits), 4)
    return value


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

    def lift(self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        return _canonical32(raw[0].f32)

    def lower(self, cx: LiftLowerContext, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        raw[0].i64 = 0
        raw[0].f32 = _single(self, value)
        return 0

    def load(self, cx: LiftLowerContext, place: cython.pointer(uint8_t)) -> object:
        return _canonical32(cython.cast(cython.pointer(cython.float), place)[0])

    def put(self, cx: LiftLowerContext, value: object, place: cython.pointer(uint8_t)) -> cython.int:
        cython.cast(cython.pointer(cython.float), place)[0] = _single(self, value)
        return 0


@cython.final
@cython.cclass
class F64Codec(Codec):
    def __init__(self, type: ValType) -> None:
        Codec.__init__(self, type)
        self.cost = 24

    def lift(self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        return _canonical64(raw[0].f64)

    def lower(self, cx: LiftLowerContext, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        raw[0].f64 = _canonical64(_real(self, value))
        return 0

    def load(self, cx: LiftLowerContext, place: cython.pointer(uint8_t)) -> object:
        return _canonical64(cython.cast(cython.pointer(cython.double), place)[0])

    def put(self, cx: LiftLowerContext, value: object, place: cython.pointer(uint8_t)) -> cython.int:
        cython.cast(cython.pointer(cython.double), place)[0] = _canonical64(_real(self, value))
        return 0
