"""Interfaces declared as Python classes, whose annotations are WIT types.

The same declaration serves both directions: interfaces that the host implements for guests, and those that a guest
exports, of which only the types are used. ::

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
``enum.Flag``; ``Own[R]`` and ``Borrow[R]`` of a `Resource`. Annotations are read when the interface is added to a
linker, so they may name classes that the module defines later, but not imports under ``TYPE_CHECKING``.

**Results**: ``@raises(E)`` makes the result ``result<T, E>``: the function returns T or raises `Err`. Without it, a
function annotated ``Ok[T] | Err[E]`` returns one of these (or raises `Err`).

**State**: a first parameter of type `State` is not part of the signature: it receives the store's ``data``.

**Suspending**: a function may suspend the guest if it is ``async``, or returns ``T | Awaitable[T]``: the value
synchronously, which is faster, or an awaitable of it. Others never suspend.

**Overriding**: subclasses replace functions. An override without a decorator takes the same parameters (the state
included) and has the declared types; with one it is a new declaration. A resource's methods are looked up on the
object, everything else on the registered interface and the resource classes that it lists. A function of an interface
that takes ``self`` is called on the interface object, so that instances can be configured; ``@method`` on these serves
type checkers only.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeVar

from wasi_http.component import handles
from wasi_http.component.declare.binding import Declaration, HostFunction, read_function, takes_self
from wasi_http.component.model.names import is_interface_name, is_label
from wasi_http.component.model.types import ResourceType

__all__ = ["Interface", "Resource", "constructor", "func", "method", "raises", "static"]

F = TypeVar("F", bound=Callable[..., Any])


def raises(error: Any = None) -> Callable[[F], F]:
    """Declares that the result is ``result<T, error>`` (``result<T>`` without an error): it raises ``Err(value)``."""

    def mark(function: F) -> F:
        marked: Any = getattr(function, "__func__", function)
        marked.__wit_raises__ = (error,)
        return function

    return mark


def _declare(kind: str, function: Any, name: str | None) -> Any:
    function = getattr(function, "__func__", function)
    has_self = takes_self(function)
    if kind == "method" and not has_self:
        raise TypeError(f"{function.__qualname__} is a method: its first parameter must be 'self'")
    if kind in ("static", "constructor") and has_self:
        raise TypeError(f"{function.__qualname__} is a {kind}: it takes no 'self'")
    function.__wit__ = Declaration(kind, name)
    return function if has_self else staticmethod(function)


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

    # Type checkers know only staticmethod as taking no self.
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


class Resource(handles.Resource):
    """Base of host resources: guests hold handles to the object itself.

    A class with ``name=`` is a new resource type; its subclasses are the same type with other behaviour.
    """

    __slots__ = ()
    __resource_type__: ClassVar[ResourceType]

    def __init_subclass__(cls, *, name: str | None = None, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        _check_reserved(cls, Resource)
        if name is not None:
            if not is_label(name):
                raise TypeError(
                    f"{cls.__qualname__}: {name!r} is not a resource name: words with dashes, like 'my-thing'"
                )
            cls.__resource_type__ = ResourceType(name, cls)


class Interface:
    """Base of interface declarations; ``name`` is the full name with version, ``package:ns/interface@1.2.3``.

    ``resources`` lists the resource classes that the interface defines, without those of others that it uses.
    """

    name: ClassVar[str]
    resources: ClassVar[tuple[type[Resource], ...]] = ()

    def __init_subclass__(cls, *, name: str | None = None, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        _check_reserved(cls, Interface)
        if name is not None:
            if not is_interface_name(name) and not is_label(name):
                raise TypeError(
                    f"{cls.__qualname__}: {name!r} is not an interface name; write package:name/interface@1.2.3"
                )
            cls.name = name

    @classmethod
    def resource_types(cls) -> dict[str, ResourceType]:
        """Returns the resource types that the interface defines, by name. Raises TypeError for a bad declaration."""
        found: dict[str, ResourceType] = {}
        for resource in cls.resources:
            resource_type = getattr(resource, "__resource_type__", None)
            if resource_type is None:
                raise TypeError(f"{cls.__qualname__}.resources: {resource!r} is not a subclass of Resource with name=")
            if found.setdefault(resource_type.name, resource_type) is not resource_type:
                raise TypeError(f"{cls.__qualname__}.resources: two resources have the name {resource_type.name}")
        return found

    def functions(self) -> dict[str, HostFunction]:
        """Returns all functions by name, bound to this object if they take ``self``.

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
            function = read_function(self, attribute, declared, owner)
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
                f"{cls.__qualname__}.{attribute}: {base.__name__} reserves the name; "
                f"a function of WIT is written {attribute}_"
            )


def _declared(cls: type) -> Iterator[tuple[str, Any]]:
    """Yields the declarations of a class and its bases. They have the types; an undecorated override may be called."""
    seen = set()
    for base in cls.__mro__:
        for attribute, item in vars(base).items():
            function = getattr(item, "__func__", item)
            if hasattr(function, "__wit__") and attribute not in seen:
                seen.add(attribute)
                yield attribute, function
