"""Instances that serve more than one request."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import cast

import pytest

from tests.clock import Clock
from tests.engine.test_turns import Guests as ComputingGuests
from wasi_http.component import Ok
from wasi_http.engine import Trap, Turns, live_stores
from wasi_http.http.fields import Fields
from wasi_http.http.types import IncomingRequest, OutgoingResponse, ResponseOutparam
from wasi_http.service.guest import Guest

from .scripted import ScriptedService, respond, settled
from .serving import Guests, Serving, chunked, get, post, serve, until

STATUS = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n"

#: Longer than any test: nothing is dropped for being idle.
KEPT = {"idle_instance_timeout": 1000.0}


def many_handles(count: int) -> bytes:
    """A request whose guest keeps as many handles for good."""
    return get(f"/many-handles/{count}")


def served(server: Serving) -> list[int]:
    """How many requests each idle instance has served."""
    return [instance.served for instance in server.worker.answers.instances._idle]


def test_each_request_has_an_instance_of_its_own(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        for _ in range(3):
            assert (await client.ask(many_handles(7))).body == b"handles 7\n"
            assert len(server.worker.answers.instances) == 0

    serve(loop, guests.service("c_kitchen"), test)


def test_an_instance_serves_so_many_requests(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        bodies = [(await client.ask(many_handles(1))).body.count(b"handles") for _ in range(7)]
        # The guest never empties what it builds its answers in, so they tell how old its memory is.
        assert bodies == [1, 2, 3, 1, 2, 3, 1]
        assert served(server) == [1]

    serve(loop, guests.service("c_kitchen", max_instance_reuse_count=3, **KEPT), test)


def test_pipelined_requests_share_an_instance(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        await client.send(get("/status/200") * 99 + get("/drip/1") + get("/status/200"))
        for _ in range(101):
            assert (await client.reply()).status == 200
        assert served(server) == [101]

    serve(loop, guests.service("c_kitchen", max_instance_reuse_count=128, **KEPT), test)


def test_an_instance_serves_one_request_at_a_time(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        clients = [await server.connect() for _ in range(5)]
        before = live_stores()
        for _ in range(2):
            for client in clients:
                await client.send(post("/discard", b"x")[:-1])
            await until(lambda: server.worker.answers.active == 5)
            assert len(server.worker.answers.instances) == 0
            for client in clients:
                await client.send(b"x")
                assert (await client.reply()).body.endswith(b"bytes 1\n")
            await server.idle()
        assert served(server) == [2] * 5
        assert live_stores() == before + 5

    serve(loop, guests.service("c_kitchen", max_instance_reuse_count=128, **KEPT), test)


def test_a_guest_that_goes_on_after_its_response_keeps_its_instance(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        assert (await client.ask(get("/after"))).body == b"answered\n"
        assert (await client.ask(get("/status/200"))).status == 200
        # The one at work, and the one that served the second request.
        assert server.worker.answers.active == 1
        assert served(server) == [1]
        await server.idle()
        assert served(server) == [1, 1]

    serve(loop, guests.service("c_kitchen", max_instance_reuse_count=128, **KEPT), test)


# What a guest does after which its instance is of no use any more, and the status.
FAILURES = [
    ("/trap", 500),
    ("/no-set", 500),
    ("/exit/0", 500),
    ("/exit/1", 500),
    ("/recurse", 500),
    ("/set-twice", 500),
    ("/content-length-short", 500),
    ("/status/100", 500),
    ("/sleep-forever", 504),
    ("/spin", 504),
    ("/trap-after-head", None),
    ("/exit-after-head", None),
    ("/abandon", None),
    ("/no-finish", None),
    ("/spin-after-head", None),
    ("/sleep-after-head", None),
]


@pytest.mark.parametrize(("path", "status"), FAILURES)
def test_an_instance_that_failed_is_not_used_again(guests: Guests, loop: str, path: str, status: int | None) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        assert (await client.ask(many_handles(1))).body == b"handles 1\n"
        if status is None:
            assert (await client.begun(get(path))).startswith(b"HTTP/1.1 200 ")
            assert (await client.rest()).endswith(b"partial\r\n")
        else:
            assert (await client.ask(get(path))).status == status
        await server.idle()
        # But for the status that cannot be sent: that was no failure of the guest's.
        assert served(server) == ([2] if path == "/status/100" else [])
        if path != "/status/100":
            assert (await server.ask(many_handles(1))).body == b"handles 1\n"

    serve(loop, guests.service("c_kitchen", max_instance_reuse_count=128, timeout=0.1, **KEPT), test)


@pytest.mark.parametrize("path", ["/sleep-forever", "/spin", "/sleep-after-head", "/big/64"])
def test_an_instance_whose_client_left_is_not_used_again(guests: Guests, loop: str, path: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        await client.send(get("/status/200") + get(path))
        assert (await client.reply()).status == 200
        await until(lambda: server.worker.answers.active)
        client.reset()
        await server.idle()
        assert served(server) == []

    serve(loop, guests.service("c_kitchen", max_instance_reuse_count=128, **KEPT), test)


def test_idle_instances_are_dropped(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        before, clock, pool = live_stores(), Clock(), server.worker.answers.instances
        pool._loop = cast(asyncio.AbstractEventLoop, clock)
        clients = [await server.connect() for _ in range(3)]
        for client in clients:
            assert (await client.ask(get("/after"))).body == b"answered\n"
        assert server.worker.answers.active == 3
        await server.idle()
        assert len(pool) == 3
        # Those that are not needed grow old while one is.
        for count in range(4):
            assert (await clients[0].ask(get("/status/200"))).status == 200
            clock.advance(0.03)
            assert len(pool) == (3 if count < 3 else 1)
        assert served(server) == [5]
        clock.advance(0.1)
        assert len(pool) == 0
        assert live_stores() == before
        assert pool._timer is None

    serve(loop, guests.service("c_kitchen", max_instance_reuse_count=10**9, idle_instance_timeout=0.1), test)


def test_no_more_instances_than_requests_at_once(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        before = live_stores()
        clients = [await server.connect() for _ in range(12)]
        for _ in range(3):
            for client in clients:
                await client.send(get("/drip/2") + get("/status/200"))
            for client in clients:
                assert (await client.reply()).body.endswith(b"tick 1\n")
                assert (await client.reply()).status == 200
                assert live_stores() - before <= 4
        assert len(server.worker.answers.instances) <= 4

    serve(loop, guests.service("c_kitchen", max_instance_reuse_count=9, max_concurrent_requests=4, **KEPT), test)


def test_idle_instances_are_dropped_when_the_server_stops(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        before = live_stores()
        assert (await server.ask(get("/status/200"))).status == 200
        assert (len(server.worker.answers.instances), live_stores()) == (1, before + 1)
        server.stop.set()
        await server.ended
        assert (len(server.worker.answers.instances), live_stores()) == (0, before)

    serve(loop, guests.service("c_kitchen", max_instance_reuse_count=2, **KEPT), test)


# ---- what is of a request and what is of an instance ----------------------------------------------------------------


def test_handles_that_are_kept_count(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        statuses = [(await client.ask(many_handles(40))).status for _ in range(6)]
        # Two requests take 80 of 100 for good; the third is too much for the instance, and a fresh one takes it over.
        assert statuses == [200] * 6
        assert server.log.err == WARNING.format(2)
        assert (await client.ask(many_handles(101))).status == 500
        assert server.log.err.count("resource table has no free keys") == 1

    serve(loop, guests.service("c_kitchen", max_instance_reuse_count=128, max_resources=100, **KEPT), test)


@pytest.mark.parametrize("path", ["/stdout", "/stdout-kept"])
def test_what_is_printed_has_the_number_of_its_request(guests: Guests, loop: str, path: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        for _ in range(3):
            assert (await client.ask(get(path))).body.endswith(b"printed\n")
        assert served(server) == [3]
        lines = ["first line", "second line", "no newline"]
        assert server.log.out == "".join(f"stdout [{number}] :: {line}\n" for number in range(3) for line in lines)
        assert server.log.err == "".join(f"stderr [{number}] :: a complaint\n" for number in range(3))

    serve(loop, guests.service("c_kitchen", max_instance_reuse_count=128, **KEPT), test)


def test_the_timeout_is_each_requests_own(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        for _ in range(5):
            assert (await client.ask(get("/sleep/60"))).body.endswith(b"slept 60\n")
        assert served(server) == [5]
        assert (await client.ask(get("/sleep/5000"))).status == 504

    serve(loop, guests.service("c_sleep", max_instance_reuse_count=128, timeout=0.25, **KEPT), test)


REQUESTS = [
    get("/ignore-body", method="POST"),
    post("/ignore-body", b"x" * 300_000),
    chunked("/ignore-body", b"x" * 300_000, trailers=b"X-Checksum: abc\r\n"),
    post("/first-part", b"x" * 300_000),
    post("/discard", b"x" * 300_000),
    post("/splice", b"x" * 300_000),
    post("/consume-twice", b"x" * 300_000),
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_bodies_do_not_reach_the_next_request(guests: Guests, loop: str, request_: bytes) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        for _ in range(3):
            assert (await client.ask(request_)).status == 200
            assert (await client.ask(post("/discard", b"abc"))).body.endswith(b"bytes 3\n")
        assert served(server) == [6]

    serve(loop, guests.service("c_kitchen", max_instance_reuse_count=128, **KEPT), test)


def test_a_request_that_a_guest_keeps_holds_nothing_and_leads_to_nothing(guests: Guests, loop: str) -> None:
    async def script(request: IncomingRequest, out: ResponseOutparam) -> None:
        kept.append(request)
        respond(request, out)(b"kept")

    async def test(server: Serving) -> None:
        client = await server.connect()
        for whole in (True, False):
            data = post("/", b"x" * 100_000)
            await client.send(data if whole else data[:-1])
            assert (await client.reply()).body == b"kept"
            await server.idle()
            pipe = kept[-1].message.body.pipe
            assert pipe is not None
            assert pipe.size == 0
            assert len(pipe.writable) == 0
            if not whole:
                # There is no more to come, and guests that wait for it learn so.
                assert pipe.error is not None
                await client.send(b"x")
        assert (await client.ask(get("/"))).body == b"kept"
        kept.clear()

    kept: list[IncomingRequest] = []
    serve(loop, ScriptedService(guests, script, max_instance_reuse_count=128, **KEPT), test)


def test_a_client_that_sends_first_and_reads_later(guests: Guests, loop: str) -> None:
    """The guest is done, its response has not left, and what is left of the request is read past nevertheless."""

    async def script(request: IncomingRequest, out: ResponseOutparam) -> None:
        respond(request, out)(b"x" * 250_000)

    async def test(server: Serving) -> None:
        client = await server.connect(receive_buffer=4096)
        # Fills what the system takes, so that the last response has to wait.
        await client.send(get("/") * 40)
        await client.send(post("/", b"x" * 900_000))
        for _ in range(41):
            assert len((await client.reply()).body) == 250_000

    serve(loop, ScriptedService(guests, script, max_instance_reuse_count=128, **KEPT), test)


def test_a_response_that_is_still_sent_does_not_need_its_instance(guests: Guests, loop: str) -> None:
    async def script(request: IncomingRequest, out: ResponseOutparam) -> None:
        response = OutgoingResponse(Fields(request._view, []))
        body = response.body()
        stream = body.write()
        ResponseOutparam.set(out, Ok(response))
        stream.write(b"x" * 250_000)
        body.finish(body, None)

    async def test(server: Serving) -> None:
        slow, other = await server.connect(receive_buffer=4096), await server.connect()
        await slow.send(get("/") * 40)
        await until(lambda: any(connection.write_paused for connection in server.worker.connections))
        assert len(server.worker.answers.instances) == 1
        assert len((await other.ask(get("/"))).body) == 250_000
        for _ in range(40):
            assert len((await slow.reply()).body) == 250_000

    handler = ScriptedService(guests, script, max_instance_reuse_count=128, **KEPT)
    serve(loop, handler, test)
    assert handler.unreleased == 0


@pytest.mark.parametrize("count", [1, 128])
def test_many_connections_with_many_requests(guests: Guests, loop: str, count: int) -> None:
    async def test(server: Serving) -> None:
        clients = [await server.connect() for _ in range(20)]

        async def ask(number: int) -> None:
            for path, body in (("/status/200", b"status\n"), ("/drip/2", b"tick 1\n")) * 3:
                reply = await clients[number].ask(get(path))
                assert (reply.status, reply.body[-7:]) == (200, body)

        await asyncio.gather(*map(ask, range(20)))
        total = sum(served(server))
        assert total == (0 if count == 1 else 120)

    serve(loop, guests.service("c_kitchen", max_instance_reuse_count=count, **KEPT), test)


# ---- instances that cannot be used again ----------------------------------------------------------------------------


class OnceOnly:
    """A guest that fails with a request when its instance has served ``most``, as JavaScript with a fetch event does.

    ``does`` says what it does before.
    """

    def __init__(self, most: int, waits: bool = False, does: str = "nothing") -> None:
        self.most = most
        self.waits = waits
        self.does = does
        self.served: dict[int, int] = {}
        self.states: list[object] = []
        self.tried: list[str | None] = []

    async def script(self, request: IncomingRequest, out: ResponseOutparam) -> None:
        self.states.append(request._view)  # so that no other has its identity
        count = self.served[id(request._view)] = self.served.get(id(request._view), 0) + 1
        path = request.path_with_query()
        self.tried.append(path)
        if self.waits:
            await asyncio.sleep(0)
        if count > self.most or path == "/always":
            if self.does == "reads":
                await settled(request.consume().stream().blocking_read(1))
            elif self.does == "informs":
                out.send_informational(103, request.headers())
            elif self.does == "requests":
                assert isinstance(request._view, Guest)
                request._view.requested = True
            elif self.does == "sets":
                ResponseOutparam.set(out, Ok(OutgoingResponse(Fields(request._view, []))))
            if self.does == "returns":
                return
            raise Trap("used again")
        if path == "/body":
            respond(request, out)(await settled(request.consume().stream().blocking_read(100)))
        else:
            respond(request, out)(b"done")


WARNING = (
    "warning: an instance that had served {0} requests failed with the next, which a fresh instance served: "
    "--max-instance-reuse-count is {0} from now on\n"
)


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("does", ["nothing", "sets", "returns"])
def test_instances_that_cannot_be_used_again_are_not(
    guests: Guests, loop: str, most: int, waits: bool, does: str
) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        for _ in range(5):
            assert (await client.ask(post("/body", b"abc"))).body == b"abc"
        await server.idle()
        assert server.log.err == WARNING.format(most)
        assert len(guest.tried) == 6
        assert max(guest.served.values()) == most + 1

    guest = OnceOnly(most, waits and does != "sets", does)
    handler = ScriptedService(guests, guest.script, max_instance_reuse_count=20, **KEPT)
    serve(loop, handler, test)
    assert handler.unreleased == 0


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("does", ["reads", "informs", "requests"])
def test_a_request_that_has_left_traces_is_not_tried_again(guests: Guests, loop: str, waits: bool, does: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        statuses = [(await client.ask(post("/", b"abc"))).status for _ in range(4)]
        assert statuses == [200, 500, 200, 500]
        assert "warning" not in server.log.err
        assert len(guest.tried) == 4

    guest = OnceOnly(1, waits, does)
    serve(loop, ScriptedService(guests, guest.script, max_instance_reuse_count=20, **KEPT), test)


def test_a_request_that_is_tried_again_keeps_its_deadline(guests: Guests, loop: str) -> None:
    tried = 0

    async def script(request: IncomingRequest, out: ResponseOutparam) -> None:
        nonlocal tried
        if request.path_with_query() == "/":
            respond(request, out)(b"done")
            return
        tried += 1
        if tried == 1:
            await asyncio.sleep(0)
            # What a deadline that begins now would be.
            handler.config = replace(handler.config, timeout=1000.0)
            raise Trap("used again")
        await asyncio.sleep(1000)

    async def test(server: Serving) -> None:
        client = await server.connect()
        await client.ask(get("/"))
        assert (await client.ask(get("/late"))).status == 504
        assert tried == 2

    handler = ScriptedService(guests, script, max_instance_reuse_count=20, timeout=0.2, **KEPT)
    serve(loop, handler, test)


@pytest.mark.parametrize("waits", [False, True])
def test_a_request_is_tried_again_in_another_turn(guests: Guests, loop: str, waits: bool) -> None:
    opened: list[bool] = []

    async def script(request: IncomingRequest, out: ResponseOutparam) -> None:
        if request.path_with_query() == "/again":
            opened.append(Turns.of(handler.engine).open)
            if len(opened) == 1:
                if waits:
                    await asyncio.sleep(0)
                ComputingGuests(handler.engine).close_turn()
                raise Trap("used again")
        respond(request, out)(b"done")

    async def test(server: Serving) -> None:
        client = await server.connect()
        for path in ("/", "/again", "/"):
            assert (await client.ask(get(path))).body == b"done"
        assert opened == [True, True]
        assert "warning" in server.log.err

    handler = ScriptedService(guests, script, max_instance_reuse_count=20, **KEPT)
    serve(loop, handler, test)


def test_a_request_that_fails_on_a_fresh_instance_too_says_nothing_of_the_reuse(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        for _ in range(2):
            assert (await client.ask(get("/"))).status == 200
            assert (await client.ask(get("/always"))).status == 500
        assert "warning" not in server.log.err
        # Not a third time, and once where the instance was fresh.
        assert (await client.ask(get("/always"))).status == 500
        assert guest.tried == ["/", "/always", "/always"] * 2 + ["/always"]

    guest = OnceOnly(100)
    serve(loop, ScriptedService(guests, guest.script, max_instance_reuse_count=20, **KEPT), test)
