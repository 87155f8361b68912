"""Component instances: host functions as guests see them, guests' functions as the host sees them, and their calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any

import cython
from cython.cimports.libc.stdint import uint32_t
from cython.cimports.wasi_http.component.abi.signature import LiftLowerContext, Signature
from cython.cimports.wasi_http.component.handles import HandleTable
from cython.cimports.wasi_http.engine import libwasmtime as C
from cython.cimports.wasi_http.engine.assembly import Assembly
from cython.cimports.wasi_http.engine.fiber import Fiber
from cython.cimports.wasi_http.engine.func import Func
from cython.cimports.wasi_http.engine.host import HostFunc
from cython.cimports.wasi_http.engine.store import Store

from wasi_http.component.handles import Resource, ResourceTable
from wasi_http.component.model.types import ResourceType
from wasi_http.component.model.values import Err
from wasi_http.engine.errors import Trap
from wasi_http.engine.module import C_KINDS, CoreType

__all__ = ["Call", "CallTrampoline", "Lifted", "Lowered", "Prepared", "ResourceDrop", "ResourceNew", "ResourceRep"]

# What functions that may suspend give when they do not; asking an abstract base class takes much longer.
_AT_ONCE = cython.declare(frozenset, frozenset({type(None), bool, int, bytes, list, str, tuple}))


@cython.final
@cython.cclass
class ComponentInstance:
    """What the instance has in one store."""

    def context(self, store: Store, index: cython.int) -> LiftLowerContext:
        """The options of a canonical function. Memories come to life one after another, so they are looked up late."""
        cx: LiftLowerContext | None = self.contexts[index]
        if cx is None or cx.memory is None:
            memory, realloc, encoding = self.specs[index]
            cx = LiftLowerContext(
                store.captured[memory] if memory >= 0 else None,
                store.captured[realloc] if realloc >= 0 else None,
                self.handles,
                encoding,
            )
            cx.limit = self.handles.account.value_limit
            self.contexts[index] = cx
        return cx

    def close(self) -> None:
        self.handles.close()


@cython.cfunc
@cython.inline
def _instance(store: Store) -> ComponentInstance:
    return cython.cast(ComponentInstance, store.instance)


@cython.cfunc
@cython.inline
@cython.exceptval(-1, check=False)
def _check_leave(instance: ComponentInstance) -> cython.int:
    if not instance.handles.may_leave:
        raise Trap("cannot leave the component instance: realloc and post-return may not call imports")
    return 0


@cython.final
@cython.cclass
class Lowered(HostFunc):
    """A host function behind the canonical ABI (specification: ``canon lower``)."""

    def __init__(
        self,
        name: str,
        signature: Signature,
        function: Callable[..., Any],
        context: int,
        passes_state: bool,
        may_suspend: bool,
    ) -> None:
        self.name = name
        self.type = signature.lowered
        self.signature = signature
        self.function = function
        self.context = context
        self.passes_state = passes_state
        self.may_suspend = may_suspend
        self.count = len(signature.params)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def call(self, store: Store, raw: cython.pointer(C.wasmtime_val_raw_t)) -> cython.int:
        instance: ComponentInstance | None = _instance(store)
        _check_leave(instance)
        cx: LiftLowerContext | None = instance.context(store, self.context)
        signature: Signature = self.signature
        pointer: uint32_t = signature.result_pointer(raw)
        arguments: tuple | None = signature.lift_params(cx, raw)
        function = self.function
        failed: cython.bint = False
        try:
            if self.passes_state:
                if self.count == 0:
                    result = function(store.data)
                elif self.count == 1:
                    result = function(store.data, arguments[0])
                else:
                    result = function(store.data, *arguments)
            elif self.count == 1:
                result = function(arguments[0])
            elif self.count == 2:
                result = function(arguments[0], arguments[1])
            else:
                result = function(*arguments)
            if self.may_suspend and type(result) not in _AT_ONCE and isinstance(result, Awaitable):
                # What holds them may lead to the task that waits for this guest.
                store.pending = result
                arguments = function = result = cx = instance = None
                result = store.suspend()
        except Err as error:
            if not signature.result_is_result:
                raise
            failed = True
            result = error.value
        if cx is None:
            cx = _instance(store).context(store, self.context)
        # Not where the exception is handled: lowering may run the guest's realloc, and that may be suspended.
        if failed:
            return signature.lower_error(cx, raw, result, pointer)
        return signature.lower_result(cx, raw, result, pointer)


@cython.final
@cython.cclass
class ResourceDrop(HostFunc):
    """``resource.drop``: of a host resource, or of the guest's own, whose destructor is then called."""

    def __init__(self, resource: ResourceType, destructor: int) -> None:
        self.name = f"[resource-drop]{resource}"
        self.type = CoreType(("i32",), ())
        self.resource = resource
        self.destructor = destructor

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def call(self, store: Store, raw: cython.pointer(C.wasmtime_val_raw_t)) -> cython.int:
        own: cython.bint = False
        instance: ComponentInstance | None = _instance(store)
        _check_leave(instance)
        rep = instance.handles.remove(raw[0].u32, cython.cast(cython.p_void, self.resource), cython.address(own))
        if not own:
            return 0
        if isinstance(rep, Resource):
            rep.release()
        elif self.destructor >= 0:
            raw[0].i32 = rep
            instance = rep = None
            cython.cast(Func, store.captured[self.destructor]).call_raw(raw, 1)
        return 0


