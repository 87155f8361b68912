# cython: language_level=3
from wasi_http.component.handles cimport HandleTable, ResourceTable


cdef class ComponentInstance:
    cdef readonly HandleTable handles
    cdef bint may_leave                    # false while the host runs the guest's realloc or post-return

    cdef int trap_on_leave(self) except -1


cdef inline ComponentInstance new_instance(ResourceTable account):
    cdef ComponentInstance instance = ComponentInstance.__new__(ComponentInstance)
    instance.handles = HandleTable.__new__(HandleTable, account)
    return instance


cdef inline int check_leave(ComponentInstance instance) except -1:
    return 0 if instance.may_leave else instance.trap_on_leave()
