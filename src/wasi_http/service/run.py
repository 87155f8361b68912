"""One guest on one request: the only driver of a guest's call.

    waits for its turn ──► runs ──► the guest is done, its instance released
                             │ ▲
                             ▼ │ time slices, what the host has to wait for (a task from here on)

A guest that finishes without waiting, as most do, runs in `begin`, and no task is ever made. Its instance is released
before the response is given away: the next request finds its place free. Otherwise a task runs it to its end, and the
response is given away when the guest sets it; what the guest does then, it does beside it.

An instance that served others before, and fails with this request, is replaced by a fresh one if nothing of the request
has been read, and nothing sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final, Protocol

from wasi_http.component import Call, Err
from wasi_http.engine import Trap
from wasi_http.flow.pipe import Pipe
from wasi_http.http.errors import GuestTimeout, HttpError, NoResponse, ServiceBusy, Unwanted, status_of
from wasi_http.http.fields import Field
from wasi_http.http.message import Request
from wasi_http.http.types import NEVER_SET, IncomingRequest, OutgoingResponse, ResponseOutparam
from wasi_http.http.values import ErrorCode
from wasi_http.service.config import ServiceConfig
from wasi_http.service.guest import Guest
from wasi_http.service.instances import InstancePool
from wasi_http.service.proxy import IncomingHandlerGuest
from wasi_http.wasi.cli import Exit

__all__ = ["Receiver", "Run", "Runner"]

# After how many time slices in a row without a call of the host a guest whose client has gone is unwound.
_SPIN: Final = 10

_TIMED_OUT: Final = "guest timed out"


class Receiver(Protocol):
    """Where a response goes. Called on the event loop; what these raise is a fault of the receiver."""

    def inform(self, status: int, headers: list[Field]) -> None:
        """An informational response; raises `HttpError` if it cannot be sent as it is."""

    def respond(self, status: int, headers: list[Field], body: Pipe | None) -> None:
        """The response, once; its body may still be on its way, and fail. Copy what you keep of the headers."""

    def fail(self, status: int, error: Exception) -> None:
        """There will be no response: the status that tells a client, and why."""

    def finished(self) -> None:
        """The guest is done, and its instance released. The last call."""


class Runner(Protocol):
    """What a run needs of its service."""

    config: ServiceConfig
    handler: IncomingHandlerGuest
    instances: InstancePool
    loop: asyncio.AbstractEventLoop
    numbers: Iterator[int]

    def readmit(self, run: Run) -> None: ...

    def withdraw(self, run: Run) -> None: ...

    def retire(self, run: Run) -> None: ...

    def dismiss(self, run: Run) -> None: ...

    def end(self, guest: Guest) -> None: ...

    def report(self, run: Run, text: str) -> None: ...


class Run:
    """``number`` is -1 until it begins. ``abandoned``: the response is not wanted any more. ``done``: the guest is."""

    __slots__ = (
        "_body",
        "_deadline",
        "_given",
        "_guest",
        "_informed",
        "_receiver",
        "_response",
        "_runner",
        "_spoilt",
        "_task",
        "abandoned",
        "done",
        "number",
        "request",
    )

    def __init__(self, runner: Runner, request: Request, receiver: Receiver) -> None:
        self._runner = runner
        self._receiver = receiver
        self.request = request
        self.number = -1
        self._guest: Guest | None = None
        self._task: asyncio.Task[None] | None = None
        self._deadline: float | None = None
        self._response: OutgoingResponse | ErrorCode | None = None
        self._body: Pipe | None = None  # of the response
        self._given = False  # whatever it was
        self._informed = 0
        # How many requests an instance had served when this one failed with it, which a fresh one is to serve.
        self._spoilt = 0
        self.abandoned = False
        self.done = False

    def begin(self) -> None:
        """Runs the guest until it is done or has to wait, and gives away what there is of a response."""
        runner, request = self._runner, self.request
        number = self.number = next(runner.numbers)
        error: BaseException | None = None
        try:
            guest = self._guest = runner.instances.acquire(number, self._spoilt > 0)
            outparam = ResponseOutparam(self._set, self._inform)
            call = runner.handler.start_handle(guest.store, IncomingRequest(guest, request), outparam)
            if not call.poll():
                self._task = runner.loop.create_task(self._drive(call))
                # A task that is cancelled before it begins never runs.
                self._task.add_done_callback(self._stopped)
        except BaseException as failure:
            error = failure
        if self._task is not None:
            self._give()
            return
        try:
            self._finish(error)
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                # Raised from here, uvloop would take it for a fault of the connection.
                runner.loop.call_soon(_raise, error)
        finally:
            error = None  # it leads back here: a cycle

    async def _drive(self, call: Call) -> None:
        error: BaseException | None = None
        timeout = asyncio.timeout(self._runner.config.timeout)
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

    def report(self, text: str) -> None:
        """Logs why the response failed."""
        try:
            self._runner.report(self, text)
        except Exception as error:
            # A hook of the embedder's: the request has to end nevertheless.
            context = {"message": "a request cannot be reported", "exception": error}
            self._runner.loop.call_exception_handler(context)

    # Called from within the guest

    def _set(self, response: OutgoingResponse | ErrorCode) -> None:
        self._response = response
        if not isinstance(response, ErrorCode) and response.pipe is not None:
            self._body = response.pipe
            if self.abandoned:
                self._body.cancel()
        if self._task is not None:
            # Not on the guest's stack: what the receiver does may take its time.
            self._runner.loop.call_soon(self._give)

    def _inform(self, status: int, headers: list[Field]) -> None:
        if self._response is not None or self.abandoned:
            return
        self._informed += 1
        if self._informed > self._runner.config.max_informational:
            raise Err(ErrorCode.HttpProtocolError)
        try:
            self._receiver.inform(status, headers)
        except HttpError as error:
            raise Err(error.code) from None

    # Towards the receiver

    def _give(self) -> None:
        """Gives away the response that the guest has set."""
        response = self._response
        if response is None or self._given or self.abandoned:
            return
        if isinstance(response, ErrorCode):
            self.report(f"the guest answered with the error {response!r}")
            self._fail(status_of(response), HttpError(response))
            return
        self._given = True
        self._receiver.respond(response.status, response.fields.entries_, self._body)

    def _fail(self, status: int, error: Exception) -> None:
        if not self._given and not self.abandoned:
            self._given = True
            self._receiver.fail(status, error)

    # The end

    def _finish(self, error: BaseException | None, timed_out: bool = False) -> None:
        """The guest is done; ``error`` is what stopped it."""
        if self.done:
            return
        runner, guest, response = self._runner, self._guest, self._response
        if guest is not None:
            runner.end(guest)
        failure: Exception | None = None
        if error is not None or response is None:
            spoilt = guest is not None and guest.served > 1 and (error is None or isinstance(error, Trap))
            if guest is not None and spoilt and self._is_untouched(guest):
                self._start_again(guest)
                return
            if not self.abandoned:
                failure = self._explain(error, timed_out)
        else:
            if self._spoilt:
                runner.instances.limit(self._spoilt)
            if not isinstance(response, ErrorCode) and response.status >= 500 and (note := self._memory_note()):
                self.report(f"the guest answered {response.status}{note}")
        self.done = True
        complete = response is not None and (self._body is None or self._body.ended)
        if failure is not None and not complete and self._body is not None:
            self._body.fail(HttpError(ErrorCode.HttpResponseIncomplete, str(failure)))
        if guest is not None:
            self._guest = None
            intact = complete and error is None and not self.abandoned
            body = self.request.body
            if intact and body is not None:
                # Handles to the request may be left. They hold nothing of the connection, and lead to nothing.
                body.cancel(Unwanted(ErrorCode.ConnectionTerminated, "the request is over"))
            # Whatever the guest left unfinished is dropped with its instance, and fails the body.
            runner.instances.release(guest, intact)
        try:
            if self._given or self.abandoned:
                pass
            elif complete or failure is None:
                self._give()
            else:
                self._fail(504 if timed_out else 500, failure)
        finally:
            failure = None
            runner.dismiss(self)
            receiver = self._receiver
            del self._receiver  # which leads back: a cycle
            receiver.finished()

    def _is_untouched(self, guest: Guest) -> bool:
        """Whether the request can be handled once more: nothing was sent, to the client or others, and nothing read."""
        body = self.request.body
        return not (
            self.abandoned
            or self._given
            or self._informed
            or guest.requested
            or (body is not None and (body.wanted or body.pipe.cancelled))
        )

    def _start_again(self, guest: Guest) -> None:
        """The instance had served others, and failed. If a fresh one does not, that is why."""
        runner, body = self._runner, self.request.body
        self._spoilt = guest.served - 1
        self._task = self._guest = self._response = self._body = None
        if body is None:
            runner.instances.release(guest, False)
        else:
            # It is the next guest's, whatever becomes of handles that the instance has to it.
            pipe, body.pipe = body.pipe, Pipe.of()
            runner.instances.release(guest, False)
            body.pipe = pipe
        runner.readmit(self)

    def _explain(self, error: BaseException | None, timed_out: bool) -> Exception | None:
        """Tells the log what went wrong, and what tells the receiver; None if nothing did."""
        if timed_out:
            text = _TIMED_OUT
        elif error is None:
            text = NEVER_SET
        elif isinstance(error, Exit):
            if not error.code and self._response is not None:
                return None  # an ordinary end
            text = str(error) if error.code else NEVER_SET
        else:
            text = f"{type(error).__name__}: {error}"
        self.report(text + self._memory_note())
        failure = GuestTimeout(text) if timed_out else NoResponse(text)
        if timed_out or isinstance(error, (Trap, Exit)):
            _forget_frames(error)
        failure.__cause__ = error
        return failure

    def _memory_note(self) -> str:
        """What to say of a failed guest's memory: something if it is nearly as large as it may be.

        A guest that is refused memory is not stopped, and most say nothing of the reason.
        """
        if self._guest is None:
            return ""
        size, limit = self._guest.store.memory_size, self._runner.config.store_limits.memory_size
        if size < limit // 4 * 3:
            return ""
        return f" (its memory takes {size >> 20} MiB of at most {limit >> 20}: --max-memory-size)"

    # From the receiver

    def leave(self) -> None:
        """The response is not wanted any more. The guest's streams fail, and it has a while to clean up and end."""
        self._abandon()
        if self._task is None:
            self._withdraw()
        elif not self.done:
            if self._guest is not None:
                self._guest.store.spun = 0
            self._runner.retire(self)

    def cancel(self) -> None:
        """The guest is unwound as soon as possible, and gives no response."""
        self._abandon()
        if self._task is not None:
            self._task.cancel()
        else:
            self._withdraw()

    def expire(self) -> None:
        """It has waited for its turn too long."""
        self._fail(503, ServiceBusy("the request waited for its turn too long"))
        self._abandon()
        self._withdraw()

    def _withdraw(self) -> None:
        """It waits for its turn no longer, if it does."""
        if self._guest is None and not self.done:
            self._runner.withdraw(self)
            self.done = True
            receiver = self._receiver
            del self._receiver  # which leads back: a cycle
            receiver.finished()

    def _abandon(self) -> None:
        self.abandoned = True
        if self._body is not None:
            self._body.cancel()
        if self.request.body is not None:
            self.request.body.pipe.fail(Unwanted(ErrorCode.ConnectionTerminated, "the client has gone"))

    @property
    def spins(self) -> bool:
        """Whether the guest, since it was left, has done nothing but use up time slices."""
        return self._guest is not None and self._guest.store.spun >= _SPIN

    @property
    def status(self) -> int:
        """The status that the guest has set, 0 if there is none."""
        response = self._response
        return 0 if response is None or isinstance(response, ErrorCode) else response.status


def _forget_frames(error: BaseException | None) -> None:
    """The frames of an exception keep the guest and its store, and say nothing of what the guest did."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _raise(error: BaseException) -> None:
    raise error
