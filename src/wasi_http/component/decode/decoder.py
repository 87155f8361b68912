"""Decodes component binaries into definitions (specification: Binary.md; validation rules also from Explainer.md).

The input is hostile. Lengths and counts are checked against the rest of the input before anything is allocated, nesting
and the number of items are limited, and every fault is an `InvalidComponent`.

Everything is validated that does not require reading core modules, which is left to the engine. One rule is not
checked: that records, variants, enums and flags need a name to be used in an export. It serves binding generators.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeVar

from wasi_http.component.abi.layout import needs_memory, needs_realloc
from wasi_http.component.canon.table import BUILTINS
from wasi_http.component.decode.definitions import (
    OPAQUE_MODULE,
    AliasCoreExport,
    AliasExport,
    AliasOuter,
    AnyType,
    Attributes,
    CanonBuiltin,
    CanonOptions,
    Component,
    ComponentType,
    CoreExports,
    CoreExternType,
    CoreInstantiate,
    CoreModule,
    CoreModuleType,
    CoreTypeDefinition,
    Definition,
    Export,
    ExternType,
    Import,
    InlineExports,
    InstanceType,
    Instantiate,
    Lift,
    Lower,
    NestedComponent,
    Reference,
    ResourceDefinition,
    Sort,
    StringEncoding,
    TypeBound,
    TypeDefinition,
)
from wasi_http.component.decode.reader import ComponentReader
from wasi_http.component.decode.subtyping import TypeChecker, TypeFault, sort_of
from wasi_http.component.model.errors import MADE_FOR_WASI_0_3, InvalidComponent
from wasi_http.component.model.names import ExternName, is_interface_name, is_label, parse_extern_name
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
from wasi_http.engine.errors import excerpt
from wasi_http.engine.module import VALUES, CoreType

__all__ = ["MAX_NESTING", "MAX_PARTS", "decode"]

MAX_PARTS = 1000
"""Core modules and components in a component; each has a section of its own."""

MAX_NESTING = 40
"""Components, component types and instance types within each other in the text of the binary."""

_MAGIC = b"\0asm"
_CORE_HEADER = b"\0asm\x01\0\0\0"
_COMPONENT_HEADER = b"\0asm\x0d\0\x01\0"

_SECTIONS = (
    "custom section",
    "core module section",
    "core instance section",
    "core type section",
    "component section",
    "instance section",
    "alias section",
    "type section",
    "canonical function section",
    "start section",
    "import section",
    "export section",
    "value section",
)

_PRIMITIVES = {
    0x7F: Primitive.BOOL,
    0x7E: Primitive.S8,
    0x7D: Primitive.U8,
    0x7C: Primitive.S16,
    0x7B: Primitive.U16,
    0x7A: Primitive.S32,
    0x79: Primitive.U32,
    0x78: Primitive.S64,
    0x77: Primitive.U64,
    0x76: Primitive.F32,
    0x75: Primitive.F64,
    0x74: Primitive.CHAR,
    0x73: Primitive.STRING,
}
_ASYNC_TYPES = {0x66: "stream", 0x65: "future", 0x64: "error-context"}
_UNSUPPORTED_TYPES = {0x67: "list of fixed length", **_ASYNC_TYPES, 0x63: "map"}
_CORE_SORTS = {
    0x00: Sort.CORE_FUNC,
    0x01: Sort.CORE_TABLE,
    0x02: Sort.CORE_MEMORY,
    0x03: Sort.CORE_GLOBAL,
    0x04: Sort.CORE_TAG,
    0x10: Sort.CORE_TYPE,
    0x11: Sort.CORE_MODULE,
    0x12: Sort.CORE_INSTANCE,
}
_SORTS = {0x01: Sort.FUNC, 0x03: Sort.TYPE, 0x04: Sort.COMPONENT, 0x05: Sort.INSTANCE}
_CORE_ENTITIES = (Sort.CORE_FUNC, Sort.CORE_TABLE, Sort.CORE_MEMORY, Sort.CORE_GLOBAL, Sort.CORE_TAG)
_EXTERNS = (Sort.CORE_MODULE, Sort.FUNC, Sort.TYPE, Sort.COMPONENT, Sort.INSTANCE)
_OUTER = (Sort.CORE_MODULE, Sort.CORE_TYPE, Sort.TYPE, Sort.COMPONENT)

_ENCODINGS = (StringEncoding.UTF8, StringEncoding.UTF16, StringEncoding.LATIN1_UTF16)

_T = TypeVar("_T")


def _reason(code: int) -> str:
    return MADE_FOR_WASI_0_3 if code in _ASYNC_TYPES else ""


def decode(data: bytes | memoryview) -> Component:
    """Decodes and validates; raises `InvalidComponent` and nothing else. Core modules stay views of ``data``."""
    decoder = _Decoder(data)
    try:
        return decoder.component("component").component
    except TypeFault as fault:
        raise InvalidComponent(excerpt(str(fault)), decoder.item) from None


class _Scope:
    """A component, component type or instance type being decoded: its index spaces and names.

    An entry of an index space is what is known about the definition: the type, the exports of a core instance (None if
    only the engine knows them), or None.
    """

    __slots__ = (
        "component",
        "definitions",
        "exported",
        "exports",
        "generated",
        "imported",
        "imports",
        "kind",
        "local",
        "names",
        "resources",
        "spaces",
    )

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.component = Component((), ComponentType({}, {}))
        self.definitions: list[Definition] = []
        self.spaces: dict[Sort, list[Any]] = {sort: [] for sort in Sort}
        self.imports: dict[str, ExternType] = {}
        self.exports: dict[str, ExternType] = {}
        # Resource types introduced by imports, those created here, and those of the latter defined by ``local``
        # definitions. In a type, ``generated`` has those that exports introduce.
        self.imported: dict[ResourceType, None] = {}
        self.generated: dict[ResourceType, None] = {}
        self.local: set[ResourceType] = set()
        # Resource types named by exports; every import names those that it introduces.
        self.exported: set[ResourceType] = set()
        # By "import" and "export": keys of the names in use, and resource types by label.
        self.names: dict[str, dict[str, str]] = {"import": {}, "export": {}}
        self.resources: dict[str, dict[str, ResourceType]] = {"import": {}, "export": {}}

    @property
    def is_type(self) -> bool:
        return self.kind != "a component"


class _Decoder(ComponentReader):
    """Reads the sections of components."""

    def __init__(self, data: bytes | memoryview) -> None:
        super().__init__(data)
        self.item = 0  # offset of the definition or declaration being read
        self.parts = 0
        self.scopes: list[_Scope] = []
        self.types = TypeChecker()

    # Index spaces.

    def index(self, sort: Sort) -> int:
        start = self.position
        index = self.u32("an index")
        size = len(self.scopes[-1].spaces[sort])
        if index >= size:
            self.fail(f"{sort} index {index} is out of range: {size} are defined before it", start)
        return index

    def entry(self, sort: Sort) -> Any:
        return self.scopes[-1].spaces[sort][self.index(sort)]

    def push(self, sort: Sort, entry: object) -> int:
        space = self.scopes[-1].spaces[sort]
        space.append(entry)
        return len(space) - 1

    def sort(self) -> Sort:
        start = self.position
        code = self.byte("a sort")
        if code == 0x02:
            self.fail("values (in imports, exports and start functions) are not supported", start)
        table = _SORTS
        if code == 0x00:
            table, code = _CORE_SORTS, self.byte("a core sort")
        sort = table.get(code)
        if sort is None:
            self.fail(f"0x{code:02x} is not a {'core ' if table is _CORE_SORTS else ''}sort", start)
        return sort

    def extern(self, sort: Sort, index: int) -> ExternType:
        """Returns the type of a definition that may be imported and exported."""
        entry: Any = self.scopes[-1].spaces[sort][index]
        extern: ExternType = TypeBound(entry) if sort is Sort.TYPE else entry
        return extern

    # Components.

    def component(self, what: str) -> _Scope:
        """Reads a component from ``position`` to ``end``."""
        self.header(what)
        scope = self.enter("a component")
        while self.position < self.end:
            self.section(scope)
        self.scopes.pop()
        scope.component = Component(
            tuple(scope.definitions),
            ComponentType(scope.imports, scope.exports, tuple(scope.imported), tuple(scope.generated)),
        )
        return scope

    def header(self, what: str) -> None:
        start = self.position
        header = bytes(self.data[start : min(start + 8, self.end)])
        if not header:
            self.fail(f"the {what} is empty")
        if not header.startswith(_MAGIC[: len(header)]):
            self.fail(f"the {what} is not WebAssembly: it does not start with '\\0asm'")
        if len(header) < 8:
            self.fail(f"the {what} ends within its header", start + len(header))
        if header == _CORE_HEADER:
            cure = "make a component of it with `wasm-tools component new`"
            self.fail(f"this is a core module, not a component: {cure}", start + 4)
        if header != _COMPONENT_HEADER:
            version, layer = int.from_bytes(header[4:6], "little"), int.from_bytes(header[6:8], "little")
            self.fail(f"unknown version {version} and layer {layer}; a component has version 13 and layer 1", start + 4)
        self.skip(8)

    def enter(self, kind: str) -> _Scope:
        if len(self.scopes) >= MAX_NESTING:
            self.fail(f"components and types are nested more than {MAX_NESTING} deep")
        scope = _Scope(kind)
        self.scopes.append(scope)
        return scope

    def section(self, scope: _Scope) -> None:
        self.item = start = self.position
        code = self.byte("a section")
        if code >= len(_SECTIONS):
            self.fail(f"unknown section 0x{code:02x}", start)
        what = _SECTIONS[code]
        size = self.u32(f"the size of the {what}")
        left = self.end - self.position
        if size > left:
            self.fail(f"the {what} has {size} bytes, and only {left} are left", start)
        if code in (1, 4):
            self.parts += 1
            if self.parts > MAX_PARTS:
                self.fail(f"more than {MAX_PARTS} core modules and components", start)
        with self.part(size):
            self.section_content(scope, code, what)
            if self.position != self.end:
                self.fail(f"the {what} has {self.end - self.position} bytes too many")

    def section_content(self, scope: _Scope, code: int, what: str) -> None:
        start = self.position
        if code in _LISTS:
            entries, read = _LISTS[code]
            for _ in range(self.count(entries)):
                self.item = self.position
                scope.definitions.append(read(self))
        elif code == 0:
            self.name("the name of a custom section")
            self.skip(self.end - self.position)
        elif code == 1:
            scope.definitions.append(self.core_module())
        elif code == 4:
            nested = self.component("nested component").component
            index = self.push(Sort.COMPONENT, nested.type)
            scope.definitions.append(NestedComponent(nested, sort=Sort.COMPONENT, index=index, offset=start))
        else:
            self.fail(f"a {what} is not supported", self.item)

    # Core definitions.

    def core_module(self) -> Definition:
        start = self.position
        if self.data[start : min(start + 8, self.end)] != _CORE_HEADER:
            self.fail("the core module does not start with the header of a core module")
        code = self.data[start : self.end]
        self.skip(len(code))
        index = self.push(Sort.CORE_MODULE, OPAQUE_MODULE)
        return CoreModule(code, sort=Sort.CORE_MODULE, index=index, offset=start)

    def core_instance(self) -> Definition:
        start = self.position
        kind = self.byte("a core instance")
        exports: dict[str, Sort] | None = None
        if kind == 0x00:
            module = self.index(Sort.CORE_MODULE)
            args = self.many("arguments", self.core_argument)
            self.unique([name for name, _ in args], "argument", start)
            module_type: CoreModuleType = self.scopes[-1].spaces[Sort.CORE_MODULE][module]
            if module_type is not OPAQUE_MODULE:
                self.types.charge(len(module_type.imports) + len(module_type.exports))
                exports = {name: type_.sort for name, type_ in module_type.exports.items()}
                self.check_core_arguments(module_type, dict(args), start)
            index = self.push(Sort.CORE_INSTANCE, exports)
            return CoreInstantiate(module, tuple(args), sort=Sort.CORE_INSTANCE, index=index, offset=start)
        if kind == 0x01:
            references = self.many("exports", self.core_inline_export)
            self.unique([reference.name for reference in references], "export", start)
            index = self.push(Sort.CORE_INSTANCE, {reference.name: reference.sort for reference in references})
            return CoreExports(tuple(references), sort=Sort.CORE_INSTANCE, index=index, offset=start)
        self.fail(f"0x{kind:02x} is not a way to make a core instance", start)

    def core_argument(self) -> tuple[str, int]:
        name = self.name("the name of a core argument")
        start = self.position
        if self.byte("a core argument") != 0x12:
            self.fail(f'the core argument "{name}" is not a core instance', start)
        return name, self.index(Sort.CORE_INSTANCE)

    def check_core_arguments(self, module: CoreModuleType, args: dict[str, int], start: int) -> None:
        for (name, field), type_ in module.imports.items():
            if name not in args:
                self.fail(f'the core module imports "{name}", and there is no such argument', start)
            exports = self.scopes[-1].spaces[Sort.CORE_INSTANCE][args[name]]
            if exports is not None and exports.get(field) is not type_.sort:
                self.fail(f'the core argument "{name}" has no {type_.sort} "{field}"', start)

    def core_inline_export(self) -> Reference:
        name = self.name("the name of a core export")
        start = self.position
        sort = _CORE_SORTS.get(self.byte("a core sort"))
        if sort not in _CORE_ENTITIES:
            self.fail(f'the core export "{name}" is not a function, table, memory, global or tag', start)
        return Reference(name, sort, self.index(sort))

    def unique(self, names: list[str], what: str, start: int) -> None:
        seen: set[str] = set()
        for name in names:
            if name in seen:
                self.fail(f'two {what}s are called "{name}"', start)
            seen.add(name)

    def core_type(self) -> Definition:
        start = self.position
        type_ = self.core_deftype()
        index = self.push(Sort.CORE_TYPE, type_)
        return CoreTypeDefinition(type_, sort=Sort.CORE_TYPE, index=index, offset=start)

    def core_deftype(self) -> CoreType | CoreModuleType:
        start = self.position
        code = self.byte("a core type")
        if code == 0x60:
            return CoreType(self.core_values(), self.core_values())
        if code == 0x50:
            return self.core_module_type()
        self.fail(f"0x{code:02x} is not a core function or module type; others are not supported", start)

    def core_values(self) -> tuple[str, ...]:
        return tuple(self.many("core value types", self.core_value))

    def core_value(self) -> str:
        start = self.position
        code = self.byte("a core value type")
        if code not in VALUES:
            self.fail(f"0x{code:02x} is not a core value type that is supported", start)
        return VALUES[code]

    def core_module_type(self) -> CoreModuleType:
        imports: dict[tuple[str, str], CoreExternType] = {}
        exports: dict[str, CoreExternType] = {}
        types: list[CoreType] = []
        for _ in range(self.count("declarations")):
            self.item = start = self.position
            code = self.byte("a declaration")
            if code == 0x00:
                pair = self.name("the module name of a core import"), self.name("the name of a core import")
                if pair in imports:
                    self.fail(f'the core module type imports "{pair[0]}" "{pair[1]}" twice', start)
                imports[pair] = self.core_extern(types)
            elif code == 0x01:
                type_ = self.core_deftype()
                if isinstance(type_, CoreModuleType):
                    self.fail("a core module type within a core module type", start)
                types.append(type_)
            elif code == 0x02:
                types.append(self.core_outer_type(types))
            elif code == 0x03:
                name = self.name("the name of a core export")
                if name in exports:
                    self.fail(f'the core module type exports "{name}" twice', start)
                exports[name] = self.core_extern(types)
            else:
                self.fail(f"0x{code:02x} is not a declaration of a core module type", start)
        return CoreModuleType(imports, exports)

    def core_outer_type(self, types: list[CoreType]) -> CoreType:
        start = self.position
        if self.byte("a core alias") != 0x10 or self.byte("a core alias") != 0x01:
            self.fail("an alias in a core module type can only be one of an outer core type", start)
        levels = self.u32("the levels of an alias")
        if levels > len(self.scopes):
            self.fail(f"an alias reaches out {levels} levels of {len(self.scopes)}", start)
        space = self.scopes[-levels].spaces[Sort.CORE_TYPE] if levels else types
        index = self.u32("the index of a core type")
        if index >= len(space):
            self.fail(f"core type index {index} is out of range: {len(space)} are defined before it", start)
        type_: CoreType | CoreModuleType = space[index]
        if isinstance(type_, CoreModuleType):
            self.fail("a core module type within a core module type", start)
        return type_

    def core_extern(self, types: list[CoreType]) -> CoreExternType:
        start = self.position
        code = self.byte("a core import or export")
        sort = _CORE_SORTS.get(code)
        if sort is Sort.CORE_TABLE:
            return CoreExternType(sort, None, (self.core_value(), *self.limits()))
        if sort is Sort.CORE_MEMORY:
            limits = self.limits()
            if max(limit or 0 for limit in limits) > 1 << 16:
                self.fail("a memory can have 65536 pages at most", start)
            return CoreExternType(sort, None, limits)
        if sort is Sort.CORE_GLOBAL:
            return CoreExternType(sort, None, (self.core_value(), self.flag("the mutability of a global")))
        if sort is Sort.CORE_TAG:
            self.zero("the attribute of a tag")
        elif sort is not Sort.CORE_FUNC:
            self.fail(f"0x{code:02x} is not a kind of core import or export", start)
        start = self.position
        index = self.u32("the index of a core type")
        if index >= len(types):
            self.fail(f"core type index {index} is out of range: {len(types)} are defined before it", start)
        return CoreExternType(sort, types[index])

    def limits(self) -> tuple[int, int | None]:
        start = self.position
        bounded = self.byte("limits")
        if bounded > 1:
            self.fail("limits other than of 32 bits, unshared, are not supported", start)
        minimum = self.u32("a minimum")
        maximum = self.u32("a maximum") if bounded else None
        if maximum is not None and maximum < minimum:
            self.fail("a maximum is less than its minimum", start)
        return minimum, maximum

    # Instances.

    def instance(self) -> Definition:
        start = self.position
        scope = self.scopes[-1]
        kind = self.byte("an instance")
        if kind == 0x00:
            component = self.index(Sort.COMPONENT)
            args = self.many("arguments", self.argument)
            self.unique([reference.name for reference in args], "argument", start)
            given = {reference.name: self.extern(reference.sort, reference.index) for reference in args}
            introduced: list[ResourceType] = []
            type_, resources = self.types.instantiate(scope.spaces[Sort.COMPONENT][component], given, introduced)
            scope.generated.update(dict.fromkeys(introduced))
            index = self.push(Sort.INSTANCE, type_)
            return Instantiate(component, tuple(args), type_, resources, sort=Sort.INSTANCE, index=index, offset=start)
        if kind == 0x01:
            exports: dict[str, ExternType] = {}
            references: list[Reference] = []
            keys: dict[str, str] = {}
            for _ in range(self.count("exports")):
                at = self.position
                name, parsed, attributes = self.extern_name("export")
                sort, index = self.external_reference(f'the export "{name}"')
                exports[name] = extern = self.extern(sort, index)
                # Inline exports introduce no resource names, so none may build upon another ("[method]a.b").
                self.check_name(name, parsed, attributes, extern, keys, {}, at)
                references.append(Reference(name, sort, index))
            type_ = InstanceType(exports)
            self.types.facts(type_)
            index = self.push(Sort.INSTANCE, type_)
            return InlineExports(tuple(references), type_, sort=Sort.INSTANCE, index=index, offset=start)
        self.fail(f"0x{kind:02x} is not a way to make an instance", start)

    def argument(self) -> Reference:
        name = self.name("the name of an argument")
        return Reference(name, *self.external_reference(f'the argument "{name}"'))

    def external_reference(self, what: str) -> tuple[Sort, int]:
        start = self.position
        sort = self.sort()
        if sort not in _EXTERNS:
            self.fail(
                f"{what} is a {sort}: only functions, types, instances, components and core modules may be", start
            )
        return sort, self.index(sort)

    # Aliases.

    def alias(self) -> Definition:
        start = self.position
        scope = self.scopes[-1]
        sort = self.sort()
        target = self.byte("an alias")
        if target == 0x00:
            if sort not in _EXTERNS or (scope.is_type and sort not in (Sort.TYPE, Sort.INSTANCE)):
                self.fail(f"an alias of an instance's export cannot be a {sort} in {scope.kind}", start)
            instance = self.index(Sort.INSTANCE)
            at = self.position
            name = self.name("the name of an export")
            extern: ExternType | None = scope.spaces[Sort.INSTANCE][instance].exports.get(name)
            if extern is None or sort_of(extern) is not sort:
                self.fail(f'instance {instance} has no {sort} "{name}" among its exports', at)
            index = self.push(sort, extern.type if isinstance(extern, TypeBound) else extern)
            return AliasExport(instance, name, extern, sort=sort, index=index, offset=start)
        if target == 0x01:
            if sort not in _CORE_ENTITIES or scope.is_type:
                self.fail(f"an alias of a core instance's export cannot be a {sort} in {scope.kind}", start)
            instance = self.index(Sort.CORE_INSTANCE)
            at = self.position
            name = self.name("the name of a core export")
            exports = scope.spaces[Sort.CORE_INSTANCE][instance]
            if exports is not None and exports.get(name) is not sort:
                self.fail(f'core instance {instance} has no {sort} "{name}" among its exports', at)
            index = self.push(sort, None)
            return AliasCoreExport(instance, name, sort=sort, index=index, offset=start)
        if target == 0x02:
            return self.outer_alias(sort, start)
        self.fail(f"0x{target:02x} is not a kind of alias", start)

    def outer_alias(self, sort: Sort, start: int) -> Definition:
        scope = self.scopes[-1]
        if sort not in _OUTER or (scope.is_type and sort not in (Sort.TYPE, Sort.CORE_TYPE)):
            self.fail(f"an outer alias cannot be a {sort} in {scope.kind}", start)
        levels = self.u32("the levels of an alias")
        if levels >= len(self.scopes):
            self.fail(f"an alias reaches out {levels} levels of {len(self.scopes) - 1}", start)
        at = self.position
        target = self.u32("an index")
        space = self.scopes[-1 - levels].spaces[sort]
        if target >= len(space):
            self.fail(f"outer {sort} index {target} is out of range: {len(space)} are defined before it", at)
        entry = space[target]
        leaves_component = any(not inner.is_type for inner in self.scopes[len(self.scopes) - levels :])
        if sort is Sort.TYPE and leaves_component and self.types.free_resources(entry):
            self.fail(f"outer type {target} depends on a resource type, which cannot leave its component", at)
        index = self.push(sort, entry)
        return AliasOuter(levels, target, entry, sort=sort, index=index, offset=start)

    # Types.

    def type_definition(self) -> Definition:
        start = self.position
        if start < self.end and self.data[start] == 0x3F:
            return self.resource_type()
        type_ = self.deftype()
        self.types.facts(type_)
        index = self.push(Sort.TYPE, type_)
        return TypeDefinition(type_, sort=Sort.TYPE, index=index, offset=start)

    def resource_type(self) -> Definition:
        start = self.position
        self.skip(1)
        scope = self.scopes[-1]
        if scope.is_type:
            self.fail(f"a resource type cannot be defined in {scope.kind}", start)
        if self.byte("a resource type") != 0x7F:
            self.fail("a resource type can only be represented by an i32", self.position - 1)
        destructor = self.index(Sort.CORE_FUNC) if self.flag("the presence of a destructor") else None
        resource = ResourceType("")  # the first export gives it a name
        scope.generated[resource] = None
        scope.local.add(resource)
        index = self.push(Sort.TYPE, resource)
        return ResourceDefinition(resource, destructor, sort=Sort.TYPE, index=index, offset=start)

    def deftype(self) -> AnyType:
        start = self.position
        code = self.byte("a type")
        if code in _PRIMITIVES:
            return _PRIMITIVES[code]
        if code in (0x40, 0x43):
            return self.func_type(is_async=code == 0x43)
        if code == 0x42:
            scope = self.declarations("an instance type")
            return InstanceType(scope.exports, tuple(scope.generated))
        if code == 0x41:
            scope = self.declarations("a component type")
            return ComponentType(scope.imports, scope.exports, tuple(scope.imported), tuple(scope.generated))
        return self.value_type(code, start)

    def value_type(self, code: int, start: int) -> ValType:
        match code:
            case 0x72:
                fields = self.labelled("field", self.valtype)
                return RecordType(tuple(Field(name, type_) for name, type_ in self.some(fields, "a record", start)))
            case 0x71:
                cases = self.labelled("case", self.case)
                return VariantType(tuple(Case(name, type_) for name, type_ in self.some(cases, "a variant", start)))
            case 0x70:
                return ListType(self.valtype())
            case 0x6F:
                return TupleType(tuple(self.some(self.many("elements", self.valtype), "a tuple", start)))
            case 0x6E:
                labels = self.some([label for label, _ in self.labelled("flag", None)], "a flags type", start)
                if len(labels) > MAX_FLAGS:
                    self.fail(f"a flags type has {len(labels)} flags; at most {MAX_FLAGS} are allowed", start)
                return FlagsType(tuple(labels))
            case 0x6D:
                labels = [label for label, _ in self.labelled("label", None)]
                return EnumType(tuple(self.some(labels, "an enum", start)))
            case 0x6B:
                return OptionType(self.valtype())
            case 0x6A:
                return ResultType(self.optional_valtype(), self.optional_valtype())
            case 0x69:
                return OwnType(self.resource())
            case 0x68:
                return BorrowType(self.resource())
        if code in _UNSUPPORTED_TYPES:
            self.refuse(f"the type {_UNSUPPORTED_TYPES[code]}", start, _reason(code))
        self.fail(f"0x{code:02x} is not a type", start)

    def some(self, items: list[_T], what: str, start: int) -> list[_T]:
        if not items:
            self.fail(f"{what} cannot be empty", start)
        return items

    def labelled(self, what: str, read: Callable[[], Any] | None) -> list[tuple[str, Any]]:
        """Reads labels, each with the value that ``read`` returns."""
        items: list[tuple[str, Any]] = []
        seen: set[str] = set()
        for _ in range(self.count(f"{what}s")):
            start = self.position
            label = self.name(f"the name of a {what}")
            if not is_label(label):
                self.fail(f"the {what} name {label!r} is not in kebab case", start)
            key = label.lower()
            if key in seen:
                self.fail(f'the {what} name "{label}" is taken', start)
            seen.add(key)
            items.append((label, read() if read else None))
        return items

    def case(self) -> ValType | None:
        payload = self.optional_valtype()
        self.zero("the end of a case")
        return payload

    def optional_valtype(self) -> ValType | None:
        return self.valtype() if self.flag("the presence of a type") else None

    def valtype(self) -> ValType:
        start = self.position
        if start < self.end:
            primitive = _PRIMITIVES.get(self.data[start])
            if primitive is not None:
                self.skip(1)
                return primitive
        index = self.s33("a value type")
        if index < 0:
            code = self.data[start]
            name = _UNSUPPORTED_TYPES.get(code) if self.position == start + 1 else None
            if name is not None:
                self.refuse(f"the type {name}", start, _reason(code))
            self.fail("a value type is neither primitive nor the index of a type", start)
        space = self.scopes[-1].spaces[Sort.TYPE]
        if index >= len(space):
            self.fail(f"type index {index} is out of range: {len(space)} are defined before it", start)
        type_: AnyType = space[index]
        if not isinstance(type_, ValType):
            self.fail(f"type {index} is not a value type", start)
        return type_

    def resource(self) -> ResourceType:
        start = self.position
        type_ = self.entry(Sort.TYPE)
        if not isinstance(type_, ResourceType):
            self.fail("a handle needs a resource type; this type is not one", start)
        return type_

    def func_type(self, *, is_async: bool) -> FuncType:
        params = self.labelled("parameter", self.valtype)
        start = self.position
        kind = self.byte("the result of a function")
        if kind == 0x00:
            result = self.valtype()
            if self.types.facts(result).borrows:
                self.fail("the result of a function has a borrow in it", start)
            return FuncType(tuple(params), result, is_async)
        if kind == 0x01:
            self.zero("the number of named results")
            return FuncType(tuple(params), None, is_async)
        self.fail(f"0x{kind:02x} is not a kind of function result", start)

    def declarations(self, kind: str) -> _Scope:
        scope = self.enter(kind)
        for _ in range(self.count("declarations")):
            self.item = start = self.position
            code = self.byte("a declaration")
            if code == 0x00:
                self.core_type()
            elif code == 0x01:
                self.type_definition()
            elif code == 0x02:
                self.alias()
            elif code == 0x03 and kind == "a component type":
                self.import_()
            elif code == 0x04:
                self.export_declaration()
            else:
                self.fail(f"0x{code:02x} is not a declaration of {kind}", start)
        self.scopes.pop()
        return scope

    def extern_type(self, name: str, introduced: list[ResourceType]) -> ExternType:
        """Reads the type of an import or export. Its abstract resource types are new, and added to ``introduced``."""
        start = self.position
        code = self.byte("the type of an import or export")
        if code == 0x00:
            if self.byte("the type of an import or export") != 0x11:
                self.fail("of core definitions, only modules can be imported and exported", start)
            return self.typed(Sort.CORE_TYPE, CoreModuleType, "core module")
        if code == 0x01:
            return self.typed(Sort.TYPE, FuncType, "function")
        if code == 0x02:
            self.fail("values (in imports, exports and start functions) are not supported", start)
        if code == 0x03:
            if self.flag("the bound of a type"):
                resource = ResourceType(name)
                introduced.append(resource)
                return TypeBound(resource)
            return TypeBound(self.entry(Sort.TYPE))
        if code == 0x04:
            return self.typed(Sort.TYPE, ComponentType, "component")
        if code == 0x05:
            return self.types.open(self.typed(Sort.TYPE, InstanceType, "instance"), introduced)
        self.fail(f"0x{code:02x} is not a kind of import or export", start)

    def typed(self, space: Sort, kind: type[_T], what: str) -> _T:
        start = self.position
        index = self.index(space)
        type_: object = self.scopes[-1].spaces[space][index]
        if not isinstance(type_, kind):
            self.fail(f"{space} {index} is not a {what} type", start)
        return type_

    # Imports and exports.

    def extern_name(self, what: str) -> tuple[str, ExternName, Attributes | None]:
        start = self.position
        form = self.byte(f"the name of an {what}")
        if form > 2:
            self.fail(f"0x{form:02x} is not a form of the name of an {what}", start)
        name = self.name(f"the name of an {what}")
        parsed = parse_extern_name(name)
        if parsed is None:
            self.fail(f"the {what} name {name!r} is neither a plain name in kebab case nor that of an interface", start)
        return name, parsed, self.attributes() if form == 2 else None

    def attributes(self) -> Attributes:
        found: dict[int, str] = {}
        for _ in range(self.count("attributes")):
            start = self.position
            code = self.byte("an attribute")
            if code > 2 or code in found:
                self.fail(f"0x{code:02x} is not an attribute, or there twice", start)
            found[code] = text = self.name("an attribute")
            if code == 0 and not is_interface_name(text):
                self.fail(f"{text!r} is not the name of an interface to implement", start)
        return Attributes(found.get(0), found.get(1), found.get(2))

    def check_name(
        self,
        name: str,
        parsed: ExternName,
        attributes: Attributes | None,
        extern: ExternType,
        keys: dict[str, str],
        resources: dict[str, ResourceType],
        start: int,
    ) -> None:
        """Checks that the name is free and fits the type; adds entries to both dicts."""
        if parsed.key in keys:
            self.fail(f'the name "{name}" is taken: there is "{keys[parsed.key]}" already', start)
        keys[parsed.key] = name
        if attributes is not None:
            if attributes.implements is not None and not isinstance(extern, InstanceType):
                self.fail(f'"{name}" implements an interface and is not an instance', start)
            if attributes.implements is not None and parsed.kind == "interface":
                self.fail(f'"{name}" implements an interface and is the name of one', start)
            if attributes.version_suffix is not None and not is_interface_name(name + attributes.version_suffix):
                self.fail(f'"{name}" with the suffix "{attributes.version_suffix}" has no valid version', start)
        if isinstance(extern, TypeBound) and isinstance(extern.type, ResourceType) and parsed.kind == "plain":
            resources[name] = extern.type
        if parsed.resource is None:
            return
        if not isinstance(extern, FuncType):
            self.fail(f'"{name}" is not a function', start)
        resource = resources.get(parsed.resource)
        if resource is None:
            self.fail(f'"{name}": there is no resource type "{parsed.resource}" before it', start)
        if parsed.kind == "constructor":
            result = extern.result.ok if isinstance(extern.result, ResultType) else extern.result
            if result != OwnType(resource):
                self.fail(f'"{name}" does not return own<{parsed.resource}> or a result with it', start)
        elif parsed.kind == "method" and (not extern.params or extern.params[0] != ("self", BorrowType(resource))):
            self.fail(f'the first parameter of "{name}" is not self: borrow<{parsed.resource}>', start)

    def check_visible(
        self, name: str, extern: ExternType, exported: Collection[ResourceType], scope: _Scope, start: int
    ) -> None:
        needed = self.types.free_resources(extern) - self.types.exposed_resources(extern)
        hidden = {resource for resource in needed if resource not in scope.imported and resource not in exported}
        if hidden:
            which = ", ".join(sorted({resource.name for resource in hidden} - {""})[:5]) or "one without a name"
            self.fail(f'the type of "{name}" needs a resource type that cannot be seen from outside ({which})', start)

    def import_(self) -> Definition:
        start = self.position
        scope = self.scopes[-1]
        name, parsed, attributes = self.extern_name("import")
        introduced: list[ResourceType] = []
        extern = self.extern_type(name, introduced)
        scope.imported.update(dict.fromkeys(introduced))
        self.check_name(name, parsed, attributes, extern, scope.names["import"], scope.resources["import"], start)
        facts = self.types.facts(extern)
        if not scope.is_type:
            # Linking walks the type again.
            self.types.charge(facts.size)
        if facts.resources:
            if scope.is_type:
                if any(resource in scope.generated for resource in self.types.free_resources(extern)):
                    self.fail(f'the import "{name}" depends on a resource type that is exported', start)
            else:
                self.check_visible(name, extern, (), scope, start)
        scope.imports[name] = extern
        sort = sort_of(extern)
        index = self.push(sort, extern.type if isinstance(extern, TypeBound) else extern)
        return Import(name, extern, attributes, sort=sort, index=index, offset=start)

    def export_declaration(self) -> None:
        start = self.position
        scope = self.scopes[-1]
        name, parsed, attributes = self.extern_name("export")
        introduced: list[ResourceType] = []
        extern = self.extern_type(name, introduced)
        scope.generated.update(dict.fromkeys(introduced))
        self.check_name(name, parsed, attributes, extern, scope.names["export"], scope.resources["export"], start)
        scope.exports[name] = extern
        self.push(sort_of(extern), extern.type if isinstance(extern, TypeBound) else extern)

    def export(self) -> Definition:
        start = self.position
        scope = self.scopes[-1]
        name, parsed, attributes = self.extern_name("export")
        sort, target = self.external_reference(f'the export "{name}"')
        extern = self.extern(sort, target)
        resources: dict[ResourceType, ResourceType] = {}
        if self.flag("the presence of a type"):
            introduced: list[ResourceType] = []
            declared = self.extern_type(name, introduced)
            try:
                self.types.match(extern, declared, resources, set(introduced))
            except TypeFault as fault:
                self.fail(f'the export "{name}" does not have its declared type: {fault}', start)
            extern = declared
            scope.generated.update(dict.fromkeys(introduced))
        if isinstance(extern, TypeBound) and isinstance(extern.type, ResourceType) and not extern.type.name:
            extern.type.name = name
        self.check_name(name, parsed, attributes, extern, scope.names["export"], scope.resources["export"], start)
        if self.types.facts(extern).resources:
            scope.exported |= self.types.exposed_resources(extern)
            self.check_visible(name, extern, scope.exported, scope, start)
        scope.exports[name] = extern
        index = self.push(sort, extern.type if isinstance(extern, TypeBound) else extern)
        return Export(name, target, extern, attributes, resources, sort=sort, index=index, offset=start)

    # Canonical functions.

    def canon(self) -> Definition:
        start = self.position
        code = self.byte("a canonical function")
        if code < 2:
            return self.canon_lower(start) if code else self.canon_lift(start)
        builtin = BUILTINS.get(code)
        if builtin is None:
            self.fail(f"0x{code:02x} is not a canonical function", start)
        if builtin.refusal:
            self.refuse(f"the canonical function {builtin.name}", start, builtin.refusal)
        resource = self.local_resource() if builtin.local else self.resource()
        index = self.push(Sort.CORE_FUNC, None)
        return CanonBuiltin(builtin, resource, sort=Sort.CORE_FUNC, index=index, offset=start)

    def canon_lift(self, start: int) -> Definition:
        self.zero("the sort of a lifted function")
        function = self.index(Sort.CORE_FUNC)
        options = self.canon_options(lift=True)
        type_ = self.typed(Sort.TYPE, FuncType, "function")
        self.check_options(options, type_, start, lift=True)
        index = self.push(Sort.FUNC, type_)
        return Lift(function, options, type_, sort=Sort.FUNC, index=index, offset=start)

    def canon_lower(self, start: int) -> Definition:
        self.zero("the sort of a lowered function")
        function = self.index(Sort.FUNC)
        options = self.canon_options(lift=False)
        type_: FuncType = self.scopes[-1].spaces[Sort.FUNC][function]
        self.check_options(options, type_, start, lift=False)
        index = self.push(Sort.CORE_FUNC, None)
        return Lower(function, options, type_, sort=Sort.CORE_FUNC, index=index, offset=start)

    def canon_options(self, *, lift: bool) -> CanonOptions:
        encoding: StringEncoding | None = None
        indices: dict[str, int] = {}
        for _ in range(self.count("options")):
            start = self.position
            code = self.byte("an option")
            if code < 3:
                if encoding is not None:
                    self.fail("the option string-encoding is there twice", start)
                encoding = _ENCODINGS[code]
                continue
            if code in (6, 7):
                name = "async" if code == 6 else "callback"
                self.refuse(f"the option {name} of canonical functions", start)
            if code > 5:
                self.fail(f"0x{code:02x} is not an option of canonical functions that is supported", start)
            name = ("memory", "realloc", "post-return")[code - 3]
            if name in indices:
                self.fail(f"the option {name} is there twice", start)
            if name == "post-return" and not lift:
                self.fail("the option post-return is only for lifted functions", start)
            indices[name] = self.index(Sort.CORE_MEMORY if code == 3 else Sort.CORE_FUNC)
        memory, realloc, post_return = map(indices.get, ("memory", "realloc", "post-return"))
        return CanonOptions(encoding or StringEncoding.UTF8, memory, realloc, post_return)

    def check_options(self, options: CanonOptions, type_: FuncType, start: int, *, lift: bool) -> None:
        self.types.charge(self.types.facts(type_).size)
        what = "lift" if lift else "lower"
        if options.realloc is not None and options.memory is None:
            self.fail("the option realloc needs the option memory", start)
        if options.realloc is None and needs_realloc(type_, lift=lift):
            self.fail(f"canon {what} of this type needs the option realloc: {str(type_)[:200]}", start)
        if options.memory is None and needs_memory(type_):
            self.fail(f"canon {what} of this type needs the option memory: {str(type_)[:200]}", start)

    def local_resource(self) -> ResourceType:
        start = self.position
        resource = self.resource()
        if resource not in self.scopes[-1].local:
            self.fail(f"the resource type {resource.name or 'here'} is not one that this component defines", start)
        return resource


_LISTS: dict[int, tuple[str, Callable[[_Decoder], Definition]]] = {
    2: ("core instances", _Decoder.core_instance),
    3: ("core types", _Decoder.core_type),
    5: ("instances", _Decoder.instance),
    6: ("aliases", _Decoder.alias),
    7: ("types", _Decoder.type_definition),
    8: ("canonical functions", _Decoder.canon),
    10: ("imports", _Decoder.import_),
    11: ("exports", _Decoder.export),
}
