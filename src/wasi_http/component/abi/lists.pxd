# cython: language_level=3
from libc.stdint cimport uint8_t, uint32_t

from wasi_http.component.abi.codec cimport Codec, PointerLengthCodec
from wasi_http.component.abi.context cimport LiftLowerContext


cdef uint8_t* _elements(
    LiftLowerContext cx, uint32_t pointer, uint32_t length, uint32_t size, uint32_t alignment
) except NULL


cdef class BytesCodec(PointerLengthCodec):
    cdef Codec element

    cdef object load_range(self, LiftLowerContext cx, uint32_t pointer, uint32_t length)
    cdef int store_range(self, LiftLowerContext cx, object value, uint32_t* pair) except -1


cdef class ListCodec(PointerLengthCodec):
    cdef Codec element
    cdef uint32_t element_cost

    cdef object load_range(self, LiftLowerContext cx, uint32_t pointer, uint32_t length)
    cdef int store_range(self, LiftLowerContext cx, object value, uint32_t* pair) except -1
