"""Requests per second of a hello, each request in a fresh instance, against `wasmtime serve`.

One server process on one core, wrk with 32 connections on another. The guest that counts is examples/hello.wat; the
same handler as wit-component builds it, with its shim and fixup modules, is measured besides.
"""

from __future__ import annotations

import measure
import peers

TARGET = 1.10


def main() -> bool:
    parser = measure.parser(__doc__ or "", rounds=7)
    parser.add_argument("--seconds", type=int, default=3, help="how long each measurement takes")
    parser.add_argument("--connections", type=int, default=32, help="how many requests are under way at a time")
    options = parser.parse_args()
    measure.heading(f"hello: {options.connections} connections, one core")
    ratios = {}
    for name in ("wat_hello", "hello"):
        component = peers.guest(name)
        print(f" {name}")
        with peers.product(component) as product, peers.peer(component) as peer:
            ratios[name] = measure.compare_requests(
                product,
                peer,
                connections=options.connections,
                rounds=options.rounds,
                seconds=options.seconds,
                body=b"Hello, WASI!\n",
            )
    return measure.verdict(ratios["hello"], TARGET)


if __name__ == "__main__":
    measure.run(main)
