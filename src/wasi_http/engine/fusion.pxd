# cython: language_level=3


cdef class Reader:
    cdef const unsigned char* data
    cdef Py_ssize_t at
    cdef Py_ssize_t end

    cdef int byte(self) except -1
    cdef Py_ssize_t u32(self) except -1
    cdef Py_ssize_t s33(self) except? -1
    cdef int skip_number(self) except -1
    cdef int skip(self, Py_ssize_t count) except -1
    cdef Reader part(self, Py_ssize_t size)
    cdef bytes raw(self, Py_ssize_t start)
    cdef str name(self)


cdef class Writer:
    cdef unsigned char* data
    cdef Py_ssize_t size
    cdef Py_ssize_t capacity

    cdef int reserve(self, Py_ssize_t count) except -1
    cdef int byte(self, int value) except -1
    cdef int u32(self, Py_ssize_t value) except -1
    cdef int s33(self, Py_ssize_t value) except -1
    cdef int raw(self, const unsigned char* data, Py_ssize_t count) except -1
    cdef int put(self, bytes data) except -1
    cdef int sized(self, Writer other) except -1
    cdef int section(self, int number, Py_ssize_t count, Writer items) except -1
    cdef bytes text(self)


cdef class ModuleBinary:
    cdef readonly object code
    cdef readonly tuple imports
    cdef readonly tuple exports
    cdef const unsigned char[::1] view
    cdef const unsigned char* data
    cdef dict sections                     # readers by number
    cdef object names                      # a reader of the name section, or None
    cdef list types
    cdef list signatures
    cdef list functions
    cdef list tables
    cdef list memories
    cdef list globals
    cdef list wanted
    cdef list given
    cdef Py_ssize_t imported_functions
    cdef Py_ssize_t imported_tables
    cdef Py_ssize_t imported_memories
    cdef Py_ssize_t imported_globals
    cdef Py_ssize_t start

    cdef Reader section(self, int number)
    cdef Py_ssize_t _count(self, int number) except -1
    cdef int _read_types(self) except -1
    cdef str _value(self, Reader reader)
    cdef tuple _value_types(self, Reader reader)
    cdef Py_ssize_t _type_index(self, Reader reader) except -1
    cdef tuple _limits(self, Reader reader)
    cdef tuple _table(self, Reader reader)
    cdef int _read_imports(self) except -1
    cdef tuple _global_type(self, Reader reader)
    cdef int _read_globals(self) except -1
    cdef int _read_exports(self) except -1


cdef class Space:
    cdef Py_ssize_t* numbers
    cdef Py_ssize_t count

    cdef Py_ssize_t get(self, Py_ssize_t index) except -1


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
    cdef Py_ssize_t first_element
    cdef Py_ssize_t elements
    cdef Py_ssize_t first_data
    cdef Py_ssize_t datas


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
    cdef bytes run(self, object wants)
    cdef Writer _globals(self)
    cdef bytes _expression(self, Reader reader, Part part)
    cdef Py_ssize_t _elements(self, Part part, Writer out, Writer actions, bint passive) except -1
    cdef Py_ssize_t _datas(self, Part part, Writer out, Writer actions, bint passive) except -1
    cdef int _names(self, Writer out) except -1


cdef Reader _reader(const unsigned char* data, Py_ssize_t start, Py_ssize_t end)
cdef int _skip_expression(Reader reader) except -1
