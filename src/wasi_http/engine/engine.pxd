# cython: language_level=3
from libc.stdint cimport int64_t

from wasi_http.engine cimport libwasmtime as C


cdef class Clock:
    cdef C.wasm_engine_t* engine
    cdef object awake                      # threading.Event: set while guests run
    cdef bint ticking                      # read by polls without a lock: a lost race costs one tick
    cdef bint stopped
    cdef int64_t running                   # guests being executed at this moment, in all threads
    cdef unsigned int slice                # in microseconds

    cdef int wake(self) except -1
    cdef bint tick_until_idle(self) noexcept nogil


cdef class Engine:
    cdef C.wasm_engine_t* pointer
    cdef C.wasmtime_linker_t* suspender    # holds the one async host function that suspends a fiber
    cdef Clock clock
    cdef readonly object config
    cdef readonly bint pooling
    cdef int64_t start_ticks               # what core start functions may take, in time slices
