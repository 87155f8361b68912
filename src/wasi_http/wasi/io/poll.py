"""wasi:io/poll: pollables, and waiting for the first of many."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from wasi_http.component import Borrow, Interface, Resource, State, func, method, u32
from wasi_http.engine import Trap
from wasi_http.flow.signal import SILENT, Signal, until
from wasi_http.wasi.io.wait import Wait

__all__ = ["Deadline", "Poll", "Pollable"]


def _always() -> bool:
    return True


class Deadline(Signal):
    """A signal that is notified at ``deadline``, by a clock that all deadlines share.

    Each takes a timer of the event loop, so a guest that waits for several watches only the earliest.
    """

    __slots__ = ("deadline",)

    def __init__(self, deadline: int) -> None:
        super().__init__()
        self.deadline = deadline


class Pollable(Resource, name="pollable"):
    """The resource ``pollable``: a readiness check, and a signal of possible changes.

    ``is_ready`` must be quick, must not raise, and returns False as long as waiting makes sense. The owner notifies
    ``signal`` when it becomes True. Without arguments the pollable is always ready.

    It watches its signal only while a guest waits.
    """

    __slots__ = ("is_ready", "signal")

    def __init__(self, is_ready: Callable[[], bool] = _always, signal: Signal = SILENT) -> None:
        self.is_ready = is_ready
        self.signal = signal

    def deadlock(self) -> str | None:
        """Returns why waiting for this alone would never end, or None if that is not certain."""
        return None

    @method
    def ready(self) -> bool:
        return self.is_ready()

    @method
    def block(self) -> Awaitable[None] | None:
        return None if self.is_ready() else self._block()

    async def _block(self) -> None:
        reason = self.deadlock()
        if reason is not None:
            raise Trap(reason)
        await until(self.is_ready, self.signal)


class _Context(Protocol):
    max_pollables: int


class _View(Protocol):
    """What `Poll` needs of a store's ``data``: a context with this limit."""

    ctx: _Context


class Poll(Interface, name="wasi:io/poll@0.2.12"):
    resources = (Pollable,)

    @func
    def poll(state: State[_View], in_: list[Borrow[Pollable]]) -> list[u32] | Awaitable[list[u32]]:
        """Returns the positions of all ready pollables, as soon as there is one.

        Raises `Trap` for an empty list, for one longer than the context's ``max_pollables``, and if it is certain that
        none will ever be ready.
        """
        if not in_:
            raise Trap("poll: the list of pollables is empty")
        if len(in_) > state.ctx.max_pollables:
            raise Trap(f"poll: {len(in_)} pollables exceed the limit of {state.ctx.max_pollables}")
        return _ready(in_) or _wait(in_)


def _wait(pollables: list[Pollable]) -> Awaitable[list[int]]:
    reason = None
    for pollable in pollables:
        reason = pollable.deadlock()
        if reason is None:
            break
    if reason is not None:
        raise Trap(reason)
    return Wait(lambda: _ready(pollables), *_signals(pollables))


def _signals(pollables: list[Pollable]) -> list[Signal]:
    """Returns the signals to watch: each once, and only the earliest deadline."""
    signals = dict.fromkeys(pollable.signal for pollable in pollables)
    deadlines = [signal for signal in signals if isinstance(signal, Deadline)]
    if len(deadlines) < 2:
        return list(signals)
    first = min(deadlines, key=lambda signal: signal.deadline)
    return [signal for signal in signals if signal is first or not isinstance(signal, Deadline)]


def _ready(pollables: list[Pollable]) -> list[int]:
    return [index for index, pollable in enumerate(pollables) if pollable.is_ready()]
