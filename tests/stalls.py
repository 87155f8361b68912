"""How long an event loop stands still, in processor time of its thread: what others do to the machine does not count.

A timer of the loop looks at the clock of the thread. What the thread computes between two of its calls, beyond the
timer's period, was done in one piece, or in two that are next to each other: so long whoever was ready had to wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["LATE", "LIMIT", "PERIOD", "Stalls"]

#: What a loop may compute without a look at its timers and sockets, in seconds.
LIMIT = 0.05

#: What may be once.
LATE = 3 * LIMIT

PERIOD = 0.001


def _waits() -> dict[str, float]:
    """How long each other thread of this process was ready to run and had no processor, in seconds."""
    found: dict[str, float] = {}
    for thread in Path("/proc/self/task").glob("[0-9]*"):
        if int(thread.name) != threading.get_native_id():
            with contextlib.suppress(OSError):  # it has ended, or the system does not tell
                found[thread.name] = int((thread / "schedstat").read_text().split()[1]) / 1e9
    return found


class Stalls:
    """Watches the running event loop in a ``with`` statement. ``found`` are the stalls beyond `LIMIT`, in seconds.

    Garbage collection does not count: when it runs is chance.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._timer: asyncio.TimerHandle | None = None
        self._collecting = 0.0
        self._collected = 0.0
        self._last = 0.0
        self._waited: dict[str, float] = {}
        self.found: list[float] = []

    def _now(self) -> float:
        return time.thread_time() - self._collected

    def _collect(self, phase: str, _: dict[str, Any]) -> None:
        if threading.get_ident() != self._thread:
            return
        if phase == "start":
            self._collecting = time.thread_time()
        else:
            self._collected += time.thread_time() - self._collecting

    def _look(self) -> None:
        now = self._now()
        if now - self._last >= LIMIT:
            self.found.append(now - self._last)
        self._last = now
        self._timer = self._loop.call_later(PERIOD, self._look)

    def check(self) -> None:
        """Fails when the loop stood still for longer than `LIMIT`.

        The thread that ends time slices may be late on a busy machine: once is let pass, within `LATE`, and for as long
        as another thread had to wait for a processor.
        """
        waited = max((time - self._waited.get(thread, 0.0) for thread, time in _waits().items()), default=0.0)
        late = all(stall < (LATE if len(self.found) == 1 else LIMIT + waited) for stall in self.found)
        times = ", ".join(f"{stall * 1000:.0f} ms" for stall in self.found)
        assert late or not self.found, f"the event loop stood still for {times} of processor time"

    def __enter__(self) -> Stalls:
        gc.callbacks.append(self._collect)
        self._waited = _waits()
        self._last = self._now()
        self._timer = self._loop.call_later(PERIOD, self._look)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._timer is not None
        self._timer.cancel()
        if self._now() - self._last >= LIMIT:
            self.found.append(self._now() - self._last)
        gc.callbacks.remove(self._collect)
