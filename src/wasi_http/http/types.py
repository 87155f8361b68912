"""``wasi:http/types`` and ``incoming-handler``: requests and responses as guests see them.

The ``headers`` of a message share its entries and need nothing else of it, so they may outlive it. The WIT calls them
child resources; no host known treats them so, and guests whose garbage collector drops handles in any order rely on it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

from wasi_http.component import (
    Borrow,
    Err,
    Interface,
    Ok,
    Own,
    Resource,
    constructor,
    func,
    method,
    raises,
    static,
    u16,
    u64,
)
from wasi_http.engine import Trap
from wasi_http.flow.pipe import Pipe
from wasi_http.flow.signal import Signal, until
from wasi_http.http.body import FutureTrailers, IncomingBody, OutgoingBody
from wasi_http.http.context import HttpState
from wasi_http.http.errors import HttpError, NoResponse
from wasi_http.http.fields import Field, Fields, content_length
from wasi_http.http.message import Body, Request, Response, is_bodiless
from wasi_http.http.values import ErrorCode, Method, Scheme
from wasi_http.http1.abnf import is_authority, is_scheme, is_token_text
from wasi_http.wasi.cli import Exit
from wasi_http.wasi.io.error import IoError
from wasi_http.wasi.io.poll import Pollable

__all__ = [
    "MAX_PART",
    "NEVER_SET",
    "FutureIncomingResponse",
    "IncomingHandler",
    "IncomingRequest",
    "IncomingResponse",
    "OutgoingRequest",
    "OutgoingResponse",
    "RequestOptions",
    "ResponseOutparam",
    "Types",
]

#: The most characters of a method, scheme or authority, and bytes of a path, of a guest's request.
MAX_PART: Final = 65_534

#: What there is to say of a guest that finished without a response.
NEVER_SET: Final = "guest never invoked `response-outparam::set` method"

# How many characters of a part of a request cost a guest nothing.
_SHORT: Final = 8

_PATH: Final = re.compile('(?:[/?][!-"$-~\x80-\U0010ffff]*|\\*)?').fullmatch


class IncomingRequest(Resource, name="incoming-request"):
    """A request that arrived: a handle onto the message."""

    __slots__ = ("_consumed", "_fields", "_given", "_view", "message")

    def __init__(self, view: HttpState, message: Request) -> None:
        self._view = view
        self.message = message
        self._consumed = False
        self._fields: Fields | None = None

    @property
    def given(self) -> bool:
        """Whether an embedder called a guest with it: see `give`."""
        return hasattr(self, "_given")

    def give(self) -> None:
        """Says that a guest is called with it: no other can be."""
        self._given = True

    @method
    def method_(self) -> Method:
        return Method.parse(self.message.method)

    @method
    def path_with_query(self) -> str | None:
        return self.message.path or None

    @method
    def scheme(self) -> Scheme | None:
        return Scheme.parse(self.message.scheme)

    @method
    def authority(self) -> str | None:
        return self.message.authority

    @method
    def headers(self) -> Own[Fields]:
        if self._fields is None:
            self._fields = Fields.received(self._view, self.message.headers)
        return self._fields.freeze()

    @method
    @raises()
    def consume(self) -> Own[IncomingBody]:
        if self._consumed:
            raise Err(None)
        self._consumed = True
        body = self.message.body
        return IncomingBody(self._view, Body.of() if body is None else body)

    def drop(self) -> None:
        if self.message.body is not None and not self._consumed:
            self.message.body.cancel()


def _declared(entries: list[Field]) -> int | None:
    """The length that a message of a guest declares. What it copied from one that arrived may make no sense."""
    try:
        return content_length(entries)
    except Err:
        raise Err(None) from None


class OutgoingResponse(Resource, name="outgoing-response"):
    """A response that a guest makes. ``pipe`` is its body's once the guest asked for that."""

    __slots__ = ("_body", "fields", "pipe", "status")

    def __init__(self, headers: Fields) -> None:
        self.status = 200
        self.fields = headers
        self._body: OutgoingBody | None = None
        self.pipe: Pipe | None = None

    @constructor
    def new(headers: Own[Fields]) -> Own[OutgoingResponse]:
        return OutgoingResponse(headers)

    @method
    def status_code(self) -> u16:
        return self.status

    @method
    @raises()
    def set_status_code(self, status_code: u16) -> None:
        if not 100 <= status_code <= 999:
            raise Err(None)
        self.status = status_code

    @method
    def headers(self) -> Own[Fields]:
        return self.fields.freeze()

    @method
    @raises()
    def body(self) -> Own[OutgoingBody]:
        if self.pipe is not None:
            raise Err(None)
        entries = self.fields.entries_
        declared = _declared(entries) if entries else None
        body = self._body = OutgoingBody(self.fields.view, declared, ErrorCode.HttpResponseBodySize, True)
        self.pipe = body.pipe
        # What the guest writes is kept while the response is not on its way, and it may make many.
        self.charge(self.fields.view.table, body.pipe.limit)
        return body

    def hand_over(self, request: IncomingRequest | None) -> None:
        """The guest has given it as the answer to this request."""
        body = self._body
        if body is not None:
            body.handed = True
            method = "GET" if request is None else request.message.method
            if body.declared is not None and is_bodiless(method, self.status):
                body.declared = None

    def drop(self) -> None:
        # Never sent: what the guest still writes will not be read.
        if self.pipe is not None:
            self.pipe.cancel()


