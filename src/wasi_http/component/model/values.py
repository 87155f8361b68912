"""Python values of variants, results and nested options.

Records are dataclasses, enums `enum.Enum`, flags `enum.Flag`, and ``option<T>`` is ``T | None``; the rest has the
classes below. All of them compare and hash by value, can be copied and pickled, and support ``match``. Treat them as
immutable.
"""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar, cast

__all__ = ["Err", "Ok", "Some", "Variant", "case"]

T = TypeVar("T")
E = TypeVar("E")


class _ByValue:
    """Compares, hashes, prints and copies an object by its ``value``."""

    __slots__ = ()
    __match_args__ = ("value",)
    value: Any

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.value == other.value

    def __hash__(self) -> int:
        return hash((type(self), self.value))

    def __repr__(self) -> str:
        return f"{type(self).__qualname__}({self.value!r})"

    def __reduce__(self) -> Any:
        return type(self), (self.value,)


class _Holder(_ByValue, Generic[T]):
    """A value tagged by its class."""

    __slots__ = ("value",)

    def __init__(self, value: T = None) -> None:  # type: ignore[assignment]
        self.value = value


class Ok(_Holder[T]):
    """The success of a result, ``Ok[T] | Err[E]``. Without a payload the value is None."""

    __slots__ = ()


class Some(_Holder[T]):
    """The outer level of an option of an option.

    ``T | None | None`` would be one option only, so ``option<option<T>>`` is written ``Some[T | None] | None``, and its
    values are ``None``, ``Some(None)`` and ``Some(value)``. Other options do not use it.
    """

    __slots__ = ()


class Err(_ByValue, Exception, Generic[E]):
    """The error of a result: a value like `Ok`, and an exception.

    A host function raises it to return the error; calls of guest functions raise it, too. Make a new one each time: a
    re-raised exception keeps its earlier tracebacks.
    """

    __slots__ = ("value",)

    def __init__(self, value: E = None) -> None:  # type: ignore[assignment]
        # Exception.__init__ would only repeat what __new__ did, at the price of everything else here.
        self.value = value

    def __str__(self) -> str:
        return str(self.value)

    def __reduce__(self) -> Any:
        return type(self), (self.value,), self.__dict__ or None


class _Case:
    __slots__ = ("name", "payload")

    def __init__(self, name: str | None, payload: Any) -> None:
        self.name = name
        self.payload = payload


def case(name: str | None = None, payload: Any = None) -> Any:
    """Declares a case of a `Variant`: its name in WIT and the annotation of its payload.

    Without a name it is the attribute's, in lower case and with dashes. The annotation may be or contain strings, which
    may name what the variant's module defines later.
    """
    if name is not None and not isinstance(name, str):
        raise TypeError(
            f"the name of a case must be a str, not {name!r}: write case(name, payload) or case(payload=...)"
        )
    return _Case(name, payload)


class _VariantClass(type):
    """Gives variants and their cases ``__slots__``."""

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **arguments: Any) -> _VariantClass:
        namespace.setdefault("__slots__", ())
        return super().__new__(cls, name, bases, namespace, **arguments)


class Variant(metaclass=_VariantClass):
    """Base of variants; subclasses declare their cases in order::

        class Scheme(Variant):
            HTTP: ClassVar[Scheme] = case("HTTP")
            HTTPS: ClassVar[Scheme] = case("HTTPS")
            Other = case("other", str)

    A case without a payload is the one instance ``Scheme.HTTP``, to be compared by ``is`` or ``==``. One with a payload
    is a subclass: ``Scheme.Other("ws")`` has a ``value``. Variants may have methods of their own, but no subclasses.
    """

    __slots__ = ()

    #: (name in WIT, annotation of the payload or None, the instance or else the subclass), in order.
    __cases__: ClassVar[tuple[tuple[str, Any, Any], ...]] = ()
    #: The position of the instance's case, and the name of its attribute.
    _tag: ClassVar[int]
    _name: ClassVar[str]

    def __init_subclass__(cls, *, made: bool = False) -> None:
        if made:  # the class of a case, or what such classes share
            return
        if cls.__cases__:
            raise TypeError(f"{cls.__qualname__} extends a variant: declare all cases in one class under Variant")
        declared = {attribute: item for attribute, item in vars(cls).items() if isinstance(item, _Case)}
        if not declared:
            raise TypeError(f'{cls.__qualname__} declares no case: a variant needs one at least, Name = case("name")')
        cases = []
        for tag, (attribute, item) in enumerate(declared.items()):
            name = item.name or attribute.rstrip("_").lower().replace("_", "-")
            namespace = {
                "__module__": cls.__module__,
                "__qualname__": f"{cls.__qualname__}.{attribute}",
                "_tag": tag,
                "_name": attribute,
            }
            bases = (cls,) if item.payload is None else (cls, _Payload)
            kind = _VariantClass(attribute, bases, namespace, made=True)
            form: Any = kind if item.payload is not None else object.__new__(cast("type[Variant]", kind))
            setattr(cls, attribute, form)
            cases.append((name, item.payload, form))
        cls.__cases__ = tuple(cases)

    def __init__(self, *values: Any) -> None:
        forms = ", ".join(form.__qualname__ if isinstance(form, type) else repr(form) for _, _, form in self.__cases__)
        raise TypeError(f"{type(self).__qualname__} makes no instances: take one of {forms}")

    def __repr__(self) -> str:
        return type(self).__qualname__

    def __reduce__(self) -> Any:
        return getattr, (type(self).__mro__[1], self._name)


class _Payload(_ByValue, Variant, made=True):
    """Base of cases with a payload."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value
