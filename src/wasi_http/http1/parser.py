"""Reading messages: what requests and responses have in common.

The rules, for both directions:

* **Boundaries first, then what is inside.** A head is read only once its last byte is there, and nothing beyond it;
  bodies are cut here. So the parser always knows which byte belongs to which message and stops exactly at the end of
  one.
* **A parser reads one message and then holds still.** Bytes that follow a complete request stay unparsed until
  `next_message()`. That is the whole of pipelining: requests are handled strictly one after another, there is no
  queue of events, and what is held is what the transport had delivered already. The connection must stop reading when
  it sees `pending` grow, as it must while a body is not consumed.
* **Events are calls on a handler.** For each message: the head; if `head.has_body`, any number of body pieces, at most
  one per `feed`, never empty; and then exactly one end, with the trailers. A message without a body is complete with
  its head: no end is announced.
* **Errors are raised** by the `feed`, `feed_eof` or `next_message` that met them, and are final.
* **Time is linear in the bytes**, however small the pieces are in which they arrive: an unfinished head is scanned
  once, and what is held is not copied again for each piece or each message.
* **The outcome does not depend on how the bytes were cut**: the same messages are accepted with the same content,
  and the others refused. Only which of several faults is named first may differ.

A handler may call `next_message()` from within an event; it must not call `feed` there.

        head ──────────────► LENGTH ─────────┐
         │ └───────────────► CHUNKED ────────┤ end
         │ └ (responses) ──► UNTIL_CLOSE ────┤
         │ no body                           ▼
         └─────────────────────────────► COMPLETE ── next_message() ─► HEAD, or CLOSED if not kept alive
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar, Protocol

from wasi_http.http1.chunked import ChunkedDecoder
from wasi_http.http1.errors import LocalProtocolError, Reason, RemoteProtocolError
from wasi_http.http1.fieldsection import Field, check_partial
from wasi_http.http1.limits import Limits

__all__ = [
    "CHUNKED",
    "CLOSED",
    "COMPLETE",
    "DEAD",
    "HEAD",
    "LENGTH",
    "UNTIL_CLOSE",
    "BodyHandler",
    "MessageParser",
    "list_elements",
]

HEAD, LENGTH, CHUNKED, UNTIL_CLOSE, COMPLETE, CLOSED, DEAD = range(7)


class BodyHandler(Protocol):
    def on_body(self, data: bytes, /) -> None:
        """A piece of the body, never empty."""

    def on_end(self, trailers: list[Field], /) -> None:
        """The body is complete. Not called for messages without a body."""


def list_elements(value: bytes) -> list[bytes]:
    """The elements of one field value that is a list of tokens, in lower case (RFC 9110 §5.6.1)."""
    return [element.strip(b" \t") for element in value.lower().split(b",")]


class MessageParser:
    """Base of `RequestParser` and `ResponseParser`; see the rules above."""

    __slots__ = (
        "__weakref__",
        "_blank",
        "_chunks",
        "_eof",
        "_keep_alive",
        "_limits",
        "_max_head",
        "_max_headers",
        "_max_line",
        "_on_body",
        "_on_end",
        "_remaining",
        "_running",
        "_scan",
        "_start",
        "_state",
        "held",
    )

    #: Finds the end of a head, whose lines may end with LF alone or not.
    _END_OF_HEAD: ClassVar[re.Pattern[bytes]]
    _LF: ClassVar[bool]

    def __init__(self, handler: BodyHandler, limits: Limits) -> None:
        self._on_body: Callable[[bytes], None] = handler.on_body
        self._on_end: Callable[[list[Field]], None] = handler.on_end
        self._limits = limits
        self._max_head = limits.head
        self._max_line = min(limits.start_line, limits.head)
        self._max_headers = limits.headers
        self._state = HEAD
        #: What is held, from `_start` on, empty if nothing; see `pending`. A bytearray while an unfinished head or
        #: requests that wait are added to.
        self.held: bytes | bytearray = b""
        self._start = 0
        self._scan = 0  # how much of what is held is known not to contain the end of a head
        self._blank = False  # an empty line before the head was skipped
        self._remaining = 0
        self._chunks: ChunkedDecoder | None = None
        self._keep_alive = True
        self._running = False
        self._eof = False

    @property
    def pending(self) -> int:
        """Bytes held: an unfinished head or line, or what follows a complete message."""
        return len(self.held) - self._start

    @property
    def first_line(self) -> bytes:
        """What there is of the first line of a head that was refused or that has not arrived as a whole."""
        return bytes(self.held[self._start : self._start + self._max_line]).lstrip(b"\r\n").partition(b"\n")[0]

    @property
    def complete(self) -> bool:
        """Whether a whole message was read and the next was not asked for."""
        return self._state == COMPLETE

    def feed(self, data: bytes) -> None:
        """Reads what arrived; calls the handler. `RemoteProtocolError`: the peer's fault, `data` included.

        What follows the last message of a connection (`keep_alive` false) is ignored.
        """
        if self._running:
            raise LocalProtocolError("feed() called from within an event")
        if self.held:
            held = self.held
            if isinstance(held, bytes):
                held = self.held = bytearray(held[self._start :])
                self._start = 0
            held += data
            if self._waits(held):
                return
            data = bytes(held)
            self.held = b""
        self._run(data, 0)

    def _waits(self, held: bytearray) -> bool:
        """Whether what is held has to wait for more of it, or for `next_message`."""
        if self._state == COMPLETE:
            return True
        if self._state != HEAD or self._END_OF_HEAD.search(held, self._scan):
            return False
        try:
            position = self._check_partial_head(held, 0)
        except RemoteProtocolError:
            self._state = DEAD
            raise
        del held[:position]
        return True

    def feed_eof(self) -> None:
        """The peer will send no more. `RemoteProtocolError` if that cuts a message short.

        While a complete message is being handled it only takes note; `next_message()` then judges what was held.
        """
        self._eof = True
        if self._state != COMPLETE:
            self._end_of_input()

    def _run(self, data: bytes, position: int) -> None:
        size = len(data)
        self._running = True
        try:
            while position < size:
                state = self._state
                if state == HEAD:
                    end = self._read_head(data, position)
                    if end < 0:
                        position = self._check_partial_head(data, position)
                        break
                    position = end
                elif state == LENGTH:
                    remaining = self._remaining
                    available = size - position
                    if available < remaining:
                        self._remaining = remaining - available
                        piece = data[position:]
                        position = size
                        self._on_body(piece)
                    else:
                        piece = data[position : position + remaining]
                        position += remaining
                        self._remaining = 0
                        self._on_body(piece)
                        self._state = COMPLETE
                        self._on_end([])
                elif state == CHUNKED:
                    chunks = self._chunks
                    assert chunks is not None
                    piece, position = chunks.decode(data, position)
                    if piece:
                        self._on_body(piece)
                    if not chunks.done:
                        break
                    self._chunks = None
                    self._state = COMPLETE
                    self._on_end(chunks.trailers)
                elif state == UNTIL_CLOSE:
                    self._count_body(size - position)
                    piece = data[position:]
                    position = size
                    self._on_body(piece)
                elif state == COMPLETE and self._keep_alive:
                    break
                elif state in (COMPLETE, CLOSED):
                    position = size  # nothing may follow: not kept
                else:
                    raise LocalProtocolError("the parser cannot be used after an error")
        except BaseException:
            if self._state == HEAD:
                self.held, self._start = data[position : position + self._max_line], 0
            self._state = DEAD
            raise
        finally:
            self._running = False
        if position < size:
            if position > size // 2:
                # Copied only where that frees more than it costs.
                data = data[position:]
                position = 0
            self.held = data
            self._start = position

    def _check_partial_head(self, data: bytes | bytearray, position: int) -> int:
        """Bounds and judges a head whose end has not arrived; where it begins."""
        if data.startswith((b"\r\n", b"\n") if self._LF else b"\r\n", position):
            position = self._skip_blank_line(data, position)
        size = len(data)
        length = size - position
        line_end = data.find(b"\n", position, position + self._max_line + 2)
        if line_end < 0 and length > self._max_line + 1:
            raise RemoteProtocolError(Reason.START_LINE_SIZE)
        if length > self._max_head:
            raise RemoteProtocolError(Reason.HEADER_SECTION_SIZE if line_end >= 0 else Reason.START_LINE_SIZE)
        check_partial(data, position, max(self._scan - 1, 0), self._LF)
        self._scan = max(length - 3, 0)
        return position

    def _skip_blank_line(self, data: bytes | bytearray, position: int) -> int:
        """One empty line may precede a message: some senders end a body with one too many (RFC 9112 §2.2)."""
        if self._blank:
            raise RemoteProtocolError(Reason.SYNTAX, "empty lines before a message")
        self._blank = True
        self._scan = 0
        return data.index(b"\n", position) + 1

    def _read_head(self, data: bytes, position: int) -> int:
        """Reads the head that begins there, announces it, sets the state; where it ends, -1 if that has not arrived.

        The first `_scan` bytes do not contain its end, which is no longer true of the next head.
        """
        raise NotImplementedError

    def _count_body(self, size: int) -> None:
        """Charges a body of undeclared length to the limit."""
        limit = self._limits.body
        if limit is not None:
            self._remaining += size
            if self._remaining > limit:
                raise RemoteProtocolError(Reason.BODY_SIZE)

    def _end_of_input(self) -> None:
        try:
            state = self._state
            if state in (LENGTH, CHUNKED):
                raise RemoteProtocolError(Reason.INCOMPLETE_BODY)
            if state == HEAD:
                self._end_of_input_in_head()
            elif state == UNTIL_CLOSE:
                self._state = COMPLETE
                self._on_end([])
        except BaseException:
            self._state = DEAD
            raise

    def _end_of_input_in_head(self) -> None:
        raise NotImplementedError
