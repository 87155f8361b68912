"""Functions of guests."""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint8_t, uint64_t
from cython.cimports.wasi_http.engine import libwasmtime as C
from cython.cimports.wasi_http.engine.library import lib
from cython.cimports.wasi_http.engine.store import Captured, Store
from cython.cimports.wasi_http.engine.traps import raise_wasm

from wasi_http.engine.errors import CLOSED, EXHAUSTED, Trap

__all__ = ["Func"]


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _expire(
    context: cython.pointer(C.wasmtime_context_t),
    data: cython.p_void,
    delta: cython.pointer(uint64_t),
    kind: cython.pointer(uint8_t),
) -> cython.pointer(C.wasmtime_error_t):
    return lib.wasmtime_error_new(b"a guest call made by a host function takes too long")


class Func(Captured):
    """One function of one store."""

    def disown(self) -> cython.void:
        self.store = cython.NULL

    def call_raw(self, args_and_results: cython.pointer(C.wasmtime_val_raw_t), n: cython.size_t) -> cython.int:
        trap: cython.pointer(C.wasm_trap_t) = cython.NULL
        error: cython.pointer(C.wasmtime_error_t) = cython.NULL
        if self.store == cython.NULL:
            raise RuntimeError(CLOSED)
        # Borrowed: a suspended guest must not own references.
        store = self.store
        context = cython.cast(Store, store).context
        # wasmtime grants the guest the same stack at each entry, whether it is there or not.
        if cython.cast(Store, store).stack_left() < cython.cast(Store, store).engine.entry_stack:
            raise Trap(EXHAUSTED)
        # The GIL must be free: the nested guest may be suspended, and then the main stack takes it.
        with cython.nogil:
            error = lib.wasmtime_func_call_unchecked(
                context, cython.address(self.function), args_and_results, n, cython.address(trap)
            )
        if error != cython.NULL or trap != cython.NULL:
            raise_wasm(cython.cast(Store, store), trap, error)
        return 0

    def call_pinned(self, raw: cython.pointer(C.wasmtime_val_raw_t), n: cython.size_t) -> cython.int:
        """Calls the guest from within a Python host function. It has one time slice and may not wait.

        A suspended fiber must not have Python frames on it.
        """
        store: Store = cython.cast(Store, self.store)
        if store.on_fiber:
            lib.wasmtime_store_epoch_deadline_callback(store.pointer, _expire, cython.NULL, cython.NULL)
        lib.wasmtime_context_set_epoch_deadline(store.context, 2)
        store.pinned = True
        try:
            self.call_raw(raw, n)
        finally:
            store.pinned = False
            if store.on_fiber:
                lib.wasmtime_context_epoch_deadline_async_yield_and_update(store.context, 1)
                lib.wasmtime_context_set_epoch_deadline(store.context, 2)
        return 0
