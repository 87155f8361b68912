"""Durations on the command line: ``1s``, ``500ms``, ``2m``."""

from __future__ import annotations

import re

import click

__all__ = ["DURATION", "Duration"]

_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PATTERN = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)?").fullmatch


class Duration(click.ParamType):  # type: ignore[type-arg]
    """A number with a unit (seconds without one), as seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        found = _PATTERN(str(value).strip())
        if found is None:
            self.fail(f"{value!r} is no duration: write 500ms, 1s, 2m", param, ctx)
        return float(found[1]) * _UNITS[found[2] or "s"]


DURATION = Duration()
