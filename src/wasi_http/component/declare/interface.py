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

**Names** in WIT are the Python names with dashes (a trailing ``_`` is dropped), or given by ``name=``.

**Types**: ``bool``, ``u8`` to ``u64``, ``s8`` to ``s64``, ``f32``, ``f64`` or ``float``, ``char``, ``str``;
``bytes`` (``list<u8>``), ``list[T]``, ``tuple[A, B]``; ``T | None`` (an option; see `Some` for an option of an option);
``Ok[T] | Err[E]`` (a result, either payload may be None); dataclasses (records), `Variant`, ``enum.Enum``,
``enum.Flag``; ``Own[R]`` and ``Borrow[R]`` of a `Resource`. Annotations are read when a linker takes the interface, so
classes may name others that the module defines later; they cannot name what only type checkers import.

**Outcomes**: ``@raises(E)`` makes the result ``result<T, E>``: the function returns T or raises `Err`. Without it a
function that is annotated ``Ok[T] | Err[E]`` returns one of these (or raises `Err`).

**State**: a first parameter of type `State` is not part of the signature: the store's ``data`` is passed there.

**Suspending**: a function may suspend the guest when it is ``async``, or returns ``T | Awaitable[T]``: the value at
once, which is faster, or something to wait for. All others never do.

**Overriding**: subclasses replace functions. Without a decorator the override takes the same parameters (the state
included) and the types are those of the declaration; with one it is a declaration of its own. A method of a resource is
looked up in the object at hand, all else in the interface that is registered and in the resource classes that it lists.
A function of an interface that takes ``self`` is called on the interface object, so that its instances can be
configured; type checkers want ``@method`` on these, and nothing else cares.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import inspect
import sys
import types
import typing
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeAlias, TypeVar, Union, get_args, get_origin

