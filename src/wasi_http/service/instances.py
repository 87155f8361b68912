"""The instance pool: a fresh instance per request, or an idle one that has served before.

An instance serves one request at a time and at most ``max_instance_reuse_count`` of them; it waits for the next one no
longer than ``idle_instance_timeout``. A fresh instance is created only if none is idle, so there are never more
instances than concurrent requests. What belongs to the instance outlives a request: its memory, its handles and what
they count against its limit. The rest is the request's: its time, its number in the log.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from wasi_http.service.config import ServiceConfig
from wasi_http.service.guest import Guest

__all__ = ["InstancePool", "Maker"]


class Maker(Protocol):
    """What a pool needs of its service."""

    config: ServiceConfig

    def new_guest(self, number: int) -> Guest: ...

    def renumber(self, guest: Guest, number: int) -> None: ...

    def log(self, text: str) -> None: ...


class InstancePool:
    """The instances of one service. ``on_leaving`` is called after the end of each that keeps its place for a while."""

    def __init__(self, maker: Maker, loop: asyncio.AbstractEventLoop, on_leaving: Callable[[], None]) -> None:
        self._maker = maker
        self._loop = loop
        self._on_leaving = on_leaving
        self._most = maker.config.max_instance_reuse_count
        self._timeout = maker.config.idle_instance_timeout
        # The last is taken first: its memory is the warmest, and those beyond what is needed grow old.
        self._idle: deque[Guest] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """How many are idle."""
        return len(self._idle)

    def acquire(self, number: int, fresh: bool = False) -> Guest:
        """A guest for the request of that number, ``fresh`` or not; raises `Trap` when a fresh one cannot start."""
        if not self._idle or fresh:
            return self._maker.new_guest(number)
        guest = self._idle.pop()
        guest.served += 1
        guest.requested = False
        self._maker.renumber(guest, number)
        return guest

    def release(self, guest: Guest, intact: bool) -> None:
        """The guest's request is over; ``intact`` says that it may serve another."""
        if not intact or guest.served >= self._most:
            self._drop(guest)
            return
        guest.since = self._loop.time()
        self._idle.append(guest)
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout, self._expire)

    def limit(self, most: int) -> None:
        """Instances turned out to fail after so many requests: they serve no more than that from now on."""
        if most < self._most:
            self._most = most
            self._maker.log(
                f"warning: an instance that had served {most} requests failed with the next, which a fresh instance "
                f"served: --max-instance-reuse-count is {most} from now on"
            )
            for _ in range(len(self._idle)):
                self.release(self._idle.popleft(), True)

    def close(self) -> None:
        """Drops the idle ones."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._idle:
            self._drop(self._idle.pop())

    def _expire(self) -> None:
        self._timer = None
        idle, oldest = self._idle, self._loop.time() - self._timeout
        while idle and idle[0].since <= oldest:
            self._drop(idle.popleft())
        if idle:
            self._timer = self._loop.call_at(idle[0].since + self._timeout, self._expire)

    def _drop(self, guest: Guest) -> None:
        store = guest.store
        del guest.store  # which leads back: a cycle
        try:
            if store.close():
                self._on_leaving()
        except Exception as error:
            self._maker.log(f"error: while releasing a guest: {type(error).__name__}: {error}")
