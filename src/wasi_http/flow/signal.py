"""Signals: wake waiters to check their condition again.

Readiness is state, and stays where it belongs: in a stream, a timer, an awaited response. A signal carries no state; it
only wakes its watchers, which check the state afresh. So spurious wake-ups are harmless, and one signal may serve
everything that its owner lets others wait for.

Signals belong to the thread of the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import cython

__all__ = ["SILENT", "Signal", "until"]

T = TypeVar("T")


@cython.cclass
class Signal:
    """Wakes its watchers on `notify`, which owners call after every change that could make something ready.

    ``len(signal)`` is the number of watchers.
    """

    # `watchers` is a dict used as an ordered set: woken in the order of `add`. Most signals never have any.

    def add(self, wake: Callable[[], None]) -> None:
        """Makes each `notify` call ``wake``, until it is removed. Idempotent."""
        if self.watchers is None:
            self.watchers = {}
        self.watchers[wake] = None

    def remove(self, wake: Callable[[], None]) -> None:
        """Undoes `add`. Idempotent."""
        if self.watchers is not None:
            self.watchers.pop(wake, None)

    def notify(self) -> None:
        """Wakes all watchers; they stay until they are removed."""
        if self.watchers:
            for wake in tuple(self.watchers):
                wake()

    def __len__(self) -> int:
        return 0 if self.watchers is None else len(self.watchers)

    def __bool__(self) -> bool:
        return True  # also without watchers


#: The signal of what is always ready: it is never notified, and waiting for it is never needed.
SILENT = Signal()


@cython.cclass
class _Waker:
    """Ends one wait after another. Not a closure, which would be a cycle and keep alive what it waits for."""

    def __call__(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


async def until(step: Callable[[], T], *signals: Signal) -> T:
    """Calls ``step`` now and after each wake-up by one of ``signals``, and returns its first true result.

    Raises exceptions of ``step``. Leaves no watchers behind, also when it is cancelled.
    """
    loop = asyncio.get_running_loop()
    wake: _Waker = _Waker()
    wake.future = loop.create_future()
    try:
        for signal in signals:
            signal.add(wake)
        while not (result := step()):
            await wake.future
            wake.future = loop.create_future()
        return result
    finally:
        for signal in signals:
            signal.remove(wake)
