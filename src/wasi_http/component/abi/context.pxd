# cython: language_level=3
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from wasi_http.component.instance cimport ComponentInstance
from wasi_http.engine.func cimport Func
from wasi_http.engine.memory cimport Memory


cdef enum Encoding:
    UTF8 = 0
    UTF16 = 1
    LATIN1_UTF16 = 2


cdef enum:
    MAX_BYTES = 0xFFFFFFF                  # of a string or list; `MAX_BYTE_LENGTH` for Python


cdef class LiftLowerContext:
    cdef Memory memory
    cdef Func realloc
    cdef readonly ComponentInstance instance
    cdef int encoding
    cdef public uint32_t limit             # the cost of lifting the values of one call, in bytes on the host
    cdef int64_t budget                    # the rest of it

    cdef uint8_t* span(self, uint64_t pointer, uint64_t length, uint32_t alignment) except NULL
    cdef uint8_t* allocate(self, uint64_t size, uint32_t alignment, uint32_t* pointer) except NULL
    cdef int exceed(self) except -1


cdef inline int charge(LiftLowerContext cx, uint64_t cost) except -1:
    if cost > <uint64_t>cx.budget:
        return cx.exceed()
    cx.budget -= <int64_t>cost
    return 0


# Starts lifting the values of a call, which cost this much plus the content of their strings and lists.
cdef inline int open_budget(LiftLowerContext cx, uint32_t cost) except -1:
    cx.budget = cx.limit
    return charge(cx, cost)
