# cython: language_level=3
from wasi_http.component.abi.context cimport LiftLowerContext
from wasi_http.component.handles cimport ResourceTable
from wasi_http.component.instance cimport ComponentInstance
from wasi_http.engine.assembly cimport Assembly
from wasi_http.engine.func cimport Func
from wasi_http.engine.store cimport Store


cdef class Instances:
    cdef list instances                    # of ComponentInstance
    cdef tuple options                     # of each context: positions of memory and realloc or -1, encoding, instance
    cdef list contexts
    cdef object task                       # the `Task` of the trampoline's call

    cdef int make(self, ResourceTable account, tuple options, int count) except -1
    cpdef LiftLowerContext context(self, Store store, int index)


cdef inline Instances instances_of(Store store):
    return <Instances>store.instance


# `Instances.context` of the store's instances.
cdef inline LiftLowerContext context_of(Store store, int index):
    cdef Instances instances = <Instances>store.instance
    cdef LiftLowerContext cx = <LiftLowerContext>instances.contexts[index]
    return instances.context(store, index) if cx is None or cx.memory is None else cx


cdef inline ComponentInstance instance_of(Store store, int index):
    return <ComponentInstance>(<Instances>store.instance).instances[index]


cdef class Destructor:
    cdef Func function


cdef class Prepared:
    cdef Assembly assembly
    cdef tuple options
    cdef tuple resources
    cdef int count
