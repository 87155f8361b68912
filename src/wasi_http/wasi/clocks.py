"""wasi:clocks: time, and pollables that become ready at a deadline.

Timers cost the event loop something only while a guest waits for them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from wasi_http.component import Interface, Own, State, func, s32, u32, u64
from wasi_http.flow.signal import Signal
from wasi_http.wasi.context import WasiView
from wasi_http.wasi.io.poll import Deadline, Pollable

__all__ = ["Datetime", "MonotonicClock", "Timezone", "TimezoneDisplay", "WallClock"]

_SECOND: Final = 1_000_000_000
_MILLISECOND: Final = 1_000_000
_MAX_U64: Final = 2**64 - 1

# Event loops overflow on distant deadlines; a timer that fires early is set again.
_LONGEST_SLEEP: Final = 24 * 3600 * _SECOND


class _Alarm(Deadline):
    """Notifies when the clock reaches the deadline. Has a timer in the loop only while it has watchers."""

    __slots__ = ("_clock", "_timer")

    def __init__(self, clock: Callable[[], int], deadline: int) -> None:
        super().__init__(deadline)
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None

    def due(self) -> bool:
        return self._clock() >= self.deadline

    def add(self, wake: Callable[[], None]) -> None:
        super().add(wake)
        if self._timer is None:
            self._set()

    def remove(self, wake: Callable[[], None]) -> None:
        super().remove(wake)
        if self._timer is not None and not len(self):
            self._timer.cancel()
            self._timer = None

    def _set(self) -> None:
        remaining = min(max(self.deadline - self._clock(), 0), _LONGEST_SLEEP)
        # Loops count in milliseconds; with rounding down, the timer would fire early and spin.
        delay = -(-remaining // _MILLISECOND) / 1000
        self._timer = asyncio.get_running_loop().call_later(delay, self._fire)

    def _fire(self) -> None:
        self._timer = None
        if self.due():
            self.notify()
        else:
            self._set()


class _NextTurn(Signal):
    """A deadline that has already passed.

    Not ready when first asked, so that a guest that polls with a zero timeout in a loop yields to the event loop each
    time, and sees the I/O that it polls for.
    """

    __slots__ = ("_asked", "_handle")

    def __init__(self) -> None:
        super().__init__()
        self._asked = False
        self._handle: asyncio.Handle | None = None

    def due(self) -> bool:
        if self._asked:
            return self._handle is None
        self._asked = True
        return False

    def add(self, wake: Callable[[], None]) -> None:
        super().add(wake)
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_soon(self._fire)

    def remove(self, wake: Callable[[], None]) -> None:
        super().remove(wake)
        if self._handle is not None and not len(self):
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        self._handle = None
        self.notify()


class MonotonicClock(Interface, name="wasi:clocks/monotonic-clock@0.2.12"):
    @func
    def now(state: State[WasiView]) -> u64:
        return state.ctx.monotonic()

    @func
    def resolution() -> u64:
        return max(1, round(time.get_clock_info("monotonic").resolution * _SECOND))

    @func
    def subscribe_instant(state: State[WasiView], when: u64) -> Own[Pollable]:
        clock = state.ctx.monotonic
        return _subscribe(clock, when, clock())

    @func
    def subscribe_duration(state: State[WasiView], when: u64) -> Own[Pollable]:
        clock = state.ctx.monotonic
        now = clock()
        return _subscribe(clock, now + when, now)


def _subscribe(clock: Callable[[], int], deadline: int, now: int) -> Pollable:
    # A deadline beyond 64 bits is never reached, as intended.
    alarm = _Alarm(clock, deadline) if deadline > now else _NextTurn()
    return Pollable(alarm.due, alarm)


@dataclass(slots=True)
class Datetime:
    """The record ``datetime``: time since 1970-01-01T00:00:00Z."""

    seconds: u64
    nanoseconds: u32


class WallClock(Interface, name="wasi:clocks/wall-clock@0.2.12"):
    @func
    def now(state: State[WasiView]) -> Datetime:
        # The record cannot represent times before 1970, or after the year 584 billion.
        seconds, nanoseconds = divmod(state.ctx.wall(), _SECOND)
        return Datetime(seconds, nanoseconds) if 0 <= seconds <= _MAX_U64 else Datetime(0, 0)

    @func
    def resolution() -> Datetime:
        return Datetime(0, max(1, round(time.get_clock_info("time").resolution * _SECOND)))


@dataclass(slots=True)
class TimezoneDisplay:
    """The record ``timezone-display``; ``utc_offset`` counts seconds."""

    utc_offset: s32
    name: str
    in_daylight_saving_time: bool


class Timezone(Interface, name="wasi:clocks/timezone@0.2.12"):
    """Always UTC: guests do not learn the host's time zone."""

    @func
    def display(when: Datetime) -> TimezoneDisplay:
        return TimezoneDisplay(0, "UTC", False)

    @func
    def utc_offset(when: Datetime) -> s32:
        return 0
