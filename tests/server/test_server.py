"""Workers: how much at once, accepting, and how they end."""

from __future__ import annotations

import asyncio
import os
import resource
import socket

import pytest

from wasi_http.server import Handler, Worker, listen
from wasi_http.types import IncomingRequest, ResponseOutparam

from .scripted import ScriptedHandler, respond
from .serving import Guests, Log, Serving, get, post, run, serve, until

STATUS = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n"


class Gate:
    """A guest that waits to be let through. ``inside`` are the requests whose guests have begun."""

    def __init__(self) -> None:
        self.inside: list[str | None] = []
        self.open = asyncio.Event()

    async def script(self, request: IncomingRequest, out: ResponseOutparam) -> None:
        self.inside.append(request.path_with_query())
        await self.open.wait()
        respond(request, out)(b"done")


# ---- limits ---------------------------------------------------------------------------------------------------------


def test_max_concurrent_requests(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        clients = [await server.connect() for _ in range(5)]
        for number, client in enumerate(clients):
            await client.send(post(f"/{number}", b"some body"))
            await until(lambda: len(server.worker.active) + len(server.worker._waiting) == number + 1)  # noqa: B023
        assert gate.inside == ["/0", "/1"]
        gate.open.set()
        for client in clients:
            assert (await client.reply()).body == b"done"
        assert gate.inside == ["/0", "/1", "/2", "/3", "/4"]
        assert len(server.worker.active) == 0

    gate = Gate()
    serve(loop, ScriptedHandler(guests, gate.script, max_concurrent_requests=2), test)


def test_one_request_at_a_time(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        clients = [await server.connect() for _ in range(10)]
        for client in clients:
            await client.send(get("/status/200") + post("/discard", b"x" * 10) + get("/sleep-a-bit") + get("/drip/2"))
        for client in clients:
            assert (await client.reply()).body == b"status\n"
            assert (await client.reply()).body == b"bytes 10\n"
            assert (await client.reply()).status == 404
            assert (await client.reply()).body == b"tick 0\ntick 1\n"

    serve(loop, guests.handler("c_kitchen", max_concurrent_requests=1), test)


def test_a_body_arrives_while_its_request_waits_for_its_turn(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        first, second = await server.connect(), await server.connect()
        await first.send(get("/sleep-forever"))
        await until(lambda: server.worker.active)
        body = b"x" * 2_000_000
        sending = asyncio.create_task(second.send(post("/discard", body)))
        await until(lambda: server.worker._waiting)
        (waiting,) = server.worker._waiting
        await until(lambda: not waiting._connection._reading)
        assert waiting.body is not None
        assert waiting.body.size < 1_000_000
        first.close()
        assert (await second.reply()).body == b"bytes 2000000\n"
        await sending

    serve(loop, guests.handler("c_kitchen", max_concurrent_requests=1), test)


def test_clients_that_leave_while_their_requests_wait(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        first = await server.connect()
        await first.send(get("/first"))
        await until(lambda: server.worker.active)
        for method in ("close", "reset"):
            others = [await server.connect() for _ in range(5)]
            for client in others:
                await client.send(post("/other", b"abc"))
            await until(lambda: len(server.worker._waiting) == 5)
            for client in others:
                getattr(client, method)()
            # They do not pile up.
            await until(lambda: not server.worker._waiting)
            await until(lambda: len(server.worker.connections) == 1)
        gate.open.set()
        assert (await first.reply()).body == b"done"
        assert (await first.ask(get("/last"))).body == b"done"
        assert gate.inside == ["/first", "/last"]

    gate = Gate()
    serve(loop, ScriptedHandler(guests, gate.script, max_concurrent_requests=1), test)


def test_max_concurrent_connections(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        first, second, third = [await server.connect() for _ in range(3)]
        for client in (first, second):
            assert (await client.ask(get("/status/200"))).head == STATUS
        await third.send(get("/status/200"))
        waiting = asyncio.create_task(third.reply())
        # The two go on, the third waits.
        for _ in range(5):
            assert (await first.ask(get("/status/200"))).head == STATUS
        assert len(server.worker.connections) == 2
        assert not waiting.done()
        second.close()
        assert (await waiting).head == STATUS

    serve(loop, guests.handler("c_kitchen", max_concurrent_connections=2), test)


def test_many_connections(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        for _ in range(3):
            clients = [await server.connect() for _ in range(100)]
            for client in clients:
                await client.send(get("/status/200"))
            for client in clients:
                assert (await client.reply()).head == STATUS
                client.close()
        await until(lambda: not server.worker.connections)

    serve(loop, guests.handler("c_kitchen", max_concurrent_connections=70), test)


# ---- accepting ------------------------------------------------------------------------------------------------------


def test_out_of_descriptors(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        first, second = await server.connect(), await server.connect()
        for client in (first, second):
            assert (await client.ask(get("/status/200"))).head == STATUS
        late = socket.socket()
        late.setblocking(False)
        free = os.dup(late.fileno())
        os.close(free)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            await asyncio.get_running_loop().sock_connect(late, server.address)
            await server.log.until("error: cannot accept a connection: [Errno 24] Too many open files\n")
            # Others are served.
            assert (await first.ask(get("/status/200"))).head == STATUS
            assert server.log.err.count("\n") == 1
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await asyncio.get_running_loop().sock_sendall(late, get("/status/200"))
        assert (await asyncio.get_running_loop().sock_recv(late, 100)).startswith(b"HTTP/1.1 200 OK\r\n")
        late.close()

    serve(loop, guests.handler("c_kitchen"), test)


def test_a_port_is_free_again_at_once(guests: Guests, loop: str) -> None:
    async def main() -> None:
        port = 0
        for _ in range(3):
            (listener,) = listen("127.0.0.1", port, 10)
            port = listener.getsockname()[1]
            worker, stop = quiet_worker(guests.handler("c_kitchen")), asyncio.Event()
            serving = asyncio.create_task(worker.serve([listener], stop))
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(get("/status/200"))
            assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
            stop.set()  # with a connection open
            await serving
            writer.close()

    run(loop, main())


def quiet_worker(handler: Handler) -> Worker:
    handler.output = Log()
    return Worker(handler)


def test_workers_share_a_port(guests: Guests, loop: str) -> None:
    async def main() -> None:
        stop = asyncio.Event()
        listeners = listen("127.0.0.1", 0, 10, reuse_port=True)
        address = listeners[0].getsockname()
        listeners += listen("127.0.0.1", address[1], 10, reuse_port=True)
        workers = [quiet_worker(guests.handler("c_kitchen")) for _ in listeners]
        serving = [
            asyncio.create_task(worker.serve([listener], stop))
            for worker, listener in zip(workers, listeners, strict=True)
        ]
        writers = []
        while not all(worker.connections for worker in workers):
            _, writer = await asyncio.open_connection(*address)
            writers.append(writer)
        stop.set()
        await asyncio.gather(*serving)
        for writer in writers:
            writer.close()

    run(loop, main())


# ---- the end --------------------------------------------------------------------------------------------------------


def test_requests_finish_when_the_server_stops(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        idle, fresh, busy, reading, pipelining, part = [await server.connect() for _ in range(6)]
        assert (await idle.ask(get("/status/200"))).head == STATUS
        await busy.send(get("/drip/5"))
        await reading.send(post("/discard", b"x" * 10)[:-1])
        await pipelining.send(get("/drip/5") + get("/status/200"))
        await part.send(get("/")[:-1])
        await until(lambda: len(server.worker.active) == 3 and len(server.worker.connections) == 6)
        await busy.read_until(b"\r\n\r\n")
        server.stop.set()
        # Nobody is waiting for anything there.
        assert await idle.rest() == b""
        assert await fresh.rest() == b""
        assert await part.rest() == b""
        with pytest.raises(ConnectionRefusedError):
            await server.connect()
        await reading.send(b"x")
        reply = await reading.reply()
        assert (reply[b"connection"], reply.body) == (b"close", b"bytes 10\n")
        assert await busy.rest() == b"".join(b"7\r\ntick %d\n\r\n" % n for n in range(5)) + b"0\r\n\r\n"
        assert (await pipelining.reply()).body.endswith(b"tick 4\n")
        # The next request is somebody else's.
        assert await pipelining.rest() == b""
        await server.ended
        assert server.log.err == ""

    serve(loop, guests.handler("c_kitchen"), test)


def test_requests_that_wait_for_their_turn_finish_when_the_server_stops(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        clients = [await server.connect() for _ in range(3)]
        for client in clients:
            await client.send(get("/"))
        await until(lambda: len(server.worker._waiting) == 2)
        server.stop.set()
        await until(lambda: server.worker.stopping)
        gate.open.set()
        for client in clients:
            reply = await client.reply()
            assert (reply[b"connection"], reply.body) == (b"close", b"done")

    gate = Gate()
    serve(loop, ScriptedHandler(guests, gate.script, max_concurrent_requests=1), test)


def test_guests_that_go_on_after_their_response_finish_when_the_server_stops(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        assert (await client.ask(get("/after"))).body == b"answered\n"
        server.stop.set()
        assert await client.rest() == b""
        await server.ended
        assert server.log.err.endswith("still here\n")

    serve(loop, guests.handler("c_kitchen"), test)


PATHS = ["/spin", "/sleep-forever", "/sleep-after-head", "/spin-after-head", "/big/64"]


def test_requests_that_do_not_finish_are_cancelled(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        clients = [await server.connect() for _ in PATHS]
        for client, path in zip(clients, PATHS, strict=True):
            await client.send(get(path))
        await until(lambda: len(server.worker.active) == len(PATHS))
        server.stop.set()
        await server.ended
        for client in clients:
            await client.rest_until_reset()
        assert server.log.err == f"error: {len(PATHS)} requests did not finish in time and are cancelled\n"

    serve(loop, guests.handler("c_kitchen", shutdown_timeout=0.1), test)


def test_abort(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        clients = [await server.connect() for _ in PATHS]
        for client, path in zip(clients, PATHS, strict=True):
            await client.send(get(path))
        await until(lambda: len(server.worker.active) == len(PATHS))
        server.stop.set()
        await until(lambda: server.worker.stopping)
        server.worker.abort()
        await server.ended
        for client in clients:
            await client.rest_until_reset()
        assert server.log.err == ""

    serve(loop, guests.handler("c_kitchen"), test)


def test_abort_does_not_wait_for_guests_that_go_on(guests: Guests, loop: str) -> None:
    async def script(request: IncomingRequest, out: ResponseOutparam) -> None:
        respond(request, out)(b"done")
        await asyncio.Event().wait()

    async def test(server: Serving) -> None:
        client = await server.connect()
        assert (await client.ask(get("/"))).body == b"done"
        server.stop.set()
        assert await client.rest() == b""
        assert len(server.worker.active) == 1
        server.worker.abort()
        await server.ended

    serve(loop, ScriptedHandler(guests, script), test)


def test_a_connection_that_is_accepted_when_the_server_stops(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        server.worker._accept(server.worker._listeners[0])
        assert not server.worker.connections
        server.stop.set()
        assert await client.rest() == b""
        await server.ended

    serve(loop, guests.handler("c_kitchen"), test)


def test_cancelling_the_server_stops_it(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        await client.send(get("/"))
        await until(lambda: server.worker.active)
        server.ended.cancel()
        await until(lambda: server.worker.stopping)
        gate.open.set()
        assert (await client.reply()).body == b"done"
        with pytest.raises(asyncio.CancelledError):
            await server.ended

    gate = Gate()
    serve(loop, ScriptedHandler(guests, gate.script), test)
