# cython: language_level=3
from libc.stdint cimport uint8_t, uint64_t

from wasi_http.engine cimport libwasmtime as C
from wasi_http.engine.store cimport Captured


cdef class Memory(Captured):
    cdef C.wasmtime_context_t* context     # of the store, which owns this object; NULL once the store is closed
    cdef C.wasmtime_memory_t memory

    cdef uint8_t* span(self, uint64_t pointer, uint64_t length) except NULL
