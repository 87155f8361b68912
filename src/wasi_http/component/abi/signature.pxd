# cython: language_level=3
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from wasi_http.component.instance cimport ComponentInstance
from wasi_http.engine.libwasmtime cimport wasmtime_val_raw_t
from wasi_http.engine.func cimport Func
from wasi_http.engine.memory cimport Memory


cdef enum Encoding:
    UTF8 = 0
    UTF16 = 1
    LATIN1_UTF16 = 2


cdef class LiftLowerContext:
    cdef Memory memory
    cdef Func realloc
    cdef readonly ComponentInstance instance
    cdef int encoding
    cdef public uint32_t limit             # what lifting the values of one call may cost, in bytes on the host
    cdef int64_t budget                    # what is left of that

    cdef uint8_t* span(self, uint64_t pointer, uint64_t length, uint32_t alignment) except NULL
    cdef uint8_t* allocate(self, uint64_t size, uint32_t alignment, uint32_t* pointer) except NULL
    cdef int open(self, uint32_t cost) except -1
    cdef int charge(self, uint64_t cost) except -1


cdef class Codec:
    cdef readonly object type
    cdef readonly uint32_t size
    cdef readonly uint8_t alignment
    cdef uint8_t reallocates                     # storing a value runs the guest's realloc, which may move its memory
    cdef uint8_t lends                     # lifting a value may borrow from the guest
    cdef readonly tuple flat
    cdef uint32_t width                    # how many flat values
    cdef readonly uint32_t cost            # what a value costs on the host, what is in strings and lists apart: an estimate

    cdef object lift(self, LiftLowerContext cx, wasmtime_val_raw_t* raw)
    cdef int lower(self, LiftLowerContext cx, object value, wasmtime_val_raw_t* raw) except -1
    cdef object load(self, LiftLowerContext cx, uint8_t* place)
    cdef int store(self, LiftLowerContext cx, object value, uint64_t pointer) except -1
    cdef int put(self, LiftLowerContext cx, object value, uint8_t* place) except -1
    cdef list load_many(self, LiftLowerContext cx, uint8_t* place, uint32_t count)
    cdef int put_many(self, LiftLowerContext cx, tuple values, uint8_t* place) except -1


cdef class Signature:
    cdef readonly object type
    cdef readonly tuple params             # of Codec
    cdef readonly Codec result
    cdef Codec ok                          # for a result type as the whole result: what comes with each outcome
    cdef Codec error
    cdef readonly bint result_is_result
    cdef uint32_t width                    # flat params, before they are spilled
    cdef uint32_t count
    cdef bint spills_params
    cdef bint spills_result
    cdef uint32_t params_size
    cdef uint32_t params_alignment
    cdef uint32_t cost                     # of the params, strings and lists in them apart
    cdef bint lends                        # lifting the params may borrow from the guest
    cdef readonly object lowered           # CoreType for canon lower
    cdef readonly object lifted            # CoreType for canon lift

    cdef object lift_params(self, LiftLowerContext cx, wasmtime_val_raw_t* raw)
    cdef int lower_result(self, LiftLowerContext cx, wasmtime_val_raw_t* raw, object value, uint32_t result_pointer) except -1
    cdef int lower_error(self, LiftLowerContext cx, wasmtime_val_raw_t* raw, object value, uint32_t result_pointer) except -1
    cdef int lower_outcome(self, LiftLowerContext cx, wasmtime_val_raw_t* raw, uint32_t tag, object value, uint32_t result_pointer) except -1
    cdef int lower_params(self, LiftLowerContext cx, wasmtime_val_raw_t* raw, tuple args) except -1
    cdef object lift_result(self, LiftLowerContext cx, wasmtime_val_raw_t* raw)
    cdef uint32_t result_pointer(self, wasmtime_val_raw_t* raw) noexcept


cdef wasmtime_val_raw_t* _raw_values(object values, uint32_t width) except NULL
cdef char* _text(LiftLowerContext cx, uint32_t pointer, uint64_t length, uint32_t alignment) except NULL
cdef uint8_t* _elements(LiftLowerContext cx, uint32_t pointer, uint32_t length, uint32_t size, uint32_t alignment) except NULL
