"""Linking: matches a component's imports with the host's interfaces."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import ClassVar, TypeVar, cast

from wasi_http.component.abi.context import ENCODINGS
from wasi_http.component.abi.layout import needs_realloc
from wasi_http.component.abi.signature import Signature
from wasi_http.component.canon.instances import Prepared
from wasi_http.component.canon.lift import CallTrampoline, Lifted
from wasi_http.component.canon.lower import Lowered
from wasi_http.component.declare.binding import HostFunction
from wasi_http.component.declare.interface import Interface
from wasi_http.component.decode.definitions import InstanceType
from wasi_http.component.link.component import Component
from wasi_http.component.link.plan import ImportedFunc, LiftedFunc, LoweredFunc, Plan
from wasi_http.component.link.versions import semver_track, without_version
from wasi_http.component.model.errors import MADE_FOR_WASI_0_3, LinkError
from wasi_http.component.model.types import FuncType, ResourceType, Type
from wasi_http.engine import Assembly, Engine, HostFunc, InvalidModule, Store
from wasi_http.engine.errors import excerpt, expect

__all__ = ["InstancePre", "Linker", "Provider"]

_Type = TypeVar("_Type", bound=Type)

# Stands for the resources of missing interfaces.
_ABSENT = ResourceType("absent")

# The most names in a line about missing interfaces.
_MAX_FORGOTTEN = 5


class Provider:
    """A function that defines interfaces in a linker; ``call`` is the Python code that calls it."""

    __slots__ = ("_names", "call")

    def __init__(self, call: str, names: Iterable[str]) -> None:
        self.call = call
        self._names = {without_version(name): name for name in names}

    def find(self, name: str) -> str | None:
        """Returns the interface that it defines under the name, in any version, or None."""
        return self._names.get(without_version(name))

    def covers(self, name: str) -> bool:
        """Returns whether it defines an interface for an import of ``name``."""
        found = self.find(name)
        if found is None or found == name:
            return found is not None
        wanted, provided = semver_track(name), semver_track(found)
        return wanted is not None and provided is not None and wanted[0] == provided[0]


class Linker:
    """The host's interfaces for components of one engine.

    Each interface is defined once, at its newest version; imports of other versions on the same semver track get it,
    too.
    """

    #: Suggested by a `LinkError` for missing imports; those that define the fewest come first.
    providers: ClassVar[list[Provider]] = []

    def __init__(self, engine: Engine) -> None:
        expect(Engine, engine, "Linker(engine)")
        self.engine = engine
        self._interfaces: dict[str, Interface] = {}
        self._functions: dict[str, dict[str, HostFunction]] = {}
        # By semver track: the highest version, and its interface.
        self._tracks: dict[str, tuple[tuple[int, int, int], str]] = {}
        self._hints: dict[str, str] = {}

    def define(self, interface: Interface | type[Interface]) -> None:
        """Adds an interface: an object, or a class without arguments. Replaces one of the same name.

        Raises TypeError when the declaration is wrong.
        """
        interface = _instance(interface, "linker.define(interface)")
        functions = interface.functions()
        self._interfaces[interface.name] = interface
        self._functions[interface.name] = functions
        track = semver_track(interface.name)
        if track is not None:
            name, version = track
            self._tracks[name] = max(self._tracks.get(name, ((0, 0, 0), "")), (version, interface.name))

    def suggest(self, prefix: str, hint: str) -> None:
        """Sets the hint of a `LinkError` for missing imports that start with ``prefix``."""
        self._hints[prefix] = hint

    def interfaces(self) -> Iterator[str]:
        """Yields the names of the defined interfaces."""
        return iter(self._interfaces)

    def find(self, name: str) -> str | None:
        """Returns the interface for an import of ``name``: the same, else the highest on its track, or None."""
        if name in self._interfaces:
            return name
        track = semver_track(name)
        if track is None:
            return None
        highest = self._tracks.get(track[0])
        return None if highest is None else highest[1]

    def instantiate_pre(self, component: Component) -> InstancePre:
        """Links a component; raises `LinkError` with all missing and mismatched imports."""
        expect(Component, component, "linker.instantiate_pre(component)")
        if component.engine is not self.engine:
            raise ValueError("the component and the linker belong to different engines")
        return InstancePre(self, component)

    def match(self, plan: Plan) -> dict[ResourceType, ResourceType]:
        """Returns the host's resource types for those that a component imports; raises `LinkError`."""
        resources: dict[ResourceType, ResourceType] = {}
        # Resources of missing interfaces: functions that use them cannot match either, and are not reported again.
        absent = {
            resource: _ABSENT
            for name, imported in plan.imports.items()
            if self.find(name) is None
            for resource in imported.resources.values()
        }
        problems = [*plan.unsupported, *self._check_names(plan.imports)]
        for name, imported in plan.imports.items():
            self._bind(name, imported, resources)
        for name, imported in plan.imports.items():
            problems.extend(self._check_functions(name, imported, resources, absent))
        if problems:
            raise LinkError(problems)
        return resources

    def function(self, imported: ImportedFunc) -> HostFunction:
        """Returns the host function for an import that has been matched."""
        found = self.find(imported.instance)
        assert found is not None
        return self._functions[found][imported.name]

    def _check_names(self, wanted: Iterable[str]) -> Iterator[str]:
        forgotten = []
        others = {without_version(name): name for name in self._interfaces}
        for name in wanted:
            if self.find(name) is not None:
                continue
            known = next((provider for provider in self.providers if provider.find(name)), None)
            hint = next((hint for prefix, hint in self._hints.items() if name.startswith(prefix)), None)
            if hint is None and known is not None and known.covers(name):
                forgotten.append(name)
                continue
            other = others.get(without_version(name)) or (known and known.find(name))
            if hint is None and other is not None:
                made = f"; {MADE_FOR_WASI_0_3}" if re.match("wasi:[^@]+@0\\.3", name) else ""
                hint = f"it is not compatible with {other}{made}"
            short = excerpt(name, 200)
            yield f"{short} is missing; " + (hint or f'define a class Interface with name="{short}" in the linker')
        if forgotten:
            provider = next(
                (provider for provider in self.providers if all(map(provider.covers, forgotten))), self.providers[-1]
            )
            names = ", ".join(forgotten[:_MAX_FORGOTTEN])
            if len(forgotten) == 1:
                yield f"{names} is missing; {provider.call} defines it"
            elif len(forgotten) <= _MAX_FORGOTTEN:
                yield f"{names} are missing; {provider.call} defines them"
            else:
                more = len(forgotten) - _MAX_FORGOTTEN
                yield f"{names} and {more} more are missing; {provider.call} defines them"

    def _bind(self, wanted: str, imported: InstanceType, resources: dict[ResourceType, ResourceType]) -> None:
        found = self.find(wanted)
        if found is None:
            return
        provided = self._interfaces[found].resource_types()
        for name, resource in imported.resources.items():
            if name in provided:
                resources.setdefault(resource, provided[name])

    def _check_functions(
        self,
        wanted: str,
        imported: InstanceType,
        resources: dict[ResourceType, ResourceType],
        absent: dict[ResourceType, ResourceType],
    ) -> Iterator[str]:
        found = self.find(wanted)
        if found is None:
            return
        functions = self._functions[found]
        as_found = wanted if found == wanted else f"{wanted} (given {found})"
        for name, resource in imported.resources.items():
            # Resources of other interfaces are bound where those are imported.
            if resource not in resources and resource not in absent:
                yield f"{as_found}: the resource {name} is missing"
        for name, type_ in imported.functions.items():
            if name not in functions:
                yield f"{as_found}: the function {name} is missing: {type_}"
                continue
            expected = _bind(type_, resources)
            given = functions[name].type
            if _same_function(expected, given) or _bind(type_, absent) != type_:
                continue
            if str(expected) == str(given):
                cure = "declare it with the classes of the interface that defines them"
                yield f"{as_found}: {name} does not match: {given} here has other resources of the same names: {cure}"
            else:
                yield f"{as_found}: {name} does not match: the component expects {expected}, the host gives {given}"


