"""A service as embedders use it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import socket
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.guests.build import GuestUnavailable, build
from tests.server.serving import Client, Guests, get, live, run, until
from wasi_http import ConnectionFactory
from wasi_http.component import LinkError
from wasi_http.engine import Engine, StoreLimits, Trap, wat_to_wasm
from wasi_http.flow.pipe import Pipe
from wasi_http.http.egress import Egress
from wasi_http.http.errors import GuestTimeout, HttpError, NoResponse, ServiceBusy
from wasi_http.http.fields import Field
from wasi_http.http.message import Body, Request, Response
from wasi_http.http.values import ErrorCode
from wasi_http.service.config import ServiceConfig
from wasi_http.service.guest import Guest
from wasi_http.service.run import Run
from wasi_http.service.service import Service
from wasi_http.wasi.cli import Exit
from wasi_http.wasi.context import WasiCtx

#: What lasts longer than any test.
LONG = 1000.0


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    gc.collect()
    before = live()
    yield
    gc.collect()
    assert live() == before


def make(guests: Guests, name: str = "c_kitchen", **config: Any) -> Service:
    return Service(guests.engine, guests.load(name), ServiceConfig(**config))


async def connected(address: tuple[str, int]) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, address)
    return sock


@asynccontextmanager
async def using(service: Service) -> AsyncIterator[Service]:
    """A service that must not leave a guest behind, nor a task."""
    tasks = asyncio.all_tasks()
    async with service:
        yield service
    assert not service.active
    await until(lambda: asyncio.all_tasks() <= tasks)


def request(path: str, method: str = "GET", body: Any = None) -> Request:
    return Request(method, f"http://example.com{path}", body=body)


async def begun(service: Service, path: str) -> Response:
    """A response that fails behind its head.

    A guest whose time slice ends before it sets the response may fail in the next, before that is given away.
    """
    while True:
        with contextlib.suppress(NoResponse):
            return await service.handle(request(path))


# ---- responses ------------------------------------------------------------------------------------------------------

# Method, path, body of the request, status, body, trailers.
RESPONSES: list[tuple[str, str, bytes | None, int, bytes, list[Field]]] = [
    ("GET", "/status/200", None, 200, b"status\n", []),
    ("GET", "/status/404", None, 404, b"status\n", []),
    ("GET", "/no-body", None, 200, b"", []),
    ("GET", "/empty", None, 200, b"", []),
    ("GET", "/drip/3", None, 200, b"tick 0\ntick 1\ntick 2\n", []),
    ("GET", "/trailers", None, 200, b"with trailers\n", [(b"x-checksum", b"abc123")]),
    ("GET", "/after", None, 200, b"answered\n", []),
    ("POST", "/discard", b"x" * 300_000, 200, b"bytes 300000\n", []),
    ("POST", "/splice", b"0123456789", 200, b"0123456789", []),
    ("POST", "/ignore-body", b"x" * 300_000, 200, b"ignored\n", []),
    ("HEAD", "/sized/3", None, 200, b"", []),
    ("HEAD", "/no-body", None, 200, b"", []),
]


@pytest.mark.parametrize(("method", "path", "sent", "status", "body", "trailers"), RESPONSES)
def test_responses(
    guests: Guests,
    loop: str,
    method: str,
    path: str,
    sent: bytes | None,
    status: int,
    body: bytes,
    trailers: list[Field],
) -> None:
    async def main() -> None:
        async with using(make(guests)) as service:
            for _ in range(2):
                response = await service.handle(request(path, method, sent))
                assert isinstance(response, Response)
                assert response.status == status
                assert (await response.read(), response.body.trailers) == (body, trailers)

    run(loop, main())


def test_bodies_are_streamed_both_ways(guests: Guests, loop: str) -> None:
    """Each piece is sent when the one before has come back."""

    async def main() -> None:
        arrived = asyncio.Semaphore(0)

        async def pieces() -> AsyncIterator[bytes]:
            for number in range(10):
                yield b"%d" % number
                await arrived.acquire()

        async with using(make(guests, "c_echo")) as service:
            response = await service.handle(request("/", "POST", pieces()))
            echoed = b""
            async for piece in response.body:
                echoed += piece
                arrived.release()
            assert echoed == b"0123456789"

    run(loop, main())


def test_a_source_is_read_no_faster_than_the_response_is(guests: Guests, loop: str) -> None:
    async def main() -> None:
        made = 0

        async def pieces() -> AsyncIterator[bytes]:
            nonlocal made
            while True:
                made += 1
                yield bytes(65536)

        async with using(make(guests, "c_echo")) as service:
            response = await service.handle(request("/", "POST", pieces()))
            before = -1
            while before != made:
                before = made
                await asyncio.sleep(0.02)
            assert made < 100
            response.body.cancel()

    run(loop, main())


def test_trailers_of_a_request(guests: Guests, loop: str) -> None:
    async def main() -> None:
        pipe = Pipe()
        pipe.write(b"abc")
        async with using(make(guests)) as service:
            waiting = asyncio.ensure_future(service.handle(request("/request-trailers", "POST", Body(pipe))))
            await until(lambda: service.active)
            pipe.end([(b"x-one", b"1"), (b"x-two", b"2")])
            assert await (await waiting).read() == b"bytes 3\nx-one: 1\nx-two: 2\n"

    run(loop, main())


def test_informational_responses(guests: Guests, loop: str) -> None:
    async def main() -> None:
        heard: list[int] = []
        async with using(make(guests, "c_rules")) as service:
            response = await service.handle(
                request("/informational/103"), informational=lambda status, headers: heard.append(status)
            )
            assert response.status == 200
            assert heard[0] == 103
            # They may be ignored.
            assert (await service.handle(request("/informational/103"))).status == 200

    run(loop, main())


def test_a_callback_for_informational_responses_that_fails(guests: Guests, loop: str) -> None:
    def callback(status: int, headers: list[Field]) -> None:
        raise KeyError("a fault")

    async def main() -> None:
        async with using(make(guests, "c_rules")) as service:
            with pytest.raises(NoResponse) as raised:
                await service.handle(request("/informational/103"), informational=callback)
            assert isinstance(raised.value.__cause__, KeyError)

    run(loop, main())


# ---- failures -------------------------------------------------------------------------------------------------------

# Path, what is raised, what its text has, its cause.
FAILURES: list[tuple[str, type[Exception], str, type[BaseException] | None]] = [
    ("/trap", NoResponse, "unreachable", Trap),
    ("/recurse", NoResponse, "call stack exhausted", Trap),
    ("/set-twice", NoResponse, "", Trap),
    ("/bad-handle", NoResponse, "", Trap),
    ("/no-set", NoResponse, "guest never invoked", None),
    ("/drop-outparam", NoResponse, "guest never invoked", None),
    ("/exit/0", NoResponse, "guest never invoked", Exit),
    ("/exit/1", NoResponse, "", Exit),
    ("/sleep-forever", GuestTimeout, "timed out", TimeoutError),
    ("/spin", GuestTimeout, "timed out", TimeoutError),
    ("/error-set", HttpError, "the guest said so", None),
]


@pytest.mark.parametrize(("path", "error", "text", "cause"), FAILURES)
def test_failures_before_the_head(
    guests: Guests, loop: str, path: str, error: type[Exception], text: str, cause: type[BaseException] | None
) -> None:
    async def main() -> None:
        async with using(make(guests, timeout=0.2)) as service:
            with pytest.raises(error, match=text or None) as raised:
                await service.handle(request(path))
            assert type(raised.value) is error
            assert isinstance(raised.value.__cause__, cause or type(None))
            # Others are not affected.
            assert (await service.handle(request("/status/200"))).status == 200

    run(loop, main())


# Numbers of cases (their order in the WIT), and what `handle` raises.
CODES = {
    0: ErrorCode.DnsTimeout,
    6: ErrorCode.ConnectionRefused,
    15: ErrorCode.HttpRequestDenied,
    33: ErrorCode.HttpResponseTimeout,
    36: ErrorCode.LoopDetected,
    37: ErrorCode.ConfigurationError,
}


def test_error_codes(guests: Guests, loop: str) -> None:
    async def main() -> None:
        async with using(make(guests)) as service:
            for number, code in CODES.items():
                with pytest.raises(HttpError) as raised:
                    await service.handle(request(f"/error-set/{number}"))
                assert raised.value.code == code

    run(loop, main())


@pytest.mark.parametrize("path", ["/trap", "/sleep-forever", "/error-set", "/sleep-after-head"])
def test_requests_end_that_cannot_be_reported(guests: Guests, loop: str, path: str) -> None:
    class Faulty(Service):
        def report(self, run: Run, text: str) -> None:
            raise KeyError("a fault")

    async def main() -> None:
        told: list[BaseException] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
        service = Faulty(guests.engine, guests.load("c_kitchen"), ServiceConfig(timeout=0.1))
        async with using(service):
            with pytest.raises((NoResponse, HttpError)):
                await (await service.handle(request(path))).read()
        assert [type(error) for error in told] == [KeyError]

    run(loop, main())


# Path, the code with which the body fails, the text.
BROKEN_OFF: list[tuple[str, ErrorCode, str]] = [
    ("/trap-after-head", ErrorCode.HttpResponseIncomplete, "unreachable"),
    ("/exit-after-head", ErrorCode.HttpResponseIncomplete, "exited with code 1"),
    ("/spin-after-head", ErrorCode.HttpResponseIncomplete, "timed out"),
    ("/sleep-after-head", ErrorCode.HttpResponseIncomplete, "timed out"),
    ("/abandon", ErrorCode.HttpProtocolError, "dropped the body"),
    ("/no-finish", ErrorCode.HttpProtocolError, "dropped the body"),
]


@pytest.mark.parametrize(("path", "code", "text"), BROKEN_OFF)
def test_failures_after_the_head(guests: Guests, loop: str, path: str, code: ErrorCode, text: str) -> None:
    async def main() -> None:
        async with using(make(guests, timeout=0.2)) as service:
            response = await begun(service, path)
            assert response.status == 200
            assert await anext(aiter(response.body)) == b"partial"
            with pytest.raises(HttpError, match=text) as raised:
                await response.read()
            assert raised.value.code == code

    run(loop, main())


def test_a_failure_does_not_keep_its_guest(guests: Guests, loop: str) -> None:
    async def main() -> None:
        async with using(make(guests, timeout=0.1)) as service:
            before, failures = live(), []
            for path in ("/trap", "/exit/1", "/spin", "/sleep-forever"):
                with pytest.raises(NoResponse) as raised:
                    await service.handle(request(path))
                failures.append(raised.value)
                del raised
                gc.collect()
                assert live() == before
            assert all(failure.__cause__ is not None for failure in failures)

    run(loop, main())


def test_requests_that_wait_too_long(guests: Guests, loop: str) -> None:
    async def main() -> None:
        config = {"max_concurrent_requests": 1, "queue_timeout": 0.01, "client_gone_grace": 0.0}
        async with using(make(guests, **config)) as service:
            first = asyncio.ensure_future(service.handle(request("/sleep-forever")))
            await until(lambda: service.active)
            for _ in range(2):
                with pytest.raises(ServiceBusy):
                    await service.handle(request("/status/200"))
            first.cancel()
            await until(lambda: not service.active)
            assert (await service.handle(request("/status/200"))).status == 200

    run(loop, main())


# ---- leaving --------------------------------------------------------------------------------------------------------

LEFT: list[tuple[str, str, str]] = [
    ("c_kitchen", "GET", "/status/200"),
    ("c_kitchen", "GET", "/drip/3"),
    ("c_kitchen", "GET", "/big/1"),
    ("c_kitchen", "GET", "/sleep-forever"),
    ("c_kitchen", "GET", "/sleep-after-head"),
    ("c_kitchen", "GET", "/spin"),
    ("c_echo", "POST", "/"),
]


@pytest.mark.parametrize("waiting", [False, True], ids=["at once", "behind another"])
@pytest.mark.parametrize(("guest", "method", "path"), LEFT)
def test_a_request_may_be_cancelled_at_any_time(
    guests: Guests, loop: str, guest: str, method: str, path: str, waiting: bool
) -> None:
    async def main() -> None:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(5):
                yield bytes(1000)
                await asyncio.sleep(0)

        async with using(make(guests, guest, max_concurrent_requests=1, client_gone_grace=0.0)) as service:
            for rounds in range(12):
                others = [service.handle(request("/status/200"))] if waiting else []
                sent = request(path, method, pieces() if method == "POST" else None)
                tasks = [asyncio.ensure_future(each) for each in (*others, service.handle(sent))]
                for _ in range(rounds):
                    await asyncio.sleep(0)
                tasks[-1].cancel()
                results = await asyncio.gather(*tasks, return_exceptions=True)
                for result in results:
                    if isinstance(result, Response):
                        result.body.cancel()
                assert isinstance(results[-1], (Response, asyncio.CancelledError))
                await until(lambda: not service.active)
                assert service.admission is not None
                assert not service.admission._waiting

    run(loop, main())


@pytest.mark.parametrize("pieces", [0, 1, 2])
@pytest.mark.parametrize("path", ["/drip/1000", "/big/64", "/sleep-after-head", "/spin-after-head"])
def test_a_body_may_be_cancelled_at_any_time(guests: Guests, loop: str, path: str, pieces: int) -> None:
    async def main() -> None:
        async with using(make(guests, client_gone_grace=0.0)) as service:
            response = await begun(service, path)
            iterator = aiter(response.body)
            for _ in range(pieces if path[1] in "db" else min(pieces, 1)):
                assert await anext(iterator)
            response.body.cancel()
            response.body.cancel()
            await until(lambda: not service.active)
            with pytest.raises(HttpError):
                await anext(iterator)

    run(loop, main())


# Path, whether its guest ends by itself when its streams fail.
GRACE = [("/big/64", True), ("/sleep-after-head", False)]


@pytest.mark.parametrize(("path", "ends"), GRACE)
def test_a_guest_has_some_time_to_end(guests: Guests, loop: str, path: str, ends: bool) -> None:
    async def main() -> None:
        async with using(make(guests, max_concurrent_requests=1, client_gone_grace=LONG)) as service:
            response = await service.handle(request(path))
            response.body.cancel()
            if ends:
                await until(lambda: not service.active)
            else:
                await asyncio.sleep(0)
                assert service.active == 1
            # Nor does it keep others waiting.
            assert (await service.handle(request("/status/200"))).status == 200

    run(loop, main())


# ---- instances ------------------------------------------------------------------------------------------------------

KEPT = {"max_instance_reuse_count": 128, "idle_instance_timeout": LONG}


def test_instances_are_used_again(guests: Guests, loop: str) -> None:
    async def main() -> None:
        async with using(make(guests, **{**KEPT, "max_instance_reuse_count": 3})) as service:
            handles = [(await (await service.handle(request("/many-handles/1"))).read()) for _ in range(7)]
            # The guest never empties what it builds its answers in.
            assert [body.count(b"handles") for body in handles] == [1, 2, 3, 1, 2, 3, 1]
            assert len(service.instances) == 1

    run(loop, main())


def test_a_fresh_instance_takes_over_from_one_that_fails(
    guests: Guests, loop: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with using(make(guests, max_resources=100, **KEPT)) as service:
            for _ in range(6):
                # Each keeps its handles for good, and the third is too much for the instance.
                assert (await service.handle(request("/many-handles/40"))).status == 200
        (record,) = caplog.records
        assert "an instance that had served 2 requests failed with the next" in record.getMessage()

    run(loop, main())


def test_an_instance_that_failed_serves_nothing_else(guests: Guests, loop: str) -> None:
    async def main() -> None:
        async with using(make(guests, **KEPT)) as service:
            assert (await service.handle(request("/status/200"))).status == 200
            assert len(service.instances) == 1
            with pytest.raises(NoResponse):
                await service.handle(request("/trap"))
            assert len(service.instances) == 0

    run(loop, main())


def test_so_many_run_at_once(guests: Guests, loop: str) -> None:
    class Counting(Service):
        most = now = 0

        def new_context(self, number: int) -> WasiCtx:
            self.now += 1
            self.most = max(self.most, self.now)
            return self.ctx

        def end(self, guest: Guest) -> None:
            self.now -= 1

    async def main() -> None:
        service = Counting(guests.engine, guests.load("c_kitchen"), ServiceConfig(max_concurrent_requests=2))
        async with using(service):

            async def ask() -> bytes:
                return await (await service.handle(request("/drip/2"))).read()

            assert await asyncio.gather(*(ask() for _ in range(8))) == [b"tick 0\ntick 1\n"] * 8
            assert (service.now, service.most) == (0, 2)

    run(loop, main())


def test_services_share_an_engine(guests: Guests, loop: str) -> None:
    async def main() -> None:
        async with using(make(guests)) as one, using(make(guests, "c_echo")) as other:
            first, second = await asyncio.gather(
                one.handle(request("/drip/2")), other.handle(request("/", "POST", b"echo"))
            )
            await other.close()
            assert await first.read() == b"tick 0\ntick 1\n"
            assert second.status == 200

    run(loop, main())


def test_services_of_several_threads_share_an_engine(guests: Guests, loop: str) -> None:
    async def main() -> None:
        async with using(make(guests)) as service:
            for _ in range(20):
                response = await service.handle(request("/drip/2"))
                assert await response.read() == b"tick 0\ntick 1\n"

    with ThreadPoolExecutor(3) as threads:
        for done in [threads.submit(run, loop, main()) for _ in range(3)]:
            done.result()


# ---- the end --------------------------------------------------------------------------------------------------------


def test_closing_ends_requests(guests: Guests, loop: str) -> None:
    """Those that run, those that wait, and bodies under way. None of them looks as if it had been cancelled."""

    async def main() -> None:
        async with using(make(guests, max_concurrent_requests=2)) as service:
            response = await service.handle(request("/sleep-after-head"))
            tasks = [asyncio.ensure_future(service.handle(request("/sleep-forever"))) for _ in range(3)]
            await until(lambda: service.active == 2)
            await asyncio.gather(service.close(), service.close())
            assert not service.active
            for task in tasks:
                with pytest.raises(HttpError, match="the service was closed") as raised:
                    await task
                assert raised.value.code is ErrorCode.ConnectionTerminated
            with pytest.raises(HttpError):
                await response.read()

    run(loop, main())


def test_a_closed_service_is_not_used(guests: Guests, loop: str) -> None:
    async def main(used: bool) -> None:
        service = make(guests)
        if used:
            async with using(service):
                assert (await service.handle(request("/status/200"))).status == 200
        await service.close()
        await service.close()
        with pytest.raises(RuntimeError, match="the service is closed"):
            await service.handle(request("/status/200"))
        with pytest.raises(RuntimeError, match="the service is closed"):
            async with service:
                pass

    for used in (False, True):
        run(loop, main(used))


def test_a_service_belongs_to_one_event_loop(guests: Guests, loop: str) -> None:
    service = make(guests)

    async def use() -> None:
        assert (await service.handle(request("/status/200"))).status == 200
        async with service:
            assert (await service.handle(request("/status/200"))).status == 200

    async def again() -> None:
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            await service.handle(request("/status/200"))
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            async with service:
                pass

    async def first() -> None:
        assert (await service.handle(request("/status/200"))).status == 200

    run(loop, first())
    run(loop, again())


# ---- the log --------------------------------------------------------------------------------------------------------

# Method, path, what is logged, how.
LOGGED: list[tuple[str, str, str, int]] = [
    ("GET", "/trap", "request 0 GET /trap: Trap: ", logging.ERROR),
    ("GET", "/no-set", "request 0 GET /no-set: guest never invoked", logging.ERROR),
    ("GET", "/error-set", "request 0 GET /error-set: the guest answered with the error ", logging.ERROR),
    ("GET", "/sleep-forever", "request 0 GET /sleep-forever: guest timed out", logging.ERROR),
    ("G" * 1000, "/trap?" + "x" * 1000, f"request 0 {'G' * 200} /trap?{'x' * 194}: ", logging.ERROR),
    ("GET", "/trap?\u202e\u0085", "request 0 GET /trap?\\u202e\\x85: ", logging.ERROR),
]


@pytest.mark.parametrize(("method", "path", "text", "level"), LOGGED)
def test_failures_are_logged(
    guests: Guests, caplog: pytest.LogCaptureFixture, method: str, path: str, text: str, level: int
) -> None:
    async def main() -> None:
        async with using(make(guests, timeout=0.05)) as service:
            with pytest.raises((NoResponse, HttpError)):
                await service.handle(request(path, method))

    run("asyncio", main())
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("wasi_http", level)
    assert record.getMessage().startswith(text)


def test_what_is_logged_of_a_failure_is_bounded(guests: Guests, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with using(make(guests)) as service:
            service.report(cast(Run, SimpleNamespace(number=7, request=request("/"))), "\x1b" + "x" * 100_000)

    run("asyncio", main())
    (record,) = caplog.records
    assert record.getMessage().startswith("request 7 GET /: \\x1bxxx")
    assert 8192 < len(record.getMessage()) < 8300


def test_denied_requests_are_logged_once_for_each_host(guests: Guests, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with using(make(guests, "c_fetch", egress=Egress.parse("c.example"))) as service:
            for host in ("a.example", "a.example", "b.example"):
                fetch = Request("GET", "http://localhost/fetch", [(b"x-url", f"http://{host}/".encode())])
                await (await service.handle(fetch)).read()

    run("asyncio", main())
    assert [(record.name, record.levelno) for record in caplog.records] == [("wasi_http", logging.WARNING)] * 2
    assert ["a.example" in record.getMessage() for record in caplog.records] == [True, False]


# ---- from a file ----------------------------------------------------------------------------------------------------


def built(name: str) -> Path:
    try:
        return build(name)
    except GuestUnavailable as error:
        pytest.skip(str(error))


def test_options(engine: Engine) -> None:
    limits, egress = StoreLimits(memory_size=1 << 20), Egress.parse("a.example")
    config = ServiceConfig(env={"A": "1"}, timeout=1.0, max_concurrent_requests=3)
    path = built("c_kitchen")
    service = Service.from_file(
        path, env={"B": "2"}, egress=egress, limits=limits, timeout=2.0, reuse=4, config=config, engine=engine
    )
    given = service.config
    assert (given.env, given.egress, given.store_limits, given.timeout) == ({"B": "2"}, egress, limits, 2.0)
    assert (given.max_instance_reuse_count, given.max_concurrent_requests) == (4, 3)
    assert service.engine is engine
    assert Service.from_file(os.fspath(path), config=config, engine=engine).config == config


def test_guests_have_the_environment_that_they_are_given(
    engine: Engine, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of the host")

    async def main() -> None:
        async with using(Service.from_file(built("c_libc"), env={"HOME": "/nowhere"}, engine=engine)) as service:
            said = await (await service.handle(request("/"))).read()
            assert said.startswith(b"HOME=/nowhere\n")
            assert b"of the host" not in said

    run(loop, main())


def test_guests_have_the_memory_that_they_are_given(engine: Engine, loop: str) -> None:
    async def main() -> None:
        limits = StoreLimits(memory_size=65536)
        async with using(Service.from_file(built("c_kitchen"), limits=limits, engine=engine)) as service:
            with pytest.raises(NoResponse, match="memory"):
                await service.handle(request("/status/200"))

    run(loop, main())


# What is in the file, what is raised, what its text has.
FILES: dict[str, tuple[bytes, type[Exception], str]] = {
    "nothing": (b"", Exception, ""),
    "text": (b"hello", Exception, ""),
    "a module": (b"(module)", Exception, "module"),
    "no proxy": (b"(component)", LinkError, "wasi:http/incoming-handler"),
    "a command": (
        b'(component (instance $run) (export "wasi:cli/run@0.2.0" (instance $run)))',
        LinkError,
        "it is a command",
    ),
    "unknown imports": (b'(component (import "no:such/thing" (func)))', LinkError, "no:such/thing"),
}


@pytest.mark.parametrize("case", FILES)
def test_files_that_are_no_proxies(engine: Engine, tmp_path: Path, case: str) -> None:
    text, error, said = FILES[case]
    path = tmp_path / "app.wasm"
    path.write_bytes(wat_to_wasm(text.decode()) if text.startswith(b"(") else text)
    with pytest.raises(error, match=said or None):
        Service.from_file(path, engine=engine)


def test_a_file_that_is_not_there(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Service.from_file(tmp_path / "app.wasm", engine=engine)


@pytest.mark.parametrize("options", [{"reuse": 0}, {"timeout": -1.0}, {"config": ServiceConfig}])
def test_options_that_mean_nothing(engine: Engine, options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        Service.from_file(built("c_kitchen"), engine=engine, **options)


# ---- behind a port --------------------------------------------------------------------------------------------------

# Path, status, how the body ends.
SERVED = [
    ("/status/200", 200, b"status\n"),
    ("/drip/2", 200, b"tick 1\n"),
    ("/trap", 500, b""),
    ("/error-set", 500, b""),
    ("/sleep-forever", 504, b""),
]


def test_behind_a_port(guests: Guests, loop: str) -> None:
    async def main() -> None:
        running = asyncio.get_running_loop()
        told: list[dict[str, Any]] = []
        running.set_exception_handler(lambda _, context: told.append(context))
        async with using(make(guests, timeout=0.05)) as service:
            factory = ConnectionFactory(service.handle)
            server = await running.create_server(factory, "127.0.0.1", 0)
            client = Client(await connected(server.sockets[0].getsockname()))
            for path, status, end in SERVED:
                reply = await client.ask(get(path))
                assert (path, reply.status) == (path, status)
                assert reply.body.endswith(end)
            client.close()
            server.close()
            await factory.close()
        (trap,) = told
        assert isinstance(trap["exception"], NoResponse)

    run(loop, main())


def test_a_client_that_leaves_cancels_its_request(guests: Guests, loop: str) -> None:
    async def main() -> None:
        running = asyncio.get_running_loop()
        async with using(make(guests, client_gone_grace=0.0)) as service:
            factory = ConnectionFactory(service.handle)
            server = await running.create_server(factory, "127.0.0.1", 0)
            for path in ("/sleep-forever", "/sleep-after-head"):
                client = Client(await connected(server.sockets[0].getsockname()))
                await client.send(get(path))
                await until(lambda: service.active)
                client.reset()
                await until(lambda: not service.active)
            server.close()
            await factory.close()

    run(loop, main())
