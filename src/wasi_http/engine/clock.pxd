# cython: language_level=3
from libc.stdint cimport int64_t

from wasi_http.engine cimport libwasmtime as C
from wasi_http.engine.python cimport PyThread_type_lock


cdef class Clock:
    cdef C.wasm_engine_t* engine
    cdef PyThread_type_lock wakeup         # what a sleeping ticker waits for
    cdef readonly object turns             # by event loop, see turns.py
    cdef tuple latest                      # the last looked up: a weak reference to a loop, and its turns
    cdef int64_t ticks                     # slices that have ended
    cdef bint ticking
    cdef bint stopped
    cdef int64_t running                   # guests being executed now, in all threads
    cdef unsigned int slice                # in microseconds

    cdef void enter(self) noexcept
    cdef void leave(self) noexcept
    cdef void wake(self) noexcept
    cdef void stop(self) noexcept
    cdef void tick(self) noexcept nogil
