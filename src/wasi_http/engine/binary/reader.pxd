# cython: language_level=3
cimport cython


@cython.final
cdef class Reader:
    cdef object owner                      # keeps the data alive
    cdef const unsigned char* data
    cdef readonly Py_ssize_t at
    cdef readonly Py_ssize_t end

    cdef int fail(self, str reason, Py_ssize_t offset) except -1
    cpdef int byte(self) except -1
    cpdef Py_ssize_t u32(self) except -1
    cpdef Py_ssize_t s33(self) except? -1
    cdef Py_ssize_t number(self, bint signed) except? -1
    cpdef int skip(self, Py_ssize_t count) except -1
    cdef int skip_number(self) except -1
    cpdef Reader part(self, Py_ssize_t size)
    cdef Reader between(self, Py_ssize_t start, Py_ssize_t end)
    cpdef bytes since(self, Py_ssize_t start)
    cpdef str name(self)
