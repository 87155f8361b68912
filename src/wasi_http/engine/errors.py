"""Errors below the component model, and foreign text in messages."""

from __future__ import annotations

__all__ = [
    "CLOSED",
    "EXHAUSTED",
    "MAX_EXCERPT",
    "MAX_FRAMES",
    "MAX_FRAME_NAME",
    "SPENT",
    "CompileError",
    "GuestCancelled",
    "InvalidModule",
    "Trap",
    "UnsupportedWasmtime",
    "excerpt",
    "expect",
    "visible",
]

#: Messages used in several places.
CLOSED = "the store is closed"
SPENT = "the store is spent: its guest trapped or was cancelled, or the store was closed"
EXHAUSTED = "call stack exhausted"

MAX_EXCERPT = 1000
"""Characters of foreign text in a message: names and types of a component, messages of wasmtime."""

MAX_FRAMES = 20
"""Frames in a backtrace, the innermost; wasmtime does not keep more either."""

MAX_FRAME_NAME = 200
"""Characters of the name of a function, and of a module, in a backtrace."""


def visible(text: str, keep: str = "") -> str:
    """Returns the text with unprintable characters escaped, except those in ``keep``."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escaped(ord(c)) for c in text)


def _escaped(code: int) -> str:
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 1 << 16 else f"\\U{code:08x}"


def excerpt(text: str, limit: int = MAX_EXCERPT, keep: str = "") -> str:
    """Returns foreign text for a message: cut in the middle, and `visible`."""
    if len(text) > limit:
        text = f"{text[: limit // 2]} … {text[len(text) - limit // 2 :]}"
    return visible(text, keep)


def expect(kind: type, value: object, usage: str) -> None:
    """Raises TypeError if ``value`` is not of ``kind``; ``usage`` shows the correct call."""
    if not isinstance(value, kind):
        given = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
        raise TypeError(f"expected {kind.__name__}, got {given}: write {usage}")


class Trap(Exception):
    """The guest was stopped: by an instruction that traps, by a broken rule, or by a limit.

    Host functions may raise it to stop the guest. ``message`` is an `excerpt` of the reason. ``backtrace`` is the
    guest's call stack where it was stopped: one frame per line, innermost first, at most 20, or ``""`` if no guest code
    ran. A store is unusable after a trap.
    """

    def __init__(self, message: str, backtrace: str = "") -> None:
        self.message = excerpt(message, keep="\n")
        super().__init__(self.message)
        self.backtrace = backtrace

    def __str__(self) -> str:
        return f"{self.message}\nguest backtrace:\n{self.backtrace}" if self.backtrace else self.message


class GuestCancelled(BaseException):
    """Raised inside a host function when the guest's call was dropped while the function waited."""


class InvalidModule(ValueError):
    """A core module does not validate or compile; ``offset`` is in bytes from its start, if known.

    ``message`` is an `excerpt` that may have several lines.
    """

    def __init__(self, message: str, offset: int | None = None) -> None:
        self.message = excerpt(message, keep="\n")
        super().__init__(self.message)
        self.offset = offset


class CompileError(RuntimeError):
    """The compiler failed: it took too long or too much memory, crashed, or could not be started.

    Only `EngineConfig.isolate_compilation` detects these. Without it the one reason is that the process may not make
    memory executable.
    """


class UnsupportedWasmtime(ImportError):
    """The ``wasmtime`` package is missing, damaged, or of an untested release."""
