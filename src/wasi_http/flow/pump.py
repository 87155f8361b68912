"""Pumps move bodies from a pipe to a transport."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from wasi_http.flow.pipe import Pipe

__all__ = ["Encoder", "Pump", "Sink"]

# Pieces of at least this size, in bytes, are written separately; smaller ones are joined.
_LARGE: Final = 16384


class Encoder(Protocol):
    """Encodes pieces of a body, and its end, for the wire. It may raise."""

    def body(self, data: bytes, /) -> bytes: ...

    def end(self, trailers: Sequence[tuple[bytes, bytes]], /) -> bytes: ...


class Sink(Protocol):
    """A transport. ``write_paused``: it is full for the moment."""

    write_paused: bool

    def write(self, data: bytes, /) -> None: ...


class Pump:
    """Moves a body as far as back-pressure allows, in few large writes of about ``size`` bytes at most.

    The owner calls `run` again when the pipe is readable, and when the sink takes more.
    """

    __slots__ = ("_encoder", "_pipe", "_sink", "_size", "busy")

    def __init__(self, pipe: Pipe, encoder: Encoder, sink: Sink, size: int) -> None:
        self._pipe = pipe
        self._encoder = encoder
        self._sink = sink
        self._size = size
        #: Set while it runs: a producer that refills the pipe meanwhile need not call it.
        self.busy = False

    def run(self, begin: bytes = b"") -> bool:
        """Writes ``begin`` and what is queued of the body; returns whether the body is complete.

        Raises the body's or the encoder's error, after it has written everything before that.
        """
        if self.busy:
            return False
        pipe, encoder, sink = self._pipe, self._encoder, self._sink
        parts = [begin] if begin else []
        gathered = 0
        self.busy = True
        try:
            while not sink.write_paused:
                piece = pipe.take(self._size)
                if piece is None:
                    parts.append(encoder.end(pipe.trailers or ()))
                    return True
                if not piece:
                    break
                parts.append(encoder.body(piece))
                gathered += len(piece)
                if len(piece) >= _LARGE or gathered >= self._size:
                    sink.write(parts[0] if len(parts) == 1 else b"".join(parts))
                    parts.clear()
                    gathered = 0
            return False
        finally:
            # One system call for a head and a small body.
            if parts and (rest := b"".join(parts)):
                sink.write(rest)
            self.busy = False
