# cython: language_level=3
from libc.stdint cimport int32_t, int64_t

from wasi_http.engine cimport libwasmtime as C
from wasi_http.engine.store cimport Store


cdef class HostFunc:
    cdef readonly str name
    cdef readonly object type

    cdef int call(self, Store store, C.wasmtime_val_raw_t* raw) except -1


cdef class CoreFunc(HostFunc):
    cdef object function
    cdef tuple kinds
    cdef str result


cdef class HostLinker:
    cdef C.wasmtime_linker_t* linker
    cdef readonly list functions
    cdef list names

    cdef void get(self, C.wasmtime_context_t* context, Py_ssize_t position, C.wasmtime_extern_t* extern) noexcept


cdef C.wasm_trap_t* host_callback(
    void* environment, C.wasmtime_caller_t* caller, C.wasmtime_val_raw_t* raw, size_t count
) noexcept with gil
cdef object core_number(str kind, int32_t i32, int64_t i64, float f32, double f64)
cdef int define_function(C.wasmtime_linker_t* linker, bytes module, bytes name, HostFunc function) except -1
cdef int _fill_types(C.wasm_valtype_vec_t* vector, tuple kinds) except -1
