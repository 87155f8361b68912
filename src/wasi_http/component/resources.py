"""Resources and the tables of handles to them.

Guests know resources by handles: positions in the table of their component instance (specification: CanonicalABI.md,
"Table State"). A host resource is represented by the Python object itself, a guest's own by the number it chose.
The table owns what its own handles stand for: when it goes away, everything left is dropped, children before parents.

Lend counts are not kept: a borrowed host resource is a Python reference, and while a host function runs no code of the
guest does, except ``realloc`` and ``post-return``, which may not leave the instance (``may_leave``).
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import int64_t, uint32_t
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.libc.string import memcpy

from wasi_http.engine.errors import Trap

__all__ = ["HandleTable", "Resource", "ResourceTable", "live_resources"]

_live = cython.declare(int64_t, 0)
_MAX_LENGTH = cython.declare(uint32_t, 1 << 28)


def live_resources() -> int:
    """How many handles exist in this process, for leak tests and for monitoring."""
    return _live


@cython.cclass
class Resource:
    """Base of what guests hold handles to. Compiled, so that the bookkeeping costs nothing; subclass it freely."""

    def attach(self, parent: Resource) -> None:
        """Makes this a child: the parent cannot leave the guest's hands while this one is in them."""
        self.parent = parent
        parent.children += 1

    def drop(self) -> None:
        """Called once, when the guest drops its handle or its instance goes away. Does nothing here."""

    def release(self) -> None:
        """Ends the resource's life in a guest: it is no child any more, and `drop` is called. Idempotent."""
        if self.released:
            return
        self.released = True
        _detach(self)
        self.drop()


@cython.cfunc
def _detach(resource: Resource):
    parent: Resource | None = resource.parent
    if parent is not None:
        parent.children -= 1
        resource.parent = None


@cython.cclass
class ResourceTable:
    """The account of one store: how many handles its guests hold, and how many they may."""

    def __init__(self, limit: int = 1_000_000) -> None:
        if limit < 1:
            raise ValueError(f"the limit of a resource table must be at least 1, not {limit}")
        self.limit = limit
        self.tables = []

    def __len__(self) -> int:
        return self.live

    def close(self) -> None:
        """Drops whatever the guests still hold. Idempotent. The first exception of a `drop` is raised at the end."""
        failure: BaseException | None = None
        for table in self.tables:
            try:
                table.close()
            except BaseException as error:
                failure = failure or error
        self.tables = []
        if failure is not None:
            raise failure


@cython.cclass
class HandleTable:
    """The handles of one component instance."""

    def __cinit__(self, account: ResourceTable):
        self.account = account
        self.entries = self.first
        self.capacity = 16
        self.length = 1
        self.reps = [None]
        self.may_leave = True
        account.tables.append(self)

    def insert(self, type: cython.p_void, rep: object, own: cython.bint) -> uint32_t:
        global _live
        handle: uint32_t
        account: ResourceTable = self.account
        if account.live >= account.limit:
            raise Trap(f"resource table has no free keys: the limit of {account.limit} resources is reached")
        if self.free:
            handle = self.free
            self.free = self.entries[handle].next_free
            self.reps[handle] = rep
        else:
            if self.length == self.capacity:
                self.grow()
            handle = self.length
            self.length += 1
            self.reps.append(rep)
        entry = cython.address(self.entries[handle])
        entry.type = type
        entry.own = own
        entry.used = True
        account.live += 1
        _live += 1
        if not own:
            self.borrows += 1
        return handle

    def grow(self) -> cython.int:
        if self.capacity >= _MAX_LENGTH:
            raise Trap("resource table has no free keys")
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
        """What a handle stands for, to be borrowed."""
        self.find(handle, type)
        return self.reps[handle]

    def take(self, handle: uint32_t, type: cython.p_void) -> object:
        """Takes the resource out of the guest's hands: the handle has to be an own handle without children."""
        own: cython.bint
        if not self.find(handle, type).own:
            raise Trap(f"cannot give away handle index {handle}: it is borrowed")
        rep = self.remove(handle, type, cython.address(own))
        if isinstance(rep, Resource):
            _detach(rep)
        return rep

    def remove(self, handle: uint32_t, type: cython.p_void, own: cython.pointer(cython.bint)) -> object:
        global _live
        entry = self.find(handle, type)
        rep = self.reps[handle]
        if entry.own and isinstance(rep, Resource) and cython.cast(Resource, rep).children:
            raise Trap(f"resource {cython.cast(object, type)} has children: drop them first")
        own[0] = entry.own
        if not entry.own:
            self.borrows -= 1
        entry.used = False
        entry.next_free = self.free
        self.free = handle
        self.reps[handle] = None
        self.account.live -= 1
        _live -= 1
        return rep

    def close(self) -> None:
        """Drops everything that own handles still stand for, children before parents. Idempotent."""
        global _live
        i: uint32_t
        left: list = []
        failure: BaseException | None = None
        for i in range(1, self.length):
            if self.entries[i].used:
                self.entries[i].used = False
                if self.entries[i].own and isinstance(self.reps[i], Resource):
                    left.append(self.reps[i])
                self.account.live -= 1
                _live -= 1
        self.length = 1
        self.free = 0
        self.reps = [None]
        left.reverse()  # what was made last goes first ...
        while left:
            ready = [resource for resource in left if not cython.cast(Resource, resource).children] or left
            taken = {id(resource) for resource in ready}
            left = [resource for resource in left if id(resource) not in taken]  # ... unless it has children
            for resource in ready:
                try:
                    resource.release()
                except BaseException as error:
                    failure = failure or error
        if failure is not None:
            raise failure

    def __len__(self) -> int:
        i: uint32_t
        return sum(1 for i in range(1, self.length) if self.entries[i].used)

    def __dealloc__(self):
        global _live
        i: uint32_t
        for i in range(1, self.length):
            if self.entries[i].used:
                _live -= 1
        if self.entries != self.first:
            free(self.entries)
