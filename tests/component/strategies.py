"""Values of every type of the component model, for properties."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from wasi_http.component.model.types import (
    EnumType,
    FlagsType,
    ListType,
    OptionType,
    Primitive,
    RecordType,
    ResultType,
    TupleType,
    ValType,
    VariantType,
)
from wasi_http.component.model.values import Err, Ok, Some

__all__ = ["values"]

_RANGES = {
    Primitive.U8: (0, 8),
    Primitive.U16: (0, 16),
    Primitive.U32: (0, 32),
    Primitive.U64: (0, 64),
    Primitive.S8: (1, 7),
    Primitive.S16: (1, 15),
    Primitive.S32: (1, 31),
    Primitive.S64: (1, 63),
}
_CHARACTERS = st.characters(exclude_categories=["Cs"])
# What the three encodings do depends on the widest character: each width gets its share.
_TEXT = st.one_of(
    st.text(_CHARACTERS, max_size=12),
    st.text(st.characters(max_codepoint=0x7F), max_size=12),
    st.text(st.characters(max_codepoint=0xFF), max_size=12),
    st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=12),
)


def values(type_: ValType) -> st.SearchStrategy[Any]:
    """What Python takes for values of the type. Only a resource's are not there: nobody can make one up."""
    match type_:
        case Primitive.BOOL:
            return st.booleans()
        case Primitive.F32:
            return st.floats(width=32)
        case Primitive.F64:
            return st.floats()
        case Primitive.CHAR:
            return _CHARACTERS
        case Primitive.STRING:
            return _TEXT
        case Primitive():
            signed, bits = _RANGES[type_]
            return st.integers(-(2**bits) if signed else 0, 2**bits - 1)
        case ListType(Primitive.U8):
            return st.binary(max_size=12)
        case ListType(element):
            return st.lists(values(element), max_size=4)
        case TupleType(elements):
            return st.tuples(*map(values, elements))
        case RecordType(fields, python):
            assert python is not None
            return st.builds(python, *[values(field.type) for field in fields])
        case VariantType(cases, python):
            assert python is not None
            forms = [form for _, _, form in python.__cases__]
            return st.one_of(
                *[
                    st.just(form) if case.type is None else values(case.type).map(form)
                    for case, form in zip(cases, forms, strict=True)
                ]
            )
        case EnumType(labels, python):
            return st.sampled_from(labels if python is None else list(python))
        case FlagsType(_, python):
            assert python is not None
            return st.lists(st.sampled_from(list(python))).map(
                lambda members: python(sum({member.value for member in members}))
            )
        case OptionType(payload):
            some = values(payload)
            return st.none() | (some.map(Some) if isinstance(payload, OptionType) else some)
        case ResultType(ok, error):
            return st.one_of(
                st.just(Ok()) if ok is None else values(ok).map(Ok),
                st.just(Err()) if error is None else values(error).map(Err),
            )
    raise AssertionError(type_)