@cython.final
@cython.cclass
class Destructor:
    """The destructor of a guest's resource, for a host that drops one. Called with the representation.

    In a host function it runs at once, on the fiber of the guest that called, where it has one time slice and may not
    wait; otherwise it needs a fiber of its own, which is returned.
    """

    def __init__(self, function: Func) -> None:
        self.function = function

    def __call__(self, rep: int) -> Fiber | None:
        raw: C.wasmtime_val_raw_t[1]
        fiber: Fiber
        # A reference to the store would be a cycle: stores end when nobody uses them.
        if self.function.store == cython.NULL:
            return None
        store: Store = cython.cast(Store, self.function.store)
        if store.executing:
            raw[0].i32 = rep
            self.function.call_pinned(raw, 1)
            return None
        if store.spent:
            return None
        fiber = Fiber.__new__(Fiber)
        fiber.arguments[0].kind = 0
        fiber.arguments[0].of.i32 = rep
        fiber.start(self.function, 1, 0)
        return fiber


@cython.final
@cython.cclass
class ResourceNew(HostFunc):
    """``resource.new``."""

    def __init__(self, resource: ResourceType) -> None:
        self.name = f"[resource-new]{resource}"
        self.type = CoreType(("i32",), ("i32",))
        self.resource = resource

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def call(self, store: Store, raw: cython.pointer(C.wasmtime_val_raw_t)) -> cython.int:
        instance: ComponentInstance = _instance(store)
        _check_leave(instance)
        raw[0].i64 = instance.handles.insert(cython.cast(cython.p_void, self.resource), raw[0].i32, True)
        return 0


@cython.final
@cython.cclass
class ResourceRep(HostFunc):
    """``resource.rep``."""

    def __init__(self, resource: ResourceType) -> None:
        self.name = f"[resource-rep]{resource}"
        self.type = CoreType(("i32",), ("i32",))
        self.resource = resource

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def call(self, store: Store, raw: cython.pointer(C.wasmtime_val_raw_t)) -> cython.int:
        instance: ComponentInstance = _instance(store)
        rep = instance.handles.rep_of(raw[0].u32, cython.cast(cython.p_void, self.resource))
        raw[0].i32 = rep
        return 0


@cython.final
@cython.cclass
class CallTrampoline(HostFunc):
    """Where a fiber starts when arguments or results pass through memory: realloc and post-return run on it too."""

    def __init__(self) -> None:
        self.name = "entry"
        self.type = CoreType((), ())

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def call(self, store: Store, raw: cython.pointer(C.wasmtime_val_raw_t)) -> cython.int:
        values: C.wasmtime_val_raw_t[16]
        core: cython.int = _pass(store, values)
        cython.cast(Func, store.captured[core]).call_raw(values, 16)
        flat: C.wasmtime_val_raw_t = values[0]
        post_return: cython.int = _return(store, values)
        if post_return >= 0:
            values[0] = flat
            _instance(store).handles.may_leave = False
            try:
                cython.cast(Func, store.captured[post_return]).call_raw(values, 1)
            finally:
                _instance(store).handles.may_leave = True
        return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _pass(store: Store, values: cython.pointer(C.wasmtime_val_raw_t)) -> cython.int:
    """Lowers the arguments of the call that begins; gives the position of its function."""
    instance: ComponentInstance = _instance(store)
    task: Task = instance.task
    function: Lifted = task.function
    arguments, task.arguments = task.arguments, None
    function.signature.lower_params(instance.context(store, function.context), values, arguments)
    return function.core


@cython.cfunc
@cython.exceptval(-2, check=False)
def _return(store: Store, values: cython.pointer(C.wasmtime_val_raw_t)) -> cython.int:
    """Lifts the result of the call that ends; gives the position of its post-return function, or -1."""
    instance: ComponentInstance = _instance(store)
    task: Task = instance.task
    instance.task = None
    function: Lifted = task.function
    if instance.handles.borrows:
        raise Trap("borrow handles still remain at the end of the call")
    try:
        task.result = function.signature.lift_result(instance.context(store, function.context), values)
    except Err as error:
        # The bad outcome is an answer and no failure: it is raised when the guest has finished.
        task.error = error
    return function.post_return


@cython.final
@cython.cclass
class Task:
    """What passes between a call and the entry function: on the guest's stack there may be no way to the `Call`."""


