"""What can go wrong below the component model."""

from __future__ import annotations

__all__ = ["InvalidModule", "Trap", "UnsupportedWasmtime"]


class Trap(Exception):
    """The guest was stopped: by an instruction that traps, by a broken rule, or by a limit.

    Host functions may raise it to stop the guest. ``backtrace`` is the guest's call stack where it was stopped, one
    frame a line and the innermost first, or ``""`` when nothing of the guest ran. A store is useless after a trap.
    """

    def __init__(self, message: str, backtrace: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.backtrace = backtrace

    def __str__(self) -> str:
        return f"{self.message}\nguest backtrace:\n{self.backtrace}" if self.backtrace else self.message


class InvalidModule(ValueError):
    """A core module that does not validate or compile; ``offset`` counts bytes from its start where it is known."""

    def __init__(self, message: str, offset: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset


class UnsupportedWasmtime(ImportError):
    """The installed ``wasmtime`` package is missing, damaged, or of a release that was not tested."""
