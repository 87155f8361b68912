"""Maps Python annotations to WIT types."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import inspect
import sys
import types
import typing
from typing import Annotated, Any, TypeAlias, TypeVar, Union, get_args, get_origin

from wasi_http.component import handles
from wasi_http.component.model.names import is_label
from wasi_http.component.model.types import (
    MAX_FLAGS,
    BorrowType,
    Case,
    EnumType,
    Field,
    FlagsType,
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
from wasi_http.component.model.values import Err, Ok, Some, Variant

__all__ = [
    "Borrow",
    "Marker",
    "Own",
    "State",
    "char",
    "f32",
    "f64",
    "kebab",
    "marker_of",
    "namespace_of",
    "resolve",
    "s8",
    "s16",
    "s32",
    "s64",
    "text_of",
    "u8",
    "u16",
    "u32",
    "u64",
    "value_type",
]

T = TypeVar("T")

u8: TypeAlias = Annotated[int, Primitive.U8]
u16: TypeAlias = Annotated[int, Primitive.U16]
u32: TypeAlias = Annotated[int, Primitive.U32]
u64: TypeAlias = Annotated[int, Primitive.U64]
s8: TypeAlias = Annotated[int, Primitive.S8]
s16: TypeAlias = Annotated[int, Primitive.S16]
s32: TypeAlias = Annotated[int, Primitive.S32]
s64: TypeAlias = Annotated[int, Primitive.S64]
f32: TypeAlias = Annotated[float, Primitive.F32]
f64: TypeAlias = Annotated[float, Primitive.F64]
char: TypeAlias = Annotated[str, Primitive.CHAR]


class Marker(enum.Enum):
    OWN = "Own"
    BORROW = "Borrow"
    STATE = "State"


Own = Annotated[T, Marker.OWN]
Borrow = Annotated[T, Marker.BORROW]
State = Annotated[T, Marker.STATE]


def kebab(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def text_of(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def namespace_of(function: Any) -> dict[str, Any]:
    namespace: dict[str, Any] = inspect.unwrap(function).__globals__
    return namespace


def resolve(annotation: Any, namespace: dict[str, Any], where: str) -> Any:
    """Returns the object that an annotation denotes, with strings evaluated."""

    def holder() -> None: ...

    holder.__annotations__ = {"it": annotation}
    try:
        return typing.get_type_hints(holder, namespace, include_extras=True)["it"]
    except NameError as error:
        raise TypeError(
            f"{where}: {error}; annotations are read at run time: import their names outside of TYPE_CHECKING and "
            "define classes on the level of the module"
        ) from None
    except Exception as error:
        raise TypeError(f"{where}: the annotation cannot be read: {error}") from None


def marker_of(hint: Any) -> Marker | None:
    if get_origin(hint) is not Annotated:
        return None
    return next((mark for mark in hint.__metadata__ if isinstance(mark, Marker)), None)


_PLAIN: dict[Any, ValType] = {
    bool: Primitive.BOOL,
    float: Primitive.F64,
    str: Primitive.STRING,
    bytes: ListType(Primitive.U8),
}

_CURES: dict[Any, str] = {
    int: "int has no width: use u8, u16, u32, u64, s8, s16, s32 or s64",
    list: "a list needs the type of its elements: list[T]",
    tuple: "a tuple needs the types of its elements: tuple[A, B]",
    dict: "there are no maps in WIT: use list[tuple[K, V]]",
    set: "there are no sets in WIT: use list[T], or an enum.Flag",
    bytearray: "use bytes",
    memoryview: "use bytes",
    type(None): "None alone is not a type: it is the absence of an option, T | None",
    Any: "every value has a type: name it",
    Ok: "a result is written Ok[T] | Err[E]",
    Err: "a result is written Ok[T] | Err[E]",
    Some: "Some serves only for an option of an option: Some[T | None] | None",
}

_classes: dict[type, ValType] = {}


def value_type(hint: Any, where: str = "annotation") -> ValType:
    """Returns the value type of an annotation; raises TypeError, naming ``where``, if there is none."""
    return _value_type(hint, where, ())


def _value_type(hint: Any, where: str, inside: tuple[type, ...]) -> ValType:
    # ``inside``: the classes whose members are being read.
    origin = get_origin(hint)
    arguments = get_args(hint)
    if origin is Annotated:
        return _annotated_type(hint, where, inside)
    if origin in (Union, types.UnionType):
        return _union_type(arguments, where, inside)
    if origin is list:
        element = _value_type(arguments[0], where, inside)
        if element is Primitive.U8:
            raise TypeError(f"{where}: list<u8> is bytes in Python: write bytes")
        return ListType(element)
    if origin is tuple:
        if not arguments or Ellipsis in arguments:
            raise TypeError(f"{where}: a tuple has a fixed number of elements, one at least; any number is list[T]")
        return TupleType(tuple(_value_type(argument, where, inside) for argument in arguments))
    plain = hint if origin is None else origin
    if isinstance(plain, collections.abc.Hashable):
        if plain in _PLAIN and origin is None:
            return _PLAIN[plain]
        if plain in _CURES:
            raise TypeError(f"{where}: {_CURES[plain]}")
    if isinstance(hint, type) and origin is None:
        if hint not in _classes:
            _classes[hint] = _class_type(hint, where, inside)
        return _classes[hint]
    raise TypeError(f"{where}: {text_of(hint)} stands for no type of WIT")


def _annotated_type(hint: Any, where: str, inside: tuple[type, ...]) -> ValType:
    python = get_args(hint)[0]
    mark = marker_of(hint)
    if mark is None:
        primitive = next((mark for mark in hint.__metadata__ if isinstance(mark, Primitive)), None)
        return primitive or _value_type(python, where, inside)
    if mark is Marker.STATE:
        raise TypeError(f"{where}: State is for a whole parameter: state: State[T]")
    resource = getattr(python, "__resource_type__", None)
    if not isinstance(resource, ResourceType):
        raise TypeError(f"{where}: {mark.value}[...] needs a subclass of Resource with name=, not {text_of(python)}")
    return OwnType(resource) if mark is Marker.OWN else BorrowType(resource)


def _union_type(members: tuple[Any, ...], where: str, inside: tuple[type, ...]) -> ValType:
    rest = [member for member in members if member is not type(None)]
    outcomes = {get_origin(member) or member: get_args(member) for member in rest}
    if outcomes.keys() == {Ok, Err} and len(rest) == 2:
        payloads = [
            None if outcomes[kind] in ((), (type(None),)) else _value_type(outcomes[kind][0], where, inside)
            for kind in (Ok, Err)
        ]
        result = ResultType(payloads[0], payloads[1])
        return result if len(rest) == len(members) else OptionType(result)
    if len(rest) == len(members) or len(rest) != 1:
        raise TypeError(f"{where}: the only unions are T | None and Ok[T] | Err[E]; for several cases use a Variant")
    if get_origin(rest[0]) is Some:
        payload = _value_type(get_args(rest[0])[0], where, inside)
        if isinstance(payload, OptionType):
            return OptionType(payload)
        raise TypeError(f"{where}: {_CURES[Some]}")
    return OptionType(_value_type(rest[0], where, inside))


def _class_type(cls: type, where: str, inside: tuple[type, ...]) -> ValType:
    if cls in inside:
        raise TypeError(f"{where}: {cls.__qualname__} contains itself: types in WIT are finite")
    inside = (*inside, cls)
    if issubclass(cls, Variant):
        return _variant_type(cls, where, inside)
    if issubclass(cls, enum.Flag):
        labels = _labels(cls, where)
        if len(labels) > MAX_FLAGS:
            raise TypeError(f"{where}: {cls.__qualname__} has {len(labels)} flags, and WIT allows {MAX_FLAGS}")
        return FlagsType(labels, cls)
    if issubclass(cls, enum.Enum):
        return EnumType(_labels(cls, where), cls)
    if dataclasses.is_dataclass(cls):
        return _record_type(cls, where, inside)
    if issubclass(cls, handles.Resource):
        raise TypeError(
            f"{where}: the resource {cls.__qualname__} is passed as Own[{cls.__name__}] or Borrow[{cls.__name__}]"
        )
    raise TypeError(
        f"{where}: {cls.__qualname__} stands for no type of WIT; a record is a dataclass, a variant a Variant"
    )


def _variant_type(cls: type[Variant], where: str, inside: tuple[type, ...]) -> VariantType:
    namespace = vars(sys.modules[cls.__module__])
    cases = []
    for name, annotation, form in cls.__cases__:
        payload = None
        if annotation is not None:
            place = f"{where}: {form.__qualname__} = case({name!r}, {text_of(annotation)})"
            payload = _value_type(resolve(annotation, namespace, place), place, inside)
        cases.append(Case(name, payload))
    _check_names(cls, [case.name for case in cases], "case", where)
    return VariantType(tuple(cases), cls)


def _record_type(cls: type[Any], where: str, inside: tuple[type, ...]) -> RecordType:
    # A field's annotation belongs to the module of the class that declares it.
    modules = {name: base.__module__ for base in reversed(cls.__mro__) for name in inspect.get_annotations(base)}
    fields = []
    for field in dataclasses.fields(cls):
        place = f"{where}: {cls.__qualname__}.{field.name}: {text_of(field.type)}"
        if not field.init or field.kw_only:
            raise TypeError(f"{place}: the fields of a record are passed to its class by position")
        hint = resolve(field.type, vars(sys.modules[modules[field.name]]), place)
        fields.append(Field(kebab(field.name), _value_type(hint, place, inside)))
    _check_names(cls, [field.name for field in fields], "field", where)
    return RecordType(tuple(fields), cls)


def _labels(cls: type[enum.Enum], where: str) -> tuple[str, ...]:
    labels = [member.value if isinstance(member.value, str) else kebab(member.name or "").lower() for member in cls]
    _check_names(cls, labels, "member", where)
    return tuple(labels)


def _check_names(cls: type, names: list[str], what: str, where: str) -> None:
    if not names:
        raise TypeError(f"{where}: {cls.__qualname__} has no {what}: in WIT it needs one at least")
    seen = set()
    for name in names:
        if not is_label(name):
            raise TypeError(f"{where}: {cls.__qualname__}: the {what} {name!r} has no name for WIT, like 'my-{what}'")
        if name.lower() in seen:
            raise TypeError(
                f"{where}: {cls.__qualname__}: two have the name {name!r} in WIT, where case does not count"
            )
        seen.add(name.lower())
