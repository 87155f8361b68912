"""Components: loaded, compiled and planned, ready to be linked."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from wasi_http.component.binary import decode
from wasi_http.component.definitions import CoreModule
from wasi_http.component.errors import InvalidComponent
from wasi_http.component.plan import core_modules, make_plan
from wasi_http.component.shims import bypass_shims
from wasi_http.engine import Engine, InvalidModule, Module, wat_to_wasm
from wasi_http.engine.cache import ModuleCache

__all__ = ["Component"]

#: Called with the number of core modules that are compiled, and of all that have to be.
Progress = Callable[[int, int], None]


class Component:
    """A validated component, its core modules compiled for an engine. Thread-safe and immutable."""

    def __init__(self, engine: Engine, wasm: bytes | memoryview | str, *, progress: Progress | None = None) -> None:
        """Compiles a component in binary form, or in text form (str).

        Modules come from the compile cache where they are there; ``progress`` hears of those that have to be compiled.
        Raises `InvalidComponent`.
        """
        if isinstance(wasm, str):
            try:
                wasm = wat_to_wasm(wasm)
            except InvalidModule as error:
                raise InvalidComponent(error.message, error.offset or 0) from None
        self.engine = engine
        definition = decode(wasm)
        self.modules = _compile(engine, core_modules(definition), progress)
        self.plan = make_plan(definition, self.modules)
        bypass_shims(self.plan, self.modules)

    @classmethod
    def from_file(cls, engine: Engine, path: str | os.PathLike[str], *, progress: Progress | None = None) -> Component:
        """Loads a component from a ``.wasm`` file, or from a text file. Raises OSError and `InvalidComponent`."""
        data = Path(path).read_bytes()
        if data[:4] != b"\0asm":
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
        return f"<Component: {len(self.modules)} core modules, exports {', '.join(self.exports) or 'nothing'}>"


def _compile(
    engine: Engine, definitions: list[CoreModule], progress: Progress | None
) -> list[tuple[CoreModule, Module]]:
    cache = ModuleCache(engine)
    modules: dict[int, Module] = {}
    missing = []
    for definition in definitions:
        found = cache.find(definition.code)
        if found is None:
            missing.append(definition)
        else:
            modules[definition.offset] = found
    for done, definition in enumerate(missing):
        if progress is not None:
            progress(done, len(missing))
        try:
            modules[definition.offset] = cache.compile(definition.code)
        except InvalidModule as error:
            where = definition.offset + (error.offset or 0)
            raise InvalidComponent(f"a core module is invalid: {_cause(error.message)}", where) from None
    if progress is not None and missing:
        progress(len(missing), len(missing))
    return [(definition, modules[definition.offset]) for definition in definitions]


def _cause(message: str) -> str:
    return " ".join(message.rpartition("Caused by:")[2].split()).partition(" (at offset")[0]
