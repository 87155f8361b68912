# cython: language_level=3


cdef class Pipe:
    cdef object chunks                     # a deque of bytes; small ones are joined in bytearrays
    cdef Py_ssize_t offset                 # how much of the first chunk is taken
    cdef readonly Py_ssize_t limit
    cdef readonly Py_ssize_t size
    cdef readonly bint ended
    cdef readonly bint cancelled
    cdef readonly object error
    cdef readonly object trailers
    cdef readonly object readable
    cdef readonly object writable
