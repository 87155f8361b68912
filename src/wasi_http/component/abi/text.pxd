# cython: language_level=3
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from wasi_http.component.abi.codec cimport Codec, PointerLengthCodec
from wasi_http.component.abi.context cimport LiftLowerContext
from wasi_http.engine.libwasmtime cimport wasmtime_val_raw_t


cdef str _character(uint32_t code)
cdef uint32_t _code(object value) except 0xFFFFFFFF
cdef class CharCodec(Codec):
    cdef object lift(self, LiftLowerContext cx, wasmtime_val_raw_t* raw)
    cdef int lower(self, LiftLowerContext cx, object value, wasmtime_val_raw_t* raw) except -1
    cdef object load(self, LiftLowerContext cx, uint8_t* place)
    cdef int put(self, LiftLowerContext cx, object value, uint8_t* place) except -1


cdef char* _text(LiftLowerContext cx, uint32_t pointer, uint64_t length, uint32_t alignment) except NULL
cdef uint64_t _widened(char* source, uint64_t length, int encoding) noexcept
cdef int _check_width(LiftLowerContext cx, char* source, uint64_t length) except -1
cdef object _decode(LiftLowerContext cx, uint32_t pointer, uint32_t tagged)
cdef int _encode(LiftLowerContext cx, object value, uint32_t* pair) except -1
cdef class StringCodec(PointerLengthCodec):
    cdef object load_range(self, LiftLowerContext cx, uint32_t pointer, uint32_t length)
    cdef int store_range(self, LiftLowerContext cx, object value, uint32_t* pair) except -1
