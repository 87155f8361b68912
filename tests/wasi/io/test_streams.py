from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasi_http.component.model.values import Err
from wasi_http.engine import Trap
from wasi_http.wasi.io import (
    MAX_BLOCKING_WRITE,
    MAX_PERMIT,
    MAX_READ,
    BytesInput,
    InputStream,
    NullOutput,
    OutputStream,
    StreamError,
    failed,
)

from .streams import ManualInput, ManualOutput

CLOSED = Err(StreamError.CLOSED)
MAX_U64 = 2**64 - 1


async def finish(value: Any) -> Any:
    return await value if isinstance(value, Awaitable) else value


def outcome(call: Callable[[], Any]) -> Any:
    """What the guest gets: the value, or the `Err`, with the cause in place of an error resource."""
    try:
        result = call()
        if isinstance(result, Awaitable):
            result.close()  # type: ignore[attr-defined]
            return "waits"
        return result
    except Err as error:
        value = error.value
        return ("failed", value.value.cause) if isinstance(value, StreamError.LastOperationFailed) else value


def failing(cause: object) -> ManualInput:
    stream = ManualInput()
    stream.fail(failed(cause))
    return stream


# Input: state of the stream -> what each function answers.

READS: dict[str, Callable[[InputStream, int], Any]] = {
    "read": InputStream.read,
    "blocking-read": InputStream.blocking_read,
    "skip": InputStream.skip,
    "blocking-skip": InputStream.blocking_skip,
}


def fresh(state: str) -> ManualInput:
    stream = ManualInput()
    if state == "data":
        stream.feed(b"abc")
    elif state == "end":
        stream.end()
    elif state == "failure":
        stream.fail(failed("why"))
    elif state == "os error":
        stream.fail(ConnectionResetError(104, "reset"))
    elif state == "closed":
        stream.end()
        outcome(lambda: stream.read(1))
    return stream


@pytest.mark.parametrize(
    ("state", "length", "read", "blocking"),
    [
        ("empty", 5, b"", "waits"),
        ("empty", 0, b"", "waits"),
        ("data", 5, b"abc", b"abc"),
        ("data", 2, b"ab", b"ab"),
        ("data", 0, b"", b""),
        ("data", MAX_U64, b"abc", b"abc"),
        ("end", 5, StreamError.CLOSED, StreamError.CLOSED),
        ("end", 0, b"", b""),
        ("closed", 5, StreamError.CLOSED, StreamError.CLOSED),
        ("closed", 0, StreamError.CLOSED, StreamError.CLOSED),
        ("failure", 5, ("failed", "why"), ("failed", "why")),
    ],
)
def test_reading(state: str, length: int, read: Any, blocking: Any) -> None:
    for name, function in READS.items():
        expected = blocking if "blocking" in name else read
        if "skip" in name and isinstance(expected, bytes):
            expected = len(expected)
        stream = fresh(state)
        assert outcome(lambda function=function, stream=stream: function(stream, length)) == expected, name


@pytest.mark.parametrize("state", ["failure", "os error"])
def test_a_failure_is_told_once(state: str) -> None:
    stream = fresh(state)
    assert stream.subscribe().ready()
    assert outcome(lambda: stream.read(1))[0] == "failed"
    assert outcome(lambda: stream.read(1)) is StreamError.CLOSED
    assert stream.pulls == 1
    assert stream.subscribe().ready()


def test_data_before_a_failure_is_not_lost() -> None:
    stream = fresh("data")
    stream.fail(OSError(5, "gone"))
    assert stream.read(10) == b"abc"
    assert outcome(lambda: stream.read(10))[0] == "failed"


def test_reads_are_capped() -> None:
    stream = BytesInput(bytes(3 * MAX_READ))
    assert len(stream.read(MAX_U64)) == MAX_READ
    assert stream.skip(MAX_U64) == MAX_READ
    assert len(outcome(lambda: stream.blocking_read(MAX_U64))) == MAX_READ
    assert outcome(lambda: stream.read(1)) is StreamError.CLOSED


