"""The types of the component model as values.

Names and order follow the specification (component-model, Explainer.md, "Type Definitions"). Equality is that of the
component model: by structure for value types, by identity for resource types. The Python class of values (a dataclass,
an enum, ...) is in ``python``, which comparisons ignore.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

__all__ = [
    "MAX_FLAGS",
    "BorrowType",
    "Case",
    "EnumType",
    "Field",
    "FlagsType",
    "FuncType",
    "ListType",
    "OptionType",
    "OwnType",
    "Primitive",
    "RecordType",
    "ResourceType",
    "ResultType",
    "TupleType",
    "Type",
    "ValType",
    "VariantType",
]

MAX_FLAGS = 32
"""Labels of a flags type (specification: Explainer.md, "Type Definitions")."""


class Type:
    """Base of all types: enough to walk, compare and substitute them."""

    __slots__ = ()

    def children(self) -> Sequence[Type | None]:
        """Returns the direct parts of this type, in order; None for an absent payload or result."""
        return ()

    def names(self) -> Collection[str]:
        """Returns the names that are part of it, without those of its children."""
        return ()

    def rebuild(self, children: Sequence[Any]) -> Self:
        """Returns this type with other children, as many as `children` returns."""
        return type(self)(*children) if children else self

    def walk(self) -> Iterator[Type]:
        """Yields this type and all within, outer ones first, each as often as it occurs."""
        yield self
        for child in self.children():
            if child is not None:
                yield from child.walk()


class Primitive(Type, enum.Enum):
    """The primitive value types; the value is the name in WIT."""

    BOOL = "bool"
    S8 = "s8"
    U8 = "u8"
    S16 = "s16"
    U16 = "u16"
    S32 = "s32"
    U32 = "u32"
    S64 = "s64"
    U64 = "u64"
    F32 = "f32"
    F64 = "f64"
    CHAR = "char"
    STRING = "string"

    def __str__(self) -> str:
        return self.value


class ResourceType(Type):
    """A resource type. Two of them are the same type only when they are the same object.

    ``name`` serves messages only. ``python`` is the class whose instances represent the resource on the host, or
    ``None`` for a resource that a guest defines.
    """

    __slots__ = ("name", "python")

    def __init__(self, name: str, python: type[Any] | None = None) -> None:
        self.name = name
        self.python = python

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"ResourceType({self.name!r})"


@dataclass(frozen=True, slots=True)
class ListType(Type):
    element: ValType

    def children(self) -> Sequence[Type | None]:
        return (self.element,)

    def __str__(self) -> str:
        return f"list<{self.element}>"


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    type: ValType

    def __str__(self) -> str:
        return f"{self.name}: {self.type}"


@dataclass(frozen=True, slots=True)
class RecordType(Type):
    fields: tuple[Field, ...]
    python: type[Any] | None = field(default=None, compare=False)

    def children(self) -> Sequence[Type | None]:
        return [field.type for field in self.fields]

    def names(self) -> Collection[str]:
        return [field.name for field in self.fields]

    def rebuild(self, children: Sequence[Any]) -> Self:
        return replace(self, fields=tuple(map(Field, self.names(), children)))

    def __str__(self) -> str:
        return f"record {{ {', '.join(map(str, self.fields))} }}"


@dataclass(frozen=True, slots=True)
class TupleType(Type):
    elements: tuple[ValType, ...]

    def children(self) -> Sequence[Type | None]:
        return self.elements

    def rebuild(self, children: Sequence[Any]) -> Self:
        return type(self)(tuple(children))

    def __str__(self) -> str:
        return f"tuple<{', '.join(map(str, self.elements))}>"


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    type: ValType | None = None

    def __str__(self) -> str:
        return self.name if self.type is None else f"{self.name}({self.type})"


@dataclass(frozen=True, slots=True)
class VariantType(Type):
    cases: tuple[Case, ...]
    python: type[Any] | None = field(default=None, compare=False)

    def children(self) -> Sequence[Type | None]:
        return [case.type for case in self.cases]

    def names(self) -> Collection[str]:
        return [case.name for case in self.cases]

    def rebuild(self, children: Sequence[Any]) -> Self:
        return replace(self, cases=tuple(map(Case, self.names(), children)))

    def __str__(self) -> str:
        return f"variant {{ {', '.join(map(str, self.cases))} }}"


@dataclass(frozen=True, slots=True)
class EnumType(Type):
    labels: tuple[str, ...]
    python: type[enum.Enum] | None = field(default=None, compare=False)

    def names(self) -> Collection[str]:
        return self.labels

    def __str__(self) -> str:
        return f"enum {{ {', '.join(self.labels)} }}"


@dataclass(frozen=True, slots=True)
class OptionType(Type):
    payload: ValType

    def children(self) -> Sequence[Type | None]:
        return (self.payload,)

    def __str__(self) -> str:
        return f"option<{self.payload}>"


@dataclass(frozen=True, slots=True)
class ResultType(Type):
    ok: ValType | None
    error: ValType | None

    def children(self) -> Sequence[Type | None]:
        return self.ok, self.error

    def __str__(self) -> str:
        if self.error is None:
            return "result" if self.ok is None else f"result<{self.ok}>"
        return f"result<{'_' if self.ok is None else self.ok}, {self.error}>"


@dataclass(frozen=True, slots=True)
class FlagsType(Type):
    labels: tuple[str, ...]
    python: type[enum.Flag] | None = field(default=None, compare=False)

    def names(self) -> Collection[str]:
        return self.labels

    def __str__(self) -> str:
        return f"flags {{ {', '.join(self.labels)} }}"


@dataclass(frozen=True, slots=True)
class OwnType(Type):
    resource: ResourceType

    def children(self) -> Sequence[Type | None]:
        return (self.resource,)

    def __str__(self) -> str:
        return f"own<{self.resource}>"


@dataclass(frozen=True, slots=True)
class BorrowType(Type):
    resource: ResourceType

    def children(self) -> Sequence[Type | None]:
        return (self.resource,)

    def __str__(self) -> str:
        return f"borrow<{self.resource}>"


ValType = (
    Primitive
    | ListType
    | RecordType
    | TupleType
    | VariantType
    | EnumType
    | OptionType
    | ResultType
    | FlagsType
    | OwnType
    | BorrowType
)


@dataclass(frozen=True, slots=True)
class FuncType(Type):
    """``params`` are (name, type) pairs; ``is_async`` marks a function of WASI 0.3."""

    params: tuple[tuple[str, ValType], ...]
    result: ValType | None = None
    is_async: bool = False

    def children(self) -> Sequence[Type | None]:
        return [*[type_ for _, type_ in self.params], self.result]

    def names(self) -> Collection[str]:
        return [name for name, _ in self.params]

    def rebuild(self, children: Sequence[Any]) -> Self:
        return replace(self, params=tuple(zip(self.names(), children, strict=False)), result=children[-1])

    def __str__(self) -> str:
        params = ", ".join(f"{name}: {type_}" for name, type_ in self.params)
        arrow = "" if self.result is None else f" -> {self.result}"
        return f"{'async ' if self.is_async else ''}func({params}){arrow}"