@cython.final
@cython.cclass
class Lifted:
    """A function that a component exports (specification: ``canon lift``)."""

    def __init__(self, name: str, signature: Signature, core: int, context: int, post_return: int, entry: int) -> None:
        self.name = name
        self.signature = signature
        self.core = core
        self.context = context
        self.post_return = post_return
        self.entry = entry
        self.kinds = [C_KINDS[kind] for kind in signature.lifted.params]
        self.results = len(signature.lifted.results)

    def expect_free(self, store: Store) -> cython.int:
        """Raises RuntimeError when the store has no instance, or one that is busy with another call."""
        if store.instance is None:
            raise RuntimeError(f"the store has no instance to call {self.name} of")
        if store.future != cython.NULL:
            raise RuntimeError("the store is busy with another call")
        return 0

    def start(self, store: Store, *arguments: Any) -> Call:
        """Prepares a call; nothing runs before the first `Call.poll`. Await the call for its result."""
        i: cython.Py_ssize_t
        raw: C.wasmtime_val_raw_t[16]
        call: Call = Call.__new__(Call)
        fiber: Fiber = Fiber.__new__(Fiber)
        # Before anything is given to the guest, which may have a call of its own under way.
        self.expect_free(store)
        instance: ComponentInstance = _instance(store)
        call.store = store
        call.function = self
        call.fiber = fiber
        if self.entry >= 0:
            task: Task = Task.__new__(Task)
            task.function = self
            task.arguments = arguments
            call.task = instance.task = task
            fiber.start(store.captured[self.entry], 0, 0)
            return call
        self.signature.lower_params(instance.context(store, self.context), raw, arguments)
        kinds: list = self.kinds
        for i in range(len(kinds)):
            fiber.arguments[i].kind = kinds[i]
            fiber.arguments[i].of.i64 = raw[i].i64
        fiber.start(store.captured[self.core], len(kinds), self.results)
        return call

    async def __call__(self, store: Store, *arguments: Any) -> Any:
        """Calls the function; raises `Err` for the bad outcome of a result, and whatever stopped the guest."""
        call: Call = self.start(store, *arguments)
        return await call

    def __repr__(self) -> str:
        return f"<guest function {self.name}: {self.signature.type}>"


@cython.final
@cython.cclass
class Call:
    """One call of a guest's function. Poll it once: most are done then. Otherwise await it, in a task of its own.

    A call that waits is ended in the thread in which it began: await it to its end, cancel the task that awaits it, or
    `close` it. One that is forgotten, or whose event loop is closed under it, ends when the garbage collector finds it:
    if that runs in another thread, as soon as the call's own event loop runs or a store is made there. When that thread
    has ended, the store, its memory and its slot in the engine's pool are lost, with a ResourceWarning.
    """

    def poll(self) -> bool:
        """Runs the guest until it is done (True) or has to wait. Raises what ended it."""
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
            instance: ComponentInstance = _instance(self.store)
            if instance.handles.borrows:
                self.store.spent = True
                raise Trap("borrow handles still remain at the end of the call")
            raw[0].i64 = self.fiber.results[0].of.i64
            self.result = function.signature.lift_result(instance.context(self.store, function.context), raw)
        else:
            task: Task = self.task
            if task.error is not None:
                raise task.error
            self.result = task.result
        return self.result

    async def wait(self) -> Any:
        """Runs the guest to its end. Cancelled, the guest is unwound and its store is spent."""
        if not self.fiber.done:
            await self.fiber.drive()
            self.finish()
        return self.result

    def __await__(self) -> Generator[Any, None, Any]:
        return self.wait().__await__()

    def close(self) -> None:
        """Drops the call: the guest is unwound and its store is spent."""
        self.fiber.close()


@cython.final
@cython.cclass
class Prepared:
    """A component that is linked: instances of it are a matter of microseconds.

    ``resources`` are the types that the component implements, with the positions of their destructors or -1.
    """

    def __init__(
        self,
        assembly: Assembly,
        contexts: tuple[tuple[int, int, int], ...],
        resources: tuple[tuple[ResourceType, int], ...] = (),
    ) -> None:
        self.assembly = assembly
        self.contexts = contexts
        self.resources = resources

    def instantiate(self, store: Store) -> None:
        """Instantiates the component in a fresh store; raises `Trap` when a start function fails.

        Handles are charged to ``store.data.table`` if that is a `ResourceTable`, else to an account of the store's own.
        """
        account = getattr(store.data, "table", None)
        if not isinstance(account, ResourceTable):
            account = ResourceTable()
        instance: ComponentInstance = ComponentInstance.__new__(ComponentInstance)
        instance.handles = HandleTable(account)
        instance.specs = self.contexts
        instance.contexts = [None] * len(self.contexts)
        store.instance = instance
        self.assembly.run(store)
        if self.resources:
            for resource, position in self.resources:
                destructor = Destructor(store.captured[position]) if position >= 0 else None
                instance.handles.define(resource, destructor)
