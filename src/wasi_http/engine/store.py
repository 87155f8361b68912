"""Stores and the fibers on which their guests run.

A guest's call runs on a fiber: a stack of its own. When a host function has to wait, it suspends the whole fiber,
nested guest frames included, and leaves an awaitable in ``store.pending``; whoever drives the fiber awaits that on the
main stack, in their own task, and steps the fiber again with the answer. When the time slice ends the fiber suspends
with nothing pending. Dropping a fiber unwinds the guest: host functions that were waiting see `GuestCancelled`.

Guests run without the GIL, and their host functions take it, but for a fiber's first time slice, which keeps it: most
guests are done by then, and taking it back for every host function is a good part of what they cost. A host function
that suspends gives the GIL up wherever it was, so whoever comes back from a guest looks whether it is there.

No Python exception crosses the C boundary: host_callback keeps it in ``store.failure``, answers with a trap, and
raise_wasm raises it again where the call was awaited, with the guest's backtrace.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import cython
from cython.cimports.cpython.bytes import PyBytes_FromStringAndSize
from cython.cimports.libc.stdint import int32_t, int64_t, uint8_t, uint64_t, uintptr_t
from cython.cimports.libc.stdlib import free, malloc
from cython.cimports.posix.unistd import usleep
from cython.cimports.wasi_http.engine import libwasmtime as C
from cython.cimports.wasi_http.engine.engine import (
    Clock,
    Engine,
    Py_IsFinalizing,
    PyThread_acquire_lock,
    PyThread_allocate_lock,
    PyThread_release_lock,
    PyThread_type_lock,
)
from cython.cimports.wasi_http.engine.library import lib
from cython.cimports.wasi_http.engine.store import (
    PYTHREAD_INVALID_THREAD_ID,
    Departure,
    PyEval_RestoreThread,
    PyEval_SaveThread,
    PyGILState_Check,
    PyThread_get_thread_ident,
    PyThread_start_new_thread,
    PyThreadState_Get,
    __sync_add_and_fetch,
    running_store,
    stack_pointer,
    swap_running_store,
    thread_stack_end,
)
from cython.cimports.wasi_http.engine.turns import Turns, turns_of

from wasi_http.engine.config import StoreLimits
from wasi_http.engine.errors import MAX_FRAME_NAME, MAX_FRAMES, Trap, UnsupportedWasmtime, excerpt
from wasi_http.engine.module import C_KINDS, CoreType

__all__ = [
    "CoreFunc",
    "Fiber",
    "Func",
    "GuestCancelled",
    "HostFunc",
    "Memory",
    "Recheck",
    "Store",
    "leaving_stores",
    "live_fibers",
    "live_stores",
]


_live_stores = cython.declare(int64_t, 0)
_live_fibers = cython.declare(int64_t, 0)

# What makes the end of a store long: memory that the guest wrote to, in bytes, or time that it had for it, in ticks.
_LARGE = cython.declare(cython.size_t, 64 << 20)
_LONG = cython.declare(int64_t, 3)

# Such stores end in threads of their own, of which there are no more than these at once.
_MAX_THREADS = cython.declare(cython.int, 2)
_threads = cython.declare(cython.int, 0)
_leaving = cython.declare(int64_t, 0)
_departures = cython.declare(cython.pointer(Departure), cython.NULL)
# For the list and the number of threads.
_lock = cython.declare(PyThread_type_lock, PyThread_allocate_lock())

# How often, in microseconds, a store that has no place looks whether another has left.
_PAUSE = cython.declare(cython.uint, 200)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _delete(_: cython.p_void) -> cython.void:
    """Ends stores as long as there are any to end."""
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


_SPENT = "the store is spent: its guest trapped or was cancelled, or the store was closed"
_BACKTRACE = "guest backtrace:\n"
_EXHAUSTED = "call stack exhausted"
_CLOSED = "the store was closed while its guest waited"
_DEFAULT_LIMITS = StoreLimits()

# What suspending takes of a stack, in bytes: no guest code runs, wasmtime's own does.
_SUSPEND_STACK = cython.declare(cython.size_t, 64 << 10)


def live_stores() -> int:
    """How many stores exist in this process: a number for leak tests and for monitoring."""
    return _live_stores


def leaving_stores() -> int:
    """How many stores were closed and still have their place in the pool, until the system has taken their memory back.

    A store that finds no place for them waits, and with it the thread that makes it.
    """
    return _leaving


def live_fibers() -> int:
    """How many calls of guests have started and neither ended nor been dropped."""
    return _live_fibers


class GuestCancelled(BaseException):
    """Raised inside a host function when the guest's call was dropped while the function waited."""


