"""A guest that forwards requests to a local origin and streams the answers back, against `wasmtime serve`.

One server process on one core; the origin (origin.c) and the load share another. First requests per second of a small
body with 16 connections, then bytes per second of one body of 100 MB. The guest is tests/guests/c_fetch.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import measure
import peers

REQUESTS, BYTES = 1.0, 0.7

SMALL = 100


@contextmanager
def running(program: Path, large: int) -> Iterator[int]:
    """The origin's port."""
    command = peers.pin(peers.LOAD_CORE, [str(program), str(SMALL), str(large)])
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def download(server: peers.Server, url: str, size: int) -> float:
    """Bytes per second of one answer; raises Wrong unless it has ``size`` bytes of body, all of them ``x``."""
    host, port = server.address
    buffer = bytearray(1 << 20)
    expected = b"x" * len(buffer)
    with socket.create_connection((host, port), timeout=60) as connection:
        began = time.perf_counter()
        connection.sendall(f"GET /fetch HTTP/1.1\r\nHost: {host}\r\nx-url: {url}\r\n\r\n".encode())
        with connection.makefile("rb", buffering=1 << 20) as stream:
            status = stream.readline()
            if b" 200 " not in status:
                raise measure.Wrong(f"{server.name}: {status!r}")
            while stream.readline() != b"\r\n":
                pass
            got = 0
            while length := int(stream.readline(), 16):
                while length:
                    count = stream.readinto(memoryview(buffer)[: min(length, len(buffer))])
                    if not count or memoryview(buffer)[:count] != memoryview(expected)[:count]:
                        raise measure.Wrong(f"{server.name}: the body is not what the origin sent")
                    length -= count
                    got += count
                stream.readline()
        if got != size:
            raise measure.Wrong(f"{server.name}: {got:,} bytes of {size:,}")
        return size / (time.perf_counter() - began)


def main() -> bool:
    parser = measure.parser(__doc__ or "", rounds=7)
    parser.add_argument("--seconds", type=int, default=3, help="how long each measurement of requests takes")
    parser.add_argument("--connections", type=int, default=16, help="how many requests are under way at a time")
    parser.add_argument("--size", type=int, default=100_000_000, help="bytes of the large body")
    options = parser.parse_args()
    measure.heading(f"forward: {options.connections} connections, then {options.size / 1e6:,.0f} MB, one core")
    component = peers.guest("c_fetch")
    with (
        measure.compile_c(Path(__file__).with_name("origin.c")) as program,
        running(program, options.size) as port,
        peers.product(component, "--allow-egress", f"127.0.0.1:{port}") as product,
        peers.peer(component) as peer,
    ):
        requests = measure.compare_requests(
            product,
            peer,
            connections=options.connections,
            rounds=options.rounds,
            seconds=options.seconds,
            body=b"x" * SMALL,
            target="/fetch",
            headers={"x-url": f"http://127.0.0.1:{port}/"},
        )
        url = f"http://127.0.0.1:{port}/large"
        for server in (product, peer):
            download(server, url, options.size)
        ours, theirs = measure.take_turns(
            options.rounds,
            lambda: download(product, url, options.size),
            lambda: download(peer, url, options.size),
        )
    for server, rates in ((product, ours), (peer, theirs)):
        print(f"  {server.name:<15} {measure.spread([rate / 1e9 for rate in rates], '.2f')} GB/s")
    transfer = measure.median([mine / other for mine, other in zip(ours, theirs, strict=True)])
    print("requests:")
    reached = measure.verdict(requests, REQUESTS)
    print("bytes:")
    return measure.verdict(transfer, BYTES) and reached


if __name__ == "__main__":
    measure.run(main)
