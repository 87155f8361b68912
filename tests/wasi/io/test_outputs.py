from __future__ import annotations

import asyncio
import errno
import io
import os
import pathlib
import tracemalloc

import pytest

from wasi_http.component.model.values import Err
from wasi_http.engine import Trap
from wasi_http.wasi.io import (
    MAX_PERMIT,
    SINK_PERMIT,
    CallableOutput,
    FileOutput,
    NullOutput,
    OutputStream,
    StreamError,
    output_stream,
)


def exercise(stream: OutputStream) -> bytes:
    """Writes in all ways, and returns what was written."""
    stream.write(b"one")
    stream.write(b"")
    stream.write_zeroes(2)
    assert stream.blocking_write_and_flush(b"two") is None
    assert stream.blocking_write_zeroes_and_flush(1) is None
    stream.flush()
    assert stream.blocking_flush() is None
    assert stream.subscribe().ready()
    return b"one\0\0two\0"


def test_null() -> None:
    stream = NullOutput()
    exercise(stream)
    assert stream.check_write() == MAX_PERMIT


def test_null_keeps_nothing() -> None:
    stream = NullOutput()
    block = bytes(MAX_PERMIT)
    tracemalloc.start()
    try:
        for _ in range(1000):
            stream.write(block)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_callable() -> None:
    pieces: list[bytes] = []
    stream = CallableOutput(pieces.append)
    assert exercise(stream) == b"".join(pieces)
    assert pieces == [b"one", b"\0\0", b"two", b"\0"]
    assert stream.check_write() == SINK_PERMIT
    with pytest.raises(Trap):
        stream.write(bytes(SINK_PERMIT + 1))


def test_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "output"
    with path.open("wb") as file:
        stream = FileOutput(file)
        expected = exercise(stream)
        assert path.read_bytes() == expected  # flushed
        assert stream.check_write() == SINK_PERMIT
        stream.release()
        assert not file.closed


def test_a_file_may_take_less_than_it_is_given() -> None:
    class Slow(io.BytesIO):
        def write(self, data: bytes, /) -> int:  # type: ignore[override]
            return super().write(data[:3])

    file = Slow()
    FileOutput(file).write(b"0123456789")
    assert file.getvalue() == b"0123456789"


@pytest.mark.parametrize("buffering", [0, -1])
@pytest.mark.parametrize("blocking", [True, False])
def test_a_pipe_that_is_not_read_holds_back_its_guest(buffering: int, blocking: bool) -> None:
    async def main() -> None:
        receiver, sender = os.pipe()
        os.set_blocking(sender, blocking)
        loop = asyncio.get_running_loop()
        with os.fdopen(sender, "wb", buffering=buffering) as file:
            stream = FileOutput(file)
            written = 0
            while permit := stream.check_write():
                stream.write(b"x" * permit)
                written += permit
            assert not stream.subscribe().ready()
            waiting = stream.blocking_write_and_flush(b"last")
            assert waiting is not None
            task = asyncio.ensure_future(waiting)
            # The loop goes on meanwhile.
            await asyncio.sleep(0.05)
            assert not task.done()
            received = b""
            while len(received) < written:
                received += await loop.run_in_executor(None, os.read, receiver, 65536)
            await task
            received += os.read(receiver, 65536)
            assert received == b"x" * written + b"last"
        os.close(receiver)

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_file_that_takes_nothing_fails_the_write() -> None:
    class Full(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: object, /) -> int | None:  # type: ignore[override]
            return None

    with pytest.raises(Err) as caught:
        FileOutput(Full()).write(b"x")  # type: ignore[arg-type]
    assert isinstance(caught.value.value, StreamError.LastOperationFailed)


@pytest.mark.parametrize("name", ["write", "blocking_write_and_flush"])
def test_a_broken_pipe_is_a_failure_and_then_the_end(name: str) -> None:
    receiver, sender = os.pipe()
    os.close(receiver)
    with os.fdopen(sender, "wb", buffering=0) as file:
        stream = FileOutput(file)
        with pytest.raises(Err) as caught:
            getattr(stream, name)(b"x")
        assert isinstance(caught.value.value, StreamError.LastOperationFailed)
        assert caught.value.value.value.cause.errno == errno.EPIPE
        with pytest.raises(Err) as caught:
            getattr(stream, name)(b"x")
        assert caught.value.value is StreamError.CLOSED


def test_output_stream_takes_any_sink() -> None:
    own = NullOutput()
    assert output_stream(own) is own
    assert isinstance(output_stream(None), NullOutput)
    assert isinstance(output_stream(print), CallableOutput)
    assert isinstance(output_stream(io.BytesIO()), FileOutput)
