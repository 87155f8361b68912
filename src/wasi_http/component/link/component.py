"""Loads, compiles and plans components, which are then ready to be linked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from wasi_http.component.decode.decoder import decode
from wasi_http.component.decode.definitions import Component as Definitions
from wasi_http.component.decode.definitions import CoreModule
from wasi_http.component.decode.foreign import advise
from wasi_http.component.link.plan import Plan, core_modules, make_plan
from wasi_http.component.link.shims import bypass_shims
from wasi_http.component.model.errors import InvalidComponent
from wasi_http.engine import Engine, InvalidModule, Module, ModuleBinary, Unreadable, fuse, interruptible, wat_to_wasm
from wasi_http.engine.binary.bulk import BULK
from wasi_http.engine.binary.fuse import FUSION
from wasi_http.engine.cache import ModuleCache
from wasi_http.engine.errors import excerpt, expect

__all__ = ["MAX_TEXT", "Component"]

MAX_TEXT = 2_097_152
"""Characters of a component in text form: looking labels up takes quadratic time."""

#: Called with the number of core modules compiled so far, and of all to compile.
Progress = Callable[[int, int], None]


class Component:
    """A validated component, its core modules compiled for an engine. Thread-safe and immutable.

    ``cache`` has its entries of the compile cache, or says why there are none.
    """

    def __init__(self, engine: Engine, wasm: bytes | memoryview | str, *, progress: Progress | None = None) -> None:
        """Compiles a component in binary form, or in text form (str).

        Modules are taken from the compile cache if it has them; ``progress`` is called for the others. Raises
        `InvalidComponent`, and `CompileError` with ``EngineConfig.isolate_compilation``.
        """
        expect(Engine, engine, "Component(engine, wasm)")
        binary = _binary(wasm)
        self.engine = engine
        definition = decode(binary)
        with ModuleCache(engine) as cache:
            fused = _fused(cache, binary, definition, progress)
            self.modules, self.plan = fused or _single(cache, definition, progress)
        self.cache = cache

    @classmethod
    def from_file(cls, engine: Engine, path: str | os.PathLike[str], *, progress: Progress | None = None) -> Component:
        """Loads a component from a ``.wasm`` file, or from a text file. Raises OSError and `InvalidComponent`."""
        expect(Engine, engine, "Component.from_file(engine, path)")
        data = Path(path).read_bytes()
        advice = advise(data, Path(path).suffix)
        if advice is not None:
            raise InvalidComponent(advice, 0)
        if data and data[:4] != b"\0asm":
            try:
                return cls(engine, data.decode(), progress=progress)
            except UnicodeDecodeError:
                pass
        return cls(engine, data, progress=progress)

    @property
    def imports(self) -> list[str]:
        """The names of the interfaces that the component imports."""
        return list(self.plan.imports)

    @property
    def exports(self) -> list[str]:
        """The names of the functions and interfaces that the component exports."""
        return list(self.plan.exports)

    def __repr__(self) -> str:
        return f"<Component: exports {excerpt(', '.join(self.exports)) or 'nothing'}>"


def _binary(wasm: bytes | memoryview | str) -> bytes | memoryview:
    """Returns the binary form of a component in binary or text form; raises TypeError and `InvalidComponent`."""
    if isinstance(wasm, str):
        advice = advise(wasm[:1024].encode(errors="replace"))
        if advice is not None:
            raise InvalidComponent(f"{advice}; for a file, write Component.from_file(engine, path)", 0)
        if len(wasm) > MAX_TEXT:
            what = f"the text has {len(wasm):,} characters, more than {MAX_TEXT:,}"
            raise InvalidComponent(f"{what}: convert it to binary with `wasm-tools parse`", MAX_TEXT)
        try:
            return wat_to_wasm(wasm)
        except InvalidModule as error:
            raise InvalidComponent(error.message, error.offset or 0) from None
    try:
        view = memoryview(wasm)
    except TypeError:
        what = f"expected bytes or str, got {type(wasm).__name__}"
        raise TypeError(f"{what}: for a file, write Component.from_file(engine, path)") from None
    advice = advise(view)
    if advice is not None:
        raise InvalidComponent(advice, 0)
    return wasm


def _fused(
    cache: ModuleCache, wasm: bytes | memoryview, component: Definitions, progress: Progress | None
) -> tuple[list[Module], Plan] | None:
    """Compiles the core modules as one; returns None if they cannot be fused."""
    definitions = core_modules(component)
    try:
        modules = [(definition, ModuleBinary(definition.code)) for definition in definitions]
    except Unreadable:
        return None
    try:
        plan = make_plan(component, modules)
        bypass_shims(plan, modules)
    except InvalidComponent:
        # The engine's faults come first, as without fusion.
        _validate(cache.engine, definitions)
        raise
    if not plan.steps:
        return None
    key = cache.key(wasm, repr((FUSION, BULK, plan.steps, plan.captures)).encode())
    module = cache.find(key)
    if module is None:
        _validate(cache.engine, definitions)
        code = fuse([(modules[position][1], sources) for position, sources in plan.steps], plan.captures)
        if code is None:
            return None
        if progress is not None:
            progress(0, 1)
        try:
            module = cache.compile(key, interruptible(code))
        except InvalidModule:
            # Too large for one module; compiling them one by one shows whether one of them is.
            return None
        if progress is not None:
            progress(1, 1)
    functions = dict.fromkeys(source for _, sources in plan.steps for source in sources if isinstance(source, int))
    plan.steps[:] = [(0, list(functions))]
    plan.start = len(plan.captures) if len(module.exports) > len(plan.captures) else -1
    plan.captures[:] = [(0, position) for position in range(len(module.exports))]
    return [module], plan


def _validate(engine: Engine, definitions: list[CoreModule]) -> None:
    for definition in definitions:
        with _located(definition):
            Module.validate(engine, definition.code)


def _single(cache: ModuleCache, component: Definitions, progress: Progress | None) -> tuple[list[Module], Plan]:
    """Compiles the core modules one by one."""
    definitions = core_modules(component)
    keys = {definition.offset: cache.key(definition.code, b"%d" % BULK) for definition in definitions}
    found = {offset: cache.find(key) for offset, key in keys.items()}
    missing = [definition for definition in definitions if found[definition.offset] is None]
    modules: list[tuple[CoreModule, Module]] = []
    for definition in definitions:
        module = found[definition.offset]
        if module is None:
            if progress is not None:
                progress(missing.index(definition), len(missing))
            with _located(definition):
                Module.validate(cache.engine, definition.code)
                module = cache.compile(keys[definition.offset], interruptible(definition.code))
        modules.append((definition, module))
    if progress is not None and missing:
        progress(len(missing), len(missing))
    plan = make_plan(component, modules)
    bypass_shims(plan, modules)
    return [module for _, module in modules], plan


@contextmanager
def _located(definition: CoreModule) -> Iterator[None]:
    """Turns errors of a core module into errors of the component."""
    try:
        yield
    except InvalidModule as error:
        where = definition.offset + (error.offset or 0)
        raise InvalidComponent(f"a core module is invalid: {_cause(error.message)}", where) from None
    except Unreadable:
        raise InvalidComponent("a core module uses operations that are not supported", definition.offset) from None


def _cause(message: str) -> str:
    return " ".join(message.rpartition("Caused by:")[2].split()).partition(" (at offset")[0]
