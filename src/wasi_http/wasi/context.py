"""The WASI configuration of one guest: environment, standard streams, clocks and limits.

By default everything is denied or empty: no environment, arguments, directories or network, and output is discarded.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from wasi_http.component.handles import ResourceTable
from wasi_http.wasi.io.inputs import Source
from wasi_http.wasi.io.outputs import Sink

__all__ = ["MAX_POLLABLES", "MAX_RANDOM_BYTES", "WasiCtx", "WasiView", "monotonic"]

#: The most bytes that one call of ``get-random-bytes`` or its insecure twin returns; more is a trap.
MAX_RANDOM_BYTES: Final = 1024 * 1024

#: The longest list that ``poll`` accepts; a longer one is a trap.
MAX_POLLABLES: Final = 10_000

# Hides the machine's uptime from guests.
_ORIGIN: Final = time.monotonic_ns()


def monotonic() -> int:
    """Returns nanoseconds since this module was imported."""
    return time.monotonic_ns() - _ORIGIN


def _readable(source: Any) -> bool:
    return isinstance(source, bytes) or (hasattr(source, "read") and not isinstance(source, io.TextIOBase))


def _writable(sink: Any) -> bool:
    return callable(sink) or (hasattr(sink, "write") and not isinstance(sink, io.TextIOBase))


def _check_texts(env: Any, args: Any, initial_cwd: Any) -> None:
    if not isinstance(env, Mapping):
        raise TypeError(f'env must be a mapping, as in {{"NAME": "value"}}, not {type(env).__name__}')
    for name, value in env.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise TypeError(f"env must map str to str; it maps {name!r} to {type(value).__name__}")
    if isinstance(args, (str, bytes)) or not isinstance(args, Sequence):
        raise TypeError(f'args must be a sequence of str, as in ["program", "argument"], not {type(args).__name__}')
    for arg in args:
        if not isinstance(arg, str):
            raise TypeError(f"args must be a sequence of str; one is {type(arg).__name__}")
    if initial_cwd is not None and not isinstance(initial_cwd, str):
        raise TypeError(f"initial_cwd must be a str or None, not {type(initial_cwd).__name__}")


class WasiView(Protocol):
    """What the WASI interfaces need of a store's ``data``; classes may also derive from it."""

    table: ResourceTable
    ctx: WasiCtx


class WasiCtx:
    """The configuration of one guest. Guests never change it, so they may share one.

    * ``env``, ``args``, ``initial_cwd``: the results of ``wasi:cli/environment``.
    * ``stdin``: None (at its end), bytes, a binary file, or an `InputStream`.
    * ``stdout``, ``stderr``: None (discarded), a callable that takes bytes, a binary file, or an `OutputStream`.
      Callables and files are called on the event loop's thread: they should not block for long. A guest that prints to
      a pipe, socket or terminal waits while it is full; flush the file's buffer before.
    * ``stdin_terminal``, ``stdout_terminal``, ``stderr_terminal``: whether the stream is a terminal to the guest.
    * ``random``: takes a length and returns that many bytes, unpredictable ones (default: the system's).
    * ``insecure_random``: the same for ``wasi:random/insecure`` and the seed (default: the system's, too).
    * ``monotonic``: nanoseconds, never decreasing. Timers follow it. ``wall``: nanoseconds since 1970.
    * ``max_random_bytes``, ``max_pollables``: see `MAX_RANDOM_BYTES`, `MAX_POLLABLES`.

    Raises TypeError for values of other types, which would otherwise fail when a guest uses them.
    """

    __slots__ = (
        "args",
        "env",
        "initial_cwd",
        "insecure_random",
        "max_pollables",
        "max_random_bytes",
        "monotonic",
        "random",
        "stderr",
        "stderr_terminal",
        "stdin",
        "stdin_terminal",
        "stdout",
        "stdout_terminal",
        "wall",
    )

    def __init__(
        self,
        *,
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
        initial_cwd: str | None = None,
        stdin: Source = None,
        stdout: Sink = None,
        stderr: Sink = None,
        stdin_terminal: bool = False,
        stdout_terminal: bool = False,
        stderr_terminal: bool = False,
        random: Callable[[int], bytes] = os.urandom,
        insecure_random: Callable[[int], bytes] = os.urandom,
        monotonic: Callable[[], int] = monotonic,
        wall: Callable[[], int] = time.time_ns,
        max_random_bytes: int = MAX_RANDOM_BYTES,
        max_pollables: int = MAX_POLLABLES,
    ) -> None:
        self.env: Mapping[str, str] = {} if env is None else env
        self.args = args
        self.initial_cwd = initial_cwd
        _check_texts(self.env, args, initial_cwd)
        if stdin is not None and not _readable(stdin):
            raise TypeError(f"stdin must be None, bytes, a binary file or an InputStream, not {stdin!r}")
        for name, sink in (("stdout", stdout), ("stderr", stderr)):
            if sink is not None and not _writable(sink):
                raise TypeError(f"{name} must be None, a callable, a binary file or an OutputStream, not {sink!r}")
        for name, function in (
            ("random", random),
            ("insecure_random", insecure_random),
            ("monotonic", monotonic),
            ("wall", wall),
        ):
            if not callable(function):
                raise TypeError(f"{name} must be a function, not {function!r}")
        for name, limit in (("max_random_bytes", max_random_bytes), ("max_pollables", max_pollables)):
            if not isinstance(limit, int):
                raise TypeError(f"{name} must be an int, not {limit!r}")
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.stdin_terminal = stdin_terminal
        self.stdout_terminal = stdout_terminal
        self.stderr_terminal = stderr_terminal
        self.random = random
        self.insecure_random = insecure_random
        self.monotonic = monotonic
        self.wall = wall
        self.max_random_bytes = max_random_bytes
        self.max_pollables = max_pollables
