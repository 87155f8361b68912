"""The examples: `examples/server.py` here, and both in processes of their own, in front of guests of both kinds."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.guests.build import GuestUnavailable, build
from tests.server.serving import PATIENCE, Client, get, live, post, run, until
from wasi_http.engine import Engine

EXAMPLE = Path(__file__).parents[1] / "examples" / "server.py"


def guest(name: str) -> str:
    try:
        return str(build(name))
    except GuestUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("example_server", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


Connect = Callable[[], Awaitable[Client]]


@asynccontextmanager
async def served(example: ModuleType, engine: Engine, name: str) -> AsyncIterator[Connect]:
    """Serves a guest; fails when anything is left of it, or of the tasks, once all clients are gone."""
    app = example.Server(guest(name), engine)
    gc.collect()
    before, tasks = live(), len(asyncio.all_tasks())
    server = await asyncio.start_server(app.handle_connection, "127.0.0.1", 0)
    clients: list[Client] = []

    async def connect() -> Client:
        sock = socket.socket()
        sock.setblocking(False)
        clients.append(Client(sock))
        await asyncio.get_running_loop().sock_connect(sock, server.sockets[0].getsockname())
        return clients[-1]

    try:
        yield connect
    finally:
        for client in clients:
            client.close()
        server.close()
    await until(lambda: not app.tasks)
    gc.collect()
    assert live() == before
    assert len(asyncio.all_tasks()) == tasks


Test = Callable[[Connect], Awaitable[None]]


def serve(example: ModuleType, engine: Engine, name: str, test: Test) -> None:
    async def main() -> None:
        async with served(example, engine, name) as connect:
            await test(connect)

    run("asyncio", main())


def test_keep_alive(example: ModuleType, engine: Engine) -> None:
    async def test(connect: Connect) -> None:
        client = await connect()
        for _ in range(3):
            reply = await client.ask(get("/"))
            assert (reply.status, reply.body) == (200, b"Hello, WASI!\n")
        assert (await client.ask(get("/", "Connection: close")))[b"connection"] == b"close"
        assert await client.rest() == b""

    serve(example, engine, "hello", test)


def test_a_large_body_is_streamed_through_the_guest_in_bounded_memory(example: ModuleType, engine: Engine) -> None:
    piece, count = bytes(range(256)) * 256, 320  # 20 MiB

    async def test(connect: Connect) -> None:
        client = await connect()
        await client.send(get("/echo", f"Content-Length: {len(piece) * count}", method="POST"))

        async def send() -> None:
            for _ in range(count):
                await client.send(piece)

        tracemalloc.start()
        sending = asyncio.create_task(send())
        assert (await client.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        received, size = 0, -1
        while size:
            size = int(await client.read_until(b"\r\n"), 16)
            assert await client.read(size) == bytes((received + i) & 255 for i in range(256)) * (size // 256) + bytes(
                (received + size // 256 * 256 + i) & 255 for i in range(size % 256)
            )
            received += size
            await client.read(2)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        await sending
        assert received == len(piece) * count
        assert peak < 4 << 20

    serve(example, engine, "c_echo", test)


# Guest, path, what the body says.
NO_RESPONSE = [
    ("c_kitchen", "/trap", b"the guest failed: .*unreachable"),
    ("c_kitchen", "/no-set", b"guest never invoked `response-outparam::set` method"),
    ("c_kitchen", "/drop-outparam", b"guest never invoked `response-outparam::set` method"),
    ("c_kitchen", "/bad-handle", b"the guest failed: "),
    ("c_kitchen", "/recurse", b"the guest failed: .*stack"),
]


@pytest.mark.parametrize(("name", "path", "reason"), NO_RESPONSE, ids=[path for _, path, _ in NO_RESPONSE])
def test_the_reason_why_there_is_no_response_reaches_the_client(
    example: ModuleType, engine: Engine, name: str, path: str, reason: bytes
) -> None:
    async def test(connect: Connect) -> None:
        client = await connect()
        for _ in range(2):
            reply = await client.ask(get(path))
            assert reply.status == 500
            assert re.match(reason, reply.body), reply.body

    serve(example, engine, name, test)


def test_an_error_of_the_guest_becomes_a_status(example: ModuleType, engine: Engine) -> None:
    async def test(connect: Connect) -> None:
        client = await connect()
        assert (await client.ask(get("/error-set"))).status == 500
        assert (await client.ask(get("/error-set/15"))).status == 403  # HTTP-request-denied

    serve(example, engine, "c_kitchen", test)


@pytest.mark.parametrize("path", ["/trap-after-head", "/no-finish", "/abandon", "/exit-after-head"])
def test_a_guest_that_fails_half_way_breaks_its_response_off(example: ModuleType, engine: Engine, path: str) -> None:
    async def test(connect: Connect) -> None:
        client = await connect()
        await client.send(get(path))
        received = await client.rest()
        assert b"HTTP/1.1 200" in received
        assert not received.endswith(b"0\r\n\r\n")

    serve(example, engine, "c_kitchen", test)


def test_the_guest_may_go_on_after_its_response(
    example: ModuleType, engine: Engine, capfd: pytest.CaptureFixture[str]
) -> None:
    async def test(connect: Connect) -> None:
        client = await connect()
        assert (await client.ask(get("/after"))).body == b"answered\n"

    serve(example, engine, "c_kitchen", test)
    assert capfd.readouterr().err == "still here\n"


async def _send_half(client: Client) -> None:
    await client.send(get("/discard", "Content-Length: 100", method="POST") + b"half")


async def _begin(client: Client, path: str) -> None:
    await client.send(get(path))
    await client.read_until(b"partial")


LEAVE: list[tuple[str, Callable[[Client], Any]]] = [
    ("while the guest sleeps", lambda client: client.send(get("/sleep-forever"))),
    ("while the guest spins", lambda client: client.send(get("/spin"))),
    ("while its own body is read", _send_half),
    ("within the response, the guest asleep", lambda client: _begin(client, "/sleep-after-head")),
    ("within the response, the guest busy", lambda client: _begin(client, "/spin-after-head")),
    ("within a response that it does not read", lambda client: client.send(get("/big/64"))),
]


@pytest.mark.parametrize(("when", "begin"), LEAVE, ids=[when for when, _ in LEAVE])
def test_the_guest_is_cancelled_when_the_client_goes_away(
    example: ModuleType, engine: Engine, when: str, begin: Callable[[Client], Any]
) -> None:
    async def test(connect: Connect) -> None:
        before = live()
        client = await connect()
        await begin(client)
        await until(lambda: live() > before)
        client.reset()

        def gone() -> bool:
            gc.collect()  # an error of a body holds on to the streams that it went through
            return live() == before

        await until(gone)

    serve(example, engine, "c_kitchen", test)


# Arguments, exit code, the last line on standard error.
WRONG = [
    ([], 2, "error: the following arguments are required: file"),
    (["a.wasm", "localhost"], 2, "error: argument address: 'localhost' is not an address: write HOST:PORT"),
    (["a.wasm", "localhost:65536"], 2, "error: argument address: 'localhost:65536' is not an address: write HOST:PORT"),
    (["missing.wasm"], 1, "error: [Errno 2] No such file or directory: 'missing.wasm'"),
    ([str(EXAMPLE)], 1, "error: this is Python source"),
    ([str(EXAMPLE.parent / "hello.wat"), "a..b:80"], 1, "error: "),
]


@pytest.mark.parametrize(("arguments", "code", "said"), WRONG)
def test_wrong_arguments(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), *arguments],
        capture_output=True,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        cwd=tmp_path,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout) == (code, "")
    *usage, line = done.stderr.splitlines()
    assert line.startswith(said if code == 1 else f"server.py: {said}")
    assert all(line.startswith("usage: ") for line in usage)


# Program, its arguments after the component, where it says that it serves.
PROGRAMS = [("server.py", "127.0.0.1:0", "stderr"), ("service.py", "0", "stdout")]


@pytest.mark.parametrize(("program", "argument", "stream"), PROGRAMS, ids=[program for program, _, _ in PROGRAMS])
def test_the_examples_as_processes(tmp_path: Path, program: str, argument: str, stream: str) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "PYTHONWARNINGS": "error"}
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLE.with_name(program)), guest("hello"), argument],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        found = re.fullmatch(r"Serving HTTP on http://([\d.]+):(\d+)/\n", getattr(process, stream).readline())
        assert found
        with socket.create_connection((found[1], int(found[2])), PATIENCE) as client:
            for request in (get("/"), post("/", b"ignored"), get("/", "Connection: close")):
                client.sendall(request)
            data = b""
            while more := client.recv(65536):
                data += more
        assert data.count(b"HTTP/1.1 200 OK\r\n") == data.count(b"Hello, WASI!\n") == 3
        with socket.create_connection((found[1], int(found[2])), PATIENCE) as client:
            # Also with a connection open it ends at once, and has nothing to complain about.
            client.sendall(get("/"))
            assert client.recv(65536)
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 0
        assert process.stdout.read() == process.stderr.read() == ""
    finally:
        process.kill()
        process.communicate()
