"""A service for threads without an event loop: its calls block."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import Future
from os import PathLike
from types import TracebackType
from typing import Any, Self

from wasi_http.engine.errors import expect
from wasi_http.http.errors import HttpError
from wasi_http.http.message import Request
from wasi_http.http.values import ErrorCode
from wasi_http.service.service import Informational, Service
from wasi_http.service.sync import Body, Response, Steps

__all__ = ["BlockingService"]

class BlockingService:
    """A `Service` whose event loop runs on a thread of its own. Any number of threads may call it at once.

    Use it in ``with``, or `close` it.
    """

    def __init__(self, service: Service) -> None:
        expect(Service, service, "BlockingService(service), or BlockingService.from_file(path)")
        self._service = service
        self._stop = asyncio.Event()
        self._steps = Steps(lambda: HttpError(ErrorCode.ConnectionTerminated, "the service was closed"))
        self._begun: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=self._run, name="wasi-http-service", daemon=True)
        self._thread.start()
        self._loop = self._begun.result()

    @classmethod
    def from_file(cls, path: str | PathLike[str], **options: Any) -> Self:
        """A service of the component in a file; the options and errors are those of `Service.from_file`."""
        return cls(Service.from_file(path, **options))

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            if self._begun.done():
                raise
            self._begun.set_exception(error)

    async def _main(self) -> None:
        self._steps.loop = asyncio.get_running_loop()
        async with self._service:
            self._begun.set_result(self._steps.loop)
            await self._stop.wait()
            self._steps.refuse()

    def handle(self, request: Request, *, informational: Informational | None = None) -> Response:
        """The response of a guest; see `Service.handle`. Reading its body blocks until there is more of it.

        ``informational`` is called on the thread of the service. Raises HttpError with connection-terminated when the
        service is closed meanwhile, and RuntimeError afterwards, or where an event loop runs.
        """
        if self._steps.refused:
            raise RuntimeError("the service is closed")
        response = self._steps.do(lambda: self._service.handle(request, informational=informational))
        return Response(response.status, response.headers, body=Body(response.body, self._steps))

    def close(self) -> None:
        """Unwinds the guests that are at work, and ends the thread. Idempotent."""
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