class InstancePre:
    """A linked component; `instantiate_async` takes microseconds."""

    def __init__(self, linker: Linker, component: Component) -> None:
        self.component = component
        plan = component.plan
        self._resources = resources = linker.match(plan)
        functions: list[HostFunc] = []
        for lowered in plan.host_functions:
            if isinstance(lowered, LoweredFunc):
                functions.append(_lowered(linker.function(lowered.function), lowered))
            else:
                resource = resources.get(lowered.resource, lowered.resource)
                functions.append(lowered.builtin.make(resource, lowered.instance, lowered.destructor))
        captures: list[tuple[int, int]] = list(plan.captures)
        exported: dict[int, LiftedFunc] = {}  # by id: one may be exported under many names
        for item in plan.exports.values():
            for function in (item,) if isinstance(item, LiftedFunc) else item.values():
                exported[id(function)] = function
        self._entry = -1
        if any(map(_needs_entry, exported.values())):
            self._entry = len(captures)
            functions.append(CallTrampoline())
        assembly = Assembly(
            component.engine,
            functions,
            [(component.modules[position], sources) for position, sources in plan.steps],
            captures,
            len(functions) - 1 if self._entry >= 0 else -1,
            plan.start,
        )
        self._prepared = Prepared(
            assembly,
            tuple((_position(o.memory), _position(o.realloc), ENCODINGS[o.encoding], o.instance) for o in plan.options),
            tuple((resource, _position(at), instance) for resource, (instance, at) in plan.resources.items()),
            plan.instances,
        )
        # The component's own resource types, by those of the interfaces passed to `export`.
        self._implemented: dict[ResourceType, ResourceType] = {}

    def export(self, interface: Interface | type[Interface]) -> dict[str, Lifted]:
        """Returns the functions of an exported interface, by name, with the types of its declaration.

        The component may export another version on the same semver track. Resources that it implements are
        `GuestResource` objects, whatever class declares them; request the interface that defines one before those that
        use it. Raises `LinkError` if the interface is not exported or has other signatures.
        """
        interface = _instance(interface, "pre.export(interface)")
        exports = self.component.plan.exports
        name = self._find_export(interface.name)
        if name is None:
            there = ", ".join(sorted(exports)) or "nothing"
            raise LinkError([f"the component does not export {interface.name}; it exports {there}"])
        instance = exports[name]
        assert isinstance(instance, dict)
        problems = []
        functions = {}
        resources = self.component.plan.exported_resources[name]
        for resource, declared in interface.resource_types().items():
            if resource not in resources:
                problems.append(f"{name}: the resource {resource} is not exported")
            elif resources[resource] not in self._resources:
                self._implemented[declared] = resources[resource]
        for function in interface.functions().values():
            lifted = instance.get(function.name)
            if lifted is None:
                problems.append(f"{name}: the function {function.name} is not exported: {function.type}")
                continue
            exported = _bind(lifted.type, self._resources)
            expected = _bind(function.type, self._implemented)
            if not _same_function(exported, expected):
                problems.append(
                    f"{name}: {function.name} does not match: the component exports {exported}, expected {expected}"
                )
                continue
            functions[function.name] = Lifted(
                f"{name}#{function.name}",
                Signature(expected),
                lifted.core,
                lifted.options,
                _position(lifted.post_return),
                self._entry if _needs_entry(lifted) else -1,
            )
        if problems:
            raise LinkError(problems)
        return functions

    def _find_export(self, name: str) -> str | None:
        exports = [n for n, item in self.component.plan.exports.items() if isinstance(item, dict)]
        if name in exports:
            return name
        track = semver_track(name)
        candidates = [(found[1], n) for n in exports if track and (found := semver_track(n)) and found[0] == track[0]]
        return max(candidates)[1] if candidates else None

    def instantiate(self, store: Store) -> None:
        """Instantiates the component in a fresh store.

        Raises `Trap` if a core start function fails or a limit of the store is exceeded, and `LinkError` if core
        modules do not match.
        """
        try:
            self._prepared.instantiate(store)
        except InvalidModule as error:
            raise LinkError([f"the core modules do not fit: {' '.join(error.message.split())}"]) from None

    async def instantiate_async(self, store: Store) -> None:
        """Does the same as `instantiate`, in asynchronous form; it does not wait."""
        self.instantiate(store)


