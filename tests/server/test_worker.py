"""Workers: how much at once, accepting, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Callable

import pytest

from wasi_http.component import Err, Ok
from wasi_http.http.fields import Fields
from wasi_http.http.types import IncomingRequest, OutgoingResponse, ResponseOutparam
from wasi_http.server import Guests as Service
from wasi_http.server import Worker, listen
from wasi_http.service.admission import SPARE_INSTANCES
from wasi_http.wasi.io.streams import OutputStream

from .scripted import ScriptedService, respond, settled
from .serving import Client, Guests, Log, Serving, get, post, run, serve, until

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
        service = server.worker.answers
        clients = [await server.connect() for _ in range(5)]
        for number, client in enumerate(clients):
            await client.send(post(f"/{number}", b"some body"))
            await until(lambda: service.active + len(service.admission._waiting) == number + 1)  # noqa: B023
        assert gate.inside == ["/0", "/1"]
        gate.open.set()
        for client in clients:
            assert (await client.reply()).body == b"done"
        assert gate.inside == ["/0", "/1", "/2", "/3", "/4"]
        assert server.worker.answers.active == 0

    gate = Gate()
    serve(loop, ScriptedService(guests, gate.script, max_concurrent_requests=2), test)


def test_requests_wait_while_large_guests_leave(guests: Guests, loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    leaving = SPARE_INSTANCES // 2 + 3
    monkeypatch.setattr("wasi_http.service.admission.leaving_stores", lambda: leaving)

    async def test(server: Serving) -> None:
        nonlocal leaving
        gate.open.set()
        await server.ask(get("/large"))
        gate.open.clear()
        clients = [await server.connect() for _ in range(4)]
        for client in clients:
            await client.send(get("/"))
        await until(lambda: server.worker.answers.active + len(server.worker.answers.admission._waiting) == 4)
        for places in (1, 2, 4):
            # All have left that are above the limit but so many.
            leaving = SPARE_INSTANCES // 2 + 4 - places if places < 4 else 0
            await until(lambda: server.worker.answers.active == places)  # noqa: B023
            assert len(server.worker.answers.admission._waiting) == 4 - places
        gate.open.set()
        for client in clients:
            assert (await client.reply()).body == b"done"

    gate = Gate()
    handler = ScriptedService(guests, gate.script, max_concurrent_requests=4)
    handler.large = True
    serve(loop, handler, test)


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

    serve(loop, guests.service("c_kitchen", max_concurrent_requests=1), test)


COMPUTING = 30


async def start_computing(server: Serving) -> list[Client]:
    """Requests whose guests are in endless loops, all at once."""
    clients = [await server.connect() for _ in range(COMPUTING)]
    for client in clients:
        await client.send(get("/spin"))
    return clients


@pytest.mark.parametrize("when", ["they compute", "they start"])
def test_a_request_beside_many_that_compute(guests: Guests, loop: str, when: str) -> None:
    """In time slices: how long one takes on a busy machine does not matter."""

    async def test(server: Serving) -> None:
        def slices() -> int:
            runs = server.worker.answers.admission.active
            return sum(0 if run._guest is None else run._guest.store.spun for run in runs)

        await start_computing(server)
        if when == "they compute":
            await until(lambda: server.worker.answers.active == COMPUTING)
        client = await server.connect()
        before = slices()
        assert (await client.ask(get("/status/200"))).status == 200
        # A slice for each of the others would be twice as much.
        assert slices() - before < COMPUTING // 2
        server.worker.abort()

    serve(loop, guests.service("c_kitchen"), test)


def test_deadlines_of_many_that_compute(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        for client in await start_computing(server):
            assert (await client.reply()).status == 504

    serve(loop, guests.service("c_kitchen", timeout=0.1), test)


def test_a_body_arrives_while_its_request_waits_for_its_turn(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        first, second = await server.connect(), await server.connect()
        await first.send(get("/sleep-forever"))
        await until(lambda: server.worker.answers.active)
        body = b"x" * 2_000_000
        sending = asyncio.create_task(second.send(post("/discard", body)))
        await until(lambda: server.worker.answers.admission._waiting)
        (waiting,) = server.worker.answers.admission._waiting
        await until(lambda: not waiting._receiver._stream._reading)
        assert waiting.request.body is not None
        assert waiting.request.body.pipe.size < 1_000_000
        first.reset()
        assert (await second.reply()).body == b"bytes 2000000\n"
        await sending

    serve(loop, guests.service("c_kitchen", max_concurrent_requests=1), test)


def test_clients_that_leave_while_their_requests_wait(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        first = await server.connect()
        await first.send(get("/first"))
        await until(lambda: server.worker.answers.active)
        # One that closes within its body cannot be waiting; after it, it can.
        for request, leave in ((post("/other", b"abc")[:-1], Client.close), (get("/other"), Client.reset)):
            others = [await server.connect() for _ in range(5)]
            for client in others:
                await client.send(request)
            await until(lambda: len(server.worker.answers.admission._waiting) == 5)
            for client in others:
                leave(client)
            # They do not pile up.
            await until(lambda: not server.worker.answers.admission._waiting)
            await until(lambda: len(server.worker.connections) == 1)
        gate.open.set()
        assert (await first.reply()).body == b"done"
        assert (await first.ask(get("/last"))).body == b"done"
        assert gate.inside == ["/first", "/last"]

    gate = Gate()
    serve(loop, ScriptedService(guests, gate.script, max_concurrent_requests=1), test)


def test_max_concurrent_connections(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        first, second, third = [await server.connect() for _ in range(3)]
        for client in (first, second):
            assert (await client.ask(get("/status/200"))).status == 200
        await third.send(get("/status/200"))
        waiting = asyncio.create_task(third.reply())
        # The two go on, the third waits.
        for _ in range(5):
            assert (await first.ask(get("/status/200"))).status == 200
        assert len(server.worker.connections) == 2
        assert not waiting.done()
        second.close()
        assert (await waiting).status == 200

    serve(loop, guests.service("c_kitchen", max_concurrent_connections=2), test)


def test_many_connections(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        for _ in range(3):
            clients = [await server.connect() for _ in range(100)]
            for client in clients:
                await client.send(get("/status/200"))
            for client in clients:
                assert (await client.reply()).status == 200
                client.close()
        await until(lambda: not server.worker.connections)

    serve(loop, guests.service("c_kitchen", max_concurrent_connections=70), test)


def test_idle_connections_make_room(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        worker = server.worker
        first, second, busy = [await server.connect() for _ in range(3)]
        for client in (first, second):
            assert (await client.ask(get("/"))).body == b"done"
        await busy.send(get("/busy"))
        await until(lambda: len(gate.inside) == 3)
        await until(lambda: len(worker.connections) == 3)
        newer, older = (each for each in worker.connections if each.idle)
        third = await server.connect()
        await third.send(get("/"))
        # They are most likely used again when they have been idle for no time at all.
        worker._look_for_idle()
        assert worker._idle == []
        older.since -= 3.0
        newer.since -= 2.0
        worker._look_for_idle()
        assert (await third.reply()).body == b"done"
        assert older.closed
        assert not newer.closed
        assert len(worker.connections) == 3

    class Busy(Gate):
        async def script(self, request: IncomingRequest, out: ResponseOutparam) -> None:
            self.inside.append(request.path_with_query())
            if request.path_with_query() == "/busy":
                await self.open.wait()
            respond(request, out)(b"done")

    gate = Busy()
    config = {"max_concurrent_connections": 3, "shutdown_timeout": 0.0}
    serve(loop, ScriptedService(guests, gate.script, **config), test)


def test_requests_that_wait_too_long_for_their_turn(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        worker = server.worker
        first, second, third = [await server.connect() for _ in range(3)]
        await first.send(get("/first"))
        await until(lambda: worker.answers.active)
        await second.send(post("/second", b"abc"))
        await until(lambda: len(worker.answers.admission._waiting) == 1)
        await third.send(get("/third"))
        await until(lambda: len(worker.answers.admission._waiting) == 2)
        # The worker looks by itself, too, whenever it likes.
        worker.answers.admission._waiting[next(iter(worker.answers.admission._waiting))] -= 35.0
        worker.answers.admission._expire()
        reply = await second.reply()
        assert (reply.status, reply.body) == (503, b"503 the server has too many requests under way\n")
        assert await second.rest() == b""
        gate.open.set()
        assert (await third.reply()).body == b"done"
        assert (await first.reply()).body == b"done"
        assert gate.inside == ["/first", "/third"]

    gate = Gate()
    serve(loop, ScriptedService(guests, gate.script, max_concurrent_requests=1, linger_timeout=0.1), test)


# ---- guests whose clients have gone ---------------------------------------------------------------------------------


class Cleaning:
    """A guest that waits for its client to go, and then cleans up until it is let through."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.seen: list[str] = []

    async def script(self, request: IncomingRequest, out: ResponseOutparam) -> None:
        body = request.consume().stream()
        response = OutgoingResponse(Fields(request._view, []))
        stream: OutputStream = response.body().write()
        if request.path_with_query() == "/begun":
            ResponseOutparam.set(out, Ok(response))
        try:
            try:
                await settled(body.blocking_read(1))
            except Err:
                self.seen.append("read failed")
            if request.path_with_query() != "/begun":
                ResponseOutparam.set(out, Ok(response))
            try:
                stream.check_write()
            except Err:
                self.seen.append("write failed")
            await self.open.wait()
            self.seen.append("cleaned up")
        except asyncio.CancelledError:
            self.seen.append("unwound")
            raise


