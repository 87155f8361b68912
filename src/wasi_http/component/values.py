"""What values of variants, results and nested options are in Python.

Records are dataclasses, enums `enum.Enum`, flags `enum.Flag`; variants and results have the classes below. All of them
compare and hash by value, can be pickled and copied, and are understood by ``match``.
"""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar

__all__ = ["Err", "Ok", "Some", "Variant", "case"]

T = TypeVar("T")
E = TypeVar("E")


class Ok(Generic[T]):
    """The good outcome of a result."""

    __slots__ = ("value",)
    __match_args__ = ("value",)

    def __init__(self, value: T = None) -> None:  # type: ignore[assignment]
        self.value = value

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.value == other.value

    def __hash__(self) -> int:
        return hash((type(self), self.value))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value!r})"


class Some(Ok[T]):
    """The outer level of an option whose payload has ``None`` among its own values: ``Some[T | None] | None``."""

    __slots__ = ()


class Err(Exception, Generic[E]):
    """The bad outcome of a result: a value like `Ok`, and an exception.

    A host function raises it to make the error its result; a call of a guest's function raises it likewise.
    """

    __match_args__ = ("value",)

    def __init__(self, value: E = None) -> None:  # type: ignore[assignment]
        super().__init__(value)
        self.value = value

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.value == other.value

    def __hash__(self) -> int:
        return hash((type(self), self.value))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value!r})"


class _Case:
    __slots__ = ("name", "payload")

    def __init__(self, name: str | None, payload: Any) -> None:
        self.name = name
        self.payload = payload


def case(name: str | None = None, payload: Any = None) -> Any:
    """Declares a case of a `Variant`: its name in WIT (else the attribute's, with dashes) and its payload's annotation.

    The annotation may be a string that names something of the module.
    """
    return _Case(name, payload)


class Variant:
    """Base of variants; subclasses declare their cases in order::

        class Scheme(Variant):
            HTTP: ClassVar[Scheme] = case("HTTP")
            HTTPS: ClassVar[Scheme] = case("HTTPS")
            Other = case("other", str)

    A case without a payload is the one instance ``Scheme.HTTP``; one with a payload is a subclass, ``Scheme.Other("ws")``,
    whose instances have ``value``.
    """

    __slots__ = ()

    #: (name in WIT, annotation of the payload or None, the singleton or the subclass), in order.
    __cases__: ClassVar[tuple[tuple[str, Any, Any], ...]] = ()
    #: The position of the instance's case.
    _tag: int
    _name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        if cls.__cases__:  # a class of one of the cases, made below
            return
        declared = [(attribute, item) for attribute, item in vars(cls).items() if isinstance(item, _Case)]
        if not declared:
            raise TypeError(f"{cls.__qualname__} declares no case: a variant needs one at least")
        cases = []
        made: list[tuple[str, type[Variant], _Case, str]] = []
        for tag, (attribute, item) in enumerate(declared):
            name = item.name or attribute.lower().replace("_", "-")
            body = {
                "__slots__": () if item.payload is None else ("value",),
                "__module__": cls.__module__,
                "__qualname__": f"{cls.__qualname__}.{attribute}",
                "_tag": tag,
                "_name": attribute,
            }
            if item.payload is not None:
                body["__match_args__"] = ("value",)
                body["__init__"] = _set_value
            cls.__cases__ = ((name, None, None),)  # marks the classes of cases for __init_subclass__
            kind = type(cls)(attribute, (cls,), body)
            made.append((attribute, kind, item, name))
        for attribute, kind, item, name in made:
            form = kind() if item.payload is None else kind
            setattr(cls, attribute, form)
            cases.append((name, item.payload, form))
        cls.__cases__ = tuple(cases)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return False
        return self is other or getattr(self, "value", self) == getattr(other, "value", other)

    def __hash__(self) -> int:
        return hash((type(self), getattr(self, "value", None)))

    def __repr__(self) -> str:
        name = type(self).__qualname__
        return f"{name}({self.value!r})" if hasattr(self, "value") else name

    def __reduce__(self) -> Any:
        if hasattr(self, "value"):
            return type(self), (self.value,)
        return _singleton, (type(self).__mro__[1], self._name)

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        return self



def _set_value(self: Any, value: Any) -> None:
    self.value = value


def _singleton(variant: type[Variant], name: str) -> Any:
    return getattr(variant, name)


