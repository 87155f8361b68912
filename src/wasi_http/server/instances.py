"""Instances for requests: fresh ones, or such as have served others.

An instance serves one request at a time and at most ``max_instance_reuse_count`` of them; it waits for the next one no
longer than ``idle_instance_timeout``. A fresh one is made only when none waits, so that there never are more than
requests at once. What belongs to the instance outlives a request: its memory, its handles and what they count against
its limit. The rest is the request's: its time, its number in the log.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from wasi_http.engine import Store
from wasi_http.server.handler import Handler, ServerState
from wasi_http.service.proxy import Proxy

__all__ = ["Instance", "Instances"]


class Instance:
    """One instance of the component. ``served`` counts its requests, the one it is at included."""

    __slots__ = ("proxy", "served", "since", "state", "store")

    def __init__(self, state: ServerState, store: Store, proxy: Proxy) -> None:
        self.state = state
        self.store = store
        self.proxy = proxy
        self.served = 1
        #: When it was given back.
        self.since = 0.0


class Instances:
    """The instances of one worker. ``on_leaving`` is called after the end of each that keeps its place for a while."""

    def __init__(self, handler: Handler, loop: asyncio.AbstractEventLoop, on_leaving: Callable[[], None]) -> None:
        self._handler = handler
        self._loop = loop
        self._on_leaving = on_leaving
        self._most = handler.config.max_instance_reuse_count
        self._timeout = handler.config.idle_instance_timeout
        # The last is taken first: its memory is the warmest, and those beyond what is needed grow old.
        self._idle: deque[Instance] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """How many are idle."""
        return len(self._idle)

    def take(self, number: int, fresh: bool = False) -> Instance:
        """An instance for the request of that number, ``fresh`` or not; raises `Trap` when a fresh one cannot start."""
        if self._idle and not fresh:
            instance = self._idle.pop()
            instance.served += 1
            instance.state.begin(number)
            return instance
        handler = self._handler
        state = ServerState(handler, handler.context(number))
        try:
            store, proxy = handler.instantiate(state)
        except BaseException:
            state.end()
            raise
        return Instance(state, store, proxy)

    def give_back(self, instance: Instance, intact: bool) -> None:
        """The instance's request is over; ``intact`` says that it may serve another."""
        if not intact or instance.served >= self._most:
            self._drop(instance)
            return
        instance.since = self._loop.time()
        self._idle.append(instance)
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout, self._expire)

    def limit(self, most: int) -> None:
        """Instances turned out to fail after so many requests: they serve no more than that from now on."""
        if most < self._most:
            self._most = most
            self._handler.log(
                f"warning: an instance that had served {most} requests failed with the next, which a fresh instance "
                f"served: --max-instance-reuse-count is {most} from now on"
            )
            for _ in range(len(self._idle)):
                self.give_back(self._idle.popleft(), True)

    def close(self) -> None:
        """Drops those that are idle."""
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

    def _drop(self, instance: Instance) -> None:
        try:
            if instance.store.close():
                self._on_leaving()
        except Exception as error:
            self._handler.log(f"error: while releasing a guest: {type(error).__name__}: {error}")
