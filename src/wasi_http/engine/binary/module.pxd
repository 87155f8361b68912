# cython: language_level=3
cimport cython

from wasi_http.engine.binary.reader cimport Reader


cdef enum Section:
    CUSTOM
    TYPE
    IMPORT
    FUNCTION
    TABLE
    MEMORY
    GLOBAL
    EXPORT
    START
    ELEMENT
    CODE
    DATA
    DATA_COUNT


# Kinds of imports and exports.
cdef enum Kind:
    FUNC_KIND
    TABLE_KIND
    MEMORY_KIND
    GLOBAL_KIND


@cython.final
cdef class ModuleBinary:
    cdef readonly object code
    cdef readonly tuple imports
    cdef readonly tuple exports
    cdef list parts                        # (number, reader) of all sections in order
    cdef dict sections                     # readers by number, custom ones aside
    cdef Reader names                      # of the name section, or None
    cdef list types                        # raw bytes of each
    cdef list signatures                   # the same as CoreType
    cdef list functions                    # their types: imported ones, then defined ones
    cdef list tables                       # (element type, minimum, maximum)
    cdef list memories                     # (minimum, maximum)
    cdef list globals                      # (value type, mutable)
    cdef list import_indices               # (kind, index) of each
    cdef list export_indices
    cdef Py_ssize_t imported_functions
    cdef Py_ssize_t imported_tables
    cdef Py_ssize_t imported_memories
    cdef Py_ssize_t imported_globals
    cdef Py_ssize_t start

    cdef Reader section(self, int number)
    cdef int _read_types(self) except -1
    cdef int _read_imports(self) except -1
    cdef int _read_definitions(self) except -1
    cdef int _read_exports(self) except -1
    cdef Py_ssize_t _type_index(self, Reader reader) except -1


cdef Py_ssize_t count(Reader section) except -1
cdef tuple _value_types(Reader reader)
cdef tuple _limits(Reader reader)
cdef tuple _table(Reader reader)
cdef tuple _global_type(Reader reader)
