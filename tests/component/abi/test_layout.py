from __future__ import annotations

import pytest

from wasi_http.component.abi.layout import (
    align_to,
    alignment,
    contains_borrow,
    contains_pointer,
    discriminant_size,
    flatten,
    lifted_core_type,
    lowered_core_type,
    needs_memory,
    needs_realloc,
    size,
)
from wasi_http.component.model.types import (
    BorrowType,
    Case,
    EnumType,
    Field,
    FlagsType,
    FuncType,
    ListType,
    OptionType,
    OwnType,
    Primitive,
    RecordType,
    ResourceType,
    ResultType,
    TupleType,
    ValType,
    VariantType,
)
from wasi_http.engine import CoreType

FILE = ResourceType("file")
BOOL, CHAR, STRING, F32, F64 = Primitive.BOOL, Primitive.CHAR, Primitive.STRING, Primitive.F32, Primitive.F64
U8, U16, U32, U64 = Primitive.U8, Primitive.U16, Primitive.U32, Primitive.U64
S8, S16, S32, S64 = Primitive.S8, Primitive.S16, Primitive.S32, Primitive.S64


def labels(count: int) -> tuple[str, ...]:
    return tuple(f"l{i}" for i in range(count))


def record(*types: ValType) -> RecordType:
    return RecordType(tuple(Field(f"f{i}", type_) for i, type_ in enumerate(types)))


def variant(*types: ValType | None) -> VariantType:
    return VariantType(tuple(Case(f"c{i}", type_) for i, type_ in enumerate(types)))


# (type, size, alignment, flat form), worked out by hand from the specification.
LAYOUTS: list[tuple[ValType, int, int, str]] = [
    (BOOL, 1, 1, "i32"),
    (U8, 1, 1, "i32"),
    (S8, 1, 1, "i32"),
    (U16, 2, 2, "i32"),
    (S16, 2, 2, "i32"),
    (U32, 4, 4, "i32"),
    (S32, 4, 4, "i32"),
    (U64, 8, 8, "i64"),
    (S64, 8, 8, "i64"),
    (F32, 4, 4, "f32"),
    (F64, 8, 8, "f64"),
    (CHAR, 4, 4, "i32"),
    (STRING, 8, 4, "i32 i32"),
    (ListType(U64), 8, 4, "i32 i32"),
    (OwnType(FILE), 4, 4, "i32"),
    (BorrowType(FILE), 4, 4, "i32"),
    (EnumType(labels(1)), 1, 1, "i32"),
    (EnumType(labels(256)), 1, 1, "i32"),
    (EnumType(labels(257)), 2, 2, "i32"),
    (EnumType(labels(65536)), 2, 2, "i32"),
    (EnumType(labels(65537)), 4, 4, "i32"),
    (FlagsType(labels(1)), 1, 1, "i32"),
    (FlagsType(labels(8)), 1, 1, "i32"),
    (FlagsType(labels(9)), 2, 2, "i32"),
    (FlagsType(labels(16)), 2, 2, "i32"),
    (FlagsType(labels(17)), 4, 4, "i32"),
    (FlagsType(labels(32)), 4, 4, "i32"),
    (record(U8, U32, U8), 12, 4, "i32 i32 i32"),
    (record(U8, U64), 16, 8, "i32 i64"),
    (TupleType((U8, U16, U8)), 6, 2, "i32 i32 i32"),
    (TupleType((STRING, F64)), 16, 8, "i32 i32 f64"),
    (record(record(U8, U16), U8), 6, 2, "i32 i32 i32"),
    (OptionType(U8), 2, 1, "i32 i32"),
    (OptionType(U64), 16, 8, "i32 i64"),
    (OptionType(OptionType(U32)), 12, 4, "i32 i32 i32"),
    (ResultType(None, None), 1, 1, "i32"),
    (ResultType(U8, None), 2, 1, "i32 i32"),
    (ResultType(None, STRING), 12, 4, "i32 i32 i32"),
    (ResultType(F32, U32), 8, 4, "i32 i32"),
    (ResultType(F32, U64), 16, 8, "i32 i64"),
    (ResultType(F64, F32), 16, 8, "i32 i64"),
    (ResultType(F64, F64), 16, 8, "i32 f64"),
    (ResultType(F32, F32), 8, 4, "i32 f32"),
    (variant(None, F32, TupleType((U64, F32))), 24, 8, "i32 i64 f32"),
    (variant(TupleType((F32, F64)), STRING, U8), 24, 8, "i32 i32 i64"),
    (VariantType(tuple(Case(label, U8) for label in labels(257))), 4, 2, "i32 i32"),
]


