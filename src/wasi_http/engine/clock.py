"""The clock of an engine: it counts time slices of guests."""

from __future__ import annotations

import weakref

import cython
from cython.cimports.posix.unistd import usleep
from cython.cimports.wasi_http.engine.library import lib
from cython.cimports.wasi_http.engine.python import (
    PyThread_acquire_lock,
    PyThread_allocate_lock,
    PyThread_free_lock,
    PyThread_release_lock,
    __sync_synchronize,
)

__all__ = ["Clock"]

# The ticker sleeps after this many ticks without a running guest.
_IDLE_TICKS = cython.declare(cython.int, 100)


class Clock:
    """The epoch ticker: a thread that ends time slices by advancing the engine's epoch, and sleeps while no guest runs.

    The thread holds the clock and not the engine, so that an engine without other owners is freed.
    """

    def __cinit__(self):
        self.engine = cython.NULL
        self.wakeup = PyThread_allocate_lock()
        PyThread_acquire_lock(self.wakeup, 1)

    def __init__(self, slice_: float) -> None:
        self.slice = cython.cast(cython.uint, slice_ * 1e6)
        self.turns = weakref.WeakKeyDictionary()

    def enter(self) -> cython.void:
        """Counts a running guest, or work on its behalf. Call it with the GIL, and `leave` afterwards."""
        self.running += 1
        __sync_synchronize()
        if not self.ticking:
            self.wake()

    def leave(self) -> cython.void:
        self.running -= 1

    def wake(self) -> cython.void:
        """Wakes a sleeping ticker when a guest runs. Call it with the GIL."""
        self.ticking = True
        PyThread_release_lock(self.wakeup)

    def tick(self) -> cython.void:
        # Without the GIL throughout: a guest may hold it during its first time slice, which must end, too.
        idle: cython.int = 0
        while not self.stopped:
            if idle < _IDLE_TICKS:
                usleep(self.slice)
                if self.running > 0:
                    lib.wasmtime_engine_increment_epoch(self.engine)
                    self.ticks += 1
                    idle = 0
                else:
                    idle += 1
                continue
            self.ticking = False
            # A guest that enters now either sees the ticker asleep and wakes it, or is counted.
            __sync_synchronize()
            if self.running == 0:
                PyThread_acquire_lock(self.wakeup, 1)
            self.ticking = True
            idle = 0

    def run(self) -> None:
        """Runs the thread."""
        with cython.nogil:
            self.tick()

    def stop(self) -> cython.void:
        """Ends the thread. Uses no Python objects: it may run while the interpreter exits."""
        self.stopped = True
        self.wake()

    def __dealloc__(self):
        if self.engine != cython.NULL:
            lib.wasm_engine_delete(self.engine)
        PyThread_free_lock(self.wakeup)