def _instance(interface: Interface | type[Interface], usage: str) -> Interface:
    if isinstance(interface, type) and issubclass(interface, Interface):
        interface = interface()
    expect(Interface, interface, usage)
    return interface


def _needs_entry(function: LiftedFunc) -> bool:
    return (
        function.post_return is not None or needs_realloc(function.type, lift=True) or function.type.result is not None
    )


def _lowered(function: HostFunction, lowered: LoweredFunc) -> Lowered:
    return Lowered(
        f"{lowered.function.instance}#{function.name}",
        Signature(function.type),
        function.call,
        lowered.options,
        function.passes_state,
        function.may_suspend,
    )


def _position(position: int | None) -> int:
    """Returns -1 for None, as compiled code expects."""
    return -1 if position is None else position


# A component has its own identities for imported resources. To compare its signatures with the host's, those are
# replaced by the host's resource types; in declarations of exports, the declared types are replaced by those that the
# component implements.


def _bind(type_: _Type, resources: dict[ResourceType, ResourceType]) -> _Type:
    """Returns the type with resource types replaced."""
    if isinstance(type_, ResourceType):
        return cast(_Type, resources.get(type_, type_))
    return type_.rebuild([None if child is None else _bind(child, resources) for child in type_.children()])


def _same_function(one: FuncType, other: FuncType) -> bool:
    # Names of parameters are documentation: calls are positional.
    return (
        [type_ for _, type_ in one.params] == [type_ for _, type_ in other.params]
        and one.result == other.result
        and one.is_async == other.is_async
    )
