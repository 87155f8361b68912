# cython: language_level=3
cimport cython

from wasi_http.engine.binary.module cimport ModuleBinary
from wasi_http.engine.binary.reader cimport Reader
from wasi_http.engine.binary.writer cimport Writer


@cython.final
cdef class Bulk:
    cdef ModuleBinary module
    cdef dict helpers                      # (operation, memory or segment, memory) -> number of its function
    cdef list segments                     # of data, their sizes

    cdef bint bodies(self, Writer out) except -1
    cdef list sites(self, Reader reader)
    cdef int body(self, Reader reader, Py_ssize_t parameters, list sites, Writer out) except -1


cdef bytes _helper(int code, Py_ssize_t first, Py_ssize_t second, Py_ssize_t segment)
cdef int _put_check(Writer out, int start, Py_ssize_t memory) except -1
cdef int _put_end(Writer out, int start) except -1
cdef int _put_advance(Writer out, int local) except -1
cdef int _put_shorten(Writer out) except -1
cdef int _put_repeat(Writer out) except -1
cdef Writer _items(Reader section)
