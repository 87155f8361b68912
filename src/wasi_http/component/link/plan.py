"""The link plan: a component flattened into core instances, host functions and exports, once for all stores.

Planning is an abstract interpretation of the definitions: every index space is a list of what its entries *mean*.
Nested components are instantiated by interpreting their definitions with their arguments; tools use them to give
exports their types. A nested component that contains code would be a second component instance with its own handles:
that is composition, which is refused for now, in `_Planner.definition`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from wasi_http.component.abi.layout import lifted_core_type, lowered_core_type
from wasi_http.component.canon.table import Builtin
from wasi_http.component.decode.definitions import (
    AliasCoreExport,
    AliasExport,
    AliasOuter,
    CanonBuiltin,
    CanonOptions,
    Component,
    CoreExports,
    CoreInstantiate,
    CoreModule,
    CoreTypeDefinition,
    Definition,
    Export,
    Import,
    InlineExports,
    InstanceType,
    Instantiate,
    Lift,
    Lower,
    NestedComponent,
    ResourceDefinition,
    Sort,
    TypeBound,
    TypeDefinition,
)
from wasi_http.component.model.errors import MADE_FOR_WASI_0_3, InvalidComponent
from wasi_http.component.model.types import FuncType, ResourceType
from wasi_http.engine import CoreType, Module, ModuleBinary
from wasi_http.engine.errors import excerpt
from wasi_http.engine.module import Import as CoreImport

__all__ = [
    "BuiltinFunc",
    "CoreItem",
    "ImportedFunc",
    "LiftLowerOptions",
    "LiftedFunc",
    "LoweredFunc",
    "Plan",
    "core_modules",
    "make_plan",
]

# The most definitions interpreted, arguments and names included: components built by tools have some thousands.
_MAX_WORK = 300_000

# The most items set up for each instance: captured exports, options, resource types.
_MAX_HELD = 10_000

# The deepest nesting of component instances; tools nest one, for the types of exports.
_MAX_DEPTH = 100


@dataclass(frozen=True, slots=True)
class CoreItem:
    """An item that a core module can import; ``source`` is as in `engine.Assembly`."""

    kind: str
    source: int | tuple[int, int]
    type: CoreType | None = None


@dataclass(frozen=True, slots=True)
class LiftLowerOptions:
    """Resolved canonical options: positions among the assembly's captures, and that of the component instance."""

    instance: int
    memory: int | None
    realloc: int | None
    encoding: str


@dataclass(frozen=True, slots=True)
class ImportedFunc:
    """``instance`` is the name of the import, ``name`` the function's in it, ``type`` the type expected."""

    instance: str
    name: str
    type: FuncType


@dataclass(frozen=True, slots=True)
class LiftedFunc:
    """A function of the component; ``core`` and ``post_return`` are positions among the captures."""

    type: FuncType
    core: int
    options: int
    post_return: int | None


@dataclass(frozen=True, slots=True)
class LoweredFunc:
    """A host function that core code imports."""

    function: ImportedFunc
    options: int
    core_type: CoreType


@dataclass(frozen=True, slots=True)
class BuiltinFunc:
    """A canonical built-in that core code imports; ``destructor`` is a position among the captures."""

    builtin: Builtin
    resource: ResourceType
    instance: int
    destructor: int | None

    @property
    def core_type(self) -> CoreType | None:
        return self.builtin.core_type


@dataclass(slots=True)
class Plan:
    """``steps``, ``captures`` and ``start`` are those of `engine.Assembly`, with positions in ``modules`` for modules.

    ``host_functions`` are in the order of their positions; ``exports`` is by name: functions, and instances
    as dictionaries of functions.
    """

    steps: list[tuple[int, list[int | tuple[int, int]]]] = field(default_factory=list)
    captures: list[tuple[int, int]] = field(default_factory=list)
    start: int | None = None
    options: list[LiftLowerOptions] = field(default_factory=list)
    host_functions: list[LoweredFunc | BuiltinFunc] = field(default_factory=list)
    imports: dict[str, InstanceType] = field(default_factory=dict)
    exports: dict[str, LiftedFunc | dict[str, LiftedFunc]] = field(default_factory=dict)
    #: By exported instance: the resource types, by name.
    exported_resources: dict[str, dict[str, ResourceType]] = field(default_factory=dict)
    #: The number of component instances.
    instances: int = 1
    #: The resource types that they define: in which instance, and the position of the destructor among the captures.
    resources: dict[ResourceType, tuple[int, int | None]] = field(default_factory=dict)
    #: Imports that are not instances: nothing can provide them.
    unsupported: list[str] = field(default_factory=list)


