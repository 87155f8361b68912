# cython: language_level=3
from libc.stdint cimport uint32_t

from wasi_http.component.abi.codec cimport Codec
from wasi_http.component.abi.context cimport LiftLowerContext
from wasi_http.engine.libwasmtime cimport wasmtime_val_raw_t


cdef Codec _compile(object type_)


cdef class Signature:
    cdef readonly object type
    cdef readonly tuple params             # of Codec
    cdef readonly Codec result
    cdef Codec ok                          # payloads, if the whole result is a result type
    cdef Codec error
    cdef readonly bint result_is_result
    cdef uint32_t width                    # number of flat params, before spilling
    cdef uint32_t count
    cdef bint spills_params
    cdef bint spills_result
    cdef uint32_t params_size
    cdef uint32_t params_alignment
    cdef uint32_t cost                     # of the params, without string and list content
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
