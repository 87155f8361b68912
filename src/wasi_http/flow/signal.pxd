# cython: language_level=3


cdef class Signal:
    cdef dict watchers


cdef class _Waker:
    cdef object future
