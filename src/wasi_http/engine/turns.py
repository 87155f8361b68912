"""The turns of an event loop, shared by the guests that run on it.

A turn of the loop has time for one slice of the engine's clock. Until that ends, guests that start or go on do so at
once. After that they queue, and the loop looks at its timers and sockets between any two of them. Guests that have not
used a slice yet go first, one after another while the turn lasts. One of the others, which compute, has a slice every
few rounds. So a guest in an endless loop costs the others a slice now and then, and a thousand of them cost no more.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable

import cython
from cython.cimports.wasi_http.engine.engine import Clock, Engine

__all__ = ["Turns"]

# Queues, by how often the slices that a guest has used can be halved.
_LEVELS = cython.declare(cython.int, 12)

# How often the loop goes round between the slices of guests that compute. What takes several rounds, like a connection
# that is accepted, read and answered, need not wait for a slice with each.
_ROUNDS = cython.declare(cython.int, 8)

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
        """Calls ``run`` when it is its turn; ``used`` is how many slices its guest has had.

        ``run`` returns whether it runs the guest later, as the first thing in the loop's next turn.
        """
        self.enqueue(run, min(used.bit_length(), _LEVELS - 1))

    def leave(self, run: Callable[[], object]) -> None:
        """Does not call it, if it was not called yet."""
        for queue in () if self.queues is None else self.queues() or ():
            queue.pop(run, None)

    async def wait(self, used: int) -> None:
        """Returns when it is the turn of the task, whose guest has used so many slices."""
        await self._wait_in(min(used.bit_length(), _LEVELS - 1))

    async def wait_to_end(self) -> None:
        """Returns when the guest of the task, which was cancelled, may be unwound: at once unless many are to be."""
        if self.ended < _ENDS:
            self.ended += 1
            self.schedule(self.hold())
        else:
            await self._wait_in(_LEVELS)

    async def _wait_in(self, level: int) -> None:
        future = asyncio.get_running_loop().create_future()

        def run() -> bool:
            if future.done():
                return False
            future.set_result(None)
            return True

        self.enqueue(run, level)
        try:
            await future
        finally:
            self.leave(run)

    @cython.cfunc
    def hold(self) -> object:
        """The queues. They go when nothing is scheduled."""
        queues = None if self.queues is None else self.queues()
        if queues is None:
            queues = _Queues({} for _ in range(_LEVELS + 1))
            self.queues = weakref.ref(queues)
        return queues

    @cython.cfunc
    def enqueue(self, run: object, level: cython.int):
        queues = self.hold()
        queue: dict = queues[level]
        queue[run] = None
        self.schedule(queues)

    @cython.cfunc
    def schedule(self, queues: object):
        if not self.scheduled:
            self.scheduled = True
            asyncio.get_running_loop().call_soon(self._turn, queues)

    def _turn(self, queues: object) -> None:
        self.scheduled = False
        self.ended = 0
        ends: dict = queues[_LEVELS]
        while ends and self.ended < _ENDS:
            run = next(iter(ends))
            del ends[run]
            self.schedule(queues)
            if run():
                self.ended += 1
        if self.granted:
            # A slice is over; sockets come first.
            self.granted = False
            if any(queues):
                self.schedule(queues)
            return
        self.ticks = self.clock.ticks
        self.rounds += 1
        if self.rounds > _ROUNDS and (run := self.take_heavy(queues)) is not None:
            self.schedule(queues)
            # One whose guest was cancelled leaves the turn to others.
            if run():
                self.rounds = 0
                self.grant()
                return
        light: dict = queues[0]
        while light and self.is_open():
            run = next(iter(light))
            del light[run]
            # Before it runs, which may fail.
            self.schedule(queues)
            if run():
                self.grant()
                return
        if any(queues):
            self.schedule(queues)

    @cython.cfunc
    def grant(self):
        """The rest of this turn and the beginning of the next are given away."""
        self.granted = True
        self.ticks = -1

    @cython.cfunc
    def take_heavy(self, queues: object) -> object:
        """One of those that have used slices: the one that has used the fewest or the most, by turns."""
        queue: dict
        self.reverse = not self.reverse
        for queue in queues[_LEVELS - 1 : 0 : -1] if self.reverse else queues[1:_LEVELS]:
            if queue:
                run = next(iter(queue))
                del queue[run]
                return run
        return None


@cython.cfunc
def turns_of(clock: Clock) -> Turns:
    """`Turns.of`, by the engine's clock."""
    loop = asyncio.get_running_loop()
    turns = clock.turns.get(loop)
    if turns is None:
        for closed in [other for other in clock.turns if other.is_closed()]:
            del clock.turns[closed]
        turns = clock.turns[loop] = Turns(clock)
    return turns