def core_modules(component: Component) -> list[CoreModule]:
    """Returns the core modules of a component, nested ones included, in the order of the file."""
    modules = []
    for definition in component.definitions:
        if isinstance(definition, CoreModule):
            modules.append(definition)
        elif isinstance(definition, NestedComponent):
            modules.extend(core_modules(definition.component))
    return modules


def make_plan(component: Component, modules: Sequence[tuple[CoreModule, Module | ModuleBinary]]) -> Plan:
    """Plans a component, given the imports and exports of its core modules; raises `InvalidComponent`."""
    planner = _Planner({definition.offset: (i, module) for i, (definition, module) in enumerate(modules)})
    scope = _Scope(None)
    for definition in component.definitions:
        planner.definition(scope, definition, None)
    plan = planner.plan
    held = len(plan.captures) + len(plan.options) + len(plan.resources)
    if held > _MAX_HELD:
        what = f"{held} functions, memories, options and resource types"
        raise InvalidComponent(f"each instance would have the host keep {what}, more than {_MAX_HELD}", 0)
    return plan


@dataclass(slots=True)
class _Scope:
    """The index spaces of a component instance: the meaning of each entry (of types, only resource types have one)."""

    outer: _Scope | None
    spaces: dict[Sort, list[Any]] = field(default_factory=dict)
    exports: dict[str, Any] = field(default_factory=dict)

    def add(self, sort: Sort, item: Any) -> None:
        self.spaces.setdefault(sort, []).append(item)

    def get(self, sort: Sort, index: int) -> Any:
        return self.spaces[sort][index]


@dataclass(frozen=True, slots=True)
class _Closure:
    """A component with the scope that its outer aliases refer to."""

    component: Component
    scope: _Scope


