"""Functions of interfaces: their types, and how the host calls their implementations."""

from __future__ import annotations

import collections.abc
import inspect
import types
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Union, get_args, get_origin

from wasi_http.component.abi.layout import contains_borrow
from wasi_http.component.declare.annotations import Marker, kebab, marker_of, namespace_of, resolve, text_of, value_type
from wasi_http.component.model.names import is_label
from wasi_http.component.model.types import BorrowType, FuncType, OwnType, ResultType, ValType
from wasi_http.component.model.values import Err, Ok

__all__ = ["Declaration", "HostFunction", "read_function", "takes_self"]

# Decorators set on the function: __wit__, a Declaration, and __wit_raises__, a tuple of the error's annotation.


@dataclass(frozen=True, slots=True)
class Declaration:
    kind: str
    name: str | None


@dataclass(frozen=True, slots=True)
class HostFunction:
    """One function of an interface, by its name in an instance type (``[method]fields.get``).

    ``call`` takes positional arguments in WIT's order, after the state if ``passes_state``. If the result is a
    result<T, E>, it returns T or raises `Err`. With ``may_suspend`` it may return an awaitable.
    """

    name: str
    type: FuncType
    call: Callable[..., Any]
    passes_state: bool
    may_suspend: bool


def takes_self(function: Any) -> bool:
    return next(iter(inspect.signature(function).parameters), None) == "self"


def read_function(interface: object, attribute: str, declared: Any, owner: type[Any] | None) -> HostFunction:
    declaration: Declaration = declared.__wit__
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

    name = declaration.name or kebab(attribute)
    if not is_label(name):
        raise TypeError(
            f'{where}: {name!r} is not a WIT name: rename it, or @{declaration.kind}(name="words-with-dashes")'
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


def _check_kind(kind: str, where: str, owner: type[Any] | None) -> None:
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
        where = f"{declared.__qualname__}({parameter.name}: {text_of(parameter.annotation)})"
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            raise TypeError(f"{where}: functions of WIT have positional parameters only")
        if parameter.annotation is parameter.empty:
            raise TypeError(f"{where}: the parameter {parameter.name} needs an annotation")
        hint = resolve(parameter.annotation, namespace_of(declared), where)
        if marker_of(hint) is Marker.STATE:
            if params or passes_state:
                raise TypeError(f"{where}: there is one State parameter, and it comes first")
            passes_state = True
            continue
        name = kebab(parameter.name)
        if not is_label(name) or name.lower() in names:
            raise TypeError(
                f"{where}: {name!r} is not a WIT name, or not the only one of that name: rename the parameter"
            )
        names.add(name.lower())
        params.append((name, value_type(hint, where)))
    return params, passes_state


def _read_return(declared: Any) -> tuple[ValType | None, bool]:
    """Returns the result type, awaited or not, and whether the declaration lets the function suspend."""
    annotation = inspect.signature(declared).return_annotation
    if annotation is inspect.Signature.empty:
        raise TypeError(f"{declared.__qualname__}: the result needs an annotation; write -> None when there is none")
    where = f"{declared.__qualname__} -> {text_of(annotation)}"
    hint, may_suspend = _awaited(resolve(annotation, namespace_of(declared), where), where)
    if inspect.iscoroutinefunction(declared):
        if may_suspend:
            raise TypeError(f"{where}: an async function is annotated with what it returns when awaited")
        may_suspend = True
    return None if hint is type(None) else value_type(hint, where), may_suspend


def _awaited(hint: Any, where: str) -> tuple[Any, bool]:
    """Returns T and True for ``T | Awaitable[T]`` or ``Awaitable[T]``, else the annotation and False."""
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
    where = f"{declared.__qualname__}, @raises({text_of(annotation)})"
    return value_type(resolve(annotation, namespace_of(declared), where), where)


def _attribute(cls: type, attribute: str, interface: object | None) -> Any:
    item = inspect.getattr_static(cls, attribute)
    # An override need not say that it is static.
    if interface is not None and inspect.isfunction(item) and takes_self(item):
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
    """Returns a function that calls a method by name, so that subclasses may override it.

    Generated for the number of parameters, it costs 10 to 20 ns; with ``getattr`` and ``*arguments`` it would cost 90.
    """
    arguments = [f"a{i}" for i in range(count)]
    state = ["state"] if passes_state else []
    source = f"lambda {', '.join([*state, 'self', *arguments])}: self.{attribute}({', '.join([*state, *arguments])})"
    call: Callable[..., Any] = eval(compile(source, f"<call of {where}>", "eval"))
    return call


def _unwrapping(call: Callable[..., Any], may_suspend: bool, where: str) -> Callable[..., Any]:
    """Returns a function that returns T or raises `Err`, given one that returns ``Ok[T] | Err[E]``."""

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
