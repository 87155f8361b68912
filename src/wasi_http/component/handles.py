# ruff: noqa: F821 - what the .pxd declares needs no import here
"""Resources and the tables of handles to them.

Guests refer to resources by handles: positions in the table of their component instance (specification:
CanonicalABI.md, "Table State" and "Resource State"). A host resource is represented by the Python object itself, a
guest's by the number it chose. A table owns the resources of its own handles: when it is closed, they are dropped,
children before parents.

Host calls of an instance nest, so a table keeps their borrows on one stack; each call's part begins where the stack
ended when the call began.
"""

from __future__ import annotations

from collections.abc import Callable

import cython
from cython.cimports.cpython.ref import Py_XDECREF, Py_XINCREF, PyObject
from cython.cimports.libc.stdint import int32_t, int64_t, uint32_t
from cython.cimports.libc.stdlib import calloc, free, malloc
from cython.cimports.libc.string import memcpy

from wasi_http.component.model.types import ResourceType
from wasi_http.engine.errors import Trap

__all__ = [
    "GuestResource",
    "HandleTable",
    "Resource",
    "ResourceTable",
    "close_tables",
    "live_handles",
    "live_resources",
]

_resources = cython.declare(int64_t, 0)
_handles = cython.declare(int64_t, 0)
_MAX_LENGTH = cython.declare(uint32_t, 1 << 28)
_UNLIMITED = cython.declare(int64_t, (1 << 63) - 1)


def live_resources() -> int:
    """Returns the number of `Resource` objects in this process, held by guests or not: for leak tests, monitoring."""
    return _resources


def live_handles() -> int:
    """Returns the number of handles that guests hold in this process."""
    return _handles


@cython.cclass
class Resource:
    """Base of resources. Compiled, so that the bookkeeping costs nothing; subclass it freely."""

    def __cinit__(self):
        global _resources
        _resources += 1

    def attach(self, parent: Resource) -> None:
        """Makes this a child of ``parent``, which the guest cannot drop or give away while this one lives.

        Replaces a previous parent. Raises ValueError if ``parent`` is the resource itself.
        """
        if parent is self:
            raise ValueError("a resource cannot be its own child")
        _detach(self)
        self.parent = parent
        parent.children += 1

    def drop(self) -> None:
        """Called once, when the guest drops its handle or its instance is closed. Does nothing here; must not raise."""

    def release(self) -> None:
        """Detaches the resource from its parent and calls `drop`. Idempotent."""
        if self.released:
            return
        self.released = True
        _detach(self)
        self.drop()

    def charge(self, account: ResourceTable, size: int64_t) -> None:
        """Adds ``size`` bytes (may be negative) to what the host keeps for this resource while it exists.

        Raises `Trap` if all charges to ``account`` together exceed its ``memory``.
        """
        if account.charged + size > account.memory and size > 0:
            raise Trap(f"the guest has the host keep more than {account.memory} bytes for its resources")
        self.account = account
        self.charged += size
        account.charged += size

    def take_charge(self, other: Resource, account: ResourceTable) -> None:
        """Transfers the charge of another resource to this one."""
        size: int64_t = other.charged
        other.charged = 0
        self.account = account
        self.charged += size

    def __dealloc__(self):
        global _resources
        _resources -= 1
        if self.account is not None:
            self.account.charged -= self.charged
        # A child that the host never released must not hold its parent for ever.
        if self.parent is not None:
            self.parent.children -= 1


@cython.cfunc
def _detach(resource: Resource):
    parent: Resource | None = resource.parent
    if parent is not None:
        parent.children -= 1
        resource.parent = None


@cython.cclass
class ResourceTable:
    """The account of one store: limits on what its guests take of the host. Exceeding one is a `Trap`.

    ``limit``
        How many handles they may hold; None for any number.
    ``memory``
        How many bytes the host keeps for resources whose size guests choose (see `Resource.charge`); ``charged`` is
        the current total.
    ``value_limit``
        What the values passed in one call may cost on the host, in bytes.
    """

    def __init__(self, limit: int | None = 1_000_000, memory: int = 32 << 20, value_limit: int = 128 << 20) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"the limit of a resource table must be at least 1, not {limit}")
        if memory < 0:
            raise ValueError(f"the memory of a resource table must not be negative: {memory}")
        if not 1 <= value_limit < 1 << 32:
            raise ValueError(f"the limit of the values of a call must be 1 to {(1 << 32) - 1} bytes, not {value_limit}")
        self.limit = _UNLIMITED if limit is None else limit
        self.memory = memory
        self.value_limit = value_limit
        self.tables = []

    def __len__(self) -> int:
        return self.live

    def close(self) -> None:
        """Drops all resources that the guests still hold, in all tables, children before parents. Idempotent.

        What the drops raise is raised at the end: one exception as it is, several as an exception group.
        """
        close_tables(self.tables.copy())