from wasi_http.component import handles
from wasi_http.component.abi.layout import contains_borrow
from wasi_http.component.model.names import is_interface_name, is_label
from wasi_http.component.model.types import (
    MAX_FLAGS,
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
from wasi_http.component.model.values import Err, Ok, Some, Variant

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
    OWN = "Own"
    BORROW = "Borrow"
    STATE = "State"


Own = Annotated[T, _Marker.OWN]
Borrow = Annotated[T, _Marker.BORROW]
State = Annotated[T, _Marker.STATE]

# Decorators leave on the function: __wit__, a _Declaration, and __wit_raises__, a tuple of the annotation of the error.


@dataclass(frozen=True, slots=True)
class _Declaration:
    kind: str
    name: str | None


def raises(error: Any = None) -> Callable[[F], F]:
    """The function's result is ``result<T, error>`` (``result<T>`` without an error type): it raises ``Err(value)``."""

    def mark(function: F) -> F:
        marked: Any = getattr(function, "__func__", function)
        marked.__wit_raises__ = (error,)
        return function

    return mark


def _takes_self(function: Any) -> bool:
    return next(iter(inspect.signature(function).parameters), None) == "self"


def _declare(kind: str, function: Any, name: str | None) -> Any:
    function = getattr(function, "__func__", function)
    takes_self = _takes_self(function)
    if kind == "method" and not takes_self:
        raise TypeError(f"{function.__qualname__} is a method: its first parameter must be 'self'")
    if kind in ("static", "constructor") and takes_self:
        raise TypeError(f"{function.__qualname__} is a {kind}: it takes no 'self'")
    function.__wit__ = _Declaration(kind, name)
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

    # Only under the name of staticmethod do type checkers know that there is no self.
    method: _Decorator
    static = staticmethod
    constructor = staticmethod
    func = staticmethod
else:
    #: A method of a resource: ``self`` is borrowed. In an interface: a free function, called on the interface object.
    method = _decorator("method")
    #: A function that belongs to a resource without taking one.
    static = _decorator("static")
    #: The function that makes a resource.
    constructor = _decorator("constructor")
    #: A free function of an interface.
    func = _decorator("func")


@dataclass(frozen=True, slots=True)
class HostFunction:
    """One function of an interface, by its name in an instance type (``[method]fields.get``).

    ``call`` takes positional arguments in WIT's order, after the state when ``passes_state``. Of a function whose type
    has a result<T, E>, it returns T or raises `Err`. ``may_suspend`` says that it may return an awaitable.
    """

    name: str
    type: FuncType
    call: Callable[..., Any]
    passes_state: bool
    may_suspend: bool


class Resource(handles.Resource):
    """Base of host resources: the object itself is what guests hold handles to.

    A class with ``name=`` is a new resource type; a subclass of it is the same type with other behaviour.
    """

    __slots__ = ()
    __resource_type__: ClassVar[ResourceType]

    def __init_subclass__(cls, *, name: str | None = None, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        _check_reserved(cls, Resource)
        if name is not None:
            if not is_label(name):
                raise TypeError(
                    f"{cls.__qualname__}: {name!r} is no name of a resource: words with dashes, like 'my-thing'"
                )
            cls.__resource_type__ = ResourceType(name, cls)


class Interface:
    """Base of interface declarations; ``name`` is the full name with version, ``package:ns/interface@1.2.3``.

    ``resources`` lists the resource classes that the interface defines (not those that it uses of others).
    """

    name: ClassVar[str]
    resources: ClassVar[tuple[type[Resource], ...]] = ()

    def __init_subclass__(cls, *, name: str | None = None, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        _check_reserved(cls, Interface)
        if name is not None:
            if not is_interface_name(name) and not is_label(name):
                raise TypeError(
                    f"{cls.__qualname__}: {name!r} is no name of an interface; write package:name/interface@1.2.3"
                )
            cls.name = name

    @classmethod
    def resource_types(cls) -> dict[str, ResourceType]:
        """The resource types that the interface defines, by name. Raises TypeError for a bad declaration."""
        found: dict[str, ResourceType] = {}
        for resource in cls.resources:
            resource_type = getattr(resource, "__resource_type__", None)
            if resource_type is None:
                raise TypeError(f"{cls.__qualname__}.resources: {resource!r} is no subclass of Resource with name=")
            if found.setdefault(resource_type.name, resource_type) is not resource_type:
                raise TypeError(f"{cls.__qualname__}.resources: two resources have the name {resource_type.name}")
        return found

    def functions(self) -> dict[str, HostFunction]:
        """All functions by name, bound to this object where they take ``self``.

        Raises TypeError for a bad declaration.
        """
        cls = type(self)
        if not hasattr(cls, "name"):
            raise TypeError(
                f'{cls.__qualname__} has no name: class {cls.__name__}(Interface, name="package:ns/interface")'
            )
        cls.resource_types()
        found: dict[str, HostFunction] = {}
        for attribute, declared, owner in self._declarations():
            function = _read_function(self, attribute, declared, owner)
            if function.name in found:
                raise TypeError(f"{declared.__qualname__}: the interface {cls.name} has {function.name} twice")
            found[function.name] = function
        return found

    def _declarations(self) -> Iterator[tuple[str, Any, type[Resource] | None]]:
        for resource in self.resources:
            for attribute, declared in _declared(resource):
                yield attribute, declared, resource
        for attribute, declared in _declared(type(self)):
            yield attribute, declared, None


def _check_reserved(cls: type, base: type) -> None:
    for attribute, item in vars(cls).items():
        function = getattr(item, "__func__", item)
        reserved = hasattr(base, attribute) or (base is Interface and attribute == "name")
        if reserved and hasattr(function, "__wit__"):
            raise TypeError(
                f"{cls.__qualname__}.{attribute}: the name means something else in {base.__name__}; "
                f"a function of WIT is written {attribute}_"
            )


def _declared(cls: type) -> Iterator[tuple[str, Any]]:
    """The declarations of a class and its bases. Each has the types; what is called may be an undecorated override."""
    seen = set()
    for base in cls.__mro__:
        for attribute, item in vars(base).items():
            function = getattr(item, "__func__", item)
            if hasattr(function, "__wit__") and attribute not in seen:
                seen.add(attribute)
                yield attribute, function


# Functions


def _read_function(interface: Interface, attribute: str, declared: Any, owner: type[Resource] | None) -> HostFunction:
    declaration: _Declaration = declared.__wit__
    where: str = declared.__qualname__
    _check_kind(declaration.kind, where, owner)
    params, passes_state = _read_params(declared)
    result, may_suspend = _read_return(declared)
    returns_outcome = isinstance(result, ResultType)
    marked = getattr(declared, "__wit_raises__", None)
    if marked is not None:
        returns_outcome = False
        result = ResultType(result, _read_error(declared, marked[0]))
    if result is not None and contains_borrow(result):
        raise TypeError(f"{where}: a result cannot be borrowed: write Own[...]")

    name = declaration.name or _kebab(attribute)
    if not is_label(name):
        raise TypeError(
            f'{where}: {name!r} is no name in WIT: rename it, or @{declaration.kind}(name="words-with-dashes")'
        )
    if owner is None:
        call = _attribute(type(interface), attribute, interface)
        takes = call
    else:
        resource = owner.__resource_type__
        if declaration.kind == "constructor":
            name = f"[constructor]{resource.name}"
            made = result.ok if isinstance(result, ResultType) else result
            if made != OwnType(resource):
                raise TypeError(f"{where}: a constructor returns Own[{owner.__name__}]")
        else:
            name = f"[{declaration.kind}]{resource.name}.{name}"
        if declaration.kind == "method":
            takes = getattr(owner, attribute)
            call = _dispatcher(attribute, len(params), passes_state, where)
            params.insert(0, ("self", BorrowType(resource)))
        else:
            takes = call = _attribute(owner, attribute, None)
    may_suspend = may_suspend or inspect.iscoroutinefunction(takes)
    if getattr(takes, "__func__", takes) is not declared:
        _check_override(takes, len(params) + passes_state, where)
    if returns_outcome:
        call = _unwrapping(call, may_suspend, where)
    return HostFunction(name, FuncType(tuple(params), result), call, passes_state, may_suspend)


def _check_kind(kind: str, where: str, owner: type[Resource] | None) -> None:
    if owner is None and kind in ("static", "constructor"):
        raise TypeError(f"{where}: @{kind} belongs in a Resource; a function of an interface is a @func")
    if owner is not None and kind == "func":
        raise TypeError(f"{where}: @func belongs in an Interface; a function of a resource is a @method or @static")


def _read_params(declared: Any) -> tuple[list[tuple[str, ValType]], bool]:
    params: list[tuple[str, ValType]] = []
    passes_state = False
    names = set()
    for position, parameter in enumerate(inspect.signature(declared).parameters.values()):
        if position == 0 and parameter.name == "self":
            continue
        where = f"{declared.__qualname__}({parameter.name}: {_text(parameter.annotation)})"
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            raise TypeError(f"{where}: functions of WIT have positional parameters only")
        if parameter.annotation is parameter.empty:
            raise TypeError(f"{where}: the parameter {parameter.name} needs an annotation")
        hint = _resolve(parameter.annotation, _namespace(declared), where)
        if _marker(hint) is _Marker.STATE:
            if params or passes_state:
                raise TypeError(f"{where}: there is one State parameter, and it comes first")
            passes_state = True
            continue
        name = _kebab(parameter.name)
        if not is_label(name) or name.lower() in names:
            raise TypeError(
                f"{where}: {name!r} is no name in WIT, or not the only one of that name: rename the parameter"
            )
        names.add(name.lower())
        params.append((name, value_type(hint, where)))
    return params, passes_state


def _read_return(declared: Any) -> tuple[ValType | None, bool]:
    """The type that is returned, now or later, and whether the declaration lets the function suspend."""
    annotation = inspect.signature(declared).return_annotation
    if annotation is inspect.Signature.empty:
        raise TypeError(f"{declared.__qualname__}: the result needs an annotation; write -> None when there is none")
    where = f"{declared.__qualname__} -> {_text(annotation)}"
    hint, may_suspend = _awaited(_resolve(annotation, _namespace(declared), where), where)
    if inspect.iscoroutinefunction(declared):
        if may_suspend:
            raise TypeError(f"{where}: an async function is annotated with what it returns when awaited")
        may_suspend = True
    return None if hint is type(None) else value_type(hint, where), may_suspend


def _awaited(hint: Any, where: str) -> tuple[Any, bool]:
    """T and True of ``T | Awaitable[T]`` or ``Awaitable[T]``, else the annotation and False."""
    parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    awaitables = [part for part in parts if get_origin(part) is collections.abc.Awaitable]
    if not awaitables:
        return hint, False
    (payload,) = get_args(awaitables[0])
    payload = type(None) if payload is None else payload
    at_once = set(parts) - set(awaitables)
    awaited = set(get_args(payload)) if get_origin(payload) in (Union, types.UnionType) else {payload}
    if len(awaitables) > 1 or (at_once and at_once != awaited):
        raise TypeError(f"{where}: write T | Awaitable[T], with the same T")
    return payload, True


def _read_error(declared: Any, annotation: Any) -> ValType | None:
    if annotation is None:
        return None
    where = f"{declared.__qualname__}, @raises({_text(annotation)})"
    return value_type(_resolve(annotation, _namespace(declared), where), where)


def _attribute(cls: type, attribute: str, interface: Interface | None) -> Any:
    item = inspect.getattr_static(cls, attribute)
    # An override need not say that it is static.
    if interface is not None and inspect.isfunction(item) and _takes_self(item):
        return getattr(interface, attribute)
    return getattr(cls, attribute)


def _check_override(function: Any, count: int, where: str) -> None:
    signature = inspect.signature(function)
    try:
        signature.bind(*[None] * count)
    except TypeError:
        name = getattr(function, "__qualname__", repr(function))
        raise TypeError(f"{name} overrides {where} and takes {signature}: it has to take as many parameters") from None


def _dispatcher(attribute: str, count: int, passes_state: bool, where: str) -> Callable[..., Any]:
    """A function that calls a method, by name: the object may be of a subclass that overrides it.

    Written out for the number of parameters, it costs 10 to 20 ns; with ``getattr`` and ``*arguments`` it is 90.
    """
    arguments = [f"a{i}" for i in range(count)]
    state = ["state"] if passes_state else []
    source = f"lambda {', '.join([*state, 'self', *arguments])}: self.{attribute}({', '.join([*state, *arguments])})"
    call: Callable[..., Any] = eval(compile(source, f"<call of {where}>", "eval"))
    return call


def _unwrapping(call: Callable[..., Any], may_suspend: bool, where: str) -> Callable[..., Any]:
    """A function that returns T or raises `Err`, for one that returns ``Ok[T] | Err[E]``."""

    def unwrap(outcome: Any) -> Any:
        if isinstance(outcome, Err):
            raise outcome
        if not isinstance(outcome, Ok):
            raise TypeError(f"{where} returned {outcome!r}, neither Ok nor Err")
        return outcome.value

    async def later(outcome: Awaitable[Any]) -> Any:
        return unwrap(await outcome)

    def unwrapping(*arguments: Any) -> Any:
        outcome = call(*arguments)
        return later(outcome) if may_suspend and isinstance(outcome, Awaitable) else unwrap(outcome)

    return unwrapping


# Annotations


def _kebab(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def _text(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _namespace(function: Any) -> dict[str, Any]:
    namespace: dict[str, Any] = inspect.unwrap(function).__globals__
    return namespace


def _resolve(annotation: Any, namespace: dict[str, Any], where: str) -> Any:
    """The object that an annotation stands for, strings in it evaluated."""

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


def _marker(hint: Any) -> _Marker | None:
    if get_origin(hint) is not Annotated:
        return None
    return next((mark for mark in hint.__metadata__ if isinstance(mark, _Marker)), None)


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
    type(None): "None alone is no type: it is the absence of an option, T | None",
    Any: "every value has a type: name it",
    Ok: "a result is written Ok[T] | Err[E]",
    Err: "a result is written Ok[T] | Err[E]",
    Some: "Some serves only for an option of an option: Some[T | None] | None",
}

_classes: dict[type, ValType] = {}


def value_type(hint: Any, where: str = "annotation") -> ValType:
    """The value type that an annotation stands for; raises TypeError, naming ``where``, when there is none."""
    return _value_type(hint, where, ())


def _value_type(hint: Any, where: str, inside: tuple[type, ...]) -> ValType:
    # ``inside`` are the classes whose members are being read.
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
    raise TypeError(f"{where}: {_text(hint)} stands for no type of WIT")


def _annotated_type(hint: Any, where: str, inside: tuple[type, ...]) -> ValType:
    python = get_args(hint)[0]
    mark = _marker(hint)
    if mark is None:
        primitive = next((mark for mark in hint.__metadata__ if isinstance(mark, Primitive)), None)
        return primitive or _value_type(python, where, inside)
    if mark is _Marker.STATE:
        raise TypeError(f"{where}: State is for a whole parameter: state: State[T]")
    resource = getattr(python, "__resource_type__", None)
    if not isinstance(resource, ResourceType):
        raise TypeError(f"{where}: {mark.value}[...] needs a subclass of Resource with name=, not {_text(python)}")
    return OwnType(resource) if mark is _Marker.OWN else BorrowType(resource)


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
            place = f"{where}: {form.__qualname__} = case({name!r}, {_text(annotation)})"
            payload = _value_type(_resolve(annotation, namespace, place), place, inside)
        cases.append(Case(name, payload))
    _check_names(cls, [case.name for case in cases], "case", where)
    return VariantType(tuple(cases), cls)


def _record_type(cls: type[Any], where: str, inside: tuple[type, ...]) -> RecordType:
    # A field's annotation belongs to the module of the class that declares it.
    modules = {name: base.__module__ for base in reversed(cls.__mro__) for name in inspect.get_annotations(base)}
    fields = []
    for field in dataclasses.fields(cls):
        place = f"{where}: {cls.__qualname__}.{field.name}: {_text(field.type)}"
        if not field.init or field.kw_only:
            raise TypeError(f"{place}: the fields of a record are passed to its class by position")
        hint = _resolve(field.type, vars(sys.modules[modules[field.name]]), place)
        fields.append(Field(_kebab(field.name), _value_type(hint, place, inside)))
    _check_names(cls, [field.name for field in fields], "field", where)
    return RecordType(tuple(fields), cls)


def _labels(cls: type[enum.Enum], where: str) -> tuple[str, ...]:
    labels = [member.value if isinstance(member.value, str) else _kebab(member.name or "").lower() for member in cls]
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
