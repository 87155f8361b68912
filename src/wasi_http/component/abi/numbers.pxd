# cython: language_level=3
from libc.stdint cimport int64_t, uint8_t, uint64_t

from wasi_http.component.abi.codec cimport Codec
from wasi_http.component.abi.context cimport LiftLowerContext
from wasi_http.engine.libwasmtime cimport wasmtime_val_raw_t


cdef class BoolCodec(Codec):
    cdef object lift(self, LiftLowerContext cx, wasmtime_val_raw_t* raw)
    cdef int lower(self, LiftLowerContext cx, object value, wasmtime_val_raw_t* raw) except -1
    cdef object load(self, LiftLowerContext cx, uint8_t* place)
    cdef int put(self, LiftLowerContext cx, object value, uint8_t* place) except -1


cdef int _bit(object value) except -1
cdef class IntegerCodec(Codec):
    cdef bint signed
    cdef int64_t low
    cdef int64_t high

    cdef object lift(self, LiftLowerContext cx, wasmtime_val_raw_t* raw)
    cdef int lower(self, LiftLowerContext cx, object value, wasmtime_val_raw_t* raw) except -1
    cdef object load(self, LiftLowerContext cx, uint8_t* place)
    cdef int put(self, LiftLowerContext cx, object value, uint8_t* place) except -1
    cdef uint64_t bits(self, object value) except? 0xFFFFFFFFFFFFFFFF


cdef double _real(Codec codec, object value) except? -1.0
cdef float _single(Codec codec, object value) except? -1.0
cdef float _canonical32(float value) noexcept
cdef double _canonical64(double value) noexcept
cdef class F32Codec(Codec):
    cdef object lift(self, LiftLowerContext cx, wasmtime_val_raw_t* raw)
    cdef int lower(self, LiftLowerContext cx, object value, wasmtime_val_raw_t* raw) except -1
    cdef object load(self, LiftLowerContext cx, uint8_t* place)
    cdef int put(self, LiftLowerContext cx, object value, uint8_t* place) except -1


cdef class F64Codec(Codec):
    cdef object lift(self, LiftLowerContext cx, wasmtime_val_raw_t* raw)
    cdef int lower(self, LiftLowerContext cx, object value, wasmtime_val_raw_t* raw) except -1
    cdef object load(self, LiftLowerContext cx, uint8_t* place)
    cdef int put(self, LiftLowerContext cx, object value, uint8_t* place) except -1