class OutgoingRequest(Resource, name="outgoing-request"):
    """A request that a guest makes: a handle onto the message, whose parts are empty until they are set.

    The message gets its headers, which are ``fields`` till then, when it is sent.
    """

    __slots__ = ("_body", "_has_path", "fields", "message")

    def __init__(self, headers: Fields) -> None:
        self.message = Request.of("GET", "", None, "", [], None)
        self.fields = headers
        self._has_path = False
        self._body: OutgoingBody | None = None

    @constructor
    def new(headers: Own[Fields]) -> Own[OutgoingRequest]:
        return OutgoingRequest(headers)

    @method
    @raises()
    def body(self) -> Own[OutgoingBody]:
        if self._body is not None:
            raise Err(None)
        declared = _declared(self.fields.entries_)
        body = self._body = OutgoingBody(self.fields.view, declared, ErrorCode.HttpRequestBodySize)
        self.message.body = Body(body.pipe)
        self.charge(self.fields.view.table, body.pipe.limit)
        return body

    @method
    def method_(self) -> Method:
        return Method.parse(self.message.method)

    @method
    @raises()
    def set_method(self, method: Method) -> None:
        name = str(method)
        if isinstance(method, Method.Other) and (len(name) > MAX_PART or not is_token_text(name)):
            raise Err(None)
        self._keep(name, self.message.method)
        self.message.method = name

    @method
    def path_with_query(self) -> str | None:
        return self.message.path if self._has_path else None

    @method
    @raises()
    def set_path_with_query(self, path_with_query: str | None) -> None:
        path = path_with_query or ""
        if path and (len(path) > MAX_PART or len(path.encode()) > MAX_PART or _PATH(path) is None):
            raise Err(None)
        self._keep(path, self.message.path)
        self.message.path = path
        self._has_path = path_with_query is not None

    @method
    def scheme(self) -> Scheme | None:
        return Scheme.parse(self.message.scheme) if self.message.scheme else None

    @method
    @raises()
    def set_scheme(self, scheme: Scheme | None) -> None:
        name = "" if scheme is None else str(scheme)
        if isinstance(scheme, Scheme.Other) and (len(name) > MAX_PART or not is_scheme(name)):
            raise Err(None)
        self._keep(name, self.message.scheme)
        self.message.scheme = name

    @method
    def authority(self) -> str | None:
        return self.message.authority

    @method
    @raises()
    def set_authority(self, authority: str | None) -> None:
        if authority is not None and not _is_authority(authority):
            raise Err(None)
        self._keep(authority or "", self.message.authority or "")
        self.message.authority = authority

    def _keep(self, new: str, old: str) -> None:
        """Charges the guest for what the host keeps of it: it may make many requests that are never sent."""
        # A character takes four bytes at most. What is short is covered by what the handle costs.
        if len(new) > _SHORT or len(old) > _SHORT:
            self.charge(self.fields.view.table, 4 * (max(len(new), _SHORT) - max(len(old), _SHORT)))

    @method
    def headers(self) -> Own[Fields]:
        return self.fields.freeze()

    def hand_over(self) -> None:
        """The guest has given it to be sent."""
        if self._body is not None:
            self._body.handed = True

    def drop(self) -> None:
        if self.message.body is not None:
            self.message.body.cancel()


def _is_authority(text: str) -> bool:
    return len(text) <= MAX_PART and text.isascii() and is_authority(text.encode()) and not text.endswith(":")


