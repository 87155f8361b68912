# cython: language_level=3
from libc.stdint cimport int64_t

from wasi_http.engine cimport libwasmtime as C
from wasi_http.engine.clock cimport Clock


cdef class Engine:
    cdef object __weakref__
    cdef bint forked                       # this process is a child, and the clock's thread is not in it
    cdef C.wasm_engine_t* pointer
    cdef C.wasmtime_linker_t* suspender    # holds the one async host function that suspends a fiber
    cdef Clock clock
    cdef readonly object config
    cdef int64_t max_instances
    cdef readonly bint pooling
    cdef readonly bint guarded
    cdef bint interruptible                # guests have time slices
    cdef size_t entry_stack                # what is left of a stack when a host function enters a guest, at least
    cdef size_t fiber_stack                # what a fiber has below its first host function, at least
    cdef int64_t start_ticks               # what core start functions may take, in time slices
