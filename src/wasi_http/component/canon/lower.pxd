# cython: language_level=3
from wasi_http.component.abi.signature cimport Signature
from wasi_http.engine.host cimport HostFunc
from wasi_http.engine.libwasmtime cimport wasmtime_val_raw_t
from wasi_http.engine.store cimport Store


cdef class Lowered(HostFunc):
    cdef object function
    cdef Signature signature
    cdef int options
    cdef bint passes_state
    cdef bint may_suspend
    cdef int count                         # of the Python function's arguments

    cdef int call(self, Store store, wasmtime_val_raw_t* raw) except -1
