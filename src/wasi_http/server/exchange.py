"""One request and its response: the guest on one side, the connection on the other.

The guest is run in the middle of reading the request. If it finishes without waiting, which most do, the whole response
is written at once and no task is ever made. Otherwise a task runs it to its end, and the response is written as it
comes. The connection may take its next request when the response is complete; the guest may go on.

With the end of one exchange the next one begins. So exchanges do not end in the handler of an exception: it would be
the current one for all that the next guest does, and outlive its time with it.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from wasi_http.component import Call, Err
from wasi_http.engine import Trap
from wasi_http.flow.pipe import Pipe
from wasi_http.flow.pump import Pump
from wasi_http.http.errors import HttpError, status_of
from wasi_http.http.fields import Field
from wasi_http.http.types import IncomingRequest, OutgoingResponse, ResponseOutparam
from wasi_http.http.values import ErrorCode, Scheme
from wasi_http.http1.errors import ProtocolError
from wasi_http.http1.request import RequestHead
from wasi_http.http1.writer import Framing, ResponseWriter, render_informational, render_response
from wasi_http.server.handler import Handler
from wasi_http.server.instances import Instance, Instances
from wasi_http.wasi.cli import Exit

__all__ = ["Carrier", "Exchange"]

_ERROR_HEADERS: list[Field] = [(b"content-type", b"text/plain; charset=utf-8")]

# After how many time slices in a row without a call of the host a guest that nobody waits for is unwound.
_SPIN: Final = 10

# How much of a response's body is moved at once.
_PIECE: Final = 65536

_NEVER_SET = "guest never invoked `response-outparam::set` method"


def _raise(error: BaseException) -> None:
    raise error


class Carrier(Protocol):
    """What an exchange needs of the connection that it came over."""

    handler: Handler
    instances: Instances
    loop: asyncio.AbstractEventLoop
    scheme: Scheme
    #: Whether nothing can be written any more, and whether nothing should be for the moment.
    closed: bool
    write_paused: bool

    def write(self, data: bytes) -> None: ...

    def date(self) -> bytes: ...

    def keeps_alive(self, exchange: Exchange) -> bool: ...

    def receives(self, exchange: Exchange) -> bool: ...

    def update_reading(self) -> None: ...

    def response_complete(self, exchange: Exchange, keep_alive: bool) -> None: ...

    def response_failed(self, exchange: Exchange, framed: bool) -> None: ...

    def exchange_done(self, exchange: Exchange) -> None: ...

    def withdraw(self, exchange: Exchange) -> None: ...

    def readmit(self, exchange: Exchange) -> None: ...

    def retire(self, exchange: Exchange) -> None: ...

    def expire(self, exchange: Exchange) -> None: ...


class Exchange:
    """A request that is being handled.

    ``number`` is its number in the log once it has started. ``abandoned`` says that nobody waits for the response any
    more, ``awaited`` that the client sends the body only when it is asked for it, and was not yet, ``done`` that the
    guest has finished.
    """

    __slots__ = (
        "_connection",
        "_deadline",
        "_informed",
        "_instance",
        "_pump",
        "_read",
        "_refused",
        "_responded",
        "_response",
        "_spoilt",
        "_task",
        "_writer",
        "abandoned",
        "awaited",
        "body",
        "done",
        "head",
        "number",
        "outgoing",
    )

    def __init__(self, connection: Carrier, head: RequestHead) -> None:
        self._connection = connection
        self.head = head
        self.number = -1
        self.body = Pipe() if head.has_body else None
        self.outgoing: Pipe | None = None
        self._response: OutgoingResponse | ErrorCode | None = None
        self._pump: Pump | None = None
        self._writer: ResponseWriter | None = None
        self._responded = False
        self._refused = 0
        self.done = False
        self._informed = 0
        self._read = False
        # How many requests an instance had served when this one failed with it, which a fresh one is to serve.
        self._spoilt = 0
        self._deadline: float | None = None
        self.abandoned = False
        self.awaited = head.expect_continue
        self._task: asyncio.Task[None] | None = None
        self._instance: Instance | None = None

    def start(self) -> None:
        """Runs the guest until it is done or has to wait, and writes what there is of a response."""
        head, connection = self.head, self._connection
        number = self.number = next(connection.handler.numbers)
        body = self.body
        if body is not None:
            body.writable.add(connection.update_reading)
        error: BaseException | None = None
        try:
            instance = self._instance = connection.instances.take(number, self._spoilt > 0)
            request = IncomingRequest(
                instance.state,
                head.method.decode("ascii"),
                head.path.decode(),
                connection.scheme,
                None if head.authority is None else head.authority.decode("latin-1"),
                head.headers,
                body,
                None if body is None else self._demand,
            )
            call = instance.proxy.wasi_http_incoming_handler.start_handle(
                instance.store, request, ResponseOutparam(self._set, self._inform)
            )
            if not call.poll():
                self._task = connection.loop.create_task(self._run(call))
                # A task that is cancelled before it begins never runs.
                self._task.add_done_callback(self._stopped)
        except BaseException as failure:
            error = failure
        if self._task is not None:
            self._advance()
            return
        try:
            self._finish(error)
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                # Raised from here, uvloop would take it for a fault of the connection.
                connection.loop.call_soon(_raise, error)
        finally:
            error = None  # it leads back here: a cycle

    async def _run(self, call: Call) -> None:
        error: BaseException | None = None
        timeout = asyncio.timeout(self._connection.handler.config.timeout)
        if self._deadline is not None:
            # A second guest has what the first one left of the request's time.
            timeout = asyncio.timeout_at(self._deadline)
        try:
            async with timeout:
                await call
        except BaseException as failure:
            error = failure
        self._deadline = timeout.when()
        try:
            self._finish(error, timeout.expired())
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise error
        finally:
            error = None  # it leads back here: a cycle

    def _stopped(self, task: asyncio.Task[None]) -> None:
        if task is self._task:
            self._finish(asyncio.CancelledError())

    # Called from within the guest

    def _demand(self) -> None:
        """The guest wants the body, which the client may hold back."""
        self._read = True
        if not self.awaited:
            return
        self.awaited = False
        connection = self._connection
        if self._writer is None and not self._responded and connection.receives(self):
            connection.write(render_informational(100))

    def _set(self, response: OutgoingResponse | ErrorCode) -> None:
        self._response = response
        if not isinstance(response, ErrorCode) and response.body_ is not None:
            self.outgoing = response.body_
            if self.abandoned:
                self.outgoing.cancel()
        if self._task is not None:
            # The guest runs on a task, so nobody looks after it returns: the response starts now.
            self._connection.loop.call_soon(self._advance)

    def _inform(self, status: int, headers: list[Field]) -> None:
        connection = self._connection
        if self._response is not None or self._responded or connection.closed:
            return
        self._informed += 1
        if self._informed > connection.handler.config.wire_limits.informational:
            raise Err(ErrorCode.HttpProtocolError)
        try:
            connection.write(ResponseWriter(self.head.method, self.head.version).informational(status, headers))
        except ProtocolError:
            raise Err(ErrorCode.HttpProtocolError) from None

    # Towards the client

    def _advance(self) -> None:
        """Writes as much of the response as there is and the client takes."""
        response, connection = self._response, self._connection
        if response is None or self._responded or connection.closed:
            return
        if isinstance(response, ErrorCode):
            connection.handler.report(self, f"the guest answered with the error {response!r}")
            self._refuse(status_of(response))
            return
        refused = None
        try:
            keep_alive = self._write(response)
        except (OSError, ProtocolError) as error:
            refused = str(error)
        if refused is None:
            if keep_alive is not None:
                self._complete(keep_alive)
            return
        writer = self._writer
        if writer is not None and writer.framing is Framing.NONE:
            # There is no body in this response for the guest to get wrong.
            self._complete(writer.keep_alive)
        else:
            connection.handler.report(self, f"the response failed: {refused}")
            self._refuse(500)

    def _write(self, response: OutgoingResponse) -> bool | None:
        """Writes what there is and says, when that was all, whether the connection is kept."""
        head, connection, pipe, writer = self.head, self._connection, self.outgoing, self._writer
        begin = b""
        if writer is None:
            keep_alive = connection.keeps_alive(self)
            if pipe is None or (pipe.ended and not pipe.trailers):
                connection.write(
                    render_response(
                        response.status,
                        response.fields.entries_,
                        b"" if pipe is None else pipe.take_all(),
                        connection.date(),
                        head.method,
                        head.version,
                        keep_alive,
                    )
                )
                return keep_alive
            writer = ResponseWriter(head.method, head.version, keep_alive)
            begin = writer.head(response.status, response.fields.entries_, connection.date())
            if pipe.error is not None and writer.framing is not Framing.NONE:
                raise pipe.error  # while the client can still be told
            self._writer = writer
            self._pump = Pump(pipe, writer, connection, _PIECE)
            pipe.readable.add(self._advance)
        assert self._pump is not None
        return writer.keep_alive if self._pump.run(begin) else None

    def resume(self) -> None:
        """The client takes more of the response."""
        self._advance()

    def _refuse(self, status: int, what: str = "failed") -> None:
        """A response of the server's own. If the guest began one, the client has to be able to tell that it failed."""
        connection = self._connection
        if self._responded or connection.closed:
            return
        if self._writer is not None:
            self._responded = True
            if self.outgoing is not None:
                self.outgoing.readable.remove(self._advance)
            connection.response_failed(self, self.framed)
            return
        body = b"" if self.head.method == b"HEAD" else f"{status} the handler {what}\n".encode()
        keep = connection.keeps_alive(self)
        self._refused = status
        connection.write(
            render_response(status, _ERROR_HEADERS, body, connection.date(), self.head.method, self.head.version, keep)
        )
        self._complete(keep)

    def _complete(self, keep_alive: bool) -> None:
        self._responded = True
        if self._writer is not None and self.outgoing is not None:
            self.outgoing.readable.remove(self._advance)
        self._connection.response_complete(self, keep_alive)

    # The end

    def _finish(self, error: BaseException | None, timed_out: bool = False) -> None:
        """The guest is done; ``error`` is what stopped it."""
        if self.done:
            return
        instance = self._instance
        if instance is not None:
            instance.state.end()
        response, refusal = self._response, 0
        if error is not None or response is None:
            spoilt = instance is not None and instance.served > 1 and (error is None or isinstance(error, Trap))
            if instance is not None and spoilt and self._untouched(instance):
                self._start_again(instance)
                return
            if not self.abandoned:
                refusal = self._explain(error, timed_out)
        else:
            if self._spoilt:
                self._connection.instances.limit(self._spoilt)
            if not isinstance(response, ErrorCode) and response.status >= 500 and (note := self._memory_note()):
                self._connection.handler.report(self, f"the guest answered {response.status}{note}")
        self.done = True
        complete = response is not None and (self.outgoing is None or self.outgoing.ended)
        if self._writer is not None and not complete:
            # Clients get what there is before they learn that there is no more.
            self._advance()
        # Whatever the guest left unfinished is dropped with its instance, and fails the body.
        self._release(intact=complete and error is None and not self.abandoned)
        try:
            if complete or self._writer is not None or not refusal:
                self._advance()
            else:
                self._refuse(refusal, "took too long" if timed_out else "failed")
        finally:
            self._connection.exchange_done(self)

    def _untouched(self, instance: Instance) -> bool:
        """Whether the request can be handled once more: nothing was sent, to the client or others, and nothing read."""
        body = self.body
        return not (
            self.abandoned
            or self._responded
            or self._writer is not None
            or self._informed
            or self._read
            or instance.state.requested
            or (body is not None and body.cancelled)
        )

    def _start_again(self, instance: Instance) -> None:
        """The instance had served others, and failed. If a fresh one does not, that is why."""
        self._spoilt = instance.served - 1
        body = self.body
        if body is not None:
            # What has arrived goes to the next guest; the instance takes the old pipe along.
            fresh = self.body = Pipe()
            fresh.write(body.take_all())
            if body.ended:
                fresh.end(body.trailers)
            elif body.error is not None:
                fresh.fail(body.error)
            body.writable.remove(self._connection.update_reading)
        self._task = self._instance = self._response = self.outgoing = None
        self._connection.instances.give_back(instance, False)
        self._connection.readmit(self)

    def _explain(self, error: BaseException | None, timed_out: bool) -> int:
        """Tells the log what went wrong; the status that tells the client, if it can be told."""
        if timed_out:
            text = "guest timed out"
        elif error is None:
            text = _NEVER_SET
        elif isinstance(error, Exit):
            if not error.code and self._response is not None:
                return 0  # an ordinary end
            text = str(error) if error.code else _NEVER_SET
        else:
            text = f"{type(error).__name__}: {error}"
        self._connection.handler.report(self, text + self._memory_note())
        return 504 if timed_out else 500

    def _memory_note(self) -> str:
        """What to say of a failed guest's memory: something if it is nearly as large as it may be.

        A guest that is refused memory is not stopped, and most say nothing of the reason.
        """
        if self._instance is None:
            return ""
        size, limit = self._instance.store.memory_size, self._connection.handler.config.store_limits.memory_size
        if size < limit // 4 * 3:
            return ""
        return f" (its memory takes {size >> 20} MiB of at most {limit >> 20}: --max-memory-size)"

    def _release(self, intact: bool) -> None:
        """Lets go of the instance, which is dropped with all that its guest holds or, if ``intact``, may be kept."""
        instance, body = self._instance, self.body
        self._instance = None
        if instance is None:
            return
        if intact and body is not None:
            # Handles to the request may be left. They hold nothing of the connection, and lead to nothing.
            body.cancel(HttpError(ErrorCode.ConnectionTerminated, "the request is over"))
            body.writable.remove(self._connection.update_reading)
        self._connection.instances.give_back(instance, intact)

    def leave(self) -> None:
        """Nobody waits for the response any more. The guest's streams fail, and it has a while to clean up and end."""
        self._abandon()
        if self._task is None:
            self._connection.withdraw(self)
        elif not self.done:
            if self._instance is not None:
                self._instance.store.spun = 0
            self._connection.retire(self)

    def cancel(self) -> None:
        """The server does not wait any longer: the guest is unwound, and nothing is written."""
        self._abandon()
        if self._task is not None:
            self._task.cancel()
        else:
            self._connection.withdraw(self)

    def expire(self) -> None:
        """The exchange has waited for its turn too long."""
        self._connection.expire(self)

    def _abandon(self) -> None:
        self.abandoned = self._responded = True
        if self.outgoing is not None:
            self.outgoing.cancel()
        self.cut_short()

    @property
    def spins(self) -> bool:
        """Whether the guest, since its client left, has done nothing but use up time slices."""
        instance = self._instance
        return instance is not None and instance.store.spun >= _SPIN

    def cut_short(self) -> None:
        """The rest of the request will not come."""
        if self.body is not None:
            self.body.fail(HttpError(ErrorCode.ConnectionTerminated, "the client has gone"))

    @property
    def begun(self) -> bool:
        """Whether anything of the response is written."""
        return self._writer is not None or self._responded

    @property
    def framed(self) -> bool:
        """Whether the client can tell from the framing of the response where it ends."""
        return self._writer is not None and self._writer.framing is not Framing.CLOSE

    @property
    def status(self) -> int:
        """The status of the response, 0 if none began."""
        response = self._response
        if self._refused or response is None or isinstance(response, ErrorCode) or not self.begun:
            return self._refused
        return response.status