@cython.cclass
class HandleTable:
    """The handles of one component instance."""

    def __cinit__(self, account: ResourceTable):
        self.account = account
        self.entries = self.first
        self.capacity = 16
        self.length = 1
        self.lent = self.first_lent
        self.lent_capacity = 26
        self.reps = [None]

    def insert(self, type: cython.p_void, rep: object, own: cython.bint) -> uint32_t:
        global _handles
        account: ResourceTable = self.account
        if account.live >= account.limit:
            raise Trap(f"resource table has no free keys: the limit of {account.limit} resources is reached")
        handle: uint32_t = self.free
        if handle:
            self.reps[handle] = rep
            self.free = self.entries[handle].link
        else:
            handle = self.length
            if handle == self.capacity:
                self.grow()
            if handle == 1 and self not in account.tables:
                # The account refers to tables only while they are in use, so that closed ones leave no cycle.
                account.tables.append(self)
            self.reps.append(rep)
            self.length = handle + 1
        entry = cython.address(self.entries[handle])
        Py_XINCREF(cython.cast(cython.pointer(PyObject), type))
        entry.type = type
        entry.link = 0
        entry.own = own
        entry.used = True
        account.live += 1
        _handles += 1
        if not own:
            self.borrows += 1
        return handle

    def grow(self) -> cython.int:
        if self.capacity >= _MAX_LENGTH:
            raise Trap(f"resource table has no free keys: {_MAX_LENGTH - 1} handles are in use")
        entries = cython.cast(cython.pointer(Entry), calloc(self.capacity * 2, cython.sizeof(Entry)))
        if entries == cython.NULL:
            raise MemoryError
        memcpy(entries, self.entries, self.capacity * cython.sizeof(Entry))
        if self.entries != self.first:
            free(self.entries)
        self.entries = entries
        self.capacity *= 2
        return 0

    def find(self, handle: uint32_t, type: cython.p_void) -> cython.pointer(Entry):
        if handle == 0 or handle >= self.length or not self.entries[handle].used:
            raise Trap(f"unknown handle index {handle}")
        entry = cython.address(self.entries[handle])
        if entry.type != type:
            raise Trap(
                f"handle index {handle} used with the wrong type: "
                f"expected {cython.cast(object, type)} but found {cython.cast(object, entry.type)}"
            )
        return entry

    def rep_of(self, handle: uint32_t, type: cython.p_void) -> object:
        """Returns the representation of a handle."""
        self.find(handle, type)
        return self.reps[handle]

    def lend(self, handle: uint32_t, type: cython.p_void) -> object:
        """Returns a handle's representation, lent to a host call until `end_lends`: the guest cannot give it away."""
        entry = self.find(handle, type)
        if self.lends == self.lent_capacity:
            self.grow_lent()
        self.lent[self.lends] = handle
        self.lends += 1
        entry.link += 1
        return self.reps[handle]

    def grow_lent(self) -> cython.int:
        lent = cython.cast(
            cython.pointer(uint32_t),
            malloc(cython.cast(cython.size_t, self.lent_capacity) * 2 * cython.sizeof(uint32_t)),
        )
        if lent == cython.NULL:
            raise MemoryError
        memcpy(lent, self.lent, self.lends * cython.sizeof(uint32_t))
        if self.lent != self.first_lent:
            free(self.lent)
        self.lent = lent
        self.lent_capacity *= 2
        return 0

    def end_lends(self, before: uint32_t) -> cython.void:
        """Returns the loans of a finished host call: all after the first ``before``.

        Calls nest: one that begins within another, in a destructor, ends within it.
        """
        while self.lends > before:
            self.lends -= 1
            self.entries[self.lent[self.lends]].link -= 1
        if before == 0 and self.lent != self.first_lent:
            free(self.lent)
            self.lent = self.first_lent
            self.lent_capacity = 26

    def check_returned(self) -> cython.int:
        """Raises `Trap` if a finished guest call has not dropped its borrows."""
        if self.borrows:
            raise Trap("borrow handles still remain at the end of the call")
        return 0

    def take(self, handle: uint32_t, type: cython.p_void) -> object:
        """Frees an own handle and returns its resource, which must not be lent nor have children."""
        own: cython.bint = False
        if not self.find(handle, type).own:
            raise Trap(f"cannot give away handle index {handle}: it is borrowed")
        rep = self.remove(handle, type, cython.address(own))
        if isinstance(rep, Resource):
            _detach(rep)
        return rep

    def remove(self, handle: uint32_t, type: cython.p_void, own: cython.pointer(cython.bint)) -> object:
        """Frees a handle of either kind, and sets ``own``; the caller drops the resource it returns."""
        global _handles
        entry = self.find(handle, type)
        if entry.link:
            raise Trap(f"cannot drop or give away handle index {handle}: a call that is running has borrowed it")
        rep = self.reps[handle]
        if entry.own and isinstance(rep, Resource) and cython.cast(Resource, rep).children:
            raise Trap(f"resource {cython.cast(object, type)} has children: drop them first")
        own[0] = entry.own
        if not entry.own:
            self.borrows -= 1
        entry.used = False
        entry.link = self.free
        self.free = handle
        self.reps[handle] = None
        self.account.live -= 1
        _handles -= 1
        Py_XDECREF(cython.cast(cython.pointer(PyObject), type))
        return rep

    def define(self, type: ResourceType, destructor: Callable[[int], object] | None = None) -> None:
        """Registers a resource type that this instance implements, with i32 representations and a ``destructor``.

        The destructor returns None when it is done, or an `engine.Fiber` that has yet to run.

        Borrows of the type are passed to this instance as representations, not as handles (specification:
        ``lower_borrow``).
        """
        if self.destructors is None:
            self.destructors = {}
        self.destructors[type] = destructor
        if self not in self.account.tables:
            self.account.tables.append(self)

    def add(self, type: ResourceType, rep: object, own: bool = True) -> int:
        """`insert` for Python callers: returns a new handle."""
        return self.insert(cython.cast(cython.p_void, type), rep, own)

    def get(self, handle: int, type: ResourceType) -> object:
        """`rep_of` for Python callers."""
        return self.rep_of(handle, cython.cast(cython.p_void, type))

    def pop(self, handle: int, type: ResourceType) -> object:
        """`take` for Python callers."""
        return self.take(handle, cython.cast(cython.p_void, type))

    def drop(self, handle: int, type: ResourceType) -> None:
        """Implements ``resource.drop``: ends a borrow, or drops the resource of an own handle."""
        own: cython.bint = False
        rep = self.remove(handle, cython.cast(cython.p_void, type), cython.address(own))
        if not own:
            return
        if isinstance(rep, Resource):
            rep.release()
        elif isinstance(rep, int):
            _finish(_destroy(self.account, type, rep), type)

    def end_call(self) -> None:
        """`end_lends` of all calls, for Python callers."""
        self.end_lends(0)

    def close(self) -> None:
        """Drops the resources of all own handles, children before parents. Idempotent.

        What the drops raise is raised at the end: one exception as it is, several as an exception group.
        """
        close_tables([self])

    def clear(self) -> list:
        """Empties the table; returns the host resources of its own handles."""
        global _handles
        i: uint32_t
        left: list = []
        reps: list = self.reps
        for i in range(1, self.length):
            if self.entries[i].used:
                self.entries[i].used = False
                if self.entries[i].own and isinstance(reps[i], Resource):
                    left.append(reps[i])
                self.account.live -= 1
                _handles -= 1
                Py_XDECREF(cython.cast(cython.pointer(PyObject), self.entries[i].type))
        self.length = 1
        self.free = 0
        self.borrows = 0
        self.lends = 0
        self.reps = [None]
        return left

    def __len__(self) -> int:
        i: uint32_t
        count: uint32_t = 0
        for i in range(1, self.length):
            count += self.entries[i].used
        return count

    def __dealloc__(self):
        global _handles
        i: uint32_t
        for i in range(1, self.length):
            if self.entries[i].used:
                _handles -= 1
                Py_XDECREF(cython.cast(cython.pointer(PyObject), self.entries[i].type))
        if self.entries != self.first:
            free(self.entries)
        if self.lent != self.first_lent:
            free(self.lent)


