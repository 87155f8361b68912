"""A service for threads."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.guests.build import GuestUnavailable, build
from wasi_http.engine import Engine, live_stores
from wasi_http.http.errors import GuestTimeout, HttpError, NoResponse
from wasi_http.http.message import Request
from wasi_http.service.blocking import BlockingService

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
def service(engine: Engine) -> Iterator[BlockingService]:
    with made(engine) as service:
        yield service


def made(engine: Engine, guest: str = "c_kitchen", **options: Any) -> BlockingService:
    try:
        return BlockingService.from_file(build(guest), engine=engine, **options)
    except GuestUnavailable as error:
        pytest.skip(str(error))


def get(path: str) -> Request:
    return Request("GET", f"http://localhost{path}")


def test_responses(service: BlockingService) -> None:
    response = service.handle(get("/drip/3"))
    assert (response.status, response.body.read()) == (200, b"tick 0\ntick 1\ntick 2\n")
    response = service.handle(get("/trailers"))
    assert response.body.read() == b"with trailers\n"
    assert response.body.trailers == [(b"x-checksum", b"abc123")]


def test_bodies_are_streamed_both_ways(engine: Engine) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(64):
            yield bytes(65536)

    with made(engine, "c_echo") as service:
        response = service.handle(Request("POST", "http://localhost/", [], pieces()))
        assert sum(len(piece) for piece in response.body) == 64 * 65536


def test_many_threads(service: BlockingService) -> None:
    with ThreadPoolExecutor(16) as pool:
        bodies = pool.map(lambda number: service.handle(get(f"/sized/{number}")).body.read(), range(100))
    assert [len(body) for body in bodies] == list(range(100))


def test_failures(engine: Engine) -> None:
    with made(engine, timeout=0.05) as service:
        with pytest.raises(NoResponse, match="unreachable"):
            service.handle(get("/trap"))
        with pytest.raises(GuestTimeout):
            service.handle(get("/sleep-forever"))
        with pytest.raises(HttpError):
            service.handle(get("/error-set"))


def test_closing_ends_what_is_under_way(engine: Engine) -> None:
    service = made(engine)
    failures: list[Exception] = []

    def call() -> None:
        try:
            service.handle(get("/sleep-forever"))
        except Exception as error:
            failures.append(error)

    before = live_stores()
    thread = threading.Thread(target=call)
    thread.start()
    while live_stores() == before:
        time.sleep(0.001)
    service.close()
    thread.join()
    (failure,) = failures
    assert isinstance(failure, (HttpError, NoResponse))
    service.close()
    with pytest.raises(RuntimeError, match="closed"):
        service.handle(get("/"))


def test_it_does_not_block_an_event_loop(service: BlockingService) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="an event loop runs on this thread"):
            service.handle(get("/"))
        assert (await asyncio.to_thread(service.handle, get("/status/200"))).status == 200

    asyncio.run(main())


def test_no_caller_waits_for_a_service_that_is_closed(engine: Engine) -> None:
    """Whenever it is closed: calls may be on their way to its loop at that moment."""
    for number in range(10):
        service = made(engine)

        def call(service: BlockingService = service) -> None:
            with contextlib.suppress(HttpError, NoResponse, RuntimeError):
                while True:
                    service.handle(get("/empty")).body.read()

        threads = [threading.Thread(target=call, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(number * 1e-3)  # a different moment each time
        service.close()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()


def test_a_response_that_is_given_up(engine: Engine) -> None:
    with made(engine) as service:
        response = service.handle(get("/big/64"))
        assert next(iter(response.body))
        response.body.cancel()
        assert service.handle(get("/status/200")).status == 200
