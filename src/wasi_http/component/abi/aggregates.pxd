# cython: language_level=3
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from wasi_http.component.abi.codec cimport Codec
from wasi_http.component.abi.context cimport LiftLowerContext
from wasi_http.engine.libwasmtime cimport wasmtime_val_raw_t


cdef class RecordCodec(Codec):
    cdef tuple names
    cdef object make
    cdef tuple elements
    cdef Py_ssize_t count
    cdef uint32_t* offsets

    cdef tuple parts(self, object value)
    cdef object lift(self, LiftLowerContext cx, wasmtime_val_raw_t* raw)
    cdef int lower(self, LiftLowerContext cx, object value, wasmtime_val_raw_t* raw) except -1
    cdef object load(self, LiftLowerContext cx, uint8_t* place)
    cdef int store(self, LiftLowerContext cx, object value, uint64_t pointer) except -1
    cdef int put(self, LiftLowerContext cx, object value, uint8_t* place) except -1


cdef object _python_class(object type)
cdef tuple _field_names(object type)
cdef object _check_count(object type, Py_ssize_t there, Py_ssize_t wanted)
cdef uint32_t _load_discriminant(uint8_t* place, uint32_t width) noexcept
cdef void _put_discriminant(uint8_t* place, uint32_t width, uint32_t tag) noexcept
cdef class VariantCodec(Codec):
    cdef tuple payloads
    cdef uint32_t count
    cdef uint32_t discriminant
    cdef uint32_t offset

    cdef object wrap(self, uint32_t tag, object payload)
    cdef object unwrap(self, object value, uint32_t* tag)
    cdef int check(self, uint32_t tag) except -1
    cdef object lift(self, LiftLowerContext cx, wasmtime_val_raw_t* raw)
    cdef int lower(self, LiftLowerContext cx, object value, wasmtime_val_raw_t* raw) except -1
    cdef int lower_case(self, LiftLowerContext cx, uint32_t tag, object content, wasmtime_val_raw_t* raw) except -1
    cdef object load(self, LiftLowerContext cx, uint8_t* place)
    cdef int store(self, LiftLowerContext cx, object value, uint64_t pointer) except -1
    cdef int store_case(self, LiftLowerContext cx, uint32_t tag, object content, uint64_t pointer) except -1
    cdef int put(self, LiftLowerContext cx, object value, uint8_t* place) except -1


cdef class WitVariantCodec(VariantCodec):
    cdef tuple forms
    cdef object python

    cdef object wrap(self, uint32_t tag, object payload)
    cdef object unwrap(self, object value, uint32_t* tag)


cdef class OptionCodec(VariantCodec):
    cdef bint wraps

    cdef object wrap(self, uint32_t tag, object payload)
    cdef object unwrap(self, object value, uint32_t* tag)


cdef class ResultCodec(VariantCodec):
    cdef object wrap(self, uint32_t tag, object payload)
    cdef object unwrap(self, object value, uint32_t* tag)


cdef class EnumCodec(Codec):
    cdef tuple members
    cdef dict positions
    cdef uint32_t count
    cdef bint labels

    cdef object member(self, uint32_t tag)
    cdef uint32_t position(self, object value) except 0xFFFFFFFF
    cdef object lift(self, LiftLowerContext cx, wasmtime_val_raw_t* raw)
    cdef int lower(self, LiftLowerContext cx, object value, wasmtime_val_raw_t* raw) except -1
    cdef object load(self, LiftLowerContext cx, uint8_t* place)
    cdef int put(self, LiftLowerContext cx, object value, uint8_t* place) except -1


cdef class FlagsCodec(Codec):
    cdef object python
    cdef tuple bits                    # Python's bits of the members
    cdef uint32_t mask
    cdef bint plain                    # Python's bits equal WIT's
    cdef dict known

    cdef object unpack(self, uint32_t bits)
    cdef uint32_t pack(self, object value) except? 0xFFFFFFFF
    cdef object lift(self, LiftLowerContext cx, wasmtime_val_raw_t* raw)
    cdef int lower(self, LiftLowerContext cx, object value, wasmtime_val_raw_t* raw) except -1
    cdef object load(self, LiftLowerContext cx, uint8_t* place)
    cdef int put(self, LiftLowerContext cx, object value, uint8_t* place) except -1
