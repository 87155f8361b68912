# cython: language_level=3
from wasi_http.engine cimport libwasmtime as C
from wasi_http.engine.engine cimport Engine
from wasi_http.engine.module cimport Module
from wasi_http.engine.store cimport Store


cdef struct Take:
    const char* name
    size_t length
    int slot


cdef class Assembly:
    cdef readonly Engine engine
    cdef C.wasmtime_linker_t* linker
    cdef C.wasmtime_instance_pre_t* pre     # of the only module, if all that it imports are host functions
    cdef readonly list functions           # HostFunc objects: the linker holds borrowed pointers to them
    cdef int function_count
    cdef list label_names                  # keeps the names in `labels` alive
    cdef Take* labels                      # the functions' names in the linker
    cdef int* fetches                      # positions of host functions in the order in which steps first import them
    cdef int* fetch_starts                 # per step: where its functions start in `fetches`; the last is the entry's
    cdef list modules                      # the steps: modules in order
    cdef C.wasmtime_module_t** pointers
    cdef int* import_starts                # per step: where its imports start in `imports`; one more at the end
    cdef int* imports                      # slots of the externs that a step imports
    cdef int* take_starts                  # per step: where its exports start in `takes`
    cdef Take* takes                       # exports that slots receive
    cdef list names                        # keeps the names in `takes` alive
    cdef int* wants                        # pairs: slot, position of the item that it becomes
    cdef int* want_starts                  # per step: where its pairs start in `wants`
    cdef int steps
    cdef int slots
    cdef int item_count
    cdef int entry
    cdef int start
    cdef bint starts                       # guest code may run when instances are made
    cdef int widest

    cdef int _prepare(self, Module module, object sources) except -1
    cdef int run(self, Store store) except -1
    cdef void fetch(self, C.wasmtime_context_t* context, int step, C.wasmtime_extern_t* externs) noexcept
    cdef int instantiate_in(self, Store store, C.wasmtime_extern_t* externs, C.wasmtime_extern_t* passed) except -1
