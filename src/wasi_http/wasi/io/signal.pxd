# cython: language_level=3


cdef class Signal:
    cdef dict watchers
