"""Pumps: bodies on their way from a pipe to a transport."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from wasi_http.flow.pipe import Pipe

__all__ = ["Encoder", "Pump", "Sink"]

# Pieces of this size, in bytes, are written by themselves; smaller ones are joined.
_LARGE: Final = 16384


class Encoder(Protocol):
    """How pieces of a body, and its end, look on the other side. It may raise."""

    def body(self, data: bytes, /) -> bytes: ...

    def end(self, trailers: Sequence[tuple[bytes, bytes]], /) -> bytes: ...


class Sink(Protocol):
    """Where bytes go. ``write_paused``: it takes no more for the moment."""

    write_paused: bool

    def write(self, data: bytes, /) -> None: ...


class Pump:
    """Moves a body as far as its producer and the sink let it, in few large writes, of ``size`` bytes at most or so.

    It belongs to whoever calls `run` again: when the pipe is readable, and when the sink takes more.
    """

    __slots__ = ("_encoder", "_pipe", "_sink", "_size", "busy")

    def __init__(self, pipe: Pipe, encoder: Encoder, sink: Sink, size: int) -> None:
        self._pipe = pipe
        self._encoder = encoder
        self._sink = sink
        self._size = size
        #: It runs: a producer that fills the pipe as soon as there is room need not call it.
        self.busy = False

    def run(self, begin: bytes = b"") -> bool:
        """Writes ``begin`` and what there is of the body; true when that was all.

        Raises what ended the body, or what the encoder says of it; whatever came before is written then.
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
