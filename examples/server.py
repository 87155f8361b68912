"""A server of one's own around a component: `python examples/server.py examples/hello.wat 127.0.0.1:8080`.

The command line's server (`wasi-http serve`) is faster and has more limits; this is the form for programs that want to
decide themselves what a guest may do, and what happens around it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from wasi_http import (
    Body,
    Component,
    Engine,
    InvalidComponent,
    Linker,
    LinkError,
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
from wasi_http.server.embedded import serve_connection


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

        async def run() -> None:
            try:
                proxy = await self.pre.instantiate_async(store)
                await proxy.wasi_http_incoming_handler.call_handle(store, req, out)
            finally:
                # What the guest holds goes with it; a response that it left unfinished is broken off.
                store.close()

        # A task of its own: the guest may go on after its response started, and after it ended.
        guest = asyncio.create_task(run())
        self.tasks.add(guest)

        def done(guest: asyncio.Task[None]) -> None:
            self.tasks.discard(guest)
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


async def main(path: str, host: str, port: int) -> None:
    server = await asyncio.start_server(Server(path).handle_connection, host, port)
    host, port = server.sockets[0].getsockname()[:2]
    print(f"Serving HTTP on http://{host}:{port}/", file=sys.stderr, flush=True)
    async with server:
        await server.serve_forever()


def address(text: str) -> tuple[str, int]:
    """HOST:PORT; the host may be in brackets."""
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address: write HOST:PORT")
    return host.strip("[]"), int(port)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serves a component of the world wasi:http/proxy.")
    parser.add_argument("file", help="the component, binary or text")
    parser.add_argument("address", nargs="?", type=address, default="127.0.0.1:8080", help="HOST:PORT")
    arguments = parser.parse_args()
    try:
        asyncio.run(main(arguments.file, *arguments.address))
    except KeyboardInterrupt:
        pass
    except (OSError, UnicodeError, InvalidComponent, LinkError) as error:
        sys.exit(f"error: {str(error).splitlines()[0]}")
