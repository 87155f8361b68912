"""Stores: what one guest and its instances live in.

The state of a suspended call is kept here and not in its `Fiber`, because host functions are given the store. No Python
exception crosses the C boundary: `host_callback` keeps it in ``store.failure`` and returns a trap, and `raise_wasm`
raises it again where the call was awaited, with the guest's backtrace.
"""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Coroutine
from typing import Any

import cython
from cython.cimports.libc.stdint import int64_t, uintptr_t
from cython.cimports.libc.stdlib import free, malloc
from cython.cimports.posix.unistd import usleep
from cython.cimports.wasi_http.engine import libwasmtime as C
from cython.cimports.wasi_http.engine.engine import Engine
from cython.cimports.wasi_http.engine.library import lib
from cython.cimports.wasi_http.engine.owners import current_thread, hand_over, settle
from cython.cimports.wasi_http.engine.python import (
    PYTHREAD_INVALID_THREAD_ID,
    Py_IsFinalizing,
    PyEval_RestoreThread,
    PyEval_SaveThread,
    PyGILState_Check,
    PyThread_acquire_lock,
    PyThread_allocate_lock,
    PyThread_release_lock,
    PyThread_start_new_thread,
    PyThread_type_lock,
    __sync_add_and_fetch,
)
from cython.cimports.wasi_http.engine.store import (
    Departure,
    running_store,
    stack_pointer,
    swap_running_store,
    thread_stack_end,
)

from wasi_http.engine.config import StoreLimits
from wasi_http.engine.errors import EXHAUSTED, SPENT, GuestCancelled, Trap, expect

__all__ = [
    "Captured",
    "Recheck",
    "Store",
    "leaving_stores",
    "live_stores",
]


_live_stores = cython.declare(int64_t, 0)

# Deleting a store takes long if its memory is this large, in bytes, or if the guest had so many ticks to write to it.
_LARGE = cython.declare(cython.size_t, 64 << 20)
_LONG = cython.declare(int64_t, 3)

# Such stores are deleted in background threads: at most this many at once.
_MAX_THREADS = cython.declare(cython.int, 2)
_threads = cython.declare(cython.int, 0)
_leaving = cython.declare(int64_t, 0)
_departures = cython.declare(cython.pointer(Departure), cython.NULL)
# Guards the list and the number of threads.
_lock = cython.declare(PyThread_type_lock, PyThread_allocate_lock())

# Poll interval, in microseconds, of a new store that waits for a place in the pool.
_PAUSE = cython.declare(cython.uint, 200)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _delete(_: cython.p_void) -> cython.void:
    """Deletes stores until there are none left to delete."""
    global _departures, _threads
    while True:
        PyThread_acquire_lock(_lock, 1)
        departure = _departures
        if departure == cython.NULL:
            _threads -= 1
            PyThread_release_lock(_lock)
            return
        _departures = departure.next
        PyThread_release_lock(_lock)
        lib.wasmtime_store_delete(departure.store)
        free(departure)
        __sync_add_and_fetch(cython.address(_leaving), -1)


_DEFAULT_LIMITS = StoreLimits()

# Stack that suspending needs, in bytes: it runs wasmtime's code, but none of the guest's.
_SUSPEND_STACK = cython.declare(cython.size_t, 64 << 10)


def live_stores() -> int:
    """Returns the number of stores in this process, for leak tests and monitoring."""
    return _live_stores


def leaving_stores() -> int:
    """Returns the number of closed stores that still occupy the pool, until the system has reclaimed their memory.

    Making a store blocks the thread while they leave no place for it.
    """
    return _leaving


class Recheck:
    """An awaitable whose result is computed by the guest: when woken, it calls `look` in its own time slice.

    One turn of the event loop may wake a thousand guests. Its cost must not depend on what they wait for: work that
    does belongs in `look` and `close`.
    """

    def woken(self) -> Awaitable[None]:
        """Returns an awaitable of the next wake-up since the last `look`."""
        raise NotImplementedError

    def look(self) -> Any:
        """Returns the result, false until it is there. Called on the guest's stack, at least once."""
        raise NotImplementedError

    def close(self) -> None:
        """Ends the wait, completed or cancelled."""
        raise NotImplementedError


