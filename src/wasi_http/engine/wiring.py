"""Wires core instances one by one: the fallback for modules that cannot be fused (binary/fuse.py).

All names are resolved when a wiring is made. Instantiating copies externs between slots: the first hold the host
functions, the rest receive the exports of new instances.
"""

from __future__ import annotations

from collections.abc import Sequence

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.wasi_http.engine import libwasmtime as C
from cython.cimports.wasi_http.engine.func import Func
from cython.cimports.wasi_http.engine.host import HostLinker
from cython.cimports.wasi_http.engine.library import lib
from cython.cimports.wasi_http.engine.memory import Memory
from cython.cimports.wasi_http.engine.module import Module
from cython.cimports.wasi_http.engine.store import Store
from cython.cimports.wasi_http.engine.traps import raise_instantiation
from cython.cimports.wasi_http.engine.wiring import Export

__all__ = ["Wiring"]


class Wiring:
    """How the steps of an `Assembly` are instantiated; the arguments are the same."""

    def __cinit__(self):
        self.pointers = cython.NULL
        self.exports = cython.NULL
        self.host_order = self.host_starts = self.import_starts = self.imports = cython.NULL
        self.export_starts = self.captures = self.capture_starts = cython.NULL

    def __init__(
        self,
        hosts: HostLinker,
        steps: Sequence[tuple[Module, Sequence[int | tuple[int, int]]]],
        captures: Sequence[tuple[int, int]],
    ) -> None:
        position: cython.int
        host_count: cython.int = len(hosts.functions)
        self.hosts = hosts
        self.modules = [module for module, _ in steps]
        self.steps = len(self.modules)
        # Host functions are fetched when first imported: for every instance wasmtime walks all those of the store that
        # have no trampoline yet.
        first: dict = {}
        for step, (_, sources) in enumerate(steps):
            for source in sources:
                if isinstance(source, int):
                    first.setdefault(source, step)
        fetched = sorted(first, key=lambda position: first[position])
        self.host_order = _array(fetched)
        self.host_starts = _array(_starts([first[f] for f in fetched], self.steps + 1))
        slots: dict = {}  # (step, export) -> slot
        imports: list = []
        starts: list = [0]
        for _, sources in steps:
            for source in sources:
                if not isinstance(source, int):
                    source = slots.setdefault(source, host_count + len(slots))
                imports.append(source)
            self.max_imports = max(self.max_imports, len(imports) - starts[len(starts) - 1])
            starts.append(len(imports))
        for capture in captures:
            slots.setdefault(capture, host_count + len(slots))
        self.slots = host_count + len(slots)
        exports = sorted(((of, export, slot) for (of, export), slot in slots.items()), key=lambda export: export[0])
        order = sorted(range(len(captures)), key=lambda i: captures[i][0])
        captured: list = []
        for i in order:
            captured.extend((slots[captures[i]], i))
        self.pointers = cython.cast(
            cython.pointer(cython.pointer(C.wasmtime_module_t)),
            calloc(self.steps + 1, cython.sizeof(cython.pointer(C.wasmtime_module_t))),
        )
        for position in range(self.steps):
            self.pointers[position] = cython.cast(Module, self.modules[position]).pointer
        self.import_starts = _array(starts)
        self.imports = _array(imports)
        # By name: lookups by position are linear in wasmtime, and there may be thousands of exports.
        self.names = [self.modules[step].exports[export].name.encode() for step, export, _ in exports]
        self.exports = cython.cast(cython.pointer(Export), calloc(len(exports) + 1, cython.sizeof(Export)))
        for position in range(len(exports)):
            name: bytes = self.names[position]
            self.exports[position].name = PyBytes_AS_STRING(name)
            self.exports[position].length = len(name)
            self.exports[position].slot = exports[position][2]
        self.export_starts = _array(_starts([of for of, _, _ in exports], self.steps + 1))
        self.captures = _array(captured)
        self.capture_starts = _array(_starts([captures[i][0] for i in order], self.steps + 1))

    def instantiate(self, store: Store) -> cython.int:
        """Makes the instances and the store's captures except ``entry``."""
        externs: cython.pointer(C.wasmtime_extern_t) = cython.NULL
        passed: cython.pointer(C.wasmtime_extern_t) = cython.NULL
        try:
            externs = cython.cast(
                cython.pointer(C.wasmtime_extern_t), calloc(self.slots + 1, cython.sizeof(C.wasmtime_extern_t))
            )
            passed = cython.cast(
                cython.pointer(C.wasmtime_extern_t), calloc(self.max_imports + 1, cython.sizeof(C.wasmtime_extern_t))
            )
            if externs == cython.NULL or passed == cython.NULL:
                raise MemoryError
            self.instantiate_in(store, externs, passed)
        finally:
            free(externs)
            free(passed)
        return 0

    def instantiate_in(
        self, store: Store, externs: cython.pointer(C.wasmtime_extern_t), passed: cython.pointer(C.wasmtime_extern_t)
    ) -> cython.int:
        export: Export
        instance: C.wasmtime_instance_t
        trap: cython.pointer(C.wasm_trap_t)
        error: cython.pointer(C.wasmtime_error_t)
        i: cython.int
        step: cython.int
        count: cython.int
        context = store.context
        for step in range(self.steps):
            for i in range(self.host_starts[step], self.host_starts[step + 1]):
                self.hosts.get(context, self.host_order[i], cython.address(externs[self.host_order[i]]))
            count = self.import_starts[step + 1] - self.import_starts[step]
            for i in range(count):
                passed[i] = externs[self.imports[self.import_starts[step] + i]]
            module = self.pointers[step]
            trap = cython.NULL
            with cython.nogil:
                error = lib.wasmtime_instance_new(
                    context, module, passed, count, cython.address(instance), cython.address(trap)
                )
            if trap != cython.NULL or error != cython.NULL:
                raise_instantiation(store, trap, error)
            for i in range(self.export_starts[step], self.export_starts[step + 1]):
                export = self.exports[i]
                lib.wasmtime_instance_export_get(
                    context, cython.address(instance), export.name, export.length, cython.address(externs[export.slot])
                )
            for i in range(self.capture_starts[step], self.capture_starts[step + 1]):
                store.captured[self.captures[2 * i + 1]] = capture(store, cython.address(externs[self.captures[2 * i]]))
        return 0

    def __dealloc__(self):
        free(self.pointers)
        free(self.host_order)
        free(self.host_starts)
        free(self.import_starts)
        free(self.imports)
        free(self.exports)
        free(self.export_starts)
        free(self.captures)
        free(self.capture_starts)


def capture(store: Store, extern: cython.pointer(C.wasmtime_extern_t)) -> object:
    """Returns the `Memory` or `Func` for an extern of the store."""
    memory: Memory
    function: Func
    if extern.kind == 3:
        memory = Memory.__new__(Memory)
        memory.context = store.context
        memory.memory = extern.of.memory
        return memory
    function = Func.__new__(Func)
    function.store = cython.cast(cython.p_void, store)
    function.function = extern.of.func
    return function


def _array(numbers: list) -> cython.p_int:
    i: cython.int
    array = cython.cast(cython.p_int, calloc(len(numbers) + 1, cython.sizeof(cython.int)))
    for i in range(len(numbers)):
        array[i] = numbers[i]
    return array


def _starts(steps: list, count: cython.int) -> list:
    """Returns, for each of ``count`` steps, where its entries begin in the ascending ``steps``."""
    starts: list = []
    place: cython.Py_ssize_t = 0
    step: cython.int
    for step in range(count):
        while place < len(steps) and steps[place] < step:
            place += 1
        starts.append(place)
    return starts
