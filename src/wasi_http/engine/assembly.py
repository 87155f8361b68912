"""The core instances of one component: which modules are instantiated in what order, and how they are wired.

All names are resolved when an assembly is made, once per component. A module that imports host functions alone is
prepared then, and `run`, once per store, has nothing left to wire: that is the rule, see binary/fuse.py. Otherwise
`run` copies externs between slots. The first are the host functions, the rest receive exports of instances as they come
to life.
"""

from __future__ import annotations

from collections.abc import Sequence

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.wasi_http.engine import libwasmtime as C
from cython.cimports.wasi_http.engine.engine import Engine
from cython.cimports.wasi_http.engine.func import Func
from cython.cimports.wasi_http.engine.host import HostFunc, host_callback
from cython.cimports.wasi_http.engine.library import lib, take_message
from cython.cimports.wasi_http.engine.memory import Memory
from cython.cimports.wasi_http.engine.module import Module
from cython.cimports.wasi_http.engine.store import Store
from cython.cimports.wasi_http.engine.traps import raise_wasm

from wasi_http.engine.errors import InvalidModule, Trap, UnsupportedWasmtime
from wasi_http.engine.module import C_KINDS

__all__ = ["Assembly"]


# Names of 32 bytes and more: some processors are slow (50 ns) at comparing shorter ones with masked vector loads.
_NAMESPACE = cython.declare(bytes, b"host functions by their position")

# What wasmtime says of a guest whose time is over.
_INTERRUPTED = "interrupt"


