# cython: language_level=3
from libc.stdint cimport uint64_t


cdef class ChunkedDecoder:
    cdef readonly list trailers
    cdef object limits
    cdef object line                       # the pattern of a size line with padding or extensions
    cdef int state
    cdef bint padded
    cdef bint bounded
    cdef uint64_t body_left                # of the limit, if `bounded`
    cdef uint64_t remaining                # of the chunk
    cdef Py_ssize_t scanned                # how much of an unfinished line or section was scanned already
    cdef Py_ssize_t extensions_left

    cdef Py_ssize_t read_size(self, bytes data, Py_ssize_t position) except -2
    cdef Py_ssize_t read_size_line(self, bytes data, Py_ssize_t position) except -2
    cdef int start_chunk(self, uint64_t size) except -1
    cdef Py_ssize_t read_trailers(self, bytes data, Py_ssize_t position) except -2
    cdef int check_partial(self, bytes data, Py_ssize_t position) except -1
