# cython: language_level=3
from wasi_http.engine cimport libwasmtime as C
from wasi_http.engine.engine cimport Engine


cdef class Module:
    cdef C.wasmtime_module_t* pointer
    cdef readonly Engine engine
    cdef readonly tuple imports
    cdef readonly tuple exports


cdef int _raise_invalid(C.wasmtime_error_t* error) except -1
cdef str _text(const C.wasm_byte_vec_t* name)
cdef tuple _values(const C.wasm_valtype_vec_t* types)
cdef object _signature(const C.wasm_externtype_t* type_)
cdef int _describe(Module module) except -1
