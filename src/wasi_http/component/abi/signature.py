"""Compiles value types to codecs and function types to signatures (specification: "Lifting and Lowering Values")."""

from __future__ import annotations

from collections.abc import Sequence

import cython
from cython.cimports.cpython.mem import PyMem_Free
from cython.cimports.cpython.tuple import PyTuple_New
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.wasi_http.component.abi.aggregates import VariantCodec
from cython.cimports.wasi_http.component.abi.codec import Codec, raw_values, set_item, show
from cython.cimports.wasi_http.component.abi.context import LiftLowerContext, open_budget
from cython.cimports.wasi_http.engine.libwasmtime import wasmtime_val_raw_t

from wasi_http.component.abi.aggregates import (
    EnumCodec,
    FlagsCodec,
    OptionCodec,
    RecordCodec,
    ResultCodec,
    WitVariantCodec,
)
from wasi_http.component.abi.handles import HandleCodec
from wasi_http.component.abi.layout import MAX_FLAT_PARAMS, align_to, lifted_core_type, lowered_core_type
from wasi_http.component.abi.lists import BytesCodec, ListCodec
from wasi_http.component.abi.numbers import BoolCodec, F32Codec, F64Codec, IntegerCodec
from wasi_http.component.abi.text import CharCodec, StringCodec
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
from wasi_http.component.model.values import Err

__all__ = ["Signature", "codec_of"]

_PRIMITIVES = {
    Primitive.BOOL: BoolCodec,
    Primitive.F32: F32Codec,
    Primitive.F64: F64Codec,
    Primitive.CHAR: CharCodec,
    Primitive.STRING: StringCodec,
}
_COMPOUNDS = {
    ListType: ListCodec,
    RecordType: RecordCodec,
    TupleType: RecordCodec,
    VariantType: WitVariantCodec,
    OptionType: OptionCodec,
    ResultType: ResultCodec,
}
_LEAVES = {EnumType: EnumCodec, FlagsType: FlagsCodec, OwnType: HandleCodec, BorrowType: HandleCodec}

_codecs: dict = {}


def codec_of(type_: ValType) -> Codec:
    """Returns the codec of a type; types with the same structure and Python classes share one."""
    # Equality of types ignores their Python classes.
    if not isinstance(type_, Type):
        raise TypeError(f"{type_!r} is not a value type")
    key = type_, tuple([getattr(part, "python", None) for part in type_.walk()])
    codec = _codecs.get(key)
    if codec is None:
        codec = _codecs[key] = _compile(type_)
    return codec


def _compile(type_: object) -> Codec:
    if isinstance(type_, Primitive):
        return _PRIMITIVES.get(type_, IntegerCodec)(type_)
    if isinstance(type_, ListType) and type_.element is Primitive.U8:
        kind = BytesCodec
    else:
        kind = _COMPOUNDS.get(type(type_))
    if kind is not None:
        return kind(type_, tuple([None if child is None else codec_of(child) for child in type_.children()]))
    kind = _LEAVES.get(type(type_))
    if kind is None:
        raise TypeError(f"{type_!r} is not a value type")
    return kind(type_)


@cython.final
@cython.cclass
class Signature:
    """A function type, compiled for both directions (specification: "Lifting and Lowering Values").

    With ``result_is_result`` the function returns the success value or raises `Err`.
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
        """Returns where to store the result for a guest: the last argument of its call, or 0 if it is not spilled."""
        if not self.spills_result:
            return 0
        return raw[1 if self.spills_params else self.width].u32

    def lift_params(self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        """Returns the arguments of a guest's call. Borrows among them last until the result is lowered."""
        codec: Codec
        i: uint32_t
        at: uint32_t = 0
        if self.count == 0:
            return ()
        open_budget(cx, self.cost)
        arguments: tuple = PyTuple_New(self.count)
        if self.spills_params:
            place = cx.span(raw[0].u32, self.params_size, self.params_alignment)
            for i in range(self.count):
                codec = cython.cast(Codec, self.params[i])
                at = (at + codec.alignment - 1) & ~cython.cast(uint32_t, codec.alignment - 1)
                set_item(arguments, i, codec.load(cx, place + at))
                at += codec.size
        else:
            for i in range(self.count):
                codec = cython.cast(Codec, self.params[i])
                set_item(arguments, i, codec.lift(cx, raw + at))
                at += codec.width
        return arguments

    def lower_result(
        self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t), value: object, result_pointer: uint32_t
    ) -> cython.int:
        """Lowers the result of a guest's call."""
        if self.result_is_result:
            return self.lower_outcome(cx, raw, 0, value, result_pointer)
        result = self.result
        if result is None:
            if value is not None:
                raise TypeError(f"a function without a result returned {show(value)}")
        elif self.spills_result:
            cx.span(result_pointer, result.size, result.alignment)
            result.store(cx, value, result_pointer)
        else:
            result.lower(cx, value, raw)
        return 0

    def lower_error(
        self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t), value: object, result_pointer: uint32_t
    ) -> cython.int:
        """Lowers the error of a guest's call, when the function raised `Err`."""
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
            raise TypeError(f"{self.type.result} has no payload in that case, but the function gave {show(value)}")
        if self.spills_result:
            variant.store_case(cx, tag, value, result_pointer)
        else:
            variant.lower_case(cx, tag, value, raw)
        return 0

    def lower_params(self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t), args: tuple) -> cython.int:
        """Lowers the arguments of a call of a guest's function."""
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
        """Returns the result of a guest's function; raises `Err` for an error result."""
        result: Codec | None = self.result
        if result is None:
            return None
        open_budget(cx, result.cost)
        if self.spills_result:
            value = result.load(cx, cx.span(raw[0].u32, result.size, result.alignment))
        else:
            value = result.lift(cx, raw)
        if self.result_is_result:
            if isinstance(value, Err):
                raise value
            return value.value
        return value

    # The same for Python callers (tests and tools): core values are ints of their 64 bits.

    def lift_param_values(self, cx: LiftLowerContext, values: Sequence[int]) -> tuple[object, ...]:
        """Does the same as `lift_params`."""
        raw = raw_values(values, 17)
        try:
            return self.lift_params(cx, raw)
        finally:
            PyMem_Free(raw)

    def lower_result_values(self, cx: LiftLowerContext, values: Sequence[int], result: object) -> list[int]:
        """Does the same as `lower_result`, or as `lower_error` if ``result`` is an `Err`."""
        raw = raw_values(values, 17)
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
        """Does the same as `lower_params`."""
        raw = raw_values((), 17)
        try:
            self.lower_params(cx, raw, arguments)
            return [raw[i].u64 for i in range(len(self.lifted.params))]
        finally:
            PyMem_Free(raw)

    def lift_result_values(self, cx: LiftLowerContext, values: Sequence[int]) -> object:
        """Does the same as `lift_result`."""
        raw = raw_values(values, 1)
        try:
            return self.lift_result(cx, raw)
        finally:
            PyMem_Free(raw)

    def __repr__(self) -> str:
        return f"<Signature of {self.type}>"
