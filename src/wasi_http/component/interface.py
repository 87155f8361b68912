"""Interfaces declared as Python classes: their annotations are the types of WIT.

The same declaration serves both directions: an interface that the host implements for guests, and one that a guest
exports, of which only the types matter. ::

    class Fields(Resource, name="fields"):
        @constructor
        def new(state: State[View]) -> Own[Fields]: ...

        @static
        @raises(HeaderError)
        def from_list(entries: list[tuple[str, bytes]]) -> Own[Fields]: ...

        @method
        def get(self, name: str) -> list[bytes]: ...

    class Types(Interface, name="wasi:http/types@0.2.12"):
        resources = (Fields,)

        @func
        def http_error_code(err: Borrow[IoError]) -> ErrorCode | None: ...

Names in WIT are the Python names with dashes (a trailing ``_`` is dropped), or given by ``name=``. A parameter of type
`State` is not part of the signature: the store's ``data`` is passed there. A function may suspend the guest when it is
``async`` or returns ``T | Awaitable[T]``. ``@raises(E)`` makes the result ``result<T, E>``; the function raises `Err`.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import inspect
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Generic, TypeAlias, TypeVar, Union, get_args, get_origin

from wasi_http.component import resources
from wasi_http.component.types import (
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
from wasi_http.component.values import Err, Ok, Some, Variant

__all__ = [
    "Borrow",
    "HostFunction",
    "Interface",
    "Own",
    "Resource",
    "State",
    "char",
    "constructor",
    "f32",
    "f64",
    "func",
    "method",
    "raises",
    "s8",
    "s16",
    "s32",
    "s64",
    "static",
    "u8",
    "u16",
    "u32",
    "u64",
    "value_type",
]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

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


class _Marker(enum.Enum):
    OWN = enum.auto()
    BORROW = enum.auto()
    STATE = enum.auto()


Own = Annotated[T, _Marker.OWN]
Borrow = Annotated[T, _Marker.BORROW]
State = Annotated[T, _Marker.STATE]


@dataclass(slots=True)
class _Declaration:
    kind: str
    name: str | None


class _Raises(Generic[T]):
    __slots__ = ("error",)

    def __init__(self, error: Any) -> None:
        self.error = error


def raises(error: Any = None) -> Callable[[F], F]:
    """The function's result is ``result<T, error>`` (``result<T>`` without an error type): it raises ``Err(value)``."""

    def mark(function: F) -> F:
        function.__wit_raises__ = _Raises(error)  # type: ignore[attr-defined]
        return function

    return mark


def _declare(kind: str, function: Any, name: str | None) -> Any:
    function.__wit__ = _Declaration(kind, name)
    parameters = list(inspect.signature(function).parameters)
    takes_self = bool(parameters) and parameters[0] == "self"
    if kind == "method" and not takes_self:
        raise TypeError(f"{function.__qualname__} is a method: its first parameter must be 'self'")
    if kind in ("static", "constructor") and takes_self:
        raise TypeError(f"{function.__qualname__} is a {kind}: it takes no 'self'")
    return function if takes_self else staticmethod(function)


def _decorator(kind: str) -> Any:
    def decorate(function: Any = None, *, name: str | None = None) -> Any:
        if function is None:
            return lambda function: _declare(kind, function, name)
        return _declare(kind, function, name)

    decorate.__name__ = kind
    return decorate


if typing.TYPE_CHECKING:

    class _Decorator(typing.Protocol):
        @typing.overload
        def __call__(self, function: F) -> F: ...
        @typing.overload
        def __call__(self, *, name: str) -> Callable[[F], F]: ...

    method: _Decorator
    static = staticmethod
    constructor = staticmethod
    func = staticmethod
else:
    #: A method of a resource: ``self`` is borrowed.
    method = _decorator("method")
    #: A function that belongs to a resource without taking one.
    static = _decorator("static")
    #: The function that makes a resource.
    constructor = _decorator("constructor")
    #: A free function of an interface. With ``self`` it is called on the interface object that was registered.
    func = _decorator("func")


@dataclass(frozen=True, slots=True)
class HostFunction:
    """One function of an interface, by its name in an instance type (``[method]fields.get``).

    ``call`` takes positional arguments in WIT's order, after the state when ``passes_state``. ``may_suspend`` says that
    it may return an awaitable.
    """

    name: str
    type: FuncType
    call: Callable[..., Any]
    passes_state: bool
    may_suspend: bool


