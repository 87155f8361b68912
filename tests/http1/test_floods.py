"""Hostile framing: the parser's time grows with the number of bytes, and the number of pieces does not.

Processor time is compared with processor time, with wide margins, so the speed of the machine does not matter.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from wasi_http.http1 import Field, RemoteProtocolError, RequestHead, RequestParser, ResponseHead, ResponseParser

#: What a loop delivers at once.
READ = 256 * 1024

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


class Counter:
    """Counts what a parser says."""

    def __init__(self) -> None:
        self.heads = 0
        self.pieces = 0
        self.size = 0

    def on_request(self, head: RequestHead) -> None:
        self.heads += 1

    def on_response(self, head: ResponseHead) -> None:
        self.heads += 1

    def on_informational(self, head: ResponseHead) -> None:
        self.heads += 1

    def on_body(self, data: bytes) -> None:
        self.pieces += 1
        self.size += len(data)

    def on_end(self, trailers: list[Field]) -> None:
        pass


def fill(part: bytes, size: int, start: bytes = b"") -> bytes:
    return start + part * max(1, (size - len(start)) // len(part))


def chunks(part: bytes) -> Callable[[int], bytes]:
    return lambda size: fill(part, size, POST + CHUNKED)


def requests(request: bytes) -> Callable[[int], bytes]:
    return lambda size: fill(request, size)


#: Bytes of about the size that is asked for, and in which pieces they arrive.
FLOODS: dict[str, tuple[Callable[[int], bytes], int]] = {
    "chunks of one byte": (chunks(b"1\r\nx\r\n"), READ),
    "chunks of two sizes": (chunks(b"1\r\nx\r\n2\r\nxx\r\n"), READ),
    "chunks with long sizes": (chunks(b"0000000000000001\r\nx\r\n"), READ),
    "chunks with extensions": (chunks(b"1;a=b\r\nx\r\n"), READ),
    "chunks with extensions of 1 KiB": (chunks(b'1;a="' + b"\\x" * 512 + b'"\r\nx\r\n'), READ),
    "requests": (requests(GET + b"\r\n"), READ),
    "requests with an empty line before": (requests(b"\r\n" + GET + b"\r\n"), READ),
    "requests with many headers": (requests(GET + b"a:\r\n" * 255 + b"\r\n"), READ),
    "requests with extensions": (requests(POST + CHUNKED + b"1;a=b\r\nx\r\n" * 4 + b"0\r\n\r\n"), READ),
    "requests with trailers": (requests(POST + CHUNKED + b"0\r\n" + b"a:\r\n" * 64 + b"\r\n"), READ),
    "requests with options": (requests(GET + b"Connection: " + b"," * 60_000 + b"keep-alive\r\n\r\n"), READ),
    "requests with a long host": (requests(b"GET http://" + b"x" * 30_000 + b"/ HTTP/1.1\r\nHost: a\r\n\r\n"), READ),
    "header lines": (lambda size: fill(b"a:\r\n", size, GET), READ),
    "empty lines": (requests(b"\r\n"), READ),
    "trailer lines": (lambda size: fill(b"a:\r\n", size, POST + CHUNKED + b"0\r\n"), READ),
    "a head in pieces": (lambda size: fill(b"a:" + b"x" * 2000 + b"\r\n", size // 8, GET), 1),
    "a body in pieces": (lambda size: fill(b"x", size // 8, POST + b"Content-Length: 999999\r\n\r\n"), 1),
    "chunks in pieces": (lambda size: chunks(b"1\r\nx\r\n")(size // 8), 1),
    "extensions in pieces": (lambda size: fill(b"a", size // 32, POST + CHUNKED + b"1;"), 1),
    "trailers in pieces": (lambda size: fill(b"a: b\r\n", size // 32, POST + CHUNKED + b"0\r\n"), 1),
}


def cost(data: bytes, step: int) -> float:
    """Seconds of processor time for reading, at its best."""
    best = 1e9
    pieces = [data[start : start + step] for start in range(0, len(data), step)]
    for _ in range(3):
        parser = RequestParser(Counter())
        start = time.thread_time()
        try:
            for piece in pieces:
                parser.feed(piece)
                while parser.complete:
                    parser.next_message()
        except RemoteProtocolError:
            pass
        best = min(best, time.thread_time() - start)
    return best


@pytest.mark.parametrize("name", FLOODS)
def test_time_grows_with_the_bytes(name: str) -> None:
    make, step = FLOODS[name]
    small, large = make(READ // 8), make(READ)
    short, long = cost(small, step), cost(large, step)
    # What a loop delivers at once takes a few milliseconds; the margin is for slow machines.
    assert step == 1 or long < 0.2
    assert long < 3 * len(large) / len(small) * max(short, 0.0005)


@pytest.mark.parametrize("name", ["chunks of one byte", "chunks of two sizes", "chunks with extensions"])
def test_chunks_come_in_one_piece(name: str) -> None:
    counter = Counter()
    data = FLOODS[name][0](32 * 1024)
    RequestParser(counter).feed(data)
    assert counter.pieces == 1
    assert counter.size == data.count(b"x")


def test_tiny_chunks_cost_little_more_than_large_ones() -> None:
    """Without the work in Python that one chunk takes, it is a matter of copying."""
    times = []
    for chunk in (b"1\r\nx\r\n", b"1000\r\n" + bytes(4096) + b"\r\n"):
        best = 1e9
        for _ in range(5):
            parser = RequestParser(Counter())
            parser.feed(POST + CHUNKED)
            data = fill(chunk, READ)
            start = time.thread_time()
            parser.feed(data)
            best = min(best, time.thread_time() - start)
        times.append(best)
    assert times[0] < 100 * max(times[1], 0.0001)


def test_responses_in_tiny_chunks() -> None:
    counter = Counter()
    parser = ResponseParser(b"GET", counter)
    parser.feed(b"HTTP/1.1 103 x\r\n\r\n" * 32 + b"HTTP/1.1 200 OK\r\n" + CHUNKED)
    for _ in range(4):
        parser.feed(fill(b"1\r\nx\r\n", READ))
    assert counter.heads == 33
    assert counter.pieces == 4


def test_requests_that_wait_are_not_copied_again_and_again() -> None:
    """A server asks for the next request in a later turn of its loop."""
    times = []
    for count in (1000, 8000):
        parser = RequestParser(Counter())
        start = time.thread_time()
        parser.feed((GET + b"\r\n") * count)
        for _ in range(count):
            parser.next_message()
        times.append(time.thread_time() - start)
    assert times[1] < 3 * 8 * max(times[0], 0.005)
