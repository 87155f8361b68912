# cython: language_level=3
from wasi_http.engine cimport libwasmtime as C
from wasi_http.engine.host cimport HostLinker
from wasi_http.engine.store cimport Store


cdef struct Export:
    const char* name
    size_t length
    int slot


cdef class Wiring:
    cdef HostLinker hosts
    cdef list modules                      # of the steps, in order
    cdef C.wasmtime_module_t** pointers
    cdef int* host_order                   # positions of host functions in the order in which steps first import them
    cdef int* host_starts                  # per step: where its functions start in `host_order`; one more at the end
    cdef int* import_starts                # per step: where its imports start in `imports`
    cdef int* imports                      # slots of the externs that a step imports
    cdef int* export_starts                # per step: where its exports start in `exports`
    cdef Export* exports                   # copied into slots
    cdef list names                        # keeps the names in `exports` alive
    cdef int* captures                     # pairs: slot, position in the store's captures
    cdef int* capture_starts               # per step: where its pairs start in `captures`
    cdef int steps
    cdef int slots
    cdef int max_imports                   # of any step

    cdef int instantiate(self, Store store) except -1
    cdef int instantiate_in(self, Store store, C.wasmtime_extern_t* externs, C.wasmtime_extern_t* passed) except -1


cdef object capture(Store store, C.wasmtime_extern_t* extern)
cdef int* _array(list numbers) except? NULL
cdef list _starts(list steps, int count)