class Captured:
    """A memory or function captured for the host. It borrows the store, so a store without owners is freed at once."""

    def disown(self) -> cython.void:
        """Forgets the store, which is closed."""

    def size(self) -> cython.size_t:
        """Returns the bytes of a memory, 0 for others."""
        return 0


class Store:
    """What one guest and its instances live in, and end with.

    ``data`` is the embedder's state, for host functions that take it. A store belongs to one thread at a time, and is
    unusable after a trap, a deadline or a cancelled call.
    """

    def __cinit__(self):
        global _live_stores
        self.pointer = cython.NULL
        self.future = cython.NULL
        _live_stores += 1

    def __init__(self, engine: Engine, data: Any = None, limits: StoreLimits | None = None) -> None:
        if isinstance(data, type):
            raise TypeError(f"a store's data is an object, not the class {data.__name__}: write {data.__name__}()")
        if limits is None:
            limits = _DEFAULT_LIMITS
        elif not isinstance(limits, StoreLimits):
            expect(StoreLimits, limits, "Store(engine, data, StoreLimits(...))")
        self.engine = engine
        self.clock = engine.clock
        self.data = data
        settle()
        if _leaving > 0 and _live_stores + _leaving > engine.max_instances:
            with cython.nogil:
                while _leaving > 0 and _live_stores + _leaving > self.engine.max_instances:
                    usleep(_PAUSE)
        self.pointer = lib.wasmtime_store_new(engine.pointer, cython.cast(cython.p_void, self), cython.NULL)
        self.context = lib.wasmtime_store_context(self.pointer)
        lib.wasmtime_store_limiter(
            self.pointer, limits.memory_size, limits.table_elements, limits.instances, limits.tables, limits.memories
        )

    def close(self) -> bool:
        """Frees the instances now, without waiting for the garbage collector. Idempotent.

        Returns whether they are large, and so counted by `leaving_stores` for a while.
        """
        return self.end(False)

    def end(self, abandon: cython.bint) -> cython.int:
        leaves: cython.bint = False
        if self.executing:
            raise RuntimeError("the store is executing a guest")
        # Releasing what the guest holds takes time, which counts towards this turn of the event loop.
        self.clock.enter()
        try:
            self.drop_call(abandon)
            instance, self.instance = self.instance, None
            if self.pointer != cython.NULL:
                leaves = self.delete()
                self.spent = True
            _disown(self.captured)
            self.captured = None
            self.pending = self.answer = self.failure = None
            if instance is not None:
                instance.close()
        finally:
            self.clock.leave()
        return leaves

    def __del__(self):
        if self.clock is None:
            return  # __init__ failed
        if Py_IsFinalizing():
            self.desert()
        elif not self.leave_to_owner(self):
            self.end(True)

    def enter(self) -> cython.int:
        if self.engine.forked:
            raise RuntimeError("an engine does not work in a forked process, whose threads are gone: spawn it")
        # Atomic with setting the flag below, because of the GIL.
        if self.executing:
            raise RuntimeError("a store can be used by one thread at a time and cannot be entered again")
        if self.future != cython.NULL and self.thread != current_thread():
            # Frames on the fiber's stack refer to the Python thread state of the thread where they began.
            raise RuntimeError("a call must continue and end in the thread where it began")
        if self.spent:
            raise RuntimeError(SPENT)
        self.executing = True
        self.clock.enter()
        return 0

    def leave(self) -> cython.void:
        self.executing = False
        self.clock.leave()

    def drop_call(self, abandon: cython.bint) -> cython.int:
        """Unwinds the call under way, if any; the store is spent then.

        Only the guest's thread can unwind it: in another one, ``abandon`` leaks it. See `leave_to_owner`.
        """
        if self.future == cython.NULL:
            return 0
        if Py_IsFinalizing():
            # Unwinding it would run host functions, whose modules are partly torn down.
            self.desert()
            return 0
        if abandon and self.thread != current_thread():
            # Unwinding it here would abort the process.
            self.desert()
            warnings.warn("a thread has ended while a guest waited in it: the guest's memory is lost", ResourceWarning)
            return 0
        self.enter()
        self.spent = True
        future = self.future
        self.future = cython.NULL
        outer = swap_running_store(cython.cast(cython.p_void, self))
        state = PyEval_SaveThread()
        lib.wasmtime_call_future_delete(future)
        if not PyGILState_Check():
            PyEval_RestoreThread(state)
        swap_running_store(outer)
        self.leave()
        self.failure = None
        if self.pending is not None:
            self.discard_pending()
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not abandon:
            waiter.cancel()  # which `drive` turns into an error
        return 0

    def leave_to_owner(self, item: object) -> cython.bint:
        """Makes the thread of the call under way close the item, if it is another thread that still runs."""
        if self.future == cython.NULL or Py_IsFinalizing() or self.engine.forked or self.thread == current_thread():
            return False
        self.waiter = None
        if not hand_over(self.thread, item):
            return False
        if isinstance(self.pending, Coroutine):
            # Not started, so closing it runs nothing; otherwise the collector would warn that it was never awaited.
            self.discard_pending()
        return True

    def desert(self) -> cython.void:
        """Leaks the call under way, and with it the guest's memory."""
        if self.future != cython.NULL:
            self.future = cython.NULL
            self.pointer = cython.NULL
        self.spent = True

    def enable_fibers(self) -> cython.int:
        # Not earlier: wasmtime refuses to instantiate synchronously once a store may yield.
        if not self.on_fiber:
            self.on_fiber = True
            lib.wasmtime_context_epoch_deadline_async_yield_and_update(self.context, 1)
        return 0

    def mark_stack(self) -> cython.void:
        """Records where the fiber's stack ends. Called on the fiber, by the first host function."""
        self.stack_end = stack_pointer() - self.engine.fiber_stack

    def stack_left(self) -> cython.size_t:
        """Returns the bytes left of the current stack: of this store's fiber, or of the thread."""
        end: cython.size_t = self.stack_end
        if end == 0:
            # A start function, possibly within a host function of another store.
            if running_store != cython.NULL:
                end = cython.cast(Store, running_store).stack_end
            else:
                end = thread_stack_end()
        here: cython.size_t = stack_pointer()
        return here - end if here > end else 0

    def suspend(self) -> object:
        """Waits until ``pending`` is done, and returns its value. Called on the fiber, in a host function.

        The caller has set ``pending`` and owns no references: the garbage collector cannot see those of a suspended
        stack.
        """
        raw: C.wasmtime_val_raw_t[1]
        item: C.wasmtime_extern_t
        trap: cython.pointer(C.wasm_trap_t) = cython.NULL
        error: cython.pointer(C.wasmtime_error_t) = cython.NULL
        if not self.on_fiber:
            self.discard_pending()
            raise Trap("a start function called a host function that has to wait: start functions cannot be suspended")
        if self.pinned:
            self.discard_pending()
            raise Trap("a guest call made by a host function may not wait")
        if self.stack_left() < _SUSPEND_STACK:
            self.discard_pending()
            raise Trap(EXHAUSTED)
        if not self.has_suspend:
            lib.wasmtime_linker_get(self.engine.suspender, self.context, b"", 0, b"suspend", 7, cython.address(item))
            self.suspend_function = item.of.func
            self.has_suspend = True
        rechecks: cython.bint = isinstance(self.pending, Recheck)
        while not rechecks or not self.look():
            self.resumed = False
            raw[0].i64 = cython.cast(int64_t, cython.cast(uintptr_t, cython.address(self.resumed)))
            with cython.nogil:
                error = lib.wasmtime_func_call_unchecked(
                    self.context, cython.address(self.suspend_function), raw, 1, cython.address(trap)
                )
            if error != cython.NULL or trap != cython.NULL:
                if error != cython.NULL:
                    lib.wasmtime_error_delete(error)
                if trap != cython.NULL:
                    lib.wasm_trap_delete(trap)
                raise GuestCancelled
            # After a wait it gets a new slice.
            lib.wasmtime_context_set_epoch_deadline(self.context, 2)
            if not rechecks:
                break
        answer, self.answer = self.answer, None
        if self.answer_is_error:
            raise answer
        return answer

    def look(self) -> cython.bint:
        """Returns whether the pending result is there or failed; if so, moves it from ``pending`` to ``answer``."""
        try:
            self.answer = self.pending.look()
            self.answer_is_error = False
        except Exception as error:
            self.answer = error
            self.answer_is_error = True
        if not self.answer_is_error and not self.answer:
            return False
        self.discard_pending()
        return True

    def discard_pending(self) -> cython.int:
        # A coroutine that is never awaited would warn when it is collected.
        pending, self.pending = self.pending, None
        close = getattr(pending, "close", None)
        if close is not None:
            close()
        return 0

    def __repr__(self) -> str:
        return f"<Store of {self.data!r}>"

    def delete(self) -> cython.bint:
        """Deletes wasmtime's store: now, or in a background thread (True) if it is large.

        The system takes 70 ms to reclaim a GiB of written memory.
        """
        global _departures, _threads, _leaving
        pointer = self.pointer
        self.pointer = cython.NULL
        departure: cython.pointer(Departure) = cython.NULL
        # If there are more stores than places, a new one waits for this. A forked child has none of the threads.
        room: cython.bint = _live_stores + _leaving <= self.engine.max_instances
        if room and self.is_large() and not self.engine.forked:
            departure = cython.cast(cython.pointer(Departure), malloc(cython.sizeof(Departure)))
        if departure == cython.NULL:
            lib.wasmtime_store_delete(pointer)
            return False
        departure.store = pointer
        __sync_add_and_fetch(cython.address(_leaving), 1)
        PyThread_acquire_lock(_lock, 1)
        departure.next = _departures
        _departures = departure
        starts: cython.bint = _threads < _MAX_THREADS
        _threads += starts
        PyThread_release_lock(_lock)
        if starts and PyThread_start_new_thread(_delete, cython.NULL) == PYTHREAD_INVALID_THREAD_ID:
            _delete(cython.NULL)
        return True

    def is_large(self) -> cython.bint:
        """Returns whether the guest may have written to so much memory that reclaiming it takes long."""
        return self.ticks >= _LONG or self.largest() >= _LARGE

    def largest(self) -> cython.size_t:
        """Returns the size of the largest captured memory, in bytes."""
        size: cython.size_t = 0
        if self.captured is not None:
            for item in self.captured:
                if item is not None:
                    size = max(size, cython.cast(Captured, item).size())
        return size

    @property
    def memory_size(self) -> int:
        """The guest's memory in bytes, the largest of those captured; 0 once the store is closed."""
        return 0 if self.pointer == cython.NULL else self.largest()

    def __dealloc__(self):
        global _live_stores
        _live_stores -= 1
        _disown(self.captured)
        # Not if its call was left to a thread that has ended since, or that the exiting process does not run.
        if self.pointer != cython.NULL and self.future == cython.NULL:
            lib.wasmtime_store_delete(self.pointer)


def swap_running(store: cython.p_void) -> cython.p_void:
    """Sets the store whose fiber this thread runs on, and returns the previous one."""
    return swap_running_store(store)


def _disown(items: list | None):
    if items is None:
        return
    for item in items:
        if item is not None:
            cython.cast(Captured, item).disown()
