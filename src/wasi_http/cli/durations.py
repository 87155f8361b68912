"""Durations on the command line: ``1s``, ``500ms``, ``2m``."""

from __future__ import annotations

import re

import click

from wasi_http.settings import LONGEST

__all__ = ["DURATION", "POSITIVE_DURATION", "Duration"]

_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PATTERN = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)?").fullmatch


class Duration(click.ParamType):  # type: ignore[type-arg]
    """A number with a unit (default: seconds), converted to seconds: at most `LONGEST`; above 0 if ``positive``."""

    name = "duration"

    def __init__(self, *, positive: bool = False) -> None:
        self._positive = positive

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            seconds = float(value)
        else:
            found = _PATTERN(str(value).strip())
            if found is None:
                self.fail(f"{value!r} is not a duration: write 500ms, 1s, 2m", param, ctx)
            seconds = float(found[1]) * _UNITS[found[2] or "s"]
        if self._positive and not seconds:
            self.fail("it must be longer than 0", param, ctx)
        if seconds > LONGEST:
            self.fail("it must be at most a year, 8760h", param, ctx)
        return seconds


DURATION = Duration()
POSITIVE_DURATION = Duration(positive=True)
