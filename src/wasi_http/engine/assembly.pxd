# cython: language_level=3
from wasi_http.engine cimport libwasmtime as C
from wasi_http.engine.engine cimport Engine
from wasi_http.engine.host cimport HostLinker
from wasi_http.engine.module cimport Module
from wasi_http.engine.store cimport Store
from wasi_http.engine.wiring cimport Wiring


cdef class Assembly:
    cdef readonly Engine engine
    cdef HostLinker hosts
    cdef C.wasmtime_instance_pre_t* pre    # of the only module, if all that it imports are host functions
    cdef list names                        # of its exports that stores capture
    cdef Wiring wiring                     # otherwise
    cdef Py_ssize_t capture_count
    cdef int entry
    cdef int start
    cdef bint starts                       # guest code may run when instances are made

    cdef int _prepare(self, Module module, object sources) except -1
    cdef int run(self, Store store) except -1
    cdef int instantiate_in(self, Store store) except -1
