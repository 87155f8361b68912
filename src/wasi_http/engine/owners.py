"""Objects that only their own thread may close: a waiting guest must be unwound in the thread where its call began.

The garbage collector runs in any thread. Another thread's garbage is kept alive and handed over: the owner closes it in
its event loop, or at the latest when it makes a store.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref

import cython
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.wasi_http.engine.python import (
    PyInterpreterState_Get,
    PyInterpreterState_ThreadHead,
    PyThreadState_Get,
    PyThreadState_GetID,
    PyThreadState_Next,
)

__all__ = ["close_owned"]

# Pairs of an owner and an object that it must close.
_owned = cython.declare(list, [])
# Weak references to event loops, by the thread in which a guest last ran in one.
_loops = cython.declare(dict, {})


@cython.cfunc
@cython.exceptval(check=False)
def current_thread() -> uint64_t:
    """Returns a number unique to this thread. Thread identifiers of the system are reused."""
    return PyThreadState_GetID(PyThreadState_Get())


@cython.cfunc
def _lives(thread: uint64_t) -> cython.bint:
    state = PyInterpreterState_ThreadHead(PyInterpreterState_Get())
    while state != cython.NULL:
        if PyThreadState_GetID(state) == thread:
            return True
        state = PyThreadState_Next(state)
    return False


@cython.cfunc
def keep_loop(loop: asyncio.AbstractEventLoop) -> cython.void:
    """Records that ``loop`` runs guests in this thread."""
    for thread in [thread for thread, reference in _loops.items() if reference() is None]:
        _loops.pop(thread, None)
    _loops[current_thread()] = weakref.ref(loop)


@cython.cfunc
def hand_over(owner: uint64_t, item: object) -> cython.bint:
    """Makes the owner call ``item.close()``, and keeps the item until then; returns False if that thread has ended.

    May be called by finalizers, in any thread.
    """
    if not _lives(owner):
        return False
    _owned.append((owner, item))
    reference = _loops.get(owner)
    loop = None if reference is None else reference()
    if loop is not None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(close_owned)
    return True


@cython.cfunc
@cython.exceptval(check=False)
def settle() -> cython.void:
    """Closes what was handed to this thread, if anything."""
    if _owned:
        close_owned()


def close_owned() -> None:
    """Closes what was handed to this thread, and drops what belonged to threads that have ended."""
    global _owned
    items, _owned = _owned, []
    thread = current_thread()
    for owner, item in items:
        if owner == thread:
            _close(item)
        elif _lives(owner):
            _owned.append((owner, item))


@cython.cfunc
@cython.exceptval(check=False)
def _close(item: object) -> cython.void:
    # Exceptions are reported and ignored, as in finalizers.
    item.close()
