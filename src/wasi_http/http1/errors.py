"""Protocol errors, by the side at fault.

`RemoteProtocolError`: the peer violated the protocol or a limit, which is answered or reported. `LocalProtocolError`:
this side tried to send an invalid message, which is a bug or a misbehaving guest.
"""

from __future__ import annotations

import enum

__all__ = ["BodyLengthError", "LocalProtocolError", "ProtocolError", "Reason", "RemoteProtocolError"]


class Reason(enum.Enum):
    """Why a message was refused. Servers respond with `status`; clients map the member to their own error."""

    SYNTAX = "malformed message", 400
    TARGET = "bad request target", 400
    HOST = "missing, repeated or invalid Host", 400
    FRAMING = "ambiguous or invalid message length", 400
    CHUNK = "malformed chunked coding", 400
    TRANSFER_CODING = "unsupported transfer coding", 501
    VERSION = "unsupported HTTP version", 505
    START_LINE_SIZE = "start line too long", 414
    HEADER_SECTION_SIZE = "header section too large", 431
    TRAILER_SECTION_SIZE = "trailer section too large", 431
    BODY_SIZE = "body too large", 413
    TOO_MANY_INFORMATIONAL = "too many informational responses", 400
    UPGRADE = "unexpected switch of protocols", 400
    NO_RESPONSE = "connection closed before any byte of a response", 400
    INCOMPLETE_HEAD = "connection closed within a head", 400
    INCOMPLETE_BODY = "connection closed within a body", 400

    status: int

    def __new__(cls, phrase: str, status: int) -> Reason:
        self = object.__new__(cls)
        self._value_ = phrase
        self.status = status
        return self


class ProtocolError(Exception):
    """Base of the errors of this package."""


class RemoteProtocolError(ProtocolError):
    """The peer's message was refused; the parser that raised this is dead and the connection cannot be reused.

    `reason` is the kind of fault, `status` the response status for a server to send before it closes.
    """

    def __init__(self, reason: Reason, message: str | None = None) -> None:
        super().__init__(message or reason.value)
        self.reason = reason

    @property
    def status(self) -> int:
        return self.reason.status


class LocalProtocolError(ProtocolError):
    """This side tried to send something invalid. The call that raised emitted nothing."""


class BodyLengthError(LocalProtocolError):
    """A body does not match the content-length already declared: `declared` and `actual` are bytes.

    Raised by the write that would exceed it (`actual` includes that write, of which nothing is emitted) and by the end
    of a body that is too short. In both cases close the connection: the peer waits for the declared length.
    """

    def __init__(self, declared: int, actual: int) -> None:
        super().__init__(f"the body has {actual} bytes, content-length says {declared}")
        self.declared = declared
        self.actual = actual
