# cython: language_level=3
from wasi_http.component.abi.signature cimport Signature
from wasi_http.engine.fiber cimport Fiber
from wasi_http.engine.host cimport HostFunc
from wasi_http.engine.libwasmtime cimport wasmtime_val_raw_t
from wasi_http.engine.store cimport Store


cdef class Lifted


cdef class Task:
    cdef Lifted function
    cdef tuple arguments
    cdef object result
    cdef object error


cdef class CallTrampoline(HostFunc):
    cdef int call(self, Store store, wasmtime_val_raw_t* raw) except -1


cdef int _pass(Store store, wasmtime_val_raw_t* values) except -1
cdef int _return(Store store, wasmtime_val_raw_t* values, int* options) except -2


cdef class Lifted:
    cdef readonly str name
    cdef readonly Signature signature
    cdef int core
    cdef int options
    cdef int post_return
    cdef list kinds                        # wasmtime's numbers of the core parameter types
    cdef int results                       # number of core results
    cdef int entry                         # position of the trampoline among the captures, -1 if not needed

    cpdef int expect_free(self, Store store) except -1


cdef class Call:
    cdef readonly Store store
    cdef Lifted function
    cdef Fiber fiber
    cdef Task task
    cdef readonly object result

    cdef object finish(self)
