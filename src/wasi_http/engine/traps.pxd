# cython: language_level=3
from wasi_http.engine cimport libwasmtime as C
from wasi_http.engine.store cimport Store

cdef int raise_wasm(Store store, C.wasm_trap_t* trap, C.wasmtime_error_t* error) except -1
cdef int raise_instantiation(Store store, C.wasm_trap_t* trap, C.wasmtime_error_t* error) except -1
cdef str _cause(str message)
cdef str _backtrace(C.wasm_frame_vec_t* frames)
cdef str _name(const C.wasm_byte_vec_t* raw)
