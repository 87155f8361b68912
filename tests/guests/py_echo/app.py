"""Streams the request's body into the response's, on the event loop over `wasi:io/poll` that componentize-py brings."""

import asyncio

from componentize_py_types import Ok
from poll_loop import PollLoop, Sink, Stream
from wit_world import exports
from wit_world.imports.types import Fields, IncomingRequest, OutgoingResponse, ResponseOutparam


class IncomingHandler(exports.IncomingHandler):
    """wasi:http/incoming-handler."""

    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        """Echoes one request."""
        loop = PollLoop()
        asyncio.set_event_loop(loop)
        loop.run_until_complete(echo(request, response_out))


async def echo(request: IncomingRequest, response_out: ResponseOutparam) -> None:
    """Keeps the content type; holds one chunk at a time."""
    types = [("content-type", value) for value in request.headers().get("content-type")]
    response = OutgoingResponse(Fields.from_list(types))
    body = response.body()
    ResponseOutparam.set(response_out, Ok(response))
    source, sink = Stream(request.consume()), Sink(body)
    while (chunk := await source.next()) is not None:
        await sink.send(chunk)
    sink.close()
