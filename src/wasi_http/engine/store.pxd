# cython: language_level=3
from libc.stdint cimport int64_t, uint64_t

from wasi_http.engine cimport libwasmtime as C
from wasi_http.engine.clock cimport Clock
from wasi_http.engine.engine cimport Engine

cdef extern from "stack.h" nogil:
    void* swap_running_store(void*)
    void* running_store
    size_t stack_pointer()
    size_t thread_stack_end()

# A store to be deleted in another thread.
cdef struct Departure:
    C.wasmtime_store_t* store
    Departure* next


cdef class Captured:
    cdef void disown(self) noexcept
    cdef size_t size(self) noexcept


cdef class Recheck:
    pass


cdef class Store:
    cdef C.wasmtime_store_t* pointer
    cdef C.wasmtime_context_t* context
    cdef Clock clock
    cdef readonly Engine engine
    cdef public object data
    cdef int64_t ticks                     # of the clock, while its guest ran
    cdef public int spun                   # consecutive time slices that the guest has used up without a host call
    cdef public object instance            # state of the component layer for the guest of this store
    cdef object assembly                   # keeps the host functions' environments alive
    cdef list captured                     # the assembly's captures: Memory and Func objects
    cdef object failure                    # the exception of a host function, until the call raises it
    cdef object waiter                     # the task that awaits it
    cdef object pending                    # the awaitable that the suspended guest waits for
    cdef object answer                     # its value, or with `answer_is_error` the exception that it raised
    cdef bint answer_is_error
    cdef bint resumed
    cdef bint on_fiber
    cdef bint executing
    cdef bint spent                        # after a trap or a cancelled call
    cdef bint has_suspend
    cdef bint pinned                       # Python frames are on the fiber: it may not be suspended
    cdef C.wasmtime_func_t suspend_function
    cdef size_t stack_end                  # of its fiber, a safe estimate; 0 before the first host function
    cdef uint64_t thread                   # where the call under way began
    cdef C.wasmtime_call_future_t* future  # of that call: to be deleted before the store

    cdef int enter(self) except -1
    cdef void leave(self) noexcept
    cdef object suspend(self)
    cdef bint look(self) except -1
    cdef int discard_pending(self) except -1
    cdef int end(self, bint abandon) except -1
    cdef int drop_call(self, bint abandon) except -1
    cdef bint leave_to_owner(self, object item) except -1
    cdef void desert(self) noexcept
    cdef bint delete(self) noexcept
    cdef bint is_large(self) noexcept
    cdef size_t largest(self) noexcept
    cdef int enable_fibers(self) except -1
    cdef void mark_stack(self) noexcept
    cdef size_t stack_left(self) noexcept


cdef void* swap_running(void* store) noexcept
cdef _disown(list items)
