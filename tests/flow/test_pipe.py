"""Pipes: bounded, in order, and over when one of the ends says so."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from wasi_http.flow.pipe import BODY_BUFFER, Pipe


class Watch:
    """Counts how often each end of a pipe is told to look again."""

    def __init__(self, pipe: Pipe) -> None:
        self.readable = 0
        self.writable = 0
        pipe.readable.add(self._on_readable)
        pipe.writable.add(self._on_writable)

    def _on_readable(self) -> None:
        self.readable += 1

    def _on_writable(self) -> None:
        self.writable += 1


def drained(pipe: Pipe, step: int = 7) -> bytes:
    """Everything that is there now."""
    data = b""
    while piece := pipe.take(step):
        assert len(piece) <= step
        data += piece
    return data


def test_the_limit() -> None:
    assert Pipe().limit == Pipe().room() == BODY_BUFFER
    pipe = Pipe(10)
    assert pipe.room() == 10
    pipe.write(b"12345678")
    assert (pipe.room(), pipe.size) == (2, 8)
    # Whoever does not ask for room may exceed it, by what was written at once.
    pipe.write(b"12345678")
    assert (pipe.room(), pipe.size) == (0, 16)
    assert pipe.take(7) == b"1234567"
    assert (pipe.room(), pipe.size) == (1, 9)


def test_empty_writes_add_nothing() -> None:
    pipe = Pipe(10)
    watch = Watch(pipe)
    for _ in range(1000):
        pipe.write(b"")
    assert (watch.readable, pipe.size, pipe.is_readable()) == (0, 0, False)
    pipe.write(b"1")
    pipe.write(b"")
    pipe.write(b"2")
    assert (pipe.take(10), pipe.take(10), pipe.take(10)) == (b"1", b"2", b"")


@pytest.mark.parametrize("data", [b"", b"whole body"])
def test_a_body_that_is_all_there(data: bytes) -> None:
    pipe = Pipe.of(data)
    assert (pipe.ended, pipe.is_readable(), pipe.trailers) == (True, True, None)
    assert drained(pipe) == data
    assert pipe.take(1) is None
    assert pipe.take(1) is None


def test_the_end_comes_after_what_is_queued() -> None:
    pipe = Pipe()
    pipe.write(b"abc")
    pipe.end([(b"x", b"y")])
    assert pipe.take(2) == b"ab"
    assert pipe.take(2) == b"c"
    assert pipe.take(2) is None
    assert pipe.trailers == [(b"x", b"y")]


def test_nothing_comes_after_the_end() -> None:
    pipe = Pipe()
    pipe.end([(b"x", b"y")])
    pipe.write(b"late")
    pipe.end([(b"too", b"late")])
    pipe.fail(OSError("late"))
    assert (pipe.size, pipe.error, pipe.trailers) == (0, None, [(b"x", b"y")])
    assert pipe.take(10) is None


def test_a_failure_comes_after_what_is_queued() -> None:
    pipe = Pipe()
    pipe.write(b"abcdef")
    assert pipe.take(2) == b"ab"
    first = OSError("first")
    pipe.fail(first)
    pipe.fail(OSError("second"))
    pipe.end()
    pipe.write(b"late")
    assert (pipe.size, pipe.ended, pipe.is_readable()) == (4, False, True)
    with pytest.raises(OSError, match="first"):  # the producer learns of it at once
        pipe.room()
    assert pipe.take(10) == b"cdef"
    for _ in range(2):
        with pytest.raises(OSError, match="first") as caught:
            pipe.take(10)
        assert caught.value is first
        with pytest.raises(OSError, match="first"):
            pipe.room()


def test_cancelling_tells_the_producer() -> None:
    pipe = Pipe()
    pipe.write(b"abcdef")
    assert pipe.take(2) == b"ab"
    watch = Watch(pipe)
    pipe.cancel()
    pipe.cancel()
    assert (watch.readable, watch.writable) == (0, 1)
    assert pipe.size == 0
    with pytest.raises(BrokenPipeError):
        pipe.room()
    pipe.write(b"late")
    assert pipe.size == 0
    pipe.end()
    assert pipe.ended


@pytest.mark.parametrize("size", [1, 2, 100, 1000])
def test_many_small_pieces_take_little_more_memory_than_their_bytes(size: int) -> None:
    pipe = Pipe()
    piece = bytes(size - 1)
    tracemalloc.start()
    try:
        for _ in range(BODY_BUFFER // size):
            pipe.write(piece + b"x")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2 * BODY_BUFFER
    assert drained(pipe, 777) == (piece + b"x") * (BODY_BUFFER // size)


def test_small_pieces_that_are_joined_are_bytes() -> None:
    pipe = Pipe()
    for _ in range(100):
        pipe.write(b"ab")
    pipe.write(b"d" * 2000)
    pipe.write(b"e")
    taken = []
    while piece := pipe.take(3):
        taken.append(piece)
    assert b"".join(taken) == b"ab" * 100 + b"d" * 2000 + b"e"
    assert {type(piece) for piece in taken} == {bytes}
    for _ in range(100):
        pipe.write(b"ab")
    assert pipe.take(1) == b"a"
    assert pipe.take_all() == b"b" + b"ab" * 99
    for _ in range(100):
        pipe.write(b"ab")
    while pipe.size > 60:
        pipe.take(2)
    last = pipe.take_all()
    assert last == b"ab" * 30
    assert type(last) is bytes


def test_cancelling_with_an_error() -> None:
    pipe = Pipe()
    pipe.write(b"abcdef")
    watch = Watch(pipe)
    error = OSError("gone")
    pipe.cancel(error)
    pipe.cancel(OSError("again"))
    assert (pipe.size, pipe.cancelled, pipe.error) == (0, True, error)
    assert watch.writable
    assert watch.readable
    for end in (pipe.room, lambda: pipe.take(1)):
        with pytest.raises(OSError, match="gone"):
            end()


def test_an_error_may_follow_a_cancellation() -> None:
    pipe = Pipe()
    pipe.write(b"abcdef")
    pipe.cancel()
    pipe.cancel(OSError("gone"))
    with pytest.raises(OSError, match="gone"):
        pipe.room()


def test_cancelling_with_an_error_leaves_an_end() -> None:
    pipe = Pipe.of(b"abcdef")
    pipe.cancel(OSError("gone"))
    assert (pipe.error, pipe.take(1)) == (None, None)


def test_take_all() -> None:
    pipe = Pipe()
    assert pipe.take_all() == b""
    pipe.write(b"one")
    assert pipe.take_all() == b"one"
    for piece in (b"one", b"two", b"three"):
        pipe.write(piece)
    assert pipe.take(2) == b"on"
    assert pipe.take_all() == b"etwothree"
    pipe.write(b"four")
    assert pipe.take(1) == b"f"
    assert pipe.take_all() == b"our"
    assert (pipe.size, pipe.take(1)) == (0, b"")
    pipe.write(b"five")
    assert drained(pipe) == b"five"


def test_signals() -> None:
    pipe = Pipe(10)
    watch = Watch(pipe)
    pipe.write(b"abc")
    assert (watch.readable, watch.writable) == (1, 0)
    pipe.take(10)
    assert (watch.readable, watch.writable) == (1, 1)
    pipe.take(10)  # there was nothing, so there is no more room than before
    assert (watch.readable, watch.writable) == (1, 1)
    pipe.end()
    assert (watch.readable, watch.writable) == (2, 2)
    failing = Pipe(10)
    watch = Watch(failing)
    failing.fail(OSError())
    assert (watch.readable, watch.writable) == (1, 1)


class Machine(RuleBasedStateMachine):
    """A producer that asks for room and a consumer that takes what it likes; the model is a byte string and a state."""

    LIMIT = 16

    def __init__(self) -> None:
        super().__init__()
        self.pipe = Pipe(self.LIMIT)
        self.watch = Watch(self.pipe)
        self.queued = b""
        self.state = "open"
        self.cancelled = False
        self.error = OSError("failed")
        self.next = 0

    def writable(self) -> bool:
        return self.state == "open" and not self.cancelled

    @rule(size=st.integers(min_value=0, max_value=LIMIT))
    def write(self, size: int) -> None:
        told = self.watch.readable
        if not self.writable():
            self.pipe.write(b"lost" * size)
            assert self.watch.readable == told
            return
        size = min(size, self.pipe.room())
        data = bytes((self.next + i) % 256 for i in range(size))
        self.next += size
        self.pipe.write(data)
        self.queued += data
        assert self.watch.readable == told + bool(size)

    @rule(limit=st.integers(min_value=1, max_value=LIMIT + 1))
    def take(self, limit: int) -> None:
        told = self.watch.writable
        if self.state == "failed" and not self.queued:
            with pytest.raises(OSError, match="failed"):
                self.pipe.take(limit)
            return
        data = self.pipe.take(limit)
        if not self.queued:
            assert data == (None if self.state == "ended" else b"")
            assert self.watch.writable == told
            return
        assert data
        assert len(data) <= limit
        assert self.queued.startswith(data)
        self.queued = self.queued[len(data) :]
        assert self.watch.writable == told + 1

    @rule()
    def take_all(self) -> None:
        assert self.pipe.take_all() == self.queued
        self.queued = b""

    @rule()
    def end(self) -> None:
        self.pipe.end()
        if self.state == "open":
            self.state = "ended"

    @rule()
    def fail(self) -> None:
        self.pipe.fail(self.error)
        if self.state == "open":
            self.state = "failed"

    @rule(with_error=st.booleans())
    def cancel(self, with_error: bool) -> None:
        self.pipe.cancel(self.error if with_error else None)
        self.cancelled, self.queued = True, b""
        if with_error and self.state == "open":
            self.state = "failed"

    @invariant()
    def agrees(self) -> None:
        pipe = self.pipe
        assert pipe.size == len(self.queued) <= self.LIMIT
        assert pipe.ended == (self.state == "ended")
        assert pipe.error is (self.error if self.state == "failed" else None)
        assert pipe.cancelled == self.cancelled
        assert pipe.is_readable() == (bool(self.queued) or self.state != "open")
        if self.state == "failed":
            with pytest.raises(OSError, match="failed"):
                pipe.room()
        elif self.cancelled:
            with pytest.raises(BrokenPipeError):
                pipe.room()
        else:
            assert pipe.room() == self.LIMIT - len(self.queued)


TestMachine = Machine.TestCase
