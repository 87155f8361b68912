"""What can go wrong before a component runs."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["InvalidComponent", "LinkError"]


class InvalidComponent(ValueError):
    """Bytes that are not a component this host can run: malformed, invalid, or using what is not supported.

    ``message`` names the culprit; ``offset`` is the byte of the input that holds it, counted from 0.
    """

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message, offset)
        self.message = message
        self.offset = offset

    def __str__(self) -> str:
        return f"{self.message} (at offset {self.offset}, 0x{self.offset:x})"


class LinkError(Exception):
    """A component and its host do not fit; ``problems`` has one line for each thing that is wrong."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(self.problems)
