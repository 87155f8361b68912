"""Waits of guests for conditions that signals announce, evaluated in the guest's time slice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

from wasi_http.engine import Recheck
from wasi_http.flow.signal import Signal, until

__all__ = ["Wait"]

T = TypeVar("T")


class Wait(Recheck, Awaitable[T]):
    """Returned by a host function to wait for the first true result of ``step``, as `until` does.

    When a guest waits for it, it calls ``step`` and leaves the signals in the guest's time slices; the event loop only
    resolves one future.
    """

    __slots__ = ("_signals", "_step", "_watches", "_woken")

    def __init__(self, step: Callable[[], T], *signals: Signal) -> None:
        self._step = step
        self._signals = signals
        self._watches = False
        self._woken: asyncio.Future[None] | None = None

    def __await__(self) -> Generator[Any, None, T]:
        return until(self._step, *self._signals).__await__()

    def look(self) -> T:
        if not self._watches:
            self._watches = True
            for signal in self._signals:
                signal.add(self._wake)
        self._woken = asyncio.get_running_loop().create_future()
        return self._step()

    def woken(self) -> Awaitable[None]:
        assert self._woken is not None
        return self._woken

    def close(self) -> None:
        if self._watches:
            self._watches = False
            for signal in self._signals:
                signal.remove(self._wake)

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)
