"""Host functions, and how guests import them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING
from cython.cimports.libc.stdint import int32_t, int64_t
from cython.cimports.wasi_http.engine import libwasmtime as C
from cython.cimports.wasi_http.engine.engine import Engine
from cython.cimports.wasi_http.engine.library import lib
from cython.cimports.wasi_http.engine.store import Store

from wasi_http.engine.errors import Trap
from wasi_http.engine.module import C_KINDS, CoreType

__all__ = ["CoreFunc", "HostFunc", "HostLinker"]

# Names have at least 32 bytes: some processors are slow (50 ns) at comparing shorter ones with masked vector loads.
_NAMESPACE = cython.declare(bytes, b"host functions by their position")


class HostFunc:
    """A function that guests call; subclasses implement ``call`` over raw values. ``type`` is its `CoreType`."""

    def call(self, store: Store, raw: cython.pointer(C.wasmtime_val_raw_t)) -> cython.int:
        raise Trap(f"the host function {self.name} is not implemented")


class CoreFunc(HostFunc):
    """A host function over core values: ``function(store, *numbers)`` returns a number, None, or an awaitable of it."""

    def __init__(self, name: str, type: CoreType, function: Callable[..., Any]) -> None:
        if len(type.results) > 1:
            raise ValueError("a host function has at most one result")
        self.name = name
        self.type = type
        self.function = function
        self.kinds = type.params
        self.result = type.results[0] if type.results else ""

    def call(self, store: Store, raw: cython.pointer(C.wasmtime_val_raw_t)) -> cython.int:
        i: cython.Py_ssize_t
        arguments: list | None = [store]
        for i in range(len(self.kinds)):
            arguments.append(core_number(self.kinds[i], raw[i].i32, raw[i].i64, raw[i].f32, raw[i].f64))
        answer = self.function(*arguments)
        if isinstance(answer, Awaitable):
            store.pending = answer
            arguments = answer = None
            answer = store.suspend()
        if self.result == "i32":
            raw[0].i32 = answer
        elif self.result == "i64":
            raw[0].i64 = answer
        elif self.result == "f32":
            raw[0].f32 = answer
        elif self.result == "f64":
            raw[0].f64 = answer
        return 0


def core_number(kind: str, i32: int32_t, i64: int64_t, f32: cython.float, f64: cython.double) -> object:
    return i32 if kind == "i32" else i64 if kind == "i64" else f32 if kind == "f32" else f64


def host_callback(
    environment: cython.p_void,
    caller: cython.pointer(C.wasmtime_caller_t),
    raw: cython.pointer(C.wasmtime_val_raw_t),
    count: cython.size_t,
) -> cython.pointer(C.wasm_trap_t):
    # Borrowed, as everything on the stack of a suspended fiber is.
    store: cython.p_void = lib.wasmtime_context_get_data(lib.wasmtime_caller_context(caller))
    if cython.cast(Store, store).stack_end == 0 and cython.cast(Store, store).future != cython.NULL:
        # The first call by a guest, which may have used up its share of the stack.
        cython.cast(Store, store).mark_stack()
    cython.cast(Store, store).spun = 0
    try:
        cython.cast(HostFunc, environment).call(cython.cast(Store, store), raw)
    except BaseException as failure:
        # The first failure is the cause; later ones come from frames that are being unwound.
        if cython.cast(Store, store).failure is None:
            cython.cast(Store, store).failure = failure
        return lib.wasmtime_trap_new(b"host", 4)
    return cython.NULL


class HostLinker:
    """The host functions of a component by position. Guests hold borrowed pointers to them."""

    def __cinit__(self):
        self.linker = cython.NULL

    def __init__(self, engine: Engine, functions: Sequence[HostFunc]) -> None:
        self.functions = list(functions)
        self.names = [b"%032d" % position for position in range(len(self.functions))]
        self.linker = lib.wasmtime_linker_new(engine.pointer)
        for name, function in zip(self.names, self.functions, strict=True):
            define_function(self.linker, _NAMESPACE, name, function)

    def get(
        self,
        context: cython.pointer(C.wasmtime_context_t),
        position: cython.Py_ssize_t,
        extern: cython.pointer(C.wasmtime_extern_t),
    ) -> cython.void:
        """Adds a function to a store."""
        name: bytes = self.names[position]
        lib.wasmtime_linker_get(
            self.linker,
            context,
            PyBytes_AS_STRING(_NAMESPACE),
            len(_NAMESPACE),
            PyBytes_AS_STRING(name),
            32,
            extern,
        )

    def __dealloc__(self):
        if self.linker != cython.NULL:
            lib.wasmtime_linker_delete(self.linker)


def define_function(
    linker: cython.pointer(C.wasmtime_linker_t), module: bytes, name: bytes, function: HostFunc
) -> cython.int:
    params: C.wasm_valtype_vec_t
    results: C.wasm_valtype_vec_t
    _fill_types(cython.address(params), function.type.params)
    _fill_types(cython.address(results), function.type.results)
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


def _fill_types(vector: cython.pointer(C.wasm_valtype_vec_t), kinds: tuple) -> cython.int:
    i: cython.size_t
    lib.wasm_valtype_vec_new_uninitialized(vector, len(kinds))
    for i in range(len(kinds)):
        vector.data[i] = lib.wasm_valtype_new(C_KINDS[kinds[i]])
    return 0
