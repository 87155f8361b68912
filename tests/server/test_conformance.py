"""What the reference implementation pins down about wasi:http, as clients, guests and other servers see it.

The rules themselves have tests beside their modules (``tests/http/test_fields.py`` and the others); here they go
through the canonical ABI and over real sockets.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

import pytest

from tests.view import View
from wasi_http.engine import Store, Trap
from wasi_http.http.egress import Egress
from wasi_http.http.errors import NoResponse
from wasi_http.http.message import Request
from wasi_http.http.values import Scheme

from .serving import Client, Guests, Serving, chunked, get, post, run, serve, serving

ROOT = b"method 0\nhttp\nexample.com\n/\n"
FAILED = (500, b"500 the handler failed\n")

# ---- the request ----------------------------------------------------------------------------------------------------

# The request; what the guest is told of it.
REQUESTS = [
    (get("/"), ROOT),
    (get("/p?q=1&r=%20"), b"method 0\nhttp\nexample.com\n/p?q=1&r=%20\n"),
    (get("/café?q=日本"), "method 0\nhttp\nexample.com\n/café?q=日本\n".encode()),
    (get("http://other.example:8080/p?q"), b"method 0\nhttp\nother.example:8080\n/p?q\n"),
    (get("http://other.example"), b"method 0\nhttp\nother.example\n/\n"),
    (get("*", method="OPTIONS"), b"method 6\nhttp\nexample.com\n*\n"),
    (get("other.example:443", method="CONNECT"), b"method 5\nhttp\nother.example:443\nno path\n"),
    (get("/", method="PROPFIND"), b"method 9\nhttp\nexample.com\n/\n"),
    (b"GET / HTTP/1.0\r\n\r\n", b"method 0\nhttp\nno authority\n/\n"),
]


@pytest.mark.parametrize(("request_", "told"), REQUESTS)
def test_what_a_guest_is_told_of_the_request(guests: Guests, request_: bytes, told: bytes) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        await client.send(request_)
        if request_.startswith(b"CONNECT"):
            assert (await client.rest()).endswith(b"\r\n\r\n" + told)
        else:
            assert (await client.reply()).body == told

    serve("asyncio", guests.service("c_rules"), test)


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        get("/", "Host: other.example"),
        get("/", "Host: example.com"),
        get("/", "Content-Length: 0", "Transfer-Encoding: chunked", method="POST"),
        get("/", "Content-Length: 3", "Content-Length: 4", method="POST"),
        get("/", "Content-Length: +3", method="POST"),
        get("/", "X: a\x01b"),
    ],
)
def test_requests_that_no_guest_is_told_of(guests: Guests, request_: bytes) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        assert (await client.ask(request_)).status == 400
        assert await client.rest() == b""
        assert server.log.err == ""

    serve("asyncio", guests.service("c_rules"), test)


# A request, the status of its response, whether the connection is good for another.
PROTOCOL: dict[str, tuple[bytes, int, bool]] = {
    "WebSocket, which a server may decline": (
        get("/", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZQ=="),
        200,
        True,
    ),
    "h2c, likewise": (
        get("/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"),
        200,
        True,
    ),
    "HTTP/2 with prior knowledge": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, False),
    "TRACE": (get("/", method="TRACE"), 200, True),
    "OPTIONS *": (get("*", method="OPTIONS"), 200, True),
    "GET *": (get("*"), 400, False),
    "an expectation that nobody knows": (get("/", "Expect: tea"), 200, True),
    "100-continue without a body": (get("/", "Expect: 100-continue"), 200, True),
    "100-continue in HTTP/1.0": (
        b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\nx",
        200,
        True,
    ),
    "HTTP/1.0 without Host": (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, True),
    "chunked in HTTP/1.0": (
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        False,
    ),
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", 400, False),
    "an empty Host": (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 200, True),
    "the same Host twice": (get("/", "Host: example.com"), 400, False),
    "the same length twice": (get("/", "Content-Length: 1", "Content-Length: 1", method="POST") + b"x", 400, False),
    "LF alone": (b"GET / HTTP/1.1\nHost: a\n\n", 400, False),
    "a folded value": (get("/", "A: b", " c"), 400, False),
    "another coding": (get("/", "Transfer-Encoding: gzip, chunked", method="POST"), 501, False),
}


@pytest.mark.parametrize("name", PROTOCOL)
def test_rules_of_the_protocol(guests: Guests, name: str) -> None:
    request, status, kept = PROTOCOL[name]

    async def test(server: Serving) -> None:
        client = await server.connect()
        reply = await client.ask(request)
        assert (reply.status, reply.interim) == (status, [])
        if kept:
            assert reply[b"connection"] in (None, b"keep-alive")
            assert (await client.ask(get("/"))).body == ROOT
        else:
            assert reply[b"connection"] == b"close"
            assert await client.rest() == b""

    serve("asyncio", guests.service("c_rules"), test)


# ---- lengths of responses -------------------------------------------------------------------------------------------

# Content-length, what is written ("no-body": `body` is not called, "none": `write` is not), how it ends.
LENGTHS = [
    (declared, written, end)
    for declared in ("none", "0", "5")
    for written in ("no-body", "none", "0", "3", "5", "8")
    for end in ("finish", "drop")
    if written != "no-body" or end == "finish"
]


def said_of(declared: str, written: str, end: str, code: int) -> str:
    """What the host tells the guest; ``code`` is the number of the error-code for a wrong size."""
    if written == "no-body":
        return ""
    size = 0 if written == "none" else int(written)
    said = ""
    if size:
        too_long = declared != "none" and size > int(declared)
        said += f"write: error {code} size {size}\n" if too_long else "write: ok\n"
    if end == "finish":
        wrong = declared != "none" and size != int(declared)
        said += f"finish: error {code} size {size}\n" if wrong else "finish: ok\n"
    return said


def words(server: Serving) -> str:
    """What guests wrote to stderr."""
    return "".join(re.findall(r"^stderr \[\d+\] :: (.*\n)", server.log.err, re.MULTILINE))


@pytest.mark.parametrize(("declared", "written", "end"), LENGTHS)
def test_lengths_of_responses(guests: Guests, declared: str, written: str, end: str) -> None:
    size = int(written) if written.isdigit() else 0
    good = end == "finish" and (declared == "none" or int(declared) == size)
    body = b"0123456789"[:size]
    path = f"{declared}/{written}/{end}"

    async def test(server: Serving) -> None:
        said = said_of(declared, written, end, 28)
        # A body, if there may be one.
        client = await server.connect()
        await client.send(get(f"/response/200/{path}"))
        if good:
            reply = await client.reply()
            assert (reply.status, reply.body) == (200, body)
            assert (await client.ask(get("/"))).body == ROOT  # the connection is good
        else:
            # Nothing was sent yet: the client can be told.
            reply = await client.reply()
            assert (reply.status, reply.body) == FAILED
        await server.idle()
        assert words(server) == said
        # No body, whatever the guest makes of it: the client is not misled, the connection stays good, and the guest is
        # not told of lengths that do not matter.
        client = await server.connect()
        for method, status in (("HEAD", 200), ("GET", 204), ("GET", 304)):
            await client.send(get(f"/response/{status}/{path}", method=method))
            reply = await client.reply(bodiless=True)
            assert (reply.status, reply.body) == (status, b"")
            if status == 204:
                assert reply[b"content-length"] is None
            assert reply[b"transfer-encoding"] is None
        assert (await client.ask(get("/"))).body == ROOT
        await server.idle()
        assert words(server) == said + said_of("none", written, end, 28) * 3

    serve("asyncio", guests.service("c_rules"), test)


# ---- lengths of requests --------------------------------------------------------------------------------------------


class Peer:
    """A server on the other side: it answers 299 to every request that it gets whole, and keeps what it got."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.broken: list[bytes] = []
        self.url = ""
        self.authority = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got = b""
        try:
            got = head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:] if line)
            body = b""
            if b"transfer-encoding" in fields:
                while size := int(await reader.readuntil(b"\r\n"), 16):
                    got += (piece := await reader.readexactly(size))
                    body += piece
                    await reader.readexactly(2)
                await reader.readuntil(b"\r\n")
            else:
                body = await reader.readexactly(int(fields.get(b"content-length", b"0")))
            self.heads.append(head)
            self.bodies.append(body)
            writer.write(b"HTTP/1.1 299 \r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.broken.append(got)
        finally:
            writer.close()


def exchange(guests: Guests, test: Callable[[Serving, Peer], Awaitable[None]]) -> None:
    """Runs a test with a server and a peer to which its guests may send requests."""

    async def main() -> None:
        peer = Peer()
        listener = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
        async with listener:
            peer.authority = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
            peer.url = f"X-Url: http://{peer.authority}/there?q=1"
            async with serving(guests.service("c_rules", egress=Egress.parse("127.0.0.1"))) as server:
                await test(server, peer)

    run("asyncio", main())


@pytest.mark.parametrize(("declared", "written", "end"), LENGTHS)
def test_lengths_of_requests(guests: Guests, declared: str, written: str, end: str) -> None:
    size = int(written) if written.isdigit() else 0
    good = end == "finish" and (declared == "none" or int(declared) == size)

    async def test(server: Serving, peer: Peer) -> None:
        reply = await server.ask(get(f"/request/{declared}/{written}/{end}", peer.url))
        said = reply.body.decode()
        assert said.startswith(said_of(declared, written, end, 17))
        outcome = said.removeprefix(said_of(declared, written, end, 17))
        assert outcome.endswith("again: error\n")
        if good:
            assert outcome.startswith("response: 299\n")
            assert peer.bodies == [b"0123456789"[:size]]
            assert not peer.broken
        else:
            assert outcome.startswith("response: error ")
            # The other side does not take what it got for the whole, unless it got as much as was declared.
            assert peer.bodies in ([], [b"0123456789"[: int(declared)]] if declared in ("0", str(size)) else [])
            if end == "finish":
                assert outcome.startswith(f"response: error 17 size {size}\n")

    exchange(guests, test)


# ---- headers that are passed on -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["as-they-are", "clone"])
def test_headers_that_are_sent_on(guests: Guests, how: str) -> None:
    async def test(server: Serving, peer: Peer) -> None:
        sent = [
            "Connection: keep-alive, X-Foo",
            "Keep-Alive: timeout=5",
            "Proxy-Authorization: Basic c2VjcmV0",
            "Proxy-Connection: keep-alive",
            "Upgrade: websocket",
            "HTTP2-Settings: AAA",
            "foo: bar",
            "Foo: baz",
        ]
        reply = await server.ask(get(f"/resend/{how}", peer.url, *sent))
        assert reply.body == b"response: 299\nagain: error\n"
        (head,) = peer.heads
        line, *lines = head.rstrip().split(b"\r\n")
        assert line == b"GET /there?q=1 HTTP/1.1"
        assert lines == [
            b"host: " + peer.authority.encode(),
            peer.url.replace("X-Url", "x-url").encode(),
            b"foo: bar",
            b"foo: baz",
        ]

    exchange(guests, test)


def test_what_cannot_be_sent(guests: Guests) -> None:
    async def test(server: Serving, peer: Peer) -> None:
        client = await server.connect()
        # The host that the client named is never where a request goes.
        for what, code in (("no-authority", 19), ("scheme", 35)):
            reply = await client.ask(get(f"/unsendable/{what}", f"Host: {peer.authority}").replace(EXAMPLE, b""))
            assert (what, reply.body) == (what, b"handle: error %d\n" % code)
        # Without a path it goes to the root, were its target allowed.
        reply = await client.ask(get("/unsendable/no-path", f"Host: {peer.authority}").replace(EXAMPLE, b""))
        assert reply.body.startswith(b"response: error 15\n")
        assert not peer.heads

    exchange(guests, test)


EXAMPLE = b"Host: example.com\r\n"


def test_a_request_that_is_denied_is_told_to_its_guest_alone(guests: Guests) -> None:
    async def main() -> None:
        peer = Peer()
        listener = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
        async with listener:
            port = listener.sockets[0].getsockname()[1]
            async with serving(guests.service("c_rules", egress=Egress.parse(f"127.0.0.1:{port}"))) as server:
                client = await server.connect()
                for host, told in (("127.0.0.1", b"299"), ("localhost", b"error 15"), ("127.0.0.1", b"299")):
                    reply = await client.ask(get("/resend/clone", f"X-Url: http://{host}:{port}/"))
                    assert reply.body == b"response: " + told + b"\nagain: error\n"
        assert len(peer.heads) == 2

    run("asyncio", main())


# Which timeout, how many nanoseconds, the outcomes that there may be.
TIMEOUTS = [
    ("connect", 0, ["error 8"]),
    ("first-byte", 0, ["error 9"]),
    ("between-bytes", 0, ["299"]),  # the response has no body
    ("connect", 2**64 - 1, ["299"]),
    ("first-byte", 2**64 - 1, ["299"]),
    ("between-bytes", 2**64 - 1, ["299"]),
]


def test_timeouts_at_both_ends_of_their_range(guests: Guests) -> None:
    async def test(server: Serving, peer: Peer) -> None:
        client = await server.connect()
        for which, nanoseconds, outcomes in TIMEOUTS:
            reply = await client.ask(get(f"/timeouts/{which}/{nanoseconds}", peer.url))
            said = reply.body.decode().removeprefix("response: ").removesuffix("\nagain: error\n")
            assert (which, nanoseconds, said in outcomes, said) == (which, nanoseconds, True, said)

    exchange(guests, test)


# ---- fields ---------------------------------------------------------------------------------------------------------


BEYOND_FIELDS = "exceed the limit of 131072"
TOO_MANY_FIELDS = [
    *((path, BEYOND_FIELDS) for path in ("names/full", "names/empty", "values/full", "values/empty", "set")),
    ("from-list", "the values of one call take more than 4194304 bytes"),
    ("grow/131072", BEYOND_FIELDS),
]


@pytest.mark.parametrize(("path", "said"), TOO_MANY_FIELDS, ids=[path for path, _ in TOO_MANY_FIELDS])
def test_too_many_fields_stop_the_guest_alone(guests: Guests, loop: str, path: str, said: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        for _ in range(2):
            reply = await client.ask(get(f"/fields/{path}"))
            assert (reply.status, reply.body) == FAILED
        assert server.log.err.count(said) == 2
        assert (await client.ask(get("/"))).body == ROOT

    serve(loop, guests.service("c_rules"), test)


@pytest.mark.parametrize("what", ["fields", "clones", "bodies", "views", "paths"])
def test_hoarding_stops_the_guest_alone(guests: Guests, what: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        assert (await client.ask(get(f"/hoard/{what}/50"))).body == b"kept 50\n"
        for _ in range(2):
            reply = await client.ask(get(f"/hoard/{what}/1000"))
            assert (reply.status, reply.body) == FAILED
        assert server.log.err.count("the guest has the host keep more than 33554432 bytes") == 2
        # The next guest begins with nothing.
        assert (await client.ask(get(f"/hoard/{what}/50"))).body == b"kept 50\n"

    serve("asyncio", guests.service("c_rules"), test)


def test_a_copy_of_what_arrived_counts_what_it_inherited(guests: Guests) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        # The head that arrives may have 64 KiB, which leaves about as much to the guest.
        filler = "X-Filler: " + "f" * 50_000
        assert (await client.ask(get("/fields/grow/80000", filler))).body == b"entries 1\nappend: ok\n"
        assert (await client.ask(get("/fields/grow/130000"))).body == b"entries 0\nappend: ok\n"
        reply = await client.ask(get("/fields/grow/82000", filler))
        assert (reply.status, reply.body) == FAILED

    serve("asyncio", guests.service("c_rules"), test)


def test_headers_of_messages_are_immutable(guests: Guests) -> None:
    async def test(server: Serving) -> None:
        reply = await server.ask(get("/fields/immutable"))
        assert reply.body == b"no host\n" + b"immutable\n" * 9

    serve("asyncio", guests.service("c_rules"), test)


def test_order_repetition_and_high_bytes_of_headers(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        reply = await server.ask(get("/fields/in-order"))
        given = [field for field in reply.headers if field[0] not in (b"content-length", b"date")]
        assert given == [
            (b"set-cookie", b"b=2"),
            (b"x-high", b"\x80\xe9\xff"),
            (b"set-cookie", b"a=1"),
            (b"x-empty", b""),
            (b"set-cookie", b"b=2"),
        ]

    serve(loop, guests.service("c_rules"), test)


def test_high_bytes_arrive_as_they_were_sent(guests: Guests) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        await client.send(get("/headers", "X-High: HERE").replace(b"HERE", b"\x80\xe9\xff"))
        assert (await client.reply()).body == b"x-high: \x80\xe9\xff\n"

    serve("asyncio", guests.service("c_kitchen"), test)


# ---- bodies that are passed through ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/echo", "/splice"])
def test_a_large_body_is_echoed_as_it_comes(guests: Guests, loop: str, path: str) -> None:
    frame = bytes(range(256)) * 64

    async def test(server: Serving) -> None:
        client = await server.connect()
        await client.send(get(path, "Transfer-Encoding: chunked", method="POST"))
        echoed = 0
        for number in range(64):
            # Not before the last one has come back is the next one sent.
            await client.send(b"%x\r\n%b\r\n" % (len(frame), frame))
            if not number:
                assert b"\r\ntransfer-encoding: chunked\r\n" in await client.read_until(b"\r\n\r\n")
            part = b""
            while len(part) < len(frame):
                part += await client.read(int(await client.read_until(b"\r\n"), 16))
                assert await client.read(2) == b"\r\n"
            assert part == frame
            echoed += len(part)
        await client.send(b"0\r\n\r\n")
        assert await client.read(5) == b"0\r\n\r\n"
        assert echoed == 1024 * 1024

    serve(loop, guests.service("c_echo" if path == "/echo" else "c_kitchen"), test)


# ---- parents and children -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "parent"),
    [
        ("drop-body", "incoming-body"),
        ("finish-body", "incoming-body"),
        ("drop-stream", "input-stream"),
        ("drop-trailers", "future-trailers"),
    ],
)
def test_a_parent_that_leaves_before_its_child_traps(guests: Guests, path: str, parent: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        reply = await client.ask(post(f"/children/{path}", b"body"))
        assert (reply.status, reply.body) == FAILED
        assert f"Trap: resource {parent} has children: drop them first" in server.log.err

    serve("asyncio", guests.service("c_rules"), test)


def test_headers_and_bodies_outlive_their_message(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        reply = await server.ask(post("/children/orphans", b"body", "X-Mark: 1"))
        assert reply.body == b"headers ok\nbytes 4\n"

    serve(loop, guests.service("c_rules"), test)


# ---- trailers -------------------------------------------------------------------------------------------------------


def test_trailers_are_given_once(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        for request in (
            chunked("/trailers-twice", b"unread", trailers=b"X: y\r\n"),
            post("/trailers-twice", b"unread"),
            get("/trailers-twice"),
        ):
            assert (await client.ask(request)).body == b"get: ok\nagain: error\n"

    serve(loop, guests.service("c_rules"), test)


def test_a_trailer_that_frames_the_message_is_refused(guests: Guests) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        await client.send(get("/bad-trailer"))
        reply = await client.reply()
        assert (reply.status, reply.body) == FAILED
        assert "finish: error 35\n" in server.log.err

    serve("asyncio", guests.service("c_rules"), test)


# ---- streams --------------------------------------------------------------------------------------------------------


def test_empty_writes_come_to_nothing(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        reply = await server.ask(get("/zero-writes/20000"))
        assert (reply.status, reply.body) == (200, b"x")

    serve(loop, guests.service("c_rules"), test)


@pytest.mark.parametrize(("size", "good"), [(0, True), (262144, True), (262145, False), (2**64 - 1, False)])
def test_zeroes_are_bounded_by_what_is_permitted(guests: Guests, size: int, good: bool) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        await client.send(get(f"/write-zeroes/{size}"))
        if good:
            assert (await client.reply()).body == bytes(size)
        else:
            assert (await client.reply()).status == 500
            assert f"Trap: write-zeroes: {size} bytes exceed the 262144 that check-write permits" in server.log.err

    serve("asyncio", guests.service("c_rules"), test)


def test_long_lists_of_pollables(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        assert (await client.ask(get("/poll/5000"))).body == b"timers 5000\n"
        reply = await client.ask(get("/poll/15000"))
        assert (reply.status, reply.body) == FAILED
        assert "error: Trap: poll: " in server.log.err

    serve(loop, guests.service("c_kitchen"), test)


def test_polling_what_was_dropped_traps(guests: Guests) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        reply = await client.ask(get("/poll-dropped"))
        assert (reply.status, reply.body) == FAILED
        assert "Trap: unknown handle index" in server.log.err
        assert (await client.ask(get("/"))).body == ROOT

    serve("asyncio", guests.service("c_rules"), test)


# ---- informational responses ----------------------------------------------------------------------------------------


def test_early_hints_reach_the_client(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        for _ in range(2):
            reply = await client.ask(get("/informational/103"))
            assert reply.interim == [b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n"]
            assert (reply.status, reply.body) == (200, b"ok\n")
        # A client of HTTP/1.0 would take it for the response.
        reply = await (await server.connect()).ask(b"GET /informational/103 HTTP/1.0\r\n\r\n")
        assert (reply.interim, reply.body) == ([], b"ok\n")

    serve(loop, guests.service("c_rules"), test)


@pytest.mark.parametrize(
    "path", ["informational/101", "informational/99", "informational/200", "informational-that-frames"]
)
def test_informational_responses_that_are_refused(guests: Guests, path: str) -> None:
    async def test(server: Serving) -> None:
        reply = await server.ask(get(f"/{path}"))
        assert (reply.interim, reply.body) == ([], b"error 35\n")

    serve("asyncio", guests.service("c_rules"), test)


def test_nothing_informational_comes_after_the_response(guests: Guests) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        reply = await client.ask(get("/informational-too-late"))
        assert (reply.interim, reply.body) == ([], b"in time\n")
        # `set` takes the outparam, so there is nothing left to ask.
        await server.log.until("Trap: unknown handle index")
        await after(client)

    serve("asyncio", guests.service("c_rules"), test)


async def after(client: Client) -> None:
    """The connection of a guest that failed after its response has gone on as if nothing had been."""
    assert (await client.ask(get("/"))).body == ROOT


# ---- embedders ------------------------------------------------------------------------------------------------------


async def embed(guests: Guests, guest: str, view: View, request: Request, waits: bool = True) -> bytes:
    """The body of a guest's response, without a server; ``waits`` says whether anybody wants it."""
    store = Store(guests.engine, view)
    try:
        proxy = guests.load(guest).instantiate(store)
        out = view.new_response_outparam()
        incoming = view.new_incoming_request(Scheme.HTTP, request)
        call = proxy.wasi_http_incoming_handler.call_handle(store, incoming, out)
        if not waits:
            await call
            return b""
        response = await out.response(call)
        return await response.body.read()
    finally:
        store.close()
        view.table.close()


def test_names_that_a_host_forbids_are_not_seen(guests: Guests) -> None:
    headers = [(b"Host", b"a"), (b"Custom-Forbidden-Header", b"secret"), (b"X-Mark", b"1")]
    view = View(forbidden=["custom-forbidden-header"])
    assert run("asyncio", embed(guests, "c_kitchen", view, Request("GET", "/headers", headers))) == b"x-mark: 1\n"


def test_the_limit_of_a_host_bounds_what_a_guest_makes(guests: Guests) -> None:
    headers = [(b"Host", b"a"), (b"X-Filler", b"f" * 1000)]

    def grow(limit: int, size: int) -> bytes:
        return run("asyncio", embed(guests, "c_rules", View(limit), Request("GET", f"/fields/grow/{size}", headers)))

    assert grow(2000, 500) == b"entries 1\nappend: ok\n"
    # What arrived may be read whatever its size, and counts in a copy.
    for limit in (100, 1100):
        with pytest.raises(NoResponse) as caught:
            grow(limit, 100)
        assert isinstance(caught.value.__cause__, Trap)
    request = Request("GET", "/headers", headers)
    assert run("asyncio", embed(guests, "c_kitchen", View(100), request)) == b"x-filler: " + b"f" * 1000 + b"\n"


@pytest.mark.parametrize("path", ["names/full", "names/empty", "values/full", "values/empty", "set", "from-list"])
def test_many_fields_under_generous_limits(guests: Guests, path: str) -> None:
    request = Request("GET", f"/fields/{path}", authority="a")
    with pytest.raises(NoResponse) as caught:
        run("asyncio", embed(guests, "c_rules", View(1 << 20), request))
    assert isinstance(caught.value.__cause__, Trap)
    assert run("asyncio", embed(guests, "c_rules", View(1 << 30), request)) == b""


def test_a_guest_may_answer_when_nobody_waits(guests: Guests) -> None:
    request = Request("GET", "/fields/in-order", authority="a")
    assert run("asyncio", embed(guests, "c_rules", View(), request, waits=False)) == b""


def test_a_host_without_informational_responses_says_so(guests: Guests) -> None:
    request = Request("GET", "/informational/103", authority="a")
    assert run("asyncio", embed(guests, "c_rules", View(), request)) == b"error 38\n"


def test_whatever_a_guest_is_charged_is_given_back(guests: Guests) -> None:
    view = View()
    request = Request("GET", "/hoard/bodies/50", authority="a")
    assert run("asyncio", embed(guests, "c_rules", view, request)) == b"kept 50\n"
    assert view.table.charged == 0
