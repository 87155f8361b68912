# cython: language_level=3
from libc.stdint cimport int64_t

from wasi_http.engine.engine cimport Clock


cdef class Turns:
    cdef Clock clock
    cdef int64_t ticks                     # of the clock, when this turn of the loop began
    cdef object queues                     # a reference to those of the turn to come, by used slices
    cdef bint scheduled
    cdef bint granted                      # to a guest that runs before the next call of _turn
    cdef int rounds                        # of the loop since the last slice of a guest that computes
    cdef bint reverse                      # the last was one that has used the most
    cdef int ended                         # guests that may be unwound in this turn

    cdef bint is_open(self) noexcept
    cdef object hold(self)
    cdef enqueue(self, object run, int level)
    cdef schedule(self, object queues)
    cdef grant(self)
    cdef object take_heavy(self, object queues)


cdef Turns turns_of(Clock clock)