def test_blocking_reads_wait_for_data_or_the_end() -> None:
    async def main() -> None:
        for function, expected in ((InputStream.blocking_read, b"xy"), (InputStream.blocking_skip, 2)):
            stream = ManualInput()
            task = asyncio.ensure_future(finish(function(stream, 10)))
            await asyncio.sleep(0)
            stream.signal.notify()  # nothing there yet
            await asyncio.sleep(0)
            assert not task.done()
            assert len(stream.signal) == 1
            stream.feed(b"xy", b"z")
            assert await task == expected
            assert len(stream.signal) == 0
            stream.read(9)
            task = asyncio.ensure_future(finish(function(stream, 10)))
            await asyncio.sleep(0)
            stream.end()
            with pytest.raises(Err) as caught:
                await task
            assert caught.value == CLOSED
            assert len(stream.signal) == 0

    asyncio.run(main())


def test_a_blocking_read_of_nothing_waits_for_readiness() -> None:
    async def main() -> None:
        stream = ManualInput()
        task = asyncio.ensure_future(finish(stream.blocking_read(0)))
        await asyncio.sleep(0)
        stream.feed(b"x")
        assert await task == b""
        assert stream.read(1) == b"x"

    asyncio.run(main())


def test_a_pollable_of_an_input_stream_follows_it() -> None:
    stream = ManualInput()
    pollable = stream.subscribe()
    assert not pollable.ready()
    stream.feed(b"x")
    assert pollable.ready()
    stream.read(1)
    assert not pollable.ready()
    stream.end()
    assert pollable.ready()


