# cython: language_level=3
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t


cdef class ResourceTable


cdef class Resource:
    cdef Resource parent
    cdef uint32_t children
    cdef bint released
    cdef ResourceTable account             # what `charged` bytes are charged to, if any were
    cdef int64_t charged


cdef struct Entry:
    void* type                             # a ResourceType; a used entry owns a reference
    uint32_t link                          # of a used entry: how often it is lent; of a free one: the next, 0 for none
    uint8_t own
    uint8_t used


cdef class ResourceTable:
    cdef readonly int64_t limit
    cdef readonly int64_t memory
    cdef readonly int64_t charged          # bytes
    cdef readonly uint32_t value_limit
    cdef int64_t live
    cdef list tables


cdef class HandleTable:
    cdef Entry first[16]                   # most requests need no more
    cdef uint32_t* lent                    # stack of the handles lent to host calls
    cdef uint32_t lends                    # its length
    cdef uint32_t lent_capacity
    cdef dict destructors                  # of the resource types that this instance implements; None for no type
    cdef uint32_t first_lent[26]
    cdef Entry* entries
    cdef uint32_t capacity
    cdef uint32_t length                   # entries ever used, the reserved entry 0 included
    cdef uint32_t free
    cdef list reps
    cdef ResourceTable account
    cdef readonly int64_t borrows          # borrow handles that the running export call has to drop

    cdef uint32_t insert(self, void* type, object rep, bint own) except 0
    cdef Entry* find(self, uint32_t handle, void* type) except NULL
    cdef object rep_of(self, uint32_t handle, void* type)
    cdef object take(self, uint32_t handle, void* type)
    cdef object remove(self, uint32_t handle, void* type, bint* own)
    cdef int grow(self) except -1
    cdef object lend(self, uint32_t handle, void* type)
    cdef int grow_lent(self) except -1
    cdef void end_lends(self, uint32_t before) noexcept
    cdef int check_returned(self) except -1
    cdef list clear(self)


cpdef object close_tables(list tables)


cdef class GuestResource:
    cdef readonly object type
    cdef readonly int32_t rep
    cdef readonly bint owned
    cdef ResourceTable account
    cdef bint gone

    cdef int check(self) except -1
    cdef int32_t give(self) except? -1
    cdef object end(self)
