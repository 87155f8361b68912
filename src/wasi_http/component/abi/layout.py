"""Sizes, alignments and flat forms of value types (specification: CanonicalABI.md, "Alignment" to "Flattening")."""

from __future__ import annotations

from collections.abc import Iterable

from wasi_http.component.model.types import (
    BorrowType,
    Case,
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
from wasi_http.engine.module import CoreType

__all__ = [
    "MAX_FLAT_PARAMS",
    "MAX_FLAT_RESULTS",
    "align_to",
    "alignment",
    "cases_of",
    "contains_borrow",
    "contains_pointer",
    "discriminant_size",
    "elements_of",
    "flatten",
    "lifted_core_type",
    "lowered_core_type",
    "needs_memory",
    "needs_realloc",
    "size",
]

MAX_FLAT_PARAMS = 16
MAX_FLAT_RESULTS = 1

_SIZES = {"bool": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "s32": 4, "u32": 4, "s64": 8, "u64": 8}
_SIZES |= {"f32": 4, "f64": 8, "char": 4, "string": 4}


def align_to(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


def cases_of(type_: ValType) -> tuple[Case, ...] | None:
    """Returns the cases of a variant, option or result, None for other types."""
    match type_:
        case VariantType(cases):
            return cases
        case OptionType(payload):
            return Case("none"), Case("some", payload)
        case ResultType(ok, error):
            return Case("ok", ok), Case("error", error)
    return None


def elements_of(type_: ValType) -> tuple[ValType, ...] | None:
    """Returns the types of a record's fields or a tuple's elements, None for other types."""
    return tuple(type_.children()) if isinstance(type_, (RecordType, TupleType)) else None  # type: ignore[arg-type]


def discriminant_size(count: int) -> int:
    return 1 if count <= 1 << 8 else 2 if count <= 1 << 16 else 4


def alignment(type_: ValType) -> int:
    match type_:
        case Primitive():
            return _SIZES[type_.value]
        case ListType() | OwnType() | BorrowType():
            return 4
        case EnumType(labels):
            return discriminant_size(len(labels))
        case FlagsType(labels):
            return 1 if len(labels) <= 8 else 2 if len(labels) <= 16 else 4
    if (elements := elements_of(type_)) is not None:
        return max(map(alignment, elements), default=1)
    cases = cases_of(type_) or ()
    return max([discriminant_size(len(cases)), *(alignment(case.type) for case in cases if case.type is not None)])


def size(type_: ValType) -> int:
    match type_:
        case Primitive.STRING | ListType():
            return 8
        case Primitive() | EnumType() | FlagsType() | OwnType() | BorrowType():
            return alignment(type_)
    total = 0
    if (elements := elements_of(type_)) is not None:
        for element in elements:
            total = align_to(total, alignment(element)) + size(element)
        return align_to(total, alignment(type_))
    cases = cases_of(type_) or ()
    payloads = [case.type for case in cases if case.type is not None]
    total = align_to(discriminant_size(len(cases)), max(map(alignment, payloads), default=1))
    return align_to(total + max(map(size, payloads), default=0), alignment(type_))


def flatten(type_: ValType, enough: int | None = None) -> tuple[str, ...]:
    """Returns the core types of a value. If there are more than ``enough``, some of the rest may be missing.

    Without ``enough`` it takes time proportional to the type's size times its depth.
    """
    match type_:
        case Primitive.STRING | ListType():
            return "i32", "i32"
        case Primitive.S64 | Primitive.U64:
            return ("i64",)
        case Primitive.F32:
            return ("f32",)
        case Primitive.F64:
            return ("f64",)
        case Primitive() | EnumType() | FlagsType() | OwnType() | BorrowType():
            return ("i32",)
    if (elements := elements_of(type_)) is not None:
        return _flatten_all(elements, enough)
    joined: list[str] = []
    for case in cases_of(type_) or ():
        for position, kind in enumerate(() if case.type is None else flatten(case.type, enough)):
            if position == len(joined):
                joined.append(kind)
            elif joined[position] != kind:
                joined[position] = "i32" if {joined[position], kind} == {"i32", "f32"} else "i64"
    return ("i32", *joined)


def _flatten_all(types: Iterable[ValType], enough: int | None) -> tuple[str, ...]:
    flat: list[str] = []
    for type_ in types:
        flat.extend(flatten(type_, enough))
        if enough is not None and len(flat) > enough:
            break
    return tuple(flat)


def _flat_params(type_: FuncType) -> tuple[str, ...]:
    return _flatten_all((param for _, param in type_.params), MAX_FLAT_PARAMS)


def _flat_result(type_: FuncType) -> tuple[str, ...]:
    return () if type_.result is None else flatten(type_.result, MAX_FLAT_RESULTS)


def _flat_signature(type_: FuncType) -> tuple[tuple[str, ...], tuple[str, ...]]:
    params = _flat_params(type_)
    return (params if len(params) <= MAX_FLAT_PARAMS else ("i32",)), _flat_result(type_)


def lowered_core_type(type_: FuncType) -> CoreType:
    """Returns the type of the core function that a guest imports for a function (``canon lower``)."""
    params, results = _flat_signature(type_)
    if len(results) > MAX_FLAT_RESULTS:
        return CoreType((*params, "i32"), ())
    return CoreType(params, results)


def lifted_core_type(type_: FuncType) -> CoreType:
    """Returns the type of the core function that a guest exports for a function (``canon lift``)."""
    params, results = _flat_signature(type_)
    return CoreType(params, results if len(results) <= MAX_FLAT_RESULTS else ("i32",))


def contains_pointer(type_: ValType | None) -> bool:
    """Returns whether values of the type have parts elsewhere in memory: strings and lists."""
    return type_ is not None and any(part is Primitive.STRING or isinstance(part, ListType) for part in type_.walk())


def contains_borrow(type_: ValType | None) -> bool:
    """Returns whether values of the type may hold borrowed handles."""
    return type_ is not None and any(isinstance(part, BorrowType) for part in type_.walk())


def needs_memory(type_: FuncType) -> bool:
    """Returns whether lifting or lowering the function needs the memory option."""
    params, results = _flat_params(type_), _flat_result(type_)
    pointers = any(contains_pointer(param) for _, param in type_.params) or contains_pointer(type_.result)
    return pointers or len(params) > MAX_FLAT_PARAMS or len(results) > MAX_FLAT_RESULTS


def needs_realloc(type_: FuncType, *, lift: bool) -> bool:
    """Returns whether ``canon lift`` (else ``canon lower``) of the function needs the realloc option."""
    if lift:
        return len(_flat_params(type_)) > MAX_FLAT_PARAMS or any(contains_pointer(param) for _, param in type_.params)
    return contains_pointer(type_.result)
