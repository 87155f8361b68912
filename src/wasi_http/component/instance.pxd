# cython: language_level=3
from wasi_http.component.abi.signature cimport LiftLowerContext, Signature
from wasi_http.component.handles cimport HandleTable
from wasi_http.engine cimport libwasmtime as C
from wasi_http.engine.assembly cimport Assembly
from wasi_http.engine.fiber cimport Fiber
from wasi_http.engine.func cimport Func
from wasi_http.engine.host cimport HostFunc
from wasi_http.engine.store cimport Store


cdef class Lifted


cdef class Task:
    cdef Lifted function
    cdef tuple arguments
    cdef object result
    cdef object error


cdef class ComponentInstance:
    cdef tuple specs                       # per context: positions of memory and realloc (or -1), and the encoding
    cdef list contexts
    cdef HandleTable handles
    cdef Task task                      # of the call that the entry function carries out

    cdef LiftLowerContext context(self, Store store, int index)


cdef class Lowered(HostFunc):
    cdef object function
    cdef Signature signature
    cdef int context
    cdef bint passes_state
    cdef bint may_suspend
    cdef int count                         # of the Python function's arguments


cdef class ResourceDrop(HostFunc):
    cdef object resource
    cdef int destructor


cdef class Destructor:
    cdef Func function


cdef class ResourceNew(HostFunc):
    cdef object resource


cdef class ResourceRep(HostFunc):
    cdef object resource


cdef class CallTrampoline(HostFunc):
    pass


cdef class Lifted:
    cdef readonly str name
    cdef readonly Signature signature
    cdef int core
    cdef int context
    cdef int post_return
    cdef list kinds                        # of the core parameters, as wasmtime numbers them
    cdef int results                       # how many core results there are
    cdef int entry                         # position of the entry function among the items, -1 if it is not needed

    cpdef int expect_free(self, Store store) except -1


cdef class Prepared:
    cdef Assembly assembly
    cdef tuple contexts
    cdef tuple resources


cdef class Call:
    cdef readonly Store store
    cdef Lifted function
    cdef Fiber fiber
    cdef Task task
    cdef readonly object result

    cdef object finish(self)