@cython.cclass
class Recheck:
    """An awaitable for which a guest waits in another way: woken, it looks again, in a time slice of its own.

    A thousand guests may be woken in one turn of the event loop. What that costs there must not depend on what they
    asked for; all that does belongs in `look` and `close`.
    """

    def woken(self) -> Awaitable[None]:
        """Awaits the next wake-up since the last `look`."""
        raise NotImplementedError

    def look(self) -> Any:
        """What the guest waits for, once it is there and true. Called on the guest's stack, at least once."""
        raise NotImplementedError

    def close(self) -> None:
        """The wait is over, or cancelled."""
        raise NotImplementedError


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _expire(
    context: cython.pointer(C.wasmtime_context_t),
    data: cython.p_void,
    delta: cython.pointer(uint64_t),
    kind: cython.pointer(uint8_t),
) -> cython.pointer(C.wasmtime_error_t):
    return lib.wasmtime_error_new(b"what a host function has the guest do takes too long")


@cython.cclass
class Store:
    """What one guest and its instances live in; it ends with them.

    ``data`` is the embedder's own state: host functions that ask for it receive it. A store belongs to one thread at
    a time, and is useless after a trap, a deadline or a cancelled call.
    """

    def __cinit__(self):
        global _live_stores
        self.pointer = cython.NULL
        self.future = cython.NULL
        _live_stores += 1

    def __init__(self, engine: Engine, data: Any = None, limits: StoreLimits | None = None) -> None:
        self.engine = engine
        self.clock = engine.clock
        self.data = data
        if _leaving > 0 and _live_stores + _leaving > engine.max_instances:
            with cython.nogil:
                while _leaving > 0 and _live_stores + _leaving > self.engine.max_instances:
                    usleep(_PAUSE)
        self.pointer = lib.wasmtime_store_new(engine.pointer, cython.cast(cython.p_void, self), cython.NULL)
        self.context = lib.wasmtime_store_context(self.pointer)
        if limits is None:
            limits = _DEFAULT_LIMITS
        lib.wasmtime_store_limiter(
            self.pointer, limits.memory_size, limits.table_elements, limits.instances, limits.tables, limits.memories
        )

    def close(self) -> bool:
        """Frees the instances at once, for those who do not want to wait for the garbage collector. Idempotent.

        Says whether they are large, and counted by `leaving_stores` for a while.
        """
        return self.end(False)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def end(self, abandon: cython.bint) -> cython.int:
        leaves: cython.bint = False
        if self.executing:
            raise RuntimeError("the store is executing a guest")
        # What the guest holds takes time to release, which is taken from the turn of the event loop.
        self.clock.enter()
        try:
            self.drop_call(abandon)
            instance, self.instance = self.instance, None
            if self.pointer != cython.NULL:
                leaves = self.delete()
                self.spent = True
            _disown(self.items)
            self.items = None
            self.pending = self.answer = self.failure = None
            if instance is not None:
                instance.close()
        finally:
            self.clock.leave()
        return leaves

    def __del__(self):
        if self.clock is None:
            return  # its arguments were wrong
        if Py_IsFinalizing():
            self.desert()
        else:
            self.end(True)

    def enter(self) -> cython.int:
        if self.engine.forked:
            raise RuntimeError("an engine does not work in a forked process, whose threads are gone: spawn it")
        # Under the GIL, so the test and the mark cannot be torn apart by another thread.
        if self.executing:
            raise RuntimeError("a store can be used by one thread at a time and cannot be entered again")
        if self.future != cython.NULL and self.thread != PyThread_get_thread_ident():
            # What waits on the fiber's stack has the Python state of the thread that it began in.
            raise RuntimeError("a call goes on, and ends, in the thread that it began in")
        if self.spent:
            raise RuntimeError(_SPENT)
        self.executing = True
        self.clock.enter()
        return 0

    def leave(self) -> cython.void:
        self.executing = False
        self.clock.leave()

    def drop_call(self, abandon: cython.bint) -> cython.int:
        """Unwinds the guest whose call is under way, if one is; the store is spent then.

        In another thread than the guest's it cannot be: with ``abandon`` it is left as it is, for ever.
        """
        if self.future == cython.NULL:
            return 0
        if Py_IsFinalizing():
            # Unwinding it would run host functions, whose modules are half gone.
            self.desert()
            return 0
        if abandon and self.thread != PyThread_get_thread_ident():
            # Unwinding it here would end the process.
            self.desert()
            warnings.warn("a store went away in another thread than its guest's: its memory is lost", ResourceWarning)
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
            waiter.cancel()  # of which `drive` makes an error
        return 0

    def desert(self) -> cython.void:
        """Leaves a call that is under way as it is, for ever, and with it the guest's memory."""
        if self.future != cython.NULL:
            self.future = cython.NULL
            self.pointer = cython.NULL
        self.spent = True

    def enable_fibers(self) -> cython.int:
        # Only now: wasmtime refuses to instantiate synchronously once a store may yield.
        if not self.on_fiber:
            self.on_fiber = True
            lib.wasmtime_context_epoch_deadline_async_yield_and_update(self.context, 1)
        return 0

    def stack_left(self) -> cython.size_t:
        """What is left of the stack that this is called on: of this store's fiber, or of the thread's own."""
        end: cython.size_t = self.stack_end
        if end == 0:
            # A start function, in the midst of another store's host function perhaps.
            if running_store != cython.NULL:
                end = cython.cast(Store, running_store).stack_end
            else:
                end = thread_stack_end()
        here: cython.size_t = stack_pointer()
        return here - end if here > end else 0

    def call_pinned(self, function: Func, raw: cython.pointer(C.wasmtime_val_raw_t), n: cython.size_t) -> cython.int:
        """Calls the guest in the midst of a host function in Python. It has one time slice and may not wait.

        Python's frames may not be left behind on a fiber that is suspended.
        """
        if self.on_fiber:
            lib.wasmtime_store_epoch_deadline_callback(self.pointer, _expire, cython.NULL, cython.NULL)
        lib.wasmtime_context_set_epoch_deadline(self.context, 2)
        self.pinned = True
        try:
            function.call_raw(raw, n)
        finally:
            self.pinned = False
            if self.on_fiber:
                lib.wasmtime_context_epoch_deadline_async_yield_and_update(self.context, 1)
                lib.wasmtime_context_set_epoch_deadline(self.context, 2)
        return 0

    def suspend(self) -> object:
        """Called on the fiber, in a host function: waits until ``pending`` is done, and returns its value.

        The caller has set it, and keeps no reference to anything: what a suspended stack owns, no garbage collector
        finds.
        """
        raw: C.wasmtime_val_raw_t[1]
        item: C.wasmtime_extern_t
        trap: cython.pointer(C.wasm_trap_t) = cython.NULL
        error: cython.pointer(C.wasmtime_error_t) = cython.NULL
        if not self.on_fiber:
            self.discard_pending()
            raise Trap("a start function called a host function that has to wait, which is not possible there")
        if self.pinned:
            self.discard_pending()
            raise Trap("what a host function has the guest do may not wait")
        if self.stack_left() < _SUSPEND_STACK:
            self.discard_pending()
            raise Trap(_EXHAUSTED)
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
            # It has waited, so it has a slice again.
            lib.wasmtime_context_set_epoch_deadline(self.context, 2)
            if not rechecks:
                break
        answer, self.answer = self.answer, None
        if self.answer_is_error:
            raise answer
        return answer

    def look(self) -> cython.bint:
        """Whether what the guest waits for is there, or failed: as ``answer``, and nothing is pending any more."""
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
        # A coroutine that nobody awaits would warn when it is collected.
        pending, self.pending = self.pending, None
        close = getattr(pending, "close", None)
        if close is not None:
            close()
        return 0

    def __repr__(self) -> str:
        return f"<Store of {self.data!r}>"

    def delete(self) -> cython.bint:
        """Ends the store of wasmtime: at once, or in another thread (True) if it is large.

        The system takes 70 ms to take back a GiB that was written to.
        """
        global _departures, _threads, _leaving
        pointer = self.pointer
        self.pointer = cython.NULL
        departure: cython.pointer(Departure) = cython.NULL
        # If there are more stores than places already, one waits for this. A forked process has none of the threads.
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
        """Whether the guest may have written to so much memory that taking it back takes long."""
        return self.ticks >= _LONG or self.largest() >= _LARGE

    def largest(self) -> cython.size_t:
        """The size of the largest memory that the host knows."""
        size: cython.size_t = 0
        if self.items is not None:
            for item in self.items:
                if isinstance(item, Memory):
                    memory = cython.address(cython.cast(Memory, item).memory)
                    size = max(size, lib.wasmtime_memory_data_size(self.context, memory))
        return size

    @property
    def memory_size(self) -> int:
        """Bytes of the guest's memory, the largest of those that the host knows; 0 once the store is closed."""
        return 0 if self.pointer == cython.NULL else self.largest()

    def __dealloc__(self):
        global _live_stores
        _live_stores -= 1
        _disown(self.items)
        if self.pointer != cython.NULL:
            lib.wasmtime_store_delete(self.pointer)


