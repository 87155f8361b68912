# cython: language_level=3
from libc.stdint cimport int64_t

from wasi_http.engine cimport libwasmtime as C

cdef extern from "pythread.h" nogil:
    ctypedef void* PyThread_type_lock
    PyThread_type_lock PyThread_allocate_lock()
    void PyThread_free_lock(PyThread_type_lock)
    int PyThread_acquire_lock(PyThread_type_lock, int)
    void PyThread_release_lock(PyThread_type_lock)

cdef extern from *:
    """
    #if PY_VERSION_HEX < 0x030D0000
    #define Py_IsFinalizing _Py_IsFinalizing
    #endif
    """
    # Whether the interpreter ends: modules lose their globals, and finalizers may not need any.
    bint Py_IsFinalizing()
    void __sync_synchronize() noexcept nogil


cdef class Clock:
    cdef C.wasm_engine_t* engine
    cdef PyThread_type_lock bell           # what a sleeping clock waits for: released by whoever wakes it
    cdef readonly object turns             # of event loops, see turns.py
    cdef tuple latest                      # a reference to a loop, and its turns: those that were asked for last
    cdef int64_t ticks                     # slices that have ended
    cdef bint ticking
    cdef bint stopped
    cdef int64_t running                   # guests being executed at this moment, in all threads
    cdef unsigned int slice                # in microseconds

    cdef void enter(self) noexcept
    cdef void leave(self) noexcept
    cdef void wake(self) noexcept
    cdef void stop(self) noexcept
    cdef void tick(self) noexcept nogil


cdef class Engine:
    cdef object __weakref__
    cdef bint forked                       # this process is a child, and the clock's thread is not in it
    cdef C.wasm_engine_t* pointer
    cdef C.wasmtime_linker_t* suspender    # holds the one async host function that suspends a fiber
    cdef Clock clock
    cdef readonly object config
    cdef int64_t max_instances
    cdef readonly bint pooling
    cdef readonly bint guarded
    cdef bint interruptible                # guests have time slices
    cdef size_t entry_stack                # what is left of a stack when a host function enters a guest, at least
    cdef size_t fiber_stack                # what a fiber has below its first host function, at least
    cdef int64_t start_ticks               # what core start functions may take, in time slices
