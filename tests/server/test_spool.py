"""Output whose reader is slow, late, or gone."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import threading
import time
from collections.abc import Iterator

import pytest

from wasi_http.server import spool as module
from wasi_http.server.log import GuestOutput
from wasi_http.server.spool import MAX_SPOOLED, Spool
from wasi_http.wasi.io import SINK_PERMIT

from .serving import PATIENCE


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):  # the test closed it
            os.close(end)


def reading(reader: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += os.read(reader, 65536)
    return data


class Gate:
    """What is written: nothing before it is open, and what `fail` says instead of the first write."""

    def __init__(self, fail: OSError | None = None, part: int | None = None) -> None:
        self.open = threading.Event()
        self.pieces: list[bytes] = []
        self._fail = fail
        self._part = part

    def __call__(self, data: memoryview) -> int:
        assert self.open.wait(PATIENCE)
        if self._part is not None:
            part, self._part = self._part, None
            self.pieces.append(bytes(data[:part]))
            return part
        if self._fail is not None:
            fail, self._fail = self._fail, None
            raise fail
        self.pieces.append(bytes(data))
        return len(data)

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)


def lines(count: int, size: int = 64) -> list[bytes]:
    return [(b"%08d" % number).ljust(size - 1, b".") + b"\n" for number in range(count)]


def test_all_is_written_in_order() -> None:
    gate = Gate()
    gate.open.set()
    spool = Spool(gate)
    for line in lines(1000):
        spool.write(line)
    assert spool.drain(PATIENCE)
    assert gate.data == b"".join(lines(1000))


@pytest.mark.parametrize("blocking", [True, False])
def test_a_pipe_that_is_read_late(pipe: tuple[int, int], blocking: bool) -> None:
    reader, writer = pipe
    os.set_blocking(writer, blocking)
    stream = os.fdopen(writer, "w", closefd=False)
    spool = Spool.of(stream)
    for line in lines(8000):
        spool.write(line)
    assert not spool.drain(0.01)
    assert reading(reader, 8000 * 64) == b"".join(lines(8000))
    assert spool.drain(PATIENCE)


def test_what_does_not_fit_is_dropped_and_counted() -> None:
    gate, line = Gate(), b"x" * 1023 + b"\n"
    spool = Spool(gate)
    for _ in range(3 * MAX_SPOOLED // 1024):
        spool.write(line)
    spool.write(b"said by the server\n", 1024)
    gate.open.set()
    assert spool.drain(PATIENCE)
    kept, dropped = MAX_SPOOLED, 2 * MAX_SPOOLED
    said = f"… {dropped:,} bytes of output dropped: the log is not read\n".encode()
    assert gate.data == line * (kept // 1024) + said + b"said by the server\n"
    spool.write(b"later\n")
    assert spool.drain(PATIENCE)
    assert gate.data.endswith(b"\nlater\n")


def test_a_gap_is_told_when_there_is_nothing_else_to_say() -> None:
    gate = Gate()
    spool = Spool(gate)
    spool.write(bytes(MAX_SPOOLED))
    spool.write(b"1234")
    gate.open.set()
    assert spool.drain(PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while not gate.data.endswith("\n… 4 bytes of output dropped: the log is not read\n".encode()):
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (None, "… 10 bytes of output dropped: No space left on device\nnext\n"),
        (2, "on\n… 8 bytes of output dropped: No space left on device\nnext\n"),
        (4, "one\n… 6 bytes of output dropped: No space left on device\nnext\n"),
    ],
)
def test_a_full_disk_tears_no_line(part: int | None, expected: str) -> None:
    gate = Gate(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), part)
    gate.open.set()
    spool = Spool(gate)
    spool.write(b"one\nthree\n")
    assert spool.drain(PATIENCE)
    spool.write(b"next\n")
    assert spool.drain(PATIENCE)
    assert gate.data.decode() == expected


def test_a_reader_that_has_gone_costs_nothing(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    spool = Spool.of(os.fdopen(writer, "w", closefd=False))
    attempts = []
    write = spool._write
    assert write is not None
    spool._write = lambda data: attempts.append(len(data)) or write(data)
    for line in lines(1000):
        spool.write(line)
    assert spool.drain(PATIENCE)
    assert 0 < len(attempts) <= 1000  # none is made again


def test_a_stream_that_is_closed_discards() -> None:
    spool = Spool.of(None)
    spool.write(bytes(3 * MAX_SPOOLED))
    assert spool.drain(0)
    assert not spool.full


def test_other_processes_do_not_tear_lines() -> None:
    gate = Gate()
    gate.open.set()
    spool = Spool(gate, atomic=4096)
    written = [*lines(500), b"l" * 10_000 + b"\n", *lines(10), b"unfinished"]
    for line in written:
        spool.write(line)
    assert spool.drain(PATIENCE)
    assert gate.data == b"".join(written)
    *whole, last = gate.pieces
    assert last == b"unfinished"
    assert all(piece.endswith(b"\n") and (len(piece) <= 4096 or piece.count(b"\n") == 1) for piece in whole)


def test_the_thread_ends_when_there_is_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IDLE", 0.001)
    gate = Gate()
    gate.open.set()
    spool = Spool(gate)
    for _ in range(3):
        spool.write(b"line\n")
        thread = spool._thread
        if thread is not None:
            thread.join(PATIENCE)
        assert spool._thread is None
    assert gate.data == b"line\n" * 3


# ---- guests ---------------------------------------------------------------------------------------------------------


def test_a_guest_waits_for_room() -> None:
    async def main() -> None:
        gate = Gate()
        spool = Spool(gate)
        stream = GuestOutput(spool, spool.write)
        assert stream.check_write() == SINK_PERMIT
        while stream.check_write():
            stream.write(bytes(SINK_PERMIT))
        assert spool.full
        assert not stream.subscribe().ready()
        written = stream.blocking_write_and_flush(b"last")
        assert written is not None
        asyncio.get_running_loop().call_later(0.01, gate.open.set)
        await written
        assert spool.drain(PATIENCE)
        assert gate.data == bytes(MAX_SPOOLED) + b"last"

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_a_guest_does_not_wait_for_a_log_that_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STALLED", 0.05)

    async def main() -> None:
        gate = Gate()
        spool = Spool(gate)
        spool.write(bytes(MAX_SPOOLED))
        stream = GuestOutput(spool, spool.write)
        written = stream.blocking_write_and_flush(b"dropped\n")
        assert written is not None
        await written
        assert stream.check_write() == SINK_PERMIT
        gate.open.set()
        spool.write(b"x", MAX_SPOOLED)
        assert spool.drain(PATIENCE)
        assert gate.data == bytes(MAX_SPOOLED) + "\n… 8 bytes of output dropped: the log is not read\nx".encode()

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_a_loop_that_has_ended_is_not_woken() -> None:
    gate = Gate()
    spool = Spool(gate)

    async def main() -> None:
        spool.write(bytes(MAX_SPOOLED))
        assert GuestOutput(spool, spool.write).check_write() == 0

    asyncio.run(main())
    gate.open.set()
    assert spool.drain(PATIENCE)
    spool.write(b"more")
    assert spool.drain(PATIENCE)