def close_tables(tables: list) -> None:
    """Drops the resources of all own handles in the tables, children before parents. Idempotent.

    What the drops raise is raised at the end: one exception as it is, several as an exception group.
    """
    table: HandleTable
    left: list = []
    for table in tables:
        if table in table.account.tables:
            table.account.tables.remove(table)
        left += table.clear()
    if left:
        _release(left)


@cython.cclass
class GuestResource:
    """A guest's resource, held by the host. Opaque: only the guest can interpret ``rep``.

    With ``owned`` the host must pass it on or `drop` it, or it lives as long as its store. A borrowed one is valid
    during the call that passed it. Once the store is closed, or spent after a trap, the resource is gone and its
    destructor no longer runs.
    """

    def __cinit__(self, account: ResourceTable, type: ResourceType, rep: int, owned: bool = True):
        self.account = account
        self.type = type
        self.rep = rep
        self.owned = owned

    def check(self) -> cython.int:
        if self.gone:
            raise ValueError(f"the resource {self.type} was dropped or given away")
        return 0

    def give(self) -> int32_t:
        """Returns the representation to pass to a guest; an owned one moves."""
        self.check()
        if not self.owned:
            raise ValueError(f"the resource {self.type} is borrowed: it cannot be given away")
        self.gone = True
        return self.rep

    def end(self) -> object:
        """Starts the destructor; returns the fiber that runs it, or None."""
        rep = self.give()
        try:
            return _destroy(self.account, self.type, rep)
        except RuntimeError:
            # The store is busy with another call: nothing has happened, so the caller may retry.
            self.gone = False
            raise

    def drop(self) -> None:
        """Runs the guest's destructor. Raises ValueError if the resource is borrowed or gone.

        Outside a host function the destructor has one time slice and may not wait: otherwise it is a `Trap`, which
        spends the store. `drop_async` has neither limit. Raises RuntimeError while another call waits.
        """
        _finish(self.end(), self.type)

    async def drop_async(self) -> None:
        """Does the same as `drop`, for destructors that may take long or wait."""
        fiber = self.end()
        if fiber is not None:
            await fiber.drive()

    def __repr__(self) -> str:
        return f"<{'own' if self.owned else 'borrow'} of the guest's {self.type} {self.rep}>"


