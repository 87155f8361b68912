# cython: language_level=3
from wasi_http.engine cimport libwasmtime as C
from wasi_http.engine.engine cimport Engine


cdef class Module:
    cdef C.wasmtime_module_t* pointer
    cdef readonly Engine engine
    cdef readonly tuple imports
    cdef readonly tuple exports
