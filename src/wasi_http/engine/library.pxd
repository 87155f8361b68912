# cython: language_level=3
from wasi_http.engine cimport libwasmtime as C

cdef C.libwasmtime_t lib                   # the functions of libwasmtime

cdef str take_message(C.wasmtime_error_t* error)
