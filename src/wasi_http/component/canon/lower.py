"""Lowered host functions, for guests to call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import cython
from cython.cimports.libc.stdint import uint32_t
from cython.cimports.wasi_http.component.abi.context import LiftLowerContext
from cython.cimports.wasi_http.component.abi.signature import Signature
from cython.cimports.wasi_http.component.canon.instances import context_of
from cython.cimports.wasi_http.component.instance import check_leave
from cython.cimports.wasi_http.engine import libwasmtime as C
from cython.cimports.wasi_http.engine.host import HostFunc
from cython.cimports.wasi_http.engine.store import Store

from wasi_http.component.model.values import Err

__all__ = ["Lowered"]

# Common results that are not awaitables; isinstance with an abstract base class takes much longer.
_AT_ONCE = cython.declare(frozenset, frozenset({type(None), bool, int, bytes, list, str, tuple}))


@cython.final
@cython.cclass
class Lowered(HostFunc):
    """A host function behind the canonical ABI (specification: ``canon lower``)."""

    def __init__(
        self,
        name: str,
        signature: Signature,
        function: Callable[..., Any],
        options: int,
        passes_state: bool,
        may_suspend: bool,
    ) -> None:
        self.name = name
        self.type = signature.lowered
        self.signature = signature
        self.function = function
        self.options = options
        self.passes_state = passes_state
        self.may_suspend = may_suspend
        self.count = len(signature.params)

    def call(self, store: Store, raw: cython.pointer(C.wasmtime_val_raw_t)) -> cython.int:
        cx: LiftLowerContext | None = context_of(store, self.options)
        check_leave(cx.instance)
        signature: Signature = self.signature
        lends: uint32_t = cx.instance.handles.lends
        pointer: uint32_t = signature.result_pointer(raw)
        arguments: tuple | None = signature.lift_params(cx, raw)
        function = self.function
        failed: cython.bint = False
        try:
            if self.passes_state:
                if self.count == 0:
                    result = function(store.data)
                elif self.count == 1:
                    result = function(store.data, arguments[0])
                else:
                    result = function(store.data, *arguments)
            elif self.count == 1:
                result = function(arguments[0])
            elif self.count == 2:
                result = function(arguments[0], arguments[1])
            else:
                result = function(*arguments)
            if self.may_suspend and type(result) not in _AT_ONCE and isinstance(result, Awaitable):
                # References on this stack could lead to the task that waits for this guest: a hidden cycle.
                store.pending = result
                arguments = function = result = cx = None
                result = store.suspend()
        except Err as error:
            if not signature.result_is_result:
                raise
            failed = True
            result = error.value
        if cx is None:
            cx = context_of(store, self.options)
        # Not in the except block: lowering may run the guest's realloc, which may be suspended.
        if failed:
            signature.lower_error(cx, raw, result, pointer)
        else:
            signature.lower_result(cx, raw, result, pointer)
        if signature.lends:
            cx.instance.handles.end_lends(lends)
        return 0
