# cython: language_level=3
from libc.stdint cimport uint64_t


cdef uint64_t current_thread() noexcept
cdef void keep_loop(object loop)
cdef bint hand_over(uint64_t owner, object item) except? -1
cdef void settle() noexcept