FAILED = ["read failed", "write failed"]


@pytest.mark.parametrize(
    ("path", "leave"), [("/not-begun", Client.close), ("/not-begun", Client.reset), ("/begun", Client.reset)]
)
def test_a_guest_whose_client_has_gone_may_clean_up(
    guests: Guests, loop: str, path: str, leave: Callable[[Client], None]
) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        await client.send(post(path, b"x")[:-1])
        await until(lambda: server.worker.answers.active)
        if path == "/begun":
            await client.read_until(b"\r\n\r\n")
        leave(client)
        await until(lambda: guest.seen == FAILED)
        # It has its place as long as it needs it.
        assert server.worker.answers.active == 1
        guest.open.set()
        await server.idle()
        assert guest.seen == [*FAILED, "cleaned up"]
        assert server.log.err == ""

    guest = Cleaning()
    handler = ScriptedService(guests, guest.script, client_gone_grace=1000.0)
    serve(loop, handler, test)
    assert handler.unreleased == 0


@pytest.mark.parametrize("grace", [0.0, 0.01, 1000.0])
@pytest.mark.parametrize("path", ["/sleep-forever", "/sleep-after-head", "/spin", "/spin-after-head", "/spin-poll"])
def test_a_guest_whose_client_has_gone_has_so_much_time(guests: Guests, loop: str, path: str, grace: float) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        await client.send(get(path))
        await until(lambda: server.worker.answers.active)
        if "after-head" in path:
            await client.read_until(b"partial")
        client.reset()
        if grace == 1000.0 and "spin" not in path.replace("spin-poll", ""):
            await until(lambda: server.worker.answers.admission._retired)
            (exchange,) = server.worker.answers.admission._retired
            server.worker.answers.admission._retired[exchange] -= 1000.0
        await server.idle()
        assert not server.worker.answers.admission._retired
        assert server.log.err == ""

    serve(loop, guests.service("c_kitchen", client_gone_grace=grace), test)


