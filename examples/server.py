"""A server of one's own around a component: `python examples/server.py examples/hello.wat 127.0.0.1:8080`.

The command line's server (`wasi-http serve`) is faster and has more limits; this is the form for programs that want to
decide themselves what a guest may do, and what happens around it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

from wasi_http import (
    Body,
    Component,
    Engine,
    Linker,
    NoResponse,
    ProxyPre,
    Request,
    ResourceTable,
    Response,
    Store,
    WasiCtx,
    WasiHttpCtx,
    WasiHttpView,
    WasiView,
    add_to_linker_async,
)
from wasi_http.bindings.http.types import Scheme
from wasi_http.io import serve_connection


class ClientState(WasiHttpView, WasiView):
    """The state of the guest that handles one request."""

    def __init__(self) -> None:
        self.table = ResourceTable()
        self.ctx = WasiCtx(stdout=sys.stdout.buffer, stderr=sys.stderr.buffer)
        self.http = WasiHttpCtx()


class Server:
    """One component, linked once and instantiated for each request."""

    def __init__(self, path: str, engine: Engine | None = None) -> None:
        self.engine = engine or Engine()
        component = Component.from_file(self.engine, path)
        linker = Linker(self.engine)
        add_to_linker_async(linker)
        self.pre = ProxyPre(linker.instantiate_pre(component))
        # The event loop keeps no strong references to tasks.
        self.tasks: set[asyncio.Task[None]] = set()

    async def handle_request(self, request: Request) -> Response:
        state = ClientState()
        store = Store(self.engine, state)
        req = state.new_incoming_request(Scheme.HTTP, request)
        out = state.new_response_outparam()
        proxy = await self.pre.instantiate_async(store)

        # A task of its own: the guest may go on after its response started, and after it ended.
        guest = asyncio.create_task(proxy.wasi_http_incoming_handler.call_handle(store, req, out))
        self.tasks.add(guest)

        def done(guest: asyncio.Task[None]) -> None:
            self.tasks.discard(guest)
            # What the guest holds goes with it; a response that it left unfinished is broken off.
            store.close()
            if not guest.cancelled() and (error := guest.exception()) is not None:
                print(f"error: the guest failed: {error}", file=sys.stderr, flush=True)

        guest.add_done_callback(done)
        try:
            return await out.response(guest)
        except NoResponse as error:
            return Response(500, [(b"content-type", b"text/plain")], Body.of(f"{error}\n".encode()))

    def handle_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(serve_connection(reader, writer, self.handle_request))
        self.tasks.add(connection)
        connection.add_done_callback(self.tasks.discard)


async def main(path: str, address: str) -> None:
    host, _, port = address.rpartition(":")
    server = await asyncio.start_server(Server(path).handle_connection, host, int(port))
    host, port = server.sockets[0].getsockname()[:2]
    print(f"Serving HTTP on http://{host}:{port}/", file=sys.stderr, flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:8080"))
