"""Errors before a component runs."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from wasi_http.engine.errors import excerpt

__all__ = ["MADE_FOR_WASI_0_3", "MAX_PROBLEMS", "InvalidComponent", "LinkError"]

MADE_FOR_WASI_0_3 = "the component is made for WASI 0.3, and this version runs WASI 0.2"
"""The reason why async functions, streams and futures are refused."""

MAX_PROBLEMS = 50
"""Lines of a `LinkError`; the last one counts the rest."""


class InvalidComponent(ValueError):
    """The bytes are not a component that this host can run: malformed, invalid, or using an unsupported feature.

    ``message`` names the culprit, cut if it is long; ``offset`` is its byte in the input, from 0 on.
    """

    def __init__(self, message: str, offset: int) -> None:
        message = excerpt(message, keep="\n")
        super().__init__(message, offset)
        self.message = message
        self.offset = offset

    def __str__(self) -> str:
        where = f" (at offset {self.offset}, 0x{self.offset:x})" if self.offset else ""
        return f"{self.message}{where}"


class LinkError(Exception):
    """A component and its host do not match; ``problems`` has one line for each mismatch.

    Of more than `MAX_PROBLEMS` the last line says how many more there are. Long lines are cut.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        rest = iter(problems)
        told = [excerpt(problem) for problem in islice(rest, MAX_PROBLEMS)]
        more = sum(1 for _ in rest)
        if more:
            told[-1] = f"… and {more + 1:,} more"
        self.problems = tuple(told)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(self.problems)
