"""Signals: how those who wait learn that it is worth looking again.

Readiness is state, and it stays where it belongs: in a stream, a timer, a response that is awaited. A signal carries no
state of its own; it only wakes whoever watches it, and each of them looks at the state afresh. So a wake-up too many
does no harm, and one object may serve everything that its owner offers to wait for.

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
    """Wakes its watchers on `notify`. Owners call it after every change that could make something ready.

    ``len(signal)`` is how many watch.
    """

    # `watchers` is a dict that serves as an ordered set: those who came first are woken first. Most never have one.

    def add(self, wake: Callable[[], None]) -> None:
        """Has ``wake`` called at each `notify` until it is removed. Added twice counts once."""
        if self.watchers is None:
            self.watchers = {}
        self.watchers[wake] = None

    def remove(self, wake: Callable[[], None]) -> None:
        """Ends what `add` began; does nothing where nothing was begun."""
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
        return True  # also while nobody watches


#: The signal of what is always ready: nobody notifies it, and nobody has to wait for it.
SILENT = Signal()


@cython.cclass
class _Waker:
    """Ends one wait after another. An object and no closure: that would be a cycle, which holds what it waits for."""

    def __call__(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


async def until(step: Callable[[], T], *signals: Signal) -> T:
    """Calls ``step`` at once and after each wake-up by one of ``signals``, and returns its first true result.

    One future serves the whole wait, whatever the number of signals. Exceptions of ``step`` are raised. Nothing is left
    watching afterwards, also when the wait is cancelled.
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
