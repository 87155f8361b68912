"""What clients get for what guests do."""

from __future__ import annotations

import pytest

from .serving import Guests, Serving, chunked, get, post, serve, until

NEVER_SET = "error: guest never invoked `response-outparam::set` method\n"
FAILED = b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 23\r\n\r\n"

# Path, what stands on standard error.
FAILURES = [
    ("/trap", "error: Trap: wasm `unreachable` instruction executed\nguest backtrace:\n"),
    ("/no-set", NEVER_SET),
    ("/drop-outparam", NEVER_SET),
    ("/exit/0", NEVER_SET),
    ("/exit/1", "error: the guest exited with code 1\n"),
    ("/error-set", "error: the guest answered with the error ErrorCode.InternalError('the guest said so')\n"),
    ("/recurse", "error: Trap: call stack exhausted\n"),
    ("/bad-handle", "error: Trap: unknown handle index 123456\n"),
    ("/double-drop", "error: Trap: unknown handle index "),
    ("/set-twice", "error: Trap: handle index "),
    ("/bad-pointer", "error: Trap: pointer out of bounds"),
    ("/poll-nothing", "error: Trap: poll: the list of pollables is empty\n"),
    ("/over-budget", "error: Trap: write: "),
    ("/drop-parent", "error: Trap: resource outgoing-body has children"),
    ("/status/100", "error: the response failed: 100 is not the status of a final response\n"),
]


@pytest.mark.parametrize(("path", "reason"), FAILURES)
def test_guests_that_fail(guests: Guests, loop: str, path: str, reason: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        for _ in range(2):
            await client.send(get(path))
            assert (reply := await client.reply()).head == FAILED
            assert reply.body == b"500 the handler failed\n"
        # Neither the connection nor the server has suffered.
        assert (await client.ask(get("/status/200"))).status == 200
        assert server.log.err.count(reason) == 2

    serve(loop, guests.handler("c_kitchen"), test)
