"""The content of a component binary, as plain values (specification: Explainer.md, "Component Definitions").

A component is a list of definitions, in the order of the binary. Each adds one entry to an *index space*, the list of
everything of its `Sort` defined so far in the same component; later definitions refer to earlier ones by their position
there. All references have been checked: an index is always in range.

Types come resolved. No type refers to an index: value types and function types are those of
`wasi_http.component.model.types`, and a resource type is a `ResourceType` object. The rules of identity:

- A resource that a component defines (`ResourceDefinition`), imports (``(sub resource)``, alone or in an instance
  type) or gets with an instance of another component (`Instantiate`) is a new identity of that component.
- Whatever the specification calls the same type shares the identity: aliases, exports, ``(eq i)`` bounds.
- Two imports of one instance type introduce different resources, and so do two instances of one component.
- Identities belong to one component. `Instantiate.resources` says what those of a nested component are in the
  component around it.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from wasi_http.component.canon.table import Builtin
from wasi_http.component.model.types import FuncType, ResourceType, Type, ValType
from wasi_http.engine.module import CoreType

__all__ = [
    "OPAQUE_MODULE",
    "AliasCoreExport",
    "AliasExport",
    "AliasOuter",
    "AnyType",
    "Attributes",
    "CanonBuiltin",
    "CanonOptions",
    "Component",
    "ComponentType",
    "CoreExports",
    "CoreExternType",
    "CoreInstantiate",
    "CoreModule",
    "CoreModuleType",
    "CoreTypeDefinition",
    "Definition",
    "Export",
    "ExternType",
    "Import",
    "InlineExports",
    "InstanceType",
    "Instantiate",
    "Lift",
    "Lower",
    "NestedComponent",
    "Reference",
    "ResourceDefinition",
    "Sort",
    "StringEncoding",
    "TypeBound",
    "TypeDefinition",
]


class Sort(enum.Enum):
    """The index spaces of a component; the value is the name in the text format."""

    CORE_FUNC = "core func"
    CORE_TABLE = "core table"
    CORE_MEMORY = "core memory"
    CORE_GLOBAL = "core global"
    CORE_TAG = "core tag"
    CORE_TYPE = "core type"
    CORE_MODULE = "core module"
    CORE_INSTANCE = "core instance"
    FUNC = "func"
    TYPE = "type"
    COMPONENT = "component"
    INSTANCE = "instance"

    __hash__ = object.__hash__  # sorts are looked up for every definition; that of Enum is written in Python

    def __str__(self) -> str:
        return self._value_


# Types of what is imported and exported.


@dataclass(frozen=True, slots=True)
class CoreExternType:
    """The type of an import or export in a core module type.

    ``type`` is set for functions and tags; ``details`` for the rest: (reference type, minimum, maximum or None) of a
    table, (minimum, maximum or None) of a memory in pages, (value type, mutable) of a global.
    """

    sort: Sort
    type: CoreType | None = None
    details: tuple[str | int | None, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class CoreModuleType(Type):
    imports: Mapping[tuple[str, str], CoreExternType]
    exports: Mapping[str, CoreExternType]

    def __str__(self) -> str:
        return "core module"


OPAQUE_MODULE = CoreModuleType({}, {})
"""Stands for the type of a module within the component: only the engine reads its content."""


@dataclass(frozen=True, slots=True)
class TypeBound(Type):
    """The bound of an imported or exported type; for a resource type, its identity in this component."""

    type: AnyType

    def children(self) -> Sequence[Type | None]:
        return (self.type,)

    def __str__(self) -> str:
        return "resource" if isinstance(self.type, ResourceType) else f"type {self.type}"


@dataclass(frozen=True, slots=True, eq=False)
class InstanceType(Type):
    """Named exports in the order of their declaration.

    ``abstract`` are the resource types that every import (or other use) of this type introduces anew. It is empty for
    the type of an actual instance, imported ones included: there each resource already has its identity.
    """

    exports: Mapping[str, ExternType]
    abstract: tuple[ResourceType, ...] = ()

    def children(self) -> Sequence[Type | None]:
        return [*self.exports.values()]

    def names(self) -> Collection[str]:
        return self.exports

    def rebuild(self, children: Sequence[Any]) -> Self:
        return replace(self, exports=dict(zip(self.exports, children, strict=True)))

    @property
    def functions(self) -> dict[str, FuncType]:
        return {name: type_ for name, type_ in self.exports.items() if isinstance(type_, FuncType)}

    @property
    def resources(self) -> dict[str, ResourceType]:
        """The resource types by exported name; two names may share one."""
        bounds = ((name, type_.type) for name, type_ in self.exports.items() if isinstance(type_, TypeBound))
        return {name: type_ for name, type_ in bounds if isinstance(type_, ResourceType)}

    def __str__(self) -> str:
        return "instance"


@dataclass(frozen=True, slots=True, eq=False)
class ComponentType(Type):
    """Named imports and exports in the order of their declaration.

    ``imported`` are the resource types that the imports introduce: an instantiation supplies them.
    ``generated`` are those that each instance creates.
    """

    imports: Mapping[str, ExternType]
    exports: Mapping[str, ExternType]
    imported: tuple[ResourceType, ...] = ()
    generated: tuple[ResourceType, ...] = ()

    def children(self) -> Sequence[Type | None]:
        return [*self.imports.values(), *self.exports.values()]

    def names(self) -> Collection[str]:
        return [*self.imports, *self.exports]

    def rebuild(self, children: Sequence[Any]) -> Self:
        count = len(self.imports)
        imports = dict(zip(self.imports, children[:count], strict=True))
        return replace(self, imports=imports, exports=dict(zip(self.exports, children[count:], strict=True)))

    def __str__(self) -> str:
        return "component"


AnyType = ValType | ResourceType | FuncType | InstanceType | ComponentType
ExternType = CoreModuleType | FuncType | TypeBound | InstanceType | ComponentType


# Parts of definitions.


@dataclass(frozen=True, slots=True)
class Reference:
    """An entry of the index space of ``sort`` under a name: an instantiation argument or an inline export."""

    name: str
    sort: Sort
    index: int


@dataclass(frozen=True, slots=True)
class Attributes:
    """Attributes of an import or export besides its name; no check depends on them."""

    implements: str | None = None
    version_suffix: str | None = None
    external_id: str | None = None


class StringEncoding(enum.Enum):
    UTF8 = "utf8"
    UTF16 = "utf16"
    LATIN1_UTF16 = "latin1+utf16"


@dataclass(frozen=True, slots=True)
class CanonOptions:
    """Options of `Lift` and `Lower`: a core memory index, and core function indices."""

    string_encoding: StringEncoding = StringEncoding.UTF8
    memory: int | None = None
    realloc: int | None = None
    post_return: int | None = None


# Definitions.


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """``sort`` and ``index`` say which entry of which index space this is; ``offset`` is its first byte."""

    sort: Sort
    index: int
    offset: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class CoreModule(Definition):
    """``code`` is a view of the input from ``offset`` to ``end``, not a copy; only its header was checked."""

    code: memoryview

    @property
    def end(self) -> int:
        return self.offset + len(self.code)


@dataclass(frozen=True, slots=True)
class CoreInstantiate(Definition):
    """``args``: (name, core instance index). The engine checks that every import of the module is supplied."""

    module: int
    args: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class CoreExports(Definition):
    """A core instance made of core definitions."""

    exports: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class CoreTypeDefinition(Definition):
    type: CoreType | CoreModuleType


@dataclass(frozen=True, slots=True)
class NestedComponent(Definition):
    component: Component


@dataclass(frozen=True, slots=True)
class Instantiate(Definition):
    """An instance of a component. ``args`` fit its imports; there may be more of them than imports.

    ``resources`` maps the resource types of the instantiated component's *type* (``imported`` and ``generated``) to
    those of the component that this definition is in.
    """

    component: int
    args: tuple[Reference, ...]
    type: InstanceType
    resources: Mapping[ResourceType, ResourceType]


@dataclass(frozen=True, slots=True)
class InlineExports(Definition):
    """An instance made of definitions."""

    exports: tuple[Reference, ...]
    type: InstanceType


@dataclass(frozen=True, slots=True)
class AliasExport(Definition):
    instance: int
    name: str
    type: ExternType


@dataclass(frozen=True, slots=True)
class AliasCoreExport(Definition):
    """The engine checks that the module's instance has the export."""

    instance: int
    name: str