class RequestOptions(Resource, name="request-options"):
    """Timeouts of an outgoing request, in nanoseconds; None is the default."""

    __slots__ = ("between_bytes", "connect", "first_byte")

    def __init__(self) -> None:
        self.connect: int | None = None
        self.first_byte: int | None = None
        self.between_bytes: int | None = None

    @constructor
    def new() -> Own[RequestOptions]:
        return RequestOptions()

    @method
    def connect_timeout(self) -> u64 | None:
        return self.connect

    @method
    @raises()
    def set_connect_timeout(self, duration: u64 | None) -> None:
        self.connect = duration

    @method
    def first_byte_timeout(self) -> u64 | None:
        return self.first_byte

    @method
    @raises()
    def set_first_byte_timeout(self, duration: u64 | None) -> None:
        self.first_byte = duration

    @method
    def between_bytes_timeout(self) -> u64 | None:
        return self.between_bytes

    @method
    @raises()
    def set_between_bytes_timeout(self, duration: u64 | None) -> None:
        self.between_bytes = duration


class ResponseOutparam(Resource, name="response-outparam"):
    """Where a guest puts its response, once. ``receiver`` is called with it at that moment; `response` waits for it.

    ``request`` is what is answered, once the guest is called with both.
    """

    __slots__ = ("_informational", "_outcome", "_receiver", "_signal", "request")

    def __init__(
        self,
        receiver: Callable[[OutgoingResponse | ErrorCode], None] | None = None,
        informational: Callable[[int, list[Field]], None] | None = None,
    ) -> None:
        self._receiver = receiver
        self._informational = informational
        self._outcome: OutgoingResponse | ErrorCode | None = None
        self._signal: Signal | None = None
        self.request: IncomingRequest | None = None

    @method
    @raises(ErrorCode)
    def send_informational(self, status: u16, headers: Own[Fields]) -> None:
        if not 100 <= status <= 199 or status == 101:
            raise Err(ErrorCode.HttpProtocolError)
        if self._informational is None:
            raise Err(ErrorCode.InternalError("informational responses are not supported here"))
        self._informational(status, headers.entries_)

    @static
    def set(param: Own[ResponseOutparam], response: Ok[Own[OutgoingResponse]] | Err[ErrorCode]) -> None:
        outcome = param._outcome = response.value
        if isinstance(outcome, OutgoingResponse):
            outcome.hand_over(param.request)
        if param._receiver is not None:
            param._receiver(outcome)
        elif param._signal is not None:
            param._signal.notify()

    async def response(self, call: Awaitable[Any]) -> Response:
        """The response that ``call``, the task in which the guest runs, gives; the guest may go on after it.

        Raises `NoResponse` when the guest finishes without one, with what stopped it as the cause, and `HttpError` when
        the guest answers with an error. The guest is cancelled when this is, and with `Body.cancel` of the response.
        A body that the guest has not finished when the task ends fails then, with
        ``HTTP-response-incomplete``.
        """
        task = asyncio.ensure_future(call)
        signal = self._signal = Signal()

        def ended(task: asyncio.Future[Any]) -> None:
            self.break_off(_cause(task))
            signal.notify()

        task.add_done_callback(ended)
        try:
            await until(lambda: self._outcome is not None or task.done(), signal)
        except asyncio.CancelledError:
            task.cancel()
            raise
        outcome = self._outcome
        if outcome is None:
            if task.cancelled():
                raise NoResponse("the guest was cancelled before it gave a response")
            cause = task.exception()
            raise NoResponse(
                NEVER_SET if cause is None else _explain(cause)
            ) from cause
        if isinstance(outcome, ErrorCode):
            raise HttpError(outcome)
        pipe = Pipe.of() if outcome.pipe is None else outcome.pipe
        return Response(outcome.status, list(outcome.fields.entries_), Body(pipe, abandon=task.cancel))

    def break_off(self, cause: BaseException | None) -> None:
        """The guest is done, and what it has not finished of its response's body will not come."""
        outcome = self._outcome
        if not isinstance(outcome, OutgoingResponse) or outcome.pipe is None:
            return
        # Not with the cause itself, whose traceback may lead back here: a cycle.
        if cause is None:
            text = "the guest ended before its response's body"
        elif isinstance(cause, asyncio.CancelledError):
            text = "the guest was cancelled"
        else:
            text = _explain(cause)
        outcome.pipe.fail(HttpError(ErrorCode.HttpResponseIncomplete, text))


def _explain(error: BaseException) -> str:
    """What stopped a guest, and whose fault it is: a trap is the guest's own."""
    if isinstance(error, Exit):
        return str(error)
    if isinstance(error, Trap):
        return f"the guest failed: {error}"
    return f"the host failed: {type(error).__name__}: {error}"


def _cause(task: asyncio.Future[Any]) -> BaseException | None:
    """What ended a task, other than its proper end."""
    return asyncio.CancelledError() if task.cancelled() else task.exception()