@cython.cfunc
def _disown(items: list | None):
    # Items point back without owning, so that a store without other owners goes away at once.
    if items is None:
        return
    for item in items:
        if isinstance(item, Memory):
            cython.cast(Memory, item).context = cython.NULL
        elif item is not None:
            cython.cast(Func, item).store = cython.NULL


@cython.cclass
class HostFunc:
    """A function that guests call; subclasses implement ``call`` over raw values. ``type`` is its `CoreType`."""

    def call(self, store: Store, raw: cython.pointer(C.wasmtime_val_raw_t)) -> cython.int:
        raise Trap(f"the host function {self.name} is not implemented")


@cython.cclass
class CoreFunc(HostFunc):
    """A host function over core values: ``function(store, *numbers)`` returns a number, None, or an awaitable of it."""

    def __init__(self, name: str, type: CoreType, function: Callable[..., Any]) -> None:
        if len(type.results) > 1:
            raise ValueError("a host function has one result at most")
        self.name = name
        self.type = type
        self.function = function
        self.kinds = type.params
        self.result = type.results[0] if type.results else ""

    def call(self, store: Store, raw: cython.pointer(C.wasmtime_val_raw_t)) -> cython.int:
        i: cython.Py_ssize_t
        arguments: list | None = [store]
        for i in range(len(self.kinds)):
            arguments.append(_number(self.kinds[i], raw[i].i32, raw[i].i64, raw[i].f32, raw[i].f64))
        answer = self.function(*arguments)
        if isinstance(answer, Awaitable):
            store.pending = answer
            arguments = answer = None
            answer = store.suspend()
        if self.result == "i32":
            raw[0].i32 = answer
        elif self.result == "i64":
            raw[0].i64 = answer
        elif self.result == "f32":
            raw[0].f32 = answer
        elif self.result == "f64":
            raw[0].f64 = answer
        return 0


