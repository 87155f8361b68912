"""The turns of an event loop, shared by the guests that run on it.

A turn of the loop has time for one slice of the engine's clock. Until that ends, guests that start or go on do so at
once. After that they queue, and the loop looks at its timers and sockets before the next turn. Guests that have not
used a slice yet go first, in order, as many as the turn has time for. One of the others, which compute, has a slice
every few turns. So a guest in an endless loop costs the others a slice now and then, and a thousand of them no more.
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

# Queues: those that were let on and found the turn used up; those that have used no slice; the others, by how often the
# slices that a guest has used can be halved; and those that are to be unwound.
_FRONT = cython.declare(cython.int, 0)
_LIGHT = cython.declare(cython.int, 1)
_ENDING = cython.declare(cython.int, 13)

# How often the loop goes round between the slices of guests that compute, unless others use this many ticks meanwhile.
# What takes several rounds, like a connection that is accepted, read and answered, need not wait for a slice with each.
_ROUNDS = cython.declare(cython.int, 8)
_TICKS = cython.declare(cython.int, 4)

# How many are let on in one turn. Those for whom it has no time are let on again in the next.
_BATCH = cython.declare(cython.int, 64)

# How many guests that are cancelled may be unwound in one turn: the end of each takes some milliseconds at most, but a
# thousand may be due at once. They have a queue of their own, behind the others.
_ENDS = cython.declare(cython.int, 2)


class _Queues(list):  # type: ignore[type-arg]
    """Dicts, which serve as queues from whose middle those can go that are cancelled.

    The loop alone holds them, while somebody waits: those who wait in a loop that is closed wait in vain, and go.
    """


@cython.cclass
class Turns:
    """How the guests of one engine share the turns of one event loop. Get it with `of`; it belongs to that loop."""

    def __cinit__(self, clock: Clock):
        self.clock = clock
        self.ticks = clock.ticks

    @staticmethod
    def of(engine: Engine) -> Turns:
        """Those of the running event loop; raises RuntimeError when none runs."""
        return turns_of(engine.clock)

    @property
    def open(self) -> bool:
        """Whether a guest may run without waiting for its turn."""
        return self.is_open()

    def is_open(self) -> cython.bint:
        return self.ticks == self.clock.ticks

    def join(self, run: Callable[[], object], used: int = 0) -> None:
        """Calls ``run`` when it is its turn; ``used`` is how many slices its guest has had."""
        self.enqueue(run, True, _level(used))

    def leave(self, run: Callable[[], object]) -> None:
        """Does not call it, if it was not called yet."""
        self.remove(run)

    async def wait(self, used: int) -> None:
        """Returns when it is the turn of the task, whose guest has used so many slices."""
        await self._wait_in(_level(used))
        while not self.goes_on():
            await self._wait_in(_FRONT)

    async def wait_to_end(self) -> None:
        """Returns when the guest of the task, which was cancelled, may be unwound: at once unless many are to be."""
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
        """The queues. They go when nothing is scheduled."""
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
        """Opens the turn for those that the last one let on, which come next, and lets others on to the next one."""
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
            # One whose guest was cancelled leaves the turn to others.
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
        """The first of the queue runs in the loop's next round, behind `_turn`. Whether there is anything to run."""
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
        """Whether the turn has time left for one that was let on. It has for the first."""
        if self.fresh:
            self.fresh = False
            self.ticks = self.clock.ticks
        return self.is_open()

    def next_that_computes(self, queues: object) -> dict:
        """The queue of the one whose turn it is: one that has used the fewest slices or the most, by turns."""
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
    """`Turns.of`, by the engine's clock."""
    loop = asyncio.get_running_loop()
    if clock.latest is not None and clock.latest[0]() is loop:
        return clock.latest[1]
    turns = clock.turns.get(loop)
    if turns is None:
        for closed in [other for other in clock.turns if other.is_closed()]:
            del clock.turns[closed]
        turns = clock.turns[loop] = Turns(clock)
        keep_loop(loop)
    # Other threads may have loops of their own: one assignment at a time.
    clock.latest = (weakref.ref(loop), turns)
    return turns
