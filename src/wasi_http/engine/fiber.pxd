# cython: language_level=3
from libc.stdint cimport int64_t

from wasi_http.engine cimport libwasmtime as C
from wasi_http.engine.func cimport Func
from wasi_http.engine.store cimport Store


cdef class Fiber:
    cdef readonly Store store
    cdef C.wasm_trap_t* trap
    cdef C.wasmtime_error_t* error
    cdef C.wasmtime_val_t arguments[16]
    cdef C.wasmtime_val_t results[1]
    cdef readonly bint done
    cdef bint begun
    cdef int64_t used                      # slices of the clock
    cdef tuple result_kinds

    cdef int start(self, Func function, size_t params, size_t results) except -1
    cdef bint step(self) except -1
