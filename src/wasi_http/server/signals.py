"""Signals that end a server: at once before it serves, gracefully then, and without effect when it is about to exit.

They are handled from the beginning, because process 1 of a container has no default actions: there, a signal that is
not handled is lost. SIGHUP does nothing when it was ignored from the start (nohup).
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

_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


def _ending() -> list[signal.Signals]:
    return [number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN]


def end_early() -> None:
    """Has SIGTERM and SIGHUP end the process as long as it does not serve, with 128 and their number as exit code."""

    def end(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    for number in _ending():
        signal.signal(number, end)


@contextlib.contextmanager
def handling(handler: Callable[[], None]) -> Iterator[None]:
    """Calls ``handler`` on the running loop for SIGTERM, SIGHUP and SIGINT, those that were ignored from the start
    excepted. They are ignored afterwards: the process ends as it would have without another one."""
    loop = asyncio.get_running_loop()
    numbers = _ending()
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        numbers.append(signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
        ignore(*numbers)


def ignore(*numbers: int) -> None:
    """Ignores signals, those included that are pending."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
