"""Sizes on the command line: ``64MiB``, ``64M``, ``1GiB``, ``4096``."""

from __future__ import annotations

import re

import click

__all__ = ["MEMORY_SIZE", "SIZE", "Size"]

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "kib": 1 << 10, "m": 1 << 20, "mib": 1 << 20, "g": 1 << 30, "gib": 1 << 30}
_PATTERN = re.compile(r"([0-9]{1,18})\s*([a-z]*)").fullmatch


class Size(click.ParamType):  # type: ignore[type-arg]
    """A number of bytes, with an optional unit, from ``least`` to ``most``."""

    name = "size"

    def __init__(self, least: int = 0, most: int = 1 << 62) -> None:
        self._least = least
        self._most = most

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            size = value
        else:
            found = _PATTERN(str(value).strip().lower())
            if found is None or found[2] not in _UNITS:
                self.fail(f"{value!r} is not a size: write 4096, 64KiB, 64MiB, 1GiB (or 64K, 64M, 1G)", param, ctx)
            size = int(found[1]) * _UNITS[found[2]]
        if not self._least <= size <= self._most:
            self.fail(f"it must be {_written(self._least)} to {_written(self._most)}", param, ctx)
        return size


def _written(size: int) -> str:
    """Returns a size as written on the command line."""
    unit = next((unit for unit in ("GiB", "MiB", "KiB") if size and size % _UNITS[unit.lower()] == 0), "")
    return f"{size // _UNITS[unit.lower()]}{unit}"


SIZE = Size()

#: The size of a linear memory: from one WebAssembly page to the reach of 32 bits.
MEMORY_SIZE = Size(64 << 10, 4 << 30)
