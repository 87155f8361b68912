# cython: language_level=3
from libc.stdint cimport int64_t

from wasi_http.engine cimport libwasmtime as C
from wasi_http.engine.clock cimport Clock


cdef class Engine:
    cdef object __weakref__
    cdef bint forked                       # this process is a forked child, without the clock's thread
    cdef C.wasm_engine_t* pointer
    cdef C.wasmtime_linker_t* suspender    # holds the one async host function that suspends a fiber
    cdef Clock clock
    cdef readonly object config
    cdef int64_t max_instances
    cdef readonly bint pooling
    cdef readonly bint guarded
    cdef bint interruptible                # guests have time slices
    cdef size_t entry_stack                # the least stack left when a host function enters a guest
    cdef size_t fiber_stack                # the least stack of a fiber below its first host function
    cdef int64_t start_ticks               # the limit for core start functions, in time slices
