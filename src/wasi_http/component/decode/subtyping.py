"""Substitution of resource types, and subtyping (specification: Explainer.md, "Type Checking").

Types in a binary may be small on disk and huge when expanded (a pair of pairs of pairs …), so every type has a limited
depth and size, and all work on the types of one binary is counted and limited.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeVar, cast

from wasi_http.component.decode.definitions import (
    OPAQUE_MODULE,
    AnyType,
    ComponentType,
    CoreModuleType,
    ExternType,
    InstanceType,
    Sort,
    TypeBound,
)
from wasi_http.component.model.types import BorrowType, FuncType, Primitive, ResourceType, Type

__all__ = ["MAX_TYPE_DEPTH", "MAX_TYPE_SIZE", "MAX_TYPE_WORK", "TypeChecker", "TypeFacts", "TypeFault", "sort_of"]

MAX_TYPE_DEPTH = 100
"""The deepest nesting of types: a list of lists has depth 3."""

MAX_TYPE_SIZE = 100_000
"""Nodes of an expanded type, names counted by length."""

MAX_TYPE_WORK = 1_000_000
"""Nodes imported, substituted, compared or searched for one binary; a large real one takes some ten thousand."""

_Bindings = dict[ResourceType, ResourceType]
_Any = TypeVar("_Any", bound=Type)


class TypeFault(Exception):
    """A type is too large, or does not match; the message has no position."""


class TypeFacts(NamedTuple):
    depth: int
    size: int
    borrows: bool
    resources: bool


_LEAF = TypeFacts(1, 1, False, False)
_RESOURCE = TypeFacts(1, 1, False, True)


def sort_of(type_: ExternType) -> Sort:
    match type_:
        case FuncType():
            return Sort.FUNC
        case TypeBound():
            return Sort.TYPE
        case InstanceType():
            return Sort.INSTANCE
        case ComponentType():
            return Sort.COMPONENT
    return Sort.CORE_MODULE


def _brief(type_: Type) -> str:
    text = str(type_)
    return text if len(text) <= 300 else text[:300] + "..."


class TypeChecker:
    """Facts about the types of one binary, and the account of the work on them."""

    def __init__(self) -> None:
        self._facts: dict[int, tuple[TypeFacts, object]] = {}  # by id; the type is kept so that the id stays its own
        self._work = 0

    def facts(self, type_: Type) -> TypeFacts:
        """Returns facts about a type. Like every method, raises `TypeFault` if the type exceeds a limit."""
        known = self._facts.get(id(type_))
        if known is not None:
            return known[0]
        if isinstance(type_, (Primitive, CoreModuleType)):
            return _LEAF
        if isinstance(type_, ResourceType):
            return _RESOURCE
        depth, size, borrows, resources = 0, 1, isinstance(type_, BorrowType), False
        for name in type_.names():
            size += 1 + (len(name) >> 3)
        for child in type_.children():
            if child is not None:
                inner = self.facts(child)
                if inner.depth > depth:
                    depth = inner.depth
                size += inner.size
                borrows = borrows or inner.borrows
                resources = resources or inner.resources
        if depth >= MAX_TYPE_DEPTH:
            raise TypeFault(f"a type is nested more than {MAX_TYPE_DEPTH} levels deep")
        if size > MAX_TYPE_SIZE:
            raise TypeFault(f"a type has more than {MAX_TYPE_SIZE} parts")
        facts = TypeFacts(depth + 1, size, borrows, resources)
        self._facts[id(type_)] = facts, type_
        return facts

    def charge(self, amount: int) -> None:
        self._work += amount
        if self._work > MAX_TYPE_WORK:
            raise TypeFault(f"the types are too complex: more than {MAX_TYPE_WORK} parts are compared or replaced")

    def free_resources(self, type_: Type) -> set[ResourceType]:
        """Returns the resource types in a type, without those that it introduces."""
        found: set[ResourceType] = set()
        bound: set[ResourceType] = set()
        seen: set[int] = set()
        pending: list[Type | None] = [type_]
        while pending:
            item = pending.pop()
            if item is None or id(item) in seen:
                continue
            seen.add(id(item))
            if isinstance(item, ResourceType):
                found.add(item)
            elif self.facts(item).resources:
                if isinstance(item, InstanceType):
                    bound.update(item.abstract)
                elif isinstance(item, ComponentType):
                    bound.update(item.imported, item.generated)
                pending.extend(item.children())
        self.charge(len(seen))
        return found - bound

    def exposed_resources(self, type_: ExternType) -> set[ResourceType]:
        """Returns the resource types that an import or export of this type names."""
        match type_:
            case TypeBound(ResourceType() as resource):
                return {resource}
            case InstanceType(exports=exports):
                self.charge(len(exports))
                return set().union(*map(self.exposed_resources, exports.values()))
        return set()

    def substitute(self, type_: _Any, bindings: Mapping[ResourceType, ResourceType]) -> _Any:
        """Returns the type with resource types replaced; unchanged parts are shared."""
        if not bindings or not self.facts(type_).resources:
            return type_
        return cast(_Any, self._substitute(type_, bindings, {}))

    def _substitute(
        self,
        type_: Type,
        bindings: Mapping[ResourceType, ResourceType],
        done: dict[int, Type],
    ) -> Type:
        if isinstance(type_, ResourceType):
            return bindings.get(type_, type_)
        if not self.facts(type_).resources:
            return type_
        known = done.get(id(type_))
        if known is not None:
            return known
        inner: list[Type | None] = []
        for child in type_.children():
            inner.append(None if child is None else self._substitute(child, bindings, done))
        self.charge(1 + len(inner))
        result = type_.rebuild(inner)
        done[id(type_)] = result
        return result

    def open(self, type_: InstanceType, introduced: list[ResourceType]) -> InstanceType:
        """Returns the type of an actual instance: abstract resource types become new ones, added to ``introduced``."""
        if not type_.abstract:
            return type_
        self.charge(len(type_.abstract))
        fresh = {resource: ResourceType(resource.name) for resource in type_.abstract}
        introduced.extend(fresh.values())
        return InstanceType(self.substitute(type_, fresh).exports)

    def instantiate(
        self, component: ComponentType, args: Mapping[str, ExternType], introduced: list[ResourceType]
    ) -> tuple[InstanceType, _Bindings]:
        """Returns the type of an instance of a component, and what replaces the component's resource types in it."""
        self.charge(len(component.imported) + len(component.generated) + len(component.exports))
        bindings: _Bindings = {}
        variables = set(component.imported)
        for name, wanted in component.imports.items():
            given = args.get(name)
            if given is None:
                raise TypeFault(f'no argument for the import "{name}"')
            self._match_named(name, given, wanted, bindings, variables)
        for resource in component.generated:
            bindings[resource] = fresh = ResourceType(resource.name)
            introduced.append(fresh)
        exports = {name: self.substitute(type_, bindings) for name, type_ in component.exports.items()}
        return InstanceType(exports), bindings

    def match(self, given: ExternType, wanted: ExternType, bindings: _Bindings, variables: set[ResourceType]) -> None:
        """Raises `TypeFault` unless ``given`` is a subtype of ``wanted``.

        ``variables`` are resource types in ``wanted`` that match any resource type of ``given``; ``bindings`` receives
        the matches. ``given`` has none of them.
        """
        self.charge(1)
        if sort_of(given) is not sort_of(wanted):
            raise TypeFault(f"expected {sort_of(wanted)}, found {sort_of(given)}")
        match wanted, given:
            case FuncType(), FuncType():
                self._require_equal(given, wanted, bindings)
            case TypeBound(), TypeBound():
                self._match_types(given.type, wanted.type, bindings, variables)
            case InstanceType(), InstanceType():
                for name, type_ in wanted.exports.items():
                    found = given.exports.get(name)
                    if found is None:
                        raise TypeFault(f'missing the export "{name}"')
                    self._match_named(name, found, type_, bindings, variables)
            case ComponentType(), ComponentType():
                self._match_components(given, self.substitute(wanted, bindings))
            case CoreModuleType(), CoreModuleType():
                self._match_modules(given, wanted)

    def _match_named(
        self, name: str, given: ExternType, wanted: ExternType, bindings: _Bindings, variables: set[ResourceType]
    ) -> None:
        try:
            self.match(given, wanted, bindings, variables)
        except TypeFault as fault:
            raise TypeFault(f'"{name}": {fault}') from None

    def _require_equal(self, given: AnyType, wanted: AnyType, bindings: _Bindings) -> None:
        self.charge(self.facts(wanted).size)
        wanted = self.substitute(wanted, bindings)
        if given != wanted:
            raise TypeFault(f"expected {_brief(wanted)}, found {_brief(given)}")

    def _match_types(self, given: AnyType, wanted: AnyType, bindings: _Bindings, variables: set[ResourceType]) -> None:
        match wanted, given:
            case ResourceType(), ResourceType():
                free = wanted in variables
                wanted = bindings.setdefault(wanted, given) if free else bindings.get(wanted, wanted)
                if wanted is not given:
                    raise TypeFault(f"expected the resource type {wanted}, found another resource type, {given}")
            case InstanceType(), InstanceType():
                # Types of instances are equal when each is a subtype of the other.
                for a, b in ((given, self.substitute(wanted, bindings)), (self.substitute(wanted, bindings), given)):
                    self.match(self.open(a, []), InstanceType(b.exports), {}, set(b.abstract))
            case ComponentType(), ComponentType():
                self._match_components(given, self.substitute(wanted, bindings))
                self._match_components(self.substitute(wanted, bindings), given)
            case _:
                if type(given) is not type(wanted):
                    raise TypeFault(f"expected {_brief(TypeBound(wanted))}, found {_brief(TypeBound(given))}")
                self._require_equal(given, wanted, bindings)

    def _match_components(self, given: ComponentType, wanted: ComponentType) -> None:
        """``given`` may import at most what ``wanted`` imports, and must export at least what it exports."""
        exports, _ = self.instantiate(given, wanted.imports, [])
        self.match(exports, InstanceType(wanted.exports), {}, set(wanted.generated))

    def _match_modules(self, given: CoreModuleType, wanted: CoreModuleType) -> None:
        if given is OPAQUE_MODULE:
            return
        for name, type_ in wanted.exports.items():
            if given.exports.get(name) != type_:
                raise TypeFault(f'the core module has no export "{name}" of the type expected')
        for pair, type_ in given.imports.items():
            if wanted.imports.get(pair) != type_:
                raise TypeFault(f'the core module imports "{pair[0]}" "{pair[1]}", which is not expected')
