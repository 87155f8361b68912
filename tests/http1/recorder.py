"""A handler that writes down what a parser says, and the ways to cut bytes into packets."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from wasi_http.http1 import Field, Limits, RemoteProtocolError, RequestHead, RequestParser, ResponseHead, ResponseParser

Head = RequestHead | ResponseHead


@dataclasses.dataclass
class Message:
    head: Head
    body: bytes = b""
    trailers: list[Field] | None = None
    complete: bool = False

    def summary(self) -> tuple[object, ...]:
        head = tuple(getattr(self.head, name) for name in sorted(type(self.head).__slots__))
        return head, self.body, self.trailers, self.complete


class Recorder:
    """Collects messages; asks for the next one from within the event that completes one if `eager`."""

    def __init__(self, eager: bool = False) -> None:
        self.messages: list[Message] = []
        self.informational: list[ResponseHead] = []
        self.pieces = 0
        self.eager = eager
        self.parser: RequestParser | None = None

    def on_request(self, head: RequestHead) -> None:
        self._begin(head)

    def on_response(self, head: ResponseHead) -> None:
        self._begin(head)

    def on_informational(self, head: ResponseHead) -> None:
        assert not self.messages
        self.informational.append(head)

    def on_body(self, data: bytes) -> None:
        assert type(data) is bytes
        assert data
        message = self.messages[-1]
        assert message.head.has_body
        assert not message.complete
        message.body += data
        self.pieces += 1

    def on_end(self, trailers: list[Field]) -> None:
        message = self.messages[-1]
        assert message.head.has_body
        assert not message.complete
        message.trailers = trailers
        self._complete(message)

    def _begin(self, head: Head) -> None:
        assert all(message.complete for message in self.messages)
        message = Message(head)
        self.messages.append(message)
        if not head.has_body:
            self._complete(message)

    def _complete(self, message: Message) -> None:
        message.complete = True
        if self.eager and self.parser is not None:
            self.parser.next_message()


@dataclasses.dataclass
class Outcome:
    messages: list[Message]
    informational: list[ResponseHead]
    error: RemoteProtocolError | None
    reusable: bool = False

    def completed(self) -> list[tuple[object, ...]]:
        return [message.summary() for message in self.messages if message.complete]

    def all(self) -> list[tuple[object, ...]]:
        return [message.summary() for message in self.messages]


def read_requests(
    packets: Iterable[bytes], limits: Limits | None = None, eof: bool = False, eager: bool = False
) -> Outcome:
    recorder = Recorder(eager)
    parser = recorder.parser = RequestParser(recorder, limits)
    error = None
    try:
        for packet in packets:
            parser.feed(packet)
            while not eager and parser.complete:
                parser.next_message()
        if eof:
            parser.feed_eof()
    except RemoteProtocolError as raised:
        error = raised
    return Outcome(recorder.messages, recorder.informational, error)


def read_response(
    packets: Iterable[bytes], method: bytes = b"GET", limits: Limits | None = None, eof: bool = False
) -> Outcome:
    recorder = Recorder()
    parser = ResponseParser(method, recorder, limits)
    error = None
    try:
        for packet in packets:
            parser.feed(packet)
        reusable = parser.reusable
        if eof:
            parser.feed_eof()
    except RemoteProtocolError as raised:
        error = raised
        reusable = parser.reusable
        assert not reusable
    return Outcome(recorder.messages, recorder.informational, error, reusable)


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """Whole, byte by byte, and at every single split point."""
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    for i in range(1, len(data)):
        yield [data[:i], data[i:]]


def few_cuts(data: bytes) -> Iterator[list[bytes]]:
    """As `cuts`, for long input: whole, byte by byte, in halves, and around the end."""
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    for i in (len(data) // 2, len(data) - 3, len(data) - 2, len(data) - 1):
        yield [data[:i], data[i:]]
