# cython: language_level=3
from wasi_http.engine cimport libwasmtime as C
from wasi_http.engine.store cimport Captured


cdef class Func(Captured):
    cdef void* store                       # borrowed: the store owns this object; NULL once the store is closed
    cdef C.wasmtime_func_t function

    cdef int call_raw(self, C.wasmtime_val_raw_t* args_and_results, size_t n) except -1
    cdef int call_pinned(self, C.wasmtime_val_raw_t* raw, size_t n) except -1
