# cython: language_level=3
from wasi_http.engine.host cimport HostFunc
from wasi_http.engine.libwasmtime cimport wasmtime_val_raw_t
from wasi_http.engine.store cimport Store


cdef class ResourceBuiltin(HostFunc):
    cdef object resource
    cdef int instance
    cdef int destructor


cdef class ResourceNew(ResourceBuiltin):
    cdef int call(self, Store store, wasmtime_val_raw_t* raw) except -1


cdef class ResourceRep(ResourceBuiltin):
    cdef int call(self, Store store, wasmtime_val_raw_t* raw) except -1


cdef class ResourceDrop(ResourceBuiltin):
    cdef int call(self, Store store, wasmtime_val_raw_t* raw) except -1
