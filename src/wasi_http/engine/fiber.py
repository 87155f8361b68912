"""Fibers: the stacks that guests run on.

Each call of a guest runs on a fiber: a stack of its own. A host function that has to wait suspends the whole fiber,
nested guest frames included, and leaves an awaitable in ``store.pending``; the task that drives the fiber awaits it on
the main stack and steps the fiber again with the result. When its time slice ends, the fiber suspends with nothing
pending. Dropping a fiber unwinds the guest: waiting host functions see `GuestCancelled`.

Guests run without the GIL and host functions acquire it, except in a fiber's first time slice, which keeps it: most
guests finish in that, and acquiring the GIL is a large part of the cost of a host call. A host function that suspends
releases the GIL in either case, so code that a guest returns to checks whether this thread holds it.
"""

from __future__ import annotations

import asyncio

import cython
from cython.cimports.libc.stdint import int64_t
from cython.cimports.wasi_http.engine.func import Func
from cython.cimports.wasi_http.engine.host import core_number
from cython.cimports.wasi_http.engine.library import lib
from cython.cimports.wasi_http.engine.owners import current_thread
from cython.cimports.wasi_http.engine.python import (
    PyEval_RestoreThread,
    PyEval_SaveThread,
    PyGILState_Check,
    PyThreadState_Get,
)
from cython.cimports.wasi_http.engine.store import Recheck, Store, swap_running
from cython.cimports.wasi_http.engine.traps import raise_wasm
from cython.cimports.wasi_http.engine.turns import Turns, turns_of

from wasi_http.engine.errors import CLOSED, SPENT
from wasi_http.engine.module import C_KINDS, CoreType

__all__ = ["Fiber", "live_fibers"]

_live_fibers = cython.declare(int64_t, 0)

_CLOSED = "the store was closed while its guest waited"


def live_fibers() -> int:
    """Returns the number of guest calls that have started and neither ended nor been dropped."""
    return _live_fibers


class Fiber:
    """One call of a guest's function: step it until it is done, and await ``store.pending`` in between."""

    def __cinit__(self):
        global _live_fibers
        self.trap = cython.NULL
        self.error = cython.NULL
        _live_fibers += 1

    @staticmethod
    def of(store: Store, item: int, type: CoreType, *numbers: float) -> Fiber:
        """Returns a call of the store's ``item``-th captured function with core values; see `result`."""
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
        fiber.start(store.captured[item], len(numbers), len(type.results))
        return fiber

    @property
    def result(self) -> float | None:
        """Returns the guest's core value, once the call is done."""
        value = cython.address(self.results[0].of)
        if not self.done or not self.result_kinds:
            return None
        return core_number(self.result_kinds[0], value.i32, value.i64, value.f32, value.f64)

    def poll(self) -> bool:
        """Runs the guest until it is done (True), suspends, or its time slice ends. Raises what ended it."""
        return self.step()

    def start(self, function: Func, params: cython.size_t, results: cython.size_t) -> cython.int:
        """Prepares the call. The caller has filled ``arguments``; no guest code runs before the first step."""
        if function.store == cython.NULL:
            raise RuntimeError(CLOSED)
        store: Store = cython.cast(Store, function.store)
        if store.spent:
            raise RuntimeError(SPENT)
        if store.future != cython.NULL:
            raise RuntimeError("the store is busy with another call")
        self.store = store
        store.enable_fibers()
        # Without time slices the first step may be long: release the GIL for other threads.
        self.begun = not store.engine.interruptible
        # The next tick may be imminent: a deadline of two never interrupts a short call.
        lib.wasmtime_context_set_epoch_deadline(store.context, 2)
        store.thread = current_thread()
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
            raise RuntimeError(SPENT)
        store.enter()
        future = store.future
        if self.begun:
            state = PyEval_SaveThread()
        else:
            self.begun = True
            state = PyThreadState_Get()
        ticks: int64_t = store.clock.ticks
        outer = swap_running(cython.cast(cython.p_void, store))
        done = lib.wasmtime_call_future_poll(future)
        swap_running(outer)
        if not PyGILState_Check():
            PyEval_RestoreThread(state)
        store.leave()
        ticks = store.clock.ticks - ticks
        self.used += ticks
        store.ticks += ticks
        if not done:
            # A guest that waits for the host has called it.
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
        """Steps until the call is done. On failure or cancellation the guest is unwound and the store is spent."""
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
                    # It stays pending until `Store.look` succeeds or the call ends.
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
            if store.thread == current_thread():
                self.close()
            # Else the garbage collector runs in another thread; the fiber is garbage, too, and finalizes itself.
            raise
        except BaseException as error:
            if waiting and store.future == cython.NULL:
                # The store was closed elsewhere: this task was not cancelled.
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
        """Drops the call: unwinds the guest and spends its store. Does nothing once the call is done."""
        if not self.done and self.store is not None:
            self.store.drop_call(False)
            self.done = True

    def __del__(self):
        # Before the garbage collector clears anything: the guest's frames still refer to this object.
        if not self.done and self.store is not None and not self.store.leave_to_owner(self):
            self.store.drop_call(True)
            self.done = True

    def __dealloc__(self):
        global _live_fibers
        _live_fibers -= 1
        if self.trap != cython.NULL:
            lib.wasm_trap_delete(self.trap)
        if self.error != cython.NULL:
            lib.wasmtime_error_delete(self.error)
