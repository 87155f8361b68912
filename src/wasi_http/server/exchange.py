"""One request and its response: the guest on one side, the connection on the other.

The guest is run in the middle of reading the request. If it finishes without waiting, which most do, the whole response
is written at once and no task is ever made. Otherwise a task runs it to its end, and the response is written as it
comes. The connection may take its next request when the response is complete; the guest may go on.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from wasi_http.body import Pipe
from wasi_http.error import ErrorCode, HttpError
from wasi_http.fields import Field
from wasi_http.server.handler import PrefixedCtx, ServerState
from wasi_http.types import IncomingRequest, OutgoingResponse, ResponseOutparam, Scheme
from wasi_http.wasi.cli import Exit
from wasi_http.wire.errors import ProtocolError
from wasi_http.wire.request import RequestHead
from wasi_http.wire.writer import ResponseWriter, render_response

if TYPE_CHECKING:
    from wasi_http.component import Call
    from wasi_http.engine import Store
    from wasi_http.server.connection import Connection

__all__ = ["Exchange"]

_ERROR_HEADERS: list[Field] = [(b"content-type", b"text/plain; charset=utf-8")]

_NEVER_SET = "guest never invoked `response-outparam::set` method"

# What guests ask for with an error in place of a response.
_STATUS: dict[ErrorCode, int] = {
    ErrorCode.HttpRequestDenied: 403,
    ErrorCode.HttpResponseTimeout: 504,
    ErrorCode.ConnectionTimeout: 504,
    ErrorCode.ConnectionReadTimeout: 504,
    ErrorCode.ConnectionRefused: 502,
    ErrorCode.ConnectionTerminated: 502,
    ErrorCode.DestinationUnavailable: 502,
    ErrorCode.LoopDetected: 508,
}


class Exchange:
    """A request that is being handled."""

    __slots__ = (
        "_call",
        "_connection",
        "_done",
        "_response",
        "_responded",
        "_state",
        "_store",
        "_task",
        "_writer",
        "abandoned",
        "body",
        "head",
        "outgoing",
    )

    def __init__(self, connection: Connection, head: RequestHead) -> None:
        self._connection = connection
        self.head = head
        self.body = Pipe() if head.has_body else None
        self.outgoing: Pipe | None = None
        self._response: OutgoingResponse | ErrorCode | None = None
        self._writer: ResponseWriter | None = None
        self._responded = False
        self._done = False
        self.abandoned = False
        self._task: asyncio.Task[None] | None = None
        self._call: Call | None = None
        self._store: Store | None = None
        self._state: ServerState | None = None

    def start(self) -> None:
        """Runs the guest until it is done or has to wait, and writes what there is of a response."""
        head, connection = self.head, self._connection
        handler = connection.handler
        ctx = handler.context()
        state = self._state = ServerState(handler, ctx)
        body = self.body
        request = IncomingRequest(
            state,
            head.method.decode("ascii"),
            head.path.decode("latin-1"),
            connection.scheme,
            None if head.authority is None else head.authority.decode("latin-1"),
            head.headers,
            Pipe.of() if body is None else body,
            connection.send_continue if head.expect_continue else None,
        )
        if body is not None:
            body.writable.add(connection.update_reading)
        try:
            self._store, proxy = handler.instantiate(state)
            call = self._call = proxy.wasi_http_incoming_handler.start_handle(
                self._store, request, ResponseOutparam(self._set, self._inform)
            )
            if call.poll():
                self._finish(None)
            else:
                self._task = connection.loop.create_task(self._run(call))
                self._advance()
        except Exception as error:
            self._finish(error)

    async def _run(self, call: Call) -> None:
        try:
            async with asyncio.timeout(self._connection.handler.config.timeout):
                await call
        except TimeoutError as error:
            self._finish(error)
        except asyncio.CancelledError:
            # The client has gone, or the server stops.
            self._finish(ConnectionAbortedError())
        except Exception as error:
            self._finish(error)
        else:
            self._finish(None)

    # Called from within the guest

    def _set(self, response: OutgoingResponse | ErrorCode) -> None:
        self._response = response
        if not isinstance(response, ErrorCode) and response.body_ is not None:
            self.outgoing = response.body_
        if self._task is not None:
            # The guest runs on a task, so nobody looks after it returns: the response starts now.
            self._connection.loop.call_soon(self._advance)

    def _inform(self, status: int, headers: list[Field]) -> None:
        connection = self._connection
        if self._writer is None and self._response is None and not connection.closed:
            try:
                connection.write(ResponseWriter(self.head.method, self.head.version).informational(status, headers))
            except ProtocolError as error:
                raise HttpError(ErrorCode.HttpProtocolError, str(error)) from error

    # Towards the client

    def _advance(self) -> None:
        """Writes as much of the response as there is and the client takes."""
        response, connection = self._response, self._connection
        if response is None or self._responded or connection.closed:
            return
        if isinstance(response, ErrorCode):
            self._refuse(_STATUS.get(response, 500), f"the guest answered with the error {response!r}")
            return
        head, pipe = self.head, self.outgoing
        try:
            writer = self._writer
            if writer is None:
                if pipe is None or (pipe.ended and not pipe.trailers):
                    connection.write(
                        render_response(
                            response.status,
                            response.fields.entries_,
                            b"" if pipe is None else pipe.take_all(),
                            connection.date(),
                            head.method,
                            head.version,
                            connection.keeps_alive(head),
                        )
                    )
                    self._complete(connection.keeps_alive(head))
                    return
                if pipe.error is not None:
                    raise pipe.error
                writer = self._writer = ResponseWriter(head.method, head.version, connection.keeps_alive(head))
                connection.write(writer.head(response.status, response.fields.entries_, connection.date()))
                pipe.readable.add(self._advance)
            assert pipe is not None
            while not connection.write_paused:
                data = pipe.take(65536)
                if data is None:
                    connection.write(writer.end(pipe.trailers or ()))
                    self._complete(writer.keep_alive)
                    return
                if not data:
                    return
                connection.write(writer.body(data))
        except (OSError, ProtocolError) as error:
            self._abort(f"the response was aborted: {error}")

    def resume(self) -> None:
        """The client takes more of the response."""
        self._advance()

    def _refuse(self, status: int, text: str) -> None:
        """A response of the server's own, when the guest gave none."""
        connection = self._connection
        if self._responded or connection.closed:
            return
        if self._writer is not None:
            self._abort(text)
            return
        body = b"" if self.head.method == b"HEAD" else f"{status} the handler failed\n".encode()
        keep = connection.keeps_alive(self.head)
        connection.write(
            render_response(status, _ERROR_HEADERS, body, connection.date(), self.head.method, self.head.version, keep)
        )
        self._complete(keep)

    def _abort(self, text: str) -> None:
        """The response cannot be completed: the client has to be able to tell."""
        if not self._responded:
            self._responded = True
            self._connection.handler.log(text)
            self._connection.abort()

    def _complete(self, keep_alive: bool) -> None:
        self._responded = True
        if self.outgoing is not None:
            self.outgoing.readable.remove(self._advance)
        self._connection.response_complete(self, keep_alive)

    # The end

    def _finish(self, error: Exception | None) -> None:
        """The guest is done; ``error`` is what stopped it."""
        if self._done:
            return
        self._done = True
        handler = self._connection.handler
        if self._response is None:
            if isinstance(error, Exit):
                error = None if error.code == 0 else error
            if error is None:
                handler.log(f"error: {_NEVER_SET}")
                self._release()
                self._refuse(500, _NEVER_SET)
            elif isinstance(error, ConnectionAbortedError):
                self._release()
            else:
                timed_out = isinstance(error, TimeoutError)
                handler.log("error: guest timed out" if timed_out else f"error: {type(error).__name__}: {error}")
                self._release()
                self._refuse(504 if timed_out else 500, "the guest failed")
        else:
            if error is not None and not isinstance(error, (Exit, ConnectionAbortedError)):
                handler.log(f"error: {type(error).__name__}: {error}")
            # Whatever the guest left unfinished is dropped with its instance, and fails the body.
            self._release()
            self._advance()
        self._connection.exchange_done(self)

    def _release(self) -> None:
        """Lets go of the instance and of all that its guest holds."""
        store, state = self._store, self._state
        self._call = self._store = self._state = None
        try:
            if store is not None:
                store.close()
            if state is not None and isinstance(state.ctx, PrefixedCtx):
                state.ctx.close()
        except Exception as error:
            self._connection.handler.log(f"error: while releasing a guest: {type(error).__name__}: {error}")

    def cancel(self) -> None:
        """The client has gone, or the server does not wait any longer: the guest is unwound."""
        if self.outgoing is not None:
            self.outgoing.cancel()
        if self.body is not None:
            self.body.fail(HttpError(ErrorCode.ConnectionTerminated, "the client has gone"))
        if self._task is not None:
            self._task.cancel()
        self.abandoned = True

    @property
    def responded(self) -> bool:
        return self._responded

    @property
    def done(self) -> bool:
        return self._done


