"""The core instances of one component: which modules are instantiated, in what order, and how they are wired.

All names are resolved when an assembly is made, once per component. A single module that imports only host functions is
pre-linked then, and `run`, once per store, has nothing left to wire. Fusion makes that the rule (binary/fuse.py);
`Wiring` handles the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING
from cython.cimports.wasi_http.engine import libwasmtime as C
from cython.cimports.wasi_http.engine.engine import Engine
from cython.cimports.wasi_http.engine.func import Func
from cython.cimports.wasi_http.engine.host import HostFunc, HostLinker, define_function
from cython.cimports.wasi_http.engine.library import lib, take_message
from cython.cimports.wasi_http.engine.module import Module
from cython.cimports.wasi_http.engine.store import Store
from cython.cimports.wasi_http.engine.traps import raise_instantiation
from cython.cimports.wasi_http.engine.wiring import Wiring, capture

from wasi_http.engine.errors import InvalidModule, Trap

__all__ = ["Assembly"]

# wasmtime's message for a guest whose epoch deadline has passed.
_INTERRUPTED = "interrupt"


class Assembly:
    """Wired core modules, ready to be instantiated in any number of stores.

    ``functions``
        The host functions (`HostFunc`) that guests import.
    ``steps``
        For each core instance its module and the sources of its imports, in the module's order. A source is either
        the position of a host function, or a pair (step, position of the export) of an earlier step.
    ``captures``
        Pairs (step, position of the export) of memories and functions that the host needs: each store captures them as
        `Memory` and `Func` objects, in this order.
    ``entry``
        The position of a host function that is captured after them, or -1.
    ``start``
        The position in the captures of a function without parameters that is called last, or -1 for none; the modules
        then have no start functions of their own. None if they may have.
    """

    def __cinit__(self):
        self.pre = cython.NULL

    def __init__(
        self,
        engine: Engine,
        functions: Sequence[HostFunc],
        steps: Sequence[tuple[Module, Sequence[int | tuple[int, int]]]],
        captures: Sequence[tuple[int, int]],
        entry: int = -1,
        start: int | None = None,
    ) -> None:
        self.engine = engine
        self.hosts = HostLinker(engine, functions)
        self.names = []
        if len(steps) == 1 and all(isinstance(source, int) for source in steps[0][1]):
            self._prepare(steps[0][0], steps[0][1])
            self.names.extend([steps[0][0].exports[export].name.encode() for _, export in captures])
        else:
            self.wiring = Wiring(self.hosts, steps, captures)
        self.capture_count = len(captures)
        self.entry = entry
        self.start = -1 if start is None else start
        self.starts = start is None or start >= 0

    @property
    def functions(self) -> list[HostFunc]:
        return self.hosts.functions

    def _prepare(self, module: Module, sources: Sequence[int]) -> cython.int:
        # A separate linker: the guest chooses the names.
        linker = lib.wasmtime_linker_new(self.engine.pointer)
        try:
            for import_, source in dict(zip(module.imports, sources, strict=True)).items():
                define_function(linker, import_.module.encode(), import_.name.encode(), self.hosts.functions[source])
            error = lib.wasmtime_linker_instantiate_pre(linker, module.pointer, cython.address(self.pre))
        finally:
            lib.wasmtime_linker_delete(linker)
        if error != cython.NULL:
            raise InvalidModule(take_message(error))
        return 0

    def run(self, store: Store) -> cython.int:
        """Instantiates everything in the store; raises `Trap` if a start function traps, else `InvalidModule`."""
        store.enter()
        if store.assembly is not None:
            store.leave()
            raise RuntimeError("the store already has an instance")
        if self.starts and store.stack_left() < store.engine.entry_stack:
            store.leave()
            raise RuntimeError(
                f"{store.stack_left()} bytes are left of this thread's stack, too few for start functions, which need "
                f"{store.engine.entry_stack}: see threading.stack_size and ulimit -s"
            )
        store.assembly = self
        store.captured = [None] * (self.capture_count + (self.entry >= 0))
        lib.wasmtime_context_set_epoch_deadline(store.context, store.engine.start_ticks)
        try:
            self.instantiate_in(store)
        except BaseException as failure:
            store.spent = True
            if isinstance(failure, Trap) and failure.message == _INTERRUPTED:
                limit = store.engine.config.start_time_limit
                raise Trap(
                    f"the start functions take longer than {limit} s: EngineConfig.start_time_limit lets them",
                    failure.backtrace,
                ) from None
            raise
        finally:
            store.leave()
        return 0

    def instantiate(self, store: Store) -> None:
        """`run` for Python callers."""
        self.run(store)

    def instantiate_in(self, store: Store) -> cython.int:
        instance: C.wasmtime_instance_t
        extern: C.wasmtime_extern_t
        trap: cython.pointer(C.wasm_trap_t) = cython.NULL
        error: cython.pointer(C.wasmtime_error_t)
        nothing: C.wasmtime_val_raw_t[1]
        i: cython.Py_ssize_t
        context = store.context
        if self.pre == cython.NULL:
            self.wiring.instantiate(store)
        else:
            with cython.nogil:
                error = lib.wasmtime_instance_pre_instantiate(
                    self.pre, context, cython.address(instance), cython.address(trap)
                )
            if trap != cython.NULL or error != cython.NULL:
                raise_instantiation(store, trap, error)
            for i in range(self.capture_count):
                name: bytes = self.names[i]
                lib.wasmtime_instance_export_get(
                    context, cython.address(instance), PyBytes_AS_STRING(name), len(name), cython.address(extern)
                )
                store.captured[i] = capture(store, cython.address(extern))
        if self.entry >= 0:
            self.hosts.get(context, self.entry, cython.address(extern))
            store.captured[self.capture_count] = capture(store, cython.address(extern))
        if self.start >= 0:
            cython.cast(Func, store.captured[self.start]).call_raw(nothing, 1)
        return 0

    def __dealloc__(self):
        if self.pre != cython.NULL:
            lib.wasmtime_instance_pre_delete(self.pre)