class IncomingResponse(Resource, name="incoming-response"):
    """A response to an outgoing request: a handle onto the message."""

    __slots__ = ("_consumed", "_fields", "_view", "message")

    def __init__(self, view: HttpState, message: Response) -> None:
        """Raises TypeError for what is not a response, or not one that a guest can be given."""
        if not isinstance(message, Response):
            raise TypeError(f"send_request gave {type(message).__name__}: it has to give a Response")
        status, body = message.status, message.body
        if not (isinstance(body, Body) and isinstance(status, int) and 100 <= status <= 999):
            raise TypeError(f"a response with status {status!r:.100} and a body of {type(body).__name__}")
        self._view = view
        self.message = message
        self._fields = Fields.received(view, message.headers)
        self._consumed = False

    def charge_headers(self) -> None:
        self._fields.charge_received()

    @method
    def status(self) -> u16:
        return self.message.status

    @method
    def headers(self) -> Own[Fields]:
        return self._fields.freeze()

    @method
    @raises()
    def consume(self) -> Own[IncomingBody]:
        if self._consumed:
            raise Err(None)
        self._consumed = True
        body = IncomingBody(self._view, self.message.body)
        body.take_charge(self, self._view.table)
        return body

    def drop(self) -> None:
        if not self._consumed:
            self.message.body.cancel()


class FutureIncomingResponse(Resource, name="future-incoming-response"):
    """A response that is on its way; dropping it gives the exchange up."""

    __slots__ = ("_consumed", "_future", "_outcome", "_request_body", "_signal", "_view")

    def __init__(
        self, view: HttpState, future: asyncio.Future[Response], request_body: Body | None = None
    ) -> None:
        """``request_body`` fails with the exchange."""
        self._view = view
        self._future = future
        self._request_body = request_body
        self._outcome: IncomingResponse | ErrorCode | None = None
        self._consumed = False
        self._signal = Signal()
        future.add_done_callback(self._settle)

    def _settle(self, future: asyncio.Future[Response]) -> None:
        body = self._request_body
        if future.cancelled():
            self._outcome = ErrorCode.ConnectionTerminated
            if body is not None:
                body.cancel()
        else:
            try:
                self._outcome = IncomingResponse(self._view, future.result())
            except Exception as error:
                failed = HttpError.of(error)
                self._outcome = failed.code
                if body is not None:
                    body.cancel(failed)
                if not isinstance(error, (OSError, NoResponse)):
                    # The guest is told something, but this is not its fault, and not the network's.
                    context = {"message": "the hook send_request failed", "exception": error}
                    future.get_loop().call_exception_handler(context)
        if self._consumed:
            self._discard()
        self._signal.notify()

    def _is_settled(self) -> bool:
        return self._outcome is not None

    @method
    def subscribe(self) -> Own[Pollable]:
        pollable = Pollable(self._is_settled, self._signal)
        pollable.attach(self)
        return pollable

    @method
    def get(self) -> Ok[Ok[Own[IncomingResponse]] | Err[ErrorCode]] | Err[None] | None:
        outcome = self._outcome
        if self._consumed:
            return Err(None)
        if outcome is None:
            return None
        self._consumed = True
        if not isinstance(outcome, IncomingResponse):
            return Ok(Err(outcome))
        outcome.take_charge(self, self._view.table)
        outcome.charge_headers()
        return Ok(Ok(outcome))

    def drop(self) -> None:
        if not self._consumed:
            self._consumed = True
            if self._outcome is None:
                self._future.cancel()
            else:
                self._discard()

    def _discard(self) -> None:
        """Drops a response that is not wanted any more."""
        if isinstance(self._outcome, IncomingResponse):
            self._outcome.release()


class Types(Interface, name="wasi:http/types@0.2.12"):
    resources = (
        Fields,
        IncomingRequest,
        OutgoingRequest,
        RequestOptions,
        ResponseOutparam,
        IncomingResponse,
        IncomingBody,
        FutureTrailers,
        OutgoingResponse,
        OutgoingBody,
        FutureIncomingResponse,
    )

    @func
    def http_error_code(err: Borrow[IoError]) -> ErrorCode | None:
        return err.cause.code if isinstance(err.cause, HttpError) else None


class IncomingHandler(Interface, name="wasi:http/incoming-handler@0.2.12"):
    """What a proxy exports."""

    @func
    def handle(request: Own[IncomingRequest], response_out: Own[ResponseOutparam]) -> None:
        raise AssertionError("guests implement this interface")