@cython.cfunc
def _number(kind: str, i32: int32_t, i64: int64_t, f32: cython.float, f64: cython.double) -> object:
    return i32 if kind == "i32" else i64 if kind == "i64" else f32 if kind == "f32" else f64


def host_callback(
    environment: cython.p_void,
    caller: cython.pointer(C.wasmtime_caller_t),
    raw: cython.pointer(C.wasmtime_val_raw_t),
    count: cython.size_t,
) -> cython.pointer(C.wasm_trap_t):
    # Borrowed, as on a fiber's stack everything is while it is suspended.
    store: cython.p_void = lib.wasmtime_context_get_data(lib.wasmtime_caller_context(caller))
    if cython.cast(Store, store).stack_end == 0 and cython.cast(Store, store).future != cython.NULL:
        # Called first, from a guest that may have used up its share.
        cython.cast(Store, store).stack_end = stack_pointer() - cython.cast(Store, store).engine.fiber_stack
    cython.cast(Store, store).spun = 0
    try:
        cython.cast(HostFunc, environment).call(cython.cast(Store, store), raw)
    except BaseException as failure:
        # The first failure is the cause; later ones come from frames that are being unwound.
        if cython.cast(Store, store).failure is None:
            cython.cast(Store, store).failure = failure
        return lib.wasmtime_trap_new(b"host", 4)
    return cython.NULL