def test_a_cancelled_read_leaves_no_watcher_and_loses_nothing() -> None:
    async def main() -> None:
        stream = ManualInput()
        task = asyncio.ensure_future(finish(stream.blocking_read(10)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(stream.signal) == 0
        stream.feed(b"x")
        assert stream.read(1) == b"x"

    asyncio.run(main())


# Output


def full() -> ManualOutput:
    stream = ManualOutput(3)
    stream.write(b"abc")
    return stream


def flushing() -> ManualOutput:
    stream = ManualOutput(10)
    stream.write(b"abc")
    stream.flush()
    return stream


def over() -> ManualOutput:
    stream = ManualOutput()
    stream.close()
    return stream


def broken() -> ManualOutput:
    stream = ManualOutput()
    stream.fail(failed("why"))
    return stream


def closed() -> ManualOutput:
    stream = over()
    outcome(stream.check_write)
    return stream


CASES: list[tuple[Callable[[], ManualOutput], str, tuple[Any, ...], Any]] = [
    (ManualOutput, "check_write", (), 10),
    (full, "check_write", (), 0),
    (flushing, "check_write", (), 0),
    (over, "check_write", (), StreamError.CLOSED),
    (closed, "check_write", (), StreamError.CLOSED),
    (broken, "check_write", (), ("failed", "why")),
    (ManualOutput, "write", (b"0123456789",), None),
    (ManualOutput, "write", (b"",), None),
    (full, "write", (b"",), None),
    (flushing, "write", (b"",), None),
    (over, "write", (b"",), StreamError.CLOSED),
    (over, "write", (b"x",), StreamError.CLOSED),
    (closed, "write", (b"x",), StreamError.CLOSED),
    (broken, "write", (b"x",), ("failed", "why")),
    (ManualOutput, "write_zeroes", (10,), None),
    (ManualOutput, "write_zeroes", (0,), None),
    (full, "write_zeroes", (0,), None),
    (closed, "write_zeroes", (0,), StreamError.CLOSED),
    (broken, "write_zeroes", (1,), ("failed", "why")),
    (lambda: ManualOutput(slow=False), "blocking_write_and_flush", (b"abc",), None),
    (ManualOutput, "blocking_write_and_flush", (b"abc",), "waits"),
    (ManualOutput, "blocking_write_and_flush", (b"",), None),
    (full, "blocking_write_and_flush", (b"",), "waits"),
    (full, "blocking_write_and_flush", (b"x",), "waits"),
    (closed, "blocking_write_and_flush", (b"x",), StreamError.CLOSED),
    (broken, "blocking_write_and_flush", (b"x",), ("failed", "why")),
    (ManualOutput, "blocking_write_zeroes_and_flush", (3,), "waits"),
    (lambda: ManualOutput(slow=False), "blocking_write_zeroes_and_flush", (3,), None),
    (closed, "blocking_write_zeroes_and_flush", (3,), StreamError.CLOSED),
    (ManualOutput, "flush", (), None),
    (full, "flush", (), None),
    (closed, "flush", (), StreamError.CLOSED),
    (broken, "flush", (), ("failed", "why")),
    (ManualOutput, "blocking_flush", (), None),
    (full, "blocking_flush", (), "waits"),
    (closed, "blocking_flush", (), StreamError.CLOSED),
    (broken, "blocking_flush", (), ("failed", "why")),
    (ManualOutput, "splice", (BytesInput(b"abc"), 2), 2),
    (ManualOutput, "splice", (BytesInput(b"abc"), MAX_U64), 3),
    (ManualOutput, "splice", (BytesInput(bytes(100)), MAX_U64), 10),
    (ManualOutput, "splice", (BytesInput(b"abc"), 0), 0),
    (ManualOutput, "splice", (ManualInput(), 5), 0),
    (ManualOutput, "splice", (BytesInput(b""), 5), StreamError.CLOSED),
    (ManualOutput, "splice", (failing("input"), 5), ("failed", "input")),
    (full, "splice", (BytesInput(b"abc"), 5), 0),
    (closed, "splice", (BytesInput(b"abc"), 5), StreamError.CLOSED),
    (broken, "splice", (BytesInput(b"abc"), 5), ("failed", "why")),
    (ManualOutput, "blocking_splice", (BytesInput(b"abc"), 2), 2),
    (ManualOutput, "blocking_splice", (BytesInput(b"abc"), 0), 0),
    (ManualOutput, "blocking_splice", (ManualInput(), 5), "waits"),
    (full, "blocking_splice", (BytesInput(b"abc"), 5), "waits"),
    (ManualOutput, "blocking_splice", (BytesInput(b""), 5), StreamError.CLOSED),
    (closed, "blocking_splice", (BytesInput(b"abc"), 5), StreamError.CLOSED),
]


@pytest.mark.parametrize(("make", "name", "arguments", "expected"), CASES)
def test_writing(make: Callable[[], ManualOutput], name: str, arguments: tuple[Any, ...], expected: Any) -> None:
    stream = make()
    assert outcome(lambda: getattr(stream, name)(*arguments)) == expected
    if expected is StreamError.CLOSED or isinstance(expected, tuple):
        pollable = stream.subscribe()
        if not isinstance(arguments[0] if arguments else None, InputStream):
            assert pollable.ready()
            assert outcome(stream.check_write) is StreamError.CLOSED  # a failure is told once


@pytest.mark.parametrize(
    ("make", "name", "argument"),
    [
        (ManualOutput, "write", bytes(11)),
        (full, "write", b"x"),
        (flushing, "write", b"x"),
        (ManualOutput, "write_zeroes", 11),
        (ManualOutput, "write_zeroes", MAX_U64),
        (full, "write_zeroes", MAX_U64),
        (NullOutput, "write", bytes(MAX_PERMIT + 1)),
        (NullOutput, "write_zeroes", MAX_U64),
        (ManualOutput, "blocking_write_and_flush", bytes(MAX_BLOCKING_WRITE + 1)),
        (ManualOutput, "blocking_write_zeroes_and_flush", MAX_BLOCKING_WRITE + 1),
        (ManualOutput, "blocking_write_zeroes_and_flush", MAX_U64),
    ],
)
def test_too_much_traps(make: Callable[[], OutputStream], name: str, argument: Any) -> None:
    with pytest.raises(Trap, match="exceed"):
        getattr(make(), name)(argument)


def test_permits_are_capped() -> None:
    assert ManualOutput(MAX_U64).check_write() == MAX_PERMIT


def test_empty_writes_reach_nothing() -> None:
    async def main() -> None:
        stream = ManualOutput(slow=False)
        for _ in range(1000):
            stream.write(b"")
            stream.write_zeroes(0)
            await finish(stream.blocking_write_and_flush(b""))
            await finish(stream.blocking_write_zeroes_and_flush(0))
        assert stream.pushes == 0

    asyncio.run(main())


def test_check_write_is_zero_until_the_flush_is_done() -> None:
    stream = flushing()
    pollable = stream.subscribe()
    assert (stream.check_write(), pollable.ready()) == (0, False)
    stream.consume(2)
    assert (stream.check_write(), pollable.ready()) == (0, False)
    stream.consume()
    assert pollable.ready()
    assert stream.check_write() == 10


def test_a_failure_during_the_flush_is_told_by_check_write() -> None:
    stream = flushing()
    stream.fail(BrokenPipeError(32, "Broken pipe"))
    assert stream.subscribe().ready()
    kind, cause = outcome(stream.check_write)
    assert (kind, cause.errno) == ("failed", 32)
    assert outcome(stream.check_write) is StreamError.CLOSED
    assert outcome(stream.flush) is StreamError.CLOSED


def test_blocking_write_and_flush_goes_through_a_small_buffer() -> None:
    async def main() -> None:
        stream = ManualOutput(3)
        task = asyncio.ensure_future(finish(stream.blocking_write_and_flush(b"0123456789")))
        for _ in range(20):
            await asyncio.sleep(0)
            stream.consume(1)
        assert await task is None
        assert bytes(stream.received) == b"0123456789"
        assert len(stream.signal) == 0
        assert stream.check_write() == 3

    asyncio.run(main())


def test_blocking_write_and_flush_fails_where_it_waits() -> None:
    async def main() -> None:
        for make in (full, flushing, ManualOutput):
            stream = make()
            task = asyncio.ensure_future(finish(stream.blocking_write_and_flush(b"xyz")))
            await asyncio.sleep(0)
            stream.fail(failed("late"))
            with pytest.raises(Err) as caught:
                await task
            assert caught.value.value.value.cause == "late"
            assert outcome(stream.check_write) is StreamError.CLOSED
            assert len(stream.signal) == 0

    asyncio.run(main())


def test_writing_the_last_bytes_of_a_stream_succeeds() -> None:
    class Full(ManualOutput):
        def push(self, data: bytes) -> None:
            super().push(data)
            self.over = True

    stream = Full(slow=False)
    assert stream.blocking_write_and_flush(b"abc") is None
    assert outcome(stream.check_write) is StreamError.CLOSED


def test_blocking_flush_waits_until_there_is_room() -> None:
    async def main() -> None:
        stream = full()
        task = asyncio.ensure_future(finish(stream.blocking_flush()))
        await asyncio.sleep(0)
        stream.consume(1)
        await asyncio.sleep(0)
        assert not task.done()
        stream.consume()
        assert await task is None
        assert stream.flushes == 1

    asyncio.run(main())


def test_blocking_splice_waits_for_both_ends() -> None:
    async def main() -> None:
        source, sink = ManualInput(), full()
        task = asyncio.ensure_future(finish(sink.blocking_splice(source, MAX_U64)))
        await asyncio.sleep(0)
        source.feed(b"12345")
        await asyncio.sleep(0)
        assert not task.done()
        assert source.pulls == 0
        sink.consume(2)
        assert await task == 2
        assert (len(source.signal), len(sink.signal)) == (0, 0)
        sink.consume()
        assert bytes(sink.received) == b"abc12"
        assert source.read(9) == b"345"

    asyncio.run(main())


def test_a_cancelled_write_leaves_no_watcher() -> None:
    async def main() -> None:
        calls: list[Callable[[ManualOutput], Any]] = [
            lambda stream: stream.blocking_write_and_flush(b"x"),
            lambda stream: stream.blocking_write_zeroes_and_flush(1),
            lambda stream: stream.blocking_flush(),
            lambda stream: stream.blocking_splice(BytesInput(b"x"), 1),
        ]
        for call in calls:
            stream = full()
            task = asyncio.ensure_future(finish(call(stream)))
            await asyncio.sleep(0)
            assert len(stream.signal) == 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert len(stream.signal) == 0

    asyncio.run(main())


def test_hooks_must_be_implemented() -> None:
    with pytest.raises(NotImplementedError):
        InputStream().read(1)
    with pytest.raises(NotImplementedError):
        OutputStream().write(b"x")


def test_other_exceptions_are_mistakes_of_the_host() -> None:
    stream = ManualInput()
    stream.fail(KeyError("bug"))
    with pytest.raises(KeyError):
        stream.read(1)


# Laws

writes = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.binary(max_size=20)),
        st.tuples(st.just("blocking"), st.binary(max_size=50)),
        st.tuples(st.just("zeroes"), st.integers(0, 20)),
        st.tuples(st.just("blocking zeroes"), st.integers(0, 50)),
        st.tuples(st.just("flush"), st.none()),
        st.tuples(st.just("blocking flush"), st.none()),
        st.tuples(st.just("splice"), st.binary(max_size=30)),
        st.tuples(st.just("blocking splice"), st.binary(min_size=1, max_size=30)),
    ),
    max_size=30,
)