@cython.cclass
class Assembly:
    """Wired core modules, ready to be instantiated in any number of stores.

    ``functions``
        The host functions (`HostFunc`) that guests import.
    ``steps``
        For each core instance its module and the sources of its imports, in the module's order. A source is either
        the position of a host function, or a pair (step, position of the export) of an earlier step.
    ``wants``
        Pairs (step, position of the export) of memories and functions that the host needs: they become `Memory` and
        `Func` objects, in this order, in each store's items.
    ``entry``
        The position of a host function that follows them as the last item, or -1.
    ``start``
        The position in the wants of a function without parameters that is called in the end, or -1: modules have no
        start functions of their own. None: they may have.
    """

    def __cinit__(self):
        self.linker = cython.NULL
        self.pre = cython.NULL
        self.pointers = cython.NULL
        self.labels = self.takes = cython.NULL
        self.import_starts = self.imports = self.take_starts = self.wants = self.want_starts = cython.NULL
        self.fetches = self.fetch_starts = cython.NULL

    def __init__(
        self,
        engine: Engine,
        functions: Sequence[HostFunc],
        steps: Sequence[tuple[Module, Sequence[int | tuple[int, int]]]],
        wants: Sequence[tuple[int, int]],
        entry: int = -1,
        start: int | None = None,
    ) -> None:
        self.engine = engine
        self.functions = list(functions)
        self.modules = [module for module, _ in steps]
        self.steps = len(self.modules)
        self.linker = lib.wasmtime_linker_new(engine.pointer)
        position: cython.int
        self.function_count = len(self.functions)
        self.label_names = [b"%032d" % position for position in range(self.function_count)]
        self.labels = cython.cast(cython.pointer(Take), calloc(self.function_count + 1, cython.sizeof(Take)))
        for position in range(self.function_count):
            label: bytes = self.label_names[position]
            self.labels[position].name = PyBytes_AS_STRING(label)
            self.labels[position].length = len(label)
            _define(self.linker, _NAMESPACE, label, self.functions[position])
        # Each function is fetched when it is first imported: with every instance wasmtime goes through all the host
        # functions of a store for which no module has brought a trampoline yet.
        first: dict = {}
        for step, (_, sources) in enumerate(steps):
            for source in sources:
                if isinstance(source, int):
                    first.setdefault(source, step)
        if entry >= 0:
            first[entry] = self.steps
        fetched = sorted(first, key=lambda position: first[position])
        self.fetches = _array(fetched)
        self.fetch_starts = _array(_starts([first[f] for f in fetched], self.steps + 2))

        slots: dict = {}  # (step, export) -> slot
        imports: list = []
        starts: list = [0]
        for _, sources in steps:
            for source in sources:
                if not isinstance(source, int):
                    source = slots.setdefault(source, len(self.functions) + len(slots))
                imports.append(source)
            self.widest = max(self.widest, len(imports) - starts[len(starts) - 1])
            starts.append(len(imports))
        for want in wants:
            slots.setdefault(want, len(self.functions) + len(slots))
        self.slots = len(self.functions) + len(slots)
        takes = sorted(((of, export, slot) for (of, export), slot in slots.items()), key=lambda take: take[0])
        take_starts = _starts([of for of, _, _ in takes], self.steps + 1)
        order = sorted(range(len(wants)), key=lambda i: wants[i][0])
        want_starts = _starts([wants[i][0] for i in order], self.steps + 1)
        wanted: list = []
        for i in order:
            wanted.extend((slots[wants[i]], i))
        self.pointers = cython.cast(
            cython.pointer(cython.pointer(C.wasmtime_module_t)),
            calloc(self.steps + 1, cython.sizeof(cython.pointer(C.wasmtime_module_t))),
        )
        for position in range(self.steps):
            self.pointers[position] = cython.cast(Module, self.modules[position]).pointer
        if self.steps == 1 and all(isinstance(source, int) for source in steps[0][1]):
            self._prepare(steps[0][0], steps[0][1])
        self.import_starts = _array(starts)
        self.imports = _array(imports)
        self.take_starts = _array(take_starts)
        # By name: looking exports up by position is linear in wasmtime, and there may be thousands.
        self.names = [self.modules[step].exports[export].name.encode() for step, export, _ in takes]
        self.takes = cython.cast(cython.pointer(Take), calloc(len(takes) + 1, cython.sizeof(Take)))
        for position in range(len(takes)):
            name: bytes = self.names[position]
            self.takes[position].name = PyBytes_AS_STRING(name)
            self.takes[position].length = len(name)
            self.takes[position].slot = takes[position][2]
        self.want_starts = _array(want_starts)
        self.wants = _array(wanted)
        self.item_count = len(wants)
        self.entry = entry
        self.start = -1 if start is None else start
        self.starts = start is None or start >= 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _prepare(self, module: Module, sources: Sequence[int]) -> cython.int:
        # A linker of its own: the names are the guest's.
        linker = lib.wasmtime_linker_new(self.engine.pointer)
        try:
            for wanted, source in dict(zip(module.imports, sources, strict=True)).items():
                _define(linker, wanted.module.encode(), wanted.name.encode(), self.functions[source])
            error = lib.wasmtime_linker_instantiate_pre(linker, module.pointer, cython.address(self.pre))
        finally:
            lib.wasmtime_linker_delete(linker)
        if error != cython.NULL:
            raise InvalidModule(take_message(error))
        return 0

    def run(self, store: Store) -> cython.int:
        """Instantiates everything in the store. A failure is a `Trap` of a start function, or `InvalidModule`."""
        inline: C.wasmtime_extern_t[64]
        arguments: C.wasmtime_extern_t[48]
        externs: cython.pointer(C.wasmtime_extern_t) = inline
        passed: cython.pointer(C.wasmtime_extern_t) = arguments
        store.enter()
        if store.assembly is not None:
            store.leave()
            raise RuntimeError("the store has an instance already")
        if self.starts and store.stack_left() < store.engine.entry_stack:
            store.leave()
            raise RuntimeError(
                f"{store.stack_left()} bytes are left of this thread's stack, too few for start functions, which need "
                f"{store.engine.entry_stack}: see threading.stack_size and ulimit -s"
            )
        if self.slots > 64:
            externs = cython.cast(
                cython.pointer(C.wasmtime_extern_t), calloc(self.slots, cython.sizeof(C.wasmtime_extern_t))
            )
        if self.widest > 48:
            passed = cython.cast(
                cython.pointer(C.wasmtime_extern_t), calloc(self.widest, cython.sizeof(C.wasmtime_extern_t))
            )
        store.assembly = self
        store.captured = [None] * (self.item_count + (self.entry >= 0))
        lib.wasmtime_context_set_epoch_deadline(store.context, store.engine.start_ticks)
        try:
            self.instantiate_in(store, externs, passed)
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
            if externs != inline:
                free(externs)
            if passed != arguments:
                free(passed)
        return 0

    def instantiate(self, store: Store) -> None:
        """`run` for Python callers."""
        self.run(store)

    def instantiate_in(
        self, store: Store, externs: cython.pointer(C.wasmtime_extern_t), passed: cython.pointer(C.wasmtime_extern_t)
    ) -> cython.int:
        take: Take
        instance: C.wasmtime_instance_t
        trap: cython.pointer(C.wasm_trap_t)
        error: cython.pointer(C.wasmtime_error_t)
        i: cython.int
        step: cython.int
        count: cython.int
        nothing: C.wasmtime_val_raw_t[1]
        context = store.context
        for step in range(self.steps):
            trap = cython.NULL
            if self.pre != cython.NULL:
                with cython.nogil:
                    error = lib.wasmtime_instance_pre_instantiate(
                        self.pre, context, cython.address(instance), cython.address(trap)
                    )
            else:
                self.fetch(context, step, externs)
                count = self.import_starts[step + 1] - self.import_starts[step]
                for i in range(count):
                    passed[i] = externs[self.imports[self.import_starts[step] + i]]
                module = self.pointers[step]
                with cython.nogil:
                    error = lib.wasmtime_instance_new(
                        context, module, passed, count, cython.address(instance), cython.address(trap)
                    )
            if trap != cython.NULL:
                raise_wasm(store, trap, error)
            if error != cython.NULL:
                _raise_instantiation(store, error)
            for i in range(self.take_starts[step], self.take_starts[step + 1]):
                take = self.takes[i]
                lib.wasmtime_instance_export_get(
                    context, cython.address(instance), take.name, take.length, cython.address(externs[take.slot])
                )
            for i in range(self.want_starts[step], self.want_starts[step + 1]):
                store.captured[self.wants[2 * i + 1]] = _item(store, cython.address(externs[self.wants[2 * i]]))
        if self.entry >= 0:
            self.fetch(context, self.steps, externs)
            store.captured[self.item_count] = _item(store, cython.address(externs[self.entry]))
        if self.start >= 0:
            cython.cast(Func, store.captured[self.start]).call_raw(nothing, 1)
        return 0

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def fetch(
        self,
        context: cython.pointer(C.wasmtime_context_t),
        step: cython.int,
        externs: cython.pointer(C.wasmtime_extern_t),
    ) -> cython.void:
        """Brings the host functions that a step is the first to import into the store."""
        i: cython.int
        for i in range(self.fetch_starts[step], self.fetch_starts[step + 1]):
            position: cython.int = self.fetches[i]
            label = self.labels[position]
            lib.wasmtime_linker_get(
                self.linker,
                context,
                PyBytes_AS_STRING(_NAMESPACE),
                len(_NAMESPACE),
                label.name,
                label.length,
                cython.address(externs[position]),
            )

    def __dealloc__(self):
        if self.pre != cython.NULL:
            lib.wasmtime_instance_pre_delete(self.pre)
        if self.linker != cython.NULL:
            lib.wasmtime_linker_delete(self.linker)
        free(self.pointers)
        free(self.import_starts)
        free(self.imports)
        free(self.take_starts)
        free(self.takes)
        free(self.labels)
        free(self.fetches)
        free(self.fetch_starts)
        free(self.wants)
        free(self.want_starts)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _define(linker: cython.pointer(C.wasmtime_linker_t), module: bytes, name: bytes, function: HostFunc) -> cython.int:
    params: C.wasm_valtype_vec_t
    results: C.wasm_valtype_vec_t
    _fill(cython.address(params), function.type.params)
    _fill(cython.address(results), function.type.results)
    signature = lib.wasm_functype_new(cython.address(params), cython.address(results))
    error = lib.wasmtime_linker_define_func_unchecked(
        linker,
        PyBytes_AS_STRING(module),
        len(module),
        PyBytes_AS_STRING(name),
        len(name),
        signature,
        host_callback,
        cython.cast(cython.p_void, function),
        cython.NULL,
    )
    lib.wasm_functype_delete(signature)
    if error != cython.NULL:
        lib.wasmtime_error_delete(error)
        raise RuntimeError(f"cannot define the host function {function.name}")
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _fill(vector: cython.pointer(C.wasm_valtype_vec_t), kinds: tuple) -> cython.int:
    i: cython.size_t
    lib.wasm_valtype_vec_new_uninitialized(vector, len(kinds))
    for i in range(len(kinds)):
        vector.data[i] = lib.wasm_valtype_new(C_KINDS[kinds[i]])
    return 0


@cython.cfunc
@cython.exceptval(check=False)
def _array(numbers: list) -> cython.p_int:
    i: cython.int
    array = cython.cast(cython.p_int, calloc(len(numbers) + 1, cython.sizeof(cython.int)))
    for i in range(len(numbers)):
        array[i] = numbers[i]
    return array


@cython.cfunc
def _starts(steps: list, count: cython.int) -> list:
    """Of each of ``count`` steps the place in the ascending ``steps`` where those of that step begin."""
    starts: list = []
    place: cython.Py_ssize_t = 0
    step: cython.int
    for step in range(count):
        while place < len(steps) and steps[place] < step:
            place += 1
        starts.append(place)
    return starts


@cython.cfunc
def _item(store: Store, extern: cython.pointer(C.wasmtime_extern_t)) -> object:
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


@cython.cfunc
@cython.exceptval(-1, check=False)
def _raise_instantiation(store: Store, error: cython.pointer(C.wasmtime_error_t)) -> cython.int:
    message = take_message(error)
    failure, store.failure = store.failure, None
    if failure is not None:
        raise failure
    if "incompatible import type" in message or "expected" in message:
        raise InvalidModule(message)
    raise Trap(message)