class Resource(resources.Resource):
    """Base of host resources: the object itself is what guests hold handles to.

    A class with ``name=`` is a new resource type; a subclass of it is the same type with other behaviour.
    """

    __slots__ = ()
    __resource_type__: ClassVar[ResourceType]

    def __init_subclass__(cls, *, name: str | None = None, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if name is not None:
            cls.__resource_type__ = ResourceType(name, cls)


class Interface:
    """Base of interface declarations; ``name`` is the full name with version, ``package:ns/interface@1.2.3``.

    ``resources`` lists the resource classes that the interface defines (not those that it uses of others).
    """

    name: ClassVar[str]
    resources: ClassVar[tuple[type[Resource], ...]] = ()

    def __init_subclass__(cls, *, name: str | None = None, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if name is not None:
            cls.name = name

    @classmethod
    def resource_types(cls) -> dict[str, ResourceType]:
        """The resource types that the interface defines, by name."""
        return {resource.__resource_type__.name: resource.__resource_type__ for resource in cls.resources}

    def functions(self) -> dict[str, HostFunction]:
        """All functions by name, bound to this object where they take ``self``. Raises TypeError for a bad declaration."""
        return {function.name: function for function in self._read()}

    def _read(self) -> Iterator[HostFunction]:
        for resource in self.resources:
            for attribute, function in _declared(resource):
                yield _read_function(resource, attribute, function, resource, None)
        for attribute, function in _declared(type(self)):
            yield _read_function(type(self), attribute, function, None, self)


def _declared(cls: type) -> Iterator[tuple[str, Any]]:
    seen = set()
    for base in cls.__mro__:
        for attribute, item in vars(base).items():
            function = item.__func__ if isinstance(item, staticmethod) else item
            if getattr(function, "__wit__", None) is not None and attribute not in seen:
                seen.add(attribute)
                # The signature is the declaration's; what is called may be an override without decorators.
                yield attribute, function


def _kebab(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def _read_function(
    cls: type, attribute: str, declared: Any, resource: type[Resource] | None, interface: Interface | None
) -> HostFunction:
    declaration: _Declaration = declared.__wit__
    where = f"{cls.__qualname__}.{attribute}"
    hints = _hints(declared, where)
    name = declaration.name or _kebab(attribute)
    params: list[tuple[str, ValType]] = []
    passes_state = False
    takes_self = False
    for position, parameter in enumerate(inspect.signature(declared).parameters.values()):
        if parameter.name == "self" and position == 0:
            takes_self = True
            continue
        if parameter.name not in hints:
            raise TypeError(f"{where}: the parameter {parameter.name} needs an annotation")
        hint = hints[parameter.name]
        if get_origin(hint) is Annotated and _Marker.STATE in hint.__metadata__:
            if params:
                raise TypeError(f"{where}: the State parameter must come first")
            passes_state = True
            continue
        params.append((_kebab(parameter.name), value_type(hint, f"{where}({parameter.name})")))
    hint = hints.get("return", type(None))
    may_suspend = inspect.iscoroutinefunction(declared)
    hint, awaited = _awaited(hint)
    marked = getattr(declared, "__wit_raises__", None)
    result = None if hint is type(None) else value_type(hint, f"{where}'s result")
    if marked is not None:
        error = None if marked.error is None else value_type(marked.error, f"{where}'s error")
        result = ResultType(result, error)
    if resource is None:
        call = getattr(interface if takes_self else cls, attribute)
    else:
        call = getattr(resource, attribute)
        own = resource.__resource_type__
        if declaration.kind == "method":
            params.insert(0, ("self", BorrowType(own)))
            if passes_state:
                call = _state_second(call)
        if declaration.kind == "constructor":
            name = f"[constructor]{own.name}"
        else:
            name = f"[{declaration.kind}]{own.name}.{name}"
    if inspect.iscoroutinefunction(call):
        may_suspend = True
    return HostFunction(name, FuncType(tuple(params), result), call, passes_state, may_suspend or awaited)


def _state_second(call: Callable[..., Any]) -> Callable[..., Any]:
    # Python wants self first, the caller passes the state first.
    return lambda state, self, *arguments: call(self, state, *arguments)


def _hints(function: Any, where: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise TypeError(
            f"{where}: {error}; names in annotations must be importable at run time, not under TYPE_CHECKING"
        ) from None


def _awaited(hint: Any) -> tuple[Any, bool]:
    """Splits ``T | Awaitable[T]``."""
    if get_origin(hint) in (Union, types.UnionType):
        rest = [part for part in get_args(hint) if get_origin(part) is not collections.abc.Awaitable]
        if len(rest) < len(get_args(hint)):
            # The payload of the awaitable is the whole result type, `T | None` included.
            (payload,) = (
                get_args(part)[0] for part in get_args(hint) if get_origin(part) is collections.abc.Awaitable
            )
            return (type(None) if payload is None else payload), True
    if get_origin(hint) is collections.abc.Awaitable:
        return get_args(hint)[0], True
    return hint, False


_PLAIN = {
    bool: Primitive.BOOL,
    float: Primitive.F64,
    str: Primitive.STRING,
    bytes: ListType(Primitive.U8),
}

_classes: dict[type, ValType] = {}


def value_type(hint: Any, where: str = "annotation") -> ValType:
    """The value type that an annotation stands for; raises TypeError, naming ``where``, when there is none."""
    if isinstance(hint, str):
        raise TypeError(f"{where}: the annotation {hint!r} is not resolved")
    if hint in _PLAIN:
        return _PLAIN[hint]
    origin = get_origin(hint)
    arguments = get_args(hint)
    if origin is Annotated:
        for mark in hint.__metadata__:
            if isinstance(mark, Primitive):
                return mark
            if mark in (_Marker.OWN, _Marker.BORROW):
                resource = getattr(arguments[0], "__resource_type__", None)
                if resource is None:
                    raise TypeError(f"{where}: {arguments[0]!r} is no resource: it must be a subclass of Resource with name=")
                return OwnType(resource) if mark is _Marker.OWN else BorrowType(resource)
        return value_type(arguments[0], where)
    if origin is list:
        return ListType(value_type(arguments[0], where))
    if origin is tuple:
        return TupleType(tuple(value_type(argument, where) for argument in arguments))
    if origin in (Union, types.UnionType):
        return _union_type(arguments, where)
    if origin is Ok or origin is Err or hint is Ok or hint is Err:
        raise TypeError(f"{where}: a result is written Ok[T] | Err[E]")
    if isinstance(hint, type):
        if hint not in _classes:
            _classes[hint] = _class_type(hint, where)
        return _classes[hint]
    raise TypeError(f"{where}: {hint!r} stands for no type of the component model")


def _union_type(arguments: tuple[Any, ...], where: str) -> ValType:
    outcomes = [argument for argument in arguments if (get_origin(argument) or argument) in (Ok, Err)]
    if outcomes and type(None) in arguments:
        return OptionType(_union_type(tuple(a for a in arguments if a is not type(None)), where))
    if outcomes:
        parts = {get_origin(argument) or argument: get_args(argument) for argument in outcomes}
        if len(arguments) != 2 or set(parts) != {Ok, Err}:
            raise TypeError(f"{where}: a result is written Ok[T] | Err[E] and nothing else")
        payloads = [
            None if not parts[kind] or parts[kind][0] is type(None) else value_type(parts[kind][0], where)
            for kind in (Ok, Err)
        ]
        return ResultType(payloads[0], payloads[1])
    rest = [argument for argument in arguments if argument is not type(None)]
    if len(rest) == len(arguments) or len(rest) != 1:
        raise TypeError(f"{where}: the only unions are T | None and Ok[T] | Err[E]; several cases are a Variant")
    if get_origin(rest[0]) is Some:
        return OptionType(value_type(get_args(rest[0])[0], where))
    payload = value_type(rest[0], where)
    if isinstance(payload, OptionType):
        raise TypeError(f"{where}: an option of an option is written Some[T | None] | None")
    return OptionType(payload)


def _class_type(cls: type, where: str) -> ValType:
    if cls is int:
        raise TypeError(f"{where}: int has no width: use u8, u16, u32, u64, s8, s16, s32 or s64 of wasi_http.component")
    if issubclass(cls, Variant):
        cases = []
        namespace = vars(__import__("sys").modules[cls.__module__])
        for name, payload, _ in cls.__cases__:
            if isinstance(payload, str):
                payload = eval(payload, dict(namespace))
            cases.append(Case(name, None if payload is None else value_type(payload, f"{cls.__qualname__}.{name}")))
        return VariantType(tuple(cases), cls)
    if issubclass(cls, enum.Flag):
        return FlagsType(tuple(_label(member) for member in cls), cls)
    if issubclass(cls, enum.Enum):
        return EnumType(tuple(_label(member) for member in cls), cls)
    if dataclasses.is_dataclass(cls):
        hints = _hints(cls, cls.__qualname__)
        fields = tuple(
            Field(_kebab(field.name), value_type(hints[field.name], f"{cls.__qualname__}.{field.name}"))
            for field in dataclasses.fields(cls)
        )
        return RecordType(fields, cls)
    if issubclass(cls, resources.Resource):
        raise TypeError(f"{where}: {cls.__qualname__} is a resource: write Own[{cls.__name__}] or Borrow[{cls.__name__}]")
    raise TypeError(f"{where}: {cls.__qualname__} stands for no type of the component model")


def _label(member: enum.Enum) -> str:
    return member.value if isinstance(member.value, str) else member.name.lower().replace("_", "-")
