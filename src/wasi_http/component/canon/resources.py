"""Built-in functions for resources."""

from __future__ import annotations

import cython
from cython.cimports.wasi_http.component.canon.instances import instance_of
from cython.cimports.wasi_http.component.instance import ComponentInstance, check_leave
from cython.cimports.wasi_http.engine import libwasmtime as C
from cython.cimports.wasi_http.engine.func import Func
from cython.cimports.wasi_http.engine.host import HostFunc
from cython.cimports.wasi_http.engine.store import Store

from wasi_http.component.handles import Resource
from wasi_http.component.model.types import ResourceType
from wasi_http.engine.module import CoreType

__all__ = ["ResourceBuiltin", "ResourceDrop", "ResourceNew", "ResourceRep"]


@cython.cclass
class ResourceBuiltin(HostFunc):
    """A built-in function of a component instance for one resource type; `canon.table` lists them."""

    def __init__(self, name: str, type: CoreType, resource: ResourceType, instance: int, destructor: int) -> None:
        self.name = name
        self.type = type
        self.resource = resource
        self.instance = instance
        self.destructor = destructor


@cython.final
@cython.cclass
class ResourceNew(ResourceBuiltin):
    """``resource.new``."""

    def call(self, store: Store, raw: cython.pointer(C.wasmtime_val_raw_t)) -> cython.int:
        instance: ComponentInstance = instance_of(store, self.instance)
        check_leave(instance)
        raw[0].i64 = instance.handles.insert(cython.cast(cython.p_void, self.resource), raw[0].i32, True)
        return 0


@cython.final
@cython.cclass
class ResourceRep(ResourceBuiltin):
    """``resource.rep``."""

    def call(self, store: Store, raw: cython.pointer(C.wasmtime_val_raw_t)) -> cython.int:
        instance: ComponentInstance = instance_of(store, self.instance)
        raw[0].i32 = instance.handles.rep_of(raw[0].u32, cython.cast(cython.p_void, self.resource))
        return 0


@cython.final
@cython.cclass
class ResourceDrop(ResourceBuiltin):
    """``resource.drop``: of a host resource, or of the guest's own, whose destructor it calls."""

    def call(self, store: Store, raw: cython.pointer(C.wasmtime_val_raw_t)) -> cython.int:
        own: cython.bint = False
        instance: ComponentInstance | None = instance_of(store, self.instance)
        check_leave(instance)
        rep = instance.handles.remove(raw[0].u32, cython.cast(cython.p_void, self.resource), cython.address(own))
        if not own:
            return 0
        if isinstance(rep, Resource):
            rep.release()
        elif self.destructor >= 0:
            raw[0].i32 = rep
            instance = rep = None
            cython.cast(Func, store.captured[self.destructor]).call_raw(raw, 1)
        return 0
