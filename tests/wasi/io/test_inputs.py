from __future__ import annotations

import asyncio
import io
import os
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasi_http.component.model.values import Err
from wasi_http.wasi.io import BytesInput, FileInput, InputStream, StreamError, input_stream


def drain(stream: InputStream, size: int = 3) -> bytes:
    data = bytearray()
    error = None
    while error is None:
        try:
            data += stream.read(size)
        except Err as raised:
            error = raised.value
    assert error is StreamError.CLOSED
    return bytes(data)


@given(st.binary(max_size=100), st.integers(1, 20))
def test_bytes_are_given_verbatim(data: bytes, size: int) -> None:
    assert drain(BytesInput(data), size) == data
    assert drain(FileInput(io.BytesIO(data)), size) == data


def test_a_file_on_disk_is_always_ready(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(b"hello, world")
    with path.open("rb") as file:
        stream = FileInput(file)
        assert stream.subscribe().ready()
        assert drain(stream) == b"hello, world"
        assert not file.closed


def test_a_pipe_is_waited_for_without_blocking() -> None:
    async def main() -> None:
        receiver, sender = os.pipe()
        with os.fdopen(receiver, "rb") as file:
            stream = FileInput(file)
            assert stream.read(10) == b""
            assert not stream.subscribe().ready()
            pending = stream.blocking_read(10)
            assert not isinstance(pending, bytes)
            task = asyncio.ensure_future(pending)
            await asyncio.sleep(0)
            assert len(stream.signal) == 1
            os.write(sender, b"abc")
            assert await asyncio.wait_for(task, 5) == b"abc"
            assert len(stream.signal) == 0
            assert not asyncio.get_running_loop().remove_reader(receiver)
            os.close(sender)
            assert stream.subscribe().ready()
            with pytest.raises(Err):
                stream.read(1)

    asyncio.run(main())


def test_a_cancelled_wait_for_a_pipe_leaves_no_reader() -> None:
    async def main() -> None:
        receiver, sender = os.pipe()
        with os.fdopen(receiver, "rb") as file, os.fdopen(sender, "wb"):
            pending = FileInput(file).blocking_read(10)
            assert not isinstance(pending, bytes)
            task = asyncio.ensure_future(pending)
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not asyncio.get_running_loop().remove_reader(receiver)

    asyncio.run(main())


def test_errors_of_the_file_are_failures() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(Err) as caught:
        FileInput(Broken()).read(1)
    assert isinstance(caught.value.value, StreamError.LastOperationFailed)


def test_input_stream_takes_any_source() -> None:
    own = BytesInput(b"own")
    assert input_stream(own) is own
    assert drain(input_stream(None)) == b""
    assert drain(input_stream(b"bytes")) == b"bytes"
    assert drain(input_stream(io.BytesIO(b"file"))) == b"file"
