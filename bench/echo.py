"""Bytes per second of a body that a compiled guest echoes, 64 KiB at a time, against `wasmtime serve`.

One request with a body of 200 MB, sent while the response is received, from another core than the server's; every byte
that comes back is compared. Besides: the peak memory of the server after it all, and what the same client does with a
bare loop of read and write in C in the server's place.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import measure
import peers

RATIO, MEMORY = 0.5, 150e6


@dataclass(frozen=True)
class Transfer:
    """``rate`` is in bytes per second, each way; ``load`` is how busy the client was, ``cpu`` the server's seconds."""

    rate: float
    load: float
    cpu: float = 0.0


@contextmanager
def bare_echo(program: Path) -> Iterator[int]:
    """The port of a server that is no HTTP server."""
    command = peers.pin(peers.SERVER_CORE, [str(program), "server"])
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def main() -> bool:
    parser = measure.parser(__doc__ or "", rounds=9)
    parser.add_argument("--size", type=int, default=200_000_000, help="bytes of the body")
    options = parser.parse_args()
    measure.heading(f"echo: {options.size / 1e6:,.0f} MB through a C guest, one core")
    component = peers.guest("c_echo")
    with measure.compile_c(Path(__file__).with_name("echo.c")) as program:

        def transfer(name: str, port: int) -> Transfer:
            command = peers.pin(peers.LOAD_CORE, [str(program), "client", str(port), str(options.size)])
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise measure.Wrong(f"{name}: {done.stderr.strip()}")
            took, busy = map(float, done.stdout.split())
            return Transfer(options.size / took, busy / took)

        def through(server: peers.Server) -> Callable[[], Transfer]:
            def once() -> Transfer:
                before = server.cpu_seconds()
                seen = transfer(server.name, server.address[1])
                return Transfer(seen.rate, seen.load, server.cpu_seconds() - before)

            return once

        with bare_echo(program) as port:
            bare = [transfer("the bare echo", port) for _ in range(options.rounds)]
        with peers.product(component) as product, peers.peer(component) as peer:
            for server in (product, peer):
                transfer(server.name, server.address[1])
            ours, theirs = measure.take_turns(options.rounds, through(product), through(peer))
            for server, transfers in ((product, ours), (peer, theirs)):
                cost = measure.median([transfer.cpu for transfer in transfers]) / options.size * 1e9
                print(
                    f"  {server.name:<15} {told(transfers)}, {cost:.2f} s of processor time per GB,"
                    f" peak memory {server.peak_memory() / 1e6:,.0f} MB"
                )
                if server.complaints:
                    print(f"  {server.name} wrote {len(server.complaints)} lines, the first: {server.complaints[0]}")
            memory = product.peak_memory()
    print(f"  {'read and write':<15} {told(bare)}")
    print(f"  peak memory {memory / 1e6:,.0f} MB (target ≤ {MEMORY / 1e6:.0f} MB)")
    ratio = measure.median([mine.rate / other.rate for mine, other in zip(ours, theirs, strict=True)])
    return measure.verdict(ratio, RATIO) and memory <= MEMORY


def told(transfers: list[Transfer]) -> str:
    return (
        f"{measure.spread([t.rate / 1e9 for t in transfers], '.2f')} GB/s each way,"
        f" client busy {measure.median([t.load for t in transfers]):.0%}"
    )


if __name__ == "__main__":
    measure.run(main)
