# cython: language_level=3
from libc.stdint cimport int64_t

from wasi_http.engine.clock cimport Clock


cdef class Turns:
    cdef Clock clock
    cdef int64_t ticks                     # of the clock, when this turn of the loop began
    cdef object queues                     # a weak reference to `_Queues`
    cdef bint scheduled
    cdef dict let_on                       # callbacks admitted to this turn
    cdef bint fresh                        # no admitted guest has run yet
    cdef int rounds                        # of the loop since the last slice of a computing guest
    cdef int64_t computed                  # the tick of that slice, or when others began to queue
    cdef bint reverse                      # the last was one that has used the most
    cdef int ended                         # guests that may be unwound in this turn

    cdef bint is_open(self) noexcept
    cdef bint goes_on(self) noexcept
    cdef object hold(self)
    cdef enqueue(self, object waiter, bint called, int level)
    cdef remove(self, object waiter)
    cdef schedule(self, object queues)
    cdef bint let_on_next(self, object queues, dict queue) except -1
    cdef dict next_that_computes(self, object queues)


cdef Turns turns_of(Clock clock)
