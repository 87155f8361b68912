# cython: language_level=3
from libc.stdint cimport uint8_t, uint32_t

from wasi_http.component.abi.codec cimport Codec
from wasi_http.component.abi.context cimport LiftLowerContext
from wasi_http.engine.libwasmtime cimport wasmtime_val_raw_t


cdef class HandleCodec(Codec):
    cdef object resource
    cdef object python
    cdef bint own

    cdef object lift_handle(self, LiftLowerContext cx, uint32_t handle)
    cdef uint32_t lower_handle(self, LiftLowerContext cx, object value) except? 0
    cdef object lift(self, LiftLowerContext cx, wasmtime_val_raw_t* raw)
    cdef int lower(self, LiftLowerContext cx, object value, wasmtime_val_raw_t* raw) except -1
    cdef object load(self, LiftLowerContext cx, uint8_t* place)
    cdef int put(self, LiftLowerContext cx, object value, uint8_t* place) except -1
