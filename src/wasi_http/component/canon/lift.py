"""Lifted guest functions, and calls of them."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import cython
from cython.cimports.wasi_http.component.abi.context import LiftLowerContext
from cython.cimports.wasi_http.component.abi.signature import Signature
from cython.cimports.wasi_http.component.canon.instances import Instances, context_of, instances_of
from cython.cimports.wasi_http.engine import libwasmtime as C
from cython.cimports.wasi_http.engine.fiber import Fiber
from cython.cimports.wasi_http.engine.func import Func
from cython.cimports.wasi_http.engine.host import HostFunc
from cython.cimports.wasi_http.engine.store import Store

from wasi_http.component.model.values import Err
from wasi_http.engine.module import C_KINDS, CoreType

__all__ = ["Call", "CallTrampoline", "Lifted"]


@cython.final
@cython.cclass
class CallTrampoline(HostFunc):
    """The entry of fibers whose arguments or results pass through memory: realloc and post-return run on them, too."""

    def __init__(self) -> None:
        self.name = "entry"
        self.type = CoreType((), ())

    def call(self, store: Store, raw: cython.pointer(C.wasmtime_val_raw_t)) -> cython.int:
        values: C.wasmtime_val_raw_t[16]
        core: cython.int = _pass(store, values)
        cython.cast(Func, store.captured[core]).call_raw(values, 16)
        flat: C.wasmtime_val_raw_t = values[0]
        options: cython.int = 0
        post_return: cython.int = _return(store, values, cython.address(options))
        if post_return >= 0:
            values[0] = flat
            context_of(store, options).instance.may_leave = False
            try:
                cython.cast(Func, store.captured[post_return]).call_raw(values, 1)
            finally:
                context_of(store, options).instance.may_leave = True
        return 0


def _pass(store: Store, values: cython.pointer(C.wasmtime_val_raw_t)) -> cython.int:
    """Lowers the arguments of the starting call; returns the position of its function."""
    instances: Instances = instances_of(store)
    task: Task = cython.cast(Task, instances.task)
    function: Lifted = task.function
    arguments, task.arguments = task.arguments, None
    function.signature.lower_params(context_of(store, function.options), values, arguments)
    return function.core


def _return(
    store: Store, values: cython.pointer(C.wasmtime_val_raw_t), options: cython.pointer(cython.int)
) -> cython.int:
    """Lifts the result of the ending call; returns the position of its post-return or -1, and sets ``options``."""
    instances: Instances = instances_of(store)
    task: Task = cython.cast(Task, instances.task)
    instances.task = None
    function: Lifted = task.function
    options[0] = function.options
    cx: LiftLowerContext = context_of(store, function.options)
    cx.instance.handles.check_returned()
    try:
        task.result = function.signature.lift_result(cx, values)
    except Err as error:
        # An Err is a result and not a failure: it is raised when the guest has finished.
        task.error = error
    return function.post_return


@cython.final
@cython.cclass
class Task:
    """Shared by a call and the trampoline: the guest's stack must not refer to the `Call`."""


@cython.final
@cython.cclass
class Lifted:
    """A function that a component exports (specification: ``canon lift``)."""

    def __init__(self, name: str, signature: Signature, core: int, options: int, post_return: int, entry: int) -> None:
        self.name = name
        self.signature = signature
        self.core = core
        self.options = options
        self.post_return = post_return
        self.entry = entry
        self.kinds = [C_KINDS[kind] for kind in signature.lifted.params]
        self.results = len(signature.lifted.results)

    def expect_free(self, store: Store) -> cython.int:
        """Raises RuntimeError if the store has no instance, or is busy with another call."""
        if store.instance is None:
            raise RuntimeError(f"cannot call {self.name}: the store has no instance")
        if store.future != cython.NULL:
            raise RuntimeError("the store is busy with another call")
        return 0

    def start(self, store: Store, *arguments: Any) -> Call:
        """Returns a call, which does not run before the first `Call.poll`. Await it for its result."""
        i: cython.Py_ssize_t
        raw: C.wasmtime_val_raw_t[16]
        call: Call = Call.__new__(Call)
        fiber: Fiber = Fiber.__new__(Fiber)
        # Before anything is passed to the guest, which may have a call under way.
        self.expect_free(store)
        instances: Instances = instances_of(store)
        call.store = store
        call.function = self
        call.fiber = fiber
        if self.entry >= 0:
            task: Task = Task.__new__(Task)
            task.function = self
            task.arguments = arguments
            call.task = instances.task = task
            fiber.start(store.captured[self.entry], 0, 0)
            return call
        self.signature.lower_params(context_of(store, self.options), raw, arguments)
        kinds: list = self.kinds
        for i in range(len(kinds)):
            fiber.arguments[i].kind = kinds[i]
            fiber.arguments[i].of.i64 = raw[i].i64
        fiber.start(store.captured[self.core], len(kinds), self.results)
        return call

    async def __call__(self, store: Store, *arguments: Any) -> Any:
        """Calls the function; raises `Err` for an error result, and the exception that stopped the guest."""
        call: Call = self.start(store, *arguments)
        return await call

    def __repr__(self) -> str:
        return f"<guest function {self.name}: {self.signature.type}>"


@cython.final
@cython.cclass
class Call:
    """One call of a guest's function. Poll it once: most are done then. Otherwise await it in a separate task.

    End a waiting call in the thread where it began: await it to its end, cancel the task that awaits it, or `close` it.
    An abandoned one, or one whose event loop is closed, ends when the garbage collector finds it, or, if that runs in
    another thread, as soon as the call's event loop runs or a store is made in its thread. If its thread has ended, the
    store, its memory and its slot in the engine's pool leak, with a ResourceWarning.
    """

    def poll(self) -> bool:
        """Runs the guest until it is done (True) or has to wait; raises the exception that ended it."""
        if not self.fiber.step():
            return False
        self.finish()
        return True

    @property
    def done(self) -> bool:
        return self.fiber.done

    def finish(self) -> object:
        raw: C.wasmtime_val_raw_t[1]
        function: Lifted = self.function
        if function.entry < 0:
            cx: LiftLowerContext = context_of(self.store, function.options)
            if cx.instance.handles.borrows:
                self.store.spent = True
                cx.instance.handles.check_returned()
            raw[0].i64 = self.fiber.results[0].of.i64
            self.result = function.signature.lift_result(cx, raw)
        else:
            task: Task = self.task
            if task.error is not None:
                raise task.error
            self.result = task.result
        return self.result

    async def wait(self) -> Any:
        """Runs the guest to its end. Cancellation unwinds the guest and spends its store."""
        if not self.fiber.done:
            await self.fiber.drive()
            self.finish()
        return self.result

    def __await__(self) -> Generator[Any, None, Any]:
        return self.wait().__await__()

    def close(self) -> None:
        """Drops the call: unwinds the guest and spends its store."""
        self.fiber.close()