@dataclass(frozen=True, slots=True)
class AliasOuter(Definition):
    """``target`` counts in the index space of ``sort`` of the component ``levels`` further out; 0 is the same one.

    ``type`` is the type itself for `Sort.TYPE`, and that of the module or component for those sorts.
    """

    levels: int
    target: int
    type: AnyType | CoreType | CoreModuleType


@dataclass(frozen=True, slots=True)
class TypeDefinition(Definition):
    type: AnyType


@dataclass(frozen=True, slots=True)
class ResourceDefinition(Definition):
    """A resource type of this component, represented by an ``i32``; ``destructor`` is a core function index."""

    type: ResourceType
    destructor: int | None


@dataclass(frozen=True, slots=True)
class Lift(Definition):
    """``canon lift``: the core function ``function`` becomes a function of ``type``."""

    function: int
    options: CanonOptions
    type: FuncType


@dataclass(frozen=True, slots=True)
class Lower(Definition):
    """``canon lower``: ``function``, which has ``type``, becomes a core function."""

    function: int
    options: CanonOptions
    type: FuncType


@dataclass(frozen=True, slots=True)
class CanonBuiltin(Definition):
    """A core function that the host provides for a resource type."""

    builtin: Builtin
    resource: ResourceType


@dataclass(frozen=True, slots=True)
class Import(Definition):
    name: str
    type: ExternType
    attributes: Attributes | None = None


@dataclass(frozen=True, slots=True)
class Export(Definition):
    """``target`` is the exported entry of the index space of ``sort``, which gets this export as a new entry.

    ``resources`` maps identities that only this export's declared type introduces (a resource exported as
    ``(sub resource)`` to hide which one it is) to those they stand for.
    """

    name: str
    target: int
    type: ExternType
    attributes: Attributes | None = None
    resources: Mapping[ResourceType, ResourceType] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Component:
    """``type.imports`` and ``type.exports`` are its interface to the host, ``definitions`` its content."""

    definitions: tuple[Definition, ...]
    type: ComponentType
