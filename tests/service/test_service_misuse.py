"""What a Service says of arguments that cannot be meant."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wasi_http import BlockingService, Engine, Request, Response, Service, ServiceConfig, WasiCtx

HELLO = Path("examples/hello.wat")

WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: Service("hello.wat", None), r"write Service\(engine, pre\), or Service.from_file\(path\)"),  # type: ignore[arg-type]
    (lambda: BlockingService("hello.wat"), "BlockingService.from_file"),  # type: ignore[arg-type]
    (lambda: Service.from_file(HELLO, config={"timeout": 1}), "write config=ServiceConfig"),  # type: ignore[arg-type]
    (lambda: Service.from_file(HELLO, env={"A": "b"}, ctx=WasiCtx()), "give env, or a ctx that has it"),
    (lambda: ServiceConfig(timeout="1"), "ServiceConfig.timeout must be a number"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("make", "text"), WRONG)
def test_wrong_arguments(make: Callable[[], Any], text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=text):
        make()


def test_wrong_requests(engine: Engine) -> None:
    async def main() -> None:
        async with Service.from_file(HELLO, engine=engine) as service:
            with pytest.raises(TypeError, match=r"expected Request, got str: write service\.handle"):
                await service.handle("http://localhost/")  # type: ignore[arg-type]
            request = Request("POST", "http://localhost/", [], b"body")
            assert (await service.handle(request)).status == 200
            with pytest.raises(ValueError, match="make a Request for each call"):
                await service.handle(request)
            response = await service.handle(Request("GET", "http://localhost/"))
            assert await response.read() == b"Hello, WASI!\n"
            with pytest.raises(RuntimeError, match="read to its end before"):
                await response.read()

    asyncio.run(main())


def test_a_file_is_sent_in_large_pieces(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_bytes(b"\n" * 200_000)

    async def main() -> None:
        with file.open("rb") as source:
            pieces = [piece async for piece in Response(200, [], source).body]
        assert b"".join(pieces) == b"\n" * 200_000
        assert len(pieces) < 10

    asyncio.run(main())
