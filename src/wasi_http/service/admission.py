"""Which requests run, which wait for their turn, and how long guests go on whose clients have gone.

At most ``max_concurrent_requests`` run at once, and guests start only while the turn of the event loop has time for
them. The others wait in order, ``queue_timeout`` at most. A guest whose client has gone keeps its place for a while, to
clean up, and makes room for those that wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from wasi_http.engine import Engine, Turns, leaving_stores
from wasi_http.service.config import ServiceConfig

__all__ = ["ABORT_TIMEOUT", "SPARE_INSTANCES", "Admission", "Candidate"]

#: How long, in seconds, guests are waited for that were cancelled: only host functions that refuse to be cancelled take
#: longer.
ABORT_TIMEOUT: Final = 5.0

#: How many instances an engine needs beside those of requests at once: large ones keep their place when they end, until
#: the system has taken their memory back.
SPARE_INSTANCES: Final = 16

# How often, in seconds, guests that take long to leave are looked at.
_LEAVING_INTERVAL: Final = 0.005

# How often, in seconds, guests whose clients have gone are looked at.
_GRACE_INTERVAL: Final = 0.05


class Candidate(Protocol):
    """What is admitted."""

    @property
    def spins(self) -> bool: ...

    def begin(self) -> None: ...

    def cancel(self) -> None: ...

    def expire(self) -> None: ...


class Admission:
    """Of the guests of one service on one event loop. ``active`` are those that run."""

    def __init__(self, engine: Engine, config: ServiceConfig, loop: asyncio.AbstractEventLoop) -> None:
        self._config = config
        self._loop = loop
        self._turns = Turns.of(engine)
        self._most = config.max_concurrent_requests
        self.active: set[Candidate] = set()
        # An ordered set: those that wait, and since when. One can be withdrawn from its midst.
        self._waiting: dict[Candidate, float] = {}
        self._expiry: asyncio.TimerHandle | None = None
        self._leaving: asyncio.TimerHandle | None = None
        self._newest = False
        # Those whose clients have gone, in that order, and when they are unwound.
        self._retired: dict[Candidate, float] = {}
        self._retiring: asyncio.TimerHandle | None = None
        self._aborted = False
        #: Called whenever one is done.
        self.on_dismiss: Callable[[], object] | None = None

    def admit(self, run: Candidate) -> None:
        """Begins a run, or lets it wait for its turn."""
        if len(self.active) >= self._most:
            self._wait(run)
            if self._retired:
                self._retire_early()
        elif not self._turns.open:
            self._wait(run)
            self._turns.join(self._begin_waiting)
        else:
            self.active.add(run)
            run.begin()

    def readmit(self, run: Candidate) -> None:
        """Begins a run once more, which may have used up this turn."""
        self.active.discard(run)
        self.admit(run)

    def withdraw(self, run: Candidate) -> None:
        """A run does not wait for its turn any more."""
        self._waiting.pop(run, None)

    def dismiss(self, run: Candidate) -> None:
        """A guest is done."""
        self.active.discard(run)
        if self._retired:
            self._retired.pop(run, None)
        if self._waiting:
            self._turns.join(self._begin_waiting)
        if self.on_dismiss is not None:
            self.on_dismiss()

    @property
    def _full(self) -> bool:
        return len(self.active) >= self._most

    def _wait(self, run: Candidate) -> None:
        self._waiting[run] = self._loop.time()
        if self._expiry is None:
            self._expiry = self._loop.call_later(self._config.queue_timeout, self._expire)

    def _expire(self) -> None:
        self._expiry = None
        oldest = self._loop.time() - self._config.queue_timeout
        while self._waiting:
            run, since = next(iter(self._waiting.items()))
            if since > oldest:
                self._expiry = self._loop.call_later(since - oldest, self._expire)
                return
            del self._waiting[run]
            run.expire()

    def _begin_waiting(self) -> None:
        newest = self._newest
        while self._waiting and self._turns.open and not self._full:
            run = next(reversed(self._waiting) if newest else iter(self._waiting))
            del self._waiting[run]
            self.admit(run)
        # A guest that used up the turn may stand before many of its kind: then the newest has the next.
        self._newest = not newest and not self._turns.open
        if self._waiting and not self._full:
            self._turns.join(self._begin_waiting)

    def make_way(self) -> None:
        """Fewer guests may run while many large ones leave: for one without a place the event loop would wait."""
        leaving = leaving_stores()
        self._most = self._config.max_concurrent_requests - max(0, leaving - SPARE_INSTANCES // 2)
        if self._leaving is None and leaving:
            self._leaving = self._loop.call_later(_LEAVING_INTERVAL, self._look_at_leaving)

    def _look_at_leaving(self) -> None:
        self._leaving = None
        self.make_way()
        if self._waiting:
            self._turns.join(self._begin_waiting)

    # Guests whose clients have gone

    def retire(self, run: Candidate) -> None:
        """The client has gone: the guest has a while to end, unless another needs its place."""
        grace = self._config.client_gone_grace
        if (self._waiting and self._full) or self._aborted or not grace:
            run.cancel()
            grace = ABORT_TIMEOUT
        self._retired[run] = self._loop.time() + grace
        if self._retiring is None:
            self._retiring = self._loop.call_later(_GRACE_INTERVAL, self._look_at_retired)

    def _retire_early(self) -> None:
        """A request has to wait: the guest that has been without client for the longest time makes room for it."""
        self._unwind(next(iter(self._retired)))

    def _unwind(self, run: Candidate) -> None:
        run.cancel()
        # Again after some time, should a host function not let itself be cancelled.
        self._retired.pop(run, None)
        self._retired[run] = self._loop.time() + ABORT_TIMEOUT

    def _look_at_retired(self) -> None:
        now = self._loop.time()
        for run, deadline in tuple(self._retired.items()):
            if deadline <= now or run.spins:
                self._unwind(run)
        self._retiring = self._loop.call_later(_GRACE_INTERVAL, self._look_at_retired) if self._retired else None

    # The end

    def abort(self) -> None:
        """Unwinds all guests, as soon as their host functions let them."""
        self._aborted = True
        for run in (*self._waiting, *self.active):
            run.cancel()

    def close(self) -> None:
        """No timer is left behind."""
        for timer in (self._expiry, self._leaving, self._retiring):
            if timer is not None:
                timer.cancel()