@cython.cclass
class Memory:
    """One linear memory of one store."""

    def span(self, pointer: uint64_t, length: uint64_t) -> cython.pointer(uint8_t):
        context = self.context
        if context == cython.NULL:
            raise RuntimeError("the store is closed")
        size: uint64_t = lib.wasmtime_memory_data_size(context, cython.address(self.memory))
        if pointer > size or length > size - pointer:
            raise Trap(f"pointer out of bounds: {length} bytes at {pointer} in a memory of {size}")
        return lib.wasmtime_memory_data(context, cython.address(self.memory)) + pointer

    def __len__(self) -> int:
        if self.context == cython.NULL:
            raise RuntimeError("the store is closed")
        return lib.wasmtime_memory_data_size(self.context, cython.address(self.memory))

    def read(self, pointer: int, length: int) -> bytes:
        """A copy of ``length`` bytes from ``pointer`` on; raises `Trap` out of bounds."""
        return PyBytes_FromStringAndSize(cython.cast(cython.p_char, self.span(pointer, length)), length)


@cython.cclass
class Func:
    """One function of one store."""

    def call_raw(self, args_and_results: cython.pointer(C.wasmtime_val_raw_t), n: cython.size_t) -> cython.int:
        trap: cython.pointer(C.wasm_trap_t) = cython.NULL
        error: cython.pointer(C.wasmtime_error_t) = cython.NULL
        if self.store == cython.NULL:
            raise RuntimeError("the store is closed")
        # Borrowed: the guest may be suspended.
        store = self.store
        context = cython.cast(Store, store).context
        # wasmtime gives the guest the same stack with each entry, whether it is there or not.
        if cython.cast(Store, store).stack_left() < cython.cast(Store, store).engine.entry_stack:
            raise Trap(_EXHAUSTED)
        # The GIL must be free: the nested guest may be suspended, and then the main stack takes it.
        with cython.nogil:
            error = lib.wasmtime_func_call_unchecked(
                context, cython.address(self.function), args_and_results, n, cython.address(trap)
            )
        if error != cython.NULL or trap != cython.NULL:
            raise_wasm(cython.cast(Store, store), trap, error)
        return 0


