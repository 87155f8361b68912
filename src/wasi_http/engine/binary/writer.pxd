# cython: language_level=3
cimport cython


@cython.final
cdef class Writer:
    cdef unsigned char* data
    cdef Py_ssize_t size
    cdef Py_ssize_t capacity

    cdef int reserve(self, Py_ssize_t count) except -1
    cdef int byte(self, int value) except -1
    cdef int u32(self, Py_ssize_t value) except -1
    cdef int s64(self, Py_ssize_t value) except -1
    cdef int raw(self, const unsigned char* data, Py_ssize_t count) except -1
    cdef int put(self, bytes data) except -1
    cdef int sized(self, Writer other) except -1
    cdef int section(self, int number, Py_ssize_t count, Writer items) except -1
    cdef bytes text(self)
