# cython: language_level=3
from libc.stdint cimport int64_t

from wasi_http.engine.clock cimport Clock


cdef class Turns:
    cdef Clock clock
    cdef int64_t ticks                     # of the clock, when this turn of the loop began
    cdef object queues                     # a reference to those of the turn to come, by used slices
    cdef bint scheduled
    cdef dict let_on                       # what is to be called in this turn
    cdef bint fresh                        # none of those that were let on has gone on yet
    cdef int rounds                        # of the loop since the last slice of a guest that computes
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