@cython.cclass
class Fiber:
    """One call of a guest's function: step it until it is done, awaiting ``store.pending`` in between."""

    def __cinit__(self):
        global _live_fibers
        self.trap = cython.NULL
        self.error = cython.NULL
        _live_fibers += 1

    @staticmethod
    def of(store: Store, item: int, type: CoreType, *numbers: float) -> Fiber:
        """A call of the store's ``item``-th wanted function with core values; see `result`."""
        fiber: Fiber = Fiber.__new__(Fiber)
        i: cython.Py_ssize_t
        for i in range(len(numbers)):
            kind = type.params[i]
            fiber.arguments[i].kind = C_KINDS[kind]
            if kind == "i32":
                fiber.arguments[i].of.i32 = numbers[i]
            elif kind == "i64":
                fiber.arguments[i].of.i64 = numbers[i]
            elif kind == "f32":
                fiber.arguments[i].of.f32 = numbers[i]
            else:
                fiber.arguments[i].of.f64 = numbers[i]
        fiber.result_kinds = type.results
        fiber.start(store.items[item], len(numbers), len(type.results))
        return fiber

    @property
    def result(self) -> float | None:
        """The core value that the guest returned, once the call is done."""
        value = cython.address(self.results[0].of)
        if not self.done or not self.result_kinds:
            return None
        return _number(self.result_kinds[0], value.i32, value.i64, value.f32, value.f64)

    def poll(self) -> bool:
        """Runs the guest until it is done (True), suspends, or its time slice ends. Raises what ended it."""
        return self.step()

    def start(self, function: Func, params: cython.size_t, results: cython.size_t) -> cython.int:
        """The caller has filled ``arguments``; nothing runs before the first step."""
        if function.store == cython.NULL:
            raise RuntimeError("the store is closed")
        store: Store = cython.cast(Store, function.store)
        if store.spent:
            raise RuntimeError(_SPENT)
        if store.future != cython.NULL:
            raise RuntimeError("the store is busy with another call")
        self.store = store
        store.enable_fibers()
        # Without time slices the first one may be long: other threads need the interpreter meanwhile.
        self.begun = not store.engine.interruptible
        # One tick may come at once: two make sure that a short call is not interrupted.
        lib.wasmtime_context_set_epoch_deadline(store.context, 2)
        store.thread = PyThread_get_thread_ident()
        store.stack_end = 0
        store.future = lib.wasmtime_func_call_async(
            store.context,
            cython.address(function.function),
            self.arguments,
            params,
            self.results,
            results,
            cython.address(self.trap),
            cython.address(self.error),
        )
        return 0

    def step(self) -> cython.bint:
        store: Store = self.store
        done: cython.bint
        if self.done:
            return True
        if store.future == cython.NULL:
            raise RuntimeError(_SPENT)
        store.enter()
        future = store.future
        if self.begun:
            state = PyEval_SaveThread()
        else:
            self.begun = True
            state = PyThreadState_Get()
        ticks: int64_t = store.clock.ticks
        outer = swap_running_store(cython.cast(cython.p_void, store))
        done = lib.wasmtime_call_future_poll(future)
        swap_running_store(outer)
        if not PyGILState_Check():
            PyEval_RestoreThread(state)
        store.leave()
        ticks = store.clock.ticks - ticks
        self.used += ticks
        store.ticks += ticks
        if not done:
            # If it waits for the host, it called it.
            store.spun += 1
        else:
            self.done = True
            lib.wasmtime_call_future_delete(store.future)
            store.future = cython.NULL
            if self.trap != cython.NULL or self.error != cython.NULL:
                store.spent = True
                trap, error = self.trap, self.error
                self.trap = cython.NULL
                self.error = cython.NULL
                raise_wasm(store, trap, error)
        return done

    async def drive(self) -> None:
        """Steps until the call is done. Cancelled, or when it fails, the guest is unwound and the store is spent."""
        store: Store = self.store
        turns: Turns = turns_of(store.clock)
        waiting: cython.bint = False
        try:
            if not self.begun and not turns.is_open():
                await turns.wait(0)
            while not self.step():
                pending = store.pending
                waiting = True
                store.waiter = asyncio.current_task()
                if pending is None:
                    await turns.wait(self.used)
                elif isinstance(pending, Recheck):
                    # It stays pending, and is closed with the call.
                    await pending.woken()
                    pending = None
                    if store.future != cython.NULL and not turns.is_open():
                        await turns.wait(self.used)
                    store.resumed = True
                else:
                    store.pending = None
                    try:
                        store.answer = await pending
                        store.answer_is_error = False
                    except Exception as error:
                        store.answer = error
                        store.answer_is_error = True
                    if store.future != cython.NULL and not turns.is_open():
                        await turns.wait(self.used)
                    store.resumed = True
                store.waiter = None
                waiting = False
                if store.future == cython.NULL:
                    raise RuntimeError(_CLOSED)
        except GeneratorExit:
            store.waiter = None
            if store.thread == PyThread_get_thread_ident():
                self.close()
            # Else the garbage collector runs in another thread. The fiber is garbage, too.
            raise
        except BaseException as error:
            if waiting and store.future == cython.NULL:
                # Somebody else has closed the store, which is no cancellation of this task.
                task = asyncio.current_task()
                if task is not None and isinstance(error, asyncio.CancelledError):
                    task.uncancel()
                raise RuntimeError(_CLOSED) from None
            store.waiter = None
            try:
                if isinstance(error, asyncio.CancelledError):
                    await turns.wait_to_end()
            finally:
                self.close()
            raise

    def close(self) -> None:
        """Drops the call: the guest is unwound and its store is spent. Does nothing to a call that is done."""
        if not self.done and self.store is not None:
            self.store.drop_call(False)
            self.done = True

    def __del__(self):
        # Before the garbage collector takes anything apart: the guest's frames still refer to this object.
        if not self.done and self.store is not None:
            self.store.drop_call(True)
            self.done = True

    def __dealloc__(self):
        global _live_fibers
        _live_fibers -= 1
        if self.trap != cython.NULL:
            lib.wasm_trap_delete(self.trap)
        if self.error != cython.NULL:
            lib.wasmtime_error_delete(self.error)