@pytest.mark.parametrize(("type_", "bytes_", "aligned", "flat"), LAYOUTS, ids=lambda item: str(item)[:40])
def test_layout(type_: ValType, bytes_: int, aligned: int, flat: str) -> None:
    assert (size(type_), alignment(type_), " ".join(flatten(type_))) == (bytes_, aligned, flat)


def test_sizes_are_multiples_of_alignments() -> None:
    for type_, *_ in LAYOUTS:
        assert size(type_) % alignment(type_) == 0


@pytest.mark.parametrize(("offset", "aligned", "result"), [(0, 8, 0), (1, 1, 1), (1, 2, 2), (4, 4, 4), (5, 8, 8)])
def test_align_to(offset: int, aligned: int, result: int) -> None:
    assert align_to(offset, aligned) == result


def test_discriminants_grow_with_the_number_of_cases() -> None:
    assert [discriminant_size(count) for count in (1, 256, 257, 65536, 65537)] == [1, 1, 2, 2, 4]


def func(*params: ValType, result: ValType | None = None) -> FuncType:
    return FuncType(tuple((f"p{i}", type_) for i, type_ in enumerate(params)), result)


def core(text: str) -> CoreType:
    params, _, results = text.partition("->")
    return CoreType(tuple(params.split()), tuple(results.split()))


# (function, core type when a guest imports it, when a guest exports it, needs memory, needs realloc lowered, lifted)
FUNCTIONS = [
    (func(), "->", "->", False, False, False),
    (func(U8, S64, result=F32), "i32 i64 -> f32", "i32 i64 -> f32", False, False, False),
    (func(STRING), "i32 i32 ->", "i32 i32 ->", True, False, True),
    (func(result=STRING), "i32 ->", "-> i32", True, True, False),
    (func(result=ResultType(None, None)), "-> i32", "-> i32", False, False, False),
    (func(U8, result=ResultType(U8, None)), "i32 i32 ->", "i32 -> i32", True, False, False),
    (func(*[U64] * 16, result=U8), "i64 " * 16 + "-> i32", "i64 " * 16 + "-> i32", False, False, False),
    (func(*[U64] * 17), "i32 ->", "i32 ->", True, False, True),
    (func(*[U64] * 17, result=TupleType((U8, U8))), "i32 i32 ->", "i32 -> i32", True, False, True),
    (func(OptionType(STRING), result=OwnType(FILE)), "i32 i32 i32 -> i32", "i32 i32 i32 -> i32", True, False, True),
]


@pytest.mark.parametrize(
    ("type_", "lowered", "lifted", "memory", "lower", "lift"), FUNCTIONS, ids=lambda item: str(item)[:40]
)
def test_functions(type_: FuncType, lowered: str, lifted: str, memory: bool, lower: bool, lift: bool) -> None:
    assert lowered_core_type(type_) == core(lowered)
    assert lifted_core_type(type_) == core(lifted)
    assert needs_memory(type_) is memory
    assert needs_realloc(type_, lift=False) is lower
    assert needs_realloc(type_, lift=True) is lift


@pytest.mark.parametrize(
    ("type_", "pointer", "borrow"),
    [
        (None, False, False),
        (U8, False, False),
        (STRING, True, False),
        (OwnType(FILE), False, False),
        (BorrowType(FILE), False, True),
        (ListType(BorrowType(FILE)), True, True),
        (record(U8, OptionType(BorrowType(FILE))), False, True),
        (variant(None, TupleType((U8, STRING))), True, False),
        (ResultType(None, BorrowType(FILE)), False, True),
        (EnumType(labels(2)), False, False),
    ],
    ids=str,
)
def test_what_types_contain(type_: ValType | None, pointer: bool, borrow: bool) -> None:
    assert contains_pointer(type_) is pointer
    assert contains_borrow(type_) is borrow
