"""Handles to resources."""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint8_t, uint32_t
from cython.cimports.wasi_http.component.abi.codec import OBJECT_COST, Codec, show
from cython.cimports.wasi_http.component.abi.context import LiftLowerContext
from cython.cimports.wasi_http.component.handles import GuestResource
from cython.cimports.wasi_http.engine.libwasmtime import wasmtime_val_raw_t

from wasi_http.component.model.types import OwnType, ValType

__all__ = ["HandleCodec"]

# The cost of looking up and lending one handle.
_HANDLE_COST = cython.declare(uint32_t, 32)


@cython.final
@cython.cclass
class HandleCodec(Codec):
    """Own and borrow handles; ``resource`` is the type that handles in the table must have.

    A host resource is the Python object, a guest's is a `GuestResource` around the representation.
    """

    def __init__(self, type: ValType) -> None:
        Codec.__init__(self, type)
        self.resource = type.resource
        self.python = type.resource.python
        self.own = isinstance(type, OwnType)
        self.cost = _HANDLE_COST if self.python is not None else _HANDLE_COST + OBJECT_COST

    def lift_handle(self, cx: LiftLowerContext, handle: uint32_t) -> object:
        type = cython.cast(cython.p_void, self.resource)
        rep = cx.instance.handles.take(handle, type) if self.own else cx.instance.handles.lend(handle, type)
        if self.python is None:
            return GuestResource(cx.instance.handles.account, self.resource, rep, self.own)
        return rep

    def lower_handle(self, cx: LiftLowerContext, value: object) -> uint32_t:
        type = cython.cast(cython.p_void, self.resource)
        if self.python is not None:
            if not isinstance(value, self.python):
                raise TypeError(f"expected {self.python.__name__} for {self.type}, not {show(value)}")
            return cx.instance.handles.insert(type, value, self.own)
        if not isinstance(value, GuestResource) or cython.cast(GuestResource, value).type is not self.resource:
            raise TypeError(f"expected a resource of a guest for {self.type}, not {show(value)}")
        resource: GuestResource = cython.cast(GuestResource, value)
        if resource.account is not cx.instance.handles.account:
            raise ValueError(f"the resource {self.resource} belongs to the guest of another store")
        if self.own:
            return cx.instance.handles.insert(type, resource.give(), True)
        resource.check()
        if cx.instance.handles.destructors is not None and self.resource in cx.instance.handles.destructors:
            return cython.cast(uint32_t, resource.rep)
        return cx.instance.handles.insert(type, resource.rep, False)

    def lift(self, cx: LiftLowerContext, raw: cython.pointer(wasmtime_val_raw_t)) -> object:
        return self.lift_handle(cx, raw[0].u32)

    def lower(self, cx: LiftLowerContext, value: object, raw: cython.pointer(wasmtime_val_raw_t)) -> cython.int:
        raw[0].i64 = self.lower_handle(cx, value)
        return 0

    def load(self, cx: LiftLowerContext, place: cython.pointer(uint8_t)) -> object:
        return self.lift_handle(cx, cython.cast(cython.pointer(uint32_t), place)[0])

    def put(self, cx: LiftLowerContext, value: object, place: cython.pointer(uint8_t)) -> cython.int:
        cython.cast(cython.pointer(uint32_t), place)[0] = self.lower_handle(cx, value)
        return 0
