"""The component instances of a store, and how they are made."""

from __future__ import annotations

import cython
from cython.cimports.wasi_http.component.abi.context import LiftLowerContext
from cython.cimports.wasi_http.component.canon.instances import instance_of
from cython.cimports.wasi_http.component.handles import ResourceTable, close_tables
from cython.cimports.wasi_http.component.instance import ComponentInstance, new_instance
from cython.cimports.wasi_http.engine import libwasmtime as C
from cython.cimports.wasi_http.engine.assembly import Assembly
from cython.cimports.wasi_http.engine.fiber import Fiber
from cython.cimports.wasi_http.engine.func import Func
from cython.cimports.wasi_http.engine.store import Store

from wasi_http.component.model.types import ResourceType

__all__ = ["Destructor", "Instances", "Prepared"]


@cython.final
@cython.freelist(64)  # one or more for each request
@cython.cclass
class Instances:
    """The component instances of a store, ``count`` of them, and the options of their canonical functions.

    ``options`` has, for each of the plan's `LiftLowerOptions`, the positions of memory and realloc among the assembly's
    captures, or -1, the encoding, and the position of the component instance.
    """

    def __init__(self, account: ResourceTable, options: tuple, count: int = 1) -> None:
        self.make(account, options, count)

    def make(self, account: ResourceTable, options: tuple, count: cython.int) -> cython.int:
        self.instances = [new_instance(account)]
        for _ in range(1, count):
            self.instances.append(new_instance(account))
        self.options = options
        self.contexts = [None] * len(options)
        return 0

    def context(self, store: Store, index: cython.int) -> LiftLowerContext:
        """Returns the options of a canonical function. Looks memories up lazily: instances are made one by one."""
        cx: LiftLowerContext | None = self.contexts[index]
        if cx is None or cx.memory is None:
            memory, realloc, encoding, instance = self.options[index]
            cx = LiftLowerContext.__new__(LiftLowerContext)
            cx.memory = store.captured[memory] if memory >= 0 else None
            cx.realloc = store.captured[realloc] if realloc >= 0 else None
            cx.instance = self.instances[instance]
            cx.encoding = encoding
            cx.limit = cx.instance.handles.account.value_limit
            self.contexts[index] = cx
        return cx

    def close(self) -> None:
        """Drops the resources of all instances' handles, children before parents."""
        close_tables([cython.cast(ComponentInstance, instance).handles for instance in self.instances])


@cython.final
@cython.cclass
class Destructor:
    """The destructor of a guest's resource type, for drops by the host. Called with the representation.

    Within a host function it runs synchronously on the calling guest's fiber, with one time slice, and may not wait;
    otherwise it gets its own fiber, which is returned.
    """

    def __init__(self, function: Func) -> None:
        self.function = function

    def __call__(self, rep: int) -> Fiber | None:
        raw: C.wasmtime_val_raw_t[1]
        fiber: Fiber
        # A reference to the store would be a cycle, and delay the end of the store.
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
class Prepared:
    """A linked component, of which instances are made in microseconds.

    ``options`` and ``count`` are those of `Instances`. ``resources`` are the types that the component implements, each
    with the position of its destructor among the assembly's captures, or -1, and that of its component instance.
    """

    def __init__(
        self,
        assembly: Assembly,
        options: tuple[tuple[int, int, int, int], ...],
        resources: tuple[tuple[ResourceType, int, int], ...] = (),
        count: int = 1,
    ) -> None:
        self.assembly = assembly
        self.options = options
        self.resources = resources
        self.count = count

    def instantiate(self, store: Store) -> None:
        """Instantiates the component in a fresh store; raises `Trap` when a start function fails.

        Handles are charged to ``store.data.table`` if that is a `ResourceTable`, else to a new account.
        """
        account = getattr(store.data, "table", None)
        if not isinstance(account, ResourceTable):
            account = ResourceTable()
        instances: Instances = Instances.__new__(Instances)
        instances.make(account, self.options, self.count)
        store.instance = instances
        self.assembly.run(store)
        for resource, position, instance in self.resources:
            destructor = Destructor(store.captured[position]) if position >= 0 else None
            instance_of(store, instance).handles.define(resource, destructor)