class _Planner:
    def __init__(self, modules: dict[int, tuple[int, Module | ModuleBinary]]) -> None:
        self.modules = modules
        self.plan = Plan()
        self.work = 0
        self.depth = 0
        self.instances: list[Module | ModuleBinary] = []
        self.positions: dict[Module | ModuleBinary, dict[str, int]] = {}
        self.captured: dict[tuple[int, int], int] = {}
        self.known_options: dict[LiftLowerOptions, int] = {}
        self.instance = 0  # the component instance whose definitions are being interpreted

    def definition(self, scope: _Scope, definition: Definition, arguments: dict[str, Any] | None) -> None:
        """Interprets one definition; ``arguments`` are those of a nested component, None at the top level."""
        self.count(1, definition.offset)
        item: Any = None
        match definition:
            case CoreModule():
                item = definition
            case NestedComponent():
                item = _Closure(definition.component, scope)
            case CoreTypeDefinition() | TypeDefinition():
                pass
            case Lift() | Lower() | CoreInstantiate() | ResourceDefinition() if arguments is not None:
                raise InvalidComponent(
                    "composed components (a component inside with code of its own) are not supported yet",
                    definition.offset,
                )
            case CoreInstantiate():
                item = self.core_instantiate(scope, definition)
            case CoreExports() | InlineExports():
                self.count(len(definition.exports), definition.offset)
                item = {export.name: scope.get(export.sort, export.index) for export in definition.exports}
            case Instantiate():
                item = self.instantiate(scope, definition)
            case AliasExport():
                instance = scope.get(Sort.INSTANCE, definition.instance)
                if instance is None:
                    raise InvalidComponent("instances inside of imported ones are not supported", definition.offset)
                item = instance.get(definition.name)
            case AliasCoreExport():
                item = self.core_alias(scope, definition)
            case AliasOuter():
                target = scope
                for _ in range(definition.levels):
                    assert target.outer is not None  # the decoder counted
                    target = target.outer
                item = target.get(definition.sort, definition.target)
            case ResourceDefinition():
                item = self.resource(scope, definition)
            case Lift():
                item = self.lift(scope, definition)
            case Lower():
                item = self.lower(scope, definition)
            case CanonBuiltin():
                item = self.builtin(definition)
            case Import():
                item = self.import_(definition) if arguments is None else arguments.get(definition.name)
            case Export():
                item = scope.get(definition.sort, definition.target)
                scope.exports[definition.name] = item
                if arguments is None:
                    self.export(definition.name, item, definition.offset)
        scope.add(definition.sort, item)

    def count(self, work: int, offset: int) -> None:
        self.work += work
        if self.work > _MAX_WORK:
            raise InvalidComponent("linking the component takes too much work", offset)

    def core_instantiate(self, scope: _Scope, definition: CoreInstantiate) -> int:
        chosen: CoreModule | None = scope.get(Sort.CORE_MODULE, definition.module)
        if chosen is None:
            raise InvalidComponent("components that import core modules are not supported", definition.offset)
        position, module = self.modules[chosen.offset]
        self.count(len(module.imports) + len(definition.args), definition.offset)
        arguments = {name: scope.get(Sort.CORE_INSTANCE, index) for name, index in definition.args}
        sources: list[int | tuple[int, int]] = []
        for wanted in module.imports:
            instance = arguments.get(wanted.module)
            item = None if instance is None else self.core_export(instance, wanted.name)
            if item is None or item.kind != wanted.kind or not _same(item.type, wanted.type):
                raise InvalidComponent(_misfit(item, wanted), definition.offset)
            sources.append(item.source)
        self.plan.steps.append((position, sources))
        self.instances.append(module)
        return len(self.instances) - 1

    def core_export(self, instance: int | dict[str, CoreItem], name: str) -> CoreItem | None:
        if isinstance(instance, dict):
            return instance.get(name)
        module = self.instances[instance]
        if module not in self.positions:
            self.positions[module] = {exported.name: i for i, exported in enumerate(module.exports)}
        position = self.positions[module].get(name)
        if position is None:
            return None
        exported = module.exports[position]
        return CoreItem(exported.kind, (instance, position), exported.type)

    def core_alias(self, scope: _Scope, definition: AliasCoreExport) -> CoreItem:
        item = self.core_export(scope.get(Sort.CORE_INSTANCE, definition.instance), definition.name)
        if item is None or item.kind != definition.sort.value.removeprefix("core "):
            raise InvalidComponent(f"there is no {definition.sort} {definition.name!r} to alias", definition.offset)
        return item

    def instantiate(self, scope: _Scope, definition: Instantiate) -> dict[str, Any]:
        closure: _Closure = scope.get(Sort.COMPONENT, definition.component)
        if closure is None:
            raise InvalidComponent("components that import components are not supported", definition.offset)
        self.count(len(definition.args), definition.offset)
        arguments = {argument.name: scope.get(argument.sort, argument.index) for argument in definition.args}
        inner = _Scope(closure.scope)
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise InvalidComponent(f"instances make instances more than {_MAX_DEPTH} levels deep", definition.offset)
        for item in closure.component.definitions:
            self.definition(inner, item, arguments)
        self.depth -= 1
        return inner.exports

    def export(self, name: str, item: Any, offset: int) -> None:
        if isinstance(item, LiftedFunc):
            self.plan.exports[name] = item
        elif isinstance(item, dict):
            self.count(len(item), offset)
            self.plan.exports[name] = {n: f for n, f in item.items() if isinstance(f, LiftedFunc)}
            resources = {n: r for n, r in item.items() if isinstance(r, ResourceType)}
            self.plan.exported_resources[name] = resources
            for n, resource in resources.items():
                resource.name = resource.name or n

    def import_(self, definition: Import) -> Any:
        if isinstance(definition.type, InstanceType):
            self.plan.imports[definition.name] = definition.type
            functions = {
                name: ImportedFunc(definition.name, name, type_) for name, type_ in definition.type.functions.items()
            }
            return {**functions, **definition.type.resources}
        if definition.sort is not Sort.TYPE or isinstance(getattr(definition.type, "type", None), ResourceType):
            self.plan.unsupported.append(
                f"{definition.name} is a {definition.sort} that the component imports; only interfaces can be provided"
            )
        if isinstance(definition.type, FuncType):
            return ImportedFunc("", definition.name, definition.type)
        if isinstance(definition.type, TypeBound) and isinstance(definition.type.type, ResourceType):
            return definition.type.type
        return None

    # Canonical definitions

    def want(self, item: CoreItem, what: str, type_: CoreType | None, offset: int) -> int:
        if not isinstance(item.source, tuple):
            raise InvalidComponent(f"{what} is not an export of a core instance", offset)
        if type_ is not None and item.type != type_:
            raise InvalidComponent(f"{what} is {item.type}, but must be {type_}", offset)
        if item.source not in self.captured:
            self.captured[item.source] = len(self.plan.captures)
            self.plan.captures.append(item.source)
        return self.captured[item.source]

    def options(self, scope: _Scope, options: CanonOptions, offset: int) -> int:
        memory = realloc = None
        if options.memory is not None:
            memory = self.want(scope.get(Sort.CORE_MEMORY, options.memory), "the memory option", None, offset)
        if options.realloc is not None:
            item = scope.get(Sort.CORE_FUNC, options.realloc)
            realloc = self.want(item, "the realloc option", CoreType(("i32",) * 4, ("i32",)), offset)
        resolved = LiftLowerOptions(self.instance, memory, realloc, options.string_encoding.value)
        if resolved not in self.known_options:
            self.known_options[resolved] = len(self.plan.options)
            self.plan.options.append(resolved)
        return self.known_options[resolved]

    def lift(self, scope: _Scope, definition: Lift) -> LiftedFunc:
        _refuse_async(definition.type, definition.offset)
        options = self.options(scope, definition.options, definition.offset)
        core_type = lifted_core_type(definition.type)
        core = scope.get(Sort.CORE_FUNC, definition.function)
        function = self.want(core, "the lifted function", core_type, definition.offset)
        post_return = None
        if definition.options.post_return is not None:
            item = scope.get(Sort.CORE_FUNC, definition.options.post_return)
            expected = CoreType(core_type.results, ())
            post_return = self.want(item, "the post-return option", expected, definition.offset)
        return LiftedFunc(definition.type, function, options, post_return)

    def host(self, function: LoweredFunc | BuiltinFunc) -> CoreItem:
        self.plan.host_functions.append(function)
        return CoreItem("func", len(self.plan.host_functions) - 1, function.core_type)

    def lower(self, scope: _Scope, definition: Lower) -> CoreItem:
        function = scope.get(Sort.FUNC, definition.function)
        if not isinstance(function, ImportedFunc):
            raise InvalidComponent("a component that calls its own exports is not supported yet", definition.offset)
        _refuse_async(function.type, definition.offset)
        options = self.options(scope, definition.options, definition.offset)
        return self.host(LoweredFunc(function, options, lowered_core_type(function.type)))

    def resource(self, scope: _Scope, definition: ResourceDefinition) -> ResourceType:
        destructor = None
        if definition.destructor is not None:
            item = scope.get(Sort.CORE_FUNC, definition.destructor)
            destructor = self.want(item, "the destructor", CoreType(("i32",), ()), definition.offset)
        self.plan.resources[definition.type] = self.instance, destructor
        return definition.type

    def builtin(self, definition: CanonBuiltin) -> CoreItem:
        _, destructor = self.plan.resources.get(definition.resource, (0, None))
        return self.host(BuiltinFunc(definition.builtin, definition.resource, self.instance, destructor))


def _same(given: CoreType | None, wanted: CoreType | None) -> bool:
    return given is None or wanted is None or given == wanted


def _misfit(given: CoreItem | None, wanted: CoreImport) -> str:
    what = f"the core import {excerpt(wanted.module, 200)!r} {excerpt(wanted.name, 200)!r}"
    if given is None:
        return f"{what} is not given"
    if given.kind != wanted.kind:
        return f"{what} is a {wanted.kind}, but a {given.kind} is given"
    return f"{what} is {wanted.type}, but {given.type} is given"


def _refuse_async(type_: FuncType, offset: int) -> None:
    if type_.is_async:
        raise InvalidComponent(f"async functions are not supported yet: {MADE_FOR_WASI_0_3}", offset)
