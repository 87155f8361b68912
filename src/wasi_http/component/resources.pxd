# cython: language_level=3
from libc.stdint cimport int64_t, uint32_t


cdef class Resource:
    cdef Resource parent
    cdef uint32_t children
    cdef bint released


cdef struct Entry:
    void* type                             # a ResourceType, borrowed: the component outlives its instances
    uint32_t next_free                     # of a free entry: the next one, 0 for none
    bint own
    bint used


cdef class ResourceTable:
    cdef readonly int64_t limit
    cdef int64_t live
    cdef list tables


cdef class HandleTable:
    cdef Entry first[16]                   # most requests need no more
    cdef Entry* entries
    cdef uint32_t capacity
    cdef uint32_t length                   # entries ever used, the reserved entry 0 included
    cdef uint32_t free
    cdef list reps
    cdef ResourceTable account
    cdef int64_t borrows                   # borrow handles that the running export call has to drop
    cdef bint may_leave                    # false while the host runs the guest's realloc or post-return

    cdef uint32_t insert(self, void* type, object rep, bint own) except 0
    cdef Entry* find(self, uint32_t handle, void* type) except NULL
    cdef object rep_of(self, uint32_t handle, void* type)
    cdef object take(self, uint32_t handle, void* type)
    cdef object remove(self, uint32_t handle, void* type, bint* own)
    cdef int grow(self) except -1
