"""Sizes on the command line: ``64MiB``, ``1GiB``, ``4096``."""

from __future__ import annotations

import re

import click

__all__ = ["SIZE", "Size"]

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "kib": 1 << 10, "m": 1 << 20, "mib": 1 << 20, "g": 1 << 30, "gib": 1 << 30}
_PATTERN = re.compile(r"(\d+)\s*([a-z]*)").fullmatch


class Size(click.ParamType):  # type: ignore[type-arg]
    """A number of bytes, with a unit if need be."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = _PATTERN(str(value).strip().lower())
        if found is None or found[2] not in _UNITS:
            self.fail(f"{value!r} is no size: write 4096, 64MiB, 1GiB", param, ctx)
        return int(found[1]) * _UNITS[found[2]]


SIZE = Size()
