"""The Date of responses."""

from __future__ import annotations

import email.utils

__all__ = ["DateCache"]


class DateCache:
    """Renders the value of the Date field (IMF-fixdate, RFC 9110 §5.6.7) at most once per second."""

    __slots__ = ("_second", "_value")

    def __init__(self) -> None:
        self._second: int | None = None
        self._value = b""

    def value(self, now: float) -> bytes:
        """Returns the date at `now`, in seconds since the epoch as from `time.time()`."""
        second = int(now)
        if second != self._second:
            self._value = email.utils.formatdate(second, usegmt=True).encode("ascii")
            self._second = second
        return self._value
