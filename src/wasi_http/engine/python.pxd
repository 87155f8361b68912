# cython: language_level=3
"""What the C API of Python and the compiler have for threads."""
from libc.stdint cimport int64_t, uint64_t

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
    # Whether the interpreter exits: modules lose their globals, so finalizers must not use them.
    bint Py_IsFinalizing()
    void __sync_synchronize() noexcept nogil

cdef extern from "Python.h":
    ctypedef struct PyThreadState:
        pass
    ctypedef struct PyInterpreterState:
        pass
    PyInterpreterState* PyInterpreterState_Get()
    PyThreadState* PyInterpreterState_ThreadHead(PyInterpreterState*)
    PyThreadState* PyThreadState_Next(PyThreadState*)
    PyThreadState* PyThreadState_Get()
    uint64_t PyThreadState_GetID(PyThreadState*)
    PyThreadState* PyEval_SaveThread()
    void PyEval_RestoreThread(PyThreadState*)
    int PyGILState_Check()
    unsigned long PyThread_start_new_thread(void (*)(void*), void*)
    unsigned long PYTHREAD_INVALID_THREAD_ID

cdef extern from *:
    int64_t __sync_add_and_fetch(int64_t*, int64_t) noexcept nogil
