"""Turns: fair scheduling of the guests that share an event loop.

Each turn of the loop has a budget of one time slice. Until it is used up, guests start or resume immediately. After
that they queue, and the loop polls its timers and sockets before the next turn. Guests that have not used up a slice
yet go first, in order, as many as the budget allows. One of the others, which are computing, gets a slice every few
turns. So an endless loop costs the others a slice now and then, and a thousand endless loops cost no more.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable

import cython
from cython.cimports.wasi_http.engine.clock import Clock
from cython.cimports.wasi_http.engine.engine import Engine
from cython.cimports.wasi_http.engine.owners import keep_loop

__all__ = ["Turns"]

# Queues: guests admitted to a turn that was used up before they ran; guests that have used no slice; the others, by the
# logarithm of the slices used; and guests to unwind.
_FRONT = cython.declare(cython.int, 0)
_LIGHT = cython.declare(cython.int, 1)
_ENDING = cython.declare(cython.int, 13)

# Rounds of the loop between slices of computing guests, unless others use this many ticks meanwhile. Work that takes
# several rounds, such as accepting, reading and answering a connection, need not wait for a slice in each.
_ROUNDS = cython.declare(cython.int, 8)
_TICKS = cython.declare(cython.int, 4)

# At most this many guests are admitted per turn. Those it has no time for are admitted again in the next.
_BATCH = cython.declare(cython.int, 64)

# At most this many cancelled guests are unwound per turn: each takes some milliseconds at most, but a thousand may be
# due at once. They have their own queue, behind the others.
_ENDS = cython.declare(cython.int, 2)


class _Queues(list):  # type: ignore[type-arg]
    """Dicts as queues: a cancelled guest leaves the middle of one in O(1).

    Only callbacks of the loop own them, while guests wait: once the loop is closed they are freed.
    """


@cython.cclass
class Turns:
    """Schedules the guests of one engine on one event loop. Get it with `of`; it belongs to that loop."""

    def __cinit__(self, clock: Clock):
        self.clock = clock
        self.ticks = clock.ticks

    @staticmethod
    def of(engine: Engine) -> Turns:
        """Returns the turns of the running event loop; raises RuntimeError if there is none."""
        return turns_of(engine.clock)

    @property
    def open(self) -> bool:
        """Returns whether a guest may run without waiting for its turn."""
        return self.is_open()

    def is_open(self) -> cython.bint:
        return self.ticks == self.clock.ticks

    def join(self, run: Callable[[], object], used: int = 0) -> None:
        """Calls ``run`` when its turn comes; its guest has used ``used`` slices."""
        self.enqueue(run, True, _level(used))

    def leave(self, run: Callable[[], object]) -> None:
        """Cancels `join`, unless ``run`` was called already."""
        self.remove(run)

    async def wait(self, used: int) -> None:
        """Returns when the task's turn comes; its guest has used ``used`` slices."""
        await self._wait_in(_level(used))
        while not self.goes_on():
            await self._wait_in(_FRONT)

    async def wait_to_end(self) -> None:
        """Returns when the cancelled task may unwind its guest: immediately, unless many are waiting to."""
        if self.ended < _ENDS:
            self.ended += 1
            self.schedule(self.hold())
        else:
            await self._wait_in(_ENDING)

    async def _wait_in(self, level: int) -> None:
        future = asyncio.get_running_loop().create_future()
        self.enqueue(future, False, level)
        try:
            await future
        finally:
            if not future.done() or future.cancelled():
                self.remove(future)

    def hold(self) -> object:
        """Returns the queues, which live as long as a callback is scheduled."""
        queues = None if self.queues is None else self.queues()
        if queues is None:
            queues = _Queues({} for _ in range(_ENDING + 1))
            self.queues = weakref.ref(queues)
            self.let_on = {}
            self.rounds = 0
            self.computed = self.clock.ticks
        return queues

    def enqueue(self, waiter: object, called: cython.bint, level: cython.int):
        queues = self.hold()
        queue: dict = queues[level]
        queue[waiter] = called
        self.schedule(queues)

    def remove(self, waiter: object):
        queues = None if self.queues is None else self.queues()
        if queues is not None:
            for queue in queues:
                queue.pop(waiter, None)
            self.let_on.pop(waiter, None)

    def schedule(self, queues: object):
        if not self.scheduled:
            self.scheduled = True
            asyncio.get_running_loop().call_soon(self._turn, queues)

    def _turn(self, queues: object) -> None:
        """Starts a turn: the callbacks of the guests that the last one admitted follow. Admits guests to the next."""
        count: cython.int
        level: cython.int
        queue: dict
        self.scheduled = False
        self.ended = 0
        queue = queues[_ENDING]
        while queue and self.ended < _ENDS:
            self.ended += self.let_on_next(queues, queue)
        self.ticks = self.clock.ticks
        self.fresh = True
        self.rounds += 1
        if self.rounds > _ROUNDS or self.ticks - self.computed >= _TICKS:
            queue = self.next_that_computes(queues)
            # A cancelled one leaves the turn to others.
            if queue is not None and self.let_on_next(queues, queue):
                self.rounds = 0
                self.computed = self.ticks
                return
        count = 0
        for level in range(_FRONT, _LIGHT + 1):
            queue = queues[level]
            while queue and count < _BATCH:
                count += self.let_on_next(queues, queue)
        if any(queues):
            self.schedule(queues)

    def let_on_next(self, queues: object, queue: dict) -> cython.bint:
        """Makes the first of the queue run in the loop's next round, after `_turn`; returns False if cancelled."""
        self.schedule(queues)
        waiter = next(iter(queue))
        if queue.pop(waiter):
            self.let_on[waiter] = True
            asyncio.get_running_loop().call_soon(self._call, waiter, queues)
        elif waiter.done():
            return False
        else:
            waiter.set_result(None)
        return True

    def _call(self, run: Callable[[], object], queues: object) -> None:
        if self.let_on.pop(run, False):
            if self.goes_on():
                run()
            else:
                self.enqueue(run, True, _FRONT)

    def goes_on(self) -> cython.bint:
        """Returns whether the turn has time for an admitted guest. It always has for the first."""
        if self.fresh:
            self.fresh = False
            self.ticks = self.clock.ticks
        return self.is_open()

    def next_that_computes(self, queues: object) -> dict:
        """Returns the queue of the next computing guest: alternately of the fewest and the most used slices."""
        queue: dict
        self.reverse = not self.reverse
        for queue in queues[_ENDING - 1 : _LIGHT : -1] if self.reverse else queues[_LIGHT + 1 : _ENDING]:
            if queue:
                return queue
        return None


@cython.cfunc
def _level(used: int) -> cython.int:
    return min(_LIGHT + used.bit_length(), _ENDING - 1)


@cython.cfunc
def turns_of(clock: Clock) -> Turns:
    """Implements `Turns.of`, given the engine's clock."""
    loop = asyncio.get_running_loop()
    if clock.latest is not None and clock.latest[0]() is loop:
        return clock.latest[1]
    turns = clock.turns.get(loop)
    if turns is None:
        for closed in [other for other in clock.turns if other.is_closed()]:
            del clock.turns[closed]
        turns = clock.turns[loop] = Turns(clock)
        keep_loop(loop)
    # One atomic assignment: other threads may have their own loops.
    clock.latest = (weakref.ref(loop), turns)
    return turns
