"""Guests written in Python, for what no component would do at the right moment: they stand where an instance would."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import SimpleNamespace
from typing import Any, cast

from wasi_http.component import Ok
from wasi_http.engine import Store
from wasi_http.http.fields import Fields
from wasi_http.http.types import IncomingRequest, OutgoingResponse, ResponseOutparam
from wasi_http.server import Guests as Service
from wasi_http.service.guest import Guest
from wasi_http.service.proxy import IncomingHandlerGuest
from wasi_http.wasi.io.streams import OutputStream

from .serving import Guests

Script = Callable[[IncomingRequest, ResponseOutparam], Coroutine[Any, Any, None]]


class ScriptedStore:
    """Counts as a store that is closed once, when its guest is done."""

    memory_size = 0

    def __init__(self, service: ScriptedService) -> None:
        self._service = service
        service.unreleased += 1

    def close(self) -> bool:
        self._service.unreleased -= 1
        return self._service.large


class ScriptedCall:
    """The call of a scripted guest: like a fiber, it runs in `poll` until it has to wait, and is awaited then."""

    def __init__(self, script: Coroutine[Any, Any, None]) -> None:
        self._script = script
        self._waits_for: Any = None

    def poll(self) -> bool:
        try:
            self._waits_for = self._script.send(None)
        except StopIteration:
            return True
        return False

    def __await__(self) -> Generator[Any, Any, None]:
        try:
            while True:
                try:
                    value = yield self._waits_for
                except BaseException as error:
                    self._waits_for = self._script.throw(error)
                else:
                    self._waits_for = self._script.send(value)
        except StopIteration:
            return


class ScriptedService(Service):
    """``unreleased`` is how many guests have not been released."""

    def __init__(self, guests: Guests, script: Script, **config: Any) -> None:
        model = guests.service("hello", **config)
        super().__init__(model.engine, model.pre, model.config)
        self.unreleased = 0
        self.large = False

        def start_handle(_: Store, request: IncomingRequest, out: ResponseOutparam) -> ScriptedCall:
            out.request = request
            return ScriptedCall(script(request, out))

        self.handler = cast(IncomingHandlerGuest, SimpleNamespace(start_handle=start_handle))

    def new_guest(self, number: int) -> Guest:
        guest = Guest(self, self.new_context(number))
        guest.store = cast(Store, ScriptedStore(self))
        return guest


def respond(request: IncomingRequest, out: ResponseOutparam) -> Callable[[bytes], None]:
    """Sets a response; the function that is returned writes the whole body and finishes it."""
    response = OutgoingResponse(Fields(request._view, []))
    body = response.body()
    stream: OutputStream = body.write()
    ResponseOutparam.set(out, Ok(response))

    def finish(data: bytes) -> None:
        stream.write(data)
        body.finish(body, None)

    return finish


async def settled(value: bytes | Awaitable[bytes]) -> bytes:
    """What a method that may have to wait returns in the end."""
    return value if isinstance(value, bytes) else await value
