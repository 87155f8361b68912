"""TLS over a plain transport, with the standard library's `ssl` and no I/O of its own.

The event loops have this as well, but theirs drop received data when the connection is lost, and asyncio's does not
distinguish a closed TLS connection from a truncated one (RFC 9112, section 9.8). Here all received data is decrypted
and delivered before the end, and each kind of end has its own call:

    close_notify             ``eof_received()``
    FIN without it           ``cut_off()``
    reset, alert, bad record ``connection_lost(error)``

Closing sends close_notify and does not wait for the other side's (RFC 8446, section 6.1).
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import itertools
import socket
import ssl
from typing import Any, Final, Protocol, cast

from wasi_http.net.sockets import unread

__all__ = ["Secured", "TlsTransport"]

# Bytes of plain text read at once: the most that a record has.
_RECORD: Final = 16384

# The most records passed to the protocol at once, and decrypted in one turn of the loop: they may be tiny.
_BATCH: Final = 8
_MAX_RECORDS: Final = 1024

# The most pieces of 64 KiB read from a lost connection.
_MAX_UNREAD: Final = 8


class _End(enum.Enum):
    OF_INPUT = enum.auto()
    OF_STREAM = enum.auto()
    OF_CONNECTION = enum.auto()


class Secured(Protocol):
    """The protocol on top, which receives plain text; see `asyncio.Protocol`."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...

    def connection_lost(self, error: Exception | None) -> None: ...

    def data_received(self, data: bytes) -> None: ...

    def eof_received(self) -> object: ...

    def cut_off(self) -> None:
        """Called when the peer closed the connection without close_notify: data may be missing."""

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class TlsTransport(asyncio.Protocol):
    """The client's side: the protocol of a plain transport, and the transport of ``protocol``, once `ready` is done."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: ssl.SSLContext,
        host: str,
        sock: socket.socket,
        protocol: Secured,
    ) -> None:
        #: Done when the handshake is. Its error is an OSError.
        self.ready: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._sock = sock
        self._protocol = protocol
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._plain: asyncio.Transport = cast(asyncio.Transport, None)
        # Data that cannot be encrypted before the peer has completed a key change.
        self._backlog = bytearray()
        self._connected = False
        self._paused = False
        # Whether records are left for further turns of the loop, and the handle of the next.
        self._behind = False
        self._turn: asyncio.Handle | None = None
        self._reading = True
        self._over = False
        self._error: Exception | None = None

    # The plain transport's protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._plain = cast(asyncio.Transport, transport)
        self._shake_hands()

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        self._proceed()

    def eof_received(self) -> bool:
        self._incoming.write_eof()
        self._proceed()
        return True  # buffered data is delivered before the transport is closed

    def connection_lost(self, error: Exception | None) -> None:
        if not self._connected:
            self._refuse(self._error or error or ConnectionResetError("the connection ended within the handshake"))
            return
        if error is not None and not self._over:
            # A failed write says nothing about data received before.
            self._paused = False
            for data in itertools.chain([b""], itertools.islice(unread(self._sock), _MAX_UNREAD)):
                self._incoming.write(data)
                while self._read():
                    pass
                if self._over or self._paused:
                    break
        self._over = True
        self._protocol.connection_lost(self._error or error)
        del self._protocol  # which refers to this transport: avoids a cycle

    def pause_writing(self) -> None:
        if self._connected:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._connected:
            self._protocol.resume_writing()

    # Records

    def _proceed(self) -> None:
        if self._over:
            return
        if not self._connected:
            self._shake_hands()
            return
        behind = self._read()
        if behind:
            self._proceed_soon()
        if behind is not self._behind:
            self._behind = behind
            self._update_reading()

    def _proceed_soon(self) -> None:
        if self._turn is None:
            self._turn = self._loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._turn = None
        self._proceed()

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLEOFError:
            self._refuse(ConnectionResetError("the server closed the connection within the handshake"))
        except OSError as error:
            self._flush()  # the alert
            self._refuse(error)
        else:
            self._flush()
            self._connected = True
            if not self.ready.done():
                self.ready.set_result(None)
            self._protocol.connection_made(cast(asyncio.BaseTransport, self))
            self._proceed()

    def _refuse(self, error: Exception) -> None:
        self._over = True
        if not self.ready.done():
            self.ready.set_exception(error)
            self.ready.exception()  # whether it is awaited or not
        self._plain.abort()

    def _read(self) -> bool:
        """Delivers received data while the protocol reads; returns whether more is left for the next turn."""
        for _ in range(_MAX_RECORDS // _BATCH):
            if self._paused or self._over:
                return False
            data, end = self._decrypt()
            if data:
                self._protocol.data_received(data)
            if end is not None:
                if not self._over:
                    self._end(end)
                return False
        return True

    def _decrypt(self) -> tuple[bytes, _End | Exception | None]:
        """Returns the plain text of a batch of records, and why there are no more; None if there may be."""
        records: list[bytes] = []
        for _ in range(_BATCH):
            try:
                data = self._tls.read(_RECORD)
            except ssl.SSLWantReadError:
                return b"".join(records), _End.OF_INPUT
            except ssl.SSLEOFError:
                return b"".join(records), _End.OF_CONNECTION
            except ssl.SSLError as error:
                return b"".join(records), error
            if not data:
                return b"".join(records), _End.OF_STREAM
            records.append(data)
        return b"".join(records), None

    def _end(self, end: _End | Exception) -> None:
        if end is _End.OF_INPUT:
            if self._backlog:
                self._encrypt()
            self._flush()
        elif end is _End.OF_STREAM:
            self._protocol.eof_received()
            self.close()
        elif end is _End.OF_CONNECTION:
            self._over = True
            self._protocol.cut_off()
            self._plain.close()
        else:
            assert isinstance(end, Exception)
            self._over = True
            self._error = end
            self._flush()  # the alert
            self._plain.abort()

    def _encrypt(self) -> None:
        backlog = self._backlog
        with contextlib.suppress(ssl.SSLWantReadError):
            while backlog:
                del backlog[: self._tls.write(backlog)]

    def _flush(self) -> None:
        if self._outgoing.pending and not self._plain.is_closing():
            self._plain.write(self._outgoing.read())

    # The protocol's transport

    def write(self, data: bytes) -> None:
        if not self._over:
            self._backlog += data
            self._encrypt()
            self._flush()

    def get_write_buffer_size(self) -> int:
        return self._plain.get_write_buffer_size() + len(self._backlog)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._tls if name == "ssl_object" else self._plain.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._paused = True
        self._update_reading()

    def resume_reading(self) -> None:
        self._paused = False
        self._update_reading()
        self._proceed_soon()

    def _update_reading(self) -> None:
        reading = not (self._paused or self._behind)
        if reading is self._reading or self._over:
            return
        self._reading = reading
        if reading:
            self._plain.resume_reading()
        else:
            self._plain.pause_reading()

    def close(self) -> None:
        """Closes once everything written is sent."""
        if not self._over:
            self._over = True
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()  # raises, as it still waits for the peer
            self._flush()
            self._plain.close()

    def abort(self) -> None:
        self._over = True
        self._plain.abort()
