"""Signals that end a server: at once before it serves, gracefully then, and without effect when it is about to exit.

They are handled from the beginning, because process 1 of a container has no default actions: there, a signal that is
not handled is lost. SIGHUP (nohup) and SIGINT (jobs in the background of a script) do nothing when they were ignored
from the start.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

__all__ = ["end_early", "handling", "ignore"]

# After what time, in seconds, a signal that was lost is sent again.
_AGAIN: Final = 0.001


class _Signalled(SystemExit):
    """What ends the process before it serves."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


def _handled() -> list[signal.Signals]:
    """SIGTERM, and SIGHUP and SIGINT unless they are ignored."""
    others = signal.SIGHUP, signal.SIGINT
    return [signal.SIGTERM, *(number for number in others if signal.getsignal(number) is not signal.SIG_IGN)]


def end_early() -> None:
    """Has signals end the process as long as it does not serve, with 128 and their number as exit code.

    They raise SystemExit in whatever runs. Python ignores exceptions of finalizers and of other callbacks, and goes on:
    there, the signal is sent again.
    """
    others = sys.unraisablehook
    ending = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal ending
        # Only once: what ends because of the first must not be interrupted by another.
        if not ending:
            ending = True
            raise _Signalled(number)

    def ignored(unraisable: sys.UnraisableHookArgs) -> None:
        nonlocal ending
        error = unraisable.exc_value
        if not isinstance(error, _Signalled):
            others(unraisable)
            return
        ending = False
        lost = error.number
        # Later: here, and in the finalizer, it would be ignored once more.
        signal.signal(signal.SIGALRM, lambda number, frame: signal.raise_signal(lost))
        signal.setitimer(signal.ITIMER_REAL, _AGAIN)

    for handled in _handled():
        signal.signal(handled, end)
    sys.unraisablehook = ignored


@contextlib.contextmanager
def handling(handler: Callable[[], None]) -> Iterator[None]:
    """Calls ``handler`` on the running loop for SIGTERM, and for SIGHUP and SIGINT unless they are ignored.

    All are ignored afterwards: the process ends as it would have without another one.
    """
    loop = asyncio.get_running_loop()

    def wake(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(handler)

    # Not by the loop's own method: what it adds it also removes, and the default action comes before SIG_IGN then.
    numbers = _handled()
    for number in numbers:
        signal.signal(number, wake)
    try:
        yield
    finally:
        ignore(*numbers)


def ignore(*numbers: int) -> None:
    """Ignores signals, those included that are pending."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