@cython.cfunc
def _destroy(account: ResourceTable, type: object, rep: object) -> object:
    """Calls the destructor, if any; returns None, or the fiber that has yet to run it."""
    table: HandleTable
    for table in account.tables:
        if table.destructors is not None and type in table.destructors:
            destructor = table.destructors[type]
            return None if destructor is None else destructor(rep)
    return None


@cython.cfunc
@cython.exceptval(-1, check=False)
def _finish(fiber: object, type: object) -> cython.int:
    if fiber is not None and not fiber.poll():
        fiber.close()
        raise Trap(f"the destructor of {type} has to wait or takes too long: drop_async lets it")
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _release(left: list) -> cython.int:
    """Releases every resource once: children before parents, otherwise the newest first."""
    resource: Resource
    parent: Resource | None
    failures: list = []
    waiting: dict = {id(resource): resource for resource in left}
    children: dict = {}
    for resource in waiting.values():
        if resource.parent is not None:
            children[id(resource.parent)] = children.get(id(resource.parent), 0) + 1
    ready: list = [resource for resource in waiting.values() if id(resource) not in children]
    while waiting:
        # None is ready only if the host attached resources to each other in a circle: then any order will do.
        resource = ready.pop() if ready else next(iter(waiting.values()))
        if waiting.pop(id(resource), None) is None:
            continue
        parent = resource.parent
        try:
            resource.release()
        except BaseException as failure:
            failures.append(failure)
        if parent is not None:
            count = children[id(parent)] = children.get(id(parent), 0) - 1
            if count == 0 and id(parent) in waiting:
                ready.append(parent)
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise BaseExceptionGroup("dropping the resources of a store failed", failures)
    return 0
