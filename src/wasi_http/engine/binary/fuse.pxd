# cython: language_level=3
cimport cython

from wasi_http.engine.binary.module cimport ModuleBinary
from wasi_http.engine.binary.reader cimport Reader
from wasi_http.engine.binary.writer cimport Writer


@cython.final
cdef class Space:
    cdef Py_ssize_t* numbers
    cdef Py_ssize_t count

    cdef Py_ssize_t get(self, Py_ssize_t index) except -1


@cython.final
cdef class Part:
    cdef ModuleBinary binary
    cdef list function_numbers
    cdef list table_numbers
    cdef list memory_numbers
    cdef list global_numbers
    cdef list type_numbers
    cdef Space types
    cdef Space functions
    cdef Space tables
    cdef Space memories
    cdef Space globals
    cdef Space elements                    # segments
    cdef Space datas


@cython.final
cdef class Fusion:
    cdef list parts
    cdef dict types
    cdef dict hosts
    cdef list defined
    cdef list tables
    cdef list memories
    cdef list globals
    cdef list expressions

    cdef int add(self, ModuleBinary binary, object sources) except -1
    cdef object _type(self, Part part, object function)
    cdef bytes run(self, object captures)
    cdef Writer _globals(self)
    cdef bytes _expression(self, Reader reader, Part part)
    cdef int _elements(self, Part part, Writer out, Writer actions, bint passive) except -1
    cdef int _datas(self, Part part, Writer out, Writer actions, bint passive) except -1
    cdef int _names(self, Writer out) except -1


@cython.final
cdef class Body:
    cdef Part part
    cdef set references
    cdef Reader reader
    cdef Writer out
    cdef Py_ssize_t copied

    cdef int fuse(self, Reader reader) except -1
    cdef int copy(self, Py_ssize_t end, Py_ssize_t next) except -1
    cdef Py_ssize_t index(self, Space space) except -1
    cdef int block_type(self) except -1
    cdef int address(self) except -1
    cdef int bulk(self) except -1


cdef Space _count_on(Py_ssize_t start, Reader section)
cdef object _number(bytes expression)
cdef int _put_limits(Writer out, object low, object high) except -1
cdef bint _within(tuple has, tuple asks) except -1
cdef int _fuse_code(Part part, Writer out, set references) except -1
