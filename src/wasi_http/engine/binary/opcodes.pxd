# cython: language_level=3
from wasi_http.engine.binary.reader cimport Reader


# Forms of immediates.
cdef enum Form:
    UNKNOWN = 0
    ALONE                                  # nothing
    BLOCK                                  # its type
    NUMBER                                 # in LEB128, no index of the module's
    CONSTANT                               # of i32.const
    TARGETS                                # of br_table
    TYPES                                  # of select
    REFERENCE                              # the type of ref.null
    BYTES_4
    BYTES_8
    OF_FUNCTION                            # an index
    REF_FUNC                               # the same
    OF_GLOBAL
    OF_TABLE
    OF_MEMORY
    OF_TYPE_AND_TABLE
    ADDRESS                                # alignment, memory and offset
    PREFIX_FC                              # another code: bulk operations
    PREFIX_FD                              # another code: vectors
    BYTES_16
    LANE
    ADDRESS_LANE


# The index spaces of a bulk operation's immediates.
cdef enum Indexed:
    NOTHING = 0
    A_MEMORY
    A_TABLE
    A_DATA
    AN_ELEMENT


cdef enum:
    MEMORY_INIT = 8
    MEMORY_COPY = 10
    MEMORY_FILL = 11
    LAST_BULK = 17


cdef unsigned char FORMS[256]
cdef unsigned char BULK_INDICES[18][2]

cdef int vector_form(Py_ssize_t code) noexcept
cdef int skip_immediates(Reader reader, int form) except -1
cdef int skip_address(Reader reader) except -1
cdef int skip_expression(Reader reader) except -1
