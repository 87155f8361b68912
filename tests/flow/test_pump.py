"""Pumps: what is written when, in how few pieces, and what of a body that fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from wasi_http.flow.pipe import Pipe
from wasi_http.flow.pump import Pump

SIZE = 32768


class Brackets:
    """Pieces in brackets, and the trailers at the end."""

    def body(self, data: bytes) -> bytes:
        if data == b"!":
            raise ValueError("not that")
        return b"[%b]" % data

    def end(self, trailers: Sequence[tuple[bytes, bytes]]) -> bytes:
        return b"." + b"".join(name for name, _ in trailers)


class Writes:
    """Takes ``room`` bytes before it is paused."""

    def __init__(self, room: int = 1 << 20) -> None:
        self.room = room
        self.write_paused = False
        self.written: list[bytes] = []
        self.then: Callable[[], object] = lambda: None

    def write(self, data: bytes) -> None:
        self.written.append(data)
        self.room -= len(data)
        self.write_paused = self.room <= 0
        self.then()


def pumped(pipe: Pipe, room: int = 1 << 20) -> tuple[Pump, Writes]:
    sink = Writes(room)
    return Pump(pipe, Brackets(), sink, SIZE), sink


def filled(*pieces: bytes) -> Pipe:
    pipe = Pipe()
    for piece in pieces:
        pipe.write(piece)
    return pipe


def test_small_pieces_leave_together() -> None:
    pipe = filled(b"a", b"b")
    pump, sink = pumped(pipe)
    assert not pump.run(b"head ")
    assert sink.written == [b"head [a][b]"]
    assert not pump.run()
    pipe.write(b"c")
    pipe.end([(b"x", b"y")])
    assert pump.run()
    assert sink.written[1:] == [b"[c].x"]


def test_a_head_leaves_without_a_body_and_though_the_sink_is_paused() -> None:
    pump, sink = pumped(filled())
    assert not pump.run(b"head")
    sink.write_paused = True
    assert not pump.run(b"another")
    assert sink.written == [b"head", b"another"]


def test_large_pieces_are_not_joined() -> None:
    large = bytes(20000)
    pump, sink = pumped(filled(b"a", large, large, b"b"))
    assert not pump.run()
    assert sink.written == [b"[a][%b]" % large, b"[%b]" % large, b"[b]"]


def test_no_more_is_gathered_than_its_size() -> None:
    pump, sink = pumped(filled(*[bytes(1000)] * 100))
    assert not pump.run()
    assert b"".join(sink.written).count(b"\0") == 100 * 1000
    assert max(data.count(b"\0") for data in sink.written) < 2 * SIZE


def test_nothing_is_taken_while_the_sink_is_paused() -> None:
    large = bytes(20000)
    pipe = filled(large, large)
    pump, sink = pumped(pipe, room=1)
    assert not pump.run()
    assert (len(sink.written), pipe.size) == (1, 20000)
    assert not pump.run()
    assert len(sink.written) == 1
    pipe.end()
    sink.room, sink.write_paused = 1 << 20, False
    assert pump.run()
    assert sink.written[1:] == [b"[%b]" % large, b"."]


def test_what_came_before_an_error_is_written() -> None:
    pipe = filled(b"a")
    pipe.fail(OSError("cut"))
    pump, sink = pumped(pipe)
    with pytest.raises(OSError, match="cut"):
        pump.run(b"head ")
    assert sink.written == [b"head [a]"]
    assert not pump.busy


def test_what_came_before_a_piece_that_cannot_be_encoded_is_written() -> None:
    pump, sink = pumped(filled(b"a", b"!"))
    with pytest.raises(ValueError, match="not that"):
        pump.run()
    assert (sink.written, pump.busy) == ([b"[a]"], False)


def test_a_producer_that_is_called_within_does_not_overtake() -> None:
    pipe = filled(bytes(20000))
    pump, sink = pumped(pipe)

    def produce() -> None:
        if len(sink.written) == 1:
            pipe.write(b"more")
            assert not pump.run(b"never written")

    sink.then = produce
    assert not pump.run()
    assert sink.written == [b"[%b]" % bytes(20000), b"[more]"]