def test_a_guest_whose_client_has_gone_makes_room_for_a_request(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        for waits_before in (False, True):
            guest.seen.clear()
            client, other = await server.connect(), await server.connect()
            await client.send(post("/not-begun", b"x")[:-1])
            await until(lambda: server.worker.answers.active == 1)
            if waits_before:
                await other.send(post("/not-begun", b"x"))
                await until(lambda: server.worker.answers.admission._waiting)
            client.reset()
            if not waits_before:
                await until(lambda: guest.seen == FAILED)
                await other.send(post("/not-begun", b"x"))
            await until(lambda: "unwound" in guest.seen)
            guest.open.set()
            await until(lambda: guest.seen[-1] == "cleaned up")
            await server.idle()
            guest.open.clear()

    guest = Cleaning()
    serve(loop, ScriptedService(guests, guest.script, client_gone_grace=1000.0, max_concurrent_requests=1), test)


@pytest.mark.parametrize("signals", [1, 2])
def test_the_end_does_not_wait_for_guests_whose_clients_have_gone(guests: Guests, loop: str, signals: int) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        await client.send(post("/not-begun", b"x")[:-1])
        await until(lambda: server.worker.answers.active)
        client.reset()
        await until(lambda: guest.seen == FAILED)
        server.stop.set()
        if signals == 2:
            await until(lambda: server.worker.stopping)
            server.worker.abort()
        await server.ended
        assert guest.seen == [*FAILED, "unwound"]

    guest = Cleaning()
    timeout = 0.05 if signals == 1 else 1000.0
    serve(loop, ScriptedService(guests, guest.script, client_gone_grace=1000.0, shutdown_timeout=timeout), test)


# ---- accepting ------------------------------------------------------------------------------------------------------


def test_out_of_descriptors(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        first, second = await server.connect(), await server.connect()
        for client in (first, second):
            assert (await client.ask(get("/status/200"))).status == 200
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
            assert (await first.ask(get("/status/200"))).status == 200
            assert server.log.err.count("\n") == 1
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await asyncio.get_running_loop().sock_sendall(late, get("/status/200"))
        assert (await asyncio.get_running_loop().sock_recv(late, 100)).startswith(b"HTTP/1.1 200 OK\r\n")
        late.close()

    serve(loop, guests.service("c_kitchen"), test)


def test_a_port_is_free_again_at_once(guests: Guests, loop: str) -> None:
    async def main() -> None:
        port = 0
        for _ in range(3):
            (listener,) = listen("127.0.0.1", port, 10)
            port = listener.getsockname()[1]
            worker, stop = quiet_worker(guests.service("c_kitchen")), asyncio.Event()
            serving = asyncio.create_task(worker.serve([listener], stop))
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(get("/status/200"))
            assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
            stop.set()  # with a connection open
            await serving
            writer.close()

    run(loop, main())


def quiet_worker(service: Service) -> Worker:
    service.output = Log()
    return Worker(service)


def test_workers_share_a_port(guests: Guests, loop: str) -> None:
    async def main() -> None:
        stop = asyncio.Event()
        listeners = listen("127.0.0.1", 0, 10, reuse_port=True)
        address = listeners[0].getsockname()
        listeners += listen("127.0.0.1", address[1], 10, reuse_port=True)
        workers = [quiet_worker(guests.service("c_kitchen")) for _ in listeners]
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
        assert (await idle.ask(get("/status/200"))).status == 200
        await busy.send(get("/drip/5"))
        await reading.send(post("/discard", b"x" * 10)[:-1])
        await pipelining.send(get("/drip/5") + get("/status/200"))
        await part.send(get("/")[:-1])
        await until(lambda: server.worker.answers.active == 3 and len(server.worker.connections) == 6)
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

    serve(loop, guests.service("c_kitchen"), test)


def test_requests_that_wait_for_their_turn_finish_when_the_server_stops(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        clients = [await server.connect() for _ in range(3)]
        for client in clients:
            await client.send(get("/"))
        await until(lambda: len(server.worker.answers.admission._waiting) == 2)
        server.stop.set()
        await until(lambda: server.worker.stopping)
        gate.open.set()
        for client in clients:
            reply = await client.reply()
            assert (reply[b"connection"], reply.body) == (b"close", b"done")

    gate = Gate()
    serve(loop, ScriptedService(guests, gate.script, max_concurrent_requests=1), test)


def test_guests_that_go_on_after_their_response_finish_when_the_server_stops(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        assert (await client.ask(get("/after"))).body == b"answered\n"
        server.stop.set()
        assert await client.rest() == b""
        await server.ended
        assert server.log.err.endswith("still here\n")

    serve(loop, guests.service("c_kitchen"), test)


PATHS = ["/spin", "/sleep-forever", "/sleep-after-head", "/spin-after-head", "/big/64"]


def test_requests_that_do_not_finish_are_cancelled(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        clients = [await server.connect() for _ in PATHS]
        for client, path in zip(clients, PATHS, strict=True):
            await client.send(get(path))
        await until(lambda: server.worker.answers.active == len(PATHS))
        server.stop.set()
        await server.ended
        for client in clients:
            await client.rest_until_reset()
        assert server.log.err == f"error: {len(PATHS)} requests did not finish in time and are cancelled\n"

    serve(loop, guests.service("c_kitchen", shutdown_timeout=0.1), test)


def test_abort(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        clients = [await server.connect() for _ in PATHS]
        for client, path in zip(clients, PATHS, strict=True):
            await client.send(get(path))
        await until(lambda: server.worker.answers.active == len(PATHS))
        server.stop.set()
        await until(lambda: server.worker.stopping)
        server.worker.abort()
        await server.ended
        for client in clients:
            await client.rest_until_reset()
        assert server.log.err == ""

    serve(loop, guests.service("c_kitchen"), test)


def test_abort_does_not_wait_for_guests_that_go_on(guests: Guests, loop: str) -> None:
    async def script(request: IncomingRequest, out: ResponseOutparam) -> None:
        respond(request, out)(b"done")
        await asyncio.Event().wait()

    async def test(server: Serving) -> None:
        client = await server.connect()
        assert (await client.ask(get("/"))).body == b"done"
        server.stop.set()
        assert await client.rest() == b""
        assert server.worker.answers.active == 1
        server.worker.abort()
        await server.ended

    serve(loop, ScriptedService(guests, script), test)


def test_a_connection_that_is_accepted_when_the_server_stops(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        server.worker._accept(server.worker._listeners[0])
        assert not server.worker.connections
        server.stop.set()
        assert await client.rest() == b""
        await server.ended

    serve(loop, guests.service("c_kitchen"), test)


@pytest.mark.parametrize("signals", [1, 2])
def test_the_end_does_not_wait_for_guests_that_refuse_to_be_cancelled(
    guests: Guests, loop: str, signals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(request: IncomingRequest, out: ResponseOutparam) -> None:
        while not ended.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await ended.wait()

    async def main() -> None:
        worker, stop = quiet_worker(handler), asyncio.Event()
        listeners = listen("127.0.0.1", 0, 10)
        client = socket.create_connection(listeners[0].getsockname())
        client.sendall(get("/"))
        serving = asyncio.create_task(worker.serve(listeners, stop))
        await until(lambda: worker.answers.active)
        stop.set()
        if signals == 2:
            await until(lambda: worker.stopping)
            worker.abort()
        try:
            await serving
        finally:
            ended.set()
        client.close()
        assert isinstance(handler.output, Log)
        assert handler.output.err.endswith("error: 1 requests did not let themselves be cancelled\n")
        await until(lambda: not worker.answers.active)

    for module in ("server.worker", "service.service"):
        monkeypatch.setattr(f"wasi_http.{module}.ABORT_TIMEOUT", 0.05)
    ended = asyncio.Event()
    handler = ScriptedService(guests, script, shutdown_timeout=0.05 if signals == 1 else 1000.0)
    run(loop, main())


def test_cancelling_the_server_stops_it(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        await client.send(get("/"))
        await until(lambda: server.worker.answers.active)
        server.ended.cancel()
        await until(lambda: server.worker.stopping)
        gate.open.set()
        assert (await client.reply()).body == b"done"
        with pytest.raises(asyncio.CancelledError):
            await server.ended

    gate = Gate()
    serve(loop, ScriptedService(guests, gate.script), test)