@given(writes, st.integers(1, 16), st.integers(1, 16), st.booleans())
def test_bytes_out_are_bytes_in(operations: list[tuple[str, Any]], capacity: int, speed: int, slow: bool) -> None:
    async def guest(stream: ManualOutput) -> bytes:
        sent = b""
        for name, argument in operations:
            if name == "write":
                argument = argument[: stream.check_write()]
                stream.write(argument)
                sent += argument
            elif name == "blocking":
                await finish(stream.blocking_write_and_flush(argument))
                sent += argument
            elif name == "zeroes":
                count = min(argument, stream.check_write())
                stream.write_zeroes(count)
                sent += bytes(count)
            elif name == "blocking zeroes":
                await finish(stream.blocking_write_zeroes_and_flush(argument))
                sent += bytes(argument)
            elif name == "flush":
                stream.flush()
            elif name == "blocking flush":
                await finish(stream.blocking_flush())
            elif argument:
                source = BytesInput(argument)
                splice = stream.splice if name == "splice" else stream.blocking_splice
                sent += argument[: await finish(splice(source, MAX_U64))]
        return sent

    async def main() -> None:
        stream = ManualOutput(capacity, slow=slow)
        task = asyncio.ensure_future(guest(stream))
        while not task.done():
            await asyncio.sleep(0)
            assert len(stream.buffer) <= capacity
            stream.consume(speed)
        stream.consume()
        assert bytes(stream.received) == await task
        assert len(stream.signal) == 0

    asyncio.run(main())


@given(
    st.lists(st.binary(min_size=1, max_size=20), max_size=10),
    st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 30)), max_size=30),
)
def test_what_is_read_and_skipped_is_what_was_fed(chunks: list[bytes], calls: list[tuple[bool, bool, int]]) -> None:
    stream = ManualInput()
    stream.feed(*chunks)
    stream.end()
    everything = b"".join(chunks)
    position = 0
    for skip, blocking, length in calls:
        name = ("blocking_" if blocking else "") + ("skip" if skip else "read")
        got = outcome(lambda name=name, length=length: getattr(stream, name)(length))
        if got is StreamError.CLOSED:
            assert position == len(everything)
        elif skip:
            assert got <= length
            position += got
        else:
            assert len(got) <= length
            assert got == everything[position : position + len(got)]
            position += len(got)
