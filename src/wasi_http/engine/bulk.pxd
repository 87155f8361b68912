# cython: language_level=3
from wasi_http.engine.fusion cimport Reader, Writer


# What follows the code of an operation in a function's body.
cdef enum Form:
    UNKNOWN = 0
    ALONE
    NUMBER                                 # one, in LEB128
    NUMBERS                                # two
    CONSTANT                               # of i32.const
    ADDRESS
    TARGETS                                # of br_table
    TYPES                                  # of select
    BYTES_4
    BYTES_8
    PREFIX_FC
    PREFIX_FD


cdef class Bulk:
    cdef dict helpers                      # (operation, memory or segment, memory) -> number of its function
    cdef list segments                     # of data, their sizes
    cdef list parameters                   # of each type, how many; -1 if it is no function's
    cdef Py_ssize_t functions              # how many there are without the helpers
    cdef Py_ssize_t imported
    cdef Py_ssize_t type

    cdef int _imports(self, Reader reader) except -1
    cdef int _types(self, Reader reader) except -1
    cdef int _datas(self, Reader reader) except -1
    cdef bint _bodies(self, Reader reader, list types, Writer out) except -1
    cdef int _body(self, Reader reader, Py_ssize_t parameters, list sites, Writer out) except -1