def raise_wasm(
    store: Store, trap: cython.pointer(C.wasm_trap_t), error: cython.pointer(C.wasmtime_error_t)
) -> cython.int:
    """Takes the trap and the error and raises what caused them: the host function's exception, or a `Trap`."""
    text: C.wasm_byte_vec_t
    frames: C.wasm_frame_vec_t
    failure, store.failure = store.failure, None
    if failure is not None and _is_traced(failure):
        # It comes up through guests and host functions by turns: the first backtrace has them all.
        if trap != cython.NULL:
            lib.wasm_trap_delete(trap)
        if error != cython.NULL:
            lib.wasmtime_error_delete(error)
        raise failure
    if trap != cython.NULL:
        lib.wasm_trap_message(trap, cython.address(text))
        lib.wasm_trap_trace(trap, cython.address(frames))
    else:
        lib.wasmtime_error_message(error, cython.address(text))
        lib.wasmtime_error_wasm_trace(error, cython.address(frames))
    message = PyBytes_FromStringAndSize(text.data, text.size).decode(errors="replace").rstrip("\0")
    lib.wasm_byte_vec_delete(cython.address(text))
    backtrace = _backtrace(cython.address(frames))
    lib.wasm_frame_vec_delete(cython.address(frames))
    # Frames point into what they came from: that goes last.
    if trap != cython.NULL:
        lib.wasm_trap_delete(trap)
    if error != cython.NULL:
        lib.wasmtime_error_delete(error)
    if failure is None:
        raise Trap(_cause(message), backtrace)
    if isinstance(failure, Trap):
        failure.backtrace = backtrace
    elif backtrace and not isinstance(failure, GuestCancelled):
        failure.add_note(_BACKTRACE + backtrace)
    raise failure


@cython.cfunc
def _is_traced(failure: BaseException) -> cython.bint:
    if isinstance(failure, Trap):
        return bool(failure.backtrace)
    return any(isinstance(note, str) and note.startswith(_BACKTRACE) for note in getattr(failure, "__notes__", ()))


@cython.cfunc
def _cause(message: str) -> str:
    # wasmtime prints the backtrace first and the cause last; the backtrace travels on its own here.
    cause = message.rpartition("Caused by:")[2].strip()
    return cause.removeprefix("wasm trap: ")


@cython.cfunc
def _backtrace(frames: cython.pointer(C.wasm_frame_vec_t)) -> str:
    i: cython.size_t
    lines: list = []
    for i in range(min(frames.size, cython.cast(cython.size_t, MAX_FRAMES))):
        frame = frames.data[i]
        name = lib.wasmtime_frame_func_name(frame)
        module = lib.wasmtime_frame_module_name(frame)
        index: cython.uint = lib.wasm_frame_func_index(frame)
        what = f"<wasm function {index}>" if name == cython.NULL else _name(name)
        where = "" if module == cython.NULL else _name(module) + "!"
        lines.append(f"  {i}: {where}{what} at offset {lib.wasm_frame_module_offset(frame):#x}")
    return "\n".join(lines)


@cython.cfunc
def _name(raw: cython.pointer(cython.const[C.wasm_byte_vec_t])) -> str:
    return excerpt(PyBytes_FromStringAndSize(raw.data, raw.size).decode(errors="replace"), MAX_FRAME_NAME)
